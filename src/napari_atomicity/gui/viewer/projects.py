"""Opening and keeping projects in a window: what Browse, a dropped folder and a reader call."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from psygnal import Signal
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox

from ...core.errors import AtomicityError
from ...core.progress import Progress, Stop
from ...io.files import replacing, write_text
from ...io.tables import write_clusters
from ...models.files import SHIPPED, user_folder
from ...project import SUFFIX, Opened, Project, ProjectContents, open_any, project_file, survey
from .. import tasks
from ..controls.garbage_collection import pass_over_what_is_there
from . import compat
from .models import model_folder

if TYPE_CHECKING:
    from .binding import Binding

_NOTE_MS = 2000
_TRY_AGAIN_MS = 5000


def open_anything(
    path: str, file: str | None = None, progress: Progress | None = None, stop: Stop | None = None
) -> Opened:
    """As `project.open_any`, for a worker; with the models that the project brings along."""
    opened = open_any(path, file, progress, stop)
    brought = bring_models(opened.project)
    if brought:
        note = f"The project brought models along, which all docks list now: {', '.join(brought)}."
        opened = replace(opened, notes=(*opened.notes, note))
    return opened


def take_in(
    project: Project, paths: list[str], progress: Progress | None = None, stop: Stop | None = None
) -> dict[str, ProjectContents]:
    """New images of a project, by their paths; they are read later."""
    return {name: project.load(name) for name in project.add_paths(paths)}


def look_for(
    project: Project, folder: str, progress: Progress | None = None, stop: Stop | None = None
) -> dict[str, ProjectContents]:
    """Images that were found again in a folder."""
    return {
        name: project.load(name) for name in project.image_files.find_moved(folder, progress, stop)
    }


def put_model(
    project: Project, path: Path, progress: Progress | None = None, stop: Stop | None = None
) -> None:
    """Copy a model file into a project."""
    card = path.with_suffix(".json").read_text("utf-8")
    project.model_files.add(path.stem, path.read_bytes(), card)


def write_model(
    project: Project,
    name: str,
    path: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Write a model of a project into a file, its card beside it."""
    weights, card = project.model_files.read(name)
    with replacing(path) as temporary:
        temporary.write_bytes(weights)
    write_text(path.with_suffix(".json"), card)
    return path


def bring_models(project: Project) -> list[str]:
    """Write models that a project holds and that are not at hand into the user's folder."""
    brought = []
    for name in project.model_files.names():
        path = user_folder() / f"{name}.safetensors"
        # A project comes from others: what it calls a model must not lead out of the folder.
        plain = name == Path(name).name and not set(name) & set("/\\:") and name.strip(". ")
        if plain and name not in {*SHIPPED, *SHIPPED.values()} and not path.exists():
            write_model(project, name, path)
            brought.append(name)
    return brought


class Projects:
    """Opens, surveys, restores and closes projects for one viewer.

    Signals: ``notes_changed(tuple of sentences)``: what a person should know of the project;
    ``surveyed(names)``: thumbnails and calibrations of these images are there.
    """

    notes_changed = Signal(tuple)
    surveyed = Signal(tuple)

    def __init__(self, binding: Binding) -> None:
        self._binding = weakref.ref(binding)
        self.state = binding.state
        self.notes: tuple[str, ...] = ()
        self._kept: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {}
        self._noted: dict[str, Any] = {}
        # What the window looks like is noted now and then: only views, never anybody's work.
        self._noting = QTimer()
        self._noting.setInterval(_NOTE_MS)
        self._noting.timeout.connect(self.note_view)
        self._trying = QTimer()
        self._trying.setInterval(_TRY_AGAIN_MS)
        self._trying.timeout.connect(self._try_again)
        self.state.saved_changed.connect(self._on_saved)
        self.remember("view", self._look_of_image, self._restore_look)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.leave)
        window = getattr(binding.viewer.window, "_qt_window", None)
        if window is not None:
            window.destroyed.connect(_weak(self._on_window_closed))
            window.installEventFilter(_ConfirmClosing(self, window))

    # ---- opening
    def open(self, path: str | Path, file: str | Path | None = None) -> tasks.Task | None:
        """Open a folder or a project file, in a worker; one that is open takes new images in."""
        project, folder = self.state.project, Path(path)
        target = Path(file) if file else project_file(folder) if folder.is_dir() else folder
        if project is not None and not project.read_only and _same_file(target, project.path):
            if folder.is_dir():
                self.add([str(folder)])
            else:
                show_info("This project is open already.")
            return None
        return tasks.start(
            self.state,
            open_anything,
            str(path),
            None if file is None else str(file),
            message=f"Opening {Path(path).name}",
            on_result=self._opened,
            key="open project",
        )

    def _opened(self, opened: Opened) -> None:
        if not self.leave():
            opened.close()
            return
        self._say(opened.notes)
        self.state.open_project(opened.project, opened.stored, opened.catalogue)
        pass_over_what_is_there()
        QTimer.singleShot(0, partial(_weak(self._restore), opened.project))
        unread = [n for n, s in opened.stored.items() if s.micrograph.sha256 is None]
        if unread and not opened.project.read_only:
            self._survey(unread)
        model_folder.changed.emit()
        for note in opened.notes:
            show_warning(note)

    def _say(self, notes: tuple[str, ...]) -> None:
        self.notes = notes
        self.notes_changed.emit(notes)

    def _survey(self, names: list[str]) -> None:
        """Read what is known by its path only; the one that is looked at comes first."""
        project, current = self.state.project, self.state.current
        names = sorted(names, key=lambda name: name != current)
        tasks.start(
            self.state,
            survey,
            project,
            names,
            message="Looking at the images",
            on_result=partial(self._surveyed, project, names),
            key="survey",
        )

    def _surveyed(
        self, project: Project, names: list[str], found: dict[str, ProjectContents]
    ) -> None:
        if self.state.project is project:
            # What was calibrated by hand meanwhile stays.
            fresh = {n: s for n, s in found.items() if self.state.analysis(n) is None}
            self.state.add_contents(fresh)
            self.surveyed.emit(tuple(names))

    def add(self, paths: list[str]) -> None:
        """Take images and folders into the open project; without one, a folder is opened."""
        project = self.state.project
        if project is None:
            self.open(paths[0] if Path(paths[0]).is_dir() else Path(paths[0]).parent)
            return

        def done(found: dict[str, ProjectContents]) -> None:
            if self.state.project is project and found:
                self.state.add_contents(found)
                self._survey(list(found))
            else:
                show_info("These images are in the project already.")

        tasks.start(
            self.state, take_in, project, paths,
            message="Adding images", on_result=done, key="add images",
        )  # fmt: skip

    def find_moved(self, folder: str) -> None:
        """Look in a folder for the images that are not where they were."""
        project = self.state.project

        def done(found: dict[str, ProjectContents]) -> None:
            if self.state.project is not project:
                return
            for name, stored in found.items():
                analysis = self.state.analysis(name)
                if analysis is not None:
                    self.state.follow_file(name, stored.micrograph)
            self.state.add_contents(found)
            missing = len(project.image_files.missing())
            self._say(tuple(n for n in self.notes if "Not where" not in n))
            show_info(f"{len(found)} found again, {missing} still missing.")
            current = self.state.current
            if current in found:
                self.state.current_changed.emit(current)

        tasks.start(
            self.state, look_for, project, folder,
            message="Looking for moved images", on_result=done, key="find moved",
        )  # fmt: skip

    def save_as(self, path: str | Path) -> None:
        """Keep what is at hand in a new project from now on.

        Raises
        ------
        AtomicityError
            If there is such a file already, or it can't be made.
        """
        if Path(path).exists():
            raise AtomicityError("there is such a file already", path, "Choose another name")
        project = Project(path)
        self.state.attach_project(project)
        left = [n for n in self.state.images if not project.has(n)]
        notes = (f"Without a file, and so not kept: {', '.join(left)}.",) if left else ()
        self._say(notes)
        self._noting.start()
        # Sizes, hashes and thumbnails of what was opened by other means.
        self._survey(project.names)

    def leave(self) -> bool:
        """Note the view and close the project; False if somebody wants to stay."""
        if not self._all_is_saved():
            return False
        self.note_view()
        self._noting.stop()
        self._trying.stop()
        self._noted = {}
        if self.state.project is not None:
            tasks.cancel_all(self.state)
            self.state.close_project()
        self._say(())
        return True

    def _all_is_saved(self) -> bool:
        """Whether nothing is lost by leaving: else the person says what shall be."""
        buttons = QMessageBox.StandardButton
        while not self.state.save_again():
            answer = QMessageBox.warning(
                None,
                "Not all is saved",
                f"{self.state.unsaved}\n\nSave writes the cluster table, with all labels, into "
                "another file.",
                buttons.Retry | buttons.Save | buttons.Discard | buttons.Cancel,
                buttons.Retry,
            )
            if answer == buttons.Discard:
                return True
            if answer == buttons.Cancel:
                return False
            if answer == buttons.Save and self._rescue():
                return True
        return True

    def may_close(self) -> bool:
        """Whether the window may be closed: what a person did must not go without a word."""
        if self.state.project is not None:
            return self._all_is_saved()
        said = (self.state.table()["label_corrected"] != "").any()
        if not said:
            return True
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            None,
            "Keep what you did?",
            "The labels that you gave are in memory only. Save them as a project?",
            buttons.Save | buttons.Discard | buttons.Cancel,
            buttons.Save,
        )
        return self.choose_save_path() if answer == buttons.Save else answer == buttons.Discard

    def choose_save_path(self) -> bool:
        """Keep all in a new project, where the person says; whether that was done."""
        file, _ = QFileDialog.getSaveFileName(
            None, "Save as project", f"session{SUFFIX}", f"Projects (*{SUFFIX})"
        )
        if not file:
            return False
        try:
            self.save_as(with_suffix(file))
        except AtomicityError as error:
            show_warning(str(error))
            return False
        return True

    def _rescue(self) -> bool:
        """Write all labels elsewhere; whether that was done."""
        file, _ = QFileDialog.getSaveFileName(
            None, "Save the cluster table", "clusters.csv", "Tables (*.csv *.xlsx *.parquet)"
        )
        if not file:
            return False
        try:
            write_clusters(self.state.table(), file)
        except AtomicityError as error:
            show_warning(str(error))
            return False
        return True

    def _on_window_closed(self, *_: object) -> None:
        """Without a word: there is nobody to be asked."""
        with contextlib.suppress(RuntimeError):  # Qt has taken the timers along
            self._noting.stop()
            self._trying.stop()
        if self.state.project is not None:
            self.state.save_again()
            self.state.project.close()

    # ---- models
    def keep_model(self, path: Path) -> None:
        """Keep a copy of a model that was made here in the project."""
        project = self.state.project
        if project is not None and not project.read_only:
            tasks.start(
                self.state, put_model, project, path,
                on_result=lambda _: None, key=f"keep {path.stem}",
            )  # fmt: skip

    # ---- what could not be written
    def _on_saved(self, trouble: str) -> None:
        if trouble:
            show_warning(
                f"NOT SAVED: {trouble} What you did is kept in memory, and written as soon as "
                "that is possible."
            )
            self._trying.start()
        else:
            self._trying.stop()

    def _try_again(self) -> None:
        if self.state.save_again():
            self._trying.stop()
            show_info("All is saved again.")

    # ---- the window as it was
    def remember(self, key: str, get: Callable[[], Any], restore: Callable[[Any], None]) -> None:
        """Let a part of the window be as it was when a project is opened again.

        Parameters
        ----------
        key
            Its name in the project.
        get
            Gives what is to be kept, as JSON knows it; None where there is nothing.
        restore
            Gets that back; held weakly if it is a method, as ``get`` is.
        """
        self._kept[key] = (_weak(get), _weak(restore))

    def note_view(self) -> None:
        """Write how the window looks into the project, if it looks otherwise than before."""
        project = self.state.project
        if project is None or project.read_only or self.state.busy:
            return  # a step under way would have to be hurried
        now = {key: value for key, (get, _) in self._kept.items() if (value := get()) is not None}
        if now != self._noted:
            self._noted = now
            try:
                project.set_setting("window", now)
            except AtomicityError:  # corrections say so when they can't be written
                self._noted = {}

    def _restore(self, project: Project) -> None:
        if self.state.project is not project:
            return
        noted = project.setting("window", {})
        if "view" not in noted:
            noted = {"view": {}, **noted}
        self._restore_next(project, [(k, v) for k, v in noted.items() if k in self._kept])

    def _restore_next(self, project: Project, noted: list[tuple[str, Any]]) -> None:
        """One of them in each turn of the window; what it looks like is noted when all are."""
        if self.state.project is not project:
            return
        if not noted:
            self._noting.start()
            return
        key, value = noted[0]
        self._kept[key][1](value)
        QTimer.singleShot(0, partial(_weak(self._restore_next), project, noted[1:]))

    def _look_of_image(self) -> dict[str, Any] | None:
        binding = self._binding()
        if binding is None or binding.viewer is None or self.state.current is None:
            return None
        camera = compat.camera(binding.viewer)
        own = [x for x in binding.layers_on_stage() if x is not None]
        return {
            "image": self.state.current,
            "selection": sorted(map(list, self.state.selection))[:5000],
            "centre": [float(c) for c in camera.center],
            "zoom": float(camera.zoom),
            "hidden": sorted(binding.hidden),
            "outlines": binding.outlines_wanted,
            "visible": {kind: bool(layer.visible) for kind, layer in own},
            "label_mode": binding.label_mode.on,
        }

    def _restore_look(self, look: dict[str, Any]) -> None:
        binding = self._binding()
        state = self.state
        if binding is None or not state.images:
            return
        image = look.get("image")
        if image not in state.images:
            image, look = state.images[0], {}
        if "centre" in look:
            binding.stage.then_look(image, (tuple(look["centre"]), look["zoom"]))
            binding.stage.then_show(look.get("visible", {}))
        binding.hidden = frozenset(look.get("hidden", ()))
        binding.show_outlines(look.get("outlines", True))
        state.current = None
        state.current = image
        selected = [(str(image), int(i)) for image, i in look.get("selection", ())]
        known = {image: state.columns(image) for image in {image for image, _ in selected}}
        there = {n: set(c["cluster_id"].tolist()) for n, c in known.items() if c is not None}
        state.select((image, i) for image, i in selected if i in there.get(image, ()))
        if any(state.analysis(name) is not None for name in state.images):
            binding.label_mode.on = bool(look.get("label_mode", True))


class _ConfirmClosing(QObject):
    """Asks when a person closes the window, and not when a program does."""

    def __init__(self, projects: Projects, window: QObject) -> None:
        super().__init__(window)
        self._projects = weakref.ref(projects)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        projects = self._projects()
        by_person = event.type() == QEvent.Type.Close and event.spontaneous()
        if projects is not None and by_person and not projects.may_close():
            event.ignore()
            return True
        return False


def with_suffix(file: str) -> Path:
    """The path of a project, as somebody has typed it, with the suffix of projects."""
    path = Path(file)
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def _same_file(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _weak(method: Callable[..., Any]) -> Callable[..., Any]:
    """The same, without keeping alive whose method it is."""
    if not hasattr(method, "__self__"):
        return method
    reference = weakref.WeakMethod(method)

    def call(*args: Any) -> Any:
        bound = reference()
        return None if bound is None else bound(*args)

    return call
