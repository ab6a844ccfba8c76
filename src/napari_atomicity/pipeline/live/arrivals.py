"""Files that come into a folder: which of them are complete, and which is next.

A file is complete when its size and time of change have stayed the same for a moment. Nothing else
tells on every system whether a program still writes to it: so what can't be read yet is tried
again for a while, and what changes later is taken again.
"""

from __future__ import annotations

import heapq
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import require_extra
from ...io.files import is_result, is_result_folder
from ...io.images import is_image_folder, reader_of
from ...io.readers import microscope

SETTLE_S = 0.1
"""So long a file must stay as it is before its result counts, and until its analysis has ended."""
READ_AFTER_S = 0.02
"""So long a file must stay as it is before it is read: its analysis takes longer than the rest."""
PATIENCE_S = 10.0
"""So long after its last change a file that can't be read may still be on its way."""
RESCAN_S = 5.0
"""Interval of complete scans in seconds, in addition to notifications."""
POLL_S = 0.5
"""So often if the system tells nothing, as on network drives."""
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "afpfs", "webdav", "fuse.sshfs",
          "fuse.rclone", "lustre", "beegfs", "vboxsf", "drvfs", "virtiofs")  # fmt: skip
"""File systems without notifications of changes by other machines."""


@dataclass(frozen=True)
class FileFingerprint:
    """A file as it is: another one has other content, as far as can be told without reading it."""

    size: int
    mtime_ns: int
    inode: int = 0
    beside: tuple[int, int] | None = None
    """Size and time of the .emi that describes a .ser."""


def signature(path: Path) -> FileFingerprint | None:
    """Of a file, or of the files of a folder that is one image; None if it is not there."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return _of_folder(path, status.st_ino)
    except OSError:
        return None
    beside = None
    if path.suffix.lower() == ".ser":
        emi = microscope.emi_of(path)
        if emi is not None:
            try:
                other = emi.stat()
                beside = (other.st_size, other.st_mtime_ns)
            except OSError:
                beside = None
    return FileFingerprint(status.st_size, status.st_mtime_ns, status.st_ino, beside)


def _of_folder(folder: Path, inode: int) -> FileFingerprint:
    """Bytes of all files together, and the time of the last change of any."""
    size = newest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118  (thousands)
            except OSError:  # gone meanwhile: the next look is another one
                continue
            size += status.st_size
            newest = max(newest, status.st_mtime_ns)
    return FileFingerprint(size, newest, inode)


def _described(folder: Path, names: Iterable[str]) -> set[Path]:
    """Return the .emi files of .ser files, which are one recording together."""
    sers = (folder / name for name in names if name.lower().endswith(".ser"))
    return {emi for ser in sers if (emi := microscope.emi_of(ser)) is not None}


@dataclass(eq=False)
class _Pending:
    """A file that has not been taken, as it was seen last."""

    signature: FileFingerprint
    since: float
    not_before: float
    tries: int = 0


class Arrivals:
    """The files of a folder that are to be taken, the oldest first."""

    def __init__(
        self,
        folder: Path,  # searched with its subfolders
        taken: Mapping[Path, tuple[int, int]] | None = None,
        leave_out: Path | None = None,
        settle_s: float = SETTLE_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self._before = dict(taken or {})
        self._leave_out = None if leave_out is None else leave_out.resolve()
        self._settle_s, self._patience_s, self._clock = settle_s, patience_s, clock
        self._pending: dict[Path, _Pending] = {}
        # By time of change; entries of files that have changed or gone since then are skipped.
        self._queue: list[tuple[int, str, int, _Pending]] = []
        self._n_queued = 0
        self._taken: dict[Path, FileFingerprint] = {}
        self._last: _Pending | None = None

    @property
    def waiting(self) -> int:
        """Files that are there and have not been taken."""
        return len(self._pending)

    @property
    def untried(self) -> int:
        """Files that wait and were not read yet; others may be incomplete or damaged."""
        return sum(not one.tries for one in self._pending.values())

    def look(self, paths: Iterable[Path] | None = None) -> None:
        """See what has become of these files, or of all if None."""
        if paths is not None:
            paths = list(paths)
            if any(path.is_dir() for path in paths):  # what came along with it is not told
                paths = None
        if paths is None:
            there = self._all()
            for path in [p for p in self._pending if p not in there]:
                del self._pending[path]
            paths = there
        else:
            paths = [path for path in paths if self._wanted(path)]
        for path in paths:
            self._look_at(path)

    def _all(self) -> set[Path]:
        found = set()
        for root, folders, names in os.walk(self.folder):
            here = Path(root)
            folders[:] = [n for n in folders if not n.startswith(".") and not self._out(here / n)]
            images = {n for n in folders if is_image_folder(here / n)}
            folders[:] = [n for n in folders if n not in images]
            described = _described(here, names)
            found |= {here / n for n in [*names, *images] if self._is_image(here / n, described)}
        return found

    def _out(self, folder: Path) -> bool:
        is_left_out = self._leave_out is not None and folder.resolve() == self._leave_out
        return is_left_out or is_result_folder(folder)

    def _is_image(self, path: Path, described: Collection[Path] | None = None) -> bool:
        """Whether its name is that of an image; ``described``: see `_described`."""
        if path.name.startswith(".") or reader_of(path) is None:
            return False
        if path.suffix.lower() != ".emi":
            return True
        if described is None:
            described = _described(path.parent, (p.name for p in path.parent.glob("*.ser")))
        return path not in described

    def _look_at(self, path: Path) -> None:
        found = signature(path)
        if found is None or not (path.is_file() or is_image_folder(path)):
            self._pending.pop(path, None)
            return
        before = self._before.pop(path, None)
        if before == (found.size, found.mtime_ns):
            self._taken[path] = found
        pending = self._pending.get(path)
        if pending is not None:
            if pending.signature != found:
                now = self._clock()
                self._wait_for(path, _Pending(found, now, now))
        elif self._taken.get(path) != found and is_result(path):
            self._taken[path] = found
        elif self._taken.get(path) != found:
            now = self._clock()
            # What nobody has touched for long is whole, or never will be.
            old = time.time() - found.mtime_ns / 1e9 > self._patience_s
            since = now - self._patience_s if old else now
            self._wait_for(path, _Pending(found, since, now))

    def _wait_for(self, path: Path, one: _Pending) -> None:
        self._pending[path] = one
        self._n_queued += 1
        heapq.heappush(self._queue, (one.signature.mtime_ns, str(path), self._n_queued, one))

    def _wanted(self, path: Path) -> bool:
        """Whether the system tells of an image in this folder."""
        try:
            parts = path.relative_to(self.folder).parts
        except ValueError:
            return False
        if any(part.startswith(".") for part in parts[:-1]):
            return False
        above = path.parents[: max(0, len(parts) - 1)]
        if any(is_image_folder(one) for one in above):  # a piece of one, not one
            return False
        if not self._is_image(path):
            return False
        return not any(self._out(folder) for folder in above)

    def take(self) -> tuple[Path, FileFingerprint] | None:
        """Take the oldest complete file; None if there is none."""
        later: list[tuple[Path, _Pending]] = []
        try:
            while self._queue:
                _, name, _, one = heapq.heappop(self._queue)
                path = Path(name)
                if self._pending.get(path) is one and self._is_complete(path, one, later):
                    del self._pending[path]
                    self._taken[path] = one.signature
                    self._last = one
                    return path, one.signature
        finally:
            for path, one in later:
                self._wait_for(path, one)
        return None

    def _is_complete(self, path: Path, one: _Pending, later: list[tuple[Path, _Pending]]) -> bool:
        """Whether a file is complete; else add it to those that wait, unless it is gone."""
        now = self._clock()
        if now - one.since < self._settle_s or now < one.not_before:
            later.append((path, one))
            return False
        found = signature(path)
        if found is None:
            del self._pending[path]
        elif found != one.signature:
            later.append((path, _Pending(found, now, now)))
        elif found.size == 0 and now - one.since < self._patience_s:
            one.not_before = now + self._settle_s
            later.append((path, one))
        else:
            return True
        return False

    def give_back(self, path: Path, taken: FileFingerprint) -> bool:
        """Return a file that could not be read; it may not be complete."""
        now = self._clock()
        found = signature(path)
        if found is None:
            self._taken.pop(path, None)
            return True
        if found != taken:
            self._taken.pop(path, None)
            self._wait_for(path, _Pending(found, now, now))
            return True
        one = self._last
        if one is None or now - one.since >= self._patience_s:
            return False
        one.tries += 1
        one.not_before = now + min(2.0, self._settle_s * 2**one.tries)
        self._taken.pop(path, None)
        self._wait_for(path, one)
        return True

    def changed(self, path: Path, taken: FileFingerprint) -> bool:
        """Return whether a file has changed since it was taken; it then waits again."""
        found = signature(path)
        if found is None or found == taken:  # one that has gone was there
            return False
        now = self._clock()
        self._taken.pop(path, None)
        self._wait_for(path, _Pending(found, now, now))
        return True

    def due_s(self) -> float:
        """Seconds until a file may be complete; infinite if none is on its way."""
        now = self._clock()
        times = [
            max(one.since + self._settle_s, one.not_before) - now for one in self._pending.values()
        ]
        return max(0.0, min(times, default=float("inf")))


# ---- what the system tells
def is_remote(folder: Path) -> bool:
    """Whether a folder lies on a drive on which others may write without our being told."""
    import psutil

    where = folder.resolve()
    mounts = [
        (len(Path(p.mountpoint).parts), p.fstype.lower())
        for p in psutil.disk_partitions(all=True)
        if where.is_relative_to(p.mountpoint)
    ]
    return bool(mounts) and max(mounts)[1] in REMOTE


class FileWatcher:
    """What the system tells of a folder, from a thread; a context in which it listens."""

    def __init__(
        self, folder: Path, listen: bool, on_deaf: Callable[[str], None] | None = None
    ) -> None:
        self._folder, self._listen, self._on_deaf = folder, listen, on_deaf
        self._changed: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.listens = False

    def __enter__(self) -> FileWatcher:
        if self._listen:
            self.listens = True
            self._thread = threading.Thread(target=self._run, name="atomicity watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _run(self) -> None:
        try:
            with require_extra("live", "notification of new files"):
                from watchfiles import watch
            for changes in watch(
                self._folder,
                watch_filter=None,
                step=5,
                debounce=200,
                rust_timeout=500,
                stop_event=self._stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                for _, path in changes:
                    self._changed.put(Path(path))
                self._wake.set()
        except Exception as error:  # as where there are too many watches already
            self.listens = False
            if self._on_deaf is not None:
                self._on_deaf(f"{type(error).__name__}: {error}")
            self._wake.set()

    def wait(self, seconds: float) -> list[Path]:
        """Wait at most this time, and return the files that have changed."""
        self._wake.wait(seconds)
        self._wake.clear()
        return self.now()

    def now(self) -> list[Path]:
        """Return the files that have changed since the last call."""
        found: dict[Path, None] = {}
        while True:
            try:
                found[self._changed.get_nowait()] = None
            except queue.Empty:
                return list(found)
