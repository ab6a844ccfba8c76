"""Analyse all: image after image in a worker, the one that is looked at first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from napari.utils.notifications import show_info
from psygnal import Signal

from ... import __version__
from ...analysis import Analysis
from ...detection import DetectionSettings
from ...errors import AtomicityError
from ..docks.analyse import analyse_without_map, place_in_map
from ..parts import tasks
from ..viewer.binding import Binding


class AnalyseAll:
    """Works through images of a session, one at a time.

    Signals: ``changed()`` when it starts, goes on or ends.
    """

    changed = Signal()

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.session = binding.session
        self._waiting: list[str] = []
        self._to_place: list[str] = []
        self._settings: tuple[DetectionSettings, str, str] | None = None
        self._group: object = None
        self.n_done, self.n_in_all, self.n_failed = 0, 0, 0
        self.task: tasks.Task | None = None
        self.session.project_changed.connect(self._on_project)

    def _on_project(self) -> None:
        """Other images: what waits is not of them."""
        self._waiting, self._to_place = [], []
        self.task = None

    @property
    def running(self) -> bool:
        return self.task is not None and self.task.running

    def start(
        self, images: list[str], settings: DetectionSettings, model: str, device: str
    ) -> None:
        """Analyse these images; the one that is looked at comes first."""
        current = self.session.current
        self._waiting = sorted(images, key=lambda name: name != current)
        self._to_place = []
        self._settings = (settings, model, device)
        self._group = object()
        self.n_done, self.n_in_all, self.n_failed = 0, len(images), 0
        self._next()

    def _next(self) -> None:
        while self._waiting and self._waiting[0] not in self.session.images:
            self._waiting.pop(0)  # it went away meanwhile
        if not self._waiting:
            self._place_next()
            return
        assert self._settings is not None
        image = self._waiting.pop(0)
        settings, model, device = self._settings
        self.binding.set_engine(image, model, device)
        self._run(
            f"Analysing {self.n_done + 1} of {self.n_in_all}: {image}",
            analyse_without_map,
            (self.session.micrograph(image), settings, model, device),
            partial(self._analysed, image),
            partial(self._failed, image),
            self._next,
        )

    def _run(
        self,
        message: str,
        function: Callable,
        args: tuple,
        on_result: Callable[[Analysis], None],
        on_error: Callable[[BaseException], None],
        then: Callable[[], None],
    ) -> None:
        task = tasks.start(
            self.session,
            function,
            *args,
            message=message,
            on_result=on_result,
            on_error=on_error,
            key="analyse all",
            quiet_errors=True,
        )
        self.task = task
        task.finished.connect(partial(self._ended, task, then))
        self.changed.emit()

    def _ended(self, task: tasks.Task, then: Callable[[], None]) -> None:
        if task.cancelled:
            self._waiting, self._to_place = [], []
            self.changed.emit()
        elif task is self.task:
            then()
        else:
            self.changed.emit()

    def _analysed(self, image: str, analysis: Analysis) -> None:
        self.n_done += 1
        if not self.binding.accepts(analysis):
            return
        self.session.set_analysis(
            analysis, f"analyse {self.n_in_all} images again", undoable=False, group=self._group
        )
        self.binding.label_mode.on = True
        self._to_place.append(image)

    def _failed(self, image: str, error: BaseException) -> None:
        self.n_done += 1
        self.n_failed += 1
        project = self.session.project
        if project is not None and project.has(image) and not project.read_only:
            try:
                project.fail(image, tasks.in_words(error))
            except AtomicityError as also:
                tasks.logger.error("%s", also)

    # ---- the map: nobody should wait for it to see atomicities
    def _place_next(self) -> None:
        if not self._to_place:
            self._finish()
            return
        assert self._settings is not None
        image = self._to_place.pop(0)
        analysis = self.session.analysis(image)
        if analysis is None or not len(analysis.table):
            self._place_next()
            return
        self._run(
            f"Placing the clusters of {image} in the map",
            place_in_map,
            (analysis, self._settings[1]),
            self.session.place,
            lambda _: None,
            self._place_next,
        )

    def _note_run(self) -> None:
        """What was done with which settings is in the project as well."""
        project = self.session.project
        if project is None or project.read_only or self._settings is None:
            return
        settings, model, device = self._settings
        record = {
            "what": "analyse all",
            "version": __version__,
            "images": self.n_in_all,
            "failed": self.n_failed,
            "detection": asdict(settings),
            "model": model,
            "device": device,
        }
        try:
            project.add_run(record)
        except AtomicityError as error:  # the results themselves say so when they can't be kept
            tasks.logger.error("%s", error)

    def _finish(self) -> None:
        self.task = None
        self._note_run()
        self.changed.emit()
        if self.n_failed:
            n = self.n_failed
            show_info(
                f"{self.n_in_all - n} of {self.n_in_all} images analysed; of the other"
                f"{'s' * (n != 1)} Browse says why not."
            )
