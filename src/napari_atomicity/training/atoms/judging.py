"""How well networks do on images that they have not seen, and what their scores are worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ...atoms import operating_point as operating
from ...atoms.card import AtomCard, fineness
from .labelled import LabelledImage

if TYPE_CHECKING:
    from .recipe import AtomRecipe

T = TypeVar("T")

CALIBRATED_FROM = -2.0
"""Score (logit) of candidates that calibrate."""
OWN_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the image's own threshold that are tried."""
_THRESHOLDS = np.linspace(0.15, 0.65, 26)
_AS_GOOD = 0.002


@dataclass(frozen=True, eq=False)
class FoldScores:
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
) -> FoldScores:
    """Which candidates are right: from the highest score on, each takes the nearest free mark."""
    points_nm = points * image.pixel_size_nm
    gap = np.linalg.norm(points_nm[:, None] - image.points_nm[None], axis=2)
    gap = np.where(gap <= tolerance_nm * (1 + 1e-9), gap, np.inf)
    right = np.zeros(len(points), bool)
    for row in np.argsort(-score, kind="stable"):
        if gap.shape[1] and np.isfinite(nearest := gap[row].min()):
            gap[:, int(np.flatnonzero(gap[row] == nearest)[0])] = np.inf
            right[row] = True
    return FoldScores(points_nm, score, right, len(image.points))


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


def threshold_of(calibration: operating.Calibration, judged: FoldScores) -> float:
    """The operating point of one image, as `find_atoms` chooses it."""
    return calibration.threshold(judged.score[calibration(judged.score) >= AtomCard.floor])


def calibrated_on(
    images: Sequence[LabelledImage], judged: Sequence[FoldScores], part: np.ndarray
) -> operating.Calibration:
    """Fit to images that the networks had not seen; each set counts as much as the others.

    Only candidates near the decision and above (`CALIBRATED_FROM`) count: the many that nobody
    would take for atoms follow another law and would bend the curve where it matters. How much of
    its own threshold an image gets is what serves best the images of each part (N,) with all else
    from the others.
    """
    trials = [(v, np.flatnonzero(part != v)) for v in np.unique(part)]
    scores = np.zeros(len(OWN_WEIGHTS))
    for left_out, others in trials if len(trials) > 1 else ():
        try:
            known = _curve(_some(images, others), _some(judged, others))
        except ValueError:  # these tell nothing apart
            continue
        usual = _usual_threshold(_some(images, others), _some(judged, others), known)
        rows = np.flatnonzero(part == left_out)
        scores += [
            _mean_f1(
                _some(images, rows), _some(judged, rows),
                replace(known, point=operating.OperatingPoint(usual, weight)),
            )
            for weight in OWN_WEIGHTS
        ]  # fmt: skip
    near = scores >= scores.max() - _AS_GOOD * len(trials)
    known = _curve(images, judged)
    point = operating.OperatingPoint(
        _usual_threshold(images, judged, known), float(np.mean(np.array(OWN_WEIGHTS)[near]))
    )
    return replace(known, point=point)


def _some(values: Sequence[T], rows: np.ndarray) -> list[T]:
    return [values[n] for n in rows]


def _sets(images: Sequence[LabelledImage]) -> list[list[int]]:
    """Rows of each set that has marks."""
    rows = [
        [n for n, i in enumerate(images) if i.source == source]
        for source in sorted({i.source for i in images})
    ]
    return [r for r in rows if any(len(images[n].points) for n in r)]


def _curve(images: Sequence[LabelledImage], judged: Sequence[FoldScores]) -> operating.Calibration:
    """The calibration but for its operating point."""
    score = np.concatenate([j.score for j in judged])
    right = np.concatenate([j.right for j in judged])
    fine = np.repeat([fineness(i.pixel_size_nm) for i in images], [len(j.score) for j in judged])
    near = score >= CALIBRATED_FROM
    if right[near].all() or not right[near].any():  # too clear or too few: all of them
        near[:] = True
    names = np.repeat([i.source for i in images], [len(j.score) for j in judged])[near]
    _, which, count = np.unique(names, return_inverse=True, return_counts=True)
    weight = len(names) / len(count) / count[which]
    fitted = operating.fit_calibration(score[near], right[near], 0, weight, fine[near])
    recalls = [
        sum(
            j.right[fitted.at(fineness(i.pixel_size_nm))(j.score) >= AtomCard.floor].sum()
            for i, j in zip(_some(images, rows), _some(judged, rows), strict=True)
        )
        / sum(j.marked for j in _some(judged, rows))
        for rows in map(np.array, _sets(images))
    ]
    return replace(fitted, candidate_recall=float(np.mean(recalls)))


def _usual_threshold(
    images: Sequence[LabelledImage], judged: Sequence[FoldScores], known: operating.Calibration
) -> float:
    """The one threshold that is best for the mean F1 of the sets: the middle of those as good."""
    tried = np.array([_mean_f1(images, judged, known, t) for t in _THRESHOLDS])
    return float(_THRESHOLDS[tried >= tried.max() - _AS_GOOD].mean())


def _mean_f1(
    images: Sequence[LabelledImage],
    judged: Sequence[FoldScores],
    known: operating.Calibration,
    threshold: float | None = None,
) -> float:
    """Mean over the sets, with one threshold or each image at its operating point."""
    found = []
    for rows in map(np.array, _sets(images)):
        of_set = _some(judged, rows)
        here = [known.at(fineness(i.pixel_size_nm)) for i in _some(images, rows)]
        cuts = [
            threshold_of(c, j) if threshold is None else threshold
            for c, j in zip(here, of_set, strict=True)
        ]
        found.append(f1_of(of_set, cuts, here)["f1"])
    return float(np.mean(found)) if found else 0.0


def calibrations(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    judged: Sequence[FoldScores],
    recipe: AtomRecipe,
) -> list[operating.Calibration]:
    """For each image, the calibration on the images of the other folds; last, that on all."""
    sure = [i.source not in recipe.not_calibrating for i in images]
    if not any(sure):
        sure = [True] * len(images)

    def of(left_out: int) -> operating.Calibration:
        rows = [n for n, f in enumerate(fold) if sure[n] and f != left_out]
        used = np.array(rows or [n for n, s in enumerate(sure) if s])
        return calibrated_on(_some(images, used), _some(judged, used), fold[used])

    by_fold = {int(f): of(int(f)) for f in np.unique(fold)}
    each = (
        by_fold[int(f)].at(fineness(i.pixel_size_nm)) for f, i in zip(fold, images, strict=True)
    )
    return [*each, of(-1)]


def f1_of(
    judged: Iterable[FoldScores],
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
