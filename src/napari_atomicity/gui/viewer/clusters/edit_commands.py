"""Commands that edit the clusters of the current image: what buttons and shortcuts call."""

from __future__ import annotations

from collections.abc import Callable

from ....core.errors import AtomicityError
from ....core.tables.cluster_table import Key
from ....state.cluster_rows import ids_of_image
from ....state.edits import AtomEdit, MergeLabels
from ....state.window_state import Step
from ...controls.questions import attempt, show_error, show_info
from ...controls.shortcuts import show_help
from ..canvas import Canvas
from ..layers import compat, picking
from .clusters import ClusterDisplay
from .manual_editing import ManualEditing
from .regions import RegionEditor


class EditCommands:
    """Add, split, merge and exclude clusters; undo and redo."""

    def __init__(
        self,
        canvas: Canvas,
        clusters: ClusterDisplay,
        manual_editing: ManualEditing,
        regions: RegionEditor,
    ) -> None:
        self.canvas = canvas
        self.state = canvas.state
        self._clusters = clusters
        self._manual_editing = manual_editing
        self._regions = regions

    def attempt(self, edit: Callable[[], object]) -> bool:
        """Carry out an edit; if it is refused, show the error and the unchanged image."""
        return attempt(edit, lambda: self._clusters.refresh(self.state.current or ""))

    def add_by_clicking(self, *, otherwise: str = "select") -> None:
        """Switch whether a click adds a cluster; `otherwise` is the mode of the layer if not."""
        layer = self.canvas.layer(self.state.current, "clusters")
        stops = layer is not None and layer.mode == "add"
        if not stops and not attempt(self.state.history.ensure_not_blind):
            return
        if layer is None:
            show_info("Analyse the image first. Then you can add missed clusters.")
            return
        self.canvas.activate(layer)
        layer.mode = otherwise if layer.mode == "add" else "add"
        self.canvas.show_message(
            "Click a missed cluster to add it. Press P to stop."
            if layer.mode == "add"
            else "A click selects a cluster"
        )

    def exclude_regions(self) -> None:
        """Start to draw excluded regions."""
        if not attempt(self.state.history.ensure_not_blind):
            return
        if self._regions.draw():
            self.canvas.show_message("Draw around contamination or vacuum to exclude it")
        else:
            show_info("Analyse the image first. Then you can exclude regions.")

    def split_selected(self) -> None:
        """Split each selected cluster of the current image into two."""
        self._manual_editing.split(*self._selected())

    def merge_selected(self) -> None:
        """Merge the selected clusters of the current image into one."""
        self._manual_editing.merge(*self._selected())

    def may_change(self, keys: frozenset[Key]) -> bool:
        """Return whether a key may change these clusters; show a message and one of them if not.

        It may not while their image is opened, if all are in other frames of a stack, or if one is
        being split or merged.
        """
        image = self.state.current or ""
        unseen = self._in_another_frame(keys)
        if ids_of_image(keys, image) and self.canvas.source_layer(image) is None:
            self.canvas.show_message(f"Not yet: {image} is being opened")
        elif unseen is not None:
            self.state.request_focus(unseen)
            self.canvas.show_message("Another frame was shown: here is the cluster. Press it again")
        elif self._manual_editing.replaces(keys):
            self.canvas.show_message("Not yet: the clusters that replace these are being measured")
        else:
            return True
        return False

    def _in_another_frame(self, keys: frozenset[Key]) -> Key | None:
        """Return one of these clusters if the frame of a stack that is shown has none of them."""
        image = self.state.current or ""
        source = self.canvas.source_layer(image)
        if source is None or source.ndim < 3:
            return None
        table = self.state.table(image)
        chosen = table[table["cluster_id"].isin(ids_of_image(keys, image))]
        if picking.shows_none(self.canvas.viewer, source, chosen["frame"]):
            return image, int(chosen["cluster_id"].iloc[0])
        return None

    def _selected(self) -> tuple[str, list[int]]:
        image = self.state.current or ""
        return image, sorted(self._clusters.selected_of(image))

    def undo(self) -> None:
        """Undo the last step, a corner of a region, or the measurement of an added cluster."""
        drawn = compat.take_back_corner(self.canvas.active_layer)
        if drawn or self._manual_editing.cancel_last():
            return
        step = self._replay(self.state.history.undo)
        self._show_message("Undone", "undo", step)

    def redo(self) -> None:
        """Redo the step that was undone last."""
        step = self._replay(self.state.history.redo)
        self._show_message("Redone", "redo", step)

    def _show_message(self, done: str, verb: str, step: Step | None) -> None:
        """Show what was undone or redone; a blind annotator must not be reminded of a label."""
        if step is None:
            self.canvas.show_message(f"Nothing to {verb}")
            return
        names_label = any(not isinstance(edit, AtomEdit | MergeLabels) for edit in step.edits)
        is_hidden = self.state.blind and names_label
        self.canvas.show_message(done if is_hidden else f"{done}: {step.title}")

    def _replay(self, replay: Callable[[], Step | None]) -> Step | None:
        """Replay a step and display an image that it has changed."""
        try:
            step = replay()
        except AtomicityError as error:
            show_error(str(error))
            return None
        if step is not None:
            self.show_step(step)
        return step

    def help(self) -> None:
        """Show all shortcuts."""
        show_help(self.canvas.viewer)

    def show_step(self, step: Step) -> None:
        """Display an image that a step has changed, and select nothing that is not in sight."""
        state = self.state
        if state.current not in step.images:
            listed = (image for image in step.images if image in state.images)
            state.current = next(listed, state.current)
        if all(image != state.current for image, _ in state.selection):
            state.select(())
