"""A whole session or project into a folder: tables, ratios, figures, report and record.

Each file is written whole or not at all. Pixels are read one image after the other; an image whose
file has gone, or that can't be drawn, costs a line in the report and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from ..core.acquisition_session import AcquisitionSession, Sample
from ..core.errors import Cancelled, attempt
from ..core.model_card import ModelCard
from ..core.processes import background_process
from ..core.progress import Progress, Stop, check, for_each_image, report
from ..core.settings import setting
from ..core.tables.cluster_table import classes_of, concatenate, is_excluded
from ..io.files import atomic_write, write_json
from ..io.inputs import make_folder
from ..io.provenance import (
    Outcome,
    assign_samples,
    assign_sessions,
    micrograph_fields,
    now,
    scopes_of,
    with_annotator,
    with_groups,
)
from ..io.result_folder import REPORT, ResultFolder
from ..io.tables import MAX_XLSX_ROWS, write_clusters, write_ratios, write_table
from ..models.analysis import Analysis, limits_of
from ..models.files import installed_model
from ..project import Project
from ..reporting.charts import confusion_chart, parity_chart, ratio_chart, write_figure
from ..reporting.examples import ClusterExample, select_examples
from ..reporting.image_section import Section, SectionFile, failed_section, image_section
from ..reporting.image_warnings import analysis_fields
from ..reporting.plots.base import Look
from ..reporting.plots.registry import PLOTS, SUFFIXES, save_plot, scales_of
from ..reporting.plots.session import SessionSummary, describe_sessions
from ..reporting.report import MANY_IMAGES, ReportData, ratios_of_scope, write_report
from ..statistics.annotators.agreement import (
    agreement,
    last_labels,
    removal_reasons,
    split_settlements,
)
from ..statistics.ratios.prevalence import COUNTED
from ..statistics.ratios.ratios import counted, refuse_unavailable
from ..statistics.ratios.reference import attempt_ratios, check_reference
from ..statistics.ratios.track_counts import answers_of
from ..statistics.samples.run_evidence import are_compared, compare_clusters
from ..statistics.stratified_accuracy import Accuracy, on_corrected
from ..tracking.files import analyse_if_tracked, write_movies
from .review_queue import Queue
from .reviewing import EXCLUDED, accuracy
from .window_state import WindowState

# ---- what is exported: a snapshot of a window, or of a project

SAMPLE_SETTING = "review/sample"
"""Under this key a project notes its stratified sample."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What is exported; edits that come later do not touch it."""

    analyses: tuple[Analysis, ...]  # in the order in which they are shown
    others: tuple[Outcome, ...] = ()  # outcomes of the images that have no analysis
    # log of what people did (`Project.corrections`); None if none is kept
    corrections: pd.DataFrame | None = None
    # the stratified sample that is reviewed, from which the accuracy of all labels follows
    sample: Queue | None = None
    name: str = ""  # of the project; "" without one
    sessions: tuple[AcquisitionSession, ...] = ()
    samples: tuple[Sample, ...] = ()
    reference_sample: str | None = None  # with which the others are compared; None: the first
    blind: str | None = None  # the annotator whose labels alone these are; None outside blind mode


_OF_SCALE = ("intensity_per_atom", "own_units", "certainty_of_scale", "scale_solutions", "session")
"""Parameters of an analysis that tell the intensity of an atom, and what labels say of it."""


def _failed(project: Project) -> dict[str, str]:
    """Image → why it could not be analysed."""
    return {image.name: image.error for image in project.images() if image.error}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A session at one moment, taken without reading anything: see `snapshot`."""

    analyses: tuple[Analysis, ...]  # in the order of the images
    missing: tuple[tuple[str, str], ...] = ()  # name and path of the images that have no analysis
    project: Project | None = None  # where the log is kept; None without a project
    # the annotator who may see nothing of the others; None outside blind mode
    blind: str | None = None
    sessions: tuple[AcquisitionSession, ...] = ()
    samples: tuple[Sample, ...] = ()
    reference_sample: str | None = None

    def contents(self) -> Contents:
        """With what the project holds beside; it is read here, in any thread.

        Raises `AtomicityError` if the project can't be read.
        """
        project = self.project
        failed = {} if project is None or not self.missing else _failed(project)
        others = [
            Outcome(image, path, "failed", failed[image])
            if image in failed
            else Outcome(image, path, "not reached", "not analysed yet")
            for image, path in self.missing
        ]
        grouped = self.sessions, self.samples, self.reference_sample, self.blind
        if project is None:
            return Contents(self.analyses, tuple(others), None, None, "", *grouped)
        log, sample = project.corrections(), None
        if self.blind is not None:
            log = log[(log["annotator"] == self.blind) & log["blind"]]
        elif noted := project.setting(SAMPLE_SETTING):
            sample = Queue.from_json(noted)
        name = project.path.stem
        return Contents(self.analyses, tuple(others), log, sample, name, *grouped)


def snapshot(state: WindowState) -> Snapshot:
    """Return what a window holds now, for a worker; call it in the thread of the window.

    Nothing is copied and nothing is read. In blind mode only what the annotator sees is exported.
    """
    analyses, missing = [], []
    for image in state.images:
        analysis = state.analysis(image)
        if analysis is None:
            missing.append((image, str(state.micrograph(image).path or "")))
        else:
            analyses.append(state.pixel_sizes.mark(analysis))
    blind = state.annotator if state.blind else None
    # Known samples and the scale would tell a blind annotator the labels.
    if state.blind:
        seen = tuple(_without_scale(analysis) for analysis in analyses)
        return Snapshot(seen, tuple(missing), state.project, blind)
    samples = state.sessions.samples(a.micrograph.name for a in analyses)
    reference = state.sessions.reference_of(samples)
    groups = tuple(state.sessions.groups()), tuple(samples), reference
    return Snapshot(tuple(analyses), tuple(missing), state.project, None, *groups)


def _without_scale(analysis: Analysis) -> Analysis:
    """Return an analysis without what its labels say of the intensity of an atom."""
    kept = {k: v for k, v in analysis.parameters.items() if k not in _OF_SCALE}
    return replace(analysis, parameters=kept)


def sampled_accuracy(
    sample: Queue, table: pd.DataFrame, corrections: pd.DataFrame
) -> Accuracy | None:
    """Estimate the accuracy of all labels from a stratified sample.

    No estimate is possible if other models made the predictions than when the sample was drawn.
    """
    if set(table["model_id"].astype(str)) - {"", *sample.models}:
        return None
    wanted = pd.MultiIndex.from_arrays([sample.images.astype(str), sample.ids])
    labels = table.set_index([table["image"].astype(str), table["cluster_id"]])
    excluded = wanted.isin(labels.index[is_excluded(table)])
    there = wanted.isin(labels.index) & ~excluded
    labels = labels[["label_predicted", "label_corrected"]].astype(object)
    labels = labels.reindex(wanted).fillna("")
    gone = removal_reasons(corrections[~corrections["blind"].astype(bool)])
    reason = np.array([gone.get(key, "") for key in wanted], object)
    return accuracy(
        sample,
        labels["label_predicted"].to_numpy(object),
        labels["label_corrected"].to_numpy(object),
        there,
        np.where(excluded, EXCLUDED, reason),
    )


# ---- the agreement of annotators as a table of a report
def agreement_table(corrections: pd.DataFrame) -> pd.DataFrame:
    """How far annotators agree, for a report: a row for all labels and one for each."""
    found = agreement(last_labels(split_settlements(corrections)[0]))
    if not found.n_items:
        return pd.DataFrame()
    of_all = {
        "label": f"all labels, {found.n_items} clusters, {len(found.annotators)} people",
        "share": found.share.value,
        **_ends("alpha", found.alpha),
        **_ends("kappa", found.kappa),
    }
    rows: list[Any] = [of_all, *found.by_label.to_dict("records")]
    return pd.DataFrame(
        {
            "Label": [row["label"] for row in rows],
            "Same": [_share(row["share"]) for row in rows],
            "Krippendorff's α": [_interval(row, "alpha") for row in rows],
            "Cohen's κ": [_interval(row, "kappa") for row in rows],
        }
    )


def _ends(name: str, figure: Any) -> dict[str, float]:
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value == value else "–"


def _interval(row: dict[str, Any], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.2f} ({low:.2f} to {high:.2f})" if value == value else "–"


MANY_CLUSTERS = 20_000
"""Number of clusters from which on a process of its own writes the workbook: it takes 5 s here."""
CHARTS = ("fractions", "parity", "confusion")
"""File names of figures that are not in `reporting.plots.registry.PLOTS`."""


@dataclass(frozen=True)
class Choices:
    """What is written, beside the tables as CSV and Parquet and the record."""

    # excel, latex, figures, report: whether the tables are written as workbooks too, the ratios as
    # LaTeX, the plots as PNG, SVG and CSV, and the report
    excel: bool = setting(
        True,
        "Excel workbooks",
        "The tables as XLSX in addition to CSV and Parquet.",
        key="report/excel",
    )
    latex: bool = setting(True, "LaTeX", "The ratios as a table for LaTeX.", key="report/latex")
    figures: bool = setting(
        True,
        "Figures",
        "Every plot but those of chosen columns as PNG, SVG and PDF, and its data as CSV.",
        key="report/figures",
    )
    report: bool = setting(True, "Report (HTML)", "The report as one file.", key="report/page")
    method: str = (
        "counted"  # how ratios are found, a name in `statistics.ratios.prevalence.METHODS`
    )
    # known ratios to set beside those that are found, with the columns scope, class and fraction:
    # see `statistics.ratios.reference`
    reference: pd.DataFrame | None = None
    # whether fractions are given even if a session does not fit the classes of the model
    keep_ratios: bool = False
    title: str = ""  # heading of the report; the name of the project, or a question, if empty


def installed_card(model_id: str) -> ModelCard | None:
    """Return the card of a model; None if it is not installed."""
    found = installed_model(model_id, ModelCard)
    return None if found is None else found[1]


def cards_of(
    table: pd.DataFrame, find_card: Callable[[str], ModelCard | None] = installed_card
) -> list[ModelCard | None]:
    """Return the cards of the models of clusters, that of most clusters first."""
    ids = table["model_id"].value_counts().drop("", errors="ignore").index
    return [find_card(model_id) for model_id in ids]


@dataclass(eq=False)
class _Export:
    """One export under way: what was found, and what has been written."""

    contents: Contents
    choices: Choices
    find_card: Callable[[str], ModelCard | None]
    progress: Progress | None
    stop: Stop | None
    sessions: Sequence[SessionSummary] = ()
    started: str = field(default_factory=now)
    failed: dict[str, str] = field(default_factory=dict)  # of the ratios and the comparison

    def __post_init__(self) -> None:
        analyses, choices = self.contents.analyses, self.choices
        self.images = [a.micrograph.name for a in analyses]
        self.outcomes = self._outcomes()
        self.table = with_groups(concatenate([a.table for a in analyses]), self.outcomes)
        self.classes = classes_of(self.table)
        self.card, *self.other_cards = cards_of(self.table, self.find_card) or [None]
        self.say("Finding the ratios")
        # Without clusters there is nothing to correct, and perhaps no model.
        by_method = choices.method if counted(self.table).any() else COUNTED
        refuse_unavailable(by_method, self.card)
        self.limits = limits_of(analyses, choices.keep_ratios)
        method: dict[str, Any] = {
            "method": by_method,
            "card": self.card,
            "stop": self.stop,
            "limits": self.limits,
        }
        if choices.reference is not None:
            check_reference(choices.reference, self.images, self.classes)
        self.ratios, self.comparison = attempt_ratios(
            self.table,
            self.images,
            choices.reference,
            self.images,
            self.failed,
            scopes_of(self.outcomes),
            **method,
        )

    def say(self, message: str, done: int = 0, total: int = 0) -> None:
        """Report progress; raise `Cancelled` if the export was stopped."""
        check(self.stop)
        report(self.progress, done, total, message)

    @property
    def has_large_workbook(self) -> bool:
        """Whether a process of its own writes the workbook of the clusters: it takes long."""
        return self.has_workbook and len(self.table) >= MANY_CLUSTERS

    @property
    def has_workbook(self) -> bool:
        """Whether there is a workbook of the clusters: not of more than a sheet of Excel holds."""
        return self.choices.excel and len(self.table) <= MAX_XLSX_ROWS

    @contextmanager
    def large_workbook(self, results: ResultFolder) -> Iterator[None]:
        """Write the workbook of many clusters in another process while the block runs."""
        if not self.has_large_workbook:
            yield
            return
        path = results / "clusters.xlsx"
        with TemporaryDirectory() as folder:
            written = Path(folder, path.name)
            with background_process(write_clusters, self.table, written, stop=self.stop):
                yield
                self.say("Writing clusters.xlsx")
            with atomic_write(path) as temporary:
                shutil.copyfile(written, temporary)
        results.add(path)

    def write_tables(self, results: ResultFolder) -> None:
        suffixes = ["csv", "parquet", *(["xlsx"] if self.choices.excel else [])]
        for suffix in suffixes:
            if suffix == "xlsx" and (self.has_large_workbook or not self.has_workbook):
                continue  # see `large_workbook`
            self.say(f"Writing clusters.{suffix}")
            results.add(write_clusters(self.table, results / f"clusters.{suffix}"))
        for suffix in [*suffixes, *(["tex"] if self.choices.latex else [])]:
            self.say(f"Writing ratios.{suffix}")
            results.add(write_ratios(self.ratios, results / f"ratios.{suffix}"))
        if self.comparison is not None:
            results.add(write_json(results / "reference.json", self.comparison.to_dict()))
        log = self.contents.corrections
        if log is not None and len(log):
            results.add(write_table(log, results / "corrections.csv"))
        found = (analyse_if_tracked(a, self.progress, self.stop) for a in self.contents.analyses)
        results.add(*write_movies([movie for movie in found if movie is not None], results.folder))

    def write_figures(self, results: ResultFolder) -> None:
        """Write every plot that has something to show."""
        folder, look = results / "figures", Look(self.classes)
        context: dict[str, Any] = {
            "classes": self.classes,
            "scales": scales_of(self.contents.analyses),
            "images": self.images,
            "limits": self.limits,
            "stop": self.stop,
        }
        for number, (name, plot) in enumerate(PLOTS.items()):
            self.say(f"Drawing {plot.title.lower()}", number, len(PLOTS))
            data = plot.data(self.table, **context)
            if len(data):
                for suffix in SUFFIXES:
                    results.add(save_plot(plot, data, folder / f"{name}{suffix}", look))
        of_all = ratios_of_scope(self.ratios, None, self.images)
        pairs = None if self.comparison is None else self.comparison.pairs
        drawn = (
            ratio_chart(of_all, self.classes),
            None if pairs is None else parity_chart(pairs, self.classes),
            confusion_chart(on_corrected(answers_of(self.table), self.classes).confusion),
        )
        for name, figure in zip(CHARTS, drawn, strict=True):
            if figure is not None:
                results.add(*write_figure(figure, folder / name))

    def _outcomes(self) -> list[Outcome]:
        done = []
        for analysis in self.contents.analyses:
            micrograph = analysis.micrograph
            done.append(
                Outcome(
                    micrograph.name,
                    str(micrograph.path or ""),
                    "done",
                    **micrograph_fields(micrograph),
                    **analysis_fields(analysis),
                )
            )
        grouped = assign_sessions(done, self.contents.sessions)
        return [*assign_samples(grouped, self.contents.samples), *self.contents.others]

    def circumstances(self) -> dict[str, Any]:
        """Return the keywords of `io.provenance.run_record`."""
        chosen = asdict(self.choices)
        reference = self.choices.reference
        chosen["reference"] = None if reference is None else reference.to_dict("records")
        devices = {
            str(a.parameters["device"])
            for a in self.contents.analyses
            if a.parameters.get("device")
        }
        models = [a.parameters.get("model") for a in self.contents.analyses]
        model = next((m for m in models if m), None)
        found = ((a.micrograph.name, a.parameters.get("session")) for a in self.contents.analyses)
        jointly = {image: session for image, session in found if session}
        return {
            "started": self.started,
            "finished": now(),
            "parameters": with_annotator(chosen, self.contents.blind),
            "model": model if self.card is None else self.card.provenance(),
            "device": ", ".join(sorted(devices)) or None,
            "command": [],
            "sessions": describe_sessions(self.contents.sessions, jointly),
            "samples": self.contents.samples,
        }

    def sections(self, outcomes: Sequence[Outcome]) -> tuple[list[Section], list[ClusterExample]]:
        """Of each image its section and, of all, the foremost examples; one image at a time."""
        analyses = self.contents.analyses
        small = len(analyses) > MANY_IMAGES
        sections: list[Section] = []
        examples: list[ClusterExample] = []
        file = SectionFile()

        def draw(analysis: Analysis) -> Section:
            outcome = outcomes[len(sections)]
            self.say(f"Drawing {outcome.image}", len(sections), len(analyses))
            ratios = ratios_of_scope(self.ratios, outcome.image, self.images)
            section = image_section(analysis, outcome, small, ratios=ratios)
            examples[:] = select_examples(examples, analysis, classes_of(analysis.table))
            return section

        def failed(analysis: Analysis, error: Exception) -> Section:
            return failed_section(analysis.micrograph.name, f"{type(error).__name__}: {error}")

        def store(section: Section) -> None:
            sections.append(file.store(section))

        if for_each_image(analyses, draw, sinks=[store], stop=self.stop, on_error=failed):
            raise Cancelled
        return sections, examples

    def sample(self) -> Accuracy | None:
        sample, log = self.contents.sample, self.contents.corrections
        if sample is None or log is None:
            return None
        found = sampled_accuracy(sample, self.table, log)
        return found if found is not None and found.overall.n else None

    def write(self, out_dir: Path) -> list[Path]:
        """Write everything that was chosen; return the files."""
        results = ResultFolder(out_dir, "export")
        results.failed.update(self.failed)
        outcomes = self.outcomes
        write_page = None
        with self.large_workbook(results):
            self.write_tables(results)
            if self.choices.figures:
                attempt(results.failed, "figures", partial(self.write_figures, results))
            if self.choices.report:
                drawn = self.sections(outcomes)
                write_page = partial(self.write_page, results / REPORT, *drawn)
        if write_page is not None:
            self.say("Writing the report")
        results.finish(outcomes, write_page, **self.circumstances())
        results.raise_failed()
        return results.files

    def write_page(
        self,
        path: Path,
        sections: list[Section],
        examples: list[ClusterExample],
        record: dict[str, Any],
    ) -> None:
        """Write the report."""
        log, samples = self.contents.corrections, None
        if are_compared(self.contents.samples) and len(self.table):
            samples = compare_clusters(
                self.table,
                self.outcomes,
                self.contents.samples,
                self.contents.reference_sample,
                keep_ratios=self.choices.keep_ratios,
            )
        data = ReportData(
            self.table,
            self.ratios,
            record,
            self.comparison,
            card=self.card,
            other_cards=tuple(filter(None, self.other_cards)),
            examples=examples,
            corrections=log,
            agreement=None if log is None else agreement_table(log),
            sample=self.sample(),
            scales=scales_of(self.contents.analyses),
            title=self.choices.title or self.contents.name,
            sessions=self.sessions,
            samples=samples,
        )
        write_report(path, sections, data)


def export(
    source: WindowState | Snapshot | Contents | Sequence[Analysis],
    out_dir: str | PathLike[str],
    choices: Choices | None = None,  # what is written, and how ratios are computed
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    find_card: Callable[[str], ModelCard | None] = installed_card,  # of a model, by its id
    sessions: Sequence[SessionSummary] = (),
) -> list[Path]:
    """Write all that is known of a session, a project or some analyses into a folder.

    Raises `AtomicityError` if the folder can't be made, a file can't be written, or the method or
    the reference does not fit; after all else is written, if ratios, a figure or the report failed.
    Raises `Cancelled` if ``stop()`` says so; files that are complete stay, ``run.json`` is not
    among them.
    """
    if isinstance(source, WindowState):
        source = snapshot(source)
    if isinstance(source, Snapshot):
        source = source.contents()
    contents = source if isinstance(source, Contents) else Contents(tuple(source))
    folder = Path(out_dir)
    make_folder(folder)
    choices = choices or Choices()
    return _Export(contents, choices, find_card, progress, stop, sessions).write(folder)
