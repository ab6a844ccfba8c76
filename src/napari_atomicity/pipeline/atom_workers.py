"""Detection of single atoms in several processes of this machine."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..atoms.finder import load_atom_model
from ..core.processes import spawn_pool
from ..core.progress import Progress, Stop, check, report
from ..detection.filters import thread_count
from ..io.inputs import Input
from ..io.read_limits import ReadLimits, free_memory_bytes, read_limits, set_read_limits
from ..io.tables import read_clusters
from .atom_request import AtomRequest
from .atom_step import AtomResult, AtomStep

IMAGES_PER_WORKER = 10
"""Minimum number of images of a worker process; starting it takes as long as three images."""
WORKER_MEMORY_BYTES = 2 * 2**30
"""Free memory for which `choose_workers` starts one worker process."""
_POLL_S = 0.1
_step: AtomStep | None = None
"""Step of a worker process."""


def choose_workers(n_images: int, on_cpu: bool) -> int:
    """Choose the number of processes for a run."""
    most = n_images // IMAGES_PER_WORKER
    if not on_cpu or most < 2:
        return 1
    return max(1, min(most, thread_count(), free_memory_bytes() // WORKER_MEMORY_BYTES))


@dataclass(frozen=True, eq=False)
class AtomWorkers:
    """Executor of `core.image_loop.for_each_image`: detects the atoms in worker processes."""

    workers: int
    request: AtomRequest  # model, device and settings
    pictures: Path | None  # folder for figures of single images; None for no figures
    n_images: int  # number of images, for the progress
    progress: Progress | None = None

    def __call__(
        self, step: Any, items: Iterable[Input], stop: Stop | None
    ) -> Generator[AtomResult, None, None]:
        """Yield the result of each image, without its analysis, in the order of the images."""
        n = max(1, min(self.workers, self.n_images))
        pool = spawn_pool(n, _start, self.request, self.pictures, n, read_limits())
        try:
            for i, (item, future) in enumerate([(x, pool.submit(step, x)) for x in items]):
                report(self.progress, i, self.n_images, "Images")
                while True:
                    check(stop)
                    try:
                        yield future.result(timeout=_POLL_S)
                        break
                    except TimeoutError:
                        continue
                    except BrokenProcessPool:
                        reason = "a worker process ended; try fewer --workers if memory is short"
                        yield AtomResult(item.outcome("failed", reason))
                        break
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def detect_in_worker(item: Input) -> AtomResult:
    """Detect the atoms of an image in a worker process."""
    assert _step is not None
    return replace(_step(item, lambda *_: None), analysis=None)


def _start(request: AtomRequest, pictures: Path | None, workers: int, limits: ReadLimits) -> None:
    """Load the model in a worker process and share the cores among the workers."""
    import torch

    global _step
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops the run
    set_read_limits(limits)
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    clusters = None if request.clusters is None else read_clusters(request.clusters)
    model = load_atom_model(request.model, request.device)
    _step = AtomStep(model, request, clusters, pictures)
