"""The estimator with the interface of scikit-learn."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from napari_atomicity import ThresholdClassifier


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([ThresholdClassifier()])
def test_it_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


def test_labels_follow_the_quantity_and_not_the_alphabet():
    intensity = np.array([10.0, 11, 20, 21, 5, 6])[:, None]
    label = ["Pt19", "Pt19", "Pt30", "Pt30", "Pt8", "Pt8"]
    fitted = ThresholdClassifier().fit(intensity, label)
    assert list(fitted.predict([[5.5], [10.5], [25.0]])) == ["Pt8", "Pt19", "Pt30"]


def test_a_feature_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="feature 3"):
        ThresholdClassifier(feature=3).fit(np.ones((4, 2)), [0, 0, 1, 1])
