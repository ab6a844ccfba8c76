"""Points in a plane: which lie in a polygon, how large they are drawn, what is around them."""

from __future__ import annotations

import numpy as np
from matplotlib.path import Path as Polygon

_MARGIN = 0.06


def rows_in_polygon(xy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Indices of the points that lie in a closed polygon.

    Parameters
    ----------
    xy
        (N, 2) positions; those that are not finite are in no polygon.
    polygon
        (M, 2) corners in the same coordinates.

    Returns
    -------
    numpy.ndarray
        Sorted indices, int64.
    """
    if len(polygon) < 3 or not len(xy):
        return np.empty(0, np.int64)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    # The box first: it is cheap and leaves few candidates. NaN compares false.
    near = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    return near[Polygon(polygon).contains_points(xy[near])]


def marker_size(n: int) -> float:
    """Diameter of the points in logical pixels, smaller where there are very many."""
    return float(np.clip(16.0 - 2.3 * np.log10(max(n, 1)), 4.0, 11.0))


def smoothing(n: int) -> float:
    """Width of the soft edge of the points in pixels: less where there are very many.

    It is dark where points are small, and a marker takes as long to draw as its square.
    """
    return float(np.clip(1.0 - 0.5 * np.log10(max(n, 1) / 300), 0.25, 1.0))


def extent(*clouds: np.ndarray) -> tuple[float, float, float, float] | None:
    """Left, bottom, width and height around all finite points, with a margin; None if none."""
    finite = [c[np.isfinite(c).all(axis=1)] for c in clouds if len(c)]
    points = np.concatenate(finite) if finite else np.empty((0, 2))
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(high - low, 1e-3 + 0.05 * np.abs(high - low).max())
    low = low - (size - (high - low)) / 2 - _MARGIN * size
    width, height = size * (1 + 2 * _MARGIN)
    return float(low[0]), float(low[1]), float(width), float(height)
