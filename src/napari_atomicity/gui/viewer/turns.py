"""Work that is spread over several turns of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from psygnal import Signal
from qtpy.QtCore import QTimer

from ...core.errors import AtomicityError
from ..controls.questions import show_error

# Time of a turn that a part of a long step may take, so that the window stays responsive.
_TURN_S = 0.015


class TurnQueue:
    """Run each piece of work in its own turn; new work replaces waiting work of the same key."""

    def __init__(self) -> None:
        self._waiting: dict[object, Callable[[], object]] = {}
        self._timer = QTimer()
        self._timer.timeout.connect(self._run_next)

    @property
    def busy(self) -> bool:
        """Whether work is waiting."""
        return bool(self._waiting)

    def add(self, key: object, work: Callable[[], object]) -> None:
        """Run work in a later turn, in place of waiting work of the same key."""
        self._waiting[key] = work
        self._timer.start()

    def flush(self, wanted: Callable[[object], bool]) -> bool:
        """Run the waiting work whose key is wanted now, and return whether there was any."""
        keys = [key for key in self._waiting if wanted(key)]
        for key in keys:
            self._waiting.pop(key)()
        return bool(keys)

    def _run_next(self) -> None:
        if self._waiting:
            self._waiting.pop(next(iter(self._waiting)))()
        if not self._waiting:
            self._timer.stop()


class StepRunner:
    """Carry out a long step in parts, one in each turn of the event loop.

    Signals: ``refused()`` when an error has ended a step.
    """

    refused = Signal()

    def start(self, step: Callable[[float], bool]) -> None:
        """Carry out a step, which gets the seconds it may take and returns whether more is left."""
        QTimer.singleShot(0, partial(self._run_part, step))

    def _run_part(self, step: Callable[[float], bool]) -> None:
        try:
            more = step(_TURN_S)
        except AtomicityError as error:
            show_error(str(error))
            self.refused.emit()
            return
        if more:
            self.start(step)
