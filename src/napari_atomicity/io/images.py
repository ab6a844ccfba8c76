"""Images in: a readable file becomes a `Micrograph` in nm per pixel, else an error says why."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from ..core.errors import AtomicityError, ReadError, UnsuitableImageError
from ..core.micrograph import Micrograph
from . import lazy, microscope, tiff
from . import plain_formats as plain
from .raw_image import RawImage
from .units import pixel_size_nm as pixel_size_of


@dataclass(frozen=True)
class Reader:
    """A family of formats: its name for people, its suffixes, and the function that reads it.

    ``folder`` if such an image is a folder of files.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], RawImage]
    folder: bool = False


READERS: tuple[Reader, ...] = (
    Reader("TIFF", (".tif", ".tiff", ".btf"), tiff.read_tiff),
    Reader("PNG", (".png",), plain.read_png),
    Reader("NumPy", (".npy",), plain.read_npy),
    Reader("MRC", (".mrc", ".mrcs"), plain.read_mrc),
    Reader("DigitalMicrograph", (".dm3", ".dm4"), microscope.read_dm),
    Reader("EMD", (".emd",), microscope.read_emd),
    Reader("TIA", (".ser", ".emi"), microscope.read_tia),
    Reader("hyperspy", (".hspy",), microscope.read_hspy),
    Reader("Panta Rhei", (".prz",), microscope.read_prz),
    Reader("Zarr", (".zarr",), lazy.read_zarr, folder=True),
)
"""Every format that can be read; adding one is adding an entry."""


def suffixes() -> tuple[str, ...]:
    """Suffixes of readable files, lower case with the dot."""
    return tuple(suffix for reader in READERS for suffix in reader.suffixes)


def reader_of(path: str | PathLike[str]) -> Reader | None:
    """The reader for this file, by its suffix; None if there is none."""
    suffix = Path(path).suffix.lower()
    return next((reader for reader in READERS if suffix in reader.suffixes), None)


def is_image_folder(path: Path) -> bool:
    """Whether this folder is one image, as those of zarr are."""
    reader = reader_of(path)
    return reader is not None and reader.folder and path.is_dir()


def load(
    path: str | PathLike[str],
    pixel_size_nm: float | None = None,
    *,
    name: str | None = None,
) -> Micrograph:
    """Read an image or a stack of frames.

    Parameters
    ----------
    path
        File of any readable format.
    pixel_size_nm
        Edge length of a pixel in nm; overrides what the file says.
    name
        Name of the image in tables and layers; the file's name if None.

    Returns
    -------
    Micrograph
        Shape (Y, X) or (T, Y, X); float32, or, with more than `micrograph.LARGE_PIXELS` pixels in
        a TIFF, MRC, NumPy or zarr file, what reads its parts as they are needed. ``pixel_size_nm``
        is None where neither the file nor the caller tells; ``metadata["calibration"]`` says where
        it comes from.

    Raises
    ------
    ReadError
        If the file is missing, damaged, or of a format that is not known.
    UnsuitableImageError
        If it holds no greyscale image of real space with square pixels.
    CalibrationError
        If the pixel size is not plausible.
    DependencyError
        If the format needs a package that is not installed.
    """
    path = Path(path)
    reader = _checked(path)
    try:
        digest = sha256_of(path)
        recording = reader.read(path)
        return _micrograph(recording, path, pixel_size_nm, name or path.name, digest)
    except AtomicityError as error:
        if error.path is None:
            raise type(error)(error.what, path, error.advice) from error.__cause__
        raise
    except PermissionError as error:
        raise ReadError(
            "there is no permission to read it", path, "Change the file's permissions, or copy it"
        ) from error
    except Exception as error:  # libraries raise anything at all on damaged files
        said = f"{type(error).__name__}: {error}".strip().rstrip(".")
        raise ReadError(
            f"it can't be read as {reader.name} ({said[:200]})",
            path,
            "The file may be damaged, incomplete or misnamed: copy or export it again",
        ) from error


def _checked(path: Path) -> Reader:
    """The reader for a file that is there and not empty."""
    try:
        reader = reader_of(path)
        if path.is_dir() and not is_image_folder(path):
            raise ReadError("this is a folder", path, "Give the image files in it")
        if not path.exists():
            raise ReadError("there is no such file", path, f"Check the path {path}")
        if reader is None:
            raise ReadError(
                f"files of type {path.suffix or '(no suffix)'} can't be read",
                path,
                f"Export the image as one of {' '.join(suffixes())}",
            )
        if not (path.is_file() or is_image_folder(path)):
            raise ReadError("this is no regular file", path, "Give an image file")
        if path.stat().st_size == 0:
            raise ReadError("the file is empty", path, "Copy or export it again")
    except OSError as error:
        raise ReadError(
            f"the file can't be reached ({error.strerror or error})", path, "Check its permissions"
        ) from error
    return reader


def sha256_of(path: Path) -> str:
    """Hash of a file's content; of a folder's, with the names of its files.

    Raises
    ------
    OSError
        If it can't be read.
    """
    if path.is_dir():
        whole = hashlib.sha256()
        for part in sorted(path.rglob("*")):
            if part.is_file():
                whole.update(part.relative_to(path).as_posix().encode("utf-8", "surrogateescape"))
                whole.update(bytes.fromhex(sha256_of(part)))
        return whole.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _micrograph(
    recording: RawImage, path: Path, given_nm: float | None, name: str, sha256: str
) -> Micrograph:
    if np.dtype(recording.data.dtype).kind not in "biufc":
        raise UnsuitableImageError(
            f"the data are not numbers ({recording.data.dtype})", path, "Export a greyscale image"
        )
    # Also when a size is given: it can't make a diffraction pattern or oblong pixels right.
    found_nm = pixel_size_of(recording.y, recording.x)
    metadata = dict(recording.metadata)
    if given_nm is not None:
        metadata["calibration"] = "given"
        if found_nm is not None:
            metadata["pixel_size_nm_in_file"] = found_nm
    else:
        metadata["calibration"] = "none" if found_nm is None else recording.calibration
    single = tuple(i for i, n in enumerate(recording.data.shape[:-2]) if n == 1)
    return Micrograph(
        lazy.as_numbers(lazy.without_axes(recording.data, single)),
        found_nm if given_nm is None else given_nm,
        name=name,
        path=path,
        sha256=sha256,
        metadata=metadata,
    )


def valid_text(name: str) -> str:
    """A file name as tables can hold it: names need not be valid text, tables must be."""
    return name.encode("utf-8", "backslashreplace").decode()


# ---- many files
def find_images(paths: Iterable[str | PathLike[str]]) -> list[Path]:
    """Image files in the order given; folders are searched, with their subfolders.

    Files that are given by name are kept whatever they are, so that `load` can say what is wrong
    with them. In folders only readable suffixes count, sorted by path, hidden ones left out. A
    .emi whose .ser is there too is left out: they are one recording.

    Raises
    ------
    ReadError
        If a path does not exist, or there is no image at all.
    """
    given = [Path(path) for path in paths]
    found: dict[Path, Path] = {}
    for path in given:
        if not path.exists():
            raise ReadError("there is no such file or folder", path, f"Check the path {path}")
        for file in _images_in(path) if path.is_dir() and not is_image_folder(path) else [path]:
            found.setdefault(file.resolve(), file)
    if given and not found:
        raise ReadError(
            "there is no image in this folder",
            given[0],
            f"Readable are {' '.join(suffixes())}",
        )
    described = {
        emi.resolve()
        for file in found.values()
        if file.suffix.lower() == ".ser" and (emi := microscope.emi_of(file)) is not None
    }
    return [file for resolved, file in found.items() if resolved not in described]


def _images_in(folder: Path) -> Iterator[Path]:
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [name for name in folders if is_image_folder(Path(root, name))]
        folders[:] = [name for name in folders if name not in images]
        names += images
        files += [Path(root, name) for name in names if not name.startswith(".")]
    yield from sorted(file for file in files if reader_of(file) is not None)


def unique_names(paths: Sequence[str | PathLike[str]]) -> list[str]:
    """A name for each image, as the column ``image`` holds it.

    The file's name where that is unique, else its path from the folder that all have in common,
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
        except ValueError:  # they lie on different drives
            return file.as_posix()
        return file.relative_to(common).as_posix()

    return [file.name if count[file.name] == 1 else below_common(file) for file in files]
