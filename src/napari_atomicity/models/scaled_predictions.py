"""Predictions of the network for several units of the intensity, kept for another scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .classifier import Prediction
from .intensity_scale import ConstrainedMixture

SAME_SCALE = 0.03
"""Difference of ln scale below which the network sees the same patches: it was trained with a
scatter of 4 % of the scale."""
MIN_WEIGHT = 0.05
"""Weight of a solution below which any existing prediction, the nearest one, is sufficient."""


@dataclass(frozen=True, eq=False)
class ScaledPrediction:
    """Prediction for patches in a unit of the intensity.

    Parameters
    ----------
    log_scale : float
        Logarithm of the unit: intensity of one atom in counts nm².
    prediction : Prediction
        Prediction of the network.
    """

    log_scale: float
    prediction: Prediction


def predict_solutions(
    scale: ConstrainedMixture,
    known: Sequence[ScaledPrediction],
    n_solutions: int,
    predict: Callable[[float], Prediction] | None = None,
    min_weight: float = MIN_WEIGHT,
) -> list[ScaledPrediction] | None:
    """Return a prediction for each solution of a scale.

    Parameters
    ----------
    scale : ConstrainedMixture
        Scale of the image.
    known : sequence of ScaledPrediction
        Predictions that exist. One is used if its unit is that of the solution up to `SAME_SCALE`,
        or if the solution is not the first one and has less than ``min_weight``.
    n_solutions : int
        Number of solutions for which predictions are needed, from the first on.
    predict : callable, optional
        ``predict(log_scale)`` returns the prediction for another unit.
    min_weight : float, optional
        Weight of a solution that needs a prediction in its own unit.

    Returns
    -------
    list of ScaledPrediction or None
        One for each solution; None if one is missing and there is no ``predict``.
    """
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


def probabilities_by_solution(predictions: Sequence[ScaledPrediction]) -> np.ndarray:
    """Return the probabilities of each solution, (n_solutions, n_clusters, n_classes)."""
    return np.stack([x.prediction.probabilities for x in predictions])
