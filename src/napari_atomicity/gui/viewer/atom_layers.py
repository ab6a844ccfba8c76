"""What the layers of one image show of its atoms, written whole while events are blocked.

They belong to the layers of the image (`layer_group`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Image, Points, Shapes
from napari.utils import Colormap

from . import atom_style, calibration
from .layer_group import LayerGroup

ATOMS, SUPPORT, VACUUM = "atoms", "support", "vacuum"
KINDS = (ATOMS, SUPPORT, VACUUM)
ADDED, REMOVED = "support", "vacuum"
"""Kind of a polygon, which its colour encodes."""

_VACUUM, _SUPPORT, _ATOMS = 1, 2, 6
_BORDER_NM, _SELECTED_NM = 0.03, 0.07
_STROKE_NM = 0.04
_COLOURS = {ADDED: (0.0, 0.62, 0.45), REMOVED: (0.84, 0.37, 0.0)}


class AtomLayers:
    """Write the layers of one image that show its atoms.

    Parameters
    ----------
    known : LayerGroup
        All layers of the image.
    """

    def __init__(self, known: LayerGroup) -> None:
        self._known = known
        self._blocker = known.blocker

    @property
    def points(self) -> Points | None:
        """The layer ``<image> atoms``."""
        return self._known.present(ATOMS)

    @property
    def support(self) -> Shapes | None:
        """The layer ``<image> support``."""
        return self._known.present(SUPPORT)

    @property
    def vacuum(self) -> Image | None:
        """The layer ``<image> vacuum``."""
        return self._known.present(VACUUM)

    # ---- atoms
    def new_points(self) -> Points:
        """Make the layer for atoms."""
        source = self._known.source
        assert source is not None
        size_nm = calibration.pixel_size_nm(source) or 1.0
        layer = Points(
            np.zeros((0, source.ndim)),
            face_color="transparent",
            border_color="white",
            border_width=_BORDER_NM / size_nm,
            border_width_is_relative=False,
            features={name: [] for name in atom_style.FEATURES},
            **self._known.options(ATOMS, _ATOMS),
        )
        self._known.insert(layer)
        return layer

    def write_points(
        self, table: pd.DataFrame, pixel_size_nm: float, colour_by: str, selected: set[int]
    ) -> None:
        """Write everything that the points layer shows.

        Parameters
        ----------
        table : DataFrame
            Atom table, one row per point.
        pixel_size_nm : float
            Pixel size in nm.
        colour_by : str
            What the colours show: one of `atom_style.COLOURINGS`.
        selected : set of int
            The atom_id of the selected atoms.
        """
        layer = self.points
        if layer is None:
            return
        data = atom_style.positions(table, layer.ndim)
        looks = {
            "size": atom_style.sizes_px(table, pixel_size_nm),
            "symbol": _as_napari(layer, atom_style.symbols(table)),
            "border_color": atom_style.border_colours(table, colour_by),
            "face_color": atom_style.face_colours(table, colour_by),
        }
        with self._blocker(), _without_duplicates(layer):
            if layer.data.shape != data.shape or not np.array_equal(layer.data, data):
                layer.selected_data = set()
                layer.data = data
                if not layer.visible:  # napari would colour the points that were visible before
                    layer.set_view_slice()
            layer.features = atom_style.features(table)
            self._assign(layer, looks)
            self._select(layer, selected)

    def write_selection(self, ids: set[int]) -> None:
        """Select exactly these atoms."""
        layer = self.points
        if layer is not None:
            with self._blocker(), _without_duplicates(layer):
                self._select(layer, ids)

    def _select(self, layer: Points, ids: set[int]) -> None:
        chosen = np.isin(layer.features["atom_id"].to_numpy(float), list(ids))
        indices = set(np.flatnonzero(chosen).tolist())
        if indices != set(layer.selected_data):
            layer.selected_data = indices
        pixel_size_nm = calibration.pixel_size_nm(layer)
        if pixel_size_nm is not None:
            width = np.where(chosen, _SELECTED_NM, _BORDER_NM) / pixel_size_nm
            self._assign(layer, {"border_width": width})

    @staticmethod
    def _assign(layer: Points, looks: Mapping[str, np.ndarray]) -> None:
        for name, values in looks.items():
            if len(values) and not _equal(getattr(layer, name), values):
                setattr(layer, name, values)

    def put(self, atom_id: int, place: Any) -> None:
        """Draw an atom at (y, x) in pixels while it is dragged."""
        layer = self.points
        if layer is None:
            return
        rows = np.flatnonzero(layer.features["atom_id"].to_numpy(float) == atom_id)
        if len(rows):
            layer.data[rows[0], -2:] = place
            layer.refresh(extent=False)

    # ---- support
    def new_support(self) -> Shapes:
        """Make the layer for polygons that correct the support."""
        source = self._known.source
        assert source is not None
        layer = Shapes(
            ndim=source.ndim,
            edge_width=_STROKE_NM / (calibration.pixel_size_nm(source) or 1.0),
            **self._known.options(SUPPORT, _SUPPORT),
        )
        self._known.insert(layer)
        return layer

    def set_next_kind(self, kind: str) -> None:
        """Give the next polygon the colour of its kind."""
        layer = self.support
        if layer is not None:
            # A selected shape would change its colour with that of the next one.
            layer.selected_data = set()
            layer.current_edge_color = (*_COLOURS[kind], 1.0)
            layer.current_face_color = (*_COLOURS[kind], 0.2)

    def kinds(self) -> list[str]:
        """Return the kind of each polygon, from its colour."""
        layer = self.support
        if layer is None or not len(layer.data):
            return []
        colours = np.asarray(layer.edge_color)[:, None, :3]
        off = np.abs(colours - np.array([_COLOURS[ADDED], _COLOURS[REMOVED]])).sum(axis=2)
        return [(ADDED, REMOVED)[i] for i in off.argmin(axis=1)]

    def write_support(
        self, added: Iterable[np.ndarray], removed: Iterable[np.ndarray], frame: int = 0
    ) -> None:
        """Show exactly these polygons.

        Parameters
        ----------
        added, removed : iterable of ndarray of shape (n_corners, 2)
            Polygons in pixels (y, x) that add to the support, and those that remove from it.
        frame : int, default 0
            Frame of a stack on which they are drawn.
        """
        layer = self.support
        if layer is None:
            return
        drawn = [(ADDED, p) for p in added] + [(REMOVED, p) for p in removed]
        depth = layer.ndim - 2
        with self._blocker():
            layer.selected_data = set()
            layer.data = []
            if drawn:
                layer.add_polygons(
                    [np.column_stack([np.full((len(p), depth), frame), p]) for _, p in drawn],
                    edge_color=[(*_COLOURS[kind], 1.0) for kind, _ in drawn],
                    face_color=[(*_COLOURS[kind], 0.2) for kind, _ in drawn],
                )

    def write_vacuum(self, support: np.ndarray | None) -> None:
        """Show the vacuum; nothing if the support is not known."""
        layer = self.vacuum
        source = self._known.source
        if source is None or (support is None and layer is None):
            return
        if support is None or support.shape != source.data.shape:
            data = np.zeros((2,) * source.ndim, np.uint8)
        else:
            data = (~support).view(np.uint8)
        with self._blocker():
            if layer is not None:
                if not np.array_equal(layer.data, data):
                    layer.data = data
                return
            layer = Image(
                data,
                colormap=Colormap([(0, 0, 0, 0), (*_COLOURS[REMOVED], 1.0)], name="vacuum"),
                contrast_limits=(0, 1),
                blending="translucent_no_depth",
                opacity=0.35,
                **self._known.options(VACUUM, _VACUUM),
            )
            self._known.insert(layer)


@contextmanager
def _without_duplicates(layer: Points) -> Iterator[None]:
    """Redraw a layer once after all assignments of the block, not after each of them."""
    names = ("set_data", "symbol", "border_color", "face_color", "border_width", "highlight")
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(getattr(layer.events, name).blocker())
        yield
    layer.refresh()


def _as_napari(layer: Points, symbols: np.ndarray) -> np.ndarray:
    """Return symbols as the layer stores them, which are quick to compare."""
    of_napari = type(layer.current_symbol)
    codes, names = pd.factorize(symbols)
    return np.array([of_napari(name) for name in names], object)[codes]


def _equal(shown: Any, wanted: np.ndarray) -> bool:
    shown = np.asarray(shown)
    if wanted.dtype == object:
        return bool(np.array_equal(shown, wanted))
    return shown.shape == wanted.shape and bool(np.allclose(shown, wanted))
