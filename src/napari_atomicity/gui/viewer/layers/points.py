"""The points of one image, one for each cluster or atom, written while events are blocked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points

from . import atom_style, compat, point_style
from .atom_style import pixel_at
from .layer_group import LayerGroup
from .status_line import describe_layer, format_atom, format_cluster


@dataclass(frozen=True)
class PointsKind:
    """What the points of a layer are."""

    name: str
    position: int  # rank among the layers of the image
    id_column: str  # column of the table that identifies a point
    features: tuple[str, ...]
    selected_px: float  # width of the borders of selected points in screen pixels
    describe: Callable[[pd.Series], str]  # formats a row of the features for the status line
    # A click selects a point within this distance in screen pixels, even if it is smaller
    reach_px: float = 0.0


CLUSTERS = PointsKind("clusters", 4, "cluster_id", point_style.ALL_FEATURES, 3.0, format_cluster)
_ATOM_FEATURES = (*atom_style.FEATURES, atom_style.NUMBER)
ATOMS = PointsKind("atoms", 6, "atom_id", _ATOM_FEATURES, 2.5, format_atom, reach_px=6)
SELECTION_COLOUR = (1.0, 1.0, 1.0)
"""Border of selected points; no class has this colour."""
# The borders are written again once their width on the screen is wrong by this factor.
_MAX_WIDTH_ERROR = 1.2


class PointsView:
    """Write the points of one image and find those that are selected or clicked."""

    def __init__(
        self, group: LayerGroup, kind: PointsKind, on_created: Callable[[PointsView], object]
    ) -> None:
        self.kind = kind
        self._group = group
        self._on_created = on_created
        self.pixel_size_nm = float("nan")
        """Pixel size of the table that was written last."""
        self._border_color = np.zeros((0, 4))
        self._border_px = np.zeros(0)
        self._shown = np.zeros(0, bool)
        self._screen_px = 1.0  # a pixel of the screen in pixels of the image

    @property
    def layer(self) -> Points | None:
        """The layer ``<image> <kind>``."""
        return self._group.present(self.kind.name)

    def create(self) -> Points:
        """Make the layer, without points."""
        source = self._group.source
        layer = Points(
            np.zeros((0, source.ndim)),
            face_color="transparent",
            border_color="white",
            border_width=1.0,
            border_width_is_relative=False,
            features={name: [] for name in self.kind.features},
            **self._group.options(self.kind.name, self.kind.position),
        )
        self._group.insert(layer)
        compat.hide_selection_markers(self._group.viewer, layer)
        compat.pick_nearest(layer)
        describe_layer(self._group.viewer, layer, self.kind.describe)
        self._on_created(self)
        return layer

    def ids(self) -> np.ndarray:
        """Return the id of each point; NaN or -1 for a point that is not in the table yet."""
        return self.layer.features[self.kind.id_column].to_numpy(float)

    # ---- writing
    def write(
        self,
        table: pd.DataFrame,
        features: pd.DataFrame,
        properties: Mapping[str, np.ndarray],
        pixel_size_nm: float,
    ) -> bool:
        """Write everything that the layer shows; it is made if there is none."""
        layer = self.layer or self.create()
        self.pixel_size_nm = pixel_size_nm
        # A copy that can be written to: napari moves points in place.
        data = table[["frame", "y_px", "x_px"][-layer.ndim :]].to_numpy(float, copy=True)
        moved = not np.array_equal(layer.data, data)
        self._border_color = properties["border_color"]
        self._border_px = properties["border_width"]
        self._shown = properties.get("shown", np.ones(len(data), bool))
        self._measure_screen()
        with self._group.blocker():
            if moved:
                layer.selected_data.replace_selection(())
                with layer.events.set_data.blocker():  # it is drawn when all is written
                    layer.data = data
            layer.features = features
            chosen = np.isin(np.arange(len(data)), list(layer.selected_data))
            changed = write_properties(layer, {**properties, **self._borders(chosen)})
            if changed or moved:
                draw_points(layer, thumbnail="face_color" in changed)
        return moved

    def write_selection(self, ids: Set[int]) -> None:
        """Select exactly the points with these ids."""
        layer = self.layer
        if layer is None:
            return
        chosen = np.isin(self.ids(), list(ids))
        indices = set(np.flatnonzero(chosen).tolist())
        with self._group.blocker():
            changed = indices != set(layer.selected_data)
            # Not by assignment: napari would look for what thousands of points have in common.
            layer.selected_data.replace_selection(indices)
            if len(chosen) == len(self._border_px):  # else points were just added by hand
                changed |= bool(write_properties(layer, self._borders(chosen)))
            if changed:
                draw_points(layer)

    def _borders(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Return the borders of the points; `chosen` says which are selected.

        Selected points are drawn also if they are hidden: keys act on them.
        """
        color = np.array(self._border_color, float)
        color[chosen, :3] = SELECTION_COLOUR
        color[chosen & ~self._shown, 3] = 1.0
        width = np.where(chosen, self.kind.selected_px, self._border_px) * self._screen_px
        return {"border_color": color, "border_width": width, "shown": self._shown | chosen}

    def _measure_screen(self) -> bool:
        """Return whether the camera has zoomed so far that borders have a wrong width."""
        now = self._group.screen_px()
        error = max(now / self._screen_px, self._screen_px / now)
        if error > _MAX_WIDTH_ERROR:
            self._screen_px = now
        return error > _MAX_WIDTH_ERROR

    def fit_borders(self) -> None:
        """Write the borders again, after a zoom, with the same width on the screen."""
        layer, before = self.layer, self._screen_px
        if layer is None or not self._measure_screen():
            return
        layer.border_width[...] *= self._screen_px / before
        if layer.visible:
            layer.events.border_width()

    def put(self, point_id: int, place: tuple[float, float]) -> None:
        """Draw a point at (y, x) in pixels while it is dragged."""
        rows = np.flatnonzero(self.ids() == point_id)
        if len(rows):
            self.layer.data[rows[0], -2:] = place
            self.layer.refresh(extent=False)

    def deselect_hidden(self) -> None:
        """Deselect points that are not drawn: napari selects them with those around them."""
        layer = self.layer
        if layer is None:
            return
        hidden = set(layer.selected_data) & set(np.flatnonzero(~layer.shown).tolist())
        if hidden:
            with self._group.blocker():
                layer.selected_data.difference_update(hidden)

    # ---- reading
    def selected_ids(self) -> set[int]:
        """Return the ids of the selected points."""
        layer = self.layer
        if layer is None or not len(layer.selected_data):
            return set()
        ids = self.ids()
        # Points that were just added by hand have no id yet.
        return {int(ids[i]) for i in layer.selected_data if i < len(ids) and ids[i] > 0}

    def id_at(self, world: Any, zoom: float) -> int | None:
        """Return the id of the point at a place of the scene; None if there is none."""
        layer = self.layer
        if layer is None or not layer.visible or not len(layer.data):
            return None
        frame, y, x = pixel_at(layer, world)
        distance = np.hypot(layer.data[:, -2] - y, layer.data[:, -1] - x)
        distance[~np.asarray(layer.shown, bool)] = np.inf
        if layer.ndim == 3:
            distance[np.round(layer.data[:, 0]) != frame] = np.inf
        least = self.kind.reach_px / (zoom * abs(float(layer.scale[-1])))
        reach = np.maximum(np.asarray(layer.size) / 2, least)
        nearest = int(np.argmin(distance / reach))
        found = self.ids()[nearest]
        return int(found) if distance[nearest] <= reach[nearest] and found > 0 else None


# napari redraws all points at each assignment and again for each colour. So values are written
# into the existing arrays, and the layer is redrawn once.
def write_properties(layer: Points, properties: Mapping[str, np.ndarray]) -> list[str]:
    """Write properties of each point and return the names of those that have changed."""
    changed = []
    for name, values in properties.items():
        now = getattr(layer, name)
        if name == "symbol":  # one object each
            codes, symbols = pd.factorize(values)
            values = np.array(list(map(type(layer.current_symbol), symbols)), object)[codes]
            same = now.tolist() == values.tolist()
        else:
            values = values.astype(now.dtype)
            same = np.array_equal(now, values)
        if same:
            continue
        changed.append(name)
        if name.endswith("_color") and getattr(layer, f"{name}_mode") != "direct":
            setattr(layer, name, values)
        else:
            now[...] = values
    return changed


def draw_points(layer: Points, thumbnail: bool = False) -> None:
    """Redraw a layer after its arrays were written."""
    if layer.visible:
        layer.refresh(thumbnail=thumbnail, highlight=False, extent=False)
    else:  # refresh() would draw the points that were visible before
        layer.set_view_slice()
