"""Command ``atomicity benchmark``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..validation.benchmark import BenchmarkSettings
from .common import (
    AsJson,
    ConsoleProgress,
    Overwrite,
    Workers,
    fail,
    guarded,
    print_json,
    print_result,
    refuse_given,
    require_files,
    say,
    split_names,
)
from .options import options_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "kind": "kind", "form": "form", "clusters": "clusters", "recall": "recall",
    "precision": "precision", "accuracy": "accuracy", "calibration_error": "calibration",
    "ratio_r2": "ratio R²", "ratio_mae": "ratio MAE",
}  # fmt: skip
"""Columns of the printed scores → their headings."""
Kinds = Annotated[
    str | None, typer.Option(help="Kinds of sessions, separated by commas. Default: all.")
]
Score = Annotated[
    Path | None,
    typer.Option(help="Table of predictions to score, such as clusters.csv of analyse."),
]
Data = Annotated[Path | None, typer.Option(help="Folder of the benchmark, with --score.")]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing", help="With --score: nothing was found in images without a row."
    ),
]


@guarded
@options_of(BenchmarkSettings)
def benchmark(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the benchmark, or with --score of scores.csv and .json."),
    ] = None,
    kinds: Kinds = None,
    score: Score = None,
    data: Data = None,
    allow_missing: AllowMissing = False,
    workers: Workers = None,
    overwrite: Overwrite = False,
    *,
    request: Callable[..., BenchmarkSettings],
    as_json: AsJson = False,
) -> None:
    """Write the public benchmark of simulated sessions, or score a method on it.

    Writes images, true clusters, and a manifest with the SHA-256 of each file. A folder that has
    the same benchmark is checked.
    """
    if score is not None:
        if data is None:
            raise typer.BadParameter("give the folder of the benchmark as --data")
        refuse_given(context, ("kinds", "rounds", "seed", "workers"), "{option} is not for --score")
        _score(score, data, out, allow_missing, overwrite, as_json)
        return
    if out is None:
        raise typer.BadParameter("give a folder as --out, or predictions as --score")
    refuse_given(context, ("data", "allow_missing"), "{option} is for --score only")
    names = split_names(kinds, "--kinds") if kinds else ()
    settings = request(kinds=tuple(names))
    _write(out, settings, workers or 1, overwrite, as_json)


def _write(
    out: Path, settings: BenchmarkSettings, workers: int, overwrite: bool, as_json: bool
) -> None:
    from ..core.errors import SettingError
    from ..validation.benchmark import write_benchmark
    from ..validation.existing_results import ExistingResultsError

    with ConsoleProgress() as console:
        try:
            manifest = write_benchmark(out, settings, workers, overwrite, console.progress)
        except (ExistingResultsError, SettingError) as error:
            fail(str(error), 2)
    n = sum(name.endswith(".tif") for name in manifest["files"])
    say(f"{n} images with their truth in {out}; SHA-256 {manifest['sha256']}")
    if as_json:
        print_json({k: v for k, v in manifest.items() if k != "files"} | {"images": n})


def _score(
    predictions: Path,
    data: Path,
    out: Path | None,
    allow_missing: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    import pandas as pd

    from ..validation.benchmark_scores import score_benchmark

    require_files([predictions, data])
    if out is not None and (out / "scores.json").exists() and not overwrite:
        fail(f"{out}: there are scores. Choose another --out, or use --overwrite.", 2)
    result = score_benchmark(data, predictions, allow_missing)
    table = pd.DataFrame(result["scores"])
    if out is not None:
        _save(out, result, table)
    if as_json:
        print_json(result)
    else:
        print_result(_format(table))
    left_out = result["sessions_not_scored"]
    if left_out:
        say(f"{len(left_out)} sessions without predictions are not scored")


def _save(out: Path, result: dict[str, Any], table: pd.DataFrame) -> None:
    from ..io.files import write_json
    from ..io.tables import write_table

    write_table(table, out / "scores.csv")
    write_json(out / "scores.json", result)
    say(f"scores in {out / 'scores.csv'}")


def _format(table: pd.DataFrame) -> str:
    """Return the most important scores as text."""
    shown = table[[name for name in COLUMNS if name in table]].rename(columns=COLUMNS)
    return shown.to_string(index=False, na_rep="–", float_format="{:.3f}".format)
