"""Command ``atomicity batch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import ModelError, ReadError, TableError
from .common import (
    AsJson,
    ConsoleProgress,
    DeviceOption,
    DiameterMax,
    DiameterMin,
    Images,
    ModelOption,
    PixelSizeOption,
    Ratios,
    ReferenceOption,
    SymmetriesOption,
    Threshold,
    UmapOption,
    counted,
    exit_with_status,
    fail,
    guarded,
    print_json,
    request_of,
    say,
)
from .many import BatchProgress, catch_sigterm

if TYPE_CHECKING:
    from ..pipeline.batch import BatchRun


Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes on this machine. Default: number of cores."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a dask scheduler, as tcp://node1:8786, or its JSON file."),
]
Timeout = Annotated[
    float,
    typer.Option(min=1, help="Timeout in seconds for a worker or the scheduler."),
]


@guarded
def batch(
    paths: Images,
    out: Annotated[Path, typer.Option(help="Folder for parts, tables, report and record.")],
    workers: Workers = None,
    scheduler: Scheduler = None,
    model: ModelOption = "default",
    pixel_size_nm: PixelSizeOption = None,
    device: DeviceOption = "auto",
    umap: UmapOption = True,
    symmetries: SymmetriesOption = False,
    threshold: Threshold = None,
    diameter_min_nm: DiameterMin = None,
    diameter_max_nm: DiameterMax = None,
    ratios: Ratios = "counted",
    reference: ReferenceOption = None,
    patience_s: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Analyse many images in parallel; if run again, analyse only missing images."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("give --workers or --scheduler: a scheduler has its own workers")
    request = request_of(
        model=model,
        device=device,
        pixel_size_nm=pixel_size_nm,
        umap=umap,
        symmetries=symmetries,
        ratios=ratios,
        reference=reference,
        threshold=threshold,
        diameter_min_nm=diameter_min_nm,
        diameter_max_nm=diameter_max_nm,
    )
    from ..pipeline.batch import run_batch

    with ConsoleProgress() as console, catch_sigterm() as stop:
        shown = BatchProgress(console)
        try:
            run = run_batch(
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
            )
        except (ModelError, ReadError, TableError) as error:
            # wrong usage: no image can be analysed or compared
            fail(str(error), 2)
    if as_json:
        print_json(run.summary())
    _finish(run, out)


def _finish(run: BatchRun, out: Path) -> None:
    """Print the number of images and clusters, and exit with the status of the run."""
    done = sum(outcome.status == "done" for outcome in run.outcomes)
    earlier = f", {run.reused} of them by an earlier run" if run.reused else ""
    say(
        f"{counted(done, 'image')}{earlier}, {counted(len(run.table), 'cluster')}; results in {out}"
    )
    if run.problem is not None:
        fail(f"{run.problem} The completed images are saved", 1)
    exit_with_status(run, out / "failures.csv", "; the same command resumes the run")
