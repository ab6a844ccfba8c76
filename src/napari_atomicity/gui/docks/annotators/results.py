"""Results of the comparison of annotators: statistics, tables, and the model."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ....state.annotators import AnnotatorComparison
from ...controls.forms import CollapsibleSection, selectable_label, wrapped_label
from ...controls.line_table import Lines, table_of
from .text import effect_lines, f1_table, format_agreement, format_expert, rater_lines

_F1 = (
    "F1 of the marks of two annotators: 1 if all marks match within the tolerance, 0 without any "
    "match; with its 95 % interval."
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
        ("Density / nm⁻²", "Atoms per nm² of image; the interval reflects disagreement between "
                           "annotators."),
        ("Nearest / nm", "Mean distance of nearest neighbours; the interval reflects "
                         "disagreement between annotators."),
    )  # fmt: skip

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
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
            self.warnings, expert, self.expert, self.agreement, raters, self.views[0], f1,
            self.views[1], effect, self.views[2],
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
        warnings = compared.consensus.warnings
        self.warnings.setText("\n".join(f"⚠ {warning}" for warning in warnings))
        self.warnings.setVisible(bool(warnings))
        self.expert.setText(format_expert(compared.beside))
        self.agreement.setText(format_agreement(compared))
        self.raters.show(rater_lines(compared))
        headers, scores = f1_table(compared)
        self.f1.show(scores, headers)
        self.f1.tooltips = [_F1] * len(headers)
        self.effect.show(effect_lines(compared.consensus.effect))
        several = len(scores) > 1
        for widget in (self.titles[2], self.views[1]):
            widget.setVisible(several)
        for widget in (self.titles[3], self.views[2]):
            widget.setVisible(bool(self.effect.lines))
        self.notes.setText("\n".join(f"• {note}" for note in compared.notes))


def title(text: str) -> QLabel:
    """Return the bold title of a part."""
    label = wrapped_label(bold=True)
    label.setText(text)
    return label


def _lines(columns: Sequence[tuple[str, str]], parent: QWidget) -> Lines:
    """Make the model of a table from pairs of header and tooltip."""
    headers, tooltips = zip(*columns, strict=True)
    return Lines(headers, tooltips, parent)
