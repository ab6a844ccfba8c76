"""What the layers of one image show of its clusters, written whole while events are blocked.

The texts have a layer of their own because napari lays out every text of a layer at each
change of it, also the empty ones: thousands of points would make every click wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Points, Shapes, Vectors

from ...models.analysis import Analysis
from . import calibration, compat, point_style
from .layer_group import EventBlocker, LayerGroup

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


class ImageLayers(LayerGroup):
    """The layers of one micrograph that show its clusters.

    Parameters
    ----------
    image : str
        Name of the image.
    source : napari.layers.Image
        The layer with the micrograph.
    viewer : napari.Viewer
        The viewer that holds the layers.
    blocker : EventBlocker
        Entered while layers are written.
    on_points : callable
        Called with the points layer once it is made.
    """

    def __init__(
        self,
        image: str,
        source: Image,
        viewer: Any,
        blocker: EventBlocker,
        on_points: Callable[[Points], object],
    ) -> None:
        super().__init__(image, source, viewer, blocker)
        self._on_points = on_points
        self._strokes = _NO_STROKES
        self._uncoloured = False  # strokes were written but not their colours
        self._texts: tuple[Any, ...] = ()

    # ---- access
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
        """Return the layer ``<image> class map <channel>``."""
        return self.present(f"class map {channel}")

    @property
    def regions(self) -> Shapes | None:
        """The layer ``<image> regions``."""
        return self.present("regions")

    def clear(self) -> None:
        """Empty the layers that were made from an analysis but keep them for the next image."""
        super().clear()
        self._texts, self._strokes = (), _NO_STROKES

    # ---- points
    def write_points(self, analysis: Analysis, classes: list[str], hidden: frozenset[str]) -> bool:
        """Write everything that the points layer shows.

        Parameters
        ----------
        analysis : Analysis
            Its table has one row per point.
        classes : list of str
            Classes of the model, in the order of their colours.
        hidden : frozenset of str
            Labels whose clusters are not drawn.

        Returns
        -------
        bool
            Whether the positions have changed. Then no point is selected.
        """
        layer = self.points or self._new_points(analysis)
        table, pixel_size_nm = analysis.table, analysis.micrograph.calibrated()
        data = point_style.positions(table, layer.ndim)
        wanted = {
            **point_style.looks(table, pixel_size_nm, classes),
            "shown": point_style.shown(table, hidden),
        }
        if any(len(values) != len(data) for values in wanted.values()):
            raise ValueError("a value per point is needed")
        moved = not np.array_equal(layer.data, data)
        with self.blocker():
            if moved:
                wanted["border_width"] = np.full(len(data), _BORDER_NM / pixel_size_nm)
                layer.selected_data.replace_selection(())
                with layer.events.set_data.blocker():  # it is drawn when all is written
                    layer.data = data
            layer.features = point_style.features(table)
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
            features={name: [] for name in (*point_style.FEATURES, *point_style.TEXT_FEATURES)},
            **self.options("clusters", _POINTS),
        )
        self.insert(layer)
        with self.blocker():
            self._viewer().layers.selection.active = layer
        self._on_points(layer)
        return layer

    def mark_as_unmeasured(self, indices: np.ndarray) -> None:
        """Clear the features that napari has copied to new points from the last one."""
        layer = self.points
        features = layer.features.copy()
        features["cluster_id"] = features["cluster_id"].astype(float)
        features.loc[indices, "cluster_id"] = -1
        for name in ("label", "label_predicted", "label_corrected", "prediction_set"):
            features[name] = features[name].astype(object)
            features.loc[indices, name] = ""
        for name in point_style.TEXT_FEATURES:
            features[name] = features[name].astype(object)
            features.loc[indices, name] = None
        looks = {
            "size": point_style.default_size_px(calibration.pixel_size_nm(self.source)),
            "symbol": "disc",
            "border_color": (1.0, 1.0, 1.0, 1.0),
            "face_color": (0.0, 0.0, 0.0, 0.0),
        }
        with self.blocker():
            layer.features = features
            for name, value in looks.items():
                values = np.array(getattr(layer, name))
                values[indices] = value
                setattr(layer, name, values)

    def write_selection(self, ids: set[int]) -> None:
        """Select exactly the points of these clusters."""
        layer, source = self.points, self.source
        if layer is None or source is None:
            return
        pixel_size_nm = calibration.pixel_size_nm(source)
        chosen = np.isin(layer.features["cluster_id"].to_numpy(), list(ids))
        indices = set(np.flatnonzero(chosen).tolist())
        with self.blocker():
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
        """Write ``Pt41 0.93`` beside the clusters in view, if the text is legible."""
        points = self.points
        if points is None or len(table) != len(points.data):
            return
        rows = np.flatnonzero(self._legible(points, table))
        texts = point_style.texts(table.iloc[rows])
        places, size = points.data[rows], np.asarray(points.size)[rows]
        # Beside the mark: its right end at half height.
        places[:, -1] += 0.5 * size
        now = (texts.tolist(), places.tolist())
        if now == self._texts and self.texts is not None:
            return
        self._texts = now
        layer = self.texts or self._new_texts(points.ndim)
        with self.blocker():
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
        """Return which rows are in view and large enough for a legible text."""
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
        """Write the strokes of the outlines; `colour_outlines` follows.

        Parameters
        ----------
        vectors : ndarray of shape (n_strokes, 2, ndim)
            Start and step of each stroke in pixels.
        rows : ndarray of shape (n_strokes,)
            Row of the table for each stroke.
        ids : ndarray of shape (n_clusters,)
            The cluster_id of each row.
        """
        layer = self.outlines
        if layer is not None:
            self._strokes = rows, ids
            # The same image analysed again has the same outlines.
            if not np.array_equal(layer.data, vectors):
                self._uncoloured = True
                with layer.events.set_data.blocker():  # it is drawn with its colours
                    layer.data = vectors

    def new_outlines(self, ndim: int, stroke_px: float, visible: bool) -> None:
        """Make an empty layer for outlines.

        Parameters
        ----------
        ndim : int
            Number of axes of the micrograph.
        stroke_px : float
            Width of the strokes in pixels.
        visible : bool
            Whether the layer is shown.
        """
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
        """Colour the outlines of these clusters and make all others transparent.

        New strokes take napari ten times longer, so unused outlines stay until the next analysis.

        Parameters
        ----------
        ids : ndarray of shape (n_clusters,)
            The cluster_id of each outline.
        colours : ndarray of shape (n_clusters, 4)
            RGBA, between 0 and 1.
        """
        layer, (rows, drawn) = self.outlines, self._strokes
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

    # ---- excluded regions
    def new_regions(self, connect: Callable[[Shapes], object]) -> Shapes:
        """Make the layer for excluded regions and call ``connect`` with it."""
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
        """Show exactly these polygons, each of shape (n_corners, 2) in pixels (y, x)."""
        layer = self.regions
        frame = np.zeros if layer.ndim == 3 else None
        corners = [p if frame is None else np.column_stack([frame(len(p)), p]) for p in polygons]
        with self.blocker():
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
    """Return the width of the outlines in pixels."""
    return _STROKE_NM / analysis.micrograph.calibrated()


# napari redraws all points at each assignment and again for each colour. So values are written
# into the existing arrays, and the layer is redrawn once.
def _written(layer: Points, name: str, values: np.ndarray) -> bool:
    """Write a property of each point and return whether it has changed."""
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
    """Redraw a layer after its arrays were written."""
    if layer.visible:
        layer.refresh(thumbnail=thumbnail, highlight=False, extent=False)
    else:  # refresh() would draw the points that were visible before
        layer.set_view_slice()
