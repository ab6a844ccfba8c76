"""The integrated intensity of one atom, from the clusters of an image themselves.

Integrated HAADF intensity goes with the number of atoms, but gain, dose and detector make its
unit different in every image. Intensity ratios between the classes are known, and so are their
diameters: a mixture over (log intensity, log diameter) whose class means are locked relative to
each other has one free scale, which expectation-maximisation finds without any label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

STARTS = 41
DIRICHLET = 0.5
"""Pseudo-count of every class: none is ever ruled out."""
LOG_OUTLIER = float(np.log(0.02 / 4.0))
"""A flat component over some decades of both quantities, with 2 % of the clusters."""


@dataclass(frozen=True)
class ScaleReference:
    """What the classes look like, up to the scale of the intensity.

    Parameters
    ----------
    log_intensity, log_diameter
        Mean per class of the logarithms of intensity in atoms and diameter in nm.
    covariance
        Per class, of (log intensity, log diameter): (C, 2, 2).
    diameter_scatter
        Standard deviation of an image's common error of log diameter.
    """

    log_intensity: tuple[float, ...]
    log_diameter: tuple[float, ...]
    covariance: tuple[tuple[tuple[float, float], tuple[float, float]], ...]
    diameter_scatter: float = 0.04

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ScaleReference:
        covariance = tuple(tuple(tuple(row) for row in c) for c in values["covariance"])
        return cls(
            tuple(values["log_intensity"]),
            tuple(values["log_diameter"]),
            covariance,  # type: ignore[arg-type]
            float(values["diameter_scatter"]),
        )

    @classmethod
    def fit(
        cls, intensity_atoms: np.ndarray, diameter_nm: np.ndarray, label: np.ndarray,
        classes: Sequence[str], diameter_scatter: float = 0.04,
    ) -> ScaleReference:  # fmt: skip
        """From clusters of known class whose intensity is known in atoms."""
        good = (intensity_atoms > 0) & (diameter_nm > 0)
        means, covariances = [], []
        for name in classes:
            own = good & (label == name)
            x = np.log(np.stack([intensity_atoms[own], diameter_nm[own]]))
            middle = np.median(x, axis=1)
            # robust: outlying measurements are the mixture's outlier component
            inlier = (
                np.abs(x - middle[:, None]) < 4 * np.maximum(x.std(axis=1), 0.05)[:, None]
            ).all(0)
            means.append(x[:, inlier].mean(axis=1))
            covariances.append(np.cov(x[:, inlier]) + np.diag([1e-4, 1e-4]))
        m = np.array(means)
        return cls(
            tuple(map(float, m[:, 0])),
            tuple(map(float, m[:, 1])),
            tuple(tuple(tuple(map(float, row)) for row in c) for c in covariances),  # type: ignore[misc]
            diameter_scatter,
        )


@dataclass(frozen=True, eq=False)
class LockedMixture:
    """A fitted image: the scale, shares (C,) and each cluster's class probabilities (N, C)."""

    intensity_per_atom: float
    log_diameter_shift: float
    shares: np.ndarray
    probabilities: np.ndarray
    log_posterior: float


def usable(table: pd.DataFrame) -> np.ndarray:
    """Clusters whole and alone enough for their intensity to mean something: (N,) bool."""
    return np.asarray(
        (table["integrated_intensity"] > 0)
        & (table["diameter_nm"] > 0)
        & ~table["touches_border"]
        & ~table["touches_neighbour"]
    )


def fit_locked_mixture(
    intensity: np.ndarray, diameter_nm: np.ndarray, reference: ScaleReference, iterations: int = 40
) -> LockedMixture:
    """Find the scale of an image by expectation-maximisation from many starts.

    Parameters
    ----------
    intensity
        (N,) integrated intensities in counts nm², positive.
    diameter_nm
        (N,).
    reference
        The locked class means and covariances.
    iterations
        Of the starts that look best after a few.

    Returns
    -------
    LockedMixture
        Of the start that ends with the highest posterior.
    """
    n, c = len(intensity), len(reference.log_intensity)
    if n == 0:
        return LockedMixture(1.0, 0.0, np.full(c, 1 / c), np.empty((0, c)), -np.inf)
    x = np.log(np.stack([intensity, diameter_nm])).astype(float)
    mean = np.array(reference.log_intensity)
    centre = np.median(x[0]) - mean.mean()
    starts = centre + np.linspace(-np.ptp(mean), np.ptp(mean), STARTS)
    shift = np.stack([starts, np.zeros_like(starts)], axis=1)
    shares = np.full((STARTS, c), 1 / c)
    # the starts are sorted out on a part of a large image, the best are refined on all of it
    part = x[:, :: max(1, n // 300)]
    for _ in range(10):
        shift, shares, posterior, _ = _step(part, shift, shares, reference)
    best = np.argsort(posterior)[-4:]
    shift, shares = shift[best], shares[best]
    for _ in range(iterations):
        shift, shares, posterior, weight = _step(x, shift, shares, reference)
    k = int(np.argmax(posterior))
    return LockedMixture(
        float(np.exp(shift[k, 0])),
        float(shift[k, 1]),
        shares[k],
        weight[k] / np.maximum(weight[k].sum(axis=1, keepdims=True), 1e-300),
        float(posterior[k]),
    )


def _step(
    x: np.ndarray, shift: np.ndarray, shares: np.ndarray, reference: ScaleReference
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One step of S starts at once: new shifts (S, 2), shares (S, C), log posteriors (S,) of the
    old ones, weights (S, N, C)."""
    covariance = np.array(reference.covariance)
    precision = np.linalg.inv(covariance)
    p00, p01, p11 = precision[:, 0, 0], precision[:, 0, 1], precision[:, 1, 1]
    height = -0.5 * np.linalg.slogdet(covariance)[1] - np.log(2 * np.pi)
    mean = np.stack([reference.log_intensity, reference.log_diameter])
    u = x[0][:, None] - mean[0]  # (N, C), without the shift
    v = x[1][:, None] - mean[1]
    ru, rv = u - shift[:, 0, None, None], v - shift[:, 1, None, None]  # (S, N, C)
    log_p = height - 0.5 * (p00 * ru**2 + 2 * p01 * ru * rv + p11 * rv**2)
    log_p += np.log(shares)[:, None]
    top = np.maximum(log_p.max(axis=2), LOG_OUTLIER)
    weight = np.exp(log_p - top[..., None])
    total = weight.sum(axis=2) + np.exp(LOG_OUTLIER - top)
    weight /= total[..., None]
    posterior = (top + np.log(total)).sum(axis=1)
    posterior -= 0.5 * (shift[:, 1] / reference.diameter_scatter) ** 2
    posterior += DIRICHLET * np.log(shares).sum(axis=1)
    # the weighted least squares of both shifts, the diameter's with its prior
    members = weight.sum(axis=1)
    wu, wv = (weight * u).sum(axis=1), (weight * v).sum(axis=1)
    a00, a01 = members @ p00 + 1e-9, members @ p01
    a11 = members @ p11 + 1 / reference.diameter_scatter**2
    b0, b1 = wu @ p00 + wv @ p01, wu @ p01 + wv @ p11
    determinant = a00 * a11 - a01**2
    new = np.stack([a11 * b0 - a01 * b1, a00 * b1 - a01 * b0], axis=1) / determinant[:, None]
    shares = members + DIRICHLET
    return new, shares / shares.sum(axis=1, keepdims=True), posterior, weight


def intensity_per_atom(table: pd.DataFrame, reference: ScaleReference) -> float:
    """Integrated intensity of one atom in counts nm², from the usable clusters of a table.

    With no cluster to go by it is 1.
    """
    good = usable(table)
    if not good.any():
        good = np.asarray((table["integrated_intensity"] > 0) & (table["diameter_nm"] > 0))
    return fit_locked_mixture(
        table["integrated_intensity"].to_numpy(float)[good],
        table["diameter_nm"].to_numpy(float)[good],
        reference,
    ).intensity_per_atom
