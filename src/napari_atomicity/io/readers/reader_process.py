"""Processes that read image files with libraries of others, and that can be ended.

A damaged file can make such a library loop forever or fill the memory. It therefore runs in a
process of its own, which is started when the first file is read, used for the next files, and
ended and replaced if a file exceeds its `ReadLimits`. Arrays return as plain bytes and metadata as
JSON: nothing that the process sends is executed.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...core import errors
from ...core.errors import AtomicityError, Cancelled, ReadError
from ...core.processes import without_ctrl_c
from .raw_image import RawImage
from .read_limits import ReadLimits, read_limits
from .units import AxisScale

MAX_IDLE = 2
"""Number of processes that are kept for the next files."""
_POLL_S = 0.02
_MAX_REPLY = 50_000_000
_START_S = 60.0
"""Longest time in which a process starts; the limit of the first file begins afterwards."""


class ForeignError(Exception):
    """A library failed to read a file; the text names its exception."""


def read_in_process(read: Callable[[Path], RawImage], path: Path) -> RawImage | None:
    """Read an image file in another process.

    The result is None if the image is large and is to be opened by ``read`` in this process; the
    other process opened it without an error. Raises `ReadError` if reading takes too much time or
    memory, or ends the process. `AtomicityError` and `PermissionError` of ``read`` are raised here,
    and `ForeignError` for any other exception of it.
    """
    process = _take()
    try:
        found = process.read(f"{read.__module__}:{read.__qualname__}", path, read_limits())
    except BaseException:
        if process.busy:
            process.kill()
        raise
    finally:
        _give_back(process)
    return found


def interrupt_reading() -> None:
    """Make all current calls of `read_in_process` raise `Cancelled`; for signal handlers."""
    global _interruptions
    _interruptions += 1


class _Process:
    """One process that reads files."""

    def __init__(self) -> None:
        code = "from napari_atomicity.io.readers.reader_worker import serve; serve()"
        paths = [path for path in sys.path if path]
        with without_ctrl_c():
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", code],  # -P: modules in the current folder are ignored
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        self.busy = False
        self._ready = False

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._popen.poll() is None

    def read(self, function: str, path: Path, limits: ReadLimits) -> RawImage | None:
        """Read a file; see `read_in_process`."""
        self.busy = True
        request = {
            "function": function,
            "path": os.fsencode(path.absolute()).hex(),
            "seconds": limits.read_seconds,
            "memory": limits.memory_bytes,
        }
        replies: list[_Reply] = []
        ready, done = threading.Event(), threading.Event()

        def exchange() -> None:
            with suppress(OSError, ValueError, MemoryError):
                assert self._popen.stdin is not None and self._popen.stdout is not None
                self._ready = self._ready or bool(self._popen.stdout.readline())
                ready.set()
                self._popen.stdin.write(json.dumps(request).encode() + b"\n")
                self._popen.stdin.flush()
                replies.append(self._receive(limits.memory_bytes))
            ready.set()
            done.set()

        threading.Thread(target=exchange, name="atomicity reader", daemon=True).start()
        self._wait(ready, _START_S, limits, path)
        self._wait(done, limits.read_seconds, limits, path)
        if not replies:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(1)  # the status of a crash; another reply than an image is none
            self.kill()
            status = self._popen.returncode
            raise ReadError(
                f"the process that reads it ended unexpectedly (status {status})",
                path,
                "The file may be damaged: copy or export it again",
            )
        self.busy = False
        return replies[0].result()

    def _wait(self, done: threading.Event, seconds: float, limits: ReadLimits, path: Path) -> None:
        """Wait for the reply within the limits."""
        before = _interruptions
        end = time.monotonic() + seconds
        while not done.wait(_POLL_S):
            if _interruptions != before:
                raise Cancelled
            if time.monotonic() > end:
                raise too_slow(path, seconds)
            if self._memory_bytes() > limits.memory_bytes:
                raise too_much_memory(path, limits.memory_bytes)

    def _memory_bytes(self) -> int:
        import psutil

        with suppress(psutil.Error):
            return int(psutil.Process(self._popen.pid).memory_info().rss)
        return 0

    def _receive(self, max_bytes: int) -> _Reply:
        """Receive a line of JSON and the bytes of the array."""
        stdout = self._popen.stdout
        assert stdout is not None
        about = json.loads(stdout.readline(_MAX_REPLY))
        if "shape" not in about:
            return _Reply(about)
        dtype, shape = np.dtype(str(about["dtype"])), tuple(int(n) for n in about["shape"])
        if dtype.kind not in "biufc" or math.prod(shape) * dtype.itemsize > max_bytes:
            raise ValueError(f"unexpected array {dtype} {shape}")
        data = np.empty(shape, dtype)
        left = data.reshape(-1).view(np.uint8).data
        while len(left):
            n = stdout.readinto(left)  # type: ignore[attr-defined]
            if not n:
                raise OSError("the process ended")
            left = left[n:]
        return _Reply(about, data)

    def kill(self) -> None:
        """End it, and close its pipes."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            with suppress(OSError):  # a request that was not sent
                assert pipe is not None
                pipe.close()


class _Reply:
    """What a process answers."""

    def __init__(self, about: dict[str, Any], data: np.ndarray | None = None) -> None:
        self._about, self._data = about, data

    def result(self) -> RawImage | None:
        """Return the image, or raise the error."""
        about = self._about
        if self._data is not None:
            y, x = (None if one is None else AxisScale(*one) for one in (about["y"], about["x"]))
            return RawImage(self._data, y, x, about["calibration"], about["metadata"])
        if "large" in about:
            return None
        kind, text = about["error"], about["text"]
        if kind == "PermissionError":
            raise PermissionError(text)
        found = getattr(errors, kind, None)
        if isinstance(found, type) and issubclass(found, AtomicityError):
            raise found(text, about["path"], about["advice"])
        raise ForeignError(text)


def too_slow(path: Path, limit_s: float) -> ReadError:
    """Return the error of a file that takes longer than allowed."""
    return ReadError(
        f"reading it took longer than {limit_s:g} s and was ended",
        path,
        "The file may be damaged; a slow drive needs a larger --read-seconds (Reading time in the "
        "window)",
    )


def too_much_memory(path: Path, limit: int) -> ReadError:
    """Return the error of a file that needs more bytes of memory than allowed."""
    return ReadError(
        f"reading it needs more than {limit / 1e9:.3g} GB of memory",
        path,
        "The file may be damaged; --read-memory-gb (Reading memory in the window) is the limit",
    )


# ---- the processes that are kept
_idle: list[_Process] = []
_lock = threading.Lock()
_interruptions = 0


def _take() -> _Process:
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.alive:
                return process
            process.kill()
    return _Process()


def _give_back(process: _Process) -> None:
    with _lock:
        if process.alive and not process.busy and len(_idle) < MAX_IDLE:
            _idle.append(process)
            return
    process.kill()


def _kill_idle() -> None:
    with _lock:
        while _idle:
            _idle.pop().kill()


atexit.register(_kill_idle)
if hasattr(os, "register_at_fork"):  # a copy of this process must not use the same pipes
    os.register_at_fork(after_in_child=_idle.clear)
