"""X"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm


def variance_factor(fraction: np.ndarray, n: int, resampled: np.ndarray) -> np.ndarray:
    """By how much each class's resamples scatter more than n independent clusters would.

    Parameters
    ----------
    fraction : ndarray of shape (classes,)
        Fractions, for the variance of independent clusters.
    n : int
        Number of clusters.
    resampled : ndarray of shape (B, classes)
        Fractions of resamples.

    Returns
    -------
    ndarray
        (classes,) factors, at least 1; for classes that are absent or alone, which do not scatter,
        that of all classes together.
    """
    of_counting = fraction * (1 - fraction) / n
    scatter = resampled.var(axis=0)
    together = scatter.sum() / of_counting.sum() if of_counting.any() else 1.0
    factor = np.full(len(fraction), together)
    np.divide(scatter, of_counting, out=factor, where=of_counting > 0)
    return np.maximum(factor, 1.0)


def wilson_interval(
    fraction: np.ndarray, n: float | np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of a fraction of ``n`` trials, which need not be a whole number."""
    z = norm.ppf(0.5 + level / 2)
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
    """An interval with another error of the fraction added in quadrature to either side."""
    other = norm.ppf(0.5 + level / 2) ** 2 * mean_square
    return (
        np.clip(fraction - np.sqrt((fraction - low) ** 2 + other), 0, 1),
        np.clip(fraction + np.sqrt((high - fraction) ** 2 + other), 0, 1),
    )


def adjusted_interval(
    fraction: np.ndarray, n: int, resampled: np.ndarray, level: float, least_factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval for an effective number, and the percentiles of the resamples.

    Both, because each lacks something: percentiles say that what no resample holds is impossible;
    and Wilson's interval never reaches 0 if the fraction does not, but here a class may have a
    share by a mistake of the adjustment alone. ``least_factor`` is that of the labels: adjusting
    does not make images more alike.
    """
    # Adjusted to 0 a class has no variance of counting, but its resamples have one.
    typical = np.clip(resampled.mean(axis=0), 1 / (n + 1), n / (n + 1))
    factor = np.maximum(variance_factor(typical, n, resampled), least_factor)
    low, high = wilson_interval(fraction, n / factor, level)
    tail = (1 - level) / 2
    lowest, highest = np.quantile(resampled, [tail, 1 - tail], axis=0)
    low = np.minimum(low, lowest)
    # Likelihood creeps up on its bound: less than a tenth of a cluster is none.
    return np.where(low < 0.1 / n, 0.0, low), np.maximum(high, highest)
