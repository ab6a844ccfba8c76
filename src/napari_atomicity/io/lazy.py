"""Large images that stay in their files: memory maps and zarr arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import ReadError
from ..core.micrograph import LARGE_PIXELS
from .raw_image import RawImage
from .units import AxisScale

if TYPE_CHECKING:
    from tifffile import TiffPageSeries


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether data of this shape are too large to be loaded into memory."""
    return math.prod(shape) > LARGE_PIXELS


def tiff_pixels(series: TiffPageSeries, number: int, path: Path) -> Any:
    """Return the pixels of a series of a TIFF file without loading them.

    Parameters
    ----------
    series : tifffile.TiffPageSeries
        The series.
    number : int
        Its index in the file.
    path : pathlib.Path
        The file.

    Returns
    -------
    numpy.memmap or zarr.Array
        A memory map if the pixels are contiguous, otherwise an array that decodes tiles or strips.
    """
    if series.dataoffset is not None and series.keyframe.compression == 1:
        dtype = np.dtype(series.keyframe.parent.byteorder + series.dtype.char)
        return np.memmap(path, dtype, "r", series.dataoffset, tuple(series.shape))
    import zarr
    from tifffile import imread

    # With a separate file handle: that of the series is closed after reading the metadata.
    store = imread(path, aszarr=True, series=number, level=0)
    return zarr.open(store, mode="r")


def inverted(data: Any) -> Any:
    """Return the inverted image, computed when it is read."""
    import dask.array as da

    values = da.from_array(data)
    return ~values if data.dtype.kind == "b" else np.iinfo(data.dtype).max - values


def as_numbers(data: Any) -> Any:
    """Return boolean data as 0 and 1; other data are unchanged."""
    if np.dtype(data.dtype).kind != "b":
        return data
    if isinstance(data, np.ndarray):
        return data.view(np.uint8)
    import dask.array as da

    return da.asarray(data).astype(np.uint8)


def without_axes(data: Any, axes: tuple[int, ...]) -> Any:
    """Remove axes of length one."""
    if isinstance(data, np.ndarray):
        return np.squeeze(data, axis=axes)
    if not axes:
        return data
    import dask.array as da

    return da.squeeze(da.from_array(data), axis=axes)


def read_zarr(path: Path) -> RawImage:
    """Read a zarr array, or the finest image of an OME-Zarr group (NGFF 0.4 and 0.5)."""
    import zarr

    found: Any = zarr.open(str(path), mode="r")
    if isinstance(found, zarr.Array):
        return RawImage(found)
    attributes = dict(found.attrs)
    images = attributes.get("ome", attributes).get("multiscales")
    if not images:
        arrays = [array for _, array in found.arrays()]
        if len(arrays) != 1:
            raise ReadError(
                f"the group contains {len(arrays)} arrays without OME-Zarr metadata",
                path,
                "Select the array itself, or save it as OME-Zarr",
            )
        return RawImage(arrays[0])
    finest = images[0]["datasets"][0]
    steps = [t["scale"] for t in finest.get("coordinateTransformations", []) if "scale" in t]
    units = [axis.get("unit", "") for axis in images[0].get("axes", [])]
    if not steps or len(units) < 2:
        return RawImage(found[finest["path"]])
    y, x = (AxisScale(float(steps[0][i]), units[i]) for i in (-2, -1))
    return RawImage(found[finest["path"]], y, x, f"OME-Zarr ({units[-1]})")
