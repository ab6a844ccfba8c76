"""The layers of one image: written whole from its analysis, while nobody listens to them.

Five kinds lie above the micrograph, from below: class maps, excluded regions, outlines, points, and
texts. The texts have a layer of their own because napari lays out every text of a layer at each
change of it, also the empty ones: thousands of points would make every click wait.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Layer, Points, Shapes, Vectors
from qtpy.QtCore import QTimer

from ...models.analysis import Analysis
from . import calibration, compat
from . import point_style as marks

ROLE = "atomicity_role"
"""Under this key of ``layer.metadata`` a layer made here says what it is."""

CLASS_MAP_COLOURMAPS = {"raw": "bop orange", "LCN": "bop blue"}
MAX_TEXTS_IN_VIEW = 250
# Screen pixels per nm below which texts would lie on top of each other.
_MIN_ZOOM_FOR_TEXT = 12.0
_STROKE_NM = 0.03
_BORDER_NM = 0.07
# napari's own highlight is a thin line of one colour, which may be that of the mark.
_SELECTED_NM = 0.16
_NO_STROKES = np.zeros(0, int), np.zeros(0, int)
_CLASS_MAP, _REGIONS, _OUTLINES, _POINTS, _TEXTS = 1, 2, 3, 4, 5


class EventBlocker:
    """While the block runs, what happens to layers is our own doing and is not listened to."""

    def __init__(self) -> None:
        self._depth = 0

    def __bool__(self) -> bool:
        return self._depth > 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


class ImageLayers:
    """The layers that belong to one micrograph; weakly held: they are the viewer's.

    Parameters
    ----------
    image
        Name of the image.
    source
        The layer with the micrograph.
    viewer
        napari's.
    quiet
        Entered while layers are written.
    on_points
        Called with the points layer once it is made.
    """

    def __init__(
        self,
        image: str,
        source: Image,
        viewer: Any,
        quiet: EventBlocker,
        on_points: Callable[[Points], object],
    ) -> None:
        self.image = image
        self._viewer = weakref.ref(viewer)
        self._source = weakref.ref(source)
        self.quiet = quiet
        self._on_points = on_points
        self._layers: dict[str, weakref.ref[Any]] = {}
        self._strokes = _NO_STROKES
        self._undrawn = False  # strokes were written and wait for their colours
        self._texts: tuple[Any, ...] = ()
        # What was visible when another image came to lie in front; None: it is this one.
        self._aside: list[weakref.ref[Layer]] | None = None

    # ---- which there are
    @property
    def source(self) -> Image | None:
        """The layer with the micrograph."""
        return self._source()

    @property
    def points(self) -> Points | None:
        """The layer ``<image> clusters``."""
        return self.present("clusters")

    @property
    def outlines(self) -> Vectors | None:
        """The layer ``<image> outlines``."""
        return self.present("outlines")

    @property
    def texts(self) -> Points | None:
        """The layer ``<image> texts``."""
        return self.present("texts")

    def class_map(self, channel: str) -> Image | None:
        """The layer ``<image> class map <channel>``."""
        return self.present(f"class map {channel}")

    def derived(self) -> list[Layer]:
        """All that were made here and are still in the viewer."""
        return [x for x in map(self.present, self._layers) if x is not None]

    def present(self, kind: str) -> Any:
        """The layer of this kind, if it was made and still is in the viewer."""
        reference, viewer = self._layers.get(kind), self._viewer()
        layer = None if reference is None else reference()
        there = layer is not None and viewer is not None and layer in viewer.layers
        return layer if there else None

    # ---- coming and going
    def remove(self, keep: Collection[str] = ()) -> None:
        """Take all but the micrograph out of the viewer, each in a turn of its own.

        Layers of the kinds to ``keep`` stay.

        napari takes 60 ms for each. Besides, it may be removing the selection in this turn, and
        must find each of it still there.
        """
        gone = {kind: self.present(kind) for kind in self._layers if kind not in keep}
        there = [layer for layer in gone.values() if layer is not None]
        # From above: drawing points that are left alone, software renderers of OpenGL crash.
        there.sort(key=lambda layer: layer.metadata[ROLE]["position"], reverse=True)
        leaving = [weakref.ref(layer) for layer in there]
        for kind in gone:
            del self._layers[kind]
        if leaving:
            viewer = self._viewer()
            _LEAVING[viewer] = _LEAVING.get(viewer, 0) + 1
            QTimer.singleShot(0, partial(_remove_next, self._viewer, leaving))

    def overlaps(self, other: ImageLayers) -> bool:
        """Whether the two micrographs lie over each other in the scene."""
        if self.source is None or other.source is None:
            return False
        low, high = self.source.extent.world[:, -2:]
        other_low, other_high = other.source.extent.world[:, -2:]
        return bool((low < other_high).all() and (other_low < high).all())

    @property
    def aside(self) -> bool:
        """Whether all is hidden because another image is looked at."""
        return self._aside is not None

    def step_aside(self) -> None:
        """Hide everything until `step_forward`."""
        if self._aside is None:
            shown = [x for x in (self.source, *self.derived()) if x is not None and x.visible]
            self._aside = [weakref.ref(x) for x in shown]
            for layer in shown:
                layer.visible = False

    def step_forward(self) -> None:
        """Show again what `step_aside` has hidden."""
        aside, self._aside = self._aside, None
        for reference in aside or ():
            layer = reference()
            if layer is not None:
                layer.visible = True

    def show_another(self, image: str, data: np.ndarray, options: dict[str, Any]) -> None:
        """Give all layers to another image, whose data have as many axes: new ones take longer.

        Parameters
        ----------
        image
            Its name.
        data, options
            Pixels and what else napari is told of an Image layer (`reader.layer_data`).
        """
        source = self.source
        with self.quiet():
            self.clear()
            self.image = image
            source.data = data
            source.name = options["name"]
            source.metadata = {**options["metadata"]}
            calibration.place(source, options)
            source.contrast_limits_range = _range_around(options["contrast_limits"])
            source.contrast_limits = options["contrast_limits"]
            for layer in self.derived():
                role = {**layer.metadata[ROLE], "image": image}
                layer.metadata = {**layer.metadata, ROLE: role}
                layer.name = f"{image} {role['kind']}"
            self.follow_source()

    def clear_class_maps(self) -> None:
        """Empty the class maps; the layers stay."""
        with self.quiet():
            for layer in self.derived():
                if layer.metadata[ROLE]["kind"].startswith("class map"):
                    layer.data = np.zeros((2,) * layer.ndim, np.float32)

    def clear(self) -> None:
        """Empty what was made from an analysis; the layers stay, for the next image."""
        with self.quiet():
            for layer in self.derived():
                kind = layer.metadata[ROLE]["kind"]
                if kind == "texts":
                    layer.text = {"string": {"constant": ""}}
                    layer.data = np.zeros((0, layer.ndim))
                elif kind in ("clusters", "atoms"):
                    layer.selected_data = set()
                    layer.data = np.zeros((0, layer.ndim))
                elif kind == "outlines":
                    layer.data = np.zeros((0, 2, layer.ndim))
                elif kind in ("regions", "support"):
                    layer.selected_data = set()
                    layer.data = []
                elif kind == "tracks":  # which napari can't empty
                    self._viewer().layers.remove(layer)
                elif kind == "vacuum":
                    layer.data = np.zeros((2,) * layer.ndim, np.uint8)
            self.clear_class_maps()  # the next ones come from a worker, a moment later
            self._texts, self._strokes = (), _NO_STROKES

    def follow_source(self) -> None:
        """The micrograph was moved or calibrated: what lies on it goes with it."""
        place = calibration.placement(self.source)
        for layer in self.derived():
            # napari computes the extent of all layers anew at each assignment.
            now = calibration.placement(layer)
            for name, value in place.items():
                if not np.array_equal(now[name], value):
                    setattr(layer, name, value)

    def options(self, kind: str, position: int) -> dict[str, Any]:
        """What a new layer of this kind is told: name, role, place in the scene."""
        role = {"image": self.image, "kind": kind, "position": position}
        return {
            "name": f"{self.image} {kind}",
            "metadata": {ROLE: role},
            **calibration.placement(self.source),
        }

    def insert(self, layer: Layer) -> None:
        """Put a new layer among those of its image; the active layer stays what it is."""
        layers = self._viewer().layers
        active = layers.selection.active
        role = layer.metadata[ROLE]
        lower = [x for x in self.derived() if x.metadata[ROLE]["position"] <= role["position"]]
        below = [self.source, *lower]
        index = max((layers.index(x) for x in below if x in layers), default=-1) + 1
        self._layers[role["kind"]] = weakref.ref(layer)
        if self._aside is not None and layer.visible:
            layer.visible = False
            self._aside.append(weakref.ref(layer))
        # One of the same image, if it was closed a moment ago, may still be on its way out.
        for before in [x for x in layers if x.name == layer.name and ROLE in x.metadata]:
            layers.remove(before)
            index = min(index, len(layers))
        with self.quiet():
            layers.insert(index, layer)
            if active is not None:
                layers.selection.active = active

    # ---- points
    def write_points(self, analysis: Analysis, classes: list[str], hidden: frozenset[str]) -> bool:
        """The one place that writes what the points layer shows: everything, at full length.

        Points that are others than before are not selected; whether they are is returned.
        """
        layer = self.points or self._new_points(analysis)
        table, pixel_size_nm = analysis.table, analysis.micrograph.calibrated()
        data = marks.positions(table, layer.ndim)
        wanted = {
            **marks.looks(table, pixel_size_nm, classes),
            "shown": marks.shown(table, hidden),
        }
        if any(len(values) != len(data) for values in wanted.values()):
            raise ValueError("a value per point is needed")
        moved = not np.array_equal(layer.data, data)
        with self.quiet():
            if moved:
                wanted["border_width"] = np.full(len(data), _BORDER_NM / pixel_size_nm)
                layer.selected_data.replace_selection(())
                with layer.events.set_data.blocker():  # it is drawn when all is written
                    layer.data = data
            layer.features = marks.features(table)
            changed = [name for name, values in wanted.items() if _written(layer, name, values)]
            if changed or moved:
                _draw(layer, thumbnail="face_color" in changed)
        return moved

    def _new_points(self, analysis: Analysis) -> Points:
        layer = Points(
            np.zeros((0, len(analysis.micrograph.shape))),
            face_color="transparent",
            border_color="white",
            border_width=_BORDER_NM / analysis.micrograph.calibrated(),
            border_width_is_relative=False,
            features={name: [] for name in (*marks.FEATURES, *marks.IN_WORDS)},
            **self.options("clusters", _POINTS),
        )
        self.insert(layer)
        with self.quiet():
            self._viewer().layers.selection.active = layer
        self._on_points(layer)
        return layer

    def mark_as_unmeasured(self, indices: np.ndarray) -> None:
        """Points that were just added must not look as if they had another's measurements."""
        layer = self.points
        features = layer.features.copy()
        features["cluster_id"] = features["cluster_id"].astype(float)
        features.loc[indices, "cluster_id"] = -1
        for name in ("label", "label_predicted", "label_corrected", "prediction_set"):
            features[name] = features[name].astype(object)
            features.loc[indices, name] = ""
        for name in marks.IN_WORDS:
            features[name] = features[name].astype(object)
            features.loc[indices, name] = None
        looks = {
            "size": marks.default_size_px(calibration.pixel_size_nm(self.source)),
            "symbol": "disc",
            "border_color": (1.0, 1.0, 1.0, 1.0),
            "face_color": (0.0, 0.0, 0.0, 0.0),
        }
        with self.quiet():
            layer.features = features
            for name, value in looks.items():
                values = np.array(getattr(layer, name))
                values[indices] = value
                setattr(layer, name, values)

    def write_selection(self, ids: set[int]) -> None:
        """Select the points of these clusters and no others."""
        layer, source = self.points, self.source
        if layer is None or source is None:
            return
        pixel_size_nm = calibration.pixel_size_nm(source)
        chosen = np.isin(layer.features["cluster_id"].to_numpy(), list(ids))
        indices = set(np.flatnonzero(chosen).tolist())
        with self.quiet():
            changed = indices != set(layer.selected_data)
            # Not by assignment: napari would look for what thousands of points have in common.
            layer.selected_data.replace_selection(indices)
            if pixel_size_nm is not None:
                width = np.where(chosen, _SELECTED_NM, _BORDER_NM) / pixel_size_nm
                changed |= _written(layer, "border_width", width)
            if changed:
                _draw(layer)

    # ---- texts
    def write_texts(self, table: pd.DataFrame) -> None:
        """Write ``Pt41 0.93`` beside what is in view and can be read, and beside no other."""
        points = self.points
        if points is None or len(table) != len(points.data):
            return
        rows = np.flatnonzero(self._legible(points, table))
        texts = marks.texts(table.iloc[rows])
        places, size = points.data[rows], np.asarray(points.size)[rows]
        # Beside the mark: its right end at half height.
        places[:, -1] += 0.5 * size
        now = (texts.tolist(), places.tolist())
        if now == self._texts and self.texts is not None:
            return
        self._texts = now
        layer = self.texts or self._new_texts(points.ndim)
        with self.quiet():
            # Never more texts than points, not even between two assignments.
            layer.text = {"string": {"constant": ""}}
            layer.data = places
            if len(rows):
                layer.text = {
                    "string": texts.tolist(),
                    "size": 8,
                    "color": "white",
                    "anchor": "lower_left",
                }

    def _new_texts(self, ndim: int) -> Points:
        layer = Points(
            np.zeros((0, ndim)),
            size=1e-3,
            face_color="transparent",
            # However small a point is, napari draws its border.
            border_color="transparent",
            border_width=0,
            **self.options("texts", _TEXTS),
        )
        layer.editable = False
        self.insert(layer)
        return layer

    def _legible(self, points: Points, table: pd.DataFrame) -> np.ndarray:
        """Rows whose text would be seen and could be read."""
        viewer = self._viewer()
        nothing = np.zeros(len(table), bool)
        camera, pixel_size_nm = compat.camera(viewer), calibration.pixel_size_nm(points)
        if not len(table) or pixel_size_nm is None or not points.visible:
            return nothing
        scale = np.abs(np.asarray(points.scale[-2:], float))
        if camera.zoom * scale[0] / pixel_size_nm < _MIN_ZOOM_FOR_TEXT:
            return nothing
        half = np.array(compat.canvas_size(viewer)) / camera.zoom / 2
        centre = np.asarray(camera.center[-2:], float)
        world = table[["y_px", "x_px"]].to_numpy(float) * scale + np.asarray(points.translate[-2:])
        seen = (np.abs(world - centre) <= half).all(axis=1) & np.asarray(points.shown, bool)
        if points.ndim == 3:
            seen &= table["frame"].to_numpy() == viewer.dims.current_step[0]
        return seen if seen.sum() <= MAX_TEXTS_IN_VIEW else nothing

    # ---- outlines
    def write_outlines(self, vectors: np.ndarray, rows: np.ndarray, ids: np.ndarray) -> None:
        """New strokes without colours: these come after it.

        Of each stroke the row of the table that it was made from, and the ids in that table.
        """
        layer = self.outlines
        if layer is not None:
            self._strokes = rows, ids
            # The same image analysed again has the same outlines.
            if not np.array_equal(layer.data, vectors):
                self._undrawn = True
                with layer.events.set_data.blocker():  # it is drawn with its colours
                    layer.data = vectors

    def new_outlines(self, ndim: int, stroke_px: float, visible: bool) -> None:
        """Make the layer for outlines, empty."""
        layer = Vectors(
            np.zeros((0, 2, ndim), np.float32),
            vector_style="line",
            edge_width=stroke_px,
            edge_color="white",
            opacity=0.9,
            visible=visible,
            **self.options("outlines", _OUTLINES),
        )
        self._strokes = _NO_STROKES
        self.insert(layer)

    def colour_outlines(self, ids: np.ndarray, colours: np.ndarray) -> None:
        """Colours RGBA (N, 4) of the outlines of these clusters; those of no others are seen.

        New strokes take napari ten times longer: so outlines that are not to be seen stay, without
        a colour, until there are new ones.
        """
        layer, (rows, drawn) = self.outlines, self._strokes
        if layer is None or len(layer.data) != len(rows):
            return
        of_drawn = np.zeros((len(drawn), 4), np.float32)
        known = pd.Index(ids).get_indexer(drawn)
        of_drawn[known >= 0] = colours[known[known >= 0]]
        now, wanted = layer.edge_color, of_drawn[rows]
        if not self._undrawn and np.array_equal(now, wanted):
            return
        now[...] = wanted
        if not layer.visible:  # napari draws what it saw last
            layer.set_view_slice()
        elif self._undrawn:
            layer.refresh(thumbnail=False, highlight=False, extent=False)
        else:
            layer.events.edge_color()
        self._undrawn = False

    # ---- excluded regions
    @property
    def regions(self) -> Shapes | None:
        """The layer ``<image> regions``."""
        return self.present("regions")

    def new_regions(self, connect: Callable[[Shapes], object]) -> Shapes:
        """Make the layer for excluded regions; ``connect`` gets it once it is there."""
        layer = Shapes(
            ndim=len(self.source.data.shape),
            edge_color="#d55e00",
            edge_width=2 * _STROKE_NM / (calibration.pixel_size_nm(self.source) or 1.0),
            face_color=[0.84, 0.37, 0.0, 0.18],
            **self.options("regions", _REGIONS),
        )
        self.insert(layer)
        connect(layer)
        return layer

    def write_regions(self, polygons: tuple[np.ndarray, ...]) -> None:
        """Show these polygons, (M, 2) in pixels (y, x), and no others."""
        layer = self.regions
        frame = np.zeros if layer.ndim == 3 else None
        corners = [p if frame is None else np.column_stack([frame(len(p)), p]) for p in polygons]
        with self.quiet():
            layer.selected_data = set()
            layer.data = []
            if corners:
                layer.add_polygons(corners)

    # ---- class maps
    def write_class_map(self, channel: str, data: np.ndarray) -> None:
        """Show the class maps of a channel."""
        layer = self.class_map(channel)
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
            **self.options(f"class map {channel}", _CLASS_MAP),
        )
        self.insert(layer)


def stroke_px(analysis: Analysis) -> float:
    """Width of the outlines in pixels."""
    return _STROKE_NM / analysis.micrograph.calibrated()


def _range_around(limits: tuple[float, float]) -> tuple[float, float]:
    """Of the sliders: room on both sides of what is shown first."""
    low, high = limits
    return low - (high - low), high + 2 * (high - low)


# napari draws all points anew at an assignment, and once more for each colour. So values are
# written into the arrays that are there, and what was written is drawn once.
def _written(layer: Points, name: str, values: np.ndarray) -> bool:
    """Write a property of each point; whether that changes anything."""
    now = getattr(layer, name)
    if now.dtype == object:  # symbols, of which there is one object each
        kind = type(layer.current_symbol)
        known = {value: kind(value) for value in set(values.tolist())}
        values = np.array([known[value] for value in values.tolist()], object)
        same = now.tolist() == values.tolist()
    else:
        values = values.astype(now.dtype)
        same = np.array_equal(now, values)
    if same:
        return False
    if name.endswith("_color") and getattr(layer, f"{name}_mode") != "direct":
        setattr(layer, name, values)
    else:
        now[...] = values
    return True


def _draw(layer: Points, thumbnail: bool = False) -> None:
    """Let napari draw what was written into the arrays of a layer."""
    if layer.visible:
        layer.refresh(thumbnail=thumbnail, highlight=False, extent=False)
    else:  # it would draw the points that it saw last
        layer.set_view_slice()


# Of each viewer, for how many images layers are being removed.
_LEAVING: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def leaving(viewer: Any) -> bool:
    """Whether layers are on their way out."""
    return _LEAVING.get(viewer, 0) > 0


def _remove_next(viewer: weakref.ref[Any], layers: list[weakref.ref[Layer]]) -> None:
    if viewer() is None:
        return
    while layers:
        layer = layers.pop(0)()
        if layer is not None and layer in viewer().layers:
            viewer().layers.remove(layer)
            QTimer.singleShot(0, partial(_remove_next, viewer, layers))
            return
    _LEAVING[viewer()] -= 1
