"""A batch: many images on many workers, and only what is missing is done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ..analysis import Analysis
from ..errors import AtomicityError, Cancelled, TableError
from ..io.images import sha256_of
from ..io.plots import scales_of
from ..io.provenance import Outcome, now
from ..io.report import MANY_IMAGES, Section, image_section, with_ratios
from ..io.tables import concatenate, read_reference
from ..io.typical import Example, foremost, gathered
from ..model.card import ModelCard
from ..progress import Progress, Stop, check, report
from ..runs import Input, Request, Run, analyse_one, conclude_run, named_inputs
from ..statistics.ratios import class_ratios, refuse_unavailable
from ..statistics.reference import check_reference
from ..table import empty
from .cluster import PATIENCE_S, Failed, Notice, SentModel, Workers, classifier_of
from .store import (
    FAILURES,
    Part,
    Store,
    drawing_of,
    failure,
    key_of,
    model_hash,
    packed,
    stem_of,
    write_all,
)

SHOWN = MANY_IMAGES
"""So many images have a section in the report: all, or as many evenly among them."""
NEITHER_COUNTED_NOR_DRAWN = (
    "y_px", "x_px", "y_nm", "x_nm", "eccentricity", "prediction_set",
)  # fmt: skip
"""Columns that are written and not held when all images come together."""


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
class Task:
    """What a worker is asked: an image, what to do to it, and the key of the model it has."""

    number: int
    item: Input
    request: Request
    model: str
    small: bool
    draw: bool


def analyse_part(task: Task) -> Part:
    """On a worker: one image, ready to be stored."""
    classifier = classifier_of(task.model)
    card = classifier.card

    def drawn(analysis: Analysis, outcome: Outcome) -> str | None:
        if not task.draw:
            return None
        section = image_section(analysis, outcome, task.small, card=card, ratios_later=True)
        return drawing_of(section, gathered((), analysis, card.classes))

    outcome, analysis, drawing = analyse_one(
        task.item, classifier, task.request, stop=lambda: False, then=drawn
    )
    if analysis is None:
        return Part(outcome)
    about = {"scale": scales_of([analysis]).get(task.item.name)}
    return Part(outcome, packed(analysis.table, outcome, about), drawing)


def analyse_whole(task: Task) -> tuple[Outcome, Analysis | None]:
    """On a worker: one image with all that a window shows of it, but its pixels."""
    outcome, analysis, _ = analyse_one(
        task.item, classifier_of(task.model), task.request, stop=lambda: False
    )
    return outcome, analysis


def analyse_on(
    workers: Workers, items: Sequence[Input], request: Request, stop: Stop | None = None
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
        The analysis is None of an image that failed.

    Raises
    ------
    Cancelled, SchedulerLost
        As of `Workers.each`.
    """
    tasks = (Task(i, x, request, workers.model.key, True, False) for i, x in enumerate(items))
    for task, result in workers.each(analyse_whole, tasks, stop):
        if isinstance(result, Failed):
            yield task.item, task.item.outcome("failed", str(result)), None
        else:
            yield task.item, *result


def run_batch(
    paths: Iterable[str | PathLike[str]],
    out_dir: str | PathLike[str],
    request: Request | None = None,
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
        Address of a running dask scheduler, whose workers are used instead.
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
        table lacks `NEITHER_COUNTED_NOR_DRAWN`; the files hold all.

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
    request = request or Request()
    store = Store(out_dir)
    with store.locked():
        started = now()
        report(progress, 0, 0, "Reading the model")
        model = SentModel.of(request.model, request.device)
        card = ModelCard.from_dict(model.card)
        refuse_unavailable(request.ratios, card)
        report(progress, 0, 0, "Looking for images")
        inputs = named_inputs(paths)
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
                with Workers(model, workers, scheduler, notice, patience_s, most) as hands:
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

    store: Store
    inputs: Sequence[Input]
    request: Request
    model: SentModel
    card: ModelCard
    progress: Progress | None
    stop: Stop | None
    on_outcome: Callable[[Outcome, Path | None], None] | None
    stems: dict[int, str] = field(default_factory=dict)
    failed: dict[int, Outcome] = field(default_factory=dict)
    reused: int = 0
    interrupted: bool = False
    problem: str | None = None

    def __post_init__(self) -> None:
        self._pace = Pace(len(self.inputs))
        self._hash = model_hash(self.card)
        n = len(self.inputs)
        self._shown = {round(i * (n - 1) / max(1, SHOWN - 1)) for i in range(SHOWN)}
        self._shown = set(range(n)) if n <= SHOWN else self._shown

    def missing(self) -> Iterator[Task]:
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
                yield Task(number, item, self.request, self.model.key, small, draw)

    def _there(self, item: Input) -> str | None:
        """The part of an image, if an earlier run has made it."""
        if item.error is not None or not self.store.stems:
            return None
        try:
            sha256 = sha256_of(item.path)
        except OSError:  # the reader has better words for it
            return None
        return self.store.adopt(key_of(sha256, self._hash, self.request), item)

    def take(self, task: Task, result: Part | Failed) -> None:
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
        self.failed[number] = outcome
        self._tell(outcome)

    def _tell(self, outcome: Outcome | None = None, path: Path | None = None) -> None:
        if outcome is not None and self.on_outcome is not None:
            self.on_outcome(outcome, path)
        done = len(self.stems) + len(self.failed)
        report(self.progress, done, len(self.inputs), self._pace.words(done))

    # ---- the end
    def conclude(
        self, started: str, reference: pd.DataFrame | None, command: Sequence[str] | None
    ) -> BatchRun:
        """Tables, report and record of all that is there; parts of nothing any more go."""
        report(self.progress, 0, 0, "Writing tables and report")
        if not (self.interrupted or self.problem):
            self.store.remove(self.store.stems - set(self.stems.values()))
        gathered = self._gather()
        outcomes = [self._outcome(n, item) for n, item in enumerate(self.inputs)]
        failures = [failure(o) for o in outcomes if o.status == "failed"]

        def write_tables(csv: Path, parquet: Path) -> None:
            parts = (self.store.table(stem) for _, stem in sorted(self.stems.items()))
            write_all(parts, gathered.nothing, csv, parquet)
            self.store.write_failures(failures)

        shown, examples = self._sections(gathered.table)
        run = conclude_run(
            self.store.folder,
            self.request,
            self.card,
            gathered.table,
            outcomes,
            write_tables,
            started=started,
            device=_device(outcomes) or self.request.device,
            reference=reference,
            interrupted=self.interrupted or self.problem is not None,
            command=command,
            more=(FAILURES,),
            sections=shown,
            examples=examples,
            scales=gathered.scales,
        )
        fields = {name: getattr(run, name) for name in Run.__dataclass_fields__}
        return BatchRun(**fields, reused=self.reused, problem=self.problem)

    def _outcome(self, number: int, item: Input) -> Outcome:
        if number in self.failed:
            return self.failed[number]
        if number in self.stems:
            return self.store.outcome(self.stems[number])
        return item.outcome("not reached", "stopped before")

    def _gather(self) -> _Gathered:
        """What ratios and plots need of all images; a part that is damaged is a failure."""
        nothing = empty(self.card.classes)
        held: list[pd.DataFrame] = []
        scales: dict[str, float] = {}
        for number, stem in sorted(self.stems.items()):
            item = self.inputs[number]
            try:
                table, scale = self.store.table(stem), self.store.about(stem).get("scale")
            except TableError as error:
                self.store.remove([stem])
                del self.stems[number]
                self.failed[number] = item.outcome("failed", str(error))
                continue
            if scale is not None:
                scales[item.name] = scale
            if len(table):
                more = table.columns.difference(nothing.columns, sort=False)
                nothing = concatenate([nothing, table]).iloc[:0] if len(more) else nothing
                held.append(table.drop(columns=list(NEITHER_COUNTED_NOR_DRAWN)))
        together = pd.concat(held, ignore_index=True) if held else nothing
        return _Gathered(together, nothing, scales)

    def _sections(self, table: pd.DataFrame) -> tuple[list[Section], list[Example]]:
        """What is shown of single images, with the ratios as they are found this time."""
        sections: list[Section] = []
        examples: list[Example] = []
        for number in sorted(self._shown & self.stems.keys()):
            drawing = self.store.drawing(self.stems[number])
            if drawing is None:
                continue
            section, own = drawing
            ratios = class_ratios(
                table[table["image"] == section.image],
                self.card.classes,
                scope=section.image,
                images=[section.image],
                method=self.request.ratios,
                card=self.card,
            )
            sections.append(with_ratios(section, ratios))
            examples = foremost([*examples, *own])
        return sections, examples


def _device(outcomes: Iterable[Outcome]) -> str:
    """Where the network ran; workers need not have the same devices."""
    return ", ".join(sorted({str(o.parameters["device"]) for o in outcomes if o.parameters}))


@dataclass(frozen=True, eq=False)
class _Gathered:
    """Of all images: what is held of their clusters, no cluster with all columns, their scales."""

    table: pd.DataFrame
    nothing: pd.DataFrame
    scales: dict[str, float]


class Pace:
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
        return f"{said}, {speed}, {duration(left)} left"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
