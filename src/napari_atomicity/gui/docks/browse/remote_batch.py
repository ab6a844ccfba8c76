"""Images of a session are analysed by other processes, here or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from ....core.errors import AtomicityError
from ....core.progress import Progress, Stop, report
from ....pipeline.run_request import RunRequest

MAX_PROCESSES = 512


class Relay(QObject):
    """Brings results into the thread of the window: ``came(image, Outcome, Analysis or None)``."""

    came = Signal(str, object, object)


def place_of(text: str) -> int | str | None:
    """Where a person wants the work done: so many processes, a scheduler, or None for here.

    Raises
    ------
    AtomicityError
        If the number makes no sense.
    """
    text = text.strip()
    if not text:
        return None
    if not text.isdigit():
        return text
    if not 1 <= int(text) <= MAX_PROCESSES:
        raise AtomicityError(
            f"{text} processes are not possible",
            advice=f"Give 1 to {MAX_PROCESSES}, or the address of a scheduler",
        )
    return int(text)


def analyse_remotely(
    paths: Mapping[str, Path],
    request: RunRequest,
    place: int | str,
    came: Callable[..., None],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Sequence[str]:
    """Have images analysed, and hand each result on as it comes; for a worker.

    Parameters
    ----------
    paths : mapping of str to Path
        Image → file, which the other processes must see under the same path.
    request : RunRequest
        Model, device and settings.
    place : int or str
        As of `place_of`.
    came : callable
        Called with image, outcome and analysis.

    Returns
    -------
    sequence of str
        Images that failed.

    Raises
    ------
    Cancelled
        If ``stop()`` says so.
    AtomicityError
        If the model can't be read, or the scheduler is not there.
    """
    from ....io.inputs import Input
    from ....pipeline.batch import analyse_on
    from ....pipeline.dask_workers import Workers
    from ....pipeline.sent_model import SentModel

    items = [Input(image, path) for image, path in paths.items()]
    report(progress, 0, len(items), "Starting the processes")
    model = SentModel.of(request.model, request.device)
    here = isinstance(place, int)
    failed = []
    with Workers(
        model,
        workers=place if here else None,
        scheduler=None if here else str(place),
        most=len(items),
        stop=stop,
    ) as workers:
        report(progress, 0, len(items), "Analysing remotely")
        for n, (item, outcome, analysis) in enumerate(analyse_on(workers, items, request, stop), 1):
            came(item.name, outcome, analysis)
            if analysis is None:
                failed.append(item.name)
            report(progress, n, len(items), f"Analysed {n} of {len(items)} remotely")
    return failed
