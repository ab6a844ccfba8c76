"""What the network saw of one cluster, and where it looked: patches and class maps, enlarged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import (
    QColor,
    QFontMetricsF,
    QImage,
    QLinearGradient,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from qtpy.QtWidgets import QSizePolicy, QWidget

from ...reporting.patch_pictures import class_map_colours, compose
from .drawing import Drawing

_FACTOR = 5
_BAR_LENGTHS_NM = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def scale_bar_nm(field_of_view_nm: float) -> float:
    """Return a round length of about a third of the field of view; 0 if it is not known."""
    fitting = [x for x in _BAR_LENGTHS_NM if x <= 0.45 * field_of_view_nm]
    return fitting[-1] if fitting else 0.0


@dataclass(frozen=True, eq=False)
class PatchTile:
    """One picture of a cluster."""

    title: str  # title above the picture
    patch: np.ndarray  # NaN beyond the image
    class_map: np.ndarray | None = None  # class map over the patch, with its colour bar
    # value at the top of the colour bar; by default the maximum of the map
    top: float | None = None
    outline: np.ndarray | None = None  # outline of the cluster as y, x in edge lengths of the patch
    tooltip: str = ""  # what is told under the mouse

    def pixels(self) -> np.ndarray:
        """Return the picture as uint8 (5 P, 5 P, 3)."""
        maps = None if self.class_map is None else self.class_map[None]
        pixels = compose(self.patch[None], maps, top=self.top, factor=_FACTOR)[0]
        return pixels if maps is not None else np.repeat(pixels[..., None], 3, axis=2)

    @property
    def top_of_bar(self) -> float:
        """Value at the top of the colour bar."""
        if self.top is not None or self.class_map is None:
            return self.top or 0.0
        return float(np.nan_to_num(self.class_map).max(initial=0.0))


class PatchView(Drawing):
    """Tiles side by side, in one row where the dock is wide and in two columns where not."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tiles: tuple[PatchTile, ...] = ()
        self._images: list[QImage] = []
        self._field_of_view_nm = 0.0
        self._height_limit = 10_000
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setAccessibleName("Patches and class maps of the selected cluster")

    @property
    def tiles(self) -> tuple[PatchTile, ...]:
        return self._tiles

    def show_tiles(self, tiles: Sequence[PatchTile], field_of_view_nm: float) -> None:
        """Show these pictures, all of the same field of view."""
        self._tiles = tuple(tiles)
        self._field_of_view_nm = field_of_view_nm
        self._images = []  # made when they are painted: a hidden dock costs nothing
        self.updateGeometry()
        self.update()

    def images(self) -> list[QImage]:
        """Return the pictures without titles and scale bars."""
        if not self._images:
            for tile in self._tiles:
                rgb = np.ascontiguousarray(tile.pixels())
                h, w, _ = rgb.shape
                image = QImage(rgb.data, w, h, 3 * w, QImage.Format.Format_RGB888)
                self._images.append(image.copy())  # Qt does not keep the array alive
        return self._images

    # ---- geometry
    @property
    def height_limit(self) -> int:
        """More height than this the view takes only if its pictures would else be illegible."""
        return self._height_limit

    @height_limit.setter
    def height_limit(self, height: int) -> None:
        if height != self._height_limit:
            self._height_limit = height
            self.updateGeometry()

    def _columns(self, width: float) -> int:
        """Return the number of columns: all in a row if the pictures stay large enough."""
        n = max(len(self._tiles), 1)
        character = QFontMetricsF(self.font()).averageCharWidth()
        side = width / n
        if side >= 18 * character:
            return n
        rows = math.ceil(n / 2)
        high = rows * (width / 2 + self._title_height())
        return n if side >= 13 * character and high > self._height_limit else min(n, 2)

    def _spacing(self) -> float:
        return 0.5 * QFontMetricsF(self.font()).height()

    def _title_height(self) -> float:
        return 1.25 * QFontMetricsF(self.font()).height()

    def _side(self, width: float) -> float:
        columns = self._columns(width)
        return max((width - (columns - 1) * self._spacing()) / columns, 16.0)

    def _boxes(self) -> list[QRectF]:
        """Where the picture of each tile goes."""
        columns, gap, title = self._columns(self.width()), self._spacing(), self._title_height()
        rows = math.ceil(len(self._tiles) / columns)
        height = (self.height() - (rows - 1) * gap) / max(rows, 1) - title
        side = math.floor(max(min(self._side(self.width()), height), 16.0))
        return [
            QRectF(
                (i % columns) * (side + gap), (i // columns) * (side + title + gap) + title,
                side, side,
            )
            for i in range(len(self._tiles))
        ]  # fmt: skip

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        if not self._tiles:
            return 0
        rows = math.ceil(len(self._tiles) / self._columns(width))
        side, gap = self._side(width), self._spacing()
        return math.ceil(rows * (side + self._title_height()) + (rows - 1) * gap)

    def sizeHint(self) -> QSize:  # noqa: N802
        width = max(self.width(), 200)
        return QSize(200, self.heightForWidth(width))

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(120, min(self.heightForWidth(120), 160))

    # ---- painting
    def text_at(self, place: QPointF) -> str:
        shown = zip(self._tiles, self._boxes(), strict=True)
        return next((tile.tooltip for tile, box in shown if box.contains(place)), "")

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        title = self._title_height()
        metrics = QFontMetricsF(self.font())
        for tile, image, box in zip(self._tiles, self.images(), self._boxes(), strict=True):
            painter.setPen(self.palette().windowText().color())
            painter.drawText(
                QRectF(box.left(), box.top() - title, box.width(), title),
                Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter,
                metrics.elidedText(tile.title, Qt.TextElideMode.ElideRight, box.width()),
            )
            painter.drawImage(box, image)
            if tile.outline is not None:
                _paint_outline(painter, box, tile.outline)
            if tile.class_map is not None:
                _paint_colour_bar(painter, box, tile.top_of_bar, metrics)
            self._paint_scale_bar(painter, box)
        painter.end()

    def _paint_scale_bar(self, painter: QPainter, box: QRectF) -> None:
        length_nm = scale_bar_nm(self._field_of_view_nm)
        if not length_nm:
            return
        length = box.width() * length_nm / self._field_of_view_nm
        margin = 0.05 * box.width()
        y, x = box.bottom() - margin, box.left() + margin
        thick = max(2.0, 0.016 * box.width())
        for colour, rim in ((QColor(0, 0, 0, 150), 1.5), (QColor("white"), 0.0)):
            pen = QPen(colour, thick + 2 * rim)
            pen.setCapStyle(Qt.PenCapStyle.FlatCap)
            painter.setPen(pen)
            painter.drawLine(QPointF(x - rim, y), QPointF(x + length + rim, y))
        words = f"{length_nm:g} nm"
        metrics = QFontMetricsF(self.font())
        at = QPointF(
            x + (length - metrics.horizontalAdvance(words)) / 2, y - thick - metrics.descent()
        )
        if at.x() < x:
            at.setX(x)
        painter.setPen(QColor(0, 0, 0, 180))
        painter.drawText(at + QPointF(1, 1), words)
        painter.setPen(QColor("white"))
        painter.drawText(at, words)


def _paint_outline(painter: QPainter, box: QRectF, outline: np.ndarray) -> None:
    """Paint the outline of the cluster over a picture."""
    places = [box.topLeft() + QPointF(x, y) * box.width() for y, x in outline]
    painter.save()
    painter.setClipRect(box)
    painter.setPen(QPen(QColor(255, 255, 255, 170), max(1.0, 0.008 * box.width())))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawPolygon(QPolygonF(places))
    painter.restore()


def _paint_colour_bar(painter: QPainter, box: QRectF, top: float, metrics: QFontMetricsF) -> None:
    """Paint the colour bar of a class map at the right of a picture, from 0 to its top."""
    width, margin = max(4.0, 0.04 * box.width()), 0.05 * box.width()
    bar = QRectF(box.right() - margin - width, box.top() + margin, width, 0.6 * box.height())
    gradient = QLinearGradient(bar.bottomLeft(), bar.topLeft())
    colours = class_map_colours()
    for at in np.linspace(0, 1, 9):
        gradient.setColorAt(at, QColor.fromRgbF(*map(float, colours[round(255 * at), :3])))
    painter.fillRect(bar, gradient)
    painter.setPen(QColor("white"))
    for value, y in ((top, bar.top() + metrics.ascent() / 2), (0.0, bar.bottom())):
        text = f"{value:.2g}"
        x = bar.left() - metrics.horizontalAdvance(text) - margin / 2
        painter.drawText(QPointF(x, y), text)
