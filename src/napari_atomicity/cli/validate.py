"""Command ``atomicity validate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..validation.request import (
    CURVE,
    CURVE_RESULT,
    DATA,
    IMAGES_PER_CLASS,
    QUICK,
    REPORT,
    RESULT,
    ExistingResultsError,
    ValidationRequest,
    quick_note,
    quickened,
)
from .common import (
    AsJson,
    ConsoleProgress,
    Overwrite,
    guarded,
    is_given,
    print_json,
    refuse_given,
    require_files,
    say,
    split_names,
    usage_errors,
)
from .options import options_of, reads_images

Data = Annotated[
    Path | None,
    typer.Option(help="Size-selected images: one folder per class, or a layout of train."),
]
Mixtures = Annotated[
    Path | None,
    typer.Option(help="Folder of images of mixtures, with truth.csv or --deposits."),
]
Shifted = Annotated[
    Path | None,
    typer.Option(help="Folder of images of mixtures under new conditions, likewise."),
]
Deposits = Annotated[
    Path | None,
    typer.Option(help="Table of deposited amounts: sample (or image), class, fraction."),
]
Simulate = Annotated[bool, typer.Option("--simulate", help="Simulate the data from the seed.")]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="A small test: 2 parts, 1 seed, 2 epochs, and few simulated images."
    ),
]
LearningCurve = Annotated[
    bool,
    typer.Option(
        "--learning-curve",
        help="Train on few and many images of each class, and show how many are needed, in place "
        "of the comparison.",
    ),
]
ImagesPerClass = Annotated[
    str,
    typer.Option(help="Numbers of training images of the learning curve, separated by commas."),
]
MethodNames = Annotated[
    str | None,
    typer.Option(
        help="Methods to compare, separated by commas. Default: all; of the learning curve, five."
    ),
]
_IMAGES_PER_CLASS = ",".join(map(str, IMAGES_PER_CLASS))


@guarded
@reads_images
@options_of(ValidationRequest)
def validate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the results.")],
    data: Data = None,
    mixtures: Mixtures = None,
    shifted: Shifted = None,
    deposits: Deposits = None,
    simulate: Simulate = False,
    quick: Quick = False,
    methods: MethodNames = None,
    learning_curve: LearningCurve = False,
    images_per_class: ImagesPerClass = _IMAGES_PER_CLASS,
    overwrite: Overwrite = False,
    *,
    request: Callable[..., ValidationRequest],
    as_json: AsJson = False,
) -> None:
    """Compare methods on images of known classes: thresholds, networks, adaptation, combination.

    Models are trained and tested on different images. A run that was stopped resumes if the same
    command runs again.
    """
    folders = [path for path in (data, mixtures, shifted, deposits) if path is not None]
    if simulate == (data is not None) or (simulate and folders):
        raise typer.BadParameter("give either --data, with its mixtures, or --simulate")
    _check_learning_curve(context, learning_curve, simulate, shifted)
    require_files(folders)
    if deposits is not None:  # before imports that take seconds
        from ..validation.data import read_amounts

        read_amounts(deposits)
    out = out / CURVE if learning_curve else out
    wanted = request(
        data=data or out / DATA, mixtures=mixtures, shifted=shifted, deposits=deposits,
        methods=tuple(split_names(methods, "--methods")) if methods else (),
        images_per_class=_numbers(images_per_class),
    )  # fmt: skip
    if quick:
        wanted = quickened(wanted, [name for name in QUICK if is_given(context, name)])
    with ConsoleProgress() as console, usage_errors(ExistingResultsError):
        try:
            if simulate:
                from ..validation.simulated import simulated_request

                wanted = simulated_request(
                    wanted, out / DATA, quick=quick, learning_curve=learning_curve,
                    overwrite=overwrite, progress=console.progress,
                )  # fmt: skip
            result = _engine(learning_curve)(
                wanted, out, overwrite=overwrite, progress=console.progress, on_line=console.line
            )
        except KeyboardInterrupt:
            console.line("Finished runs are saved: the same command continues.")
            raise
    (_print_curve if learning_curve else _print_scores)(result)
    say(f"report in {out / REPORT}")
    if as_json:
        print_json({**result, "file": str(out / (CURVE_RESULT if learning_curve else RESULT))})


def _engine(learning_curve: bool) -> Callable[..., dict[str, Any]]:
    """Return the function that computes; its imports take seconds."""
    if learning_curve:
        from ..validation.learning_curve.run import measure_learning_curve

        return measure_learning_curve
    from ..validation.run import validate as compare

    return compare


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list separated by commas."""
    try:
        numbers = tuple(int(part) for part in split_names(text, "--images-per-class"))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter("numbers of images such as 1,2,4", param_hint="--images-per-class")
    return numbers


def _check_learning_curve(
    context: typer.Context, learning_curve: bool, simulate: bool, shifted: Path | None
) -> None:
    """Raise `typer.BadParameter` for an option that has no effect with, or without, the curve."""
    if learning_curve and shifted is not None:
        raise typer.BadParameter("a learning curve has no --shifted images")
    if learning_curve:  # images are simulated in parts also for a curve
        names = ("seeds",) if simulate else ("folds", "seeds")
        reason = "{option} is not used with --learning-curve, which has --repeats"
    else:
        names, reason = ("images_per_class", "repeats"), "{option} needs --learning-curve"
    refuse_given(context, names, reason, in_settings=False)  # the record of a run has all options


def _print_quick_note(result: dict[str, Any]) -> None:
    """Print the warning of a quick test, if it is one."""
    if quick_note(result):
        say(f"warning: {quick_note(result)}")


def _print_scores(result: dict[str, Any]) -> None:
    """Print accuracy and R² of each method."""
    _print_quick_note(result)
    groups = list(result["groups"])
    width = max(len(method["title"]) for method in result["methods"].values())
    say(f"{'':<{width}}  accuracy: {', '.join(groups)}; ratio R²: the same")
    for method in result["methods"].values():
        cells = []
        for score in ("accuracy", "ratio_r2"):
            means = [method["groups"].get(g, {}).get(score, {}).get("mean") for g in groups]
            cells.append("".join(f"{'–':>7}" if m is None else f"{m:7.2f}" for m in means))
        say(f"{method['title']:<{width}}{'  |'.join(cells)}")


def _print_curve(result: dict[str, Any]) -> None:
    """Print what the learning curve says."""
    _print_quick_note(result)
    for sentence in result["sentences"]:
        say(sentence)
