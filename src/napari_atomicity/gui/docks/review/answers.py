"""What is shown in a review, and the answers as buttons, for those who use the mouse."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from ....core.palette import colour_of, symbol_of
from ....core.tables.cluster_table import AGGREGATE, UNKNOWN, format_rows
from ....state.reviewing import Reviewing
from ...controls.drawing import glyph_icon
from ...controls.forms import wrapped_label
from ...viewer.binding import Binding
from ...viewer.clusters.labelling import format_shown

_NONE = "not a cluster"


def format_more(review: Reviewing) -> str:
    """Describe the other measurements of the displayed cluster."""
    image, cluster_id = review.key
    table = review.state.table(image)
    row = table[table["cluster_id"] == cluster_id]
    if not len(row):
        return ""
    counts, others = format_rows(row)
    could = row["prediction_set"].iloc[0]
    words = [
        f"prediction set {could.replace('|', ', ')}" if "|" in could else "",
        counts[0],
        others[0],
        f"{row['diameter_nm'].iloc[0]:.2f} nm",
        "cut by the border" if row["touches_border"].iloc[0] else "",
        "touches another" if row["touches_neighbour"].iloc[0] else "",
    ]
    return "; ".join(w for w in words if w and "nan" not in w)


class Answers(QWidget):
    """Description of the current cluster, and a button per answer, without keyboard focus."""

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding
        self._labels: list[str] = []
        self.buttons: dict[str, QPushButton] = {}
        self._answers: dict[str, QPushButton] = {}
        # The controls stay under the mouse, for a cluster with more to say too.
        self.shown = wrapped_label("Shown", plain=True, bold=True, lines=2)
        self.more = wrapped_label("More", plain=True, lines=3)
        self.more.setAlignment(Qt.AlignmentFlag.AlignTop)
        # Qt adds an indent to the height too, where a text is at the top.
        indent = self.fontMetrics().horizontalAdvance("x") // 2
        for label in (self.shown, self.more):
            label.setIndent(0)
            label.setContentsMargins(indent, 0, 0, 0)
        self._grid = QGridLayout()
        self._grid.setSpacing(3)
        moves = QHBoxLayout()
        moves.setSpacing(3)
        for action, words, key, tooltip in (
            ("back", "◀ Back", "B", "Back to the one before (B or ←)."),
            ("agree", "Agree", "Enter", "The machine is right (Enter or Space)."),
            ("next", "Next ▶", "N", "To the next, without an answer for this one (N or →)."),
            ("unlabel", "Take back", "U", "Take the label of the one that is shown back (U)."),
        ):
            moves.addWidget(self._button(action, 0, words, key, tooltip), int(action == "agree"))
        # It takes the width that the others leave, whatever its label is.
        fixed = QSizePolicy.Policy.Fixed
        self.buttons["agree"].setSizePolicy(QSizePolicy.Policy.Ignored, fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        # Buttons first: texts of another height must not move them between answers.
        layout.addLayout(self._grid)
        layout.addLayout(moves)
        layout.addWidget(self.shown)
        layout.addWidget(self.more)

    def _button(
        self, action: str, argument: int, words: str, key: str, tooltip: str
    ) -> QPushButton:
        button = QPushButton(words)
        button.setToolTip(tooltip)
        button.setAccessibleName(f"{words}, key {key}")
        # The keys stay with the canvas.
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        button.setMinimumWidth(40)
        button.clicked.connect(partial(self._press, key))
        self.buttons[f"{action} {argument}" if action == "label" else action] = button
        return button

    def _press(self, key: str, *_: object) -> None:
        self.binding.label_mode.press(key)

    def _fill(self) -> None:
        classes = self.binding.state.classes()
        labels = [*classes[:9], UNKNOWN, AGGREGATE]
        if labels == self._labels:
            return
        self._labels = labels
        while self._grid.count():
            self._grid.takeAt(0).widget().deleteLater()
        answers = [
            *(("label", i, name, str(i)) for i, name in enumerate(classes[:9], start=1)),
            ("label", 0, UNKNOWN, "0"),
            ("aggregate", 0, AGGREGATE, "A"),
            ("remove", 0, _NONE, "X"),
        ]
        self._answers = {}
        for action, argument, name, key in answers:
            button = self._button(action, argument, f"{key}  {name}", key, f"It is {name} ({key}).")
            if action != "remove":
                button.setIcon(glyph_icon(symbol_of(name, classes), colour_of(name, classes)))
            else:
                button.setToolTip("It is not a cluster: it leaves the table (X).")
            self._answers[name] = button
        # Class names are short; the others are not, and want half of a line or all of it.
        place = 0
        for name, button in self._answers.items():
            wide = 2 if name in classes else 6 if name == _NONE else 3
            if place % 6 + wide > 6:
                place += 6 - place % 6
            self._grid.addWidget(button, place // 6, place % 6, 1, wide)
            place += wide

    def show_review(self, review: Reviewing) -> None:
        """Show the cluster that a review shows."""
        self._fill()
        remark = review.remarks.get(review.key, "")
        # Names of files wrap at their underscores.
        self.shown.setText(format_shown(review).replace("_", "_\N{ZERO WIDTH SPACE}"))
        others = review.others_are_selected
        more = () if others else (remark, format_more(review))
        self.more.setText("\n".join(w for w in more if w))
        predicted = dict.fromkeys(review.predictions().values())
        self.buttons["agree"].setEnabled(bool(predicted))
        self.buttons["agree"].setText(f"✓ {', '.join(predicted)}" if predicted else "Agree")
        self.buttons["unlabel"].setEnabled(others or bool(review.manual_label))
