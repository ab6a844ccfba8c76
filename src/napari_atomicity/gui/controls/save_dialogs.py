"""Dialogs for what is written: they begin in the folder of the last file, or of the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtGui import QDragEnterEvent, QDragMoveEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog, QLineEdit, QPushButton, QWidget

from ...state.window_state import WindowState
from .forms import fill_row
from .questions import confirm, front_window
from .settings import settings


# ---- A field for a file or a folder
class PathField(QLineEdit):
    """A field for a path, with a button that opens a dialog; a file can be dropped on it.

    Signals: ``chosen()`` when another path was entered, chosen in the dialog, dropped or set with
    `choose`.
    """

    chosen = Signal()

    def __init__(self, title: str, about: str, file_types: str = "", new: bool = False) -> None:
        super().__init__()
        self._title, self._file_types, self._new = title, file_types, new
        self._last = ""
        self.button = QPushButton("…")
        self.button.setToolTip(f"Choose the {'file' if file_types else 'folder'}.")
        self.button.setAccessibleName(f"Choose {about}")
        self.button.setMaximumWidth(int(3.5 * self.button.fontMetrics().averageCharWidth()) + 16)
        self.button.clicked.connect(self._show_dialog)
        self.setAccessibleName(self.button.accessibleName())
        self.editingFinished.connect(self._on_edited)

    @property
    def path(self) -> Path | None:
        """The path; None if the field is empty."""
        text = self.text().strip()
        return Path(text).expanduser() if text else None

    def choose(self, path: str) -> None:
        """Set the path as if it was chosen in the dialog."""
        self.setText(path)
        self._on_edited()

    def with_button(self) -> QWidget:
        """Return the field and its button as one field of a form."""
        both = QWidget()
        fill_row(both, (self, 1), self.button)
        both.setFocusProxy(self)
        return both

    def _on_edited(self) -> None:
        if self.text() != self._last:
            self._last = self.text()
            self.chosen.emit()

    def _show_dialog(self) -> None:
        if not self._file_types:
            path = QFileDialog.getExistingDirectory(self, self._title, self.text())
        elif self._new:
            path, _ = QFileDialog.getSaveFileName(self, self._title, self.text(), self._file_types)
        else:
            path, _ = QFileDialog.getOpenFileName(self, self._title, self.text(), self._file_types)
        if path:
            self.choose(path)

    # ---- drag and drop
    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        if _dropped(event):
            event.acceptProposedAction()
        else:
            super().dragEnterEvent(event)

    def dragMoveEvent(self, event: QDragMoveEvent) -> None:  # noqa: N802
        if _dropped(event):
            event.acceptProposedAction()
        else:
            super().dragMoveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        path = _dropped(event)
        if path:
            event.acceptProposedAction()
            self.choose(path)
        else:
            super().dropEvent(event)


def _dropped(event: QDropEvent) -> str:
    """Return the first local file or folder of a drop; "" if there is none."""
    urls = [url for url in event.mimeData().urls() if url.isLocalFile()]
    return urls[0].toLocalFile() if urls else ""


_FOLDER, _PROJECT = "exports/folder", "exports/project"


def choose_file(
    state: WindowState, parent: QWidget | None, title: str, name: str, types: str
) -> Path | None:
    """Ask for a file to write, whose name gets a suffix of its type; None if cancelled."""
    # A dialog without a parent has another theme than the window.
    parent = parent or front_window()
    chosen, kind = QFileDialog.getSaveFileName(parent, title, str(_folder(state) / name), types)
    if not chosen:
        return None
    settings().setValue(_FOLDER, str(Path(chosen).parent))
    settings().setValue(_PROJECT, _project_file(state))
    path = with_suffix(Path(chosen), kind, types)
    # The dialog has asked whether to replace the name as it was typed, without the suffix.
    if path == Path(chosen) or not path.exists():
        return path
    question = f"{path} exists already. Replace it?"
    return path if confirm(parent, "Replace the file?", question) else None


def with_suffix(path: Path, kind: str, types: str) -> Path:
    """Return the path with the suffix of the chosen type, unless it has that of any type.

    Types are those of a file dialog, such as "CSV (*.csv);;Label image (*.tif *.tiff)".
    """
    suffixes = _suffixes(types)
    if not suffixes:
        return path
    if path.suffix.lower() in suffixes:
        return path.with_suffix(path.suffix.lower())
    return path.with_name(path.name + (_suffixes(kind) or suffixes)[0])


def _suffixes(types: str) -> list[str]:
    return re.findall(r"\*(\.\w+)", types)


def choose_new_folder(dock: Any, title: str, suffix: str) -> Path | None:
    """Ask for a folder to make, named after the project; None if cancelled.

    Several files always get a folder of their own: they would be lost among the images.
    """
    project = dock.state.project
    stem = "atomicity" if project is None else project.path.stem
    name = _free_name(_folder(dock.state), f"{stem}-{suffix}")
    return choose_file(dock.state, dock, title, name, "Folder (*)")


def _folder(state: WindowState) -> Path:
    """Return the last folder that was chosen for this project, else that of its file or images."""
    last = Path(str(settings().value(_FOLDER) or ""))
    of_project = str(settings().value(_PROJECT) or "") == _project_file(state)
    if of_project and last != Path() and last.is_dir():
        return last
    paths = [path for i in state.images if (path := state.micrograph(i).path) is not None]
    if state.project is not None:
        return state.project.path.parent
    return default_folder(Path(paths[0])) if paths else Path.home()


def default_folder(image: Path) -> Path:
    """Return the folder for files beside an image; the home folder for the bundled examples."""
    in_package = image.is_relative_to(Path(__file__).parents[2])
    return Path.home() if in_package else image.parent


def _project_file(state: WindowState) -> str:
    return "" if state.project is None else str(state.project.path)


def _free_name(folder: Path, name: str) -> str:
    """Return a name that nothing in the folder has, such as ``morning-report-2``."""
    free, number = name, 2
    while (folder / free).exists():
        free, number = f"{name}-{number}", number + 1
    return free
