"""Connections that end with the widget that made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from psygnal import SignalInstance
from qtpy.QtCore import QObject, QTimer


def follow(owner: QObject, signal: SignalInstance, slot: Callable[..., Any]) -> None:
    """Call a bound method of a widget at every emission, until Qt destroys the widget.

    psygnal holds bound methods weakly, so a widget that nobody refers to is let go; but one that
    Qt has deleted may still be referred to from Python, and must hear nothing more.
    """
    method = WeakMethod(slot)
    signal.connect(slot)

    def unfollow() -> None:
        bound = method()
        if bound is not None:
            signal.disconnect(bound, missing_ok=True)

    owner.destroyed.connect(unfollow)


def follow_event(owner: QObject, emitter: Any, slot: Callable[..., Any]) -> None:
    """As `follow`, for an event of napari's."""
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
    """As `follow`, but once for all emissions of a turn: a step may change hundreds of images."""
    soon = _Soon(owner, slot, delay_ms)
    for signal in signals:
        follow(owner, signal, soon.later)
