"""A micrograph as the data of a napari Image layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.micrograph import LARGE_PIXELS, Micrograph

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
