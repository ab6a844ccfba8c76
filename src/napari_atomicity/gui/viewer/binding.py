"""The binding viewer ⇄ session: layers are views of the session and report back as edits.

Everything that a layer shows is written from the session, whole, while its own events are not
listened to (`layers`); everything that a person does to a layer becomes an edit of the session
(`hand`). A selection is a set of cluster ids; indices into layers exist only at this border.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Image, Points, Vectors
from napari.utils.notifications import show_error, show_info
from psygnal import Signal
from qtpy.QtCore import QTimer

from ...core.cluster_table import Key
from ...core.errors import AtomicityError
from ...core.micrograph import Micrograph
from ...models.analysis import Analysis
from ...state.window_state import Step, WindowState
from .. import tasks
from ..controls.garbage_collection import not_now, pass_over_what_is_there
from ..controls.settings import ANNOTATOR, settings
from . import atom_layers, calibration, compat, picking
from . import point_style as marks
from .atoms import AtomView
from .current_image import CurrentImage
from .jobs import class_map_images, outline_strokes
from .labelling import LabelMode
from .layers import ROLE, EventBlocker, ImageLayers, leaving, stroke_px
from .manual_editing import ManualEditing
from .micrographs import is_micrograph, micrograph_of, same, size_in_file_nm
from .projects import Projects
from .regions import RegionLayers
from .tracks import TrackView

# Not at every step of a movement of the camera.
_TEXT_DELAY_MS = 40
# Points that are selected as quickly as they are written.
_MANY = 1000
# What a long step may take of a turn of the window: it stays as it is under the hand.
_TURN_S = 0.015

_bindings: weakref.WeakKeyDictionary[Any, Binding] = weakref.WeakKeyDictionary()


def unwrapped(viewer: Any) -> Any:
    """The viewer itself: napari hands widgets a proxy, which is another object every time."""
    return getattr(viewer, "__wrapped__", viewer)


def binding_of(viewer: Any) -> Binding:
    """The binding of a viewer: there is one, made when it is first asked for."""
    viewer = unwrapped(viewer)
    if viewer not in _bindings:
        _bindings[viewer] = Binding(viewer)
    return _bindings[viewer]


def state_of(viewer: Any) -> WindowState:
    """The session of a viewer: there is one, made when it is first asked for."""
    return binding_of(viewer).state


class Binding:
    """Keeps the layers of a viewer and its session the same.

    Signals: ``layers_changed()`` when Image layers come, go, are renamed or calibrated;
    ``looked_at(layer)`` when an Image layer that may hold a micrograph becomes the active one;
    ``hidden_changed()`` when other labels are hidden; ``points_made(layer)`` when an image gets
    its points layer.
    """

    layers_changed = Signal()
    looked_at = Signal(object)
    hidden_changed = Signal()
    points_made = Signal(object)

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(viewer)
        self.state = WindowState()
        self.state.annotator = str(settings().value(ANNOTATOR) or "")
        self.state.steps.run_chunked = self._soon
        self._images: dict[str, ImageLayers] = {}
        self._drawn: dict[str, dict[str, Any]] = {}
        self._maps_to_come = 0
        self._sizes_in_files: weakref.WeakKeyDictionary[Image, float | None] = (
            weakref.WeakKeyDictionary()
        )
        self._hidden: frozenset[str] = frozenset()
        self._epoch = self.state.epoch
        self._outlines_wanted = True
        self._turns: dict[object, Callable[[], object]] = {}
        self._turn_timer = QTimer()
        self._turn_timer.timeout.connect(self._take_turn)
        self._quiet = EventBlocker()
        self._by_hand = ManualEditing(self.state, self.refresh)
        self._text_timer = QTimer()
        self._text_timer.setSingleShot(True)
        self._text_timer.setInterval(_TEXT_DELAY_MS)
        self._text_timer.timeout.connect(self._write_texts)
        viewer.layers.events.inserted.connect(self._on_layers)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.renamed.connect(self._on_layers)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.dims.events.current_step.connect(self._write_texts_soon)
        compat.camera(viewer).events.connect(self._write_texts_soon)
        viewer.mouse_drag_callbacks.append(picking.ClickSelects(self.select_at))
        self.state.analysis_changed.connect(self._on_analysis)
        self.state.selection_changed.connect(self._on_selection)
        self.state.current_changed.connect(self._on_current)
        self.state.explained_class_changed.connect(self._on_explained_class)
        self.state.focus_requested.connect(self._on_focus)
        self.state.project_changed.connect(self._on_project)
        self.regions = RegionLayers(self)
        self.stage = CurrentImage(self)
        self.projects = Projects(self)
        self.label_mode = LabelMode(self)
        self.atoms = AtomView(self)
        self.tracks = TrackView(self)

    @property
    def viewer(self) -> Any:
        """The viewer; None once it is gone."""
        return self._viewer()

    @property
    def settled(self) -> bool:
        """Whether the window shows all there is: no task runs and no text waits to be written."""
        waiting = self._text_timer.isActive() or bool(self._turns)
        waiting = waiting or self.stage.busy or self.state.busy or self.tracks.busy
        waiting = waiting or self._maps_to_come > 0
        return not (waiting or tasks.running(self.state) or leaving(self.viewer))

    def _soon(self, go_on: Callable[[float], bool]) -> None:
        QTimer.singleShot(0, partial(self._in_turns, go_on))

    def _in_turns(self, go_on: Callable[[float], bool]) -> None:
        """Let a long step have a part of every turn of the event loop."""
        try:
            with not_now():
                more = go_on(_TURN_S)
        except AtomicityError as error:
            show_error(str(error))
            for image in list(self._images):  # napari may have done already what was refused
                self.refresh(image)
            return
        if more:
            QTimer.singleShot(0, partial(self._in_turns, go_on))
        else:
            pass_over_what_is_there()

    def _in_a_turn(self, key: object, work: Callable[[], object]) -> None:
        """Have something done in a turn of its own; the newest of one key counts."""
        self._turns[key] = work
        self._turn_timer.start()

    def _take_turn(self) -> None:
        if self._turns:
            work = self._turns.pop(next(iter(self._turns)))
            if self.viewer is not None:
                work()
        if not self._turns:
            self._turn_timer.stop()

    # ---- layers of images
    def image_layers(self) -> list[Image]:
        """Image layers that may hold a micrograph, in the order of the layer list."""
        viewer = self.viewer
        return [] if viewer is None else [x for x in viewer.layers if is_micrograph(x)]

    def image_of(self, layer: Any) -> str | None:
        """Name of the image that a layer (its own or one made for it) belongs to."""
        if layer is None:
            return None
        role = layer.metadata.get(ROLE)
        if role is not None:
            return role["image"]
        return next((name for name, i in self._images.items() if i.source is layer), None)

    def ensure_image(self, layer: Image) -> str:
        """Bring an Image layer into the session, as it is now; returns the image's name."""
        name = self.image_of(layer)
        if name is None:
            name = self._free_name(layer.name)
            self.attach(name, layer)
        micrograph = micrograph_of(layer, name)
        if not same(micrograph, self._known(name)):
            self.state.add_image(micrograph)
        self.state.current = name
        return name

    def attach(self, name: str, layer: Image) -> ImageLayers:
        """Let a layer be the micrograph of that name."""
        known = ImageLayers(name, layer, self.viewer, self._quiet, self._on_points_made)
        self._images[name] = known
        layer.events.scale.connect(self._on_placement)
        layer.events.units.connect(self._on_placement)
        layer.events.translate.connect(self._on_placement)
        return known

    def transfer_layers(self, before: str, name: str) -> ImageLayers:
        """The layers of one image are those of another from now on."""
        known = self._images.pop(before)
        self._drawn.pop(before, None)
        self._images[name] = known
        return known

    def show_all_of(self, name: str) -> None:
        """Draw what is known of an image that has just got its layers."""
        self._on_analysis(name)
        self.atoms.on_layers_created(name)
        self.tracks.on_layers_created(name)
        self.layers_changed.emit()

    def _known(self, name: str) -> Micrograph | None:
        return self.state.micrograph(name) if name in self.state.images else None

    def _free_name(self, name: str) -> str:
        taken, free, i = {*self._images, *self.state.images}, name, 1
        while free in taken:
            free, i = f"{name} [{i}]", i + 1
        return free

    def size_in_file_nm(self, layer: Image) -> float | None:
        """What the layer's file says of a pixel, in nm; None if nothing, or nothing yet.

        The file is read in a worker when it is first asked for; ``layers_changed`` follows.
        """
        path = layer.source.path
        if layer in self._sizes_in_files or path is None:
            return self._sizes_in_files.get(layer)
        self._sizes_in_files[layer] = None
        reference = weakref.ref(layer)

        def found(size_nm: float | None) -> None:
            asked = reference()
            if asked is not None and size_nm is not None:
                self._sizes_in_files[asked] = size_nm
                self.layers_changed.emit()

        tasks.start(
            self.state,
            size_in_file_nm,
            str(path),
            layer.data.shape[-2:],
            on_result=found,
            key=f"pixel size in {path}",
        )
        return None

    def source_layer(self, image: str) -> Image | None:
        """The layer that holds the micrograph."""
        known = self._images.get(image)
        return None if known is None else known.source

    def points_layer(self, image: str) -> Points | None:
        """The layer ``<image> clusters``."""
        known = self._images.get(image)
        return None if known is None else known.points

    def texts_layer(self, image: str) -> Points | None:
        """The layer ``<image> texts``."""
        known = self._images.get(image)
        return None if known is None else known.texts

    @property
    def is_writing(self) -> bool:
        """Whether what happens to layers is our own doing."""
        return bool(self._quiet)

    def current_layers(self) -> ImageLayers | None:
        """The layers of the image that is looked at."""
        return self._images.get(self.state.current or "")

    def layers_of(self, image: str) -> ImageLayers | None:
        """The layers of an image."""
        return self._images.get(image)

    def images_with_layers(self) -> list[str]:
        """Names of the images that have layers."""
        return list(self._images)

    def layers_on_stage(self) -> list[tuple[str, Any]]:
        """Kind and layer of what lies over the image that is looked at, and the image itself."""
        known = self._images.get(self.state.current or "")
        if known is None:
            return []
        made = [(layer.metadata[ROLE]["kind"], layer) for layer in known.derived()]
        return [("image", known.source), *made] if known.source is not None else made

    def outlines_layer(self, image: str) -> Vectors | None:
        """The layer ``<image> outlines``."""
        known = self._images.get(image)
        return None if known is None else known.outlines

    def class_map_layer(self, image: str, channel: str) -> Image | None:
        """The layer ``<image> class map <channel>``."""
        known = self._images.get(image)
        return None if known is None else known.class_map(channel)

    # ---- what the viewer says
    def _on_layers(self, event: Any) -> None:
        self.layers_changed.emit()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        image = self.image_of(layer)
        role = layer.metadata.get(ROLE)
        if role is not None and role["kind"] == "regions" and not self._quiet:
            QTimer.singleShot(0, partial(self.regions.without_layer, role["image"]))
        if image is not None and layer.metadata.get(ROLE) is None:
            tasks.cancel_about(self.state, image)
            known = self._images.pop(image)
            self._drawn.pop(image, None)
            self.stage.left(image)
            if self._is_kept(image):  # it is put away, and not out of the project
                self.state.current = None
            else:
                self._by_hand.forget(image)
                self.state.remove_image(image)
            known.remove()
        self.layers_changed.emit()

    def _is_kept(self, image: str) -> bool:
        project = self.state.project
        return project is not None and project.has(image)

    def _on_active(self, event: Any) -> None:
        if self._quiet:
            return
        image = self.image_of(event.value)
        if image in self.state.images:
            self.state.current = image
        if event.value is not None and is_micrograph(event.value):
            self.looked_at.emit(event.value)

    def look_at(self, layer: Image) -> None:
        """Make an image the current one; one that nobody has analysed yet, the active layer."""
        image = self.image_of(layer)
        if image in self.state.images:
            self.state.current = image
        elif self.viewer is not None and self.viewer.layers.selection.active is not layer:
            self.viewer.layers.selection.active = layer

    def _on_placement(self, event: Any) -> None:
        """An image was moved or calibrated: what lies on it goes with it."""
        image = self.image_of(event.source)
        if image is None or self._quiet:
            return
        before, size = self._known(image), calibration.pixel_size_nm(event.source)
        if before is not None and size is not None and size != before.pixel_size_nm:
            self.state.add_image(before.with_pixel_size(size))
            if self.state.analysis(image) is not None:
                show_info(
                    f"The pixel size of {image} has changed. Press Analyse again: diameters "
                    "and labels still are those of the old one."
                )
            if self.state.atoms.outdated(image):
                self.state.atoms.tell(image)
                show_info(
                    f"The pixel size of {image} has changed. Press Find atoms again: distances "
                    "and densities still are those of the old one."
                )
        self._images[image].follow_source()
        self.layers_changed.emit()

    # ---- what the session says
    def _on_analysis(self, image: str) -> None:
        if image not in self._images or self.viewer is None:
            return
        analysis = self.state.analysis(image)
        if analysis is None:
            self._images[image].remove(keep=atom_layers.KINDS)
            self._drawn.pop(image, None)
            return
        self.refresh(image)
        self._show_class_maps(image, analysis)
        self._by_hand.classify_new(image, analysis)

    def refresh(self, image: str) -> None:
        """Write points, texts and outlines of an image again from the session."""
        analysis, known = self.state.analysis(image), self._images.get(image)
        if analysis is None or known is None:
            return
        if known.write_points(analysis, self.state.classes(), self._hidden):
            self._write_selection(image)
        self.regions.write(known, analysis)
        self._write_texts_soon()
        self._outlines_soon(image)

    def _selected_of(self, image: str) -> set[int]:
        return {i for name, i in self.state.selection if name == image}

    def _on_points_made(self, layer: Points) -> None:
        layer.events.data.connect(self._on_points)
        layer.events.visible.connect(self._write_texts_soon)
        layer.selected_data.events.items_changed.connect(self._on_points_selected)
        self.points_made.emit(layer)

    def _write_texts_soon(self, event: Any = None) -> None:
        """Texts are for reading: they need not be there in the same turn."""
        if not self._text_timer.isActive():
            self._text_timer.start()

    def _write_texts(self) -> None:
        if self.viewer is not None:
            for image, known in self._images.items():
                known.write_texts(self.state.table(image))

    # ---- outlines and class maps: computed in a worker, if others are wanted than those shown
    def _outlines_soon(self, image: str) -> None:
        self._in_a_turn((image, "outlines"), lambda: self._show_outlines(image))

    def _show_outlines(self, image: str) -> None:
        known, analysis = self._images.get(image), self.state.analysis(image)
        if known is None or analysis is None:
            return
        table, drawn = analysis.table, self._drawn.setdefault(image, {})
        wanted = dict(zip(table["cluster_id"].tolist(), analysis.outlines, strict=True))
        before = drawn.get("outlines", {})
        if before and all(before.get(i) is outline for i, outline in wanted.items()):
            colours = marks.outline_colours(table, self.state.classes(), self._hidden)
            known.colour_outlines(table["cluster_id"].to_numpy(), colours)
            return
        drawn["outlines"] = wanted

        def show(strokes: tuple[np.ndarray, np.ndarray]) -> None:
            if drawn is self._drawn.get(image):
                if known.outlines is None:
                    ndim = len(analysis.micrograph.shape)
                    known.new_outlines(ndim, stroke_px(analysis), self._outlines_wanted)
                ids = table["cluster_id"].to_numpy()

                def write() -> None:
                    if drawn is self._drawn.get(image):
                        known.write_outlines(*strokes, ids)

                self._in_a_turn((image, "strokes"), write)
                self._outlines_soon(image)  # their colours

        tasks.start(
            self.state,
            outline_strokes,
            analysis,
            on_result=show,
            on_error=lambda _: drawn.pop("outlines", None),
            key=f"outlines of {image}",
            about=image,
        )

    def _show_class_maps(self, image: str, analysis: Analysis) -> None:
        label = self.state.explained_class
        drawn = self._drawn.setdefault(image, {})
        # Held, not only named by id: another array could come to lie at the same place.
        wanted = (label, list(analysis.class_maps.values()))
        before = drawn.get("class maps", (None, None))
        same = before[1] is not None and all(map(_is, before[1], wanted[1]))
        if not analysis.class_maps:
            # Those of before would tell a blind annotator what the machine thinks.
            if drawn.pop("class maps", None) is not None:
                self._images[image].clear_class_maps()
            return
        if same and before[0] == label:
            return
        drawn["class maps"] = wanted

        def show(images: dict[str, np.ndarray]) -> None:
            if drawn is not self._drawn.get(image) or drawn.get("class maps") is not wanted:
                return
            (channel, data), *others = images.items()
            self._images[image].write_class_map(channel, data)
            if others:  # napari takes its time for a layer: one in a turn
                self._maps_to_come += 1
                QTimer.singleShot(0, partial(show_next, dict(others)))

        def show_next(images: dict[str, np.ndarray]) -> None:
            self._maps_to_come -= 1
            show(images)

        tasks.start(
            self.state,
            class_map_images,
            analysis,
            label,
            self._by_hand.engine(image),
            on_result=show,
            on_error=lambda _: drawn.pop("class maps", None),
            key=f"class maps of {image}",
            about=image,
        )

    def _on_explained_class(self, label: str | None) -> None:
        for image in list(self._images):
            analysis = self.state.analysis(image)
            if analysis is not None:
                self._show_class_maps(image, analysis)

    def accepts(self, analysis: Analysis) -> bool:
        """Whether a result still is of an image as it is now; if not, a person is told why."""
        image = analysis.micrograph.name
        now = self._known(image)
        if now is None:
            return False
        if now.pixel_size_nm not in (None, analysis.micrograph.pixel_size_nm):
            show_info(f"The pixel size of {image} has changed meanwhile: start again.")
            return False
        return True

    # ---- what a person does
    def _on_points(self, event: Any) -> None:
        image = self.image_of(event.source)
        if not self._quiet and image in self._images:
            self._by_hand.on_points(self._images[image], event)

    def attempt(self, edit: Callable[[], object]) -> bool:
        """Do an edit; where it is refused the person is told, and sees what still is."""
        try:
            edit()
        except AtomicityError as error:
            show_error(str(error))
            if self.state.current is not None:
                self.refresh(self.state.current)
            return False
        return True

    def add_by_clicking(self) -> None:
        """From now on a click adds a cluster; asked again, it selects one."""
        layer = self.points_layer(self.state.current or "")
        if layer is None:
            show_info("Analyse the image first: then clusters that were missed can be added.")
            return
        self.viewer.layers.selection.active = layer
        layer.mode = "select" if layer.mode == "add" else "add"
        self.viewer.status = (
            "Click where a cluster was missed; P ends it"
            if layer.mode == "add"
            else "A click selects a cluster"
        )

    def exclude_regions(self) -> None:
        """Let the person draw around what shall not count."""
        if self.regions.draw():
            self.viewer.status = "Draw around what shall not count: contamination, vacuum"
        else:
            show_info("Analyse the image first: then regions of it can be excluded.")

    def split_selected(self) -> None:
        """Each selected cluster of the image that is looked at is two."""
        self._by_hand.split(*self._selected_here())

    def merge_selected(self) -> None:
        """The selected clusters of the image that is looked at are one."""
        self._by_hand.merge(*self._selected_here())

    def _selected_here(self) -> tuple[str, list[int]]:
        image = self.state.current or ""
        return image, sorted(self._selected_of(image))

    def set_engine(self, image: str, model: str, device: str) -> None:
        """The model and device that clusters added by hand will be shown to."""
        self._by_hand.set_engine(image, (model, device))

    def undo(self) -> None:
        """Take back what was done last; that may be a point that is still being measured."""
        if self._by_hand.take_back():
            return
        step = self._guarded(self.state.history.undo)
        self.viewer.status = f"Undone: {step.description}" if step else "There is nothing to undo"

    def redo(self) -> None:
        """Do again what was taken back."""
        step = self._guarded(self.state.history.redo)
        self.viewer.status = f"Done again: {step.description}" if step else "Nothing to redo"

    def _guarded(self, replay: Callable[[], Step | None]) -> Step | None:
        """Replay a step, and go to the image that it is about: it should be seen."""
        try:
            step = replay()
        except AtomicityError as error:
            show_error(str(error))
            return None
        if step is not None and self.state.current not in step.images:
            self.state.current = next(iter(step.images), self.state.current)
        return step

    # ---- selection
    def _on_points_selected(self, *_: Any) -> None:
        if self._quiet or self.viewer is None:
            return
        waiting = [key for key in self._turns if isinstance(key, tuple) and key[1] == "selection"]
        if waiting:  # points that were written anew know nothing of what was selected
            for key in waiting:
                self._turns.pop(key)()
            return
        keys: set[Key] = set()
        for image, known in self._images.items():
            layer = known.points
            if layer is not None and len(layer.selected_data):
                ids = layer.features["cluster_id"].to_numpy()
                chosen = [i for i in layer.selected_data if i < len(ids)]
                keys.update((image, int(i)) for i in ids[chosen] if i == i and i > 0)
        self.state.select(keys)

    def select_at(self, world: Any, extend: bool = False) -> None:
        """Select the cluster or atom at a place of the scene; none if there is none."""
        if self.atoms.marking:  # a click means something else
            return
        if self.atoms.in_front and self.atoms.select_at(world, extend):
            return
        current = self.state.current
        images = sorted(self._images, key=lambda name: name != current)
        found = picking.first_at(((i, self._images[i].points) for i in images), world)
        if found is not None:
            self.state.select(self.state.selection ^ {found} if extend else {found})
        elif not self.atoms.select_at(world, extend) and not extend:
            self.state.select(())

    def _on_selection(self, keys: frozenset[Key]) -> None:
        if self.viewer is not None:
            for image, known in self._images.items():
                known.write_selection(self._selected_of(image))

    def _write_selection(self, image: str) -> None:
        """Select again the points of an image, which have been written anew."""
        if len(self._selected_of(image)) <= _MANY:
            self._write_selection_now(image)
        else:  # napari marks each of them
            self._in_a_turn((image, "selection"), lambda: self._write_selection_now(image))

    def _write_selection_now(self, image: str) -> None:
        if image in self._images:
            self._images[image].write_selection(self._selected_of(image))

    def _on_current(self, image: str | None) -> None:
        """Another image is looked at: its points get the keys, and none lies over it."""
        if image is None or self.viewer is None:
            return
        if image not in self._images:
            if self._is_kept(image):
                self.stage.show(image)
            return
        self._bring_forward(image)
        active = self.viewer.layers.selection.active
        layer = self.points_layer(image)
        if layer is not None and self.image_of(active) != image:
            with self._quiet():
                self.viewer.layers.selection.active = layer

    def _bring_forward(self, image: str) -> None:
        known = self._images.get(image)
        if known is None:
            return
        if known.aside:
            known.step_forward()
            if known.outlines is not None:
                known.outlines.visible = self._outlines_wanted
        if not compat.grid(self.viewer).enabled:
            for name, other in self._images.items():
                if name != image and other.overlaps(known):
                    other.step_aside()

    def _on_project(self) -> None:
        """Another project, or none: what lies on the stage is of the old one."""
        if self.viewer is None:
            return
        if self._epoch == self.state.epoch:
            return  # the same images are kept in a file from now on
        self._epoch = self.state.epoch
        for image in list(self._images):
            known = self._images[image]
            if image != self.stage.shown:  # somebody opened it, and it stays as it was opened
                del self._images[image]
                self._drawn.pop(image, None)
                known.remove()
            elif image not in self.state.images and known.source in self.viewer.layers:
                self.viewer.layers.remove(known.source)
        for image in list(self._images):
            self._on_analysis(image)

    def _on_focus(self, key: Key) -> None:
        image, _ = key
        if image in self.state.images:
            self.state.current = image
            if self.source_layer(image) is None:  # its pixels are being read
                self.stage.then_focus(key)
            else:
                self.bring_into_view(key)

    def bring_into_view(self, key: Key) -> None:
        """Put a cluster of an image that has layers into the middle of the view."""
        image, cluster_id = key
        source, table = self.source_layer(image), self.state.table(image)
        row = table[table["cluster_id"] == cluster_id]
        if source is not None and len(row):
            picking.bring_into_view(self.viewer, source, row.iloc[0])

    # ---- appearance
    @property
    def hidden(self) -> frozenset[str]:
        """Labels whose clusters are not drawn."""
        return self._hidden

    @hidden.setter
    def hidden(self, labels: frozenset[str]) -> None:
        if labels != self._hidden:
            self._hidden = frozenset(labels)
            for image in list(self._images):
                self.refresh(image)
            self.hidden_changed.emit()

    def show_outlines(self, wanted: bool) -> None:
        """Switch the outlines of all images on or off."""
        self._outlines_wanted = wanted
        for known in self._images.values():
            if known.outlines is not None and not known.aside:
                known.outlines.visible = wanted

    @property
    def outlines_wanted(self) -> bool:
        return self._outlines_wanted


def _is(a: object, b: object) -> bool:
    return a is b
