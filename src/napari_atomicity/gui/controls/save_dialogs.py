"""Dialogs for what is written: they begin in the folder of the last file, or of the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QWidget

from ...state.window_state import WindowState
from .questions import confirm
from .settings import settings

_FOLDER, _PROJECT = "exports/folder", "exports/project"


def ask_for_file(
    state: WindowState, parent: QWidget | None, title: str, name: str, types: str
) -> Path | None:
    """Ask for a file to write, whose name gets a suffix of its type; None if cancelled."""
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


def ask_for_new_folder(dock: Any, title: str, suffix: str) -> Path | None:
    """Ask for a folder to make, named after the project; None if cancelled.

    Several files always get a folder of their own: they would be lost among the images.
    """
    project = dock.state.project
    stem = "atomicity" if project is None else project.path.stem
    name = _free_name(_folder(dock.state), f"{stem}-{suffix}")
    return ask_for_file(dock.state, dock, title, name, "Folder (*)")


def _folder(state: WindowState) -> Path:
    """Return the last folder that was chosen for this project, else that of its file or images."""
    last = Path(str(settings().value(_FOLDER) or ""))
    of_project = str(settings().value(_PROJECT) or "") == _project_file(state)
    if of_project and last != Path() and last.is_dir():
        return last
    paths = [path for i in state.images if (path := state.micrograph(i).path) is not None]
    if state.project is not None:
        return state.project.path.parent
    return Path(paths[0]).parent if paths else Path.home()


def _project_file(state: WindowState) -> str:
    return "" if state.project is None else str(state.project.path)


def _free_name(folder: Path, name: str) -> str:
    """Return a name that nothing in the folder has, such as ``morning-report-2``."""
    free, number = name, 2
    while (folder / free).exists():
        free, number = f"{name}-{number}", number + 1
    return free
