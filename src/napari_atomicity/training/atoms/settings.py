"""Settings of the training of atom networks, and the recipe of a model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class AtomTrainingSettings:
    """How a network is trained.

    Parameters
    ----------
    width : int
        Features of its first level.
    dropout : float
        Share of features silenced in its deepest levels.
    steps : int
        Of the optimiser.
    batch : int
        Crops in a step.
    crop_px : int
        Edge of a crop at the common sampling, a multiple of `network.STRIDE`.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises and falls once (one cycle).
    averaging : float
        Share of the running average of the weights that a step keeps.
    spot_nm : float
        Standard deviation of the target around a mark: as far as a person's marks scatter.
    simulated : float
        Share of crops from simulated fields.
    renew : int
        Every so many steps an image is recorded anew under other conditions.
    strength : float
        Of these conditions: 0 none, 1 as in `vary_imaging`.
    blur : tuple of float
        Logarithm of the standard deviation (pixels) by which an image is blurred at times, from
        and to.
    scale : tuple of float
        Logarithm of an enlargement, from and to: out of focus, atoms are up to twice as wide.
    seed : int
        Of all chance.
    """

    width: int = 16
    dropout: float = 0.1
    steps: int = 1300
    batch: int = 8
    crop_px: int = 160
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    averaging: float = 0.999
    spot_nm: float = 0.09
    simulated: float = 0.1
    renew: int = 2
    strength: float = 1.0
    blur: tuple[float, float] = (-1.0, 0.9)
    scale: tuple[float, float] = (-0.2, 0.5)
    seed: int = 0


@dataclass(frozen=True)
class AtomRecipe:
    """What makes an atom model from labelled images.

    Parameters
    ----------
    settings : AtomTrainingSettings
        Of each network.
    folds : int
        Parts of the images, each left out once, for calibration and scores.
    members : int
        Networks of the model, which learn from all images; 0: the model is those of the folds.
    fold_members : int
        Networks trained without each fold.
    also : tuple of AtomTrainingSettings
        Settings of every second (third, ...) network: conditions that differ make networks that
        err differently.
    scales : tuple of float
        See `finder.AtomCard`.
    tolerance_nm : float
        A candidate this near to a mark is right.
    not_calibrating : tuple of str
        Sets that are learnt from and scored, but whose marks are not sure enough to calibrate.
    """

    settings: AtomTrainingSettings = field(default_factory=AtomTrainingSettings)
    folds: int = 4
    members: int = 2
    fold_members: int = 1
    also: tuple[AtomTrainingSettings, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    tolerance_nm: float = 0.15
    not_calibrating: tuple[str, ...] = ()

    def network(self, k: int) -> AtomTrainingSettings:
        """Settings of the k-th network."""
        kinds = (self.settings, *self.also)
        chosen = kinds[k % len(kinds)]
        return replace(chosen, seed=chosen.seed + k // len(kinds))
