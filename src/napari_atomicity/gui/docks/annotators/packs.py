"""Packs: images with empty tables for annotators, and the import of filled ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import pandas as pd
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QWidget,
)

from ....atoms.analysis import AtomAnalysis
from ....atoms.table import concat_atom_tables
from ....core.progress import Progress, Stop
from ....core.text import first_names, pluralise
from ....project import ProjectImage
from ....project.images import exists
from ....project.packs.filled_packs import Unit
from ....state.annotator_packs import TakenIn, pack_images, take_in_packs
from ....state.annotators import Annotations
from ....state.window_state import WindowState
from ...controls.forms import (
    CollapsibleSection,
    ComboBox,
    fill_column,
    labelled,
    new_form,
    new_row,
    selectable_label,
)
from ...controls.questions import ENTER_PIXEL_SIZE, attempt, choose_answer, confirm
from ...controls.save_dialogs import choose_file
from ...controls.settings import remember
from ...tasks import start
from .browser import CLUSTERS, BrowserPacks
from .text import format_taken

PACKS = "Packs and answers (*.zip manifest.json *.json)"
ALL, THIS, UNREVIEWED = "all", "this", "nobody"
_WHICH = {
    ALL: "all images",
    THIS: "this image",
    UNREVIEWED: "images without a review",
}


def make_pack(
    images: Sequence[ProjectImage],
    folder: Path,
    annotator: str | None,
    analyses: Mapping[str, AtomAnalysis] | None,
    tolerance_nm: float,  # largest distance of marks of one atom
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Make a pack, in a worker."""
    names = {image.name for image in images}
    atoms = None if analyses is None else _atoms_in(analyses, names)
    return pack_images(images, folder, annotator, atoms, tolerance_nm, progress, stop)


def _atoms_in(analyses: Mapping[str, AtomAnalysis], names: set[str]) -> pd.DataFrame:
    return concat_atom_tables(a.table for image, a in analyses.items() if image in names)


def found_by_model(state: WindowState) -> dict[str, AtomAnalysis]:
    """Return the results of the model by image, without manual changes."""
    book = state.atoms
    known = {image: book.of(image) for image in book.images if not book.outdated(image)}
    return {i: a.analysis for i, a in known.items() if a is not None and a.analysis is not None}


class Packs(QWidget):
    """Options of packs, buttons to export and import them, and the result.

    Signals: ``taken()`` after packs were read.
    """

    taken = Signal()

    def __init__(
        self, state: WindowState, tolerance: QDoubleSpinBox, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.state, self.tolerance = state, tolerance
        self.annotations: Annotations | None = None
        self._imported: set[tuple[str, str]] = set()
        self._group: object = None  # of the step of undo whose result is shown
        self.which = ComboBox()
        for name, text in _WHICH.items():
            self.which.addItem(text, name)
        self.proposals = QCheckBox("With the atoms of the model")
        self.proposals.setToolTip(
            "Start the tables with the atoms found by the model, for correction. This is faster, "
            "but biases annotators towards the model: do not use it to evaluate the model. "
            "Default: off."
        )
        self.annotator = QLineEdit()
        self.annotator.setPlaceholderText("anybody")
        self.annotator.setClearButtonEnabled(True)
        remember("annotators/which", self.which)
        remember("annotators/proposals", self.proposals)
        form = new_form()
        labelled(form, "Images", self.which, "Images of the pack. Default: all.")
        labelled(
            form, "For", self.annotator,
            "Name of the annotator of the pack. Default: anybody; annotators enter their names.",
        )  # fmt: skip
        form.addRow(self.proposals)
        self.browser = BrowserPacks(state)
        self.browser.wrote.connect(self._show_result)
        self.browser_settings = CollapsibleSection("Options of a browser", self.browser)
        self.result = selectable_label("Result of the packs", plain=True, lines=2)
        self.result.hide()
        fill_column(self, form, self.browser_settings, self._buttons(), self.result)

    def _buttons(self) -> QFormLayout:
        """Create the buttons that give packs out and take them in."""
        self.export_button = QPushButton("As tables…")
        self.export_button.setToolTip(
            "Make a folder and a .zip archive with the images, an empty table for each, and a "
            "README. Annotators fill in the tables with any program and return the pack."
        )
        self.export_button.clicked.connect(self.export)
        self.browser_button = QPushButton("For a browser…")
        self.browser_button.setToolTip(
            "Make one .html file with the images and everything that is needed to mark them in any "
            "browser, without a network. Its size is shown before it is written."
        )
        self.browser_button.clicked.connect(self.export_for_browser)
        self.import_button = QPushButton("Files…")
        self.import_button.setToolTip(
            "Read the returned files: .zip, manifest.json in a folder, or the .json of a browser. "
            "Images are matched by content, otherwise by name. Taking in a file twice adds nothing."
        )
        self.import_button.clicked.connect(self.take_in)
        self.folder_button = QPushButton("A folder…")
        self.folder_button.setToolTip("Read all packs and answers of a folder.")
        self.folder_button.clicked.connect(self.take_in_folder)
        actions = new_form()
        actions.addRow("Give out", new_row(self.export_button, self.browser_button))
        actions.addRow("Take in", new_row(self.import_button, self.folder_button))
        return actions

    def show_annotations(self, annotations: Annotations | None) -> None:
        """Update the buttons for the annotations of the project."""
        self.annotations = annotations
        undone = self._group is not None and not self._is_done(self._group)
        if undone or (annotations is not None and not self._imported <= annotations.reviews):
            self._show_result("")  # undone, or removed
        project = self.state.project
        may_see = project is not None and not self.state.blind
        for button in (self.export_button, self.browser_button):
            button.setEnabled(may_see)
        for button in (self.import_button, self.folder_button):
            button.setEnabled(may_see and not self.state.read_only)

    def _is_done(self, group: object) -> bool:
        return any(step.group is group for step in self.state.history)

    # ---- out
    def images(self) -> list[str]:
        """Return the chosen images."""
        which, project = self.which.currentData(), self.state.project
        names = [] if project is None else project.names
        if which == THIS:
            return [name for name in names if name == self.state.current]
        if which == UNREVIEWED and self.annotations is not None:
            seen = set(self.annotations.counts["image"])
            return [name for name in names if name not in seen]
        return names

    def _chosen(self, of_clusters: bool = False) -> list[ProjectImage]:
        """Return the images of the choice; say so if there is none, or some can't be in a pack."""
        project, names = self.state.project, set(self.images())
        if project is None:
            return []
        if not names:
            self._show_result("No image matches: choose others.")
        chosen = [image for image in project.images(counts=False) if image.name in names]
        return self._usable(chosen, of_clusters)

    def _usable(self, images: list[ProjectImage], of_clusters: bool) -> list[ProjectImage]:
        """Return the images that a pack can have; ask first if there are others."""
        reasons = {image.name: self._why_not(image, of_clusters) for image in images}
        usable = [image for image in images if not reasons[image.name]]
        said = [
            reason.format(first_names([name for name, why in reasons.items() if why == reason]))
            for reason in dict.fromkeys(filter(None, reasons.values()))
        ]
        question = f"Make the pack without {pluralise(len(images) - len(usable), 'image')}?"
        if not usable:
            self._show_result(" ".join(said))
        elif said and not confirm(self, "Leave images out?", " ".join([*said, question])):
            return []
        return usable

    def _why_not(self, image: ProjectImage, of_clusters: bool) -> str:
        """Return why a pack can't have an image, with {} for its name; "" if it can."""
        if image.shape is None and image.error:
            return "{} can't be read: Browse has the reason."
        if not exists(image.path):
            return "There is no file of {}. Browse ▸ ⋯ finds moved images."
        # An image without a shape was not read yet: its file may have a pixel size.
        if image.shape is not None and len(image.shape) > 2 and image.shape[0] > 1:
            return "Packs have no stacks: {}. Save a frame to be marked by itself."
        if image.shape is not None and not image.pixel_size_nm:
            return f"The pixel size of {{}} is not known. {ENTER_PIXEL_SIZE}."
        analysis = self.state.store.analyses.get(image.name)
        bare = analysis is None or not len(analysis.table)
        return "No clusters to label: {}." if of_clusters and bare else ""

    def export_for_browser(self) -> None:
        """Make pages for browsers."""
        images = self._chosen(self.browser.asked.currentData() == CLUSTERS)
        if not images:
            return
        analyses = found_by_model(self.state) if self.proposals.isChecked() else None
        names = {image.name for image in images}
        atoms = None if analyses is None else _atoms_in(analyses, names)
        who = self.annotator.text().strip() or None
        attempt(
            lambda: self.browser.export(
                images, self.browser.request(who, atoms, self.tolerance.value())
            )
        )

    def export(self) -> None:
        """Make the pack in a chosen folder."""
        images = self._chosen()
        if not images:
            return
        chosen = choose_file(self.state, self, "Folder to make", "atoms-pack", "Folder (*)")
        if chosen is None:
            return
        start(
            self.state,
            make_pack,
            images,
            chosen,
            self.annotator.text().strip() or None,
            found_by_model(self.state) if self.proposals.isChecked() else None,
            self.tolerance.value(),
            message="Making a pack",
            on_result=lambda archive: self._exported(archive, len(images)),
            key="pack",
            owner=self,
        )

    def _exported(self, archive: Path, n: int) -> None:
        folder = archive.with_suffix("")
        self._show_result(
            f"{pluralise(n, 'image')} in {folder} and {archive.name}. Send either; its README.txt "
            "has the instructions."
        )

    # ---- in
    def take_in(self) -> None:
        """Read chosen packs."""
        project = self.state.project
        if project is None:
            return
        chosen, _ = QFileDialog.getOpenFileNames(
            self, "Import packs", str(project.path.parent), PACKS
        )
        if chosen:
            self._read([Path(path) for path in chosen], object())

    def take_in_folder(self) -> None:
        """Read all that a chosen folder holds."""
        project = self.state.project
        if project is None:
            return
        start_in = str(project.path.parent)
        chosen = QFileDialog.getExistingDirectory(self, "Folder of packs and answers", start_in)
        if chosen:
            self._read([Path(chosen)], object())

    def _read(
        self,
        paths: Sequence[Path],
        group: object,  # of the undo step
        unit: Unit | None = None,
        before: str = "",  # result of the packs that were chosen with them
    ) -> None:
        start(
            self.state,
            take_in_packs,
            self.state.project,
            paths,
            unit=unit,
            message="Reading packs",
            on_result=partial(self._taken, group, before),
            key="packs in",
            owner=self,
        )

    def _taken(self, group: object, before: str, taken: TakenIn) -> None:
        self.state.show_added(taken.added, "import packs", group)
        if len(taken.came):
            self.tolerance.setValue(taken.tolerance_nm)
        unit, doubted = self._choose_unit(taken.in_doubt), list(taken.in_doubt)
        if unit is not None:
            taken = replace(taken, in_doubt={})
        text = "\n".join(filter(None, (before, format_taken(taken))))
        came = taken.came.loc[taken.came["new"].astype(bool), ["image", "annotator"]]
        imported = {*came.itertuples(index=False, name=None), *(self._imported if before else ())}
        self._show_result(text, imported)
        self._group = group if self._is_done(group) else None  # None: nothing was added
        self.taken.emit()
        if unit is not None:
            self._read(doubted, group, unit, text)

    def _choose_unit(self, in_doubt: Mapping[Path, str]) -> Unit | None:
        """Ask for the unit of packs; None: they are not imported."""
        if not in_doubt:
            return None
        packs = "\n".join(f"{path.name}: {why}." for path, why in in_doubt.items())
        answer = choose_answer(
            self,
            "Unit of the marks",
            f"{packs}\nWhich unit do the tables have? ImageJ writes nm if the image has a scale.",
            {"nm": "Nanometres", "px": "Pixels"},
        )
        return cast(Unit, answer) if answer else None

    def _show_result(
        self,
        text: str,  # "" hides the result
        imported: Iterable[tuple[str, str]] = (),  # image and annotator of the marks that it names
    ) -> None:
        self._imported, self._group = set(imported), None
        self.result.setText(text)
        self.result.setVisible(bool(text))
