"""The annotator and blind mode."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QLineEdit

from ...core.text import pluralise
from ..controls.errors import attempt
from ..controls.refresher import FollowingWidget
from ..controls.settings import ANNOTATOR, settings
from ..viewer.binding import Binding
from ..viewer.status_line import show_message

BLIND = (
    "Blind mode hides predictions and the labels of others. Your labels are stored separately and "
    "count only for clusters without an open label. Earlier steps can no longer be undone. "
    "Labels and marks of each annotator are in the "
    "project under their name: enter a name to continue with those of that annotator."
)
IS_BLIND = "Blind: predictions and labels of others are hidden"
NO_PROJECT = "Open a folder or a project first: its file stores the labels of several annotators."
_NAME_CHARACTERS = 14


class AnnotatorForm(FollowingWidget):
    """The annotator's name, which is remembered, and the switch to blind mode, in one line."""

    follows = ("annotator_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self._binding = binding
        self.name = QLineEdit()
        self.name.setAccessibleName("Annotator")
        self.name.setToolTip(
            "Name of the annotator, stored with each label. Default: your user name."
        )
        self.name.setFixedWidth(_NAME_CHARACTERS * self.fontMetrics().averageCharWidth())
        self.name.editingFinished.connect(self._on_name)
        self.blind = QCheckBox("Blind")
        self.blind.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.blind.toggled.connect(self._on_blind)
        label = QLabel("Annotator")
        label.setBuddy(self.name)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        for widget in (label, self.name, self.blind):
            row.addWidget(widget)

    def _on_name(self) -> None:
        n_steps = len(self.state.history)
        attempt(lambda: setattr(self.state, "annotator", self.name.text()))
        self._tell_of_lost_steps(n_steps)
        settings().setValue(ANNOTATOR, self.state.annotator)
        self.refresh()

    def _on_blind(self, on: bool) -> None:
        n_steps = len(self.state.history)
        attempt(lambda: self.state.set_blind(on))
        self._tell_of_lost_steps(n_steps)
        self.refresh()

    def _tell_of_lost_steps(self, n: int) -> None:
        """Say how many steps can't be undone any more, because other labels are shown now."""
        if n and not len(self.state.history):
            kept = "is saved but" if n == 1 else "are saved but"
            steps = pluralise(n, "earlier step")
            show_message(self._binding.viewer, f"{steps} {kept} can no longer be undone")

    def refresh(self) -> None:
        state = self.state
        if not self.name.hasFocus() or self.name.text() != state.annotator:
            self.name.setText(state.annotator)
        with QSignalBlocker(self.blind):
            self.blind.setChecked(state.blind)
        known = state.project is not None
        self.blind.setEnabled(known)
        words = f"{IS_BLIND}. {BLIND}" if state.blind else f"{BLIND} Default: off."
        self.blind.setToolTip(_as_paragraph(words) if known else NO_PROJECT)


def _as_paragraph(text: str) -> str:
    """Return a text for a tooltip that wraps."""
    return f"<p>{text}</p>"
