"""Write edits into the project, and write again later what could not be written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..atoms.marks import ImageAtoms, Mark
from ..core.acquisition_session import SessionEntry
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.tables.cluster_table import Key
from ..core.tables.table_cache import Columns
from ..models.analysis import Analysis
from ..project import EditKind, ImageEdit, Project
from .atom_store import AtomStore
from .chunked_steps import MAX_IMAGES, Work
from .edits import (
    AtomEdit,
    ClusterEdit,
    Edit,
    ImageContents,
    MergeLabels,
    RemoveImage,
    SetAnnotation,
    SetPixelSize,
    SetSession,
    before_edits,
)
from .session_store import SessionStore
from .window_images import WindowImages

LABEL_COLUMNS = frozenset({"label", "label_corrected"})
"""Columns that a correction changes."""
SESSION_COLUMNS = frozenset({"session", "known"})
"""What an edit of acquisition sessions changes; no column of the cluster table."""


@dataclass(frozen=True, eq=False)
class ClusterChange:
    """An edit of clusters that was applied or reverted, with the analysis before and after."""

    edit: Edit | ImageEdit  # what was done, by whom
    before: Analysis | None
    after: Analysis | None
    is_undo: bool = False
    columns: Columns | None = None  # those of the table after the edit, if they are at hand


@dataclass(frozen=True, eq=False)
class AtomChange:
    """An edit of atoms that was applied or reverted, with the atoms before and after."""

    edit: AtomEdit
    before: ImageAtoms | None
    after: ImageAtoms | None


@dataclass(frozen=True, eq=False)
class SessionChange:
    """An edit of acquisition sessions that was applied or reverted, with the entry afterwards."""

    edit: SetSession
    after: SessionEntry


@dataclass(frozen=True, eq=False)
class PixelSizeChange:
    """An edit of a pixel size that was applied or reverted, with the size in nm afterwards."""

    edit: SetPixelSize
    after: float | None


@dataclass(frozen=True, eq=False)
class ListingChange:
    """The removal of an image that was applied or reverted, with what the window holds of it."""

    edit: RemoveImage
    after: ImageContents | None


@dataclass(frozen=True, eq=False)
class AnnotationChange:
    """An edit of blind marks that was applied or reverted, with the marks afterwards."""

    edit: SetAnnotation
    after: Mapping[int, Mark] | None


ContentChange = ClusterChange | AtomChange | SessionChange | PixelSizeChange | AnnotationChange
Change = ContentChange | ListingChange


def changed_parts(
    changes: Sequence[Change],
) -> tuple[tuple[str, ...], frozenset[str] | None, frozenset[Key] | None]:
    """Return which cluster tables changes concern, in which columns and rows; None: any."""
    if any(isinstance(c, ListingChange) for c in changes):  # with new labels of its session
        return tuple(dict.fromkeys(c.edit.image for c in changes)), None, None
    of_clusters = [c for c in changes if isinstance(c, ClusterChange)]
    of_sessions = [c for c in changes if isinstance(c, SessionChange)]
    if of_sessions and not of_clusters:
        return tuple(c.edit.image for c in of_sessions), SESSION_COLUMNS, frozenset()
    images = tuple(dict.fromkeys(c.edit.image for c in of_clusters))
    only_labels = all(c.edit.kind is EditKind.LABEL for c in of_clusters) and not of_sessions
    rows: set[Key] = set()
    for change in of_clusters:
        ids = change.edit.cluster_ids
        if ids is None:
            return images, LABEL_COLUMNS if only_labels else None, None
        rows.update((change.edit.image, i) for i in ids)
    return images, LABEL_COLUMNS if only_labels else None, frozenset(rows)


class ProjectSaver:
    """Writes every edit into the project before the call of the edit returns."""

    def __init__(
        self,
        state: WindowImages,
        atoms: AtomStore,
        sessions: SessionStore,
        on_message: Callable[[str], None],
    ) -> None:
        self._state = state
        self._atoms = atoms
        self._sessions = sessions
        self._on_message = on_message
        # edits of an image that hold, in order; set by the history, which is made later
        self.edits_of: Callable[[str], Iterable[Edit]] = lambda image: ()
        # images with what the project has of them; None of an image that it has nothing of
        self._unsaved: dict[str, Analysis | None] = {}
        self._unsaved_labels: dict[str, list[ClusterChange]] = {}
        self._unsaved_atoms: dict[str, ImageAtoms | None] = {}
        self._unsaved_sessions: set[str] = set()
        self._unsaved_sizes: dict[str, float | None] = {}
        self._not_added: dict[str, Micrograph] = {}
        self.message = ""

    def clear(self) -> None:
        """Forget what is not saved."""
        self._not_added.clear()
        self._unsaved.clear()
        self._unsaved_labels.clear()
        self._unsaved_atoms.clear()
        self._unsaved_sessions.clear()
        self._unsaved_sizes.clear()

    def add_to_new_project(self, project: Project, micrographs: Iterable[Micrograph]) -> None:
        """Add images to a new project, with all that is known of them."""
        self._not_added = {m.name: m for m in micrographs if not project.has(m.name)}
        try:
            self._add_images(project)
        except AtomicityError as error:
            self.set_message(str(error))

    def _add_images(self, project: Project) -> None:
        """Add the images that the project lacks; what is known of them is not saved yet."""
        state = self._state
        for name, micrograph in list(self._not_added.items()):
            with contextlib.suppress(ReadError):  # the image file is missing: what is known counts
                project.add(micrograph)
            if project.has(name):
                if name in state.store.analyses:
                    self._unsaved[name] = None
                if name in self._atoms.images:
                    self._unsaved_atoms[name] = None
                if name in self._sessions.entries:
                    self._unsaved_sessions.add(name)
            del self._not_added[name]

    def check_place(self) -> None:
        """Check whether the project file is still there; otherwise nothing counts as saved."""
        project = self._state.project
        if project is not None and not self.message:
            try:
                project.check_place()
            except AtomicityError as error:
                self.set_message(str(error))

    def has_unsaved_clusters(self, image: str) -> bool:
        """Return whether the clusters of an image have changed since they were last written."""
        return image in self._unsaved

    def set_message(self, message: str) -> None:
        """Set why some edits are not in the project."""
        if message != self.message:
            self.message = message
            self._on_message(message)

    def add_image(self, micrograph: Micrograph) -> None:
        """Add an image to the project, if there is one that can be written."""
        project = self._state.project
        if project is not None and not project.read_only:
            if not project.has(micrograph.name):
                self._not_added[micrograph.name] = micrograph
            try:
                self._add_images(project)
                project.add(micrograph)
            except AtomicityError as error:
                self.set_message(str(error))

    def save_again(self) -> bool:
        """Write what could not be written; return whether all is in the project now."""
        if self._has_unsaved:
            for _ in self.save(()):
                pass
        return not self._has_unsaved

    @property
    def _has_unsaved(self) -> bool:
        """Whether edits are not in the project, or the project file is not in its place."""
        clusters = self._unsaved or self._unsaved_labels
        of_images = self._not_added or self._unsaved_sessions or self._unsaved_sizes
        return bool(of_images or clusters or self._unsaved_atoms or self.message)

    def save(self, changes: Sequence[Change]) -> Work:
        """Write changes into the project, in one transaction.

        What can't be written now is written with the next change, except annotations, merges and
        which images are listed: raises `AtomicityError`.
        """
        project = self._state.project
        if project is None or project.read_only:
            return
        if listed := [change for change in changes if isinstance(change, ListingChange)]:
            self._list(project, listed)
        if any(isinstance(change.edit, MergeLabels) for change in changes):
            self._merge(project, changes)
            return
        others = [change for change in changes if not isinstance(change, ListingChange)]
        try:
            self._add_images(project)
            kept = [change for change in others if project.has(change.edit.image)]
            with project.together():
                yield from self._write_unsaved(project, kept)
                for change in kept:
                    self._write(project, change)
                    yield False
                if len(kept) > MAX_IMAGES:
                    yield True  # the disk is waited for in a part of its own
        except AtomicityError as error:
            for change in others:
                if isinstance(change, AnnotationChange):
                    raise  # these marks are in the project only
                if isinstance(change, ClusterChange) and change.edit.kind is EditKind.LABEL:
                    self._unsaved_labels.setdefault(change.edit.image, []).append(_cut(change))
                    continue
                if isinstance(change, PixelSizeChange):
                    self._unsaved_sizes[change.edit.image] = change.after
                    continue
                if not project.has(change.edit.image) or change.edit.image in self._not_added:
                    continue  # saved as a whole once the image is added
                if isinstance(change, AtomChange):
                    self._unsaved_atoms.setdefault(change.edit.image, _if_known(change.before))
                elif isinstance(change, SessionChange):
                    self._unsaved_sessions.add(change.edit.image)
                else:
                    self._unsaved.setdefault(change.edit.image, change.before)
            self.set_message(str(error))
        else:
            self.clear()
            self.set_message("")

    def _list(self, project: Project, changes: Sequence[ListingChange]) -> None:
        """Remove images from the project, or list them again."""
        self.ensure_saved()
        project.image_files.remove(c.edit.image for c in changes if c.after is None)
        project.image_files.put_back(c.edit.image for c in changes if c.after is not None)

    def _merge(self, project: Project, changes: Sequence[Change]) -> None:
        """Take back a merge, or merge again: labels, marks and sessions at once."""
        self.ensure_saved()
        edits = (change.edit for change in changes)
        is_undo = any(isinstance(change, ClusterChange) and change.is_undo for change in changes)
        with project.together():
            for edit in edits:
                if isinstance(edit, MergeLabels):
                    project.merged.set_there(edit.image, edit.entries, not is_undo)

    def ensure_saved(self) -> None:
        """Raise `AtomicityError` if not all edits are in the project."""
        if self._has_unsaved:
            raise AtomicityError(self.message, advice="Solve that first: not all edits are saved")

    def _write(self, project: Project, change: ContentChange) -> None:
        """Write one change, unless it is in what has changed since (`_write_unsaved`)."""
        blind = self._state.blind
        if isinstance(change, SessionChange):
            edit = change.edit
            project.image_files.set_session(edit.image, change.after, edit.author)
        elif isinstance(change, PixelSizeChange):
            project.image_files.set_pixel_size(change.edit.image, change.after)
        elif isinstance(change, AnnotationChange):
            project.atoms.set_annotation(change.edit.image, change.edit.author, change.after)
        elif isinstance(change, AtomChange):
            if self._unsaved_atoms.get(change.edit.image) is None:
                project.atoms.record(change.edit, change.before, change.after, blind=blind)
        elif self._unsaved.get(change.edit.image) is None:
            project.record(
                change.edit, change.before, change.after, is_undo=change.is_undo, blind=blind
            )

    def _write_unsaved(self, project: Project, kept: Sequence[ContentChange]) -> Work:
        """Write all that has changed in images since they were last written."""
        state = self._state
        for image in self._unsaved_sessions:
            authors = [e.author for e in self.edits_of(image) if isinstance(e, SetSession)]
            author = authors[-1] if authors else state.annotator
            project.image_files.set_session(image, self._sessions.get(image), author)
        for image, size_nm in self._unsaved_sizes.items():
            if project.has(image):
                project.image_files.set_pixel_size(image, size_nm)
        now = {c.edit.image: c.after for c in kept if isinstance(c, ClusterChange)}
        for image in self._unsaved_labels.keys() - self._unsaved.keys():
            self._write_labels(project, image)
            yield False
        atoms = {c.edit.image: c.after for c in kept if isinstance(c, AtomChange)}
        for image, before in list(self._unsaved.items()):
            if before is None:
                yield from self._write_first(project, image)
            else:
                self._write_whole(project, image, before, now.get(image, state.store.get(image)))
            yield False
        for image, was in list(self._unsaved_atoms.items()):
            if was is None:
                yield from self._write_first_atoms(project, image)
            else:
                edit = ImageEdit(image, EditKind.ATOMS, state.annotator)
                after = atoms.get(image, self._atoms.of(image))
                project.atoms.record(edit, was, after, blind=state.blind)
            yield False

    def _write_whole(
        self, project: Project, image: str, before: Analysis, now: Analysis | None
    ) -> None:
        """Write all that has changed in an image since it was last written."""
        self._write_labels(project, image)
        before = _with_labels_of(now, before, self._unsaved_labels.get(image, ()))
        edit = ImageEdit(image, EditKind.GEOMETRY, self._state.annotator)
        project.record(edit, before, now, blind=self._state.blind)
        self._write_pixel_size(project, image, now)

    def _write_first(self, project: Project, image: str) -> Work:
        """Write the first result of an image, then what each person has done to it."""
        author, blind = self._state.annotator, self._state.blind
        edits = [e for e in self.edits_of(image) if isinstance(e, ClusterEdit)]
        now, refreshed = before_edits(self._state.store.get(image), edits)
        if now is not None:
            # Its clusters are not a person's edit, but labels that came with it are.
            project.record(ImageEdit(image, EditKind.ANALYSIS, author), None, now, blind=blind)
            labelled = now.table.loc[now.table["label_corrected"] != "", "cluster_id"]
            if ids := frozenset(labelled.tolist()):
                labels = ImageEdit(image, EditKind.LABEL, author, ids)
                project.record(labels, now, now, blind=blind)
        self._write_labels(project, image, edits)  # those that were undone
        for edit in refreshed:
            before, now = now, edit.apply(now)
            project.record(edit, before, now, blind=blind, at_once=True)
            yield False
        self._write_pixel_size(project, image, now)

    def _write_first_atoms(self, project: Project, image: str) -> Work:
        """Write the first atoms of an image, then what each person has done to them."""
        author, blind = self._state.annotator, self._state.blind
        edits = [e for e in self.edits_of(image) if isinstance(e, AtomEdit)]
        now, refreshed = before_edits(self._atoms.of(image), edits)
        if now is not None:
            project.atoms.record(ImageEdit(image, EditKind.ATOMS, author), None, now, blind=blind)
        for edit in refreshed:
            before, now = now, edit.apply(now)
            project.atoms.record(edit, before, now, blind=blind)
            yield False

    def _write_pixel_size(self, project: Project, image: str, now: Analysis | None) -> None:
        """Write a pixel size that was changed since the analysis."""
        size_nm = self._state.micrograph(image).pixel_size_nm
        if now is not None and now.micrograph.pixel_size_nm != size_nm:
            project.image_files.set_pixel_size(image, size_nm)

    def _write_labels(self, project: Project, image: str, others: Sequence[Edit] = ()) -> None:
        """Write each label that could not be written, in order: the log keeps them all.

        Those among ``others`` are left out.
        """
        for change in self._unsaved_labels.get(image, ()) if project.has(image) else ():
            if not any(change.edit is edit for edit in others):
                project.record(
                    change.edit, None, change.after, is_undo=change.is_undo, blind=self._state.blind
                )


def _if_known(atoms: ImageAtoms | None) -> ImageAtoms | None:
    """Return the atoms of an image; None before anybody, or a model, has said anything of them."""
    if atoms is None or atoms.analysis is not None or atoms.marks:
        return atoms
    return atoms if atoms.support_added or atoms.support_removed else None


def _ids_of(changes: Iterable[ClusterChange]) -> frozenset[int]:
    """Return the clusters that edits have labelled."""
    return frozenset[int]().union(*(change.edit.cluster_ids or () for change in changes))


def _with_labels_of(
    now: Analysis | None, before: Analysis, written: Iterable[ClusterChange]
) -> Analysis:
    """Return an analysis with the present labels of clusters whose labels have been written."""
    ids = _ids_of(written)
    if now is None or not ids:
        return before
    labels = now.table.set_index("cluster_id")["label_corrected"]
    return before.with_corrections({i: str(labels[i]) for i in ids if i in labels})


def _cut(change: ClusterChange) -> ClusterChange:
    """Return an edit of labels with the rows of its clusters only, to be kept in memory."""
    after, ids = change.after, change.edit.cluster_ids
    if after is not None and ids is not None:
        after = replace(after, table=after.table[after.table["cluster_id"].isin(ids)])
    return replace(change, before=None, after=after, columns=None)
