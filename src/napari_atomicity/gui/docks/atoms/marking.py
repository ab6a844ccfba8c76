"""Manual marking of atoms: mode, magnifier, support, and review state of the image."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QSignalBlocker
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QDockWidget,
    QHBoxLayout,
    QPushButton,
    QWidget,
)

from ....atoms.marks import ImageAtoms
from ....state.annotator_packs import set_reviewed
from ... import tasks
from ...controls.forms import fill_column, new_row, wrapped_label
from ...controls.refresher import single_shot
from ...panels.forms import ReviewedButton
from ...viewer.binding import Binding
from ...viewer.layers.compat import compile_shapes_soon
from .cluster_links import unchanged

BLIND = (
    "Blind mode: atoms of the model and of other annotators are hidden, and your marks are stored "
    "separately. To leave it, untick <i>Blind</i> in the bar at the top of the window."
)
OPEN = (
    "For independent annotation, tick <i>Blind</i> in the bar at the top of the window. Compare in "
    "the dock <i>Annotators</i>."
)
SUPPORT = (
    "Show the support, and correct it by drawing. Vacuum is excluded from densities. Default: off."
)
NOT_FOUND = "Find the atoms of this image first: this detects the support, too."
NO_SIZE = (
    "This image has no pixel size. Enter it above and find the atoms: this detects the support."
)
NOT_BLIND = (
    "Leave blind mode to find, show or correct the support. Densities in blind mode use the same "
    "support."
)
NO_PROJECT = "Open a folder or a project first: it stores which images are reviewed."


class MarkingPart(QWidget):
    """Switches of the viewer, and the review state of the current image."""

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._state = binding.state
        self._asked: tuple[object, ...] = ()
        self._n_marks: int | None = None  # blind marks in this image; None: not reviewed
        self._may_set = False
        self.button = QPushButton("Mark atoms by hand")
        self.button.setCheckable(True)
        self.button.toggled.connect(self._on_marking)
        self.button.setToolTip(
            "In the image, click to add an atom, drag to move it, press Delete to remove it and U "
            "to set it as uncertain; Ctrl+Z reverts. Default: off."
        )
        self.loupe = QCheckBox("Magnifier")
        self.loupe.toggled.connect(partial(setattr, binding.atoms, "magnifier"))
        self.loupe.setToolTip("Magnify the region under the mouse. Default: off.")
        self.support = QCheckBox("Support")
        self.support.toggled.connect(partial(setattr, binding.atoms, "show_support"))
        self.add_button = QPushButton("Add")
        self.add_button.clicked.connect(partial(self._draw, True))
        self.add_button.setToolTip(
            "Draw around a region to add to the support, in all frames of a stack; Esc cancels."
        )
        self.add_button.setAccessibleName("Add to the support")
        self.take_button = QPushButton("Take away")
        self.take_button.clicked.connect(partial(self._draw, False))
        self.take_button.setToolTip(
            "Draw around a region to remove, such as vacuum or contamination, in all frames of a "
            "stack; Esc cancels."
        )
        self.take_button.setAccessibleName("Take away from the support")
        self.hint = wrapped_label()
        self.done_button = ReviewedButton()
        self.done_button.clicked.connect(self._on_done)
        self.done_words = wrapped_label("Review state of this image")
        first = new_row((self.button, 1), self.loupe)
        second = QHBoxLayout()
        for widget in (self.support, self.add_button, self.take_button):
            second.addWidget(widget)
        second.addStretch(1)
        fill_column(self, first, second, self.hint, self.done_button, self.done_words)
        self._after_hiding = single_shot(self._stop_if_closed, owner=self)

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        super().hideEvent(event)
        self._after_hiding.start()  # a dock that begins to float is hidden for a moment

    def _stop_if_closed(self) -> None:
        """Stop marking once the dock with its button is closed; behind a tab it goes on."""
        part: QWidget | None = self
        while part is not None and not isinstance(part, QDockWidget):
            part = part.parentWidget()
        if part is not None and part.isHidden():
            self._binding.stop_drawing()

    # ---- changes of the state
    def _show_switches(self) -> None:
        view, image = self._binding.atoms, self._state.current
        atoms = self._state.atoms.of(image)
        has_support = atoms is not None and atoms.analysis is not None
        if has_support:
            compile_shapes_soon()
        shows_support = view.show_support and has_support
        for button, on in (
            (self.button, view.marking),
            (self.loupe, view.magnifier),
            (self.support, shows_support),
        ):
            with QSignalBlocker(button):
                button.setChecked(on)
        self.support.setEnabled(has_support)
        lacks_size = image in self._state.images and self._state.pixel_sizes.get(image) is None
        find_first = NOT_BLIND if self._state.blind else NO_SIZE if lacks_size else NOT_FOUND
        self.support.setToolTip(SUPPORT if has_support else find_first)
        self.add_button.setVisible(shows_support)
        self.take_button.setVisible(shows_support)

    def show_atoms(self, atoms: ImageAtoms | None, any_image: bool) -> None:
        """Show the switches of the viewer and the review state of the current image."""
        self._show_switches()
        state, image = self._state, self._state.current
        project = state.project
        kept = image is not None and project is not None and project.has(image)
        self.button.setEnabled(any_image and not state.read_only)
        self.hint.setText(BLIND if state.blind else OPEN)
        self._may_set = kept and any_image and not state.read_only
        if not kept or project is None:
            self._asked = ()
            self._show_button(None)
            self.done_words.setText("" if image is None else NO_PROJECT)
            return
        marks = None if atoms is None else atoms.marks
        wanted = ((image, state.annotator), project, marks)
        if not unchanged(wanted, self._asked):
            self._asked = wanted
            self.done_words.clear()
            self._n_marks = None
            tasks.start(
                state, project.atoms.count_marks, image, state.annotator,
                on_result=self._show_marks, key="gone through", owner=self, about=image,
            )  # fmt: skip
        self._show_button(self._n_marks)

    def _show_marks(self, n: int | None) -> None:
        who = self._state.annotator
        self._show_button(n)
        self.done_words.setText(
            f"Not yet reviewed by {who}." if n is None else f"Reviewed by {who}."
        )

    def _show_button(self, n: int | None) -> None:
        self._n_marks = n
        self.done_button.show_marks(n, self._state.blind, self._may_set)

    # ---- actions of the user
    def _on_marking(self, on: bool) -> None:
        self._binding.atoms.marking = on
        self._show_switches()  # it may have been refused

    def _draw(self, adds: bool, *_: object) -> None:
        self._binding.atoms.draw_support(adds)

    def _on_done(self) -> None:
        reviewed = self._n_marks is None
        if self._binding.edits.attempt(lambda: set_reviewed(self._state, reviewed)):
            self._show_marks(0 if reviewed else None)
