"""Gaussian spots in images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def add_gaussian_spots(
    image: np.ndarray, points: np.ndarray, heights: np.ndarray, sigma_px: float
) -> np.ndarray:
    """Add round Gaussian spots to an image.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Image.
    points : ndarray of shape (N, 2)
        Positions (y, x) in pixels.
    heights : ndarray of shape (N,)
        Heights of the spots.
    sigma_px : float
        Standard deviation of the spots.

    Returns
    -------
    ndarray of float32, shape (Y, X)
        The image with the spots.
    """
    out = np.array(image, np.float32)
    windows = spot_windows(out, points, int(4 * sigma_px) + 2)
    for (part, squared), height in zip(windows, heights, strict=True):
        part += height * np.exp(-squared / (2 * sigma_px**2))
    return out


def spot_windows(
    image: np.ndarray, points: np.ndarray, reach: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the part of an image around each point, and the squared distances of its pixels.

    Parameters
    ----------
    image : ndarray of shape (Y, X)
        Image.
    points : ndarray of shape (N, 2)
        Positions (y, x) in pixels.
    reach : int
        Number of pixels on each side of a point.
    """
    for y, x in points:
        top, left = max(0, round(y) - reach), max(0, round(x) - reach)
        part = image[top : max(0, round(y) + reach + 1), left : max(0, round(x) + reach + 1)]
        dy = np.arange(top, top + part.shape[0])[:, None] - y
        dx = np.arange(left, left + part.shape[1])[None] - x
        yield part, dy**2 + dx**2
