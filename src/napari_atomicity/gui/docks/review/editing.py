"""A row of buttons for what a person does to clusters in the image; the keys do the same."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy

from ....state.keys import ids_of_image
from ...controls.refresher import FollowingWidget
from ...controls.shortcuts import LABEL_MODE, format_key
from ...viewer.binding import Binding


class Editing(FollowingWidget):
    """Add, split, merge, exclude."""

    follows = ("changed", "selection_changed", "current_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.binding = binding
        keys = {s.name: format_key(s.keys[0]) for s in LABEL_MODE}
        self.buttons: dict[str, QPushButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for action, text, tooltip, act in (
            (
                "add",
                "Add",
                "Click at a missed cluster. It is outlined, measured and classified.",
                binding.add_by_clicking,
            ),
            (
                "split",
                "Split",
                "Split each selected cluster into two.",
                binding.split_selected,
            ),
            ("merge", "Merge", "Merge the selected clusters into one.", binding.merge_selected),
            (
                "exclude",
                "Exclude…",
                "Draw around contamination or vacuum to exclude clusters in it.",
                binding.exclude_regions,
            ),
        ):
            button = QPushButton(text)
            button.setToolTip(f"{tooltip} ({keys[action]})")
            button.setAccessibleName(text)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            button.clicked.connect(act)
            row.addWidget(button)
            self.buttons[action] = button

    def refresh(self) -> None:
        state = self.binding.state
        may = state.analysis(state.current or "") is not None and not state.read_only
        here = ids_of_image(state.selection, state.current)
        for action, possible in {
            "add": may and not state.blind,
            "exclude": may and not state.blind,
            "split": may and not state.blind and len(here) > 0,
            "merge": may and not state.blind and len(here) > 1,
        }.items():
            self.buttons[action].setEnabled(possible)
