"""The current image: the one that the viewer displays.

Of the images of a project, one at a time is in the viewer. All use the same layers, because napari
is slow to make layers and quick to fill them. Neighbours are read ahead.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image
from psygnal import Signal
from qtpy.QtCore import QTimer

from ...core.errors import AtomicityError
from ...core.micrograph import Micrograph
from ...core.progress import Stop
from ...io.readers.lazy_micrograph import LazyMicrograph
from ...state.window_state import Status
from .. import tasks
from .canvas import Canvas
from .layers import compat, picking
from .layers.layer_group import overlap
from .layers.micrographs import display_limits, is_micrograph, layer_data
from .overlays import Overlays

Limits = tuple[float, float]


def read_for_display(micrograph: Micrograph) -> Limits:
    """Read the pixels of an image and return its contrast limits."""
    return display_limits(micrograph.data)


def read_ahead(micrographs: list[Micrograph], stop: Stop | None = None) -> dict[str, Limits]:
    """Read images that may be displayed next and return their contrast limits.

    Images that cannot be read are left out.
    """
    limits = {}
    for micrograph in micrographs:
        if stop is not None and stop():
            break
        try:
            limits[micrograph.name] = read_for_display(micrograph)
        except AtomicityError:
            continue
    return limits


class CurrentImage:
    """Display the current image.

    Signals: ``layers_ready(image)`` when an image has got its layers; ``refused(image)`` when its
    file could not be read, or can be again (`refusals`).
    """

    layers_ready = Signal(str)
    refused = Signal(str)

    def __init__(self, canvas: Canvas, overlays: Overlays) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._overlays = overlays
        self._displayed: str | None = None
        self.refusals: dict[str, str] = {}
        """Why files could not be read, by image."""
        self._outdated = False  # whether the file of the displayed image was replaced
        self._limits: dict[str, Limits] = {}
        # None: fitted, whatever size the canvas has
        self._views: dict[str, picking.CameraPlace | None] = {}
        self._frames: dict[str, int | None] = {}
        self._focus: tuple[str, pd.Series] | None = None
        self._visible: dict[str, bool] = {}
        self._drawing = False
        self._refusal: Status | None = None
        canvas.layers_changed.connect(self._apply_visible)
        canvas.image_detached.connect(self._on_detached)
        canvas.state.current_changed.connect(self._on_current)
        canvas.state.project_changed.connect(self._on_project)
        canvas.state.listing.changed.connect(self._on_listing)

    @property
    def busy(self) -> bool:
        """Whether an image is displayed incompletely."""
        return self._drawing

    @property
    def displayed(self) -> str | None:
        """Name of the image of the project that has layers."""
        return self._displayed

    # ---- what to display
    def step(self, by: int) -> None:
        """Display the next image (1) or the previous one (-1)."""
        images, current = self._state.images, self._state.current or self._displayed
        if not images:
            return
        if current not in images:
            self.choose(images[0])
            return
        i = images.index(current) + by
        if 0 <= i < len(images):
            self.choose(images[i])
        else:
            self._canvas.show_message("This is the " + ("last" if by > 0 else "first") + " image")

    def choose(self, image: str) -> None:
        """Display an image, also if one that a person has opened by hand covers it."""
        self._state.choose(image)
        layer = self._canvas.source_layer(image)
        if layer is not None:
            self.uncover(layer)

    def make_current(self, layer: Image) -> None:
        """Make the image of a layer the current one; activate a layer without analysis."""
        image = self._canvas.image_of(layer)
        if image in self._state.images:
            self._state.choose(image)
        elif self._canvas.viewer is not None and self._canvas.active_layer is not layer:
            self._canvas.activate(layer)

    def uncover(self, layer: Image) -> None:
        """Show an Image layer that a person has chosen, and hide those that cover it."""
        canvas, viewer = self._canvas, self._canvas.viewer
        image = canvas.image_of(layer)
        known = canvas.layers.get(image or "")
        if canvas.active_layer is not layer and canvas.image_of(canvas.active_layer) != image:
            canvas.activate((known and known.present("clusters")) or layer)
        if known is not None and known.is_hidden:
            known.unhide()
        layer.visible = True
        if compat.grid(viewer).enabled:
            return
        self._hide_overlapping(layer, viewer.layers[viewer.layers.index(layer) + 1 :])
        if not picking.is_in_view(viewer, layer):
            canvas.view.fit(layer)
        canvas.image_activated.emit(layer)

    def _hide_overlapping(self, layer: Image, others: Iterable[Any]) -> None:
        """Hide other images that overlap with one in the scene."""
        self._hide(
            other
            for other in others
            if other is not layer and is_micrograph(other) and overlap(other, layer)
        )

    def _hide(self, images: Iterable[Image]) -> None:
        """Hide images with what was found in them, which may be visible without the image."""
        for layer in images:
            known = self._canvas.layers.get(self._canvas.image_of(layer) or "")
            if known is None:
                layer.visible = False
            elif not known.is_hidden:
                known.hide()

    def bring_into_view(self, image: str, row: pd.Series) -> None:
        """Display an image and centre the view on a cluster or an atom."""
        if image not in self._state.images:
            return
        self._focus = (image, row)
        self._state.current = image
        if self._canvas.source_layer(image) is not None:  # its pixels have been read
            self._apply_focus(image)

    def _apply_focus(self, image: str) -> bool:
        source = self._canvas.source_layer(image)
        if self._focus is None or self._focus[0] != image or source is None:
            return False  # it may be for an image that is displayed later
        _, row = self._focus
        if not self._drawing:  # else `_draw` follows, which would restore an earlier view
            self._focus = None
        picking.bring_into_view(self._canvas.viewer, source, row)
        return True

    def set_view(self, image: str, view: picking.CameraPlace) -> None:
        """Choose centre and zoom for the next time that an image is displayed."""
        self._views[image] = view

    def set_frame(self, image: str, frame: int) -> None:
        """Choose the frame of a stack for the next time that it is displayed."""
        self._frames[image] = frame

    def set_visible(self, visible: dict[str, bool]) -> None:
        """Choose which kinds of layers are visible once they are made."""
        self._visible = dict(visible)

    def _apply_visible(self) -> None:
        """Apply `set_visible` to layers that workers have filled in the meantime."""
        for kind, layer in self._canvas.displayed_layers():
            wanted = self._visible.pop(kind, None)
            if wanted is not None and layer.visible != wanted:
                layer.visible = wanted

    def _on_current(self, image: str | None) -> None:
        """Display another image and give the keys to its points."""
        canvas = self._canvas
        if self._focus is not None and self._focus[0] != image:
            self._focus = None
        if image is None or not canvas.is_open:
            return
        if not compat.grid(canvas.viewer).enabled:
            canvas.show_copies_of(image)
        known = canvas.layers.get(image)
        if known is None:
            if canvas.is_in_project(image):
                self.show(image)
            return
        self._forget_refusal()
        if known.is_hidden:
            known.unhide()
            outlines = known.present("outlines")
            if outlines is not None:
                outlines.visible = self._overlays.outlines_visible
        if not compat.grid(canvas.viewer).enabled:
            for name, other in canvas.layers.items():
                if name != image and other.overlaps(known):
                    other.hide()
        picking.show_frame(canvas.viewer, known.source)
        layer = known.present("clusters")
        if layer is not None and canvas.image_of(canvas.active_layer) != image:
            with canvas.blocker():
                canvas.activate(layer)

    # ---- reading and displaying
    def show(self, image: str) -> None:
        """Display an image of the project as soon as its pixels are read."""
        if image not in self._state.images:
            return
        micrograph = self._state.micrograph(image)
        is_read = not isinstance(micrograph, LazyMicrograph) or micrograph.is_read
        if is_read and image in self._limits:
            self._put_later(image, self._limits[image])
            return
        tasks.start(
            self._state,
            read_for_display,
            micrograph,
            message=f"Opening {image}",
            on_result=partial(self._put_later, image),
            on_error=lambda error: self._refuse(image, str(error)),
            key="open image",
        )

    def read_again(self, image: str) -> None:
        """Display the pixels of an image anew, since its file was replaced."""
        self._limits.pop(image, None)
        if self._displayed == image:
            self._outdated = True
            self.show(image)

    def _refuse(self, image: str, reason: str) -> None:
        """Keep the reason until another image is displayed, and hide all others now.

        They would pass for the chosen one.
        """
        self._refusal = self._state.status
        self.refusals[image] = reason
        self.refused.emit(image)
        if self._state.current == image and not compat.grid(self._canvas.viewer).enabled:
            self._hide(self._canvas.image_layers())

    def _forget_refusal(self) -> None:
        if self._refusal is not None and self._state.status is self._refusal:
            self._state.status = Status()
        self._refusal = None

    def _put_later(self, image: str, limits: Limits) -> None:
        """Display an image in a turn of its own: the present one may be long already."""
        self._limits[image] = limits
        self._state.update_metadata(image)
        self._drawing = True
        QTimer.singleShot(0, partial(self._put_now, image))

    def _put_now(self, image: str) -> None:
        self._drawing = False
        shown = self._displayed == image and not self._outdated
        self._outdated = False
        wanted = self._state.current == image and not shown
        if wanted and image in self._limits and self._canvas.is_open:
            self._put(image, self._limits[image])

    def _put(self, image: str, limits: Limits) -> None:
        canvas, viewer = self._canvas, self._canvas.viewer
        try:
            data, options, _ = layer_data(self._state.micrograph(image), limits)
        except AtomicityError as error:  # the file was removed since it was read
            self._limits.pop(image, None)
            self._state.status = tasks.failed(str(error))
            self._refuse(image, str(error))
            return
        if self.refusals.pop(image, ""):
            self.refused.emit(image)
        before = self._displayed
        source = None if before is None else canvas.source_layer(before)
        same_extent = False
        if before is not None and source is not None:
            self._views[before] = canvas.view.moved_place
            self._frames[before] = picking.shown_frame(viewer, source)
            canvas.end_input(before)
        if source is not None and source.ndim == data.ndim and before is not None:
            same_extent = source.data.shape == data.shape and np.allclose(
                source.scale, options.get("scale", 1.0)
            )
            layers = canvas.transfer_layers(before, image)
            layers.unhide()
            layers.show_another(image, data, options)
        else:
            if source is not None:
                with canvas.blocker():  # napari activates a layer that stays for now
                    viewer.layers.remove(source)
            with canvas.blocker():  # it is not an image from elsewhere
                layer = viewer.add_image(data, **options)
            layers = canvas.attach(image, layer)
        if not compat.grid(viewer).enabled:  # one opened by hand would look like a part of it
            self._hide_overlapping(layers.source, list(viewer.layers))
        active = canvas.active_layer  # None if several are selected
        of_other = active is None or canvas.image_of(active) not in (None, image)
        if of_other or is_micrograph(active):
            canvas.activate(layers.present("clusters") or layers.source)
        self._displayed = image
        self._forget_refusal()
        # Its clusters are drawn in the next turn: the image appears first.
        self._drawing = True
        QTimer.singleShot(0, partial(self._draw, image, same_extent))

    def _draw(self, image: str, same_extent: bool) -> None:
        self._drawing = False
        if not self._canvas.is_open or self._displayed != image:
            return
        self.layers_ready.emit(image)
        self._set_camera(image, same_extent)
        self._read_ahead()

    def _set_camera(self, image: str, same_extent: bool) -> None:
        """Restore the view of an image; at first show all of it or keep the view."""
        viewer = self._canvas.viewer
        if self._apply_focus(image):
            return
        view = self._views.get(image)
        if view is not None:
            camera = compat.camera(viewer)
            camera.center, camera.zoom = view[:-1], view[-1]
        source = self._canvas.source_layer(image)
        if source is None:
            return
        picking.show_frame(viewer, source, self._frames.get(image))
        # The view may be that of another layer, with other units. Not the whole scene is fitted:
        # layers of the project before are removed in turns.
        keeps = view is not None or (same_extent and image not in self._views)
        if not keeps or not picking.is_in_view(viewer, source):
            self._canvas.view.fit(source)

    def _on_detached(self, image: str) -> None:
        if image == self._displayed:
            self._displayed = None

    def _on_listing(self, removed: tuple[str, ...], _: tuple[str, ...]) -> None:
        """Remove the layers of images that were removed from the project."""
        canvas = self._canvas
        for image in removed:
            tasks.cancel_about(self._state, image)
            self._limits.pop(image, None)
            if image not in canvas.layers or canvas.viewer is None:
                continue
            known = canvas.detach(image)
            known.remove()
            if known.source in canvas.viewer.layers:
                with canvas.blocker():  # napari activates another layer
                    canvas.viewer.layers.remove(known.source)

    def _on_project(self) -> None:
        if self._displayed not in self._state.images:
            self._displayed = None
            self.refusals.clear()
            self._limits.clear()
            self._views.clear()
            self._frames.clear()

    # ---- reading ahead
    def neighbours(self) -> list[str]:
        """Return the images after and before the current one."""
        images, current = self._state.images, self._state.current
        if current not in images:
            return []
        i = images.index(current)
        return [images[j] for j in (i + 1, i - 1, i + 2) if 0 <= j < len(images)]

    def _read_ahead(self) -> None:
        wanted = [self._state.micrograph(name) for name in self.neighbours()]
        waiting = [
            m for m in wanted
            if isinstance(m, LazyMicrograph) and not (m.is_read and m.name in self._limits)
        ]  # fmt: skip
        if waiting:
            tasks.start(
                self._state,
                read_ahead,
                waiting,
                on_result=self._limits.update,
                on_error=lambda _: None,
                key="read ahead",
            )
