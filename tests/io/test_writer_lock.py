"""Only one process writes, also on a network drive whose locks do not work."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.io import writer_lock
from napari_atomicity.io.writer_lock import WriterLock, lease_path

LEASE_S = 0.3


@pytest.fixture(autouse=True)
def short_lease(monkeypatch):
    monkeypatch.setattr(writer_lock, "LEASE_S", LEASE_S)
    monkeypatch.setattr(writer_lock, "_POLL_S", 0.02)
    monkeypatch.setattr(writer_lock, "_EMPTY_S", 0.1)


def wait_until(true: Callable[[], object], timeout_s: float = 30) -> None:
    """Wait for the next sign of life of a lock."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def refuse(number: int):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    return flock


FLOCK = {
    "works": fcntl.flock,
    "is refused": refuse(errno.ENOLCK),
    "does not exist": refuse(errno.ENOSYS),
    "succeeds for everybody": lambda descriptor, operation: None,
}


@pytest.fixture(params=FLOCK)
def path(request, monkeypatch, tmp_path) -> Path:
    """A file on a drive on which flock does this."""
    monkeypatch.setattr(fcntl, "flock", FLOCK[request.param])
    return tmp_path / "a.lock"


def test_one_of_two_gets_the_lock_and_the_other_one_after_it(path):
    first, second = WriterLock(path), WriterLock(path)
    assert first.acquire() and first.held
    assert not second.acquire() and not second.held
    first.release()
    assert not first.held and not lease_path(path).exists()
    assert second.acquire()
    second.release()


def test_the_lock_of_a_dead_process_on_another_machine_is_free_after_a_while(path):
    dead = WriterLock(path)
    assert dead.acquire()
    marker = lease_path(path)
    left = "\n".join(
        "host=elsewhere" if line.startswith("host=") else line
        for line in marker.read_text().split("\n")
    )
    dead.release()
    marker.write_text(left)
    os.utime(marker, (2e9, 2e9))  # the clock of the other machine is ahead
    lock = WriterLock(path)
    assert lock.acquire()
    lock.release()


def test_an_empty_file_locks_nobody_out(path):
    lease_path(path).touch()
    lock = WriterLock(path)
    assert lock.acquire()
    assert lease_path(path).stat().st_size
    lock.release()


def test_a_lock_that_was_lost_is_made_again(path):
    lock = WriterLock(path)
    assert lock.acquire()
    lease_path(path).unlink()  # as if the drive had been away
    wait_until(lambda: lock.check() is None and lease_path(path).exists())
    lock.release()


def test_who_has_lost_the_lock_to_another_one_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", FLOCK["succeeds for everybody"])
    first, second = WriterLock(tmp_path / "a.lock"), WriterLock(tmp_path / "a.lock")
    assert first.acquire()
    lease_path(tmp_path / "a.lock").unlink()
    assert second.acquire()
    with pytest.raises(AtomicityError, match="taken over"):
        wait_until(first.check)
    second.check()
    second.release()


def test_other_errors_are_not_taken_for_missing_locks(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        WriterLock(tmp_path / "file" / "a.lock").acquire()
