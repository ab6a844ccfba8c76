"""The section *Reference* of the dock Ratios: known ratios, and how the found ones agree."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QLineEdit, QPushButton, QVBoxLayout

from ....core.errors import TableError
from ....core.tables.cluster_table import ALL
from ....core.text import capital
from ....io.reference_ratios import EXAMPLE, parse_reference
from ....io.tables import read_reference
from ....reporting.plots.parity import PARITY
from ....statistics.ratios.reference import Comparison, check_reference, reference_for
from ...controls.forms import new_row, wrapped_label
from ...panels.dock import Panel
from ...panels.table_files import TABLE_TYPES
from ...scatter.view import PlotView
from ...viewer.binding import Binding
from .table import verdict


class ReferencePart(Panel):
    """Known ratios, typed or loaded, and their comparison with those that were found.

    Signals: ``reference_changed()`` when others are typed or loaded.
    """

    reference_changed = Signal()

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        self.comparison: Comparison | None = None
        self.typed: pd.DataFrame | None = None
        self.loaded: pd.DataFrame | None = None
        self.line = QLineEdit()
        self.line.setPlaceholderText(EXAMPLE)
        self.line.setClearButtonEnabled(True)
        self.line.setAccessibleName("Reference")
        self.line.setToolTip(
            f"Known ratios of this image or of all images, such as {EXAMPLE}, in parts, per cent "
            "or fractions; other classes are absent. Default: no reference."
        )
        self.line.editingFinished.connect(self._read_line)
        self.load_button = QPushButton("Load…")
        self.load_button.setToolTip(
            "Load known ratios from a table with the columns class, fraction and scope: an image, "
            "a pattern of images such as sample_1_*, or all."
        )
        self.load_button.clicked.connect(self.load)
        label = QLabel("Reference")
        label.setBuddy(self.line)
        self.verdict = wrapped_label("Comparison with the reference", lines=2)
        self.parity = PlotView(lines=14)
        self.parity.setAccessibleName("Measured against reference fractions")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(new_row(label, (self.line, 1), self.load_button))
        layout.addWidget(self.verdict)
        layout.addWidget(self.parity)
        self.show_comparison(None)

    def known(self, scope: str | None) -> dict[str, float]:
        """Return class → reference ratio of a scope of the table of ratios."""
        if self.typed is not None:
            return reference_for(self.typed, ALL)
        if self.loaded is not None and scope is not None:
            return reference_for(self.loaded, scope)
        return {}

    def _read_line(self) -> None:
        """Read the typed reference, unless the line shows the name of a loaded file."""
        line = self.line.text().strip()
        self.line.setCursorPosition(0)
        if self.loaded is not None and line == self.line.property("file"):
            return
        self.typed = self.loaded = None
        error = ""
        if line:
            try:
                typed = parse_reference(line)
                check_reference(typed, [], self.state.classes() or list(typed["class"]))
            except TableError as refused:
                error = str(refused)
            else:
                self.typed = typed
        self.show_comparison(None, error)
        self.reference_changed.emit()

    def load(self) -> None:
        """Load known ratios from a chosen file and compare."""
        chosen, _ = QFileDialog.getOpenFileName(self, "Reference ratios", "", TABLE_TYPES)
        loaded = self.attempt(lambda: read_reference(chosen)) if chosen else None
        if loaded is None:
            return
        self.typed, self.loaded = None, loaded
        name = Path(chosen).name
        self.line.setProperty("file", name)
        self.line.setText(name)
        self.reference_changed.emit()

    def show_comparison(self, comparison: Comparison | None, message: str = "") -> None:
        """Show a comparison, or a message instead."""
        self.comparison = comparison
        self.verdict.setText(verdict(comparison) if comparison is not None else capital(message))
        self.verdict.setVisible(bool(self.verdict.text()))
        pairs = pd.DataFrame() if comparison is None else comparison.pairs
        self.parity.setVisible(len(pairs) > 0)
        if len(pairs):
            self.parity.show_plot(PARITY, pairs, self.state.classes())
