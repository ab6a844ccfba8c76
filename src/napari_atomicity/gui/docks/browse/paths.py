"""Paths that are dropped on the dock Browse, and copies of a project."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtGui import QDragEnterEvent, QDropEvent

from ....io.images import reader_of
from ....project import SUFFIX, Project


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
