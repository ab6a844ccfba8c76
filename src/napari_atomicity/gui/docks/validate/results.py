"""The results of a validation or of a learning curve: what they say, their files, and a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QModelIndex, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QResizeEvent
from qtpy.QtWidgets import QHeaderView, QPushButton, QTableView, QWidget

from ....core.progress import format_duration
from ....core.text import pluralise
from ....validation.request import REPORT, quick_note
from ....validation.scores import format_number, format_score
from ...controls.forms import STRETCH, new_form, new_row, selectable_label
from ...controls.line_table import Lines, table_of

# ---- the table of the scores of all methods

MAX_ROWS = 18
"""Height of the table; so a low window shows its horizontal scroll bar."""
METHOD_CHARACTERS = 18
"""Width of the column of methods; longer names take two lines."""
PADDING_PX = 8
_TITLES = {"accuracy": "Accuracy", "ratio_r2": "Ratio R²"}
_GROUPS = {"size-selected": "selected"}
"""Short names of groups of images."""
_HELP = {
    "accuracy": "Fraction of the clusters of known class whose most probable class is right.",
    "ratio_r2": "R² of the class fractions of all samples.",
}
_MEANS = (
    "Mean over parts and seeds, or over repeats; ± is the standard deviation, brackets are 95 % "
    "intervals."
)


class ScoreLines(Lines):
    """A line for each method: its name, and its scores on each group of images."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(["Method"], [], parent)
        self.methods: list[tuple[str, list[Mapping[str, Any]]]] = []
        self.rows: list[int] = []

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
        headers = ["Method", *(f"{_TITLES[s]}\n{_GROUPS.get(g, g)}" for s, g in columns)]
        self.rows = list(range(len(self.methods)))
        self.show([_line(*method) for method in self.methods], headers)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by name or by a score, methods without it last; -1: as they were compared."""
        rows, down = list(range(len(self.methods))), order == Qt.SortOrder.DescendingOrder
        if column == 0:
            rows.sort(key=lambda row: self.methods[row][0], reverse=down)
        elif column > 0:
            values = [scores[column - 1]["mean"] for _, scores in self.methods]
            known = [row for row in rows if values[row] is not None]
            known.sort(key=lambda row: values[row], reverse=down)
            rows = known + [row for row in rows if values[row] is None]
        self._arrange(rows)

    def _arrange(self, rows: list[int]) -> None:
        """Show methods in this order; selected ones stay selected."""
        self.layoutAboutToBeChanged.emit()
        indexes = self.persistentIndexList()
        moved = [self.index(rows.index(self.rows[i.row()]), i.column()) for i in indexes]
        self.rows, self.lines = rows, [_line(*self.methods[row]) for row in rows]
        self.changePersistentIndexList(indexes, moved)
        self.layoutChanged.emit()

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if index.column() > 0:
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            if role == Qt.ItemDataRole.ToolTipRole:
                return format_score(self.methods[self.rows[index.row()]][1][index.column() - 1])
        return super().data(index, role)


class ScoreTable(QTableView):
    """A view of the scores whose columns sort it; the first column takes the room that is left."""

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self.fit_columns()

    def fit_columns(self) -> None:
        """Fit the columns of scores to their titles, and that of methods to the view."""
        header, model = self.horizontalHeader(), self.model()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for column in range(1, model.columnCount()):
            header.resizeSection(column, _width(model.headers[column], header) + PADDING_PX)
        least = METHOD_CHARACTERS * self.fontMetrics().averageCharWidth()
        of_scores = header.length() - header.sectionSize(0)
        header.resizeSection(0, max(least, self.viewport().width() - of_scores))


def score_view(model: ScoreLines) -> ScoreTable:
    """Return a view of the scores."""
    view = ScoreTable()
    table_of(model, "Scores of the methods", MAX_ROWS, wraps=True, view=view)
    view.setShowGrid(True)  # some names take two lines
    header = view.horizontalHeader()
    header.setStretchLastSection(False)
    header.setSortIndicator(-1, Qt.SortOrder.DescendingOrder)
    view.setSortingEnabled(True)
    model.modelReset.connect(view.fit_columns)
    return view


def _width(title: str, widget: QWidget) -> int:
    return max(widget.fontMetrics().horizontalAdvance(line) for line in title.split("\n"))


def _score_of(method: Mapping[str, Any], group: str, score: str) -> Mapping[str, Any]:
    empty = dict.fromkeys(("mean", "sd", "low", "high"))
    found: Mapping[str, Any] = method["groups"].get(group, {}).get(score, empty)
    return found


def _line(title: str, scores: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return (title, *(format_number(score["mean"]) for score in scores))


class ResultPanel(QWidget):
    """Summary, buttons for report and folder, and the table of scores."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.path: Path | None = None
        self.scores = ScoreLines(self)
        self.table = score_view(self.scores)
        self.summary = selectable_label(f"Summary of the {name}", plain=True)
        self.report_button = QPushButton("Open report")
        self.report_button.setToolTip(
            "Open the report with figures and all scores in the web browser."
        )
        self.report_button.clicked.connect(self._open_report)
        self.folder_button = QPushButton("Open folder")
        self.folder_button.setToolTip("Open the folder with report, figures and tables.")
        self.folder_button.clicked.connect(self._open_folder)
        buttons = new_row(self.report_button, self.folder_button, STRETCH)
        form = new_form()
        self.setLayout(form)
        form.addRow(self.summary)
        form.addRow(buttons)
        form.addRow(self.table)

    def show_result(self, scores: Mapping[str, Any], summary: str, path: Path | None) -> None:
        """Show scores in the form of ``validation.json``, and a text; the files are in a folder."""
        self.path = path
        self.scores.show_result(scores)
        self.table.sortByColumn(-1, Qt.SortOrder.DescendingOrder)
        self.summary.setText(summary)

    def _open_report(self) -> None:
        if self.path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.path / REPORT)))

    def _open_folder(self) -> None:
        if self.path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.path)))


def quick_warning(result: Mapping[str, Any]) -> list[str]:
    """Return the warning of a result of a quick test, if it is one."""
    note = quick_note(result)
    return [f"⚠ {note}"] if note else []


def summarise_result(result: Mapping[str, Any]) -> str:
    """Describe data, effort and methods that were left out."""
    images = sum(group["images"] for group in result["groups"].values())
    seconds = result["seconds"]["total"]
    words = (
        f"{pluralise(len(result['methods']), 'method')} on {pluralise(images, 'image')}, "
        f"{result['folds']} parts, {pluralise(len(result['seeds']), 'seed')}: "
        f"{format_duration(seconds)} of computation."
    )
    return " ".join([*quick_warning(result), words, *result["left_out"]])


def scores_of_curve(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the points of ``learning_curve.json`` in the form of the methods of a validation."""
    methods = {}
    for name, method in result["methods"].items():
        for point in method["points"]:
            n = point["images_per_class"]
            trained = f"{pluralise(n, 'image')} per class" if n else "not trained"
            title = f"{method['title']}: {trained}"
            methods[f"{name} {n}"] = {"title": title, "groups": point["groups"]}
    return {"groups": result["groups"], "methods": methods}
