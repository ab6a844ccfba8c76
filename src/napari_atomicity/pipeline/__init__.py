"""From files to tables: images, batches, watched folders, adaptation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .adaptation import AdaptRequest, adapt_files, adapt_images
    from .analysis import classify_clusters, detect_clusters
    from .atom_request import AtomRequest
    from .atom_runs import find_atoms_in_images
    from .batch import run_batch
    from .measurements import measure_clusters
    from .run_request import RunRequest
    from .runs import analyse_images
    from .session_labels import label_session

__all__ = [
    "AdaptRequest",
    "AtomRequest",
    "RunRequest",
    "adapt_files",
    "adapt_images",
    "analyse_images",
    "classify_clusters",
    "detect_clusters",
    "find_atoms_in_images",
    "label_session",
    "measure_clusters",
    "run_batch",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "AdaptRequest": "adaptation.settings",
        "AtomRequest": "atom_request",
        "RunRequest": "run_request",
        "adapt_files": "adaptation.runs",
        "adapt_images": "adaptation.runs",
        "analyse_images": "runs",
        "classify_clusters": "analysis",
        "detect_clusters": "analysis",
        "find_atoms_in_images": "atom_runs",
        "label_session": "session_labels",
        "measure_clusters": "measurements",
        "run_batch": "batch",
    },
)
