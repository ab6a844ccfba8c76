"""The binding of a viewer and the state of its window: layers show the state and edit it.

The parts of the binding share a `Canvas`; each shows or edits one subject. What a layer shows is
written from the state, whole, while its events are blocked. What a person does to a layer becomes
an edit of the state.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from qtpy.QtCore import QTimer

from ...core.from_dict import dataclass_from_dict
from ...core.tables.cluster_table import Key
from ...models.analysis import Analysis
from ...state.atom_store import AtomStore
from ...state.window_state import WindowState, has_unstored_edits
from ...statistics.points.loading_settings import LoadingSettings
from .. import tasks
from ..controls.questions import keep_focus_when_messages_close, show_info
from ..controls.refresher import ChangeSignal, Refresher, StepRunner
from ..controls.settings import ANNOTATOR, settings
from .atoms.atoms import AtomView
from .canvas import Canvas
from .clusters.clusters import ClusterDisplay
from .clusters.edit_commands import EditCommands
from .clusters.labelling import LabelMode
from .clusters.manual_editing import ManualEditing
from .clusters.regions import RegionEditor
from .current_image import CurrentImage
from .layers import compat, picking
from .layers.layer_group import ROLE, is_removing_layers
from .layers.micrographs import average_of, is_micrograph
from .layers.points import ATOMS, CLUSTERS
from .models import model_folder
from .overlays import Overlays
from .projects import Projects, may_remove_image
from .reference import Reference
from .tracks import TrackView

# ---- the view of a window as a project stores it: image, selection, camera, visible layers

_MAX_SELECTED = 5000


@lru_cache(maxsize=1)  # the view is looked at every other second
def _first_keys(keys: frozenset[Key]) -> tuple[Key, ...]:
    """Return the keys that are stored, in order."""
    return tuple(sorted(keys)[:_MAX_SELECTED])


class ViewSettings:
    """Read and restore the view of a window."""

    def __init__(
        self,
        canvas: Canvas,
        clusters: ClusterDisplay,
        overlays: Overlays,
        current_image: CurrentImage,
        label_mode: LabelMode,
    ) -> None:
        self._canvas = canvas
        self._clusters = clusters
        self._overlays = overlays
        self._current_image = current_image
        self._label_mode = label_mode

    def get(self) -> dict[str, Any] | None:
        """Return the view as JSON values; None if no image is displayed."""
        canvas, state = self._canvas, self._canvas.state
        if canvas.viewer is None or state.current is None:
            return None
        place = canvas.view.moved_place
        moved = {} if place is None else {"centre": list(place[:-1]), "zoom": place[-1]}
        source = canvas.source_layer(state.current)
        return {
            "image": state.current,
            "selection": list(map(list, _first_keys(state.selection))),
            **moved,
            "frame": None if source is None else picking.shown_frame(canvas.viewer, source),
            "hidden": sorted(self._clusters.hidden),
            "outlines": self._overlays.outlines_visible,
            "visible": {kind: bool(layer.visible) for kind, layer in canvas.displayed_layers()},
            "label_mode": self._label_mode.on,
            "reference": state.sessions.reference_of(state.sessions.samples()) or "",
        }

    def restore(self, view: dict[str, Any]) -> None:
        """Restore a view; parts that no longer exist are left out."""
        state = self._canvas.state
        if not state.images:
            return
        state.sessions.reference = str(view.get("reference", ""))
        image = view.get("image")
        if image not in state.images:
            image, view = state.images[0], {}
        if "centre" in view:
            self._current_image.set_view(image, (*view["centre"], view["zoom"]))
        if view.get("frame") is not None:
            self._current_image.set_frame(image, int(view["frame"]))
        if "visible" in view:
            # The image itself is always shown: an empty canvas tells nothing.
            visible = {k: on for k, on in view["visible"].items() if k != "image"}
            self._current_image.set_visible(visible)
        self._clusters.hidden = frozenset(view.get("hidden", ()))
        self._overlays.outlines_visible = view.get("outlines", True)
        state.current = None
        state.current = image
        # To a blind annotator, a selection by another may tell of one class.
        stored = () if state.blind else view.get("selection", ())
        selected = [(str(image), int(i)) for image, i in stored]
        known = {image: state.columns(image) for image in {image for image, _ in selected}}
        ids = {n: set(c["cluster_id"].tolist()) for n, c in known.items() if c is not None}
        state.select((image, i) for image, i in selected if i in ids.get(image, ()))
        if any(state.analysis(name) is not None for name in state.images):
            self._label_mode.on = bool(view.get("label_mode", True))


def _set_loading(atoms: AtomStore, stated: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Take metal and support of a project, which may come from others; by default none."""
    atoms.loading = dataclass_from_dict(LoadingSettings, dict(stated))


DOCKS_WAIT_MS = 1000
"""How long the docks wait at most for the first image of a project."""

_bindings: weakref.WeakKeyDictionary[Any, Binding] = weakref.WeakKeyDictionary()


def unwrapped(viewer: Any) -> Any:
    """Return the viewer itself: napari gives widgets a new proxy each time."""
    return getattr(viewer, "__wrapped__", viewer)


def binding_of(viewer: Any) -> Binding:
    """Return the binding of a viewer, which the first call makes."""
    viewer = unwrapped(viewer)
    if viewer not in _bindings:
        _bindings[viewer] = Binding(viewer)
    return _bindings[viewer]


def binding_of_layer(metadata: Any) -> Binding | None:
    """Return the binding whose viewer contains the layer with this metadata object."""
    for viewer, binding in _bindings.items():
        if any(layer.metadata is metadata for layer in viewer.layers):
            return binding
    return None


def state_of(viewer: Any) -> WindowState:
    """Return the window state of a viewer, which the first call makes."""
    return binding_of(viewer).state


class Binding:
    """Keep the layers of a viewer and the state of its window the same.

    Docks and shortcuts use its parts: `canvas` (layers of images), `clusters` and `overlays` (what
    is drawn), `edits` (what buttons and keys do), `atoms`, `tracks`, `label_mode`, `reference`,
    `projects`.
    """

    def __init__(self, viewer: Any) -> None:
        compat.import_soon()
        keep_focus_when_messages_close()
        self.state = state = WindowState()
        state.annotator = str(settings().value(ANNOTATOR) or "")
        self.canvas = canvas = Canvas(viewer, state)
        self._runner = StepRunner()
        state.steps.run_chunked = self._runner.start
        self._epoch = state.epoch
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.renamed.connect(self._on_layers)
        viewer.layers.selection.events.active.connect(self._on_active)
        viewer.mouse_drag_callbacks.append(picking.ClickSelects(self.select_at))
        # Before its parts: they must find the layers of the previous project removed.
        state.project_changed.connect(self._on_project)
        state.focus_requested.connect(self._on_focus)
        self.manual_editing = ManualEditing(state)
        model_folder.changed.connect(self.manual_editing.on_new_model)
        self.overlays = Overlays(canvas, self.manual_editing.engine)
        self._regions = RegionEditor(canvas)
        self.clusters = ClusterDisplay(canvas, self.overlays, self._regions, self.manual_editing)
        self._runner.refused.connect(self.clusters.refresh_all)
        self.edits = EditCommands(canvas, self.clusters, self.manual_editing, self._regions)
        self.current_image = CurrentImage(canvas, self.overlays)
        self.current_image.layers_ready.connect(self._on_layers_ready)
        self.label_mode = LabelMode(canvas, self.edits)
        self.projects = Projects(state, getattr(viewer.window, "_qt_window", None))
        self.current_image.layers_ready.connect(self.projects.read_repaired)
        self._view_settings = ViewSettings(
            canvas, self.clusters, self.overlays, self.current_image, self.label_mode
        )
        self.reference = reference = Reference()
        self.projects.remember("reference", reference.to_dict, reference.restore, reference.forget)
        loading = partial(_set_loading, state.atoms)
        self.projects.remember("loading", lambda: asdict(state.atoms.loading), loading, loading)
        self.projects.remember("view", self._view_settings.get, self._view_settings.restore)
        for chosen in self.projects.models.choices:
            self.projects.remember(chosen.setting, chosen.get, chosen.restore, chosen.forget)
        self.atoms = AtomView(canvas, self.current_image, self.label_mode, self.edits)
        self.tracks = TrackView(canvas)
        self.prefers_atoms: bool | None = None  # see `prefer_atoms`
        self.refresher = Refresher(self._signals())
        """Refreshes the docks that are visible."""
        state.status_changed.connect(self.refresher.show_status)

    def _signals(self) -> dict[ChangeSignal, Any]:
        """Return the signals that a widget can follow."""
        state, canvas = self.state, self.canvas
        return {
            "changed": state.changed,
            "images_changed": state.images_changed,
            "current_changed": state.current_changed,
            "selection_changed": state.selection_changed,
            "project_changed": state.project_changed,
            "annotator_changed": state.annotator_changed,
            "class_maps_changed": canvas.class_maps_changed,
            "map_options_changed": state.map_options_changed,
            "saved_changed": state.saved_changed,
            "atoms_changed": state.atoms.changed,
            "atom_selection_changed": state.atoms.selection_changed,
            "hidden_changed": self.clusters.hidden_changed,
            "outlines_changed": self.overlays.outlines_changed,
            "label_mode_changed": self.label_mode.changed,
            "colouring_changed": self.atoms.colouring_changed,
            "marking_changed": self.atoms.marking_changed,
            "magnifier_changed": self.atoms.magnifier_changed,
            "support_shown": self.atoms.support_shown,
            "review_changed": self.label_mode.review_changed,
            "review_moved": self.label_mode.review_moved,
            "reference_changed": self.reference.left_out_changed,
        }

    @property
    def viewer(self) -> Any:
        """The viewer; None once it is closed and deleted."""
        return self.canvas.viewer

    @property
    def settled(self) -> bool:
        """Whether the window is up to date: nothing runs or waits."""
        shown = (self.clusters, self.canvas.turns, self.current_image, self.overlays)
        parts: tuple[Any, ...] = (*shown, self.state, self.tracks, self.refresher)
        waiting = any(part.busy for part in parts)
        return not (waiting or tasks.running(self.state) or is_removing_layers(self.viewer))

    # ---- edits
    def accepts(self, analysis: Analysis) -> bool:
        """Return whether a result belongs to an image as it is now; if not, show why."""
        image = analysis.micrograph.name
        now = self.canvas.micrograph(image)
        if now is None:
            return False
        if now.pixel_size_nm not in (None, analysis.micrograph.pixel_size_nm):
            show_info(f"The pixel size of {image} has changed. Start the analysis again.")
            return False
        return True

    @property
    def is_in_use(self) -> bool:
        """Whether a person marks, draws, adds or reviews, so that no other image may be shown."""
        mode = getattr(self.canvas.active_layer, "mode", "pan_zoom")
        working = mode not in ("pan_zoom", "select", "transform")
        return working or self.atoms.marking or self.label_mode.review is not None

    def stop_drawing(self) -> None:
        """Stop to draw regions, support or vacuum, and to mark atoms; hide the magnifier."""
        self.stop_polygons()
        self.atoms.marking = self.atoms.magnifier = False

    def stop_polygons(self) -> None:
        """Stop to draw regions, support or vacuum; what is drawn half is discarded."""
        self._regions.stop()
        self.atoms.stop_drawing()

    # ---- selection and display
    def select_at(self, world: Any, extend: bool = False) -> None:
        """Select the cluster or atom at a place of the scene; none if there is none."""
        if self.atoms.marking:  # a click adds an atom
            return
        if self.atoms.in_front and self.atoms.select_at(world, extend):
            return
        found = self.clusters.select_at(world, extend) or self.atoms.select_at(world, extend)
        if not found and not extend:
            self.state.select(())

    def prefer_atoms(self, on: bool) -> None:
        """Choose whether keys and mouse are for atoms, or for clusters, where an image has both."""
        self.prefers_atoms = on
        self._activate_preferred()

    def _activate_preferred(self) -> None:
        """Activate the preferred points of the current image if the others are active."""
        canvas, kinds = self.canvas, (CLUSTERS, ATOMS)
        if self.prefers_atoms is None or self.atoms.marking:
            return
        wanted, other = kinds if not self.prefers_atoms else reversed(kinds)
        layer, active = canvas.layer(self.state.current, wanted.name), canvas.active_layer
        is_other = active is not None and active is canvas.layer(self.state.current, other.name)
        if is_other and layer is not None and layer.visible and len(layer.data):
            canvas.activate(layer)

    # ---- events of viewer and state
    def _on_layers(self, event: Any) -> None:
        self.canvas.layers_changed.emit()

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        self.canvas.calibrate_from_file(layer)
        if is_micrograph(layer) and layer.source.path is not None:
            QTimer.singleShot(0, partial(self.canvas.fit_opened, layer))
        self.canvas.layers_changed.emit()

    def _on_removed(self, event: Any) -> None:
        layer, canvas = event.value, self.canvas
        image, role = canvas.image_of(layer), layer.metadata.get(ROLE)
        if role is not None and role["kind"] == "regions" and not canvas.is_writing:
            QTimer.singleShot(0, partial(self._regions.clear_if_deleted, role["image"]))
        elif role is not None and role["kind"] == "clusters" and not canvas.is_writing:
            QTimer.singleShot(0, partial(self._show_clusters_again, role["image"]))
        if image is not None and role is None:
            if has_unstored_edits(self.state, image):
                # napari is still removing the layer
                QTimer.singleShot(0, partial(self._confirm_removal, image, layer, event.index))
            else:
                self._remove_image(image)
        canvas.layers_changed.emit()

    def _show_clusters_again(self, image: str) -> None:
        """Make the layer of the clusters of an image again if a person has deleted it."""
        viewer = self.viewer
        if viewer is None or image not in self.canvas.layers or is_removing_layers(viewer):
            return
        if self.canvas.source_layer(image) not in viewer.layers:
            return  # the image is being removed
        if self.state.analysis(image) is not None and self.canvas.layer(image, "clusters") is None:
            self.clusters.write(image)
            show_info("The clusters belong to the image, so their layer is back. You can hide it.")

    def _confirm_removal(self, image: str, layer: Any, index: int) -> None:
        """Remove an image whose edits are saved nowhere, or put its layer back."""
        viewer = self.viewer
        if viewer is None or image not in self.canvas.layers:
            return  # the viewer was closed
        if not compat.is_shown(viewer) or may_remove_image(image):
            self._remove_image(image)
        else:
            viewer.layers.insert(index, layer)
            self.clusters.refresh(image)  # their layers were perhaps deleted with it

    def _remove_image(self, image: str) -> None:
        """Remove an image from the window, with its layers; a project keeps it."""
        tasks.cancel_about(self.state, image)
        known = self.canvas.detach(image)
        if self.canvas.is_in_project(image):
            if self.state.current == image:  # not if another one takes its place
                self.state.current = None
        else:
            self.manual_editing.forget(image)
            self.state.remove_image(image)
        known.remove()

    def _on_active(self, event: Any) -> None:
        canvas = self.canvas
        if canvas.is_writing:
            return
        layer, image = event.value, canvas.image_of(event.value)
        if image in self.state.images:
            self.state.choose(image)
        if layer is not None and is_micrograph(layer):
            # What is on the canvas is no image of the state. A review says where its cluster is.
            if image is None and layer.visible and self.label_mode.review is None:
                self.state.current = None
            canvas.image_activated.emit(layer)

    def _on_layers_ready(self, image: str) -> None:
        self.clusters.show(image)
        self.atoms.on_layers_created(image)
        self.tracks.on_layers_created(image)
        self._activate_preferred()
        self.canvas.layers_changed.emit()
        self.refresher.resume()

    def _on_project(self) -> None:
        """Remove the layers and the message of the previous project."""
        canvas, viewer = self.canvas, self.viewer
        # In the same epoch the images were only saved in a new project.
        if viewer is None or self._epoch == self.state.epoch:
            return
        self._epoch = self.state.epoch
        canvas.show_message("")  # what it said is of other images, and may promise to undo
        if self.state.images:  # the image is displayed before the docks
            self.refresher.postpone(DOCKS_WAIT_MS)
        by_hand = canvas.layers.keys() - {self.current_image.displayed}
        for image, known in list(canvas.layers.items()):
            if image in by_hand:  # the micrograph stays
                canvas.detach(image).remove()
                movie = average_of(known.source)
                if image not in self.state.images and movie and movie not in by_hand:
                    viewer.layers.remove(known.source)  # it averages a movie of that project
            elif image not in self.state.images and known.source in viewer.layers:
                viewer.layers.remove(known.source)
        for image in list(canvas.layers):
            self.clusters.show(image)
        self.manual_editing.classify_opened()
        beside = [layer for layer in canvas.image_layers() if canvas.image_of(layer) is None]
        if beside and self.state.project is None and not any(x.visible for x in beside):
            self.current_image.uncover(beside[-1])  # the project covered it

    def _on_focus(self, key: Key) -> None:
        image, cluster_id = key
        if image not in self.state.images:
            return
        table = self.state.table(image)
        row = table[table["cluster_id"] == cluster_id]
        if len(row):
            self.current_image.bring_into_view(image, row.iloc[0])
        else:
            self.state.current = image
