"""Settings of the training of a cluster network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the fit of a network.

    Parameters
    ----------
    epochs : int
        Largest number of passes over the training patches; the best on held-out images is kept.
    batch_size : int
        Patches in a batch.
    learning_rate, weight_decay : float
        Of AdamW with a one-cycle schedule.
    neighbour_smoothing : float
        Share of the target that goes to the next smaller and larger class, since confusing
        neighbouring classes is the smaller error.
    scale_jitter : float
        Standard deviation of the logarithm of an artificial error of the scale of the raw channel.
    body_rate : float
        Learning rate of the convolutions as a share of the head's; less than 1 if they start from
        trained ones.
    conditions : float
        Strength of the noise, blur and error of the background that are added to patches
        (`augmentation`); the conditions of simulated fields vary already.
    neighbours : float
        Share of patches that get another cluster as a neighbour; in simulated fields some clusters
        touch already.
    shift_px : int
        Largest shift of a patch along each axis in pixels.
    patience : int
        Epochs without a lower held-out loss after which the fit ends; 0: no limit.
    map_weight : float
        With a teacher, the weight of the distance between the class maps of both networks
        (`fit.map_distance`).
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
    shift_px: int = 0
    patience: int = 0
    map_weight: float = 1.0
    width: int = 16
    seed: int = 0
