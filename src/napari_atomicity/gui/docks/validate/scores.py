"""The table of the scores of all methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import QModelIndex, Qt
from qtpy.QtWidgets import QTableView, QWidget

from ....validation.text import format_number, format_score
from ...controls.line_table import Lines, table_of

MAX_ROWS = 12
_TITLES = {"accuracy": "Accuracy", "ratio_r2": "Ratio R²"}
_HELP = {
    "accuracy": "Fraction of the clusters of known class whose most probable class is right.",
    "ratio_r2": "R² of the class fractions of all samples.",
}
_MEANS = "Mean over parts and seeds; ± is the standard deviation, brackets are 95 % intervals."


class ScoreLines(Lines):
    """A line for each method: its name, and its scores on each group of images."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(["Method"], [], parent)
        self.methods: list[tuple[str, list[Mapping[str, Any]]]] = []

    def show_result(self, result: Mapping[str, Any]) -> None:
        """Show the scores of ``validation.json``."""
        methods = list(result["methods"].values())
        columns = [
            (score, group)
            for score in _TITLES
            for group in result["groups"]
            if any(_score_of(m, group, score)["mean"] is not None for m in methods)
        ]
        self.methods = [(m["title"], [_score_of(m, g, s) for s, g in columns]) for m in methods]
        self.tooltips = ["", *(f"{_HELP[s]} {g.capitalize()} images. {_MEANS}" for s, g in columns)]
        headers = ["Method", *(f"{_TITLES[s]}\n{g}" for s, g in columns)]
        self._show(self.methods, headers)

    def _show(
        self,
        methods: Sequence[tuple[str, list[Mapping[str, Any]]]],
        headers: Sequence[str] | None = None,
    ) -> None:
        self._shown = methods
        lines = [(title, *(format_number(s["mean"]) for s in scores)) for title, scores in methods]
        self.show(lines, headers)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by name or by a score, methods without it last; -1: as they were compared."""
        methods, down = self.methods, order == Qt.SortOrder.DescendingOrder
        if column == 0:
            methods = sorted(methods, key=lambda m: m[0], reverse=down)
        elif column > 0:
            known = [m for m in methods if m[1][column - 1]["mean"] is not None]
            known.sort(key=lambda m: m[1][column - 1]["mean"], reverse=down)
            methods = known + [m for m in methods if m[1][column - 1]["mean"] is None]
        self._show(methods)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if index.column() > 0:
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            if role == Qt.ItemDataRole.ToolTipRole:
                return format_score(self._shown[index.row()][1][index.column() - 1])
        return super().data(index, role)


def score_view(model: ScoreLines) -> QTableView:
    """Return a view of the scores whose columns sort it."""
    view = table_of(model, "Scores of the methods", MAX_ROWS)
    view.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
    view.setSortingEnabled(True)
    return view


def _score_of(method: Mapping[str, Any], group: str, score: str) -> Mapping[str, Any]:
    empty = dict.fromkeys(("mean", "sd", "low", "high"))
    found: Mapping[str, Any] = method["groups"].get(group, {}).get(score, empty)
    return found
