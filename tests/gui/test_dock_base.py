"""What all docks have in common: when they are refreshed, and how they end."""

from __future__ import annotations

import gc
import weakref

import pytest
from every_dock import NAMES
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDockWidget,
    QLabel,
    QLineEdit,
    QMainWindow,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from synthetic import made_up

from napari_atomicity.gui.controls.forms import CollapsibleSection, scrolling
from napari_atomicity.gui.panels.dock import Dock
from napari_atomicity.gui.panels.dock_windows import dock_class
from napari_atomicity.gui.panels.session_labels import session_labels_of
from napari_atomicity.gui.viewer.binding import binding_of, state_of


class Counter(Dock):
    """Counts its refreshes."""

    follows = ("changed", "selection_changed")

    def build(self) -> None:
        self.refreshed, self.selected = 0, 0
        self.add_button("Act", "", self.act, enabled_when=self.is_selected)

    def act(self) -> None:
        self.refreshed = -1

    def is_selected(self) -> bool:
        return bool(self.state.selection)

    def refresh(self) -> None:
        self.refreshed += 1

    def refresh_selection(self) -> None:
        self.selected += 1


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    state.clusters.set_analysis(made_up(6))
    return state


@pytest.fixture
def counter(viewer, state):
    dock = Counter(viewer)
    viewer.window.add_dock_widget(dock, name="Counter")
    return dock


def relabel(state, times: int = 3) -> None:
    for i in range(times):
        state.clusters.relabel([("field", i + 1)], "Pt70")


def test_a_visible_dock_is_refreshed_once_after_several_changes(counter, state, qtbot):
    assert counter.refreshed == 1  # when it was shown
    relabel(state)
    assert counter.refreshed == 1
    qtbot.waitUntil(lambda: counter.refreshed == 2)
    qtbot.wait(20)
    assert counter.refreshed == 2


def test_a_hidden_dock_is_refreshed_when_it_is_shown_again(counter, state, qtbot):
    counter.hide()
    relabel(state)
    state.select([("field", 1)])
    qtbot.wait(20)
    assert (counter.refreshed, counter.selected) == (1, 0)
    counter.show()
    assert (counter.refreshed, counter.selected) == (2, 0)
    counter.hide()
    counter.show()
    assert counter.refreshed == 2


def test_a_selection_alone_is_shown_at_once(counter, state):
    state.select([("field", 1)])
    assert (counter.refreshed, counter.selected) == (1, 1)


MESSAGE = "A message that is long enough to need two lines in a dock of this width."
OF_A_REVIEW = {"Pace", "Accuracy from the answers"}
"""Parts that are shown when a review begins, and stay."""


def places(dock) -> dict[QWidget, QPoint]:
    """Return where the controls of a dock are."""
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit)
    controls = [c for kind in kinds for c in dock.findChildren(kind) if c.isVisible()]
    return {control: control.mapTo(dock, QPoint()) for control in controls}


def settled_places(dock, qtbot) -> dict[QWidget, QPoint]:
    before: list[dict] = [{}]

    def is_stable():
        before.append(places(dock))
        return before[-1] == before[-2]

    qtbot.waitUntil(is_stable)
    return before[-1]


def test_no_control_moves_when_a_message_appears(viewer, state, settle, qtbot):
    moved = []
    for name in sorted(NAMES - {"Overview"}):  # a dock of other docks
        dock = dock_class(name)(viewer)
        qtbot.addWidget(dock)
        dock.resize(420, 1000)
        dock.show()
        settle(viewer)
        for label in dock.findChildren(QLabel):
            parent = label.parentWidget()
            if not label.wordWrap() or not parent.isVisible():
                continue
            if label.accessibleName() in OF_A_REVIEW:
                continue
            before, text, shown = settled_places(dock, qtbot), label.text(), label.isVisible()
            label.setText(MESSAGE)
            label.show()
            after = settled_places(dock, qtbot)
            if any(after.get(control) != place for control, place in before.items()):
                moved.append((name, label.accessibleName(), text))
            label.setText(text)
            label.setVisible(shown)
        dock.hide()
    assert not moved


def test_no_control_moves_when_a_box_in_the_settings_is_ticked(viewer, state, settle, qtbot):
    moved = []
    for name in sorted(NAMES - {"Overview"}):
        dock = dock_class(name)(viewer)
        qtbot.addWidget(dock)
        dock.resize(420, 400)  # lower than the settings, which are scrolled to
        dock.show()
        settle(viewer)
        for section in dock.findChildren(CollapsibleSection):
            if section.button.text() != "Settings" or not section.isVisible():
                continue
            section.button.click()
            for box in section.findChildren(QCheckBox):
                if not box.isVisible():
                    continue
                for area in dock.findChildren(QScrollArea):
                    area.ensureWidgetVisible(box)
                before = settled_places(dock, qtbot)
                box.click()
                after = settled_places(dock, qtbot)
                if any(after.get(c, place) != place for c, place in before.items()):
                    moved.append((name, box.text()))
                box.click()
        dock.hide()
    assert not moved


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_removed_dock_is_deleted_and_follows_nothing(name, viewer, state, settle, qtbot):
    signals = [
        state.changed, state.selection_changed, state.images_changed, state.current_changed,
        state.project_changed, state.status_changed, state.atoms.changed,
    ]  # fmt: skip
    session_labels_of(binding_of(viewer))  # of the window, whichever docks are open
    before = [len(signal) for signal in signals]
    dock = dock_class(name)(viewer)
    viewer.window.add_dock_widget(dock, name=name)
    settle(viewer)
    reference = weakref.ref(dock)
    viewer.window.remove_dock_widget(dock)
    del dock

    def is_deleted():
        gc.collect()
        return reference() is None

    qtbot.waitUntil(is_deleted)
    assert [len(signal) for signal in signals] == before
    relabel(state)


def test_a_dock_grows_with_a_content_that_becomes_wider(qtbot):
    """Without a horizontal scroll bar, what does not fit could not be seen."""
    main, dock, content = QMainWindow(), QDockWidget(), QWidget()
    qtbot.addWidget(main)
    column = QVBoxLayout(content)
    column.addWidget(QLabel("narrow"))
    dock.setWidget(scrolling(content))
    main.setCentralWidget(QWidget())
    main.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    main.resize(900, 400)
    main.show()
    qtbot.waitUntil(lambda: 0 < dock.width() < 400)
    wide = QLabel("wide")
    wide.setMinimumWidth(500)
    column.addWidget(wide)
    qtbot.waitUntil(lambda: dock.width() >= 500)
