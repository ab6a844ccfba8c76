from .classifier import train_classifier as train_classifier
from .data import PatchSet as PatchSet
from .prepared_sets import from_corrections as from_corrections, from_simulation as from_simulation
from .request import (
    CorrectedImagesSource as CorrectedImagesSource,
    CorrectionsSource as CorrectionsSource,
    FolderSource as FolderSource,
    SimulationSource as SimulationSource,
    TrainingSettings as TrainingSettings,
    TrainRequest as TrainRequest,
)
from .run import train as train
from .size_selected import from_folder as from_folder
