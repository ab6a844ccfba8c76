"""A field for a folder of size-selected images, which shows what the folder has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from qtpy.QtCore import QEvent, Signal

from ...core.text import pluralise
from ...state.window_state import WindowState
from .. import tasks
from ..controls.forms import wrapped_label
from ..controls.save_dialogs import PathField

_LAYOUT = "A folder of images for each class, named after it: Pt19, Pt30, …"


def count_images(folder: str) -> dict[str, int]:
    """Class → number of images of a folder of size-selected images; run in a worker."""
    from ...training.labelled_files import labelled_files

    return dict(Counter(label for file in labelled_files(Path(folder)) for label in file.labels))


class SizeSelectedFolder(PathField):
    """A folder of size-selected images.

    Signals: ``counted()`` when its images are counted, or may be others.
    """

    counted = Signal()

    def __init__(self, state: WindowState) -> None:
        super().__init__("Size-selected images", "the folder of size-selected images")
        self._state = state
        self.classes: dict[str, int] = {}
        self.setPlaceholderText("a folder with Pt19/, Pt30/, …")
        self.found = wrapped_label("Images of the folder", plain=True, lines=2)
        self.found.setText(_LAYOUT)
        self.chosen.connect(self._count)

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Count again when a person comes back to the window: files may have been added."""
        super().changeEvent(event)
        is_back = event.type() == QEvent.Type.ActivationChange and self.isActiveWindow()
        if is_back and self.path is not None and self.isVisible():
            self._start_count()

    def _count(self) -> None:
        self.classes = {}
        self.counted.emit()
        if self.path is None:
            self.found.setText(_LAYOUT)
        else:
            self._start_count()

    def _start_count(self) -> None:
        """Count the images in a worker: disks may be slow."""
        tasks.start(
            self._state,
            count_images,
            str(self.path),
            on_result=self._show,
            on_error=self._show_error,
            key=f"size-selected {id(self)}",
            owner=self,
        )

    def _show_error(self, error: BaseException) -> None:
        self.found.setText(tasks.format_error(error))

    def _show(self, classes: dict[str, int]) -> None:
        self.classes = classes
        self.found.setText(
            ", ".join(f"{name}: {pluralise(n, 'image')}" for name, n in classes.items())
        )
        self.counted.emit()
