"""Connections that end when their widget is destroyed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from psygnal import SignalInstance
from qtpy.QtCore import QObject


def follow(owner: QObject, signal: SignalInstance, slot: Callable[..., Any]) -> None:
    """Call a bound method of a widget at every emission, until Qt destroys the widget.

    psygnal holds bound methods weakly. But Python may still refer to a widget that Qt has deleted,
    and which must not be called.

    Parameters
    ----------
    owner : QObject
        The widget.
    signal : psygnal.SignalInstance
        The signal.
    slot : callable
        Bound method of the widget.
    """
    method = WeakMethod(slot)
    signal.connect(slot)

    def unfollow() -> None:
        bound = method()
        if bound is not None:
            signal.disconnect(bound, missing_ok=True)

    owner.destroyed.connect(unfollow)


def follow_event(owner: QObject, emitter: Any, slot: Callable[..., Any]) -> None:
    """Call a bound method at every event of napari, until Qt destroys the widget.

    Parameters
    ----------
    owner : QObject
        The widget.
    emitter : napari.utils.events.EventEmitter
        The event.
    slot : callable
        Bound method of the widget.
    """
    method = WeakMethod(slot)
    emitter.connect(slot)

    def unfollow() -> None:
        bound = method()
        if bound is not None:
            emitter.disconnect(bound)

    owner.destroyed.connect(unfollow)
