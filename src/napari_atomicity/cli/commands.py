"""The command ``atomicity``.

Exit status: 0 done; 1 something could not be analysed; 2 wrong usage; 130 stopped by Ctrl-C.
Standard output carries only what was asked for; everything else goes to standard error. Heavy
modules are imported inside the commands, so that help and version come at once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .._version import __version__
from ..core.errors import AtomicityError, ModelError, ReadError, TableError
from . import atoms as cli_atoms
from . import many as cli_many
from .common import (
    AsJson,
    ConsoleProgress,
    Device,
    DeviceOption,
    DiameterMax,
    DiameterMin,
    ModelOption,
    Ratios,
    SymmetriesOption,
    Threshold,
    fail,
    guarded,
    print_json,
    request_of,
    say,
)

if TYPE_CHECKING:
    from ..atoms.card import AtomCard
    from ..core.model_card import ModelCard
    from ..io.provenance import Outcome
    from ..models.analysis import Analysis
    from ..pipeline.adaptation import AdaptRun
    from ..pipeline.runs import Run, RunRequest
    from ..training.request import Source

app = typer.Typer(
    name="atomicity",
    help="How many atoms are in this cluster? Atomicity of metal nanoclusters in STEM images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEMO_LIMIT_S = 600

for _command in (
    cli_atoms.atoms,
    cli_atoms.pack,
    cli_atoms.consensus,
    cli_many.batch,
    cli_many.watch,
):
    app.command()(_command)


def main() -> None:
    """Run the command line."""
    app()


# ---- commands
def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    pass


@app.command()
@guarded
def analyse(
    images: Annotated[
        list[Path], typer.Argument(help="Image files, and folders of them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for tables, report and record.")],
    model: ModelOption = "default",
    pixel_size_nm: Annotated[
        float | None,
        typer.Option(min=1e-4, max=1e4, help="Edge of a pixel in nm; else as the file says."),
    ] = None,
    device: DeviceOption = "auto",
    umap: Annotated[bool, typer.Option(help="Place the clusters in the model's UMAP.")] = True,
    symmetries: SymmetriesOption = False,
    threshold: Threshold = None,
    diameter_min_nm: DiameterMin = None,
    diameter_max_nm: DiameterMax = None,
    ratios: Ratios = "counted",
    reference: Annotated[
        Path | None,
        typer.Option(help="Known ratios to compare with: columns class, fraction and scope."),
    ] = None,
    average_frames: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Of stacks: average so many registered frames before looking for clusters.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the clusters in images, say how many atoms each holds, and count the classes.

    Of stacks of frames also where each cluster goes and how it changes over time.
    """
    request = request_of(
        model=model,
        device=device,
        pixel_size_nm=pixel_size_nm,
        umap=umap,
        symmetries=symmetries,
        ratios=ratios,
        reference=None if reference is None else str(reference),
        average_frames=_frames_of(average_frames),
        detection={
            "threshold": threshold,
            "diameter_min_nm": diameter_min_nm,
            "diameter_max_nm": diameter_max_nm,
        },
    )
    run, _ = _run(images, out, request)
    _print_ratios(run)
    if as_json:
        print_json(run.summary())
    _leave(run, out)


def _frames_of(text: str | None) -> int | str | None:
    """A number of frames, "all", or None."""
    if text is None or text == "all":
        return text
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"--average-frames takes a number from 1 on or 'all', not {text}")
    return int(text)


def _run(images: list[Path], out: Path, request: RunRequest) -> tuple[Run, Analysis | None]:
    """Analyse, telling how far it is; also the analysis of the last image."""
    from ..pipeline.runs import analyse_images

    last: list[Analysis] = []

    def on_outcome(outcome: Outcome, analysis: Analysis | None) -> None:
        narrator.outcome(outcome)
        if analysis is not None:
            last[:] = [analysis]

    with ConsoleProgress() as narrator:
        try:
            run = analyse_images(images, out, request, narrator.progress, on_outcome=on_outcome)
        except (ModelError, ReadError, TableError) as error:
            # as the command stands, no image can be analysed or compared
            fail(str(error), 2)
    return run, last[0] if last else None


def _print_ratios(run: Run) -> None:
    """Say what the ratios over all images are worth."""
    from ..core.cluster_table import ALL

    for note in dict.fromkeys(run.ratios.loc[run.ratios["scope"] == ALL, "note"]):
        if note:
            say(f"note: {note}")
    if run.comparison is None or run.comparison.mean_absolute_error is None:
        return
    r2, error = run.comparison.r2, run.comparison.mean_absolute_error
    said = run.comparison.why_no_r2 if r2 is None else f"{r2:.3f}"
    say(f"beside the reference: R² {said}, mean absolute error {error:.3f}")


def _leave(run: Run, out: Path) -> None:
    """Say what there is, and end with the status that the run deserves."""
    say(f"{len(run.table)} clusters; results in {out}")
    if run.interrupted:
        fail("stopped: what was done until then is written", 130)
    if run.failed:
        number = len(run.failed)
        images = "1 image" if number == 1 else f"{number} images"
        fail(f"{images} could not be analysed: see {out / 'report.html'}")


@app.command()
@guarded
def demo(
    out: Annotated[Path, typer.Option(help="Folder for tables, report and screenshot.")] = Path(
        "demo-output"
    ),
    close: Annotated[
        bool, typer.Option("--close", help="Close the window once the screenshot is taken.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Analyse the bundled example and show it in napari."""
    from ..pipeline.runs import RunRequest
    from ..simulation.examples import example_path

    run, analysis = _run([example_path()], out, RunRequest())
    if run.interrupted or analysis is None:
        _leave(run, out)
        raise typer.Exit(1)
    with _a_display() as is_real:
        screenshot = out / "napari.png"
        say("Opening napari")
        _show(analysis, screenshot, stay=is_real and not close)
    if not screenshot.is_file():
        fail(f"napari opened, but {screenshot} was not written")
    if as_json:
        print_json({**run.summary(), "screenshot": screenshot.name})
    say(f"{len(run.table)} clusters; results and napari.png in {out}")


@contextmanager
def _a_display() -> Iterator[bool]:
    """Whether the display at hand works; if it doesn't, a virtual one in its place.

    Raises
    ------
    DependencyError
        If no window can be opened on either: which libraries are missing.
    """
    from ..core.errors import DependencyError
    from .display import INSTALL, has_display, virtual_display, why_no_window

    reason = why_no_window() if has_display() else "there is no display"
    if reason is None:
        yield True
        return
    if not sys.platform.startswith("linux"):
        raise DependencyError(
            f"no window can be opened ({reason})",
            advice='Install a Qt binding: pip install "napari-atomicity[all]"',
        )
    say(f"Using a virtual display: {reason}")
    with virtual_display():
        reason = why_no_window()
        if reason is not None:
            raise DependencyError(
                f"no window can be opened ({reason})",
                advice=f"Install what is missing, on Debian or Ubuntu with: {INSTALL}; and a Qt "
                'binding with: pip install "napari-atomicity[all]"',
            )
        yield False


def _show(analysis: Analysis, screenshot: Path, stay: bool) -> None:
    """Open napari with every dock; without a person there it must end, whatever happens."""
    from ..gui.workbench import open_demo

    if stay:
        import signal

        # Qt's loop does not let Python see Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        open_demo(analysis, screenshot=screenshot, block=True)
        return

    def give_up() -> None:
        say(f"atomicity: napari did not draw its window within {DEMO_LIMIT_S} s")
        os._exit(1)

    watchdog = threading.Timer(DEMO_LIMIT_S, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        open_demo(analysis, screenshot=screenshot, block=False).close()
    finally:
        watchdog.cancel()


@app.command()
@guarded
def models(as_json: AsJson = False) -> None:
    """List the models at hand, with their cards."""
    from ..atoms.card import available_atom_models
    from ..models.classifier import available_models

    cards, of_atoms = available_models(), available_atom_models()
    if as_json:
        everything: list[ModelCard | AtomCard] = [*cards, *of_atoms]
        print_json([{"model_id": card.model_id, **card.to_dict()} for card in everything])
        return
    for card in cards:
        print(f"{card.name}  ({card.model_id})")
        print(f"  classes    {', '.join(card.classes)}")
        print(f"  channels   {', '.join(card.patches.channels)}")
        _print_texts(card)
    for one in of_atoms:
        print(f"{one.name}  ({one.model_id})")
        print("  finds      single atoms")
        _print_texts(one)
    if not cards and not of_atoms:
        fail("there is no model at hand")


def _print_texts(card: ModelCard | AtomCard) -> None:
    for title in ("description", "intended_use", "limits"):
        text = getattr(card, title)
        if text:
            print(f"  {title.replace('_', ' '):<10} {text}")


@app.command()
@guarded
def evaluate(
    predicted: Annotated[
        Path, typer.Argument(help="Table of clusters or atoms: .csv, .parquet or .xlsx.")
    ],
    truth: Annotated[
        Path,
        typer.Argument(
            help="True clusters; an images.csv beside it gives px_nm and sample. Or true atoms, "
            "also as a folder with a CSV of X,Y for each image."
        ),
    ],
    tolerance_nm: Annotated[
        float | None,
        typer.Option(
            min=1e-3, help="Largest distance of a match; clusters by diameter, atoms 0.15 nm."
        ),
    ] = None,
    pixel_size_nm: Annotated[
        float | None,
        typer.Option(min=1e-4, max=1e4, help="Of positions of atoms that are in pixels only."),
    ] = None,
) -> None:
    """Score a table against the truth, as JSON: clusters (detection, classification, ratios), or
    atoms (precision, recall, F1, distances)."""
    from ..io.tables import read_table
    from ..statistics.scores import evaluate as score

    if cli_atoms.evaluated(predicted, truth, tolerance_nm, pixel_size_nm):
        return
    beside = truth.parent / "images.csv"
    images = read_table(beside) if beside.is_file() else None
    print_json(score(read_table(predicted), read_table(truth), tolerance_nm, images))


@app.command()
@guarded
def simulate(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for images, truth.csv and settings.json.")],
    settings: Annotated[
        Path | None,
        typer.Option(help="A settings.json: its fields are made again, to the bit on the CPU."),
    ] = None,
    fields: Annotated[int, typer.Option(min=1, help="Number of images.")] = 4,
    classes: Annotated[
        str, typer.Option(help="Separated by commas; metals and numbers of atoms: Pt55, Au24Pd1.")
    ] = "Pt19,Pt30,Pt41,Pt55,Pt70",
    seed: Annotated[int, typer.Option(min=0, help="Of structures, conditions and noise.")] = 0,
    isomers: Annotated[int, typer.Option(min=1, help="Structures per class.")] = 20,
    size_px: Annotated[int | None, typer.Option(min=64, help="Edge of the images.")] = None,
    pixel_size_nm: Annotated[float | None, typer.Option(min=1e-3, max=1)] = None,
    aggregates: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of clusters on which a second one has landed."),
    ] = None,
    contamination: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the support under hydrocarbons.")
    ] = None,
    demanding: Annotated[
        bool, typer.Option(help="With contamination, after-glow and aggregates at times.")
    ] = False,
    device: Annotated[Device, typer.Option(help="Where images are formed.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Simulate images of clusters on carbon, with the truth beside them."""
    from ..core.devices import choose_device
    from ..simulation.field_settings import demanding_settings, random_settings
    from ..simulation.recipes import draw_recipe, read_recipe, write_recipe

    if settings is not None:
        recipe = read_recipe(settings)
        for name in context.params.keys() - {"out", "settings", "device", "as_json"}:
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                option = "--" + name.replace("_", "-")
                raise typer.BadParameter(f"the file decides what {option} would; give one of both")
    else:
        overrides: dict[str, Any] = {
            "shape_px": size_px and (size_px, size_px),
            "pixel_size_nm": pixel_size_nm,
            "aggregates": aggregates,
            "contamination": contamination,
        }
        recipe = draw_recipe(
            fields,
            _listed(classes),
            seed,
            isomers,
            {name: value for name, value in overrides.items() if value is not None},
            demanding_settings if demanding else random_settings,
        )
    with ConsoleProgress() as narrator:
        where = str(choose_device(device))
        truth = write_recipe(out, recipe, progress=narrator.progress, device=where)
    n, names = len(recipe.fields), list(recipe.classes)
    if as_json:
        print_json({"truth": truth, "images": n, "classes": names, "seed": recipe.seed})
    say(f"{n} images with their truth in {out}")


@app.command()
@guarded
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The model to write, a .safetensors file.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a folder of images for each class; of atoms, with images and tables "
            "of positions."
        ),
    ] = None,
    kind: Annotated[
        Literal["clusters", "atoms"],
        typer.Option(
            help="What the model finds; for atoms with --data, --pixel-size-nm, --steps, --seed."
        ),
    ] = "clusters",
    simulate: Annotated[
        str | None, typer.Option(help="Instead: classes to simulate, such as Au20,Au55,Au92.")
    ] = None,
    corrections: Annotated[
        list[Path] | None,
        typer.Option(help="Instead: a cluster table with corrected labels; may be repeated."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="With --corrections: where its images lie; may be repeated."),
    ] = None,
    fields: Annotated[
        int | None, typer.Option(min=10, help="With --simulate: number of images (300).")
    ] = None,
    isomers: Annotated[
        int | None, typer.Option(min=10, help="With --simulate: structures per class (60).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --simulate: processes (one per core).")
    ] = None,
    channels: Annotated[str, typer.Option(help="raw,LCN or one of them.")] = "raw,LCN",
    start: Annotated[
        str,
        typer.Option(
            help="Where the network starts: default (the shipped one), scratch, or a model."
        ),
    ] = "default",
    pixel_size_nm: Annotated[
        float | None,
        typer.Option(min=1e-4, max=1e4, help="Edge of a pixel in nm; else as the files say."),
    ] = None,
    device: DeviceOption = "auto",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the patches at most.")] = 40,
    patience: Annotated[
        int,
        typer.Option(min=0, help="Epochs without a lower held-out loss before it ends; 0 never."),
    ] = 8,
    steps: Annotated[
        int | None, typer.Option(min=1, help="With --kind atoms: of each of six networks (1300).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of split, fit and simulation.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a model on size-selected images: DIR/Pt19/*.tif, DIR/Pt30/*.tif and so on.

    Or on simulated images, or on labels that a person has corrected. Stopped and run again, it
    goes on where it was. With --kind atoms, on images in which atoms are marked: DIR/images and
    DIR/labels, or images and their CSV of X,Y side by side.
    """
    from ..training.request import TrainRequest, check_source
    from ..training.run import train as train_model

    names = _listed(channels)
    if not names or not set(names) <= {"raw", "LCN"} or len(set(names)) < len(names):
        raise typer.BadParameter("channels are raw,LCN or one of them")
    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"the model must be a .safetensors file, not {out.name}")
    if kind == "atoms":
        cli_atoms.train(context, data, out, pixel_size_nm, steps, seed, as_json)
        return
    if steps is not None:
        raise typer.BadParameter("--steps is for a model of atoms")
    source = _training_source(data, simulate, corrections, images, fields, isomers, workers)
    try:
        check_source(source)
    except AtomicityError as error:
        raise typer.BadParameter(str(error)) from None
    request = TrainRequest(
        source,
        out,
        tuple(c for c in ("raw", "LCN") if c in names),
        start,
        epochs,
        patience,
        seed,
        device,
        pixel_size_nm,
    )
    with ConsoleProgress() as narrator:
        if request.resumable:
            narrator.line(f"Going on with {request.workspace.name}, if it is of the same request")
        try:
            card = train_model(request, narrator.progress, on_epoch=narrator.epoch)
        except ModelError as error:  # as the command stands, nothing can be trained
            fail(str(error), 2)
        except KeyboardInterrupt:
            if request.resumable:
                narrator.line("What was done is kept: the same command goes on from there.")
            raise
    if as_json:
        print_json({"model_id": card.model_id, **card.to_dict()})
    say(f"model {card.model_id} for {', '.join(card.classes)} in {out}")
    held = card.scores["test" if "test" in card.scores else "held_out"]
    left_out = ", ".join(f"{n} {why}" for why, n in card.data["left_out"].items() if n)
    say(
        f"accuracy {held['accuracy']:.3f} on {held['clusters']} clusters of held-out images, which "
        "also calibrated it" + (f"; left out: {left_out}" if left_out else "")
    )


def _training_source(
    data: Path | None,
    simulate: str | None,
    corrections: list[Path] | None,
    images: list[Path] | None,
    fields: int | None,
    isomers: int | None,
    workers: int | None,
) -> Source:
    """Where the labelled clusters come from; options that don't go together are wrong usage."""
    from ..training.request import CorrectionsSource, FolderSource, SimulationSource

    if sum(x is not None for x in (data, simulate, corrections or None)) != 1:
        raise typer.BadParameter("give one of --data, --simulate and --corrections")
    given = {"--fields": fields, "--isomers": isomers, "--workers": workers}
    for name, value in given.items():
        if value is not None and simulate is None:
            raise typer.BadParameter(f"{name} goes with --simulate")
    if images and not corrections:
        raise typer.BadParameter("--images goes with --corrections")
    if simulate is not None:
        usual = SimulationSource(())
        return SimulationSource(
            tuple(_listed(simulate)),
            fields or usual.fields,
            isomers or usual.isomers,
            workers or os.cpu_count() or 1,
        )
    if data is not None:
        return FolderSource(data)
    if not images:
        raise typer.BadParameter("--corrections needs --images: where the images of the table lie")
    return CorrectionsSource(tuple(corrections or ()), tuple(images))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@app.command()
@guarded
def adapt(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Image files, and folders of them, of the new conditions.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="The model to write, a .safetensors file.")],
    model: ModelOption = "default",
    corrections: Annotated[
        Path | None,
        typer.Option(help="A cluster table of these images with corrected labels."),
    ] = None,
    pixel_size_nm: Annotated[
        float | None,
        typer.Option(min=1e-4, max=1e4, help="Edge of a pixel in nm; else as the files say."),
    ] = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Adapt a model to the conditions of some images; it is written only if that helps.

    No labels are needed: it learns from clusters whose diameter and intensity leave no doubt, and
    from corrections if they are given.
    """
    from ..models.files import find_model
    from ..pipeline.adaptation import AdaptRequest, adapt_files

    if out.suffix != ".safetensors":
        raise typer.BadParameter(f"the model must be a .safetensors file, not {out.name}")
    request = AdaptRequest(out, model, corrections, pixel_size_nm, device)
    with ConsoleProgress() as narrator:
        try:
            if find_model(model).resolve() == out.resolve():
                raise typer.BadParameter("the adapted model can't replace the one it comes from")
            run = adapt_files(images, request, narrator.progress, on_outcome=narrator.outcome)
        except (ModelError, TableError) as error:  # as the command stands, nothing can be adapted
            fail(str(error), 2)
    summary = run.summary()
    _print_adaptation(run, summary)
    if as_json:
        print_json(summary)
    reasons = "; ".join(run.found.reasons)
    if not run.found.accepted:
        fail(f"rolled back, nothing is written: {reasons}")
    say(f"accepted: {reasons}")
    say(f"model {run.found.card.model_id} in {out}")
    failed = [o for o in run.outcomes if o.status == "failed"]
    if failed:
        fail(f"{len(failed)} of the images could not be analysed")


def _print_adaptation(run: AdaptRun, summary: dict[str, Any]) -> None:
    """The conditions, what was learnt from, and the ratios before and after."""
    from ..pipeline.adaptation import format_checks, format_learnt, format_shift

    say(format_shift(run.found.shift))
    say(format_learnt(run.found))
    if run.corrections_lost:
        say(f"note: {run.corrections_lost} corrections are of no cluster of these images")
    for line in format_checks(run.found):
        say(f"  {line}")
    if not run.found.accepted:
        return
    before, after = summary["before"], summary["after"]
    names = list(dict.fromkeys([*before["ratios"], *after["ratios"]]))
    width = max(len("confidence"), *map(len, names))
    say(f"  {'':<{width}}  before   after")
    for name in names:
        shares = [values["ratios"].get(name, float("nan")) for values in (before, after)]
        if any(share == share for share in shares):  # what is no class has no share
            say(f"  {name:<{width}}" + "".join(f"{100 * share:6.1f} %" for share in shares))
    confidences = (values["mean_confidence"] for values in (before, after))
    say(f"  {'confidence':<{width}}" + "".join(f"{value:8.2f}" for value in confidences))


@app.command()
@guarded
def info(as_json: AsJson = False) -> None:
    """Versions, devices, models and paths: what a bug report needs."""
    from ..core.devices import devices
    from ..io.provenance import environment
    from ..models.classifier import available_models

    known = {
        **environment(),
        "devices": devices(),
        "models": [card.model_id for card in available_models()],
        "package_path": str(Path(__file__).parents[1]),
        "python_path": sys.executable,
    }
    if as_json:
        print_json(known)
        return
    for name, value in known.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, one in value.items():
                print(f"  {key:<16} {'not installed' if one is None else one}")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{name + ':':<18} {text}")


if __name__ == "__main__":
    main()
