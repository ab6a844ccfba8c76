"""The points layers of atoms: written from the state, and edits of the state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points
from napari.layers.base import ActionType

from ....atoms.marks import Mark, mark_at
from ....state.atom_store import AtomKey, marks_of
from ...controls.questions import attempt
from ..canvas import Canvas
from ..clusters.label_actions import MARK_FIRST
from ..layers import atom_style
from ..layers.atom_style import contains, pixel_of
from ..layers.points import ATOMS, PointsView
from ..points_display import PointsDisplay
from .support import SupportEditor

_EDGE_PX = 0.49
"""Distance from the centres of the outer pixels; half a pixel could be rounded out of the image."""
OUTSIDE_IMAGE = "There is no image at this place"


class AtomPoints(PointsDisplay):
    """Show the atoms of the images as points."""

    def __init__(self, canvas: Canvas, support: SupportEditor) -> None:
        super().__init__(canvas, ATOMS, canvas.state.atoms)
        self._support = support
        self._colour_by = atom_style.CONFIDENCE
        self._removing: list[int] = []
        canvas.state.atoms.changed.connect(self.show)

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
        self.show_all()

    def coloured(self, image: str) -> pd.DataFrame:
        """Return the atoms of an image; coloured by group, with the groups that are counted."""
        atoms, table = self._state.atoms.of(image), self._state.atoms.table(image)
        if atoms is None or self._colour_by != atom_style.GROUP:
            return table
        counted = atoms.on_support.set_index("atom_id")["group_size"]
        return table.assign(group_size=table["atom_id"].map(counted).fillna(0).astype(int))

    # ---- layers
    def show(self, image: str) -> None:
        """Write the atoms of an image, if it has layers."""
        known = self._canvas.layers.get(image)
        if known is None:
            return
        atoms, table = self._state.atoms.of(image), self._state.atoms.table(image)
        if known.points[ATOMS].layer is not None or (atoms is not None and len(table)):
            size_nm = 1.0 if atoms is None else atoms.pixel_size_nm
            properties = atom_style.properties(self.coloured(image), size_nm, self._colour_by)
            features = atom_style.features(table, self._canvas.state.blind)
            known.points[ATOMS].write(table, features, properties, size_nm)
            self.write_selection(image)
        self._support.write(known)

    def show_all(self) -> None:
        """Write the atoms of all images."""
        for image in list(self._canvas.layers):
            self.show(image)

    def show_for_marking(self, image: str) -> None:
        """Show and activate the layer of an image; it is made if there is none."""
        known = self._canvas.layers.get(image)
        if known is None:
            return
        layer = known.points[ATOMS].layer
        if layer is None:
            layer = known.points[ATOMS].create()
            self.show(image)
        if not layer.visible:
            layer.visible = True
        layer.mode = "pan_zoom"
        self._canvas.activate(layer)

    def follow(self, view: PointsView) -> None:
        """Follow what is done by hand to a layer that was just made, and make it active."""
        super().follow(view)
        for key in ("Delete", "Backspace"):
            view.layer.bind_key(key, self._delete_selected, overwrite=True)
        if self._canvas.image_of(view.layer) == self._state.current and not self._canvas.is_writing:
            self._canvas.activate(view.layer)

    def _delete_selected(self, layer: Points) -> None:
        """Delete with napari's own tool; without it, say how atoms are deleted."""
        if layer.mode == "select":
            layer.remove_selected()
        elif self._state.atoms.selection:
            self._canvas.show_message(MARK_FIRST)

    def put(self, key: AtomKey, place: tuple[float, float]) -> None:
        """Draw an atom at (y, x) in pixels while it is dragged."""
        known = self._canvas.layers.get(key[0])
        if known is not None and known.points[ATOMS].layer is not None:
            known.points[ATOMS].put(key[1], place)

    # ---- edits
    def attempt(self, edit: Callable[[], object]) -> bool:
        """Carry out an edit; if it is refused, show the error and the unchanged atoms."""
        return attempt(edit, self.show_all)

    def measure(self, image: str, frame: int, y_px: float, x_px: float) -> Mark:
        """Measure an atom at a place, as the others, even if the pixel size was changed since."""
        atoms = self._state.atoms.of(image)
        size_nm = atoms.pixel_size_nm if atoms else self._state.micrograph(image).calibrated()
        return mark_at(self._canvas.frame(image, frame), y_px, x_px, size_nm, frame)

    def move(self, places: Mapping[AtomKey, tuple[float, float]]) -> None:
        """Move atoms of one image and measure them there; they stay uncertain if they were.

        Atoms cannot leave the image.
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

    def on_data(self, event: Any) -> None:
        """Edit the atoms after the points of a layer were changed."""
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
        micrograph = self._state.micrograph(image)
        inside = [place for place in map(pixel_of, places) if contains(micrograph, *place)]
        if len(inside) < len(places):
            self._canvas.show_message(OUTSIDE_IMAGE)
        if not inside:
            return self.show(image)
        added = self._state.atoms.add(image, [self.measure(image, *place) for place in inside])
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
    def select_at(self, world: Any, extend: bool = False) -> bool:
        """Select the atom at a place of the current image, and return whether there is one."""
        key = self.key_at([self._state.current or ""], world)
        if key is not None:
            self.select_key(key, extend)
        elif not extend:
            self._state.atoms.select(())
        return key is not None
