"""The analysis of one image as a task of the window."""

from __future__ import annotations

from ...core.micrograph import Micrograph
from ...core.progress import Progress, Stop
from ...io.lazy_micrograph import LazyMicrograph
from ...models.analysis import Analysis
from ...pipeline.analysis import analyse
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
    """Analyse an image; run in a worker.

    Parameters
    ----------
    micrograph : Micrograph
        The image.
    request : RunRequest
        Model, device and settings.
    progress, stop : callable, optional
        Report progress; ask whether to stop.
    session : SessionImages, optional
        Session of the image, whose other images tell the intensity scale.

    Returns
    -------
    Analysis
    """
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
    )
    return label_with_session(analysis, session, progress, stop)
