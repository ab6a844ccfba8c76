"""Words over a map, legible on whatever lies under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from vispy import scene

_AROUND = np.array([(x, y) for x in (-1.4, 0, 1.4) for y in (-1.4, 0, 1.4) if x or y])
"""Where the halo of a word is drawn, in pixels from it."""


class Names:
    """Words in ink with a halo of paper.

    They are in pixels of the canvas, so that the halo is as wide at any zoom: `follow` puts them
    where their places are now.

    Parameters
    ----------
    parent
        The scene of the canvas.
    order
        Above what has a lower one.
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

    def show(self, words: Sequence[str], at: np.ndarray) -> None:
        """Show these words at places of the map, (K, 2); `follow` must come after."""
        self._at, self._px = np.reshape(np.asarray(at, float), (-1, 2)), np.empty((0, 2))
        if len(words):
            self.ink.text = list(words)
            self.halo.text = [word for word in words for _ in _AROUND]
        self.halo.visible = self.ink.visible = len(words) > 0

    def follow(self, to_canvas: Callable[[np.ndarray], np.ndarray]) -> None:
        """The map may have moved: ``to_canvas(places)`` gives pixels, (K, 2)."""
        if not self.visible:
            return
        px = to_canvas(self._at)
        if not np.array_equal(px, self._px):
            self._px = px
            self.ink.pos = px
            self.halo.pos = (px[:, None] + _AROUND).reshape(-1, 2)

    def paint(self, ink: np.ndarray, paper: np.ndarray) -> None:
        """The colours of the theme, RGBA."""
        self.ink.color, self.halo.color = ink, paper
