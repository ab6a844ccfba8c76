"""Read images of any supported format as `Micrograph`."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from ..core.errors import AtomicityError, Cancelled, ReadError, UnsuitableImageError, reason_of
from ..core.micrograph import GIVEN, IN_FILE, Micrograph
from .files import check_files_in, is_result, is_result_folder, regular_file
from .readers import lazy, microscope, plain_formats as plain
from .readers.arrays import micrograph_of
from .readers.lazy import inverted, is_large, tiff_pixels
from .readers.plain_formats import GREY
from .readers.raw_image import RawImage, known_entries
from .readers.read_limits import read_limits
from .readers.reader_process import ForeignError, read_in_process, too_slow
from .readers.units import AxisScale, pixel_size_nm as pixel_size_of, scale_without_unit, seconds

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries


# ---- TIFF files, also of ImageJ, OME, Gatan, hyperspy, Thermo Fisher (FEI) and Zeiss

Scales = tuple[AxisScale, AxisScale]
"""Along y and x."""

_MINISWHITE, _MINISBLACK, _PALETTE = 0, 1, 3
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_COLOUR_MAP = 320
_X_UNIT, _Y_UNIT, _X_SCALE, _Y_SCALE = 65003, 65004, 65009, 65010
_NM_PER_PRINT_UNIT = {"inch": 2.54e7, "in": 2.54e7, "cm": 1e7}
_TAG_UNIT = {2: "inch", 3: "cm"}
# Resolutions in dots per inch refer to printing; finer ones are calibrations of a microscope.
_FINEST_PRINT_NM = 1000.0


def read_tiff(path: Path) -> RawImage:
    """Read an image or a stack of frames of any integer or float type."""
    from tifffile import TiffFile

    with TiffFile(path) as file:
        series = _first_image(file)
        page = series.keyframe
        _check_greyscale(page, path)
        _check_complete(file, series, path)
        data = _frames(series, list(file.series).index(series), path)
        metadata = _instrument(file)
        if page.photometric == _MINISWHITE and data.dtype.kind in "bu" and not file.is_imagej:
            # In files of ImageJ this inverts only the display.
            if is_large(data.shape):
                data = inverted(data)
            else:
                data = ~data if data.dtype.kind == "b" else np.iinfo(data.dtype).max - data
            metadata["inverted"] = "white was stored as zero"
        for name, find in CALIBRATIONS.items():
            scales = find(file, page)
            if scales is not None:
                return RawImage(data, *scales, f"{name} ({scales[1].unit})", metadata)
    return RawImage(data, metadata=metadata)


# ---- pixels
def _first_image(file: TiffFile) -> TiffPageSeries:
    """Return the first series that is not a thumbnail."""
    series = list(file.series)
    return next((s for s in series if not s.keyframe.is_reduced), series[0])


def _frames(series: TiffPageSeries, number: int, path: Path) -> Any:
    if sum(n > 1 for n in series.shape[:-2]) > 1:
        raise UnsuitableImageError(
            f"the file has {len(series.shape)} dimensions ({series.axes}, {series.shape})",
            path,
            "Save one image, or one stack of frames",
        )
    return (
        tiff_pixels(series, number, path)
        if is_large(series.shape)
        else np.asarray(series.asarray())
    )


def _check_greyscale(page: TiffPage, path: Path) -> None:
    grey = page.photometric in (_MINISWHITE, _MINISBLACK)
    if page.photometric == _PALETTE:
        # Gatan writes grey images with a grey palette: indices are intensities.
        palette = page.tags.valueof(_COLOUR_MAP)
        grey = palette is not None and bool((np.asarray(palette) == palette[0]).all())
    if not grey or page.samplesperpixel > 1:
        raise UnsuitableImageError("the image is in colour", path, GREY)


def _check_complete(file: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Check that no data are missing, which would be read as zeros or skipped."""
    handle = file.filehandle
    if series.dataoffset is not None:
        complete = series.dataoffset + series.nbytes <= handle.size
    else:
        complete = all(page is not None and _has_its_data(page, handle.size) for page in series)
    if not complete or not _chain_ends(file):
        raise ReadError(
            "the file is incomplete: it is damaged or was copied only in part",
            path,
            "Copy or export it again",
        )


def _has_its_data(page: Any, size: int) -> bool:
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    return len(segments) >= math.prod(page.keyframe.chunked) and all(
        offset + count <= size for offset, count in segments
    )


def _chain_ends(file: TiffFile) -> bool:
    """Return whether the list of pages ends with an end mark."""
    position = file.pages.next_page_offset
    if position is None:
        return True
    handle = file.filehandle
    handle.seek(position)
    raw = handle.read(file.tiff.offsetsize)
    return len(raw) == file.tiff.offsetsize and (struct.unpack(file.tiff.offsetformat, raw)[0] == 0)


# ---- calibration
def _ome(file: TiffFile, page: TiffPage) -> Scales | None:
    if not file.is_ome or file.ome_metadata is None:
        return None
    for element in ElementTree.fromstring(file.ome_metadata).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            x, y = element.get("PhysicalSizeX"), element.get("PhysicalSizeY")
            if x is None and y is None:
                return None
            unit_x = element.get("PhysicalSizeXUnit", "µm")
            unit_y = element.get("PhysicalSizeYUnit", "µm")
            if x is None or y is None:
                x, y = x or y, y or x
                unit_x = unit_y = unit_x if element.get("PhysicalSizeX") else unit_y
            return AxisScale(float(str(y)), unit_y), AxisScale(float(str(x)), unit_x)
    return None


def _gatan(file: TiffFile, page: TiffPage) -> Scales | None:
    """Read private tags of DigitalMicrograph, also written by hyperspy."""
    x, y = page.tags.valueof(_X_SCALE), page.tags.valueof(_Y_SCALE)
    unit_x, unit_y = page.tags.valueof(_X_UNIT), page.tags.valueof(_Y_UNIT)
    if x is None or y is None or not (unit_x and unit_y):
        return None
    return AxisScale(float(y), str(unit_y)), AxisScale(float(x), str(unit_x))


def _fei(file: TiffFile, page: TiffPage) -> Scales | None:
    metadata = (file.fei_metadata if file.is_fei else None) or {}
    for section in ("Scan", "EScan", "Image"):
        found = metadata.get(section, {})
        if found.get("PixelWidth") and found.get("PixelHeight"):
            return AxisScale(float(found["PixelHeight"]), "m"), AxisScale(
                float(found["PixelWidth"]), "m"
            )
    return None


def _zeiss(file: TiffFile, page: TiffPage) -> Scales | None:
    metadata = (file.sem_metadata if file.is_sem else None) or {}
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        entry = metadata.get(key)
        if entry is not None and len(entry) == 3:
            return (scale := AxisScale(float(entry[1]), str(entry[2]))), scale
    return None


def _imagej(file: TiffFile, page: TiffPage) -> Scales | None:
    """Read pixels per unit from the resolution tags, and the unit from the description."""
    if not file.is_imagej:
        return None
    metadata = file.imagej_metadata or {}
    unit = str(metadata.get("unit", ""))
    pixels = _resolution(page)
    if not unit or pixels is None:
        return None
    if unit.lower() in _NM_PER_PRINT_UNIT:
        return _finer_than_print(pixels, unit.lower())
    unit_y = str(metadata.get("yunit", unit))
    return AxisScale(1 / pixels[0], unit_y), AxisScale(1 / pixels[1], unit)


def _resolution_tags(file: TiffFile, page: TiffPage) -> Scales | None:
    pixels = _resolution(page)
    unit = _TAG_UNIT.get(int(page.tags.valueof(_RESOLUTION_UNIT, default=2)))
    if pixels is None or unit is None or (file.imagej_metadata or {}).get("unit"):
        return None
    return _finer_than_print(pixels, unit)


def _resolution(page: TiffPage) -> tuple[float, float] | None:
    """Return pixels per unit along y and x."""
    values = []
    for code in (_Y_RESOLUTION, _X_RESOLUTION):
        value = page.tags.valueof(code)
        if not isinstance(value, tuple) or len(value) != 2 or 0 in value:
            return None
        values.append(value[0] / value[1])
    return values[0], values[1]


def _finer_than_print(pixels: tuple[float, float], unit: str) -> Scales | None:
    y, x = (_NM_PER_PRINT_UNIT[unit] / value for value in pixels)
    if max(y, x) > _FINEST_PRINT_NM:
        return None
    return AxisScale(y, "nm"), AxisScale(x, "nm")


CALIBRATIONS: dict[str, Callable[[TiffFile, TiffPage], Scales | None]] = {
    "OME PhysicalSize": _ome,
    "Gatan tags": _gatan,
    "FEI metadata": _fei,
    "Zeiss metadata": _zeiss,
    "ImageJ unit": _imagej,
    "TIFF resolution": _resolution_tags,
}
"""Calibrations of a TIFF file in order of priority."""


# ---- instrument
def _instrument(file: TiffFile) -> dict[str, Any]:
    page = file.pages.first
    metadata = known_entries(
        software=page.tags.valueof("Software"),
        date=page.tags.valueof("DateTime"),
        instrument=page.tags.valueof("Model"),
    )
    if file.is_fei:
        fei = file.fei_metadata or {}
        volts = fei.get("Beam", {}).get("HV")
        dwell = fei.get("Scan", {}).get("Dwelltime")
        detector = fei.get("Detectors", {}).get("Name")
        metadata |= known_entries(
            instrument=fei.get("System", {}).get("SystemType"),
            voltage_kv=volts / 1e3 if isinstance(volts, (int, float)) else None,
            dwell_time_us=dwell * 1e6 if isinstance(dwell, (int, float)) else None,
            detector=detector,
            gain=fei.get(detector, {}).get("Contrast"),  # sets the gain of the photomultiplier
        )
    return metadata | known_entries(frame_time_s=_frame_time_s(file))


def _frame_time_s(file: TiffFile) -> float | None:
    """Return the time between frames in s from metadata of ImageJ or OME."""
    if file.is_imagej:
        # The entry "fps" is the display rate, not the recording rate.
        return seconds((file.imagej_metadata or {}).get("finterval"), "s")
    if file.is_ome and file.ome_metadata is not None:
        for element in ElementTree.fromstring(file.ome_metadata).iter():
            if element.tag.rpartition("}")[2] == "Pixels":
                return seconds(element.get("TimeIncrement"), element.get("TimeIncrementUnit", "s"))
    return None


_SLOW_DRIVE = 10_000_000
"""Bytes per second that a slow drive reads."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Reader:
    """A supported format."""

    name: str  # name for messages
    suffixes: tuple[str, ...]  # suffixes of its files, lower case with the dot
    read: Callable[[Path], RawImage]
    folder: bool = False
    # whether to read it in another process, which can be ended: for all formats that libraries of
    # others parse. Fuzzed files of the remaining ones were read or refused within 0.1 s
    own_process: bool = False


READERS: tuple[Reader, ...] = (
    Reader("TIFF", (".tif", ".tiff", ".btf"), read_tiff, own_process=True),
    Reader("PNG", (".png",), plain.read_png),
    Reader("NumPy", (".npy",), plain.read_npy),
    Reader("NumPy archive", (".npz",), plain.read_npz, own_process=True),
    Reader("MRC", (".mrc", ".mrcs"), plain.read_mrc),
    Reader("DigitalMicrograph", (".dm3", ".dm4"), microscope.read_dm, own_process=True),
    Reader("EMD", (".emd",), microscope.read_emd, own_process=True),
    Reader("TIA", (".ser", ".emi"), microscope.read_tia, own_process=True),
    Reader("hyperspy", (".hspy",), microscope.read_hspy, own_process=True),
    Reader("Panta Rhei", (".prz",), microscope.read_prz, own_process=True),
    Reader("Zarr", (".zarr",), lazy.read_zarr, folder=True, own_process=True),
)
"""All supported formats; a new format is a new entry."""


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of supported files, lower case with the dot."""
    return tuple(suffix for reader in READERS for suffix in reader.suffixes)


def reader_of(path: str | PathLike[str]) -> Reader | None:
    """Return the reader for the suffix of a file, None if there is none."""
    suffix = Path(path).suffix.lower()
    return next((reader for reader in READERS if suffix in reader.suffixes), None)


def is_image_folder(path: Path) -> bool:
    """Return whether this folder is one image, such as a zarr array."""
    reader = reader_of(path)
    return reader is not None and reader.folder and path.is_dir()


def load(
    path: Any,
    pixel_size_nm: float | None = None,
    *,
    name: str | None = None,
) -> Micrograph:
    """Read an image or a stack of frames.

    Parameters
    ----------
    path : path-like, or an image in memory
        File of a supported format; or an array, a HyperSpy signal, an `xarray.DataArray` or a
        `Micrograph`: see `arrays.micrograph_of`.
    pixel_size_nm : float, optional
        Edge length of a pixel in nm; overrides the calibration in the file.
    name : str, optional
        Name of the image in tables and layers; by default the name of the file.

    Returns
    -------
    Micrograph
        Shape (Y, X) or (T, Y, X), float32. Images with more than `micrograph.LARGE_PIXELS` pixels
        in TIFF, MRC, NumPy and zarr files are read in parts when they are needed.
        ``pixel_size_nm`` is None if neither the file nor the caller gives it;
        ``metadata["calibration"]`` names its origin.

    Raises
    ------
    ReadError
        If the file is missing, damaged, or of an unknown format, or exceeds the limits of time and
        memory (`read_limits.ReadLimits`).
    UnsuitableImageError
        If it contains no greyscale image in real space with square pixels.
    CalibrationError
        If the pixel size is not plausible.
    DependencyError
        If the format needs a package that is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> load(np.ones((64, 64)), pixel_size_nm=0.036).pixel_size_nm
    0.036
    """
    if not isinstance(path, str | PathLike):
        return micrograph_of(path, pixel_size_nm, name=name)
    path = Path(path)
    reader = _checked(path)
    with _errors_named(reader, path):
        digest = sha256_of(path)
        recording = _read(reader, path)
        return _micrograph(recording, path, pixel_size_nm, name or path.name, digest)


def read_pixels(path: Path) -> np.ndarray:
    """Return the pixels of an image file as stored, such as labels; raises as `load` does."""
    reader = _checked(path)
    with _errors_named(reader, path):
        return np.asarray(_read(reader, path).data)


@contextmanager
def _errors_named(reader: Reader, path: Path) -> Iterator[None]:
    """Convert errors of libraries, and name the file in errors that do not."""
    try:
        yield
    except AtomicityError as error:
        if error.path is None:
            raise type(error)(error.what, path, error.advice) from error.__cause__
        raise
    except PermissionError as error:
        raise ReadError(
            "permission to read the file is denied", path, "Change its permissions, or copy it"
        ) from error
    except Cancelled:
        raise
    except Exception as error:  # libraries raise any exception for damaged files
        raise _unreadable(error, reader, path) from error


def _read(reader: Reader, path: Path) -> RawImage:
    """Read a file in another process if libraries of others parse it."""
    found = read_in_process(reader.read, path) if reader.own_process else None
    return reader.read(path) if found is None else found


def _unreadable(error: Exception, reader: Reader, path: Path) -> ReadError:
    """Return the error of a file that a library failed to read."""
    named = "" if isinstance(error, ForeignError) else f"{type(error).__name__}: "
    reason = f"{named}{error}".strip().rstrip(".")
    return ReadError(
        f"it can't be read as {reader.name} ({reason[:200]})",
        path,
        "The file may be damaged, incomplete or misnamed: copy or export it again",
    )


def _checked(path: Path) -> Reader:
    """Return the reader for a file after checking that it exists and is not empty."""
    try:
        reader = reader_of(path)
        if path.is_dir() and not is_image_folder(path):
            raise ReadError("this is a folder", path, "Select the image files in it")
        if not path.exists():
            raise ReadError("there is no such file", path, f"Check the path {path}")
        if reader is None:
            raise ReadError(
                f"files of type {path.suffix or '(no suffix)'} are not supported",
                path,
                f"Export the image as one of {' '.join(suffixes())}",
            )
        regular_file(path)
        if path.is_dir():
            check_files_in(path)
        if path.stat().st_size == 0:
            raise ReadError("the file is empty", path, "Copy or export it again")
    except OSError as error:
        raise ReadError(
            f"the file can't be opened ({_reason(error, path)})",
            path,
            "Check its permissions, and select an image file",
        ) from error
    return reader


def _reason(error: OSError, path: Path) -> str:
    """Return the reason of an error, with the entry of a folder that it concerns."""
    inside = error.filename is not None and path.is_dir() and str(error.filename) != str(path)
    named = f"{os.path.relpath(error.filename, path)}: " if inside else ""
    return f"{named}{reason_of(error)}"


def sha256_of(path: Path) -> str:
    """Return the hash of the content of a file, or of the files in a folder with their names.

    Raises `OSError` if a file can not be read. Raises `ReadError` if it takes longer than the limit
    of time and the time for what is on the disk.
    """
    if path.is_dir():
        whole = hashlib.sha256()
        for part in sorted(path.rglob("*")):
            if part.is_file():
                whole.update(part.relative_to(path).as_posix().encode("utf-8", "surrogateescape"))
                whole.update(bytes.fromhex(sha256_of(part)))
        return whole.hexdigest()
    digest, size = hashlib.sha256(), regular_file(path).stat()
    stored = getattr(size, "st_blocks", size.st_size // 512) * 512  # little in a file of holes
    seconds = read_limits().read_seconds + stored / _SLOW_DRIVE
    end = time.monotonic() + seconds
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if time.monotonic() > end:
                raise too_slow(path, seconds)
    return digest.hexdigest()


def _micrograph(
    recording: RawImage, path: Path, given_nm: float | None, name: str, sha256: str
) -> Micrograph:
    pixels = lazy.pixels_of(recording, path)
    # Also checked for a given pixel size: diffraction patterns and non-square pixels are errors.
    found_nm = pixel_size_of(recording.y, recording.x)
    metadata = dict(recording.metadata)
    if found_nm is not None:
        metadata[IN_FILE] = found_nm
    if given_nm is not None:
        metadata["calibration"] = GIVEN
    else:
        metadata["calibration"] = "none" if found_nm is None else recording.calibration
        metadata |= scale_without_unit(recording.x)
    return Micrograph(
        pixels,
        found_nm if given_nm is None else given_nm,
        name=name,
        path=path,
        sha256=sha256,
        metadata=metadata,
    )


def valid_text(name: str) -> str:
    """Return a file name as valid text: names of files may contain invalid characters."""
    return name.encode("utf-8", "backslashreplace").decode()


# ---- many files
def find_images(paths: Iterable[str | PathLike[str]]) -> list[Path]:
    """Return image files in the given order; folders are searched with their subfolders.

    Files that are given by name are always kept, so that `load` can report errors. In folders,
    only visible files with supported suffixes are found, sorted by path, without the results of
    this program. A .emi file with a .ser file is skipped: both belong to the same image.

    Raises `ReadError` if a path does not exist, or no image is found.
    """
    given = [Path(path) for path in paths]
    found: dict[Path, Path] = {}
    for path in given:
        if not path.exists():
            raise ReadError("there is no such file or folder", path, f"Check the path {path}")
        for file in _images_in(path) if path.is_dir() and not is_image_folder(path) else [path]:
            found.setdefault(resolved(file), file)
    if given and not found:
        raise ReadError(
            "this folder contains no images",
            given[0],
            f"Supported formats are {' '.join(suffixes())}",
        )
    described = {
        resolved(emi)
        for file in found.values()
        if file.suffix.lower() == ".ser" and (emi := microscope.emi_of(file)) is not None
    }
    return [file for place, file in found.items() if place not in described]


def resolved(path: Path) -> Path:
    """Return the place of a file without links; links that refer to themselves remain."""
    return Path(os.path.realpath(path))


def _images_in(folder: Path) -> Iterator[Path]:
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not is_result_folder(Path(root, name))
        ]
        images = [name for name in folders if is_image_folder(Path(root, name))]
        folders[:] = [name for name in folders if name not in images]
        names += images
        files += [Path(root, name) for name in names if not name.startswith(".")]
    yield from sorted(f for f in files if reader_of(f) is not None and not is_result(f))


def unique_names(paths: Sequence[str | PathLike[str]]) -> list[str]:
    """Return a unique name for each image, for the column ``image``.

    The name is that of the file if it is unique, otherwise the path relative to the common folder,
    with "/" on every system.

    Examples
    --------
    >>> unique_names(["day1/a.tif", "day2/a.tif", "day2/b.tif"])
    ['day1/a.tif', 'day2/a.tif', 'b.tif']
    """
    files = [Path(path).absolute() for path in paths]
    count = Counter(file.name for file in files)

    def below_common(file: Path) -> str:
        try:
            common = os.path.commonpath([other.parent for other in files])
        except ValueError:  # different drives
            return file.as_posix()
        return file.relative_to(common).as_posix()

    return [file.name if count[file.name] == 1 else below_common(file) for file in files]
