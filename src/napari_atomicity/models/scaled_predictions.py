"""Predictions of the network for several units of the intensity, kept for another scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.cluster_table import explained_classes
from ..core.model_card import ModelCard
from ..statistics.ratio_notes import COMBINATION
from .classifier import Classifier, Prediction
from .intensity_scale import ConstrainedMixture
from .label_assignment import assign_labels, withhold_labels

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
    known: Sequence[ScaledPrediction],
    card: ModelCard,
    predict: Callable[[float], Prediction] | None = None,
    min_weight: float = MIN_WEIGHT,
) -> list[ScaledPrediction] | None:
    """Return a prediction for each solution of a scale.

    Parameters
    ----------
    known : sequence of ScaledPrediction
        Predictions that exist. One is used if its unit is that of the solution up to `SAME_SCALE`,
        or if the solution is not the first one and has less than ``min_weight``.
    predict : callable, optional
        ``predict(log_scale)`` returns the prediction for another unit.
    min_weight : float, optional
        Weight of a solution that needs a prediction in its own unit.

    Returns
    -------
    list of ScaledPrediction or None
        One for each solution that labels need; None if one is missing and there is no ``predict``.
    """
    n_solutions = len(scale.weight) if has_solutions(card, scale) else 1
    found: list[ScaledPrediction] = []
    for k, (log_scale, weight) in enumerate(
        zip(scale.shift[:n_solutions, 0], scale.weight[:n_solutions], strict=True)
    ):
        nearest = min(known, key=lambda x: abs(x.log_scale - log_scale), default=None)
        usable = nearest is not None and (
            abs(nearest.log_scale - log_scale) <= SAME_SCALE or (k > 0 and weight < min_weight)
        )
        if nearest is not None and usable:
            found.append(nearest)
        elif predict is not None:
            found.append(ScaledPrediction(float(log_scale), predict(float(log_scale))))
        else:
            return None
    return found


def label_solutions(
    table: pd.DataFrame,
    classifier: Classifier,
    scale: ConstrainedMixture | None,
    predictions: Sequence[ScaledPrediction],
    labels_from: str = COMBINATION,
) -> pd.DataFrame:
    """Label clusters with predictions for the solutions of the scale, unless it is too uncertain.

    Parameters
    ----------
    predictions : sequence of ScaledPrediction
        From `predict_solutions`, the most probable solution first.
    labels_from : str, optional
        Estimator of `estimators.LABELS_FROM` that gives labels and probabilities.

    Returns
    -------
    DataFrame
        Table with new predictions; corrections remain.
    """
    best = predictions[0].prediction
    if scale is None or not has_solutions(classifier.card, scale):
        return assign_labels(table, classifier, best, scale, labels_from=labels_from)
    solutions = np.stack([x.prediction.probabilities for x in predictions])
    table = assign_labels(table, classifier, best, scale, solutions, labels_from)
    return withhold_labels(table, scale.certainty)


def predicted_class_maps(
    table: pd.DataFrame,
    classifier: Classifier,
    patches: Mapping[str, np.ndarray],
    prediction: Prediction,
    *,
    symmetries: bool = False,
) -> dict[str, np.ndarray]:
    """Return the class maps of the predicted class of each cluster.

    The maps of a prediction are of the class that the network alone predicts. Where intensity and
    diameter lead to another label, the maps are computed again.

    Parameters
    ----------
    patches : mapping of str to ndarray
        Channel → (N, P, P) float32.

    Returns
    -------
    dict of str to ndarray
        Channel → (N, h, w) float32.
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
