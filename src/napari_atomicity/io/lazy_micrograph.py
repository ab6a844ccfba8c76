"""Micrographs whose pixels are read when they are asked for, and kept for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ReadError
from ..core.micrograph import Micrograph, checked_pixel_size
from .images import load

MAX_BYTES = 400_000_000
"""Pixels that are kept: some twenty images of 2048 × 2048."""
MAX_LARGE = 4
"""Large images that are kept: they take no bytes, but a mapping or an open file each."""


class PixelCache:
    """The images that were looked at last, up to a number of bytes; for several threads."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held: OrderedDict[Path, Micrograph] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[Path, threading.Lock] = {}

    def get(self, path: Path) -> Micrograph | None:
        """What is held of a file, without reading it."""
        with self._lock:
            found = self._held.get(path)
            if found is not None:
                self._held.move_to_end(path)
            return found

    def read(self, path: Path) -> Micrograph:
        """The image in a file; two threads that ask for it wait for one reading."""
        found = self.get(path)
        if found is not None:
            return found
        with self._lock:
            turn = self._reading.setdefault(path, threading.Lock())
        with turn:
            found = self.get(path)
            if found is None:
                found = load(path)
                self.put(found)
        with self._lock:
            self._reading.pop(path, None)
        return found

    def put(self, micrograph: Micrograph) -> None:
        """Hold an image that was just read."""
        if micrograph.path is None:
            return
        with self._lock:
            self._held[micrograph.path] = micrograph
            self._held.move_to_end(micrograph.path)
            while len(self._held) > 1 and self._size() > self._most_bytes:
                self._held.popitem(last=False)
            for path in [path for path, held in self._held.items() if held.is_large][:-MAX_LARGE]:
                del self._held[path]

    def forget(self, path: Path) -> None:
        """The file is another one now."""
        with self._lock:
            self._held.pop(path, None)

    def _size(self) -> int:
        return sum(0 if held.is_large else held.data.nbytes for held in self._held.values())


PIXELS = PixelCache()
"""Shared by all: two windows on one image hold it once."""


class LazyMicrograph(Micrograph):
    """A micrograph that is known from a project; its pixels are read when they are asked for.

    Parameters
    ----------
    path
        The file.
    shape
        Of the data, if that is known already: (Y, X) or (T, Y, X).
    pixel_size_nm, name, sha256, metadata
        As of a `Micrograph`.
    cache
        Where pixels are held.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...] | None,
        pixel_size_nm: float | None = None,
        *,
        name: str,
        sha256: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        cache: PixelCache = PIXELS,
    ) -> None:
        size = None if pixel_size_nm is None else checked_pixel_size(pixel_size_nm, path)
        for field, value in {
            "path": Path(path),
            "pixel_size_nm": size,
            "name": name,
            "sha256": sha256,
            "metadata": dict(metadata or {}),
            "_shape": shape,
            "_cache": cache,
        }.items():
            object.__setattr__(self, field, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets it without pixels, and reads them into a cache of its own."""
        shape = self._shape  # type: ignore[attr-defined]
        return _stored, (
            (self.path, shape, self.pixel_size_nm),
            {"name": self.name, "sha256": self.sha256, "metadata": dict(self.metadata)},
        )

    @property
    def data(self) -> np.ndarray:
        """Intensities, float32; the file is read if it is not held.

        Raises
        ------
        ReadError
            If the file is gone or can't be read, or is another one than it was.
        """
        return self.read().data

    def read(self) -> Micrograph:
        """The micrograph with its pixels; raises as `data`."""
        assert self.path is not None
        found = self._cache.read(self.path)  # type: ignore[attr-defined]
        if self.sha256 is not None and found.sha256 != self.sha256:
            self._cache.forget(self.path)  # type: ignore[attr-defined]
            raise ReadError(
                "the file is not the one that was analysed: its content has changed",
                self.path,
                "Put the old file back, or add the new one under another name",
            )
        return found

    def with_file_metadata(self) -> LazyMicrograph:
        """The same with shape, calibration and hash as the file has them; it is read for that."""
        if self.sha256 is not None:
            return self
        found = self.read()
        size = self.pixel_size_nm or found.pixel_size_nm
        assert self.path is not None
        return LazyMicrograph(
            self.path,
            found.shape,
            size,
            name=self.name,
            sha256=found.sha256,
            metadata=found.metadata,
            cache=self._cache,  # type: ignore[attr-defined]
        )

    @property
    def is_read(self) -> bool:
        """Whether the pixels can be had at once."""
        assert self.path is not None
        return self._cache.get(self.path) is not None  # type: ignore[attr-defined]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the data; the file is read if that is not known."""
        return self._shape or self.data.shape  # type: ignore[attr-defined]

    def with_pixel_size(self, pixel_size_nm: float) -> LazyMicrograph:
        """The same image, calibrated; nothing is read."""
        assert self.path is not None
        return LazyMicrograph(
            self.path,
            self._shape,  # type: ignore[attr-defined]
            pixel_size_nm,
            name=self.name,
            sha256=self.sha256,
            metadata=self.metadata,
            cache=self._cache,  # type: ignore[attr-defined]
        )


def _stored(where: tuple[Any, ...], known: Mapping[str, Any]) -> LazyMicrograph:
    return LazyMicrograph(*where, **known)
