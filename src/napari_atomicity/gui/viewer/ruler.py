"""Pixel size from a line over a known distance, such as a scale bar in the image."""

from __future__ import annotations

import numpy as np
from napari.layers import Image, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from ..controls.forms import keep_room
from . import calibration
from .binding import Binding
from .layer_group import ROLE

_KIND = "ruler"


class Ruler(QWidget):
    """The field of the pixel size; while a line is drawn, that of the length of the line.

    Signals: ``measured(nm)`` with the pixel size.
    """

    measured = Signal(float)

    def __init__(
        self,
        binding: Binding,
        pixel_size: QDoubleSpinBox,
        length: QDoubleSpinBox,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._binding = binding
        self._line: Shapes | None = None
        self._source: Image | None = None
        self._pixel_size = pixel_size
        self.button = QPushButton("Known distance")
        self.button.setCheckable(True)
        self.button.setToolTip(
            "Draw a line over a known distance, such as a scale bar in the image, and enter its "
            "length. A second click removes the line."
        )
        keep_room(self.button)  # so that the row keeps its height
        self.length = length
        self.length.setToolTip("Length of the line in nm.")
        self.length.setAccessibleName("Length of the line")
        self.length.setSpecialValueText("line length")
        for field in (pixel_size, length):  # a narrow dock has no room for their buttons
            field.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(pixel_size, 1)
        row.addWidget(length, 1)
        row.addWidget(self.button)
        self.setFocusProxy(pixel_size)
        self._show_fields()
        self.length.editingFinished.connect(self._on_length)

    @property
    def source(self) -> Image | None:
        """The layer over which a line is drawn; None if there is no line."""
        return self._source

    def _show_fields(self) -> None:
        draws = self._line is not None
        self.button.setChecked(draws)
        self._pixel_size.setHidden(draws)
        self.length.setVisible(draws)

    def offer_drawing(self, offers: bool) -> None:
        """Show or hide the button; hidden, it takes no width from the field."""
        kind = QSizePolicy.Policy
        policy = self.button.sizePolicy()
        policy.setHorizontalPolicy(kind.Minimum if offers else kind.Ignored)
        self.button.setSizePolicy(policy)
        self.button.setVisible(offers)

    def draw(self, source: Image) -> None:
        """Start to draw a line over an image."""
        self.cancel()
        self._source = source
        self._line = Shapes(
            ndim=source.ndim,
            edge_color="yellow",
            edge_width=max(1.0, max(source.data.shape) / 300),
            name=f"{source.name} {_KIND}",
            metadata={ROLE: {"image": source.name, "kind": _KIND, "position": 9}},
            **calibration.placement(source),
        )
        self._binding.viewer.add_layer(self._line)
        self._line.mode = "add_line"
        self._show_fields()

    def cancel(self) -> None:
        """Remove the line."""
        if self._line is not None and self._line in self._binding.viewer.layers:
            self._binding.viewer.layers.remove(self._line)
        self._line = self._source = None
        self.length.setValue(0.0)
        self._show_fields()

    def _on_length(self) -> None:
        nm = self.length.value()
        lines = [] if self._line is None else self._line.data
        if not len(lines) or nm <= 0:
            return
        ends = np.asarray(lines[-1], float)[:, -2:]
        length_px = float(np.linalg.norm(ends[-1] - ends[0]))
        self.cancel()
        if length_px > 0:
            self.measured.emit(nm / length_px)
