"""Large images stay in their file: memory maps, zarr arrays, and what is asked of them."""

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
    """Whether data of this shape are better left where they are."""
    return math.prod(shape) > LARGE_PIXELS


def tiff_pixels(series: TiffPageSeries, number: int, path: Path) -> Any:
    """Pixels of a series of a TIFF, the ``number``-th: a memory map where they lie in one piece,
    else a zarr array that decodes the tiles or strips it is asked for."""
    if series.dataoffset is not None and series.keyframe.compression == 1:
        dtype = np.dtype(series.keyframe.parent.byteorder + series.dtype.char)
        return np.memmap(path, dtype, "r", series.dataoffset, tuple(series.shape))
    import zarr
    from tifffile import imread

    # A handle of its own: the file is closed when its metadata have been read.
    store = imread(path, aszarr=True, series=number, level=0)
    return zarr.open(store, mode="r")


def inverted(data: Any) -> Any:
    """White for black, as it is read."""
    import dask.array as da

    values = da.from_array(data)
    return ~values if data.dtype.kind == "b" else np.iinfo(data.dtype).max - values


def as_numbers(data: Any) -> Any:
    """Truth values as 0 and 1, with which can be calculated; anything else as it is."""
    if np.dtype(data.dtype).kind != "b":
        return data
    if isinstance(data, np.ndarray):
        return data.view(np.uint8)
    import dask.array as da

    return da.asarray(data).astype(np.uint8)


def without_axes(data: Any, axes: tuple[int, ...]) -> Any:
    """Without axes of length one."""
    if isinstance(data, np.ndarray):
        return np.squeeze(data, axis=axes)
    if not axes:
        return data
    import dask.array as da

    return da.squeeze(da.from_array(data), axis=axes)


def read_zarr(path: Path) -> RawImage:
    """A zarr array, or the finest image of an OME-Zarr group (NGFF 0.4 and 0.5)."""
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
                f"the group holds {len(arrays)} arrays and does not say which is the image",
                path,
                "Give the array itself, or save it as OME-Zarr",
            )
        return RawImage(arrays[0])
    finest = images[0]["datasets"][0]
    steps = [t["scale"] for t in finest.get("coordinateTransformations", []) if "scale" in t]
    units = [axis.get("unit", "") for axis in images[0].get("axes", [])]
    if not steps or len(units) < 2:
        return RawImage(found[finest["path"]])
    y, x = (AxisScale(float(steps[0][i]), units[i]) for i in (-2, -1))
    return RawImage(found[finest["path"]], y, x, f"OME-Zarr ({units[-1]})")
