"""Packs: images and empty tables out to people, filled ones in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ....atoms.analysis import AtomAnalysis
from ....atoms.table import concat_atom_tables
from ....core.progress import Progress, Stop
from ....project import Project, ProjectImage
from ....state.annotator_packs import TakenIn, pack_images, take_in_packs
from ....state.annotators import Annotations
from ....state.window_state import WindowState
from ...controls.forms import ComboBox, labelled, new_form
from ...controls.settings import remember
from ...tasks import start
from .text import format_taken, number

PACKS = "Packs (*.zip manifest.json)"
ALL, THIS, NOBODY = "all", "this", "nobody"
_WHICH = {
    ALL: "all images",
    THIS: "this image",
    NOBODY: "images nobody has gone through",
}


def take_in(
    project: Project,
    paths: Sequence[Path],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> tuple[TakenIn, dict[str, int]]:
    """Take packs in, and say which numbers of atoms are free now; for a worker."""
    return take_in_packs(project, paths, progress, stop), project.atoms.free_ids()


def made(
    images: Sequence[ProjectImage],
    folder: Path,
    annotator: str | None,
    analyses: Mapping[str, AtomAnalysis] | None,
    tolerance_nm: float,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Make a pack, with what the model found if there are analyses; for a worker."""
    atoms = None
    if analyses is not None:
        names = {image.name for image in images}
        atoms = concat_atom_tables(a.table for image, a in analyses.items() if image in names)
    return pack_images(images, folder, annotator, atoms, tolerance_nm, progress, stop)


def found_by_model(state: WindowState) -> dict[str, AtomAnalysis]:
    """Image → what the model has found, without what people say of it."""
    book = state.atoms
    known = {image: book.of(image) for image in book.images if not book.outdated(image)}
    return {i: a.analysis for i, a in known.items() if a is not None and a.analysis is not None}


class Packs(QWidget):
    """Which images go out and how; the buttons for out and in; and what came of it.

    Signals: ``taken()`` after packs were read.
    """

    taken = Signal()

    def __init__(
        self, state: WindowState, tolerance: QDoubleSpinBox, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.state, self.tolerance = state, tolerance
        self.said: Annotations | None = None
        self.which = ComboBox()
        for name, words in _WHICH.items():
            self.which.addItem(words, name)
        self.proposals = QCheckBox("With what the model found")
        self.proposals.setToolTip(
            "Whether the tables begin with the atoms that the model found, to be corrected. That "
            "is quicker, but who begins from the model agrees with it too easily: not for judging "
            "it. Default: no."
        )
        self.annotator = QLineEdit()
        self.annotator.setPlaceholderText("anybody")
        self.annotator.setClearButtonEnabled(True)
        remember("annotators/which", self.which)
        remember("annotators/proposals", self.proposals)
        form = new_form()
        labelled(form, "Images", self.which, "Which images go into a pack. Default: all.")
        labelled(
            form, "For", self.annotator,
            "Name of the one person that it is for. Default: anybody; people write their names "
            "into it.",
        )  # fmt: skip
        form.addRow(self.proposals)
        self.export_button = QPushButton("Export pack…")
        self.export_button.setToolTip(
            "Make a folder, and the same as a .zip, with the images, an empty table for each, and "
            "a README: people fill in the tables with any program and send it back."
        )
        self.export_button.clicked.connect(self.export)
        self.import_button = QPushButton("Import packs…")
        self.import_button.setToolTip(
            "Read packs that came back: .zip, or manifest.json in a folder. Images are told by "
            "their content, else by their name. The same pack twice adds nothing."
        )
        self.import_button.clicked.connect(self.take_in)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextFormat(Qt.TextFormat.PlainText)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result.setAccessibleName("What became of the packs")
        self.result.hide()
        row = QHBoxLayout()
        row.addWidget(self.export_button)
        row.addWidget(self.import_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addLayout(row)
        layout.addWidget(self.result)
        self.show_annotations(None)

    def show_annotations(self, said: Annotations | None) -> None:
        """Know who has looked at what, and whether there is a project."""
        self.said = said
        project = self.state.project
        self.export_button.setEnabled(project is not None and not self.state.blind)
        self.import_button.setEnabled(
            project is not None and not self.state.read_only and not self.state.blind
        )

    # ---- out
    def images(self) -> list[str]:
        """Those that are chosen."""
        which, project = self.which.currentData(), self.state.project
        names = [] if project is None else project.names
        if which == THIS:
            return [name for name in names if name == self.state.current]
        if which == NOBODY and self.said is not None:
            seen = set(self.said.counts["image"])
            return [name for name in names if name not in seen]
        return names

    def export(self) -> None:
        """Ask for a folder and make the pack."""
        project, names = self.state.project, set(self.images())
        if project is None:
            return
        if not names:
            self._say("There is no such image: choose others.")
            return
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Folder to make", str(project.path.parent / "atoms-pack"), "Folder (*)"
        )
        if not chosen:
            return
        start(
            self.state,
            made,
            [image for image in project.images(counts=False) if image.name in names],
            Path(chosen),
            self.annotator.text().strip() or None,
            found_by_model(self.state) if self.proposals.isChecked() else None,
            self.tolerance.value(),
            message="Making a pack",
            on_result=lambda archive: self._exported(archive, len(names)),
            key="pack",
            owner=self,
        )

    def _exported(self, archive: Path, n: int) -> None:
        folder = archive.with_suffix("")
        self._say(
            f"{number(n, 'image')} in {folder} and {archive.name}. Send either; README.txt in it "
            "says what to do."
        )

    # ---- in
    def take_in(self) -> None:
        """Ask for packs and read them."""
        project = self.state.project
        if project is None:
            return
        chosen, _ = QFileDialog.getOpenFileNames(
            self, "Import packs", str(project.path.parent), PACKS
        )
        paths = [Path(path) for path in chosen]
        paths = [path.parent if path.name == "manifest.json" else path for path in paths]
        if not paths:
            return
        start(
            self.state,
            take_in,
            project,
            paths,
            message="Reading packs",
            on_result=self._taken,
            key="packs in",
            owner=self,
        )

    def _taken(self, result: tuple[TakenIn, dict[str, int]]) -> None:
        taken, free = result
        self.state.atoms.skip_to(free)
        if len(taken.came):
            self.tolerance.setValue(taken.tolerance_nm)
        self._say(format_taken(taken))
        self.taken.emit()

    def _say(self, words: str) -> None:
        self.result.setText(words)
        self.result.show()
