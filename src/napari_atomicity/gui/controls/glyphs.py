"""Class symbols as Qt paths: legends and charts show the very shapes of the points."""

from __future__ import annotations

from functools import lru_cache

from matplotlib.markers import MarkerStyle
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF

from ...reporting.plot_base import marker

# Painted without a fill.
_OPEN = {"ring"}


@lru_cache(maxsize=64)
def glyph(symbol: str) -> QPainterPath:
    """Return the outline of a napari symbol, centred on the origin, with a longer side of 1."""
    style = MarkerStyle(marker(symbol))
    path = QPainterPath()
    # Flattened at a hundred times the size, so that curves stay round.
    for polygon in style.get_path().transformed(style.get_transform().scale(100)).to_polygons():
        path.addPolygon(QPolygonF([QPointF(x, -y) for x, y in polygon]))
        path.closeSubpath()
    box = path.boundingRect()
    scale = 1.0 / max(box.width(), box.height())
    scaled = QPainterPath()
    for polygon in path.toSubpathPolygons():
        scaled.addPolygon(
            QPolygonF([(point - box.center()) * scale for point in map(QPointF, polygon)])
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
