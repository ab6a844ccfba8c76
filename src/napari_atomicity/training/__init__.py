"""Train models from images, corrections or simulation."""

from .classifier import train_classifier
from .corrections import from_corrections
from .data import PatchSet
from .request import (
    CorrectedImagesSource,
    CorrectionsSource,
    FolderSource,
    SimulationSource,
    TrainRequest,
)
from .run import train, train_from_folder
from .settings import TrainingSettings
from .simulated import from_simulation
from .size_selected import from_folder

__all__ = [
    "CorrectedImagesSource",
    "CorrectionsSource",
    "FolderSource",
    "PatchSet",
    "SimulationSource",
    "TrainRequest",
    "TrainingSettings",
    "from_corrections",
    "from_folder",
    "from_simulation",
    "train",
    "train_classifier",
    "train_from_folder",
]
