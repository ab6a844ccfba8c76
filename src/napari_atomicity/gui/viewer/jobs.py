"""Functions that the viewer runs in workers, from arrays and tables to arrays and tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.errors import AtomicityError, ModelError
from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop, check, report
from ...detection import Detection, DetectionSettings, measure_at, merge, split
from ...models.analysis import Analysis
from ...pipeline.analysis import classify_clusters, embed_clusters
from ...pipeline.measurements import add_installed
from .. import tasks
from . import point_style
from .models import classifier_of

if TYPE_CHECKING:
    from ...models.classifier import Classifier

Engine = tuple[str, str]
"""Name of a model, and device."""


def measure_places(
    micrograph: Micrograph,
    places: np.ndarray,  # places (y, x) or (frame, y, x) in pixels
    settings: dict[str, Any],  # fields of `DetectionSettings`
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    """Measure the clusters at given places."""
    chosen = DetectionSettings(**settings)
    found = []
    for i, place in enumerate(places):
        report(progress, i, len(places), "Measuring")
        check(stop)
        frame = round(float(place[0])) if len(place) == 3 else 0
        found.append(measure_at(micrograph, frame, float(place[-2]), float(place[-1]), chosen))
    table = pd.concat([f.table for f in found], ignore_index=True)
    return _with_own(micrograph, Detection(table, [o for f in found for o in f.outlines]), stop)


def _with_own(micrograph: Micrograph, found: Detection, stop: Stop | None = None) -> Detection:
    """Return clusters with the measurements of installed packages."""
    measured = add_installed(Analysis(micrograph, found.table, found.outlines), stop)
    return replace(found, table=measured.table)


def split_or_merge(
    micrograph: Micrograph,
    frame: int,  # frame of a stack; 0 otherwise
    outlines: list[np.ndarray],
    settings: dict[str, Any],  # fields of `DetectionSettings`
) -> Detection:
    """Split one cluster into two, or merge several into one."""
    chosen = DetectionSettings(**settings)
    if len(outlines) == 1:
        return _with_own(micrograph, split(micrograph, frame, outlines[0], chosen))
    return _with_own(micrograph, merge(micrograph, frame, outlines, chosen))


def classify_some(
    analysis: Analysis,
    engine: Engine | None,  # model and device to use if the model of the analysis is not available
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify a few clusters and embed them in the map, if there is one."""
    tasks.cap_torch_threads()
    classifier = _classifier(analysis, engine)
    # The intensity scale is that of the image: a few clusters cannot determine it.
    analysis = classify_clusters(
        analysis, classifier, progress=progress, stop=stop, scale=analysis.scale
    )
    try:
        return embed_clusters(analysis, classifier, stop)
    except AtomicityError:
        return analysis


def class_map_images(
    analysis: Analysis,
    label: str | None,
    same_scale: bool,  # whether all maps have one scale; otherwise each map reaches from 0 to 1
    engine: Engine | None,  # model and device to use if the model of the analysis is not available
    stop: Stop | None = None,
) -> dict[str, np.ndarray]:
    """Return one image of all class maps for each channel."""
    maps = analysis.class_maps
    scale = point_style.class_map_scale(analysis) if same_scale else None
    if label is not None:
        classifier = _classifier(analysis, engine)
        maps = classifier.class_maps(analysis.patches, label, symmetries=analysis.symmetries)
    out = {}
    for channel, values in maps.items():
        check(stop)
        out[channel] = point_style.class_map_image(analysis, values, scale)
    return out


def outline_strokes(analysis: Analysis) -> tuple[np.ndarray, np.ndarray]:
    """Return the outlines as strokes with as many axes as the micrograph."""
    return point_style.outline_vectors(analysis, len(analysis.micrograph.shape))


def _classifier(analysis: Analysis, engine: Engine | None) -> Classifier:
    """Return the model of the analysis; if it is not available, the chosen one."""
    from ...models.classifier import load_classifier

    try:
        return classifier_of(analysis)
    except ModelError:
        if engine is None:
            raise
        return load_classifier(*engine)
