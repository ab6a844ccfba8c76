"""Dispersion of single atoms on their support, of one image and of several, with intervals.

Two sources of uncertainty enter each interval:

*Detection.* Every candidate is an atom with its calibrated probability. Estimates are means over
patterns drawn from these probabilities (`dispersion_evidence`). So the density is the sum of the
probabilities divided by the area of the support, not the number of atoms above a threshold; atoms
known to be missing from the candidates are added. This requires the candidates: the atoms above
the threshold show how many of them are false, but not how many are missing. It also requires
probabilities that are calibrated for this image: if they come from images with more atoms, the
density is too high.

*Sampling.* Another place of the same sample would give other figures; see `dispersion_intervals`.

The interval of the *field* includes detection only: it concerns the atoms actually present here.
The curves, the tests and the quadrats use the atoms at the operating point.

Frames of a stack show one place, perhaps the same atoms. They count as one image, whose estimates
are means over its frames, with the intervals and envelopes of a single frame (`pool_frames`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...core.errors import AtomicityError
from ...core.progress import Progress, Stop, check, report
from ...core.settings import GROUP_DISTANCE_NM
from .atom_groups import extents, link, sizes
from .dispersion_evidence import Candidates, ImageEvidence, average_frames, gather_evidence
from .dispersion_intervals import BETWEEN_IMAGES_SD, Estimate, estimate_intervals
from .nearest_neighbours import cumulative_fraction, hanisch_weights, nearest_neighbours
from .pair_correlation import PairSums, max_distance_nm, stoyan_bandwidth_nm
from .quadrats import (
    Quadrats,
    SummaryCurve,
    count_quadrats,
    quadrat_p_value,
    two_sided_chi2_p_value,
    two_sided_p_value,
)
from .windows import ObservationWindow, check_points

# ---- tests of a point pattern against complete spatial randomness
#
# *Randomness* means the same number of points, independent and uniform on the support. Summary
# functions (G, L, g) get global envelopes (`envelopes`), and the index of Clark and Evans [1]_ gets
# a Monte Carlo p value. The random patterns lie on the same support, so its shape does not matter.
#
# References
# ----------
# .. [1] P. J. Clark and F. C. Evans, "Distance to nearest neighbor as a measure of spatial
#    relationships in populations", Ecology 35, 445-453 (1954).

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
    tests: Sequence[RandomnessTest], same_place: bool = False
) -> RandomnessTest | None:
    """Pool the tests of several supports, each against randomness at its own density.

    The fraction of points with a neighbour within r is averaged with the number of points as
    weight, K and g with the number of pairs, over distances that all tests include; ``neighbours``
    over all distances, since hardly any random point has its neighbour beyond those of its test.
    The i-th random patterns of all tests form the i-th pooled one, so the tests must use different
    seeds.

    Parameters
    ----------
    same_place : bool
        Whether the tests are of frames of one place, which may show the same points repeatedly.
        Then the pooled random patterns scatter as much as those of a single frame, and ``n`` is
        the mean over frames.

    Returns
    -------
    RandomnessTest or None
        Pool of the tests that have at least two points and simulations; None if there are none.
    """
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


ALL = "all"
_SINGLE = "density: gamma; scatter within the image, detection"
_POOLED = (
    "density: gamma; scatter within images, detection, differences between images "
    f"(half-normal prior {BETWEEN_IMAGES_SD:g})"
)


@dataclass(frozen=True, eq=False)
class DispersionStatistics:
    """The dispersion of the atoms of one image, or of several."""

    # number of atoms on the support at the operating point. This and the other numbers, and the
    # area, are sums over the frames of a stack; of several images, a stack counts once, as its mean
    # frame
    n_atoms: int
    n_off_support: int  # number of atoms outside the support, which are omitted from all estimates
    # sum of the probabilities of the candidates on the support, divided by the fraction of the
    # atoms that are among them; ``n_atoms`` without candidates
    n_expected: float
    area_nm2: float  # area of the support in nm²
    # atoms per nm² of support in the sample: detection and sampling. Each image counts once, a
    # stack as its mean frame
    density: Estimate
    density_of_field: Estimate  # atoms per nm² of support in this field: detection only
    # neighbour_mean, neighbour_median: nearest-neighbour distance in nm, edge-corrected
    neighbour_mean: Estimate
    neighbour_median: Estimate
    # kind of group (`statistics.points.atom_groups.KINDS`) to the fraction of atoms in such groups
    shares: dict[str, Estimate]
    # mean of the largest distance between two atoms of a group in nm, over groups of two or more
    # atoms
    group_extent: Estimate
    group_sizes: np.ndarray  # number of atoms of each group at the operating point
    # largest distance between two atoms of each group in nm; 0 for isolated atoms
    group_extents_nm: np.ndarray
    group_weights: np.ndarray  # how often each group counts; less than 1 in stacks among images
    # quadrat counts at the operating point; None for several images or frames
    quadrats: Quadrats | None
    # quadrat_index, quadrat_p, quadrat_freedom: index of dispersion over quadrats, its p value, and
    # its degrees of freedom
    quadrat_index: float
    quadrat_p: float
    quadrat_freedom: float
    # curves and tests against complete spatial randomness; None for several images if none of them
    # has two atoms
    randomness: RandomnessTest | None
    group_distance_nm: float  # maximum distance in nm of linked atoms
    level: float  # coverage of the intervals
    images: int  # number of images; a stack is one
    evidence: tuple[ImageEvidence, ...]  # evidence of each image, for pooling

    @property
    def frames(self) -> int:
        """Number of frames; the number of images if none is a stack."""
        return sum(e.frames for e in self.evidence)

    @property
    def curves(self) -> dict[str, pd.DataFrame]:
        """Table of each curve (``G``, ``neighbours``, ``L``, ``g``).

        Columns ``r_nm, observed, expected, low, high``: the atoms, the mean of the random
        patterns, and their envelope.
        """
        return {name: _as_table(curve) for name, curve in self._curves.items()}

    @property
    def _curves(self) -> dict[str, SummaryCurve]:
        return {} if self.randomness is None else self.randomness.curves

    def row(self, image: str = ALL) -> dict[str, Any]:
        """Return a row of ``dispersion.csv``, with units in the names; NaN where unknown."""
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
            "density_counted_per_nm2": self.n_atoms / self.area_nm2,
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
        extent, groups = self.group_extents_nm[self.group_sizes > 1], self.group_weights.sum()
        row |= {
            "share_isolated_if_random": float(chance),
            "groups": round(groups),
            "group_size_mean": float(self.group_sizes @ self.group_weights / groups)
            if groups
            else np.nan,
            "group_size_max": int(self.group_sizes.max(initial=0)),
            "group_extent_mean_nm": self.group_extent.value,
            "group_extent_mean_low_nm": self.group_extent.low,
            "group_extent_mean_high_nm": self.group_extent.high,
            "group_extent_max_nm": float(extent.max()) if len(extent) else np.nan,
            "group_distance_nm": self.group_distance_nm,
            "level": self.level,
            "images": self.images,
            "frames": self.frames,
            "method": _SINGLE if self.images == 1 else _POOLED,
        }
        return row


def _as_table(curve: SummaryCurve) -> pd.DataFrame:
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
    # (N, 2): atoms (y, x) at the operating point, in nm. Those outside the support are omitted.
    points_nm: np.ndarray,
    mask: np.ndarray,  # (Y, X), bool: the support
    pixel_size_nm: float,  # edge length of a pixel of the mask in nm
    # (N,): calibrated probabilities of the atoms, if there are no candidates; None or NaN is
    # certain
    probabilities: np.ndarray | None = None,
    # candidates_nm (M, 2) and candidate_probabilities (M,): atoms and candidates below the
    # threshold. Without them missed atoms are ignored.
    candidates_nm: np.ndarray | None = None,
    candidate_probabilities: np.ndarray | None = None,
    # Fraction of all atoms among the candidates. It corrects the density only.
    candidate_recall: float = 1.0,
    group_distance_nm: float = GROUP_DISTANCE_NM,  # maximum distance in nm of linked atoms
    # simulations, seed, level, largest_nm: see `dispersion.compare_with_randomness`; ``level`` is
    # also the coverage of the intervals
    simulations: int = 199,
    seed: int = 0,
    level: float = 0.95,
    largest_nm: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> DispersionStatistics:
    """Estimate the dispersion of the atoms of an image.

    Raises `AtomicityError` if an argument is invalid, or ``stop()`` is true.
    """
    window, points = ObservationWindow(mask, pixel_size_nm), check_points(points_nm)
    candidates = _choose_candidates(
        window, (points, probabilities), (candidates_nm, candidate_probabilities), candidate_recall
    )
    tests = compare_with_randomness(
        points, window, simulations, seed, level, 64, largest_nm, progress, stop
    )
    fields = _groups_and_quadrats(points, window, group_distance_nm, seed)
    evidence = (gather_evidence(candidates, window, group_distance_nm, seed, stop),)
    fields |= _estimates(evidence, level, seed, stop)
    return DispersionStatistics(randomness=tests, **fields)


_Weighted = tuple[np.ndarray | None, np.ndarray | None]


def _choose_candidates(
    window: ObservationWindow, atoms: _Weighted, candidates: _Weighted, recall: float
) -> Candidates:
    """Check the candidates, or the atoms without any; positions and probabilities of each."""
    if not 0 < recall <= 1:
        raise AtomicityError(f"a recall of {recall:g} is not between 0 and 1")
    if (candidates[0] is None) != (candidates[1] is None):
        raise AtomicityError("candidates and their probabilities must be given together")
    points, probabilities = atoms if candidates[0] is None else candidates
    assert points is not None
    return Candidates.on_support(window, points, probabilities, recall)


def _groups_and_quadrats(
    points: np.ndarray, window: ObservationWindow, group_distance_nm: float, seed: int
) -> dict[str, Any]:
    """Compute the fields of `DispersionStatistics` of the groups and quadrats of an image."""
    inside = window.contains(points)
    quadrats = count_quadrats(points, window)
    group_id, _ = link(points[inside], group_distance_nm)
    return {
        "n_atoms": int(np.count_nonzero(inside)),
        "n_off_support": int(np.count_nonzero(~inside)),
        "group_sizes": sizes(group_id),
        "group_extents_nm": extents(points[inside], group_id),
        "group_weights": np.ones(len(sizes(group_id))),
        "group_distance_nm": group_distance_nm,
        "quadrats": quadrats,
        "quadrat_index": quadrats.index,
        "quadrat_p": quadrat_p_value(quadrats, seed=seed),
        "quadrat_freedom": float(quadrats.used.sum() - 1),
    }


def _estimates(
    evidence: tuple[ImageEvidence, ...], level: float, seed: int, stop: Stop | None
) -> dict[str, Any]:
    """Compute the fields of `DispersionStatistics` that depend on the evidence alone."""
    times = evidence[0].frames if len(evidence) == 1 else 1
    return {
        "n_expected": times * sum(e.expected for e in evidence),
        "area_nm2": times * sum(e.area_nm2 for e in evidence),
        **vars(estimate_intervals(evidence, level, seed, stop)),
        "level": level,
        "images": len(evidence),
        "evidence": evidence,
    }


def pool_images(
    parts: Sequence[DispersionStatistics], seed: int = 0, stop: Stop | None = None
) -> DispersionStatistics:
    """Pool the dispersion of several images; a single image is returned unchanged.

    Parameters
    ----------
    parts : sequence of DispersionStatistics
        One per image, estimated with different seeds: random patterns that are equal in all
        images would not average out.

    Raises
    ------
    AtomicityError
        If there are no images, or their linking distances or levels differ.
    """
    _check_settings_agree(parts)
    if len(parts) == 1:
        return parts[0]
    return _combine(parts, tuple(e for q in parts for e in q.evidence), seed, stop)


def pool_scopes(
    parts: Mapping[str, DispersionStatistics],  # by image
    groups: Mapping[str, Sequence[str]],  # name of a scope → its images, as of sessions and samples
    seed: int = 0,
    stop: Stop | None = None,
) -> dict[str, DispersionStatistics]:
    """Pool the images of each group, and all images (`ALL`); groups without images are left out.

    Groups of the same images are pooled once. Raises `AtomicityError` as `pool_images` does.
    """
    pooled: dict[tuple[str, ...], DispersionStatistics] = {}
    found = {}
    for scope, images in {**groups, ALL: list(parts)}.items():
        members = tuple(image for image in parts if image in set(images))
        if members and members not in pooled:
            pooled[members] = pool_images([parts[image] for image in members], seed, stop)
        if members:
            found[scope] = pooled[members]
    return found


def pool_frames(
    parts: Sequence[DispersionStatistics], seed: int = 0, stop: Stop | None = None
) -> DispersionStatistics:
    """Combine the frames of a stack; a single frame is returned unchanged.

    The result is that of one image. All frames may show the same atoms, so more frames add no
    information about the sample: estimates are means over the frames, with the intervals and
    envelopes of a single frame. Raises `AtomicityError` as `pool_images` does.
    """
    _check_settings_agree(parts)
    if len(parts) == 1:
        return parts[0]
    mean = average_frames([e for q in parts for e in q.evidence])
    return _combine(parts, (mean,), seed, stop, same_place=True)


def _check_settings_agree(parts: Sequence[DispersionStatistics]) -> None:
    if not parts:
        raise AtomicityError("there are no images with atoms to pool")
    if len({(part.group_distance_nm, part.level) for part in parts}) > 1:
        raise AtomicityError(
            "atoms linked at different distances can't be pooled",
            advice="Link the atoms of all images within the same distance",
        )


def _combine(
    parts: Sequence[DispersionStatistics],
    evidence: tuple[ImageEvidence, ...],
    seed: int,
    stop: Stop | None,
    same_place: bool = False,
) -> DispersionStatistics:
    index, p, freedom = _pool_quadrats(parts, same_place)
    tests = [q.randomness for q in parts if q.randomness is not None]
    weights = [1 if same_place else 1 / part.frames for part in parts]
    pairs = list(zip(weights, parts, strict=True))
    return DispersionStatistics(
        n_atoms=round(sum(weight * part.n_atoms for weight, part in pairs)),
        n_off_support=round(sum(weight * part.n_off_support for weight, part in pairs)),
        group_sizes=np.concatenate([part.group_sizes for part in parts]),
        group_extents_nm=np.concatenate([part.group_extents_nm for part in parts]),
        group_weights=np.concatenate([weight * part.group_weights for weight, part in pairs]),
        quadrats=None,
        quadrat_index=index,
        quadrat_p=p,
        quadrat_freedom=freedom,
        randomness=pool_randomness_tests(tests, same_place),
        group_distance_nm=parts[0].group_distance_nm,
        **_estimates(evidence, parts[0].level, seed, stop),
    )


def _pool_quadrats(
    parts: Sequence[DispersionStatistics], same_place: bool
) -> tuple[float, float, float]:
    """Index over the quadrats of all images, its χ² p value and its degrees of freedom.

    Each image is compared with its own density. Frames of one place have the degrees of freedom of
    a mean frame.
    """
    known = [q for q in parts if np.isfinite(q.quadrat_index)]
    freedom = sum(q.quadrat_freedom for q in known)
    if not freedom:
        return np.nan, np.nan, 0.0
    index = sum(q.quadrat_index * q.quadrat_freedom for q in known) / freedom
    freedom /= len(known) if same_place else 1
    return float(index), two_sided_chi2_p_value(index * freedom, freedom), float(freedom)
