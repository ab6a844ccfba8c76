"""A watched folder behind the window: what comes of each file is told in the window's thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QObject, Signal

from ....core.errors import AtomicityError
from ...tasks import cap_torch_threads

if TYPE_CHECKING:
    from ....pipeline.live.live import LiveRun, LiveUpdate
    from ....pipeline.live.watch import Watch


# ---- A live session as it is plotted: figures of each image, in the order in which they came

MAX_ROWS = 2000
"""Points that are kept for the plot; of more, every second one goes."""


@dataclass
class LiveHistory:
    """Rows of ``live.csv`` (`pipeline.live.live`), as far as they are plotted."""

    classes: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of_log(cls, log: pd.DataFrame) -> LiveHistory:
        """Read the rows of an earlier run."""
        classes = [c.removeprefix("fraction_") for c in log.columns if c.startswith("fraction_")]
        history = cls(tuple(classes))
        for row in log.to_dict("records"):
            history.add(row)
        return history

    def add(self, row: Mapping[str, Any]) -> None:
        if not self.classes:
            self.classes = tuple(c.removeprefix("fraction_") for c in row if _is_fraction(c))
        self.rows.append(dict(row))
        if len(self.rows) > MAX_ROWS:
            self.rows = self.rows[: -MAX_ROWS // 4 : 2] + self.rows[-MAX_ROWS // 4 :]

    def values(self, column: str) -> np.ndarray:
        """Return a column, with NaN where it is missing."""
        values = pd.Series([row.get(column) for row in self.rows], dtype=object)
        return pd.to_numeric(values, errors="coerce").to_numpy(float)

    def change(self) -> np.ndarray:
        """Return the change of the conditions in the session, in units of its limit."""
        return self.values("session_change")

    def drift(self) -> np.ndarray:
        """Return the drift of the conditions from the training, in units of the model's limit."""
        limits = self.values("drift_limit")
        return self.values("drift") / np.where(limits == 0, np.nan, limits)

    @property
    def alarms(self) -> list[str]:
        """Of each image what was wrong with it, or ""."""
        return [_texts(row.get("alarm")) for row in self.rows]


def _is_fraction(column: str) -> bool:
    return column.startswith("fraction_")


def _texts(value: object) -> str:
    return value if isinstance(value, str) else ""


def last_finite(values: np.ndarray) -> float:
    """Return the last finite value, or NaN."""
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


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
            outcome = watch.run(self._on_update, self._stop.is_set)
        except Exception as error:  # the window reports any error
            outcome = error
        self._emit(self.ended, outcome)

    def _on_update(self, live: LiveUpdate) -> None:
        self._emit(self.taken, live)

    def _say(self, words: str) -> None:
        self._emit(self.said, words)

    @staticmethod
    def _emit(signal: Signal, value: object) -> None:
        with suppress(RuntimeError):  # Qt may have let go of the window meanwhile
            signal.emit(value)


def _history_in(folder: Path) -> LiveHistory:
    from ....pipeline.live.live import LIVE, read_log

    try:
        return LiveHistory.of_log(read_log(folder / LIVE))
    except AtomicityError:  # there is none, or the session puts it aside
        return LiveHistory()
