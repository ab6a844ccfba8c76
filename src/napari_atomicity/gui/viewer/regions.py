"""Excluded regions: polygons on a Shapes layer are edits of the state."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Shapes
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer

from ...core.errors import AtomicityError
from ...models.analysis import Analysis
from .canvas import Canvas
from .layers import ImageLayers

_CORNERS_OF_ELLIPSE = 48
# While a shape is drawn, napari emits an event for each corner: look again after this time.
_WHILE_DRAWING_MS = 50


def polygon_of(corners: np.ndarray, kind: str) -> np.ndarray:
    """Return the polygon (M, 2) in pixels (y, x) of a napari shape with corners (N, D)."""
    corners = np.asarray(corners, float)[:, -2:]
    if kind != "ellipse":
        return corners
    centre = corners.mean(axis=0)
    a, b = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _CORNERS_OF_ELLIPSE, endpoint=False)[:, None]
    return centre + np.cos(angle) * a + np.sin(angle) * b


def same_regions(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> bool:
    """Return whether two sets of polygons are the same to a hundredth of a pixel."""
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, atol=0.01) for x, y in zip(a, b, strict=True)
    )


class RegionLayers:
    """Keep the layers ``<image> regions`` and the excluded regions of the state the same.

    Parameters
    ----------
    canvas : Canvas
        The viewer and its layers.
    """

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._take)

    def draw(self) -> bool:
        """Start to draw regions in the current image, and return whether that is possible."""
        canvas, known = self._canvas, self._canvas.current_layers()
        analysis = None if known is None else canvas.state.analysis(known.image)
        if known is None or analysis is None:
            return False
        if known.regions is None:
            known.new_regions(self._connect)
            self.write(known, analysis)
        layer = known.regions
        layer.visible = True
        canvas.activate(layer)
        layer.mode = "add_polygon_lasso"
        return True

    def write(self, known: ImageLayers, analysis: Analysis) -> None:
        """Show the regions of an analysis; the first one makes the layer."""
        layer = known.regions
        if layer is None and not analysis.regions:
            return
        layer = layer or known.new_regions(self._connect)
        if not same_regions(_polygons(layer), analysis.regions):
            known.write_regions(analysis.regions)

    def clear_if_deleted(self, image: str) -> None:
        """Remove the regions of an image whose layer of regions was deleted by hand."""
        known = self._canvas.layers_of(image)
        deleted = known is not None and known.source is not None and known.regions is None
        if known is not None and deleted and self._canvas.state.clusters.regions(image):
            self._set(known, ())

    def _set(self, known: ImageLayers, polygons: tuple[np.ndarray, ...]) -> bool:
        state = self._canvas.state
        try:
            state.clusters.set_regions(known.image, polygons)
        except AtomicityError as error:
            show_error(str(error))
            analysis = state.analysis(known.image)
            if analysis is not None:
                self.write(known, analysis)
            return False
        return True

    def _connect(self, layer: Shapes) -> None:
        layer.events.data.connect(self._on_data)
        # In napari E draws ellipses, and only the layer list would lead back to the clusters.
        for key in ("E", "Escape"):
            layer.bind_key(key, self._stop_drawing, overwrite=True)

    def _stop_drawing(self, layer: Shapes) -> None:
        """Return keys and clicks to the clusters."""
        known = self._canvas.current_layers()
        if getattr(layer, "_is_creating", False):
            layer._finish_drawing()
        if known is not None and known.points is not None:
            self._canvas.activate(known.points)
            self._canvas.show_message("A click selects a cluster")

    def _on_data(self, event: Any) -> None:
        if not self._canvas.is_writing:
            self._timer.start(0)

    def _take(self) -> None:
        """Make an edit of what was drawn."""
        known = self._canvas.current_layers()
        layer = None if known is None else known.regions
        if known is None or layer is None:
            return
        if getattr(layer, "_is_creating", False):
            self._timer.start(_WHILE_DRAWING_MS)
            return
        drawn, before = _polygons(layer), self._canvas.state.clusters.regions(known.image)
        if not same_regions(drawn, before) and self._set(known, drawn) and len(drawn) > len(before):
            self._stop_drawing(layer)  # so that Ctrl+Z undoes it; E draws another one


def _polygons(layer: Shapes) -> tuple[np.ndarray, ...]:
    found = [polygon_of(c, k) for c, k in zip(layer.data, layer.shape_type, strict=True)]
    return tuple(p for p in found if len(p) >= 3)
