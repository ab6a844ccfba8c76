"""The dock Report: tables, figures and report of all images in one folder."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QFileDialog,
    QLineEdit,
    QMenu,
    QPushButton,
    QWidget,
)

from ...core.progress import Progress, Stop
from ...core.text import pluralise
from ...io.reference_ratios import EXAMPLE, parse_reference
from ...io.tables import read_reference, write_clusters
from ...pipeline.repeat import Run, runs_of
from ...state.export import Choices, Snapshot, export, snapshot
from ...state.window_state import WindowState
from ...statistics.ratios.prevalence import METHODS
from ...statistics.ratios.ratios import counted, refuse_unavailable
from ...statistics.ratios.track_counts import count_clusters
from ..controls.bars import ALL_IMAGES, keeps_ratios
from ..controls.forms import STRETCH, ComboBox, folded, labelled, main_button, new_form, new_row
from ..controls.save_dialogs import choose_new_folder
from ..controls.settings import RATIO_METHOD, remember
from ..controls.settings_form import form_of
from ..panels.dock import Dock
from ..panels.session_scale import find_summaries
from ..panels.table_files import (
    FILE_TYPES,
    TABLE_TYPES,
    choose_table_path,
    copy_as_button,
    export_ratios,
    format_written,
    ratio_options,
    write_in_worker,
)
from ..viewer.models import card_of, find_card

LEFT_OUT = (
    "The reference in Ratios is of one image and is left out, unless you choose "
    f"'{ALL_IMAGES}' there."
)
WITHOUT_ATOMS = (
    "The dock Dispersion writes the report of single atoms, with their marks and the corrected "
    "support."
)
NOTHING = "Analyse an image first. Then its tables, figures and report can be written here."


def summary(state: WindowState) -> str:
    """Summarise what a report would contain."""
    images = [i for i in state.images if state.analysis(i) is not None]
    if not images:
        return f"{NOTHING} {WITHOUT_ATOMS}" if state.atoms.images else NOTHING
    counts = [count_clusters(state.table(image)) for image in images]
    clusters, corrected = (sum(count[i] for count in counts) for i in (0, 1))
    text = f"{pluralise(len(images), 'image')}, {pluralise(clusters, 'cluster')}"
    if corrected:
        text += f", {corrected} with a manual label"
    waiting, failed = state.not_analysed()
    changed = sum(state.pixel_sizes.has_changed(image) for image in waiting)
    if n := len(waiting) - changed:
        text += f"; {pluralise(n, 'image')} not analysed yet"
    if changed:
        text += f"; {pluralise(changed, 'image')} with another pixel size now: analyse again"
    if failed:
        text += f"; {pluralise(len(failed), 'image')} could not be analysed"
    return f"{text}. {WITHOUT_ATOMS}" if state.atoms.images else f"{text}."


def write_all(
    taken: Snapshot,
    folder: Path,
    choices: Choices,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Path]:
    """Export in a worker."""
    contents = taken.contents()
    found = find_summaries(contents.sessions, contents.analyses) if choices.report else []
    # A model that was made in this window need not be on disk.
    return export(contents, folder, choices, progress, stop, find_card=find_card, sessions=found)


class Report(Dock):
    """One button that writes everything; the settings are collapsed."""

    follows = ("changed", "atoms_changed", "images_changed", "project_changed", "reference_changed")
    delay_ms = 30

    def build(self) -> None:
        self._files: list[Path] = []
        self._epoch = self.state.epoch
        self._reference: pd.DataFrame | None = None
        self.words = self.add_label(lines=2)
        self.words.setAccessibleName("Contents of the report")
        self.button = self.add_button(
            main_button("Write report…", self),
            "Write tables, ratios, figures, a report and the record of the analysis into a new "
            "folder.",
            self.write,
            enabled_when=self._has_analysis,
        )
        self.result = self.add_label(lines=2)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result.setAccessibleName("Files written")
        self.result.hide()
        self._add_buttons()
        self.add(self._settings())

    def _add_buttons(self) -> None:
        """Add two rows: one of all buttons would be wider than the docks around a report."""
        self.open_button = QPushButton("Open report")
        self.open_button.setToolTip("Open the report in the web browser.")
        self.open_button.clicked.connect(self.open_report)
        self.open_button.setEnabled(False)
        self.folder_button = QPushButton("Open folder")
        self.folder_button.setToolTip("Open the folder with the files.")
        self.folder_button.clicked.connect(self.open_folder)
        self.folder_button.setEnabled(False)
        self.table_button = QPushButton("Tables")
        self.table_button.setToolTip(
            "Write one table of all images to a file; ratios by the method in Settings."
        )
        menu = QMenu(self.table_button)
        menu.addAction("Clusters…", self.export_clusters)
        menu.addAction("Ratios…", self.export_ratios)
        self.table_button.setMenu(menu)
        what = "the analysis of all images"
        self.copy_as = copy_as_button(self, self._runs, what)
        self.content.addLayout(new_row(self.open_button, self.folder_button, STRETCH))
        self.content.addLayout(new_row(self.table_button, self.copy_as, STRETCH))
        self.binding.projects.forget_by(self._forget_project)

    def _settings(self) -> QWidget:
        self.title = QLineEdit()
        self.title.setPlaceholderText("How many atoms are in each cluster?")
        self.method = ComboBox()
        for name, method in METHODS.items():
            self.method.addItem(method.title, name)
        self.reference = QLineEdit()
        self.reference.setPlaceholderText("that of Ratios")
        self.reference.setClearButtonEnabled(True)
        self.reference.textEdited.connect(self._forget_file)
        self.reference.textChanged.connect(self.invalidate)
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
            "Count the labels, or adjust the counts for the errors of the model. Default: counted.",
        )
        labelled(
            form,
            "Reference",
            self.reference,
            f"Known ratios of all images, such as {EXAMPLE}, to compare with. Default: the "
            "reference of Ratios, if it is of all images.",
        )
        form.addRow(self.load_button)
        self.boxes = form_of(Choices, "report", "figures", "excel", "latex")
        form.addRow(self.boxes)
        remember(RATIO_METHOD, self.method, shared=True)
        inner = QWidget()
        inner.setLayout(form)
        self.settings = folded(inner)
        return self.settings

    # ---- contents
    def refresh(self) -> None:
        words = [summary(self.state)]
        if self.binding.reference.left_out and not self.reference.text().strip():
            words.append(LEFT_OUT)
        self.words.setText(" ".join(words))
        self.table_button.setEnabled(self._has_analysis())
        self.copy_as.setEnabled(self._has_analysis())
        if self._epoch != self.state.epoch:  # the files are those of the project before
            self._epoch = self.state.epoch
            self._show_files([])

    def _has_analysis(self) -> bool:
        return any(self.state.analysis(image) is not None for image in self.state.images)

    def _forget_project(self) -> None:
        self.title.clear()
        self._reference = None
        self.reference.clear()

    # ---- the reference
    def _forget_file(self) -> None:
        self._reference = None

    def load_reference(self) -> None:
        """Choose a file of known ratios."""
        chosen, _ = QFileDialog.getOpenFileName(self, "Reference ratios", "", TABLE_TYPES)
        if not chosen:
            return
        reference = self.attempt(lambda: read_reference(chosen))
        if reference is not None:
            self._reference = reference
            self.reference.setText(Path(chosen).name)

    def choices(self) -> Choices:
        """Return the settings.

        Raises `TableError` if the reference cannot be parsed.
        """
        line = self.reference.text().strip()
        reference = self._reference if line else self.binding.reference.for_all
        if reference is None and line:
            reference = parse_reference(line)
        return Choices(
            **self.boxes.values(),
            method=str(self.method.currentData()),
            reference=reference,
            keep_ratios=keeps_ratios(),
            title=self.title.text().strip(),
        )

    # ---- out
    def _runs(self) -> list[Run]:
        """Return what repeats the analyses of all images, with the settings of this report."""
        choices, runs = self.choices(), []
        reference = None if self._reference is not None else self.reference.text().strip() or None
        for session in self.state.sessions.groups():
            found = [self.state.analysis(image) for image in session.images]
            for request, images in runs_of([a for a in found if a is not None], session):
                more = {"ratios": choices.method, "keep_ratios": choices.keep_ratios}
                runs.append((replace(request, **more, reference=reference), images))
        return runs

    def write(self) -> None:
        """Choose a folder and write everything into it."""
        choices = self.attempt(self.choices)
        if choices is None:
            return
        chosen = choose_new_folder(self, "Folder to make for the report", "report")
        if chosen is None:
            return
        self.start(
            write_all,
            snapshot(self.state),
            chosen,
            choices,
            message="Writing the report",
            on_result=self._show_files,
            key="report",
        )

    def _show_files(self, files: list[Path]) -> None:
        self._files = files
        self.result.setText(format_written(files) if files else "")
        self.result.setVisible(bool(files))
        self.folder_button.setEnabled(bool(files))
        self.open_button.setEnabled(self.report_path is not None)

    @property
    def report_path(self) -> Path | None:
        """The last report."""
        return next((path for path in self._files if path.name == "report.html"), None)

    def open_report(self) -> None:
        """Open the report in the browser."""
        if self.report_path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.report_path)))

    def open_folder(self) -> None:
        """Open the folder of the last report."""
        if self._files:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._files[-1].parent)))

    def export_clusters(self) -> None:
        """Choose a file and write the cluster table of all images."""
        path = choose_table_path(self, "clusters.csv", FILE_TYPES)
        if path is not None:
            write = partial(write_clusters, groups=self.state.group_names())
            write_in_worker(self, write, self.state.table(), path=path)

    def export_ratios(self) -> None:
        """Choose a file and write the ratios of every image, group and of all images."""
        table = self.state.table()
        rows, card = table[counted(table)], card_of(table)
        method = str(self.method.currentData())
        options = ratio_options(self.state, rows, card, method, keeps_ratios())

        def write() -> None:
            refuse_unavailable(options["method"], card, rows)
            export_ratios(self, options)

        self.attempt(write)
