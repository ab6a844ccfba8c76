"""Legends: what the colours and symbols of a plot mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QFontMetricsF,
    QHelpEvent,
    QLinearGradient,
    QMouseEvent,
    QPainter,
    QPaintEvent,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from ..controls.drawing import paint_glyph

MAX_LINES = 5
"""Of a legend: an entry that would need more is only counted."""


@dataclass(frozen=True)
class Entry:
    """One kind of point: its name, its looks and how many there are."""

    name: str
    colour: str
    symbol: str
    count: int


@dataclass(frozen=True)
class ColourScale:
    """A range of numbers and the matplotlib colormap that shows it."""

    title: str
    low: float
    high: float
    colormap: str
    decimals: int = 2


class Legend(QWidget):
    """Entries that flow into as many lines as they need, or a colour bar.

    Signals: ``clicked(name)`` of an entry.
    """

    clicked = Signal(str, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entries: tuple[Entry, ...] = ()
        self._scale: ColourScale | None = None
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setAccessibleName("Legend")

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self._entries

    @property
    def scale(self) -> ColourScale | None:
        return self._scale

    def show_entries(self, entries: Sequence[Entry]) -> None:
        self._show(tuple(entries), None)
        self.setAccessibleDescription("; ".join(f"{e.name}: {e.count}" for e in entries))

    def show_scale(self, scale: ColourScale) -> None:
        self._show((), scale)
        self.setAccessibleDescription(f"{scale.title} from {scale.low:g} to {scale.high:g}")

    def _show(self, entries: tuple[Entry, ...], scale: ColourScale | None) -> None:
        if (entries, scale) != (self._entries, self._scale):
            self._entries, self._scale = entries, scale
            self.updateGeometry()
            self.update()

    # ---- geometry
    def _line(self) -> float:
        return 1.35 * QFontMetricsF(self.font()).height()

    def _boxes(self, width: float) -> list[QRectF]:
        """Where each entry goes: glyph, name, number; of those that there is room for."""
        metrics = QFontMetricsF(self.font())
        line, gap = self._line(), metrics.averageCharWidth()
        boxes, x, y = [], 0.0, 0.0
        for entry in self._entries:
            wide = (
                metrics.ascent() + gap + metrics.horizontalAdvance(_format_entry(entry)) + 2 * gap
            )
            if x > 0 and x + wide > width:
                x, y = 0.0, y + line
            boxes.append(QRectF(x, y, min(wide, width), line))
            x += wide
        end = MAX_LINES * line
        if not boxes or boxes[-1].bottom() <= end + 0.5:
            return boxes
        boxes = [box for box in boxes if box.bottom() <= end + 0.5]
        room = metrics.horizontalAdvance(self._more(0)) + 2 * gap
        while len(boxes) > 1 and boxes[-1].right() + room > width:
            boxes.pop()
        return boxes

    def _more(self, shown: int) -> str:
        """Words for the entries that there is no room for."""
        left = len(self._entries) - shown
        return f"and {left} more" if left else ""

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        if self._scale is not None:
            return math.ceil(self._line())
        boxes = self._boxes(width)
        return math.ceil(boxes[-1].bottom()) if boxes else 0

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(200, self.heightForWidth(max(self.width(), 200)))

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(100, math.ceil(self._line()) if self._entries or self._scale else 0)

    # ---- events
    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        for entry, box in zip(self._entries, self._boxes(self.width()), strict=False):
            if box.contains(event.position() if hasattr(event, "position") else event.pos()):
                self.clicked.emit(entry.name, event.modifiers())

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            words = [self.toolTip()] if self._entries else []
            for entry, box in zip(self._entries, self._boxes(self.width()), strict=False):
                if box.contains(QPointF(event.pos())):
                    words.insert(0, f"{entry.count} of {entry.name}: click to select them")
            QToolTip.showText(event.globalPos(), "\n".join(filter(None, words)), self)
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._scale is not None:
            self._paint_scale(painter, self._scale)
        metrics = QFontMetricsF(self.font())
        boxes = self._boxes(self.width())
        for entry, box in zip(self._entries, boxes, strict=False):
            side = 0.85 * metrics.ascent()
            paint_glyph(
                painter,
                QRectF(box.left(), box.center().y() - side / 2, side, side),
                entry.symbol,
                entry.colour,
            )
            left = metrics.ascent() + 0.6 * metrics.averageCharWidth()
            space = box.adjusted(left, 0, 0, 0)
            painter.setPen(self.palette().windowText().color())
            painter.drawText(
                space,
                Qt.AlignmentFlag.AlignVCenter,
                metrics.elidedText(
                    _format_entry(entry), Qt.TextElideMode.ElideMiddle, max(space.width(), 1)
                ),
            )
        if len(boxes) < len(self._entries):
            painter.setPen(self.palette().windowText().color())
            rest = QRectF(boxes[-1].right(), boxes[-1].top(), self.width(), boxes[-1].height())
            painter.drawText(rest, Qt.AlignmentFlag.AlignVCenter, self._more(len(boxes)))
        painter.end()

    def _paint_scale(self, painter: QPainter, scale: ColourScale) -> None:
        metrics = QFontMetricsF(self.font())
        gap, line = metrics.averageCharWidth(), self._line()
        low, high = (f"{v:.{scale.decimals}f}" for v in (scale.low, scale.high))
        painter.setPen(self.palette().windowText().color())
        before = f"{scale.title}  {low}"
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(0, 0, self.width(), line), middle, before)
        painter.drawText(
            QRectF(0, 0, self.width() - 1, line), middle | Qt.AlignmentFlag.AlignRight, high
        )
        left = metrics.horizontalAdvance(before) + gap
        right = self.width() - metrics.horizontalAdvance(high) - gap
        bar = QRectF(left, 0.25 * line, max(right - left, 8.0), 0.5 * line)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for at in np.linspace(0, 1, 17):
            gradient.setColorAt(at, QColor.fromRgbF(*colormaps[scale.colormap](at)))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(gradient)
        painter.drawRoundedRect(bar, 2, 2)


def _format_entry(entry: Entry) -> str:
    return f"{entry.name} {entry.count}"
