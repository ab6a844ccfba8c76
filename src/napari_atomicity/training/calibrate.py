"""What a model may claim: calibrated probabilities, prediction sets, the limit of the unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize

from ..model.card import ModelCard
from ..model.classifier import Classifier, mahalanobis
from .data import PatchSet

OOD_QUANTILE = 0.995


def _labels(part: PatchSet, card: ModelCard) -> np.ndarray:
    return part.table["truth"].map({c: i for i, c in enumerate(card.classes)}).to_numpy(int)


def calibrated(
    card: ModelCard, tensors: dict[str, np.ndarray], held_out: PatchSet, device: torch.device
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Fit temperature and class biases on held-out images, then the conformal threshold.

    Bias-corrected temperature scaling: Alexandari, Kundaje, Shrikumar, ICML 2020. Split conformal
    prediction: Vovk et al. 2005; the score is the probability of the true class.
    """
    plain = Classifier(replace(card, temperature=1.0, bias=()), tensors, device)
    log_p = np.log(np.clip(plain.predict(held_out.patches).probabilities, 1e-12, None))
    label = _labels(held_out, card)
    # every class counts the same, so that the mixture of the held-out set is no prior
    count = np.bincount(label, minlength=len(card.classes))
    weight = (1 / np.maximum(count, 1))[label]
    weight = weight / weight.sum()

    def loss(x: np.ndarray) -> float:
        z = log_p * np.exp(x[0]) + np.append(x[1:], 0.0)
        z = z - z.max(axis=1, keepdims=True)
        log_q = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return float(-(weight * log_q[np.arange(len(label)), label]).sum() + 1e-3 * (x**2).sum())

    fitted = minimize(loss, np.zeros(len(card.classes)), method="L-BFGS-B").x
    bias = np.append(fitted[1:], 0.0)
    card = replace(
        card,
        temperature=float(np.exp(-fitted[0])),
        bias=tuple(float(b - bias.mean()) for b in bias),
    )
    p = Classifier(card, tensors, device).predict(held_out.patches).probabilities
    true_p = p[np.arange(len(label)), label]
    rank = np.floor((1 - card.conformal_level) * (len(label) + 1)) - 1
    threshold = float(np.sort(true_p)[int(rank)]) if rank >= 0 else 0.0
    return replace(card, conformal_threshold=threshold), tensors


def out_of_distribution(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    train: PatchSet,
    held_out: PatchSet,
    device: torch.device,
) -> tuple[ModelCard, dict[str, np.ndarray]]:
    """Class means and common covariance of the embedding, and how far held-out clusters go."""
    classifier = Classifier(card, tensors, device)
    embedding = classifier.predict(train.patches).embedding.astype(np.float64)
    label = _labels(train, card)
    mean = np.stack([embedding[label == i].mean(axis=0) for i in range(len(card.classes))])
    centred = embedding - mean[label]
    covariance = centred.T @ centred / max(1, len(embedding) - len(card.classes))
    # shrunk: features that hardly vary must not decide
    size = len(covariance)
    covariance += 0.02 * np.trace(covariance) / size * np.eye(size)
    value, vector = np.linalg.eigh(covariance)
    whitening = vector / np.sqrt(value)
    mean32, whitening32 = mean.astype(np.float32), whitening.astype(np.float32)
    held = classifier.predict(held_out.patches).embedding
    limit = float(np.quantile(mahalanobis(held, mean32, whitening32), OOD_QUANTILE))
    return (
        replace(card, ood_limit=limit),
        {**tensors, "ood.mean": mean32, "ood.whitening": whitening32},
    )


def learn_negatives(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    held_out: PatchSet,
    negatives: PatchSet,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """A linear decision between clusters and what is detected where there are none.

    Such things lie between the classes' means rather than far from them, so distance alone does
    not tell them. Both sides count the same; the decision is on whitened embeddings.

    Returns
    -------
    dict
        The tensors with ``ood.weight`` (D,) and ``ood.bias`` (1,).
    """
    from sklearn.linear_model import LogisticRegression

    classifier = Classifier(card, tensors, device)
    sides = [classifier.predict(part.patches).embedding for part in (held_out, negatives)]
    x = np.concatenate(sides).astype(np.float64) @ tensors["ood.whitening"].astype(np.float64)
    y = np.repeat([0, 1], [len(side) for side in sides])
    fitted = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000).fit(x, y)
    weight = tensors["ood.whitening"].astype(np.float64) @ fitted.coef_[0]
    # as on held-out clusters by distance: no more than one in two hundred is turned away
    logit = sides[0].astype(np.float64) @ weight + fitted.intercept_[0]
    bias = fitted.intercept_[0] - max(0.0, float(np.quantile(logit, OOD_QUANTILE)))
    return {
        **tensors,
        "ood.weight": weight.astype(np.float32),
        "ood.bias": np.array([bias], np.float32),
    }


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over ten bins of confidence, weighted by number."""
    which = np.clip(np.digitize(confidence, np.linspace(0, 1, 11)) - 1, 0, 9)
    gaps = np.bincount(which, confidence - right, minlength=10)
    return float(np.abs(gaps).sum() / max(1, len(confidence)))


def scores(classifier: Classifier, part: PatchSet) -> dict[str, Any]:
    """Accuracy, confusion, calibration and coverage on labelled patches."""
    card = classifier.card
    prediction = classifier.predict(part.patches)
    label, p = _labels(part, card), prediction.probabilities
    best = p.argmax(axis=1)
    c = len(card.classes)
    confusion = np.bincount(label * c + best, minlength=c * c).reshape(c, c)
    true_p = p[np.arange(len(label)), label]
    return {
        "clusters": len(label),
        "accuracy": round(float((best == label).mean()), 4),
        "off_by_more_than_one": round(float((np.abs(best - label) > 1).mean()), 4),
        "confusion": confusion.tolist(),
        "expected_calibration_error": round(
            expected_calibration_error(p.max(axis=1), best == label), 4
        ),
        "prediction_set_coverage": round(
            float((true_p >= np.minimum(card.conformal_threshold, p.max(axis=1))).mean()), 4
        ),
        "unknown": round(float((prediction.ood_score > 1).mean()), 4),
    }
