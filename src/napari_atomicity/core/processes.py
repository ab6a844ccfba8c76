"""Processes beside this one."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def spawn_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of processes that begin anew.

    Copies of this one would hold the locks that its other threads (a window's, dask's, torch's)
    happen to hold, and wait for them for ever.
    """
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
