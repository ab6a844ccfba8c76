"""Pixel size from a line over a known distance, such as a scale bar in the image."""

from __future__ import annotations

import numpy as np
from napari.layers import Image, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QPushButton, QWidget

from . import calibration
from .binding import Binding
from .layer_group import ROLE

_KIND = "ruler"


class Ruler(QWidget):
    """Draw a line and enter its length.

    Signals: ``measured(nm)`` with the pixel size.
    """

    measured = Signal(float)

    def __init__(
        self, binding: Binding, length: QDoubleSpinBox, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._binding = binding
        self._line: Shapes | None = None
        self.button = QPushButton("Draw a known distance")
        self.button.setToolTip(
            "Draw a line over a known distance, such as a scale bar in the image, and enter its "
            "length."
        )
        self.length = length
        self.length.setToolTip("Length of the line in nm.")
        self.length.setAccessibleName("Length of the line")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.button)
        self.words = QLabel("is")
        for widget in (self.words, self.length):
            row.addWidget(widget)
            widget.hide()
        self.length.editingFinished.connect(self._on_length)

    def draw(self, source: Image) -> None:
        """Start to draw a line over an image."""
        self.cancel()
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
        self.words.show()
        self.length.show()

    def cancel(self) -> None:
        """Remove the line."""
        if self._line is not None and self._line in self._binding.viewer.layers:
            self._binding.viewer.layers.remove(self._line)
        self._line = None
        self.length.setValue(0.0)
        for widget in (self.words, self.length):
            widget.hide()

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
