"""Calibration of atom networks on images that they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ...atoms.finding import operating_point as operating
from ...atoms.finding.card import AtomCard, fineness
from .evaluation import FoldScores, choose_threshold, score_detections
from .labelled import LabelledImage
from .settings import AtomRecipe

T = TypeVar("T")
MIN_CALIBRATION_SCORE = -2.0
"""Score (logit) of candidates that calibrate."""
OWN_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the image's own threshold that are tried."""
_THRESHOLDS = np.linspace(0.15, 0.65, 26)
_F1_TOLERANCE = 0.002


def fit_calibrations(
    images: Sequence[LabelledImage],
    fold: np.ndarray,
    judged: Sequence[FoldScores],
    recipe: AtomRecipe,
) -> list[operating.Calibration]:
    """Fit a calibration for each image on the images of the other folds, and one on all images.

    Parameters
    ----------
    images : sequence of LabelledImage
        The images.
    fold : ndarray of shape (N,)
        Fold of each image.
    judged : sequence of FoldScores
        Candidates of each image.
    recipe : AtomRecipe
        Recipe of the model.

    Returns
    -------
    list of Calibration
        One for each image, then that on all images.
    """
    sure = [i.source not in recipe.not_calibrating for i in images]
    if not any(sure):
        sure = [True] * len(images)

    def of(left_out: int) -> operating.Calibration:
        rows = [n for n, f in enumerate(fold) if sure[n] and f != left_out]
        used = np.array(rows or [n for n, s in enumerate(sure) if s])
        return fit_calibration(_select(images, used), _select(judged, used), fold[used])

    by_fold = {int(f): of(int(f)) for f in np.unique(fold)}
    each = (
        by_fold[int(f)].at(fineness(i.pixel_size_nm)) for f, i in zip(fold, images, strict=True)
    )
    return [*each, of(-1)]


def fit_calibration(
    images: Sequence[LabelledImage], judged: Sequence[FoldScores], part: np.ndarray
) -> operating.Calibration:
    """Fit a calibration; each set of images has the same weight.

    Only candidates near the decision and above (`MIN_CALIBRATION_SCORE`) count: the many others,
    which are clearly no atoms, follow another law and would bend the curve where it matters.
    The weight of an image's own threshold is chosen by cross-validation over the parts.

    Parameters
    ----------
    images : sequence of LabelledImage
        Images that the networks were not trained on.
    judged : sequence of FoldScores
        Candidates of each image.
    part : ndarray of shape (N,)
        Part of each image for the cross-validation.

    Returns
    -------
    Calibration
        With its operating point.
    """
    trials = [(v, np.flatnonzero(part != v)) for v in np.unique(part)]
    scores = np.zeros(len(OWN_WEIGHTS))
    for left_out, others in trials if len(trials) > 1 else ():
        try:
            known = _fit_curve(_select(images, others), _select(judged, others))
        except ValueError:  # these tell nothing apart
            continue
        usual = _best_threshold(_select(images, others), _select(judged, others), known)
        rows = np.flatnonzero(part == left_out)
        scores += [
            _mean_f1(
                _select(images, rows), _select(judged, rows),
                replace(known, point=operating.OperatingPoint(usual, weight)),
            )
            for weight in OWN_WEIGHTS
        ]  # fmt: skip
    near = scores >= scores.max() - _F1_TOLERANCE * len(trials)
    known = _fit_curve(images, judged)
    point = operating.OperatingPoint(
        _best_threshold(images, judged, known), float(np.mean(np.array(OWN_WEIGHTS)[near]))
    )
    return replace(known, point=point)


def _select(values: Sequence[T], rows: np.ndarray) -> list[T]:
    return [values[n] for n in rows]


def _sets(images: Sequence[LabelledImage]) -> list[list[int]]:
    """Return the rows of each set that has marks."""
    rows = [
        [n for n, i in enumerate(images) if i.source == source]
        for source in sorted({i.source for i in images})
    ]
    return [r for r in rows if any(len(images[n].points) for n in r)]


def _fit_curve(
    images: Sequence[LabelledImage], judged: Sequence[FoldScores]
) -> operating.Calibration:
    """Fit the calibration without its operating point."""
    score = np.concatenate([j.score for j in judged])
    right = np.concatenate([j.right for j in judged])
    fine = np.repeat([fineness(i.pixel_size_nm) for i in images], [len(j.score) for j in judged])
    near = score >= MIN_CALIBRATION_SCORE
    if right[near].all() or not right[near].any():  # too clear or too few: all of them
        near[:] = True
    names = np.repeat([i.source for i in images], [len(j.score) for j in judged])[near]
    _, which, count = np.unique(names, return_inverse=True, return_counts=True)
    weight = len(names) / len(count) / count[which]
    fitted = operating.fit_calibration(score[near], right[near], 0, weight, fine[near])
    recalls = [
        sum(
            j.right[fitted.at(fineness(i.pixel_size_nm))(j.score) >= AtomCard.floor].sum()
            for i, j in zip(_select(images, rows), _select(judged, rows), strict=True)
        )
        / sum(j.marked for j in _select(judged, rows))
        for rows in map(np.array, _sets(images))
    ]
    return replace(fitted, candidate_recall=float(np.mean(recalls)))


def _best_threshold(
    images: Sequence[LabelledImage], judged: Sequence[FoldScores], known: operating.Calibration
) -> float:
    """Return the threshold of the best mean F1 of the sets: the middle of those about as good."""
    tried = np.array([_mean_f1(images, judged, known, t) for t in _THRESHOLDS])
    return float(_THRESHOLDS[tried >= tried.max() - _F1_TOLERANCE].mean())


def _mean_f1(
    images: Sequence[LabelledImage],
    judged: Sequence[FoldScores],
    known: operating.Calibration,
    threshold: float | None = None,
) -> float:
    """Return the mean F1 over the sets, with one threshold or each image at its operating point."""
    found = []
    for rows in map(np.array, _sets(images)):
        of_set = _select(judged, rows)
        here = [known.at(fineness(i.pixel_size_nm)) for i in _select(images, rows)]
        cuts = [
            choose_threshold(c, j) if threshold is None else threshold
            for c, j in zip(here, of_set, strict=True)
        ]
        found.append(score_detections(of_set, cuts, here)["f1"])
    return float(np.mean(found)) if found else 0.0
