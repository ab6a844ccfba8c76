"""What widgets that paint themselves have in common."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QPainter
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
        """The colour of the theme's text, as strong as that."""
        ink = QColor(self.palette().windowText().color())
        ink.setAlphaF(strength)
        return ink

    def _write(self, painter: QPainter, place: QRectF, words: str, align: Qt.AlignmentFlag) -> None:
        painter.setPen(self._ink(0.85))
        painter.drawText(place, align | Qt.AlignmentFlag.AlignVCenter, words)


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
    """The same font, somewhat smaller."""
    out = QFont(font)
    out.setPointSizeF(0.85 * font.pointSizeF() if font.pointSizeF() > 0 else 8.0)
    return out
