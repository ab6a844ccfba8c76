"""Calibration of a trained network on held-out images: probabilities, limits, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import t as student_t

from ...core.model_card import Combination, CountError, ModelCard
from ...models.domain_shift import ROOM, domain_shift
from ...models.estimators import combination, count_atoms, pooled
from ...models.out_of_distribution import QUANTILE, placed
from ...models.scale.intensity_scale import usable
from ..data import PatchSet
from .evaluation import scores
from .held_out import (
    HeldOutPredictions,
    predict_images,
    recorded_image,
    stack_labelled,
    stack_labels,
)
from .scaling import right_scales

DRIFT_QUANTILE = 0.99
COUNT_LEVEL = 0.95
MIN_CLUSTERS = 20
PRIOR_CLUSTERS = 20
"""Strength of the prior of pool weights (0.5) and biases (0), in clusters: few or easy held-out
images hardly determine them, and future images may differ."""
CLUSTERS_OF_IMAGE = 4
"""Number of independent clusters that a held-out image counts as, where the calibration is shrunk
to that of the model that training starts from."""
REPLICATES = 100
_MIN_PROBABILITY = 1e-9


def finalize_model(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    # Mixtures of training images, raw channel in counts. Without it, the class means of the
    # embedding in ``tensors`` are kept.
    train: PatchSet | None,
    held_out: PatchSet,
    device: torch.device,
    # Card of the model that training started from, to whose calibration it is shrunk
    start: ModelCard | None = None,
) -> tuple[ModelCard, dict[str, np.ndarray]]:  # with the class means of the embedding
    """Add to a trained network all that makes it a model: calibration, limits and scores."""
    card = fit_calibration(card, tensors, held_out, device, start)
    if train is not None:
        tensors = {**tensors, **class_means(card, tensors, train, device)}
    predictions = predict_images(card, tensors, held_out, device, right_scales)
    card = replace(
        card,
        **_distance_limits(predictions, tensors),
        drift_limit=_drift_limit(predictions, tensors),
    )
    own = scores(card, tensors, held_out, device)
    return replace(card, scores={**card.scores, "held_out": own}), tensors


def fit_calibration(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    held_out: PatchSet,
    device: torch.device,
    start: ModelCard | None = None,
) -> ModelCard:
    """Fit all values of a card that calibrate probabilities, on held-out images.

    Bias-corrected temperature scaling of the network [1]_. Its log-linear pool with the constrained
    mixture. Split conformal prediction [2]_ with the probability of the true class as the score.
    Bootstrap replicates of the calibration, resampled by image. The error of the continuous count.

    Parameters
    ----------
    held_out : PatchSet
        From other images than the training; raw channel in counts.
    start : ModelCard, optional
        Card of the model that training started from. Its calibration is the prior then, and images
        count, not clusters.

    References
    ----------
    .. [1] A. Alexandari, A. Kundaje and A. Shrikumar, "Maximum Likelihood with Bias-Corrected
       Calibration is Hard-To-Beat at Label Shift Adaptation", ICML 2020.
    .. [2] V. Vovk, A. Gammerman and G. Shafer, "Algorithmic Learning in a Random World",
       Springer (2005).
    """
    c = len(card.classes)
    bare = replace(card, temperature=1.0, bias=(), combination=None)
    images = predict_images(bare, tensors, held_out, device, right_scales)
    label = stack_labels(images)
    weight = _class_balanced(label, c)
    log_p = np.log(
        np.clip(stack_labelled(images, [s.known.network for s in images]), _MIN_PROBABILITY, 1)
    )
    prior = _calibration_prior(card, start, images)
    fitted = _fit_temperature_and_bias(log_p, label, weight, prior)
    card = replace(bare, temperature=float(1 / fitted[0]), bias=tuple(map(float, fitted[1:])))
    images = [
        replace(s, known=replace(s.known, card=card, network=_apply(s.known.network, fitted)))
        for s in images
    ]
    # a network that knows nothing but the patch is used as it is published: alone
    if card.scale is not None and card.patches.raw_unit == "atoms":
        card = replace(card, combination=_fit_combination(images, label, weight, prior))
        images = [replace(s, known=replace(s.known, card=card)) for s in images]
    p = stack_labelled(images, [combination(s.known) for s in images])
    image = stack_labelled(images, [recorded_image(s.known.table) for s in images])
    confusion = np.bincount(label * c + p.argmax(axis=1), minlength=c * c).reshape(c, c)
    return replace(
        card,
        conformal_threshold=_conformal_threshold(p, label, card.conformal_level),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        recalibration=_bootstrap_calibration(p, label, image, np.random.default_rng(len(label))),
        count=_count_error(images),
    )


def _conformal_threshold(p: np.ndarray, label: np.ndarray, level: float) -> float:
    """Return the probability that the true class exceeds at this level."""
    true_p = p[np.arange(len(label)), label]
    rank = np.floor((1 - level) * (len(label) + 1)) - 1
    return float(np.sort(true_p)[int(rank)]) if rank >= 0 else 0.0


def _apply(p: np.ndarray, factor_and_bias: np.ndarray) -> np.ndarray:
    """Return probabilities sharpened by a factor and shifted by biases."""
    log_p = np.log(np.clip(p, _MIN_PROBABILITY, 1))
    return np.asarray(softmax(factor_and_bias[0] * log_p + factor_and_bias[1:], axis=1))


def _class_balanced(label: np.ndarray, n_classes: int) -> np.ndarray:
    """Return weights that sum to 1, equal for all classes.

    The mixture of the held-out images is then no prior.
    """
    weight = (1 / np.maximum(np.bincount(label, minlength=n_classes), 1))[label]
    return np.asarray(weight / weight.sum())


class _CalibrationPrior(NamedTuple):
    """Most probable calibration before held-out images are seen, and its weight beside theirs.

    ``network`` (C + 1,) holds ln factor and biases, ``pool`` (3 + C,) the weights of
    `estimators.pooled`.
    """

    network: np.ndarray
    pool: np.ndarray
    weight: float


def _calibration_prior(
    card: ModelCard, start: ModelCard | None, images: Sequence[HeldOutPredictions]
) -> _CalibrationPrior:
    """Return the calibration of the model that training started from; without one, none."""
    c = len(card.classes)
    network, pool = np.zeros(c + 1), np.concatenate([[0.5, 0.5, 0.0], np.zeros(c)])
    if start is None:
        return _CalibrationPrior(network, pool, PRIOR_CLUSTERS / len(stack_labels(images)))
    origin = stack_labelled(images, [recorded_image(s.known.table) for s in images])
    shared = [(i, start.classes.index(n)) for i, n in enumerate(card.classes) if n in start.classes]
    network[0] = -np.log(start.temperature)
    if start.combination is not None:
        of_start = start.combination
        pool[:3] = of_start.network, of_start.mixture, of_start.doubt
    for i, j in shared:
        if start.bias:
            network[1 + i] = start.bias[j]
        if start.combination is not None:
            pool[3 + i] = start.combination.bias[j]
    n_independent = CLUSTERS_OF_IMAGE * len(np.unique(origin))
    return _CalibrationPrior(network, pool, PRIOR_CLUSTERS / n_independent)


def _fit_temperature_and_bias(
    log_p: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    prior: _CalibrationPrior | None = None,
) -> np.ndarray:
    """Fit the factor and the biases (C + 1,) that calibrate softmax(factor × log p + bias)."""
    n, c = log_p.shape
    target = np.eye(c)[label]
    centre = np.zeros(c + 1) if prior is None else prior.network
    drawn = PRIOR_CLUSTERS / n if prior is None else prior.weight

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        a = np.exp(x[0])
        log_q = log_softmax(a * log_p + x[1:], axis=1)
        error = weight[:, None] * (np.exp(log_q) - target)
        off = x - centre
        gradient = np.append(a * (error * log_p).sum(), error.sum(axis=0)) + 2 * drawn * off
        value = -(weight * log_q[np.arange(n), label]).sum() + drawn * (off**2).sum()
        return float(value), gradient

    x = minimize(loss, centre, jac=True, method="L-BFGS-B").x
    return np.append(np.exp(x[0]), x[1:] - x[1:].mean())


def _fit_combination(
    images: Sequence[HeldOutPredictions],
    label: np.ndarray,
    weight: np.ndarray,
    prior: _CalibrationPrior,
) -> Combination:
    """Fit the weights and biases of the pool of network and mixture."""
    network = stack_labelled(images, [s.known.network for s in images])
    mixture = stack_labelled(images, [s.known.mixture for s in images])
    sure = [1.0 if s.known.scale is None else s.known.scale.certainty for s in images]
    certainty = stack_labelled(
        images, [np.full(len(s.label), v) for s, v in zip(images, sure, strict=True)]
    )

    def loss(x: np.ndarray) -> float:
        p = pooled(network, mixture, certainty, x)[np.arange(len(label)), label]
        off = x - prior.pool
        drawn = (off[:2] ** 2).sum() + (off[3:] ** 2).sum()
        fit = -(weight * np.log(np.clip(p, 1e-12, 1))).sum()
        return float(fit + drawn * prior.weight + 1e-3 * off[2] ** 2)

    bounds = [(0, None), (0, None), (0, None), *[(None, None)] * (len(prior.pool) - 3)]
    x = minimize(loss, prior.pool, method="L-BFGS-B", bounds=bounds).x
    bias = tuple(map(float, x[3:] - x[3:].mean()))
    return Combination(float(x[0]), float(x[1]), bias, float(x[2]))


def _bootstrap_calibration(
    p: np.ndarray, label: np.ndarray, image: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[float, ...], ...]:
    """Return factors and biases fitted to bootstrap samples of the held-out images.

    The calibration of the model to start from takes no part: a prior that is the same in all
    samples would make them too much alike, and intervals of class ratios too narrow.
    """
    log_p = np.log(np.clip(p, _MIN_PROBABILITY, 1))
    rows_of = list(pd.Series(image).groupby(image).indices.values())
    out = []
    for _ in range(REPLICATES):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[k] for k in drawn])
        x = _fit_temperature_and_bias(
            log_p[rows], label[rows], _class_balanced(label[rows], p.shape[1])
        )
        out.append(tuple(float(f"{v:.5g}") for v in x))
    return tuple(out)


def _count_error(images: Sequence[HeldOutPredictions]) -> CountError | None:
    """Return quantiles of the error of the log count, of isolated clusters and of others."""
    sizes = images[0].known.sizes
    if sizes is None:
        return None
    label = stack_labels(images)
    count = stack_labelled(images, [count_atoms(s.known)[:, 0] for s in images])
    alone = stack_labelled(images, [usable(s.known.table) for s in images])
    error = np.abs(np.log(count) - np.log(sizes[label]))
    good = np.isfinite(error)

    def quantile(which: np.ndarray) -> float:
        return float(np.quantile(error[which & good], COUNT_LEVEL)) if (which & good).any() else 1.0

    both = quantile(np.ones(len(error), bool))
    others = (~alone & good).sum() >= MIN_CLUSTERS
    return CountError(quantile(alone), quantile(~alone) if others else max(both, 0.2))


def class_means(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    train: PatchSet,  # training clusters, raw channel in counts
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Compute class means of the embedding, and a whitening by the common covariance."""
    images = predict_images(card, tensors, train, device, right_scales)
    embedding = stack_labelled(images, [s.embedding for s in images]).astype(np.float64)
    label = stack_labels(images)
    mean = np.stack([embedding[label == i].mean(axis=0) for i in range(len(card.classes))])
    centred = embedding - mean[label]
    covariance = centred.T @ centred / max(1, len(embedding) - len(card.classes))
    # shrunk: features that hardly vary must not decide
    size = len(covariance)
    covariance += 0.02 * np.trace(covariance) / size * np.eye(size)
    value, vector = np.linalg.eigh(covariance)
    whitening = vector / np.sqrt(value)
    return {"ood.mean": mean.astype(np.float32), "ood.whitening": whitening.astype(np.float32)}


def _distance_limits(
    images: Sequence[HeldOutPredictions], tensors: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the distance that one in two hundred held-out clusters exceeds, and the median.

    If few of them touch, as in size-selected images, the limit of touching clusters is doubled.
    """
    held = stack_labelled(images, [s.embedding for s in images])
    distance = placed(held, tensors).to_classes.min(axis=1)
    touching = stack_labelled(
        images, [s.known.table["touches_neighbour"].to_numpy(bool) for s in images]
    )
    alone = distance[~touching] if (~touching).any() else distance
    limit = float(np.quantile(alone, QUANTILE))
    own = 2 * limit
    if touching.sum() >= MIN_CLUSTERS:
        own = float(np.quantile(distance[touching], QUANTILE))
    return {
        "ood_limit": limit,
        "ood_limit_touching": max(own, limit),
        "ood_median": float(np.median(alone)),
    }


def _drift_limit(
    images: Sequence[HeldOutPredictions], tensors: dict[str, np.ndarray]
) -> float | None:
    """Return the domain shift that one in a hundred further images would exceed.

    That is their quantile, or the limit of a normal distribution of which the held-out images are
    a sample: it is wider if they are few.
    """
    embedding = stack_labelled(images, [s.embedding for s in images])
    best = stack_labelled(images, [combination(s.known).argmax(axis=1) for s in images])
    origin = stack_labelled(images, [recorded_image(s.known.table) for s in images])
    drifts = [
        domain_shift(embedding[rows], best[rows], tensors)
        for rows in pd.Series(origin).groupby(origin).indices.values()
    ]
    known = [d for d in drifts if np.isfinite(d)]
    limit = float(np.quantile(known, DRIFT_QUANTILE)) * ROOM if known else 0.0
    if (n := len(known)) > 1:
        width = student_t.ppf(DRIFT_QUANTILE, n - 1) * np.std(known, ddof=1) * np.sqrt(1 + 1 / n)
        limit = max(limit, float(np.mean(known) + width))
    return limit if limit > 0 else None  # of few clusters, less than their scatter is no limit
