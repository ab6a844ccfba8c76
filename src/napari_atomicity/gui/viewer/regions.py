"""Excluded regions: drawn on a Shapes layer, and edits of the session like everything else."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import QTimer

from ...models.analysis import Analysis

if TYPE_CHECKING:
    from .binding import Binding
    from .layers import ImageLayers

_CORNERS_OF_ELLIPSE = 48


def polygon_of(corners: np.ndarray, kind: str) -> np.ndarray:
    """What a shape of napari encloses, (M, 2) in pixels (y, x), of its corners (N, D)."""
    corners = np.asarray(corners, float)[:, -2:]
    if kind != "ellipse":
        return corners
    centre = corners.mean(axis=0)
    a, b = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _CORNERS_OF_ELLIPSE, endpoint=False)[:, None]
    return centre + np.cos(angle) * a + np.sin(angle) * b


def same_regions(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> bool:
    """Whether two sets of polygons are the same to a hundredth of a pixel."""
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, atol=0.01) for x, y in zip(a, b, strict=True)
    )


class RegionLayers:
    """Keeps the layers ``<image> regions`` and the session's regions the same."""

    def __init__(self, binding: Binding) -> None:
        self._binding = weakref.ref(binding)
        # A shape in the making tells of itself at every corner.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._take)

    def draw(self) -> bool:
        """Let the person draw regions to exclude on the image at hand; whether that can be."""
        binding = self._binding()
        known = None if binding is None else binding.current_layers()
        if binding is None or known is None or binding.state.analysis(known.image) is None:
            return False
        if known.regions is None:
            known.new_regions(self._connect)
            self.write(known, binding.state.analysis(known.image))
        layer = known.regions
        layer.visible = True
        binding.viewer.layers.selection.active = layer
        layer.mode = "add_polygon_lasso"
        return True

    def write(self, known: ImageLayers, analysis: Analysis) -> None:
        """Show the regions of an analysis; the layer comes with the first."""
        layer = known.regions
        if layer is None and not analysis.regions:
            return
        layer = layer or known.new_regions(self._connect)
        if not same_regions(self._shapes_of(layer), analysis.regions):
            known.write_regions(analysis.regions)

    def without_layer(self, image: str) -> None:
        """Somebody has deleted the layer of an image that is still there: it has no regions now."""
        binding = self._binding()
        known = None if binding is None else binding.layers_of(image)
        gone = known is not None and known.source is not None and known.regions is None
        if binding is not None and gone and binding.state.clusters.regions(image):
            binding.attempt(lambda: binding.state.clusters.set_regions(image, ()))

    def _connect(self, layer: Shapes) -> None:
        layer.events.data.connect(self._on_data)
        # napari's E would draw ellipses, and nothing but the list of layers would lead back.
        for key in ("E", "Escape"):
            layer.bind_key(key, self._leave, overwrite=True)

    def _leave(self, layer: Shapes) -> None:
        """Draw no more: keys and clicks are those of the clusters again."""
        binding = self._binding()
        known = None if binding is None else binding.current_layers()
        if getattr(layer, "_is_creating", False):
            layer._finish_drawing()
        if binding is not None and known is not None and known.points is not None:
            binding.viewer.layers.selection.active = known.points
            binding.viewer.status = "A click selects a cluster"

    def _on_data(self, event: Any) -> None:
        binding = self._binding()
        if binding is not None and not binding.is_writing:
            self._timer.start(0)

    def _take(self) -> None:
        """What was drawn is an edit now."""
        binding = self._binding()
        known = None if binding is None else binding.current_layers()
        layer = None if known is None else known.regions
        if binding is None or known is None or layer is None:
            return
        if getattr(layer, "_is_creating", False):
            self._timer.start(50)
            return
        drawn, before = self._shapes_of(layer), len(binding.state.clusters.regions(known.image))
        if not same_regions(drawn, binding.state.clusters.regions(known.image)):
            done = binding.attempt(lambda: binding.state.clusters.set_regions(known.image, drawn))
            if done and len(drawn) > before:
                self._leave(layer)  # so that Ctrl+Z takes it back; E draws another one

    @staticmethod
    def _shapes_of(layer: Shapes) -> tuple[np.ndarray, ...]:
        found = [polygon_of(c, k) for c, k in zip(layer.data, layer.shape_type, strict=True)]
        return tuple(p for p in found if len(p) >= 3)
