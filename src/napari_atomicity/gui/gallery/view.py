"""The scrolling grid of the gallery: paints what is in sight, turns clicks and keys into words."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from qtpy.QtCore import (
    QEvent,
    QModelIndex,
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
from qtpy.QtWidgets import QAbstractItemView, QApplication, QWidget

from ...core.cluster_table import Key
from ..controls.cluster_rows import after_click
from ..controls.shortcuts import GALLERY, Shortcut
from .grid import GalleryGrid
from .model import GalleryModel
from .painter import MARGIN, PaintFrame, text_height

SIDES_PX = (32, 192)
"""Smallest and largest edge of a patch in logical pixels."""
USUAL_SIDE_PX = 72

# Making pictures must not hold up the window: what is not there by then comes in the next turn.
_BUDGET_S = 0.02
_SCROLL_MS = 30
_SHIFT, _CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
_ROLE = QKeySequence.SequenceFormat.PortableText


def shortcut_of(
    event: QKeyEvent, shortcuts: tuple[Shortcut, ...] = GALLERY
) -> tuple[Shortcut, str] | None:
    """Return the shortcut of a key and the key; None if it has no shortcut.

    Digits and letters are recognised by the text that they write, on any keyboard layout.
    """
    plain = not event.modifiers() & (_CONTROL | Qt.KeyboardModifier.AltModifier)
    text = event.text()
    if plain and text.isprintable() and text.strip():
        names = {text.upper()}
    else:
        names = {QKeySequence(event.keyCombination()).toString(_ROLE)}
    if event.key() == Qt.Key.Key_Enter:
        names = {"Return"}
    for shortcut in shortcuts:
        for key in shortcut.keys:
            if _portable(key) in names:
                return shortcut, key
    return None


def _portable(key: str) -> str:
    """A key as Qt writes it: napari says ``Control-Z``."""
    return QKeySequence(key.replace("Control", "Ctrl").replace("-", "+")).toString(_ROLE)


class GalleryView(QAbstractItemView):
    """Tiles in sections, found by arithmetic; the selection is the mask of the model's rows.

    Signals: ``picked(rows, whole)``: these rows, a mask, are to be selected, of all or (if not
    whole) of those that are shown; ``activated_at(row)``; ``shortcut_pressed(shortcut,
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
        self._band: tuple[QPoint, QPoint] | None = None
        self._pressed: QPoint | None = None
        self._before = np.zeros(0, bool)
        self._preview: np.ndarray | None = None
        self._scrolling = QTimer(self)
        self._scrolling.setInterval(_SCROLL_MS)
        self._scrolling.timeout.connect(self._scroll_on)
        self._more = QTimer(self)
        self._more.setSingleShot(True)
        self._more.timeout.connect(self.viewport().update)
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
        alone = model.wish.group == "nothing"
        self._grid = GalleryGrid(
            counts, max(self.viewport().width(), 1), cell, 0 if alone else header
        )

    def relayout(self, row: int | None = None, y: int = 0) -> None:
        """Lay the tiles out anew; with a row, so that its tile stands at a height of the view."""
        self._layout()
        self.updateGeometries()
        if row is not None:
            position = self.position_of(row)
            if position is not None:
                self.verticalScrollBar().setValue(self._grid.corner(position)[1] - y)
        self.viewport().update()

    def looked_at(self) -> tuple[int, int] | None:
        """The row of a tile in sight, the first selected one or else the first, and its height.

        It is what should stay where it is when others come and go.
        """
        if not len(self._grid):
            return None
        top = self.verticalOffset()
        first, past = self._grid.visible(top, top + self.viewport().height())
        positions = np.arange(first, past)
        _, ys = self._grid.corners(positions)
        whole = positions[(ys >= top) & (ys + self._grid.cell[1] <= top + self.viewport().height())]
        whole = whole if len(whole) else positions[:1]
        selected = whole[self._shown_selection()[whole]]
        position = int([*selected, *whole, len(self._grid) - 1][0])
        return int(self.gallery.arrangement.order[position]), self._grid.corner(position)[1] - top

    def position_of(self, row: int) -> int | None:
        found = np.flatnonzero(self.gallery.arrangement.order == row)
        return int(found[0]) if len(found) else None

    def current(self) -> tuple[Key, int] | None:
        """The tile with the dotted frame, which arrows start from: its key and position."""
        position = self.currentIndex().row()
        if not 0 <= position < len(self._grid):
            return None
        return self.gallery.rows.key_of(int(self.gallery.arrangement.order[position])), position

    def set_current(self, current: tuple[Key, int] | None) -> None:
        """Go on from the same cluster in another order; where it is gone, from its place."""
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
        kept = self.looked_at()
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

    def header_rect(self, name: str) -> QRect:
        """Where the header of a group is, in the viewport."""
        section = self.gallery.arrangement.names.index(name)
        top = int(self._grid.tops[section]) - self.verticalOffset()
        return QRect(0, top, self.viewport().width(), self._grid.header)

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
        """The selection is a mask: Qt's own stays empty."""

    def visualRegionForSelection(self, selection: Any) -> QRegion:  # noqa: N802
        return QRegion(self.viewport().rect())

    def show_selected(self) -> None:
        """Scroll to a selected tile, unless one is in sight."""
        selected = self.gallery.rows.selected[self.gallery.arrangement.order]
        positions = np.flatnonzero(selected)
        if not len(positions):
            return
        top = self.verticalOffset()
        first, past = self._grid.visible(top, top + self.viewport().height())
        if not selected[first:past].any():
            self.scrollTo(self.gallery.index(int(positions[0])))

    # ---- painting
    def waiting(self) -> bool:
        """Whether some pictures in sight are still to be made."""
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
            frame = PaintFrame(self, painter, self._grid, top)
            current = self.currentIndex().row() if self.hasFocus() else -1
            frame.tiles(positions, pixmaps, self._shown_selection()[positions], current)
            frame.headers(self.strays)
            if self._band is not None:
                frame.band(self._band_box())
        painter.end()

    def _shown_selection(self) -> np.ndarray:
        """What is selected, by position; while a band is drawn, what it would select."""
        if self._preview is not None:
            return self._preview
        return self.gallery.rows.selected[self.gallery.arrangement.order]

    def _band_box(self) -> QRect:
        start, end = self._band or (QPoint(), QPoint())
        return QRect(start, end).normalized()

    # ---- the mouse
    def _content(self, event: QMouseEvent) -> QPoint:
        point = event.position() if hasattr(event, "position") else QPointF(event.pos())
        return point.toPoint() + QPoint(0, self.verticalOffset())

    def _section_of_header(self, point: QPoint) -> int | None:
        """The section whose header is under a point of the content, be it the one on top."""
        grid, top = self._grid, self.verticalOffset()
        if grid.header and 0 <= point.y() - top < grid.header:
            return grid.section_at(top)
        return grid.header_at(point.y())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if event.button() != Qt.MouseButton.LeftButton:
            return
        self._pressed = self._content(event)
        self._before = self._shown_selection().copy()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if self._pressed is None:
            return
        here = self._content(event)
        far = (here - self._pressed).manhattanLength() >= QApplication.startDragDistance()
        if self._band is None and not far:
            return
        self._band = (self._pressed, here)
        self._preview_band(event.modifiers())
        outside = not self.viewport().rect().contains(event.position().toPoint())
        self._scrolling.start() if outside else self._scrolling.stop()

    def _preview_band(self, modifiers: Qt.KeyboardModifier) -> None:
        box = self._band_box()
        mask = np.zeros(len(self._grid), bool)
        mask[self._grid.within(box.left(), box.top(), box.right() + 1, box.bottom() + 1)] = True
        if modifiers & _CONTROL:
            mask = self._before ^ mask
        elif modifiers & _SHIFT:
            mask = self._before | mask
        self._preview = mask
        self.viewport().update()

    def _scroll_on(self) -> None:
        """While the band is drawn out of the view, the view goes along."""
        here = self.viewport().mapFromGlobal(self.cursor().pos())
        bar, step = self.verticalScrollBar(), self._grid.cell[1] // 2
        if here.y() < 0:
            bar.setValue(bar.value() - step)
        elif here.y() > self.viewport().height():
            bar.setValue(bar.value() + step)
        if self._band is not None:
            self._band = (self._band[0], here + QPoint(0, self.verticalOffset()))
            self._preview_band(QApplication.keyboardModifiers())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        pressed, self._pressed = self._pressed, None
        self._scrolling.stop()
        if pressed is None or event.button() != Qt.MouseButton.LeftButton:
            return
        extend, add = bool(event.modifiers() & _SHIFT), bool(event.modifiers() & _CONTROL)
        if self._band is not None:
            preview, self._band, self._preview = self._preview, None, None
            if preview is not None and len(preview) == len(self._grid):
                self._pick(preview, whole=not (extend or add))
            self.viewport().update()
            return
        header = self._section_of_header(pressed)
        if header is not None:
            mask = self._before if add or extend else np.zeros_like(self._before)
            mask[self._grid.starts[header] : self._grid.starts[header + 1]] = True
            self._pick(mask, whole=not (add or extend))
            return
        cell = self._grid.cell_at(pressed.x(), pressed.y())
        if cell is not None:
            self._click(cell, extend, add)
        elif not (extend or add):
            self._pick(np.zeros(len(self._grid), bool), whole=True)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        point = self._content(event)
        cell = self._grid.cell_at(point.x(), point.y())
        if event.button() == Qt.MouseButton.LeftButton and cell is not None:
            self.activated_at.emit(int(self.gallery.arrangement.order[cell]))

    def _click(self, cell: int, extend: bool, add: bool) -> None:
        mask = after_click(self._shown_selection(), cell, self._anchor, extend, add)
        if not extend or self._anchor is None:
            self._anchor = cell
        self.setCurrentIndex(self.gallery.index(cell))
        self._pick(mask, whole=not add)

    def _pick(self, mask: np.ndarray, whole: bool) -> None:
        rows = np.zeros(len(self.gallery.rows), bool)
        rows[self.gallery.arrangement.order[mask]] = True
        self.picked.emit(rows, whole)

    def reset(self) -> None:
        """Another order: positions mean other clusters now."""
        super().reset()
        self._anchor = None
        self._band = self._preview = self._pressed = None
        self._layout()

    # ---- keys
    def event(self, event: QEvent) -> bool:
        # Keys that mean something here are no shortcuts of the window while we have the focus.
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
        elif event.key() == Qt.Key.Key_Escape:
            self._band = self._preview = self._pressed = None
            self._pick(np.zeros(len(self._grid), bool), whole=True)
        elif not self._move(event):
            event.ignore()

    def select_all(self) -> None:
        """Select all tiles that are shown."""
        self._pick(np.ones(len(self._grid), bool), whole=True)

    def show_in_image(self) -> None:
        """Go to the cluster of the current or first selected tile in the image."""
        row = self._row_in_mind()
        if row is not None:
            self.activated_at.emit(row)

    def _row_in_mind(self) -> int | None:
        """The tile with the dotted frame if it is selected, else the first selected one."""
        selected, order = self._shown_selection(), self.gallery.arrangement.order
        current = self.currentIndex().row()
        if 0 <= current < len(selected) and selected[current]:
            return int(order[current])
        positions = np.flatnonzero(selected)
        return int(order[positions[0]]) if len(positions) else None

    def _move(self, event: QKeyEvent) -> bool:
        """Arrows and their company; whether it was one of them."""
        n, grid = len(self._grid), self._grid
        page = max(1, self.viewport().height() // max(grid.cell[1], 1) - 1)
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}
        rows = {
            Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1,
            Qt.Key.Key_PageUp: -page, Qt.Key.Key_PageDown: page,
        }  # fmt: skip
        key, here = event.key(), self.currentIndex().row()
        if not n or key not in {*steps, *rows, Qt.Key.Key_Home, Qt.Key.Key_End}:
            return False
        if here < 0:
            there = 0
        elif key in steps:
            there = min(max(here + steps[key], 0), n - 1)
        elif key in rows:
            there = grid.beside(here, rows[key])
        else:
            there = 0 if key == Qt.Key.Key_Home else n - 1
        self._click(there, bool(event.modifiers() & _SHIFT), False)
        self.scrollTo(self.gallery.index(there))
        return True

    def moveCursor(self, action: Any, modifiers: Any) -> QModelIndex:  # noqa: N802
        return self.currentIndex()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(4 * self.side, 4 * self.side)
