"""Command ``atomicity demo``."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .analyse import finish, run_analysis
from .common import (
    AsJson,
    fail,
    guarded,
    print_json,
    say,
)
from .ending import end_immediately
from .options import reads_images

if TYPE_CHECKING:
    from ..models.analysis import Analysis

DEMO_LIMIT_S = 600


@guarded
@reads_images
def demo(
    out: Annotated[Path, typer.Option(help="Folder for tables, report and screenshot.")] = Path(
        "demo-output"
    ),
    close: Annotated[
        bool, typer.Option("--close", help="Close the window after the screenshot.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Analyse the example image of the package and show it in napari."""
    from ..core.errors import require_extra
    from ..pipeline.run_request import RunRequest
    from ..simulation.example_data import example_path

    with require_extra("pyqt6", "opening napari"):
        import qtpy  # noqa: F401  (fails without a Qt binding)
    run, analysis = run_analysis([example_path()], out, RunRequest(), overwrite=True)
    if run.interrupted or analysis is None:
        finish(run, out)
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
    """Provide a working display: the existing one, or a virtual one.

    Raises `DependencyError` if no window can be opened on either; the message names missing
    libraries.
    """
    from ..core.errors import DependencyError, install_command
    from .display import INSTALL, has_display, virtual_display, why_no_window

    reason = why_no_window() if has_display() else "there is no display"
    if reason is None:
        yield True
        return
    if not sys.platform.startswith("linux"):
        raise DependencyError(
            f"no window can be opened ({reason})",
            advice=f"Install the Qt binding again with: {install_command('pyqt6')}",
        )
    say(f"Using a virtual display: {reason}")
    with virtual_display():
        reason = why_no_window()
        if reason is not None:
            raise DependencyError(
                f"no window can be opened ({reason})",
                advice=f"Install the missing packages (Debian or Ubuntu: {INSTALL})",
            )
        yield False


def _show(analysis: Analysis, screenshot: Path, stay: bool) -> None:
    """Open napari with all docks; close it unless the user stays, and exit if it does not draw."""
    from ..gui.workbench.window import open_demo

    if stay:
        end_immediately()
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
        _delete_widgets()
    finally:
        watchdog.cancel()


def _delete_widgets() -> None:
    """Delete the widgets of closed windows: at exit a virtual display is no longer there."""
    from qtpy.QtCore import QCoreApplication, QEvent

    QCoreApplication.processEvents()
    QCoreApplication.sendPostedEvents(None, int(QEvent.Type.DeferredDelete.value))
