"""Test whether the clusters of a session have the sizes of the model's classes.

One cluster of 25 atoms can hardly be distinguished from one of 30; many can. Two mixtures are
fitted to the counts of atoms: one with peaks at the classes, and one with peaks anywhere. Their
evidences are compared by Laplace's approximation [1]_. The scale of the intensities is uncertain:
the first is averaged over its posterior. The second does not depend on the scale, because its peaks
move with it.

References
----------
.. [1] R. E. Kass and A. E. Raftery, "Bayes factors", J. Am. Stat. Assoc. 90, 773-795 (1995).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product

import numpy as np
from scipy.special import comb, gammaln, logsumexp

from .intensity_scale import SPREAD_LIMITS, SPREAD_PRIOR

POSITION_SCATTER = 0.03
"""Standard deviation of the error of a class's mean log count, apart from the common scale."""
MARGIN = float(np.log(3))
"""Log counts farther below or above the classes, as of single atoms and of aggregates, are ignored.
Free peaks and outliers can be anywhere between."""
OUTLIER_SHARE = 0.02
"""Expected share of outliers."""
OUTLIER_PRIOR = 50.0
"""Weight of the expected share of outliers, in clusters."""
DIRICHLET = 0.1
"""Pseudo-count of every peak."""
SHARE_ALPHA = 0.5
"""Parameter of the Dirichlet prior of the shares in the evidence."""
TINY = 1e-6
BIN_WIDTH = 0.01
STARTS = 6
N_ITERATIONS = 120
MIN_CLUSTERS = 15
MIN_STRENGTH = 3.0
"""Logarithm of the Bayes factor from which on a session does not fit: "strong" evidence by [1]_."""
MIN_SHARE = 0.08
"""Least share of a peak that is reported."""


@dataclass(frozen=True, eq=False)
class ClassFit:
    """Result of the test.

    Parameters
    ----------
    fits : bool
        Whether the sizes agree with the classes, or too few clusters are there to tell.
    strength : float
        Logarithm of the Bayes factor of free peaks against peaks at the classes; NaN with too few
        clusters.
    atoms : ndarray of shape (n_peaks,)
        Numbers of atoms of the free peaks, in order.
    atoms_error : ndarray of shape (n_peaks,)
        Their standard errors, the uncertainty of the scale included.
    shares : ndarray of shape (n_peaks,)
        Shares of the clusters.
    scatter : ndarray of shape (n_peaks,)
        Standard deviations of the log counts of the peaks.
    """

    fits: bool
    strength: float
    atoms: np.ndarray
    atoms_error: np.ndarray
    shares: np.ndarray
    scatter: np.ndarray

    def describe(self) -> str:
        """Return the result in one sentence; "" if the session fits."""
        if self.fits:
            return ""
        counts = [f"{n:.0f}" for n in self.atoms]
        listed = " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
        peaks = "a peak" if len(counts) == 1 else "peaks"
        return (
            f"this session does not fit the model's classes: {peaks} at {listed} atoms "
            f"(log Bayes factor {self.strength:.0f})"
        )


@dataclass(frozen=True, eq=False)
class _Counts:
    """Histogram of log counts, and the classes."""

    x: np.ndarray
    number: np.ndarray
    class_mean: np.ndarray
    class_scatter: np.ndarray

    @property
    def log_range(self) -> float:
        """Width of the range of log counts."""
        return float(np.ptp(self.class_mean)) + 2 * MARGIN

    def scatter(self, position: np.ndarray) -> np.ndarray:
        """Return the standard deviation of log counts at a position, between the classes'."""
        return np.asarray(np.interp(position, self.class_mean, self.class_scatter))


@dataclass(frozen=True, eq=False)
class _Mixtures:
    """S mixtures of P peaks.

    Parameters
    ----------
    position, number : ndarray of shape (S, P)
        Log counts of the peaks, and expected numbers of clusters.
    factor, outlier : ndarray of shape (S,)
        Variances relative to those of the classes, and shares of the outliers.
    scatter : ndarray of shape (S, P)
        Standard deviations of the peaks.
    """

    position: np.ndarray
    number: np.ndarray
    factor: np.ndarray
    outlier: np.ndarray
    scatter: np.ndarray


def compare_with_classes(
    log_count: np.ndarray,
    class_log_count: np.ndarray,
    class_scatter: np.ndarray,
    log_scale_error: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> ClassFit:
    """Compare peaks at the classes with free peaks, for the counts of a session.

    Parameters
    ----------
    log_count : ndarray of shape (N,)
        Logarithms of the numbers of atoms by intensity, of complete, isolated clusters. Values
        that are not finite, or farther than `MARGIN` from the classes, are ignored.
    class_log_count : ndarray of shape (C,)
        Logarithms of the numbers of atoms of the classes, ascending.
    class_scatter : ndarray of shape (C,)
        Standard deviations of the log counts within the classes.
    log_scale_error : ndarray of shape (K,), optional
        Possible common errors of the log counts; zero only, if None.
    weight : ndarray of shape (K,), optional
        Their posterior probabilities; equal if None.

    Returns
    -------
    ClassFit
        The result.
    """
    log_count = np.asarray(log_count, float)
    low, high = np.min(class_log_count) - MARGIN, np.max(class_log_count) + MARGIN
    log_count = log_count[(log_count >= low) & (log_count <= high)]
    error = np.zeros(1) if log_scale_error is None else np.asarray(log_scale_error, float)
    p = np.full(len(error), 1 / len(error)) if weight is None else weight / np.sum(weight)
    if len(log_count) < MIN_CLUSTERS:
        nothing = np.empty(0)
        return ClassFit(True, float("nan"), nothing, nothing, nothing, nothing)
    bins, number = np.unique(np.round(log_count / BIN_WIDTH), return_counts=True)
    counts = _Counts(
        bins * BIN_WIDTH, number.astype(float), np.array(class_log_count), np.array(class_scatter)
    )
    locked = _maximise(counts, counts.class_mean + error[:, None], POSITION_SCATTER)
    at_classes = _evidence_of_classes(counts, locked, counts.class_mean + error[:, None])
    free, evidence = _fit_free_peaks(counts)
    strength = evidence - float(logsumexp(at_classes, b=p))
    share = free.number[0] / free.number[0].sum()
    own = np.argsort(free.position[0])
    own = own[share[own] >= MIN_SHARE]
    mean_error = float(p @ error)
    variance = float(p @ (error - mean_error) ** 2) + free.scatter[0] ** 2 / free.number[0]
    atoms = np.exp(free.position[0] - mean_error)
    return ClassFit(
        strength < MIN_STRENGTH,
        strength,
        atoms[own],
        (atoms * np.sqrt(variance))[own],
        share[own],
        free.scatter[0, own],
    )


def _fit_free_peaks(counts: _Counts) -> tuple[_Mixtures, float]:
    """Fit up to as many free peaks as there are classes.

    Returns
    -------
    mixture : _Mixtures
        The mixture (S = 1) with the largest evidence.
    evidence : float
        Logarithm of the mean evidence over the numbers of peaks.
    """
    cumulated = np.cumsum(counts.number) / counts.number.sum()
    rng = np.random.default_rng(0)
    found, evidences = [], []
    for n_peaks in range(1, len(counts.class_mean) + 1):
        at = np.sort(rng.uniform(size=(STARTS, n_peaks)), axis=1)
        at[0] = (np.arange(n_peaks) + 0.5) / n_peaks
        start = counts.x[np.minimum(np.searchsorted(cumulated, at), len(counts.x) - 1)]
        mixtures = _maximise(counts, start, None)
        information = mixtures.number / mixtures.scatter**2
        width = np.sqrt(2 * np.pi / (information + TINY))
        evidence = _evidence(counts, mixtures, np.ones(n_peaks, bool)) + gammaln(n_peaks + 1)
        evidence += np.minimum(np.log(width / counts.log_range), 0).sum(axis=1)
        best = [int(evidence.argmax())]
        found.append(_Mixtures(*(getattr(mixtures, f.name)[best] for f in fields(_Mixtures))))
        evidences.append(float(evidence[best[0]]))
    mean = float(logsumexp(evidences) - np.log(len(evidences)))
    return found[int(np.argmax(evidences))], mean


def _evidence_of_classes(counts: _Counts, locked: _Mixtures, start: np.ndarray) -> np.ndarray:
    """Return log evidences (S,) of peaks at the classes, averaged over the classes that occur.

    All numbers of classes are equally probable, and all sets of so many classes.
    """
    n_classes = start.shape[1]
    information = locked.number / locked.scatter**2
    evidence = -0.5 * (((locked.position - start) / POSITION_SCATTER) ** 2)
    evidence -= 0.5 * np.log1p(information * POSITION_SCATTER**2)
    terms = []
    for active in np.array(list(product([False, True], repeat=n_classes)))[1:]:
        prior = -np.log(n_classes * comb(n_classes, active.sum()))
        own = _evidence(counts, locked, active) + (evidence * active).sum(axis=1)
        terms.append(own + prior)
    return np.asarray(logsumexp(terms, axis=0))


def _evidence(counts: _Counts, mixtures: _Mixtures, active: np.ndarray) -> np.ndarray:
    """Return log evidences (S,) without the terms of the positions.

    The multinomial likelihood of the expected numbers is replaced by its mean over a Dirichlet
    prior of the shares.

    Parameters
    ----------
    counts : _Counts
        Histogram.
    mixtures : _Mixtures
        Fitted mixtures.
    active : ndarray of shape (P,)
        Peaks that exist; clusters of the others become outliers.
    """
    number, outlier = mixtures.number[:, active] + TINY, mixtures.outlier
    share = number / number.sum(axis=1, keepdims=True)
    scatter = mixtures.scatter[:, active, None]
    z = (counts.x - mixtures.position[:, active, None]) / scatter
    density = np.exp(-0.5 * z**2) / (scatter * np.sqrt(2 * np.pi)) * share[..., None]
    total = density.sum(axis=1) * (1 - outlier)[:, None] + outlier[:, None] / counts.log_range
    out = np.log(total) @ counts.number
    out += OUTLIER_PRIOR * OUTLIER_SHARE * np.log(outlier)
    out += OUTLIER_PRIOR * (1 - OUTLIER_SHARE) * np.log1p(-outlier)
    out -= 0.5 * SPREAD_PRIOR * (np.log(mixtures.factor) + 1 / mixtures.factor)
    n, alpha = number.sum(axis=1), SHARE_ALPHA
    out += gammaln(alpha * number.shape[1]) - gammaln(n + alpha * number.shape[1])
    out += (gammaln(number + alpha) - gammaln(alpha) - number * np.log(share)).sum(axis=1)
    return np.asarray(out)


def _maximise(counts: _Counts, start: np.ndarray, tolerance: float | None) -> _Mixtures:
    """Fit S mixtures by expectation-maximisation.

    Parameters
    ----------
    counts : _Counts
        Histogram.
    start : ndarray of shape (S, P)
        Positions at the start.
    tolerance : float or None
        Standard deviation of the prior of the positions about the start; None for a flat prior.
    """
    precision = 0.0 if tolerance is None else tolerance**-2
    position, n = start, counts.number.sum()
    outlier = np.full(len(start), OUTLIER_SHARE)
    share = np.full(start.shape, (1 - OUTLIER_SHARE) / start.shape[1])
    factor = np.ones(len(start))
    for _ in range(N_ITERATIONS):
        scatter = counts.scatter(position) * np.sqrt(factor)[:, None]
        z = (counts.x - position[..., None]) / scatter[..., None]
        density = np.exp(-0.5 * z**2) * (share / (scatter * np.sqrt(2 * np.pi)))[..., None]
        total = density.sum(axis=1) + outlier[:, None] / counts.log_range
        member = density * (counts.number / total)[:, None]
        number = member.sum(axis=2)
        pull = (member @ counts.x) / scatter**2 + precision * start + TINY * position
        position = pull / (number / scatter**2 + precision + TINY)
        square = (member * z**2).sum(axis=(1, 2)) * factor
        factor = (SPREAD_PRIOR + square) / (SPREAD_PRIOR + number.sum(axis=1))
        factor = np.clip(factor, *SPREAD_LIMITS)
        outlier = n - number.sum(axis=1) + OUTLIER_PRIOR * OUTLIER_SHARE
        outlier = outlier / (n + OUTLIER_PRIOR)
        share = (number + DIRICHLET) / (number + DIRICHLET).sum(axis=1, keepdims=True)
        share = share * (1 - outlier)[:, None]
    return _Mixtures(position, number, factor, outlier, scatter)
