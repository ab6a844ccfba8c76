"""Key and mouse events of the canvas, taken before napari handles them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence

from ..controls.shortcuts import Shortcut
from .layers import compat

_CLICK_PX = 4
_QT_NAMES = {"Del": "Delete", "Esc": "Escape", "Backtab": "Tab"}


class KeyTarget(Protocol):
    """What handles the keys of a canvas."""

    @property
    def takes_keys(self) -> bool:
        """Whether keys are handled now."""

    def run(self, shortcut: Shortcut, key: str) -> None:
        """Run a shortcut."""


class CanvasKeys(QObject):
    """Send the keys of shortcuts to a target, and no letters or digits to napari."""

    def __init__(self, target: KeyTarget, shortcuts: tuple[Shortcut, ...], canvas: QObject) -> None:
        super().__init__()
        self._target = weakref.ref(target)
        self._canvas = canvas
        self._shortcuts = {key: shortcut for shortcut in shortcuts for key in shortcut.keys}
        canvas.installEventFilter(self)

    def end(self) -> None:
        """Stop handling keys."""
        with suppress(RuntimeError):  # Qt has deleted the canvas
            self._canvas.removeEventFilter(self)
        self.deleteLater()

    def eventFilter(self, canvas: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        target = self._target()
        kinds = (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride)
        if event is None or event.type() not in kinds or target is None or not target.takes_keys:
            return False
        event = as_key_event(event)
        name = key_name(event)
        shortcut = self._shortcuts.get(name)
        # napari's letters and digits would delete atoms or change what a click does.
        if shortcut is None and not (len(name) == 1 and name.isalnum()):
            return False
        event.accept()
        if shortcut is not None and event.type() == QEvent.Type.KeyPress:
            target.run(shortcut, name)
        return True


class MouseTarget(Protocol):
    """What handles the mouse on a canvas."""

    @property
    def takes_clicks(self) -> bool:
        """Whether clicks are handled now."""

    def key_at(self, world: Any) -> Any:
        """Return the object at a place of the scene; None if there is none."""

    def drag(self, key: Any, world: Any) -> None:
        """Move an object while the button is held."""

    def drop(self, key: Any, world: Any) -> None:
        """Move an object to where the button was released."""

    def click(self, world: Any, key: Any, extend: bool, exactly: bool) -> None:
        """Handle a click without a movement."""


class CanvasMouse:
    """Send clicks and drags to a target; an entry of ``mouse_drag_callbacks``."""

    def __init__(self, target: MouseTarget) -> None:
        self._target = weakref.ref(target)

    def __call__(self, viewer: Any, event: Any) -> Iterator[None]:
        target = self._target()
        if target is None or not target.takes_clicks or event.button != 1:
            return
        start, moved = np.asarray(event.pos, float), False
        key = target.key_at(event.position)
        camera = compat.camera(viewer)
        pans = camera.mouse_pan
        try:
            if key is not None:
                camera.mouse_pan = False
            yield
            while event.type == "mouse_move":
                far = np.linalg.norm(np.asarray(event.pos, float) - start) > _CLICK_PX
                moved = moved or bool(far)
                if moved and key is not None:
                    target.drag(key, event.position)
                yield
        finally:
            camera.mouse_pan = pans
        if moved and key is not None:
            target.drop(key, event.position)
        elif not moved:
            extend, exactly = "Shift" in event.modifiers, "Alt" in event.modifiers
            target.click(event.position, key, extend, exactly)


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
