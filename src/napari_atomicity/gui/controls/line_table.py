"""Small read-only tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from ...core.palette import colour_of, symbol_of
from .drawing import faint, glyph_icon
from .forms import leave_letters
from .refresher import single_shot


class Lines(QAbstractTableModel):
    """Lines of text for a table view; those in `faint` are grey."""

    def __init__(self, headers: Sequence[str], tooltips: Sequence[str], parent: QWidget) -> None:
        super().__init__(parent)
        self.headers, self.tooltips = list(headers), list(tooltips)
        self.lines: list[tuple[str, ...]] = []
        self.faint: set[int] = set()
        self.icons: dict[str, Any] = {}

    def show(
        self,
        lines: Sequence[tuple[str, ...]],
        headers: Sequence[str] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.beginResetModel()
        self.lines, self.faint = list(lines), set()
        self.headers = self.headers if headers is None else list(headers)
        self.icons = {c: glyph_icon(symbol_of(c, classes), colour_of(c, classes)) for c in classes}
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self.lines)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self.headers)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # noqa: N802
        if orientation != Qt.Orientation.Horizontal or section >= len(self.headers):
            return None
        if role == Qt.ItemDataRole.ToolTipRole:
            return self.tooltips[section] if section < len(self.tooltips) else None
        return self.headers[section] if role == Qt.ItemDataRole.DisplayRole else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        words = self.lines[index.row()][index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return words
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"<p>{escape(words)}</p>"  # names are not markup
        if role == Qt.ItemDataRole.DecorationRole:
            return self.icons.get(words)
        if role == Qt.ItemDataRole.ForegroundRole and index.row() in self.faint:
            palette = self.parent().palette()
            roles = QPalette.ColorRole
            return faint(palette.color(roles.Text), palette.color(roles.Base))
        return None


def table_of(
    model: Lines,
    name: str,
    most_rows: int,  # height of the view in rows of one line; more rows scroll
    wraps: bool = False,
    view: QTableView | None = None,
) -> QTableView:
    """Return a read-only view of lines of text."""
    view = QTableView() if view is None else view
    view.setModel(model)
    view.setAccessibleName(name)
    view.verticalHeader().hide()
    view.setShowGrid(False)
    view.setWordWrap(wraps)
    view.setTabKeyNavigation(False)  # else Tab never leaves the table
    view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    leave_letters(view)
    header = view.horizontalHeader()
    header.setHighlightSections(False)
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setResizeContentsPrecision(
        50
    )  # number of rows that are measured: there may be thousands
    header.setStretchLastSection(True)
    view.setIconSize(QSize(view.fontMetrics().ascent(), view.fontMetrics().ascent()))
    view.setMinimumWidth(80)
    row = view.fontMetrics().height() + 6
    view.verticalHeader().setDefaultSectionSize(row)
    bar = view.horizontalScrollBar().sizeHint().height()
    if wraps:
        _fit_wrapped_rows(view, most_rows)
        return view
    model.modelReset.connect(
        lambda: view.setFixedHeight(
            header.sizeHint().height() + row * min(model.rowCount(), most_rows) + bar + 4
        )
    )
    return view


def _fit_wrapped_rows(view: QTableView, most_rows: int) -> None:
    """Keep rows high enough for the wrapped texts, and the view for all rows or the most."""
    header, rows = view.horizontalHeader(), view.verticalHeader()
    header.setMinimumSectionSize(9 * view.fontMetrics().averageCharWidth())
    rows.setMinimumSectionSize(rows.defaultSectionSize())
    bar = view.horizontalScrollBar().sizeHint().height()

    def fit() -> None:
        view.resizeRowsToContents()
        high = min(rows.length(), most_rows * rows.defaultSectionSize())
        view.setFixedHeight(header.sizeHint().height() + high + bar + 4)

    # Once after all columns have their widths.
    later = single_shot(fit, owner=view)
    view.model().modelReset.connect(later.start)
    view.model().layoutChanged.connect(lambda *_: later.start())
    header.sectionResized.connect(lambda *_: later.start())
