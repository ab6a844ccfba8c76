"""The magnifier: the surroundings of the mouse, enlarged, in a corner of the canvas."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from qtpy.QtCore import QPoint, QPointF, QRectF, Qt, QTimer
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget
from scipy.ndimage import gaussian_filter

from ...atoms.snapping import snap_to_spot
from ...core.errors import AtomicityError
from . import atom_style
from .atom_points import AtomPoints
from .canvas import Canvas
from .key_events import MouseMoves
from .places import pixel_at

FIELD_NM = 1.6
"""Field of view in nm: an atom and its neighbours."""
# Size on the screen, and largest fraction of the canvas.
_SIZE_PX, _MAX_OF_CANVAS = 300, 0.45
_MARGIN_PX = 12
_SCALE_BAR_PX = 50
_PERCENTILES = (1.0, 99.8)
_SMOOTH_NM = 0.03
# Time between two updates while the mouse moves.
_DELAY_MS = 10


@dataclass(frozen=True, eq=False)
class MagnifierView:
    """What the magnifier shows."""

    pixels: np.ndarray  # grey values, slightly smoothed and scaled between percentiles
    corner: tuple[int, int]  # position (y, x) of the first pixel, in pixels of the image
    centre: tuple[float, float]  # position (y, x) of the centre of the magnifier, in pixels
    atoms: np.ndarray  # positions (y, x) of the atoms in pixels
    radii_px: np.ndarray  # radii of their rings in pixels
    colours: list[str]  # colours of the rings
    uncertain: np.ndarray  # which rings are dashed
    spot: tuple[float, float] | None  # position (y, x) of the spot to which a click snaps
    width_px: float  # width of the field of view in pixels of the image


def magnify(
    frame: np.ndarray,  # frame of the image
    centre: tuple[float, float],  # the place (y, x) in pixels
    pixel_size_nm: float,
    table: pd.DataFrame,
    colour_by: str,  # what the colours show: one of `atom_style.COLOURINGS`
) -> MagnifierView | None:
    """Return the view of the surroundings of a place; None outside the image."""
    width = FIELD_NM / pixel_size_nm
    low = np.floor(np.array(centre) - width / 2).astype(int) - 1
    high = np.ceil(np.array(centre) + width / 2).astype(int) + 2
    low, high = np.clip(low, 0, frame.shape), np.clip(high, 0, frame.shape)
    part = np.asarray(frame[low[0] : high[0], low[1] : high[1]], float)
    if not part.size or not np.isfinite(part).any():
        return None
    # Details finer than the probe are noise.
    part = gaussian_filter(np.nan_to_num(part, nan=np.nanmedian(part)), _SMOOTH_NM / pixel_size_nm)
    dark, light = np.percentile(part, _PERCENTILES)
    grey = (part - dark) / max(light - dark, 1e-12)
    places = table[["y_px", "x_px"]].to_numpy(float)
    near = table[(np.abs(places - centre) <= width / 2 + 5).all(axis=1)]
    properties = atom_style.properties(near, pixel_size_nm, colour_by)
    return MagnifierView(
        np.ascontiguousarray(255 * np.clip(grey, 0, 1), np.uint8),
        (int(low[0]), int(low[1])),
        centre,
        near[["y_px", "x_px"]].to_numpy(float),
        properties["size"] / 2,
        [to_hex(c) for c in properties["border_color"]],
        near["uncertain"].to_numpy(bool),
        snap_to_spot(frame, *centre, pixel_size_nm),
        width,
    )


class Magnifier(QWidget):
    """Draw a `MagnifierView`; transparent for the mouse."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setObjectName("Magnifier")
        self.setAccessibleName("Magnifier")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.view: MagnifierView | None = None
        self.hide()

    def show_view(self, view: MagnifierView | None, mouse: Any = None) -> None:
        """Show a view in a corner that does not cover the mouse."""
        self.view = view
        self.setVisible(view is not None)
        if view is not None:
            self._move_away_from(mouse)
            self.update()

    def _move_away_from(self, mouse: Any) -> None:
        room = self.parentWidget()
        if room is None:
            return
        size = min(_SIZE_PX, round(_MAX_OF_CANVAS * min(room.width(), room.height())))
        if self.width() != size:
            self.setFixedSize(size, size)
        right = max(0, room.width() - size - _MARGIN_PX)
        top = max(0, room.height() - size - _MARGIN_PX)
        # The upper left corner shows the keys, the lower right one the scale bar.
        here = QPoint(_MARGIN_PX, top)
        if mouse is not None:
            near = size + 2 * _MARGIN_PX
            if mouse[0] < near and mouse[1] > room.height() - near:
                here = QPoint(right, max(0, top - _SCALE_BAR_PX))
        if self.pos() != here:
            self.move(here)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802
        view = self.view
        if view is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.fillRect(self.rect(), QColor("black"))
        self._draw_pixels(painter, view)
        scale = self.width() / view.width_px
        for place, radius, colour, uncertain in zip(
            view.atoms, view.radii_px, view.colours, view.uncertain, strict=True
        ):
            style = Qt.PenStyle.DashLine if uncertain else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(colour), 2, style))
            painter.drawEllipse(self._at(view, place), radius * scale, radius * scale)
        if view.spot is not None:
            painter.setPen(QPen(QColor("#f0e442"), 2))
            spot = self._at(view, view.spot)
            for step in (QPointF(5, 5), QPointF(5, -5)):
                painter.drawLine(spot - step, spot + step)
        self._draw_cross(painter)
        painter.setPen(QPen(QColor("#8c8c8c"), 2))
        painter.drawRect(self.rect().adjusted(1, 1, -1, -1))
        painter.end()

    def _draw_pixels(self, painter: QPainter, view: MagnifierView) -> None:
        height, width = view.pixels.shape
        data = view.pixels.tobytes()  # Qt does not keep it alive
        image = QImage(data, width, height, width, QImage.Format.Format_Grayscale8)
        scale = self.width() / view.width_px
        # Integers are centres of pixels.
        corner = self._at(view, (view.corner[0] - 0.5, view.corner[1] - 0.5))
        painter.drawImage(QRectF(corner.x(), corner.y(), width * scale, height * scale), image)

    def _at(self, view: MagnifierView, place: Any) -> QPointF:
        scale = self.width() / view.width_px
        y, x = (np.asarray(place, float) - view.centre) * scale + self.width() / 2
        return QPointF(float(x), float(y))

    def _draw_cross(self, painter: QPainter) -> None:
        """Draw a cross at the position of the mouse, open in the centre."""
        painter.setPen(QPen(QColor(255, 255, 255, 160), 1))
        middle, gap, reach = self.width() / 2, 8, 22
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            painter.drawLine(
                QPointF(middle + dx * gap, middle + dy * gap),
                QPointF(middle + dx * reach, middle + dy * reach),
            )


class CanvasMagnifier:
    """Keep the magnifier at the position of the mouse."""

    def __init__(self, canvas: Canvas, points: AtomPoints) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._points = points
        self._widget: Magnifier | None = None
        self._world: Any = None
        self._mouse: Any = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.update)
        canvas.viewer.mouse_move_callbacks.append(MouseMoves(self.follow))
        canvas.state.atoms.changed.connect(self._update_later)

    @property
    def widget(self) -> Magnifier | None:
        """The widget over the canvas; None while the magnifier is off."""
        return self._widget

    def start(self) -> None:
        """Show the magnifier."""
        viewer = self._canvas.viewer
        if viewer is not None and self._widget is None:
            self._widget = Magnifier(viewer.window._qt_viewer.canvas.native)
            if self._world is None:
                self._world = viewer.cursor.position
            self._update_later()

    def stop(self) -> None:
        """Remove the magnifier."""
        widget, self._widget = self._widget, None
        self._timer.stop()
        if widget is not None:
            with suppress(RuntimeError):  # Qt has deleted it with the canvas
                widget.hide()
                widget.deleteLater()

    def follow(self, world: Any, mouse: Any) -> None:
        """Move to a place of the scene; ``mouse`` is (x, y) in the canvas."""
        self._world, self._mouse = world, mouse
        self._update_later()

    def _update_later(self, *_: object) -> None:
        if self._widget is not None and not self._timer.isActive():
            self._timer.start()

    def update(self) -> None:
        """Show the surroundings of the mouse."""
        if self._widget is None:
            return
        try:
            self._widget.show_view(self._view(), self._mouse)
        except RuntimeError:  # Qt has deleted it with the canvas
            self._widget = None

    def _view(self) -> MagnifierView | None:
        image = self._state.current
        source = self._canvas.source_layer(image)
        if image is None or source is None or self._world is None:
            return None
        frame, y, x = pixel_at(source, self._world)
        pixels = self._canvas.frame(image, frame)
        if not (0 <= y < pixels.shape[0] and 0 <= x < pixels.shape[1]):
            return None
        try:
            size_nm = self._state.micrograph(image).calibrated()
        except AtomicityError:
            return None
        table = self._state.atoms.table(image)
        table = table[(table["frame"] == frame).to_numpy()]
        return magnify(pixels, (y, x), size_nm, table, self._points.colour_by)
