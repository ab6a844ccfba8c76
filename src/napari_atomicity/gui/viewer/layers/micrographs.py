"""Micrographs in Image layers."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ....core.errors import AtomicityError
from ....core.micrograph import AVERAGE_OF, LARGE_PIXELS, Micrograph
from ....io.images import load
from . import calibration
from .layer_group import ROLE

# ---- A micrograph as the data of a napari Image layer

LayerData = tuple[Any, dict[str, Any], str]


METADATA_KEY = "atomicity"
"""Key of ``layer.metadata`` for the origin of the image."""


_PARTS, _PART_PX = 5, 200  # along y and x, of a large image


def layer_data(micrograph: Micrograph, limits: tuple[float, float] | None = None) -> LayerData:
    """Return a micrograph as layer data of napari, with a scale in nm if it is known.

    ``limits`` are its `display_limits`, if they are known already.
    """
    stack = micrograph.is_stack
    size = micrograph.pixel_size_nm
    options: dict[str, Any] = {
        "name": micrograph.name,
        "axis_labels": ("frame", "y", "x") if stack else ("y", "x"),
        "contrast_limits": limits or display_limits(micrograph.data),
        "metadata": {
            METADATA_KEY: {
                "path": None if micrograph.path is None else str(micrograph.path),
                "sha256": micrograph.sha256,
                "pixel_size_nm": size,
                **micrograph.metadata,
            }
        },
    }
    if size is not None:
        options["scale"] = (1.0, size, size) if stack else (size, size)
        options["units"] = ("pixel", "nm", "nm") if stack else ("nm", "nm")
    return micrograph.data, options, "image"


def display_limits(data: Any) -> tuple[float, float]:
    """Return the contrast limits of an image, without the few brightest pixels."""
    if math.prod(data.shape) > LARGE_PIXELS:
        data = _some_of(data)
    sample = data.reshape(-1)[:: max(1, data.size // 1_000_000)]
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, (0.5, 99.9)) if len(sample) else (0.0, 1.0)
    return float(low), float(high if high > low else low + 1)


def _some_of(data: Any) -> np.ndarray:
    """Return a few parts of the first frame of an image that is too large to be read."""
    places = [np.linspace(0, max(0, n - _PART_PX), _PARTS).astype(int) for n in data.shape[-2:]]
    first = (0,) * (len(data.shape) - 2)
    return np.stack(
        [
            np.asarray(data[(*first, slice(y, y + _PART_PX), slice(x, x + _PART_PX))])
            for y in places[0]
            for x in places[1]
        ]
    )


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


def average_of(layer: Image) -> str | None:
    """Return the name of the movie whose frames an Image layer averages; None if it does not."""
    return layer.metadata.get(METADATA_KEY, {}).get(AVERAGE_OF)


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
