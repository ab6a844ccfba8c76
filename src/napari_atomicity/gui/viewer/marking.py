"""Marking atoms by hand: a click adds, a drag moves, keys do the rest.

Keys are taken from the canvas before napari sees them (Tab would leave it, 1 would delete), but
not while a person draws. As everywhere, each thing that is done is one edit of the session.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Shapes
from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent, QKeySequence

from ...atoms.marks import SAME_NM, Mark, mark_at
from ...atoms.snapping import snap_to_spot
from ...atoms.table import PERSON
from ...state.atom_store import AtomKey, marks_of
from ..controls.help import show_help
from ..controls.shortcuts import MARKING, Shortcut
from . import compat
from .labelling import focus_canvas

if TYPE_CHECKING:
    from .atoms import AtomView
    from .binding import Binding

_CLICK_PX = 4
_NUDGE_PX = 0.5
_NUDGES = {"Left": (0, -1), "Right": (0, 1), "Up": (-1, 0), "Down": (1, 0)}
_EDGE_PX = 0.49
"""So far from the centres of the outer pixels: half a pixel may be rounded out of the image."""
BESIDE = "There is no image at this place"
_QT_NAMES = {"Del": "Delete", "Esc": "Escape", "Backtab": "Tab"}


class Marking:
    """The mode in which a click marks an atom.

    Parameters
    ----------
    view
        Shows the atoms.
    binding
        Of its viewer.
    """

    def __init__(self, view: AtomView, binding: Binding) -> None:
        self._view = weakref.ref(view)
        self._binding = weakref.ref(binding)
        self._on = False
        self._keys: _Keys | None = None
        # What napari does at a double click.
        self._put_aside: list[Any] = []
        # The candidate that Tab went to last: its image, probability and number.
        self._place: tuple[str, float, int] | None = None
        binding.viewer.mouse_drag_callbacks.append(_Mouse(self))
        binding.state.atoms.changed.connect(self.say)
        binding.state.atoms.selection_changed.connect(self.say)
        binding.state.current_changed.connect(self._on_current)
        binding.state.project_changed.connect(self._on_project)
        binding.label_mode.review_changed.connect(self._on_review)

    @property
    def on(self) -> bool:
        return self._on

    # ---- on and off
    def start(self) -> bool:
        """Switch it on; whether that can be."""
        binding, view = self._binding(), self._view()
        if binding is None or view is None or binding.viewer is None:
            return False
        if binding.state.read_only:
            show_info("This project is open elsewhere: atoms can be looked at, but not marked.")
            return False
        image = self.image()
        if image is None:
            show_info("Open an image first: then atoms can be marked in it.")
            return False
        binding.label_mode.review = None
        self._on = True
        self._place = None
        viewer = binding.viewer
        view.ready(image)
        self._keys = _Keys(self, viewer.window._qt_viewer.canvas.native)
        # Two clicks one after the other are two atoms, and no wish to go nearer.
        self._put_aside = list(viewer.mouse_double_click_callbacks)
        viewer.mouse_double_click_callbacks.clear()
        binding.label_mode.silent = True
        self.say()
        focus_canvas(viewer)
        return True

    def stop(self) -> None:
        """Switch it off: clicks and keys are napari's again."""
        self._on = False
        if self._keys is not None:
            self._keys.end()
            self._keys = None
        binding = self._binding()
        if binding is None or binding.viewer is None:
            return
        binding.viewer.mouse_double_click_callbacks.extend(self._put_aside)
        self._put_aside = []
        compat.text_overlay(binding.viewer).visible = False
        binding.label_mode.silent = False

    def _on_project(self) -> None:
        self._place = None
        binding, view = self._binding(), self._view()
        if self._on and binding is not None and view is not None:
            if binding.state.read_only or not binding.state.images:
                view.marking = False
            else:
                self.say()

    def _on_review(self, review: object) -> None:
        view = self._view()
        if review is not None and view is not None:
            view.marking = False

    def _on_current(self, image: str | None) -> None:
        self.say()

    # ---- where
    def image(self) -> str | None:
        """The image that is marked: the one that is looked at."""
        binding = self._binding()
        if binding is None or binding.viewer is None:
            return None
        current = binding.state.current
        if current is not None and binding.source_layer(current) is not None:
            return current
        if current is not None:  # it is on its way to the stage
            return None
        active = binding.viewer.layers.selection.active
        layers = binding.image_layers()
        if not layers:
            return None
        return binding.ensure_image(active if active in layers else layers[-1])

    @property
    def listens(self) -> bool:
        """Whether clicks and keys mean atoms, and nothing to the layer that is active."""
        binding = self._binding()
        if not self._on or binding is None or binding.viewer is None:
            return False
        active = binding.viewer.layers.selection.active
        return getattr(active, "mode", "pan_zoom") == "pan_zoom" or not isinstance(
            active, Shapes | Labels
        )

    def takes_clicks(self) -> bool:
        """Whether a click adds or selects an atom."""
        binding = self._binding()
        if not self._on or binding is None or binding.viewer is None:
            return False
        active = binding.viewer.layers.selection.active
        return getattr(active, "mode", "pan_zoom") == "pan_zoom"

    def _measured(self, image: str, frame: int, y_px: float, x_px: float) -> Mark:
        binding = self._binding()
        assert binding is not None
        size_nm = binding.state.micrograph(image).calibrated()
        return mark_at(frame_of(binding, image, frame), y_px, x_px, size_nm, frame)

    # ---- what a click does
    def key_at(self, world: Any) -> AtomKey | None:
        """The atom at a place of the scene."""
        view, image = self._view(), self.image()
        return None if view is None or image is None else view.key_at(image, world)

    def click(self, world: Any, key: AtomKey | None, extend: bool, exactly: bool) -> None:
        """An atom is selected; where there is none, one is added."""
        binding = self._binding()
        if binding is None:
            return
        atoms = binding.state.atoms
        if key is not None:
            atoms.select(atoms.selection ^ {key} if extend else {key})
        elif extend:  # it was an atom that was meant
            return
        else:
            self._attempt(lambda: self._add(world, exactly))

    def _add(self, world: Any, exactly: bool) -> None:
        binding, image = self._binding(), self.image()
        if binding is None or image is None:
            return
        frame, y, x = place_of(binding.source_layer(image), world)
        pixels = frame_of(binding, image, frame)
        if not holds(pixels.shape, y, x):
            binding.viewer.status = BESIDE
            return
        size_nm = binding.state.micrograph(image).calibrated()
        atoms = binding.state.atoms
        spot = None if exactly else snap_to_spot(pixels, y, x, size_nm)
        # Not on top of another atom: this one was meant to lie beside it.
        if spot is not None and self._nearest(atoms.table(image), frame, *spot, size_nm) is None:
            y, x = spot
        mark, known = self._measured(image, frame, y, x), atoms.of(image)
        hidden = None if exactly or known is None else known.hidden_at(mark)
        if hidden is None:
            [chosen] = atoms.add(image, [mark])
        else:  # the model has its place already, fitted together with its neighbours
            chosen = hidden
            atoms.confirm([(image, chosen)])
        atoms.select({(image, chosen)})

    @staticmethod
    def _nearest(table: Any, frame: int, y: float, x: float, size_nm: float) -> int | None:
        """The atom of a table that is the one at a place, if any is."""
        off = np.hypot(table["y_px"].to_numpy(float) - y, table["x_px"].to_numpy(float) - x)
        off = np.where(table["frame"].to_numpy(int) == frame, off, np.inf)
        if not len(off) or off.min() * size_nm >= SAME_NM:
            return None
        return int(table["atom_id"].iloc[int(np.argmin(off))])

    def drag(self, key: AtomKey, world: Any) -> None:
        """An atom is under way."""
        binding, view = self._binding(), self._view()
        if binding is not None and view is not None:
            view.put(key, place_of(binding.source_layer(key[0]), world)[1:])

    def drop(self, key: AtomKey, world: Any) -> None:
        """It has arrived."""
        binding = self._binding()
        if binding is not None:
            _, y, x = place_of(binding.source_layer(key[0]), world)
            self._attempt(lambda: self.move({key: (y, x)}))
            binding.state.atoms.select({key})

    def move(self, places: dict[AtomKey, tuple[float, float]]) -> None:
        """Atoms of one image elsewhere, measured there; doubts about them stay.

        What would leave the image stays at its edge.
        """
        binding = self._binding()
        if binding is None or not places:
            return
        image = next(iter(places))[0]
        last = np.array(binding.state.micrograph(image).shape_px) - 1
        held = {
            key: np.clip(place, -_EDGE_PX, last + _EDGE_PX).tolist()
            for key, place in places.items()
        }
        if any(tuple(held[key]) != tuple(place) for key, place in places.items()):
            binding.viewer.status = BESIDE
        now = marks_of(binding.state.atoms.table(image), [i for _, i in places])
        marks = {
            i: replace(self._measured(image, now[i].frame, y, x), uncertain=now[i].uncertain)
            for (_, i), (y, x) in held.items()
            if i in now
        }
        binding.state.atoms.move(image, marks)

    # ---- what a key does
    def perform(self, action: str, key: str) -> None:
        """Do what a shortcut stands for; what can't be done is said."""
        binding, view = self._binding(), self._view()
        if binding is None or view is None:
            return
        if action == "undo":
            binding.undo()
        elif action == "redo":
            binding.redo()
        elif action == "end":
            view.marking = False
        elif action == "loupe":
            view.loupe = not view.loupe
        elif action == "help":
            show_help(binding.viewer)
        elif action in ("next", "back"):
            self._go(1 if action == "next" else -1)
        else:
            self._to_selected(action, key)

    def _to_selected(self, action: str, key: str) -> None:
        binding, image = self._binding(), self.image()
        assert binding is not None
        atoms = binding.state.atoms
        keys = [k for k in atoms.selection if k[0] == image]
        if not keys or image is None:
            binding.viewer.status = "Select an atom first: click it, or Tab to the least certain"
        elif action == "delete":
            self._attempt(lambda: atoms.remove(keys))
        elif action == "confirm":
            self._attempt(lambda: atoms.confirm(keys))
        elif action == "uncertain":
            table = atoms.table(image)
            chosen = table["atom_id"].isin([i for _, i in keys])
            doubted = bool(table.loc[chosen, "uncertain"].all())
            self._attempt(lambda: atoms.set_uncertain(keys, not doubted))
        elif action == "nudge":
            now = marks_of(atoms.table(image), [i for _, i in keys])
            dy, dx = (_NUDGE_PX * step for step in _NUDGES[key])
            self._attempt(
                lambda: self.move({(image, i): (m.y_px + dy, m.x_px + dx) for i, m in now.items()})
            )

    def _go(self, step: int) -> None:
        """To the candidate that is least certain after the one that Tab came to, or before it."""
        binding, image = self._binding(), self.image()
        if binding is None or image is None:
            return
        atoms = binding.state.atoms
        table = atoms.table(image)
        waiting = table[(table["origin"] != PERSON).to_numpy()]
        if not len(waiting):
            binding.viewer.status = "There is no candidate that nobody has looked at"
            return
        order = sorted(
            zip(waiting["confidence"].tolist(), waiting["atom_id"].tolist(), strict=True)
        )
        here = self._place[1:] if self._place is not None and self._place[0] == image else None
        if here is None:
            chosen = order[0 if step > 0 else -1]
        elif step > 0:
            chosen = next((c for c in order if c > here), order[0])
        else:
            chosen = next((c for c in reversed(order) if c < here), order[-1])
        self._place = (image, *chosen)
        key = (image, chosen[1])
        atoms.select({key})
        atoms.request_focus(key)

    def _attempt(self, edit: Callable[[], object]) -> None:
        view = self._view()
        if view is not None:
            view.attempt(edit)

    # ---- words
    def say(self, *_: object) -> None:
        """The mode is seen in the image: a click must never do what one does not expect."""
        binding = self._binding()
        if not self._on or binding is None or binding.viewer is None:
            return
        overlay = compat.text_overlay(binding.viewer)
        words = in_words(binding, binding.state.current)
        overlay.position = "top_left"
        if words != overlay.text:  # napari lays it out anew at each assignment
            overlay.text = words
        overlay.visible = True


def in_words(binding: Binding, image: str | None) -> str:
    """Lines for the corner of the canvas: how many atoms, which is selected, and the keys."""
    atoms = binding.state.atoms
    table = atoms.table(image or "")
    n, doubtful = len(table), int(table["uncertain"].sum())
    first = "Marking atoms" + (", blind" if binding.state.blind else "")
    first += f"   {n} atom{'s' * (n != 1)}" + (f", {doubtful} uncertain" if doubtful else "")
    chosen = table[table["atom_id"].isin([i for name, i in atoms.selection if name == image])]
    return "\n".join(
        [
            first + (f"   {_format_selected(chosen)}" if len(chosen) else ""),
            "click add   Alt exactly there   drag move   Del delete",
            "U uncertain   C confirm   arrows nudge   Tab least certain",
            "L loupe   Esc end   F1 keys",
        ]
    )


def _format_selected(rows: Any) -> str:
    if len(rows) > 1:
        return f"{len(rows)} selected"
    row = rows.iloc[0]
    said = "by a person" if row["origin"] == PERSON else f"{row['confidence']:.0%}"
    return f"atom {row['atom_id']}: {said}{', uncertain' if row['uncertain'] else ''}"


def frame_of(binding: Binding, image: str, frame: int) -> Any:
    """A frame (Y, X), of which parts are cut; see `Micrograph.frame`."""
    micrograph = binding.state.micrograph(image)
    return micrograph.frame(min(max(frame, 0), micrograph.n_frames - 1))


def holds(shape: tuple[int, ...], y: float, x: float) -> bool:
    """Whether an image (Y, X) has a pixel at this place."""
    return -0.5 <= y < shape[0] - 0.5 and -0.5 <= x < shape[1] - 0.5


def place_of(source: Any, world: Any) -> tuple[int, float, float]:
    """Frame and (y, x) in pixels of a place of the scene."""
    place = np.asarray(source.world_to_data(world), float)
    frame = round(float(place[0])) if len(place) == 3 else 0
    return frame, float(place[-2]), float(place[-1])


class _Mouse:
    """Clicks and drags, for `mouse_drag_callbacks`."""

    def __init__(self, mode: Marking) -> None:
        self._mode = weakref.ref(mode)

    def __call__(self, viewer: Any, event: Any) -> Iterator[None]:
        mode = self._mode()
        if mode is None or not mode.takes_clicks() or event.button != 1:
            return
        start, moved = np.asarray(event.pos, float), False
        key = mode.key_at(event.position)
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
                    mode.drag(key, event.position)
                yield
        finally:
            camera.mouse_pan = pans
        if moved and key is not None:
            mode.drop(key, event.position)
        elif not moved:
            mode.click(event.position, key, "Shift" in event.modifiers, "Alt" in event.modifiers)


class _Keys(QObject):
    """Takes keys from the canvas, as long as it lives."""

    def __init__(self, mode: Marking, canvas: QObject) -> None:
        super().__init__()
        self._mode = weakref.ref(mode)
        self._canvas = canvas
        self._known = {key: shortcut for shortcut in MARKING for key in shortcut.keys}
        canvas.installEventFilter(self)

    def end(self) -> None:
        """Let go of the canvas."""
        with suppress(RuntimeError):  # it went before
            self._canvas.removeEventFilter(self)
        self.deleteLater()

    def eventFilter(self, canvas: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        mode = self._mode()
        kinds = (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride)
        if event is None or event.type() not in kinds or mode is None or not mode.listens:
            return False
        event = as_key_event(event)
        name = key_name(event)
        shortcut: Shortcut | None = self._known.get(name)
        # A letter or number of napari's would delete atoms, or change what clicks do.
        if shortcut is None and not (len(name) == 1 and name.isalnum()):
            return False
        event.accept()
        if shortcut is not None and event.type() == QEvent.Type.KeyPress:
            mode.perform(shortcut.action, name)
        return True


def as_key_event(event: QEvent) -> Any:
    """An event of a key, as one.

    vispy keeps the last event of the mouse, whose address Qt may use again; PyQt would then hand
    out a key as that `QMouseEvent`, and the key would be lost.
    """
    if isinstance(event, QKeyEvent):
        return event
    from qtpy import sip

    return sip.wrapinstance(sip.unwrapinstance(event), QKeyEvent)


def key_name(event: Any) -> str:
    """``Control-Shift-Z``, as napari writes the key of an event."""
    name = QKeySequence(event.key()).toString(QKeySequence.SequenceFormat.PortableText)
    name = _QT_NAMES.get(name, name)
    modifiers = event.modifiers()
    held = (
        ("Control", Qt.KeyboardModifier.ControlModifier),
        ("Alt", Qt.KeyboardModifier.AltModifier),
        ("Shift", Qt.KeyboardModifier.ShiftModifier),
    )
    return "-".join([*(word for word, flag in held if modifiers & flag), name])
