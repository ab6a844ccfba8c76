"""Probabilities of the classes by the diameter alone.

Isomers of a size are flat or compact, so the distributions of their diameters are skewed, and a
normal density in the logarithm misplaces the borders between the classes. Cards therefore hold the
densities themselves, see `training.calibration.scaling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, gammaln, softmax

from ..core.errors import ModelError
from ..core.model_card import N_RESIDUALS, ModelCard

RESIDUALS = np.linspace(-0.6, 0.9, N_RESIDUALS)
"""Grid of the densities: log diameter minus that of the class in the scale reference."""
BROAD_SCATTER = 0.35
"""Standard deviation of the normal density beyond the grid."""
MIN_DIFFERENCE = 1e-3
"""Least difference of log diameter between neighbouring classes, for cards without densities."""


def diameter_log_likelihood(
    # Logarithms of diameters in nm, of any shape, without errors that are common to an image
    log_diameter: np.ndarray,
    card: ModelCard,  # card with a scale reference
) -> np.ndarray:
    """Compute the log likelihood of the classes for given diameters.

    Cards without densities have thresholds: between two neighbouring classes, the log likelihood
    ratio is linear in the log diameter, as of two normal densities of equal variance, and zero at
    the threshold. Without thresholds, it is zero halfway between the two means.

    The log likelihoods, (..., n_classes), are up to a term that all classes have in common, and NaN
    where the diameter is.
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


# ---- probabilities of the classes by the diameters of a session, whose common error is unknown
#
# Blur, noise and an error of the pixel size shift the diameters of all clusters of an image
# together, by about as much as neighbouring classes differ. The class of a single diameter is
# therefore as unsure as this shift is.
#
# Model. A cluster of class c in image i has ln d = x + t_i, where x has the density of the class
# (`models.diameter_density`). The shifts are drawn around one of the session,
#
#     t_i ~ N(D, `IMAGE_SCATTER`^2),    D ~ N(0, `SESSION_SCATTER`^2),
#
# and the shares of the classes from a Dirichlet distribution per image. A flat component takes
# aggregates and debris. The shares are integrated out by variational Bayes for every shift on a
# grid, the shifts on the grid itself, as in `models.scale.session_scale`.

SESSION_SCATTER = 0.07
"""Standard deviation of the shift of log diameter between sessions of other conditions."""
IMAGE_SCATTER = 0.015
"""Standard deviation of the shift between the images of a session."""
CONCENTRATION = 0.5
"""Dirichlet parameter of the shares of an image."""
OUTLIERS = 0.03
"""Share of the clusters that are of no class, flat in log diameter over `OUTLIER_RANGE`."""
OUTLIER_RANGE = 1.5
SHIFTS = np.linspace(-0.24, 0.24, 49)
TEMPER = 0.4
"""Weight of the evidence of an image for a shift: blur does not shift all classes alike, and the
shapes of the isomers of a sample are others, so that the densities are known only roughly."""
_N_ITERATIONS = 20


@dataclass(frozen=True, eq=False)
class DiameterPosterior:
    """Classes of the clusters of each image, and the shift of the session."""

    # (n_clusters, n_classes): of each image; rows sum to less than 1 by the probability of no
    # class, and are NaN without a diameter
    probabilities: list[np.ndarray]
    shift: float  # posterior mean of the shift of log diameter of the session


def diameter_posterior(
    # each (n_clusters,): diameters of the complete, isolated clusters of each image in nm; those
    # that are not positive are left out
    diameters_nm: Sequence[np.ndarray],
    card: ModelCard,  # card with a scale reference
    # Standard deviation of the shift of the session before the diameters are seen
    session_scatter: float = SESSION_SCATTER,
) -> DiameterPosterior:  # probabilities, with shares and shifts integrated out
    """Compute the probabilities of the classes from the diameters alone."""
    found = [_image_evidence(np.asarray(d, float), card) for d in diameters_nm]
    kernel = softmax(-0.5 * ((SHIFTS[:, None] - SHIFTS) / IMAGE_SCATTER) ** 2, axis=1)
    evidence = np.array([np.exp(TEMPER * (e - e.max())) for e, _ in found]).reshape(-1, len(SHIFTS))
    marginal = evidence @ kernel.T + 1e-300  # of each image, for every shift of the session
    log_session = np.log(marginal).sum(axis=0) - 0.5 * (SHIFTS / session_scatter) ** 2
    session = softmax(log_session)
    probabilities = []
    for likelihood, of_image, (_, p) in zip(evidence, marginal, found, strict=True):
        weight = likelihood * (kernel.T @ (session / of_image))
        probabilities.append(np.einsum("t,tnc->nc", weight / weight.sum(), p))
    return DiameterPosterior(probabilities, float(session @ SHIFTS))


def _image_evidence(diameter_nm: np.ndarray, card: ModelCard) -> tuple[np.ndarray, np.ndarray]:
    """Compute the log evidence (T,) of each shift, and the class probabilities (T, N, C) with it.

    The evidence is the variational lower bound, with the shares integrated out.
    """
    n_classes = len(card.classes)
    p = np.full((len(SHIFTS), len(diameter_nm), n_classes), np.nan)
    known = diameter_nm > 0
    if not known.any():
        return np.zeros(len(SHIFTS)), p
    log_diameter = np.log(diameter_nm[known]) - SHIFTS[:, None]
    density = np.exp(_log_density(log_diameter, card))
    outliers = OUTLIERS / OUTLIER_RANGE
    prior = np.full(n_classes, CONCENTRATION)
    alpha = prior + known.sum() / n_classes + np.zeros((len(SHIFTS), n_classes))
    for _ in range(_N_ITERATIONS):
        before = alpha
        log_share = digamma(before) - digamma(before.sum(axis=-1, keepdims=True))
        member = density * np.exp(log_share)[:, None]
        total = member.sum(axis=2) + outliers
        alpha = prior + (member / total[..., None]).sum(axis=1)
    log_evidence = np.log(total).sum(axis=1)
    log_evidence += gammaln(before).sum(axis=-1) - gammaln(before.sum(axis=-1))
    log_evidence -= gammaln(prior).sum() - gammaln(prior.sum())
    log_evidence -= ((before - prior) * log_share).sum(axis=-1)
    p[:, known] = member / total[..., None]
    return log_evidence, p


def _log_density(log_diameter: np.ndarray, card: ModelCard) -> np.ndarray:
    """Compute the log density (..., C) of the classes, normal for cards without densities."""
    if card.diameter_density:
        return diameter_log_likelihood(log_diameter, card)
    if card.scale is None:
        raise ModelError(f"{card.name} has no scale", advice="Get the model again")
    mean = np.array(card.scale.log_diameter)
    variance = np.array(card.scale.covariance)[:, 1, 1]
    residual = log_diameter[..., None] - mean
    return np.asarray(-0.5 * residual**2 / variance - 0.5 * np.log(2 * np.pi * variance))
