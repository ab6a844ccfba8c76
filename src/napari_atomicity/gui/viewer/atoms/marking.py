"""Marking atoms by hand: a click adds an atom, a drag moves one, keys do the rest.

Keys are taken from the canvas before napari handles them (Tab would leave the canvas, 1 would
delete points), but not while a person draws. Each action is one edit of the state.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Labels, Shapes
from psygnal import Signal
from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QKeyEvent

from ....atoms.finding.localisation import snap_to_spot
from ....atoms.marks import SAME_NM
from ....atoms.table import PERSON
from ....core.text import pluralise
from ....state.atom_store import AtomKey, marks_of
from ....state.window_state import WindowState
from ...controls.forms import as_key_event
from ...controls.questions import show_info
from ...controls.shortcuts import MARKING, Shortcut, format_line, in_text_field, key_name
from ..canvas import Canvas
from ..clusters.edit_commands import EditCommands
from ..clusters.label_actions import EditActions
from ..clusters.labelling import KeyMode, LabelMode, focus_canvas
from ..clusters.regions import drawing_text
from ..layers import compat, picking
from ..layers.atom_style import contains, numbers, pixel_at
from .atom_points import OUTSIDE_IMAGE, AtomPoints

_CLICK_PX = 4
_NUDGE_PX = 0.5
_NUDGES = {"Left": (0, -1), "Right": (0, 1), "Up": (-1, 0), "Down": (1, 0)}


class Marking(KeyMode, EditActions):
    """The mode in which a click marks an atom.

    Signals: ``changed(bool)`` when it is switched on or off; ``magnifier_toggled()`` when its key
    was pressed.
    """

    magnifier_toggled = Signal()

    def __init__(
        self, canvas: Canvas, points: AtomPoints, label_mode: LabelMode, edits: EditCommands
    ) -> None:
        super().__init__(canvas, actions=self)
        self._points = points
        self._label_mode = label_mode
        self._edits = edits
        self.silent = True
        self._keys: CanvasKeys | None = None
        # napari's actions for a double click, while they are removed.
        self._double_click_callbacks: list[Any] = []
        # Those that Tab went to, the last one last: image, confidence and atom_id.
        self._candidates: list[tuple[str, float, int]] = []
        self._was_blind = canvas.state.blind
        canvas.viewer.mouse_drag_callbacks.append(CanvasMouse(self))
        canvas.state.atoms.changed.connect(self.show_text)
        canvas.state.atoms.selection_changed.connect(self.show_text)
        canvas.state.current_changed.connect(self.show_text)
        canvas.viewer.layers.selection.events.active.connect(self.show_text)
        canvas.state.project_changed.connect(self._on_project)
        canvas.state.current_changed.connect(self._on_current)
        label_mode.review_changed.connect(self._on_review)

    # ---- on and off
    def _switch(self, on: bool) -> None:
        if on:
            self._start()
        else:
            self._stop()

    def _start(self) -> None:
        """Give clicks and keys to the atoms, if that is possible."""
        viewer = self._canvas.viewer
        if viewer is None:
            return
        if self._state.read_only:
            show_info("This project is read-only: atoms cannot be marked here.")
            return
        image = self.take_image()
        if image is None:
            if not self._canvas.image_layers():
                show_info("Open an image first. Then you can mark atoms in it.")
            return
        self._label_mode.review = None
        self._on = True
        self._candidates = []
        self._points.show_for_marking(image)
        self._keys = CanvasKeys(self, MARKING, viewer.window._qt_viewer.canvas)
        # Two quick clicks add two atoms and do not zoom.
        self._double_click_callbacks = list(viewer.mouse_double_click_callbacks)
        viewer.mouse_double_click_callbacks.clear()
        self._label_mode.silent = True
        self.silent = False
        self.show_text()
        focus_canvas(viewer)

    def _stop(self) -> None:
        """Return clicks and keys to napari."""
        self._on = False
        if self._keys is not None:
            self._keys.end()
            self._keys = None
        viewer = self._canvas.viewer
        if viewer is None:
            return
        viewer.mouse_double_click_callbacks.extend(self._double_click_callbacks)
        self._double_click_callbacks = []
        self._show_help()  # those of the layer again
        self.silent = True
        self._label_mode.silent = False
        self._label_mode.show_text()

    def key_line(self) -> str:
        return format_line(MARKING) if self._on else ""

    def _on_current(self, image: str | None) -> None:
        if image is None:  # one from elsewhere is on the canvas
            self.on = False

    def _on_project(self) -> None:
        self._candidates = []
        left_blind = self._was_blind and not self._state.blind  # clicks would mark openly
        self._was_blind = self._state.blind
        if self._on:
            if self._state.read_only or not self._state.images or left_blind:
                self.on = False
            else:
                self.show_text()

    def _on_review(self, review: object) -> None:
        if review is not None:
            self.on = False

    def image(self) -> str | None:
        """Return the image in which atoms are marked; None while its pixels are read."""
        canvas, current = self._canvas, self._state.current
        if canvas.viewer is None or canvas.source_layer(current) is None:
            return None
        return current

    def take_image(self) -> str | None:
        """Return the image in which atoms will be marked; add it to the state if necessary."""
        canvas, active, layers = self._canvas, self._canvas.active_layer, []
        if self._state.current is None:
            layers = canvas.image_layers()
        if not layers:
            return self.image()
        layer = active if active in layers else layers[-1]
        return canvas.ensure_image(layer) if canvas.may_join_project(layer) else None

    # ---- mouse
    @property
    def takes_clicks(self) -> bool:
        """Whether a click adds or selects an atom."""
        if not self._on or self._canvas.viewer is None:
            return False
        return getattr(self._canvas.active_layer, "mode", "pan_zoom") == "pan_zoom"

    def key_at(self, world: Any) -> AtomKey | None:
        """Return the atom at a place of the scene; None if there is none."""
        return self._points.key_at([self.image() or ""], world)

    def click(self, world: Any, key: AtomKey | None, extend: bool, exactly: bool) -> None:
        """Select an atom; where there is none, add one."""
        if key is not None:
            self._points.select_key(key, extend)
        elif not extend:
            self._points.attempt(partial(self._add, world, exactly))

    def _add(self, world: Any, exactly: bool) -> None:
        image = self.image()
        if image is None:
            return
        frame, y, x = pixel_at(self._canvas.source_layer(image), world)
        micrograph, pixels = self._state.micrograph(image), self._canvas.frame(image, frame)
        if not contains(micrograph, frame, y, x):
            self._canvas.show_message(OUTSIDE_IMAGE)
            return
        size_nm = micrograph.calibrated()
        atoms = self._state.atoms
        spot = None if exactly else snap_to_spot(pixels, y, x, size_nm)
        # The spot of another atom is not meant: this one lies next to it.
        if spot is not None and not _has_atom_at(atoms.table(image), frame, *spot, size_nm):
            y, x = spot
        mark, known = self._points.measure(image, frame, y, x), atoms.of(image)
        hidden = None if exactly or known is None else known.hidden_at(mark)
        if hidden is None:
            [chosen] = atoms.add(image, [mark])
        else:  # the model has localised it already, together with its neighbours
            chosen = hidden
            atoms.confirm([(image, chosen)])
        atoms.select({(image, chosen)})

    def drag(self, key: AtomKey, world: Any) -> None:
        """Draw an atom where it is dragged."""
        self._points.put(key, pixel_at(self._canvas.source_layer(key[0]), world)[1:])

    def drop(self, key: AtomKey, world: Any) -> None:
        """Move an atom to where it was dragged."""
        _, y, x = pixel_at(self._canvas.source_layer(key[0]), world)
        self._points.attempt(lambda: self._points.move({key: (y, x)}))
        self._state.atoms.select({key})

    # ---- keys
    @property
    def takes_keys(self) -> bool:
        """Whether keys act on atoms and not on the active layer."""
        if not self._on or self._canvas.viewer is None:
            return False
        active = self._canvas.active_layer
        draws = isinstance(active, Shapes | Labels)
        return not draws or getattr(active, "mode", "pan_zoom") == "pan_zoom"

    def end(self) -> None:
        """Stop marking."""
        self.on = False

    def toggle_magnifier(self) -> None:
        """Show or hide the magnifier."""
        self.magnifier_toggled.emit()

    def _selected(self) -> list[AtomKey]:
        """Return the selected atoms of the image; show a message if there is none in sight."""
        image = self.image()
        keys = [key for key in self._state.atoms.selection if key[0] == image]
        if keys:
            table = self._state.atoms.table(image)
            frames = table.loc[table["atom_id"].isin([i for _, i in keys]), "frame"]
            source = self._canvas.source_layer(image)
            if source is None or picking.shows_none(self._canvas.viewer, source, frames):
                self._state.atoms.request_focus(keys[0])
                self._canvas.show_message(
                    "Another frame was shown: here is the atom. Press the key again"
                )
                return []
        else:
            self._canvas.show_message(
                "Select an atom first: click it, or press Tab for the least certain one"
            )
        return keys

    def delete(self) -> None:
        """Delete the selected atoms."""
        if keys := self._selected():
            self._points.attempt(lambda: self._state.atoms.remove(keys))

    def confirm(self) -> None:
        """Confirm the selected atoms."""
        if keys := self._selected():
            self._points.attempt(lambda: self._state.atoms.confirm(keys))

    def toggle_uncertain(self) -> None:
        """Mark the selected atoms as uncertain; if all are, as certain."""
        if keys := self._selected():
            atoms = self._state.atoms
            table = atoms.table(keys[0][0])
            chosen = table["atom_id"].isin([i for _, i in keys])
            uncertain = not bool(table.loc[chosen, "uncertain"].all())
            self._points.attempt(lambda: atoms.set_uncertain(keys, uncertain))

    def nudge(self, key: str) -> None:
        """Move the selected atoms by half a pixel in the direction of an arrow key."""
        if keys := self._selected():
            image = keys[0][0]
            now = marks_of(self._state.atoms.table(image), [i for _, i in keys])
            dy, dx = (_NUDGE_PX * step for step in _NUDGES[key])
            places = {(image, i): (m.y_px + dy, m.x_px + dx) for i, m in now.items()}
            self._points.attempt(lambda: self._points.move(places))

    def next(self) -> None:
        """Go to the next least certain candidate."""
        image = self.image()
        if image is None:
            return
        table = self._state.atoms.table(image)
        waiting = table[(table["origin"] != PERSON).to_numpy()]
        if not len(waiting):
            self._canvas.show_message("All candidates have been checked")
            return
        order = sorted(
            zip(waiting["confidence"].tolist(), waiting["atom_id"].tolist(), strict=True)
        )
        shown = [candidate[1:] for candidate in self._candidates if candidate[0] == image]
        following = (c for c in order if not shown or c > shown[-1])
        self._candidates.append((image, *next(following, order[0])))
        self._show_candidate()

    def back(self) -> None:
        """Go back to the candidate that was shown before, also if it was confirmed."""
        image = self.image()
        there = set(self._state.atoms.table(image or "")["atom_id"])
        before = [c for c in self._candidates[:-1] if c[0] == image and c[2] in there]
        if before:
            self._candidates = before
            self._show_candidate()
        elif image is not None:
            self._canvas.show_message("No candidate was shown before this one")

    def _show_candidate(self) -> None:
        image, _, atom_id = self._candidates[-1]
        self._state.atoms.select({(image, atom_id)})
        self._state.atoms.request_focus((image, atom_id))

    # ---- text in the corner of the canvas
    def text(self) -> str:
        """Return what is marked and selected, and the keys; or how the support is drawn."""
        drawing = drawing_text(self._canvas.active_layer)
        return drawing or format_marking(self._state, self._state.current)


def format_marking(state: WindowState, image: str | None) -> str:
    """Return the text in the corner of the canvas: number of atoms, selection and keys."""
    table = state.atoms.table(image or "")
    n, n_uncertain = len(table), int(table["uncertain"].sum())
    first = "Marking atoms" + (", blind" if state.blind else "")
    first += f"   {pluralise(n, 'atom')}"
    first += f", {n_uncertain} uncertain" if n_uncertain else ""
    ids = [i for name, i in state.atoms.selection if name == image]
    table = table.assign(number=numbers(table, state.blind))
    chosen = table[table["atom_id"].isin(ids)]
    return "\n".join(
        [
            first + (f"   {_format_selected(chosen)}" if len(chosen) else ""),
            "click add   Alt exactly there   drag move   Del delete",
            "U uncertain   C confirm   arrows nudge   Tab least certain",
            "L magnifier   Esc end   F1 keys",
        ]
    )


def _format_selected(rows: pd.DataFrame) -> str:
    if len(rows) > 1:
        return f"{len(rows)} selected"
    row = rows.iloc[0]
    origin = "by a person" if row["origin"] == PERSON else f"{100 * row['confidence']:.0f} %"
    return f"atom {row['number']}: {origin}{', uncertain' if row['uncertain'] else ''}"


def _has_atom_at(table: pd.DataFrame, frame: int, y: float, x: float, size_nm: float) -> bool:
    """Return whether a table has an atom of this frame within `SAME_NM` of a place."""
    distance = np.hypot(table["y_px"].to_numpy(float) - y, table["x_px"].to_numpy(float) - x)
    distance = distance[table["frame"].to_numpy(int) == frame]
    return bool(len(distance)) and float(distance.min()) * size_nm < SAME_NM


class CanvasKeys(QObject):
    """Send the keys of shortcuts to a target, and no letters or digits to napari.

    Docks forward to the canvas of vispy the keys that their controls do not take.
    """

    def __init__(self, target: Marking, shortcuts: tuple[Shortcut, ...], canvas: Any) -> None:
        super().__init__()
        self._target = weakref.ref(target)
        self._native = canvas.native
        self._forwarded = canvas._scene_canvas.events.key_press
        self._shortcuts = {key: shortcut for shortcut in shortcuts for key in shortcut.keys}
        self._native.installEventFilter(self)
        self._forwarded.connect(self._on_forwarded, position="first")

    def end(self) -> None:
        """Stop handling keys."""
        self._forwarded.disconnect(self._on_forwarded)
        with suppress(RuntimeError):  # Qt has deleted the canvas
            self._native.removeEventFilter(self)
        self.deleteLater()

    def eventFilter(self, canvas: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        kinds = (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride)
        return event is not None and event.type() in kinds and self._takes(as_key_event(event))

    def _on_forwarded(self, event: Any) -> None:
        key = event.native
        if key is not None and not in_text_field(self._native.window(), key):  # which Esc leaves
            event.blocked = self._takes(key)

    def _takes(self, event: QKeyEvent) -> bool:
        """Run the shortcut of a key; return whether napari must not handle the key."""
        target = self._target()
        if target is None or not target.takes_keys:
            return False
        name = key_name(event)
        shortcut = self._shortcuts.get(name)
        # napari's letters and digits would delete atoms or change what a click does.
        if shortcut is None and not (len(name) == 1 and name.isalnum()):
            return False
        event.accept()
        if shortcut is not None and event.type() == QEvent.Type.KeyPress:
            target.run(shortcut, name)
        return True


class CanvasMouse:
    """Send clicks and drags to a target; an entry of ``mouse_drag_callbacks``."""

    def __init__(self, target: Marking) -> None:
        self._target = weakref.ref(target)

    def __call__(self, viewer: Any, event: Any) -> Iterator[None]:
        target = self._target()
        if target is None or not target.takes_clicks or event.button != 1:
            return
        start, moved = np.asarray(event.pos, float), False
        key = target.key_at(event.position)
        camera = compat.camera(viewer)
        pans = camera.mouse_pan
        try:
            if key is not None:
                camera.mouse_pan = False
            yield
            while event.type == "mouse_move":
                far = np.linalg.norm(np.asarray(event.pos, float) - start) > _CLICK_PX
                moved = moved or bool(far)
                if moved and key is not None:
                    target.drag(key, event.position)
                yield
        finally:
            camera.mouse_pan = pans
        if moved and key is not None:
            target.drop(key, event.position)
        elif not moved:
            extend, exactly = "Shift" in event.modifiers, "Alt" in event.modifiers
            target.click(event.position, key, extend, exactly)
