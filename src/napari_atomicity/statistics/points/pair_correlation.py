"""Second-order statistics of a point pattern: Ripley's K, L, and the pair correlation g(r).

All use translation correction [1]_: a pair counts with the reciprocal of the set covariance of the
support at the vector between its two points (`windows.ObservationWindow.overlap_nm2`).

References
----------
.. [1] J. Ohser, "On estimators for the reduced second moment measure of point processes",
   Statistics 14, 63-71 (1983); D. Stoyan and H. Stoyan, "Fractals, Random Shapes and Point
   Fields", Wiley (1994), ch. 15.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from .windows import ObservationWindow, check_points

MAX_MEAN_NEIGHBOURS = 30
"""Mean number of neighbours of a point within the maximum distance of K, L and g."""
STOYAN_FACTOR = 0.15
"""Half width of the kernel of g, in units of one over the square root of the density [1]_."""


def max_distance_nm(n: int, window: ObservationWindow) -> float:
    """Return the default maximum distance of K, L and g for n points, in nm.

    A quarter of the shorter side of the support, or the distance within which a point has
    `MAX_MEAN_NEIGHBOURS` on average, whichever is less.
    """
    low_y, high_y, low_x, high_x = window.bounds_nm
    quarter = min(high_y - low_y, high_x - low_x) / 4
    return float(min(quarter, np.sqrt(MAX_MEAN_NEIGHBOURS * window.area_nm2 / (np.pi * max(n, 1)))))


def stoyan_bandwidth_nm(n: int, window: ObservationWindow) -> float:
    """Return the half width of the kernel of `pair_correlation` by Stoyan's rule, in nm."""
    return float(STOYAN_FACTOR * np.sqrt(window.area_nm2 / max(n, 1)))


@dataclass(frozen=True, eq=False)
class PairSums:
    """Cumulative sums over ordered pairs of points, sorted by distance: all that K and g need.

    The weight of a pair is 2 / overlap, because each pair counts in both orders.
    """

    # number of all ordered pairs; the sum of the products of the weights of the points
    number: float
    distance: np.ndarray  # (M,): distances in nm, ascending
    # (3, M + 1): cumulative sums of weight, weight × distance and weight × distance²
    sums: np.ndarray

    @classmethod
    def from_points(
        cls,
        points: np.ndarray,  # (N, 2): points (y, x) on the support, in nm
        window: ObservationWindow,
        max_nm: float,  # maximum distance of a pair in nm
        weights: np.ndarray | None = None,  # (N,): weight of each point; 1 if None
    ) -> PairSums:
        """Sum the pairs of points on the support."""
        pairs = KDTree(points).query_pairs(max_nm, output_type="ndarray")
        one, other = np.ascontiguousarray(pairs.T)
        y, x = (axis[other] - axis[one] for axis in np.ascontiguousarray(points.T))
        distance, weight = np.sqrt(y**2 + x**2), 2 / window.overlap_nm2(y, x)
        if weights is None:
            number = float(len(points) * (len(points) - 1))
        else:
            number = float(weights.sum() ** 2 - (weights**2).sum())
            weight *= weights[one] * weights[other]
        order = np.argsort(distance)
        distance, moment = distance[order], weight[order]
        sums = np.zeros((3, len(distance) + 1))
        for total in sums:
            np.cumsum(moment, out=total[1:])
            moment = moment * distance
        return cls(number, distance, sums)

    def ripley_k(
        self,
        r_nm: np.ndarray,  # (R,): distances in nm
        area_nm2: float,  # area of the support in nm²
    ) -> np.ndarray:  # (R,)
        """Compute K(r) in nm²."""
        within = self.sums[0][np.searchsorted(self.distance, r_nm, side="right")]
        return np.asarray(within * area_nm2**2 / self.number)

    def pair_correlation(
        self,
        r_nm: np.ndarray,  # (R,): distances in nm
        area_nm2: float,  # area of the support in nm²
        bandwidth_nm: float,  # half width of the kernel in nm
    ) -> np.ndarray:  # (R,)
        """Compute g(r) with Epanechnikov's kernel."""
        h = bandwidth_nm
        low, high = (np.searchsorted(self.distance, r_nm + step) for step in (-h, h))
        zeroth, first, second = self.sums[:, high] - self.sums[:, low]
        # Epanechnikov's kernel ¾ (1 - ((r - d)/h)²) / h, multiplied out.
        kernel = 0.75 / h * (zeroth - (r_nm**2 * zeroth - 2 * r_nm * first + second) / h**2)
        pairs = self.number / area_nm2**2
        return np.asarray(np.clip(kernel, 0, None) / (pairs * _ring_length_nm(r_nm, h)))


def _ring_length_nm(r_nm: np.ndarray, h: float) -> np.ndarray:
    """Compute ∫ 2πu k(r - u) du over u ≥ 0: 2πr, except where the kernel extends below zero."""
    a = np.clip(-np.asarray(r_nm) / h, -1, 0)
    flat = (1 - 1 / 3) - (a - a**3 / 3)
    slope = (1 / 2 - 1 / 4) - (a**2 / 2 - a**4 / 4)
    return np.asarray(2 * np.pi * 0.75 * (np.asarray(r_nm) * flat + h * slope))


def ripley_k(
    points_nm: np.ndarray,  # (N, 2): points (y, x) in nm
    window: ObservationWindow,
    r_nm: np.ndarray,  # (R,): distances in nm
    # (N,): weight of each point, for example its probability; then (Σw)² - Σw² replaces n (n - 1).
    # 1 if None
    weights: np.ndarray | None = None,
) -> np.ndarray:  # (R,): K in nm²; NaN for fewer than two points
    """Compute Ripley's K with translation correction.

    ``K(r) = A² / (n (n - 1)) Σ 1(d ≤ r) / overlap`` over ordered pairs; λK(r) is the mean number
    of further points within r of a point. For a random pattern K is πr², and the estimate is
    unbiased.
    """
    inside, r = window.contains(points_nm), np.asarray(r_nm, float)
    points = check_points(points_nm)[inside]
    own = None if weights is None else np.asarray(weights, float)[inside]
    if len(points) < 2 or (own is not None and np.count_nonzero(own) < 2):
        return np.full(len(r), np.nan)
    pairs = PairSums.from_points(points, window, float(r.max(initial=0)), own)
    return pairs.ripley_k(r, window.area_nm2)


def pair_correlation(
    points_nm: np.ndarray,  # (N, 2): points (y, x) in nm
    window: ObservationWindow,
    r_nm: np.ndarray,  # (R,): distances in nm
    bandwidth: float | None = None,  # half width of the kernel in nm; Stoyan's rule if None
) -> np.ndarray:  # (R,): 1 for a random pattern; NaN for fewer than two points
    """Compute g(r), the density at a distance r from a point relative to the mean density.

    Epanechnikov's kernel and translation correction. The estimate is divided by the area of the
    ring as the kernel weights it, so it is unbiased for a random pattern down to r = 0, where the
    kernel extends below zero.
    """
    points, r = check_points(points_nm)[window.contains(points_nm)], np.asarray(r_nm, float)
    if len(points) < 2:
        return np.full(len(r), np.nan)
    h = stoyan_bandwidth_nm(len(points), window) if bandwidth is None else bandwidth
    pairs = PairSums.from_points(points, window, float(r.max(initial=0)) + h)
    return pairs.pair_correlation(r, window.area_nm2, h)
