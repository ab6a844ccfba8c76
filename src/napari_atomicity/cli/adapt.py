"""Command ``atomicity adapt``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import ModelError, TableError
from ..pipeline.adaptation.settings import AdaptRequest
from .common import (
    AsJson,
    ConsoleProgress,
    Overwrite,
    fail,
    guarded,
    print_json,
    refuse_existing,
    require_an_image,
    require_safetensors,
    say,
    usage_errors,
)
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..pipeline.adaptation.runs import AdaptRun


@guarded
@reads_images
@options_of(AdaptRequest)
def adapt(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Images, and folders of images, of the new conditions.", show_default=False
        ),
    ],
    request: Callable[..., AdaptRequest],
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Adapt a model to the imaging conditions of new images; write it only if it improves.

    A model that needs no change is written unchanged.

    No labels are needed: the model learns from clusters whose diameter and intensity determine
    the class, and from corrections if there are any.
    """
    from ..io.inputs import make_folder
    from ..models.files import find_model
    from ..pipeline.adaptation.runs import adapt_files

    wanted = request()
    require_an_image(images)
    require_safetensors(wanted.out)
    if wanted.report is not None:
        refuse_existing(wanted.report, overwrite, "report")
    with ConsoleProgress() as console, usage_errors(ModelError, TableError):
        if find_model(wanted.model).resolve() == wanted.out.resolve():
            raise typer.BadParameter("the adapted model cannot replace the original model")
        refuse_existing(wanted.out, overwrite)
        is_new = not wanted.out.parent.exists()
        make_folder(wanted.out.parent)  # before the adaptation
        run = adapt_files(images, wanted, console.progress, on_outcome=console.outcome)
        if is_new:
            with suppress(OSError):  # not empty: the model is in it
                wanted.out.parent.rmdir()
    summary = run.summary()
    _print_adaptation(run, summary)
    if as_json:
        print_json(summary)
    reasons = "; ".join(run.found.reasons)
    if wanted.report is not None:
        say(f"report in {wanted.report}")
    if not run.found.has_model:
        what = "refused" if run.found.refused or run.found.unchecked else "rolled back"
        keep = "; --accept-unchecked keeps it nevertheless" if run.found.unchecked else ""
        fail(f"{what}, no model is written: {reasons}{keep}")
    say(f"{_verdict(run)}: {reasons}")
    unchanged = "" if run.found.accepted else ", the unchanged model under a new name"
    say(f"model {run.found.card.model_id} in {wanted.out}{unchanged}")
    failed = [o for o in run.outcomes if o.status == "failed"]
    if failed:
        fail(f"{len(failed)} of the images could not be analysed")


def _verdict(run: AdaptRun) -> str:
    if not run.found.accepted:
        return "no change needed"
    return "accepted, although it could not be checked" if run.found.unchecked else "accepted"


def _print_adaptation(run: AdaptRun, summary: dict[str, Any]) -> None:
    """Print the conditions, the training clusters, and the ratios before and after."""
    from ..pipeline.adaptation.text import (
        format_checks,
        format_learnt,
        format_missing,
        format_ranges,
        format_shift,
    )

    say(format_shift(run.found.shift))
    say(format_learnt(run.found))
    if ranges := format_ranges(run.found):
        say(ranges)
    if missing := format_missing(run.found):
        say(f"warning: {missing}")
    if run.corrections_lost:
        say(f"note: {run.corrections_lost} corrections match no cluster of these images")
    for line in format_checks(run.found):
        say(f"  {line}")
    if not run.found.accepted:
        return
    before, after = summary["before"], summary["after"]
    names = list(dict.fromkeys([*before["ratios"], *after["ratios"]]))
    width = max(len("confidence"), *map(len, names))
    say(f"  {'':<{width}}  before   after")
    for name in names:
        shares = [values["ratios"].get(name, float("nan")) for values in (before, after)]
        if any(share == share for share in shares):  # not a class, so without a share
            say(f"  {name:<{width}}" + "".join(f"{100 * share:6.1f} %" for share in shares))
    confidences = (values["mean_confidence"] for values in (before, after))
    say(f"  {'confidence':<{width}}" + "".join(f"{value:8.2f}" for value in confidences))
