"""How the tiles and headers of the gallery are painted: a frame at a time, what is in sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QColor, QFontMetrics, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QWidget

from ..controls.drawing import small
from ..controls.glyphs import glyph_icon
from .grid import GalleryGrid
from .order import NO_LABEL

if TYPE_CHECKING:
    from .view import GalleryView

MARGIN = 4
"""Around a patch, in logical pixels: room for the frame of what is selected."""

_BORDER = 2
_DIMMED = 0.35


def text_height(widget: QWidget) -> int:
    """Height of the line under a patch."""
    return round(1.2 * QFontMetrics(small(widget.font())).height())


class PaintFrame:
    """One paint event of the view, scrolled down by ``top``."""

    def __init__(self, view: GalleryView, painter: QPainter, grid: GalleryGrid, top: int) -> None:
        self._view, self._painter, self._grid, self._top = view, painter, grid, top
        self._model = view.gallery
        self._ink = view.palette().windowText().color()

    def tiles(
        self,
        positions: np.ndarray,
        pixmaps: Mapping[int, QPixmap | None],
        selected: np.ndarray,
        current: int,
    ) -> None:
        """Patches in frames of their class, with symbol, label and confidence.

        Parameters
        ----------
        positions
            Of the order.
        pixmaps
            By position; where there is none, the patch stays dark.
        selected
            By index into ``positions``.
        current
            The position that keys start from; -1 for none.
        """
        painter, grid, side, model = self._painter, self._grid, self._view.side, self._model
        xs, ys = grid.corners(positions)
        xs = xs + int((grid.step - grid.cell[0]) / 2)
        dimmed, labels = model.dimmed(positions).tolist(), model.labels(positions)
        painter.setFont(small(self._view.font()))
        metrics = painter.fontMetrics()
        looks = {label: model.looks_of(label) for label in set(labels)}
        pens = {label: _mitred(QColor(colour)) for label, (colour, _) in looks.items()}
        chosen_ground, chosen_rim = _faint(self._ink, 0.3), _mitred(self._ink)
        ground, line, glyph = QColor(0, 0, 0, 90), text_height(self._view), metrics.ascent()
        for position, x, y, chosen, dim, label, text in zip(
            positions.tolist(),
            xs.tolist(),
            (ys - self._top).tolist(),
            selected.tolist(),
            dimmed,
            labels,
            model.texts(positions),
            strict=True,
        ):
            if chosen:
                painter.fillRect(QRect(x, y, *grid.cell), chosen_ground)
                painter.setPen(chosen_rim)
                painter.drawRect(QRect(x + 1, y + 1, grid.cell[0] - 2, grid.cell[1] - 2))
            if dim:
                painter.setOpacity(_DIMMED)
            box = QRect(x + MARGIN, y + MARGIN, side, side)
            pixmap = pixmaps.get(position)
            if pixmap is not None:
                painter.drawPixmap(box.topLeft(), pixmap)
            else:
                painter.fillRect(box, ground)
            painter.setPen(pens[label])
            painter.drawRect(box.adjusted(0, 0, -1, -1))
            below = y + MARGIN + side + 1
            colour, symbol = looks[label]
            icon = QRect(x + MARGIN, below + (line - glyph) // 2, glyph, glyph)
            glyph_icon(symbol, colour).paint(painter, icon)
            painter.setPen(self._ink)
            space = QRect(x + MARGIN + glyph + 3, below, side - glyph - 3, line)
            words = fitting(text, space.width(), metrics)
            painter.drawText(space, Qt.AlignmentFlag.AlignVCenter, words)
            if dim:
                painter.setOpacity(1.0)
            if position == current:
                painter.setPen(QPen(self._ink, 1, Qt.PenStyle.DotLine))
                painter.drawRect(QRect(x + 3, y + 3, grid.cell[0] - 7, grid.cell[1] - 7))

    def headers(self, strays: np.ndarray) -> None:
        """The headers in sight, and on top that of the group which is looked at.

        Parameters
        ----------
        strays
            How many of each group do not belong there any more.
        """
        grid, top, height = self._grid, self._top, self._view.viewport().height()
        if not grid.header:
            return
        here = grid.section_at(top)
        for section, name in enumerate(self._model.arrangement.names):
            if not grid.counts[section]:
                continue
            y = int(grid.tops[section]) - top
            if section == here:  # stays in sight until the next one pushes it away
                y = min(max(y, 0), int(grid.tops[section + 1]) - top - grid.header)
            if -grid.header < y < height:
                words = f"{name}   {int(grid.counts[section])}"
                n = int(strays[section]) if section < len(strays) else 0
                self._header(name, words + (f"   ({n} not any more)" if n else ""), y)

    def _header(self, name: str, words: str, y: int) -> None:
        painter, view = self._painter, self._view
        box = QRect(0, y, view.viewport().width(), self._grid.header)
        painter.fillRect(box, view.palette().window())
        painter.fillRect(box, _faint(self._ink, 0.1))
        left, line = MARGIN, view.fontMetrics().ascent()
        if self._model.wish.group == "label":
            colour, symbol = self._model.looks_of("" if name == NO_LABEL else name)
            icon = QRect(left, y + (box.height() - line) // 2, line, line)
            glyph_icon(symbol, colour).paint(painter, icon)
            left += line + MARGIN
        font = view.font()
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(self._ink)
        space = box.adjusted(left, 0, -MARGIN, 0)
        elided = painter.fontMetrics().elidedText(
            words, Qt.TextElideMode.ElideMiddle, space.width()
        )
        painter.drawText(space, Qt.AlignmentFlag.AlignVCenter, elided)

    def band(self, box: QRect) -> None:
        """The rectangle that is drawn with the mouse, in pixels of the content."""
        self._painter.setPen(QPen(self._ink, 1))
        self._painter.setBrush(_faint(self._ink, 0.2))
        self._painter.drawRect(box.translated(0, -self._top))


def _mitred(colour: QColor) -> QPen:
    pen = QPen(colour, _BORDER)
    pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
    return pen


def fitting(text: str, width: int, metrics: QFontMetrics) -> str:
    """``Pt41 0.93`` where there is room, else ``Pt41``, else the beginning of it."""
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
