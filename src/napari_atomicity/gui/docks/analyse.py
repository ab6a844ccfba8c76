"""The dock Analyse: one button from a micrograph to atomicities, reasons and ratios."""

from __future__ import annotations

from functools import partial

from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from ...core.errors import AtomicityError
from ...models.analysis import Analysis
from ...state.window_state import Status, WindowState
from .. import tasks
from ..controls.connections import follow, follow_soon
from ..controls.forms import folded, in_scroll_area, main_button, new_form
from ..panels.analysis_task import AnalysisRequest, analyse_without_map, place_in_map
from ..panels.forms import (
    DetectionForm,
    ImageForm,
    TaskBar,
    add_device_row,
    add_model_row,
    add_symmetries_row,
    busy,
)
from ..viewer.binding import binding_of


def summary(state: WindowState, image: str | None) -> str:
    """``57 clusters: 12 Pt19, 20 Pt30 …``"""
    if image is None or state.analysis(image) is None:
        return ""
    table = state.table(image)
    if not len(table):
        return "No cluster was found. A lower threshold finds fainter ones."
    counts = table["label"].value_counts()
    order = [*state.classes(), *(x for x in counts.index if x not in state.classes())]
    parts = [f"{counts[name]} {name}" for name in order if name and counts.get(name, 0)]
    noun = "cluster" if len(table) == 1 else "clusters"
    return f"{len(table)} {noun}" + (": " + ", ".join(parts) if parts else "")


def typical_cluster(analysis: Analysis) -> int | None:
    """A cluster that is worth a first look: whole, alone, and rather certain."""
    table = analysis.table
    whole = table[~(table["touches_border"] | table["touches_neighbour"])]
    chosen = whole if len(whole) else table
    if not len(chosen):
        return None
    order = chosen.sort_values("confidence", ascending=False, kind="stable")
    return int(order["cluster_id"].iloc[len(order) // 4])


class Analyse(QWidget):
    """Image, model, pixel size, and the button that does everything."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state = self.binding.state
        self._build()
        follow(self, self.state.status_changed, self._on_status)
        follow_soon(self, self.state.analysis_changed, slot=self._on_result)
        follow(self, self.state.current_changed, self._on_result)
        self.image_form.changed.connect(self._enable)
        self.button.clicked.connect(self.run)
        self._enable()
        self._on_result()

    def _build(self) -> None:
        self.image_form = ImageForm(self.binding)
        self.models = add_model_row(self.image_form.form)
        self.button = main_button("Analyse", self)
        self.button.setToolTip(
            "Find the clusters, say how many atoms each holds, show why, place them in the map "
            "and count the classes."
        )
        self.task_bar = TaskBar(self.state)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.detection = DetectionForm()
        more = new_form()
        self.device, self.symmetries = add_device_row(more), add_symmetries_row(more)
        self.settings = folded(self.detection, more)

        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.image_form)
        layout.addWidget(self.button)
        layout.addWidget(self.task_bar)
        layout.addWidget(self.result)
        layout.addWidget(self.settings)
        layout.addStretch(1)
        in_scroll_area(content, self)

    def _enable(self) -> None:
        self.button.setEnabled(self.image_form.ready and not busy(self.state))

    def _on_status(self, status: Status) -> None:
        self._enable()

    def _on_result(self, *_: object) -> None:
        words = summary(self.state, self.state.current)
        self.result.setText(words)
        self.result.setVisible(bool(words))

    # ---- the button
    def run(self) -> None:
        """Analyse the chosen image."""
        try:
            detection = self.detection.settings()
            image = self.image_form.take()
        except AtomicityError as error:
            show_error(tasks.format_error(error))
            return
        asked = AnalysisRequest(
            detection, self.models.model, self.device.device, self.symmetries.isChecked()
        )
        self.binding.set_engine(image, asked.model, asked.device)
        tasks.start(
            self.state,
            analyse_without_map,
            self.state.micrograph(image),
            asked,
            message=f"Analysing {image}",
            on_result=partial(self._done, asked.model),
            owner=self,
            about=image,
        )

    def _done(self, model: str, analysis: Analysis) -> None:
        image = analysis.micrograph.name
        if not self.binding.accepts(analysis):
            return
        self.state.clusters.set_analysis(analysis, f"analyse {image}", soon=True)
        self._then(image, model)

    def _then(self, image: str, model: str) -> None:
        """Once the analysis is in the session, which takes a few turns."""
        if self.state.busy:
            QTimer.singleShot(0, partial(self._then, image, model))
            return
        self.binding.label_mode.on = True
        now = self.state.analysis(image)
        if now is not None and len(now.table):
            if not self.state.selection:
                # So that Explain has something to explain.
                self.state.select({(image, typical_cluster(now))})
            tasks.start(
                self.state,
                place_in_map,
                now,
                model,
                message="Placing the clusters in the map",
                on_result=self.state.clusters.set_embedding,
                key="umap",
                owner=self,
                about=image,
            )
