"""Test whether the clusters of a session have the sizes of the model's classes.

One cluster of 25 atoms can hardly be distinguished from one of 30; many can. Two mixtures are
fitted to the counts of atoms: one with peaks at the classes, and one with peaks anywhere. Their
evidences are compared by Laplace's approximation [1]_. The scale of the intensities is uncertain:
the first is averaged over its posterior. The second does not depend on the scale, because its peaks
move with it. In both, the images of the session scatter about the common scale.

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
MAX_CLUSTERS = 2000
"""Whole images of a session are used, chosen at random, until they have so many clusters."""
STARTS = 6
N_ITERATIONS = 100
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
    """Histogram of log counts in each image, and the classes.

    Parameters
    ----------
    x, number : ndarray of shape (B,)
        Log counts, and numbers of clusters, sorted by image.
    first : ndarray of shape (J,)
        First bin of each image.
    image_scatter : float
        Standard deviation of the log scales of the images.
    class_mean, class_scatter : ndarray of shape (C,)
        Log counts of the classes, and standard deviations within them.
    """

    x: np.ndarray
    number: np.ndarray
    first: np.ndarray
    image_scatter: float
    class_mean: np.ndarray
    class_scatter: np.ndarray

    @property
    def image(self) -> np.ndarray:
        """Index of the image (B,) of each bin."""
        starts = np.zeros(len(self.x), int)
        starts[self.first[1:]] = 1
        return np.cumsum(starts)

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
    offset : ndarray of shape (S, J)
        Log scales of the images, relative to the common one.
    offset_evidence : ndarray of shape (S,)
        Contribution of the offsets to the log evidence.
    """

    position: np.ndarray
    number: np.ndarray
    factor: np.ndarray
    outlier: np.ndarray
    scatter: np.ndarray
    offset: np.ndarray
    offset_evidence: np.ndarray


def compare_with_classes(
    log_count: np.ndarray,
    class_log_count: np.ndarray,
    class_scatter: np.ndarray,
    log_scale_error: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    image: np.ndarray | None = None,
    image_scatter: float = 0.0,
) -> ClassFit:
    """Compare peaks at the classes with free peaks, for the counts of a session.

    Parameters
    ----------
    log_count : ndarray of shape (N,)
        Logarithms of the numbers of atoms by intensity, of complete, isolated clusters, with the
        common scale of the session. Values that are not finite, or farther than `MARGIN` from the
        classes, are ignored.
    class_log_count : ndarray of shape (C,)
        Logarithms of the numbers of atoms of the classes, ascending.
    class_scatter : ndarray of shape (C,)
        Standard deviations of the log counts within the classes.
    log_scale_error : ndarray of shape (K,), optional
        Possible common errors of the log counts; zero only, if None.
    weight : ndarray of shape (K,), optional
        Their posterior probabilities; equal if None. They must not come from these log counts and
        classes, which would make every session fit.
    image : ndarray of shape (N,), optional
        Image of each cluster.
    image_scatter : float
        Standard deviation of the log scales of the images about the common one.

    Returns
    -------
    ClassFit
        The result.
    """
    error = np.zeros(1) if log_scale_error is None else np.asarray(log_scale_error, float)
    p = np.full(len(error), 1 / len(error)) if weight is None else weight / np.sum(weight)
    log_count = np.asarray(log_count, float)
    image = np.zeros(len(log_count), int) if image is None else np.asarray(image)
    low, high = np.min(class_log_count) - MARGIN, np.max(class_log_count) + MARGIN
    used = np.flatnonzero((log_count >= low) & (log_count <= high))
    if len(used) < MIN_CLUSTERS:
        nothing = np.empty(0)
        return ClassFit(True, float("nan"), nothing, nothing, nothing, nothing)
    counts = _histogram(log_count[used], image[used], image_scatter, class_log_count, class_scatter)
    free, evidence = _fit_free_peaks(counts)
    strength = evidence - _evidence_of_classes(counts, *_merge_nodes(error, p), free.offset)
    mean = float(p @ error)
    variance = float(p @ (error - mean) ** 2) + image_scatter**2 / len(counts.first)
    return _summarise(free, strength, mean, variance)


def _histogram(
    log_count: np.ndarray,
    image: np.ndarray,
    image_scatter: float,
    class_mean: np.ndarray,
    class_scatter: np.ndarray,
) -> _Counts:
    """Count the clusters of each image in bins; of many images some are chosen at random."""
    _, index, size = np.unique(image, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(size))
    before = np.cumsum(size[order]) - size[order]
    rows = np.isin(index, order[before < MAX_CLUSTERS])
    log_count, index = log_count[rows], np.unique(index[rows], return_inverse=True)[1]
    keys = np.stack([index, np.round(log_count / BIN_WIDTH)], axis=1)
    pairs, number = np.unique(keys, axis=0, return_counts=True)
    return _Counts(
        pairs[:, 1] * BIN_WIDTH,
        number.astype(float),
        np.flatnonzero(np.diff(pairs[:, 0], prepend=-1)),
        image_scatter,
        np.array(class_mean),
        np.array(class_scatter),
    )


def _summarise(free: _Mixtures, strength: float, mean: float, variance: float) -> ClassFit:
    """Return the result for the best free peaks, and mean and variance of the log scale error."""
    share = free.number[0] / free.number[0].sum()
    own = np.argsort(free.position[0])
    own = own[share[own] >= MIN_SHARE]
    atoms = np.exp(free.position[0, own] - mean)
    scatter = free.scatter[0, own]
    error = atoms * np.sqrt(variance + scatter**2 / free.number[0, own])
    return ClassFit(strength < MIN_STRENGTH, strength, atoms, error, share[own], scatter)


def _merge_nodes(error: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge errors that are nearer to each other than the positions are known."""
    _, group = np.unique(np.round(error / POSITION_SCATTER), return_inverse=True)
    weight = np.bincount(group, p)
    good = weight > TINY
    mean = np.bincount(group, p * error)[good] / weight[good]
    return mean, weight[good] / weight[good].sum()


def _fit_free_peaks(counts: _Counts) -> tuple[_Mixtures, float]:
    """Fit up to as many free peaks as there are classes.

    Returns
    -------
    mixture : _Mixtures
        The mixture (S = 1) with the largest evidence.
    evidence : float
        Logarithm of the mean evidence over the numbers of peaks.
    """
    order = np.argsort(counts.x)
    cumulated = np.cumsum(counts.number[order]) / counts.number.sum()
    rng = np.random.default_rng(0)
    found, evidences = [], []
    for n_peaks in range(1, len(counts.class_mean) + 1):
        at = np.sort(rng.uniform(size=(STARTS, n_peaks)), axis=1)
        at[0] = (np.arange(n_peaks) + 0.5) / n_peaks
        start = counts.x[order[np.minimum(np.searchsorted(cumulated, at), len(order) - 1)]]
        evenly = np.linspace(0, len(counts.class_mean) - 1, n_peaks)
        start[-1] = counts.class_mean[np.round(evenly).astype(int)]
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


def _evidence_of_classes(
    counts: _Counts, error: np.ndarray, weight: np.ndarray, offset: np.ndarray
) -> float:
    """Return the log evidence of peaks at the classes, averaged over classes that occur and scales.

    All numbers of classes are equally probable, and all sets of so many classes.

    Parameters
    ----------
    counts : _Counts
        Histogram.
    error, weight : ndarray of shape (K,)
        Errors of the common log scale, and their probabilities.
    offset : ndarray of shape (1, J)
        Offsets of the images from which the fits start, besides zero.
    """
    start = counts.class_mean + np.tile(error, 2)[:, None]
    offsets = np.repeat([0.0, 1.0], len(error))[:, None] * offset
    locked = _maximise(counts, start, POSITION_SCATTER, offsets)
    n_classes = start.shape[1]
    information = locked.number / locked.scatter**2
    of_position = -0.5 * ((locked.position - start) / POSITION_SCATTER) ** 2
    of_position -= 0.5 * np.log1p(information * POSITION_SCATTER**2)
    terms = []
    for active in np.array(list(product([False, True], repeat=n_classes)))[1:]:
        prior = -np.log(n_classes * comb(n_classes, active.sum()))
        terms.append(_evidence(counts, locked, active) + (of_position * active).sum(axis=1) + prior)
    evidence = logsumexp(terms, axis=0).reshape(2, -1).max(axis=0)
    return float(logsumexp(evidence, b=weight))


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
    x = counts.x - mixtures.offset[:, counts.image]
    scatter = mixtures.scatter[:, active, None]
    z = (x[:, None] - mixtures.position[:, active, None]) / scatter
    peaks = np.exp(-0.5 * z**2) / (scatter * np.sqrt(2 * np.pi))
    density = (share[:, None] @ peaks)[:, 0]
    total = density * (1 - outlier)[:, None] + outlier[:, None] / counts.log_range
    out = np.log(total) @ counts.number + mixtures.offset_evidence
    out += OUTLIER_PRIOR * OUTLIER_SHARE * np.log(outlier)
    out += OUTLIER_PRIOR * (1 - OUTLIER_SHARE) * np.log1p(-outlier)
    out -= 0.5 * SPREAD_PRIOR * (np.log(mixtures.factor) + 1 / mixtures.factor)
    n, alpha = number.sum(axis=1), SHARE_ALPHA
    out += gammaln(alpha * number.shape[1]) - gammaln(n + alpha * number.shape[1])
    out += (gammaln(number + alpha) - gammaln(alpha) - number * np.log(share)).sum(axis=1)
    return np.asarray(out)


def _maximise(
    counts: _Counts,
    start: np.ndarray,
    tolerance: float | None,
    offset: np.ndarray | None = None,
) -> _Mixtures:
    """Fit S mixtures by expectation-maximisation.

    Parameters
    ----------
    counts : _Counts
        Histogram.
    start : ndarray of shape (S, P)
        Positions at the start.
    tolerance : float or None
        Standard deviation of the prior of the positions about the start; None for a flat prior.
    offset : ndarray of shape (S, J), optional
        Offsets of the images at the start.
    """
    precision = 0.0 if tolerance is None else tolerance**-2
    image, n = counts.image, counts.number.sum()
    position = start
    offset = np.zeros((len(start), len(counts.first))) if offset is None else offset
    outlier = np.full(len(start), OUTLIER_SHARE)
    share = np.full(start.shape, (1 - OUTLIER_SHARE) / start.shape[1])
    factor = np.ones(len(start))
    for _ in range(N_ITERATIONS):
        scatter = counts.scatter(position) * np.sqrt(factor)[:, None]
        x = counts.x - offset[:, image]
        z = (x[:, None] - position[..., None]) / scatter[..., None]
        density = np.exp(-0.5 * z**2) * (share / (scatter * np.sqrt(2 * np.pi)))[..., None]
        total = density.sum(axis=1) + outlier[:, None] / counts.log_range
        member = density * (counts.number / total)[:, None]
        number = member.sum(axis=2)
        square = (member * z**2).sum(axis=(1, 2)) * factor
        pull = (member @ x[..., None])[..., 0] / scatter**2 + precision * start + TINY * position
        position = pull / (number / scatter**2 + precision + TINY)
        offset, offset_evidence = _image_offsets(counts, member, position, scatter)
        if tolerance is None:
            common = offset.mean(axis=1, keepdims=True)
            position, offset = position + common, offset - common
        factor = (SPREAD_PRIOR + square) / (SPREAD_PRIOR + number.sum(axis=1))
        factor = np.clip(factor, *SPREAD_LIMITS)
        outlier = n - number.sum(axis=1) + OUTLIER_PRIOR * OUTLIER_SHARE
        outlier = outlier / (n + OUTLIER_PRIOR)
        share = (number + DIRICHLET) / (number + DIRICHLET).sum(axis=1, keepdims=True)
        share = share * (1 - outlier)[:, None]
    return _Mixtures(position, number, factor, outlier, scatter, offset, offset_evidence)


def _image_offsets(
    counts: _Counts, member: np.ndarray, position: np.ndarray, scatter: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets (S, J) of the images given members (S, P, B), and their log evidence (S,)."""
    tau = counts.image_scatter
    if tau == 0:
        return np.zeros((len(position), len(counts.first))), np.zeros(len(position))
    precision = scatter**-2
    information = (precision[:, None] @ member)[:, 0]
    pull = counts.x * information - ((position * precision)[:, None] @ member)[:, 0]
    information = np.add.reduceat(information, counts.first, axis=1)
    pull = np.add.reduceat(pull, counts.first, axis=1)
    offset = pull / (information + tau**-2)
    evidence = -0.5 * (offset / tau) ** 2 - 0.5 * np.log1p(information * tau**2)
    return offset, evidence.sum(axis=1)
