"""The dock Annotators: marks of several annotators, their agreement, and the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from napari.viewer import Viewer
from qtpy.QtCore import Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QLabel, QPushButton, QVBoxLayout, QWidget

from ....atoms.analysis import AtomAnalysis
from ....core.progress import Progress, Stop
from ....state.annotators import Annotations, AnnotatorComparison, annotations_in, compare
from ....state.consensus_marks import write_comparison
from ....state.window_state import Status
from ....statistics.annotation_sites import TOLERANCE_NM
from ...controls.collapsible import CollapsibleSection
from ...controls.connections import follow, follow_soon
from ...controls.forms import in_scroll_area, labelled, main_button, new_form, spin_box
from ...controls.settings import remember, settings
from ...panels.forms import TaskBar, busy
from ...tasks import start
from ...viewer.binding import binding_of
from .coverage import Coverage
from .disputes import Disputes
from .packs import Packs, found_by_model
from .results import Results

FOLDER = "annotators/folder"
"""Key of the setting that stores the folder of the last export."""
BLIND = "Leave blind mode to compare your marks with those of others."
# Delayed, because the whole log is read.
_DELAY_MS = 400


def compare_with_model(
    annotations: Annotations,
    analyses: Mapping[str, AtomAnalysis],
    tolerance_nm: float,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AnnotatorComparison:
    """Compare annotators with each other and with the model, in a worker.

    Parameters
    ----------
    annotations : Annotations
        The marks and reviewed images.
    analyses : mapping of str to AtomAnalysis
        Results of the model by image.
    tolerance_nm : float
        Largest distance of marks of one atom.
    progress, stop : callable, optional
        See `core.progress`.

    Returns
    -------
    AnnotatorComparison
    """
    atoms = {image: analysis.table for image, analysis in analyses.items()}
    return compare(annotations, atoms, tolerance_nm, progress=progress, stop=stop)


class Annotators(QWidget):
    """Reviewed images, packs, the comparison, and disputed positions."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state = state = self.binding.state
        self.annotations: Annotations | None = None
        self.compared: AnnotatorComparison | None = None
        self._build()
        follow(self, state.project_changed, self._on_project)
        follow_soon(
            self,
            state.changed,
            state.images_changed,
            state.annotator_changed,
            slot=self._later,
            delay_ms=_DELAY_MS,
        )
        follow(self, state.status_changed, self._on_status)
        self._show(None)

    def _build(self) -> None:
        self.tolerance = spin_box(0.01, 1.0, TOLERANCE_NM, 3, " nm")
        remember("annotators/tolerance", self.tolerance)
        self.looked = Coverage(self.binding)
        self.looked.noted.connect(self._update)
        self.packs = Packs(self.state, self.tolerance)
        self.packs.taken.connect(self._update)
        self.packs_part = CollapsibleSection("Packs for others", self.packs)
        form = new_form()
        labelled(
            form, "One atom within", self.tolerance,
            "Largest distance in nm between marks of one atom. Default: "
            f"{TOLERANCE_NM:g} nm, less than half the nearest-neighbour distance in platinum.",
        )  # fmt: skip
        self.button = main_button("Compare", self)
        self.button.setToolTip(
            "Merge the marks of all annotators: agreement, consensus, and whether the model is as "
            "good as one more annotator."
        )
        self.button.clicked.connect(self.compare)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setAccessibleName("Hint")
        self.task_bar = TaskBar(self.state)
        follow(self, self.state.status_changed, self.task_bar.show_status)
        self.results = Results()
        self.disputes = Disputes(self.binding)
        self.export_button = QPushButton("Export…")
        self.export_button.setToolTip(
            "Write agreement.json (statistics), consensus.csv (positions with posterior) and "
            "marks.csv into a folder, as `atomicity consensus` does."
        )
        self.export_button.clicked.connect(self.export)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextFormat(Qt.TextFormat.PlainText)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.result.setAccessibleName("Written files")

        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.looked)
        layout.addWidget(self.packs_part)
        layout.addLayout(form)
        for widget in (
            self.button, self.hint, self.task_bar, self.results, self.disputes, self.export_button,
            self.result,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addStretch(1)
        in_scroll_area(content, self)

    # ---- following
    def _on_project(self) -> None:
        """At once: blind, nobody should see for a moment longer what others say."""
        self._show(None)
        self._later()

    def _later(self) -> None:
        if self.isVisible():
            self._update()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._update()

    def _update(self) -> None:
        if self.state.project is None:
            self._show(None)
            return
        start(
            self.state,
            annotations_in,
            self.state.project,
            on_result=self._show,
            key="annotations",
            owner=self,
        )

    def _on_status(self, status: Status) -> None:
        self._enable()

    # ---- showing
    def _show(self, annotations: Annotations | None) -> None:
        self.annotations = annotations
        self.looked.show_annotations(annotations)
        self.packs.show_annotations(annotations)
        if annotations is None or self.state.blind:
            self._show_comparison(None)
        self._enable()

    def _show_comparison(self, compared: AnnotatorComparison | None) -> None:
        self.compared = compared
        self.results.show_comparison(compared)
        self.disputes.show_comparison(compared)
        self.export_button.setVisible(compared is not None)
        self.result.hide()
        self._enable()

    def _enable(self) -> None:
        there = self.annotations is not None and len(self.annotations.looked) > 0
        self.button.setEnabled(there and not self.state.blind and not busy(self.state))
        self.hint.setText(self._hint(there))
        self.hint.setVisible(bool(self.hint.text()))

    def _hint(self, there: bool) -> str:
        if self.annotations is None:
            return ""
        if self.state.blind:
            return BLIND
        if not there:
            return "There is nothing to compare yet: mark atoms blind, or import packs."
        if self.compared is not None and not _same(self.compared.annotations, self.annotations):
            return "Marks have changed since: compare again."
        return ""

    # ---- actions of the user
    def compare(self) -> None:
        """Merge the marks in a worker."""
        if self.annotations is None:
            return
        start(
            self.state,
            compare_with_model,
            self.annotations,
            found_by_model(self.state),
            self.tolerance.value(),
            message="Comparing annotators",
            on_result=self._show_comparison,
            key="compare annotators",
            owner=self,
        )

    def export(self) -> None:
        """Write the comparison into a chosen folder."""
        if self.compared is None:
            return
        chosen = QFileDialog.getExistingDirectory(
            self, "Folder for the comparison", str(settings().value(FOLDER) or "")
        )
        if not chosen:
            return
        settings().setValue(FOLDER, chosen)
        start(
            self.state,
            write_comparison,
            self.compared,
            Path(chosen),
            message="Writing the comparison",
            on_result=self._written,
            key="write comparison",
            owner=self,
        )

    def _written(self, folder: Path) -> None:
        self.result.setText(f"Written: agreement.json, consensus.csv and marks.csv in {folder}")
        self.result.show()


def _same(one: Annotations, other: Annotations) -> bool:
    return one.marks.equals(other.marks) and one.looked.equals(other.looked)
