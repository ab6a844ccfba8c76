"""Commands ``atomicity compare``, ``benchmark`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import FAILED, format_failed, naming_file
from ..validation.request import BenchmarkSettings
from .atoms import evaluate_atoms, report_not_analysed
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
    usage_errors,
)
from .options import options_of

if TYPE_CHECKING:
    import pandas as pd


# ---- command ``atomicity compare``
@guarded
def compare(
    results: Annotated[
        list[Path],
        typer.Argument(help="Folders of results of analyse, batch, watch or atoms."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables, figures, sentences and record.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Sample that the others are compared with. Default: the first one."),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            help="Table of samples, with the columns image (name or pattern), sample, and further "
            "ones such as time or temperature. Default: the samples of the results."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compare samples: shares of the classes or single atoms, differences with intervals, trends.

    A sample is a folder of images, unless a table of samples says otherwise.
    """
    from ..core.errors import ReadError, TableError
    from ..io.provenance import read_run_record
    from ..pipeline.comparison import COMPARE, compare_results
    from ..statistics.samples.sentences import comparison_notes

    require_files([*results, *([samples] if samples else [])])
    earlier = read_run_record(out)
    if earlier is not None and earlier.kind != COMPARE:
        fail(f"{out}: this folder has results of another command. Choose another --out.", 2)
    if earlier is not None and not overwrite:
        fail(f"{out}: there is a comparison. Choose another --out, or use --overwrite.", 2)
    with usage_errors(ReadError, TableError):
        run = compare_results(results, out, reference, samples)
    for sentence in run.sentences:
        say(sentence)
    for note in comparison_notes(run.comparison):
        say(f"note: {note}")
    if as_json:
        print_json(run.summary())
    say(f"results in {out}")
    for text in format_failed({FAILED: run.failed_statistics}):
        fail(text)


# ---- command ``atomicity benchmark``

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
    from ..validation.request import ExistingResultsError

    with ConsoleProgress() as console, usage_errors(ExistingResultsError, SettingError):
        manifest = write_benchmark(out, settings, workers, overwrite, console.progress)
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


Columns = Annotated[
    list[str],
    typer.Option(
        "--column",
        help="Clusters only: column of predicted labels, such as label_network, label_diameter or "
        "label_mixture. May be given several times.",
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(
        help="Clusters only: folder for the confusion matrix and the ratios against the truth of "
        "each column, as PNG and SVG."
    ),
]


@guarded
def evaluate(
    context: typer.Context,
    predicted: Annotated[
        Path, typer.Argument(help="Table of clusters or atoms: .csv, .parquet or .xlsx.")
    ],
    truth: Annotated[
        Path,
        typer.Argument(
            help="Table of true clusters; an images.csv in the same folder gives px_nm and sample. "
            "Or true atoms: a table, or a folder with one CSV of X,Y per image."
        ),
    ],
    tolerance_nm: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            help="Maximum distance of a match. Default: clusters by diameter, atoms 0.15 nm.",
        ),
    ] = None,
    pixel_size_nm: Annotated[
        float | None,
        typer.Option(
            min=1e-4, max=1e4, help="Pixel size of atom positions that are given in pixels only."
        ),
    ] = None,
    column: Columns = ["label"],  # noqa: B006  (as Typer takes it)
    figures: Figures = None,
) -> None:
    """Compare a table with the truth and print scores as JSON.

    Clusters: detection, classification and ratios, with bootstrap intervals. Atoms: precision,
    recall, F1 and distances. Images of the truth that were not analysed are named and not scored:
    those that the run.json in the folder of the table does not list, or else those without a row.
    """
    require_files([predicted, truth])
    if predicted.is_dir():
        fail(f"{predicted.name}: this is a folder. Name the table in it, such as clusters.csv.", 2)
    if evaluate_atoms(context, predicted, truth, tolerance_nm, pixel_size_nm):
        return
    scores = _score_columns(predicted, truth, tolerance_nm, list(dict.fromkeys(column)))
    first = scores[0]
    report_not_analysed(first)
    if figures is not None:
        from ..validation.figures import write_score_figures

        written = [path for one in scores for path in write_score_figures(one, figures)]
        say(f"{len(written)} figures in {figures}")
    more = {"columns": {one["column"]: one for one in scores}} if len(scores) > 1 else {}
    print_json({**first, **more})


def _score_columns(
    predicted: Path, truth: Path, tolerance_nm: float | None, columns: list[str]
) -> list[dict[str, Any]]:
    """Score each column of labels of a cluster table."""
    from ..io.provenance import analysed_images
    from ..io.tables import read_table
    from ..statistics.scores import evaluate as score, label_columns, prepare_clusters

    images_path = truth.parent / "images.csv"
    images = read_table(images_path) if images_path.is_file() else None
    found, true, analysed = read_table(predicted), read_table(truth), analysed_images(predicted)
    known = label_columns(found)
    missing = [column for column in columns if column not in ("label", *known)]
    if missing:
        raise typer.BadParameter(
            f"{predicted.name} has no column of labels {missing[0]!r}; it has "
            f"{', '.join(known) or 'none'}",
            param_hint="--column",
        )
    with naming_file(predicted):
        for column in columns:
            prepare_clusters(found, "the table of predictions", column)
    with naming_file(truth):
        prepare_clusters(true, "the truth")
    return [score(found, true, tolerance_nm, images, analysed, column) for column in columns]
