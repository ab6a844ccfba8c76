"""Progress of the computation of a dispersion."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ...controls.drawing import ProgressBar


class Waiting(QWidget):
    """Progress bar and Cancel button; hidden without a task.

    Signals: ``cancelled()``.
    """

    cancelled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = ProgressBar()
        self.bar.setAccessibleName("Progress")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Cancel the computation; earlier results are kept.")
        self.cancel_button.clicked.connect(self.cancelled)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        self.hide()

    def begin(self, message: str) -> None:
        self.bar.setFormat(message)
        self.bar.setRange(0, 1)  # a bar of unknown length shows no text
        self.bar.setValue(0)
        self.show()

    def report(self, done: int, total: int, message: str) -> None:
        """Show the progress, with the message as tooltip."""
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        self.bar.setToolTip(message)
