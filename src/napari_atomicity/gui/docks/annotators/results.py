"""Results of the comparison of annotators: statistics, tables, and the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from qtpy.QtCore import QModelIndex, QSignalBlocker, Signal
from qtpy.QtWidgets import QLabel, QMenu, QPushButton, QVBoxLayout, QWidget

from ....state.annotator_packs import remove_annotator, set_reviewed
from ....state.annotators import Annotations, AnnotatorComparison
from ...controls.forms import (
    CollapsibleSection,
    fill_column,
    new_row,
    selectable_label,
    wrapped_label,
)
from ...controls.line_table import Lines, table_of
from ...controls.questions import attempt, confirm
from ...controls.refresher import FollowingWidget, follow
from ...panels.forms import ReviewedButton
from ...viewer.binding import Binding
from .text import (
    coverage_lines,
    effect_lines,
    f1_table,
    format_agreement,
    format_annotators,
    format_effect,
    format_expert,
    rater_lines,
)

_F1 = (
    "F1 of the marks of two annotators: 1 if all marks match within the tolerance, 0 without any "
    "match; with its 95 % interval. On the diagonal that of one person with themselves, where "
    "images were marked twice."
)


class Results(QWidget):
    """Three tables and a few lines; hidden without a comparison."""

    RATERS = (
        ("Annotator", "Name of the annotator."),
        ("Images", "Number of reviewed images."),
        ("Marks", "Number of marks, uncertain ones with a ?."),
        ("Sensitivity", "Share of the atoms of the consensus that are marked, with its "
                        "95 % interval."),
        ("False marks", "Share of the marks that are no atom in the consensus, with its "
                        "95 % interval."),
    )  # fmt: skip
    EFFECT = (
        ("Annotator", "One annotator, or the consensus."),
        ("Atoms", "Atoms in the images reviewed by all annotators."),
        # Dispersion gives atoms per nm² of support, and distances corrected for edges.
        ("Per nm² of image", "Atoms per nm² of image, not of support; the interval reflects "
                             "disagreement between annotators."),
        ("Nearest mark / nm", "Mean distance of nearest neighbours, not corrected for edges; the "
                              "interval reflects disagreement between annotators."),
    )  # fmt: skip

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.outdated = wrapped_label("Outdated", bold=True)
        self.warnings = selectable_label("Warnings", plain=True)
        self.expert = selectable_label("Is the model as good as one more expert?", plain=True)
        self.agreement = selectable_label("Agreement", plain=True)
        self.notes = selectable_label("Notes", plain=True)
        self.raters = _lines(self.RATERS, self)
        self.f1 = Lines((), (), self)
        self.effect = _lines(self.EFFECT, self)
        self.views = [
            table_of(self.raters, "Annotators", 10),
            table_of(self.f1, "Pairwise F1", 10),
            table_of(self.effect, "Effect of disagreement", 10),
        ]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.titles = [
            title(text)
            for text in (
                "Is the model as good as one more expert?",
                "Performance of each annotator",
                "Pairwise F1",
                "Effect of disagreement on the result",
            )
        ]
        expert, raters, f1, effect = self.titles
        for widget in (
            self.outdated, self.warnings, expert, self.expert, self.agreement, raters,
            self.views[0], f1, self.views[1], effect, self.views[2],
            CollapsibleSection("Notes on these statistics", self.notes),
        ):  # fmt: skip
            layout.addWidget(widget)
        self.show_comparison(None)

    def show_comparison(self, compared: AnnotatorComparison | None) -> None:
        """Show a comparison, or hide the part."""
        self.setVisible(compared is not None)
        if compared is None:
            for lines in (self.raters, self.f1, self.effect):
                lines.show([])
            for label in (self.expert, self.agreement, self.notes):
                label.setText("")
            return
        warnings = compared.warnings
        self.warnings.setText("\n".join(f"⚠ {warning}" for warning in warnings))
        self.warnings.setVisible(bool(warnings))
        self.expert.setText(format_expert(compared.beside))
        self.agreement.setText(format_agreement(compared))
        self.raters.show(rater_lines(compared))
        headers, scores = f1_table(compared)
        self.f1.show(scores, headers)
        self.f1.tooltips = [_F1] * len(headers)
        self.titles[3].setText(format_effect(compared))
        self.effect.show(effect_lines(compared.consensus.effect))
        several = len(scores) > 1 or bool(compared.with_themselves)
        for widget in (self.titles[2], self.views[1]):
            widget.setVisible(several)
        self.views[2].setVisible(bool(self.effect.lines))
        self.notes.setText("\n".join(f"• {note}" for note in compared.notes))

    def show_outdated(self, why: str) -> None:
        """Say why the comparison is outdated; "": it isn't."""
        self.outdated.setText(why)
        self.outdated.setVisible(bool(why))


def title(text: str) -> QLabel:
    """Return the bold title of a part."""
    label = wrapped_label(bold=True)
    label.setText(text)
    return label


def _lines(columns: Sequence[tuple[str, str]], parent: QWidget) -> Lines:
    """Make the model of a table from pairs of header and tooltip."""
    headers, tooltips = zip(*columns, strict=True)
    return Lines(headers, tooltips, parent)


# ---- how much each person has seen
HOW = "To mark blind: enter your name and tick Blind, both at the top, then click the atoms."
BLIND = "Blind: click the atoms in the image."
_HIDDEN = (
    "In blind mode, results of the model and of other annotators are hidden, and your marks are "
    "stored separately."
)
NO_PROJECT = "Open a folder or a project first: marks are kept in its file."


class Coverage(FollowingWidget):
    """Marking, which images are reviewed, and a table of images and annotators.

    Signals: ``noted()`` after an image was set as reviewed or not reviewed.
    """

    follows = ("current_changed", "annotator_changed", "project_changed")
    noted = Signal()

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.binding, self.state = binding, binding.state
        self.annotations: Annotations | None = None
        self._known = False
        self.how = wrapped_label("How to mark atoms", lines=2)
        self.how.setToolTip(_HIDDEN)
        self.mark_button = QPushButton("Mark atoms")
        self.mark_button.setCheckable(True)
        self.mark_button.setToolTip(
            "Click in the image to mark an atom, drag to move it, press Delete to remove it and U "
            "to set it as uncertain. Default: off."
        )
        self.mark_button.toggled.connect(self._on_mark)
        self.done_button = ReviewedButton()
        self.done_button.clicked.connect(self.note)
        self.words = wrapped_label("Images reviewed by each annotator", plain=True, lines=2)
        self.lines = Lines((), (), self)
        self.view = table_of(self.lines, "Images and annotators", 8)
        self.view.setToolTip(
            "Number of atoms marked by each annotator, uncertain ones with a ?. A dash: not "
            "reviewed. Click to show the image."
        )
        self.remove_button = QPushButton("Remove marks of")
        self.remove_button.setToolTip(
            "Remove all blind marks of one annotator, such as those of a wrong pack. Undo (Ctrl+Z) "
            "brings them back, and a pack can be imported again."
        )
        self.remove_button.setMenu(QMenu(self.remove_button))
        self.view.clicked.connect(self._on_clicked)
        self.view.activated.connect(self._on_clicked)
        row = new_row(self.mark_button, (self.done_button, 1))
        fill_column(self, self.how, row, self.words)
        self.by_image = QWidget(self)  # the dock has it below what must not move when it appears
        fill_column(self.by_image, self.view, self.remove_button)
        follow(self, binding.atoms.marking_changed, self._show_mark)

    def show_annotations(self, annotations: Annotations | None) -> None:
        """Show the annotations; in blind mode only those of the current annotator."""
        self.annotations, state = annotations, self.state
        names = [] if annotations is None else annotations.annotators
        if state.blind:
            names = [name for name in names if name == state.annotator]
        self.how.setText(BLIND if state.blind else HOW)
        if annotations is None or state.project is None:
            self.words.setText("" if state.project is not None else NO_PROJECT)
            self.lines.show([])
        else:
            whom = f" by {state.annotator}" if state.blind else ""
            words = format_annotators(annotations, names)
            self.words.setText(words or f"No image has been reviewed{whom} yet.")
            images = state.project.names
            self.lines.show(
                coverage_lines(annotations, images, names) if names else [], ["Image", *names]
            )
        self.by_image.setVisible(bool(self.lines.lines))
        menu = self.remove_button.menu()
        menu.clear()
        for name in names:
            menu.addAction(name.replace("&", "&&"), partial(self._remove, name))
        self.remove_button.setVisible(bool(names) and not state.blind and not state.read_only)
        self.refresh()

    def refresh(self) -> None:
        state, image = self.state, self.state.current
        here = state.project is not None and image is not None and state.project.has(image)
        counts = None if self.annotations is None else self.annotations.counts
        own = pd.Series([], dtype=int)
        if counts is not None:
            mine = (counts["image"] == image) & (counts["annotator"] == state.annotator)
            own = counts.loc[mine, "marks"]
        self._known = len(own) > 0
        n = int(own.iloc[0]) if self._known else None
        self.done_button.show_marks(n, state.blind, here and not state.read_only)
        self.mark_button.setEnabled(image is not None and not state.read_only)

    def note(self) -> None:
        """Set the current image as reviewed, or as not reviewed."""
        attempt(lambda: set_reviewed(self.state, not self._known))
        self.noted.emit()

    def _remove(self, annotator: str) -> None:
        question = (
            f"Remove all blind marks of {annotator}? Undo (Ctrl+Z) brings them back, but only "
            "until Blind is changed or the project is closed."
        )
        if confirm(self, "Remove the marks?", question):
            attempt(lambda: remove_annotator(self.state, annotator))
            self.noted.emit()

    def _on_mark(self, on: bool) -> None:
        self.binding.atoms.marking = on
        self._show_mark(self.binding.atoms.marking)

    def _show_mark(self, on: bool) -> None:
        with QSignalBlocker(self.mark_button):
            self.mark_button.setChecked(on)

    def _on_clicked(self, index: QModelIndex) -> None:
        image = self.lines.lines[index.row()][0]
        if image in self.state.images:
            self.state.current = image
