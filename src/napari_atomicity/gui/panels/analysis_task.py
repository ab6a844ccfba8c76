"""The analysis of one image, or its second step, as a task of the window."""

from __future__ import annotations

from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...io.lazy_micrograph import LazyMicrograph
from ...models.analysis import Analysis
from ...pipeline.analysis import analyse, classify_clusters, embed_clusters
from ...pipeline.run_request import RunRequest
from .. import tasks
from .session_labels import SessionImages, label_with_session


def analyse_image(
    micrograph: Micrograph,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    session: SessionImages | None = None,
) -> Analysis:
    """Analyse an image; run in a worker."""
    tasks.cap_torch_threads()
    if isinstance(micrograph, LazyMicrograph):
        micrograph = micrograph.with_file_metadata()
    analysis = analyse(
        micrograph,
        request.model,
        request.device,
        progress,
        stop,
        settings=request.detection,
        symmetries=request.symmetries,
        labels_from=request.labels,
    )
    return label_with_session(analysis, session, progress, stop)


def classify_image(
    analysis: Analysis,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    session: SessionImages | None = None,
) -> Analysis:
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
    found = label_with_session(found, session, progress, stop)
    return embed_clusters(found, request.model, stop)
