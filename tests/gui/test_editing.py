"""What a person does to clusters in the image: added, split, merged, excluded, undone."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from brightness import PIXEL_NM
from mouse import LEFT, move, on_canvas
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from synthetic import made_up
from waiting import updated

from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.gallery import Gallery
from napari_atomicity.gui.docks.review.dock import Editing, Review
from napari_atomicity.gui.docks.table import Table
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.gui.viewer.layers.compat import import_soon
from napari_atomicity.state.history import replaced_by
from napari_atomicity.state.review_queue import Queue, ReviewRequest
from napari_atomicity.state.reviewing import Reviewing
from napari_atomicity.statistics.ratios.ratios import class_ratios, counted


def twins(seed: int = 0) -> np.ndarray:
    """Eight blobs; the first is two that touch, the second two halves with a gap of noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:240, :320]
    image = 100 + rng.normal(0, 1, y.shape)
    places = [(40 + 80 * (i // 4), 40 + 80 * (i % 4)) for i in range(8)]
    places[0:1] = [(40, 35), (40, 45)]
    for i, (cy, cx) in enumerate(places):
        image += 60 * (1 + i / 8) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 5.0**2))
    return image.astype(np.float32)


@pytest.fixture
def shown(make_napari_viewer, model, qtbot, settle):
    """An analysed image, shown, with label mode on, as after one press of Analyse."""
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1000, 700)
    layer = viewer.add_image(twins(), name="field", scale=(PIXEL_NM,) * 2, units=("nm", "nm"))
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    analyse.form.controls["split_touching"].setChecked(False)
    qtbot.mouseClick(analyse.button, LEFT)
    settle(viewer)
    binding = binding_of(viewer)
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.waitUntil(lambda: compat.canvas_size(viewer) == (canvas.height(), canvas.width()))
    viewer.reset_view()
    assert layer.name in binding.state.images
    return viewer


def click_cluster(viewer, y: float, x: float, modifiers=Qt.KeyboardModifier.NoModifier) -> int:
    """Click the cluster nearest to a place, as a person does; its id."""
    binding = binding_of(viewer)
    table = binding.state.table("field")
    row = int(np.argmin(np.hypot(table["y_px"] - y, table["x_px"] - x)))
    canvas = viewer.window._qt_viewer.canvas.native
    place = on_canvas(viewer, binding.canvas.layer("field", "clusters"), row)
    QTest.mouseClick(canvas, LEFT, modifiers, place)
    return int(table["cluster_id"].iloc[row])


def test_a_plain_click_selects_only_what_is_clicked(shown):
    """Also if it is one of several selected clusters: the next key would label all of them."""
    binding = binding_of(shown)
    state, layer = binding.state, binding.canvas.layer("field", "clusters")
    shown.layers.selection.active = layer
    for mode in ("select", "pan_zoom"):
        layer.mode = mode
        every = [("field", int(i)) for i in state.table("field")["cluster_id"]]
        state.select(every)
        clicked = click_cluster(shown, 40, 40)
        assert list(state.selection) == [("field", clicked)]
        state.select(every)
        canvas = shown.window._qt_viewer.canvas.native
        QTest.mouseClick(canvas, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(3, 3))
        assert not state.selection


def test_the_status_line_has_the_keys_of_label_mode(shown):
    mode, points = binding_of(shown).label_mode, binding_of(shown).canvas.layer("field", "clusters")
    assert "0 unknown" in shown.help and "use <" not in shown.help
    points.mode = "add"
    assert "0 unknown" in shown.help and "use <" not in shown.help
    points.mode = "select"
    shown.layers.selection.active = shown.layers["field"]
    assert "0 unknown" in shown.help
    shown.layers.selection.active = shown.add_image(np.zeros((5, 5)), name="elsewhere")
    assert "unknown" not in shown.help
    shown.layers.selection.active = points
    assert "0 unknown" in shown.help
    mode.on = False
    assert "unknown" not in shown.help


def test_labels_of_clusters_out_of_sight_are_said(shown):
    state = binding_of(shown).state
    state.clusters.set_analysis(made_up(3, "second"))
    one = click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_1)
    assert "images" not in shown.status
    state.select({("field", one), ("second", 1)})
    press(shown, Qt.Key.Key_2)
    assert "2 clusters in 2 images: Pt30" in shown.status


def test_the_keys_label_while_another_layer_of_the_image_is_active(shown):
    """As after a change of its contrast; a click selects clusters all the same."""
    state, layer = binding_of(shown).state, shown.layers["field"]
    kinds = ("class map raw", "outlines", "texts")
    for active in (layer, *(binding_of(shown).canvas.layer("field", kind) for kind in kinds)):
        shown.layers.selection.active = active
        clicked = click_cluster(shown, 40, 40)
        press(shown, Qt.Key.Key_2)
        label = state.table("field").set_index("cluster_id")["label_corrected"]
        assert label[clicked] == state.classes()[1] and active.mode == "pan_zoom"
        state.history.undo()
    shown.layers.selection.active = shown.add_points([[1.0, 2.0]], name="of a person")
    text = binding_of(shown).label_mode.text()
    assert "do not act in the layer 'of a person'" in text and "Pt19" not in text
    assert "C hides them" not in text  # a key, too


def test_a_fitted_image_stays_fitted_when_the_canvas_is_resized(shown, qtbot):
    window, layer = shown.window._qt_window, shown.layers["field"]

    def fills() -> bool:
        """Return whether the image fits the canvas, and touches two of its sides nearly."""
        camera, size = compat.camera(shown), np.array(compat.canvas_size(shown))
        low, high = layer.extent.world
        half = size / (2 * camera.zoom)
        inside = (camera.center[-2:] - half <= low).all() and (
            high <= camera.center[-2:] + half
        ).all()
        return bool(inside and ((high - low) / (2 * half)).max() > 0.7)

    qtbot.waitUntil(fills)
    for width, height in ((1400, 1000), (900, 600)):
        before = compat.canvas_size(shown)
        window.resize(width, height)
        qtbot.waitUntil(lambda before=before: compat.canvas_size(shown) != before)
        qtbot.waitUntil(fills)
    camera = compat.camera(shown)
    camera.zoom *= 3
    zoom, before = camera.zoom, compat.canvas_size(shown)
    window.resize(1200, 800)
    qtbot.waitUntil(lambda: compat.canvas_size(shown) != before)
    assert camera.zoom == zoom  # what a person has zoomed stays


def test_the_text_in_the_corner_covers_nothing_of_a_fitted_image(shown):
    overlay, layer = compat.text_overlay(shown), shown.layers["field"]
    overlay.text = "Label mode\n1 Pt19   2 Pt30\nClass maps of the predicted class"
    layer.scale = (3 * PIXEL_NM, PIXEL_NM)  # its height fills the canvas
    for theme in ("dark", "light"):
        shown.theme = theme
        shown.reset_view()
        with_text = shown.screenshot(flash=False)
        overlay.visible = False
        rows = np.flatnonzero((shown.screenshot(flash=False) != with_text).any(axis=(1, 2)))
        overlay.visible = True
        camera, (height, _) = compat.camera(shown), compat.canvas_size(shown)
        top, bottom = (layer.extent.world[:, -2] - camera.center[-2]) * camera.zoom + height / 2
        assert len(rows) and rows.max() < top < bottom <= height
    layer.scale = (PIXEL_NM, 5 * PIXEL_NM)  # a wide image leaves enough room
    shown.reset_view()
    assert compat.camera(shown).center[-2] == pytest.approx(layer.extent.world[:, -2].mean())


def press(viewer, key, modifiers=Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(viewer.window._qt_viewer.canvas.native, key, modifiers)


def near(table, y, x, within=9):
    return table[np.hypot(table["y_px"] - y, table["x_px"] - x) < within]


def test_split_by_a_click_and_a_key_and_back(shown, settle):
    state = binding_of(shown).state
    before = state.table("field")
    assert len(near(before, 40, 40)) == 1
    one = click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_S)
    settle(shown)
    after = state.table("field")
    assert one not in set(after["cluster_id"])
    two = near(after, 40, 40, 14).sort_values("x_px")
    np.testing.assert_allclose(two["x_px"], [35, 45], atol=2.5)
    assert (two["label_predicted"] != "").all()  # the model has looked at them
    assert state.selection == {("field", i) for i in two["cluster_id"]}
    assert len(binding_of(shown).canvas.layer("field", "clusters").data) == len(before) + 1
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(shown)
    assert state.table("field").equals(before)
    keys = Qt.KeyboardModifier
    press(shown, Qt.Key.Key_Z, keys.ControlModifier | keys.ShiftModifier)
    settle(shown)
    assert state.table("field").equals(after)


def test_pieces_without_a_label_say_how_to_get_the_model(shown, settle, errors):
    """As in a project that was opened where its model is not installed."""
    binding = binding_of(shown)
    state = binding.state
    analysis = state.analysis("field")
    table = analysis.table.assign(model_id="lost-1")
    parameters = {**analysis.parameters, "model": {"model_id": "lost-1"}}
    state.clusters.replace_predictions(replace(analysis, table=table, parameters=parameters))
    binding.manual_editing.forget("field")
    state.select([("field", int(table["cluster_id"][0]))])
    binding.edits.split_selected()
    settle(shown)
    assert "2 new clusters have no label: the model lost-1 of this image" in errors[-1]
    assert "Share a model…" in errors[-1] and "atomicity models add FILE" in errors[-1]


def test_several_clusters_are_split_in_one_step(shown, settle):
    state = binding_of(shown).state
    before = state.table("field")
    places = [(40, 40), (120, 120)]
    state.select(("field", int(near(before, *p)["cluster_id"].iloc[0])) for p in places)
    steps = len(state.history)
    press(shown, Qt.Key.Key_S)
    settle(shown)
    assert len(state.selection) == 4 and len(state.history) == steps + 1
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(shown)
    assert state.table("field").equals(before)


def test_without_a_manual_label_u_changes_nothing_and_keeps_what_can_be_redone(shown, settle):
    state = binding_of(shown).state
    one = click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_2)
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    click_cluster(shown, 120, 120)
    steps, undone = len(state.history), len(state.history.undone)
    press(shown, Qt.Key.Key_U)
    assert (len(state.history), len(state.history.undone)) == (steps, undone) and undone
    assert "manual label" in shown.status
    press(shown, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    assert labels_of(shown, [one]) == [state.classes()[1]]
    # Of several, those with a label are in the step.
    press(shown, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    press(shown, Qt.Key.Key_U)
    assert labels_of(shown, [one]) == [""]
    assert len(state.history[-1].edits[0].before) == 1


def test_a_label_pressed_while_pieces_are_measured_is_refused(shown, settle):
    """It would go to the cluster that they replace, and be lost with it."""
    state = binding_of(shown).state
    one, steps = click_cluster(shown, 40, 40), len(state.history)
    press(shown, Qt.Key.Key_S)
    for key in (Qt.Key.Key_2, Qt.Key.Key_S, Qt.Key.Key_Delete):
        press(shown, key)
        assert "being measured" in shown.status
    settle(shown)
    assert one not in set(state.table("field")["cluster_id"])
    assert len(state.selection) == 2 and len(state.history) == steps + 1
    press(shown, Qt.Key.Key_2)
    assert labels_of(shown, [i for _, i in state.selection]) == [state.classes()[1]] * 2


def test_undo_cancels_a_split_of_which_nothing_is_measured(shown, settle):
    state = binding_of(shown).state
    before = state.table("field")
    state.select(("field", int(i)) for i in before["cluster_id"][:2])
    press(shown, Qt.Key.Key_2)
    press(shown, Qt.Key.Key_S)
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(shown)
    after = state.table("field")
    assert after["cluster_id"].tolist() == before["cluster_id"].tolist()
    assert (after["label_corrected"] != "").sum() == 2  # the step before the split stays


def test_merge_two_of_which_one_was_made_by_a_split(shown, settle):
    state = binding_of(shown).state
    whole = near(state.table("field"), 40, 40).iloc[0]
    click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_S)
    settle(shown)
    assert len(state.selection) == 2  # what came of it is selected
    press(shown, Qt.Key.Key_2)
    with notification_manager:
        press(shown, Qt.Key.Key_M)
        settle(shown)
        said = notification_manager.records[-1].message
    assert f"before this merge had the manual label {state.classes()[1]}" in said
    (merged,) = near(state.table("field"), 40, 40).to_dict("records")
    assert merged["integrated_intensity"] == pytest.approx(whole["integrated_intensity"], rel=0.05)
    assert merged["label_predicted"] != ""


def test_clusters_of_several_frames_are_merged_in_each(shown, monkeypatch):
    state, editing = binding_of(shown).state, binding_of(shown).manual_editing
    groups, said = [], []
    monkeypatch.setattr(editing, "_split_or_merge", lambda _, ids, verb: groups.append(ids))
    monkeypatch.setattr(
        "napari_atomicity.gui.viewer.clusters.manual_editing.show_info", said.append
    )
    table = state.table("field").head(8).assign(frame=[0, 0, 1, 1, 1, 2, 2, 3])
    monkeypatch.setattr(state, "table", lambda image: table)
    ids = table["cluster_id"].tolist()
    editing.merge("field", [*ids[:5], ids[7]])
    assert groups == [[ids[:2], ids[2:5]]]
    editing.merge("field", [ids[0], ids[7]])
    assert len(groups) == 1 and "of the same frame" in said[0]


@pytest.fixture
def review_of(shown, settle):
    """Start a review of the clusters at some places, in this order; the dock and the clusters."""
    mode = binding_of(shown).label_mode

    def start(*places):
        dock = Review(shown)
        shown.window.add_dock_widget(dock, name="Review")
        table = binding_of(shown).state.table("field")
        ids = [int(near(table, *place)["cluster_id"].iloc[0]) for place in places]
        queue = Queue(ReviewRequest(), np.full(len(ids), "field", object), np.array(ids))
        mode.review = Reviewing(binding_of(shown).state, queue)
        settle(shown)
        return dock, ids

    yield start
    mode.review = None
    settle(shown)


def labels_of(viewer, ids):
    table = binding_of(viewer).state.table("field").set_index("cluster_id")
    return [table["label_corrected"].get(i) for i in ids]


@pytest.mark.parametrize("by_key", [True, False])
def test_a_cluster_that_is_split_in_a_review(shown, review_of, settle, by_key):
    state = binding_of(shown).state
    dock, (first, second) = review_of((40, 40), (120, 120))
    if by_key:
        press(shown, Qt.Key.Key_S)
    else:
        QTest.mouseClick(dock.editing.buttons["split"], LEFT)
    settle(shown)
    pieces = sorted(i for _, i in state.selection)
    assert len(pieces) == 2 and first not in state.table("field")["cluster_id"].tolist()
    words = f"cluster {first}: split into clusters {pieces[0]}, {pieces[1]}"
    assert words in compat.text_overlay(shown).text and words in dock.answers.shown.text()
    agree = dock.answers.buttons["agree"]
    table = state.table("field").set_index("cluster_id")
    predicted = [table["label_predicted"][i] for i in pieces]
    assert agree.isEnabled() and agree.text() == f"✓ {', '.join(dict.fromkeys(predicted))}"
    press(shown, Qt.Key.Key_Return)  # labels the pieces, and the review moves on
    settle(shown)
    assert labels_of(shown, pieces) == predicted
    assert f"cluster {second}: " in dock.answers.shown.text()
    assert state.selection == {("field", second)}
    assert dock.bar.text() == "Reviewed 2 of 3"
    for _ in range(2):
        press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(shown)
    assert labels_of(shown, [first, *pieces]) == ["", None, None]
    assert f"cluster {first}: " in dock.answers.shown.text() and dock.bar.text().endswith("0 of 2")
    press(shown, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    settle(shown)
    assert words in dock.answers.shown.text()
    assert state.selection == {("field", i) for i in pieces}
    state.select(())
    press(shown, Qt.Key.Key_1)  # nothing is selected: no label, and the next cluster comes
    settle(shown)
    assert f"cluster {pieces[0]}: " in dock.answers.shown.text()
    assert set(state.table("field")["label_corrected"]) == {""}
    press(shown, Qt.Key.Key_X)
    press(shown, Qt.Key.Key_N)  # the other piece waits until the others are reviewed
    press(shown, Qt.Key.Key_1)
    settle(shown)
    assert f"cluster {pieces[1]}: " in dock.answers.shown.text()
    assert dock.bar.text() == "Reviewed 2 of 3, 1 deleted"
    assert "2 of 3, 1 deleted" in compat.text_overlay(shown).text


def test_pieces_that_are_split_again_at_once_are_counted_and_named(shown, review_of, settle):
    state = binding_of(shown).state
    _, (first, second) = review_of((40, 40), (120, 120))
    state.select([("field", first), ("field", second)])
    press(shown, Qt.Key.Key_S)
    settle(shown)
    assert state.history[-1].description == "split 2 clusters"
    table = state.table("field")
    of_first = table.loc[np.hypot(table["y_px"] - 40, table["x_px"] - 40) < 20, "cluster_id"]
    state.select([("field", int(of_first.iloc[0]))])
    press(shown, Qt.Key.Key_S)
    settle(shown)
    assert state.history[-1].description == "split 1 cluster"
    table = state.table("field")
    pieces = table.loc[np.hypot(table["y_px"] - 40, table["x_px"] - 40) < 20, "cluster_id"]
    assert len(pieces) == 3 and replaced_by(state.history, ("field", first)) == sorted(pieces)


def test_clusters_that_are_merged_and_deleted_in_a_review(shown, review_of, settle):
    state = binding_of(shown).state
    dock, ids = review_of((40, 120), (40, 200), (40, 280), (120, 40))
    agree = dock.answers.buttons["agree"]
    state.select(("field", i) for i in ids[:2])
    press(shown, Qt.Key.Key_M)
    settle(shown)
    ((_, merged),) = state.selection
    assert f"cluster {merged}: " in dock.answers.shown.text()
    assert dock.bar.text() == "Reviewed 0 of 3"
    press(shown, Qt.Key.Key_1)
    settle(shown)
    assert labels_of(shown, [merged]) == [state.classes()[0]]
    assert f"cluster {ids[2]}: " in dock.answers.shown.text()
    state.select(("field", i) for i in (ids[2], merged))
    settle(shown)
    assert len(agree.text().split(", ")) == len(
        set(state.table("field").set_index("cluster_id").loc[[ids[2], merged], "label_predicted"])
    )
    press(shown, Qt.Key.Key_X)
    settle(shown)
    assert f"cluster {ids[3]}: " in dock.answers.shown.text()
    state.clusters.remove([("field", ids[3])])  # as the table does
    settle(shown)
    assert "not a cluster" in dock.answers.shown.text() and not agree.isEnabled()


def test_an_answer_pressed_while_pieces_are_measured_is_refused(shown, review_of, settle):
    state = binding_of(shown).state
    _, (first, second) = review_of((40, 40), (120, 120))
    press(shown, Qt.Key.Key_S)
    for key in (Qt.Key.Key_2, Qt.Key.Key_Return):
        press(shown, key)
        assert "being measured" in shown.status
    settle(shown)
    pieces = [i for _, i in state.selection]
    assert len(pieces) == 2 and first not in set(state.table("field")["cluster_id"])
    assert labels_of(shown, [*pieces, second]) == ["", "", ""]
    press(shown, Qt.Key.Key_2)
    assert "" not in labels_of(shown, pieces)


def test_a_split_of_a_cluster_that_came_back_is_no_deletion(shown, review_of, settle):
    dock, (first, _) = review_of((40, 40), (120, 120))
    press(shown, Qt.Key.Key_X)
    settle(shown)
    assert dock.bar.text() == "Reviewed 1 of 2, 1 deleted"
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    press(shown, Qt.Key.Key_S)
    settle(shown)
    assert dock.bar.text() == "Reviewed 0 of 3"
    assert f"cluster {first}: split into" in dock.answers.shown.text()


def test_a_missed_cluster_is_added_by_a_click(shown, settle):
    binding = binding_of(shown)
    state = binding.state
    lost = click_cluster(shown, 120, 120)
    press(shown, Qt.Key.Key_Delete)
    assert lost not in set(state.table("field")["cluster_id"])
    n = len(state.table("field"))
    press(shown, Qt.Key.Key_P)
    layer = binding.canvas.layer("field", "clusters")
    assert layer.mode == "add"
    world = layer.data_to_world((120, 120))
    camera, size = compat.camera(shown), compat.canvas_size(shown)
    y, x = (np.asarray(world) - camera.center[-2:]) * camera.zoom + np.array(size) / 2
    from qtpy.QtCore import QPoint

    canvas = shown.window._qt_viewer.canvas.native
    QTest.mouseClick(canvas, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(round(x), round(y)))
    settle(shown)
    table = state.table("field")
    assert len(table) == n + 1
    (added,) = near(table, 120, 120).to_dict("records")
    assert added["diameter_nm"] > 0.3
    assert added["label_predicted"] != ""
    press(shown, Qt.Key.Key_P)
    assert layer.mode == "select"


def on_screen(viewer, y: float, x: float) -> QPoint:
    """Where a place of the image is on the canvas."""
    world = binding_of(viewer).canvas.layer("field", "clusters").data_to_world((y, x))
    camera, size = compat.camera(viewer), compat.canvas_size(viewer)
    row, column = (np.asarray(world) - camera.center[-2:]) * camera.zoom + np.array(size) / 2
    return QPoint(round(column), round(row))


def test_a_click_beside_the_centre_adds_the_cluster_or_selects_the_one_that_is_there(shown, settle):
    state, canvas = binding_of(shown).state, shown.window._qt_viewer.canvas.native
    one = click_cluster(shown, 120, 120)
    before = state.table("field").set_index("cluster_id").loc[one]
    away_px = 0.35 * before["diameter_nm"] / PIXEL_NM
    press(shown, Qt.Key.Key_Delete)
    press(shown, Qt.Key.Key_P)
    ids = set()
    for y, x in ((120, 120 + away_px), (120 - away_px, 120)):
        QTest.mouseClick(canvas, LEFT, pos=on_screen(shown, y, x))
        settle(shown)
        ids |= {i for _, i in state.selection}
    (added,) = near(state.table("field"), 120, 120, 2 * away_px).to_dict("records")
    assert ids == {added["cluster_id"]}
    assert added["diameter_nm"] == pytest.approx(before["diameter_nm"], rel=0.1)


def test_every_click_and_drag_takes_the_nearest_of_two_that_overlap(shown, settle):
    """napari takes the one that is drawn last."""
    state, canvas = binding_of(shown).state, shown.window._qt_viewer.canvas.native
    click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_S)
    settle(shown)
    left, right = near(state.table("field"), 40, 40, 14).sort_values("x_px").to_dict("records")
    between = 0.4 * (right["x_px"] - left["x_px"])
    for this, away in ((right, -between), (left, between)):
        place = on_screen(shown, this["y_px"], this["x_px"] + away)
        state.select(())
        QTest.mouseClick(canvas, LEFT, Qt.KeyboardModifier.ShiftModifier, place)
        assert state.selection == {("field", this["cluster_id"])}
    state.select(())
    QTest.mousePress(canvas, LEFT, pos=place)
    for step in range(1, 4):
        QTest.qWait(20)
        move(canvas, place - QPoint(3 * step, 0))
    QTest.mouseRelease(canvas, LEFT, pos=place - QPoint(9, 0))
    assert state.selection == {("field", left["cluster_id"])}
    settle(shown)


def test_a_cluster_is_added_once_however_often_it_is_clicked(shown, settle):
    state, canvas = binding_of(shown).state, shown.window._qt_viewer.canvas.native
    lost = click_cluster(shown, 120, 120)
    press(shown, Qt.Key.Key_Delete)
    before = state.table("field")
    assert lost not in set(before["cluster_id"])
    press(shown, Qt.Key.Key_P)
    for place in ((120, 120), (120, 120), (80, 80), (80, 80)):  # the latter on bare support
        QTest.mouseClick(canvas, LEFT, Qt.KeyboardModifier.NoModifier, on_screen(shown, *place))
    settle(shown)
    added = state.table("field").iloc[len(before) :]
    assert sorted(added["y_px"].round(-1)) == [80, 120]
    points = binding_of(shown).canvas.layer("field", "clusters")
    assert len(points.data) == len(before) + 2
    QTest.mouseClick(canvas, LEFT, Qt.KeyboardModifier.NoModifier, on_screen(shown, 120, 200))
    settle(shown)
    assert len(state.table("field")) == len(before) + 2
    (key,) = state.selection
    there = state.table("field").set_index("cluster_id").loc[key[1]]
    assert (round(there["y_px"], -1), round(there["x_px"], -1)) == (120, 200)


def test_a_click_on_bare_support_is_unknown_and_does_not_count(shown, settle, monkeypatch):
    said = []
    monkeypatch.setattr(
        "napari_atomicity.gui.viewer.clusters.manual_editing.show_info", said.append
    )
    state = binding_of(shown).state
    before = state.table("field")
    canvas = shown.window._qt_viewer.canvas.native
    places = [(80, 80), (80, 160), (200, 100), (200, 200), (180, 280)]
    press(shown, Qt.Key.Key_P)
    for n, (y, x) in enumerate(places, start=1):
        QTest.mouseClick(canvas, LEFT, Qt.KeyboardModifier.NoModifier, on_screen(shown, y, x))
        settle(shown)
        (added,) = near(state.table("field"), y, x, 2).to_dict("records")
        assert added["label"] == "unknown" and added["confidence"] == 0
        assert np.isnan(added["diameter_nm"]) and np.isnan(added["n_atoms"])
        assert len(said) == n and "No cluster can be measured" in said[-1]
    assert counted(state.table("field")).sum() == counted(before).sum()
    # A person may know better.
    press(shown, Qt.Key.Key_P)
    press(shown, Qt.Key.Key_1)
    assert counted(state.table("field")).sum() == counted(before).sum() + 1


def test_a_cluster_dragged_onto_bare_support_is_unknown(shown, settle):
    state = binding_of(shown).state
    n_before, canvas = counted(state.table("field")).sum(), shown.window._qt_viewer.canvas.native
    one = click_cluster(shown, 120, 120)
    start, end = on_screen(shown, 120, 120), on_screen(shown, 190, 120)
    QTest.mousePress(canvas, LEFT, pos=start)
    for step in range(1, 6):
        QTest.qWait(20)
        move(canvas, start + (end - start) * (step / 5))
    QTest.mouseRelease(canvas, LEFT, pos=end)
    settle(shown)
    table = state.table("field").set_index("cluster_id")
    assert abs(table.loc[one, "y_px"] - 190) < 5
    assert table.loc[one, "label"] == "unknown" and np.isnan(table.loc[one, "diameter_nm"])
    assert table.loc[one, "prediction_set"] == ""
    assert counted(state.table("field")).sum() == n_before - 1


def test_the_canvas_says_what_a_click_does(shown, settle):
    binding = binding_of(shown)
    layer, overlay = binding.canvas.layer("field", "clusters"), compat.text_overlay(shown)
    assert overlay.visible and overlay.text.startswith("Label mode")
    press(shown, Qt.Key.Key_P)
    assert (
        overlay.visible and overlay.text.startswith("Adding clusters") and "P stops" in overlay.text
    )
    press(shown, Qt.Key.Key_P)
    assert overlay.text.startswith("Label mode")
    binding.label_mode.on = False
    layer.mode = "add"  # by the button of the layer
    assert overlay.visible and overlay.text.startswith("Adding clusters")
    layer.mode = "select"
    assert overlay.visible and overlay.text == "Selecting clusters"
    layer.mode = "pan_zoom"
    assert not overlay.visible


def test_an_excluded_region_leaves_the_counts_visibly(shown, settle, qtbot):
    binding = binding_of(shown)
    state = binding.state
    before = class_ratios(state.table("field"), scope="all")["count"].sum()
    buttons = Editing(binding)
    qtbot.addWidget(buttons)
    buttons.show()
    qtbot.mouseClick(buttons.buttons["exclude"], LEFT)
    layer = shown.layers["field regions"]
    assert shown.layers.selection.active is layer
    layer.add_polygons(np.array([[0, 0], [0, 319], [70, 319], [70, 0]]))
    qtbot.waitUntil(lambda: len(state.clusters.regions("field")) == 1)
    table = state.table("field")
    away = table["y_px"] < 70
    assert table["excluded"].tolist() == away.tolist()
    assert away.sum() >= 4
    gone = (away & counted(table.drop(columns="excluded"))).sum()
    assert gone > 0
    assert class_ratios(table, scope="all")["count"].sum() == before - gone
    points = binding.canvas.layer("field", "clusters")
    assert (points.border_color[away.to_numpy(), 3] < 0.5).all()
    assert (points.border_color[~away.to_numpy(), 3] > 0.9).all()
    # Moved and undone like anything else.
    history = workbench_bar(shown).history
    qtbot.waitUntil(history.undo.isEnabled)
    qtbot.mouseClick(history.undo, LEFT)
    assert state.clusters.regions("field") == ()
    assert len(layer.data) == 0
    assert not state.table("field")["excluded"].any()
    qtbot.waitUntil(history.redo.isEnabled)
    qtbot.mouseClick(history.redo, LEFT)
    assert len(layer.data) == 1
    assert state.table("field")["excluded"].tolist() == away.tolist()
    layer.selected_data = {0}
    layer.remove_selected()
    qtbot.waitUntil(lambda: state.clusters.regions("field") == ())


def test_what_makes_no_sense_is_said_and_changes_nothing(shown, settle, qtbot, monkeypatch, errors):
    said = []
    monkeypatch.setattr(
        "napari_atomicity.gui.viewer.clusters.manual_editing.show_info", said.append
    )
    state = binding_of(shown).state
    before = state.table("field")
    click_cluster(shown, 40, 120)
    press(shown, Qt.Key.Key_M)
    assert "two or more" in said[-1]
    click_cluster(shown, 120, 280, Qt.KeyboardModifier.ShiftModifier)
    press(shown, Qt.Key.Key_M)
    settle(shown)
    assert "too far" in errors[-1]
    assert state.table("field").equals(before)


def test_a_region_is_drawn_with_the_mouse_and_the_keys_come_back(shown, settle, qtbot):
    binding = binding_of(shown)
    points, canvas = (
        binding.canvas.layer("field", "clusters"),
        shown.window._qt_viewer.canvas.native,
    )
    press(shown, Qt.Key.Key_E)
    layer = shown.layers.selection.active
    assert layer is shown.layers["field regions"]
    assert "double-click" in compat.text_overlay(shown).text
    first, second = (on_canvas(shown, points, i) for i in (0, 1))
    corners = [first, first + QPoint(0, 60), second + QPoint(0, 60), second]
    QTest.mousePress(canvas, LEFT, pos=corners[0])
    for a, b in pairwise(corners):
        for step in range(1, 6):
            QTest.qWait(20)  # napari takes no more of them than a screen shows
            move(canvas, a + (b - a) * (step / 5))
    QTest.mouseRelease(canvas, LEFT, pos=corners[-1])
    qtbot.waitUntil(lambda: len(binding.state.clusters.regions("field")) == 1)
    assert shown.layers.selection.active is points
    assert "double-click" not in compat.text_overlay(shown).text
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert binding.state.clusters.regions("field") == ()
    # Corner by corner; Return ends it.
    press(shown, Qt.Key.Key_E)
    for corner in corners:
        QTest.mouseMove(canvas, corner)
        QTest.mouseClick(canvas, LEFT, pos=corner)
    press(shown, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: len(binding.state.clusters.regions("field")) == 1)
    assert len(binding.state.clusters.regions("field")[0]) == 4
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    # Asked for by mistake: E or Esc leads back, also half-way.
    for key, clicked in ((Qt.Key.Key_E, []), (Qt.Key.Key_Escape, []), (Qt.Key.Key_E, corners[:3]),
                         (Qt.Key.Key_Escape, corners)):  # fmt: skip
        press(shown, Qt.Key.Key_E)
        assert shown.layers.selection.active is layer
        for corner in clicked:
            QTest.mouseMove(canvas, corner)
            QTest.mouseClick(canvas, LEFT, pos=corner)
        press(shown, key)
        settle(shown)
        assert not len(layer.data) and binding.state.clusters.regions("field") == ()
        assert shown.layers.selection.active is points
        assert shown.status == "A click selects a cluster"
    # While clusters are added, a click still adds one.
    for key in (Qt.Key.Key_P, Qt.Key.Key_E, Qt.Key.Key_Escape):
        press(shown, key)
    assert points.mode == "add" and shown.status == "A click adds a cluster"


@pytest.mark.parametrize("kind", [Table, Gallery])
def test_esc_ends_drawing_and_a_review_from_table_and_gallery_too(shown, review_of, settle, kind):
    dock = kind(shown)
    shown.window.add_dock_widget(dock, name=kind.__name__)
    settle(shown)
    click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_E)
    assert "Drawing" in compat.text_overlay(shown).text
    updated(dock)  # a busy machine shows the selection later
    QTest.keyClick(dock.view, Qt.Key.Key_Escape)
    assert not binding_of(shown).state.selection
    QTest.keyClick(dock.view, Qt.Key.Key_Escape)
    assert "Drawing" not in compat.text_overlay(shown).text
    review_of((40, 40), (120, 120))
    QTest.keyClick(dock.view, Qt.Key.Key_Escape)
    QTest.keyClick(dock.view, Qt.Key.Key_Escape)
    assert binding_of(shown).label_mode.review is None


def test_a_region_is_moved_in_one_step_and_the_text_says_what_keys_do(shown, settle, qtbot):
    binding = binding_of(shown)
    state, canvas = binding.state, shown.window._qt_viewer.canvas.native
    place = on_canvas(shown, binding.canvas.layer("field", "clusters"), 0)
    centre = state.table("field")[["y_px", "x_px"]].iloc[0].to_numpy()
    square = centre + np.array([[-20, -20], [-20, 20], [20, 20], [20, -20]])
    state.clusters.set_regions("field", [square])
    settle(shown)
    layer = shown.layers.selection.active = shown.layers["field regions"]
    layer.mode = "select"
    assert compat.text_overlay(shown).text.startswith("Changing a region")
    QTest.mouseClick(canvas, LEFT, pos=place)
    n_before = len(state.history)
    QTest.mousePress(canvas, LEFT, pos=place)
    for step in range(1, 6):
        QTest.qWait(20)
        move(canvas, place + QPoint(5 * step, 0))
    QTest.mouseRelease(canvas, LEFT, pos=place + QPoint(25, 0))
    qtbot.waitUntil(lambda: np.allclose(state.clusters.regions("field")[0], layer.data[0]))
    assert len(state.history) == n_before + 1
    assert not np.allclose(state.clusters.regions("field")[0], square)
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert np.allclose(state.clusters.regions("field")[0], square)
    press(shown, Qt.Key.Key_Escape)
    assert compat.text_overlay(shown).text.startswith("Label mode")


def test_while_a_region_is_drawn_an_undo_takes_back_its_corners_only(shown, qtbot):
    binding = binding_of(shown)
    state, canvas = binding.state, shown.window._qt_viewer.canvas.native
    cluster = click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_2)
    before = state.table("field")
    assert cluster in before.loc[before["label_corrected"] != "", "cluster_id"].tolist()
    first = on_canvas(shown, binding.canvas.layer("field", "clusters"), 0)
    wrong, *corners = (first + QPoint(*at) for at in ((90, 90), (0, 0), (0, 60), (60, 60), (60, 0)))

    def click(*places):
        for place in places:
            QTest.mouseMove(canvas, place)
            QTest.mouseClick(canvas, LEFT, pos=place)

    def undo():
        press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        assert state.table("field")["label_corrected"].equals(before["label_corrected"])

    press(shown, Qt.Key.Key_E)
    click(wrong)
    undo()
    click(wrong, corners[0])
    undo()
    undo()
    undone = len(state.history)
    click(corners[0], wrong)
    undo()  # a path again, of one corner
    click(corners[1], wrong)
    undo()
    click(*corners[2:], wrong)
    undo()
    press(shown, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: len(state.clusters.regions("field")) == 1)
    (region,) = state.clusters.regions("field")
    assert region.shape == (4, 2) and len(state.history) == undone + 1
    assert np.ptp(region, axis=0) == pytest.approx(np.ptp(region[:3], axis=0))  # a rectangle
    undo()
    assert state.clusters.regions("field") == ()


def test_polygons_are_compiled_before_a_region_is_drawn(viewer, monkeypatch, qtbot):
    """In a thread, as soon as there are clusters: it takes seconds in a new process."""
    compiled_in = []
    monkeypatch.setattr(compat, "AFTER_START_MS", 0)
    monkeypatch.setattr(
        compat, "compile_shapes", lambda: compiled_in.append(threading.current_thread())
    )
    compat.compile_shapes_soon.cache_clear()
    label_mode = binding_of(viewer).label_mode
    for on in (True, False, True):
        label_mode.on = on
    qtbot.waitUntil(lambda: bool(compiled_in))
    assert len(compiled_in) == 1 and compiled_in[0] is not threading.main_thread()


def test_matplotlib_is_imported_before_the_first_figure(qapp, monkeypatch, qtbot):
    imported_in = []
    monkeypatch.setattr(compat, "AFTER_START_MS", 0)
    monkeypatch.setattr(
        compat, "load_matplotlib", lambda: imported_in.append(threading.current_thread())
    )
    import_soon.cache_clear()
    for _ in range(2):
        import_soon()
    qtbot.waitUntil(lambda: bool(imported_in))
    assert len(imported_in) == 1 and imported_in[0] is not threading.main_thread()


def test_what_is_compiled_is_all_that_the_first_region_needs():
    script = """
import sys
import numpy as np
from napari.layers import Shapes
from numba.core.dispatcher import Dispatcher
from napari_atomicity.gui.viewer.layers.compat import compile_shapes

def compiled():
    modules = [m for name, m in sys.modules.items() if name.startswith("napari.")]
    functions = {f for m in modules for f in vars(m).values() if isinstance(f, Dispatcher)}
    return {f.py_func.__qualname__: len(f.signatures) for f in functions}

compile_shapes()
before = compiled()
layer = Shapes(ndim=3)
layer.add_polygons([np.random.rand(9, 3) * [0, 9, 9]], edge_color=[(1, 0, 0, 1)])
layer.add([[0, 1, 1], [0, 5, 9], [0, 8, 3]], shape_type="path")
now = compiled()
print({name: (before.get(name), n) for name, n in now.items() if n != before.get(name)})
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.stdout == "{}\n", found.stdout + found.stderr


def test_a_region_without_an_area_is_refused(shown, settle, qtbot, errors):
    binding = binding_of(shown)
    points = binding.canvas.layer("field", "clusters")
    canvas = shown.window._qt_viewer.canvas.native
    press(shown, Qt.Key.Key_E)
    layer, n_steps = shown.layers["field regions"], len(binding.state.history)
    first, second = (on_canvas(shown, points, i) for i in (0, 1))
    for corner in (first, second, first + (second - first) / 2, first):
        QTest.mouseMove(canvas, corner)
        QTest.mouseClick(canvas, LEFT, pos=corner)
    press(shown, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: bool(errors))
    assert "what was drawn in field has no area. Draw around" in errors[0]
    assert binding.state.clusters.regions("field") == () and len(layer.data) == 0
    assert len(binding.state.history) == n_steps
    assert shown.layers.selection.active is layer  # and can be drawn again
    # A straight drag, and one that a mouse draws over a large image, with rounded places.
    shown.camera.zoom /= 6
    start = on_canvas(shown, points, 0)
    for wobble in (0, 1):
        errors.clear()
        QTest.mousePress(canvas, LEFT, pos=start)
        for step in range(1, 13):
            QTest.qWait(20)
            move(canvas, start + QPoint(5 * step, 3 * step + wobble * (step // 3 % 2)))
        QTest.mouseRelease(canvas, LEFT, pos=start + QPoint(60, 36))
        qtbot.waitUntil(lambda: bool(errors))
        assert binding.state.clusters.regions("field") == () and len(layer.data) == 0
    shown.camera.zoom *= 6
    # napari would name its own settings.
    errors.clear()
    n_messages = len(notification_manager.records)
    QTest.mousePress(canvas, LEFT, pos=first)
    for step in range(1, 9):
        QTest.qWait(20)
        move(canvas, first + (second - first) * (step / 8))
    QTest.mouseRelease(canvas, LEFT, pos=second)
    qtbot.waitUntil(lambda: bool(errors))
    assert "what was drawn in field has no area. Draw around" in errors[0]
    assert not [m for m in notification_manager.records[n_messages:] if "RDP" in m.message]
    assert binding.state.clusters.regions("field") == () and len(layer.data) == 0
    assert shown.layers.selection.active is layer


def selected_ids(binding) -> set[int]:
    layer = binding.canvas.layer("field", "clusters")
    return set(layer.features["cluster_id"].to_numpy()[list(layer.selected_data)].tolist())


def test_an_undo_brings_the_selection_back_and_an_analysis_keeps_it(shown, settle, qtbot):
    binding = binding_of(shown)
    state = binding.state
    one = click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_S)
    settle(shown)
    parts = state.selection
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(shown)
    assert state.selection == {("field", one)}
    assert selected_ids(binding) == {one}
    keys = Qt.KeyboardModifier
    press(shown, Qt.Key.Key_Z, keys.ControlModifier | keys.ShiftModifier)
    settle(shown)
    assert state.selection == parts
    assert selected_ids(binding) == {i for _, i in parts}
    press(shown, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(shown)
    (dock,) = shown.window.dock_widgets.values()
    qtbot.mouseClick(dock.button, LEFT)
    settle(shown)
    assert state.selection == {("field", one)} and selected_ids(binding) == {one}
    assert len(near(state.table("field").query("cluster_id == @one"), 40, 40)) == 1
    press(shown, Qt.Key.Key_1)
    settle(shown)
    assert near(state.table("field"), 40, 40)["label_corrected"].tolist() == ["Pt19"]


def test_redo_selects_what_it_does_again(shown, settle):
    state, keys = binding_of(shown).state, Qt.KeyboardModifier
    one = click_cluster(shown, 40, 40)
    press(shown, Qt.Key.Key_1)
    two = click_cluster(shown, 40, 120)
    assert one != two
    press(shown, Qt.Key.Key_2)
    for expected in (two, one):
        press(shown, Qt.Key.Key_Z, keys.ControlModifier)
        assert state.selection == {("field", expected)}
    for expected in (one, two):
        press(shown, Qt.Key.Key_Z, keys.ControlModifier | keys.ShiftModifier)
        assert state.selection == {("field", expected)}


def test_redo_of_an_import_does_not_select_all_that_it_labels(shown):
    """Or the next key would label all of it anew."""
    state = binding_of(shown).state
    one = click_cluster(shown, 40, 40)
    every = [("field", int(i)) for i in state.table("field")["cluster_id"]]
    state.clusters.relabel_each(dict.fromkeys(every, "Pt19"), "import labels")
    state.history.undo()
    state.history.redo()
    assert (state.table("field")["label_corrected"] == "Pt19").all()
    assert state.selection == {("field", one)}


def test_an_analysis_selects_nothing_that_nobody_chose(shown, settle, qtbot):
    binding = binding_of(shown)
    assert len(binding.state.table("field"))
    assert not binding.state.selection
    (dock,) = shown.window.dock_widgets.values()
    qtbot.mouseClick(dock.button, LEFT)
    settle(shown)
    assert not binding.state.selection
