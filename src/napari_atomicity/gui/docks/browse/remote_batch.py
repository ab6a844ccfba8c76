"""Images of a session are analysed by other processes, here or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ....core.errors import AtomicityError
from ....core.micrograph import Micrograph
from ....core.progress import Progress, Stop, report, serial
from ....io.provenance import Outcome
from ....io.readers.lazy_micrograph import LazyMicrograph
from ....models.analysis import Analysis
from ....pipeline.run_request import RunRequest

MAX_PROCESSES = 512


def place_of(text: str) -> int | str | None:
    """Where a person wants the work done: so many processes, a scheduler, or None for here.

    Raises `AtomicityError` if the number makes no sense.
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
    step: Callable[[str], tuple[str, Any]],
    images: Iterable[str],
    stop: Stop | None,
    *,
    micrograph_of: Callable[[str], Micrograph],
    request: RunRequest,
    place: int | str,
    progress: Progress | None = None,
) -> Generator[tuple[str, Analysis | Exception], None, None]:
    """Analyse images in other processes; an executor of `image_loop.for_each_image`.

    Images without a file, and those whose pixel size a person has given, are analysed here by
    ``step``.

    Raises `AtomicityError` if the model can't be read, or the scheduler is not there.
    """
    micrographs = {image: micrograph_of(image) for image in images}
    paths = {image: Path(m.path) for image, m in micrographs.items() if m.path is not None}
    left = [image for image in micrographs if image not in paths]
    for image, outcome, analysis in _remote_results(paths, request, place, progress, stop):
        try:
            own = micrograph_of(image)
        except KeyError:  # removed in the meantime
            continue
        if analysis is None:
            yield image, AtomicityError(str(outcome.error))
        elif own.pixel_size_nm in (None, analysis.micrograph.pixel_size_nm):
            yield image, replace(analysis, micrograph=_as_read(own, analysis.micrograph))
        else:
            left.append(image)
    yield from serial(step, left, stop)


def _remote_results(
    paths: Mapping[str, Path],
    request: RunRequest,
    place: int | str,
    progress: Progress | None,
    stop: Stop | None,
) -> Iterator[tuple[str, Outcome, Analysis | None]]:
    from ....io.inputs import Input
    from ....pipeline.runs.batch import analyse_on
    from ....pipeline.runs.dask_workers import Workers
    from ....pipeline.runs.sent_model import SentModel

    n = len(paths)
    report(progress, 0, n, "Starting the processes")
    model = SentModel.of(request.model, request.device)
    n_processes, scheduler = (place, None) if isinstance(place, int) else (None, place)
    with Workers(model, workers=n_processes, scheduler=scheduler, most=n, stop=stop) as workers:
        report(progress, 0, n, "Analysing remotely")
        items = [Input(image, path) for image, path in paths.items()]
        for i, (item, *result) in enumerate(analyse_on(workers, items, request, stop), 1):
            yield item.name, *result
            report(progress, i, n, f"Analysed {i} of {n} remotely")


def _as_read(own: Micrograph, found: Micrograph) -> Micrograph:
    """Return the own micrograph as the other process has read it: reading it here takes time."""
    if not isinstance(own, LazyMicrograph) or own.sha256 is not None or own.path is None:
        return own
    return LazyMicrograph(
        own.path,
        found.shape,
        found.pixel_size_nm,
        name=own.name,
        sha256=found.sha256,
        metadata=found.metadata,
    )
