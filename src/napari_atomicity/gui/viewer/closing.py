"""Closing the window: one question, and the project is left before its widgets are deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QTimer


class CloseFilter(QObject):
    """Filters the events of a window that is about to close.

    Parameters
    ----------
    window : QWidget
        The window of napari.
    question : callable
        ``question() -> str``: what a person must be asked first; "" if nothing.
    may_close : callable
        ``may_close() -> bool``: asks it.
    close_down : callable
        Called once the window is closed, before its widgets are deleted.
    """

    def __init__(
        self,
        window: Any,
        question: Callable[[], str],
        may_close: Callable[[], bool],
        close_down: Callable[[], None],
    ) -> None:
        super().__init__(window)
        self._window = window
        self._question, self._may_close, self._close_down = question, may_close, close_down
        self._closing = False

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Hide and self._closing and not event.spontaneous():
            self._close_down()
        elif event.type() == QEvent.Type.Close:
            self._closing = True
            if event.spontaneous() and self._question():
                # Closed by the program afterwards, the window asks no question of its own.
                event.ignore()
                self._closing = False
                if self._may_close():
                    QTimer.singleShot(0, self._window.close)
                return True
        return False
