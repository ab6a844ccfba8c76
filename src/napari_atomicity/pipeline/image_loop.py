"""Loop over images: apply a step to each item, and pass each result to sinks.

A *step* processes one item, for example detects the clusters of an image. An *executor* applies the
step to all items and yields the results as they are completed: `serial` in this process,
`pipeline.dask_workers.Workers.each` on workers. The items may be a list of files or the images that
arrive in a watched folder. A *sink* takes each result: it stores a part, collects rows of a table,
or reports the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from itertools import count
from typing import Any, TypeVar

from ..core.errors import Cancelled
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, prefixed, report
from ..io.images import load
from ..io.inputs import Input
from ..io.provenance import Outcome

I = TypeVar("I")  # noqa: E741  (an item)
R = TypeVar("R")
A = TypeVar("A")
Executor = Callable[[Callable[[Any], Any], Iterable[Any], Stop | None], Generator[Any, None, None]]


def serial(
    step: Callable[[I], R], items: Iterable[I], stop: Stop | None = None
) -> Generator[R, None, None]:
    """Apply a step to the items one by one in this process.

    Parameters
    ----------
    step : callable
        ``step(item)``.
    items : iterable
        Items.
    stop : callable, optional
        ``stop() -> bool``, called before each item.

    Yields
    ------
    Any
        Result of each step.

    Raises
    ------
    Cancelled
        If ``stop()`` returns True.
    """
    for item in items:
        check(stop)
        yield step(item)


def for_each_image(
    items: Iterable[Any],
    step: Callable[[Any], Any],
    executor: Executor = serial,
    sinks: Sequence[Callable[[Any], None]] = (),
    stop: Stop | None = None,
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
    sinks : sequence of callable, optional
        Each is called with each result, in this order.
    stop : callable, optional
        ``stop() -> bool``.

    Returns
    -------
    bool
        Whether ``stop`` or Ctrl-C interrupted the loop.
    """
    try:
        with closing(executor(step, items, stop)) as results:
            for result in results:
                for sink in sinks:
                    sink(result)
    except (KeyboardInterrupt, Cancelled):
        return True
    return False


def numbered(
    step: Callable[[Input, Progress], R], n_images: int, progress: Progress | None = None
) -> Callable[[Input], R]:
    """Wrap a step so that its progress messages start with the number and name of the image.

    Parameters
    ----------
    step : callable
        ``step(item, progress)``.
    n_images : int
        Number of images.
    progress : callable, optional
        ``progress(done, total, message)``.

    Returns
    -------
    callable
        ``step(item)`` for `for_each_image`.
    """
    numbers = count(1)

    def numbered_step(item: Input) -> R:
        where = f"[{next(numbers)}/{n_images}] {item.name}"
        report(progress, 0, 0, where)
        return step(item, prefixed(progress, f"{where}: "))

    return numbered_step


def process_image(
    item: Input,
    analyse: Callable[[Micrograph, dict[str, Any]], tuple[Outcome, A, R]],
    pixel_size_nm: float | None = None,
    progress: Progress | None = None,
) -> tuple[Outcome, A | None, R | None]:
    """Read an image and analyse it; convert any error to the outcome of this image.

    Parameters
    ----------
    item : Input
        Image.
    analyse : callable
        ``analyse(micrograph, known)`` returns outcome, analysis and output. ``known`` contains the
        fields of the outcome that are known so far; the function may add fields.
    pixel_size_nm : float, optional
        Pixel size; replaces that of the file.
    progress : callable, optional
        ``progress(done, total, message)``.

    Returns
    -------
    outcome : Outcome
        Done or failed.
    analysis, output : Any or None
        None for an image that failed.

    Raises
    ------
    Cancelled
        If the analysis was cancelled.
    """
    if item.error is not None:
        return item.outcome("failed", item.error), None, None
    known: dict[str, Any] = {}
    try:
        report(progress, 0, 0, "Reading")
        micrograph = load(item.path, pixel_size_nm, name=item.name)
        known |= {
            "sha256": micrograph.sha256,
            "pixel_size_nm": micrograph.pixel_size_nm,
            "calibration": micrograph.metadata.get("calibration"),
        }
        return analyse(micrograph, known)
    except Cancelled:
        raise
    except Exception as error:  # an error in one image must not end the run
        return item.failed(error, known), None, None


def add_unreached(outcomes: Sequence[Outcome], inputs: Sequence[Input]) -> list[Outcome]:
    """Complete the outcomes with "not reached" for the remaining images."""
    rest = inputs[len(outcomes) :]
    return [*outcomes, *(item.outcome("not reached", "stopped before") for item in rest)]
