"""Test of the sizes of an acquisition session, by intensities, apparent sizes and known samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.apparent_size import ApparentSize
from ..statistics.ratio_notes import CANNOT_TELL, FITS, MAX_EXCESS
from .class_fit import ClassFit, compare_with_classes
from .image_evidence import ImageMeasurements
from .peak_mixtures import MARGIN
from .session_scale import MIN_SIZES, SessionScale

N_NODES = 41
N_SCATTERS = 3.0
"""Standard deviations of the common scale that are considered."""
MAX_EXCESS_OF_TWO = 6.5
"""`MAX_EXCESS` of sessions of two sizes: at most 6.0 in 40 simulated ones."""
MIN_SIZES_OF_MIXTURES = 1.3
"""Number of sizes in an image above which it is a mixture: at most 1.1 in images of one size."""


def fit_session_classes(
    images: Sequence[ImageMeasurements],
    reference: ApparentSize,
    sizes: np.ndarray,
    spread: float,
    prior: tuple[float, float] | None = None,
) -> ClassFit | None:
    """Test whether the sizes of a session are those of the model's classes.

    The common scale comes from everything but the intensities of unknown samples, see
    `scale_without_classes`: a scale at which these fit the classes best would make every session
    fit.

    Parameters
    ----------
    images : sequence of ImageMeasurements
        Images of one session. Those of known composition have no part in the test itself.
    sizes : ndarray of shape (n_classes,)
        Numbers of atoms of the classes, ascending.
    spread : float
        Standard deviation of ln scale between the images, from `SessionScale`.
    prior : tuple of float, optional
        Mean and standard deviation of the session's ln scale, from an earlier session.

    Returns
    -------
    ClassFit or None
        None if larger classes are not brighter, or no cluster tells the scale.
    """
    class_intensity, class_count = np.array(reference.log_intensity), np.log(sizes)
    unknown = [x for x in images if x.shares is None]
    scale = scale_without_classes(images, reference, spread, prior)
    if not unknown or scale is None or not (np.diff(class_intensity) > 0).all():
        return None
    u = np.concatenate([x.log_intensity for x in unknown]) - scale[0]
    count = _log_count(u, class_intensity, class_count)
    nodes = np.linspace(-N_SCATTERS, N_SCATTERS, N_NODES)
    return compare_with_classes(
        count,
        class_count,
        np.sqrt(np.array(reference.covariance)[:, 0, 0]),
        nodes * scale[1],
        np.exp(-0.5 * nodes**2),
        np.repeat(np.arange(len(unknown)), [len(x.log_intensity) for x in unknown]),
        spread,
    )


def _log_count(u: np.ndarray, class_intensity: np.ndarray, class_count: np.ndarray) -> np.ndarray:
    """Return ln(number of atoms) of ln(intensity in atoms), linear between the classes."""
    beyond = np.minimum(u - class_intensity[0], 0) + np.maximum(u - class_intensity[-1], 0)
    return np.asarray(np.interp(u, class_intensity, class_count) + beyond)


def answer_of_session(fit: ClassFit, session: SessionScale, reference: ApparentSize) -> str:
    """Return whether the sizes of a session are those of the classes, by all that is known of it.

    Two or more free peaks that are more likely than the classes leave it open, above all if the
    classes need a common error d of the apparent sizes: its log prior counts as well. Images of one
    size, each with its own scale, tell nothing of their ratios.

    Parameters
    ----------
    session : SessionScale
        Joint posterior of the scales.

    Returns
    -------
    str
        `FITS`, `DOES_NOT_FIT` or `CANNOT_TELL`.
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
    session: SessionScale,
    reference: ApparentSize,
    sizes: np.ndarray,
) -> ClassFit:
    """Return a session that fits the classes with the numbers of atoms by which it is labelled.

    Free peaks are not of interest then: with other scales of the images, fewer peaks than there are
    classes can fit as well.

    Parameters
    ----------
    session : SessionScale
        Joint posterior of their scales.
    sizes : ndarray of shape (n_classes,)
        Numbers of atoms of the classes, ascending.

    Returns
    -------
    ClassFit
        With the histogram by the best scale of each image, and the classes as peaks.
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
    fit: ClassFit | None,
    session: SessionScale,
    reference: ApparentSize,
    prior: tuple[float, float] | None = None,
) -> float:
    """Return the standard deviation of ln scale for numbers of atoms that may be between classes.

    Parameters
    ----------
    fit : ClassFit or None
        Result of `fit_session_classes` with the answer of `answer_of_session`.
    session : SessionScale
        Joint posterior of the scales.
    prior : tuple of float, optional
        Mean and standard deviation of the session's ln scale, from an earlier session.

    Returns
    -------
    float
        0 if the ratios of three sizes or more fit the classes, which then tell the scale.
    """
    if fit is None or (fit.fits and not session.relies_on_sizes):
        return 0.0
    scale = scale_without_classes(session.measured, reference, session.spread, prior)
    return 0.0 if scale is None else scale[1]


def scale_without_classes(
    images: Sequence[ImageMeasurements],
    reference: ApparentSize,
    spread: float,
    prior: tuple[float, float] | None = None,
) -> tuple[float, float] | None:
    """Estimate the scale of a session without the intensities of unknown samples.

    Sources are the apparent sizes, images of known composition, anchors of images (single atoms),
    and an earlier session. Each is normal; they are combined with the inverse of their variances.

    Parameters
    ----------
    spread : float
        Standard deviation of ln scale between the images.
    prior : tuple of float, optional
        Mean and standard deviation of the session's ln scale, from an earlier session.

    Returns
    -------
    tuple of float or None
        Mean and standard deviation of the session's ln scale; None without a source.
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
