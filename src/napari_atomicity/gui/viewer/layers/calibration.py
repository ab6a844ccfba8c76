"""Pixel sizes of layers in nm, from the scale and the unit of each axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pint

from ....core.micrograph import MAX_PIXEL_NM, MIN_PIXEL_NM

# As in reading files: beyond this x and y differ by more than rounding.
_SQUARE_TOLERANCE = 1e-3


@lru_cache(maxsize=64)
def _nm_per(unit: pint.Unit) -> float | None:
    """Return the length of a unit in nm; None if it is not a length."""
    registry = pint.get_application_registry()
    try:
        return float(registry.Quantity(1.0, unit).to("nanometer").magnitude)
    except pint.DimensionalityError:
        return None


def pixel_size_nm(layer: Any) -> float | None:
    """Return the pixel size in nm, from the layer's scale and units.

    None if the units are pixels (whatever the scale), if x and y differ, or
    if the size is not plausible.
    """
    return pixel_size_of_axes(layer.scale, layer.units)


def pixel_size_of_axes(scales: Sequence[float], units: Sequence[Any]) -> float | None:
    """Return the pixel size in nm from scale and unit of each axis; None as `pixel_size_nm`."""
    sizes = []
    for scale, unit in zip(scales[-2:], units[-2:], strict=True):
        nm = _nm_per(pint.get_application_registry().Unit(unit))
        if nm is None:
            return None
        sizes.append(abs(float(scale)) * nm)
    if len(sizes) < 2:
        return None
    size = float(np.mean(sizes))
    if not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:
        return None
    return size if np.ptp(sizes) <= _SQUARE_TOLERANCE * size else None


def suggested_nm(layer: Any) -> float | None:
    """Return a scale without a unit that may be in nm; None if there is none."""
    scale = float(layer.scale[-1])
    plausible = MIN_PIXEL_NM <= scale <= MAX_PIXEL_NM and scale != 1.0
    return scale if plausible and pixel_size_nm(layer) is None else None


def calibrate(layer: Any, size_nm: float | None) -> None:
    """Write a pixel size to a layer, in pixels if None; other axes (frames) stay as they are."""
    scale = np.array(layer.scale, float)
    units = list(layer.units)
    scale[-2:] = size_nm or 1.0
    units[-2:] = ["nm" if size_nm else "pixel"] * 2
    layer.units = tuple(str(u) for u in units)
    layer.scale = scale


def placement(layer: Any) -> dict[str, Any]:
    """Return the transform and units that align another layer with this one."""
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine.affine_matrix,
        "units": tuple(str(u) for u in layer.units),
        "axis_labels": tuple(layer.axis_labels),
    }


def place(layer: Any, options: dict[str, Any]) -> None:
    """Give an Image layer the scale and units of another micrograph, at the origin."""
    wanted = {
        "units": options.get("units", ("pixel",) * layer.ndim),
        "scale": np.asarray(options.get("scale", (1.0,) * layer.ndim), float),
        "translate": np.zeros(layer.ndim),
    }
    now = placement(layer)
    for name, value in wanted.items():
        if not np.array_equal(now[name], value):
            setattr(layer, name, value)
