"""Images of a live session come into the open project one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from ....core.errors import AtomicityError
from ....models.analysis import Analysis
from ....project import ProjectContents
from ....project.opening import take_in_analysed
from ... import tasks
from ...viewer.binding import Binding

MAX_WAITING = 12
"""More than so many are not kept for the window: files may come faster than it shows them."""


class TakingIn(QObject):
    """A queue: files may come faster than the window wants to show them.

    Parameters
    ----------
    binding : Binding
        Of the viewer.
    follow : callable
        Whether the image that came last is the one to be looked at.

    Notes
    -----
    Signals: ``left_out()`` when images are not put into the window.
    """

    left_out = Signal()

    def __init__(self, binding: Binding, follow: Callable[[], bool], parent: QObject) -> None:
        super().__init__(parent)
        self.binding, self.state = binding, binding.state
        self._follow = follow
        self._waiting: deque[Analysis] = deque()
        self._engine = ("default", "auto")
        self._task: tasks.Task | None = None
        self._opening = False
        self.n_left_out = 0
        """Images that are in the results, and not in the window."""

    @property
    def why_not(self) -> str:
        """Why images can't be taken in now; "" if they can."""
        project = self.state.project
        if project is None:
            return "no project is open"
        if project.read_only:
            return "the open project is read-only"
        return "blind mode is on" if self.state.blind else ""

    def add(self, analysis: Analysis, folder: Path, model: str, device: str) -> None:
        """Take this one in after those that wait.

        Where nothing is open at all, the watched folder is opened as a project.
        """
        self._engine = (model, device)
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()  # whole analyses are large; its results are on disk
            self._leave_out(1)
        self._waiting.append(analysis)
        nothing_open = self.state.project is None and not self.state.images
        if nothing_open and not self._opening:
            task = self.binding.projects.open(folder)
            if task is not None:
                self._opening = True
                task.finished.connect(self._opened)
        self._next()

    def _leave_out(self, n: int) -> None:
        self.n_left_out += n
        if n:
            self.left_out.emit()

    def _opened(self) -> None:
        self._opening = False
        self._next()

    def _next(self) -> None:
        if self._opening or (self._task is not None and self._task.running):
            return
        if not self._waiting or self.why_not:
            self._leave_out(len(self._waiting))
            self._waiting.clear()
            return
        project = self.state.project
        self._task = tasks.start(
            self.state,
            take_in_analysed,
            project,
            self._waiting.popleft(),
            message="",
            on_result=self._take,
            on_error=lambda error: tasks.logger.error("%s", error),
            owner=self,
            quiet_errors=True,
        )
        self._task.finished.connect(self._ended)

    def _ended(self) -> None:
        self._task = None
        self._next()

    def _take(self, found: tuple[ProjectContents, Analysis]) -> None:
        stored, analysis = found
        image = analysis.micrograph.name
        self.state.add_contents({image: stored})
        self.binding.projects.surveyed.emit((image,))
        self.binding.set_engine(image, *self._engine)
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
