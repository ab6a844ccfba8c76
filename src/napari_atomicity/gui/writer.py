"""Writers of napari: clusters and atoms as tables, outlines as ROIs, GeoJSON and label images.

napari calls a writer in the thread of the window and has no way to continue in a worker. *Export…*
in the dock Table writes the same files in a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError
from ..io.outline_files import OUTLINE_WRITERS, write_outlines
from ..io.tables import write_clusters, write_table
from .viewer.binding import binding_of_layer
from .viewer.layers.calibration import pixel_size_of_axes
from .viewer.layers.layer_group import ROLE
from .viewer.layers.layers import ATOM_LAYERS

LayerTuple = tuple[Any, dict[str, Any], str]


def write_layers(path: str, layers: Sequence[LayerTuple]) -> list[str]:
    """Write what the selected layers show of one image, in the format of the suffix.

    Raises `AtomicityError` if the layers belong to several images, or have no outlines.
    """
    images = {_role(attributes).get("image") for _, attributes, _ in layers}
    if len(images) > 1:
        raise AtomicityError(
            "these layers belong to several images", path, "Select the layers of one image"
        )
    if Path(path).suffix.lower() in OUTLINE_WRITERS:
        return [str(_write_outlines(path, layers))]
    points = [(data, attributes) for data, attributes, kind in layers if kind == "points"]
    data, attributes = points[0] if points else layers[0][:2]
    return [str(_write_table(path, data, attributes))]


def _write_outlines(path: str, layers: Sequence[LayerTuple]) -> Path:
    for _, attributes, _ in layers:
        binding, role = binding_of_layer(attributes.get("metadata")), _role(attributes)
        if binding is not None and role and role["kind"] not in ATOM_LAYERS:
            analysis = binding.state.analysis(role["image"])
            if analysis is not None:
                micrograph = analysis.micrograph
                return write_outlines(
                    path,
                    analysis.table,
                    analysis.outlines,
                    micrograph.shape,
                    micrograph.pixel_size_nm,
                )
    raise AtomicityError(
        "these layers have no outlines",
        path,
        "Select the layer with the clusters or the outlines of an image",
    )


def _write_table(path: str, data: np.ndarray, attributes: dict[str, Any]) -> Path:
    """Write the whole table of the window for a layer of ours, and any other layer as it is."""
    binding, role = binding_of_layer(attributes.get("metadata")), _role(attributes)
    if binding is not None and role:
        state, image = binding.state, role["image"]
        if role["kind"] in ATOM_LAYERS:
            return write_table(state.atoms.table(image), path)
        return write_clusters(state.table(image), path, groups=state.group_names())
    return write_table(_points_table(data, attributes), path)


def _points_table(data: np.ndarray, attributes: dict[str, Any]) -> pd.DataFrame:
    """Return the positions of points in px and, if they are calibrated, in nm, and features."""
    places = np.asarray(data, float).reshape(len(data), -1)
    size_nm = pixel_size_of_axes(attributes.get("scale", ()), attributes.get("units", ()))
    columns = {"y_px": places[:, -2], "x_px": places[:, -1]}
    if places.shape[1] > 2:
        columns = {"frame": places[:, -3].round().astype(int), **columns}
    if size_nm is not None:
        columns |= {"y_nm": places[:, -2] * size_nm, "x_nm": places[:, -1] * size_nm}
    features = pd.DataFrame(attributes.get("features", {})).reset_index(drop=True)
    features = features.drop(columns=[name for name in columns if name in features])
    return pd.concat([pd.DataFrame(columns), features], axis=1)


def _role(attributes: dict[str, Any]) -> dict[str, Any]:
    return attributes.get("metadata", {}).get(ROLE, {})
