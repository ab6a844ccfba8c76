"""A pixel size for images that have none, from the width of their own atoms."""

from __future__ import annotations

import weakref

from napari.layers import Image
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from ....atoms.pixel_size import PixelSizeProposal
from ... import tasks
from ...panels.forms import ImageForm
from ...viewer import calibration
from ...viewer.binding import Binding
from .jobs import propose

NO_PROPOSAL = "Too few spots stand out to guess the pixel size from their width."


def format_proposal(found: PixelSizeProposal) -> str:
    """``by the width of its spots: 0.029 nm (0.02–0.04)``."""
    return (
        f"By the width of its spots: {found.value_nm:.2g} nm "
        f"({found.low_nm:.2g}–{found.high_nm:.2g})"
    )


class PixelSizePart(QWidget):
    """What the pixel size of the chosen image may be; hidden where it is known."""

    def __init__(self, binding: Binding, form: ImageForm, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding, self._form = binding, form
        # A layer is asked about once: its pixels do not change.
        self._known: weakref.WeakKeyDictionary[Image, PixelSizeProposal | None] = (
            weakref.WeakKeyDictionary()
        )
        self._asked: weakref.WeakSet[Image] = weakref.WeakSet()
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("Proposal for the pixel size")
        self.words.setToolTip(
            "Single atoms are some 0.15 nm wide (0.09 to 0.28 nm, with the microscope), so this "
            "is good to a factor of one and a half at best: a question, no calibration."
        )
        self.use_button = QPushButton("Use it")
        self.use_button.setToolTip("Put the proposal into the field; what you know is better.")
        self.use_button.clicked.connect(self._use)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.words, 1)
        row.addWidget(self.use_button)
        self.hide()

    @property
    def proposal(self) -> PixelSizeProposal | None:
        """Of the chosen image; None if there is none, or not yet."""
        layer = self._form.images.layer
        return None if layer is None else self._known.get(layer)

    def update_now(self) -> None:
        """Ask for a proposal where one is wanted, and show it."""
        layer = self._form.images.layer
        wanted = layer is not None and calibration.pixel_size_nm(layer) is None
        self.setVisible(wanted)
        if not wanted or layer is None:
            return
        if layer not in self._known and layer not in self._asked:
            self._ask(layer)
        self._show(layer)

    def _ask(self, layer: Image) -> None:
        self._asked.add(layer)
        reference = weakref.ref(layer)

        def found(proposal: PixelSizeProposal | None) -> None:
            asked = reference()
            if asked is not None:
                self._known[asked] = proposal

        def ended() -> None:
            asked = reference()
            if asked is not None:
                self._asked.discard(asked)  # if it was cancelled it is asked again
                if self._form.images.layer is asked:
                    self._show(asked)

        task = tasks.start(
            self._binding.state,
            propose,
            layer.data,
            on_result=found,
            key=f"pixel size by the spots of {id(layer)}",
            owner=self,
        )
        task.finished.connect(ended)

    def _show(self, layer: Image) -> None:
        proposal = self._known.get(layer)
        if proposal is not None:
            self.words.setText(format_proposal(proposal))
        else:
            asked = layer in self._asked
            self.words.setText("Looking at the width of its spots …" if asked else NO_PROPOSAL)
        self.use_button.setVisible(proposal is not None)

    def _use(self) -> None:
        if self.proposal is not None:
            self._form.pixel_size.setValue(round(self.proposal.value_nm, 4))
