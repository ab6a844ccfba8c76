"""Intervals of fractions: Wilson's interval for effective sample sizes, and the bootstrap.

The bootstrap has two levels: images and, within them, clusters.

References
----------
.. [1] L. D. Brown, T. T. Cai and A. DasGupta, "Interval estimation for a binomial proportion",
   Statistical Science 16, 101-133 (2001).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

N_QUANTILES = 41
"""Points by which a normal distribution is approximated; the outermost are at 2.25 sigma."""


def variance_factor(
    fraction: np.ndarray,  # (classes,): fractions, for the variance of independent clusters
    n: int,
    resampled: np.ndarray,  # (B, classes): fractions of resamples
) -> np.ndarray:
    """Compute the variance of resampled fractions relative to that of independent clusters.

    The factors, (classes,), are at least 1. Classes with fractions of 0 or 1 have no variance and
    get the factor of all classes together.
    """
    of_counting = fraction * (1 - fraction) / n
    scatter = resampled.var(axis=0)
    together = scatter.sum() / of_counting.sum() if of_counting.any() else 1.0
    factor = np.full(len(fraction), together)
    np.divide(scatter, of_counting, out=factor, where=of_counting > 0)
    return np.maximum(factor, 1.0)


def wilson_interval(
    fraction: np.ndarray | float,
    n: float | np.ndarray,
    level: float = 0.95,
    quantile: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute Wilson's score interval of a fraction of ``n`` trials [1]_.

    Parameters
    ----------
    n : float or ndarray
        Number of trials, which need not be an integer.
    quantile : float, optional
        Half-width in standard errors instead of the level, such as Student's quantile.

    Returns
    -------
    low, high : ndarray
        Ends of the interval, between 0 and 1.
    """
    # `scipy.stats.binomtest(k, n).proportion_ci(method="wilson")` takes integers only; effective
    # sample sizes are not integers.
    z = ndtri(0.5 + level / 2) if quantile is None else quantile
    p = np.asarray(fraction, float)
    centre = p + z**2 / (2 * n)
    half_width = z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z**2 / n
    return (
        np.clip((centre - half_width) / scale, 0, 1),
        np.clip((centre + half_width) / scale, 0, 1),
    )


def widen_interval(
    fraction: np.ndarray, low: np.ndarray, high: np.ndarray, mean_square: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add another error of the fraction in quadrature to both sides of an interval."""
    other = ndtri(0.5 + level / 2) ** 2 * mean_square
    return (
        np.clip(fraction - np.sqrt((fraction - low) ** 2 + other), 0, 1),
        np.clip(fraction + np.sqrt((high - fraction) ** 2 + other), 0, 1),
    )


def mixed_interval(
    # fraction, low, high, each (classes,): fractions and their intervals without the shared error
    fraction: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    shifts: np.ndarray,  # (B, classes): shared error in each draw
    level: float,
) -> tuple[np.ndarray, np.ndarray]:  # low, high: (classes,)
    """Add draws of a shared error to an interval.

    The ends are quantiles of a mixture: around each shifted fraction a normal distribution with
    the half-widths of the interval. The variance alone is not sufficient, because two solutions
    give two separate groups of fractions. The result contains the interval.
    """
    z = ndtri((np.arange(N_QUANTILES) + 0.5) / N_QUANTILES)[:, None]
    noise = z / ndtri(0.5 + level / 2) * np.where(z < 0, fraction - low, high - fraction)
    mixture = (fraction + shifts[:, None] + noise).reshape(-1, len(fraction))
    tail = (1 - level) / 2
    lowest, highest = np.clip(np.quantile(mixture, [tail, 1 - tail], axis=0), 0, 1)
    return np.minimum(low, lowest), np.maximum(high, highest)


def adjusted_interval(
    fraction: np.ndarray,  # (classes,): adjusted fractions
    n: int,
    resampled: np.ndarray,  # (B, classes): adjusted fractions of resamples
    level: float,
    # Minimum variance factor: that of the unadjusted labels, because adjustment does not make
    # images more alike
    min_factor: float,
) -> tuple[np.ndarray, np.ndarray]:  # low, high: (classes,)
    """Combine Wilson's interval for an effective sample size with the percentiles of the resamples.

    Neither is sufficient: percentiles exclude fractions that no resample contains; and Wilson's
    interval excludes 0 unless the fraction is 0, but the adjustment may assign a fraction to an
    absent class.
    """
    # A class adjusted to 0 has no binomial variance, but its resamples vary.
    typical = np.clip(resampled.mean(axis=0), 1 / (n + 1), n / (n + 1))
    factor = np.maximum(variance_factor(typical, n, resampled), min_factor)
    low, high = wilson_interval(fraction, n / factor, level)
    tail = (1 - level) / 2
    lowest, highest = np.quantile(resampled, [tail, 1 - tail], axis=0)
    low = np.minimum(low, lowest)
    # The likelihood approaches its bound slowly: less than a tenth of a cluster counts as 0.
    return np.where(low < 0.1 / n, 0.0, low), np.maximum(high, highest)


def percentile_interval(
    drawn: np.ndarray,  # (B,)
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of bootstrap draws; NaN if none is finite."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return np.nan, np.nan
    tail = 50 * (1 - level)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_fractions(
    counts: np.ndarray,  # (images, classes), int: numbers of clusters, at least one in total
    n_bootstrap: int,
    rng: np.random.Generator,
) -> np.ndarray:  # (B, classes): each row sums to 1
    """Compute pooled class fractions of resampled images and, within them, resampled clusters."""
    drawn = resample_counts(counts, n_bootstrap, rng)
    return drawn / drawn.sum(axis=1, keepdims=True)


def resample_counts(
    counts: np.ndarray,  # (images, classes), int: numbers of clusters
    n_bootstrap: int,
    rng: np.random.Generator,
) -> np.ndarray:  # (B, classes): numbers of clusters, multiplied by the number of images
    """Resample images and, within them, clusters."""
    return resample_groups(counts, np.zeros(len(counts), int), 1, n_bootstrap, rng)[:, 0]


def resample_groups(
    counts: np.ndarray, group: np.ndarray, n_groups: int, n_bootstrap: int, rng: np.random.Generator
) -> np.ndarray:
    """Resample images and, within them, clusters, and add up the images of each group.

    Parameters
    ----------
    counts : ndarray of shape (images, classes), int
        Numbers of clusters.
    group : ndarray of shape (images,), int
        Group of each image, from 0.

    Returns
    -------
    ndarray of shape (B, groups, classes)
        Numbers of clusters, multiplied by the number of images; 0 for a group without a drawn
        image.
    """
    filled = counts.sum(axis=1) > 0
    counts, group = counts[filled], group[filled]
    # The draws must not depend on the order of the images.
    order = np.lexsort((group, *counts.T[::-1]))
    n_images, n_classes = counts.shape
    copies = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_bootstrap)
    drawn = np.zeros((n_bootstrap, n_groups, n_classes))
    for i, times in zip(order, copies.T, strict=True):
        n = counts[i].sum()
        drawn[:, group[i]] += rng.multinomial(times * n * n_images, counts[i] / n)
    return drawn


def resample_weights(image: np.ndarray, n_bootstrap: int, rng: np.random.Generator) -> np.ndarray:
    """Resample images and, within them, clusters; see `resample_counts`.

    Parameters
    ----------
    image : ndarray of shape (N,), int
        Index of the image of each cluster, from 0, ascending.

    Returns
    -------
    ndarray of shape (B, N)
        Weight of each cluster, multiplied by the number of images.
    """
    sizes = np.bincount(image)
    n_images = len(sizes)
    copies = rng.multinomial(n_images, np.full(n_images, 1 / n_images), size=n_bootstrap)
    return np.concatenate(
        [
            rng.multinomial(times * n * n_images, np.full(n, 1 / n)).astype(float)
            for n, times in zip(sizes, copies.T, strict=True)
        ],
        axis=1,
    )
