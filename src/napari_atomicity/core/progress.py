"""The seam between a computation and whoever waits for it: a window, a terminal, a scheduler."""

from __future__ import annotations

from collections.abc import Callable

from .errors import Cancelled

Progress = Callable[[int, int, str], None]
"""``progress(done, total, message)``"""

Stop = Callable[[], bool]
"""``stop()`` is true once the caller no longer wants the result."""


def report(progress: Progress | None, done: int, total: int, message: str) -> None:
    """Tell the caller how far it is, if the caller wants to know."""
    if progress is not None:
        progress(done, total, message)


def prefixed(progress: Progress | None, before: str) -> Progress:
    """The same, with a word before each message on what it is about."""
    return lambda done, total, message: report(progress, done, total, before + message)


def check(stop: Stop | None) -> None:
    """Leave the computation if the caller has lost interest.

    Raises
    ------
    Cancelled
        If ``stop()`` is true.
    """
    if stop is not None and stop():
        raise Cancelled
