"""The intensity of one atom in every image of an acquisition session, found jointly.

The images of a session share detector, gain, dose and focus within 10 or 20 %. An image of one
size alone cannot tell which size that is: its intensities have one peak, and any class can be
put on it. The session can, because the scales of its images are drawn around one value.

Model. Image i has the scale s_i = ln(intensity of one atom). A cluster of class c has

    ln I ~ N(m_c + s_i, u_c^2),    z ~ N(g_c + d - k (g_c - g), v_c^2),

where z is the apparent size (`core.apparent_size`), g the mean of its class means g_c, d its common
error in the session, and k how much nearer to each other the sizes of the classes look, such as by
blur. Clusters of an image are correlated: the evidence of their sizes is that of fewer independent
ones. The classes of an image have shares pi_i ~ Dirichlet(0.3), so that images of one size are as
likely as mixtures. A flat component takes clusters that fit no class. The session draws

    s_i ~ (1 - e) N(S, tau^2) + e U,    S ~ U,    tau ~ `SPREADS`,
    d ~ N(0, scatter^2),    k ~ N(0, `COMPRESSION`^2),

where the uniform component with e = 2 % keeps an image that does not fit from moving the others.
The shares are integrated out by variational Bayes [1]_, separately for every value of (s_i, d, k)
on a grid; S, tau, d and k are integrated out on their grids [2]_. No image is decided before the
session. The classes differ from the model in more than d and k: the evidence for k counts for a
fifth (`EVIDENCE_FOR_COMPRESSION`). The pixel size has an error, too: where only the sizes tell S,
their evidence has the power scatter^2 / (scatter^2 + error^2), as with a wider prior of d. Noise
and blur widen the intensities of a class by a factor of the session (`VARIANCES`), found first with
k = 0. Known compositions that the clusters contradict are not used, see `known_samples`. The cost
is linear in the number of clusters.

References
----------
.. [1] H. Attias, "A variational Bayesian framework for graphical models", NIPS 1999.
.. [2] A. Gelman et al., Bayesian Data Analysis, 3rd ed., chapter 5 (hierarchical models), 2013.
.. [3] E. H. Simpson, "Measurement of diversity", Nature 163, 688 (1949).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.special import logsumexp, softmax

from ...core.apparent_size import ApparentSize
from ...core.threads import parallel_map
from ...statistics.ratios.prevalence import N_DRAWS
from .image_evidence import (
    COMPRESSIONS,
    CONCENTRATION,
    NO_COMPRESSION,
    STEP,
    ImageMeasurements,
    ScaleSteps,
    SizeErrors,
    image_evidence,
    size_errors,
)


# ---- joint draws of the solutions of the images of a session
def draw_solutions(
    # (n_spreads, n_scales, n_errors): posterior of spread, common scale and common error
    session: np.ndarray,
    # each (n_scales, n_scales): for each spread, the probability of the scale of an image (columns)
    # given the common scale
    kernels: Sequence[np.ndarray],
    likelihood: np.ndarray,  # (n_images, n_scales, n_errors): likelihood of the images
    grid: np.ndarray,  # (n_scales,): values of ln scale
    modes: Sequence[np.ndarray],  # each (n_modes,): ln scale of the solutions of each image
    seed: int,
) -> np.ndarray:  # (n_images, N_DRAWS), int: index of the solution of each image in each draw
    """Draw the solutions of all images jointly from the posterior of their session.

    Each draw takes a common scale, spread and error of the apparent sizes, then the scale of each
    image given these. So the draws contain how far the errors of the images are the same.
    """
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(session.ravel())
    steps = (rng.permutation(N_DRAWS) + 0.5) / N_DRAWS * cumulative[-1]
    spread, scale, error = np.unravel_index(np.searchsorted(cumulative, steps), session.shape)
    prior = np.stack(kernels)[spread, scale]
    out = np.zeros((len(modes), N_DRAWS), int)
    for i, of_image in enumerate(modes):
        if len(of_image) < 2:
            continue
        nearest = np.abs(grid[:, None] - of_image).argmin(axis=1)
        weight = (prior * likelihood[i][:, error].T) @ np.eye(len(of_image))[nearest]
        below = np.cumsum(weight, axis=1)
        chosen = rng.random(N_DRAWS) * below[:, -1]
        out[i] = (below[:, :-1] <= chosen[:, None]).sum(axis=1)
    return out


# ---- test of stated compositions of samples against the clusters of their images
#
# A statement that the sample of an image has the shares pi is compared with free shares, by the
# same likelihood and in the context of the session: the log Bayes factor
#
#     ln p(clusters of the session | shares pi) - ln p(clusters of the session | free shares),
#
# where scales, common error of the apparent sizes and spread between images are integrated out,
# with the statements about the other images as far as they are not contradicted themselves. An
# image of one size by itself contradicts little: any class can be put on its only peak, and only
# its apparent sizes speak. Several peaks contradict a statement of one size, and a session whose
# scale is known contradicts another size.

MIN_LOG_BAYES_FACTOR = -3.0
"""Log Bayes factor below which a statement is contradicted (docs/scripts/make_known_samples.py)."""
TOLERANCE = 0.03
"""Share of the clusters that may be of any size: a size-selected sample is not quite pure."""


def with_tolerance(shares: np.ndarray) -> np.ndarray:
    """Return the stated shares of the classes with a few clusters of any size."""
    return np.asarray((1 - TOLERANCE) * shares + TOLERANCE / len(shares))


def compare_statements(
    stated: np.ndarray,
    free: np.ndarray,
    context: np.ndarray,
    limit: float = MIN_LOG_BAYES_FACTOR,
) -> tuple[np.ndarray, np.ndarray]:
    """Compare stated compositions with free ones; the most contradicted one is dropped first.

    Otherwise one wrong statement would contradict the right ones.

    Parameters
    ----------
    stated, free : ndarray of shape (n_statements, ...)
        Log evidence of each image with the stated shares and with free ones, for all values of what
        the images of a session have in common.
    context : ndarray of shape (...)
        The same of all other images, with the prior.
    limit : float, optional
        Log Bayes factor below which a statement is contradicted.

    Returns
    -------
    log_bayes_factor : ndarray of shape (n_statements,)
        Of each statement, given those that are not contradicted.
    contradicted : ndarray of shape (n_statements,), bool
        Whether it is below the limit.
    """
    contradicted = np.zeros(len(stated), bool)
    axes = tuple(range(1, stated.ndim))
    while True:
        own = np.where(contradicted.reshape(-1, *[1] * context.ndim), free, stated)
        others = context + own.sum(axis=0) - own
        factor = logsumexp(others + stated, axis=axes) - logsumexp(others + free, axis=axes)
        left = np.where(contradicted, np.inf, factor)
        if not len(left) or left.min() >= limit:
            return factor, contradicted
        contradicted[left.argmin()] = True


EVIDENCE_FOR_COMPRESSION = 0.2
"""Power of the likelihood of a compression."""
VARIANCES = (1.0, 1.41, 2.0, 2.83)
LOG_VARIANCE_SD = 0.5
"""Variance of ln intensity within the classes against the reference: values of a session, and the
standard deviation of their logarithm."""
CLUSTERS_FOR_VARIANCE = 400
"""Clusters that tell the variance, in evenly spaced images."""
SPREADS = ((0.05, 0.10), (0.10, 0.25), (0.15, 0.30), (0.20, 0.25), (0.30, 0.10))
"""Standard deviations of ln scale between the images of a session, with prior probabilities:
0.13 to 0.17 in simulated sessions with drifting conditions."""
OUTLYING = 0.02
"""Prior probability that an image has a scale unlike the others."""
MARGIN = 0.3
SAME_MODE = 0.1
"""Scales whose logarithms differ by less belong to one mode."""
MIN_WEIGHT = 0.01
"""Weight from which on a mode of an image is kept."""
MAX_MODES = 6
MIN_SIZES = 2.5
"""Number of sizes in an image, see `SessionScale.sizes_per_image`, below which it has one or two:
at most 2.3 in simulated sessions of two sizes, at least 2.7 in those of four."""
LONE_ATOMS_SD = 0.03
"""Standard deviation of the error of ln scale that the lone atoms of all images have in common: in
simulated sessions of sizes of the model, many of them differ from the scale by 0.02 to 0.04."""
MAX_SCALE_SD = 0.07
"""Standard deviation of ln scale at which a size halfway between two classes is two of them away
from each."""


@dataclass(frozen=True, eq=False)
class ScaleModes:
    """Posterior of the scale of one image: its modes, the most probable one first."""

    # log_scale, weight: (n_modes,): logarithm of the intensity of one atom, and probability
    log_scale: np.ndarray
    weight: np.ndarray
    shares: np.ndarray  # (n_modes, n_classes): shares of the classes in each mode
    variance: float = 1.0  # of ln intensity within the classes, relative to the reference's
    is_known: bool = True  # whether clusters, lone atoms or an earlier session tell the scale


@dataclass(frozen=True, eq=False)
class SessionScale:
    """The joint posterior of a session."""

    images: list[ScaleModes]
    # log_scale, log_scale_sd: posterior mean and standard deviation of the session's scale S
    log_scale: float
    log_scale_sd: float
    spread: float  # posterior mean of the standard deviation tau between images
    # size_error, size_error_sd: posterior mean of the common error d of the apparent sizes, and the
    # larger one of its prior standard deviation and that of the pixel size
    size_error: float
    size_error_sd: float
    # (n_images,): probability that the scale of an image is unlike that of the others
    outlying: np.ndarray
    grid: np.ndarray = field(repr=False)  # (n_scales,): values of S
    posterior: np.ndarray = field(repr=False)  # (n_scales,): probabilities of the values of S
    # (n_images, n_draws): index of the solution of each image in joint draws from the posterior
    draws: np.ndarray = field(repr=False)
    # the images as they were used: without compositions that are contradicted
    measured: list[ImageMeasurements] = field(repr=False)
    # (n_images,): of the known composition of each image against a free one; NaN without one
    log_bayes_factor: np.ndarray
    # (n_images,): whether its clusters contradict the known composition of an image
    contradicted: np.ndarray
    # log Bayes factor of one scale and size error for the known samples and the other images
    # against two independent ones; NaN without both
    known_agreement: float = np.nan

    @property
    def sizes_per_image(self) -> float:
        """Effective number of sizes in an image of unknown samples; NaN without pairs of clusters.

        It is the inverse of the probability that two clusters of an image have the same class, by
        the unbiased estimator of Simpson's index [3]_ from the expected numbers of clusters.
        """
        pairs = same = 0.0
        for image, modes in zip(self.measured, self.images, strict=True):
            n = len(image.log_intensity)
            if image.shares is not None or n < 2:
                continue
            shares = modes.shares[0]
            number = np.maximum(shares * (n + CONCENTRATION * len(shares)) - CONCENTRATION, 0)
            same += float((number * np.maximum(number - 1, 0)).sum())
            pairs += n * (n - 1)
        return pairs / max(same, 1.0) if pairs else np.nan

    @property
    def relies_on_sizes(self) -> bool:
        """Whether the apparent sizes alone tell which classes the clusters are.

        Three sizes or more in an image tell it by the ratios of their intensities. Known samples
        and lone atoms tell it if they give the scale to less than `MAX_SCALE_SD`.
        """
        precision = 0.0
        for image in self.measured:
            if image.anchor is not None:
                precision += 1 / (image.anchor[1] ** 2 + self.spread**2)
            elif image.shares is not None and len(image.log_intensity):
                precision += 1 / self.spread**2
        if precision * MAX_SCALE_SD**2 > 1:
            return False
        return self.sizes_per_image < MIN_SIZES

    @property
    def lone_atoms_deviation(self) -> float:
        """Scale by the classes minus that by lone atoms, in standard deviations; NaN without."""
        pairs = zip(self.measured, self.images, strict=True)
        anchored = [(x.anchor, modes.log_scale[0]) for x, modes in pairs if x.anchor is not None]
        if not anchored:
            return np.nan
        difference = np.array([log_scale - anchor[0] for anchor, log_scale in anchored])
        weight = np.array([anchor[1] ** -2 for anchor, _ in anchored])
        sd = np.hypot(LONE_ATOMS_SD, weight.sum() ** -0.5)
        return float(weight @ difference / weight.sum() / sd)

    @property
    def relies_on_contradicted(self) -> bool:
        """Whether a known composition is used although its clusters contradict it."""
        pairs = zip(self.measured, self.contradicted, strict=True)
        return any(wrong and image.shares is not None for image, wrong in pairs)

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of S."""
        to_the_end = np.cumsum(self.posterior)  # of the step around each value
        low, high = np.interp((0.025, 0.975), to_the_end, self.grid + STEP / 2)
        return float(low), float(high)


def fit_session(
    images: Sequence[ImageMeasurements],
    reference: ApparentSize,
    # Mean and standard deviation of the session's ln scale, from an earlier session
    prior: tuple[float, float] | None = None,
) -> SessionScale:
    """Find the scales of all images of a session jointly."""
    steps = _scale_steps(images, reference)
    grid = steps.scales
    kernels = [_spread_kernel(grid, spread) for spread, _ in SPREADS]
    variance = _variance_of_session(images, steps, reference, kernels)
    reference = _widened(reference, variance)
    pixel_size_error = max((x.pixel_size_error for x in images), default=0.0)
    images = [replace(x, pixel_size_error=pixel_size_error) for x in images]
    errors = size_errors(reference, pixel_size_error=pixel_size_error)
    error = reference.size_per_diameter * pixel_size_error
    log_prior = _log_prior(grid, errors, prior)
    factor, contradicted, agreement = _test_known(images, steps, reference, kernels, log_prior)
    images = [
        replace(x, shares=None) if wrong and not x.keep_shares else x
        for x, wrong in zip(images, contradicted, strict=True)
    ]
    of_images = parallel_map(partial(image_evidence, steps=steps, reference=reference), images)
    evidence, shares = zip(*of_images, strict=True)
    likelihood, marginal, log_likelihood = _marginalise(np.array(evidence), kernels)
    joint = log_likelihood + log_prior
    for k in COMPRESSIONS:
        of_k = errors.compression == k
        evidence_for_k = logsumexp(joint[..., of_k]) - logsumexp(log_prior[..., of_k])
        joint[..., of_k] -= (1 - EVIDENCE_FOR_COMPRESSION) * evidence_for_k
    if prior is None and all(x.shares is None and x.anchor is None for x in images):
        power = reference.scatter**2 / (reference.scatter**2 + error**2)
        joint -= (1 - power) * logsumexp(joint, axis=(0, 2), keepdims=True)
    session = softmax(joint.ravel()).reshape(joint.shape)
    image_posterior, outlying = _image_posteriors(kernels, marginal, session, likelihood)
    scales = session.sum(axis=(0, 2))
    told = prior is not None or any(len(x.log_intensity) or x.anchor for x in images)
    modes = [
        _modes(grid, p, q, variance, told) for p, q in zip(image_posterior, shares, strict=True)
    ]
    mean = float(scales @ grid)
    return SessionScale(
        images=modes,
        log_scale=mean,
        log_scale_sd=float(np.sqrt(scales @ (grid - mean) ** 2 + STEP**2 / 12)),
        spread=float(session.sum(axis=(1, 2)) @ [spread for spread, _ in SPREADS]),
        size_error=float(session.sum(axis=(0, 1)) @ errors.common),
        size_error_sd=max(reference.scatter, error),
        outlying=outlying,
        grid=grid,
        posterior=scales,
        draws=draw_solutions(
            session, kernels, likelihood, grid, [x.log_scale for x in modes], _seed(images)
        ),
        measured=images,
        log_bayes_factor=factor,
        contradicted=contradicted,
        known_agreement=agreement,
    )


def _seed(images: Sequence[ImageMeasurements]) -> int:
    """Return the seed of the draws of a session: they are independent in other sessions.

    The numbers of clusters do not depend on rounding, which differs between processors: what is
    computed from the intensities does.
    """
    numbers = np.array([len(x.log_intensity) for x in images], np.int64)
    return zlib.crc32(numbers.tobytes())


def _image_posteriors(
    kernels: Sequence[np.ndarray],
    marginal: Sequence[np.ndarray],
    session: np.ndarray,
    likelihood: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the posteriors (n_images, n_scales, n_errors), and probabilities of outlying images.

    The values of the session are integrated out.
    """
    n_images, n_scales, _ = likelihood.shape
    posterior, outlying = np.zeros_like(likelihood), np.zeros(n_images)
    flat = OUTLYING / n_scales
    for kernel, m, p in zip(kernels, marginal, session, strict=True):
        weight = p / (m + 1e-300)
        posterior += likelihood * (kernel.T @ weight)
        outlying += flat * (weight.sum(axis=1) * likelihood.sum(axis=1)).sum(axis=1)
    return posterior / posterior.sum(axis=(1, 2), keepdims=True), outlying


def _marginalise(
    log_evidence: np.ndarray, kernels: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Integrate the scales of the images out.

    Parameters
    ----------
    log_evidence : ndarray of shape (n_images, n_scales, n_errors)
        Of the images.
    kernels : sequence of ndarray of shape (n_scales, n_scales)
        For each spread, the probability of the scale of an image given that of the session.

    Returns
    -------
    likelihood : ndarray of shape (n_images, n_scales, n_errors)
        Of the images, each with 1 as its largest value.
    marginal : list of ndarray of shape (n_images, n_scales, n_errors)
        For each spread, the same given the scale of the session.
    log_likelihood : ndarray of shape (n_spreads, n_scales, n_errors)
        Of the session.
    """
    top = log_evidence.max(axis=(1, 2), keepdims=True)
    likelihood = np.exp(log_evidence - top)
    marginal = [k @ likelihood for k in kernels]
    log_likelihood = np.stack([np.log(m + 1e-300).sum(axis=0) for m in marginal]) + top.sum()
    return likelihood, marginal, log_likelihood


def _variance_of_session(
    images: Sequence[ImageMeasurements],
    steps: ScaleSteps,
    reference: ApparentSize,
    kernels: Sequence[np.ndarray],
) -> float:
    """Return the one of `VARIANCES` that is nearest to the posterior mean of its logarithm."""
    with_clusters = [x for x in images if len(x.log_intensity)]
    n_clusters = sum(len(x.log_intensity) for x in with_clusters)
    # The same images as long as possible while a session grows: their evidence is kept.
    stride = 2 ** int(np.ceil(np.log2(max(n_clusters / CLUSTERS_FOR_VARIANCE, 1))))
    chosen = [replace(x, shares=None, pixel_size_error=0.0) for x in with_clusters[::stride]]
    if not chosen:
        return VARIANCES[0]
    errors = size_errors(reference, NO_COMPRESSION)
    log_prior = _log_prior(steps.scales, errors)
    log_variances = np.log(VARIANCES)
    log_posterior = -0.5 * (log_variances / LOG_VARIANCE_SD) ** 2
    for i, variance in enumerate(VARIANCES):
        wider = _widened(reference, variance)
        of_images = parallel_map(
            partial(image_evidence, steps=steps, reference=wider, compressions=NO_COMPRESSION),
            chosen,
        )
        evidence = np.array([found[0] for found in of_images])
        log_posterior[i] += logsumexp(_marginalise(evidence, kernels)[2] + log_prior)
    mean = softmax(log_posterior) @ log_variances
    return VARIANCES[int(np.abs(log_variances - mean).argmin())]


def _widened(reference: ApparentSize, variance: float) -> ApparentSize:
    """Multiply the variances of ln intensity; the correlations with the apparent size stay."""
    sd = np.sqrt(variance)
    wider = tuple(
        ((uu * variance, uv * sd), (vu * sd, vv)) for (uu, uv), (vu, vv) in reference.covariance
    )
    return replace(reference, covariance=wider)


def _log_prior(
    grid: np.ndarray, errors: SizeErrors, prior: tuple[float, float] | None = None
) -> np.ndarray:
    """Compute the log prior of spread, S and the errors of the sizes, up to a constant."""
    log_prior = errors.log_prior + np.zeros((len(grid), 1))
    if prior is not None:
        log_prior = log_prior - 0.5 * ((grid[:, None] - prior[0]) / prior[1]) ** 2
    return np.asarray(log_prior + np.log([p for _, p in SPREADS])[:, None, None])


def _test_known(
    images: Sequence[ImageMeasurements],
    steps: ScaleSteps,
    reference: ApparentSize,
    kernels: Sequence[np.ndarray],
    log_prior: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Test known compositions.

    The results have a value for each image, (n_images,): that of its composition, NaN without; and
    whether its clusters contradict it.
    """
    stated_shares = {
        i: with_tolerance(x.shares)
        for i, x in enumerate(images)
        if x.shares is not None and len(x.log_intensity)
    }
    known = list(stated_shares)
    factor, contradicted = np.full(len(images), np.nan), np.zeros(len(images), bool)
    if not known:
        return factor, contradicted, np.nan

    def log_marginal(image: ImageMeasurements, shares: np.ndarray | None = None) -> np.ndarray:
        log_evidence, _ = image_evidence(replace(image, shares=shares), steps, reference)
        top = log_evidence.max()
        likelihood = np.exp(log_evidence - top)
        return np.stack([np.log(k @ likelihood + 1e-300) for k in kernels]) + top

    context = log_prior.copy()
    for i in set(range(len(images))).difference(known):
        context += log_marginal(images[i])
    free = np.stack([log_marginal(images[i]) for i in known])
    stated = np.stack([log_marginal(images[i], shares) for i, shares in stated_shares.items()])
    factor[known], contradicted[known] = compare_statements(stated, free, context)
    if contradicted[known].all():
        return factor, contradicted, np.nan
    of_known = stated[~contradicted[known]].sum(axis=0)
    agreement = logsumexp(context + of_known) - logsumexp(context)
    agreement -= logsumexp(log_prior + of_known) - logsumexp(log_prior)
    return factor, contradicted, float(agreement)


def _scale_steps(images: Sequence[ImageMeasurements], reference: ApparentSize) -> ScaleSteps:
    """Return the range of scales at which any class can be in any image."""
    intensity = np.concatenate([x.log_intensity for x in images])
    ends = np.array([min(reference.log_intensity), max(reference.log_intensity)])
    anchors = np.array([x.anchor[0] for x in images if x.anchor is not None])
    origin = float(next(iter([*intensity[:1], *anchors[:1]]), 0.0))
    if len(intensity):
        low, high = np.quantile(intensity, [0.01, 0.99])
        anchors = np.append(anchors, [low - ends[1], high - ends[0]])
    if not len(anchors):
        anchors = np.zeros(1)
    low, high = (np.array([anchors.min() - MARGIN, anchors.max() + MARGIN]) - origin) / STEP
    return ScaleSteps(origin, int(np.floor(low)), int(np.ceil(high)))


def _spread_kernel(grid: np.ndarray, spread: float) -> np.ndarray:
    """Compute the probability of an image's scale (columns) given that of the session (rows)."""
    kernel = np.exp(-0.5 * ((grid[:, None] - grid) / spread) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.asarray((1 - OUTLYING) * kernel + OUTLYING / len(grid))


def _modes(
    grid: np.ndarray, posterior: np.ndarray, shares: np.ndarray, variance: float, is_known: bool
) -> ScaleModes:
    """Summarise the posterior (n_scales, n_errors) of an image by its modes."""
    left = posterior.sum(axis=1)
    scale: list[float] = []
    weight: list[float] = []
    share: list[np.ndarray] = []
    while len(scale) < MAX_MODES and left.max() > MIN_WEIGHT:
        near = np.where(np.abs(grid - grid[left.argmax()]) <= SAME_MODE, left, 0.0)
        part = posterior * (near > 0)[:, None]
        scale.append(near @ grid / near.sum())
        weight.append(near.sum())
        share.append(np.einsum("sd,sdc->c", part, shares) / part.sum())
        left = left - near
    order = np.argsort(weight)[::-1]
    total = np.array(weight)[order]
    of_modes = np.array(scale)[order], total / total.sum(), np.array(share)[order]
    return ScaleModes(*of_modes, variance, is_known)
