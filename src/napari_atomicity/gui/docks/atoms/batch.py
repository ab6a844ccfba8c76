"""Atoms of all images."""

from __future__ import annotations

from napari.utils.notifications import show_info

from ....atoms.analysis import AtomAnalysis
from ....core.progress import Progress, Stop
from ...panels.image_queue import ImageQueue
from ...viewer.binding import Binding
from .jobs import find_image_atoms

_MAX_NAMED = 4


class AtomsOfAll(ImageQueue):
    """Finds the atoms of images of a session; all of it is one step of undo."""

    verb = "Finding atoms in"

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding, "atoms of all")
        self._settings: tuple[str, str, float | None] = ("default", "auto", None)

    def start(self, images: list[str], model: str, device: str, precision: float | None) -> None:
        """Find the atoms of these images; the current image comes first."""
        self._settings = (model, device, precision)
        self.begin(images)

    def step(self, image: str, progress: Progress, stop: Stop) -> AtomAnalysis:
        return find_image_atoms(self.state.micrograph(image), *self._settings, progress, stop)

    def take(self, image: str, analysis: AtomAnalysis) -> None:
        if self.binding.accepts(analysis):
            words = f"find atoms in {self.n_in_all} images"
            self.state.atoms.set_analysis(analysis, words, group=self.group)

    def finish(self) -> None:
        settings = dict(zip(("model", "device", "precision"), self._settings, strict=True))
        self.record("find atoms in all images", settings)
        if self.failed:
            n = len(self.failed)
            named = [f"{image}: {why}" for image, why in list(self.failed.items())[:_MAX_NAMED]]
            more = f" … and {n - _MAX_NAMED} more" if n > _MAX_NAMED else ""
            show_info(
                f"Atoms were found in {self.n_in_all - n} of {self.n_in_all} images. "
                + " ".join(named)
                + more
            )
