"""Atoms of all images: one after the other in a worker, the one that is looked at first."""

from __future__ import annotations

from functools import partial

from napari.utils.notifications import show_info
from psygnal import Signal

from ... import __version__
from ...atoms.analysis import AtomAnalysis
from ...errors import AtomicityError
from ..parts import tasks
from ..viewer.binding import Binding
from .jobs import find

_MOST_NAMED = 4


class AtomsOfAll:
    """Works through images of a session, one at a time; all of it is one step of undo.

    Signals: ``changed()`` when it starts, goes on or ends.
    """

    changed = Signal()

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.session = binding.session
        self._waiting: list[str] = []
        self._settings: tuple[str, str, float | None] = ("default", "auto", None)
        self._group: object = None
        self.n_done, self.n_in_all = 0, 0
        self.failed: dict[str, str] = {}
        """Image → why its atoms could not be found."""
        self.task: tasks.Task | None = None
        self.session.project_changed.connect(self._on_project)

    def _on_project(self) -> None:
        """Other images: what waits is not of them."""
        self._waiting = []
        self.task = None

    @property
    def running(self) -> bool:
        return self.task is not None and self.task.running

    def start(self, images: list[str], model: str, device: str, precision: float | None) -> None:
        """Find the atoms of these images; the one that is looked at comes first."""
        current = self.session.current
        self._waiting = sorted(images, key=lambda name: name != current)
        self._settings = (model, device, precision)
        self._group = object()
        self.n_done, self.n_in_all, self.failed = 0, len(images), {}
        self._next()

    def _next(self) -> None:
        while self._waiting and self._waiting[0] not in self.session.images:
            self._waiting.pop(0)  # it went away meanwhile
        if not self._waiting:
            self._finish()
            return
        image = self._waiting.pop(0)
        task = tasks.start(
            self.session,
            find,
            self.session.micrograph(image),
            *self._settings,
            message=f"Finding atoms in {self.n_done + 1} of {self.n_in_all}: {image}",
            on_result=self._found,
            on_error=partial(self._fail, image),
            key="atoms of all",
            quiet_errors=True,
        )
        self.task = task
        task.finished.connect(partial(self._ended, task))
        self.changed.emit()

    def _found(self, analysis: AtomAnalysis) -> None:
        self.n_done += 1
        if self.binding.accepts(analysis):
            words = f"find atoms in {self.n_in_all} images"
            self.session.atoms.set_analysis(analysis, words, group=self._group)

    def _fail(self, image: str, error: BaseException) -> None:
        self.n_done += 1
        self.failed[image] = tasks.in_words(error)

    def _ended(self, task: tasks.Task) -> None:
        if task.cancelled:
            self._waiting = []
        elif task is self.task:
            self._next()
            return
        self.changed.emit()

    def _finish(self) -> None:
        self.task = None
        self._note_run()
        self.changed.emit()
        if self.failed:
            n = len(self.failed)
            named = [f"{image}: {why}" for image, why in list(self.failed.items())[:_MOST_NAMED]]
            more = f" … and {n - _MOST_NAMED} more" if n > _MOST_NAMED else ""
            show_info(
                f"Atoms were found in {self.n_in_all - n} of {self.n_in_all} images. "
                + " ".join(named)
                + more
            )

    def _note_run(self) -> None:
        """What was done with which settings is in the project as well."""
        project = self.session.project
        if project is None or project.read_only:
            return
        model, device, precision = self._settings
        record = {
            "what": "find atoms in all images",
            "version": __version__,
            "images": self.n_in_all,
            "failed": len(self.failed),
            "model": model,
            "device": device,
            "precision": precision,
        }
        try:
            project.add_run(record)
        except AtomicityError as error:  # the results themselves say so when they can't be kept
            tasks.logger.error("%s", error)
