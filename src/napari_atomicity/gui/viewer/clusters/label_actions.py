"""What the shortcuts of label mode and of a review do."""

from __future__ import annotations

from collections.abc import Callable

from ....core.tables.cluster_table import AGGREGATE, UNKNOWN, Key
from ....core.text import pluralise
from ....state.cluster_rows import ids_by_image
from ....state.reviewing import Reviewing
from ....state.window_state import WindowState
from ....statistics.annotators.agreement import NOT_A_CLUSTER
from .edit_commands import EditCommands

MARK_FIRST = "To change atoms, press Mark atoms by hand first (dock Atoms)"
_SELECT_FIRST = "Select clusters first: click or drag around them"
_NO_PREDICTION = "There is no prediction to agree with"
_ALL_ANSWERED = "All have an answer: the key of a label changes this one, Esc ends the review"


class EditActions:
    """Actions of every mode."""

    def __init__(self, edits: EditCommands) -> None:
        self._edits = edits
        self._state = edits.state

    def undo(self) -> None:
        """Undo the last step."""
        self._edits.undo()

    def redo(self) -> None:
        """Redo the step that was undone last."""
        self._edits.redo()

    def toggle_class_maps(self) -> None:
        """Show or hide the class maps over the image."""
        canvas = self._edits.canvas
        if self._state.blind:
            canvas.show_message("Blind mode hides class maps")
        else:
            canvas.class_maps_visible = not canvas.class_maps_visible

    def help(self) -> None:
        """Show all shortcuts."""
        self._edits.help()


class LabelActions(EditActions):
    """Actions of label mode: they apply to the selected clusters."""

    def _is_selected(self) -> bool:
        if not self._state.selection:
            has_atoms = bool(self._state.atoms.selection)
            self._edits.canvas.show_message(MARK_FIRST if has_atoms else _SELECT_FIRST)
            return False
        return self._edits.may_change(self._state.selection)

    def _relabel(self, label: str) -> None:
        if self._is_selected():
            keys = self._state.selection
            self._state.clusters.relabel(keys, label)
            self._name_other_images(keys, label)

    def _name_other_images(self, keys: frozenset[Key], what: str) -> None:
        """Say what was done to clusters in other images, which are out of sight."""
        by_image = ids_by_image(keys)
        if set(by_image) - {self._state.current}:
            n = pluralise(sum(map(len, by_image.values())), "cluster")
            where = pluralise(len(by_image), "image")
            self._edits.canvas.show_message(f"{n} in {where}: {what}. Ctrl+Z undoes.")

    def label(self, number: int) -> None:
        """Label the selected clusters as the n-th class, counted from 1; 0 means unknown."""
        label = numbered_label(self._state, number)
        if label is None:
            known = ", ".join(f"{i} {name}" for i, name in enumerate(self._state.classes(), 1))
            self._edits.canvas.show_message(f"No class has the key {number}: {known}")
        else:
            self._relabel(label)

    def label_aggregate(self) -> None:
        """Label the selected clusters as aggregates."""
        self._relabel(AGGREGATE)

    def unlabel(self) -> None:
        """Remove the manual labels of the selected clusters."""
        if not self._is_selected():
            return
        for image, ids in ids_by_image(self._state.selection).items():
            table = self._state.table(image)
            if (table.loc[table["cluster_id"].isin(ids), "label_corrected"] != "").any():
                keys = self._state.selection
                self._state.clusters.relabel(keys, "")
                self._name_other_images(keys, "manual labels removed")
                return
        self._edits.canvas.show_message("None of the selected clusters has a manual label")

    def delete(self) -> None:
        """Delete the selected clusters."""
        if self._is_selected():
            keys = self._state.selection
            self._state.clusters.remove(keys)
            self._name_other_images(keys, "deleted")

    def split(self) -> None:
        """Split each selected cluster into two."""
        if self._is_selected():
            self._edits.split_selected()

    def merge(self) -> None:
        """Merge the selected clusters into one."""
        if self._is_selected():
            self._edits.merge_selected()

    def add(self) -> None:
        """Switch whether a click adds a cluster."""
        self._edits.add_by_clicking()

    def exclude(self) -> None:
        """Start to draw excluded regions."""
        self._edits.exclude_regions()

    def next(self) -> None:
        """Select the least certain cluster without a manual label."""
        select_next_uncertain(self._state)


class ReviewActions(LabelActions):
    """Actions of a review: they apply to the cluster that is shown.

    If other clusters are selected, the actions apply to these. The review stays where it is while
    one of them or its own cluster has no answer.
    """

    def __init__(self, edits: EditCommands, review: Reviewing, end: Callable[[], object]) -> None:
        super().__init__(edits)
        self._review = review
        self._end = end

    def _is_selected(self) -> bool:
        """Select the cluster of the review if none is selected."""
        if not self._state.selection:
            if self._is_unseen():
                return False
            self._review.show()
        return self._edits.may_change(self._state.selection)

    def _return(self) -> None:
        """Show the cluster of the review again, or the next one if it was split or deleted."""
        if self._review.is_there:
            self._review.show()
        else:
            self.next()

    def _is_unseen(self) -> bool:
        """Show a cluster if that of the review is not in sight: an answer would be given unseen."""
        is_there = self._review.is_there
        if is_there and self._review.key[0] == self._state.current:
            return False
        if is_there:
            self._show_message("Another image was shown: here is the cluster of the review again")
        else:
            self._show_message("That cluster is gone or excluded: here is the next one")
        self._return()
        return True

    def _is_answerable(self) -> bool:
        """Whether an answer would be given to clusters in sight that are not being replaced."""
        if not self._review.others_are_selected and self._is_unseen():
            return False
        return self._edits.may_change(self._state.selection or frozenset({self._review.key}))

    def _show_message(self, text: str) -> None:
        self._edits.canvas.show_message(text)

    def _relabel(self, label: str) -> None:
        if self._is_answerable():
            self._review.answer(label)

    def unlabel(self) -> None:
        """Remove the manual label of the cluster."""
        if self._review.others_are_selected:
            self._review.take_back()
            self._return()
        elif not self._is_unseen() and not self._review.take_back():
            self._show_message("This cluster has no manual label. B goes back, Ctrl+Z undoes.")

    def remove(self) -> None:
        """Delete the cluster."""
        self._relabel(NOT_A_CLUSTER)

    def agree(self) -> None:
        """Confirm the predicted label."""
        others = self._review.others_are_selected
        if self._review.finished and not others:  # one Enter too many would replace the last answer
            self._show_message(_ALL_ANSWERED)
        elif self._is_answerable() and not self._review.agree():
            self._show_message(_NO_PREDICTION)

    def next(self) -> None:
        """Show the next cluster without an answer."""
        if not self._review.next():
            self._show_message("No other cluster is without an answer")

    def add(self) -> None:
        """Switch whether a click adds a cluster."""
        self._edits.add_by_clicking(otherwise="pan_zoom")

    def back(self) -> None:
        """Show the previous cluster."""
        if not self._review.back():
            self._show_message("This is the first cluster")

    def undo(self) -> None:
        """Undo the last step and show its cluster."""
        with self._review.following_changes():
            self._edits.undo()

    def redo(self) -> None:
        """Redo the step that was undone last and show its cluster."""
        with self._review.following_changes():
            self._edits.redo()

    def end(self) -> None:
        """End the review."""
        self._end()


def numbered_label(state: WindowState, number: int) -> str | None:
    """Return the label of a number key: the n-th class, counted from 1, or unknown for 0."""
    classes = state.classes()
    if number > len(classes):
        return None
    return classes[number - 1] if number else UNKNOWN


def select_next_uncertain(state: WindowState) -> None:
    """Select the least certain cluster of the current image that has no manual label.

    If it is selected already, select the next one in that order.
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
