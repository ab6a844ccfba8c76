"""The cluster table's contract."""

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from napari_atomicity.core.errors import TableError
from napari_atomicity.core.tables import cluster_table as tables
from support import CLASSES, synthetic_analysis

CONTRACT = [
    "image",
    "frame",
    "cluster_id",
    "y_px",
    "x_px",
    "y_nm",
    "x_nm",
    "diameter_nm",
    "integrated_intensity",
    "eccentricity",
    "touches_border",
    "touches_neighbour",
    "label",
    "label_predicted",
    "label_corrected",
    "confidence",
    "p_Pt19",
    "p_Pt30",
    "p_Pt41",
    "p_Pt55",
    "p_Pt70",
    "prediction_set",
    "ood_score",
    "umap_1",
    "umap_2",
    "model_id",
]


def test_columns_are_those_of_the_contract_in_its_order():
    assert list(tables.columns(CLASSES)) == CONTRACT
    assert list(tables.empty(CLASSES).columns) == CONTRACT


def test_conforming_twice_changes_nothing_and_keeps_what_is_additional():
    table = synthetic_analysis().table.assign(note="x")
    once = tables.conform(table)
    assert list(once.columns) == [*CONTRACT, "note"]
    pd.testing.assert_frame_equal(once, tables.conform(once))


@given(st.permutations(CONTRACT), st.integers(0, 10))
def test_order_and_gaps_are_mended(order, missing):
    whole = synthetic_analysis(5).table
    part = whole[[c for c in order if c not in CONTRACT[17 : 17 + missing]]]
    assert set(CONTRACT) - set(tables.conform(part, CLASSES).columns) == set()


def test_a_correction_counts_and_its_absence_gives_the_prediction_back():
    table = synthetic_analysis(3).table
    table["label_corrected"] = ["Pt70", "", "unknown"]
    settled = tables.settle_labels(table)
    assert settled["label"].tolist() == ["Pt70", table["label_predicted"][1], "unknown"]
    assert settled["label_predicted"].equals(table["label_predicted"])
    tables.validate(settled)
    settled["label_corrected"] = ""
    back = tables.settle_labels(settled)
    assert back["label"].equals(back["label_predicted"])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.drop(columns="y_nm"), "y_nm"),
        (lambda t: t.assign(cluster_id=1), "twice"),
        (lambda t: t.assign(x_px=float("nan")), "x_px"),
        (lambda t: t.assign(p_Pt19=3.0), "sum to 1"),
        (lambda t: t.assign(label_corrected="Pt19", label="Pt70"), "correction"),
    ],
)
def test_what_is_impossible_is_refused(spoil, words):
    table = synthetic_analysis().table
    tables.validate(table)
    with pytest.raises(TableError, match=words):
        tables.validate(spoil(table))


def test_classes_come_in_the_tables_order():
    assert tables.classes_of(synthetic_analysis().table) == list(CLASSES)


# ---- columns that only some tables have
ADDED = {
    "conditions_differ": [True, True, True],
    "n_atoms": [43.2, 0.7, float("nan")],
    "n_atoms_low": [38.1, 0.6, float("nan")],
    "n_atoms_high": [48.9, float("nan"), float("nan")],
    "label_diameter": ["Pt41", "Pt19", ""],
    "label_mixture": ["Pt30", "", ""],
    "label_network": ["Pt55", "Pt19", ""],
    "disagreement": [2 / 3, 0.0, float("nan")],
    "excluded": [False, True, False],
    "track_id": [0, -1, 3],
    "clipped": [0.0, 0.2, float("nan")],
    "response": [1.0, 0.8, float("nan")],
    "session_umap_1": [1.5, float("nan"), 2.5],
    "session_umap_2": [0.5, float("nan"), 4.5],
    "session": ["a", "", "b"],
    "sample": ["fresh", "", "spent"],
}


def test_added_columns_keep_their_kind_beside_a_table_without_them():
    assert list(tables.OPTIONAL) == list(ADDED)
    added = synthetic_analysis(3, "a").table.assign(**ADDED)
    both = tables.conform(pd.concat([synthetic_analysis(2, "b").table, added], ignore_index=True))
    assert list(both.columns) == [*CONTRACT, *ADDED]
    for name, dtype in tables.OPTIONAL.items():
        assert both[name].dtype == dtype
    assert both["conditions_differ"].tolist() == [False, False, True, True, True]
    assert both["label_network"].tolist() == ["", "", "Pt55", "Pt19", ""]
    assert both["track_id"].tolist() == [-1, -1, 0, -1, 3]
    alone = both[2:].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, tables.conform(added))


@pytest.mark.parametrize(
    ("tracks", "words"),
    [
        ([0, 0, 1], "two clusters in one frame"),
        ([-2, 0, 1], "track_id must be"),
        ([0.0, 1.0, 2.0], "track_id must be"),
    ],
)
def test_impossible_tracks_are_refused(tracks, words):
    table = synthetic_analysis(3).table
    tables.validate(table.assign(track_id=[0, 1, -1]))
    tables.validate(table.assign(track_id=[0, 0, -1], frame=[0, 1, 0]))
    with pytest.raises(TableError, match=words):
        tables.validate(table.assign(track_id=tracks))


@pytest.mark.parametrize("bad", [["one", "2", "3"], [0.5, 1.0, 2.0]])
def test_tracks_that_are_no_numbers_are_refused(bad):
    with pytest.raises(TableError, match="track_id"):
        tables.conform(synthetic_analysis(3).table.assign(track_id=bad))


def test_counts_and_other_opinions():
    table = synthetic_analysis(3).table.assign(**ADDED, label=["Pt41", "Pt19", "unknown"])
    counts, others = tables.format_rows(table)
    assert counts == ["43 atoms (38–49)", "1 atom", ""]
    assert others == ["the mixture says Pt30, the network Pt55", "", ""]
    assert tables.format_rows(table.assign(label="aggregate"))[1] == ["", "", ""]
    assert tables.format_rows(synthetic_analysis(2).table) == (["", ""], ["", ""])


def test_the_docstring_lists_every_column_of_the_schema():
    documented = [column.name for column in tables.documented_columns()]
    schema = list(tables.columns(["<class>"])) + list(tables.OPTIONAL)
    assert documented == schema
    assert all(f"\n{name} " in str(tables.__doc__) for name in documented)


def test_a_unit_of_a_column_is_the_suffix_of_its_name():
    for column in tables.documented_columns():
        if column.name.endswith(("_nm", "_px")):
            assert column.unit == column.name[-2:]
