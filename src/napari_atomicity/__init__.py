"""Count the atoms of metal nanoclusters in HAADF-STEM images, with napari.

Importing the package is cheap: neither torch, Qt nor UMAP is loaded before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

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


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
