"""The annotator and blind mode."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QLineEdit, QVBoxLayout

from ...state.window_state import user_name
from ..controls.errors import attempt
from ..controls.forms import wrapped_label
from ..controls.refresher import FollowingWidget
from ..controls.settings import settings
from ..viewer.binding import Binding

_REMEMBERED = "annotator"


BLIND = (
    "Blind mode hides predictions and the labels of others. Your labels are stored separately and "
    "count only for clusters without an open label. Labels and marks of each annotator are in the "
    "project under their name: enter a name to continue with those of that annotator."
)


class AnnotatorForm(FollowingWidget):
    """The annotator's name, which is remembered, and the switch to blind mode."""

    follows = ("annotator_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = state = binding.state
        self.name = QLineEdit()
        self.name.setAccessibleName("Annotator")
        self.name.setToolTip(
            "Name of the annotator, stored with each label. Default: your user name."
        )
        self.name.editingFinished.connect(self._on_name)
        self.blind = QCheckBox("Blind")
        self.blind.toggled.connect(self._on_blind)
        label = QLabel("Annotator")
        label.setBuddy(self.name)
        row = QHBoxLayout()
        row.addWidget(label)
        row.addWidget(self.name, 1)
        row.addWidget(self.blind)
        self.words = wrapped_label()
        self.words.setText(BLIND)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.words)
        remembered = settings().value(_REMEMBERED)
        if remembered and state.annotator == user_name():
            state.annotator = str(remembered)

    def _on_name(self) -> None:
        attempt(lambda: setattr(self.state, "annotator", self.name.text()))
        settings().setValue(_REMEMBERED, self.state.annotator)
        self.refresh()

    def _on_blind(self, on: bool) -> None:
        attempt(lambda: self.state.set_blind(on))
        self.refresh()

    def refresh(self) -> None:
        state = self.state
        if not self.name.hasFocus() or self.name.text() != state.annotator:
            self.name.setText(state.annotator)
        with QSignalBlocker(self.blind):
            self.blind.setChecked(state.blind)
        self.blind.setEnabled(state.project is not None)
        self.blind.setToolTip(
            "Hide predictions and the labels of others. Default: off."
            if state.project is not None
            else NO_PROJECT
        )
        self.words.setVisible(state.blind)


NO_PROJECT = "Open a folder or a project first: its file stores the labels of several annotators."
