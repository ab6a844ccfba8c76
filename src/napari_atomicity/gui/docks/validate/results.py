"""The results of a validation or of a learning curve: what they say, their files, and a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ....core.progress import format_duration
from ....core.text import pluralise
from ....validation.existing_results import REPORT
from ....validation.request import quick_note
from ...controls.forms import new_form, selectable_label
from .scores import ScoreLines, score_view


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
        buttons = QHBoxLayout()
        buttons.addWidget(self.report_button)
        buttons.addWidget(self.folder_button)
        buttons.addStretch(1)
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
