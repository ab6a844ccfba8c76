"""Connections that end with the widget that made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod

from psygnal import SignalInstance
from qtpy.QtCore import QObject


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
