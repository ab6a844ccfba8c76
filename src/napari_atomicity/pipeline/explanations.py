"""Class maps of all clusters of images, and their averages by class."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import FAILED, Cancelled, ModelError, attempt
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..core.tables.cluster_table import concatenate, empty
from ..io.files import RESULT, atomic_write
from ..io.inputs import Input, make_folder, named_inputs
from ..io.outline_files import plain_name, without_outlines
from ..io.provenance import Outcome, now, with_groups
from ..io.result_folder import ResultFolder
from ..io.tables import write_clusters
from ..models.analysis import Analysis
from ..models.class_maps.class_average_figure import write_averages
from ..models.class_maps.class_averages import Averages, of_analyses
from ..models.inference import Classifier, load_classifier
from .acquisition_sessions import SessionRules
from .analysis import with_failed
from .run_request import ExplainRequest
from .runs.in_memory import MAX_CLUSTERS, AnalysedImages
from .runs.one_image import analyse_one, describe_outcome, without_pixels
from .runs.run_files import (
    RunInfo,
    WithOutcomes,
    add_unreached,
    process_in_turn,
    summarise_outcomes,
)


# ---- write class maps as an ImageJ stack
def write_map_stack(
    maps: Mapping[str, np.ndarray],  # channel → (N, h, w), at least one cluster
    names: Sequence[str],
    pixel_size_nm: float,  # pixel size of the maps in nm
    path: str | os.PathLike[str],
) -> Path:
    """Write the maps of the clusters of an image as a stack that ImageJ, Fiji and napari open.

    Raises `AtomicityError` if the file can not be written.
    """
    from tifffile import imwrite

    stack = np.stack(list(maps.values()), axis=1).astype(np.float32)
    labels = [f"{name}, {channel}" for name in names for channel in maps]
    with atomic_write(path) as temporary:
        imwrite(
            temporary,
            stack,
            imagej=True,
            software=RESULT,
            resolution=(1 / pixel_size_nm, 1 / pixel_size_nm),
            metadata={"axes": "ZCYX", "unit": "nm", "mode": "grayscale", "Labels": labels},
        )
    return Path(path)


PREDICTED = "predicted"
"""Name of the maps of the predicted class of each cluster."""
MAPS = "class_maps"
"""Folder of the class maps of single images."""


@dataclass(frozen=True, eq=False)
class ExplainRun(WithOutcomes):
    """Result of `explain_images`."""

    table: pd.DataFrame
    averages: dict[str, Averages]  # class of the maps, or `PREDICTED` → class averages
    outcomes: list[Outcome]
    files: list[Path]  # files; the record is the last one
    interrupted: bool
    failed_statistics: dict[str, str]  # averages that failed, and their errors

    def summary(self) -> dict[str, Any]:
        """Summarise the run as plain values for JSON."""
        return {
            "out": str(self.files[-1].parent),
            "files": [path.name for path in self.files],
            "interrupted": self.interrupted,
            "clusters": len(self.table),
            "images": summarise_outcomes(self.outcomes, "clusters"),
            "explained": {
                name: {
                    "unit": averages.unit,
                    "left_out": averages.left_out,
                    "averages": averages.balances().to_dict("records"),
                }
                for name, averages in self.averages.items()
            },
            FAILED: self.failed_statistics,
        }


@dataclass(frozen=True, eq=False)
class _Result:
    """Result of one image."""

    outcome: Outcome
    analysis: Analysis | None


@dataclass(eq=False)
class _Explanations:
    """Analyses the images, labels those of each session, and computes their class maps."""

    classifier: Classifier
    request: ExplainRequest
    sessions: SessionRules
    out_dir: Path
    explained: Sequence[str]
    progress: Progress | None
    stop: Stop | None
    outcomes: list[Outcome] = field(default_factory=list)
    tables: list[pd.DataFrame] = field(default_factory=list)  # of the images that are explained
    kept: dict[str, list[Analysis]] = field(default_factory=dict)  # what the averages need
    files: list[Path] = field(default_factory=list)
    interrupted: bool = False
    _images: AnalysedImages = field(init=False)  # whose class maps are not yet written

    def __post_init__(self) -> None:
        self._images = AnalysedImages(self.classifier.card, self.request, self.sessions)

    def process(
        self,
        inputs: Sequence[Input],
        on_outcome: Callable[[Outcome, Analysis | None], None] | None,
    ) -> None:
        """Analyse images one after the other, then label and explain them."""
        self.interrupted = process_in_turn(
            inputs, self.analyse, self.add, on_outcome, self.progress, self.stop
        )
        self.label_and_explain()

    def analyse(self, item: Input, progress: Progress) -> _Result:
        """Analyse an image."""
        outcome, analysis, _ = analyse_one(item, self.classifier, self.request, progress, self.stop)
        return _Result(outcome, None if analysis is None else without_pixels(analysis, item.path))

    def add(self, result: _Result) -> None:
        """Keep the result of an image; longer runs are labelled in blocks."""
        images = self._images
        images.outcomes.append(result.outcome)
        if result.analysis is not None:
            images.analyses[result.outcome.image] = result.analysis
        if sum(len(analysis.table) for analysis in images.analyses.values()) > MAX_CLUSTERS:
            self.label_and_explain()

    def label_and_explain(self) -> None:
        """Label the images that are kept, session by session, and write their class maps.

        An interrupted run is saved soon: its images keep the labels that they have by themselves,
        and have no class maps.
        """
        images = self._images
        if not self.interrupted:
            images.label_sessions(self.classifier, self.progress)
        for i, outcome in enumerate(images.outcomes):
            analysis = images.analyses.pop(outcome.image, None)
            if analysis is not None:
                report(self.progress, i, len(images.outcomes), f"Drawing {outcome.image}")
                outcome = self._add_maps(analysis, outcome)
            self.outcomes.append(outcome)
        images.outcomes.clear()

    def _add_maps(self, analysis: Analysis, outcome: Outcome) -> Outcome:
        """Write the class maps of an image and keep what the averages need."""
        self.tables.append(analysis.table)
        failed: dict[str, str] = {}
        try:
            for name in () if self.interrupted else self.explained:
                check(self.stop)
                attempt(failed, f"class maps ({name})", partial(self._explain, analysis, name))
        except Cancelled:
            self.interrupted = True
        return describe_outcome(outcome, with_failed(analysis, failed))

    def _explain(self, analysis: Analysis, name: str) -> None:
        maps = analysis.class_maps
        if name != PREDICTED:
            symmetries = analysis.symmetries
            maps = self.classifier.class_maps(analysis.patches, name, symmetries=symmetries)
        if not len(analysis.table) or not maps:
            return
        path = self.out_dir / MAPS / f"{analysis.micrograph.name}-class-maps{_about(name)}.tif"
        make_folder(path.parent)
        self.files.append(write_class_maps(analysis, maps, path))
        kept = replace(
            analysis, class_maps=maps, outlines=[], predictions=(), embedding=np.empty((0, 0))
        )
        self.kept.setdefault(name, []).append(kept)

    def average(self, name: str) -> Averages:
        """Average the class maps of one kind, and write figure and tables."""
        request = self.request
        averages = of_analyses(
            self.kept.pop(name, []),
            request.unit,
            request.per_class,
            self.progress,
            own_class=name == PREDICTED,
        )
        self.files += write_averages(
            averages, self.out_dir, _about(name), normalised=request.normalised
        )
        return averages

    def finalize_explanations(self, inputs: Sequence[Input], info: RunInfo) -> ExplainRun:
        """Average the class maps and write tables and record."""
        outcomes = self.sessions.with_sessions(add_unreached(self.outcomes, inputs))
        table = concatenate([empty(self.classifier.card.classes), *self.tables])
        results = ResultFolder(self.out_dir, "explain")
        averages = {}
        for name in () if info.interrupted else self.explained:
            compute = partial(self.average, name)
            found = attempt(results.failed, f"class averages ({name})", compute)
            if found is not None:
                averages[name] = found
        table = with_groups(table, outcomes)
        results.add(write_clusters(table, results / "clusters.csv"), *self.files)
        results.finish(
            outcomes,
            started=info.started,
            finished=now(),
            parameters=self.request.parameters(),
            model=self.classifier.card.provenance(),
            device=info.device,
            interrupted=info.interrupted,
            command=info.command,
        )
        return ExplainRun(
            table, averages, outcomes, results.files, info.interrupted, results.failed
        )


def _about(name: str) -> str:
    return "" if name == PREDICTED else f"-{plain_name(name)}"


def write_class_maps(
    analysis: Analysis, maps: dict[str, np.ndarray], path: str | PathLike[str]
) -> Path:
    """Write the class maps of the clusters of an image, named by id and label."""
    ids, labels = analysis.table["cluster_id"], analysis.table["label"]
    names = [f"{number} {label}".strip() for number, label in zip(ids, labels, strict=True)]
    width = next(iter(maps.values())).shape[-1]
    return write_map_stack(maps, names, analysis.field_of_view_nm / width, path)


def explain_images(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: ExplainRequest | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, Analysis | None], None] | None = None,
    command: Sequence[str] | None = None,
) -> ExplainRun:
    """Write the class maps of all clusters of images, and their averages by class and channel.

    Raises `ModelError` if the model cannot be loaded, or lacks the device or a class. Raises
    `AtomicityError` if the folder or a file cannot be written.
    """
    request, out_dir, started = request or ExplainRequest(), Path(out_dir), now()
    report(progress, 0, 0, "Loading the model")
    classifier = load_classifier(request.model, request.device)
    explained = tuple(dict.fromkeys(request.explained)) or (PREDICTED,)
    _refuse_unknown(explained, classifier.card)
    inputs = without_outlines(named_inputs(paths), request.outlines, request.rois)
    sessions = SessionRules.read(request, classifier.card.classes)
    sessions.check([item.name for item in inputs])
    make_folder(out_dir)  # wrong usage writes nothing
    results = _Explanations(classifier, request, sessions, Path(out_dir), explained, progress, stop)
    results.process(inputs, on_outcome)
    info = RunInfo(started, classifier.device_name, results.interrupted, command)
    return results.finalize_explanations(inputs, info)


def _refuse_unknown(explained: Iterable[str], card: ModelCard) -> None:
    """Raise `ModelError` if the model lacks a class."""
    unknown = [name for name in explained if name not in (PREDICTED, *card.classes)]
    if unknown:
        raise ModelError(
            f"{card.name!r} has no class {unknown[0]!r}",
            advice=f"Its classes are {', '.join(card.classes)}",
        )
