"""The support of atoms, corrected: polygons on a Shapes layer are edits of the session."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer

from .atom_layers import ADDED, REMOVED, AtomLayers
from .regions import polygon_of, same_regions

if TYPE_CHECKING:
    from .atoms import AtomView
    from .binding import Binding

Polygons = tuple[np.ndarray, ...]


class Support:
    """Keeps the layers ``<image> support`` and ``<image> vacuum`` and the session the same.

    Parameters
    ----------
    view
        Says whether they are wanted, and what the next polygon says.
    binding
        Of its viewer.
    """

    def __init__(self, view: AtomView, binding: Binding) -> None:
        self._view = weakref.ref(view)
        self._binding = weakref.ref(binding)
        # A shape in the making tells of itself at every corner.
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._take)

    def write(self, image: str) -> None:
        """Show the support of an image, if that is wanted; or hide it."""
        binding, view = self._binding(), self._view()
        known = None if binding is None else binding.layers_of(image)
        if binding is None or view is None or known is None or known.source is None:
            return
        layers, atoms = AtomLayers(known), binding.state.atoms.of(image)
        if not view.show_support:
            for layer in (layers.support, layers.vacuum):
                if layer is not None and layer.visible:
                    layer.visible = False
            return
        mask = None if atoms is None else atoms.support
        layers.write_vacuum(mask)
        if mask is not None and layers.support is None:
            self._connect(layers.new_support())
            self.say_next()
        if layers.support is not None:
            added = () if atoms is None else atoms.support_added
            removed = () if atoms is None else atoms.support_removed
            drawn = self._drawn(layers)
            if not (same_regions(drawn[0], added) and same_regions(drawn[1], removed)):
                frame = binding.viewer.dims.current_step[0] if known.source.ndim == 3 else 0
                layers.write_support(added, removed, frame)
                self.say_next()
        for layer in (layers.support, layers.vacuum):
            # Assigned again, napari would leave the mode in which the person draws.
            if layer is not None and not layer.visible and not known.aside:
                layer.visible = True

    def say_next(self) -> None:
        """The next polygon adds or takes away, and looks so."""
        binding, view = self._binding(), self._view()
        known = None if binding is None else binding.current_layers()
        if view is not None and known is not None:
            AtomLayers(known).next_says(ADDED if view.support_adds else REMOVED)

    def draw(self) -> bool:
        """Let the person draw polygons on the image at hand; whether that can be."""
        binding, view = self._binding(), self._view()
        known = None if binding is None else binding.current_layers()
        layer = None if known is None else AtomLayers(known).support
        if binding is None or view is None or layer is None:
            show_info("Find atoms first: then what is support can be corrected.")
            return False
        if not layer.visible:
            layer.visible = True
        self.say_next()
        binding.viewer.layers.selection.active = layer
        layer.mode = "add_polygon_lasso"
        binding.viewer.status = "Draw around what is " + (
            "support" if view.support_adds else "vacuum"
        )
        return True

    def _connect(self, layer: Shapes) -> None:
        layer.events.data.connect(self._on_data)
        for key in ("E", "Escape"):
            layer.bind_key(key, self._leave, overwrite=True)
        layer.bind_key("Control-Z", self._undo, overwrite=True)
        layer.bind_key("Control-Shift-Z", self._redo, overwrite=True)

    def _undo(self, layer: Shapes) -> None:
        binding = self._binding()
        if binding is not None:
            binding.undo()

    def _redo(self, layer: Shapes) -> None:
        binding = self._binding()
        if binding is not None:
            binding.redo()

    def _leave(self, layer: Shapes) -> None:
        """Draw no more: keys and clicks are those of the atoms again."""
        if getattr(layer, "_is_creating", False):
            layer._finish_drawing()
        layer.mode = "pan_zoom"
        binding = self._binding()
        known = None if binding is None else binding.current_layers()
        points = None if known is None else AtomLayers(known).points
        if binding is not None and points is not None:
            binding.viewer.layers.selection.active = points
            binding.viewer.status = "A click selects an atom"

    def _on_data(self, event: Any) -> None:
        binding = self._binding()
        if binding is not None and not binding.is_writing:
            self._timer.start(0)

    def _take(self) -> None:
        """What was drawn is an edit now."""
        binding, view = self._binding(), self._view()
        known = None if binding is None else binding.current_layers()
        layer = None if known is None else AtomLayers(known).support
        if binding is None or view is None or known is None or layer is None:
            return
        if getattr(layer, "_is_creating", False):
            self._timer.start(50)
            return
        image, (added, removed) = known.image, self._drawn(AtomLayers(known))
        atoms = binding.state.atoms.of(image)
        if atoms is None or (
            same_regions(added, atoms.support_added)
            and same_regions(removed, atoms.support_removed)
        ):
            return
        view.attempt(lambda: binding.state.atoms.set_support(image, added, removed))

    @staticmethod
    def _drawn(layers: AtomLayers) -> tuple[Polygons, Polygons]:
        """What adds and what takes away, as it is drawn."""
        layer = layers.support
        assert layer is not None
        shapes = [polygon_of(c, k) for c, k in zip(layer.data, layer.shape_type, strict=True)]
        found = [(s, p) for s, p in zip(layers.says(), shapes, strict=True) if len(p) >= 3]
        return (
            tuple(p for s, p in found if s == ADDED),
            tuple(p for s, p in found if s == REMOVED),
        )
