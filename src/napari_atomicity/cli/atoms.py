"""Command ``atomicity atoms``; scores and training of atom models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import CalibrationError, ReadError, TableError, naming_file
from ..core.micrograph import describe_copies
from ..core.text import pluralise
from ..pipeline.run_request import AtomRequest
from .common import (
    AsJson,
    ConsoleProgress,
    Images,
    Overwrite,
    PublicationFigures,
    Workers,
    analysing,
    exit_with_status,
    guarded,
    print_json,
    refuse_given,
    refuse_to_overwrite,
    require_an_image,
    say,
    usage_errors,
    without_collection,
)
from .ending import SIGNALS
from .options import SHARED, options_of, reads_images

if TYPE_CHECKING:
    from ..pipeline.atom_runs import AtomRun


@guarded
@reads_images
@options_of(AtomRequest)
def atoms(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and record.")],
    request: Callable[..., AtomRequest],
    figures: PublicationFigures = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Detect single atoms and measure their dispersion on the support."""
    with without_collection():
        from ..pipeline.atom_runs import find_atoms_in_images

    wanted = request()
    require_an_image(images)
    refuse_to_overwrite(out, images, overwrite)
    with analysing(*SIGNALS) as (console, stop):
        run = find_atoms_in_images(
            images,
            out,
            wanted,
            console.progress,
            stop,
            console.outcome,
            workers=workers,
            figures=figures,
        )
    _print_dispersion(run)
    if copies := describe_copies(o.sha256 for o in run.outcomes if o.status == "done"):
        say(f"warning: {copies}")
    if as_json:
        print_json(run.summary())
    say(f"{pluralise(len(run.table), 'atom')}; results in {out}")
    exit_with_status(run, out / "run.json")


def _print_dispersion(run: AtomRun) -> None:
    """Print density, isolated fraction and completeness of all images."""
    import pandas as pd

    from ..atoms.completeness import BOUND, format_which_counts

    row = run.dispersion.iloc[-1]
    if "density_per_nm2" not in row or pd.isna(row["density_per_nm2"]):
        return
    low, high = row["density_low_per_nm2"], row["density_high_per_nm2"]
    text = f"{row['density_per_nm2']:.3f} atoms per nm² of support ({low:.3f} to {high:.3f})"
    text += f" by the probabilities, {row['density_counted_per_nm2']:.3f} counted"
    if not pd.isna(row["share_isolated"]):
        text += f", {100 * row['share_isolated']:.0f} % isolated"
    share = row["completeness"]
    low, high = (row[f"density_complete_{end}_per_nm2"] for end in ("low", "high"))
    counts = format_which_counts(share, row["density_is"] == BOUND)
    if counts:
        text += f"; {100 * share:.0f} % of such atoms are detected: {counts}"
        if not pd.isna(low):
            text += f"; estimated density of all atoms {low:.2g} to {high:.2g} per nm²"
    say(text)
    if not pd.isna(row["loading_wt_percent"]):
        low, high = row["loading_wt_percent_low"], row["loading_wt_percent_high"]
        say(
            f"metal loading {row['loading_wt_percent']:.3g} wt% {row['metal']} "
            f"({low:.2g} to {high:.2g}), {row['loading_is']} for missed atoms"
        )


def evaluate_atoms(
    context: typer.Context,
    predicted: Path,
    truth: Path,
    tolerance_nm: float | None,  # maximum distance of a match; None for the default
    pixel_size_nm: float | None,  # pixel size of positions that are given in pixels only
) -> bool:
    """Print the scores of a table of atoms."""
    from ..io.provenance import analysed_images
    from ..io.tables import read_points, read_predicted_and_true
    from ..statistics.matching import TOLERANCE_NM
    from ..statistics.point_scores import evaluate_points, is_points, prepare_points

    if not truth.is_dir() and not is_points(read_points(predicted).table, read_points(truth).table):
        return False
    refuse_given(context, ("column", "figures"), "{option} is not for tables of atoms")
    found, true = read_predicted_and_true(predicted, truth)
    with naming_file(predicted):
        prepare_points(found, "the table of predictions")
    with naming_file(truth):
        prepare_points(true.table, "the truth")
    tolerance = TOLERANCE_NM if tolerance_nm is None else tolerance_nm
    scores = evaluate_points(
        found,
        true.table,
        tolerance,
        pixel_size_nm,
        true.images,
        analysed=analysed_images(predicted),
    )
    report_not_analysed(scores)
    print_json(scores)
    return True


def report_not_analysed(scores: dict[str, Any]) -> None:
    """Name the images of the truth that were not analysed on standard error."""
    missing = scores["images_not_analysed"]
    if missing:
        say(f"{pluralise(len(missing), 'image')} not analysed, not scored: {', '.join(missing)}")


def train_atom_model(
    context: typer.Context,
    data: Path | None,
    out: Path,
    steps: int | None,
    as_json: bool,  # whether to print the card as JSON
) -> None:
    """Train a model of single atoms."""
    from ..io.inputs import make_folder
    from ..training.atoms import AtomRecipe, AtomTrainingSettings, train_atoms

    if data is None:
        raise typer.BadParameter("a model of atoms requires --data: images and positions")
    known = {"kind", "data", "out", "pixel_size_nm", "steps", "seed", "overwrite", "as_json"}
    refuse_given(
        context, context.params.keys() - known - SHARED, "{option} is not for a model of atoms"
    )
    make_folder(out.parent)  # before the training
    settings = AtomTrainingSettings(seed=context.params["seed"])
    recipe = AtomRecipe(settings if steps is None else replace(settings, steps=steps))
    with ConsoleProgress() as console, usage_errors(CalibrationError, ReadError, TableError):
        card = train_atoms(
            data,
            out,
            pixel_size_nm=context.params["pixel_size_nm"],
            recipe=recipe,
            progress=console.progress,
        )
    if as_json:
        print_json({"model_id": card.model_id, **card.to_dict()})
    say(f"model {card.model_id} for atoms in {out}")
    for source, scores in card.scores.items():
        f1, marked = scores["f1"], pluralise(int(scores["marked"]), "marked atom")
        say(f"{source}: F1 {f1:.3f} on held-out images, {marked}")
