"""The dock Annotators: marks of several annotators, their agreement, and the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from napari.layers import Points
from qtpy.QtCore import QModelIndex, QTimer, Signal
from qtpy.QtWidgets import QPushButton, QWidget

from ....atoms.analysis import AtomAnalysis
from ....atoms.marks import Mark
from ....core.errors import AtomicityError
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop
from ....core.text import pluralise
from ....state.annotators import (
    Annotations,
    AnnotatorComparison,
    annotations_in,
    compare,
    consensus_edit,
    measured_sites,
    write_comparison,
)
from ....statistics.annotators.agreement import CONSENSUS
from ....statistics.annotators.annotation_sites import TOLERANCE_NM
from ...controls.forms import (
    CollapsibleSection,
    ComboBox,
    fill_column,
    labelled,
    main_button,
    new_form,
    selectable_label,
    spin_box,
    wrapped_label,
)
from ...controls.line_table import Lines, table_of
from ...controls.questions import confirm, show_error, show_info
from ...controls.refresher import follow
from ...controls.save_dialogs import choose_new_folder
from ...controls.settings import remember
from ...panels.dock import Dock
from ...tasks import start
from ...viewer.binding import Binding
from ...viewer.layers import calibration, compat
from ...viewer.layers.layer_group import ROLE
from .packs import Packs, found_by_model
from .results import Coverage, Results, title
from .text import WHY, dispute_lines

# ---- positions on which annotators or the model disagree, and the consensus as result

_KIND = "disputed position"
_MARK_NM = 0.8
_TAKE = (
    "Replace the atoms of the images by the consensus. Positions with a posterior of 0.25 to 0.75 "
    "are set as uncertain. Asks first; one undo step per image."
)


class Disputes(QWidget):
    """A list of positions, the least certain first; a click shows the position.

    Signals: ``took()`` after the consensus has replaced the atoms of the images.
    """

    HEADERS = ("Image", "Posterior", "Marked by", "Model")
    TOOLTIPS = (
        "Image of the position.",
        "Probability of an atom, from the marks and the accuracy of each annotator.",
        "Annotators with a mark, of those who reviewed the image.",
        "Result of the model at the position.",
    )
    took = Signal()

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding, self.state = binding, binding.state
        self.compared: AnnotatorComparison | None = None
        self.outdated = ""
        self.shown = pd.DataFrame()
        self.why = ComboBox()
        self.why.setAccessibleName("Which places")
        self.why.setToolTip("Positions to list. Default: all with any disagreement.")
        for column, text in WHY.items():
            self.why.addItem(text, column)
        self.why.currentIndexChanged.connect(self._show)
        self.words = wrapped_label("How many places")
        self.lines = Lines(self.HEADERS, self.TOOLTIPS, self)
        self.view = table_of(self.lines, "Places on which people disagree", 8)
        self.view.clicked.connect(self._on_clicked)
        self.view.activated.connect(self._on_clicked)
        self.take_button = QPushButton("Take the consensus")
        self.take_button.clicked.connect(self.take)
        fill_column(
            self, title("Where they disagree"), self.words, self.why, self.view, self.take_button
        )
        self._mark: Points | None = None
        self._marked: pd.Series | None = None
        follow(self, binding.state.current_changed, self._on_current)
        follow(self, binding.current_image.layers_ready, self._show_mark)
        self._waiting: list[tuple[str, dict[int, list[Mark]]]] = []
        self._epoch = self._n_taken = 0
        self._turn = QTimer(self)
        self._turn.setInterval(0)
        self._turn.timeout.connect(self._put_next)
        self.show_comparison(None)

    def show_comparison(self, compared: AnnotatorComparison | None) -> None:
        """List the positions of a comparison."""
        self.compared = compared
        if compared is None:
            self._unmark()
        self.setVisible(compared is not None)
        self.show_outdated("")

    def show_outdated(self, why: str) -> None:
        """Say why the comparison is outdated, whose consensus can't be taken then; "": it isn't."""
        self.outdated, compared = why, self.compared
        several = compared is not None and len(compared.consensus.annotators) > 1
        self.take_button.setEnabled(several and not self.state.read_only and not why)
        self.take_button.setToolTip(why or _TAKE)
        self._show()

    def _show(self, *_: object) -> None:
        table = pd.DataFrame() if self.compared is None else self.compared.disputes
        why = self.why.currentData()
        if why and len(table):
            table = table[table[why]]
        self.shown = table.reset_index(drop=True)
        self.lines.show(dispute_lines(self.shown))
        n = len(table)
        lone = int((table["n_marked"] == 0).sum()) if n else 0
        of_model = f", {lone} of them found only by the model" if lone else ""
        words = (
            f"{pluralise(n, 'position')} with disagreement{of_model}. Click one to centre the view "
            "on it."
            if n
            else "No position matches."
        )
        self.words.setText(f"{words} {self.outdated}".rstrip())
        self.view.setVisible(n > 0)

    # ---- going there
    def _on_clicked(self, index: QModelIndex) -> None:
        self.go_to(self.shown.iloc[index.row()])

    def go_to(self, place: pd.Series) -> None:
        """Centre the view on a position; select the atom there, or mark it if there is none."""
        image = place["image"]
        if image not in self.state.images:
            show_info(f"{image} is not open.")
            return
        here = self._atom_at(place)
        self.state.atoms.select([] if here is None else [(image, here)])
        self._unmark()
        self._marked = place if here is None else None
        self.binding.current_image.bring_into_view(image, place)
        self._show_mark(image)

    def _on_current(self, image: str | None) -> None:
        if self._marked is not None and self._marked["image"] != image:
            self._unmark()

    def _unmark(self) -> None:
        """Remove the mark of a position, which another image must not show."""
        viewer = self.binding.viewer
        if self._mark is not None and viewer is not None and self._mark in viewer.layers:
            viewer.layers.remove(self._mark)
        self._mark = self._marked = None

    def _show_mark(self, image: str) -> None:
        """Mark the position in its image, once that is displayed."""
        place, source = self._marked, self.binding.canvas.source_layer(image)
        if self._mark is not None or place is None or place["image"] != image or source is None:
            return
        point = place[["frame", "y_px", "x_px"]].to_numpy(float)[-source.ndim :]
        self._mark = Points(
            [point],
            size=_MARK_NM / self.state.micrograph(image).calibrated(),
            face_color="transparent",
            border_color="yellow",
            border_width=0.08,
            name=f"{image} {_KIND}",
            metadata={ROLE: {"image": image, "kind": _KIND, "position": 9}},
            **calibration.placement(source),
        )
        layers = self.binding.viewer.layers
        compat.insert_without_activating(layers, len(layers), self._mark)

    def _atom_at(self, place: pd.Series) -> int | None:
        table = self.state.atoms.table(place["image"])
        table = table[table["frame"] == place["frame"]]
        if not len(table) or self.compared is None:
            return None
        step = table[["y_nm", "x_nm"]].to_numpy(float) - place[["y_nm", "x_nm"]].to_numpy(float)
        distance = np.hypot(*step.T)
        nearest = int(np.argmin(distance))
        if distance[nearest] > self.compared.consensus.tolerance_nm:
            return None
        return int(table["atom_id"].iloc[nearest])

    # ---- consensus
    def take(self) -> None:
        """Measure the atoms of the consensus, and replace those of the images, once confirmed."""
        if self.compared is None or not self._confirm_taking(self.compared.annotations):
            return
        if self.outdated:  # found out while the question was open
            show_info(self.outdated)
            return
        images = {image for image, _ in self.compared.annotations.fields.values()}
        start(
            self.state,
            measured_sites,
            self.compared,
            {i: self._micrograph(i) for i in images if i in self.state.images},
            message="Taking the consensus",
            on_result=partial(self._put, images),
            key="consensus",
            owner=self,
        )

    def _micrograph(self, image: str) -> Micrograph:
        """Return an image at the pixel size at which its other atoms were measured."""
        micrograph, atoms = self.state.micrograph(image), self.state.atoms.of(image)
        return micrograph if atoms is None else micrograph.with_pixel_size(atoms.pixel_size_nm)

    def _confirm_taking(self, annotations: Annotations) -> bool:
        n = len({image for image, _ in annotations.shared_fields.values()})
        return not n or confirm(
            self,
            "Take the consensus?",
            f"Replace all atoms of the model and all earlier marks in {pluralise(n, 'image')} by "
            "the consensus? The blind marks of each person stay. Undo (Ctrl+Z) brings back what "
            "was there, image by image, but only until the project is closed.",
        )

    def _put(self, images: set[str], found: dict[str, dict[int, list[Mark]]]) -> None:
        """Apply the consensus, one image per turn of the event loop."""
        self._waiting, self._epoch, self._n_taken = list(found.items()), self.state.epoch, 0
        self._n_found, self._n_left = len(found), len(images - found.keys())
        self._turn.start()

    def _put_next(self) -> None:
        if self.state.epoch != self._epoch:
            self._turn.stop()
        elif self._waiting:
            try:
                self._n_taken += self._put_one(*self._waiting.pop(0))
            except AtomicityError as error:
                self._turn.stop()
                show_error(str(error))
        else:
            self._turn.stop()
            n = self._n_taken
            text = f"was applied in {pluralise(n, 'image')}" if n else "was already applied"
            if not self._n_found:
                text = "is that of two people or more, and none have marked the same image"
            elif self._n_left:
                text += f"; {pluralise(self._n_left, 'image')} without marks of two people left out"
            show_info(f"The consensus {text}.")
            self.took.emit()

    def _put_one(self, image: str, marks: dict[int, list[Mark]]) -> bool:
        edit = consensus_edit(self.state.atoms, image, marks)
        if edit is None:
            return False
        before = self.state.annotator
        # Stored under the name of the consensus instead of the annotator.
        self.state.annotator = CONSENSUS
        try:
            self.state.history.do(edit)
        finally:
            self.state.annotator = before
        return True


BLIND = "Leave blind mode to compare your marks with those of others."
OUTDATED = "{} changed since: compare again."
_EXPORT = (
    "Write agreement.json (statistics), consensus.csv (positions with posterior) and marks.csv "
    "into a folder, as `atomicity consensus` does."
)


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
        self.found: Mapping[str, AtomAnalysis] = {}  # results of the model that were compared
        self.content.setContentsMargins(6, 6, 6, 6)
        self.tolerance = spin_box(0.01, 1.0, TOLERANCE_NM, 3, " nm")
        remember("annotators/tolerance", self.tolerance)
        self.tolerance.valueChanged.connect(self._show_if_outdated)
        self.looked = self.add(Coverage(self.binding))
        self.looked.noted.connect(self.refresh_now)
        self.packs = Packs(self.state, self.tolerance)
        self.packs.taken.connect(self.refresh_now)
        self.packs_part = self.add(CollapsibleSection("Packs for others", self.packs))
        self.add(self.looked.by_image)
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
        self.export_button = self.add(QPushButton("Export…"))
        self.export_button.clicked.connect(self.export)
        self.result = self.add(selectable_label("Written files", plain=True))
        follow(self, self.state.project_changed, self._on_project)
        follow(self, self.state.atoms.changed, self._show_if_outdated)
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

    def _show_result(
        self, found: Mapping[str, AtomAnalysis], compared: AnnotatorComparison
    ) -> None:
        self.found = found
        self._show_comparison(compared)
        self.scroll_to(self.results)

    def _has_marks(self) -> bool:
        return self.annotations is not None and len(self.annotations.looked) > 0

    def _can_compare(self) -> bool:
        return self._has_marks() and not self.state.blind

    def _show_hint(self) -> None:
        changed = self._changed()
        outdated = OUTDATED.format(changed) if changed else ""
        self.hint.setText(self._hint() or outdated)
        self.hint.setVisible(bool(self.hint.text()))
        self.results.show_outdated(outdated)
        if outdated != self.disputes.outdated:
            self.disputes.show_outdated(outdated)
        self.enable(self.export_button, not outdated)
        self.export_button.setToolTip(outdated or _EXPORT)
        self.update_enabled()

    def _show_if_outdated(self) -> None:
        if self.compared is not None:
            self._show_hint()

    def _changed(self) -> str:
        """Return what has changed since the comparison; "" if it is one of all as it is now."""
        compared, now = self.compared, self.annotations
        if compared is None or now is None:
            return ""
        if not _same(compared.annotations, now):
            return "Marks have"
        images = {image for image, _ in now.fields.values()}
        if not _same_atoms(self.found, found_by_model(self.state), images):
            return "Atoms of the model have"
        if self.tolerance.value() != compared.consensus.tolerance_nm:
            return "The largest distance of marks of one atom has"
        return ""

    def _hint(self) -> str:
        if self.state.blind:
            return BLIND
        if self.annotations is None:
            return ""
        if not self._has_marks():
            return "There is nothing to compare yet: mark atoms blind, or import packs."
        return ""

    # ---- actions of the user
    def compare(self) -> None:
        """Merge the marks in a worker."""
        if self.annotations is None:
            return
        found = found_by_model(self.state)
        self.start(
            compare_with_model,
            self.annotations,
            found,
            self.tolerance.value(),
            message="Comparing annotators",
            on_result=partial(self._show_result, found),
            key="compare annotators",
        )

    def export(self) -> None:
        """Write the comparison into a chosen folder."""
        if self.compared is None:
            return
        chosen = choose_new_folder(self, "Folder to make for the comparison", "agreement")
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
        show_info(f"Written: agreement.json, consensus.csv and marks.csv in {folder}")


def _same(one: Annotations, other: Annotations) -> bool:
    """Return whether the marks are equal; those that *Undo* brought back come last."""
    pairs = (one.marks, other.marks), (one.looked, other.looked)
    return all(_sorted(a).equals(_sorted(b)) for a, b in pairs)


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(list(table.columns), ignore_index=True)


def _same_atoms(
    one: Mapping[str, AtomAnalysis], other: Mapping[str, AtomAnalysis], images: set[str]
) -> bool:
    """Return whether the model has the same atoms in these images."""
    pairs = ((one.get(image), other.get(image)) for image in images)
    return all(
        a is b or (a is not None and b is not None and np.array_equal(_places(a), _places(b)))
        for a, b in pairs
    )


def _places(analysis: AtomAnalysis) -> np.ndarray:
    table = analysis.candidates
    found = table.loc[table["confidence"] >= analysis.threshold, ["frame", "y_nm", "x_nm"]]
    return found.to_numpy(float)
