"""Key and mouse events of the canvas, taken before napari handles them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence

_QT_NAMES = {"Del": "Delete", "Esc": "Escape", "Backtab": "Tab"}


class MouseMoves:
    """Call a bound method with scene and canvas position of the mouse; it is held weakly."""

    def __init__(self, method: Callable[[Any, Any], object]) -> None:
        self._method = weakref.WeakMethod(method)

    def __call__(self, viewer: Any, event: Any) -> None:
        method = self._method()
        if method is not None:
            method(event.position, event.pos)


def as_key_event(event: QEvent) -> Any:
    """Return an event of a key as a `QKeyEvent`.

    vispy keeps the last mouse event, whose address Qt may use again. PyQt then returns that
    `QMouseEvent` for the key, and the key would be lost.
    """
    if isinstance(event, QKeyEvent):
        return event
    from qtpy import sip

    address: Any = sip.unwrapinstance(event)  # type: ignore[func-returns-value]
    return sip.wrapinstance(address, QKeyEvent)


def key_name(event: Any) -> str:
    """Return the key of an event as napari writes it, such as ``Control-Shift-Z``."""
    name = QKeySequence(event.key()).toString(QKeySequence.SequenceFormat.PortableText)
    name = _QT_NAMES.get(name, name)
    modifiers = event.modifiers()
    held = (
        ("Control", Qt.KeyboardModifier.ControlModifier),
        ("Alt", Qt.KeyboardModifier.AltModifier),
        ("Shift", Qt.KeyboardModifier.ShiftModifier),
    )
    return "-".join([*(word for word, flag in held if modifiers & flag), name])
