"""Patches, class maps and embeddings as rows of a project.

They can be computed again from the image. Half precision is more than the noise of most patches;
those of images with very large or very small values, or a large offset, are stored in single
precision.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..core.errors import AtomicityError
from ..core.tables.row_view import ArrayView
from ..models.analysis import Analysis
from .connection import ProjectConnection

Arrays = dict[str, np.ndarray]
# More would be no patch of a cluster: one row decides how much memory all rows take.
_MAX_CHANNELS, _MAX_PX, _MAX_EMBEDDING_BYTES = 4, 256, 16_384
_BLOBS = ("patches", "class_maps", "embedding")
# Error of half precision, as a share of the standard deviation, from which on a patch needs more.
_MAX_ERROR = 0.02


NO_ARRAYS: tuple[Arrays, np.ndarray, Arrays] = ({}, np.empty((0, 0), np.float32), {})
"""Patches, embedding and class maps of clusters that no network has seen."""


@dataclass(frozen=True, eq=False)
class NetworkArrays:
    """What a network saw of N clusters of an image: (N, P, P), (N, h, w), (N, D)."""

    image_id: int
    ids: np.ndarray
    patches: Arrays
    maps: Arrays
    embedding: np.ndarray

    @property
    def all(self) -> list[np.ndarray]:
        """All arrays."""
        return [*self.patches.values(), *self.maps.values(), self.embedding]

    def read(self) -> NetworkArrays:
        """Return the same with all arrays in memory."""
        patches, maps = (
            {k: np.asarray(v) for k, v in arrays.items()} for arrays in (self.patches, self.maps)
        )
        return replace(self, patches=patches, maps=maps, embedding=np.asarray(self.embedding))


@dataclass(frozen=True, eq=False)
class PictureSizes:
    """Clusters of an image in the order of their rows, and the sizes of their arrays.

    Clusters that have no arrays, or arrays of another size, have NaN.
    """

    ids: list[int]
    channels: tuple[str, ...]
    patch_px: int
    map_px: int
    n_features: int

    def row_shape(self, kind: str) -> tuple[int, ...]:
        """Return the shape of the array of one cluster: "patches", "class_maps" or "embedding"."""
        edge = {"patches": self.patch_px, "class_maps": self.map_px}.get(kind)
        return (self.n_features,) if edge is None else (edge, edge)

    def fits(self, channels: str, patch_px: int, map_px: int, n_bytes: int) -> bool:
        """Return whether the arrays of a cluster have these sizes."""
        found = (tuple(channels.split("|")), patch_px, map_px, n_bytes)
        return found == (self.channels, self.patch_px, self.map_px, 4 * self.n_features)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Patches, class maps and embedding of the clusters of an image."""

    sizes: PictureSizes
    patches: Arrays
    class_maps: Arrays
    embedding: np.ndarray

    def get(self, kind: str, channel: str) -> np.ndarray:
        """Return one array."""
        found = getattr(self, kind)
        return found[channel] if channel else found

    @property
    def nbytes(self) -> int:
        """Size of the arrays."""
        arrays = [*self.patches.values(), *self.class_maps.values(), self.embedding]
        return sum(array.nbytes for array in arrays)


def arrays_of(
    image_id: int, analysis: Analysis, cluster_ids: frozenset[int] | None
) -> NetworkArrays | None:
    """Collect the arrays of some clusters."""
    if not analysis.patches:
        return None
    ids = analysis.table["cluster_id"].to_numpy()
    whole = _whole(analysis)
    rows = np.flatnonzero(whole if cluster_ids is None else whole & np.isin(ids, list(cluster_ids)))
    if not len(rows):
        return None
    if len(rows) == len(ids):  # arrays of an analysis are never written to
        return NetworkArrays(
            image_id, ids, analysis.patches, analysis.class_maps, analysis.embedding
        )
    return NetworkArrays(
        image_id,
        ids[rows],
        {k: v[rows] for k, v in analysis.patches.items()},
        {k: v[rows] for k, v in analysis.class_maps.items()},
        analysis.embedding[rows],
    )


def read_sizes(db: sqlite3.Connection, image_id: int, ids: Sequence[int]) -> PictureSizes | None:
    """Read the sizes of patches, class maps and embeddings without reading these.

    Raises `ValueError`, `TypeError` or `AttributeError` if they are damaged.
    """
    blobs = [f"CASE typeof({x}) WHEN 'blob' THEN length({x}) END" for x in _BLOBS]
    rows = db.execute(
        f"SELECT cluster_id, channels, patch_px, map_px, {', '.join(blobs)} FROM pictures "
        "WHERE image_id = ?",
        (image_id,),
    )
    found = {row[0]: row[1:] for row in rows}
    known = [i for i in ids if i in found]
    if not known:
        return None
    for sizes in {found[i] for i in known}:
        _check_picture(*sizes)
    channels, patch_px, map_px, _, _, n_bytes = found[known[-1]]
    return PictureSizes(list(ids), tuple(channels.split("|")), patch_px, map_px, n_bytes // 4)


def read_pictures(db: sqlite3.Connection, image_id: int, sizes: PictureSizes) -> Pictures:
    """Read patches, class maps and embedding of the clusters of an image."""
    n, names = len(sizes.ids), sizes.channels
    patches, maps, embedding = (
        np.full((*lead, *sizes.row_shape(kind)), np.nan, np.float32)
        for kind, lead in zip(_BLOBS, ((len(names), n), (len(names), n), (n,)), strict=True)
    )
    row_of = {cluster_id: i for i, cluster_id in enumerate(sizes.ids)}
    for cluster_id, channels, patch_px, map_px, patch, class_map, features in db.execute(
        f"SELECT cluster_id, channels, patch_px, map_px, {', '.join(_BLOBS)} FROM pictures "
        "WHERE image_id = ?",
        (image_id,),
    ):
        i = row_of.get(cluster_id)
        if i is not None and sizes.fits(channels, patch_px, map_px, len(features)):
            patches[:, i] = _as_floats(patch, patches[:, i].shape)
            maps[:, i] = _as_floats(class_map, maps[:, i].shape)
            embedding[i] = np.frombuffer(features, np.float32)
    # Until version 0.3, infinite numbers were stored of large values: such patches are missing.
    patches[:, ~np.isfinite(patches).all(axis=(0, 2, 3))] = np.nan
    return Pictures(
        sizes,
        dict(zip(names, patches, strict=True)),
        dict(zip(names, maps, strict=True)) if sizes.map_px else {},
        embedding,
    )


def read_arrays(
    db: sqlite3.Connection, image_id: int, ids: Sequence[int]
) -> tuple[Arrays, np.ndarray, Arrays]:
    """Read patches, embedding and class maps of clusters; see `read_sizes` for damaged ones."""
    sizes = read_sizes(db, image_id, ids)
    if sizes is None:
        return NO_ARRAYS
    found = read_pictures(db, image_id, sizes)
    return found.patches, found.embedding, found.class_maps


def read_picture(
    db: sqlite3.Connection,
    image_id: int,
    cluster_id: int,
    sizes: PictureSizes,
    kind: str,  # "patches", "class_maps" or "embedding"
    channel: str,
) -> np.ndarray | float:
    """Read one array of one cluster; NaN if it has none."""
    row = db.execute(
        f"SELECT channels, patch_px, map_px, length(embedding), {kind} FROM pictures "
        "WHERE image_id = ? AND cluster_id = ?",
        (image_id, cluster_id),
    ).fetchone()
    if row is None or not sizes.fits(*row[:4]):
        return np.nan
    if not channel:
        return np.frombuffer(row[4], np.float32)
    values = _as_floats(row[4], (len(sizes.channels), *sizes.row_shape(kind)))
    return values[sizes.channels.index(channel)]


def _as_floats(blob: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return stored numbers: of half precision, or of single precision if they take that space."""
    half = len(blob) == 2 * math.prod(shape)
    return np.frombuffer(blob, np.float16 if half else np.float32).reshape(shape)


def _as_blob(values: np.ndarray) -> bytes:
    """Return the numbers of each channel as stored: in half precision if that is good enough."""
    with np.errstate(over="ignore"):
        stored = values.astype(np.float16)
    error = np.abs(stored - values).max(axis=(-2, -1))
    if (error <= _MAX_ERROR * values.std(axis=(-2, -1))).all():
        return stored.tobytes()
    return np.asarray(values, np.float32).tobytes()


def _check_picture(
    channels: str, patch_px: int, map_px: int, patches: int, maps: int, embedding: int
) -> None:
    """Raise `ValueError` if the arrays of a cluster do not have the sizes that are stored."""
    n = len(channels.split("|"))
    fits = (
        n <= _MAX_CHANNELS
        and 0 < patch_px <= _MAX_PX
        and 0 <= map_px <= _MAX_PX
        and patches in (2 * n * patch_px**2, 4 * n * patch_px**2)
        and maps == 2 * n * map_px**2
        and embedding % 4 == 0
        and embedding <= _MAX_EMBEDDING_BYTES
    )
    if not fits:
        raise ValueError("patches or class maps have another size than stored")


def picture_rows(job: NetworkArrays, rows: range) -> Iterator[tuple]:
    """Yield rows of the table `pictures` for some of the clusters."""
    channels = list(job.patches)
    patch_px = job.patches[channels[0]].shape[-1]
    map_px = next(iter(job.maps.values())).shape[-1] if job.maps else 0
    for i in rows:
        patches = np.stack([job.patches[c][i] for c in channels])
        maps = (
            np.stack([job.maps[c][i] for c in channels]).astype(np.float16)
            if job.maps
            else np.empty(0, np.float16)
        )
        yield (
            job.image_id, int(job.ids[i]), "|".join(channels), patch_px, map_px,
            _as_blob(patches), maps.tobytes(),
            np.asarray(job.embedding[i], np.float32).tobytes(),
        )  # fmt: skip


def same_pictures(before: Analysis, after: Analysis) -> bool:
    """Return whether two analyses share their arrays."""
    return before.embedding is after.embedding and all(
        before.patches.get(k) is v for k, v in after.patches.items()
    )


def _whole(analysis: Analysis) -> np.ndarray:
    """(N,) which clusters a network has seen."""
    first = next(iter(analysis.patches.values()))
    return np.isfinite(first[:, 0, 0]) & (np.arange(len(first)) < len(analysis.embedding))


# ---- patches, class maps and embeddings of an open project, read from its file when they are used
#
# The patches of 100,000 clusters take 2.5 GB and are seen a few at a time.

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

        patches = {c: of("patches", c) for c in sizes.channels}
        maps = {c: of("class_maps", c) for c in sizes.channels if sizes.map_px}
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
