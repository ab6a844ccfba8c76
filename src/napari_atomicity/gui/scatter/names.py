"""Text over a map, readable on any background."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from vispy import scene

_AROUND = np.array([(x, y) for x in (-1.4, 0, 1.4) for y in (-1.4, 0, 1.4) if x or y])
"""Offsets of the halo of a text in pixels."""


class Names:
    """Texts with a halo in the colour of the background.

    Positions are in pixels of the canvas, so that the halo has the same width at any zoom;
    `follow` updates them.
    """

    def __init__(self, parent: scene.Node, order: int) -> None:
        self.halo, self.ink = (
            scene.visuals.Text(parent=parent, font_size=9, bold=True) for _ in range(2)
        )
        self.halo.order, self.ink.order = order, order + 1
        self._at = np.empty((0, 2))
        self._px = np.empty((0, 2))
        self.halo.visible = self.ink.visible = False

    @property
    def visible(self) -> bool:
        return bool(self.ink.visible)

    def show(self, texts: Sequence[str], at: np.ndarray) -> None:
        """Show texts at positions of the map, (K, 2); call `follow` afterwards."""
        self._at, self._px = np.reshape(np.asarray(at, float), (-1, 2)), np.empty((0, 2))
        if len(texts):
            self.ink.text = list(texts)
            self.halo.text = [text for text in texts for _ in _AROUND]
        self.halo.visible = self.ink.visible = len(texts) > 0

    def follow(self, to_canvas: Callable[[np.ndarray], np.ndarray]) -> None:
        """Update the positions; ``to_canvas(positions)`` returns pixels, (K, 2)."""
        if not self.visible:
            return
        px = to_canvas(self._at)
        if not np.array_equal(px, self._px):
            self._px = px
            self.ink.pos = px
            self.halo.pos = (px[:, None] + _AROUND).reshape(-1, 2)

    def paint(self, ink: np.ndarray, paper: np.ndarray) -> None:
        """Set the colours of the theme, RGBA."""
        self.ink.color, self.halo.color = ink, paper
