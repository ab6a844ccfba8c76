"""Connections that end with their widget."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakMethod, finalize, ref

from psygnal import SignalInstance
from qtpy.compat import isalive
from qtpy.QtCore import QObject

# Nothing is connected to the Qt signal `destroyed`: Python's garbage collector may have cleared a
# function before Qt deletes the widget and calls it.


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
