"""The dock Classify: apply a model, see the labels, and correct them."""

from __future__ import annotations

from napari.utils.notifications import show_error
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
)

from ...core import palette
from ...core.cluster_table import AGGREGATE, NON_CLASS_LABELS, UNKNOWN
from ...core.errors import AtomicityError
from ...core.progress import Progress, Stop
from ...models.analysis import Analysis
from ...pipeline.analysis import classify_clusters, embed_clusters
from ...pipeline.run_request import RunRequest
from ...statistics.ratios import images_that_differ
from .. import tasks
from ..controls.forms import ComboBox
from ..controls.glyphs import glyph_icon
from ..controls.settings_form import form_of
from ..controls.shortcuts import as_help
from ..panels.dock import Dock
from ..panels.forms import ModelCombo
from ..panels.session_labels import SessionImages, label_with_session, session_of
from ..panels.session_scale import IntensitySection

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
    session: SessionImages | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify all clusters of an image and place them in the map; run in a worker.

    Parameters
    ----------
    analysis : Analysis
        Detected clusters.
    model, device : str
        Name of the model, and where it runs.
    symmetries : bool
        Whether to average over the symmetries of the square.
    session : SessionImages, optional
        Session of the image, whose other images tell the intensity scale.
    progress, stop : callable, optional
        Report progress; ask whether to stop.

    Returns
    -------
    Analysis
    """
    tasks.cap_torch_threads()
    found = classify_clusters(analysis, model, device, progress, stop, symmetries=symmetries)
    found = label_with_session(found, session, progress, stop)
    return embed_clusters(found, model, stop)


class Classify(Dock):
    """Model, legend with counts, label mode."""

    follows = (
        "changed", "current_changed", "project_changed", "selection_changed", "hidden_changed",
        "label_mode_changed",
    )  # fmt: skip

    def build(self) -> None:
        self.models = ModelCombo()
        self.models.setToolTip("Model. Default: the shipped one.")
        self.models.setAccessibleName("Model")
        row = QHBoxLayout()
        row.addWidget(self.models, 1)
        self.content.addLayout(row)
        self.button = self.add_button(
            "Classify",
            "Predict the atomicity of every cluster of this image. Corrections are kept.",
            self.run,
            enabled_when=self._is_detected,
        )
        row.addWidget(self.button)
        self.conditions = self.add_label(f"⚠ {CONDITIONS_DIFFER}")
        self.conditions.setToolTip(
            "The clusters of this image differ from the training images of the model, for every "
            "class: in blur, noise, dose or support."
        )
        self.legend = self.add(self._new_legend())
        self._build_corrections()
        self.intensity = self.add(IntensitySection(self.binding))
        form = self.add(form_of(RunRequest, "device", "symmetries"))
        self.device, self.symmetries = form.controls["device"], form.controls["symmetries"]

    def _new_legend(self) -> QTreeWidget:
        legend = QTreeWidget()
        legend.setRootIsDecorated(False)
        legend.setUniformRowHeights(True)
        legend.setSelectionMode(QTreeWidget.SelectionMode.NoSelection)
        legend.setHeaderLabels(["Label", "Clusters", "Corrected", "Key"])
        header = legend.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for column in (_COUNT, _CORRECTED, _KEY):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        legend.setToolTip(
            "Click a label to select its clusters; untick it to hide them in the image."
        )
        legend.setAccessibleName("Legend: labels with the number of clusters")
        legend.itemClicked.connect(self._on_click)
        legend.itemChanged.connect(self._on_tick)
        return legend

    def _build_corrections(self) -> None:
        self.label_mode = self.add(
            QCheckBox("Label mode"),
            "Number keys label the selected clusters. Default: on after a classification."
            f"<br>{as_help()}",
        )
        self.label_mode.setChecked(self.binding.label_mode.on)
        self.label_mode.toggled.connect(self._set_label_mode)
        self.selected = self.add_label()
        self.labels = self.add(ComboBox(), "Set the label of the selected clusters.")
        self.labels.setAccessibleName("Set label of the selection")
        self.labels.activated.connect(self._on_label_chosen)

    def _is_detected(self) -> bool:
        return self.state.analysis(self.state.current or "") is not None

    def run(self) -> None:
        """Classify the clusters of the current image."""
        image = self.state.current or ""
        analysis = self.state.analysis(image)
        if analysis is None:
            error = AtomicityError("no clusters have been found yet", advice="Press Detect first")
            show_error(tasks.format_error(error))
            return
        model, device = self.models.model, self.device.currentData()
        self.binding.set_engine(image, model, device)
        self.start(
            classify,
            analysis,
            model,
            device,
            self.symmetries.isChecked(),
            session_of(self.state, image),
            message=f"Classifying the clusters of {image}",
            on_result=self._done,
            about=image,
        )

    def _done(self, result: Analysis) -> None:
        self.state.clusters.replace_predictions(result, f"classify {result.micrograph.name}")
        self.binding.label_mode.on = True

    # ---- legend
    def refresh(self) -> None:
        self.intensity.show_analysis(self.state.analysis(self.state.current or ""))
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
        self.refresh_selection()
        with QSignalBlocker(self.label_mode):
            self.label_mode.setChecked(self.binding.label_mode.on)

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
        """Make the legend as high as its rows, so that only the dock scrolls."""
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
        shown = item.checkState(_NAME) == Qt.CheckState.Checked
        hidden = self.binding.hidden - {name} if shown else self.binding.hidden | {name}
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
                self.labels.addItem("the prediction of the model", "")

    def _on_label_chosen(self, index: int) -> None:
        if index > 0:
            self.state.clusters.relabel(self.state.selection, self.labels.itemData(index))
        self.labels.setCurrentIndex(0)

    def refresh_selection(self) -> None:
        n = len(self.state.selection)
        self.selected.setText(
            "Click a cluster in the image, or drag around several, to select."
            if n == 0
            else f"{n} cluster{'s' if n > 1 else ''} selected"
        )
        self.labels.setEnabled(n > 0 and self.labels.count() > 1)

    def _set_label_mode(self, on: bool) -> None:
        self.binding.label_mode.on = on
