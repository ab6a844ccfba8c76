"""Training of a classifier: the fit of the network and the content of its model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._version import __version__
from ..core.devices import choose_device
from ..core.errors import AtomicityError, ModelError
from ..core.model_card import ModelCard
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop
from ..core.scale_reference import ScaleReference
from ..models.classifier import Classifier
from ..models.intensity_scale import usable
from ..models.network import AtomicityNet
from ..models.thresholds import fit_thresholds, quantities
from ..statistics.scores import atoms_of
from .calibrate import finalize_model
from .checkpoint import Checkpoint
from .data import PatchSet
from .fit import OnEpoch, best_epoch, fit_network
from .mixtures import shuffle_into_mixtures
from .scaling import find_scale, fit_scale_reference, scale_patches, select_classes
from .settings import TrainingSettings

REFERENCES_PER_CLASS = 300
REPLAYED_PER_CLASS = 60


def train_classifier(
    train: PatchSet,
    held_out: PatchSet,
    card: ModelCard,
    settings: TrainingSettings | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    start: tuple[ModelCard, dict[str, np.ndarray]] | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Fit, calibrate and describe a classifier.

    Parameters
    ----------
    train, held_out : PatchSet
        From different images (and, if simulated, of different isomers). ``held_out`` decides
        when to stop and calibrates the probabilities.
    card : ModelCard
        Name, classes, geometry and texts; the rest is filled in.
    settings : TrainingSettings, optional
        Of the fit.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    progress, stop : callable, optional
        Called at every step.
    start : tuple[ModelCard, dict[str, ndarray]], optional
        Card and tensors of a model whose convolutions the fit starts from; random ones if None.
    on_epoch, checkpoint : callable and Checkpoint, optional
        Of `fit_network`.

    Returns
    -------
    ModelCard
        Complete but for the hash, which `save_model` adds.
    dict
        Name → array, to be saved with it.

    Raises
    ------
    AtomicityError
        If a class has no patches.
    ModelError
        If ``start`` does not fit.
    Cancelled
        If ``stop()`` says so.
    """
    settings = settings or TrainingSettings()
    classes, channels = card.classes, card.patches.channels
    for part_name, part in (("training", train), ("held-out", held_out)):
        _check_classes(part_name, part, classes)
    torch.manual_seed(settings.seed)
    torch_device = choose_device(device)
    reference = card.scale or fit_scale_reference(train, classes)
    thresholds = _thresholds(train, classes, reference)
    left_out = _left_out(train, classes)
    mixed_train, mixed_held_out = (
        shuffle_into_mixtures(part, classes, settings.seed) for part in (train, held_out)
    )
    train = select_classes(scale_patches(train, reference)[0], classes)
    held_out = select_classes(scale_patches(held_out, reference)[0], classes)
    if start is not None:
        settings = replace(settings, width=start[0].width)
    network = AtomicityNet(channels, len(classes), settings.width)
    if start is not None:
        transfer_weights(network, card, *start)
    history = fit_network(
        network,
        _tensors(train, classes, channels),
        _tensors(held_out, classes, channels),
        settings,
        torch_device,
        progress,
        stop,
        atoms=[atoms_of(c) or 0 for c in classes],
        radius_px=_radius_px(train, card.patches),
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )
    tensors = {
        f"network.{k}": v.detach().float().cpu().numpy() for k, v in network.state_dict().items()
    }
    card = replace(
        card,
        scale=reference,
        thresholds=thresholds,
        width=settings.width,
        version=__version__,
        temperature=1.0,
        bias=(),
        data={**card.data, **_data(train, held_out, classes), "left_out": left_out},
        training={
            **asdict(settings),
            "started_from": start[0].model_id if start is not None else "random weights",
            "epoch_kept": best_epoch(history),
            "torch": str(torch.__version__),
            "history": history,
        },
    )
    tensors.update(_references(card, tensors, train, settings.seed, torch_device))
    tensors.update(select_replay(train, classes, channels, settings.seed))
    return finalize_model(card, tensors, mixed_train, mixed_held_out, torch_device)


def _check_classes(name: str, part: PatchSet, classes: Sequence[str]) -> None:
    """Refuse a set that lacks a class."""
    missing = [c for c in classes if not (part.table["truth"] == c).any()]
    if missing:
        raise AtomicityError(
            f"there are no {name} clusters of {', '.join(missing)}",
            advice="Every class needs clusters in at least two images",
        )


def _data(train: PatchSet, held_out: PatchSet, classes: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of clusters and images for the card."""
    return {
        "training_clusters": _counts(train, classes),
        "held_out_clusters": _counts(held_out, classes),
        "training_images": int(train.table["image"].nunique()),
        "held_out_images": int(held_out.table["image"].nunique()),
    }


def _radius_px(part: PatchSet, geometry: PatchSettings) -> Tensor:
    """Return the radius (N,) of the outlines in pixels of the patch."""
    pixel_nm = geometry.field_of_view_nm / geometry.size_px
    return torch.tensor(part.table["diameter_nm"].to_numpy(np.float32) / 2 / pixel_nm)


def transfer_weights(
    network: AtomicityNet, card: ModelCard, other: ModelCard, tensors: dict[str, np.ndarray]
) -> None:
    """Give a network the convolutions of a trained one, and its decision on classes they share.

    A new class gets random weights of the head, as does any if the channels differ.

    Raises
    ------
    ModelError
        If the trained one sees patches of another geometry or lacks a channel.
    """
    geometry, wanted = other.patches, card.patches
    if replace(geometry, channels=wanted.channels) != wanted:
        raise ModelError(
            f"{other.name!r} sees patches of {geometry.size_px} pixels over "
            f"{geometry.field_of_view_nm} nm, not of {wanted.size_px} over "
            f"{wanted.field_of_view_nm} nm",
            advice="Start from another model or from scratch",
        )
    missing = [c for c in wanted.channels if c not in geometry.channels]
    if missing:
        raise ModelError(
            f"{other.name!r} has no channel {' or '.join(missing)} to start from",
            advice=f"Its channels are {', '.join(geometry.channels)}; or start from scratch",
        )
    state = network.state_dict()
    given = {
        k.removeprefix("network."): torch.from_numpy(np.array(v))
        for k, v in tensors.items()
        if k.startswith("network.")
    }
    state.update({k: v for k, v in given.items() if k in state and k.startswith("branches.")})
    if geometry.channels == wanted.channels:
        for i, name in enumerate(card.classes):
            if name in other.classes:
                j = other.classes.index(name)
                state["head.weight"][i] = given["head.weight"][j]
                state["head.bias"][i] = given["head.bias"][j]
    network.load_state_dict(state)


def _tensors(
    part: PatchSet, classes: Sequence[str], channels: Sequence[str]
) -> tuple[dict[str, Tensor], Tensor]:
    index = {c: i for i, c in enumerate(classes)}
    label = torch.tensor([index[t] for t in part.table["truth"]], dtype=torch.long)
    return {c: torch.from_numpy(part.patches[c]) for c in channels}, label


def _left_out(part: PatchSet, classes: Sequence[str]) -> dict[str, int]:
    """Reason → detections that are not learnt from, here or before."""
    border = part.table["touches_border"].to_numpy(bool)
    no_class = ~part.table["truth"].isin(list(classes)).to_numpy() & ~border
    found = dict(part.left_out)
    for reason, n in (("border", int(border.sum())), ("no class", int(no_class.sum()))):
        if n or reason in found:
            found[reason] = found.get(reason, 0) + n
    return found


def _thresholds(
    train: PatchSet, classes: Sequence[str], reference: ScaleReference
) -> dict[str, tuple[float, ...]]:
    values: dict[str, list[np.ndarray]] = {}
    labels = []
    for _, table in train.table.groupby("image", sort=False):
        whole = usable(table) & table["truth"].isin(list(classes)).to_numpy()
        scale = find_scale(table, reference)
        for name, value in quantities(table, scale).items():
            values.setdefault(name, []).append(value[whole])
        labels.append(table["truth"][whole].map(list(classes).index).to_numpy(int))
    label = np.concatenate(labels)
    return {
        name: fit_thresholds(np.concatenate(value), label, len(classes))
        for name, value in values.items()
    }


def _counts(part: PatchSet, classes: Sequence[str]) -> dict[str, int]:
    return {c: int((part.table["truth"] == c).sum()) for c in classes}


def select_replay(
    train: PatchSet, classes: Sequence[str], channels: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Patches of every class that an adaptation sees again, so that it forgets nothing.

    Parameters
    ----------
    train : PatchSet
        Raw channel in atoms per nm².
    classes, channels : sequence of str
        Of the model.
    seed : int
        Of the choice.
    """
    whole = select_classes(train, classes)
    label, chosen = _sample_classes(whole, classes, REPLAYED_PER_CLASS, seed)
    patches = {f"replay.{c}": whole.patches[c][chosen].astype(np.float16) for c in channels}
    return {**patches, "replay.label": label[chosen].astype(np.int64)}


def _references(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    train: PatchSet,
    seed: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Embeddings of some training clusters of every class, and their UMAP."""
    from ..models.embedding import fit_map

    label, chosen = _sample_classes(train, card.classes, REFERENCES_PER_CLASS, seed)
    classifier = Classifier(card, tensors, device)
    embedding = classifier.predict(train.take(chosen).patches).embedding
    return {
        "reference.embedding": embedding.astype(np.float16),
        "reference.label": label[chosen].astype(np.int64),
        "reference.map": fit_map(embedding.astype(np.float16).astype(np.float32), seed),
    }


def _sample_classes(
    part: PatchSet, classes: Sequence[str], n_per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return class indices (N,), and random rows with at most so many of each class."""
    rng = np.random.default_rng(seed)
    label = part.table["truth"].map({c: i for i, c in enumerate(classes)}).to_numpy(int)
    rows = [rng.permutation(np.flatnonzero(label == i))[:n_per_class] for i in range(len(classes))]
    return label, np.concatenate(rows)
