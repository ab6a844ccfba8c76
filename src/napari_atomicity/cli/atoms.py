"""The commands of ``atomicity`` that are about single atoms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import AtomicityError, CalibrationError, ModelError, ReadError, TableError
from .common import (
    AsJson,
    ConsoleProgress,
    DeviceOption,
    ModelOption,
    PixelSizeOption,
    counted,
    fail,
    guarded,
    print_json,
    say,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..pipeline.atom_runs import AtomRun
    from ..project.filled_packs import Filled

Images = Annotated[
    list[Path], typer.Argument(help="Image files, and folders of them.", show_default=False)
]


@guarded
def atoms(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and record.")],
    model: ModelOption = "default",
    pixel_size_nm: PixelSizeOption = None,
    precision: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Expected precision; else the best expected F1."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Least probability of an atom, instead of either."),
    ] = None,
    group_distance_nm: Annotated[
        float, typer.Option(min=1e-3, help="Atoms no further apart belong to one group.")
    ] = 0.3,
    clusters: Annotated[
        Path | None,
        typer.Option(help="A clusters.csv of these images: which cluster holds which atoms."),
    ] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of random patterns and bootstraps.")] = 0,
    completeness: Annotated[
        bool, typer.Option(help="Put atoms into each image: how many are found? Takes longer.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Find single atoms, and say how they are spread over their support."""
    from ..pipeline.atom_runs import AtomRequest, find_atoms_in_images

    try:
        request = AtomRequest(
            model,
            device,
            pixel_size_nm,
            precision,
            threshold,
            group_distance_nm,
            None if clusters is None else str(clusters),
            seed,
            completeness,
        )
    except AtomicityError as error:
        raise typer.BadParameter(str(error)) from None
    with ConsoleProgress() as narrator:
        try:
            run = find_atoms_in_images(
                images, out, request, narrator.progress, on_outcome=narrator.outcome
            )
        except (ModelError, ReadError, TableError) as error:
            # as the command stands, no image can be analysed
            fail(str(error), 2)
    _print_dispersion(run)
    if as_json:
        print_json(run.summary())
    say(f"{counted(len(run.table), 'atom')}; results in {out}")
    if run.interrupted:
        fail("stopped: what was done until then is written", 130)
    if run.failed:
        number = counted(len(run.failed), "image")
        fail(f"{number} could not be analysed: see {out / 'run.json'}")


def _print_dispersion(run: AtomRun) -> None:
    from ..atoms.completeness import BOUND

    row = run.dispersion.iloc[-1]
    if "density_per_nm2" in row and row["density_per_nm2"] == row["density_per_nm2"]:
        low, high = row["density_low_per_nm2"], row["density_high_per_nm2"]
        said = f"{row['density_per_nm2']:.3f} atoms per nm² of support ({low:.3f} to {high:.3f})"
        if row["share_isolated"] == row["share_isolated"]:
            said += f", {100 * row['share_isolated']:.0f} % isolated"
        if row["density_is"] == BOUND:
            said += f"; a lower bound: {100 * row['completeness']:.0f} % of such atoms are found"
            few, many = (row[f"density_complete_{end}_per_nm2"] for end in ("low", "high"))
            if few == few:
                said += f", and all may be {few:.2g} to {many:.2g} per nm²"
        say(said)


@guarded
def pack(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder to make; a .zip is made beside it.")],
    annotator: Annotated[str | None, typer.Option(help="For whom it is, if for one.")] = None,
    pixel_size_nm: PixelSizeOption = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="An atoms.csv to begin with; without it the pack is blind."),
    ] = None,
    tolerance_nm: Annotated[
        float | None, typer.Option(min=1e-3, help="Within which marks are one (0.13).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pack images with empty tables, for people to mark the atoms in."""
    from ..project.annotation_packs import export_pack
    from ..statistics.annotation_sites import TOLERANCE_NM

    _must_exist(images)
    archive = export_pack(
        images,
        out,
        annotator,
        predictions is None,
        pixel_size_nm,
        None if predictions is None else _atoms(predictions, "y_px", "x_px"),
        TOLERANCE_NM if tolerance_nm is None else tolerance_nm,
    )
    if as_json:
        print_json({"folder": out, "zip": archive})
    say(f"{out} and {archive.name}: README.txt says what to do with it")


@guarded
def consensus(
    packs: Annotated[
        list[Path],
        typer.Argument(help="Packs that came back: folders or .zip.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder for consensus.csv and agreement.json.")],
    model_atoms: Annotated[
        Path | None, typer.Option(help="An atoms.csv to set beside the people.")
    ] = None,
    tolerance_nm: Annotated[
        float | None,
        typer.Option(min=1e-3, help="Within which marks are one; else as the packs say."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Merge what several people marked, and say how far they agree."""
    from ..io.inputs import make_folder
    from ..project.filled_packs import read_packs
    from ..state.consensus_marks import write_agreement
    from ..statistics.consensus import consensus as merged
    from ..statistics.human_parity import compare_with_annotators

    _must_exist(packs)
    model = None if model_atoms is None else _atoms(model_atoms, "y_nm", "x_nm")
    filled = read_packs(packs)
    _check(filled)
    make_folder(out)
    tolerance = filled.tolerance_nm if tolerance_nm is None else tolerance_nm
    found = merged(filled.marks, filled.looked, tolerance, seed)
    beside = None
    if model is not None:
        beside = compare_with_annotators(model, filled.marks, filled.looked, tolerance, seed)
    said = write_agreement(out, filled.marks, found, beside)
    for row in said["pairs"]:
        say(f"{row['a']} and {row['b']}: F1 {_interval(row, 'f1')}")
    expert = said.get("model", {}).get("one_more_expert")
    if expert is not None:
        say(f"model, less a person: F1 {_interval(expert, 'difference')}; {expert['answer']}")
    for note in found.notes:
        say(f"note: {note}")
    if as_json:
        print_json(said)
    n = counted(len(found.believed), "atom")
    say(f"{n} by consensus of {_people(len(found.annotators))}; results in {out}")


def _must_exist(paths: Iterable[Path]) -> None:
    """A file that is missing is wrong usage."""
    for path in paths:
        if not path.exists():
            fail(f"{path.name}: there is no such file.", 2)


def _atoms(path: Path, *place: str) -> pd.DataFrame:
    """The table of atoms that an option names; anything else is wrong usage."""
    from ..io.tables import read_table

    try:
        table = read_table(path)
    except AtomicityError as error:
        fail(str(error), 2)
    missing = [name for name in ("image", *place) if name not in table.columns]
    if missing:
        fail(f"{path.name}: the table of atoms lacks the columns {', '.join(missing)}.", 2)
    return table


def _people(n: int) -> str:
    return "1 person" if n == 1 else f"{n} people"


def _check(filled: Filled) -> None:
    if not len(filled.looked):
        raise TableError("no table of these packs is filled in")


def _interval(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def evaluated(
    predicted: Path, truth: Path, tolerance_nm: float | None, pixel_size_nm: float | None
) -> bool:
    """Whether these are tables of points, whose scores are printed then."""
    from ..io.points import read_points, read_predicted_and_true
    from ..statistics.matching import TOLERANCE_NM
    from ..statistics.point_scores import evaluate_points, is_points

    _refuse_missing(predicted, truth)
    if not truth.is_dir() and not is_points(read_points(predicted).table, read_points(truth).table):
        return False
    found, true = read_predicted_and_true(predicted, truth)
    tolerance = TOLERANCE_NM if tolerance_nm is None else tolerance_nm
    print_json(evaluate_points(found, true.table, tolerance, pixel_size_nm, true.images))
    return True


def _refuse_missing(*paths: Path) -> None:
    """A file that is missing beside one of atoms is wrong usage.

    Beside one of clusters it is an error as it has always been.
    """
    from ..io.points import read_points
    from ..statistics.point_scores import is_points

    there = [path for path in paths if path.exists()]
    if len(there) == 1:
        table = read_points(there[0]).table
        if is_points(table, table):
            _must_exist(paths)


def train(
    context: typer.Context,
    data: Path | None,
    out: Path,
    pixel_size_nm: float | None,
    steps: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """The part of ``atomicity train`` that is for a model of atoms."""
    from ..training.atoms import AtomRecipe, AtomTrainingSettings, train_atoms

    if data is None:
        raise typer.BadParameter("a model of atoms needs --data: images and positions")
    known = {"kind", "data", "out", "pixel_size_nm", "steps", "seed", "as_json"}
    for name in context.params.keys() - known:
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            raise typer.BadParameter(f"--{name.replace('_', '-')} is not for a model of atoms")
    settings = AtomTrainingSettings(seed=seed)
    recipe = AtomRecipe(settings if steps is None else replace(settings, steps=steps))
    with ConsoleProgress() as narrator:
        try:
            card = train_atoms(
                data,
                out,
                pixel_size_nm=pixel_size_nm,
                recipe=recipe,
                progress=narrator.progress,
            )
        except (CalibrationError, ReadError, TableError) as error:
            # as the command stands, nothing can be trained
            fail(str(error), 2)
    if as_json:
        print_json({"model_id": card.model_id, **card.to_dict()})
    say(f"model {card.model_id} for atoms in {out}")
    for source, scores in card.scores.items():
        f1, marked = scores["f1"], counted(int(scores["marked"]), "marked atom")
        say(f"{source}: F1 {f1:.3f} on images that were left out, {marked}")
