"""Balance between the centre and the outline of a cluster in its class map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass
from ...statistics.intervals import percentile_interval
from .map_sampling import radial_profiles

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
