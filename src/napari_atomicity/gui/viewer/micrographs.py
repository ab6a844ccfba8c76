"""Micrographs in Image layers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ...core.errors import AtomicityError
from ...core.micrograph import Micrograph
from ...io.images import load
from . import calibration
from .layer_group import ROLE

logger = logging.getLogger(__name__)


def why_not(layer: Any) -> str:
    """Return why a layer cannot hold a micrograph; "" if it can."""
    name = layer.name
    if isinstance(layer, Labels):
        return f"{name} is a Labels layer: a micrograph is an Image layer."
    if not isinstance(layer, Image):
        return f"{name} is not an image."
    if ROLE in layer.metadata:
        return f"{name} is derived from a micrograph."
    if layer.rgb:
        return f"{name} is a colour image, not the signal of a detector: open the greyscale file."
    if layer.multiscale:
        return f"{name} has several resolutions: open the file as one image in full resolution."
    if layer.ndim not in (2, 3):
        return f"{name} has {layer.ndim} dimensions: an image or a stack of frames is needed."
    if np.issubdtype(layer.dtype, np.complexfloating):
        return f"{name} is complex: intensities are needed."
    return ""


def is_micrograph(layer: Any) -> bool:
    """Return whether a layer may hold a micrograph: grey, real, two or three axes."""
    return not why_not(layer)


def micrograph_of(layer: Image, name: str) -> Micrograph:
    """Return the micrograph that an Image layer holds.

    Raises `UnsuitableImageError` if the layer holds none.
    """
    known = layer.metadata.get("atomicity", {})
    path = known.get("path") or layer.source.path
    return Micrograph(
        layer.data[0] if layer.multiscale else layer.data,
        calibration.pixel_size_nm(layer),
        name=name,
        path=None if path is None else Path(path),
        sha256=known.get("sha256"),
        metadata=known,
    )


def same(a: Micrograph, b: Micrograph | None) -> bool:
    """Return whether two micrographs have the same pixels and pixel size."""
    return (
        b is not None
        and a.pixel_size_nm == b.pixel_size_nm
        and a.shape == b.shape
        and (
            a.data is b.data or (not a.is_large and np.array_equal(a.data, b.data, equal_nan=True))
        )
    )


def size_in_file_nm(path: str, shape: tuple[int, ...]) -> float | None:
    """Return the pixel size in nm that a file gives; napari ignores it in TIFF and PNG files."""
    try:
        found = load(path)
    except AtomicityError as error:
        logger.info("no pixel size from %s: %s", path, error)
        return None
    return found.pixel_size_nm if found.shape_px == shape else None
