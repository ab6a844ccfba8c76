"""How many atoms are in this cluster, and how do we know?

Importing the package is cheap: neither torch, Qt nor UMAP is loaded before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Analysis": "analysis",
    "AtomicityError": "errors",
    "Micrograph": "micrograph",
    "Project": "project",
    "analyse": "analysis",
    "load": "io.images",
}

__all__ = ["Analysis", "AtomicityError", "Micrograph", "Project", "__version__", "analyse", "load"]

if TYPE_CHECKING:
    from .analysis import Analysis, analyse
    from .errors import AtomicityError
    from .io.images import load
    from .micrograph import Micrograph
    from .project import Project


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
