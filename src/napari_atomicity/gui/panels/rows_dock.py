"""Base class of the docks that show all clusters of all images: Gallery and Table."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton, QSizePolicy

from ...core.tables.cluster_table import Key
from ..controls.forms import keep_room
from ..controls.refresher import follow
from .dock import Dock


class RowsDock(Dock):
    """A dock with a view of the rows of the joined cluster table.

    A subclass sets `model` (with ``rows``, ``order`` and ``forget``) and `view` (with
    ``show_selected``) when it is built.
    """

    follows = ("changed", "images_changed", "project_changed", "selection_changed")
    delay_ms = 30
    scrolls = False

    model: Any
    view: Any

    def build(self) -> None:
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.content.setContentsMargins(6, 6, 6, 6)
        self.note = QLabel()
        self.note.setAccessibleName("How many clusters")
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.sort_again_button = QPushButton("Sort again")
        keep_room(self.sort_again_button)
        self._picked_here: frozenset[Key] = frozenset()
        follow(self, self.state.project_changed, self._on_project)

    def _connect_view(self) -> None:
        """Connect what a person does in the view."""
        self.sort_again_button.clicked.connect(self.sort)
        self.view.picked.connect(self._on_selected)
        self.view.activated_at.connect(self._on_activated)

    def sort(self, *_: object) -> None:
        """Sort the rows as set in the form."""
        raise NotImplementedError

    def _on_project(self) -> None:
        self.model.forget()

    def refresh_selection(self) -> None:
        self.model.rows.select(self.state.selection)
        # What is picked in the view is in sight already.
        if self.state.selection != self._picked_here:
            self.view.show_selected()
            self._picked_here = frozenset()
        self.view.viewport().update()
        self._show_selection()

    def _show_selection(self) -> None:
        """Show how many rows are selected."""
        raise NotImplementedError

    # ---- actions of the user
    def _on_selected(self, rows: np.ndarray, whole: bool) -> None:
        """Select clusters; those that a filter hides stay selected unless all are replaced."""
        keys = self.model.rows.keys_of(rows)
        if not whole:
            shown = np.zeros(len(self.model.rows), bool)
            shown[self.model.order] = True
            keys |= self.state.selection - self.model.rows.keys_of(shown)
        self._picked_here = frozenset(keys)
        self.state.select(keys)

    def _on_activated(self, row: int) -> None:
        key = self.model.rows.key_of(row)
        self.state.select([key])
        self.state.request_focus(key)
