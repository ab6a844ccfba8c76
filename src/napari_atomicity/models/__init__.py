"""Network, inference, class maps, model files, estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .analysis import Analysis
    from .classifier import Classifier, load_classifier
    from .files import find_model, read_model, save_model
    from .threshold_classifier import ThresholdClassifier

__all__ = [
    "Analysis",
    "Classifier",
    "ThresholdClassifier",
    "find_model",
    "load_classifier",
    "read_model",
    "save_model",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Analysis": "analysis",
        "Classifier": "classifier",
        "ThresholdClassifier": "threshold_classifier",
        "find_model": "files",
        "load_classifier": "classifier",
        "read_model": "files",
        "save_model": "files",
    },
)
