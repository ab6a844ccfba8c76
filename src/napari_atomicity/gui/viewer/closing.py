"""Closing the window: one question, and the project is left before its widgets are deleted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer


class CloseFilter(QObject):
    """Asks a person who closes a window or quits napari; programs close without a question."""

    _of_all_windows: ClassVar[weakref.WeakSet[CloseFilter]] = weakref.WeakSet()

    def __init__(
        self,
        window: Any,
        question: Callable[[], str],
        may_close: Callable[[], bool],  # ``may_close() -> bool``: asks it
        close_down: Callable[[], None],
    ) -> None:
        super().__init__(window)
        self._window = window
        self._question, self._may_close, self._close_down = question, may_close, close_down
        self._closing = False
        self._of_all_windows.add(self)
        # The menu and its keys call this method of the window, whose close event then looks as if
        # a program closed the window.
        self._close = window.close
        window.close = self._close_by_menu

    def _close_by_menu(self, quit_app: bool = False, confirm_need: bool = False) -> Any:
        """Ask, then close the window as napari does; to quit, ask for every window."""
        asking = [self] if quit_app or confirm_need else []
        if quit_app:
            asking += [one for one in self._of_all_windows if one is not self and one._is_shown()]
        for one in asking:
            if one._question():
                if not one._may_close():
                    return None
                confirm_need = False
        return self._close(quit_app=quit_app, confirm_need=confirm_need)

    def _is_shown(self) -> bool:
        return isalive(self) and self._window.isVisible()

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
                    QTimer.singleShot(0, self._close)
                return True
        return False
