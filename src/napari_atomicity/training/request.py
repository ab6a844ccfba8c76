"""One request, one function: from where the labelled clusters come, to a model file."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .._version import __version__
from ..core.devices import choose_device
from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.model_card import ModelCard
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, report
from ..models.files import find_model, read_model, save_model
from ..models.intensity_scale import intensity_per_atom
from ..simulation.field_settings import (
    random_atom_settings,
    random_outlier_settings,
    random_settings,
)
from ..simulation.metals import composition
from ..simulation.structures import Isomer, library_of
from ..statistics.scores import atoms_of
from .calibrate import scores
from .checkpoint import Checkpoint, load_patches, save_patches
from .data import (
    DrawSettings,
    PatchSet,
    from_corrections,
    from_folder,
    from_simulation,
    split_by_image,
    split_library,
    tables_with_images,
)
from .fit import OnEpoch, TrainingSettings, train_classifier
from .out_of_distribution import can_fit_out_of_distribution, fit_out_of_distribution

SCRATCH = "scratch"
DEFAULT = "default"
MIN_ISOMERS = 10
"""Per class: one in ten is held out and one in ten kept for the test."""
OUTSIDE_DRAWS: dict[str, DrawSettings] = {
    "atoms": random_atom_settings,
    "aggregates": random_outlier_settings,
}
"""Simulated fields of what is none of the classes."""
FIELD_SHARES = {"train": 0.76, "held_out": 0.12, "test": 0.12}
"""Of simulated fields; of isomers, see `training.data.SHARES`."""


@dataclass(frozen=True)
class FolderSource:
    """``folder/<class>/*.tif``: size-selected images."""

    folder: Path


@dataclass(frozen=True)
class SimulationSource:
    """Simulated fields of classes such as ``Au55``, under conditions drawn widely.

    Parameters
    ----------
    classes
        Of one metal or several.
    fields
        All of them: for training, held out, and for the test.
    isomers
        Structures per class; none occurs on two sides.
    workers
        Processes that simulate.
    """

    classes: tuple[str, ...]
    fields: int = 300
    isomers: int = 60
    workers: int = 1


@dataclass(frozen=True)
class CorrectionsSource:
    """Cluster tables with corrected labels, and files or folders that hold their images."""

    tables: tuple[Path, ...]
    images: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class CorrectedImagesSource:
    """The same in memory: micrographs with their cluster tables."""

    images: tuple[tuple[Micrograph, pd.DataFrame], ...]


Source = FolderSource | SimulationSource | CorrectionsSource | CorrectedImagesSource


@dataclass(frozen=True, eq=False)
class TrainRequest:
    """All that decides what a training gives.

    Parameters
    ----------
    source
        Where labelled clusters come from.
    out
        The .safetensors file to write; its card lies beside it.
    channels
        "raw" and "LCN", or one of them.
    start
        "default": the convolutions of the shipped model; "scratch": random weights; else the name
        or path of a model.
    epochs
        Passes over the training patches at most.
    patience
        Epochs without a lower held-out loss after which the fit ends; 0 never.
    seed
        Of split, fit and simulation: the same seed gives the same weights on the same machine.
    device
        "auto", "cpu", "cuda" or "mps".
    pixel_size_nm
        For images without calibration.
    """

    source: Source
    out: Path
    channels: tuple[str, ...] = ("raw", "LCN")
    start: str = DEFAULT
    epochs: int = 40
    patience: int = 8
    seed: int = 0
    device: str = "auto"
    pixel_size_nm: float | None = None

    @property
    def workspace(self) -> Path:
        """The folder beside the model in which an interrupted training is kept."""
        return self.out.with_suffix(".training")

    @property
    def resumable(self) -> bool:
        """Whether something of an interrupted training of this file is kept."""
        return (self.workspace / "train.safetensors").is_file()


def train(
    request: TrainRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_epoch: OnEpoch | None = None,
) -> ModelCard:
    """Train a model and write it with its card.

    The patches and, after every epoch, the state of the fit are kept in ``request.workspace``;
    the same request goes on from there. The folder goes when the model is written.

    Parameters
    ----------
    request
        What to train, from what.
    progress, stop
        ``progress(done, total, message)`` and ``stop() -> bool``.
    on_epoch
        Called with the history after every epoch; see `fit.fit_network`.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    AtomicityError
        If the data don't suffice, an image can't be read, the model to start from does not fit,
        or the result can't be written.
    Cancelled
        If ``stop()`` says so; what was done is kept.
    """
    began = time.monotonic()
    check_source(request.source)
    start = _start(request)
    choose_device(request.device)
    key = _key(request, start[0] if start is not None else None)
    sets, classes = _prepared(request, key, progress, stop)
    settings = settings_for(request)
    card, tensors = train_classifier(
        sets["train"],
        sets["held_out"],
        _new_card(request, sets, classes),
        settings,
        request.device,
        progress,
        stop,
        start=start,
        on_epoch=on_epoch,
        checkpoint=Checkpoint(request.workspace / "checkpoint.safetensors", key),
    )
    check(stop)
    others = [sets[name] for name in OUTSIDE_DRAWS if name in sets]
    if can_fit_out_of_distribution(sets["held_out"], others, classes):
        device = choose_device(request.device)
        tensors = fit_out_of_distribution(
            card, tensors, sets["held_out"], others, device, request.seed
        )
    off, images = scale_check(sets.values(), card)
    if images:
        card = replace(card, scores={**card.scores, "scale": {"images": images, "off": off}})
    if "test" in sets:
        card = _tested(card, tensors, sets["test"], request.device)
    seconds = round(time.monotonic() - began)
    card = replace(card, training={**card.training, "seconds": seconds})
    card = save_model(request.out, card, tensors)
    shutil.rmtree(request.workspace, ignore_errors=True)
    report(progress, 1, 1, f"Model {card.model_id}")
    return card


def settings_for(request: TrainRequest) -> TrainingSettings:
    """The fit's settings: gentler where it starts from trained weights.

    Chosen by cross-validation by image within size-selected images.
    """
    simulated = isinstance(request.source, SimulationSource)
    settings = TrainingSettings(
        epochs=request.epochs,
        patience=request.patience,
        seed=request.seed,
        batch_size=128 if simulated else 64,
        # simulated fields differ in their conditions by themselves, and have clusters that touch
        # others of any size
        conditions=0.0 if simulated else 1.0,
        neighbours=0.0 if simulated else 0.3,
    )
    if request.start == SCRATCH:
        return settings
    return replace(settings, learning_rate=1e-3, body_rate=0.3)


def _start(request: TrainRequest) -> tuple[ModelCard, dict[str, np.ndarray]] | None:
    if request.start == SCRATCH:
        return None
    name = request.start
    if name == DEFAULT and request.channels == ("raw",):
        name = "raw"
    return read_model(find_model(name))


# ---- the labelled clusters


def _prepared(
    request: TrainRequest, key: str, progress: Progress | None, stop: Stop | None
) -> tuple[dict[str, PatchSet], list[str]]:
    """The sets "train", "held_out" and, from simulation, "test"; and the classes."""
    names = ["train", "held_out"]
    if isinstance(request.source, SimulationSource):
        names += ["test", *OUTSIDE_DRAWS]
    paths = {name: request.workspace / f"{name}.safetensors" for name in names}
    stored = {name: load_patches(path, key) for name, path in paths.items()}
    found = {name: part for name, part in stored.items() if part is not None}
    if len(found) < len(names):
        found = _made(request, progress, stop)
        for name, part in found.items():
            save_patches(paths[name], part, key)
    truths = set(found["train"].table["truth"]) - {""}
    if isinstance(request.source, SimulationSource):
        truths = set(request.source.classes)  # what else is in a field, such as aggregates, is none
    return found, sorted(truths, key=lambda c: (atoms_of(c) or 0, c))


def _made(
    request: TrainRequest, progress: Progress | None, stop: Stop | None
) -> dict[str, PatchSet]:
    source, geometry = request.source, PatchSettings(channels=request.channels)
    match source:
        case SimulationSource():
            return _simulated_sets(source, geometry, request.seed, progress, stop)
        case FolderSource():
            whole, _ = from_folder(source.folder, geometry, request.pixel_size_nm, progress, stop)
        case CorrectionsSource():
            pairs = tables_with_images(source.tables, source.images, request.pixel_size_nm)
            whole, _ = from_corrections(pairs, geometry, progress, stop)
        case CorrectedImagesSource():
            whole, _ = from_corrections(source.images, geometry, progress, stop)
    held = split_by_image(whole.table, 0.2, np.random.default_rng(request.seed))
    return {"train": whole.take(~held), "held_out": whole.take(held)}


def _simulated_sets(
    source: SimulationSource,
    geometry: PatchSettings,
    seed: int,
    progress: Progress | None,
    stop: Stop | None,
) -> dict[str, PatchSet]:
    """Isomers are divided before anything else, then every part has its own fields."""

    def watched(done: int, total: int, message: str) -> None:
        check(stop)
        report(progress, done, total, message)

    library = library_of(source.classes, source.isomers, seed, source.workers, watched)
    parts: dict[str, list[Isomer]] = {}
    for label in source.classes:
        for name, isomers in split_library([i for i in library if i.label == label], seed).items():
            parts.setdefault(name, []).extend(isomers)
    draws: dict[str, DrawSettings] = dict.fromkeys(parts, random_settings)
    # what the held-out clusters are told apart from
    draws.update(OUTSIDE_DRAWS)
    seeds = np.random.SeedSequence([seed, 1]).generate_state(len(draws))
    return {
        name: from_simulation(
            parts.get(name, parts["held_out"]),
            source.classes,
            max(2, round(FIELD_SHARES.get(name, FIELD_SHARES["held_out"]) * source.fields)),
            int(own_seed),
            geometry,
            source.workers,
            progress,
            stop,
            draw,
        )
        for (name, draw), own_seed in zip(draws.items(), seeds, strict=True)
    }


def check_source(source: Source) -> None:
    """Refuse at once what can't be simulated.

    Raises
    ------
    AtomicityError
        If there are fewer than two classes, an unknown metal, or too few isomers to divide.
    """
    if not isinstance(source, SimulationSource):
        return
    for name in source.classes:
        composition(name)
    if len(set(source.classes)) < max(2, len(source.classes)):
        raise AtomicityError(
            "at least two different classes are needed", advice="Give for example Au20,Au55,Au92"
        )
    if source.isomers < MIN_ISOMERS:
        raise AtomicityError(
            f"{source.isomers} isomers can't be divided into training, held-out and test",
            advice=f"Give at least {MIN_ISOMERS}",
        )


# ---- what the card says


def _new_card(request: TrainRequest, sets: dict[str, PatchSet], classes: list[str]) -> ModelCard:
    source, names = request.source, ", ".join(classes)
    images = sorted({str(i) for part in sets.values() for i in part.table["image"].unique()})
    match source:
        case SimulationSource():
            made_of = f"simulated images of {names}"
            data: dict[str, Any] = {
                "source": "napari_atomicity.simulation",
                **asdict(source),
                "split": "by isomer, and so by image",
            }
        case FolderSource():
            made_of = f"size-selected images of {names}"
            data = {"source": "folder", "folder": source.folder.name, "images": images}
        case _:
            made_of = f"corrected labels of {names}"
            data = {"source": "corrected labels", "images": images}
    limits = "Sizes between the classes and aggregates are given the nearest class or 'unknown'."
    if isinstance(source, SimulationSource):
        limits += " It has seen nothing but simulation."
    return ModelCard(
        name=request.out.stem,
        classes=tuple(classes),
        patches=PatchSettings(channels=request.channels),
        description=f"Trained on {made_of}.",
        intended_use="Images of the same metal under conditions like those of the training images.",
        limits=limits,
        data=data,
    )


def scale_check(parts: Iterable[PatchSet], card: ModelCard) -> tuple[int, int]:
    """In how many images the mixture misjudges a scale that is known, and of how many.

    By more than half the least distance of two classes: what the network sees is then nearer to
    another class. In fields of one size that happens oftener than in mixtures.
    """
    if card.scale is None:
        raise ValueError("a trained model has a scale")
    limit = float(np.diff(np.sort(card.scale.log_intensity)).min()) / 2
    off = images = 0
    for part in parts:
        if "known_intensity_per_atom" in part.table:
            for _, image in part.table.groupby("image"):
                known_scale = float(image["known_intensity_per_atom"].iloc[0])
                found = intensity_per_atom(image, card.scale)
                off += abs(np.log(found / known_scale)) > limit
                images += 1
    return int(off), images


def _tested(
    card: ModelCard, tensors: dict[str, np.ndarray], test: PatchSet, device: str
) -> ModelCard:
    """Scores on fields that decided nothing, with the scale as the mixture finds it."""
    if card.scale is None:
        raise ValueError("a trained model has a scale")
    found = scores(card, tensors, test, choose_device(device))
    return replace(card, scores={**card.scores, "test": found})


# ---- the same request again


def _key(request: TrainRequest, start: ModelCard | None) -> str:
    """A hash of all that decides the result but the device; files by size and time."""
    source = request.source
    match source:
        case FolderSource():
            from_what: Any = ["folder", *_stamps([source.folder])]
        case CorrectionsSource():
            from_what = ["tables", *_stamps([*source.tables, *source.images])]
        case CorrectedImagesSource():
            from_what = [
                (m.name, m.pixel_size_nm, _pixel_hash(m), _digest(t)) for m, t in source.images
            ]
        case SimulationSource():
            from_what = asdict(replace(source, workers=1))
    values = {
        "version": __version__,
        "source": from_what,
        "start": None if start is None else start.sha256,
        **{
            name: getattr(request, name)
            for name in ("channels", "epochs", "patience", "seed", "pixel_size_nm")
        },
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _pixel_hash(micrograph: Micrograph) -> str:
    """A hash of the pixels; of a large image that of its file, if that is known."""
    if not micrograph.is_large:
        return hashlib.sha256(micrograph.data.tobytes()).hexdigest()
    if micrograph.sha256 is not None:
        return micrograph.sha256
    whole = hashlib.sha256(f"{micrograph.shape} {micrograph.data.dtype}".encode())
    for index in range(micrograph.n_frames):
        for strip in micrograph.strips(index):
            whole.update(strip.tobytes())
    return whole.hexdigest()


def _digest(table: pd.DataFrame) -> str:
    columns = ["cluster_id", "frame", "y_px", "x_px", "label_corrected"]
    return hashlib.sha256(table[columns].to_csv(index=False).encode()).hexdigest()


def _stamps(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of every file."""
    files = [f for p in paths for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
    return [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


# ---- the usual case in one line


def train_from_folder(
    data_dir: Path,
    out_path: Path,
    channels: Sequence[str] = ("raw", "LCN"),
    seed: int = 0,
    epochs: int = 40,
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
    data_dir
        ``data_dir/<class>/*.tif``; see `from_folder`.
    out_path
        Where the .safetensors and the .json go.
    channels, seed, epochs, pixel_size_nm, device, start
        See `TrainRequest`.
    progress, stop
        As elsewhere.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    ReadError, AtomicityError, ModelError
        If the data don't suffice or the model can't be written.
    """
    request = TrainRequest(
        FolderSource(Path(data_dir)),
        Path(out_path).with_suffix(".safetensors"),
        tuple(channels),
        start,
        epochs,
        seed=seed,
        device=device,
        pixel_size_nm=pixel_size_nm,
    )
    return train(request, progress, stop)
