"""Pseudo-labels: clusters whose class intensity and diameter, or the diameter alone, determine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ...core.apparent_size import ApparentSize
from ...core.model_card import ModelCard
from ...core.scale_reference import ScaleReference
from ...core.tables import cluster_table as tables
from ...models.analysis import Analysis
from ...models.diameter_density import SESSION_SCATTER, diameter_posterior
from ...models.scale.intensity_scale import usable
from ...models.scale.session_images import find_scales, measure_image, require_references
from .settings import DIAMETER, AdaptSettings

MAX_OUTSIDE = 0.5
CORRELATION = 0.1
"""Correlation of the diameters of clusters of one class in an image, which share focus and often
few isomers. Without it, sessions of one size per image have wrong labels with certainty."""
MIN_OTHER = 0.02
"""Probability by the apparent sizes of the model below which they contradict a label."""


def is_scale_ambiguous(before: Analysis, after: Analysis, reference: ScaleReference) -> bool:
    """Return whether another reference shifts the scale of an image by half a class or more.

    One of the two scales is then wrong, and the clusters of the image are ambiguous.
    """
    if before.scale is None or after.scale is None:
        return True
    change = abs(before.scale.shift[0, 0] - after.scale.shift[0, 0])
    return bool(change > np.diff(np.sort(reference.log_intensity)).min() / 2)


def select_classified(table: pd.DataFrame) -> pd.DataFrame:
    """Without what is an aggregate or nothing."""
    return table[~is_non_class(table)]


def is_non_class(table: pd.DataFrame) -> np.ndarray:
    """Clusters (N,) that are of no class: by a person, or by the model.

    A model that says so of most of an image is taken to be wrong about the image: it is what an
    adaptation is there for.
    """
    given = table["label_corrected"]
    by_person = given.isin(tables.NON_CLASS_LABELS).to_numpy()
    by_model = ((given == "") & table["label_predicted"].isin(tables.NON_CLASS_LABELS)).to_numpy()
    return np.asarray(by_person | (by_model & (by_model.sum() < MAX_OUTSIDE * len(table))))


@dataclass(frozen=True, eq=False)
class Target:
    """Clusters of all images to learn from.

    Patches, class indices (N,) (-1: ambiguous), whether (N,) a person gave the label, and whether
    (N,) the prediction is averaged over the symmetries.

    """

    patches: dict[str, np.ndarray]
    label: np.ndarray
    certain: np.ndarray
    averaged: np.ndarray


def labels_by_session(
    analyses: Sequence[Analysis], card: ModelCard, min_probability: float
) -> list[np.ndarray]:
    """Class indices (N,) of the clusters of each image by intensity and size, else -1.

    Only isolated, whole clusters get a label. The images have one scale together: blur shifts the
    diameters of an image, and alone an image of one size could be put on any class. The scale is
    found by diameters, whose common error may be as large as under other conditions; those of an
    image have an error in common besides. It is found
    once more by the apparent sizes of the model if it has them: under other conditions the features
    of a network may tell little, but they must not contradict a label. The reference is that of the
    model, because one that is fitted to the images shares the errors of their scales.
    """
    reference = require_references(card)[1]
    diameters = replace(
        ApparentSize.from_diameters(reference), scatter=SESSION_SCATTER, correlation=CORRELATION
    )
    probabilities = _session_probabilities(diameters, reference, analyses)
    others = probabilities
    if card.apparent_size is not None:
        others = _session_probabilities(card.apparent_size, reference, analyses)
    labels = []
    for p, other in zip(probabilities, others, strict=True):
        label = p.argmax(axis=1)
        rows = np.arange(len(label))
        is_sure = (p[rows, label] >= min_probability) & (other[rows, label] >= MIN_OTHER)
        labels.append(np.where(is_sure, label, -1))
    return labels


def _session_probabilities(
    sizes: ApparentSize, reference: ScaleReference, analyses: Sequence[Analysis]
) -> list[np.ndarray]:
    """Class probabilities (N, n_classes) of the clusters of each image by one kind of sizes.

    They are 0 for clusters that are not usable.
    """
    image_tables = [a.table for a in analyses]
    measured = [measure_image(a.table, a.embedding, sizes, reference) for a in analyses]
    probabilities = []
    scales = find_scales(measured, image_tables, sizes, reference)
    for table, scale in zip(image_tables, scales, strict=True):
        intensity = table["integrated_intensity"].to_numpy(float)
        p = scale.probabilities(intensity, table["diameter_nm"].to_numpy(float))
        probabilities.append(np.nan_to_num(np.where(usable(table)[:, None], p, np.nan)))
    return probabilities


def labels_by_diameter(
    analyses: Sequence[Analysis], card: ModelCard, min_probability: float
) -> list[np.ndarray]:
    """Class indices (N,) of the clusters of each image that the diameter determines, else -1.

    Only isolated, whole clusters get a label. The common error of the diameters of the images is
    unknown, see `models.diameter_density`.
    """
    rows = [usable(a.table) for a in analyses]
    diameters = [
        a.table["diameter_nm"].to_numpy(float)[own] for a, own in zip(analyses, rows, strict=True)
    ]
    found = diameter_posterior(diameters, card)
    labels = [np.full(len(a.table), -1) for a in analyses]
    for label, own, p in zip(labels, rows, found.probabilities, strict=True):
        label[own] = np.where(p.max(axis=1) >= min_probability, p.argmax(axis=1), -1)
    return labels


def diameter_ranges(
    analyses: Sequence[Analysis], label: np.ndarray, classes: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Return the smallest and largest diameter of the clusters with a pseudo-label."""
    diameter_nm = np.concatenate([a.table["diameter_nm"].to_numpy(float) for a in analyses])
    own = [diameter_nm[label == i] for i in range(len(classes))]
    return {
        name: [(float(d.min()), float(d.max()))] if len(d) else []
        for name, d in zip(classes, own, strict=True)
    }


def find_target(
    analyses: Sequence[Analysis],
    card: ModelCard,
    settings: AdaptSettings,
    steady: Sequence[bool],
) -> Target:
    """Collect the clusters to learn from, with pseudo-labels and corrections."""
    labels, certain = [], []
    index = {c: i for i, c in enumerate(card.classes)}
    if settings.pseudo_label_method == DIAMETER:
        by_image = labels_by_diameter(analyses, card, settings.posterior)
    else:
        by_image = labels_by_session(analyses, card, settings.posterior)
    for analysis, label, is_steady in zip(analyses, by_image, steady, strict=True):
        if not is_steady:
            label[:] = -1
        # what is an aggregate or no cluster at all must teach nothing
        label[is_non_class(analysis.table)] = -1
        given = analysis.table["label_corrected"]
        corrected = given.map(index).fillna(-1).to_numpy(int)
        label = np.where(corrected >= 0, corrected, np.where(given != "", -1, label))
        # as in a training on corrected labels
        counts = tables.is_whole(analysis.table) & tables.is_measured(analysis.table)
        labels.append(np.where(counts, label, -1))
        certain.append((corrected >= 0) & counts)
    return Target(
        join_patches(analyses, card.patches.channels),
        np.concatenate(labels),
        np.concatenate(certain),
        np.repeat([a.symmetries for a in analyses], [len(a.table) for a in analyses]),
    )


def join_patches(analyses: Sequence[Analysis], channels: Sequence[str]) -> dict[str, np.ndarray]:
    """Join the patches of several images, per channel."""
    return {c: np.concatenate([a.patches[c] for a in analyses]) for c in channels}
