"""Selected clusters as a Points layer of their own, for napari and other plugins."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
from napari.layers import Points
from napari.utils.notifications import show_info
from napari.viewer import Viewer

from ...core.text import pluralise
from ...state.keys import ids_of_image
from . import calibration, point_style
from .binding import Binding, binding_of, unwrapped


def selected_as_layer(viewer: Viewer | None = None) -> list[Points]:
    """Add the selected clusters of each image as a new Points layer.

    The layer has the scale and units of the image, and all columns of the cluster table as
    features. It does not follow later corrections.
    """
    viewer = viewer or napari.current_viewer()
    if viewer is None:
        return []
    binding = binding_of(viewer)
    images = dict.fromkeys(image for image in binding.state.images if _ids(binding, image))
    if not images:
        show_info("Select clusters first: in the image, the Gallery, the Table or a plot.")
    layers = [_layer_of(binding, image) for image in images]
    for layer in layers:
        unwrapped(viewer).add_layer(layer)
    if layers:
        n = sum(len(layer.data) for layer in layers)
        show_info(f"New layer with {pluralise(n, 'cluster')}.")
    return layers


def _ids(binding: Binding, image: str) -> set[int]:
    """Return the selected clusters of an image that are in its table."""
    if binding.state.analysis(image) is None:
        return set()
    known = set(binding.state.table(image)["cluster_id"].tolist())
    return known & ids_of_image(binding.state.selection, image)


def _layer_of(binding: Binding, image: str) -> Points:
    state = binding.state
    table = state.table(image)
    table = table[table["cluster_id"].isin(_ids(binding, image))].reset_index(drop=True)
    size_nm = state.micrograph(image).calibrated()
    source = binding.source_layer(image)
    n_axes = 2 if source is None else source.ndim
    place: dict[str, Any]
    if source is None:  # an image of a project that is not shown
        place = {"scale": (size_nm, size_nm), "units": ("nm", "nm"), "axis_labels": ("y", "x")}
    else:
        place = calibration.placement(source)
    style = point_style.properties(table, size_nm, state.classes())
    return Points(
        table[["frame", "y_px", "x_px"]].to_numpy(np.float64)[:, -n_axes:],
        name=f"{image} selected clusters",
        features=table,
        size=style["size"],
        border_color=style["border_color"],
        border_width=0.05,
        face_color="transparent",
        **place,
    )
