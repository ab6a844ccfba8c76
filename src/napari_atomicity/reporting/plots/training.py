"""Learning curve of a training: the losses against the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .base import Look, draw_line, stack_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Orange and blue of Okabe and Ito, distinct for people with colour-vision deficiency.
_TRAINING, _HELD_OUT = "#e69f00", "#56b4e9"


def describe_training(history: Sequence[dict[str, float]]) -> str:
    """Describe the last epoch of `training.fit.fit_network`; "" before the first one.

    The accuracy is not named: here it would be that of the network alone, at the known scale.
    `training.score_text.describe_accuracy` describes that of the complete model.
    """
    if not history:
        return ""
    last = history[-1]
    return (
        f"epoch {last['epoch']:.0f} of {_last_epoch(history)}: loss {last['loss']:.3f}, "
        f"held-out loss {last['held_out_loss']:.3f}"
    )


def _last_epoch(history: Sequence[dict[str, float]]) -> int:
    """Return the largest number of epochs."""
    return max(len(history), int(history[-1].get("epochs", 0)))


def draw_learning_curve(figure: Figure, look: Look, history: Sequence[dict[str, float]]) -> None:
    """Draw the losses on training images (dashed) and on held-out images.

    A vertical line marks the epoch whose weights are kept, and the title has its losses; it fits
    in a narrow dock. The accuracy is not drawn; see `describe_training`.
    """
    training, held_out = (
        np.array([epoch[key] for epoch in history]) for key in ("loss", "held_out_loss")
    )
    epoch, n = np.arange(1, len(history) + 1), _last_epoch(history)
    (axes,) = stack_panels(figure, look, (1,))
    losses = np.concatenate([training, held_out])
    highest = 1.05 * float(losses[np.isfinite(losses)].max(initial=0.0)) or 1.0
    kept = len(held_out) - 1 - held_out[::-1].argmin()  # the last of equal ones
    axes.set_title(f"Held out {held_out[kept]:.3f}, training {training[kept]:.3f} (dashed)")
    axes.set(ylim=(0, highest), yticks=(0, highest), yticklabels=("0", f"{highest:.2g}"))
    draw_line(axes, look, epoch, training, _TRAINING, linestyle="--")
    draw_line(axes, look, epoch, held_out, _HELD_OUT)
    axes.axvline(epoch[kept], color=look.ink, alpha=0.6, linewidth=0.8, ls=":")
    axes.set(xlim=(0, n), xlabel=f"Loss at epoch {len(history)} of {n}; kept: {epoch[kept]}")
    axes.locator_params(axis="x", nbins=5, integer=True)
