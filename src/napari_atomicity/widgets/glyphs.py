"""Class symbols as Qt paths: legends and charts show the very shapes of the points."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPainterPath, QPen, QPixmap, QPolygonF


def _discs_over_each_other() -> Path:
    """Three discs round a middle, as napari draws its clobber; matplotlib has none."""
    angle = np.linspace(0, 2 * np.pi, 91)
    away = angle[:, None] - np.pi / 2 - 2 * np.pi / 3 * np.arange(3)
    shift = 0.65  # of each disc from the middle, in radii
    reach = (shift * np.cos(away) + np.sqrt(1 - (shift * np.sin(away)) ** 2)).max(axis=1)
    return Path(reach[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]))


# napari's names → what matplotlib takes; those that are missing fall back to a disc.
_MARKERS: dict[str, str | Path] = {
    "disc": "o",
    "ring": "o",
    "square": "s",
    "triangle_up": "^",
    "triangle_down": "v",
    "diamond": "D",
    "star": "*",
    "cross": "P",
    "x": "X",
    "clobber": _discs_over_each_other(),
}
# Painted without a fill.
_OPEN = {"ring"}


@lru_cache(maxsize=64)
def glyph(symbol: str) -> QPainterPath:
    """The outline of a napari symbol, centred on the origin, with a longer side of 1."""
    style = MarkerStyle(_MARKERS.get(symbol, "o"))
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
    """An icon of a class, for combo boxes and tables."""
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    paint_glyph(painter, QRectF(2, 2, size - 4, size - 4), symbol, colour)
    painter.end()
    return QIcon(pixmap)
