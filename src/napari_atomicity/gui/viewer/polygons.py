"""Layers of polygons that a person draws in an image; the colour of a polygon says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from napari.layers import Shapes

from . import calibration
from .layer_group import LayerGroup

Polygons = tuple[np.ndarray, ...]
"""Polygons of one colour, each of shape (n_corners, 2) in pixels (y, x)."""
SUPPORT_COLOUR, VACUUM_COLOUR = (0.0, 0.62, 0.45), (0.84, 0.37, 0.0)
_CORNERS_OF_ELLIPSE = 48


@dataclass(frozen=True)
class PolygonKind:
    """What the polygons of a layer are.

    Attributes
    ----------
    name : str
        Kind of the layer, as in its name.
    position : int
        Rank among the layers of the image.
    stroke_nm : float
        Width of the outlines.
    edges, faces : tuple
        RGBA of outline and face for each colour of polygons.
    """

    name: str
    position: int
    stroke_nm: float
    edges: tuple[tuple[float, ...], ...]
    faces: tuple[tuple[float, ...], ...]


REGIONS = PolygonKind(
    "regions", 2, 0.06, ((213 / 255, 94 / 255, 0.0, 1.0),), ((0.84, 0.37, 0.0, 0.18),)
)
SUPPORT = PolygonKind(
    "support",
    2,
    0.04,
    ((*SUPPORT_COLOUR, 1.0), (*VACUUM_COLOUR, 1.0)),
    ((*SUPPORT_COLOUR, 0.2), (*VACUUM_COLOUR, 0.2)),
)


class PolygonLayer:
    """Write and read the polygons of one image.

    Parameters
    ----------
    group : LayerGroup
        All layers of the image.
    kind : PolygonKind
        What the polygons are.
    """

    def __init__(self, group: LayerGroup, kind: PolygonKind) -> None:
        self._group = group
        self._kind = kind

    @property
    def layer(self) -> Shapes | None:
        """The layer ``<image> <kind>``."""
        return self._group.present(self._kind.name)

    def create(self) -> Shapes:
        """Make the layer, without polygons."""
        source = self._group.source
        layer = Shapes(
            ndim=source.ndim,
            edge_width=self._kind.stroke_nm / (calibration.pixel_size_nm(source) or 1.0),
            **self._group.options(self._kind.name, self._kind.position),
        )
        self._group.insert(layer)
        self.set_next_colour(0)
        return layer

    def set_next_colour(self, colour: int) -> None:
        """Give the next polygon the n-th colour."""
        layer = self.layer
        if layer is not None:
            # A selected shape would change its colour with that of the next one.
            layer.selected_data = set()
            layer.current_edge_color = self._kind.edges[colour]
            layer.current_face_color = self._kind.faces[colour]

    def write(self, polygons: Sequence[Polygons], frame: int = 0) -> None:
        """Show exactly these polygons.

        Parameters
        ----------
        polygons : sequence of Polygons
            The polygons of each colour.
        frame : int, default 0
            Frame of a stack on which they are drawn.
        """
        layer, depth = self.layer, self.layer.ndim - 2
        drawn = [(colour, p) for colour, found in enumerate(polygons) for p in found]
        with self._group.blocker():
            layer.selected_data = set()
            layer.data = []
            if drawn:
                layer.add_polygons(
                    [np.column_stack([np.full((len(p), depth), frame), p]) for _, p in drawn],
                    edge_color=[self._kind.edges[colour] for colour, _ in drawn],
                    face_color=[self._kind.faces[colour] for colour, _ in drawn],
                )

    def read(self) -> tuple[Polygons, ...]:
        """Return the drawn polygons of each colour."""
        layer, edges = self.layer, np.array(self._kind.edges)
        found: list[list[np.ndarray]] = [[] for _ in edges]
        shapes = zip(layer.data, layer.shape_type, layer.edge_color, strict=True)
        for corners, shape_type, edge in shapes:
            polygon = polygon_of(corners, shape_type)
            if len(polygon) >= 3:
                found[int(np.abs(edges - edge).sum(axis=1).argmin())].append(polygon)
        return tuple(map(tuple, found))


def polygon_of(corners: np.ndarray, shape_type: str) -> np.ndarray:
    """Return the polygon (M, 2) in pixels (y, x) of a napari shape with corners (N, D)."""
    corners = np.asarray(corners, float)[:, -2:]
    if shape_type != "ellipse":
        return corners
    centre = corners.mean(axis=0)
    a, b = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _CORNERS_OF_ELLIPSE, endpoint=False)[:, None]
    return centre + np.cos(angle) * a + np.sin(angle) * b


def same_polygons(a: Sequence[Polygons], b: Sequence[Polygons]) -> bool:
    """Return whether polygons have the same colours and corners, to a hundredth of a pixel."""
    pairs = [pair for p, q in zip(a, b, strict=True) for pair in zip_longest(p, q)]
    return all(
        x is not None and y is not None and x.shape == y.shape and np.allclose(x, y, atol=0.01)
        for x, y in pairs
    )
