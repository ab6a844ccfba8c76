"""What the commands of ``atomicity`` have in common: options, messages, exit status.

Standard output carries only what was asked for; everything else goes to standard error.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, ParamSpec, TypeVar

import typer

from ..core.errors import AtomicityError, Cancelled

if TYPE_CHECKING:
    from ..io.provenance import Outcome
    from ..pipeline.runs import RunRequest

P = ParamSpec("P")
R = TypeVar("R")

Device = Literal["auto", "cpu", "cuda", "mps"]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ModelOption = Annotated[str, typer.Option(help="Name of a model at hand, or a .safetensors file.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
PixelSizeOption = Annotated[
    float | None,
    typer.Option(min=1e-4, max=1e4, help="Edge of a pixel in nm; else as the files say."),
]
SymmetriesOption = Annotated[
    bool,
    typer.Option(
        "--symmetries",
        help="Average the network over the eight symmetries of the square, at eight times its "
        "cost: how an image lies then makes no difference.",
    ),
]

Threshold = Annotated[
    float | None, typer.Option(min=0, help="Detection threshold in units of the noise.")
]
DiameterMin = Annotated[float | None, typer.Option(min=0, help="Smallest cluster looked for.")]
DiameterMax = Annotated[float | None, typer.Option(min=0, help="Largest cluster looked for.")]
Ratios = Annotated[
    Literal["counted", "confusion", "em"],
    typer.Option(
        help="Of the labels as counted, adjusted by the model's confusion matrix, or by "
        "expectation-maximisation."
    ),
]


def say(message: str) -> None:
    """Tell a person."""
    print(message, file=sys.stderr, flush=True)


def counted(n: int, what: str) -> str:
    """``1 atom``, ``2 atoms``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def print_json(values: Any) -> None:
    """What was asked for, on standard output."""
    from ..io.files import to_json

    print(to_json(values))


def fail(message: str, status: int = 1) -> NoReturn:
    """Say what is wrong, and end with this status."""
    say(f"atomicity: {message}")
    raise typer.Exit(status)


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a command may raise into a line for people and an exit status."""

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
        except BrokenPipeError:  # who read our output has gone, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(0) from None
        except Exception as error:
            if os.environ.get("ATOMICITY_TRACEBACK"):
                raise
            fail(
                f"unexpected {type(error).__name__}: {error}. Please report it with the output of "
                "`atomicity info`; ATOMICITY_TRACEBACK=1 shows where it happened."
            )

    return run


class ConsoleProgress:
    """Tells on standard error how far a run is: a moving line on a terminal, else plain lines."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status = self._console.status("") if self._console.is_terminal else None

    def __enter__(self) -> ConsoleProgress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def progress(self, done: int, total: int, message: str) -> None:
        if self._status is not None:
            from rich.text import Text

            count = f" {done}/{total}" if total > 1 else ""
            self._status.update(Text(message + count))

    def epoch(self, history: list[dict[str, float]]) -> None:
        last = history[-1]
        self.line(
            f"epoch {last['epoch']:.0f}: loss {last['loss']:.3f}, held-out loss "
            f"{last['held_out_loss']:.3f}, accuracy {last['accuracy']:.3f}"
        )

    def line(self, message: str) -> None:
        self._console.print(message, markup=False)

    def outcome(self, outcome: Outcome, _: object = None) -> None:
        if outcome.status == "done":
            seconds = sum(outcome.seconds.values())
            number = counted(outcome.clusters or 0, "cluster")
            if outcome.atoms is not None:
                number = counted(outcome.atoms, "atom")
            self.line(f"{outcome.image}: {number} ({seconds:.1f} s)")
        else:
            error = outcome.error or ""
            named = error.startswith(f"{Path(outcome.path).name}: ")
            self.line(error if named else f"{outcome.image}: {error}")
        for warning in outcome.warnings:
            self.line(f"  note: {warning}")


def request_of(detection: dict[str, float | None], **settings: Any) -> RunRequest:
    """What options ask for; settings of the detection that make no sense are wrong usage."""
    from ..detection import DetectionSettings
    from ..pipeline.runs import RunRequest

    try:
        given: dict[str, Any] = {k: v for k, v in detection.items() if v is not None}
        found = DetectionSettings(**given)
    except AtomicityError as error:
        raise typer.BadParameter(str(error)) from None
    return RunRequest(detection=found, **settings)
