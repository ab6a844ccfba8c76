"""Densities of the diameters of the classes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import logit, softmax

from ..core.scale_reference import ScaleReference
from ..models.diameter_density import BROAD_SCATTER, RESIDUALS

BANDWIDTHS = (0.02, 0.03, 0.045, 0.07, 0.1)
"""Candidates of the bandwidth of the kernels, in log diameter."""
BROAD_SHARE = 0.02
"""Share of a broad normal density that is added to each class, for rare shapes."""
POOLED_CLUSTERS = 10.0
"""Weight, in clusters, of the density of all classes together in the density of a class."""
STEP = float(RESIDUALS[1] - RESIDUALS[0])
MIN_SHARE = 1e-6


def fit_diameter_density(
    diameter_nm: np.ndarray, label: np.ndarray, reference: ScaleReference
) -> tuple[tuple[float, ...], ...]:
    """Estimate the density of the log diameter in each class.

    The estimate is a Gaussian kernel density; its bandwidth maximises the likelihood of each
    cluster by the others [1]_. The ratios of the densities of neighbouring classes are made
    monotone by isotonic regression [2]_: how many isomers are flat is different in every sample,
    but the larger of two diameters never speaks for the smaller class.

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
    .. [2] R. E. Barlow, D. J. Bartholomew, J. M. Bremner and H. D. Brunk, "Statistical Inference
       under Order Restrictions", Wiley (1972).
    """
    good = diameter_nm > 0
    mean = np.array(reference.log_diameter)
    residual = np.log(diameter_nm[good]) - mean[label[good]]
    pooled = _kernel_density(residual)
    x = np.arange(mean.min() + RESIDUALS[0], mean.max() + RESIDUALS[-1], STEP / 2)
    densities = []
    for i in range(len(mean)):
        own = residual[label[good] == i]
        weight = len(own) / (len(own) + POOLED_CLUSTERS)
        density = weight * _kernel_density(own) + (1 - weight) * pooled
        on_grid = np.interp(x - mean[i], RESIDUALS, density, left=0, right=0)
        densities.append(_add_broad(on_grid, x - mean[i]))
    monotone = _with_monotone_ratios(np.array(densities), mean)
    out = [np.interp(mean[i] + RESIDUALS, x, monotone[i]) for i in range(len(mean))]
    return tuple(tuple(float(f"{v:.4g}") for v in d / (d.sum() * STEP)) for d in out)


def _with_monotone_ratios(density: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return densities (C, G) of which the ratios of neighbouring classes are monotone."""
    ratios = [np.zeros(density.shape[1])]
    for i in range(len(density) - 1):
        both = density[i] + density[i + 1]
        share = isotonic_regression(
            density[i + 1] / both, weights=both, increasing=bool(mean[i + 1] >= mean[i])
        ).x
        ratios.append(logit(np.clip(share, MIN_SHARE, 1 - MIN_SHARE)))
    return np.asarray(softmax(np.cumsum(ratios, axis=0), axis=0) * density.sum(axis=0))


def _kernel_density(residual: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel density at `RESIDUALS`; zeros without values."""
    nearest = np.round((residual - RESIDUALS[0]) / STEP).astype(int)
    nearest = nearest[(nearest >= 0) & (nearest < len(RESIDUALS))]
    number = np.bincount(nearest, minlength=len(RESIDUALS))
    n = number.sum()
    best, most = np.zeros(len(RESIDUALS)), -np.inf
    for bandwidth in BANDWIDTHS if n else ():
        kernel = _normal(RESIDUALS[:, None] - RESIDUALS, bandwidth)
        others = (kernel @ number - kernel[0, 0]) / max(n - 1, 1)
        log_likelihood = number @ np.log(np.maximum(_add_broad(others, RESIDUALS), 1e-12))
        if log_likelihood > most:
            best, most = kernel @ number / n, log_likelihood
    return best


def _add_broad(density: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Add a broad density, so that no class is excluded."""
    return (1 - BROAD_SHARE) * density + BROAD_SHARE * _normal(residual, BROAD_SCATTER)


def _normal(x: np.ndarray, scatter: float) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * (x / scatter) ** 2) / (scatter * np.sqrt(2 * np.pi)))
