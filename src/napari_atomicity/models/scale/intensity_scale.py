"""The integrated intensity of one atom, from the clusters of an image themselves.

Integrated HAADF intensity goes with the number of atoms, but gain, dose and detector make its
unit different in every image. Intensity ratios between the classes are known, and so are their
diameters: a mixture over (log intensity, log diameter) whose class means are fixed relative to
each other has one free scale, which expectation-maximisation finds without any label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from ...core.scale_reference import ScaleReference

STARTS = 41
SOLUTIONS = 4
SAME_SOLUTION = 0.07
"""Scales whose logarithms differ by less are one solution."""
MAX_SHIFT = 3.0
"""Standard deviations that the diameters of an image can be off at most."""
FAINTEST = 0.4
"""Of the least intensity that a cluster can have if the brightest are of the largest class; what is
fainter has no say, lest the lone atoms of an image, where they are many, pass for its clusters."""
SPREAD_PRIOR = 30.0
"""Clusters that it takes to move the variances half way from the reference's to the image's."""
SPREAD_LIMITS = (0.25, 2.0)
SURE = 0.9
"""Certainty of a scale from which on an image teaches something."""
SURE_FOR_RATIOS = 0.975
"""Certainty from which on only the best solution counts in 95 % intervals of ratios."""
MIN_MEMBERS = 8
MAX_SCATTERS = 4.0
"""Standard deviations beyond which a cluster is an outlier."""
TIE = 25.0
"""Number of clusters of a class with the weight of the earlier estimate."""
DIRICHLET = 0.5
"""Pseudo-count of every class, so that every class remains possible."""
LOG_OUTLIER = float(np.log(0.02 / 4.0))
"""A flat component over some decades of both quantities, with 2 % of the clusters."""


_Solutions = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Shifts (S, 2), shares (S, C) and spreads (S, 2) of S solutions: see `ConstrainedMixture`."""


@dataclass(frozen=True, eq=False)
class ConstrainedMixture:
    """The scale of an image: K solutions, the best one first."""

    reference: ScaleReference  # what was fitted
    # (K,): of the solutions, by their posteriors; sums to 1, or is 0 if there was no cluster
    weight: np.ndarray
    shift: np.ndarray  # (K, 2): of log intensity and log diameter against the reference
    shares: np.ndarray  # (K, C): of the classes
    spread: np.ndarray  # (K, 2): variances within the classes relative to the reference's
    # standard deviation of the error of the scales if the sizes may be no classes, for numbers of
    # atoms; 0 if the classes determine the scale
    log_scale_sd: float = 0.0

    @property
    def intensity_per_atom(self) -> float:
        """Integrated intensity of one atom in counts nm²."""
        return float(np.exp(self.shift[0, 0]))

    @property
    def certainty(self) -> float:
        """Weight of the best solution among those that were found, 0 to 1.

        It compares solutions under the classes of the model. It is not the probability that the
        scale is right: sizes or shapes that the model does not know can make a wrong one certain.
        """
        return float(self.weight[0])

    @property
    def is_known(self) -> bool:
        """Whether anything tells the scale: clusters, lone atoms, or the session."""
        return self.certainty > 0

    def describe_in(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of an analysis with this scale in place of an earlier one.

        These are "intensity_per_atom", if anything tells it; "certainty_of_scale"; and
        "scale_solutions": weights and shares of the solutions, from which intervals of ratios
        follow (`statistics.ratios.prevalence`); None if only the best one counts.
        """
        solutions = None
        if 0 < self.certainty < SURE_FOR_RATIOS:
            weights, shares = self.weight.round(4).tolist(), self.shares.round(4).tolist()
            solutions = {"weights": weights, "shares": shares}
        others = {k: v for k, v in parameters.items() if k != "intensity_per_atom"}
        intensity = {"intensity_per_atom": self.intensity_per_atom} if self.is_known else {}
        return {
            **others,
            **intensity,
            "certainty_of_scale": self.certainty,
            "scale_solutions": solutions,
        }

    def probabilities(
        self,
        intensity: np.ndarray,
        diameter_nm: np.ndarray,
        # Whether a class that is common in the image is likelier beforehand
        with_shares: bool = True,
    ) -> np.ndarray:
        """Class probabilities (N, C) of clusters, averaged over the solutions.

        Rows of intensity and diameter (N,) that are not positive come out as NaN.
        """
        p = self.solution_probabilities(intensity, diameter_nm, with_shares)
        return np.einsum("k,knc->nc", self.weight, p)

    def solution_probabilities(
        self,
        # intensity, diameter_nm, each (N,): rows that are not positive come out as NaN
        intensity: np.ndarray,
        diameter_nm: np.ndarray,
        # Whether a class that is common in the image is likelier beforehand
        with_shares: bool = True,
    ) -> np.ndarray:
        """Class probabilities (K, N, C) of clusters in each solution."""
        good = (intensity > 0) & (diameter_nm > 0)
        out = np.full((len(self.weight), len(intensity), self.shares.shape[1]), np.nan)
        x = np.log(np.stack([intensity[good], diameter_nm[good]]).astype(float))
        log_p = _log_densities(_statistics(x), self.shift, self.spread, self.reference)[0]
        if with_shares:
            log_p = log_p + np.log(self.shares)[..., None]
        out[:, good] = softmax(log_p, axis=1).transpose(0, 2, 1)
        return out


def usable(table: pd.DataFrame) -> np.ndarray:
    """Clusters whole and alone enough for their intensity to mean something: (N,) bool."""
    return np.asarray(
        (table["integrated_intensity"] > 0)
        & (table["diameter_nm"] > 0)
        & ~table["touches_border"]
        & ~table["touches_neighbour"]
    )


def fit_constrained_mixture(
    intensity: np.ndarray,  # (N,): integrated intensities in counts nm², positive
    diameter_nm: np.ndarray,  # (N,)
    reference: ScaleReference,  # class means, fixed relative to each other, and covariances
) -> ConstrainedMixture:
    """Find the scale of an image by expectation-maximisation from many starts.

    Solutions one class apart can compete. The scale is that of the best one; the classes of the
    clusters are averaged over all of them, each with the weight of its posterior.
    """
    n, c = len(intensity), len(reference.log_intensity)
    if n == 0:
        return unknown_scale(reference)
    x = np.log(np.stack([intensity, diameter_nm])).astype(float)
    mean = np.array(reference.log_intensity)
    centre = np.median(x[0]) - mean.mean()
    start = centre + np.linspace(-np.ptp(mean), np.ptp(mean), STARTS)
    solutions = (
        np.stack([start, np.zeros(STARTS)], axis=1),
        np.full((STARTS, c), 1 / c),
        np.ones((STARTS, 2)),
    )
    # The starts are compared on a part of a large image, the best are refined on all of it.
    known = _statistics(x)
    part = np.ascontiguousarray(known[:, :: max(1, n // 300)])
    solutions, posterior = _maximise(part, solutions, reference, 15)
    best = _take(solutions, _distinct(solutions[0][:, 0], posterior)[:SOLUTIONS])
    solutions, posterior = _maximise(known, best, reference, 40)
    kept = _distinct(solutions[0][:, 0], posterior)
    shift, shares, spread = _take(solutions, kept)
    return ConstrainedMixture(reference, softmax(posterior[kept]), shift, shares, spread)


def unknown_scale(reference: ScaleReference) -> ConstrainedMixture:
    """Return the scale of an image of which nothing tells it."""
    c = len(reference.log_intensity)
    return ConstrainedMixture(
        reference, np.zeros(1), np.zeros((1, 2)), np.full((1, c), 1 / c), np.ones((1, 2))
    )


def _take(solutions: _Solutions, rows: np.ndarray) -> _Solutions:
    shift, shares, spread = solutions
    return shift[rows], shares[rows], spread[rows]


def _distinct(shift: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Return the indices of the starts with different solutions, the best first."""
    kept = np.zeros(0, int)
    for k in np.argsort(-posterior, kind="stable"):
        if (np.abs(shift[kept] - shift[k]) > SAME_SOLUTION).all():
            kept = np.append(kept, k)
    return kept


def _statistics(x: np.ndarray) -> np.ndarray:
    """Compute the terms (6, N) in which a normal density of the logarithms (2, N) is linear."""
    u, v = x
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v])


def _log_densities(
    statistics: np.ndarray, shift: np.ndarray, spread: np.ndarray, reference: ScaleReference
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute the log density of each cluster in each class for S solutions.

    Parameters
    ----------
    statistics : ndarray of shape (6, N)
        `_statistics` of the clusters.
    shift, spread : ndarray of shape (S, 2)
        Shifts and relative variances of the solutions.

    Returns
    -------
    log_density : ndarray of shape (S, C, N)
        One matrix product.
    mean, variance : ndarray of shape (2, S, C)
        Means and variances of log intensity and log diameter.
    precision : ndarray of shape (3, S, C)
        Entries of the inverse covariances: (u, u), (u, v) and (v, v).
    """
    log_intensity, log_diameter, su, sv, rho = _as_arrays(reference)
    su, sv = su * np.sqrt(spread[:, :1]), sv * np.sqrt(spread[:, 1:])
    mu, mv = log_intensity + shift[:, :1], log_diameter + shift[:, 1:]
    free = 1 - rho**2
    p00, p01, p11 = 1 / (su**2 * free), -rho / (su * sv * free), 1 / (sv**2 * free)
    bu, bv = p00 * mu + p01 * mv, p01 * mu + p11 * mv
    constant = -np.log(2 * np.pi * su * sv * np.sqrt(free)) - 0.5 * (bu * mu + bv * mv)
    linear = np.stack([constant, bu, bv, -0.5 * p00, -p01, -0.5 * p11], axis=-1)
    densities = np.asarray(linear @ statistics)
    return densities, np.array([mu, mv]), np.array([su**2, sv**2]), np.array([p00, p01, p11])


@lru_cache(maxsize=8)
def _as_arrays(reference: ScaleReference) -> tuple[np.ndarray, ...]:
    """Return means, standard deviations and correlations (C,) of the classes of a reference."""
    covariance = np.array(reference.covariance)
    su, sv = np.sqrt(covariance[:, 0, 0]), np.sqrt(covariance[:, 1, 1])
    rho = covariance[:, 0, 1] / (su * sv)
    return np.array(reference.log_intensity), np.array(reference.log_diameter), su, sv, rho


def _maximise(
    statistics: np.ndarray, solutions: _Solutions, reference: ScaleReference, n_iterations: int
) -> tuple[_Solutions, np.ndarray]:  # log posteriors (S,) before it
    """Iterate expectation-maximisation of S solutions at once."""
    shift, shares, spread = solutions
    scatter2 = reference.diameter_scatter**2
    limit = MAX_SHIFT * reference.diameter_scatter
    for left in range(n_iterations, 0, -1):
        member, mean, variance, (p00, p01, p11) = _log_densities(
            statistics, shift, spread, reference
        )
        # Expectation: membership of each cluster in each class, or in none.
        member += np.log(shares)[..., None]
        top = np.maximum(member.max(axis=1), LOG_OUTLIER)
        member -= top[:, None]
        np.exp(member, out=member)
        total = member.sum(axis=1) + np.exp(LOG_OUTLIER - top)
        member /= total[:, None]

        if left == 1:
            posterior = (top + np.log(total)).sum(axis=1)
            posterior -= 0.5 * shift[:, 1] ** 2 / scatter2
            posterior += DIRICHLET * np.log(shares).sum(axis=1)
            posterior -= 0.5 * SPREAD_PRIOR * (np.log(spread) + 1 / spread).sum(axis=1)

        # Maximisation: sums over the members of a class, and their residuals from its mean.
        number, u, v, uu, _, vv = np.moveaxis(member @ statistics.T, -1, 0)
        du, dv = u - mean[0] * number, v - mean[1] * number
        squares = np.stack(
            [
                ((uu - mean[0] * (u + du)) / variance[0]).sum(axis=1),
                ((vv - mean[1] * (v + dv)) / variance[1]).sum(axis=1),
            ],
            axis=1,
        )
        # Weighted least squares of the residuals; the shift of the diameters has a prior.
        a00 = (number * p00).sum(axis=1) + 1e-9
        a01 = (number * p01).sum(axis=1)
        a11 = (number * p11).sum(axis=1) + 1 / scatter2
        b0 = (du * p00 + dv * p01).sum(axis=1)
        b1 = (du * p01 + dv * p11).sum(axis=1) - shift[:, 1] / scatter2
        change = np.stack([a11 * b0 - a01 * b1, a00 * b1 - a01 * b0], axis=1)
        shift = shift + change / (a00 * a11 - a01**2)[:, None]
        shift[:, 1] = np.clip(shift[:, 1], -limit, limit)
        shares = (number + DIRICHLET) / (number + DIRICHLET).sum(axis=1, keepdims=True)
        weight = SPREAD_PRIOR + number.sum(axis=1, keepdims=True)
        spread = np.clip((SPREAD_PRIOR + squares * spread) / weight, *SPREAD_LIMITS)
    return (shift, shares, spread), posterior


def fit_image(table: pd.DataFrame, reference: ScaleReference) -> ConstrainedMixture:
    """Fit the mixture to the usable clusters of an image without the faintest (`FAINTEST`).

    If there are none, to all that have been measured.
    """
    rows = usable(table)
    if not rows.any():
        rows = np.asarray((table["integrated_intensity"] > 0) & (table["diameter_nm"] > 0))
    intensity = table["integrated_intensity"].to_numpy(float)[rows]
    diameter_nm = table["diameter_nm"].to_numpy(float)[rows]
    bright = is_bright(intensity, reference)
    return fit_constrained_mixture(intensity[bright], diameter_nm[bright], reference)


def is_bright(intensity: np.ndarray, reference: ScaleReference) -> np.ndarray:
    """Return which clusters (N,) are bright enough to tell the scale; see `FAINTEST`."""
    if len(intensity) == 0:
        return np.zeros(0, bool)
    span = np.exp(min(reference.log_intensity) - max(reference.log_intensity))
    return np.asarray(intensity > FAINTEST * span * np.quantile(intensity, 0.95))


def refined(
    tables: Sequence[pd.DataFrame],
    reference: ScaleReference,  # the old one; it comes back if no image is sure
) -> ScaleReference:
    """Re-estimate a reference for other conditions, without labels.

    Blur and sampling shift the diameters and the share of the intensity that an outline catches,
    and not alike for all classes. The clusters of all images whose scale is beyond doubt give new
    means and covariances, each tied to the old one by as much as `TIE` clusters weigh. What the
    intensities of all classes have in common belongs to the scales and is taken off.
    """
    old_mean = np.stack([reference.log_intensity, reference.log_diameter], axis=1)
    old_covariance = np.array(reference.covariance)
    scatter = np.sqrt(old_covariance[:, [0, 1], [0, 1]])
    new = reference
    for _ in range(3):
        found = [_members(table, new) for table in tables]
        sure = [pair for pair in found if pair is not None]
        if not sure:
            return reference
        x, member = (np.concatenate(part) for part in zip(*sure, strict=True))
        # outliers have no say
        now = np.stack([new.log_intensity, new.log_diameter], axis=1)
        weight = member * (np.abs((x[:, None] - now) / scatter).max(axis=2) < MAX_SCATTERS)
        number = weight.sum(axis=0)
        if not number.sum() > 0:
            return reference
        shift = (weight.T @ x) / np.maximum(number, 1e-9)[:, None] - old_mean
        common = (number[:, None] * shift).sum(axis=0) / number.sum()
        trust = (number / (number + TIE))[:, None]
        own = [0.0, common[1] * number.sum() / (number.sum() + TIE)]
        mean = old_mean + trust * (shift - common) + own
        residual = x[:, None] - mean - [common[0], 0.0]
        squares = np.einsum("nc,nci,ncj->cij", weight, residual, residual)
        covariance = (squares + TIE * old_covariance) / (weight.sum(axis=0) + TIE)[:, None, None]
        covariance = (covariance + covariance.transpose(0, 2, 1)) / 2  # sums differ by rounding
        new = ScaleReference(
            tuple(map(float, mean[:, 0])),
            tuple(map(float, mean[:, 1])),
            tuple(tuple(tuple(map(float, row)) for row in c) for c in covariance),  # type: ignore[misc]
            reference.diameter_scatter,
        )
    return new


def _members(
    table: pd.DataFrame, reference: ScaleReference
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return log intensity in atoms and log diameter (N, 2), and class probabilities (N, C).

    None if the scale of the image is uncertain.

    """
    rows = usable(table)
    mixture = fit_image(table, reference)
    if rows.sum() < MIN_MEMBERS or mixture.certainty < SURE:
        return None
    intensity = table["integrated_intensity"].to_numpy(float)[rows]
    diameter_nm = table["diameter_nm"].to_numpy(float)[rows]
    bright = is_bright(intensity, reference)
    intensity, diameter_nm = intensity[bright], diameter_nm[bright]
    x = np.log(np.stack([intensity / mixture.intensity_per_atom, diameter_nm], axis=1))
    return x, mixture.probabilities(intensity, diameter_nm)


def intensity_per_atom(table: pd.DataFrame, reference: ScaleReference) -> float:
    """Integrated intensity of one atom in counts nm²; 1 with no cluster to go by."""
    return fit_image(table, reference).intensity_per_atom
