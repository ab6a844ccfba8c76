"""Write predictions and arrays of models in a background thread.

All of it can be computed again: a process that is killed loses no correction.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..core.errors import AtomicityError
from ..models.analysis import Analysis
from .cached_arrays import NetworkArrays, arrays_of, picture_rows, same_pictures
from .lazy_pictures import LazyPictures
from .rows import write_predictions

logger = logging.getLogger(__name__)

# Short transactions: a correction waits for one of them at most.
_PER_TRANSACTION = 64


@dataclass(frozen=True, eq=False)
class _Predictions:
    image_id: int
    analysis: Analysis
    cluster_ids: frozenset[int] | None


class BackgroundWriter:
    """Writes predictions and arrays of models in a thread of its own.

    Parameters
    ----------
    connect : callable
        Returns the connection of the calling thread.
    pictures : LazyPictures
        Keeps arrays in memory that are replaced in the file.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], pictures: LazyPictures) -> None:
        self._connect = connect
        self._pictures = pictures
        self._jobs: queue.Queue[NetworkArrays | _Predictions | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def submit(
        self,
        image_id: int,
        before: Analysis | None,
        after: Analysis,
        cluster_ids: frozenset[int] | None,
        with_predictions: bool,
    ) -> None:
        """Write the arrays of some clusters and, if wanted, their predictions, in the background.

        Parameters
        ----------
        image_id : int
            Id of the image in the file.
        before, after : Analysis
            The analysis before and after the change. Arrays that are the same are not written.
        cluster_ids : frozenset of int or None
            Clusters that may have changed; None: any.
        with_predictions : bool
            Whether to write the predictions too.
        """
        if with_predictions:
            self._put(_Predictions(image_id, after, cluster_ids))
        if before is None or not same_pictures(before, after):
            arrays = arrays_of(image_id, after, cluster_ids)
            if arrays is not None:
                self._put(arrays)

    def _put(self, job: NetworkArrays | _Predictions) -> None:
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
                if isinstance(job, _Predictions):
                    with self._transaction() as db:
                        write_predictions(db, job.image_id, job.analysis, job.cluster_ids)
                else:
                    self._write_arrays(job)
            except AtomicityError as error:  # the window says it too
                logger.warning("arrays or predictions were not written: %s", error)
            except Exception:  # all of it can be computed again: the thread must continue
                logger.exception("arrays or predictions could not be written")
            finally:
                self._jobs.task_done()

    def _write_arrays(self, job: NetworkArrays) -> None:
        self._pictures.keep_replaced(job.image_id, job.all)
        job = job.read()
        for start in range(0, len(job.ids), _PER_TRANSACTION):
            # Made before the file is locked, so that a correction does not wait for it.
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
        # This can be computed again, so it need not be synced to the disk at once.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
