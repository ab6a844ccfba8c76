"""Commands ``atomicity pack`` and ``atomicity consensus``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..core.errors import AtomicityError, TableError
from ..core.text import pluralise
from .common import (
    AsJson,
    Images,
    Overwrite,
    PixelSizeOption,
    Seed,
    fail,
    guarded,
    print_json,
    refuse_existing,
    require_files,
    say,
)
from .options import reads_images

if TYPE_CHECKING:
    import pandas as pd

    from ..project.filled_packs import Filled


@guarded
@reads_images
def pack(
    images: Images,
    out: Annotated[
        Path, typer.Option(help="Folder to create; a .zip is created in the same place.")
    ],
    annotator: Annotated[
        str | None, typer.Option(help="Name of the annotator, if there is only one.")
    ] = None,
    pixel_size_nm: PixelSizeOption = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="An atoms.csv to start from; without it the pack is blind."),
    ] = None,
    tolerance_nm: Annotated[
        float | None,
        typer.Option(min=1e-3, help="Maximum distance in nm of marks of one atom (0.13)."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Export images with empty tables for the annotation of atoms."""
    from ..project.annotation_packs import archive_of, export_pack
    from ..statistics.annotators.annotation_sites import TOLERANCE_NM

    require_files(images)
    for path in (out, archive_of(out)):
        refuse_existing(path, overwrite, "pack")
    archive = export_pack(
        images,
        out,
        annotator,
        predictions is None,
        pixel_size_nm,
        None if predictions is None else _atoms(predictions, "y_px", "x_px"),
        TOLERANCE_NM if tolerance_nm is None else tolerance_nm,
        overwrite=overwrite,
    )
    if as_json:
        print_json({"folder": out, "zip": archive})
    say(f"{out} and {archive.name}: see README.txt for the instructions")


@guarded
def consensus(
    packs: Annotated[
        list[Path],
        typer.Argument(help="Completed packs: folders or .zip.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder for consensus.csv and agreement.json.")],
    model_atoms: Annotated[
        Path | None, typer.Option(help="An atoms.csv of a model to compare with the annotators.")
    ] = None,
    tolerance_nm: Annotated[
        float | None,
        typer.Option(
            min=1e-3, help="Maximum distance in nm of marks of one atom. Default: as in the packs."
        ),
    ] = None,
    units: Annotated[
        Literal["px", "nm"] | None,
        typer.Option(
            help="Unit of the coordinates of packs that seem to be in nm, otherwise refused."
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Merge the annotations of several people and measure their agreement."""
    from ..io.inputs import make_folder
    from ..project.filled_packs import read_packs
    from ..state.annotators import write_agreement
    from ..statistics.annotators.consensus import consensus as merged
    from ..statistics.annotators.human_parity import compare_with_annotators

    require_files(packs)
    model = None if model_atoms is None else _atoms(model_atoms, "y_nm", "x_nm")
    filled = read_packs(packs, units)
    _check(filled)
    make_folder(out)
    tolerance = filled.tolerance_nm if tolerance_nm is None else tolerance_nm
    found = merged(filled.marks, filled.looked, tolerance, seed)
    comparison = None
    if model is not None:
        comparison = compare_with_annotators(model, filled.marks, filled.looked, tolerance, seed)
    report = write_agreement(out, filled.marks, found, comparison)
    for row in report["pairs"]:
        say(f"{row['a']} and {row['b']}: F1 {_interval(row, 'f1')}")
    expert = report.get("model", {}).get("one_more_expert")
    if expert is not None:
        say(f"model minus annotator: F1 {_interval(expert, 'difference')}; {expert['answer']}")
    for warning in found.warnings:
        say(f"warning: {warning}")
    for note in found.notes:
        say(f"note: {note}")
    if as_json:
        print_json(report)
    atoms = pluralise(len(found.believed), "atom")
    people = pluralise(len(found.annotators), "person", "people")
    say(f"{atoms} by consensus of {people}; results in {out}")


def _atoms(path: Path, *place: str) -> pd.DataFrame:
    """Read a table of atoms; exit with status 2 if it is not one."""
    from ..io.tables import read_table

    try:
        table = read_table(path)
    except AtomicityError as error:
        fail(str(error), 2)
    missing = [name for name in ("image", *place) if name not in table.columns]
    if missing:
        fail(f"{path.name}: the table of atoms lacks the columns {', '.join(missing)}.", 2)
    return table


def _check(filled: Filled) -> None:
    if not len(filled.looked):
        raise TableError("no table of these packs contains annotations")


def _interval(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
