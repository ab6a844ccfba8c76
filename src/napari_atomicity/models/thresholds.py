"""The obvious estimators of atomicity: thresholds on one measured quantity.

`ThresholdClassifier` is such an estimator for scikit-learn.

They are what a network has to beat, so every card carries them, fitted on the same clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

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


class ThresholdClassifier(ClassifierMixin, BaseEstimator):
    """Classify clusters by thresholds on one quantity, such as the integrated intensity.

    It is the simplest estimator of atomicity, a baseline for others. It has the interface of
    scikit-learn: it works in pipelines and in ``cross_val_score``.

    Parameters
    ----------
    feature : int, optional
        Column of the quantity.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    thresholds_ : ndarray of shape (n_classes - 1,)
        Limits between classes, in ascending order of the quantity.
    order_ : ndarray of shape (n_classes,)
        Indices of the classes in ascending order of the quantity.

    Examples
    --------
    >>> known = analysis.table[analysis.table["label"] != "unknown"]
    >>> X, y = known[["integrated_intensity"]], known["label"]
    >>> ThresholdClassifier().fit(X, y).score(X, y)
    """

    def __init__(self, feature: int = 0) -> None:
        self.feature = feature

    def fit(self, X: Any, y: Any) -> Self:
        """Find the thresholds with the smallest balanced error.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Measured quantities.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        ThresholdClassifier
            This estimator.

        Raises
        ------
        ValueError
            If the data are not valid.
        """
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, label = np.unique(y, return_inverse=True)
        value, n_classes = self._values(X), len(self.classes_)
        medians = [np.median(value[label == k]) for k in range(n_classes)]
        self.order_ = np.argsort(medians, kind="stable")
        rank = np.argsort(self.order_)[label]
        self.thresholds_ = np.array(fit_thresholds(value, rank, n_classes))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the label of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Measured quantities.

        Returns
        -------
        ndarray of shape (n_samples,)

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return self.classes_[self.order_[by_thresholds(self._values(X), self.thresholds_.tolist())]]

    def _values(self, X: np.ndarray) -> np.ndarray:
        if not -X.shape[1] <= self.feature < X.shape[1]:
            raise ValueError(f"X has {X.shape[1]} features; feature {self.feature} is not there")
        return X[:, self.feature]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # it uses one of the features
        return tags
