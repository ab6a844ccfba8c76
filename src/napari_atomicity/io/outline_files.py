"""Write the outlines of clusters for other programs: ImageJ ROIs, GeoJSON and label images.

In this package the centre of the top-left pixel is (0, 0). In ImageJ, Fiji and QuPath its corner
is: ROIs and GeoJSON have coordinates that are larger by half a pixel.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import palette
from ..core.errors import AtomicityError
from ..core.tables import cluster_table as tables
from .files import RESULT, atomic_write, plain, write_text

_CORNER_PX = 0.5
"""Coordinate of the centre of the top-left pixel in programs that count from its corner."""
_MAX_UINT16 = np.iinfo(np.uint16).max


def write_outlines(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],
    shape: tuple[int, ...],
    pixel_size_nm: float | None = None,
) -> Path:
    """Write the outlines of the clusters of one image, in the format of the suffix.

    Parameters
    ----------
    path : path-like
        ``.zip`` for ImageJ ROIs, ``.geojson`` for GeoJSON, ``.tif`` or ``.tiff`` for a label
        image.
    outlines : sequence of ndarray
        N polygons, each (M, 2) in pixels (y, x).
    shape : tuple of int
        Shape (Y, X) or (T, Y, X) of the image.
    pixel_size_nm : float, optional
        Pixel size of the image in nm.

    Raises
    ------
    AtomicityError
        If the suffix is not one of these, there are no outlines, or the file can not be written.
    """
    path = Path(path)
    write = OUTLINE_WRITERS.get(path.suffix.lower())
    if write is None:
        raise AtomicityError(
            f"outlines can't be {path.suffix or 'files without suffix'}",
            path,
            f"Use one of {', '.join(OUTLINE_WRITERS)}",
        )
    if not len(table):
        raise AtomicityError("there are no outlines to write", path, "Analyse the image first")
    return write(path, table, outlines, shape, pixel_size_nm)


def write_imagej_rois(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
    pixel_size_nm: float | None = None,  # not stored in this format
) -> Path:
    """Write outlines as a ZIP file of ROIs, which the ROI Manager of ImageJ and Fiji opens.

    ROIs are named ``<cluster_id> <label>``, have the colour of the label and, in a stack, the
    number of their frame.
    """
    from roifile import ImagejRoi, roiwrite

    path, is_stack = Path(path), len(shape) == 3
    rgb_of = _label_colours(table)
    rois = []
    for cluster_id, label, frame, polygon in _clusters(table, outlines):
        name = f"{cluster_id:05d} {plain_name(label)}".strip()
        position = frame if is_stack else None
        roi = ImagejRoi.frompoints(_corner_xy(polygon), name=name, position=position)
        roi.stroke_color = b"\xff" + rgb_of(label)
        rois.append(roi)
    with atomic_write(path) as temporary:
        roiwrite(temporary, rois, mode="w")
    return path


def _label_colours(table: pd.DataFrame) -> Callable[[str], bytes]:
    """Return a function from a label of the table to its colour: red, green and blue."""
    colours = palette.colours(tables.classes_of(table))
    return lambda label: bytes.fromhex(colours.get(label, palette.UNKNOWN_COLOUR)[1:])


def write_geojson(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
    pixel_size_nm: float | None = None,  # length of a pixel in nm, for the properties
) -> Path:
    """Write outlines as GeoJSON polygons in pixels, with the columns of the table as properties.

    QuPath opens the file and shows the labels as classifications.
    """
    rgb_of = _label_colours(table)
    records = table.to_dict("records")
    features = []
    for record, (_, label, _, polygon) in zip(records, _clusters(table, outlines), strict=True):
        properties = {
            "objectType": "annotation",
            "classification": {"name": label or "unlabelled", "color": list(rgb_of(label))},
            **record,
        }
        ring = _corner_xy(polygon).tolist()
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": properties,
            }
        )
    collection: dict[str, Any] = {
        "type": "FeatureCollection",
        "unit": "pixel",
        "origin": "corner of the top-left pixel",
        "pixel_size_nm": pixel_size_nm,
        "features": features,
    }
    # One line: indented coordinates would be four times as long.
    return write_text(path, json.dumps(plain(collection), ensure_ascii=False) + "\n")


def write_label_image(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
    # Length of a pixel in nm, for the resolution of the TIFF file
    pixel_size_nm: float | None = None,
) -> Path:
    """Write a TIFF label image: each pixel has the ``cluster_id`` of its cluster, or 0.

    The type is uint16, or uint32 if an id is larger than 65,535.
    """
    return write_labels(path, label_image(table, outlines, shape), pixel_size_nm)


def label_image(
    table: pd.DataFrame,
    outlines: Sequence[np.ndarray],  # N polygons, each (M, 2) in pixels (y, x)
    shape: tuple[int, ...],  # (Y, X) or (T, Y, X) of the image
) -> np.ndarray:  # the ``cluster_id`` of each pixel, 0 outside all clusters
    """Return the clusters as a label image; a pixel is in a cluster if its centre is inside."""
    from skimage.draw import polygon as pixels_inside

    largest = int(table["cluster_id"].max()) if len(table) else 0
    labels = np.zeros(shape, np.uint16 if largest <= _MAX_UINT16 else np.uint32)
    frames = labels.reshape(-1, *shape[-2:])
    for cluster_id, _, frame, polygon in _clusters(table, outlines):
        y_px, x_px = polygon.T
        frames[frame][pixels_inside(y_px, x_px, shape=shape[-2:])] = cluster_id
    return labels


def write_labels(
    path: str | os.PathLike[str],
    labels: np.ndarray,  # (Y, X) or (T, Y, X): integers of at least 0
    pixel_size_nm: float | None = None,
) -> Path:  # the file: an ImageJ TIFF of uint16, or an OME-TIFF of uint32 if a label is larger
    """Write a label image as TIFF with the pixel size in nm.

    Raises `AtomicityError` if the file can not be written.
    """
    from tifffile import imwrite

    path, axes = Path(path), "TYX"[-labels.ndim :]
    is_small = labels.max(initial=0) <= _MAX_UINT16
    options: dict[str, Any] = {"metadata": {"axes": axes}, "software": RESULT}
    if pixel_size_nm is not None and is_small:
        options["resolution"] = (1 / pixel_size_nm, 1 / pixel_size_nm)
        options["metadata"]["unit"] = "nm"
    elif pixel_size_nm is not None:
        for axis in "XY":
            options["metadata"] |= {f"PhysicalSize{axis}": pixel_size_nm}
            options["metadata"] |= {f"PhysicalSize{axis}Unit": "nm"}
    kind = np.uint16 if is_small else np.uint32
    with atomic_write(path) as temporary:
        # ImageJ has no images of uint32.
        imwrite(temporary, labels.astype(kind), imagej=is_small, ome=not is_small, **options)
    return path


OUTLINE_WRITERS: dict[str, Callable[..., Path]] = {
    ".zip": write_imagej_rois,
    ".geojson": write_geojson,
    ".tif": write_label_image,
    ".tiff": write_label_image,
}
"""Formats of outlines by suffix."""


def _clusters(
    table: pd.DataFrame, outlines: Sequence[np.ndarray]
) -> Iterator[tuple[int, str, int, np.ndarray]]:
    """Yield id, label, frame and outline of each cluster."""
    columns = (table["cluster_id"].tolist(), table["label"].tolist(), table["frame"].tolist())
    for cluster_id, label, frame, outline in zip(*columns, outlines, strict=True):
        polygon = np.asarray(outline, float).reshape(-1, 2)
        is_closed = len(polygon) > 1 and (polygon[0] == polygon[-1]).all()
        yield int(cluster_id), str(label), int(frame), polygon[:-1] if is_closed else polygon


def _corner_xy(polygon: np.ndarray) -> np.ndarray:
    """Return a polygon (M, 2) as (x, y) relative to the corner of the top-left pixel."""
    return polygon[:, ::-1] + _CORNER_PX


def plain_name(label: str) -> str:
    """Return a label without characters that are no part of a file name."""
    return re.sub(r"[^\w .+-]", "_", label)[:60]
