"""How well networks do on images that they have not seen, and what their scores are worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ...atoms import operating_point as operating
from ...atoms.finder import AtomCard
from .labelled import LabelledImage

if TYPE_CHECKING:
    from .recipe import AtomRecipe

CALIBRATED_FROM = -2.0
"""Score (logit) of candidates that calibrate."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Candidates of an image that the networks had not learnt from.

    Parameters
    ----------
    points_nm
        (N, 2) positions.
    score
        (N,) of the networks.
    right
        (N,) bool: a mark is near, and no candidate of a higher score has it.
    marked
        Number of marks.
    """

    points_nm: np.ndarray
    score: np.ndarray
    right: np.ndarray
    marked: int

    @property
    def missed(self) -> int:
        return self.marked - int(self.right.sum())


def judge(
    image: LabelledImage, points: np.ndarray, score: np.ndarray, tolerance_nm: float
) -> Judged:
    """Which candidates are right: from the highest score on, each takes the nearest free mark."""
    points_nm = points * image.pixel_size_nm
    gap = np.linalg.norm(points_nm[:, None] - image.points_nm[None], axis=2)
    gap = np.where(gap <= tolerance_nm * (1 + 1e-9), gap, np.inf)
    right = np.zeros(len(points), bool)
    for row in np.argsort(-score, kind="stable"):
        if gap.shape[1] and np.isfinite(nearest := gap[row].min()):
            gap[:, int(np.flatnonzero(gap[row] == nearest)[0])] = np.inf
            right[row] = True
    return Judged(points_nm, score, right, len(image.points))


def folds_of(images: Sequence[LabelledImage], n_folds: int, seed: int = 0) -> np.ndarray:
    """(N,) fold of each image: groups stay together, sets are spread, sizes are even."""
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(images), int)
    for source in sorted({i.source for i in images}):
        load_of = np.zeros(n_folds)
        groups = sorted({i.group for i in images if i.source == source})
        size = {g: sum(i.group == g and i.source == source for i in images) for g in groups}
        order = rng.permutation(len(groups))
        for group in sorted((groups[k] for k in order), key=lambda g: -size[g]):
            least = np.flatnonzero(load_of == load_of.min())
            chosen = int(rng.choice(least))
            load_of[chosen] += size[group]
            for row, image in enumerate(images):
                if image.source == source and image.group == group:
                    fold[row] = chosen
    return fold


def expected_f1_threshold(calibration: operating.Calibration, judged: Judged) -> float:
    """The operating point of one image, as `find_atoms` chooses it."""
    return operating.best_threshold(calibration(judged.score), calibration.candidate_recall)


def calibrated_on(judged: Sequence[Judged]) -> operating.Calibration:
    """Fit to images that the networks had not seen.

    Only candidates near the decision and above (`CALIBRATED_FROM`) count: the many that nobody
    would take for atoms follow another law and would bend the curve where it matters.
    """
    score = np.concatenate([j.score for j in judged])
    right = np.concatenate([j.right for j in judged])
    near = score >= CALIBRATED_FROM
    if right[near].all() or not right[near].any():  # too clear or too few: all of them
        near[:] = True
    fitted = operating.fit_calibration(score[near], right[near])
    among = right[fitted(score) >= AtomCard.floor].sum()
    return replace(fitted, candidate_recall=float(among) / sum(j.marked for j in judged))


def calibrations(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    judged: Sequence[Judged],
    recipe: AtomRecipe,
) -> list[operating.Calibration]:
    """For each image, the calibration on the images of the other folds; last, that on all."""
    sure = [i.source not in recipe.not_calibrating for i in images]
    if not any(sure):
        sure = [True] * len(images)

    def of(left_out: int) -> operating.Calibration:
        rows = [n for n, f in enumerate(fold) if sure[n] and f != left_out]
        rows = rows or [n for n, s in enumerate(sure) if s]
        return calibrated_on([judged[n] for n in rows])

    by_fold = {int(f): of(int(f)) for f in np.unique(fold)}
    return [*(by_fold[int(f)] for f in fold), of(-1)]


def f1_of(
    judged: Iterable[Judged],
    thresholds: Iterable[float],
    calibrations: Iterable[operating.Calibration],
) -> dict[str, float]:
    """Precision, recall and F1 over images, each at its threshold."""
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
