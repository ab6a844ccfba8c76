"""Micrographs in Image layers: which layers hold one, why others do not, and what it is."""

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
    """Why a layer can't hold a micrograph, as a sentence; "" if it can."""
    name = layer.name
    if isinstance(layer, Labels):
        return f"{name} is a Labels layer: a micrograph is an Image layer."
    if not isinstance(layer, Image):
        return f"{name} is no image."
    if ROLE in layer.metadata:
        return f"{name} was made from a micrograph."
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
    """Whether a layer may hold a micrograph: grey, real, two or three axes, not made by us."""
    return not why_not(layer)


def micrograph_of(layer: Image, name: str) -> Micrograph:
    """The micrograph that an Image layer holds.

    Raises
    ------
    UnsuitableImageError
        If it holds none.
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
    """Whether two micrographs have the same pixels of the same size."""
    return (
        b is not None
        and a.pixel_size_nm == b.pixel_size_nm
        and a.shape == b.shape
        and (
            a.data is b.data or (not a.is_large and np.array_equal(a.data, b.data, equal_nan=True))
        )
    )


def size_in_file_nm(path: str, shape: tuple[int, ...]) -> float | None:
    """Return the pixel size in nm that a file gives; napari ignores it in TIFF and PNG files.

    Parameters
    ----------
    path : str
        Image file.
    shape : tuple of int
        Shape (Y, X) of the image.

    Returns
    -------
    float or None
        None if the file gives none, cannot be read, or holds an image of another shape.
    """
    try:
        found = load(path)
    except AtomicityError as error:
        logger.info("no pixel size from %s: %s", path, error)
        return None
    return found.pixel_size_nm if found.shape_px == shape else None
