"""A batch: many images on many workers, and only what is missing is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import AtomicityError, Cancelled
from ..core.model_card import ModelCard
from ..core.progress import Progress, Stop, check, report
from ..io.images import sha256_of
from ..io.inputs import Input, named_inputs
from ..io.lazy_micrograph import LazyMicrograph
from ..io.provenance import Outcome, now
from ..io.tables import read_reference
from ..models.analysis import Analysis
from ..reporting.report import MANY_IMAGES
from ..statistics.ratios import refuse_unavailable
from ..statistics.reference import check_reference
from .dask_workers import PATIENCE_S, Failed, Notice, SentModel, Workers, classifier_of
from .finalize import finalize_batch
from .part_store import Failure, Part, PartStore, key_of, model_hash, part_of, stem_of
from .runs import Run, RunRequest, analyse_one

SHOWN = MANY_IMAGES
"""So many images have a section in the report: all, or as many evenly among them."""


@dataclass(frozen=True, eq=False)
class BatchRun(Run):
    """What came of a batch.

    Parameters
    ----------
    reused
        Images that an earlier run had done.
    problem
        Why it ended early, if nobody stopped it: the scheduler is lost.
    """

    reused: int = 0
    problem: str | None = None

    def summary(self) -> dict[str, Any]:
        """In a few words, ready for JSON."""
        return {**super().summary(), "reused": self.reused, "problem": self.problem}


@dataclass(frozen=True)
class ImageTask:
    """What a worker is asked: an image, what to do to it, and the key of the model it has."""

    number: int
    item: Input
    request: RunRequest
    model: str
    small: bool
    draw: bool


def analyse_part(task: ImageTask) -> Part:
    """On a worker: one image, ready to be stored."""
    classifier = classifier_of(task.model)

    def kept(analysis: Analysis, outcome: Outcome) -> Part:
        return part_of(analysis, outcome, classifier.card, task.draw, task.small)

    outcome, _, part = analyse_one(
        task.item, classifier, task.request, stop=lambda: False, then=kept
    )
    return Part(outcome) if part is None else part


def analyse_whole(task: ImageTask) -> tuple[Outcome, Analysis | None]:
    """On a worker: one image, with all that a window shows of it but its pixels."""
    outcome, analysis, _ = analyse_one(
        task.item, classifier_of(task.model), task.request, stop=lambda: False
    )
    if analysis is None or task.request.average_frames is not None:  # averages are in no file
        return outcome, analysis
    return outcome, _without_pixels(analysis, task.item.path)


def _without_pixels(analysis: Analysis, path: Path) -> Analysis:
    """Its micrograph reads them when they are asked for: GiB, or an open file, do not travel."""
    whole = analysis.micrograph
    stored = LazyMicrograph(
        path,
        whole.shape,
        whole.pixel_size_nm,
        name=whole.name,
        sha256=whole.sha256,
        metadata=whole.metadata,
    )
    return replace(analysis, micrograph=stored)


def analyse_on(
    workers: Workers, items: Sequence[Input], request: RunRequest, stop: Stop | None = None
) -> Iterator[tuple[Input, Outcome, Analysis | None]]:
    """Analyse images on workers and get each whole result as it comes, for who keeps it himself.

    Parameters
    ----------
    workers
        In their context, with the model of the request.
    items
        From `runs.named_inputs`.
    request
        Settings.
    stop
        ``stop() -> bool``.

    Yields
    ------
    item, outcome, analysis
        The analysis is None of an image that failed; its pixels are read once they are asked for.

    Raises
    ------
    Cancelled, SchedulerLost
        As of `Workers.each`.
    """
    tasks = (ImageTask(i, x, request, workers.model.key, True, False) for i, x in enumerate(items))
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
) -> BatchRun:
    """Analyse many images on many workers; what an earlier run has done is not done again.

    Parameters
    ----------
    paths
        Image files, and folders that are searched for them; the workers must see them too.
    out_dir
        Folder that gets ``clusters/`` with a part for each image, the files of
        `runs.analyse_images`, and ``failures.csv``.
    request
        Model, device and settings.
    workers
        Number of processes on this machine; as many as it has cores if None.
    scheduler
        Address of a running dask scheduler, or its JSON file; its workers are used instead.
    progress, stop
        ``progress(done, total, message)`` of all images, with rate and remaining time in words,
        and ``stop() -> bool``.
    on_outcome
        Called after each image that was worked on, with its outcome and the file of its part.
    notice
        Told in words what a person should know: the address of the dashboard, who is waited for.
    command
        For the record; the command line of this process if None.
    patience_s
        How long a scheduler that does not answer, or that has no worker, is waited for.

    Returns
    -------
    BatchRun
        Also after an interruption or if the scheduler is lost, with what was done until then. Its
        table lacks `ending.NEITHER_COUNTED_NOR_DRAWN`; the files hold all.

    Raises
    ------
    ModelError
        If the model can't be loaded or lacks what the ratios need: before any image is read.
    TableError
        If the reference makes no sense: before as well.
    AtomicityError
        If the folder can't be made or written to, another run writes to it, or no worker can be
        started.

    Notes
    -----
    Workers are started by spawning: a script that calls this needs ``if __name__ == "__main__":``.
    """
    request = request or RunRequest()
    store = PartStore(out_dir)
    with store.locked():
        started = now()
        report(progress, 0, 0, "Reading the model")
        model = SentModel.of(request.model, request.device)
        card = ModelCard.from_dict(model.card)
        refuse_unavailable(request.ratios, card)
        report(progress, 0, 0, "Looking for images")
        # Workers have a working folder of their own.
        inputs = [replace(item, path=item.path.absolute()) for item in named_inputs(paths)]
        reference = None
        if request.reference is not None:
            reference = read_reference(request.reference)
            check_reference(reference, [item.name for item in inputs], card.classes)
        batch = _Batch(store, inputs, request, model, card, progress, stop, on_outcome)
        try:
            tasks = batch.missing()
            first = next(tasks, None)
            if first is not None:
                most = max(1, len(inputs) - batch.reused)
                waits = "Starting the workers" if scheduler is None else "Calling the scheduler"
                report(progress, 0, 0, waits)
                hands = Workers(model, workers, scheduler, notice, patience_s, most, stop)
                with hands:
                    for task, result in hands.each(analyse_part, chain([first], tasks), stop):
                        batch.take(task, result)
        except (KeyboardInterrupt, Cancelled):
            batch.interrupted = True
        except AtomicityError as error:
            # What is done is worth its tables; nothing is if nothing was done.
            if not batch.stems:
                raise
            batch.problem = str(error)
        return batch.conclude(started, reference, command)


@dataclass(eq=False)
class _Batch:
    """A batch under way: what is done and what is not."""

    store: PartStore
    inputs: Sequence[Input]
    request: RunRequest
    model: SentModel
    card: ModelCard
    progress: Progress | None
    stop: Stop | None
    on_outcome: Callable[[Outcome, Path | None], None] | None
    stems: dict[int, str] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    reused: int = 0
    interrupted: bool = False
    problem: str | None = None

    def __post_init__(self) -> None:
        self._pace = Throughput(len(self.inputs))
        self._hash = model_hash(self.card)
        n = len(self.inputs)
        self._shown = {round(i * (n - 1) / max(1, SHOWN - 1)) for i in range(SHOWN)}
        self._shown = set(range(n)) if n <= SHOWN else self._shown

    def missing(self) -> Iterator[ImageTask]:
        """What is to be done; what is there already is found on the way."""
        for number, item in enumerate(self.inputs):
            check(self.stop)
            stem = self._there(item)
            if stem is not None:
                self.stems[number] = stem
                self.reused += 1
                self._tell()
            elif item.error is not None:
                self._fail(number, item.outcome("failed", item.error))
            else:
                small = len(self.inputs) > MANY_IMAGES
                draw = number in self._shown
                yield ImageTask(number, item, self.request, self.model.key, small, draw)

    def _there(self, item: Input) -> str | None:
        """The part of an image, if an earlier run has made it."""
        if item.error is not None or not self.store.stems:
            return None
        try:
            sha256 = sha256_of(item.path)
        except OSError:  # the reader has better words for it
            return None
        return self.store.adopt(key_of(sha256, self._hash, self.request), item)

    def take(self, task: ImageTask, result: Part | Failed) -> None:
        """Keep what a worker has found."""
        if isinstance(result, Failed):
            self._fail(task.number, task.item.outcome("failed", str(result)))
            return
        outcome = result.outcome
        if result.parquet is None or outcome.sha256 is None:
            self._fail(task.number, outcome)
            return
        stem = stem_of(key_of(outcome.sha256, self._hash, self.request), outcome.image)
        self.store.write(stem, result)
        self.stems[task.number] = stem
        self._pace.step()
        self._tell(outcome, self.store.path(stem))

    def _fail(self, number: int, outcome: Outcome) -> None:
        self.failed[number] = Failure.of(outcome)
        self._tell(outcome)

    def _tell(self, outcome: Outcome | None = None, path: Path | None = None) -> None:
        if outcome is not None and self.on_outcome is not None:
            self.on_outcome(outcome, path)
        done = len(self.stems) + len(self.failed)
        report(self.progress, done, len(self.inputs), self._pace.words(done))

    def conclude(
        self, started: str, reference: pd.DataFrame | None, command: Sequence[str] | None
    ) -> BatchRun:
        """Tables, report and record of all that is there; parts of nothing any more go."""
        report(self.progress, 0, 0, "Writing tables and report")
        stopped = self.interrupted or self.problem is not None
        if not stopped:
            done = [self.inputs[number].path for number in self.stems]
            self.store.tidy(self.stems.values(), done, all_done=not self.failed)
        run = finalize_batch(
            self.store,
            self.request,
            self.card,
            self.inputs,
            self.stems,
            self.failed,
            self._shown,
            started=started,
            reference=reference,
            interrupted=stopped,
            command=command,
        )
        fields = {name: getattr(run, name) for name in Run.__dataclass_fields__}
        fields["interrupted"] = self.interrupted
        return BatchRun(**fields, reused=self.reused, problem=self.problem)


class Throughput:
    """How fast it goes, over the last minute, and how long it still takes."""

    window_s = 60.0

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._times: deque[float] = deque()

    def step(self) -> None:
        """Another image is done."""
        now = self._clock()
        self._times.append(now)
        while len(self._times) > 3 and now - self._times[0] > self.window_s:
            self._times.popleft()

    def words(self, done: int) -> str:
        """``12 of 40 images, 2.1 per s, 13 s left``."""
        said = f"{done} of {self._total} images"
        span = self._times[-1] - self._times[0] if len(self._times) > 1 else 0.0
        if span <= 0:
            return said
        rate = (len(self._times) - 1) / span
        left = (self._total - done) / rate
        speed = f"{rate:.1f} per s" if rate >= 0.5 else f"{60 * rate:.1f} per min"
        return f"{said}, {speed}" + (f", {duration(left)} left" if left else "")


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
