"""The dock Analyse: one button from a micrograph to atomicities, and each step by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import napari
from napari.layers import Labels, Shapes
from napari.viewer import Viewer
from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from ...core import palette
from ...core.errors import AtomicityError, CalibrationError, format_failed
from ...core.tables.cluster_table import NON_CLASS_LABELS
from ...core.text import pluralise
from ...io.outline_files import GivenOutlines
from ...pipeline.repeat import Run, runs_of
from ...pipeline.run_request import RunRequest
from ...reporting.image_warnings import outline_warnings, pixel_warnings
from ...state.window_state import WindowState
from ...statistics.ratios.track_counts import (
    describe_clusters,
    merge_tracks,
    stacks_without_tracks,
    without_excluded,
)
from ..controls.drawing import glyph_icon
from ..controls.forms import (
    CollapsibleSection,
    ComboBox,
    fill_column,
    folded,
    main_button,
    new_row,
    wrapped_label,
)
from ..controls.questions import show_info
from ..controls.settings_form import form_of
from ..controls.shortcuts import as_help
from ..panels.dock import Dock, Panel
from ..panels.dock_windows import show_dock
from ..panels.forms import ImageForm, ModelCombo, add_model_row, busy, may_analyse
from ..panels.legend import LabelLegend
from ..panels.session_labels import LabelledAnalysis, session_of
from ..panels.session_scale import IntensitySection
from ..panels.steps import (
    NO_CLUSTER,
    ClassifyStep,
    ConditionsWarning,
    DetectionResult,
    DetectStep,
    analyse_in_session,
    set_result,
)
from ..panels.table_files import copy_as_button
from ..viewer.binding import Binding
from ..viewer.clusters.labelling import focus_canvas
from ..viewer.layers.polygons import outlines_in


class Corrections(Panel):
    """Label mode, the number of selected clusters, and their label."""

    follows = (
        "changed",
        "current_changed",
        "project_changed",
        "selection_changed",
        "label_mode_changed",
    )

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        self._classes: list[str] | None = None
        self.label_mode = QCheckBox("Label mode")
        self.label_mode.setToolTip(
            "Number keys label the selected clusters. Default: on after a classification."
            f"<br>{as_help()}"
        )
        self.label_mode.setChecked(binding.label_mode.on)
        self.label_mode.toggled.connect(self._set_label_mode)
        self.labels = ComboBox()
        self.labels.setToolTip("Set the label of the selected clusters.")
        self.labels.setAccessibleName("Set label of the selection")
        self.labels.activated.connect(self._on_label_chosen)
        self.selected = wrapped_label("Selection", lines=2)
        row = new_row(self.label_mode, (self.labels, 1))
        fill_column(self, row, self.selected)

    def refresh(self) -> None:
        classes = self.state.classes()
        if classes != self._classes:
            self._classes = classes
            self._fill_labels(classes)
        with QSignalBlocker(self.label_mode):
            self.label_mode.setChecked(self.binding.label_mode.on)
        self.refresh_selection()

    def refresh_selection(self) -> None:
        selection = self.state.selection
        n, elsewhere = len(selection), sum(image != self.state.current for image, _ in selection)
        text = f"{pluralise(n, 'cluster')} selected"
        if not n:
            text = "Click a cluster in the image, or drag around several, to select."
        elif elsewhere:
            text += f", {elsewhere if elsewhere < n else 'all'} of them in other images"
        self.selected.setText(text)
        self.labels.setEnabled(n > 0 and self.labels.count() > 1)

    def _fill_labels(self, classes: list[str]) -> None:
        with QSignalBlocker(self.labels):
            self.labels.clear()
            self.labels.addItem("Set label to …")
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
        focus_canvas(self.binding.viewer)  # the next key labels, and is no search in the list

    def _set_label_mode(self, on: bool) -> None:
        self.binding.label_mode.on = on


PIXEL_SIZE_CHANGED = (
    "⚠ The pixel size was changed since: diameters and labels refer to the one before. Analyse "
    "again."
)
READ_ONLY = "This project is read-only: a result could not be stored. Browse, ⋯ ▸ Save a copy."


def summary(state: WindowState, image: str | None) -> str:
    """Count the clusters by label, as in ``57 clusters: 12 Pt19, 20 Pt30``.

    Sentences about outlier pixels and failed statistics follow.
    """
    analysis = None if image is None else state.analysis(image)
    if image is None or analysis is None:
        return ""
    notes = (
        *([PIXEL_SIZE_CHANGED] if state.pixel_sizes.has_changed(image) else []),
        *pixel_warnings(analysis.parameters.get("recording", {})),
        *outline_warnings(analysis.parameters),
        *format_failed(analysis.parameters),
    )
    counts = _count_labels(state, image)
    return " ".join([counts if counts.endswith(".") or not notes else f"{counts}.", *notes])


def _count_labels(state: WindowState, image: str) -> str:
    table = state.table(image)
    if not len(table):
        return NO_CLUSTER
    table, more = without_excluded(table)
    found = describe_clusters(table, state.micrograph(image).n_frames)
    if image in stacks_without_tracks(table):
        return found + more
    counts = merge_tracks(table)["label"].value_counts()
    order = [*state.classes(), *(x for x in counts.index if x not in state.classes())]
    parts = [f"{counts[name]} {name or 'without a label'}" for name in order if name in counts]
    return found + (": " + ", ".join(parts) if parts else "") + more


class Analyse(Dock):
    """Image, pixel size, model, the button that does everything, and the steps one by one."""

    def build(self) -> None:
        self.image_form = self.add(ImageForm(self.binding))
        self.image_form.changed.connect(self.update_enabled)
        self.image_form.changed.connect(self.invalidate)
        self.models = add_model_row(self.image_form.form)
        self.button = self.add_button(
            main_button("Analyse", self),
            "Find the clusters, determine the number of atoms of each, show class maps, place the "
            "clusters in the map and count the classes.",
            self.run,
            enabled_when=self._is_ready,
        )
        self.result = self.add_label(lines=2)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.conditions = self.add(ConditionsWarning(self.binding))
        self.form = form_of(RunRequest, "detection", "device", "symmetries", "labels")
        self.steps = self.add(CollapsibleSection("Steps", self._steps(), opened=True))
        self.settings = self.add(folded(self.form))

    def _steps(self) -> QWidget:
        """Create the steps; below them, what they have found and what a person changes."""
        binding, image_form = self.binding, self.image_form
        self.detect = DetectStep(binding, image_form, self.form)
        self.classify = ClassifyStep(binding, self.models, self.form, image_form)
        self.legend = LabelLegend(binding, image_form)
        self.corrections = Corrections(binding)
        self.detected = DetectionResult(binding, image_form)
        self.intensity = IntensitySection(binding)
        steps = QWidget()
        layout = QVBoxLayout(steps)
        layout.setContentsMargins(0, 0, 0, 0)
        what = "this analysis with all images of the session"
        self.copy_button = copy_as_button(self, self._runs, what)
        layout.addLayout(new_row(self.detect, self.classify, self.copy_button))
        for panel in (self.legend, self.corrections, self.detected, self.intensity):
            layout.addWidget(panel)
        return steps

    def _runs(self) -> list[Run]:
        """Return what repeats the analysis of this image and of those labelled with it."""
        image = self.image_form.image
        analysis = self.state.analysis(image or "")
        if image is None or analysis is None:
            return []
        session, analyses = self.state.sessions.session_of(image), [analysis]
        if analysis.parameters.get("session"):
            found = [self.state.analysis(name) for name in session.images]
            analyses = [one for one in found if one is not None and one.parameters.get("session")]
        return runs_of(analyses, session)

    def _is_ready(self) -> bool:
        return self.image_form.ready and may_analyse(self.state)

    def refresh(self) -> None:
        image = self.image_form.image
        analysis = self.state.analysis(image or "")
        why_not = READ_ONLY if self.state.read_only else ""
        result = summary(self.state, image) or why_not
        self.result.setText(" ".join(filter(None, (self.image_form.hint, result))))
        self.conditions.show_analysis(analysis)
        of_file = analysis is not None and analysis.micrograph.path is not None
        self.copy_button.setEnabled(of_file and bool(analysis and analysis.model_id))
        for panel in (self.legend, self.corrections, self.detected):
            panel.setVisible(analysis is not None and len(analysis.table) > 0)
        self.intensity.show_analysis(analysis)

    def run(self) -> None:
        """Analyse the selected image."""
        entries = self.attempt(lambda: (self.form.settings(), self.image_form.take()))
        if entries is not None:
            image = entries[1]
            self._start(*entries, step=f"analyse {image}", message=f"Analysing {image}")

    def measure(self, outlines: Callable[[Any], Callable[[], GivenOutlines]], name: str) -> None:
        """Measure and classify given outlines in the selected image instead of detecting clusters.

        ``outlines`` returns for a layer what a worker calls, and ``name`` is that of their source.
        """
        entries = self.attempt(lambda: (*self._ready(), outlines(self.image_form.images.layer)))
        if entries is not None:
            settings, image, read = entries
            source = f"the outlines of {name} in {image}"
            step, message = f"take {source}", f"Measuring {source}"
            self._start(settings, image, step, message, read)

    def _ready(self) -> tuple[RunRequest, str]:
        """Return the settings and the image; raises `AtomicityError` with what is missing."""
        if not may_analyse(self.state):
            raise AtomicityError("a read-only project and a blind annotator take no outlines")
        if busy(self.state):
            raise AtomicityError("a task is running", advice="Wait until it ends, or cancel it")
        if self.image_form.images.layer is not None and not self.image_form.ready:
            raise CalibrationError(
                "the pixel size is not known", advice="Enter it in the dock Analyse, and try again"
            )
        return self.form.settings(), self.image_form.take()

    def _start(
        self,
        settings: RunRequest,
        image: str,
        step: str,  # what is done, for undo
        message: str,
        outlines: Callable[[], GivenOutlines] | None = None,
    ) -> None:
        request = replace(settings, model=self.models.model)
        self.binding.manual_editing.set_engine(image, (request.model, request.device))
        self.start(
            analyse_in_session,
            self.state.micrograph(image),
            request,
            edit=self.state.clusters.with_edits,
            session=session_of(self.state, image),
            outlines=outlines,
            message=message,
            on_result=partial(self._done, step),
            key="analysis",
            about=image,
        )

    def _done(self, step: str, labelled: LabelledAnalysis) -> None:
        if set_result(self.binding, labelled, step, soon=True):
            self._then()

    def _then(self) -> None:
        """Continue once the analysis is in the window's state, which takes a few turns."""
        if self.state.busy:
            QTimer.singleShot(0, self._then)
            return
        # Nothing is selected: a key would label what nobody chose.
        self.binding.label_mode.on = True


# ---- outlines of other programs in a layer
def use_as_outlines(viewer: Viewer | None = None) -> None:
    """Measure and classify the objects of the active Labels or Shapes layer as clusters."""
    viewer = viewer or napari.current_viewer()
    if viewer is None:
        return
    layer = viewer.layers.selection.active
    if not isinstance(layer, Labels | Shapes):
        show_info("Select a Labels or Shapes layer with the outlines of clusters first.")
        return
    show_dock(viewer, "Analyse").measure(partial(outlines_in, layer), layer.name)


# ---- the first step alone
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


# ---- the second step alone
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
        self.conditions.show_analysis(analysis)
