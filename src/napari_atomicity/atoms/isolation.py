"""Lone atoms: how likely each is one, and how wide the mean one is."""

from __future__ import annotations

import numpy as np
from scipy.optimize import curve_fit
from scipy.spatial import KDTree

from .localisation import SIGMA_NM, SIGMA_RANGE_NM

ISOLATION_RADIUS_NM = 0.5
"""No other atom is nearer to an atom of the yardstick."""
PROFILE_NM = 0.35
"""Radius up to which the mean atom is looked at."""


def isolation_probability(points_nm: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(N,) probability that no other candidate within `ISOLATION_RADIUS_NM` is an atom."""
    alone = np.ones(len(p))
    there = np.flatnonzero(np.isfinite(points_nm).all(axis=1))
    if len(there) == 0:
        return alone
    pairs = KDTree(points_nm[there]).query_pairs(ISOLATION_RADIUS_NM, output_type="ndarray")
    one, other = there[pairs[:, 0]], there[pairs[:, 1]]
    np.multiply.at(alone, one, 1 - p[other])
    np.multiply.at(alone, other, 1 - p[one])
    return alone


def fit_atom_width(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, confidence: np.ndarray
) -> float:
    """Standard deviation in nm of the mean lone atom of a frame.

    Of the mean one, for single faint ones that are found are those that look narrow.

    Parameters
    ----------
    pixels
        (Y, X), finite.
    pixel_size_nm
        Edge length of a pixel.
    positions
        (N, 2) candidates (y, x) in pixels.
    confidence
        (N,) probabilities that they are atoms.
    """
    positions = np.asarray(positions, float).reshape(-1, 2)
    p = np.nan_to_num(np.asarray(confidence, float), nan=1.0)
    return fit_mean_width(
        pixels, pixel_size_nm, positions, p * isolation_probability(positions * pixel_size_nm, p)
    )


def fit_mean_width(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, weight: np.ndarray
) -> float:
    """Standard deviation in nm of the Gaussian that fits the mean atom."""
    radius_nm, level, number = _mean_profile(pixels, pixel_size_nm, positions, weight)
    if len(level) < 4:
        return SIGMA_NM
    height = max(float(level[0] - level[-1]), np.finfo(np.float32).tiny)
    try:
        (_, _, sigma), _ = curve_fit(
            lambda r, a, b, s: a * np.exp(-(r**2) / (2 * s**2)) + b,
            radius_nm, level, (height, float(level[-1]), SIGMA_NM), 1 / np.sqrt(number),
            bounds=([0, -np.inf, SIGMA_RANGE_NM[0]], [np.inf, np.inf, SIGMA_RANGE_NM[1]]),
        )  # fmt: skip
    except (RuntimeError, ValueError):
        return SIGMA_NM
    return float(sigma)


def _mean_profile(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radius in nm, level and weight of the rings around the mean of the likeliest atoms."""
    half = int(np.ceil(PROFILE_NM / pixel_size_nm))
    offset = np.arange(-half, half + 1)
    size = max(2, round(PROFILE_NM / max(pixel_size_nm, 0.025)))
    sums = np.zeros((3, size))
    for row in np.argsort(-weight)[:400]:
        centre = positions[row]
        corner = np.rint(centre).astype(int)
        if (corner < half).any() or (corner >= np.array(pixels.shape) - half).any():
            continue
        y, x = corner[0] + offset, corner[1] + offset
        radius = np.hypot((y - centre[0])[:, None], x - centre[1]) * pixel_size_nm
        inside = radius < PROFILE_NM
        ring = (radius[inside] * (size / PROFILE_NM)).astype(int)
        values = pixels[np.ix_(y, x)][inside].astype(float)
        for total, of in zip(sums, (radius[inside], values, np.ones(len(ring))), strict=True):
            total += weight[row] * np.bincount(ring, of, minlength=size)
    filled = sums[2] > 0
    radius_nm, level, number = sums[:, filled]
    return radius_nm / number, level / number, number
