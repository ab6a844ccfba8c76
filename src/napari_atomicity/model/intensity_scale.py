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
        Of each start.

    Returns
    -------
    LockedMixture
        Of the start that ends with the highest posterior.
    """
    n = len(intensity)
    if n == 0:
        c = len(reference.log_intensity)
        return LockedMixture(1.0, 0.0, np.full(c, 1 / c), np.empty((0, c)), -np.inf)
    x = np.log(np.stack([intensity, diameter_nm], axis=1)).astype(float)
    mean = np.stack([reference.log_intensity, reference.log_diameter], axis=1)
    covariance = np.array(reference.covariance)
    precision = np.linalg.inv(covariance)
    half_log_det = 0.5 * np.linalg.slogdet(covariance)[1]
    centre = np.median(x[:, 0]) - mean[:, 0].mean()
    span = np.ptp(mean[:, 0])
    starts = centre + np.linspace(-span, span, 41)
    shift = np.stack([starts, np.zeros_like(starts)], axis=1)  # (S, 2)
    shares = np.full((len(starts), len(mean)), 1 / len(mean))
    outlier = np.log(0.02) - np.log(4.0)  # a flat component over some decades of both
    prior_precision = np.diag([0.0, 1 / reference.diameter_scatter**2])

    for _ in range(iterations):
        residual = x[None, :, None] - mean[None, None] - shift[:, None, None]  # (S, N, C, 2)
        distance = np.einsum("snci,cij,sncj->snc", residual, precision, residual)
        log_p = np.log(shares)[:, None] - 0.5 * distance - half_log_det - np.log(2 * np.pi)
        top = np.maximum(log_p.max(axis=2), outlier)
        total = np.exp(log_p - top[..., None]).sum(axis=2) + np.exp(outlier - top)
        weight = np.exp(log_p - top[..., None]) / total[..., None]
        log_likelihood = (top + np.log(total)).sum(axis=1)
        log_prior = -0.5 * (shift[:, 1] / reference.diameter_scatter) ** 2
        # a Dirichlet prior that keeps every class possible
        log_prior = log_prior + 0.5 * np.log(shares).sum(axis=1)
        posterior = log_likelihood + log_prior
        shares = weight.sum(axis=1) + 0.5
        shares /= shares.sum(axis=1, keepdims=True)
        a = np.einsum("snc,cij->sij", weight, precision) + prior_precision
        a = a + 1e-9 * np.eye(2)
        b = np.einsum("snc,cij,sncj->si", weight, precision, residual + shift[:, None, None])
        shift = np.linalg.solve(a, b[..., None])[..., 0]
    best = int(np.argmax(posterior))
    return LockedMixture(
        float(np.exp(shift[best, 0])),
        float(shift[best, 1]),
        shares[best],
        weight[best] / np.maximum(weight[best].sum(axis=1, keepdims=True), 1e-300),
        float(posterior[best]),
    )


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
