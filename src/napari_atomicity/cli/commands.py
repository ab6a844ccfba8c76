"""Command line application ``atomicity``.

Exit status: 0 done; 1 an image could not be analysed; 2 wrong usage; 130 stopped by Ctrl-C.
Standard output contains only the requested result; everything else goes to standard error. Heavy
modules are imported inside the commands, so that help and version appear immediately.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .._version import __version__
from ..core.errors import WriteError
from .adapt import adapt
from .analyse import analyse, batch, explain
from .atoms import atoms
from .common import fail, print_result, run_as_program, say_error, standard_output
from .demo import demo
from .ending import end_in_time, end_process, was_ignored, was_stopped
from .evaluate import benchmark, compare, evaluate
from .models import add, info, models
from .options import name_settings_file, share_options
from .packs import consensus, pack
from .simulate import simulate
from .train import train
from .validate import validate
from .watch import watch


class _Command(TyperCommand):
    """A command that refuses empty arguments: an empty path would be the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; empty ones are wrong usage."""
        for argument in args:
            if not argument or (argument.startswith("--") and argument.endswith("=")):
                ctx.fail(f"empty argument: {argument!r}")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; SIGINT and SIGTERM end it in time."""
        try:
            with end_in_time():
                result = super().invoke(ctx)
        except typer.BadParameter as error:
            name_settings_file(ctx, error)
            raise
        except KeyboardInterrupt:
            fail("stopped", 130)
        if was_ignored():
            fail("stopped", 130)
        return result


_GROUPS = {
    "Analyse": ("analyse", "atoms", "compare", "batch", "watch", "explain", "demo"),
    "Train and adapt": ("train", "adapt", "simulate", "models"),
    "Check": ("evaluate", "validate", "benchmark", "info"),
    "Share": ("pack", "consensus"),
}
"""The commands as the help lists them."""


class _Commands(TyperGroup):
    """The commands in groups, each with its first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of the commands."""
        for title, names in _GROUPS.items():
            with formatter.section(title):
                rows = [(name, _first_sentence(self.commands[name].help or "")) for name in names]
                formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    sentence, end, _ = " ".join(text.split()).partition(". ")
    return f"{sentence}." if end else sentence


app = typer.Typer(
    name="atomicity",
    cls=_Commands,
    help="Determine the number of atoms (atomicity) of metal nanoclusters in STEM images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(analyse, atoms, compare, batch, watch, explain, demo),
    *(train, adapt, simulate, evaluate, validate, benchmark, info, pack, consensus),
):
    app.command(cls=_Command)(share_options(_command))
_models = typer.Typer(rich_markup_mode=None)
_models.callback(invoke_without_command=True)(models)
_models.command(cls=_Command)(share_options(add))
app.add_typer(_models, name="models")


def run() -> None:
    """Run the command line."""
    run_as_program()
    try:
        with standard_output():  # the help is printed outside of a command
            app()
    except WriteError as error:
        say_error(f"atomicity: {error}")
        sys.exit(1)
    except SystemExit as end:
        if was_stopped():  # threads of libraries would delay the end
            end_process(end.code if isinstance(end.code, int) else 1)
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        print_result(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    pass
