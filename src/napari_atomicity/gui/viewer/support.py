"""Correction of the support: where atoms count, and where there is vacuum."""

from __future__ import annotations

from napari.layers import Shapes
from napari.utils.notifications import show_info

from .canvas import Canvas
from .drawing import PolygonEditor
from .edit_commands import EditCommands
from .layers import VACUUM, ImageLayers
from .points import ATOMS
from .polygons import SUPPORT, Polygons, same_polygons


class SupportEditor(PolygonEditor):
    """Keep the layers ``<image> support`` and ``<image> vacuum`` and the state the same.

    Parameters
    ----------
    canvas : Canvas
        The viewer and its layers.
    edits : EditCommands
        Undo and redo.
    """

    kind = SUPPORT
    points = ATOMS
    message_at_end = "A click selects an atom"

    def __init__(self, canvas: Canvas, edits: EditCommands) -> None:
        super().__init__(canvas)
        self._edits = edits
        self._visible = False
        self._adds = False

    @property
    def visible(self) -> bool:
        """Whether support and vacuum are shown."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = visible
        for image in list(self._canvas.layers):
            self.write(image)

    @property
    def adds(self) -> bool:
        """Whether the next polygon adds to the support; otherwise it marks vacuum."""
        return self._adds

    @adds.setter
    def adds(self, adds: bool) -> None:
        self._adds = adds
        known = self._canvas.current_layers()
        if known is not None:
            self._set_next_colour(known)

    def _set_next_colour(self, known: ImageLayers) -> None:
        known.polygons[SUPPORT].set_next_colour(0 if self._adds else 1)

    def in_state(self, image: str) -> tuple[Polygons, ...]:
        """Return the polygons that add to the support, and those that remove from it."""
        atoms = self._state.atoms.of(image)
        return ((), ()) if atoms is None else (atoms.support_added, atoms.support_removed)

    def edit_state(self, image: str, polygons: tuple[Polygons, ...]) -> None:
        """Edit the support of the state."""
        if self._state.atoms.of(image) is not None:
            self._state.atoms.set_support(image, *polygons)

    def write(self, image: str) -> None:
        """Show the support of an image, or hide it."""
        known = self._canvas.layers.get(image)
        if known is None:
            return
        if self._visible:
            self._write_layers(known)
            if known.is_hidden:
                return
        for layer in (known.polygons[SUPPORT].layer, known.present(VACUUM)):
            # If it were assigned again, napari would leave the drawing mode.
            if layer is not None and layer.visible != self._visible:
                layer.visible = self._visible

    def _write_layers(self, known: ImageLayers) -> None:
        atoms, view = self._state.atoms.of(known.image), known.polygons[SUPPORT]
        mask = None if atoms is None else atoms.support
        known.write_vacuum(mask)
        if mask is not None and view.layer is None:
            self.create(known)
        polygons = self.in_state(known.image)
        if view.layer is None or same_polygons(view.read(), polygons):
            return
        is_stack = known.source.ndim == 3
        view.write(polygons, self._canvas.viewer.dims.current_step[0] if is_stack else 0)
        self._set_next_colour(known)

    def create(self, known: ImageLayers) -> Shapes:
        """Make the layer of an image and follow what is drawn in it."""
        layer = super().create(known)
        self._set_next_colour(known)
        layer.bind_key("Control-Z", lambda _: self._edits.undo(), overwrite=True)
        layer.bind_key("Control-Shift-Z", lambda _: self._edits.redo(), overwrite=True)
        return layer

    def draw(self) -> bool:
        """Start to draw polygons in the current image, and return whether that is possible."""
        known = self._canvas.current_layers()
        if known is None or known.polygons[SUPPORT].layer is None:
            show_info("Find atoms first. Then you can correct the support.")
            return False
        self._set_next_colour(known)
        self.start_drawing(known.polygons[SUPPORT].layer)
        self._canvas.show_message("Draw around " + ("support" if self._adds else "vacuum"))
        return True
