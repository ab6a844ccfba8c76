"""The dock Gallery: the patches of all clusters, to sort, select and label many at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QWidget,
)

from ...core.tables.cluster_table import AGGREGATE, Key
from ..controls.cluster_rows import in_numbers, label_order
from ..controls.forms import ComboBox, Slider, new_row
from ..controls.questions import attempt
from ..controls.settings import remember, settings
from ..controls.shortcuts import GALLERY, Shortcut, as_table
from ..gallery.model import OVERLAYS, GalleryModel
from ..gallery.order import (
    ANY_LABEL,
    GROUPINGS,
    NO_LABEL,
    OF_MODEL,
    SORTINGS,
    STATES,
    GalleryOrder,
)
from ..gallery.view import SIDES_PX, USUAL_SIDE_PX, GalleryView
from ..panels.dock import RowsDock
from ..viewer.clusters.label_actions import numbered_label
from ..viewer.layers.status_line import show_message

EMPTY = "Analyse an image first: its clusters appear here."
NOTHING_FITS = "No cluster fits the filter."
_CHOICES: dict[str, dict[str, str]] = {
    "overlay": {name: overlay.tooltip for name, overlay in OVERLAYS.items()},
    "group": dict.fromkeys(GROUPINGS, ""),
    "sort": {name: sorting.tooltip for name, sorting in SORTINGS.items()},
    "state": {name: state.tooltip for name, state in STATES.items()},
}
"""Combo boxes with their entries and the tooltips of these."""
_OF_MODEL = OF_MODEL | {name for name, overlay in OVERLAYS.items() if overlay.with_map}


class Gallery(RowsDock):
    """Tiles of all clusters, linked to the selection of the window."""

    # ---- the form
    def build(self) -> None:
        super().build()
        self.model = GalleryModel(self.state, self)
        form = self._new_form()
        self.sort_again_button.setToolTip(
            "Tiles stay in place when you label them. Sort again moves every tile to its current "
            "position and group."
        )
        bottom = new_row((self.note, 1), self.sort_again_button)

        self.view = GalleryView(self.model)
        self.view.side = self.size_slider.value()
        self.content.addLayout(form)
        self.content.addWidget(self.view, 1)
        self.content.addWidget(self.message, 1)
        self.content.addLayout(bottom)
        self._connect()
        self._on_overlay()

    def _new_form(self) -> QGridLayout:
        self._blind = False
        self._combos = {name: _filled(ComboBox(), entries) for name, entries in _CHOICES.items()}
        self.overlay_combo, self.group_combo = self._combos["overlay"], self._combos["group"]
        self.sort_combo, self.state_combo = self._combos["sort"], self._combos["state"]
        self.label_combo = ComboBox()
        self.label_combo.addItem(ANY_LABEL, None)
        for name in ("overlay", "group", "sort"):
            remember(f"gallery/{name}", self._combos[name])
        self._build_size_slider()
        self._build_descending_button()
        form = QGridLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setColumnStretch(1, 1)
        form.setColumnStretch(3, 1)
        _field(form, 0, 0, "Show", self.overlay_combo,
               "Content of the tiles: the patch, raw or with local contrast normalisation (LCN), "
               "with or without its class map. Default: raw.")  # fmt: skip
        _field(form, 0, 2, "Size", self.size_slider,
               f"Edge of a tile in pixels of the screen. Default: {USUAL_SIDE_PX}.")  # fmt: skip
        _field(form, 1, 0, "Group", self.group_combo,
               "Property that groups the tiles. Click a header to select its group, without tiles "
               "that no longer match. Default: label.")  # fmt: skip
        sort = QHBoxLayout()
        sort.setSpacing(2)
        sort.addWidget(self.sort_combo, 1)
        sort.addWidget(self.descending_button)
        _field(form, 1, 2, "Sort", self.sort_combo, "", sort)
        self._explain_sort()
        _field(form, 2, 0, "Label", self.label_combo,
               f"Show only the clusters with this label. Default: {ANY_LABEL}.")  # fmt: skip
        _field(form, 2, 2, "State", self.state_combo, "")
        self._explain_state()
        return form

    def _build_size_slider(self) -> None:
        self.size_slider = Slider()
        self.size_slider.setRange(*SIDES_PX)
        self.size_slider.setSingleStep(8)
        self.size_slider.setPageStep(24)
        self.size_slider.setMinimumWidth(60)
        stored = str(settings().value("gallery/size"))
        self.size_slider.setValue(int(stored) if stored.isdecimal() else USUAL_SIDE_PX)

    def _build_descending_button(self) -> None:
        self.descending_button = QPushButton()
        self.descending_button.setCheckable(True)
        self.descending_button.setText("↑")
        self.descending_button.setFixedWidth(round(2.2 * self.fontMetrics().height()))
        self.descending_button.setToolTip(
            "Sort in descending order. Missing values always come last. Default: off."
        )
        self.descending_button.setAccessibleName("The largest first")

    def _connect(self) -> None:
        self.overlay_combo.currentIndexChanged.connect(self._on_overlay)
        self.size_slider.valueChanged.connect(self._on_size)
        for combo in (self.group_combo, self.sort_combo, self.state_combo, self.label_combo):
            combo.currentIndexChanged.connect(self.sort)
        self.sort_combo.currentIndexChanged.connect(self._explain_sort)
        self.state_combo.currentIndexChanged.connect(self._explain_state)
        self.descending_button.toggled.connect(self._on_descending)
        self._connect_view()
        self.view.shortcut_pressed.connect(self._on_shortcut)

    def _explain_sort(self, *_: object) -> None:
        words = SORTINGS[str(self.sort_combo.currentData())].tooltip
        default = self.sort_combo.itemData(0)
        self.sort_combo.setToolTip(f"Order within a group. {words} Default: {default}.")

    def _explain_state(self, *_: object) -> None:
        words = STATES[str(self.state_combo.currentData())].tooltip
        self.state_combo.setToolTip(f"Show only the clusters in this state. {words} Default: all.")

    def gallery_order(self) -> GalleryOrder:
        """Return the grouping, order and filter that are set in the form."""
        return GalleryOrder(
            str(self.group_combo.currentData()),
            str(self.sort_combo.currentData()),
            self.descending_button.isChecked(),
            self.label_combo.currentData(),
            str(self.state_combo.currentData()),
        )

    # ---- changes of the state
    def _offer_choices(self) -> bool:
        """Offer what the model says unless the annotator is blind; return whether that is new."""
        blind = self.state.blind
        if blind == self._blind:
            return False
        self._blind = blind
        if blind:  # what is chosen again afterwards
            self._chosen = {name: combo.currentData() for name, combo in self._combos.items()}
        for name, combo in self._combos.items():
            with QSignalBlocker(combo):
                combo.clear()
                entries = _CHOICES[name].items()
                _filled(combo, {n: t for n, t in entries if not (blind and n in _OF_MODEL)})
                combo.setCurrentIndex(max(combo.findData(self._chosen[name]), 0))
        self._on_overlay()
        self._explain_sort()
        self._explain_state()
        return True

    def refresh(self) -> None:
        at, current = self.view.anchor(), self.view.current()
        anchor = None if at is None else (self.model.rows.key_of(at[0]), at[1])
        # Tiles must not stay where the model has put them.
        first = self._offer_choices() or not len(self.model.rows)
        other = self.model.refresh()
        self._fill_labels()
        if first:
            self.model.sorting = self.gallery_order()
            self.model.sort()
        if other or first:
            self._stay_at(anchor)
            self.view.set_current(current)
        self._scroll_to_selection()
        self._show_state()

    def _stay_at(self, anchor: tuple[tuple[str, int], int] | None) -> None:
        rows: Any = np.flatnonzero(self.model.rows.mask_of([anchor[0]])) if anchor else ()
        if anchor is not None and len(rows):
            self.view.relayout(int(rows[0]), anchor[1])
        else:
            self.view.relayout()

    def _fill_labels(self) -> None:
        """Offer the labels of the table, in the order of the classes."""
        labels = label_order(self.model.classes, self.model.rows.table["label"].unique())
        listed = [self.label_combo.itemData(i) for i in range(1, self.label_combo.count())]
        if labels == listed:
            return
        chosen = self.label_combo.currentData()
        with QSignalBlocker(self.label_combo):
            self.label_combo.clear()
            self.label_combo.addItem(ANY_LABEL, None)
            for label in labels:
                self.label_combo.addItem(label or NO_LABEL, label)
            index = self.label_combo.findData(chosen) if chosen is not None else 0
            self.label_combo.setCurrentIndex(max(index, 0))

    def _show_selection(self) -> None:
        self._show_state(of_selection=True)

    def _show_state(self, of_selection: bool = False) -> None:
        """Show how many clusters there are, and whether the order is still current."""
        rows, order = self.model.rows, self.model.arrangement.order
        here = int(rows.selected[order].sum())
        elsewhere = len(self.state.selection) - here
        words = in_numbers(rows, len(order), here, elsewhere)
        if n_without := self.model.count_unclassified():
            words += f"; {n_without} not classified yet, without a picture"
        words += "; read-only" if self.state.read_only else ""
        self.note.setText(words)
        self.note.setToolTip(f"<p>{words}</p>{as_table(GALLERY)}")
        # A selection alone changes no order but that by similarity to it.
        if not of_selection or self.model.sorting.sort == "similarity":
            n, self.view.strays = (
                self.model.count_outdated() if len(rows) else (0, np.zeros(0, int))
            )
            self.view.viewport().update()  # also the headers: Qt paints only changed tiles
            self.sort_again_button.setVisible(n > 0)
        self.message.setText(NOTHING_FITS if len(rows) else EMPTY)
        self.message.setVisible(not len(order))
        self.view.setVisible(len(order) > 0)

    # ---- what is shown
    def sort(self, *_: object) -> None:
        """Sort, group and filter the tiles as set in the form."""
        self.model.sorting, current = self.gallery_order(), self.view.current()
        self.model.sort()
        self.view.relayout()
        self.view.set_current(current)
        self.view.verticalScrollBar().setValue(0)
        self._show_state()

    def _on_descending(self, on: bool) -> None:
        self.descending_button.setText("↓" if on else "↑")
        self.sort()

    def _on_overlay(self, *_: object) -> None:
        self.model.overlay = str(self.overlay_combo.currentData())
        self.view.viewport().update()

    def _on_size(self, side: int) -> None:
        at = self.view.anchor()
        self.view.side = side
        settings().setValue("gallery/size", side)
        self.view.relayout(*at) if at is not None else self.view.relayout()

    # ---- actions of the user
    def _on_shortcut(self, shortcut: Shortcut, key: str) -> None:
        attempt(lambda: shortcut.run(self, key))
        if shortcut.name not in ("select all", "focus"):
            self.update_now()  # the effect of a key is visible before the next one

    # ---- what the shortcuts do
    def _selected_keys(self) -> set[Key]:
        """Return the selected clusters whose tiles are shown; show a message if there are none.

        Clusters that a filter hides must not be labelled by a person who does not see them.
        """
        shown = np.zeros(len(self.model.rows), bool)
        shown[self.model.arrangement.order] = True
        keys = self.model.rows.keys_of(shown & self.model.rows.selected)
        if not keys:
            show_message(self.binding.viewer, "Select tiles first")
        return keys

    def label(self, number: int) -> None:
        """Label the selected tiles as the n-th class, counted from 1; 0 means unknown."""
        keys = self._selected_keys()
        label = numbered_label(self.state, number)
        if keys and label is None:
            show_message(self.binding.viewer, f"There is no class {number}")
        elif keys and label is not None:
            self.state.clusters.relabel(keys, label)

    def label_aggregate(self) -> None:
        """Label the selected tiles as aggregates."""
        if keys := self._selected_keys():
            self.state.clusters.relabel(keys, AGGREGATE)

    def unlabel(self) -> None:
        """Remove the manual labels of the selected tiles."""
        if keys := self._selected_keys():
            self.state.clusters.relabel(keys, "")

    def delete(self) -> None:
        """Delete the clusters of the selected tiles."""
        if keys := self._selected_keys():
            self.state.clusters.remove(keys)

    def undo(self) -> None:
        """Undo the last step."""
        self.binding.edits.undo()

    def redo(self) -> None:
        """Redo the step that was undone last."""
        self.binding.edits.redo()

    def select_all(self) -> None:
        """Select all tiles that are shown."""
        self.view.select_all()

    def show_in_image(self) -> None:
        """Go to the cluster of the current tile in the image."""
        self.view.show_in_image()


def _filled(combo: ComboBox, entries: Mapping[str, str]) -> ComboBox:
    """Return a combo box with names and their tooltips, if they have one."""
    for i, (name, tooltip) in enumerate(entries.items()):
        combo.addItem(name, name)
        if tooltip:
            combo.setItemData(i, tooltip, Qt.ItemDataRole.ToolTipRole)
    return combo


def _field(
    form: QGridLayout,
    row: int,
    column: int,
    text: str,
    field: QWidget,
    tooltip: str,
    layout: QHBoxLayout | None = None,
) -> None:
    """Add a labelled field with tooltip and accessible name to a form with two columns."""
    label = QLabel(text)
    label.setBuddy(field)
    label.setToolTip(tooltip)
    field.setToolTip(tooltip)
    field.setAccessibleName(text)
    form.addWidget(label, row, column)
    if layout is None:
        form.addWidget(field, row, column + 1)
    else:
        form.addLayout(layout, row, column + 1)
