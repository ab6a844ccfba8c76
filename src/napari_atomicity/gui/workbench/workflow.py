"""The way through the work with clusters: what is done, and what is next."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtGui import QFont, QFontMetrics
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton

from ..controls.refresher import FollowingWidget
from ..panels.dock_windows import show_dock
from ..viewer.binding import Binding

STEPS = {"Analyse": "Analyse", "Review": "Review", "Export": "Ratios"}
"""Steps in their order, and the dock in which each is done."""
DONE = "✓"
_MARGIN_PX = 4


class WorkflowSteps(FollowingWidget):
    """A button for each step, which opens its dock; the next step is emphasised."""

    follows = ("changed", "images_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.state = binding.state
        self._counts: dict[str, tuple[int, int, int]] = {}  # generation, clusters, reviewed ones
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        self.buttons: dict[str, QPushButton] = {}
        for number, (step, dock) in enumerate(STEPS.items(), start=1):
            if number > 1:
                row.addWidget(QLabel("→"))
            button = self.buttons[step] = QPushButton(f"{number} {step}")
            button.setFlat(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.clicked.connect(partial(show_dock, binding.viewer, dock))
            # Room for the mark of a step that is done, so that nothing moves.
            bold = QFont(button.font())
            bold.setBold(True)
            room = QFontMetrics(bold).horizontalAdvance(f"{number} {step} {DONE}")
            button.setFixedWidth(room + 2 * _MARGIN_PX)
            row.addWidget(button)

    def refresh(self) -> None:
        counts = [self._count(image) for image in self.state.images]
        analysed = [count for count in counts if count is not None]
        clusters, reviewed = (sum(count[i] for count in analysed) for i in (1, 2))
        self._show("Analyse", len(analysed), len(counts), "images are analysed")
        self._show("Review", reviewed, clusters, "clusters are reviewed")
        self.buttons["Export"].setToolTip("Write ratios, tables and a report: open Ratios.")
        # Some clusters are reviewed to know how right the others are: all are too many.
        steps = ["Analyse"] * (len(analysed) < max(len(counts), 1)) + ["Review"] * (reviewed == 0)
        following = [*steps, "Export"][0]
        for step, button in self.buttons.items():
            font = button.font()
            font.setBold(step == following)
            button.setFont(font)
            button.setAccessibleDescription("next step" if step == following else "")

    def _show(self, step: str, done: int, total: int, what: str) -> None:
        """Show how much of a step is done."""
        mark = f" {DONE}" if done == total > 0 else ""
        self.buttons[step].setText(f"{list(STEPS).index(step) + 1} {step}{mark}")
        self.buttons[step].setToolTip(f"{done} of {total} {what}: open {STEPS[step]}.")

    def _count(self, image: str) -> tuple[int, int, int] | None:
        """Count the clusters of an image and those that a person has labelled; None without any."""
        columns = self.state.columns(image)
        if columns is None:
            return None
        generation = self.state.generation(image)
        known = self._counts.get(image)
        if known is None or known[0] != generation:
            labels = columns["label_corrected"]
            known = self._counts[image] = generation, len(labels), int((labels != "").sum())
        return known
