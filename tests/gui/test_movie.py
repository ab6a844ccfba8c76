"""The Movie dock and the layer of tracks, used with a real mouse."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from bar import click_cancel
from brightness import blobs
from films import CLASSES, PIXEL_NM, film
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from napari_atomicity.gui.controls.cluster_rows import SelectableRows, in_numbers
from napari_atomicity.gui.docks import report
from napari_atomicity.gui.docks.analyse import Analyse, summary
from napari_atomicity.gui.docks.browse.image_list import row_of
from napari_atomicity.gui.docks.movie import dock as module
from napari_atomicity.gui.docks.movie.dock import (
    NOT_ANALYSED,
    NOT_TRACKED,
    Movie,
    counts_over_time,
    curves_of,
)
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.panels.legend import LabelLegend
from napari_atomicity.gui.tasks import running
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers.micrographs import layer_data
from napari_atomicity.gui.workbench.layout import WorkflowSteps
from napari_atomicity.io.images import load
from napari_atomicity.models.analysis import limits_of
from napari_atomicity.statistics.ratios.ratio_notes import ratio_notes
from napari_atomicity.statistics.ratios.ratios import class_ratios
from napari_atomicity.tracking import MovieSettings, evaluate_tracks, text as words, track_clusters
from napari_atomicity.tracking.files import FILES
from napari_atomicity.tracking.tracks import is_tracked

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture(scope="module")
def analysed():
    analysis, _, _ = film(n_frames=10, n_clusters=10, seed=4, change=0.05, merges=0)
    table = analysis.table.assign(image="movie")
    counted = np.array([19.0, 30.0, 41.0])[table["state"].to_numpy()]
    table = table.assign(n_atoms=counted).drop(columns=["truth_id", "state", "merged"])
    return replace(analysis, table=table)


@pytest.fixture
def stack(viewer, analysed, settle):
    """A stack in the viewer, analysed."""
    binding = binding_of(viewer)
    data, options, _ = layer_data(analysed.micrograph)
    layer = viewer.add_image(data, **options)
    assert binding.canvas.ensure_image(layer) == "movie"
    binding.state.clusters.set_analysis(analysed)
    settle(viewer)
    return binding


@pytest.fixture
def dock(viewer, stack, qtbot, settle):
    dock = Movie(viewer)
    qtbot.addWidget(dock)
    dock.resize(400, 1000)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)
    return dock


@pytest.fixture
def tracked(dock, viewer, settle, qtbot):
    """The dock once Track has been pressed."""
    QTest.mouseClick(dock.button, LEFT)
    settle(viewer)
    qtbot.waitUntil(lambda: dock.found is not None)
    settle(viewer)
    return dock


def click(widget, place: QPointF) -> None:
    QTest.mouseClick(
        widget, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(round(place.x()), round(place.y()))
    )


def one_of(dock, track: int) -> tuple[str, int]:
    table = dock.state.table("movie")
    return "movie", int(table.loc[table["track_id"] == track, "cluster_id"].iloc[0])


def test_it_says_what_to_do(viewer, qtbot, settle):
    dock = Movie(viewer)
    qtbot.addWidget(dock)
    with qtbot.waitExposed(dock):
        dock.show()
    assert "Open a stack" in dock.message.text()
    assert not dock.button.isEnabled()
    binding = binding_of(viewer)
    noise = np.random.default_rng(0).random((3, 32, 32))
    one = viewer.add_image(noise[0], scale=(0.1, 0.1), units=("nm", "nm"), name="one")
    binding.canvas.ensure_image(one)
    qtbot.waitUntil(lambda: "single image" in dock.message.text())
    binding.state.current = None
    stack = viewer.add_image(noise, scale=(1, 0.1, 0.1), name="opened later")
    viewer.layers.selection.active = stack
    qtbot.waitUntil(lambda: "Analyse the stack first" in dock.message.text())
    viewer.layers.remove(stack)
    binding.state.current = "one"
    qtbot.waitUntil(lambda: "single image" in dock.message.text())
    many = viewer.add_image(noise, scale=(1, 0.1, 0.1), units=("pixel", "nm", "nm"), name="many")
    binding.canvas.ensure_image(many)
    qtbot.waitUntil(lambda: dock.message.text() == NOT_ANALYSED)
    settle(viewer)
    assert not dock.button.isEnabled()
    assert not dock.body.isVisible()


def test_one_click_from_clusters_to_tracks(tracked, viewer, analysed):
    dock = tracked
    assert is_tracked(dock.state.analysis("movie"))
    expected = track_clusters(analysed)
    assert dock.state.table("movie")["track_id"].equals(expected.table["track_id"])
    assert dock.message.isHidden()
    assert dock.body.isVisible()
    assert "10 frames (5 s)" in dock.summary.text()
    assert "per s" in dock.summary.text()
    assert dock.events.rowCount() == len(dock.found.events) > 0
    assert dock.dwells.rowCount() == len(dock.found.dwell_rates) > 0
    assert dock.plot.title == "Clusters of each smoothed label"
    layer = viewer.layers["movie tracks"]
    assert layer.data.shape[1] == 4
    assert len(layer.data) == (expected.table["track_id"] >= 0).sum()
    np.testing.assert_allclose(layer.scale, [1, PIXEL_NM, PIXEL_NM])
    assert not running(dock.state)


def test_ratios_count_tracks_and_browse_says_how_many_clusters(
    dock, viewer, stack, qtbot, settle, analysed
):
    ratios = Ratios(viewer)
    qtbot.addWidget(ratios)
    with qtbot.waitExposed(ratios):
        ratios.show()
    qtbot.waitUntil(lambda: "no intervals" in ratios.note.text())
    assert "track them" in ratios.warning.text()
    assert all(math.isnan(bar.low) for bar in ratios.chart.bars)
    QTest.mouseClick(dock.button, LEFT)
    settle(viewer)
    qtbot.waitUntil(lambda: "tracks counted, 95 % intervals" in ratios.note.text())
    assert not ratios.warning.isVisible()
    now = stack.state.analysis("movie")
    tracks = evaluate_tracks(now)
    assert ratios.shown()["count"].sum() <= len(tracks.tracks)
    pd.testing.assert_frame_equal(
        ratios.shown(), now.ratios(scope="movie", classes=stack.state.classes())
    )
    found = f"{len(tracks.tracks)} clusters in 10 frames"
    assert row_of(stack.state, None, "movie").words.startswith(found)
    assert summary(stack.state, "movie").startswith(found)
    assert report.summary(stack.state).startswith(f"1 image, {len(tracks.tracks)} clusters;")
    rows, n = SelectableRows(), len(now.table)
    rows.take(now.table, ())
    assert in_numbers(rows, n, 0, 0) == f"{n} detections"
    legend = LabelLegend(stack)
    qtbot.addWidget(legend)
    with qtbot.waitExposed(legend):
        legend.show()
    assert sum(int(row.text(1)) for row in legend.rows()) == len(tracks.tracks)


def test_a_track_that_was_labelled_counts_once(tracked, viewer, qtbot, settle):
    state = tracked.state
    table = state.table("movie")
    members = table.loc[table["track_id"] == 2, "cluster_id"]
    state.clusters.relabel((("movie", int(i)) for i in members), "Pt41")
    settle(viewer)
    n, n_tracks = len(members), table.loc[table["track_id"] >= 0, "track_id"].nunique()
    assert n > 5
    row = row_of(state, None, "movie")
    assert row.words.startswith(f"{n_tracks} clusters in 10 frames, reviewed 1")
    assert f"reviewed 1 of {n_tracks}" in row.tooltip
    ratios = class_ratios(state.table("movie")).query("fraction > 0").set_index("class")
    assert dict(row.shares) == pytest.approx(ratios["fraction"].to_dict())
    for widget in (legend := LabelLegend(tracked.binding), steps := WorkflowSteps(tracked.binding)):
        qtbot.addWidget(widget)
        widget.refresh()
    corrected = {row.text(0): row.text(2) for row in legend.rows() if row.text(2)}
    assert corrected == {"Pt41": "1"}
    assert f"1 of {n_tracks} clusters are reviewed" in steps.buttons["Review"].toolTip()
    tracked.binding.edits.undo()  # the labels
    tracked.binding.edits.undo()  # the tracks
    state.clusters.relabel((("movie", int(i)) for i in members), "Pt41")
    assert f"(median of 10), reviewed {n} of {len(table)}" in row_of(state, None, "movie").words


def test_undo_takes_tracks_and_their_layer_away(tracked, viewer, qtbot, settle):
    assert "movie tracks" in viewer.layers
    tracked.binding.edits.undo()
    settle(viewer)
    qtbot.waitUntil(lambda: tracked.message.text() == NOT_TRACKED)
    assert "movie tracks" not in viewer.layers
    assert not tracked.body.isVisible()
    tracked.binding.edits.redo()
    settle(viewer)
    qtbot.waitUntil(lambda: "movie tracks" in viewer.layers)
    qtbot.waitUntil(lambda: tracked.found is not None)


def test_selection_goes_both_ways(tracked, viewer, qtbot, settle):
    dock = tracked
    key = one_of(dock, 3)
    dock.state.select({key})
    qtbot.waitUntil(lambda: len(dock.plot.curves) == 1)
    curve = dock.plot.curves[0]
    assert curve.track_id == 3
    assert dock.events.faint == {
        i for i, t in enumerate(dock.found.events["tracks"]) if "3" not in t.split("|")
    }
    # a click on a point of the plot selects that cluster and goes to its frame
    dock.grab()
    click(dock.plot, dock.plot.place(int(curve.frames[6]), float(curve.raw[6])))
    assert dock.state.selection == {("movie", int(curve.cluster_ids[6]))}
    settle(viewer)
    assert viewer.dims.current_step[0] == curve.frames[6]
    # and beside all points goes to the frame
    low, high = dock.plot.limits()
    click(dock.plot, dock.plot.place(2, low + 0.97 * (high - low)))
    assert viewer.dims.current_step[0] == 2


def test_whole_tracks_are_selected_and_labelled_with_one_step(tracked, viewer, qtbot, settle):
    dock = tracked
    dock.state.select({one_of(dock, 2)})
    qtbot.waitUntil(dock.whole_button.isEnabled)
    QTest.mouseClick(dock.whole_button, LEFT)
    table = dock.state.table("movie")
    ids = set(table.loc[table["track_id"] == 2, "cluster_id"])
    assert {i for _, i in dock.state.selection} == ids
    assert len(ids) > 5
    dock.state.clusters.relabel(dock.state.selection, "Pt41")
    settle(viewer)
    qtbot.waitUntil(
        lambda: set(
            dock.found.table.loc[dock.found.table["track_id"] == 2, "label_smoothed"]
        ) == {"Pt41"}
    )  # fmt: skip
    settle(viewer)
    layer = viewer.layers["movie tracks"]
    mine = layer.features[layer.features["track_id"] == 2]["atomicity"]
    assert len(set(mine)) == 1


def test_an_event_is_gone_to(tracked, viewer, settle):
    dock = tracked
    row = len(dock.found.events) - 1
    event = dock.found.events.iloc[row]
    index = dock.events.index(row, 0)
    dock.event_table.scrollTo(index)
    click(dock.event_table.viewport(), QPointF(dock.event_table.visualRect(index).center()))
    assert dock.state.selection == {("movie", int(event["cluster_id"]))}
    settle(viewer)
    table = dock.state.table("movie").set_index("cluster_id")
    assert viewer.dims.current_step[0] == table.loc[event["cluster_id"], "frame"]


def test_events_follow_edits(tracked, viewer, qtbot, settle):
    dock = tracked
    lines = list(dock.events.lines)
    table = dock.state.table("movie")
    track = table["track_id"].value_counts().index[0]
    gone = table.loc[(table["track_id"] == track) & (table["frame"] >= 4), "cluster_id"]
    dock.state.clusters.remove(("movie", i) for i in gone)
    settle(viewer)
    qtbot.waitUntil(lambda: dock.events.lines != lines)
    losses = dock.found.events[dock.found.events["event"] == "loss"]
    assert str(track) in set(losses["tracks"])
    layer = viewer.layers["movie tracks"]
    assert len(layer.data) == (dock.state.table("movie")["track_id"] >= 0).sum()


def test_settings_of_time_and_rate_need_no_new_tracks(tracked, qtbot, settle, viewer):
    dock = tracked
    steps = len(dock.state.history)
    QTest.mouseClick(dock.settings_part.button, LEFT)
    assert "0.5 s" in dock.frame_time.specialValueText()
    dock.frame_time.setValue(2.0)
    qtbot.waitUntil(lambda: dock.found.frame_time_s == 2.0)
    assert "(20 s)" in dock.summary.text()
    before = dock.state.analysis("movie").ratios()
    rate = dock.form.controls["rate"]
    rate.setValue(0.01)
    qtbot.waitUntil(lambda: not dock.found.change.estimated)
    assert "Given rate" in dock.summary.text()
    # Class ratios do not use it, and the dock says so where the rate is entered and shown.
    for text in (dock.summary.text(), rate.toolTip()):
        assert "estimated rate" in text and "lass ratios" in text
    pd.testing.assert_frame_equal(dock.state.analysis("movie").ratios(), before)
    assert len(dock.state.history) == steps + 2
    settle(viewer)


def test_times_outlast_an_analysis_before_the_dock_was_opened(
    stack, viewer, analysed, qtbot, settle
):
    """As of a project that is opened and analysed again before *Movie* is shown."""
    clusters = stack.state.clusters
    clusters.set_analysis(track_clusters(analysed, MovieSettings(frame_time_s=2.0, rate=0.01)))
    for _ in range(2):
        clusters.set_analysis(analysed)
    assert not is_tracked(stack.state.analysis("movie"))
    dock = Movie(viewer)
    qtbot.addWidget(dock)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)
    assert (dock.frame_time.value(), dock.rate.value()) == (2.0, 0.01)
    clusters.set_analysis(track_clusters(analysed, MovieSettings(frame_time_s=5.0)))
    kept = evaluate_tracks(stack.state.analysis("movie")).settings
    assert (kept.frame_time_s, kept.rate) == (5.0, 0.01)


def test_frame_time_and_rate_stay_with_their_stack(tracked, viewer, settle, qtbot, tmp_path):
    dock = tracked
    other = viewer.add_image(np.zeros((3, 40, 40)), scale=(1, 0.1, 0.1), name="other")
    assert dock.binding.canvas.ensure_image(other) == "other"
    settle(viewer)
    dock.frame_time.setValue(3.0)
    dock.binding.current_image.choose("movie")
    settle(viewer)
    assert dock.frame_time.value() == 0
    dock.frame_time.setValue(2.0)
    dock.rate.setValue(0.01)
    dock.binding.current_image.choose("other")
    settle(viewer)
    assert (dock.frame_time.value(), dock.rate.value()) == (3.0, 0)
    dock.binding.current_image.choose("movie")
    settle(viewer)
    qtbot.waitUntil(lambda: dock.found is not None)
    assert (dock.frame_time.value(), dock.rate.value()) == (2.0, 0.01)
    assert dock.found.frame_time_s == 2.0 and not dock.found.change.estimated
    # The report and a later session have what the dock shows.
    assert evaluate_tracks(dock.state.analysis("movie")).frame_time_s == 2.0
    assert "times of a movie" in dock.state.history.undo().description
    settle(viewer)
    assert (dock.frame_time.value(), dock.rate.value()) == (2.0, 0)
    # Tracks may be lost, but not what was entered.
    while dock.state.history.undo().description != "track":
        pass
    settle(viewer)
    assert not is_tracked(dock.state.analysis("movie"))


def test_a_result_of_yesterday_is_dropped(dock, viewer, settle, monkeypatch):
    """Clusters were deleted while the worker was at work."""
    real = module.track_clusters
    table = dock.state.table("movie")
    said = []
    monkeypatch.setattr(module, "show_info", said.append)

    def slow(analysis, settings, progress=None, stop=None):
        while len(dock.state.table("movie")) == len(table) and not stop():
            pass
        return real(analysis, settings)

    monkeypatch.setattr(module, "track_clusters", slow)
    QTest.mouseClick(dock.button, LEFT)
    dock.state.clusters.remove([("movie", int(table["cluster_id"].iloc[0]))])
    settle(viewer)
    assert not is_tracked(dock.state.analysis("movie"))
    assert "press Track again" in said[0]


def test_tracking_can_be_cancelled(dock, viewer, settle, monkeypatch, qtbot):
    def forever(analysis, settings, progress=None, stop=None):
        progress(1, 9, "Linking")
        while not stop():
            pass
        return analysis

    monkeypatch.setattr(module, "track_clusters", forever)
    QTest.mouseClick(dock.button, LEFT)
    assert not dock.button.isEnabled()
    click_cancel(viewer)
    settle(viewer)
    assert dock.button.isEnabled()
    assert not is_tracked(dock.state.analysis("movie"))


def test_tables_are_saved(tracked, tmp_path, monkeypatch, settle, viewer):
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / "new"), ""))
    QTest.mouseClick(tracked.save_button, LEFT)
    settle(viewer)
    assert all((tmp_path / "new" / name).is_file() for name in FILES)
    assert len(pd.read_csv(tmp_path / "new" / "tracks.csv")) == len(tracked.found.table)


def test_frames_are_averaged_into_a_new_image(dock, viewer, settle, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "napari_atomicity.tracking.averaging.estimate_drift",
        lambda m, **_: __import__("napari_atomicity.tracking.drift", fromlist=["x"]).no_drift(10),
    )
    QTest.mouseClick(dock.averaging_part.button, LEFT)
    dock.averaging.n_averaged.setValue(5)
    dock.frame_time.setValue(2.0)
    viewer.dims.set_current_step(0, 7)
    QTest.mouseClick(dock.averaging.average_button, LEFT)
    settle(viewer)
    layer = viewer.layers["movie mean of 5"]
    assert layer.data.shape[0] == 2
    assert dock.state.current == "movie mean of 5"
    assert viewer.dims.current_step[0] == 1  # a frame that it has
    dock.binding.current_image.choose("movie")
    viewer.dims.set_current_step(0, 4)
    dock.binding.current_image.choose("movie mean of 5")
    assert viewer.dims.current_step[0] == 1
    said = notification_manager.records[-1].message
    assert said.startswith("movie mean of 5 is in memory only") and "as TIFF" in said
    viewer.layers.selection.active = layer  # what it says to do
    assert viewer.layers.save(str(tmp_path / "mean.tif"), selected=True)
    kept = load(tmp_path / "mean.tif")
    np.testing.assert_array_equal(kept.data, layer.data)
    assert kept.pixel_size_nm is None  # to be typed
    mean = dock.state.micrograph("movie mean of 5")
    assert mean.pixel_size_nm == pytest.approx(PIXEL_NM)
    assert mean.metadata["frame_time_s"] == 10.0
    # Whoever counts the clusters of both counts them twice.
    movie = dock.state.analysis("movie")
    both = limits_of([movie, replace(movie, micrograph=mean)])
    assert both[mean.name].is_counted_average and not both["movie"].is_counted_average
    assert "averages of frames" in " ".join(ratio_notes([20, 20], list(both.values())))
    assert not limits_of([replace(movie, micrograph=mean)])[mean.name].is_counted_average


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_average_leaves_with_the_project_of_its_movie(
    viewer, model, by_hand, tmp_path, qtbot, settle
):
    binding, analyse, dock = binding_of(viewer), Analyse(viewer), Movie(viewer)
    for widget in (analyse, dock):
        viewer.window.add_dock_widget(widget)
    frames = np.stack([blobs(seed) for seed in range(2)]).astype(np.uint16)
    folder = tmp_path / "project"
    folder.mkdir()
    options = {"imagej": True, "metadata": {"unit": "nm", "axes": "TYX"}, "resolution": (20, 20)}
    tifffile.imwrite(folder / "movie.tif", frames, **options)
    if by_hand:
        viewer.open(str(folder / "movie.tif"), plugin="napari-atomicity")
        binding.canvas.ensure_image(viewer.layers["movie.tif"])
        binding.projects.save_as(folder / "p.atomicity")
    else:
        binding.projects.open(folder)
        qtbot.waitUntil(lambda: binding.state.project is not None, timeout=10_000)
    settle(viewer)
    dock.averaging.average()
    settle(viewer)
    chosen = analyse.image_form.images
    names = ["movie.tif", "movie.tif mean"]
    assert [chosen.itemText(i) for i in range(chosen.count())] == names
    binding.projects.leave()
    settle(viewer)
    assert [chosen.itemText(i) for i in range(chosen.count())] == (names if by_hand else [])
    assert {*names} & {layer.name for layer in viewer.layers} == ({*names} if by_hand else set())


def test_an_image_has_no_frames_to_average(dock, viewer, settle):
    assert dock.averaging.average_button.isEnabled()
    binding_of(viewer).canvas.ensure_image(viewer.add_image(np.zeros((40, 40)), name="one"))
    settle(viewer)
    assert not dock.averaging.average_button.isEnabled()
    dock.state.choose("movie")
    settle(viewer)
    assert dock.averaging.average_button.isEnabled()


def test_tracks_are_coloured_by_number_or_atomicity(tracked, viewer, settle):
    layer = viewer.layers["movie tracks"]
    assert layer.color_by == "atomicity"
    tracked.colour_combo.setCurrentIndex(1)
    settle(viewer)
    assert layer.color_by == "track"
    assert layer.features.groupby("track_id")["track"].nunique().max() == 1


def test_layers_go_with_the_image(tracked, viewer, settle):
    viewer.layers.remove(viewer.layers["movie"])
    settle(viewer)
    assert not [x for x in viewer.layers if x.name.startswith("movie")]
    assert tracked.found is None


def test_layers_for_the_next_image_of_a_project_have_no_tracks(tracked, viewer):
    tracked.binding.canvas.layers.get("movie").clear()
    assert "movie tracks" not in viewer.layers
    assert "movie clusters" in viewer.layers
    assert is_tracked(tracked.state.analysis("movie"))


def test_a_layer_that_was_taken_out_comes_back_with_other_tracks(tracked, viewer, settle, qtbot):
    viewer.layers.remove(viewer.layers["movie tracks"])
    dock = tracked
    dock.state.clusters.relabel([one_of(dock, 0)], "Pt41")
    settle(viewer)
    assert "movie tracks" not in viewer.layers
    dock.form.controls["search_range_nm"].setValue(0.02)
    QTest.mouseClick(dock.button, LEFT)
    settle(viewer)
    qtbot.waitUntil(lambda: "movie tracks" in viewer.layers)


# ---- words and curves
@pytest.fixture(scope="module")
def found(analysed):
    return evaluate_tracks(track_clusters(analysed))


def test_curves_hold_what_is_known(found):
    (curve,) = curves_of(found, [1, 999])
    rows = found.table[found.table["track_id"] == 1]
    assert curve.frames.tolist() == rows["frame"].tolist()
    assert curve.raw.tolist() == rows["n_atoms"].tolist()
    assert set(curve.smoothed) <= {19.0, 30.0, 41.0}
    assert "track 1, frame 0, 0 s" in curve.words[0]


def test_counts_add_up_to_the_tracks_that_are_there(found):
    counts = counts_over_time(found, CLASSES)
    there = np.zeros(found.drift.n_frames, int)
    for track in found.tracks:
        there[track.frames] += 1
    assert sum(counts.values()).tolist() == there.tolist()


def test_rates_are_formatted(found, analysed):
    assert "per s (" in words.format_rate(found) or "less than" in words.format_rate(found)
    still = replace(found, change=replace(found.change, low=0.0))
    assert "less than" in words.format_rate(still)
    assert [words.round_up(x) for x in (0.1036, 0.1, 12.0, 0.0)] == [0.11, 0.1, 12.0, 0.0]
    no_jump = replace(found, events=found.events[found.events["event"] != "jump"])
    assert "less than" in words.format_rate(no_jump)
    per_frame = evaluate_tracks(
        track_clusters(replace(analysed, micrograph=replace(analysed.micrograph, metadata={}))),
        MovieSettings(rate=0.1),
    )
    assert "0.1 per cluster per frame." in words.format_rate(per_frame)
    assert all("s)" not in line[1] for line in words.event_lines(per_frame.events))


def test_a_key_for_a_cluster_of_another_frame_shows_it_first(tracked, viewer, settle):
    state = tracked.state
    binding_of(viewer).label_mode.on = True
    viewer.layers.selection.active = viewer.layers["movie clusters"]
    native = viewer.window._qt_viewer.canvas.native
    table = state.table("movie")
    first = int(table.loc[table["frame"] == 0, "cluster_id"].iloc[0])
    state.select([("movie", first)])
    viewer.dims.set_current_step(0, 4)
    for key in (Qt.Key.Key_2, Qt.Key.Key_X):
        QTest.keyClick(native, key)
        assert viewer.dims.current_step[0] == 0 and "Another frame" in viewer.status
        assert state.table("movie")["label_corrected"].tolist() == [""] * len(table)
        viewer.dims.set_current_step(0, 4)
    # One that is seen stands for all of a track.
    track = table.loc[table["cluster_id"] == first, "track_id"].iloc[0]
    ids = table.loc[table["track_id"] == track, "cluster_id"]
    assert 4 in set(table.loc[table["track_id"] == track, "frame"])
    state.select(("movie", int(i)) for i in ids)
    QTest.keyClick(native, Qt.Key.Key_2)
    assert (state.table("movie")["label_corrected"] != "").sum() == len(ids)
