"""Training of a model from a request to a file with its card."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..core.devices import choose_device
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, prefixed, report
from ..models.estimators import combination
from ..models.files import find_model, read_model, save_model
from .calibration.held_out import HeldOutPredictions, predict_as_used
from .calibration.out_of_distribution import can_fit_out_of_distribution, fit_out_of_distribution
from .cards import (
    check_scales,
    new_card,
    recorded_session,
    score_held_out_images,
    score_test_fields,
)
from .checkpoint import Checkpoint
from .classifier import Start, continue_on_all_images, train_classifier, train_in_memory
from .data import KNOWN_SCALE, PatchSet
from .fit import OnEpoch
from .prepared_sets import OTHER_DRAWS, prepare_sets, request_key
from .request import (
    DEFAULT,
    SCRATCH,
    FolderSource,
    SimulationSource,
    TrainRequest,
    check_source,
    settings_for,
)
from .score_text import images_known_to_start

# ---- what a training gained against the model that it started from, by cross-validation

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
        model, one with other classes, with channels that the new one does not have, or that has
        learnt some of the images, or a class with too few images or clusters.
    """
    if start is None or isinstance(request.source, SimulationSource):
        return None
    n_folds = min(MAX_FOLDS, int(whole.table.groupby("truth")["image"].nunique().min()))
    # A start with other classes errs where the trained model cannot, and one that has learnt these
    # images does not err on them.
    if set(classes) != set(start[0].classes) or n_folds < 2:
        return None
    if images_known_to_start(start[0], map(str, whole.table["image"].unique())):
        return None
    if not set(start[0].patches.channels) <= set(request.patches.channels):
        return None  # its channels are not cut out
    fold = _folds(whole, n_folds, np.random.default_rng(request.seed))
    truth = whole.table["truth"]
    if not all(_can_train_without(truth, fold, k, classes) for k in range(n_folds)):
        return None
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
    """Divide the images of each class evenly; return the part of each cluster.

    An image can hold several classes: those in few images come first.
    """
    groups = {c: sorted(t["image"].unique()) for c, t in whole.table.groupby("truth")}
    shuffled = {c: [own[i] for i in rng.permutation(len(own))] for c, own in groups.items()}
    fold_of_image: dict[str, int] = {}
    for c in sorted(groups, key=lambda c: len(groups[c])):
        for image in shuffled[c]:
            taken = Counter(fold_of_image[i] for i in groups[c] if i in fold_of_image)
            fold_of_image.setdefault(image, min(range(n_folds), key=taken.__getitem__))
    return whole.table["image"].map(fold_of_image).to_numpy(int)


def _can_train_without(truth: pd.Series, fold: np.ndarray, k: int, classes: Sequence[str]) -> bool:
    """Return whether the other parts have two clusters of each class, to train and to hold out."""
    number = truth[fold != k].value_counts()
    return all(number.get(c, 0) >= 2 for c in classes)


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


def train(
    request: TrainRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_epoch: OnEpoch | None = None,
) -> ModelCard:
    """Train a model and write it with its card.

    The patches and, after every epoch, the state of the fit are kept in ``request.workspace``, from
    which the same request resumes. The folder is removed when the model is written.

    Parameters
    ----------
    request : TrainRequest
        Source and settings.
    progress, stop : callable, optional
        ``progress(done, total, message)`` and ``stop() -> bool``.
    on_epoch : callable, optional
        Called with the history after every epoch; see `fit.fit_network`.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    AtomicityError
        If the data are not sufficient, an image can't be read, the model to start from does not
        fit, or the result can't be written.
    Cancelled
        If ``stop()`` is true; the workspace is kept.
    """
    started = time.monotonic()
    check_source(request.source)
    start = read_start(request)
    choose_device(request.device)
    key = request_key(request, start[0] if start is not None else None)
    sets, classes = prepare_sets(request, key, progress, stop)
    parts = [sets["train"], sets["held_out"]]
    settings = settings_for(request, len(sets["train"]))
    card, tensors = train_classifier(
        sets["train"],
        sets["held_out"],
        new_card(request, sets, classes),
        settings,
        request.device,
        progress,
        stop,
        start=start,
        on_epoch=on_epoch,
        checkpoint=Checkpoint(request.workspace_of(key) / "checkpoint.safetensors", key),
    )
    check(stop)
    card, tensors = _complete(request, card, tensors, sets)
    gain = measure_gain(request, PatchSet.join(parts), classes, start, progress, stop)
    if gain is not None:
        card = replace(card, scores={**card.scores, "gain": gain})
    if start is None and not isinstance(request.source, SimulationSource):
        card, tensors = continue_on_all_images(
            (card, tensors), parts, settings, request.device, progress, stop
        )
    seconds = round(time.monotonic() - started)
    card = replace(card, training={**card.training, "seconds": seconds})
    card = save_model(request.out, card, tensors)
    shutil.rmtree(request.workspace, ignore_errors=True)
    report(progress, 1, 1, f"Model {card.model_id}")
    return card


def _complete(
    request: TrainRequest,
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    sets: dict[str, PatchSet],
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Add the detection of objects of no class, and the scores of scale and test fields."""
    others = [sets[name] for name in OTHER_DRAWS if name in sets]
    if can_fit_out_of_distribution(sets["held_out"], others, card.classes):
        tensors = fit_out_of_distribution(
            card, tensors, sets["held_out"], others, choose_device(request.device), request.seed
        )
    if isinstance(request.source, FolderSource):
        parts = [sets["train"], sets["held_out"]]
        session = recorded_session(PatchSet.join(parts), request.source.folder.name)
        card = replace(card, data={**card.data, "sessions": [session]})
        card = score_held_out_images(card, tensors, parts, request.device)
    elif KNOWN_SCALE in sets["train"].table:
        found = check_scales(card, tensors, list(sets.values()), request.device)
        card = replace(card, scores={**card.scores, "scale": found})
    if "test" in sets:
        card = score_test_fields(card, tensors, sets["test"], request.device)
    return card, tensors


def read_start(request: TrainRequest) -> tuple[ModelCard, dict[str, np.ndarray]] | None:
    """Read the model to start from; None for random weights.

    Raises `ModelError` if there is no such model.
    """
    if request.start == SCRATCH:
        return None
    name = request.start
    if name == DEFAULT and request.channels == ("raw",):
        name = "raw"
    return read_model(find_model(name))
