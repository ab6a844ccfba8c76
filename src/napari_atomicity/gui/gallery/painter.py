"""Painting of the visible tiles and headers of the gallery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QColor, QFontMetrics, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QAbstractScrollArea, QWidget

from ..controls.drawing import glyph_icon, small
from .model import GalleryModel
from .order import NO_LABEL

# ---- where the tiles of the gallery lie: sections with a header each, found by arithmetic
#
# No tile has an object of its own, so ten thousand cost what ten do. All lengths are in logical
# pixels of the content, whose origin is the top left of the whole, scrolled away or not.


@dataclass(frozen=True, eq=False)
class GalleryGrid:
    """Sections below each other, each a header and rows of cells."""

    counts: np.ndarray  # (S,) how many cells each section has
    width: int
    cell: tuple[int, int]  # least width, and height, of a cell; cells are spread over the width
    header: int  # height of a header; 0 for none

    @cached_property
    def columns(self) -> int:
        return max(1, self.width // self.cell[0])

    @cached_property
    def step(self) -> float:
        """From one cell to the next along a row."""
        return max(self.width / self.columns, 1.0)

    @cached_property
    def starts(self) -> np.ndarray:
        """(S + 1,) position of the first cell of each section, and the number of all."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    @cached_property
    def tops(self) -> np.ndarray:
        """(S + 1,) top of each header, and the height of the whole; empty sections have none."""
        rows = -(-np.asarray(self.counts, np.int64) // self.columns)
        heights = np.where(rows > 0, self.header + rows * self.cell[1], 0)
        return np.concatenate([[0], np.cumsum(heights)]).astype(np.int64)

    @property
    def height(self) -> int:
        return int(self.tops[-1])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def sections_of(self, positions: np.ndarray) -> np.ndarray:
        """Return the section of each cell."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def corners(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of the top left corners of cells."""
        positions = np.asarray(positions, np.int64)
        section = self.sections_of(positions)
        row, column = np.divmod(positions - self.starts[section], self.columns)
        x = np.floor(column * self.step).astype(np.int64)
        return x, self.tops[section] + self.header + row * self.cell[1]

    def corner(self, position: int) -> tuple[int, int]:
        x, y = self.corners(np.array([position]))
        return int(x[0]), int(y[0])

    def visible(self, top: float, bottom: float) -> tuple[int, int]:
        """First and one past the last cell of the rows that reach into a strip."""
        return self._row_start(top, False), self._row_start(bottom, True)

    def _row_start(self, y: float, past: bool) -> int:
        """Return the first cell of the row at a height, or of the next row below it."""
        section = self.section_at(y)
        if section is None:
            return 0 if y < 0 else len(self)
        inside = y - self.tops[section] - self.header
        row = int(-(-inside // self.cell[1])) if past else int(inside // self.cell[1])
        cells = min(max(row, 0) * self.columns, int(self.counts[section]))
        return int(self.starts[section]) + cells

    def section_at(self, y: float) -> int | None:
        """Return the section at a height; None above and below all sections."""
        if not 0 <= y < self.height:
            return None
        return int(np.searchsorted(self.tops, y, side="right")) - 1

    def header_top(self, section: int, top: float) -> int:
        """Return where a header is shown, from the top of the visible strip.

        The header of the first visible section stays on top until the next one pushes it away.
        """
        y = int(self.tops[section] - top)
        if section == self.section_at(top):
            y = min(max(y, 0), int(self.tops[section + 1] - top) - self.header)
        return y

    def header_at(self, y: float, top: float) -> int | None:
        """Return the section whose header is shown at a height."""
        for section in (self.section_at(y), self.section_at(top)):
            if section is not None and 0 <= y - top - self.header_top(section, top) < self.header:
                return section
        return None

    def cell_at(self, x: float, y: float) -> int | None:
        """Return the cell at a position."""
        section = self.section_at(y)
        if section is None or not 0 <= x < self.width:
            return None
        row = int((y - self.tops[section] - self.header) // self.cell[1])
        cell = row * self.columns + min(int(x // self.step), self.columns - 1)
        if row < 0 or cell >= self.counts[section]:
            return None
        return int(self.starts[section]) + cell

    def within(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        """Return the cells that intersect a rectangle."""
        positions = np.arange(*self.visible(top, bottom))
        x, _ = self.corners(positions)
        return positions[(x < right) & (x + self.step > left)]

    def position_below(self, position: int, rows: int) -> int:
        """Return the cell some rows below (above, if negative), if possible in the same column."""
        section = int(self.sections_of(np.array([position]))[0])
        column = (position - int(self.starts[section])) % self.columns
        down = 1 if rows > 0 else -1
        for _ in range(abs(rows)):
            inside = (position - int(self.starts[section])) // self.columns + down
            n_rows = -(-int(self.counts[section]) // self.columns)
            if not 0 <= inside < n_rows:
                following = section + down
                while 0 <= following < len(self.counts) and not self.counts[following]:
                    following += down
                if not 0 <= following < len(self.counts):
                    return position
                section = following
                n_rows = -(-int(self.counts[section]) // self.columns)
                inside = 0 if down > 0 else n_rows - 1
            cell = min(inside * self.columns + column, int(self.counts[section]) - 1)
            position = int(self.starts[section]) + cell
        return position


MARGIN = 4
"""Margin around a patch for the frame of the selection, in logical pixels."""

_BORDER = 2
_DIMMED = 0.35


def text_height(widget: QWidget) -> int:
    """Return the height of the line under a patch."""
    return round(1.2 * QFontMetrics(small(widget.font())).height())


class PaintFrame:
    """One paint event of the gallery."""

    def __init__(
        self,
        view: QAbstractScrollArea,
        model: GalleryModel,
        side: int,  # edge of a patch
        painter: QPainter,
        grid: GalleryGrid,
        top: int,  # how far the view is scrolled down
    ) -> None:
        self._view, self._model, self._side = view, model, side
        self._painter, self._grid, self._top = painter, grid, top
        self._ink = view.palette().windowText().color()
        self._line = text_height(view)
        self._selected_ground, self._selected_rim = _faint(self._ink, 0.3), _mitred(self._ink)

    def tiles(
        self,
        positions: np.ndarray,  # positions in the order of the gallery
        pixmaps: Mapping[int, QPixmap | None],
        selected: np.ndarray,  # which of ``positions`` are selected
        current: int,  # the position where arrow keys start; -1 if there is none
    ) -> None:
        """Paint patches in frames of their class, with symbol, label and confidence."""
        model = self._model
        dimmed, labels = model.dimmed(positions).tolist(), model.labels(positions)
        self._painter.setFont(small(self._view.font()))
        looks = {label: model.looks_of(label) for label in set(labels)}
        pens = {label: _mitred(QColor(colour)) for label, (colour, _) in looks.items()}
        for position, corner, is_selected, dim, label, text in zip(
            positions.tolist(),
            self._corners(positions),
            selected.tolist(),
            dimmed,
            labels,
            model.texts(positions),
            strict=True,
        ):
            if is_selected:
                self._selection(*corner)
            if dim:
                self._painter.setOpacity(_DIMMED)
            x, y = corner
            self._patch(x, y, pixmaps.get(position), pens[label])
            self._caption(x, y, looks[label], text)
            if dim:
                self._painter.setOpacity(1.0)
            if position == current:
                width, height = self._grid.cell
                self._painter.setPen(QPen(self._ink, 1, Qt.PenStyle.DotLine))
                self._painter.drawRect(QRect(x + 3, y + 3, width - 7, height - 7))

    def _corners(self, positions: np.ndarray) -> list[tuple[int, int]]:
        """Return the top left corners of tiles in the viewport."""
        xs, ys = self._grid.corners(positions)
        xs = xs + int((self._grid.step - self._grid.cell[0]) / 2)
        return list(zip(xs.tolist(), (ys - self._top).tolist(), strict=True))

    def _selection(self, x: int, y: int) -> None:
        width, height = self._grid.cell
        self._painter.fillRect(QRect(x, y, width, height), self._selected_ground)
        self._painter.setPen(self._selected_rim)
        self._painter.drawRect(QRect(x + 1, y + 1, width - 2, height - 2))

    def _patch(self, x: int, y: int, pixmap: QPixmap | None, pen: QPen) -> None:
        box = QRect(x + MARGIN, y + MARGIN, self._side, self._side)
        if pixmap is not None:
            self._painter.drawPixmap(box.topLeft(), pixmap)
        else:
            self._painter.fillRect(box, QColor(0, 0, 0, 90))
        self._painter.setPen(pen)
        self._painter.drawRect(box.adjusted(0, 0, -1, -1))

    def _caption(self, x: int, y: int, look: tuple[str, str], text: str) -> None:
        """Paint the symbol and the text below a patch."""
        metrics, line = self._painter.fontMetrics(), self._line
        top, size, (colour, symbol) = y + MARGIN + self._side + 1, metrics.ascent(), look
        icon = QRect(x + MARGIN, top + (line - size) // 2, size, size)
        glyph_icon(symbol, colour).paint(self._painter, icon)
        self._painter.setPen(self._ink)
        space = QRect(x + MARGIN + size + 3, top, self._side - size - 3, line)
        fitted = fitting(text, space.width(), metrics)
        self._painter.drawText(space, Qt.AlignmentFlag.AlignVCenter, fitted)

    def headers(self, strays: np.ndarray) -> None:
        """Paint the visible headers; the one of the first visible group stays on top."""
        grid, top, height = self._grid, self._top, self._view.viewport().height()
        if not grid.header:
            return
        for section, name in enumerate(self._model.arrangement.names):
            if not grid.counts[section]:
                continue
            y = grid.header_top(section, top)
            if -grid.header < y < height:
                text = f"{name}   {int(grid.counts[section])}"
                n = int(strays[section]) if section < len(strays) else 0
                self._header(name, text + (f"   ({n} no longer match)" if n else ""), y)

    def _header(self, name: str, text: str, y: int) -> None:
        painter, view = self._painter, self._view
        box = QRect(0, y, view.viewport().width(), self._grid.header)
        painter.fillRect(box, view.palette().window())
        painter.fillRect(box, _faint(self._ink, 0.1))
        left, line = MARGIN, view.fontMetrics().ascent()
        if self._model.sorting.group == "label":
            colour, symbol = self._model.looks_of("" if name == NO_LABEL else name)
            icon = QRect(left, y + (box.height() - line) // 2, line, line)
            glyph_icon(symbol, colour).paint(painter, icon)
            left += line + MARGIN
        font = view.font()
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(self._ink)
        space = box.adjusted(left, 0, -MARGIN, 0)
        elided = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, space.width())
        painter.drawText(space, Qt.AlignmentFlag.AlignVCenter, elided)

    def band(self, box: QRect) -> None:
        """Paint the rubber band, in pixels of the content."""
        self._painter.setPen(QPen(self._ink, 1))
        self._painter.setBrush(_faint(self._ink, 0.2))
        self._painter.drawRect(box.translated(0, -self._top))


def _mitred(colour: QColor) -> QPen:
    pen = QPen(colour, _BORDER)
    pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
    return pen


def fitting(text: str, width: int, metrics: QFontMetrics) -> str:
    """Return ``Pt41 0.93`` if it fits, else ``Pt41``, else its beginning."""
    if metrics.horizontalAdvance(text) <= width:
        return text
    short = text.partition(" ")[0]
    if metrics.horizontalAdvance(short) <= width:
        return short
    return metrics.elidedText(short, Qt.TextElideMode.ElideRight, max(width, 0))


def _faint(colour: QColor, alpha: float) -> QColor:
    out = QColor(colour)
    out.setAlphaF(alpha)
    return out
