"""What the comparison of annotators says: figures, tables, one sentence about the model."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ....state.annotators import AnnotatorComparison
from ...controls.collapsible import CollapsibleSection
from ...controls.line_table import Lines, table_of
from .text import effect_lines, f1_table, format_agreement, format_expert, rater_lines

_F1 = (
    "F1 of the marks of two: 1 if all are the same within the tolerance, 0 if none; with its 95 % "
    "interval."
)


class Results(QWidget):
    """Three tables and a few lines; nothing while there is no comparison."""

    RATERS = (
        ("Annotator", "Who."),
        ("Images", "How many he or she has gone through."),
        ("Marks", "How many; of those with a ? he or she was not sure."),
        ("Sensitivity", "Share of the atoms, by the consensus of all, that are marked; with its "
                        "95 % interval."),
        ("False marks", "Share of the marks that are no atom by the consensus of all; with its "
                        "95 % interval."),
    )  # fmt: skip
    EFFECT = (
        ("Whose", "One person's, or the consensus."),
        ("Atoms", "In the images that all have gone through."),
        ("Density / nm⁻²", "Atoms per nm² of image; the interval is that of what people can't "
                           "agree on."),
        ("Nearest / nm", "Mean distance of nearest neighbours; the interval is that of what "
                         "people can't agree on."),
    )  # fmt: skip

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.expert = _words("Is the model as good as one more expert?")
        self.agreement = _words("Agreement")
        self.notes = _words("Notes")
        self.raters = Lines(*zip(*self.RATERS, strict=True), self)
        self.f1 = Lines((), (), self)
        self.effect = Lines(*zip(*self.EFFECT, strict=True), self)
        self.views = [
            table_of(self.raters, "Annotators", 10),
            table_of(self.f1, "F1 of each two", 10),
            table_of(self.effect, "What disagreement does", 10),
        ]
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.titles = [
            title(words)
            for words in (
                "Is the model as good as one more expert?",
                "Who finds how much",
                "F1 of each two",
                "What disagreement does to the result",
            )
        ]
        expert, raters, f1, effect = self.titles
        for widget in (
            expert, self.expert, self.agreement, raters, self.views[0], f1, self.views[1], effect,
            self.views[2], CollapsibleSection("What to know about these figures", self.notes),
        ):  # fmt: skip
            layout.addWidget(widget)
        self.show_comparison(None)

    def show_comparison(self, compared: AnnotatorComparison | None) -> None:
        """Show it, or nothing."""
        self.setVisible(compared is not None)
        if compared is None:
            for lines in (self.raters, self.f1, self.effect):
                lines.show([])
            for words in (self.expert, self.agreement, self.notes):
                words.setText("")
            return
        self.expert.setText(format_expert(compared.beside))
        self.agreement.setText(format_agreement(compared))
        self.raters.show(rater_lines(compared))
        headers, lines = f1_table(compared)
        self.f1.show(lines, headers)
        self.f1.tooltips = [_F1] * len(headers)
        self.effect.show(effect_lines(compared.consensus.effect))
        several = len(lines) > 1
        for widget in (self.titles[2], self.views[1]):
            widget.setVisible(several)
        for widget in (self.titles[3], self.views[2]):
            widget.setVisible(bool(self.effect.lines))
        self.notes.setText("\n".join(f"• {note}" for note in compared.notes))


def _words(name: str) -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setAccessibleName(name)
    return label


def title(words: str) -> QLabel:
    """What a part is about."""
    label = QLabel(words)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    label.setWordWrap(True)
    return label
