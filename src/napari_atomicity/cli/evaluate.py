"""Command ``atomicity evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import naming_file
from .atoms import evaluate_atoms, report_not_analysed
from .common import fail, guarded, print_json, require_files, say

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
        from ..reporting.score_figures import write_score_figures

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
