"""Atoms of all images."""

from __future__ import annotations

from functools import partial

from napari.utils.notifications import show_info

from ....atoms.analysis import AtomAnalysis
from ... import tasks
from ...panels.image_queue import ImageQueue
from ...viewer.binding import Binding
from .jobs import find_image_atoms

_MAX_NAMED = 4


class AtomsOfAll(ImageQueue):
    """Finds the atoms of images of a session, one at a time; all of it is one step of undo."""

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding, "atoms of all")
        self._settings: tuple[str, str, float | None] = ("default", "auto", None)
        self.failed: dict[str, str] = {}
        """Image → why its atoms could not be found."""

    def start(self, images: list[str], model: str, device: str, precision: float | None) -> None:
        """Find the atoms of these images; the current image comes first."""
        self.begin(images)
        self._settings = (model, device, precision)
        self.failed = {}
        self._next()

    def _next(self) -> None:
        image = self.take()
        if image is None:
            self._finish()
            return
        self.run(
            f"Finding atoms in {self.n_done + 1} of {self.n_in_all}: {image}",
            find_image_atoms,
            (self.state.micrograph(image), *self._settings),
            self._found,
            partial(self._fail, image),
            self._next,
        )

    def _found(self, analysis: AtomAnalysis) -> None:
        self.n_done += 1
        if self.binding.accepts(analysis):
            words = f"find atoms in {self.n_in_all} images"
            self.state.atoms.set_analysis(analysis, words, group=self.group)

    def _fail(self, image: str, error: BaseException) -> None:
        self.n_done += 1
        self.failed[image] = tasks.format_error(error)

    def _finish(self) -> None:
        settings = dict(zip(("model", "device", "precision"), self._settings, strict=True))
        self.end("find atoms in all images", len(self.failed), settings)
        if self.failed:
            n = len(self.failed)
            named = [f"{image}: {why}" for image, why in list(self.failed.items())[:_MAX_NAMED]]
            more = f" … and {n - _MAX_NAMED} more" if n > _MAX_NAMED else ""
            show_info(
                f"Atoms were found in {self.n_in_all - n} of {self.n_in_all} images. "
                + " ".join(named)
                + more
            )
