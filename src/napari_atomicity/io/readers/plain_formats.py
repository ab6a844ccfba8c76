"""PNG, NumPy arrays and archives, and MRC."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ...core.errors import ReadError, UnsuitableImageError, reason_of
from .lazy import check_declared_size, is_large
from .raw_image import RawImage, known_entries
from .units import AxisScale

_MAX_DEFLATE_RATIO = 1032
"""Maximum ratio of decoded to encoded bytes in a PNG file."""
_MRC_HEADER_BYTES = 1024
_MAX_LABEL_BYTES = 50_000_000
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

    Raises `ReadError` if the image would be larger than the memory, or than its data can be.
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
    """Read a NumPy array (Y, X) or (T, Y, X), also with a last axis of length one."""
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise ReadError("the file is not a NumPy array", path, "Write it with numpy.save")
    data = _without_channel_axis(np.load(path, mmap_mode="r", allow_pickle=False))
    data = data if is_large(data.shape) else np.array(data)
    if data.ndim == 3 and data.shape[-1] in (3, 4) and min(data.shape[:2]) > 4:
        raise UnsuitableImageError(f"an array of shape {data.shape} is in colour", path, GREY)
    return RawImage(data)


def _without_channel_axis(data: np.ndarray) -> np.ndarray:
    """Return (Y, X) or (T, Y, X) of an array with one channel in the last axis."""
    return data[..., 0] if data.ndim in (3, 4) and data.shape[-1] == 1 else data


def read_npz(path: Path) -> RawImage:
    """Read the image or the stack of a NumPy archive, as `read_npy`; other arrays are shorter."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    images = {name: array for name, array in arrays.items() if array.ndim >= 2}
    if len(images) != 1:
        names = ", ".join(images) or "none"
        raise UnsuitableImageError(
            f"it has {len(images)} arrays of two or more dimensions ({names})",
            path,
            "Save one image or one stack with numpy.savez",
        )
    return RawImage(_without_channel_axis(next(iter(images.values()))))


def read_npz_labels(path: Path) -> tuple[str, ...]:
    """Read the array of texts or whole numbers of a NumPy archive, such as labels of a stack.

    Raises `ReadError` if the file is damaged, or has several such arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            members = arrays.zip.infolist()
            short = [i.filename for i in members if i.file_size <= _MAX_LABEL_BYTES]
            found = [arrays[name.removesuffix(".npy")] for name in short]
    except Exception as error:  # damaged archives and arrays raise any exception
        raise ReadError(f"the archive can't be read ({reason_of(error)})", path) from error
    labels = [array for array in found if array.ndim == 1 and array.dtype.kind in "iuU"]
    if len(labels) > 1:
        raise ReadError(
            "it has several arrays that could be the labels",
            path,
            "Save one stack and one array of labels with numpy.savez",
        )
    return tuple(map(str, labels[0])) if labels else ()


def _check_mrc_header(path: Path) -> None:
    """Check that the file contains the extended header that it declares, which is read at once.

    Raises `ReadError` if it does not.
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
