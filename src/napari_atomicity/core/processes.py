"""Pools of worker processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def spawn_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of processes that start without a copy of this process.

    Forked processes would inherit the locks that other threads (of napari, dask or torch) hold,
    and wait for them forever.
    """
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
