"""PNG, NumPy arrays and MRC."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.errors import ReadError, UnsuitableImageError
from .lazy import is_large
from .raw_image import RawImage, known_entries
from .units import AxisScale

GREY = "Save it as an 8- or 16-bit greyscale image without overlays or scale bar"


def read_png(path: Path) -> RawImage:
    """Read a greyscale PNG file of any bit depth; the format has no pixel size in nm."""
    import imagecodecs

    data = imagecodecs.png_decode(path.read_bytes())
    if data.ndim == 3 and data.shape[2] == 2:  # grey with transparency
        if (data[..., 1] != np.iinfo(data.dtype).max).any():
            raise UnsuitableImageError("the image is partly transparent", path, GREY)
        data = data[..., 0]
    if data.ndim != 2:
        raise UnsuitableImageError("the image is in colour", path, GREY)
    return RawImage(data)


def read_npy(path: Path) -> RawImage:
    """Read a NumPy array (Y, X) or (T, Y, X)."""
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ReadError("the file is not a NumPy array", path, "Write it with numpy.save")
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    data = data if is_large(data.shape) else np.array(data)
    if data.ndim == 3 and data.shape[-1] in (3, 4) and min(data.shape[:2]) > 4:
        raise UnsuitableImageError(f"an array of shape {data.shape} is in colour", path, GREY)
    return RawImage(data)


def read_mrc(path: Path) -> RawImage:
    """Read an image or a stack in MRC2014 format."""
    import mrcfile

    with mrcfile.mmap(path, "r", permissive=False) as file:
        data = file.data  # stays mapped after the file is closed
        data = np.asarray(data) if is_large(data.shape) else np.array(data)
        voxel = file.voxel_size
        label = b" ".join(file.header.label[: max(int(file.header.nlabl), 0)])
        size_y, size_x = float(voxel.y), float(voxel.x)
    # In MRC files zero means unknown; negative values are invalid.
    known = size_y > 0 and size_x > 0
    return RawImage(
        data,
        AxisScale(size_y, "Å") if known else None,
        AxisScale(size_x, "Å") if known else None,
        "MRC voxel size" if known else "",
        known_entries(title=label),
    )
