"""The analysis of one image as a task of the window."""

from __future__ import annotations

from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...io.lazy_micrograph import LazyMicrograph
from ...models.analysis import Analysis
from ...pipeline.analysis import analyse
from ...pipeline.run_request import RunRequest
from .. import tasks


def analyse_image(
    micrograph: Micrograph,
    request: RunRequest,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Analyse an image; run in a worker.

    Parameters
    ----------
    micrograph : Micrograph
        The image.
    request : RunRequest
        Model, device and settings.
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
