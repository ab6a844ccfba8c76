"""Fine-tuning of a network on pseudo-labels and replayed patches."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..._version import __version__
from ...core.apparent_size import ApparentSize
from ...core.devices import multiplies_bfloat16
from ...core.model_card import ModelCard
from ...core.patches import PatchSettings
from ...core.progress import Progress, Stop, check, report
from ...core.text import pluralise
from ...models.analysis import Analysis
from ...models.domain_shift import ROOM, domain_shift
from ...models.estimators import Measured
from ...models.inference import Classifier, Prediction
from ...models.network import AtomicityNet
from ...models.out_of_distribution import QUANTILE, features, margins, placed
from .checks import Split
from .pseudo_labels import Target
from .settings import AdaptSettings

# ---- references, limits and card of an adapted model

NEAREST = 5
"""Number of old references that determine the position of a new one in the map."""


def update_references(
    old: Classifier, tensors: dict[str, np.ndarray], was: np.ndarray, now: np.ndarray
) -> dict[str, np.ndarray]:
    """Class means and references of the embedding, by the replayed patches before and after.

    In the map they lie where their nearest old references lie, so that the places of clusters
    before and after can be compared.
    """
    from sklearn.neighbors import KNeighborsRegressor

    label = tensors["replay.label"]
    mean = tensors["ood.mean"].copy()
    for i in np.unique(label):
        mean[i] += (now[label == i] - was[label == i]).mean(axis=0)
    tensors = {**tensors, "ood.mean": mean}
    if len(old.reference_map) < NEAREST:
        return tensors
    nearest = KNeighborsRegressor(NEAREST, weights="distance")
    nearest.fit(old.reference_embedding.astype(np.float32), old.reference_map)
    return {
        **tensors,
        "reference.embedding": now.astype(np.float16),
        "reference.label": label,
        "reference.map": nearest.predict(was).astype(np.float32),
    }


def raise_margin_limit(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    seen: Sequence[tuple[Analysis, Prediction]],  # analysis and prediction of each image
    target: Target,  # clusters that were learnt from
) -> dict[str, np.ndarray]:
    """Raise the limit of `models.out_of_distribution`, so that training clusters are known."""
    if "outside.axes" not in tensors:
        return tensors
    found = []
    for analysis, result in seen:
        known = Measured(analysis.table, card, analysis.scale, result.probabilities)
        found.append(margins(features(known, placed(result.embedding, tensors), tensors), tensors))
    margin = np.concatenate(found)[target.label >= 0]
    bias = tensors["outside.output.bias"].copy()
    bias[0] += max(0.0, float(np.quantile(margin, 0.99)))
    return {**tensors, "outside.output.bias": bias}


def update_card(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    numbers: dict[str, int],  # class → number of clusters with a label, see `Adaptation`
    target: Target,
    settings: AdaptSettings,
    seen: Sequence[tuple[Analysis, Prediction]],
    replayed: Prediction,
    share: float,  # fraction of the change that was kept
) -> ModelCard:
    """Update the card of an adapted model; its limits include both conditions."""
    here = np.concatenate([result.embedding for _, result in seen])
    embedding = np.concatenate([here[target.label >= 0], replayed.embedding])
    distance = placed(embedding, tensors).to_classes.min(axis=1)
    record = {
        "from": card.model_id,
        "images": [{"image": a.micrograph.name, "sha256": a.micrograph.sha256} for a, _ in seen],
        "pseudo_labels": numbers,
        "corrections": int(target.certain.sum()),
        "share_of_change": share,
        **asdict(settings),
    }
    return replace(
        card,
        apparent_size=refit_apparent_size(card, seen, target),
        ood_limit=max(card.ood_limit, float(np.quantile(distance, QUANTILE))),
        drift_limit=_drift_limit(card, seen, tensors),
        description=f"{card.description} Adapted to {pluralise(len(seen), 'image')}.",
        limits=f"{card.limits} Adapted: calibration and scores are those of {card.name}.".strip(),
        data={**card.data, "adaptation": record},
        version=__version__,
    )


def labels_need_scale(card: ModelCard) -> bool:
    """Return whether the labels of a model depend on the intensity scale of the image."""
    return card.patches.raw_unit == "atoms" or card.combination is not None


def channels_of_scale(card: ModelCard) -> tuple[str, ...]:
    """Return the channels whose features must stay, because the scales are found by them.

    An adaptation to a few images would change the apparent sizes in others. Where all channels
    contribute, none has to stay: `refit_apparent_size` follows the changed features.
    """
    apparent = card.apparent_size
    if apparent is None or not apparent.weights or not labels_need_scale(card):
        return ()
    channels = card.patches.channels
    n_features = len(apparent.weights) // len(channels)
    parts = np.reshape(apparent.weights[: n_features * len(channels)], (len(channels), -1))
    used = tuple(c for c, weights in zip(channels, parts, strict=True) if weights.any())
    return used if len(used) < len(channels) else ()


def refit_apparent_size(
    card: ModelCard, seen: Sequence[tuple[Analysis, Prediction]], target: Target
) -> ApparentSize | None:
    """Fit the apparent sizes of the classes to the features of the changed network.

    The weights of the features stay. The new sizes of the classes are a linear function of those
    before, as the clusters learnt from ask, each class with the same weight. The mean error of
    these clusters is then zero.
    """
    apparent = card.apparent_size
    if apparent is None or card.scale is None:
        return None
    if channels_of_scale(card):
        return replace(apparent, log_intensity=card.scale.log_intensity)
    found = [apparent.measure(r.embedding, a.table["diameter_nm"].to_numpy(float)) for a, r in seen]
    size = np.concatenate(found)
    rows = (target.label >= 0) & np.isfinite(size)
    label, before = target.label[rows], np.array(apparent.log_size)
    weight = 1 / np.sqrt(np.bincount(label, minlength=len(before))[label])
    slope, constant = np.polyfit(before[label], size[rows], 1, w=weight)
    if slope <= 0:
        return None
    return replace(
        apparent,
        log_intensity=card.scale.log_intensity,
        log_size=tuple(map(float, constant + slope * before)),
        scatter=float(slope * apparent.scatter),
    )


def _drift_limit(
    card: ModelCard,
    seen: Sequence[tuple[Analysis, Prediction]],
    tensors: dict[str, np.ndarray],
) -> float | None:
    """Raise the limit of the drift to that of the images."""
    if card.drift_limit is None:
        return None
    found = [card.drift_limit]
    for analysis, result in seen:
        label = np.nan_to_num(result.probabilities, nan=-1).argmax(axis=1)
        ours = ~analysis.table["touches_border"].to_numpy(bool)
        found.append(ROOM * domain_shift(result.embedding[ours], label[ours], tensors))
    return float(np.nanmax(found))


# ---- patches of the training as they would look under the conditions of other images
#
# Blur, noise and the texture of the support change the power of the fine details of a patch. The
# mean power of the patches of other images over that of the replayed ones, ring by ring in the
# Fourier plane, tells by how much. Where it is less, the replayed patches are filtered; where it is
# more, noise with the missing power is added. Coarse details, which depend on the sizes of the
# clusters, stay. So classes without pseudo-labels are replayed as they look now, with their true
# labels.

COARSE_PER_NM = 1.2
"""Spatial frequency up to which the power depends on the size of a cluster."""
LIMITS = (0.05, 1.0)
"""Of the factors by which amplitudes are filtered."""


def match_conditions(
    replayed: Mapping[str, np.ndarray],
    target: Mapping[str, np.ndarray],
    field_of_view_nm: float,  # edge length of a patch
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Filter replayed patches, and add noise, so that their details have the power of others."""
    return {
        channel: _match(patches.astype(np.float32), target[channel], field_of_view_nm, rng)
        for channel, patches in replayed.items()
    }


def _match(
    patches: np.ndarray, target: np.ndarray, field_of_view_nm: float, rng: np.random.Generator
) -> np.ndarray:
    size = patches.shape[-1]
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)) * size  # cycles per patch
    ring = np.rint(k).astype(int)
    coarse = ring <= COARSE_PER_NM * field_of_view_nm
    here, there = (_relative_power(p, ring, coarse) for p in (patches, target))
    ratio = there / np.maximum(here, 1e-12)
    factor = np.clip(np.sqrt(ratio), *LIMITS)
    missing = np.maximum(there - here * factor**2, 0.0)
    factor, missing = factor[ring], missing[ring]
    factor[coarse], missing[coarse] = 1.0, 0.0
    spectrum = np.fft.fft2(patches)
    filtered = np.fft.ifft2(spectrum * factor).real
    level = np.mean(np.abs(spectrum[:, coarse & (ring > 0)]) ** 2, axis=1)
    noise = np.fft.fft2(rng.standard_normal(patches.shape)) / size  # of unit power
    noise = np.fft.ifft2(noise * np.sqrt(missing * level.mean())).real
    return np.asarray(filtered + noise, np.float32)


def _relative_power(patches: np.ndarray, ring: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Mean power in each ring relative to that of the coarse details."""
    power = np.mean(np.abs(np.fft.fft2(patches)) ** 2, axis=0)
    total = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    return np.asarray(total / power[coarse & (ring > 0)].mean())


_BATCH_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)
NEW = 0.5
"""Share of the clusters of the new images in a batch, if there are some of every class."""
MATCHED = 0.7
"""Share of the replayed patches that look as under the new conditions."""


def fine_tune(
    network: AtomicityNet,
    target: Target,
    tensors: dict[str, np.ndarray],  # of the model, with the replayed patches
    split: Split,
    settings: AdaptSettings,
    device: torch.device,
    frozen: Collection[str] = (),
    progress: Progress | None = None,
    stop: Stop | None = None,
    field_of_view_nm: float = PatchSettings.field_of_view_nm,  # edge length of a patch
) -> AtomicityNet:
    """Fine-tune a copy of a network; average its weights over the second half of the steps."""
    network = copy.deepcopy(network).to(device)
    network.dropout.p = 0.0  # so that chance is all in the generators
    chosen = _trainable(network, frozen)
    optimiser = torch.optim.AdamW(chosen, settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.2
    )
    batches = _batches(network.channels, target, tensors, split, settings, field_of_view_nm)
    average = [p.detach().clone() for p in chosen]
    _train_without_statistics(network)
    half = multiplies_bfloat16(device)
    for step in range(settings.steps):
        check(stop)
        report(progress, step, settings.steps, "Adapting")
        patches, labels = next(batches)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = network({c: x.to(device) for c, x in patches.items()}).logits
        loss = functional.cross_entropy(logits.float(), labels.to(device), label_smoothing=0.03)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(chosen, 1.0)
        optimiser.step()
        schedule.step()
        late = step - settings.steps // 2
        _move(average, chosen, 1.0 if late <= 0 else 1 / (1 + late))
    _move(chosen, average, 1.0)
    report(progress, settings.steps, settings.steps, "Adapting")
    return network.eval()


def _batches(
    channels: Iterable[str],
    target: Target,
    tensors: dict[str, np.ndarray],
    split: Split,
    settings: AdaptSettings,
    field_of_view_nm: float,
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield augmented patches and labels: at most half of them new, the others replayed.

    Every class is there equally often: what has no new clusters is replayed more.
    """
    from ...training.augmentation import augmented

    generator = torch.Generator().manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    new_label, old_label = target.label, tensors["replay.label"]
    with_labels = np.isin(np.unique(old_label), new_label[split.learn]).mean()
    n_new = round(settings.batch_size * NEW * with_labels)
    old = {c: tensors[f"replay.{c}"].astype(np.float32) for c in channels}
    matched = match_conditions(old, target.patches, field_of_view_nm, rng)
    while True:
        new = _drawn(new_label, split.learn, n_new, rng)
        replayed = _drawn(old_label, split.replay, settings.batch_size - n_new, rng)
        n_matched = int(MATCHED * len(replayed))
        first, rest = replayed[:n_matched], replayed[n_matched:]
        patches = {}
        for c in channels:
            parts = [target.patches[c][new], matched[c][first], old[c][rest]]
            patches[c] = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        labels = np.concatenate([new_label[new], old_label[replayed]])
        yield augmented(patches, settings.scale_jitter, generator), torch.from_numpy(labels)


def _move(weights: Iterable[Tensor], goals: Iterable[Tensor], fraction: float) -> None:
    """Move weights towards their goals by a fraction of the difference, in place."""
    with torch.no_grad():
        for weight, goal in zip(weights, goals, strict=True):
            weight.lerp_(goal, fraction)


def _train_without_statistics(network: nn.Module) -> None:
    """Switch to training, but keep running statistics: those of unbalanced classes mislead."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BATCH_NORMALISATIONS):
            module.eval()


def _trainable(network: AtomicityNet, frozen: Collection[str]) -> list[Tensor]:
    """Weights of the head and of the channels that are not frozen; the others need no gradient."""
    chosen: list[Tensor] = [*network.head.requires_grad_(True).parameters()]
    for channel, branch in network.branches.items():
        branch.requires_grad_(channel not in frozen)
        chosen += [p for p in branch.parameters() if p.requires_grad]
    return chosen


def _drawn(label: np.ndarray, rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows with replacement, every class that is there equally often."""
    classes = np.unique(label[rows])
    wanted = rng.permutation(np.resize(rng.permutation(classes), n))
    of_class = {i: rows[label[rows] == i] for i in classes}
    return np.array([rng.choice(of_class[i]) for i in wanted])
