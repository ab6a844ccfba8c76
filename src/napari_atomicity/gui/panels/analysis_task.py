"""The analysis of one image as a task of the window."""

from __future__ import annotations

from typing import NamedTuple

from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...detection import DetectionSettings
from ...io.lazy_micrograph import LazyMicrograph
from ...models.analysis import Analysis
from ...pipeline.analysis import analyse
from .. import tasks


class AnalysisRequest(NamedTuple):
    """Settings of an analysis."""

    detection: DetectionSettings
    model: str
    device: str
    symmetries: bool


def analyse_image(
    micrograph: Micrograph,
    request: AnalysisRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Analyse an image; run in a worker.

    Parameters
    ----------
    micrograph : Micrograph
        The image.
    request : AnalysisRequest
        Settings of the analysis.
    progress, stop : callable, optional
        Report progress; ask whether to stop.

    Returns
    -------
    Analysis
    """
    tasks.cap_torch_threads()
    if isinstance(micrograph, LazyMicrograph):
        micrograph = micrograph.with_file_metadata()
    return analyse(
        micrograph,
        request.model,
        request.device,
        progress,
        stop,
        settings=request.detection,
        symmetries=request.symmetries,
    )
