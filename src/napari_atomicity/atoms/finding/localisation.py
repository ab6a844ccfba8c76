"""Sub-pixel positions and intensities of atoms by Gaussian fits.

All atoms are fitted in parallel: each in its own window, from which the current spots of its
neighbours are subtracted. The number of steps is fixed, so that all operations are vectorised over
the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial import KDTree

from ...core.micrograph import Micrograph
from ...detection.background import without_gaps
from ...detection.outliers import find_repairs

WINDOW_NM = 0.24
"""Half width of the window of a fit."""
SIGMA_NM = 0.08
"""Initial standard deviation of a fit: a probe of 0.1 nm, blurred by the atom's motion."""
SIGMA_RANGE_NM = (0.03, 0.16)
"""Limits of the standard deviation of an atom."""
SHIFT_NM = 0.05
"""Maximum distance (per axis) of the fitted from the initial position; beyond it the fit fails."""
STEPS = 8
_NEIGHBOURS = 8
_DAMPING = 0.02
_WEIGHT = 2.0


@dataclass(frozen=True, eq=False)
class Spots:
    """Fitted spots, all arrays (N,)."""

    points: np.ndarray  # (N, 2): positions (y, x) in pixels, within the image
    amplitude: np.ndarray  # (N,): height above the background, counts
    background: np.ndarray  # (N,): background at the position, counts
    sigma_nm: np.ndarray  # (N,): standard deviation
    intensity: np.ndarray  # (N,): 2π amplitude sigma²: counts times nm²
    # (N,): false where the fit failed or left `SHIFT_NM`: the position is then the initial one, and
    # the values are those of a spot of `SIGMA_NM` there
    fitted: np.ndarray


def fit_spots(
    image: np.ndarray, points: np.ndarray, pixel_size_nm: float, sigma_nm: float = SIGMA_NM
) -> Spots:
    """Fit a round Gaussian on a sloping background to each point.

    Gauss–Newton with Levenberg's damping on position, width, height and a plane, weighted by a
    Gaussian of twice the width, which reduces the influence of the rim of the window.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Image, finite.
    points : ndarray of shape (N, 2)
        Initial positions (y, x) in pixels.
    sigma_nm : float, optional
        Initial standard deviation.

    Returns
    -------
    Spots
        Fitted spots in the order of ``points``.
    """
    points = np.asarray(points, float).reshape(-1, 2)
    n = len(points)
    if n == 0:
        empty = np.empty(0)
        return Spots(points, empty, empty, empty, empty, np.empty(0, bool))
    half = max(2, round(WINDOW_NM / pixel_size_nm))
    min_sigma, max_sigma = (s / pixel_size_nm for s in SIGMA_RANGE_NM)
    start_sigma = float(np.clip(sigma_nm / pixel_size_nm, max(min_sigma, 0.5), max(max_sigma, 0.6)))
    min_sigma, max_sigma = max(min_sigma, 0.4), max(max_sigma, 0.8)
    values, y, x, inside = _windows(image, points, half)
    linked, near = _neighbours(points, 2 * half)

    sigma = np.full(n, start_sigma)
    centre = points.copy()
    height, plane = _linear(values, y, x, centre, sigma, inside)
    reach = SHIFT_NM / pixel_size_nm
    for _ in range(STEPS):
        rest = values - _others(y, x, centre, sigma, height, linked, near)
        step = _step(rest, y, x, centre, sigma, height, plane, inside)
        step[:, :2] = np.clip(step[:, :2], -0.5 * sigma[:, None], 0.5 * sigma[:, None])
        centre = np.clip(centre + step[:, :2], points - reach, points + reach)
        sigma = np.clip(sigma * np.exp(np.clip(step[:, 2], -0.2, 0.2)), min_sigma, max_sigma)
        height, plane = _linear(rest, y, x, centre, sigma, inside)
    moved = np.abs(centre - points).max(axis=1) >= reach * (1 - 1e-6)
    fitted = (height > 0) & ~moved & np.isfinite(centre).all(axis=1)
    rest = values - _others(y, x, centre, sigma, np.where(fitted, height, 0.0), linked, near)
    sigma = np.where(fitted, sigma, start_sigma)
    # The last pixels end half a pixel beyond their centres; only spots at the edge change.
    centre = np.clip(np.where(fitted[:, None], centre, points), -0.5, np.array(image.shape) - 0.5)
    height, plane = _linear(rest, y, x, centre, sigma, inside)
    width_nm = sigma * pixel_size_nm
    return Spots(centre, height, plane[:, 0], width_nm, 2 * np.pi * height * width_nm**2, fitted)


def _windows(
    image: np.ndarray, points: np.ndarray, half: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return values (N, M) of the windows, their coordinates, and whether they are in the image."""
    offset = np.arange(-half, half + 1)
    oy, ox = (o.ravel() for o in np.meshgrid(offset, offset, indexing="ij"))
    corner = np.rint(points).astype(int)
    y, x = corner[:, :1] + oy, corner[:, 1:] + ox
    inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
    values = image[np.clip(y, 0, image.shape[0] - 1), np.clip(x, 0, image.shape[1] - 1)]
    return values.astype(float), y.astype(float), x.astype(float), inside


def _neighbours(points: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (N, K) of the nearest other points, and whether they are within reach."""
    k = min(_NEIGHBOURS + 1, len(points))
    distance, row = KDTree(points).query(points, k=k)
    distance, row = distance.reshape(len(points), k)[:, 1:], row.reshape(len(points), k)[:, 1:]
    return row, distance < reach


def _spot(y: np.ndarray, x: np.ndarray, centre: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    squared = (y - centre[:, :1]) ** 2 + (x - centre[:, 1:]) ** 2
    return np.asarray(np.exp(-squared / (2 * sigma[:, None] ** 2)))


def _others(
    y: np.ndarray,
    x: np.ndarray,
    centre: np.ndarray,
    sigma: np.ndarray,
    height: np.ndarray,
    linked: np.ndarray,
    near: np.ndarray,
) -> np.ndarray:
    """Return (N, M): the spots of the neighbours in each window."""
    total = np.zeros_like(y)
    for k in range(linked.shape[1]):
        rows = np.flatnonzero(near[:, k])
        if len(rows):
            other = linked[rows, k]
            spot = _spot(y[rows], x[rows], centre[other], sigma[other])
            total[rows] += np.maximum(height[other], 0)[:, None] * spot
    return total


def _weights(
    y: np.ndarray, x: np.ndarray, centre: np.ndarray, sigma: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    return np.asarray(_spot(y, x, centre, _WEIGHT * sigma) * inside)


def _solve(design: np.ndarray, weight: np.ndarray, values: np.ndarray, ridge: np.ndarray
           ) -> np.ndarray:  # fmt: skip
    """Solve N weighted min_sigma-squares problems with P parameters.

    ``ridge`` (N,) is the damping relative to the diagonal.
    """
    weighted = design * weight[..., None]
    normal = np.matmul(weighted.transpose(0, 2, 1), design)
    right = np.matmul(weighted.transpose(0, 2, 1), values[..., None])[..., 0]
    diagonal = np.einsum("npp->np", normal)
    extra = ridge[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-30
    normal = normal + extra[..., None] * np.eye(design.shape[2])
    return np.asarray(np.linalg.solve(normal, right[..., None])[..., 0])


def _linear(
    values: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    centre: np.ndarray,
    sigma: np.ndarray,
    inside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit height (N,) and plane (N, 3), with the level at the centre first."""
    design = _plane_and(_spot(y, x, centre, sigma), y, x, centre, sigma)
    solved = _solve(design, _weights(y, x, centre, sigma, inside), values, np.zeros(len(centre)))
    return solved[:, 0], solved[:, 1:]


def _plane_and(
    first: np.ndarray, y: np.ndarray, x: np.ndarray, centre: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    dy = (y - centre[:, :1]) / sigma[:, None]
    dx = (x - centre[:, 1:]) / sigma[:, None]
    return np.stack([first, np.ones_like(y), dy, dx], axis=-1)


def _step(
    values: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    centre: np.ndarray,
    sigma: np.ndarray,
    height: np.ndarray,
    plane: np.ndarray,
    inside: np.ndarray,
) -> np.ndarray:
    """Compute the (N, 3) change of y, x (pixels) and of the logarithm of the width."""
    spot = _spot(y, x, centre, sigma)
    dy = (y - centre[:, :1]) / sigma[:, None]
    dx = (x - centre[:, 1:]) / sigma[:, None]
    design = np.stack(
        [spot * dy, spot * dx, spot * (dy**2 + dx**2), spot, np.ones_like(y), dy, dx], axis=-1
    )
    model = np.concatenate([height[:, None], plane], axis=1)
    rest = values - np.einsum("nmp,np->nm", design[..., 3:], model)
    weight = _weights(y, x, centre, sigma, inside)
    solved = _solve(design, weight, rest, np.full(len(centre), _DAMPING))
    # To first order; spots without positive height do not move.
    scale = np.where(height > 0, np.maximum(height, 1e-30), np.inf)
    return np.asarray(
        solved[:, :3] / scale[:, None] * np.stack([sigma, sigma, np.ones_like(sigma)], 1)
    )


# ---- snapping of a clicked position to a spot in the image

REACH_NM = 0.1
"""Maximum distance of a click from its spot: half the width of an atom."""
_SMOOTH_NM = 0.05
# Minimum height of a neighbouring spot relative to the snapped one.
_NEIGHBOUR = 0.5
# Maximum distance of neighbours that influence the fit: window and radius of a spot.
_INFLUENCE_NM = WINDOW_NM + 0.16
_MAX_NEIGHBOURS = 6


def repaired_window(
    part: np.ndarray,  # (Y, X): recorded pixels around a place, some finite
    pixel_size_nm: float,
) -> np.ndarray:
    """Return a window of a frame without gaps and outlier pixels, as the model sees the frame."""
    part = without_gaps(part)
    return find_repairs(Micrograph(part, pixel_size_nm))[0].replace(part)


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
    if min(part.shape) < 3 or not np.isfinite(part).any():
        return None
    part = repaired_window(part, pixel_size_nm)
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
