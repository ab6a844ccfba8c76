"""The settings of a dispersion, and how far it is."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from ....atoms.dispersion import DispersionSettings
from ...controls.drawing import ProgressBar
from ...controls.forms import labelled, new_form, spin_box
from ...controls.settings import remember


class SpreadForm(QWidget):
    """Everything that can be chosen; the linking distance is shown, and chosen with the atoms.

    Signals: ``changed()``.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        usual = DispersionSettings()
        self.linking = QLabel()
        self.simulations = spin_box(19, 9999, usual.simulations, 0, "")
        self.simulations.setSingleStep(100)
        self.largest = spin_box(0, 100, 0, 2, " nm")
        self.largest.setSpecialValueText("automatic")
        self.level = spin_box(50, 99.9, 100 * usual.level, 1, " %")
        self.level.setSingleStep(1)
        self.seed = spin_box(0, 999_999, usual.seed, 0, "")
        self.seed.setSingleStep(1)
        form = new_form()
        self.setLayout(form)
        labelled(
            form,
            "Linking distance",
            self.linking,
            "Atoms no further apart than this are one group; it is set where atoms are found. "
            "Default: 0.3 nm.",
        )
        labelled(
            form,
            "Simulations",
            self.simulations,
            "Random patterns on the same support that the atoms are compared with; the least p "
            f"value is one over one more. Default: {usual.simulations}.",
        )
        labelled(
            form,
            "Largest r",
            self.largest,
            "Up to which distance g(r) and L(r) go, in nm, at most half the support; twice as far "
            "takes four times as long. Default: automatic, a quarter of the support or 30 "
            "neighbours.",
        )
        labelled(
            form,
            "Level",
            self.level,
            f"Coverage of intervals and envelopes, in per cent. Default: {100 * usual.level:g} %.",
        )
        labelled(
            form,
            "Seed",
            self.seed,
            f"Of all random numbers: the same seed gives the same figures. Default: {usual.seed}.",
        )
        for name in ("simulations", "largest", "level", "seed"):
            box = getattr(self, name)
            remember(f"dispersion/{name}", box)
            box.valueChanged.connect(lambda _: self.changed.emit())

    def settings(self) -> DispersionSettings:
        """What is set."""
        return DispersionSettings(
            simulations=int(self.simulations.value()),
            largest_nm=self.largest.value() or None,
            seed=int(self.seed.value()),
            level=self.level.value() / 100,
        )


class Waiting(QWidget):
    """A bar and Cancel; empty while nothing is under way.

    Signals: ``cancelled()``.
    """

    cancelled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = ProgressBar()
        self.bar.setAccessibleName("Progress")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; what was found before stays.")
        self.cancel_button.clicked.connect(self.cancelled)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.cancel_button)
        self.hide()

    def begin(self, words: str) -> None:
        self.bar.setFormat(words)
        self.bar.setRange(0, 1)  # of unknown length it would have no words
        self.bar.setValue(0)
        self.show()

    def report(self, done: int, total: int, message: str) -> None:
        """How far it is; which image, where there are several, is a tooltip."""
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        self.bar.setToolTip(message)

    def end(self) -> None:
        self.hide()
