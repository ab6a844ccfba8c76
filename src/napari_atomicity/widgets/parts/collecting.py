"""Python's collector of garbage, kept from looking at what never goes away."""

from __future__ import annotations

import gc

_settled = False


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
