"""The view of the dock Table, with the selection as a mask of rows."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QEvent, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QKeySequence, QMouseEvent, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from ..controls.cluster_rows import after_click, position_to_show
from ..controls.forms import leave_letters
from .model import ClusterModel

_SHIFT, _CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


class _Selected(QStyledItemDelegate):
    """Paints selected rows with a highlighted background."""

    def __init__(self, model: ClusterModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._model = model

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        model = self._model
        if model.rows.selected[model.order[index.row()]]:
            colour = QColor(option.palette.windowText().color())
            colour.setAlphaF(0.22)
            painter.fillRect(option.rect, colour)
        super().paint(painter, option, index)


class ClusterView(QTableView):
    """Rows that are selected by clicks, drags and keys; the selection is a mask of the model.

    Qt's own selection model keeps a pair of indices for each range and compares all with all:
    a few thousand scattered rows would hold up the window.

    Signals: ``picked(rows, whole)``: these rows, a mask, are to be selected, of all or (if not
    whole) of those that are shown; ``activated_at(row)``; ``copy_wanted()``.
    """

    picked = Signal(object, bool)
    activated_at = Signal(int)
    copy_wanted = Signal()

    def __init__(self, model: ClusterModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.clusters = model
        self._anchor: int | None = None
        self._dragging: tuple[int, np.ndarray, bool] | None = None
        leave_letters(self)
        self.setModel(model)
        self.setItemDelegate(_Selected(model, self))
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsClickable(True)
        header.setSectionsMovable(True)
        header.setSortIndicatorShown(True)
        # One column at a time: to measure all cells of 20,000 rows would take seconds.
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.setAccessibleName("Clusters as rows")

    def selected_positions(self) -> np.ndarray:
        """(M,) bool: which of the rows that are shown are selected."""
        return self.clusters.rows.selected[self.clusters.order]

    def _row(self, event: QMouseEvent) -> int:
        return self.rowAt(event.position().toPoint().y())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        row = self._row(event)
        if event.button() != Qt.MouseButton.LeftButton or row < 0:
            return
        extend, add = bool(event.modifiers() & _SHIFT), bool(event.modifiers() & _CONTROL)
        self._dragging = (row, self.selected_positions(), add)
        self._click(row, extend, add)
        at = self.columnAt(event.position().toPoint().x())
        self.setCurrentIndex(self.clusters.index(row, max(at, 0)))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if self._dragging is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        first, before, add = self._dragging
        row, last = self._row(event), len(self.clusters.order) - 1
        if row < 0:  # above the first or below the last
            row = last if event.position().y() > 0 else 0
        if row != self.currentIndex().row() and len(before) == last + 1:
            self._pick(after_click(before, row, first, extend=True, add=add), whole=not add)
            index = self.clusters.index(row, self.currentIndex().column())
            self.setCurrentIndex(index)
            self.scrollTo(index)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._dragging = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        row = self._row(event)
        if event.button() == Qt.MouseButton.LeftButton and row >= 0:
            self.activated_at.emit(int(self.clusters.order[row]))

    def _click(self, row: int, extend: bool, add: bool) -> None:
        mask = after_click(self.selected_positions(), row, self._anchor, extend, add)
        if not extend or self._anchor is None:
            self._anchor = row
        self._pick(mask, whole=not add)

    def _pick(self, mask: np.ndarray, whole: bool) -> None:
        rows = np.zeros(len(self.clusters.rows), bool)
        rows[self.clusters.order[mask]] = True
        self.picked.emit(rows, whole)

    def reset(self) -> None:
        super().reset()
        self._anchor = self._dragging = None

    def event(self, event: QEvent) -> bool:
        # These mean something here, whatever the window means by them.
        ours = (QKeySequence.StandardKey.SelectAll, QKeySequence.StandardKey.Copy)
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and any(event.matches(key) for key in ours)
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        if event.matches(QKeySequence.StandardKey.SelectAll):
            self._pick(np.ones(len(self.clusters.order), bool), whole=True)
        elif event.matches(QKeySequence.StandardKey.Copy):
            self.copy_wanted.emit()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self.currentIndex().isValid():
                self.activated_at.emit(int(self.clusters.order[self.currentIndex().row()]))
        elif event.key() == Qt.Key.Key_Escape and self.clusters.rows.selected.any():
            self._pick(np.zeros(len(self.clusters.order), bool), whole=True)
        else:
            before = self.currentIndex().row()
            super().keyPressEvent(event)
            here = self.currentIndex().row()
            if here not in (before, -1):
                self._click(here, bool(event.modifiers() & _SHIFT), False)

    def show_selected(self) -> None:
        """Scroll until a selected row is wholly visible."""
        selected = self.selected_positions()
        first, last = self.rowAt(0), self.rowAt(self.viewport().height() - 1)
        past = len(selected) if last < 0 else last + 1
        position = position_to_show(selected, max(first, 0), past)
        if position is not None:
            self.scrollTo(self.clusters.index(position, max(self.columnAt(0), 0)))
