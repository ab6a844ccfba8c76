"""Steps of a window: apply edits, and undo and redo them."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, overload

import pandas as pd
from psygnal import Signal

from ..core.errors import AtomicityError
from ..core.tables import cluster_table as tables
from ..core.tables.cluster_table import Key
from ..core.tables.table_cache import columns_of
from ..core.text import pluralise
from ..models.analysis import Analysis
from ..project import EditKind
from .analysis_store import mark_excluded
from .atom_store import AtomKey, AtomStore
from .chunked_steps import MAX_IMAGES, Work, exceeds_limits
from .cluster_rows import ids_of
from .edits import (
    AtomEdit,
    Edit,
    ImageContents,
    MergeLabels,
    Relabel,
    RemoveClusters,
    RemoveImage,
    ReplaceClusters,
    SetAnnotation,
    SetAtoms,
    SetMarks,
    SetPixelSize,
    SetSession,
    SetSessionRecord,
    with_author,
)
from .project_saver import (
    LABEL_COLUMNS,
    AnnotationChange,
    AtomChange,
    Change,
    ClusterChange,
    ListingChange,
    PixelSizeChange,
    ProjectSaver,
    SessionChange,
    changed_parts,
)
from .session_store import PixelSizes, SessionStore
from .window_images import WindowImages

_ALLOWED_BLIND = Relabel | RemoveClusters | SetMarks | SetPixelSize


def _is_other_size(edit: Edit | AtomEdit) -> bool:
    """Return whether atoms that people have marked follow the pixel size of their image."""
    if not isinstance(edit, SetAtoms) or edit.before is None or edit.after is None:
        return False
    return edit.before.pixel_size_nm != edit.after.pixel_size_nm and edit.after.analysis is None


Selection = tuple[frozenset[Key], frozenset[AtomKey]]
"""Keys of the selected clusters and atoms."""


@dataclass(frozen=True, eq=False)
class Step:
    """What a person did at once, to one image or to several; undo takes it back as a whole."""

    edits: tuple[Edit | AtomEdit, ...]
    text: str
    """Description; "" if it follows from the edits."""
    annotator: str
    time: datetime
    group: object = None
    """Edits of one group are one step, though they come one after the other."""
    selection: Selection = (frozenset(), frozenset())
    """What was selected before the step was done."""

    @property
    def description(self) -> str:
        """What the person did."""
        return self.text or _describe(self.edits)

    @property
    def title(self) -> str:
        """Description, with the number of images changed if it counts others.

        Others of their session may change with the images that the description counts.
        """
        n, counted = len(self.images), re.search(r"\b(\d+) images?\b", self.description)
        if n < 2 or counted is None or int(counted[1]) == n:
            return self.description
        return f"{self.description} · {n} images changed"

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that the step concerns, not those of its session."""
        edits = (edit for edit in self.edits if not isinstance(edit, SetSessionRecord))
        return tuple(dict.fromkeys(edit.image for edit in edits))

    @property
    def about(self) -> Selection:
        """Selected clusters that were labelled, and replaced ones; otherwise what was selected.

        Not all that an import has labelled: the next key would label it anew.
        """
        clusters, atoms = self.selection
        edits = [edit for edit in self.edits if isinstance(edit, Relabel | ReplaceClusters)]
        keys = frozenset(
            key
            for edit in edits
            for key in ((edit.image, i) for i in edit.cluster_ids)
            if isinstance(edit, ReplaceClusters) or key in clusters
        )
        return keys or clusters, atoms

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the step changes; empty if it may change any, or changes atoms."""
        ids = [edit.cluster_ids for edit in self.edits]
        return frozenset() if None in ids else frozenset().union(*filter(None, ids))


Steps = tuple[tuple[Step, ...], tuple[Step, ...]]
"""Steps that were done, and that were undone."""

NO_STEPS: Steps = ((), ())


def without_images(steps: Steps, images: Iterable[str]) -> Steps:
    """Return the steps that change nothing of these images."""
    images = frozenset(images)
    done, undone = (
        tuple(step for step in part if not any(edit.image in images for edit in step.edits))
        for part in steps
    )
    return done, undone


class ImageListing:
    """Which images a window lists, with all that it holds of them.

    Signals: ``changed(removed, listed)``, tuples of names, after images were removed or listed
    again.
    """

    changed = Signal(tuple, tuple)

    def __init__(self, state: WindowImages, atoms: AtomStore, sessions: SessionStore) -> None:
        self._state, self._atoms, self._sessions = state, atoms, sessions

    def get(self, image: str) -> ImageContents | None:
        """Return what the window holds of an image; None if it is not listed."""
        if image not in self._state.images:
            return None
        return ImageContents(
            self._state.micrograph(image),
            self._state.analysis(image),
            self._atoms.of(image),
            self._sessions.get(image),
        )

    def install(self, image: str, contents: ImageContents | None) -> None:
        """List an image with what is known of it, or remove it; emits no signal."""
        state = self._state
        if contents is None:
            state.remove_micrograph(image)
        elif image not in state.images:
            state.replace_micrograph(contents.micrograph)
        state.store.install(image, None if contents is None else contents.analysis)
        self._atoms.install(image, None if contents is None else contents.atoms)
        self._sessions.install(image, None if contents is None else contents.session)


class History(Sequence[Step]):
    """The steps that were done, oldest first, and those that were undone."""

    def __init__(
        self,
        state: WindowImages,
        atoms: AtomStore,
        sessions: SessionStore,
        pixel_sizes: PixelSizes,
        listing: ImageListing,
        saver: ProjectSaver,
    ) -> None:
        self._state = state
        self._atoms = atoms
        self._sessions = sessions
        self._pixel_sizes = pixel_sizes
        self._listing = listing
        self._saver = saver
        saver.edits_of = self.edits_of
        self._done: list[Step] = []
        self._undone: list[Step] = []

    def __len__(self) -> int:
        """Return the number of steps that were done and not undone."""
        return len(self._done)

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Step, ...]: ...

    def __getitem__(self, index: int | slice) -> Step | tuple[Step, ...]:
        """Return a step, or some of them."""
        return tuple(self._done[index]) if isinstance(index, slice) else self._done[index]

    @property
    def undone(self) -> tuple[Step, ...]:
        """Steps that can be redone; `redo` takes the last one first."""
        return tuple(self._undone)

    def exchange(self, steps: Steps = NO_STEPS) -> Steps:
        """Replace the steps that were done and undone by others; return those from before."""
        before = tuple(self._done), tuple(self._undone)
        self._done, self._undone = map(list, steps)
        return before

    def forget(self, image: str) -> None:
        """Forget the steps that concern an image."""
        self.exchange(without_images(self.exchange(), [image]))

    # ---- do
    def do(
        self,
        *edits: Edit | AtomEdit,
        description: str | None = None,
        group: object = None,
        soon: bool = False,  # whether it may run in parts (`chunked_steps`)
    ) -> None:
        """Apply edits and remember them as one step.

        Raises `AtomicityError` if the project can only be read, or the edits are not allowed in
        blind mode.
        """
        self._state.ensure_writable()
        if not all(isinstance(e, _ALLOWED_BLIND) or _is_other_size(e) for e in edits):
            self.ensure_not_blind()
        if edits:
            self.run(edits, description, group, soon or len(edits) > MAX_IMAGES)

    def run(
        self,
        edits: Iterable[Edit | AtomEdit],  # in order; each is made when the one before was applied
        description: str | None = None,
        group: object = None,
        long: bool = False,
    ) -> None:
        """Apply edits as one step, without the checks of `do`."""
        self._state.steps.run(self._do(edits, description, group), long)

    def apply_without_undo(self, edits: Iterable[Edit], long: bool = False) -> None:
        """Apply edits that are not a step of undo: a first result."""
        self._state.steps.run(self._apply_without_undo(edits), long)

    def record_by_model(self, change: ClusterChange) -> None:
        """Save and show what a model found of known clusters; it is not a step of undo."""
        assert change.after is not None  # a model removes no image
        changes = [replace(change, after=checked(change.after, thoroughly=True))]
        for part in (self._save_and_install(changes), self._notify(changes)):
            for _ in part:
                pass

    def _do(self, edits: Iterable[Edit | AtomEdit], description: str | None, group: object) -> Work:
        author, selected = self._state.annotator, self._selected
        done, changes = yield from self._replay(edits, _applied, author)
        if not done:
            return
        step = Step(tuple(done), description or "", author, datetime.now(UTC), group, selected)
        last = self._done[-1] if self._done else None
        if group is not None and last is not None and last.group is group:
            step = replace(last, edits=(*last.edits, *done))
            self._done.pop()
        self._done.append(step)
        self._undone.clear()
        yield from self._notify(changes)

    def _apply_without_undo(self, edits: Iterable[Edit]) -> Work:
        _, changes = yield from self._replay(edits, _applied, self._state.annotator)
        yield from self._notify(changes)

    # ---- undo and redo
    def undo(self) -> Step | None:
        """Undo the last step and return it; None if there is none."""
        self._state.steps.finish()
        if not self._done:
            return None
        self._state.ensure_writable()
        step = self._done[-1]
        self._state.steps.run(self._undo(), _are_long([step]))
        return step

    def redo(self) -> Step | None:
        """Redo the step that was undone last and return it; None if there is none."""
        self._state.steps.finish()
        if not self._undone:
            return None
        self._state.ensure_writable()
        step = self._undone[-1]
        self._state.steps.run(self._redo(), _are_long([step]))
        return step

    def go_to(self, n_done: int) -> None:
        """Undo or redo steps until this number of steps is done."""
        self._state.ensure_writable()
        n_done = min(max(n_done, 0), len(self._done) + len(self._undone))
        n_redo = n_done - len(self._done)
        steps = self._done[n_done:] if n_redo < 0 else self._undone[len(self._undone) - n_redo :]
        self._state.steps.run(self._go_to(n_done), _are_long(steps))

    def _undo(self) -> Work:
        step = self._done[-1]
        undone, changes = yield from self._replay(
            reversed(step.edits), _reverted, is_undo=True, known=True
        )
        self._done.pop()
        edits = tuple(reversed(undone))
        self._undone.append(replace(step, edits=edits))
        self._select_again(step.selection)
        yield from self._notify(changes)

    def _redo(self) -> Work:
        step = self._undone[-1]
        done, changes = yield from self._replay(step.edits, _applied_again, known=True)
        self._undone.pop()
        self._done.append(replace(step, edits=tuple(done)))
        self._select_again(step.about)
        yield from self._notify(changes)

    def _go_to(self, n_done: int) -> Work:
        while len(self._done) > n_done:
            yield from self._undo()
        while len(self._done) < n_done:
            yield from self._redo()

    # ---- the way of an edit
    def _replay(
        self,
        edits: Iterable[Edit | AtomEdit],
        replay: Callable[[Any, Any], tuple[Any, Any]],
        author: str = "",
        is_undo: bool = False,
        known: bool = False,
    ) -> Generator[bool, None, tuple[list[Edit | AtomEdit], list[Change]]]:
        """Replay edits one after the other, save the changes, then install them.

        Views see none of the changes before all are saved. A table that does not fit the schema
        raises `TableError`: then none of the edits is applied.
        """
        now: dict[tuple[object, str], Any] = {}
        changes: list[Change] = []
        replayed = []
        for edit in edits:
            image, store = edit.image, self._store_of(edit)
            if (store, image) not in now:
                now[store, image] = store.get(image)
            before = now[store, image]
            edit, after = replay(with_author(edit, author), before)
            if isinstance(edit, SetSession):
                changes.append(SessionChange(edit, after))
            elif isinstance(edit, SetPixelSize):
                changes.append(PixelSizeChange(edit, after))
            elif isinstance(edit, RemoveImage):
                changes.append(ListingChange(edit, after))
            elif isinstance(edit, SetAnnotation):
                changes.append(AnnotationChange(edit, after))
            elif isinstance(edit, SetAtoms | SetMarks):
                changes.append(AtomChange(edit, before, after))
            else:
                columns = None
                if after is not None and edit.kind is not EditKind.LABEL:
                    after = checked(after, thoroughly=not known)
                    columns = columns_of(after.table)
                changes.append(ClusterChange(edit, before, after, is_undo, columns))
            now[store, image] = after
            replayed.append(edit)
            yield False
        yield from self._save_and_install(changes)
        return replayed, changes

    def _save_and_install(self, changes: Sequence[Change]) -> Work:
        """Write changes into the project, then into memory."""
        yield from self._saver.save(changes)
        for change in changes:
            if isinstance(change, AnnotationChange):
                continue  # the project alone has them
            if not isinstance(change, ClusterChange):
                self._store_of(change.edit).install(change.edit.image, change.after)
            else:
                only_labels = change.edit.kind is EditKind.LABEL
                self._state.store.install(
                    change.edit.image, change.after, change.columns, only_labels
                )

    def _store_of(self, edit: Edit | AtomEdit) -> Any:
        """Return the store of what an edit changes."""
        if isinstance(edit, SetSession):
            return self._sessions
        if isinstance(edit, SetPixelSize):
            return self._pixel_sizes
        if isinstance(edit, RemoveImage):
            return self._listing
        return self._atoms if isinstance(edit, SetAtoms | SetMarks) else self._state.store

    # ---- what others see of an edit
    def _notify(self, changes: Sequence[Change]) -> Work:
        """Emit the signals of changes that are installed; deselect clusters that were removed."""
        yield True  # the views are updated in a part of their own
        images, columns, rows = changed_parts(changes)
        if listed := [c for c in changes if isinstance(c, ListingChange)]:
            removed = tuple(c.edit.image for c in listed if c.after is None)
            back = tuple(c.edit.image for c in listed if c.after is not None)
            self._state.sort_images()
            self._listing.changed.emit(removed, back)
        self._state.changed.emit(images, columns, rows)
        with_atoms = (
            c.edit.image
            for c in changes
            # Of a review: an image without atoms has a density of 0 now, or none.
            if isinstance(c, AtomChange | ListingChange) or isinstance(c.edit, MergeLabels)
        )
        for image in dict.fromkeys(with_atoms):
            self._atoms.notify(image)
        calibrated = [c.edit.image for c in changes if isinstance(c, PixelSizeChange)]
        for image in calibrated:
            self._pixel_sizes.changed.emit(image)
        if calibrated:
            self._state.images_changed.emit()
        yield False
        if columns is LABEL_COLUMNS:
            return
        selected = {key[0] for key in self._state.selection}
        known = {
            i: set(self._state.table(i)["cluster_id"].tolist()) for i in images if i in selected
        }
        gone = [k for k in self._state.selection if k[0] in known and k[1] not in known[k[0]]]
        if gone:
            self._state.select(self._state.selection.difference(gone))

    @property
    def _selected(self) -> Selection:
        """Keys of the selected clusters and atoms."""
        return self._state.selection, self._atoms.selection

    def _select_again(self, selected: Selection) -> None:
        """Select what was selected before a step, as far as it is still there."""
        if selected == self._selected:
            return
        clusters, atoms = selected
        self._state.select(
            self._present(clusters, lambda image: self._state.table(image)["cluster_id"])
        )
        self._atoms.select(self._present(atoms, lambda image: self._atoms.table(image)["atom_id"]))

    def _present(
        self, keys: frozenset[tuple[str, int]], ids: Callable[[str], pd.Series]
    ) -> list[tuple[str, int]]:
        """Return the keys of objects that the tables of their images have."""
        images = {image for image, _ in keys}.intersection(self._state.images)
        known = {image: set(ids(image).tolist()) for image in images}
        return [key for key in keys if key[1] in known.get(key[0], ())]

    def ensure_not_blind(self) -> None:
        """Raise `AtomicityError` in blind mode, in which few edits are allowed."""
        if self._state.blind:
            raise AtomicityError(
                "blind annotators can only label and remove clusters, and mark atoms",
                advice="Leave blind mode to change anything else",
            )

    def has_unsaved_clusters(self, image: str) -> bool:
        """Return whether edits of the clusters of an image are not in the project yet."""
        return self._saver.has_unsaved_clusters(image)

    def edits_of(self, image: str) -> Iterator[Edit | AtomEdit]:
        """Yield the edits of an image that were done and not undone, in order."""
        for step in self._done:
            yield from (edit for edit in step.edits if edit.image == image)


def replaced_by(history: History, key: Key) -> list[int]:
    """Return the ids of the clusters into which one was split or merged; none if it was not."""
    image, cluster_id = key
    now = {cluster_id}
    for edit in history.edits_of(image):
        if isinstance(edit, ReplaceClusters):
            old, new = ids_of(edit.before), ids_of(edit.after)
            if now & (old - new):
                now = (now - old) | new
    return sorted(now - {cluster_id})


def checked(analysis: Analysis, thoroughly: bool) -> Analysis:
    """Return the analysis with excluded clusters marked, after a check of its table.

    A table that was checked before needs no thorough check.
    """
    analysis = mark_excluded(analysis)
    if thoroughly:
        tables.validate(analysis.table)
    if len(analysis.outlines) != len(analysis.table):
        raise ValueError("as many outlines as clusters are needed")
    return analysis


def _describe(edits: Sequence[Edit | AtomEdit]) -> str:
    """Return what a person did as text."""
    if isinstance(edits[0], ReplaceClusters):
        replaced = [edit for edit in edits if isinstance(edit, ReplaceClusters)]
        n = sum(len(ids_of(edit.before or edit.after)) for edit in replaced)
        return f"{edits[0].description} {pluralise(n, 'cluster')}"
    labelled = [edit for edit in edits if isinstance(edit, Relabel)]
    if len(labelled) == len(edits):
        labels = {label for edit in labelled for label in edit.after.values()}
        clusters = pluralise(sum(len(edit.after) for edit in labelled), "cluster")
        if labels == {""}:
            return "take labels back"
        return f"label {clusters} {labels.pop() if len(labels) == 1 else ''}".rstrip()
    # Of the same kind: images of the session may have got other labels.
    images = {edit.image for edit in edits if type(edit) is type(edits[0])}
    return edits[0].description + (f" in {len(images)} images" if len(images) > 1 else "")


def _are_long(steps: Sequence[Step]) -> bool:
    """Return whether undo or redo of these steps is long; each has its own images."""
    changed = sum(
        len(e.after) if isinstance(e, Relabel) else len(e.cluster_ids)
        for step in steps
        for e in step.edits
        if isinstance(e, Relabel | RemoveClusters)
    )
    return exceeds_limits(sum(len({e.image for e in step.edits}) for step in steps), changed)


def _applied(edit: Edit, analysis: Analysis | None) -> tuple[Edit, Analysis | None]:
    return edit, edit.apply(analysis)


def _reverted(edit: Edit, analysis: Analysis | None) -> tuple[Edit, Analysis | None]:
    edit = edit.refreshed(analysis, undo=True)
    return edit, edit.revert(analysis)


def _applied_again(edit: Edit, analysis: Analysis | None) -> tuple[Edit, Analysis | None]:
    edit = edit.refreshed(analysis, undo=False)
    return edit, edit.apply(analysis)
