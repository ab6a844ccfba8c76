"""Selection of tiles with a rubber band, which scrolls the view at its edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from qtpy.QtCore import QObject, QPoint, QRect, Qt, QTimer
from qtpy.QtWidgets import QAbstractScrollArea, QApplication

from .painter import GalleryGrid

_SCROLL_MS = 30
_SHIFT, _CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


class RubberBandSelection(QObject):
    """A drag over tiles; points are positions in the content, not in the viewport."""

    def __init__(self, view: QAbstractScrollArea, grid: Callable[[], GalleryGrid]) -> None:
        super().__init__(view)
        self._view, self._grid = view, grid
        self._start: QPoint | None = None
        self._end: QPoint | None = None
        self.before = np.zeros(0, bool)
        """Selection at the start of the drag, by position."""
        self.preview: np.ndarray | None = None
        """Selection by the band, by position; absent without a band."""
        self._timer = QTimer(self)
        self._timer.setInterval(_SCROLL_MS)
        self._timer.timeout.connect(self._scroll)

    @property
    def start(self) -> QPoint | None:
        """Where the mouse was pressed; None without a drag."""
        return self._start

    @property
    def box(self) -> QRect | None:
        """The band; None while the mouse has hardly moved."""
        if self._start is None or self._end is None:
            return None
        return QRect(self._start, self._end).normalized()

    def press(self, point: QPoint, selected: np.ndarray) -> None:
        """Begin a drag with these tiles selected."""
        self._start, self.before = point, selected.copy()

    def move(self, point: QPoint, modifiers: Qt.KeyboardModifier, outside: bool) -> None:
        """Extend the band to a point; scroll while the mouse is outside the view."""
        if self._start is None:
            return
        far = (point - self._start).manhattanLength() >= QApplication.startDragDistance()
        if self._end is None and not far:
            return
        self._end = point
        self._update_preview(modifiers)
        self._timer.start() if outside else self._timer.stop()

    def clear(self) -> None:
        """End the drag."""
        self._timer.stop()
        self._start = self._end = self.preview = None

    def _update_preview(self, modifiers: Qt.KeyboardModifier) -> None:
        box, grid = self.box, self._grid()
        if box is None:
            return
        mask = np.zeros(len(grid), bool)
        mask[grid.within(box.left(), box.top(), box.right() + 1, box.bottom() + 1)] = True
        if modifiers & _CONTROL:
            mask = self.before ^ mask
        elif modifiers & _SHIFT:
            mask = self.before | mask
        self.preview = mask
        self._view.viewport().update()

    def _scroll(self) -> None:
        viewport, bar = self._view.viewport(), self._view.verticalScrollBar()
        here, step = viewport.mapFromGlobal(self._view.cursor().pos()), self._grid().cell[1] // 2
        if here.y() < 0:
            bar.setValue(bar.value() - step)
        elif here.y() > viewport.height():
            bar.setValue(bar.value() + step)
        if self._end is not None:
            self._end = here + QPoint(0, bar.value())
            self._update_preview(QApplication.keyboardModifiers())
