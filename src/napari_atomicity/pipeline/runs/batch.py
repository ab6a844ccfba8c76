"""Batch: analyse many images on many workers; only missing images are analysed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...core.errors import AtomicityError, Cancelled
from ...core.model_card import ModelCard
from ...core.progress import Progress, Stop, check, for_each_image, report
from ...io.inputs import Input, named_inputs
from ...io.provenance import Outcome, now
from ...models.analysis import Analysis
from ...models.inference import load_classifier
from ...reporting.report import MANY_IMAGES
from ..acquisition_sessions import SessionRules
from ..run_request import RunRequest
from .dask_workers import PATIENCE_S, Failed, Notice, Workers
from .finalize import PartIndex, finalize_batch
from .part_store import PartStore
from .parts import Part, make_part, model_hash
from .run_files import Run, RunInfo
from .sent_model import SentModel, classifier_of
from .serial import analyse_one, read_checked_reference, without_pixels
from .session_pass import NewLabels, SessionPass, analyse_again

SHOWN = MANY_IMAGES
"""Maximum number of images with a section in the report, evenly distributed."""


@dataclass(frozen=True, eq=False)
class BatchRun(Run):
    """Result of a batch."""

    reused: int = 0  # number of images that an earlier run had analysed
    # reason why the batch ended early other than an interruption: the scheduler is lost
    problem: str | None = None

    def summary(self) -> dict[str, Any]:
        """Summarise the batch as plain values for JSON."""
        return {**super().summary(), "reused": self.reused, "problem": self.problem}


@dataclass(frozen=True)
class ImageTask:
    """Task of a worker: an image, the settings, and the key of the model."""

    item: Input
    request: RunRequest
    model: str
    # small, draw: whether to draw the image for the report, and whether with small pictures
    small: bool
    draw: bool
    # scale of the image in its session; default: that of the image by itself
    labels: NewLabels | None = None


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
    tasks = (ImageTask(item, request, workers.model.key, True, False) for item in items)
    for task, result in workers.each(analyse_whole, tasks, stop):
        if isinstance(result, Failed):
            yield task.item, task.item.outcome("failed", str(result)), None
        else:
            yield task.item, *result


def run_batch(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: RunRequest | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, Path | None], None] | None = None,
    notice: Notice | None = None,
    command: Sequence[str] | None = None,
    patience_s: float = PATIENCE_S,
    overwrite: bool = False,
) -> BatchRun:
    """Analyse many images on many workers; images of an earlier run are not analysed again.

    Parameters
    ----------
    paths : iterable of str or path-like
        Image files, and folders of images; the workers must have access to them.
    out_dir : str or path-like
        Folder for ``clusters/`` with a part for each image, ``part_store.csv``, and the files of
        `runs.analyse_images`.
    workers : int, optional
        Number of processes on this machine. Default: number of cores. They are spawned: a script
        that calls this needs ``if __name__ == "__main__":``.
    scheduler : str, optional
        Address of a dask scheduler, or its JSON file; its workers are used instead.
    notice : callable, optional
        Called with messages for the user, such as the address of the dashboard.
    command : sequence of str, optional
        Command line for the record; that of this process if None.
    patience_s : float, optional
        Timeout in seconds for a worker or the scheduler.

    Returns
    -------
    BatchRun
        Completed images, without the columns `finalize.DROPPED_COLUMNS` of the table.

    Raises
    ------
    ModelError, TableError
        If the model cannot be loaded, or the reference does not match.
    AtomicityError
        If the folder cannot be written, another run writes to it, or no worker can be started.
    """
    request = request or RunRequest()
    known = _read_inputs(paths, request, progress)  # wrong usage writes nothing
    start_workers = partial(_start_workers, workers, scheduler, notice, patience_s)
    with _open_parts(out_dir, request, known, overwrite) as images:
        return _Batch(images, known, start_workers, progress, stop, on_outcome).run(command)


@contextmanager
def _open_parts(
    out_dir: str | PathLike[str], request: RunRequest, known: _Inputs, overwrite: bool
) -> Iterator[PartIndex]:
    """Open the folder of a run, locked; without earlier parts if they are to be discarded."""
    store = PartStore(out_dir)
    with store.locked():
        if overwrite:
            store.remove(store.stems)
        yield PartIndex(store, request, known.card, model_hash(known.card), known.sessions)


class _Inputs(NamedTuple):
    """What a batch reads before it starts."""

    started: str
    model: SentModel
    card: ModelCard
    inputs: Sequence[Input]
    reference: pd.DataFrame | None
    sessions: SessionRules


@dataclass(eq=False)
class _Batch:
    """A batch in progress; a sink of `for_each_image` that stores the parts."""

    images: PartIndex
    known: _Inputs
    start_workers: Callable[..., Workers]
    progress: Progress | None
    stop: Stop | None
    on_outcome: Callable[[Outcome, Path | None], None] | None
    reused: int = 0
    interrupted: bool = False
    problem: str | None = None
    throughput: Throughput = field(init=False)
    _workers: Workers | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.inputs, self.model = self.known.inputs, self.known.model
        self.throughput = Throughput(len(self.inputs))
        self.shown = {self.inputs[i].name for i in _evenly_distributed(len(self.inputs), SHOWN)}

    def run(self, command: Sequence[str] | None) -> BatchRun:
        """Analyse the missing images; keep the completed images if the scheduler is lost."""
        with ExitStack() as self._stack:
            try:
                self.interrupted = for_each_image(
                    self.missing(), analyse_part, self._on_workers, [self.add], self.stop
                )
                if not self.interrupted:
                    self.interrupted = self._label_sessions()
            except AtomicityError as error:
                if not self.images.stems:
                    raise
                self.problem = str(error)
        if self.interrupted or self.problem is not None:
            self.images.joint.clear()  # labels may be those of the images by themselves
        return self._finalize(command)

    def _on_workers(
        self, step: Callable[[ImageTask], Part], tasks: Iterable[ImageTask], stop: Stop | None
    ) -> Generator[tuple[ImageTask, Part | Failed], None, None]:
        """Start workers with the first task; without any task, none are needed."""
        tasks = iter(tasks)
        first = next(tasks, None)
        if first is None:
            return
        if self._workers is None:
            most = max(1, len(self.inputs) - self.reused)
            new = self.start_workers(self.model, most, self.progress, stop)
            self._workers = self._stack.enter_context(new)
        yield from self._workers.each(step, chain([first], tasks), stop)

    def missing(self) -> Iterator[ImageTask]:
        """Yield the tasks of missing images; register existing parts on the way."""
        small = len(self.inputs) > MANY_IMAGES
        for item in self.inputs:
            check(self.stop)
            if item.error is not None:
                self._fail(item.outcome("failed", item.error))
            elif self.images.adopt(item) is not None:
                self.reused += 1
                self._report()
            else:
                draw = item.name in self.shown
                yield ImageTask(item, self.images.request, self.model.key, small, draw)

    def add(self, result: tuple[ImageTask, Part | Failed]) -> None:
        """Store the result of a worker."""
        task, part = result
        if isinstance(part, Failed):
            self._fail(task.item.outcome("failed", str(part)))
        elif part.parquet is None or part.outcome.sha256 is None:
            self._fail(part.outcome)
        else:
            stem = self.images.add(task.item, part)
            self.throughput.add_image()
            self._report(part.outcome, self.images.store.path(stem))

    def _fail(self, outcome: Outcome) -> None:
        self.images.fail(outcome)
        self._report(outcome)

    def _label_sessions(self) -> bool:
        """Label the images of each session jointly; return whether it was interrupted."""
        model = partial(load_classifier, self.images.request.model, "cpu")
        sessions = SessionPass(self.images, model, self.progress, self.stop)
        try:
            left = sessions.run(self.inputs, self.shown)
        except (KeyboardInterrupt, Cancelled):
            return True
        small = len(self.inputs) > MANY_IMAGES
        tasks = [
            ImageTask(
                x.item, self.images.request, self.model.key, small, x.item.name in self.shown, x
            )
            for x in left
        ]
        n_done = count(1)

        def add(result: tuple[ImageTask, Part | Failed]) -> None:
            task, part = result
            if task.labels is not None:
                sessions.add(task.labels, part)
            report(self.progress, next(n_done), len(tasks), "Analysing images with new scales")

        return for_each_image(tasks, analyse_part, self._on_workers, [add], self.stop)

    def _report(self, outcome: Outcome | None = None, path: Path | None = None) -> None:
        if outcome is not None and self.on_outcome is not None:
            self.on_outcome(outcome, path)
        done = len(self.images.stems) + len(self.images.failed)
        report(self.progress, done, len(self.inputs), self.throughput.format(done))

    def _finalize(self, command: Sequence[str] | None) -> BatchRun:
        """Write tables, report and record; remove parts that belong to no image any more."""
        report(self.progress, 0, 0, "Writing tables and report")
        stopped = self.interrupted or self.problem is not None
        info = RunInfo(self.known.started, self.images.request.device, stopped, command)
        run = finalize_batch(self.images, self.inputs, info, self.shown, self.known.reference)
        fields = {**run.fields(), "interrupted": self.interrupted}
        return BatchRun(**fields, reused=self.reused, problem=self.problem)


def _read_inputs(
    paths: Iterable[str | PathLike[str]], request: RunRequest, progress: Progress | None
) -> _Inputs:
    """Read model, reference and sessions, and find the images."""
    started = now()
    report(progress, 0, 0, "Reading the model")
    model = SentModel.of(request.model, request.device)
    card = ModelCard.from_dict(model.card)
    report(progress, 0, 0, "Looking for images")
    # Workers have a different working folder.
    inputs = [replace(item, path=item.path.absolute()) for item in named_inputs(paths)]
    reference = read_checked_reference(request, inputs, card)
    sessions = SessionRules.read(request, card.classes)
    sessions.check([item.name for item in inputs])
    return _Inputs(started, model, card, inputs, reference, sessions)


def _start_workers(
    workers: int | None,
    scheduler: str | None,
    notice: Notice | None,
    patience_s: float,
    model: SentModel,
    most: int,
    progress: Progress | None,
    stop: Stop | None,
) -> Workers:
    starting = "Starting the workers" if scheduler is None else "Calling the scheduler"
    report(progress, 0, 0, starting)
    return Workers(model, workers, scheduler, notice, patience_s, most, stop)


def _evenly_distributed(n: int, n_chosen: int) -> set[int]:
    """Return at most ``n_chosen`` of the numbers below ``n``, evenly distributed."""
    if n <= n_chosen:
        return set(range(n))
    return {round(i * (n - 1) / max(1, n_chosen - 1)) for i in range(n_chosen)}


class Throughput:
    """Rate over the last minute, and remaining time."""

    window_s = 60.0

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._times: deque[float] = deque()

    def add_image(self) -> None:
        """Count a completed image."""
        now = self._clock()
        self._times.append(now)
        while len(self._times) > 3 and now - self._times[0] > self.window_s:
            self._times.popleft()

    def format(self, done: int) -> str:
        """Format as ``12 of 40 images, 2.1 per s, 13 s left``."""
        text = f"{done} of {self._total} images"
        span = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        if span <= 0:
            return text
        rate = (len(self._times) - 1) / span
        left = (self._total - done) / rate
        speed = f"{rate:.1f} per s" if rate >= 0.5 else f"{60 * rate:.1f} per min"
        return f"{text}, {speed}" + (f", {duration(left)} left" if left else "")


def duration(seconds: float) -> str:
    """Format a duration as ``45 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
