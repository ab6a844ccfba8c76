"""How single atoms are spread over their support, of an image and of many, with intervals.

Two things make a figure uncertain, and its interval holds both:

*Detection.* Every candidate is an atom with its calibrated probability. Patterns are drawn in which
each is there or not, independently, those below the threshold too; a figure is the mean over them.
So the density is the sum of the probabilities over the area of the support, not the number of
atoms above a threshold; what is known to be missed by all candidates is added. This needs the
candidates: of the atoms above the threshold alone, one knows how many are false but not how many
are missing. It also needs probabilities that are true of this image: where they are those of images
with more atoms, the density comes out too high.

*Sampling.* Another place of the same sample would give other figures.

- Of the density, the variance of a count is that of a Poisson distribution times a factor, for
  clustered atoms scatter more. The factor is 1 + λ ∫ (g - 1) over the plane [1]_; what is taken is
  the larger of that up to half a block, from Ripley's K, and of the scatter of the counts between
  blocks (`BLOCKS` across): the former ends there, the latter loses the pairs that the edges of
  blocks part. The interval is that of as many independent counts as have this relative variance
  [2]_, with Student's quantile for how well the factor is known. It is never narrower than that of
  random atoms; of atoms that keep apart it is too wide.
- Of the density of several images, by how much they differ beyond chance is added. Two or three
  don't tell: their scatter alone gives intervals that are too narrow where it happens to be small
  and go over decades where it is not. So all differences that they allow are weighed, with a
  half-normal distribution before, of which half is below 34 % and nineteen in twenty below 98 %
  (`BETWEEN`), as is usual where few studies are pooled [4]_; the interval is that of the mixture.
  With some ten images these decide for themselves.
- Of distances and shares, by a *bootstrap of blocks* [3]_. Drawing atoms anew would put copies on
  each other, and drawing blocks and joining them would make neighbours that never were. So
  distances, weights and groups stay those of the pattern, and blocks of atoms are drawn with what
  belongs to them. Of several images, these are drawn first; their blocks are drawn as many times
  over as there are images, for then images that differ by chance alone are counted once
  (see `statistics.ratios`). The variance gives the interval: of a distance by Student's quantile
  on a logarithmic scale, and not less than that of independent distances; of a share by Wilson's
  form, so that "none was seen" does not mean "there are none". Atoms come in groups, so those of
  a kind that begins with k atoms are never worth more than one in k of them.

The interval of the *field* is of detection alone: what is known of the atoms that were really here.
The curves, the tests and the quadrats are those of the atoms at the operating point.

Frames of a stack show one place, perhaps the very same atoms: they are one image, whose figures are
means over its frames, with the intervals and envelopes of a single frame (`over_frames`).

No bootstrap knows how different an image that was not recorded would have been: with fewer than
about five images that differ by more than chance, intervals of distances and shares are too narrow.
Structure that is wider than a block is not seen in the scatter of one image either.

References
----------
.. [1] J. Illian, A. Penttinen, H. Stoyan and D. Stoyan, "Statistical Analysis and Modelling of
   Spatial Point Patterns", Wiley (2008), section 4.3.
.. [2] M. P. Fay and E. J. Feuer, "Confidence intervals for directly standardized rates", Statistics
   in Medicine 16, 791-801 (1997): a gamma distribution with the variance of the estimate.
.. [3] J. M. Loh, "A valid and fast spatial bootstrap for correlation functions", Astrophysical
   Journal 681, 726-734 (2008).
.. [4] T. Friede, C. Röver, S. Wandel and B. Neuenschwander, "Meta-analysis of few small studies in
   orphan diseases", Research Synthesis Methods 8, 79-91 (2017); the scale of the distribution:
   C. Röver et al., Research Synthesis Methods 12, 448-474 (2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import chi2, gamma, norm, t

from ..core.errors import AtomicityError
from ..core.progress import Progress, Stop, check
from . import point_patterns as patterns
from .atom_groups import KINDS, LINK_NM, link, sizes
from .point_patterns import AgainstRandomness, Curve, ObservationWindow, Quadrats

BLOCKS = 4
"""Blocks along the longer side of the support."""
DRAWS = 200
"""Patterns drawn by the probabilities, and"""
DRAWN_ATOMS = 200_000
"""how many atoms these may have together."""
RESAMPLES = 400
MEDIAN_FACTOR = 1.68
"""Variance of the median over that of the mean, of independent distances (Rayleigh's
distribution): 1 / (4 n f²) with f the density at the median, over (2 - π/2) / n."""
BETWEEN = 0.5
"""Scale of the half-normal distribution, before any image is seen, of the standard deviation by
which the logarithms of the densities of images differ."""
_SINGLE = "density: gamma; scatter within the image, detection"
_POOLED = (
    "density: gamma; scatter within images, detection, differences between images "
    f"(half-normal prior {BETWEEN:g})"
)
_DIFFERENCES = np.concatenate([[0.0], np.geomspace(0.02, 2.5, 40)])
ALL = "all"


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; NaN where it can't be known."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True, eq=False)
class _Marks:
    """What each atom of one drawn pattern carries: (N,) each."""

    distance: np.ndarray
    weight: np.ndarray
    size: np.ndarray
    block: np.ndarray


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Of one image, all that intervals of it and of a pool need.

    ``expected`` atoms, of which detection leaves ``doubt`` (a variance) open, on ``area_nm2``; by
    how much their number scatters more than Poisson's, ``excess`` in units of it, with its degrees
    of freedom; and the marks of each drawn pattern, in ``blocks`` blocks. Of a stack all this is of
    a mean one of its ``frames``.
    """

    expected: float
    doubt: float
    area_nm2: float
    excess: float
    freedom: int
    blocks: int
    marks: tuple[_Marks, ...]
    frames: int = 1


@dataclass(frozen=True, eq=False)
class DispersionStatistics:
    """The dispersion of the atoms of one image, or of several.

    Parameters
    ----------
    n_atoms
        Atoms at the operating point that lie on the support.
    n_off_support
        Those that don't: they count in nothing.
    n_expected
        Sum of the probabilities of the candidates on the support, over the share of the atoms that
        are among them; ``n_atoms`` without any.
    area_nm2
        Of the support. Like the numbers of atoms, of all frames of a stack together.
    density
        Atoms on a nm² of support, of the sample: detection and sampling. Of several images each
        counts once, as its mean frame.
    density_of_field
        The same of this very field: detection only.
    neighbour_mean, neighbour_median
        Distance to the nearest neighbour in nm, corrected for the edge.
    shares
        Kind of group (`statistics.atom_groups.KINDS`) → share of the atoms that belong to one.
    group_sizes
        Atoms of each group at the operating point.
    quadrats
        At the operating point; None of several images or frames.
    quadrat_index, quadrat_p, quadrat_freedom
        Index of dispersion over quadrats, how often random atoms are as far from 1, and the
        degrees of freedom of the index.
    randomness
        The curves and tests against complete spatial randomness; None of several images if none
        has two atoms.
    group_distance_nm, level
        At which atoms are linked; coverage of the intervals.
    images
        Number of images; a stack is one.
    """

    n_atoms: int
    n_off_support: int
    n_expected: float
    area_nm2: float
    density: Estimate
    density_of_field: Estimate
    neighbour_mean: Estimate
    neighbour_median: Estimate
    shares: dict[str, Estimate]
    group_sizes: np.ndarray
    quadrats: Quadrats | None
    quadrat_index: float
    quadrat_p: float
    quadrat_freedom: float
    randomness: AgainstRandomness | None
    group_distance_nm: float
    level: float
    images: int
    evidence: tuple[_Evidence, ...]

    @property
    def frames(self) -> int:
        """Number of frames; as many as images if none is a stack."""
        return sum(e.frames for e in self.evidence)

    @property
    def curves(self) -> dict[str, pd.DataFrame]:
        """Of each curve (``G``, ``neighbours``, ``L``, ``g``) the columns ``r_nm, observed,
        expected, low, high``: of the atoms, the mean of random ones, and their envelope."""
        return {name: _as_table(curve) for name, curve in self._curves.items()}

    @property
    def _curves(self) -> dict[str, Curve]:
        return {} if self.randomness is None else self.randomness.curves

    def row(self, image: str = ALL) -> dict[str, Any]:
        """A row of ``dispersion.csv``, with units in the names; NaN where nothing is known."""
        tests = self.randomness
        p = {name: curve.p for name, curve in self._curves.items()}
        edge = np.nan
        if self.quadrats is not None:
            edge = float(np.diff(self.quadrats.edges_y_nm[:2])[0])
        chance = np.exp(-np.pi * self.density.value * self.group_distance_nm**2)
        row: dict[str, Any] = {
            "image": image,
            "n_atoms": self.n_atoms,
            "n_atoms_expected": self.n_expected,
            "n_off_support": self.n_off_support,
            "support_nm2": self.area_nm2,
            "density_per_nm2": self.density.value,
            "density_low_per_nm2": self.density.low,
            "density_high_per_nm2": self.density.high,
            "density_of_field_low_per_nm2": self.density_of_field.low,
            "density_of_field_high_per_nm2": self.density_of_field.high,
        }
        for name, of in (("mean", self.neighbour_mean), ("median", self.neighbour_median)):
            row[f"nearest_neighbour_{name}_nm"] = of.value
            row[f"nearest_neighbour_{name}_low_nm"] = of.low
            row[f"nearest_neighbour_{name}_high_nm"] = of.high
        row |= {
            "clark_evans": np.nan if tests is None else tests.clark_evans,
            "clark_evans_p": np.nan if tests is None else tests.clark_evans_p,
            "nearest_neighbour_p": p.get("G", np.nan),
            "pair_correlation_p": p.get("g", np.nan),
            "ripley_l_p": p.get("L", np.nan),
            "quadrat_index": self.quadrat_index,
            "quadrat_p": self.quadrat_p,
            "quadrat_nm": edge,
        }
        for kind, share in self.shares.items():
            row[f"share_{kind}"] = share.value
            row[f"share_{kind}_low"], row[f"share_{kind}_high"] = share.low, share.high
        row |= {
            "share_isolated_if_random": float(chance),
            "groups": len(self.group_sizes),
            "group_size_mean": float(self.group_sizes.mean()) if len(self.group_sizes) else np.nan,
            "group_size_max": int(self.group_sizes.max(initial=0)),
            "group_distance_nm": self.group_distance_nm,
            "level": self.level,
            "images": self.images,
            "frames": self.frames,
            "method": _SINGLE if self.images == 1 else _POOLED,
        }
        return row


def _as_table(curve: Curve) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "r_nm": curve.r_nm,
            "observed": curve.observed,
            "expected": curve.expected,
            "low": curve.low,
            "high": curve.high,
        }
    )


def dispersion(
    points_nm: np.ndarray,
    mask: np.ndarray,
    pixel_size_nm: float,
    probabilities: np.ndarray | None = None,
    candidates_nm: np.ndarray | None = None,
    candidate_probabilities: np.ndarray | None = None,
    candidate_recall: float = 1.0,
    group_distance_nm: float = LINK_NM,
    simulations: int = 199,
    seed: int = 0,
    level: float = 0.95,
    largest_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> DispersionStatistics:
    """The dispersion of the atoms of an image.

    Parameters
    ----------
    points_nm
        (N, 2) atoms at the operating point, (y, x). Those off the support are left out.
    mask, pixel_size_nm
        (Y, X) the support and its sampling.
    probabilities
        (N,) calibrated, of the atoms; certain if None, or where NaN: a person has set these. Not
        used where candidates are given.
    candidates_nm, candidate_probabilities
        (M, 2) and (M,) of all candidates, the atoms among them and those below the threshold too.
        Without them, atoms that were missed are missing in every figure.
    candidate_recall
        Share of all atoms that are among the candidates; the density makes up for the others, and
        its intervals for their being unknown. Distances and groups can't.
    group_distance_nm
        Atoms no further apart than this are linked.
    simulations
        Random patterns for the tests; none if 0.
    seed
        Of all random numbers.
    level
        Coverage of the intervals.
    largest_nm
        Up to which distance the curves go: see `point_patterns.against_randomness`.
    progress, stop
        Called between simulations and draws.

    Returns
    -------
    Dispersion

    Raises
    ------
    AtomicityError
        If the mask has no support, shapes don't fit, positions are not finite, or probabilities or
        the recall are not between 0 and 1.
    Cancelled
        If ``stop()`` is true.
    """
    if not 0 < candidate_recall <= 1:
        raise AtomicityError(f"a recall of {candidate_recall:g} does not lie between 0 and 1")
    window = ObservationWindow(mask, pixel_size_nm)
    points = patterns.checked(points_nm)
    inside = window.contains(points)
    probable, p = _candidates(points, probabilities, candidates_nm, candidate_probabilities, window)
    points, off = points[inside], int(np.count_nonzero(~inside))
    tests = patterns.against_randomness(
        points, window, simulations, seed, level, largest_nm=largest_nm, progress=progress,
        stop=stop,
    )  # fmt: skip
    quadrats = patterns.quadrat_counts(points, window)
    evidence = _evidence(probable, p, candidate_recall, window, group_distance_nm, seed, stop)
    return DispersionStatistics(
        n_atoms=len(points),
        n_off_support=off,
        group_sizes=sizes(link(points, group_distance_nm)[0]),
        quadrats=quadrats,
        quadrat_index=quadrats.index,
        quadrat_p=patterns.quadrat_p(quadrats, seed=seed),
        quadrat_freedom=float(quadrats.used.sum() - 1),
        randomness=tests,
        group_distance_nm=group_distance_nm,
        **_estimates((evidence,), level, seed, stop),
    )


def pooled(
    parts: Sequence[DispersionStatistics], seed: int = 0, stop: Stop | None = None
) -> DispersionStatistics:
    """The dispersion of several images together; that of one is that image's.

    Parameters
    ----------
    parts
        Of one image each, found with different seeds: random patterns that all have in common
        would not average out.
    seed
        Of the bootstrap.
    stop
        Asked between resamples.

    Raises
    ------
    AtomicityError
        If there are none, or they were linked at different distances or have other levels.
    Cancelled
        If ``stop()`` is true.
    """
    _check_alike(parts)
    if len(parts) == 1:
        return parts[0]
    return _together(parts, tuple(e for q in parts for e in q.evidence), seed, stop)


def over_frames(
    parts: Sequence[DispersionStatistics], seed: int = 0, stop: Stop | None = None
) -> DispersionStatistics:
    """The dispersion of an image that is a stack; that of one frame is that frame's.

    Parameters
    ----------
    parts
        Of one frame each.
    seed, stop
        As of `pooled`.

    Returns
    -------
    Dispersion
        Of one image. The same atoms may be in all frames, so that more of them tell nothing more
        of the sample: figures are means over the frames, and intervals and envelopes those of a
        single one.

    Raises
    ------
    AtomicityError, Cancelled
        As `pooled`.
    """
    _check_alike(parts)
    if len(parts) == 1:
        return parts[0]
    mean = _mean_frame([e for q in parts for e in q.evidence])
    return _together(parts, (mean,), seed, stop, same_place=True)


def _check_alike(parts: Sequence[DispersionStatistics]) -> None:
    if not parts:
        raise AtomicityError("there is no image whose atoms could be pooled")
    if len({(part.group_distance_nm, part.level) for part in parts}) > 1:
        raise AtomicityError(
            "atoms linked at different distances can't be pooled",
            advice="Analyse all images with the same settings",
        )


def _together(
    parts: Sequence[DispersionStatistics],
    evidence: tuple[_Evidence, ...],
    seed: int,
    stop: Stop | None,
    same_place: bool = False,
) -> DispersionStatistics:
    index, p, freedom = _pooled_quadrats(parts, same_place)
    tests = [q.randomness for q in parts if q.randomness is not None]
    return DispersionStatistics(
        n_atoms=sum(part.n_atoms for part in parts),
        n_off_support=sum(part.n_off_support for part in parts),
        group_sizes=np.concatenate([part.group_sizes for part in parts]),
        quadrats=None,
        quadrat_index=index,
        quadrat_p=p,
        quadrat_freedom=freedom,
        randomness=patterns.pooled(tests, same_place),
        group_distance_nm=parts[0].group_distance_nm,
        **_estimates(evidence, parts[0].level, seed, stop),
    )


def _pooled_quadrats(
    parts: Sequence[DispersionStatistics], same_place: bool
) -> tuple[float, float, float]:
    """Index over the quadrats of all images, each at its own density, its χ² p value, and its
    degrees of freedom: of frames of one place, as many as a mean frame has."""
    known = [q for q in parts if np.isfinite(q.quadrat_index)]
    freedom = sum(q.quadrat_freedom for q in known)
    if not freedom:
        return np.nan, np.nan, 0.0
    index = sum(q.quadrat_index * q.quadrat_freedom for q in known) / freedom
    freedom /= len(known) if same_place else 1
    tail = min(chi2.cdf(index * freedom, freedom), chi2.sf(index * freedom, freedom))
    return float(index), float(min(1.0, 2 * tail)), float(freedom)


# ---- what is known of one image
def _candidates(
    points: np.ndarray,
    probabilities: np.ndarray | None,
    candidates_nm: np.ndarray | None,
    candidate_probabilities: np.ndarray | None,
    window: ObservationWindow,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (M, 2) on the support that may hold an atom, and their probabilities (M,)."""
    if (candidates_nm is None) != (candidate_probabilities is None):
        raise AtomicityError("candidates come with their probabilities, and the other way round")
    if candidates_nm is not None:
        points, probabilities = patterns.checked(candidates_nm), candidate_probabilities
    p = np.ones(len(points)) if probabilities is None else np.asarray(probabilities, float)
    if p.shape != (len(points),):
        raise AtomicityError(f"there are {len(points)} positions and {p.size} probabilities")
    p = np.where(np.isnan(p), 1.0, p)
    if not ((p >= 0) & (p <= 1)).all():
        raise AtomicityError("probabilities of atoms lie between 0 and 1")
    inside = window.contains(points)
    return points[inside], p[inside]


def _evidence(
    points: np.ndarray,
    p: np.ndarray,
    recall: float,
    window: ObservationWindow,
    group_distance_nm: float,
    seed: int,
    stop: Stop | None,
) -> _Evidence:
    rng = np.random.default_rng([seed, 1])
    blocks = patterns.quadrat_counts(points, window, BLOCKS, weights=p)
    block = _block_of(points, blocks)
    doubt = float((p * (1 - p)).sum())
    draws = int(np.clip(DRAWN_ATOMS / max(p.sum(), 1), 20, DRAWS)) if doubt > 0 else 1
    marks = []
    for _ in range(draws):
        check(stop)
        there = rng.random(len(p)) < p
        marks.append(_marks(points[there], block[there], window, group_distance_nm))
    missed = float(p.sum()) * (1 - recall)
    return _Evidence(
        float(p.sum()) / recall,
        (doubt + missed) / recall**2,
        window.area_nm2,
        _excess(points, p, window, blocks),
        max(1, int(blocks.used.sum()) - 1),
        int(blocks.used.sum()),
        tuple(marks),
    )


def _mean_frame(frames: Sequence[_Evidence]) -> _Evidence:
    """What a single frame tells, from several of one place; the drawn patterns are of each in
    turn, at most as many as of one image or one a frame."""
    means = {
        name: float(np.mean([getattr(e, name) for e in frames]))
        for name in ("expected", "doubt", "area_nm2", "excess")
    }
    drawn = chain.from_iterable(zip_longest(*(e.marks for e in frames)))
    return _Evidence(
        **means,
        freedom=min(e.freedom for e in frames),
        blocks=max(e.blocks for e in frames),
        marks=tuple(m for m in drawn if m is not None)[: max(DRAWS, len(frames))],
        frames=len(frames),
    )


def _excess(
    points: np.ndarray, p: np.ndarray, window: ObservationWindow, blocks: Quadrats
) -> float:
    """Variance of the number of atoms over that of Poisson's, minus 1; at least 0."""
    half = float(np.diff(blocks.edges_y_nm[:2])[0]) / 2
    k = patterns.ripley_k(points, window, np.array([half]), weights=p)[0]
    from_pairs = p.sum() / window.area_nm2 * (k - np.pi * half**2)
    return float(np.nanmax([0.0, blocks.index - 1, from_pairs]))


def _block_of(points: np.ndarray, blocks: Quadrats) -> np.ndarray:
    """(N,) number of the block that each atom is drawn with, 0 to ``blocks.used.sum()`` - 1.

    Blocks with little support go with the nearest one that has enough.
    """
    y, x = ((edges[1:] + edges[:-1]) / 2 for edges in (blocks.edges_y_nm, blocks.edges_x_nm))
    centre = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    used = np.flatnonzero(blocks.used)
    apart = np.linalg.norm(centre[:, None] - centre[None, used], axis=2)
    return np.asarray(apart.argmin(axis=1)[blocks.of(points)])


def _marks(
    points: np.ndarray, block: np.ndarray, window: ObservationWindow, group_distance_nm: float
) -> _Marks:
    distance = patterns.nearest_neighbours(points)
    weight = patterns.neighbour_weights(points, distance, window)
    size = link(points, group_distance_nm)[1]
    return _Marks(
        np.nan_to_num(distance).astype(np.float32),
        weight.astype(np.float32),
        size.astype(np.int32),
        block.astype(np.int16),
    )


# ---- estimates and intervals
def _estimates(
    evidence: tuple[_Evidence, ...], level: float, seed: int, stop: Stop | None
) -> dict[str, Any]:
    """The fields of `DispersionStatistics` that have intervals."""
    # A stack counts once, as its mean frame.
    expected = sum(e.expected for e in evidence)
    area = sum(e.area_nm2 for e in evidence)
    doubt = sum(e.doubt for e in evidence)
    found = _intervals(evidence, level, seed, stop)
    here = _count_interval(expected, doubt, level)
    density = _expected_interval(evidence, level)
    return {
        "n_expected": sum(e.expected * e.frames for e in evidence),
        "area_nm2": sum(e.area_nm2 * e.frames for e in evidence),
        "density": Estimate(expected / area, *(end / area for end in density)),
        "density_of_field": Estimate(expected / area, *(end / area for end in here)),
        "neighbour_mean": found["mean"],
        "neighbour_median": found["median"],
        "shares": {kind: found[kind] for kind in KINDS},
        "level": level,
        "images": len(evidence),
        "evidence": evidence,
    }


def _expected_interval(evidence: Sequence[_Evidence], level: float) -> tuple[float, float]:
    """Interval of the mean number of atoms on as much of the same sample: a mixture over how much
    images may differ."""
    n, doubt = (sum(getattr(e, name) for e in evidence) for name in ("expected", "doubt"))
    tail = (1 - level) / 2
    factor, freedom = _scatter(evidence)
    variance = (n * factor + doubt) if n > 0 else factor
    variance *= (t.ppf(tail, freedom) / norm.ppf(tail)) ** 2 if np.isfinite(freedom) else 1.0
    difference, weight = _differences(evidence, factor)
    area = np.array([e.area_nm2 for e in evidence])
    squares = (n / area.sum()) ** 2 * float((area**2).sum())
    # Of densities whose logarithms are normal, this is the relative variance.
    variances = variance + np.expm1(difference**2) * squares
    return _rate_interval(n, variances, weight, tail)


def _scatter(evidence: Sequence[_Evidence]) -> tuple[float, float]:
    """By how much counts of an image scatter more than Poisson's, at least 1, and its degrees of
    freedom by Satterthwaite's rule, Poisson's part being known exactly."""
    freedom = sum(e.freedom for e in evidence)
    excess = sum(e.excess * e.freedom for e in evidence) / freedom
    factor = 1 + excess
    return factor, factor**2 / (excess**2 / freedom) if excess > 0 else np.inf


def _differences(evidence: Sequence[_Evidence], factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of the logarithm of the density between images, and their weights.

    Posterior weights, the mean density being unknown (with a flat distribution): the logarithms of
    the counts are taken to be normal, of a variance that is chance and difference together.
    """
    n = np.array([e.expected for e in evidence])
    if len(n) == 1 or not n.sum() > 0:
        return np.zeros(1), np.ones(1)
    density = np.log((n + 0.5) / [e.area_nm2 for e in evidence])  # half an atom more: none occurs
    chance = (factor * (n + 0.5) + [e.doubt for e in evidence]) / (n + 0.5) ** 2
    variance = chance + _DIFFERENCES[:, None] ** 2
    precision = (1 / variance).sum(axis=1)
    mean = (density / variance).sum(axis=1) / precision
    misfit = ((density - mean[:, None]) ** 2 / variance).sum(axis=1)
    log_weight = -(np.log(variance).sum(axis=1) + np.log(precision) + misfit) / 2
    log_weight -= (_DIFFERENCES / BETWEEN) ** 2 / 2
    weight = np.exp(log_weight - log_weight.max()) * np.gradient(_DIFFERENCES)
    return _DIFFERENCES, weight / weight.sum()


def _rate_interval(
    n: float, variances: np.ndarray, weight: np.ndarray, tail: float
) -> tuple[float, float]:
    """Interval of the mean of a count n that has one of these variances, (V,) with their weights:
    of a mixture of gamma distributions, each that of n / scale counts worth scale."""
    scale = variances / n if n > 0 else variances
    # Half a count more is Jeffreys' prior: it covers as stated on average, also of few atoms.
    shape = n / scale + 0.5

    def quantile(p: float) -> float:
        single = np.log(scale * gamma.ppf(p, shape))
        low, high = float(single.min()), float(single.max())
        if not high > low:
            return float(np.exp(high))
        found = brentq(lambda x: weight @ gamma.cdf(np.exp(x) / scale, shape) - p, low, high)
        return float(np.exp(found))

    return quantile(tail) if n > 0 else 0.0, quantile(1 - tail)


def _count_interval(expected: float, doubt: float, level: float) -> tuple[float, float]:
    """Interval of the number of atoms that are there, a sum of independent yes and no."""
    half = float(norm.isf((1 - level) / 2) * np.sqrt(doubt))
    return max(0.0, expected - half), expected + half


def _intervals(
    evidence: Sequence[_Evidence], level: float, seed: int, stop: Stop | None
) -> dict[str, Estimate]:
    """Of ``mean`` and ``median`` distance, and of the share of each kind."""
    draws = max(len(e.marks) for e in evidence)
    drawn = [
        _statistics([(e.marks[k % len(e.marks)], None) for e in evidence]) for k in range(draws)
    ]
    value, _ = _moments(drawn)
    _, variance = _moments(_resampled(evidence, seed, stop))
    blocks, images = sum(e.blocks for e in evidence), len(evidence)
    if blocks <= images:
        variance = np.full_like(variance, np.nan)
    variance *= blocks / max(blocks - images, 1)  # as of any sample, by drawing from itself
    freedom, tail = max(blocks - images, 1), (1 - level) / 2
    quantile = float(t.isf(tail, freedom))
    n = sum(e.expected for e in evidence)
    found = {}
    worth, least_variance = _independent(evidence)
    wider = float(t.isf(tail, np.clip(worth - 1, 1, freedom)))
    for i, (name, factor) in enumerate((("mean", 1.0), ("median", MEDIAN_FACTOR))):
        of = max(float(variance[i]), factor * least_variance)
        found[name] = _length_interval(float(value[i]), of, wider)
    for i, kind in enumerate(KINDS):
        least = max(2, KINDS[kind])  # what is not isolated comes in twos at least
        share = float(value[2 + i]), float(variance[2 + i])
        found[kind] = _share_interval(*share, n, least, quantile)
    return found


def _independent(evidence: Sequence[_Evidence]) -> tuple[float, float]:
    """How many distances to neighbours the weighted ones are worth, and the variance of their mean
    if they were independent: with few of them, drawing blocks finds less."""
    distance, weight = (
        np.concatenate([getattr(e.marks[0], name) for e in evidence], dtype=float)
        for name in ("distance", "weight")
    )
    total = weight.sum()
    if total <= 0:
        return 0.0, np.nan
    worth = total**2 / (weight**2).sum()
    mean = weight @ distance / total
    spread = weight @ (distance - mean) ** 2 / total
    return float(worth), float(spread / max(worth - 1, 1))


def _length_interval(value: float, variance: float, quantile: float) -> Estimate:
    if not (value > 0 and variance > 0):
        return Estimate(value)
    times = np.exp(quantile * np.sqrt(variance) / value)
    return Estimate(value, value / times, value * times)


def _share_interval(
    share: float, variance: float, n: float, least: int, quantile: float
) -> Estimate:
    """Wilson's, for as many atoms as have this variance, at most one in ``least`` of n."""
    if not np.isfinite(share) or n <= 0:
        return Estimate(share)
    worth = n / least
    if variance > 0:
        worth = min(worth, share * (1 - share) / variance)
    z2 = quantile**2
    middle = (share * worth + z2 / 2) / (worth + z2)
    half = quantile / (worth + z2) * np.sqrt(max(share * (1 - share), 0) * worth + z2 / 4)
    # Of none or all of them, the two terms are equal but for rounding.
    low = 0.0 if share <= 0 else float(max(0.0, middle - half))
    high = 1.0 if share >= 1 else float(min(1.0, middle + half))
    return Estimate(share, low, high)


def _resampled(evidence: Sequence[_Evidence], seed: int, stop: Stop | None) -> list[np.ndarray]:
    """`_statistics` of images and their blocks drawn with replacement, `RESAMPLES` times."""
    rng, resamples = np.random.default_rng([seed, 2]), []
    n = len(evidence)
    for _ in range(RESAMPLES):
        check(stop)
        times = rng.multinomial(n, np.full(n, 1 / n))
        some = []
        for e, count in zip(evidence, times.tolist(), strict=True):
            if count:
                often = rng.multinomial(count * n * e.blocks, np.full(e.blocks, 1 / e.blocks))
                some.append((e.marks[rng.integers(len(e.marks))], often / n))
        resamples.append(_statistics(some))
    return resamples


def _moments(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each column, of what is known in it; NaN where nothing is."""
    table = np.stack(rows)
    known = np.isfinite(table)
    count = np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    mean = np.where(known, table, 0).sum(axis=0) / count
    return mean, np.where(known, (table - mean) ** 2, 0).sum(axis=0) / count


def _statistics(parts: Sequence[tuple[_Marks, np.ndarray | None]]) -> np.ndarray:
    """Mean and median distance to the nearest neighbour, and the share of atoms of each kind.

    Parameters
    ----------
    parts
        Of each image its marks and how often each block counts (once if None).
    """
    times = np.concatenate(
        [np.ones(len(m.block)) if often is None else often[m.block] for m, often in parts]
    )
    distance = np.concatenate([m.distance for m, _ in parts])
    weight = np.concatenate([m.weight for m, _ in parts]) * times
    size = np.concatenate([m.size for m, _ in parts])
    least = np.append(list(KINDS.values()), np.iinfo(np.int32).max)
    kind = np.searchsorted(least, size, side="right") - 1
    total, atoms = weight.sum(), times.sum()
    out = np.full(2 + len(KINDS), np.nan)
    if total > 0:
        order = np.argsort(distance)
        summed = np.cumsum(weight[order])
        middle = np.searchsorted(summed, total / 2)
        out[:2] = weight @ distance / total, distance[order[min(middle, len(order) - 1)]]
    if atoms > 0:
        out[2:] = np.bincount(kind, times, minlength=len(KINDS))[: len(KINDS)] / atoms
    return out
