"""A pixel size for images that have none, from the width of their own atoms."""

from __future__ import annotations

import weakref

from napari.layers import Image
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from ....atoms.pixel_size import PixelSizeProposal
from ... import tasks
from ...controls.forms import wrapped_label
from ...panels.forms import ImageForm
from ...viewer import calibration
from ...viewer.binding import Binding
from .jobs import propose

NO_PROPOSAL = "Too few clear spots to estimate the pixel size from their width."


def format_proposal(found: PixelSizeProposal) -> str:
    """``by the width of its spots: 0.029 nm (0.02–0.04)``."""
    return (
        f"By the width of its spots: {found.value_nm:.2g} nm "
        f"({found.low_nm:.2g}–{found.high_nm:.2g})"
    )


class PixelSizePart(QWidget):
    """Proposal of the pixel size of the chosen image; hidden if the size is known."""

    def __init__(self, binding: Binding, form: ImageForm, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding, self._form = binding, form
        # Computed once per layer, since its pixels do not change.
        self._known: weakref.WeakKeyDictionary[Image, PixelSizeProposal | None] = (
            weakref.WeakKeyDictionary()
        )
        self._pending: weakref.WeakSet[Image] = weakref.WeakSet()
        self.words = wrapped_label("Proposal for the pixel size")
        self.words.setToolTip(
            "Single atoms are about 0.15 nm wide (0.09 to 0.28 nm, depending on the microscope), "
            "so this estimate is uncertain by a factor of 1.5 or more. It is not a calibration."
        )
        self.use_button = QPushButton("Use it")
        self.use_button.setToolTip("Use the proposed pixel size. A known pixel size is better.")
        self.use_button.clicked.connect(self._use)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.words, 1)
        row.addWidget(self.use_button)
        self.hide()

    @property
    def proposal(self) -> PixelSizeProposal | None:
        """The proposal for the chosen image; None if there is none yet."""
        layer = self._form.images.layer
        return None if layer is None else self._known.get(layer)

    def show_proposal(self) -> None:
        """Compute a proposal if the pixel size is unknown, and show it."""
        layer = self._form.images.layer
        wanted = layer is not None and calibration.pixel_size_nm(layer) is None
        self.setVisible(wanted)
        if not wanted or layer is None:
            return
        if layer not in self._known and layer not in self._pending:
            self._request(layer)
        self._show(layer)

    def _request(self, layer: Image) -> None:
        self._pending.add(layer)
        reference = weakref.ref(layer)

        def found(proposal: PixelSizeProposal | None) -> None:
            target = reference()
            if target is not None:
                self._known[target] = proposal

        def ended() -> None:
            target = reference()
            if target is not None:
                self._pending.discard(target)  # computed again if it was cancelled
                if self._form.images.layer is target:
                    self._show(target)

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
            target = layer in self._pending
            self.words.setText("Measuring the width of its spots …" if target else NO_PROPOSAL)
        self.use_button.setVisible(proposal is not None)

    def _use(self) -> None:
        if self.proposal is not None:
            self._form.pixel_size.setValue(round(self.proposal.value_nm, 4))
