"""Outlines of clusters in layers of a user or of other plugins: Labels and Shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from napari.layers import Image, Labels, Shapes

from ....core.errors import AtomicityError
from ....io.outline_files import GivenOutlines
from .polygons import polygon_of

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
