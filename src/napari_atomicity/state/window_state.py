"""The state of one window: images, analyses, selection and what the window is busy with.

Views listen to its signals; none of them is a source of truth. Every change by a person is an edit
(`edits`) that can be undone (`history`), and is in the project, if there is one, before the call
returns (`project_saver`). Qt and napari are not used here.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from psygnal import Signal

from ..atoms.marks import ImageAtoms
from ..core.acquisition_session import SessionEntry, group_scopes
from ..core.errors import AtomicityError
from ..core.micrograph import Micrograph
from ..core.tables.cluster_table import Key
from ..core.tables.table_cache import TableCache
from ..core.text import pluralise
from ..io.readers.lazy_micrograph import LazyMicrograph
from ..models.analysis import Analysis
from ..project import MergedEntries, MergeReport, Project, ProjectContents
from ..tracking.tracks import entered_times
from .analysis_store import AnalysisStore
from .atom_store import AtomStore
from .cluster_edits import ClusterEdits
from .edits import (
    AtomEdit,
    Edit,
    ImageContents,
    MergeLabels,
    RemoveImage,
    ReplaceClusters,
    SetPixelSize,
    merge_edits,
)
from .history import NO_STEPS, History, ImageListing, Step, Steps, without_images
from .project_saver import ProjectSaver
from .session_store import PixelSizes, SessionStore
from .window_images import WindowImages, user_name


# ---- what a window is busy with
class TaskState(Enum):
    """State of a task."""

    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """State, message and progress of the newest task of a window."""

    state: TaskState = TaskState.IDLE
    message: str = ""
    done: int = 0
    total: int = 0


__all__ = [
    "Status",
    "Step",
    "TaskState",
    "WindowState",
    "has_unstored_edits",
    "images_with_unstored_edits",
    "user_name",
]


_NEW = SessionEntry()


class WindowState(WindowImages):
    """Images, analyses, selection and status of one window.

    Signals, besides those of `WindowImages`: ``current_changed(image name or None)``;
    ``status_changed(Status)``; ``map_options_changed()``: class or scale of the class maps;
    ``focus_requested(key)``: show this cluster;
    ``project_changed()``: another project or none, or blind mode changed;
    ``merged(path)`` after another project was merged;
    ``annotator_changed()``; ``saved_changed(message)``: "" if all edits are in the project.
    """

    current_changed = Signal(object)
    status_changed = Signal(Status)
    map_options_changed = Signal()
    focus_requested = Signal(tuple)
    project_changed = Signal()
    merged = Signal(Path)
    annotator_changed = Signal()
    saved_changed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._explained_class: str | None = None
        self._same_map_scale = False
        self._status = Status()
        self._before_blind: tuple[Steps, Mapping[str, Analysis]] = NO_STEPS, {}
        self._blind_steps = BlindSteps()
        self.epoch = 0
        self.atoms = AtomStore(self, self._do)
        self.sessions = SessionStore(self, self._do)
        self.pixel_sizes = PixelSizes(self, self.atoms, self._do)
        self.pixel_sizes.changed.connect(self.sessions.find_again)
        self.saver = ProjectSaver(self, self.atoms, self.sessions, self.saved_changed.emit)
        self.listing = ImageListing(self, self.atoms, self.sessions)
        self.listing.changed.connect(self._on_listing)
        stores = self.atoms, self.sessions, self.pixel_sizes, self.listing
        self.history = History(self, *stores, self.saver)
        self.clusters = ClusterEdits(self, self.history, self.add_image)

    def _do(self, *edits: Edit | AtomEdit, **options: Any) -> None:
        """Apply edits; see `History.do`. The stores, which it needs, are made before it."""
        self.history.do(*edits, **options)

    # ---- project
    @property
    def annotator(self) -> str:
        """Name of the person who corrects; in blind mode another person is blind as well."""
        return self._annotator

    @annotator.setter
    def annotator(self, name: str) -> None:
        name = name.strip() or user_name()
        if name != self._annotator:
            self.finish()  # the step under way belongs to the annotator before
            if self.blind and self._project is not None:
                self._ensure_saved()
                self._blind_steps.keep(
                    self._annotator, self.history.exchange(), self.store, self.atoms
                )
                shown = self._blind.change_annotator(self._project, name)
                steps = self._blind_steps.take(name, *shown)
                self._annotator = name
                self._show_all(*shown, self.atoms.next_ids(), steps=steps)
            self._annotator = name
            self.annotator_changed.emit()

    def open_project(
        self,
        project: Project,  # open; it is closed when another project is opened
        stored: Mapping[str, ProjectContents],
        cache: TableCache | None = None,
        *,
        blind: bool = False,  # from the start, so that nothing that is hidden is ever shown
    ) -> None:
        """Show a project instead of what was shown before."""
        self._leave_project(project)
        analyses = {n: f.analysis for n, f in stored.items() if f.analysis is not None}
        atoms = {n: f.atoms for n, f in stored.items() if f.atoms is not None}
        if blind:
            analyses, atoms = self._blind.start(project, self._annotator, analyses, atoms)
            self._before_blind = NO_STEPS, {}
            cache = None  # it holds what is hidden
        elif cache is None:
            cache = TableCache.of({n: f.columns for n, f in stored.items() if f.columns})
        self.saver.clear()
        self._micrographs = {name: found.micrograph for name, found in stored.items()}
        self.sessions.replace_all(project.image_files.session_entries())
        self._show_all(analyses, atoms, {n: f.next_atom_id for n, f in stored.items()}, cache)
        project.set_finish_first(self.finish)
        self.store.set_next_ids({name: found.next_id for name, found in stored.items()})
        self.saver.set_message("")

    def close_project(self) -> None:
        """Close the project and forget its images."""
        if self._project is None:
            self.finish()
            return
        self._leave_project(None)
        self._micrographs = {}
        self.sessions.replace_all({})
        self._show_all({}, {}, {})

    def _leave_project(self, following: Project | None) -> None:
        """Close the project unless it stays open, and forget what was hidden of it."""
        self.finish()
        if self._project is not None and self._project is not following:
            self._project.close_in_background()
        self._project = following
        self._blind.clear()
        self._blind_steps.clear()
        self.store.set_next_ids({})

    def attach_project(self, project: Project) -> None:
        """Save all and later edits in a new project, empty or a copy of the open one."""
        self.finish()
        before, self._project = self._project, project
        project.set_finish_first(self.finish)
        if before is not None:
            before.move_lazy_arrays(project)
            before.close_in_background()
        self.saver.add_to_new_project(project, self._micrographs.values())
        self.save_again()
        self.project_changed.emit()

    def add_contents(self, stored: Mapping[str, ProjectContents]) -> None:
        """Add images that have just been added to the project, or were removed from it before."""
        entries = self._project.image_files.session_entries() if self._project else {}
        back = {
            name: ImageContents(one.micrograph, one.analysis, one.atoms, entries.get(name, _NEW))
            for name, one in stored.items()
            if name not in self._micrographs
        }
        if self.blind and self._project is not None and back:
            back = self._blind.add(self._project, self._annotator, back)
        back = {n: one for n, one in back.items() if one.session or one.analysis or one.atoms}
        self._micrographs |= {name: found.micrograph for name, found in stored.items()}
        self.store.reserve_ids({name: found.next_id for name, found in stored.items()})
        self.atoms.skip_to({name: found.next_atom_id for name, found in stored.items()})
        for name, contents in back.items():
            self.listing.install(name, contents)
        self.sort_images()
        self.images_changed.emit()
        if back:
            self.changed.emit(tuple(back), None, None)
            for name in back:
                self.atoms.notify(name)

    def update_metadata(self, image: str) -> None:
        """Take over the metadata of an image's file, once it has been read."""
        micrograph = self._micrographs.get(image)
        if isinstance(micrograph, LazyMicrograph) and micrograph.sha256 is None:
            self._micrographs[image] = micrograph.with_file_metadata()
            self.images_changed.emit()

    def follow_file(self, image: str, micrograph: Micrograph) -> None:
        """Replace the micrograph of an image whose file was moved; its analysis stays."""
        self._micrographs[image] = micrograph
        self.store.set_micrograph(image, micrograph)
        self._blind.set_micrograph(image, micrograph)

    def merge(self, path: str | os.PathLike[str]) -> MergeReport:
        """Merge the corrections of another project, as one step; see `Project.merge`."""
        self.ensure_writable()
        if self._project is None:
            raise AtomicityError(
                "there is no project to merge into", advice="Open a folder or a project first"
            )
        self.history.ensure_not_blind()
        self._ensure_saved()
        report = self._project.merge(path)
        self.show_added(report.added, f"merge {Path(path).name}")
        self.merged.emit(Path(path).absolute())
        return report

    def show_added(
        self, added: Mapping[str, MergedEntries], description: str, group: object = None
    ) -> None:
        """Show what others have said, which the project has already, and remember it as a step."""
        if self._project is not None:
            self.atoms.skip_to(self._project.atoms.free_ids())
            self.save_again()
            self.history.run(merge_edits(added), description, group)

    def set_blind(self, on: bool) -> int:
        """Hide or show predictions and the labels of others; blind labels are kept apart.

        Returns how many steps before it can't be undone any more: of images that changed in it.
        """
        if on == self.blind:
            return 0
        self._ensure_saved()
        if self._project is None:
            raise AtomicityError(
                "blind labels need a project to be kept in", advice="Open a folder or a project"
            )
        if on:
            atoms = {n: a for n in self.atoms.images if (a := self.atoms.of(n))}
            analyses = self.store.analyses
            shown = self._blind.start(self._project, self._annotator, analyses, atoms)
            steps = self._blind_steps.take(self._annotator, *shown)
            before_blind = self._show_all(*shown, self.atoms.next_ids(), steps=steps)
            self._before_blind = before_blind, dict(analyses)
            return 0
        steps, before = self._before_blind
        changed = _with_cluster_edits(self.history)
        self._blind_steps.keep(self._annotator, self.history.exchange(), self.store, self.atoms)
        shown = self._blind.stop(self._project)
        # Steps before blind mode can be undone again where nothing else has changed.
        gone = {n for n in {*shown[0], *before} if shown[0].get(n) is not before.get(n)}
        kept = without_images(steps, changed | gone)
        self._show_all(*shown, self.atoms.next_ids(), steps=kept)
        if resized := self.pixel_sizes.followed_by_atoms(self.images):  # changed in blind mode
            self.history.apply_without_undo(resized)
        return len(steps[0]) - len(kept[0])

    def _ensure_saved(self) -> None:
        """Raise `AtomicityError` if not all edits can be written into the project."""
        self.save_again()
        self.saver.ensure_saved()

    def _show_all(
        self,
        analyses: Mapping[str, Analysis],
        atoms: Mapping[str, ImageAtoms],
        next_atom_ids: Mapping[str, int],
        cache: TableCache | None = None,
        steps: Steps = NO_STEPS,  # which can be undone from now on
    ) -> Steps:  # those that can't be undone any more
        """Show these analyses and no others."""
        self.epoch += 1
        with_atoms = self.atoms.put_all(atoms, next_atom_ids)
        before = self.history.exchange(steps)
        self.store.replace_all(analyses, self._micrographs, cache)
        self._selection = frozenset()
        if self._current not in self._micrographs:
            self._current = None
        self._announced = self._current
        self.project_changed.emit()
        self.images_changed.emit()
        self.current_changed.emit(self._current)
        # One signal for all: views of all images listen to `project_changed`.
        one = self._current or next(iter(self.store.analyses), None)
        self.changed.emit(() if one is None else (one,), None, None)
        self.selection_changed.emit(self._selection)
        for image in with_atoms:
            self.atoms.changed.emit(image)
        return before

    def save_again(self) -> bool:
        """Write what could not be written; return whether all edits are in the project now."""
        self.finish()
        return self.saver.save_again()

    @property
    def unsaved(self) -> str:
        """Why some edits are not in the project; "" if all are."""
        return self.saver.message

    # ---- images
    def add_image(self, micrograph: Micrograph) -> str:
        """Add an image or replace the one of the same name."""
        self.finish()
        self._micrographs[micrograph.name] = micrograph
        self.saver.add_image(micrograph)
        self.images_changed.emit()
        if self._current is None:
            self.current = micrograph.name
        return micrograph.name

    def remove_from_project(self, images: Iterable[str]) -> None:
        """Remove images from the project, as a step; the project keeps what is stored of them."""
        kept = [i for i in images if self._project is not None and self._project.has(i)]
        self.ensure_writable()
        self.history.ensure_not_blind()
        # Undo shows what the last edit removed: the image on show, otherwise the first one.
        kept.reverse()
        kept.sort(key=lambda image: image == self._current)
        edits = [RemoveImage(image, found) for image in kept if (found := self.listing.get(image))]
        names = kept[0] if len(kept) == 1 else pluralise(len(kept), "image")
        self.history.do(*edits, description=f"remove {names}", group=object())

    def _on_listing(self, _: tuple[str, ...], back: tuple[str, ...]) -> None:
        """Show the first image that is back, or what took the place of a removed one."""
        self.current = next(iter(back), self._current)
        self.images_changed.emit()

    def remove_image(self, image: str) -> None:
        """Remove an image and its analysis from the window; a project keeps them."""
        self.finish()
        self.listing.install(image, None)
        self._blind.forget(image)
        self.history.forget(image)
        self.select(k for k in self._selection if k[0] != image)
        self._on_listing((image,), ())
        self.changed.emit((image,), None, None)
        self.atoms.notify(image)

    @property
    def current(self) -> str | None:
        """Name of the image that is shown."""
        return self._current

    @current.setter
    def current(self, image: str | None) -> None:
        if image != self._announced:
            self._current = self._announced = image
            # A key must not change clusters or atoms of which none is in the image on show.
            for selected in (self, self.atoms):
                if all(name != image for name, _ in selected.selection):
                    selected.select(())
            self.current_changed.emit(image)

    # ---- analyses
    def to_be_analysed(self) -> list[str]:
        """Return the images that are not classified, or whose pixel size has changed since."""
        return [image for image in self.images if self._waits(image)]

    def _waits(self, image: str) -> bool:
        """Return whether an image waits for an analysis; blind mode hides which have a model."""
        analysis = self.store.get(image)
        if analysis is None or self.pixel_sizes.has_changed(image):
            return True
        return not (analysis.model_id or self.blind)

    def not_analysed(self) -> tuple[list[str], list[str]]:
        """Return the images that wait for an analysis, and those that could not be analysed."""
        left = self.to_be_analysed()
        failed = self.project.image_files.failed() if left and self.project is not None else set()
        return [i for i in left if i not in failed], [i for i in left if i in failed]

    def classes(self) -> list[str]:
        """Return the classes of all analyses, in order."""
        return self.store.classes(self._blind.hidden)

    def group_names(
        self, images: Collection[str] | None = None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return image → its session, and → its sample, of analysed images by default.

        In blind mode there are none: the name of a sample would tell the labels.
        """
        known = self.store.analyses.keys() if images is None else images
        known = () if self.blind else known
        sessions, samples = (
            {i: group.name for group in groups for i in group.images if i in known}
            for groups in (self.sessions.groups(), self.sessions.samples())
        )
        return sessions, samples

    def group_scopes(self, images: Collection[str] | None = None) -> dict[str, list[str]]:
        """Return the sessions and samples of images, analysed ones by default, as scopes."""
        return group_scopes(*self.group_names(images))

    # ---- selection
    def choose(self, image: str) -> None:
        """Make an image current as a person does who wants to see it.

        What is selected in other images is so no longer: a key would label what is not in sight.
        """
        self.current = image
        self.select(key for key in self._selection if key[0] == image)
        self.atoms.select(key for key in self.atoms.selection if key[0] == image)

    def request_focus(self, key: Key) -> None:
        """Ask the image view to show a cluster."""
        self.focus_requested.emit(key)

    # ---- display
    @property
    def explained_class(self) -> str | None:
        """The class whose class maps are shown; None: of each cluster its predicted class."""
        return self._explained_class

    @explained_class.setter
    def explained_class(self, label: str | None) -> None:
        if label != self._explained_class:
            self._explained_class = label
            self.map_options_changed.emit()

    @property
    def same_map_scale(self) -> bool:
        """Whether all class maps of an image have one scale; by default each has its own."""
        return self._same_map_scale

    @same_map_scale.setter
    def same_map_scale(self, same: bool) -> None:
        if same != self._same_map_scale:
            self._same_map_scale = same
            self.map_options_changed.emit()

    @property
    def status(self) -> Status:
        """What the window is busy with."""
        return self._status

    @status.setter
    def status(self, status: Status) -> None:
        if status != self._status:
            self._status = status
            self.status_changed.emit(status)


class BlindSteps:
    """Keeps the steps of blind annotators, for when they are blind again."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Steps, Mapping[str, object]]] = {}

    def keep(self, annotator: str, steps: Steps, analyses: AnalysisStore, atoms: AtomStore) -> None:
        """Keep the steps of an annotator."""
        images = {edit.image for step in (*steps[0], *steps[1]) for edit in step.edits}
        left = {n: _blind_answers(analyses.get(n), atoms.of(n)) for n in images}
        self._kept[annotator] = steps, left

    def take(
        self, annotator: str, analyses: Mapping[str, Analysis], atoms: Mapping[str, ImageAtoms]
    ) -> Steps:
        """Return the steps of an annotator, where nothing has changed since then."""
        steps, left = self._kept.pop(annotator, (NO_STEPS, {}))
        now = {n: _blind_answers(analyses.get(n), atoms.get(n)) for n in left}
        return without_images(steps, {n for n in left if left[n] != now[n]})

    def clear(self) -> None:
        """Forget all steps."""
        self._kept.clear()


def _with_cluster_edits(steps: Iterable[Step]) -> set[str]:
    """Return the images whose clusters were edited.

    Also where a label that is not blind counts: undone, it would hide the blind one.
    """
    edits = (edit for step in steps for edit in step.edits)
    return {edit.image for edit in edits if not isinstance(edit, AtomEdit | MergeLabels)}


def _blind_answers(analysis: Analysis | None, atoms: ImageAtoms | None) -> object:
    """Return what blind steps can change of an image: pixel size, clusters, labels and marks."""
    marks = {} if atoms is None else dict(atoms.marks)
    if analysis is None:
        return marks
    table = analysis.table[["cluster_id", "label_corrected"]]
    labels = dict(zip(table["cluster_id"], table["label_corrected"], strict=True))
    return analysis.micrograph.pixel_size_nm, labels, marks


# ---- edits that no project contains
def images_with_unstored_edits(state: WindowState) -> list[str]:
    """Return the images with manual edits that no project contains.

    Manual edits are labels, added, removed or changed clusters, excluded regions, marks of atoms,
    the support, and what was entered of the recording and of the session. Results of models can be
    computed again.
    """
    return [image for image in state.images if has_unstored_edits(state, image)]


def has_unstored_edits(state: WindowState, image: str) -> bool:
    """Return whether an image has manual edits that no project contains."""
    if state.project is not None and state.project.has(image):
        return False
    analysis, atoms = state.analysis(image), state.atoms.of(image)
    return bool(
        state.sessions.get(image)
        or (atoms is not None and (atoms.marks or atoms.support_added or atoms.support_removed))
        or (analysis is not None and analysis.regions)
        or (analysis is not None and (analysis.table["label_corrected"] != "").any())
        or (analysis is not None and entered_times(analysis))
        or any(
            isinstance(edit, ReplaceClusters | SetPixelSize)
            for edit in state.history.edits_of(image)
        )
    )
