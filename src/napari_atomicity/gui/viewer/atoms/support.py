"""Correction of the support: where atoms count, and where there is vacuum."""

from __future__ import annotations

from ...controls.questions import show_info
from ..canvas import Canvas
from ..clusters.regions import PolygonEditor
from ..layers.layers import VACUUM, ImageLayers
from ..layers.points import ATOMS
from ..layers.polygons import SUPPORT, Polygons


class SupportEditor(PolygonEditor):
    """Keep the layers ``<image> support`` and ``<image> vacuum`` and the state the same."""

    kind = SUPPORT
    points = ATOMS
    message_at_end = "A click selects an atom"
    """What the status bar says when drawing ends."""
    next_colour = 1

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(canvas)
        self._visible = False

    def name_click(self, marks: bool) -> None:
        """Say what a click does when drawing ends: it marks atoms, or selects them."""
        self.message_at_end = f"A click {'adds' if marks else 'selects'} an atom"

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
        return self.next_colour == 0

    @adds.setter
    def adds(self, adds: bool) -> None:
        self.next_colour = 0 if adds else 1
        known = self._canvas.current_layers()
        if known is not None:
            known.polygons[SUPPORT].set_next_colour(self.next_colour)

    def in_state(self, image: str) -> tuple[Polygons, ...]:
        """Return the polygons that add to the support, and those that remove from it."""
        atoms = self._state.atoms.of(image)
        return ((), ()) if atoms is None else (atoms.support_added, atoms.support_removed)

    def edit_state(self, image: str, polygons: tuple[Polygons, ...]) -> None:
        """Edit the support of the state."""
        if self._state.atoms.of(image) is not None:
            self._state.atoms.set_support(image, *polygons)

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
