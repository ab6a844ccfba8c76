"""Base classes of parts of docks that follow the window's state and start tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QWidget

from ...core.errors import AtomicityError
from ...models.analysis import Analysis
from .. import tasks
from ..controls.refresher import FollowingWidget
from ..viewer.binding import Binding
from .forms import ImageForm


class Panel(FollowingWidget):
    """A dock or a part of one, which knows the window's state and starts tasks."""

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(binding.refresher, parent)
        self.binding = binding
        self.state = binding.state

    def start(
        self,
        function: Callable[..., Any],
        *args: Any,
        on_result: Callable[[Any], object],
        owner: QObject | None = None,
        **options: Any,
    ) -> tasks.Task:
        """Run a core function in a worker that ends with this panel; see `gui.tasks.start`."""
        return tasks.start(
            self.state, function, *args, on_result=on_result, owner=owner or self, **options
        )

    def attempt(self, read: Callable[[], Any]) -> Any:
        """Return the value of a form, or None with a message where an entry is not valid."""
        try:
            return read()
        except AtomicityError as error:
            show_error(tasks.format_error(error))
            return None


class ImagePanel(Panel):
    """A panel about one image: that of a form, or else the current one."""

    def __init__(self, binding: Binding, image_form: ImageForm | None = None) -> None:
        super().__init__(binding)
        self.image_form = image_form
        if image_form is not None:
            image_form.changed.connect(self.invalidate)

    @property
    def image(self) -> str | None:
        """Name of the image; None if it is not analysed and in no project."""
        return self.state.current if self.image_form is None else self.image_form.image

    @property
    def analysis(self) -> Analysis | None:
        """Analysis of the image."""
        return self.state.analysis(self.image or "")
