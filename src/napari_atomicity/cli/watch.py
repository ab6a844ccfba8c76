"""Command ``atomicity watch``."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..core.text import pluralise
from ..pipeline.run_request import RunRequest
from .common import (
    AsJson,
    ConsoleProgress,
    Overwrite,
    analysing,
    fail,
    fail_if_incomplete,
    guarded,
    print_json,
    refuse_to_overwrite,
    say,
    say_doubts,
)
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..pipeline.adaptation.watch import AdaptingWatch
    from ..pipeline.live.live import LiveRun, LiveUpdate
    from ..pipeline.live.watch import Watch


class _Options(NamedTuple):
    """Options of `pipeline.live.watch.Watch`."""

    polling: bool | None
    reference_images: int
    new_reference: bool


IdleTime = Annotated[
    float | None,
    typer.Option(min=0, help="Stop after this number of seconds without a new image."),
]
Polling = Annotated[
    bool | None,
    typer.Option(
        help="Scan the folder every half second instead of using notifications of the operating "
        "system. Default: only on network drives.",
        show_default=False,
    ),
]
ReferenceImages = Annotated[
    int,
    typer.Option(
        min=0,
        help="Number of first images that define the reference conditions, at least 4; 0 disables "
        "this alarm.",
    ),
]
Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="When the conditions of the session change, adapt the model to the images since then, "
        "and use it if it is better.",
    ),
]
NewReference = Annotated[
    bool,
    typer.Option("--new-reference", help="Use the next images as reference, not earlier ones."),
]


@guarded
@reads_images
@options_of(RunRequest, "reference", "outlines", "rois", umap=False)
def watch(
    folder: Annotated[Path, typer.Argument(help="Folder to watch for images.")],
    out: Annotated[Path, typer.Option(help="Folder for parts, live.csv, tables and report.")],
    request: Callable[..., RunRequest],
    once: Annotated[bool, typer.Option("--once", help="Analyse existing images and stop.")] = False,
    until_idle: IdleTime = None,
    polling: Polling = None,
    reference_images: ReferenceImages = 10,
    new_reference: NewReference = False,
    adapt: Adapt = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Analyse new images in a folder until Ctrl-C; a restart resumes."""
    if not folder.is_dir():
        fail(f"{folder}: there is no such folder.", 2)
    refuse_to_overwrite(out, [], overwrite, watched=folder)
    if not adapt:
        _refuse_adapted(out)
    idle_s = 0.0 if once else until_idle
    options = _Options(polling, reference_images, new_reference)
    run = _watch(folder, out, request(), options, adapt, idle_s)
    if as_json:
        print_json(run.summary())
    _finish(run, out)


def _watch(
    folder: Path,
    out: Path,
    request: RunRequest,
    options: _Options,
    adapt: bool,
    until_idle_s: float | None,
) -> LiveRun:
    """Watch the folder until it stops, and print each result."""
    from ..core.model_card import ModelCard
    from ..models.files import find_model, read_card
    from ..pipeline.acquisition_sessions import SessionRules
    from ..pipeline.live.control_chart import MIN_FIRST

    if 0 < options.reference_images < MIN_FIRST:
        raise typer.BadParameter(f"--reference-images must be 0 or at least {MIN_FIRST}")
    if adapt and not options.reference_images:
        raise typer.BadParameter("--adapt needs --reference-images")
    with analysing(signal.SIGINT) as (console, stop):
        card = read_card(find_model(request.model), ModelCard)
        SessionRules.read(request, card.classes)  # wrong usage writes nothing
        watching = _make_watch(folder, out, request, options, adapt, console.line)
        say(f"watching {folder}; Ctrl-C stops and writes tables and report")
        return watching.run(
            functools.partial(_print_live, console), stop, until_idle_s=until_idle_s
        )


def _refuse_adapted(out: Path) -> None:
    """Exit with status 2 if later images of the results belong to an adapted model."""
    from ..pipeline.adaptation.watch import ADAPTED

    if (out / ADAPTED).exists():
        fail(
            f"{out}: this folder has results of adapted models. Continue them with --adapt, or "
            "choose another folder for --out.",
            2,
        )


def _make_watch(
    folder: Path,
    out: Path,
    request: RunRequest,
    options: _Options,
    adapt: bool,
    notice: Callable[[str], None],
) -> Watch | AdaptingWatch:
    from ..pipeline.live.watch import Watch

    if not adapt:
        return Watch(folder, out, request, notice=notice, **options._asdict())
    from ..pipeline.adaptation.watch import AdaptingWatch

    return AdaptingWatch(folder, out, request, notice, options._asdict())


def _finish(run: LiveRun, out: Path) -> None:
    """Print the number of images, and exit with the status of the run."""
    images = pluralise(sum(outcome.status == "done" for outcome in run.outcomes), "image")
    written = f"results in {out}" if run.files else "stopped before there were results"
    say(f"{images}, {run.analysed} of them now; {written}")
    if run.waiting:
        say(f"{pluralise(run.waiting, 'file')} not analysed: the same command resumes")
    say_doubts(run.outcomes)
    fail_if_incomplete(run, out / "failures.csv")


def _print_live(console: ConsoleProgress, live: LiveUpdate) -> None:
    """Print a line for each image, and one where an alarm starts or ends."""
    outcome, found = live.outcome, live.conditions
    if found is None:
        if outcome.status == "done":
            console.line(live.copy_note or f"{outcome.image}: already analysed")
        else:
            console.outcome(outcome)
        return
    words = [
        f"{outcome.image}: {pluralise(found.clusters, 'cluster')}",
        f"confidence {found.mean_confidence:.2f}",
    ]
    if found.drift == found.drift:
        words.append(f"drift {found.drift:.1f}")
    if found.reading.change == found.reading.change:
        words.append(f"change {found.reading.change:.1f}")
    words.append(f"{live.latency_s:.2f} s")
    if live.waiting:
        words.append(f"{live.waiting} waiting")
    console.line(", ".join(words))
    if live.ratios is not None:
        known = live.ratios[live.ratios["fraction"].notna()]
        shares = [
            f"{row['class']} {100 * row['fraction']:.0f}"
            + (
                f" ({100 * row['fraction_low']:.0f}–{100 * row['fraction_high']:.0f})"
                if row["fraction_low"] == row["fraction_low"]
                else ""
            )
            for row in known.to_dict("records")
        ]
        if shares:
            console.line(f"  so far, in %: {', '.join(shares)}")
    if live.alarm:
        console.line(f"  ALARM: {live.alarm}")
    elif live.calm:
        console.line("  the conditions are again within the range of the model")
