"""A micrograph: pixels, calibration and origin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import CalibrationError, UnknownPixelSizeError, UnsuitableImageError
from .text import pluralise

# Pixel sizes outside this range are errors of units.
MIN_PIXEL_NM = 1e-4
MAX_PIXEL_NM = 1e4
LARGE_PIXELS = 1 << 26
"""Data with more pixels than this (256 MiB in float32) are not loaded into memory."""
GIVEN = "given"
"""Origin of a pixel size that a person has entered."""
IN_FILE = "pixel_size_nm_in_file"
"""Key of the metadata: pixel size in nm that the file gives."""
MISSING_SHARE = "missing_share"
"""Key of ``Micrograph.metadata``: share of the image that its file does not store, read as 0."""
_STRIP_PIXELS = 1 << 24


AVERAGE_OF = "average_of"
"""Name of the movie in the metadata of an average of its frames."""


@dataclass(frozen=True, eq=False, repr=False)
class Micrograph:
    """One recorded image, or a stack of frames, in real space.

    Parameters
    ----------
    data : array-like of shape (Y, X) or (T, Y, X)
        Intensities. Data up to `LARGE_PIXELS` pixels are converted to a float32 array. Larger data
        (an array of any real type, a memory map, a zarr or dask array) are kept, and parts are
        read when they are needed: see `frame`.
    pixel_size_nm : float, optional
        Edge length of a square pixel in nm; None if it is not known.
    name : str
        Name of the image in tables and layers.
    path : pathlib.Path, optional
        The file of the image.
    sha256 : str, optional
        Hash of this file.
    metadata : mapping of str to object
        Metadata of the instrument (voltage, dwell time, ...).

    Raises
    ------
    UnsuitableImageError
        If the data are complex, empty, have a wrong number of dimensions, or no finite value.
    CalibrationError
        If the pixel size is not a positive number of a plausible magnitude.
    """

    data: Any
    pixel_size_nm: float | None = None
    name: str = "image"
    path: Path | None = None
    sha256: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = self.data
        # Data that can be read in parts are not read here.
        if not all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__")):
            data = np.asarray(data)
        if np.dtype(data.dtype).kind == "c":
            raise UnsuitableImageError(
                "the data are complex, not intensities", self.path or self.name
            )
        if len(data.shape) not in (2, 3):
            raise UnsuitableImageError(
                f"the data have {len(data.shape)} dimensions (shape {data.shape})",
                self.path or self.name,
                "An image (Y, X) or a stack of frames (T, Y, X) is needed",
            )
        if min(data.shape) == 0:
            raise UnsuitableImageError("the image has no pixels", self.path or self.name)
        if math.prod(data.shape) <= LARGE_PIXELS:
            recorded, data = data, np.ascontiguousarray(data, dtype=np.float32)
            if not data.any() and np.any(recorded):
                raise UnsuitableImageError(
                    "the values of the pixels are too small for single precision",
                    self.path or self.name,
                    "Multiply all pixels by the same number",
                )
        if not _any_finite(data):
            raise UnsuitableImageError("no pixel has a finite value", self.path or self.name)
        object.__setattr__(self, "data", data)
        if self.pixel_size_nm is not None:
            size = checked_pixel_size(self.pixel_size_nm, self.path or self.name)
            object.__setattr__(self, "pixel_size_nm", size)

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.shape))
        size = self.pixel_size_nm
        scale = "not calibrated" if size is None else f"{size:.4g} nm per pixel"
        return f"<{type(self).__name__} {self.name}: {shape} pixels, {scale}>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data: (Y, X) or (T, Y, X)."""
        return self.data.shape

    @property
    def is_stack(self) -> bool:
        """Whether the data have an axis of frames, also with a single frame."""
        return len(self.shape) == 3

    @property
    def n_frames(self) -> int:
        """Number of frames, 1 for a single image."""
        return self.shape[0] if self.is_stack else 1

    @property
    def shape_px(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return self.shape[-2], self.shape[-1]

    @property
    def is_large(self) -> bool:
        """Whether the data are read in parts."""
        return math.prod(self.shape) > LARGE_PIXELS

    def frames(self) -> Iterator[np.ndarray]:
        """Iterate over the frames as float32 arrays of shape (Y, X)."""
        for index in range(self.n_frames):
            yield np.asarray(self.frame(index)[:, :], np.float32)

    def frame(self, index: int = 0) -> FrameView:
        """Return a view of a frame that reads pixels only when it is indexed with two slices.

        Indexing returns an array of the type of the data, or an object that `numpy.asarray`
        converts to one.
        """
        if not self.is_stack:
            return self.data
        return self.data[index] if isinstance(self.data, np.ndarray) else _Frame(self.data, index)

    def strips(self, index: int = 0, multiple: int = 1, n_rows: int | None = None) -> Iterator[Any]:
        """Iterate over a frame from top to bottom in strips.

        Parameters
        ----------
        index : int
            Index of the frame.
        multiple : int
            The number of rows of each strip but the last is a multiple of this.
        n_rows : int, optional
            Number of rows to read; by default all.

        Yields
        ------
        ndarray of shape (n_strip_rows, X)
            A strip in the type of the data.
        """
        view, (height, width) = self.frame(index), self.shape_px
        height = height if n_rows is None else n_rows
        rows = max(1, _STRIP_PIXELS // (multiple * width)) * multiple
        for top in range(0, height, rows):
            yield np.asarray(view[top : min(top + rows, height), :])

    @property
    def origin_of_pixel_size(self) -> str | None:
        """Where the pixel size comes from: `GIVEN` if a person has entered another than the file's.

        The metadata name the origin in the file, or what was given as it was read.
        """
        size_nm, in_file_nm = self.pixel_size_nm, self.metadata.get(IN_FILE)
        origin = self.metadata.get("calibration")
        if size_nm is None:
            return origin
        differs = in_file_nm is not None and not math.isclose(size_nm, in_file_nm, rel_tol=1e-4)
        return GIVEN if differs or origin == "none" else origin

    def with_pixel_size(self, pixel_size_nm: float | None) -> Micrograph:
        """Return the image with this pixel size."""
        return replace(self, pixel_size_nm=pixel_size_nm)

    def with_name(self, name: str) -> Micrograph:
        """Return the image with this name."""
        return replace(self, name=name)

    def calibrated(self) -> float:
        """Return the pixel size in nm.

        Raises
        ------
        UnknownPixelSizeError
            If it is not known: lengths and atomicities need it.
        """
        if self.pixel_size_nm is None:
            scale = self.metadata.get("scale_without_unit")
            found = "" if scale is None else f": the scale of {scale:g} has no unit"
            raise UnknownPixelSizeError(
                f"the pixel size is not known{found}",
                self.path or self.name,
                "Enter it in nm: in the dock Analyse or Atoms, as --pixel-size-nm, or as "
                "pixel_size_nm in Python",
            )
        return self.pixel_size_nm


class FrameView(Protocol):
    """A frame from which parts can be read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        ...

    def __getitem__(self, where: tuple[slice, slice], /) -> Any: ...


@dataclass(frozen=True)
class _Frame:
    """A frame of a stack whose indexing by the frame alone would read the whole frame."""

    stack: Any
    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        return tuple(self.stack.shape[1:])

    def __getitem__(self, where: tuple[slice, slice]) -> Any:
        return self.stack[(self.index, *where)]


def _any_finite(data: Any) -> bool:
    """Return whether a value is finite; reading stops at the first one."""
    if np.dtype(data.dtype).kind in "biu":
        return True
    stacked = data if len(data.shape) == 3 else None
    for index in range(1 if stacked is None else stacked.shape[0]):
        frame = data if stacked is None else _Frame(stacked, index)
        rows = max(1, _STRIP_PIXELS // frame.shape[1])
        for top in range(0, frame.shape[0], rows):
            part = np.asarray(frame[top : top + rows, slice(None)])
            if np.isfinite(part).any():
                return True
    return False


def count_copies(hashes: Iterable[str | None]) -> int:
    """Return how many files have the content of another one, from the hashes that are known."""
    known = [each for each in hashes if each]
    return len(known) - len(set(known))


def describe_copies(hashes: Iterable[str | None]) -> str:
    """Say that the atoms of files with the content of others count twice; "" without any."""
    if not (copies := count_copies(hashes)):
        return ""
    return (
        f"{pluralise(copies, 'file has', 'files have')} the content of others: remove the copies "
        "to count each atom once, with intervals that are wide enough."
    )


def is_replaced(before: str | None, after: str | None) -> bool:
    """Return whether two hashes of a file are known and differ: another file has its name now."""
    return None not in (before, after) and before != after


def counted_averages(micrographs: Iterable[Micrograph]) -> list[str]:
    """Return the averages of frames whose stack is among the micrographs: names."""
    micrographs = list(micrographs)
    names = {m.name for m in micrographs}
    return [m.name for m in micrographs if m.metadata.get(AVERAGE_OF) in names]


def checked_pixel_size(pixel_size_nm: float, where: Path | str) -> float:
    """Return the pixel size if it is plausible.

    Raises `CalibrationError` if it is not a positive number of a plausible magnitude.
    """
    size = float(pixel_size_nm)
    if not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:  # also false for NaN
        raise CalibrationError(
            f"a pixel size of {size:g} nm is not plausible",
            where,
            "Enter the edge length of one pixel in nm",
        )
    return size
