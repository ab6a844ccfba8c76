"""The atoms of the images in a viewer: rings, marking by hand, the support, the loupe."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes
from napari.layers.base import ActionType
from napari.utils.notifications import show_error, show_info
from psygnal import Signal

from ...atoms.marks import mark_at
from ...core.errors import AtomicityError
from ...state.atom_store import AtomKey
from . import atom_style as atom_looks
from . import compat, picking
from .atom_layers import AtomLayers
from .atom_style import COLOURINGS
from .magnifier import CanvasMagnifier, Magnifier
from .marking import BESIDE, Marking, frame_of, holds, place_of
from .support import Support

if TYPE_CHECKING:
    from .binding import Binding

_REACH_SCREEN_PX = 6
"""A ring may be small on the screen; a hand is no surer than that."""


class AtomView:
    """Shows the atoms of a session in its viewer, and lets a person mark them.

    Signals: ``marking_changed(bool)``, ``loupe_changed(bool)``, ``support_shown(bool)``,
    ``colouring_changed(str)``: one of the switches was turned, by whomever.
    """

    marking_changed = Signal(bool)
    loupe_changed = Signal(bool)
    support_shown = Signal(bool)
    colouring_changed = Signal(str)

    def __init__(self, binding: Binding) -> None:
        self._binding = weakref.ref(binding)
        self.state = binding.state
        self._loupe_on = False
        self._show_support = False
        self._support_adds = False
        self._colour_by = atom_looks.CONFIDENCE
        self._focus: AtomKey | None = None
        self._removing: list[int] = []
        self._support = Support(self, binding)
        self._marking = Marking(self, binding)
        self._loupe = CanvasMagnifier(self, binding)
        self.state.atoms.changed.connect(self.show)
        self.state.atoms.selection_changed.connect(self._on_selection)
        self.state.atoms.focus_requested.connect(self._on_focus)

    # ---- switches
    @property
    def marking(self) -> bool:
        """Whether a click in the image marks an atom."""
        return self._marking.on

    @marking.setter
    def marking(self, on: bool) -> None:
        if on == self._marking.on:
            return
        if not on:
            self._marking.stop()
        elif not self._marking.start():
            on = False  # a switch that was turned goes back
        self.marking_changed.emit(on)

    @property
    def loupe(self) -> bool:
        """Whether the surroundings of the mouse are shown enlarged."""
        return self._loupe_on

    @loupe.setter
    def loupe(self, on: bool) -> None:
        if on != self._loupe_on:
            self._loupe_on = on
            if on:
                self._marking.image()
                self._loupe.start()
            else:
                self._loupe.stop()
            self.loupe_changed.emit(on)

    @property
    def loupe_widget(self) -> Magnifier | None:
        """What lies over the canvas while the loupe is on."""
        return self._loupe.widget

    @property
    def show_support(self) -> bool:
        """Whether what is vacuum is shown, and can be corrected."""
        return self._show_support

    @show_support.setter
    def show_support(self, on: bool) -> None:
        if on == self._show_support:
            return
        self._show_support = on
        image = self.state.current
        atoms = self.state.atoms.of(image)
        if on and (atoms is None or atoms.support is None):
            show_info("Find atoms first: then it is known what is support, and can be corrected.")
        for name in self._images():
            self._support.write(name)
        self.support_shown.emit(on)

    @property
    def support_adds(self) -> bool:
        """Whether the next polygon adds to the support; else it takes away: it is vacuum."""
        return self._support_adds

    @support_adds.setter
    def support_adds(self, adds: bool) -> None:
        self._support_adds = adds
        self._support.say_next()

    def draw_support(self, adds: bool) -> bool:
        """Let the person draw what is support, or vacuum, on the image at hand."""
        self.show_support = True
        self.support_adds = adds
        return self._support.draw()

    @property
    def colour_by(self) -> str:
        """What the colour of a ring tells: one of `atom_looks.COLOURINGS`."""
        return self._colour_by

    @colour_by.setter
    def colour_by(self, what: str) -> None:
        if what not in COLOURINGS:
            raise ValueError(f"atoms are coloured by one of {COLOURINGS}, not by {what!r}")
        if what != self._colour_by:
            self._colour_by = what
            for image in self._images():
                self.show(image)
            self.colouring_changed.emit(what)

    def legend(self, image: str | None) -> list[tuple[str, str]]:
        """Words and colour, ``#rrggbb``, of what the colours of an image's atoms say."""
        return atom_looks.legend(self.state.atoms.table(image or ""), self._colour_by)

    # ---- layers
    def _images(self) -> list[str]:
        """Images that have layers."""
        binding = self._binding()
        return [] if binding is None or binding.viewer is None else binding.images_with_layers()

    def _layers(self, image: str | None) -> AtomLayers | None:
        binding = self._binding()
        known = None if binding is None or image is None else binding.layers_of(image)
        return None if known is None or known.source is None else AtomLayers(known)

    def points_layer(self, image: str) -> Points | None:
        """The layer ``<image> atoms``."""
        layers = self._layers(image)
        return None if layers is None else layers.points

    def support_layer(self, image: str) -> Shapes | None:
        """The layer ``<image> support``."""
        layers = self._layers(image)
        return None if layers is None else layers.support

    def show(self, image: str) -> None:
        """Write what is known of the atoms of an image, if it has layers."""
        binding, layers = self._binding(), self._layers(image)
        if binding is None or binding.viewer is None or layers is None:
            return
        atoms = self.state.atoms.of(image)
        if layers.points is None:
            if atoms is None or not len(atoms.table):
                return self._support.write(image)
            self._make_points(image)
        if layers.points is not None:
            size_nm = 1.0 if atoms is None else atoms.pixel_size_nm
            table = self.state.atoms.table(image)
            layers.write_points(table, size_nm, self._colour_by, self._selected_of(image))
        self._support.write(image)

    def _make_points(self, image: str) -> None:
        binding, layers = self._binding(), self._layers(image)
        assert binding is not None and layers is not None
        layer = layers.new_points()
        layer.events.data.connect(self._on_points)
        layer.selected_data.events.items_changed.connect(self._on_points_selected)
        if image == self.state.current and not binding.is_writing:
            binding.viewer.layers.selection.active = layer

    def ready(self, image: str) -> None:
        """Have the layer of an image there, so that clicks in it mean atoms."""
        binding, layers = self._binding(), self._layers(image)
        if binding is None or layers is None:
            return
        if layers.points is None:
            self._make_points(image)
            self.show(image)
        layer = layers.points
        assert layer is not None
        if not layer.visible:
            layer.visible = True
        layer.mode = "pan_zoom"
        binding.viewer.layers.selection.active = layer

    def on_layers_created(self, image: str) -> None:
        """An image has come into the viewer, on new layers or on those of another."""
        self.show(image)
        if self.marking and image == self.state.current:
            self.ready(image)

    def attempt(self, edit: Callable[[], object]) -> bool:
        """Do an edit; where it is refused the person is told, and sees what still is."""
        try:
            edit()
        except AtomicityError as error:
            show_error(str(error))
            for image in self._images():
                self.show(image)
            return False
        return True

    # ---- what a person does to the points
    def _on_points(self, event: Any) -> None:
        binding, layer = self._binding(), event.source
        image = None if binding is None else binding.image_of(layer)
        if binding is None or binding.is_writing or image is None:
            return
        if event.action == ActionType.REMOVING:
            ids = layer.features["atom_id"].to_numpy(float)
            self._removing = ids[list(event.data_indices)].astype(int).tolist()
        elif event.action == ActionType.REMOVED:
            keys, self._removing = [(image, i) for i in self._removing], []
            self.attempt(lambda: self.state.atoms.remove(keys))
        elif event.action == ActionType.ADDED:
            # napari counts them from the end.
            places = layer.data[list(event.data_indices)].copy()
            self.attempt(lambda: self._add(image, places))
        elif event.action == ActionType.CHANGED:
            self.attempt(lambda: self._take_moved(image, layer))

    def _add(self, image: str, places: np.ndarray) -> None:
        """Marks of napari's own tool; beside the image there is nothing to mark."""
        binding, shape = self._binding(), self.state.micrograph(image).shape_px
        inside = [place for place in places if holds(shape, *place[-2:])]
        if binding is not None and len(inside) < len(places):
            binding.viewer.status = BESIDE
        if not inside:
            return self.show(image)
        added = self.state.atoms.add(image, [self._mark(image, place) for place in inside])
        self.state.atoms.select((image, i) for i in added)

    def _mark(self, image: str, place: np.ndarray) -> Any:
        binding = self._binding()
        assert binding is not None
        frame = round(float(place[0])) if len(place) == 3 else 0
        size_nm = self.state.micrograph(image).calibrated()
        pixels = frame_of(binding, image, frame)
        return mark_at(pixels, float(place[-2]), float(place[-1]), size_nm, frame)

    def _take_moved(self, image: str, layer: Points) -> None:
        """Those that are elsewhere now have been moved."""
        table = self.state.atoms.table(image)
        if len(table) != len(layer.data):
            return
        was = table[["y_px", "x_px"]].to_numpy(float)
        rows = np.flatnonzero((np.abs(was - layer.data[:, -2:]) > 1e-6).any(axis=1))
        ids = table["atom_id"].to_numpy(int)[rows].tolist()
        self._marking.move(
            {(image, i): tuple(layer.data[r, -2:]) for i, r in zip(ids, rows, strict=True)}
        )

    def put(self, key: AtomKey, place: tuple[float, float]) -> None:
        """Draw an atom at (y, x) in pixels, while it is being dragged."""
        layers = self._layers(key[0])
        if layers is not None:
            layers.put(key[1], place)

    # ---- selection
    def _selected_of(self, image: str) -> set[int]:
        return {i for name, i in self.state.atoms.selection if name == image}

    def _on_selection(self, keys: frozenset[AtomKey]) -> None:
        for image in self._images():
            layers = self._layers(image)
            if layers is not None:
                layers.write_selection(self._selected_of(image))

    def _on_points_selected(self, *_: Any) -> None:
        binding = self._binding()
        if binding is None or binding.is_writing or binding.viewer is None:
            return
        keys: set[AtomKey] = set()
        for image in self._images():
            layer = self.points_layer(image)
            if layer is not None and len(layer.selected_data):
                ids = layer.features["atom_id"].to_numpy(float)
                keys.update((image, int(ids[i])) for i in layer.selected_data if i < len(ids))
        self.state.atoms.select(keys)

    def key_at(self, image: str, world: Any) -> AtomKey | None:
        """The atom of an image at a place of the scene; None if there is none."""
        binding, layer = self._binding(), self.points_layer(image)
        if binding is None or layer is None or not layer.visible or not len(layer.data):
            return None
        frame, y, x = place_of(layer, world)
        off = np.hypot(layer.data[:, -2] - y, layer.data[:, -1] - x)
        if layer.ndim == 3:
            off = np.where(np.round(layer.data[:, 0]) == frame, off, np.inf)
        screen = compat.camera(binding.viewer).zoom * abs(float(layer.scale[-1]))
        reach = np.maximum(np.asarray(layer.size) / 2, _REACH_SCREEN_PX / screen)
        nearest = int(np.argmin(off))
        atom_id = float(layer.features["atom_id"].iloc[nearest])
        return (image, int(atom_id)) if off[nearest] <= reach[nearest] else None

    def select_at(self, world: Any, extend: bool = False) -> bool:
        """Select the atom at a place of the image that is looked at; whether there is one."""
        image = self.state.current
        key = None if image is None else self.key_at(image, world)
        atoms = self.state.atoms
        if key is not None:
            atoms.select(atoms.selection ^ {key} if extend else {key})
        elif not extend:
            atoms.select(())
        return key is not None

    @property
    def in_front(self) -> bool:
        """Whether atoms are what a click means first: their layer is the active one."""
        binding = self._binding()
        if binding is None or binding.viewer is None:
            return False
        active = binding.viewer.layers.selection.active
        return active is not None and active is self.points_layer(self.state.current or "")

    # ---- going there
    def _on_focus(self, key: AtomKey) -> None:
        binding, (image, _) = self._binding(), key
        if binding is None or image not in self.state.images:
            return
        self.state.current = image
        if binding.source_layer(image) is None:  # its pixels are being read
            self._focus = key
        else:
            self.bring_into_view(key)

    def take_focus(self, image: str) -> bool:
        """An image has just come to lie on the stage: go to the atom that was asked for."""
        key, self._focus = self._focus, None
        if key is None or key[0] != image:
            return False
        return self.bring_into_view(key)

    def bring_into_view(self, key: AtomKey) -> bool:
        """Put an atom of an image that has layers into the middle of the view; whether it is."""
        binding, (image, atom_id) = self._binding(), key
        source = None if binding is None else binding.source_layer(image)
        table = self.state.atoms.table(image)
        row = table[(table["atom_id"] == atom_id).to_numpy()]
        if binding is None or source is None or not len(row):
            return False
        picking.bring_into_view(binding.viewer, source, row.iloc[0])
        return True
