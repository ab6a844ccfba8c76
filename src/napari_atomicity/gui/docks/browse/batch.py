"""Analyse all images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ....core.errors import AtomicityError
from ....core.micrograph import Micrograph
from ....core.progress import Executor, Progress, Stop, report, serial
from ....core.text import pluralise
from ....io.outline_files import read_outlines
from ....io.provenance import Outcome
from ....io.readers.lazy_micrograph import LazyMicrograph
from ....models.analysis import Analysis
from ....pipeline.run_request import RunRequest
from ....reporting.image_warnings import outline_warnings
from ... import tasks
from ...controls.questions import show_info
from ...panels.image_queue import ImageQueue
from ...panels.session_labels import (
    ANALYSE_ALL,
    KEPT,
    SessionLabels,
    labels_together,
    with_manual_edits,
)
from ...panels.steps import analyse_image
from ...viewer.binding import Binding


class AnalyseAll(ImageQueue):
    """Analyses images in this process or remotely, then labels their sessions jointly."""

    verb = "Analysing"

    def __init__(self, binding: Binding, session_labels: SessionLabels) -> None:
        super().__init__(binding, ANALYSE_ALL)
        self._session_labels = session_labels
        self._request: RunRequest
        self._images: list[str] = []
        self._place: int | str | None = None
        self._outlines: Mapping[str, Path] = {}  # image → file of outlines
        # New results of images that have one: shown together, so that labels of a session never
        # come from two runs.
        self._held: dict[str, Analysis] = {}
        self._measured: list[Mapping[str, Any]] = []  # parameters of images with given outlines
        self._sizes: dict[str, float | None] = {}  # pixel size in nm with which an image failed
        self._first: list[str] = []  # images whose results are their first ones

    def start(
        self,
        images: list[str],
        request: RunRequest,
        place: int | str | None = None,
        outlines: Mapping[str, Path] | None = None,
    ) -> None:
        """Analyse these images, or measure the outlines in these files; the current one first."""
        self._request, self._place, self._images = request, place, images
        self._outlines, self._measured = outlines or {}, []
        self._first = []
        self.begin(images)

    def executor(self, progress: Progress) -> Executor:
        if self._place is None:
            return super().executor(progress)
        return partial(
            analyse_remotely,
            micrograph_of=self.state.micrograph,
            edit=self.state.clusters.with_edits,
            request=self._request,
            place=self._place,
            progress=progress,
        )

    def step(self, image: str, progress: Progress, stop: Stop) -> Analysis:
        file = self._outlines.get(image)
        outlines = None if file is None else partial(read_outlines, file)
        micrograph, edit = self.state.micrograph(image), self.state.clusters.with_edits
        # Its file may not have been readable when the project was opened.
        if isinstance(micrograph, LazyMicrograph):
            micrograph = micrograph.with_file_metadata()
        return analyse_image(micrograph, self._request, progress, stop, outlines, edit=edit)

    def take(self, image: str, analysis: Analysis) -> None:
        if image not in self.state.images:
            return
        self.binding.manual_editing.set_engine(image, (self._request.model, self._request.device))
        self._sizes.pop(image, None)
        is_new, project = self.state.micrograph(image).sha256 is None, self.state.project
        if (self._place is not None or is_new) and isinstance(analysis.micrograph, LazyMicrograph):
            self.state.follow_file(image, analysis.micrograph)
            if is_new and project is not None:
                project.image_files.update_metadata(analysis.micrograph, keep_pixel_size=True)
        if not self.binding.accepts(analysis):
            return
        if self._outlines:
            self._measured.append(analysis.parameters)
        if self.state.analysis(image) is not None:
            self._held[image] = analysis
            return
        # The first result of Analyse all is no step of undo.
        self.state.clusters.set_analysis(
            analysis, f"take the outlines of {image}", undoable=bool(self._outlines)
        )
        self._first.append(image)
        self.binding.label_mode.on = True

    def _on_project(self) -> None:
        if self.state.project is not self._project:
            self._sizes = {}
        super()._on_project()

    def forget(self) -> None:
        super().forget()
        self._held = {}

    def may_try(self, image: str) -> bool:
        """Whether an image has not failed since the project was opened, with this pixel size."""
        size = self.state.micrograph(image).pixel_size_nm
        return image not in self._sizes or size != self._sizes[image]

    def fail(self, image: str, error: BaseException) -> None:
        super().fail(image, error)
        if image in self.state.images:
            self._sizes[image] = self.state.micrograph(image).pixel_size_nm
        project = self.state.project
        if project is not None and project.has(image) and not project.read_only:
            try:
                project.image_files.set_error(image, self.failed[image])
            except AtomicityError as also:
                tasks.logger.error("%s", also)

    def stopped(self) -> None:
        """Keep first results, labelled with their sessions; drop those of images that have one."""
        n = len(self._first)
        new = f"{pluralise(n, 'new image')} analysed. " if n else ""
        show_info(f"Stopped. {new}{KEPT}")
        if (n or self._session_labels.postponed) and labels_together():
            self._label_sessions()

    def _label_sessions(self, held: Mapping[str, Analysis] | None = None, what: str = "") -> None:
        first = () if self._outlines else self._first
        # Those of an earlier run that was ended before its sessions were labelled, too.
        known = self.state.store.analyses.items()
        alone = [i for i, a in known if a.model_id and "session" not in a.parameters]
        images = dict.fromkeys([*self._images, *alone])
        self._session_labels.start(images, held, what, first=first)

    def _on_finished(self, task: tasks.Task) -> None:
        if self.failed:
            self.state.images_changed.emit()  # other docks name the images that wait
        super()._on_finished(task)

    def finish(self) -> None:
        held, self._held = self._held, {}
        # Undo takes back these alone: a first result is no step, or one of its own.
        images = pluralise(len(held), "image")
        again = " again" * (len(held) < self.n_in_all)
        what = f"take the outlines of {images}" if self._outlines else f"analyse {images}{again}"
        if labels_together():
            self._label_sessions(held, what)
        elif held:
            replace_all = self.state.clusters.replace_all_predictions
            self.binding.edits.attempt(partial(replace_all, (), what, held.values()))
        settings = asdict(self._request)
        names = ("detection", "model", "device", "symmetries", "labels")
        sessions = [asdict(session) for session in self.state.sessions.groups()]
        used = {name: settings[name] for name in names}
        self.record("analyse all", {**used, "sessions": sessions})
        if left_out := outline_warnings(*self._measured):
            show_info(" ".join(left_out))
        if self.failed:
            n, reasons = len(self.failed), list(self.failed.values())
            more = f" {n - 3} more: see Browse." if n > 3 else ""
            done = f"{self.n_in_all - n} of {self.n_in_all} images analysed."
            show_info(f"{done} {' '.join(reasons[:3])}{more}")


# ---- a batch that runs elsewhere
MAX_PROCESSES = 512


def place_of(text: str) -> int | str | None:
    """Where a person wants the work done: so many processes, a scheduler, or None for here.

    Raises `AtomicityError` if the number makes no sense.
    """
    text = text.strip()
    if not text:
        return None
    if not text.isdigit():
        return text
    if not 1 <= int(text) <= MAX_PROCESSES:
        raise AtomicityError(
            f"{text} processes are not possible",
            advice=f"Give 1 to {MAX_PROCESSES}, or the address of a scheduler",
        )
    return int(text)


def analyse_remotely(
    step: Callable[[str], tuple[str, Any]],
    images: Iterable[str],
    stop: Stop | None,
    *,
    micrograph_of: Callable[[str], Micrograph],
    edit: Callable[[Analysis], Analysis],  # `ClusterEdits.with_edits`
    request: RunRequest,
    place: int | str,
    progress: Progress | None = None,
) -> Generator[tuple[str, Analysis | Exception], None, None]:
    """Analyse images in other processes; an executor of `image_loop.for_each_image`.

    Images without a file, and those whose pixel size a person has given, are analysed here by
    ``step``.

    Raises `AtomicityError` if the model can't be read, or the scheduler is not there.
    """
    micrographs = {image: micrograph_of(image) for image in images}
    paths = {image: Path(m.path) for image, m in micrographs.items() if m.path is not None}
    left = [image for image in micrographs if image not in paths]
    for image, outcome, analysis in _remote_results(paths, request, place, progress, stop):
        try:
            own = micrograph_of(image)
        except KeyError:  # removed in the meantime
            continue
        if analysis is None:
            yield image, AtomicityError(str(outcome.error))
        elif own.pixel_size_nm in (None, analysis.micrograph.pixel_size_nm):
            analysis = replace(analysis, micrograph=_as_read(own, analysis.micrograph))
            yield image, with_manual_edits(analysis, edit, progress, stop)
        else:
            left.append(image)
    yield from serial(step, left, stop)


def _remote_results(
    paths: Mapping[str, Path],
    request: RunRequest,
    place: int | str,
    progress: Progress | None,
    stop: Stop | None,
) -> Iterator[tuple[str, Outcome, Analysis | None]]:
    from ....io.inputs import Input
    from ....pipeline.runs.batch import analyse_on
    from ....pipeline.runs.dask_workers import Workers
    from ....pipeline.runs.sent_model import SentModel

    n = len(paths)
    report(progress, 0, n, "Starting the processes")
    model = SentModel.of(request.model, request.device)
    n_processes, scheduler = (place, None) if isinstance(place, int) else (None, place)
    with Workers(model, workers=n_processes, scheduler=scheduler, most=n, stop=stop) as workers:
        report(progress, 0, n, "Analysing remotely")
        items = [Input(image, path) for image, path in paths.items()]
        for i, (item, *result) in enumerate(analyse_on(workers, items, request, stop), 1):
            yield item.name, *result
            report(progress, i, n, f"Analysed {i} of {n} remotely")


def _as_read(own: Micrograph, found: Micrograph) -> Micrograph:
    """Return the own micrograph as the other process has read it: reading it here takes time."""
    if not isinstance(own, LazyMicrograph) or own.sha256 is not None or own.path is None:
        return own
    return LazyMicrograph(
        own.path,
        found.shape,
        found.pixel_size_nm,
        name=own.name,
        sha256=found.sha256,
        metadata=found.metadata,
    )
