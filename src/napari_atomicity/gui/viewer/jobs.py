"""What the binding has done in workers: plain functions from arrays and tables to the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.errors import AtomicityError, ModelError
from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop, check, report
from ...detection import Detection, DetectionSettings, measure_at, merge, split
from ...models.analysis import Analysis
from ...pipeline.analysis import classify_clusters, embed_clusters
from .. import tasks
from . import point_style as marks
from .models import classifier_of

if TYPE_CHECKING:
    from ...models.classifier import Classifier

Engine = tuple[str, str]
"""Name of a model, and device."""


def measure_places(
    micrograph: Micrograph,
    places: np.ndarray,
    settings: dict[str, Any],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    """Measure the clusters at some places, (N, 2) or (N, 3) in pixels."""
    chosen = DetectionSettings(**settings)
    found = []
    for i, place in enumerate(places):
        report(progress, i, len(places), "Measuring")
        check(stop)
        frame = round(float(place[0])) if len(place) == 3 else 0
        found.append(measure_at(micrograph, frame, float(place[-2]), float(place[-1]), chosen))
    return Detection(
        pd.concat([f.table for f in found], ignore_index=True),
        [o for f in found for o in f.outlines],
    )


def exchanged_clusters(
    micrograph: Micrograph,
    frame: int,
    outlines: list[np.ndarray],
    settings: dict[str, Any],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Detection:
    """What a person sees in the place of these clusters: of one outline two, of several one."""
    chosen = DetectionSettings(**settings)
    if len(outlines) == 1:
        return split(micrograph, frame, outlines[0], chosen)
    return merge(micrograph, frame, outlines, chosen)


def classify_some(
    analysis: Analysis,
    engine: Engine | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Classify a few clusters and, if that works, place them in the map."""
    tasks.cap_torch_threads()
    classifier = _classifier(analysis, engine)
    # The scale is the image's: a few clusters do not tell it.
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
    engine: Engine | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, np.ndarray]:
    """Channel → one image of all class maps, of the predicted classes or of a chosen one."""
    maps = analysis.class_maps
    if label is not None:
        classifier = _classifier(analysis, engine)
        maps = classifier.class_maps(analysis.patches, label, symmetries=analysis.symmetries)
    out = {}
    for channel, values in maps.items():
        check(stop)
        out[channel] = marks.class_map_image(analysis, values)
    return out


def outline_strokes(
    analysis: Analysis, progress: Progress | None = None, stop: Stop | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As `marks.outline_vectors`, of the dimension of the micrograph."""
    return marks.outline_vectors(analysis, len(analysis.micrograph.shape))


def _classifier(analysis: Analysis, engine: Engine | None) -> Classifier:
    """The model that made the analysis; if it is not at hand by name, the one that was chosen."""
    from ...models.classifier import load_classifier

    try:
        return classifier_of(analysis)
    except ModelError:
        if engine is None:
            raise
        return load_classifier(*engine)
