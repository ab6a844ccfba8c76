"""The mouse wheel scrolls docks; it changes no value, nor do PageUp and PageDown."""

from __future__ import annotations

import pandas as pd
from every_dock import all_docks
from qtpy.QtCore import QPoint, QPointF, QSignalBlocker, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDial,
    QScrollBar,
    QSlider,
    QWidget,
)
from synthetic import made_up

from napari_atomicity.gui.panels.dock_windows import show_dock
from napari_atomicity.gui.panels.workbench_bar import WorkbenchBar, workbench_bar
from napari_atomicity.gui.viewer.binding import binding_of

CONTROLS = (QComboBox, QAbstractSpinBox, QSlider, QDial)


def turn_wheel(widget: QWidget, angle: int) -> None:
    """Turn the wheel over the middle of a widget."""
    place = QPointF(widget.rect().center())
    event = QWheelEvent(
        place, widget.mapToGlobal(place), QPoint(0, 0), QPoint(0, angle),
        Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)


def value_of(control: QWidget) -> object:
    if isinstance(control, QComboBox):
        return control.currentIndex()
    if isinstance(control, QAbstractSlider):
        return control.value()
    return control.text()


def controls_of(dock: QWidget) -> list[QWidget]:
    found = [w for kind in CONTROLS for w in dock.findChildren(kind)]
    return [w for w in found if not isinstance(w, QScrollBar)]


def test_the_wheel_changes_no_value_in_any_dock(viewer, model, qtbot, settle):
    state = binding_of(viewer).state
    state.clusters.set_analysis(made_up(20))
    state.select([("field", 1), ("field", 2)])
    n_controls, changed = 0, []
    for kind in [*all_docks(), WorkbenchBar]:
        is_bar = kind is WorkbenchBar
        dock = workbench_bar(viewer) if is_bar else show_dock(viewer, kind.__name__)
        settle(viewer)
        controls = controls_of(dock)
        for control in controls:
            control.setEnabled(True)
            if isinstance(control, QComboBox):  # so that there is another entry to turn to
                with QSignalBlocker(control):
                    control.addItems(["one", "another"])
        before, table = [value_of(c) for c in controls], state.table()
        for child in dock.findChildren(QWidget):
            turn_wheel(child, 120)
            turn_wheel(child, -120)
            turn_wheel(child, -120)
        for control in (c for c in controls if not isinstance(c, QAbstractSlider)):
            # Elsewhere they show another image.
            QTest.keyClick(control, Qt.Key.Key_PageUp)
            for _ in range(2):
                QTest.keyClick(control, Qt.Key.Key_PageDown)
        for control, value in zip(controls, before, strict=True):
            if value_of(control) != value:
                changed.append((kind.__name__, type(control).__name__, control.accessibleName()))
        pd.testing.assert_frame_equal(state.table(), table)
        n_controls += len(controls)
    assert n_controls > 40
    assert not changed
