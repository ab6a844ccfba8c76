"""Class ratios as text and as rows of a table, and beside reference ratios."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QLineEdit, QPushButton, QWidget

from ....core.errors import TableError
from ....core.palette import colour_of, symbol_of
from ....core.tables.cluster_table import ALL
from ....core.text import capital, pluralise
from ....io.reference_ratios import EXAMPLE
from ....io.tables import read_reference
from ....reporting.image_warnings import LOW_CONFIDENCE
from ....reporting.plots.ratios import PARITY
from ....statistics.ratios.ratios import count_excluded, counted
from ....statistics.ratios.reference import Comparison, check_reference, reference_for
from ....statistics.ratios.track_counts import (
    PATH,
    merge_tracks,
    stacks_without_tracks,
)
from ...controls.bars import interval, per_cent
from ...controls.drawing import glyph_icon
from ...controls.forms import fill_column, new_row, wrapped_label
from ...controls.refresher import follow
from ...panels.dock import Panel
from ...panels.table_files import TABLE_TYPES
from ...scatter.view import PlotView
from ...viewer.binding import Binding


def verdict(comparison: Comparison) -> str:
    """Format the statistics of a comparison as one line."""
    if comparison.mean_absolute_error is None:
        return "There are no fractions to compare with the reference."  # or they are withheld
    known = comparison.r2 is not None
    r2 = f"R² {comparison.r2:.3f}" if known else f"No R² ({comparison.why_no_r2})"
    n, covered = int(comparison.has_interval.sum()), int(comparison.covered.sum())
    error = per_cent(comparison.mean_absolute_error)
    inside = f"{covered} of {n} in their intervals" if n else "no intervals"
    return f"{r2}; mean absolute error {error}; {inside}."


def summary(table: pd.DataFrame) -> str:
    """Format how many clusters were counted, and which were left out."""
    if not len(table):
        return "No clusters yet."
    repeated = bool(stacks_without_tracks(table))
    merged = merge_tracks(table)
    left_out = [f"{n} {reason}" for reason, n in count_excluded(table, merged).items()]
    noun = "track" if PATH in merged.columns and merged[PATH].notna().all() else "cluster"
    counts = counted(merged)
    level = "some in several frames, no intervals" if repeated else "95 % intervals"
    text = f"{pluralise(int(counts.sum()), noun)} counted, {level}"
    by_model = (merged["label_corrected"] == "") & (merged["confidence"] < LOW_CONFIDENCE)
    unsure = int((counts & by_model).sum())
    if unsure:
        text += f", {unsure} below a confidence of {LOW_CONFIDENCE}"
    return text + (f"; not counted: {', '.join(left_out)}" if left_out else "") + "."


class RatioModel(QAbstractTableModel):
    """The rows of one scope for a table view."""

    HEADERS = ("Class", "Count", "Fraction", "Interval")
    TOOLTIPS = (
        "Label from the model or from a manual correction.",
        "Number of whole clusters of the class.",
        "Fraction of the counted clusters.",
        "95 % interval of the fraction, in per cent.",
    )

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ratios = pd.DataFrame()
        self._classes: list[str] = []

    def show(self, ratios: pd.DataFrame, classes: Sequence[str]) -> None:
        self.beginResetModel()
        self._ratios, self._classes = ratios.reset_index(drop=True), list(classes)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self._ratios)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self.HEADERS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # noqa: N802
        if orientation != Qt.Orientation.Horizontal:
            return None
        words = {
            Qt.ItemDataRole.DisplayRole: self.HEADERS,
            Qt.ItemDataRole.ToolTipRole: self.TOOLTIPS,
        }.get(role)
        return None if words is None else words[section]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self._ratios.iloc[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return (
                row["class"],
                str(row["count"]),
                per_cent(row["fraction"]),
                interval(row["fraction_low"], row["fraction_high"]),
            )[column]
        if role == Qt.ItemDataRole.DecorationRole and column == 0:
            name = row["class"]
            return glyph_icon(symbol_of(name, self._classes), colour_of(name, self._classes))
        if role == Qt.ItemDataRole.TextAlignmentRole and column:
            return int(Qt.AlignmentFlag.AlignRight.value | Qt.AlignmentFlag.AlignVCenter.value)
        if role == Qt.ItemDataRole.ToolTipRole:
            return str(row["method"])
        return None


class ReferencePart(Panel):
    """Known ratios, typed or loaded, and their comparison with those that were found.

    Signals: ``reference_changed()`` when others are typed or loaded.
    """

    reference_changed = Signal()

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        self.comparison: Comparison | None = None
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
        fill_column(
            self, new_row(label, (self.line, 1), self.load_button), self.verdict, self.parity
        )
        self.show_comparison(None)
        self._show_line()
        follow(self, self.state.project_changed, self._show_line)
        follow(self, self.binding.reference.restored, self._on_restored)

    @property
    def typed(self) -> pd.DataFrame | None:
        """The typed reference."""
        return self.binding.reference.typed

    @property
    def loaded(self) -> pd.DataFrame | None:
        """The reference of a file."""
        return self.binding.reference.loaded

    def _show_line(self) -> None:
        """Show the reference of the images that are open now."""
        if self.line.text().strip() != self.binding.reference.line:
            self.line.setText(self.binding.reference.line)
            self.show_comparison(None)

    def _on_restored(self) -> None:
        self._show_line()
        self.reference_changed.emit()

    def refusal(self) -> str:
        """Return why the reference can't be used with the present classes; "" if it can."""
        state = self.state
        analysed = [image for image in state.images if state.analysis(image) is not None]
        reference, images = self.loaded, analysed or state.images
        if reference is None:
            reference, images = self.typed, []
        if reference is None:
            return ""
        try:
            check_reference(reference, images, state.classes() or list(reference["class"]))
        except TableError as error:
            return str(error)
        return ""

    def give_to_report(self, scope: str | None) -> None:
        """Give a report the reference if it fits, and is not that of a single shown image."""
        typed, fits = self.typed if scope == ALL else None, not self.refusal()
        for_all = (typed if self.loaded is None else self.loaded) if fits else None
        self.binding.reference.give_to_report(for_all, fits and self.typed is not typed)

    def known(self, scope: str | None) -> dict[str, float]:
        """Return class → reference ratio of a scope of the table of ratios."""
        if self.typed is not None:
            return {} if self.refusal() else reference_for(self.typed, ALL)
        if self.loaded is not None and scope is not None:
            return reference_for(self.loaded, scope)
        return {}

    def _read_line(self) -> None:
        """Read the typed reference, unless the line shows the name of a loaded file."""
        line = self.line.text().strip()
        self.line.setCursorPosition(0)
        if self.loaded is not None and line == self.binding.reference.line:
            return
        error = ""
        try:
            self.binding.reference.enter(line)
        except TableError as refused:
            error = str(refused)
        self.show_comparison(None, error)
        self.reference_changed.emit()

    def load(self) -> None:
        """Load known ratios from a chosen file and compare."""
        chosen, _ = QFileDialog.getOpenFileName(self, "Reference ratios", "", TABLE_TYPES)
        loaded = self.attempt(lambda: read_reference(chosen)) if chosen else None
        if loaded is None:
            return
        self.binding.reference.load(Path(chosen).name, loaded)
        self._show_line()
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
