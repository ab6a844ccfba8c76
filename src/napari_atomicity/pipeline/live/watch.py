"""Watched folder: analyse each image as the microscope writes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import FAILED, ReadError, SettingError, attempt, format_failed
from ...core.from_dict import dataclass_from_json
from ...core.micrograph import Micrograph
from ...core.progress import Stop, check, for_each_image
from ...io.files import read_document, write_json
from ...io.inputs import Input
from ...io.provenance import Outcome, now
from ...io.tables import write_ratios
from ...models.analysis import Analysis
from ...models.domain_shift import FeatureSummary
from ...models.inference import Classifier, load_classifier
from ...statistics.ratios.ratios import refuse_unavailable
from ..acquisition_sessions import SessionRules
from ..analysis import analyse, with_failed
from ..run_request import RunRequest
from ..runs.one_image import analyse_one
from ..runs.part_store import PartStore
from ..runs.parts import Part, make_part, model_hash
from ..runs.run_files import RunInfo
from ..runs.session_pass import NewLabels, make_labelled_part
from .arrivals import (
    PATIENCE_S,
    POLL_S,
    READ_AFTER_S,
    RESCAN_S,
    SETTLE_S,
    Arrivals,
    FileFingerprint,
    FileWatcher,
    is_remote,
)
from .control_chart import FIRST, SESSION_CHANGED, ChangedImages, ControlChart, Reading
from .live import Conditions, LiveRun, LiveUpdate, Log, compute_latency_s, conditions_of, row_of
from .watched_images import KnownPixelSize, LiveSessions, WatchedImages


# ---- first analysis of a process, which compiles and loads what later ones need
def warm_up(classifier: Classifier, request: RunRequest) -> None:
    """Analyse a small simulated image, so that the first real one is fast."""
    noise = np.random.default_rng(0).normal(100, 5, (256, 256)).astype(np.float32)
    y, x = np.mgrid[:256, :256]
    noise += 100 * (np.hypot(y - 128, x - 128) < 14)
    analyse(
        Micrograph(noise, 0.05, name="warm up"),
        classifier,
        settings=replace(request.detection),
        umap=request.umap,
    )


# ---- reference conditions of an acquisition session: the chart, and its reference on disk

REFERENCE = "live.json"
"""File with the time from which images belong to the reference of the conditions."""


@dataclass(frozen=True)
class _Reference:
    reference_since: float


class SessionReference:
    """Control chart of a session, whose reference a user may replace.

    Raises `ValueError` if the number of images is too small.
    """

    def __init__(self, folder: Path, n_images: int = FIRST) -> None:
        self._chart = ControlChart(n_images)
        self._path = folder / REFERENCE
        self._outliers: list[tuple[float, FeatureSummary]] = []
        self._accepted = threading.Event()

    def accept(self) -> None:
        """Request the current conditions as the new reference; thread-safe."""
        self._accepted.set()

    def since(self) -> float:
        """Return the time from which images belong to the reference; -inf if it is not set."""
        try:
            return dataclass_from_json(_Reference, read_document(self._path)).reference_since
        except (OSError, ValueError):
            return -np.inf

    def start_at(self, since: float) -> None:
        """Store the time from which images belong to the reference."""
        write_json(self._path, {"reference_since": since})

    def apply_accepted(self) -> bool:
        """Replace the reference by the images since the change, if `accept` was called."""
        if not self._accepted.is_set():
            return False
        self._accepted.clear()
        outliers, self._outliers = self._outliers, []
        self._chart.begin_anew()
        for when, where in outliers:
            self.add(when, where)
        self.start_at(outliers[0][0] if outliers else time.time())
        return True

    def add(self, when: float, where: FeatureSummary | None) -> Reading:
        """Add the next image to the chart."""
        reading = self._chart.add(where)
        if reading.joined:
            self._outliers = []
        elif where is not None:
            self._outliers.append((when, where))
        return reading


_STEP_S = 0.25


class Watch:
    """Analyses existing and new images of a folder.

    The state is in ``out_dir``: after a restart, only new or changed images are analysed. The store
    is that of `pipeline.runs.batch`. Files in ``known`` need no analysis (path → size and time in
    ns). ``on_change(analyses)`` is called between images while the conditions are not those of the
    reference, with the last images since the change. If it returns True, these images are not part
    of the results, and the run ends: see `handed_over`. ``known_pixel_size`` gives the pixel sizes
    of files that a person has calibrated; one of the request replaces them.

    Raises `ReadError` if the folder does not exist. Raises `ValueError` if there are too few
    reference images. Raises `AtomicityError` if ``out_dir`` cannot be written.
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
        poll_s: float = POLL_S,  # interval of the scans
        notice: Callable[[str], None] | None = None,  # called with messages for the user
        reference_images: int = FIRST,
        new_reference: bool = False,
        known: Mapping[Path, tuple[int, int]] | None = None,
        leave_out: Path | None = None,
        on_change: Callable[[Sequence[Analysis]], bool] | None = None,
        known_pixel_size: KnownPixelSize | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self._reference = SessionReference(Path(out_dir), reference_images)
        if not self.folder.is_dir():
            raise ReadError("there is no such folder", self.folder, "Check the path")
        self.request = request or RunRequest(umap=False)
        if self.request.outlines or self.request.rois:
            raise SettingError(
                "outlines and regions can't be used while a folder is watched",
                ["outlines", "rois"],
                "Analyse the images with them later",
            )
        self.store = PartStore(out_dir)
        self._settle_s, self._patience_s, self._poll_s = settle_s, patience_s, poll_s
        self._polling = is_remote(self.folder) if polling is None else polling
        self._notice = notice or (lambda _: None)
        self._alarm: tuple[str, ...] = ()
        self._arrivals: Arrivals | None = None
        self._scanned, self._analysing = False, False
        self._new_reference = new_reference
        self._known, self._leave_out = dict(known or {}), leave_out or self.store.folder
        self._on_change, self._changed = on_change, ChangedImages()
        self._known_pixel_size = known_pixel_size
        self.handed_over = False
        self.analysed = 0

    def accept(self) -> None:
        """Use the current conditions as reference; may be called from any thread."""
        self._reference.accept()

    @property
    def waiting(self) -> int:
        """Number of existing files that are not analysed yet, including the current one."""
        queued = 0 if self._arrivals is None else self._arrivals.waiting
        return queued + self._analysing

    def analysed_files(self) -> dict[Path, tuple[int, int]]:
        """Return the files of the results after a run: path → size and time in ns."""
        return self._images.files()

    def run(
        self,
        on_result: Callable[[LiveUpdate], None] | None = None,
        stop: Stop | None = None,
        until_idle_s: float | None = None,
        command: Sequence[str] | None = None,
    ) -> LiveRun:
        """Watch the folder until it is stopped, and write tables, report and record.

        Raises `ModelError` if the model cannot be loaded or lacks the data for the ratios. Raises
        `AtomicityError` if another run writes to the folder, or a file cannot be written.
        """
        with self.store.locked():
            started = now()
            classifier = load_classifier(self.request.model, self.request.device)
            refuse_unavailable(self.request.ratios, classifier.card)
            self._classifier = classifier
            card = classifier.card
            sessions = SessionRules.read(self.request, card.classes)
            self._images = WatchedImages(
                self.store,
                self.request,
                card,
                model_hash(card),
                sessions,
                folder=self.folder,
                known_pixel_size=self._known_pixel_size,
            )
            self._sessions, self._log = LiveSessions(self._images), Log(self.store.folder)

            def step(taken: tuple[Path, FileFingerprint]) -> LiveUpdate | None:
                return self._analyse_file(*taken, stop)

            for_each_image(
                self._files(stop, until_idle_s),
                step,
                sinks=[partial(self._emit, on_result)],
                stop=stop,
            )
            if self._scanned:
                self._apply_accepted()  # also if it was accepted at the last moment
            return self._finalize(started, command)

    # ---- files
    def _files(
        self, stop: Stop | None, until_idle_s: float | None
    ) -> Iterator[tuple[Path, FileFingerprint]]:
        """Yield complete files as they arrive."""
        warm_up(self._classifier, self.request)
        read_after_s = min(READ_AFTER_S, self._settle_s)
        arrivals = self._arrivals = Arrivals(
            self.folder,
            {**self._known, **self._resume()},
            self._leave_out,
            read_after_s,
            self._patience_s,
        )
        with FileWatcher(self.folder, not self._polling, self._on_no_notifications) as watcher:
            scanned, scan_s = -np.inf, 0.0
            active = time.monotonic()
            while True:
                check(stop)
                self._apply_accepted()
                if self._leave_to_another_run():
                    return
                interval = max(RESCAN_S if watcher.listens else self._poll_s, 10 * scan_s)
                arrivals.look(watcher.now())
                if time.monotonic() - scanned > interval:
                    begun = time.monotonic()
                    arrivals.look()
                    self._scanned = True
                    scanned = time.monotonic()
                    scan_s = scanned - begun
                taken = arrivals.take()
                if taken is not None:
                    yield taken
                    active = time.monotonic()
                    continue
                idle = time.monotonic() - active
                if until_idle_s is not None and not arrivals.waiting and idle >= until_idle_s:
                    return
                wait_s = min(_STEP_S, arrivals.due_s(), interval)
                arrivals.look(watcher.wait(max(0.005, wait_s)))

    def _on_no_notifications(self, why: str) -> None:
        self._polling = True
        self._notice(f"no notifications of new files ({why}): scanning the folder regularly")

    def _resume(self) -> dict[Path, tuple[int, int]]:
        """Register earlier sessions; return path → size and time of their files."""
        if self._new_reference:
            self._reference.start_at(time.time())
        since = self._reference.since()
        files: dict[Path, tuple[int, int]] = {}
        known: list[tuple[float, FeatureSummary]] = []
        for path, about in self._images.resume():
            if "size" in about:
                files[path] = (int(about["size"]), int(about["mtime_ns"]))
            if about.get("where") is not None and about["taken"] >= since:
                known.append((about["taken"], FeatureSummary.from_dict(about["where"])))
        for when, where in sorted(known, key=lambda one: one[0]):
            self._reference.add(when, where)
        if self._images.stems:
            self._notice(f"resuming: {len(self._images.stems)} images of earlier sessions")
        return files

    def _leave_to_another_run(self) -> bool:
        """Return whether the images since a change are left to another run."""
        changed = self._changed
        if self._on_change is None or SESSION_CHANGED not in self._alarm or not changed.is_new:
            return False
        changed.is_new = False
        self.handed_over = self._on_change(tuple(changed.last))
        if self.handed_over:
            names = self._images.names_of(changed.contents)
            # They are analysed again; copies are adopted.
            self.analysed -= len({self._images.content_of(name) for name in names})
            for name in names:
                self._images.forget(name)
        return self.handed_over

    def _apply_accepted(self) -> None:
        if self._reference.apply_accepted():
            self._alarm = tuple(words for words in self._alarm if words != SESSION_CHANGED)

    # ---- one file
    def _analyse_file(
        self, path: Path, fingerprint: FileFingerprint, stop: Stop | None
    ) -> LiveUpdate | None:
        """Analyse a file; return None if it is gone or is tried again later."""
        assert self._arrivals is not None
        self._analysing = True  # remains so after an interruption
        arrivals, item = self._arrivals, self._images.input_at(path)
        live = None
        if self._is_known_renamed(path, fingerprint):
            self._analysing = False
            return None
        known = self._images.adopt(item)
        if known is not None:
            outcome = self.store.outcome(known)
            ratios = self._running_ratios(hurry=True)
            copies = self._images.same_content(item.name)
            live = LiveUpdate(outcome, ratios=ratios, copy_of=copies[0] if copies else "")
        else:
            taken, start = time.time(), time.perf_counter()
            outcome, _, made = analyse_one(
                item,
                self._classifier,
                self.request,
                stop=stop,
                then=lambda a, o: self._make_part(item, a, o, fingerprint, taken),
            )
            analysis_s = time.perf_counter() - start
            time.sleep(max(0.0, self._settle_s - READ_AFTER_S - analysis_s))
            if made is None:
                if not arrivals.give_back(path, fingerprint):
                    live = self._fail(outcome, fingerprint)
            elif not arrivals.changed(path, fingerprint):  # else it is read again
                part, analysis, found = made
                self._images.add(item, part)
                live = self._update(part.outcome, analysis, found, taken, analysis_s, fingerprint)
        self._analysing = False
        return live

    def _is_known_renamed(self, path: Path, fingerprint: FileFingerprint) -> bool:
        """Return whether a file was among those in ``known``, under another name."""
        now = fingerprint.size, fingerprint.mtime_ns
        before = (p for p, seen in self._known.items() if seen == now and p != path)
        renamed = next((p for p in before if not p.exists()), None)
        if renamed is not None:
            self._notice(f"{path.name} was {renamed.name}, which an earlier model has labelled")
        return renamed is not None

    def _make_part(
        self,
        item: Input,
        analysis: Analysis,
        outcome: Outcome,
        fingerprint: FileFingerprint,
        taken: float,
    ) -> tuple[Part, Analysis, Conditions]:
        """Label an image with what its session knows so far."""
        classifier, failed = self._classifier, dict[str, str]()
        scale = attempt(
            failed,
            "scale of the session",
            lambda: self._sessions.find_scale(analysis, outcome),
        )
        labels = NewLabels(item, scale, {})
        own, analysis = analysis, labels.apply(analysis, classifier)
        found = self._find_conditions(analysis, failed)
        # A restart puts together the same reference from what is stored here.
        about = {
            "size": fingerprint.size,
            "mtime_ns": fingerprint.mtime_ns,
            "taken": taken,
            "where": None if found.where is None else found.where.to_dict(),
        }
        analysis = with_failed(analysis, failed)
        warnings = (*outcome.warnings, *format_failed({FAILED: failed}))
        outcome = replace(outcome, parameters=analysis.parameters, warnings=warnings)
        if scale is None:
            part = make_part(analysis, outcome, classifier.card, draw=False, about=about)
        else:
            labels = replace(labels, about=about)
            part = make_labelled_part(labels, own, analysis, outcome, classifier.card)
        session = self._images.joint.get(item.name)
        if session is not None:
            analysis = replace(analysis, parameters={**analysis.parameters, "session": session})
        return part, analysis, found

    def _find_conditions(self, analysis: Analysis, failed: dict[str, str]) -> Conditions:
        """Determine the conditions of an image; unknown ones if that fails."""
        card, tensors = self._classifier.card, self._classifier.ood_tensors
        found = attempt(failed, "conditions", lambda: conditions_of(analysis, card, tensors))
        nan = float("nan")
        return found or Conditions(len(analysis.table), 0, nan, nan, nan, nan, False)

    def _fail(self, outcome: Outcome, fingerprint: FileFingerprint) -> LiveUpdate:
        assert self._arrivals is not None
        self._images.fail(outcome)
        ratios = self._running_ratios()  # of images that came while this file waited
        latency_s = compute_latency_s(fingerprint)
        return LiveUpdate(outcome, None, None, ratios, None, self._arrivals.waiting, latency_s)

    def _update(
        self,
        outcome: Outcome,
        analysis: Analysis,
        conditions: Conditions,
        taken: float,
        analysis_s: float,
        fingerprint: FileFingerprint,
    ) -> LiveUpdate:
        """Update chart and ratios with an analysed image."""
        assert self._arrivals is not None
        self._apply_accepted()  # if it was accepted during the analysis
        reading = self._reference.add(taken, conditions.where)
        conditions = conditions.read(reading)
        if self._on_change is not None and conditions.where is not None:
            self._changed.add(analysis, reading, self._images.content_of(outcome.image))
        running, waiting = self._images.running, self._arrivals.waiting
        running.set(outcome.image, analysis.table, analysis.parameters, outcome.sha256)
        self.analysed += 1
        ratios = self._running_ratios()
        latency_s = compute_latency_s(fingerprint)
        row = row_of(
            outcome.image,
            outcome.sha256,
            conditions,
            self._classifier.card.classes,
            ratios,
            images=running.images,
            waiting=waiting,
            analysis_s=analysis_s,
            latency_s=latency_s,
        )
        new = "; ".join(words for words in conditions.alarms if words not in self._alarm)
        calm = bool(self._alarm) and not conditions.alarms
        self._alarm = conditions.alarms
        return LiveUpdate(outcome, analysis, conditions, ratios, row, waiting, latency_s, new, calm)

    def _running_ratios(self, hurry: bool = False) -> pd.DataFrame | None:
        """Return the ratios of all images so far; None if there are none, or others wait."""
        assert self._arrivals is not None
        running, hurry = self._images.running, hurry or self._arrivals.untried > 0
        if not running.images:
            return None
        failed: dict[str, str] = {}
        ratios = attempt(failed, "ratios", lambda: running.ratios(hurry))
        for text in format_failed({FAILED: failed}):
            self._notice(text)
        return ratios

    def _emit(
        self, on_result: Callable[[LiveUpdate], None] | None, live: LiveUpdate | None
    ) -> None:
        """Pass on the result of a file, then write and draw what can wait until it is shown."""
        if live is None:
            return
        try:
            if on_result is not None:
                on_result(live)
        finally:
            self._write(live)
        if live.analysis is not None and not self.waiting:
            self._images.draw(live.analysis, live.outcome, self._notice)

    def _write(self, live: LiveUpdate) -> None:
        """Write the log and the running ratios."""
        if live.row is not None:
            self._log.add(live.row)
        if live.ratios is not None:
            write_ratios(live.ratios, self.store.folder / "ratios.csv")

    def _finalize(self, started: str, command: Sequence[str] | None) -> LiveRun:
        images, waiting = self._images, self.waiting
        if not self._scanned or (waiting and not images.stems and not images.failed):
            run, analysed = images.summarise_unwritten(), 0
        else:
            images.label_sessions(self._classifier)
            info = RunInfo(
                started, self.request.device, waiting > 0 and not self.handed_over, command
            )
            run, analysed = images.finalize(info), self.analysed
        return LiveRun(**vars(run), analysed=analysed, waiting=waiting)
