"""Polygons that a person draws in an image become edits of the state."""

from __future__ import annotations

from typing import Any

from napari.layers import Shapes
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer

from ...core.errors import AtomicityError
from .canvas import Canvas
from .layers import ImageLayers
from .points import PointsKind
from .polygons import PolygonKind, Polygons, same_polygons

# While a shape is drawn, napari emits an event for each corner: look again after this time.
_WHILE_DRAWING_MS = 50


class PolygonEditor:
    """Keep the polygons of one kind in all images and those of the state the same.

    Subclasses say how the state is read and edited, and which points get keys and clicks when
    drawing ends.

    Parameters
    ----------
    canvas : Canvas
        The viewer and its layers.
    """

    kind: PolygonKind
    points: PointsKind
    message_at_end: str

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._take)

    # ---- of each kind
    def in_state(self, image: str) -> tuple[Polygons, ...]:
        """Return the polygons of each colour as the state has them."""
        raise NotImplementedError

    def edit_state(self, image: str, polygons: tuple[Polygons, ...]) -> None:
        """Edit the polygons of the state."""
        raise NotImplementedError

    def write(self, image: str) -> None:
        """Show the polygons of the state."""
        raise NotImplementedError

    # ---- drawing
    def create(self, known: ImageLayers) -> Shapes:
        """Make the layer of an image and follow what is drawn in it."""
        layer = known.polygons[self.kind].create()
        layer.events.data.connect(self._on_data)
        # In napari E draws ellipses, and only the layer list would lead back to the points.
        for key in ("E", "Escape"):
            layer.bind_key(key, self.stop_drawing, overwrite=True)
        return layer

    def start_drawing(self, layer: Shapes) -> None:
        """Let the mouse draw polygons in a layer."""
        if not layer.visible:
            layer.visible = True
        self._canvas.activate(layer)
        layer.mode = "add_polygon_lasso"

    def stop_drawing(self, layer: Shapes) -> None:
        """Return keys and clicks to the points."""
        if getattr(layer, "_is_creating", False):
            layer._finish_drawing()
        layer.mode = "pan_zoom"
        points = self._canvas.layer(self._state.current, self.points.name)
        if points is not None:
            self._canvas.activate(points)
            self._canvas.show_message(self.message_at_end)

    def _on_data(self, event: Any) -> None:
        if not self._canvas.is_writing:
            self._timer.start(0)

    def _take(self) -> None:
        """Make an edit of what was drawn in the current image."""
        known = self._canvas.current_layers()
        layer = None if known is None else known.polygons[self.kind].layer
        if layer is None:
            return
        if getattr(layer, "_is_creating", False):
            self._timer.start(_WHILE_DRAWING_MS)
            return
        drawn, before = known.polygons[self.kind].read(), self.in_state(known.image)
        if not same_polygons(drawn, before) and self.attempt(known.image, drawn):
            self.on_drawn(layer, sum(map(len, drawn)) - sum(map(len, before)))

    def attempt(self, image: str, polygons: tuple[Polygons, ...]) -> bool:
        """Edit the state and return whether that is accepted; show the error if not."""
        try:
            self.edit_state(image, polygons)
        except AtomicityError as error:
            show_error(str(error))
            self.write(image)
            return False
        return True

    def on_drawn(self, layer: Shapes, n_new: int) -> None:
        """React to an edit that has added polygons."""
