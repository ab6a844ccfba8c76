"""Label mode: number keys label the selected clusters in the image.

During a review more keys are bound, which act on the cluster that is shown.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from napari.settings import get_settings
from psygnal import Signal

from ....core.tables.cluster_table import AGGREGATE, UNKNOWN, Key, class_confidence
from ....core.text import pluralise
from ....state.history import replaced_by
from ....state.review_queue import Queue
from ....state.reviewing import EXCLUDED, Reviewing
from ....state.window_state import WindowState
from ...controls.questions import attempt
from ...controls.shortcuts import LABEL_MODE, REVIEW, Shortcut, format_line
from ..canvas import Canvas
from ..layers import compat
from ..layers.layer_group import ROLE
from ..layers.micrographs import is_micrograph
from ..layers.picking import leave_text_margin
from ..layers.points import ATOMS, CLUSTERS, PointsKind
from ..models import explained_class_of, model_id_of
from .edit_commands import EditCommands
from .label_actions import LabelActions, ReviewActions
from .regions import drawing_text

FONT_SIZE = 8
"""Of the text in the corner of the canvas, which covers a part of the image."""
_SHOW_CLUSTERS = ("outlines", "texts", "tracks")
"""Kinds of layers that show clusters and in which nobody draws."""


class KeyMode:
    """A mode in which keys have other actions; a text in the corner of the canvas lists them.

    Signals: ``changed(bool)`` when the mode is switched on or off.
    """

    changed = Signal(bool)

    def __init__(self, canvas: Canvas, actions: Any) -> None:
        self._canvas = canvas
        self._state = canvas.state
        self._actions = actions
        self._overlay = compat.text_overlay(canvas.viewer)
        self._on = False
        self.silent = False
        """Whether another mode writes into the corner of the canvas."""
        self._has_helped = False
        # Last: the status bar takes up napari's keys of the layer before.
        canvas.viewer.events.help.connect(self._show_help, position="last")

    @property
    def on(self) -> bool:
        """Whether the mode is on."""
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on != self._on:
            self._switch(on)
            self.changed.emit(self._on)

    def _switch(self, on: bool) -> None:
        """Switch the mode on, if that is possible, or off."""
        raise NotImplementedError

    def run(self, shortcut: Shortcut, key: str) -> None:
        """Run a shortcut; show the error if it is refused. The message of the last one ends."""
        self._canvas.end_message()
        attempt(lambda: shortcut.run(self._actions, key))

    def text(self) -> str:
        """Return the text in the corner of the canvas; "" if there is none."""
        raise NotImplementedError

    def key_line(self) -> str:
        """Return the keys in the status line; "" where those of napari count."""
        raise NotImplementedError

    def _show_help(self, *_: object) -> None:
        """Show the keys of the mode in the status line, or those of napari again."""
        viewer, active = self._canvas.viewer, self._canvas.active_layer
        if viewer is None or self.silent:
            return
        text, had_keys = self.key_line(), self._has_helped
        self._has_helped = bool(text)
        if not text and had_keys:
            text = "" if active is None else active.help
        if (text or had_keys) and viewer.help != text:
            viewer.help = text

    def show_text(self, *_: object) -> None:
        """Show the text in the corner of the canvas, or hide it, unless the mode is silent."""
        self._show_help()
        if self.silent:
            return
        overlay, text = self._overlay, self.text()
        overlay.visible = bool(text)
        overlay.position = "top_left"
        overlay.font_size = FONT_SIZE
        if text and text != overlay.text:  # napari lays it out again at each assignment
            overlay.text = text


class LabelMode(KeyMode):
    """Bind the keys of label mode or of a review while one of them is on.

    napari's own keys of a points layer (1 deletes!) are replaced on these layers and restored
    when the mode is switched off. Label mode binds keys to the layers of images, their class maps,
    clusters, outlines, texts, tracks and atoms: a cluster can be selected while any of them is
    active. A review binds keys to the viewer and to all layers except those in which a person
    draws, so that the keys work whichever layer is active.

    Signals: ``changed(bool)`` when label mode is switched on or off; ``review_changed(review or
    None)``; ``review_moved()`` when a review shows another cluster or an answer has changed.
    """

    review_changed = Signal(object)
    review_moved = Signal()

    def __init__(self, canvas: Canvas, edits: EditCommands) -> None:
        super().__init__(canvas, LabelActions(edits))
        self._edits = edits
        # What is bound, and what its keys did before.
        self._bound: list[tuple[weakref.ref[Any], dict[str, Any]]] = []
        self._review: Reviewing | None = None
        self.kept: dict[str, tuple[Queue, dict[Key, str]]] = {}
        """Random queues that can be resumed, by order, and why clusters of them are gone."""
        canvas.viewer.layers.events.inserted.connect(self._on_layer)
        canvas.viewer.events.reset_view.connect(self._on_view_fitted)
        canvas.viewer.layers.selection.events.active.connect(self._on_active)
        canvas.state.changed.connect(self._on_change)
        canvas.class_maps_changed.connect(self.show_text)
        canvas.state.map_options_changed.connect(self.show_text)
        canvas.state.current_changed.connect(self.show_text)
        canvas.state.project_changed.connect(self._on_project)

    def _on_change(self, images: tuple[str, ...], columns: frozenset[str] | None) -> None:
        # The keys depend on the classes, the text of a review on labels too.
        if columns is None or "model_id" in columns or self._review is not None:
            self.show_text()

    def _switch(self, on: bool) -> None:
        self._on = on
        self._rebind()
        if on:  # there are clusters, around which a region may be drawn
            compat.compile_shapes_soon()

    @property
    def review(self) -> Reviewing | None:
        """The current review; set it to start one, or to None to end it."""
        return self._review

    @review.setter
    def review(self, review: Reviewing | None) -> None:
        before = self._review
        if before is review:
            return
        if before is not None:
            before.close()
            if before.queue.strata:
                self.kept[before.queue.request.order] = before.queue, before.reasons
        self._review = review
        if review is None:
            self._actions = LabelActions(self._edits)
        else:
            self._actions = ReviewActions(self._edits, review, self.end_review)
        self._rebind()
        self.review_changed.emit(review)
        if review is not None:
            review.moved.connect(self._on_moved)
            review.show()
            focus_canvas(self._canvas.viewer)

    def _on_moved(self) -> None:
        self.show_text()
        self.review_moved.emit()

    def undo(self) -> None:
        """Undo the last step; a review shows its cluster."""
        self._actions.undo()

    def redo(self) -> None:
        """Redo the step that was undone last; a review shows its cluster."""
        self._actions.redo()

    def end_review(self) -> None:
        """End the review."""
        self.review = None

    def _on_project(self) -> None:
        self.review = None
        self.kept.clear()
        layer = self._canvas.layer(self._state.current, "clusters")
        if self._state.blind and layer is not None and layer.mode == "add":
            self._edits.add_by_clicking()  # stops: a blind annotator adds no clusters

    # ---- keys
    @property
    def shortcuts(self) -> tuple[Shortcut, ...]:
        """The shortcuts that are bound now."""
        if self._review is not None:
            return REVIEW
        return LABEL_MODE if self._on else ()

    def key_line(self) -> str:
        active = self._canvas.active_layer
        is_bound = self._is_bound(active)
        blind = self._state.blind
        usable = tuple(s for s in self.shortcuts if s.blind or not blind)
        return format_line(usable) if is_bound else ""

    def _is_bound(self, layer: Any) -> bool:
        return any(reference() is layer for reference, _ in self._bound)

    def _keys_act(self, active: Any) -> bool:
        """Return whether the keys act while a layer is active; those of a review always do."""
        return active is None or self._review is not None or self._is_bound(active)

    def _rebind(self) -> None:
        for reference, before in self._bound:
            _unbind(reference(), before)
        self._bound.clear()
        viewer = self._canvas.viewer
        if viewer is not None:
            for layer in viewer.layers:
                self._bind(layer)
            if self._review is not None:
                self._bind_keys(viewer)
        self._fade()
        self.show_text()

    def _fade(self) -> None:
        """Fade marks during a review, so that the clusters are seen and not their labels."""
        for known in self._canvas.layers.values():
            known.fade(self._review is not None)

    def _on_layer(self, event: Any) -> None:
        self._bind(event.value)
        self._fade()
        if isinstance(event.value, Points | Shapes):
            event.value.events.mode.connect(self.show_text)

    def _on_active(self, event: Any) -> None:
        if event.value is not None:
            self._bind(event.value)  # it may be the layer of an image since it was inserted
        self.show_text()

    def _bind(self, layer: Any) -> None:
        if not self.shortcuts or self._is_bound(layer):
            return
        is_points, image = isinstance(layer, Points), self._canvas.image_of(layer)
        # The layer of texts is a points layer too, but without clusters.
        is_clusters = self._is_of(layer, CLUSTERS)
        if self._review is None:
            is_image = isinstance(layer, Image) and image is not None
            kind = layer.metadata.get(ROLE, {}).get("kind")
            shows_clusters = is_clusters or is_image or kind in _SHOW_CLUSTERS
            if shows_clusters or self._is_of(layer, ATOMS):
                self._bind_keys(layer)
            if is_clusters:
                layer.mode = "select"
        elif not isinstance(layer, Shapes | Labels) and (not is_points or image):
            self._bind_keys(layer)
            if is_clusters:
                # A click selects a cluster, and no cluster can be dragged by mistake.
                layer.mode = "pan_zoom"

    def _is_of(self, layer: Any, kind: PointsKind) -> bool:
        image = self._canvas.image_of(layer)
        return isinstance(layer, Points) and layer is self._canvas.layer(image, kind.name)

    def _bind_keys(self, target: Any) -> None:
        before = {
            key: target.bind_key(key, self._callback(shortcut, key), overwrite=True)
            for shortcut in self.shortcuts
            for key in shortcut.keys
        }
        self._bound.append((weakref.ref(target), before))

    def _callback(self, shortcut: Shortcut, key: str) -> Callable[[Any], object]:
        """Return what napari calls when a key is pressed; it continues a generator at release."""

        def pressed(target: Any) -> None:
            self.run(shortcut, key)

        # Not a function that returns one: napari would call that at each later release of the
        # key, also in a text field.
        def pressed_and_released(target: Any) -> Iterator[None]:
            start = time.monotonic()
            self.run(shortcut, key)
            yield
            if time.monotonic() - start > get_settings().application.hold_button_delay:
                self.run(shortcut, key)

        return pressed_and_released if shortcut.reverts else pressed

    def press(self, key: str) -> None:
        """Do what a key does now; a button calls this."""
        for shortcut in self.shortcuts:
            if key in shortcut.keys:
                self.run(shortcut, key)

    # ---- text in the corner of the canvas
    def text(self) -> str:
        """Return which mode is on and which keys it has; "" if none is on."""
        active = self._canvas.active_layer
        if self._is_of_another_image(active) and self._review is None:
            return ""
        if drawing := drawing_text(active):
            return drawing
        text = self._label_text(active) if self._on and self._has_clusters() else ""
        if self._review is not None:
            text = format_review(self._review)
        lines = (self._click_text(text), text, self._class_map_text(text))
        return "\n".join(line for line in lines if line)

    def _is_of_another_image(self, layer: Any) -> bool:
        """Return whether a layer is an image that was opened and not analysed yet."""
        return layer is not None and is_micrograph(layer) and self._canvas.image_of(layer) is None

    def _on_view_fitted(self, event: Any = None) -> None:
        # An image that was just opened is no image of the window's state yet.
        opened = self._canvas.image_layers()[-1:]
        current = self._canvas.source_layer(self._state.current)
        for layer in [current] if current is not None else opened:
            leave_text_margin(self._canvas.viewer, layer)

    def _class_map_text(self, text: str) -> str:
        """Return of which class the class maps over the image are."""
        hidden = self._state.blind or not self._canvas.class_maps_visible
        analysis = self._state.analysis(self._state.current or "")
        if hidden or analysis is None or not analysis.model_id:
            return ""
        label = explained_class_of(self._state, analysis)
        if not (label or text):
            return ""
        key = "   C hides them" if text and self._keys_act(self._canvas.active_layer) else ""
        return f"Class maps of {label or 'the predicted class of each cluster'}{key}"

    def _has_clusters(self) -> bool:
        """Return whether the current image has clusters that can be labelled."""
        analysis = self._state.analysis(self._state.current or "")
        return analysis is not None and len(analysis.table) > 0

    def _label_text(self, active: Any) -> str:
        """Return the model of the labels, and the keys of label mode where they act."""
        if not self._keys_act(active):
            return f"Label mode waits: its keys do not act in the layer {active.name!r}"
        model = model_id_of(self._state.analysis(self._state.current or ""))
        by = f"   labels by {model}" if model and not self._state.blind else ""
        return f"Label mode{by}\n{format_keys(self._state)}"

    def _click_text(self, text: str) -> str:
        """Return what a click in the image does, if the active layer has the clusters."""
        viewer = self._canvas.viewer
        layer = None if viewer is None else viewer.layers.selection.active
        if not self._is_of(layer, CLUSTERS):
            return ""
        if layer.mode == "add":
            stop = " P stops." if self.shortcuts else ""
            return f"Adding clusters: a click adds a cluster.{stop}"
        # The texts of label mode and of a review imply that a click selects.
        return "Selecting clusters" if layer.mode == "select" and not text else ""


def _unbind(target: Any, before: dict[str, Any]) -> None:
    if target is None:
        return
    for key, function in before.items():
        target.bind_key(key, function, overwrite=True)
    if isinstance(target, Points) and target.mode in ("select", "add"):
        target.mode = "pan_zoom"


def focus_canvas(viewer: Any) -> None:
    """Give the keyboard focus to the canvas."""
    viewer.window._qt_viewer.canvas.native.setFocus()  # napari has no public name for it


def format_keys(state: WindowState) -> str:
    """Return ``1 Pt19   2 Pt30 … 0 unknown   A aggregate``."""
    numbered = [f"{i} {name}" for i, name in enumerate(state.classes()[:9], start=1)]
    return "   ".join([*numbered, f"0 {UNKNOWN}", f"A {AGGREGATE}"])


def format_shown(review: Reviewing) -> str:
    """Return ``field.tif, cluster 12: Pt41 0.53`` and the manual label, if there is one.

    If others are selected, say how many an answer applies to instead, after what became of a
    cluster that is no longer in the table, or is excluded.
    """
    image, cluster_id = review.key
    columns = review.state.columns(image)  # pandas is slow to find a row
    gone = columns is None or cluster_id not in columns["cluster_id"] or not review.is_there
    fate = f"{image}, cluster {cluster_id}: {_format_fate(review)}" if gone else ""
    if review.others_are_selected:
        n = len(review.state.selection)
        said = f"{pluralise(n, 'selected cluster')}: an answer labels {'all' if n > 1 else 'it'}"
        return f"{fate}; {said}" if gone else said
    if gone:
        return fate
    row = np.argmax(columns["cluster_id"] == cluster_id)
    predicted, manual = columns["label_predicted"][row], columns["label_corrected"][row]
    confidence = class_confidence(predicted, columns["confidence"][row])
    prediction = f"{predicted} {confidence:.2f}" if confidence > 0 else predicted
    labels = [x for x in (prediction, f"{manual} by a person" if manual else "") if x]
    return f"{image}, cluster {cluster_id}" + (f": {', '.join(labels)}" if labels else "")


def _format_fate(review: Reviewing) -> str:
    """Return why the cluster of a review needs no answer any more."""
    if review.reasons.get(review.key) == EXCLUDED:
        return EXCLUDED
    if review.removed[review.position]:
        return "not a cluster"
    new = list(map(str, replaced_by(review.state.history, review.key)))
    if not new:
        return "no longer in the table"
    return f"split into clusters {', '.join(new)}" if new[1:] else f"merged into cluster {new[0]}"


def format_progress(review: Reviewing) -> str:
    """Format the progress, as in ``37 of 212, 2 deleted``; the deleted ones are among the 37."""
    n_deleted = int(review.removed.sum())
    return f"{review.n_done} of {review.n}" + (f", {n_deleted} deleted" if n_deleted else "")


def format_review(review: Reviewing) -> str:
    """Return the text in the corner of the canvas: progress, the cluster and the keys."""
    first = f"Review   {format_progress(review)}"
    if review.finished:
        first += ", all done: Esc ends"
    remark = "" if review.others_are_selected else review.remarks.get(review.key, "")
    agree = [] if review.state.blind else ["Enter agree"]
    keys = ["X not a cluster", *agree, "N next", "B back", "Esc end", "F1 keys"]
    lines = [
        f"{first}   {format_shown(review)}",
        remark,
        format_keys(review.state),
        "   ".join(keys),
    ]
    return "\n".join(line for line in lines if line)
