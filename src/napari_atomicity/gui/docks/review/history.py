"""The history: what was done, in a list; a click goes there."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime
from html import escape
from typing import Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QFont, QKeyEvent, QPalette
from qtpy.QtWidgets import QAbstractItemView, QListView, QWidget

from ....state.window_state import Step
from ...controls.drawing import faint
from ...controls.forms import fill_column, wrapped_label
from ...controls.questions import attempt
from ...controls.refresher import FollowingWidget, single_shot
from ...viewer.binding import Binding

START = "Initial state"
_MAX_NAMED = 3
"""Steps that change more clusters do not name them."""
_MOVES = (
    Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown, Qt.Key.Key_Home,
    Qt.Key.Key_End, Qt.Key.Key_Tab, Qt.Key.Key_Backtab,
)  # fmt: skip


def format_step(step: Step) -> str:
    """Format a step and its image, if there is one that its description does not name."""
    images, ids = list(step.images), step.cluster_ids
    parts = [f"{len(images)} images"] if len(images) > 1 else images
    parts = [part for part in parts if f" {part} " not in f" {step.title} "]
    if len(images) == 1 and 0 < len(ids) <= _MAX_NAMED:
        parts.append(f"cluster{'s' * (len(ids) > 1)} {', '.join(map(str, sorted(ids)))}")
    return " · ".join(filter(None, [step.title, ", ".join(parts)]))


def format_time(time: datetime) -> str:
    """Format a time in the local time zone, as in ``14:05:09``."""
    return time.astimezone().strftime("%H:%M:%S")


class HistoryModel(QAbstractListModel):
    """Steps for a list: the initial state, steps that are done, and steps that are undone.

    The number of a row is the number of steps that are done in its state.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._steps: tuple[Step, ...] = ()
        self.n_done = 0

    def show(self, done: tuple[Step, ...], undone: tuple[Step, ...]) -> None:
        """Show another history; only rows that differ are updated."""
        steps = (*done, *reversed(undone))
        same = 0
        for a, b in zip(self._steps, steps, strict=False):
            # A step that was undone and redone is another object with the same time.
            if a is not b and (a.time, a.description) != (b.time, b.description):
                break
            same += 1
        if same < len(self._steps):
            self.beginRemoveRows(QModelIndex(), same + 1, len(self._steps))
            self._steps = self._steps[:same]
            self.endRemoveRows()
        if same < len(steps):
            self.beginInsertRows(QModelIndex(), same + 1, len(steps))
            self._steps = steps
            self.endInsertRows()
        self._steps = steps
        changed = sorted((self.n_done, len(done)))
        self.n_done = len(done)
        last = min(changed[1], len(steps))
        self.dataChanged.emit(self.index(min(changed[0], last)), self.index(last))

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self._steps) + 1

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = index.row()
        step = self._steps[row - 1] if row else None
        if role == Qt.ItemDataRole.DisplayRole:
            return START if step is None else format_step(step)
        if role == Qt.ItemDataRole.ToolTipRole:
            if step is None:
                return "Undo all."
            who = f"{step.annotator}, {format_time(step.time)}: {', '.join(step.images)}"
            undone = ". Undone." if row > self.n_done else ""
            return f"<p>{escape(who)}{undone}</p>"  # names are not markup
        if role == Qt.ItemDataRole.ForegroundRole and row > self.n_done:
            palette, roles = self.parent().palette(), QPalette.ColorRole
            return faint(palette.color(roles.Text), palette.color(roles.Base))
        if role == Qt.ItemDataRole.FontRole and (row > self.n_done or row == self.n_done):
            font = QFont(self.parent().font())
            font.setItalic(row > self.n_done)
            font.setBold(row == self.n_done)
            return font
        return None


class _List(QListView):
    """A list that handles only the keys that move in it; others reach the canvas."""

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        if event.key() in _MOVES:
            super().keyPressEvent(event)
        else:
            event.ignore()


class EditHistory(FollowingWidget):
    """All steps of the session, the newest below; those that are undone are grey.

    Signals: ``gone()`` after a click has taken steps back or done them again.
    """

    follows = ("changed", "project_changed")
    # Going a hundred steps back changes the history a hundred times.
    delay_ms = 30
    gone = Signal()

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self._label_mode = binding.label_mode
        self.model = HistoryModel(self)
        self.view = _List()
        self.view.setModel(self.model)
        self.view.setUniformItemSizes(True)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.view.setAccessibleName("History")
        self.view.setToolTip(
            "Click a step to return to it. Later steps are undone and can be redone until the next "
            "edit."
        )
        self.view.setMinimumHeight(8 * self.fontMetrics().height())
        self.view.clicked.connect(self._on_clicked)
        self.empty = wrapped_label()
        self.empty.setText("No steps yet. Labels that you assign are listed here.")
        fill_column(self, self.empty, self.view)
        self._goal = self._expected = 0
        self._walker = single_shot(self._walk, owner=self)

    def refresh(self) -> None:
        self.model.show(tuple(self.state.history), self.state.history.undone)
        there = self.model.rowCount() > 1
        self.view.setVisible(there)
        self.empty.setVisible(not there)
        here = self.model.index(self.model.n_done)
        self.view.setCurrentIndex(here)
        self.view.scrollTo(here)

    def _on_clicked(self, index: QModelIndex) -> None:
        self._goal = index.row()
        self._expected = len(self.state.history)
        self._walk()

    def _walk(self) -> None:
        """Go one step towards the clicked one, and the next in another turn of the event loop.

        An edit in between ends it.
        """
        if self.state.busy:  # a long step takes several turns
            self._walker.start()
            return
        here = len(self.state.history)
        if here == self._goal or here != self._expected:
            self.gone.emit()
            return
        self._expected = here + (1 if self._goal > here else -1)
        review = self._label_mode.review
        # What is selected again is no click by which a person goes on in a review.
        with nullcontext() if review is None else review.selecting():
            done = attempt(lambda: self.state.history.go_to(self._expected), self.gone.emit)
        if not done:
            return
        if not self.state.busy and len(self.state.history) == here:  # nothing to do again
            self.gone.emit()
        else:
            self._walker.start()
