"""Steps of the loop over images, the result of a run, and its circumstances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from ...core.acquisition_session import Sample
from ...core.errors import FAILED, Cancelled
from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop, for_each_image, prefixed, report
from ...io.images import load
from ...io.inputs import Input
from ...io.provenance import Outcome, micrograph_fields
from ...statistics.ratios.reference import Comparison


class WithOutcomes:
    """A result of a run over images."""

    outcomes: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        """Outcomes of the images that could not be analysed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]


@dataclass(frozen=True, eq=False)
class Run(WithOutcomes):
    """Result of a run."""

    table: pd.DataFrame
    ratios: pd.DataFrame
    outcomes: list[Outcome]
    files: list[Path]  # files of the run; the record is the last one
    interrupted: bool
    comparison: Comparison | None = None  # comparison of the ratios with a reference
    # statistics of all images that failed, and their errors
    failed_statistics: dict[str, str] = field(default_factory=dict)
    reused: int = 0  # number of images that an earlier run had analysed
    # reason why the run ended early other than an interruption: the scheduler is lost
    problem: str | None = None

    def summary(self) -> dict[str, Any]:
        """Summarise the run as plain values for JSON."""
        out = self.files[0].parent if self.files else Path()
        return {
            "out": str(out) if self.files else None,
            "files": [path.relative_to(out).as_posix() for path in self.files],
            "interrupted": self.interrupted,
            "clusters": len(self.table),
            "images": summarise_outcomes(self.outcomes, "clusters"),
            "ratios": self.ratios.to_dict("records"),
            FAILED: self.failed_statistics,
            "reference": None if self.comparison is None else self.comparison.to_dict(),
            "reused": self.reused,
            "problem": self.problem,
        }


def summarise_outcomes(outcomes: Iterable[Outcome], counted: str) -> list[dict[str, Any]]:
    """Summarise outcomes as plain values for JSON; ``counted`` is "clusters" or "atoms"."""
    return [
        {
            "image": outcome.image,
            "path": outcome.path,
            "status": outcome.status,
            "error": outcome.error,
            counted: getattr(outcome, counted),
            "warnings": list(outcome.warnings),
            "session": outcome.session,
            "sample": outcome.sample,
            "seconds": sum(outcome.seconds.values()),
        }
        for outcome in outcomes
    ]


class RunInfo(NamedTuple):
    """Circumstances of a run, for its record."""

    started: str  # start time
    device: str  # device of the network
    interrupted: bool = False
    command: Sequence[str] | None = None  # command line; that of this process if None
    # descriptions of the sessions whose images were labelled jointly
    sessions: Sequence[dict[str, Any]] = ()
    samples: Sequence[Sample] = ()


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
