"""Progress and cancellation of computations."""

from __future__ import annotations

from collections.abc import Callable

from .errors import Cancelled

Progress = Callable[[int, int, str], None]
"""``progress(done, total, message)``"""

Stop = Callable[[], bool]
"""``stop()`` is true when the computation shall stop."""


def report(progress: Progress | None, done: int, total: int, message: str) -> None:
    """Report progress to the caller.

    Parameters
    ----------
    progress : callable or None
        Function of the caller; None if it does not need progress.
    done, total : int
        Finished and total number of steps.
    message : str
        Current step.
    """
    if progress is not None:
        progress(done, total, message)


def prefixed(progress: Progress | None, before: str) -> Progress:
    """Return a progress function that adds a prefix to each message."""
    return lambda done, total, message: report(progress, done, total, before + message)


def check(stop: Stop | None) -> None:
    """Stop the computation if the caller wants this.

    Raises
    ------
    Cancelled
        If ``stop()`` is true.
    """
    if stop is not None and stop():
        raise Cancelled
