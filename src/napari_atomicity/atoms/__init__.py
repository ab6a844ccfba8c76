"""Single atoms: detection, groups, completeness, counting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .analysis import AtomAnalysis, find_atoms
    from .dispersion import DispersionSettings, compute_dispersions
    from .finder import load_atom_model
    from .marks import ImageAtoms

__all__ = [
    "AtomAnalysis",
    "DispersionSettings",
    "ImageAtoms",
    "compute_dispersions",
    "find_atoms",
    "load_atom_model",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "AtomAnalysis": "analysis",
        "DispersionSettings": "dispersion",
        "ImageAtoms": "marks",
        "compute_dispersions": "dispersion",
        "find_atoms": "analysis",
        "load_atom_model": "finder",
    },
)
