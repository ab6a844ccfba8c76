"""A watched folder behind the window: what comes of each file is told in the window's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from ....core.errors import AtomicityError
from ...tasks import cap_torch_threads
from .history import LiveHistory

if TYPE_CHECKING:
    from ....pipeline.live_results import LiveRun, LiveUpdate
    from ....pipeline.watch import Watch

PATIENCE_S = 20.0
"""How long the end of the program waits for files being written."""


class Watching(QObject):
    """Runs a `Watch` in a thread of its own: not a task, which others would wait for.

    Signals: ``earlier(History)`` of sessions in the same results, once; ``taken(Live)`` after each
    file; ``said(words)``; ``ended(LiveRun or exception)``.
    """

    earlier = Signal(object)
    taken = Signal(object)
    said = Signal(str)
    ended = Signal(object)

    def __init__(self, make: Callable[[Callable[[str], None]], Watch]) -> None:
        super().__init__()
        self._make = make
        self._stop = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; tables and report are written then."""
        self._stop.set()

    def accept(self) -> None:
        """Accept the present conditions as the reference: see `Watch.accept`."""
        if self._watch is not None:
            self._watch.accept()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def wait(self) -> None:
        """Until it has ended, but not for ever."""
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        outcome: LiveRun | Exception
        try:
            cap_torch_threads()
            watch = self._watch = self._make(self._say)
            self._emit(self.earlier, _history_in(watch.store.folder))
            outcome = watch.run(self._emit, self._stop.is_set)
        except Exception as error:  # whatever it is, the window says so
            outcome = error
        self._emit(self.ended, outcome)

    def _emit(self, live: LiveUpdate) -> None:
        self._emit(self.taken, live)

    def _say(self, words: str) -> None:
        self._emit(self.said, words)

    @staticmethod
    def _emit(signal: Signal, value: object) -> None:
        with suppress(RuntimeError):  # Qt may have let go of the window meanwhile
            signal.emit(value)


def _history_in(folder: Path) -> LiveHistory:
    from ....pipeline.live import LIVE, read_log

    try:
        return LiveHistory.of_log(read_log(folder / LIVE))
    except AtomicityError:  # there is none, or the session puts it aside
        return LiveHistory()
