"""The bar of the main window: undo and redo, the running task, the annotator and blind mode."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QToolBar,
    QWidget,
)

from ...core.text import pluralise
from ...state.window_state import Step
from ..controls.focus import set_reading_order
from ..controls.refresher import FollowingWidget
from ..controls.shortcuts import UNDO, bind_to_viewer, format_key
from ..viewer.binding import Binding, binding_of
from ..viewer.key_events import as_key_event
from ..viewer.labelling import focus_canvas
from ..viewer.status_line import show_message
from .annotator import AnnotatorForm
from .dock_windows import main_window
from .panel_style import PanelStyle
from .task_line import TaskLine

NAME = "Atomicity workbench"


class UndoButtons(FollowingWidget):
    """Undo and Redo, with what they would undo or redo as tooltip."""

    follows = ("changed", "images_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self._binding = binding
        self._undone: tuple[Step, ...] = ()
        self.undo = QPushButton("Undo")
        self.undo.clicked.connect(binding.undo)
        self.redo = QPushButton("Redo")
        self.redo.clicked.connect(binding.redo)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        for button in (self.undo, self.redo):
            # After a click the keys of the canvas go on working.
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            row.addWidget(button)
        bind_to_viewer(binding.viewer, UNDO, binding)

    def refresh(self) -> None:
        keys = {shortcut.name: format_key(shortcut.keys[0]) for shortcut in UNDO}
        history = self.state.history
        self._tell_of_lost_steps()
        for button, steps in ((self.undo, history), (self.redo, history.undone)):
            button.setEnabled(bool(steps) and not self.state.read_only)
            what = steps[-1].description if steps else "nothing"
            key = keys[button.text().lower()]
            button.setToolTip(f"{button.text()}: {what} ({key}).")
            button.setAccessibleDescription(what)

    def _tell_of_lost_steps(self) -> None:
        """Say how many undone steps an edit has put out of reach."""
        history, before = self.state.history, self._undone
        self._undone = history.undone
        if before and len(history) and not self._undone:
            # A step that was redone is another object with the same time.
            done = {step.time for step in history[-len(before) :]}
            lost = sum(step.time not in done for step in before)
            if lost:
                steps = pluralise(lost, "undone step")
                show_message(self._binding.viewer, f"{steps} can no longer be redone")


class WorkbenchBar(QToolBar):
    """What all docks share, in one line at the top of the main window."""

    def __init__(self, binding: Binding) -> None:
        super().__init__(NAME)
        self.setObjectName(NAME)
        self.setAccessibleName(NAME)
        self.setMovable(False)
        self.setFloatable(False)
        # No menu offers to hide it.
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        self.toggleViewAction().setVisible(False)
        PanelStyle(self, binding)
        self._binding = binding
        self.history = UndoButtons(binding)
        self.fit = QPushButton("Fit")
        self.fit.setToolTip("Show the whole image.")
        self.fit.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.fit.clicked.connect(partial(binding.viewer.reset_view, margin=0.02))
        self.task = TaskLine(binding)
        self.annotator = AnnotatorForm(binding)
        for part in (self.history, self.fit, self.annotator):
            _fix_width(part)
        self._first = self.addWidget(self.history)
        self.addWidget(self.fit)
        self.addWidget(self.task)
        self.addWidget(self.annotator)
        set_reading_order(self)
        main_window(binding.viewer).installEventFilter(self)

    def eventFilter(self, main: Any, event: QEvent) -> bool:  # noqa: N802
        """Let Esc in a field return to the canvas, where the same key would end a review."""
        if event.type() != QEvent.Type.KeyPress or as_key_event(event).key() != Qt.Key.Key_Escape:
            return False
        if not isinstance(main.focusWidget(), QLineEdit | QAbstractSpinBox):
            return False
        focus_canvas(self._binding.viewer)
        return True

    def add_at_left(self, widget: QWidget) -> None:
        """Add a widget before all others."""
        _fix_width(widget)
        self._first = self.insertWidget(self._first, widget)
        set_reading_order(self)


def _fix_width(part: QWidget) -> None:
    """Leave the rest of the bar to the message of the task."""
    part.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)


def workbench_bar(viewer: Any) -> WorkbenchBar:
    """Return the bar of a viewer's main window, which the first call makes."""
    binding = binding_of(viewer)
    main = main_window(binding.viewer)
    only = Qt.FindChildOption.FindDirectChildrenOnly
    bar = main.findChild(WorkbenchBar, options=only)
    if bar is None:
        bar = WorkbenchBar(binding)
        main.addToolBar(Qt.ToolBarArea.TopToolBarArea, bar)
    return bar
