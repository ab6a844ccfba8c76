"""Batch: analyse many images on the workers of dask, here or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path

from ...core.model_card import ModelCard
from ...core.progress import Progress, Stop, report
from ...io.inputs import Input
from ...io.provenance import Outcome, now
from ...models.analysis import Analysis
from ...models.inference import load_classifier
from ..run_request import RunRequest
from .dask_workers import PATIENCE_S, Failed, Notice, Workers
from .engine import ImageRun, ImageTask, RunInputs, open_parts
from .one_image import analyse_one, without_pixels
from .parts import Part, make_part
from .run_files import Run, RunInfo
from .sent_model import SentModel, classifier_of
from .session_pass import analyse_again


def analyse_part(task: ImageTask) -> Part:
    """Analyse one image on a worker and return its part."""
    classifier = classifier_of(task.model)
    if task.labels is not None:
        return analyse_again(task.labels, classifier, task.request, task.draw, task.small)

    def pack(analysis: Analysis, outcome: Outcome) -> Part:
        return make_part(analysis, outcome, classifier.card, task.draw, task.small)

    outcome, _, part = analyse_one(
        task.item, classifier, task.request, stop=lambda: False, then=pack
    )
    return Part(outcome) if part is None else part


def analyse_whole(task: ImageTask) -> tuple[Outcome, Analysis | None]:
    """Analyse one image on a worker and return the whole analysis without the pixels."""
    outcome, analysis, _ = analyse_one(
        task.item, classifier_of(task.model), task.request, stop=lambda: False
    )
    if analysis is None or task.request.average_frames is not None:  # averages are in no file
        return outcome, analysis
    return outcome, without_pixels(analysis, task.item.path)


def analyse_on(
    workers: Workers, items: Sequence[Input], request: RunRequest, stop: Stop | None = None
) -> Iterator[tuple[Input, Outcome, Analysis | None]]:
    """Analyse images on workers and yield each whole analysis; nothing is stored.

    Raises `Cancelled` or `SchedulerLost` as `Workers.each` does.
    """
    tasks = (
        ImageTask(item, number, request, small=True, draw=False, model=workers.model.key)
        for number, item in enumerate(items, 1)
    )
    for task, result in workers.each(analyse_whole, tasks, stop):
        if isinstance(result, Failed):
            yield task.item, task.item.outcome("failed", str(result)), None
        else:
            yield task.item, *result


def run_batch(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: RunRequest | None = None,
    workers: int | None = None,  # number of processes
    scheduler: str | None = None,  # address of a dask scheduler, or its JSON file
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, Path | None], None] | None = None,
    notice: Notice | None = None,  # called with messages for the user
    command: Sequence[str] | None = None,  # for the record; default: that of this process
    patience_s: float = PATIENCE_S,  # timeout for a worker or the scheduler
    overwrite: bool = False,
) -> Run:
    """Analyse many images on many workers; images of an earlier run are not analysed again.

    Files are those of `engine.analyse_images`. The workers, which must have access to the images,
    are processes of this machine (by default one per core; they are spawned, so that a script that
    calls this needs ``if __name__ == "__main__":``) or those of a dask scheduler. Raises
    `ModelError` or `TableError` if the model cannot be loaded, or the reference does not match;
    `AtomicityError` if the folder cannot be written, another run writes to it, or no worker can be
    started.
    """
    request = request or RunRequest()
    started = now()
    report(progress, 0, 0, "Reading the model")
    model = SentModel.of(request.model, request.device)
    inputs = RunInputs.read(paths, request, ModelCard.from_dict(model.card), progress)

    def start() -> Workers:
        report(progress, 0, 0, "Calling the scheduler" if scheduler else "Starting the workers")
        most = max(1, len(inputs.images))
        return Workers(model, workers, scheduler, notice, patience_s, most, stop)

    load = partial(load_classifier, request.model, "cpu")
    with open_parts(out_dir, request, inputs, overwrite) as images, OnWorkers(start) as executor:
        run = ImageRun(
            images,
            inputs,
            analyse_part,
            executor.each,
            load,
            progress,
            stop,
            on_outcome=on_outcome,
            model=model.key,
        )
        return run.run(RunInfo(started, request.device, command=command))


@dataclass(eq=False)
class OnWorkers:
    """Performs tasks on workers, which start with the first task."""

    start: Callable[[], Workers]
    _workers: Workers | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> OnWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def each(
        self, step: Callable[[ImageTask], Part], tasks: Iterable[ImageTask], stop: Stop | None
    ) -> Generator[tuple[ImageTask, Part | Failed], None, None]:
        """Perform the tasks; without any task, no worker is needed."""
        tasks = iter(tasks)
        first = next(tasks, None)
        if first is None:
            return
        if self._workers is None:
            self._workers = self._stack.enter_context(self.start())
        yield from self._workers.each(step, chain([first], tasks), stop)
