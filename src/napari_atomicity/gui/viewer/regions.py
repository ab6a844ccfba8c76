"""Excluded regions: the clusters in them do not count."""

from __future__ import annotations

from napari.layers import Shapes

from .drawing import PolygonEditor
from .layers import ImageLayers
from .points import CLUSTERS
from .polygons import REGIONS, Polygons


class RegionEditor(PolygonEditor):
    """Keep the layers ``<image> regions`` and the excluded regions of the state the same."""

    kind = REGIONS
    points = CLUSTERS
    message_at_end = "A click selects a cluster"

    def in_state(self, image: str) -> tuple[Polygons, ...]:
        """Return the excluded regions of the state."""
        return (self._state.clusters.regions(image),)

    def edit_state(self, image: str, polygons: tuple[Polygons, ...]) -> None:
        """Edit the excluded regions of the state."""
        self._state.clusters.set_regions(image, *polygons)

    def write(self, known: ImageLayers) -> None:
        """Show the regions of an image; the first one makes the layer."""
        if known.present(REGIONS.name) is not None or self._state.clusters.regions(known.image):
            self.write_polygons(known)

    def draw(self) -> bool:
        """Start to draw regions in the current image, and return whether that is possible."""
        known = self._canvas.current_layers()
        if known is None or self._state.analysis(known.image) is None:
            return False
        self.write_polygons(known)
        self.start_drawing(known)
        return True

    def clear_if_deleted(self, image: str) -> None:
        """Remove the regions of an image whose layer of regions was deleted by hand."""
        known = self._canvas.layers.get(image)
        deleted = known is not None and known.present(REGIONS.name) is None
        if known is not None and deleted and self._state.clusters.regions(image):
            self.attempt(known, ((),))

    def on_drawn(self, layer: Shapes, n_new: int) -> None:
        """Stop drawing after a new region, so that Ctrl+Z undoes it; E draws another one."""
        if n_new > 0:
            self.stop_drawing(layer)
