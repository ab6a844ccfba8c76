"""The dock Classify: ask a model, see who is what, and correct it."""

from __future__ import annotations

from typing import Any

from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ...core import palette
from ...core.cluster_table import AGGREGATE, NON_CLASS_LABELS, UNKNOWN
from ...core.errors import AtomicityError
from ...core.progress import Progress, Stop
from ...models.analysis import Analysis
from ...pipeline.analysis import classify_clusters
from ...state.window_state import Status
from ...statistics.ratios import images_that_differ
from .. import tasks
from ..controls.connections import follow, follow_soon
from ..controls.forms import in_scroll_area, new_form
from ..controls.glyphs import glyph_icon
from ..controls.shortcuts import as_help
from ..panels.forms import ModelCombo, TaskBar, add_device_row, add_symmetries_row, busy
from ..viewer.binding import binding_of

CONDITIONS_DIFFER = (
    "Conditions differ from the model's training: adapt (dock Adapt) before you trust labels or "
    "ratios."
)
_NAME, _COUNT, _CORRECTED, _KEY = range(4)


def classify(
    analysis: Analysis,
    model: str,
    device: str,
    symmetries: bool,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify all clusters of an image; run in a worker."""
    tasks.cap_torch_threads()
    return classify_clusters(analysis, model, device, progress, stop, symmetries=symmetries)


class Classify(QWidget):
    """Model, legend with counts, label mode, undo."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state = self.binding.state
        self._classified: tuple[str | None, bool | None] = (None, None)
        self._build()
        state = self.state
        follow(self, state.status_changed, self._enable)
        follow(self, state.current_changed, self._refresh)
        follow_soon(self, state.analysis_changed, slot=self._refresh)
        follow(self, state.selection_changed, self._on_selection)
        follow(self, state.history_changed, self._on_history)
        follow(self, self.binding.label_mode.changed, self._on_label_mode)
        follow(self, self.binding.hidden_changed, self._refresh)
        self._refresh()
        self._on_history()

    def _build(self) -> None:
        self.models = ModelCombo()
        self.button = QPushButton("Classify")
        self.button.setToolTip(
            "Ask the model for the atomicity of every cluster of this image. Corrections stay."
        )
        self.button.clicked.connect(self.run)
        self.task_bar = TaskBar(self.state)

        self.conditions = QLabel(f"⚠ {CONDITIONS_DIFFER}")
        self.conditions.setWordWrap(True)
        self.conditions.setToolTip(
            "The clusters of this image look otherwise to the network than those that it learnt "
            "from, whatever their class: blur, noise, dose or support are others."
        )
        self.legend = QTreeWidget()
        self.legend.setRootIsDecorated(False)
        self.legend.setUniformRowHeights(True)
        self.legend.setSelectionMode(QTreeWidget.SelectionMode.NoSelection)
        self.legend.setHeaderLabels(["Label", "Clusters", "Corrected", "Key"])
        header = self.legend.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column in (_COUNT, _CORRECTED, _KEY):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self.legend.setToolTip(
            "Click a label to select its clusters; untick it to hide them in the image."
        )
        self.legend.setAccessibleName("Legend: labels with the number of clusters")
        self.legend.itemClicked.connect(self._on_click)
        self.legend.itemChanged.connect(self._on_tick)

        self.label_mode = QCheckBox("Label mode")
        self.label_mode.setToolTip(
            "Number keys give the selected clusters their label. Default: on once a result is "
            f"there.<br>{as_help()}"
        )
        self.label_mode.setChecked(self.binding.label_mode.on)
        self.label_mode.toggled.connect(self._set_label_mode)
        self.selected = QLabel()
        self.selected.setWordWrap(True)
        self.labels = QComboBox()
        self.labels.setToolTip("Say what the selected clusters are.")
        self.labels.setAccessibleName("Set label of the selection")
        self.labels.activated.connect(self._on_label_chosen)
        self.undo_button = QPushButton("Undo")
        self.undo_button.clicked.connect(self.binding.undo)
        self.redo_button = QPushButton("Redo")
        self.redo_button.clicked.connect(self.binding.redo)
        history = QHBoxLayout()
        history.addWidget(self.undo_button)
        history.addWidget(self.redo_button)

        self.models.setToolTip("The network that is asked. Default: the shipped one.")
        self.models.setAccessibleName("Model")
        ask = QHBoxLayout()
        ask.addWidget(self.models, 1)
        ask.addWidget(self.button)
        form = new_form()
        self.device = add_device_row(form)
        self.symmetries = add_symmetries_row(
            form, "as the image was classified before, at first off"
        )
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addLayout(ask)
        for widget in (
            self.task_bar,
            self.conditions,
            self.legend,
            self.label_mode,
            self.selected,
            self.labels,
        ):
            layout.addWidget(widget)
        layout.addLayout(history)
        layout.addLayout(form)
        layout.addStretch(1)
        in_scroll_area(content, self)

    # ---- classify
    def _enable(self, status: Status | None = None) -> None:
        image = self.state.current
        found = image is not None and self.state.analysis(image) is not None
        self.button.setEnabled(found and not busy(self.state))

    def _follow_symmetries(self) -> None:
        """The box says how the image was classified; what a person ticks stays until that
        changes, or another image is looked at."""
        image = self.state.current
        analysis = None if image is None else self.state.analysis(image)
        averaged = None  # nothing is known of it
        if analysis is not None and "model" in analysis.parameters:
            averaged = analysis.symmetries
        if (image, averaged) != self._classified:
            self._classified = image, averaged
            if averaged is not None:
                self.symmetries.setChecked(averaged)

    def run(self) -> None:
        """Classify the clusters of the current image."""
        image = self.state.current
        analysis = None if image is None else self.state.analysis(image)
        if analysis is None:
            error = AtomicityError("no clusters have been found yet", advice="Press Detect first")
            show_error(tasks.format_error(error))
            return
        model, device = self.models.model, self.device.device
        self.binding.set_engine(image, model, device)
        tasks.start(
            self.state,
            classify,
            analysis,
            model,
            device,
            self.symmetries.isChecked(),
            message=f"Classifying the clusters of {image}",
            on_result=self._done,
            owner=self,
            about=image,
        )

    def _done(self, result: Analysis) -> None:
        self.state.clusters.replace_predictions(result, f"classify {result.micrograph.name}")
        self.binding.label_mode.on = True

    # ---- legend
    def _refresh(self, *_: Any) -> None:
        self._enable()
        self._follow_symmetries()
        table = self.state.table(self.state.current) if self.state.current else None
        classes = self.state.classes()
        self.conditions.setVisible(table is not None and bool(images_that_differ(table)))
        names = [*classes, *NON_CLASS_LABELS] if classes else []
        counts = {} if table is None else table["label"].value_counts().to_dict()
        corrected = {} if table is None else table["label_corrected"].value_counts().to_dict()
        names += [x for x in counts if x and x not in names]
        if counts.get("", 0):
            names.append("")
        keys = {name: str(i) for i, name in enumerate(classes[:9], start=1)}
        keys |= {UNKNOWN: "0", AGGREGATE: "A"}
        with QSignalBlocker(self.legend):
            # Rows are made anew only for other labels: one that is being clicked must live on.
            if [row.data(_NAME, Qt.ItemDataRole.UserRole) for row in self._rows()] != names:
                self.legend.clear()
                self.legend.addTopLevelItems([self._new_row(name, classes) for name in names])
            for row, name in zip(self._rows(), names, strict=True):
                row.setText(_COUNT, str(counts.get(name, 0)))
                row.setText(_CORRECTED, str(corrected.get(name, 0) or "") if name else "")
                row.setText(_KEY, keys.get(name, ""))
                hidden = name in self.binding.hidden
                row.setCheckState(
                    _NAME, Qt.CheckState.Unchecked if hidden else Qt.CheckState.Checked
                )
        self._fit_legend()
        self._fill_labels(classes)
        self._on_selection()

    def _rows(self) -> list[QTreeWidgetItem]:
        return [self.legend.topLevelItem(i) for i in range(self.legend.topLevelItemCount())]

    @staticmethod
    def _new_row(name: str, classes: list[str]) -> QTreeWidgetItem:
        row = QTreeWidgetItem([name or "not classified"])
        row.setData(_NAME, Qt.ItemDataRole.UserRole, name)
        row.setToolTip(_NAME, f"{row.text(_NAME)}: click to select, untick to hide")
        colour = palette.colour_of(name, classes)
        row.setIcon(_NAME, glyph_icon(palette.symbol_of(name, classes), colour))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for column in (_COUNT, _CORRECTED, _KEY):
            row.setTextAlignment(column, right)
        return row

    def _fit_legend(self) -> None:
        """As high as its rows: a list that scrolls inside a dock that scrolls is a trap."""
        row = self.legend.sizeHintForRow(0) if self.legend.topLevelItemCount() else 0
        height = self.legend.header().sizeHint().height() + row * self.legend.topLevelItemCount()
        self.legend.setFixedHeight(height + 2 * self.legend.frameWidth() + 2)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        # only now rows and header are as high as the style of the window makes them
        self._fit_legend()

    def _on_click(self, item: QTreeWidgetItem, column: int) -> None:
        image = self.state.current
        name = item.data(_NAME, Qt.ItemDataRole.UserRole)
        if image is not None and name not in self.binding.hidden:
            table = self.state.table(image)
            ids = table.loc[table["label"] == name, "cluster_id"]
            self.state.select((image, int(i)) for i in ids)

    def _on_tick(self, item: QTreeWidgetItem, column: int) -> None:
        name = item.data(_NAME, Qt.ItemDataRole.UserRole)
        seen = item.checkState(_NAME) == Qt.CheckState.Checked
        hidden = self.binding.hidden - {name} if seen else self.binding.hidden | {name}
        self.binding.hidden = frozenset(hidden)

    # ---- corrections
    def _fill_labels(self, classes: list[str]) -> None:
        with QSignalBlocker(self.labels):
            self.labels.clear()
            self.labels.addItem("Set label of selection to …")
            for name in [*classes, *NON_CLASS_LABELS] if classes else []:
                icon = glyph_icon(
                    palette.symbol_of(name, classes), palette.colour_of(name, classes)
                )
                self.labels.addItem(icon, name, name)
            if classes:
                self.labels.addItem("what the model says", "")

    def _on_label_chosen(self, index: int) -> None:
        if index > 0:
            self.state.clusters.relabel(self.state.selection, self.labels.itemData(index))
        self.labels.setCurrentIndex(0)

    def _on_selection(self, *_: Any) -> None:
        n = len(self.state.selection)
        self.selected.setText(
            "Click a cluster in the image, or drag around several, to select."
            if n == 0
            else f"{n} cluster{'s' if n > 1 else ''} selected"
        )
        self.labels.setEnabled(n > 0 and self.labels.count() > 1)

    def _set_label_mode(self, on: bool) -> None:
        self.binding.label_mode.on = on

    def _on_label_mode(self, on: bool) -> None:
        with QSignalBlocker(self.label_mode):
            self.label_mode.setChecked(on)

    def _on_history(self) -> None:
        for button, edits, verb, key in (
            (self.undo_button, self.state.history, "Undo", "Ctrl+Z"),
            (self.redo_button, self.state.history.undone, "Redo", "Ctrl+Shift+Z"),
        ):
            button.setEnabled(bool(edits))
            what = edits[-1].description if edits else "nothing"
            button.setToolTip(f"{verb}: {what} ({key} in label mode).")
            button.setAccessibleDescription(what)
