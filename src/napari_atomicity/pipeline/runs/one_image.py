"""Step of every run: read and analyse one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ...core.errors import attempt
from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...io.images import load
from ...io.inputs import Input
from ...io.outline_files import GivenOutlines, outlines_file, read_outlines
from ...io.provenance import Outcome
from ...io.readers.lazy_micrograph import LazyMicrograph
from ...models.analysis import Analysis
from ...models.inference import Classifier
from ...reporting.image_warnings import analysis_fields, image_warnings
from ...tracking.files import average_if_stack, track_if_stack
from ..analysis import analyse, detect_clusters, with_failed
from ..run_request import RunRequest
from .run_files import process_image

T = TypeVar("T")


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


def detect_again(outcome: Outcome, table: pd.DataFrame, request: RunRequest) -> Analysis | None:
    """Detect the clusters of an analysed image again, for their outlines; ``table`` has its rows.

    None if the file, or what is detected in it, has changed since then.
    """
    micrograph = load(outcome.path, outcome.pixel_size_nm, name=outcome.image)
    if micrograph.sha256 != outcome.sha256:
        return None
    analysis = detect_clusters(
        average_if_stack(micrograph, request.average_frames),
        request.detection,
        outlines=read_given(request.outlines, micrograph),
        rois=read_given(request.rois, micrograph),
    )
    places = ["frame", "y_px", "x_px"]
    same = len(analysis.table) == len(table) and np.allclose(analysis.table[places], table[places])
    return replace(analysis, table=table.reset_index(drop=True)) if same else None


def read_given(source: str | None, micrograph: Micrograph) -> GivenOutlines | None:
    """Read the outlines or regions of an image from a file or a folder; None without one."""
    if source is None:
        return None
    return read_outlines(outlines_file(source, micrograph.name, micrograph.path))


def describe_outcome(outcome: Outcome, analysis: Analysis) -> Outcome:
    """Return the outcome of an image with the parameters and warnings of its analysis."""
    return replace(
        outcome,
        parameters=analysis.parameters,
        seconds=analysis.seconds,
        warnings=image_warnings(analysis.table, analysis.parameters),
    )


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
    *,
    outlines: GivenOutlines | None = None,  # default: those of the request
    rois: GivenOutlines | None = None,
) -> Analysis:
    """Analyse an image with the settings of a run, and track the clusters of a stack.

    Raises `CalibrationError`, `ModelError` or `Cancelled` as `pipeline.analysis.analyse` does.
    """
    outlines = outlines or read_given(request.outlines, micrograph)
    rois = rois or read_given(request.rois, micrograph)
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
        outlines=outlines,
        rois=rois,
    )
    failed: dict[str, str] = {}
    tracked = attempt(failed, "tracks", lambda: track_if_stack(analysis, progress, stop))
    return tracked or with_failed(analysis, failed)
