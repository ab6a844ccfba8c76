"""Loop over images: apply a step to each item, and pass each result to sinks.

A *step* processes one item, for example detects the clusters of an image. An *executor* applies the
step to all items and yields the results as they are completed: `serial` in this process,
`pipeline.dask_workers.Workers.each` on workers. The items may be a list of files, the images that
arrive in a watched folder, or those that wait in the window. A *sink* takes each result: it stores
a part, collects rows of a table, reports the outcome, or changes the window.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from typing import Any, TypeVar

from .errors import Cancelled
from .progress import Stop, check

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
