"""PNG, NumPy arrays and MRC."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ..core.errors import ReadError, UnsuitableImageError
from .lazy import check_declared_size, is_large
from .raw_image import RawImage, known_entries
from .units import AxisScale

_MAX_DEFLATE_RATIO = 1032
"""Maximum ratio of decoded to encoded bytes in a PNG file."""
_MRC_HEADER_BYTES = 1024
GREY = "Save it as an 8- or 16-bit greyscale image without overlays or scale bar"


def read_png(path: Path) -> RawImage:
    """Read a greyscale PNG file of any bit depth; the format has no pixel size in nm."""
    import imagecodecs

    encoded = path.read_bytes()
    _check_png_size(encoded, path)
    data = imagecodecs.png_decode(encoded)
    if data.ndim == 3 and data.shape[2] == 2:  # grey with transparency
        if (data[..., 1] != np.iinfo(data.dtype).max).any():
            raise UnsuitableImageError("the image is partly transparent", path, GREY)
        data = data[..., 0]
    if data.ndim != 2:
        raise UnsuitableImageError("the image is in colour", path, GREY)
    return RawImage(data)


def _check_png_size(encoded: bytes, path: Path) -> None:
    """Check that the size in the header is possible, before memory is allocated for it.

    Raises
    ------
    ReadError
        If the image would be larger than the memory, or than its data can be.
    """
    if encoded[12:16] != b"IHDR" or len(encoded) < 26:
        return  # the decoder refuses it
    width, height, depth = struct.unpack(">IIB", encoded[16:25])
    check_declared_size((height, width), path)
    if height * width * depth // 8 > _MAX_DEFLATE_RATIO * len(encoded):
        raise ReadError(
            f"its header declares {height} × {width} pixels, more than the file contains",
            path,
            "The file is damaged or incomplete: copy or export it again",
        )


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


def _check_mrc_header(path: Path) -> None:
    """Check that the file contains the extended header that it declares, which is read at once.

    Raises
    ------
    ReadError
        If it does not.
    """
    with path.open("rb") as file:
        header = file.read(_MRC_HEADER_BYTES)
    if len(header) < _MRC_HEADER_BYTES:
        return  # the library refuses it
    lengths = [abs(struct.unpack_from(order, header, 92)[0]) for order in ("<i", ">i")]
    if min(lengths) > path.stat().st_size:
        raise ReadError(
            "its extended header is longer than the file",
            path,
            "The file is damaged or incomplete: copy or export it again",
        )


def read_mrc(path: Path) -> RawImage:
    """Read an image or a stack in MRC2014 format."""
    import mrcfile

    _check_mrc_header(path)
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
