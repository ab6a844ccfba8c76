"""Ratios beside known ones: what is compared with what, the figures, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.errors import ReadError, TableError
from napari_atomicity.core.tables.cluster_table import ALL, conform
from napari_atomicity.io.files import to_json
from napari_atomicity.io.reference_ratios import normalise_reference, parse_reference
from napari_atomicity.io.tables import read_reference
from napari_atomicity.statistics.ratios.ratio_notes import CONDITIONS_DIFFER
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.statistics.ratios.reference import Comparison, compare, reference_for

CLASSES = ["Pt19", "Pt41", "Pt70"]


def cluster_table(**labels: str) -> pd.DataFrame:
    """Image → labels by their first digits, as in a_1="114" for Pt19, Pt19, Pt41."""
    digits = {name[2]: name for name in CLASSES} | {"u": "unknown"}
    rows = [(image, digits[d]) for image, text in labels.items() for d in text]
    table = pd.DataFrame(rows, columns=["image", "label"])
    table["cluster_id"] = np.arange(len(table)) + 1
    table["label_predicted"] = table["label"]
    return conform(table, CLASSES)


def reference(**scopes: str) -> pd.DataFrame:
    return pd.concat(
        [parse_reference(line, scope) for scope, line in scopes.items()], ignore_index=True
    )


def test_a_pattern_pools_its_images():
    table = cluster_table(a_1="11144", a_2="44477", b_1="777")
    found = compare(table, reference(**{"a_*": "Pt19:Pt41:Pt70 = 3:5:2", "all": "Pt70 = 1"}))
    pairs = found.pairs.set_index(["scope", "class"])
    assert pairs.loc["a_*", "count"].to_dict() == {"Pt19": 3, "Pt41": 5, "Pt70": 2}
    np.testing.assert_allclose(pairs.loc["a_*", "fraction"], [0.3, 0.5, 0.2])
    np.testing.assert_allclose(pairs.loc["a_*", "reference"], [0.3, 0.5, 0.2])
    np.testing.assert_allclose(pairs.loc[ALL, "reference"], [0, 0, 1])
    pooled = class_ratios(table[table["image"] != "b_1"], scope=ALL)
    np.testing.assert_array_equal(pairs.loc["a_*", "fraction_low"], pooled["fraction_low"])


def test_an_image_by_name_has_the_interval_of_the_table_of_ratios():
    table = cluster_table(**{"[1].tif": "1114", "b": "47"})
    found = compare(table, reference(**{"[1].tif": "Pt19:Pt41 = 3:1"}))
    expected = class_ratios(table, scope="[1].tif")
    columns = ["count", "fraction", "fraction_low", "fraction_high"]
    pd.testing.assert_frame_equal(found.pairs[columns], expected[columns])


def test_the_figures_are_what_their_formulas_say():
    table = cluster_table(a="1114", b="4477")
    found = compare(table, reference(a="Pt19:Pt41 = 1:1", b="Pt41:Pt70 = 3:1"))
    error = np.array([0.25, -0.25, 0, 0, -0.25, 0.25])
    known = np.array([0.5, 0.5, 0, 0, 0.75, 0.25])
    assert found.mean_absolute_error == pytest.approx(np.abs(error).mean())
    assert found.r2 == pytest.approx(1 - (error**2).sum() / ((known - known.mean()) ** 2).sum())
    assert found.bias_per_class == pytest.approx({"Pt19": 0.125, "Pt41": -0.25, "Pt70": 0.125})
    assert found.coverage == 1.0
    said = json.loads(to_json(found.to_dict()))
    assert (said["scopes"], said["pairs"], said["not_compared"]) == (2, 6, [])
    assert said["table"][0]["covered"] is True and said["table"][0]["reference"] == 0.5


def test_perfect_agreement_is_one_and_a_miss_is_not_covered():
    table = cluster_table(a="1" * 300 + "4" * 100)
    right, wrong = (
        compare(table, reference(a=line)) for line in ("Pt19:Pt41 = 3:1", "Pt19:Pt41:Pt70 = 1:2:1")
    )
    assert right.r2 == 1 and right.mean_absolute_error == 0 and right.coverage == 1
    assert wrong.r2 < 0 and list(wrong.covered) == [False, False, False]


def test_a_stack_without_tracks_has_no_interval_that_could_miss():
    table = cluster_table(a="1144").assign(frame=[0, 1, 0, 1])
    found = compare(table, reference(a="Pt19:Pt41 = 1:3"))
    assert found.mean_absolute_error == pytest.approx(0.5 / 3) and not found.has_interval.any()
    said = json.loads(to_json(found.to_dict()))
    assert said["coverage"] is None and {row["covered"] for row in said["table"]} == {None}


def test_r2_is_said_to_be_undefined():
    table = cluster_table(a="1447")
    found = compare(table, reference(a="Pt19:Pt41:Pt70 = 1:1:1"))
    assert found.r2 is None and found.why_no_r2 == "all reference fractions are equal"
    assert found.mean_absolute_error == pytest.approx((1 / 12 + 1 / 6 + 1 / 12) / 3)


def test_a_scope_in_which_nothing_was_counted_is_named():
    table = cluster_table(a="14", b="uu")
    found = compare(table, reference(a="Pt19 = 1", b="Pt19 = 1", c="Pt19 = 1"), ["a", "b", "c"])
    assert found.not_compared == ("b", "c") and set(found.pairs["scope"]) == {"a"}
    nothing = compare(table[:0], reference(all="Pt19 = 1"))
    assert nothing.why_no_r2 == "nothing was counted"
    assert (nothing.r2, nothing.mean_absolute_error, nothing.coverage) == (None, None, None)
    assert isinstance(nothing, Comparison) and nothing.to_dict()["table"] == []


def test_a_file_may_speak_of_other_samples_too():
    table = cluster_table(a="14")
    found = compare(table, reference(**{"a": "Pt19 = 1", "gold_*": "Au20:Au55 = 1:1"}))
    assert set(found.pairs["scope"]) == {"a"} and found.not_compared == ("gold_*",)


def test_conditions_that_differ_are_noted_in_the_pairs():
    table = cluster_table(a="14", b="4").assign(conditions_differ=[False, False, True])
    found = compare(table, reference(a="Pt19 = 1", all="Pt19 = 1"))
    noted = found.pairs.groupby("scope")["note"].unique().map(lambda n: CONDITIONS_DIFFER in n[0])
    assert noted.to_dict() == {"a": False, ALL: True}


def test_what_the_reference_speaks_of_must_be_there():
    table = cluster_table(a="14")
    with pytest.raises(TableError, match=r"for x_\*, and no image has such a name"):
        compare(table, reference(**{"x_*": "Pt19 = 1"}))
    with pytest.raises(TableError, match=r"unknown classes: Pt20\. The classes are Pt19"):
        compare(table, reference(a="Pt19:Pt20 = 1:1"))


@pytest.mark.parametrize(
    "line", ["Pt19:Pt41 = 5:2", "Pt19 , Pt41=71.4%, 28.6 %", " Pt19:Pt41 = .714:.286 "]
)
def test_a_line_is_understood(line):
    found = parse_reference(line)
    assert list(found["scope"]) == [ALL, ALL] and list(found["class"]) == ["Pt19", "Pt41"]
    np.testing.assert_allclose(found["fraction"], [5 / 7, 2 / 7], atol=1e-3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Pt19:Pt41", "is not a ratio"),
        ("Pt19:Pt41 = 1", "is not a ratio"),
        ("Pt19: = 1:1", "is not a ratio"),
        ("= ", "is not a ratio"),
        ("Pt19:Pt41 = 1:x", "of Pt41 .* is not valid: x"),
        ("Pt19:Pt41 = 1:-1", "is not valid: -1"),
        ("Pt19:Pt41 = 1:inf", "is not valid: inf"),
        ("Pt19:Pt41 = 0:0", "no fraction above 0"),
        ("Pt19:Pt19 = 1:2", "names Pt19 twice"),
        ("Pt19:Pt41 = 0.5:0.4", "sum to 0.9, not to 1. List all classes"),
        ("Pt19 = 50%", "sum to 50, not to 100. List all classes"),
    ],
)
def test_nonsense_is_refused(line, words):
    with pytest.raises(TableError, match=words):
        parse_reference(line)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "xlsx"])
def test_files_of_each_kind_are_read(tmp_path, suffix):
    table = pd.DataFrame(
        {"scope": ["a_*", "a_*", None], "class": ["Pt19", "Pt41", "Pt70"], "fraction": [25, 75, 9]}
    )
    path = tmp_path / f"known.{suffix}"
    getattr(table, {"csv": "to_csv", "xlsx": "to_excel"}.get(suffix, "to_parquet"))(
        path, index=False
    )
    found = read_reference(path)
    assert list(found.columns) == ["scope", "class", "fraction"]
    assert list(found["scope"]) == ["a_*", "a_*", ALL]
    np.testing.assert_allclose(found["fraction"], [0.25, 0.75, 1])


def test_files_that_are_no_reference_are_named(tmp_path):
    path = tmp_path / "known.csv"
    path.write_text("class,share\nPt19,1\n")
    with pytest.raises(TableError, match=r"known\.csv: the reference lacks the column fraction"):
        read_reference(path)
    path.write_text("class,fraction\n")
    with pytest.raises(TableError, match=r"known\.csv: the reference is empty"):
        read_reference(path)
    path.write_text("class,fraction\nPt19,60 %\nPt41,40 %\n,1\n")
    with pytest.raises(TableError, match="a fraction without a class"):
        read_reference(path)
    with pytest.raises(ReadError, match="there is no such file"):
        read_reference(tmp_path / "gone.csv")


def test_the_reference_of_what_is_shown():
    known = reference(**{"a_*": "Pt19 = 1", "a_1": "Pt41 = 1", "all": "Pt70 = 1"})
    assert reference_for(known, "a_1") == {"Pt41": 1}
    assert reference_for(known, "a_2") == {"Pt19": 1}
    assert reference_for(known, ALL) == {"Pt70": 1}
    assert reference_for(known, "b") == {}


def test_fractions_are_normalised_in_each_scope():
    rows = pd.DataFrame({"scope": ["a", "b", "a"], "class": list("xyz"), "fraction": [1, 5, 3]})
    np.testing.assert_allclose(normalise_reference(rows)["fraction"], [0.25, 1, 0.75])
