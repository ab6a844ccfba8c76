"""PyTorch on several cores: pieces of work side by side, each in one thread.

Where the threads share every operation instead, each operation ends with the slowest of them, and
whoever is early keeps its core busy with waiting: that is slow beside other programs, and beside
our own threads (docs/performance.md). And a piece has the same bits whatever their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

_making = Lock()
T = TypeVar("T")
R = TypeVar("R")


def parallel_map(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``work`` of every item, in order, in as many threads as PyTorch has in the calling one."""
    n = torch.get_num_threads()
    if n == 1:
        return [work(item) for item in items]
    with _making:  # while a pool is made PyTorch's number is another for a moment
        pool = _pool(n)
    return list(pool.map(work, items))


@lru_cache(maxsize=4)
def _pool(n: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(n, thread_name_prefix="torch")
    together = Barrier(n)

    def alone(_: int) -> None:
        torch.get_num_threads()  # the first question sets the number, and so is asked before
        torch.set_num_threads(1)
        together.wait()  # so that every thread of the pool comes here once

    list(pool.map(alone, range(n)))
    # A thread's own number is what threads to come begin with: give them back that of the caller.
    torch.set_num_threads(n)
    return pool


def _forget() -> None:
    _pool.cache_clear()
    _making.release()


if hasattr(os, "register_at_fork"):  # the threads of a pool don't come along
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release)
    os.register_at_fork(after_in_child=_forget)
