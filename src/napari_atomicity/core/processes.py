"""Pools of worker processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def spawn_pool(
    workers: int, start: Callable[..., None] | None = None, *arguments: Any
) -> ProcessPoolExecutor:
    """Return a pool of processes that start without a copy of this process.

    Forked processes would inherit the locks that other threads (of napari, dask or torch) hold,
    and wait for them forever.

    Parameters
    ----------
    workers : int
        Number of processes.
    start : callable, optional
        Called in each process before its first task.
    *arguments : object
        Arguments of ``start``.
    """
    return ProcessPoolExecutor(workers, get_context("spawn"), start, arguments)
