"""The commands of ``atomicity`` for many images: batches, and a folder that is watched."""

from __future__ import annotations

import functools
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    ModelOption,
    PixelSizeOption,
    Ratios,
    SymmetriesOption,
    Threshold,
    counted,
    fail,
    guarded,
    print_json,
    request_of,
    say,
)

if TYPE_CHECKING:
    from ..core.progress import Stop
    from ..io.provenance import Outcome
    from ..pipeline.batch import BatchRun
    from ..pipeline.live_results import LiveUpdate

PLAIN_LINE_S = 10.0
"""Where no line can move, in the log of a job, one says how far it is after so many seconds."""


@guarded
def batch(
    paths: Annotated[
        list[Path], typer.Argument(help="Image files, and folders of them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for parts, tables, report and record.")],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes on this machine; as many as cores if not given."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a running dask scheduler, as tcp://node1:8786, or its JSON file."
        ),
    ] = None,
    model: ModelOption = "default",
    pixel_size_nm: PixelSizeOption = None,
    device: DeviceOption = "auto",
    umap: Annotated[bool, typer.Option(help="Place the clusters in the model's UMAP.")] = True,
    symmetries: SymmetriesOption = False,
    threshold: Threshold = None,
    diameter_min_nm: DiameterMin = None,
    diameter_max_nm: DiameterMax = None,
    ratios: Ratios = "counted",
    reference: Annotated[
        Path | None,
        typer.Option(help="Known ratios to compare with: columns class, fraction and scope."),
    ] = None,
    patience_s: Annotated[
        float,
        typer.Option(min=1, help="How long no worker, or no scheduler, is waited for."),
    ] = 600.0,
    as_json: AsJson = False,
) -> None:
    """Analyse many images on many workers; run it again, and only what is missing is done."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("give --workers or --scheduler: a scheduler has its own workers")
    request = request_of(
        model=model,
        device=device,
        pixel_size_nm=pixel_size_nm,
        umap=umap,
        symmetries=symmetries,
        ratios=ratios,
        reference=None if reference is None else str(reference),
        detection={
            "threshold": threshold,
            "diameter_min_nm": diameter_min_nm,
            "diameter_max_nm": diameter_max_nm,
        },
    )
    from ..pipeline.batch import run_batch

    with ConsoleProgress() as narrator, ended_softly() as stop:
        teller = _LivePrinter(narrator)
        try:
            run = run_batch(
                paths,
                out,
                request,
                workers,
                scheduler,
                teller.progress,
                stop,
                on_outcome=teller.outcome,
                notice=narrator.line,
                patience_s=patience_s,
            )
        except (ModelError, ReadError, TableError) as error:
            # as the command stands, no image can be analysed or compared
            fail(str(error), 2)
    if as_json:
        print_json(run.summary())
    _leave(run, out)


@guarded
def watch(
    folder: Annotated[Path, typer.Argument(help="Folder that images come into.")],
    out: Annotated[Path, typer.Option(help="Folder for parts, live.csv, tables and report.")],
    model: ModelOption = "default",
    pixel_size_nm: PixelSizeOption = None,
    device: DeviceOption = "auto",
    umap: Annotated[bool, typer.Option(help="Place the clusters in the model's UMAP.")] = False,
    symmetries: SymmetriesOption = False,
    threshold: Threshold = None,
    diameter_min_nm: DiameterMin = None,
    diameter_max_nm: DiameterMax = None,
    ratios: Ratios = "counted",
    once: Annotated[bool, typer.Option("--once", help="Analyse what is there, then end.")] = False,
    until_idle: Annotated[
        float | None,
        typer.Option(min=0, help="End once nothing has come for so many seconds."),
    ] = None,
    polling: Annotated[
        bool | None,
        typer.Option(
            help="Look every half second instead of being told by the system; else only on "
            "network drives.",
            show_default=False,
        ),
    ] = None,
    reference_images: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many first images are the reference from which the conditions must not "
            "change, 4 at least; 0: no such alarm.",
        ),
    ] = 10,
    new_reference: Annotated[
        bool,
        typer.Option(
            "--new-reference", help="The images that come now are the reference, not earlier ones."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Analyse the images of a folder as they come, until Ctrl-C; a restart goes on."""
    if not folder.is_dir():
        fail(f"{folder}: there is no such folder.", 2)
    request = request_of(
        model=model,
        device=device,
        pixel_size_nm=pixel_size_nm,
        umap=umap,
        symmetries=symmetries,
        ratios=ratios,
        detection={
            "threshold": threshold,
            "diameter_min_nm": diameter_min_nm,
            "diameter_max_nm": diameter_max_nm,
        },
    )
    from ..pipeline.control_chart import MIN_FIRST
    from ..pipeline.watch import Watch

    if 0 < reference_images < MIN_FIRST:
        raise typer.BadParameter(f"--reference-images must be 0 or at least {MIN_FIRST}")
    with ConsoleProgress() as narrator, ended_softly() as stop:
        watching = Watch(
            folder,
            out,
            request,
            polling=polling,
            notice=narrator.line,
            reference_images=reference_images,
            new_reference=new_reference,
        )
        say(f"watching {folder}; Ctrl-C ends and writes tables and report")
        try:
            run = watching.run(
                functools.partial(_print_live, narrator),
                stop,
                until_idle_s=0.0 if once else until_idle,
            )
        except ModelError as error:
            fail(str(error), 2)
    if as_json:
        print_json(run.summary())
    images = counted(sum(outcome.status == "done" for outcome in run.outcomes), "image")
    written = f"results in {out}" if run.files else "ended before there was anything to write"
    say(f"{images}, {run.analysed} of them now; {written}")
    if run.waiting:
        say(f"{counted(run.waiting, 'file')} not taken: the same command goes on there")
    if run.failed:
        number = counted(len(run.failed), "image")
        fail(f"{number} could not be analysed: see {out / 'failures.csv'}")


def _print_live(narrator: ConsoleProgress, live: LiveUpdate) -> None:
    """A line for each image, and one for each alarm as it begins and ends."""
    outcome, found = live.outcome, live.conditions
    if found is None:
        if outcome.status == "done":
            narrator.line(f"{outcome.image}: known already")
        else:
            narrator.outcome(outcome)
        return
    said = [
        f"{outcome.image}: {counted(found.clusters, 'cluster')}",
        f"confidence {found.mean_confidence:.2f}",
    ]
    if found.drift == found.drift:
        said.append(f"drift {found.drift:.1f}")
    if found.reading.change == found.reading.change:
        said.append(f"change {found.reading.change:.1f}")
    said.append(f"{live.latency_s:.2f} s")
    if live.waiting:
        said.append(f"{live.waiting} waiting")
    narrator.line(", ".join(said))
    if live.ratios is not None:
        known = live.ratios[live.ratios["fraction"].notna()]
        shares = [
            f"{row['class']} {100 * row['fraction']:.0f} "
            f"({100 * row['fraction_low']:.0f}–{100 * row['fraction_high']:.0f})"
            for row in known.to_dict("records")
        ]
        if shares:
            narrator.line(f"  so far, in %: {', '.join(shares)}")
    if live.alarm:
        narrator.line(f"  ALARM: {live.alarm}")
    elif live.calm:
        narrator.line("  the conditions are again those that the model knows")


def _leave(run: BatchRun, out: Path) -> None:
    """Say what there is, and end with the status that the run deserves."""
    done = sum(outcome.status == "done" for outcome in run.outcomes)
    before = f", {run.reused} of them by an earlier run" if run.reused else ""
    say(f"{counted(done, 'image')}{before}, {counted(len(run.table), 'cluster')}; results in {out}")
    if run.problem is not None:
        fail(f"{run.problem} What was done until then is written", 1)
    if run.interrupted:
        fail("stopped: what was done is written, and the same command goes on from here", 130)
    if run.failed:
        number = counted(len(run.failed), "image")
        fail(f"{number} could not be analysed: see {out / 'failures.csv'}")


class _LivePrinter:
    """Progress of many images: a line that moves, or one now and then; failures at once."""

    def __init__(
        self, narrator: ConsoleProgress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._narrator, self._clock = narrator, clock
        self._moving = sys.stderr.isatty()
        self._told_at = clock()

    def progress(self, done: int, total: int, message: str) -> None:
        if self._moving:
            self._narrator.progress(0, 0, message)
        elif total and (done == total or self._clock() - self._told_at > PLAIN_LINE_S):
            self._told_at = self._clock()
            self._narrator.line(message)

    def outcome(self, outcome: Outcome, _: Path | None = None) -> None:
        if outcome.status != "done":
            self._narrator.outcome(outcome)


@contextmanager
def ended_softly() -> Iterator[Stop]:
    """``stop()`` is true once a scheduler of jobs has sent SIGTERM, however often it does.

    Nothing is raised: the second one comes while what is done is written, and what is raised in
    the midst of anything may leave a lock closed for good.
    """
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        yield lambda: bool(told)
    finally:
        signal.signal(signal.SIGTERM, before)
