"""Excluded regions: the clusters in them do not count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.layers import Points, Shapes
from napari.layers.base import ActionType

from ....core.errors import AtomicityError
from ...controls.questions import attempt, format_advice, show_error
from ...controls.refresher import single_shot
from ..canvas import Canvas
from ..layers import compat
from ..layers.layer_group import ROLE
from ..layers.layers import ImageLayers
from ..layers.points import CLUSTERS, PointsKind
from ..layers.polygons import REGIONS, SUPPORT, PolygonKind, Polygons, same_polygons

# ---- polygons that a person draws in an image become edits of the state

# While a shape is drawn, napari emits an event for each corner: look again after this time.
_WHILE_DRAWING_MS = 50
_FREEHAND = "add_polygon_lasso"
DRAWING = (_FREEHAND, "add_polygon")
"""Modes of a layer of shapes in which a person draws polygons."""
_DRAWING_KEYS = (
    "Drawing {}: drag around it, or click its corners and double-click the last\n"
    "Ctrl+Z takes back a corner; Esc or E stop"
)
_CHANGING_KEYS = "Changing {} with the tools of the layer; Esc or E stop"


def drawing_text(layer: Any) -> str:
    """Return what a person draws or changes in a layer, and the keys; "" if it has no polygons."""
    kind = layer.metadata.get(ROLE, {}).get("kind") if isinstance(layer, Shapes) else None
    drawn = {REGIONS.name: "a region to exclude", SUPPORT.name: "support or vacuum"}.get(kind)
    if drawn is None:
        return ""
    return (_DRAWING_KEYS if layer.mode in DRAWING else _CHANGING_KEYS).format(drawn)


def _before_lasso_ends(layer: Shapes, event: Any) -> Iterator[None]:
    """Keep all corners of a drag; draw corner by corner after a click, which napari would end."""
    starts = layer.mode == _FREEHAND and not layer._is_creating
    yield
    while event.type == "mouse_move":
        yield
    if not (starts and layer._is_creating):
        return
    if len(layer.data[-1]) <= 2:
        compat.continue_click_by_click(layer)
    elif not compat.close_freehand_polygon(layer):
        show_error(format_advice(_no_area(layer.metadata[ROLE]["image"])))


def _no_area(image: str) -> AtomicityError:
    return AtomicityError(
        f"what was drawn in {image} has no area",
        advice="Draw around a region, or click three corners that are not on a line",
    )


def _count_lines(polygons: Polygons, width_px: float) -> int:
    """Count the polygons whose corners are on a line of this width."""
    n = 0
    for _, polygon in polygons:
        centred = polygon - polygon.mean(axis=0)
        across = np.linalg.svd(centred, full_matrices=False)[2][-1]
        n += bool(np.ptp(centred @ across) < width_px)
    return n


class PolygonEditor:
    """Keep the polygons of one kind in all images and those of the state the same.

    Subclasses read, edit and show the polygons of the state, and say which points get keys and
    clicks when drawing ends.
    """

    kind: PolygonKind
    points: PointsKind
    next_colour = 0

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._timer = single_shot(self._take)
        self._drawn_in = ""  # the image
        canvas.image_leaving.connect(self._on_leaving)

    def in_state(self, image: str) -> Polygons:
        """Return the polygons as the state has them."""
        raise NotImplementedError

    def edit_state(self, image: str, polygons: Polygons) -> None:
        """Edit the polygons of the state."""
        raise NotImplementedError

    def write(self, known: ImageLayers) -> None:
        """Show the polygons of the state."""
        raise NotImplementedError

    def message_at_end(self, points: Points) -> str:
        """Return what a click does when drawing ends."""
        raise NotImplementedError

    def write_polygons(self, known: ImageLayers, frame: int = 0) -> None:
        """Show the polygons of the state in the layer of an image, which is made if necessary."""
        view, polygons = known.polygons[self.kind], self.in_state(known.image)
        if view.layer is None:
            layer = view.create()
            layer.events.data.connect(self._on_data)
            layer.mouse_drag_callbacks.append(_before_lasso_ends)
            # In napari E draws ellipses, and only the layer list would lead back to the points.
            for key in ("E", "Escape"):
                layer.bind_key(key, self.stop_drawing, overwrite=True)
            view.set_next_colour(self.next_colour)
        if not same_polygons(view.read(), polygons):
            view.write(polygons, frame)
            view.set_next_colour(self.next_colour)

    def start_drawing(self, known: ImageLayers) -> None:
        """Let the mouse draw polygons in an image."""
        view = known.polygons[self.kind]
        if not view.layer.visible:
            view.layer.visible = True
        view.set_next_colour(self.next_colour)
        view.layer.mode = _FREEHAND  # first: the text in the image follows the active layer
        self._canvas.activate(view.layer)

    def stop(self) -> None:
        """Return keys and clicks to the points if a person draws."""
        known = self._canvas.current_layers()
        layer = None if known is None else known.present(self.kind.name)
        if layer is not None and layer.mode in DRAWING:
            self.stop_drawing(layer)

    def stop_drawing(self, layer: Shapes) -> None:
        """Return keys and clicks to the points; what is drawn half is discarded."""
        self._discard_half(layer)
        layer.mode = "pan_zoom"
        points = self._canvas.layer(self._state.current, self.points.name)
        if points is not None:
            self._canvas.activate(points)
            self._canvas.show_message(self.message_at_end(points))

    def _discard_half(self, layer: Shapes) -> None:
        if getattr(layer, "_is_creating", False):
            compat.end_drag(layer)
            layer._finish_drawing()
            self.write(self._canvas.layers[layer.metadata[ROLE]["image"]])

    def _on_leaving(self, image: str) -> None:
        """Take what was drawn in an image before the next one gets its layer."""
        layer = self._canvas.layer(image, self.kind.name)
        if layer is not None:
            self._discard_half(layer)
        if self._timer.isActive():
            self._timer.stop()
            self._take()

    def _on_data(self, event: Any) -> None:
        # Where a drag begins, napari says that polygons are changing: they are not there yet.
        if not self._canvas.is_writing and event.action != ActionType.CHANGING:
            self._drawn_in = event.source.metadata[ROLE]["image"]
            self._timer.start(0)

    def _take(self) -> None:
        """Make an edit of what was drawn."""
        known = self._canvas.layers.get(self._drawn_in)
        layer = None if known is None else known.present(self.kind.name)
        if known is None or layer is None:
            return
        if getattr(layer, "_is_creating", False):
            self._timer.start(_WHILE_DRAWING_MS)
            return
        if layer.mode == "add_polygon":
            layer.mode = _FREEHAND  # the next one by dragging or by clicks
        drawn, before = known.polygons[self.kind].read(), self.in_state(known.image)
        changed = not same_polygons(drawn, before) and self.attempt(known, drawn)
        if changed and len(drawn) > len(before):
            self.stop_drawing(layer)  # the next click is no corner, and Ctrl+Z undoes

    def attempt(self, known: ImageLayers, polygons: Polygons) -> bool:
        """Edit the state and return whether that is accepted; show the error if not."""
        layer = known.present(self.kind.name)
        # What the mouse can't draw narrower: the positions of a straight drag are rounded.
        width_px = 0.5 if layer is None else max(0.5, 2 * layer.scale_factor / layer.scale[-1])

        def edit() -> None:
            before = self.in_state(known.image)
            if _count_lines(polygons, width_px) > _count_lines(before, width_px):
                raise _no_area(known.image)
            self.edit_state(known.image, polygons)

        return attempt(edit, lambda: self.write(known))


class RegionEditor(PolygonEditor):
    """Keep the layers ``<image> regions`` and the excluded regions of the state the same."""

    kind = REGIONS
    points = CLUSTERS

    def message_at_end(self, points: Points) -> str:
        """Return what a click does when drawing ends: it adds a cluster, or selects one."""
        return f"A click {'adds' if points.mode == 'add' else 'selects'} a cluster"

    def in_state(self, image: str) -> Polygons:
        """Return the excluded regions of the state."""
        return tuple((0, region) for region in self._state.clusters.regions(image))

    def edit_state(self, image: str, polygons: Polygons) -> None:
        """Edit the excluded regions of the state."""
        self._state.clusters.set_regions(image, [region for _, region in polygons])

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
        if known is None or known.viewer is None or known.source not in known.viewer.layers:
            return  # the image is being removed
        if known.present(REGIONS.name) is None and self._state.clusters.regions(image):
            self.attempt(known, ())
