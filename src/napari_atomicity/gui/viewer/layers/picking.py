"""Fit the view, select clusters and atoms by clicking, and bring them into view."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Points
from qtpy.QtCore import QTimer

from ...controls.refresher import single_shot
from . import calibration, compat
from .micrographs import is_micrograph

# ---- A margin for the text in the corner of the canvas, above an image that is fitted to it

HEIGHT_PX = 68
"""Height of three lines of the text with their box, in screen pixels."""
_MARGIN_PX = 4


def leave_text_margin(viewer: Any, layer: Any) -> None:
    """Move a layer that fills the canvas below the text in its corner, and shrink it to fit.

    The margin is the same whether there is a text or not, so that a text moves nothing. A layer
    that leaves enough room above stays where it is.
    """
    camera, (canvas_height, _) = compat.camera(viewer), compat.canvas_size(viewer)
    low, high = np.asarray(layer.extent.world, float)[:, -2]
    room = canvas_height - HEIGHT_PX - _MARGIN_PX
    if viewer.dims.ndisplay != 2 or high <= low or room < canvas_height / 2:
        return
    zoom = min(float(camera.zoom), room / (high - low))
    above = (canvas_height - zoom * (high - low)) / 2
    if above >= HEIGHT_PX:
        return
    centre = list(camera.center)
    centre[-2] = (low + high) / 2 - (HEIGHT_PX - above) / zoom
    camera.zoom, camera.center = zoom, tuple(centre)


_CLICK_PX = 4
# The view is at least and at most as wide as this and as so many diameters.
_VIEW_NM = (5.0, 12.0)
_VIEW_DIAMETERS = (4.0, 8.0)
_MIN_SHARE = 0.01
"""Share of the view that an image has at least, to be recognised."""
_MARGIN = 1.04
"""Width of the view, relative to the image that is fitted."""


def bring_into_view(viewer: Any, source: Image, cluster: pd.Series) -> None:
    """Centre the view on a cluster or atom and zoom so that its surroundings are in view."""
    point = [cluster["y_px"], cluster["x_px"]]
    if source.ndim == 3:
        point = [cluster["frame"], *point]
        viewer.dims.set_point(0, source.data_to_world(point)[0])
    camera = compat.camera(viewer)
    camera.center = (*camera.center[:-2], *source.data_to_world(point)[-2:])
    pixel_size_nm = calibration.pixel_size_nm(source)
    if pixel_size_nm is not None:
        world_per_nm = abs(float(source.scale[-1])) / pixel_size_nm
        diameter_nm = float(np.nan_to_num(cluster.get("diameter_nm", 0.0)))
        least, most = np.maximum(_VIEW_NM, np.array(_VIEW_DIAMETERS) * diameter_nm)
        zoom_per_nm = min(compat.canvas_size(viewer)) / world_per_nm
        camera.zoom = float(np.clip(camera.zoom, zoom_per_nm / most, zoom_per_nm / least))


def shown_frame(viewer: Any, source: Image) -> int | None:
    """Return the frame of a stack that the slider shows; None for a single image."""
    return int(viewer.dims.current_step[0]) if source.ndim == 3 else None


def shows_none(viewer: Any, source: Image, frames: pd.Series) -> bool:
    """Return whether a stack is shown at another frame than all of these."""
    frame = shown_frame(viewer, source)
    return frame is not None and len(frames) > 0 and frame not in set(frames)


def show_frame(viewer: Any, source: Image, frame: int | None = None) -> None:
    """Move the slider to a frame of a stack; by default to the nearest that the stack has."""
    if source.ndim == 3:
        (low, high), shown = source.extent.world[:, 0], viewer.dims.point[0]
        wanted = shown if frame is None else source.data_to_world((frame, 0, 0))[0]
        wanted = float(np.clip(wanted, low, high))
        if wanted != shown:
            viewer.dims.set_point(0, wanted)


def is_in_view(viewer: Any, source: Image) -> bool:
    """Return whether the view shows a part of an image that can be recognised."""
    camera = compat.camera(viewer)
    half = np.array(compat.canvas_size(viewer)) / (2 * camera.zoom)
    centre = np.asarray(camera.center[-2:], float)
    low, high = source.extent.world[:, -2:]
    shared = np.minimum(high, centre + half) - np.maximum(low, centre - half)
    return bool((shared > 0).all() and shared.prod() >= _MIN_SHARE * (2 * half).prod())


def fit_view(viewer: Any, source: Image) -> None:
    """Show the whole of an image, whatever other layers there are."""
    camera = compat.camera(viewer)
    low, high = source.extent.world[:, -2:]
    camera.center = (*camera.center[:-2], *(low + high) / 2)
    camera.zoom = float(np.min(np.array(compat.canvas_size(viewer)) / (high - low))) / _MARGIN
    leave_text_margin(viewer, source)


CameraPlace = tuple[float, ...]
"""Centre of the camera, then its zoom."""
_DRAWN_MS = 100
"""Time after a change of the size of the canvas in which napari has drawn it."""


class FittedView:
    """Fit the view to images, and again when the canvas gets another size.

    What a person has moved or zoomed since the last fit stays.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(viewer)
        # The camera as the last fit left it, and the image that was fitted; None: all layers.
        # napari may have fitted it before.
        self._place: CameraPlace = _camera_place(viewer) if _is_centred(viewer) else ()
        self._layer: weakref.ref[Image] | None = None
        self._after_size = single_shot(self._on_drawn, _DRAWN_MS)
        viewer.events.reset_view.connect(self._on_reset_view)
        compat.on_canvas_size(viewer, self._on_size)

    def fit(self, layer: Image) -> None:
        """Show the whole of an image, whatever other layers there are."""
        fit_view(self._viewer(), layer)
        self._remember(weakref.ref(layer))

    @property
    def moved_place(self) -> CameraPlace | None:
        """The camera as a person has moved or zoomed it; None if it is as the last fit left it."""
        place = _camera_place(self._viewer())
        return None if self._place and np.allclose(self._place, place) else place

    def _on_reset_view(self, event: Any = None) -> None:
        # Others that listen to the event move the camera too.
        QTimer.singleShot(0, self._remember)

    def _remember(self, layer: weakref.ref[Image] | None = None) -> None:
        if (viewer := self._open_viewer()) is not None:
            self._place, self._layer = _camera_place(viewer), layer

    def _open_viewer(self) -> Any:
        viewer = self._viewer()
        return viewer if viewer is not None and compat.has_window(viewer) else None

    def _on_size(self, event: Any = None) -> None:
        viewer = self._open_viewer()
        if viewer is not None and self.moved_place is None:
            if not compat.is_dragging(viewer):
                self._fit_again()
            self._after_size.start()

    def _on_drawn(self) -> None:
        """Fit the view once more, if napari has drawn it with the zoom of a size in between.

        Nothing moves under the mouse of a person who drags an atom or draws: it waits for the end.
        """
        viewer = self._open_viewer()
        if viewer is None or not np.allclose(self._place[:-1], _camera_place(viewer)[:-1]):
            return
        if compat.is_dragging(viewer):
            self._after_size.start()
        else:
            self._fit_again()

    def fit_shown(self) -> None:
        """Show the whole of the visible image, or the whole scene if that is not one image in 2D.

        Hidden layers do not count: an image of another folder may be a thousand times as large.
        """
        viewer = self._viewer()
        images = self._visible_images()
        if len(images) == 1 and viewer.dims.ndisplay == 2 and not compat.grid(viewer).enabled:
            self.fit(images[0])  # texts beside the image do not count
        else:
            viewer.reset_view(margin=0.02)
            self._place = _camera_place(viewer)

    def _visible_images(self) -> list[Image]:
        layers = self._viewer().layers
        return [layer for layer in layers if is_micrograph(layer) and layer.visible]

    def _fit_again(self) -> None:
        fitted = None if self._layer is None else self._layer()
        if fitted in self._visible_images():
            self.fit(fitted)
        else:
            self.fit_shown()


def _is_centred(viewer: Any) -> bool:
    """Whether the view is where napari fits it: who moves it or zooms with the mouse shifts it."""
    if not len(viewer.layers) or viewer.dims.ndisplay != 2:
        return False
    low, high = viewer.layers.extent.world[:, -2:]
    shift = np.array(compat.camera(viewer).center[-2:]) - (low + high) / 2
    return bool((np.abs(shift) <= 1e-3 * (high - low)).all())


def _camera_place(viewer: Any) -> CameraPlace:
    camera = compat.camera(viewer)
    return tuple(map(float, (*camera.center, camera.zoom)))


class ClickSelects:
    """Select a cluster by a click, whichever layer is active; for ``mouse_drag_callbacks``."""

    def __init__(self, select_at: Callable[[Any, bool], None]) -> None:
        self._select_at = weakref.WeakMethod(select_at)

    def __call__(self, viewer: Any, event: Any) -> Iterator[None]:
        start = np.asarray(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        select_at = self._select_at()
        moved = np.linalg.norm(np.asarray(event.pos, float) - start) > _CLICK_PX
        if select_at is None or moved or event.button != 1:
            return
        active = viewer.layers.selection.active
        mode = getattr(active, "mode", "pan_zoom")
        # napari keeps several selected points if one of them is clicked, and those of other images.
        is_plain = mode == "select" and isinstance(active, Points) and not event.modifiers
        # In any other mode a click means something to the active layer.
        if mode == "pan_zoom" or is_plain:
            select_at(event.position, "Shift" in event.modifiers)
