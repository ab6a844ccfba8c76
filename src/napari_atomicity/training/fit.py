"""Fitting the network, and everything that the card says of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import __version__
from ..errors import AtomicityError
from ..model.card import ModelCard, PatchSettings
from ..model.classifier import Classifier, choose_device
from ..model.files import save_model
from ..model.intensity_scale import ScaleReference, intensity_per_atom, usable
from ..model.network import AtomicityNet
from ..model.thresholds import fit_thresholds, quantities
from ..progress import Progress, Stop, check, report
from ..statistics.scores import atoms_of
from .calibrate import calibrated, out_of_distribution, scores
from .data import PatchSet, from_folder, split_by_image

REFERENCES_PER_CLASS = 300


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
    width: int = 16
    seed: int = 0


def scaled(part: PatchSet, reference: ScaleReference) -> tuple[PatchSet, np.ndarray]:
    """Divide every image's raw channel by its intensity per atom, found as on real images.

    Returns
    -------
    PatchSet
        With the raw channel in atoms per nm².
    ndarray
        (N,) the intensity per atom.
    """
    scale = np.ones(len(part))
    for _, rows in part.table.groupby("image", sort=False).indices.items():
        scale[rows] = intensity_per_atom(part.table.iloc[rows], reference)
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


def _augmented(
    batch: dict[str, Tensor], jitter: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """A random symmetry of the square for the batch's parts, and a misjudged scale for each."""
    n = len(next(iter(batch.values())))
    which = torch.randint(8, (n,), generator=generator)
    out = {}
    for channel, x in batch.items():
        x = x.clone()
        for k in range(1, 8):
            own = which == k
            turned = torch.rot90(x[own], k % 4, dims=(1, 2))
            x[own] = turned.flip(2) if k >= 4 else turned
        out[channel] = x
    if "raw" in out and jitter > 0:
        factor = torch.exp(jitter * torch.randn(n, generator=generator))
        out["raw"] = out["raw"] * factor[:, None, None]
    return out


def fit_network(
    network: AtomicityNet,
    train: tuple[dict[str, Tensor], Tensor],
    held_out: tuple[dict[str, Tensor], Tensor],
    settings: TrainingSettings,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[dict[str, float]]:
    """Fit a network in place; the average of its weights over the last steps is what remains.

    Returns
    -------
    list of dict
        Per epoch: loss, accuracy on held-out images.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    patches, label = train
    n, n_classes = len(label), network.head.out_features
    generator = torch.Generator().manual_seed(settings.seed)
    weight = torch.from_numpy(class_balanced_weights(label.numpy(), n_classes)).to(device)
    network.to(device)
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = max(1, -(-n // settings.batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=steps * settings.epochs, pct_start=0.15
    )
    decay = 1 - 1 / max(2.0, min(500.0, 0.5 * steps))
    half = device.type in ("cuda", "cpu")
    history: list[dict[str, float]] = []
    best: tuple[float, dict[str, Tensor]] = (-1.0, {})
    for epoch in range(settings.epochs):
        network.train()
        order = torch.randperm(n, generator=generator)
        total = 0.0
        for step in range(steps):
            check(stop)
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            batch = _augmented(
                {c: p[rows].float() for c, p in patches.items()}, settings.scale_jitter, generator
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
        accuracy = _accuracy(average, *held_out, device)
        history.append({"epoch": epoch + 1, "loss": total / steps, "accuracy": accuracy})
        report(
            progress,
            (epoch + 1) * steps,
            settings.epochs * steps,
            f"Epoch {epoch + 1}: loss {total / steps:.3f}, held-out accuracy {accuracy:.3f}",
        )
        if accuracy >= best[0]:
            best = (accuracy, copy.deepcopy(average.state_dict()))
    network.load_state_dict(best[1])
    network.eval()
    return history


@torch.inference_mode()
def _accuracy(
    network: AtomicityNet, patches: dict[str, Tensor], label: Tensor, device: torch.device
) -> float:
    network.eval()
    right = torch.zeros(network.head.out_features)
    count = torch.zeros_like(right)
    for start in range(0, len(label), 1024):
        rows = slice(start, start + 1024)
        logits = network({c: p[rows].float().to(device) for c, p in patches.items()}).logits
        hit = logits.argmax(dim=1).cpu() == label[rows]
        right += torch.bincount(label[rows], hit.float(), minlength=len(right))
        count += torch.bincount(label[rows], minlength=len(right))
    return float((right / count.clamp(min=1))[count > 0].mean()) if len(label) else 0.0


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
    train = _known(scaled(train, reference)[0], classes)
    held_out = _known(scaled(held_out, reference)[0], classes)
    network = AtomicityNet(channels, len(classes), settings.width)
    history = fit_network(
        network,
        _tensors(train, classes, channels),
        _tensors(held_out, classes, channels),
        settings,
        where,
        progress,
        stop,
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
            "left_out": train.left_out,
        },
        training={**asdict(settings), "torch": str(torch.__version__), "history": history},
    )
    card, tensors = calibrated(card, tensors, held_out, where)
    card, tensors = out_of_distribution(card, tensors, train, held_out, where)
    tensors.update(_references(card, tensors, train, settings.seed, where))
    held_scores = scores(Classifier(card, tensors, where), held_out)
    return replace(card, scores={**card.scores, "held_out": held_scores}), tensors


def reference_from(train: PatchSet, classes: Sequence[str]) -> ScaleReference:
    """The classes' intensities and diameters.

    Simulated clusters know the intensity of an atom. On size-selected images it is found image by
    image from the number of atoms that the class names.
    """
    table = train.table[usable(train.table) & train.table["truth"].isin(list(classes))]
    if "true_intensity_per_atom" in table:
        per_atom = table["true_intensity_per_atom"].to_numpy(float)
    else:
        ratio = table["integrated_intensity"] / table["truth"].map(atoms_of)
        per_atom = ratio.groupby(table["image"]).transform("median").to_numpy(float)
    intensity = table["integrated_intensity"].to_numpy(float) / per_atom
    return ScaleReference.fit(
        intensity, table["diameter_nm"].to_numpy(float), table["truth"].to_numpy(), classes
    )


def _known(part: PatchSet, classes: Sequence[str]) -> PatchSet:
    """Clusters of a class, whole: what the border cuts is not of the class that it was."""
    keep = part.table["truth"].isin(list(classes)) & ~part.table["touches_border"]
    return part.take(keep.to_numpy(bool))


def _thresholds(
    train: PatchSet, classes: Sequence[str], reference: ScaleReference
) -> dict[str, tuple[float, ...]]:
    values: dict[str, list[np.ndarray]] = {}
    labels = []
    for _, table in train.table.groupby("image", sort=False):
        whole = usable(table) & table["truth"].isin(list(classes)).to_numpy()
        scale = intensity_per_atom(table, reference)
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


def _references(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    train: PatchSet,
    seed: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Embeddings of some training clusters of every class, and their UMAP."""
    from ..embedding import fit_map

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
) -> ModelCard:
    """Train a model on size-selected images and write it with its card.

    Parameters
    ----------
    data_dir
        ``data_dir/<class>/*.tif``; see `from_folder`.
    out_path
        Where the .safetensors and the .json go.
    channels
        "raw" and "LCN", or one of them.
    seed
        Of the split and of the fit.
    epochs
        Passes over the training patches.
    pixel_size_nm
        For images without calibration.
    device, progress, stop
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
    geometry = PatchSettings(channels=tuple(channels))
    whole, classes = from_folder(Path(data_dir), geometry, pixel_size_nm, progress, stop)
    held = split_by_image(whole.table, 0.2, np.random.default_rng(seed))
    files: dict[str, Any] = {"folder": Path(data_dir).name, "images": _image_names(whole)}
    card = ModelCard(
        name=Path(out_path).stem,
        classes=tuple(classes),
        patches=geometry,
        description=f"Trained on size-selected images of {', '.join(classes)}.",
        intended_use="Images of the same metal under conditions like those of the training images.",
        limits="Sizes between the classes and aggregates are given the nearest class or 'unknown'.",
        data=files,
    )
    settings = TrainingSettings(epochs=epochs, batch_size=64, seed=seed)
    card, tensors = train_classifier(
        whole.take(~held), whole.take(held), card, settings, device, progress, stop
    )
    return save_model(Path(out_path), card, tensors)


def _image_names(part: PatchSet) -> list[str]:
    return sorted(map(str, part.table["image"].unique()))
