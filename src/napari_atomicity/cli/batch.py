"""Command ``atomicity batch``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import ModelError, ReadError, TableError
from ..core.text import pluralise
from ..pipeline.run_request import RunRequest
from .common import (
    AsJson,
    ConsoleProgress,
    Images,
    Overwrite,
    Workers,
    exit_with_status,
    fail,
    guarded,
    print_json,
    require_an_image,
    say,
    say_doubts,
    without_collection,
)
from .ending import catch_signals
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..io.provenance import Outcome
    from ..pipeline.batch import BatchRun


# ---- progress of the commands for many images

PLAIN_LINE_S = 10.0
"""Interval of progress lines in seconds where the output is not a terminal, as in a log file."""


class BatchProgress:
    """Shows the progress of many images; prints failed images immediately."""

    def __init__(
        self, console: ConsoleProgress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._clock = console, clock
        self._is_terminal = sys.stderr.isatty()
        self._printed_at = clock()

    def progress(self, done: int, total: int, message: str) -> None:
        """Show the number of images and the rate."""
        if self._is_terminal:
            self._console.progress(0, 0, message)
        elif total and (done == total or self._clock() - self._printed_at > PLAIN_LINE_S):
            self._printed_at = self._clock()
            self._console.line(message)

    def outcome(self, outcome: Outcome, _: Path | None = None) -> None:
        """Print the error of an image that failed."""
        if outcome.status != "done":
            self._console.outcome(outcome)


Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a dask scheduler, as tcp://node1:8786, or its JSON file."),
]
Timeout = Annotated[
    float,
    typer.Option(min=1, help="Timeout in seconds for a worker or the scheduler."),
]


@guarded
@reads_images
@options_of(RunRequest)
def batch(
    paths: Images,
    out: Annotated[Path, typer.Option(help="Folder for parts, tables, report and record.")],
    workers: Workers = None,
    scheduler: Scheduler = None,
    *,
    request: Callable[..., RunRequest],
    patience_s: Timeout = 600.0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Analyse many images in parallel; if run again, analyse only missing images."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("give --workers or --scheduler: a scheduler has its own workers")
    wanted = request()
    require_an_image(paths)
    run = start_batch(paths, out, wanted, workers, scheduler, patience_s, overwrite)
    if as_json:
        print_json(run.summary())
    finish_batch(run, out)


def start_batch(
    paths: list[Path],
    out: Path,
    request: RunRequest,
    workers: int | None = None,  # number of processes. Default: number of cores
    scheduler: str | None = None,  # address of a dask scheduler, or its JSON file
    patience_s: float = 600.0,  # timeout in seconds for a worker or the scheduler
    overwrite: bool = False,
) -> BatchRun:
    """Analyse images on workers and show the progress."""
    with without_collection():
        from ..pipeline.batch import run_batch

    with ConsoleProgress() as console, catch_signals() as stop:
        shown = BatchProgress(console)
        try:
            return run_batch(
                paths,
                out,
                request,
                workers,
                scheduler,
                shown.progress,
                stop,
                on_outcome=shown.outcome,
                notice=console.line,
                patience_s=patience_s,
                overwrite=overwrite,
            )
        except (ModelError, ReadError, TableError) as error:
            # wrong usage: no image can be analysed or compared
            fail(str(error), 2)


def finish_batch(run: BatchRun, out: Path) -> None:
    """Print the number of images and clusters, and exit with the status of the run."""
    done = sum(outcome.status == "done" for outcome in run.outcomes)
    earlier = f", {run.reused} of them by an earlier run" if run.reused else ""
    clusters = pluralise(len(run.table), "cluster")
    say(f"{pluralise(done, 'image')}{earlier}, {clusters}; results in {out}")
    say_doubts(run.outcomes)
    if run.problem is not None:
        fail(f"{run.problem} The completed images are saved", 1)
    exit_with_status(run, out / "failures.csv", "; the same command resumes the run")
