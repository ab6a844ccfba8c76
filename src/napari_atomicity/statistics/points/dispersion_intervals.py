"""Estimates and intervals of density, neighbour distances, group fractions and group extents.

Another place of the same sample would give other figures. The intervals include this sampling
uncertainty and that of detection:

- *Density of one image.* The variance of the count is that of a Poisson distribution times a
  factor (`dispersion_evidence`), plus that of detection. The interval is that of as many
  independent counts as have this relative variance [1]_, with Student's quantile for the
  uncertainty of the factor. It is never narrower than for random atoms; for regular atoms it is
  too wide.
- *Density of several images.* Differences between images beyond chance are added. Two or three
  images hardly determine them: their sample variance alone gives intervals that are too narrow if
  it is small by chance, and several decades wide if it is large. Therefore the interval averages
  over all differences that the images allow, with a half-normal prior whose median is 34 % and
  whose 95th percentile is 98 % (`BETWEEN_IMAGES_SD`), as is usual when few studies are pooled
  [3]_. With about ten images or more the data dominate.
- *Distances, extents and fractions.* A *block bootstrap* [2]_. Resampling atoms would put copies
  on top of each other, and joining resampled blocks would create neighbours that never existed.
  Therefore distances, weights and groups remain those of the pattern, and blocks of atoms are drawn
  together with them. For several images, images are drawn first; their blocks are drawn as many
  times as there are images, so that images which differ by chance alone count once (see
  `statistics.ratios.ratios`). The variance gives the interval: for a distance or an extent by
  Student's quantile on a logarithmic scale, at least as wide as for independent values; for a
  fraction by Wilson's form, so that a count of 0 still has an upper limit above 0. Atoms occur in
  groups, so the atoms of a kind that begins with k atoms count as at most one in k of them.

No bootstrap includes images that were not recorded. With fewer than about five images that differ
by more than chance, intervals of distances and fractions are too narrow. Structure wider than a
block does not contribute to the variance within one image either.

References
----------
.. [1] M. P. Fay and E. J. Feuer, "Confidence intervals for directly standardized rates", Statistics
   in Medicine 16, 791-801 (1997): a gamma distribution with the variance of the estimate.
.. [2] J. M. Loh, "A valid and fast spatial bootstrap for correlation functions", Astrophysical
   Journal 681, 726-734 (2008).
.. [3] T. Friede, C. Röver, S. Wandel and B. Neuenschwander, "Meta-analysis of few small studies in
   orphan diseases", Research Synthesis Methods 8, 79-91 (2017); the scale of the distribution:
   C. Röver et al., Research Synthesis Methods 12, 448-474 (2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import gamma, norm, t

from ...core.progress import Stop, check
from .atom_groups import KINDS
from .dispersion_evidence import DrawnPattern, ImageEvidence

RESAMPLES = 400
MEDIAN_FACTOR = 1.68
"""Variance of the median relative to that of the mean, of independent distances (Rayleigh's
distribution): 1 / (4 n f²) with f the density at the median, over (2 - π/2) / n."""
MIN_DISTANCES = 3.0
"""Effective number of distances below which there is no neighbour distance if they are those of
fewer than half of the atoms. Atoms whose neighbour may be beyond the edge do not count, so that a
close pair may be all that is left of few atoms."""
BETWEEN_IMAGES_SD = 0.5
"""Scale of the half-normal prior of the standard deviation of the logarithm of the density between
images."""
_EXTENT, _SHARES = 2, 3
"""Index of the extent, and of the first fraction, in the values of `_statistics`."""
_ROUNDING = 1e-12
"""Variance of a fraction that is due to the rounding of sums: the fraction is the same in all
resamples, as it is if all atoms are isolated."""
_BETWEEN_GRID = np.concatenate([[0.0], np.geomspace(0.02, 2.5, 40)])


@dataclass(frozen=True)
class Estimate:
    """An estimate and its interval; NaN where unknown."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True)
class IntervalEstimates:
    """The estimates of an image or of several; see `dispersion.DispersionStatistics`."""

    density: Estimate
    density_of_field: Estimate
    neighbour_mean: Estimate
    neighbour_median: Estimate
    group_extent: Estimate
    shares: dict[str, Estimate]


def estimate_intervals(
    evidence: tuple[ImageEvidence, ...],  # one per image; a stack counts once, as its mean frame
    level: float,
    seed: int,
    stop: Stop | None,
) -> IntervalEstimates:
    """Compute all estimates that have intervals."""
    expected = sum(e.expected for e in evidence)
    area = sum(e.area_nm2 for e in evidence)
    doubt = sum(e.doubt for e in evidence)
    resampled = _bootstrap_intervals(evidence, level, seed, stop)
    of_field = _detection_interval(expected, doubt, level)
    of_sample = _sample_interval(evidence, level)
    return IntervalEstimates(
        Estimate(expected / area, *(end / area for end in of_sample)),
        Estimate(expected / area, *(end / area for end in of_field)),
        resampled["mean"],
        resampled["median"],
        resampled["extent"],
        {kind: resampled[kind] for kind in KINDS},
    )


# ---- density
def _sample_interval(evidence: Sequence[ImageEvidence], level: float) -> tuple[float, float]:
    """Interval of the mean number of atoms on an equal area of the same sample.

    A mixture over the differences between images.
    """
    n, doubt = (sum(getattr(e, name) for e in evidence) for name in ("expected", "doubt"))
    tail = (1 - level) / 2
    factor, freedom = _variance_factor(evidence)
    variance = (n * factor + doubt) if n > 0 else factor
    variance *= (t.ppf(tail, freedom) / norm.ppf(tail)) ** 2 if np.isfinite(freedom) else 1.0
    difference, weight = _differences_between_images(evidence, factor)
    area = np.array([e.area_nm2 for e in evidence])
    squares = (n / area.sum()) ** 2 * float((area**2).sum())
    # The relative variance of a log-normal density.
    variances = variance + np.expm1(difference**2) * squares
    return _rate_interval(n, variances, weight, tail)


def _variance_factor(evidence: Sequence[ImageEvidence]) -> tuple[float, float]:
    """Variance of a count relative to Poisson, at least 1, and its degrees of freedom.

    Satterthwaite's rule; the Poisson part is known exactly.
    """
    freedom = sum(e.freedom for e in evidence)
    excess = sum(e.excess * e.freedom for e in evidence) / freedom
    factor = 1 + excess
    return factor, factor**2 / (excess**2 / freedom) if excess > 0 else np.inf


def _differences_between_images(
    evidence: Sequence[ImageEvidence], factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weigh the possible standard deviations of the log density between images.

    Posterior weights with an unknown mean density (flat prior). The logarithms of the counts are
    treated as normal, with the variance of chance plus that of the difference.
    """
    n = np.array([e.expected for e in evidence])
    if len(n) == 1 or not n.sum() > 0:
        return np.zeros(1), np.ones(1)
    # Half an atom more, because a count may be 0.
    density = np.log((n + 0.5) / [e.area_nm2 for e in evidence])
    chance = (factor * (n + 0.5) + [e.doubt for e in evidence]) / (n + 0.5) ** 2
    variance = chance + _BETWEEN_GRID[:, None] ** 2
    precision = (1 / variance).sum(axis=1)
    mean = (density / variance).sum(axis=1) / precision
    misfit = ((density - mean[:, None]) ** 2 / variance).sum(axis=1)
    log_weight = -(np.log(variance).sum(axis=1) + np.log(precision) + misfit) / 2
    log_weight -= (_BETWEEN_GRID / BETWEEN_IMAGES_SD) ** 2 / 2
    weight = np.exp(log_weight - log_weight.max()) * np.gradient(_BETWEEN_GRID)
    return _BETWEEN_GRID, weight / weight.sum()


def _rate_interval(
    n: float, variances: np.ndarray, weight: np.ndarray, tail: float
) -> tuple[float, float]:
    """Interval of the mean of a count n with one of the variances (V,), of the given weights.

    Quantiles of a mixture of gamma distributions, each for n / scale counts of size scale.
    """
    scale = variances / n if n > 0 else variances
    # Half a count more is Jeffreys' prior: mean coverage as stated, also for few atoms.
    shape = n / scale + 0.5

    def quantile(p: float) -> float:
        single = np.log(scale * gamma.ppf(p, shape))
        low, high = float(single.min()), float(single.max())
        if not high > low:
            return float(np.exp(high))
        found = brentq(lambda x: weight @ gamma.cdf(np.exp(x) / scale, shape) - p, low, high)
        return float(np.exp(found))

    return quantile(tail) if n > 0 else 0.0, quantile(1 - tail)


def _detection_interval(expected: float, doubt: float, level: float) -> tuple[float, float]:
    """Interval of the number of atoms in this field, a sum of independent Bernoulli variables."""
    half = float(norm.isf((1 - level) / 2) * np.sqrt(doubt))
    return max(0.0, expected - half), expected + half


# ---- distances and fractions
def _bootstrap_intervals(
    evidence: Sequence[ImageEvidence], level: float, seed: int, stop: Stop | None
) -> dict[str, Estimate]:
    """Intervals of the ``mean`` and ``median`` distance, ``extent``, and fraction of each kind."""
    draws = max(len(e.patterns) for e in evidence)
    drawn = [
        _statistics([(e.patterns[k % len(e.patterns)], None) for e in evidence])
        for k in range(draws)
    ]
    value, _ = _moments(drawn)
    _, variance = _moments(_resample(evidence, seed, stop))
    blocks, images = sum(e.blocks for e in evidence), len(evidence)
    if blocks <= images:
        variance = np.full_like(variance, np.nan)
    variance *= blocks / max(blocks - images, 1)  # Bessel's correction
    freedom, tail = max(blocks - images, 1), (1 - level) / 2
    quantile = float(t.isf(tail, freedom))
    n = sum(e.expected for e in evidence)
    found = {}
    effective, min_variance = _independent_distances(evidence)
    wider = float(t.isf(tail, np.clip(effective - 1, 1, freedom)))
    weights = np.concatenate([e.patterns[0].weight for e in evidence])
    most_count = 2 * np.count_nonzero(weights) >= len(weights)
    for i, (name, factor) in enumerate((("mean", 1.0), ("median", MEDIAN_FACTOR))):
        if effective < MIN_DISTANCES and not most_count:
            found[name] = Estimate()
            continue
        of = max(float(variance[i]), factor * min_variance)
        found[name] = _length_interval(float(value[i]), of, wider)
    of_extent = float(value[_EXTENT]), float(variance[_EXTENT])
    found["extent"] = _extent_interval(evidence, *of_extent, freedom, tail)
    for i, kind in enumerate(KINDS):
        min_size = max(2, KINDS[kind])  # atoms that are not isolated occur at least in pairs
        share = float(value[_SHARES + i]), float(variance[_SHARES + i])
        found[kind] = _share_interval(*share, n / min_size, quantile)
    return found


def _independent_distances(evidence: Sequence[ImageEvidence]) -> tuple[float, float]:
    """Effective number of the weighted distances, and the variance of the mean of independent ones.

    With few distances the block bootstrap underestimates this variance.
    """
    distance, weight = (
        np.concatenate([getattr(e.patterns[0], name) for e in evidence], dtype=float)
        for name in ("distance", "weight")
    )
    total = weight.sum()
    if total <= 0:
        return 0.0, np.nan
    effective = total**2 / (weight**2).sum()
    mean = weight @ distance / total
    variance = weight @ (distance - mean) ** 2 / total
    return float(effective), float(variance / max(effective - 1, 1))


def _extent_interval(
    evidence: Sequence[ImageEvidence], value: float, variance: float, freedom: int, tail: float
) -> Estimate:
    """Interval of the mean extent of groups of two or more atoms.

    At least as wide as for independent groups; without an interval if fewer than two groups are
    expected, and without a value if fewer than one is.
    """
    drawn = [(m, 1 / len(e.patterns)) for e in evidence for m in e.patterns]
    extent = np.concatenate([m.extent[m.size > 1] for m, _ in drawn], dtype=float)
    # The atoms of a group count as one.
    weight = np.concatenate([share / m.size[m.size > 1] for m, share in drawn])
    groups = float(weight.sum())
    if groups < 1 - 1e-9:
        return Estimate()
    if groups < 2 - 1e-9:
        return Estimate(value)
    scatter = float(weight @ (extent - weight @ extent / groups) ** 2 / groups)
    wider = float(t.isf(tail, np.clip(groups - 1, 1, freedom)))
    return _length_interval(value, max(variance, scatter / (groups - 1)), wider)


def _length_interval(value: float, variance: float, quantile: float) -> Estimate:
    if not (value > 0 and variance > 0):
        return Estimate(value)
    times = np.exp(quantile * np.sqrt(variance) / value)
    return Estimate(value, value / times, value * times)


def _share_interval(share: float, variance: float, max_n: float, quantile: float) -> Estimate:
    """Wilson's interval for the number of atoms that has this variance, at most ``max_n``.

    `ratios.wilson_interval` takes the normal quantile; here it is Student's.
    """
    if not np.isfinite(share) or max_n <= 0:
        return Estimate(share)
    effective = max_n
    if variance > _ROUNDING:
        effective = min(effective, share * (1 - share) / variance)
    z2 = quantile**2
    middle = (share * effective + z2 / 2) / (effective + z2)
    half = quantile / (effective + z2) * np.sqrt(max(share * (1 - share), 0) * effective + z2 / 4)
    # At shares of 0 and 1 the two terms are equal except for rounding.
    low = 0.0 if share <= 0 else float(max(0.0, middle - half))
    high = 1.0 if share >= 1 else float(min(1.0, middle + half))
    return Estimate(share, low, high)


def _resample(evidence: Sequence[ImageEvidence], seed: int, stop: Stop | None) -> list[np.ndarray]:
    """Compute `_statistics` of images and blocks drawn with replacement, `RESAMPLES` times."""
    rng, resamples = np.random.default_rng([seed, 2]), []
    n = len(evidence)
    for _ in range(RESAMPLES):
        check(stop)
        times = rng.multinomial(n, np.full(n, 1 / n))
        some = []
        for e, count in zip(evidence, times.tolist(), strict=True):
            if count:
                often = rng.multinomial(count * n * e.blocks, np.full(e.blocks, 1 / e.blocks))
                some.append((e.patterns[rng.integers(len(e.patterns))], often / n))
        resamples.append(_statistics(some))
    return resamples


def _moments(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the finite values in each column; NaN where there are none."""
    table = np.stack(rows)
    known = np.isfinite(table)
    count = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    mean = np.where(known, table, 0).sum(axis=0) / count
    return mean, np.where(known, (table - mean) ** 2, 0).sum(axis=0) / count


def _statistics(parts: Sequence[tuple[DrawnPattern, np.ndarray | None]]) -> np.ndarray:
    """Compute the mean and median distance, the mean extent, and the fraction of each kind.

    The result has shape (`_SHARES` + number of kinds,). Extents are those of groups of two or more
    atoms.
    """
    times = np.concatenate(
        [np.ones(len(m.block)) if often is None else often[m.block] for m, often in parts]
    )
    distance = np.concatenate([m.distance for m, _ in parts])
    weight = np.concatenate([m.weight for m, _ in parts]) * times
    size = np.concatenate([m.size for m, _ in parts])
    min_sizes = np.append(list(KINDS.values()), np.iinfo(np.int32).max)
    kind = np.searchsorted(min_sizes, size, side="right") - 1
    total, atoms = weight.sum(), times.sum()
    out = np.full(_SHARES + len(KINDS), np.nan)
    if total > 0:
        order = np.argsort(distance)
        summed = np.cumsum(weight[order])
        middle = np.searchsorted(summed, total / 2)
        out[:2] = weight @ distance / total, distance[order[min(middle, len(order) - 1)]]
    share = np.where(size > 1, times / np.maximum(size, 1), 0.0)
    if share.sum() > 0:
        out[_EXTENT] = share @ np.concatenate([m.extent for m, _ in parts]) / share.sum()
    if atoms > 0:
        out[_SHARES:] = np.bincount(kind, times, minlength=len(KINDS))[: len(KINDS)] / atoms
    return out
