"""The Review dock, through keys, clicks and menus."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
from bench import analysed, write_image
from mouse import LEFT
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QLabel
from synthetic import CLASSES, made_up, with_class_maps
from waiting import updated

from napari_atomicity.core.progress import format_duration
from napari_atomicity.gui.controls import shortcuts
from napari_atomicity.gui.controls.line_table import Lines
from napari_atomicity.gui.controls.shortcuts import Help
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.gallery import Gallery
from napari_atomicity.gui.docks.review.dock import END, GO_ON, START, Review
from napari_atomicity.gui.panels.workbench_bar import IS_BLIND, workbench_bar
from napari_atomicity.gui.viewer.atoms.marking import Marking
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.clusters.edit_commands import EditCommands
from napari_atomicity.gui.viewer.clusters.label_actions import LabelActions, ReviewActions
from napari_atomicity.gui.viewer.current_image import CurrentImage
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.project import EditKind, ImageEdit, Project
from napari_atomicity.state.edits import SetAnalysis
from napari_atomicity.state.review_queue import ORDERS
from napari_atomicity.state.window_state import WindowState
from napari_atomicity.statistics.annotators.agreement import CONSENSUS, NOT_A_CLUSTER

KEY = Qt.Key
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def shown(viewer):
    """A window with two images of a dozen clusters each, one below the other."""
    binding = binding_of(viewer)
    for i, name in enumerate(("one", "two")):
        analysis = made_up(12, name, seed=i, size_px=96)
        layer = viewer.add_image(
            analysis.micrograph.data, name=name, scale=(0.05, 0.05), units=("nm", "nm")
        )
        binding.canvas.ensure_image(layer)
        binding.state.clusters.set_analysis(analysis)
    return viewer


@pytest.fixture
def state(shown):
    return binding_of(shown).state


@pytest.fixture
def dock(shown):
    dock = Review(shown)
    shown.window.add_dock_widget(dock, name="Review")
    return updated(dock)


@pytest.fixture
def press(shown):
    """Real keys, as the canvas gets them."""
    canvas = shown.window._qt_viewer.canvas.native

    def keys(*names, modifiers=Qt.KeyboardModifier.NoModifier):
        for key in names:
            QTest.keyClick(canvas, key, modifiers)

    return keys


def choose(dock, order, **fields):
    dock.order.setCurrentIndex(dock.order.findData(order))
    for name, value in fields.items():
        getattr(dock, name).setValue(value)


def start(dock, order="confidence", **fields):
    choose(dock, order, **fields)
    QTest.mouseClick(dock.button, LEFT)
    return updated(dock).review


def corrected(state, key):
    table = state.table(key[0]).set_index("cluster_id")
    return table["label_corrected"].get(key[1])


# ---- keys
def test_keys_answer_whichever_layer_is_active(shown, state, dock, press, settle):
    state.clusters.set_analysis(with_class_maps(12, "two", seed=1, size_px=96))
    settle(shown)
    review = start(dock)
    n = len(state.table())
    for active in ("one", "one outlines", "one clusters", "two", "two class map raw", None):
        keys = [review.queue.key(review.position + i) for i in range(4)]
        if active is None:
            shown.layers.selection.clear()
        else:
            shown.layers.selection.active = shown.layers[active]
        modes = {x.name: getattr(x, "mode", None) for x in shown.layers}
        if state.current != keys[0][0]:  # it would be answered unseen
            press(KEY.Key_3)
            assert corrected(state, keys[0]) == "" and state.current == keys[0][0]
            assert state.selection == {keys[0]}
        press(KEY.Key_3)
        assert corrected(state, keys[0]) == CLASSES[2]
        press(KEY.Key_0, KEY.Key_A)
        assert [corrected(state, k) for k in keys[1:3]] == ["unknown", "aggregate"]
        # napari's own meaning of these keys: to delete, to add, to select all
        assert len(state.table()) == n
        assert {x.name: getattr(x, "mode", None) for x in shown.layers} == modes
        press(KEY.Key_X)
        n -= 1
        assert corrected(state, keys[3]) is None and len(state.table()) == n
        if review.finished:
            break
        # The cluster that is shown now is chosen, in its image, in the middle of the view.
        image, cluster_id = review.key
        assert state.selection == {review.key} and state.current == image
        row = state.table(image).set_index("cluster_id").loc[cluster_id]
        np.testing.assert_allclose(
            compat.camera(shown).center[-2:], [row["y_nm"], row["x_nm"]], atol=0.1
        )
    assert review.finished and active is None


def test_p_adds_and_x_deletes_in_label_mode_and_in_a_review(shown, state, dock, press):
    mode = binding_of(shown).label_mode
    start(dock)
    layer = shown.layers[f"{state.current} clusters"]
    press(KEY.Key_P)
    assert layer.mode == "add" and "P stops" in compat.text_overlay(shown).text
    press(KEY.Key_P)
    assert layer.mode == "pan_zoom"  # as in the rest of a review
    press(KEY.Key_P, KEY.Key_Escape)
    assert dock.review is None and layer.mode == "pan_zoom"
    mode.on = True
    press(KEY.Key_P)
    assert layer.mode == "add"
    press(KEY.Key_P)
    image = state.current
    cluster_id = int(state.table(image)["cluster_id"].iloc[0])
    state.select({(image, cluster_id)})
    press(KEY.Key_X)
    assert cluster_id not in state.table(image)["cluster_id"].tolist()


@pytest.mark.parametrize("many", [5000, 0])
def test_agree_next_back_take_back_undo_redo_end(shown, state, dock, press, monkeypatch, many):
    keymap = dict(shown.keymap)
    review = start(dock)
    keys = [review.queue.key(i) for i in range(5)]
    predicted = {(r.image, r.cluster_id): r.label_predicted for r in state.table().itertuples()}
    press(KEY.Key_Return, KEY.Key_Space)
    assert [corrected(state, k) for k in keys[:2]] == [predicted[k] for k in keys[:2]]
    press(KEY.Key_N)
    assert review.key == keys[3] and corrected(state, keys[2]) == ""
    press(KEY.Key_Right)
    assert review.key == keys[4]
    press(KEY.Key_B, KEY.Key_Left)
    assert review.key == keys[2]
    press(KEY.Key_B, KEY.Key_U)
    assert review.key == keys[1] and corrected(state, keys[1]) == ""
    monkeypatch.setattr(
        "napari_atomicity.state.chunked_steps.MAX_CLUSTERS", many
    )  # with 0 each step takes turns
    press(KEY.Key_Z, modifiers=CTRL)
    assert review.key == keys[1] and corrected(state, keys[1]) == predicted[keys[1]]
    press(KEY.Key_Z, KEY.Key_Z, modifiers=CTRL)
    assert review.key == keys[0] and state.history[-1].description == "analyse"
    press(KEY.Key_Z, modifiers=CTRL | SHIFT)
    assert corrected(state, keys[0]) == predicted[keys[0]]
    assert review.key == keys[0] and state.selection == {keys[0]}
    press(KEY.Key_Escape)
    assert dock.review is None
    assert not compat.text_overlay(shown).visible
    assert shown.keymap == keymap and all(layer.keymap == {} for layer in shown.layers)


def test_keys_of_others_come_back_and_label_mode_goes_on(shown, state, dock, press):
    heard = []
    shown.bind_key("N", lambda _: heard.append("N"))
    binding_of(shown).label_mode.on = True
    start(dock)
    assert "Review" in compat.text_overlay(shown).text
    shown.layers.selection.active = shown.layers["one"]
    press(KEY.Key_N)
    assert heard == []
    press(KEY.Key_Escape)
    assert "Label mode" in compat.text_overlay(shown).text
    assert binding_of(shown).canvas.layer("one", "clusters").mode == "select"
    shown.layers.selection.active = shown.layers["one"]
    press(KEY.Key_N)
    assert heard == []  # label mode goes to the next cluster
    shown.layers.selection.active = shown.add_points(name="elsewhere")
    press(KEY.Key_N)
    assert heard == ["N"]


def test_where_a_person_draws_keys_are_those_of_drawing(shown, state, dock, press):
    start(dock)
    shapes = shown.add_shapes(name="regions")
    other = shown.add_points(name="others")
    for layer in (shapes, other):
        assert layer.keymap == {}
    late = shown.add_image(np.zeros((4, 4)), name="late")
    shown.layers.selection.active = late
    key = dock.review.key
    press(KEY.Key_1)
    assert corrected(state, key) == CLASSES[0]


def test_a_key_is_for_others_if_others_are_selected(shown, state, dock, press):
    review = start(dock)
    shown_key, others = review.key, [review.queue.key(i) for i in (4, 5)]
    state.select(others)
    updated(dock)
    for text in (dock.answers.shown.text(), compat.text_overlay(shown).text):
        assert "2 selected clusters" in text and f"cluster {shown_key[1]}:" not in text
    press(KEY.Key_2)
    assert [corrected(state, k) for k in others] == [CLASSES[1]] * 2
    assert corrected(state, shown_key) == "" and state.selection == {shown_key}
    state.select(others)
    press(KEY.Key_X)
    assert all(corrected(state, k) is None for k in others)
    assert (review.n_done, review.n) == (2, 24)


def test_u_takes_back_the_answers_of_all_selected_clusters_in_a_second_round(
    shown, state, dock, press
):
    state.clusters.relabel([(n, i) for n in ("one", "two") for i in range(1, 13)], CLASSES[0])
    dock.again.setChecked(True)
    review = start(dock)
    keys = [review.queue.key(i) for i in range(3)]
    state.select(keys)
    press(KEY.Key_2)
    assert review.n_done == 3
    state.select(keys)
    press(KEY.Key_U)
    assert [corrected(state, k) for k in keys] == [""] * 3 and review.n_done == 0


def test_an_answer_to_several_clusters_shows_the_next_one(shown, state, dock, press):
    review = start(dock)
    keys = [review.queue.key(i) for i in range(9)]
    for key, n, answer in ((KEY.Key_5, 0, CLASSES[4]), (KEY.Key_Return, 2, None)):
        state.select(keys[n : n + 2])  # Shift-click
        press(key)
        assert all(corrected(state, k) == answer or not answer for k in keys[n : n + 2])
        assert review.key == keys[n + 2] and state.selection == {keys[n + 2]}
    assert review.n_done == 4
    state.select(keys[5:7])
    press(KEY.Key_1)
    assert review.key == keys[4] and state.selection == {keys[4]}, "it has no answer yet"
    state.select([keys[4], keys[7]])
    press(KEY.Key_X)
    assert review.key == keys[8] and (review.n_done, review.skipped.sum()) == (8, 0)


def test_undo_shows_and_selects_what_a_review_showed_before_the_answer(shown, state, dock, press):
    review = start(dock)
    keys = [review.queue.key(i) for i in range(24)]
    press(KEY.Key_1)
    state.select([keys[1], keys[20]])  # Shift-click
    press(KEY.Key_5)
    for modifiers in (CTRL, CTRL | SHIFT, CTRL):
        press(KEY.Key_Z, modifiers=modifiers)
        assert review.key == keys[1] and state.selection == {keys[1], keys[20]}
    press(KEY.Key_N)
    assert review.key == keys[2]
    others = [k for k in keys[10:20] if k[0] == keys[2][0]][:2]
    state.select(others)  # without the cluster that is shown
    press(KEY.Key_X)
    press(KEY.Key_Z, modifiers=CTRL)
    assert review.key == keys[2] and state.selection == set(others)


@pytest.mark.parametrize("verb", ["split", "merge"])
def test_undo_and_redo_of_clusters_that_were_split_or_merged(
    shown, state, dock, press, qtbot, settle, verb
):
    review = start(dock)
    settle(shown)
    keys = [review.queue.key(i) for i in range(24)]
    press(KEY.Key_1, KEY.Key_1)
    first = review.key
    before = [first]
    if verb == "merge":
        before.append(next(k for k in reversed(keys) if k[0] == first[0]))
        state.select(before)
    n = len(state.history)
    press(KEY.Key_S if verb == "split" else KEY.Key_M)
    qtbot.waitUntil(lambda: len(state.history) > n)
    settle(shown)
    new = state.selection
    assert len(new) == (2 if verb == "split" else 1) and not new & set(keys)
    press(KEY.Key_1)
    assert review.key == keys[3]
    press(KEY.Key_Z, modifiers=CTRL)
    assert state.selection == new, "as before the answer"
    press(KEY.Key_Z, modifiers=CTRL)
    assert review.key == first and state.selection == set(before)
    press(KEY.Key_Z, modifiers=CTRL | SHIFT)
    assert state.selection == new
    press(KEY.Key_X)
    assert review.key == keys[3] and all(corrected(state, key) is None for key in new)


def test_without_a_selection_s_splits_the_cluster_that_is_shown(shown, state, dock, press, qtbot):
    review = start(dock)
    first, n = review.key, len(state.history)
    state.select([])  # a click on the empty image
    press(KEY.Key_S)
    qtbot.waitUntil(lambda: len(state.history) > n)
    assert corrected(state, first) is None and len(state.selection) == 2


def test_a_message_ends_with_the_next_answer(shown, dock, press):
    start(dock)
    press(KEY.Key_B)
    assert shown.status == "This is the first cluster"
    press(KEY.Key_1)
    assert shown.status == ""


def test_the_overlay_says_what_keys_do(shown, state, dock, press):
    review = start(dock)
    text = compat.text_overlay(shown).text
    assert "0 of 24" in text and "1 Pt19" in text and "Esc" in text
    assert f"{review.key[0]}, cluster {review.key[1]}" in text
    press(KEY.Key_1)
    assert "1 of 24" in compat.text_overlay(shown).text


def test_keys_that_buttons_of_the_dock_name_act_in_a_review(shown, state, dock, press):
    start(dock)
    bound = {key for s in binding_of(shown).label_mode.shortcuts for key in s.keys}
    for button in dock.editing.buttons.values():
        assert button.toolTip()[-3:].strip("()") in bound
    press(KEY.Key_E)
    assert shown.layers.selection.active.name == f"{state.current} regions"


def test_keys_reach_the_review_from_the_dock_too(shown, state, dock, qtbot):
    review = start(dock)
    key = review.key
    QTest.keyClick(dock.button.parentWidget(), KEY.Key_5)
    assert corrected(state, key) == CLASSES[4]
    dock.parent().setFloating(True)
    qtbot.waitUntil(lambda: dock.window() is not shown.window._qt_window)
    key = review.key
    QTest.keyClick(dock.button.parentWidget(), KEY.Key_4)
    assert corrected(state, key) == CLASSES[3]
    dock.parent().setFloating(False)


# ---- the dock
def test_the_dock_says_how_far_one_is(shown, state, dock, press, qtbot):
    assert dock.button.text() == START
    assert not dock.bar.isVisible()
    start(dock)
    assert dock.button.text() == END and not dock.form.isVisible()
    press(*[KEY.Key_Return] * 4, KEY.Key_N)
    qtbot.waitUntil(lambda: dock.bar.text() == "Reviewed 4 of 24")
    assert "1 skipped" in dock.pace.text() and "left" in dock.pace.text()
    image, cluster_id = dock.review.key
    assert dock.answers.shown.text().startswith(f"{image}, cluster {cluster_id}: Pt")
    assert "nothing of the others" in dock.words.text() and not dock.chart.isVisible()
    QTest.mouseClick(dock.button, LEFT)
    assert dock.review is None
    qtbot.waitUntil(dock.form.isVisible)


def test_answers_by_the_mouse(shown, state, dock, qtbot):
    review = start(dock)
    keys = [review.queue.key(i) for i in range(3)]
    QTest.mouseClick(dock.answers.buttons["label 2"], LEFT)
    QTest.mouseClick(dock.answers.buttons["agree"], LEFT)
    QTest.mouseClick(dock.answers.buttons["remove"], LEFT)
    assert corrected(state, keys[0]) == CLASSES[1]
    assert corrected(state, keys[1]) != "" and corrected(state, keys[2]) is None
    QTest.mouseClick(dock.answers.buttons["back"], LEFT)
    assert review.key == keys[1]
    qtbot.waitUntil(lambda: dock.answers.buttons["unlabel"].isEnabled())
    QTest.mouseClick(dock.answers.buttons["unlabel"], LEFT)
    assert corrected(state, keys[1]) == ""


def test_every_order_can_be_reviewed(dock, press):
    for order in ORDERS:
        if order != "disagreement":
            assert len(start(dock, order).queue) == 24
            press(KEY.Key_Escape)


def test_what_cannot_be_reviewed_is_said(shown, state, dock):
    dock.refresh_now()
    order = dock.order.findData("disagreement")
    assert not dock.order.model().item(order).isEnabled()
    assert "single estimators" in dock.order.itemData(order, Qt.ItemDataRole.ToolTipRole)
    state.clusters.relabel([(n, i) for n in ("one", "two") for i in range(1, 13)], "Pt19")
    assert start(dock) is None
    assert "have been reviewed" in dock.hint.text()
    dock.again.setChecked(True)
    assert len(start(dock).queue) == 24


def test_enter_after_the_last_answer_keeps_that_answer(shown, state, dock, press):
    review = start(dock, "sample", number=6)
    press(*[KEY.Key_Return] * (review.n - 1))
    other = next(label for label in CLASSES if label != review.predicted)
    press(getattr(KEY, f"Key_{CLASSES.index(other) + 1}"))
    key, n = review.key, len(state.history)
    assert review.finished and corrected(state, key) == other
    press(KEY.Key_Return, KEY.Key_Space)
    assert corrected(state, key) == other and len(state.history) == n
    assert "Esc ends" in shown.status
    press(KEY.Key_0)  # a label of its own still does
    assert corrected(state, key) == "unknown"


def test_one_label_of_one_image(shown, state, dock):
    choose(dock, "class")
    assert dock.label.isVisible() and not dock.seed.isVisible()
    dock.label.setCurrentIndex(dock.label.findData("Pt30"))
    dock.scope.setCurrentIndex(1)
    state.current = "one"
    review = start(dock, "class")
    assert set(review.queue.images) == {"one"}
    labels = state.table("one").set_index("cluster_id")["label"]
    assert set(labels[review.queue.ids]) == {"Pt30"}


def test_the_accuracy_is_estimated_and_the_sample_gone_on_with(shown, state, dock, press, qtbot):
    choose(dock, "sample", number=16)
    assert dock.number.isVisible() and dock.seed.isVisible() and not dock.again.isVisible()
    review = start(dock, "sample")
    assert len(review.queue) == 16
    qtbot.waitUntil(lambda: "seed 0" in dock.pace.text())
    press(*[KEY.Key_Return] * 7, KEY.Key_X)
    qtbot.waitUntil(dock.chart.isVisible)
    found = review.accuracy()
    assert (found.overall.n, found.overall.right) == (8, 7)
    bars = {b.label: b for b in dock.chart.bars}
    assert set(bars) == {*CLASSES, "all"}
    assert bars["all"].value == found.overall.value
    assert bars["all"].low < found.overall.value < bars["all"].high
    assert "7 of 8 answers" in dock.words.text()
    assert "1 was no cluster" in dock.words.text()
    press(KEY.Key_N)
    qtbot.waitUntil(lambda: "hard ones" in dock.words.text())
    press(KEY.Key_Escape)
    qtbot.waitUntil(lambda: dock.button.text() == GO_ON and not dock.number.isVisible())
    again = start(dock, "sample")
    assert again.queue is review.queue
    assert again.accuracy().overall == found.overall
    QTest.mouseClick(dock.draw_button, LEFT)
    assert dock.review is None and dock.number.isVisible() and dock.button.text() == START
    other = start(dock, "sample", number=5)
    assert len(other.queue) == 5 and other.queue.request.seed == 1
    # Of a sample of which nothing is left nothing can be reviewed.
    press(KEY.Key_Escape)
    for name in ("one", "two"):
        state.history.do(SetAnalysis(name, state.analysis(name), made_up(0, name, size_px=96)))
    assert start(dock, "sample") is None
    assert "Draw another" in dock.hint.text()


def test_a_skipped_piece_is_not_one_of_the_sample(state, dock, press, settle, shown, qtbot):
    review = start(dock, "sample", number=16)
    press(*[KEY.Key_Return] * 4)
    image, cluster_id = review.key
    analysis = state.analysis(image)
    row = analysis.table.index[analysis.table["cluster_id"] == cluster_id]
    table = analysis.table.loc[row.repeat(2)].assign(label="", label_predicted="", model_id="")
    outlines = [analysis.outlines[row[0]]] * 2
    first, _ = state.clusters.replace(image, [cluster_id], table, outlines, "split")
    settle(shown)
    state.select([(image, first)])
    press(KEY.Key_N, KEY.Key_N)
    qtbot.waitUntil(lambda: "2 skipped" in dock.pace.text())
    assert "4 of 5 answers" in dock.words.text() and "hard ones" not in dock.words.text()
    press(KEY.Key_N)
    qtbot.waitUntil(lambda: "1 has no answer yet: such are often the hard" in dock.words.text())


def test_a_label_of_before_counts_in_a_sample_when_its_turn_comes(shown, state, dock, press, qtbot):
    review = start(dock, "sample", number=20)
    state.clusters.relabel([review.queue.key(15)], "Pt19")
    press(*[KEY.Key_Return] * 3)
    qtbot.waitUntil(lambda: dock.bar.text() == "Reviewed 4 of 20")
    assert "3 of 3 answers" in dock.words.text()
    assert "1 more is labelled, deleted, split or merged already and counts" in dock.words.text()
    press(*[KEY.Key_Return] * 13)
    qtbot.waitUntil(lambda: "Reviewed 17 of 20" in dock.bar.text())
    assert "of 17 answers" in dock.words.text() and "more has" not in dock.words.text()


def test_without_images_the_dock_says_what_to_do(viewer):
    dock = Review(viewer)
    viewer.window.add_dock_widget(dock, name="Review")
    assert "Analyse an image first" in updated(dock).hint.text()
    assert not dock.button.isEnabled()


def test_settings_are_remembered_and_images_are_not(shown, dock):
    choose(dock, "ood")
    dock.by_image.setChecked(True)
    again = Review(shown)
    shown.window.add_dock_widget(again, name="Review again")
    assert again.order.currentData() == "ood" and again.by_image.isChecked()


def test_a_dock_that_is_closed_hears_nothing(shown, state, dock, press, qtbot):
    start(dock)
    shown.window.remove_dock_widget(dock)
    with qtbot.waitSignal(dock.destroyed):
        dock.deleteLater()
    key = binding_of(shown).label_mode.review.key
    press(KEY.Key_1, KEY.Key_Escape)
    assert corrected(state, key) == CLASSES[0]


def test_durations():
    assert [format_duration(s) for s in (40, 100, 3900)] == ["40 s", "2 min", "1 h 5 min"]


# ---- history
@pytest.fixture
def unfolded(dock):
    """The dock with its folded parts open."""
    for part in dock.parts:
        QTest.mouseClick(part.button, LEFT)
    return dock


@pytest.mark.parametrize("many", [5000, 0])
def test_a_click_in_the_history_goes_there(shown, state, unfolded, press, qtbot, monkeypatch, many):
    history = unfolded.history
    review = start(unfolded)
    keys = [review.queue.key(i) for i in range(4)]
    press(KEY.Key_1, KEY.Key_2, KEY.Key_X)
    qtbot.waitUntil(lambda: history.model.rowCount() == 6)
    monkeypatch.setattr(
        "napari_atomicity.state.chunked_steps.MAX_CLUSTERS", many
    )  # with 0 each step takes turns
    words = [history.model.index(i).data() for i in range(6)]
    assert words[-3].startswith("label 1 cluster Pt19") and keys[2][0] in words[-1]
    place = history.view.visualRect(history.model.index(3)).center()
    QTest.mouseClick(history.view.viewport(), LEFT, pos=place)
    qtbot.waitUntil(lambda: history.model.n_done == 3)
    assert [corrected(state, k) for k in keys[:3]] == ["Pt19", "", ""]
    assert history.model.rowCount() == 6  # what was undone stays, in grey
    grey = history.model.index(5).data(Qt.ItemDataRole.ForegroundRole)
    assert grey is not None
    assert history.model.index(3).data(Qt.ItemDataRole.ForegroundRole) is None
    assert "Undone" in history.model.index(5).data(Qt.ItemDataRole.ToolTipRole)
    place = history.view.visualRect(history.model.index(5)).center()
    QTest.mouseClick(history.view.viewport(), LEFT, pos=place)
    qtbot.waitUntil(lambda: len(state.history) == 5)
    assert corrected(state, keys[2]) is None
    monkeypatch.setattr("napari_atomicity.state.chunked_steps.MAX_CLUSTERS", 5000)
    # Number keys are not eaten by the list.
    key = review.key
    QTest.keyClick(history.view, KEY.Key_4)
    assert corrected(state, key) == CLASSES[3]
    qtbot.waitUntil(lambda: history.model.rowCount() == 7)


def test_answers_that_a_click_in_the_history_undoes_are_not_skipped(
    shown, state, unfolded, press, qtbot
):
    history, review = unfolded.history, start(unfolded)
    first, n = review.key, len(state.history)
    press(KEY.Key_1, KEY.Key_2, KEY.Key_3)
    qtbot.waitUntil(lambda: history.model.rowCount() == n + 4)
    for row, n_done in ((n, 0), (n + 3, 3), (n, 0)):
        with qtbot.waitSignal(history.gone):
            history.view.clicked.emit(history.model.index(row))
        assert (review.n_done, review.skipped.sum()) == (n_done, 0)
    assert review.key == first


def test_after_a_click_in_the_history_nothing_is_selected_that_is_not_in_sight(
    shown, state, unfolded, qtbot
):
    history = unfolded.history
    state.choose("one")
    state.select([("one", 1)])
    state.clusters.relabel([("one", 1)], "Pt70")
    state.choose("two")
    state.select([("two", 3)])
    qtbot.waitUntil(lambda: history.model.rowCount() == 4)
    binding_of(shown).edits.undo()
    assert state.current == "one" and state.selection == {("one", 1)}
    for row, corrected_now in ((3, "Pt70"), (2, ""), (3, "Pt70")):
        place = history.view.visualRect(history.model.index(row)).center()
        QTest.mouseClick(history.view.viewport(), LEFT, pos=place)
        qtbot.waitUntil(lambda label=corrected_now: corrected(state, ("one", 1)) == label)
        qtbot.waitUntil(lambda: history.model.n_done == len(state.history))
        qtbot.waitUntil(lambda: all(image == state.current for image, _ in state.selection))


def test_the_initial_state_shows_the_cluster_that_it_selects(shown, state, unfolded, qtbot):
    state.history.exchange()  # in a project that is opened, no step is one of analysis
    state.choose("one")
    state.select([("one", 1)])
    state.clusters.relabel([("one", 1)], "Pt70")
    state.choose("two")
    history = unfolded.history
    qtbot.waitUntil(lambda: history.model.rowCount() == 2)
    with qtbot.waitSignal(history.gone):
        history.view.clicked.emit(history.model.index(0))
    assert corrected(state, ("one", 1)) == ""
    assert state.current == "one" and state.selection == {("one", 1)}


def test_a_long_way_back_is_gone_step_by_step(shown, state, unfolded, qtbot):
    history = unfolded.history
    for i in range(60):
        state.clusters.relabel([("one", 1 + i % 12)], CLASSES[i % 5])
    qtbot.waitUntil(lambda: history.model.rowCount() == 63)
    with qtbot.waitSignal(history.gone, timeout=30_000):
        history.view.clicked.emit(history.model.index(2))
        assert len(state.history) > 55  # the window had its turn in between
    assert len(state.history) == 2 and len(state.history.undone) == 60
    assert (state.table()["label_corrected"] == "").all()
    with qtbot.waitSignal(history.gone, timeout=30_000):
        history.view.clicked.emit(history.model.index(62))
        state.clusters.relabel([("two", 1)], "Pt19")  # somebody does something else: it stays
    assert state.history[-1].description == "label 1 cluster Pt19"


def test_another_history_after_an_undo(shown, state, unfolded, qtbot):
    model = unfolded.history.model
    for label in ("Pt19", "Pt30", "Pt41"):
        state.clusters.relabel([("one", 1)], label)
    qtbot.waitUntil(lambda: model.rowCount() == 6)
    state.history.undo()
    state.history.undo()
    state.clusters.relabel([("one", 2)], "Pt70")
    qtbot.waitUntil(lambda: model.rowCount() == 5)
    assert [model.index(i).data() for i in (3, 4)] == [
        "label 1 cluster Pt19 · one, cluster 1", "label 1 cluster Pt70 · one, cluster 2",
    ]  # fmt: skip
    state.clusters.set_analysis(made_up(12, "one", seed=3, size_px=96), "analyse one")
    qtbot.waitUntil(lambda: model.rowCount() == 6)
    assert model.index(5).data() == "analyse one"


def test_enter_in_a_field_is_no_answer(shown, state, dock):
    analyse = Analyse(shown)
    shown.window.add_dock_widget(analyse, name="Analyse")
    review = start(dock)
    key = review.key
    for field in (analyse.image_form.pixel_size, workbench_bar(shown).annotator.name):
        for name in (KEY.Key_Return, KEY.Key_Enter):
            field.setFocus()  # the name is left by it
            QTest.keyClick(field, name)
    assert review.key == key and corrected(state, key) == ""
    analyse.models.setFocus()  # what no field takes is for the canvas
    QTest.keyClick(analyse, KEY.Key_Return)
    assert corrected(state, key) != ""


def test_esc_in_a_field_returns_to_the_canvas_and_ends_nothing(shown, dock, press):
    start(dock)
    name = workbench_bar(shown).annotator.name
    canvas = shown.window._qt_viewer.canvas.native
    name.setFocus()
    QTest.keyClick(name, KEY.Key_Escape)
    assert dock.review is not None
    assert shown.window._qt_window.focusWidget() is canvas
    press(KEY.Key_Escape)
    assert dock.review is None


# ---- help
def test_all_shortcuts_in_a_window(shown, dock, press, qtbot):
    main = shown.window._qt_window
    start(dock)
    press(KEY.Key_F1)
    window = main.findChild(Help)
    assert window.isVisible()
    text = " ".join(label.text() for label in window.findChildren(QLabel))
    for place, keys in shortcuts.places().items():
        assert place in text
        for shortcut in keys:
            assert shortcut.what in text
    QTest.mouseClick(dock.help_button, LEFT)
    assert main.findChildren(Help) == [window]
    with qtbot.waitSignal(window.destroyed):
        window.close()


ACTIONS = {
    "Label mode": LabelActions,
    "Review": ReviewActions,
    "Browse": CurrentImage,
    "Everywhere": EditCommands,
    "Gallery": Gallery,
    "Marking": Marking,
}


def test_shortcuts_of_a_place_do_not_clash():
    assert set(ACTIONS) == set(shortcuts.places())
    for place, found in shortcuts.places().items():
        keys = Counter(key for s in found for key in s.keys)
        assert max(keys.values()) == 1, place
        assert all(s.what and callable(getattr(ACTIONS[place], s.method or s.name)) for s in found)
    assert shortcuts.format_key("Control-Shift-Z") == "Ctrl+Shift+Z"


# ---- several people
@pytest.fixture
def project(tmp_path):
    """A project of two images, analysed."""
    with Project(tmp_path / "p.atomicity") as made:
        for seed, name in enumerate(("a.tif", "b.tif")):
            write_image(tmp_path / name, seed)
        made.add_paths([tmp_path / "a.tif", tmp_path / "b.tif"])
        for name in ("a.tif", "b.tif"):
            found = analysed(tmp_path / name)
            made.image_files.update_metadata(found.micrograph)
            made.record(ImageEdit(name, EditKind.ANALYSIS, "nobody"), None, found)
        made.flush()
        yield made


@pytest.fixture
def bench(viewer, project, settle):
    """A window with the project, and its Review dock with all parts open."""
    state = binding_of(viewer).state
    state.annotator = "Ada"
    state.open_project(project, project.load_all())
    state.current = "a.tif"
    dock = Review(viewer)
    viewer.window.add_dock_widget(dock, name="Review")
    for part in dock.parts:
        QTest.mouseClick(part.button, LEFT)
    settle(viewer)
    yield dock
    binding_of(viewer).label_mode.review = None
    settle(viewer)


def lines(model: Lines) -> dict[str, tuple[str, ...]]:
    return {line[0]: line[1:] for line in model.lines}


def test_the_sample_is_in_the_project(bench, project, qtbot, settle):
    review = start(bench, "sample", number=10)
    removed = review.key
    review.answer(NOT_A_CLUSTER)
    review.agree()
    bench.binding.label_mode.review = None
    state = WindowState()
    state.open_project(project, project.load_all())
    noted = project.setting("review/sample")
    assert len(noted["ids"]) == 10
    # As after reopening: nothing is remembered but what is in the file.
    bench.binding.label_mode.kept.clear()
    bench._noted = (None, None)
    again = start(bench, "sample")
    assert again.queue.ids.tolist() == review.queue.ids.tolist()
    assert again.reasons == {removed: NOT_A_CLUSTER}
    assert (again.n_done, again.accuracy().overall.right) == (2, 1)


def test_a_cluster_of_the_sample_that_is_split_counts_as_wrong(bench, project, qtbot):
    """Also when the sample is gone on with from the project, without the steps of the window."""
    review = start(bench, "sample", number=10)
    for _ in range(2):
        review.agree()
    review.answer(NOT_A_CLUSTER)
    n = len(bench.state.history)
    QTest.mouseClick(updated(bench).editing.buttons["split"], LEFT)
    qtbot.waitUntil(lambda: len(bench.state.history) > n)
    qtbot.waitUntil(lambda: "2 of 4 answers" in bench.words.text())
    counts = "1 was no cluster and 1 was split or merged, which count as wrong."
    assert counts in bench.words.text()
    found = review.accuracy()
    bench.binding.label_mode.review = None
    project.flush()
    bench.state.history.exchange()
    bench.binding.label_mode.kept.clear()
    bench._noted = (None, None)
    assert start(bench, "sample").accuracy().overall == found.overall
    bench.refresh_now()
    assert counts in bench.words.text()


def test_a_cluster_comes_into_view_while_another_image_is_still_drawn(bench, qtbot, settle):
    """As after two quick answers: the image of the first is displayed, its camera not yet set."""
    binding = bench.binding
    asked = bench.state.table("a.tif").iloc[-1]
    bench.state.request_focus(("b.tif", 1))
    qtbot.waitUntil(lambda: binding.canvas.source_layer("b.tif") is not None)
    bench.state.request_focus(("a.tif", int(asked["cluster_id"])))
    settle(binding.viewer)
    source = binding.canvas.source_layer("a.tif")
    centre = binding.viewer.camera.center[-2:]
    assert np.allclose(centre, source.data_to_world([asked["y_px"], asked["x_px"]]))


def test_undo_shows_a_cluster_also_if_its_answer_was_the_label_that_it_had(shown, dock, press):
    review = start(dock)
    first = review.key
    press(KEY.Key_2)
    press(KEY.Key_B, KEY.Key_2)
    assert review.key != first
    press(KEY.Key_Z, modifiers=CTRL)
    assert review.key == first and review.state.current == first[0]
    assert review.state.selection == {first}
    press(KEY.Key_N)
    press(KEY.Key_Y, modifiers=CTRL)
    assert review.key == first and review.manual_label == CLASSES[1]


def test_a_key_that_waits_while_an_image_gets_its_layers_keeps_its_cluster_in_view(bench, settle):
    """The answer that the key gives shows the next cluster of the same image."""
    binding, state = bench.binding, bench.state
    table = state.table("b.tif")
    for key in (("b.tif", 1), ("a.tif", 1)):  # the view of both images is remembered
        state.request_focus(key)
        settle(binding.viewer)
    following = partial(state.request_focus, ("b.tif", int(table["cluster_id"].iloc[-1])))
    binding.canvas.image_detached.connect(lambda _: QTimer.singleShot(0, following))
    state.request_focus(("b.tif", 2))
    settle(binding.viewer)
    place = table[["y_px", "x_px"]].iloc[-1]
    source = binding.canvas.source_layer("b.tif")
    assert np.allclose(binding.viewer.camera.center[-2:], source.data_to_world(place))


@pytest.mark.parametrize("following", [None, ("a.tif", 2)])
def test_pieces_are_not_selected_if_a_person_has_gone_on(bench, settle, following):
    """The next key is for the next image, or for the cluster that was clicked meanwhile."""
    binding, state = bench.binding, bench.state
    state.select([("a.tif", 1)])
    binding.edits.split_selected()
    if following is None:
        binding.current_image.step(1)
    else:
        state.select([following])
    settle(binding.viewer)
    assert state.history[-1].title == "split 1 cluster"
    assert state.selection == ({following} if following else set())


def test_what_is_on_the_canvas_until_the_next_image_is_read_cannot_be_selected(bench, settle):
    binding, state = bench.binding, bench.state
    layer = binding.canvas.layer("a.tif", "clusters")
    binding.current_image.step(1)
    layer.selected_data = set(range(len(layer.data)))  # Ctrl+A
    assert state.current == "b.tif" and not state.selection and not layer.selected_data
    settle(binding.viewer)
    assert binding.current_image.displayed == "b.tif" and not state.selection


def test_the_name_in_the_bar_is_in_the_log(bench):
    form = workbench_bar(bench.binding.viewer).annotator
    form.name.setText("  Grace ")
    form.name.editingFinished.emit()
    assert bench.state.annotator == "Grace"
    bench.state.clusters.relabel([("a.tif", 1)], "Pt19")
    assert bench.state.history[-1].annotator == "Grace"


def test_blind_a_second_person_sees_nothing(bench, qtbot, errors, settle):
    state, form = bench.state, workbench_bar(bench.binding.viewer).annotator
    state.clusters.relabel([("a.tif", 1)], "Pt70")
    bench.binding.edits.add_by_clicking()
    assert bench.binding.canvas.layer(state.current, "clusters").mode == "add"
    qtbot.mouseClick(form.blind, LEFT)
    assert state.blind and IS_BLIND in form.blind.toolTip()
    assert bench.binding.canvas.layer(state.current, "clusters").mode == "select"
    assert (state.table()["label_corrected"] == "").all()
    qtbot.waitUntil(lambda: "Leave blind mode" in bench.annotators.words.text())
    bench.refresh_now()
    by_confidence = bench.order.findData("confidence")
    assert not bench.order.model().item(by_confidence).isEnabled()
    assert "hidden" in bench.order.itemData(by_confidence, Qt.ItemDataRole.ToolTipRole)
    assert bench.order.currentData() not in ("confidence", "sample")
    review = start(bench, "random")
    assert "Pt" not in bench.answers.shown.text()
    assert not bench.answers.buttons["agree"].isEnabled()
    key = review.key
    QTest.keyClick(bench.binding.viewer.window._qt_viewer.canvas.native, KEY.Key_2)
    assert corrected(state, key) == state.classes()[1]
    for edit in (KEY.Key_S, KEY.Key_P, KEY.Key_E):  # refused before anything is begun
        settle(bench.binding.viewer)
        errors.clear()
        QTest.keyClick(bench.binding.viewer.window._qt_viewer.canvas.native, edit)
        assert not state.busy and "blind" in str(errors[-1])
    form.blind.click()
    assert not state.blind and bench.review is None
    assert corrected(state, ("a.tif", 1)) == "Pt70"


def test_keys_that_blind_annotators_may_not_use_are_not_listed(bench, settle):
    state, viewer = bench.state, bench.binding.viewer
    for blind in (False, True):
        state.set_blind(blind)
        settle(viewer)
        start(bench, "random")
        viewer.layers.selection.active = viewer.layers[0]
        for words in ("P add", "S split", "M merge", "E exclude"):
            assert (words in viewer.help) == (not blind)
        assert "X remove" in viewer.help


def test_class_maps_stay_hidden_from_a_blind_annotator(dock, press, shown, state, monkeypatch):
    start(dock, "random")
    press(KEY.Key_C)
    canvas = dock.binding.canvas
    visible = canvas.class_maps_visible
    monkeypatch.setattr(type(state), "blind", property(lambda self: True))
    press(KEY.Key_C)
    assert "Blind mode" in shown.status and canvas.class_maps_visible == visible


def test_a_blind_person_goes_on_with_the_sample_of_the_project(bench, qtbot):
    review = start(bench, "sample", number=10)
    *sample, deleted = [review.queue.key(i) for i in range(review.n)]
    bench.binding.label_mode.end_review()
    bench.state.clusters.remove([deleted])  # by the other person: no answer of this one
    bench.order.setCurrentIndex(bench.order.findData("confidence"))  # as on another computer
    form = workbench_bar(bench.binding.viewer).annotator
    qtbot.mouseClick(form.blind, LEFT)
    bench.refresh_now()
    assert bench.order.currentData() == "sample" and bench.button.text() == "Go on with the review"
    bench.button.click()
    blind = bench.review
    assert blind.n_done == 0 and not blind.removed.any()
    assert [blind.queue.key(i) for i in range(blind.n)] == sample
    QTest.keyClick(bench.binding.viewer.window._qt_viewer.canvas.native, KEY.Key_2)
    assert bench.review.n_done == 1
    form.blind.click()
    bench.refresh_now()
    assert bench.order.currentData() == "confidence"


def test_blind_mode_names_the_order_that_clusters_come_in(bench, qtbot):
    """Without predictions, no order is by class."""
    form = workbench_bar(bench.binding.viewer).annotator
    choose(bench, "class")

    def named() -> tuple[str, str, str]:
        bench.refresh_now()
        return bench.order.currentText(), bench.order.toolTip()[:22], bench.label.currentText()

    with_classes = ("class by class", "Clusters of the same l", "all, one after the other")
    assert named() == with_classes
    qtbot.mouseClick(form.blind, LEFT)
    assert named() == ("by number", "Clusters by their numb", "all")
    review = start(bench, "class")
    keys = [review.queue.key(i) for i in range(review.n)]
    whole = ~bench.state.table()["touches_border"]
    table = bench.state.table()[whole]
    expected = list(zip(table["image"], table["cluster_id"], strict=True))
    assert keys[: len(expected)] == expected
    qtbot.mouseClick(form.blind, LEFT)
    assert named() == with_classes


def test_blind_mode_keeps_the_chosen_order(bench, qtbot):
    form = workbench_bar(bench.binding.viewer).annotator
    bench.order.setCurrentIndex(bench.order.findData("confidence"))
    qtbot.mouseClick(form.blind, LEFT)
    bench.refresh_now()
    assert bench.order.currentData() != "confidence"
    qtbot.mouseClick(form.blind, LEFT)
    bench.refresh_now()
    assert bench.order.currentData() == "confidence"


def test_undo_and_redo_in_the_bar_show_the_cluster_that_a_key_would_change(bench, qtbot):
    review = start(bench, "random")
    seen, state = [], bench.state
    while not seen or seen[-1][0] == review.key[0]:  # until the next one is in another image
        seen.append(review.key)
        QTest.keyClick(bench.binding.viewer.window._qt_viewer.canvas.native, KEY.Key_1)
    history = workbench_bar(bench.binding.viewer).history
    for button in (history.undo, history.redo):
        button.click()
        assert {image for image, _ in state.selection} == {state.current}
        assert review.key in state.selection and review.key == seen[-1]
    bench.binding.label_mode.end_review()
    assert {image for image, _ in state.selection} <= {state.current}


def test_another_name_stays_blind(bench, qtbot):
    state, form = bench.state, workbench_bar(bench.binding.viewer).annotator
    qtbot.mouseClick(form.blind, LEFT)
    start(bench, "random")
    key = bench.review.key
    QTest.keyClick(bench.binding.viewer.window._qt_viewer.canvas.native, KEY.Key_2)
    form.name.clear()
    QTest.keyClicks(form.name, "Grace")
    QTest.keyClick(form.name, KEY.Key_Return)
    assert state.annotator == "Grace" and state.blind
    assert updated(form).blind.isChecked() and IS_BLIND in form.blind.toolTip()
    table = state.table()
    assert (table["label"] == "").all() and (table["label_predicted"] == "").all()
    state.clusters.relabel([key], "Pt70")
    log = state.project.corrections()
    assert log["blind"].all() and log["annotator"].tolist() == ["Ada", "Grace"]
    # Back to the labels of the first person, and out of blind mode on purpose.
    state.annotator = "Ada"
    assert state.blind and corrected(state, key) == state.classes()[1]
    assert not bench.annotators.merge_button.isEnabled()
    form.blind.click()
    assert not state.blind and (state.table()["label_predicted"] != "").any()


def test_two_people_are_merged_compared_and_settled(
    bench, project, tmp_path, monkeypatch, qtbot, settle
):
    state, panel, viewer = bench.state, bench.annotators, bench.binding.viewer
    copy = project.copy(tmp_path / "bo.atomicity")
    state.clusters.relabel_each({("a.tif", i): "Pt19" if i < 7 else "Pt30" for i in range(1, 11)})
    other, theirs = WindowState(), Project(copy)
    other.open_project(theirs, theirs.load_all())
    other.annotator = "Bo"
    said = {("a.tif", i): "Pt19" if i < 5 else "Pt30" for i in range(1, 10)}
    other.clusters.relabel_each(said)
    other.clusters.remove([("a.tif", 10)])
    theirs.close()

    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(copy), ""))
    qtbot.mouseClick(panel.merge_button, LEFT)
    qtbot.waitUntil(lambda: len(panel.disagreements.lines) == 3)
    assert state.history.undo().description == "merge bo.atomicity"
    qtbot.waitUntil(lambda: not panel.disagreements.lines)
    state.history.redo()
    qtbot.waitUntil(lambda: len(panel.disagreements.lines) == 3)
    settle(viewer)
    assert "Ada: 10 clusters; Bo: 10 clusters, 1 deleted" in panel.words.text()
    assert "10 in common" in panel.words.text()
    found = lines(panel.figures)
    assert found["all"][0] == "70 % of 10 clusters"
    assert found["Pt19"][0] == "80 % of 10 answers" and found["Pt19"][1].startswith("0.62 (")
    assert lines(panel.confusion)["Pt19"] == ("4", "2", "·")
    headers = panel.disagreements.headers
    assert headers == ["Cluster", "Ada", "Bo", "Machine", "Settled"]
    first = panel.disagreements.lines[0]
    assert first[:3] == ("a.tif 5", "Pt19", "Pt30") and first[4] == ""

    # A click goes there.
    view = panel.disagreement_view
    place = view.visualRect(panel.disagreements.index(1, 0)).center()
    QTest.mouseClick(view.viewport(), LEFT, pos=place)
    assert state.selection == {("a.tif", 6)}
    # The chosen one as Bo says.
    panel.settle_as.setCurrentIndex(panel.settle_as.findText("as Bo says"))
    panel.settle_as.activated.emit(panel.settle_as.currentIndex())
    assert corrected(state, ("a.tif", 6)) == "Pt30"
    qtbot.waitUntil(lambda: panel.disagreements.lines[1][4] == "Pt30")
    # The rest one by one, by keys; who said what stands in the image.
    QTest.mouseClick(panel.settle_button, LEFT)
    assert len(bench.review.queue) == 2
    text = compat.text_overlay(viewer).text
    assert "Ada: Pt19   Bo: Pt30" in text
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, KEY.Key_1)
    QTest.keyClick(canvas, KEY.Key_X)
    qtbot.waitUntil(lambda: "3 settled" in panel.where.text())
    assert [line[4] for line in panel.disagreements.lines] == ["Pt19", "Pt30", "not a cluster"]
    assert corrected(state, ("a.tif", 5)) == "Pt19"
    assert corrected(state, ("a.tif", 10)) is None
    # What Ada and Bo had said is as it was.
    assert lines(panel.figures) == found
    assert state.annotator == "Ada"
    assert not panel.settle_button.isEnabled()


def test_what_was_settled_as_no_cluster_elsewhere_is_open_while_it_is_there(
    bench, project, tmp_path, qtbot
):
    state, panel = bench.state, bench.annotators
    copy = project.copy(tmp_path / "settled.atomicity")
    other, theirs = WindowState(), Project(copy)
    other.open_project(theirs, theirs.load_all())
    other.annotator = "Ada"
    other.clusters.relabel([("a.tif", 10)], "Pt30")
    other.annotator = "Bo"
    other.set_blind(True)
    other.clusters.remove([("a.tif", 10)])
    other.set_blind(False)
    other.annotator = CONSENSUS
    other.clusters.remove([("a.tif", 10)])
    theirs.close()
    panel.merge_from(copy)
    qtbot.waitUntil(lambda: len(panel.disagreements.lines) == 1)
    assert panel.disagreements.lines[0][-1] == "" and "settled" not in panel.where.text()
    assert panel.settle_button.isEnabled()
    state.annotator = CONSENSUS
    state.clusters.remove([("a.tif", 10)])
    qtbot.waitUntil(lambda: "1 settled" in panel.where.text())


def test_the_message_of_a_merge_counts_labels_not_entries_of_the_log(bench, project, tmp_path):
    def said_after_merging(change=lambda other: None) -> str:
        other, theirs = WindowState(), Project(copy)
        other.open_project(theirs, theirs.load_all())
        other.annotator = "Bo"
        change(other)
        theirs.close()
        bench.annotators.merge_from(copy)
        return notification_manager.records[-1].message

    def label_twice(other: WindowState) -> None:
        for label in ("Pt30", "Pt19"):
            other.clusters.relabel([("a.tif", 1), ("a.tif", 2)], label)
        other.clusters.remove([("a.tif", 3)])

    copy = project.copy(tmp_path / "bo.atomicity")
    nothing = "Nothing new: no label or mark was added to the 2 images that both have."
    assert said_after_merging() == nothing
    assert said_after_merging(label_twice) == (
        "From Bo in 2 images that both have: 2 new labels. There, 1 cluster was added, moved or "
        "removed: the log tells it, and the clusters here stay as they are."
    )
    assert said_after_merging() == nothing
    withdrawn = said_after_merging(lambda other: other.clusters.relabel([("a.tif", 1)], ""))
    assert withdrawn.startswith("No new labels or marks. In 1 image, something else is new")
    region = np.array([[0.0, 0.0], [0.0, 30.0], [30.0, 30.0], [30.0, 0.0]])
    excluded = said_after_merging(lambda other: other.clusters.set_regions("a.tif", [region]))
    assert "Not taken over: excluded regions of a.tif. Their clusters count here" in excluded
    bench.state.clusters.set_regions("a.tif", [region])
    bench.state.project.flush()
    assert "excluded regions" not in said_after_merging()
    grouped = said_after_merging(lambda other: other.sessions.group_sample(["a.tif"], "early"))
    assert grouped.startswith("No new labels or marks in the 2 images that both have. Taken over: ")
    assert "sample of 1 image (early)" in grouped and "session of" not in grouped


def test_a_file_that_is_no_project_is_refused(bench, tmp_path, errors):
    path = tmp_path / "x.atomicity"
    path.write_bytes(b"no")
    bench.annotators.merge_from(path)
    assert "no project" in errors[0]


def test_where_nothing_may_be_changed_the_dock_says_so(bench, project, make_napari_viewer, settle):
    viewer = make_napari_viewer(show=True)
    state = binding_of(viewer).state
    with Project(project.path) as second:
        state.open_project(second, second.load_all())
        dock = Review(viewer)
        viewer.window.add_dock_widget(dock, name="Review")
        assert not updated(dock).button.isEnabled()
        assert "another window" in dock.hint.text()
        settle(viewer)
        state.close_project()


def test_nothing_under_the_mouse_moves_while_answers_come_in(shown, state, dock, press, qtbot):
    start(dock, "sample", number=16)
    qtbot.waitUntil(lambda: "time left" in dock.pace.text())
    watched = [*dock.answers.buttons.values(), dock.draw_button, dock.bar, dock.pace, dock.editing]

    def places() -> list[QPoint]:
        QApplication.processEvents()
        return [widget.mapTo(dock, QPoint()) for widget in watched]

    qtbot.wait(50)  # the form of a new review has gone
    before = places()
    # Clusters with more or less to say.
    dock.answers.shown.setText("a rather long name of an image, cluster 7: Pt30 0.61")
    dock.answers.more.setText("\n".join(["cut by the border"] * 3))
    qtbot.wait(50)
    assert places() == before
    press(*[KEY.Key_Return] * 6)
    qtbot.waitUntil(lambda: dock.chart.isVisible() and " each, " in dock.pace.text())
    assert places() == before
