"""Read images and tables; write tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy_imports import lazy_attributes

if TYPE_CHECKING:
    from .arrays import micrograph_of
    from .images import find_images, load
    from .tables import (
        read_clusters,
        read_reference,
        read_table,
        write_clusters,
        write_ratios,
        write_table,
    )

__all__ = [
    "find_images",
    "load",
    "micrograph_of",
    "read_clusters",
    "read_reference",
    "read_table",
    "write_clusters",
    "write_ratios",
    "write_table",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "find_images": "images",
        "load": "images",
        "micrograph_of": "arrays",
        "read_clusters": "tables",
        "read_reference": "tables",
        "read_table": "tables",
        "write_clusters": "tables",
        "write_ratios": "tables",
        "write_table": "tables",
    },
)
