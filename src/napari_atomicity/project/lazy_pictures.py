"""Patches, class maps and embeddings of an open project, read from its file when they are used.

The patches of 100,000 clusters take 2.5 GB and are seen a few at a time.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..core.errors import AtomicityError
from ..core.row_view import ArrayView
from .cached_arrays import (
    NO_ARRAYS,
    Arrays,
    Pictures,
    PictureSizes,
    read_picture,
    read_pictures,
    read_sizes,
)
from .connection import ProjectConnection

MAX_BYTES = 64_000_000
"""Size of the cache of images that were read as a whole."""
_MAX_SINGLE_ROWS = 8
"""More rows of an image are not read one by one."""


class LazyArray(ArrayView):
    """An array of the clusters of an image that is read from the project when it is used."""

    def __init__(
        self, source: LazyPictures, image_id: int, sizes: PictureSizes, kind: str, channel: str
    ) -> None:
        self.source, self.image_id, self.sizes = source, image_id, sizes
        self.kind, self.channel = kind, channel
        self.kept: np.ndarray | None = None
        self.shape = (len(sizes.ids), *sizes.row_shape(kind))
        self.dtype = np.dtype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the values; `AtomicityError` if they can't be read."""
        values = self._values()
        return values.astype(values.dtype if dtype is None else dtype, copy=bool(copy))

    def __getitem__(self, key: Any) -> Any:
        """Return rows; a few are read alone, as NaN if that fails, since they are only seen."""
        if isinstance(key, int | np.integer | slice) and self.kept is None:
            rows = np.arange(len(self))[key]
            if rows.size <= _MAX_SINGLE_ROWS and not self.source.holds(self.image_id):
                return self._rows(rows)
        return self._values()[key]

    def keep(self) -> None:
        """Keep the values in memory, since the file will not hold them; NaN if it is lost."""
        try:
            self.kept = self._values()
        except AtomicityError:  # they can be computed again
            self.kept = np.full(self.shape, np.nan, self.dtype)

    def _values(self) -> np.ndarray:
        if self.kept is None:
            found = self.source.read(self.image_id, self.sizes)
            if self.kept is None:  # else the file holds others since then
                return found.get(self.kind, self.channel)
        return self.kept

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        shape = (*rows.shape, *self.shape[1:])
        try:
            with self.source.file.reading() as db:
                out = [
                    np.broadcast_to(
                        read_picture(db, self.image_id, i, self.sizes, self.kind, self.channel),
                        self.shape[1:],
                    )
                    for i in np.array(self.sizes.ids)[rows].ravel().tolist()
                ]
        except AtomicityError:  # the project was closed
            return np.full(shape, np.nan, self.dtype)
        # The file may hold other values since then.
        return np.array(out, self.dtype).reshape(shape) if self.kept is None else self.kept[rows]


class LazyPictures:
    """Reads the arrays of a project's images when they are used."""

    def __init__(self, file: ProjectConnection) -> None:
        self.file = file
        self._arrays: dict[int, list[weakref.ref[LazyArray]]] = {}
        self._held: OrderedDict[int, Pictures] = OrderedDict()
        self._lock = threading.Lock()

    def arrays(
        self, db: sqlite3.Connection, image_id: int, ids: list[int]
    ) -> tuple[Arrays, np.ndarray, Arrays]:
        """Return patches, embedding and class maps of clusters, not read yet."""
        sizes = read_sizes(db, image_id, ids)
        if sizes is None:
            return NO_ARRAYS

        def of(kind: str, channel: str) -> Any:
            array = LazyArray(self, image_id, sizes, kind, channel)
            self._arrays.setdefault(image_id, []).append(weakref.ref(array))
            return array

        patches, maps = (
            {c: of(kind, c) for c in sizes.channels} for kind in ("patches", "class_maps")
        )
        return patches, of("embedding", ""), maps

    def holds(self, image_id: int) -> bool:
        """Return whether the arrays of an image are in the cache."""
        return image_id in self._held

    def read(self, image_id: int, sizes: PictureSizes) -> Pictures:
        """Return the arrays of an image.

        Raises `AtomicityError` if they can't be read.
        """
        with self._lock:
            found = self._held.get(image_id)
            if found is None or found.sizes is not sizes:
                with self.file.reading() as db:
                    found = read_pictures(db, image_id, sizes)
                self._held[image_id] = found
            self._held.move_to_end(image_id)
            while len(self._held) > 1 and sum(x.nbytes for x in self._held.values()) > MAX_BYTES:
                self._held.popitem(last=False)
            return found

    def keep_replaced(self, image_id: int, written: Iterable[Any]) -> None:
        """Keep in memory what the file will not hold any more; call it before writing."""
        same = set(map(id, written))
        for array in self._present(image_id):
            if id(array) not in same:
                array.keep()
        with self._lock:
            self._held.pop(image_id, None)

    def move_to(self, other: LazyPictures, image_ids: Mapping[int, int]) -> None:
        """Read the arrays from another project from now on."""
        for image_id in list(self._arrays):
            for array in self._present(image_id):
                if image_id in image_ids:
                    array.source, array.image_id = other, image_ids[image_id]
                    known = other._arrays.setdefault(array.image_id, [])
                    known.append(weakref.ref(array))
                else:
                    array.keep()
        self._arrays.clear()

    def _present(self, image_id: int) -> list[LazyArray]:
        found = [array for ref in self._arrays.get(image_id, ()) if (array := ref()) is not None]
        return [array for array in found if array.kept is None]
