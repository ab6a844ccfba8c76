"""Fit of one atom network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...atoms.finding.finder import resample_image
from ...atoms.finding.network import AtomNet
from ...core.devices import multiplies_bfloat16
from ...core.progress import Progress, Stop
from ..fit import Trainer
from .examples import TrainingExample, make_example, simulate_field_of_atoms
from .labelled import LabelledImage
from .settings import AtomTrainingSettings

FIELD_PX = 288
"""Edge of a simulated field, at the common sampling."""
_FIELDS = 12


def train_network(
    images: Sequence[LabelledImage],
    settings: AtomTrainingSettings,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomNet:
    """Fit a network and return the running average of its weights.

    Parameters
    ----------
    images : sequence of LabelledImage
        Labelled images; each is drawn in proportion to its area at the common sampling.
    settings : AtomTrainingSettings
        Settings of the fit.
    progress, stop : callable, optional
        Called between steps.

    Returns
    -------
    AtomNet
        The fitted network.

    Raises
    ------
    Cancelled
        If ``stop()`` is true.
    """
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    pool = _ExamplePool(images, settings, rng)
    network = AtomNet(pool.n_channels, settings.width, settings.dropout)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AtomNet(pool.n_channels, settings.width, settings.dropout)
    average.load_state_dict(network.state_dict())
    trainer = Trainer(
        network,
        average,
        network.parameters(),
        settings.learning_rate,
        total_steps=settings.steps,
        warmup=0.1,
        weight_decay=settings.weight_decay,
        progress=progress,
        stop=stop,
    )
    half = multiplies_bfloat16(torch.device("cpu"))
    for step in trainer.steps(0, settings.steps):
        pool.renew(step)
        x, y, weight = _batch(pool.draw(), settings.crop_px, rng)
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(x.to(memory_format=torch.channels_last))
        entropy = functional.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
        loss = (entropy * weight).sum() / weight.sum()
        trainer.update(loss, min(settings.averaging, (1 + step) / (10 + step)))
    return average.eval()


class _ExamplePool:
    """Examples from which crops are drawn: one of each image, and some simulated fields."""

    def __init__(
        self,
        images: Sequence[LabelledImage],
        settings: AtomTrainingSettings,
        rng: np.random.Generator,
    ) -> None:
        self._settings, self._rng = settings, rng
        self._images: list[tuple[np.ndarray, np.ndarray]] = []
        for labelled in images:
            image, factor = resample_image(labelled.pixels, labelled.pixel_size_nm)
            self._images.append((image, (labelled.points + 0.5) * factor - 0.5))
        area = np.array([float(image.size) for image, _ in self._images])
        self._share = area / area.sum()
        self._examples = [make_example(*i, settings, rng) for i in self._images]
        n_fields = _FIELDS if settings.simulated > 0 else 0
        self._fields = [_field_example(settings, rng) for _ in range(n_fields)]

    @property
    def n_channels(self) -> int:
        """Number of channels of an example."""
        return self._examples[0].channels.shape[0]

    def renew(self, step: int) -> None:
        """Vary one image again, and sometimes a simulated field, if it is time at this step."""
        settings, rng = self._settings, self._rng
        if step % settings.renew:
            return
        i = int(rng.choice(len(self._images), p=self._share))
        self._examples[i] = make_example(*self._images[i], settings, rng)
        if self._fields and step % (8 * settings.renew) == 0:
            self._fields[int(rng.integers(len(self._fields)))] = _field_example(settings, rng)

    def draw(self) -> list[TrainingExample]:
        """Draw the examples of a batch, images in proportion to their area."""
        rng = self._rng
        return [
            self._fields[int(rng.integers(len(self._fields)))]
            if rng.random() < self._settings.simulated
            else self._examples[int(rng.choice(len(self._examples), p=self._share))]
            for _ in range(self._settings.batch)
        ]


def _field_example(settings: AtomTrainingSettings, rng: np.random.Generator) -> TrainingExample:
    """Return a simulated field; its conditions are random already, so that few are varied."""
    field = simulate_field_of_atoms(FIELD_PX, rng)
    return make_example(*field, replace(settings, strength=0.3), rng)


def _batch(
    examples: Sequence[TrainingExample], size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a crop of each example in a random symmetry of the square."""
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for example in examples:
        shape = example.target.shape
        top, left = (int(rng.integers(0, max(1, n - size + 1))) for n in shape)
        window = np.s_[..., top : top + size, left : left + size]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        arrays = (example.channels, example.target, example.weight)
        for part, array in zip(parts, arrays, strict=True):
            cut = array[window]
            missing = [max(0, size - n) for n in cut.shape[-2:]]
            if any(missing):
                pad = [(0, 0)] * (cut.ndim - 2) + [(0, missing[0]), (0, missing[1])]
                cut = np.pad(cut, pad)
            cut = np.rot90(cut, turns, (-2, -1))
            part.append(cut[..., ::-1] if flip else cut)
    x, y, w = (torch.from_numpy(np.stack(p).astype(np.float32)) for p in parts)
    return x, y, w
