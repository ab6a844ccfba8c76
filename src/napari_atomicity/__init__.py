"""Count the atoms of metal nanoclusters in HAADF-STEM images, with napari.

Importing the package is cheap: neither torch, Qt nor UMAP is loaded before it is used.

>>> from napari_atomicity import analyse
>>> analysis = analyse("field.dm4")
>>> analysis.ratios()
>>> analysis.save("results")
"""

from __future__ import annotations

from .core.lazy_imports import lazy_attributes

_PUBLIC = {
    "Analyses": "api",
    "Analysis": "models.analysis",
    "AtomicityError": "core.errors",
    "DetectionSettings": "detection.settings",
    "ImageAnalysis": "api",
    "Micrograph": "core.micrograph",
    "Project": "project",
    "Session": "api",
    "ThresholdClassifier": "models.threshold_classifier",
    "__version__": "_version",
    "adapt": "api",
    "analyse": "api",
    "analyse_batch": "api",
    "analyse_movie": "api",
    "dispersion": "api",
    "find_atoms": "api",
    "load": "io.images",
    "train": "api",
}

__all__ = [
    "Analyses",
    "Analysis",
    "AtomicityError",
    "DetectionSettings",
    "ImageAnalysis",
    "Micrograph",
    "Project",
    "Session",
    "ThresholdClassifier",
    "__version__",
    "adapt",
    "analyse",
    "analyse_batch",
    "analyse_movie",
    "dispersion",
    "find_atoms",
    "load",
    "train",
]

TYPE_CHECKING = False  # typing is slow to import, and until it is there Ctrl-C is a traceback

if TYPE_CHECKING:
    from ._version import __version__
    from .api import (
        Analyses,
        ImageAnalysis,
        Session,
        adapt,
        analyse,
        analyse_batch,
        analyse_movie,
        dispersion,
        find_atoms,
        train,
    )
    from .core.errors import AtomicityError
    from .core.micrograph import Micrograph
    from .detection.settings import DetectionSettings
    from .io.images import load
    from .models.analysis import Analysis
    from .models.threshold_classifier import ThresholdClassifier
    from .project import Project

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
