"""The obvious estimators of atomicity: thresholds on one measured quantity.

They are what a network has to beat, so every card carries them, fitted on the same clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .scale.intensity_scale import usable


def quantities(table: pd.DataFrame, intensity_per_atom: float) -> dict[str, np.ndarray]:
    """Compute the quantities for thresholds of the clusters of one image: name → (N,).

    The intensity in three units: counts nm² as recorded; relative to the median of the image's
    whole clusters; and in atoms, by the scale that the constrained mixture finds.
    """
    intensity = table["integrated_intensity"].to_numpy(float)
    whole = intensity[usable(table)]
    middle = float(np.median(whole)) if len(whole) else 1.0
    return {
        "diameter": table["diameter_nm"].to_numpy(float),
        "intensity": intensity,
        "intensity / image median": intensity / (middle or 1.0),
        "intensity / constrained mixture": intensity / intensity_per_atom,
    }


def fit_thresholds(value: np.ndarray, label: np.ndarray, n_classes: int) -> tuple[float, ...]:
    """Cuts between neighbouring classes with the least balanced error.

    Parameters
    ----------
    value : ndarray of shape (N,)
        Measured quantity, growing with the class on the whole.
    label : ndarray of shape (N,)
        Class indices.
    n_classes : int
        C; C - 1 thresholds come back, in ascending order.
    """
    cuts = []
    for k in range(n_classes - 1):
        low, high = np.sort(value[label == k]), np.sort(value[label == k + 1])
        candidates = np.unique(np.concatenate([low, high]))
        error = 1 - np.searchsorted(low, candidates, side="right") / max(1, len(low))
        error = error + np.searchsorted(high, candidates, side="right") / max(1, len(high))
        cuts.append(float(candidates[np.argmin(error)]) if len(candidates) else np.nan)
    return tuple(np.maximum.accumulate(cuts))


def by_thresholds(value: np.ndarray, cuts: Sequence[float]) -> np.ndarray:
    """Class indices (N,) of values."""
    return np.asarray(np.searchsorted(np.asarray(cuts), value, side="left"))
