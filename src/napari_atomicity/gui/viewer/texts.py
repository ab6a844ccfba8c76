"""Texts beside the clusters in view, such as ``Pt41 0.93``, that cover no cluster and no text.

The texts have a layer of their own because napari lays out every text of a layer at each
change of it, also the empty ones: thousands of points would make every click wait.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from napari.layers import Image, Points
from napari.utils.theme import get_theme

from ...core.cluster_table import UNKNOWN
from . import compat, point_style
from .layer_group import LayerGroup
from .points import PointsView, draw_points, write_properties

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
        with self._group.writing():
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
        source = self._group.source
        background = get_theme(self._group.viewer.theme).canvas.as_rgb_tuple()
        luminance = np.full(len(rows), np.array(background[:3]) @ _LUMINANCE / 255)
        for i, (y, x) in enumerate(np.round(boxes * self._group.screen_px()).astype(int)):
            if 0 <= y < source.data.shape[-2] and 0 <= x < source.data.shape[-1]:
                luminance[i] = self._luminance_at(points.data[rows[i]], y, x)
        return np.where(luminance[:, None] < 0.5, to_rgba("white"), to_rgba("black"))

    def _luminance_at(self, point: np.ndarray, y: int, x: int) -> float:
        """Return the luminance of the image around a pixel of the frame of a point."""
        source = self._group.source
        if not isinstance(source.data, np.ndarray):  # other arrays would read their file
            return 0.0
        frame = source.data[round(float(point[0]))] if source.ndim == 3 else source.data
        half = max(1, round(_LINE_PX / 2 * self._group.screen_px()))
        window = frame[max(y - half, 0) : y + half, max(x - half, 0) : x + half]
        return float(displayed_luminance(source, np.array([window.mean()]))[0])
