"""The dock Detect: find, outline and measure clusters; add, move and delete them by hand."""

from __future__ import annotations

from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QVBoxLayout, QWidget

from ...core.errors import AtomicityError
from ...models.analysis import Analysis
from ...pipeline.analysis import detect_clusters
from ...state.window_state import Status
from .. import tasks
from ..controls.connections import follow, follow_soon
from ..controls.forms import in_scroll_area
from ..panels.forms import DetectionForm, ImageForm, TaskBar, busy
from ..viewer.binding import binding_of

_BY_HAND = (
    "By hand, with the points layer: <b>+</b> adds a cluster where you click, dragging a selected "
    "one moves it, <b>Delete</b> removes it. Each is measured and classified again at once; "
    "Ctrl+Z takes it back."
)


class Detect(QWidget):
    """Settings and a button; how many there are."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state = self.binding.state
        self._build()
        follow(self, self.state.status_changed, self._on_status)
        follow_soon(self, self.state.analysis_changed, slot=self._on_result)
        follow(self, self.state.current_changed, self._on_result)
        self.image_form.changed.connect(self._enable)
        self._enable()
        self._on_result()

    def _build(self) -> None:
        self.image_form = ImageForm(self.binding)
        self.detection = DetectionForm()
        self.button = QPushButton("Detect")
        self.button.setToolTip(
            "Find the clusters. Those that were known keep their numbers and corrections."
        )
        self.button.clicked.connect(self.run)
        self.outlines = QCheckBox("Show outlines")
        self.outlines.setToolTip("Draw the outline that each cluster was measured in. Default: on.")
        self.outlines.setChecked(self.binding.outlines_wanted)
        self.outlines.toggled.connect(self.binding.show_outlines)
        self.task_bar = TaskBar(self.state)
        self.result = QLabel()
        self.result.setWordWrap(True)
        by_hand = QLabel(_BY_HAND)
        by_hand.setWordWrap(True)

        content = QWidget()
        layout = QVBoxLayout(content)
        for widget in (
            self.image_form,
            self.button,
            self.task_bar,
            self.result,
            self.outlines,
            self.detection,
            by_hand,
        ):
            layout.addWidget(widget)
        layout.addStretch(1)
        in_scroll_area(content, self)

    def _enable(self) -> None:
        self.button.setEnabled(self.image_form.ready and not busy(self.state))

    def _on_status(self, status: Status) -> None:
        self._enable()

    def _on_result(self, *_: object) -> None:
        image = self.state.current
        analysis = None if image is None else self.state.analysis(image)
        self.result.setVisible(analysis is not None)
        if analysis is not None:
            table = analysis.table
            self.result.setText(
                f"{len(table)} clusters, median diameter "
                f"{table['diameter_nm'].median():.2f} nm; {table['touches_border'].sum()} at the "
                f"border, {table['touches_neighbour'].sum()} touching another."
                if len(table)
                else "No cluster was found. A lower threshold finds fainter ones."
            )

    def run(self) -> None:
        """Find the clusters of the chosen image."""
        try:
            settings = self.detection.settings()
            image = self.image_form.take()
        except AtomicityError as error:
            show_error(tasks.format_error(error))
            return
        tasks.start(
            self.state,
            detect_clusters,
            self.state.micrograph(image),
            settings,
            message=f"Finding the clusters of {image}",
            on_result=self._done,
            owner=self,
            about=image,
        )

    def _done(self, analysis: Analysis) -> None:
        if self.binding.accepts(analysis):
            self.state.clusters.set_analysis(analysis, f"detect in {analysis.micrograph.name}")
