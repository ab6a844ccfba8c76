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
from ...core.progress import Progress, Stop
from ...core.settings import GROUP_DISTANCE_NM
from .atom_groups import extents, link, sizes
from .dispersion_evidence import Candidates, ImageEvidence, average_frames, gather_evidence
from .dispersion_intervals import BETWEEN_IMAGES_SD, Estimate, estimate_intervals
from .quadrats import Quadrats, count_quadrats, quadrat_p_value, two_sided_chi2_p_value
from .randomness import (
    RandomnessTest,
    SummaryCurve,
    compare_with_randomness,
    pool_randomness_tests,
)
from .windows import ObservationWindow, check_points

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

    @property
    def isolated_if_random(self) -> float:
        """Fraction of isolated atoms if they were random, each image at its own density.

        It is of the atoms that ``shares`` counts: those that are not among the candidates are no
        neighbours of theirs.
        """
        drawn = range(max(len(e.patterns) for e in self.evidence))
        n = np.array(
            [[len(e.patterns[k % len(e.patterns)].distance) for e in self.evidence] for k in drawn]
        )
        n = n[n.sum(axis=1) > 0]
        near = np.pi * self.group_distance_nm**2 * n / [e.area_nm2 for e in self.evidence]
        return float(((n * np.exp(-near)).sum(axis=1) / n.sum(axis=1)).mean()) if len(n) else 1.0

    def row(self, image: str = ALL) -> dict[str, Any]:
        """Return a row of ``dispersion.csv``, with units in the names; NaN where unknown."""
        tests = self.randomness
        p = {name: curve.p for name, curve in self._curves.items()}
        edge = np.nan
        if self.quadrats is not None:
            edge = float(np.diff(self.quadrats.edges_y_nm[:2])[0])
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
            "share_isolated_if_random": self.isolated_if_random,
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
    # simulations, seed, level, largest_nm: see `randomness.compare_with_randomness`; ``level`` is
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
    tested = [(q.randomness, q.frames) for q in parts if q.randomness is not None]
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
        randomness=pool_randomness_tests(
            [test for test, _ in tested], same_place, [frames for _, frames in tested]
        ),
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
