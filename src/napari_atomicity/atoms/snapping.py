"""What a person points to: the spot in the image that was meant."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from .localisation import WINDOW_NM, fit_spots

REACH_NM = 0.1
"""A hand is no surer than that: half the width of an atom."""
_SMOOTH_NM = 0.05
# As high as this, relative to the spot, what is near is another spot.
_NEIGHBOUR = 0.5
# A window of the fit and the radius of a spot: no neighbour further away has a part in it.
_REACHES_NM = WINDOW_NM + 0.16
_MOST = 6


def snap_to_spot(
    frame: np.ndarray,
    y_px: float,
    x_px: float,
    pixel_size_nm: float,
    reach_nm: float = REACH_NM,
) -> tuple[float, float] | None:
    """The spot next to a place: a local maximum with a Gaussian fitted to it.

    Parameters
    ----------
    frame : ndarray of shape (Y, X)
    y_px, x_px : float
        Where a person points to.
    pixel_size_nm : float
        Edge length of a pixel.
    reach_nm : float, optional
        How far off the spot may lie.

    Returns
    -------
    tuple of float or None
        Its (y, x) in pixels; None if there is none so near.
    """
    reach = reach_nm / pixel_size_nm
    # What is looked at is a part of the image, so that it takes as long in a large one.
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
    # Its neighbours are fitted with it, or they would draw it aside.
    height = smooth[rows, columns] - np.median(smooth)
    apart = np.hypot(rows - rows[nearest], columns - columns[nearest])
    height[apart > _REACHES_NM / pixel_size_nm] = -np.inf
    others = np.flatnonzero(height >= _NEIGHBOUR * height[nearest])
    others = others[others != nearest]
    about = [nearest, *others[np.argsort(apart[others])[:_MOST]]]
    spots = fit_spots(part, np.column_stack([rows, columns])[about], pixel_size_nm)
    y, x = spots.points[0] + (top, left)
    if not spots.fitted[0] or np.hypot(y - y_px, x - x_px) > reach:
        return None
    return float(y), float(x)
