"""The viewer of a window, the state of the window, and the layers of each image.

Everything that shows or edits images in a viewer builds on `Canvas`, which knows none of it.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from napari.layers import Image
from psygnal import Signal

from ...core.micrograph import Micrograph
from ...state.window_state import WindowState
from .. import tasks
from ..controls.questions import attempt, confirm, front_window, show_info
from ..controls.refresher import TurnQueue
from .layers import calibration, compat, picking
from .layers.layer_group import COPY_OF, ROLE, EventBlocker
from .layers.layers import ImageLayers
from .layers.micrographs import is_micrograph, micrograph_of, same, size_in_file_nm
from .layers.status_line import show_message


class Canvas:
    """The viewer of a window, the state of the window, and the layers of each image.

    Signals: ``layers_changed()`` when Image layers are added, removed, renamed or calibrated;
    ``image_activated(layer)`` when an Image layer that may hold a micrograph becomes active;
    ``class_maps_changed()`` when class maps are written, shown or hidden;
    ``points_created(view)`` when an image gets a layer with points; ``image_detached(image)`` when
    an image loses its layers; ``image_leaving(image)`` before another one takes its place.
    """

    layers_changed = Signal()
    image_activated = Signal(object)
    class_maps_changed = Signal()
    points_created = Signal(object)
    image_detached = Signal(str)
    image_leaving = Signal(str)

    def __init__(self, viewer: Any, state: WindowState) -> None:
        self._viewer = weakref.ref(viewer)
        self.state = state
        self.blocker = EventBlocker()
        self.turns = TurnQueue()
        state.pixel_sizes.changed.connect(self._on_pixel_size)
        self.hidden_labels: frozenset[str] = frozenset()
        self.shows_new_class_maps = True  # of images that are analysed first after C has hidden all
        self.layers: dict[str, ImageLayers] = {}
        weakref.finalize(viewer, self.layers.clear)
        self._message = ""
        self.view = picking.FittedView(viewer)
        self._sizes_in_files: weakref.WeakKeyDictionary[Image, float | None] = (
            weakref.WeakKeyDictionary()
        )

    # ---- viewer
    @property
    def viewer(self) -> Any:
        """The viewer; None once it is closed and deleted."""
        return self._viewer()

    @property
    def is_open(self) -> bool:
        """Whether the viewer has its window: an image may be read after the window is closed."""
        viewer = self.viewer
        return viewer is not None and compat.has_window(viewer)

    @property
    def is_writing(self) -> bool:
        """Whether the package is writing layers, so that their events are to be ignored."""
        return bool(self.blocker)

    @property
    def active_layer(self) -> Any:
        """The active layer of the viewer."""
        viewer = self.viewer
        return None if viewer is None else viewer.layers.selection.active

    def activate(self, layer: Any) -> None:
        """Make a layer the active one."""
        self.viewer.layers.selection.active = layer

    def show_copies_of(self, image: str) -> None:
        """Show the layers with copies of clusters of an image, and hide those of others."""
        for layer in self.viewer.layers:
            if COPY_OF in layer.metadata:
                layer.visible = layer.metadata[COPY_OF] == image

    def show_message(self, text: str) -> None:
        """Show a text in the status bar of the viewer for some time."""
        if self.viewer is not None:
            self._message = text
            show_message(self.viewer, text)

    def end_message(self) -> None:
        """Remove the message from the status bar, if it is still there."""
        if self.viewer is not None and self.viewer.status == self._message:
            self.viewer.status = ""

    # ---- images and their layers
    def image_layers(self) -> list[Image]:
        """Return the Image layers that may hold a micrograph, in the order of the layer list."""
        viewer = self.viewer
        return [] if viewer is None else [x for x in viewer.layers if is_micrograph(x)]

    def image_of(self, layer: Any) -> str | None:
        """Return the name of the image that a layer holds or was made for."""
        if layer is None:
            return None
        role = layer.metadata.get(ROLE)
        if role is not None:
            return role["image"]
        return next((name for name, i in self.layers.items() if i.source is layer), None)

    def layer(self, image: str | None, kind: str) -> Any:
        """Return the layer of a kind that was made for an image; None if there is none.

        Kinds are "clusters", "texts", "outlines" and "class map raw" or of another channel.
        """
        known = self.layers.get(image or "")
        return None if known is None else known.present(kind)

    def current_layers(self) -> ImageLayers | None:
        """Return the layers of the current image."""
        return self.layers.get(self.state.current or "")

    def displayed_layers(self) -> list[tuple[str, Any]]:
        """Return kind and layer for all layers of the current image."""
        known = self.current_layers()
        if known is None:
            return []
        made = [(layer.metadata[ROLE]["kind"], layer) for layer in known.derived()]
        return [("image", known.source), *made] if known.source is not None else made

    # ---- class maps
    @property
    def class_maps_visible(self) -> bool:
        """Whether class maps are shown over the current image."""
        known = self.current_layers()
        return known is not None and any(layer.visible for layer in known.class_maps())

    @class_maps_visible.setter
    def class_maps_visible(self, visible: bool) -> None:
        self.shows_new_class_maps = visible
        for known in self.layers.values():
            if not known.is_hidden:
                known.show_class_maps(visible)

    def on_class_maps(self, event: Any = None) -> None:
        """Announce that class maps were written, shown or hidden."""
        self.class_maps_changed.emit()

    def source_layer(self, image: str | None) -> Image | None:
        """Return the layer that holds the micrograph."""
        known = self.layers.get(image or "")
        return None if known is None else known.source

    def attach(self, image: str, layer: Image) -> ImageLayers:
        """Register a layer as the micrograph of an image."""
        known = ImageLayers(image, layer, self.viewer, self.blocker, self.points_created.emit)
        self.layers[image] = known
        layer.events.scale.connect(self._on_placement)
        layer.events.units.connect(self._on_placement)
        layer.events.translate.connect(self._on_placement)
        return known

    def detach(self, image: str) -> ImageLayers:
        """Forget the layers of an image and return them."""
        known = self.layers.pop(image)
        self.image_detached.emit(image)
        return known

    def end_input(self, image: str) -> None:
        """End what a person drags or draws in an image: another one takes its place."""
        self.image_leaving.emit(image)
        compat.end_drags(self.viewer)

    def transfer_layers(self, before: str, image: str) -> ImageLayers:
        """Register the layers of one image as those of another."""
        known = self.detach(before)
        self.layers[image] = known
        return known

    # ---- micrographs
    def ensure_image(self, layer: Image) -> str:
        """Add the image of a layer to the state if it is new or has changed; return its name."""
        name = self.image_of(layer)
        if name is None:
            name = self.unused_name(layer.name)
            self.attach(name, layer)
        micrograph = micrograph_of(layer, name)
        if not same(micrograph, self.micrograph(name)):
            was_in_project = self.is_in_project(name)
            self.state.add_image(micrograph)
            if self.is_in_project(name) and not was_in_project:
                show_info(f"{name} was added to the project {self.state.project.path.stem}.")
        self.state.choose(name)
        return name

    def may_join_project(self, layer: Image) -> bool:
        """Ask before an image from elsewhere becomes one of the open project."""
        project = self.state.project
        if project is None or project.read_only or self.image_of(layer) in self.state.images:
            return True
        return confirm(
            front_window(),
            f"Add {layer.name} to the project?",
            f"{layer.name} is not in the open project {project.path.stem}. Add it? It is saved "
            "with the project, and counts in all ratios until you remove it again (Browse). "
            "To work with it by itself, close the project first (Browse ▸ ⋯ ▸ Close project).",
        )

    def micrograph(self, image: str) -> Micrograph | None:
        """Return the micrograph of an image; None if the state does not know the image."""
        return self.state.micrograph(image) if image in self.state.images else None

    def frame(self, image: str, frame: int) -> Any:
        """Return a frame (Y, X) of an image; of a large image, an array that reads parts."""
        micrograph = self.state.micrograph(image)
        return micrograph.frame(min(max(frame, 0), micrograph.n_frames - 1))

    def unused_name(self, name: str) -> str:
        """Return a name that no image has or had, made from another name.

        Steps of an image that was removed would change another one of its name.
        """
        taken, free, i = {*self.layers, *self.state.images}, name, 1
        if self.state.project is not None:
            taken |= self.state.project.image_files.removed.keys()
        while free in taken:
            free, i = f"{name} [{i}]", i + 1
        return free

    def is_in_project(self, image: str) -> bool:
        """Return whether the open project contains an image."""
        project = self.state.project
        return project is not None and project.has(image)

    def size_in_file_nm(self, layer: Image) -> float | None:
        """Return the pixel size in nm that the file of a layer gives; None if it is not known.

        A worker reads the file at the first call; ``layers_changed`` follows.
        """
        path = layer.source.path
        if layer in self._sizes_in_files or path is None:
            return self._sizes_in_files.get(layer)
        self._sizes_in_files[layer] = None
        reference = weakref.ref(layer)

        def keep(size_nm: float | None) -> None:
            layer = reference()
            if layer is not None and size_nm is not None:
                self._sizes_in_files[layer] = size_nm
                self._take_over(size_nm, layer)
                self.layers_changed.emit()

        tasks.start(
            self.state,
            size_in_file_nm,
            str(path),
            layer.data.shape[-2:],
            on_result=keep,
            key=f"pixel size in {path}",
        )
        return None

    def calibrate_from_file(self, layer: Any) -> None:
        """Read the pixel size of an image that napari's own reader has opened, in a worker."""
        is_opened_by_napari = is_micrograph(layer) and layer.source.reader_plugin == "napari"
        if is_opened_by_napari and calibration.pixel_size_nm(layer) is None:
            self.size_in_file_nm(layer)

    def _take_over(self, size_nm: float, layer: Image) -> None:
        """Calibrate a layer that napari's reader has opened in pixels, as its file says."""
        is_in_pixels = calibration.pixel_size_nm(layer) is None and (layer.scale == 1).all()
        if layer.source.reader_plugin == "napari" and is_in_pixels:
            self.calibrate(layer, size_nm)
            self.fit_opened(layer)

    def calibrate(self, layer: Image, size_nm: float | None) -> None:
        """Write a pixel size to a layer: one change, though the layer has scale and units."""
        with self.blocker():
            calibration.calibrate(layer, size_nm)
        self._follow(layer)

    def fit_opened(self, layer: Image) -> None:
        """Fit the view to an image that was opened from a file and is still the active layer."""
        if self.is_open and self.active_layer is layer:
            self.view.fit(layer)

    def _on_placement(self, event: Any) -> None:
        if not self.is_writing:
            self._follow(event.source)

    def _follow(self, layer: Image) -> None:
        """Update the state and the other layers after an image was moved or calibrated."""
        image = self.image_of(layer)
        if image is None:
            return
        before, size_nm = self.micrograph(image), calibration.pixel_size_nm(layer)
        if before is not None and size_nm is not None and size_nm != before.pixel_size_nm:
            attempt(
                partial(self.state.pixel_sizes.set, image, size_nm),
                partial(self.calibrate, layer, before.pixel_size_nm),
            )
        self.layers[image].follow_source()
        self.layers_changed.emit()

    def _on_pixel_size(self, image: str) -> None:
        """Write a changed pixel size to the layer, and say which results still refer to another."""
        state, size_nm = self.state, self.state.pixel_sizes.get(image)
        layer = self.source_layer(image)
        if layer is not None and calibration.pixel_size_nm(layer) != size_nm:
            self.calibrate(layer, size_nm)
            self.view.fit(layer)
        if state.pixel_sizes.has_changed(image):
            show_info(
                f"The pixel size of {image} has changed. Press Analyse again: diameters "
                "and labels still refer to the previous pixel size."
            )
        if state.atoms.of(image) is not None:
            state.atoms.notify(image)
        if state.atoms.outdated(image):
            show_info(
                f"The pixel size of {image} has changed. Press Find atoms again: distances "
                "and densities still refer to the previous pixel size."
            )
