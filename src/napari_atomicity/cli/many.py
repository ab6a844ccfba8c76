"""Progress of the commands for many images."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .common import ConsoleProgress

if TYPE_CHECKING:
    from ..io.provenance import Outcome

PLAIN_LINE_S = 10.0
"""Interval of progress lines in seconds where the output is not a terminal, as in a log file."""


class BatchProgress:
    """Shows the progress of many images; prints failed images immediately."""

    def __init__(
        self, console: ConsoleProgress, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._clock = console, clock
        self._is_terminal = sys.stderr.isatty()
        self._printed_at = clock()

    def progress(self, done: int, total: int, message: str) -> None:
        """Show the number of images and the rate."""
        if self._is_terminal:
            self._console.progress(0, 0, message)
        elif total and (done == total or self._clock() - self._printed_at > PLAIN_LINE_S):
            self._printed_at = self._clock()
            self._console.line(message)

    def outcome(self, outcome: Outcome, _: Path | None = None) -> None:
        """Print the error of an image that failed."""
        if outcome.status != "done":
            self._console.outcome(outcome)
