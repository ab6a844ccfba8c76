"""Worker processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from .progress import Stop, check

_WAIT_S = 0.1


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Start processes that never receive Ctrl-C, which a terminal sends to all: we end them.

    They inherit the blocked signal, also from threads that start here, so there is no moment
    before a handler is set. Windows does not block signals.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Process(SpawnProcess):
    def start(self) -> None:
        with without_ctrl_c():
            super().start()


class WorkerContext(SpawnContext):
    """Context of multiprocessing whose processes are those of `spawn_pool`."""

    Process = _Process


def spawn_pool(
    workers: int, start: Callable[..., None] | None = None, *arguments: Any
) -> ProcessPoolExecutor:
    """Return a pool of processes that start without a copy of this process.

    Forked processes would inherit the locks that other threads (of napari, dask or torch) hold,
    and wait for them forever.
    """
    return ProcessPoolExecutor(workers, WorkerContext(), start, arguments)


@contextmanager
def background_process(
    work: Callable[..., object], *arguments: Any, stop: Stop | None = None
) -> Iterator[None]:
    """Do some work in another process while the block runs, and wait for it after the block.

    The process is ended if the block raises, or ``stop()`` says so. If it fails, the work is done
    again in this process, so that its error is raised.
    """
    process = WorkerContext().Process(target=work, args=arguments, daemon=True)
    process.start()
    try:
        yield
        while process.is_alive():
            check(stop)
            process.join(_WAIT_S)
    finally:
        process.kill()
        process.join()
    if process.exitcode:
        work(*arguments)
