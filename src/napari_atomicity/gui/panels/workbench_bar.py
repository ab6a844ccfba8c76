"""The bar of the main window: undo and redo, the running task, the annotator and blind mode."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QToolBar,
    QWidget,
)

from ...core.text import pluralise
from ...state.window_state import Step, TaskState
from .. import tasks
from ..controls.drawing import ProgressBar
from ..controls.forms import as_key_event, fill_row, keep_room
from ..controls.questions import attempt
from ..controls.refresher import FollowingWidget
from ..controls.settings import ANNOTATOR, settings
from ..controls.shortcuts import (
    EVERYWHERE,
    bind_to_viewer,
    format_key,
    in_text_field,
    set_reading_order,
)
from ..viewer.binding import Binding, binding_of
from ..viewer.clusters.labelling import focus_canvas
from ..viewer.layers.status_line import show_message
from .dock_windows import PanelStyle, main_window

# ---- the annotator and blind mode

BLIND = (
    "Blind mode hides predictions and the labels of others. Your labels are stored separately and "
    "count only for clusters without an open label. Undo takes back blind steps in blind mode, and "
    "the others outside it. Labels and marks of each annotator are in the project under their "
    "name: enter a name to continue with those of that annotator."
)
IS_BLIND = "Blind: predictions and labels of others are hidden"
NO_PROJECT = "Open a folder or a project first: its file stores the labels of several annotators."
READ_ONLY = "This project is read-only: blind labels could not be stored in it."
_NAME_CHARACTERS = 14


class AnnotatorForm(FollowingWidget):
    """The annotator's name, which is remembered, and the switch to blind mode, in one line."""

    follows = ("annotator_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self._binding = binding
        self.name = QLineEdit()
        self.name.setAccessibleName("Annotator")
        self.name.setToolTip(
            "Name of the annotator, stored with each label. Default: your user name."
        )
        self.name.setFixedWidth(_NAME_CHARACTERS * self.fontMetrics().averageCharWidth())
        self.name.editingFinished.connect(self._on_name)
        self.blind = QCheckBox("Blind")
        self.blind.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.blind.toggled.connect(self._on_blind)
        label = QLabel("Annotator")
        label.setBuddy(self.name)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        for widget in (label, self.name, self.blind):
            row.addWidget(widget)

    def _on_name(self) -> None:
        n_steps, before = len(self.state.history), self.state.annotator
        attempt(lambda: setattr(self.state, "annotator", self.name.text()))
        if self.state.blind and self.state.annotator != before:
            self._show_kept_steps(n_steps, f"as {before}")
        settings().setValue(ANNOTATOR, self.state.annotator)
        self.refresh()

    def _on_blind(self, on: bool) -> None:
        self._binding.stop_polygons()  # blind annotators draw none
        n_steps, lost = len(self.state.history), list[int]()
        attempt(lambda: lost.append(self.state.set_blind(on)))
        if not self.state.blind:
            self._show_kept_steps(n_steps, "in blind mode", sum(lost))
        self.refresh()

    def _show_kept_steps(self, n: int, where: str, n_lost: int = 0) -> None:
        """Say where the blind steps can be undone, because *Undo* takes back others now."""
        said = [f"{pluralise(n, 'blind step')} can be undone {where} only"] if n else []
        if n_lost:
            said.append(f"{pluralise(n_lost, 'step')} before, in the same images, no longer")
        if said:
            show_message(self._binding.viewer, "; ".join(said))

    def refresh(self) -> None:
        state = self.state
        if not self.name.hasFocus() or self.name.text() != state.annotator:
            self.name.setText(state.annotator)
        with QSignalBlocker(self.blind):
            self.blind.setChecked(state.blind)
        reason = NO_PROJECT if state.project is None else READ_ONLY if state.read_only else ""
        self.blind.setEnabled(state.blind or not reason)
        words = f"{IS_BLIND}. {BLIND}" if state.blind else f"{BLIND} Default: off."
        self.blind.setToolTip(reason or _as_paragraph(words))


def _as_paragraph(text: str) -> str:
    """Return a text for a tooltip that wraps."""
    return f"<p>{text}</p>"


# ---- the running task in one line: progress, Cancel, and its message

_MIN_CHARACTERS = 8
_BAR_WIDTH_PX = 48
_TITLES = {
    TaskState.RUNNING: "Running task",
    TaskState.STOPPED: "Stopped task",
    TaskState.FAILED: "Failed task",
}
"""States whose message is shown; of a finished task the result is shown."""


class MessageLine(QAbstractButton):
    """A text that is shortened to the room that there is; a click on it opens it in full.

    It paints its text, because a label would lay out the window anew at every message.
    """

    def __init__(self) -> None:
        super().__init__()
        self.message = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName("Status")

    def show_message(self, message: str) -> None:
        """Show a message."""
        if message != self.message:
            self.message = message
            self.setToolTip(f"{message}\n\nClick to read and copy it.")
            self.setAccessibleDescription(message)
            self.update()

    def sizeHint(self) -> QSize:  # noqa: N802
        metrics = self.fontMetrics()
        return QSize(_MIN_CHARACTERS * metrics.averageCharWidth(), metrics.lineSpacing())

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setPen(self.palette().windowText().color())
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.drawText(self.rect(), left, self.shortened())

    def shortened(self) -> str:
        """Return as much of the message as there is room for; a time left is never cut."""
        words, metrics = " ".join(self.message.split()), self.fontMetrics()
        head, comma, tail = words.rpartition(", ")
        if not tail.endswith(" left"):
            head, comma, tail = words, "", ""
        room = self.width() - metrics.horizontalAdvance(comma + tail)
        head = metrics.elidedText(head, Qt.TextElideMode.ElideRight, room)
        return head + comma + tail if head else tail


class TaskLine(FollowingWidget):
    """Progress bar, Cancel and message of the window's task; if none runs, room for them."""

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self.bar = ProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName("Progress")
        self.bar.setFixedSize(_BAR_WIDTH_PX, self.fontMetrics().height())
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop the running task. Files that are complete stay.")
        self.cancel_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.cancel_button.clicked.connect(self._cancel)
        self.message = MessageLine()
        self.message.clicked.connect(self._open_message)
        fill_row(self, self.bar, self.cancel_button, (self.message, 1))
        keep_room(self.bar, self.cancel_button, self.message)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.show_status()

    def _cancel(self) -> None:
        tasks.cancel(self.state)

    def show_status(self) -> None:
        status = self.state.status
        runs, failed = (status.state is s for s in (TaskState.RUNNING, TaskState.FAILED))
        self.bar.setVisible(runs)
        self.cancel_button.setVisible(runs)
        self.message.setVisible(status.state in _TITLES and bool(status.message))
        self.message.show_message(f"⚠ {status.message}" if failed else status.message)
        self.bar.setToolTip(status.message)
        self.bar.setMaximum(status.total)
        self.bar.setValue(status.done)

    def _open_message(self) -> None:
        """Open a window with the whole message, which can be selected and copied."""
        status = self.state.status
        failed = status.state is TaskState.FAILED
        icon = QMessageBox.Icon.Warning if failed else QMessageBox.Icon.Information
        close = QMessageBox.StandardButton.Close
        box = QMessageBox(icon, _TITLES[status.state], status.message, close, self.window())
        box.setTextFormat(Qt.TextFormat.PlainText)
        flags = Qt.TextInteractionFlag
        box.setTextInteractionFlags(flags.TextSelectableByMouse | flags.TextSelectableByKeyboard)
        box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        box.open()


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
        self.undo.clicked.connect(binding.label_mode.undo)
        self.redo = QPushButton("Redo")
        self.redo.clicked.connect(binding.label_mode.redo)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        for button in (self.undo, self.redo):
            # After a click the keys of the canvas go on working.
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            row.addWidget(button)
        bind_to_viewer(binding.viewer, EVERYWHERE, binding.edits)

    def refresh(self) -> None:
        keys = {shortcut.name: format_key(shortcut.keys[0]) for shortcut in EVERYWHERE}
        history = self.state.history
        self._warn_of_lost_steps()
        for button, steps in ((self.undo, history), (self.redo, history.undone)):
            button.setEnabled(bool(steps) and not self.state.read_only)
            what = steps[-1].title if steps else "nothing"
            key = keys[button.text().lower()]
            button.setToolTip(f"{button.text()}: {what} ({key}).")
            button.setAccessibleDescription(what)

    def _warn_of_lost_steps(self) -> None:
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
        self.fit.clicked.connect(binding.canvas.view.fit_shown)
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
        """Keep from the canvas what a text field of the bar leaves."""
        if event.type() != QEvent.Type.KeyPress or not in_text_field(main, as_key_event(event)):
            return False
        key, entered = as_key_event(event).key(), main.focusWidget() is self.annotator.name
        # After a name is entered, Ctrl+Z undoes a step, and not the name.
        if key == Qt.Key.Key_Escape or (entered and key in (Qt.Key.Key_Return, Qt.Key.Key_Enter)):
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
