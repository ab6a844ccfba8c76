"""Probabilities of the classes by the diameter alone.

Isomers of a size are flat or compact, so the distributions of their diameters are skewed, and a
normal density in the logarithm misplaces the borders between the classes. Cards therefore hold the
densities themselves, see `training.scaling`.
"""

from __future__ import annotations

import numpy as np

from ..core.errors import ModelError
from ..core.model_card import N_RESIDUALS, ModelCard

RESIDUALS = np.linspace(-0.6, 0.9, N_RESIDUALS)
"""Grid of the densities: log diameter minus that of the class in the scale reference."""
BROAD_SCATTER = 0.35
"""Standard deviation of the normal density beyond the grid."""
MIN_DIFFERENCE = 1e-3
"""Least difference of log diameter between neighbouring classes, for cards without densities."""


def diameter_log_likelihood(log_diameter: np.ndarray, card: ModelCard) -> np.ndarray:
    """Compute the log likelihood of the classes for given diameters.

    Cards without densities have thresholds: between two neighbouring classes, the log likelihood
    ratio is linear in the log diameter, as of two normal densities of equal variance, and zero at
    the threshold. Without thresholds, it is zero halfway between the two means.

    Parameters
    ----------
    log_diameter : ndarray of any shape
        Logarithms of diameters in nm, without errors that are common to an image.
    card : ModelCard
        Card with a scale reference.

    Returns
    -------
    ndarray of shape (..., n_classes)
        Log likelihoods, up to a term that all classes have in common. NaN where the diameter is.
    """
    if card.scale is None:
        raise ModelError(f"{card.name} has no scale", advice="Get the model again")
    mean = np.array(card.scale.log_diameter)
    x = np.asarray(log_diameter, float)[..., None]
    if card.diameter_density:
        residual = x - mean
        inside = np.clip(residual, RESIDUALS[0], RESIDUALS[-1])
        log_density = [
            np.interp(inside[..., i], RESIDUALS, np.log(density))
            for i, density in enumerate(card.diameter_density)
        ]
        beyond = -0.5 * (residual**2 - inside**2) / BROAD_SCATTER**2
        return np.asarray(np.stack(log_density, axis=-1) + beyond)
    cuts = card.thresholds.get("diameter")
    border = (mean[1:] + mean[:-1]) / 2 if cuts is None else np.log(cuts)
    variance = np.array(card.scale.covariance)[:, 1, 1]
    slope = np.maximum(np.diff(mean), MIN_DIFFERENCE) * 2 / (variance[1:] + variance[:-1])
    ratios = np.cumsum(slope * (x - border), axis=-1)
    return np.concatenate([np.where(np.isnan(x), np.nan, 0.0), ratios], axis=-1)
