"""Open, restore, save and close the project of a window."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from ...core.errors import AtomicityError
from ...core.progress import Progress, Stop
from ...io.tables import write_clusters
from ...project import SUFFIX, Opened, Project, ProjectContents, project_file, survey
from ...project.opening import MOVED, add_paths, note_on_others, project_label
from ...state.window_state import Status, TaskState, WindowState, images_with_unstored_edits
from .. import tasks
from ..controls.questions import (
    CloseFilter,
    changing_text,
    confirm,
    front_window,
    show_info,
    show_warning,
)
from ..controls.save_dialogs import choose_file, default_folder
from .models import OfferedModels, ProjectModels, open_with_models

# ---- questions on edits that are not saved, asked before they would be lost

_MAX_NAMES = 3
_OPENING = "Open another project?", "Opening another project"
_CLOSING = "Close the project?", "Closing the project"
_FINISHED = "All tasks have finished: nothing is stopped."
_NO_FILE = (
    "A project cannot contain an image without a file. Save the cluster table with all labels as "
    "a file?"
)


def all_is_saved(state: WindowState, save_project: Callable[[], bool]) -> bool:
    """Return whether all edits of the project are saved; if not, ask what to do."""
    buttons = QMessageBox.StandardButton
    while not state.save_again():
        answer = QMessageBox.warning(
            front_window(),
            "Unsaved changes",
            f"{state.unsaved}\n\nSave writes everything to another project file.",
            buttons.Retry | buttons.Save | buttons.Discard | buttons.Cancel,
            buttons.Retry,
        )
        if answer == buttons.Discard:
            return True
        if answer == buttons.Cancel:
            return False
        if answer == buttons.Save:
            save_project()
    return True


def closing_question(state: WindowState) -> str:
    """Return what a person is asked before the window closes; "" if nothing."""
    return "\n\n".join(_stopped_work(state, "Closing") + _unsaved(state))


def _unsaved(state: WindowState) -> list[str]:
    """Return what is said of changes that would be lost."""
    lines = [state.unsaved] if state.unsaved else []
    images = images_with_unstored_edits(state)
    if images:
        lines.append(_in_memory_only(images))
        lines.append("Save them as a project?" if _fit_a_project(state, images) else _NO_FILE)
    return lines


def _stopped_work(state: WindowState, leaving: str) -> list[str]:
    """Return what is said of running tasks before they are stopped."""
    lines = [f"{task.message} is not finished. {leaving} stops it." for task in tasks.work(state)]
    if lines and state.project is not None:
        lines.append("Results that are shown are saved.")
    return lines


def _question_about_work(
    state: WindowState, leaving: str, *others: str
) -> AbstractContextManager[str]:
    """Return the text of a question about running tasks, which may end before the answer."""
    finished = [_FINISHED] if tasks.work(state) else []
    return changing_text(
        lambda: "\n\n".join([*(_stopped_work(state, leaving) or finished), *others])
    )


def may_stop_work(state: WindowState, title: str, leaving: str) -> bool:
    """Return whether a project may be left; ask if work would be stopped."""
    if not tasks.work(state):
        return True
    with _question_about_work(state, leaving) as question:
        return confirm(front_window(), title, question)


def may_drop_images(state: WindowState) -> bool:
    """Return whether a project may be left; ask if edits of images outside it would be lost."""
    images = images_with_unstored_edits(state)
    if state.project is None or not images:
        return True
    buttons = QMessageBox.StandardButton
    answer = QMessageBox.question(
        front_window(),
        "Save your changes?",
        f"{_in_memory_only(images)}\n\n{_NO_FILE}",
        buttons.Save | buttons.Discard | buttons.Cancel,
        buttons.Save,
    )
    return save_table(state) if answer == buttons.Save else answer == buttons.Discard


def may_remove_image(image: str) -> bool:
    """Ask whether an image outside the project is removed with its edits."""
    text = f"{_in_memory_only([image])} Removing the image deletes them, without undo."
    return confirm(front_window(), "Remove the image?", text)


def _in_memory_only(images: list[str]) -> str:
    names = ", ".join(images[:_MAX_NAMES])
    names += f" and {len(images) - _MAX_NAMES} more" if len(images) > _MAX_NAMES else ""
    return f"Your changes of {names} are in memory only."


def may_close(
    state: WindowState,
    save_project: Callable[[], bool],
    notes: Sequence[str] = (),  # what else is said
) -> bool:
    """Return whether a window may be closed; ask if work is stopped or edits are lost."""
    if state.project is not None and not state.save_again():
        return all_is_saved(state, save_project)
    unsaved = [*_unsaved(state), *notes]
    if not unsaved and not tasks.work(state):
        return True
    images = images_with_unstored_edits(state)
    buttons = QMessageBox.StandardButton
    leave = buttons.Discard if images or state.project is None else buttons.Close
    save = buttons.Save if images else leave
    with _question_about_work(state, "Closing", *unsaved) as question:
        answer = QMessageBox.question(
            front_window(), "Close the window?", question, save | leave | buttons.Cancel, save
        )
    if answer != buttons.Save:
        return answer == leave
    if not _fit_a_project(state, images):
        return save_table(state)
    # Images without a file are not in the new project.
    return (
        save_project()
        and all_is_saved(state, save_project)
        and (not images_with_unstored_edits(state) or may_close(state, save_project, notes))
    )


def _fit_a_project(state: WindowState, images: list[str]) -> bool:
    """Return whether there is no project yet, and some of the images can be saved in one."""
    return state.project is None and any(state.micrograph(i).path is not None for i in images)


def choose_project_file(state: WindowState) -> Path | None:
    """Ask for the file of a new project, by default beside an image; None if cancelled."""
    images = [*images_with_unstored_edits(state), *state.images]
    paths = [Path(path) for i in images if (path := state.micrograph(i).path) is not None]
    default = f"session{SUFFIX}"
    if paths:
        default = str(default_folder(paths[0]) / f"{paths[0].stem}{SUFFIX}")
    return choose_file(state, None, "Save as project", default, f"Projects (*{SUFFIX})")


def save_table(state: WindowState) -> bool:
    """Ask for a file and write the cluster table; return whether it was written."""
    types = "Tables (*.csv *.xlsx *.parquet)"
    file = choose_file(state, None, "Save the cluster table", "clusters.csv", types)
    if file is None:
        return False
    try:
        write_clusters(state.table(), file, groups=state.group_names())
    except AtomicityError as error:
        show_warning(str(error))
        return False
    return True


_SAVE_VIEW_MS = 2000
_RETRY_MS = 5000


def find_moved_images(
    project: Project, folder: str, progress: Progress | None = None, stop: Stop | None = None
) -> dict[str, ProjectContents]:
    """Find images of a project that were moved to a folder."""
    return {
        name: project.load(name, lazy=True)
        for name in project.image_files.find_moved(folder, progress, stop)
    }


class Projects:
    """Open, restore, save and close the project of a window.

    Signals: ``notes_changed(tuple of str)`` when other notes on the project are shown;
    ``surveyed(names)`` when thumbnails and calibrations of these images are available.
    """

    notes_changed = Signal(tuple)
    surveyed = Signal(tuple)

    def __init__(self, state: WindowState, window: QObject | None) -> None:
        self.state = state
        self._notes: tuple[str, ...] = ()
        self._others: tuple[str, ...] = ()  # projects of images of this one, not merged yet
        self._parts: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {}
        self._forget: list[Callable[[], None]] = []
        self._closing_notes: list[Callable[[], str]] = []
        self._of = state.epoch, state.project
        self._saved_view: dict[str, Any] = {}
        self.models = ProjectModels(state)
        self._closed = False
        # The view of the window is saved from time to time. Edits are saved at once.
        self._view_timer = QTimer()
        self._view_timer.setInterval(_SAVE_VIEW_MS)
        self._view_timer.timeout.connect(self._check_and_save_view)
        self._retry_timer = QTimer()
        self._retry_timer.setInterval(_RETRY_MS)
        self._retry_timer.timeout.connect(self._retry)
        self.state.saved_changed.connect(self._on_saved)
        self.state.project_changed.connect(self._on_project)
        self.state.images_changed.connect(self._on_images)
        self.state.merged.connect(self._on_merged)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._close_down)
        if window is not None:
            window.destroyed.connect(self._close_down)  # the collector may clear a function first
            closing = (self.closing_question, self.may_close, self._close_down)
            window.installEventFilter(CloseFilter(window, *map(_weak, closing)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the project."""
        return (*self._notes, *([note_on_others(self._others)] if self._others else []))

    # ---- opening
    def open(self, path: str | Path, file: str | Path | None = None) -> tasks.Task | None:
        """Open a folder or a project file in a worker.

        If the project is open already, new images of the folder are added to it.
        """
        if self.is_open(path, file):
            if Path(path).is_dir():
                self.add([str(path)])
            else:
                show_info("This project is already open.")
            return None
        return tasks.start(
            self.state,
            open_with_models,
            str(path),
            None if file is None else str(file),
            message=f"Opening {Path(path).name}",
            on_result=self._opened,
            key="open project",
        )

    def is_open(self, path: str | Path, file: str | Path | None = None) -> bool:
        """Return whether the project of a folder, or a project file, is the open one."""
        project, folder = self.state.project, Path(path)
        target = Path(file) if file else project_file(folder) if folder.is_dir() else folder
        return project is not None and not project.read_only and _same_file(target, project.path)

    def _opened(self, found: tuple[Opened, OfferedModels]) -> None:
        (opened, models), blind = found, self.state.blind
        if not self.leave(asked=_OPENING):
            opened.close()
            return
        self._set_notes(opened.notes, opened.others)
        self.state.open_project(opened.project, opened.stored, opened.catalogue, blind=blind)
        QTimer.singleShot(0, partial(_weak(self._restore), opened.project))
        bare = opened.project.image_files.without_thumbnail()
        unread = [
            name for name, found in opened.stored.items()
            if not found.damage and (name in bare or not found.micrograph.sha256)
        ]  # fmt: skip
        if unread and not opened.project.read_only:
            self._survey(unread)
        for note in self.notes:
            show_warning(note)
        if models:
            QTimer.singleShot(0, partial(_weak(self.models.offer), opened.project, models))

    def _on_images(self) -> None:
        """Ask for moved images no longer once they were removed from the project."""
        project, asks = self.state.project, any(MOVED in note for note in self._notes)
        if project is not None and asks and not project.image_files.missing():
            self._forget_moved()

    def _on_merged(self, path: Path) -> None:
        merged = project_label(path)
        self._set_notes(self._notes, tuple(name for name in self._others if name != merged))

    def _forget_moved(self) -> None:
        self._set_notes(tuple(note for note in self._notes if MOVED not in note), self._others)

    def _set_notes(self, notes: tuple[str, ...], others: tuple[str, ...] = ()) -> None:
        self._notes, self._others = notes, others
        self.notes_changed.emit(self.notes)

    def read_repaired(self, image: str) -> None:
        """Read a file again that could not be read before and is on show now."""
        project = self.state.project
        if project is not None and not project.read_only and project.image_files.is_unread(image):
            self._survey([image])

    def _survey(self, names: list[str]) -> None:
        """Read images that are known by their path only, the current one first."""
        project, current = self.state.project, self.state.current
        names = sorted(names, key=lambda name: name != current)
        sizes = {name: self.state.pixel_sizes.get(name) for name in names}
        tasks.start(
            self.state,
            survey,
            project,
            names,
            message="Reading the images",
            on_result=partial(self._surveyed, project, sizes),
            key="survey",
        )

    def _surveyed(
        self, project: Project, sizes: Mapping[str, float | None], found: dict[str, ProjectContents]
    ) -> None:
        """Take what was read of images, by their pixel sizes before."""
        if self.state.project is not project:
            return
        new = {n: found[n] for n in self.state.images if n in found and not self.state.analysis(n)}
        for name, one in new.items():
            if (now := self.state.pixel_sizes.get(name)) != sizes[name]:  # entered meanwhile
                new[name] = replace(one, micrograph=one.micrograph.with_pixel_size(now))
        self.state.add_contents(new)
        self.surveyed.emit(tuple(sizes))

    def add(self, paths: list[str]) -> None:
        """Add images and folders to the open project; if none is open, open their folder."""
        project = self.state.project
        if project is None:
            self.open(paths[0] if Path(paths[0]).is_dir() else Path(paths[0]).parent)
            return

        def done(found: dict[str, ProjectContents]) -> None:
            if self.state.project is project and found:
                self.state.add_contents(found)
                self._survey(list(found))
            else:
                show_info("The project contains these images already.")

        tasks.start(
            self.state, add_paths, project, paths,
            message="Adding images", on_result=done, key="add images",
        )  # fmt: skip

    def find_moved(self, folder: str) -> None:
        """Look in a folder for missing images of the project."""
        project = self.state.project

        def done(found: dict[str, ProjectContents]) -> None:
            if self.state.project is not project:
                return
            for name, stored in found.items():
                analysis = self.state.analysis(name)
                if analysis is not None:
                    self.state.follow_file(name, stored.micrograph)
            self.state.add_contents(found)
            self._forget_moved()
            show_info(f"{len(found)} found, {len(project.image_files.missing())} still missing.")
            if self.state.current in found:
                self.state.current_changed.emit(self.state.current)

        tasks.start(
            self.state, find_moved_images, project, folder,
            message="Looking for moved images", on_result=done, key="find moved",
        )  # fmt: skip

    def save_as(self, path: str | Path) -> None:
        """Save all images in a new project, with all that an open project holds.

        Raises `AtomicityError` if the file exists or cannot be written.
        """
        if Path(path).exists():
            raise AtomicityError("this file already exists", path, "Choose another name")
        before, lost = self.state.project, tuple[str, ...]()
        if before is not None:
            try:
                before.copy(path)
            except AtomicityError as error:  # the old file can't be read: only memory is left
                lost = (f"Saved from memory, without the earlier log of corrections: {error}",)
        project = Project(path)
        copied = set(project.names)
        self.state.attach_project(project)
        left = [n for n in self.state.images if not project.has(n)]
        if left:
            lost += (f"Not saved, because these images have no file: {', '.join(left)}.",)
        self._set_notes(lost)
        self._view_timer.start()
        # Sizes, hashes and thumbnails of images that were opened in other ways.
        self._survey([name for name in project.names if name not in copied])

    def leave(self, *, stops_work: bool = False, asked: tuple[str, str] = _CLOSING) -> bool:
        """Save the view and close the project; return False if the user cancels.

        The user is asked before work is stopped, unless ``stops_work``.
        """
        if self._closed:
            return True
        if not (
            (stops_work or may_stop_work(self.state, *asked))
            and all_is_saved(self.state, self.choose_save_path)
            and may_drop_images(self.state)
        ):
            return False
        self.save_view()
        self._view_timer.stop()
        self._retry_timer.stop()
        self._saved_view = {}
        tasks.cancel_all(self.state)
        if self.state.project is not None:
            self.models.remove_unused()
            self.state.close_project()
            if self.state.status.state is TaskState.FAILED:  # it is of an image that is gone
                self.state.status = Status()
        self._set_notes(())
        return True

    def closing_question(self) -> str:
        """Return what a person is asked before the window closes; "" if nothing."""
        return "\n\n".join(filter(None, [closing_question(self.state), *self._notes_on_closing()]))

    def may_close(self) -> bool:
        """Return whether the window may be closed; ask if work is stopped or edits are lost."""
        return may_close(self.state, self.choose_save_path, self._notes_on_closing())

    def add_closing_note(self, note: Callable[[], str]) -> None:
        """Say what a function returns before the window closes; nothing if it is ""."""
        self._closing_notes.append(_weak(note))

    def _notes_on_closing(self) -> list[str]:
        return [text for note in self._closing_notes if (text := note())]

    def choose_save_path(self) -> bool:
        """Ask for a file and save all images in a new project; return whether it was saved."""
        file = choose_project_file(self.state)
        if file is None:
            return False
        try:
            self.save_as(file)
        except AtomicityError as error:
            show_warning(str(error))
            return False
        return True

    def _close_down(self, *_: object) -> None:
        """Stop what runs and close the project, without a question: the window is closed."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(RuntimeError):  # Qt has deleted the timers
            self._view_timer.stop()
            self._retry_timer.stop()
        for task in tasks.running(self.state):
            if task.message:
                tasks.logger.warning("stopped, since the window was closed: %s", task.message)
        tasks.cancel_all(self.state)
        if self.state.project is not None:
            self.state.finish()
            self.state.save_again()
            self.save_view()
            self.models.remove_unused()
            self.state.project.close()

    # ---- failed writes
    def _on_saved(self, trouble: str) -> None:
        if trouble:
            show_warning(
                f"NOT SAVED: {trouble} Your changes are kept in memory and saved as soon as "
                "possible. To save everything elsewhere: Browse, ⋯ ▸ Save as project."
            )
            self._retry_timer.start()
        else:
            self._retry_timer.stop()

    def _retry(self) -> None:
        if self.state.save_again():
            self._retry_timer.stop()
            show_info("All changes are saved.")

    # ---- view of the window
    def remember(
        self,
        key: str,
        get: Callable[[], Any],
        restore: Callable[[Any], None],
        forget: Callable[[], None] | None = None,  # of another project
    ) -> None:
        """Save a part of the view in the project and restore it when the project is opened."""
        self._parts[key] = (_weak(get), _weak(restore))
        if forget is not None:
            self.forget_by(forget)

    def forget_by(self, forget: Callable[[], None]) -> None:
        """Call a method when another project is open, which forgets what is of the one before."""
        self._forget.append(_weak(forget))

    def _on_project(self) -> None:
        """Forget what is of another project.

        Blind mode is another epoch of the same project, a copy of it the same epoch of another.
        """
        before, self._of = self._of, (self.state.epoch, self.state.project)
        if self._of[0] != before[0] and self._of[1] is not before[1]:
            for forget in self._forget:
                forget()

    def _check_and_save_view(self) -> None:
        if not self.state.busy:
            self.state.saver.check_place()
        self.save_view()

    def save_view(self) -> None:
        """Save the view of the window in the project if it has changed."""
        project = self.state.project
        if project is None or project.read_only or self.state.busy:
            return  # a running step would have to be finished first
        now = {key: value for key, (get, _) in self._parts.items() if (value := get()) is not None}
        now = self._saved_view | now  # once the layers are gone, what was saved last
        if now != self._saved_view:
            self._saved_view = now
            try:
                project.set_setting("window", now, in_draft=True)
            except AtomicityError:  # edits show the error when they cannot be written
                self._saved_view = {}

    def _restore(self, project: Project) -> None:
        if self.state.project is not project:
            return
        noted = project.setting("window")
        noted = self._saved_view = noted if isinstance(noted, dict) else {}
        if "view" not in noted:
            noted = {"view": {}, **noted}
        self._restore_next(project, [(k, v) for k, v in noted.items() if k in self._parts])

    def _restore_next(self, project: Project, noted: list[tuple[str, Any]]) -> None:
        """Restore one part in each turn of the event loop; then start to save the view."""
        if self.state.project is not project:
            return
        if not noted:
            self._view_timer.start()
            return
        key, value = noted[0]
        try:
            self._parts[key][1](value)
        except Exception:  # the project may come from others, and hold any value
            tasks.logger.warning("the stored %s of the window can't be shown", key, exc_info=True)
        QTimer.singleShot(0, partial(_weak(self._restore_next), project, noted[1:]))


def _same_file(a: Path, b: Path) -> bool:
    return a.absolute() == b or (a.exists() and b.exists() and a.samefile(b))


def _weak(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a bound method without keeping its object alive.

    It returns None if the object or its widget is deleted.
    """
    if not hasattr(method, "__self__"):
        return method
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> Any:
        bound = reference()
        dead = bound is None or (
            isinstance(bound.__self__, QObject) and not isalive(bound.__self__)
        )
        return None if dead or bound is None else bound(*args)

    return call
