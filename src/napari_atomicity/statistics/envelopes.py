"""Global envelopes and p values from simulated curves.

A curve is judged as a whole: the p value and the envelope use the extreme rank length [1]_. A
random pattern leaves the envelope at any distance in 5 % of cases in total, not at each distance.

References
----------
.. [1] M. Myllymäki, T. Mrkvička, P. Grabarnik, H. Seijo and U. Hahn, "Global envelope tests for
   spatial processes", J. R. Stat. Soc. B 79, 381-404 (2017).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata


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
