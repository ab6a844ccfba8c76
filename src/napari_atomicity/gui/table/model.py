"""Qt model of the cluster table: arrays of the state, order, and text of cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

from ...core import cluster_table as tables
from ...core import palette
from ...core.filtering import rows as rows_of_line
from ...state.window_state import WindowState
from ..controls.cluster_rows import SelectableRows, kept_order, label_order
from ..controls.glyphs import glyph_icon

USUAL = (
    "image",
    "cluster_id",
    "label",
    "confidence",
    "n_atoms",
    "diameter_nm",
    "integrated_intensity",
    "prediction_set",
    "ood_score",
)
"""Columns that are shown by default."""

_LABELS = ("label", "label_predicted", "label_corrected")
_DECIMALS = {"y_px": 1, "x_px": 1, "y_nm": 2, "x_nm": 2, "n_atoms": 1}
_RIGHT = int(Qt.AlignmentFlag.AlignRight.value | Qt.AlignmentFlag.AlignVCenter.value)


# ---- without Qt
@lru_cache(maxsize=1)
def meanings() -> dict[str, str]:
    """Map each column to its meaning and unit, from `napari_atomicity.core.cluster_table`."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in (tables.__doc__ or "").splitlines():
        described = re.match(r"(\w[\w<>, ]*?)\s{2,}(\S.*)$", line)
        if described and described[1] != "column":
            names = described[1].split(", ")
            found |= {name: [described[2]] for name in names}
        elif names and re.match(r"\s{10,}\S", line):
            for name in names:
                found[name].append(line.strip())
        else:
            names = []
    words = {name: " ".join(lines) for name, lines in found.items()}
    before = ""
    for name, text in words.items():
        if text.startswith("the same in "):
            words[name] = f"{before.partition(' in ')[0]}{text.removeprefix('the same')}"
        else:
            before = text
    return words


def meaning(column: str) -> str:
    """Return the meaning of a column; "" for an unknown column."""
    kind = "p_<class>" if column.startswith("p_") else column
    words = meanings().get(kind, "")
    if column.endswith("_nm") and " nm" not in words:
        words += ", in nm"
    return words.replace("each class", column[2:]) if kind == "p_<class>" else words


def sorted_rows(
    table: pd.DataFrame, column: str, descending: bool, classes: Sequence[str]
) -> np.ndarray:
    """Sort rows by a column, stable, with missing values last.

    Labels go in the order of the classes, other text by the alphabet.
    """
    values = _ranks(table[column], classes if column in _LABELS else None)
    return np.argsort(-values if descending else values, kind="stable")


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


def in_a_cell(value: Any, column: str) -> str:
    """Format a value for a cell; "" for a missing value."""
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return ""
        if column in _DECIMALS:
            return f"{value:.{_DECIMALS[column]}f}"
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return str(value)


class ClusterModel(QAbstractTableModel):
    """Rows of the cluster table, sorted and filtered.

    Attributes
    ----------
    rows : SelectableRows
        The table and the selection of the window.
    order : ndarray of int, shape (n_shown,)
        Rows that are shown.
    """

    def __init__(self, state: WindowState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.forget()

    def forget(self) -> None:
        """Release all data of the state; order and filter are kept."""
        self.beginResetModel()
        self.rows = SelectableRows()
        self.order = np.zeros(0, int)
        self.columns: list[str] = list(self.rows.table.columns)
        self._hold()
        self.classes: list[str] = []
        self.sorted_by: tuple[str, bool] | None = getattr(self, "sorted_by", None)
        self.line: str = getattr(self, "line", "")
        self.endResetModel()

    def _hold(self) -> None:
        """Keep the arrays of the columns, without copies."""
        table = self.rows.table
        self._arrays = [table[c].to_numpy() for c in table.columns]
        self._corrected = table["label_corrected"].to_numpy()

    # ---- changes of the state
    def refresh(self) -> bool:
        """Update the table; return whether rows or columns have changed.

        Remaining rows keep their positions.
        """
        n_before, columns = len(self.rows), self.columns
        was = self.rows.take(self.state.table(), self.state.selection)
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
        self.order = kept_order(self._fresh(), stay[stay >= 0], was < 0)
        self.endResetModel()
        return True

    def arrange(self) -> None:
        """Sort and filter the rows."""
        self.layoutAboutToBeChanged.emit()
        self.order = self._fresh()
        self.layoutChanged.emit()

    def _fresh(self) -> np.ndarray:
        table = self.rows.table
        if self.sorted_by is None or self.sorted_by[0] not in table.columns:
            order = np.arange(len(table))
        else:
            order = sorted_rows(table, *self.sorted_by, self.classes)
        return order[rows_of_line(table, self.line)[order]]

    def out_of_date(self) -> bool:
        """Return whether sorting would move rows."""
        return not np.array_equal(self._fresh(), self.order)

    # ---- Qt model
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
            words = meaning(name)
            return f"{name}: {words}" if words else name
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = index.row(), index.column()
        if not 0 <= row < len(self.order) or not 0 <= column < len(self.columns):
            return None
        name = self.columns[column]
        if role == Qt.ItemDataRole.DisplayRole:
            at = self.order[row]
            # As beside the cluster in the image.
            star = name == "label" and self._corrected[at] != ""
            return in_a_cell(self._arrays[column][at], name) + "*" * bool(star)
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return None if self._arrays[column].dtype == object else _RIGHT
        if role == Qt.ItemDataRole.DecorationRole and name in _LABELS:
            label = str(self._arrays[column][self.order[row]])
            if label:
                symbol = palette.symbol_of(label, self.classes)
                return glyph_icon(symbol, palette.colour_of(label, self.classes))
        if role == Qt.ItemDataRole.ToolTipRole:
            value = self._arrays[column][self.order[row]]
            return f"{name} = {value}" if value == value else f"{name}: unknown"
        return None
