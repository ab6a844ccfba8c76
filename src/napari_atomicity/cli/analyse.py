"""Command ``atomicity analyse``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import ModelError, ReadError, TableError
from ..pipeline.run_request import RunRequest
from .batch import finish_batch, start_batch
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
    refuse_to_overwrite,
    require_an_image,
    say,
    say_doubts,
    without_collection,
)
from .ending import SIGNALS, catch_signals
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..io.provenance import Outcome
    from ..models.analysis import Analysis
    from ..pipeline.runs import Run


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
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Detect clusters in images, classify them by number of atoms, and count the classes.

    In stacks of frames, also track the clusters and their changes over time.
    """
    number = _frames_of(average_frames)
    require_an_image(images)
    refuse_to_overwrite(out, images, overwrite)
    wanted = request(average_frames=number)
    if workers is not None and workers > 1:
        run = start_batch(images, out, wanted, workers, overwrite=overwrite)
        _print(run, as_json)
        finish_batch(run, out)
    else:
        whole, _ = run_analysis(images, out, wanted)
        _print(whole, as_json)
        finish(whole, out)


def _print(run: Run, as_json: bool) -> None:
    _print_ratios(run)
    if as_json:
        print_json(run.summary())


def _frames_of(text: str | None) -> int | str | None:
    """Parse a number of frames, "all", or None."""
    if text is None or text == "all":
        return text
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"--average-frames must be a positive number or 'all', not {text}")
    return int(text)


def run_analysis(images: list[Path], out: Path, request: RunRequest) -> tuple[Run, Analysis | None]:
    """Analyse images and show the progress."""
    with without_collection():
        from ..pipeline.runs import analyse_images

    last: list[Analysis] = []

    def on_outcome(outcome: Outcome, analysis: Analysis | None) -> None:
        console.outcome(outcome)
        if analysis is not None:
            last[:] = [analysis]

    with ConsoleProgress() as console, catch_signals(*SIGNALS) as stop:
        try:
            run = analyse_images(images, out, request, console.progress, stop, on_outcome)
        except (ModelError, ReadError, TableError) as error:
            # wrong usage: no image can be analysed or compared
            fail(str(error), 2)
    return run, last[0] if last else None


def _print_ratios(run: Run) -> None:
    """Print notes about the ratios of all images, and how they agree with the reference."""
    from ..core.cluster_table import ALL

    for note in dict.fromkeys(run.ratios.loc[run.ratios["scope"] == ALL, "note"]):
        if note:
            say(f"note: {note}")
    if run.comparison is None or run.comparison.mean_absolute_error is None:
        return
    r2, error = run.comparison.r2, run.comparison.mean_absolute_error
    shown = run.comparison.why_no_r2 if r2 is None else f"{r2:.3f}"
    say(f"compared with the reference: R² {shown}, mean absolute error {error:.3f}")


def finish(run: Run, out: Path) -> None:
    """Print the number of clusters, and exit with the status of the run."""
    say(f"{len(run.table)} clusters; results in {out}")
    say_doubts(run.outcomes)
    exit_with_status(run, out / "report.html")
