"""The Report dock: the whole session as a folder to keep and to send."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer, QUrl
from qtpy.QtGui import QDesktopServices, QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...core.errors import AtomicityError
from ...core.progress import Progress, Stop
from ...io.reference_ratios import EXAMPLE, parse_reference
from ...io.tables import concatenate, read_reference, write_clusters, write_ratios
from ...state.export import Choices, export
from ...state.export_contents import Snapshot, snapshot
from ...state.window_state import Status, WindowState
from ...statistics.prevalence import METHODS
from ...statistics.ratios import class_ratios
from ..controls.connections import follow
from ..controls.forms import _Combo, folded, in_scroll_area, labelled, main_button, new_form
from ..controls.settings import remember, settings
from ..panels.forms import TaskBar, busy
from ..panels.table_files import (
    FILE_TYPES,
    RATIO_FILE_TYPES,
    REFERENCE_TYPES,
    choose_table_path,
    write_in_worker,
)
from ..tasks import start
from ..viewer.binding import state_of
from ..viewer.models import card_of

FOLDER = "report/folder"
"""Under this name the folder of the last report is remembered."""
NOTHING = "Analyse an image first: then all that is known of it can be written here."
_DELAY_MS = 30


def summary(state: WindowState) -> str:
    """What a report would hold, in a line or two."""
    images = [i for i in state.images if state.analysis(i) is not None]
    if not images:
        return NOTHING
    table = state.table()
    said = f"{_number(len(images), 'image')}, {_number(len(table), 'cluster')}"
    corrected = int((table["label_corrected"] != "").sum())
    if corrected:
        said += f", {corrected} with a person's label"
    left = len(state.images) - len(images)
    return f"{said}; {_number(left, 'image')} not analysed yet." if left else f"{said}."


def format_written(files: list[Path]) -> str:
    """What there is now, and where."""
    folder = files[-1].parent
    of_report = any(path.name == "report.html" for path in files)
    others = len(files) - of_report
    what = f"report.html and {_number(others, 'other file')}" if of_report else f"{others} files"
    return f"Written: {what} in {folder}"


def write_all(
    taken: Snapshot,
    folder: Path,
    choices: Choices,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Path]:
    """Export; run in a worker."""
    contents = taken.contents()
    # A model that was made in this window need not be on disk.
    card = card_of(concatenate([a.table for a in contents.analyses]))
    return export(contents, folder, choices, progress, stop, card=card)


def _number(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _write_ratios(table: pd.DataFrame, path: Path) -> Path:
    """Count and write; run in a worker."""
    return write_ratios(class_ratios(table), path)


class Report(QWidget):
    """One button that writes everything; what is written, and how, is folded away."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state_of(napari_viewer)
        self._files: list[Path] = []
        self._reference: pd.DataFrame | None = None
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._show)
        state = self.state
        for signal in (state.analysis_changed, state.images_changed, state.project_changed):
            follow(self, signal, self._later)
        follow(self, state.status_changed, self._on_status)
        self._show()

    def _build(self) -> None:
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("What a report would hold")
        self.button = main_button("Write report…", self)
        self.button.setToolTip(
            "Write tables, ratios, figures, a report to read, print and send, and the record of "
            "how they came about into a folder."
        )
        self.button.clicked.connect(self.write)
        self.task_bar = TaskBar(self.state)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result.setAccessibleName("What was written")
        self.result.hide()

        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.words)
        layout.addWidget(self.button)
        layout.addWidget(self.task_bar)
        layout.addWidget(self.result)
        layout.addLayout(self._buttons())
        layout.addWidget(self._settings())
        layout.addStretch(1)
        in_scroll_area(content, self)

    def _buttons(self) -> QHBoxLayout:
        self.open_button = QPushButton("Open report")
        self.open_button.setToolTip("Show the report that was written in the web browser.")
        self.open_button.clicked.connect(self.open_report)
        self.open_button.setEnabled(False)
        self.folder_button = QPushButton("Open folder")
        self.folder_button.setToolTip("Show the folder with all that was written.")
        self.folder_button.clicked.connect(self.open_folder)
        self.folder_button.setEnabled(False)
        self.table_button = QPushButton("Tables")
        self.table_button.setToolTip("Write one table of all images into a file.")
        menu = QMenu(self.table_button)
        menu.addAction("Clusters…", self.export_clusters)
        menu.addAction("Ratios…", self.export_ratios)
        self.table_button.setMenu(menu)
        row = QHBoxLayout()
        for button in (self.open_button, self.folder_button, self.table_button):
            row.addWidget(button)
        row.addStretch(1)
        return row

    def _settings(self) -> QWidget:
        self.title = QLineEdit()
        self.title.setPlaceholderText("How many atoms are in each cluster?")
        self.method = _Combo()
        for name, method in METHODS.items():
            self.method.addItem(method.title, name)
        self.reference = QLineEdit()
        self.reference.setPlaceholderText(EXAMPLE)
        self.reference.setClearButtonEnabled(True)
        self.reference.textEdited.connect(self._forget_file)
        self.load_button = QPushButton("Load reference…")
        self.load_button.setToolTip(
            "Known ratios from a table with the columns class, fraction and scope: an image, a "
            "pattern of images such as sample_1_*, or all."
        )
        self.load_button.clicked.connect(self.load_reference)
        form = new_form()
        labelled(
            form,
            "Title",
            self.title,
            "Heading of the report. Default: the name of the project, or a question.",
        )
        labelled(
            form,
            "Ratios by",
            self.method,
            "Whether labels are counted as they are, or adjusted for the mistakes of the model. "
            "Default: as counted.",
        )
        labelled(
            form,
            "Reference",
            self.reference,
            f"Known ratios of all images, such as {EXAMPLE}, to set beside those that are found. "
            "Default: none.",
        )
        form.addRow(self.load_button)
        self.page = self._box(form, "page", "Report (HTML)", "The report as one file.")
        self.figures = self._box(
            form, "figures", "Figures", "Every plot as PNG and SVG, and its data as CSV."
        )
        self.excel = self._box(
            form, "excel", "Excel workbooks", "The tables as XLSX beside CSV and Parquet."
        )
        self.latex = self._box(form, "latex", "LaTeX", "The ratios as a table for LaTeX.")
        remember("report/method", self.method)
        inner = QWidget()
        inner.setLayout(form)
        self.settings = folded(inner)
        return self.settings

    def _box(self, form, name: str, text: str, tooltip: str) -> QCheckBox:
        box = QCheckBox(text)
        box.setChecked(True)
        box.setToolTip(f"{tooltip} Default: yes.")
        remember(f"report/{name}", box)
        form.addRow(box)
        return box

    # ---- what there is
    def _later(self, *_: object) -> None:
        """Count once for a burst of changes, and not while nobody looks."""
        if self.isVisible():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._timer.start()

    def _show(self) -> None:
        words = summary(self.state)
        self.words.setText(words)
        self._enable()

    def _on_status(self, status: Status) -> None:
        self._enable()

    def _enable(self) -> None:
        something = any(self.state.analysis(i) is not None for i in self.state.images)
        self.button.setEnabled(something and not busy(self.state))
        self.table_button.setEnabled(something)

    # ---- the reference
    def _forget_file(self) -> None:
        self._reference = None

    def load_reference(self) -> None:
        """Ask for a file of known ratios."""
        chosen, _ = QFileDialog.getOpenFileName(self, "Reference ratios", "", REFERENCE_TYPES)
        if not chosen:
            return
        try:
            self._reference = read_reference(chosen)
        except AtomicityError as error:
            show_error(str(error))
        else:
            self.reference.setText(Path(chosen).name)

    def choices(self) -> Choices:
        """What is set.

        Raises
        ------
        TableError
            If what was typed as reference can't be understood.
        """
        line = self.reference.text().strip()
        reference = self._reference
        if reference is None and line:
            reference = parse_reference(line)
        return Choices(
            excel=self.excel.isChecked(),
            latex=self.latex.isChecked(),
            figures=self.figures.isChecked(),
            report=self.page.isChecked(),
            method=str(self.method.currentData()),
            reference=reference,
            title=self.title.text().strip(),
        )

    # ---- out
    def write(self) -> None:
        """Ask for a folder and write everything into it."""
        try:
            choices = self.choices()
        except AtomicityError as error:
            show_error(str(error))
            return
        chosen = QFileDialog.getExistingDirectory(
            self, "Folder for the report", str(settings().value(FOLDER) or "")
        )
        if not chosen:
            return
        settings().setValue(FOLDER, chosen)
        start(
            self.state,
            write_all,
            snapshot(self.state),
            Path(chosen),
            choices,
            message="Writing the report",
            on_result=self._written,
            key="report",
            owner=self,
        )

    def _written(self, files: list[Path]) -> None:
        self._files = files
        self.result.setText(format_written(files))
        self.result.show()
        self.folder_button.setEnabled(True)
        self.open_button.setEnabled(self.report_path is not None)

    @property
    def report_path(self) -> Path | None:
        """The report that was written last."""
        return next((path for path in self._files if path.name == "report.html"), None)

    def open_report(self) -> None:
        """Show the report in the browser."""
        if self.report_path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.report_path)))

    def open_folder(self) -> None:
        """Show the folder of the last report."""
        if self._files:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._files[-1].parent)))

    def export_clusters(self) -> None:
        """Ask for a file and write the cluster table of all images."""
        path = choose_table_path(self, "clusters.csv", FILE_TYPES)
        if path is not None:
            write_in_worker(self, write_clusters, self.state.table(), path)

    def export_ratios(self) -> None:
        """Ask for a file and write the ratios of every image and of all, as counted."""
        path = choose_table_path(self, "ratios.csv", RATIO_FILE_TYPES)
        if path is not None:
            write_in_worker(self, _write_ratios, self.state.table(), path)
