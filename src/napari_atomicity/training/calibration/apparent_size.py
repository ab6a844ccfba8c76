"""Fit the apparent size of clusters, by which the scales of a session are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ...core.apparent_size import ApparentSize
from ...core.model_card import ModelCard
from ...core.scale_reference import tied_covariances
from ...models.estimators import class_sizes
from ...models.inference import Classifier
from ...models.scale.intensity_scale import usable
from ..data import KNOWN_SCALE, PatchSet
from .scaling import intensity_in_atoms
from .shrinkage import CORRELATION_OF_SAMPLES, shrink_correlation

FREE_CHANNEL = "LCN"
"""Channel whose features do not depend on the unit of the intensity."""
RIDGE = 3.0
RIDGE_OF_IMAGES = 1.0
"""Strength of the regression for images of one session, in numbers of clusters. A weak one uses
features that do not hold in other sessions: models trained on one of four simulated sessions had a
common error of ln(number of atoms) of 0.20 per class in others with the strength 3, of 0.12 with
this one, and of 0.09 together with the regression on the diameter. Clusters of the same session
scatter by 0.19, 0.22 and 0.25, by the diameter alone by 0.32."""
FOLDS = 6
MEAN_WEIGHT = 300.0
"""Weight of the mean of a class in a session, in clusters. It lowers the common error of Pt55 and
Pt70 in a session from 1/2 to 1/4 of the distance between them; larger ones bring little."""
MIN_CLUSTERS = 5
"""Number of clusters of a class in a session from which on their mean is used."""
MIN_SESSIONS = 8
"""Number of sessions from which on the common error of a session can be estimated."""
USUAL_SCATTER = 0.09
"""Common error of the apparent sizes of a session, in simulated sessions of all conditions."""
MIN_IMAGES = 3
"""Number of sessions, or images, with clusters of a class that a regression needs."""
MAX_DEVIATION = 0.3
"""Largest deviation of ln intensity from the class within an image; what deviates more is not the
cluster of the truth alone."""


def fit_apparent_size(
    embedding: np.ndarray,  # (n_clusters, n_features): features of the clusters
    part: PatchSet,  # the clusters, with their true classes and the intensity of one atom
    card: ModelCard,
    session: np.ndarray,  # (n_clusters,): name of the session of each cluster, or of its image
) -> ApparentSize | None:
    """Fit the apparent size of a model to labelled clusters of many sessions, or many images.

    A ridge regression gives ln(number of atoms) from the features of the channel with local
    contrast normalisation. All statistics are of predictions for sessions outside the fit.
    Recorded images of known sizes are one session, and its images take the place of the sessions.
    They do not tell how other sessions differ from it. The regression is stronger then and shared
    with one on the diameter, and the common error is at least `USUAL_SCATTER`.

    The result is None if the model has no such channel, its classes name no sizes, a class has
    fewer than `MIN_IMAGES` sessions or images, or recorded sizes follow the diameter more closely.
    """
    sizes, channels = class_sizes(card.classes), card.patches.channels
    if sizes is None or FREE_CHANNEL not in channels:
        return None
    index = {name: i for i, name in enumerate(card.classes)}
    label = part.table["truth"].map(index).fillna(-1).to_numpy(int)
    rows = (label >= 0) & usable(part.table) & np.isfinite(embedding).all(axis=1)
    label, session, table = label[rows], session[rows], part.table[rows]
    if min(len(np.unique(session[label == i])) for i in range(len(sizes))) < MIN_IMAGES:
        return None
    atoms = np.log(sizes)[label]
    n_features = embedding.shape[1] // len(channels)
    first = channels.index(FREE_CHANNEL) * n_features
    free = slice(first, first + n_features)
    found = _fit_size(embedding[rows, free].astype(float), table, atoms, session)
    if found is None:
        return None
    size, linear = found
    weights = np.zeros(embedding.shape[1])
    weights[free] = linear[1 : 1 + n_features]
    weights = np.append(weights, linear[1 + n_features :])  # of the diameter

    intensity = np.log(intensity_in_atoms(table))
    mean, covariance, size_errors = _class_statistics(intensity, size, label, session)
    # the error that a class has in a session is one that its images have in common
    pairs = zip(label, session, strict=True)
    sample = label if KNOWN_SCALE in table else np.array([f"{c} {name}" for c, name in pairs])
    scatter = float(np.std(size_errors)) if len(size_errors) >= MIN_SESSIONS else USUAL_SCATTER
    correlation = shrink_correlation(size, sample, table["image"].to_numpy(str))
    if KNOWN_SCALE not in table:  # samples have fewer isomers than the simulated sessions
        correlation = max(correlation, CORRELATION_OF_SAMPLES)
    return ApparentSize(
        tuple(map(float, mean[0])),
        tuple(map(float, mean[1])),
        tuple(tuple(tuple(map(float, row)) for row in c) for c in covariance),  # type: ignore[misc]
        max(scatter, USUAL_SCATTER) if KNOWN_SCALE in table else scatter,
        tuple(float(f"{w:.6g}") for w in weights),
        float(linear[0]),
        correlation=correlation,
    )


def _fit_size(
    features: np.ndarray, table: pd.DataFrame, atoms: np.ndarray, session: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Regress ln(number of atoms) on features; of recorded images, on ln diameter as well.

    Return the sizes and the linear function as `_cross_validate`, the weight of ln diameter at the
    end; None if the diameter alone follows ln(number of atoms) more closely.
    """
    if KNOWN_SCALE not in table:
        return _cross_validate(features, atoms, session, RIDGE, MEAN_WEIGHT)
    strength = RIDGE_OF_IMAGES * len(atoms)
    size, linear = _cross_validate(features, atoms, session, strength, 0.0)
    diameter = np.log(table["diameter_nm"].to_numpy(float))[:, None]
    by_diameter, along = _cross_validate(diameter, atoms, session, 0.0, 0.0)
    if np.corrcoef(size, atoms)[0, 1] <= np.corrcoef(by_diameter, atoms)[0, 1]:
        return None
    constant = (linear[0] + along[0]) / 2
    return (size + by_diameter) / 2, np.array([constant, *linear[1:] / 2, along[1] / 2])


def _cross_validate(
    features: np.ndarray,
    atoms: np.ndarray,
    session: np.ndarray,
    strength: float,
    mean_weight: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Regress ln(number of atoms) on features.

    Returns
    -------
    size : ndarray of shape (n_clusters,)
        Prediction for each session from others.
    linear : ndarray of shape (1 + n_features,)
        Constant and weights of the fit to all clusters.
    """
    size = np.empty(len(atoms))
    folds = GroupKFold(min(FOLDS, len(np.unique(session))))
    for fit, rest in folds.split(features, groups=session):
        model = _regress_size(features[fit], atoms[fit], session[fit], strength, mean_weight)
        size[rest] = model.predict(features[rest])
    scaler, ridge = _regress_size(features, atoms, session, strength, mean_weight)
    weights = ridge.coef_ / scaler.scale_
    return size, np.append(ridge.intercept_ - weights @ scaler.mean_, weights)


def _regress_size(
    features: np.ndarray,
    atoms: np.ndarray,
    session: np.ndarray,
    strength: float,
    mean_weight: float,
) -> Pipeline:
    """Regress ln(number of atoms), (n,), on features, (n, n_features).

    The error that the clusters of a class have in common in a session does not average out in it.
    It is made small by further rows with the mean features of each class in each session.
    """
    clusters = pd.DataFrame(features).groupby([session, atoms])
    means = clusters.mean()[clusters.size() >= MIN_CLUSTERS]
    x = np.vstack([features, means.to_numpy()])
    y = np.append(atoms, means.index.get_level_values(1))
    weight = np.append(np.ones(len(features)), np.full(len(means), mean_weight))
    return make_pipeline(StandardScaler(), Ridge(strength)).fit(x, y, ridge__sample_weight=weight)


def _class_statistics(
    intensity: np.ndarray, size: np.ndarray, label: np.ndarray, session: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute class means (2, C), covariances (C, 2, 2), and errors of sessions."""
    classes = range(label.max() + 1)
    mean = np.array([[np.median(x[label == c]) for c in classes] for x in (intensity, size)])
    # the mean, not the median: in a session of one size the mean decides, and sizes are skewed
    groups = pd.Series(size).groupby([label, session])
    means = groups.mean()[groups.size() >= MIN_CLUSTERS]
    of_class = means.groupby(level=0).mean()
    mean[1, of_class.index] = of_class
    errors = (means - of_class.reindex(means.index, level=0)).to_numpy()

    residual = np.stack([intensity, size]) - mean[:, label]
    _, of = np.unique(session, return_inverse=True)
    common = np.array([_common_error(residual[:, of == i]) for i in range(of.max() + 1)]).T
    within = residual - common[:, of]
    good = np.abs(within[0]) < MAX_DEVIATION
    covariance = tied_covariances([within[:, good & (label == c)] for c in classes])
    return mean, covariance, errors


def _common_error(residual: np.ndarray) -> np.ndarray:
    """Return the common error (2,) of residuals (2, n) of a session; few clusters tell none."""
    return np.median(residual, axis=1) if residual.shape[1] >= MIN_CLUSTERS else np.zeros(2)


def add_apparent_size(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    part: PatchSet,  # clusters, raw channel in atoms per nm²
    device: torch.device,
    session: str = "image",
) -> ModelCard:
    """Return the card of a model with the apparent size fitted to labelled clusters."""
    embedding = embed_clusters(card, tensors, part, device)
    names = part.table[session].to_numpy(str)
    return replace(card, apparent_size=fit_apparent_size(embedding, part, card, names))


def embed_clusters(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    part: PatchSet,  # N clusters, raw channel in atoms per nm²
    device: torch.device,
) -> np.ndarray:  # (N, D): embedding
    """Return the features of clusters."""
    return Classifier(card, tensors, device).predict(part.patches).embedding
