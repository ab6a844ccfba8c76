"""The dock Dispersion: statistics of the atom positions on the support, and linked plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ....atoms.dispersion import (
    DispersionResult,
    DispersionResults,
    DispersionSettings,
    compute_dispersions,
)
from ....atoms.marks import ImageAtoms
from ....core.micrograph import Micrograph
from ....core.settings import GROUP_DISTANCE_NM
from ....core.text import capital
from ....io.clipboard import tab_separated
from ....io.result_folder import REPORT
from ....reporting.plots.base import Look, Plot
from ....reporting.plots.dispersion import DISPERSION_PLOTS
from ....reporting.plots.registry import save_plot
from ....state.annotator_packs import counted_atoms, reviewed_images
from ....state.atom_export import atom_snapshot
from ....state.window_state import WindowState
from ....statistics.points.loading_settings import LoadingSettings
from ....statistics.samples.comparison import SampleComparison
from ...controls.drawing import ProgressBar
from ...controls.forms import (
    STRETCH,
    CollapsibleSection,
    ComboBox,
    fill_column,
    fill_row,
    labelled,
    new_row,
    wrapped_label,
)
from ...controls.line_table import table_of
from ...controls.questions import show_info
from ...controls.refresher import follow, single_shot
from ...controls.save_dialogs import choose_new_folder
from ...controls.settings import remember
from ...controls.settings_form import SettingsForm, form_of
from ...panels.compare import ComparePart
from ...panels.dock import Dock
from ...panels.table_files import (
    FILE_TYPES,
    choose_table_path,
    copy_table,
    format_written,
    write_in_worker,
)
from ...scatter.rows import HINT, Linked
from ...scatter.save import choose_and_save
from ...scatter.view import PlotView
from ...tasks import format_error, running, start
from ...viewer.binding import Binding
from .figures import FigureModel, figures
from .jobs import compare_dispersions, write_report, write_rows
from .text import (
    NO_ATOMS,
    NO_PIXEL_SIZE,
    NONE_REVIEWED,
    NOT_REVIEWED,
    OUTDATED,
    UNREAD,
    format_left_out,
    format_reasons,
)


def _of_old_size(state: WindowState) -> list[str]:
    """Return the images whose atoms refer to another pixel size."""
    return [image for image in state.images if state.atoms.outdated(image)]


class CompareAtoms(ComparePart):
    """Samples compared by their single atoms."""

    figure = "atoms"
    nothing = "no atoms have been found"
    missing = "have not been searched for atoms yet (Atoms ▸ All images)"

    def __init__(
        self, binding: Binding, form: SettingsForm, known: dict[str, DispersionResult]
    ) -> None:
        super().__init__(binding)
        self._form, self._known = form, known
        form.changed.connect(self.invalidate)

    def images(self) -> list[str]:
        """Return the images in which somebody or a model has looked for atoms."""
        return list(counted_atoms(self.state, self.state.images))

    def left_out(self) -> str:
        outdated = _of_old_size(self.state)
        return capital(OUTDATED.format(", ".join(outdated))) if outdated else ""

    def data(self, images: list[str]) -> tuple[object, ...]:
        return (*(self.state.atoms.of(image) for image in images), self._form.settings())

    def job(self) -> Callable[..., SampleComparison]:
        state = self.state
        atoms = counted_atoms(state, state.images)
        unknown = {i: state.micrograph(i) for i, found in atoms.items() if found.analysis is None}
        settings = self._form.settings()
        return partial(compare_dispersions, atoms, settings, unknown, self._known)


# ---- progress of the computation of a dispersion
class Waiting(QWidget):
    """Progress bar and Cancel button; hidden without a task.

    Signals: ``cancelled()``.
    """

    cancelled = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bar = ProgressBar()
        self.bar.setAccessibleName("Progress")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Cancel the computation; earlier results are kept.")
        self.cancel_button.clicked.connect(self.cancelled)
        fill_row(self, (self.bar, 1), self.cancel_button)
        self.hide()

    def begin(self, message: str) -> None:
        self.bar.setFormat(message)
        self.bar.setRange(0, 1)  # a bar of unknown length shows no text
        self.bar.setValue(0)
        self.show()

    def report(self, done: int, total: int, message: str) -> None:
        """Show the progress, with the message as tooltip."""
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)
        self.bar.setToolTip(message)


THIS_IMAGE, ALL_IMAGES = "this image", "all images"
DEBOUNCE_MS = 250
"""Delay of the computation after a change of atoms or settings, for sliders."""
_MAX_ROWS = 40


class Dispersion(Dock):
    """Statistics and plots of the current image or of all; both follow atoms and support."""

    follows = (
        "atoms_changed", "changed", "current_changed", "images_changed", "project_changed",
        "atom_selection_changed",
    )  # fmt: skip

    def build(self) -> None:
        self.found: DispersionResults | None = None
        # The last result of each image, so that only changed images are computed. Workers add.
        self._known: dict[str, DispersionResult] = {}
        # What the result was computed from, or is being computed from.
        self._images: dict[str, ImageAtoms] = {}
        self._inputs: tuple[object, ...] = ()
        self._task = f"dispersion {id(self)}"
        self._report: Path | None = None
        self._debounce = single_shot(self._compute, owner=self)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.content.setContentsMargins(6, 6, 6, 6)
        self.content.addLayout(self._top())
        self.message = self.add(wrapped_label("Message"))
        self.body = QWidget()
        self.content.addWidget(self.body, 1)
        inner = QVBoxLayout(self.body)
        inner.setContentsMargins(0, 0, 0, 0)
        self.model = FigureModel(self)
        self.table = table_of(self.model, "Dispersion in figures", _MAX_ROWS, wraps=True)
        inner.addWidget(self.table)
        self.note = wrapped_label("Note")
        inner.addWidget(self.note)
        inner.addLayout(self._buttons())
        inner.addLayout(self._plots())
        self.form = form_of(DispersionSettings)
        self.linking = QLabel()
        labelled(
            self.form.form,
            "Linking distance",
            self.linking,
            "Atoms at most this far apart belong to one group. Set it in the dock Atoms. "
            f"Default: {GROUP_DISTANCE_NM:g} nm.",
            row=0,
        )
        self.form.changed.connect(self.invalidate)
        self.loading = form_of(LoadingSettings)
        self.loading.show_settings(self.state.atoms.loading)
        self.loading.changed.connect(self._on_loading)
        follow(self, self.state.atoms.loading_changed, self._show_loading)
        follow(self, self.state.project_changed, self._on_project)
        forms = QWidget()
        fill_column(forms, self.form, self.loading)
        self.settings_part = self.add(CollapsibleSection("Settings", forms))
        self.compare = CompareAtoms(self.binding, self.form, self._known)
        self.compare_section = self.add(CollapsibleSection("Compare samples", self.compare))
        self.content.addStretch(0)
        self.body.hide()

    def _top(self) -> QHBoxLayout:
        self.scope_combo = ComboBox()
        self.scope_combo.addItem(THIS_IMAGE, "current")
        self.scope_combo.addItem(ALL_IMAGES, "all")
        self.scope_combo.setAccessibleName("Atoms of")
        self.scope_combo.setToolTip(
            "Atoms of the current image, or of all images pooled. Default: this image."
        )
        remember("dispersion/scope", self.scope_combo)
        self.scope_combo.currentIndexChanged.connect(self.invalidate)
        self.update_button = QPushButton("Update")
        self.update_button.setToolTip("Compute the dispersion of the current atoms and support.")
        self.update_button.clicked.connect(self.invalidate)
        self.update_button.hide()
        self.waiting = Waiting()
        self.waiting.cancelled.connect(self.cancel)
        # In one line, so that showing it does not move the content below.
        return new_row((self.scope_combo, 1), (self.waiting, 1), self.update_button)

    def _buttons(self) -> QHBoxLayout:
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip(
            "Copy the rows of dispersion.csv that are shown, for a spreadsheet."
        )
        self.copy_button.clicked.connect(self.copy)
        self.export_button = QPushButton("Export…")
        self.export_button.setToolTip(
            "Write dispersion.csv (or Excel, Parquet): a row per image with atoms, per session and "
            "per sample, and one of all pooled, as atomicity atoms writes it."
        )
        self.export_button.clicked.connect(self.export)
        self.report_button = QPushButton("Report…")
        self.report_button.setToolTip(
            "Write the atoms of all images, as they are marked now, into a new folder: tables, "
            "figures, report.html and run.json, as atomicity atoms writes them."
        )
        self.report_button.clicked.connect(self.write_report)
        self.open_button = QPushButton("Open report")
        self.open_button.setToolTip("Open the last report in the web browser.")
        self.open_button.clicked.connect(self.open_report)
        self.open_button.setEnabled(False)
        buttons = self.copy_button, self.export_button, self.report_button, self.open_button
        return new_row(*buttons, STRETCH)

    def _plots(self) -> QVBoxLayout:
        self.plot_combo = ComboBox()
        for name, plot in DISPERSION_PLOTS.items():
            self.plot_combo.addItem(plot.title, name)
            tip = self.plot_combo.count() - 1
            self.plot_combo.setItemData(tip, plot.explanation, Qt.ItemDataRole.ToolTipRole)
        self.plot_combo.setAccessibleName("Plot")
        remember("dispersion/plot", self.plot_combo)
        self.plot_combo.setToolTip(self.plot.explanation)
        self.plot_combo.currentIndexChanged.connect(self._on_plot)
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip(
            "Save the plot: a picture (PNG), a drawing (SVG, PDF) or its data (CSV)."
        )
        self.save_button.clicked.connect(self.save)
        row = new_row((self.plot_combo, 1), self.save_button)
        self.view = PlotView()
        self.view.setMinimumHeight(round(17 * self.fontMetrics().height()))
        self._linked = Linked(self.view, "atom_id", "atom")
        self.view.picked.connect(self._on_selected)
        # Always one line, so that the plot keeps its size when the selection changes.
        self.hint = QLabel(HINT)
        self.hint.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.hint.setAccessibleName("Selected in this plot")
        column = QVBoxLayout()
        column.addLayout(row)
        column.addWidget(self.view, 1)
        column.addWidget(self.hint)
        return column

    # ---- choices
    @property
    def plot_name(self) -> str:
        """Name of the chosen plot, a key of `DISPERSION_PLOTS`."""
        return str(self.plot_combo.currentData())

    @property
    def plot(self) -> Plot:
        return DISPERSION_PLOTS[self.plot_name]

    @property
    def of_all(self) -> bool:
        """Whether all images are pooled."""
        return bool(self.scope_combo.currentData() == "all")

    def _micrographs(self, images: dict[str, ImageAtoms]) -> dict[str, Micrograph]:
        """Return the micrographs of images whose support is not known yet."""
        return {i: self.state.micrograph(i) for i, a in images.items() if a.analysis is None}

    # ---- computing
    def _on_project(self) -> None:
        """Hide at once what the model or others have found, since blind mode may have begun."""
        self._inputs, self._report = (), None
        self.open_button.setEnabled(False)
        self._show_none("")

    def refresh(self) -> None:
        """Compute the dispersion in a worker, soon after the last of several changes."""
        state, settings = self.state, self.form.settings()
        # A copy of the keys, since a worker may add a result.
        for image in [i for i in list(self._known) if i not in state.images]:
            del self._known[image]
        current = [] if state.current is None else [state.current]
        images = counted_atoms(state, state.images if self.of_all else current)
        distances = sorted({a.group_distance_nm for a in images.values()})
        self.linking.setText(", ".join(f"{d:g} nm" for d in distances) or "–")
        inputs = (settings, self._n_images, *images.values())
        if images and inputs == self._inputs:
            self.refresh_selection()
            self._show_note()
            return
        same_images = images.keys() == self._images.keys()
        self._images, self._inputs = images, inputs
        self._stop()
        if not images:
            self._show_none(self._empty_message())
            return
        self.body.setEnabled(False)  # its content is outdated
        self.message.hide()
        self._debounce.start(DEBOUNCE_MS if same_images else 0)

    @property
    def _n_images(self) -> int:
        return len(self.state.images) if self.of_all else 1

    def _describe_left_out(
        self, micrographs: Mapping[str, Micrograph], of_all: bool = True
    ) -> Callable[[DispersionResults], str]:
        """Return the function that formats what is left out of a result, for any thread."""
        return partial(
            format_left_out,
            images=len(self.state.images) if of_all else 1,
            outdated=_of_old_size(self.state) if of_all else [],
            annotator=self.state.annotator if self.state.blind else "",
            micrographs=micrographs,
            excluded=[i for i in micrographs if self.state.clusters.regions(i)],
        )

    def _compute(self) -> None:
        self.waiting.begin("updating…")
        task = self.start(
            compute_dispersions,
            self._images,
            self.form.settings(),
            self._micrographs(self._images),
            self._known,
            on_result=self._take,
            on_error=self._on_error,
            key=self._task,
            quiet_errors=True,
        )
        task.progressed.connect(self.waiting.report)
        task.finished.connect(self._on_finished)

    def _empty_message(self) -> str:
        """Return why there is nothing to compute."""
        image = self.state.current
        if self.of_all and (outdated := _of_old_size(self.state)):
            return capital(OUTDATED.format(", ".join(outdated)))
        if self.of_all or image is None:
            who = self.state.annotator
            return NONE_REVIEWED.format(who) if self.state.blind else NO_ATOMS
        if self.state.micrograph(image).pixel_size_nm is None:
            project = self.state.project
            is_unread = project is not None and project.image_files.is_unread(image)
            return (UNREAD if is_unread else NO_PIXEL_SIZE).format(image)
        if self.state.atoms.outdated(image):
            return capital(OUTDATED.format(image))
        if self.state.blind and image not in reviewed_images(self.state):
            return NOT_REVIEWED.format(image, self.state.annotator)
        return NO_ATOMS

    def _stop(self) -> None:
        """Cancel the computation, whose result would be outdated."""
        self._debounce.stop()
        for task in running(self.state, self._task):
            task.cancel()

    def cancel(self) -> None:
        """Stop; the earlier content stays, disabled, until the next update."""
        self._stop()
        self.waiting.hide()
        self._images, self._inputs = {}, ()
        self.update_button.show()

    def _on_finished(self) -> None:
        if not running(self.state, self._task):
            self.waiting.hide()

    def _on_error(self, error: BaseException) -> None:
        self._show_none(format_error(error))

    def _take(self, found: DispersionResults) -> None:
        self.update_button.hide()
        if found.dispersion is None:
            self._show_none(format_reasons(found.reasons))
            return
        self.found = found
        self.message.hide()
        self._show_figures()
        self._show_note()
        self.body.show()
        self.body.setEnabled(True)
        self._draw()

    def _show_note(self) -> None:
        """Say what is left out of the figures, and what counts although it need not."""
        found = self.found
        if found is not None and all(image in self.state.images for image in found.of):
            seen = {image: self.state.micrograph(image) for image in found.of}
            self.note.setText(self._describe_left_out(seen, self.of_all)(found))
            self.note.setVisible(bool(self.note.text()))

    def _on_loading(self) -> None:
        self.state.atoms.loading = self.loading.settings()

    def _show_loading(self) -> None:
        self.loading.show_settings(self.state.atoms.loading)
        self._show_figures()

    def _show_figures(self) -> None:
        found = self.found
        if found is not None and found.dispersion is not None:
            row = found.rows(self.state.atoms.loading).iloc[-1].to_dict()
            seen = [one for one in found.of.values() if one.dispersion is not None]
            tested = sum(one.completeness is not None for one in seen)
            self.model.show_figures(figures(found.dispersion, row, tested))

    def _show_none(self, message: str) -> None:
        self.found = None
        self.model.show_figures(())
        self.update_button.hide()
        self.body.hide()
        self.message.setText(message)
        self.message.setVisible(bool(message))

    # ---- plots
    def _on_plot(self, *_: object) -> None:
        self.plot_combo.setToolTip(self.plot.explanation)
        self._draw()

    def _draw(self) -> None:
        found = self.found
        if found is None:
            return
        data = self.plot.data(found.table, dispersion=found.dispersion)
        self._linked.show(self.plot, found.table, data)
        self.refresh_selection()

    def refresh_selection(self) -> None:
        text = self._linked.mark(self.state.atoms.selection)
        curve = len(self.view.data) > 0 and not self._linked.holds
        self.hint.setText("A curve describes all atoms together." if curve else text)

    def _on_selected(self, rows: Sequence[int], mode: str) -> None:
        if self._linked.holds:
            atoms = self.state.atoms
            atoms.select(self._linked.selection_after(rows, mode, atoms.selection))

    # ---- out
    def shown_rows(self) -> pd.DataFrame:
        """Return the rows of ``dispersion.csv`` that are shown."""
        if self.found is None:
            return pd.DataFrame()
        rows = self.found.rows(self.state.atoms.loading)
        return rows if self.of_all else rows.iloc[:1]

    def copy(self) -> None:
        """Copy the rows that are shown."""
        rows = self.shown_rows()
        copy_table(tab_separated(rows), len(rows))

    def export(self) -> None:
        """Write a row per image, session and sample, and one of all images into a chosen file."""
        path = choose_table_path(self, "dispersion.csv", FILE_TYPES)
        if path is None:
            return
        images = counted_atoms(self.state, self.state.images)
        write_in_worker(
            self, write_rows, images, self.form.settings(), self.state.atoms.loading,
            self._micrographs(images), self._known, self.state.group_scopes(images), path=path,
        )  # fmt: skip

    def write_report(self) -> None:
        """Choose a folder, and write tables, figures and a report of all images into it."""
        folder = choose_new_folder(self, "Folder to make for the report", "atoms")
        if folder is None:
            return
        taken = atom_snapshot(self.state)
        start(
            self.state,
            write_report,
            folder,
            taken,
            self.form.settings(),
            self._known,
            self._describe_left_out(taken.micrographs),
            message="Writing the report",
            on_result=self._on_report,
            key=f"write {folder}",
        )

    def _on_report(self, files: list[Path]) -> None:
        self._report = next(path for path in files if path.name == REPORT)
        self.open_button.setEnabled(True)
        show_info(format_written(files))

    def open_report(self) -> None:
        """Open the last report in the browser."""
        if self._report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._report)))

    def save(self) -> None:
        """Save the plot, or its data, into a chosen file."""
        plot, data = self.plot, self.view.data
        choose_and_save(self, self.plot_name, lambda path: save_plot(plot, data, path, Look()))
