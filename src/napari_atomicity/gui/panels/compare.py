"""The section *Compare samples* of Ratios and Dispersion: differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pandas as pd
from qtpy.QtWidgets import (
    QHBoxLayout,
    QMenu,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...core.acquisition_session import Sample
from ...core.text import capital, pluralise
from ...io.clipboard import tab_separated
from ...io.provenance import Outcome, assign_samples
from ...pipeline.comparison import ComparisonRun, why_untested, write_comparison
from ...reporting.plots.base import Look
from ...reporting.plots.comparison import (
    TREND,
    Panel,
    classes_of_comparison,
    comparison_figures,
)
from ...statistics.samples.comparison import SampleComparison
from ...statistics.samples.planning import plans_of_samples
from ...statistics.samples.run_evidence import MAX_SAMPLES, compare_clusters
from ...statistics.samples.sentences import (
    LINE_HEADERS,
    comparison_lines,
    comparison_notes,
    comparison_sentences,
    with_scatter_note,
)
from ..controls.bars import keeps_ratios
from ..controls.chart import Chart, load_matplotlib
from ..controls.forms import (
    STRETCH,
    ComboBox,
    labelled,
    new_form,
    new_row,
    selectable_label,
    wrapped_label,
)
from ..controls.line_table import Lines, table_of
from ..controls.questions import show_error, show_info
from ..controls.refresher import follow
from ..controls.save_dialogs import choose_new_folder
from ..tasks import format_error, running
from ..viewer.binding import Binding
from .dock import Panel as FollowingPanel
from .table_files import copy, copy_table

BLIND = "Samples are not compared in blind mode, since predictions would be seen."
NONE_YET = "Nothing to compare yet: {}."
ONE_SAMPLE = (
    "All images are of one sample, {}. A sample is the folder of an image. To have two, add the "
    "images of another folder (Browse ▸ ⋯ ▸ Add images…), or select images in Browse and group "
    "them: right click ▸ Sample ▸ Group into a sample."
)
ONE_WITH_RESULTS = "Of the samples, only {} has results: other images {}."
MANY = "There are {} samples, and {} can be compared here; atomicity compare takes any number."
STAGGER_MS = 80
PANEL_LINES, WORDS_LINES, MAX_LINES = 13, 9, 12
_HEADER_TIPS = (
    "Sample: the folder of its images, or as grouped in Browse.",
    "Share of a class, mean number of atoms, or a quantity of the single atoms.",
    "Difference from the reference, with its 95 % interval; pp: percentage points.",
    "p value of no difference, with Holm's correction for all rows of this table.",
    "Estimate for the sample, with its 95 % interval. That of a share includes the error around "
    "the likeliest intensity scale, which Ratios leaves out.",
    "Estimate for the reference, with such an interval.",
)


def compare_table(
    table: pd.DataFrame,
    keep_ratios: bool,
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    reference: str,
) -> SampleComparison:
    """Compare samples by their clusters, in a worker."""
    load_matplotlib()
    return compare_clusters(table, outcomes, samples, reference, keep_ratios)


def _draw_panel(
    figure: Any, look: Look, panel: Panel, table: pd.DataFrame, classes: Sequence[str]
) -> None:
    figure.set_layout_engine("constrained")
    panel(figure.add_subplot(), table, replace(look, classes=classes))


class ComparePart(FollowingPanel):
    """Samples compared with a reference: figure, sentences, table, and files."""

    follows = ("changed", "images_changed", "project_changed", "atoms_changed")
    delay_ms = 200  # labels are given key by key
    figure: ClassVar[str] = "clusters"
    nothing: ClassVar[str] = "no image is analysed"
    missing: ClassVar[str] = "are not analysed yet (Browse ▸ Analyse all)"

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        self.comparison: SampleComparison | None = None
        self.sentences: list[str] = []
        self._inputs: tuple[object, ...] | None = None  # equal ones give the same result
        self._again = self._pending = False
        self._outcomes: list[Outcome] = []
        self._task = f"compare samples {id(self)}"
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.message = wrapped_label("Message on the comparison", plain=True)
        layout.addWidget(self.message)
        self.body = QWidget()
        layout.addWidget(self.body)
        self._fill(QVBoxLayout(self.body))
        self.body.hide()

    def _fill(self, inner: QVBoxLayout) -> None:
        inner.setContentsMargins(0, 0, 0, 0)
        self.reference_combo = ComboBox()
        self.reference_combo.activated.connect(self._choose_reference)
        follow(self, self.state.sessions.reference_changed, self.invalidate)
        form = new_form()
        labelled(
            form,
            "Reference",
            self.reference_combo,
            "Sample that the others are compared with. Default: the first one.",
        )
        inner.addLayout(form)
        self.charts: list[Chart] = []
        self.figures = QVBoxLayout()
        inner.addLayout(self.figures)
        self.words = QPlainTextEdit()
        self.words.setReadOnly(True)
        self.words.setAccessibleName("Comparison in words")
        self.words.setTabChangesFocus(True)
        self.plans = selectable_label("Images that are needed", plain=True)
        self.plans.setToolTip("For a 95 % interval of all shares of ±5 percentage points.")
        self.model = Lines(LINE_HEADERS, _HEADER_TIPS, self)
        self.table = table_of(self.model, "Differences of samples", MAX_LINES)
        for widget in (self.words, self.plans, self.table):
            inner.addWidget(widget)
        inner.addLayout(self._buttons())

    def _buttons(self) -> QHBoxLayout:
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the sentences, or the rows of comparison.csv.")
        menu = QMenu(self.copy_button)
        self.copy_text_action = menu.addAction("Sentences", self.copy_sentences)
        self.copy_table_action = menu.addAction("Table", self.copy_table)
        self.copy_button.setMenu(menu)
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip(
            "Write tables, sentences and figures (PNG, SVG, PDF; 8.5 and 17.5 cm wide) into a new "
            "folder, as atomicity compare does."
        )
        self.save_button.clicked.connect(self.save)
        return new_row(self.copy_button, self.save_button, STRETCH)

    # ---- what is compared
    def images(self) -> list[str]:
        """Return the images that can be compared."""
        return [i for i in self.state.images if self.state.analysis(i) is not None]

    def left_out(self) -> str:
        """Return which images with results can't be compared, and why; empty if all can."""
        return ""

    def data(self, images: list[str]) -> tuple[object, ...]:
        """Return what the result depends on, besides samples and sessions."""
        analyses = (self.state.analysis(image) for image in images)
        return (*(a for a in analyses if a is not None), keeps_ratios())

    def job(self) -> Callable[..., SampleComparison]:
        """Return the function that compares, for a worker."""
        return partial(compare_table, self.state.table(), keeps_ratios())

    def _new_outcomes(self, images: list[str], samples: list[Sample]) -> list[Outcome]:
        """Return the outcomes of images, with what limits the use of their clusters."""
        state, found = self.state, []
        sessions = {i: s.name for s in state.sessions.groups() for i in s.images}
        for image in images:
            micrograph, analysis = state.micrograph(image), state.analysis(image)
            parameters = {} if analysis is None else state.pixel_sizes.mark(analysis).parameters
            found.append(
                Outcome(
                    image,
                    str(micrograph.path or ""),
                    "done",
                    sha256=micrograph.sha256,
                    pixel_size_nm=micrograph.pixel_size_nm,
                    session=sessions[image],
                    parameters=parameters,
                )
            )
        return assign_samples(found, samples)

    def refresh(self) -> None:
        """Compare in a worker, if anything has changed."""
        state = self.state
        images = [] if state.blind else self.images()
        samples = state.sessions.samples(images)
        self._offer(samples)
        reason = self._why_not(samples)
        if reason:
            self._show_none(reason)
            return
        if running(state, self._task):  # one at a time: each takes a part of this process
            self._again = True
            return
        outcomes = self._new_outcomes(images, samples)
        sessions = tuple(outcome.session for outcome in outcomes)
        reference = str(self.reference_combo.currentData())
        inputs = reference, tuple(samples), sessions, self.data(images)
        if inputs == self._inputs:
            return
        self._inputs, self._outcomes, self._pending = inputs, outcomes, True
        self.body.setEnabled(False)  # its content is outdated
        if self.comparison is None:
            self.message.setText("Comparing the samples…")
        task = self.start(
            self.job(),
            outcomes=outcomes,
            samples=samples,
            reference=reference,
            on_result=self._take,
            on_error=self._on_error,
            key=self._task,
            quiet_errors=True,
        )
        task.finished.connect(self._on_finished)

    def _why_not(self, samples: list[Sample]) -> str:
        """Return why there is nothing to compare; empty if there is."""
        if self.state.blind:
            return BLIND
        if not samples:
            return self.left_out() or NONE_YET.format(self.nothing)
        if len(samples) == 1:
            name, n_samples = samples[0].name, len(self.state.sessions.samples())
            if n_samples == 1:
                return ONE_SAMPLE.format(name)
            return f"{ONE_WITH_RESULTS.format(name, self.missing)} {self.left_out()}".rstrip()
        return MANY.format(len(samples), MAX_SAMPLES) if len(samples) > MAX_SAMPLES else ""

    def _offer(self, samples: list[Sample]) -> None:
        """List the samples; the chosen reference stays as long as it exists."""
        combo = self.reference_combo
        texts = [f"{s.name} ({pluralise(len(s.images), 'image')})" for s in samples]
        if [combo.itemText(i) for i in range(combo.count())] != texts:
            combo.clear()
            for text, sample in zip(texts, samples, strict=True):
                combo.addItem(text, sample.name)
        combo.setCurrentIndex(max(0, combo.findData(self.state.sessions.reference_of(samples))))

    def _choose_reference(self, index: int) -> None:
        self.state.sessions.reference = self.reference_combo.itemData(index)

    # ---- what is shown
    def _on_finished(self) -> None:
        if self._pending:  # the result was dropped
            self._inputs = None
        if self._pending or self._again:
            self._pending = self._again = False
            self.invalidate()

    def _on_error(self, error: BaseException) -> None:
        inputs, self._pending = self._inputs, False
        self._show_none(format_error(error))
        self._inputs = inputs  # the same would fail again

    def _show_none(self, message: str) -> None:
        for task in running(self.state, self._task):
            task.cancel()
        self.comparison, self._inputs, self.sentences = None, None, []
        self.body.hide()
        self.message.setText(message)
        self.message.show()

    def _take(self, comparison: SampleComparison) -> None:
        if self.state.blind:  # since the task was started
            return
        self.comparison, self._pending = comparison, False
        self.sentences = comparison_sentences(comparison)
        notes = [note for note in (self.left_out(), *comparison_notes(comparison)) if note]
        if not len(comparison.tested):
            notes.insert(0, capital(f"{why_untested(comparison).what}."))
        self.message.setText("\n".join(notes))
        self.message.setVisible(bool(notes))
        self.words.setPlainText("\n\n".join(self.sentences))
        self.words.setFixedHeight(round(WORDS_LINES * self.fontMetrics().lineSpacing()))
        self.words.setVisible(bool(self.sentences))
        plans = plans_of_samples(comparison)
        self.plans.setText(capital("; ".join(plans) + ".") if plans else "")
        self.plans.setVisible(bool(plans))
        self.model.show(comparison_lines(comparison))
        self.table.setColumnHidden(0, len(comparison.samples) == 2)  # the dock is narrow
        self.body.show()
        self._draw(comparison)
        self.body.setEnabled(not self._again)

    def _draw(self, comparison: SampleComparison) -> None:
        """Draw each panel by itself and after the last one, so that the window stays responsive."""
        figures = comparison_figures(comparison)
        trends = [panel for name in figures if name.startswith(TREND) for panel in figures[name]]
        panels = [*figures.get(self.figure, []), *trends]
        classes = classes_of_comparison(comparison, self.state.classes())
        while len(self.charts) < len(panels):
            chart = Chart(lines=PANEL_LINES)
            chart.setAccessibleName("Samples with intervals")
            self.figures.addWidget(chart)
            self.charts.append(chart)
        for chart in self.charts[len(panels) :]:
            chart.hide()
        for number, (chart, panel) in enumerate(zip(self.charts, panels, strict=False)):
            chart.setMinimumHeight(PANEL_LINES * self.fontMetrics().height())
            draw = partial(_draw_panel, panel=panel, table=comparison.table, classes=classes)
            chart.show()
            chart.show_chart(draw, " ".join(self.sentences))
            chart.redraw(number * STAGGER_MS)

    # ---- out
    def copy_sentences(self) -> None:
        """Copy the comparison in words."""
        copy("\n".join(self.sentences), pluralise(len(self.sentences), "sentence"))

    def copy_table(self) -> None:
        """Copy the rows of ``comparison.csv``."""
        if self.comparison is not None:
            table = with_scatter_note(self.comparison)
            copy_table(tab_separated(table), len(table))

    def save(self) -> None:
        """Write tables, sentences, figures and the record into a new folder."""
        chosen = choose_new_folder(self, "Folder to make for the comparison", "comparison")
        if chosen is None or self.comparison is None:
            return
        self.start(
            write_comparison,
            self.comparison,
            chosen,
            outcomes=[replace(outcome, parameters={}) for outcome in self._outcomes],
            classes=self.state.classes(),
            command=[],
            message="Writing the comparison",
            on_result=self._written,
            key=f"write {chosen}",
        )

    def _written(self, run: ComparisonRun) -> None:
        for what, error in run.failed_statistics.items():
            show_error(f"{capital(what)}: {error}")
        show_info(f"Written: {len(run.files)} files in {run.files[-1].parent}")
