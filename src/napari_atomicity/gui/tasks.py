"""Run functions in a worker, with progress, cancellation and readable errors.

A function may have the parameters ``progress``, ``stop`` and ``emit`` and does not import Qt. It
runs in napari's thread pool, so that napari asks before it closes a busy window. The result is
delivered in the thread of the window, unless the task was cancelled.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from napari.qt.threading import FunctionWorker, create_worker
from qtpy.QtCore import QObject, Signal

from ..core.errors import AtomicityError, Cancelled
from ..state.window_state import Status, TaskState, WindowState
from .controls.questions import format_advice, show_error

logger = logging.getLogger(__name__)

# More frequent messages cannot be read and would load the event loop.
_PROGRESS_INTERVAL_S = 0.05


@dataclass(frozen=True)
class TaskOutcome:
    """The result of a task: its value or its error."""

    value: Any = None
    error: BaseException | None = None
    details: str = ""


@dataclass(eq=False)
class _Call:
    """The function that runs in a worker. It never raises: napari would show a bug report."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    message: str
    progress: Callable[[int, int, str], None]
    emit: Callable[[Any], None] | None = None
    cancelled: bool = False
    outcome: TaskOutcome = field(default_factory=lambda: TaskOutcome(error=Cancelled()))
    _last_report_s: float = 0.0

    def __repr__(self) -> str:
        return self.message or getattr(self.function, "__name__", "task")

    def stop(self) -> bool:
        return self.cancelled

    def report(self, done: int, total: int, message: str) -> None:
        now = time.monotonic()
        finished = total > 0 and done >= total
        if not self.cancelled and (finished or now - self._last_report_s > _PROGRESS_INTERVAL_S):
            self._last_report_s = now
            self.progress(done, total, message)

    def _callbacks(self) -> dict[str, Callable[..., Any]]:
        """Return ``progress``, ``stop`` and ``emit``, if the function has these parameters."""
        try:
            signature = inspect.signature(self.function)
        except ValueError:  # a function in C
            return {}
        given = {*signature.bind_partial(*self.args).arguments, *self.kwargs}
        any_keyword = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        offered = {"progress": self.report, "stop": self.stop, "emit": self.emit}
        return {
            name: callback
            for name, callback in offered.items()
            if callback is not None
            and name not in given
            and (name in signature.parameters or any_keyword)
        }

    def release(self) -> TaskOutcome:
        """Return the outcome, and keep neither it nor the arguments.

        napari keeps each worker, and with it this call, until it is closed.
        """
        outcome, self.outcome = self.outcome, TaskOutcome()
        self.args, self.kwargs = (), {}
        return outcome

    def __call__(self) -> None:
        if self.cancelled:
            return
        if "torch" in sys.modules:
            cap_torch_threads()
        try:
            value = self.function(*self.args, **self._callbacks(), **self.kwargs)
            self.outcome = TaskOutcome(value)
        except (AtomicityError, Cancelled) as error:  # the message says all
            self.outcome = TaskOutcome(error=error)
        except Exception as error:
            self.outcome = TaskOutcome(error=error, details=traceback.format_exc())


class _Worker(FunctionWorker):
    """A worker whose warnings go to the log."""

    def quit(self) -> None:
        self._func.cancelled = True
        super().quit()

    def _relay_warning(self, show_warn_args: tuple[Any, ...]) -> None:
        logger.info("warning in a task: %s", show_warn_args[0])


class Task(QObject):
    """One run of a function in a worker; the task belongs to the thread of the window.

    Signals: ``progressed(done, total, message)``; ``failed(error)``; ``finished()`` when the task
    has ended, in any way.
    """

    progressed = Signal(int, int, str)
    failed = Signal(object)
    finished = Signal()
    _reported = Signal(int, int, str)
    _emitted = Signal(object)

    def __init__(
        self,
        state: WindowState,
        call: _Call,
        on_result: Callable[[Any], object],
        on_error: Callable[[BaseException], object] | None,
        about: str | None = None,
        quiet_errors: bool = False,
        on_part: Callable[[Any], object] | None = None,
        key: str = "",
        of_images: bool = True,
    ) -> None:
        super().__init__()
        self.about, self.key = about, key
        self._quiet_errors = quiet_errors
        # Results for the images of another project are dropped.
        self._epoch = state.epoch if of_images else None
        self._state = state
        self._call = call
        self._on_result = on_result
        self._on_error = on_error
        self._on_part = on_part
        self._taken = threading.Event()
        self._silenced = not call.message
        self._said = Status(TaskState.RUNNING, call.message)
        self._ended = False
        call.progress = self._reported.emit
        self._reported.connect(self._show_progress)
        if on_part is not None:
            call.emit = self._emit
            self._emitted.connect(self._take_part)
        self._worker = create_worker(call, _worker_class=_Worker, _start_thread=False)
        self._worker.finished.connect(self._end)

    @property
    def message(self) -> str:
        return self._call.message

    @property
    def running(self) -> bool:
        """Whether the task has not ended."""
        return not self._ended

    @property
    def cancelled(self) -> bool:
        return self._call.cancelled

    def cancel(self) -> None:
        """Ask the function to stop and drop its result."""
        if self._ended or self._call.cancelled:
            return
        self._call.cancelled = True
        self._say(TaskState.RUNNING, "Stopping…")

    def _start(self) -> None:
        self._say(TaskState.RUNNING, self.message)
        self._worker.start()

    def _silence(self) -> None:
        """Cancel without a message: a newer task shows its own."""
        self._silenced = True
        self._call.cancelled = True

    def _abandon(self) -> None:
        """Cancel because the dock that started the task was destroyed."""
        self._call.cancelled = True

    def _say(self, state: TaskState, message: str, done: int = 0, total: int = 0) -> None:
        if self._silenced:
            return
        self._said = Status(state, message, done, total)
        # The end of a task does not look as if nothing ran where another one is still running.
        others: list[Status] = []
        if state in (TaskState.DONE, TaskState.STOPPED):
            others = [t._said for t in running(self._state) if t.message and not t._silenced]
        self._state.status = others[-1] if others else self._said

    def _show_progress(self, done: int, total: int, message: str) -> None:
        if not self._ended and not self._call.cancelled:
            self._say(TaskState.RUNNING, message or self.message, done, total)
            self.progressed.emit(done, total, message)

    def _emit(self, part: Any) -> None:
        """Pass a value from the worker to the window, and wait until the window has taken it."""
        self._taken.clear()
        self._emitted.emit(part)
        while not (self._taken.wait(_PROGRESS_INTERVAL_S) or self._call.cancelled):
            pass

    @property
    def _is_of_others(self) -> bool:
        """Whether the window shows other images than when the task began, or hides some now."""
        return self._epoch not in (None, self._state.epoch)

    def _take_part(self, part: Any) -> None:
        try:
            if self._on_part and not self._is_of_others and not self._call.cancelled:
                self._on_part(part)
        finally:
            self._taken.set()

    def _end(self) -> None:
        self._ended = True
        outcome = self._call.release()
        _forget(self._state, self)
        try:
            if self._is_of_others:
                self._drop(outcome)
            elif self._call.cancelled or isinstance(outcome.error, Cancelled):
                self._drop(outcome)
                self._say(TaskState.STOPPED, "Stopped")
            elif outcome.error is not None:
                self._fail(outcome)
            else:
                self._succeed(outcome.value)
        finally:
            self.finished.emit()

    def _drop(self, outcome: TaskOutcome) -> None:
        """Drop the value and close what it holds open."""
        if self._state.status == self._said or self._call.cancelled:
            self._say(TaskState.STOPPED, "")
        close = getattr(outcome.value, "close", None)
        if callable(close):
            close()

    def _succeed(self, value: Any) -> None:
        try:
            self._on_result(value)
        except AtomicityError as error:
            self._fail(TaskOutcome(error=error))
        else:
            self._say(TaskState.DONE, "Done")

    def _fail(self, outcome: TaskOutcome) -> None:
        words = format_error(outcome.error)
        self._say(TaskState.FAILED, words)
        if outcome.details:
            logger.error("task %r failed:\n%s", self._call, outcome.details)
        if self._on_error is not None:
            self._on_error(outcome.error)
        self.failed.emit(outcome.error)
        if not self._quiet_errors:
            show_error(words)


_running: WeakKeyDictionary[WindowState, dict[str, Task]] = WeakKeyDictionary()
# Qt does not keep tasks alive; a cancelled task must still end.
_alive: set[Task] = set()


def format_error(error: BaseException | None) -> str:
    """Format an error for the user."""
    if isinstance(error, AtomicityError):
        return format_advice(error)
    return (
        f"{type(error).__name__}: {error}. This is a bug. Please report it with the messages of "
        "the log."
    )


def failed(words: str) -> Status:
    """Return the status of an error outside a task."""
    return Status(TaskState.FAILED, words)


def start(
    state: WindowState,  # its status shows the task, unless ``message`` is empty
    function: Callable[..., Any],  # gets arrays and tables, never layers
    *args: Any,
    message: str = "",  # message while the task runs; without a message the task is not shown
    on_result: Callable[[Any], object],  # called in the thread of the window with the return value
    on_error: Callable[[BaseException], object] | None = None,
    key: str,  # a newer task with the same key cancels the older one
    owner: QObject | None = None,
    about: str | None = None,  # name of an image; when the image is removed, the task is cancelled
    quiet_errors: bool = False,
    on_part: Callable[[Any], object] | None = None,
    of_images: bool = True,  # whether the result is of the images that the window shows now
    **kwargs: Any,
) -> Task:
    """Run ``function(*args, **kwargs)`` in a worker.

    If the function has parameters ``progress``, ``stop`` and ``emit``, it gets callbacks for them.
    """
    tasks = _running.setdefault(state, {})
    if key in tasks:
        tasks[key]._silence()
    call = _Call(function, args, kwargs, message, progress=lambda *_: None)
    task = tasks[key] = Task(
        state, call, on_result, on_error, about, quiet_errors, on_part, key, of_images
    )  # fmt: skip
    _alive.add(task)
    if owner is not None:
        owner.destroyed.connect(task._abandon)
    task._start()
    return task


def running(state: WindowState, key: str | None = None) -> list[Task]:
    """Return the tasks that have not ended, those of one key or all."""
    tasks = _running.get(state, {})
    return [t for k, t in tasks.items() if key in (None, k)]


_KEYS_OF_OPENING = ("open project", "survey", "open image")  # they start again with a project


def work(state: WindowState) -> list[Task]:
    """Return the running tasks of which a person is asked before they are stopped."""
    asked = (task for task in running(state) if task.message and not task.cancelled)
    return [task for task in asked if task.key not in _KEYS_OF_OPENING]


def cancel(state: WindowState) -> None:
    """Cancel all tasks that have a message."""
    for task in running(state):
        if task.message:
            task.cancel()


def cancel_all(state: WindowState) -> None:
    """Cancel all tasks."""
    for task in running(state):
        task.cancel()


def cancel_about(state: WindowState, image: str) -> None:
    """Cancel the tasks of an image."""
    for task in running(state):
        if task.about == image:
            task.cancel()


def _forget(state: WindowState, task: Task) -> None:
    _alive.discard(task)
    tasks = _running.get(state, {})
    for key in [k for k, t in tasks.items() if t is task]:
        del tasks[key]


def cap_torch_threads() -> None:
    """Leave a core to the event loop; call this in a worker that uses torch."""
    import torch

    wanted = max(1, (os.cpu_count() or 2) - 1)
    if torch.get_num_threads() > wanted:
        torch.set_num_threads(wanted)
