"""The scrolling grid of the gallery: paints visible tiles, handles clicks and keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import (
    QEvent,
    QModelIndex,
    QObject,
    QPoint,
    QPointF,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from qtpy.QtGui import (
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QRegion,
    QResizeEvent,
)
from qtpy.QtWidgets import QAbstractItemView, QAbstractScrollArea, QApplication, QWidget

from ...core.tables.cluster_table import Key
from ..controls.cluster_rows import after_click, position_to_show
from ..controls.refresher import single_shot
from ..controls.shortcuts import GALLERY, Shortcut
from .model import GalleryModel
from .painter import MARGIN, GalleryGrid, PaintFrame, text_height

# ---- the rectangle that selects
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


# ---- keys of the gallery: shortcuts, and the arrows that move between tiles

_PORTABLE = QKeySequence.SequenceFormat.PortableText


def shortcut_of(event: QKeyEvent) -> tuple[Shortcut, str] | None:
    """Return the shortcut of a key and the key; None if it has no shortcut.

    Digits and letters are recognised by the text that they write, on any keyboard layout.
    """
    other = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier
    text = event.text()
    if not event.modifiers() & other and text.isprintable() and text.strip():
        names = {text.upper()}
    else:
        names = {QKeySequence(event.keyCombination()).toString(_PORTABLE)}
    if event.key() == Qt.Key.Key_Enter:
        names = {"Return"}
    for shortcut in GALLERY:
        for key in shortcut.keys:
            if _portable(key) in names:
                return shortcut, key
    return None


def _portable(key: str) -> str:
    """Return a key as Qt writes it; napari writes ``Control-Z``."""
    return QKeySequence(key.replace("Control", "Ctrl").replace("-", "+")).toString(_PORTABLE)


def position_after_key(grid: GalleryGrid, position: int, key: int, page: int) -> int | None:
    """Return the position that a movement key leads to."""
    steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
    rows = {
        Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1,
        Qt.Key.Key_PageUp: -page, Qt.Key.Key_PageDown: page,
    }  # fmt: skip
    last = len(grid) - 1
    if last < 0 or key not in {*steps, *rows, Qt.Key.Key_Home, Qt.Key.Key_End}:
        return None
    if position < 0:
        return 0
    if key in steps:
        return min(max(position + steps[key], 0), last)
    if key in rows:
        return grid.position_below(position, rows[key])
    return 0 if key == Qt.Key.Key_Home else last


SIDES_PX = (32, 192)
"""Smallest and largest edge of a patch in logical pixels."""
USUAL_SIDE_PX = 72

# Pictures are made for so long per paint event; the rest follow in the next one.
_BUDGET_S = 0.02
_SHIFT, _CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


class GalleryView(QAbstractItemView):
    """Tiles in sections; the selection is the mask of the rows of the model.

    Signals: ``picked(rows, whole)``: select the rows of this mask, among all rows or (if not
    ``whole``) among the visible ones; ``activated_at(row)``; ``shortcut_pressed(shortcut,
    key)``.
    """

    picked = Signal(object, bool)
    activated_at = Signal(int)
    shortcut_pressed = Signal(object, str)

    def __init__(self, model: GalleryModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.gallery = model
        self.side = USUAL_SIDE_PX
        self.strays = np.zeros(0, int)
        self._grid = GalleryGrid(np.zeros(0, int), 1, (1, 1), 0)
        self._anchor: int | None = None
        self._pressed_header: int | None = None
        self._band = RubberBandSelection(self, lambda: self._grid)
        self._more = single_shot(self.viewport().update, owner=self)
        self.setModel(model)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Clusters as tiles")
        self.setMinimumHeight(6 * self.fontMetrics().height())

    # ---- geometry
    def _layout(self) -> None:
        model, line = self.gallery, text_height(self)
        cell = (self.side + 2 * MARGIN, self.side + 2 * MARGIN + line)
        header = round(1.6 * self.fontMetrics().height())
        counts = model.arrangement.counts() if model.rowCount() else np.zeros(0, int)
        alone = model.sorting.group == "nothing"
        self._grid = GalleryGrid(
            counts, max(self.viewport().width(), 1), cell, 0 if alone else header
        )

    def relayout(self, row: int | None = None, y: int = 0) -> None:
        """Arrange the tiles; keep the tile of a row, if given, at height ``y`` of the view."""
        self._layout()
        self.updateGeometries()
        if row is not None:
            position = self.position_of(row)
            if position is not None:
                self.verticalScrollBar().setValue(self._grid.corner(position)[1] - y)
        self.viewport().update()

    def anchor(self) -> tuple[int, int] | None:
        """Return the row and height of a visible tile: the first selected one, else the first.

        This tile stays in place when others are added or removed.
        """
        if not len(self._grid):
            return None
        top = self.verticalOffset()
        first, past = self._grid.visible(top, top + self.viewport().height())
        positions = np.arange(first, past)
        _, ys = self._grid.corners(positions)
        whole = positions[(ys >= top) & (ys + self._grid.cell[1] <= top + self.viewport().height())]
        whole = whole if len(whole) else positions[:1]
        selected = whole[_shown_selection(self)[whole]]
        position = int([*selected, *whole, len(self._grid) - 1][0])
        return int(self.gallery.arrangement.order[position]), self._grid.corner(position)[1] - top

    def position_of(self, row: int) -> int | None:
        found = np.flatnonzero(self.gallery.arrangement.order == row)
        return int(found[0]) if len(found) else None

    def current(self) -> tuple[Key, int] | None:
        """Return key and position of the tile with the dotted frame, where arrow keys start."""
        position = self.currentIndex().row()
        if not 0 <= position < len(self._grid):
            return None
        return self.gallery.rows.key_of(int(self.gallery.arrangement.order[position])), position

    def set_current(self, current: tuple[Key, int] | None) -> None:
        """Put the dotted frame on the same cluster, or at its position if it was removed."""
        if current is None or not len(self._grid):
            return
        rows = np.flatnonzero(self.gallery.rows.mask_of([current[0]]))
        found = self.position_of(int(rows[0])) if len(rows) else None
        position = min(current[1], len(self._grid) - 1) if found is None else found
        self.setCurrentIndex(self.gallery.index(position))

    def updateGeometries(self) -> None:  # noqa: N802
        super().updateGeometries()
        bar, page = self.verticalScrollBar(), self.viewport().height()
        bar.setPageStep(page)
        bar.setSingleStep(max(self._grid.cell[1] // 3, 1))
        bar.setRange(0, max(0, self._grid.height - page))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        kept = self.anchor()
        super().resizeEvent(event)
        self.relayout(*kept) if kept is not None else self.relayout()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.relayout()

    def scrollContentsBy(self, dx: int, dy: int) -> None:  # noqa: N802
        self.viewport().update()

    def horizontalOffset(self) -> int:  # noqa: N802
        return 0

    def verticalOffset(self) -> int:  # noqa: N802
        return self.verticalScrollBar().value()

    def isIndexHidden(self, index: QModelIndex) -> bool:  # noqa: N802
        return False

    def visualRect(self, index: QModelIndex) -> QRect:  # noqa: N802
        if not index.isValid() or index.row() >= len(self._grid):
            return QRect()
        x, y = self._grid.corner(index.row())
        return QRect(x, y - self.verticalOffset(), int(self._grid.step), self._grid.cell[1])

    def indexAt(self, point: QPoint) -> QModelIndex:  # noqa: N802
        cell = self._grid.cell_at(point.x(), point.y() + self.verticalOffset())
        return QModelIndex() if cell is None else self.gallery.index(cell)

    def scrollTo(self, index: QModelIndex, hint: Any = None) -> None:  # noqa: N802
        box, bar = self.visualRect(index), self.verticalScrollBar()
        above = self._grid.header  # the header of the section stays on top
        if box.top() < above:
            bar.setValue(bar.value() + box.top() - above)
        elif box.bottom() > self.viewport().height():
            bar.setValue(bar.value() + box.bottom() - self.viewport().height() + 1)

    def setSelection(self, rect: QRect, command: Any) -> None:  # noqa: N802
        """Do nothing: the selection is a mask, and the one of Qt stays empty."""

    def visualRegionForSelection(self, selection: Any) -> QRegion:  # noqa: N802
        return QRegion(self.viewport().rect())

    def show_selected(self) -> None:
        """Scroll until a selected tile is wholly visible."""
        top = self.verticalOffset()
        first, past = self._grid.visible(top, top + self.viewport().height())
        position = position_to_show(_shown_selection(self), first, past)
        if position is not None:
            self.scrollTo(self.gallery.index(position))

    # ---- painting
    def waiting(self) -> bool:
        """Return whether some visible pictures are not made yet."""
        return self._more.isActive()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        start = time.perf_counter()
        painter = QPainter(self.viewport())
        top, height = self.verticalOffset(), self.viewport().height()
        positions = np.arange(*self._grid.visible(top, top + height))
        if len(positions):
            pixmaps, all_there = self.gallery.pixmaps(
                positions,
                self.side,
                self.devicePixelRatioF(),
                lambda: time.perf_counter() - start > _BUDGET_S,
            )
            self._more.stop() if all_there else self._more.start(0)
            frame = PaintFrame(self, self.gallery, self.side, painter, self._grid, top)
            current = self.currentIndex().row() if self.hasFocus() else -1
            frame.tiles(positions, pixmaps, _shown_selection(self)[positions], current)
            frame.headers(self.strays)
            if self._band.box is not None:
                frame.band(self._band.box)
        painter.end()

    # ---- the mouse
    def _content(self, event: QMouseEvent) -> QPoint:
        point = event.position() if hasattr(event, "position") else QPointF(event.pos())
        return point.toPoint() + QPoint(0, self.verticalOffset())

    def _header_at(self, point: QPoint) -> int | None:
        """Return the section whose header is shown at a point of the content, or None."""
        return self._grid.header_at(point.y(), self.verticalOffset())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if event.button() != Qt.MouseButton.LeftButton:
            return
        point = self._content(event)
        self._pressed_header = self._header_at(point)  # the view may scroll before the release
        self._band.press(point, _shown_selection(self))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        outside = not self.viewport().rect().contains(event.position().toPoint())
        self._band.move(self._content(event), event.modifiers(), outside)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        pressed, preview, before = self._band.start, self._band.preview, self._band.before
        self._band.clear()
        if pressed is None or event.button() != Qt.MouseButton.LeftButton:
            return
        extend, add = bool(event.modifiers() & _SHIFT), bool(event.modifiers() & _CONTROL)
        if preview is not None:
            if len(preview) == len(self._grid):
                self._pick(preview, whole=not (extend or add))
            self.viewport().update()
            return
        header = self._pressed_header
        if header is not None:
            mask = before if add or extend else np.zeros_like(before)
            group = slice(self._grid.starts[header], self._grid.starts[header + 1])
            mask[group] |= self.gallery.still_fit()[group]
            self._pick(mask, whole=not (add or extend))
            return
        cell = self._grid.cell_at(pressed.x(), pressed.y())
        if cell is not None:
            self._click(cell, extend, add)
        elif not (extend or add):
            self._pick(np.zeros(len(self._grid), bool), whole=True)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        point = self._content(event)
        if event.button() != Qt.MouseButton.LeftButton or self._header_at(point) is not None:
            return
        cell = self._grid.cell_at(point.x(), point.y())
        if cell is not None:
            self.activated_at.emit(int(self.gallery.arrangement.order[cell]))

    def _click(self, cell: int, extend: bool, add: bool) -> None:
        mask = after_click(_shown_selection(self), cell, self._anchor, extend, add)
        if not extend or self._anchor is None:
            self._anchor = cell
        self.setCurrentIndex(self.gallery.index(cell))
        self._pick(mask, whole=not add)

    def _pick(self, mask: np.ndarray, whole: bool) -> None:
        rows = np.zeros(len(self.gallery.rows), bool)
        rows[self.gallery.arrangement.order[mask]] = True
        self.picked.emit(rows, whole)

    def reset(self) -> None:
        """Forget positions, since the order has changed."""
        super().reset()
        self._anchor = None
        self._band.clear()
        self._layout()

    # ---- keys
    def event(self, event: QEvent) -> bool:
        # While the gallery has the focus, its keys override shortcuts of the window.
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and shortcut_of(event) is not None
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        found = shortcut_of(event)
        if found is not None:
            shortcut, key = found
            if not event.isAutoRepeat() or shortcut.repeats:
                self.shortcut_pressed.emit(shortcut, key)
        elif event.key() == Qt.Key.Key_Escape and _shown_selection(self).any():
            self._band.clear()
            self._pick(np.zeros(len(self._grid), bool), whole=True)
        elif not self._move(event):
            event.ignore()

    def select_all(self) -> None:
        """Select all tiles that are shown."""
        self._pick(np.ones(len(self._grid), bool), whole=True)

    def show_in_image(self) -> None:
        """Go to the cluster of the current or first selected tile in the image."""
        row = self._row_to_focus()
        if row is not None:
            self.activated_at.emit(row)

    def _row_to_focus(self) -> int | None:
        """Return the row with the dotted frame if it is selected, else the first selected row."""
        selected, order = _shown_selection(self), self.gallery.arrangement.order
        current = self.currentIndex().row()
        if 0 <= current < len(selected) and selected[current]:
            return int(order[current])
        positions = np.flatnonzero(selected)
        return int(order[positions[0]]) if len(positions) else None

    def _move(self, event: QKeyEvent) -> bool:
        """Move to another tile; return whether the key does that."""
        page = max(1, self.viewport().height() // max(self._grid.cell[1], 1) - 1)
        position = position_after_key(
            self._grid, self.currentIndex().row(), Qt.Key(event.key()), page
        )
        if position is None:
            return False
        self._click(position, bool(event.modifiers() & _SHIFT), False)
        self.scrollTo(self.gallery.index(position))
        return True

    def moveCursor(self, action: Any, modifiers: Any) -> QModelIndex:  # noqa: N802
        return self.currentIndex()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(4 * self.side, 4 * self.side)


def _shown_selection(view: GalleryView) -> np.ndarray:
    """Return what is selected, by position; during a drag, what the band selects."""
    if view._band.preview is not None:
        return view._band.preview
    return view.gallery.rows.selected[view.gallery.arrangement.order]
