"""The keyboard in docks: Tab goes in reading order, and the focus is visible."""

from __future__ import annotations

import itertools

import pytest
from every_dock import all_docks
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.utils import notifications
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QTableView, QWidget
from synthetic import made_up

from napari_atomicity.gui.controls import questions
from napari_atomicity.gui.controls.forms import CollapsibleSection
from napari_atomicity.gui.controls.shortcuts import FocusRing
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.panels.dock_windows import show_dock
from napari_atomicity.gui.panels.workbench_bar import WorkbenchBar, workbench_bar
from napari_atomicity.gui.viewer.binding import binding_of


def tab_order(dock: QWidget) -> list[QWidget]:
    """Return the visible controls of a dock in the order of Tab."""
    found, widget = [], dock.nextInFocusChain()
    while widget is not dock:
        takes = widget.focusPolicy().value & Qt.FocusPolicy.TabFocus.value
        if takes and dock.isAncestorOf(widget) and widget.isVisible() and not widget.focusProxy():
            found.append(widget)
        widget = widget.nextInFocusChain()
    return found


def test_tab_walks_every_dock_in_reading_order_and_shows_where_it_is(viewer, model, settle):
    state = binding_of(viewer).state
    state.clusters.set_analysis(made_up(20))
    wrong, bare, traps, n_controls = [], [], [], 0
    window = viewer.window._qt_window
    QApplication.setActiveWindow(window)
    for kind in [*all_docks(), WorkbenchBar]:
        is_bar = kind is WorkbenchBar
        dock = workbench_bar(viewer) if is_bar else show_dock(viewer, kind.__name__)
        for part in dock.findChildren(CollapsibleSection):
            # A dock that is a part of another one has been here already.
            is_open = part.button.isChecked()
            assert is_open or not part.content.isVisible()  # and Tab does not go there
            if part.button.text() == "Settings":
                part.button.setChecked(True)
        settle(viewer)
        QApplication.processEvents()
        # Also those that are hidden until they have rows.
        tables = dock.findChildren(QTableView)
        traps += [(kind.__name__, t.accessibleName()) for t in tables if t.tabKeyNavigation()]
        controls = tab_order(dock)
        n_controls += len(controls)
        places = [c.mapTo(dock, QPoint(0, 0)) for c in controls]
        for (a, one), (b, following) in itertools.pairwise(zip(places, controls, strict=True)):
            below = b.y() >= a.y() + one.height() // 2
            beside = abs((b.y() + following.height() / 2) - (a.y() + one.height() / 2)) < max(
                one.height(), following.height()
            )
            if not (below or (beside and b.x() >= a.x())):
                names = [w.accessibleName() or w.objectName() or w.text() for w in (one, following)]
                wrong.append((kind.__name__, *names))
        for control in controls:
            if not control.isEnabled():
                continue
            control.setFocus(Qt.FocusReason.TabFocusReason)
            if control.hasFocus() and not control.findChildren(FocusRing):
                bare.append((kind.__name__, control.accessibleName() or str(control)))
    assert n_controls > 100
    assert not wrong
    assert not bare
    assert not traps, "Tab never leaves them"
    rings = [r for r in window.findChildren(FocusRing) if r.isVisible()]
    assert len(rings) == 1


def test_a_button_that_is_disabled_while_it_works_gives_the_focus_to_the_canvas(
    viewer, image_layer, model, settle, qtbot
):
    """The keys label clusters there; Qt would give it to the next control of the dock."""
    dock = Analyse(viewer)
    viewer.window.add_dock_widget(dock, name="Analyse")
    QApplication.setActiveWindow(viewer.window._qt_window)
    qtbot.waitUntil(dock.button.isEnabled)
    dock.button.setFocus()
    QTest.keyClick(dock.button, Qt.Key.Key_Space)
    settle(viewer)
    assert QApplication.focusWidget() is viewer.window._qt_viewer.canvas.native


@pytest.mark.parametrize("show", [questions.show_info, notifications.show_info])
def test_a_message_that_closes_leaves_the_keys_in_the_field(
    viewer, model, settle, qtbot, monkeypatch, show
):
    """napari gives the focus to the canvas, where the next digit would label clusters."""
    monkeypatch.setattr(questions, "SHOWN_MS", 200)
    monkeypatch.setattr(NapariQtNotification, "DISMISS_AFTER", 200)
    monkeypatch.setattr(questions.QCursor, "pos", lambda: QPoint(-1, -1))  # not over it
    table = show_dock(viewer, "Table")
    settle(viewer)
    QApplication.setActiveWindow(viewer.window._qt_window)
    before, typed = set(NapariQtNotification._instances), table.filter_line
    typed.setFocus()
    show("Copied: 3 rows")
    (shown,) = set(NapariQtNotification._instances) - before
    QTest.keyClicks(typed, "confi")
    qtbot.waitUntil(lambda: shown not in NapariQtNotification._instances)
    assert QApplication.focusWidget() is typed
    canvas = viewer.window._qt_viewer.canvas.native
    assert canvas.focusProxy() is None
    canvas.setFocus()
    assert QApplication.focusWidget() is canvas
