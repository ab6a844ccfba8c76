"""Layers of polygons that a person draws in an image; the colour of a polygon says what it is.

Shapes and labels of a user, or of other plugins, become outlines of clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from napari.layers import Image, Labels, Shapes

from ....core.errors import AtomicityError
from ....io.outline_files import GivenOutlines
from . import calibration, compat
from .layer_group import LayerGroup
from .status_line import describe_layer

Polygons = tuple[tuple[int, np.ndarray], ...]
"""Polygons in the order in which they were drawn.

Each has its number of a colour, and its corners, (n_corners, 2) in pixels (y, x).
"""
SUPPORT_COLOUR, VACUUM_COLOUR = (0.0, 0.62, 0.45), (0.84, 0.37, 0.0)
_POSITION = 2
_CORNERS_OF_ELLIPSE = 48


@dataclass(frozen=True)
class PolygonKind:
    """What the polygons of a layer are."""

    name: str
    colours: tuple[tuple[float, float, float], ...]  # RGB of each colour that a polygon can have
    face_alpha: float
    stroke_nm: float  # width of the outlines


REGIONS = PolygonKind("regions", (VACUUM_COLOUR,), face_alpha=0.18, stroke_nm=0.06)
SUPPORT = PolygonKind("support", (SUPPORT_COLOUR, VACUUM_COLOUR), face_alpha=0.2, stroke_nm=0.04)


class PolygonLayer:
    """Write and read the polygons of one image."""

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
            **self._group.options(self._kind.name, _POSITION),
        )
        layer.events.data.connect(compat.drop_colours_of_removed_shapes)
        self._group.insert(layer)
        describe_layer(self._group.viewer, layer)
        return layer

    def set_next_colour(self, colour: int) -> None:
        """Give the next polygon the n-th colour."""
        layer, rgb = self.layer, self._kind.colours[colour]
        if layer is not None:
            # A selected shape would change its colour with that of the next one.
            layer.selected_data = set()
            layer.current_edge_color = (*rgb, 1.0)
            layer.current_face_color = (*rgb, self._kind.face_alpha)

    def write(self, polygons: Polygons, frame: int = 0) -> None:
        """Show exactly these polygons."""
        layer, depth = self.layer, self.layer.ndim - 2
        drawn = [(self._kind.colours[colour], polygon) for colour, polygon in polygons]
        with self._group.blocker():
            layer.selected_data = set()
            layer.data = []
            if drawn:
                layer.add_polygons(
                    [np.column_stack([np.full((len(p), depth), frame), p]) for _, p in drawn],
                    edge_color=[(*rgb, 1.0) for rgb, _ in drawn],
                    face_color=[(*rgb, self._kind.face_alpha) for rgb, _ in drawn],
                )

    def read(self) -> Polygons:
        """Return the drawn polygons."""
        layer, colours = self.layer, np.array(self._kind.colours)
        found = []
        for corners, kind, rgba in zip(layer.data, layer.shape_type, layer.edge_color, strict=True):
            polygon = polygon_of(corners, kind)
            if len(polygon) >= 3:
                colour = int(np.abs(colours - rgba[:3]).sum(axis=1).argmin())
                found.append((colour, polygon))
        return tuple(found)


def polygon_of(corners: np.ndarray, shape_type: str) -> np.ndarray:
    """Return the polygon (M, 2) in pixels (y, x) of a napari shape with corners (N, D)."""
    corners = np.asarray(corners, float)[:, -2:]
    if shape_type != "ellipse":
        return corners
    centre = corners.mean(axis=0)
    a, b = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _CORNERS_OF_ELLIPSE, endpoint=False)[:, None]
    return centre + np.cos(angle) * a + np.sin(angle) * b


def same_polygons(a: Polygons, b: Polygons) -> bool:
    """Return whether polygons have the same colours and corners, to a hundredth of a pixel."""
    return len(a) == len(b) and all(
        colour == other and x.shape == y.shape and np.allclose(x, y, atol=0.01)
        for (colour, x), (other, y) in zip(a, b, strict=True)
    )


_AREAS = ("polygon", "rectangle", "ellipse")


def outlines_in(layer: Labels | Shapes, image: Image) -> Callable[[], GivenOutlines]:
    """Return a function for a worker that returns the objects of a layer in pixels of an image.

    Labels belong to the pixels of the same number, as other programs often drop the scale; shapes
    are where they appear. Raises `AtomicityError` if a shape is no area.
    """
    source = f"layer {layer.name}"
    if isinstance(layer, Labels):
        labels = layer.data[0] if layer.multiscale else layer.data
        return partial(_given_labels, source, labels.copy())  # a user may go on painting
    polygons, frames = [], []
    for number, (corners, kind) in enumerate(zip(layer.data, layer.shape_type, strict=True), 1):
        if kind not in _AREAS:
            raise AtomicityError(
                f"shape {number} of the {source} is a {kind}, not an area",
                advice="Delete it, or draw a polygon",
            )
        placed = _pixels_of(np.asarray(corners, float), layer, image)
        polygons.append(polygon_of(placed, kind))
        is_in_frame = image.ndim == 3 and layer.ndim == 3
        frames.append(round(float(placed[:, 0].mean())) if is_in_frame else None)
    return partial(GivenOutlines, source, tuple(polygons), tuple(frames))


def _given_labels(source: str, labels: np.ndarray) -> GivenOutlines:
    return GivenOutlines(source, labels=np.asarray(labels))


def _pixels_of(corners: np.ndarray, layer: Shapes, image: Image) -> np.ndarray:
    """Convert corners (N, D) of a layer to pixels of an image that is displayed with it."""
    n = min(layer.ndim, image.ndim)

    def convert(point: np.ndarray) -> np.ndarray:
        world = np.zeros(image.ndim)
        world[-n:] = np.asarray(layer.data_to_world(point), float)[-n:]
        return np.asarray(image.world_to_data(world), float)

    # Both transforms are affine: the images of the origin and the axes define them.
    origin = convert(np.zeros(layer.ndim))
    axes = np.stack([convert(axis) - origin for axis in np.eye(layer.ndim)])
    return origin + corners @ axes
