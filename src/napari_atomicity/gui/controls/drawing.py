"""Common parts of the widgets that paint themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import QEvent, QLineF, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QHelpEvent, QPainter, QPen
from qtpy.QtWidgets import QProgressBar, QSizePolicy, QToolTip, QWidget


class Drawing(QWidget):
    """A widget that paints itself, as wide as there is room, with the height of a text.

    Parameters
    ----------
    parent : QWidget, optional
        The parent.
    lines : float
        Height in lines of text; follows the font.
    """

    def __init__(self, parent: QWidget | None = None, lines: float = 12.0) -> None:
        super().__init__(parent)
        self._lines = lines
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(240, math.ceil(self._lines * QFontMetricsF(self.font()).height()))

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(120, self.sizeHint().height())

    def text_at(self, place: QPointF) -> str:
        """Return the tooltip of what is painted at a position; "" for that of the widget."""
        return ""

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            text = self.text_at(QPointF(event.pos())) or self.toolTip()
            QToolTip.showText(event.globalPos(), text, self)  # no text hides it
            return True
        return super().event(event)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        kinds = QEvent.Type
        if event.type() in (kinds.FontChange, kinds.StyleChange, kinds.PaletteChange):
            self.updateGeometry()
            self.redraw()

    def redraw(self) -> None:
        """Paint the widget again in the next turn of the event loop."""
        self.update()

    # ---- parts of paintings
    def _ink(self, strength: float) -> QColor:
        """Return the text colour of the theme with this opacity."""
        ink = QColor(self.palette().windowText().color())
        ink.setAlphaF(strength)
        return ink

    def _write(self, painter: QPainter, place: QRectF, words: str, align: Qt.AlignmentFlag) -> None:
        painter.setPen(self._ink(0.85))
        painter.drawText(place, align | Qt.AlignmentFlag.AlignVCenter, words)

    def _tick(self, painter: QPainter, x: float, baseline: float, words: str) -> None:
        """Write a number of a horizontal axis, centred on its position, inside the widget."""
        width = QFontMetricsF(painter.font()).horizontalAdvance(words)
        painter.setPen(self._ink(0.8))
        left = min(max(x - width / 2, 0.0), self.width() - width)
        painter.drawText(QPointF(left, baseline), words)

    def _rimmed(self, painter: QPainter, lines: Sequence[QLineF], width: float) -> None:
        """Draw lines with a rim in the background colour, visible on and next to a bar."""
        for colour, pen_width in (
            (self.palette().window().color(), 2.25 * width),
            (self.palette().windowText().color(), width),
        ):
            painter.setPen(QPen(colour, pen_width))
            painter.drawLines(list(lines))


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
