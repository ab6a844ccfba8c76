"""Command ``atomicity train``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..core.errors import AtomicityError, ModelError
from ..training.request import TrainRequest
from .atoms import train_atom_model
from .common import (
    AsJson,
    ConsoleProgress,
    Overwrite,
    Workers,
    guarded,
    print_json,
    refuse_existing,
    require_files,
    require_safetensors,
    say,
    split_names,
    usage_errors,
)
from .options import options_of, reads_images

if TYPE_CHECKING:
    from ..core.model_card import ModelCard
    from ..training.request import Source


Channels = Annotated[str, typer.Option(help="Input channels: raw,LCN or one of them.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with one folder of images per class; for atoms, with images and tables of "
        "positions."
    ),
]
Kind = Annotated[
    Literal["clusters", "atoms"],
    typer.Option(
        help="Objects of the model. Atoms: with --data, --pixel-size-nm, --steps and --seed."
    ),
]
Simulated = Annotated[
    str | None, typer.Option(help="Instead of --data: classes to simulate, as Au20,Au55,Au92.")
]
Corrections = Annotated[
    list[Path] | None,
    typer.Option(help="Instead of --data: cluster table with corrected labels; repeatable."),
]
CorrectedImages = Annotated[
    list[Path] | None,
    typer.Option(help="With --corrections: folder of the images; repeatable."),
]
Fields = Annotated[
    int | None, typer.Option(min=10, help="With --simulate: number of images (300).")
]
Structures = Annotated[
    int | None, typer.Option(min=10, help="With --simulate: structures per class (60).")
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="With --kind atoms: steps of each of the six networks (1300)."),
]


@guarded
@reads_images
@options_of(TrainRequest)
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Model to write, a .safetensors file.")],
    data: Data = None,
    kind: Kind = "clusters",
    simulate: Simulated = None,
    corrections: Corrections = None,
    images: CorrectedImages = None,
    fields: Fields = None,
    isomers: Structures = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    channels: Channels = "raw,LCN",
    steps: Steps = None,
    *,
    request: Callable[..., TrainRequest],
    as_json: AsJson = False,
) -> None:
    """Train a model on size-selected images: DIR/Pt19/*.tif, DIR/Pt30/*.tif and so on.

    Or on simulated images, or on corrected labels. A training that was stopped resumes if the
    same command runs again. With --kind atoms, on images with marked atoms: DIR/images and
    DIR/labels, or images with their CSV of X,Y in the same folder.
    """
    names = split_names(channels, "--channels")
    if not set(names) <= {"raw", "LCN"} or len(set(names)) < len(names):
        raise typer.BadParameter("channels are raw,LCN or one of them")
    require_safetensors(out)
    require_files(path for path in (data, *(corrections or ()), *(images or ())) if path)
    refuse_existing(out, overwrite)
    if kind == "atoms":
        train_atom_model(context, data, out, steps, as_json)
        return
    if steps is not None:
        raise typer.BadParameter("--steps is for a model of atoms")
    from ..io.inputs import make_folder
    from ..training.request import check_source

    source = _training_source(data, simulate, corrections, images, fields, isomers, workers)
    try:
        check_source(source)
    except AtomicityError as error:
        raise typer.BadParameter(str(error)) from None
    make_folder(out.parent)  # before the training
    used = tuple(c for c in ("raw", "LCN") if c in names)
    card = _train(request(source=source, out=out, channels=used))
    if as_json:
        print_json({"model_id": card.model_id, **card.to_dict()})
    _print_accuracy(card, out)


def _train(request: TrainRequest) -> ModelCard:
    """Train, show the progress, and describe how to resume after Ctrl-C."""
    from ..reporting.plots.training import describe_training
    from ..training.run import train as train_model

    with ConsoleProgress() as console, usage_errors(ModelError):

        def show_epoch(history: list[dict[str, float]]) -> None:
            console.line(describe_training(history))

        if request.resumable:
            console.line(f"Resuming {request.workspace.name}, if it belongs to the same request")
        try:
            return train_model(request, console.progress, on_epoch=show_epoch)
        except KeyboardInterrupt:
            if request.resumable:
                console.line("The progress is saved: the same command resumes the training.")
            raise


def _print_accuracy(card: ModelCard, out: Path) -> None:
    from ..training.score_text import describe_accuracy, describe_comparisons, describe_gain

    say(f"model {card.model_id} for {', '.join(card.classes)} in {out}")
    say(f"{describe_accuracy(card)} {describe_comparisons(card)}".rstrip())
    if gain := describe_gain(card):
        say(gain)
    if "test" not in card.scores:
        say("The held-out images were also used for the calibration.")
    left_out = ", ".join(f"{n} {why}" for why, n in card.data["left_out"].items() if n)
    if left_out:
        say(f"left out: {left_out}")


def _training_source(
    data: Path | None,
    simulate: str | None,
    corrections: list[Path] | None,
    images: list[Path] | None,
    fields: int | None,
    isomers: int | None,
    workers: int | None,
) -> Source:
    """Determine the source of the labelled clusters; refuse incompatible options."""
    from ..training.request import CorrectionsSource, FolderSource, SimulationSource

    if sum(x is not None for x in (data, simulate, corrections or None)) != 1:
        raise typer.BadParameter("give one of --data, --simulate and --corrections")
    given = {"--fields": fields, "--isomers": isomers, "--workers": workers}
    for name, value in given.items():
        if value is not None and simulate is None:
            raise typer.BadParameter(f"{name} requires --simulate")
    if images and not corrections:
        raise typer.BadParameter("--images requires --corrections")
    if simulate is not None:
        usual = SimulationSource(())
        return SimulationSource(
            tuple(split_names(simulate, "--simulate")),
            fields or usual.fields,
            isomers or usual.isomers,
            workers or os.cpu_count() or 1,
        )
    if data is not None:
        return FolderSource(data)
    if not images:
        raise typer.BadParameter(
            "--corrections requires --images: the folder of the images of the table"
        )
    return CorrectionsSource(tuple(corrections or ()), tuple(images))
