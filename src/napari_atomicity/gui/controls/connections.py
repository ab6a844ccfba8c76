"""Connections that end when their widget is destroyed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from psygnal import SignalInstance
from qtpy.QtCore import QObject, QTimer


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


class _Soon(QObject):
    """Calls a slot once, a moment after any number of emissions."""

    def __init__(self, owner: QObject, slot: Callable[[], Any], delay_ms: int) -> None:
        super().__init__(owner)  # which keeps it alive, and ends it
        self._slot = WeakMethod(slot)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(delay_ms)
        self._timer.timeout.connect(self._call)

    def later(self, *_: object) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _call(self) -> None:
        slot = self._slot()
        if slot is not None:
            slot()


def follow_soon(
    owner: QObject, *signals: SignalInstance, slot: Callable[[], Any], delay_ms: int = 0
) -> None:
    """Call a bound method once after any number of emissions, until Qt destroys the widget.

    Parameters
    ----------
    owner : QObject
        The widget.
    *signals : psygnal.SignalInstance
        The signals.
    slot : callable
        Bound method of the widget.
    delay_ms : int, default 0
        Time after the first emission in ms.
    """
    soon = _Soon(owner, slot, delay_ms)
    for signal in signals:
        follow(owner, signal, soon.later)
