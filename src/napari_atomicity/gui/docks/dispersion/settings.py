"""The settings of a dispersion, and its progress."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from ....atoms.dispersion import DispersionSettings
from ...controls.drawing import ProgressBar
from ...controls.forms import labelled, new_form, spin_box
from ...controls.settings import remember


class SpreadForm(QWidget):
    """Form of the settings; the linking distance is shown, but set in the dock Atoms.

    Signals: ``changed()``.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        default = DispersionSettings()
        self.linking = QLabel()
        self.simulations = spin_box(19, 9999, default.simulations, 0, "")
        self.simulations.setSingleStep(100)
        self.largest = spin_box(0, 100, 0, 2, " nm")
        self.largest.setSpecialValueText("automatic")
        self.level = spin_box(50, 99.9, 100 * default.level, 1, " %")
        self.level.setSingleStep(1)
        self.seed = spin_box(0, 999_999, default.seed, 0, "")
        self.seed.setSingleStep(1)
        form = new_form()
        self.setLayout(form)
        labelled(
            form,
            "Linking distance",
            self.linking,
            "Atoms at most this far apart belong to one group. Set it in the dock Atoms. "
            "Default: 0.3 nm.",
        )
        labelled(
            form,
            "Simulations",
            self.simulations,
            "Number of random patterns on the same support for comparison; the smallest possible "
            f"p value is 1/(n + 1). Default: {default.simulations}.",
        )
        labelled(
            form,
            "Largest r",
            self.largest,
            "Largest distance r of g(r) and L(r) in nm, at most half the support; twice the "
            "distance takes four times as long. Default: automatic, a quarter of the support or 30 "
            "neighbours.",
        )
        labelled(
            form,
            "Level",
            self.level,
            f"Coverage of intervals and envelopes. Default: {100 * default.level:g} %.",
        )
        labelled(
            form,
            "Seed",
            self.seed,
            "Seed of the random numbers; the same seed gives the same results. "
            f"Default: {default.seed}.",
        )
        for name in ("simulations", "largest", "level", "seed"):
            box = getattr(self, name)
            remember(f"dispersion/{name}", box)
            box.valueChanged.connect(lambda _: self.changed.emit())

    def settings(self) -> DispersionSettings:
        """Return the settings of the form."""
        return DispersionSettings(
            simulations=int(self.simulations.value()),
            largest_nm=self.largest.value() or None,
            seed=int(self.seed.value()),
            level=self.level.value() / 100,
        )


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
