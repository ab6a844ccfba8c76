"""Settings of the training of a cluster network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is fitted.

    Parameters
    ----------
    epochs : int
        Passes over the training patches at most; the best on held-out images is kept.
    batch_size, learning_rate, weight_decay : int and float
        Of AdamW with a warm-up and a cosine.
    neighbour_smoothing : float
        Share of the target that goes to the next smaller and larger class: mistaking a cluster
        for its neighbour is the lesser error.
    scale_jitter : float
        Standard deviation of the logarithm by which the raw channel is misjudged on purpose.
    body_rate : float
        Learning rate of the convolutions as a share of the head's; less than 1 where they start
        from trained ones.
    conditions : float
        How much noise, blur and misjudged background are added to patches (`augmentation`);
        simulated fields vary in them by themselves.
    neighbours : float
        Share of patches that get another cluster beside their own; simulated fields have
        clusters that touch.
    patience : int
        Epochs without a lower held-out loss after which the fit ends; 0 never.
    width : int
        Features of the network's first layer.
    seed : int
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
