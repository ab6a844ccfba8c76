"""Training of a model from a request to a file with its card."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.devices import choose_device
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..models.embedding import check_umap
from ..models.files import find_model, read_model, save_model
from .cards import (
    check_scales,
    new_card,
    recorded_session,
    score_held_out_images,
    score_test_fields,
)
from .checkpoint import Checkpoint
from .classifier import continue_on_all_images, train_classifier
from .data import KNOWN_SCALE, PatchSet
from .fit import OnEpoch
from .gain import measure_gain
from .out_of_distribution import can_fit_out_of_distribution, fit_out_of_distribution
from .prepared_sets import OTHER_DRAWS, prepare_sets
from .request import (
    DEFAULT,
    SCRATCH,
    FolderSource,
    SimulationSource,
    TrainRequest,
    check_source,
    settings_for,
)
from .request_key import request_key


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
        fit, the result can't be written, or umap-learn is not installed.
    Cancelled
        If ``stop()`` is true; the workspace is kept.
    """
    started = time.monotonic()
    check_source(request.source)
    start = read_start(request)
    choose_device(request.device)
    check_umap()  # before the training, which needs it at the end
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
        checkpoint=Checkpoint(request.workspace / "checkpoint.safetensors", key),
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


def train_from_folder(
    data_dir: Path,
    out_path: Path,
    channels: Sequence[str] = ("raw", "LCN"),
    seed: int = 0,
    epochs: int | None = None,
    pixel_size_nm: float | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    start: str = DEFAULT,
) -> ModelCard:
    """Train a model on size-selected images and write it with its card: see `train`.

    Parameters
    ----------
    data_dir : Path
        ``data_dir/<class>/*.tif``; see `from_folder`.
    out_path : Path
        The .safetensors file to write; its card has the same name.
    channels : sequence of str, optional
        See `TrainRequest`.
    seed, epochs : int, optional
        See `TrainRequest`.
    pixel_size_nm : float, optional
        See `TrainRequest`.
    device : str, optional
        See `TrainRequest`.
    progress, stop : callable, optional
        Called at every step.
    start : str, optional
        See `TrainRequest`.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    ReadError, AtomicityError, ModelError
        If the data are not sufficient or the model can't be written.
    """
    request = TrainRequest(
        FolderSource(Path(data_dir)),
        Path(out_path).with_suffix(".safetensors"),
        tuple(channels),
        start=start,
        epochs=epochs,
        seed=seed,
        device=device,
        pixel_size_nm=pixel_size_nm,
    )
    return train(request, progress, stop)
