"""The atoms of the images in a viewer: points, marking by hand, support and magnifier."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from psygnal import Signal
from qtpy.QtCore import QPoint, QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QWidget
from scipy.ndimage import gaussian_filter

from ....atoms.finding.localisation import snap_to_spot
from ....atoms.table import PERSON
from ....core.errors import AtomicityError
from ....state.atom_store import AtomKey
from ...controls.questions import show_info
from ...controls.refresher import single_shot
from ...controls.shortcuts import MouseMoves
from ..canvas import Canvas
from ..clusters.edit_commands import EditCommands
from ..clusters.labelling import LabelMode
from ..current_image import CurrentImage
from ..layers import atom_style
from ..layers.atom_style import pixel_at
from ..layers.points import ATOMS
from .atom_points import AtomPoints
from .marking import Marking
from .support import SupportEditor

# ---- the magnifier: the surroundings of the mouse, enlarged, in a corner of the canvas

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
    by_person: np.ndarray  # which are squares instead of rings
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
        near["origin"].to_numpy(object) == PERSON,
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
        # The upper left corner shows the keys, the lower left one the scale bar.
        here = QPoint(_MARGIN_PX, max(0, top - _SCALE_BAR_PX))
        if mouse is not None:
            near = size + 2 * _MARGIN_PX
            if mouse[0] < near and mouse[1] > here.y() - _MARGIN_PX:
                here = QPoint(right, top)
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
        for place, radius, colour, uncertain, by_person in zip(
            view.atoms, view.radii_px, view.colours, view.uncertain, view.by_person, strict=True
        ):
            style = Qt.PenStyle.DashLine if uncertain else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(colour), 2, style))
            reach = QPointF(radius * scale, radius * scale)
            box = QRectF(self._at(view, place) - reach, self._at(view, place) + reach)
            (painter.drawRect if by_person else painter.drawEllipse)(box)
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
        self._timer = single_shot(self.update, _DELAY_MS)
        canvas.viewer.mouse_move_callbacks.append(MouseMoves(self.follow))
        for signal in (canvas.state.atoms.changed, canvas.state.current_changed):
            signal.connect(self._update_later)

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

    def show_atom(self, image: str, atom: pd.Series) -> None:
        """Move to an atom that comes into view, until the mouse moves."""
        source = self._canvas.source_layer(image)
        if source is not None:
            place = atom[["frame", "y_px", "x_px"][-source.ndim :]].to_numpy(float)
            self.follow(source.data_to_world(place), self._mouse)

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
        table = self._points.coloured(image)
        table = table[(table["frame"] == frame).to_numpy()]
        return magnify(pixels, (y, x), size_nm, table, self._points.colour_by)


class AtomView:
    """Show the atoms of the images in the viewer and let a person mark them.

    Signals: ``marking_changed(bool)``, ``magnifier_changed(bool)``, ``support_shown(bool)``,
    ``colouring_changed(str)`` when one of the switches is set.
    """

    marking_changed = Signal(bool)
    magnifier_changed = Signal(bool)
    support_shown = Signal(bool)
    colouring_changed = Signal(str)

    def __init__(
        self,
        canvas: Canvas,
        current_image: CurrentImage,
        label_mode: LabelMode,  # its review ends when marking starts
        edits: EditCommands,
    ) -> None:
        self._canvas = canvas
        self.state = canvas.state
        self._current_image = current_image
        self._support = SupportEditor(canvas)
        self._points = AtomPoints(canvas, self._support)
        self._marking = Marking(canvas, self._points, label_mode, edits)
        self._magnifier = CanvasMagnifier(canvas, self._points)
        self._marking.changed.connect(self.marking_changed.emit)
        self._marking.changed.connect(self._support.name_click)
        self._marking.magnifier_toggled.connect(self._toggle_magnifier)
        self.state.atoms.focus_requested.connect(self._on_focus)

    # ---- switches
    @property
    def marking(self) -> bool:
        """Whether a click in the image marks an atom."""
        return self._marking.on

    @marking.setter
    def marking(self, on: bool) -> None:
        self._marking.on = on

    @property
    def magnifier(self) -> bool:
        """Whether the surroundings of the mouse are shown enlarged."""
        return self._magnifier.widget is not None

    @magnifier.setter
    def magnifier(self, on: bool) -> None:
        if on != self.magnifier:
            if on:
                self._marking.take_image()
                self._magnifier.start()
            else:
                self._magnifier.stop()
            self.magnifier_changed.emit(on)

    def _toggle_magnifier(self) -> None:
        self.magnifier = not self.magnifier

    @property
    def show_support(self) -> bool:
        """Whether vacuum is shown and the support can be corrected."""
        return self._support.visible

    @show_support.setter
    def show_support(self, on: bool) -> None:
        if on == self._support.visible:
            return
        atoms = self.state.atoms.of(self.state.current)
        if on and (atoms is None or atoms.support is None):
            show_info("Find atoms first. This also detects the support, which you can correct.")
        self._support.visible = on
        self.support_shown.emit(on)

    def draw_support(self, adds: bool) -> bool:
        """Start to draw support or vacuum in the current image; return whether it is possible."""
        self.show_support = True
        self._support.adds = adds
        return self._support.draw()

    def stop_drawing(self) -> None:
        """Stop to draw support or vacuum."""
        self._support.stop()

    @property
    def colour_by(self) -> str:
        """What the colour of a ring shows: one of `atom_style.COLOURINGS`."""
        return self._points.colour_by

    @colour_by.setter
    def colour_by(self, name: str) -> None:
        if name != self._points.colour_by:
            self._points.colour_by = name
            self.colouring_changed.emit(name)

    def legend(self, image: str | None) -> list[tuple[str, str]]:
        """Return text and colour, ``#rrggbb``, of the entries of the legend of an image."""
        return atom_style.legend(self._points.coloured(image or ""), self.colour_by)

    # ---- layers
    def on_layers_created(self, image: str) -> None:
        """Show the atoms of an image that has got its layers."""
        self._points.show(image)
        if self.marking and image == self.state.current:
            self._points.show_for_marking(image)

    # ---- selection
    def select_at(self, world: Any, extend: bool = False) -> bool:
        """Select the atom at a place of the current image, and return whether there is one."""
        return self._points.select_at(world, extend)

    @property
    def in_front(self) -> bool:
        """Whether the layer of the atoms is active, so that a click selects atoms first."""
        active = self._canvas.active_layer
        return active is not None and active is self._canvas.layer(self.state.current, ATOMS.name)

    def _on_focus(self, key: AtomKey) -> None:
        image, atom_id = key
        table = self.state.atoms.table(image)
        row = table[(table["atom_id"] == atom_id).to_numpy()]
        if len(row):
            atom = row.iloc[0]
            self._current_image.bring_into_view(image, atom)
            self._magnifier.show_atom(image, atom)
        elif image in self.state.images:
            self.state.current = image
