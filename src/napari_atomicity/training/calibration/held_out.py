"""Predictions of a model on labelled images, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from ...core.model_card import ModelCard
from ...models.estimators import Measured
from ...models.inference import Classifier, Prediction
from ...models.scale.intensity_scale import ConstrainedMixture
from ...models.scale.session_images import find_scales, measure_image, session_references
from ...models.scaled_predictions import has_solutions, predict_solutions
from ..data import PatchSet
from .scaling import FindScales, scales_by_image


@dataclass(frozen=True, eq=False)
class HeldOutPredictions:
    """Predictions of a model on the labelled clusters of an image."""

    rows: np.ndarray  # (N,): rows of the patch set
    known: Measured  # measurements and probabilities of the clusters
    embedding: np.ndarray  # (N, D): embedding of the clusters
    label: np.ndarray  # (N,): class index, -1 for clusters of no class


def predict_images(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    part: PatchSet,  # raw channel in counts
    device: torch.device,
    find_scales: FindScales = scales_by_image,
) -> list[HeldOutPredictions]:
    """Classify a patch set image by image.

    Clusters at the border have no label: they are only a part of the cluster of their class.
    """
    classifier = Classifier(card, tensors, device)
    images = []
    index = {c: i for i, c in enumerate(card.classes)}
    named = part.table["truth"].map(index).fillna(-1).to_numpy(int)
    label = np.where(part.table["touches_border"].to_numpy(bool), -1, named)
    rows_of = [np.asarray(v) for v in part.table.groupby("image", sort=False).indices.values()]
    tables = [part.table.iloc[rows].reset_index(drop=True) for rows in rows_of]
    scales: Sequence[ConstrainedMixture | None] = [None] * len(tables)
    if card.scale is not None:
        scales = find_scales(tables, card.scale)
    for rows, table, scale in zip(rows_of, tables, scales, strict=True):
        unit = 1.0 if scale is None else scale.intensity_per_atom
        result = classifier.predict(patches_in_unit(part, rows, unit))
        known = Measured(table, card, scale, result.probabilities)
        images.append(HeldOutPredictions(rows, known, result.embedding, label[rows]))
    return images


def predict_as_used(
    card: ModelCard,
    tensors: dict[str, np.ndarray],
    part: PatchSet,  # raw channel in counts
    device: torch.device,
    *,
    # Whether all images are one session; else each image is analysed alone
    one_session: bool = False,
) -> list[HeldOutPredictions]:
    """Classify a patch set as an analysis of its images does.

    With an apparent size on the card, probabilities are averaged over the solutions of the scale.
    """
    alone = predict_images(card, tensors, part, device)
    references = session_references(card)
    if references is None or not (one_session or card.apparent_size):
        return alone
    tables = [image.known.table for image in alone]
    measured = [measure_image(i.known.table, i.embedding, *references) for i in alone]
    if one_session:
        scales = find_scales(measured, tables, *references)
    else:
        each = zip(measured, tables, strict=True)
        scales = [find_scales([m], [table], *references)[0] for m, table in each]
    classifier = Classifier(card, tensors, device)
    return [_rescaled(*pair, part, classifier) for pair in zip(alone, scales, strict=True)]


def _rescaled(
    image: HeldOutPredictions, scale: ConstrainedMixture, part: PatchSet, classifier: Classifier
) -> HeldOutPredictions:
    """Classify an image again with each solution of another scale."""

    def predict(log_scale: float) -> Prediction:
        return classifier.predict(patches_in_unit(part, image.rows, np.exp(log_scale)))

    found = predict_solutions(scale, (), classifier.card, predict)
    best = found[0].prediction
    known = Measured(image.known.table, classifier.card, scale, best.probabilities)
    if has_solutions(classifier.card, scale):
        by_solution = np.stack([x.prediction.probabilities for x in found])
        known = replace(known, by_solution=by_solution)
    return replace(image, known=known, embedding=best.embedding)


def patches_in_unit(
    part: PatchSet,
    rows: np.ndarray,  # (n,): rows of the set
    unit: float,  # intensity of one atom in counts nm²
) -> dict[str, np.ndarray]:
    """Return the patches of some rows, the raw channel divided by a unit of the intensity."""
    patches = {c: p[rows] for c, p in part.patches.items()}
    if "raw" in patches:
        patches["raw"] = (patches["raw"] / unit).astype(np.float32)
    return patches


def stack_labels(images: Sequence[HeldOutPredictions]) -> np.ndarray:
    """Return the labels of all clusters that have one, in order."""
    return np.concatenate([s.label[s.label >= 0] for s in images])


def stack_labelled(
    images: Sequence[HeldOutPredictions], values: Sequence[np.ndarray]
) -> np.ndarray:
    """Return values of the labelled clusters of all images, in order."""
    return np.concatenate([v[s.label >= 0] for s, v in zip(images, values, strict=True)])


def recorded_image(table: pd.DataFrame) -> np.ndarray:
    """Return the recorded image of every cluster, also of clusters in shuffled mixtures."""
    return table["origin" if "origin" in table else "image"].to_numpy(object)
