"""A micrograph: pixels, calibration and where they came from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import CalibrationError, UnsuitableImageError

# Beyond these a pixel size is a mistake of units, not a magnification of STEM.
MIN_PIXEL_NM = 1e-4
MAX_PIXEL_NM = 1e4
LARGE_PIXELS = 1 << 26
"""With more pixels than this (256 MiB in float32) data stay where and as they are."""
_STRIP_PIXELS = 1 << 24


@dataclass(frozen=True, eq=False)
class Micrograph:
    """One recorded image, or a stack of frames, in real space.

    Parameters
    ----------
    data
        Intensities, shape (Y, X) or (T, Y, X). Up to `LARGE_PIXELS` pixels become a float32 array.
        More stay what they are, an array of any real type, a memory map, a zarr or dask array, of
        which parts are read as they are needed: see `frame`.
    pixel_size_nm
        Edge length of a (square) pixel in nm; None where the file does not say.
    name
        Name of the image as it appears in tables and layers.
    path
        The file it was read from.
    sha256
        Hash of that file.
    metadata
        What the format says of the instrument (voltage, dwell time, ...), free form.

    Raises
    ------
    UnsuitableImageError
        If the data are complex, of a wrong dimension, empty, or all of it is not finite.
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
        # Whatever can be read in parts is not read here.
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
            data = np.ascontiguousarray(data, dtype=np.float32)
        if not _any_finite(data):
            raise UnsuitableImageError("no pixel has a finite value", self.path or self.name)
        object.__setattr__(self, "data", data)
        if self.pixel_size_nm is not None:
            size = checked_pixel_size(self.pixel_size_nm, self.path or self.name)
            object.__setattr__(self, "pixel_size_nm", size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the data: (Y, X) or (T, Y, X)."""
        return self.data.shape

    @property
    def is_stack(self) -> bool:
        """Whether there is an axis of frames, if only of one."""
        return len(self.shape) == 3

    @property
    def n_frames(self) -> int:
        return self.shape[0] if self.is_stack else 1

    @property
    def shape_px(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.shape[-2], self.shape[-1]

    @property
    def is_large(self) -> bool:
        """Whether it is to be read part by part."""
        return math.prod(self.shape) > LARGE_PIXELS

    def frames(self) -> Iterator[np.ndarray]:
        """Each frame as a whole, shape (Y, X), float32."""
        for index in range(self.n_frames):
            yield np.asarray(self.frame(index)[:, :], np.float32)

    def frame(self, index: int = 0) -> FrameView:
        """A frame of which nothing is read before it is indexed with two slices.

        What comes of that is an array, or what `numpy.asarray` makes one of, of the data's type.
        """
        if not self.is_stack:
            return self.data
        return self.data[index] if isinstance(self.data, np.ndarray) else _Frame(self.data, index)

    def strips(self, index: int = 0, multiple: int = 1, n_rows: int | None = None) -> Iterator[Any]:
        """A frame from top to bottom in parts, each an array (rows, X) of the data's type.

        Parameters
        ----------
        index
            Of the frame.
        multiple
            Of this many rows all parts but the last have a whole multiple.
        n_rows
            How many rows are read; None for all.
        """
        view, (height, width) = self.frame(index), self.shape_px
        height = height if n_rows is None else n_rows
        rows = max(1, _STRIP_PIXELS // (multiple * width)) * multiple
        for top in range(0, height, rows):
            yield np.asarray(view[top : min(top + rows, height), :])

    def with_pixel_size(self, pixel_size_nm: float) -> Micrograph:
        """The same image, calibrated."""
        return replace(self, pixel_size_nm=pixel_size_nm)

    def calibrated(self) -> float:
        """The pixel size in nm.

        Raises
        ------
        CalibrationError
            If there is none: lengths, and so atomicities, would mean nothing.
        """
        if self.pixel_size_nm is None:
            raise CalibrationError(
                "the pixel size is not known",
                self.path or self.name,
                "Give it in nm (--pixel-size-nm, or the field in the Analyse dock)",
            )
        return self.pixel_size_nm


class FrameView(Protocol):
    """What can be cut out of a frame."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, where: tuple[slice, slice], /) -> Any: ...


@dataclass(frozen=True)
class _Frame:
    """A frame of a stack that would read all of it if it were asked for the frame alone."""

    stack: Any
    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.stack.shape[1:])

    def __getitem__(self, where: tuple[slice, slice]) -> Any:
        return self.stack[(self.index, *where)]


def _any_finite(data: Any) -> bool:
    """Whether there is a finite value; not more is read than it takes to find one."""
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


def checked_pixel_size(pixel_size_nm: float, where: Path | str) -> float:
    """The pixel size, if it is one.

    Raises
    ------
    CalibrationError
        If it is not a positive number of a plausible magnitude.
    """
    size = float(pixel_size_nm)
    if not MIN_PIXEL_NM <= size <= MAX_PIXEL_NM:  # NaN fails as well
        raise CalibrationError(
            f"a pixel size of {size:g} nm is not plausible",
            where,
            "Give the edge length of one pixel in nm",
        )
    return size
