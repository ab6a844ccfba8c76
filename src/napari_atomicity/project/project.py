"""The project: a durable file with the analyses of a folder of images and all corrections.

A ``*.atomicity`` file is a SQLite database in write-ahead mode. Corrections are on disk when the
call returns. Only arrays that can be computed again (patches, class maps) are written by a
background thread. ``docs/reference/projects.md`` describes the tables, and which label of several
counts.

This class opens and closes the file and reads and writes analyses; `images` (the table of images),
`corrections` (the log), `atom_records`, `stored_records` and `merging` each do one part of it.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..io.files import plain
from ..io.provenance import now
from ..models.analysis import Analysis
from . import corrections
from .atoms import AtomRecords
from .background_writer import BackgroundWriter
from .cached_arrays import LazyPictures
from .connection import ProjectConnection
from .contents import (
    EditKind,
    MergeReport,
    ProjectContents,
    ProjectImage,
    RecordableEdit,
)
from .corrections import merge
from .damage import as_text, damage_as_error, read_json
from .images import ImageIndex
from .merged import MergedRecords
from .read_contents import read_all, read_contents, read_labelled
from .read_rows import read_positions, read_predictions
from .returned_labels import take_in_labels

# ---- settings and runs of a project

logger = logging.getLogger(__name__)


def read_setting(db: sqlite3.Connection, key: str, default: Any) -> Any:
    """Return the value of a setting."""
    row = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
    try:
        with damage_as_error(f"the setting {key}"):
            return default if row is None else json.loads(row[0])
    except ReadError as error:
        logger.warning("%s", error)
        return default


def write_setting(db: sqlite3.Connection, key: str, value: Any) -> None:
    """Store a setting."""
    db.execute(
        "INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)",
        (key, json.dumps(plain(value))),
    )


def write_run(db: sqlite3.Connection, record: Mapping[str, Any]) -> None:
    """Store the record of a run."""
    db.execute(
        "INSERT INTO runs (time, record) VALUES (?, ?)", (now(), json.dumps(plain(dict(record))))
    )


def read_runs(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the records of all runs, in order; damaged ones are left out with a warning."""
    rows = db.execute("SELECT time, record FROM runs ORDER BY run_id").fetchall()
    runs = []
    for time, record in rows:
        try:
            with damage_as_error(f"the run of {time}"):
                runs.append({"time": as_text(time), **read_json(record, dict)})
        except ReadError as error:
            logger.warning("%s", error)
    return runs


# ---- models that are stored in a project, so that they come along with it
class ModelFiles:
    """The model files of a project file."""

    def __init__(self, file: ProjectConnection) -> None:
        self._file = file

    def add(self, name: str, weights: bytes, card: str) -> None:
        """Store a model."""
        with self._file.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO model_files (name, time, content, card) "
                "VALUES (?, ?, ?, ?)",
                (name, now(), weights, card),
            )

    def remove(self, name: str) -> None:
        """Remove a stored model, if it is there."""
        with self._file.writing() as db:
            db.execute("DELETE FROM model_files WHERE name = ?", (name,))

    def names(self) -> dict[str, str]:
        """Return the name of each stored model, and when it was stored."""
        with self._file.reading() as db:
            rows = db.execute("SELECT name, time FROM model_files ORDER BY time").fetchall()
        return {name: str(time) for name, time in rows if isinstance(name, str)}

    def size_bytes(self, name: str) -> int:
        """Return the size of a stored model with its card, without reading it."""
        with self._file.reading() as db:
            found = db.execute(
                "SELECT length(content) + length(card) FROM model_files WHERE name = ?", (name,)
            ).fetchone()
        return int(found[0]) if found else 0

    def card(self, name: str) -> str:
        """Return the card of a stored model; "" if there is none."""
        with self._file.reading() as db:
            row = db.execute("SELECT card FROM model_files WHERE name = ?", (name,)).fetchone()
        return row[0] if row is not None and isinstance(row[0], str) else ""

    def read(self, name: str) -> tuple[bytes, str]:
        """Return weights and card of a stored model.

        Raises `ReadError` if the project has no model of that name, or it is damaged.
        """
        with self._file.reading() as db:
            row = db.execute(
                "SELECT content, card FROM model_files WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            raise ReadError(f"there is no model {name!r} in the project", self._file.path)
        weights, card = row
        if not (isinstance(weights, bytes) and isinstance(card, str)):
            raise ReadError(f"the model {name!r} in the project is damaged", self._file.path)
        return weights, card


# Projects that are being closed, by the thread that does it.
_RETIRING: dict[Path, threading.Thread] = {}


class Project:
    """A project file, open.

    Parameters
    ----------
    path : path-like
        The project file; it is created if it does not exist.
    read_only : bool, optional
        Open for reading only. A file that another window has open is read-only in any case.
    draft : bool, optional
        Create a new file with the first change of a person, not before.

    Attributes
    ----------
    path : Path
        Absolute path of the file.
    read_only : bool
        Whether the file can only be read.
    holder : str
        Which other process has the file open, if it is read-only for that reason.
    image_files : ImageIndex
        Files of the images, their metadata, and where they were moved.
    atoms : AtomRecords
        Atoms, marks and annotations.
    model_files : ModelFiles
        Models that are stored in the project.

    Raises
    ------
    AtomicityError
        If the file can't be created or opened.
    ReadError
        If the file is not a project, is damaged, or was written by another version.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool = False, draft: bool = False
    ) -> None:
        self.path = Path(path).absolute()
        closing = _RETIRING.get(self.path)
        if closing is not None:
            closing.join()
        self._file = ProjectConnection(self.path, read_only, draft and not self.path.exists())
        self.read_only, self.holder = self._file.read_only, self._file.holder
        self._background: BackgroundWriter | None = None
        self._pictures = LazyPictures(self._file)
        try:
            self.image_files = ImageIndex(self._file)
            self.atoms = AtomRecords(self._file, self.image_files)
            self.merged = MergedRecords(self._file, self.image_files)
            self.model_files = ModelFiles(self._file)
            if not self.read_only:
                self._background = BackgroundWriter(self._file.connect, self._pictures)
        except BaseException:
            self.close()
            raise

    # ---- the file
    def set_finish_first(self, finish: Callable[[], None]) -> None:
        """Set what is called before another write than those of the step under way."""
        self._file.finish_first = finish

    def check_place(self) -> None:
        """Raise `AtomicityError` if the file was moved, deleted or replaced while it was open.

        Every write checks it before it returns. The project can still be read and copied.
        """
        self._file.check_place()

    def together(self) -> AbstractContextManager[None]:
        """Write all of a ``with`` block in one transaction, with one wait for the disk.

        Raises `AtomicityError` if it can't be written: then none of it is.
        """
        return self._file.together()

    def copy(self, path: str | os.PathLike[str]) -> Path:
        """Write all that the project holds now into another file.

        Raises
        ------
        AtomicityError
            If the file exists already, or can't be written.
        """
        return self._file.copy(path)

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    def close_in_background(self) -> None:
        """Close the file in a thread and return at once.

        Opening the file again in this process waits for that thread.
        """
        if self.closed or self.path in _RETIRING:
            return
        thread = threading.Thread(target=self._close_in_thread, name="closing a project")
        _RETIRING[self.path] = thread
        thread.start()

    def _close_in_thread(self) -> None:
        try:
            self.close()
        finally:
            _RETIRING.pop(self.path, None)

    def close(self) -> None:
        """Write what the background thread holds, and close the file."""
        if self.closed:
            return
        if self._background is not None:
            self._background.close()
        self._file.close()

    def flush(self) -> None:
        """Wait until the background thread has written everything."""
        if self._background is not None:
            self._background.flush()

    def __enter__(self) -> Project:
        """Return the project; it is closed at the end of the ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    # ---- images
    @property
    def names(self) -> list[str]:
        """Names of the images, in order."""
        return list(self.image_files.ids)

    def has(self, image: str) -> bool:
        """Return whether the project has an image of that name."""
        return image in self.image_files.ids

    def images(self, counts: bool = True) -> list[ProjectImage]:
        """Return all images, in order; without `counts`, clusters are not counted."""
        return self.image_files.images(counts)

    def add_paths(self, paths: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Add image files, and those in folders, that are new; they are not read.

        Returns
        -------
        list of str
            Names of the new images, in order.

        Raises
        ------
        ReadError
            If a path leads to no image.
        """
        return self.image_files.add_paths(paths)

    def add(self, micrograph: Micrograph) -> bool:
        """Add an image that is open; return whether it has a file and could be added."""
        return self.image_files.add(micrograph)

    # ---- analyses
    def record(
        self,
        edit: RecordableEdit,
        before: Analysis | None,
        after: Analysis | None,
        *,
        is_undo: bool = False,
        blind: bool = False,
        at_once: bool = False,
    ) -> None:
        """Write an edit of the clusters of an image; it is on disk when this returns.

        If only a model's view of the same clusters changed, a background thread writes it: it can
        be computed again.

        Parameters
        ----------
        edit : RecordableEdit
            What was done, by whom.
        before, after : Analysis or None
            The analysis before and after the edit.
        is_undo : bool, optional
            Whether the edit was reverted: then the author's previous statement holds again, and
            not what others said.
        blind : bool, optional
            Whether the author saw neither predictions nor others' labels: only the log is written.
        at_once : bool, optional
            Whether nothing of it may wait for a background thread: later edits follow in the same
            transaction, which that thread would overwrite.

        Raises
        ------
        AtomicityError
            If it can't be written: the file is as it was before.
        """
        image_id, ids = self.image_files.ids[edit.image], edit.cluster_ids
        repairs = edit.kind is EditKind.ANALYSIS and edit.image in self.image_files.damaged
        model_only = not repairs and corrections.is_of_model_only(edit, before, after)
        if self._background is not None and model_only and not at_once:
            assert after is not None
            self.check_place()
            self._background.submit(image_id, before, after, ids, with_predictions=True)
            return
        with self._file.writing() as db:
            if repairs and after is not None:
                self.image_files.repair(db, after)
            corrections.write_edit(db, image_id, edit, before, after, is_undo=is_undo, blind=blind)
        if repairs:
            self.image_files.set_damage(edit.image, "analysis", "")
        is_label = edit.kind is EditKind.LABEL
        if not (blind or is_label) and after is not None and self._background is not None:
            self._background.submit(image_id, before, after, ids, with_predictions=False)

    def load(self, image: str, *, lazy: bool = False) -> ProjectContents:
        """Read what the project holds of an image; its pixels are read when they are used.

        What is damaged is left out: `ProjectContents.damage` says why, and the image is marked as
        failed in `images`. Nothing is changed in the file.

        With `lazy`, so are patches, class maps and embedding; the project must be open then.
        """
        with self._file.reading() as db:
            return read_contents(db, self.image_files, image, self._pictures if lazy else None)

    def labelled_clusters(self, image: str) -> Analysis | None:
        """Return clusters with positions and labels only if the analysis is damaged, else None."""
        with self._file.reading() as db:
            return read_labelled(db, self.image_files, image)

    def load_all(
        self, progress: Progress | None = None, stop: Stop | None = None, *, lazy: bool = False
    ) -> dict[str, ProjectContents]:
        """Read what the project holds of all images, in order.

        Parameters
        ----------
        progress, stop : callable, optional
            ``progress(done, total, message)`` and ``stop() -> bool``.
        lazy : bool, optional
            See `load`.

        Returns
        -------
        dict of str to ProjectContents
            By name of the image.
        """

        def start(i: int) -> None:
            check(stop)
            report(progress, i, len(self.names), f"Opening {self.names[i]}")

        return read_all(self._file, self.image_files, self._pictures if lazy else None, start)

    def move_lazy_arrays(self, other: Project) -> None:
        """Read what was loaded with `lazy` from another project, a copy, from now on.

        Arrays of images that the other project lacks are read now and kept in memory.
        """
        here, there = ({**f.image_files.ids, **f.image_files.removed} for f in (self, other))
        ids = {i: there[name] for name, i in here.items() if name in there}
        self._pictures.move_to(other._pictures, ids)

    def positions(self, image: str) -> pd.DataFrame:
        """Return the positions of the clusters of an image, without reading anything else."""
        with self._file.reading() as db:
            return read_positions(db, self.image_files.ids[image])

    def predictions(self, image: str, model_id: str) -> pd.DataFrame:
        """Return the predictions of a model for an image, also if those of another are shown.

        Returns
        -------
        pandas.DataFrame
            A row for each cluster.
        """
        with self._file.reading() as db, damage_as_error("the predictions"):
            return read_predictions(db, self.image_files.ids[image], model_id)

    # ---- the log of corrections
    def corrections(self) -> pd.DataFrame:
        """Return all corrections but those of removed images, in order; none is ever deleted.

        Returns
        -------
        pandas.DataFrame
            Columns time, annotator, image, cluster_id, frame, y_nm, x_nm, what ("label",
            "remove", "add" or "move"; what was removed and came back was added), label,
            label_predicted, model_id, blind, merged (whether it came from another project), undo
            (whether the annotator took the last statement back), undone (whether a later row does).
        """
        with self._file.reading() as db:
            return corrections.read_corrections(db, self.image_files)

    def labels(self) -> dict[str, dict[int, str]]:
        """Return the label that counts of each labelled cluster: image → cluster_id → label."""
        with self._file.reading() as db:
            return corrections.read_labels(db, self.image_files.ids)

    def blind_labels(
        self, annotator: str
    ) -> tuple[dict[str, dict[int, str]], dict[str, frozenset[int]]]:
        """Return the blind labels of one annotator.

        Returns
        -------
        labels : dict
            Image → cluster_id → label.
        removed : dict
            Image → ids of clusters that the annotator has removed.
        """
        return corrections.blind_labels(self.corrections(), annotator)

    def manual_edits(self, image: str, moved: bool = False) -> tuple[frozenset[int], pd.DataFrame]:
        """Return clusters that a person added to an image and positions of removed ones.

        Returns
        -------
        added : frozenset of int
            Ids of clusters that a person has added, or also moved.
        removed : pandas.DataFrame
            Columns frame, y_nm, x_nm.
        """
        with self._file.reading() as db:
            return corrections.manual_edits(db, image, self.image_files.ids[image], moved)

    def merge(self, path: str | os.PathLike[str]) -> MergeReport:
        """Merge the corrections, blind marks and sessions of another project of the same images.

        Images are the same if their files have the same content; clusters, if they are mutual
        nearest neighbours within half a diameter. Merging the same project twice adds nothing.
        Labels and sessions of this project count; those of the other one count where this one has
        none.

        Raises
        ------
        AtomicityError
            If the other project can't be read, or is this project.
        """
        if Path(path).absolute() == self.path:
            raise AtomicityError("this is the project that is open", Path(path))
        with (
            Project(path, read_only=True) as other,
            self._file.writing() as db,
            other._file.reading() as other_db,
            damage_as_error("a value", f"in it or in {self.path.name}", Path(path)),
        ):
            return merge(
                db, self.image_files.ids, other_db, other.image_files.ids, other.images(False)
            )

    def add_labels(
        self, image: str, annotator: str, labels: pd.DataFrame, source: str, saved: str = ""
    ) -> tuple[int, int, int]:
        """Add blind labels that were given elsewhere; see `returned_labels.take_in_labels`."""
        with self._file.writing() as db:
            image_id = self.image_files.ids[image]
            return take_in_labels(db, image_id, annotator, labels, source, saved)

    # ---- settings, runs and models
    def setting(self, key: str, default: Any = None) -> Any:
        """Return the value of a setting.

        Parameters
        ----------
        key : str
            Name of the setting.
        default : object, optional
            Returned if the setting is not stored.
        """
        with self._file.reading() as db:
            return read_setting(db, key, default)

    def set_setting(self, key: str, value: Any, in_draft: bool = False) -> None:
        """Store a setting; does nothing in a read-only project.

        Parameters
        ----------
        key : str
            Name of the setting.
        value : object
            A value that JSON can hold.
        in_draft : bool, optional
            Whether the file of a draft is not created.
        """
        if not self.read_only:
            with self._file.writing(in_draft) as db:
                write_setting(db, key, value)

    def add_run(self, record: Mapping[str, Any]) -> None:
        """Store a run with its parameters, as in ``run.json``."""
        with self._file.writing() as db:
            write_run(db, record)

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs, in order."""
        with self._file.reading() as db:
            return read_runs(db)
