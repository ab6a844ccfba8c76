"""The dock Atoms: find the single atoms of a micrograph, and describe them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QMenu, QPushButton

from ....atoms.analysis import MAX_PIXEL_SIZE_NM, AtomAnalysis
from ....atoms.cluster_atoms import SCHEMA
from ....atoms.finding.card import SHIPPED, AtomCard
from ....atoms.marks import ImageAtoms
from ....core.errors import without_file_name
from ....core.progress import Progress, Stop
from ....core.text import first_names
from ....io.tables import write_table
from ....models.files import available_models
from ....pipeline.repeat import Run, atom_run_of
from ....pipeline.run_request import AtomRequest
from ...controls.forms import CollapsibleSection, folded, labelled, main_button, new_row
from ...controls.questions import confirm, show_info, show_warning
from ...controls.settings import ATOM_MODEL, remember
from ...controls.settings_form import form_of
from ...panels.dock import Dock
from ...panels.forms import ImageForm, ModelCombo, describe_card, may_analyse
from ...panels.image_queue import ImageQueue
from ...panels.table_files import (
    FILE_TYPES,
    choose_table_path,
    copy_as_button,
    copy_table,
    write_in_worker,
)
from ...viewer.binding import Binding
from .cluster_links import ClusterLinks
from .found import FoundPart
from .jobs import find_image_atoms, format_atoms, write_atoms, write_groups
from .marking import MarkingPart
from .single_atom_calibration import SingleAtomCalibrationPart
from .threshold import PixelSizePart, ThresholdPart


# ---- the models that find atoms, to choose from
class AtomModelCombo(ModelCombo):
    """The atom models at hand."""

    setting, usual = ATOM_MODEL, SHIPPED["default"]

    def available(self) -> list[tuple[str, str]]:
        cards = available_models(AtomCard)
        return [(name, describe_card(card, card.intended_use)) for name, card in cards.items()]


# ---- atoms of all images

_MAX_NAMED = 4


class AtomsOfAll(ImageQueue):
    """Finds the atoms of images of a session; all of it is one step of undo."""

    verb = "Finding atoms in"

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding, "atoms of all")
        self._settings: tuple[str, str, float | None] = ("default", "auto", None)

    def start(self, images: list[str], model: str, device: str, precision: float | None) -> None:
        """Find the atoms of these images; the current image comes first."""
        self._settings = (model, device, precision)
        self.begin(images)

    def step(self, image: str, progress: Progress, stop: Stop) -> AtomAnalysis:
        return find_image_atoms(self.state.micrograph(image), *self._settings, progress, stop)

    def take(self, image: str, analysis: AtomAnalysis) -> None:
        if self.binding.accepts(analysis):
            self.state.atoms.set_analysis(analysis, group=self.group)

    def finish(self) -> None:
        settings = dict(zip(("model", "device", "precision"), self._settings, strict=True))
        self.record("find atoms in all images", settings)
        if self.failed:
            n = len(self.failed)
            images_of: dict[str, list[str]] = {}
            for image, why in self.failed.items():
                images_of.setdefault(without_file_name(why, Path(image)), []).append(image)
            reasons = [f"{first_names(images, 3)}: {why}" for why, images in images_of.items()]
            more = f" … and {len(reasons) - _MAX_NAMED} more" if len(reasons) > _MAX_NAMED else ""
            show_info(
                f"Atoms were found in {self.n_in_all - n} of {self.n_in_all} images. "
                + " ".join(reasons[:_MAX_NAMED])
                + more
            )


CLUSTERS = "Atoms per cluster"
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


class Atoms(Dock):
    """Image, model, the button Find atoms, and the results."""

    follows = (
        "atoms_changed", "changed", "current_changed", "images_changed", "project_changed",
        "annotator_changed", "colouring_changed", "marking_changed", "magnifier_changed",
        "support_shown",
    )  # fmt: skip

    def build(self) -> None:
        self.batch = AtomsOfAll(self.binding)
        self.batch.changed.connect(self.invalidate)
        self.links = ClusterLinks(self.binding, self)
        self.image_form = self.add(ImageForm(self.binding, MAX_PIXEL_SIZE_NM, "single atoms"))
        self.image_form.changed.connect(self.invalidate)
        form = self.image_form.form
        self.models = AtomModelCombo()
        labelled(form, "Model", self.models, "Model. Default: the shipped one.")
        self.content.addLayout(self._buttons())
        self.result = self.add_label(lines=2)
        self.pixel_size = self.add(PixelSizePart(self.binding, self.image_form))
        self.threshold = self.add(ThresholdPart(self.binding))
        self.found = self.add(FoundPart(self.binding))
        self.marking = self.add(MarkingPart(self.binding))
        self.clusters = SingleAtomCalibrationPart(self.binding, self.links)
        self.clusters_part = self.add(CollapsibleSection(CLUSTERS, self.clusters))
        self.content.addLayout(self._out())
        settings = form_of(AtomRequest, "device")
        self.device = settings.controls["device"]
        self.precise = QCheckBox("Start at the expected precision above")
        self.precise.setToolTip(
            "Set the threshold of new results to the expected precision instead of the best "
            "expected F1. Default: off."
        )
        remember("atoms/precise", self.precise)
        settings.form.addRow(self.precise)
        self.add(folded(settings))

    def _buttons(self) -> QHBoxLayout:
        self.button = main_button("Find atoms", self)
        self.button.setToolTip(
            "Find and measure the single atoms of this image. The threshold is set to the best "
            "expected F1, or to the precision in Settings. Manual marks are kept, and where the "
            "same atoms are found again, a threshold that was set by hand or by a precision."
        )
        self.button.clicked.connect(self.run)
        self.enable_when(self.button, self._can_find)
        self.all_button = QPushButton("All images")
        self.all_button.clicked.connect(self.run_all)
        self.enable_when(self.all_button, self._can_find_all)
        return new_row((self.button, 1), self.all_button)

    def _out(self) -> QHBoxLayout:
        self.export_button = QPushButton("Export")
        self.export_button.setToolTip(
            "Write the atoms of all images, their groups with number of atoms and extent in nm, or "
            "the clusters of this image with their atoms, as CSV, Excel or Parquet."
        )
        menu = QMenu(self.export_button)
        menu.addAction("Atoms…", self.export_atoms)
        menu.addAction("Groups of atoms…", self.export_groups)
        self.clusters_action = menu.addAction("Clusters and their atoms…", self.export_clusters)
        self.export_button.setMenu(menu)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the atoms of this image as a table to the clipboard.")
        self.copy_button.clicked.connect(self.copy)
        what = "the search for atoms in this image and those with the same settings, without marks"
        self.copy_as = copy_as_button(self, self._runs, what)
        row = QHBoxLayout()
        for button in (self.export_button, self.copy_button, self.copy_as):
            button.setEnabled(False)  # before it is laid out: disabled it needs more room
            row.addWidget(button)
        row.addStretch(1)
        return row

    # ---- changes of the state
    def refresh(self) -> None:
        state = self.state
        atoms = state.atoms.of(state.current)
        self.pixel_size.show_proposal()
        self.threshold.show_atoms(atoms)
        self.found.show_atoms(atoms)
        self.marking.show_atoms(atoms, self.image_form.images.layer is not None)
        self.links.find()
        analysis = None if atoms is None else atoms.analysis
        text = ""
        if state.current is not None and state.atoms.outdated(state.current):
            text = OUTDATED
        elif analysis is not None and analysis.is_flat:
            text = NO_CONTRAST
        elif atoms is not None and analysis is not None and not len(atoms.table):
            text = NOTHING_FOUND
        text = " ".join(filter(None, (self.image_form.hint, text)))
        self.result.setText(text)
        self.result.setVisible(bool(text))
        self.export_button.setEnabled(bool(state.atoms.images))
        self.copy_button.setEnabled(atoms is not None)
        self.copy_as.setEnabled(analysis is not None and analysis.micrograph.path is not None)
        waiting, n = len(self._waiting()), len(state.images)
        self.all_button.setText(f"All images ({waiting})" if waiting else "All images")
        self.all_button.setToolTip(
            "Find the atoms of all images without results at their pixel size, or of all "
            f"{n} images again if all have results."
            if n
            else "Open images first, or a folder in the dock Browse."
        )

    def _can_find(self) -> bool:
        return self.image_form.ready and may_analyse(self.state)

    def _can_find_all(self) -> bool:
        return bool(self.state.images) and may_analyse(self.state) and not self.batch.running

    def _waiting(self) -> list[str]:
        """Return the images whose atoms have not been searched at their pixel size."""
        book = self.state.atoms
        known = {image: book.of(image) for image in self.state.images}
        searched = {i for i, a in known.items() if a is not None and a.analysis is not None}
        waiting = [i for i in known if i not in searched or book.outdated(i)]
        return [i for i in waiting if i not in self.batch.failed]

    # ---- the buttons
    @property
    def precision(self) -> float | None:
        """Expected precision of new results; None for the best expected F1."""
        return self.threshold.precision.value() if self.precise.isChecked() else None

    def run(self) -> None:
        """Find the atoms of the chosen image."""
        image = self.attempt(self.image_form.take)
        if image is not None:
            self.start(
                find_image_atoms,
                self.state.micrograph(image),
                self.models.model,
                self.device.currentData(),
                self.precision,
                message=f"Finding the atoms of {image}",
                on_result=self._done,
                key="atoms",
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
        done = "The image has results." if n == 1 else f"All {n} images have results."
        if failed := len(self.batch.failed):
            known = f"{n - failed} of {n} images have results"
            done = f"{known}; the others failed and are tried again."
        best = "the best expected F1"
        threshold = best if self.precision is None else f"a precision of {self.precision:g}"
        return confirm(
            self,
            "Find all atoms again?",
            f"{done} Find the atoms again with the current settings? Each threshold is set to "
            f"{threshold}. Manual marks are kept; where the same atoms are found, so are "
            "thresholds that were set by hand or by a precision, and what is missed. This can be "
            "undone.",
        )

    # ---- out
    def _runs(self) -> list[Run]:
        """Return what finds the atoms of this image again, and of those with the same settings."""
        book = self.state.atoms
        atoms = book.of(self.state.current)
        others = [one for image in book.images if (one := book.of(image)) is not None]
        run = None if atoms is None else atom_run_of(others, atoms)
        return [] if run is None else [run]

    def copy(self) -> None:
        """Copy the atoms of this image to the clipboard."""
        atoms = self.state.atoms.of(self.state.current)
        if atoms is not None:
            self.start(
                format_atoms,
                atoms,
                self.state.analysis(atoms.image),
                message="Copying",
                on_result=lambda text: copy_table(text, len(atoms.table)),
                key="copy atoms",
            )

    def export_atoms(self) -> None:
        """Write the atoms of all images into a chosen file, as the command line does."""
        found = self._found()
        analyses = {atoms.image: self.state.analysis(atoms.image) for atoms in found}
        names = self.state.group_names(analyses)
        self._write("atoms.csv", write_atoms, found, analyses, *names)

    def export_groups(self) -> None:
        """Write the groups of atoms of all images into a chosen file."""
        self._write("atom_groups.csv", write_groups, self._found())

    def _found(self) -> list[ImageAtoms]:
        """Return the atoms of each image that has any; say which have an earlier pixel size."""
        book = self.state.atoms
        found = [atoms for image in book.images if (atoms := book.of(image)) is not None]
        if outdated := [atoms.image for atoms in found if book.outdated(atoms.image)]:
            show_warning(f"{', '.join(outdated)}: {OUTDATED}")
        return found

    def _write(self, name: str, write: Callable[..., Path], *tables: object) -> None:
        """Write tables into a chosen file in a worker."""
        path = choose_table_path(self, name, FILE_TYPES)
        if path is not None:
            write_in_worker(self, write, *tables, path=path)

    def export_clusters(self) -> None:
        """Write the clusters of this image with their counts and atoms into a chosen file."""
        rows = self.clusters.rows if self.clusters.isVisibleTo(self) else None
        if rows is None:
            reason = self.clusters.words.text() if self.clusters.isVisibleTo(self) else ""
            show_info(reason or f"Open “{CLUSTERS}” first: clusters are not counted yet.")
            return
        path = choose_table_path(self, "cluster_atoms.csv", FILE_TYPES)
        if path is not None:
            write_in_worker(self, partial(write_table, columns=SCHEMA), rows, path=path)
