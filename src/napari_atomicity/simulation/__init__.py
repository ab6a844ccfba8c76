"""Simulate structures, images and fields with ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .example_data import lattice_pieces, make_movie, make_session, make_size_selected
    from .examples import atom_example_path, example_path
    from .field_settings import FieldSettings
    from .fields import simulate_field
    from .movies import simulate_movie
    from .structures import isomer_library

__all__ = [
    "FieldSettings",
    "atom_example_path",
    "example_path",
    "isomer_library",
    "lattice_pieces",
    "make_movie",
    "make_session",
    "make_size_selected",
    "simulate_field",
    "simulate_movie",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "FieldSettings": "field_settings",
        "atom_example_path": "examples",
        "example_path": "examples",
        "isomer_library": "structures",
        "lattice_pieces": "example_data",
        "make_movie": "example_data",
        "make_session": "example_data",
        "make_size_selected": "example_data",
        "simulate_field": "fields",
        "simulate_movie": "movies",
    },
)
