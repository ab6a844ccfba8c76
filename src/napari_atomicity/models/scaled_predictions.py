"""Predictions of the network for several units of the intensity, kept for another scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.model_card import ModelCard
from ..core.tables import cluster_table as tables
from ..core.tables.cluster_table import explained_classes
from ..statistics.ratios.ratio_notes import COMBINATION, MIN_SCALE_PROBABILITY
from .domain_shift import domain_shift
from .estimators import LABELS_FROM, Measured, count_atoms, opinions
from .inference import Classifier, Prediction
from .out_of_distribution import out_of_distribution
from .scale.intensity_scale import ConstrainedMixture


# ---- assign labels to clusters from measurements and network predictions
def assign_labels(
    table: pd.DataFrame,
    classifier: Classifier,
    prediction: Prediction,
    scale: ConstrainedMixture | None,
    # (K, N, C): probabilities of the network for each solution of the scale
    by_solution: np.ndarray | None = None,
    # Estimator of `estimators.LABELS_FROM` that gives labels and probabilities
    labels_from: str = COMBINATION,
) -> pd.DataFrame:
    """Fill the prediction columns of a cluster table; corrections remain.

    A cluster whose ``ood_score`` exceeds 1 is `table.UNKNOWN` or `table.AGGREGATE`; one without a
    measurable outline, which a person added, is `table.UNKNOWN`. Their probabilities are kept, but
    they hold among the classes only, so they give no confidence.
    """
    card = classifier.card
    known = Measured(table, card, scale, prediction.probabilities, by_solution)
    score, aggregate = out_of_distribution(known, prediction.embedding, classifier.ood_tensors)
    p = LABELS_FROM[labels_from](known)
    best = np.nan_to_num(p, nan=-1).argmax(axis=1) if len(p) else np.empty(0, int)
    done = np.asarray(np.isfinite(p).all(axis=1))
    classes = np.array(card.classes, dtype=object)
    label = np.where(done, classes[best], "")
    out: dict[str, Any] = {str(c): table[c] for c in table if not str(c).startswith("p_")}
    out |= zip(tables.probability_columns(card.classes), p.T, strict=True)
    measured = table["diameter_nm"].notna().to_numpy()
    outside = (score > 1) | ~measured
    # of what the border cuts nobody knows whether there is more than one
    aggregate &= measured & ~table["touches_border"].to_numpy(bool)
    elsewhere = np.where(aggregate, tables.AGGREGATE, tables.UNKNOWN)
    out["label_predicted"] = np.where(done & outside, elsewhere, label)
    out["confidence"] = np.where(outside, 0.0, p.max(axis=1) if len(p) else np.empty(0))
    sets = prediction_sets(p, card.conformal_threshold, card.classes)
    out["prediction_set"] = np.where(measured, sets, "")  # nothing speaks for a class
    out["ood_score"] = score
    out["model_id"] = card.model_id
    count = np.where(measured[:, None], count_atoms(known), np.nan)
    # the conditions are the image's: one answer for all of its clusters
    ours = ~table["touches_border"].to_numpy(bool) & ~outside
    out["conditions_differ"] = card.drift_limit is not None and bool(
        domain_shift(prediction.embedding[ours], best[ours], classifier.ood_tensors)
        > card.drift_limit
    )
    out |= zip(("n_atoms", "n_atoms_low", "n_atoms_high"), count.T, strict=True)
    out |= opinions(known, label)
    labelled = tables.settle_labels(pd.DataFrame(out, index=table.index))
    return tables.conform(labelled, card.classes)


def withhold_labels(
    table: pd.DataFrame,
    # Probability that the scale of the image is right, or within half a class of it
    scale_probability: float,
    limit: float = MIN_SCALE_PROBABILITY,  # probability below which labels are withheld
) -> pd.DataFrame:  # with ``label_predicted`` "" and ``confidence`` NaN where a label is withheld
    """Withhold the predicted labels of an image whose intensity scale is too uncertain.

    If the scale is wrong, all labels of the image are wrong together. Probabilities and prediction
    sets are kept, and so are ``unknown``, ``aggregate`` and corrections. The reason is that of
    `statistics.ratios.ratio_notes.ratio_notes`.
    """
    if scale_probability >= limit:
        return table
    of_class = ~table["label_predicted"].isin(["", *tables.NON_CLASS_LABELS])
    return tables.settle_labels(
        table.assign(
            label_predicted=table["label_predicted"].mask(of_class, ""),
            confidence=table["confidence"].mask(of_class),
        )
    )


def prediction_sets(
    p: np.ndarray,  # (N, C): probabilities; rows with NaN get ""
    threshold: float,  # conformal, 0 to 1
    classes: Sequence[str],
) -> np.ndarray:
    """Determine the classes above a threshold, with the best one and without gaps."""
    if not len(p):
        return np.empty(0, object)
    wanted = p >= np.minimum(threshold, p.max(axis=1, keepdims=True))
    n = len(classes)
    first, last = wanted.argmax(axis=1), n - 1 - wanted[:, ::-1].argmax(axis=1)
    said = np.array(
        [["|".join(classes[i : j + 1]) for j in range(n)] for i in range(n)], dtype=object
    )
    return np.asarray(np.where(np.isfinite(p).all(axis=1), said[first, last], ""), object)


SAME_SCALE = 0.03
"""Difference of ln scale below which the network sees the same patches: it was trained with a
scatter of 4 % of the scale."""
MIN_WEIGHT = 0.05
"""Weight of a solution below which any existing prediction, the nearest one, is sufficient."""


@dataclass(frozen=True, eq=False)
class ScaledPrediction:
    """Prediction for patches in a unit of the intensity."""

    log_scale: float  # logarithm of the unit: intensity of one atom in counts nm²
    prediction: Prediction  # prediction of the network


def predict_solutions(
    scale: ConstrainedMixture,
    known: Sequence[float],
    card: ModelCard,
    predict: Callable[[float], Prediction],
    min_weight: float = MIN_WEIGHT,
) -> list[ScaledPrediction]:
    """Return a prediction for each solution of a scale that labels need.

    Parameters
    ----------
    known : sequence of float
        Logarithms of the units in which the network predicts the image by itself. One is used if
        it is that of the solution up to `SAME_SCALE`, or if the solution is not the first one and
        has less than ``min_weight``.
    predict : callable
        ``predict(log_scale)`` returns the prediction for a unit.
    min_weight : float, optional
        Weight of a solution that needs a prediction in its own unit.
    """
    n_solutions = len(scale.weight) if has_solutions(card, scale) else 1
    found: list[ScaledPrediction] = []
    for k, (own, weight) in enumerate(
        zip(scale.shift[:n_solutions, 0].tolist(), scale.weight[:n_solutions], strict=True)
    ):
        nearest = min(known, key=lambda unit: abs(unit - own), default=own)
        usable = abs(nearest - own) <= SAME_SCALE or (k > 0 and weight < min_weight)
        unit = nearest if usable else own
        found.append(ScaledPrediction(unit, predict(unit)))
    return found


def label_solutions(
    table: pd.DataFrame,
    classifier: Classifier,
    scale: ConstrainedMixture | None,
    # From `predict_solutions`, the most probable solution first
    predictions: Sequence[ScaledPrediction],
    # Estimator of `estimators.LABELS_FROM` that gives labels and probabilities
    labels_from: str = COMBINATION,
) -> pd.DataFrame:
    """Label clusters with predictions for the solutions of the scale, unless it is too uncertain.

    The table has new predictions; corrections remain.
    """
    best = predictions[0].prediction
    if scale is None or not has_solutions(classifier.card, scale):
        return assign_labels(table, classifier, best, scale, labels_from=labels_from)
    solutions = np.stack([x.prediction.probabilities for x in predictions])
    used = scale if scale.is_known else replace(scale, weight=np.ones(len(scale.weight)))
    table = assign_labels(table, classifier, best, used, solutions, labels_from)
    if not scale.is_known:  # a network that does not know the scale counts no atoms
        table = table.assign(n_atoms=np.nan, n_atoms_low=np.nan, n_atoms_high=np.nan)
    return withhold_labels(table, scale.certainty)


def predicted_class_maps(
    table: pd.DataFrame,
    classifier: Classifier,
    patches: Mapping[str, np.ndarray],  # channel → (N, P, P) float32
    prediction: Prediction,
    *,
    symmetries: bool = False,
) -> dict[str, np.ndarray]:  # channel → (N, h, w) float32
    """Return the class maps of the predicted class of each cluster.

    The maps of a prediction are of the class that the network alone predicts. Where intensity and
    diameter lead to another label, the maps are computed again.
    """
    explained = explained_classes(table)
    by_network = np.nan_to_num(prediction.probabilities, nan=-1.0).argmax(axis=1)
    classes = np.array(classifier.card.classes, object)
    differs = (explained != "") & (explained != classes[by_network])
    if not differs.any() or not prediction.class_maps:
        return prediction.class_maps
    maps = {channel: values.copy() for channel, values in prediction.class_maps.items()}
    for label in dict.fromkeys(explained[differs]):
        rows = np.flatnonzero(differs & (explained == label))
        of_label = {channel: values[rows] for channel, values in patches.items()}
        found = classifier.class_maps(of_label, str(label), symmetries=symmetries)
        for channel, values in maps.items():
            values[rows] = found[channel]
    return maps


def has_solutions(card: ModelCard, scale: ConstrainedMixture | None) -> bool:
    """Return whether labels need a prediction for each solution of the scale."""
    return scale is not None and card.apparent_size is not None
