"""What a reader of one format hands over: pixels and scales as the file has them, unjudged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .units import AxisScale


@dataclass(frozen=True, eq=False)
class RawImage:
    """An image as it lies in a file.

    Parameters
    ----------
    data
        Shape (Y, X) or (T, Y, X), any dtype; a large image as something that is read in parts.
    y, x
        Length of a pixel along each axis; None where the file does not say.
    calibration
        Which entry of the file the scales come from.
    metadata
        What the format says of the instrument; plain values that JSON can hold.
    """

    data: Any
    y: AxisScale | None = None
    x: AxisScale | None = None
    calibration: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """A text, finite number or truth value that JSON can hold; None for anything else."""
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
    """The entries that say something, as plain values."""
    values = {name: plain(value) for name, value in entries.items()}
    return {name: value for name, value in values.items() if value is not None}
