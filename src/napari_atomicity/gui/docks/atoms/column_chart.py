"""Columns side by side: a histogram with a line, or counts of sizes that can be clicked.

They are painted by Qt: the line follows the slider of the threshold at the rate of the mouse, and
the columns have the width of that slider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QLineF, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QFontMetricsF, QMouseEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget

from ...controls.drawing import Drawing, small


@dataclass(frozen=True)
class ChartColumn:
    """One column: how high, how it looks, and words for below it and for the mouse.

    ``faint`` ones do not count: they are open instead of filled.
    """

    value: float
    colour: str
    label: str = ""
    tooltip: str = ""
    faint: bool = False


class ColumnChart(Drawing):
    """Columns from 0 to the highest, their heights by the square root: few must be seen too.

    Notes
    -----
    Signals: ``clicked(index)`` of a column.
    """

    clicked = Signal(int)

    def __init__(
        self, lines: float = 4.0, counts: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent, lines)
        self._counts = counts
        self._columns: tuple[ChartColumn, ...] = ()
        self._ticks: tuple[tuple[float, str], ...] = ()
        self._line: float | None = None
        self.inset_px = 2.0
        """Free on both sides: as much as a slider below needs for its handle."""

    @property
    def columns(self) -> tuple[ChartColumn, ...]:
        return self._columns

    @property
    def line(self) -> float | None:
        """Where the vertical line is, as a share of the width."""
        return self._line

    def show_columns(
        self,
        columns: Sequence[ChartColumn],
        line: float | None = None,
        ticks: Sequence[tuple[float, str]] = (),
    ) -> None:
        """Draw these; ``line`` and the places of ``ticks`` are shares of the width."""
        self._columns, self._ticks, self._line = tuple(columns), tuple(ticks), line
        self.setAccessibleDescription(
            "; ".join(c.tooltip or f"{c.label}: {c.value:g}" for c in self._columns if c.value)
        )
        self.update()

    # ---- geometry
    def _area(self) -> QRectF:
        line = QFontMetricsF(small(self.font())).height()
        above = line if self._counts else 3.0
        return QRectF(
            self.inset_px, above, self.width() - 2 * self.inset_px, self.height() - above - line - 2
        )

    def _pitch(self) -> float:
        """Return the distance of the columns."""
        share = self._area().width() / max(len(self._columns), 1)
        return min(share, 3.2 * self.fontMetrics().height())

    def _box(self, index: int) -> QRectF:
        """Where a column stands, as high as all may be."""
        area, width = self._area(), self._pitch()
        gap = 0.12 * width if width > 8 else 0.0
        return QRectF(area.left() + index * width + gap, area.top(), width - 2 * gap, area.height())

    def index_at(self, point: QPointF) -> int:
        """Return the column at a position; -1 if there is none."""
        for i in range(len(self._columns)):
            box = self._box(i)
            if box.left() <= point.x() < box.right() and self._columns[i].value > 0:
                return i
        return -1

    # ---- events
    def text_at(self, place: QPointF) -> str:
        index = self.index_at(place)
        return self._columns[index].tooltip if index >= 0 else ""

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        index = self.index_at(event.position())
        if index >= 0 and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(index)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = small(self.font())
        painter.setFont(font)
        metrics = QFontMetricsF(font)
        area = self._area()
        painter.setPen(QPen(self._ink(0.35), 1))
        painter.drawLine(area.bottomLeft(), area.bottomRight())
        highest = max((c.value for c in self._columns), default=0.0)
        for i, column in enumerate(self._columns):
            self._paint_column(painter, metrics, column, self._box(i), highest)
        longest = max((metrics.horizontalAdvance(c.label) for c in self._columns), default=0.0)
        if longest > 0:  # only every n-th column is named if long names have no room
            every = math.ceil((longest + metrics.averageCharWidth()) / self._pitch())
            for i in range(0, len(self._columns), every):
                x, y = self._box(i).center().x(), self.height() - metrics.descent() - 1
                self._tick(painter, x, y, self._columns[i].label)
        for share, words in self._ticks:
            x = area.left() + share * area.width()
            self._tick(painter, x, self.height() - metrics.descent() - 1, words)
        if self._line is not None:
            x = area.left() + self._line * area.width()
            self._rimmed(painter, [QLineF(x, 0, x, area.bottom())], 2.2)
        painter.end()

    def _paint_column(
        self,
        painter: QPainter,
        metrics: QFontMetricsF,
        column: ChartColumn,
        box: QRectF,
        highest: float,
    ) -> None:
        if column.value > 0:
            filled = QRectF(box)
            filled.setTop(box.bottom() - box.height() * math.sqrt(column.value / highest))
            colour = QColor(column.colour)
            painter.setPen(QPen(QColor(0, 0, 0, 110), 0.7))
            if column.faint:
                colour = self._ink(0.25)
                painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(colour)
            painter.drawRect(filled)
            words = f"{column.value:g}" if self._counts else ""
            if words and metrics.horizontalAdvance(words) < 1.4 * box.width():
                self._tick(painter, box.center().x(), filled.top() - 2, words)
