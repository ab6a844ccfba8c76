"""The session: what one window is looking at. Views listen to it; none is a source of truth.

Images, their analyses and the selection live here. Everything that a person changes is an edit
that can be applied and reverted (`edits`), and is in the project, if there is one, before the call
returns. Neither Qt nor napari is known here: the binding is in ``widgets``.
"""

from __future__ import annotations

import getpass
import inspect
import math
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from psygnal import Signal

from ..atoms.marks import ImageAtoms
from ..core import cluster_table as tables
from ..core.cluster_table import Key
from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.table_cache import Columns, TableCache, columns_of
from ..io.lazy_micrograph import LazyMicrograph
from ..models.analysis import Analysis
from ..tracking.tracks import tracking_of
from .atom_edits import AtomEdit, SetAtoms, SetMarks
from .atom_store import AtomStore
from .edits import (
    AddClusters,
    ClusterRows,
    Edit,
    Relabel,
    RemoveClusters,
    ReplaceClusters,
    SetAnalysis,
    SetRegions,
    SetTracks,
    bare_rows,
    blinded,
    ids_of,
    inherit,
    insert_rows,
    mark_excluded,
    remove_rows,
    still_there,
    take_rows,
    with_predictions,
)

if TYPE_CHECKING:
    from ..project import MergeReport, Project, ProjectContents


_LONG = 8
"""Steps that concern more images than that are taken in turns, where somebody offers them."""
_MANY = 5000
"""As are those that change more clusters than that."""


@dataclass(frozen=True, eq=False)
class Step:
    """What a person did in one go, to one image or to several."""

    edits: tuple[Edit | AtomEdit, ...]
    description: str
    annotator: str
    time: datetime
    group: object = None
    """Steps of one group are one, though they come one after the other."""

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(edit.image for edit in self.edits))


@dataclass(frozen=True, eq=False)
class Change:
    """How the analysis of an image has changed, as the project is told: see `Project.keep`."""

    image: str
    before: Analysis | None
    after: Analysis | None
    cluster_ids: frozenset[int] | None
    annotator: str
    by_person: bool = False
    spoken: bool = False
    undone: bool = False
    only_predicted: bool = False
    columns: Columns | None = None
    """Those of the table as it is, if they are at hand."""


Work = Generator[bool, None, None]
"""A step in parts: the window may have a turn wherever it yields, and must have one if that is
True."""


@dataclass(frozen=True, eq=False)
class AtomChange:
    """How the atoms of an image have changed, as the project is told: see `Project.keep_atoms`."""

    image: str
    before: ImageAtoms | None
    after: ImageAtoms | None
    annotator: str


def user_name() -> str:
    """Who works at this computer, as the system knows it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "somebody"


class TaskState(Enum):
    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """What the window is busy with."""

    state: TaskState = TaskState.IDLE
    message: str = ""
    done: int = 0
    total: int = 0


class WindowState:
    """Images, analyses, selection, edits and status of one window.

    Signals: ``images_changed()``; ``current_changed(image name or None)``;
    ``analysis_changed(image name)`` after any change of a table or of its arrays;
    ``selection_changed(frozenset of keys)``; ``status_changed(Status)``;
    ``history_changed()``; ``explained_class_changed(class or None)``: whose class maps are
    wanted, None for each cluster's predicted class; ``focus_requested(key)``: somebody wants to
    see this cluster in the image; ``project_changed()``: another project, or none, is open, or it
    is seen blind: everything may be another; ``annotator_changed()``; ``saved_changed(words)``:
    "" if all is in the project, else why not.
    """

    images_changed = Signal()
    current_changed = Signal(object)
    analysis_changed = Signal(str)
    selection_changed = Signal(frozenset)
    status_changed = Signal(Status)
    history_changed = Signal()
    explained_class_changed = Signal(object)
    focus_requested = Signal(tuple)
    project_changed = Signal()
    annotator_changed = Signal()
    saved_changed = Signal(str)

    def __init__(self) -> None:
        self._micrographs: dict[str, Micrograph] = {}
        self._analyses: dict[str, Analysis] = {}
        self._catalogue = TableCache()
        self.atoms = AtomStore(self)
        self._generation: dict[str, int] = {}
        self._next_id: dict[str, int] = {}
        self._current: str | None = None
        self._selection: frozenset[Key] = frozenset()
        self._explained_class: str | None = None
        self._undo: list[Step] = []
        self._redo: list[Step] = []
        self._status = Status()
        self._project: Project | None = None
        self._annotator = user_name()
        # What blind mode hides; None: it is off.
        self._hidden: dict[str, Analysis] | None = None
        self._hidden_atoms: dict[str, ImageAtoms] = {}
        self._unsaved: dict[str, Analysis | None] = {}
        self._unsaved_atoms: dict[str, ImageAtoms | None] = {}
        self._classes: tuple[str, ...] | None = None
        self._epoch = 0
        self._trouble = ""
        self._under_way: Work | None = None
        self.in_turns: Callable[[Callable[[float], bool]], None] | None = None
        """Takes `go_on` and calls it, with the seconds it may take, until it says that all is
        done. Without it long steps are done at once, as all others are."""

    # ---- project
    @property
    def epoch(self) -> int:
        """Another number once other images, or others' views of them, are at hand: what was asked
        for before is of no use any more."""
        return self._epoch

    @property
    def project(self) -> Project | None:
        """The file in which everything is kept; None: all lives in memory only."""
        return self._project

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed, because another window has the project."""
        return self._project is not None and self._project.read_only

    @property
    def annotator(self) -> str:
        """Who corrects."""
        return self._annotator

    @annotator.setter
    def annotator(self, name: str) -> None:
        name = name.strip() or user_name()
        if name != self._annotator:
            self.finish()  # what is under way is still by whoever it was
            if self.blind:
                self.set_blind(False)
            self._annotator = name
            self.annotator_changed.emit()

    def open_project(
        self,
        project: Project,
        stored: Mapping[str, ProjectContents],
        catalogue: TableCache | None = None,
    ) -> None:
        """Show what a project holds; what was in the session before goes.

        Parameters
        ----------
        project
            Open; the session closes it when another one comes.
        stored
            Of each of its images the micrograph and, where it is analysed, the analysis.
        catalogue
            Of these, if it was made already: it takes its time.
        """
        self.finish()
        if self._project is not None and self._project is not project:
            self._project.retire()
        self._project = project
        self._hidden = None
        self._unsaved.clear()
        self._unsaved_atoms.clear()
        self._micrographs = {name: found.micrograph for name, found in stored.items()}
        if catalogue is None:
            catalogue = TableCache.of(
                {n: f.columns for n, f in stored.items() if f.columns is not None}
            )
        analyses = {n: f.analysis for n, f in stored.items() if f.analysis is not None}
        atoms = {n: f.atoms for n, f in stored.items() if f.atoms is not None}
        next_ids = {n: f.next_atom_id for n, f in stored.items()}
        self._show_all(analyses, atoms, next_ids, catalogue)
        project.finish_first = self.finish
        self._next_id = {n: max(f.next_id, self._next_id.get(n, 1)) for n, f in stored.items()}
        self._say_saved("")

    def close_project(self) -> None:
        """Forget the project and its images."""
        self.finish()
        if self._project is None:
            return
        self._project.retire()
        self._project = None
        self._hidden = None
        self._micrographs = {}
        self._show_all({}, {}, {})

    def keep_in(self, project: Project) -> None:
        """From now on all that is at hand is kept in a project that was just made."""
        self.finish()
        self._project = project
        project.finish_first = self.finish
        for micrograph in self._micrographs.values():
            project.add(micrograph)
        self._unsaved = dict.fromkeys(n for n in self._analyses if project.has(n))
        self._unsaved_atoms = dict.fromkeys(n for n in self.atoms.images if project.has(n))
        self.save_again()
        self.project_changed.emit()

    def add_contents(self, stored: Mapping[str, ProjectContents]) -> None:
        """Images that have just come into the project."""
        for name, found in stored.items():
            self._micrographs[name] = found.micrograph
            self._next_id[name] = max(found.next_id, self._next_id.get(name, 1))
        self.images_changed.emit()

    def describe(self, image: str) -> None:
        """Take over what the file of an image says, if it is known by its path only and is read."""
        micrograph = self._micrographs.get(image)
        if isinstance(micrograph, LazyMicrograph) and micrograph.sha256 is None:
            self._micrographs[image] = micrograph.with_file_metadata()
            self.images_changed.emit()

    def follow_file(self, image: str, micrograph: Micrograph) -> None:
        """The file of an image lies elsewhere now; what is known of it stays."""
        self._micrographs[image] = micrograph
        for analyses in (self._analyses, self._hidden or {}):
            if image in analyses:
                analyses[image] = replace(analyses[image], micrograph=micrograph)

    def merge(self, path: object) -> MergeReport:
        """Take in the corrections of another project: see `Project.merge`.

        Raises
        ------
        AtomicityError
            If there is no project, or the other one can't be read.
        """
        self._refuse_if_read_only()
        if self._project is None:
            raise AtomicityError(
                "there is no project to merge into", advice="Open a folder or a project first"
            )
        if self.blind:
            self.set_blind(False)
        report = self._project.merge(path)  # type: ignore[arg-type]
        self.atoms.skip_to(self._project.free_atom_ids())
        labels = self._project.labels()
        changed = []
        for image, analysis in list(self._analyses.items()):
            merged = _labelled(analysis, labels.get(image, {}))
            if merged is not analysis:
                self._install(Change(image, analysis, merged, None, self._annotator))
                changed.append(image)
        for image in changed:
            self.analysis_changed.emit(image)
        self.history_changed.emit()  # the log has grown, also where no label has changed
        return report

    @property
    def blind(self) -> bool:
        """Whether predictions and others' corrections are hidden."""
        return self._hidden is not None

    def set_blind(self, on: bool) -> None:
        """Hide what the machine and others say, for a second opinion; or show it again.

        Labels that are given blind are kept apart: they count only where nobody has said anything
        openly.

        Raises
        ------
        AtomicityError
            If there is no project to keep them in.
        """
        if on == self.blind:
            return
        if not self.save_again():
            raise AtomicityError(self._trouble, advice="Mend that first: not all is saved")
        if self._project is None:
            raise AtomicityError(
                "blind labels need a project to be kept in", advice="Open a folder or a project"
            )
        if on:
            labels, removed = self._project.blind_labels(self._annotator)
            shown = {
                n: blinded(remove_rows(a, removed[n]) if n in removed else a, labels.get(n, {}))
                for n, a in self._analyses.items()
            }
            marks = self._project.blind_marks(self._annotator)
            self._hidden_atoms = {n: a for n in self.atoms.images if (a := self.atoms.of(n))}
            unmarked = {n: ImageAtoms(n, a.pixel_size_nm) for n, a in self._hidden_atoms.items()}
            self._hidden = self._analyses
            self._show_all(shown, {**unmarked, **marks}, self.atoms.next_ids())
        else:
            hidden, self._hidden = self._hidden or {}, None
            labels = self._project.labels()
            hidden_atoms, self._hidden_atoms = self._hidden_atoms, {}
            labelled = {n: _labelled(a, labels.get(n, {})) for n, a in hidden.items()}
            self._show_all(labelled, hidden_atoms, self.atoms.next_ids())

    def _show_all(
        self,
        analyses: Mapping[str, Analysis],
        atoms: Mapping[str, ImageAtoms],
        next_atom_ids: Mapping[str, int],
        catalogue: TableCache | None = None,
    ) -> None:
        """These and no others; nothing of what was done before can be undone."""
        self._epoch += 1
        with_atoms = self.atoms.put_all(atoms, next_atom_ids)
        self._catalogue = TableCache() if catalogue is None else catalogue
        self._analyses = {}
        self._classes = None
        self._undo.clear()
        self._redo.clear()
        for image, analysis in analyses.items():
            marked = mark_excluded(analysis)
            known = self._catalogue.columns(image) if marked is analysis else None
            self._take(image, marked, known)
        for image in {*self._generation, *self._micrographs}:
            self._generation[image] = self._generation.get(image, 0) + 1
        self._selection = frozenset()
        if self._current not in self._micrographs:
            self._current = None
        self.project_changed.emit()
        self.images_changed.emit()
        self.current_changed.emit(self._current)
        # One stands for all: who looks at all images has heard of the project.
        one = self._current or next(iter(self._analyses), None)
        if one is not None:
            self.analysis_changed.emit(one)
        self.selection_changed.emit(self._selection)
        for image in with_atoms:
            self.atoms.changed.emit(image)
        self.history_changed.emit()

    def _saving(self, changes: Sequence[Change | AtomChange]) -> Work:
        """Write changes into the project; what can't be written now is tried again later."""
        project = self._project
        if project is None or project.read_only:
            return
        waiting, atoms_waiting = dict(self._unsaved), dict(self._unsaved_atoms)
        kept = [c for c in changes if project.has(c.image)]
        now = {**self._analyses, **{c.image: c.after for c in kept if isinstance(c, Change)}}
        atoms = {c.image: c.after for c in kept if isinstance(c, AtomChange)}
        try:
            with project.together():
                for image, before in waiting.items():
                    self._save_whole(project, image, before, now.get(image))
                    yield False
                for image, was in atoms_waiting.items():
                    after = atoms.get(image, self.atoms.of(image))
                    project.keep_atoms(image, was, after, self._annotator, self.blind)
                    yield False
                for change in kept:
                    if isinstance(change, AtomChange):
                        if change.image not in atoms_waiting:
                            project.keep_atoms(
                                change.image, change.before, change.after, change.annotator,
                                self.blind,
                            )  # fmt: skip
                    elif change.image not in waiting:
                        project.keep(
                            change.image, change.before, change.after, change.cluster_ids,
                            change.annotator, change.by_person, self.blind, change.spoken,
                            change.undone, change.only_predicted,
                        )  # fmt: skip
                    yield False
                if len(kept) > _LONG:
                    yield True  # the disk is waited for in a turn of its own
        except AtomicityError as error:
            for change in kept:
                if isinstance(change, AtomChange):
                    self._unsaved_atoms.setdefault(change.image, change.before)
                else:
                    self._unsaved.setdefault(change.image, change.before)
            self._say_saved(str(error))
        else:
            self._unsaved.clear()
            self._unsaved_atoms.clear()
            self._say_saved("")

    def _save_whole(
        self, project: Project, image: str, before: Analysis | None, now: Analysis | None
    ) -> None:
        """Write all that has changed in an image since it was written last."""
        who = self._annotator
        # Clusters of a first result are nobody's doing, but what is said of them is.
        by_person = before is not None
        project.keep(image, before, now, None, who, by_person, self.blind)
        if not by_person and now is not None:
            said = now.table.loc[now.table["label_corrected"] != "", "cluster_id"]
            if len(said):
                ids = frozenset(said.tolist())
                project.keep(image, now, now, ids, who, True, self.blind, spoken=True)

    def save_again(self) -> bool:
        """Try to write what could not be written; whether all is in the project now."""
        self.finish()
        if self._unsaved or self._unsaved_atoms:
            for _ in self._saving(()):
                pass
        return not (self._unsaved or self._unsaved_atoms)

    @property
    def unsaved(self) -> str:
        """Why some of what was done is not in the project; "" if all is."""
        return self._trouble

    def _say_saved(self, words: str) -> None:
        if words != self._trouble:
            self._trouble = words
            self.saved_changed.emit(words)

    # ---- images
    @property
    def images(self) -> list[str]:
        return list(self._micrographs)

    def micrograph(self, image: str) -> Micrograph:
        return self._micrographs[image]

    def add_image(self, micrograph: Micrograph) -> str:
        """Add an image, or replace the one of the same name (its analysis stays)."""
        self.finish()
        self._micrographs[micrograph.name] = micrograph
        project = self._project
        if project is not None and not project.read_only:
            try:
                project.add(micrograph)
            except AtomicityError as error:
                self._say_saved(str(error))
        self.images_changed.emit()
        if self._current is None:
            self.current = micrograph.name
        return micrograph.name

    def remove_image(self, image: str) -> None:
        """Forget an image and all that is known of it (a project keeps it)."""
        self.finish()
        self._micrographs.pop(image, None)
        self._analyses.pop(image, None)
        self.atoms.install(image, None)
        self._hidden_atoms.pop(image, None)
        if self._hidden is not None:
            self._hidden.pop(image, None)
        self._catalogue.set(image, None)
        self._classes = None
        self._generation[image] = self._generation.get(image, 0) + 1
        self._undo = [s for s in self._undo if image not in s.images]
        self._redo = [s for s in self._redo if image not in s.images]
        self.select(k for k in self._selection if k[0] != image)
        if self._current == image:
            self.current = next(iter(self._micrographs), None)
        self.images_changed.emit()
        self.analysis_changed.emit(image)
        self.atoms.tell(image)
        self.history_changed.emit()

    @property
    def current(self) -> str | None:
        """Name of the image that is looked at."""
        return self._current

    @current.setter
    def current(self, image: str | None) -> None:
        if image != self._current:
            self._current = image
            self.current_changed.emit(image)

    # ---- analyses
    def analysis(self, image: str) -> Analysis | None:
        return self._analyses.get(image)

    def generation(self, image: str) -> int:
        """Grows with every change of an image's analysis: a late result can tell it is stale."""
        return self._generation.get(image, 0)

    def table(self, image: str | None = None) -> pd.DataFrame:
        """The cluster table of one image, or of all."""
        if image is not None:
            found = self._analyses.get(image)
            return tables.empty() if found is None else found.table
        return self._catalogue.table(self._micrographs)

    def columns(self, image: str) -> Columns | None:
        """The cluster table of an image as arrays by name, never to be written to."""
        return self._catalogue.columns(image)

    def classes(self) -> list[str]:
        """Classes of the analyses at hand, in order."""
        if self._classes is None:
            seen: dict[str, None] = {}
            for analysis in (self._hidden or self._analyses).values():
                seen.update(dict.fromkeys(tables.classes_of(analysis.table)))
            self._classes = tuple(seen)
        return list(self._classes)

    def next_cluster_id(self, image: str) -> int:
        """An id that no cluster of this image ever had."""
        value = self._next_id.get(image, 1)
        self._next_id[image] = value + 1
        return value

    # ---- edits
    def do(
        self,
        *edits: Edit | AtomEdit,
        description: str | None = None,
        group: object = None,
        soon: bool = False,
    ) -> None:
        """Apply edits and remember them as one step of undo.

        Parameters
        ----------
        edits
            In order.
        description
            In words; that of the first edit if None.
        group
            If the last step was of the same group, these edits become part of it.
        soon
            Whether it may take a few turns of the window, where somebody offers them.

        Raises
        ------
        AtomicityError
            If the project may not be changed, or the edits are not for a blind annotator.
        """
        self._refuse_if_read_only()
        if not all(isinstance(e, Relabel | RemoveClusters | SetMarks) for e in edits):
            self._refuse_if_blind()
        if edits:
            words = description or edits[0].description
            self._carry_out(self._doing(edits, words, group), soon or len(edits) > _LONG)

    def _doing(
        self,
        edits: Iterable[Edit | AtomEdit],
        description: str | None = None,
        group: object = None,
    ) -> Work:
        done, changes = yield from self._replaying(
            edits, lambda e, a: (e, e.apply(a)), self._annotator
        )
        if not done:
            return
        words = description or _all_of(done)
        step = Step(tuple(done), words, self._annotator, datetime.now(UTC), group)
        last = self._undo[-1] if self._undo else None
        if group is not None and last is not None and last.group is group:
            step = replace(last, edits=(*last.edits, *done))
            self._undo.pop()
        self._undo.append(step)
        self._redo.clear()
        yield from self._telling(changes)
        self.history_changed.emit()

    def _carry_out(self, work: Work, soon: bool) -> None:
        """Do it now or soon: if somebody gives it turns, a part in each.

        Whatever else is done meanwhile waits for it: see `finish`.
        """
        if self._under_way is not None:  # who hears of a step does another one
            for _ in work:
                pass
            return
        self._under_way = work
        if soon and self.in_turns is not None:
            self.in_turns(self.go_on)
        else:
            self.finish()

    def go_on(self, seconds: float) -> bool:
        """Go on with the step that is under way for a while; whether there is more to do."""
        work, end = self._under_way, time.perf_counter() + seconds
        if work is None or inspect.getgeneratorstate(work) == inspect.GEN_RUNNING:
            return False
        try:
            while not next(work) and time.perf_counter() < end:
                pass
        except StopIteration:
            self._under_way = None
            return False
        except BaseException:
            self._under_way = None
            raise
        return True

    def finish(self) -> None:
        """Bring the step that is under way to its end."""
        while self.go_on(math.inf):
            pass

    @property
    def busy(self) -> bool:
        """Whether a long step is under way."""
        return self._under_way is not None

    def _replaying(
        self,
        edits: Iterable[Edit | AtomEdit],
        replay: Callable[[Any, Any], tuple[Any, Any]],
        annotator: str,
        undone: bool = False,
        known: bool = False,
    ) -> Generator[bool, None, tuple[list[Edit | AtomEdit], list[Change | AtomChange]]]:
        """Edits one after the other, then into the project, then into memory.

        Yields wherever the window may have a turn; until all is in the project nobody sees any
        of it.

        Raises
        ------
        TableError
            If a table makes no sense: then none of it happens.
        """
        now: dict[tuple[bool, str], Any] = {}
        changes: list[Change | AtomChange] = []
        replayed = []
        for edit in edits:
            image, of_atoms = edit.image, isinstance(edit, SetAtoms | SetMarks)
            first = self.atoms.of(image) if of_atoms else self._analyses.get(image)
            before = now.get((of_atoms, image), first)
            edit, after = replay(edit, before)
            if isinstance(edit, SetAtoms | SetMarks):
                changes.append(AtomChange(image, before, after, annotator))
            else:
                after = _checked(after, not known and not isinstance(edit, Relabel))
                columns = None
                if after is not None and not isinstance(edit, Relabel):
                    columns = columns_of(after.table, self._catalogue.columns(image))
                changes.append(_change_by(edit, before, after, annotator, undone, columns))
            now[of_atoms, image] = after
            replayed.append(edit)
            yield False
        yield from self._taking_over(changes)
        return replayed, changes

    def _taking_over(self, changes: Sequence[Change | AtomChange]) -> Work:
        """Let changes be so: in the project, and in memory."""
        yield from self._saving(changes)
        for change in changes:
            if isinstance(change, AtomChange):
                self.atoms.install(change.image, change.after)
            else:
                self._install(change)

    def _install(self, change: Change) -> None:
        """The one place where an analysis changes."""
        image, analysis = change.image, change.after
        if analysis is None:
            self._analyses.pop(image, None)
            self._catalogue.set(image, None)
            self._classes = None
        elif change.spoken and image in self._analyses:
            self._analyses[image] = analysis
            self._catalogue.relabel(image, analysis.table)
        else:
            self._take(image, analysis, change.columns)
        self._generation[image] = self._generation.get(image, 0) + 1

    def _telling(self, changes: Iterable[Change | AtomChange]) -> Work:
        """Views hear of the changes; a cluster that is gone is not selected any more.

        In one turn, however many images: who follows many of them looks once after it.
        """
        yield True  # the views have a turn to themselves
        changes = list(changes)
        images = dict.fromkeys(c.image for c in changes if isinstance(c, Change))
        for image in images:
            self.analysis_changed.emit(image)
        for image in dict.fromkeys(c.image for c in changes if isinstance(c, AtomChange)):
            self.atoms.tell(image)
        yield False
        known = {image: set(self.table(image)["cluster_id"].tolist()) for image in images}
        gone = [k for k in self._selection if k[0] in known and k[1] not in known[k[0]]]
        if gone:
            self.select(self._selection.difference(gone))

    def _refuse_if_read_only(self) -> None:
        """All that changes anything begins here; what is under way comes first."""
        self.finish()
        if self.read_only:
            raise AtomicityError(
                "this project is open in another window: nothing can be changed in this one",
                None if self._project is None else self._project.path,
                "Close the other window, or work on a copy",
            )

    def _refuse_if_blind(self) -> None:
        if self.blind:
            raise AtomicityError(
                "a blind annotator labels clusters, says which are none, and marks atoms",
                advice="Leave blind mode to change anything else",
            )

    def undo(self) -> Step | None:
        """Take the last step back."""
        self.finish()
        if not self._undo:
            return None
        self._refuse_if_read_only()
        step = self._undo[-1]
        self._carry_out(self._undoing(), _is_long([step]))
        return step

    def _undoing(self) -> Work:
        step = self._undo[-1]
        undone, changes = yield from self._replaying(
            reversed(step.edits), _reverted, step.annotator, undone=True, known=True
        )
        self._undo.pop()
        self._redo.append(replace(step, edits=tuple(reversed(undone))))
        yield from self._telling(changes)
        self.history_changed.emit()

    def redo(self) -> Step | None:
        """Do again what was taken back."""
        self.finish()
        if not self._redo:
            return None
        self._refuse_if_read_only()
        step = self._redo[-1]
        self._carry_out(self._redoing(), _is_long([step]))
        return step

    def _redoing(self) -> Work:
        step = self._redo[-1]
        done, changes = yield from self._replaying(
            step.edits, _applied_again, step.annotator, known=True
        )
        self._redo.pop()
        self._undo.append(replace(step, edits=tuple(done)))
        yield from self._telling(changes)
        self.history_changed.emit()

    def go_to(self, n_done: int) -> None:
        """Take back or do again until so many steps are done."""
        self._refuse_if_read_only()
        n_done = min(max(n_done, 0), len(self._undo) + len(self._redo))
        n_steps = n_done - len(self._undo)
        steps = self._undo[n_done:] if n_steps < 0 else self._redo[len(self._redo) - n_steps :]
        self._carry_out(self._going_to(n_done), _is_long(steps))

    def _going_to(self, n_done: int) -> Work:
        while len(self._undo) > n_done:
            yield from self._undoing()
        while len(self._undo) < n_done:
            yield from self._redoing()

    @property
    def history(self) -> tuple[Step, ...]:
        return tuple(self._undo)

    @property
    def undone(self) -> tuple[Step, ...]:
        """What can be done again; the last one first in line."""
        return tuple(self._redo)

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        return bool(self._redo)

    def set_analysis(
        self,
        analysis: Analysis,
        description: str = "analyse",
        undoable: bool = True,
        group: object = None,
        soon: bool = False,
    ) -> None:
        """A new result; one undo brings the old one back.

        Clusters that were known before keep their ids and their corrections, and excluded regions
        stay. So do clusters that a person has added or labelled and that were not found again;
        what a person has removed does not come back. A first result that nobody waits for need not
        be a step of undo; those of one ``group`` are one step. For ``soon`` see `do`.
        """
        self.finish()
        image = analysis.micrograph.name
        if image not in self._micrographs:
            self.add_image(analysis.micrograph)
        self._refuse_if_read_only()
        edits = self._as_found(analysis, description)
        if undoable or image in self._analyses:
            self._refuse_if_blind()
            self._carry_out(self._doing(edits, group=group), soon)
        elif not self.blind:
            self._carry_out(self._quietly(edits), soon)

    def _as_found(self, analysis: Analysis, description: str) -> Iterator[Edit]:
        """A new result with what is known of the image from before."""
        image = analysis.micrograph.name
        before = self._analyses.get(image)
        first_free_id = self._next_id.get(image, 1)
        if first_free_id > 1:
            added, removed = self._by_hand(image)
            analysis = inherit(before, analysis, first_free_id, added, removed)
        if before is not None:
            analysis = replace(analysis, regions=before.regions)
        yield SetAnalysis(image, before, analysis, description)

    def _quietly(self, edits: Iterable[Edit]) -> Work:
        _, changes = yield from self._replaying(
            edits, lambda e, a: (e, e.apply(a)), self._annotator
        )
        yield from self._telling(changes)

    def _by_hand(self, image: str) -> tuple[frozenset[int], pd.DataFrame]:
        """Clusters that a person has added, and places (frame, y_nm, x_nm) of those removed."""
        if self._project is not None and self._project.has(image):
            return self._project.by_hand(image)
        added: set[int] = set()
        removed: dict[int, pd.DataFrame] = {}
        for step in self._undo:
            for edit in step.edits:
                if edit.image == image and isinstance(edit, AddClusters):
                    added |= ids_of(edit.rows)
                elif edit.image == image and isinstance(edit, RemoveClusters):
                    removed |= dict.fromkeys(ids_of(edit.rows), edit.rows.table)
        columns = ["frame", "y_nm", "x_nm"]
        places = [t.loc[t["cluster_id"] == i, columns] for i, t in removed.items()]
        none = pd.DataFrame(columns=columns)
        return frozenset(added), pd.concat(places, ignore_index=True) if places else none

    def fill(self, result: Analysis) -> None:
        """What the model says of clusters at hand; the machine's doing, so no step of undo."""
        self.finish()
        image = result.micrograph.name
        analysis = self._analyses.get(image)
        if analysis is not None and not self.blind:
            rows = still_there(analysis, result)
            self._machine(image, insert_rows(analysis, rows), ids_of(rows))

    def place(self, result: Analysis) -> None:
        """Places in the embedding's map of clusters whose prediction is still the same."""
        self.finish()
        image = result.micrograph.name
        analysis = self._analyses.get(image)
        if analysis is None or self.blind:
            return
        same = ["cluster_id", "frame", "y_px", "x_px", "label_predicted", "confidence", "model_id"]
        places = result.table[[*same, "umap_1", "umap_2"]]
        found = analysis.table[same].merge(places, on=same, how="left")
        known = found["umap_1"].notna().to_numpy()
        table = analysis.table.copy()
        table.loc[known, ["umap_1", "umap_2"]] = found.loc[known, ["umap_1", "umap_2"]].to_numpy()
        ids = frozenset(table.loc[known, "cluster_id"].tolist())
        self._machine(image, replace(analysis, table=table), ids)

    def _machine(self, image: str, after: Analysis, cluster_ids: frozenset[int]) -> None:
        """The machine's doing: kept and told, and no step of undo."""
        before = self._analyses.get(image)
        checked = _checked(after)
        changes = [Change(image, before, checked, cluster_ids, self._annotator)]
        for part in (self._taking_over(changes), self._telling(changes)):
            for _ in part:
                pass

    def predict(
        self, result: Analysis, description: str = "classify", group: object = None
    ) -> None:
        """A new classification of the clusters at hand; one undo brings the old one back.

        Those of one ``group`` are one step of undo, which takes the first one's description.
        """
        self.finish()
        image = result.micrograph.name
        analysis = self._analyses.get(image)
        if analysis is not None:
            after = with_predictions(analysis, result)
            edit = SetAnalysis(image, analysis, after, description, only_predicted=True)
            self.do(edit, group=group)

    def add_clusters(
        self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]
    ) -> list[int]:
        """Clusters that a person points to, measured; their ids are new.

        Parameters
        ----------
        image
            Name of the image; it must have an analysis.
        table, outlines
            As a detection gives them; the ids in the table do not matter.

        Returns
        -------
        list of int
            The new ids, in the order of the table.
        """
        self.finish()
        rows = self._new_rows(image, table, outlines)
        self.do(AddClusters(image, rows, f"add {_clusters(len(table))}"))
        return rows.table["cluster_id"].tolist()

    def _new_rows(self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]) -> ClusterRows:
        ids = [self.next_cluster_id(image) for _ in range(len(table))]
        table = table.drop(columns="track_id", errors="ignore")  # nobody has linked what is new
        return bare_rows(table.assign(image=image, cluster_id=ids), outlines)

    def replace_clusters(
        self,
        image: str,
        cluster_ids: Iterable[int],
        table: pd.DataFrame,
        outlines: list[np.ndarray],
        verb: str,
    ) -> list[int]:
        """Clusters in the place of others: one split into several, or several merged into one.

        Parameters
        ----------
        image
            Name of the image.
        cluster_ids
            Those that go; none happens if one of them is gone already.
        table, outlines
            What comes, measured; the ids in the table do not matter.
        verb
            What was done, for the history: "split" or "merge".

        Returns
        -------
        list of int
            The new ids; empty if nothing happened.
        """
        self.finish()
        analysis, gone = self._analyses.get(image), set(cluster_ids)
        if analysis is None or not gone <= set(analysis.table["cluster_id"]):
            return []
        before = take_rows(analysis, gone)
        after = self._new_rows(image, table, outlines)
        words = f"{verb} {_clusters(len(gone))}"
        self.do(ReplaceClusters(image, before, after, words))
        return after.table["cluster_id"].tolist()

    def move_clusters(self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]) -> None:
        """Clusters measured again at another place; the model must look at them again.

        Parameters
        ----------
        image
            Name of the image.
        table, outlines
            The new measurements; ``cluster_id`` says of which clusters.
        """
        self.finish()
        analysis = self._analyses.get(image)
        if analysis is None:
            return
        # One that was deleted meanwhile must not come back.
        there = table["cluster_id"].isin(analysis.table["cluster_id"]).to_numpy()
        outlines = [o for o, is_there in zip(outlines, there, strict=True) if is_there]
        table = table[there]
        if not len(table):
            return
        before = take_rows(analysis, table["cluster_id"])
        corrected = before.table.set_index("cluster_id")["label_corrected"]
        table = table.assign(
            image=image, label_corrected=table["cluster_id"].map(corrected), label_predicted=""
        )
        if "track_id" in before.table.columns:
            track = before.table.set_index("cluster_id")["track_id"]
            table = table.assign(track_id=table["cluster_id"].map(track))
        after = bare_rows(tables.settle_labels(table), outlines)
        self.do(ReplaceClusters(image, before, after, f"move {_clusters(len(table))}"))

    def set_tracks(self, tracked: Analysis) -> None:
        """Which clusters are one over the frames of a stack (`movies.track_clusters`); one step."""
        self.finish()
        image = tracked.micrograph.name
        analysis = self._analyses.get(image)
        if analysis is not None:
            self.do(SetTracks(image, tracking_of(analysis), tracking_of(tracked)))

    def relabel(self, keys: Iterable[Key], label: str) -> None:
        """A person says what these clusters are ("" takes it back); one step, however many."""
        keys = list(keys)
        words = f"label {_clusters(len(keys))} {label}" if label else "take labels back"
        self.relabel_each(dict.fromkeys(keys, label), words)

    def relabel_each(self, labels: Mapping[Key, str], description: str | None = None) -> None:
        """A person says of each of these clusters what it is; one step."""
        self._refuse_if_read_only()
        by_image: dict[str, dict[int, str]] = {}
        for (image, cluster_id), label in labels.items():
            by_image.setdefault(image, {})[cluster_id] = label
        words = description or f"label {_clusters(len(labels))}"
        self._carry_out(self._doing(self._relabels(by_image), words), _are_many(by_image))

    def _relabels(self, by_image: Mapping[str, Mapping[int, str]]) -> Iterator[Edit]:
        for image, new in by_image.items():
            table = self.table(image)
            known = table[table["cluster_id"].isin(list(new))]
            before = dict(zip(known["cluster_id"], known["label_corrected"], strict=True))
            if before:
                yield Relabel(image, before, {i: new[i] for i in before})

    def remove(self, keys: Iterable[Key]) -> None:
        """A person says that these are no clusters; one step, however many images."""
        self._refuse_if_read_only()
        by_image: dict[str, list[int]] = {}
        for image, cluster_id in keys:
            by_image.setdefault(image, []).append(cluster_id)
        self._carry_out(self._doing(self._removals(by_image)), _are_many(by_image))

    def _removals(self, by_image: Mapping[str, Sequence[int]]) -> Iterator[Edit]:
        for image, ids in by_image.items():
            analysis = self._analyses.get(image)
            rows = None if analysis is None else take_rows(analysis, ids)
            if rows is not None and len(rows.table):
                yield RemoveClusters(image, rows)

    def remove_clusters(self, image: str, cluster_ids: Iterable[int]) -> None:
        self.remove((image, i) for i in cluster_ids)

    def regions(self, image: str) -> tuple[np.ndarray, ...]:
        """Polygons (M, 2) in pixels (y, x): what lies in them does not count."""
        analysis = self._analyses.get(image)
        return () if analysis is None else analysis.regions

    def set_regions(self, image: str, polygons: Iterable[np.ndarray]) -> None:
        """Exclude these regions of an image and no others."""
        self.finish()
        if image in self._analyses:
            after = tuple(np.asarray(p, float) for p in polygons)
            n = len(after)
            words = f"exclude {n} region{'s' * (n != 1)} of {image}"
            self.do(SetRegions(image, self.regions(image), after, words))

    def _take(self, image: str, analysis: Analysis, columns: Columns | None = None) -> None:
        before = self._analyses.get(image)
        if before is None or not before.table.columns.equals(analysis.table.columns):
            self._classes = None
        self._analyses[image] = analysis
        self._catalogue.set(image, analysis.table, columns)
        known = self._catalogue.columns(image)
        if known is not None and len(known["cluster_id"]):
            newest = int(known["cluster_id"].max())
            self._next_id[image] = max(self._next_id.get(image, 1), newest + 1)

    # ---- selection
    @property
    def selection(self) -> frozenset[Key]:
        return self._selection

    def select(self, keys: Iterable[Key]) -> None:
        """Select exactly these clusters; every view follows."""
        selection = frozenset((image, int(i)) for image, i in keys)
        if selection != self._selection:
            self._selection = selection
            self.selection_changed.emit(selection)

    def request_focus(self, key: Key) -> None:
        """Ask the view of the image to go to a cluster."""
        self.focus_requested.emit(key)

    # ---- explanation
    @property
    def explained_class(self) -> str | None:
        """The class whose class maps are shown; None: of each cluster its predicted class."""
        return self._explained_class

    @explained_class.setter
    def explained_class(self, label: str | None) -> None:
        if label != self._explained_class:
            self._explained_class = label
            self.explained_class_changed.emit(label)

    # ---- status
    @property
    def status(self) -> Status:
        return self._status

    @status.setter
    def status(self, status: Status) -> None:
        if status != self._status:
            self._status = status
            self.status_changed.emit(status)


def _change_by(
    edit: Edit,
    before: Analysis | None,
    after: Analysis | None,
    annotator: str,
    undone: bool,
    columns: Columns | None,
) -> Change:
    return Change(
        edit.image,
        before,
        after,
        edit.cluster_ids,
        annotator,
        by_person=not isinstance(edit, SetAnalysis),
        spoken=isinstance(edit, Relabel),
        undone=undone,
        only_predicted=isinstance(edit, SetAnalysis) and edit.only_predicted,
        columns=columns,
    )


def _all_of(edits: Sequence[Edit | AtomEdit]) -> str:
    """What a person did, in words."""
    removed = [edit.cluster_ids for edit in edits if isinstance(edit, RemoveClusters)]
    if len(removed) == len(edits):
        return f"delete {_clusters(sum(map(len, removed)))}"
    return edits[0].description


def _are_many(by_image: Mapping[str, Collection[int]]) -> bool:
    """Whether a step that changes these clusters is better taken in turns."""
    return len(by_image) > _LONG or sum(map(len, by_image.values())) > _MANY


def _is_long(steps: Sequence[Step]) -> bool:
    """Whether these steps are better taken, or taken back, in turns; each has its own images."""
    changed = sum(
        len(e.after) if isinstance(e, Relabel) else len(e.cluster_ids)
        for step in steps
        for e in step.edits
        if isinstance(e, Relabel | RemoveClusters)
    )
    return sum(len(step.images) for step in steps) > _LONG or changed > _MANY


def _clusters(n: int) -> str:
    return "1 cluster" if n == 1 else f"{n} clusters"


def _labelled(analysis: Analysis, labels: Mapping[int, str]) -> Analysis:
    """The analysis with what people say now of its clusters."""
    now = analysis.table.set_index("cluster_id")["label_corrected"]
    new = {int(i): labels.get(i, "") for i in now.index if labels.get(i, "") != now[i]}
    changed = Relabel(analysis.micrograph.name, {}, new).apply(analysis) if new else analysis
    assert changed is not None
    return changed


def _checked(analysis: Analysis | None, thoroughly: bool = True) -> Analysis | None:
    """The analysis with what is excluded marked, if its table is one.

    What was there once is right, and a label can't make a table wrong: then not thoroughly.
    """
    if analysis is None:
        return None
    analysis = mark_excluded(analysis)
    if thoroughly:
        tables.validate(analysis.table)
    if len(analysis.outlines) != len(analysis.table):
        raise ValueError("as many outlines as clusters are needed")
    return analysis


def _reverted(edit: Edit, analysis: Analysis | None) -> tuple[Edit, Analysis | None]:
    edit = edit.knowing(analysis, undo=True)
    return edit, edit.revert(analysis)


def _applied_again(edit: Edit, analysis: Analysis | None) -> tuple[Edit, Analysis | None]:
    edit = edit.knowing(analysis, undo=False)
    return edit, edit.apply(analysis)
