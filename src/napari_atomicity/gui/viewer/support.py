"""Correction of the support: polygons on a Shapes layer are edits of the state."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Shapes
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer

from ...core.errors import AtomicityError
from .atom_layers import ADDED, REMOVED, AtomLayers
from .canvas import Canvas
from .edit_commands import EditCommands
from .regions import polygon_of, same_regions

Polygons = tuple[np.ndarray, ...]
# While a shape is drawn, napari emits an event for each corner: look again after this time.
_WHILE_DRAWING_MS = 50


class Support:
    """Keep the layers ``<image> support`` and ``<image> vacuum`` and the state the same.

    Parameters
    ----------
    canvas : Canvas
        The viewer and its layers.
    edits : EditCommands
        Undo and redo.
    """

    def __init__(self, canvas: Canvas, edits: EditCommands) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._edits = edits
        self._visible = False
        self._adds = False
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._take)

    @property
    def visible(self) -> bool:
        """Whether support and vacuum are shown."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        for image in self._canvas.images():
            self.write(image)

    @property
    def adds(self) -> bool:
        """Whether the next polygon adds to the support; otherwise it marks vacuum."""
        return self._adds

    @adds.setter
    def adds(self, adds: bool) -> None:
        self._adds = adds
        self._style_next()

    def write(self, image: str) -> None:
        """Show the support of an image, or hide it."""
        known = self._canvas.layers_of(image)
        if self._canvas.viewer is None or known is None or known.source is None:
            return
        layers, atoms = AtomLayers(known), self._state.atoms.of(image)
        if not self._visible:
            for layer in (layers.support, layers.vacuum):
                if layer is not None and layer.visible:
                    layer.visible = False
            return
        mask = None if atoms is None else atoms.support
        layers.write_vacuum(mask)
        if mask is not None and layers.support is None:
            self._connect(layers.new_support())
            self._style_next()
        if layers.support is not None:
            added = () if atoms is None else atoms.support_added
            removed = () if atoms is None else atoms.support_removed
            drawn = self._drawn(layers)
            if not (same_regions(drawn[0], added) and same_regions(drawn[1], removed)):
                is_stack = known.source.ndim == 3
                frame = self._canvas.viewer.dims.current_step[0] if is_stack else 0
                layers.write_support(added, removed, frame)
                self._style_next()
        for layer in (layers.support, layers.vacuum):
            # If it were assigned again, napari would leave the drawing mode.
            if layer is not None and not layer.visible and not known.is_hidden:
                layer.visible = True

    def _current(self) -> AtomLayers | None:
        known = self._canvas.current_layers()
        return None if known is None else AtomLayers(known)

    def _style_next(self) -> None:
        """Give the next polygon the colour of support or vacuum."""
        layers = self._current()
        if layers is not None:
            layers.set_next_kind(ADDED if self._adds else REMOVED)

    def draw(self) -> bool:
        """Start to draw polygons in the current image, and return whether that is possible."""
        layers = self._current()
        layer = None if layers is None else layers.support
        if layer is None:
            show_info("Find atoms first. Then you can correct the support.")
            return False
        if not layer.visible:
            layer.visible = True
        self._style_next()
        self._canvas.activate(layer)
        layer.mode = "add_polygon_lasso"
        self._canvas.show_message("Draw around " + ("support" if self._adds else "vacuum"))
        return True

    def _connect(self, layer: Shapes) -> None:
        layer.events.data.connect(self._on_data)
        for key in ("E", "Escape"):
            layer.bind_key(key, self._stop_drawing, overwrite=True)
        layer.bind_key("Control-Z", self._undo, overwrite=True)
        layer.bind_key("Control-Shift-Z", self._redo, overwrite=True)

    def _undo(self, layer: Shapes) -> None:
        self._edits.undo()

    def _redo(self, layer: Shapes) -> None:
        self._edits.redo()

    def _stop_drawing(self, layer: Shapes) -> None:
        """Return keys and clicks to the atoms."""
        if getattr(layer, "_is_creating", False):
            layer._finish_drawing()
        layer.mode = "pan_zoom"
        layers = self._current()
        points = None if layers is None else layers.points
        if points is not None:
            self._canvas.activate(points)
            self._canvas.show_message("A click selects an atom")

    def _on_data(self, event: Any) -> None:
        if not self._canvas.is_writing:
            self._timer.start(0)

    def _take(self) -> None:
        """Make an edit of what was drawn."""
        known, layers = self._canvas.current_layers(), self._current()
        layer = None if layers is None else layers.support
        if known is None or layers is None or layer is None:
            return
        if getattr(layer, "_is_creating", False):
            self._timer.start(_WHILE_DRAWING_MS)
            return
        image, (added, removed) = known.image, self._drawn(layers)
        atoms = self._state.atoms.of(image)
        if atoms is None or (
            same_regions(added, atoms.support_added)
            and same_regions(removed, atoms.support_removed)
        ):
            return
        try:
            self._state.atoms.set_support(image, added, removed)
        except AtomicityError as error:
            show_error(str(error))
            self.write(image)

    @staticmethod
    def _drawn(layers: AtomLayers) -> tuple[Polygons, Polygons]:
        """Return the drawn polygons that add to the support, and those that remove from it."""
        layer = layers.support
        assert layer is not None
        shapes = [polygon_of(c, k) for c, k in zip(layer.data, layer.shape_type, strict=True)]
        found = [(k, p) for k, p in zip(layers.kinds(), shapes, strict=True) if len(p) >= 3]
        return (
            tuple(p for k, p in found if k == ADDED),
            tuple(p for k, p in found if k == REMOVED),
        )
