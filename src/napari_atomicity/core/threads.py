"""PyTorch on several cores: independent pieces of work, each in one thread.

If all threads share each operation, every operation waits for the slowest thread, and waiting
threads keep their cores busy. This is slow next to other programs and threads
(docs/explanation/performance.md). Independent pieces also give the same bits for any number of
threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, Lock
from typing import TypeVar

_making = Lock()
T = TypeVar("T")
R = TypeVar("R")


def parallel_map(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply ``work`` to every item in as many threads as PyTorch uses; results are in order."""
    return list(parallel_results(work, items))


def parallel_results(
    work: Callable[[T], R], items: Sequence[T], on_cpu: bool = True
) -> Generator[R, None, None]:
    """Yield the results of `parallel_map` one by one, in one thread unless they are of the CPU.

    Once the generator is closed, no more pieces start.
    """
    import torch  # which takes seconds: only where there is work

    n = torch.get_num_threads()
    if n == 1 or not on_cpu:
        yield from map(work, items)
        return
    with _making:  # the number of threads of PyTorch changes while a pool is made
        pool = _pool(n)
    yield from pool.map(work, items)


@lru_cache(maxsize=4)
def _pool(n: int) -> ThreadPoolExecutor:
    import torch

    pool = ThreadPoolExecutor(n, thread_name_prefix="torch")
    barrier = Barrier(n)

    def use_one_thread(_: int) -> None:
        torch.get_num_threads()  # the first call sets the number of threads
        torch.set_num_threads(1)
        barrier.wait()  # so that each thread of the pool runs this once

    list(pool.map(use_one_thread, range(n)))
    # New threads start with the number of the last call: restore that of the caller.
    torch.set_num_threads(n)
    return pool


def _forget() -> None:
    _pool.cache_clear()
    _making.release()


if hasattr(os, "register_at_fork"):  # threads of a pool do not exist in a forked process
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release)
    os.register_at_fork(after_in_child=_forget)
