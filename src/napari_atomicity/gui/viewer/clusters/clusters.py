"""The clusters of the images in a viewer: points, texts, selection, hidden labels.

Layers are written from the state, whole; what is done to a points layer by hand becomes an edit of
the state (`manual_editing`).
"""

from __future__ import annotations

from typing import Any

from psygnal import Signal

from ...controls.refresher import single_shot
from ..canvas import Canvas
from ..layers import compat
from ..layers.layers import ATOM_LAYERS, ImageLayers
from ..layers.points import CLUSTERS, PointsView
from ..overlays import Overlays
from ..points_display import PointsDisplay
from .manual_editing import ManualEditing
from .regions import RegionEditor

# Texts are not written at every step of a movement of the camera.
_TEXT_DELAY_MS = 40


class ClusterDisplay(PointsDisplay):
    """Show the clusters of the images in the viewer.

    Signals: ``hidden_changed()`` when other labels are hidden.
    """

    hidden_changed = Signal()

    def __init__(
        self,
        canvas: Canvas,
        overlays: Overlays,
        regions: RegionEditor,
        manual_editing: ManualEditing,  # turns changes of a points layer into edits
    ) -> None:
        super().__init__(canvas, CLUSTERS, canvas.state)
        self._overlays = overlays
        self._regions = regions
        self._manual_editing = manual_editing
        self._contrast_changed = False
        self._text_timer = single_shot(self._write_texts, _TEXT_DELAY_MS)
        canvas.viewer.dims.events.current_step.connect(self._write_texts_later)
        compat.camera(canvas.viewer).events.connect(self._write_texts_later)
        compat.on_canvas_size(canvas.viewer, self._write_texts_later)
        canvas.viewer.events.theme.connect(self._write_texts_later)
        canvas.state.changed.connect(self._on_change)
        canvas.state.selection_changed.connect(self._write_texts_later)
        manual_editing.refused.connect(self.refresh)

    @property
    def busy(self) -> bool:
        """Whether texts or borders wait to be written."""
        return super().busy or self._text_timer.isActive()

    # ---- from the state to the layers
    def _on_change(self, images: tuple[str, ...], columns: frozenset[str] | None) -> None:
        for image in images:
            if columns is None:
                self.show(image)
            else:  # class maps and regions do not depend on labels
                self.write(image)

    def show(self, image: str) -> None:
        """Show the analysis of an image; without one, remove its layers."""
        self.refresh(image)
        known, analysis = self._canvas.layers.get(image), self._state.analysis(image)
        if analysis is not None:  # also of an image without layers: its clusters count
            self._manual_editing.classify_new(image, analysis)
        if known is None:
            return
        if analysis is None:
            known.remove(keep=ATOM_LAYERS)
            self._overlays.forget(image)
            return
        self._overlays.write_class_maps(image, analysis)

    def refresh(self, image: str) -> None:
        """Write points, regions, texts and outlines of an image again."""
        known = self.write(image)
        if known is not None:
            self._regions.write(known)

    def write(self, image: str) -> ImageLayers | None:
        """Write points, texts and outlines of an image that has layers and an analysis."""
        known, analysis = self._canvas.layers.get(image), self._state.analysis(image)
        if known is None or analysis is None:
            return None
        if known.write_clusters(analysis, self._state.classes(), self._canvas.hidden_labels):
            self.write_selection(image)
        self._write_texts_later()
        self._overlays.write_outlines(image, analysis)
        return known

    def refresh_all(self) -> None:
        """Write the layers of all images again."""
        for image in list(self._canvas.layers):
            self.refresh(image)

    @property
    def hidden(self) -> frozenset[str]:
        """Labels whose clusters are not drawn."""
        return self._canvas.hidden_labels

    @hidden.setter
    def hidden(self, labels: frozenset[str]) -> None:
        if labels != self._canvas.hidden_labels:
            self._canvas.hidden_labels = frozenset(labels)
            self._deselect(labels)
            self.refresh_all()
            self._overlays.update_class_maps()
            self.hidden_changed.emit()

    def _deselect(self, labels: frozenset[str]) -> None:
        """Deselect the clusters with these labels."""
        selected = self._state.selection
        for image in {name for name, _ in selected}:
            table = self._state.table(image)
            gone = table.loc[table["label"].isin(labels), "cluster_id"]
            selected -= {(image, int(i)) for i in gone}
        self._state.select(selected)

    def follow(self, view: PointsView) -> None:
        """Follow what is done by hand to a layer that was just made, and make it active."""
        super().follow(view)
        view.layer.events.visible.connect(self._write_texts_later)
        source = self._canvas.source_layer(self._canvas.image_of(view.layer))
        if source is not None:
            source.events.contrast_limits.connect(self._on_contrast)
        with self._canvas.blocker():
            self._canvas.activate(view.layer)

    def _fit_to_zoom(self) -> None:
        super()._fit_to_zoom()
        for known in self._canvas.layers.values():
            known.fit_outlines()

    def on_data(self, event: Any) -> None:
        """Edit the clusters after the points of a layer were changed."""
        known = self._canvas.layers.get(self._canvas.image_of(event.source) or "")
        if known is not None and not self._canvas.is_writing:
            self._manual_editing.on_points(known, event)

    def _write_texts_later(self, event: Any = None) -> None:
        if not self._text_timer.isActive():
            self._text_timer.start()

    def _on_contrast(self, event: Any) -> None:
        self._contrast_changed = True
        self._write_texts_later()

    def _write_texts(self) -> None:
        if self._contrast_changed:  # grey rings are black on a bright image
            self._contrast_changed = False
            for image in list(self._canvas.layers):
                self.write(image)
        for image, known in self._canvas.layers.items():
            known.texts.write(self._state.table(image), self._state.classes())

    def select_at(self, world: Any, extend: bool = False) -> bool:
        """Select the cluster at a place of the scene, and return whether there is one."""
        current = self._state.current
        found = self.key_at(sorted(self._canvas.layers, key=lambda name: name != current), world)
        if found is not None:
            self.select_key(found, extend)
        return found is not None
