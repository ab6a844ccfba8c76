"""Command ``atomicity validate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..validation.request import ValidationRequest
from .common import (
    AsJson,
    ConsoleProgress,
    Overwrite,
    fail,
    guarded,
    print_json,
    require_files,
    say,
    split_names,
)
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..validation.simulated import SimulatedData

QUICK: dict[str, Any] = {"folds": 2, "seeds": 1, "epochs": 2, "patience": 0}
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
MethodNames = Annotated[
    str | None, typer.Option(help="Methods to compare, separated by commas. Default: all.")
]


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
    overwrite: Overwrite = False,
    *,
    request: Callable[..., ValidationRequest],
    as_json: AsJson = False,
) -> None:
    """Compare methods on images of known classes: thresholds, networks, adaptation, combination.

    Models are trained and tested on different images. A run that was stopped resumes if the same
    command runs again.
    """
    from ..validation.existing_results import ExistingResultsError
    from ..validation.run import RESULT
    from ..validation.run import validate as run

    folders = [path for path in (data, mixtures, shifted, deposits) if path is not None]
    if simulate == (data is not None) or (simulate and folders):
        raise typer.BadParameter("give either --data, with its mixtures, or --simulate")
    require_files(folders)
    names = tuple(split_names(methods or ""))
    wanted = request(
        data=data or out / "data", mixtures=mixtures, shifted=shifted, deposits=deposits,
        methods=names,
    )  # fmt: skip
    wanted = _quickened(context, wanted) if quick else wanted
    with ConsoleProgress() as console:
        try:
            if simulate:
                wanted = _simulate(out / "data", wanted, quick, overwrite, console.progress)
            result = run(
                wanted, out, overwrite=overwrite, progress=console.progress, on_line=console.line
            )
        except ExistingResultsError as error:
            fail(str(error), 2)
        except KeyboardInterrupt:
            console.line("Finished runs are saved: the same command continues.")
            raise
    _print_scores(result)
    say(f"report in {out / 'report.html'}")
    if as_json:
        print_json({**result, "file": str(out / RESULT)})


def _quickened(context: typer.Context, request: ValidationRequest) -> ValidationRequest:
    """Return the request with the values of a small test where no others are given."""
    from dataclasses import replace

    given = {
        name
        for name in QUICK
        if getattr(context.get_parameter_source(name), "name", "") in ("COMMANDLINE", "DEFAULT_MAP")
    }
    return replace(request, **{k: v for k, v in QUICK.items() if k not in given})


def _simulate(
    folder: Path, request: ValidationRequest, quick: bool, overwrite: bool, progress: Any
) -> ValidationRequest:
    """Simulate the data, and return the request for them."""
    from dataclasses import replace

    from ..validation.data import MIXED, SELECTED, SHIFTED
    from ..validation.simulated import simulate_data

    settings = _settings_of(request, quick)
    simulate_data(folder, settings, overwrite, progress)
    return replace(
        request, data=folder / SELECTED, mixtures=folder / MIXED, shifted=folder / SHIFTED
    )


def _settings_of(request: ValidationRequest, quick: bool) -> SimulatedData:
    from ..validation.simulated import QUICK_DATA, SimulatedData

    if quick:
        from dataclasses import replace

        return replace(QUICK_DATA, folds=request.folds, seed=request.seed)
    return SimulatedData(folds=request.folds, seed=request.seed)


def _print_scores(result: dict[str, Any]) -> None:
    """Print accuracy and R² of each method."""
    groups = list(result["groups"])
    width = max(len(method["title"]) for method in result["methods"].values())
    say(f"{'':<{width}}  accuracy: {', '.join(groups)}; ratio R²: the same")
    for method in result["methods"].values():
        cells = []
        for score in ("accuracy", "ratio_r2"):
            means = [method["groups"].get(g, {}).get(score, {}).get("mean") for g in groups]
            cells.append("".join(f"{'–':>7}" if m is None else f"{m:7.2f}" for m in means))
        say(f"{method['title']:<{width}}{'  |'.join(cells)}")
