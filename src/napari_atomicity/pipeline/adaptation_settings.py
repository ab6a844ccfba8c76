"""Settings of an adaptation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AdaptSettings:
    """How a model is adapted.

    Parameters
    ----------
    posterior : float, optional
        Least probability of a pseudo-label.
    held_out : float, optional
        Share of pseudo-labels and corrections that decide whether the result is kept.
    steps, batch_size, learning_rate
        Of AdamW; half of every batch is replayed.
    scale_jitter : float, optional
        Standard deviation of the logarithm by which the raw channel is misjudged on purpose.
    worst_forgetting : float, optional
        Most that the accuracy on replayed patches of the training may fall.
    seed : int, optional
        Of all chance.
    """

    posterior: float = 0.95
    held_out: float = 0.25
    steps: int = 60
    batch_size: int = 48
    learning_rate: float = 1e-3
    scale_jitter: float = 0.04
    worst_forgetting: float = 0.01
    seed: int = 0
