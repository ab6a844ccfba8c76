"""The clusters of the images in a viewer: points, texts, selection, hidden labels.

Layers are written from the state, whole; what is done to a points layer by hand becomes an edit of
the state (`manual_editing`). A selection is a set of cluster ids; indices into layers exist only
here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from napari.layers import Points
from psygnal import Signal
from qtpy.QtCore import QTimer

from ...core.cluster_table import Key
from . import atom_layers, compat, picking
from .canvas import Canvas
from .manual_editing import ManualEditing
from .overlays import Overlays
from .regions import RegionLayers

# Texts are not written at every step of a movement of the camera.
_TEXT_DELAY_MS = 40
# Up to so many points are selected in the turn in which they are written.
_MAX_SELECTED_AT_ONCE = 1000


class ClusterDisplay:
    """Show the clusters of the images in the viewer.

    Signals: ``hidden_changed()`` when other labels are hidden.

    Parameters
    ----------
    canvas : Canvas
        The viewer and its layers.
    overlays : Overlays
        Shows outlines and class maps.
    regions : RegionLayers
        Shows excluded regions.
    manual_editing : ManualEditing
        Turns changes of a points layer into edits.
    """

    hidden_changed = Signal()

    def __init__(
        self,
        canvas: Canvas,
        overlays: Overlays,
        regions: RegionLayers,
        manual_editing: ManualEditing,
    ) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._overlays = overlays
        self._regions = regions
        self._manual_editing = manual_editing
        self._text_timer = QTimer()
        self._text_timer.setSingleShot(True)
        self._text_timer.setInterval(_TEXT_DELAY_MS)
        self._text_timer.timeout.connect(self._write_texts)
        canvas.points_created.connect(self._on_points_created)
        canvas.viewer.dims.events.current_step.connect(self._write_texts_later)
        compat.camera(canvas.viewer).events.connect(self._write_texts_later)
        canvas.state.changed.connect(self._on_change)
        canvas.state.selection_changed.connect(self._on_selection)
        manual_editing.refused.connect(self.refresh)

    @property
    def busy(self) -> bool:
        """Whether texts wait to be written."""
        return self._text_timer.isActive()

    # ---- from the state to the layers
    def _on_change(self, images: tuple[str, ...]) -> None:
        for image in images:
            self.show(image)

    def show(self, image: str) -> None:
        """Show the analysis of an image; without one, remove its layers."""
        known = self._canvas.layers_of(image)
        if known is None or self._canvas.viewer is None:
            return
        analysis = self._state.analysis(image)
        if analysis is None:
            known.remove(keep=atom_layers.KINDS)
            self._overlays.forget(image)
            return
        self.refresh(image)
        self._overlays.write_class_maps(image, analysis)
        self._manual_editing.classify_new(image, analysis)

    def refresh(self, image: str) -> None:
        """Write points, regions, texts and outlines of an image again."""
        analysis, known = self._state.analysis(image), self._canvas.layers_of(image)
        if analysis is None or known is None:
            return
        if known.write_points(analysis, self._state.classes(), self._canvas.hidden_labels):
            self._write_selection(image)
        self._regions.write(known, analysis)
        self._write_texts_later()
        self._overlays.write_outlines_later(image)

    def refresh_all(self) -> None:
        """Write the layers of all images again."""
        for image in self._canvas.images():
            self.refresh(image)

    @property
    def hidden(self) -> frozenset[str]:
        """Labels whose clusters are not drawn."""
        return self._canvas.hidden_labels

    @hidden.setter
    def hidden(self, labels: frozenset[str]) -> None:
        if labels != self._canvas.hidden_labels:
            self._canvas.hidden_labels = frozenset(labels)
            self.refresh_all()
            self.hidden_changed.emit()

    def _on_points_created(self, layer: Points) -> None:
        layer.events.data.connect(self._on_points)
        layer.events.visible.connect(self._write_texts_later)
        layer.selected_data.events.items_changed.connect(self._on_points_selected)

    def _write_texts_later(self, event: Any = None) -> None:
        if not self._text_timer.isActive():
            self._text_timer.start()

    def _write_texts(self) -> None:
        if self._canvas.viewer is not None:
            for image, known in self._canvas.layers():
                known.write_texts(self._state.table(image))

    # ---- selection
    def selected_of(self, image: str) -> set[int]:
        """Return the cluster_id of the selected clusters of an image."""
        return {i for name, i in self._state.selection if name == image}

    def select_at(self, world: Any, extend: bool = False) -> bool:
        """Select the cluster at a place of the scene, and return whether there is one."""
        current, layers = self._state.current, dict(self._canvas.layers())
        images = sorted(layers, key=lambda name: name != current)
        found = picking.first_at(((i, layers[i].points) for i in images), world)
        if found is not None:
            self._state.select(self._state.selection ^ {found} if extend else {found})
        return found is not None

    def _on_selection(self, keys: frozenset[Key]) -> None:
        if self._canvas.viewer is not None:
            for image, known in self._canvas.layers():
                known.write_selection(self.selected_of(image))

    def _write_selection(self, image: str) -> None:
        """Select the points of an image after they were written."""
        if len(self.selected_of(image)) <= _MAX_SELECTED_AT_ONCE:
            self._write_selection_now(image)
        else:  # napari highlights each of them
            work = partial(self._write_selection_now, image)
            self._canvas.turns.add((image, "selection"), work)

    def _write_selection_now(self, image: str) -> None:
        known = self._canvas.layers_of(image)
        if known is not None and self._canvas.viewer is not None:
            known.write_selection(self.selected_of(image))

    # ---- from the layers to the state
    def _on_points(self, event: Any) -> None:
        known = self._canvas.layers_of(self._canvas.image_of(event.source))
        if known is not None and not self._canvas.is_writing:
            self._manual_editing.on_points(known, event)

    def _on_points_selected(self, *_: Any) -> None:
        if self._canvas.is_writing or self._canvas.viewer is None:
            return
        # Points that were written but not yet selected must not clear the selection.
        if self._canvas.turns.flush(_is_selection):
            return
        keys: set[Key] = set()
        for image, known in self._canvas.layers():
            layer = known.points
            if layer is not None and len(layer.selected_data):
                ids = layer.features["cluster_id"].to_numpy()
                chosen = [i for i in layer.selected_data if i < len(ids)]
                keys.update((image, int(i)) for i in ids[chosen] if i == i and i > 0)
        self._state.select(keys)


def _is_selection(key: object) -> bool:
    return isinstance(key, tuple) and key[1] == "selection"
