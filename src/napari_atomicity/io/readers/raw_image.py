"""The result of a reader: pixels, scales and metadata as stored in the file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .units import AxisScale


@dataclass(frozen=True, eq=False)
class RawImage:
    """An image as stored in a file."""

    data: Any  # (Y, X): pixels of any type; large images are read in parts
    # y, x: length of a pixel along each axis; None if the file does not contain it
    y: AxisScale | None = None
    x: AxisScale | None = None
    calibration: str = ""  # entry of the file that contains the scales
    # metadata of the instrument, values of JSON types
    metadata: dict[str, Any] = field(default_factory=dict)


def metadata_value(value: Any) -> Any:
    """Return a text, finite number or flag as a type of JSON, None for other values."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.strip().strip("\x00") or None
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else None
    return None


def known_entries(**entries: Any) -> dict[str, Any]:
    """Return the entries that have a value, as types of JSON."""
    values = {name: metadata_value(value) for name, value in entries.items()}
    return {name: value for name, value in values.items() if value is not None}
