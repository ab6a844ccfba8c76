"""Progress bars of notebooks and terminals."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from ..core.progress import Progress

_INTERVAL_S = 0.1
"""Shortest time between two updates of a notebook."""


@contextmanager
def automatic_progress(progress: Progress | bool | None = None) -> Iterator[Progress | None]:
    """Provide a progress function: in notebooks and on terminals a bar that disappears at the end.

    Yields
    ------
    callable or None
        ``progress(done, total, message)``, or None if nothing is shown.
    """
    if progress is False or callable(progress):
        yield progress if callable(progress) else None
    elif _is_notebook():
        yield from _notebook_bar()
    elif progress or sys.stderr.isatty():
        yield from _terminal_bar()
    else:
        yield None


def _is_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _notebook_bar() -> Iterator[Progress]:
    # The bars of rich and tqdm need ipywidgets in a notebook.
    from IPython.display import HTML, display

    handle: Any = display(HTML(""), display_id=True)
    updated = 0.0

    def show(done: int, total: int, message: str) -> None:
        nonlocal updated
        now = time.monotonic()
        if now - updated < _INTERVAL_S:
            return
        updated = now
        amount = f'value="{done}" max="{total}"' if total > 1 else ""
        handle.update(HTML(f"<progress {amount}></progress> {escape(message)}"))

    try:
        yield show
    finally:
        handle.update(HTML(""))


def _terminal_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress as Bars,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(done: int, total: int, message: str) -> None:
            known = total if total > 1 else None
            bars.update(task, description=message, completed=done, total=known)

        yield show
