"""Fitting the network, and everything that the card says of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from .._version import __version__
from ..core.devices import choose_device
from ..core.errors import AtomicityError, ModelError
from ..core.model_card import ModelCard
from ..core.patches import PatchSettings
from ..core.progress import Progress, Stop, check, report
from ..core.scale_reference import ScaleReference
from ..models.classifier import Classifier
from ..models.intensity_scale import intensity_per_atom, usable
from ..models.network import AtomicityNet
from ..models.thresholds import fit_thresholds, quantities
from ..statistics.scores import atoms_of
from .augmentation import augmented
from .calibrate import finished
from .checkpoint import Checkpoint, optimiser_tensors, restore_optimiser, weights
from .data import PatchSet
from .mixtures import as_mixtures

REFERENCES_PER_CLASS = 300
REPLAYED_PER_CLASS = 60
OnEpoch = Callable[[list[dict[str, float]]], None]
"""Called with the history so far: a dict per epoch."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is fitted.

    Parameters
    ----------
    epochs
        Passes over the training patches at most; the best on held-out images is kept.
    batch_size, learning_rate, weight_decay
        Of AdamW with a warm-up and a cosine.
    neighbour_smoothing
        Share of the target that goes to the next smaller and larger class: mistaking a cluster
        for its neighbour is the lesser error.
    scale_jitter
        Standard deviation of the logarithm by which the raw channel is misjudged on purpose.
    body_rate
        Learning rate of the convolutions as a share of the head's; less than 1 where they start
        from trained ones.
    conditions
        How much noise, blur and misjudged background are added to patches (`augmentation`);
        simulated fields vary in them by themselves.
    neighbours
        Share of patches that get another cluster beside their own; simulated fields have
        clusters that touch.
    patience
        Epochs without a lower held-out loss after which the fit ends; 0 never.
    width
        Features of the network's first layer.
    seed
        Of weights, order and augmentation.
    """

    epochs: int = 16
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    neighbour_smoothing: float = 0.03
    scale_jitter: float = 0.04
    body_rate: float = 1.0
    conditions: float = 0.0
    neighbours: float = 0.0
    patience: int = 0
    width: int = 16
    seed: int = 0


def scale_of(image: pd.DataFrame, reference: ScaleReference) -> float:
    """The intensity of one atom in an image: from its known classes, else by the mixture.

    In a field of one size there are no intensity ratios to recognise, and the mixture may be one
    class off. Where a person says what the clusters are, it is not asked.
    """
    if "known_intensity_per_atom" in image:
        return float(image["known_intensity_per_atom"].iloc[0])
    return intensity_per_atom(image, reference)


def scaled(part: PatchSet, reference: ScaleReference) -> tuple[PatchSet, np.ndarray]:
    """Divide every image's raw channel by its intensity per atom (`scale_of`).

    Returns
    -------
    PatchSet
        With the raw channel in atoms per nm².
    ndarray
        (N,) the intensity per atom.
    """
    scale = np.ones(len(part))
    for _, rows in part.table.groupby("image", sort=False).indices.items():
        scale[rows] = scale_of(part.table.iloc[rows], reference)
    patches = dict(part.patches)
    if "raw" in patches:
        patches["raw"] = (patches["raw"] / scale[:, None, None]).astype(np.float32)
    return replace(part, patches=patches), scale


def class_balanced_weights(label: np.ndarray, n_classes: int) -> np.ndarray:
    """(C,) weights that make every class count the same."""
    count = np.bincount(label, minlength=n_classes)
    return np.asarray(len(label) / (n_classes * np.maximum(count, 1)), np.float32)


def _targets(label: Tensor, n_classes: int, smoothing: float) -> Tensor:
    target = functional.one_hot(label, n_classes).float()
    spill = torch.zeros_like(target)
    spill[:, 1:] += target[:, :-1] / 2
    spill[:, :-1] += target[:, 1:] / 2
    kept = 1 - smoothing * spill.sum(dim=1, keepdim=True)
    return target * kept + smoothing * spill


def fit_network(
    network: AtomicityNet,
    train: tuple[dict[str, Tensor], Tensor],
    held_out: tuple[dict[str, Tensor], Tensor],
    settings: TrainingSettings,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    atoms: Sequence[int] = (),
    radius_px: Tensor | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[dict[str, float]]:
    """Fit a network in place; the average of its weights over the last steps is what remains.

    Every epoch draws its chance from (seed, epoch), so that a fit that goes on from a checkpoint
    ends with the same weights as one that was never interrupted.

    Parameters
    ----------
    network
        With random weights, or those to start from.
    train, held_out
        Channel → (N, P, P), and (N,) class indices.
    settings
        Of the fit.
    device
        Where to compute.
    progress, stop
        Called at every step.
    atoms
        (C,) number of atoms of each class, for the mean error in atoms.
    radius_px
        (N,) radius of the training clusters in pixels of the patch, for ``settings.neighbours``.
    on_epoch
        Called with the history after every epoch.
    checkpoint
        Written after every epoch; the fit goes on from it if it is there.

    Returns
    -------
    list of dict
        Per epoch: loss, and of held-out images loss, accuracy, share that is off by one class
        (mean of the classes each), mean error in atoms.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    patches, label = train
    n, n_classes = len(label), network.head.out_features
    weight = torch.from_numpy(class_balanced_weights(label.numpy(), n_classes)).to(device)
    network.to(device)
    average = copy.deepcopy(network)
    head, rates = network.head.parameters(), [settings.learning_rate] * 2
    rates[1] *= settings.body_rate
    optimiser = torch.optim.AdamW(
        [{"params": list(head)}, {"params": list(network.branches.parameters())}],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    steps = max(1, -(-n // settings.batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=steps * settings.epochs, pct_start=0.15
    )
    decay = 1 - 1 / max(2.0, min(500.0, 0.5 * steps))
    half = device.type in ("cuda", "cpu")
    history: list[dict[str, float]] = []
    best = weights(average)
    stored = checkpoint.load() if checkpoint is not None else None
    if stored is not None:
        state, parts = stored
        history = state["history"]
        network.load_state_dict(parts["network"])
        average.load_state_dict(parts["average"])
        best = parts["best"]
        restore_optimiser(optimiser, parts["optimiser"], state["groups"])
        schedule.load_state_dict(state["schedule"])
    for epoch in range(len(history), settings.epochs):
        if _is_patience_over(history, settings.patience):
            break
        seed = settings.seed * 100_003 + epoch
        torch.manual_seed(seed)  # of the dropout
        generator = torch.Generator().manual_seed(seed)
        network.train()
        order = torch.randperm(n, generator=generator)
        total = 0.0
        for step in range(steps):
            check(stop)
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            batch = {c: p[rows].float() for c, p in patches.items()}
            batch = augmented(
                batch,
                settings.scale_jitter,
                generator,
                settings.conditions,
                settings.neighbours,
                None if radius_px is None else radius_px[rows],
            )
            batch = {c: x.to(device) for c, x in batch.items()}
            own = label[rows].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = network(batch).logits
            target = _targets(own, n_classes, settings.neighbour_smoothing)
            each = functional.cross_entropy(logits.float(), target, reduction="none")
            loss = (each * weight[own]).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
            with torch.no_grad():
                for a, b in zip(average.parameters(), network.parameters(), strict=True):
                    a.lerp_(b, 1 - decay)
            report(progress, epoch * steps + step + 1, settings.epochs * steps, "Training")
        found = _held_out_scores(average, *held_out, device, atoms)
        history.append({"epoch": epoch + 1, "loss": total / steps, **found})
        if found["held_out_loss"] <= min(h["held_out_loss"] for h in history):
            best = weights(average)
        if checkpoint is not None:
            checkpoint.save(
                {
                    "history": history,
                    "groups": optimiser.state_dict()["param_groups"],
                    "schedule": {
                        k: v
                        for k, v in schedule.state_dict().items()
                        if isinstance(v, (int, float, str, bool, list))
                    },
                },
                {
                    "network": weights(network),
                    "average": weights(average),
                    "best": best,
                    "optimiser": optimiser_tensors(optimiser),
                },
            )
        if on_epoch is not None:
            on_epoch(list(history))
        report(
            progress,
            (epoch + 1) * steps,
            settings.epochs * steps,
            f"Epoch {epoch + 1}: loss {total / steps:.3f}, "
            f"held-out accuracy {found['accuracy']:.3f}",
        )
    network.load_state_dict(best)
    network.eval()
    return history


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """The epoch with the least held-out loss, the last of equal ones, counted from 1."""
    losses = [h["held_out_loss"] for h in history]
    return len(losses) - int(np.argmin(losses[::-1]))


def _is_patience_over(history: Sequence[dict[str, float]], patience: int) -> bool:
    return bool(patience and history) and len(history) - best_epoch(history) >= patience


@torch.inference_mode()
def _held_out_scores(
    network: AtomicityNet,
    patches: dict[str, Tensor],
    label: Tensor,
    device: torch.device,
    atoms: Sequence[int],
) -> dict[str, float]:
    """Loss, accuracy and share off by one: means of the classes; mean error in atoms."""
    network.eval()
    logits = torch.cat(
        [
            network({c: p[start : start + 1024].float().to(device) for c, p in patches.items()})
            .logits.float()
            .cpu()
            for start in range(0, max(len(label), 1), 1024)
        ]
    )
    each = functional.cross_entropy(logits, label, reduction="none")
    off = (logits.argmax(dim=1) - label).abs()
    per_class = [
        [float(v[label == i].float().mean()) for v in (each, off == 0, off == 1)]
        for i in torch.unique(label).tolist()
    ]
    loss, accuracy, off_by_one = np.mean(per_class, axis=0).tolist()
    found = {"held_out_loss": loss, "accuracy": accuracy, "off_by_one": off_by_one}
    if len(atoms):
        size = torch.tensor(atoms, dtype=torch.float32)
        found["error_atoms"] = float((size[logits.argmax(dim=1)] - size[label]).abs().mean())
    return found


def _tensors(
    part: PatchSet, classes: Sequence[str], channels: Sequence[str]
) -> tuple[dict[str, Tensor], Tensor]:
    index = {c: i for i, c in enumerate(classes)}
    label = torch.tensor([index[t] for t in part.table["truth"]], dtype=torch.long)
    return {c: torch.from_numpy(part.patches[c]) for c in channels}, label


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
    train, held_out
        From different images (and, if simulated, of different isomers). ``held_out`` decides
        when to stop and calibrates the probabilities.
    card
        Name, classes, geometry and texts; the rest is filled in.
    settings
        Of the fit.
    device
        "auto", "cpu", "cuda" or "mps".
    progress, stop
        Called at every step.
    start
        Card and tensors of a model whose convolutions the fit starts from; random ones if None.
    on_epoch, checkpoint
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
    for which, part in (("training", train), ("held-out", held_out)):
        missing = [c for c in classes if not (part.table["truth"] == c).any()]
        if missing:
            raise AtomicityError(
                f"there are no {which} clusters of {', '.join(missing)}",
                advice="Every class needs clusters in at least two images",
            )
    torch.manual_seed(settings.seed)
    where = choose_device(device)
    reference = card.scale or reference_from(train, classes)
    thresholds = _thresholds(train, classes, reference)
    left_out = _left_out(train, classes)
    mixed_train, mixed_held_out = (
        as_mixtures(part, classes, settings.seed) for part in (train, held_out)
    )
    train = known(scaled(train, reference)[0], classes)
    held_out = known(scaled(held_out, reference)[0], classes)
    if start is not None:
        settings = replace(settings, width=start[0].width)
    network = AtomicityNet(channels, len(classes), settings.width)
    if start is not None:
        start_from(network, card, *start)
    history = fit_network(
        network,
        _tensors(train, classes, channels),
        _tensors(held_out, classes, channels),
        settings,
        where,
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
        data={
            **card.data,
            "training_clusters": _counts(train, classes),
            "held_out_clusters": _counts(held_out, classes),
            "training_images": int(train.table["image"].nunique()),
            "held_out_images": int(held_out.table["image"].nunique()),
            "left_out": left_out,
        },
        training={
            **asdict(settings),
            "started_from": start[0].model_id if start is not None else "random weights",
            "epoch_kept": best_epoch(history),
            "torch": str(torch.__version__),
            "history": history,
        },
    )
    tensors.update(_references(card, tensors, train, settings.seed, where))
    tensors.update(replay(train, classes, channels, settings.seed))
    return finished(card, tensors, mixed_train, mixed_held_out, where)


def _radius_px(part: PatchSet, geometry: PatchSettings) -> Tensor:
    """(N,) radius of the outlines in pixels of the patch."""
    pixel_nm = geometry.field_of_view_nm / geometry.size_px
    return torch.tensor(part.table["diameter_nm"].to_numpy(np.float32) / 2 / pixel_nm)


def start_from(
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


def reference_from(train: PatchSet, classes: Sequence[str]) -> ScaleReference:
    """The classes' intensities and diameters.

    Simulated clusters know the intensity of an atom. On images whose classes are known it is
    found image by image from the number of atoms that the class names.
    """
    table = train.table[usable(train.table) & train.table["truth"].isin(list(classes))]
    known = "true_intensity_per_atom" in table
    per_atom = table["true_intensity_per_atom" if known else "known_intensity_per_atom"].to_numpy(
        float
    )
    intensity = table["integrated_intensity"].to_numpy(float) / per_atom
    return ScaleReference.fit(
        intensity, table["diameter_nm"].to_numpy(float), table["truth"].to_numpy(), classes
    )


def known(part: PatchSet, classes: Sequence[str]) -> PatchSet:
    """Clusters of a class, whole: what the border cuts is not of the class that it was."""
    keep = part.table["truth"].isin(list(classes)) & ~part.table["touches_border"]
    return part.take(keep.to_numpy(bool))


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
        scale = scale_of(table, reference)
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


def replay(
    train: PatchSet, classes: Sequence[str], channels: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Patches of every class that an adaptation sees again, so that it forgets nothing.

    Parameters
    ----------
    train
        Raw channel in atoms per nm².
    classes, channels
        Of the model.
    seed
        Of the choice.
    """
    rng = np.random.default_rng(seed)
    whole = known(train, classes)
    label = whole.table["truth"].map({c: i for i, c in enumerate(classes)}).to_numpy(int)
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(label == i))[:REPLAYED_PER_CLASS]
            for i in range(len(classes))
        ]
    )
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

    rng = np.random.default_rng(seed)
    label = train.table["truth"].map({c: i for i, c in enumerate(card.classes)}).to_numpy(int)
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(label == i))[:REFERENCES_PER_CLASS]
            for i in range(len(card.classes))
        ]
    )
    classifier = Classifier(card, tensors, device)
    embedding = classifier.predict(train.take(chosen).patches).embedding
    return {
        "reference.embedding": embedding.astype(np.float16),
        "reference.label": label[chosen].astype(np.int64),
        "reference.map": fit_map(embedding.astype(np.float16).astype(np.float32), seed),
    }
