"""Widgets that follow the window's state: each is refreshed once after changes, if visible.

`TurnQueue` spreads work over several turns of the event loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal
from weakref import WeakMethod, finalize, ref

from psygnal import Signal, SignalInstance
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QWidget

from ...core.errors import AtomicityError
from .questions import show_error

# ---- connections that end with their widget

# Nothing is connected to the Qt signal `destroyed`: Python's garbage collector may have cleared a
# function before Qt deletes the widget and calls it.


def single_shot(
    slot: Callable[[], object], interval_ms: int = 0, owner: QObject | None = None
) -> QTimer:
    """Return a timer that calls a function once after each start."""
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    timer.timeout.connect(slot)
    return timer


def follow(owner: QObject, signal: SignalInstance, slot: Callable[..., Any]) -> None:
    """Call a bound method of a widget at every emission, as long as the widget exists.

    Python may still refer to a widget that Qt has deleted, and which must not be called.
    """
    call = _guarded(owner, slot)
    signal.connect(call, max_args=_max_args(slot))
    finalize(owner, signal.disconnect, call, missing_ok=True).atexit = False


def follow_event(owner: QObject, emitter: Any, slot: Callable[..., Any]) -> None:
    """Call a bound method at every event of napari, as long as the widget exists."""
    call = _guarded(owner, slot)
    emitter.connect(call)
    finalize(owner, emitter.disconnect, call).atexit = False


def _guarded(owner: QObject, slot: Callable[..., Any]) -> Callable[..., None]:
    """Return a function that calls a bound method unless its owner was deleted."""
    widget, method = ref(owner), WeakMethod(slot)

    def call(*args: Any) -> None:
        living, bound = widget(), method()
        if living is not None and bound is not None and isalive(living):
            bound(*args)

    return call


def _max_args(slot: Callable[..., Any]) -> int | None:
    """Return how many arguments a method takes; None for any number."""
    parameters = inspect.signature(slot).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


ChangeSignal = Literal[
    "annotator_changed", "atom_selection_changed", "atoms_changed", "changed",
    "class_maps_changed", "colouring_changed", "current_changed", "hidden_changed",
    "images_changed", "label_mode_changed", "magnifier_changed", "map_options_changed",
    "marking_changed", "outlines_changed", "project_changed", "reference_changed",
    "review_changed", "review_moved", "saved_changed", "selection_changed", "support_shown",
]  # fmt: skip
"""Names of the signals that a widget can follow."""
SELECTIONS: frozenset[ChangeSignal] = frozenset({"selection_changed", "atom_selection_changed"})
"""Signals that lead to `FollowingWidget.refresh_selection`, at once."""


class Refresher(QObject):
    """Counts changes, and refreshes the visible widgets that follow them.

    A hidden widget costs nothing: when it is shown, it compares the counts with those of its last
    refresh.
    """

    def __init__(self, signals: Mapping[ChangeSignal, SignalInstance]) -> None:
        super().__init__()
        self.counts: dict[ChangeSignal, int] = dict.fromkeys(signals, 0)
        self._widgets: list[ref[FollowingWidget]] = []
        self._timer = single_shot(self._refresh, owner=self)
        self.postponed = False
        for name, signal in signals.items():
            signal.connect(partial(self._count, name))

    @property
    def busy(self) -> bool:
        """Whether visible widgets wait for their refresh."""
        return self._timer.isActive() or any(widget.outdated() for widget in self._visible())

    def add(self, widget: FollowingWidget) -> None:
        """Refresh a widget until Qt destroys it."""
        self._widgets = [known for known in self._widgets if known() is not None]
        self._widgets.append(ref(widget))

    def postpone(self, at_most_ms: int) -> None:
        """Refresh the widgets after `resume`, or after this time."""
        self.postponed = True
        self._timer.start(at_most_ms)

    def resume(self) -> None:
        """Refresh widgets that were postponed, in the next turn of the event loop."""
        if self.postponed:
            self._timer.start(0)

    def show_status(self) -> None:
        """Let the visible widgets show the running task, without waiting."""
        for widget in self._visible():
            widget.show_status()

    def _visible(self) -> list[FollowingWidget]:
        widgets = [reference() for reference in self._widgets]
        return [w for w in widgets if w is not None and isalive(w) and w.isVisible()]

    def _count(self, name: str, *_: object) -> None:
        self.counts[name] += 1
        if self.postponed:
            return
        if name in SELECTIONS:  # the next key or click may act on the selection
            self._refresh()
        elif not self._timer.isActive():
            self._timer.start(0)

    def _refresh(self) -> None:
        self.postponed = False
        for widget in self._visible():
            widget.refresh_if_outdated()


class FollowingWidget(QWidget):
    """A widget that is refreshed when the window's state has changed.

    Only a visible widget is refreshed, once after any number of changes, in the next turn of the
    event loop. It is refreshed when it is shown for the first time, or again after a change.

    Subclasses define `refresh`; ``follows`` names the signals of `Refresher.counts` that make the
    content outdated. One that follows `SELECTIONS` may define `refresh_selection`.
    """

    follows: ClassVar[tuple[ChangeSignal, ...]] = ()
    delay_ms: ClassVar[int] = 0
    """Changes within this time lead to one refresh."""

    def __init__(self, refresher: Refresher, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._refresher = refresher
        self._counts: dict[str, int] = {}
        self._timer = single_shot(self._update_if_visible, owner=self)
        refresher.add(self)

    def refresh(self) -> None:
        """Show the window's state as it is now."""

    def refresh_selection(self) -> None:
        """Show the selection, if nothing else has changed since the last refresh."""
        self.refresh()

    def show_status(self) -> None:
        """Show the running task."""

    def outdated(self) -> set[str]:
        """Return the signals that were emitted since the last refresh."""
        counts = self._refresher.counts
        return {name for name in self.follows if counts[name] != self._counts.get(name)}

    def invalidate(self, *_: object) -> None:
        """Refresh soon, or when the widget is shown."""
        self._counts = {}
        if not self._timer.isActive():
            self._timer.start(self.delay_ms)

    def refresh_if_outdated(self) -> None:
        """Refresh, after ``delay_ms``, if the window's state has changed."""
        outdated = self.outdated()
        if not self.delay_ms or outdated <= SELECTIONS:
            self.update_now()
        elif outdated and not self._timer.isActive():
            self._timer.start(self.delay_ms)

    def update_now(self) -> None:
        """Show what has changed since the last refresh, without waiting."""
        outdated = self.outdated()
        if outdated and outdated <= SELECTIONS:
            self._counts = dict(self._refresher.counts)
            self.refresh_selection()
        elif outdated:
            self.refresh_now()

    def refresh_now(self) -> None:
        """Refresh, without waiting."""
        self._timer.stop()
        self._counts = dict(self._refresher.counts)
        self.refresh()
        self.show_status()

    def _update_if_visible(self) -> None:
        if self.isVisible() and not self._refresher.postponed:
            self.update_now()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self.update_now()
        self.show_status()


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
