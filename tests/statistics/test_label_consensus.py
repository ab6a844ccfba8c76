"""Labels of several people merged, and people beside themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.statistics.annotators.agreement import (
    label_self_agreement,
    mark_self_agreement,
)
from napari_atomicity.statistics.annotators.label_consensus import fit_labels, label_consensus

CLASSES = ("Pt19", "Pt30", "Pt55")


def labels_of(given: dict[str, list[str]], uncertain=()) -> pd.DataFrame:
    rows = [
        ("a.tif", who, k + 1, label, (who, k) in uncertain)
        for who, labels in given.items()
        for k, label in enumerate(labels)
        if label
    ]
    return pd.DataFrame(rows, columns=["image", "annotator", "cluster_id", "label", "uncertain"])


def crowd(shares, n=400, seed=0) -> tuple[np.ndarray, pd.DataFrame]:
    """True classes, and labels of people who are right with these probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    given = {}
    for k, share in enumerate(shares):
        wrong = (truth + rng.integers(1, 3, n)) % 3
        said = np.where(rng.random(n) < share, truth, wrong)
        given[f"p{k}"] = [CLASSES[i] for i in said]
    return np.array(CLASSES, object)[truth], labels_of(given)


def test_the_consensus_is_better_than_the_best_person_and_knows_how_sure_it_is():
    truth, labels = crowd([0.9, 0.75, 0.7, 0.6, 0.55])
    found = label_consensus(labels, {"perfect": labels_of({"m": list(truth)})})
    right = found.clusters["label"].to_numpy() == truth
    best = (labels[labels["annotator"] == "p0"]["label"].to_numpy() == truth).mean()
    assert right.mean() >= best
    certainty = found.clusters["certainty"].to_numpy()
    assert certainty.mean() == pytest.approx(right.mean(), abs=0.04), "it is calibrated"
    share = {row["who"]: row["share"] for row in found.raters}
    assert share["perfect"] > share["p0"] > share["p4"]
    assert found.to_dict()["clusters_with_several_labels"] == 400


def test_clusters_of_a_model_are_found_by_their_place():
    """Another run numbers them in another way, and may find others."""
    truth, labels = crowd([0.9, 0.9], n=20)
    places = {"y_px": 10.0 * labels["cluster_id"], "x_px": 5.0, "diameter_px": 4.0}
    labels = labels.assign(**places)
    model = labels_of({"m": list(truth)})
    model = model.assign(y_px=10.0 * model["cluster_id"] + 1, x_px=5.0)
    found = label_consensus(labels, {"m": model}).raters[-1]
    renumbered = model.assign(cluster_id=model["cluster_id"].to_numpy()[::-1])
    assert label_consensus(labels, {"m": renumbered}).raters[-1] == found
    elsewhere = model.assign(y_px=model["y_px"] + 3)
    assert label_consensus(labels, {"m": elsewhere}).raters[-1]["clusters"] == 0


def test_a_person_who_swaps_two_classes_is_understood():
    truth, labels = crowd([0.8, 0.8, 0.8])
    swap = {"Pt19": "Pt30", "Pt30": "Pt19", "Pt55": "Pt55"}
    swapped = labels_of({"p3": [swap[label] for label in truth]})
    found = label_consensus(pd.concat([labels, swapped], ignore_index=True))
    assert (found.clusters["label"].to_numpy() == truth).mean() > 0.95


def test_a_label_that_is_not_sure_counts_less():
    votes = {"Ada": ["Pt19"] * 6, "Bo": ["Pt19"] * 5 + ["Pt30"]}
    sure = label_consensus(labels_of(votes)).clusters["p_Pt19"].iloc[5]
    unsure = label_consensus(labels_of(votes, {("Bo", 5)})).clusters["p_Pt19"].iloc[5]
    assert unsure > sure


def test_few_labels_and_none():
    found = label_consensus(labels_of({"Ada": ["Pt19", "", "Pt55"]}))
    assert found.clusters["label"].tolist() == ["Pt19", "Pt55"] and found.raters == []
    assert found.clusters["label_Ada"].tolist() == ["Pt19", "Pt55"]
    assert not len(label_consensus(labels_of({})).clusters)
    assert fit_labels(np.zeros((0, 2, 3))).shape == (0, 3)


def test_people_beside_themselves():
    labels = labels_of({"Ada": ["Pt19", "Pt30"], "Bo": ["Pt19", "Pt19"]})
    again = labels_of({"Ada": ["Pt19", "Pt19"]})
    (row,) = label_self_agreement(labels, again)
    assert (row["annotator"], row["clusters"], row["share"]) == ("Ada", 2, 0.5)
    assert row["share_low"] < 0.5 < row["share_high"]
    assert label_self_agreement(labels, labels_of({})) == []

    columns = ["image", "annotator", "y_nm", "x_nm"]
    marks = pd.DataFrame([("a", "Ada", 1.0, 1.0), ("a", "Ada", 3.0, 3.0)], columns=columns)
    looked = pd.DataFrame([("a", "Ada"), ("a", "Bo")], columns=columns[:2])
    second = marks.assign(x_nm=[1.05, 9.0])
    (row,) = mark_self_agreement(marks, looked, second, looked[:1], 0.13)
    assert (row["annotator"], row["images"], row["f1"]) == ("Ada", 1, 0.5)
    assert mark_self_agreement(marks, looked, second[:0], looked[:0], 0.13) == []


def test_who_labels_other_clusters_alone_changes_no_label_and_keeps_theirs():
    two = {"Ada": ["Pt19"] * 60, "Bo": ["Pt19"] * 50 + ["Pt30"] * 10}
    two = labels_of({who: [*labels, *["Pt30"] * 5] for who, labels in two.items()})
    alone = labels_of({"Cy": ["Pt19", "Pt30"] * 8}, {("Cy", 1)}).assign(image="b.tif")
    found = label_consensus(pd.concat([two, alone], ignore_index=True)).clusters
    here = found["image"] == "a.tif"
    expected = label_consensus(two).clusters
    pd.testing.assert_frame_equal(
        found[here].drop(columns="label_Cy"), expected.drop(columns="label_Cy", errors="ignore")
    )
    assert found.loc[~here, "label"].tolist() == ["Pt19", "Pt30"] * 8
    assert found.loc[~here, "certainty"].tolist() == [1.0, 0.75] + [1.0] * 14
