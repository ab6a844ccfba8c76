"""Open a folder or a project file, and read what its images look like."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph, is_replaced
from ..core.progress import Progress, Stop, check, report
from ..core.tables.table_cache import TableCache
from ..core.text import first_names, pluralise
from ..io.images import find_images, load
from ..io.readers.lazy_micrograph import PIXELS
from ..models.analysis import Analysis
from .connection import SUFFIX
from .contents import ProjectContents
from .project import Project

THUMBNAIL_PX = 96
_COPY = re.compile(r"-(backup|copy)(-\d+)?$")


MOVED = "Not where they were"
"""Words by which a window finds the note on moved images again."""


@dataclass(frozen=True, eq=False)
class Opened:
    """An open project, its contents, and notes for the user."""

    project: Project
    stored: dict[str, ProjectContents]  # what the project holds of each image, in order
    added: tuple[str, ...]  # names of new images
    notes: tuple[str, ...]  # sentences
    catalogue: TableCache  # the cluster tables of all images as one
    # other projects of images of a new one, as of `project_label`
    others: tuple[str, ...] = ()

    def close(self) -> None:
        """Close the project."""
        self.project.close()


def project_file(folder: str | os.PathLike[str]) -> Path:
    """Return the project file of a folder: the one in it, else one named after it."""
    folder = Path(folder).absolute()
    own = folder / f"{folder.name or 'project'}{SUFFIX}"
    there = _without_copies(folder)
    if own.exists() or not there:
        return own
    return max(there, key=lambda path: path.stat().st_mtime)


def _without_copies(folder: Path) -> list[Path]:
    """Return the project files in a folder, without those that are named as copies."""
    return [p for p in sorted(folder.glob(f"*{SUFFIX}")) if not _COPY.search(p.stem)]


def open_any(
    path: str | os.PathLike[str],
    file: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    *,
    draft: bool = False,
    lazy: bool = False,
) -> Opened:
    """Open a project file, or the project of a folder, which is created if there is none.

    Parameters
    ----------
    path : path-like
        A ``*.atomicity`` file, or a folder with images.
    file : path-like, optional
        Where to create the project of a folder, if not in it.
    progress : callable, optional
        ``progress(done, total, message)``.
    stop : callable, optional
        ``stop() -> bool``.
    draft : bool, optional
        Create the project in a folder with the first change of a person, not before.
    lazy : bool, optional
        Read patches, class maps and embeddings when they are used, while the project is open.

    Returns
    -------
    Opened

    Raises
    ------
    ReadError
        If there is no image in the folder, or the file is no project or can't be read.
    AtomicityError
        If the project file can't be created there.
    """
    path = Path(path)
    folder = path if path.is_dir() else None
    if folder is not None:
        find_images([path])  # raise before a file is created
    elif not path.exists():
        raise ReadError("the project file does not exist", path, "Check the path")
    place = path if folder is None else Path(file or project_file(folder))
    draft = draft and not file and os.access(place.parent, os.W_OK)  # else the error comes now
    project = Project(place, draft=draft)
    try:
        known = project.names
        notes = [*_notes(project), *_update_paths(project, folder, progress, stop)]
        others = [] if folder is None or known else _other_projects(project, folder)
        stored = project.load_all(progress, stop, lazy=lazy)
        damaged = [image for image, contents in stored.items() if contents.damage]
        if damaged:
            notes.append(
                f"Damaged in the project file: {', '.join(damaged[:3])}"
                f"{f' and {len(damaged) - 3} more' if len(damaged) > 3 else ''}. Analyse them "
                "again: labels and marks are kept."
            )
    except BaseException:
        project.close()
        raise
    added = tuple(name for name in project.names if name not in known)
    columns = {image: s.columns for image, s in stored.items() if s.columns is not None}
    return Opened(project, stored, added, tuple(notes), TableCache.of(columns), tuple(others))


def _update_paths(
    project: Project, folder: Path | None, progress: Progress | None, stop: Stop | None
) -> list[str]:
    """Find moved images and add new ones; return notes for the user."""
    notes = []
    others = [] if folder is None else [p for p in _without_copies(folder) if p != project.path]
    if others:
        notes.append(f"Of {len(others) + 1} projects in this folder this is {project.path.name}.")
    missing = project.image_files.missing()
    if missing and not project.read_only:
        report(progress, 0, 0, "Looking for images that were moved")
        where = folder or project.path.parent
        found = project.image_files.find_moved(where, progress, stop)
        missing = [image for image in missing if image.name not in found]
        if found:
            notes.append(f"{pluralise(len(found), 'moved image')} found again.")
    # After that: an image that was renamed is not a new one.
    if folder is not None and not project.read_only:
        project.image_files.add_paths([folder], in_draft=True)
    if missing:
        names = ", ".join(image.name for image in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        notes.append(f"{MOVED}: {names}{more}. Say where they are: ⋯ ▸ Find moved images.")
    return notes


def _other_projects(project: Project, folder: Path) -> list[str]:
    """Return the projects in folders of the images of a new project, besides its own folder."""
    folders = {image.path.parent.resolve() for image in project.images(counts=False)}
    found = sorted(p for one in folders - {folder.resolve()} for p in one.glob(f"*{SUFFIX}"))
    return [project_label(path) for path in found]


def project_label(path: Path) -> str:
    """Return the name of a project with that of its folder."""
    return f"{path.parent.name}/{path.name}"


def note_on_others(names: Sequence[str]) -> str:
    """Say that images of this folder have other projects, as of `project_label`."""
    have, it, one = ("have", "them", "one of them") if len(names) > 1 else ("has", "it", "it")
    return (
        f"{first_names(names, 3)} {have} images of this folder. To have those labels here too, "
        f"analyse the images and merge {it} (Review ▸ Second opinion), or open {one} instead."
    )


def _notes(project: Project) -> list[str]:
    notes = []
    if project.read_only:
        notes.append(
            f"Read-only: this project is open in another window, by {project.holder}. Close that "
            "window and open the project again, or work on a copy: ⋯ ▸ Save a copy."
            if project.holder
            else "Read-only: this project can't be written to, or is open in another window. Work "
            "on a copy: ⋯ ▸ Save a copy."
        )
    return notes


def survey(
    project: Project,
    names: Iterable[str],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, ProjectContents]:
    """Read images of which the project knows only the path: content, calibration, thumbnail.

    Returns those that could be read; the error of another is stored.
    """
    names = list(names)
    places = {image.name: image.path for image in project.images()}
    found: dict[str, ProjectContents] = {}
    for i, name in enumerate(names):
        check(stop)
        report(progress, i, len(names), f"Looking at {name}")
        try:
            micrograph = load(places[name], name=name)
        except AtomicityError as error:
            project.image_files.set_error(name, str(error))
            continue
        if len(found) < 3:  # the first ones will be looked at
            PIXELS.put(micrograph)
        project.image_files.update_metadata(micrograph, thumbnail(micrograph), True)
        found[name] = project.load(name, lazy=True)
    return found


def add_paths(project: Project, paths: list[str]) -> dict[str, ProjectContents]:
    """Add images to a project that are no copies of its images; new ones are read later.

    Files bring back images that were removed, folders do not.
    """
    back = project.image_files.removed_at([path for path in paths if not Path(path).is_dir()])
    project.image_files.put_back(back)
    new = project.image_files.without_copies(paths)
    names = [*back, *(project.add_paths(new) if new else [])]
    return {name: project.load(name, lazy=True) for name in names}


def take_in_analysed(
    project: Project, analysis: Analysis
) -> tuple[ProjectContents, Analysis] | None:
    """Add an image that was analysed elsewhere, under its name in the project.

    None if it is a copy of another image of the project. Raises `ReadError` if it has no file.
    """
    path = analysis.micrograph.path
    if path is None:
        raise ReadError("this image has no file", analysis.micrograph.name)
    if _is_copy(project, path):
        return None
    names = project.add_paths([path]) or [project.image_files.name_at(path)]
    _ensure_not_edited(project, names[0], analysis.micrograph.sha256)
    micrograph, files = replace(analysis.micrograph, name=names[0]), project.image_files
    PIXELS.put(micrograph)
    # A person may have entered another pixel size since the analysis began: the image keeps it.
    same_file = not is_replaced(files.sha256(names[0]), micrograph.sha256)
    files.update_metadata(micrograph, thumbnail(micrograph), keep_pixel_size=same_file)
    stored = project.load(micrograph.name)
    analysed = stored.micrograph.with_pixel_size(analysis.micrograph.pixel_size_nm)
    table = analysis.table.assign(image=micrograph.name)
    return stored, replace(analysis, micrograph=analysed, table=table)


def _ensure_not_edited(project: Project, image: str, sha256: str | None) -> None:
    """Raise `ReadError` if a person has worked on another content of a file."""
    if is_replaced(project.image_files.sha256(image), sha256) and _is_edited(project, image):
        raise ReadError(
            "the file was replaced by another image after a person had worked on it",
            image,
            "Save the new image under another name",
        )


def _is_edited(project: Project, image: str) -> bool:
    """Return whether a person has said something of what an image shows."""
    known = project.load(image, lazy=True)
    logs = project.corrections(), project.atoms.marks(), project.atoms.annotations()[1]
    entry = project.image_files.session_entries().get(image)
    atoms, analysis = known.atoms, known.analysis
    return bool(
        any((log["image"] == image).any() for log in logs)
        or (atoms is not None and (atoms.support_added or atoms.support_removed))
        or (analysis is not None and analysis.regions)
        or (entry is not None and entry.known)
    )


def _is_copy(project: Project, path: Path) -> bool:
    """Return whether a file is none of the project, and has the content of one."""
    with suppress(ReadError):
        project.image_files.name_at(path)
        return False
    return not project.image_files.without_copies([path])


def take_in_failed(project: Project, path: Path, error: str) -> ProjectContents:
    """Add a file that could not be read or analysed elsewhere, with the error."""
    names = project.add_paths([path]) or [project.image_files.name_at(path)]
    project.image_files.set_error(names[0], error)
    return project.load(names[0])


def thumbnail(micrograph: Micrograph, edge_px: int = THUMBNAIL_PX) -> bytes:
    """Return a PNG of the first frame, with a longer edge of `edge_px` pixels."""
    from ..core.palette import to_8_bit

    shape = micrograph.shape_px
    step = max(1, min(max(shape) // (4 * edge_px), *shape))
    # Blocks are averaged: single pixels of a noisy image would show nothing but noise.
    rows, columns = (n - n % step for n in shape)
    means = []
    for strip in micrograph.strips(0, step, rows):
        part = np.asarray(strip[:, :columns], np.float32)
        means.append(np.nanmean(part.reshape(-1, step, columns // step, step), axis=(1, 3)))
    image = Image.fromarray(to_8_bit(np.concatenate(means)))
    image.thumbnail((edge_px, edge_px), Image.Resampling.BOX)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
