"""What people say of what the machine says."""

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.statistics.intervals import wilson_interval
from napari_atomicity.statistics.stratified_accuracy import on_corrected

CLASSES = ["Pt19", "Pt30", "Pt41"]


def table(pairs) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["label_corrected", "label_predicted"])


def test_counts_stand_where_person_and_machine_meet():
    found = on_corrected(
        table(
            [("Pt30", "Pt19")] * 3
            + [("Pt19", "Pt19")] * 5
            + [("unknown", "Pt30"), ("other", "Pt30"), ("", "Pt30"), ("Pt41", "")]
        ),
        CLASSES,
    )
    assert list(found.confusion.index) == ["Pt19", "Pt30", "unknown", "other"]
    assert list(found.confusion.columns) == list(found.confusion.index)
    assert found.confusion.loc["Pt30", "Pt19"] == 3 and found.confusion.loc["Pt19", "Pt30"] == 0
    assert (found.clusters, found.right, found.by_hand) == (10, 5, 1)
    assert found.accuracy == 0.5
    assert found.interval() == pytest.approx(
        [float(x[0]) for x in wilson_interval(np.array([0.5]), 10)]
    )
    assert found.shares().loc["Pt19", "Pt19"] == 1 and found.shares().loc["Pt30", "Pt19"] == 1
    assert found.shares().to_numpy().sum(axis=1).tolist() == [1, 1, 1, 1]


def test_a_label_that_only_the_machine_gives_has_a_row_of_zeros():
    found = on_corrected(table([("Pt30", "aggregate")]), CLASSES)
    assert found.confusion.loc["aggregate"].tolist() == [0, 0]
    assert found.shares().loc["aggregate"].tolist() == [0, 0]
    assert found.accuracy == 0


def test_without_corrections_there_is_nothing():
    found = on_corrected(table([("", "Pt19")]), CLASSES)
    assert found.clusters == found.right == found.by_hand == 0 and found.confusion.empty
    assert np.isnan([found.accuracy, *found.interval()]).all()
