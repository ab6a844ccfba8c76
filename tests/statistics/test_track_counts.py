"""Clusters of movies: a track counts once, and frames are no independent clusters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_atomicity.core.tables.cluster_table import ALL, conform
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.statistics.ratios.track_counts import (
    answers_of,
    describe_clusters,
    merge_tracks,
    without_excluded,
)
from napari_atomicity.statistics.track_smoothing import smooth_tracks

CLASSES = ["Pt19", "Pt41", "Pt70"]
N_FRAMES = 10


def movie(labels=("Pt19",) * 4 + ("Pt41",) * 3 + ("Pt70",), tracked: bool = True) -> pd.DataFrame:
    """A movie of some clusters, one of which is labelled wrongly in a frame."""
    n = len(labels)
    table = pd.DataFrame(
        {
            "image": "movie",
            "frame": np.repeat(np.arange(N_FRAMES), n),
            "label": np.tile(labels, N_FRAMES),
            "track_id": np.tile(np.arange(n), N_FRAMES),
        }
    )
    table.loc[3 * n, "label"] = "Pt70"
    table["label_predicted"] = table["label"]
    table["cluster_id"] = np.arange(1, len(table) + 1)
    for name in CLASSES:
        table[f"p_{name}"] = np.where(table["label"] == name, 0.8, 0.1)
    return conform(table if tracked else table.drop(columns="track_id"), CLASSES)


def test_a_track_counts_once_with_its_smoothed_label():
    ratios = class_ratios(movie(), scope=ALL, n_bootstrap=200).set_index("class")
    assert ratios["count"].to_dict() == {"Pt19": 4, "Pt41": 3, "Pt70": 1}
    assert ratios.loc["Pt19", "fraction"] == 0.5
    assert (ratios["fraction_high"] - ratios["fraction_low"]).max() > 0.4  # of 8, not of 80
    assert ratios["time_fraction"].to_list() == [0.5, 0.375, 0.125]
    assert "tracks" in ratios["method"].iloc[0]


def test_the_confidence_of_a_track_is_that_of_its_smoothed_label():
    table = movie().assign(confidence=0.5)
    merged = merge_tracks(table)
    for track, row in zip(smooth_tracks(table)[0], merged.itertuples(), strict=True):
        assert row.confidence == pytest.approx(track.p[track.label == row.label].mean())
    assert merged["confidence"].min() > 0.9
    cut = merge_tracks(table.assign(touches_border=table["track_id"] == 0))
    assert np.isnan(cut["confidence"].iloc[0]) and cut["confidence"].iloc[1:].notna().all()


def test_a_corrected_frame_of_a_track_is_compared_with_its_prediction():
    table = movie()
    corrected = (table["frame"] == 2) & (table["label"] == "Pt19")
    table.loc[corrected, ["label", "label_corrected"]] = "Pt41"
    answers = answers_of(pd.concat([table, table], ignore_index=True))  # of a copy: other frames
    assert len(answers) == 4
    assert set(answers["label_corrected"]) == {"Pt41"}
    assert set(answers["label_predicted"]) == {"Pt19"}
    single = table.drop(columns="track_id")
    assert len(answers_of(single)) == corrected.sum()
    assert answers_of(table.iloc[:0]).empty


def test_the_number_of_atoms_of_a_track_is_the_mean():
    table = movie().assign(n_atoms=20.0)
    table.loc[table["frame"] == 1, "n_atoms"] = 40.0
    mean = (20.0 * (N_FRAMES - 1) + 40.0) / N_FRAMES
    np.testing.assert_allclose(merge_tracks(table)["n_atoms"], mean)


def test_a_track_that_changes_counts_with_the_label_of_most_of_its_time():
    table = movie(["Pt19", "Pt41"])
    changed = (table["track_id"] == 1) & (table["frame"] >= 7)
    for column in ("label", "label_predicted"):
        table.loc[changed, column] = "Pt70"
    table.loc[changed, ["p_Pt19", "p_Pt41", "p_Pt70"]] = [0.01, 0.01, 0.98]
    ratios = class_ratios(table, scope="movie", n_bootstrap=50).set_index("class")
    assert ratios["count"].to_dict() == {"Pt19": 1, "Pt41": 1, "Pt70": 0}
    assert ratios.loc["Pt70", "time_fraction"] == 0.15


def test_corrections_of_a_track_count():
    table = movie(["Pt19", "Pt41"])
    corrected = table["track_id"] == 0
    table.loc[corrected, ["label", "label_corrected"]] = "Pt25"  # no class of the model
    ratios = class_ratios(table, scope=ALL, n_bootstrap=50).set_index("class")
    assert ratios.loc["Pt25", "count"] == 1 and ratios.loc["Pt19", "count"] == 0


def test_clusters_without_predictions_have_the_label_of_the_table():
    table = movie(["Pt19", "Pt41"])
    table = conform(table.drop(columns=[f"p_{c}" for c in CLASSES]).assign(label_predicted=""))
    ratios = class_ratios(table, CLASSES, scope=ALL, n_bootstrap=50).set_index("class")
    assert ratios["count"].to_dict() == {"Pt19": 1, "Pt41": 1, "Pt70": 0}


def test_detections_in_no_track_do_not_count():
    table = movie()
    table.loc[table["track_id"] == 7, "track_id"] = -1
    assert class_ratios(table, scope=ALL, n_bootstrap=50)["count"].sum() == 7


def test_a_stack_that_is_not_tracked_has_no_interval():
    ratios = class_ratios(movie(tracked=False), n_bootstrap=50)
    assert ratios["fraction"].notna().all() and ratios["count"].sum() == 160  # movie and all
    assert ratios[["fraction_low", "fraction_high"]].isna().all(axis=None)
    assert ratios["note"].str.contains("track").all()
    assert ratios["method"].str.contains("no interval").all()


def test_single_images_beside_a_movie():
    image = movie(["Pt19", "Pt70"], tracked=False)
    image = image[image["frame"] == 0].assign(image="single")
    table = conform(pd.concat([movie(), image], ignore_index=True), CLASSES)
    table["track_id"] = table["track_id"].fillna(-1).astype(int)
    ratios = class_ratios(table, n_bootstrap=50)
    assert ratios.groupby("scope")["count"].sum().to_dict() == {ALL: 10, "movie": 8, "single": 2}
    assert ratios.loc[ratios["scope"] == "single", "time_fraction"].isna().all()


def test_numbers_of_clusters_in_frames():
    assert describe_clusters(movie(), N_FRAMES) == "8 clusters in 10 frames"
    assert (
        describe_clusters(movie(tracked=False), N_FRAMES) == "8 clusters per frame (median of 10)"
    )
    assert describe_clusters(movie().iloc[:1], 1) == "1 cluster"
    image = movie().iloc[:3].assign(excluded=[False, True, True])
    counted, more = without_excluded(image)
    assert describe_clusters(counted, 1) + more == "1 cluster; 2 more excluded"
