"""Rows of a table by a line that a person types."""

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.core.tables.filtering import EXAMPLES, matching_rows

TABLE = conform(
    pd.DataFrame(
        {
            "image": ["field_1.tif", "field_1.tif", "Süd 2.tif", "not.tif"],
            "cluster_id": [1, 2, 1, 1],
            "diameter_nm": [0.9, 1.3, 1.4, 1.5],
            "touches_border": [False, True, False, False],
            "label": ["Pt19", "Pt41", "unknown", ""],
            "confidence": [0.95, 0.6, 0.0, np.nan],
            "p_Pt19": [0.9, 0.2, 0.1, np.nan],
        }
    )
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [0, 1, 2, 3]),
        ("   ", [0, 1, 2, 3]),
        ("confidence < 0.8", [1, 2]),
        ("confidence >= 0.6", [0, 1]),
        ("CONFIDENCE ≥ .6", [0, 1]),
        ("confidence != 0.6", [0, 2]),
        ("confidence = none", [3]),
        ("confidence != none", [0, 1, 2]),
        ("p_Pt19 > 1e-1", [0, 1]),
        ("label = pt41", [1]),
        ("label=Pt41", [1]),
        ("label != Pt41", [0, 2, 3]),
        ('label = ""', [3]),
        ("label ~ Pt", [0, 1]),
        ("touches_border", [1]),
        ("not touches_border", [0, 2, 3]),
        ("touches_border = no", [0, 2, 3]),
        ("touches_border != no", [1]),
        ("pt", [0, 1]),
        ("field_1 19", [0]),
        ('image = "süd 2.tif"', [2]),
        ("'Süd 2'", [2]),
        ("not.tif", [3]),
        ("film_7", []),
        ("label = Pt19 or label = Pt41 and confidence < 0.5", [0]),
        ("(label = Pt19 or label = Pt41) and confidence < 0.7", [1]),
        ("(label = Pt19 | label = Pt41) & confidence < 0.7", [1]),
        ("label == Pt19 || label == Pt41 && confidence < 0.5", [0]),
        ("(label=Pt19|label=Pt41)&confidence<0.7", [1]),
        ("unknown||touches_border", [1, 2]),
        ("not (label = Pt19 or unknown)", [1, 3]),
        ("cluster_id = 1 diameter_nm > 1", [2, 3]),
        ("confidence > p_Pt19", [0, 1]),
        ("diameter_nm <= cluster_id", [0, 1]),
        ("label != label_predicted", [0, 1, 2]),
        ("label = LABEL_PREDICTED", [3]),
        ('label = "label_predicted"', []),
        ("touches_border = touches_neighbour", [0, 2, 3]),
    ],
)
def test_a_line_finds_its_rows(line, expected):
    assert np.flatnonzero(matching_rows(TABLE, line)).tolist() == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("faceted", [0]),
        ("not faceted", [1, 2, 3]),
        ("faceted = yes", [0]),
        ("faceted = no", [1]),
        ("faceted != yes", [1]),
        ("faceted = 1", [0]),
        ("faceted < 0.5", [1]),
        ("faceted = none", [2, 3]),
        ("remark = none", [0, 2]),
        ("remark != none", [1, 3]),
        ("remark ~ tw", [3]),
    ],
)
def test_own_columns_that_only_some_images_have(line, expected):
    """Of these, flags are numbers, and a text is missing (`table_cache`)."""
    own = {"faceted": [1.0, 0.0, np.nan, np.nan], "remark": [np.nan, "round", None, "twinned"]}
    assert np.flatnonzero(matching_rows(TABLE.assign(**own), line)).tolist() == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("confidense < 0.8", "Perhaps confidence"),
        ("not touch_border", "Perhaps touches_border"),
        ("label = confidence", "label and confidence"),
        ("label < label_predicted", "label and label_predicted"),
        ("confidence < much", "confidence is a number"),
        ("confidence < 0,8", "written with a point"),
        ("confidence ~ 8", "Use ="),
        ("confidence <", "missing after confidence <"),
        ("confidence", "confidence needs a comparison"),
        ("label < Pt41", "is text"),
        ("touches_border = maybe", "touches_border is yes or no"),
        ("(label = Pt41", "a bracket is not closed"),
        ("label = Pt41)", "not expected"),
        ('label = "Pt41', "quote"),
        ("and label = Pt41", "before and"),
        ("label = Pt41 or", "incomplete"),
        ("& label = Pt41", "before &"),
        ("confidence < 70 %", "% is not expected"),
        ("< 3", "before <"),
        ("!", "can not be read"),
        ("(" * 5000, "too long"),
    ],
)
def test_what_makes_no_sense_is_said(line, words):
    with pytest.raises(AtomicityError) as raised:
        matching_rows(TABLE, line)
    assert words in str(raised.value)


def test_nothing_is_run_as_python():
    """What looks like code is a text that is nowhere, or an error; never more."""
    assert not matching_rows(TABLE, "'__import__(1)'").any()
    with pytest.raises(AtomicityError):
        matching_rows(TABLE, "__import__('os').system('true') = 1")
    with pytest.raises(AtomicityError):
        matching_rows(TABLE, "@pd.eval = 1")


def test_the_examples_hold():
    assert all(len(matching_rows(TABLE, line)) == len(TABLE) for line in EXAMPLES)
    assert not matching_rows(TABLE, EXAMPLES[0]).all()
