"""Answers of the methods for the clusters of classified images, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..core.tables.cluster_table import ALL, concatenate
from ..models.analysis import Analysis, limits_of
from ..statistics.ratios.ratios import class_ratios
from .data import ValidationImage
from .methods import ComparedMethod

ANSWER = [
    "method", "group", "image", "sample", "cluster_id", "true", "predicted", "confidence", "in_set",
]  # fmt: skip
"""Columns of the answers: a row per counted cluster, and one per true cluster that is missed."""
INTERVAL = [
    "method", "group", "sample", "class", "true", "fraction", "fraction_low", "fraction_high",
]  # fmt: skip
"""Columns of the class ratios with their intervals."""


def answer_table(
    method: ComparedMethod, images: Sequence[ValidationImage], analyses: Sequence[Analysis]
) -> pd.DataFrame:
    """Collect the answers of a method."""
    parts = [_answers(method, *pair) for pair in zip(images, analyses, strict=True)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=ANSWER)


def _answers(method: ComparedMethod, image: ValidationImage, analysis: Analysis) -> pd.DataFrame:
    found = method.answer(analysis)
    rows = np.flatnonzero(image.counts)
    true = image.truth[rows]
    in_set = np.full(len(rows), np.nan)
    if found.sets is not None:
        sets = [str(s).split("|") for s in np.asarray(found.sets, object)[rows]]
        inside = [float(t in s) for t, s in zip(true, sets, strict=True)]
        in_set = np.where(true != "", inside, np.nan)
    table = pd.DataFrame(
        {
            "cluster_id": analysis.table["cluster_id"].to_numpy()[rows],
            "true": true,
            "predicted": np.asarray(found.label, object)[rows],
            "confidence": np.asarray(found.confidence, float)[rows],
            "in_set": in_set,
        }
    )
    missed = pd.DataFrame({"cluster_id": -1, "true": list(image.missed), "predicted": ""})
    whole = pd.concat([table, missed], ignore_index=True) if image.missed else table
    whole = whole.assign(
        method=method.name, group=image.group, image=image.name, sample=image.sample
    )
    return whole[ANSWER]


def interval_table(
    method: ComparedMethod,
    images: Sequence[ValidationImage],
    analyses: Sequence[Analysis],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Compute the class ratios of each sample with their intervals, as an analysis does."""
    parts = []
    for sample in dict.fromkeys(image.sample for image in images):
        rows = [i for i, image in enumerate(images) if image.sample == sample]
        own = [analyses[i] for i in rows]
        table = concatenate([a.table for a in own])
        found = class_ratios(table, list(classes), scope=ALL, limits=limits_of(own))
        found = found.set_index("class").reindex(list(classes))
        true = true_fractions([images[i] for i in rows], classes)
        columns = ["fraction", "fraction_low", "fraction_high"]
        part = found[columns].assign(true=[true[c] for c in classes], sample=sample)
        parts.append(part.assign(group=images[rows[0]].group).reset_index())
    if not parts:
        return pd.DataFrame(columns=INTERVAL)
    return pd.concat(parts, ignore_index=True).assign(method=method.name)[INTERVAL]


def true_fractions(images: Sequence[ValidationImage], classes: Sequence[str]) -> dict[str, float]:
    """Return the true fractions of a sample: of its clusters, or else as deposited."""
    if not all(image.has_truth for image in images):
        return {c: images[0].deposited.get(c, 0.0) for c in classes}
    labels = [t for image in images for t in (*image.truth[image.counts], *image.missed) if t]
    total = max(1, len(labels))
    return {c: labels.count(c) / total for c in classes}
