"""The cluster table as a Qt model: the arrays of the window state, an order, and cell texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

from ...core import palette
from ...core.tables import cluster_table as tables
from ...core.tables.cluster_table import shown_values
from ...core.tables.filtering import FilterError, matching_rows as rows_of_line
from ...io.clipboard import DECIMALS
from ...state.window_state import WindowState
from ..controls.cluster_rows import SelectableRows, kept_order, label_order
from ..controls.drawing import glyph_icon

_FIRST = ("image", "cluster_id", "label", "confidence", "n_atoms")
USUAL = (
    *_FIRST,
    *(c.name for c in tables.documented_columns() if c.in_table and c.name not in _FIRST),
    "sample",
)
"""Columns that are shown by default."""

LABELS = ("label", "label_predicted", "label_corrected")
_RIGHT = int(Qt.AlignmentFlag.AlignRight.value | Qt.AlignmentFlag.AlignVCenter.value)


# ---- without Qt
def describe_column(name: str) -> str:
    """Return the description of a column with its unit, "" if the schema does not have it."""
    column = tables.column_of(name)
    return "" if column is None else column.help


def sorted_rows(
    table: pd.DataFrame, column: str, descending: bool, classes: Sequence[str]
) -> np.ndarray:
    """Return all rows in the order of a column.

    The sort is stable and missing values are last. Labels are in the order of the classes, other
    text in natural alphabetical order.
    """
    values = _ranks(shown_values(table, column), classes if column in LABELS else None)
    return np.argsort(-values if descending else values, kind="stable")


def matching_rows(table: pd.DataFrame, line: str) -> np.ndarray:
    """Return which rows match a filter expression, by the values that are shown.

    Raises `FilterError` if the expression is not valid.
    """
    if "confidence" in line.lower():
        table = table.assign(confidence=shown_values(table, "confidence"))
    return rows_of_line(table, line)


def _ranks(values: pd.Series, classes: Sequence[str] | None) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return values.to_numpy(float)
    codes, found = pd.factorize(values)
    if classes is not None:
        names = label_order(classes, found)
    else:
        names = sorted((str(name) for name in found), key=_natural)
    rank = {name: float(i) for i, name in enumerate(names)} | {"": np.nan}
    return np.array([rank[str(name)] for name in found], float)[codes]


def _natural(text: str) -> list[tuple[int, int, str]]:
    """``field_2`` before ``field_10``."""
    parts = re.split(r"(\d+)", text.lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def format_cell(value: Any, column: str) -> str:
    """Format a value for a cell of the table; "" for a missing value."""
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return ""
        if column in DECIMALS:
            return f"{value:.{DECIMALS[column]}f}"
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return str(value)


class ClusterModel(QAbstractTableModel):
    """Rows of the table of a window, sorted and filtered."""

    def __init__(self, state: WindowState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.forget()

    def forget(self) -> None:
        """Release all data of the window; the sort order and the filter stay."""
        self.beginResetModel()
        self.rows = SelectableRows()
        self.order = np.zeros(0, int)
        self.columns: list[str] = list(self.rows.table.columns)
        self._hold()
        self.classes: list[str] = []
        self.sorted_by: tuple[str, bool] | None = getattr(self, "sorted_by", None)
        self.line: str = getattr(self, "line", "")
        self.filter_problem = ""
        self.endResetModel()

    def _hold(self) -> None:
        """Keep the arrays of the columns: cells are looked up and not copied."""
        table = self.rows.table
        self._arrays = [shown_values(table, c).to_numpy() for c in table.columns]
        self._corrected = table["label_corrected"].to_numpy()

    # ---- updates
    def refresh(self) -> bool:
        """Update from the table of the window; remaining rows keep their positions."""
        n_before, columns = len(self.rows), self.columns
        was = self.rows.take(self._with_samples(self.state.table()), self.state.selection)
        table = self.rows.table
        self.classes = self.state.classes()
        self.columns = [str(c) for c in table.columns]
        n_kept = int((was >= 0).sum())
        if n_kept == n_before == len(table) and columns == self.columns:
            self._hold()
            if len(self.order):
                last = self.index(len(self.order) - 1, len(self.columns) - 1)
                self.dataChanged.emit(self.index(0, 0), last)
            return False
        self.beginResetModel()
        self._hold()
        now = np.full(n_before, -1)
        now[was[was >= 0]] = np.flatnonzero(was >= 0)
        stay = now[self.order]
        had_problem, fresh = bool(self.filter_problem), self._fresh()
        is_other = had_problem or self.filter_problem  # a column of the filter has gone or is back
        self.order = fresh if is_other else kept_order(fresh, stay[stay >= 0], was < 0)
        self.endResetModel()
        return True

    def _with_samples(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the table with the sample of each row, if there are several.

        Not in blind mode: the name of a sample may tell the label.
        """
        samples = self.state.sessions.samples()
        if len(samples) < 2 or self.state.blind:
            return table
        names = {image: sample.name for sample in samples for image in sample.images}
        codes, images = pd.factorize(table["image"])
        return table.assign(sample=np.array([names[image] for image in images], object)[codes])

    def arrange(self) -> None:
        """Apply the current sort order and filter."""
        self.layoutAboutToBeChanged.emit()
        self.order = self._fresh()
        self.layoutChanged.emit()

    def _fresh(self) -> np.ndarray:
        table = self.rows.table
        if self.sorted_by is None or self.sorted_by[0] not in table.columns:
            order = np.arange(len(table))
        else:
            order = sorted_rows(table, *self.sorted_by, self.classes)
        try:
            matching = matching_rows(table, self.line)
        except FilterError as error:  # as of a column that is no longer there
            self.filter_problem, matching = str(error), np.ones(len(table), bool)
        else:
            self.filter_problem = ""
        return order[matching[order]]

    def out_of_date(self) -> bool:
        """Return whether sorting and filtering again would change the displayed rows."""
        return not np.array_equal(self._fresh(), self.order)

    # ---- interface of QAbstractTableModel
    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self.order)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # noqa: N802
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(self.columns):
            return None
        name = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return name
        if role == Qt.ItemDataRole.ToolTipRole:
            text = describe_column(name)
            return f"{name}: {text}" if text else name
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = index.row(), index.column()
        if not 0 <= row < len(self.order) or not 0 <= column < len(self.columns):
            return None
        name = self.columns[column]
        if role == Qt.ItemDataRole.DisplayRole:
            at = self.order[row]
            # The same mark as in the image.
            star = name == "label" and self._corrected[at] != ""
            return format_cell(self._arrays[column][at], name) + "*" * bool(star)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return None if self._arrays[column].dtype == object else _RIGHT
        if role == Qt.ItemDataRole.DecorationRole and name in LABELS:
            label = str(self._arrays[column][self.order[row]])
            if label:
                symbol = palette.symbol_of(label, self.classes)
                return glyph_icon(symbol, palette.colour_of(label, self.classes))
        if role == Qt.ItemDataRole.ToolTipRole:
            value = self._arrays[column][self.order[row]]
            return f"{name} = {value}" if value == value else f"{name}: unknown"
        return None
