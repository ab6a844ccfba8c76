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
SOLUTIONS = 4
SAME_SOLUTION = 0.07
"""Scales whose logarithms differ by less are one solution."""
SPREAD_PRIOR = 30.0
"""Clusters that it takes to move the variances half way from the reference's to the image's."""
SPREAD_LIMITS = (0.25, 2.0)
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
    """A fitted image.

    Parameters
    ----------
    intensity_per_atom
        The scale, in counts nm².
    log_diameter_shift
        Common error of log diameter.
    shares
        (C,) of the classes.
    probabilities
        (N, C) of each cluster's classes, given the shares.
    evidence
        (N, C) the same without them: all classes equally likely beforehand.
    certainty
        Weight of this scale among all the solutions found, 0 to 1.
    """

    intensity_per_atom: float
    log_diameter_shift: float
    shares: np.ndarray
    probabilities: np.ndarray
    evidence: np.ndarray
    certainty: float


def usable(table: pd.DataFrame) -> np.ndarray:
    """Clusters whole and alone enough for their intensity to mean something: (N,) bool."""
    return np.asarray(
        (table["integrated_intensity"] > 0)
        & (table["diameter_nm"] > 0)
        & ~table["touches_border"]
        & ~table["touches_neighbour"]
    )


def fit_locked_mixture(
    intensity: np.ndarray,
    diameter_nm: np.ndarray,
    reference: ScaleReference,
) -> LockedMixture:
    """Find the scale of an image by expectation-maximisation from many starts.

    Solutions one class apart can compete. The scale is that of the best one; the classes of the
    clusters are averaged over all of them, each with the weight of its posterior.

    Parameters
    ----------
    intensity
        (N,) integrated intensities in counts nm², positive.
    diameter_nm
        (N,).
    reference
        The locked class means and covariances.
    """
    n, c = len(intensity), len(reference.log_intensity)
    if n == 0:
        nothing = np.empty((0, c))
        return LockedMixture(1.0, 0.0, np.full(c, 1 / c), nothing, nothing, 0.0)
    x = np.log(np.stack([intensity, diameter_nm])).astype(float)
    mean = np.array(reference.log_intensity)
    centre = np.median(x[0]) - mean.mean()
    start = centre + np.linspace(-np.ptp(mean), np.ptp(mean), STARTS)
    state = _State(
        np.stack([start, np.zeros(STARTS)], axis=1),
        np.full((STARTS, c), 1 / c),
        np.ones((STARTS, 2)),
    )
    # the starts are sorted out on a part of a large image, the best are refined on all of it
    part = x[:, :: max(1, n // 300)]
    for _ in range(15):
        state, fitted = _step(part, state, reference)
    state = state.take(_distinct(state.shift[:, 0], fitted.posterior)[:SOLUTIONS])
    for _ in range(40):
        state, fitted = _step(x, state, reference)
    kept = _distinct(state.shift[:, 0], fitted.posterior)
    weight = np.exp(fitted.posterior[kept] - fitted.posterior[kept[0]])
    weight /= weight.sum()
    member, shares = fitted.member[kept], state.shares[kept]

    def averaged(p: np.ndarray) -> np.ndarray:
        p = p / np.maximum(p.sum(axis=2, keepdims=True), 1e-300)
        return np.einsum("k,knc->nc", weight, p)

    return LockedMixture(
        float(np.exp(state.shift[kept[0], 0])),
        float(state.shift[kept[0], 1]),
        shares[0],
        averaged(member),
        averaged(member / shares[:, None]),
        float(weight[0]),
    )


@dataclass(frozen=True, eq=False)
class _State:
    """Of S starts: shifts (S, 2) of log intensity and log diameter, shares (S, C), and by how
    much (S, 2) the variances of this image differ from those of the reference."""

    shift: np.ndarray
    shares: np.ndarray
    spread: np.ndarray

    def take(self, rows: np.ndarray) -> _State:
        return _State(self.shift[rows], self.shares[rows], self.spread[rows])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Log posteriors (S,) and each cluster's memberships (S, N, C) of a state."""

    posterior: np.ndarray
    member: np.ndarray


def _distinct(shift: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Indices of the starts that ended in different places, the best first."""
    kept: list[int] = []
    for k in np.argsort(-posterior, kind="stable"):
        if all(abs(shift[k] - shift[j]) > SAME_SOLUTION for j in kept):
            kept.append(int(k))
    return np.array(kept)


def _step(x: np.ndarray, state: _State, reference: ScaleReference) -> tuple[_State, _Fitted]:
    """One step of all starts at once: the next state, and how well the present one fits."""
    covariance = np.array(reference.covariance)
    mean = np.stack([reference.log_intensity, reference.log_diameter])
    s0, s1 = np.sqrt(covariance[:, 0, 0]), np.sqrt(covariance[:, 1, 1])
    rho = covariance[:, 0, 1] / (s0 * s1)
    free = 1 - rho**2
    a, b = s0 * np.sqrt(state.spread[:, :1]), s1 * np.sqrt(state.spread[:, 1:])  # (S, C)
    u, v = x[0][:, None] - mean[0], x[1][:, None] - mean[1]  # (N, C), without the shift
    ru = (u - state.shift[:, 0, None, None]) / a[:, None]
    rv = (v - state.shift[:, 1, None, None]) / b[:, None]
    log_p = -0.5 * (ru**2 - 2 * rho * ru * rv + rv**2) / free
    log_p += (np.log(state.shares) - np.log(2 * np.pi * a * b * np.sqrt(free)))[:, None]
    top = np.maximum(log_p.max(axis=2), LOG_OUTLIER)
    member = np.exp(log_p - top[..., None])
    total = member.sum(axis=2) + np.exp(LOG_OUTLIER - top)
    member /= total[..., None]

    scatter2 = reference.diameter_scatter**2
    posterior = (top + np.log(total)).sum(axis=1)
    posterior -= 0.5 * state.shift[:, 1] ** 2 / scatter2
    posterior += DIRICHLET * np.log(state.shares).sum(axis=1)
    posterior -= 0.5 * SPREAD_PRIOR * (np.log(state.spread) + 1 / state.spread).sum(axis=1)

    # the weighted least squares of both shifts, the diameter's with its prior
    p00, p01, p11 = 1 / (a**2 * free), -rho / (a * b * free), 1 / (b**2 * free)
    number = member.sum(axis=1)
    wu, wv = (member * u).sum(axis=1), (member * v).sum(axis=1)
    a00 = (number * p00).sum(axis=1) + 1e-9
    a01 = (number * p01).sum(axis=1)
    a11 = (number * p11).sum(axis=1) + 1 / scatter2
    b0 = (wu * p00 + wv * p01).sum(axis=1)
    b1 = (wu * p01 + wv * p11).sum(axis=1)
    shift = np.stack([a11 * b0 - a01 * b1, a00 * b1 - a01 * b0], axis=1)
    shift /= (a00 * a11 - a01**2)[:, None]
    shares = number + DIRICHLET
    shares = shares / shares.sum(axis=1, keepdims=True)
    squares = np.stack([(member * r**2).sum(axis=(1, 2)) for r in (ru, rv)], axis=1)
    spread = (SPREAD_PRIOR + squares * state.spread) / (
        SPREAD_PRIOR + number.sum(axis=1, keepdims=True)
    )
    return _State(shift, shares, np.clip(spread, *SPREAD_LIMITS)), _Fitted(posterior, member)


def fit_image(table: pd.DataFrame, reference: ScaleReference) -> tuple[LockedMixture, np.ndarray]:
    """The mixture of an image, and the rows (N,) bool of the table that it was fitted to.

    These are the usable clusters; if there are none, all that have been measured.
    """
    rows = usable(table)
    if not rows.any():
        rows = np.asarray((table["integrated_intensity"] > 0) & (table["diameter_nm"] > 0))
    intensity = table["integrated_intensity"].to_numpy(float)[rows]
    diameter_nm = table["diameter_nm"].to_numpy(float)[rows]
    return fit_locked_mixture(intensity, diameter_nm, reference), rows


def intensity_per_atom(table: pd.DataFrame, reference: ScaleReference) -> float:
    """Integrated intensity of one atom in counts nm², from the usable clusters of a table.

    With no cluster to go by it is 1.
    """
    return fit_image(table, reference)[0].intensity_per_atom
