"""Classification by thresholds on one measured quantity, as an estimator of scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .thresholds import by_thresholds, fit_thresholds


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
