"""The loupe: what is around the mouse, enlarged, in a corner of the canvas."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from qtpy.QtCore import QPoint, QPointF, QRectF, Qt, QTimer
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget
from scipy.ndimage import gaussian_filter

from ...atoms.snapping import snap_to_spot
from ...core.errors import AtomicityError
from . import atom_style as atom_looks
from .marking import frame_of, place_of

if TYPE_CHECKING:
    from .atoms import AtomView
    from .binding import Binding

FIELD_NM = 1.6
"""What it shows, from edge to edge: an atom and its neighbours."""
# On the screen, and not more of the canvas than that.
_SIZE_PX, _MAX_OF_CANVAS = 300, 0.45
_MARGIN_PX = 12
_SCALE_BAR_PX = 50
_PERCENTILES = (1.0, 99.8)
_SMOOTH_NM = 0.03
# A mouse moves oftener than anybody sees.
_DELAY_MS = 10


@dataclass(frozen=True, eq=False)
class MagnifierView:
    """What the loupe shows.

    Parameters
    ----------
    pixels
        (h, w) uint8, grey: smoothed a little, between percentiles of what is seen.
    corner
        (y, x) of its first pixel, in pixels of the image.
    centre
        (y, x) of the middle of the loupe, in pixels.
    atoms
        (N, 2) places in pixels.
    radii_px
        (N,) of their rings.
    colours, doubtful
        (N,) of each ring; whether it is broken.
    spot
        (y, x) of the Gaussian next to the centre; None if there is none.
    width_px
        Pixels of the image from edge to edge.
    """

    pixels: np.ndarray
    corner: tuple[int, int]
    centre: tuple[float, float]
    atoms: np.ndarray
    radii_px: np.ndarray
    colours: list[str]
    doubtful: np.ndarray
    spot: tuple[float, float] | None
    width_px: float


def sight(
    frame: np.ndarray,
    centre: tuple[float, float],
    pixel_size_nm: float,
    table: pd.DataFrame,
    colour_by: str,
) -> MagnifierView | None:
    """What is around a place of a frame; None outside of it.

    Parameters
    ----------
    frame
        (Y, X).
    centre
        (y, x) in pixels.
    pixel_size_nm
        Edge length of a pixel.
    table
        Atoms of this frame.
    colour_by
        What their colour tells.
    """
    width = FIELD_NM / pixel_size_nm
    low = np.floor(np.array(centre) - width / 2).astype(int) - 1
    high = np.ceil(np.array(centre) + width / 2).astype(int) + 2
    low, high = np.clip(low, 0, frame.shape), np.clip(high, 0, frame.shape)
    part = np.asarray(frame[low[0] : high[0], low[1] : high[1]], float)
    if not part.size or not np.isfinite(part).any():
        return None
    # What is finer than the probe is noise, and enlarged it is all that one would see.
    part = gaussian_filter(np.nan_to_num(part, nan=np.nanmedian(part)), _SMOOTH_NM / pixel_size_nm)
    dark, light = np.percentile(part, _PERCENTILES)
    grey = (part - dark) / max(light - dark, 1e-12)
    places = table[["y_px", "x_px"]].to_numpy(float)
    near = table[(np.abs(places - centre) <= width / 2 + 5).all(axis=1)]
    return MagnifierView(
        np.ascontiguousarray(255 * np.clip(grey, 0, 1), np.uint8),
        (int(low[0]), int(low[1])),
        centre,
        near[["y_px", "x_px"]].to_numpy(float),
        atom_looks.sizes_px(near, pixel_size_nm) / 2,
        [to_hex(c) for c in atom_looks.colours(near, colour_by)],
        near["uncertain"].to_numpy(bool),
        snap_to_spot(frame, *centre, pixel_size_nm),
        width,
    )


class Magnifier(QWidget):
    """Draws a sight; the mouse goes through it."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setObjectName("Loupe")
        self.setAccessibleName("Loupe")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.sight: MagnifierView | None = None
        self.hide()

    def show_sight(self, found: MagnifierView | None, mouse: Any = None) -> None:
        """Show this, and not where the mouse is."""
        self.sight = found
        self.setVisible(found is not None)
        if found is not None:
            self._keep_clear_of(mouse)
            self.update()

    def _keep_clear_of(self, mouse: Any) -> None:
        room = self.parentWidget()
        if room is None:
            return
        size = min(_SIZE_PX, round(_MAX_OF_CANVAS * min(room.width(), room.height())))
        if self.width() != size:
            self.setFixedSize(size, size)
        right = max(0, room.width() - size - _MARGIN_PX)
        top = max(0, room.height() - size - _MARGIN_PX)
        # In the upper corner on the left stands what keys do, below on the right the scale bar.
        here = QPoint(_MARGIN_PX, top)
        if mouse is not None:
            near = size + 2 * _MARGIN_PX
            if mouse[0] < near and mouse[1] > room.height() - near:
                here = QPoint(right, max(0, top - _SCALE_BAR_PX))
        if self.pos() != here:
            self.move(here)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        found = self.sight
        if found is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.fillRect(self.rect(), QColor("black"))
        self._draw_pixels(painter, found)
        scale = self.width() / found.width_px
        for place, radius, colour, doubtful in zip(
            found.atoms, found.radii_px, found.colours, found.doubtful, strict=True
        ):
            style = Qt.PenStyle.DashLine if doubtful else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(colour), 2, style))
            painter.drawEllipse(self._at(found, place), radius * scale, radius * scale)
        if found.spot is not None:
            painter.setPen(QPen(QColor("#f0e442"), 2))
            spot = self._at(found, found.spot)
            for step in (QPointF(5, 5), QPointF(5, -5)):
                painter.drawLine(spot - step, spot + step)
        self._draw_cross(painter)
        painter.setPen(QPen(QColor("#8c8c8c"), 2))
        painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _draw_pixels(self, painter: QPainter, found: MagnifierView) -> None:
        height, width = found.pixels.shape
        data = found.pixels.tobytes()  # which Qt does not keep alive
        image = QImage(data, width, height, width, QImage.Format.Format_Grayscale8)
        scale = self.width() / found.width_px
        # Whole numbers are centres of pixels.
        corner = self._at(found, (found.corner[0] - 0.5, found.corner[1] - 0.5))
        painter.drawImage(QRectF(corner.x(), corner.y(), width * scale, height * scale), image)

    def _at(self, found: MagnifierView, place: Any) -> QPointF:
        scale = self.width() / found.width_px
        y, x = (np.asarray(place, float) - found.centre) * scale + self.width() / 2
        return QPointF(float(x), float(y))

    def _draw_cross(self, painter: QPainter) -> None:
        """Where the mouse points to; open in the middle."""
        painter.setPen(QPen(QColor(255, 255, 255, 160), 1))
        middle, gap, reach = self.width() / 2, 8, 22
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            painter.drawLine(
                QPointF(middle + dx * gap, middle + dy * gap),
                QPointF(middle + dx * reach, middle + dy * reach),
            )


class CanvasMagnifier:
    """Keeps the loupe where the mouse is.

    Parameters
    ----------
    view
        Says what the colours of atoms tell.
    binding
        Of its viewer.
    """

    def __init__(self, view: AtomView, binding: Binding) -> None:
        self._view = weakref.ref(view)
        self._binding = weakref.ref(binding)
        self._widget: Magnifier | None = None
        self._world: Any = None
        self._mouse: Any = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.look)
        reference = weakref.ref(self)

        def moved(viewer: Any, event: Any) -> None:
            loupe = reference()
            if loupe is not None:
                loupe.follow(event.position, event.pos)

        binding.viewer.mouse_move_callbacks.append(moved)
        binding.state.atoms.changed.connect(self._look_soon)

    @property
    def widget(self) -> Magnifier | None:
        """What lies over the canvas; None while it is off."""
        return self._widget

    def start(self) -> None:
        """Show it from the next movement of the mouse on."""
        binding = self._binding()
        if binding is not None and binding.viewer is not None and self._widget is None:
            self._widget = Magnifier(binding.viewer.window._qt_viewer.canvas.native)
            if self._world is None:
                self._world = binding.viewer.cursor.position
            self._look_soon()

    def stop(self) -> None:
        """Take it away."""
        widget, self._widget = self._widget, None
        self._timer.stop()
        if widget is not None:
            try:
                widget.hide()
                widget.deleteLater()
            except RuntimeError:  # it went with the canvas
                pass

    def follow(self, world: Any, mouse: Any) -> None:
        """The mouse is there now: in the scene, and (x, y) in the canvas."""
        self._world, self._mouse = world, mouse
        self._look_soon()

    def _look_soon(self, *_: object) -> None:
        if self._widget is not None and not self._timer.isActive():
            self._timer.start()

    def look(self) -> None:
        """Show what is around the mouse."""
        if self._widget is None:
            return
        try:
            self._widget.show_sight(self._sight(), self._mouse)
        except RuntimeError:  # it went with the canvas
            self._widget = None

    def _sight(self) -> MagnifierView | None:
        binding, view = self._binding(), self._view()
        if binding is None or view is None or binding.viewer is None or self._world is None:
            return None
        image = binding.state.current
        source = None if image is None else binding.source_layer(image)
        if image is None or source is None:
            return None
        frame, y, x = place_of(source, self._world)
        pixels = frame_of(binding, image, frame)
        if not (0 <= y < pixels.shape[0] and 0 <= x < pixels.shape[1]):
            return None
        try:
            size_nm = binding.state.micrograph(image).calibrated()
        except AtomicityError:
            return None
        table = binding.state.atoms.table(image)
        table = table[(table["frame"] == frame).to_numpy()]
        return sight(pixels, (y, x), size_nm, table, view.colour_by)
