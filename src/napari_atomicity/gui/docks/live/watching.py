"""A watched folder behind the window: what comes of each file is told in the window's thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psygnal
from qtpy.QtCore import QObject, Signal

from ....core.errors import AtomicityError
from ....core.micrograph import is_replaced
from ....core.progress import Progress, Stop
from ....gui import tasks
from ....models.analysis import Analysis
from ....project import ProjectContents
from ....project.opening import take_in_analysed, take_in_failed
from ...controls.questions import show_error
from ...panels.image_queue import ImageQueue
from ...panels.session_labels import session_labels_of
from ...panels.steps import OUTLINES_REPLACED
from ...tasks import cap_torch_threads
from ...viewer.binding import Binding

if TYPE_CHECKING:
    from ....pipeline.live.live import LiveRun, LiveUpdate
    from ....pipeline.live.watch import Watch


# ---- A live session as it is plotted: figures of each image, in the order in which they came

MAX_ROWS = 2000
"""Points that are kept for the plot; of more, every second one goes."""


@dataclass
class LiveHistory:
    """Rows of ``live.csv`` (`pipeline.live.live`), as far as they are plotted.

    They are of one run of the results: it begins anew with another model.
    """

    classes: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of_log(cls, log: pd.DataFrame) -> LiveHistory:
        """Read the rows of an earlier run."""
        history = cls()
        for row in log.to_dict("records"):
            history.add(row)
        return history

    def add(self, row: Mapping[str, Any]) -> None:
        classes = tuple(c.removeprefix("fraction_") for c in row if _is_fraction(c))
        if classes != self.classes or row.get("images") == 1:
            self.classes, self.rows = classes, []
        self.rows.append(dict(row))
        if len(self.rows) > MAX_ROWS:
            self.rows = self.rows[: -MAX_ROWS // 4 : 2] + self.rows[-MAX_ROWS // 4 :]

    def set_ratios(self, ratios: pd.DataFrame) -> None:
        """Set the ratios after the last image, which may not have been computed with it."""
        from ....pipeline.live.live import ratio_columns

        if self.rows:
            self.rows[-1] |= ratio_columns(ratios, self.classes)

    def values(self, column: str) -> np.ndarray:
        """Return a column, with NaN where it is missing."""
        values = pd.Series([row.get(column) for row in self.rows], dtype=object)
        return pd.to_numeric(values, errors="coerce").to_numpy(float)

    def change(self) -> np.ndarray:
        """Return the change of the conditions in the session, in units of its limit."""
        return self.values("session_change")

    def drift(self) -> np.ndarray:
        """Return the drift of the conditions from the training, in units of the model's limit."""
        limits = self.values("drift_limit")
        return self.values("drift") / np.where(limits == 0, np.nan, limits)

    @property
    def n_images(self) -> int:
        """Number of images of the run; not all rows may be kept."""
        return int(last_finite(self.values("images"))) if self.rows else 0

    @property
    def alarms(self) -> list[str]:
        """Of each image what was wrong with it, or ""."""
        return [_texts(row.get("alarm")) for row in self.rows]


def _is_fraction(column: str) -> bool:
    return column.startswith("fraction_")


def _texts(value: object) -> str:
    return value if isinstance(value, str) else ""


def last_finite(values: np.ndarray) -> float:
    """Return the last finite value, or NaN."""
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


PATIENCE_S = 20.0
"""How long the end of the program waits for files being written."""


class Watching(QObject):
    """Runs a `Watch` in a thread of its own: not a task, which others would wait for.

    Signals: ``earlier(History)`` of sessions in the same results, once; ``taken(Live)`` after each
    file; ``said(words)``; ``ended(LiveRun or exception)``.
    """

    earlier = Signal(object)
    taken = Signal(object)
    said = Signal(str)
    ended = Signal(object)

    def __init__(self, make: Callable[[Callable[[str], None]], Watch]) -> None:
        super().__init__()
        self._make = make
        self._stop = threading.Event()
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; tables and report are written then."""
        self._stop.set()

    def accept(self) -> None:
        """Accept the present conditions as the reference: see `Watch.accept`."""
        if self._watch is not None:
            self._watch.accept()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def wait(self) -> None:
        """Until it has ended, but not for ever."""
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        outcome: LiveRun | Exception
        try:
            cap_torch_threads()
            watch = self._watch = self._make(self._say)
            self._emit(self.earlier, _history_in(watch.store.folder))
            outcome = watch.run(self._on_update, self._stop.is_set)
        except Exception as error:  # the window reports any error
            outcome = error
        self._emit(self.ended, outcome)

    def _on_update(self, live: LiveUpdate) -> None:
        self._emit(self.taken, live)

    def _say(self, words: str) -> None:
        self._emit(self.said, words)

    @staticmethod
    def _emit(signal: Signal, value: object) -> None:
        with suppress(RuntimeError):  # Qt may have let go of the window meanwhile
            signal.emit(value)


def _history_in(folder: Path) -> LiveHistory:
    from ....pipeline.live.live import LIVE, read_log

    try:
        return LiveHistory.of_log(read_log(folder / LIVE))
    except AtomicityError:  # there is none, or the session puts it aside
        return LiveHistory()


# ---- results of the watch are taken into the project
MAX_WAITING = 12
"""More than so many are not kept for the window: files may come faster than it shows them."""


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be analysed, and why."""

    path: Path
    error: str


class TakingIn(ImageQueue):
    """A queue: files may come faster than the window wants to show them.

    Signals: ``left_out()`` when images are not put into the window, or are later.
    """

    left_out = psygnal.Signal()

    def __init__(self, binding: Binding, follow: Callable[[], bool], owner: QObject) -> None:
        super().__init__(binding, "live", owner)
        self._follow = follow
        self._engine = ("default", "auto")
        self._opening, self._may_open = False, True
        self._folder = Path()
        self._accepted: Path | None = None
        self._taken: set[str] = set()
        self._labels_at_end = False
        # Files of images that are in the results, and not in the window.
        self._left_out: list[Path] = []
        # Those that may be in a project since, also those of earlier sessions.
        self._added: set[Path] = set()
        self.n_copies = 0
        """Files that are not taken in, as they have the content of an image of the project."""
        owner.destroyed.connect(self._waiting.clear)

    def begin(self, folder: Path, accepted: Path | None = None) -> None:
        """Begin a session."""
        self._folder, self._accepted = folder, accepted
        self._added.update(self._left_out)
        self._left_out, self.n_copies = [], 0
        self._may_open, self._labels_at_end = True, False
        self._taken.clear()

    def end(self, by_session: bool) -> None:
        """End a session: as in its results, its images are labelled jointly once all are here."""
        self._labels_at_end = by_session
        self.finish()

    def is_of_another_folder(self, folder: Path) -> bool:
        """Return whether the open project is neither in a folder nor contains images of it."""
        project = self.state.project
        if project is None:
            return False
        folder = folder.resolve()
        paths = (image.path.resolve() for image in project.images(counts=False))
        return project.path.resolve().parent != folder and not any(
            path.is_relative_to(folder) for path in paths
        )

    @property
    def why_not(self) -> str:
        """Why images can't be taken in now; "" if they can."""
        project = self.state.project
        if project is None or project.closed:
            return "no project is open"
        if project.read_only:
            return "the open project is read-only"
        if project.path != self._accepted and self.is_of_another_folder(self._folder):
            return "the open project is that of another folder"
        return "blind mode is on" if self.state.blind else ""

    def add(self, found: Analysis | FailedFile, model: str, device: str) -> None:
        """Take this one in after those that wait.

        Where nothing is open at all, the watched folder is opened as a project, but only once: a
        project that the user closes stays closed.
        """
        self._engine = (model, device)
        waiting = self._waiting_analyses()
        if len(waiting) >= MAX_WAITING:  # whole analyses are large; its results are on disk
            with suppress(ValueError):  # the worker has just taken it
                self._waiting.remove(waiting[0])
                self._leave_out(waiting[:1])
        self._waiting.append(found)
        nothing_open = self.state.project is None and not self.state.images
        if nothing_open and self._may_open:
            task = self.binding.projects.open(self._folder)
            if task is not None:
                self._opening = True
                task.finished.connect(self._opened)
        self._may_open = False
        self.finish()

    def _waiting_analyses(self) -> list[Analysis]:
        # Of a copy: the worker takes items meanwhile.
        return [item for item in tuple(self._waiting) if isinstance(item, Analysis)]

    @property
    def n_left_out(self) -> int:
        """Number of images that are in the results, and not in the window."""
        return len(self._left_out)

    @property
    def n_to_analyse(self) -> int:
        """Number of images that were left out and are in the project now, without results."""
        state, project = self.state, self.state.project
        images = project.images(counts=False) if project is not None and self._added else ()
        return sum(one.path in self._added and state.analysis(one.name) is None for one in images)

    def _leave_out(self, analyses: Sequence[Analysis]) -> None:
        self._left_out += [a.micrograph.path for a in analyses if a.micrograph.path is not None]
        if analyses:
            self.left_out.emit()

    def _add_left_out(self) -> None:
        """Add the images that were left out to the project, to be analysed in *Browse*."""
        project = self.state.project
        if project is None or not self._left_out:
            return
        known = {image.path for image in project.images(counts=False)}
        new = [str(path) for path in self._left_out if path not in known]
        self._added.update(self._left_out)
        self._left_out = []
        if new:
            self.binding.projects.add(new)
        self.left_out.emit()

    def _opened(self) -> None:
        self._opening = False
        self.finish()

    def _on_project(self) -> None:
        """Keep the images that wait: they are for the next project."""
        if self.state.project is not self._project:
            self._project = self.state.project
            self._taken.clear()
        self.finish()  # blind mode may have ended

    def forget(self) -> None:
        self.finish()

    def finish(self) -> None:
        """Process the images that wait, unless they can't be taken in."""
        if self._opening or self.running:
            return
        if self.why_not:
            left_out = self._waiting_analyses()
            self._waiting.clear()
            self._leave_out(left_out)
            return
        self._add_left_out()
        if self._waiting:
            self.run()
        elif self._labels_at_end:
            self._labels_at_end = False
            # Those of a watch that was not ended, as its window was closed, are still untested.
            analyses = self.state.store.analyses.items()
            joint = ((image, a.parameters.get("session", {})) for image, a in analyses)
            untested = (image for image, session in joint if session.get("untested"))
            session_labels_of(self.binding).start(self._taken.union(untested))

    def items(self) -> Iterator[Analysis | FailedFile]:
        while self._waiting and not self.why_not:
            yield self._waiting.popleft()

    def step(
        self, item: Analysis | FailedFile, progress: Progress, stop: Stop
    ) -> tuple[ProjectContents, Analysis | None] | None:
        project = self.state.project
        assert project is not None
        if isinstance(item, FailedFile):
            return take_in_failed(project, item.path, item.error), None
        return take_in_analysed(project, item)

    def take(
        self, _: Analysis | FailedFile, found: tuple[ProjectContents, Analysis | None] | None
    ) -> None:
        if found is None:
            self.n_copies += 1
            self.left_out.emit()
            return
        stored, analysis = found
        image = stored.micrograph.name
        before = self.state.micrograph(image).sha256 if image in self.state.images else None
        self.state.add_contents({image: stored})
        self.binding.projects.surveyed.emit((image,))
        if analysis is None:
            return
        self.binding.manual_editing.set_engine(image, self._engine)
        self._taken.add(image)
        known = self.state.analysis(image)
        if self.binding.accepts(analysis):
            try:
                self.state.clusters.set_analysis(
                    analysis, f"analysed live: {image}", undoable=False
                )
            except AtomicityError as error:
                self.state.status = tasks.failed(str(error))
                return
            if known is not None and "outlines" in known.parameters:
                self.binding.canvas.show_message(f"{image}: {OUTLINES_REPLACED}")
        if is_replaced(before, stored.micrograph.sha256):
            self.binding.current_image.read_again(image)
        if self._follow() and not self._waiting and not self.binding.is_in_use:
            self.state.current = image
            self.binding.label_mode.on = True

    def fail(self, _: Analysis | FailedFile, error: BaseException) -> None:
        tasks.logger.error("%s", error)
        self.state.status = tasks.failed(str(error))
        show_error(str(error))
