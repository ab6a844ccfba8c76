"""Garbage collection that skips long-lived objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_settled = False
# Looking at all that has lived long takes tens of milliseconds: fifty times rarer than by default.
# What goes in circles and is large are layers, and napari collects whenever one is removed.
_RARELY = (10_000, 10, 50)


def pass_over_what_is_there() -> None:
    """Let the collector pass over what a large project or step has brought along.

    Half a million objects, which go by themselves when the project is closed; looking at them
    takes a quarter of a second now and then. What an older project has left behind is gone by
    then: napari collects whenever a layer is removed.
    """
    gc.freeze()


def settle_collector() -> None:
    """Let the collector pass over all that exists now, once in a process.

    napari, torch and matplotlib bring a million objects along, and looking at all of them takes a
    third of a second: now and then in the middle of a movement, and, because napari asks for it,
    at every layer that is removed. What is made from now on is looked at as ever.
    """
    global _settled
    if not _settled:
        _settled = True
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_RARELY)


@contextmanager
def not_now() -> Iterator[None]:
    """Let the collector wait while a part of a long step is taken."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
