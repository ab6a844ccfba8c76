"""Command ``atomicity explain``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.errors import ModelError, ReadError, TableError
from ..pipeline.explain_request import ExplainRequest
from .common import (
    AsJson,
    ConsoleProgress,
    Images,
    Overwrite,
    exit_with_status,
    fail,
    guarded,
    print_json,
    refuse_to_overwrite,
    require_an_image,
    say,
    without_collection,
)
from .ending import SIGNALS, catch_signals
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..models.class_averages import Averages
    from ..pipeline.explanations import ExplainRun


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
    with ConsoleProgress() as console, catch_signals(*SIGNALS) as stop:
        try:
            run = explain_images(images, out, wanted, console.progress, stop, console.outcome)
        except (ModelError, ReadError, TableError) as error:
            # wrong usage: no image can be analysed
            fail(str(error), 2)
    _print_averages(run)
    if as_json:
        print_json(run.summary())
    say(f"{len(run.table)} clusters; results in {out}")
    exit_with_status(run, out / "run.json")


def _print_averages(run: ExplainRun) -> None:
    """Print centre against outline of each class and channel."""
    from ..models.class_average_files import describe_averages
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
    parts = []
    for channel in averages.channels:
        average = averages.get(label, channel)
        if average is not None and average.clusters:
            b = average.balance
            parts.append(f"{channel} {b.value:+.2f} ({b.low:+.2f} to {b.high:+.2f})")
    return ", ".join(parts) or "no class map"
