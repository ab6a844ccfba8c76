"""The dock Browse: a folder of images as a project, and from one image to the next."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import QModelIndex, QPoint, QTimer
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QLineEdit,
    QListView,
    QMenu,
    QMessageBox,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ....core.errors import AtomicityError, ReadError, WriteError
from ....core.text import pluralise
from ....detection import DetectionSettings
from ....io.images import reader_of, suffixes
from ....io.outline_files import SUFFIXES, match_outlines, read_outlines
from ....pipeline.run_request import RunRequest
from ....project import SUFFIX, Project, project_file
from ....state.window_state import WindowState
from ... import tasks
from ...controls.forms import (
    LabelArea,
    folded,
    in_scroll_area,
    labelled,
    main_button,
    new_form,
    new_row,
    wrapped_label,
)
from ...controls.questions import choose_answer, confirm, show_info
from ...controls.refresher import follow
from ...controls.save_dialogs import choose_file
from ...controls.settings import remember
from ...controls.settings_form import form_of
from ...controls.shortcuts import BROWSE, bind_to_viewer
from ...panels.dock import Dock, Panel
from ...panels.dock_windows import DISTRIBUTION, open_docks, show_dock
from ...panels.forms import add_model_row, busy, may_analyse, read_limits_form
from ...panels.session_labels import TOGETHER, session_labels_of
from ...panels.session_scale import (
    doubts_of_image,
    session_of_image,
    show_answer,
    unknown_and_counted,
)
from ...viewer.binding import Binding
from ...viewer.models import COPY_MODELS, lacking_models, write_model
from .batch import AnalyseAll, place_of
from .image_list import ImageList, ImageModel
from .image_menu import ImageMenu

# ---- what Browse shows while there is no image: the ways to begin

FOLDER = "Its images become a project, which saves results and labels."
IMAGE = "A micrograph or a stack of frames."
EXAMPLE = "Opens a simulated image of platinum and analyses it."


class FirstStart(Panel):
    """Buttons to open an image and to try the example, below Browse's *Open folder…*."""

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding)
        content = QWidget()
        self.content = QVBoxLayout(content)
        self.content.setContentsMargins(0, 0, 0, 0)
        self._add_line(FOLDER)
        self.image_button = self._add_button("Open image…", IMAGE, self.choose_image)
        self.example_button = self._add_button("Try the example", EXAMPLE, self.try_example)
        self.content.addStretch(1)
        in_scroll_area(content, self)  # the dock may be low

    def _add_line(self, text: str) -> QLabel:
        line = wrapped_label()
        line.setText(text)
        self.content.addWidget(line)
        self.content.addSpacing(self.fontMetrics().height() // 2)
        return line

    def _add_button(self, text: str, line: str, run: Callable[[], object]) -> QPushButton:
        button = main_button(text, self)
        button.setToolTip(line)
        button.setAccessibleDescription(line)
        button.clicked.connect(run)
        self.content.addWidget(button)
        self._add_line(line).setBuddy(button)
        return button

    def show_status(self) -> None:
        for button in (self.image_button, self.example_button):
            button.setEnabled(not busy(self.state))

    @property
    def wanted(self) -> bool:
        """Whether there is neither a project nor an image, in a layer or in the state."""
        state = self.state
        return state.project is None and not state.images and not self.binding.canvas.image_layers()

    def choose_image(self) -> None:
        """Ask for an image and open it in this viewer."""
        patterns = " ".join(f"*{suffix}" for suffix in suffixes())
        file, _ = QFileDialog.getOpenFileName(self, "Open an image", "", f"Images ({patterns})")
        if file:
            self.attempt(lambda: self.binding.viewer.open(file, plugin=DISTRIBUTION))

    def try_example(self) -> None:
        """Open a bundled image and analyse it: atoms where only the dock Atoms is open."""
        viewer = self.binding.viewer
        shown = {name for name, dock in open_docks(viewer).items() if not dock.isHidden()}
        sample, dock = "example", "Analyse"
        if "Atoms" in shown and "Analyse" not in shown:
            sample, dock = "single_atoms", "Atoms"
        viewer.open_sample(DISTRIBUTION, sample)
        show_dock(viewer, dock).run()


# ---- paths that are dropped on the dock Browse, and copies of a project and of its models
def share_model(dock: Dock) -> None:
    """Write a model that was made in the open project into a file for others."""
    project, title = dock.state.project, "Share a model"
    names = [] if project is None else list(project.model_files.names())
    if not names:
        show_info("This project contains no model yet. Create one with Adapt or Train.")
        return
    # As wide as this, the dialog has room for its title.
    question = "Model to write to a file for others, with its card:"
    name, wanted = QInputDialog.getItem(dock, title, question, names, 0, False)
    if not wanted:
        return
    path = choose_file(dock.state, dock, title, f"{name}.safetensors", "Models (*.safetensors)")
    if path is not None:
        dock.start(
            write_model, project, name, path,
            message=f"Writing {name}", key="share model",
            on_result=lambda path: show_info(f"Saved: {path} and its card."),
        )  # fmt: skip


def _paths_in(event: QDragEnterEvent | QDropEvent) -> list[str]:
    """Local files and folders that can be opened here."""
    paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
    return [
        p for p in paths
        if Path(p).is_dir() or Path(p).suffix == SUFFIX or reader_of(p) is not None
    ]  # fmt: skip


def choose_open_or_add(parent: QWidget, folder: str, project: Project) -> str:
    """Ask whether to open a folder, or to add its images to the open project."""
    own = " The folder has its own project with its own labels."
    text = (
        f"Open {Path(folder).name} instead of the project {project.path.stem}, or add its images "
        f"to that project?{own if project_file(folder).exists() else ''}"
    )
    choices = {"open": "Open folder", "add": "Add images"}
    return choose_answer(parent, "Open this folder?", text, choices)


_REFRESH_MS = 600


def _wants_outlines(dock: Dock, file: str, state: WindowState) -> bool:
    """Ask before a file whose name is that of another image is measured in the open one."""
    try:
        (owner,) = match_outlines([file], state.images)
    except ReadError:  # the name of no image, or of several
        return True
    return owner == state.current or confirm(
        dock,
        "Outlines of another image?",
        f"By its name, {Path(file).name} has the outlines of {owner}. Measure them in "
        f"{state.current}? You can undo this.",
    )


class Browse(Dock):
    """Open a folder, see its images and their states, analyse all."""

    follows = ("changed", "images_changed", "current_changed", "project_changed", "saved_changed")
    scrolls = False

    def build(self) -> None:
        self.projects = self.binding.projects
        self.session_labels = session_labels_of(self.binding)
        self.batch = AnalyseAll(self.binding, self.session_labels)
        self._listed: tuple[Any, ...] = ()
        self.setAcceptDrops(True)
        self.content.setContentsMargins(6, 6, 6, 6)
        self.content.addLayout(self._open_row())
        self.first_start = FirstStart(self.binding)
        self.content.addWidget(self.first_start, 1)
        self.title = self.add(wrapped_label("Project"))
        self.content.addWidget(self._image_list(), 1)
        # Below the list, whose rows stay under the mouse when notes come and go.
        self.notes = wrapped_label("Notes on the project", plain=True)
        self.notes_area = self.add(LabelArea(self.notes, lines=6))
        self.answer = self.add(wrapped_label("Whether the session fits the classes", plain=True))
        self.image_menu = ImageMenu(self.state, self.list)
        self.more_button.menu().addSeparator()
        self.more_button.menu().addMenu(self.image_menu)
        self.label_action = self.more_button.menu().addAction("Label sessions again")
        self.label_action.setToolTip(
            "Find the intensity of one atom in all images of each session together, and label "
            "their clusters by it. Your labels are kept. You can undo this."
        )
        self.label_action.triggered.connect(self._label_sessions)
        form = new_form()
        self.models = add_model_row(form)
        self.content.addLayout(form)
        self.content.addLayout(self._analyse_row())
        self.settings = self.add(self._settings_form())
        bind_to_viewer(self.binding.viewer, BROWSE, self.binding.current_image)
        # Thumbnails and calibrations arrive while files are read.
        self._files_timer = QTimer(self)
        self._files_timer.setInterval(_REFRESH_MS)
        self._files_timer.timeout.connect(self._refresh_files)
        follow(self, self.projects.surveyed, self._refresh_files)
        follow(self, self.projects.notes_changed, self.invalidate)
        follow(self, self.binding.canvas.layers_changed, self._show_first_start)
        follow(self, self.session_labels.message_changed, self.invalidate)
        follow(self, self.batch.changed, self._on_batch)
        follow(self, self.state.atoms.changed, self.model.refresh_image)
        follow(self, self.binding.current_image.refused, self.model.refresh_image)

    def _open_row(self) -> QHBoxLayout:
        self.open_button = main_button("Open folder…", self)
        self.open_button.setToolTip(
            "Open a folder of images. Results and corrections are saved in a project file in it. "
            "You can also drop folders, images and projects here."
        )
        self.open_button.clicked.connect(self._choose_folder)
        self.more_button = QToolButton()
        self.more_button.setText("⋯")
        self.more_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.more_button.setToolTip("Open a project, save a copy, find moved images …")
        self.more_button.setAccessibleName("More")
        self.more_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.more_button)
        self.actions_by_name = {}
        for name, text, slot in (
            ("project", "Open project…", self._choose_project),
            ("save", "Save as project…", self._choose_save_path),
            ("copy", "Save a copy…", self._choose_copy_path),
            ("add", "Add images…", self._choose_images),
            ("outlines", "Import outlines…", self._choose_outlines),
            ("moved", "Find moved images…", self._choose_moved_folder),
            ("model", "Share a model…", self._share_model),
            ("copy models", COPY_MODELS, self.projects.models.copy),
            ("close", "Close project", self.projects.leave),
        ):
            self.actions_by_name[name] = menu.addAction(text)
            self.actions_by_name[name].triggered.connect(slot)
        self.actions_by_name["copy models"].setToolTip(
            "Copy the models of this project that you do not have to your models, after a question."
        )
        menu.setToolTipsVisible(True)
        menu.aboutToShow.connect(self._update_copy_models)
        self.more_button.setMenu(menu)
        return new_row((self.open_button, 1), self.more_button)

    def _image_list(self) -> QListView:
        self.model = ImageModel(self.state, self, self.binding.current_image.refusals)
        self.list = ImageList(self.model, self.state)
        self.list.customContextMenuRequested.connect(self._show_image_menu)
        self.list.clicked.connect(self._on_clicked)
        self.list.activated.connect(self._on_clicked)
        return self.list

    def _analyse_row(self) -> QHBoxLayout:
        self.previous_button, self.next_button = QPushButton("◀"), QPushButton("▶")
        for button, name, key, slot in (
            (self.previous_button, "Previous image", BROWSE[1].keys[0], self.previous),
            (self.next_button, "Next image", BROWSE[0].keys[0], self.next),
        ):
            button.setAccessibleName(name)
            button.setToolTip(f"{name} ({key})")
            button.setMaximumWidth(4 * self.fontMetrics().height())
            button.clicked.connect(slot)
        self.analyse_button = QPushButton("Analyse all")
        self.analyse_button.setToolTip(
            "Detect and classify the clusters of all images that are not analysed yet, or whose "
            "pixel size has changed since, in the background; if there are none, of all again."
        )
        self.analyse_button.clicked.connect(self.analyse_all)
        return new_row(self.previous_button, self.next_button, (self.analyse_button, 1))

    def _settings_form(self) -> QWidget:
        form = new_form()
        self.form = form_of(RunRequest, "device", "symmetries", "labels", "detection")
        self.place = QLineEdit()
        self.place.setPlaceholderText("in this window")
        labelled(
            form,
            "Workers",
            self.place,
            "Where Analyse all runs: the number of processes on this machine, or the address of a "
            "running dask scheduler (tcp://host:8786) whose workers find the images under the same "
            "path. Default: empty, one image after the other in this window.",
        )
        self.together = QCheckBox("Label images of a session together")
        self.together.setChecked(True)
        self.together.setToolTip(
            "The images of a session share the intensity of one atom, so images of one size can "
            "be labelled too. Applies after Analyse all, when you change a session or a known "
            "sample, and when you analyse one more image. Default: on."
        )
        remember(TOGETHER, self.together)
        return folded(form, self.together, self.form, read_limits_form(), scrolls=True)

    # ---- showing
    def _show_first_start(self) -> None:
        """Show how to begin instead of an empty list, until there is an image."""
        first = self.first_start.wanted
        self.first_start.setVisible(first)
        self.title.setVisible(not first)
        self.list.setVisible(not first)

    def refresh(self) -> None:
        self._show_first_start()
        self.session_labels.remember()
        counts = self.binding.refresher.counts
        listed = counts["images_changed"], counts["project_changed"]
        if listed != self._listed:
            self.model.rebuild()
            self.list.select_current()
        else:
            self.model.refresh()
        self._listed = listed
        self.list.setUniformItemSizes(not self.model.has_errors)
        self._show_project()

    def show_status(self) -> None:
        super().show_status()
        surveying = bool(tasks.running(self.state, "survey"))
        if surveying != self._files_timer.isActive():
            (self._files_timer.start if surveying else self._files_timer.stop)()
            self._refresh_files()
        self._update_buttons()

    def _refresh_files(self, *_: object) -> None:
        if not self.isVisible():
            self._files_timer.stop()
        self.model.forget_files()
        self.invalidate()

    def _on_batch(self) -> None:
        if self.batch.failed:
            self.model.forget_files()
        self.invalidate()

    def _show_project(self) -> None:
        project, images = self.state.project, self.state.images
        if project is not None:
            n = len(images)
            title = f"<b>{escape(project.path.stem)}</b>, {pluralise(n, 'image')}"
            if project.read_only:
                title += ", read-only"
            if self.state.blind:
                title += f", blind: {escape(self.state.annotator)}"
            self.title.setText(title)
            self.title.setToolTip(str(project.path))
        elif images:
            self.title.setText(
                "Changes are in memory only. Save them with <i>⋯ Save as project</i>."
            )
        else:
            self.title.setText(
                "<i>Analyse</i> analyses the open image. To work with many, open a folder of "
                "images or drop it here."
            )
        unsaved = [f"NOT SAVED: {self.state.unsaved}"] if self.state.unsaved else []
        labelled = filter(None, [self.session_labels.message])
        self.notes_area.show_text("\n".join([*unsaved, *self.projects.notes, *labelled]))
        image = None if self.state.blind else self.state.current
        session, doubts = session_of_image(self.state, image), doubts_of_image(self.state, image)
        numbers = unknown_and_counted(self.state, image)
        show_answer(self.answer, [session], doubts, short=True, numbers=numbers)
        menu = self.actions_by_name
        menu["save"].setEnabled(bool(unsaved) or (project is None and bool(images)))
        for name in ("copy", "moved", "model", "close"):
            menu[name].setEnabled(project is not None)
        menu["add"].setEnabled(project is not None and not project.read_only)
        menu["outlines"].setEnabled(may_analyse(self.state))

    def _update_copy_models(self) -> None:
        """Enable the copying of models; not at every change, because it asks the project file."""
        project, lacking = self.state.project, list[str]()
        with suppress(AtomicityError):
            lacking = [] if project is None else lacking_models(project)
        self.actions_by_name["copy models"].setEnabled(bool(lacking))

    def _update_buttons(self) -> None:
        state = self.state
        row, n = self.model.row_of(state.current), self.model.rowCount()
        self.previous_button.setEnabled(row > 0)
        self.next_button.setEnabled(row < n - 1)
        waiting = self._waiting()
        again = f" ({len(waiting)})" if waiting else " again" if n else ""
        self.analyse_button.setText(f"Analyse all{again}")
        free = not busy(state) or bool(tasks.running(state, "survey"))
        possible = bool(n) and free and not (self.batch.running or state.read_only or state.blind)
        self.enable(self.analyse_button, possible)
        self.label_action.setEnabled(possible)

    def _waiting(self) -> list[str]:
        """Return the images to be analysed that have not failed as they are now."""
        return [image for image in self.state.to_be_analysed() if self.batch.may_try(image)]

    # ---- actions of the user
    def _show_image_menu(self, place: QPoint) -> None:
        self.image_menu.popup(self.list.viewport().mapToGlobal(place))

    def _on_clicked(self, index: QModelIndex) -> None:
        image = self.model.image_at(index.row())
        if image in self.state.images:
            self.binding.current_image.choose(image)

    def next(self) -> None:
        self.binding.current_image.step(1)

    def previous(self) -> None:
        self.binding.current_image.step(-1)

    def analyse_all(self) -> None:
        """Analyse the new images; if there are none, all images again, those that failed too."""
        entries = self.attempt(lambda: (self.form.settings(), place_of(self.place.text())))
        if entries is None:
            return
        settings, place = entries
        waiting = self._waiting()
        images = waiting or self.state.images
        if not waiting and not self._wants_all_again(images, settings.detection):
            return
        self.batch.start(images, replace(settings, model=self.models.model), place)

    def _label_sessions(self) -> None:
        self.session_labels.start(self.state.images)

    def _wants_all_again(self, images: list[str], detection: DetectionSettings) -> bool:
        n, n_done = len(images), sum(self.state.analysis(x) is not None for x in images)
        done = "The image is analysed." if n == 1 else f"All {n} images are analysed."
        if n_done < n:
            done = f"{n_done} of {n} images are analysed; the others failed and are tried again."
        changed = detection.describe_changed()
        settings = f"the changed settings ({changed})" if changed else "the default settings"
        return confirm(
            self,
            "Analyse all again?",
            f"{done} Analyse all again with the model {self.models.currentText()} and {settings} "
            "of the detection? Your labels stay, and clusters that you added, moved, split, merged "
            "or removed; imported outlines do not. You can undo this.",
        )

    def open(self, path: str) -> None:
        """Open a folder or a project; if the folder is read-only, ask for the project's file."""
        if not self._may_leave():
            return
        task = self.projects.open(path)
        if task is not None:
            task.failed.connect(lambda error: self._on_open_failed(path, error))

    def _on_open_failed(self, path: str, error: object) -> None:
        if isinstance(error, WriteError) and Path(path).is_dir():
            name = f"{Path(path).name}{SUFFIX}"
            title = "Where to create the project"
            file = choose_file(self.state, self, title, name, f"Projects (*{SUFFIX})")
            if file is not None:
                self.projects.open(path, file)

    def _may_leave(self) -> bool:
        """Offer to save what is in memory only."""
        if self.state.project is not None or not self.state.history:
            return True
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self,
            "Save your changes?",
            "Your changes are in memory only. Save them as a project first?",
            buttons.Save | buttons.Discard | buttons.Cancel,
            buttons.Save,
        )
        if answer == buttons.Save:
            return self._choose_save_path()
        return answer == buttons.Discard

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a folder of images")
        if folder:
            self.open(folder)

    def _choose_project(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Open a project", "", f"Projects (*{SUFFIX})")
        if file:
            self.open(file)

    def _choose_save_path(self) -> bool:
        return self.projects.choose_save_path()

    def _choose_copy_path(self) -> None:
        project = self.state.project
        if project is None:
            return
        name = f"{project.path.stem}-copy{SUFFIX}"
        file = choose_file(self.state, self, "Save a copy", name, f"Projects (*{SUFFIX})")
        if file is not None:
            self.start(
                project.copy, file,
                message="Copying the project", key="copy project",
                on_result=lambda path: show_info(f"Saved: {path}"),
            )  # fmt: skip

    def _choose_images(self) -> None:
        types = f"Images ({' '.join(f'*{s}' for s in suffixes())});;All files (*)"
        project = self.state.project
        folder = "" if project is None else str(project.path.parent)
        files, _ = QFileDialog.getOpenFileNames(self, "Add images to the project", folder, types)
        if files:
            self.projects.add(files)

    def _choose_outlines(self) -> None:
        """Measure outlines of other programs: one file in the open image, several by name."""
        title, types = "Outlines of clusters", f"Outlines ({' '.join(f'*{s}' for s in SUFFIXES)})"
        files, _ = QFileDialog.getOpenFileNames(self, title, "", types)
        if len(files) == 1 and not _wants_outlines(self, files[0], self.state):
            return
        if len(files) == 1:
            read = partial(read_outlines, files[0])
            show_dock(self.binding.viewer, "Analyse").measure(lambda _: read, Path(files[0]).name)
        elif files:
            images = self.state.images
            entries = self.attempt(lambda: (self.form.settings(), match_outlines(files, images)))
            if entries is not None:
                request = replace(entries[0], model=self.models.model)
                self.batch.start(list(entries[1]), request, outlines=entries[1])

    def _choose_moved_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder that contains the moved images")
        if folder:
            self.projects.find_moved(folder)

    def _share_model(self) -> None:
        share_model(self)

    # ---- drag and drop
    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        if _paths_in(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        paths = _paths_in(event)
        if paths:
            event.acceptProposedAction()
            self.take(paths)

    def take(self, paths: list[str]) -> None:
        """Open what was dropped, or add it to the open project; ask where both are possible."""
        if self.state.project is not None and not paths[0].endswith(SUFFIX):
            if len(paths) > 1 or not Path(paths[0]).is_dir():
                self.projects.add(paths)
            elif self.projects.is_open(paths[0]):
                self.projects.open(paths[0])
            else:
                choice = choose_open_or_add(self, paths[0], self.state.project)
                if choice == "open":
                    self.open(paths[0])
                elif choice == "add":
                    self.projects.add(paths)
        elif len(paths) == 1:
            path = Path(paths[0])
            self.open(paths[0] if path.is_dir() or path.suffix == SUFFIX else str(path.parent))
        else:
            self.open(str(Path(paths[0]).parent))
