"""References, limits and card of an adapted model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from ..._version import __version__
from ...core.apparent_size import ApparentSize
from ...core.model_card import ModelCard
from ...models.analysis import Analysis
from ...models.classifier import Classifier, Prediction
from ...models.domain_shift import ROOM, domain_shift
from ...models.estimators import Measured
from ...models.out_of_distribution import QUANTILE, features, margins, placed
from .pseudo_labels import Target
from .settings import AdaptSettings

NEAREST = 5
"""Number of old references that determine the position of a new one in the map."""


def update_references(
    old: Classifier, tensors: dict[str, np.ndarray], was: np.ndarray, now: np.ndarray
) -> dict[str, np.ndarray]:
    """Class means and references of the embedding, by the replayed patches before and after.

    In the map they lie where their nearest old references lie, so that the places of clusters
    before and after can be compared.
    """
    from sklearn.neighbors import KNeighborsRegressor

    label = tensors["replay.label"]
    mean = tensors["ood.mean"].copy()
    for i in np.unique(label):
        mean[i] += (now[label == i] - was[label == i]).mean(axis=0)
    tensors = {**tensors, "ood.mean": mean}
    if len(old.reference_map) < NEAREST:
        return tensors
    nearest = KNeighborsRegressor(NEAREST, weights="distance")
    nearest.fit(old.reference_embedding.astype(np.float32), old.reference_map)
    return {
        **tensors,
        "reference.embedding": now.astype(np.float16),
        "reference.label": label,
        "reference.map": nearest.predict(was).astype(np.float32),
    }


def raise_margin_limit(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    seen: Sequence[tuple[Analysis, Prediction]],  # analysis and prediction of each image
    target: Target,  # clusters that were learnt from
) -> dict[str, np.ndarray]:
    """Raise the limit of `models.out_of_distribution`, so that training clusters are known."""
    if "outside.axes" not in tensors:
        return tensors
    found = []
    for analysis, result in seen:
        known = Measured(analysis.table, card, analysis.scale, result.probabilities)
        found.append(margins(features(known, placed(result.embedding, tensors), tensors), tensors))
    margin = np.concatenate(found)[target.label >= 0]
    bias = tensors["outside.output.bias"].copy()
    bias[0] += max(0.0, float(np.quantile(margin, 0.99)))
    return {**tensors, "outside.output.bias": bias}


def update_card(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    numbers: dict[str, int],  # class → number of clusters that were learnt from
    target: Target,
    settings: AdaptSettings,
    seen: Sequence[tuple[Analysis, Prediction]],
    replayed: Prediction,
    share: float,  # fraction of the change that was kept
) -> ModelCard:
    """Update the card of an adapted model; its limits include both conditions."""
    here = np.concatenate([result.embedding for _, result in seen])
    embedding = np.concatenate([here[target.label >= 0], replayed.embedding])
    distance = placed(embedding, tensors).to_classes.min(axis=1)
    record = {
        "from": card.model_id,
        "images": [{"image": a.micrograph.name, "sha256": a.micrograph.sha256} for a, _ in seen],
        "pseudo_labels": numbers,
        "corrections": int(target.certain.sum()),
        "share_of_change": share,
        **asdict(settings),
    }
    return replace(
        card,
        apparent_size=refit_apparent_size(card, seen, target),
        ood_limit=max(card.ood_limit, float(np.quantile(distance, QUANTILE))),
        drift_limit=_drift_limit(card, seen, tensors),
        description=f"{card.description} Adapted to {len(seen)} images.",
        limits=f"{card.limits} Adapted: calibration and scores are those of {card.name}.".strip(),
        data={**card.data, "adaptation": record},
        version=__version__,
    )


def labels_need_scale(card: ModelCard) -> bool:
    """Return whether the labels of a model depend on the intensity scale of the image."""
    return card.patches.raw_unit == "atoms" or card.combination is not None


def channels_of_scale(card: ModelCard) -> tuple[str, ...]:
    """Return the channels whose features must stay, because the scales are found by them.

    An adaptation to a few images would change the apparent sizes in others. Where all channels
    contribute, none has to stay: `refit_apparent_size` follows the changed features.
    """
    apparent = card.apparent_size
    if apparent is None or not apparent.weights or not labels_need_scale(card):
        return ()
    channels = card.patches.channels
    n_features = len(apparent.weights) // len(channels)
    parts = np.reshape(apparent.weights[: n_features * len(channels)], (len(channels), -1))
    used = tuple(c for c, weights in zip(channels, parts, strict=True) if weights.any())
    return used if len(used) < len(channels) else ()


def refit_apparent_size(
    card: ModelCard, seen: Sequence[tuple[Analysis, Prediction]], target: Target
) -> ApparentSize | None:
    """Fit the apparent sizes of the classes to the features of the changed network.

    The weights of the features stay. The new sizes of the classes are a linear function of those
    before, as the clusters learnt from ask, each class with the same weight. The mean error of
    these clusters is then zero.
    """
    apparent = card.apparent_size
    if apparent is None or card.scale is None:
        return None
    if channels_of_scale(card):
        return replace(apparent, log_intensity=card.scale.log_intensity)
    found = [apparent.measure(r.embedding, a.table["diameter_nm"].to_numpy(float)) for a, r in seen]
    size = np.concatenate(found)
    rows = (target.label >= 0) & np.isfinite(size)
    label, before = target.label[rows], np.array(apparent.log_size)
    weight = 1 / np.sqrt(np.bincount(label, minlength=len(before))[label])
    slope, constant = np.polyfit(before[label], size[rows], 1, w=weight)
    if slope <= 0:
        return None
    return replace(
        apparent,
        log_intensity=card.scale.log_intensity,
        log_size=tuple(map(float, constant + slope * before)),
        scatter=float(slope * apparent.scatter),
    )


def _drift_limit(
    card: ModelCard,
    seen: Sequence[tuple[Analysis, Prediction]],
    tensors: dict[str, np.ndarray],
) -> float | None:
    """Raise the limit of the drift to that of the images."""
    if card.drift_limit is None:
        return None
    found = [card.drift_limit]
    for analysis, result in seen:
        label = np.nan_to_num(result.probabilities, nan=-1).argmax(axis=1)
        ours = ~analysis.table["touches_border"].to_numpy(bool)
        found.append(ROOM * domain_shift(result.embedding[ours], label[ours], tensors))
    return float(np.nanmax(found))
