"""Excluded regions: the clusters in them do not count."""

from __future__ import annotations

from napari.layers import Shapes

from .drawing import PolygonEditor
from .points import CLUSTERS
from .polygons import REGIONS, Polygons, same_polygons


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

    def draw(self) -> bool:
        """Start to draw regions in the current image, and return whether that is possible."""
        known = self._canvas.current_layers()
        if known is None or self._state.analysis(known.image) is None:
            return False
        if known.polygons[REGIONS].layer is None:
            self.create(known)
        self.start_drawing(known.polygons[REGIONS].layer)
        return True

    def write(self, image: str) -> None:
        """Show the regions of an image; the first one makes the layer."""
        known, polygons = self._canvas.layers.get(image), self.in_state(image)
        if known is None:
            return
        view = known.polygons[REGIONS]
        if view.layer is None:
            if not any(polygons):
                return
            self.create(known)
        if not same_polygons(view.read(), polygons):
            view.write(polygons)

    def clear_if_deleted(self, image: str) -> None:
        """Remove the regions of an image whose layer of regions was deleted by hand."""
        known = self._canvas.layers.get(image)
        deleted = known is not None and known.polygons[REGIONS].layer is None
        if deleted and any(self.in_state(image)):
            self.attempt(image, ((),))

    def on_drawn(self, layer: Shapes, n_new: int) -> None:
        """Stop drawing after a new region, so that Ctrl+Z undoes it; E draws another one."""
        if n_new > 0:
            self.stop_drawing(layer)
