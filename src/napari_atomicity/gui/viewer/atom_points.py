"""The points layers of atoms: written from the state, and edits of the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from napari.layers import Points
from napari.layers.base import ActionType
from napari.utils.notifications import show_error

from ...atoms.marks import Mark, mark_at
from ...core.errors import AtomicityError
from ...state.atom_store import AtomKey, marks_of
from . import atom_style, compat
from .atom_layers import AtomLayers
from .canvas import Canvas
from .places import contains, pixel_at
from .support import Support

_EDGE_PX = 0.49
"""Distance from the centres of the outer pixels; half a pixel could be rounded out of the image."""
OUTSIDE_IMAGE = "There is no image at this place"
_REACH_SCREEN_PX = 6
"""A click selects an atom within this distance, even if its ring is smaller on the screen."""


class AtomPoints:
    """Show the atoms of the images as points.

    Parameters
    ----------
    canvas : Canvas
        The viewer and its layers.
    support : Support
        Shows the support.
    """

    def __init__(self, canvas: Canvas, support: Support) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._support = support
        self._colour_by = atom_style.CONFIDENCE
        self._removing: list[int] = []
        canvas.state.atoms.changed.connect(self.show)
        canvas.state.atoms.selection_changed.connect(self._on_selection)

    @property
    def colour_by(self) -> str:
        """What the colour of a ring shows: one of `atom_style.COLOURINGS`."""
        return self._colour_by

    @colour_by.setter
    def colour_by(self, name: str) -> None:
        if name not in atom_style.COLOURINGS:
            choices = atom_style.COLOURINGS
            raise ValueError(f"atoms are coloured by one of {choices}, not by {name!r}")
        self._colour_by = name
        for image in self._canvas.images():
            self.show(image)

    # ---- layers
    def _layers(self, image: str | None) -> AtomLayers | None:
        known = self._canvas.layers_of(image)
        return None if known is None or known.source is None else AtomLayers(known)

    def layer(self, image: str | None) -> Points | None:
        """Return the layer ``<image> atoms``."""
        layers = self._layers(image)
        return None if layers is None else layers.points

    def show(self, image: str) -> None:
        """Write the atoms of an image, if it has layers."""
        layers = self._layers(image)
        if self._canvas.viewer is None or layers is None:
            return
        atoms = self._state.atoms.of(image)
        if layers.points is None and atoms is not None and len(atoms.table):
            self._make_layer(image, layers)
        if layers.points is not None:
            size_nm = 1.0 if atoms is None else atoms.pixel_size_nm
            table = self._state.atoms.table(image)
            layers.write_points(table, size_nm, self._colour_by, self._selected_of(image))
        self._support.write(image)

    def show_for_marking(self, image: str) -> None:
        """Show and activate the layer of an image; it is made if there is none."""
        layers = self._layers(image)
        if layers is None:
            return
        if layers.points is None:
            self._make_layer(image, layers)
            self.show(image)
        layer = layers.points
        assert layer is not None
        if not layer.visible:
            layer.visible = True
        layer.mode = "pan_zoom"
        self._canvas.activate(layer)

    def _make_layer(self, image: str, layers: AtomLayers) -> None:
        layer = layers.new_points()
        layer.events.data.connect(self._on_points)
        layer.selected_data.events.items_changed.connect(self._on_points_selected)
        if image == self._state.current and not self._canvas.is_writing:
            self._canvas.activate(layer)

    def put(self, key: AtomKey, place: tuple[float, float]) -> None:
        """Draw an atom at (y, x) in pixels while it is dragged."""
        layers = self._layers(key[0])
        if layers is not None:
            layers.put(key[1], place)

    # ---- edits
    def attempt(self, edit: Callable[[], object]) -> bool:
        """Carry out an edit and return whether it was accepted; show the error if not."""
        try:
            edit()
        except AtomicityError as error:
            show_error(str(error))
            for image in self._canvas.images():
                self.show(image)
            return False
        return True

    def measure(self, image: str, frame: int, y_px: float, x_px: float) -> Mark:
        """Measure an atom at a place.

        Parameters
        ----------
        image : str
            Name of the image.
        frame : int
            Frame of a stack; 0 otherwise.
        y_px, x_px : float
            The place in pixels.

        Returns
        -------
        Mark
        """
        size_nm = self._state.micrograph(image).calibrated()
        return mark_at(self._canvas.frame(image, frame), y_px, x_px, size_nm, frame)

    def move(self, places: Mapping[AtomKey, tuple[float, float]]) -> None:
        """Move atoms of one image and measure them there; they stay uncertain if they were.

        Atoms cannot leave the image.

        Parameters
        ----------
        places : mapping of AtomKey to tuple of float
            New (y, x) in pixels of each atom.
        """
        if not places:
            return
        image = next(iter(places))[0]
        last = np.array(self._state.micrograph(image).shape_px) - 1
        inside = {
            key: np.clip(place, -_EDGE_PX, last + _EDGE_PX).tolist()
            for key, place in places.items()
        }
        if any(tuple(inside[key]) != tuple(place) for key, place in places.items()):
            self._canvas.show_message(OUTSIDE_IMAGE)
        atoms = self._state.atoms
        now = marks_of(atoms.table(image), [i for _, i in places])
        marks = {
            i: replace(self.measure(image, now[i].frame, y, x), uncertain=now[i].uncertain)
            for (_, i), (y, x) in inside.items()
            if i in now
        }
        atoms.move(image, marks)

    def _on_points(self, event: Any) -> None:
        layer = event.source
        image = self._canvas.image_of(layer)
        if self._canvas.is_writing or image is None:
            return
        if event.action == ActionType.REMOVING:
            ids = layer.features["atom_id"].to_numpy(float)
            self._removing = ids[list(event.data_indices)].astype(int).tolist()
        elif event.action == ActionType.REMOVED:
            keys, self._removing = [(image, i) for i in self._removing], []
            self.attempt(lambda: self._state.atoms.remove(keys))
        elif event.action == ActionType.ADDED:
            # napari gives negative indices.
            places = layer.data[list(event.data_indices)].copy()
            self.attempt(lambda: self._add(image, places))
        elif event.action == ActionType.CHANGED:
            self.attempt(lambda: self._take_moved(image, layer))

    def _add(self, image: str, places: np.ndarray) -> None:
        """Add atoms of napari's own tool that are inside the image."""
        shape = self._state.micrograph(image).shape_px
        inside = [place for place in places if contains(shape, *place[-2:])]
        if len(inside) < len(places):
            self._canvas.show_message(OUTSIDE_IMAGE)
        if not inside:
            return self.show(image)
        frames = [round(float(place[0])) if len(place) == 3 else 0 for place in inside]
        added = self._state.atoms.add(
            image,
            [
                self.measure(image, frame, float(place[-2]), float(place[-1]))
                for frame, place in zip(frames, inside, strict=True)
            ],
        )
        self._state.atoms.select((image, i) for i in added)

    def _take_moved(self, image: str, layer: Points) -> None:
        table = self._state.atoms.table(image)
        if len(table) != len(layer.data):
            return
        before = table[["y_px", "x_px"]].to_numpy(float)
        rows = np.flatnonzero((np.abs(before - layer.data[:, -2:]) > 1e-6).any(axis=1))
        ids = table["atom_id"].to_numpy(int)[rows].tolist()
        places = {(image, i): tuple(layer.data[r, -2:]) for i, r in zip(ids, rows, strict=True)}
        self.move(places)

    # ---- selection
    def _selected_of(self, image: str) -> set[int]:
        return {i for name, i in self._state.atoms.selection if name == image}

    def _on_selection(self, keys: frozenset[AtomKey]) -> None:
        for image in self._canvas.images():
            layers = self._layers(image)
            if layers is not None:
                layers.write_selection(self._selected_of(image))

    def _on_points_selected(self, *_: Any) -> None:
        if self._canvas.is_writing or self._canvas.viewer is None:
            return
        keys: set[AtomKey] = set()
        for image in self._canvas.images():
            layer = self.layer(image)
            if layer is not None and len(layer.selected_data):
                ids = layer.features["atom_id"].to_numpy(float)
                keys.update((image, int(ids[i])) for i in layer.selected_data if i < len(ids))
        self._state.atoms.select(keys)

    def key_at(self, image: str | None, world: Any) -> AtomKey | None:
        """Return the atom of an image at a place of the scene; None if there is none."""
        layer = self.layer(image)
        if image is None or layer is None or not layer.visible or not len(layer.data):
            return None
        frame, y, x = pixel_at(layer, world)
        distance = np.hypot(layer.data[:, -2] - y, layer.data[:, -1] - x)
        if layer.ndim == 3:
            distance = np.where(np.round(layer.data[:, 0]) == frame, distance, np.inf)
        screen = compat.camera(self._canvas.viewer).zoom * abs(float(layer.scale[-1]))
        reach = np.maximum(np.asarray(layer.size) / 2, _REACH_SCREEN_PX / screen)
        nearest = int(np.argmin(distance))
        atom_id = float(layer.features["atom_id"].iloc[nearest])
        return (image, int(atom_id)) if distance[nearest] <= reach[nearest] else None

    def select_at(self, world: Any, extend: bool = False) -> bool:
        """Select the atom at a place of the current image, and return whether there is one."""
        key, atoms = self.key_at(self._state.current, world), self._state.atoms
        if key is not None:
            atoms.select(atoms.selection ^ {key} if extend else {key})
        elif not extend:
            atoms.select(())
        return key is not None
