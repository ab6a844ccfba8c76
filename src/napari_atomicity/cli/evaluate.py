"""Command ``atomicity evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .atoms import evaluate_atoms, report_not_analysed
from .common import (
    guarded,
    print_json,
    require_files,
)


@guarded
def evaluate(
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
) -> None:
    """Compare a table with the truth and print scores as JSON.

    Clusters: detection, classification and ratios. Atoms: precision, recall, F1 and distances.
    Images of the truth that were not analysed are named and not scored: those that the run.json in
    the folder of the table does not list, or else those without a row.
    """
    from ..io.provenance import analysed_images
    from ..io.tables import read_table
    from ..statistics.scores import evaluate as score

    require_files([predicted, truth])
    if evaluate_atoms(predicted, truth, tolerance_nm, pixel_size_nm):
        return
    images_path = truth.parent / "images.csv"
    images = read_table(images_path) if images_path.is_file() else None
    found, true, analysed = read_table(predicted), read_table(truth), analysed_images(predicted)
    scores = score(found, true, tolerance_nm, images, analysed)
    report_not_analysed(scores)
    print_json(scores)
