"""The analysis of one image as a task of the window."""

from __future__ import annotations

from typing import NamedTuple

from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...detection import DetectionSettings
from ...io.stored_micrograph import LazyMicrograph
from ...models.analysis import Analysis
from ...pipeline.analysis import analyse
from .. import tasks


class AnalysisRequest(NamedTuple):
    """What is asked of an analysis."""

    detection: DetectionSettings
    model: str
    device: str
    symmetries: bool


def analyse_image(
    micrograph: Micrograph,
    asked: AnalysisRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Analyse an image; run in a worker."""
    tasks.cap_torch_threads()
    if isinstance(micrograph, LazyMicrograph):
        micrograph = micrograph.described()
    return analyse(
        micrograph,
        asked.model,
        asked.device,
        progress,
        stop,
        settings=asked.detection,
        symmetries=asked.symmetries,
    )
