"""From what a person has corrected to a better model, in one click."""

from __future__ import annotations

from qtpy.QtWidgets import QGridLayout, QPushButton, QSizePolicy

from ....core.text import pluralise
from ...controls.forms import wrapped_label
from ...controls.refresher import FollowingWidget
from ...panels.dock_windows import show_dock
from ...panels.forms import busy
from ...viewer.binding import Binding


class Learning(FollowingWidget):
    """How much there is to learn from, and the two ways to learn it."""

    follows = ("changed", "project_changed")
    delay_ms = 50

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.binding = binding
        self._n_corrected = 0
        self.words = wrapped_label("Corrections to learn from", lines=2)
        self.adapt_button = QPushButton("Adapt model")
        self.adapt_button.setToolTip(
            "Fine-tune the model to these images in seconds, with your corrections as certain "
            "labels. The dock Adapt compares before and after. You can undo it."
        )
        self.train_button = QPushButton("Train model")
        self.train_button.setToolTip(
            "Train a model on the corrected clusters in minutes, for classes or conditions that no "
            "model covers. Each class needs some clusters in at least two images."
        )
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.words, 0, 0, 1, 2)
        for column, button in enumerate((self.adapt_button, self.train_button)):
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            grid.addWidget(button, 1, column)
        self.adapt_button.clicked.connect(self.adapt)
        self.train_button.clicked.connect(self.train)

    def refresh(self) -> None:
        table = self.binding.state.table()
        said = table.loc[table["label_corrected"] != "", ["label_corrected", "label_predicted"]]
        self._n_corrected = n = len(said)
        other = int((said["label_corrected"] != said["label_predicted"]).sum())
        self.words.setText(
            f"You have labelled {pluralise(n, 'cluster')}; {other} of these labels differ from "
            "the prediction."
            if n
            else "A model can learn from your corrections."
        )

    def show_status(self) -> None:
        state = self.binding.state
        ready = self._n_corrected > 0 and not (busy(state) or state.read_only or state.blind)
        self.adapt_button.setEnabled(ready)
        self.train_button.setEnabled(ready)

    def adapt(self) -> None:
        """Open Adapt and let it learn from all images."""
        show_dock(self.binding.viewer, "Adapt").learn()

    def train(self) -> None:
        """Open Train and let it learn from the corrected clusters."""
        show_dock(self.binding.viewer, "Train").learn()
