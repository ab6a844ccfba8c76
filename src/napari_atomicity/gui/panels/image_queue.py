"""Process images in a worker by `for_each_image`; the window takes each result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QObject

from ..._version import __version__
from ...core.errors import AtomicityError, Cancelled
from ...core.progress import Executor, Progress, Stop, for_each_image, report, serial
from .. import tasks
from ..controls.questions import show_error
from ..viewer.binding import Binding


class ImageQueue:
    """Images that wait for a worker; a subclass defines the step and takes the results.

    Signals: ``changed()`` when it starts, goes on or ends.
    """

    changed = Signal()
    verb = ""
    """Beginning of the message; if it is empty, the task is not shown."""

    def __init__(self, binding: Binding, key: str, owner: QObject | None = None) -> None:
        self.binding = binding
        self.state = binding.state
        self._key, self._owner = key, owner
        self._waiting: deque[Any] = deque()
        self.group: object = None
        """The edits of all these images are one step of undo."""
        self.n_in_all = 0
        self.failed: dict[str, str] = {}
        """Image → reason why it failed."""
        self.task: tasks.Task | None = None
        self._project = self.state.project
        self.state.project_changed.connect(self._on_project)
        self.state.pixel_sizes.changed.connect(self._on_pixel_size)

    # ---- what a subclass defines
    def step(self, item: Any, progress: Progress, stop: Stop) -> Any:
        """Process an image, in the worker."""
        raise NotImplementedError

    def take(self, item: Any, result: Any) -> None:
        """Take the result of an image, in the thread of the window."""
        raise NotImplementedError

    def fail(self, item: Any, error: BaseException) -> None:
        """Take the error of an image, in the thread of the window."""
        self.failed[item] = tasks.format_error(error)

    def finish(self) -> None:
        """Finish after the last image."""

    def stopped(self) -> None:
        """Finish after a person has cancelled."""

    def executor(self, progress: Progress) -> Executor:
        """Return where the step is applied."""
        return serial

    # ---- running
    def _on_project(self) -> None:
        self.forget()
        self.task = None
        if self.state.project is not self._project:  # it is the same if blind mode has changed
            self._project, self.failed = self.state.project, {}

    def _on_pixel_size(self, image: str) -> None:
        """Let an image wait again that failed, perhaps for want of a pixel size."""
        if self.failed.pop(image, None) is not None:
            self.changed.emit()

    def forget(self) -> None:
        """Empty the queue: the task was cancelled, or there is another project."""
        self._waiting.clear()

    @property
    def running(self) -> bool:
        return self.task is not None and self.task.running

    def begin(self, images: Iterable[str]) -> None:
        """Process images, the current image first."""
        current = self.state.current
        self._waiting = deque(sorted(images, key=lambda name: name != current))
        self.group = object()
        self.n_in_all, self.failed = len(self._waiting), {}
        self.run()

    def run(self) -> None:
        """Process the waiting images in a worker."""
        task = self.task = tasks.start(
            self.state,
            self._work,
            message=f"{self.verb} {self.n_in_all} images" if self.verb else "",
            on_result=lambda _: None,
            on_part=self._on_part,
            on_error=self.on_error,
            key=self._key,
            owner=self._owner,
            quiet_errors=True,
        )
        task.finished.connect(partial(self._on_finished, task))
        self.changed.emit()

    def _work(self, progress: Progress, stop: Stop, emit: Callable[[Any], None]) -> None:
        """Apply the step to all waiting images, in the worker; an error concerns one image."""
        n_done = 0

        def attempt(item: Any) -> tuple[Any, Any]:
            if self.verb:
                report(progress, 0, 0, f"{self.verb} {n_done + 1} of {self.n_in_all}: {item}")
            return item, self.step(item, progress, stop)

        def failed(item: Any, error: Exception) -> tuple[Any, Any]:
            if not isinstance(error, AtomicityError):  # whose message says all
                tasks.logger.error("an image failed", exc_info=error)
            return item, error

        def sink(result: tuple[Any, Any]) -> None:
            nonlocal n_done
            n_done += 1
            emit(result)

        executor = self.executor(progress)
        if for_each_image(self.items(), attempt, executor, [sink], stop, failed):
            raise Cancelled

    def items(self) -> Iterator[Any]:
        """Yield the waiting images that still exist, in the worker."""
        while self._waiting:
            image = self._waiting.popleft()
            if image in self.state.images:
                yield image

    def _on_part(self, part: tuple[Any, Any]) -> None:
        item, result = part
        try:
            if isinstance(result, Exception):
                self.fail(item, result)
            else:
                self.take(item, result)
        except AtomicityError as error:  # the window refuses the result
            self.fail(item, error)
        self.changed.emit()

    def on_error(self, error: BaseException) -> None:
        """Show an error that concerns no single image, and empty the queue."""
        self.forget()
        show_error(tasks.format_error(error))

    def _on_finished(self, task: tasks.Task) -> None:
        is_present, is_cancelled = task is self.task, task.cancelled
        if is_cancelled:
            self.forget()
        if is_present:
            self.task = None
            (self.stopped if is_cancelled else self.finish)()
        self.changed.emit()

    def record(self, what: str, settings: Mapping[str, Any]) -> None:
        """Record a run with its settings in the project."""
        project = self.state.project
        if project is None or project.read_only:
            return
        failed = len(self.failed)
        run = {"what": what, "version": __version__, "images": self.n_in_all, "failed": failed}
        try:
            project.add_run({**run, **settings})
        except AtomicityError as error:  # saving the results shows the error too
            tasks.logger.error("%s", error)
