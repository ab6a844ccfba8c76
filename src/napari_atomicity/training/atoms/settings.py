"""Settings of the training of atom networks, and the recipe of a model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class AtomTrainingSettings:
    """Settings of the training of a network.

    Parameters
    ----------
    width : int
        Features of the first level of the network.
    dropout : float
        Share of features that are dropped in its deepest levels.
    steps : int
        Steps of the optimiser.
    batch : int
        Crops in a step.
    crop_px : int
        Edge of a crop at the common sampling, a multiple of `network.STRIDE`.
    learning_rate, weight_decay : float
        Of AdamW with a one-cycle schedule.
    averaging : float
        Share of the running average of the weights that a step keeps.
    spot_nm : float
        Standard deviation of the target around a mark: that of manual marks.
    simulated : float
        Share of crops from simulated fields.
    renew : int
        An image is varied again every so many steps.
    strength : float
        Strength of the variation: 0 no variation, 1 as in `vary_imaging`.
    blur : tuple of float
        Lowest and highest logarithm of the standard deviation in pixels of an occasional blur.
    scale : tuple of float
        Lowest and highest logarithm of a magnification: out of focus, atoms are twice as wide.
    seed : int
        Seed of all random numbers.
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
    """Recipe of an atom model from labelled images.

    Parameters
    ----------
    settings : AtomTrainingSettings
        Settings of each network.
    folds : int
        Parts of the images for cross-validation, which calibrates the model and gives its scores.
    members : int
        Networks of the model, trained on all images; 0: the model consists of those of the folds.
    fold_members : int
        Networks trained without each fold.
    also : tuple of AtomTrainingSettings
        Settings of every second (third, ...) network: networks of different settings make
        different errors.
    scales : tuple of float
        See `finder.AtomCard`.
    tolerance_nm : float
        Largest distance of a correct candidate from its mark.
    not_calibrating : tuple of str
        Sets for training and scores whose marks are too uncertain for the calibration.
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
        """Return the settings of the k-th network."""
        kinds = (self.settings, *self.also)
        chosen = kinds[k % len(kinds)]
        return replace(chosen, seed=chosen.seed + k // len(kinds))
