"""What models see and say is written by a thread behind the window.

All of it can be computed again, so that a process that is killed loses nothing that a person did.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..models.analysis import Analysis
from .cached_arrays import NetworkArrays, arrays_of, picture_rows, same_pictures
from .rows import write_predictions

logger = logging.getLogger(__name__)

# Short transactions: whoever corrects meanwhile waits for one of them at most.
_PER_TRANSACTION = 64


@dataclass(frozen=True, eq=False)
class _Said:
    image_id: int
    analysis: Analysis
    cluster_ids: frozenset[int] | None


class BackgroundWriter:
    """Writes what models see and say in a thread of its own.

    Parameters
    ----------
    connect
        Gives a connection of the thread that asks.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._jobs: queue.Queue[NetworkArrays | _Said | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def submit(
        self,
        image_id: int,
        before: Analysis | None,
        after: Analysis,
        cluster_ids: frozenset[int] | None,
        said: bool,
    ) -> None:
        """Have written what a model sees in these clusters and, with ``said``, says of them.

        Pictures only if they are others than before.
        """
        if said:
            self._put(_Said(image_id, after, cluster_ids))
        if before is None or not same_pictures(before, after):
            seen = arrays_of(image_id, after, cluster_ids)
            if seen is not None:
                self._put(seen)

    def _put(self, job: NetworkArrays | _Said) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="project", daemon=True)
            self._thread.start()
        self._jobs.put(job)

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
                if isinstance(job, _Said):
                    with self._transaction() as db:
                        write_predictions(db, job.image_id, job.analysis, job.cluster_ids)
                else:
                    self._write_arrays(job)
            except Exception:  # all of it can be computed again: the work must go on
                logger.exception("what a model sees could not be written")
            finally:
                self._jobs.task_done()

    def _write_arrays(self, job: NetworkArrays) -> None:
        for start in range(0, len(job.ids), _PER_TRANSACTION):
            # Made before the file is locked: whoever corrects meanwhile should not wait for it.
            rows = list(
                picture_rows(job, range(start, min(start + _PER_TRANSACTION, len(job.ids))))
            )
            with self._transaction() as db:
                db.executemany(
                    "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows
                )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connect()
        # This can be had again, so the system may write it when it likes.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
