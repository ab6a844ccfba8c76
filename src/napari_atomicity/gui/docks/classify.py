"""The dock Classify: apply a model, see the labels, and correct them."""

from __future__ import annotations

from ...pipeline.run_request import RunRequest
from ..controls.forms import new_row
from ..controls.settings_form import form_of
from ..panels.corrections import Corrections
from ..panels.dock import Dock
from ..panels.forms import ModelCombo
from ..panels.legend import LabelLegend
from ..panels.session_scale import IntensitySection
from ..panels.steps import ClassifyStep, ConditionsWarning, conditions_differ


class Classify(Dock):
    """Model, legend with counts, label mode."""

    def build(self) -> None:
        self.models = ModelCombo()
        self.models.setToolTip("Model. Default: the shipped one.")
        self.models.setAccessibleName("Model")
        self.form = form_of(RunRequest, "device", "symmetries", "labels")
        self.step = ClassifyStep(self.binding, self.models, self.form)
        row = new_row((self.models, 1), self.step)
        self.content.addLayout(row)
        self.conditions = self.add(ConditionsWarning(self.binding))
        self.legend = self.add(LabelLegend(self.binding))
        self.corrections = self.add(Corrections(self.binding))
        self.intensity = self.add(IntensitySection(self.binding))
        self.add(self.form)

    def refresh(self) -> None:
        analysis = self.state.analysis(self.state.current or "")
        self.intensity.show_analysis(analysis)
        self.conditions.setVisible(conditions_differ(None if analysis is None else analysis.table))
