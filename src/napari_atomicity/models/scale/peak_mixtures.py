"""Mixtures of peaks of log counts of atoms in the images of a session."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import gammaln

from .intensity_scale import SPREAD_LIMITS, SPREAD_PRIOR

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
MAX_CLUSTERS = 1000
"""Whole images of a session are used, chosen at random, until they have so many clusters."""
N_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class CountHistogram:
    """Histogram of log counts in each image, and the classes."""

    # x, number: (B,): log counts, and numbers of clusters, sorted by image
    x: np.ndarray
    number: np.ndarray
    first: np.ndarray  # (J,): first bin of each image
    image_scatter: float  # standard deviation of the log scales of the images
    # class_mean, class_scatter: (C,): log counts of the classes, and standard deviations within
    # them
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
class PeakMixtures:
    """S mixtures of P peaks."""

    # position, number: (S, P): log counts of the peaks, and expected numbers of clusters
    position: np.ndarray
    number: np.ndarray
    # factor, outlier: (S,): variances relative to those of the classes, and shares of the outliers
    factor: np.ndarray
    outlier: np.ndarray
    scatter: np.ndarray  # (S, P): standard deviations of the peaks
    offset: np.ndarray  # (S, J): log scales of the images, relative to the common one
    offset_evidence: np.ndarray  # (S,): contribution of the offsets to the log evidence

    def take(self, index: int) -> PeakMixtures:
        """Return one of the mixtures (S = 1)."""
        return PeakMixtures(*(getattr(self, f.name)[index : index + 1] for f in fields(self)))


def make_histogram(
    # log_count, image, each (N,): log counts of the clusters, and their images
    log_count: np.ndarray,
    image: np.ndarray,
    image_scatter: float,  # standard deviation of the log scales of the images
    # class_mean, class_scatter, each (C,): log counts of the classes, and standard deviations
    # within them
    class_mean: np.ndarray,
    class_scatter: np.ndarray,
) -> CountHistogram:
    """Count the clusters of each image in bins; of many images some are chosen at random."""
    _, index, size = np.unique(image, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(size))
    before = np.cumsum(size[order]) - size[order]
    rows = np.isin(index, order[before < MAX_CLUSTERS])
    log_count, index = log_count[rows], np.unique(index[rows], return_inverse=True)[1]
    keys = np.stack([index, np.round(log_count / BIN_WIDTH)], axis=1)
    pairs, number = np.unique(keys, axis=0, return_counts=True)
    return CountHistogram(
        pairs[:, 1] * BIN_WIDTH,
        number.astype(float),
        np.flatnonzero(np.diff(pairs[:, 0], prepend=-1)),
        image_scatter,
        np.array(class_mean),
        np.array(class_scatter),
    )


def fit_mixtures(
    counts: CountHistogram,
    start: np.ndarray,  # (S, P): positions at the start
    # Standard deviation of the prior of the positions about the start; None for a flat prior
    tolerance: float | None,
    offset: np.ndarray | None = None,  # (S, J): offsets of the images at the start
) -> PeakMixtures:
    """Fit S mixtures by expectation-maximisation."""
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
    return PeakMixtures(position, number, factor, outlier, scatter, offset, offset_evidence)


def _image_offsets(
    counts: CountHistogram, member: np.ndarray, position: np.ndarray, scatter: np.ndarray
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


def log_evidence(
    counts: CountHistogram,
    mixtures: PeakMixtures,
    active: np.ndarray,  # (P,): clusters of peaks that are not active become outliers
) -> np.ndarray:
    """Return log evidences (S,) without the terms of the positions.

    The multinomial likelihood of the expected numbers is replaced by its mean over a Dirichlet
    prior of the shares.
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
