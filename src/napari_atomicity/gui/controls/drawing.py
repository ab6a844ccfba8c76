"""What widgets that paint themselves have in common."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QProgressBar, QSizePolicy, QWidget


class Drawing(QWidget):
    """As wide as there is room, of a height that goes with the font: follows it when it changes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(120, self.sizeHint().height())

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.updateGeometry()
            self.update()

    def _ink(self, strength: float) -> QColor:
        """Return the text colour of the theme with this opacity."""
        ink = QColor(self.palette().windowText().color())
        ink.setAlphaF(strength)
        return ink

    def _write(self, painter: QPainter, place: QRectF, words: str, align: Qt.AlignmentFlag) -> None:
        painter.setPen(self._ink(0.85))
        painter.drawText(place, align | Qt.AlignmentFlag.AlignVCenter, words)


class Panels(Drawing):
    """Panels below each other, each with its title, the ends of its scale and lines."""

    def _frame(self, painter: QPainter, box: QRectF, title: str, lowest: str, highest: str) -> None:
        line = QFontMetricsF(painter.font()).height()
        above = QRectF(box.left(), box.top() - 1.15 * line, self.width() - box.left(), line)
        self._write(painter, above, title, Qt.AlignmentFlag.AlignLeft)
        painter.setPen(QPen(self._ink(0.25), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(box)
        for words, y in ((lowest, box.bottom()), (highest, box.top())):
            place = QRectF(0, y - line / 2, box.left() - 4, line)
            self._write(painter, place, words, Qt.AlignmentFlag.AlignRight)

    def _line(
        self, painter: QPainter, points: Sequence[QPointF], colour: str, style: Qt.PenStyle
    ) -> None:
        # A rim of ink under a full line: it must be seen on a light ground, too. Dashes would
        # drown in it.
        rim = [QPen(self._ink(0.35), 3.2)] if style == Qt.PenStyle.SolidLine else []
        for pen in (*rim, QPen(QColor(colour), 2.0, style)):
            painter.setPen(pen)
            painter.drawPolyline(QPolygonF(points))
        painter.setPen(QPen(self._ink(0.35), 0.7))
        painter.setBrush(QColor(colour))
        for point in points if len(points) <= 3 else points[-1:]:
            painter.drawEllipse(point, 3.0, 3.0)


def height_in(box: QRectF, value: float, limits: tuple[float, float]) -> float:
    """Where a value lies in a panel; beyond its ends at them."""
    low, high = limits
    return box.bottom() - box.height() * min(max((value - low) / (high - low), 0.0), 1.0)


class ProgressBar(QProgressBar):
    """One that is painted when the window is painted.

    Qt's own paints itself at every value at once, and with it all of the window that waits to be
    painted: 100 ms in the middle of something else.
    """

    def setValue(self, value: int) -> None:  # noqa: N802
        self.setUpdatesEnabled(False)
        super().setValue(value)
        self.setUpdatesEnabled(True)

    def setRange(self, minimum: int, maximum: int) -> None:  # noqa: N802
        self.setUpdatesEnabled(False)
        super().setRange(minimum, maximum)
        self.setUpdatesEnabled(True)

    def setMaximum(self, maximum: int) -> None:  # noqa: N802
        self.setRange(self.minimum(), maximum)


def small(font: QFont) -> QFont:
    """Return a font that is somewhat smaller."""
    out = QFont(font)
    out.setPointSizeF(0.85 * font.pointSizeF() if font.pointSizeF() > 0 else 8.0)
    return out
