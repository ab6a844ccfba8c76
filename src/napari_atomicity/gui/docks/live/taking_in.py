"""Images of a live session come into the project of the watched folder, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from psygnal import Signal
from qtpy.QtCore import QObject

from ....core.errors import AtomicityError
from ....core.progress import Progress, Stop
from ....models.analysis import Analysis
from ....project import ProjectContents
from ....project.opening import take_in_analysed, take_in_failed
from ... import tasks
from ...panels.image_queue import ImageQueue
from ...viewer.binding import Binding

MAX_WAITING = 12
"""More than so many are not kept for the window: files may come faster than it shows them."""


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be analysed, and why."""

    path: Path
    error: str


class TakingIn(ImageQueue):
    """A queue: files may come faster than the window wants to show them.

    Signals: ``left_out()`` when images are not put into the window.
    """

    left_out = Signal()

    def __init__(self, binding: Binding, follow: Callable[[], bool], owner: QObject) -> None:
        super().__init__(binding, "live", owner)
        self._follow = follow
        self._engine = ("default", "auto")
        self._opening = False
        self._folder = Path()
        self._accepted: Path | None = None
        self.n_left_out = 0
        """Images that are in the results, and not in the window."""
        owner.destroyed.connect(self._waiting.clear)

    def begin(self, folder: Path, accepted: Path | None = None) -> None:
        """Begin a session."""
        self._folder, self._accepted, self.n_left_out = folder, accepted, 0

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
        if project is None:
            return "no project is open"
        if project.read_only:
            return "the open project is read-only"
        if project.path != self._accepted and self.is_of_another_folder(self._folder):
            return "the open project is that of another folder"
        return "blind mode is on" if self.state.blind else ""

    def add(self, found: Analysis | FailedFile, model: str, device: str) -> None:
        """Take this one in after those that wait.

        Where nothing is open at all, the watched folder is opened as a project.
        """
        self._engine = (model, device)
        waiting = self._waiting_analyses()
        if len(waiting) >= MAX_WAITING:  # whole analyses are large; its results are on disk
            with suppress(ValueError):  # the worker has just taken it
                self._waiting.remove(waiting[0])
                self._leave_out(1)
        self._waiting.append(found)
        nothing_open = self.state.project is None and not self.state.images
        if nothing_open and not self._opening:
            task = self.binding.projects.open(self._folder)
            if task is not None:
                self._opening = True
                task.finished.connect(self._opened)
        self.finish()

    def _waiting_analyses(self) -> list[Analysis]:
        # Of a copy: the worker takes items meanwhile.
        return [item for item in tuple(self._waiting) if isinstance(item, Analysis)]

    def _leave_out(self, n: int) -> None:
        self.n_left_out += n
        if n:
            self.left_out.emit()

    def _opened(self) -> None:
        self._opening = False
        self.finish()

    def _on_project(self) -> None:
        """Keep the images that wait: they are for the next project."""

    def forget(self) -> None:
        self.finish()

    def finish(self) -> None:
        """Process the images that wait, unless they can't be taken in."""
        if self._opening or self.running or not self._waiting:
            return
        if self.why_not:
            n = len(self._waiting_analyses())
            self._waiting.clear()
            self._leave_out(n)
        else:
            self.run()

    def items(self) -> Iterator[Analysis | FailedFile]:
        while self._waiting and not self.why_not:
            yield self._waiting.popleft()

    def step(
        self, item: Analysis | FailedFile, progress: Progress, stop: Stop
    ) -> tuple[ProjectContents, Analysis | None]:
        project = self.state.project
        assert project is not None
        if isinstance(item, FailedFile):
            return take_in_failed(project, item.path, item.error), None
        return take_in_analysed(project, item)

    def take(
        self, _: Analysis | FailedFile, found: tuple[ProjectContents, Analysis | None]
    ) -> None:
        stored, analysis = found
        image = stored.micrograph.name
        self.state.add_contents({image: stored})
        self.binding.projects.surveyed.emit((image,))
        if analysis is None:
            return
        self.binding.manual_editing.set_engine(image, self._engine)
        if self.binding.accepts(analysis):
            try:
                self.state.clusters.set_analysis(
                    analysis, f"analysed live: {image}", undoable=False
                )
            except AtomicityError as error:
                self.state.status = tasks.failed(str(error))
                return
        if self._follow() and not self._waiting:
            self.state.current = image
            self.binding.label_mode.on = True

    def fail(self, _: Analysis | FailedFile, error: BaseException) -> None:
        tasks.logger.error("%s", error)
