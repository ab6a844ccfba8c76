"""The binding viewer ⇄ session: layers are views of the session and report back as edits.

Everything that a layer shows is written by `Binding` from the session, whole, while its own
events are not listened to; everything that a person does to a layer becomes an edit of the
session. A selection is a set of cluster ids; indices into layers exist only here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Points, Vectors
from napari.layers.base import ActionType
from napari.utils.notifications import show_info
from psygnal import Signal

from ..analysis import Analysis, classify_clusters, embed_clusters
from ..detection import Detection, DetectionSettings, measure_at
from ..errors import AtomicityError
from ..micrograph import Micrograph
from ..progress import Progress, Stop, check, report
from ..session import Key, Session, only, unclassified
from . import calibration, compat, marks, tasks
from .labelling import LabelMode
from .models import classifier_of

ROLE = "atomicity_role"
"""Under this key of ``layer.metadata`` a layer made here says what it is."""

CLASS_MAP_COLOURMAPS = {"raw": "bop orange", "LCN": "bop blue"}
MOST_TEXTS_IN_VIEW = 250
# Screen pixels per nm below which texts would lie on top of each other.
_LEAST_ZOOM_FOR_TEXT = 12.0

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


def session_of(viewer: Any) -> Session:
    """The session of a viewer: there is one, made when it is first asked for."""
    return binding_of(viewer).session


@dataclass
class _Image:
    """The layers of one image (weakly held: they are the viewer's)."""

    source: weakref.ref[Image]
    points: weakref.ref[Points] | None = None
    outlines: weakref.ref[Vectors] | None = None
    class_maps: dict[str, weakref.ref[Image]] = field(default_factory=dict)
    # The maps that the layers show, so that a corrected label does not draw them again.
    shown_maps: Any = None
    shown_outlines: Any = None
    stroke_rows: Any = None
    engine: tuple[str, str] | None = None
    # Clusters that were once sent to the model; one that it can't do is not sent for ever.
    tried: set[tuple[int, float, float]] = field(default_factory=set)
    removing: tuple[int, ...] = ()


class Binding:
    """Keeps the layers of a viewer and its session the same.

    Signals: ``labelling_changed(bool)`` when label mode goes on or off;
    ``layers_changed()`` when Image layers come, go, are renamed or calibrated;
    ``hidden_changed()`` when other labels are hidden; ``points_made(layer)`` when an image gets
    its points layer.
    """

    labelling_changed = Signal(bool)
    layers_changed = Signal()
    hidden_changed = Signal()
    points_made = Signal(object)

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(viewer)
        self.session = Session()
        self._images: dict[str, _Image] = {}
        self._hidden: frozenset[str] = frozenset()
        self._outlines_wanted = True
        self._updating = 0
        self._measuring: list[tuple[tasks.Task, str]] = []
        self._n_measured = 0
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.renamed.connect(self._on_renamed)
        viewer.layers.selection.events.active.connect(self._on_active)
        compat.camera(viewer).events.connect(self._on_view)
        viewer.mouse_drag_callbacks.append(_ClickSelects(self))
        self.session.analysis_changed.connect(self._on_analysis)
        self.session.selection_changed.connect(self._on_selection)
        self.session.current_changed.connect(self._on_current)
        self.session.explained_class_changed.connect(self._on_explained_class)
        self.session.focus_requested.connect(self._on_focus)
        self.label_mode = LabelMode(self)

    # ---- layers of images
    @property
    def viewer(self) -> Any:
        """The viewer; None once it is gone."""
        return self._viewer()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """What happens to layers in here is our own doing and is not listened to."""
        self._updating += 1
        try:
            yield
        finally:
            self._updating -= 1

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
        return next((name for name, i in self._images.items() if i.source() is layer), None)

    def ensure_image(self, layer: Image) -> str:
        """Bring an Image layer into the session, as it is now; returns the image's name."""
        name = self.image_of(layer)
        if name is None:
            name = self._free_name(layer.name)
            self._images[name] = _Image(weakref.ref(layer))
            layer.events.scale.connect(self._on_placement)
            layer.events.units.connect(self._on_placement)
            layer.events.translate.connect(self._on_placement)
        micrograph = micrograph_of(layer, name)
        if not _same(micrograph, self._known(name)):
            self.session.add_image(micrograph)
        self.session.current = name
        return name

    def _known(self, name: str) -> Micrograph | None:
        return self.session.micrograph(name) if name in self.session.images else None

    def _free_name(self, name: str) -> str:
        taken, free, i = set(self._images), name, 1
        while free in taken:
            free, i = f"{name} [{i}]", i + 1
        return free

    def source_layer(self, image: str) -> Image | None:
        """The layer that holds the micrograph."""
        known = self._images.get(image)
        return None if known is None else known.source()

    def points_layer(self, image: str) -> Points | None:
        """The layer ``<image> clusters``."""
        known = self._images.get(image)
        return self._present(known.points if known else None)

    def outlines_layer(self, image: str) -> Vectors | None:
        """The layer ``<image> outlines``."""
        known = self._images.get(image)
        return self._present(known.outlines if known else None)

    def class_map_layer(self, image: str, channel: str) -> Image | None:
        """The layer ``<image> class map <channel>``."""
        known = self._images.get(image)
        return self._present(known.class_maps.get(channel) if known else None)

    def _present(self, reference: weakref.ref[Any] | None) -> Any:
        layer = None if reference is None else reference()
        viewer = self.viewer
        return (
            layer if layer is not None and viewer is not None and layer in viewer.layers else None
        )

    def _derived(self, image: str) -> list[Any]:
        known = self._images[image]
        references = [known.points, known.outlines, *known.class_maps.values()]
        return [x for x in map(self._present, references) if x is not None]

    def _put_above(self, layer: Any, image: str, position: int) -> None:
        """Insert a layer among those of its image: maps below outlines below points."""
        layers = self.viewer.layers
        active = layers.selection.active
        source = self.source_layer(image)
        below = [source] + [
            x for x in self._derived(image) if x.metadata[ROLE]["position"] <= position
        ]
        index = max((layers.index(x) for x in below if x in layers), default=-1) + 1
        with self._quietly():
            layers.insert(index, layer)
            if active is not None:
                layers.selection.active = active

    def _options(self, image: str, kind: str, position: int) -> dict[str, Any]:
        source = self.source_layer(image)
        return {
            "name": f"{image} {kind}",
            "metadata": {ROLE: {"image": image, "kind": kind, "position": position}},
            **calibration.placement(source),
        }

    # ---- what the viewer says
    def _on_inserted(self, event: Any) -> None:
        self.layers_changed.emit()

    def _on_renamed(self, event: Any) -> None:
        self.layers_changed.emit()

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        image = self.image_of(layer)
        if image is not None and layer.metadata.get(ROLE) is None:
            tasks.cancel(self.session)
            derived = self._derived(image)
            del self._images[image]
            self.session.remove_image(image)
            for other in derived:
                if other in self.viewer.layers:
                    self.viewer.layers.remove(other)
        self.layers_changed.emit()

    def _on_active(self, event: Any) -> None:
        image = self.image_of(event.value)
        if not self._updating and image in self.session.images:
            self.session.current = image

    def _on_placement(self, event: Any) -> None:
        """An image was moved or calibrated: what lies on it goes with it."""
        image = self.image_of(event.source)
        if image is None:
            return
        before = self._known(image)
        micrograph = micrograph_of(event.source, image)
        if before is None or micrograph.pixel_size_nm != before.pixel_size_nm:
            self.session.add_image(micrograph)
            if self.session.analysis(image) is not None:
                show_info(
                    f"The pixel size of {image} has changed. Press Analyse again: diameters "
                    "and labels still are those of the old one."
                )
        place = calibration.placement(event.source)
        for layer in self._derived(image):
            for name, value in place.items():
                setattr(layer, name, value)
        self.layers_changed.emit()

    # ---- what the session says
    def _on_analysis(self, image: str) -> None:
        analysis = self.session.analysis(image)
        if image not in self._images or self.viewer is None:
            return
        if analysis is None:
            for layer in self._derived(image):
                self.viewer.layers.remove(layer)
            self._images[image].shown_maps = None
            return
        self._show_points(image, analysis)
        self._show_outlines(image, analysis)
        self._show_class_maps(image, analysis)
        self._classify_new(image, analysis)

    def _show_points(self, image: str, analysis: Analysis) -> None:
        layer = self.points_layer(image)
        if layer is None:
            layer = Points(
                np.zeros((0, analysis.micrograph.data.ndim)),
                face_color="transparent",
                border_color="white",
                border_width=0.06,
                features={name: [] for name in marks.FEATURES},
                **self._options(image, "clusters", 3),
            )
            layer.events.data.connect(self._on_points)
            layer.selected_data.events.items_changed.connect(self._on_points_selected)
            self._images[image].points = weakref.ref(layer)
            self._put_above(layer, image, 3)
            with self._quietly():
                self.viewer.layers.selection.active = layer
            self.points_made.emit(layer)
        self._write_points(layer, image, analysis)

    def _write_points(self, layer: Points, image: str, analysis: Analysis) -> None:
        """The one place that writes what the points layer shows: everything, at full length."""
        table, classes = analysis.table, self.session.classes()
        pixel_size_nm = analysis.micrograph.calibrated()
        data = marks.positions(table, layer.ndim)
        sizes = marks.sizes_px(table, pixel_size_nm, classes)
        if len(data) != len(sizes):
            raise ValueError("as many sizes as points are needed")
        wanted = {
            "size": sizes,
            "symbol": marks.symbols(table, classes),
            "border_color": marks.border_colours(table, classes),
            "face_color": marks.face_colours(table, classes),
            "shown": marks.shown(table, self._hidden),
        }
        with self._quietly():
            if layer.data.shape != data.shape or not np.array_equal(layer.data, data):
                layer.selected_data = set()
                layer.data = data
            layer.features = marks.features(table)
            for name, values in wanted.items():
                # napari draws everything anew at each assignment.
                if len(table) and not _equal(getattr(layer, name), values):
                    setattr(layer, name, values)
            self._write_text(layer, image)
            self._write_selection(layer, image)

    def _write_text(self, layer: Points, image: str) -> None:
        """Text for what is in view and no more: napari draws every text of the slice."""
        table = self.session.table(image)
        if len(table) != len(layer.data):
            return
        wanted = self._in_view(layer, table)
        text = marks.texts(table, wanted)
        if not np.array_equal(text, np.asarray(layer.text.values)):
            layer.text = {
                "string": text.tolist(),
                "size": 8,
                "color": "white",
                "anchor": "lower_left",
                "translation": _text_offset(layer),
            }

    def _in_view(self, layer: Points, table: Any) -> np.ndarray:
        """Rows whose text would be seen and could be read."""
        nothing = np.zeros(len(table), bool)
        camera = compat.camera(self.viewer)
        pixel_size_nm = calibration.pixel_size_nm(layer)
        if not len(table) or pixel_size_nm is None:
            return nothing
        scale = np.abs(np.asarray(layer.scale[-2:], float))
        if camera.zoom * scale[0] / pixel_size_nm < _LEAST_ZOOM_FOR_TEXT:
            return nothing
        half = np.array(compat.canvas_size(self.viewer)) / camera.zoom / 2
        centre = np.asarray(camera.center[-2:], float)
        world = table[["y_px", "x_px"]].to_numpy(float) * scale + np.asarray(layer.translate[-2:])
        seen = (np.abs(world - centre) <= half).all(axis=1) & np.asarray(layer.shown, bool)
        if layer.ndim == 3:
            seen &= table["frame"].to_numpy() == self.viewer.dims.current_step[0]
        return seen if seen.sum() <= MOST_TEXTS_IN_VIEW else nothing

    def _on_view(self, event: Any = None) -> None:
        """The camera has moved."""
        for image in self._images:
            layer = self.points_layer(image)
            if layer is not None and layer.visible:
                with self._quietly():
                    self._write_text(layer, image)

    def _write_selection(self, layer: Points, image: str) -> None:
        wanted = {i for name, i in self.session.selection if name == image}
        ids = layer.features["cluster_id"].to_numpy()
        indices = set(np.flatnonzero(np.isin(ids, list(wanted))).tolist())
        if indices != set(layer.selected_data):
            with self._quietly():
                layer.selected_data = indices
                layer.refresh()

    def _show_outlines(self, image: str, analysis: Analysis) -> None:
        known = self._images[image]
        layer = self.outlines_layer(image)
        # A corrected label changes colours only, which is much quicker than all the strokes.
        wanted = (analysis.outlines, self._hidden_of(analysis))
        drawn = known.shown_outlines
        same = drawn is not None and drawn[0] is wanted[0] and drawn[1] == wanted[1]
        if layer is None or not same:
            vectors, known.stroke_rows = marks.outline_vectors(
                analysis, self._hidden, analysis.micrograph.data.ndim
            )
            known.shown_outlines = wanted
        colours = marks.label_colours(analysis.table, self.session.classes())[known.stroke_rows]
        if layer is None:
            layer = Vectors(
                vectors,
                vector_style="line",
                edge_width=_stroke_px(analysis),
                edge_color=colours if len(colours) else "white",
                opacity=0.9,
                visible=self._outlines_wanted,
                **self._options(image, "outlines", 2),
            )
            known.outlines = weakref.ref(layer)
            self._put_above(layer, image, 2)
            return
        if not same:
            layer.data = vectors
        if len(colours) and not np.allclose(layer.edge_color[:, :3], colours):
            layer.edge_color = colours

    def _hidden_of(self, analysis: Analysis) -> frozenset[int]:
        """Ids of the clusters that are not drawn."""
        seen = marks.shown(analysis.table, self._hidden)
        return frozenset(analysis.table.loc[~seen, "cluster_id"])

    # ---- class maps
    def _show_class_maps(self, image: str, analysis: Analysis) -> None:
        """Draw the class maps, in a worker, if others are wanted than those that are shown."""
        label = self.session.explained_class
        wanted = (label, tuple(map(id, analysis.class_maps.values())))
        known = self._images[image]
        if not analysis.class_maps or known.shown_maps == wanted:
            return
        known.shown_maps = wanted

        def show(images: dict[str, np.ndarray]) -> None:
            if image in self._images and self.session.analysis(image) is not None:
                for channel, data in images.items():
                    self._write_class_map(image, channel, data)

        def forget(error: BaseException) -> None:
            known.shown_maps = None

        tasks.start(
            self.session,
            class_map_images,
            analysis,
            label,
            known.engine,
            on_result=show,
            on_error=forget,
            key=f"class maps of {image}",
        )

    def _write_class_map(self, image: str, channel: str, data: np.ndarray) -> None:
        layer = self.class_map_layer(image, channel)
        if layer is not None:
            layer.data = data
            return
        layer = Image(
            data,
            colormap=CLASS_MAP_COLOURMAPS.get(channel, "magma"),
            contrast_limits=(0.0, 1.0),
            blending="additive",
            interpolation2d="linear",
            # What matters little should not hide the image.
            gamma=1.5,
            opacity=0.6,
            visible=channel == "raw",
            **self._options(image, f"class map {channel}", 1),
        )
        self._images[image].class_maps[channel] = weakref.ref(layer)
        self._put_above(layer, image, 1)

    def _on_explained_class(self, label: str | None) -> None:
        for image in list(self._images):
            analysis = self.session.analysis(image)
            if analysis is not None:
                self._show_class_maps(image, analysis)

    # ---- what a person does to points
    def _on_points(self, event: Any) -> None:
        if self._updating:
            return
        layer = event.source
        image = self.image_of(layer)
        if image is None or self.session.analysis(image) is None:
            return
        if event.action == ActionType.REMOVING:
            ids = layer.features["cluster_id"].to_numpy()
            self._images[image].removing = tuple(ids[list(event.data_indices)])
        elif event.action == ActionType.REMOVED:
            ids, self._images[image].removing = self._images[image].removing, ()
            self.session.remove_clusters(image, [int(i) for i in ids if i == i and i > 0])
        elif event.action == ActionType.ADDED:
            self._on_added(layer, image, list(event.data_indices))
        elif event.action == ActionType.CHANGED:
            self._on_moved(layer, image)

    def _on_added(self, layer: Points, image: str, indices: list[int]) -> None:
        """New points have no measurements, and must not look as if they had another's."""
        places = layer.data[indices].copy()
        features = layer.features.copy()
        at = np.arange(len(features))[indices]
        features["cluster_id"] = features["cluster_id"].astype(float)
        features.loc[at, "cluster_id"] = -1
        for name in ("label", "label_predicted", "label_corrected", "prediction_set"):
            features[name] = features[name].astype(object)
            features.loc[at, name] = ""
        pixel_size_nm = self.session.micrograph(image).calibrated()
        looks = {
            "size": marks.default_size_px(pixel_size_nm),
            "symbol": "disc",
            "border_color": (1.0, 1.0, 1.0, 1.0),
            "face_color": (0.0, 0.0, 0.0, 0.0),
        }
        with self._quietly():
            layer.features = features
            for name, value in looks.items():
                values = np.array(getattr(layer, name))
                values[at] = value
                setattr(layer, name, values)
        self._measure(image, places, None)

    def _on_moved(self, layer: Points, image: str) -> None:
        table = self.session.table(image)
        ids = layer.features["cluster_id"].to_numpy()
        rows = pd.Index(table["cluster_id"]).get_indexer(ids)
        was = table[["y_px", "x_px"]].to_numpy(float)[rows]
        far = (np.abs(was - layer.data[:, -2:]) > 1e-6).any(axis=1)
        moved = np.flatnonzero((rows >= 0) & far)
        if len(moved):
            self._measure(image, layer.data[moved].copy(), [int(i) for i in ids[moved]])

    def _measure(self, image: str, places: np.ndarray, ids: list[int] | None) -> None:
        """Measure clusters at new places in a worker; then it is an edit of the session."""
        micrograph = self.session.micrograph(image)
        known = self.session.analysis(image)
        settings = known.parameters.get("detection", {}) if known else {}
        self._n_measured += 1

        def done(found: Detection) -> None:
            if self.session.analysis(image) is None:
                return
            if ids is None:
                new = self.session.add_clusters(image, found.table, found.outlines)
                self.session.select((image, i) for i in new)
            else:
                self.session.move_clusters(
                    image, found.table.assign(cluster_id=ids), found.outlines
                )

        def failed(error: BaseException) -> None:
            self.refresh(image)

        task = tasks.start(
            self.session,
            measure_places,
            micrograph,
            places,
            settings,
            message="Measuring",
            on_result=done,
            on_error=failed,
            key=f"measure {self._n_measured}",
        )
        self._measuring = [(t, name) for t, name in self._measuring if t.running]
        self._measuring.append((task, image))

    def _classify_new(self, image: str, analysis: Analysis) -> None:
        """Clusters that were added or moved by hand are shown to the model that did the others."""
        known = self._images[image]
        table = analysis.table.set_index("cluster_id").loc[unclassified(analysis)]
        places = zip(table.index, table["y_px"], table["x_px"], strict=True)
        new = [place[0] for place in places if place not in known.tried]
        if not new:
            return

        def done(result: Analysis) -> None:
            for row in result.table.itertuples():
                known.tried.add((row.cluster_id, row.y_px, row.x_px))
            self.session.fill(result)

        tasks.start(
            self.session,
            classify_some,
            only(analysis, new),
            known.engine,
            message="Classifying what is new",
            on_result=done,
            key=f"classify new of {image}",
        )

    # ---- undo
    def undo(self) -> None:
        """Take back what was done last; that may be a point that is still being measured."""
        while self._measuring:
            task, image = self._measuring.pop()
            if task.running:
                task.cancel()
                self.refresh(image)
                return
        edit = self.session.undo()
        self.viewer.status = f"Undone: {edit.description}" if edit else "There is nothing to undo"

    def redo(self) -> None:
        """Do again what was taken back."""
        edit = self.session.redo()
        self.viewer.status = f"Done again: {edit.description}" if edit else "Nothing to redo"

    # ---- selection
    def _on_points_selected(self, *_: Any) -> None:
        if self._updating or self.viewer is None:
            return
        keys: set[Key] = set()
        for image in self._images:
            layer = self.points_layer(image)
            if layer is not None and len(layer.selected_data):
                ids = layer.features["cluster_id"].to_numpy()
                chosen = [i for i in layer.selected_data if i < len(ids)]
                keys.update((image, int(i)) for i in ids[chosen] if i == i and i > 0)
        self.session.select(keys)

    def select_at(self, world: Any, extend: bool = False) -> None:
        """Select the cluster at a place of the scene; none if there is none."""
        found = self._cluster_at(world)
        if found is not None:
            others = self.session.selection if extend else frozenset()
            self.session.select(others ^ {found} if extend else {found})
        elif not extend:
            self.session.select(())

    def _cluster_at(self, world: Any) -> Key | None:
        current = self.session.current
        images = sorted(self._images, key=lambda name: name != current)
        for image in images:
            layer = self.points_layer(image)
            if layer is None or not layer.visible or not len(layer.data):
                continue
            place = np.asarray(layer.world_to_data(world), float)
            near = np.linalg.norm(layer.data[:, -2:] - place[-2:], axis=1)
            near[~np.asarray(layer.shown, bool)] = np.inf
            if layer.ndim == 3:
                near[np.round(layer.data[:, 0]) != np.round(place[0])] = np.inf
            i = int(np.argmin(near / np.asarray(layer.size)))
            cluster_id = layer.features["cluster_id"].iloc[i]
            if near[i] <= layer.size[i] / 2 and cluster_id > 0:
                return image, int(cluster_id)
        return None

    def _on_selection(self, keys: frozenset[Key]) -> None:
        if self.viewer is None:
            return
        for image in self._images:
            layer = self.points_layer(image)
            if layer is not None:
                self._write_selection(layer, image)

    def _on_current(self, image: str | None) -> None:
        """Another image is looked at: its points get the keys."""
        if image is None or self.viewer is None:
            return
        active = self.viewer.layers.selection.active
        layer = self.points_layer(image)
        if layer is not None and self.image_of(active) != image:
            with self._quietly():
                self.viewer.layers.selection.active = layer

    def _on_focus(self, key: Key) -> None:
        """Bring a cluster into the middle of the view, near enough to be looked at."""
        image, cluster_id = key
        source = self.source_layer(image)
        table = self.session.table(image)
        row = table[table["cluster_id"] == cluster_id]
        if source is None or row.empty:
            return
        place = row.iloc[0]
        point = [place["y_px"], place["x_px"]]
        if source.ndim == 3:
            point = [place["frame"], *point]
            self.viewer.dims.set_point(0, source.data_to_world(point)[0])
        self.session.current = image
        camera = compat.camera(self.viewer)
        camera.center = (*camera.center[:-2], *source.data_to_world(point)[-2:])
        height = min(compat.canvas_size(self.viewer))
        pixel_size_nm = calibration.pixel_size_nm(source)
        if pixel_size_nm is not None:
            world_per_nm = abs(float(source.scale[-1])) / pixel_size_nm
            camera.zoom = max(camera.zoom, height / (8.0 * world_per_nm))

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

    def refresh(self, image: str) -> None:
        """Write the layers of an image again from the session."""
        analysis = self.session.analysis(image)
        if analysis is not None and image in self._images:
            self._show_points(image, analysis)
            self._show_outlines(image, analysis)

    def show_outlines(self, wanted: bool) -> None:
        """Switch the outlines of all images on or off."""
        self._outlines_wanted = wanted
        for image in self._images:
            layer = self.outlines_layer(image)
            if layer is not None:
                layer.visible = wanted

    @property
    def outlines_wanted(self) -> bool:
        return self._outlines_wanted

    def set_engine(self, image: str, model: str, device: str) -> None:
        """The model and device that clusters added by hand will be shown to."""
        self._images[image].engine = (model, device)
        self._images[image].tried.clear()


class _ClickSelects:
    """A click on a cluster selects it, whichever layer is active."""

    def __init__(self, binding: Binding) -> None:
        self._binding = weakref.ref(binding)

    def __call__(self, viewer: Any, event: Any) -> Iterator[None]:
        start = np.asarray(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        binding = self._binding()
        moved = np.linalg.norm(np.asarray(event.pos, float) - start) > 4
        if binding is None or moved or event.button != 1:
            return
        active = viewer.layers.selection.active
        # In any other mode a click means something to the active layer.
        if getattr(active, "mode", "pan_zoom") == "pan_zoom":
            binding.select_at(event.position, extend="Shift" in event.modifiers)


def is_micrograph(layer: Any) -> bool:
    """Whether a layer may hold a micrograph: grey, real, two or three axes, not made by us."""
    return (
        isinstance(layer, Image)
        and not layer.rgb
        and layer.ndim in (2, 3)
        and ROLE not in layer.metadata
        and not np.issubdtype(layer.dtype, np.complexfloating)
    )


def micrograph_of(layer: Image, name: str) -> Micrograph:
    """The micrograph that an Image layer holds.

    Raises
    ------
    UnsuitableImageError
        If it holds none.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    known = layer.metadata.get("atomicity", {})
    path = known.get("path") or layer.source.path
    return Micrograph(
        np.asarray(data),
        calibration.pixel_size_nm(layer),
        name=name,
        path=None if path is None else Path(path),
        sha256=known.get("sha256"),
        metadata=known,
    )


def _same(a: Micrograph, b: Micrograph | None) -> bool:
    return (
        b is not None
        and a.pixel_size_nm == b.pixel_size_nm
        and a.data.shape == b.data.shape
        and np.array_equal(a.data, b.data, equal_nan=True)
    )


def measure_places(
    micrograph: Micrograph,
    places: np.ndarray,
    settings: dict[str, Any],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    """Measure the clusters at some places, (N, 2) or (N, 3) in pixels."""
    chosen = DetectionSettings(**settings)
    found = []
    for i, place in enumerate(places):
        report(progress, i, len(places), "Measuring")
        check(stop)
        frame = round(float(place[0])) if len(place) == 3 else 0
        found.append(measure_at(micrograph, frame, float(place[-2]), float(place[-1]), chosen))
    return Detection(
        pd.concat([f.table for f in found], ignore_index=True),
        [o for f in found for o in f.outlines],
    )


def classify_some(
    analysis: Analysis,
    engine: tuple[str, str] | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify a few clusters and, if that works, place them in the map."""
    tasks.cap_torch_threads()
    classifier = _classifier(analysis, engine)
    # The scale is the image's: a few clusters do not tell it.
    scale = analysis.parameters.get("intensity_per_atom")
    analysis = classify_clusters(analysis, classifier, progress=progress, stop=stop, scale=scale)
    try:
        return embed_clusters(analysis, classifier, stop)
    except AtomicityError:
        return analysis


def _classifier(analysis: Analysis, engine: tuple[str, str] | None) -> Any:
    """The model that was chosen in a dock, or else the one that made the analysis."""
    from ..model.classifier import load_classifier

    return classifier_of(analysis) if engine is None else load_classifier(*engine)


def class_map_images(
    analysis: Analysis,
    label: str | None,
    engine: tuple[str, str] | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, np.ndarray]:
    """Channel → one image of all class maps, of the predicted classes or of a chosen one."""
    maps = analysis.class_maps
    if label is not None:
        maps = _classifier(analysis, engine).class_maps(analysis.patches, label)
    out = {}
    for channel, values in maps.items():
        check(stop)
        out[channel] = marks.class_map_image(analysis, values)
    return out


def _equal(shown: Any, wanted: np.ndarray) -> bool:
    if wanted.dtype == object:
        return [str(s) for s in shown] == wanted.tolist()
    return bool(np.allclose(shown, wanted))


def _stroke_px(analysis: Analysis) -> float:
    return 0.03 / analysis.micrograph.calibrated()


def _text_offset(layer: Points) -> np.ndarray:
    offset = np.zeros(layer.ndim)
    if len(layer.size):
        offset[-1] = 0.5 * float(np.median(layer.size))
    return offset
