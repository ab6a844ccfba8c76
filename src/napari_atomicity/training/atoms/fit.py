"""The fit of one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...atoms.finder import resample_image
from ...atoms.network import AtomNet
from ...core.progress import Progress, Stop, check, report
from .examples import AtomTrainingSettings, TrainingExample, make_example, simulated_field
from .labelled import LabelledImage

FIELD_PX = 288
"""Edge of a simulated field, at the common sampling."""
_FIELDS = 12


def train_network(
    images: Sequence[LabelledImage],
    settings: AtomTrainingSettings,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AtomNet:
    """Fit a network; the running average of its weights is returned.

    Parameters
    ----------
    images
        Labelled images; each is seen as often as its area at the common sampling says.
    settings
        How.
    progress, stop
        Called between steps.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    """
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    plain: list[tuple[np.ndarray, np.ndarray]] = []
    for labelled in images:
        image, factor = resample_image(labelled.pixels, labelled.pixel_size_nm)
        plain.append((image, (labelled.points + 0.5) * factor - 0.5))
    share = np.array([float(image.size) for image, _ in plain])
    share /= share.sum()
    pool = [make_example(*p, settings, rng) for p in plain]
    n_fields = _FIELDS if settings.simulated > 0 else 0
    fields = [_field_example(settings, rng) for _ in range(n_fields)]

    channels = pool[0].channels.shape[0]
    network = AtomNet(channels, settings.width, settings.dropout)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AtomNet(channels, settings.width, settings.dropout)
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, settings.steps, pct_start=0.1
    )
    half = _has_bfloat16()
    for step in range(settings.steps):
        check(stop)
        if step % settings.renew == 0:
            i = int(rng.choice(len(plain), p=share))
            pool[i] = make_example(*plain[i], settings, rng)
            if fields and step % (8 * settings.renew) == 0:
                fields[int(rng.integers(len(fields)))] = _field_example(settings, rng)
        chosen = [
            fields[int(rng.integers(len(fields)))]
            if rng.random() < settings.simulated
            else pool[int(rng.choice(len(pool), p=share))]
            for _ in range(settings.batch)
        ]
        x, y, weight = _batch(chosen, settings.crop_px, rng)
        network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(x.to(memory_format=torch.channels_last))
        entropy = functional.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
        loss = (entropy * weight).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _follow(average, network, min(settings.averaging, (1 + step) / (10 + step)))
        report(progress, step + 1, settings.steps, "Training")
    return average.eval()


def _field_example(settings: AtomTrainingSettings, rng: np.random.Generator) -> TrainingExample:
    """A simulated field; it has conditions of its own, so few are changed."""
    field = simulated_field(FIELD_PX, rng)
    return make_example(*field, replace(settings, strength=0.3), rng)


def _has_bfloat16() -> bool:
    """Whether the processor multiplies in 16 bits: training is several times faster then."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported is not None and supported())


@torch.no_grad()
def _follow(average: AtomNet, network: AtomNet, kept: float) -> None:
    states = average.state_dict().values(), network.state_dict().values()
    for mean, now in zip(*states, strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1 - kept)


def _batch(
    examples: Sequence[TrainingExample], size: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A crop of each, in a random symmetry of the square."""
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
