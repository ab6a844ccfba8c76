"""Training of a classifier: the fit of the network and the content of its model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._version import __version__
from ..core.devices import choose_device
from ..core.errors import AtomicityError, ModelError
from ..core.model_card import ModelCard
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, prefixed, report
from ..core.scale_reference import ScaleReference
from ..models.inference import Classifier
from ..models.network import AtomicityNet, new_network
from ..models.scale.intensity_scale import usable
from ..models.thresholds import fit_thresholds, quantities
from ..statistics.scores import atoms_of
from .calibration.apparent_size import FREE_CHANNEL, add_apparent_size, embed_clusters
from .calibration.calibrate import class_means, finalize_model
from .calibration.scaling import (
    find_scale,
    fit_class_diameters,
    fit_scale_reference,
    scale_patches,
    select_classes,
    with_reference_scale,
)
from .calibration.shrinkage import shrink_apparent_size, shrink_scale_reference
from .cards import new_card
from .checkpoint import Checkpoint
from .data import KNOWN_SCALE, PatchSet, find_split_images, training_and_held_out
from .fit import OnEpoch, best_epoch, fit_network
from .request import TrainingSettings, TrainRequest, settings_for
from .score_text import (
    KNOWN_TO_START,
    SPLIT_IMAGES,
    describe_known_to_start,
    describe_split_images,
    images_known_to_start,
)

# ---- mixtures of clusters of size-selected images, for calibration under the conditions of use
#
# In a field of one size there are no intensity ratios from which the scale can be found. In a
# mixture there are, and the calibration of a model must include the errors of mixtures.

CLUSTERS_PER_IMAGE = 25
"""Mean number of clusters of a mixture."""
SHARES = 2.0
"""Concentration of the Dirichlet distribution of the shares."""


def shuffle_into_mixtures(
    part: PatchSet,  # with `KNOWN_SCALE`, else it is returned unchanged. Raw channel in counts.
    classes: Sequence[str],
    seed: int,
) -> PatchSet:
    """Shuffle clusters of images of known scale into mixtures of random shares with one scale.

    Every cluster occurs one time. Each class is divided over all mixtures, so that none is left for
    mixtures of its own, in which the scale could not be found. Intensities and raw patches are
    divided by the scale of their image, and the known scale of a mixture is 1; the scatter about
    the median of the image stays.
    """
    table = part.table
    if KNOWN_SCALE not in table:
        return part
    rng = np.random.default_rng(seed)
    scale = table[KNOWN_SCALE].to_numpy(float)
    of_class = [np.flatnonzero((table["truth"] == c).to_numpy()) for c in classes]
    n_mixtures = max(1, round(sum(map(len, of_class)) / CLUSTERS_PER_IMAGE))
    image = np.full(len(table), "", object)
    for rows in of_class:
        numbers = rng.multinomial(len(rows), rng.dirichlet([SHARES] * n_mixtures))
        names = [f"mixture {i}" for i in range(n_mixtures)]
        image[rng.permutation(rows)] = np.repeat(names, numbers)
    mixed = table.assign(
        image=image,
        origin=table["image"],
        integrated_intensity=table["integrated_intensity"] / scale,
        **{KNOWN_SCALE: 1.0},
    )
    patches = dict(part.patches)
    if "raw" in patches:
        patches["raw"] = (patches["raw"] / scale[:, None, None]).astype(np.float32)
    return replace(part, table=mixed, patches=patches).take(image != "")


REFERENCES_PER_CLASS = 300
REPLAYED_PER_CLASS = 60
CONTINUED = 0.3
"""Epochs and learning rate on all images, as a share of those of the first fit."""
Start = tuple[ModelCard, dict[str, np.ndarray]]
"""Card and tensors of the model that a fit starts from."""


def train_classifier(
    train: PatchSet,
    held_out: PatchSet,
    card: ModelCard,
    settings: TrainingSettings | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    start: Start | None = None,
    teacher: Start | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    with_map: bool = True,
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Fit, calibrate and describe a classifier.

    Parameters
    ----------
    train, held_out : PatchSet
        From different images and isomers. ``held_out`` decides when to stop, and calibrates.
    card : ModelCard
        Name, classes, geometry and texts.
    settings : TrainingSettings, optional
        Settings of the fit.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    progress, stop : callable, optional
        Called at every step.
    start : tuple of ModelCard and dict, optional
        Card and tensors of a model whose convolutions the fit starts from.
    teacher : tuple of ModelCard and dict, optional
        Card and tensors of a model of the same classes and channels, whose class maps are learnt.
    on_epoch, checkpoint : callable, Checkpoint, optional
        See `fit_network`.
    with_map : bool, optional
        Whether to fit the map of the embedding, which takes seconds.

    Returns
    -------
    ModelCard, dict of str to ndarray
        Card without its hash, which `save_model` adds, and tensors.

    Raises
    ------
    AtomicityError
        If a class has no patches, ``start`` has another geometry, or ``teacher`` another input or
        other classes.
    Cancelled
        If ``stop()`` is true.
    """
    settings = _with_width(settings or TrainingSettings(), start)
    for name, part in (("training", train), ("held-out", held_out)):
        _check_classes(name, part, card.classes)
    torch.manual_seed(settings.seed)
    torch_device = choose_device(device)
    card, sets = _scale_sets(card, train, held_out, settings.seed, start)
    network = _new_network(card, settings, start)
    patches, label, radius_px = _with_replay(sets.train, card, start)
    history = fit_network(
        network, (patches, label), _arrays(sets.held_out, card),
        settings, torch_device, progress, stop,
        atoms=[atoms_of(c) or 0 for c in card.classes],
        radius_px=radius_px, on_epoch=on_epoch, checkpoint=checkpoint,
        teacher=_teacher_network(card, teacher, torch_device),
        frozen=(FREE_CHANNEL,) if _keeps_sizes(card, start) else (),
    )  # fmt: skip
    card = _with_training(card, settings, start, teacher, history)
    tensors = _tensors(card, network, sets.train, settings.seed, torch_device)
    if with_map:
        check(stop)
        report(progress, 0, 0, "Fitting the map of the clusters")
        tensors = _with_map(tensors, settings.seed)
    check(stop)
    report(progress, 0, 0, "Calibrating")
    return _calibrate(card, tensors, sets, torch_device, start)


def continue_on_all_images(
    model: Start,  # calibrated model of `train_classifier`
    sets: Sequence[PatchSet],  # training and held-out clusters, raw channel in counts
    settings: TrainingSettings,
    device: str = "auto",  # "auto", "cpu", "cuda" or "mps"
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Start:  # the model with new weights, references, class means and apparent size
    """Fit a network from random weights further, with the images that were held out.

    With few images, those that calibrate are a quarter of all, and their isomers and conditions are
    missed. The calibration stays: that of a network with fewer images, which is a little too
    careful. Scores of held-out images must be computed before.
    """
    card, tensors = model
    assert card.scale is not None
    torch_device = choose_device(device)
    whole = PatchSet.join(sets)
    part = select_classes(scale_patches(whole, card.scale)[0], card.classes)
    arrays = _arrays(part, card)
    settings = replace(
        settings,
        epochs=max(1, round(CONTINUED * settings.epochs)),
        learning_rate=CONTINUED * settings.learning_rate,
        patience=0,
    )
    network = Classifier(card, tensors, torch_device).network
    fit_network(
        network, arrays, arrays, settings, torch_device, prefixed(progress, "All images: "), stop,
        radius_px=_radius_px(part, card.patches),
    )  # fmt: skip
    new = _tensors(card, network, part, settings.seed, torch_device)
    if "reference.map" in tensors:
        new = _with_map(new, settings.seed)
    tensors = {**tensors, **new}
    mixed = shuffle_into_mixtures(whole, card.classes, settings.seed)
    tensors |= class_means(card, tensors, mixed, torch_device)
    if card.apparent_size is not None:
        card = add_apparent_size(card, tensors, part, torch_device)
    training = {**card.training, "epochs_of_all_images": settings.epochs}
    return replace(card, training=training), tensors


def train_in_memory(
    request: TrainRequest,
    part: PatchSet,
    classes: Sequence[str],
    start: Start | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    with_map: bool = False,
) -> Start:
    """Train a model on labelled clusters as `run.train` does; nothing is scored or written.

    Parameters
    ----------
    part : PatchSet
        Clusters of known class, raw channel in counts.
    start : tuple of ModelCard and dict, optional
        Card and tensors of the model to start from; None for random weights.
    with_map : bool, optional
        Whether to fit the map of the embedding.
    """
    sets = training_and_held_out(part, request.seed)
    settings = settings_for(request, len(sets["train"]))
    model = train_classifier(
        sets["train"], sets["held_out"], new_card(request, sets, list(classes)), settings,
        request.device, progress, stop, start=start, with_map=with_map,
    )  # fmt: skip
    if start is not None:
        return model
    return continue_on_all_images(
        model, list(sets.values()), settings, request.device, progress, stop
    )


def _calibrate(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    sets: _ScaledSets,
    device: torch.device,
    start: Start | None,
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Add the apparent size, and calibrate the probabilities on mixtures."""
    whole, size = PatchSet.join([sets.train, sets.held_out]), None
    if start is not None and _keeps_sizes(card, start):
        embedding = embed_clusters(card, tensors, whole, device)
        size = shrink_apparent_size(embedding, whole.table, card.classes, start[0])
    if size is None:
        card = add_apparent_size(card, tensors, whole, device)
    else:
        card = replace(card, apparent_size=size)
    earlier = None if start is None else start[0]
    return finalize_model(card, tensors, sets.mixed_train, sets.mixed_held_out, device, earlier)


def _keeps_sizes(card: ModelCard, start: Start | None) -> bool:
    """Return whether the apparent size of the model to start from holds for the new one.

    It is a function of the features of one channel, which then are not trained. Refitted to a few
    isomers, it would put all labels of a session of one size into a wrong class.
    """
    if start is None or start[0].apparent_size is None:
        return False
    return FREE_CHANNEL in card.patches.channels == start[0].patches.channels


def _with_replay(
    train: PatchSet, card: ModelCard, start: Start | None
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return patches, class indices and radii of the training clusters, and of replayed ones.

    Patches that the model to start from has kept keep the network from forgetting other isomers:
    the fewer images, the larger is their share.
    """
    patches, label = _arrays(train, card)
    radius_px = _radius_px(train, card.patches)
    if start is None or "replay.label" not in start[1] or card.scale is None:
        return patches, label, radius_px
    other, tensors = start
    index = {c: i for i, c in enumerate(card.classes)}
    replayed = np.array([index.get(c, -1) for c in other.classes])[tensors["replay.label"]]
    kept = np.flatnonzero(replayed >= 0)
    for channel, own in patches.items():
        extra = torch.from_numpy(tensors[f"replay.{channel}"][kept].astype(np.float32))
        patches[channel] = torch.cat([own, extra])
    radius_nm = np.exp(np.array(card.scale.log_diameter))[replayed[kept]] / 2
    pixel_nm = card.patches.field_of_view_nm / card.patches.size_px
    return (
        patches,
        torch.cat([label, torch.from_numpy(replayed[kept].astype(np.int64))]),
        torch.cat([radius_px, torch.from_numpy((radius_nm / pixel_nm).astype(np.float32))]),
    )


def _with_width(settings: TrainingSettings, start: Start | None) -> TrainingSettings:
    """Return the settings with the width of the model to start from."""
    return settings if start is None else replace(settings, width=start[0].width)


def _new_network(card: ModelCard, settings: TrainingSettings, start: Start | None) -> AtomicityNet:
    """Return a network with random weights, or those of the model to start from."""
    network = new_network(replace(card, width=settings.width))
    if start is not None:
        transfer_weights(network, card, *start)
    return network


def _teacher_network(
    card: ModelCard, teacher: Start | None, device: torch.device
) -> AtomicityNet | None:
    """Return the network of the teacher; refuse one whose class maps are of something else."""
    if teacher is None:
        return None
    if (teacher[0].classes, teacher[0].patches) != (card.classes, card.patches):
        raise ModelError(f"{teacher[0].name!r} has other classes or patches than its pupil")
    return Classifier(*teacher, device).network


@dataclass(frozen=True, eq=False)
class _ScaledSets:
    """Clusters of the classes with the raw channel in atoms per nm², and the same as mixtures."""

    train: PatchSet
    held_out: PatchSet
    mixed_train: PatchSet
    mixed_held_out: PatchSet


def _scale_sets(
    card: ModelCard, train: PatchSet, held_out: PatchSet, seed: int, start: Start | None
) -> tuple[ModelCard, _ScaledSets]:
    """Scale the sets; return the card with reference, thresholds and numbers of clusters."""
    classes = card.classes
    reference = card.scale
    if reference is None and start is not None and KNOWN_SCALE in train.table:
        reference = shrink_scale_reference(train.table, classes, start[0])
        if reference is not None:
            train, held_out = (
                with_reference_scale(x, classes, reference) for x in (train, held_out)
            )
    reference = reference or fit_scale_reference(train, classes)
    thresholds = _thresholds(train, classes, reference)
    densities = fit_class_diameters(train, classes, reference)
    left_out = _left_out(train, classes)
    mixed_train, mixed_held_out = (
        shuffle_into_mixtures(part, classes, seed) for part in (train, held_out)
    )
    train = select_classes(scale_patches(train, reference)[0], classes)
    held_out = select_classes(scale_patches(held_out, reference)[0], classes)
    data = {**card.data, **_counts_of_sets(train, held_out, classes), "left_out": left_out}
    images = {str(name) for part in (train, held_out) for name in part.table["image"].unique()}
    if seen := images_known_to_start(None if start is None else start[0], images):
        data[KNOWN_TO_START] = seen
    for doubt in filter(None, (describe_split_images(data), describe_known_to_start(data))):
        card = replace(card, limits=f"{card.limits} {doubt}".lstrip())
    card = replace(
        card, scale=reference, thresholds=thresholds, diameter_density=densities, data=data
    )
    return card, _ScaledSets(train, held_out, mixed_train, mixed_held_out)


def _with_training(
    card: ModelCard,
    settings: TrainingSettings,
    start: Start | None,
    teacher: Start | None,
    history: list[dict[str, float]],
) -> ModelCard:
    """Return the card with the settings and the history of the fit, not yet calibrated."""
    return replace(
        card,
        width=settings.width,
        version=__version__,
        temperature=1.0,
        bias=(),
        training={
            **asdict(settings),
            "started_from": start[0].model_id if start is not None else "random weights",
            **({} if teacher is None else {"teacher": teacher[0].model_id}),
            "epoch_kept": best_epoch(history),
            "torch": str(torch.__version__),
            "history": history,
        },
    )


def _tensors(
    card: ModelCard, network: AtomicityNet, train: PatchSet, seed: int, device: torch.device
) -> dict[str, np.ndarray]:
    """Return the tensors of a model: weights, reference embeddings, patches to replay."""
    tensors = {
        f"network.{k}": v.detach().float().cpu().numpy() for k, v in network.state_dict().items()
    }
    tensors.update(_references(card, tensors, train, seed, device))
    tensors.update(select_replay(train, card.classes, card.patches.channels, seed))
    return tensors


def _check_classes(name: str, part: PatchSet, classes: Sequence[str]) -> None:
    """Refuse a set that lacks a class."""
    missing = [c for c in classes if not (part.table["truth"] == c).any()]
    if missing:
        raise AtomicityError(
            f"there are no {name} clusters of {', '.join(missing)}",
            advice="Every class needs several clusters, best in several images",
        )


def _counts_of_sets(train: PatchSet, held_out: PatchSet, classes: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of clusters and images for the card."""
    return {
        "training_clusters": _counts(train, classes),
        "held_out_clusters": _counts(held_out, classes),
        "training_images": int(train.table["image"].nunique()),
        "held_out_images": int(held_out.table["image"].nunique()),
        SPLIT_IMAGES: find_split_images(train.table, held_out.table),
    }


def _radius_px(part: PatchSet, geometry: PatchSettings) -> Tensor:
    """Return the radius (N,) of the outlines in pixels of the patch."""
    pixel_nm = geometry.field_of_view_nm / geometry.size_px
    return torch.tensor(part.table["diameter_nm"].to_numpy(np.float32) / 2 / pixel_nm)


def transfer_weights(
    network: AtomicityNet, card: ModelCard, other: ModelCard, tensors: dict[str, np.ndarray]
) -> None:
    """Copy the convolutions of a trained network, and its decisions on shared classes, in place.

    A new class keeps random weights of the head, as do all if the channels differ.

    Raises `ModelError` if the trained network has patches of another geometry or lacks a channel.
    """
    geometry, wanted = other.patches, card.patches
    if geometry.raw_unit != wanted.raw_unit:
        raise ModelError(
            f"{other.name!r} has another unit of the raw channel than the model to train",
            advice="Start from scratch, or from a model trained with the same scale (--scale)",
        )
    same = replace(geometry, channels=wanted.channels, raw_unit=wanted.raw_unit)
    if same != wanted:
        raise ModelError(
            f"{other.name!r} has patches of {geometry.size_px} pixels over "
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


def _arrays(part: PatchSet, card: ModelCard) -> tuple[dict[str, Tensor], Tensor]:
    """Return patches by channel, and class indices (N,)."""
    index = {c: i for i, c in enumerate(card.classes)}
    label = torch.tensor([index[t] for t in part.table["truth"]], dtype=torch.long)
    return {c: torch.from_numpy(part.patches[c]) for c in card.patches.channels}, label


def _left_out(part: PatchSet, classes: Sequence[str]) -> dict[str, int]:
    """Return reason → number of detections that are not used for training, here or before."""
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
    """Fit thresholds between classes for each quantity."""
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
    """Return the number of clusters of each class."""
    return {c: int((part.table["truth"] == c).sum()) for c in classes}


def select_replay(
    train: PatchSet,  # raw channel in atoms per nm²
    classes: Sequence[str],
    channels: Sequence[str],
    seed: int,
) -> dict[str, np.ndarray]:  # ``replay.<channel>`` and ``replay.label``
    """Select patches of every class that an adaptation replays, so that it forgets nothing."""
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
    """Return embeddings of some training clusters of every class."""
    label, chosen = _sample_classes(train, card.classes, REFERENCES_PER_CLASS, seed)
    classifier = Classifier(card, tensors, device)
    embedding = classifier.predict(train.take(chosen).patches).embedding
    return {
        "reference.embedding": embedding.astype(np.float16),
        "reference.label": label[chosen].astype(np.int64),
    }


def _with_map(tensors: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return the tensors with the UMAP of the reference embeddings."""
    from ..models.embedding import fit_map

    embedding = tensors["reference.embedding"].astype(np.float32)
    return {**tensors, "reference.map": fit_map(embedding, seed)}


def _sample_classes(
    part: PatchSet, classes: Sequence[str], n_per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return class indices (N,), and random rows with at most so many of each class."""
    rng = np.random.default_rng(seed)
    label = part.table["truth"].map({c: i for i, c in enumerate(classes)}).to_numpy(int)
    rows = [rng.permutation(np.flatnonzero(label == i))[:n_per_class] for i in range(len(classes))]
    return label, np.concatenate(rows)
