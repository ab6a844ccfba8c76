"""Recovery from shifted conditions: adaptation on the session and on each new image alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.progress import Progress, Stop, check, report
from ..models.analysis import Analysis
from ..pipeline.adaptation.fine_tuning import adapt, choose_settings
from .answers import answer_table
from .data import ValidationImage
from .methods import ComparedMethod, FittedModel, label_images


@dataclass(frozen=True, eq=False)
class Adapted:
    """A model after an adaptation."""

    # the adapted model, or the model as it was if the adaptation was not accepted
    model: FittedModel
    # ``accepted``, ``reasons``, ``pseudo_labels``, how many of these are of clusters of known class
    # (``pseudo_labels_known``) and are right (``pseudo_labels_right``), and ``seconds``
    facts: dict[str, Any]


def adapt_model(
    model: FittedModel,
    analyses: Sequence[Analysis],  # images under the new conditions
    pseudo_labels: str,  # "combined" or "diameter"
    seed: int,
    truth: Sequence[np.ndarray] = (),
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Adapted:
    """Adapt a model to classified images without their labels."""
    from ..models.files import hashed

    settings = replace(choose_settings(pseudo_labels), seed=seed)
    classifier = model.classifier()
    started = time.perf_counter()
    found = adapt(analyses, model.card, model.tensors, settings, classifier.device, progress, stop)
    facts = {
        "accepted": found.accepted,
        "reasons": list(found.reasons),
        "pseudo_labels": found.pseudo_labels,
        **_count_right(found.pseudo_label_rows, truth, model.card.classes),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if not found.accepted:
        return Adapted(model, facts)
    return Adapted(
        FittedModel(hashed(found.card, found.tensors), found.tensors, model.device), facts
    )


def _count_right(
    labels: Sequence[np.ndarray], truth: Sequence[np.ndarray], classes: Sequence[str]
) -> dict[str, int]:
    """Count the pseudo-labels of clusters of known class, and those that are right."""
    known, right = 0, 0
    for label, true in zip(labels, truth, strict=False):  # there may be no truth
        rows = (label >= 0) & (true != "")
        known += int(rows.sum())
        right += int((np.array(classes, object)[label[rows]] == true[rows]).sum())
    return {"pseudo_labels_known": known, "pseudo_labels_right": right}


def adapt_each_image(
    model: FittedModel,
    images: Sequence[ValidationImage],  # images under the new conditions
    method: ComparedMethod,
    pseudo_labels: str,
    seed: int,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[dict[str, Any]]:
    """Adapt a model to each image alone, and score its answers before and after."""
    rows = []
    for i, image in enumerate(images):
        check(stop)
        report(progress, i, len(images), f"Adapting to {image.name} alone")
        before = label_images([image.detection], model)
        adapted = adapt_model(model, before, pseudo_labels, seed, [image.truth])
        after = label_images([image.detection], adapted.model)
        sides = [answer_table(method, [image], side) for side in (before, after)]
        rows.append({"image": image.name, **adapted.facts, **_compare(*sides)})
    return rows


def _compare(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float | None]:
    out: dict[str, float | None] = {}
    for name, answers in (("before", before), ("after", after)):
        labelled = answers[answers["predicted"] != ""]
        scored = labelled[labelled["true"] != ""]
        shares = labelled["predicted"].value_counts(normalize=True)
        right = scored["true"] == scored["predicted"]
        out[f"accuracy_{name}"] = float(right.mean()) if len(scored) else None
        out[f"most_called_share_{name}"] = float(shares.iloc[0]) if len(shares) else None
    return out


# ---- the map
def place_clusters(
    images: Sequence[ValidationImage], analyses: Sequence[Analysis], model: FittedModel
) -> pd.DataFrame:
    """Place the clusters of known class in the map of a model."""
    from ..models.embedding import place

    classifier = model.classifier()
    parts = []
    for image, analysis in zip(images, analyses, strict=True):
        rows = np.flatnonzero(image.counts & (image.truth != ""))
        x, y = place(analysis.embedding, classifier).astype(float)[rows].T
        own = analysis.table.iloc[rows][["image", "cluster_id", "confidence"]]
        parts.append(own.assign(label=image.truth[rows], umap_1=x, umap_2=y))
    return pd.concat(parts, ignore_index=True)


def separation(images: Sequence[ValidationImage], analyses: Sequence[Analysis]) -> float | None:
    """Compute the mean silhouette of the true classes in the embedding.

    References
    ----------
    .. [1] P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of
       cluster analysis", J. Comput. Appl. Math. 20, 53 (1987).
    """
    from sklearn.metrics import silhouette_score

    embedding, label = [], []
    for image, analysis in zip(images, analyses, strict=True):
        rows = image.counts & (image.truth != "") & analysis.is_embedded
        embedding.append(analysis.embedding[rows])
        label.append(image.truth[rows])
    labels = np.concatenate(label)
    n_classes = len(set(labels))
    if not 2 <= n_classes < len(labels):
        return None
    return float(silhouette_score(np.concatenate(embedding), labels))
