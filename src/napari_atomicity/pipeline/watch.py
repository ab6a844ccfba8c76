"""A folder that is watched: each image is analysed as the microscope writes it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np

from ..core.cluster_table import ALL, empty
from ..core.errors import Cancelled, ReadError, TableError
from ..core.micrograph import Micrograph
from ..core.progress import Stop, check
from ..io.files import write_json
from ..io.images import sha256_of, valid_text
from ..io.inputs import Input
from ..io.provenance import Outcome, now
from ..io.tables import write_ratios
from ..models.analysis import Analysis
from ..models.classifier import Classifier, load_classifier
from ..statistics.ratios import class_ratios, refuse_unavailable
from .analysis import analyse
from .arrivals import (
    PATIENCE_S,
    POLL_S,
    RESCAN_S,
    SETTLE_S,
    Arrivals,
    FileFingerprint,
    FileWatcher,
    is_remote,
)
from .control_chart import FIRST, SESSION_CHANGED, Chart, FeatureSummary, Reading
from .failures import Failure
from .finalize import finalize_batch
from .live import LIVE, Conditions, Log, Running, conditions_of, row_of
from .live_results import LiveRun, LiveUpdate, compute_latency_s
from .part_store import PartStore
from .parts import Part, key_of, make_part, model_hash, stem_of
from .runs import Run, RunRequest, analyse_one

SHOWN = 40
"""So many of the last images have a section in the report."""
REFERENCE = "live.json"
"""Since when images are the reference of the conditions."""
_STEP_S = 0.25


@dataclass(eq=False)
class _State:
    """What is known of the folder: the parts of its images, and what failed."""

    stems: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    drawn: list[str] = field(default_factory=list)


class Watch:
    """Analyses the images of a folder, those that are there and those that come.

    All state is in ``out_dir``: what is analysed again after a restart is what has come or changed
    meanwhile. The store is that of `pipeline.batch`.

    Parameters
    ----------
    folder : str or path-like
        Watched with its subfolders; images are named by their path in it.
    out_dir : str or path-like
        Folder for the parts, ``live.csv``, ``failures.csv`` and, at the end, tables and report.
    request : RunRequest, optional
        Model, device and settings; without the map of the embedding if None, for it takes long.
    settle_s : float, optional
        So long a file must stay as it is.
    patience_s : float, optional
        So long after its last change a file that can't be read may still be on its way.
    polling : bool, optional
        Whether to look every `poll_s` seconds instead of being told by the system; None: only on
        network drives.
    poll_s : float, optional
        How often, then.
    notice : callable, optional
        Told in words what a person should know.
    reference_images : int, optional
        So many of the first images are the reference of the conditions
        (`pipeline.control_chart.Chart`); 0: no alarm is relative to the session.
    new_reference : bool, optional
        Whether those are meant that come now, whatever earlier sessions have seen.

    Raises
    ------
    ReadError
        If there is no such folder.
    ValueError
        If so few images are no reference.
    AtomicityError
        If ``out_dir`` can't be made or written to.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        out_dir: str | PathLike[str],
        request: RunRequest | None = None,
        *,
        settle_s: float = SETTLE_S,
        patience_s: float = PATIENCE_S,
        polling: bool | None = None,
        poll_s: float = POLL_S,
        notice: Callable[[str], None] | None = None,
        reference_images: int = FIRST,
        new_reference: bool = False,
    ) -> None:
        self._chart = Chart(reference_images)
        self.folder = Path(folder).absolute()
        if not self.folder.is_dir():
            raise ReadError("there is no such folder", self.folder, "Check the path")
        self.request = request or RunRequest(umap=False)
        self.store = PartStore(out_dir)
        self._settle_s, self._patience_s, self._poll_s = settle_s, patience_s, poll_s
        self._polling = is_remote(self.folder) if polling is None else polling
        self._notice = notice or (lambda _: None)
        self._state = _State()
        self._alarm: tuple[str, ...] = ()
        self._arrivals: Arrivals | None = None
        self._looked, self._in_hand = False, False
        self._outside: list[tuple[float, FeatureSummary]] = []
        self._accepted = threading.Event()
        self._new_reference = new_reference
        self.analysed = 0

    def accept(self) -> None:
        """The conditions are meant to be what they are now: the images since they have changed,
        and those that come, are the reference. May be called from any thread."""
        self._accepted.set()

    @property
    def waiting(self) -> int:
        """Files that are there and were not done yet, with the one that is being analysed."""
        queued = 0 if self._arrivals is None else self._arrivals.waiting
        return queued + self._in_hand

    # ---- the session
    def run(
        self,
        on_result: Callable[[LiveUpdate], None] | None = None,
        stop: Stop | None = None,
        until_idle_s: float | None = None,
        command: Sequence[str] | None = None,
    ) -> LiveRun:
        """Watch until somebody stops it, and write tables, report and record.

        Parameters
        ----------
        on_result : callable, optional
            Called after each file that was taken.
        stop : callable, optional
            ``stop() -> bool``, asked several times a second.
        until_idle_s : float, optional
            End by itself once nothing waits and nothing has come for so long; None: never.
        command : sequence of str, optional
            For the record; the command line of this process if None.

        Returns
        -------
        LiveRun
            However it ended. It is ``interrupted`` if files were waiting, or if it ended before
            the folder was looked through: then nothing is written, and what earlier sessions have
            written stays.

        Raises
        ------
        ModelError
            If the model can't be loaded or lacks what the ratios need.
        AtomicityError
            If another run writes to the folder, or a file can't be written.
        """
        with self.store.locked():
            started = now()
            classifier = load_classifier(self.request.model, self.request.device)
            refuse_unavailable(self.request.ratios, classifier.card)
            self._running = Running(classifier.card, self.request.ratios)
            try:
                for live in self._results(classifier, stop, until_idle_s):
                    if on_result is not None:
                        on_result(live)
            except (KeyboardInterrupt, Cancelled):
                pass
            if self._looked:
                self._take_as_reference()  # accepted in the last moment is accepted
            return self._conclude(classifier, started, command)

    def _results(
        self, classifier: Classifier, stop: Stop | None, until_idle_s: float | None
    ) -> Iterator[LiveUpdate]:
        """What comes of each file, as it comes."""
        self._log = Log(self.store.folder)
        self._hash = model_hash(classifier.card)
        _warm_up(classifier, self.request)
        arrivals = self._arrivals = Arrivals(
            self.folder,
            self._resume(),
            self.store.folder,
            self._settle_s,
            self._patience_s,
        )
        with FileWatcher(self.folder, not self._polling, self._deaf) as told:
            scanned, scan_s = -np.inf, 0.0
            active = time.monotonic()
            while True:
                check(stop)
                self._take_as_reference()
                every = max(RESCAN_S if told.listens else self._poll_s, 10 * scan_s)
                arrivals.look(told.now())
                if time.monotonic() - scanned > every:
                    begun = time.monotonic()
                    arrivals.look()
                    self._looked = True
                    scanned = time.monotonic()
                    scan_s = scanned - begun
                taken = arrivals.take()
                if taken is not None:
                    self._in_hand = True  # also where it is interrupted
                    live = self._taken(arrivals, *taken, classifier, stop)
                    self._in_hand = False
                    active = time.monotonic()
                    if live is not None:
                        yield live
                        self._draw(live, classifier)
                    continue
                idle = time.monotonic() - active
                if until_idle_s is not None and not arrivals.waiting and idle >= until_idle_s:
                    return
                told_wait = min(_STEP_S, arrivals.due_s(), every)
                arrivals.look(told.wait(max(0.005, told_wait)))

    def _deaf(self, why: str) -> None:
        self._polling = True
        self._notice(f"the system does not tell of new files ({why}): looking every so often")

    # ---- going on where it stopped
    def _resume(self) -> dict[Path, tuple[int, int]]:
        """What is there of earlier sessions; path → size and time of files taken then."""
        taken: dict[Path, tuple[int, int]] = {}
        seen: list[tuple[float, FeatureSummary]] = []
        if self._new_reference:
            self._refer_since(time.time())
        since = self._reference_since()
        for stem in sorted(self.store.stems):
            try:
                about = self.store.about(stem)
                outcome = self.store.outcome(stem)
                table = self.store.table(stem)
            except TableError:
                self.store.remove([stem])
                continue
            path = Path(outcome.path)
            current = key_of(outcome.sha256 or "", self._hash, self.request) == stem[:32]
            # Results of other settings, or of images elsewhere, are not of this session.
            if not current or not path.is_relative_to(self.folder):
                continue
            name = self._name(path)
            if name != outcome.image:  # a batch has other names
                continue
            self._state.stems[name], self._state.paths[name] = stem, path
            self._running.set(name, table)
            if "size" in about:
                taken[path] = (int(about["size"]), int(about["mtime_ns"]))
            if about.get("where") is not None and about["taken"] >= since:
                seen.append((about["taken"], FeatureSummary.from_dict(about["where"])))
        for when, where in sorted(seen, key=lambda one: one[0]):
            self._read_off(when, where)
        # What failed is tried again: with other settings, or another version, it may go well.
        if self._state.stems:
            self._notice(f"going on: {len(self._state.stems)} images of earlier sessions")
        return taken

    # ---- the reference of the conditions
    def _reference_since(self) -> float:
        try:
            kept = json.loads((self.store.folder / REFERENCE).read_text(encoding="utf-8"))
            return float(kept["reference_since"])
        except (OSError, ValueError, KeyError, TypeError):
            return -np.inf

    def _refer_since(self, since: float) -> None:
        write_json(self.store.folder / REFERENCE, {"reference_since": since})

    def _take_as_reference(self) -> None:
        """If somebody has accepted the conditions as they are."""
        if not self._accepted.is_set():
            return
        self._accepted.clear()
        outside, self._outside = self._outside, []
        self._chart.begin_anew()
        for when, where in outside:
            self._read_off(when, where)
        self._refer_since(outside[0][0] if outside else time.time())
        self._alarm = tuple(words for words in self._alarm if words != SESSION_CHANGED)

    def _read_off(self, when: float, where: FeatureSummary | None) -> Reading:
        """What the chart says of the next image; those outside may be accepted."""
        reading = self._chart.add(where)
        if reading.joined:
            self._outside = []
        elif where is not None:
            self._outside.append((when, where))
        return reading

    def _name(self, path: Path) -> str:
        return valid_text(path.relative_to(self.folder).as_posix())

    # ---- one file
    def _taken(
        self,
        arrivals: Arrivals,
        path: Path,
        signature: FileFingerprint,
        classifier: Classifier,
        stop: Stop | None,
    ) -> LiveUpdate | None:
        """Analyse a file; None if it has gone, or is tried again later."""
        item = Input(self._name(path), path)
        known = self._known(item)
        if known is not None:
            return known
        taken = time.time()

        def made(analysis: Analysis, outcome: Outcome) -> tuple[Part, Conditions]:
            card = classifier.card
            found = conditions_of(analysis, card, classifier.beside)
            about = {
                "size": signature.size,
                "mtime_ns": signature.mtime_ns,
                "taken": taken,
                "where": None if found.where is None else found.where.to_dict(),
            }
            return make_part(analysis, outcome, card, draw=False, about=about), found

        start = time.perf_counter()
        outcome, analysis, found = analyse_one(item, classifier, self.request, stop=stop, then=made)
        analysis_s = time.perf_counter() - start
        if analysis is None or found is None:
            if arrivals.give_back(path, signature):
                return None
            return self._failed(outcome, signature, arrivals)
        if arrivals.changed(path, signature):
            return None  # while it was read: it is taken again
        part, conditions = found
        self._keep(item, part)
        self._take_as_reference()  # if it was accepted while this one was analysed
        conditions = conditions.read(self._read_off(taken, conditions.where))
        self._running.set(item.name, analysis.table)
        self.analysed += 1
        ratios = self._running.ratios(hurry=arrivals.waiting > 0)
        latency_s = compute_latency_s(signature)
        row = row_of(
            item.name,
            outcome.sha256,
            conditions,
            classifier.card.classes,
            ratios,
            images=self._running.images,
            waiting=arrivals.waiting,
            analysis_s=analysis_s,
            latency_s=latency_s,
        )
        self._log.add(row)
        if ratios is not None:
            write_ratios(ratios, self.store.folder / "ratios.csv")
        new = [words for words in conditions.alarms if words not in self._alarm]
        calm = bool(self._alarm) and not conditions.alarms
        self._alarm = conditions.alarms
        return LiveUpdate(
            outcome,
            analysis,
            conditions,
            ratios,
            row,
            arrivals.waiting,
            latency_s,
            "; ".join(new),
            calm,
        )

    def _known(self, item: Input) -> LiveUpdate | None:
        """Content that was analysed before: the same file again, or one under a new name."""
        try:
            key = key_of(sha256_of(item.path), self._hash, self.request)
        except OSError:
            return None
        stem = self.store.adopt(key, item)
        if stem is None:
            return None
        table = self.store.table(stem)
        for name, other in list(self._state.stems.items()):
            if other[:32] == key and name != item.name and not self._state.paths[name].exists():
                self._forget(name)
        self._settle(item, stem)
        self._running.set(item.name, table)
        return LiveUpdate(self.store.outcome(stem), ratios=self._running.ratios(hurry=True))

    def _keep(self, item: Input, part: Part) -> None:
        assert part.outcome.sha256 is not None
        stem = stem_of(key_of(part.outcome.sha256, self._hash, self.request), item.name)
        self.store.write(stem, part)
        self._settle(item, stem)

    def _settle(self, item: Input, stem: str) -> None:
        """This is the part of the image now; those of what the file held before go."""
        before = self._state.stems.get(item.name)
        self._state.stems[item.name], self._state.paths[item.name] = stem, item.path
        if before is not None and before != stem:
            self.store.remove([before])
        if self._state.failed.pop(item.name, None) is not None:
            self.store.write_failures(self._state.failed.values())

    def _forget(self, name: str) -> None:
        self.store.remove([self._state.stems.pop(name)])
        self._state.paths.pop(name, None)
        self._running.remove(name)

    def _failed(
        self, outcome: Outcome, signature: FileFingerprint, arrivals: Arrivals
    ) -> LiveUpdate:
        """It can't be analysed as it is; what it held before does not count any more."""
        if outcome.image in self._state.stems:
            self._forget(outcome.image)
        self._state.failed[outcome.image] = Failure.of(outcome)
        self.store.write_failures(self._state.failed.values())
        return LiveUpdate(outcome, waiting=arrivals.waiting, latency_s=compute_latency_s(signature))

    # ---- the report
    def _draw(self, live: LiveUpdate, classifier: Classifier) -> None:
        """Draw for the report while nothing waits; only the last images keep their drawing."""
        if live.analysis is None or self.waiting:
            return
        stem = self._state.stems.get(live.outcome.image)
        if stem is None:
            return
        try:
            self.store.draw(stem, live.analysis, live.outcome, classifier.card)
        except Cancelled:
            raise
        except Exception as error:  # what was found does not depend on its picture
            self._notice(f"{live.outcome.image} could not be drawn for the report: {error}")
            return
        self._state.drawn.append(stem)
        while len(self._state.drawn) > SHOWN:
            self.store.undraw(self._state.drawn.pop(0))

    def _conclude(
        self, classifier: Classifier, started: str, command: Sequence[str] | None
    ) -> LiveRun:
        state, waiting = self._state, self.waiting
        names = sorted({*state.stems, *state.failed})
        if not self._looked or (waiting and not names):
            return self._unwritten(classifier, waiting)
        inputs = [Input(name, self._path_of(name)) for name in names]
        number = {name: i for i, name in enumerate(names)}
        run = finalize_batch(
            self.store,
            self.request,
            classifier.card,
            inputs,
            {number[name]: stem for name, stem in state.stems.items()},
            {number[name]: failure for name, failure in state.failed.items()},
            range(len(names)),
            started=started,
            interrupted=waiting > 0,
            command=command,
            more=(LIVE,) if (self.store.folder / LIVE).exists() else (),
        )
        if not waiting:
            done = [state.paths[name] for name in state.stems]
            self.store.tidy(state.stems.values(), done, all_done=not state.failed)
        fields = {name: getattr(run, name) for name in Run.__dataclass_fields__}
        return LiveRun(**fields, analysed=self.analysed, waiting=waiting)

    def _unwritten(self, classifier: Classifier, waiting: int) -> LiveRun:
        """It ended before there was anything to say: what is there stays as it is."""
        outcomes = [self.store.outcome(stem) for _, stem in sorted(self._state.stems.items())]
        nothing = empty(classifier.card.classes)
        ratios = class_ratios(nothing, classifier.card.classes, scope=ALL, images=[])
        return LiveRun(nothing, ratios, outcomes, [], True, waiting=waiting)

    def _path_of(self, name: str) -> Path:
        if name in self._state.paths:
            return self._state.paths[name]
        return Path(self._state.failed[name].outcome.path)


def _warm_up(classifier: Classifier, request: RunRequest) -> None:
    """What takes long the first time is done before the first image comes."""
    noise = np.random.default_rng(0).normal(100, 5, (256, 256)).astype(np.float32)
    y, x = np.mgrid[:256, :256]
    noise += 100 * (np.hypot(y - 128, x - 128) < 14)
    analyse(
        Micrograph(noise, 0.05, name="warm up"),
        classifier,
        settings=replace(request.detection),
        umap=request.umap,
    )
