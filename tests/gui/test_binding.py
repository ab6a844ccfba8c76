"""Layers and session stay the same, whoever changes what."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from brightness import CLASSES, N_CLUSTERS, PIXEL_NM, blobs
from matplotlib.colors import to_rgb
from napari._vispy.canvas import VispyCanvas
from synthetic import made_up

from napari_atomicity import analyse
from napari_atomicity.core.palette import colour_of
from napari_atomicity.core.progress import check
from napari_atomicity.gui import tasks
from napari_atomicity.gui.docks.analyse import summary
from napari_atomicity.gui.viewer.binding import binding_of, state_of
from napari_atomicity.models.analysis import limits_of
from napari_atomicity.state.cluster_rows import unclassified
from napari_atomicity.state.export import snapshot
from napari_atomicity.statistics.ratios.ratios import class_ratios


@pytest.fixture
def analysed(viewer, image_layer, model, settle):
    binding = binding_of(viewer)
    name = binding.canvas.ensure_image(image_layer)
    binding.state.clusters.set_analysis(analyse(binding.state.micrograph(name)))
    settle(viewer)
    return binding


def consistent(binding, image="field"):
    """The points are the table, row by row."""
    layer, table = binding.canvas.layer(image, "clusters"), binding.state.table(image)
    np.testing.assert_allclose(layer.data[:, -2:], table[["y_px", "x_px"]])
    assert layer.features["cluster_id"].tolist() == table["cluster_id"].tolist()
    assert layer.features["label"].tolist() == table["label"].tolist()
    assert len(layer.size) == len(layer.symbol) == len(layer.shown) == len(table)
    return True


def test_one_session_per_viewer(viewer):
    assert state_of(viewer) is state_of(viewer)


@pytest.mark.parametrize("grey", [0.05, 0.5, 0.95])
def test_unknown_clusters_are_seen_on_any_background(analysed, viewer, image_layer, settle, grey):
    table = analysed.state.table("field")
    analysed.state.select([])
    analysed.state.clusters.relabel([("field", int(i)) for i in table["cluster_id"]], "unknown")
    span = 20 * float(np.ptp(image_layer.data))
    low = float(np.median(image_layer.data)) - grey * span
    image_layer.contrast_limits = low, low + span
    settle(viewer)
    for colours in (
        viewer.layers["field clusters"].border_color,
        viewer.layers["field outlines"].edge_color,
        viewer.layers["field texts"].face_color,
    ):
        assert len(colours) and (np.abs(colours[:, :3].mean(axis=1) - grey) > 0.35).all()


def test_an_unknown_cluster_beside_a_bright_one_is_seen_on_dark_support(
    analysed, viewer, image_layer, settle
):
    first = analysed.state.table("field").iloc[0]
    low = float(np.median(image_layer.data))
    high = low + 100 * float(np.ptp(image_layer.data))
    # As for the pieces of a split: half of the ring passes over the other one.
    image_layer.data[:, : round(first["x_px"])] = high
    image_layer.contrast_limits = low, high
    analysed.state.clusters.relabel([("field", int(first["cluster_id"]))], "unknown")
    settle(viewer)
    assert viewer.layers["field clusters"].border_color[0][:3].min() > 0.3


def test_layers_lie_in_register_with_the_image(analysed, viewer, image_layer, qtbot):
    # The texts come last: they are written when there is time.
    qtbot.waitUntil(lambda: analysed.canvas.layer("field", "texts") is not None)
    names = [layer.name for layer in viewer.layers]
    assert names == [
        "field",
        "field class map raw",
        "field class map LCN",
        "field outlines",
        "field clusters",
        "field texts",
    ]
    for layer in viewer.layers:
        np.testing.assert_allclose(layer.scale, [PIXEL_NM, PIXEL_NM])
        assert layer.units == image_layer.units
    assert viewer.layers["field class map raw"].data.shape == image_layer.data.shape
    assert viewer.layers.selection.active is viewer.layers["field clusters"]
    assert len(viewer.layers["field clusters"].data) == N_CLUSTERS
    assert consistent(analysed)


def test_deleting_points_is_an_edit(analysed):
    layer = analysed.canvas.layer("field", "clusters")
    gone = set(layer.features["cluster_id"].iloc[[1, 3]])
    layer.selected_data = {1, 3}
    layer.remove_selected()
    assert not gone & set(analysed.state.table("field")["cluster_id"])
    assert consistent(analysed)
    analysed.state.history.undo()
    assert gone < set(analysed.state.table("field")["cluster_id"])
    assert consistent(analysed)


def test_an_added_point_is_measured_and_classified(analysed, viewer, settle):
    layer = analysed.canvas.layer("field", "clusters")
    before = set(analysed.state.table("field")["cluster_id"])
    layer.selected_data = {0}
    layer.add([80.0, 80.0])
    settle(viewer)
    table = analysed.state.table("field")
    new = table[~table["cluster_id"].isin(before)]
    assert len(new) == 1
    assert new["cluster_id"].item() > max(before)
    np.testing.assert_allclose(new[["y_px", "x_px"]], [[80, 80]])
    assert new["label_predicted"].item() != ""
    assert not unclassified(analysed.state.analysis("field"))
    assert analysed.state.selection == {("field", new["cluster_id"].item())}
    assert consistent(analysed)
    analysed.state.history.undo()
    assert set(analysed.state.table("field")["cluster_id"]) == before
    analysed.state.history.redo()
    assert not unclassified(analysed.state.analysis("field"))
    assert consistent(analysed)


def test_a_moved_point_is_measured_again(analysed, viewer, settle):
    layer = analysed.canvas.layer("field", "clusters")
    before = analysed.state.table("field")
    layer.selected_data = {2}
    layer._set_drag_start({2}, layer.data[2])
    layer._move({2}, layer.data[2] + 3)
    settle(viewer)
    after = analysed.state.table("field")
    np.testing.assert_allclose(
        after[["y_px", "x_px"]].iloc[2], before[["y_px", "x_px"]].iloc[2] + 3
    )
    assert after["cluster_id"].tolist() == before["cluster_id"].tolist()
    assert after["y_nm"].iloc[2] == pytest.approx(after["y_px"].iloc[2] * PIXEL_NM)
    assert after["label_predicted"].iloc[2] != ""
    assert consistent(analysed)
    analysed.state.history.undo()
    np.testing.assert_allclose(
        analysed.state.table("field")[["y_px", "x_px"]], before[["y_px", "x_px"]]
    )
    assert consistent(analysed)


def test_a_point_is_not_moved_onto_another_cluster(analysed, viewer, settle):
    """It would count twice."""
    layer = analysed.canvas.layer("field", "clusters")
    before, steps = analysed.state.table("field"), len(analysed.state.history)
    layer.selected_data = {2}
    layer._set_drag_start({2}, layer.data[2])
    layer._move({2}, layer.data[5] + 1)
    settle(viewer)
    pd.testing.assert_frame_equal(analysed.state.table("field"), before)
    assert len(analysed.state.history) == steps and consistent(analysed)


def test_selection_goes_both_ways_without_echo(analysed):
    layer, state = analysed.canvas.layer("field", "clusters"), analysed.state
    heard = []
    state.selection_changed.connect(heard.append)
    layer.selected_data = {4}
    ids = state.table("field")["cluster_id"]
    assert state.selection == {("field", ids[4])}
    state.select({("field", ids[7])})
    assert set(layer.selected_data) == {7}
    assert len(heard) == 2


def test_hidden_labels_are_not_drawn_and_stay_hidden(analysed):
    layer = analysed.canvas.layer("field", "clusters")
    label = layer.features["label"].iloc[0]
    analysed.clusters.hidden = frozenset({label})
    assert (layer.shown == (layer.features["label"] != label)).all()
    analysed.state.clusters.relabel([("field", 2)], "unknown")
    assert (layer.shown == (layer.features["label"] != label)).all()


def test_corrections_show(analysed):
    layer = analysed.canvas.layer("field", "clusters")
    analysed.state.clusters.relabel([("field", 1)], "Pt70")
    assert layer.border_width[0] == pytest.approx(2 * layer.border_width[1])
    np.testing.assert_allclose(layer.border_color[0, :3], to_rgb(colour_of("Pt70", CLASSES)))
    assert not layer.face_color[:, 3].any(), "the cluster itself is not covered"


def test_texts_only_where_they_can_be_read(analysed, viewer, qtbot):
    from napari_atomicity.gui.viewer.layers import compat

    def texts():
        layer = analysed.canvas.layer("field", "texts")
        return [] if layer is None or not len(layer.data) else list(layer.text.values)

    layer, table = analysed.canvas.layer("field", "clusters"), analysed.state.table("field")
    compat.camera(viewer).zoom = 100
    compat.camera(viewer).center = (0, 40 * PIXEL_NM, 40 * PIXEL_NM)
    half_px = np.array(compat.canvas_size(viewer)) / 100 / 2 / PIXEL_NM
    near = (np.abs(layer.data - 40) <= half_px).all(axis=1)
    assert 0 < near.sum() < N_CLUSTERS
    wanted = [f"{r.label} {r.confidence:.2f}" for r in table[near].itertuples()]
    qtbot.waitUntil(lambda: texts() == wanted)
    analysed.state.clusters.relabel([("field", table["cluster_id"][near].iloc[0])], "Pt70")
    qtbot.waitUntil(lambda: texts() == ["Pt70*", *wanted[1:]])
    layer.visible = False
    qtbot.waitUntil(lambda: texts() == [])
    layer.visible = True
    qtbot.waitUntil(lambda: len(texts()) == near.sum())
    compat.camera(viewer).zoom = 1
    qtbot.waitUntil(lambda: texts() == [])


def test_a_removed_image_takes_its_layers_along(analysed, viewer, image_layer, qtbot):
    viewer.layers.remove(image_layer)
    qtbot.waitUntil(lambda: not len(viewer.layers), timeout=20_000)
    assert analysed.state.images == []
    assert tuple(analysed.state.history) == ()


def test_a_class_map_of_another_class(analysed, viewer, settle):
    before = viewer.layers["field class map LCN"].data
    analysed.state.explained_class = "Pt70"
    settle(viewer)
    assert analysed.canvas.layer("field", "class map LCN").data is not before
    names = [layer.name for layer in viewer.layers if "class map" in layer.name]
    assert names == ["field class map raw of Pt70", "field class map LCN of Pt70"]


def test_calibrating_later_moves_all_layers(viewer, model, settle):
    from napari_atomicity.gui.viewer.layers import calibration

    layer = viewer.add_image(blobs(), name="bare")
    binding = binding_of(viewer)
    assert binding.state.micrograph(binding.canvas.ensure_image(layer)).pixel_size_nm is None
    calibration.calibrate(layer, PIXEL_NM)
    assert binding.state.micrograph("bare").pixel_size_nm == PIXEL_NM


def limits_notes(state) -> list[str]:
    """The notes on the ratios that a file of the window has."""
    analyses = snapshot(state).analyses
    table = pd.concat([a.table for a in analyses])
    return class_ratios(table, limits=limits_of(analyses))["note"].tolist()


def test_ratios_name_files_with_the_content_of_others(viewer):
    state = binding_of(viewer).state
    for name in ("a", "b"):
        found = made_up(20, name)
        micrograph = replace(found.micrograph, sha256="same")
        state.clusters.set_analysis(replace(found, micrograph=micrograph))
    assert "files have the content of others in 1 of 2 images" in limits_notes(state)[-1]


def test_results_are_called_outdated_only_while_the_pixel_size_differs(
    viewer, image_layer, model, settle, monkeypatch
):
    messages: list[str] = []
    monkeypatch.setattr("napari_atomicity.gui.viewer.canvas.show_info", messages.append)
    state, image = binding_of(viewer).state, binding_of(viewer).canvas.ensure_image(image_layer)
    state.clusters.set_analysis(analyse(state.micrograph(image)))
    settle(viewer)
    image_layer.scale = [2 * PIXEL_NM] * 2
    assert "Press Analyse again" in messages.pop()
    (note,) = set(limits_notes(state))
    assert "the pixel size was changed since the analysis" in note
    assert "Analyse again" in summary(state, image)
    image_layer.scale = [PIXEL_NM] * 2
    assert not messages
    assert "pixel size" not in "".join(limits_notes(state)) + summary(state, image)


def test_a_stack_keeps_its_frames(viewer, model, settle):
    stack = np.stack([blobs(0), blobs(1)])
    layer = viewer.add_image(
        stack, name="film", scale=(1, PIXEL_NM, PIXEL_NM), units=("pixel", "nm", "nm")
    )
    binding = binding_of(viewer)
    binding.state.clusters.set_analysis(
        analyse(binding.state.micrograph(binding.canvas.ensure_image(layer)))
    )
    settle(viewer)
    points = binding.canvas.layer("film", "clusters")
    assert set(points.data[:, 0]) == {0, 1}
    assert binding.canvas.layer("film", "outlines").data.shape[1:] == (2, 3)
    assert binding.canvas.layer("film", "class map raw").data.shape == stack.shape
    assert consistent(binding, "film")


def test_the_image_looked_at_lies_in_front_of_the_others(analysed, viewer, image_layer, settle):
    points = analysed.canvas.layer("field", "clusters")
    analysed.canvas.layer("field", "class map LCN").visible = True
    analysed.overlays.outlines_visible = False
    options = {"scale": image_layer.scale, "units": image_layer.units}
    second = viewer.add_image(blobs(1), name="second", **options)
    beside = viewer.add_image(blobs(2), name="beside", translate=(0, 1000), **options)
    for layer in (second, beside):
        name = analysed.canvas.ensure_image(layer)
        analysed.state.clusters.set_analysis(analyse(analysed.state.micrograph(name)))
        settle(viewer)
    assert not image_layer.visible and not points.visible
    assert second.visible and beside.visible
    viewer.layers.selection.active = points
    assert analysed.state.current == "field"
    assert image_layer.visible and points.visible
    assert analysed.canvas.layer("field", "class map LCN").visible
    assert not analysed.canvas.layer("field", "outlines").visible
    assert not second.visible and not analysed.canvas.layer("second", "clusters").visible
    assert beside.visible
    viewer.layers.remove(image_layer)
    assert analysed.state.current == "second"
    assert second.visible


def test_an_image_is_hidden_and_shown_in_one_update_of_the_scene(analysed, viewer, monkeypatch):
    layers = analysed.canvas.layers.get("field")
    shown = [layer for layer in viewer.layers if layer.visible]
    nodes = [viewer.window._qt_viewer.canvas.layer_to_visual[layer].node for layer in shown]
    update, updates = VispyCanvas._update_scenegraph, []

    def counted(canvas, event=None):
        if not canvas._pause_scene_graph:
            updates.append(event)
        update(canvas, event)

    monkeypatch.setattr(VispyCanvas, "_update_scenegraph", counted)
    layers.hide()
    assert len(updates) == 1 and not any(layer.visible for layer in shown)
    assert not any(node.visible for node in nodes)
    layers.unhide()
    assert len(updates) == 2 and all(layer.visible for layer in shown)
    assert all(node.visible for node in nodes)
    shown[0].visible = False  # outside, napari updates as ever
    assert len(updates) == 3


def test_a_deleted_layer_of_clusters_comes_back(analysed, viewer, qtbot):
    """Its rings would be missing, while keys still label what is selected."""
    state = analysed.state
    n = len(state.table("field"))
    viewer.layers.remove(analysed.canvas.layer("field", "clusters"))  # by napari's own button
    qtbot.waitUntil(lambda: analysed.canvas.layer("field", "clusters") is not None)
    assert len(analysed.canvas.layer("field", "clusters").data) == n == len(state.table("field"))


def test_all_layers_can_be_deleted_at_once(analysed, viewer, qtbot):
    qtbot.waitUntil(lambda: analysed.canvas.layer("field", "texts") is not None)
    viewer.layers.select_all()
    viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not len(viewer.layers))
    assert analysed.state.images == []


@pytest.mark.parametrize("agreed", [False, True])
def test_deleting_all_layers_of_an_image_with_edits_asks_once(
    analysed, viewer, qtbot, monkeypatch, agreed
):
    asked = []
    where = "napari_atomicity.gui.viewer.binding"
    monkeypatch.setattr(f"{where}.may_remove_image", lambda image: asked.append(image) or agreed)
    monkeypatch.setattr(f"{where}.show_info", asked.append)
    monkeypatch.setattr(f"{where}.compat.is_shown", lambda _: True)
    key = ("field", int(analysed.state.table("field")["cluster_id"].iloc[0]))
    analysed.state.clusters.relabel([key], "Pt70")
    corners = np.array([[2.0, 2.0], [2.0, 9.0], [9.0, 2.0]])
    analysed.state.clusters.set_regions("field", [corners])
    qtbot.waitUntil(lambda: analysed.canvas.layer("field", "texts") is not None)
    viewer.layers.select_all()
    viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: bool(asked) and (len(viewer.layers) > 0) != agreed)
    qtbot.wait(50)
    assert asked == ["field"] and ("field" in viewer.layers) != agreed
    assert (analysed.state.images == []) == agreed
    if not agreed:  # all is shown again
        assert all(analysed.canvas.layer("field", kind) for kind in ("clusters", "regions"))
        assert len(analysed.state.clusters.regions("field")) == 1


def _endless(at_work):
    def measure(*args, progress=None, stop=None):
        at_work.set()
        while True:
            check(stop)

    return measure


@pytest.mark.parametrize("how", ["add", "move"])
def test_a_measurement_that_is_cancelled_leaves_no_trace(
    analysed, viewer, qtbot, settle, monkeypatch, how
):
    at_work = threading.Event()
    monkeypatch.setattr(
        "napari_atomicity.gui.viewer.clusters.manual_editing.measure_places", _endless(at_work)
    )
    layer = analysed.canvas.layer("field", "clusters")
    if how == "add":
        layer.add([10, 10])
    else:
        layer.selected_data = {2}
        layer._set_drag_start({2}, layer.data[2])
        layer._move({2}, layer.data[2] + 3)
    qtbot.waitUntil(at_work.is_set)
    tasks.cancel(analysed.state)
    settle(viewer)
    assert consistent(analysed)
    assert len(analysed.state.table("field")) == N_CLUSTERS


def test_cancel_leaves_alone_what_is_drawn_in_silence(analysed, viewer, qtbot, settle):
    at_work, release, done = threading.Event(), threading.Event(), []

    def drawing(progress=None, stop=None):
        at_work.set()
        release.wait(10)
        return "drawn"

    tasks.start(analysed.state, drawing, on_result=done.append, key="silent")
    qtbot.waitUntil(at_work.is_set)
    tasks.cancel(analysed.state)
    release.set()
    settle(viewer)
    assert done == ["drawn"]


def test_a_cluster_that_was_deleted_does_not_come_back_measured(analysed):
    state = analysed.state
    table = state.table("field")
    late = table.iloc[[0, 1]].copy()
    outlines = state.analysis("field").outlines[:2]
    state.clusters.remove_ids("field", [int(table["cluster_id"][0])])
    left = state.table("field")["cluster_id"].tolist()
    state.clusters.move("field", late, outlines)
    assert state.table("field")["cluster_id"].tolist() == left
    state.history.undo()
    state.history.undo()
    assert state.table("field")["cluster_id"].tolist() == table["cluster_id"].tolist()


def test_a_result_of_another_pixel_size_is_not_taken(analysed, image_layer):
    stale = analysed.state.analysis("field")
    assert analysed.accepts(stale)
    image_layer.scale = (2 * PIXEL_NM, 2 * PIXEL_NM)
    assert not analysed.accepts(stale)


def written(layer):
    """All that the points layer shows, per point."""
    names = ("data", "size", "face_color", "border_color", "border_width", "shown")
    arrays = {name: np.array(getattr(layer, name)) for name in names}
    return {
        **arrays,
        "symbol": [str(s) for s in layer.symbol],
        "selected": set(layer.selected_data),
    }


def test_a_layer_written_in_part_is_as_one_written_anew(analysed, viewer):
    state, layer = analysed.state, analysed.canvas.layer("field", "clusters")
    ids = state.table("field")["cluster_id"].tolist()
    state.clusters.relabel([("field", i) for i in ids[::3]], "Pt70")
    state.clusters.remove_ids("field", ids[2:4])
    state.select([("field", ids[0]), ("field", ids[-1])])
    state.history.undo()
    analysed.clusters.hidden = frozenset({"Pt70"})
    state.clusters.relabel([("field", ids[1])], "Pt19")
    state.clusters.remove_ids("field", [ids[5]])
    assert analysed.canvas.layer("field", "clusters") is layer
    found = written(layer)
    viewer.layers.remove(layer)
    analysed.clusters.refresh("field")
    anew = analysed.canvas.layer("field", "clusters")
    assert anew is not layer
    np.testing.assert_equal(found, written(anew))
    assert consistent(analysed)


def test_a_change_of_the_points_is_drawn_once(analysed):
    state, layer = analysed.state, analysed.canvas.layer("field", "clusters")
    ids = state.table("field")["cluster_id"].tolist()
    drawn = []
    # All that makes napari draw the points again.
    for emitter in (layer.events.set_data, layer.events.symbol, layer.events.border_width):
        emitter.connect(lambda event: drawn.append(event.type))
    for emitter in (layer.events.face_color, layer.events.border_color, layer.events.highlight):
        emitter.connect(lambda event: drawn.append(event.type))
    state.clusters.relabel([("field", ids[0])], "Pt70")
    assert drawn == ["set_data"]
    state.select([("field", i) for i in ids[:5]])
    assert drawn == ["set_data"] * 2
    analysed.clusters.refresh("field")
    assert drawn == ["set_data"] * 2


def seen_outlines(binding):
    """How many strokes of the outlines have a colour, of how many."""
    alpha = binding.canvas.layer("field", "outlines").edge_color[:, 3]
    return int((alpha > 0).sum()), len(alpha)


def test_outlines_that_go_and_come_back_are_not_drawn_anew(analysed, viewer, settle):
    state = analysed.state
    ids = state.table("field")["cluster_id"].tolist()
    strokes = analysed.canvas.layer("field", "outlines").data
    seen, n = seen_outlines(analysed)
    assert seen == n
    state.clusters.remove_ids("field", [ids[3]])
    settle(viewer)
    assert seen_outlines(analysed)[0] < n
    state.history.undo()
    settle(viewer)
    assert seen_outlines(analysed) == (n, n)
    label = state.table("field")["label"].iloc[0]
    analysed.clusters.hidden = frozenset({label})
    settle(viewer)
    assert 0 < seen_outlines(analysed)[0] < n
    analysed.clusters.hidden = frozenset()
    settle(viewer)
    assert seen_outlines(analysed) == (n, n)
    assert analysed.canvas.layer("field", "outlines").data is strokes
    again = analyse(state.micrograph("field"))
    state.clusters.set_analysis(again)
    settle(viewer)
    assert analysed.canvas.layer("field", "outlines").data is strokes


def drawn_corners(viewer, layer) -> np.ndarray:
    """What the canvas has of a layer of strokes."""
    visual = viewer.window._qt_viewer.canvas.layer_to_visual[layer]
    return np.array(visual.node.mesh_data.get_vertices())


def test_other_outlines_are_drawn_whatever_their_colours(analysed, viewer, settle):
    state, layer = analysed.state, analysed.canvas.layer("field", "outlines")
    before, strokes, colours = drawn_corners(viewer, layer), layer.data, layer.edge_color.copy()
    now = state.analysis("field")
    state.clusters.set_analysis(replace(now, outlines=[o + 0.5 for o in now.outlines]))
    settle(viewer)
    np.testing.assert_allclose(layer.data[:, 0], strokes[:, 0] + 0.5)
    np.testing.assert_array_equal(layer.edge_color, colours)
    moved = drawn_corners(viewer, layer)[:, :2] - before[:, :2]
    np.testing.assert_allclose(moved, 0.5, atol=1e-3)
    state.clusters.set_analysis(replace(now, outlines=[o[:2] for o in now.outlines]))  # no strokes
    settle(viewer)
    assert len(drawn_corners(viewer, layer)) < len(before)


def test_outlines_have_the_colours_of_their_labels(analysed, viewer, settle):
    state, layer = analysed.state, analysed.canvas.layer("field", "outlines")
    table = state.table("field")
    label = "Pt70" if table["label"].iloc[0] != "Pt70" else "Pt19"
    state.clusters.remove_ids("field", [table["cluster_id"].iloc[1]])
    state.clusters.relabel([("field", table["cluster_id"].iloc[0])], label)
    settle(viewer)
    of_others = table["label"] == label
    corner = table.loc[of_others, ["y_px", "x_px"]].to_numpy()[0]
    nearest = np.abs(layer.data[:, 0] - corner).sum(axis=1).argmin()
    np.testing.assert_allclose(layer.edge_color[0], layer.edge_color[nearest])


def test_a_selection_that_waits_is_not_taken_for_none(analysed, viewer, settle, monkeypatch):
    monkeypatch.setattr("napari_atomicity.gui.viewer.points_display._MAX_SELECTED_AT_ONCE", 2)
    state, layer = analysed.state, analysed.canvas.layer("field", "clusters")
    ids = state.table("field")["cluster_id"].tolist()
    chosen = {("field", i) for i in ids[4:9]}
    state.select(chosen)
    state.clusters.remove_ids("field", [ids[0]])
    layer.selected_data.add(1)  # as napari does, before it knows of the others
    assert state.selection == chosen
    settle(viewer)
    assert layer.selected_data == {3, 4, 5, 6, 7}


def test_what_waits_for_an_image_that_goes_is_forgotten(analysed, viewer, settle, monkeypatch):
    monkeypatch.setattr("napari_atomicity.gui.viewer.points_display._MAX_SELECTED_AT_ONCE", 2)
    state = analysed.state
    ids = state.table("field")["cluster_id"].tolist()
    state.select([("field", i) for i in ids[4:9]])
    state.clusters.remove_ids("field", [ids[0]])
    monkeypatch.setattr("napari_atomicity.gui.viewer.projects.confirm", lambda *_: True)
    viewer.layers.remove("field")
    settle(viewer)
    assert "field" not in state.images


def test_an_image_with_edits_that_are_saved_nowhere_is_not_removed_unasked(
    analysed, viewer, image_layer, settle, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "napari_atomicity.gui.viewer.projects.confirm",
        lambda _, title, text: bool(asked.append(text)),
    )
    first = int(analysed.state.table("field")["cluster_id"].iloc[0])
    analysed.state.clusters.relabel([("field", first)], "unknown")
    index = viewer.layers.index(image_layer)
    viewer.layers.remove(image_layer)  # by napari's own button
    settle(viewer)
    assert len(asked) == 1 and "field" in asked[0]
    assert viewer.layers[index] is image_layer and analysed.state.current == "field"
    analysed.state.history.undo()
    viewer.layers.remove(image_layer)
    settle(viewer)
    assert len(asked) == 1 and analysed.state.images == []


def test_many_points_are_selected_in_a_turn_of_their_own(analysed, viewer, settle, monkeypatch):
    monkeypatch.setattr("napari_atomicity.gui.viewer.points_display._MAX_SELECTED_AT_ONCE", 2)
    state, layer = analysed.state, analysed.canvas.layer("field", "clusters")
    ids = state.table("field")["cluster_id"].tolist()
    state.select([("field", i) for i in ids[4:9]])
    assert layer.selected_data == {4, 5, 6, 7, 8}
    state.clusters.remove_ids("field", [ids[0]])
    assert state.selection == {("field", i) for i in ids[4:9]}
    assert not analysed.settled
    settle(viewer)
    assert layer.selected_data == {3, 4, 5, 6, 7}
    width = layer.border_width
    assert (width[3:8] > width[0]).all()
    assert len(np.unique(width)) == 2
