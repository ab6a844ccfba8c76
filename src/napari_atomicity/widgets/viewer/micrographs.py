"""Micrographs in Image layers: which layers hold one, why others do not, and what it is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ...errors import AtomicityError
from ...io.images import load
from ...micrograph import LARGE_PIXELS, Micrograph, checked_pixel_size
from ...progress import Progress, Stop
from . import calibration
from .layers import ROLE

logger = logging.getLogger(__name__)

_CONVERTING = threading.Lock()
_AT_ONCE = 1 << 18  # pixels, which fit into a processor's cache


def why_not(layer: Any) -> str:
    """Why a layer can't hold a micrograph, as a sentence; "" if it can."""
    name = layer.name
    if isinstance(layer, Labels):
        return f"{name} is a Labels layer: a micrograph is an Image layer."
    if not isinstance(layer, Image):
        return f"{name} is no image."
    if ROLE in layer.metadata:
        return f"{name} was made from a micrograph."
    if layer.rgb:
        return f"{name} is a colour image, not the signal of a detector: open the greyscale file."
    if layer.multiscale:
        return f"{name} has several resolutions: open the file as one image in full resolution."
    if layer.ndim not in (2, 3):
        return f"{name} has {layer.ndim} dimensions: an image or a stack of frames is needed."
    if np.issubdtype(layer.dtype, np.complexfloating):
        return f"{name} is complex: intensities are needed."
    return ""


def is_micrograph(layer: Any) -> bool:
    """Whether a layer may hold a micrograph: grey, real, two or three axes, not made by us."""
    return not why_not(layer)


class CountedMicrograph(Micrograph):
    """A micrograph of whole numbers, which become float32 when they are first asked for.

    That is in a worker as a rule: of a large image it takes a third of a second.

    Parameters
    ----------
    counts
        Whole numbers, shape (Y, X) or (T, Y, X), with at least one pixel.
    pixel_size_nm, name, path, sha256, metadata
        As of a `Micrograph`.
    """

    counts: np.ndarray
    _pixels: np.ndarray | None

    def __init__(
        self,
        counts: np.ndarray,
        pixel_size_nm: float | None = None,
        *,
        name: str,
        path: Path | None = None,
        sha256: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        size = None if pixel_size_nm is None else checked_pixel_size(pixel_size_nm, path or name)
        for field, value in {
            "counts": counts,
            "pixel_size_nm": size,
            "name": name,
            "path": path,
            "sha256": sha256,
            "metadata": metadata or {},
            "_pixels": None,
        }.items():
            object.__setattr__(self, field, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets the pixels as they are of use to it."""
        return Micrograph, (
            self.data, self.pixel_size_nm, self.name, self.path, self.sha256, self.metadata
        )  # fmt: skip

    @property
    def data(self) -> np.ndarray:
        """Intensities, float32."""
        with _CONVERTING:
            pixels = self._pixels
            if pixels is None:
                pixels = np.ascontiguousarray(self.counts, np.float32)
                object.__setattr__(self, "_pixels", pixels)
        return pixels

    @property
    def is_converted(self) -> bool:
        """Whether the pixels are there as float32."""
        return self._pixels is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.counts.shape

    def with_pixel_size(self, pixel_size_nm: float) -> CountedMicrograph:
        """The same image, calibrated."""
        return CountedMicrograph(
            self.counts,
            pixel_size_nm,
            name=self.name,
            path=self.path,
            sha256=self.sha256,
            metadata=self.metadata,
        )


def micrograph_of(layer: Image, name: str) -> Micrograph:
    """The micrograph that an Image layer holds.

    Raises
    ------
    UnsuitableImageError
        If it holds none.
    """
    known = layer.metadata.get("atomicity", {})
    path = known.get("path") or layer.source.path
    data = layer.data[0] if layer.multiscale else layer.data
    counted = isinstance(data, np.ndarray) and data.dtype.kind in "iu"
    kind = CountedMicrograph if counted and 0 < data.size <= LARGE_PIXELS else Micrograph
    return kind(
        data,
        calibration.pixel_size_nm(layer),
        name=name,
        path=None if path is None else Path(path),
        sha256=known.get("sha256"),
        metadata=known,
    )


def same(a: Micrograph, b: Micrograph | None) -> bool:
    """Whether two micrographs have the same pixels of the same size."""
    if b is None or a.pixel_size_nm != b.pixel_size_nm or a.shape != b.shape:
        return False
    both_counted = isinstance(a, CountedMicrograph) and isinstance(b, CountedMicrograph)
    if both_counted and a.counts is b.counts:
        # What is converted is as it was then; somebody may have written into it since.
        return not b.is_converted or _are_counts(a.counts, b.data)
    return a.data is b.data or (not a.is_large and np.array_equal(a.data, b.data, equal_nan=True))


def _are_counts(counts: np.ndarray, pixels: np.ndarray) -> bool:
    """Whether these are the pixels that the counts become."""
    n_rows = max(1, _AT_ONCE // max(1, counts[0].size))
    return all(
        np.array_equal(counts[i : i + n_rows].astype(np.float32), pixels[i : i + n_rows])
        for i in range(0, len(counts), n_rows)
    )


def size_in_file_nm(
    path: str,
    shape: tuple[int, ...],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> float | None:
    """What a file says of a pixel: napari opens TIFF and PNG without asking it.

    None if it does not say, holds an image of another shape than (Y, X), or can't be read: it is
    asked for what it may know, and the person can type the size in.
    """
    try:
        found = load(path)
    except AtomicityError as error:
        logger.info("no pixel size from %s: %s", path, error)
        return None
    return found.pixel_size_nm if found.shape_px == shape else None
