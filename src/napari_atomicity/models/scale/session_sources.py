"""Posterior of the scale of a session by each of its sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.apparent_size import ApparentSize
from .image_evidence import ImageMeasurements
from .session_scale import SPREADS, SessionScale, fit_session

INTENSITIES, SIZES, KNOWN, ATOMS, EARLIER = (
    "intensities",
    "intensities and sizes",
    "known samples",
    "lone atoms",
    "earlier session",
)
"""Names of the sources. Sizes tell the scale together with intensities only."""
MAX_CLUSTERS = 3000
"""Number of clusters above which a session is not fitted once more for each source."""


@dataclass(frozen=True, eq=False)
class ScaleSource:
    """What one source tells of the scale of a session."""

    name: str
    # grid, posterior: (n_scales,): values of ln scale, and their probabilities by this source alone
    grid: np.ndarray
    posterior: np.ndarray


def fit_sources(
    images: Sequence[ImageMeasurements],
    reference: ApparentSize,
    # Mean and standard deviation of the session's ln scale, from an earlier session
    prior: tuple[float, float] | None = None,
) -> list[ScaleSource]:
    """Find the scale of a session by each of its sources alone.

    Only sources that the session has are used; there are none in a session of more than
    `MAX_CLUSTERS`.
    """
    if sum(len(x.log_intensity) for x in images) > MAX_CLUSTERS:
        return []
    clusters = [replace(x, shares=None, anchor=None) for x in images if len(x.log_intensity)]
    parts = {
        SIZES: clusters,
        KNOWN: [replace(x, anchor=None, keep_shares=True) for x in images if x.shares is not None],
    }
    anchors = [x.anchor for x in images if x.anchor is not None]
    if not (parts[KNOWN] or anchors or prior):
        del parts[SIZES]  # that is the joint posterior
    sessions = {}
    if clusters:
        sessions[INTENSITIES] = fit_intensities([x.log_intensity for x in clusters], reference)
    sessions |= {name: fit_session(x, reference) for name, x in parts.items() if x}
    found = [ScaleSource(name, x.grid, x.posterior) for name, x in sessions.items()]
    if anchors:
        spread = float(np.dot(*np.array(SPREADS).T))
        mean, sd = np.array(anchors).T
        weight = 1 / (sd**2 + spread**2)
        found.append(_normal(ATOMS, float(weight @ mean / weight.sum()), weight.sum() ** -0.5))
    if prior is not None:
        found.append(_normal(EARLIER, *prior))
    return found


def _normal(name: str, mean: float, sd: float) -> ScaleSource:
    """Return a source that tells a normal distribution."""
    z = np.linspace(-4, 4, 81)
    density = np.exp(-0.5 * z**2)
    return ScaleSource(name, mean + sd * z, density / density.sum())


def fit_intensities(
    # each (n_clusters,): logarithms of the integrated intensities in counts nm² of the clusters of
    # each image
    log_intensity: Sequence[np.ndarray],
    # Distributions of the classes, of which only those of the intensity are used
    reference: ApparentSize,
) -> SessionScale:
    """Find the scales of the images of a session by the intensities of their clusters alone."""
    n = len(reference.log_size)
    independent = tuple(((c[0][0], 0.0), (0.0, 1.0)) for c in reference.covariance)
    # sizes that are all the same, without a common error, tell nothing
    without = replace(reference, log_size=(0.0,) * n, covariance=independent, scatter=1e-9)
    images = [ImageMeasurements(x, np.zeros(len(x)), pixel_size_error=0.0) for x in log_intensity]
    return fit_session(images, without)
