"""Learning curve of a training: held-out accuracy and losses against the epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .plot_base import Look
from .plot_panels import draw_line, stack_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Orange and blue of Okabe and Ito, distinct for people with colour-vision deficiency.
_TRAINING, _HELD_OUT = "#e69f00", "#56b4e9"


def describe_training(history: Sequence[dict[str, float]], epochs: int) -> str:
    """Describe the last epoch of `training.fit.fit_network`; "" before the first one."""
    if not history:
        return ""
    last = history[-1]
    return (
        f"epoch {last['epoch']:.0f} of {max(epochs, len(history))}: held-out accuracy "
        f"{last['accuracy']:.3f}, loss {last['loss']:.3f}, held-out loss "
        f"{last['held_out_loss']:.3f}"
    )


def draw_learning_curve(
    figure: Figure, look: Look, history: Sequence[dict[str, float]], epochs: int
) -> None:
    """Draw the accuracy on held-out images above the losses.

    The training loss is dashed. A vertical line marks the epoch whose weights are kept.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        An empty figure.
    look : Look
        Colours and sizes.
    history : sequence of dict
        At least one epoch of `training.fit.fit_network`.
    epochs : int
        Largest number of epochs.
    """
    accuracy, training, held_out = (
        np.array([epoch[key] for epoch in history]) for key in ("accuracy", "loss", "held_out_loss")
    )
    epoch, n = np.arange(1, len(history) + 1), max(epochs, len(history))
    above, below = stack_panels(figure, look, (1, 1))
    low = math.floor(10 * accuracy.min()) / 10 if accuracy.min() < 1 else 0.9
    above.set_title(f"Held-out accuracy of the network: {100 * accuracy[-1]:.1f} %")
    above.set(ylim=(low, 1.0), yticks=(low, 1.0), yticklabels=(f"{100 * low:.0f} %", "100 %"))
    draw_line(above, look, epoch, accuracy, _HELD_OUT)
    losses = np.concatenate([training, held_out])
    highest = 1.05 * float(losses[np.isfinite(losses)].max(initial=0.0)) or 1.0
    below.set_title(f"Loss: held out {held_out[-1]:.3f}, training {training[-1]:.3f} (dashed)")
    below.set(ylim=(0, highest), yticks=(0, highest), yticklabels=("0", f"{highest:.2g}"))
    draw_line(below, look, epoch, training, _TRAINING, linestyle="--")
    draw_line(below, look, epoch, held_out, _HELD_OUT)
    for axes in (above, below):
        axes.axvline(epoch[held_out.argmin()], color=look.ink, alpha=0.6, linewidth=0.8, ls=":")
    below.set(xlim=(0, n), xlabel=f"Epoch {len(history)} of {n}")
    below.locator_params(axis="x", nbins=5, integer=True)
