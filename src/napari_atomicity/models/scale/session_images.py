"""Scales of classified images: their clusters measured, and the posterior of a session applied.

The posterior is fitted to each of the sources of a session, or to all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import softmax

from ...core.apparent_size import ApparentSize
from ...core.errors import ModelError
from ...core.model_card import ModelCard
from ...core.scale_reference import ScaleReference
from ..analysis import Analysis
from .image_evidence import ImageMeasurements
from .intensity_scale import ConstrainedMixture, is_bright, unknown_scale, usable
from .session_scale import SPREADS, ScaleModes, SessionScale, fit_session

MAX_BEYOND = 0.7
"""Difference of ln intensity by which the median cluster may be smaller or larger than all classes
if lone atoms tell the scale."""


def session_references(card: ModelCard) -> tuple[ApparentSize, ScaleReference] | None:
    """Return the references by which a model finds the scales of a session; None if it has none."""
    if card.scale is None:
        return None
    return card.apparent_size or ApparentSize.from_diameters(card.scale), card.scale


def require_references(card: ModelCard) -> tuple[ApparentSize, ScaleReference]:
    """Return the references by which a model finds scales; raise `ModelError` if it has none."""
    references = session_references(card)
    if references is None:
        raise ModelError(f"{card.name} has no reference of the intensity scale")
    return references


def measure_image(
    table: pd.DataFrame,
    embedding: np.ndarray,
    reference: ApparentSize,
    scale: ScaleReference,
    lone_atoms: Mapping[str, float] | None = None,
) -> ImageMeasurements:
    """Measure what the clusters of an image tell of its scale.

    Parameters
    ----------
    embedding : ndarray of shape (n_clusters, n_features)
        Features of the network for the same clusters.
    scale : ScaleReference
        Reference of the intensities, to leave out what is too faint for a cluster.

    Returns
    -------
    ImageMeasurements
        Of the complete, isolated clusters that are bright enough.
    """
    size = reference.measure(embedding, table["diameter_nm"].to_numpy(float))
    table, size = table[np.isfinite(size)], size[np.isfinite(size)]
    rows = bright_rows(table, scale)
    log_intensity = np.log(table["integrated_intensity"].to_numpy(float)[rows])
    anchor = _anchor(lone_atoms, log_intensity, reference)
    frame = table["frame"].to_numpy(int)[rows] if "frame" in table.columns else rows * 0
    distinct = frame == np.bincount(frame).argmax() if len(np.unique(frame)) > 1 else None
    return ImageMeasurements(log_intensity, size[rows], anchor=anchor, distinct=distinct)


def bright_rows(table: pd.DataFrame, scale: ScaleReference) -> np.ndarray:
    """Return the rows of the complete, isolated clusters that are not too faint for a cluster."""
    rows = np.flatnonzero(usable(table))
    return rows[is_bright(table["integrated_intensity"].to_numpy(float)[rows], scale)]


def _anchor(
    lone_atoms: Mapping[str, float] | None, log_intensity: np.ndarray, reference: ApparentSize
) -> tuple[float, float] | None:
    """Return mean and standard deviation of ln scale by lone atoms.

    None without calibration, or if the median cluster is no class by far: then what was measured
    are no atoms of the metal of the clusters.
    """
    if lone_atoms is None or reference.lone_atoms is None or not len(log_intensity):
        return None
    shift, scatter = reference.lone_atoms
    scale = float(np.log(lone_atoms["intensity"])) + shift
    typical = float(np.median(log_intensity)) - scale
    smallest, largest = min(reference.log_intensity), max(reference.log_intensity)
    if not smallest - MAX_BEYOND < typical < largest + MAX_BEYOND:
        return None
    return scale, float(np.hypot(scatter, lone_atoms["error"]))


def measure_analysis(
    analysis: Analysis, references: tuple[ApparentSize, ScaleReference]
) -> ImageMeasurements:
    """Measure what the clusters and the lone atoms of an analysed image tell of its scale."""
    lone_atoms = analysis.parameters.get("lone_atoms")
    return measure_image(analysis.table, analysis.embedding, *references, lone_atoms)


def find_scales(
    images: Sequence[ImageMeasurements],
    tables: Sequence[pd.DataFrame],
    reference: ApparentSize,
    scale: ScaleReference,  # reference of intensities and diameters
) -> list[ConstrainedMixture]:
    """Find the scales of the images of a session of which nothing else is known.

    The scale of each image has a solution for each mode of its posterior.
    """
    pairs = zip(fit_session(images, reference).images, tables, strict=True)
    return [mixture_of_modes(modes, table, scale) for modes, table in pairs]


def mixture_of_modes(
    modes: ScaleModes, table: pd.DataFrame, reference: ScaleReference
) -> ConstrainedMixture:
    """Return the constrained mixture of an image whose scale is known up to its modes.

    The common error of the diameters follows from the clusters in each mode, by one step of
    expectation-maximisation with the classes by intensity, under its prior.
    """
    if not modes.is_known:
        return unknown_scale(reference)
    rows = np.asarray(usable(table))
    u = np.log(table["integrated_intensity"].to_numpy(float)[rows])
    v = np.log(table["diameter_nm"].to_numpy(float)[rows])
    variance = np.array(reference.covariance)[:, 1, 1]
    member = probabilities_by_intensity(u, modes, reference) / variance
    prior = reference.diameter_scatter**-2
    error = (member * (v[:, None] - np.array(reference.log_diameter))).sum(axis=(1, 2))
    shift = np.stack([modes.log_scale, error / (member.sum(axis=(1, 2)) + prior)], axis=1)
    # With the scatter of the reference: the confidence of labels is calibrated with it, and the
    # second network learnt with it. With a wider one, biased diameters count more than intensities.
    spread = np.ones_like(shift)
    return ConstrainedMixture(reference, modes.weight, shift, modes.shares, spread)


def probabilities_by_intensity(
    # (n_clusters,): logarithms of the integrated intensities in counts nm²
    log_intensity: np.ndarray,
    modes: ScaleModes,
    reference: ScaleReference,
) -> np.ndarray:  # (n_modes, n_clusters, n_classes): probabilities in each mode
    """Compute the class probabilities of the clusters of an image by their intensities alone."""
    variance = np.array(reference.covariance)[:, 0, 0] * modes.variance
    residual = (
        log_intensity[:, None] - np.array(reference.log_intensity) - modes.log_scale[:, None, None]
    )
    log_p = -0.5 * residual**2 / variance - 0.5 * np.log(variance)
    return np.asarray(softmax(log_p + np.log(modes.shares)[:, None], axis=2))


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
