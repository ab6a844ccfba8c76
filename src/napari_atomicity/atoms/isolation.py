"""Isolated atoms: the probability of each to be isolated, and the width of the mean one."""

from __future__ import annotations

import numpy as np
from scipy.optimize import curve_fit
from scipy.spatial import KDTree

from .localisation import SIGMA_NM, SIGMA_RANGE_NM

ISOLATION_RADIUS_NM = 0.5
"""Minimum distance of an isolated atom to any other atom."""
PROFILE_NM = 0.35
"""Radius of the profile of the mean atom."""


def isolation_probability(positions_nm: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Compute the probability that each candidate atom is isolated.

    A candidate is isolated if no other candidate within `ISOLATION_RADIUS_NM` is an atom.

    Parameters
    ----------
    positions_nm : ndarray of shape (N, 2)
        Positions (y, x) in nm. Candidates with NaN positions count as isolated.
    probability : ndarray of shape (N,)
        Probability that each candidate is an atom.

    Returns
    -------
    ndarray of shape (N,)
        Isolation probability, between 0 and 1.
    """
    isolated = np.ones(len(probability))
    finite = np.flatnonzero(np.isfinite(positions_nm).all(axis=1))
    if len(finite) == 0:
        return isolated
    pairs = KDTree(positions_nm[finite]).query_pairs(ISOLATION_RADIUS_NM, output_type="ndarray")
    one, other = finite[pairs[:, 0]], finite[pairs[:, 1]]
    np.multiply.at(isolated, one, 1 - probability[other])
    np.multiply.at(isolated, other, 1 - probability[one])
    return isolated


def fit_atom_width(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, confidence: np.ndarray
) -> float:
    """Fit the standard deviation (nm) of the mean isolated atom of a frame.

    The mean atom is used because the detected faint atoms are those that appear narrow.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X)
        Image, finite.
    pixel_size_nm : float
        Edge length of a pixel.
    positions : ndarray of shape (N, 2)
        Candidates (y, x) in pixels.
    confidence : ndarray of shape (N,)
        Probabilities that they are atoms.

    Returns
    -------
    float
        Standard deviation in nm.
    """
    positions = np.asarray(positions, float).reshape(-1, 2)
    p = np.nan_to_num(np.asarray(confidence, float), nan=1.0)
    return fit_mean_width(
        pixels, pixel_size_nm, positions, p * isolation_probability(positions * pixel_size_nm, p)
    )


def fit_mean_width(
    pixels: np.ndarray, pixel_size_nm: float, positions: np.ndarray, weight: np.ndarray
) -> float:
    """Fit a Gaussian to the mean atom and return its standard deviation in nm.

    Parameters
    ----------
    pixels : ndarray of shape (Y, X)
        Image, finite.
    pixel_size_nm : float
        Edge length of a pixel.
    positions : ndarray of shape (N, 2)
        Candidates (y, x) in pixels.
    weight : ndarray of shape (N,)
        Weight of each candidate in the mean.

    Returns
    -------
    float
        Standard deviation; `SIGMA_NM` where the fit fails.
    """
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
    """Return radius (nm), level and weight of rings around the mean of the likeliest atoms."""
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
