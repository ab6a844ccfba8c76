"""One-to-one matching of points: detected with labelled atoms, or marks of two annotators.

Two rules. `match` pairs points within a tolerance: the maximum number of pairs, and among those
solutions the minimum total distance. `match_boxes` is the rule of published figures [1]_: boxes of
21 pixels around the points, paired so that the sum of their intersections over unions (IoU) is
maximal, after which pairs with an IoU above 0.5 count.

Both are linear assignments with forbidden pairs, solved on the graph of allowed pairs with the
sparse algorithm of Jonker and Volgenant [2]_. Each point of the first set also has a dummy partner,
whose cost is that of remaining unmatched. So the time depends on the number of allowed pairs, not
on the product of the numbers of points.

References
----------
.. [1] Code of "Automated Image Analysis for Single-Atom Detection in Catalytic Materials by
   Transmission Electron Microscopy", J. Am. Chem. Soc. (2022), doi:10.1021/jacs.1c12466:
   github.com/HPAI-BSC/AtomDetection_ACSTEM, ``atoms_detection/evaluation.py``.
.. [2] R. Jonker, A. Volgenant, Computing 38, 325-340 (1987);
   `scipy.sparse.csgraph.min_weight_full_bipartite_matching`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import KDTree

from .points.windows import check_points

TOLERANCE_NM = 0.15
"""Default maximum distance in nm of a detected atom from a labelled one."""
BOX_PX, BOX_IOU = 21, 0.5
"""Edge length of the boxes of the published rule, and the IoU that pairs must exceed."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of points."""

    # first, second: (K,): indices into the two sets, in order of ``first``
    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray  # (K,): distances in the unit of the points

    def __len__(self) -> int:
        return len(self.first)


def match(first: np.ndarray, second: np.ndarray, tolerance: float) -> Pairs:
    """Pair points within a tolerance: the maximum number of pairs with the minimum total distance.

    Parameters
    ----------
    first : ndarray of shape (N, 2)
        Positions.
    second : ndarray of shape (M, 2)
        Positions.
    tolerance : float
        Maximum distance of a pair, inclusive, in the unit of the positions.

    Raises
    ------
    ValueError
        If the tolerance is not positive.
    AtomicityError
        If positions are not finite or of the wrong shape.

    Examples
    --------
    >>> pairs = match([[0, 0], [0, 1]], [[0, 1], [0, 1.9]], tolerance=1.0)
    >>> pairs.first.tolist(), pairs.second.tolist()
    ([0, 1], [0, 1])
    """
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"a tolerance of {tolerance} is not positive")
    first, second = check_points(first), check_points(second)
    i, j = _near(first, second, tolerance * (1 + 1e-9))
    distance = np.linalg.norm(first[i] - second[j], axis=1)
    # An unmatched point costs more than any rearrangement of pairs, of cost 1 to 2, can save.
    alone = min(len(first), len(second)) + 3.0
    kept = _assigned(i, j, 1 + distance / tolerance, alone, len(first), len(second))
    return Pairs(i[kept], j[kept], distance[kept])


def match_boxes(
    first: np.ndarray,  # (N, 2): positions in pixels
    second: np.ndarray,  # (M, 2): positions in pixels
    size: float = BOX_PX,  # edge length of the boxes in pixels
    iou: float = BOX_IOU,  # intersection over union that a pair must exceed
) -> Pairs:
    """Pair square boxes around points: the maximum sum of IoU, restricted to pairs above a limit.

    Raises `ValueError` if the size is not positive. Raises `AtomicityError` if positions are not
    finite or of the wrong shape.
    """
    if not (np.isfinite(size) and size > 0):
        raise ValueError(f"a box size of {size} pixels is not positive")
    first, second = check_points(first), check_points(second)
    i, j = _near(first, second, size * np.sqrt(2))
    common = np.prod(np.clip(size - np.abs(first[i] - second[j]), 0, None), axis=1)
    share = common / (2 * size**2 - common)
    overlap = share > 0
    i, j, share = i[overlap], j[overlap], share[overlap]
    kept = _assigned(i, j, 2 - share, 2.0, len(first), len(second))
    kept = kept[share[kept] > iou]
    return Pairs(i[kept], j[kept], np.linalg.norm(first[i[kept]] - second[j[kept]], axis=1))


def f1_of(matched: float, first: float, second: float) -> float:
    """Compute F1 = 2 · pairs / (points of one set + points of the other)."""
    return 2 * matched / (first + second) if first + second else float("nan")


def _near(first: np.ndarray, second: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of all pairs within the radius, sorted."""
    if not len(first) or not len(second):
        return np.zeros(0, int), np.zeros(0, int)
    found = KDTree(first).sparse_distance_matrix(KDTree(second), radius, output_type="ndarray")
    order = np.lexsort((found["j"], found["i"]))
    return found["i"][order], found["j"][order]


def _assigned(
    i: np.ndarray, j: np.ndarray, cost: np.ndarray, alone: float, n: int, m: int
) -> np.ndarray:
    """Return which of the allowed pairs (i, j) form the cheapest assignment.

    ``cost`` is that of each pair, ``alone`` that of an unmatched point of the first set; both are
    positive.
    """
    if not len(i):
        return np.zeros(0, int)
    rows = np.concatenate([i, np.arange(n)])
    columns = np.concatenate([j, m + np.arange(n)])
    graph = coo_array((np.concatenate([cost, np.full(n, alone)]), (rows, columns)), (n, m + n))
    row, column = min_weight_full_bipartite_matching(graph.tocsr())
    partner = np.full(n, -1)
    partner[row] = np.where(column < m, column, -1)
    return np.flatnonzero(partner[i] == j)
