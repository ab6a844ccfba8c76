"""Base class of the docks that show all clusters of all images: Gallery and Table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QWidget

from ...state.window_state import WindowState
from .connections import follow

_COALESCE_MS = 30


class RowsDock(QWidget):
    """A dock that refreshes once after many changes, and only while it is visible.

    A subclass sets `state`, `model` (with ``rows`` and ``forget``) and `view` (with
    ``show_selected``), implements `_refresh` and `_selected`, and calls `_listen`.
    """

    state: WindowState
    model: Any
    view: Any

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._stale = True
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_COALESCE_MS)
        self._timer.timeout.connect(self.update_now)

    def _listen(self) -> None:
        state = self.state
        follow(self, state.analysis_changed, self._later)
        follow(self, state.images_changed, self._later)
        follow(self, state.project_changed, self._on_project)
        follow(self, state.selection_changed, self._on_selection)

    def _later(self, *_: object) -> None:
        """Refresh once after several changes."""
        self._stale = True
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        if self._stale:
            self.update_now()

    def update_now(self) -> None:
        """Refresh now; rows that are shown already keep their places."""
        if self.isVisible():
            self._stale = False
            self._refresh()

    def _on_project(self, *_: object) -> None:
        self.model.forget()
        self._later()

    def _on_selection(self, selection: Iterable) -> None:
        if self._stale or not self.isVisible():
            self._later()
            return
        self.model.rows.select(selection)
        if not self.view.hasFocus():
            self.view.show_selected()
        self.view.viewport().update()
        self._selected()

    def _refresh(self) -> None:
        """Show the state as it is now."""
        raise NotImplementedError

    def _selected(self) -> None:
        """Show how many rows are selected."""
        raise NotImplementedError
