"""The stage: of a project's images one at a time lies in the viewer, on layers that stay.

Making layers takes napari long, filling them does not. Neighbours are read ahead, so that the next
image is there when it is asked for.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from ...core.cluster_table import Key
from ...core.errors import AtomicityError
from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...io.stored_micrograph import LazyMicrograph
from .. import tasks
from . import compat
from .layer_data import display_limits, layer_data

if TYPE_CHECKING:
    from .binding import Binding

Limits = tuple[float, float]
View = tuple[tuple[float, ...], float]


def read_for_display(
    micrograph: Micrograph, progress: Progress | None = None, stop: Stop | None = None
) -> Limits:
    """Have the pixels read, and find the grey values between which they are shown."""
    return display_limits(micrograph.data)


def read_ahead(
    micrographs: list[Micrograph], progress: Progress | None = None, stop: Stop | None = None
) -> dict[str, Limits]:
    """The same of images that may be wanted next; one that can't be read is left for later."""
    found = {}
    for micrograph in micrographs:
        if stop is not None and stop():
            break
        try:
            found[micrograph.name] = read_for_display(micrograph)
        except AtomicityError:
            continue
    return found


class CurrentImage:
    """Shows the image of a project that is looked at."""

    def __init__(self, binding: Binding) -> None:
        self._binding = weakref.ref(binding)
        self._shown: str | None = None
        self._limits: dict[str, Limits] = {}
        self._views: dict[str, View] = {}
        self._focus: Key | None = None
        self._visible: dict[str, bool] = {}
        self._drawing = False
        binding.layers_changed.connect(self._obey)
        binding.state.project_changed.connect(self._on_project)

    @property
    def busy(self) -> bool:
        """Whether an image lies there of which not all is drawn yet."""
        return self._drawing

    @property
    def shown(self) -> str | None:
        """Name of the image that lies on the stage."""
        return self._shown

    def left(self, image: str) -> None:
        """The layers of an image are gone."""
        if image == self._shown:
            self._shown = None

    def then_focus(self, key: Key) -> None:
        """Once the image lies there, bring a cluster into view."""
        self._focus = key

    def then_look(self, image: str, view: View) -> None:
        """When the image comes to lie there, look at this place of it."""
        self._views[image] = view

    def then_show(self, visible: dict[str, bool]) -> None:
        """When layers of these kinds come to be, let them be visible or not."""
        self._visible = dict(visible)

    def _obey(self) -> None:
        """Class maps and outlines come from workers: what is to be seen of them is set late."""
        binding = self._binding()
        if binding is None or binding.viewer is None:
            return
        for kind, layer in binding.layers_on_stage():
            wanted = self._visible.pop(kind, None)
            if wanted is not None and layer.visible != wanted:
                layer.visible = wanted

    def show(self, image: str) -> None:
        """Put an image on the stage, as soon as its pixels are read."""
        binding = self._binding()
        if binding is None or image not in binding.state.images:
            return
        micrograph = binding.state.micrograph(image)
        at_once = not isinstance(micrograph, LazyMicrograph) or micrograph.is_read
        if at_once and image in self._limits:
            binding.state.update_metadata(image)
            self._put_soon(image)
            return

        def put(limits: Limits) -> None:
            self._limits[image] = limits
            binding.state.update_metadata(image)
            self._put_soon(image)

        tasks.start(
            binding.state,
            read_for_display,
            micrograph,
            message=f"Opening {image}",
            on_result=put,
            key="open image",
        )

    def _put_soon(self, image: str) -> None:
        """In a turn of its own: who asks may have done a lot in this one."""
        self._drawing = True
        QTimer.singleShot(0, partial(self._put_now, image))

    def _put_now(self, image: str) -> None:
        self._drawing = False
        binding = self._binding()
        wanted = binding is not None and binding.state.current == image
        if wanted and image in self._limits and self._shown != image:
            self._put(image, self._limits[image])

    def _put(self, image: str, limits: Limits) -> None:
        binding = self._binding()
        if binding is None or binding.viewer is None:
            return
        viewer, state = binding.viewer, binding.state
        try:
            data, options, _ = layer_data(state.micrograph(image), limits)
        except AtomicityError as error:  # the file went away since it was read
            self._limits.pop(image, None)
            state.status = tasks.failed(str(error))
            return
        before = self._shown
        source = None if before is None else binding.source_layer(before)
        if before is not None and source is not None:
            self._views[before] = _view(viewer)
        if source is not None and source.ndim == data.ndim and before is not None:
            same_frame = source.data.shape == data.shape and np.allclose(
                source.scale, options.get("scale", source.scale)
            )
            known = binding.transfer_layers(before, image)
            known.show_another(image, data, options)
        else:
            if source is not None:
                viewer.layers.remove(source)
            same_frame = False
            layer = viewer.add_image(data, **options)
            binding.attach(image, layer)
        self._shown = image
        # What lies on it comes in a turn of its own: the image is seen first.
        self._drawing = True
        QTimer.singleShot(0, partial(self._draw, image, same_frame))

    def _draw(self, image: str, same_frame: bool) -> None:
        self._drawing = False
        binding = self._binding()
        if binding is None or binding.viewer is None or self._shown != image:
            return
        binding.show_all_of(image)
        self._look(image, same_frame)
        self._read_ahead()

    def _look(self, image: str, same_frame: bool) -> None:
        """Where this image was looked at before; a first time all of it, or where the last was."""
        binding = self._binding()
        assert binding is not None
        if self._focus is not None and self._focus[0] == image:
            binding.bring_into_view(self._focus)
        elif binding.atoms.take_focus(image):
            pass
        elif image in self._views:
            set_view(binding.viewer, self._views[image])
        elif not same_frame:
            binding.viewer.reset_view(margin=0.02)
        self._focus = None

    # ---- what may be wanted next
    def neighbours(self) -> list[str]:
        """The images after and before the one that is looked at."""
        binding = self._binding()
        if binding is None or binding.state.current not in binding.state.images:
            return []
        images = binding.state.images
        i = images.index(binding.state.current)
        return [images[j] for j in (i + 1, i - 1, i + 2) if 0 <= j < len(images)]

    def _read_ahead(self) -> None:
        binding = self._binding()
        assert binding is not None
        state = binding.state
        wanted = [state.micrograph(name) for name in self.neighbours()]
        waiting = [
            m for m in wanted
            if isinstance(m, LazyMicrograph) and not (m.is_read and m.name in self._limits)
        ]  # fmt: skip
        if waiting:
            tasks.start(
                state,
                read_ahead,
                waiting,
                on_result=self._limits.update,
                on_error=lambda _: None,
                key="read ahead",
            )

    def go(self, step: int) -> None:
        """Look at the next image (1) or the one before (-1)."""
        binding = self._binding()
        if binding is None or not binding.state.images:
            return
        images, current = binding.state.images, binding.state.current
        if current not in images:
            binding.state.current = images[0]
            return
        i = images.index(current) + step
        if 0 <= i < len(images):
            binding.state.current = images[i]
        else:
            binding.viewer.status = "This is the " + ("last image" if step > 0 else "first image")

    def _on_project(self) -> None:
        binding = self._binding()
        if binding is not None and self._shown not in binding.state.images:
            self._shown = None
            self._limits.clear()
            self._views.clear()


def _view(viewer: Any) -> View:
    camera = compat.camera(viewer)
    return tuple(camera.center), float(camera.zoom)


def set_view(viewer: Any, view: View) -> None:
    """Look at a place with a zoom."""
    camera = compat.camera(viewer)
    camera.center, camera.zoom = view
