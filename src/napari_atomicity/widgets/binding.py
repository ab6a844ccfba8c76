"""The binding viewer ⇄ session: layers are views of the session and report back as edits."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from ..session import Session

_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()


def unwrapped(viewer: Any) -> Any:
    """The viewer itself: napari hands widgets a proxy, which is another object every time."""
    return getattr(viewer, "__wrapped__", viewer)


def session_of(viewer: Any) -> Session:
    """The session of a viewer: there is one, made when it is first asked for."""
    viewer = unwrapped(viewer)
    if viewer not in _sessions:
        _sessions[viewer] = Session()
    return _sessions[viewer]
