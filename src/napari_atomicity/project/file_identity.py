"""Whether a path still leads to the file that was opened there."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..core.errors import AtomicityError

_ELSEWHERE = "everything in another file: ⋯ ▸ Save as project"


class FileIdentity:
    """Identity of an open SQLite file and of its write-ahead log.

    A file that is deleted or replaced while it is open can still be written to, but what is
    written is lost when it is closed. Changes in a deleted log are lost if the process is killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = Path(f"{path}-wal")
        self._file = _id_of(path)
        self._log_file = _id_of(self._log) if self._log.exists() else None
        self._replaced = False

    def check(self) -> None:
        """Check that the paths lead to the open file and to its log.

        Raises `AtomicityError` if the file or its log was moved, deleted, or replaced by another
        one.
        """
        try:
            there = None if self._replaced else _id_of(self._path)
        except OSError:
            raise AtomicityError(
                "the project file was moved or deleted while it was open",
                self._path,
                f"Put it back, or save {_ELSEWHERE}",
            ) from None
        if there != self._file:
            self._detach()
            raise AtomicityError(
                "the project file was replaced by another file while it was open",
                self._path,
                f"Save {_ELSEWHERE}",
            )
        if self._log_file is not None and not self._log_is_there():
            raise AtomicityError(
                f"the log ({self._log.name}) of the project file was deleted or replaced while it "
                "was open",
                self._path,
                f"Save {_ELSEWHERE}",
            )

    def _log_is_there(self) -> bool:
        try:
            return _id_of(self._log) == self._log_file
        except OSError:
            return False

    def _detach(self) -> None:
        """Remove the log of the open file: SQLite would write it into the file that is there now.

        The open file and its log can still be read. The path can't lead to it any more.
        """
        if not self._replaced and self._log_is_there():
            with contextlib.suppress(OSError):
                self._log.unlink()
                Path(f"{self._path}-shm").unlink()
        self._replaced = True


def _id_of(path: Path) -> tuple[int, int]:
    """Return device and number of a file; where files have no number, when it was made."""
    found = path.stat()
    if not found.st_ino:
        made = found.st_ctime_ns if os.name == "nt" else 0  # elsewhere ctime is another time
        return found.st_dev, int(getattr(found, "st_birthtime_ns", made))
    return found.st_dev, found.st_ino
