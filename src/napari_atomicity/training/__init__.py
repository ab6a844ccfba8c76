"""Train models from images, corrections or simulation.

Modules are loaded on first use: most of them need torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
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

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "CorrectedImagesSource": "request",
        "CorrectionsSource": "request",
        "FolderSource": "request",
        "PatchSet": "data",
        "SimulationSource": "request",
        "TrainRequest": "request",
        "TrainingSettings": "settings",
        "from_corrections": "corrections",
        "from_folder": "size_selected",
        "from_simulation": "simulated",
        "train": "run",
        "train_classifier": "classifier",
        "train_from_folder": "run",
    },
)
