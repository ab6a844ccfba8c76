"""Posterior of the scale of a session by each of its sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.apparent_size import ApparentSize
from .session_scale import SPREADS, ImageMeasurements, fit_session

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
    """What one source tells of the scale of a session.

    Parameters
    ----------
    name : str
        Name of the source.
    grid, posterior : ndarray of shape (n_scales,)
        Values of ln scale, and their probabilities by this source alone.
    """

    name: str
    grid: np.ndarray
    posterior: np.ndarray


def fit_sources(
    images: Sequence[ImageMeasurements],
    reference: ApparentSize,
    prior: tuple[float, float] | None = None,
) -> list[ScaleSource]:
    """Find the scale of a session by each of its sources alone.

    Parameters
    ----------
    images : sequence of ImageMeasurements
        Images of the session.
    reference : ApparentSize
        Distributions of the classes.
    prior : tuple of float, optional
        Mean and standard deviation of the session's ln scale, from an earlier session.

    Returns
    -------
    list of ScaleSource
        Of the sources that the session has; none in a session of more than `MAX_CLUSTERS`.
    """
    if sum(len(x.log_intensity) for x in images) > MAX_CLUSTERS:
        return []
    clusters = [replace(x, shares=None, anchor=None) for x in images if len(x.log_intensity)]
    parts = {
        INTENSITIES: [replace(x, log_size=np.zeros(len(x.log_size))) for x in clusters],
        SIZES: clusters,
        KNOWN: [replace(x, anchor=None, keep_shares=True) for x in images if x.shares is not None],
    }
    anchors = [x.anchor for x in images if x.anchor is not None]
    if not (parts[KNOWN] or anchors or prior):
        del parts[SIZES]  # that is the joint posterior
    found = []
    for name, measured in parts.items():
        if measured:
            alone = without_sizes(reference) if name == INTENSITIES else reference
            session = fit_session(measured, alone)
            found.append(ScaleSource(name, session.grid, session.posterior))
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


def without_sizes(reference: ApparentSize) -> ApparentSize:
    """Return the reference for clusters whose apparent sizes are all zero and tell nothing."""
    n = len(reference.log_size)
    variance = [c[0][0] for c in reference.covariance]
    independent = tuple(((v, 0.0), (0.0, 1.0)) for v in variance)
    return replace(reference, log_size=(0.0,) * n, covariance=independent, scatter=1e-9)
