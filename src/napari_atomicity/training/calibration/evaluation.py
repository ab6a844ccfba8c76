"""Scores of a model on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...core.model_card import ModelCard
from ...models.estimators import (
    Estimator,
    class_sizes,
    combination,
    count_atoms,
    diameter,
    network,
)
from ...models.out_of_distribution import out_of_distribution
from ..data import PatchSet
from .held_out import HeldOutPredictions, predict_as_used, stack_labelled, stack_labels

PredictImages = Callable[
    [ModelCard, dict[str, np.ndarray], PatchSet, torch.device], Sequence[HeldOutPredictions]
]
"""Function that classifies a patch set image by image, such as `held_out.predict_images`."""


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Compute the mean gap between confidence and accuracy over ten bins, weighted by number."""
    gaps = np.bincount(calibration_bins(confidence), confidence - right, minlength=10)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))


def calibration_bins(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, from 0 to 9, of the calibration error."""
    return np.clip(np.digitize(confidence, np.linspace(0, 1, 11)) - 1, 0, 9)


def scores(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    part: PatchSet,  # raw channel in counts
    device: torch.device,
    # Classifies the images; by default each image is analysed alone
    predict: PredictImages = predict_as_used,
) -> dict[str, Any]:
    """Compute accuracy, confusion, calibration and coverage on labelled images."""
    images = predict(card, tensors, part, device)
    label = stack_labels(images)
    p = stack_labelled(images, [combination(s.known) for s in images])
    score = stack_labelled(
        images, [out_of_distribution(s.known, s.embedding, tensors)[0] for s in images]
    )
    best = p.argmax(axis=1)
    c = len(card.classes)
    confusion = np.bincount(label * c + best, minlength=c * c).reshape(c, c)
    true_p = p[np.arange(len(label)), label]
    off = np.abs(best - label)
    out = {
        "clusters": len(label),
        "accuracy": _mean(best == label),
        "accuracy_of_network": _accuracy(images, network),
        "accuracy_by_diameter": _accuracy(images, diameter),
        "recall": {
            name: _mean((best == label)[label == i])
            for i, name in enumerate(card.classes)
            if (label == i).any()
        },
        "off_by_one": _mean(off == 1),
        "off_by_more_than_one": _mean(off > 1),
        "confusion": confusion.tolist(),
        "expected_calibration_error": _round(
            expected_calibration_error(p.max(axis=1), best == label)
        ),
        "prediction_set_coverage": _mean(
            true_p >= np.minimum(card.conformal_threshold, p.max(axis=1))
        ),
        "unknown": _mean(score > 1),
    }
    return {**out, **_count_scores(card, images, best)}


def _accuracy(images: Sequence[HeldOutPredictions], estimator: Estimator) -> float:
    """Return the accuracy of one estimator alone."""
    p = stack_labelled(images, [estimator(s.known) for s in images])
    best = np.nan_to_num(p, nan=-1).argmax(axis=1)
    return _mean(best == stack_labels(images))


def _count_scores(
    card: ModelCard, images: Sequence[HeldOutPredictions], best: np.ndarray
) -> dict[str, float]:
    """Return the mean error of the most probable classes in atoms, and the coverage of counts."""
    sizes = class_sizes(card.classes)
    if sizes is None:
        return {}
    truth = sizes[stack_labels(images)]
    count = stack_labelled(images, [count_atoms(s.known) for s in images])
    held = (count[:, 1] <= truth) & (truth <= count[:, 2])
    return {
        "error_atoms": _mean(np.abs(sizes[best] - truth)),
        "count_interval_coverage": _mean(held[np.isfinite(count).all(axis=1)]),
    }


def _mean(values: np.ndarray) -> float:
    """Return the rounded mean; NaN of no value, such as of the counts of a model without them."""
    return _round(values.mean()) if len(values) else float("nan")


def _round(value: Any) -> float:
    return round(float(value), 4)
