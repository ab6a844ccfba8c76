"""A lock that lets one process write, also where the file system's own locks do not work."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

from filelock import FileLock, LeaseSettingsMismatch, SoftFileLease, Timeout

from ..core.errors import AtomicityError

LEASE_S = 15.0
"""Without a sign of life for this time, a process on another machine counts as dead.

All versions of this package must agree on it.
"""
_POLL_S = 0.2
_EMPTY_S = 1.0
"""A file that stays empty for so long is not being written."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of file systems without locks."""


class WriterLock:
    """A lock for the one process that writes to a file or folder.

    Two locks are taken: that of the operating system, and a file that the holder touches every few
    seconds. Some network drives refuse the first one, or grant it to two machines at once. The
    second one does not depend on clocks: who wants the lock watches whether the file changes.
    The lock of a process that was killed is free at once on the same machine, and after `LEASE_S`
    on another one.

    Parameters
    ----------
    path : Path
        File that is locked; it is created, and stays. The second file is ``<path>.lease``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
        self._lease = SoftFileLease(
            lease_path(path),
            lease_duration=LEASE_S,
            timeout=LEASE_S + 1,
            poll_interval=_POLL_S,
            thread_local=False,
        )

    @property
    def held(self) -> bool:
        """Whether this process has acquired the lock and not released it."""
        return self._lock.is_locked or self._lease.is_locked

    def acquire(self) -> bool:
        """Acquire the lock; return False if another process has it.

        Raises `OSError` if no lock can be made there.
        """
        try:
            self._lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        self._remove_empty_lease()
        try:
            self._lease.acquire()
        except (Timeout, LeaseSettingsMismatch):
            self.release()
            return False
        except OSError:
            if not self._lock.is_locked:
                raise
        return True

    def _remove_empty_lease(self) -> None:
        """Remove a second file that is empty, as after a crash; it would never run out.

        Who has just created it writes to it at once, or within `LEASE_S` on a network drive.
        """
        path = lease_path(self._path)
        until = time.monotonic() + (_EMPTY_S if self._lock.is_locked else LEASE_S)
        with contextlib.suppress(OSError):
            while path.stat().st_size == 0:
                if time.monotonic() > until:
                    path.unlink()
                time.sleep(_POLL_S)

    def check(self) -> None:
        """Check that no other process has taken the lock over.

        A file that was lost, as with a network drive that was away, is made again.

        Raises `AtomicityError` if another process holds the lock now.
        """
        if self._lease.compromise is None:
            return
        with contextlib.suppress(OSError):
            self._lease.release()
        try:
            self._lease.acquire(timeout=0)
        except (Timeout, LeaseSettingsMismatch):
            raise AtomicityError(
                "another program has taken over the right to write, since this one did not answer "
                f"for {LEASE_S:.0f} s",
                self._path,
                "Close the other program, or save everything in another file",
            ) from None
        except OSError:  # the folder is away: writing says so
            pass

    def release(self) -> None:
        """Release the lock, if it is held."""
        with contextlib.suppress(OSError):
            self._lease.release()
        # The locked file stays: another process may be about to lock it.
        with contextlib.suppress(OSError):
            self._lock.release()


def lease_path(path: str | os.PathLike[str]) -> Path:
    """Return the second file of a lock."""
    return Path(f"{os.fspath(path)}.lease")
