"""Adaptation of a network to new conditions: pseudo-labels, fine-tuning, and whether it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .result import Adaptation
    from .runs import AdaptRun, adapt_files, adapt_images
    from .settings import AdaptRequest

__all__ = ["AdaptRequest", "AdaptRun", "Adaptation", "adapt_files", "adapt_images"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "AdaptRequest": "settings",
        "AdaptRun": "runs",
        "Adaptation": "result",
        "adapt_files": "runs",
        "adapt_images": "runs",
    },
)
