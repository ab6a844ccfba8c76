"""Commands ``atomicity pack`` and ``atomicity consensus``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..core.errors import AtomicityError, TableError
from ..core.text import pluralise
from ..io.pack_options import PackOptions
from .common import (
    AsJson,
    ConsoleProgress,
    Images,
    Overwrite,
    PixelSizeOption,
    Seed,
    fail,
    guarded,
    print_json,
    print_result,
    refuse_existing,
    refuse_given,
    require_files,
    say,
    say_error,
    split_names,
    usage_errors,
)
from .ending import SIGNALS, catch_signals
from .options import options_of, reads_images

if TYPE_CHECKING:
    import pandas as pd

    from ..project.packs.browser_packs import BrowserPack, PackRequest
    from ..project.packs.filled_packs import Filled


_FOR_BROWSERS = (
    "instructions", "clusters", "classes", "title", "bits", "black", "white", "repeats", "examples",
    "max_mb", "seed",
)  # fmt: skip
_FOR_SERVER = ("host", "port")
_Html = Annotated[
    bool, typer.Option("--html", help="Write one file that any browser opens, offline.")
]
_Serve = Annotated[
    bool,
    typer.Option(
        "--serve", help="Show the same page on an address of this machine, and take answers."
    ),
]
_Annotator = Annotated[
    str | None, typer.Option(help="Name of the annotator, if there is only one.")
]
_Predictions = Annotated[
    Path | None,
    typer.Option(help="An atoms.csv to start from; without it the pack is blind."),
]
_Tolerance = Annotated[
    float | None,
    typer.Option(min=1e-3, help="Maximum distance in nm of marks of one atom (0.13)."),
]
_Instructions = Annotated[
    Path | None, typer.Option(help="Text file with instructions in place of the usual ones.")
]
_Clusters = Annotated[
    Path | None,
    typer.Option(help="A clusters.csv: each cluster is to be labelled, atoms are not marked."),
]
_Classes = Annotated[
    str | None,
    typer.Option(help="Classes of clusters, with commas. Default: those of the table."),
]
_Host = Annotated[
    str, typer.Option(help="Address for --serve. At the default, only this machine can reach it.")
]
_Port = Annotated[int, typer.Option(min=0, max=65535, help="Port for --serve; 0: any.")]


@guarded
@reads_images
@options_of(PackOptions)
def pack(
    context: typer.Context,
    images: Images,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder to create; a .zip is created in the same place. With --html the .html "
            "file, with --serve the folder for the answers."
        ),
    ],
    request: Callable[..., PackOptions],
    html: _Html = False,
    serve: _Serve = False,
    annotator: _Annotator = None,
    pixel_size_nm: PixelSizeOption = None,
    predictions: _Predictions = None,
    tolerance_nm: _Tolerance = None,
    instructions: _Instructions = None,
    clusters: _Clusters = None,
    classes: _Classes = None,
    host: _Host = "127.0.0.1",
    port: _Port = 8350,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Export images for annotation by others: a folder of tables, or a page for any browser."""
    from ..statistics.annotators.annotation_sites import TOLERANCE_NM

    require_files(images)
    if html and serve:
        raise typer.BadParameter("--html and --serve exclude each other")
    if not serve:
        refuse_given(context, _FOR_SERVER, "{option} needs --serve")
    if not (html or serve):
        refuse_given(context, _FOR_BROWSERS, "{option} needs --html or --serve")
    tolerance = TOLERANCE_NM if tolerance_nm is None else tolerance_nm
    atoms = None if predictions is None else _atoms(predictions, "y_px", "x_px")
    if not (html or serve):
        _pack_folder(images, out, annotator, pixel_size_nm, atoms, tolerance, overwrite, as_json)
        return
    from ..project.packs.browser_packs import PackRequest

    wanted = PackRequest(
        request(),
        "" if instructions is None else _text_of(instructions),
        annotator,
        tolerance,
        pixel_size_nm,
        atoms,
        None if clusters is None else _clusters(clusters),
        tuple(split_names(classes, "--classes")) if classes else (),
    )
    if html:
        _pack_html(images, out, wanted, overwrite, as_json)
    else:
        _serve(images, out, wanted, host, port)


def _pack_folder(
    images: list[Path],
    out: Path,
    annotator: str | None,
    pixel_size_nm: float | None,
    atoms: pd.DataFrame | None,
    tolerance_nm: float,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a folder of images and tables."""
    from ..project.packs.annotation_packs import archive_of, export_pack

    for path in (out, archive_of(out)):
        refuse_existing(path, overwrite, "pack")
    archive = export_pack(
        images, out, annotator, atoms is None, pixel_size_nm, atoms, tolerance_nm,
        overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        print_json({"folder": out, "zip": archive})
    say(f"{out} and {archive.name}: see README.txt for the instructions")


def _pack_html(
    images: list[Path], out: Path, wanted: PackRequest, overwrite: bool, as_json: bool
) -> None:
    """Write pages for browsers; their size is said before."""
    from ..project.packs.browser_packs import describe_packs, pages_of, write_browser_packs

    if out.suffix.lower() not in (".html", ".htm"):
        out = out.with_name(f"{out.name}.html")
    packs = _make(images, wanted)
    for page in pages_of(packs, out):
        refuse_existing(page, overwrite, "pack")
    say(describe_packs(packs))
    pages = write_browser_packs(packs, out)
    if as_json:
        print_json(
            {"files": pages, "hashes": [one.manifest.sha256 for one in packs],
             "megabytes": [round(one.size_mb, 2) for one in packs]}
        )  # fmt: skip
    say(f"{', '.join(map(str, pages))}: open it in a browser, or send it to people")


def _make(images: list[Path], wanted: PackRequest) -> list[BrowserPack]:
    from ..project.packs.browser_packs import make_browser_packs

    with ConsoleProgress() as console, catch_signals(*SIGNALS) as stop:
        return make_browser_packs(images, wanted, console.progress, stop)


def _serve(images: list[Path], out: Path, wanted: PackRequest, host: str, port: int) -> None:
    """Show pages on an address until this process is stopped."""
    from ..io.inputs import make_folder
    from ..project.packs.answer_server import AnswerServer
    from ..project.packs.browser_packs import describe_packs

    packs = _make(images, wanted)
    make_folder(out)

    def say_answer(filled: Filled) -> None:
        table, what = (filled.labels, "label") if len(filled.labels) else (filled.looked, "image")
        who = table["annotator"].iloc[0] if len(table) else "a person"
        say(f"{who}: {pluralise(len(table), what)}")

    say(describe_packs(packs))
    with (
        AnswerServer(packs, out, host, port, say_answer) as server,
        catch_signals(*SIGNALS) as stop,
    ):
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        print_result(server.link)
        say(f"answers are written into {out}; Ctrl+C ends")
        while thread.is_alive() and not stop():
            sleep(0.2)
        if thread.is_alive():
            server.shutdown()
        thread.join()


def _text_of(path: Path) -> str:
    from ..io.files import read_document

    try:
        return read_document(path, 1_000_000).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        fail(f"{path.name}: the instructions can't be read ({error}).", 2)


def _clusters(path: Path) -> pd.DataFrame:
    """Read a table of clusters; exit with status 2 if it is not one."""
    from ..io.tables import read_clusters

    with usage_errors(AtomicityError):
        return read_clusters(path)


@guarded
def consensus(
    packs: Annotated[
        list[Path],
        typer.Argument(
            help="Completed packs (folders or .zip), answers from browsers (.json), and folders of "
            "them. With the .html file of a pack, only answers to it are accepted.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for consensus.csv, agreement.json and labels to train on.")
    ],
    model_atoms: Annotated[
        list[Path] | None,
        typer.Option(
            help="An atoms.csv of a model to compare with the annotators; also several times.",
            show_default=False,
        ),
    ] = None,
    model_clusters: Annotated[
        list[Path] | None,
        typer.Option(
            help="A clusters.csv of a model to compare with the labels; also several times.",
            show_default=False,
        ),
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
    from ..project.packs.returned import read_packs
    from ..state.annotators import write_consensus

    require_files(packs)
    atoms = {_name_of(path): _atoms(path, "y_nm", "x_nm") for path in model_atoms or []}
    clusters = {_name_of(path): _clusters(path) for path in model_clusters or []}
    refused: list[tuple[Path, AtomicityError]] = []
    filled = read_packs(packs, units, refused)
    _check(filled)
    make_folder(out)
    report = write_consensus(out, filled, atoms, clusters, tolerance_nm, refused, seed)
    _say_agreement(report)
    if as_json:
        print_json(report)
    say(f"{_describe_consensus(report)}; results in {out}")
    _fail_if_refused(refused)


def _fail_if_refused(refused: Sequence[tuple[Path, AtomicityError]]) -> None:
    """Print the errors of files that could not be read, and end with 1 if there are any."""
    for _, error in refused:
        say_error(f"atomicity: {error}")
    if refused:
        fail(f"{pluralise(len(refused), 'file')} could not be read; the others were merged")


def _describe_consensus(report: dict[str, Any]) -> str:
    """Describe how many atoms and labels the consensus has, and of how many people."""
    people = pluralise(len(report["annotators"]), "person", "people")
    atoms_text = pluralise(report.get("sites_believed", 0), "atom")
    labels = report.get("labels")
    labels_text = "" if labels is None else f" and {pluralise(labels['clusters'], 'label')}"
    return f"{atoms_text}{labels_text} by consensus of {people}"


def _say_agreement(report: dict[str, Any]) -> None:
    """Print the agreement of people, and of models with them, after what puts it in doubt."""
    for warning in report.get("warnings", []):
        say(f"warning: {warning}")
    for row in report.get("pairs", []):
        say(f"{row['a']} and {row['b']}: F1 {_interval(row, 'f1')}")
    for row in report.get("self", []):
        say(f"{row['annotator']} with themselves: F1 {_interval(row, 'f1')}")
    for name, model in report.get("models", {}).items():
        expert = model["one_more_expert"]
        if expert is not None:
            who = "model" if len(report["models"]) == 1 else name
            difference = _interval(expert, "difference")
            say(f"{who} minus annotator: F1 {difference}; {expert['answer']}")
    for row in report.get("labels", {}).get("raters", []):
        say(f"{row['who']}: {_interval(row, 'share')} of the labels as by the consensus")
    for note in report.get("notes", []):
        say(f"note: {note}")


def _name_of(path: Path) -> str:
    """Return the name of a model: that of the folder of its results, or of another table."""
    return path.stem if path.stem not in ("atoms", "clusters") else path.resolve().parent.name


def _atoms(path: Path, *place: str) -> pd.DataFrame:
    """Read a table of atoms; exit with status 2 if it is not one."""
    from ..io.tables import read_table

    with usage_errors(AtomicityError):
        table = read_table(path)
    missing = [name for name in ("image", *place) if name not in table.columns]
    if missing:
        fail(f"{path.name}: the table of atoms lacks the columns {', '.join(missing)}.", 2)
    return table


def _check(filled: Filled) -> None:
    if not len(filled.looked) and not len(filled.labels):
        raise TableError(
            "no table of these packs contains annotations, and no answer was completed"
        )


def _interval(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
