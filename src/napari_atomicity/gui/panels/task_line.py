"""The running task in one line: progress, Cancel, and its message."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent
from qtpy.QtWidgets import QAbstractButton, QHBoxLayout, QMessageBox, QPushButton, QSizePolicy

from ...state.window_state import TaskState
from .. import tasks
from ..controls.drawing import ProgressBar
from ..controls.forms import keep_room
from ..controls.refresher import FollowingWidget
from ..viewer.binding import Binding

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
        return metrics.elidedText(head, Qt.TextElideMode.ElideRight, room) + comma + tail


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
        self.cancel_button.setToolTip("Stop the running task. An unfinished result is discarded.")
        self.cancel_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.cancel_button.clicked.connect(self._cancel)
        self.message = MessageLine()
        self.message.clicked.connect(self._open_message)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar)
        row.addWidget(self.cancel_button)
        row.addWidget(self.message, 1)
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
