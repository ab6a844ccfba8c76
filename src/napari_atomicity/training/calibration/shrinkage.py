"""References of the classes from few images, shrunk to those of the model that is trained further.

The clusters of an image share focus, dose and often few isomers, so that they are not independent.
An image therefore counts as one cluster: many images move a reference, many clusters of few images
do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.apparent_size import ApparentSize
from ...core.model_card import ModelCard
from ...core.scale_reference import Covariance, ScaleReference
from ...models.estimators import class_sizes
from ...models.scale.image_evidence import COMPRESSION
from ...models.scale.intensity_scale import usable
from .scaling import intensity_in_atoms

COMMON_DIAMETER_ERROR = 0.10
"""Common shift of ln diameter of all classes between conditions: its standard deviation. Blur and
pixel size change all diameters alike."""
CLASS_ERROR = 0.03
"""Standard deviation of the deviation of one class from that shift: of ln diameter, and of the
apparent size. The isomers of a sample move the means of their classes by about as much."""
NEW_CLASS_ERROR = 0.15
"""The same of a class that the model did not have, whose mean is interpolated in ln(atoms)."""
CORRELATION_OF_SAMPLES = 0.02
"""At least that of a model of simulated sessions, which have more isomers than samples. Of 0, 0.02
and 0.04 it gives the truth the largest likelihood in 52 simulated sessions of single sizes."""
USUAL_CORRELATION = 0.04
IMAGES_OF_CORRELATION = 10.0
"""Correlation of the apparent sizes of clusters of one class in an image, in simulated images with
ten isomers of each class, and the weight in images of that of a model."""
IMAGES_OF_COVARIANCE = 30.0
"""Weight of the covariances of the model, in images: the isomers of a sample scatter less."""


class ClassPrior(NamedTuple):
    """Means of the classes before images are seen, (C,), and what they may deviate by.

    ``common`` is the standard deviation of a shift of all classes, and ``own`` (C,) that of each
    class about it and about what blur does: it brings the classes nearer to their mean, or sharper
    images part them, by a factor 1 ± `COMPRESSION`.
    """

    mean: np.ndarray
    common: float
    own: np.ndarray


def shrink_means(
    prior: ClassPrior, value: np.ndarray, label: np.ndarray, image: np.ndarray, scatter: np.ndarray
) -> np.ndarray:
    """Compute posterior means of classes from the clusters of few images.

    Model: the mean of class c is ``m_c + D - k (m_c - m) + e_c`` with the means m_c of the prior,
    m their mean, and normal D, k and e_c. The mean of each image scatters about it as one cluster
    does. The posterior mean is in closed form [1]_.

    Parameters
    ----------
    prior : ClassPrior
        Means of the C classes with their standard deviations.
    value : ndarray of shape (N,)
        Measured values of the clusters, such as ln diameter.
    label : ndarray of shape (N,)
        Class indices.
    image : ndarray of shape (N,)
        Name of the image of each cluster.
    scatter : ndarray of shape (C,)
        Standard deviation of the values of single clusters in each class.

    Returns
    -------
    ndarray of shape (C,)
        Posterior means; those of the prior without clusters.

    References
    ----------
    .. [1] A. Gelman et al., Bayesian Data Analysis, 3rd ed., chapter 5 (hierarchical models), 2013.
    """
    of_image = pd.Series(value).groupby([label, image]).median()
    grouped = of_image.groupby(level=0)
    classes = np.unique(label)
    if not len(classes):
        return prior.mean
    deviation = grouped.mean().to_numpy() - prior.mean[classes]
    error = scatter[classes] ** 2 / grouped.size().to_numpy()
    away = prior.mean - prior.mean.mean()
    covariance = prior.common**2 + COMPRESSION**2 * np.outer(away, away) + np.diag(prior.own**2)
    of_images = covariance[np.ix_(classes, classes)] + np.diag(error)
    change = covariance[:, classes] @ np.linalg.solve(of_images, deviation)
    return np.asarray(prior.mean + change)


def shrink_covariances(
    # (C, 2, 2): covariances of the model that training starts from, which count as
    # `IMAGES_OF_COVARIANCE`
    start: np.ndarray,
    x: np.ndarray,  # (2, N): measured values of the clusters
    # label, image, each (N,): class index and image of each cluster
    label: np.ndarray,
    image: np.ndarray,
) -> tuple[Covariance, ...]:
    """Combine covariances of the classes with those within images."""
    frame = pd.DataFrame(x.T)
    within = (frame - frame.groupby([label, image]).transform("mean")).to_numpy().T
    out = np.array(start, float)
    for c in np.unique(label):
        rows = label == c
        n_images = len(np.unique(image[rows]))
        if rows.sum() <= n_images + 2:
            continue
        own = within[:, rows] @ within[:, rows].T / (rows.sum() - n_images)
        weight = n_images / (n_images + IMAGES_OF_COVARIANCE)
        out[c] = weight * own + (1 - weight) * out[c]
    return tuple(((a, b), (c, d)) for (a, b), (c, d) in out.tolist())


def shrink_correlation(
    size: np.ndarray, sample: np.ndarray, image: np.ndarray, start: float = USUAL_CORRELATION
) -> float:
    """Estimate the correlation of the apparent sizes of clusters of one class in an image.

    By the method of moments [1]_: the means of images of a sample differ by what their clusters
    have in common, and by the scatter within images.

    Parameters
    ----------
    size : ndarray of shape (N,)
        Apparent sizes.
    sample, image : ndarray of shape (N,)
        Class of each cluster, in sets of several sessions with its session; and its image.

    Returns
    -------
    float
        Correlation, from 0 to 1.

    References
    ----------
    .. [1] A. Donner, J. J. Koval, Biometrics 36, 19 (1980) (intraclass correlation).
    """
    images = pd.Series(size).groupby([sample, image]).agg(["mean", "var", "size"])
    images = images[images["size"] > 1]
    found, weight = start * IMAGES_OF_CORRELATION, IMAGES_OF_CORRELATION
    for _, own in images.groupby(level=0):
        if len(own) < 2:
            continue
        within = np.average(own["var"], weights=own["size"] - 1)
        between = own["mean"].var() - within * np.mean(1 / own["size"])
        found += (len(own) - 1) * between / max(between + within, 1e-12)
        weight += len(own) - 1
    return float(np.clip(found / weight, 0, 1))


def class_prior(
    card: ModelCard,  # card of the model that training starts from
    means: Sequence[float],
    # Classes of the new model. Those that the model lacks are interpolated in ln(atoms), of unit
    # slope beyond.
    classes: Sequence[str],
    common: float,
    own: float,
) -> ClassPrior | None:
    """Return means of classes by those of a model; None if a class names no number of atoms."""
    sizes, known = class_sizes(classes), class_sizes(card.classes)
    mean, at = np.array(means), None if known is None else np.log(known)
    shared = np.array([c in card.classes for c in classes])
    if not shared.all() and (sizes is None or at is None or not (np.diff(at) > 0).all()):
        return None
    values = np.array([mean[card.classes.index(c)] if c in card.classes else 0.0 for c in classes])
    if sizes is not None and at is not None and not shared.all():
        slope = np.polyfit(at, mean, 1)[0]
        log_size = np.log(sizes)
        beyond = np.minimum(log_size - at[0], 0) + np.maximum(log_size - at[-1], 0)
        between = np.interp(log_size, at, mean) + slope * beyond
        values = np.where(shared, values, between)
    return ClassPrior(values, common, np.where(shared, own, NEW_CLASS_ERROR))


def _start_covariances(
    card: ModelCard, covariance: Sequence[Covariance], classes: Sequence[str]
) -> np.ndarray:
    """Return covariances (C, 2, 2) of classes; the mean of all for one that the model lacks."""
    given = np.array(covariance)
    mean = given.mean(axis=0)
    return np.array([given[card.classes.index(c)] if c in card.classes else mean for c in classes])


class _Clusters(NamedTuple):
    """Usable clusters of known class: their rows of the table, class indices and images."""

    table: pd.DataFrame
    label: np.ndarray
    image: np.ndarray


def _usable_clusters(table: pd.DataFrame, classes: Sequence[str]) -> _Clusters:
    rows = usable(table) & table["truth"].isin(list(classes)).to_numpy()
    table = table[rows]
    label = table["truth"].map(list(classes).index).to_numpy(int)
    return _Clusters(table, label, table["image"].to_numpy(str))


def shrink_scale_reference(
    table: pd.DataFrame, classes: Sequence[str], start: ModelCard
) -> ScaleReference | None:
    """Fit the diameters of the classes, shrunk to a model; intensities are those of the model.

    In images of one size each, the intensity of one atom is known only by the mean intensity of the
    class. How much brighter or fainter than its number of atoms a class is can't be learnt there.
    """
    if start.scale is None:
        return None
    scale = start.scale
    intensity = class_prior(start, scale.log_intensity, classes, 0.0, 0.0)
    diameter = class_prior(start, scale.log_diameter, classes, COMMON_DIAMETER_ERROR, CLASS_ERROR)
    if intensity is None or diameter is None:
        return None
    covariance = _start_covariances(start, scale.covariance, classes)
    clusters = _usable_clusters(table, classes)
    x = np.log([intensity_in_atoms(clusters.table), clusters.table["diameter_nm"].to_numpy(float)])
    scatter = np.sqrt(covariance[:, 1, 1])
    log_diameter = shrink_means(diameter, x[1], clusters.label, clusters.image, scatter)
    return ScaleReference(
        tuple(map(float, intensity.mean)),
        tuple(map(float, log_diameter)),
        shrink_covariances(covariance, x, clusters.label, clusters.image),
        scale.diameter_scatter,
    )


def shrink_apparent_size(
    # (N, n_features): features of the clusters. Those that give the apparent size are of the same
    # weights as in the model that training starts from.
    embedding: np.ndarray,
    table: pd.DataFrame,
    classes: Sequence[str],
    start: ModelCard,
) -> ApparentSize | None:
    """Fit the apparent sizes of the classes, shrunk to a model whose features are unchanged.

    The result is None if the model has none, or its classes can't be compared with these.
    """
    of_start = start.apparent_size
    if of_start is None:
        return None
    intensity = class_prior(start, of_start.log_intensity, classes, 0.0, 0.0)
    size = class_prior(start, of_start.log_size, classes, of_start.scatter, CLASS_ERROR)
    if intensity is None or size is None:
        return None
    measured = of_start.measure(embedding, table["diameter_nm"].to_numpy(float))
    clusters = _usable_clusters(table[np.isfinite(measured)].assign(apparent=measured), classes)
    x = np.stack(
        [np.log(intensity_in_atoms(clusters.table)), clusters.table["apparent"].to_numpy(float)]
    )
    covariance = _start_covariances(start, of_start.covariance, classes)
    scatter = np.sqrt(covariance[:, 1, 1])
    label, image = clusters.label, clusters.image
    log_size = shrink_means(size, x[1], label, image, scatter)
    start_correlation = max(of_start.correlation, USUAL_CORRELATION)
    return replace(
        of_start,
        log_intensity=tuple(map(float, intensity.mean)),
        log_size=tuple(map(float, log_size)),
        covariance=shrink_covariances(covariance, x, label, image),
        correlation=shrink_correlation(x[1], label, image, start_correlation),
    )
