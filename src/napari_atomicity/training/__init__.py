"""From size-selected images, corrected labels or simulation, to a model with its card."""

from .data import PatchSet, from_corrections, from_folder, from_simulation
from .fit import TrainingSettings, train_classifier
from .request import (
    CorrectedImagesSource,
    CorrectionsSource,
    FolderSource,
    SimulationSource,
    TrainRequest,
    train,
    train_from_folder,
)

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
