"""The dock Detect: find, outline and measure clusters; add, move and delete them manually."""

from __future__ import annotations

from functools import partial

from qtpy.QtWidgets import QCheckBox

from ...detection import DetectionSettings
from ...models.analysis import Analysis
from ...pipeline.analysis import detect_clusters
from ..controls.settings_form import form_of
from ..panels.dock import Dock
from ..panels.forms import ImageForm

_MANUAL_EDITING = (
    "To edit clusters manually, select the points layer: <b>+</b> adds a cluster where you click, "
    "dragging a selected one moves it, <b>Delete</b> removes it. Each change is measured and "
    "classified immediately; Ctrl+Z reverts it."
)


class Detect(Dock):
    """Detection settings, the Detect button, and the number of clusters found."""

    def build(self) -> None:
        self.image_form = self.add(ImageForm(self.binding))
        self.image_form.changed.connect(self.update_enabled)
        self.button = self.add_button(
            "Detect",
            "Find the clusters. Clusters found before keep their numbers and corrections.",
            self.run,
            enabled_when=self._is_ready,
        )
        self.result = self.add_label()
        self.outlines = self.add(
            QCheckBox("Show outlines"),
            "Draw the outline in which each cluster was measured. Default: on.",
        )
        self.outlines.setChecked(self.binding.outlines_visible)
        self.outlines.toggled.connect(partial(setattr, self.binding, "outlines_visible"))
        self.detection = self.add(form_of(DetectionSettings))
        self.add_label(_MANUAL_EDITING)

    def _is_ready(self) -> bool:
        return self.image_form.ready

    def refresh(self) -> None:
        analysis = self.state.analysis(self.state.current or "")
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
        """Detect the clusters of the selected image."""
        entries = self.attempt(lambda: (self.detection.settings(), self.image_form.take()))
        if entries is not None:
            settings, image = entries
            self.start(
                detect_clusters,
                self.state.micrograph(image),
                settings,
                message=f"Finding the clusters of {image}",
                on_result=self._show_result,
                about=image,
            )

    def _show_result(self, analysis: Analysis) -> None:
        if self.binding.accepts(analysis):
            self.state.clusters.set_analysis(analysis, f"detect in {analysis.micrograph.name}")
