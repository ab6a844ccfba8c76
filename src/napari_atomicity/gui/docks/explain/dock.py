"""The Explain dock: why a cluster is said to be what it is, and what a class is known by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
from napari.viewer import Viewer
from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QComboBox,
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

from ....core.cluster_table import NON_CLASS_LABELS, Key, classes_of, format_rows
from ....core.palette import colour_of, symbol_of
from ....core.progress import Progress, Stop, check, report
from ....models.analysis import Analysis
from ....state.cluster_rows import take_rows
from ...controls.bars import Bar, BarChart
from ...controls.connections import follow
from ...controls.forms import scrolling
from ...controls.glyphs import glyph_icon
from ...controls.patch_view import PatchTile, PatchView
from ...tasks import start
from ...viewer.binding import state_of
from ...viewer.models import classifier_of
from .averages import ClassAverages

NOTHING_SELECTED = "Select a cluster in the image, the Embedding or with the arrows above."
NOT_CLASSIFIED = "This cluster is not classified yet: press Classify."
PREDICTED = "predicted class"


def class_maps_of(
    analysis: Analysis,
    cluster_id: int,
    label: str,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, np.ndarray]:
    """The class maps of one cluster for a chosen class, channel → (h, w); loads the model.

    Raises
    ------
    ModelError
        If the model that classified the image is not at hand, or does not know the class.
    """
    report(progress, 0, 1, f"Class maps of {label}")
    classifier = classifier_of(analysis)
    check(stop)
    own = take_rows(analysis, [cluster_id])
    maps = classifier.class_maps(own.patches, label, symmetries=analysis.symmetries)
    return {channel: values[0] for channel, values in maps.items()}


def ordered(selection: frozenset[Key], images: Sequence[str], current: str | None) -> list[Key]:
    """The selected clusters: those of the current image first, then by image and number."""
    place = {image: i for i, image in enumerate(images)}
    return sorted(selection, key=lambda k: (k[0] != current, place.get(k[0], len(place)), k[1]))


def probability_bars(row: pd.Series, classes: Sequence[str]) -> list[Bar]:
    """A bar per class; what counts is strong, what can't be ruled out is marked."""
    possible = set(str(row["prediction_set"]).split("|"))
    bars = []
    for name in classes:
        p = float(row[f"p_{name}"])
        words = f"{name}: probability {p:.3f}" if math.isfinite(p) else f"{name}: not computed"
        if name in possible:
            words += "; can't be ruled out"
        bars.append(
            Bar(
                name,
                p,
                f"{p:.2f}" if math.isfinite(p) else "–",
                colour_of(name, classes),
                symbol_of(name, classes),
                strong=name == row["label"],
                marked=name in possible,
                tooltip=words,
            )
        )
    return bars


def format_novelty(ood_score: float) -> str:
    """What the distance from everything learnt means; "" if it was not computed."""
    if not math.isfinite(ood_score):
        return ""
    if ood_score > 1:
        return "unlike anything learnt"
    return "at the edge of what was learnt" if ood_score > 0.8 else "like what was learnt"


def facts(row: pd.Series) -> list[tuple[str, str, str]]:
    """Name, value and tooltip of what is known of a cluster, in the order to show."""
    out = []
    if math.isfinite(row["confidence"]):
        out.append(
            (
                "Confidence",
                f"{100 * row['confidence']:.0f} %",
                "Calibrated probability of the predicted class.",
            )
        )
    if row["prediction_set"]:
        out.append(
            (
                "Possible",
                str(row["prediction_set"]).replace("|", ", "),
                "Classes that can't be ruled out at the level of the model's card; "
                "they carry a dot in the bars.",
            )
        )
    (count,), (otherwise,) = format_rows(row.to_frame().T)
    if count:
        out.append(
            (
                "Count",
                count,
                "On a continuous scale, with its 95 % interval: by the intensity, or by the "
                "network if the cluster touches another. It tells sizes between the classes.",
            )
        )
    if otherwise:
        out.append(
            (
                "But",
                otherwise,
                "Each estimator by itself: the diameter; the mixture of intensities and diameters "
                "in this image; the network. The label is by the last two together.",
            )
        )
    out.append(
        (
            "Diameter",
            f"{row['diameter_nm']:.2f} nm" if math.isfinite(row["diameter_nm"]) else "–",
            "Of a circle with the area of the outline, in nm.",
        )
    )
    words = format_novelty(row["ood_score"])
    if words:
        out.append(
            (
                "Novelty",
                f"{row['ood_score']:.2f}, {words}",
                "Distance from everything the model has learnt; beyond 1 the cluster is "
                "unknown or an aggregate.",
            )
        )
    flags = [
        word
        for column, word in (
            ("touches_border", "cut by the border"),
            ("touches_neighbour", "touches a neighbour"),
        )
        if row[column]
    ]
    if flags:
        out.append(("Note", ", ".join(flags), "Such a cluster may be measured wrongly."))
    return out


def verdict(row: pd.Series) -> str:
    """Who says what the cluster is."""
    if row["label_corrected"]:
        predicted = row["label_predicted"] or "nothing"
        return f"corrected; the model says {predicted}"
    return "predicted" if row["label_predicted"] else "not classified"


class Explain(QWidget):
    """Patches, class maps and probabilities of the first selected cluster; class averages."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state_of(napari_viewer)
        self._shown: Key | None = None
        self._order: tuple[object, list[Key]] = (None, [])
        self._chosen_maps: dict[str, np.ndarray] = {}
        self._chosen_for: tuple[Key, str | None, int] | None = None
        self._build()
        state = self.state
        follow(self, state.selection_changed, self._on_selection)
        follow(self, state.analysis_changed, self._on_analysis)
        follow(self, state.current_changed, self._on_current)
        follow(self, state.images_changed, self.averages.later)
        follow(self, state.explained_class_changed, self._on_class)
        self._fill_classes()
        self._on_selection()

    # ---- the form
    def _build(self) -> None:
        self.previous_button = self._arrow(Qt.ArrowType.LeftArrow, "Previous cluster")
        self.previous_button.clicked.connect(lambda: self.step(-1))
        self.next_button = self._arrow(Qt.ArrowType.RightArrow, "Next cluster")
        self.next_button.clicked.connect(lambda: self.step(1))
        self.place = QLabel()
        self.focus_button = QPushButton("Show in image")
        self.focus_button.setToolTip("Move the view of the image to this cluster.")
        self.focus_button.clicked.connect(self._focus)
        top = QHBoxLayout()
        for widget in (self.previous_button, self.next_button):
            top.addWidget(widget)
        top.addWidget(self.place, 1)
        top.addWidget(self.focus_button)

        self.symbol = QLabel()
        self.title = QLabel()
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.title.setTextFormat(Qt.TextFormat.RichText)
        self.title.setWordWrap(True)
        header = QHBoxLayout()
        header.addWidget(self.symbol)
        header.addWidget(self.title, 1)

        self.class_combo = QComboBox()
        self.class_combo.setToolTip(
            "The class whose class maps are shown, here and over the image. Default: of each "
            "cluster the predicted one."
        )
        self.class_combo.setAccessibleName("Class of the class maps")
        self.class_combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.class_combo.setMinimumContentsLength(8)
        self.class_combo.activated.connect(self._choose_class)
        self.class_label = QLabel("Class maps of")
        self.class_label.setBuddy(self.class_combo)
        choice = QHBoxLayout()
        choice.addWidget(self.class_label)
        choice.addWidget(self.class_combo, 1)

        self.patches = PatchView()
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.bars = BarChart()
        self.bars.setAccessibleName("Probabilities of the classes")
        self.facts = QGridLayout()
        self.facts.setHorizontalSpacing(10)
        self.facts.setVerticalSpacing(2)
        self.facts.setColumnStretch(1, 1)
        self._fact_labels: list[tuple[QLabel, QLabel]] = []

        inside = QWidget()
        body = QVBoxLayout(inside)
        body.setContentsMargins(4, 2, 6, 4)
        body.addLayout(header)
        body.addWidget(self.message)
        body.addWidget(self.patches)
        body.addLayout(choice)
        body.addWidget(self.bars)
        body.addLayout(self.facts)
        body.addStretch(1)
        scroll = scrolling(inside)
        scroll.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        cluster = QWidget()
        of_cluster = QVBoxLayout(cluster)
        of_cluster.setContentsMargins(0, 4, 0, 0)
        of_cluster.addLayout(top)
        of_cluster.addWidget(scroll, 1)
        self.averages = ClassAverages(self.state)
        self.pages = QTabWidget()
        self.pages.setDocumentMode(True)
        self.pages.tabBar().setDrawBase(False)
        self.pages.addTab(cluster, "Cluster")
        self.pages.addTab(self.averages, "Class averages")
        self.pages.setTabToolTip(0, "Why the selected cluster is said to be what it is.")
        self.pages.setTabToolTip(
            1, "Average patches and class maps of every class: where the network looks."
        )
        outer = QVBoxLayout(self)
        outer.setContentsMargins(6, 2, 2, 2)
        outer.addWidget(self.pages)

    @staticmethod
    def _arrow(arrow: Qt.ArrowType, name: str) -> QToolButton:
        button = QToolButton()
        button.setText("◀" if arrow == Qt.ArrowType.LeftArrow else "▶")
        button.setToolTip(f"{name}: of the selection if there are several, else of the image.")
        button.setAccessibleName(name)
        return button

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        # In a low dock the bars must be seen without scrolling.
        self.patches.height_limit = round(0.55 * self.height())

    # ---- what the session says
    def _on_selection(self, *_: object) -> None:
        if self._shown not in self.state.selection:
            self._shown = next(iter(self._in_order()), None)
        self._refresh()

    def _on_analysis(self, image: str) -> None:
        self.averages.later()
        self._fill_classes()
        if self._shown is None or self._shown[0] == image:
            self._refresh()

    def _on_current(self, *_: object) -> None:
        self.averages.later()
        self._refresh()

    def _on_class(self, *_: object) -> None:
        self._fill_classes()
        self._refresh()

    # ---- what the person does
    def step(self, by: int) -> None:
        """Go to the next or previous cluster: of several selected ones, else of the image."""
        keys, index = self._walk()
        if not keys:
            return
        index = (index + by) % len(keys) if index >= 0 else (0 if by > 0 else len(keys) - 1)
        if len(self.state.selection) > 1:
            self._shown = keys[index]
            self._refresh()
        else:
            self.state.select([keys[index]])

    def _walk(self) -> tuple[list[Key], int]:
        """The clusters that the arrows walk through, and where we are (-1: nowhere yet)."""
        state = self.state
        if len(state.selection) > 1:
            keys = self._in_order()
        else:
            image = self._shown[0] if self._shown else state.current
            ids = state.table(image)["cluster_id"] if image is not None else []
            keys = [(str(image), int(i)) for i in ids]
        return keys, keys.index(self._shown) if self._shown in keys else -1

    def _in_order(self) -> list[Key]:
        """The selected clusters, put in order once: there may be thousands."""
        state = self.state
        asked = state.selection, state.images, state.current
        if self._order[0] != asked:
            self._order = asked, ordered(*asked)
        return self._order[1]

    def _focus(self) -> None:
        if self._shown is not None:
            self.state.request_focus(self._shown)

    def _choose_class(self, index: int) -> None:
        self.state.explained_class = self.class_combo.itemData(index)

    # ---- showing
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
        """The analysis and the row of the cluster that is shown."""
        if self._shown is None:
            return None
        analysis = self.state.analysis(self._shown[0])
        if analysis is None:
            return None
        found = np.flatnonzero(analysis.table["cluster_id"] == self._shown[1])
        return (analysis, int(found[0])) if len(found) else None

    def _refresh(self) -> None:
        keys, index = self._walk()
        several = len(self.state.selection) > 1
        self.previous_button.setEnabled(bool(keys))
        self.next_button.setEnabled(bool(keys))
        self.place.setText(
            f"{index + 1} of {len(keys)}" + (" selected" if several else "") if index >= 0 else ""
        )
        found = self._row()
        self.focus_button.setEnabled(found is not None)
        for widget in (self.symbol, self.title, self.patches, self.bars):
            widget.setVisible(found is not None)
        self._show_facts(facts(found[0].table.iloc[found[1]]) if found else [])
        if found is None:
            self._show_message(NOTHING_SELECTED)
            for widget in (self.class_combo, self.class_label):
                widget.setVisible(False)
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
        name = label or "no label"
        self.title.setText(
            f"<big>{escape(name)}</big> &nbsp;<span style='font-weight:normal'>"
            f"{escape(verdict(values))}</span>"
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
            *words, tooltip = rows[i] if i < len(rows) else ("", "", "")
            for label, text in zip(labels, words, strict=True):
                label.setText(text)
                label.setToolTip(tooltip)
                label.setVisible(i < len(rows))

    def _show_message(self, words: str) -> None:
        self.message.setText(words)
        self.message.setVisible(bool(words))

    def _show_patches(self, analysis: Analysis, row: int) -> None:
        patches = {c: p[row] for c, p in analysis.patches.items() if len(p) > row}
        patches = {c: p for c, p in patches.items() if np.isfinite(p).any()}
        maps, label = self._maps(analysis, row)
        for widget in (self.class_combo, self.class_label, self.patches):
            widget.setVisible(bool(patches))
        if not patches:
            self.patches.show_tiles([], 0.0)
            self._show_message(NOT_CLASSIFIED)
            return
        self._show_message("")
        top = max((float(np.nanmax(m)) for m in maps.values() if np.isfinite(m).any()), default=0)
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
                        f"Class map of {label or 'the predicted class'}: bright where the network "
                        "saw it; one scale for all channels.",
                    )
                )
        self.patches.show_tiles(tiles, analysis.field_of_view_nm)

    def _maps(self, analysis: Analysis, row: int) -> tuple[dict[str, np.ndarray], str]:
        """Class maps of the cluster as far as they are known, and their class."""
        values = analysis.table.iloc[row]
        predicted = {c: m[row] for c, m in analysis.class_maps.items() if len(m) > row}
        wanted = self.state.explained_class
        classes = classes_of(analysis.table)
        if wanted is None or wanted not in classes or not predicted:
            return predicted, _top_class(values, classes)
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
            self._refresh()


_PATCH_TOOLTIPS = {
    "raw": "Intensity above the background, as the network saw it.",
    "LCN": "The same after local contrast normalisation: outlines and texture at equal strength.",
}


def _top_class(row: pd.Series, classes: Sequence[str]) -> str:
    """The class whose maps inference made; a cluster of no class has one too."""
    if row.get("label_network", "") or row["label_predicted"] not in ("", *NON_CLASS_LABELS):
        # the network's own, which the label need not be
        return str(row.get("label_network", "") or row["label_predicted"])
    p = np.array([row[f"p_{c}"] for c in classes], float)
    return classes[int(np.nanargmax(p))] if np.isfinite(p).any() else ""
