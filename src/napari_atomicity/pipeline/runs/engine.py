"""Run: analyse images in this process or on workers.

Every run stores a part for each image, labels the images of each session from the parts, and is
finalized from the parts. A run in the same folder analyses only missing images. An *executor*
performs the tasks: `InProcess`, or `pipeline.runs.batch.OnWorkers`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from os import PathLike
from pathlib import Path

import pandas as pd

from ...core.errors import AtomicityError, Cancelled
from ...core.model_card import ModelCard
from ...core.progress import (
    Executor,
    Progress,
    Stop,
    check,
    for_each_image,
    format_duration,
    prefixed,
    report,
)
from ...io.inputs import Input, named_inputs
from ...io.outline_files import without_outlines
from ...io.provenance import Outcome, now
from ...models.analysis import Analysis
from ...models.inference import Classifier, load_classifier
from ...reporting.report import MANY_IMAGES
from ..acquisition_sessions import SessionRules
from ..run_request import RunRequest
from .finalize import evenly_distributed, finalize_run, read_checked_reference
from .in_memory import MAX_CLUSTERS
from .one_image import analyse_one, without_pixels
from .part_index import PartIndex
from .part_store import PartStore
from .parts import Part, make_part, model_hash
from .run_files import Run, RunInfo
from .session_pass import NewLabels, SessionPass, analyse_again, make_labelled_part

SHOWN = MANY_IMAGES
"""Maximum number of images with a section in the report, evenly distributed."""


def analyse_images(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: RunRequest | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    on_outcome: Callable[[Outcome, Analysis | None], None] | None = None,
    command: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Run:
    """Analyse files and folders of images one by one and write tables, report and record.

    Images of an earlier run in this folder are not analysed again, unless ``overwrite``.
    Raises `ModelError` if the model cannot be loaded, or lacks the device or the data for the
    ratios. Raises `TableError` if the reference does not match the images and the model. Raises
    `AtomicityError` if the folder or a file cannot be written, or another run writes to it.
    """
    request = request or RunRequest()
    started = now()
    report(progress, 0, 0, "Loading the model")
    classifier = load_classifier(request.model, request.device)
    inputs = RunInputs.read(paths, request, classifier.card, progress)
    here = InProcess(classifier, len(inputs.images), progress, stop)

    def report_outcome(outcome: Outcome, _: Path | None) -> None:
        if on_outcome is not None:
            on_outcome(outcome, here.last if outcome.status == "done" else None)

    with open_parts(out_dir, request, inputs, overwrite) as images:
        run = ImageRun(
            images,
            inputs,
            here.analyse,
            in_turn,
            lambda: classifier,
            progress,
            stop,
            on_outcome=report_outcome,
        )
        return run.run(RunInfo(started, classifier.device_name, command=command))


# ---- tasks and the executor in this process
@dataclass(frozen=True)
class ImageTask:
    """Analysis of an image, or its new labels."""

    item: Input
    number: int  # position of the image in the run, from 1
    request: RunRequest
    small: bool  # whether its pictures in the report are small
    draw: bool  # whether it has a section in the report
    model: str = ""  # key of the model on workers
    # scale of the image in its session; default: that of the image by itself
    labels: NewLabels | None = None


def in_turn(
    step: Callable[[ImageTask], Part], tasks: Iterable[ImageTask], stop: Stop | None
) -> Generator[tuple[ImageTask, Part | Exception], None, None]:
    """Perform the tasks one by one in this process."""
    for task in tasks:
        check(stop)
        yield task, step(task)


@dataclass(eq=False)
class InProcess:
    """Performs tasks in this process.

    The analyses of images in the report are kept until they are drawn with the labels of their
    session, so that they need no second analysis.
    """

    classifier: Classifier
    n_images: int
    progress: Progress | None = None
    stop: Stop | None = None
    last: Analysis | None = None  # analysis of the last image
    _kept: dict[str, tuple[Analysis, Outcome]] = field(default_factory=dict)

    def analyse(self, task: ImageTask) -> Part:
        """Analyse an image, or draw it with the labels of its session."""
        if task.labels is not None:
            return self._label(task, task.labels)
        where = f"[{task.number}/{self.n_images}] {task.item.name}"
        report(self.progress, 0, 0, where)
        shown = prefixed(self.progress, f"{where}: ")

        def pack(analysis: Analysis, outcome: Outcome) -> Part:
            about = {"to_draw": task.draw}
            return make_part(analysis, outcome, self.classifier.card, draw=False, about=about)

        outcome, analysis, part = analyse_one(
            task.item, self.classifier, task.request, shown, self.stop, pack
        )
        self.last = analysis
        if analysis is None or part is None:
            return Part(outcome)
        if task.draw:
            self._keep(task, analysis, outcome)
        return part

    def _keep(self, task: ImageTask, analysis: Analysis, outcome: Outcome) -> None:
        n_clusters = sum(len(kept.table) for kept, _ in self._kept.values())
        if n_clusters + len(analysis.table) > MAX_CLUSTERS:
            return  # it is analysed again
        if task.request.average_frames is None:  # averages are in no file
            analysis = without_pixels(analysis, task.item.path)
        self._kept[outcome.image] = analysis, outcome

    def _label(self, task: ImageTask, labels: NewLabels) -> Part:
        report(self.progress, 0, 0, f"Drawing {task.item.name}")
        check(self.stop)
        kept = self._kept.pop(task.item.name, None)
        if kept is None:
            return analyse_again(
                labels,
                self.classifier,
                task.request,
                task.draw,
                task.small,
                prefixed(self.progress, f"{task.item.name}: "),
                self.stop,
            )
        try:
            analysis, outcome = kept
            labelled = labels.apply(analysis, self.classifier)
            card = self.classifier.card
            return make_labelled_part(
                labels, analysis, labelled, outcome, card, task.draw, task.small
            )
        except Cancelled:
            raise
        except Exception as error:  # an error in one image must not end the run
            return Part(task.item.failed(error, {}))


# ---- the run
@dataclass(frozen=True, eq=False)
class RunInputs:
    """What a run reads before it starts."""

    card: ModelCard
    images: Sequence[Input]
    reference: pd.DataFrame | None
    sessions: SessionRules

    @classmethod
    def read(
        cls,
        paths: Iterable[str | PathLike[str]],
        request: RunRequest,
        card: ModelCard,
        progress: Progress | None,
    ) -> RunInputs:
        """Find the images, and read reference and sessions."""
        report(progress, 0, 0, "Looking for images")
        # Workers have a different working folder.
        inputs = [replace(item, path=item.path.absolute()) for item in named_inputs(paths)]
        inputs = without_outlines(inputs, request.outlines, request.rois)
        reference = read_checked_reference(request, inputs, card)
        sessions = SessionRules.read(request, card.classes)
        sessions.check([item.name for item in inputs])
        return cls(card, inputs, reference, sessions)


@contextmanager
def open_parts(
    out_dir: str | PathLike[str], request: RunRequest, inputs: RunInputs, overwrite: bool
) -> Iterator[PartIndex]:
    """Open the folder of a run, locked; without earlier parts if they are to be discarded."""
    store = PartStore(out_dir)
    with store.locked():
        if overwrite:
            store.remove(store.stems)
        yield PartIndex(store, request, inputs.card, model_hash(inputs.card), inputs.sessions)


@dataclass(eq=False)
class ImageRun:
    """A run in progress; a sink of `for_each_image` that stores the parts."""

    images: PartIndex
    inputs: RunInputs
    step: Callable[[ImageTask], Part]
    execute: Executor
    load: Callable[[], Classifier]  # ``load()`` returns the model for labels without the network
    progress: Progress | None = None
    stop: Stop | None = None
    # called with each image of this run and its part; None if it failed
    on_outcome: Callable[[Outcome, Path | None], None] | None = None
    model: str = ""  # key of the model on workers
    reused: int = 0
    interrupted: bool = False
    problem: str | None = None
    throughput: Throughput = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.inputs.images)
        self.throughput = Throughput(n)
        self.small = n > MANY_IMAGES
        self.shown = {self.inputs.images[i].name for i in evenly_distributed(n, SHOWN)}

    def run(self, info: RunInfo) -> Run:
        """Analyse the missing images; keep the completed images if the scheduler is lost."""
        try:
            self.interrupted = (
                for_each_image(self.missing(), self.step, self.execute, [self.add], self.stop)
                or self._label_sessions()
            )
        except AtomicityError as error:
            if not self.images.stems:
                raise
            self.problem = str(error)
        report(self.progress, 0, 0, "Writing tables and report")
        info = info._replace(interrupted=self.interrupted or self.problem is not None)
        inputs, reference = self.inputs.images, self.inputs.reference
        run = finalize_run(self.images, inputs, info, self.shown, reference)
        return replace(run, interrupted=self.interrupted, reused=self.reused, problem=self.problem)

    def missing(self) -> Iterator[ImageTask]:
        """Yield the tasks of missing images; register existing parts on the way."""
        for number, item in enumerate(self.inputs.images, 1):
            check(self.stop)
            if item.error is not None:
                self._fail(item.outcome("failed", item.error))
            elif self.images.adopt(item) is not None:
                self.reused += 1
                self._report()
            else:
                yield self._task(item, number)

    def _task(self, item: Input, number: int, labels: NewLabels | None = None) -> ImageTask:
        draw = item.name in self.shown
        return ImageTask(item, number, self.images.request, self.small, draw, self.model, labels)

    def add(self, result: tuple[ImageTask, Part | Exception]) -> None:
        """Store the result of a task."""
        task, part = result
        if isinstance(part, Exception):
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
        sessions = SessionPass(self.images, self.load, self.progress, self.stop)
        try:
            left = sessions.run(self.inputs.images, self.shown)
        except (KeyboardInterrupt, Cancelled):
            sessions.forget()
            return True
        tasks = [self._task(labels.item, n, labels) for n, labels in enumerate(left, 1)]
        n_done = count(1)

        def add(result: tuple[ImageTask, Part | Exception]) -> None:
            task, part = result
            if task.labels is not None:
                sessions.add(task.labels, part)
            report(self.progress, next(n_done), len(tasks), "Drawing images with their labels")

        interrupted = for_each_image(tasks, self.step, self.execute, [add], self.stop)
        if interrupted and sessions.unlabelled:
            sessions.forget()
        return interrupted

    def _report(self, outcome: Outcome | None = None, path: Path | None = None) -> None:
        if outcome is not None and self.on_outcome is not None:
            self.on_outcome(outcome, path)
        done = len(self.images.stems) + len(self.images.failed)
        report(self.progress, done, len(self.inputs.images), self.throughput.format(done))


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
        return f"{text}, {speed}" + (f", {format_duration(left)} left" if left else "")
