"""Clusters that are none of the model's classes: unknown things, and aggregates.

Two scores: the probability that a small second network gives to "none of them", and, beyond its
limit, the distance from the classes in embedding space. It sees where the cluster lies
among the classes, and what physics says of it: intensity and diameter that fit no class, or not
each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from ..core.errors import ModelError
from .domain_shift import MIN_CLUSTERS
from .estimators import (
    MAX_TOUCHING_DEVIATION,
    MIN_PROBABILITY,
    Measured,
    atoms_by_intensity,
    count_atoms,
    touching_deviation,
)
from .scale.intensity_scale import usable

COMPONENTS = 16
"""Principal components of the whitened embedding that the second network sees."""
OUTCOMES = ("class", "unknown", "aggregate")
QUANTILE = 0.995
"""Quantile of the clusters of the classes within a limit: one in two hundred is rejected."""
_FAR = 5.0
MAX_WIDER = 2.0
MIN_PART = 0.5
"""A cluster that cannot have this part of the atoms of the smallest class is of no class."""


class Place(NamedTuple):
    """Positions of N clusters in embedding space.

    Whitened embeddings (N, D), and distances (N, C) to the classes.

    """

    white: np.ndarray
    to_classes: np.ndarray


def placed(embedding: np.ndarray, tensors: Mapping[str, np.ndarray]) -> Place:
    """Compute Mahalanobis distances [1]_ of embeddings (N, D) to the classes.

    One covariance is shared by the classes.

    .. [1] K. Lee et al., "A simple unified framework for detecting out-of-distribution samples and
       adversarial attacks", NeurIPS 2018.
    """
    whitening = tensors["ood.whitening"].astype(np.float64)
    white = embedding.astype(np.float64) @ whitening
    centres = tensors["ood.mean"].astype(np.float64) @ whitening
    squared = (white**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * white @ centres.T
    return Place(white, np.sqrt(np.clip(squared, 0, None)))


def features(
    known: Measured,
    place: Place,
    # With ``outside.centre`` (D,) and ``outside.axes`` (D, `COMPONENTS`)
    tensors: Mapping[str, np.ndarray],
) -> np.ndarray:
    """Compute the input (N, F) of the second network; raise `ModelError` without a scale."""
    sizes = known.sizes
    if sizes is None or known.scale is None:
        raise ModelError(
            "the card has no scale, or classes without numbers of atoms, but the model needs them",
            advice="Get the model again",
        )
    log_n, reference = np.log(sizes), known.scale.reference
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.log(atoms_by_intensity(known))
        n = np.nan_to_num(n, nan=log_n[0], neginf=log_n[0] - 3, posinf=log_n[-1] + 3)
        diameter = np.nan_to_num(np.log(known.diameter_nm), nan=0.0, neginf=-2.0, posinf=2.0)
    nearest = np.abs(n[:, None] - log_n).min(axis=1)
    # beyond the classes a diameter goes with the cube root of the atoms, a little faster if flat
    expected = np.interp(n, log_n, np.array(reference.log_diameter))
    expected += (n - np.clip(n, log_n[0], log_n[-1])) / 2.7
    excess = diameter - expected - known.scale.shift[0, 1]
    p = np.nan_to_num(known.network, nan=1 / len(log_n))
    by_network = p @ log_n
    mixture = np.nan_to_num(known.mixture, nan=1 / len(log_n))
    own = np.stack(
        [
            nearest,
            np.maximum(n - log_n[-1], 0),
            np.maximum(log_n[0] - n, 0),
            excess,
            np.abs(excess),
            known.table["eccentricity"].to_numpy(float),
            known.table["touches_neighbour"].to_numpy(float),
            -(p * np.log(p + 1e-9)).sum(axis=1),
            np.abs(by_network - n),
            np.minimum(n - by_network, 1),
            np.full(len(n), 1 - known.scale.certainty),
        ],
        axis=1,
    )
    return np.nan_to_num(
        np.concatenate(
            [
                (place.white - tensors["outside.centre"]) @ tensors["outside.axes"],
                place.to_classes,
                own,
                p,
                np.log(np.clip(mixture, MIN_PROBABILITY, 1)),
            ],
            axis=1,
        )
    )


def distances(known: Measured, place: Place) -> np.ndarray:
    """Distance (N,) to the nearest class, in units of the model's limit.

    Touching clusters have a limit of their own. Where all clusters of an image lie further out
    than those of the training did, as under more noise, the unit grows along, to twice its length
    at most: an image's clusters are then judged among themselves.
    """
    card = known.card
    nearest = place.to_classes.min(axis=1)
    touching = known.table["touches_neighbour"].to_numpy(bool)
    limit = np.where(touching, card.ood_limit_touching or card.ood_limit, card.ood_limit)
    good = np.isfinite(nearest) & ~touching
    wider = 1.0
    if card.ood_median and good.sum() >= MIN_CLUSTERS:
        wider = float(np.clip(np.median(nearest[good]) / card.ood_median, 1, MAX_WIDER))
    return np.asarray(nearest / (limit * wider))


def outcome_logits(x: np.ndarray, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Logits (N, 3) of `OUTCOMES` from features (N, F): one hidden layer."""
    z = np.clip((x - tensors["outside.mean"]) / tensors["outside.deviation"], -_FAR, _FAR)
    hidden = z @ tensors["outside.hidden.weight"].T + tensors["outside.hidden.bias"]
    hidden = hidden / (1 + np.exp(-hidden))
    out = hidden @ tensors["outside.output.weight"].T + tensors["outside.output.bias"]
    return np.asarray(out, float)


def margins(x: np.ndarray, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """By how much "none of the classes" exceeds "class" (N,), in logits, from features (N, F)."""
    logits = outcome_logits(x, tensors)
    return np.asarray(np.logaddexp(logits[:, 1], logits[:, 2]) - logits[:, 0])


def out_of_distribution(
    known: Measured,
    embedding: np.ndarray,  # (N, D)
    tensors: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Compute out-of-distribution scores (N,) of clusters, and detect aggregates.

    A cluster with a score beyond 1 is given no class. That is also one which touches another and
    whose intensity contradicts the network, see `touching_deviation`; and a whole one with far
    fewer atoms than the smallest class, by the upper end of its count: the networks have seen
    hardly any such.
    """
    n = len(known.table)
    score, aggregate = np.zeros(n), np.zeros(n, bool)
    if n == 0 or "ood.mean" not in tensors:
        return score, aggregate
    place = placed(embedding, tensors)
    far = distances(known, place)
    score = far
    if "outside.axes" in tensors:
        p = softmax(outcome_logits(features(known, place, tensors), tensors), axis=1)
        # the distance alone orders clusters less well: it only has a say beyond its limit
        score = np.where(far > 1, np.maximum(far, 2 * (1 - p[:, 0])), 2 * (1 - p[:, 0]))
        aggregate = p[:, 2] > p[:, 1]
    contradicted = touching_deviation(known) / MAX_TOUCHING_DEVIATION
    too_few = np.full(n, np.nan)
    if known.sizes is not None:
        whole = usable(known.table) & (known.intensity > 0)
        too_few[whole] = MIN_PART * min(known.sizes) / count_atoms(known)[whole, 2]
    for beyond in (contradicted, too_few):
        score = np.where(beyond > 1, np.fmax(score, beyond), score)
    score[~np.isfinite(embedding).all(axis=1)] = np.nan
    return score, aggregate
