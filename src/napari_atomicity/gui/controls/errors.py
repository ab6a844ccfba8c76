"""Errors of what a user does, shown as messages."""

from __future__ import annotations

from collections.abc import Callable

from napari.utils.notifications import show_error

from ...core.errors import AtomicityError


def attempt(action: Callable[[], object], on_refused: Callable[[], object] | None = None) -> bool:
    """Carry out an action and return whether it is accepted; show the error if not."""
    try:
        action()
    except AtomicityError as error:
        show_error(str(error))
        if on_refused is not None:
            on_refused()
        return False
    return True
