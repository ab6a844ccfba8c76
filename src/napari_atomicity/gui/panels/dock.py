"""The base classes of docks: panels that follow the window's state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from weakref import WeakMethod

import numpy as np
from qtpy.QtCore import QObject, QPoint, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QLabel, QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from ...core.errors import AtomicityError, Cancelled
from ...core.tables.cluster_table import Key
from ...models.analysis import Analysis
from .. import tasks
from ..controls.forms import CollapsibleSection, in_scroll_area, keep_room, wrapped_label
from ..controls.questions import show_error
from ..controls.refresher import ChangeSignal, FollowingWidget, follow, single_shot
from ..controls.shortcuts import in_text_field, set_reading_order
from ..viewer.binding import Binding, binding_of
from ..viewer.clusters.labelling import focus_canvas
from .dock_windows import LazyDock, PanelStyle
from .forms import ImageForm, busy
from .workbench_bar import workbench_bar


# ---- base classes of parts of docks that follow the window's state and start tasks
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
        key: str,
        owner: QObject | None = None,
        **options: Any,
    ) -> tasks.Task:
        """Run a core function in a worker that ends with this panel; see `gui.tasks.start`."""
        owner = owner or self
        return tasks.start(
            self.state, function, *args, on_result=on_result, key=key, owner=owner, **options
        )

    def enable(self, widget: QWidget, on: bool) -> None:
        """Enable a widget or not; Qt would give its focus to the next control of the window."""
        if not on and widget.hasFocus():
            focus_canvas(self.binding.viewer)
        widget.setEnabled(on)

    def attempt(self, read: Callable[[], Any]) -> Any:
        """Return the value of a form, or None with a message where an entry is not valid."""
        try:
            return read()
        except Cancelled:
            return None
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


_LAYOUT_MS = 100
"""By then the layout has made room for a part that was hidden."""
_GROWS_MS = 3000
"""A part that grows later than this is not scrolled to again."""


class Dock(Panel):
    """A panel that is built once and refreshed when the window's state has changed.

    Subclasses define `build`, and usually `refresh` and ``follows``.
    """

    follows: ClassVar[tuple[ChangeSignal, ...]] = ("changed", "current_changed", "project_changed")
    scrolls: ClassVar[bool] = True
    """Whether the content scrolls if it is higher than the dock; otherwise it fills the dock."""

    def __init__(
        self, napari_viewer: Any, parent: QWidget | None = None, *, embedded: bool = False
    ) -> None:
        super().__init__(binding_of(napari_viewer), parent)
        self._conditions: list[tuple[QWidget, WeakMethod[Callable[[], bool]] | None]] = []
        self._scroll_target: QWidget | None = None
        self._scroll_timer = single_shot(self._scroll, owner=self)
        self._scroll_end = single_shot(self._end_scrolling, owner=self)
        PanelStyle(self, self.binding)
        workbench_bar(napari_viewer)  # a dock that is opened alone has the bar as well
        scrolls = self.scrolls and not embedded
        content = QWidget() if scrolls else self
        self.content = QVBoxLayout(content)
        self.build()
        if scrolls:
            if not any(self.content.stretch(i) for i in range(self.content.count())):
                self.content.addStretch(1)
            in_scroll_area(content, self)
        set_reading_order(self)

    def build(self) -> None:
        """Create the content from top to bottom, with `add`, `add_button` and the like."""
        raise NotImplementedError

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Keep from the canvas what a text field leaves: Enter there would answer in a review."""
        if not in_text_field(self.window(), event):
            super().keyPressEvent(event)
        elif event.key() == Qt.Key.Key_Escape:
            focus_canvas(self.binding.viewer)

    def show_status(self) -> None:
        """Enable the buttons whose conditions hold, now that a task has begun or ended."""
        self.update_enabled()

    def update_enabled(self, *_: object) -> None:
        """Enable the buttons whose conditions hold, and none while a task runs."""
        idle = not busy(self.state)
        for widget, condition in self._conditions:
            holds = None if condition is None else condition()
            self.enable(widget, idle and (holds is None or holds()))

    @property
    def scroll_area(self) -> QScrollArea | None:
        """What the dock, or the dock that it is a part of, scrolls in, if it does."""
        parent = self.content.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        return parent

    def scroll_to(self, part: QWidget) -> None:
        """Scroll to a part that was just shown, such as a result, which a low dock would hide.

        A part that is filled in a worker grows later: it is scrolled to again, if that is soon and
        nobody has scrolled. A dock whose content always fits, such as *Browse*, does not scroll.
        """
        self._end_scrolling()
        if (area := self.scroll_area) is None:
            return
        self._scroll_target, self._followed_bar = part, area.verticalScrollBar()
        self._followed_bar.rangeChanged.connect(self._scroll)
        self._followed_bar.actionTriggered.connect(self._end_scrolling)
        self._scroll_timer.start(_LAYOUT_MS)
        self._scroll_end.start(_GROWS_MS)

    def _scroll(self, *_: int) -> None:
        if self.isVisible() and self.outdated():  # its refresh may move the part
            self._scroll_timer.start(_LAYOUT_MS)
        elif self._scroll_target is not None and (area := self.scroll_area) is not None:
            top = self._scroll_target.mapTo(area.widget(), QPoint()).y()
            self._followed_bar.setValue(top)

    def _end_scrolling(self, *_: int) -> None:
        if self._scroll_target is not None:
            self._followed_bar.rangeChanged.disconnect(self._scroll)
            self._followed_bar.actionTriggered.disconnect(self._end_scrolling)
            self._scroll_target = None

    # ---- content
    def add(self, widget: Any, tooltip: str = "") -> Any:
        """Add a widget below the others and return it; a section is scrolled to when opened."""
        if tooltip:
            widget.setToolTip(tooltip)
        if isinstance(widget, CollapsibleSection):
            widget.button.clicked.connect(partial(self._scroll_to_opened, widget))
        self.content.addWidget(widget)
        return widget

    def add_label(self, text: str = "", lines: int = 0) -> QLabel:
        """Add a text that wraps, with room for so many lines."""
        label: QLabel = self.add(wrapped_label(lines=lines))
        label.setText(text)
        return label

    def add_part(self, display_name: str, title: str = "") -> CollapsibleSection:
        """Add another dock as a section, which is built when it is opened first."""
        room = LazyDock(self.binding.viewer, display_name, embedded=True)
        section = CollapsibleSection(title or display_name, room)
        section.button.toggled.connect(room.build)
        self.add(section)
        return section

    def _scroll_to_opened(self, section: CollapsibleSection, opened: bool) -> None:
        if opened:
            self.scroll_to(section)

    def add_button(
        self,
        text: str | QPushButton,
        tooltip: str,
        run: Callable[[], object],
        enabled_when: Callable[[], bool] | None = None,
    ) -> QPushButton:
        """Add a button that is disabled while a task runs."""
        button = QPushButton(text) if isinstance(text, str) else text
        button.clicked.connect(run)
        self.enable_when(button, enabled_when)
        self.add(button, tooltip)
        return button

    def enable_when(self, widget: QWidget, condition: Callable[[], bool] | None) -> None:
        """Keep a widget enabled only while no task runs and a condition, a bound method, holds.

        The method is held weakly: a cycle of references would leave the dock to the garbage
        collector, which may run in a thread in which no widget may be deleted.
        """
        self._conditions.append((widget, None if condition is None else WeakMethod(condition)))


class RowsDock(Dock):
    """A dock with a view of the rows of the joined cluster table.

    A subclass sets `model` (with ``rows``, ``order`` and ``forget``) and `view` (with
    ``show_selected``) when it is built.
    """

    follows = ("changed", "images_changed", "project_changed", "selection_changed")
    delay_ms = 30
    scrolls = False

    model: Any
    view: Any

    def build(self) -> None:
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.content.setContentsMargins(6, 6, 6, 6)
        self.note = QLabel()
        self.note.setAccessibleName("How many clusters")
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.sort_again_button = QPushButton("Sort again")
        keep_room(self.sort_again_button)
        self._scrolled_to: frozenset[Key] = frozenset()
        follow(self, self.state.project_changed, self._on_project)

    def _connect_view(self) -> None:
        """Connect what a person does in the view."""
        self.sort_again_button.clicked.connect(self.sort)
        self.view.picked.connect(self._on_selected)
        self.view.activated_at.connect(self._on_activated)

    def sort(self, *_: object) -> None:
        """Sort the rows as set in the form."""
        raise NotImplementedError

    def _on_project(self) -> None:
        self.model.forget()

    def _scroll_to_selection(self) -> None:
        """Scroll to what was selected since, unless it was picked in the view."""
        if self.state.selection != self._scrolled_to:
            self.view.show_selected()
            # Rows that an undo brings back come later than their selection.
            if self.model.rows.selected.any():
                self._scrolled_to = self.state.selection

    def refresh_selection(self) -> None:
        self.model.rows.select(self.state.selection)
        self._scroll_to_selection()
        self.view.viewport().update()
        self._show_selection()

    def _show_selection(self) -> None:
        """Show how many rows are selected."""
        raise NotImplementedError

    # ---- actions of the user
    def _on_selected(self, rows: np.ndarray, whole: bool) -> None:
        """Select clusters; those that a filter hides stay selected unless all are replaced."""
        keys = self.model.rows.keys_of(rows)
        if not whole:
            shown = np.zeros(len(self.model.rows), bool)
            shown[self.model.order] = True
            keys |= self.state.selection - self.model.rows.keys_of(shown)
        self._scrolled_to = frozenset(keys)
        self.state.select(keys)

    def _on_activated(self, row: int) -> None:
        key = self.model.rows.key_of(row)
        self.state.select([key])
        self.state.request_focus(key)
