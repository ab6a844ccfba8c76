"""The evidence that the clusters of one image give for its scale and the errors of their sizes.

The model is that of `session_scale`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln

from ...core.acquisition_session import PIXEL_SIZE_ERROR
from ...core.apparent_size import ApparentSize

STEP = 0.04
"""Step of the grid of scales; less than the scatter of intensities within a class."""
ERROR_STEP = 0.5
MAX_ERROR = 2.5
"""The grid of common errors of the apparent size: step in standard deviations, and its end in those
of their scatter or of the error of the pixel size, whichever is larger."""
MAX_WIDENING = 5.0
"""Largest ratio of the error of the pixel size to that scatter for which the grid is widened."""
COMPRESSION = 0.115
COMPRESSIONS = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""Compression of the apparent sizes of a session: standard deviation, values on the grid."""
NO_COMPRESSION = (0.0,)
CONCENTRATION = 0.3
"""Dirichlet parameter of the shares of an image: less than 1, one size is likely."""
KNOWN_CLUSTERS = 200.0
"""Weight of a known composition, in clusters."""
MORE, SMALL = 4, 15.0
"""Iterations after the first two, and what they can add to a log evidence."""
NEGLIGIBLE = 25.0
"""Values on the grid whose log evidence is surely further below the largest one are iterated once.
"""
COARSE, IMPOSSIBLE = 2, 60.0
"""Scales whose log evidence without compression, at every second common error, is further below the
largest one are left out: 25 as above, and 35 for what other errors can change."""
SIZES_OF_OUTLIERS = 2.0
DENSITY_OF_OUTLIERS = 0.02 / (2.0 * SIZES_OF_OUTLIERS)
"""Of clusters: 2 %, flat over a range of 2 in ln intensity, and over this one of apparent sizes."""
_KEPT_STEPS = 10


@dataclass(frozen=True, eq=False)
class ImageMeasurements:
    """Measurements of one image that tell its scale."""

    # log_intensity, log_size: (n_clusters,): logarithms of the integrated intensities in counts
    # nm², and apparent sizes, of complete and isolated clusters
    log_intensity: np.ndarray
    log_size: np.ndarray
    shares: np.ndarray | None = None  # (n_classes,): known composition of the sample
    # mean and standard deviation of ln scale from another source, such as single atoms
    anchor: tuple[float, float] | None = None
    # whether the known composition is used even if the clusters contradict it
    keep_shares: bool = False
    # relative error (standard deviation) of the pixel size
    pixel_size_error: float = PIXEL_SIZE_ERROR
    # (n_clusters,) bool: of a stack, whose frames show the same clusters again, those of the frame
    # with the most; None: each is another cluster
    distinct: np.ndarray | None = None

    @property
    def distinct_log_intensity(self) -> np.ndarray:
        """The logarithms of the intensities, each cluster once."""
        return self.log_intensity if self.distinct is None else self.log_intensity[self.distinct]


class ScaleSteps(NamedTuple):
    """Logarithms of scales in steps from an origin, `first` to `last`.

    The origin is a cluster of the first image. The grid then stays the same while images are added
    to a session, and a gain that all images share moves it along.
    """

    origin: float
    first: int
    last: int

    @property
    def scales(self) -> np.ndarray:
        """Logarithms of all scales."""
        return self.origin + STEP * np.arange(self.first, self.last + 1)


class SizeErrors(NamedTuple):
    """Errors of the apparent sizes of a session, each with a common one d and a compression k."""

    common: np.ndarray  # (n_errors,)
    compression: np.ndarray  # (n_errors,)
    of_classes: np.ndarray  # (n_errors, n_classes)
    log_prior: np.ndarray  # (n_errors,)


def size_errors(
    reference: ApparentSize,
    compressions: Sequence[float] = COMPRESSIONS,
    pixel_size_error: float = 0.0,  # relative error (standard deviation) of the pixel size
) -> SizeErrors:  # for each compression, the same common errors
    """Return the errors of the apparent sizes on the grid."""
    of_pixel_size = reference.size_per_diameter * pixel_size_error / reference.scatter
    n = round(MAX_ERROR / ERROR_STEP * min(max(1.0, of_pixel_size), MAX_WIDENING))
    errors = ERROR_STEP * np.arange(-n, n + 1)
    d = np.tile(errors, len(compressions))
    k = np.repeat(compressions, len(errors))
    size = np.array(reference.log_size)
    common = d * reference.scatter
    of_classes = common[:, None] - k[:, None] * (size - size.mean())
    return SizeErrors(common, k, of_classes, -0.5 * (d**2 + (k / COMPRESSION) ** 2))


def image_evidence(
    image: ImageMeasurements,
    steps: ScaleSteps,
    reference: ApparentSize,
    compressions: tuple[float, ...] = COMPRESSIONS,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the log evidence of an image for each scale and error of the sizes.

    Without the anchor it is kept: the next image of the session needs it again, in a similar range.

    Returns
    -------
    log_evidence : ndarray of shape (n_scales, n_errors)
        With the shares integrated out: the variational lower bound.
    shares : ndarray of shape (n_scales, n_errors, n_classes)
        Posterior means of the shares.
    """
    origin, first, last = steps
    begin, end = first // _KEPT_STEPS * _KEPT_STEPS, -(-last // _KEPT_STEPS) * _KEPT_STEPS
    measured = (image.log_intensity, image.log_size, image.shares)
    content = (None if x is None else np.asarray(x, float).tobytes() for x in measured)
    wider = ScaleSteps(origin, begin, end)
    log_evidence, shares = _kept_evidence(
        *content, wider, reference, compressions, image.pixel_size_error
    )
    part = slice(first - begin, last - begin + 1)
    log_evidence, shares = log_evidence[part], shares[part]
    if image.anchor is not None:
        off = (steps.scales - image.anchor[0]) / image.anchor[1]
        log_evidence = log_evidence - 0.5 * off[:, None] ** 2
    return log_evidence, shares


@lru_cache(maxsize=512)
def _kept_evidence(
    log_intensity: bytes,
    log_size: bytes,
    shares: bytes | None,
    steps: ScaleSteps,
    reference: ApparentSize,
    compressions: tuple[float, ...],
    pixel_size_error: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute `image_evidence` of float64 measurements without anchor."""
    image = ImageMeasurements(np.frombuffer(log_intensity), np.frombuffer(log_size))
    n_classes = len(reference.log_size)
    prior = np.full(n_classes, CONCENTRATION)
    if shares is not None:
        prior = prior / n_classes + KNOWN_CLUSTERS * np.frombuffer(shares)
    errors = size_errors(reference, compressions, pixel_size_error)
    shape = (len(errors.common), len(steps.scales))

    def begin(
        some_errors: np.ndarray, scales: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        density = _densities(image, scales, some_errors, reference)
        alpha = prior[:, None] + density.shape[1] / n_classes
        return density, *_integrate_shares(density, alpha, prior, 1)

    # Most scales are impossible whatever the errors are.
    some = errors.of_classes[errors.compression == min(abs(errors.compression))]
    coarse = begin(some[::COARSE], steps.scales)[1].reshape(-1, shape[1]).max(axis=0)
    near = np.flatnonzero(coarse > coarse.max() - IMPOSSIBLE)
    density, log_evidence, alpha = begin(errors.of_classes, steps.scales[near])
    # A first iteration has equal shares; others increase a density by this factor at most, and the
    # evidence after the second one by little.
    for n_iterations, increase in ((1, density.shape[1] * np.log(n_classes)), (MORE, SMALL)):
        likely = np.flatnonzero(log_evidence + increase > log_evidence.max() - NEGLIGIBLE)
        log_evidence[likely], alpha[:, likely] = _integrate_shares(
            density[..., likely], alpha[:, likely], prior, n_iterations
        )
    evidence = np.full(shape, -np.inf)
    mean_shares = np.full((n_classes, *shape), 1 / n_classes)
    evidence[:, near] = log_evidence.reshape(shape[0], len(near))
    mean_shares[..., near] = (alpha / alpha.sum(axis=0)).reshape(n_classes, shape[0], len(near))
    return evidence.T, mean_shares.transpose(2, 1, 0)


def _integrate_shares(
    density: np.ndarray, alpha: np.ndarray, prior: np.ndarray, n_iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Integrate the shares of an image out by variational Bayes, for P scales and errors.

    Parameters
    ----------
    density : ndarray of shape (n_classes, n_clusters, P)
        Of each cluster in each class.
    alpha : ndarray of shape (n_classes, P) or (n_classes, 1)
        Dirichlet parameters to begin with.
    prior : ndarray of shape (n_classes,)
        Dirichlet parameters of the prior.

    Returns
    -------
    log_evidence : ndarray of shape (P,)
        The variational lower bound of the last iteration.
    alpha : ndarray of shape (n_classes, P)
        Dirichlet parameters of the posterior.
    """
    prior = prior[:, None]
    for _ in range(n_iterations):
        before = alpha
        log_share = digamma(before) - digamma(before.sum(axis=0))
        weight = np.exp(log_share).astype(np.float32)
        total = np.einsum("cnp,cp->np", density, weight) + np.float32(DENSITY_OF_OUTLIERS)
        alpha = prior + np.einsum("cnp,np->cp", density, 1 / total) * weight
    log_evidence = np.log(total).sum(axis=0, dtype=float)
    log_evidence += gammaln(before).sum(axis=0) - gammaln(before.sum(axis=0))
    log_evidence -= gammaln(prior).sum() - gammaln(prior.sum())
    log_evidence -= ((before - prior) * log_share).sum(axis=0)
    return log_evidence, alpha


def _densities(
    image: ImageMeasurements, grid: np.ndarray, errors: np.ndarray, reference: ApparentSize
) -> np.ndarray:
    """Compute the density of each cluster in each class: (C, n_clusters, n_errors * n_scales).

    It is p(ln I) p(z)^w; within a class both are hardly correlated. Clusters of an image are not
    independent: the power w counts their sizes as those of fewer clusters, which limits what a
    common error of theirs can decide.
    """
    n_clusters = len(image.log_size)
    power = reference.independent_clusters(n_clusters) / max(n_clusters, 1)
    variance, size_variance = np.array(reference.covariance)[:, (0, 1), (0, 1)].T[..., None, None]
    intensity, size = np.array(reference.log_intensity), np.array(reference.log_size)
    u = image.log_intensity[:, None] - intensity[:, None, None] - grid  # (C, N, S)
    v = image.log_size[:, None] - size[:, None, None] - errors.T[:, None]  # (C, N, D)
    along = np.exp(-0.5 * u**2 / variance) / np.sqrt(2 * np.pi * variance)
    across = np.exp(-0.5 * power * v**2 / size_variance) / (2 * np.pi * size_variance) ** (
        power / 2
    )
    across *= SIZES_OF_OUTLIERS ** (power - 1)
    density = across.astype(np.float32)[..., None] * along.astype(np.float32)[:, :, None]
    return density.reshape(*v.shape[:2], len(errors) * len(grid))
