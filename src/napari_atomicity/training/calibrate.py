"""What a trained network's answers are worth: everything that is fitted on held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ..core.model_card import Combination, CountError, ModelCard
from ..models.classifier import Classifier
from ..models.domain_shift import ROOM, domain_shift
from ..models.estimators import (
    Measured,
    class_sizes,
    combination,
    constrained_mixture,
    count_atoms,
    pooled,
)
from ..models.intensity_scale import ConstrainedMixture, fit_image, usable
from ..models.out_of_distribution import QUANTILE, out_of_distribution, placed
from .data import PatchSet

DRIFT_QUANTILE = 0.99
COUNT_LEVEL = 0.95
FEW = 20
PRIOR_CLUSTERS = 20
"""What the weights of the pool are drawn to the middle with, and biases to none: held-out images
may be few and easy, and then leave them free, or unlike those to come."""
REPLICATES = 100
_LEAST = 1e-9


@dataclass(frozen=True, eq=False)
class HeldOutPredictions:
    """An image of labelled clusters as the model sees it.

    ``rows`` are those of the patch set; ``label`` is the class index, -1 for none of them.
    """

    rows: np.ndarray
    known: Measured
    embedding: np.ndarray
    label: np.ndarray


def see(
    card: ModelCard, tensors: dict[str, np.ndarray], part: PatchSet, device: torch.device
) -> list[HeldOutPredictions]:
    """Classify a patch set image by image, the scale found as on real images.

    Clusters that the border cuts have no label: they are not of the class that they were.
    """
    classifier = Classifier(card, tensors, device)
    images = []
    index = {c: i for i, c in enumerate(card.classes)}
    named = part.table["truth"].map(index).fillna(-1).to_numpy(int)
    label = np.where(part.table["touches_border"].to_numpy(bool), -1, named)
    for found in part.table.groupby("image", sort=False).indices.values():
        rows = np.asarray(found)
        table = part.table.iloc[rows].reset_index(drop=True)
        scale = None if card.scale is None else fit_image(table, card.scale)
        result = classifier.predict(patches_at(part, rows, scale))
        known = Measured(table, card, scale, result.probabilities)
        images.append(HeldOutPredictions(rows, known, result.embedding, label[rows]))
    return images


def patches_at(
    part: PatchSet, rows: np.ndarray, scale: ConstrainedMixture | None
) -> dict[str, np.ndarray]:
    """Patches of some rows, the raw channel in atoms per nm²."""
    patches = {c: p[rows] for c, p in part.patches.items()}
    if "raw" in patches and scale is not None:
        patches["raw"] = (patches["raw"] / scale.intensity_per_atom).astype(np.float32)
    return patches


def _labelled(images: Sequence[HeldOutPredictions]) -> np.ndarray:
    """Labels of all clusters that have one, in order."""
    return np.concatenate([s.label[s.label >= 0] for s in images])


def _stacked(images: Sequence[HeldOutPredictions], values: Sequence[np.ndarray]) -> np.ndarray:
    """Values of the labelled clusters of all images, in order."""
    return np.concatenate([v[s.label >= 0] for s, v in zip(images, values, strict=True)])


def _balanced(label: np.ndarray, n_classes: int) -> np.ndarray:
    """Weights that sum to 1 and let every class count the same, so that the mixture of the
    held-out images is no prior."""
    weight = (1 / np.maximum(np.bincount(label, minlength=n_classes), 1))[label]
    return np.asarray(weight / weight.sum())


def finished(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    train: PatchSet | None,
    held_out: PatchSet,
    device: torch.device,
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """A trained network with all that makes it a model: calibration, limits, scores.

    Parameters
    ----------
    card, tensors
        Of the network.
    train, held_out
        Mixtures from different images, raw channel in counts. Without ``train``, the class means
        of the embedding that the tensors hold already are kept.
    device
        Where to compute.
    """
    card = calibrated(card, tensors, held_out, device)
    if train is not None:
        tensors = {**tensors, **class_means(card, tensors, train, device)}
    seen = see(card, tensors, held_out, device)
    card = replace(card, **_distance_limits(seen, tensors), drift_limit=_drift_limit(seen, tensors))
    own = scores(card, tensors, held_out, device)
    return replace(card, scores={**card.scores, "held_out": own}), tensors


def calibrated(
    card: ModelCard, tensors: dict[str, np.ndarray], held_out: PatchSet, device: torch.device
) -> ModelCard:
    """Everything of a card that makes probabilities honest, from held-out images.

    Bias-corrected temperature scaling of the network: Alexandari, Kundaje, Shrikumar, ICML 2020.
    Its log-linear pool with the locked mixture. Split conformal prediction: Vovk et al. 2005; the
    score is the probability of the true class. Bootstrap replicates of the calibration, resampled
    by image. The error of the continuous count.

    Parameters
    ----------
    card, tensors
        Of a trained network.
    held_out
        From other images than the training; raw channel in counts.
    device
        Where to compute.
    """
    c = len(card.classes)
    bare = replace(card, temperature=1.0, bias=(), combination=None)
    images = see(bare, tensors, held_out, device)
    label = _labelled(images)
    weight = _balanced(label, c)
    log_p = np.log(np.clip(_stacked(images, [s.known.network for s in images]), _LEAST, 1))
    fitted = _sharpened(log_p, label, weight)
    card = replace(
        bare,
        temperature=float(1 / fitted[0]),
        bias=tuple(map(float, fitted[1:])),
    )
    images = [
        replace(s, known=replace(s.known, card=card, network=_apply(s.known.network, fitted)))
        for s in images
    ]
    if card.scale is not None:
        card = replace(card, combination=_combination(images, label, weight))
        images = [replace(s, known=replace(s.known, card=card)) for s in images]
    p = _stacked(images, [combination(s.known) for s in images])
    image = _stacked(images, [_origin(s.known.table) for s in images])
    true_p = p[np.arange(len(label)), label]
    rank = np.floor((1 - card.conformal_level) * (len(label) + 1)) - 1
    threshold = float(np.sort(true_p)[int(rank)]) if rank >= 0 else 0.0
    confusion = np.bincount(label * c + p.argmax(axis=1), minlength=c * c).reshape(c, c)
    return replace(
        card,
        conformal_threshold=threshold,
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        recalibration=_replicates(p, label, image, np.random.default_rng(len(label))),
        count=_count_error(images),
    )


def _origin(table: pd.DataFrame) -> np.ndarray:
    """The recorded image of every cluster, also of those that were shuffled into mixtures."""
    return table["origin" if "origin" in table else "image"].to_numpy(object)


def _apply(p: np.ndarray, factor_and_bias: np.ndarray) -> np.ndarray:
    log_p = np.log(np.clip(p, _LEAST, 1))
    return np.asarray(softmax(factor_and_bias[0] * log_p + factor_and_bias[1:], axis=1))


def _sharpened(
    log_p: np.ndarray, label: np.ndarray, weight: np.ndarray, start: np.ndarray | None = None
) -> np.ndarray:
    """The factor and the biases (C + 1,) that make softmax(factor × log p + bias) calibrated."""
    n, c = log_p.shape
    target = np.eye(c)[label]
    drawn = PRIOR_CLUSTERS / n

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        a = np.exp(x[0])
        log_q = log_softmax(a * log_p + x[1:], axis=1)
        error = weight[:, None] * (np.exp(log_q) - target)
        gradient = np.append(a * (error * log_p).sum(), error.sum(axis=0)) + 2 * drawn * x
        value = -(weight * log_q[np.arange(n), label]).sum() + drawn * (x**2).sum()
        return float(value), gradient

    x0 = np.zeros(c + 1) if start is None else start
    x = minimize(loss, x0, jac=True, method="L-BFGS-B").x
    return np.append(np.exp(x[0]), x[1:] - x[1:].mean())


def _combination(
    images: Sequence[HeldOutPredictions], label: np.ndarray, weight: np.ndarray
) -> Combination:
    c = images[0].known.network.shape[1]
    network = _stacked(images, [s.known.network for s in images])
    mixture = _stacked(images, [constrained_mixture(s.known) for s in images])
    sure = [1.0 if s.known.scale is None else s.known.scale.certainty for s in images]
    certainty = _stacked(
        images, [np.full(len(s.label), v) for s, v in zip(images, sure, strict=True)]
    )

    def loss(x: np.ndarray) -> float:
        p = pooled(network, mixture, certainty, x)[np.arange(len(label)), label]
        drawn = ((x[:2] - 0.5) ** 2).sum() + (x[3:] ** 2).sum()
        fit = -(weight * np.log(np.clip(p, 1e-12, 1))).sum()
        return float(fit + drawn * PRIOR_CLUSTERS / len(label) + 1e-3 * x[2] ** 2)

    x0 = np.concatenate([[0.5, 0.5, 0.0], np.zeros(c)])
    bounds = [(0, None), (0, None), (0, None), *[(None, None)] * c]
    x = minimize(loss, x0, method="L-BFGS-B", bounds=bounds).x
    bias = tuple(map(float, x[3:] - x[3:].mean()))
    return Combination(float(x[0]), float(x[1]), bias, float(x[2]))


def _replicates(
    p: np.ndarray, label: np.ndarray, image: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[float, ...], ...]:
    """Factors and biases that other held-out images of the same kind would have asked for."""
    log_p = np.log(np.clip(p, _LEAST, 1))
    rows_of = list(pd.Series(image).groupby(image).indices.values())
    out = []
    for _ in range(REPLICATES):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[k] for k in drawn])
        x = _sharpened(log_p[rows], label[rows], _balanced(label[rows], p.shape[1]))
        out.append(tuple(float(f"{v:.5g}") for v in x))
    return tuple(out)


def _count_error(images: Sequence[HeldOutPredictions]) -> CountError | None:
    """Quantiles of the error of log count, of clusters that stand alone and of the others."""
    sizes = class_sizes(images[0].known.card.classes)
    if sizes is None:
        return None
    label = _labelled(images)
    count = _stacked(images, [count_atoms(s.known)[:, 0] for s in images])
    alone = _stacked(images, [usable(s.known.table) for s in images])
    error = np.abs(np.log(count) - np.log(sizes[label]))
    good = np.isfinite(error)

    def quantile(which: np.ndarray) -> float:
        return float(np.quantile(error[which & good], COUNT_LEVEL)) if (which & good).any() else 1.0

    both = quantile(np.ones(len(error), bool))
    others = (~alone & good).sum() >= FEW
    return CountError(quantile(alone), quantile(~alone) if others else max(both, 0.2))


def class_means(
    card: ModelCard, tensors: dict[str, np.ndarray], train: PatchSet, device: torch.device
) -> dict[str, np.ndarray]:
    """``ood.mean`` (C, D) and ``ood.whitening`` (D, D), by a common covariance, of embeddings."""
    images = see(card, tensors, train, device)
    embedding = _stacked(images, [s.embedding for s in images]).astype(np.float64)
    label = _labelled(images)
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
    """What only one in two hundred held-out clusters exceeds; and the median.

    Where few of them touch, as in size-selected images, those that do get twice the limit.
    """
    held = _stacked(images, [s.embedding for s in images])
    distance = placed(held, tensors).to_classes.min(axis=1)
    touching = _stacked(images, [s.known.table["touches_neighbour"].to_numpy(bool) for s in images])
    alone = distance[~touching] if (~touching).any() else distance
    limit = float(np.quantile(alone, QUANTILE))
    own = 2 * limit
    if touching.sum() >= FEW:
        own = float(np.quantile(distance[touching], QUANTILE))
    return {
        "ood_limit": limit,
        "ood_limit_touching": max(own, limit),
        "ood_median": float(np.median(alone)),
    }


def _drift_limit(
    images: Sequence[HeldOutPredictions], tensors: dict[str, np.ndarray]
) -> float | None:
    """The drift that only one in a hundred held-out images exceeds."""
    embedding = _stacked(images, [s.embedding for s in images])
    best = _stacked(images, [combination(s.known).argmax(axis=1) for s in images])
    origin = _stacked(images, [_origin(s.known.table) for s in images])
    drifts = [
        domain_shift(embedding[rows], best[rows], tensors)
        for rows in pd.Series(origin).groupby(origin).indices.values()
    ]
    known = [d for d in drifts if np.isfinite(d)]
    return float(np.quantile(known, DRIFT_QUANTILE)) * ROOM if known else None


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over ten bins of confidence, weighted by number."""
    which = np.clip(np.digitize(confidence, np.linspace(0, 1, 11)) - 1, 0, 9)
    gaps = np.bincount(which, confidence - right, minlength=10)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))


def scores(
    card: ModelCard, tensors: dict[str, np.ndarray], part: PatchSet, device: torch.device
) -> dict[str, Any]:
    """Accuracy, order, calibration and coverage of the combination on labelled images."""
    images = see(card, tensors, part, device)
    label = _labelled(images)
    p = _stacked(images, [combination(s.known) for s in images])
    by_network = _stacked(images, [s.known.network for s in images]).argmax(axis=1)
    score = _stacked(
        images, [out_of_distribution(s.known, s.embedding, tensors)[0] for s in images]
    )
    best = p.argmax(axis=1)
    c = len(card.classes)
    confusion = np.bincount(label * c + best, minlength=c * c).reshape(c, c)
    true_p = p[np.arange(len(label)), label]
    off = np.abs(best - label)
    out = {
        "clusters": len(label),
        "accuracy": _rounded((best == label).mean()),
        "accuracy_of_network": _rounded((by_network == label).mean()),
        "recall": {
            name: _rounded((best == label)[label == i].mean())
            for i, name in enumerate(card.classes)
            if (label == i).any()
        },
        "off_by_one": _rounded((off == 1).mean()),
        "off_by_more_than_one": _rounded((off > 1).mean()),
        "confusion": confusion.tolist(),
        "expected_calibration_error": _rounded(
            expected_calibration_error(p.max(axis=1), best == label)
        ),
        "prediction_set_coverage": _rounded(
            (true_p >= np.minimum(card.conformal_threshold, p.max(axis=1))).mean()
        ),
        "unknown": _rounded((score > 1).mean()),
    }
    sizes = class_sizes(card.classes)
    if sizes is not None:
        out["error_atoms"] = _rounded(np.abs(sizes[best] - sizes[label]).mean())
        count = _stacked(images, [count_atoms(s.known) for s in images])
        held = (count[:, 1] <= sizes[label]) & (sizes[label] <= count[:, 2])
        out["count_interval_coverage"] = _rounded(held[np.isfinite(count).all(axis=1)].mean())
    return out


def _rounded(value: Any) -> float:
    return round(float(value), 4)
