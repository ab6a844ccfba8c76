"""Progress and cancellation of computations.

Long computations take two functions of their caller, `Progress` and `Stop`, as ``progress`` and
``stop``; None for neither. They are called between steps. When ``stop()`` is true, the computation
ends with `core.errors.Cancelled`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from .errors import Cancelled

Progress = Callable[[int, int, str], None]
"""``progress(done, total, message)``"""

Stop = Callable[[], bool]
"""``stop()`` is true when the computation shall stop."""

_MIN_ELAPSED_S = 1.0
"""Before this time, an estimate of the time left would be a guess."""


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time that the block takes to the seconds of a stage."""
    start = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start


def report(progress: Progress | None, done: int, total: int, message: str) -> None:
    """Report to the caller that ``done`` of ``total`` steps are finished, and the current step."""
    if progress is not None:
        progress(done, total, message)


def checked(progress: Progress | None, stop: Stop | None) -> Progress:
    """Return a progress function that ends the computation when ``stop()`` is true."""

    def check_and_report(done: int, total: int, message: str) -> None:
        check(stop)
        report(progress, done, total, message)

    return check_and_report


def prefixed(progress: Progress | None, before: str) -> Progress:
    """Return a progress function that adds a prefix to each message."""
    return lambda done, total, message: report(progress, done, total, before + message)


def with_time_left(progress: Progress | None) -> Progress:
    """Return a progress function that adds the time left of a counted step to its message.

    Others may follow, as the calibration follows the training: the time is said to be of this step.
    """
    began: dict[tuple[int, str], tuple[float, int]] = {}

    def report_with_time(done: int, total: int, message: str) -> None:
        start_s, first = began.setdefault((total, message), (time.monotonic(), done))
        elapsed_s = time.monotonic() - start_s
        if first < done < total and elapsed_s > _MIN_ELAPSED_S:
            left_s = elapsed_s / (done - first) * (total - done)
            message = f"{message}, {format_duration(left_s)} of this step left"
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


# ---- loop over images: apply a step to each item, and pass each result to sinks
#
# A *step* processes one item, for example detects the clusters of an image. An *executor* applies
# the step to all items and yields the results as they are completed: `serial` in this process,
# `pipeline.runs.dask_workers.Workers.each` on workers. The items may be a list of files, the images
# that arrive in a watched folder, or those that wait in the window. A *sink* takes each result: it
# stores a part, collects rows of a table, reports the outcome, or changes the window.

I = TypeVar("I")  # noqa: E741  (an item)
R = TypeVar("R")
Executor = Callable[[Callable[[Any], Any], Iterable[Any], Stop | None], Generator[Any, None, None]]


def serial(
    step: Callable[[I], R], items: Iterable[I], stop: Stop | None = None
) -> Generator[R, None, None]:
    """Apply a step to the items one by one in this process."""
    for item in items:
        check(stop)
        yield step(item)


def for_each_image(
    items: Iterable[Any],
    step: Callable[[Any], Any],
    executor: Executor = serial,
    sinks: Sequence[Callable[[Any], None]] = (),
    stop: Stop | None = None,
    on_error: Callable[[Any, Exception], Any] | None = None,
) -> bool:
    """Apply a step to each item and pass each result to all sinks.

    Parameters
    ----------
    items : iterable
        Items, for example `io.inputs.Input`.
    step : callable
        ``step(item) -> result``.
    executor : callable, optional
        ``executor(step, items, stop)`` yields the results.
    on_error : callable, optional
        ``on_error(item, error)`` returns the result of an item whose step failed; without it the
        error ends the loop. Not for executors that send the step to other processes.

    Returns
    -------
    bool
        Whether ``stop`` or Ctrl-C interrupted the loop.
    """

    def attempt(item: Any) -> Any:
        try:
            return step(item)
        except Cancelled:
            raise
        except Exception as error:
            assert on_error is not None
            return on_error(item, error)

    try:
        with closing(executor(attempt if on_error else step, items, stop)) as results:
            for result in results:
                for sink in sinks:
                    sink(result)
    except (KeyboardInterrupt, Cancelled):
        return True
    return False
