"""Tracks in a session and a project: edited, undone, kept; and written by the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from films import film

from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import empty
from napari_atomicity.io.tables import read_clusters, write_clusters
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.project import Project
from napari_atomicity.state.analysis_store import with_predictions
from napari_atomicity.state.export import Choices, export
from napari_atomicity.state.window_state import WindowState
from napari_atomicity.tracking import MovieSettings, evaluate_tracks, track_clusters
from napari_atomicity.tracking.files import FILES, write_movies
from napari_atomicity.tracking.tracks import MOVIE, is_tracked


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """A short movie in a file of its own, analysed and not tracked."""
    import tifffile

    from napari_atomicity.io.images import load

    analysis, _, _ = film(n_frames=6, n_clusters=8, seed=2)
    path = tmp_path_factory.mktemp("films") / "movie.tif"
    tifffile.imwrite(
        path,
        analysis.micrograph.data.astype(np.uint16),
        imagej=True,
        resolution=(5, 5),
        metadata={"unit": "nm", "finterval": 0.25, "axes": "TYX"},
    )
    micrograph = load(path)
    table = analysis.table.assign(image=micrograph.name, model_id="made-0").drop(
        columns=["truth_id", "state", "merged"]
    )
    parameters = {"model": {"model_id": "made-0"}}
    return replace(analysis, micrograph=micrograph, table=table, parameters=parameters)


@pytest.fixture
def state(analysed):
    state = WindowState()
    state.clusters.set_analysis(analysed)
    return state


def tracks(state) -> list[int]:
    return state.table("movie.tif")["track_id"].tolist()


def test_the_file_says_how_long_a_frame_takes(analysed):
    assert analysed.micrograph.metadata["frame_time_s"] == 0.25
    assert evaluate_tracks(track_clusters(analysed)).unit == "1/s"


def test_tracks_are_undone_and_done_again(state, analysed):
    before = state.table("movie.tif")
    state.clusters.set_tracks(track_clusters(analysed))
    first = tracks(state)
    assert is_tracked(state.analysis("movie.tif"))
    assert state.history[-1].description == "track"
    state.clusters.set_tracks(track_clusters(analysed, MovieSettings(min_frames=7)))
    assert set(tracks(state)) == {-1}
    state.history.undo()
    assert tracks(state) == first
    state.history.undo()
    pd.testing.assert_frame_equal(state.table("movie.tif"), before)
    assert MOVIE not in state.analysis("movie.tif").parameters
    state.history.redo()
    assert tracks(state) == first


def test_clusters_take_their_track_along(state, analysed):
    state.clusters.set_tracks(track_clusters(analysed))
    table = state.table("movie.tif")
    one = table[table["track_id"] == 0].iloc[2]
    key = ("movie.tif", int(one["cluster_id"]))
    state.clusters.relabel([key], "Pt41")
    state.clusters.remove([key])
    assert 0 in tracks(state)
    state.history.undo()
    pd.testing.assert_series_equal(
        state.table("movie.tif")["track_id"], table["track_id"], check_names=False
    )
    moved = table[table["cluster_id"] == key[1]].assign(y_px=one["y_px"] + 1)
    state.clusters.move("movie.tif", moved, [np.zeros((4, 2))])
    now = state.table("movie.tif").set_index("cluster_id")
    assert now.loc[key[1], "track_id"] == 0
    (new,) = state.clusters.add("movie.tif", moved, [np.zeros((4, 2))])
    now = state.table("movie.tif").set_index("cluster_id")
    assert now["track_id"].dtype == "int64"
    assert now.loc[new, "track_id"] == -1


def test_another_model_says_nothing_of_tracks(state, analysed):
    state.clusters.set_tracks(track_clusters(analysed))
    before = tracks(state)
    # a result of before the tracks, as of a worker that was still at work
    state.clusters.replace_predictions(analysed)
    assert tracks(state) == before
    assert is_tracked(state.analysis("movie.tif"))
    other = track_clusters(analysed, MovieSettings(min_frames=7))
    after = with_predictions(state.analysis("movie.tif"), other)
    assert after.table["track_id"].tolist() == before
    assert after.parameters[MOVIE]["settings"]["min_frames"] == 2
    untracked = with_predictions(analysed, other)
    assert "track_id" not in untracked.table.columns


def test_found_anew_nothing_is_linked(state, analysed):
    state.clusters.set_tracks(track_clusters(analysed))
    state.clusters.set_analysis(analysed)
    assert not is_tracked(state.analysis("movie.tif"))
    state.history.undo()
    assert is_tracked(state.analysis("movie.tif"))


def test_images_beside_a_tracked_stack_are_in_no_track(state, analysed):
    one = replace(analysed.micrograph, name="other")
    state.clusters.set_analysis(
        replace(analysed, micrograph=one, table=analysed.table.assign(image="other"))
    )
    state.clusters.set_tracks(track_clusters(analysed))
    every = state.table()
    assert every["track_id"].dtype == "int64"
    assert set(every.loc[every["image"] == "other", "track_id"]) == {-1}
    assert every.loc[every["image"] == "movie.tif", "track_id"].tolist() == tracks(state)


def test_times_that_were_entered_stay_with_a_new_result_that_is_tracked_already(state, analysed):
    state.clusters.set_tracks(track_clusters(analysed))
    state.clusters.set_movie_times("movie.tif", 2.0, None)
    # as Live and atomicity batch analyse a stack
    state.clusters.set_analysis(track_clusters(analysed, MovieSettings(rate=0.1)))
    settings = state.analysis("movie.tif").parameters[MOVIE]["settings"]
    assert (settings["frame_time_s"], settings["rate"]) == (2.0, 0.1)
    assert evaluate_tracks(state.analysis("movie.tif")).frame_time_s == 2.0


def test_a_project_keeps_tracks(tmp_path, analysed):
    project = Project(tmp_path / "p.atomicity")
    state = WindowState()
    state.open_project(project, project.load_all())
    state.clusters.set_analysis(analysed)
    state.clusters.set_tracks(track_clusters(analysed))
    table = state.table("movie.tif")
    first = int(table["cluster_id"].iloc[0])
    state.clusters.remove([("movie.tif", first)])
    state.history.undo()
    state.clusters.set_movie_times("movie.tif", 2.0, 0.01)
    kept = state.analysis("movie.tif").parameters[MOVIE]
    assert (kept["settings"]["frame_time_s"], kept["settings"]["rate"]) == (2.0, 0.01)
    state.close_project()

    again = Project(tmp_path / "p.atomicity")
    found = again.load("movie.tif").analysis
    pd.testing.assert_series_equal(found.table["track_id"], table["track_id"])
    assert found.parameters[MOVIE] == kept
    # nobody's corrections: linking says nothing of any cluster
    assert set(again.corrections()["what"]) <= {"remove", "add", "label"}
    state.open_project(again, again.load_all())
    state.clusters.set_tracks(track_clusters(analysed, MovieSettings(min_frames=7)))
    state.history.undo()
    state.clusters.set_analysis(analysed)  # the same clusters, not linked
    state.close_project()
    last = Project(tmp_path / "p.atomicity")
    assert "track_id" not in last.load("movie.tif").analysis.table.columns
    last.close()


def test_tables_hold_tracks(tmp_path, analysed):
    table = track_clusters(analysed).table
    for name in ("clusters.csv", "clusters.parquet"):
        write_clusters(table, tmp_path / name)
        read = read_clusters(tmp_path / name)
        assert read["track_id"].dtype == "int64"
        assert read["track_id"].tolist() == table["track_id"].tolist()


def test_files_of_movies(tmp_path, analysed):
    movie = evaluate_tracks(track_clusters(analysed))
    written = write_movies([movie, replace(movie, image="other.tif")], tmp_path)
    assert [p.name for p in written] == list(FILES)
    tracks = pd.read_csv(tmp_path / "tracks.csv")
    assert len(tracks) == 2 * len(movie.table)
    summary = json.loads((tmp_path / "movies.json").read_text())
    assert set(summary) == {"movie.tif", "other.tif"}
    assert summary["movie.tif"]["rate"]["unit"] == "1/s"
    assert write_movies([], tmp_path / "other") == []
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("classes", [(), ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")])
def test_an_image_without_clusters_beside_a_tracked_movie_has_its_ratios(
    tmp_path, analysed, classes
):
    tracked = track_clusters(analysed)
    frame = Micrograph(np.zeros((64, 64), np.float32), 0.04, "empty.tif")
    export(
        [tracked, Analysis(frame, empty(classes), [])],
        tmp_path,
        Choices(excel=False, latex=False, figures=True),
    )
    ratios = pd.read_csv(tmp_path / "ratios.csv")
    assert ratios.loc[ratios["scope"] == "empty.tif", "count"].eq(0).all()
    assert {*ratios["scope"]} == {"movie.tif", "empty.tif", "all"}
    assert (tmp_path / "report.html").exists()


def test_an_export_holds_the_tables_of_movies(tmp_path, analysed):
    choices = Choices(excel=False, latex=False, figures=False, report=False)
    tracked = track_clusters(analysed)
    files = export([tracked], tmp_path, replace(choices, report=True))
    n = tracked.table["track_id"].nunique()
    assert f"{n} clusters in {tracked.micrograph.n_frames} frames" in (
        tmp_path / "report.html"
    ).read_text("utf-8")
    assert set(FILES) <= {path.name for path in files}
    files = export([analysed], tmp_path, choices)
    assert not set(FILES) & {path.name for path in files}
    assert not (tmp_path / "tracks.csv").exists()
