"""The steps of an analysis, each by itself: detect the clusters, classify them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QPushButton, QWidget

from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...core.text import sentence
from ...io.outline_files import GivenOutlines
from ...io.readers.lazy_micrograph import LazyMicrograph
from ...models.analysis import Analysis
from ...pipeline.analysis import analyse, classify_clusters, detect_clusters, embed_clusters
from ...pipeline.run_request import RunRequest
from ...statistics.ratios.ratio_notes import conditions_note
from ...statistics.ratios.ratios import images_that_differ
from ...statistics.ratios.track_counts import describe_clusters, without_excluded
from .. import tasks
from ..controls.forms import fill_column, wrapped_label
from ..controls.settings_form import SettingsForm
from ..viewer.binding import Binding
from .dock import ImagePanel
from .dock_windows import show_dock
from .forms import ImageForm, ModelCombo, busy, may_analyse
from .session_labels import LabelledAnalysis, SessionImages, label_with_session, session_of


# ---- the analysis of one image, or its second step, as a task of the window
def analyse_image(
    micrograph: Micrograph,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    outlines: Callable[[], GivenOutlines] | None = None,
    *,
    edit: Callable[[Analysis], Analysis],  # `ClusterEdits.with_edits`
) -> Analysis:
    """Analyse an image, or measure and classify given outlines; run in a worker."""
    tasks.cap_torch_threads()
    if isinstance(micrograph, LazyMicrograph):
        micrograph = micrograph.with_file_metadata()
    return analyse(
        micrograph,
        request.model,
        request.device,
        progress,
        stop,
        settings=request.detection,
        symmetries=request.symmetries,
        labels_from=request.labels,
        outlines=None if outlines is None else outlines(),
        edit=edit,
    )


def analyse_in_session(
    micrograph: Micrograph,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    edit: Callable[[Analysis], Analysis],  # `ClusterEdits.with_edits`
    session: SessionImages | None = None,
    outlines: Callable[[], GivenOutlines] | None = None,
) -> LabelledAnalysis:
    """Analyse an image and label it with its session; run in a worker."""
    analysis = analyse_image(micrograph, request, progress, stop, outlines, edit=edit)
    return label_with_session(analysis, session, progress, stop)


def classify_image(
    analysis: Analysis,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    session: SessionImages | None = None,
) -> LabelledAnalysis:
    """Classify all clusters of an image and place them in the map; run in a worker."""
    tasks.cap_torch_threads()
    found = classify_clusters(
        analysis,
        request.model,
        request.device,
        progress,
        stop,
        symmetries=request.symmetries,
        labels_from=request.labels,
    )
    labelled = label_with_session(found, session, progress, stop)
    return replace(labelled, analysis=embed_clusters(labelled.analysis, request.model, stop))


def set_result(
    binding: Binding, labelled: LabelledAnalysis, step: str, *, soon: bool = False
) -> bool:
    """Set a new analysis as a step of undo; return False if the image has changed meanwhile.

    Say so if detected clusters take the place of imported outlines.
    """
    state, analysis = binding.state, labelled.analysis
    if not binding.accepts(analysis):
        return False
    before = state.analysis(analysis.micrograph.name)
    records = labelled.records_in(state)
    state.clusters.set_analysis(analysis, step, soon=soon, records=records)
    had_outlines = before is not None and "outlines" in before.parameters
    if had_outlines and "outlines" not in analysis.parameters:
        binding.canvas.show_message(OUTLINES_REPLACED)
    labelled.label_again_if_changed(binding)
    return True


OUTLINES_REPLACED = "The imported outlines were replaced. Ctrl+Z brings them back."
NO_CLUSTER = "No cluster was found. A lower threshold finds fainter ones."


class ConditionsWarning(QWidget):
    """The warning that conditions differ from the training, hidden at first, and what to do."""

    def __init__(self, binding: Binding) -> None:
        super().__init__()
        self._binding = binding
        self.words = wrapped_label("Conditions")
        self.words.setToolTip(
            "The clusters of this image differ from the training images of the model, for every "
            "class: in blur, noise, dose or support."
        )
        self.button = QPushButton("Adapt the model…")
        self.button.setToolTip("Open the dock Adapt to adapt the model to these images.")
        self.button.clicked.connect(self._open_model)
        fill_column(self, self.words, self.button)
        self.hide()

    def _open_model(self) -> None:
        show_dock(self._binding.viewer, "Adapt")

    def show_analysis(self, analysis: Analysis | None) -> None:
        """Show the warning if it holds for an analysis."""
        differ = analysis is not None and bool(images_that_differ(analysis.table))
        self.setVisible(differ)
        if analysis is not None and differ:
            changed = analysis.parameters.get("changed_settings", ())
            self.words.setText(f"⚠ {sentence(conditions_note(changed))}")


class _Step(ImagePanel):
    """The button of one step, enabled while no task runs and the step is possible."""

    follows = ("changed", "current_changed", "project_changed")

    def __init__(
        self, binding: Binding, image_form: ImageForm | None, text: str, tooltip: str
    ) -> None:
        super().__init__(binding, image_form)
        self.button = QPushButton(text)
        self.button.setToolTip(tooltip)
        self.button.clicked.connect(self.run)
        fill_column(self, self.button)

    def is_possible(self) -> bool:
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError

    def show_status(self) -> None:
        possible = may_analyse(self.state) and self.is_possible()
        self.enable(self.button, possible and not busy(self.state))


class DetectStep(_Step):
    """The button that detects the clusters of an image."""

    def __init__(
        self, binding: Binding, image_form: ImageForm, settings: SettingsForm[RunRequest]
    ) -> None:
        self._images, self._settings = image_form, settings
        super().__init__(
            binding,
            image_form,
            "Detect",
            "Find the clusters only. Clusters found before keep their numbers and corrections.",
        )
        image_form.changed.connect(self.show_status)

    def is_possible(self) -> bool:
        return self._images.ready

    def run(self) -> None:
        """Detect the clusters of the chosen image."""
        entries = self.attempt(lambda: (self._settings.settings(), self._images.take()))
        if entries is not None:
            request, image = entries
            self.start(
                detect_clusters,
                self.state.micrograph(image),
                request.detection,
                message=f"Finding the clusters of {image}",
                on_result=self._show_result,
                key="analysis",
                about=image,
            )

    def _show_result(self, analysis: Analysis) -> None:
        labelled = LabelledAnalysis(analysis)
        set_result(self.binding, labelled, f"detect in {analysis.micrograph.name}")


class ClassifyStep(_Step):
    """The button that classifies the clusters of an image."""

    def __init__(
        self,
        binding: Binding,
        models: ModelCombo,
        settings: SettingsForm[RunRequest],  # form of a `RunRequest` with device and symmetries
        image_form: ImageForm | None = None,
    ) -> None:
        self._models, self._settings = models, settings
        super().__init__(
            binding,
            image_form,
            "Classify",
            "Predict the atomicity of every cluster that is detected in this image. Corrections "
            "are kept.",
        )

    def is_possible(self) -> bool:
        return self.analysis is not None

    def run(self) -> None:
        """Classify the clusters of the image."""
        image, analysis = self.image, self.analysis
        settings = self.attempt(self._settings.settings)
        if image is None or analysis is None or settings is None:
            return
        request = replace(settings, model=self._models.model)
        self.binding.manual_editing.set_engine(image, (request.model, request.device))
        self.start(
            classify_image,
            analysis,
            request,
            session=session_of(self.state, image),
            message=f"Classifying the clusters of {image}",
            on_result=self._show_result,
            key="analysis",
            about=image,
        )

    def _show_result(self, labelled: LabelledAnalysis) -> None:
        result, records = labelled.analysis, labelled.records_in(self.state)
        description = f"classify {result.micrograph.name}"
        self.state.clusters.replace_predictions(result, description, records)
        labelled.label_again_if_changed(self.binding)
        self.binding.label_mode.on = True


class DetectionResult(ImagePanel):
    """What was detected in an image, and the switch of the outlines."""

    follows = ("changed", "current_changed", "project_changed", "outlines_changed")

    def __init__(self, binding: Binding, image_form: ImageForm) -> None:
        super().__init__(binding, image_form)
        self.text = wrapped_label("Result of the detection")
        self.outlines = QCheckBox("Show outlines")
        self.outlines.setToolTip(
            "Draw the outline in which each cluster was measured. Default: on."
        )
        self.outlines.setChecked(binding.overlays.outlines_visible)
        self.outlines.toggled.connect(self._show_outlines)
        fill_column(self, self.text, self.outlines)

    def refresh(self) -> None:
        analysis = self.analysis
        self.text.setVisible(analysis is not None)
        if analysis is not None:
            self.text.setText(_describe(analysis))
        with QSignalBlocker(self.outlines):
            self.outlines.setChecked(self.binding.overlays.outlines_visible)

    def _show_outlines(self, shown: bool) -> None:
        self.binding.overlays.outlines_visible = shown


def _describe(analysis: Analysis) -> str:
    """Format what was detected: "57 clusters, median diameter 1.31 nm; 3 at the border …"."""
    table = analysis.table
    if not len(table):
        return NO_CLUSTER
    table, more = without_excluded(table)
    found = describe_clusters(table, analysis.micrograph.n_frames)
    source = Path(analysis.parameters.get("outlines", {}).get("source", "")).name
    outlines = f"Outlines of {source}: " if source else ""
    per_frame = " over all frames" if analysis.micrograph.n_frames > 1 else ""
    return (
        f"{outlines}{found}, median diameter {table['diameter_nm'].median():.2f} nm; "
        f"{table['touches_border'].sum()} at the border, "
        f"{table['touches_neighbour'].sum()} touching another{per_frame}{more}."
    )
