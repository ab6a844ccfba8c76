"""Points in a plane: inclusion in a polygon, marker size and extent."""

from __future__ import annotations

import numpy as np
from matplotlib.path import Path as Polygon

_MARGIN = 0.06


def rows_in_polygon(xy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return the indices of the points inside a closed polygon."""
    if len(polygon) < 3 or not len(xy):
        return np.empty(0, np.int64)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    # The box first: it is cheap and leaves few candidates. NaN compares false.
    near = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    return near[Polygon(polygon).contains_points(xy[near])]


def marker_size(n: int) -> float:
    """Return the diameter of n points in logical pixels, smaller for many points."""
    return float(np.clip(16.0 - 2.3 * np.log10(max(n, 1)), 4.0, 11.0))


def smoothing(n: int) -> float:
    """Return the width of the soft edge of n points in pixels, smaller for many points.

    The edge darkens small points, and the time to draw a marker grows with its area.
    """
    return float(np.clip(1.0 - 0.5 * np.log10(max(n, 1) / 300), 0.25, 1.0))


def extent(*clouds: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return left, bottom, width and height around finite points; None without points."""
    finite = [c[np.isfinite(c).all(axis=1)] for c in clouds if len(c)]
    points = np.concatenate(finite) if finite else np.empty((0, 2))
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(high - low, 1e-3 + 0.05 * np.abs(high - low).max())
    low = low - (size - (high - low)) / 2 - _MARGIN * size
    width, height = size * (1 + 2 * _MARGIN)
    return float(low[0]), float(low[1]), float(width), float(height)
