"""Run: analyse images one by one and write tables, report and record.

A file that cannot be analysed is a row in the report and in the record; it does not end the run. If
the run is interrupted, the completed images are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from ...core.errors import Cancelled, attempt
from ...core.micrograph import Micrograph
from ...core.model_card import ModelCard
from ...core.progress import Progress, Stop, check, report
from ...core.tables.cluster_table import empty
from ...io.inputs import Input, make_folder, named_inputs
from ...io.provenance import Outcome, now
from ...io.readers.lazy_micrograph import LazyMicrograph
from ...io.tables import concatenate, read_reference, write_clusters
from ...models.analysis import Analysis
from ...models.inference import Classifier, load_classifier
from ...reporting.examples import ClusterExample, select_examples
from ...reporting.image_section import Section, image_section
from ...reporting.image_warnings import analysis_fields, image_warnings
from ...reporting.plots.registry import scales_of
from ...reporting.plots.session import MAX_SESSIONS, SessionSummary
from ...reporting.report import MANY_IMAGES
from ...statistics.ratios.ratios import COLUMNS, refuse_unavailable
from ...statistics.ratios.reference import check_reference
from ...tracking.files import (
    FILES as MOVIE_FILES,
    analyse_if_tracked,
    average_if_stack,
    track_if_stack,
    write_movies,
)
from ...tracking.following import TrackedMovie
from ..acquisition_sessions import SessionRules
from ..analysis import analyse, with_failed
from ..image_step import add_unreached, process_image, process_in_turn
from ..run_request import RunRequest
from ..session_labels import describe_sessions, label_session, summarise_session
from .run_files import ReportContent, Run, RunInfo, finalize_run


# ---- results of a run: the analysed images, their sessions, and the files made of them
@dataclass(eq=False)
class RunResults:
    """Results of a run, image by image, and the tables, report and record that they make."""

    card: ModelCard
    request: RunRequest
    sessions: SessionRules  # how the images are grouped into sessions
    small: bool = False  # whether the report has small sections of single images
    progress: Progress | None = None
    stop: Stop | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    # image → its analysis, until it is drawn
    analyses: dict[str, Analysis] = field(default_factory=dict)
    # image → description of the scale of its session, for images labelled jointly
    joint: dict[str, dict[str, Any]] = field(default_factory=dict)
    # image → number of clusters with another label than by the image itself
    n_changed: dict[str, int] = field(default_factory=dict)
    summaries: list[SessionSummary] = field(default_factory=list)  # sessions that the report draws
    tables: list[pd.DataFrame] = field(default_factory=list)  # cluster tables of the drawn images
    sections: list[Section] = field(default_factory=list)
    movies: list[TrackedMovie] = field(default_factory=list)  # tracked stacks
    examples: Sequence[ClusterExample] = ()
    interrupted: bool = False
    scales: dict[str, float] = field(default_factory=dict)  # image → intensity of one atom

    def label_sessions(self, classifier: Classifier) -> None:
        """Label the images of each session jointly."""
        for session in self.sessions.group(self.outcomes):
            images = [image for image in session.images if image in self.analyses]
            if len(images) < 2 and not session.known and session.earlier is None:
                continue
            failed: dict[str, str] = {}
            found = attempt(
                failed,
                "labels of the session",
                partial(
                    label_session,
                    [self.analyses[image] for image in images],
                    classifier,
                    session=session,
                    progress=self.progress,
                ),
            )
            if found is None:
                for image in images:
                    self.analyses[image] = with_failed(self.analyses[image], failed)
                continue
            if found.scale is not None and len(self.summaries) < MAX_SESSIONS:
                fit, card = found.class_fit, self.card
                self.summaries.append(summarise_session(session, images, found.scale, fit, card))
            for image, analysis in zip(images, found.analyses, strict=True):
                before, after = self.analyses[image].table, analysis.table
                changed = before["label_predicted"] != after["label_predicted"]
                self.n_changed[image] = int(changed.sum())
                self.joint[image] = analysis.parameters.get("session", {})
                self.analyses[image] = analysis

    def draw(self) -> None:
        """Draw the analysed images; what fails is named in the outcome."""
        for i, outcome in enumerate(self.outcomes):
            analysis = self.analyses.pop(outcome.image, None)
            if analysis is None:
                continue
            report(self.progress, i, len(self.outcomes), f"Drawing {outcome.image}")
            self.tables.append(analysis.table)
            failed: dict[str, str] = {}
            try:
                self._draw(analysis, outcome, failed)
            except Cancelled:
                self.interrupted = True
            self.outcomes[i] = describe_outcome(outcome, with_failed(analysis, failed))

    def _draw(self, analysis: Analysis, outcome: Outcome, failed: dict[str, str]) -> None:
        """Draw an image, unless the run was interrupted: then its tables are saved soon."""
        if not self.interrupted:
            check(self.stop)
            self.process_labelled(analysis, outcome, failed)

    def process_labelled(
        self, analysis: Analysis, outcome: Outcome, failed: dict[str, str]
    ) -> None:
        """Process an image with its final labels: here, draw it for the report."""
        draw = partial(self._add_section, analysis, outcome, failed)
        attempt(failed, "section of the report", draw)

    def _add_section(self, analysis: Analysis, outcome: Outcome, failed: dict[str, str]) -> None:
        card, name = self.card, outcome.image
        method, keep = self.request.ratios, self.request.keep_ratios
        movie = attempt(
            failed, "movie", partial(analyse_if_tracked, analysis, self.progress, self.stop)
        )
        if movie is not None:
            self.movies.append(movie)
        ratios = attempt(
            failed,
            "ratios",
            partial(analysis.ratios, method, keep_ratios=keep, card=card, scope=name),
        )
        ratios = pd.DataFrame(columns=COLUMNS) if ratios is None else ratios
        outcome = describe_outcome(outcome, with_failed(analysis, failed))
        section = image_section(analysis, outcome, self.small, ratios=ratios, movie=movie)
        self.sections.append(section)
        self.examples = select_examples(self.examples, analysis, card.classes) or self.examples
        self.scales.update(scales_of([analysis]))

    def finalize(
        self,
        out_dir: Path,
        inputs: Sequence[Input],
        reference: pd.DataFrame | None,
        info: RunInfo,
    ) -> Run:
        """Write the files of the run."""
        outcomes = self.sessions.with_sessions(add_unreached(self.outcomes, inputs))
        joint = {image: session for image, session in self.joint.items() if session}
        described = describe_sessions(self.sessions.group(outcomes), joint, self.n_changed)
        table = concatenate([empty(self.card.classes), *self.tables])

        def write_tables(csv: Path, parquet: Path) -> None:
            write_clusters(table, csv)
            write_clusters(table, parquet)
            write_movies(self.movies, out_dir)

        return finalize_run(
            out_dir,
            self.request,
            self.card,
            table,
            outcomes,
            write_tables,
            info._replace(sessions=described),
            ReportContent(self.sections, self.examples, self.scales, self.summaries),
            reference,
            MOVIE_FILES if self.movies else (),
        )


def describe_outcome(outcome: Outcome, analysis: Analysis) -> Outcome:
    """Return the outcome of an image with the parameters and warnings of its analysis."""
    return replace(
        outcome,
        parameters=analysis.parameters,
        seconds=analysis.seconds,
        warnings=image_warnings(analysis.table, analysis.parameters),
    )


__all__ = ["Run", "RunRequest", "analyse_images", "analyse_one"]

T = TypeVar("T")
MAX_CLUSTERS = 20_000
"""Number of clusters whose patches are kept in memory, half a gigabyte; sessions of longer runs are
labelled in blocks."""


def analyse_images(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: RunRequest | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, Analysis | None], None] | None = None,
    command: Sequence[str] | None = None,
) -> Run:
    """Analyse files and folders of images and write tables, report and record.

    Raises `ModelError` if the model cannot be loaded, or lacks the device or the data for the
    ratios. Raises `TableError` if the reference does not match the images and the model. Raises
    `AtomicityError` if the folder or a file cannot be written.
    """
    request, out_dir = request or RunRequest(), Path(out_dir)
    started = now()
    report(progress, 0, 0, "Loading the model")
    classifier = load_classifier(request.model, request.device)
    inputs = named_inputs(paths)
    reference = read_checked_reference(request, inputs, classifier.card)
    sessions = SessionRules.read(request, classifier.card.classes)
    sessions.check([item.name for item in inputs])
    make_folder(out_dir)  # wrong usage writes nothing
    results = ImageRun(
        classifier.card,
        request,
        sessions,
        len(inputs) > MANY_IMAGES,
        progress,
        stop,
        classifier=classifier,
    )
    results.process(inputs, on_outcome)
    report(progress, 0, 0, "Writing tables and report")
    info = RunInfo(started, str(classifier.device), results.interrupted, command)
    return results.finalize(out_dir, inputs, reference, info)


def read_checked_reference(
    request: RunRequest, inputs: Sequence[Input], card: ModelCard
) -> pd.DataFrame | None:
    """Read the reference ratios of a request and check that they match.

    Raises `ModelError` if the model lacks the data for the ratios. Raises `TableError` if the
    reference does not match the images and the model.
    """
    refuse_unavailable(request.ratios, card)
    if request.reference is None:
        return None
    reference = read_reference(request.reference)
    check_reference(reference, [item.name for item in inputs], card.classes)
    return reference


@dataclass(frozen=True, eq=False)
class _Result:
    """Result of one image."""

    outcome: Outcome
    analysis: Analysis | None = None


@dataclass(eq=False)
class ImageRun(RunResults):
    """Step and sink of a run: analyses the images, then labels and draws those of each session."""

    classifier: Classifier | None = None

    def process(
        self,
        inputs: Sequence[Input],
        on_outcome: Callable[[Outcome, Analysis | None], None] | None,
    ) -> None:
        """Analyse images one after the other, then label and draw them."""
        self.interrupted = process_in_turn(
            inputs, self.analyse, self.add, on_outcome, self.progress, self.stop
        )
        self.label_and_draw()

    def analyse(self, item: Input, progress: Progress) -> _Result:
        """Analyse an image."""
        assert self.classifier is not None
        outcome, analysis, _ = analyse_one(item, self.classifier, self.request, progress, self.stop)
        if analysis is not None and self.request.average_frames is None:  # averages are in no file
            analysis = without_pixels(analysis, item.path)
        return _Result(outcome, analysis)

    def add(self, result: _Result) -> None:
        """Keep the result of an image."""
        self.outcomes.append(result.outcome)
        if result.analysis is not None:
            self.analyses[result.outcome.image] = result.analysis
        if sum(len(analysis.table) for analysis in self.analyses.values()) > MAX_CLUSTERS:
            self.label_and_draw()

    def label_and_draw(self) -> None:
        """Label the images that are kept, session by session, and draw them.

        An interrupted run is saved soon: its images keep the labels that they have by themselves,
        as in `pipeline.runs.batch`, and are not drawn.
        """
        if not self.interrupted:
            assert self.classifier is not None
            self.label_sessions(self.classifier)
        self.draw()


def analyse_one(
    item: Input,
    classifier: Classifier,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    then: Callable[[Analysis, Outcome], T] | None = None,
) -> tuple[Outcome, Analysis | None, T | None]:
    """Read and analyse one image; convert any error to its outcome."""

    def step(micrograph: Micrograph, known: dict[str, Any]) -> tuple[Outcome, Analysis, T | None]:
        analysis = analyse_micrograph(micrograph, classifier, request, progress, stop)
        outcome = item.outcome("done", **known, **analysis_fields(analysis))
        return outcome, analysis, None if then is None else then(analysis, outcome)

    return process_image(item, step, request.pixel_size_nm, progress)


def without_pixels(analysis: Analysis, path: Path) -> Analysis:
    """Replace the micrograph by one that reads its pixels on demand; it is small to transfer."""
    whole = analysis.micrograph
    stored = LazyMicrograph(
        path,
        whole.shape,
        whole.pixel_size_nm,
        name=whole.name,
        sha256=whole.sha256,
        metadata=whole.metadata,
    )
    return replace(analysis, micrograph=stored)


def analyse_micrograph(
    micrograph: Micrograph,
    classifier: Classifier,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Analyse an image with the settings of a run, and track the clusters of a stack.

    Raises `CalibrationError`, `ModelError` or `Cancelled` as `pipeline.analysis.analyse` does.
    """
    micrograph = average_if_stack(micrograph, request.average_frames, progress, stop)
    analysis = analyse(
        micrograph,
        classifier,
        progress=progress,
        stop=stop,
        settings=request.detection,
        umap=request.umap,
        symmetries=request.symmetries,
        labels_from=request.labels,
    )
    failed: dict[str, str] = {}
    tracked = attempt(failed, "tracks", lambda: track_if_stack(analysis, progress, stop))
    return tracked or with_failed(analysis, failed)
