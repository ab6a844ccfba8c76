"""Tests of a point pattern against complete spatial randomness, with envelopes and p values.

*Randomness* means the same number of points, independent and uniform on the support. Summary
functions (G, L, g) get global envelopes, and the index of Clark and Evans [1]_ gets a Monte Carlo p
value. The random patterns lie on the same support, so its shape does not matter.

References
----------
.. [1] P. J. Clark and F. C. Evans, "Distance to nearest neighbor as a measure of spatial
   relationships in populations", Ecology 35, 445-453 (1954).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from ...core.progress import Progress, Stop, check, report
from .nearest_neighbours import cumulative_fraction, hanisch_weights, nearest_neighbours
from .pair_correlation import PairSums, max_distance_nm, stoyan_bandwidth_nm
from .quadrats import two_sided_p_value
from .windows import ObservationWindow, check_points

# ---- global envelopes
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


# ---- tests
CURVES = ("G", "neighbours", "L", "g")
"""Names of the summary functions; see `RandomnessTest`."""
_MAX_NEIGHBOUR_DISTANCE = 1.8
"""Maximum distance of G in units of the mean spacing of the points: 4 in 100,000 random points
have no neighbour within it."""


@dataclass(frozen=True, eq=False)
class RandomnessTest:
    """Summary functions of points and of random points, and the index of Clark and Evans."""

    n: int  # number of points on the support
    # ``G`` (edge-corrected distribution of nearest-neighbour distances, see
    # `nearest_neighbours`), ``neighbours`` (the fraction of points with a neighbour within r,
    # without edge correction, as a histogram shows it), ``L`` and ``g``
    curves: dict[str, SummaryCurve]
    mean_nm: float  # mean nearest-neighbour distance of the points in nm
    # (S,): mean nearest-neighbour distance of each random pattern in nm
    simulated_mean_nm: np.ndarray

    @property
    def clark_evans(self) -> float:
        """Mean nearest-neighbour distance divided by that of random points on the same support.

        Below 1 for clustered points, above 1 for regular ones; NaN for fewer than two points.
        """
        if not len(self.simulated_mean_nm):
            return np.nan
        return float(self.mean_nm / self.simulated_mean_nm.mean())

    @property
    def clark_evans_p(self) -> float:
        """Two-sided p value of the index of Clark and Evans; NaN for fewer than two points."""
        if not len(self.simulated_mean_nm):
            return np.nan
        return two_sided_p_value(self.mean_nm, self.simulated_mean_nm)


@dataclass(frozen=True, eq=False)
class _Distances:
    """Distances in nm at which the summary functions are evaluated, and the kernel width of g."""

    neighbour: np.ndarray
    pair: np.ndarray
    bandwidth: float

    @classmethod
    def for_points(
        cls, n: int, window: ObservationWindow, steps: int, largest_nm: float | None
    ) -> _Distances:
        """Choose the distances for n points."""
        spacing = np.sqrt(window.area_nm2 / max(n, 1))
        if largest_nm is None:
            far = max_distance_nm(n, window)
        else:
            low_y, high_y, low_x, high_x = window.bounds_nm
            far = min(largest_nm, (high_y - low_y) / 2, (high_x - low_x) / 2)
        share = np.arange(1, steps + 1) / steps
        return cls(
            share * _MAX_NEIGHBOUR_DISTANCE * spacing, share * far, stoyan_bandwidth_nm(n, window)
        )

    def of(self, curve: str) -> np.ndarray:
        return self.neighbour if curve in ("G", "neighbours") else self.pair


def _summary_functions(
    points: np.ndarray, window: ObservationWindow, r: _Distances
) -> tuple[np.ndarray, float]:
    """Compute the `CURVES` (4, R) of points on the support, and their mean neighbour distance."""
    n, area = len(points), window.area_nm2
    if n < 2:
        return np.full((len(CURVES), len(r.pair)), np.nan), np.nan
    distance = nearest_neighbours(points)
    weight = hanisch_weights(points, distance, window)
    pairs = PairSums.from_points(points, window, r.pair[-1] + r.bandwidth)
    curves = [
        cumulative_fraction(distance, weight, r.neighbour),
        cumulative_fraction(distance, np.ones(n), r.neighbour),
        np.sqrt(pairs.ripley_k(r.pair, area) / np.pi),
        pairs.pair_correlation(r.pair, area, r.bandwidth),
    ]
    return np.stack(curves), float(distance.mean())


def compare_with_randomness(
    points_nm: np.ndarray,  # (N, 2): points (y, x) in nm. Points outside the support are omitted.
    window: ObservationWindow,
    # Number of random patterns; the smallest possible p value is 1 / (simulations + 1)
    simulations: int = 199,
    seed: int = 0,
    level: float = 0.95,  # coverage of the envelopes
    steps: int = 64,  # number of distances of each curve
    # Maximum distance of L and g in nm, at most half the shorter side of the support;
    # `pair_correlation.max_distance_nm` if None. The computing time grows with its square.
    largest_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RandomnessTest:  # for fewer than two points the curves are NaN and there are no simulations
    """Compare points with simulated random points on the same support."""
    points = check_points(points_nm)[window.contains(points_nm)]
    n, rng = len(points), np.random.default_rng(seed)
    simulations = simulations if n > 1 else 0
    r = _Distances.for_points(n, window, steps, largest_nm)
    observed, mean = _summary_functions(points, window, r)
    simulated, means = np.empty((simulations, len(CURVES), steps)), np.empty(simulations)
    for i in range(simulations):
        check(stop)
        simulated[i], means[i] = _summary_functions(window.random(n, rng), window, r)
        report(progress, i + 1, simulations, "Simulating random atoms")
    curves = {
        name: SummaryCurve(r.of(name), observed[i], simulated[:, i], level)
        for i, name in enumerate(CURVES)
    }
    return RandomnessTest(n, curves, mean, means)


def pool_randomness_tests(
    tests: Sequence[RandomnessTest],
    same_place: bool = False,
    frames: Sequence[int] | None = None,
) -> RandomnessTest | None:
    """Pool the tests of several supports, each against randomness at its own density.

    The fraction of points with a neighbour within r is averaged with the number of points as
    weight, K and g with the number of pairs, over distances that all tests include; ``neighbours``
    over all distances, since hardly any random point has its neighbour beyond those of its test,
    and with the number of points in all frames, as a histogram counts them.
    The i-th random patterns of all tests form the i-th pooled one, so the tests must use different
    seeds.

    Parameters
    ----------
    same_place : bool
        Whether the tests are of frames of one place, which may show the same points repeatedly.
        Then the pooled random patterns scatter as much as those of a single frame, and ``n`` is
        the mean over frames.
    frames : sequence of int, optional
        Number of frames of each test, a pool of frames of one place; 1 by default.

    Returns
    -------
    RandomnessTest or None
        Pool of the tests that have at least two points and simulations; None if there are none.
    """
    of_frames = dict(zip(map(id, tests), frames or [1] * len(tests), strict=True))
    tests = [test for test in tests if len(test.simulated_mean_nm)]
    if not tests:
        return None
    n = np.array([test.n for test in tests], float)
    simulations = min(len(test.simulated_mean_nm) for test in tests)
    curves = {}
    for name in tests[0].curves:
        of_all = [test.curves[name] for test in tests]
        included = max if name == "neighbours" else min
        r = included((curve.r_nm for curve in of_all), key=lambda r_nm: float(r_nm[-1]))
        stacks = np.stack([_interpolate(curve, r, simulations, name) for curve in of_all])
        weight = n if name in ("G", "neighbours") else n * (n - 1)
        if name == "neighbours":
            weight = n * [of_frames[id(test)] for test in tests]
        power = 2 if name == "L" else 1  # of L, K is averaged
        mean = _weighted_mean(stacks**power, weight)
        random = mean[1:]
        if same_place:
            random = _scatter_as_one(stacks[:, 1:] ** power, random, weight).clip(0)
        observed_curve = mean[0] ** (1 / power)
        curves[name] = SummaryCurve(r, observed_curve, random ** (1 / power), of_all[0].level)
    means = np.array([test.simulated_mean_nm[:simulations] for test in tests])
    observed = np.array([test.mean_nm for test in tests])
    if same_place:  # the same atoms in all frames: the means of all are large at the same time
        means.sort(axis=1)
    return RandomnessTest(
        round(n.mean()) if same_place else int(n.sum()),
        curves,
        float(n @ observed / n.sum()),
        n @ means / n.sum(),
    )


def _scatter_as_one(values: np.ndarray, pooled: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return random values (S, R) about the mean of the pooled ones, with the scatter of a frame.

    The frames, with values (P, S, R), take turns, each as often as its weight (P,).
    """
    number = np.arange(values.shape[1])
    part = np.searchsorted(np.cumsum(weight) / weight.sum(), (number + 0.5) / len(number))
    own_means = _weighted_mean(values.swapaxes(0, 1), np.ones(len(number)))
    return np.asarray(pooled.mean(axis=0) + values[part, number] - own_means[part])


def _interpolate(curve: SummaryCurve, r_nm: np.ndarray, simulations: int, name: str) -> np.ndarray:
    """Evaluate a curve and its random ones at other distances: (1 + simulations, R)."""
    known = np.vstack([curve.observed[None], curve.simulated[:simulations]])
    if r_nm is curve.r_nm:
        return known
    start = known[:, :1] if name == "g" else np.zeros((len(known), 1))
    whole, distance = np.hstack([start, known]), np.append(0.0, curve.r_nm)
    return np.stack([np.interp(r_nm, distance, row) for row in whole])


def _weighted_mean(stacks: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Average the finite values over the first axis; NaN where there are none."""
    weights = np.where(np.isfinite(stacks), weight[:, None, None], 0.0)
    total = weights.sum(axis=0)
    summed = (np.nan_to_num(stacks) * weights).sum(axis=0)
    return np.asarray(np.where(total > 0, summed / np.where(total > 0, total, 1), np.nan))
