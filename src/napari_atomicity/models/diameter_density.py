"""Densities of the diameters of the classes.

Isomers of a size are flat or compact, so the distributions of their diameters are skewed, and a
normal density in the logarithm misplaces the borders between the classes.
"""

from __future__ import annotations

import numpy as np

from ..core.model_card import ModelCard
from ..core.scale_reference import ScaleReference

RESIDUALS = np.linspace(-0.6, 0.9, 76)
"""Grid of the densities: log diameter minus that of the class in the scale reference."""
BANDWIDTHS = (0.02, 0.03, 0.045, 0.07, 0.1)
"""Candidates of the bandwidth of the kernels, in log diameter."""
POOLED_CLUSTERS = 10.0
"""Weight, in clusters, of the density of all classes together in the density of a class."""
BROAD_SHARE = 0.02
"""Share of a broad normal density that is added to each class, for rare shapes."""
BROAD_SCATTER = 0.35
MIN_DIFFERENCE = 1e-3
"""Least difference of log diameter between neighbouring classes, for cards without densities."""


def fit_diameter_density(
    diameter_nm: np.ndarray, label: np.ndarray, reference: ScaleReference
) -> tuple[tuple[float, ...], ...]:
    """Estimate the density of the log diameter in each class.

    The estimate is a Gaussian kernel density; its bandwidth maximises the likelihood of each
    cluster by the others [1]_.

    Parameters
    ----------
    diameter_nm : ndarray of shape (N,)
        Diameters of complete, isolated clusters in nm.
    label : ndarray of shape (N,)
        Class indices.
    reference : ScaleReference
        Mean log diameters of the classes.

    Returns
    -------
    tuple of tuple of float, shape (n_classes, n_residuals)
        Densities at `RESIDUALS`.

    References
    ----------
    .. [1] B. W. Silverman, "Density Estimation for Statistics and Data Analysis",
       Chapman and Hall (1986), section 3.4.4.
    """
    good = diameter_nm > 0
    mean = np.array(reference.log_diameter)
    residual = np.log(diameter_nm[good]) - mean[label[good]]
    pooled = _kernel_density(residual)
    densities = []
    for i in range(len(mean)):
        own = residual[label[good] == i]
        weight = len(own) / (len(own) + POOLED_CLUSTERS)
        densities.append(weight * _kernel_density(own) + (1 - weight) * pooled)
    return tuple(tuple(float(f"{v:.4g}") for v in density) for density in densities)


def _kernel_density(residual: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel density at `RESIDUALS`; zeros without values."""
    step = RESIDUALS[1] - RESIDUALS[0]
    nearest = np.round((residual - RESIDUALS[0]) / step).astype(int)
    nearest = nearest[(nearest >= 0) & (nearest < len(RESIDUALS))]
    number = np.bincount(nearest, minlength=len(RESIDUALS))
    n = number.sum()
    best, most = np.zeros(len(RESIDUALS)), -np.inf
    for bandwidth in BANDWIDTHS if n else ():
        kernel = _normal(RESIDUALS[:, None] - RESIDUALS, bandwidth)
        others = (kernel @ number - kernel[0, 0]) / max(n - 1, 1)
        log_likelihood = number @ np.log(np.maximum(_with_broad(others, RESIDUALS), 1e-12))
        if log_likelihood > most:
            best, most = kernel @ number / n, log_likelihood
    return best


def _with_broad(density: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Add a broad density, so that no class is excluded."""
    broad = _normal(residual, BROAD_SCATTER)
    return np.asarray((1 - BROAD_SHARE) * density + BROAD_SHARE * broad)


def _normal(x: np.ndarray, scatter: float) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * (x / scatter) ** 2) / (scatter * np.sqrt(2 * np.pi)))


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
        raise ValueError("the model has no scale")
    mean = np.array(card.scale.log_diameter)
    x = np.asarray(log_diameter, float)[..., None]
    if card.diameter_density:
        residual = x - mean
        kernels = np.stack(
            [
                np.interp(residual[..., i], RESIDUALS, density, left=0, right=0)
                for i, density in enumerate(card.diameter_density)
            ],
            axis=-1,
        )
        return np.log(_with_broad(kernels, residual))
    cuts = card.thresholds.get("diameter")
    border = (mean[1:] + mean[:-1]) / 2 if cuts is None else np.log(cuts)
    variance = np.array(card.scale.covariance)[:, 1, 1]
    slope = np.maximum(np.diff(mean), MIN_DIFFERENCE) * 2 / (variance[1:] + variance[:-1])
    ratios = np.cumsum(slope * (x - border), axis=-1)
    return np.concatenate([np.where(np.isnan(x), np.nan, 0.0), ratios], axis=-1)
