"""What the layers of one image show of its clusters and atoms, written while events are blocked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from napari.layers import Image, Points, Vectors
from napari.utils import Colormap
from napari.utils.theme import get_theme

from ....core.tables.cluster_table import UNKNOWN
from ....models.analysis import Analysis
from ....reporting.patch_pictures import class_map_colours
from . import calibration, compat, point_style
from .layer_group import ROLE, EventBlocker, LayerGroup
from .points import ATOMS, CLUSTERS, PointsView, draw_points, write_properties
from .polygons import REGIONS, SUPPORT, VACUUM_COLOUR, PolygonLayer

# ---- texts beside the clusters in view, such as ``Pt41 0.93``, that cover no cluster and no text
#
# The texts have a layer of their own because napari lays out every text of a layer at each change
# of it, also the empty ones: thousands of points would make every click wait.

MAX_TEXTS_IN_VIEW = 250
# Screen pixels per nm below which texts would lie on top of each other.
_MIN_ZOOM_FOR_TEXT = 12.0
_POSITION = 5
_FONT_SIZE = 8
# Of the font size above, in screen pixels, and of the symbol in front of a text.
_CHARACTER_PX, _LINE_PX, _SYMBOL_PX = 7.6, 16.0, 9.0
_GAP_PX = 3.0
Corners = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# Right and left of a cluster, above and below it.
_SIDES = np.array([[0, 1], [0, -1], [-1, 0], [1, 0]], float)
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def displayed_luminance(source: Image, values: np.ndarray) -> np.ndarray:
    """Return the luminance, from 0 to 1, with which an image shows values of its pixels."""
    low, high = source.contrast_limits
    grey = np.clip((values.astype(float) - low) / (high - low), 0, 1)
    return np.asarray(source.colormap.map(grey)[:, :3] @ _LUMINANCE)


def place_boxes(
    centres: np.ndarray,  # centres (y, x) of the clusters in screen pixels
    radii: np.ndarray,  # radii of the rings round the clusters in screen pixels
    sizes: np.ndarray,  # height and width of the boxes in screen pixels
    selected: np.ndarray,  # clusters that are selected
    view: Corners,  # low and high corner of the view, and of the image, in screen pixels
) -> dict[int, np.ndarray]:
    """Place a box beside each cluster so that none covers a box, a cluster or the image's edge.

    Boxes of selected clusters come first. Where there is no room, they may cover other clusters.
    """
    places: dict[int, np.ndarray] = {}
    low, high = np.empty((len(centres), 2)), np.empty((len(centres), 2))
    for i in np.argsort(~selected, kind="stable").tolist():
        half, n, found = sizes[i] / 2, len(places), None
        for side in _SIDES:
            centre = centres[i] + side * (radii[i] + _GAP_PX + half)
            a, b = centre - half, centre + half
            if _crosses_edge(a, b, view) or ((a < high[:n]) & (b > low[:n])).all(axis=1).any():
                continue
            nearest = np.clip(centres, a, b) - centres
            if not (np.hypot(*nearest.T) < radii).any():
                found = centre
                break
            if selected[i] and found is None:
                found = centre
        if found is not None:
            low[n], high[n], places[i] = found - half, found + half, found
    return places


def _crosses_edge(low: np.ndarray, high: np.ndarray, view: Corners) -> bool:
    """Return whether a box leaves the view or lies on the edge of the image."""
    view_low, view_high, image_low, image_high = view
    inside = (low >= image_low).all() and (high <= image_high).all()
    outside = (high < image_low).any() or (low > image_high).any()
    return bool(not (inside or outside) or (low < view_low).any() or (high > view_high).any())


class TextLayer:
    """The layer ``<image> texts``."""

    def __init__(self, group: LayerGroup, points: PointsView) -> None:
        self._group = group
        self._points = points
        self._written: tuple[Any, ...] = ()

    def clear(self) -> None:
        """Forget what was written."""
        self._written = ()

    def write(self, table: pd.DataFrame, classes: list[str]) -> None:
        """Write the texts beside the clusters in view, if they are legible."""
        points = self._points.layer
        if points is None or len(table) != len(points.data):
            return
        rows = np.flatnonzero(self._legible(points, table))
        texts = np.array(point_style.texts(table.iloc[rows]), object)
        rows, texts = rows[texts != ""], texts[texts != ""]
        placed = self._place(points, rows, texts)
        chosen = np.array(sorted(placed), int)
        rows, texts = rows[chosen], texts[chosen].tolist()
        boxes = np.array([placed[i] for i in chosen]).reshape(-1, 2)
        colours = self._contrasting(points, rows, boxes)
        layer = self._group.present("texts")
        now = (texts, boxes.tolist(), colours.tolist(), self._group.screen_px())
        if now == self._written and layer is not None:
            return
        self._written = now
        self._draw(layer or self._create(points.ndim), texts, boxes, colours, table.iloc[rows],
                   classes)  # fmt: skip

    def _draw(
        self,
        layer: Points,
        texts: list[str],
        boxes: np.ndarray,
        colours: np.ndarray,
        table: pd.DataFrame,
        classes: list[str],
    ) -> None:
        screen_px, widths = self._group.screen_px(), np.array([len(t) for t in texts])
        places = boxes * screen_px
        # A point is the symbol in front of its text.
        places[:, 1] -= screen_px * (widths * _CHARACTER_PX + _GAP_PX) / 2
        if layer.ndim == 3:
            places = np.column_stack([table["frame"].to_numpy(float), places])
        with self._group.blocker():
            # Never more texts than points, not even between two assignments.
            layer.text = {"string": {"constant": ""}}
            with layer.events.set_data.blocker():  # it is drawn when all is written
                layer.data = places
            properties = {
                "size": np.full(len(texts), _SYMBOL_PX * screen_px),
                "symbol": point_style.label_symbols(table, classes),
                "face_color": np.where(
                    (table["label"] == UNKNOWN).to_numpy()[:, None],  # grey is hard to see
                    colours,
                    np.insert(point_style.label_colours(table, classes), 3, 1, axis=1),
                ),
            }
            write_properties(layer, properties)
            draw_points(layer)
            if not texts:
                return
            offset = np.array([-_LINE_PX / 2, _SYMBOL_PX / 2 + _GAP_PX]) * screen_px
            layer.text = {
                "string": texts,
                "size": _FONT_SIZE,
                "color": colours,
                "anchor": "lower_left",
                "translation": [0.0] * (layer.ndim - 2) + offset.tolist(),
            }

    def _create(self, ndim: int) -> Points:
        layer = Points(
            np.zeros((0, ndim)),
            # However small a point is, napari draws its border.
            border_color="transparent",
            border_width=0,
            **self._group.options("texts", _POSITION),
        )
        layer.editable = False
        self._group.insert(layer)
        return layer

    def _legible(self, points: Points, table: pd.DataFrame) -> np.ndarray:
        """Return which rows are in view and large enough for a legible text."""
        nothing = np.zeros(len(table), bool)
        if not len(table) or not points.visible:
            return nothing
        if 1 / (self._group.screen_px() * self._points.pixel_size_nm) < _MIN_ZOOM_FOR_TEXT:
            return nothing
        low, high = self._view_px(points)
        place = table[["y_px", "x_px"]].to_numpy(float)
        seen = ((place >= low) & (place <= high)).all(axis=1) & np.asarray(points.shown, bool)
        if points.ndim == 3:
            seen &= table["frame"].to_numpy() == self._group.viewer.dims.current_step[0]
        return seen if seen.sum() <= MAX_TEXTS_IN_VIEW else nothing

    def _view_px(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Return the low and the high corner of the view in pixels of the image."""
        viewer, scale = self._group.viewer, np.abs(np.asarray(points.scale[-2:], float))
        camera = compat.camera(viewer)
        half = np.array(compat.canvas_size(viewer)) / camera.zoom / 2 / scale
        shift = np.asarray(points.translate[-2:], float)
        centre = (np.asarray(camera.center[-2:], float) - shift) / scale
        return centre - half, centre + half

    def _place(self, points: Points, rows: np.ndarray, texts: np.ndarray) -> dict[int, np.ndarray]:
        """Return the centre of each text that has a place, in screen pixels from pixel (0, 0)."""
        screen_px, shape = self._group.screen_px(), np.array(self._group.source.data.shape[-2:])
        selected = np.isin(rows, list(points.selected_data))
        widths = [len(t) * _CHARACTER_PX + _SYMBOL_PX + _GAP_PX for t in texts]
        sizes = np.column_stack([np.full(len(texts), _LINE_PX), widths])
        radii = np.asarray(points.size)[rows] / 2 / screen_px
        low, high = self._view_px(points)
        view = low / screen_px, high / screen_px, np.full(2, -0.5) / screen_px, shape / screen_px
        return place_boxes(points.data[rows, -2:] / screen_px, radii, sizes, selected, view)

    def _contrasting(self, points: Points, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return black or white for each text, (N, 4), whichever differs from what lies below."""
        source, screen_px = self._group.source, self._group.screen_px()
        background = get_theme(self._group.viewer.theme).canvas.as_rgb_tuple()
        luminance = np.full(len(rows), np.array(background[:3]) @ _LUMINANCE / 255)
        centres = np.round(boxes * screen_px).astype(int)
        inside = ((centres >= 0) & (centres < source.data.shape[-2:])).all(axis=1)
        luminance[inside] = 0
        if isinstance(source.data, np.ndarray):  # other arrays would read their file
            half = max(1, round(_LINE_PX / 2 * screen_px))
            means = []
            for point, (y, x) in zip(points.data[rows[inside]], centres[inside], strict=True):
                frame = source.data[round(float(point[0]))] if source.ndim == 3 else source.data
                means.append(frame[max(y - half, 0) : y + half, max(x - half, 0) : x + half].mean())
            luminance[inside] = displayed_luminance(source, np.array(means))
        return np.where(luminance[:, None] < 0.5, to_rgba("white"), to_rgba("black"))


VACUUM = "vacuum"
ATOM_LAYERS = (ATOMS.name, SUPPORT.name, VACUUM)
"""Kinds of the layers that show atoms; the others show clusters."""
_COLOUR_BAR_PX = (10, 80)
_STROKE_PX = 1.2
_MAX_WIDTH_ERROR = 1.2
_FADED = 0.35
_RING_SAMPLES = 16
_MAX_LUMINANCE_UNDER_GREY = 0.3
"""Value of the display, from 0 to 1, above which the grey of unknown clusters is hard to see."""
_NO_STROKES = np.zeros(0, int), np.zeros(0, int)
_CLASS_MAP, _VACUUM, _OUTLINES = 1, 1, 3


def _on_class_map(event: Any) -> None:
    """Show or hide the colour bar of a class map that became visible or hidden."""
    _show_colour_bar(event.source)


def _show_colour_bar(layer: Image) -> None:
    """Show the colour bar of a class map if it is visible: napari takes long to make one."""
    empty = max(layer.data.shape) <= 2  # as `clear_class_maps` leaves it
    compat.show_colour_bar(layer, _COLOUR_BAR_PX, on=layer.visible and not empty)


class ImageLayers(LayerGroup):
    """The layers of one micrograph that show its clusters and atoms."""

    def __init__(
        self,
        image: str,
        source: Image,
        viewer: Any,
        blocker: EventBlocker,  # entered while layers are written
        on_points: Callable[[PointsView], object],
    ) -> None:
        super().__init__(image, source, viewer, blocker)
        self.points = {kind: PointsView(self, kind, on_points) for kind in (CLUSTERS, ATOMS)}
        self.texts = TextLayer(self, self.points[CLUSTERS])
        self.polygons = {kind: PolygonLayer(self, kind) for kind in (REGIONS, SUPPORT)}
        self._strokes = _NO_STROKES
        self._uncoloured = False  # strokes were written but not their colours
        self._maps_before: list[str] = []  # kinds of the class maps that were visible
        self._opacity: dict[str, float] = {}  # of layers that are faded, before

    def clear(self) -> None:
        """Empty the layers that were made from an analysis but keep them for the next image."""
        super().clear()
        self.texts.clear()
        self._strokes = _NO_STROKES

    # ---- clusters
    def write_clusters(
        self, analysis: Analysis, classes: list[str], hidden: frozenset[str]
    ) -> bool:
        """Write everything that the points of the clusters show."""
        table, pixel_size_nm = analysis.table, analysis.micrograph.pixel_size_nm
        assert pixel_size_nm is not None  # an analysis has lengths in nm
        properties = point_style.properties(table, pixel_size_nm, classes, hidden)
        self.darken_unknown(analysis, properties["border_color"])
        features = point_style.features(table)
        return self.points[CLUSTERS].write(table, features, properties, pixel_size_nm)

    def darken_unknown(self, analysis: Analysis, colours: np.ndarray) -> None:
        """Make the colours of unknown clusters black where their grey has no contrast."""
        table = analysis.table
        rows = np.flatnonzero(table["label"] == UNKNOWN)
        chosen = table.iloc[rows]
        source, pixels = self.source, self.source.data
        if not len(rows) or not isinstance(pixels, np.ndarray):  # others would read their file
            return
        # Not that of the layer, which may have changed since: the ring has this radius.
        radius = point_style.radius_px(chosen, analysis.micrograph.pixel_size_nm or 1.0)
        angles = np.linspace(0, 2 * np.pi, _RING_SAMPLES, endpoint=False)
        y = chosen["y_px"].to_numpy()[:, None] + radius[:, None] * np.sin(angles)
        x = chosen["x_px"].to_numpy()[:, None] + radius[:, None] * np.cos(angles)
        height, width = pixels.shape[-2:]
        y, x = np.round(y).astype(int), np.round(x).astype(int)
        outside = (y < 0) | (y >= height) | (x < 0) | (x >= width)
        place = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        frames = chosen["frame"].to_numpy(int)[:, None]
        below = pixels[place] if pixels.ndim == 2 else pixels[frames, *place]
        # By quarters: black on dark support is worse than grey beside a bright neighbour.
        quarters = np.ma.array(below, mask=outside).reshape(len(rows), 4, -1).mean(axis=2)
        below = np.ma.sort(quarters, axis=1)[:, 1].filled(pixels.min())
        is_bright = displayed_luminance(source, below) > _MAX_LUMINANCE_UNDER_GREY
        colours[rows[is_bright], :3] = 0.0

    def mark_as_unmeasured(self, indices: np.ndarray) -> None:
        """Clear the features that napari has copied to new points from the last one."""
        layer = self.points[CLUSTERS].layer
        features = layer.features.copy()
        features["cluster_id"] = features["cluster_id"].astype(float)
        features.loc[indices, "cluster_id"] = -1
        empty = dict.fromkeys(("label", "label_predicted", "label_corrected", "prediction_set"), "")
        for name, value in {**empty, **dict.fromkeys(point_style.TEXT_FEATURES)}.items():
            features[name] = features[name].astype(object)
            features.loc[indices, name] = value
        properties = {
            "size": point_style.size_px(calibration.pixel_size_nm(self.source)),
            "border_width": self.screen_px(),
            "border_color": (1.0, 1.0, 1.0, 1.0),
            "face_color": (0.0, 0.0, 0.0, 0.0),
        }
        with self.blocker():
            layer.features = features
            for name, value in properties.items():
                values = np.array(getattr(layer, name))
                values[indices] = value
                setattr(layer, name, values)

    # ---- outlines
    def write_outlines(self, vectors: np.ndarray, rows: np.ndarray, ids: np.ndarray) -> None:
        """Write the strokes of the outlines; `colour_outlines` follows."""
        layer = self.present("outlines")
        if layer is not None:
            self._strokes = rows, ids
            # The same image analysed again has the same outlines.
            if not np.array_equal(layer.data, vectors):
                self._uncoloured = True
                # It is drawn with its colours.
                with self.blocker(), layer.events.set_data.blocker():
                    layer.data = vectors

    def new_outlines(self, ndim: int, visible: bool) -> None:
        """Make an empty layer for outlines."""
        layer = Vectors(
            np.zeros((0, 2, ndim), np.float32),
            vector_style="line",
            edge_width=_STROKE_PX * self.screen_px(),
            edge_color="white",
            opacity=0.9,
            visible=visible,
            **self.options("outlines", _OUTLINES),
        )
        self._strokes = _NO_STROKES
        self.insert(layer)

    def fit_outlines(self) -> None:
        """Give the outlines the same width on the screen after a zoom."""
        layer, width = self.present("outlines"), _STROKE_PX * self.screen_px()
        if layer is None or 1 / _MAX_WIDTH_ERROR < width / layer.edge_width < _MAX_WIDTH_ERROR:
            return
        with layer.events.edge_width.blocker():  # it is drawn once
            layer.edge_width = width

    def fade(self, on: bool) -> None:
        """Fade what is drawn over the clusters, so that a person sees them and not their labels."""
        maps = [layer.metadata[ROLE]["kind"] for layer in self.class_maps()]
        for kind in (CLUSTERS.name, "outlines", *maps):
            layer = self.present(kind)
            if layer is not None and on and kind not in self._opacity:
                self._opacity[kind] = layer.opacity
                layer.opacity = _FADED
            elif layer is not None and not on and kind in self._opacity:
                layer.opacity = self._opacity.pop(kind)

    def colour_outlines(self, ids: np.ndarray, colours: np.ndarray) -> None:
        """Colour the outlines of these clusters and make all others transparent.

        New strokes take napari ten times longer, so unused outlines stay until the next analysis.
        """
        layer, (rows, drawn) = self.present("outlines"), self._strokes
        if layer is None or len(layer.data) != len(rows):
            return
        of_drawn = np.zeros((len(drawn), 4), np.float32)
        known = pd.Index(ids).get_indexer(drawn)
        of_drawn[known >= 0] = colours[known[known >= 0]]
        now, wanted = layer.edge_color, of_drawn[rows]
        if not self._uncoloured and np.array_equal(now, wanted):
            return
        now[...] = wanted
        if not layer.visible:  # napari draws what it saw last
            layer.set_view_slice()
        elif self._uncoloured:
            layer.refresh(thumbnail=False, highlight=False, extent=False)
        else:
            layer.events.edge_color()
        self._uncoloured = False

    # ---- class maps
    def class_maps(self) -> list[Image]:
        """Return the layers of the class maps."""
        is_map = [x.metadata[ROLE]["kind"].startswith("class map") for x in self.derived()]
        return [x for x, yes in zip(self.derived(), is_map, strict=True) if yes]

    def show_class_maps(self, on: bool) -> None:
        """Show the class maps that were visible last, or hide all."""
        layers = self.class_maps()
        shown = [layer for layer in layers if layer.visible]
        if not on:
            self._maps_before = [layer.metadata[ROLE]["kind"] for layer in shown]
        for i, layer in enumerate(layers):
            kind = layer.metadata[ROLE]["kind"]
            wanted = kind in self._maps_before if self._maps_before else i == 0
            layer.visible = on and (layer.visible or (wanted and not shown))

    def write_class_map(self, channel: str, data: np.ndarray, label: str | None = None) -> Image:
        """Show the class maps of a channel and return their layer."""
        kind = f"class map {channel}"
        layer, name = self.present(kind), f"{self.image} {kind}" + (f" of {label}" if label else "")
        if layer is not None:
            with self.blocker():
                layer.data = data
            layer.name = name
            _show_colour_bar(layer)
            return layer
        layer = Image(
            data,
            colormap=Colormap(class_map_colours(), name="class map"),
            contrast_limits=(0.0, 1.0),
            blending="translucent_no_depth",
            interpolation2d="linear",
            visible=channel == "raw",
            **{**self.options(kind, _CLASS_MAP), "name": name},
        )
        _show_colour_bar(layer)
        layer.events.visible.connect(_on_class_map)
        self.insert(layer)
        return layer

    def clear_class_maps(self) -> None:
        """Empty the class maps and hide their colour bars, but keep their layers."""
        super().clear_class_maps()
        for layer in self.class_maps():
            _show_colour_bar(layer)

    # ---- support
    def write_vacuum(self, support: np.ndarray | None) -> None:
        """Show the vacuum; nothing if the support is not known."""
        layer, source = self.present(VACUUM), self.source
        if support is None and layer is None:
            return
        if support is None or support.shape != source.data.shape:
            data = np.zeros((2,) * source.ndim, np.uint8)
        else:
            data = (~support).view(np.uint8)
        with self.blocker():
            if layer is not None:
                if not np.array_equal(layer.data, data):
                    layer.data = data
                return
            layer = Image(
                data,
                colormap=Colormap([(0, 0, 0, 0), (*VACUUM_COLOUR, 1.0)], name="vacuum"),
                contrast_limits=(0, 1),
                blending="translucent_no_depth",
                opacity=0.35,
                **self.options(VACUUM, _VACUUM),
            )
            self.insert(layer)
