"""Quadrat counts of a point pattern, and their index of dispersion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from .windows import ObservationWindow, check_points


def two_sided_p_value(observed: float, simulated: np.ndarray) -> float:
    """Return the two-sided Monte Carlo p value of a statistic.

    Twice the fraction of values, including the observed one, in the smaller tail; at most 1.
    """
    below, above = (simulated <= observed).sum(), (simulated >= observed).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (len(simulated) + 1)))


MIN_SUPPORT = 0.25
"""Quadrats of which a smaller fraction is support are omitted."""


@dataclass(frozen=True, eq=False)
class Quadrats:
    """Numbers of points in the squares of a grid over the support."""

    # edges_y_nm, edges_x_nm: edges of the grid in nm, ascending
    edges_y_nm: np.ndarray
    edges_x_nm: np.ndarray
    count: np.ndarray  # (rows, columns): sum of the weights of the points in each quadrat
    area_nm2: np.ndarray  # (rows, columns): support in each quadrat in nm²
    # (rows, columns): quadrats with enough support (`MIN_SUPPORT`), at least that with most support
    used: np.ndarray
    # index of dispersion: Σ (count - expected)² / expected, with the expected count by area,
    # divided by the number of used quadrats minus 1. About 1 for random points, above 1 for
    # clustered ones, below 1 for regular ones. NaN for fewer than two used quadrats, or without
    # points
    index: float
    # two-sided p value of that sum by the χ² distribution; valid for about five expected points per
    # quadrat or more
    chi2_p: float

    def of(self, points_nm: np.ndarray) -> np.ndarray:
        """Return the row-major index (N,) of the quadrat of each point.

        Points off the grid get the nearest quadrat.
        """
        return _quadrat_indices(points_nm, self.edges_y_nm, self.edges_x_nm)


def _quadrat_indices(points_nm: np.ndarray, y_nm: np.ndarray, x_nm: np.ndarray) -> np.ndarray:
    row, column = (
        np.searchsorted(edges[1:-1], values, side="right")
        for edges, values in zip((y_nm, x_nm), np.asarray(points_nm, float).T, strict=True)
    )
    return np.asarray(row * (len(x_nm) - 1) + column)


def default_quadrats_across(n: float) -> int:
    """Return the number of quadrats along the longer side for five expected points in each."""
    return int(np.clip(round(np.sqrt(n / 5)), 2, 12))


def count_quadrats(
    points_nm: np.ndarray,
    window: ObservationWindow,
    across: int | None = None,
    weights: np.ndarray | None = None,
) -> Quadrats:
    """Count points in nearly square quadrats over the extent of the support.

    Parameters
    ----------
    points_nm : ndarray of shape (N, 2)
        Points (y, x) in nm. Points outside the support are omitted.
    across : int, optional
        Number of quadrats along the longer side; `default_quadrats_across` if None.
    weights : ndarray of shape (N,), optional
        Weight of each point, for example its probability; 1 if None.
    """
    points = check_points(points_nm)
    weight = np.ones(len(points)) if weights is None else np.asarray(weights, float)
    inside = window.contains(points)
    points, weight = points[inside], weight[inside]
    across = default_quadrats_across(weight.sum()) if across is None else across
    low_y, high_y, low_x, high_x = window.bounds_nm
    edge = max(high_y - low_y, high_x - low_x) / across
    sides = ((low_y, high_y), (low_x, high_x))
    y, x = (np.linspace(a, b, max(1, round((b - a) / edge)) + 1) for a, b in sides)
    area = _support_areas(window, y, x)
    quadrat = _quadrat_indices(points, y, x)
    count = np.bincount(quadrat, weight, minlength=area.size).reshape(area.shape)
    full = (y[1] - y[0]) * (x[1] - x[0])
    # narrow or scattered support: at least the quadrat with most of it
    used = area >= min(MIN_SUPPORT * full, area.max())
    index, p = _dispersion_index(count[used], area[used])
    return Quadrats(y, x, count, area, used, index, p)


def _support_areas(window: ObservationWindow, y_nm: np.ndarray, x_nm: np.ndarray) -> np.ndarray:
    """Compute the support in nm² in each cell of a grid, including parts of pixels."""
    summed = window.mask.cumsum(axis=0, dtype=float).cumsum(axis=1)
    summed = np.pad(summed, ((1, 0), (1, 0)))
    for axis, edges in enumerate((y_nm, x_nm)):
        at = np.clip(edges / window.pixel_size_nm + 0.5, 0, window.mask.shape[axis])
        first = np.minimum(np.floor(at).astype(int), window.mask.shape[axis] - 1)
        part = np.expand_dims(at - first, 1 - axis)
        low, high = (np.take(summed, first + step, axis=axis) for step in (0, 1))
        summed = low + part * (high - low)
    return np.asarray(np.diff(np.diff(summed, axis=0), axis=1) * window.pixel_size_nm**2)


def _dispersion_index(count: np.ndarray, area_nm2: np.ndarray) -> tuple[float, float]:
    freedom, total = len(count) - 1, count.sum()
    if freedom < 1 or total <= 0:
        return np.nan, np.nan
    expected = total * area_nm2 / area_nm2.sum()
    value = float(((count - expected) ** 2 / expected).sum())
    return value / freedom, two_sided_chi2_p_value(value, freedom)


def two_sided_chi2_p_value(value: float, freedom: float) -> float:
    """Return the two-sided p value of a χ² statistic: twice its smaller tail, at most 1."""
    tail = min(chi2.cdf(value, freedom), chi2.sf(value, freedom))
    return float(min(1.0, 2 * tail))


def quadrat_p_value(quadrats: Quadrats, simulations: int = 999, seed: int = 0) -> float:
    """Compute the p value of the index of dispersion by drawing multinomial counts.

    Unlike `Quadrats.chi2_p` it is valid for small expected counts.

    The result is the two-sided p value; NaN without points or with fewer than two used quadrats.
    """
    count, area = quadrats.count[quadrats.used], quadrats.area_nm2[quadrats.used]
    if not np.isfinite(quadrats.index):
        return np.nan
    n, share = round(float(count.sum())), area / area.sum()
    if n == 0:
        return np.nan
    drawn = np.random.default_rng(seed).multinomial(n, share, size=simulations)
    value = ((drawn - n * share) ** 2 / (n * share)).sum(axis=1) / (len(count) - 1)
    # Sums of the same terms in another order differ by rounding.
    return two_sided_p_value(round(quadrats.index, 9), np.round(value, 9))
