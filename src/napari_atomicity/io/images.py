"""Read images of any supported format as `Micrograph`."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..core.errors import AtomicityError, Cancelled, ReadError, reason_of
from ..core.micrograph import Micrograph
from . import lazy, microscope, tiff
from . import plain_formats as plain
from .arrays import micrograph_of
from .files import check_files_in, regular_file
from .own_files import is_result, is_result_folder
from .raw_image import RawImage
from .read_limits import read_limits
from .reader_process import ForeignError, read_in_process, too_slow
from .units import pixel_size_nm as pixel_size_of

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
    Reader("TIFF", (".tif", ".tiff", ".btf"), tiff.read_tiff, own_process=True),
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
    try:
        digest = sha256_of(path)
        recording = _read(reader, path)
        return _micrograph(recording, path, pixel_size_nm, name or path.name, digest)
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
    if given_nm is not None:
        metadata["calibration"] = "given"
        if found_nm is not None:
            metadata["pixel_size_nm_in_file"] = found_nm
    else:
        metadata["calibration"] = "none" if found_nm is None else recording.calibration
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
