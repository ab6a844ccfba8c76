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
    """Cuts between neighbouring classes with the least balanced error, in which all weigh alike.

    All cuts are chosen together, by dynamic programming: those between two classes alone would
    follow few clusters of another size.

    Parameters
    ----------
    value : ndarray of shape (N,)
        Measured quantity, growing with the class on the whole. Values that are not finite do not
        count.
    label : ndarray of shape (N,)
        Class indices.
    n_classes : int
        C; C - 1 thresholds come back, in ascending order.
    """
    known = np.isfinite(value)
    if not known.any():
        return (np.nan,) * (n_classes - 1)
    candidates, at = np.unique(value[known], return_inverse=True)
    number = np.zeros((n_classes, len(candidates) + 1))
    np.add.at(number, (label[known], at + 1), 1)
    # share[k, i]: of class k, up to the i-th candidate.
    share = number.cumsum(axis=1) / np.maximum(number.sum(axis=1, keepdims=True), 1)
    best, chosen = share[0], []
    for own in share[1:]:
        # What the classes before contribute with a cut at i, less what this one loses by it.
        gain = np.round(best - own, 12)
        highest = np.maximum.accumulate(gain)
        is_new = np.append(True, gain[1:] > highest[:-1])
        chosen.append(np.maximum.accumulate(np.where(is_new, np.arange(len(gain)), 0)))
        best = highest + own
    cuts, i = [], len(candidates)
    below = np.nextafter(candidates[0], -np.inf)
    for first in chosen[::-1]:
        i = int(first[i])
        cuts.append(float(candidates[i - 1] if i else below))
    return tuple(cuts[::-1])


def by_thresholds(value: np.ndarray, cuts: Sequence[float]) -> np.ndarray:
    """Class indices (N,) of values."""
    return np.asarray(np.searchsorted(np.asarray(cuts), value, side="left"))
