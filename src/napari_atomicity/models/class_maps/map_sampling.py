"""Sample small images on a grid, along radial profiles, and average them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    pass

_ANGLES = 32
_SIZE = 56


def sample(
    images: np.ndarray,  # (N, h, w)
    field_of_view_nm: float,
    # y_nm, x_nm, each (N, …): positions for each image, of the same shape
    y_nm: np.ndarray,
    x_nm: np.ndarray,
) -> np.ndarray:
    """Bilinear samples of small images at distances from their centres.

    Pixels are areas: between the centre of the outermost pixel and the edge of the field the value
    is that of the pixel, beyond the edge it is NaN.
    """
    n, h, w = images.shape
    index = np.broadcast_to(np.arange(n).reshape((n,) + (1,) * (y_nm.ndim - 1)), y_nm.shape)
    places = [
        np.clip(at / field_of_view_nm * size + (size - 1) / 2, 0, size - 1)
        for at, size in ((y_nm, h), (x_nm, w))
    ]
    values = ndimage.map_coordinates(
        images.astype(float), [index, *places], order=1, mode="nearest"
    )
    half = field_of_view_nm / 2 * (1 + 1e-9)
    return np.where((np.abs(y_nm) <= half) & (np.abs(x_nm) <= half), values, np.nan)


def on_grid(
    images: np.ndarray,  # (N, h, w)
    field_of_view_nm: float,  # edge length of the images
    reach_nm: np.ndarray,  # (N,): half the edge length of each grid
    size: int = _SIZE,  # points along each axis of the grid
) -> np.ndarray:  # (N, size, size): NaN beyond the image
    """Resample images on a square grid."""
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * reach_nm[:, None]
    # On a grid bilinear interpolation is a product of matrices, and much faster so.
    y, x = (_hat_weights(at, field_of_view_nm, n) for n in images.shape[1:])
    values = y @ images.astype(float) @ x.transpose(0, 2, 1)
    inside = np.abs(at) <= field_of_view_nm / 2 * (1 + 1e-9)
    return np.where(inside[:, :, None] & inside[:, None, :], values, np.nan)


def _hat_weights(at_nm: np.ndarray, field_of_view_nm: float, n: int) -> np.ndarray:
    """(N, S, n) weights of n pixels in linear interpolation at (N, S) places."""
    place = np.clip(at_nm / field_of_view_nm * n + (n - 1) / 2, 0, n - 1)
    return np.clip(1 - np.abs(place[..., None] - np.arange(n)), 0, None)


def radial_profiles(images: np.ndarray, field_of_view_nm: float, r_nm: np.ndarray) -> np.ndarray:
    """Compute means over circles about the centre of images.

    Parameters
    ----------
    images : ndarray of shape (N, h, w)
        Images.
    field_of_view_nm : float
        Edge length of the images.
    r_nm : ndarray of shape (N, K)
        Radii.

    Returns
    -------
    ndarray of shape (N, K)
        Means.

    Notes
    -----
    A circle counts as far as it lies in the field; where none of it does the mean is NaN.
    """
    angle = 2 * np.pi * (np.arange(_ANGLES) + 0.5) / _ANGLES
    y, x = (r_nm[..., None] * f(angle) for f in (np.sin, np.cos))
    return nan_mean(sample(images, field_of_view_nm, y, x), axis=-1)


def nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """As `numpy.nanmean`, and silent where there is nothing."""
    finite = np.isfinite(values)
    n = finite.sum(axis=axis)
    total = np.where(finite, values, 0.0).sum(axis=axis)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and its standard error over the first axis, of what is finite.

    The mean of nothing is NaN, the error of fewer than two values too.
    """
    n = np.isfinite(values).sum(axis=0)
    mean = nan_mean(values, axis=0)
    variance = nan_mean((values - mean) ** 2, axis=0)
    error = np.sqrt(np.where(n > 1, variance / np.maximum(n - 1, 1), np.nan))
    return mean, error
