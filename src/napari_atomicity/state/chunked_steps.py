"""Split a long step into parts, so that the window can redraw between them.

A step is a generator (`Work`). One that changes a few clusters runs to its end at once; a long one
runs in parts, if the window offers that with `ChunkedSteps.run_chunked`.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Collection, Generator, Mapping

MAX_IMAGES = 8
"""Steps that concern more images than this are long."""
MAX_CLUSTERS = 5000
"""Steps that change more clusters than this are long."""

Work = Generator[bool, None, None]
"""A step in parts. It may pause at each yield, and must pause at one that yields True."""


def is_long(by_image: Mapping[str, Collection[int]]) -> bool:
    """Return whether a step that changes these clusters is long."""
    return exceeds_limits(len(by_image), sum(map(len, by_image.values())))


def exceeds_limits(n_images: int, n_clusters: int) -> bool:
    """Return whether a step that changes so many images and clusters is long."""
    return n_images > MAX_IMAGES or n_clusters > MAX_CLUSTERS


class ChunkedSteps:
    """Runs steps, at most one at a time."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self.run_chunked: Callable[[Callable[[float], bool]], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a step is under way."""
        return self._work is not None

    def run(self, work: Work, long: bool) -> None:
        """Run a step: at once, or in parts if it is long and the window offers that."""
        if self._work is not None:  # a listener of a step does another one
            _exhaust(work)
            return
        self._work = work
        if long and self.run_chunked is not None:
            self.run_chunked(self.step)
            return
        try:
            _exhaust(work)
        finally:
            self._work = None

    def step(self, seconds: float) -> bool:
        """Continue the step under way for some time; return whether there is more to do."""
        work, end = self._work, time.perf_counter() + seconds
        if work is None or inspect.getgeneratorstate(work) == inspect.GEN_RUNNING:
            return False
        try:
            while not next(work) and time.perf_counter() < end:
                pass
        except StopIteration:
            self._work = None
            return False
        except BaseException:
            self._work = None
            raise
        return True

    def finish(self) -> None:
        """Run the step under way to its end."""
        while self._work is not None and self.step(math.inf):
            pass


def _exhaust(work: Work) -> None:
    for _ in work:
        pass
