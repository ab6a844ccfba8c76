"""Images in memory as `Micrograph`: arrays, HyperSpy signals and xarray objects.

HyperSpy and xarray are recognised by their attributes and never imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import UnsuitableImageError
from ...core.micrograph import GIVEN, LARGE_PIXELS, Micrograph
from . import microscope
from .raw_image import RawImage, known_entries
from .units import (
    AxisScale,
    nm_per,
    pixel_size_nm as pixel_size_of,
    scale_without_unit,
    seconds as seconds_of,
)

MAX_UNEVENNESS = 0.01
"""Maximum relative deviation of the steps of a coordinate from their mean."""
COLOUR_CHANNELS = (3, 4)


def is_signal(source: Any) -> bool:
    """Return whether an object is a HyperSpy signal."""
    return all(hasattr(source, name) for name in ("axes_manager", "data", "metadata"))


def is_data_array(source: Any) -> bool:
    """Return whether an object is an `xarray.DataArray`."""
    return all(hasattr(source, name) for name in ("dims", "coords", "attrs", "transpose", "values"))


def is_array(source: Any) -> bool:
    """Return whether an object is an array of images, of any library."""
    return is_signal(source) or all(hasattr(source, name) for name in ("shape", "dtype"))


def micrograph_of(
    source: Any, pixel_size_nm: float | None = None, *, name: str | None = None
) -> Micrograph:
    """Make a micrograph of an image in memory.

    Parameters
    ----------
    source : Micrograph, HyperSpy signal, xarray.DataArray, or array-like
        Image of shape (Y, X) or stack of frames (T, Y, X). HyperSpy signals and xarray objects
        have their own axes and units. Masked pixels become NaN.
    pixel_size_nm : float, optional
        Edge length of a pixel in nm; overrides the calibration of the object.
    name : str, optional
        Name of the image in tables and layers. Default: the title or name of the object, or
        "image".

    Returns
    -------
    Micrograph
        ``metadata["calibration"]`` names the origin of the pixel size.

    Raises
    ------
    UnsuitableImageError
        If the object contains no greyscale image in real space with square pixels.
    CalibrationError
        If the pixel size is not plausible.
    """
    if isinstance(source, Micrograph):
        sized = source if pixel_size_nm is None else source.with_pixel_size(pixel_size_nm)
        return sized if name is None or name == sized.name else sized.with_name(name)
    if is_signal(source):
        found, title = _read_signal(source, name)
    elif is_data_array(source):
        found, title = _read_data_array(source, name)
    else:
        title = name or "image"
        found = RawImage(_pixels_of(source, title))
    found_nm = _pixel_size_of(found, title)
    metadata = dict(found.metadata)
    if pixel_size_nm is not None:
        metadata["calibration"] = GIVEN
    else:
        metadata["calibration"] = "none" if found_nm is None else found.calibration
        metadata |= scale_without_unit(found.x)
    size = found_nm if pixel_size_nm is None else pixel_size_nm
    return Micrograph(found.data, size, name=title, metadata=metadata)


def _pixel_size_of(found: RawImage, name: str) -> float | None:
    try:
        return pixel_size_of(found.y, found.x)
    except UnsuitableImageError as error:
        raise UnsuitableImageError(error.what, name, error.advice) from None


def _pixels_of(source: Any, name: str) -> Any:
    """Return the pixels of an array; data that can be read in parts stay as they are.

    Raises `UnsuitableImageError` if these are no numbers, or the pixels have colours.
    """
    if isinstance(source, np.ma.MaskedArray):
        source = np.ma.filled(source.astype(np.float32), np.nan)
    if hasattr(source, "detach"):  # a tensor of torch
        source = source.detach().cpu().numpy()
    if not all(hasattr(source, one) for one in ("shape", "dtype", "__getitem__")):
        try:
            source = np.asarray(source)
        except ValueError:  # nested lists of different lengths
            raise UnsuitableImageError(
                "the rows of the image differ in length", name, "An array (Y, X) is needed"
            ) from None
    if np.dtype(source.dtype).kind not in "biufc":
        raise UnsuitableImageError(
            f"values of the type {source.dtype} are no intensities",
            name,
            "A path, or an array of numbers of shape (Y, X) or (T, Y, X) is needed",
        )
    shape = source.shape
    if len(shape) == 3 and shape[-1] in COLOUR_CHANNELS and min(shape[:2]) > max(COLOUR_CHANNELS):
        raise UnsuitableImageError(
            f"an array of shape {tuple(shape)} is in colour", name, "Pass one channel, [..., 0]"
        )
    return source


# ---- HyperSpy
def _read_signal(signal: Any, name: str | None) -> tuple[RawImage, str]:
    """Read a HyperSpy signal as the files of HyperSpy are read."""
    manager = signal.axes_manager
    in_order = sorted(
        [*manager.navigation_axes, *manager.signal_axes], key=lambda axis: axis.index_in_array
    )
    navigation = {axis.index_in_array for axis in manager.navigation_axes}
    metadata = signal.metadata.as_dictionary()
    title = name or str(metadata.get("General", {}).get("title") or "image")
    found = microscope.image_of_signals(
        [
            {
                "data": signal.data,
                "axes": [_signal_axis(axis, navigation) for axis in in_order],
                "metadata": metadata,
            }
        ],
        Path(title),
    )
    calibration = "" if found.x is None else f"HyperSpy axes ({found.x.unit})"
    data = _pixels_of(found.data, title)
    return RawImage(data, found.y, found.x, calibration, found.metadata), title


def _signal_axis(axis: Any, navigation: set[int]) -> dict[str, Any]:
    # An undefined name or unit is an object of a class of its own.
    units, name = ("" if not isinstance(x, str) else x for x in (axis.units, axis.name))
    return {
        "name": name,
        "scale": getattr(axis, "scale", 0.0),  # axes with uneven steps have none
        "units": units,
        "navigate": axis.index_in_array in navigation,
    }


# ---- xarray
def _read_data_array(array: Any, name: str | None) -> tuple[RawImage, str]:
    """Read an `xarray.DataArray`: its last dimensions, or those called y and x, are the image."""
    title = name or str(array.name or "image")
    named = {str(dimension).lower(): dimension for dimension in array.dims}
    dimensions = list(array.dims)
    if "y" in named and "x" in named:
        image = [named["y"], named["x"]]
        dimensions = [d for d in dimensions if d not in image] + image
        array = array.transpose(*dimensions)
    # The pixels of large objects are not read here.
    large = int(np.prod(array.shape)) > LARGE_PIXELS
    data = _pixels_of(array.data if large else array.values, title)
    y = x = None
    metadata: dict[str, Any] = {}
    if len(dimensions) >= 2:
        y, x = (_coordinate_scale(array, dimension, title) for dimension in dimensions[-2:])
    if len(dimensions) == 3:
        frames = _coordinate_scale(array, dimensions[0], title, even=False)
        if frames is not None:
            metadata = known_entries(frame_time_s=seconds_of(frames.value, frames.unit))
    unit = "" if x is None else x.unit
    return RawImage(data, y, x, f"coordinates ({unit})", metadata), title


def _coordinate_scale(array: Any, dimension: Any, name: str, even: bool = True) -> AxisScale | None:
    """Return the step and unit of the coordinate of a dimension; None without one.

    Raises `UnsuitableImageError` if a length has uneven steps.
    """
    if dimension not in array.coords:
        return None
    coordinate = array.coords[dimension]
    attributes: Mapping[str, Any] = coordinate.attrs
    unit = str(attributes.get("units", attributes.get("unit", "")))
    values = np.asarray(coordinate.values)
    if values.dtype.kind not in "iuf" or len(values) < 2:
        return None
    steps = np.diff(values.astype(float))
    step = float(np.mean(steps))
    if even and nm_per(unit) and np.abs(steps - step).max() > MAX_UNEVENNESS * abs(step):
        raise UnsuitableImageError(
            f"the coordinate {dimension} has uneven steps",
            name,
            "Resample the image to square pixels",
        )
    return AxisScale(step, unit)


def unique_image_names(names: Sequence[str]) -> list[str]:
    """Return names that occur once each: later ones get a number.

    Examples
    --------
    >>> unique_image_names(["image", "image", "a.tif"])
    ['image', 'image (2)', 'a.tif']
    """
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name} ({number})"
        found.append(unique)
    return found
