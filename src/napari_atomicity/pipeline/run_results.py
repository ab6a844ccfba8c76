"""Results of a run: the analysed images, their sessions, and the files made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.cluster_table import empty
from ..core.errors import Cancelled
from ..core.failed_statistics import attempt
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..io.inputs import Input
from ..io.provenance import Outcome
from ..io.tables import concatenate, write_clusters
from ..models.analysis import Analysis
from ..models.classifier import Classifier
from ..reporting.examples import ClusterExample, select_examples
from ..reporting.image_section import Section, image_section
from ..reporting.image_warnings import image_warnings
from ..reporting.plot_session import MAX_SESSIONS, SessionSummary
from ..reporting.plots import scales_of
from ..statistics.ratios import COLUMNS
from ..tracking.files import FILES as MOVIE_FILES, analyse_if_tracked, write_movies
from ..tracking.following import TrackedMovie
from .acquisition_sessions import SessionRules
from .analysis import with_failed
from .image_step import add_unreached
from .run_files import ReportContent, Run, RunInfo, finalize_run
from .run_request import RunRequest
from .session_labels import describe_sessions, label_session, summarise_session


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
