"""What the network saw of one cluster, and where it looked: patches and class maps, enlarged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget
from skimage.transform import resize

from ...io.contrast import stretch
from .drawing import Drawing

COLORMAP = "inferno"
"""Of the class maps: perceptually uniform, dark where the network did not look."""

_FACTOR = 5
_STRIPES = 18  # of the hatching, along the edge of a patch
_OPACITY = 0.75
_BAR_LENGTHS_NM = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def grey(patch: np.ndarray) -> np.ndarray:
    """Scale a patch (P, P) to 0 to 1 between its 1st and 99.8th percentiles."""
    return stretch(patch, 1, 99.8)


def enlarge(image: np.ndarray, size_px: int) -> np.ndarray:
    """Resample an image (h, w) to (size_px, size_px), with aligned outer edges.

    Pixels are areas: the first pixel of a coarse class map covers as much of the patch as it
    should, and not half a pixel less.
    """
    return resize(
        np.asarray(image, float), (size_px, size_px), order=1, mode="edge", anti_aliasing=False
    )


def hatch_padding(pixels: np.ndarray, patches: np.ndarray) -> None:
    """Hatch what is not finite of patches that have pixels: it is beyond the image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (..., H, W) or (..., H, W, 3)
        Composed patches, changed in place; H and W are multiples of those of the patches.
    """
    finite = np.isfinite(patches)
    padding = ~finite & finite.any(axis=(-2, -1), keepdims=True)
    if not padding.any():
        return
    factor = pixels.shape[patches.ndim - 2] // patches.shape[-2]
    padding = padding.repeat(factor, axis=-2).repeat(factor, axis=-1)
    y, x = np.indices(padding.shape[-2:])
    stripes = np.where((y + x) // max(1, padding.shape[-1] // _STRIPES) % 2, 104, 56)
    pixels[padding] = np.broadcast_to(stripes, padding.shape)[padding].reshape(
        -1, *(1,) * (pixels.ndim - padding.ndim)
    )


def compose(
    patch: np.ndarray, class_map: np.ndarray | None = None, top: float | None = None
) -> np.ndarray:
    """Return a patch in grey, overlaid with its class map if there is one; padding is hatched.

    Parameters
    ----------
    patch : ndarray
        (P, P); NaN beyond the image.
    class_map : ndarray, optional
        (h, w) over the same field of view; what is negative speaks against the class and is left
        out.
    top : float, optional
        The value of the class map at the bright end of the colormap; its maximum if None.

    Returns
    -------
    numpy.ndarray
        (5 P, 5 P, 3) uint8.
    """
    size = _FACTOR * patch.shape[-1]
    ground = np.repeat(enlarge(grey(patch), size)[..., None], 3, axis=2)
    if class_map is not None:
        map_ = np.clip(np.nan_to_num(class_map), 0, None)
        top = float(map_.max()) if top is None else top
        strength = np.clip(enlarge(map_, size) / max(top, 1e-12), 0, 1)[..., None]
        colour = colormaps[COLORMAP](strength[..., 0])[..., :3]
        ground = 0.55 * ground * (1 - _OPACITY * strength) + colour * _OPACITY * strength
    pixels = (255 * np.clip(ground, 0, 1)).round().astype(np.uint8)
    hatch_padding(pixels, patch)
    return pixels


def scale_bar_nm(field_of_view_nm: float) -> float:
    """Return a round length of about a third of the field of view; 0 if it is not known."""
    fitting = [x for x in _BAR_LENGTHS_NM if x <= 0.45 * field_of_view_nm]
    return fitting[-1] if fitting else 0.0


@dataclass(frozen=True, eq=False)
class PatchTile:
    """One picture of a cluster: a title, (P, P) of a patch and perhaps (h, w) over it."""

    title: str
    patch: np.ndarray
    class_map: np.ndarray | None = None
    top: float | None = None
    tooltip: str = ""


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
                rgb = np.ascontiguousarray(compose(tile.patch, tile.class_map, tile.top))
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
