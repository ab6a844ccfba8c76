"""Probabilities of the classes by the diameter alone.

Isomers of a size are flat or compact, so the distributions of their diameters are skewed, and a
normal density in the logarithm misplaces the borders between the classes. Cards therefore hold the
densities themselves, see `training.diameter_density`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, softmax

from ..core.errors import ModelError
from ..core.model_card import N_RESIDUALS, ModelCard

RESIDUALS = np.linspace(-0.6, 0.9, N_RESIDUALS)
"""Grid of the densities: log diameter minus that of the class in the scale reference."""
BROAD_SCATTER = 0.35
"""Standard deviation of the normal density beyond the grid."""
MIN_DIFFERENCE = 1e-3
"""Least difference of log diameter between neighbouring classes, for cards without densities."""
TAIL = 0.005
"""Fraction of the clusters of a class below, and above, the diameters that are usual for it."""
_N_GRID = 4001
DiameterRange = tuple[float, float]
"""Smallest and largest diameter in nm."""


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


def diameter_ranges(card: ModelCard, min_probability: float) -> dict[str, list[DiameterRange]]:
    """Find the diameters that determine the class.

    A diameter belongs to a range of a class if the probability of the class, given the diameter
    alone and equal shares of all classes, is at least `min_probability`, and if the diameter is
    usual for the class (see `TAIL`).

    Parameters
    ----------
    card : ModelCard
        Card with a scale reference.
    min_probability : float
        Least probability.

    Returns
    -------
    dict of str to list of tuple of float
        Class → its ranges in nm, in ascending order; empty for a class without one.

    Raises
    ------
    ModelError
        If the card has no scale reference.
    """
    usual = _usual_log_diameters(card)
    log_diameter = np.linspace(usual.min(), usual.max(), _N_GRID)
    p = softmax(diameter_log_likelihood(log_diameter, card), axis=1)
    ranges = {}
    for i, name in enumerate(card.classes):
        low, high = usual[i]
        inside = (p[:, i] >= min_probability) & (p[:, i] == p.max(axis=1))
        inside &= (log_diameter >= low) & (log_diameter <= high)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
        ends = log_diameter[np.stack([edges[::2], edges[1::2] - 1], axis=1)]
        ranges[name] = [(float(a), float(b)) for a, b in np.exp(ends)]
    return ranges


def _usual_log_diameters(card: ModelCard) -> np.ndarray:
    """Return the quantiles `TAIL` and 1 - `TAIL` of the log diameters of each class (C, 2)."""
    if card.scale is None:
        raise ModelError(f"{card.name} has no scale", advice="Get the model again")
    mean = np.array(card.scale.log_diameter)
    quantiles = (TAIL, 1 - TAIL)
    if not card.diameter_density:
        deviation = np.sqrt(np.array(card.scale.covariance)[:, 1, 1])
        return np.asarray(mean[:, None] + deviation[:, None] * ndtri(quantiles))
    cumulative = np.cumsum(card.diameter_density, axis=1)
    within = [np.interp(quantiles, c / c[-1], RESIDUALS) for c in cumulative]
    return np.asarray(mean[:, None] + np.stack(within))
