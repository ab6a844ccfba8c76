"""Common parts of the widgets that paint themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from matplotlib.markers import MarkerStyle
from qtpy.QtCore import QEvent, QLineF, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import (
    QColor,
    QFont,
    QFontMetricsF,
    QHelpEvent,
    QIcon,
    QPainter,
    QPainterPath,
    QPen,
    QPixmap,
    QPolygonF,
)
from qtpy.QtWidgets import QProgressBar, QSizePolicy, QToolTip, QWidget

from ...reporting.plots.base import marker

# ---- class symbols as Qt paths: legends and charts show the very shapes of the points

# Painted without a fill.
_OPEN = {"ring"}


@lru_cache(maxsize=64)
def glyph(symbol: str) -> QPainterPath:
    """Return the outline of a napari symbol, centred on the origin, with a longer side of 1."""
    style = MarkerStyle(marker(symbol))
    transform: Any = style.get_transform()
    path = QPainterPath()
    # Flattened at a hundred times the size, so that curves stay round.
    for polygon in style.get_path().transformed(transform.scale(100)).to_polygons():
        path.addPolygon(QPolygonF([QPointF(x, -y) for x, y in polygon]))
        path.closeSubpath()
    box = path.boundingRect()
    scale = 1.0 / max(box.width(), box.height())
    scaled = QPainterPath()
    for outline in path.toSubpathPolygons():
        scaled.addPolygon(
            QPolygonF([(point - box.center()) * scale for point in map(QPointF, outline)])
        )
        scaled.closeSubpath()
    return scaled


def paint_glyph(painter: QPainter, box: QRectF, symbol: str, colour: str) -> None:
    """Paint a symbol into the middle of a box, as large as fits."""
    size = min(box.width(), box.height())
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.translate(box.center())
    painter.scale(size, size)
    if symbol in _OPEN:
        painter.scale(0.8, 0.8)
        painter.setPen(QPen(QColor(colour), 0.18))
        painter.setBrush(Qt.BrushStyle.NoBrush)
    else:
        # A dark rim: yellow must be seen on a light ground too.
        painter.setPen(QPen(QColor(0, 0, 0, 110), 0.07))
        painter.setBrush(QColor(colour))
    painter.drawPath(glyph(symbol))
    painter.restore()


@lru_cache(maxsize=256)
def glyph_icon(symbol: str, colour: str, size: int = 32) -> QIcon:
    """Return the icon of a class, for combo boxes and tables."""
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    paint_glyph(painter, QRectF(2, 2, size - 4, size - 4), symbol, colour)
    painter.end()
    return QIcon(pixmap)


MIN_CONTRAST = 4.5
"""Contrast ratio that text needs (WCAG 2, level AA)."""


class Drawing(QWidget):
    """A widget that paints itself, as wide as there is room, with the height of a text."""

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


def contrast(one: QColor, other: QColor) -> float:
    """Return the contrast ratio of two opaque colours, from 1 to 21 (WCAG 2)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: QColor) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.getRgbF()[:3]
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def readable(colour: QColor, background: QColor) -> QColor:
    """Return a colour, made lighter or darker as far as text on this background needs it."""
    black, white = QColor("black"), QColor("white")
    limit = max(black, white, key=lambda end: contrast(end, background))
    shares = (i / 20 for i in range(21))
    mixed = (mix(colour, limit, share) for share in shares)
    return next((c for c in mixed if contrast(c, background) >= MIN_CONTRAST), limit)


def faint(ink: QColor, background: QColor) -> QColor:
    """Return the colour of text that is less important, but readable."""
    return readable(mix(ink, background, 0.3), background)


def mix(one: QColor, other: QColor, share: float) -> QColor:
    """Return a mixture of two colours with this share of the other."""
    pairs = zip(one.getRgbF()[:3], other.getRgbF()[:3], strict=True)
    return QColor.fromRgbF(*((1 - share) * a + share * b for a, b in pairs))
