"""Atoms marked by hand: the mode, the magnifier, the support, and who has gone through what."""

from __future__ import annotations

from functools import partial

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ....atoms.marks import ImageAtoms
from ....core.errors import AtomicityError
from ... import tasks
from ...controls.connections import follow
from ...viewer.binding import Binding
from .jobs import reviewed_share

BLIND = (
    "Blind: neither the model's atoms nor those of others are shown, and what you mark is kept "
    "apart. The dock <i>Review</i> ends it."
)
OPEN = (
    "Who labels independently marks <i>blind</i>: dock <i>Review</i>, <i>Second opinion</i>; the "
    "dock <i>Annotators</i> compares."
)
DONE, NOT_DONE = "I have gone through this image", "I have not gone through it after all"
NO_PROJECT = "Open a folder or a project first: who has gone through what is kept in its file."


class MarkingPart(QWidget):
    """Switches of the viewer, and a word of the annotator on the image that is looked at."""

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._session = binding.state
        self._asked: tuple[object, ...] = ()
        self._done = False
        self._build()
        view = binding.atoms
        self.button.toggled.connect(self._on_marking)
        self.loupe.toggled.connect(self._on_loupe)
        self.support.toggled.connect(self._on_support)
        self.add_button.clicked.connect(partial(self._draw, True))
        self.take_button.clicked.connect(partial(self._draw, False))
        self.done_button.clicked.connect(self._on_done)
        follow(self, view.marking_changed, self._show_switches)
        follow(self, view.magnifier_changed, self._show_switches)
        follow(self, view.support_shown, self._show_switches)
        self._show_switches()

    def _build(self) -> None:
        self.button = QPushButton("Mark atoms by hand")
        self.button.setCheckable(True)
        self.button.setToolTip(
            "In the image a click adds an atom, dragging moves it, Delete removes it and U says "
            "that you are not sure; Ctrl+Z takes it back. Default: off."
        )
        self.loupe = QCheckBox("Magnifier")
        self.loupe.setToolTip("Show the surroundings of the mouse enlarged. Default: off.")
        self.support = QCheckBox("Support")
        self.support.setToolTip(
            "Show where the support is, and correct it by drawing. Vacuum counts in no density. "
            "Default: off."
        )
        self.add_button = QPushButton("Add")
        self.add_button.setToolTip("Draw around what belongs to the support; Esc ends it.")
        self.add_button.setAccessibleName("Add to the support")
        self.take_button = QPushButton("Take away")
        self.take_button.setToolTip(
            "Draw around what is vacuum, or shall not count: contamination. Esc ends it."
        )
        self.take_button.setAccessibleName("Take away from the support")
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.done_button = QPushButton(DONE)
        self.done_button.setToolTip(
            "Say that you have looked everywhere in this image: what you have not marked is no "
            "atom to you. Needed for images without any atom. A second click takes it back; an "
            "image in which you have marked atoms blind counts anyhow."
        )
        # As napari draws them, buttons have an edge while they are disabled, and need room for it.
        self.done_button.setEnabled(False)
        self.done_words = QLabel()
        self.done_words.setWordWrap(True)
        self.done_words.setAccessibleName("Who has gone through this image")
        first = QHBoxLayout()
        first.addWidget(self.button, 1)
        first.addWidget(self.loupe)
        second = QHBoxLayout()
        for widget in (self.support, self.add_button, self.take_button):
            second.addWidget(widget)
        second.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(first)
        layout.addLayout(second)
        layout.addWidget(self.hint)
        layout.addWidget(self.done_button)
        layout.addWidget(self.done_words)

    # ---- what the session and the viewer say
    def _show_switches(self, *_: object) -> None:
        view = self._binding.atoms
        for button, on in (
            (self.button, view.marking),
            (self.loupe, view.magnifier),
            (self.support, view.show_support),
        ):
            with QSignalBlocker(button):
                button.setChecked(on)
        self.add_button.setVisible(view.show_support)
        self.take_button.setVisible(view.show_support)

    def show_atoms(self, atoms: ImageAtoms | None, any_image: bool) -> None:
        """What can be done with the image that is looked at, or with any that is open."""
        state, image = self._session, self._session.current
        project = state.project
        kept = image is not None and project is not None and project.has(image)
        self.button.setEnabled((any_image or image is not None) and not state.read_only)
        self.support.setEnabled(atoms is not None and atoms.analysis is not None)
        self.hint.setText(BLIND if state.blind else OPEN)
        self.done_button.setEnabled(kept and not state.read_only)
        if not kept or project is None:
            self._asked = ()
            self.done_words.setText("" if image is None else NO_PROJECT)
            return
        wanted = (image, state.annotator, project, None if atoms is None else atoms.marks)
        if wanted[:2] != self._asked[:2] or any(
            a is not b for a, b in zip(wanted[2:], self._asked[2:], strict=True)
        ):
            self._asked = wanted
            self.done_words.clear()
            self._done = False
            self.done_button.setText(DONE)
            self._ask()

    def _ask(self) -> None:
        project, image = self._session.project, self._session.current
        if project is not None and image is not None:
            tasks.start(
                self._session, reviewed_share, project, image, self._session.annotator,
                on_result=self._show_done, key="gone through", owner=self, about=image,
            )  # fmt: skip

    def _show_done(self, done: bool) -> None:
        who, self._done = self._session.annotator, done
        self.done_button.setText(NOT_DONE if done else DONE)
        self.done_words.setText(
            f"{who} has gone through this image." if done else f"{who} has not yet said so."
        )

    # ---- what the person does
    def _on_marking(self, on: bool) -> None:
        self._binding.atoms.marking = on
        self._show_switches()  # it may have been refused

    def _on_loupe(self, on: bool) -> None:
        self._binding.atoms.magnifier = on

    def _on_support(self, on: bool) -> None:
        self._binding.atoms.show_support = on

    def _draw(self, adds: bool, *_: object) -> None:
        self._binding.atoms.draw_support(adds)

    def _on_done(self) -> None:
        project, image = self._session.project, self._session.current
        if project is None or image is None:
            return
        looked = not self._done

        def note() -> None:
            # what is marked must be there before it is said that nothing else is
            if not self._session.save_again():
                raise AtomicityError(self._session.unsaved, advice="Mend that first")
            project.atoms.mark_as_viewed([image], self._session.annotator, looked)

        if self._binding.attempt(note):
            if looked:
                self._show_done(True)
            else:
                self._ask()  # who has marks there counts anyhow
