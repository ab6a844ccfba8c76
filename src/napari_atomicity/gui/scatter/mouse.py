"""Mouse and keys of a scatter plot: pick, pan, zoom, lasso and rectangle."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.path import Path as Polygon
from qtpy.QtCore import QBuffer, QByteArray, QEvent, QIODevice, QObject, Qt, Signal
from qtpy.QtGui import QImage, QKeyEvent, QMouseEvent, QWheelEvent

from ...models.analysis import Analysis
from ...reporting.patch_pictures import compose

# ---- tooltip of a cluster: text, and its patch if there is one

SIDE_PX = 120
"""Edge of the patch in the popup, in logical pixels."""

_BARELY_PACKED = 90


def patch_of(analysis: Analysis | None, cluster_id: int) -> np.ndarray | None:
    """Return the raw patch (P, P) of a cluster, or None."""
    patches = None if analysis is None else analysis.patches.get("raw")
    if analysis is None or patches is None or len(patches) != len(analysis.table):
        return None
    row = np.flatnonzero(analysis.table["cluster_id"].to_numpy() == cluster_id)
    patch = analysis.without_padding(patches[row[0]], int(row[0])) if len(row) else None
    return patch if patch is not None and np.isfinite(patch).any() else None


def tip(text: str, patch: np.ndarray | None) -> str:
    """Format a tooltip as rich text: the patch above the text."""
    lines = "<br>".join(html.escape(line) for line in text.split("\n"))
    if patch is None:
        return f"<div>{lines}</div>"
    return (
        f'<div><img src="data:image/png;base64,{_png(patch)}" width="{SIDE_PX}" '
        f'height="{SIDE_PX}"><br>{lines}</div>'
    )


def _png(patch: np.ndarray) -> str:
    # Low compression, because a picture is made for every cluster under the mouse.
    pixels = np.ascontiguousarray(compose(patch[None])[0])
    height, width = pixels.shape
    # Without keywords: PyQt6 and PySide6 name these arguments differently.
    image = QImage(pixels.data, width, height, width, QImage.Format.Format_Grayscale8).scaled(
        2 * SIDE_PX,
        2 * SIDE_PX,
        Qt.AspectRatioMode.IgnoreAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG", _BARELY_PACKED)
    buffer.close()
    return bytes(data.toBase64()).decode()


# ---- points in a plane: inclusion in a polygon, marker size and extent

_MARGIN = 0.06


def rows_in_polygon(xy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return the indices of the points inside a closed polygon."""
    if len(polygon) < 3 or not len(xy):
        return np.empty(0, np.int64)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    # The box first: it is cheap and leaves few candidates. NaN compares false.
    near = np.flatnonzero(((xy >= low) & (xy <= high)).all(axis=1))
    return near[Polygon(polygon).contains_points(xy[near])]


def marker_size(n: int) -> float:
    """Return the diameter of n points in logical pixels, smaller for many points."""
    return float(np.clip(16.0 - 2.3 * np.log10(max(n, 1)), 4.0, 11.0))


def smoothing(n: int) -> float:
    """Return the width of the soft edge of n points in pixels, smaller for many points.

    The edge darkens small points, and the time to draw a marker grows with its area.
    """
    return float(np.clip(1.0 - 0.5 * np.log10(max(n, 1) / 300), 0.25, 1.0))


def extent(*clouds: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return left, bottom, width and height around finite points; None without points."""
    finite = [c[np.isfinite(c).all(axis=1)] for c in clouds if len(c)]
    points = np.concatenate(finite) if finite else np.empty((0, 2))
    if not len(points):
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.maximum(high - low, 1e-3 + 0.05 * np.abs(high - low).max())
    low = low - (size - (high - low)) / 2 - _MARGIN * size
    width, height = size * (1 + 2 * _MARGIN)
    return float(low[0]), float(low[1]), float(width), float(height)


REPLACE, ADD, REMOVE = "replace", "add", "remove"
"""How picked points change the selection."""

PAN, LASSO, RECTANGLE = "pan", "lasso", "rectangle"
"""What a plain drag does."""

_DRAG_PX = 4
_LASSO_STEP_PX = 2
_ZOOM_PER_NOTCH = 1.15
_SHIFT = Qt.KeyboardModifier.ShiftModifier
_CONTROL = Qt.KeyboardModifier.ControlModifier


class ScatterMouse(QObject):
    """Event filter of the canvas of a scatter plot.

    Signals: ``picked(rows, mode)`` with mode `REPLACE`, `ADD` or `REMOVE`; ``activated(row)`` at a
    double click.
    """

    picked = Signal(object, str)
    activated = Signal(int)

    def __init__(
        self,
        plot: Any,  # the `scatter.Scatter`, which imports this module
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.tool = PAN
        self._plot = plot
        self._hovered = -1
        self._press: np.ndarray | None = None
        self._last = np.zeros(2)
        self._dragging = False
        self._path: list[np.ndarray] | None = None
        kinds = QEvent.Type
        self._handlers: dict[QEvent.Type, Callable[..., bool]] = {
            kinds.MouseButtonPress: self._on_press,
            kinds.MouseMove: self._on_move,
            kinds.MouseButtonRelease: self._on_release,
            kinds.MouseButtonDblClick: self._on_double_click,
            kinds.Wheel: self._on_wheel,
            kinds.Leave: self._on_leave,
            kinds.KeyPress: self._on_key,
        }

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Handle the events of the canvas that are for the plot; vispy gets the others."""
        handle = self._handlers.get(event.type())
        return handle(event) if handle is not None else False

    def end_drag(self) -> None:
        """Cancel the drag, and hide its path."""
        self._press, self._path, self._dragging = None, None, False
        self._plot.show_path([])

    def forget_hovered(self) -> None:
        """Forget the point under the mouse, because the points have changed."""
        self._hovered = -1

    def _on_press(self, event: QMouseEvent) -> bool:
        self._plot.show_tooltip(-1)
        self.end_drag()
        if event.button() in (Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton):
            self._press = self._last = _position(event)
            keys = _SHIFT | _CONTROL
            drawing = self.tool != PAN or bool(event.modifiers() & keys)
            if drawing and event.button() == Qt.MouseButton.LeftButton:
                self._path = [self._press]
        return True

    def _on_move(self, event: QMouseEvent) -> bool:
        here = _position(event)
        if self._press is None:
            self._hover(here)
        elif self._dragging or np.hypot(*(here - self._press)) >= _DRAG_PX:
            self._dragging = True
            self._drag_to(self._press, here)
        return True

    def _drag_to(self, press: np.ndarray, here: np.ndarray) -> None:
        if self._path is None:
            before, now = self._plot.to_data(np.array([self._last, here]))
            self._plot.pan(before - now)
        elif self.tool == RECTANGLE:
            (left, top), (right, bottom) = press, here
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            self._path = [np.array(corner) for corner in corners]
            self._plot.show_path(self._path)
        elif np.hypot(*(here - self._path[-1])) >= _LASSO_STEP_PX:
            self._path.append(here)
            self._plot.show_path(self._path)
        self._last = here

    def _on_release(self, event: QMouseEvent) -> bool:
        path, dragged, press = self._path, self._dragging, self._press
        self.end_drag()
        mode = selection_mode(event.modifiers())
        if press is None or event.button() != Qt.MouseButton.LeftButton:
            return True
        if not dragged:
            row = self._plot.row_at(press)
            if mode == ADD and row in self._plot.highlighted:
                mode = REMOVE  # a second Shift-click takes it back
            if row >= 0 or mode == REPLACE:
                self.picked.emit(np.array([row] if row >= 0 else [], np.int64), mode)
        elif path is not None:
            polygon = self._plot.to_data(np.array(path))
            self.picked.emit(rows_in_polygon(self._plot.positions, polygon), mode)
        return True

    def _on_double_click(self, event: QMouseEvent) -> bool:
        row = self._plot.row_at(_position(event))
        if event.button() == Qt.MouseButton.LeftButton and row >= 0:
            self.activated.emit(row)
        return True

    def _on_wheel(self, event: QWheelEvent) -> bool:
        centre = self._plot.to_data(_position(event))[0]
        self._plot.zoom(_ZOOM_PER_NOTCH ** (event.angleDelta().y() / 120), centre)
        return True

    def _on_leave(self, event: QEvent) -> bool:
        self._hovered = -1
        return False

    def _on_key(self, event: QKeyEvent) -> bool:
        if event.key() != Qt.Key.Key_Escape or self._press is None:
            return False
        self.end_drag()
        return True

    def _hover(self, here: np.ndarray) -> None:
        row = self._plot.row_at(here)
        if row != self._hovered:
            self._hovered = row
            self._plot.show_tooltip(row)


def selection_mode(modifiers: Qt.KeyboardModifier) -> str:
    """Return how a click with these modifiers changes the selection."""
    if modifiers & _CONTROL:
        return REMOVE
    return ADD if modifiers & _SHIFT else REPLACE


def _position(event: QMouseEvent | QWheelEvent) -> np.ndarray:
    """Return the position of the mouse, in logical pixels of the canvas."""
    return np.array([event.position().x(), event.position().y()])
