"""The bar of the window: undo and redo, the running task, the annotator and blind mode."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from bar import click_cancel
from bench import analysed, write_image
from mouse import LEFT
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLabel, QMessageBox, QPushButton, QToolButton
from synthetic import made_up
from waiting import updated

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.progress import check
from napari_atomicity.gui import tasks
from napari_atomicity.gui.controls.shortcuts import Help
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.review.dock import Review
from napari_atomicity.gui.panels.dock_windows import main_window
from napari_atomicity.gui.panels.workbench_bar import IS_BLIND, WorkbenchBar, workbench_bar
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.gui.workbench.window import WorkspaceSwitch
from napari_atomicity.project import Project
from napari_atomicity.state.window_state import Status, TaskState

RUNNING = Status(TaskState.RUNNING, "Analysing 3 of 12: a_rather_long_name.tif, 12 min left", 3, 12)
FAILED = Status(
    TaskState.FAILED,
    "The file 20261121_1200_overview.dm4 cannot be read: it is not complete. Copy it again from "
    "the microscope, or leave it out of the folder.",
)


@pytest.fixture
def bar(viewer):
    return workbench_bar(viewer)


@pytest.fixture
def state(viewer):
    return state_of(viewer)


@pytest.fixture
def project(tmp_path, state):
    """A project with one image, open in the window."""
    write_image(tmp_path / "a.tif")
    with Project(tmp_path / "p.atomicity") as made:
        made.add_paths([tmp_path / "a.tif"])
        state.open_project(made, made.load_all())
        state.clusters.set_analysis(analysed(tmp_path / "a.tif"))
        yield made


def test_there_is_one_bar_for_all_docks_of_a_window(viewer, make_napari_viewer, qtbot):
    docks = [Analyse(viewer), Review(viewer)]
    for dock in docks:
        viewer.window.add_dock_widget(dock, name=type(dock).__name__)
    bars = main_window(viewer).findChildren(WorkbenchBar)
    assert bars == [workbench_bar(viewer)]
    qtbot.waitUntil(bars[0].isVisible)
    other = make_napari_viewer()
    Analyse(other).deleteLater()
    (second,) = main_window(other).findChildren(WorkbenchBar)
    assert second is workbench_bar(other) and second is not bars[0]
    # Each acts on its own window.
    state_of(other).clusters.set_analysis(made_up(3))
    state_of(other).clusters.relabel([("field", 1)], "Pt70")
    assert not updated(bars[0].history).undo.isEnabled()
    # It cannot be hidden or torn off.
    assert not bars[0].toggleViewAction().isVisible()
    assert not bars[0].isMovable() and not bars[0].isFloatable()
    assert main_window(viewer).toolBarArea(bars[0]) == Qt.ToolBarArea.TopToolBarArea


def test_undo_and_redo_by_clicks(bar, state):
    buttons = bar.history
    state.clusters.set_analysis(made_up(6))
    state.clusters.relabel([("field", 4)], "Pt30")

    def label():
        return state.table("field").set_index("cluster_id").loc[4, "label_corrected"]

    assert updated(buttons).undo.isEnabled() and not buttons.redo.isEnabled()
    assert buttons.undo.toolTip() == "Undo: label 1 cluster Pt30 (Ctrl+Z)."
    assert buttons.redo.toolTip() == "Redo: nothing (Ctrl+Shift+Z)."
    QTest.mouseClick(buttons.undo, LEFT)
    assert label() == ""
    assert updated(buttons).redo.isEnabled()
    assert "label 1 cluster Pt30" in buttons.redo.toolTip()
    QTest.mouseClick(buttons.redo, LEFT)
    assert label() == "Pt30"
    assert not updated(buttons).redo.isEnabled()


def test_undo_and_redo_by_keys_whatever_layer_is_active(viewer, bar, state):
    state.clusters.set_analysis(made_up(6))
    state.clusters.relabel([("field", 4)], "Pt30")
    canvas = viewer.window._qt_viewer.canvas.native
    control, shift = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier

    def labels():
        return set(state.table("field")["label_corrected"])

    viewer.add_image(np.zeros((8, 8)))
    for target in (canvas, bar.fit):  # a button of a dock passes keys on
        QTest.keyClick(target, Qt.Key.Key_Z, control)
        assert labels() == {""}
        QTest.keyClick(target, Qt.Key.Key_Z, control | shift)
        assert labels() == {"", "Pt30"}
    # Brush strokes have an undo of napari's own.
    painted = viewer.add_labels(np.zeros((8, 8), int))
    painted.fill((0, 0), 1)
    QTest.keyClick(canvas, Qt.Key.Key_Z, control)
    assert not painted.data.any() and labels() == {"", "Pt30"}


def test_fit_shows_the_visible_image_whatever_is_hidden(viewer, bar, image_layer):
    wide = viewer.add_image(np.zeros((512, 512)), name="wide", scale=(9.0, 9.0), units="nm")
    wide.visible = False
    camera = compat.camera(viewer)
    camera.center, camera.zoom = (5000.0, 5000.0), 0.1
    QTest.mouseClick(bar.fit, LEFT)
    low, high = image_layer.extent.world[:, -2:]
    height, width = compat.canvas_size(viewer)
    assert (low < camera.center[-2:]).all() and (camera.center[-2:] < high).all()
    assert 0.5 < max((high - low) * camera.zoom / (height, width)) <= 1
    wide.visible = True  # of several images, all
    QTest.mouseClick(bar.fit, LEFT)
    assert 0.5 < 512 * 9 * camera.zoom / min(height, width) <= 1


def test_f1_shows_the_shortcuts_before_anything_was_analysed(viewer, bar, image_layer):
    press = viewer.window._qt_viewer.canvas._key_map_handler.press_key
    press("F1")
    help_window = viewer.window._qt_window.findChild(Help)
    assert help_window.isVisible()
    help_window.close()


def test_no_blind_labels_are_begun_that_cannot_be_stored(bar, state, project):
    assert updated(bar.annotator).blind.isEnabled()
    with Project(project.path) as reading:
        state.open_project(reading, {})
        assert state.read_only and not updated(bar.annotator).blind.isEnabled()
        assert "read-only" in bar.annotator.blind.toolTip()


def test_the_status_bar_says_which_steps_are_out_of_reach(viewer, bar, state, project):
    for cluster_id in (1, 2, 3):
        state.clusters.relabel([("a.tif", cluster_id)], "Pt30")
    state.history.go_to(len(state.history) - 2)
    updated(bar.history)
    state.history.redo()
    updated(bar.history)
    assert "redone" not in viewer.status
    state.clusters.relabel([("a.tif", 1)], "Pt55")
    updated(bar.history)
    assert "1 undone step " in viewer.status
    blind, place = bar.annotator.blind, QPoint(8, bar.annotator.blind.height() // 2)
    QTest.mouseClick(blind, LEFT, pos=place)
    assert state.blind and "blind step" not in viewer.status
    for cluster_id in (1, 2):
        state.clusters.relabel([("a.tif", cluster_id)], "Pt30")
    # A blind label counts where there is no open one: the steps before it do not fit any more.
    QTest.mouseClick(blind, LEFT, pos=place)
    assert not state.blind and "2 blind steps" in viewer.status
    assert not state.history and "4 steps" in viewer.status.partition(";")[2]


def test_a_message_in_the_status_bar_leaves_it(viewer, bar, qtbot, monkeypatch):
    monkeypatch.setattr("napari_atomicity.gui.viewer.layers.status_line.MESSAGE_MS", 0)
    bar.history.undo.setEnabled(True)
    QTest.mouseClick(bar.history.undo, LEFT)
    assert viewer.status == "Nothing to undo"
    qtbot.waitUntil(lambda: not viewer.status)


def test_cancel_stops_the_running_task(viewer, bar, state, settle):
    def endless(progress, stop):
        progress(1, 9, "Linking")
        while True:
            check(stop)

    assert not bar.task.cancel_button.isVisible()
    results = []
    tasks.start(state, endless, message="Tracking", on_result=results.append, key="analysis")
    assert bar.task.message.message == "Tracking" and bar.task.bar.isVisible()
    click_cancel(viewer)
    settle(viewer)
    assert state.status.state is TaskState.STOPPED and not results
    assert bar.task.message.message == "Stopped"
    assert not bar.task.cancel_button.isVisible() and not bar.task.bar.isVisible()


def test_the_message_of_a_failed_task_opens_in_full(viewer, bar, state, settle, errors):
    def fails():
        raise AtomicityError("the file is not complete", advice=FAILED.message)

    tasks.start(state, fails, message="Reading", on_result=print, key="analysis")
    settle(viewer)
    message = bar.task.message
    assert message.isVisible() and message.message.startswith("⚠ the file is not complete")
    assert FAILED.message in message.toolTip() and FAILED.message in errors[-1]
    QTest.mouseClick(message, LEFT)
    box = main_window(viewer).findChild(QMessageBox)
    assert FAILED.message in box.text() and box.textFormat() == Qt.TextFormat.PlainText
    assert box.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse
    box.close()


def test_the_name_is_remembered_in_the_next_window(bar, make_napari_viewer):
    bar.annotator.name.setText("  Grace ")
    QTest.keyClick(bar.annotator.name, Qt.Key.Key_Return)
    assert bar.annotator.state.annotator == bar.annotator.name.text() == "Grace"
    other = make_napari_viewer(show=True)
    assert updated(workbench_bar(other).annotator).name.text() == "Grace"
    assert state_of(other).annotator == "Grace"


def test_undo_after_a_name_was_entered_does_not_take_back_the_name(bar, viewer, state):
    name, window = bar.annotator.name, main_window(viewer)
    name.setFocus()
    assert window.focusWidget() is name
    name.selectAll()
    QTest.keyClicks(name, "Ben")
    QTest.keyClick(name, Qt.Key.Key_Return)
    assert state.annotator == "Ben" and window.focusWidget() is not name
    QTest.keyClick(window.focusWidget(), Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not updated(bar.annotator).name.isUndoAvailable()
    assert state.annotator == name.text() == "Ben"


def test_blind_stays_blind_when_the_name_changes(bar, state, project):
    form = updated(bar.annotator)
    assert IS_BLIND not in form.blind.toolTip()
    QTest.mouseClick(form.blind, LEFT, pos=QPoint(8, form.blind.height() // 2))
    assert state.blind and form.blind.isChecked()
    assert IS_BLIND in form.blind.toolTip() and "under their name" in form.blind.toolTip()
    form.name.clear()
    QTest.keyClicks(form.name, "Grace")
    QTest.keyClick(form.name, Qt.Key.Key_Return)
    assert state.annotator == "Grace" and state.blind
    updated(form)
    assert form.blind.isChecked() and IS_BLIND in form.blind.toolTip()
    assert (state.table()["label_predicted"] == "").all()
    QTest.mouseClick(form.blind, LEFT, pos=QPoint(8, form.blind.height() // 2))
    assert not state.blind and IS_BLIND not in updated(form).blind.toolTip()


def test_after_blind_mode_the_steps_before_it_can_be_undone(bar, state, project):
    key = ("a.tif", 1)
    before = state.table("a.tif").set_index("cluster_id")["label_corrected"][1]
    state.clusters.relabel([key], "Pt70")
    n_steps = len(state.history)
    form = updated(bar.annotator)
    form.blind.click()
    assert state.blind and not len(state.history)
    form.blind.click()
    assert len(state.history) == n_steps
    bar.history.undo.click()
    assert state.table("a.tif").set_index("cluster_id")["label_corrected"][1] == before
    assert project.labels().get("a.tif", {}).get(1, "") == before
    updated(bar.history).redo.click()
    form.blind.click()
    state.clusters.relabel([key], "Pt19")
    form.blind.click()
    assert not state.history  # undone, the blind label would count
    assert state.table("a.tif").set_index("cluster_id")["label_corrected"][1] == "Pt70"
    form.blind.click()  # blind labels are where they were
    assert state.table("a.tif").set_index("cluster_id")["label_corrected"][1] == "Pt19"


def test_steps_of_an_image_whose_scale_a_blind_annotator_has_changed_are_gone(bar, state, project):
    state.clusters.relabel([("a.tif", 1)], "Pt70")
    updated(bar.annotator).blind.click()
    state.pixel_sizes.set("a.tif", 0.2)
    bar.annotator.blind.click()
    assert not any("a.tif" in step.images for step in state.history)
    assert state.pixel_sizes.get("a.tif") == 0.2


def test_without_a_project_nobody_can_be_blind(bar):
    assert not bar.annotator.blind.isEnabled()
    assert "project" in bar.annotator.blind.toolTip()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_fits_a_small_screen_and_nothing_moves(viewer, bar, state, project, theme):
    viewer.theme = theme
    main_window(viewer).resize(1280, 720)
    switch = WorkspaceSwitch(viewer)
    bar.add_at_left(switch)
    state.clusters.relabel([("a.tif", 1)], "Pt70")
    controls = [*bar.findChildren(QPushButton), bar.annotator.name, bar.annotator.blind]
    seen = []
    for blind, status in (
        (False, Status()), (False, RUNNING), (False, FAILED), (True, FAILED), (True, RUNNING),
        (False, Status()),
    ):  # fmt: skip
        state.set_blind(blind)
        state.status = status
        for part in (bar.history, bar.annotator):
            updated(part)
        QTest.qWait(20)
        seen.append([(c.mapTo(bar, QPoint()), c.size()) for c in controls])
        assert bar.width() == 1280
        # The button that would show what does not fit.
        assert not bar.findChild(QToolButton, "qt_toolbar_ext_button").isVisible()
        for widget in [*controls, *bar.findChildren(QLabel)]:
            if widget.isVisible():
                assert widget.width() >= widget.minimumSizeHint().width(), widget
                assert bar.rect().contains(widget.mapTo(bar, widget.rect().bottomRight()))
        if status is RUNNING:
            assert bar.task.message.shortened().endswith(", 12 min left")
            assert bar.task.message.shortened().startswith("Analys")
    assert switch.x() < bar.history.x()
    assert all(places == seen[0] for places in seen)


def test_the_bar_is_gone_with_its_window(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    bar = workbench_bar(viewer)
    qtbot.waitUntil(bar.isVisible)
    reference = weakref.ref(bar)
    with qtbot.waitSignal(bar.destroyed):
        viewer.close()
    # At once: it is in no cycle of references, which the collector might find in another thread.
    gc.disable()
    del bar
    assert reference() is None
    gc.enable()
