"""From size-selected images, or from simulation, to a model with its card."""

from .data import PatchSet, from_folder, from_simulation
from .fit import TrainingSettings, train_classifier, train_from_folder

__all__ = [
    "PatchSet",
    "TrainingSettings",
    "from_folder",
    "from_simulation",
    "train_classifier",
    "train_from_folder",
]
