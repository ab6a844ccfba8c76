"""Steps of the loop over images: read an image, analyse it, and report its outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, TypeVar

from ..core.errors import Cancelled
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, for_each_image, prefixed, report
from ..io.images import load
from ..io.inputs import Input
from ..io.provenance import Outcome, micrograph_fields

R = TypeVar("R")
A = TypeVar("A")


def process_in_turn(
    inputs: Sequence[Input],
    step: Callable[[Input, Progress], R],
    sink: Callable[[R], None],
    on_outcome: Callable[[Outcome, Any], None] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> bool:
    """Apply a step to images one by one; messages start with the number and name of the image."""
    numbers = count(1)

    def numbered(item: Input) -> R:
        where = f"[{next(numbers)}/{len(inputs)}] {item.name}"
        report(progress, 0, 0, where)
        return step(item, prefixed(progress, f"{where}: "))

    def take(result: Any) -> None:
        sink(result)
        if on_outcome is not None:
            on_outcome(result.outcome, result.analysis)

    return for_each_image(inputs, numbered, sinks=[take], stop=stop)


def process_image(
    item: Input,
    analyse: Callable[[Micrograph, dict[str, Any]], tuple[Outcome, A, R]],
    pixel_size_nm: float | None = None,
    progress: Progress | None = None,
) -> tuple[Outcome, A | None, R | None]:
    """Read an image and analyse it; convert any error to the outcome of this image.

    Raises `Cancelled` if the analysis was cancelled.
    """
    if item.error is not None:
        return item.outcome("failed", item.error), None, None
    known: dict[str, Any] = {}
    try:
        report(progress, 0, 0, "Reading")
        source = item.path if item.micrograph is None else item.micrograph
        micrograph = load(source, item.pixel_size_nm or pixel_size_nm, name=item.name)
        known |= micrograph_fields(micrograph)
        return analyse(micrograph, known)
    except Cancelled:
        raise
    except Exception as error:  # an error in one image must not end the run
        return item.failed(error, known), None, None


def add_unreached(outcomes: Sequence[Outcome], inputs: Sequence[Input]) -> list[Outcome]:
    """Complete the outcomes with "not reached" for the remaining images."""
    rest = inputs[len(outcomes) :]
    return [*outcomes, *(item.outcome("not reached", "stopped before") for item in rest)]
