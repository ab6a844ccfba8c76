"""What the layers of one image show of its clusters and atoms, written while events are blocked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Vectors
from napari.utils import Colormap

from ...core.cluster_table import UNKNOWN
from ...models.analysis import Analysis
from ...reporting.patch_pictures import class_map_colours
from . import calibration, compat, point_style
from .layer_group import ROLE, EventBlocker, LayerGroup
from .points import ATOMS, CLUSTERS, PointsView
from .polygons import REGIONS, SUPPORT, VACUUM_COLOUR, PolygonLayer
from .texts import TextLayer, displayed_luminance

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
        self.darken_unknown(table, properties["border_color"])
        features = point_style.features(table)
        return self.points[CLUSTERS].write(table, features, properties, pixel_size_nm)

    def darken_unknown(self, table: pd.DataFrame, colours: np.ndarray) -> None:
        """Make the colours of unknown clusters black where their grey has no contrast."""
        rows = np.flatnonzero(table["label"] == UNKNOWN)
        chosen = table.iloc[rows]
        source, pixels = self.source, self.source.data
        if not len(rows) or not isinstance(pixels, np.ndarray):  # others would read their file
            return
        radius = point_style.radius_px(chosen, calibration.pixel_size_nm(source) or 1.0)
        angles = np.linspace(0, 2 * np.pi, _RING_SAMPLES, endpoint=False)
        y = chosen["y_px"].to_numpy()[:, None] + radius[:, None] * np.sin(angles)
        x = chosen["x_px"].to_numpy()[:, None] + radius[:, None] * np.cos(angles)
        y, x = (
            np.clip(np.round(p), 0, n - 1).astype(int)
            for p, n in zip((y, x), pixels.shape[-2:], strict=True)
        )
        frames = chosen["frame"].to_numpy(int)[:, None]
        below = pixels[y, x] if pixels.ndim == 2 else pixels[frames, y, x]
        is_bright = displayed_luminance(source, below.mean(axis=1)) > _MAX_LUMINANCE_UNDER_GREY
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
                with self.writing(), layer.events.set_data.blocker():
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
        """Fade points and outlines, so that a person sees the clusters and not their labels."""
        for kind in (CLUSTERS.name, "outlines"):
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
            with self.writing():
                layer.data = data
            layer.name = name
            compat.show_colour_bar(layer, _COLOUR_BAR_PX)
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
        compat.show_colour_bar(layer, _COLOUR_BAR_PX)
        self.insert(layer)
        return layer

    def clear_class_maps(self) -> None:
        """Empty the class maps and hide their colour bars, but keep their layers."""
        super().clear_class_maps()
        for layer in self.derived():
            if layer.metadata[ROLE]["kind"].startswith("class map"):
                compat.show_colour_bar(layer, _COLOUR_BAR_PX, on=False)

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
