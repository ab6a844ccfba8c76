"""Patches, class maps and embeddings in the project: large, and written by a thread behind.

They can be computed again from the image, so that a process that is killed loses nothing that a
person did; half precision is more than the noise of a patch.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..analysis import Analysis

logger = logging.getLogger(__name__)

# Short transactions: whoever corrects meanwhile waits for one of them at most.
_PER_TRANSACTION = 64
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Job:
    image_id: int
    ids: np.ndarray
    patches: Arrays
    maps: Arrays
    embedding: np.ndarray


class Pictures:
    """Writes pictures in a thread of its own.

    Parameters
    ----------
    connect
        Gives a connection of the thread that asks.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def hand_over(
        self,
        image_id: int,
        before: Analysis | None,
        after: Analysis,
        cluster_ids: frozenset[int] | None,
    ) -> None:
        """Have the pictures of these clusters written, if they are others than before."""
        if not after.patches or (before is not None and _same_pictures(before, after)):
            return
        ids = after.table["cluster_id"].to_numpy()
        rows = np.arange(len(ids))
        if cluster_ids is not None:
            rows = rows[np.isin(ids, list(cluster_ids))]
        rows = rows[[_is_whole(after, int(i)) for i in rows]] if len(rows) else rows
        if not len(rows):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="project pictures", daemon=True)
            self._thread.start()
        # Arrays of an analysis are never written to, so a whole one need not be copied.
        whole = len(rows) == len(ids)
        self._jobs.put(
            _Job(
                image_id,
                ids[rows],
                {k: v if whole else v[rows] for k, v in after.patches.items()},
                {k: v if whole else v[rows] for k, v in after.class_maps.items()},
                after.embedding if whole else after.embedding[rows],
            )
        )

    def flush(self) -> None:
        """Wait until all is written."""
        if self._thread is not None:
            self._jobs.join()

    def close(self) -> None:
        """Write what waits and end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                if job is None:
                    return
                self._write(job)
            except Exception:  # pictures can be computed again: the work must go on
                logger.exception("pictures could not be written")
            finally:
                self._jobs.task_done()

    def _write(self, job: _Job) -> None:
        db = self._connect()
        # These can be had again, so the system may write them when it likes.
        db.execute("PRAGMA synchronous = NORMAL")
        for start in range(0, len(job.ids), _PER_TRANSACTION):
            db.execute("BEGIN IMMEDIATE")
            try:
                db.executemany(
                    "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    _rows(job, range(start, min(start + _PER_TRANSACTION, len(job.ids)))),
                )
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise

    @staticmethod
    def read(
        db: sqlite3.Connection, image_id: int, ids: Sequence[int]
    ) -> tuple[Arrays, Arrays, np.ndarray]:
        """Patches, class maps and embedding of clusters, in this order; NaN if there are none."""
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


def _rows(job: _Job, rows: range) -> Iterator[tuple]:
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


def _same_pictures(before: Analysis, after: Analysis) -> bool:
    return before.embedding is after.embedding and all(
        before.patches.get(k) is v for k, v in after.patches.items()
    )


def _is_whole(analysis: Analysis, row: int) -> bool:
    first = next(iter(analysis.patches.values()))
    return bool(np.isfinite(first[row, 0, 0])) and len(analysis.embedding) > row
