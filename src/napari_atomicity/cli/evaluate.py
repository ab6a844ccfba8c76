"""Command ``atomicity evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .atoms import evaluate_atoms
from .common import (
    guarded,
    print_json,
)

if TYPE_CHECKING:
    pass


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
    """
    from ..io.tables import read_table
    from ..statistics.scores import evaluate as score

    if evaluate_atoms(predicted, truth, tolerance_nm, pixel_size_nm):
        return
    images_path = truth.parent / "images.csv"
    images = read_table(images_path) if images_path.is_file() else None
    print_json(score(read_table(predicted), read_table(truth), tolerance_nm, images))
