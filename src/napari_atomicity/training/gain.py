"""What a training gained against the model that it started from, by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..core.devices import choose_device
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, prefixed, report
from ..models.estimators import combination
from .classifier import Start, train_in_memory
from .data import PatchSet
from .held_out import HeldOutPredictions, predict_as_used
from .request import SimulationSource, TrainRequest

MAX_FOLDS = 3
N_DRAWS = 2000
LEVEL = 0.95


def measure_gain(
    request: TrainRequest,
    whole: PatchSet,
    classes: Sequence[str],
    start: Start | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """Compare a training with the model that it starts from, on images that it has not seen.

    The images of each class are divided into parts. For each part a model is trained on the others,
    and both models label the part as one session. The interval is of the difference of the
    accuracies, by a paired bootstrap over images within the classes.

    Parameters
    ----------
    whole : PatchSet
        All labelled clusters, raw channel in counts.

    Returns
    -------
    dict or None
        ``images``, ``clusters``, ``accuracy``, ``accuracy_of_start``, ``difference``,
        ``difference_low`` and ``difference_high``. None if there is nothing to compare with: no
        model, one that lacks a class, or a class with a single image.
    """
    if start is None or isinstance(request.source, SimulationSource):
        return None
    n_folds = min(MAX_FOLDS, int(whole.table.groupby("truth")["image"].nunique().min()))
    if not set(classes) <= set(start[0].classes) or n_folds < 2:
        return None
    fold = _folds(whole, n_folds, np.random.default_rng(request.seed))
    device = choose_device(request.device)
    right: dict[str, list[np.ndarray]] = {"trained": [], "start": []}
    for k in range(n_folds):
        report(progress, k, n_folds, f"Cross-validation {k + 1}/{n_folds}")
        before = f"Cross-validation {k + 1}/{n_folds}: "
        trained = train_in_memory(
            request, whole.take(fold != k), classes, start, prefixed(progress, before), stop
        )
        part = whole.take(fold == k)
        for name, model in (("trained", trained), ("start", start)):
            right[name].append(_right(*model, part, device))
    counted = whole.take(np.concatenate([np.flatnonzero(fold == k) for k in range(n_folds)])).table
    return _compare(
        np.concatenate(right["trained"]),
        np.concatenate(right["start"]),
        counted["image"].to_numpy(str),
        counted["truth"].to_numpy(str),
    )


def _folds(whole: PatchSet, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Divide the images of each class evenly; return the part of each cluster."""
    fold_of_image: dict[str, int] = {}
    for _, table in whole.table.groupby("truth"):
        new = [i for i in sorted(table["image"].unique()) if i not in fold_of_image]
        order = rng.permutation(len(new))
        fold_of_image |= {new[i]: k % n_folds for k, i in enumerate(order)}
    return whole.table["image"].map(fold_of_image).to_numpy(int)


def _right(
    card: ModelCard, tensors: dict[str, np.ndarray], part: PatchSet, device: torch.device
) -> np.ndarray:
    """Return whether each cluster gets its class if all images are analysed as one session."""
    right = np.zeros(len(part), bool)
    truth = part.table["truth"].to_numpy(str)
    images: Sequence[HeldOutPredictions] = predict_as_used(
        card, tensors, part, device, one_session=True
    )
    for image in images:
        best = combination(image.known).argmax(axis=1)
        right[image.rows] = np.array(card.classes)[best] == truth[image.rows]
    return right


def _compare(
    trained: np.ndarray, start: np.ndarray, image: np.ndarray, truth: np.ndarray
) -> dict[str, Any]:
    """Return both accuracies and their difference with a bootstrap interval over images."""
    names, index = np.unique(image, return_inverse=True)
    number = np.bincount(index)
    gained = np.bincount(index, trained.astype(float) - start)
    class_of = {name: truth[image == name][0] for name in names}
    rows_of = [
        np.flatnonzero([class_of[n] == c for n in names]) for c in sorted(set(class_of.values()))
    ]
    rng = np.random.default_rng(len(image))
    drawn = np.concatenate([rng.choice(rows, (N_DRAWS, len(rows))) for rows in rows_of], axis=1)
    difference = gained[drawn].sum(axis=1) / number[drawn].sum(axis=1)
    low, high = np.quantile(difference, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    values = {
        "accuracy": trained.mean(),
        "accuracy_of_start": start.mean(),
        "difference": trained.mean() - start.mean(),
        "difference_low": low,
        "difference_high": high,
    }
    return {
        "images": len(names),
        "clusters": len(image),
        **{name: round(float(value), 4) for name, value in values.items()},
    }
