"""Count the atoms of metal nanoclusters in HAADF-STEM images, with napari.

Importing the package is cheap: neither torch, Qt nor UMAP is loaded before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._version import __version__
from .core.lazy_imports import lazy_attributes

_PUBLIC = {
    "Analysis": "models.analysis",
    "AtomicityError": "core.errors",
    "Micrograph": "core.micrograph",
    "Project": "project",
    "analyse": "pipeline.analysis",
    "load": "io.images",
}

__all__ = ["Analysis", "AtomicityError", "Micrograph", "Project", "__version__", "analyse", "load"]

if TYPE_CHECKING:
    from .core.errors import AtomicityError
    from .core.micrograph import Micrograph
    from .io.images import load
    from .models.analysis import Analysis
    from .pipeline.analysis import analyse
    from .project import Project

__getattr__, __dir__ = lazy_attributes(__name__, _PUBLIC)
