"""From what a person has corrected to a better model, in one click."""

from __future__ import annotations

from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QSizePolicy, QWidget

from ....state.window_state import TaskState
from ...controls.connections import follow_soon
from ...panels.dock_windows import show_dock
from ...viewer.binding import Binding

_DELAY_MS = 50


class Learning(QWidget):
    """How much there is to learn from, and the two ways to learn it."""

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("Corrections to learn from")
        self.adapt_button = QPushButton("Adapt to corrections")
        self.adapt_button.setToolTip(
            "Fine-tune the model to these images in seconds, with your corrections as certain "
            "labels. "
            "Adapt compares before and after. You can undo it."
        )
        self.train_button = QPushButton("Train on corrections")
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
        state = binding.state
        follow_soon(
            self,
            state.changed,
            state.project_changed,
            state.status_changed,
            slot=self._count,
            delay_ms=_DELAY_MS,
        )
        self._count()

    def _count(self) -> None:
        state = self.binding.state
        table = state.table()
        said = table.loc[table["label_corrected"] != "", ["label_corrected", "label_predicted"]]
        n, other = len(said), int((said["label_corrected"] != said["label_predicted"]).sum())
        self.words.setText(
            f"You have labelled {n} cluster{'s' * (n != 1)}; {other} of these labels differ from "
            "the prediction."
            if n
            else "A model can learn from your corrections."
        )
        free = state.status.state is not TaskState.RUNNING and not state.read_only
        ready = n > 0 and free and not state.blind
        self.adapt_button.setEnabled(ready and len(table) > 0)
        self.train_button.setEnabled(ready)

    def adapt(self) -> None:
        """Open Adapt and let it learn from all images."""
        show_dock(self.binding.viewer, "Adapt").learn()

    def train(self) -> None:
        """Open Train and let it learn from the corrected clusters."""
        show_dock(self.binding.viewer, "Train").learn()
