"""Large images that stay in their files: memory maps and zarr arrays."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import ReadError, UnsuitableImageError, require_extra
from ...core.micrograph import LARGE_PIXELS, MISSING_SHARE
from .raw_image import RawImage
from .read_limits import total_memory_bytes
from .units import AxisScale

if TYPE_CHECKING:
    from tifffile import TiffPageSeries

_MAX_COMPRESSION = 10_000
"""No compression makes a recorded image, which is noisy, smaller by this factor."""
_MAX_COUNTED_CHUNKS = 100_000  # more take seconds, and a damaged file states any number


def is_large(shape: tuple[int, ...]) -> bool:
    """Return whether data of this shape are too large to be loaded into memory."""
    return math.prod(shape) > LARGE_PIXELS


class EncodedPixels:
    """Pixels that are decoded when they are read; errors of the decoder become `ReadError`."""

    def __init__(
        self,
        array: Any,  # zarr.Array that decodes its tiles or strips
        path: Path,
    ) -> None:
        self._array, self._path = array, path
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks
        self.ndim, self.size = len(array.shape), math.prod(array.shape)

    def __getitem__(self, where: Any) -> np.ndarray:
        """Read and decode a part."""
        try:
            return np.asarray(self._array[where])
        except MemoryError:
            raise
        except Exception as error:  # decoders raise any exception for damaged files
            reason = f"{type(error).__name__}: {error}".strip().rstrip(".")
            raise ReadError(
                f"its pixels can't be decoded ({reason[:200]})",
                self._path,
                "The file may be damaged or incomplete: copy or export it again",
            ) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read everything."""
        return np.asarray(self[...], dtype)


def tiff_pixels(series: TiffPageSeries, number: int, path: Path) -> Any:
    """Return the pixels of a series of a TIFF file without loading them.

    The result is a memory map if the pixels are contiguous, otherwise an array that decodes tiles
    or strips.
    """
    if series.dataoffset is not None and series.keyframe.compression == 1:
        dtype = np.dtype(series.keyframe.parent.byteorder + series.dtype.char)
        return np.memmap(path, dtype, "r", series.dataoffset, tuple(series.shape))
    with require_extra("zarr", "reading large compressed TIFF files", path):
        import zarr
    from tifffile import imread

    # With a separate file handle: that of the series is closed after reading the metadata.
    store = imread(path, aszarr=True, series=number, level=0)
    return EncodedPixels(zarr.open(store, mode="r"), path)


def pixels_of(recording: RawImage, path: Path) -> Any:  # (Y, X) or (T, Y, X)
    """Return the pixels of an image without axes of length one before the last two.

    Raises `UnsuitableImageError` if the data are not numbers, and `ReadError` if one frame is
    larger than the memory, or the image is too large for its file.
    """
    data = recording.data
    if np.dtype(data.dtype).kind not in "biufc":
        raise UnsuitableImageError(
            f"the data are not numbers ({data.dtype})", path, "Export a greyscale image"
        )
    check_declared_size(data.shape[-2:], path)
    if is_large(data.shape):
        _check_file_size(math.prod(data.shape) * np.dtype(data.dtype).itemsize, path)
    single = tuple(i for i, n in enumerate(data.shape[:-2]) if n == 1)
    return as_numbers(without_axes(data, single))


def check_declared_size(
    shape: tuple[int, ...],  # shape of the frame
    path: Path,
) -> None:
    """Check that a frame of the size in the header fits into the memory of this computer.

    Raises `ReadError` if it does not.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    if size > total_memory_bytes():
        raise ReadError(
            f"its header declares {' × '.join(map(str, shape))} pixels ({size / 1e9:.3g} GB), more "
            "than the memory of this computer",
            path,
            "The file may be damaged: copy or export it again",
        )


def _check_file_size(size: int, path: Path) -> None:
    """Check that a file, or the files of a folder, can contain so many decoded bytes."""
    files = path.rglob("*") if path.is_dir() else [path]
    stored = sum(file.stat().st_size for file in files if file.is_file())
    if size > _MAX_COMPRESSION * stored:
        raise ReadError(
            f"its header declares {size / 1e9:.3g} GB of pixels, but it has only {stored} bytes",
            path,
            "The file is damaged or incomplete: copy or export it again",
        )


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
    with require_extra("zarr", "reading zarr files", path):
        import zarr

    found: Any = zarr.open(str(path), mode="r")
    if isinstance(found, zarr.Array):
        return _zarr_image(found, path)
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
        return _zarr_image(arrays[0], path)
    finest = images[0]["datasets"][0]
    image = _zarr_image(found[finest["path"]], path)
    steps = [t["scale"] for t in finest.get("coordinateTransformations", []) if "scale" in t]
    units = [axis.get("unit", "") for axis in images[0].get("axes", [])]
    if not steps or len(units) < 2:
        return image
    y, x = (AxisScale(float(steps[0][i]), units[i]) for i in (-2, -1))
    return replace(image, y=y, x=x, calibration=f"OME-Zarr ({units[-1]})")


def _zarr_image(array: Any, path: Path) -> RawImage:
    """Return an array as an image, with the share of its chunks that are not stored."""
    counted = 0 < array.nchunks <= _MAX_COUNTED_CHUNKS
    missing = 1 - array.nchunks_initialized / array.nchunks if counted else 0.0
    metadata = {MISSING_SHARE: missing} if missing > 0 else {}
    return RawImage(EncodedPixels(array, path), metadata=metadata)
