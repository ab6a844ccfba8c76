"""Paths that are dropped on the dock Browse, and copies of a project."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtGui import QDragEnterEvent, QDropEvent

from ....io.images import reader_of
from ....project import SUFFIX


def copy_project(project, path, progress=None, stop=None):
    """Write a copy of a project; for a worker."""
    return project.copy(path)


def _paths_in(event: QDragEnterEvent | QDropEvent) -> list[str]:
    """Local files and folders that can be opened here."""
    paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
    return [
        p for p in paths
        if Path(p).is_dir() or Path(p).suffix == SUFFIX or reader_of(p) is not None
    ]  # fmt: skip
