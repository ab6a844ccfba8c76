"""Fine-tuning of a network on pseudo-labels and replayed patches."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.devices import multiplies_bfloat16
from ...core.patches import PatchSettings
from ...core.progress import Progress, Stop, check, report
from ...models.network import AtomicityNet
from .checks import Split
from .pseudo_labels import Target
from .replay_conditions import match_conditions
from .settings import AdaptSettings

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
