"""The dock Atoms: find the single atoms of a micrograph, and describe them."""

from __future__ import annotations

from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ....atoms.analysis import AtomAnalysis
from ....core.errors import AtomicityError
from ....io.tables import write_table
from ....pipeline.atom_request import AtomRequest
from ....state.window_state import Status
from ... import tasks
from ...controls.collapsible import CollapsibleSection
from ...controls.connections import follow, follow_soon
from ...controls.forms import folded, in_scroll_area, labelled, main_button, new_form
from ...controls.settings import remember
from ...controls.settings_form import form_of
from ...panels.forms import ImageForm, TaskBar, busy
from ...panels.table_files import FILE_TYPES, choose_table_path, write_in_worker
from ...viewer.binding import binding_of
from .batch import AtomsOfAll
from .cluster_links import ClusterLinks
from .found import FoundPart
from .jobs import find_image_atoms, format_atoms, write_atoms
from .marking import MarkingPart
from .models import AtomModelCombo
from .pixel_size import PixelSizePart
from .single_atom_calibration import SingleAtomCalibrationPart
from .threshold import ThresholdPart

CLUSTERS = "Clusters, counted by single-atom calibration"
NOTHING_FOUND = (
    "No atom was found. A lower threshold shows fainter candidates; missed atoms can be marked "
    "manually."
)
NO_CONTRAST = (
    "This image has no contrast, so atoms cannot be detected. It is left out of all densities."
)
OUTDATED = (
    "The pixel size has changed since these atoms were found; distances and densities are "
    "outdated. Find atoms again."
)


class Atoms(QWidget):
    """Image, model, the button Find atoms, and the results."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state = self.binding.state
        self.batch = AtomsOfAll(self.binding)
        self.links = ClusterLinks(self.binding, self)
        self._build()
        state = self.state
        follow(self, state.status_changed, self._on_status)
        follow(self, self.batch.changed, self._enable)
        follow_soon(
            self,
            state.atoms.changed,
            state.changed,
            state.current_changed,
            state.images_changed,
            state.project_changed,
            state.annotator_changed,
            slot=self._look,
        )
        self.image_form.changed.connect(self._on_image)
        self.button.clicked.connect(self.run)
        self.all_button.clicked.connect(self.run_all)
        self.clusters_part.button.toggled.connect(self._look)
        self._enable()

    # ---- content
    def _build(self) -> None:
        self.image_form = ImageForm(self.binding)
        self.pixel_size = PixelSizePart(self.binding, self.image_form)
        self.models = AtomModelCombo()
        form = new_form()
        labelled(
            form,
            "Model",
            self.models,
            "Model. Default: the shipped one.",
        )
        self._model_label = form.labelForField(self.models)
        self.button = main_button("Find atoms", self)
        self.button.setToolTip(
            "Find and measure the single atoms of this image. The threshold is set to the best "
            "expected F1. Manual marks are kept."
        )
        self.all_button = QPushButton("All images")
        self.task_bar = TaskBar(self.state)
        follow(self, self.state.status_changed, self.task_bar.show_status)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.threshold = ThresholdPart(self.binding)
        self.found = FoundPart(self.binding)
        self.marking = MarkingPart(self.binding)
        self.clusters = SingleAtomCalibrationPart(self.binding, self.links)
        self.clusters_part = CollapsibleSection(CLUSTERS, self.clusters)

        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 1)
        buttons.addWidget(self.all_button)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.image_form)
        layout.addWidget(self.pixel_size)
        layout.addLayout(form)
        layout.addLayout(buttons)
        for widget in (
            self.task_bar,
            self.result,
            self.threshold,
            self.found,
            self.marking,
            self.clusters_part,
        ):
            layout.addWidget(widget)
        layout.addLayout(self._out())
        layout.addWidget(self._settings())
        layout.addStretch(1)
        in_scroll_area(content, self)

    def _out(self) -> QHBoxLayout:
        self.export_button = QPushButton("Export")
        self.export_button.setToolTip(
            "Write the atoms of all images, or the clusters of this image with their atoms, as "
            "CSV, Excel or Parquet."
        )
        menu = QMenu(self.export_button)
        menu.addAction("Atoms…", self.export_atoms)
        self.clusters_action = menu.addAction("Clusters and their atoms…", self.export_clusters)
        self.export_button.setMenu(menu)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the atoms of this image as a table to the clipboard.")
        self.copy_button.clicked.connect(self.copy)
        for button in (self.export_button, self.copy_button):
            button.setEnabled(False)  # before it is laid out: disabled it needs more room
        row = QHBoxLayout()
        row.addWidget(self.export_button)
        row.addWidget(self.copy_button)
        row.addStretch(1)
        return row

    def _settings(self) -> QWidget:
        self.precise = QCheckBox("Start at the expected precision above")
        self.precise.setToolTip(
            "Set the threshold of new results to the expected precision instead of the best "
            "expected F1. Default: off."
        )
        remember("atoms/precise", self.precise)
        settings = form_of(AtomRequest, "device")
        self.device = settings.controls["device"]
        settings.form.addRow(self.precise)
        return folded(settings)

    # ---- changes of the state
    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        # Align with the form above, whose labels have a width that depends on the theme.
        above = self.image_form.form.labelForField(self.image_form.pixel_size)
        self._model_label.setMinimumWidth(above.sizeHint().width())
        self._look()

    def _on_image(self) -> None:
        self._enable()
        self._look()

    def _on_status(self, status: Status) -> None:
        self._enable()

    def _enable(self) -> None:
        state = self.state
        free = not busy(state) and not state.read_only and not state.blind
        self.button.setEnabled(self.image_form.ready and free)
        waiting = self._waiting()
        n = len(state.images)
        self.all_button.setText(f"All images ({len(waiting)})" if waiting else "All images")
        self.all_button.setEnabled(n > 0 and free and not self.batch.running)
        self.all_button.setToolTip(
            "Find the atoms of all images without results, or of all "
            f"{n} images again if all have results."
            if n
            else "Open images first, or a folder in the dock Browse."
        )

    def _waiting(self) -> list[str]:
        def unknown(image: str) -> bool:
            atoms = self.state.atoms.of(image)
            return atoms is None or atoms.analysis is None

        return [image for image in self.state.images if unknown(image)]

    def _look(self, *_: object) -> None:
        """Show the current state, while the dock is visible."""
        if not self.isVisible():
            return
        atoms = self.state.atoms.of(self.state.current)
        self._enable()
        self.pixel_size.update_now()
        self.threshold.show_atoms(atoms)
        self.found.show_atoms(atoms)
        self.marking.show_atoms(atoms, self.image_form.images.layer is not None)
        self.links.update_now()
        self.clusters.update_now()
        analysis = None if atoms is None else atoms.analysis
        nothing = analysis is not None and not len(atoms.table)
        flat = analysis is not None and analysis.is_flat
        current = self.state.current
        outdated = current is not None and self.state.atoms.outdated(current)
        text = NO_CONTRAST if flat else NOTHING_FOUND if nothing else ""
        self.result.setText(OUTDATED if outdated else text)
        self.result.setVisible(nothing or flat or outdated)
        self.export_button.setEnabled(bool(self.state.atoms.images))
        self.copy_button.setEnabled(atoms is not None)

    # ---- the buttons
    @property
    def precision(self) -> float | None:
        """Expected precision of new results; None for the best expected F1."""
        return self.threshold.precision.value() if self.precise.isChecked() else None

    def run(self) -> None:
        """Find the atoms of the chosen image."""
        try:
            image = self.image_form.take()
        except AtomicityError as error:
            show_error(tasks.format_error(error))
            return
        tasks.start(
            self.state,
            find_image_atoms,
            self.state.micrograph(image),
            self.models.model,
            self.device.currentData(),
            self.precision,
            message=f"Finding the atoms of {image}",
            on_result=self._done,
            key="atoms",
            owner=self,
            about=image,
        )

    def _done(self, analysis: AtomAnalysis) -> None:
        if self.binding.accepts(analysis):
            name = f"find atoms in {analysis.micrograph.name}"
            self.state.atoms.set_analysis(analysis, name)

    def run_all(self) -> None:
        """Find the atoms of images without results, or of all images if all have results."""
        images = self._waiting() or self.state.images
        if not self._waiting() and not self._wants_all_again(len(images)):
            return
        self.batch.start(images, self.models.model, self.device.currentData(), self.precision)

    def _wants_all_again(self, n: int) -> bool:
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self,
            "Find all atoms again?",
            f"All {n} images have results. Find the atoms again with the current settings? Manual "
            "marks are kept. This can be undone.",
            buttons.Yes | buttons.No,
            buttons.No,
        )
        return answer == buttons.Yes

    # ---- out
    def copy(self) -> None:
        """Copy the atoms of this image to the clipboard."""
        atoms = self.state.atoms.of(self.state.current)
        if atoms is None:
            return
        tasks.start(
            self.state,
            format_atoms,
            atoms,
            self.state.analysis(atoms.image),
            message="Copying",
            on_result=QApplication.clipboard().setText,
            key="copy atoms",
            owner=self,
        )

    def export_atoms(self) -> None:
        """Write the atoms of all images into a chosen file, as the command line does."""
        path = choose_table_path(self, "atoms.csv", FILE_TYPES)
        if path is None:
            return
        book = self.state.atoms
        found = [atoms for image in book.images if (atoms := book.of(image)) is not None]
        tasks.start(
            self.state,
            write_atoms,
            found,
            {atoms.image: self.state.analysis(atoms.image) for atoms in found},
            path,
            message=f"Writing {path.name}",
            on_result=lambda path: show_info(f"Written: {path}"),
            key=f"write {path}",
        )

    def export_clusters(self) -> None:
        """Write the clusters of this image with their counts and atoms into a chosen file."""
        rows = self.clusters.rows
        if rows is None:
            show_info(f"Open “{CLUSTERS}” first: clusters are not counted yet.")
            return
        path = choose_table_path(self, "cluster_atoms.csv", FILE_TYPES)
        if path is not None:
            write_in_worker(self, write_table, rows, path)
