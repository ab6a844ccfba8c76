"""Comparison of candidates with marks, and detection scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...atoms.finding import operating_point as operating
from ...atoms.finding.card import AtomCard
from .labelled import LabelledImage


@dataclass(frozen=True, eq=False)
class FoldScores:
    """Candidates of an image that the networks were not trained on.

    Parameters
    ----------
    points_nm : ndarray of shape (N, 2)
        Positions.
    score : ndarray of shape (N,)
        Scores (logits) of the networks.
    right : ndarray of shape (N,)
        Whether a mark is near that no candidate of a higher score has taken.
    marked : int
        Number of marks.
    """

    points_nm: np.ndarray
    score: np.ndarray
    right: np.ndarray
    marked: int

    @property
    def missed(self) -> int:
        """Number of marks without a candidate."""
        return self.marked - int(self.right.sum())


def match_to_marks(
    image: LabelledImage, points: np.ndarray, score: np.ndarray, tolerance_nm: float
) -> FoldScores:
    """Match candidates to marks: from the highest score on, each takes the nearest free mark.

    Parameters
    ----------
    image : LabelledImage
        The marks.
    points : ndarray of shape (N, 2)
        Candidates (y, x) in pixels.
    score : ndarray of shape (N,)
        Scores of the candidates.
    tolerance_nm : float
        Largest distance of a candidate from its mark.

    Returns
    -------
    FoldScores
        Candidates, and which of them have a mark.
    """
    points_nm = points * image.pixel_size_nm
    gap = np.linalg.norm(points_nm[:, None] - image.points_nm[None], axis=2)
    gap = np.where(gap <= tolerance_nm * (1 + 1e-9), gap, np.inf)
    right = np.zeros(len(points), bool)
    for row in np.argsort(-score, kind="stable"):
        if gap.shape[1] and np.isfinite(nearest := gap[row].min()):
            gap[:, int(np.flatnonzero(gap[row] == nearest)[0])] = np.inf
            right[row] = True
    return FoldScores(points_nm, score, right, len(image.points))


def choose_threshold(calibration: operating.Calibration, judged: FoldScores) -> float:
    """Return the operating point of one image, as `find_atoms` chooses it."""
    return calibration.threshold(judged.score[calibration(judged.score) >= AtomCard.floor])


def score_detections(
    judged: Iterable[FoldScores],
    thresholds: Iterable[float],
    calibrations: Iterable[operating.Calibration],
) -> dict[str, float]:
    """Compute precision, recall and F1 over images, each at its threshold.

    Parameters
    ----------
    judged : iterable of FoldScores
        Candidates of each image.
    thresholds : iterable of float
        Threshold of the probability for each image.
    calibrations : iterable of Calibration
        Calibration of each image.

    Returns
    -------
    dict of str to float
        ``precision``, ``recall``, ``f1``, and the numbers ``marked`` and ``reported``.
    """
    right = reported = marked = 0
    for one, threshold, calibration in zip(judged, thresholds, calibrations, strict=True):
        chosen = calibration(one.score) >= threshold
        right += int(one.right[chosen].sum())
        reported += int(chosen.sum())
        marked += one.marked
    return {
        "precision": right / max(reported, 1),
        "recall": right / max(marked, 1),
        "f1": 2 * right / max(reported + marked, 1),
        "marked": marked,
        "reported": reported,
    }
