"""Analyse all images."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from napari.utils.notifications import show_error, show_info

from ....core.errors import AtomicityError
from ....io.lazy_micrograph import LazyMicrograph
from ....io.provenance import Outcome
from ....models.analysis import Analysis
from ....pipeline.run_request import RunRequest
from ... import tasks
from ...panels.analysis_task import analyse_image
from ...panels.image_queue import ImageQueue
from ...viewer.binding import Binding
from .remote_batch import Relay, analyse_remotely


class AnalyseAll(ImageQueue):
    """Analyses images of a session one at a time."""

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding, "analyse all")
        self._request: RunRequest | None = None
        self.n_failed = 0

    def start(
        self,
        images: list[str],
        request: RunRequest,
        place: int | str | None = None,
    ) -> None:
        """Analyse these images; the one that is looked at comes first.

        Parameters
        ----------
        images : list of str
            Of the session.
        request : RunRequest
            For all of them.
        place : int or str, optional
            None: one after the other in this process. Else as of `elsewhere.place_of`; images
            without a file, and those whose pixel size a person has given, are analysed here all
            the same.
        """
        self.begin(images)
        self._request = request
        self.n_failed = 0
        if place is None:
            self._next()
        else:
            self._send(place)

    def _send(self, place: int | str) -> None:
        assert self._request is not None
        micrographs = {image: self.state.micrograph(image) for image in self._waiting}
        paths = {i: Path(m.path) for i, m in micrographs.items() if m.path is not None}
        relay = self._relay = Relay()
        relay.came.connect(self._came)
        self.run(
            f"Analysing {len(paths)} images remotely",
            analyse_remotely,
            (paths, self._request, place, relay.came.emit),
            lambda _: None,
            self._lost,
            self._next,
        )

    def _came(self, image: str, outcome: Outcome, analysis: Analysis | None) -> None:
        """One of those that were sent is there; what is not as expected is done here."""
        if image not in self._waiting or image not in self.state.images:
            return
        if analysis is None:
            self._waiting.remove(image)
            self._failed(image, AtomicityError(str(outcome.error)))
            return
        own = self.state.micrograph(image)
        if own.pixel_size_nm not in (None, analysis.micrograph.pixel_size_nm):
            return
        self._waiting.remove(image)
        assert self._request is not None
        self.binding.set_engine(image, self._request.model, self._request.device)
        if isinstance(own, LazyMicrograph) and own.sha256 is None and own.path is not None:
            # As the other process has read it: here it would take its time.
            found = analysis.micrograph
            own = LazyMicrograph(
                own.path,
                found.shape,
                found.pixel_size_nm,
                name=image,
                sha256=found.sha256,
                metadata=found.metadata,
            )
            self.state.follow_file(image, own)
        self._analysed(image, replace(analysis, micrograph=own))
        self.changed.emit()

    def _lost(self, error: BaseException) -> None:
        """Nobody is there to do it: what is left waits for the person to say what to do."""
        self.forget()
        show_error(tasks.format_error(error))

    def _next(self) -> None:
        image = self.take()
        if image is None:
            self._finish()
            return
        assert self._request is not None
        self.binding.set_engine(image, self._request.model, self._request.device)
        self.run(
            f"Analysing {self.n_done + 1} of {self.n_in_all}: {image}",
            analyse_image,
            (self.state.micrograph(image), self._request),
            partial(self._analysed, image),
            partial(self._failed, image),
            self._next,
        )

    def _analysed(self, image: str, analysis: Analysis) -> None:
        self.n_done += 1
        if not self.binding.accepts(analysis):
            return
        self.state.clusters.set_analysis(
            analysis, f"analyse {self.n_in_all} images again", undoable=False, group=self.group
        )
        self.binding.label_mode.on = True

    def _failed(self, image: str, error: BaseException) -> None:
        self.n_done += 1
        self.n_failed += 1
        project = self.state.project
        if project is not None and project.has(image) and not project.read_only:
            try:
                project.image_files.set_error(image, tasks.format_error(error))
            except AtomicityError as also:
                tasks.logger.error("%s", also)

    def _finish(self) -> None:
        assert self._request is not None
        settings = asdict(self._request)
        names = ("detection", "model", "device", "symmetries")
        self.end("analyse all", self.n_failed, {name: settings[name] for name in names})
        if self.n_failed:
            n = self.n_failed
            show_info(
                f"{self.n_in_all - n} of {self.n_in_all} images analysed; see Browse for the "
                f"reason why "
                f"{n} failed."
            )
