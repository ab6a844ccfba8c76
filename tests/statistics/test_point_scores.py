"""Scores of found points against labelled ones: values by hand, names, units, intervals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.errors import TableError
from napari_atomicity.statistics.point_scores import Counts, evaluate_points, is_points, rates


def atoms(image: str, points_nm, px_nm: float = 0.1, **more) -> pd.DataFrame:
    y, x = np.asarray(points_nm, float).reshape(-1, 2).T
    return pd.DataFrame(
        {"image": image, "y_nm": y, "x_nm": x, "y_px": y / px_nm, "x_px": x / px_nm, **more}
    )


TRUE = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0)]


def test_each_kind_of_mistake_is_counted():
    found = atoms("a.tif", [(1.03, 1.04), (2.0, 2.12), (6, 6)])
    scores = evaluate_points(found, atoms("a.tif", TRUE), 0.15)
    at = scores["detection"]
    assert (at["truth"], at["predicted"], at["matched"]) == (4, 3, 2)
    assert (at["precision"], at["recall"], at["f1"]) == pytest.approx((2 / 3, 1 / 2, 4 / 7))
    assert at["mean_distance_nm"] == pytest.approx((0.05 + 0.12) / 2)
    assert at["rms_distance_nm"] == pytest.approx(np.sqrt((0.05**2 + 0.12**2) / 2))
    assert [s["matched"] for s in scores["by_tolerance"]] == [0 + 1, 1, 2, 2, 2]
    assert at["f1_low"] < at["f1"] < at["f1_high"]
    json.dumps(scores, allow_nan=False)


def test_a_table_of_x_and_y_in_pixels_is_x_right_and_y_down():
    truth = pd.DataFrame({" ": [1, 2], "X": [20, 5], "Y": [10, 7]})
    found = atoms("a.tif", [(1.0, 2.0), (0.7, 0.5)])
    assert evaluate_points(found, truth, 0.05)["detection"]["f1"] == 1
    swapped = found.rename(columns={"y_nm": "x_nm", "x_nm": "y_nm", "y_px": "x_px", "x_px": "y_px"})
    assert evaluate_points(swapped, truth, 0.05)["detection"]["matched"] == 0


def test_pixels_need_their_size():
    table = pd.DataFrame({"x": [20.0], "y": [10.0]})
    with pytest.raises(TableError, match="pixel size"):
        evaluate_points(table, table)
    assert evaluate_points(table, table, pixel_size_nm=0.03)["detection"]["f1"] == 1


def test_images_are_matched_by_name_and_frame():
    truth = pd.concat([atoms("a_labels", TRUE), atoms("ab", [(1.0, 1.0)])])
    found = pd.concat([atoms("a.tif", TRUE), atoms("c.tif", TRUE)])
    scores = evaluate_points(found, truth, analysed=["a.tif", "ab.tif", "c.tif"])
    assert scores["images_not_in_truth"] == ["c.tif"] and scores["images_not_analysed"] == []
    assert [(i["image"], i["matched"], i["truth"]) for i in scores["per_image"]] == [
        ("a_labels", 4, 4),
        ("ab", 0, 1),
    ]
    scores = evaluate_points(found, truth)  # nothing in ab: it was not analysed
    assert scores["images_not_analysed"] == ["ab"] and scores["images"] == 1
    assert scores["detection"]["recall"] == 1
    frames = atoms("a.tif", TRUE).assign(frame=[0, 0, 1, 1])
    other = frames.assign(frame=[0, 1, 1, 0])
    assert evaluate_points(other, frames)["detection"]["matched"] == 2


def test_names_that_may_mean_two_things_are_refused():
    truth = pd.concat([atoms("a_1", TRUE), atoms("a_2", TRUE)])
    with pytest.raises(TableError, match="several images"):
        evaluate_points(atoms("a.tif", TRUE), truth)
    with pytest.raises(TableError, match="does not name them"):
        evaluate_points(atoms("x", TRUE).drop(columns="image"), truth)


def test_an_image_without_labels_makes_everything_found_in_it_wrong():
    scores = evaluate_points(atoms("b.tif", TRUE), atoms("a.tif", TRUE), images=["a.tif", "b.tif"])
    assert scores["images"] == 1 and scores["images_not_analysed"] == ["a.tif"]
    assert scores["detection"]["predicted"] == 4 and scores["detection"]["precision"] == 0


def test_nothing_found_has_no_precision():
    at = evaluate_points(atoms("a", [])[:0], atoms("a", TRUE))["detection"]
    assert at["precision"] is None and at["recall"] == 0 and at["f1"] == 0
    assert at["mean_distance_nm"] is None


def test_accuracy_needs_places_that_are_no_atom():
    truth = atoms("a", [*TRUE, (6.0, 6.0), (7.0, 7.0), (8.0, 8.0)], atom=[1] * 4 + [0] * 3)
    assert evaluate_points(atoms("a", TRUE), atoms("a", TRUE))["negatives"] is None
    found = atoms("a", [*TRUE[:3], (6.0, 6.05), (9.0, 9.0)])
    scores = evaluate_points(found, truth)
    negatives = scores["negatives"]
    assert negatives["accuracy"] == pytest.approx(5 / 7)  # 3 of 4 atoms, 2 of 3 empty places
    assert negatives["specificity"] == pytest.approx(2 / 3)
    assert scores["detection"]["truth"] == 4 and scores["detection"]["precision"] == 3 / 5


def test_a_match_is_not_taken_for_a_hit_on_an_empty_place_nearby():
    truth = atoms("a", [(1.0, 1.0), (1.0, 1.1)], atom=["yes", "no"])
    assert evaluate_points(atoms("a", [(1.0, 1.06)]), truth)["negatives"]["accuracy"] == 1


def test_labels_that_were_uncertain_are_told_apart():
    truth = atoms("a", TRUE, uncertain=[True, True, False, False])
    scores = evaluate_points(atoms("a", TRUE[1:]), truth)["uncertain"]
    assert scores == {"labels": 2, "recall_of_these": 0.5, "recall_of_the_others": 1.0}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"a": [1]}), "no position in row 1"),
        (atoms("a", TRUE).assign(y_nm=[1, np.nan, 2, 3], y_px=np.nan), "row 2"),
        (atoms("a", TRUE, atom=["perhaps"] * 4), "atom is 'perhaps', neither yes nor no"),
        (atoms("a", TRUE).assign(frame=[0, 0, np.nan, 1]), "frame number in row 3"),
        (atoms("a", TRUE).assign(frame=["0", "", "0", "0"]), "frame number in row 2"),
        (atoms("a", TRUE).assign(frame=[0, 0, 0, 0.5]), "frame number in row 4"),
        (atoms("a", TRUE).assign(image=["a", np.nan, "a", "a"]), "image name in row 2"),
        (atoms("a", TRUE).assign(image=["a", "a", " ", "a"]), "image name in row 3"),
    ],
)
def test_tables_that_make_no_sense_are_named(table, said):
    with pytest.raises(TableError, match=said):
        evaluate_points(atoms("a", TRUE), table)
    with pytest.raises(TableError, match="tolerance"):
        evaluate_points(atoms("a", TRUE), atoms("a", TRUE), 0)


def test_the_published_rule_takes_means_over_images():
    truth = pd.concat([atoms("a", TRUE), atoms("b", TRUE[:1])])
    scores = evaluate_points(atoms("a", TRUE), truth, analysed=["a", "b"])["published_rule"]
    assert scores["f1"] == pytest.approx(8 / 9)
    assert scores["mean_over_images"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    # 6.9 pixels along an axis, which 0.15 nm would not allow.
    far = atoms("a", [(y, x + 0.69) for y, x in TRUE])
    assert evaluate_points(far, atoms("a", TRUE))["published_rule"]["matched"] == 4


def test_intervals_cover():
    """Images differ, and the interval of ten of them knows."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        truth = rng.poisson(40, 10)
        recall = rng.beta(8, 2, 10)
        matched = rng.binomial(truth, recall)
        found = rates(Counts(matched, matched, truth), seed=1)
        covered += found["recall_low"] <= 0.8 <= found["recall_high"]
    assert 0.85 <= covered / 200 <= 0.99


def test_kinds_of_tables_are_told_apart():
    clusters = pd.DataFrame(columns=["image", "y_px", "x_px", "label"])
    assert not is_points(clusters, clusters)
    assert not is_points(clusters.drop(columns="label"), clusters)
    assert is_points(atoms("a", TRUE, atom_id=1), clusters)
    assert is_points(atoms("a", TRUE), pd.DataFrame(columns=["X", "Y"]))
