"""Evidence about the dispersion of the atoms of one image, from which intervals are computed.

Every candidate is an atom with its calibrated probability. Patterns are drawn in which each
candidate is present or absent, independently, including candidates below the threshold. Each drawn
pattern carries the nearest-neighbour distance, its edge-correction weight, the size and extent of
the group, and the block of every atom; the block bootstrap of `dispersion_intervals` resamples
these.

Counts of clustered atoms vary more than a Poisson distribution does. The overdispersion is the
larger of two estimates: λ ∫ (g - 1) up to half a block, from Ripley's K [1]_, and the variance of
the counts between blocks (`BLOCKS` across). The first ends at half a block; the second loses pairs
that the edges of blocks separate.

References
----------
.. [1] J. Illian, A. Penttinen, H. Stoyan and D. Stoyan, "Statistical Analysis and Modelling of
   Spatial Point Patterns", Wiley (2008), section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, starmap, zip_longest

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ...core.errors import AtomicityError
from ...core.progress import Stop, check
from .atom_groups import extents
from .nearest_neighbours import hanisch_weights, nearest_neighbours
from .pair_correlation import ripley_k
from .quadrats import Quadrats, count_quadrats
from .windows import ObservationWindow, check_points

BLOCKS = 4
"""Number of blocks along the longer side of the support."""
DRAWS = 200
"""Maximum number of patterns drawn from the probabilities."""
MAX_DRAWN_ATOMS = 200_000
"""Maximum number of atoms in all drawn patterns together."""
_MIN_DRAWS = 20
_NEIGHBOURS = 24  # one of these is present in nearly all patterns
_MAX_VALUES = 2_000_000


@dataclass(frozen=True, eq=False)
class DrawnPattern:
    """Properties of each atom of one drawn pattern."""

    distance: np.ndarray  # (N,): nearest-neighbour distances in nm
    weight: np.ndarray  # (N,): weights of the distances by `nearest_neighbours.hanisch_weights`
    size: np.ndarray  # (N,): number of atoms in the group of each atom
    # (N,): largest distance between two atoms of the group of each atom in nm; 0 for isolated atoms
    extent: np.ndarray
    block: np.ndarray  # (N,): block of each atom


@dataclass(frozen=True, eq=False)
class ImageEvidence:
    """What the intervals of one image, and of a pool that contains it, require.

    Evidence of a stack describes a mean frame.
    """

    expected: float  # expected number of atoms
    doubt: float  # variance of the number of atoms due to detection
    area_nm2: float  # area of the support in nm²
    excess: float  # variance of the number of atoms relative to Poisson, minus 1
    freedom: int  # degrees of freedom of ``excess``
    blocks: int
    patterns: tuple[DrawnPattern, ...]  # patterns drawn from the probabilities
    frames: int = 1  # number of frames; 1 unless the image is a stack


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidate atoms on the support."""

    points: np.ndarray  # (M, 2): positions (y, x) in nm
    probability: np.ndarray  # (M,): probability that each candidate is an atom
    recall: float  # fraction of all atoms that are among the candidates

    @classmethod
    def on_support(
        cls,
        window: ObservationWindow,
        points_nm: np.ndarray,  # (M, 2): positions (y, x) in nm
        # (M,): probability that each candidate is an atom; NaN, or None for all, means certain
        probabilities: np.ndarray | None,
        recall: float,  # fraction of all atoms that are among the candidates
    ) -> Candidates:
        """Check candidates, and keep those on the support.

        Raises `AtomicityError` if shapes differ, positions are not finite, or a probability is not
        between 0 and 1.
        """
        points = check_points(points_nm)
        p = np.ones(len(points)) if probabilities is None else np.asarray(probabilities, float)
        if p.shape != (len(points),):
            raise AtomicityError(f"there are {len(points)} positions and {p.size} probabilities")
        p = np.where(np.isnan(p), 1.0, p)
        if not ((p >= 0) & (p <= 1)).all():
            raise AtomicityError("probabilities of atoms must be between 0 and 1")
        inside = window.contains(points)
        return cls(points[inside], p[inside], recall)


def gather_evidence(
    candidates: Candidates,
    window: ObservationWindow,
    group_distance_nm: float,  # maximum distance in nm of linked atoms
    seed: int,
    stop: Stop | None,
) -> ImageEvidence:
    """Draw patterns from the probabilities, and estimate the variance of the number of atoms."""
    points, p, recall = candidates.points, candidates.probability, candidates.recall
    rng = np.random.default_rng([seed, 1])
    blocks = count_quadrats(points, window, BLOCKS, weights=p)
    block = _assign_blocks(points, blocks)
    doubt = float((p * (1 - p)).sum())
    draws = int(np.clip(MAX_DRAWN_ATOMS / max(p.sum(), 1), _MIN_DRAWS, DRAWS)) if doubt > 0 else 1
    neighbours = _Neighbours.of(points, group_distance_nm)
    at_once = int(np.clip(_MAX_VALUES / max(neighbours.row.size, 1), 1, draws))
    patterns: list[DrawnPattern] = []
    for done in range(0, draws, at_once):
        check(stop)
        present = rng.random((min(at_once, draws - done), len(p))) < p
        patterns += _describe_patterns(present, points, neighbours, block, window)
    missed = float(p.sum()) * (1 - recall)
    return ImageEvidence(
        float(p.sum()) / recall,
        (doubt + missed) / recall**2,
        window.area_nm2,
        _overdispersion(points, p, window, blocks),
        max(1, int(blocks.used.sum()) - 1),
        int(blocks.used.sum()),
        tuple(patterns),
    )


def average_frames(frames: Sequence[ImageEvidence]) -> ImageEvidence:
    """Average the evidence of frames of one place.

    The drawn patterns are those of each frame in turn, at most as many as of one image or one per
    frame.
    """
    means = {
        name: float(np.mean([getattr(e, name) for e in frames]))
        for name in ("expected", "doubt", "area_nm2", "excess")
    }
    drawn = chain.from_iterable(zip_longest(*(e.patterns for e in frames)))
    return ImageEvidence(
        **means,
        freedom=min(e.freedom for e in frames),
        blocks=max(e.blocks for e in frames),
        patterns=tuple(m for m in drawn if m is not None)[: max(DRAWS, len(frames))],
        frames=len(frames),
    )


def _overdispersion(
    points: np.ndarray, p: np.ndarray, window: ObservationWindow, blocks: Quadrats
) -> float:
    """Variance of the number of atoms relative to Poisson, minus 1; at least 0."""
    half = float(np.diff(blocks.edges_y_nm[:2])[0]) / 2
    k = ripley_k(points, window, np.array([half]), weights=p)[0]
    from_pairs = p.sum() / window.area_nm2 * (k - np.pi * half**2)
    return float(np.nanmax([0.0, blocks.index - 1, from_pairs]))


def _assign_blocks(points: np.ndarray, blocks: Quadrats) -> np.ndarray:
    """Return the block (N,) of each atom, 0 to ``blocks.used.sum()`` - 1.

    Blocks with little support belong to the nearest one with enough.
    """
    y, x = ((edges[1:] + edges[:-1]) / 2 for edges in (blocks.edges_y_nm, blocks.edges_x_nm))
    centre = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    used = np.flatnonzero(blocks.used)
    apart = np.linalg.norm(centre[:, None] - centre[None, used], axis=2)
    return np.asarray(apart.argmin(axis=1)[blocks.of(points)])


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """The nearest other candidates of each candidate, and the pairs of linked candidates."""

    # distance, row: (M, K): distances in nm, ascending, and rows of the neighbours
    distance: np.ndarray
    row: np.ndarray
    pairs: np.ndarray  # (P, 2): rows of the candidates of each pair

    @classmethod
    def of(cls, points: np.ndarray, group_distance_nm: float) -> _Neighbours:
        if not len(points):
            return cls(np.empty((0, 1)), np.empty((0, 1), int), np.empty((0, 2), int))
        tree = KDTree(points)
        distance, row = tree.query(points, k=range(1, min(len(points), _NEIGHBOURS) + 1))
        return cls(distance, row, tree.query_pairs(group_distance_nm, output_type="ndarray"))


def _describe_patterns(
    present: np.ndarray,
    points: np.ndarray,
    neighbours: _Neighbours,
    block: np.ndarray,
    window: ObservationWindow,
) -> list[DrawnPattern]:
    """Describe D patterns, each of the candidates that are ``present`` (D, M)."""
    draw, row = np.nonzero(present)
    distance = _present_distances(present, points, neighbours)[draw, row]
    weight = hanisch_weights(points[row], distance, window)
    # A graph of all patterns: the links between candidates that are present.
    n_draws, n = present.shape
    first, (one, other) = np.arange(n_draws)[:, None] * n, neighbours.pairs.T
    linked = present[:, one] & present[:, other]
    ends = (first + one)[linked], (first + other)[linked]
    graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(present.size, present.size))
    part = connected_components(graph, directed=False)[1][draw * n + row]
    parts = (
        np.nan_to_num(distance).astype(np.float32),
        weight.astype(np.float32),
        np.bincount(part)[part].astype(np.int32) if len(part) else part.astype(np.int32),
        _extent_of_atoms(points[row], part).astype(np.float32),
        block[row].astype(np.int16),
    )
    ends_of_draws = np.cumsum(present.sum(axis=1))[:-1]
    return list(
        starmap(DrawnPattern, zip(*(np.split(x, ends_of_draws) for x in parts), strict=True))
    )


def _extent_of_atoms(points: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the extent (N,) in nm of the group of each atom; the groups are numbered from 0."""
    _, group = np.unique(part, return_inverse=True)
    return extents(points, group + 1)[group]


def _present_distances(
    present: np.ndarray, points: np.ndarray, neighbours: _Neighbours
) -> np.ndarray:
    """Return the distance (D, M) of each candidate to the nearest other that is present."""
    own = np.arange(len(points))
    is_there = present[:, neighbours.row] & (neighbours.row != own[:, None])
    distance = neighbours.distance[own, is_there.argmax(axis=2)]
    unknown = present & ~is_there.any(axis=2)
    for i in np.flatnonzero(unknown.any(axis=1)):  # its neighbours are farther
        distance[i, present[i]] = nearest_neighbours(points[present[i]])
    return distance
