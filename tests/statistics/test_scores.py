"""Scores against a ground truth: matching, what is ignored, and agreement with an oracle."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from napari_atomicity.core.errors import TableError
from napari_atomicity.statistics.scores import (
    atoms_of,
    evaluate,
    match_nearest,
    prepare_clusters,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def truth_table() -> pd.DataFrame:
    """Two images of 0.1 nm pixels; the last cluster of the first is cut by the border."""
    return pd.DataFrame(
        {
            "image": ["a.tif"] * 4 + ["b.tif"] * 2,
            "y_px": [10.0, 30, 50, 0, 10, 40],
            "x_px": [10.0, 30, 50, 20, 10, 40],
            "label": ["Pt19", "Pt41", "Pt41", "Pt70", "Pt19", "Pt70"],
            "diameter_nm": 1.0,
            "border": [0, 0, 0, 1, 0, 0],
        }
    )


IMAGES = pd.DataFrame({"image": ["a.tif", "b.tif"], "px_nm": 0.1, "sample": ["s1", "s2"]})


def test_perfect_predictions_score_one():
    scores = evaluate(truth_table(), truth_table(), images=IMAGES)
    assert scores["detection"] == {
        "truth": 5, "predicted": 5, "matched": 5, "recall": 1, "precision": 1, "f1": 1,
    }  # fmt: skip
    assert scores["classification"]["accuracy"] == scores["classification"]["macro_f1"] == 1
    assert scores["ratios"]["r2"] == 1 and scores["ratios"]["mean_absolute_error"] == 0
    assert scores["ratios"]["samples"] == 2


def test_each_kind_of_mistake_is_seen():
    predicted = truth_table().drop(index=2)  # one missed
    predicted.loc[0, "label"] = "Pt41"  # one wrong, 22 atoms too many
    predicted.loc[1, "label"] = "unknown"  # one not classified
    predicted.loc[len(truth_table())] = ["b.tif", 80.0, 80.0, "Pt19", 1.0, 0]  # one invented
    scores = evaluate(predicted, truth_table(), images=IMAGES)
    assert scores["detection"]["recall"] == 4 / 5
    assert scores["detection"]["precision"] == 4 / 5
    assert scores["labelled_fraction"] == 3 / 4
    assert scores["classification"]["accuracy"] == 2 / 3
    assert scores["classification"]["mean_error_atoms"] == pytest.approx(22 / 3)
    assert scores["classification"]["confusion"] == {
        "classes": ["Pt19", "Pt41", "Pt70"],
        "counts": [[1, 1, 0], [0, 0, 0], [0, 0, 1]],
    }
    assert scores["end_to_end_accuracy"] == 2 / 5
    assert scores["ratios"]["table"]["s2"]["predicted"] == {"Pt19": 2 / 3, "Pt41": 0, "Pt70": 1 / 3}
    json.dumps(scores, allow_nan=False)


def test_what_is_no_class_in_truth_counts_in_the_detection_only():
    truth, predicted = truth_table(), truth_table()
    truth.loc[0, "label"] = "aggregate"
    for said in ("Pt41", "aggregate", "unknown"):
        predicted.loc[0, "label"] = said
        scores = evaluate(predicted, truth, images=IMAGES)
        assert scores["detection"]["matched"] == 5
        assert scores["classification"]["n"] == 4
        assert scores["classification"]["accuracy"] == scores["end_to_end_accuracy"] == 1
        assert scores["labelled_fraction"] == 1
        assert "aggregate" not in scores["classification"]["confusion"]["classes"]
    predicted.loc[1, "label"] = "aggregate"  # a class that is turned away
    scores = evaluate(predicted, truth, images=IMAGES)
    assert scores["labelled_fraction"] == scores["end_to_end_accuracy"] == 3 / 4
    assert scores["classification"]["accuracy"] == 1


def test_nothing_predicted_is_all_missed():
    scores = evaluate(truth_table().iloc[:0], truth_table(), images=IMAGES)
    assert scores["detection"]["recall"] == 0 and scores["detection"]["precision"] is None
    assert scores["classification"]["accuracy"] is None
    json.dumps(scores, allow_nan=False)


def test_images_that_were_not_analysed_are_named_and_not_scored():
    found = truth_table().query("image == 'a.tif'")
    scores = evaluate(found, truth_table(), images=IMAGES)
    assert scores["images_not_analysed"] == ["b.tif"] and scores["images"] == 1
    assert scores["detection"]["recall"] == scores["end_to_end_accuracy"] == 1
    assert list(scores["ratios"]["table"]) == ["s1"]
    # analysed, and nothing found: missed
    scores = evaluate(found, truth_table(), None, IMAGES, ["some/a.tif", "some/b.tif"])
    assert scores["images_not_analysed"] == []
    assert scores["detection"]["recall"] == 3 / 5
    scores = evaluate(found.iloc[:0], truth_table(), None, IMAGES, ["b.tif"])
    assert scores["images_not_analysed"] == ["a.tif"]
    assert scores["detection"]["truth"] == 2 and scores["detection"]["recall"] == 0


def test_predictions_in_an_image_known_to_be_empty_are_false():
    images = pd.concat([IMAGES, pd.DataFrame({"image": ["c.tif"], "px_nm": 0.1})])
    extra = pd.DataFrame({"image": ["c.tif"], "y_px": 5.0, "x_px": 5.0, "label": "Pt19"})
    scores = evaluate(pd.concat([truth_table(), extra]), truth_table(), images=images)
    assert scores["detection"]["precision"] == 5 / 6
    assert evaluate(extra, truth_table(), images=IMAGES)["images_not_in_truth"] == ["c.tif"]


def test_images_match_by_stem_and_labels_by_atoms():
    predicted = truth_table()
    predicted["image"] = "folder/" + predicted["image"].str.replace(".tif", ".ome.tif")
    predicted["label"] = predicted["label"].str.removeprefix("Pt") + ".0"
    assert evaluate(predicted, truth_table(), images=IMAGES)["end_to_end_accuracy"] == 1


def test_ambiguous_names_are_refused():
    truth = truth_table().replace({"a.tif": "one/x.tif", "b.tif": "two/x.tif"})
    with pytest.raises(TableError, match="matches several images"):
        evaluate(truth.assign(image="x.png"), truth, images=None)
    predicted = truth_table().replace({"b.tif": "a.png"})
    with pytest.raises(TableError, match="several images"):
        evaluate(predicted, truth_table(), images=IMAGES)


def test_pixel_size_comes_from_nm_columns_or_is_asked_for():
    truth = truth_table().assign(y_nm=lambda t: t["y_px"] * 0.1, x_nm=lambda t: t["x_px"] * 0.1)
    moved = truth_table().assign(y_px=lambda t: t["y_px"] + 4)
    assert evaluate(moved, truth)["detection"]["recall"] == 1
    assert evaluate(moved, truth, tolerance_nm=0.3)["detection"]["recall"] == 0
    with pytest.raises(TableError, match="pixel size"):
        evaluate(moved, truth_table())


def test_missing_columns_are_named():
    with pytest.raises(TableError, match="x_px"):
        evaluate(truth_table().drop(columns="x_px"), truth_table())


def test_another_column_of_labels_is_scored():
    table = truth_table()
    predicted = table.assign(label="Pt19", label_network=table["label"])
    assert evaluate(predicted, table, images=IMAGES)["classification"]["accuracy"] == 2 / 5
    scores = evaluate(predicted, table, images=IMAGES, column="label_network")
    assert scores["classification"]["accuracy"] == 1 and scores["column"] == "label_network"
    without = predicted.drop(columns="label")
    assert evaluate(without, table, images=IMAGES, column="label_network") == scores
    with pytest.raises(TableError, match="columns of labels are label, label_network"):
        evaluate(predicted, table, images=IMAGES, column="label_diameter")


def many_images(n_images=12, n=30, seed=0):
    """Images of three samples; in every fourth image all labels are one class too large."""
    rng = np.random.default_rng(seed)
    classes, tables = ["Pt19", "Pt41", "Pt70"], []
    for i in range(n_images):
        label = rng.choice(3, n, p=np.roll([0.6, 0.3, 0.1], i % 3))
        found = np.minimum(label + (i % 4 == 0), 2)
        table = pd.DataFrame({"image": f"{i}.tif", "y_px": 40.0 * np.arange(n), "x_px": 5.0})
        tables.append(table.assign(label=np.take(classes, label), found=np.take(classes, found)))
    images = [f"{i}.tif" for i in range(n_images)]
    about = {"image": images, "px_nm": 0.1, "sample": [f"s{i % 3}" for i in range(n_images)]}
    return pd.concat(tables, ignore_index=True), pd.DataFrame(about)


def test_intervals_include_the_scores_and_the_scatter_between_images():
    table, images = many_images()
    scores = evaluate(table.assign(label=table["found"]), table, images=images)
    found = scores["intervals"]
    for name, value in (
        ("accuracy", scores["classification"]["accuracy"]),
        ("end_to_end_accuracy", scores["end_to_end_accuracy"]),
        ("ratio_r2", scores["ratios"]["r2"]),
        ("ratio_mean_absolute_error", scores["ratios"]["mean_absolute_error"]),
    ):
        low, high = found[name]
        assert low <= value <= high, name
    low, high = found["accuracy"]
    binomial = 3.92 * np.sqrt(0.75 * 0.25 / len(table))
    assert high - low > 3 * binomial  # the errors of an image are common to its clusters
    assert found["images"] == 12 and found["resampled"] == "images and clusters"
    for of_sample in scores["ratios"]["table"].values():
        for name, value in of_sample["predicted"].items():
            low, high = of_sample["predicted_low"][name], of_sample["predicted_high"][name]
            assert low <= value <= high
    again = evaluate(table.assign(label=table["found"]).iloc[::-1], table, images=images)
    assert again["intervals"] == found


def test_intervals_of_one_image_of_perfect_labels_and_of_nothing():
    table, images = many_images(1)
    one = evaluate(table, table, images=images)["intervals"]
    assert one["accuracy"] == (1, 1) and one["ratio_mean_absolute_error"] == (0, 0)
    assert one["resampled"] == "clusters"
    equal = truth_table().assign(label="Pt19")
    assert evaluate(equal, equal, images=IMAGES)["intervals"]["ratio_r2"] is None
    cut = truth_table().assign(border=1)
    nothing = evaluate(cut, cut, images=IMAGES)["intervals"]
    assert nothing["accuracy"] is None and nothing["ratio_r2"] is None
    json.dumps(nothing)


@pytest.mark.parametrize(
    ("label", "n"),
    [
        ("Pt41", 41), ("pt41", 41), ("41", 41), ("Au24Pd1", 25), ("unknown", None),
        ("Au25(SR)18", 25), ("Pt19_day2", 19), ("Pt55_80kV", 55), ("2024-03-01 Pt19", 19),
        ("2024-03-01", None),
    ],
)  # fmt: skip
def test_atoms_of_a_label(label, n):
    assert atoms_of(label) == n


@pytest.mark.parametrize("border", [["yes", "no"], ["True", ""], [1.0, 0.0], [True, None]])
def test_a_border_in_any_writing_excludes_its_clusters_only(border):
    """As a table has it that came through a spreadsheet."""
    truth = truth_table()
    truth = truth.assign(
        border=pd.Series([border[0], *[border[1]] * (len(truth) - 1)], dtype=object)
    )
    assert prepare_clusters(truth, "truth")["border"].sum() == 1


def test_a_border_that_is_neither_yes_nor_no_is_refused():
    truth = truth_table().assign(border="ja")
    with pytest.raises(TableError, match="truth: border is 'ja', neither yes nor no"):
        prepare_clusters(truth, "truth")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 25), st.integers(0, 25), st.integers(0, 2**32 - 1))
def test_matching_is_one_to_one_within_tolerance_and_leaves_no_pair(n, m, seed):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.uniform(0, 10, (n, 2)), rng.uniform(0, 10, (m, 2))
    limit = rng.uniform(0.5, 3, m)
    partner = match_nearest(predicted, truth, limit)
    used = partner[partner >= 0]
    assert len(set(used)) == len(used)
    distance = np.hypot(*(predicted[:, None] - truth[None]).transpose(2, 0, 1))
    for i in np.flatnonzero(partner >= 0):
        assert distance[i, partner[i]] <= limit[partner[i]]
    free = distance[np.ix_(partner < 0, ~np.isin(np.arange(m), used))]
    assert not (free <= limit[~np.isin(np.arange(m), used)]).any()


@pytest.fixture(scope="module")
def oracle():
    path = SHARED / "score_clusters.py"
    if not path.is_file():
        pytest.skip("the ground truth is not beside the repository")
    spec = importlib.util.spec_from_file_location("oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def perturbed(truth: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Moved, missed, invented, mislabelled and unlabelled clusters."""
    rng = np.random.default_rng(seed)
    kept = truth[rng.random(len(truth)) > 0.1]
    invented = truth.sample(frac=0.1, random_state=seed)
    invented = invented.assign(x_px=rng.uniform(0, 1023, len(invented)))
    table = pd.concat([kept, invented], ignore_index=True)[["image", "x_px", "y_px", "label"]]
    table[["x_px", "y_px"]] += rng.normal(0, 6, (len(table), 2))
    table["label"] = table["label"].mask(rng.random(len(table)) < 0.3, "Pt30")
    table["label"] = table["label"].mask(rng.random(len(table)) < 0.1, "unknown")
    return table.sample(frac=1, random_state=seed)


@pytest.mark.parametrize("seed", range(3))
def test_the_oracle_agrees(oracle, seed):
    root = SHARED / "clusters" / "mixed"
    truth, images = pd.read_csv(root / "truth.csv"), pd.read_csv(root / "images.csv")
    predicted = perturbed(truth, seed)
    ours = evaluate(predicted, truth, images=images)
    theirs = oracle.score(predicted, str(root))["all"]
    assert ours["detection"]["truth"] == theirs["detection"]["truth"]
    assert ours["detection"]["predicted"] == theirs["detection"]["predictions"]
    for name in ("recall", "precision"):
        assert ours["detection"][name] == pytest.approx(theirs["detection"][name])
    for name in ("labelled_fraction", "end_to_end_accuracy"):
        assert ours[name] == pytest.approx(theirs[name])
    expected = theirs["classified_all"]
    assert ours["classification"]["n"] == expected["n"]
    assert ours["classification"]["confusion"]["counts"] == expected["confusion"]
    assert ours["classification"]["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-4)
    assert ours["classification"]["macro_f1"] == pytest.approx(expected["macro_f1"], abs=1e-3)
    assert ours["ratios"]["r2"] == pytest.approx(theirs["ratios"]["r2"])
    assert ours["ratios"]["mean_absolute_error"] == pytest.approx(theirs["ratios"]["mae"])
