"""The threshold of the atoms: histogram, slider and expected scores."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QPushButton, QStyle, QVBoxLayout, QWidget

from ....atoms.analysis import AtomAnalysis
from ....atoms.finding.pixel_size import PixelSizeProposal
from ....atoms.marks import ImageAtoms
from ....atoms.table import PERSON
from ....core.text import pluralise
from ... import tasks
from ...controls.forms import Slider, fill_row, new_row, spin_box, wrapped_label
from ...controls.refresher import single_shot
from ...controls.settings import remember
from ...panels.forms import ImageForm
from ...viewer.binding import Binding
from ...viewer.layers import calibration
from .column_chart import ChartColumn, ColumnChart
from .jobs import propose

# ---- A pixel size for images that have none, from the width of their own atoms

NO_PROPOSAL = "Too few clear spots to estimate the pixel size from their width."


def format_proposal(found: PixelSizeProposal) -> str:
    """``by the width of its spots: 0.029 nm (0.02–0.04)``."""
    return (
        f"By the width of its spots: {found.value_nm:.2g} nm "
        f"({found.low_nm:.2g}–{found.high_nm:.2g})"
    )


@dataclass(eq=False)
class _Measured:
    """The proposal for the pixels of a layer, which shows one image of a project after another."""

    pixels: Any
    proposal: PixelSizeProposal | None = None
    running: bool = True
    complete: bool = False

    @property
    def cancelled(self) -> bool:
        return not (self.running or self.complete)


class PixelSizePart(QWidget):
    """Proposal of the pixel size of the chosen image; hidden if the size is known."""

    def __init__(self, binding: Binding, form: ImageForm, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding, self._form = binding, form
        self._measured: weakref.WeakKeyDictionary[Image, _Measured] = weakref.WeakKeyDictionary()
        self.words = wrapped_label("Proposal for the pixel size")
        self.words.setToolTip(
            "Single atoms are about 0.15 nm wide (0.09 to 0.28 nm, depending on the microscope), "
            "so this estimate is uncertain by a factor of 1.5 or more. It is not a calibration."
        )
        self.use_button = QPushButton("Use it")
        self.use_button.setToolTip("Use the proposed pixel size. A known pixel size is better.")
        self.use_button.clicked.connect(self._use)
        fill_row(self, (self.words, 1), self.use_button)
        self.hide()

    @property
    def proposal(self) -> PixelSizeProposal | None:
        """The proposal for the chosen image; None if there is none yet."""
        measured = self._current()
        return measured.proposal if measured else None

    def _current(self) -> _Measured | None:
        layer = self._form.images.layer
        measured = None if layer is None else self._measured.get(layer)
        return measured if measured and measured.pixels is layer.data else None

    def show_proposal(self) -> None:
        """Compute a proposal if the pixel size is unknown, and show it."""
        layer = self._form.images.layer
        wanted = layer is not None and calibration.pixel_size_nm(layer) is None
        self.setVisible(wanted)
        if not wanted or layer is None:
            return
        measured = self._current()
        if not measured or measured.cancelled:
            self._request(layer)
        self._show()

    def _request(self, layer: Image) -> None:
        measured = self._measured[layer] = _Measured(layer.data)

        def found(proposal: PixelSizeProposal | None) -> None:
            measured.proposal, measured.complete = proposal, True

        def ended() -> None:
            measured.running = False
            if self._current() is measured:
                self._show()

        task = tasks.start(
            self._binding.state,
            propose,
            measured.pixels,
            on_result=found,
            key=f"pixel size by the spots of {id(layer)}",
            owner=self,
        )
        task.finished.connect(ended)

    def _show(self) -> None:
        measured = self._current()
        if self.proposal is not None:
            self.words.setText(format_proposal(self.proposal))
        else:
            running = measured is not None and measured.running
            self.words.setText("Measuring the width of its spots …" if running else NO_PROPOSAL)
        self.use_button.setVisible(self.proposal is not None)

    def _use(self) -> None:
        if self.proposal is not None:
            self._form.enter(round(self.proposal.value_nm, 4))


STEPS = 1000
BINS = 50
PRECISION = 0.9
_COUNTED = "#56b4e9"
_ALL_CANDIDATES = (
    "All candidates count, also those marked by hand, which the scores above leave out: marking "
    "does not move the threshold."
)
# Keys send no signal at the end of a movement.
_PAUSE_MS = 700
_TICKS = ((0.0, "0"), (0.25, "0.25"), (0.5, "0.5"), (0.75, "0.75"), (1.0, "1"))


def format_expected(expected: dict[str, float]) -> str:
    """Format ``precision 0.81, recall 0.76, F1 0.78``; a dash for undefined scores."""
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    return ", ".join(f"{word} {_figure(expected[name])}" for name, word in names.items())


def _figure(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def format_numbers(atoms: ImageAtoms, analysis: AtomAnalysis) -> str:
    """Format the number of atoms, of the model and by hand, and the scores of those of the model.

    A mark decides on its candidate, so that the scores leave it out.
    """
    n, by_hand = len(atoms.table), int((atoms.table["origin"] == PERSON).sum())
    text = f"<b>{pluralise(n, 'atom')}</b>"
    if n and n == by_hand:
        return f"{text}, all by hand"
    if by_hand:
        text = f"{text}: {by_hand} by hand, {n - by_hand} of the model"
    text = f"{text} at a probability of {analysis.threshold:.2f} or more"
    if not n:
        return text
    open_ = ~analysis.candidates["atom_id"].isin(list(atoms.marks))
    scores = replace(analysis, candidates=analysis.candidates[open_]).expected
    return f"{text}; expected {format_expected(scores)}"


def format_unreachable(analysis: AtomAnalysis, precision: float) -> str:
    """Say that no threshold has this expected precision, where it leaves no candidate; else ""."""
    best = float(analysis.candidates["confidence"].max())  # NaN without any
    if not best < min(precision, analysis.threshold):
        return ""
    return (
        f". No threshold of this image has an expected precision of {precision:.2f}: the most "
        f"probable candidate has {best:.3g}."
    )


def columns_of(confidence: np.ndarray, threshold: float) -> list[ChartColumn]:
    """Return the histogram of the candidates; columns below the threshold are faint."""
    edges = np.linspace(0, 1, BINS + 1)
    counts, _ = np.histogram(confidence, edges)
    return [
        ChartColumn(
            float(n),
            _COUNTED,
            tooltip=f"{pluralise(n, 'candidate')} with a probability of {low:.2f} to {high:.2f}",
            faint=bool((low + high) / 2 < threshold),
        )
        for n, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True)
    ]


class ThresholdPart(QWidget):
    """The threshold of the current image."""

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._book = binding.state.atoms
        self._image: str | None = None
        # Mouse events are more frequent than redraws: only the last one of a turn is applied.
        self._soon = single_shot(self.apply, 0, self)
        self._pause = single_shot(self._let_go, _PAUSE_MS, self)
        self._build()
        self._name_button()

    def _build(self) -> None:
        self.words = wrapped_label("Atoms at the threshold")
        self.words.setToolTip(
            "Expected agreement of the atoms of the model with manual marks, from the calibrated "
            "probabilities. Candidates that were marked by hand are left out of it."
        )
        self.histogram = ColumnChart(4.5)
        self.histogram.setAccessibleName("Candidates by probability")
        self.histogram.setToolTip(
            "Candidates by their probability of being marked as an atom by a person, on a "
            "square-root scale. Candidates above the line are counted."
        )
        self.slider = Slider()
        self.slider.setRange(0, STEPS)
        self.slider.setSingleStep(STEPS // 100)
        self.slider.setPageStep(STEPS // 20)
        self.slider.setAccessibleName("Threshold")
        self.slider.setToolTip(
            "Minimum probability of an atom, 0 to 1. Default: near the best expected F1. Detection "
            "does not run again; one movement is one undo step."
        )
        self.slider.valueChanged.connect(self._on_slid)
        self.slider.sliderReleased.connect(self._let_go)
        self.best_button = QPushButton("Best F1")
        self.best_button.setToolTip(
            "Default: the threshold with the best expected F1 of this image, shrunk towards the "
            f"best threshold of other images. {_ALL_CANDIDATES}"
        )
        self.best_button.clicked.connect(self._to_best)
        self.precision_button = QPushButton()
        self.precision_button.setToolTip(
            f"The lowest threshold of this image with this expected precision. {_ALL_CANDIDATES}"
        )
        self.precision_button.clicked.connect(self._to_precision)
        self.precision = spin_box(0.05, 1.0, PRECISION, 2, "")
        self.precision.setSingleStep(0.01)
        self.precision.setAccessibleName("Expected precision")
        self.precision.setToolTip(f"Expected precision, 0.05 to 1. Default: {PRECISION:g}.")
        remember("atoms/precision", self.precision)
        self.precision.valueChanged.connect(self._name_button)
        buttons = new_row(self.best_button, (self.precision_button, 1), self.precision)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in (self.words, self.histogram, self.slider):
            layout.addWidget(widget)
        layout.addLayout(buttons)

    def _name_button(self, *_: object) -> None:
        self.precision_button.setText(f"Precision at least {self.precision.value():.2f}")
        self.show_atoms(self._book.of(self._image))  # names a precision that is out of reach

    # ---- changes of the state
    def show_atoms(self, atoms: ImageAtoms | None) -> None:
        """Show the candidates of an image; hide the part without candidates."""
        analysis = None if atoms is None else atoms.analysis
        if atoms is None or analysis is None:
            self._image = None
            self.hide()
            return
        if self._image != atoms.image:
            self._soon.stop()  # a pending change belongs to the previous image
        self._image = atoms.image
        if not self.slider.isSliderDown() and not self._soon.isActive():
            with QSignalBlocker(self.slider):
                self.slider.setValue(min(round(STEPS * analysis.threshold), STEPS))
        self._draw(analysis)
        unreachable = format_unreachable(analysis, self.precision.value())
        self.words.setText(format_numbers(atoms, analysis) + unreachable)
        self.show()

    def _draw(self, analysis: AtomAnalysis) -> None:
        metric = QStyle.PixelMetric.PM_SliderLength
        self.histogram.inset_px = self.style().pixelMetric(metric, None, self.slider) / 2
        confidence = analysis.candidates["confidence"].to_numpy(float)
        line = min(analysis.threshold, 1.0)
        self.histogram.show_columns(columns_of(confidence, line), line, _TICKS)

    # ---- actions of the user
    def _on_slid(self, value: int) -> None:
        self._soon.start()
        if not self.slider.isSliderDown():
            self._pause.start()

    def apply(self) -> None:
        """Set the threshold of the slider."""
        self._soon.stop()
        threshold = self.slider.value() / STEPS
        self._set(lambda image: self._book.set_threshold(image, threshold))

    def _let_go(self) -> None:
        self._pause.stop()
        if self._soon.isActive():
            self.apply()
        self._book.end_sliding()

    def _set(self, change: Callable[[str], None]) -> None:
        image = self._image
        if image is not None and not self._binding.edits.attempt(lambda: change(image)):
            self.show_atoms(self._book.of(image))  # back to where it is

    def _to_best(self) -> None:
        self._set(lambda image: self._book.set_precision(image, None))

    def _to_precision(self) -> None:
        self._set(lambda image: self._book.set_precision(image, self.precision.value()))
