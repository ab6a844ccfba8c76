"""Write predictions and arrays of models in a background thread.

All of it can be computed again: a process that is killed loses no correction.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..core.errors import AtomicityError
from ..models.analysis import Analysis
from .cached_arrays import LazyPictures, NetworkArrays, arrays_of, picture_rows, same_pictures
from .rows import write_predictions

logger = logging.getLogger(__name__)

# Short transactions: a correction waits for one of them at most.
_PER_TRANSACTION = 64


@dataclass(frozen=True, eq=False)
class _Job:
    """What an edit of an image leaves to be written; see `BackgroundWriter.submit`."""

    image_id: int
    before: Analysis | None
    after: Analysis
    cluster_ids: frozenset[int] | None
    with_predictions: bool
    arrays: NetworkArrays | None

    def is_undone_by(self, other: _Job) -> bool:
        """Return whether another edit sets back all that this one has changed in the file."""
        return (
            self.with_predictions
            and other.with_predictions
            and self.before is other.after
            and self.after is other.before
            and self.cluster_ids == other.cluster_ids
        )


class BackgroundWriter:
    """Writes predictions and arrays of models in a thread of its own.

    An edit that is undone before it is written is not written, and neither is the undo.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], pictures: LazyPictures) -> None:
        self._connect = connect
        self._pictures = pictures
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_writing = False
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def submit(
        self,
        image_id: int,
        before: Analysis | None,
        after: Analysis,
        cluster_ids: frozenset[int] | None,  # clusters that may have changed; None: any
        with_predictions: bool,
    ) -> None:
        """Write arrays of some clusters and, if wanted, their predictions, in the background."""
        is_new = before is None or not same_pictures(before, after)
        arrays = arrays_of(image_id, after, cluster_ids) if is_new else None
        job = _Job(image_id, before, after, cluster_ids, with_predictions, arrays)
        if arrays is None and not with_predictions:
            return
        with self._changed:
            last = next((x for x in reversed(self._waiting) if x.image_id == image_id), None)
            if last is not None and last.is_undone_by(job):
                self._waiting.remove(last)
            else:
                self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="project", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._is_writing))

    def close(self) -> None:
        """Write what waits and end the thread."""
        if self._thread is not None:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            self._thread.join()
            self._thread, self._is_closing = None, False

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                self._is_writing = True
            self._write(job)
            del job  # it holds the arrays of an image

    def _write(self, job: _Job) -> None:
        if job.with_predictions:
            with self._failure_logged(), self._transaction() as db:
                write_predictions(db, job.image_id, job.before, job.after, job.cluster_ids)
        if job.arrays is not None:
            with self._failure_logged():
                self._write_arrays(job.arrays)

    @contextmanager
    def _failure_logged(self) -> Iterator[None]:
        try:
            yield
        except AtomicityError as error:  # the window says it too
            logger.warning("arrays or predictions were not written: %s", error)
        except Exception:  # all of it can be computed again: the thread must continue
            logger.exception("arrays or predictions could not be written")

    def _write_arrays(self, job: NetworkArrays) -> None:
        written = job.all
        job = job.read()
        self._pictures.keep_replaced(job.image_id, written)  # they were read with the others
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
        self._begin(db)
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def _begin(self, db: sqlite3.Connection) -> None:
        """Begin to write; wait for a long step of the window, which may hold the file for minutes.

        A project that is closed does not wait for other programs longer than for one time-out.
        """
        while True:
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                is_locked = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_locked or self._is_closing:
                    raise
