"""Patches, class maps and embeddings as rows of a project.

They can be computed again from the image; half precision is more than the noise of a patch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..models.analysis import Analysis

Arrays = dict[str, np.ndarray]
# More would be no patch of a cluster: one row decides how much memory all rows take.
_MAX_CHANNELS, _MAX_PX, _MAX_EMBEDDING_BYTES = 4, 256, 16_384


@dataclass(frozen=True, eq=False)
class NetworkArrays:
    """What a network saw of N clusters of an image: (N, P, P), (N, h, w), (N, D)."""

    image_id: int
    ids: np.ndarray
    patches: Arrays
    maps: Arrays
    embedding: np.ndarray


def arrays_of(
    image_id: int, analysis: Analysis, cluster_ids: frozenset[int] | None
) -> NetworkArrays | None:
    """Collect the arrays of some clusters.

    Parameters
    ----------
    image_id : int
        Id of the image in the file.
    analysis : Analysis
        The analysis of the image.
    cluster_ids : frozenset of int or None
        Clusters; None: all.

    Returns
    -------
    NetworkArrays or None
        None if the network has seen none of these clusters.
    """
    if not analysis.patches:
        return None
    ids = analysis.table["cluster_id"].to_numpy()
    whole = _whole(analysis)
    rows = np.flatnonzero(whole if cluster_ids is None else whole & np.isin(ids, list(cluster_ids)))
    if not len(rows):
        return None
    # Arrays of an analysis are never written to, so a whole one need not be copied.
    part = slice(None) if len(rows) == len(ids) else rows
    return NetworkArrays(
        image_id,
        ids[part],
        {k: v[part] for k, v in analysis.patches.items()},
        {k: v[part] for k, v in analysis.class_maps.items()},
        analysis.embedding[part],
    )


def read_pictures(
    db: sqlite3.Connection, image_id: int, ids: Sequence[int]
) -> tuple[Arrays, Arrays, np.ndarray]:
    """Read patches, class maps and embedding of clusters.

    Parameters
    ----------
    db : sqlite3.Connection
        A connection to the project file.
    image_id : int
        Id of the image in the file.
    ids : sequence of int
        Clusters, in the order of the result.

    Raises
    ------
    ValueError, TypeError, AttributeError
        If they are damaged.

    Returns
    -------
    patches, class_maps : dict of str to ndarray of shape (n, h, w)
        By channel; NaN for clusters without arrays.
    embedding : ndarray of shape (n, n_features)
        NaN for clusters without arrays.
    """
    none = np.empty((0, 0), np.float32)
    rows = {
        row[0]: row[1:]
        for row in db.execute(
            "SELECT cluster_id, channels, patch_px, map_px, patches, class_maps, embedding "
            "FROM pictures WHERE image_id = ?",
            (image_id,),
        )
    }
    known = [i for i in ids if i in rows]
    if not known:
        return {}, {}, none
    for i in known:
        _check_picture(*rows[i])
    channels, patch_px, map_px = rows[known[-1]][:3]
    names = channels.split("|")
    patches = np.full((len(ids), len(names), patch_px, patch_px), np.nan, np.float32)
    maps = np.full((len(ids), len(names), map_px, map_px), np.nan, np.float32)
    n_features = len(rows[known[-1]][5]) // 4
    embedding = np.full((len(ids), n_features), np.nan, np.float32)
    for i, cluster_id in enumerate(ids):
        row = rows.get(cluster_id)
        if row is not None and row[:3] == (channels, patch_px, map_px):
            patches[i] = np.frombuffer(row[3], np.float16).reshape(patches.shape[1:])
            maps[i] = np.frombuffer(row[4], np.float16).reshape(maps.shape[1:])
            embedding[i] = np.frombuffer(row[5], np.float32)
    return (
        {name: np.ascontiguousarray(patches[:, c]) for c, name in enumerate(names)},
        {name: np.ascontiguousarray(maps[:, c]) for c, name in enumerate(names)},
        embedding,
    )


def _check_picture(
    channels: str, patch_px: int, map_px: int, patches: bytes, maps: bytes, embedding: bytes
) -> None:
    """Raise `ValueError` if the arrays of a cluster do not have the sizes that are stored."""
    n = len(channels.split("|"))
    fits = (
        n <= _MAX_CHANNELS
        and 0 < patch_px <= _MAX_PX
        and 0 <= map_px <= _MAX_PX
        and len(patches) == 2 * n * patch_px**2
        and len(maps) == 2 * n * map_px**2
        and len(embedding) % 4 == 0
        and len(embedding) <= _MAX_EMBEDDING_BYTES
    )
    if not fits:
        raise ValueError("patches or class maps have another size than stored")


def picture_rows(job: NetworkArrays, rows: range) -> Iterator[tuple]:
    """Yield rows of the table `pictures` for some of the clusters."""
    channels = list(job.patches)
    patch_px = job.patches[channels[0]].shape[-1]
    map_px = next(iter(job.maps.values())).shape[-1] if job.maps else 0
    for i in rows:
        patches = np.stack([job.patches[c][i] for c in channels]).astype(np.float16)
        maps = (
            np.stack([job.maps[c][i] for c in channels]).astype(np.float16)
            if job.maps
            else np.empty(0, np.float16)
        )
        yield (
            job.image_id, int(job.ids[i]), "|".join(channels), patch_px, map_px,
            patches.tobytes(), maps.tobytes(),
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
