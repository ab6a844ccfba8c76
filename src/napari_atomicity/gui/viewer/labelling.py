"""Label mode: thousands of clusters are labelled with one hand, without leaving the image.

While a review is on it is the same mode with more keys, which act on the cluster that is shown.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

from napari.layers import Labels, Points, Shapes
from napari.utils.notifications import show_error
from psygnal import Signal, SignalInstance

from ...core.cluster_table import AGGREGATE, UNKNOWN, Key
from ...core.errors import AtomicityError
from ...state.review_queue import Queue
from ...state.reviewing import Reviewing
from ...state.window_state import WindowState
from ..controls.help import show_help
from ..controls.shortcuts import LABEL_MODE, REVIEW, Shortcut
from . import compat


class LabelModeHost(Protocol):
    """What label mode needs of the binding of a viewer."""

    state: WindowState
    points_made: SignalInstance

    @property
    def viewer(self) -> Any: ...

    def points_layer(self, image: str) -> Any: ...

    def image_of(self, layer: Any) -> str | None: ...

    def undo(self) -> None: ...

    def redo(self) -> None: ...

    def add_by_clicking(self) -> None: ...

    def exclude_regions(self) -> None: ...

    def split_selected(self) -> None: ...

    def merge_selected(self) -> None: ...


class LabelMode:
    """Number keys and their company, bound while the mode is on.

    napari's own keys of a points layer (1 deletes!) are only overlaid on these layers, and come
    back when the mode goes off. Label mode binds the points layers made here. A review binds the
    viewer and all layers but those in which a person draws, so that it does not matter which of
    them is active.

    Signals: ``changed(bool)`` when it goes on or off; ``review_changed(review or None)``.
    """

    changed = Signal(bool)
    review_changed = Signal(object)

    def __init__(self, binding: LabelModeHost) -> None:
        self._binding = weakref.ref(binding)
        # What is bound, and what its keys did before.
        self._bound: list[tuple[weakref.ref[Any], dict[str, Any]]] = []
        self._on = False
        self._review: Reviewing | None = None
        self._silent = False
        self.kept: dict[str, tuple[Queue, set[Key]]] = {}
        """Queues drawn at random that can be gone on with, by order, and what was no cluster."""
        binding.points_made.connect(self._on_points_made)
        binding.viewer.layers.events.inserted.connect(self._on_layer)
        binding.state.analysis_changed.connect(self._say)
        binding.state.project_changed.connect(self._on_project)

    @property
    def on(self) -> bool:
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if self._binding() is None or on == self._on:
            return
        self._on = on
        self._bind_anew()
        self.changed.emit(on)

    @property
    def silent(self) -> bool:
        """Whether another mode speaks in the corner of the canvas."""
        return self._silent

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silent = silent
        self._say()

    @property
    def review(self) -> Reviewing | None:
        """The review that is on; set it to start one, or to None to end it."""
        return self._review

    @review.setter
    def review(self, review: Reviewing | None) -> None:
        before, binding = self._review, self._binding()
        if before is review or binding is None:
            return
        if before is not None:
            before.close()
            if before.queue.strata:
                self.kept[before.queue.request.order] = before.queue, before.removed_keys
        self._review = review
        self._bind_anew()
        self.review_changed.emit(review)
        if review is not None:
            review.moved.connect(self._say)
            review.show()
            focus_canvas(binding.viewer)

    def _on_project(self) -> None:
        """Other clusters: what was reviewed is not there any more."""
        self.review = None
        self.kept.clear()

    # ---- keys
    @property
    def shortcuts(self) -> tuple[Shortcut, ...]:
        """Those that hold now."""
        if self._review is not None:
            return REVIEW
        return LABEL_MODE if self._on else ()

    def _bind_anew(self) -> None:
        binding = self._binding()
        for reference, before in self._bound:
            _unbind(reference(), before)
        self._bound.clear()
        if binding is not None and binding.viewer is not None:
            for layer in binding.viewer.layers:
                self._bind(layer)
            if self._review is not None:
                self._bind_keys(binding.viewer)
        self._say()

    def _on_layer(self, event: Any) -> None:
        self._bind(event.value)

    def _on_points_made(self, layer: Any) -> None:
        self._bind(layer)

    def _bind(self, layer: Any) -> None:
        binding = self._binding()
        if binding is None or not self.shortcuts or any(r() is layer for r, _ in self._bound):
            return
        points = isinstance(layer, Points)
        # A layer of texts is ours too, and nobody's business.
        ours = points and layer is binding.points_layer(binding.image_of(layer) or "")
        if self._review is None:
            if ours:
                self._bind_keys(layer)
                layer.mode = "select"
        elif not isinstance(layer, Shapes | Labels) and (not points or binding.image_of(layer)):
            self._bind_keys(layer)
            if ours:
                # A click goes to a cluster, and nothing can be dragged by mistake.
                layer.mode = "pan_zoom"

    def _bind_keys(self, target: Any) -> None:
        before = {
            key: target.bind_key(key, self._callback(shortcut), overwrite=True)
            for shortcut in self.shortcuts
            for key in shortcut.keys
        }
        self._bound.append((weakref.ref(target), before))

    def _callback(self, shortcut: Shortcut) -> Callable[[Any], None]:
        reference = weakref.ref(self)

        def pressed(target: Any) -> None:
            mode = reference()
            if mode is not None:
                mode.perform(shortcut.action, shortcut.argument)

        return pressed

    def perform(self, action: str, argument: int = 0) -> None:
        """Do what a shortcut stands for; what can't be done is said."""
        binding = self._binding()
        if binding is None:
            return
        try:
            if action == "help":
                show_help(binding.viewer)
            elif self._review is None:
                perform(binding, action, argument)
            elif action == "end":
                self.review = None
            else:
                perform_in_review(binding, self._review, action, argument)
        except AtomicityError as error:
            show_error(str(error))

    # ---- words
    def _say(self, *_: Any) -> None:
        """The mode is seen in the image: a key must never do what one does not expect."""
        binding = self._binding()
        if binding is None or binding.viewer is None or self._silent:
            return
        overlay = compat.text_overlay(binding.viewer)
        overlay.visible = self._on or self._review is not None
        overlay.position = "top_left"
        words = overlay.text
        if self._review is not None:
            words = format_review(self._review)
        elif self._on:
            words = "Label mode\n" + format_keys(binding.state)
        if words != overlay.text:  # napari lays it out anew at each assignment
            overlay.text = words


def _unbind(target: Any, before: dict[str, Any]) -> None:
    if target is None:
        return
    for key, function in before.items():
        target.bind_key(key, function, overwrite=True)
    if isinstance(target, Points) and target.mode == "select":
        target.mode = "pan_zoom"


def focus_canvas(viewer: Any) -> None:
    """Let keys go to the canvas: napari has no public name for it."""
    viewer.window._qt_viewer.canvas.native.setFocus()


def format_keys(state: WindowState) -> str:
    """``1 Pt19   2 Pt30 … 0 unknown   A aggregate``"""
    numbered = [f"{i} {name}" for i, name in enumerate(state.classes()[:9], start=1)]
    return "   ".join([*numbered, f"0 {UNKNOWN}", f"A {AGGREGATE}"])


def format_shown(review: Reviewing) -> str:
    """``field.tif, cluster 12: Pt41 0.53``, and what a person has said."""
    image, cluster_id = review.key
    table = review.state.table(image)
    row = table[table["cluster_id"] == cluster_id]
    if not len(row):
        return f"{image}, cluster {cluster_id}: not a cluster"
    predicted, said = row["label_predicted"].iloc[0], row["label_corrected"].iloc[0]
    confidence = row["confidence"].iloc[0]
    machine = f"{predicted} {confidence:.2f}" if confidence > 0 else predicted
    words = [w for w in (machine, f"{said} by a person" if said else "") if w]
    return f"{image}, cluster {cluster_id}" + (f": {', '.join(words)}" if words else "")


def format_review(review: Reviewing) -> str:
    """Lines for the corner of the canvas: how far one is, what is shown, and the keys."""
    first = f"Review   {review.n_done} of {review.n}"
    if review.finished:
        first += ", all done: Esc ends"
    remark = review.remarks.get(review.key, "")
    agree = [] if review.state.blind else ["Enter agree"]
    keys = ["X not a cluster", *agree, "N next", "P back", "Esc end", "F1 keys"]
    lines = [
        f"{first}   {format_shown(review)}",
        remark,
        format_keys(review.state),
        "   ".join(keys),
    ]
    return "\n".join(line for line in lines if line)


def perform(binding: LabelModeHost, action: str, argument: int = 0) -> None:
    """Do in label mode what a shortcut stands for."""
    state = binding.state
    if action == "undo":
        binding.undo()
    elif action == "redo":
        binding.redo()
    elif action == "next":
        go_to_most_uncertain(state)
    elif action == "add":
        binding.add_by_clicking()
    elif action == "exclude":
        binding.exclude_regions()
    elif not state.selection:
        binding.viewer.status = "Select clusters first: click, or drag around them"
    elif action == "split":
        binding.split_selected()
    elif action == "merge":
        binding.merge_selected()
    elif action == "label":
        label_selection(state, argument)
    elif action == "aggregate":
        state.clusters.relabel(state.selection, AGGREGATE)
    elif action == "unlabel":
        state.clusters.relabel(state.selection, "")
    elif action == "delete":
        state.clusters.remove(state.selection)


def perform_in_review(
    binding: LabelModeHost, review: Reviewing, action: str, argument: int = 0
) -> None:
    """Do in a review what a shortcut stands for: to the cluster that is shown.

    If others are selected, it is done to them, and the review goes on where it was.
    """
    state = binding.state
    label = label_of(state, action, argument)
    if action in ("undo", "redo"):
        with review.following_changes():
            binding.undo() if action == "undo" else binding.redo()
    elif action == "next":
        if not review.next():
            binding.viewer.status = "There is no other one without an answer"
    elif action == "back":
        if not review.back():
            binding.viewer.status = "This is the first one"
    elif state.selection - {review.key}:
        _answer_for_others(state, action, label)
        review.show()
    elif action == "unlabel":
        if not review.take_back():
            binding.viewer.status = "Nobody has labelled this one: P goes back, Ctrl+Z undoes"
    elif action == "remove":
        review.not_a_cluster()
    elif action == "agree":
        if not review.agree():
            binding.viewer.status = "There is no prediction to agree with"
    elif label is not None:
        review.answer(label)


def _answer_for_others(state: WindowState, action: str, label: str | None) -> None:
    if action == "remove":
        state.clusters.remove(state.selection)
    elif action == "agree":
        table = state.table()
        keys = zip(table["image"], table["cluster_id"], strict=True)
        predicted = dict(zip(keys, table["label_predicted"], strict=True))
        state.clusters.relabel_each({k: predicted[k] for k in state.selection if predicted.get(k)})
    elif action == "unlabel":
        state.clusters.relabel(state.selection, "")
    elif label is not None:
        state.clusters.relabel(state.selection, label)


def label_of(state: WindowState, action: str, number: int) -> str | None:
    """The label that a key gives: the n-th class, counted from 1, 0 for unknown, or aggregate."""
    if action == "aggregate":
        return AGGREGATE
    classes = state.classes()
    if action != "label" or number > len(classes):
        return None
    return classes[number - 1] if number else UNKNOWN


def label_selection(state: WindowState, number: int) -> None:
    """The selected clusters are of the n-th class, counted from 1; 0 is unknown."""
    label = label_of(state, "label", number)
    if label is not None:
        state.clusters.relabel(state.selection, label)


def go_to_most_uncertain(state: WindowState) -> None:
    """Select the least certain cluster of the current image that nobody has labelled.

    From a selected cluster the next one in that order, so that a review goes on.
    """
    image = state.current
    table = state.table(image) if image else state.table()
    waiting = table[(table["label_corrected"] == "") & (table["label_predicted"] != "")]
    if image is None or waiting.empty:
        return
    order = [int(i) for i in waiting.sort_values("confidence", kind="stable")["cluster_id"]]
    chosen = next((i for name, i in state.selection if name == image and i in order), None)
    following = 0 if chosen is None else (order.index(chosen) + 1) % len(order)
    key: Key = (image, order[following])
    state.select({key})
    state.request_focus(key)
