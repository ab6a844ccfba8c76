"""Quadrat counts of a point pattern, and their index of dispersion."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import chi2, rankdata

from .windows import ObservationWindow, check_points

# ---- global envelopes and p values from simulated curves
#
# A curve is judged as a whole: the p value and the envelope use the extreme rank length [1]_. A
# random pattern leaves the envelope at any distance in 5 % of cases in total, not at each distance.
#
# References
# ----------
# .. [1] M. Myllymäki, T. Mrkvička, P. Grabarnik, H. Seijo and U. Hahn, "Global envelope tests for
#    spatial processes", J. R. Stat. Soc. B 79, 381-404 (2017).


@dataclass(frozen=True, eq=False)
class SummaryCurve:
    """A function of distance, of the points and of random points on the same support."""

    r_nm: np.ndarray  # (R,): distances in nm
    observed: np.ndarray  # (R,): values of the points
    simulated: np.ndarray  # (S, R): values of S random patterns
    level: float = 0.95  # coverage of the envelope
    p: float = field(init=False)
    """p value of the curve as a whole; NaN without simulations."""
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        p, low, high = global_envelope(self.observed, self.simulated, self.level)
        for name, value in (("p", p), ("low", low), ("high", high)):
            object.__setattr__(self, name, value)

    @property
    def expected(self) -> np.ndarray:
        """Mean (R,) of the random patterns."""
        if not len(self.simulated):
            return np.full(len(self.r_nm), np.nan)
        return np.asarray(self.simulated.mean(axis=0))


def global_envelope(
    observed: np.ndarray, simulated: np.ndarray, level: float = 0.95
) -> tuple[float, np.ndarray, np.ndarray]:
    """Compute the envelope and p value of a curve as a whole, by extreme rank length.

    The pointwise ranks of each curve, counted from the nearer end, are sorted. Curves are compared
    by their smallest rank, then by the next, and so on. The p value is the fraction of curves,
    including the observed one, that are at least as extreme as the observed one. The envelope
    spans the curves that are not among the ``1 - level`` most extreme ones. A curve leaves it at
    some distance if and only if its p value is at most ``1 - level``.

    Parameters
    ----------
    observed : ndarray of shape (R,)
        The observed curve.
    simulated : ndarray of shape (S, R)
        Simulated curves. Distances at which any value is not finite are omitted.
    level : float
        Coverage of the envelope, between 0 and 1.

    Returns
    -------
    p : float
        NaN without simulations, or if no distance remains.
    low, high : ndarray of shape (R,)
        Envelope; NaN at omitted distances.
    """
    curves = np.vstack([observed, simulated])
    low, high = np.full(curves.shape[1], np.nan), np.full(curves.shape[1], np.nan)
    known = np.isfinite(curves).all(axis=0)
    if len(curves) < 2 or not known.any():
        return np.nan, low, high
    rank = rankdata(curves[:, known], axis=0)
    extremes = np.sort(np.minimum(rank, len(curves) + 1 - rank), axis=1)
    # `unique` returns the rows in lexical order, the most extreme first.
    _, place, times = np.unique(extremes, axis=0, return_inverse=True, return_counts=True)
    as_extreme = np.cumsum(times)[place.ravel()] / len(curves)
    kept = curves[as_extreme > 1 - level + 1e-12][:, known]
    if len(kept):
        low[known], high[known] = kept.min(axis=0), kept.max(axis=0)
    return float(as_extreme[0]), low, high


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
