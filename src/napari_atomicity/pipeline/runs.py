"""Run: analyse images one by one and write tables, report and record.

A file that cannot be analysed is a row in the report and in the record; it does not end the run. If
the run is interrupted, the completed images are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from ..core.failed_statistics import attempt
from ..core.micrograph import Micrograph
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, report
from ..io.inputs import Input, make_folder, named_inputs
from ..io.lazy_micrograph import LazyMicrograph
from ..io.provenance import Outcome, now
from ..io.tables import read_reference
from ..models.analysis import Analysis
from ..models.classifier import Classifier, load_classifier
from ..reporting.image_warnings import analysis_fields
from ..reporting.report import MANY_IMAGES
from ..statistics.ratios import refuse_unavailable
from ..statistics.reference import check_reference
from ..tracking.files import (
    average_if_stack,
    track_if_stack,
)
from .acquisition_sessions import SessionRules
from .analysis import analyse, with_failed
from .image_step import process_image, process_in_turn
from .run_files import Run, RunInfo
from .run_request import RunRequest
from .run_results import RunResults

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

    Parameters
    ----------
    out_dir : str or path-like
        Folder for ``clusters.csv``, ``clusters.parquet``, ``ratios.csv``, ``report.html``,
        ``run.json``, ``reference.json`` if there is a reference, and the files of
        `tracking.files` for stacks. Replaces the files of an earlier run.
    on_outcome : callable, optional
        Called after each image with its outcome and, if it was analysed, the analysis.
    command : sequence of str, optional
        Command line for the record; that of this process if None.

    Returns
    -------
    Run
        After an interruption (``stop`` or Ctrl-C), with the completed images.

    Raises
    ------
    ModelError
        If the model cannot be loaded, or lacks the device or the data for the ratios.
    TableError
        If the reference does not match the images and the model.
    AtomicityError
        If the folder or a file cannot be written.
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
        as in `pipeline.batch`, and are not drawn.
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
