"""Label mode, and a menu that labels the selected clusters."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QVBoxLayout

from ...core import palette
from ...core.tables.cluster_table import NON_CLASS_LABELS
from ..controls.drawing import glyph_icon
from ..controls.forms import ComboBox, new_row, wrapped_label
from ..controls.shortcuts import as_help
from ..viewer.binding import Binding
from .dock import Panel


class Corrections(Panel):
    """Label mode, the number of selected clusters, and their label."""

    follows = ("changed", "project_changed", "selection_changed", "label_mode_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        self._classes: list[str] | None = None
        self.label_mode = QCheckBox("Label mode")
        self.label_mode.setToolTip(
            "Number keys label the selected clusters. Default: on after a classification."
            f"<br>{as_help()}"
        )
        self.label_mode.setChecked(binding.label_mode.on)
        self.label_mode.toggled.connect(self._set_label_mode)
        self.labels = ComboBox()
        self.labels.setToolTip("Set the label of the selected clusters.")
        self.labels.setAccessibleName("Set label of the selection")
        self.labels.activated.connect(self._on_label_chosen)
        self.selected = wrapped_label("Selection", lines=2)
        row = new_row(self.label_mode, (self.labels, 1))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.selected)

    def refresh(self) -> None:
        classes = self.state.classes()
        if classes != self._classes:
            self._classes = classes
            self._fill_labels(classes)
        with QSignalBlocker(self.label_mode):
            self.label_mode.setChecked(self.binding.label_mode.on)
        self.refresh_selection()

    def refresh_selection(self) -> None:
        n = len(self.state.selection)
        self.selected.setText(
            "Click a cluster in the image, or drag around several, to select."
            if n == 0
            else f"{n} cluster{'s' if n > 1 else ''} selected"
        )
        self.labels.setEnabled(n > 0 and self.labels.count() > 1)

    def _fill_labels(self, classes: list[str]) -> None:
        with QSignalBlocker(self.labels):
            self.labels.clear()
            self.labels.addItem("Set label to …")
            for name in [*classes, *NON_CLASS_LABELS] if classes else []:
                icon = glyph_icon(
                    palette.symbol_of(name, classes), palette.colour_of(name, classes)
                )
                self.labels.addItem(icon, name, name)
            if classes:
                self.labels.addItem("the prediction of the model", "")

    def _on_label_chosen(self, index: int) -> None:
        if index > 0:
            self.state.clusters.relabel(self.state.selection, self.labels.itemData(index))
        self.labels.setCurrentIndex(0)

    def _set_label_mode(self, on: bool) -> None:
        self.binding.label_mode.on = on
