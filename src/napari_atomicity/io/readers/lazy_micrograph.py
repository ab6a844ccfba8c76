"""Micrographs whose pixels are read when needed and cached."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ReadError
from ...core.micrograph import Micrograph, checked_pixel_size
from ..images import load

MAX_BYTES = 200_000_000
"""Size of the cache: about ten images of 2048 × 2048 pixels."""
MAX_LARGE = 4
"""Maximum number of large images in the cache: each needs a memory map or an open file."""


class PixelCache:
    """Cache of recently used images with a limited size; thread-safe."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[Path, Micrograph] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[Path, threading.Lock] = {}

    def get(self, path: Path) -> Micrograph | None:
        """Return the cached image of a file, None if there is none."""
        with self._lock:
            found = self._held.get(path)
            if found is not None:
                self._held.move_to_end(path)
            return found

    def read(self, path: Path) -> Micrograph:
        """Return the image of a file; several threads share one reading of the file."""
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
        """Add an image to the cache."""
        if micrograph.path is None:
            return
        with self._lock:
            self._held[micrograph.path] = micrograph
            self._held.move_to_end(micrograph.path)
            while len(self._held) > 1 and self._size() > self._max_bytes:
                self._held.popitem(last=False)
            for path in [path for path, held in self._held.items() if held.is_large][:-MAX_LARGE]:
                del self._held[path]

    def forget(self, path: Path) -> None:
        """Remove a file that has changed from the cache."""
        with self._lock:
            self._held.pop(path, None)

    def _size(self) -> int:
        return sum(0 if held.is_large else held.data.nbytes for held in self._held.values())


PIXELS = PixelCache()
"""The cache of this process, shared by all windows."""


class LazyMicrograph(Micrograph):
    """A micrograph of a project whose pixels are read when needed."""

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...] | None,  # (Y, X) or (T, Y, X), if it is known
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
        """Pickle without pixels; another process reads them into its own cache."""
        shape = self._shape  # type: ignore[attr-defined]
        return _restore, (
            (self.path, shape, self.pixel_size_nm),
            {"name": self.name, "sha256": self.sha256, "metadata": dict(self.metadata)},
        )

    @property
    def data(self) -> np.ndarray:
        """Intensities, float32; the file is read if it is not cached.

        Raises `ReadError` if the file is missing, can not be read, or has changed.
        """
        return self.read().data

    def read(self) -> Micrograph:
        """Return the micrograph with its pixels; raises the errors of `data`."""
        assert self.path is not None
        found = self._cache.read(self.path)  # type: ignore[attr-defined]
        if self.sha256 is not None and found.sha256 != self.sha256:
            self._cache.forget(self.path)  # type: ignore[attr-defined]
            raise ReadError(
                "the content of the file has changed since the analysis",
                self.path,
                "Restore the old file, or add the new one under another name",
            )
        return found

    def with_file_metadata(self) -> LazyMicrograph:
        """Return the micrograph with shape, calibration and hash, read from the file."""
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
        """Whether the pixels are cached."""
        assert self.path is not None
        return self._cache.get(self.path) is not None  # type: ignore[attr-defined]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data; the file is read if it is not known."""
        return self._shape or self.data.shape  # type: ignore[attr-defined]

    def with_pixel_size(self, pixel_size_nm: float | None) -> LazyMicrograph:
        """Return the image with this pixel size; the file is not read."""
        return self._changed(pixel_size_nm, self.name)

    def with_name(self, name: str) -> LazyMicrograph:
        """Return the image with this name; the file is not read."""
        return self._changed(self.pixel_size_nm, name)

    def _changed(self, pixel_size_nm: float | None, name: str) -> LazyMicrograph:
        assert self.path is not None
        return LazyMicrograph(
            self.path,
            self._shape,  # type: ignore[attr-defined]
            pixel_size_nm,
            name=name,
            sha256=self.sha256,
            metadata=self.metadata,
            cache=self._cache,  # type: ignore[attr-defined]
        )


def _restore(where: tuple[Any, ...], known: Mapping[str, Any]) -> LazyMicrograph:
    return LazyMicrograph(*where, **known)
