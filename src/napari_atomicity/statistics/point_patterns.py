"""Points on a support of any shape, against complete spatial randomness.

The support is a `ObservationWindow`: a mask of pixels, each a small square. Everything that
depends on its shape is corrected for it, so that vacuum, edges of the image and holes make no
structure:

- *Distances to the nearest neighbour* by Hanisch's estimator [1]_: a distance counts where it is
  no longer than that to the edge of the support, so that nothing nearer can lie outside, with the
  weight of one over the area of the support that is at least that far from its edge.
- *Ripley's K, L and the pair correlation g* with translation correction [2]_: a pair counts with
  one over the area of the support that overlaps with itself when it is shifted by the vector
  between the two. Of a mask of square pixels this *set covariance* is known exactly: at shifts by
  whole pixels from the mask's autocorrelation (by Fourier transform), between them by bilinear
  interpolation, because a square overlaps with a shifted square by a bilinear area.
- *Clark and Evans' index* [3]_ by comparison with random points on the same support.

*Randomness* is the same number of points, independent and uniform on the support. Curves are
judged as wholes: the p value and the envelope are those of the extreme rank length [4]_, whose
envelope is left somewhere by a random pattern in 5 % of cases, not at each distance.

Points are (N, 2), (y, x) in nm, with the origin in the centre of the top-left pixel. Those that lie
off the support are left out of every figure; `Window.contains` says which they are.

References
----------
.. [1] K.-H. Hanisch, "Some remarks on estimators of the distribution function of nearest neighbour
   distance in stationary spatial point processes", Statistics 15, 409-412 (1984); the estimator
   D4 in A. Baddeley, E. Rubak and R. Turner, "Spatial Point Patterns", CRC Press (2015), ch. 8.
.. [2] J. Ohser, "On estimators for the reduced second moment measure of point processes",
   Statistics 14, 63-71 (1983); D. Stoyan and H. Stoyan, "Fractals, Random Shapes and Point
   Fields", Wiley (1994), ch. 15.
.. [3] P. J. Clark and F. C. Evans, "Distance to nearest neighbor as a measure of spatial
   relationships in populations", Ecology 35, 445-453 (1954); correction for the edge of a
   rectangle: K. P. Donnelly, "Simulations to determine the variance and edge effect of total
   nearest-neighbour distance", in Simulation Studies in Archaeology (1978).
.. [4] M. Myllymäki, T. Mrkvička, P. Grabarnik, H. Seijo and U. Hahn, "Global envelope tests for
   spatial processes", J. R. Stat. Soc. B 79, 381-404 (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import KDTree
from scipy.stats import chi2, rankdata

from ..core.errors import AtomicityError
from ..core.progress import Progress, Stop, check, report

LONGEST_PX = 1024
"""A larger mask is averaged over blocks, down to this, for all that needs its shape."""
NEIGHBOURS = 30
"""Mean number of neighbours of a point up to the largest distance of K, L and g."""
STOYAN = 0.15
"""Half width of the kernel of g, in units of one over the square root of the density [2]_."""
MIN_SUPPORT = 0.25
"""A quadrat with less support than this share of its area is left out."""


# ---- the support
@dataclass(frozen=True, eq=False)
class ObservationWindow:
    """The support on which points can lie.

    Parameters
    ----------
    mask
        (Y, X) bool, True on the support.
    pixel_size_nm
        Edge length of a pixel.

    Raises
    ------
    AtomicityError
        If the mask is no image, has no support, or the pixel size is not positive.
    """

    mask: np.ndarray
    pixel_size_nm: float

    def __post_init__(self) -> None:
        mask = np.ascontiguousarray(self.mask, dtype=bool)
        if mask.ndim != 2:
            raise AtomicityError(f"a mask of the support has two axes, not {mask.ndim}")
        if not mask.any():
            raise AtomicityError(
                "the mask holds no support", advice="Mark where the support is, or use no mask"
            )
        if not (np.isfinite(self.pixel_size_nm) and self.pixel_size_nm > 0):
            raise AtomicityError(f"a pixel size of {self.pixel_size_nm:g} nm is not possible")
        object.__setattr__(self, "mask", mask)

    @property
    def area_nm2(self) -> float:
        return float(np.count_nonzero(self.mask)) * self.pixel_size_nm**2

    @cached_property
    def bounds_nm(self) -> tuple[float, float, float, float]:
        """Of the support: least and greatest y, least and greatest x."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=a)) for a in (1, 0))
        ends = np.array([rows[0] - 0.5, rows[-1] + 0.5, columns[0] - 0.5, columns[-1] + 0.5])
        low_y, high_y, low_x, high_x = (ends * self.pixel_size_nm).tolist()
        return low_y, high_y, low_x, high_x

    @property
    def is_rectangle(self) -> bool:
        low_y, high_y, low_x, high_x = self.bounds_nm
        return bool(np.isclose((high_y - low_y) * (high_x - low_x), self.area_nm2))

    def contains(self, points_nm: np.ndarray) -> np.ndarray:
        """(N,) whether each point lies on the support."""
        points = checked(points_nm)
        # Rounding half up, so that a point on the edge of two pixels belongs to one of them.
        row, column = np.floor(points / self.pixel_size_nm + 0.5).astype(int).T
        inside = (row >= 0) & (row < self.mask.shape[0])
        inside &= (column >= 0) & (column < self.mask.shape[1])
        inside[inside] = self.mask[row[inside], column[inside]]
        return inside

    def random(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, 2) independent points, uniform on the support."""
        flat = self._pixels[rng.integers(len(self._pixels), size=n)]
        corner = np.stack(np.divmod(flat, self.mask.shape[1]), axis=1) - 0.5
        return np.asarray((corner + rng.random((n, 2))) * self.pixel_size_nm)

    def boundary_nm(self, points_nm: np.ndarray) -> np.ndarray:
        """(N,) distance from points of the support to its edge, which an image's edge is too."""
        at = self._coarse_px(points_nm) + 1
        inside = ndimage.map_coordinates(self._to_edge, at.T, order=1, mode="nearest")
        return np.asarray(np.clip(inside, 0, None) * self._coarse_nm)

    def eroded_area_nm2(self, distance_nm: np.ndarray) -> np.ndarray:
        """Area of the support that lies at least so far from its edge, of each distance."""
        depth, area = self._depths
        first = np.searchsorted(depth, np.asarray(distance_nm) / self._coarse_nm - 1e-9)
        return np.asarray(area[first])

    def overlap_nm2(self, y_nm: np.ndarray, x_nm: np.ndarray) -> np.ndarray:
        """Set covariance: area of the support that overlaps with itself when shifted.

        Parameters
        ----------
        y_nm, x_nm
            (M,) shifts.

        Returns
        -------
        ndarray
            (M,) in nm²; 0 for shifts by more than the mask is long.
        """
        table = self._covariance
        # A shift and its opposite overlap alike, so the table has only those down.
        down = y_nm >= 0
        y = np.abs(y_nm) / self._coarse_nm
        x = np.where(down, x_nm, -x_nm) / self._coarse_nm + table.shape[1] // 2
        y, x = np.minimum(y, table.shape[0] - 1), np.clip(x, 0, table.shape[1] - 1)
        y0 = np.minimum(y.astype(np.intp), table.shape[0] - 2)
        x0 = np.minimum(x.astype(np.intp), table.shape[1] - 2)
        ty, tx = y - y0, x - x0
        flat, corner, width = table.ravel(), y0 * table.shape[1] + x0, table.shape[1]
        near = flat[corner] * (1 - tx) + flat[corner + 1] * tx
        far = flat[corner + width] * (1 - tx) + flat[corner + width + 1] * tx
        return np.asarray(near * (1 - ty) + far * ty)

    # What follows is of a mask that is averaged over blocks if it is very large.
    @cached_property
    def _block(self) -> int:
        return int(np.ceil(max(self.mask.shape) / LONGEST_PX))

    @property
    def _coarse_nm(self) -> float:
        return self.pixel_size_nm * self._block

    @cached_property
    def _coverage(self) -> np.ndarray:
        """Share of each block that is support."""
        b = self._block
        if b == 1:
            return self.mask.astype(float)
        pad = [(0, -n % b) for n in self.mask.shape]
        padded = np.pad(self.mask, pad)
        height, width = padded.shape[0] // b, padded.shape[1] // b
        return np.asarray(padded.reshape(height, b, width, b).mean(axis=(1, 3)))

    def _coarse_px(self, points_nm: np.ndarray) -> np.ndarray:
        return (np.asarray(points_nm, float) / self.pixel_size_nm + 0.5) / self._block - 0.5

    @cached_property
    def _pixels(self) -> np.ndarray:
        return np.flatnonzero(self.mask)

    @cached_property
    def _to_edge(self) -> np.ndarray:
        """Distance of pixel centres to the edge in pixels, with a rim of one pixel around."""
        padded = np.pad(self._coverage >= 0.5, 1)
        # Half a pixel from the last centre inside to the edge, and as much beyond it to the next.
        return np.asarray(ndimage.distance_transform_edt(padded) - 0.5)

    @cached_property
    def _depths(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances to the edge that occur, in pixels, and the area of what is at least so far."""
        depth, count = np.unique(self._to_edge[self._to_edge > 0], return_counts=True)
        area = np.append(np.cumsum(count[::-1])[::-1], 0) * self._coarse_nm**2
        return depth, area

    @cached_property
    def _covariance(self) -> np.ndarray:
        """Set covariance in nm² at shifts (0 … Y, -X … X) of whole pixels."""
        coverage = self._coverage
        height, width = coverage.shape
        size = [fft.next_fast_len(2 * n + 1, real=True) for n in coverage.shape]
        spectrum = fft.rfft2(coverage, s=size)
        same = fft.irfft2(np.abs(spectrum) ** 2, s=size)[: height + 1]
        same = np.concatenate([same[:, -width:], same[:, : width + 1]], axis=1)
        # Where the transform leaves rounding errors, no pair of pixels is so far apart.
        return np.asarray(np.where(same < 1e-6, 0, same) * self._coarse_nm**2)


def checked(points_nm: np.ndarray) -> np.ndarray:
    """Points as floats (N, 2).

    Raises
    ------
    AtomicityError
        If they are not of this shape, or any is not finite.
    """
    points = np.asarray(points_nm, float)
    if points.size == 0:
        return points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise AtomicityError(f"points have a shape of (N, 2), not {points.shape}")
    if not np.isfinite(points).all():
        raise AtomicityError("positions of atoms are missing or infinite")
    return points


def density(points_nm: np.ndarray, window: ObservationWindow) -> float:
    """Points on a nm² of the support."""
    return float(np.count_nonzero(window.contains(points_nm))) / window.area_nm2


# ---- nearest neighbours
def nearest_neighbours(points_nm: np.ndarray) -> np.ndarray:
    """(N,) distance of each point to the nearest other one in nm; NaN of a point that is alone."""
    points = checked(points_nm)
    if len(points) < 2:
        return np.full(len(points), np.nan)
    return np.asarray(KDTree(points).query(points, k=2)[0][:, 1])


def neighbour_weights(
    points_nm: np.ndarray, distance_nm: np.ndarray, window: ObservationWindow
) -> np.ndarray:
    """Hanisch's weights (N,) of distances to the nearest neighbour, in 1/nm².

    Parameters
    ----------
    points_nm, distance_nm
        Points on the support and what `nearest_neighbours` gives of them.
    window
        The support.

    Returns
    -------
    ndarray
        One over the area of the support that is at least that far from its edge; 0 where the edge
        is nearer than the neighbour, so that one beyond it might be the nearest.
    """
    distance = np.asarray(distance_nm, float)
    safe = np.isfinite(distance) & (distance <= window.boundary_nm(points_nm))
    area = window.eroded_area_nm2(np.where(safe, distance, 0))
    return np.asarray(np.where(safe & (area > 0), 1 / np.where(area > 0, area, 1), 0.0))


def nearest_neighbour_distribution(
    points_nm: np.ndarray, window: ObservationWindow, r_nm: np.ndarray
) -> np.ndarray:
    """G(r), the share of points with a neighbour within r, corrected for the edge.

    Parameters
    ----------
    points_nm, window
        Points and their support.
    r_nm
        Distances.

    Returns
    -------
    ndarray
        Of each distance; NaN where no point is further from the edge than from its neighbour. Of a
        random pattern of density λ it is 1 - exp(-λπr²).
    """
    points = checked(points_nm)[window.contains(points_nm)]
    distance = nearest_neighbours(points)
    weight = neighbour_weights(points, distance, window)
    return _share_up_to(distance, weight, r_nm)


def _share_up_to(distance: np.ndarray, weight: np.ndarray, r_nm: np.ndarray) -> np.ndarray:
    total = weight.sum()
    if total <= 0:
        return np.full(len(r_nm), np.nan)
    order = np.argsort(distance)
    summed = np.concatenate([[0.0], np.cumsum(weight[order])])
    return np.asarray(summed[np.searchsorted(distance[order], r_nm, side="right")] / total)


# ---- pairs
def largest_distance_nm(n: int, window: ObservationWindow) -> float:
    """Up to where K, L and g are worth looking at.

    A quarter of the shorter side of the support, or where a point has `NEIGHBOURS` on average,
    whichever is less.
    """
    low_y, high_y, low_x, high_x = window.bounds_nm
    quarter = min(high_y - low_y, high_x - low_x) / 4
    return float(min(quarter, np.sqrt(NEIGHBOURS * window.area_nm2 / (np.pi * max(n, 1)))))


def bandwidth_nm(n: int, window: ObservationWindow) -> float:
    """Half width of the kernel of `pair_correlation`, by Stoyan's rule."""
    return float(STOYAN * np.sqrt(window.area_nm2 / max(n, 1)))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Ordered pairs by distance, summed up: all that K and g need.

    ``distance`` (M,) ascending; ``sums`` (3, M + 1) of weight, weight × distance and weight ×
    distance² over the first of them. A weight is 2 / overlap, for each pair is two ordered ones.
    ``number`` is that of all ordered pairs. Points may count by a weight of their own.
    """

    number: float
    distance: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(
        cls,
        points: np.ndarray,
        window: ObservationWindow,
        up_to_nm: float,
        counts: np.ndarray | None = None,
    ) -> _Pairs:
        pairs = KDTree(points).query_pairs(up_to_nm, output_type="ndarray")
        one, other = np.ascontiguousarray(pairs.T)
        y, x = (axis[other] - axis[one] for axis in np.ascontiguousarray(points.T))
        distance, weight = np.sqrt(y**2 + x**2), 2 / window.overlap_nm2(y, x)
        if counts is None:
            number = float(len(points) * (len(points) - 1))
        else:
            number = float(counts.sum() ** 2 - (counts**2).sum())
            weight *= counts[one] * counts[other]
        order = np.argsort(distance)
        distance, moment = distance[order], weight[order]
        sums = np.zeros((3, len(distance) + 1))
        for total in sums:
            np.cumsum(moment, out=total[1:])
            moment = moment * distance
        return cls(number, distance, sums)

    def k(self, r_nm: np.ndarray, area_nm2: float) -> np.ndarray:
        within = self.sums[0][np.searchsorted(self.distance, r_nm, side="right")]
        return np.asarray(within * area_nm2**2 / self.number)

    def g(self, r_nm: np.ndarray, area_nm2: float, h: float) -> np.ndarray:
        low, high = (np.searchsorted(self.distance, r_nm + step) for step in (-h, h))
        zeroth, first, second = self.sums[:, high] - self.sums[:, low]
        # Of Epanechnikov's kernel ¾ (1 - ((r - d)/h)²) / h, multiplied out.
        kernel = 0.75 / h * (zeroth - (r_nm**2 * zeroth - 2 * r_nm * first + second) / h**2)
        pairs = self.number / area_nm2**2
        return np.asarray(np.clip(kernel, 0, None) / (pairs * _ring_nm(r_nm, h)))


def _ring_nm(r_nm: np.ndarray, h: float) -> np.ndarray:
    """∫ 2πu k(r - u) du over u ≥ 0: 2πr, but for where the kernel reaches below zero."""
    a = np.clip(-np.asarray(r_nm) / h, -1, 0)
    flat = (1 - 1 / 3) - (a - a**3 / 3)
    slope = (1 / 2 - 1 / 4) - (a**2 / 2 - a**4 / 4)
    return np.asarray(2 * np.pi * 0.75 * (np.asarray(r_nm) * flat + h * slope))


def ripley_k(
    points_nm: np.ndarray,
    window: ObservationWindow,
    r_nm: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Ripley's K with translation correction in nm².

    ``K(r) = A² / (n (n - 1)) Σ 1(d ≤ r) / overlap`` over ordered pairs; λK(r) is the mean number
    of further points within r of a point. πr² of a random pattern, and unbiased for it.

    Parameters
    ----------
    points_nm, window
        Points and their support.
    r_nm
        Distances.
    weights
        (N,) what each point counts, for instance its probability: then n (n - 1) is
        (Σw)² - Σw². 1 if None.

    Returns
    -------
    ndarray
        Of each distance; NaN of fewer than two points.
    """
    inside, r = window.contains(points_nm), np.asarray(r_nm, float)
    points = checked(points_nm)[inside]
    counts = None if weights is None else np.asarray(weights, float)[inside]
    if len(points) < 2 or (counts is not None and np.count_nonzero(counts) < 2):
        return np.full(len(r), np.nan)
    return _Pairs.of(points, window, float(r.max(initial=0)), counts).k(r, window.area_nm2)


def ripley_l(points_nm: np.ndarray, window: ObservationWindow, r_nm: np.ndarray) -> np.ndarray:
    """L(r) = √(K(r) / π) in nm, see `ripley_k`; r of a random pattern."""
    return np.asarray(np.sqrt(ripley_k(points_nm, window, r_nm) / np.pi))


def pair_correlation(
    points_nm: np.ndarray,
    window: ObservationWindow,
    r_nm: np.ndarray,
    bandwidth: float | None = None,
) -> np.ndarray:
    """g(r): how much denser than on average it is at a distance r from a point.

    Epanechnikov's kernel, translation correction, and division by the area of the ring as the
    kernel weighs it: so it is unbiased for a random pattern down to r = 0, where the kernel
    reaches below zero.

    Parameters
    ----------
    points_nm, window
        Points and their support.
    r_nm
        Distances.
    bandwidth
        Half width of the kernel in nm; Stoyan's rule if None.

    Returns
    -------
    ndarray
        Of each distance; 1 of a random pattern, NaN of fewer than two points.
    """
    points, r = checked(points_nm)[window.contains(points_nm)], np.asarray(r_nm, float)
    if len(points) < 2:
        return np.full(len(r), np.nan)
    h = bandwidth_nm(len(points), window) if bandwidth is None else bandwidth
    pairs = _Pairs.of(points, window, float(r.max(initial=0)) + h)
    return pairs.g(r, window.area_nm2, h)


# ---- global envelopes
@dataclass(frozen=True, eq=False)
class Curve:
    """A function of distance, of the points and of random points on the same support.

    Parameters
    ----------
    r_nm
        (R,) distances.
    observed
        (R,) of the points.
    simulated
        (S, R) of S random patterns.
    level
        Of the envelope.
    """

    r_nm: np.ndarray
    observed: np.ndarray
    simulated: np.ndarray
    level: float = 0.95
    p: float = field(init=False)
    """How often a random pattern would be as extreme, of the curve as a whole; NaN if none was."""
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        p, low, high = global_envelope(self.observed, self.simulated, self.level)
        for name, value in (("p", p), ("low", low), ("high", high)):
            object.__setattr__(self, name, value)

    @property
    def expected(self) -> np.ndarray:
        """(R,) mean of the random patterns."""
        if not len(self.simulated):
            return np.full(len(self.r_nm), np.nan)
        return np.asarray(self.simulated.mean(axis=0))


def global_envelope(
    observed: np.ndarray, simulated: np.ndarray, level: float = 0.95
) -> tuple[float, np.ndarray, np.ndarray]:
    """Envelope and p value of a curve as a whole, by extreme rank length.

    Of each curve the ranks from the nearer end, at all distances, are sorted; curves are compared
    by their least rank, then by the next, and so on. The p value is the share of curves, the
    observed one among them, that are at least as extreme as that. The envelope spans those that
    are not among the ``1 - level`` most extreme ones: it is left somewhere if and only if p is at
    most ``1 - level``.

    Parameters
    ----------
    observed, simulated
        (R,) and (S, R). Distances at which any is not finite are left out.
    level
        Of the envelope, between 0 and 1.

    Returns
    -------
    p : float
        NaN without simulations, or where the observed curve is nowhere finite.
    low, high : ndarray
        (R,); NaN where left out.
    """
    curves = np.vstack([observed, simulated])
    low, high = np.full(curves.shape[1], np.nan), np.full(curves.shape[1], np.nan)
    known = np.isfinite(curves).all(axis=0)
    if len(curves) < 2 or not known.any():
        return np.nan, low, high
    rank = rankdata(curves[:, known], axis=0)
    extremes = np.sort(np.minimum(rank, len(curves) + 1 - rank), axis=1)
    # Different rows come in lexical order, the most extreme first.
    _, place, times = np.unique(extremes, axis=0, return_inverse=True, return_counts=True)
    as_extreme = np.cumsum(times)[place.ravel()] / len(curves)
    kept = curves[as_extreme > 1 - level + 1e-12][:, known]
    if len(kept):
        low[known], high[known] = kept.min(axis=0), kept.max(axis=0)
    return float(as_extreme[0]), low, high


# ---- against randomness
@dataclass(frozen=True, eq=False)
class AgainstRandomness:
    """Curves of points beside those of random points, and Clark and Evans' index.

    Parameters
    ----------
    n
        Points on the support.
    curves
        ``G`` (`nearest_neighbour_distribution`), ``neighbours`` (the plain share of points with a
        neighbour within r, not corrected for the edge: what a histogram shows), ``L`` and ``g``.
    mean_nm, simulated_mean_nm
        Mean distance to the nearest neighbour of the points, and (S,) of each random pattern.
    """

    n: int
    curves: dict[str, Curve]
    mean_nm: float
    simulated_mean_nm: np.ndarray

    @property
    def clark_evans(self) -> float:
        """Mean distance to the nearest neighbour over that of random points on the same support.

        Below 1 of clustered points, above it of points that keep apart; NaN of fewer than two.
        """
        if not len(self.simulated_mean_nm):
            return np.nan
        return float(self.mean_nm / self.simulated_mean_nm.mean())

    @property
    def clark_evans_p(self) -> float:
        """How often random points would be as far from 1, twice the rarer side; NaN as above."""
        if not len(self.simulated_mean_nm):
            return np.nan
        return two_sided_p(self.mean_nm, self.simulated_mean_nm)


def against_randomness(
    points_nm: np.ndarray,
    window: ObservationWindow,
    simulations: int = 199,
    seed: int = 0,
    level: float = 0.95,
    steps: int = 64,
    largest_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AgainstRandomness:
    """Compare points with as many random ones on the same support, over and over.

    Parameters
    ----------
    points_nm, window
        Points and their support.
    simulations
        Number of random patterns; the least p value is one over one more than that.
    seed
        Of the random patterns.
    level
        Of the envelopes.
    steps
        Distances of each curve.
    largest_nm
        Up to which K, L and g go, at most half the shorter side of the support;
        `largest_distance_nm` if None. It takes longer in proportion to its square.
    progress, stop
        Called between simulations.

    Returns
    -------
    AgainstRandomness
        Curves of fewer than two points are NaN, and none is simulated.

    Raises
    ------
    Cancelled
        If ``stop()`` is true.
    """
    points = checked(points_nm)[window.contains(points_nm)]
    n, rng = len(points), np.random.default_rng(seed)
    simulations = simulations if n > 1 else 0
    far, spacing = largest_distance_nm(n, window), np.sqrt(window.area_nm2 / max(n, 1))
    if largest_nm is not None:
        low_y, high_y, low_x, high_x = window.bounds_nm
        far = min(largest_nm, (high_y - low_y) / 2, (high_x - low_x) / 2)
    r = np.arange(1, steps + 1) / steps * far
    # At 1.8 spacings a random point is without a neighbour in 4 of 100,000 cases.
    near = np.arange(1, steps + 1) / steps * 1.8 * spacing
    h = bandwidth_nm(n, window)

    def curves_of(some: np.ndarray) -> tuple[np.ndarray, float]:
        if n < 2:
            return np.full((4, steps), np.nan), np.nan
        distance = nearest_neighbours(some)
        weight = neighbour_weights(some, distance, window)
        pairs = _Pairs.of(some, window, far + h)
        area = window.area_nm2
        found = [
            _share_up_to(distance, weight, near),
            _share_up_to(distance, np.ones(n), near),
            np.sqrt(pairs.k(r, area) / np.pi),
            pairs.g(r, area, h),
        ]
        return np.stack(found), float(distance.mean())

    observed, mean = curves_of(points)
    simulated, means = np.empty((simulations, 4, steps)), np.empty(simulations)
    for i in range(simulations):
        check(stop)
        simulated[i], means[i] = curves_of(window.random(n, rng))
        report(progress, i + 1, simulations, "Simulating random atoms")
    curves = {
        name: Curve(near if i < 2 else r, observed[i], simulated[:, i], level)
        for i, name in enumerate(("G", "neighbours", "L", "g"))
    }
    return AgainstRandomness(n, curves, mean, means)


def pooled(
    parts: Sequence[AgainstRandomness], same_place: bool = False
) -> AgainstRandomness | None:
    """One comparison of several supports, each with randomness at its own density.

    The share of points with a neighbour within r is averaged with the number of points as weight,
    K and g with the number of pairs, over distances that all parts have. The i-th random patterns
    of all parts make the i-th of the pool, so the parts must have been simulated with different
    seeds.

    Parameters
    ----------
    parts
        Of independent supports.
    same_place
        They are frames of one place instead, whose points may be the same ones over and over: the
        mean of what is observed stands beside random patterns of single frames, of each in turn,
        and ``n`` is that of a mean frame.

    Returns
    -------
    AgainstRandomness or None
        Of those parts that have two points and were simulated; None without any.
    """
    parts = [part for part in parts if len(part.simulated_mean_nm)]
    if not parts:
        return None
    n = np.array([part.n for part in parts], float)
    simulations = min(len(part.simulated_mean_nm) for part in parts)
    curves = {}
    for name in parts[0].curves:
        of_all = [part.curves[name] for part in parts]
        r = min((curve.r_nm for curve in of_all), key=lambda r_nm: float(r_nm[-1]))
        stacks = np.stack([_at(curve, r, simulations, name) for curve in of_all])
        weight = n if name in ("G", "neighbours") else n * (n - 1)
        power = 2 if name == "L" else 1  # of L, K is averaged
        mean = _average(stacks**power, weight) ** (1 / power)
        random = _in_turn(stacks[:, 1:]) if same_place else mean[1:]
        curves[name] = Curve(r, mean[0], random, of_all[0].level)
    means = np.array([part.simulated_mean_nm[:simulations] for part in parts])
    observed = np.array([part.mean_nm for part in parts])
    return AgainstRandomness(
        round(n.mean()) if same_place else int(n.sum()),
        curves,
        float(n @ observed / n.sum()),
        _in_turn(means) if same_place else n @ means / n.sum(),
    )


def _in_turn(values: np.ndarray) -> np.ndarray:
    """(S, …) the i-th of (P, S, …) from part i modulo P."""
    number = np.arange(values.shape[1])
    return np.asarray(values[number % len(values), number])


def _at(curve: Curve, r_nm: np.ndarray, simulations: int, name: str) -> np.ndarray:
    """(1 + simulations, R) a curve and its random ones at other distances."""
    known = np.vstack([curve.observed[None], curve.simulated[:simulations]])
    if r_nm is curve.r_nm:
        return known
    start = known[:, :1] if name == "g" else np.zeros((len(known), 1))
    whole, distance = np.hstack([start, known]), np.append(0.0, curve.r_nm)
    return np.stack([np.interp(r_nm, distance, row) for row in whole])


def _average(stacks: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean over the first axis of what is known; NaN where nothing is."""
    weights = np.where(np.isfinite(stacks), weight[:, None, None], 0.0)
    total = weights.sum(axis=0)
    summed = (np.nan_to_num(stacks) * weights).sum(axis=0)
    return np.asarray(np.where(total > 0, summed / np.where(total > 0, total, 1), np.nan))


def two_sided_p(observed: float, simulated: np.ndarray) -> float:
    """Twice the share of values, the observed one among them, on its rarer side, at most 1."""
    below, above = (simulated <= observed).sum(), (simulated >= observed).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (len(simulated) + 1)))


def clark_evans_donnelly(points_nm: np.ndarray, window: ObservationWindow) -> tuple[float, float]:
    """Clark and Evans' index on a rectangle, with Donnelly's correction for its edge [3]_.

    A closed form to check the simulation by; it holds from about seven points on.

    Returns
    -------
    index, z : float
        Mean distance over that of random points, and its distance from that in standard
        deviations; NaN of fewer than two points.

    Raises
    ------
    AtomicityError
        If the support is no rectangle.
    """
    if not window.is_rectangle:
        raise AtomicityError("Donnelly's correction is for a rectangle, and the support is none")
    points = checked(points_nm)[window.contains(points_nm)]
    n, area = len(points), window.area_nm2
    if n < 2:
        return np.nan, np.nan
    low_y, high_y, low_x, high_x = window.bounds_nm
    edge = 2 * (high_y - low_y + high_x - low_x)
    expected = 0.5 * np.sqrt(area / n) + (0.0514 + 0.041 / np.sqrt(n)) * edge / n
    variance = 0.0703 * area / n**2 + 0.037 * edge * np.sqrt(area / n**5)
    mean = nearest_neighbours(points).mean()
    return float(mean / expected), float((mean - expected) / np.sqrt(variance))


# ---- quadrats
@dataclass(frozen=True, eq=False)
class Quadrats:
    """Numbers of points in the squares of a grid over the support.

    Parameters
    ----------
    edges_y_nm, edges_x_nm
        Of the grid, ascending.
    count
        (rows, columns) sum of the points' weights.
    area_nm2
        (rows, columns) support in each.
    used
        (rows, columns) those with enough support (`MIN_SUPPORT`).
    index
        Of dispersion: Σ (count - expected)² / expected, with the expected count by area, over the
        number of used ones minus 1. Around 1 of random points, above it of clustered ones, below
        it of evenly spread ones. NaN of fewer than two used ones, or without points.
    chi2_p
        p value of that sum by the χ² distribution, for both sides: good where about five are
        expected in each.
    """

    edges_y_nm: np.ndarray
    edges_x_nm: np.ndarray
    count: np.ndarray
    area_nm2: np.ndarray
    used: np.ndarray
    index: float
    chi2_p: float

    def of(self, points_nm: np.ndarray) -> np.ndarray:
        """(N,) the row-major number of the quadrat of each point; off the grid, the nearest."""
        return _cells(points_nm, self.edges_y_nm, self.edges_x_nm)


def _cells(points_nm: np.ndarray, y_nm: np.ndarray, x_nm: np.ndarray) -> np.ndarray:
    row, column = (
        np.searchsorted(edges[1:-1], values, side="right")
        for edges, values in zip((y_nm, x_nm), np.asarray(points_nm, float).T, strict=True)
    )
    return np.asarray(row * (len(x_nm) - 1) + column)


def quadrats_across(n: float) -> int:
    """How many quadrats fit the longer side so that about five points are expected in each."""
    return int(np.clip(round(np.sqrt(n / 5)), 2, 12))


def quadrat_counts(
    points_nm: np.ndarray,
    window: ObservationWindow,
    across: int | None = None,
    weights: np.ndarray | None = None,
) -> Quadrats:
    """Count points in nearly square quadrats over the extent of the support.

    Parameters
    ----------
    points_nm, window
        Points and their support.
    across
        Quadrats along the longer side; `quadrats_across` if None.
    weights
        (N,) what each point counts, for instance its probability; 1 if None.
    """
    points = checked(points_nm)
    weight = np.ones(len(points)) if weights is None else np.asarray(weights, float)
    inside = window.contains(points)
    points, weight = points[inside], weight[inside]
    across = quadrats_across(weight.sum()) if across is None else across
    low_y, high_y, low_x, high_x = window.bounds_nm
    edge = max(high_y - low_y, high_x - low_x) / across
    sides = ((low_y, high_y), (low_x, high_x))
    y, x = (np.linspace(a, b, max(1, round((b - a) / edge)) + 1) for a, b in sides)
    area = _support_in(window, y, x)
    cell = _cells(points, y, x)
    count = np.bincount(cell, weight, minlength=area.size).reshape(area.shape)
    full = (y[1] - y[0]) * (x[1] - x[0])
    used = area >= MIN_SUPPORT * full
    index, p = _dispersion_index(count[used], area[used])
    return Quadrats(y, x, count, area, used, index, p)


def _support_in(window: ObservationWindow, y_nm: np.ndarray, x_nm: np.ndarray) -> np.ndarray:
    """Support in nm² between each two edges of a grid, parts of pixels included."""
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
    tail = min(chi2.cdf(value, freedom), chi2.sf(value, freedom))
    return value / freedom, float(min(1.0, 2 * tail))


def quadrat_p(quadrats: Quadrats, simulations: int = 999, seed: int = 0) -> float:
    """As `Quadrats.chi2_p`, but by drawing counts: right where few points are expected, too."""
    count, area = quadrats.count[quadrats.used], quadrats.area_nm2[quadrats.used]
    if not np.isfinite(quadrats.index):
        return np.nan
    n, share = round(float(count.sum())), area / area.sum()
    if n == 0:
        return np.nan
    drawn = np.random.default_rng(seed).multinomial(n, share, size=simulations)
    value = ((drawn - n * share) ** 2 / (n * share)).sum(axis=1) / (len(count) - 1)
    # Sums of the same terms in another order differ by rounding.
    return two_sided_p(round(quadrats.index, 9), np.round(value, 9))
