"""Fit of a cluster network."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core.devices import multiplies_bfloat16, named_device_errors
from ..core.errors import AtomicityError
from ..core.progress import Progress, Stop, check, report
from ..models.network import AtomicityNet, Output
from .augmentation import augmented
from .checkpoint import Checkpoint, optimiser_tensors, restore_optimiser, weights
from .request import TrainingSettings

# ---- optimisation that the trainings of clusters and of atoms share

MAX_GRADIENT_NORM = 1.0
START_RATE, HELD_RATE = 0.04, 0.02
"""Learning rate at the beginning, and that which is held at the end, as shares of the highest."""


class Trainer:
    """Fit a network with AdamW, a one-cycle schedule and a running average of its weights.

    Parameters
    ----------
    average : nn.Module
        Network of the same layers. Its weights follow those of ``network``.
    groups : iterable of parameters or of dict
        Parameters to optimise, or groups of them, see `torch.optim.AdamW`.
    learning_rate : float or sequence of float
        Highest learning rate, or one for each group.
    warmup : float
        Share of the steps in which the learning rate rises.
    held : float
        Share of the steps at the end with a constant learning rate. In these steps the training
        loss tells whether the fit has converged; as long as the rate falls, the loss falls too.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    .. [2] L. N. Smith and N. Topin, "Super-Convergence: Very Fast Training of Neural Networks
       Using Large Learning Rates", Proc. SPIE 11006 (2019).
    .. [3] B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation by
       Averaging", SIAM J. Control Optim. 30, 838 (1992).
    """

    def __init__(
        self,
        network: nn.Module,
        average: nn.Module,
        groups: Iterable[Any],
        learning_rate: float | Sequence[float],
        *,
        total_steps: int,
        warmup: float,
        held: float = 0.0,
        weight_decay: float,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.network = network
        self.average = average
        self.total_steps = total_steps
        self._progress, self._stop = progress, stop
        rates = [learning_rate] if isinstance(learning_rate, float) else list(learning_rate)
        self.optimiser = torch.optim.AdamW(groups, lr=rates[0], weight_decay=weight_decay)
        schedules = torch.optim.lr_scheduler
        self.schedule: torch.optim.lr_scheduler.LRScheduler
        if held:
            for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
                group["lr"] = rate
            n_cycle = round((1 - held) * total_steps)
            share = partial(rate_of_step, n_rising=round(warmup * n_cycle), n_cycle=n_cycle)
            self.schedule = schedules.LambdaLR(self.optimiser, share)
        else:
            self.schedule = schedules.OneCycleLR(
                self.optimiser,
                rates[0] if len(rates) == 1 else rates,
                total_steps=total_steps,
                pct_start=warmup,
            )

    def steps(self, first: int, last: int) -> Iterator[int]:  # number of the step, from 0
        """Yield the numbers of steps; check ``stop`` before each and report progress after it."""
        for step in range(first, last):
            check(self._stop)
            yield step
            self.report(step + 1, "Training")

    def report(self, done: int, message: str) -> None:
        """Report progress."""
        report(self._progress, done, self.total_steps, message)

    def update(
        self,
        loss: Tensor,
        kept: float,  # share of the average that stays, between 0 and 1
    ) -> None:
        """Take one step of the optimiser and update the average."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimiser.step()
        self.schedule.step()
        update_average(self.average, self.network, kept)


def rate_of_step(step: int, n_rising: int, n_cycle: int) -> float:
    """Return the learning rate of a step as a share of the highest: one cycle, then constant."""
    if step < n_rising:
        return START_RATE + (1 - START_RATE) * (1 - math.cos(math.pi * step / n_rising)) / 2
    falling = min(1.0, (step - n_rising) / max(1, n_cycle - n_rising))
    return HELD_RATE + (1 - HELD_RATE) * (1 + math.cos(math.pi * falling)) / 2


@torch.no_grad()
def update_average(
    average: nn.Module,
    network: nn.Module,
    kept: float,  # share of the average that stays, between 0 and 1
) -> None:
    """Move the weights of an average towards those of a network, in place."""
    states = average.state_dict().values(), network.state_dict().values()
    for mean, current in zip(*states, strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(current, 1 - kept)


OnEpoch = Callable[[list[dict[str, float]]], None]
"""Called with the history so far: a dict per epoch."""


def fit_network(
    network: AtomicityNet,  # with random weights, or those to start from
    # train, held_out: channel → (N, P, P), and class indices (N,)
    train: tuple[dict[str, Tensor], Tensor],
    held_out: tuple[dict[str, Tensor], Tensor],
    settings: TrainingSettings,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    atoms: Sequence[int] = (),  # number of atoms of each class, for the mean error in atoms
    # (N,): radius of the training clusters in pixels of the patch, for ``request.neighbours``
    radius_px: Tensor | None = None,
    # Network whose class maps the fitted one is to have: see `map_distance`
    teacher: AtomicityNet | None = None,
    on_epoch: OnEpoch | None = None,
    # Written after every epoch; the fit resumes from it if it exists
    checkpoint: Checkpoint | None = None,
    # Channels whose convolutions stay as they are; the head may weight their features anew
    frozen: Collection[str] = (),
) -> list[dict[str, float]]:
    """Fit a network in place; the average of its weights over the last steps remains.

    Every epoch has its own seed, so that a resumed fit ends with the same weights as one without
    interruption.

    The result has for each epoch its number and the largest one, the loss, and of held-out images
    loss, accuracy, share off by one and error in atoms.

    Raises `ModelError` if the device has no memory left, or is lost.
    """
    with named_device_errors(device):
        network.to(device)
        for channel in frozen:
            network.branches[channel].requires_grad_(False)
        average = copy.deepcopy(network)
        if teacher is not None:
            teacher = teacher.to(device).eval()
        batches = _Batches(*train, radius_px, settings, device, network.head.out_features, teacher)
        trainer = _trainer(network, average, batches, progress, stop)
        score = partial(held_out_scores, average, *held_out, device, atoms)
        history, best = _fit_epochs(trainer, batches, score, on_epoch, checkpoint)
    network.load_state_dict(best)
    network.eval()
    return history


def _fit_epochs(
    trainer: Trainer,
    batches: _Batches,
    score: Callable[[], dict[str, float]],
    on_epoch: OnEpoch | None,
    checkpoint: Checkpoint | None,
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Fit all epochs that are left; return the history and the best averaged weights."""
    settings = batches.settings
    history, best = _restore(checkpoint, trainer)
    for epoch in range(len(history), settings.epochs):
        if _is_patience_over(history, settings.patience):
            break
        loss = _fit_epoch(trainer, batches, epoch)
        if not math.isfinite(loss):
            raise AtomicityError(
                f"the loss of epoch {epoch + 1} is no number, so that nothing is learnt",
                advice="Train without the images or labels that were added last, or report it",
            )
        found = score()
        history.append({"epoch": epoch + 1, "epochs": settings.epochs, "loss": loss, **found})
        if found["held_out_loss"] <= min(h["held_out_loss"] for h in history):
            best = weights(trainer.average)
        if checkpoint is not None:
            _save(checkpoint, trainer, history, best)
        if on_epoch is not None:
            on_epoch(list(history))
        trainer.report(
            (epoch + 1) * batches.n_steps,
            f"Epoch {epoch + 1}: loss {loss:.3f}, held-out loss {found['held_out_loss']:.3f}",
        )
    return history, best


def _trainer(
    network: AtomicityNet,
    average: AtomicityNet,
    batches: _Batches,
    progress: Progress | None,
    stop: Stop | None,
) -> Trainer:
    """Return a trainer with a learning rate for the head and one for the convolutions."""
    settings = batches.settings
    return Trainer(
        network,
        average,
        [
            {"params": list(network.head.parameters())},
            {"params": [p for p in network.branches.parameters() if p.requires_grad]},
        ],
        [settings.learning_rate, settings.learning_rate * settings.body_rate],
        total_steps=batches.n_steps * settings.epochs,
        warmup=0.15,
        held=settings.held,
        weight_decay=settings.weight_decay,
        progress=progress,
        stop=stop,
    )


@dataclass(frozen=True, eq=False)
class _Batches:
    """Training patches and the settings with which batches of them are made."""

    patches: dict[str, Tensor]  # channel → (N, P, P)
    label: Tensor  # (N,): class indices
    radius_px: Tensor | None  # (N,): radius of the clusters in pixels of the patch
    settings: TrainingSettings  # settings of the fit
    device: torch.device  # device of the network
    n_classes: int
    teacher: AtomicityNet | None  # network whose class maps are learnt

    @property
    def n_steps(self) -> int:
        """Number of batches in an epoch."""
        return max(1, -(-len(self.label) // self.settings.batch_size))

    def draw(
        self,
        rows: Tensor,  # (n,): rows of the batch
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return the patches of some rows, augmented, on the device."""
        settings = self.settings
        batch = augmented(
            {c: p[rows].float() for c, p in self.patches.items()},
            settings.scale_jitter,
            generator,
            settings.conditions,
            settings.neighbours,
            None if self.radius_px is None else self.radius_px[rows],
            settings.shift_px,
        )
        return {c: x.to(self.device) for c, x in batch.items()}


def _fit_epoch(trainer: Trainer, batches: _Batches, epoch: int) -> float:
    """Fit for one epoch, and return the mean loss of its batches."""
    settings, device, n_steps = batches.settings, batches.device, batches.n_steps
    weight = class_balanced_weights(batches.label.numpy(), batches.n_classes)
    weight_of_class = torch.from_numpy(weight).to(device)
    kept = 1 - 1 / max(2.0, min(500.0, 0.5 * n_steps))
    half = multiplies_bfloat16(device)
    seed = settings.seed * 100_003 + epoch
    torch.manual_seed(seed)  # of the dropout
    generator = torch.Generator().manual_seed(seed)
    trainer.network.train()
    order = torch.randperm(len(batches.label), generator=generator)
    total = 0.0
    for step in trainer.steps(epoch * n_steps, (epoch + 1) * n_steps):
        start = (step - epoch * n_steps) * settings.batch_size
        rows = order[start : start + settings.batch_size]
        batch = batches.draw(rows, generator)
        label = batches.label[rows].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            output = trainer.network(batch)
        target = smooth_targets(label, batches.n_classes, settings.neighbour_smoothing)
        each = functional.cross_entropy(output.logits.float(), target, reduction="none")
        loss = (each * weight_of_class[label]).mean()
        if batches.teacher is not None:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                aim = batches.teacher(batch)
            assert isinstance(trainer.network, AtomicityNet)
            maps = _class_maps(trainer.network, output, label)
            wanted = _class_maps(batches.teacher, aim, label)
            loss = loss + settings.map_weight * map_distance(maps, wanted)
        trainer.update(loss, kept)
        total += float(loss.detach())
    return total / n_steps


def _class_maps(network: AtomicityNet, output: Output, label: Tensor) -> dict[str, Tensor]:
    """Return the class maps of known classes in single precision."""
    return network.class_maps({c: m.float() for c, m in output.maps.items()}, label)


def map_distance(maps: dict[str, Tensor], aim: dict[str, Tensor]) -> Tensor:
    """Compute the mean squared distance between class maps of unit norm, over patches and channels.

    A small network learns with it to look where a large one does; after [1]_, whose maps are of
    activations, not of classes.

    Parameters
    ----------
    maps, aim : dict of str to Tensor
        Channel → (N, h, w), not negative; gradients are those of ``maps``.

    Returns
    -------
    Tensor
        A number between 0 and 2.

    References
    ----------
    .. [1] S. Zagoruyko and N. Komodakis, "Paying More Attention to Attention", ICLR 2017.
    """
    distances = []
    for channel, wanted in aim.items():
        a, b = (functional.normalize(x.flatten(1), eps=1e-6) for x in (maps[channel], wanted))
        distances.append((a - b).square().sum(dim=1).mean())
    return torch.stack(distances).mean()


def _restore(
    checkpoint: Checkpoint | None, trainer: Trainer
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Restore the state of a fit, if there is one; return its history and best weights."""
    stored = checkpoint.load() if checkpoint is not None else None
    if stored is None:
        return [], weights(trainer.average)
    state, parts = stored
    trainer.network.load_state_dict(parts["network"])
    trainer.average.load_state_dict(parts["average"])
    restore_optimiser(trainer.optimiser, parts["optimiser"], state["groups"])
    trainer.schedule.load_state_dict(state["schedule"])
    return state["history"], parts["best"]


def _save(
    checkpoint: Checkpoint,
    trainer: Trainer,
    history: list[dict[str, float]],
    best: dict[str, Tensor],
) -> None:
    """Write the state of a fit after an epoch."""
    checkpoint.save(
        {
            "history": history,
            "groups": trainer.optimiser.state_dict()["param_groups"],
            "schedule": {
                k: v
                for k, v in trainer.schedule.state_dict().items()
                if isinstance(v, (int, float, str, bool, list))
            },
        },
        {
            "network": weights(trainer.network),
            "average": weights(trainer.average),
            "best": best,
            "optimiser": optimiser_tensors(trainer.optimiser),
        },
    )


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """Return the epoch with the lowest held-out loss, the last of equal ones, counted from 1."""
    losses = [h["held_out_loss"] for h in history]
    return len(losses) - int(np.argmin(losses[::-1]))


def _is_patience_over(history: Sequence[dict[str, float]], patience: int) -> bool:
    """Return whether as many epochs as the patience brought no lower loss."""
    return bool(patience and history) and len(history) - best_epoch(history) >= patience


def class_balanced_weights(label: np.ndarray, n_classes: int) -> np.ndarray:
    """Return weights (C,) that give every class the same total weight."""
    count = np.bincount(label, minlength=n_classes)
    return np.asarray(len(label) / (n_classes * np.maximum(count, 1)), np.float32)


def smooth_targets(
    label: Tensor,  # (N,): class indices
    n_classes: int,
    smoothing: float,  # share of the next smaller and the next larger class together
) -> Tensor:  # (N, n_classes): rows sum to 1
    """Return target probabilities that give a share to the neighbours of the class."""
    target = functional.one_hot(label, n_classes).float()
    spill = torch.zeros_like(target)
    spill[:, 1:] += target[:, :-1] / 2
    spill[:, :-1] += target[:, 1:] / 2
    kept = 1 - smoothing * spill.sum(dim=1, keepdim=True)
    return target * kept + smoothing * spill


@torch.inference_mode()
def held_out_scores(
    network: AtomicityNet,
    patches: dict[str, Tensor],
    label: Tensor,  # (N,): class indices
    device: torch.device,
    atoms: Sequence[int],  # number of atoms of each class; may be empty
) -> dict[str, float]:
    """Compute loss, accuracy, share off by one class (means over classes) and error in atoms."""
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
