"""The points of one kind in all images: their selection, and changes of them by hand."""

from __future__ import annotations

from collections.abc import Iterable, Set
from functools import partial
from typing import Any

from ...state.atom_store import AtomStore
from ...state.cluster_rows import ids_of_image
from ...state.window_state import WindowState
from ..controls.refresher import single_shot
from .canvas import Canvas
from .layers import compat
from .layers.points import PointsKind, PointsView

Key = tuple[str, int]
"""Image and id of a cluster or atom."""
# Up to so many points are selected in the turn in which they are written.
_MAX_SELECTED_AT_ONCE = 1000
# Borders are written once a movement of the camera has ended.
_ZOOM_DELAY_MS = 60


class PointsDisplay:
    """Follow the selection of clusters or atoms both ways.

    A selection is a set of ids; indices into layers exist only in `PointsView`.
    """

    def __init__(self, canvas: Canvas, kind: PointsKind, owner: WindowState | AtomStore) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._kind = kind
        self._owner = owner
        self._zoom_timer = single_shot(self._fit_to_zoom, _ZOOM_DELAY_MS)
        compat.camera(canvas.viewer).events.zoom.connect(self._on_zoom)
        canvas.points_created.connect(self._on_created)
        owner.selection_changed.connect(self._on_selection)

    def _on_created(self, view: PointsView) -> None:
        if view.kind is self._kind:
            self.follow(view)

    def follow(self, view: PointsView) -> None:
        """Follow what is done by hand to a layer that was just made."""
        view.layer.events.data.connect(self.on_data)
        view.layer.selected_data.events.items_changed.connect(self._on_points_selected)

    def on_data(self, event: Any) -> None:
        """Edit the state after the points of a layer were changed."""
        raise NotImplementedError

    # ---- zoom
    @property
    def busy(self) -> bool:
        """Whether what depends on the zoom waits to be written."""
        return self._zoom_timer.isActive()

    def _on_zoom(self, event: Any) -> None:
        self._zoom_timer.start()

    def _fit_to_zoom(self) -> None:
        """Give the borders their width on the screen."""
        for known in self._canvas.layers.values():
            known.points[self._kind].fit_borders()

    # ---- selection
    def selected_of(self, image: str) -> Set[int]:
        """Return the ids of the selected points of an image."""
        return ids_of_image(self._owner.selection, image)

    def key_at(self, images: Iterable[str], world: Any) -> Key | None:
        """Return the point at a place of the scene, in the first image that has one there."""
        zoom = compat.camera(self._canvas.viewer).zoom
        for image in images:
            known = self._canvas.layers.get(image)
            found = None if known is None else known.points[self._kind].id_at(world, zoom)
            if found is not None:
                return image, found
        return None

    def select_key(self, key: Key, extend: bool) -> None:
        """Select a point; if others stay selected, a selected one is taken out."""
        self._owner.select(self._owner.selection ^ {key} if extend else {key})

    def write_selection(self, image: str) -> None:
        """Select the points of an image after they were written."""
        if len(self.selected_of(image)) <= _MAX_SELECTED_AT_ONCE:
            self._write_selection_now(image)
        else:  # napari highlights each of them
            work = partial(self._write_selection_now, image)
            self._canvas.turns.add((image, self._kind), work)

    def _write_selection_now(self, image: str) -> None:
        known = self._canvas.layers.get(image)
        if known is not None:
            known.points[self._kind].write_selection(self.selected_of(image))

    def _on_selection(self, keys: Set[Key]) -> None:
        for image in self._canvas.layers:
            self._write_selection_now(image)

    def _on_points_selected(self, *_: Any) -> None:
        # Points that were written but not yet selected must not clear the selection.
        if self._canvas.is_writing or self._canvas.turns.flush(self._is_selection):
            return
        current = self._state.current
        if current is not None and current not in self._canvas.layers:
            # It is still being read: a key must not change what another image shows until then.
            self._on_selection(self._owner.selection)
            return
        views = {image: known.points[self._kind] for image, known in self._canvas.layers.items()}
        for view in views.values():
            view.deselect_hidden()
        self._owner.select((image, i) for image, v in views.items() for i in v.selected_ids())

    def _is_selection(self, key: object) -> bool:
        return isinstance(key, tuple) and key[1] is self._kind
