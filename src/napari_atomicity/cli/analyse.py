"""Command ``atomicity analyse``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import AtomicityError
from ..core.text import pluralise
from ..pipeline.run_request import ExplainRequest, RunRequest
from .common import (
    AsJson,
    ConsoleProgress,
    Images,
    Overwrite,
    PublicationFigures,
    Workers,
    analysing,
    exit_with_status,
    fail,
    guarded,
    print_json,
    refuse_to_overwrite,
    require_an_image,
    say,
    say_doubts,
    without_collection,
)
from .ending import SIGNALS
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..io.provenance import Outcome
    from ..models.analysis import Analysis
    from ..models.class_maps.class_averages import Averages
    from ..pipeline.explanations import ExplainRun
    from ..pipeline.runs.run_files import Run


# ---- command ``atomicity explain``
@guarded
@reads_images
@options_of(ExplainRequest)
def explain(
    images: Images,
    out: Annotated[
        Path, typer.Option(help="Folder for class maps, class averages, tables and record.")
    ],
    request: Callable[..., ExplainRequest],
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write class maps of all clusters, and their averages by class and channel.

    Class maps (Grad-CAM) show which regions of a cluster support a class. The averages compare the
    centre of the clusters with their outline, with bootstrap intervals.
    """
    with without_collection():
        from ..pipeline.explanations import explain_images

    wanted = request()
    require_an_image(images)
    refuse_to_overwrite(out, images, overwrite)
    with analysing(*SIGNALS) as (console, stop):
        run = explain_images(images, out, wanted, console.progress, stop, console.outcome)
    _print_averages(run)
    if as_json:
        print_json(run.summary())
    say(f"{len(run.table)} clusters; results in {out}")
    exit_with_status(run, out / "run.json")


def _print_averages(run: ExplainRun) -> None:
    """Print centre against outline of each class and channel."""
    from ..models.class_maps.class_average_figure import describe_averages
    from ..pipeline.explanations import PREDICTED

    for name, averages in run.averages.items():
        say(f"class maps of the {name} class" if name == PREDICTED else f"class maps of {name}")
        say(f"  {describe_averages(averages)}")
        if averages.items:
            say("  centre (+1) against outline (−1):")
        for label in averages.labels:
            say(f"  {label}: {_format_balances(averages, label)}")


def _format_balances(averages: Averages, label: str) -> str:
    """Format centre against outline of one class, by channel."""
    from ..models.class_maps.class_average_figure import format_balance

    parts = []
    for channel in averages.channels:
        average = averages.get(label, channel)
        if average is not None and average.clusters:
            parts.append(f"{channel} {format_balance(average)}")
    return ", ".join(parts) or "no class map"


# ---- command ``atomicity batch``

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
    refuse_to_overwrite(out, paths, overwrite, may_be_moved=True)  # parts are known by content
    run = start_batch(paths, out, wanted, workers, scheduler, patience_s, overwrite)
    if as_json:
        print_json(run.summary())
    finish(run, out)


def start_batch(
    paths: list[Path],
    out: Path,
    request: RunRequest,
    workers: int | None = None,  # number of processes. Default: number of cores
    scheduler: str | None = None,  # address of a dask scheduler, or its JSON file
    patience_s: float = 600.0,  # timeout in seconds for a worker or the scheduler
    overwrite: bool = False,
) -> Run:
    """Analyse images on workers and show the progress."""
    with without_collection():
        from ..pipeline.runs.batch import run_batch

    with analysing() as (console, stop):
        shown = BatchProgress(console)
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


def finish(run: Run, out: Path) -> None:
    """Print the number of images and clusters, and exit with the status of the run."""
    done = sum(outcome.status == "done" for outcome in run.outcomes)
    earlier = f", {run.reused} of them by an earlier run" if run.reused else ""
    clusters = pluralise(len(run.table), "cluster")
    say(f"{pluralise(done, 'image')}{earlier}, {clusters}; results in {out}")
    say_doubts(run.outcomes)
    if run.problem is not None:
        fail(f"{run.problem} The completed images are saved", 1)
    exit_with_status(run, out / "failures.csv", "; the same command resumes the run")


@guarded
@reads_images
@options_of(RunRequest)
def analyse(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for tables, report and record.")],
    request: Callable[..., RunRequest],
    average_frames: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Stacks only: number of registered frames to average before the detection.",
        ),
    ] = None,
    figures: PublicationFigures = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Detect clusters in images, classify them by number of atoms, and count the classes.

    In stacks of frames, also track the clusters and their changes over time. If run again, analyse
    only missing images.
    """
    number = _frames_of(average_frames)
    require_an_image(images)
    refuse_to_overwrite(out, images, overwrite)
    wanted = request(average_frames=number)
    if workers is not None and workers > 1:
        run = start_batch(images, out, wanted, workers, overwrite=overwrite)
    else:
        run, _ = run_analysis(images, out, wanted, overwrite)
    _print_ratios(run)
    if figures is not None:
        _write_figures(run, figures, wanted)
    if as_json:
        print_json(run.summary())
    finish(run, out)


def _write_figures(run: Run, folder: Path, request: RunRequest) -> None:
    """Write the plots of all images of a run, and the images that the report shows."""
    from ..core.tables.cluster_table import classes_of
    from ..pipeline.runs.finalize import evenly_distributed
    from ..pipeline.runs.one_image import detect_again
    from ..reporting.figures import write_images
    from ..reporting.plots.publication import write_plots
    from ..reporting.report import MANY_IMAGES

    done = [outcome for outcome in run.outcomes if outcome.status == "done"]
    parameters = {outcome.image: outcome.parameters for outcome in done}
    shown = [done[i] for i in sorted(evenly_distributed(len(done), MANY_IMAGES))]
    rows = dict(list(run.table.groupby("image", sort=False)))
    try:
        classes = classes_of(run.table)
        files = write_plots(run.table, classes, folder, parameters, request.keep_ratios)
        say("Drawing the images")
        analyses = (detect_again(o, rows[o.image], request) for o in shown if o.image in rows)
        files += write_images(filter(None, analyses), folder)
    except AtomicityError as error:
        fail(str(error))
    say(f"{pluralise(len(files), 'file')} of figures in {folder}")


def _frames_of(text: str | None) -> int | str | None:
    """Parse a number of frames, "all", or None."""
    if text is None or text == "all":
        return text
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"--average-frames must be a positive number or 'all', not {text}")
    return int(text)


def run_analysis(
    images: list[Path], out: Path, request: RunRequest, overwrite: bool = False
) -> tuple[Run, Analysis | None]:
    """Analyse images and show the progress; return the run and the last analysis."""
    with without_collection():
        from ..pipeline.runs.engine import analyse_images

    last: list[Analysis] = []

    def on_outcome(outcome: Outcome, analysis: Analysis | None) -> None:
        console.outcome(outcome)
        if analysis is not None:
            last[:] = [analysis]

    with analysing(*SIGNALS) as (console, stop):
        run = analyse_images(
            images, out, request, console.progress, stop, on_outcome, overwrite=overwrite
        )
    return run, last[0] if last else None


def _print_ratios(run: Run) -> None:
    """Print notes about the ratios of all images, and how they agree with the reference."""
    from ..core.tables.cluster_table import ALL

    for note in dict.fromkeys(run.ratios.loc[run.ratios["scope"] == ALL, "note"]):
        if note:
            say(f"note: {note}")
    if run.comparison is None or run.comparison.mean_absolute_error is None:
        return
    r2, error = run.comparison.r2, run.comparison.mean_absolute_error
    shown = run.comparison.why_no_r2 if r2 is None else f"{r2:.3f}"
    say(f"compared with the reference: R² {shown}, mean absolute error {error:.3f}")
    if run.comparison.not_compared:
        say(f"no cluster was counted in {', '.join(run.comparison.not_compared)} of the reference")
