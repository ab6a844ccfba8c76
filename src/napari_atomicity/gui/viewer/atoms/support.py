"""Correction of the support: where atoms count, and where there is vacuum."""

from __future__ import annotations

import numpy as np
from napari.layers import Points

from ...controls.questions import show_info
from ..canvas import Canvas
from ..clusters.regions import PolygonEditor
from ..layers.layers import VACUUM, ImageLayers
from ..layers.points import ATOMS
from ..layers.polygons import SUPPORT, Polygons

_ADDS_NOTHING = "This adds nothing to the support: it is there already."
_ADDS, _TAKES = 0, 1  # colours of `SUPPORT`
_TAKES_NOTHING = "This takes nothing away: there is no support."


class SupportEditor(PolygonEditor):
    """Keep the layers ``<image> support`` and ``<image> vacuum`` and the state the same."""

    kind = SUPPORT
    points = ATOMS
    next_colour = _TAKES

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(canvas)
        self._visible = False
        self._marks = False

    def name_click(self, marks: bool) -> None:
        """Say what a click does when drawing ends: it marks atoms, or selects them."""
        self._marks = marks

    def message_at_end(self, points: Points) -> str:
        """Return what a click does when drawing ends: it adds an atom, or selects one."""
        return f"A click {'adds' if self._marks else 'selects'} an atom"

    @property
    def visible(self) -> bool:
        """Whether support and vacuum are shown."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        for known in list(self._canvas.layers.values()):
            self.write(known)

    @property
    def adds(self) -> bool:
        """Whether the next polygon adds to the support; otherwise it marks vacuum."""
        return self.next_colour == _ADDS

    @adds.setter
    def adds(self, adds: bool) -> None:
        self.next_colour = _ADDS if adds else _TAKES
        known = self._canvas.current_layers()
        if known is not None:
            known.polygons[SUPPORT].set_next_colour(self.next_colour)

    def in_state(self, image: str) -> Polygons:
        """Return the polygons that add to the support or take away from it, oldest first."""
        atoms = self._state.atoms.of(image)
        drawn = () if atoms is None else atoms.drawn
        return tuple((_ADDS if adds else _TAKES, polygon) for polygon, adds in drawn)

    def edit_state(self, image: str, polygons: Polygons) -> None:
        """Edit the support of the state."""
        book, before = self._state.atoms, self._state.atoms.of(image)
        if before is None:
            return
        is_drawn = len(polygons) > len(self.in_state(image))
        book.set_support(image, [(polygon, colour == _ADDS) for colour, polygon in polygons])
        after = book.of(image)
        if is_drawn and after is not None and np.array_equal(before.support, after.support):
            show_info(_ADDS_NOTHING if self.adds else _TAKES_NOTHING)

    def write(self, known: ImageLayers) -> None:
        """Show the support of an image, or hide it."""
        if self._visible:
            atoms = self._state.atoms.of(known.image)
            mask = None if atoms is None else atoms.support
            known.write_vacuum(mask)
            if mask is not None or known.present(SUPPORT.name) is not None:
                is_stack = known.source.ndim == 3
                step = self._canvas.viewer.dims.current_step
                self.write_polygons(known, frame=step[0] if is_stack else 0)
            if known.is_hidden:
                return
        for kind in (SUPPORT.name, VACUUM):
            layer = known.present(kind)
            # If it were assigned again, napari would leave the drawing mode.
            if layer is not None and layer.visible != self._visible:
                layer.visible = self._visible

    def draw(self) -> bool:
        """Start to draw polygons in the current image, and return whether that is possible."""
        known = self._canvas.current_layers()
        if known is None or known.present(SUPPORT.name) is None:
            show_info("Find atoms first. Then you can correct the support.")
            return False
        self.start_drawing(known)
        self._canvas.show_message("Draw around " + ("support" if self.adds else "vacuum"))
        return True
