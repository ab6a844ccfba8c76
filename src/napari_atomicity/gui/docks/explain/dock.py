"""The dock Explain: the evidence for the label of a cluster, and averages of each class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ....core.palette import colour_of, symbol_of
from ....core.progress import Progress, Stop, check, report
from ....core.tables.cluster_table import Key, classes_of, explained_classes
from ....models.analysis import Analysis
from ....state.cluster_rows import take_rows
from ...controls.bars import BarChart
from ...controls.drawing import glyph_icon
from ...controls.forms import STRETCH, ComboBox, new_row, scrolling, wrapped_label
from ...controls.patch_view import PatchTile, PatchView
from ...panels.dock import Dock
from ...tasks import start
from ...viewer.layers.point_style import class_map_scale
from ...viewer.models import classifier_of, explained_class_of
from .averages import ClassAverages
from .facts import (
    MAP_SUMMARY_TOOLTIP,
    facts,
    map_summary,
    probability_bars,
    verdict,
)

NOTHING_SELECTED = "Select a cluster in the image, the Embedding or with the arrows above."
NOT_CLASSIFIED = "This cluster is not classified yet: press Classify."
PREDICTED = "predicted class"
NETWORK_PART = (
    "Class maps explain the network's part of the label. Intensity and diameter have a part too, "
    "and the intensity scale of the image is found before the network."
)


def class_maps_of(
    analysis: Analysis,
    cluster_id: int,
    label: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, np.ndarray]:
    """Compute the class maps of one cluster for a class; load the model.

    Raises `ModelError` if the model that classified the image is not available, or does not have
    the class.
    """
    report(progress, 0, 1, f"Class maps of {label}")
    classifier = classifier_of(analysis)
    check(stop)
    own = take_rows(analysis, [cluster_id])
    maps = classifier.class_maps(own.patches, label, symmetries=analysis.symmetries)
    return {channel: values[0] for channel, values in maps.items()}


def ordered(selection: frozenset[Key], images: Sequence[str], current: str | None) -> list[Key]:
    """Sort selected clusters: those of the current image first, then by image and number."""
    place = {image: i for i, image in enumerate(images)}
    return sorted(selection, key=lambda k: (k[0] != current, place.get(k[0], len(place)), k[1]))


class Explain(Dock):
    """Patches, class maps and probabilities of the first selected cluster; class averages."""

    follows = (
        "changed", "images_changed", "current_changed", "selection_changed",
        "map_options_changed", "class_maps_changed",
    )  # fmt: skip
    scrolls = False

    # ---- the form
    def build(self) -> None:
        self._shown: Key | None = None
        self._order: tuple[object, list[Key]] = (None, [])
        self._map_scale: tuple[object, float] = (None, 1.0)  # class maps, and their scale
        self._chosen_maps: dict[str, np.ndarray] = {}
        self._chosen_for: tuple[Key, str | None, int] | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.averages = ClassAverages(self.binding)
        self.pages = QTabWidget()
        self.pages.setDocumentMode(True)
        self.pages.tabBar().setDrawBase(False)
        self.pages.addTab(self._new_cluster_page(), "Cluster")
        self.pages.addTab(self.averages, "Class averages")
        self.pages.setTabToolTip(0, "Explanation of the label of the selected cluster.")
        self.pages.setTabToolTip(
            1, "Average patches and class maps of every class: the regions the network uses."
        )
        self.content.setContentsMargins(6, 2, 2, 2)
        self.content.addWidget(self.pages)

    def _new_cluster_page(self) -> QWidget:
        inside = QWidget()
        body = QVBoxLayout(inside)
        body.setContentsMargins(4, 2, 6, 4)
        body.addLayout(self._new_header())
        self.cluster = wrapped_label("Cluster", plain=True)
        body.addWidget(self.cluster)
        self.message = QLabel()
        self.message.setWordWrap(True)
        body.addWidget(self.message)
        self.patches = PatchView()
        body.addWidget(self.patches)
        self.map_summary = QLabel()
        self.map_summary.setWordWrap(True)
        self.map_summary.setToolTip(MAP_SUMMARY_TOOLTIP)
        body.addWidget(self.map_summary)
        body.addLayout(self._new_class_choice())
        boxes = new_row(self.maps_box, self.scale_box, STRETCH)
        body.addLayout(boxes)
        self.bars = BarChart()
        self.bars.setAccessibleName("Probabilities of the classes")
        body.addWidget(self.bars)
        self.facts = QGridLayout()
        self.facts.setHorizontalSpacing(10)
        self.facts.setVerticalSpacing(2)
        self.facts.setColumnStretch(1, 1)
        self._fact_labels: list[tuple[QLabel, QLabel]] = []
        body.addLayout(self.facts)
        body.addStretch(1)
        scroll = scrolling(inside)
        scroll.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addLayout(self._new_navigation())
        layout.addWidget(scroll, 1)
        return page

    def _new_navigation(self) -> QHBoxLayout:
        self.previous_button = self._arrow(Qt.ArrowType.LeftArrow, "Previous cluster")
        self.previous_button.clicked.connect(self.show_previous)
        self.next_button = self._arrow(Qt.ArrowType.RightArrow, "Next cluster")
        self.next_button.clicked.connect(self.show_next)
        self.place = QLabel()
        self.focus_button = QPushButton("Show in image")
        self.focus_button.setToolTip("Move the view of the image to this cluster.")
        self.focus_button.clicked.connect(self._focus)
        return new_row(self.previous_button, self.next_button, (self.place, 1), self.focus_button)

    def _new_header(self) -> QHBoxLayout:
        self.symbol = QLabel()
        self.title = QLabel()
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.title.setTextFormat(Qt.TextFormat.RichText)
        self.title.setWordWrap(True)
        return new_row(self.symbol, (self.title, 1))

    def _new_class_choice(self) -> QHBoxLayout:
        self.class_combo = ComboBox()
        self.class_combo.setToolTip(
            "Class of the class maps, here and over the image. Default: the predicted class of "
            f"each cluster. {NETWORK_PART}"
        )
        self.class_combo.setAccessibleName("Class of the class maps")
        self.class_combo.activated.connect(self._choose_class)
        self.class_label = QLabel("Class maps of")
        self.class_label.setToolTip(NETWORK_PART)
        self.class_label.setBuddy(self.class_combo)
        row = QHBoxLayout()
        self.maps_box = QCheckBox("Maps in the image")
        self.maps_box.setToolTip(
            "Show class maps over the image (key C in label mode and in a review; hold it to see "
            "them, or the image without them, for a moment). The brighter, the more a region "
            "supports the class. Default: on."
        )
        self.maps_box.clicked.connect(partial(setattr, self.binding.canvas, "class_maps_visible"))
        self.scale_box = QCheckBox("Same scale")
        self.scale_box.setToolTip(
            "Show all class maps of an image on one scale, to compare their strengths, here and "
            "over the image. Default: off: each map reaches from 0 to its own maximum."
        )
        self.scale_box.clicked.connect(partial(setattr, self.state, "same_map_scale"))
        row.addWidget(self.class_label)
        row.addWidget(self.class_combo, 1)
        return row

    @staticmethod
    def _arrow(arrow: Qt.ArrowType, name: str) -> QToolButton:
        button = QToolButton()
        button.setText("◀" if arrow == Qt.ArrowType.LeftArrow else "▶")
        button.setToolTip(f"{name}: of several selected ones, otherwise of the image.")
        button.setAccessibleName(name)
        return button

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        # Where two rows of patches do not fit, there is one.
        self.patches.height_limit = self.height()

    # ---- actions of the user
    def show_previous(self) -> None:
        """Show the previous one of several selected clusters, otherwise of the image."""
        self._step(-1)

    def show_next(self) -> None:
        """Show the next one of several selected clusters, otherwise of the image."""
        self._step(1)

    def _step(self, by: int) -> None:
        keys, index = self._walk()
        if not keys:
            return
        index = (index + by) % len(keys) if index >= 0 else (0 if by > 0 else len(keys) - 1)
        if len(self.state.selection) > 1:
            self._shown = keys[index]
            self._show_cluster()
        else:
            self.state.select([keys[index]])

    def _walk(self) -> tuple[list[Key], int]:
        """Return the clusters of the arrow buttons, and the index of the one shown, or -1."""
        state = self.state
        if len(state.selection) > 1:
            keys = self._in_order()
        else:
            image = self._shown[0] if self._shown else state.current
            ids: Any = state.table(image)["cluster_id"] if image is not None else []
            keys = [(str(image), int(i)) for i in ids]
        return keys, keys.index(self._shown) if self._shown in keys else -1

    def _in_order(self) -> list[Key]:
        """Return the selected clusters, sorted once, since there may be thousands."""
        state = self.state
        request = state.selection, state.images, state.current
        if self._order[0] != request:
            self._order = request, ordered(*request)
        return self._order[1]

    def _focus(self) -> None:
        if self._shown is not None:
            self.state.request_focus(self._shown)

    def _choose_class(self, index: int) -> None:
        self.state.explained_class = self.class_combo.itemData(index)

    # ---- showing
    def refresh(self) -> None:
        self._fill_classes()
        self.maps_box.setChecked(self.binding.canvas.class_maps_visible)
        self.scale_box.setChecked(self.state.same_map_scale)
        if self._shown not in self.state.selection:
            self._shown = next(iter(self._in_order()), None)
        self._show_cluster()

    def _fill_classes(self) -> None:
        classes = self.state.classes()
        wanted = [None, *classes]
        combo = self.class_combo
        with QSignalBlocker(combo):
            if [combo.itemData(i) for i in range(combo.count())] != wanted:
                combo.clear()
                combo.addItem(PREDICTED, None)
                for name in classes:
                    icon = glyph_icon(symbol_of(name, classes), colour_of(name, classes))
                    combo.addItem(icon, name, name)
            explained = self.state.explained_class
            combo.setCurrentIndex(wanted.index(explained) if explained in wanted else 0)

    def _row(self) -> tuple[Analysis, int] | None:
        """Return the analysis and the row of the cluster that is shown."""
        if self._shown is None:
            return None
        analysis = self.state.analysis(self._shown[0])
        if analysis is None:
            return None
        found = np.flatnonzero(analysis.table["cluster_id"] == self._shown[1])
        return (analysis, int(found[0])) if len(found) else None

    def _show_cluster(self) -> None:
        keys, index = self._walk()
        several = len(self.state.selection) > 1
        self.previous_button.setEnabled(bool(keys))
        self.next_button.setEnabled(bool(keys))
        self.place.setText(
            f"{index + 1} of {len(keys)}" + (" selected" if several else "") if index >= 0 else ""
        )
        found = self._row()
        self.focus_button.setEnabled(found is not None)
        for widget in (self.symbol, self.title, self.cluster, self.patches, self.bars):
            widget.setVisible(found is not None)
        self._show_facts(facts(found[0].table.iloc[found[1]]) if found else [])
        if found is None:
            self._show_message(NOTHING_SELECTED)
            for part in self._map_widgets():
                part.setVisible(False)
            return
        analysis, row = found
        self._show_title(analysis, row)
        classes = classes_of(analysis.table)
        self.bars.bars = probability_bars(analysis.table.iloc[row], classes) if classes else ()
        self._show_patches(analysis, row)

    def _show_title(self, analysis: Analysis, row: int) -> None:
        values = analysis.table.iloc[row]
        classes = classes_of(analysis.table)
        label = str(values["label"])
        side = round(1.3 * self.fontMetrics().height())
        icon = glyph_icon(symbol_of(label, classes), colour_of(label, classes), 2 * side)
        self.symbol.setPixmap(icon.pixmap(QSize(side, side)))
        self.cluster.setText(f"cluster {values['cluster_id']}, {analysis.micrograph.name}")
        name = label or "no label"
        self.title.setText(
            f"<big>{escape(name)}</big> &nbsp;<span style='font-weight:normal'>"
            f"{escape(verdict(values, self.state.blind))}</span>"
        )

    def _show_facts(self, rows: list[tuple[str, str, str]]) -> None:
        while len(self._fact_labels) < len(rows):
            name, value = QLabel(), QLabel()
            value.setWordWrap(True)
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            line = len(self._fact_labels)
            self.facts.addWidget(name, line, 0, Qt.AlignmentFlag.AlignTop)
            self.facts.addWidget(value, line, 1, Qt.AlignmentFlag.AlignTop)
            self._fact_labels.append((name, value))
        for i, labels in enumerate(self._fact_labels):
            *texts, tooltip = rows[i] if i < len(rows) else ("", "", "")
            for label, text in zip(labels, texts, strict=True):
                label.setText(text)
                label.setToolTip(tooltip)
                label.setVisible(i < len(rows))

    def _show_message(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _show_patches(self, analysis: Analysis, row: int) -> None:
        patches = {
            c: analysis.without_padding(p[row], row)
            for c, p in analysis.patches.items()
            if len(p) > row
        }
        patches = {c: p for c, p in patches.items() if np.isfinite(p).any()}
        maps, label = self._maps(analysis, row)
        maps = {c: analysis.map_within_image(m, row) for c, m in maps.items()}
        for widget in (*self._map_widgets(), self.patches):
            widget.setVisible(bool(patches))
        self.map_summary.setText("")
        if not patches:
            self.patches.show_tiles([], 0.0)
            self._show_message(NOT_CLASSIFIED)
            return
        self._show_message("")
        top = self._top_of_maps(analysis)
        outline = analysis.outline_in_patch(row)
        radius_nm = analysis.table["diameter_nm"].iloc[row] / 2
        self.map_summary.setText(map_summary(label, maps, analysis.field_of_view_nm, radius_nm))
        tiles = []
        for channel, patch in patches.items():
            tiles.append(PatchTile(channel, patch, tooltip=_PATCH_TOOLTIPS.get(channel, "")))
            if channel in maps:
                tiles.append(
                    PatchTile(
                        f"{channel} · {label}" if label else f"{channel} · class map",
                        patch,
                        maps[channel],
                        top,
                        outline,
                        f"Class map of {label or 'the predicted class'}: bright regions support "
                        f"the class. {NETWORK_PART}",
                    )
                )
        self.patches.show_tiles(tiles, analysis.field_of_view_nm)

    def _map_widgets(self) -> tuple[QWidget, ...]:
        """Return what is shown with class maps only."""
        choices = (self.class_combo, self.class_label, self.scale_box, self.maps_box)
        return (*choices, self.map_summary)

    def _top_of_maps(self, analysis: Analysis) -> float | None:
        """Return the value at the top of the scale of all maps; None if each has its own."""
        if not self.state.same_map_scale:
            return None
        if self._map_scale[0] is not analysis.class_maps:  # not at each selection
            self._map_scale = analysis.class_maps, class_map_scale(analysis)
        return self._map_scale[1]

    def _maps(self, analysis: Analysis, row: int) -> tuple[dict[str, np.ndarray], str]:
        """Return the class maps of the cluster that are known, and their class."""
        values = analysis.table.iloc[row]
        predicted = {c: m[row] for c, m in analysis.class_maps.items() if len(m) > row}
        wanted = explained_class_of(self.state, analysis)
        if wanted is None or not predicted:
            return predicted, str(explained_classes(analysis.table.iloc[[row]])[0])
        assert self._shown is not None
        request = (self._shown, wanted, self.state.generation(self._shown[0]))
        if self._chosen_for != request:
            self._chosen_for, self._chosen_maps = request, {}
            start(
                self.state,
                class_maps_of,
                analysis,
                int(values["cluster_id"]),
                wanted,
                on_result=lambda maps: self._take_maps(request, maps),
                on_error=lambda _: self._take_maps(request, {}),
                key="explain cluster",
                owner=self,
            )
        return self._chosen_maps, wanted

    def _take_maps(self, request: tuple[Key, str | None, int], maps: dict) -> None:
        if request == self._chosen_for and maps:
            self._chosen_maps = maps
            self._show_cluster()


_PATCH_TOOLTIPS = {
    "raw": "Intensity above the background, as input of the network. Hatched: beyond the image, "
    "where the network sees it mirrored.",
    "LCN": "The same after local contrast normalisation: outlines and texture at equal strength.",
}
