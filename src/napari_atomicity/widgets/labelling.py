"""Label mode: thousands of clusters are labelled with one hand, without leaving the image."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

from psygnal import Signal, SignalInstance

from ..session import Key, Session
from ..table import AGGREGATE, UNKNOWN
from . import compat
from .shortcuts import LABEL_MODE, Shortcut


class Window(Protocol):
    """What label mode needs of the binding of a viewer."""

    session: Session
    points_made: SignalInstance

    @property
    def viewer(self) -> Any: ...

    def points_layer(self, image: str) -> Any: ...

    def undo(self) -> None: ...

    def redo(self) -> None: ...


class LabelMode:
    """Number keys and their company, bound to the points layers while the mode is on.

    napari's own keys of a points layer (1 deletes!) are only overlaid on these layers, and come
    back when the mode goes off.

    Signals: ``changed(bool)`` when it goes on or off.
    """

    changed = Signal(bool)

    def __init__(self, binding: Window) -> None:
        self._binding = weakref.ref(binding)
        self._bound: list[weakref.ref[Any]] = []
        self._on = False
        binding.points_made.connect(self._bind)
        binding.session.analysis_changed.connect(self._say)

    @property
    def on(self) -> bool:
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        binding = self._binding()
        if binding is None or on == self._on:
            return
        self._on = on
        if on:
            for image in binding.session.images:
                layer = binding.points_layer(image)
                if layer is not None:
                    self._bind(layer)
        else:
            for reference in self._bound:
                self._unbind(reference())
            self._bound.clear()
        self._say()
        self.changed.emit(on)

    def _bind(self, layer: Any) -> None:
        if not self._on or any(r() is layer for r in self._bound):
            return
        self._bound.append(weakref.ref(layer))
        for shortcut in LABEL_MODE:
            for key in shortcut.keys:
                layer.bind_key(key, self._callback(shortcut), overwrite=True)
        layer.mode = "select"

    def _unbind(self, layer: Any) -> None:
        if layer is None:
            return
        for shortcut in LABEL_MODE:
            for key in shortcut.keys:
                layer.bind_key(key, None)
        layer.mode = "pan_zoom"

    def _callback(self, shortcut: Shortcut) -> Callable[[Any], None]:
        reference = self._binding

        def pressed(layer: Any) -> None:
            binding = reference()
            if binding is not None:
                perform(binding, shortcut.action, shortcut.argument)

        return pressed

    def _say(self, *_: Any) -> None:
        """The mode is seen in the image: a key must never do what one does not expect."""
        binding = self._binding()
        if binding is None or binding.viewer is None:
            return
        overlay = compat.text_overlay(binding.viewer)
        overlay.visible = self._on
        overlay.position = "top_left"
        if self._on:
            overlay.text = "Label mode   " + keys_in_words(binding.session)


def keys_in_words(session: Session) -> str:
    """``1 Pt19   2 Pt30 … 0 unknown   A aggregate``"""
    numbered = [f"{i} {name}" for i, name in enumerate(session.classes()[:9], start=1)]
    return "   ".join([*numbered, f"0 {UNKNOWN}", f"A {AGGREGATE}"])


def perform(binding: Window, action: str, argument: int = 0) -> None:
    """Do what a shortcut stands for."""
    session = binding.session
    if action == "undo":
        binding.undo()
    elif action == "redo":
        binding.redo()
    elif action == "next":
        go_to_least_certain(session)
    elif not session.selection:
        binding.viewer.status = "Select clusters first: click, or drag around them"
    elif action == "label":
        label_selection(session, argument)
    elif action == "aggregate":
        session.relabel(session.selection, AGGREGATE)
    elif action == "unlabel":
        session.relabel(session.selection, "")
    elif action == "delete":
        delete_selection(session)


def label_selection(session: Session, number: int) -> None:
    """The selected clusters are of the n-th class, counted from 1; 0 is unknown."""
    classes = session.classes()
    if number == 0:
        session.relabel(session.selection, UNKNOWN)
    elif number <= len(classes):
        session.relabel(session.selection, classes[number - 1])


def delete_selection(session: Session) -> None:
    by_image: dict[str, list[int]] = {}
    for image, cluster_id in session.selection:
        by_image.setdefault(image, []).append(cluster_id)
    for image, ids in by_image.items():
        session.remove_clusters(image, ids)


def go_to_least_certain(session: Session) -> None:
    """Select the least certain cluster of the current image that nobody has labelled.

    From a selected cluster the next one in that order, so that a review goes on.
    """
    image = session.current
    table = session.table(image) if image else session.table()
    waiting = table[(table["label_corrected"] == "") & (table["label_predicted"] != "")]
    if image is None or waiting.empty:
        return
    order = [int(i) for i in waiting.sort_values("confidence", kind="stable")["cluster_id"]]
    chosen = next((i for name, i in session.selection if name == image and i in order), None)
    following = 0 if chosen is None else (order.index(chosen) + 1) % len(order)
    key: Key = (image, order[following])
    session.select({key})
    session.request_focus(key)
