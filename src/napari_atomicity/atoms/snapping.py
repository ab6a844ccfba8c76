"""Snapping of a clicked position to a spot in the image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from .localisation import WINDOW_NM, fit_spots

REACH_NM = 0.1
"""Maximum distance of a click from its spot: half the width of an atom."""
_SMOOTH_NM = 0.05
# Minimum height of a neighbouring spot relative to the snapped one.
_NEIGHBOUR = 0.5
# Maximum distance of neighbours that influence the fit: window and radius of a spot.
_INFLUENCE_NM = WINDOW_NM + 0.16
_MAX_NEIGHBOURS = 6


def snap_to_spot(
    frame: np.ndarray,
    y_px: float,
    x_px: float,
    pixel_size_nm: float,
    reach_nm: float = REACH_NM,
) -> tuple[float, float] | None:
    """Find the spot closest to a position: a local maximum, refined by a Gaussian fit.

    Parameters
    ----------
    frame : ndarray of shape (Y, X)
        Image.
    pixel_size_nm : float
        Edge length of a pixel.

    Returns
    -------
    tuple of float or None
        Position (y, x) in pixels; None without a spot within reach.
    """
    reach = reach_nm / pixel_size_nm
    # A window is enough, so that the duration does not depend on the size of the image.
    around = int(np.ceil(reach + (2 * WINDOW_NM) / pixel_size_nm)) + 1
    top, left = max(0, round(y_px) - around), max(0, round(x_px) - around)
    part = np.asarray(frame[top : round(y_px) + around + 1, left : round(x_px) + around + 1], float)
    if min(part.shape) < 3 or not np.isfinite(part).all():
        return None
    smooth = gaussian_filter(part, _SMOOTH_NM / pixel_size_nm)
    rows, columns = np.nonzero((smooth == maximum_filter(smooth, 3)) & (smooth > smooth.min()))
    off = np.hypot(rows + top - y_px, columns + left - x_px)
    off[off > reach + 0.5] = np.inf
    if not len(off) or not np.isfinite(off).any():
        return None
    nearest = int(np.argmin(off))
    # The neighbours are fitted too, since they would shift the position.
    height = smooth[rows, columns] - np.median(smooth)
    apart = np.hypot(rows - rows[nearest], columns - columns[nearest])
    height[apart > _INFLUENCE_NM / pixel_size_nm] = -np.inf
    others = np.flatnonzero(height >= _NEIGHBOUR * height[nearest])
    others = others[others != nearest]
    about = [nearest, *others[np.argsort(apart[others])[:_MAX_NEIGHBOURS]]]
    spots = fit_spots(part, np.column_stack([rows, columns])[about], pixel_size_nm)
    y, x = spots.points[0] + (top, left)
    if not spots.fitted[0] or np.hypot(y - y_px, x - x_px) > reach:
        return None
    return float(y), float(x)
