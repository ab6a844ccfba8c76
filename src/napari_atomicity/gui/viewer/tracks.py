"""The layer ``<image> tracks``: tracks of the clusters of a stack, written from the state."""

from __future__ import annotations

import numpy as np
import pandas as pd
from napari.layers import Tracks
from napari.utils import Colormap

from ...core.palette import colours
from ...core.tables.cluster_table import NO_TRACK
from ...models.analysis import Analysis
from ...tracking.tracks import is_tracked
from ..controls.refresher import single_shot
from .canvas import Canvas
from .layers.layers import ImageLayers

KIND = "tracks"
BY_ATOMICITY, BY_TRACK = "atomicity", "track"
_POSITION = 6
_TAIL_FRAMES = 30
_COLOURS = 12


class TrackView:
    """Show the tracks of the images in the viewer; the layer is read-only.

    Smoothed labels colour the tracks as long as the table is the one they were computed from.
    Otherwise the labels of the table do.
    """

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._colour_by = BY_ATOMICITY
        self._smoothed: dict[str, tuple[pd.DataFrame, dict[int, str]]] = {}
        # A layer that was removed by hand comes back only with other tracks.
        self._written: dict[str, np.ndarray] = {}
        self._waiting: set[str] = set()
        self._timer = single_shot(self._write_waiting)
        canvas.state.changed.connect(self._on_change)

    @property
    def busy(self) -> bool:
        """Whether tracks wait to be written."""
        return self._timer.isActive()

    @property
    def colour_by(self) -> str:
        """`BY_ATOMICITY` or `BY_TRACK`."""
        return self._colour_by

    @colour_by.setter
    def colour_by(self, name: str) -> None:
        if name != self._colour_by:
            self._colour_by = name
            for image in list(self._canvas.layers):
                self._write_later(image)

    def layer(self, image: str) -> Tracks | None:
        """Return the layer ``<image> tracks``."""
        return self._canvas.layer(image, KIND)

    def take_smoothed(self, image: str, table: pd.DataFrame, labels: dict[int, str]) -> None:
        """Colour the tracks of an image by smoothed labels."""
        self._smoothed[image] = (table, labels)
        self._write_later(image)

    def on_layers_created(self, image: str) -> None:
        """Write the tracks of an image that has got its layers."""
        self._written.pop(image, None)
        self._write_later(image)

    def _on_change(self, images: tuple[str, ...]) -> None:
        for image in images:
            self._write_later(image)

    def _write_later(self, image: str) -> None:
        """Write the tracks of an image after its points and outlines; only stacks have tracks."""
        known = self._canvas.layers.get(image)
        if known is not None and known.source.ndim != 3:
            return
        self._waiting.add(image)
        if not self._timer.isActive():
            self._timer.start(0)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for image in waiting:
            self._write(image)

    def _write(self, image: str) -> None:
        known = self._canvas.layers.get(image)
        analysis = self._state.analysis(image)
        if image not in self._state.images:
            self._smoothed.pop(image, None)
        if known is None:
            self._written.pop(image, None)
            return
        rows = _rows(analysis)
        if analysis is None or not len(rows):
            self._written.pop(image, None)
            layer = known.present(KIND)
            if layer is not None:
                with known.blocker():
                    self._canvas.viewer.layers.remove(layer)
            return
        data = _data(rows)
        values, colormap = self._looks(image, analysis, rows)
        layer = known.present(KIND)
        if layer is None and np.array_equal(data, self._written.get(image)):
            return
        self._written[image] = data
        if layer is None:
            self._make(known, data, values, colormap)
            return
        name, same = self._colour_by, np.array_equal(layer.data, data)
        if same and name in layer.features and np.array_equal(layer.features[name], values):
            return
        with known.blocker():
            layer.color_by = "track_id"  # which data of any length have
            if not same:
                layer.data = data
            layer.colormaps_dict = {name: colormap}
            layer.features = {"track_id": data[:, 0].astype(int), name: values}
            layer.color_by = name

    def _make(
        self, known: ImageLayers, data: np.ndarray, values: np.ndarray, colormap: Colormap
    ) -> None:
        layer = Tracks(
            data,
            features={"track_id": data[:, 0].astype(int), self._colour_by: values},
            color_by=self._colour_by,
            colormaps_dict={self._colour_by: colormap},
            tail_length=_TAIL_FRAMES,
            head_length=0,
            tail_width=4,
            blending="translucent",
            opacity=0.9,
            **known.options(KIND, _POSITION),
        )
        layer.editable = False
        known.insert(layer)

    def _looks(
        self, image: str, analysis: Analysis, rows: pd.DataFrame
    ) -> tuple[np.ndarray, Colormap]:
        """Return a value from 0 to 1 for each row, and a colour map for these values."""
        if self._colour_by == BY_TRACK:
            palette = colours([f"track {i}" for i in range(_COLOURS)])
            names = list(palette)[:_COLOURS]
            at = rows["track_id"].to_numpy(int) % _COLOURS
            return _stepped(at, [palette[n] for n in names])
        labels = rows["label"].to_numpy(object)
        found = self._smoothed.get(image)
        if found is not None and found[0] is analysis.table:
            ids = rows["cluster_id"].tolist()
            labels = np.array([found[1].get(i, was) for i, was in zip(ids, labels, strict=True)])
        palette = colours(self._state.classes())
        number = {name: i for i, name in enumerate(palette)}
        at = np.array([number.get(name, number[""]) for name in labels], int)
        return _stepped(at, list(palette.values()))


def _rows(analysis: Analysis | None) -> pd.DataFrame:
    """Return the tracked clusters, sorted by track and frame."""
    if analysis is None or not is_tracked(analysis):
        return pd.DataFrame()
    table = analysis.table
    return table[table["track_id"] != NO_TRACK].sort_values(["track_id", "frame"], kind="stable")


def _data(rows: pd.DataFrame) -> np.ndarray:
    """Return an array (N, 4): track, frame, y, x in pixels."""
    return rows[["track_id", "frame", "y_px", "x_px"]].to_numpy(float)


def _stepped(at: np.ndarray, chosen: list[str]) -> tuple[np.ndarray, Colormap]:
    """Return values and a colour map with one step per colour."""
    n = len(chosen)
    rgba = [[*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0] for c in chosen]
    edges = np.linspace(0, 1, n + 1)
    return (at + 0.5) / n, Colormap(rgba, controls=edges, interpolation="zero", name="steps")
