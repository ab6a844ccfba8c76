"""Paths that are dropped on the dock Browse, and copies of a project."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QWidget

from ....io.images import reader_of
from ....project import SUFFIX, Project, project_file
from ...controls.questions import choose_answer


def copy_project(project: Project, path: Path) -> Path:
    """Write a copy of a project, in a worker."""
    return project.copy(path)


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
