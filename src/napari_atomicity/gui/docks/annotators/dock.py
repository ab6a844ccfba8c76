"""The dock Annotators: marks of several annotators, their agreement, and the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtpy.QtWidgets import QPushButton

from ....atoms.analysis import AtomAnalysis
from ....core.progress import Progress, Stop
from ....state.annotators import Annotations, AnnotatorComparison, annotations_in, compare
from ....state.consensus_marks import write_comparison
from ....statistics.annotation_sites import TOLERANCE_NM
from ...controls.collapsible import CollapsibleSection
from ...controls.connections import follow
from ...controls.forms import (
    labelled,
    main_button,
    new_form,
    selectable_label,
    spin_box,
    wrapped_label,
)
from ...controls.save_dialogs import ask_for_new_folder
from ...controls.settings import remember
from ...panels.dock import Dock
from .coverage import Coverage
from .disputes import Disputes
from .packs import Packs, found_by_model
from .results import Results

BLIND = "Leave blind mode to compare your marks with those of others."


def compare_with_model(
    annotations: Annotations,
    analyses: Mapping[str, AtomAnalysis],
    tolerance_nm: float,  # largest distance of marks of one atom
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> AnnotatorComparison:
    """Compare annotators with each other and with the model, in a worker."""
    atoms = {image: analysis.table for image, analysis in analyses.items()}
    return compare(annotations, atoms, tolerance_nm, progress=progress, stop=stop)


class Annotators(Dock):
    """Reviewed images, packs, the comparison, and disputed positions."""

    follows = ("changed", "images_changed", "annotator_changed", "project_changed")
    # Delayed, because the whole log is read.
    delay_ms = 400

    def build(self) -> None:
        self.annotations: Annotations | None = None
        self.compared: AnnotatorComparison | None = None
        self.content.setContentsMargins(6, 6, 6, 6)
        self.tolerance = spin_box(0.01, 1.0, TOLERANCE_NM, 3, " nm")
        remember("annotators/tolerance", self.tolerance)
        self.looked = self.add(Coverage(self.binding))
        self.looked.noted.connect(self.refresh_now)
        self.packs = Packs(self.state, self.tolerance)
        self.packs.taken.connect(self.refresh_now)
        self.packs_part = self.add(CollapsibleSection("Packs for others", self.packs))
        form = new_form()
        labelled(
            form, "One atom within", self.tolerance,
            "Largest distance in nm between marks of one atom. Default: "
            f"{TOLERANCE_NM:g} nm, less than half the nearest-neighbour distance in platinum.",
        )  # fmt: skip
        self.content.addLayout(form)
        self.button = self.add_button(
            main_button("Compare", self),
            "Merge the marks of all annotators: agreement, consensus, and whether the model is as "
            "good as one more annotator.",
            self.compare,
            enabled_when=self._can_compare,
        )
        self.hint = self.add(wrapped_label("Hint", lines=2))
        self.results = self.add(Results())
        self.disputes = self.add(Disputes(self.binding))
        self.export_button = self.add(
            QPushButton("Export…"),
            "Write agreement.json (statistics), consensus.csv (positions with posterior) and "
            "marks.csv into a folder, as `atomicity consensus` does.",
        )
        self.export_button.clicked.connect(self.export)
        self.result = self.add(selectable_label("Written files", plain=True))
        follow(self, self.state.project_changed, self._on_project)
        self._show(None)

    # ---- showing
    def _on_project(self) -> None:
        """Hide the marks of others at once, since blind mode may have begun."""
        if self.annotations is not None:
            self._show(None)

    def refresh(self) -> None:
        if self.state.project is None:
            self._show(None)
            return
        self.start(annotations_in, self.state.project, on_result=self._show, key="annotations")

    def _show(self, annotations: Annotations | None) -> None:
        self.annotations = annotations
        self.looked.show_annotations(annotations)
        self.packs.show_annotations(annotations)
        if annotations is None or self.state.blind:
            self._show_comparison(None)
        self._show_hint()

    def _show_comparison(self, compared: AnnotatorComparison | None) -> None:
        self.compared = compared
        self.results.show_comparison(compared)
        self.disputes.show_comparison(compared)
        self.export_button.setVisible(compared is not None)
        self.result.hide()
        self._show_hint()

    def _show_result(self, compared: AnnotatorComparison) -> None:
        self._show_comparison(compared)
        self.scroll_to(self.results)

    def _has_marks(self) -> bool:
        return self.annotations is not None and len(self.annotations.looked) > 0

    def _can_compare(self) -> bool:
        return self._has_marks() and not self.state.blind

    def _show_hint(self) -> None:
        self.hint.setText(self._hint())
        self.hint.setVisible(bool(self.hint.text()))
        self.update_enabled()

    def _hint(self) -> str:
        if self.state.blind:
            return BLIND
        if self.annotations is None:
            return ""
        if not self._has_marks():
            return "There is nothing to compare yet: mark atoms blind, or import packs."
        if self.compared is not None and not _same(self.compared.annotations, self.annotations):
            return "Marks have changed since: compare again."
        return ""

    # ---- actions of the user
    def compare(self) -> None:
        """Merge the marks in a worker."""
        if self.annotations is None:
            return
        self.start(
            compare_with_model,
            self.annotations,
            found_by_model(self.state),
            self.tolerance.value(),
            message="Comparing annotators",
            on_result=self._show_result,
            key="compare annotators",
        )

    def export(self) -> None:
        """Write the comparison into a chosen folder."""
        if self.compared is None:
            return
        chosen = ask_for_new_folder(self, "Folder to make for the comparison", "agreement")
        if chosen is None:
            return
        self.start(
            write_comparison,
            self.compared,
            chosen,
            message="Writing the comparison",
            on_result=self._written,
            key="write comparison",
        )

    def _written(self, folder: Path) -> None:
        self.result.setText(f"Written: agreement.json, consensus.csv and marks.csv in {folder}")
        self.result.show()


def _same(one: Annotations, other: Annotations) -> bool:
    return one.marks.equals(other.marks) and one.looked.equals(other.looked)
