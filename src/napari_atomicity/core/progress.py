"""Progress and cancellation of computations.

Long computations take two functions of their caller, `Progress` and `Stop`, as ``progress`` and
``stop``; None for neither. They are called between steps. When ``stop()`` is true, the computation
ends with `core.errors.Cancelled`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import Cancelled

Progress = Callable[[int, int, str], None]
"""``progress(done, total, message)``"""

Stop = Callable[[], bool]
"""``stop()`` is true when the computation shall stop."""

_MIN_ELAPSED_S = 1.0
"""Before this time, an estimate of the time left would be a guess."""


def report(progress: Progress | None, done: int, total: int, message: str) -> None:
    """Report progress to the caller.

    Parameters
    ----------
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


def with_time_left(progress: Progress | None) -> Progress:
    """Return a progress function that adds the time left to the message of a counted step."""
    began: dict[tuple[int, str], tuple[float, int]] = {}

    def report_with_time(done: int, total: int, message: str) -> None:
        start_s, first = began.setdefault((total, message), (time.monotonic(), done))
        elapsed_s = time.monotonic() - start_s
        if first < done < total and elapsed_s > _MIN_ELAPSED_S:
            left_s = elapsed_s / (done - first) * (total - done)
            message = f"{message}, {format_duration(left_s)} left"
        report(progress, done, total, message)

    return report_with_time


def format_duration(seconds: float) -> str:
    """Format a duration, as in ``40 s``, ``12 min``, ``1 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def check(stop: Stop | None) -> None:
    """Raise `Cancelled` if ``stop()`` is true."""
    if stop is not None and stop():
        raise Cancelled
