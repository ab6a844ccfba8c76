"""Balance between the centre and the outline of a cluster in its class map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...statistics.intervals import percentile_interval

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


CENTRE_RADII = (0.0, 0.5)
OUTLINE_RADII = (0.75, 1.25)
"""What counts as centre and as outline, in radii of the cluster."""


@dataclass(frozen=True)
class Balance:
    """Centre against outline, (c - o) / (c + o) of the means there, and its bootstrap interval.

    1: all at the centre, -1: all at the outline, 0: as much per area here as there.
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


def centre_and_outline(
    images: np.ndarray, field_of_view_nm: float, radius_nm: np.ndarray
) -> np.ndarray:
    """Mean of each image per area at the centre and at the outline of its cluster: (N, 2).

    Parameters
    ----------
    images : ndarray of shape (N, h, w)
        (N, h, w).
    field_of_view_nm : float
        Edge length of the images.
    radius_nm : ndarray of shape (N,)
        Radii of the clusters.
    """
    out = []
    for inner, outer in (CENTRE_RADII, OUTLINE_RADII):
        r = inner + (outer - inner) * (np.arange(12) + 0.5) / 12
        profile = radial_profiles(images, field_of_view_nm, radius_nm[:, None] * r)
        # A ring's area goes with its radius.
        weight = np.where(np.isfinite(profile), r, 0.0)
        total = (np.nan_to_num(profile) * weight).sum(axis=1)
        area = weight.sum(axis=1)
        out.append(np.where(area > 0, total / np.where(area > 0, area, 1.0), np.nan))
    return np.stack(out, axis=1)


def balance(
    values: np.ndarray,
    image: np.ndarray,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Balance:
    """Centre against outline of many clusters: of the means, not the mean of the clusters' own.

    Clusters whose map is nowhere positive have none of their own, and faint ones would scatter.

    Parameters
    ----------
    values : ndarray of shape (N, 2)
        From `centre_and_outline`.
    image : ndarray of shape (N,)
        Name of the image of each cluster. The interval comes from resampling images and,
        within them, clusters; where all are of one image, from clusters alone.

    Returns
    -------
    Balance
        NaN where there is nothing; without an interval where there is one cluster.
    """
    return _bootstrap(_difference, values, image, level, n_bootstrap, seed)


def balance_between(
    # first, second, each (N, 2): from `centre_and_outline`, of the same clusters
    first: np.ndarray,
    second: np.ndarray,
    image: np.ndarray,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Balance:
    """By how much the balance of one quantity exceeds that of another in the same clusters.

    Both are resampled together, so what clusters and images have in common cancels: two intervals
    that overlap may still differ for certain.
    """

    def between(of: np.ndarray) -> np.ndarray:
        return np.asarray(_difference(of[..., :2]) - _difference(of[..., 2:]))

    values = np.concatenate([first, second], axis=1)
    return _bootstrap(between, values, image, level, n_bootstrap, seed)


def _bootstrap(
    figure: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    image: np.ndarray,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> Balance:
    """Compute a figure of the means of values (N, K), and its interval."""
    finite = np.isfinite(values).all(axis=1)
    values, image = values[finite], np.asarray(image)[finite]
    if not len(values):
        return Balance()
    value = float(figure(values.mean(axis=0)))
    if len(values) == 1:
        return Balance(value)
    drawn = figure(_resampled(values, image, n_bootstrap, seed))
    return Balance(value, *percentile_interval(drawn, level))


def _resampled(values: np.ndarray, image: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Compute sums (B, K) of values (N, K) over resampled images and, within them, clusters."""
    rng = np.random.default_rng(seed)
    names, of = np.unique(image.astype(str), return_inverse=True)
    copies = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_bootstrap)
    sums = np.zeros((n_bootstrap, values.shape[1]))
    for i, times in enumerate(copies.T):
        own = values[of == i]
        sums += rng.multinomial(times * len(own), np.full(len(own), 1 / len(own))) @ own
    return sums


def _difference(centre_outline: np.ndarray) -> np.ndarray:
    centre, outline = centre_outline[..., 0], centre_outline[..., 1]
    both = np.abs(centre) + np.abs(outline)
    return np.where(both > 0, (centre - outline) / np.where(both > 0, both, 1.0), np.nan)
