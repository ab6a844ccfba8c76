"""A plot of fractions found against their references, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QHelpEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QToolTip, QWidget

from ...controls.drawing import Drawing, small
from ...controls.glyphs import paint_glyph


@dataclass(frozen=True)
class Point:
    """A pair of fractions between 0 and 1, its interval, and how it looks.

    Parameters
    ----------
    aside : float, optional
        By how many glyphs it is drawn to the right, so that classes with the same reference
        don't hide each other.
    """

    reference: float
    found: float
    low: float
    high: float
    colour: str
    symbol: str
    aside: float = 0.0
    tooltip: str = ""


class ParityPlot(Drawing):
    """Points about a diagonal: on it, found and reference agree."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._points: tuple[Point, ...] = ()
        self.setAccessibleName("Fractions found against their references")

    @property
    def points(self) -> tuple[Point, ...]:
        return self._points

    @points.setter
    def points(self, points: Sequence[Point]) -> None:
        self._points = tuple(points)
        self.setAccessibleDescription("; ".join(p.tooltip for p in self._points))
        self.update()

    @property
    def limit(self) -> float:
        """End of both scales."""
        largest = max((max(p.reference, p.high) for p in self._points), default=1.0)
        return next((limit for limit in (0.2, 0.4, 0.6, 0.8) if largest <= limit), 1.0)

    def sizeHint(self) -> QSize:  # noqa: N802
        side = round(11 * QFontMetricsF(self.font()).height())
        return QSize(side, side)

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            near = self._at(QPointF(event.pos()))
            if near is not None:
                QToolTip.showText(event.globalPos(), near.tooltip, self)
            else:
                QToolTip.hideText()
            return True
        return super().event(event)

    def _at(self, place: QPointF) -> Point | None:
        """Return the point under the mouse, if there is one."""
        box, reach = self._box(), QFontMetricsF(self.font()).height()

        def distance(point: Point) -> float:
            to_it = self._place(point, point.found, box) - place
            return math.hypot(to_it.x(), to_it.y())

        near = min(self._points, key=distance, default=None)
        return near if near is not None and distance(near) < reach else None

    def _box(self) -> QRectF:
        """Return the square of the axes, centred in the widget."""
        metrics = QFontMetricsF(small(self.font()))
        left, bottom = metrics.horizontalAdvance("100 %") + 6, 2.3 * metrics.height()
        top = 0.6 * metrics.height()
        side = max(20.0, min(self.width() - 2 * left, self.height() - top - bottom))
        return QRectF((self.width() - side) / 2, top, side, side)

    def _glyph_size(self) -> float:
        return 0.62 * QFontMetricsF(self.font()).height()

    def _place(self, point: Point, found: float, box: QRectF) -> QPointF:
        on_axes = self._on_axes(point.reference, found, box)
        return on_axes + QPointF(0.4 * point.aside * self._glyph_size(), 0)

    def _on_axes(self, reference: float, found: float, box: QRectF) -> QPointF:
        return QPointF(
            box.left() + box.width() * reference / self.limit,
            box.bottom() - box.height() * found / self.limit,
        )

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if not self._points:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = self._box()
        self._paint_axes(painter, box)
        painter.setPen(QPen(self.palette().windowText().color(), 1.2))
        for point in self._points:
            painter.drawLine(
                self._place(point, point.low, box), self._place(point, point.high, box)
            )
        size = self._glyph_size()
        for point in self._points:
            mark = QRectF(0, 0, size, size)
            mark.moveCenter(self._place(point, point.found, box))
            paint_glyph(painter, mark, point.symbol, point.colour)
        painter.end()

    def _paint_axes(self, painter: QPainter, box: QRectF) -> None:
        font = small(self.font())
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        ink = QColor(self.palette().windowText().color())
        for i in range(5):
            share = self.limit * i / 4
            across, up = self._on_axes(share, 0, box), self._on_axes(0, share, box)
            ink.setAlphaF(0.15)
            painter.setPen(QPen(ink, 1))
            painter.drawLine(across, QPointF(across.x(), box.top()))
            painter.drawLine(up, QPointF(box.right(), up.y()))
            ink.setAlphaF(0.75)
            painter.setPen(ink)
            words = f"{100 * share:g}" + (" %" if i == 4 else "")
            width = metrics.horizontalAdvance(words)
            painter.drawText(
                QPointF(across.x() - width / 2, box.bottom() + metrics.ascent() + 2), words
            )
            painter.drawText(
                QPointF(box.left() - width - 5, up.y() + 0.35 * metrics.ascent()), words
            )
        width = metrics.horizontalAdvance("reference")
        painter.drawText(
            QPointF(box.center().x() - width / 2, box.bottom() + 2.1 * metrics.height()),
            "reference",
        )
        painter.save()
        painter.translate(box.left() - metrics.horizontalAdvance("100 %") - 4, box.center().y())
        painter.rotate(-90)
        painter.drawText(
            QRectF(-box.height() / 2, -metrics.height(), box.height(), metrics.height()),
            Qt.AlignmentFlag.AlignCenter,
            "found",
        )
        painter.restore()
        ink.setAlphaF(0.6)
        painter.setPen(QPen(ink, 1, Qt.PenStyle.DashLine))
        painter.drawLine(box.bottomLeft(), box.topRight())
