"""Places of the scene and pixels of an image."""

from __future__ import annotations

from typing import Any

import numpy as np


def contains(shape: tuple[int, ...], y: float, x: float) -> bool:
    """Return whether an image (Y, X) has a pixel at a place."""
    return -0.5 <= y < shape[0] - 0.5 and -0.5 <= x < shape[1] - 0.5


def pixel_at(layer: Any, world: Any) -> tuple[int, float, float]:
    """Return the frame and (y, x) in pixels of a place of the scene."""
    place = np.asarray(layer.world_to_data(world), float)
    frame = round(float(place[0])) if len(place) == 3 else 0
    return frame, float(place[-2]), float(place[-1])
