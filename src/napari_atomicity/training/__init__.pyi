from .classifier import train_classifier as train_classifier
from .corrections import from_corrections as from_corrections
from .data import PatchSet as PatchSet
from .request import (
    CorrectedImagesSource as CorrectedImagesSource,
    CorrectionsSource as CorrectionsSource,
    FolderSource as FolderSource,
    SimulationSource as SimulationSource,
    TrainRequest as TrainRequest,
)
from .run import train as train, train_from_folder as train_from_folder
from .settings import TrainingSettings as TrainingSettings
from .simulated import from_simulation as from_simulation
from .size_selected import from_folder as from_folder
