"""Options, messages and exit status that the commands of ``atomicity`` share.

Standard output contains only the requested result; everything else goes to standard error.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, ParamSpec, TypeVar

import typer

from ..core.errors import (
    AtomicityError,
    Cancelled,
    ModelError,
    ReadError,
    TableError,
    WriteError,
    format_error,
    reason_of,
    solvable_error,
)
from ..core.settings import MAX_SEED
from ..core.text import pluralise, printable
from .ending import catch_signals

if TYPE_CHECKING:
    from ..core.progress import Stop
    from ..io.provenance import Outcome

P = ParamSpec("P")
R = TypeVar("R")

Device = Literal["auto", "cpu", "cuda", "mps"]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Images = Annotated[
    list[Path], typer.Argument(help="Image files, and folders of images.", show_default=False)
]
PixelSizeOption = Annotated[
    float | None,
    typer.Option(min=1e-4, max=1e4, help="Pixel size in nm; replaces that of the files."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Number of processes on this machine. Default: 1.")
]
PublicationFigures = Annotated[
    Path | None,
    typer.Option(
        "--figures",
        help="Folder for figures at the size of a publication: PNG, SVG and PDF, 8.5 and 17.5 cm "
        "wide, each with its numbers as CSV.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results of other images, otherwise refused.")
]
MANY = 20
"""Maximum number of failed statistics that are printed; the record names all."""
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        max=MAX_SEED,
        help="Seed of the random number generators. The same seed gives the same results.",
    ),
]


_errors_only = False
_is_program = False


def print_errors_only(quiet: bool) -> bool:
    """Set whether only errors are printed on standard error, and return it."""
    global _errors_only
    _errors_only = quiet
    return quiet


def say(message: str) -> None:
    """Print a message on standard error, unless the output is quiet."""
    if not _errors_only:
        say_error(message)


def say_error(message: str) -> None:
    """Print an error on standard error."""
    print(_printable_lines(message), file=sys.stderr, flush=True)


def _printable_lines(message: str) -> str:
    return "\n".join(map(printable, message.split("\n")))


@contextmanager
def standard_output() -> Iterator[None]:
    """Write at once what is printed; an error of writing names standard output.

    Python would write the rest when the process ends, too late for a message.
    """
    try:
        yield
        print(end="", flush=True)
    except BrokenPipeError:  # `guarded` ends the command
        raise
    except OSError as error:
        if error.filename is not None or os.environ.get("ATOMICITY_TRACEBACK"):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise WriteError(
            f"could not be written ({reason_of(error)})",
            "standard output",
            "Free space on the drive, or write the output to another one",
        ) from None


def print_result(text: str) -> None:
    """Print the requested result, or a line of it, on standard output."""
    with standard_output():
        print(text)


def print_json(values: Any) -> None:
    """Print the requested result on standard output."""
    from ..io.files import to_json

    print_result(to_json(values))


def fail(message: str, status: int = 1) -> NoReturn:
    """Print an error message and exit with this status."""
    say_error(f"atomicity: {message}")
    raise typer.Exit(status)


@contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Exit with status 2 if one of these errors says that nothing can be done as asked."""
    try:
        yield
    except kinds as error:
        fail(str(error), 2)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Convert the exceptions of a command to an error message and an exit status."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except AtomicityError as error:
            fail(str(error))
        except (KeyboardInterrupt, Cancelled):
            fail("stopped", 130)
        except (typer.Exit, typer.BadParameter):
            raise
        except BrokenPipeError:  # the reader of the output has closed it, such as `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(0) from None
        except Exception as error:
            if os.environ.get("ATOMICITY_TRACEBACK"):
                raise
            if (known := solvable_error(error)) is not None:
                fail(str(known))
            fail(
                f"{format_error(error)}. Please report it with the output of `atomicity info`; "
                "ATOMICITY_TRACEBACK=1 shows where it happened."
            )

    return run


def run_as_program() -> None:
    """Declare that this process runs one command: imported modules stay until it ends.

    OpenBLAS of SciPy, and of processes, uses one thread unless the environment states a number: its
    other threads keep their cores busy while they wait, and the matrices here are small.
    """
    global _is_program
    _is_program = True
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage while large packages are imported.

    In a process of one command, later collections skip what was imported: together this saves a
    quarter of the time of a short command.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _is_program:
            gc.freeze()
        if was_enabled:
            gc.enable()


class ConsoleProgress:
    """Shows progress on standard error: a moving line on a terminal, otherwise plain lines."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        moves = self._console.is_terminal and not _errors_only
        self._status = self._console.status("") if moves else None

    def __enter__(self) -> ConsoleProgress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def progress(self, done: int, total: int, message: str) -> None:
        """Show the current step."""
        if self._status is not None:
            from rich.text import Text

            count = f" {done}/{total}" if total > 1 else ""
            self._status.update(Text(message + count))

    def line(self, message: str) -> None:
        """Print a line, unless the output is quiet."""
        if not _errors_only:
            self._console.print(_printable_lines(message), markup=False)

    def outcome(self, outcome: Outcome, _: object = None) -> None:
        """Print the result, or the error, and the warnings of an image."""
        if outcome.status == "done":
            seconds = sum(outcome.seconds.values())
            number = pluralise(outcome.clusters or 0, "cluster")
            if outcome.atoms is not None:
                number = pluralise(outcome.atoms, "atom")
            self.line(f"{outcome.image}: {number} ({seconds:.1f} s)")
        else:
            error = outcome.error or ""
            named = error.startswith(f"{Path(outcome.path).name}: ")
            text = error if named else f"{outcome.image}: {error}"
            self._console.print(_printable_lines(text), markup=False)
        for warning in outcome.warnings:
            self.line(f"  note: {warning}")


@contextmanager
def analysing(*may_save: int) -> Iterator[tuple[ConsoleProgress, Stop]]:
    """Provide progress and ``stop()``; exit with status 2 if no image can be analysed as asked.

    ``may_save`` are the signals after which saving results may take longer.
    """
    wrong_usage = usage_errors(ModelError, ReadError, TableError)
    with ConsoleProgress() as console, catch_signals(*may_save) as stop, wrong_usage:
        yield console, stop


def exit_with_status(run: Any, see: Path, advice: str = "") -> None:
    """Exit with the status of a run: interrupted, or with images that failed."""
    if run.interrupted:
        fail(f"stopped: the completed images are saved{advice}", 130)
    fail_if_incomplete(run, see)


def say_doubts(outcomes: Iterable[Outcome]) -> None:
    """Warn of sessions whose labels may be wrong together, and of contradicted known samples."""
    from ..reporting.plots.session import contradictions
    from ..statistics.ratios.ratio_notes import session_basis, session_doubts

    outcomes = list(outcomes)
    lines: dict[str, None] = {}
    for session in (outcome.parameters.get("session", {}) for outcome in outcomes):
        lines |= dict.fromkeys(f"warning: {doubt}" for doubt in session_doubts(session))
        if basis := session_basis(session):
            lines[f"note: {basis}"] = None
    for line in lines:
        say(line)
    parameters = {outcome.image: outcome.parameters for outcome in outcomes}
    for text in contradictions(parameters, {o.image: o.known for o in outcomes}):
        say(f"warning: {text}. Check the sample; --keep-known uses it nevertheless")


def fail_if_incomplete(run: Any, see: Path) -> None:
    """Exit with status 1 if an image could not be analysed, or a statistic not computed."""
    from ..core.errors import FAILED, format_failed

    texts = list(format_failed({FAILED: run.failed_statistics}))
    for outcome in run.outcomes:
        texts += [f"{outcome.image}: {text}" for text in format_failed(outcome.parameters)]
    for text in texts[:MANY]:
        say_error(text)
    if run.failed:
        fail(f"{pluralise(len(run.failed), 'image')} could not be analysed: see {see}")
    if texts:
        number, record = pluralise(len(texts), "statistic"), see.parent / "run.json"
        fail(f"{number} could not be computed; all tables are written: see {record}")


def split_names(text: str, option: str) -> list[str]:
    """Split the names of an option, separated by commas; refuse a list without a name."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise typer.BadParameter(f"there is no name in {text!r}", param_hint=option)
    return names


def require_safetensors(path: Path) -> None:
    """Raise `typer.BadParameter` if a model can not be written to a file of this name."""
    from ..core.model_card import is_file_name

    if path.suffix != ".safetensors":
        raise typer.BadParameter(f"the model must be a .safetensors file, not {path.name}")
    if not is_file_name(path.stem):
        raise typer.BadParameter(f"a model can not have the name {path.stem!r}: choose another one")


def require_files(paths: Iterable[Path]) -> None:
    """Exit with status 2 if one of the files does not exist."""
    for path in paths:
        if not path.exists():
            fail(f"{path.name}: there is no such file.", 2)


def require_an_image(paths: Iterable[Path]) -> None:
    """Exit with status 2 if none of the paths exists; a link to nothing is an image that failed."""
    paths = list(paths)
    if paths and not any(os.path.lexists(path) for path in paths):
        fail(f"{paths[0]}: there is no such file or folder.", 2)


def refuse_to_overwrite(
    out: Path,
    images: Iterable[Path],
    overwrite: bool,
    watched: Path | None = None,
    may_be_moved: bool = False,  # whether an image of the same name is the same one
) -> None:
    """Exit with status 2 if results of other images would be lost."""
    from ..io.inputs import named_inputs
    from ..io.provenance import images_of_other_folders, lost_images

    if overwrite or not (out / "run.json").is_file():
        return
    if watched is None:
        items = named_inputs(images)
        lost = lost_images(out, (item.path for item in items))
        names = {item.path.name for item in items} if may_be_moved else set()
        lost = [name for name in lost if name not in names]
    else:
        lost = images_of_other_folders(out, watched)
    if lost:
        fail(
            f"{out}: this folder has results of other images, such as {lost[0]}. Choose another "
            "folder for --out, or discard them with --overwrite.",
            2,
        )


def refuse_existing(out: Path, overwrite: bool, what: str = "model") -> None:
    """Exit with status 2 if a file or folder with content would be replaced."""
    exists = any(out.iterdir()) if out.is_dir() else out.exists()
    if exists and not overwrite:
        fail(f"{out}: there is a {what}. Choose another --out, or replace it with --overwrite.", 2)


def is_given(context: typer.Context, name: str, in_settings: bool = True) -> bool:
    """Return whether an option is given on the command line or, maybe, in a settings file."""
    source = getattr(context.get_parameter_source(name), "name", "")
    return source == "COMMANDLINE" or (in_settings and source == "DEFAULT_MAP")


def refuse_given(
    context: typer.Context,
    names: Iterable[str],
    reason: str,
    in_settings: bool = True,  # whether one in a settings file is refused too
) -> None:
    """Raise `typer.BadParameter` if one of these options is given."""
    for name in names:
        if is_given(context, name, in_settings):
            raise typer.BadParameter(reason.format(option="--" + name.replace("_", "-")))
