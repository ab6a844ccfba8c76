"""The dock Detect: find, outline and measure clusters; add, move and delete them manually."""

from __future__ import annotations

from ...pipeline.run_request import RunRequest
from ..controls.settings_form import form_of
from ..panels.dock import Dock
from ..panels.forms import ImageForm
from ..panels.steps import DetectionResult, DetectStep

_MANUAL_EDITING = (
    "To edit clusters manually, select the points layer: <b>+</b> adds a cluster where you click, "
    "dragging a selected one moves it, <b>Delete</b> removes it. Each change is measured and "
    "classified immediately; Ctrl+Z reverts it."
)


class Detect(Dock):
    """Detection settings, the Detect button, and the number of clusters found."""

    def build(self) -> None:
        self.image_form = self.add(ImageForm(self.binding))
        self.form = form_of(RunRequest, "detection")
        self.step = self.add(DetectStep(self.binding, self.image_form, self.form))
        self.hint = self.add_label(lines=2)
        self.image_form.changed.connect(self._show_hint)
        self._show_hint()
        self.result = self.add(DetectionResult(self.binding, self.image_form))
        self.add(self.form)
        self.add_label(_MANUAL_EDITING)

    def _show_hint(self) -> None:
        self.hint.setText(self.image_form.hint)
