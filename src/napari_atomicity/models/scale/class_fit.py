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

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
from scipy.special import comb, gammaln, logsumexp

from ...core.apparent_size import ApparentSize
from ...statistics.ratios.ratio_notes import (
    CANNOT_TELL,
    DOES_NOT_FIT,
    FITS,
    MAX_EXCESS,
    describe_misfit,
)
from .image_evidence import ImageMeasurements
from .peak_mixtures import (
    MARGIN,
    TINY,
    CountHistogram,
    PeakMixtures,
    fit_mixtures,
    log_evidence,
    make_histogram,
)
from .session_scale import MIN_SIZES, SessionScale

POSITION_SCATTER = 0.03
"""Standard deviation of the error of a class's mean log count, apart from the common scale."""
AGGREGATE = float(np.log(1.5))
"""Log counts that exceed the largest class by more are of aggregates, unless they are many."""
MAX_AGGREGATES = 0.25
"""Largest share of the clusters that can be aggregates."""
STARTS = 6
N_TURNS = 2
MIN_CLUSTERS = 15
MIN_STRENGTH = 4.0
"""Logarithm of the Bayes factor from which on a session does not fit: "strong" evidence by [1]_."""
GAIN_PER_PEAK = 1.0
"""Mean gain of the log likelihood by a free position, in sessions that fit: 0.5 for each parameter,
and as much because the best number of peaks is taken."""
MIN_SHARE = 0.08
"""Least share of a peak that is reported."""


@dataclass(frozen=True, eq=False)
class ClassFit:
    """Result of the test."""

    answer: str  # `FITS`, `DOES_NOT_FIT` or `CANNOT_TELL`; the first with too few clusters
    # logarithm of the Bayes factor of free peaks against peaks at the classes; NaN with too few
    # clusters
    strength: float
    # logarithm of the likelihood ratio of the same, less `GAIN_PER_PEAK` for each free peak. In
    # contrast to the strength it does not decrease with the range in which peaks can be, nor with
    # the number of clusters that fit
    excess: float
    # (n_peaks,): numbers of atoms of the free peaks, in order; or those of the classes, for a chart
    # of a session that fits
    atoms: np.ndarray
    # (n_peaks,): their standard errors, the uncertainty of the scale included
    atoms_error: np.ndarray
    shares: np.ndarray  # (n_peaks,): shares of the clusters
    scatter: np.ndarray  # (n_peaks,): standard deviations of the log counts of the peaks
    # log_count, number: (n_bins,): log counts with the fitted scale of each image, and numbers of
    # clusters
    log_count: np.ndarray = field(default_factory=lambda: np.empty(0))
    number: np.ndarray = field(default_factory=lambda: np.empty(0))
    peaks: tuple[tuple[float, float], ...] = ()  # numbers of atoms and shares of the free peaks

    @property
    def fits(self) -> bool:
        """Whether nothing says that the sizes are no classes."""
        return self.answer == FITS

    def describe(self) -> str:
        """Return in one sentence that the session does not fit the classes; "" otherwise."""
        if self.answer != DOES_NOT_FIT:
            return ""
        return f"{describe_misfit(self.atoms.tolist())} (log Bayes factor {self.strength:.0f})"


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
    """
    error = np.zeros(1) if log_scale_error is None else np.asarray(log_scale_error, float)
    p = np.full(len(error), 1 / len(error)) if weight is None else weight / np.sum(weight)
    log_count = np.asarray(log_count, float)
    image = np.zeros(len(log_count), int) if image is None else np.asarray(image)
    low, high = np.min(class_log_count) - MARGIN, np.max(class_log_count) + MARGIN
    used = np.flatnonzero((log_count >= low) & (log_count <= high))
    is_aggregate = log_count[used] > high - MARGIN + AGGREGATE
    if is_aggregate.sum() < MAX_AGGREGATES * len(used):
        used = used[~is_aggregate]
    if len(used) < MIN_CLUSTERS:
        nothing = np.empty(0)
        return ClassFit(FITS, np.nan, np.nan, nothing, nothing, nothing, nothing)
    counts = make_histogram(
        log_count[used], image[used], image_scatter, class_log_count, class_scatter
    )
    free, strength, excess = _compare(counts, *_merge_nodes(error, p))
    mean = float(p @ error)
    variance = float(p @ (error - mean) ** 2) + image_scatter**2 / len(counts.first)
    found = _summarise(free, strength, mean, variance)
    aligned = counts.x - free.offset[0, counts.image] - mean
    return replace(found, excess=excess, log_count=aligned, number=counts.number)


def _compare(
    counts: CountHistogram, error: np.ndarray, weight: np.ndarray
) -> tuple[PeakMixtures, float, float]:
    """Return the best free peaks (S = 1), and strength and excess against peaks at the classes.

    With offsets of the images there are local maxima: the fits start from each other in turn.
    """
    offset = np.zeros((1, len(counts.first)))
    at_classes, at_peaks, best, prior = -np.inf, -np.inf, None, 0.0
    for _ in range(N_TURNS if counts.image_scatter else 1):
        evidence, locked = _fit_classes(counts, error, weight, offset)
        at_classes = max(at_classes, evidence)
        free, evidence, of_positions = _fit_free_peaks(counts, locked)
        offset = free.offset
        if best is None or evidence > at_peaks:
            at_peaks, best, prior = evidence, free, of_positions
    assert best is not None
    at_classes = max(at_classes, _fit_classes(counts, error, weight, best.offset)[0])
    strength = at_peaks - at_classes
    n_peaks = best.position.shape[1]
    gain = strength - prior + _log_prior_of_classes(len(counts.class_mean), n_peaks)
    return best, strength, gain - GAIN_PER_PEAK * n_peaks


def _log_prior_of_classes(n_classes: int, n_active: int) -> float:
    """Return the log prior of a set of classes: all numbers, and all sets of so many, are equal."""
    return float(-np.log(n_classes * comb(n_classes, n_active)))


def _summarise(free: PeakMixtures, strength: float, mean: float, variance: float) -> ClassFit:
    """Return the result for the best free peaks, and mean and variance of the log scale error."""
    share = free.number[0] / free.number[0].sum()
    own = np.argsort(free.position[0])
    own = own[share[own] >= MIN_SHARE]
    atoms = np.exp(free.position[0, own] - mean)
    scatter = free.scatter[0, own]
    error = atoms * np.sqrt(variance + scatter**2 / free.number[0, own])
    peaks = tuple(zip(atoms.tolist(), share[own].tolist(), strict=True))
    answer = FITS if strength < MIN_STRENGTH else DOES_NOT_FIT
    return ClassFit(answer, strength, np.nan, atoms, error, share[own], scatter, peaks=peaks)


def _merge_nodes(error: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge errors that are nearer to each other than the positions are known."""
    _, group = np.unique(np.round(error / POSITION_SCATTER), return_inverse=True)
    weight = np.bincount(group, p)
    good = weight > TINY
    mean = np.bincount(group, p * error)[good] / weight[good]
    return mean, weight[good] / weight[good].sum()


def _fit_free_peaks(
    counts: CountHistogram, locked: PeakMixtures
) -> tuple[PeakMixtures, float, float]:
    """Fit up to as many free peaks as there are classes."""
    order = np.argsort(counts.x)
    cumulated = np.cumsum(counts.number[order]) / counts.number.sum()
    rng = np.random.default_rng(0)
    found, evidences, of_positions = [], [], []
    frequent = np.argsort(-locked.number[0])
    offset = np.zeros((STARTS, len(counts.first)))
    offset[-1] = locked.offset[0]
    for n_peaks in range(1, len(counts.class_mean) + 1):
        at = np.sort(rng.uniform(size=(STARTS, n_peaks)), axis=1)
        at[0] = (np.arange(n_peaks) + 0.5) / n_peaks
        start = counts.x[order[np.minimum(np.searchsorted(cumulated, at), len(order) - 1)]]
        start[-1] = locked.position[0, np.sort(frequent[:n_peaks])]
        mixtures = fit_mixtures(counts, start, None, offset)
        information = mixtures.number / mixtures.scatter**2
        width = np.sqrt(2 * np.pi / (information + TINY))
        prior = gammaln(n_peaks + 1) + np.minimum(np.log(width / counts.log_range), 0).sum(axis=1)
        evidence = log_evidence(counts, mixtures, np.ones(n_peaks, bool)) + prior
        best = int(evidence.argmax())
        found.append(mixtures.take(best))
        evidences.append(float(evidence[best]))
        of_positions.append(float(prior[best]))
    mean = float(logsumexp(evidences) - np.log(len(evidences)))
    best = int(np.argmax(evidences))
    return found[best], mean, of_positions[best]


def _fit_classes(
    counts: CountHistogram,
    # error, weight, each (K,): errors of the common log scale, and their probabilities
    error: np.ndarray,
    weight: np.ndarray,
    offset: np.ndarray,  # (1, J): offsets of the images from which the fits start, besides zero
) -> tuple[float, PeakMixtures]:
    """Return the log evidence of peaks at the classes, a mean over occurring classes and scales."""
    start = counts.class_mean + np.tile(error, 2)[:, None]
    offsets = np.repeat([0.0, 1.0], len(error))[:, None] * offset
    locked = fit_mixtures(counts, start, POSITION_SCATTER, offsets)
    n_classes = start.shape[1]
    information = locked.number / locked.scatter**2
    of_position = -0.5 * ((locked.position - start) / POSITION_SCATTER) ** 2
    of_position -= 0.5 * np.log1p(information * POSITION_SCATTER**2)
    terms = []
    for active in np.array(list(product([False, True], repeat=n_classes)))[1:]:
        prior = _log_prior_of_classes(n_classes, int(active.sum()))
        terms.append(
            log_evidence(counts, locked, active) + (of_position * active).sum(axis=1) + prior
        )
    evidence = logsumexp(terms, axis=0)
    best = locked.take(int((evidence + np.log(np.tile(weight, 2))).argmax()))
    return float(logsumexp(evidence.reshape(2, -1).max(axis=0), b=weight)), best


# ---- test of the sizes of an acquisition session, by intensities, apparent sizes and known samples

N_NODES = 41
N_SCATTERS = 3.0
"""Standard deviations of the common scale that are considered."""
MAX_EXCESS_OF_TWO = 6.5
"""`MAX_EXCESS` of sessions of two sizes: at most 6.0 in 40 simulated ones."""
MIN_SIZES_OF_MIXTURES = 1.3
"""Number of sizes in an image above which it is a mixture: at most 1.1 in images of one size."""


def fit_session_classes(
    # Images of one session. Those of known composition have no part in the test itself.
    images: Sequence[ImageMeasurements],
    reference: ApparentSize,
    sizes: np.ndarray,  # (n_classes,): numbers of atoms of the classes, ascending
    spread: float,  # standard deviation of ln scale between the images, from `SessionScale`
    # Mean and standard deviation of the session's ln scale, from an earlier session
    prior: tuple[float, float] | None = None,
) -> ClassFit | None:  # None if larger classes are not brighter, or no cluster tells the scale
    """Test whether the sizes of a session are those of the model's classes.

    Clusters that several frames of a stack show are counted once: their repeats, alike but for
    noise, would make any deviation certain. The common scale comes from everything but the
    intensities of unknown samples, see `scale_without_classes`: a scale at which these fit the
    classes best would make every session fit.
    """
    class_intensity, class_count = np.array(reference.log_intensity), np.log(sizes)
    unknown = [x for x in images if x.shares is None]
    scale = scale_without_classes(images, reference, spread, prior)
    if not unknown or scale is None or not (np.diff(class_intensity) > 0).all():
        return None
    u = np.concatenate([x.distinct_log_intensity for x in unknown]) - scale[0]
    count = _log_count(u, class_intensity, class_count)
    nodes = np.linspace(-N_SCATTERS, N_SCATTERS, N_NODES)
    return compare_with_classes(
        count,
        class_count,
        np.sqrt(np.array(reference.covariance)[:, 0, 0]),
        nodes * scale[1],
        np.exp(-0.5 * nodes**2),
        np.repeat(np.arange(len(unknown)), [len(x.distinct_log_intensity) for x in unknown]),
        spread,
    )


def _log_count(u: np.ndarray, class_intensity: np.ndarray, class_count: np.ndarray) -> np.ndarray:
    """Return ln(number of atoms) of ln(intensity in atoms), linear between the classes."""
    beyond = np.minimum(u - class_intensity[0], 0) + np.maximum(u - class_intensity[-1], 0)
    return np.asarray(np.interp(u, class_intensity, class_count) + beyond)


def answer_of_session(
    fit: ClassFit,
    session: SessionScale,  # joint posterior of the scales
    reference: ApparentSize,
) -> str:  # `FITS`, `DOES_NOT_FIT` or `CANNOT_TELL`
    """Return whether the sizes of a session are those of the classes, by all that is known of it.

    Two or more free peaks that are more likely than the classes leave it open, above all if the
    classes need a common error d of the apparent sizes: its log prior counts as well. Images of one
    size, each with its own scale, tell nothing of their ratios.
    """
    is_mixture = session.sizes_per_image > MIN_SIZES_OF_MIXTURES
    if not fit.fits or len(fit.peaks) < 2 or not is_mixture:
        return fit.answer
    doubt = fit.excess + 0.5 * (session.size_error / session.size_error_sd) ** 2
    limit = MAX_EXCESS if session.sizes_per_image > MIN_SIZES else MAX_EXCESS_OF_TWO
    return CANNOT_TELL if doubt > limit else FITS


def align_with_classes(
    fit: ClassFit,
    images: Sequence[ImageMeasurements],
    session: SessionScale,  # joint posterior of their scales
    reference: ApparentSize,
    sizes: np.ndarray,  # (n_classes,): numbers of atoms of the classes, ascending
) -> ClassFit:  # with the histogram by the best scale of each image, and the classes as peaks
    """Return a session that fits the classes with the numbers of atoms by which it is labelled.

    Free peaks are not of interest then: with other scales of the images, fewer peaks than there are
    classes can fit as well.
    """
    pairs = list(zip(images, session.images, strict=True))
    u = np.concatenate([x.log_intensity - modes.log_scale[0] for x, modes in pairs])
    number = np.array([len(x.log_intensity) for x in images])
    share = np.average([modes.shares[0] for modes in session.images], axis=0, weights=number)
    count = _log_count(u, np.array(reference.log_intensity), np.log(sizes))
    count = count[np.abs(count - np.log(sizes).mean()) < MARGIN + np.ptp(np.log(sizes)) / 2]
    return replace(
        fit,
        atoms=sizes,
        atoms_error=sizes * session.log_scale_sd,
        shares=share,
        scatter=np.sqrt(np.array(reference.covariance)[:, 0, 0]),
        log_count=count,
        number=np.ones(len(count)),
    )


def scale_error_of_counts(
    fit: ClassFit | None,  # result of `fit_session_classes` with the answer of `answer_of_session`
    session: SessionScale,  # joint posterior of the scales
    reference: ApparentSize,
    # Mean and standard deviation of the session's ln scale, from an earlier session
    prior: tuple[float, float] | None = None,
) -> float:  # 0 if the ratios of three sizes or more fit the classes, which then tell the scale
    """Return the standard deviation of ln scale for atom numbers that may be between classes."""
    if fit is None or (fit.fits and not session.relies_on_sizes):
        return 0.0
    scale = scale_without_classes(session.measured, reference, session.spread, prior)
    return 0.0 if scale is None else scale[1]


def scale_without_classes(
    images: Sequence[ImageMeasurements],
    reference: ApparentSize,
    spread: float,  # standard deviation of ln scale between the images
    # Mean and standard deviation of the session's ln scale, from an earlier session
    prior: tuple[float, float] | None = None,
) -> tuple[float, float] | None:
    """Estimate the scale of a session without the intensities of unknown samples.

    Sources are the apparent sizes, images of known composition, anchors of images (single atoms),
    and an earlier session. Each is normal; they are combined with the inverse of their variances.

    The result is the mean and standard deviation of the session's ln scale; None without a source.
    """
    sources = [] if prior is None else [prior]
    intensity, size = np.array(reference.log_intensity), np.array(reference.log_size)
    differ = np.ptp(size) > 0  # otherwise sizes tell no scale
    slope, start = np.polyfit(size, intensity, 1) if differ else (0.0, 0.0)
    residual = []
    for image in images:
        n = len(image.log_intensity)
        if image.anchor is not None:
            sources.append((image.anchor[0], float(np.hypot(image.anchor[1], spread))))
        if n and image.shares is not None:
            mean = image.log_intensity.mean() - image.shares @ intensity
            error = image.log_intensity.std() / np.sqrt(n)
            sources.append((float(mean), float(np.hypot(error, spread))))
        elif n and differ:
            residual.append(image.log_intensity - start - slope * image.log_size)
    if residual:
        of_sizes = np.concatenate(residual)
        number = sum(reference.independent_clusters(len(x)) for x in residual)
        error = np.hypot(of_sizes.std() / np.sqrt(number), spread / np.sqrt(len(residual)))
        not_linear = (intensity - start - slope * size).std()
        common = np.hypot(slope * reference.scatter, not_linear)
        sources.append((float(np.median(of_sizes)), float(np.hypot(error, common))))
    if not sources:
        return None
    mean, scatter = np.array(sources).T
    weight = scatter**-2
    return float(weight @ mean / weight.sum()), float(weight.sum() ** -0.5)
