"""Process images one after the other in a worker, the current image first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from psygnal import Signal

from ..._version import __version__
from ...core.errors import AtomicityError
from .. import tasks
from ..viewer.binding import Binding


class ImageQueue:
    """Process images one after the other; a subclass defines the steps.

    Signals: ``changed()`` when it starts, goes on or ends.
    """

    changed = Signal()

    def __init__(self, binding: Binding, key: str) -> None:
        self.binding = binding
        self.state = binding.state
        self._key = key
        self._waiting: list[str] = []
        self.group: object = None
        """The edits of all these images are one step of undo."""
        self.n_done, self.n_in_all = 0, 0
        self.task: tasks.Task | None = None
        self.state.project_changed.connect(self._on_project)

    def _on_project(self) -> None:
        self.forget()
        self.task = None

    @property
    def running(self) -> bool:
        return self.task is not None and self.task.running

    def begin(self, images: list[str]) -> None:
        """Add images to the queue, the current image first."""
        current = self.state.current
        self._waiting = sorted(images, key=lambda name: name != current)
        self.group = object()
        self.n_done, self.n_in_all = 0, len(images)

    def take(self) -> str | None:
        """Return the next image that still exists; None after the last."""
        while self._waiting:
            image = self._waiting.pop(0)
            if image in self.state.images:
                return image
        return None

    def forget(self) -> None:
        """Empty the queue."""
        self._waiting = []

    def run(
        self,
        message: str,
        function: Callable,
        args: tuple,
        on_result: Callable[[Any], None],
        on_error: Callable[[BaseException], None],
        then: Callable[[], None],
    ) -> None:
        """Run a function in a worker and continue unless it is cancelled.

        Parameters
        ----------
        message : str
            Message while it runs.
        function : callable
            Function to run.
        args : tuple
            Its arguments.
        on_result : callable
            Called with the result.
        on_error : callable
            Called with the exception.
        then : callable
            Called after the result or the error.
        """
        task = tasks.start(
            self.state,
            function,
            *args,
            message=message,
            on_result=on_result,
            on_error=on_error,
            key=self._key,
            quiet_errors=True,
        )
        self.task = task
        task.finished.connect(partial(self._ended, task, then))
        self.changed.emit()

    def _ended(self, task: tasks.Task, then: Callable[[], None]) -> None:
        if task.cancelled:
            self.forget()
        elif task is self.task:
            then()
            return
        self.changed.emit()

    def end(self, what: str, n_failed: int, settings: Mapping[str, Any]) -> None:
        """Finish and record the settings in the project.

        Parameters
        ----------
        what : str
            Kind of the run.
        n_failed : int
            Number of images that failed.
        settings : mapping
            Settings of the run.
        """
        self.task = None
        self._note(
            {
                "what": what,
                "version": __version__,
                "images": self.n_in_all,
                "failed": n_failed,
                **settings,
            }
        )
        self.changed.emit()

    def _note(self, record: Mapping[str, Any]) -> None:
        project = self.state.project
        if project is None or project.read_only:
            return
        try:
            project.add_run(record)
        except AtomicityError as error:  # saving the results shows the error too
            tasks.logger.error("%s", error)
