"""Class ratios as text and as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtWidgets import QWidget

from ....core.palette import colour_of, symbol_of
from ....core.tables.cluster_table import AGGREGATE, UNKNOWN
from ....core.text import pluralise
from ....reporting.image_warnings import LOW_CONFIDENCE
from ....statistics.ratios.ratios import counted
from ....statistics.ratios.reference import Comparison
from ....statistics.ratios.track_counts import (
    PATH,
    merge_tracks,
    stacks_without_tracks,
    untracked_in_movies,
)
from ...controls.drawing import glyph_icon
from ...panels.ratio_bars import interval, per_cent


def verdict(comparison: Comparison) -> str:
    """Format the statistics of a comparison as one line."""
    if comparison.mean_absolute_error is None:
        return "There are no fractions to compare with the reference."  # or they are withheld
    known = comparison.r2 is not None
    r2 = f"R² {comparison.r2:.3f}" if known else f"No R² ({comparison.why_no_r2})"
    n, covered = len(comparison.pairs), int(comparison.covered.sum())
    error = per_cent(comparison.mean_absolute_error)
    return f"{r2}; mean absolute error {error}; {covered} of {n} in their intervals."


def summary(table: pd.DataFrame) -> str:
    """Format how many clusters were counted, and which were left out."""
    if not len(table):
        return "No clusters yet."
    repeated, untracked = bool(stacks_without_tracks(table)), untracked_in_movies(table)
    table = merge_tracks(table)
    noun = "track" if PATH in table.columns and table[PATH].notna().all() else "cluster"
    border = int(table["touches_border"].sum())
    whole = table[~table["touches_border"].astype(bool)]
    excluded = 0
    if "excluded" in whole.columns:
        excluded = int(whole["excluded"].sum())
        whole = whole[~whole["excluded"].astype(bool)]
    unknown, aggregates, unlabelled = (
        int((whole["label"] == name).sum()) for name in (UNKNOWN, AGGREGATE, "")
    )
    left_out = [
        f"{n} {reason}"
        for n, reason in (
            (border, "cut by the border"),
            (excluded, "in excluded regions"),
            (unknown, "unknown"),
            (aggregates, "aggregate" + "s" * (aggregates != 1)),
            (unlabelled, "without a label"),
            (untracked, "in no track"),
        )
        if n
    ]
    n = int(counted(table).sum())
    level = "each in several frames, no intervals" if repeated else "95 % intervals"
    text = f"{pluralise(n, noun)} counted, {level}"
    unsure = int((counted(table) & (table["confidence"] < LOW_CONFIDENCE)).sum())
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
