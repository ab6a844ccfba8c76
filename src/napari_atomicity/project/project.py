"""The project: one durable file that holds what was found in a folder of images, and who said what.

A ``*.atomicity`` file is a SQLite database in write-ahead mode. What a person does is on disk when
the call returns; only pictures (patches, class maps), which can be computed again, are written by
a thread behind. The tables and the rules by which labels count are described in
``docs/projects.md``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from ..atoms.marks import ImageAtoms
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..core.table_cache import Columns, columns_of
from ..io.files import plain
from ..io.images import find_images, sha256_of, unique_names, valid_text
from ..io.provenance import now
from ..models.analysis import Analysis
from ..statistics.agreement import drop_replaced
from .atoms import (
    blind_annotations,
    free_id,
    last_marks,
    log_of_marks,
    mark_as_viewed,
    read_atoms,
    take_in,
    write_atoms,
)
from .background_writer import BackgroundWriter
from .merging import merge, settle
from .rows import (
    ADD,
    LABEL,
    LOGGED,
    REMOVE,
    log_entries,
    read_image,
    rows_of,
    same_clusters,
    same_labels,
    taken_back,
    with_probabilities,
    write_labels,
    write_rows,
)
from .schema import APPLICATION_ID, SCHEMA, upgrade

SUFFIX = ".atomicity"
# Projects that are being closed, by the thread that does it.
_RETIRING: dict[Path, threading.Thread] = {}
# How long closing waits for somebody who reads, before the reading is cut off.
_PATIENCE_S = 0.2
_BUSY_S = 10.0
# Of the log, before the window itself moves it into the file: 64 MB.
_LATE_PAGES = 16_000
# A window should not stand still until another program lets go of the file: it is tried again.
_BUSY_IN_WINDOW_S = 0.3


@dataclass(frozen=True, eq=False)
class ProjectImage:
    """An image of a project, as far as it is known without its pixels.

    Parameters
    ----------
    name
        As in tables and layers.
    path
        Where it was last seen.
    sha256
        Of the file; None before it was read.
    shape
        Of the data: (Y, X) or (T, Y, X); None before it was read.
    pixel_size_nm
        None where neither the file nor a person has said it.
    state
        "new", "analysed", or "failed".
    error
        Why it failed.
    n_clusters, n_reviewed
        How many there are, and of how many a person has said what they are.
    counts
        Label → number of clusters.
    model_id
        Who made the predictions.
    thumbnail
        PNG; empty before the image was read.
    recorded
        When, if the file says so.
    """

    name: str
    path: Path
    sha256: str | None = None
    shape: tuple[int, ...] | None = None
    pixel_size_nm: float | None = None
    state: str = "new"
    error: str = ""
    n_clusters: int = 0
    n_reviewed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    model_id: str | None = None
    thumbnail: bytes = b""
    recorded: str | None = None


@dataclass(frozen=True, eq=False)
class ProjectContents:
    """What a project holds of an image: the micrograph, whose pixels are read when they are asked
    for; the analysis if there is one, and the columns of its table; and the id that the next new
    cluster gets."""

    micrograph: Micrograph
    analysis: Analysis | None = None
    next_id: int = 1
    columns: Columns | None = None
    atoms: ImageAtoms | None = None
    next_atom_id: int = 1


@dataclass(frozen=True, eq=False)
class MergeReport:
    """What came of taking in another project.

    Parameters
    ----------
    n_images
        Images that both have.
    n_new
        Entries that were not known before.
    annotators
        Whose they are.
    disagreements
        Columns image, cluster_id, mine, theirs, annotator, label_predicted.
    unmatched
        Columns image, cluster_id, label, annotator, why: what could not be brought in.
    n_marks
        Entries about atoms, marked blind, that were not known before.
    n_marks_lost
        Those of images that are not here.
    """

    n_images: int
    n_new: int
    annotators: tuple[str, ...]
    disagreements: pd.DataFrame
    unmatched: pd.DataFrame
    n_marks: int = 0
    n_marks_lost: int = 0


class Project:
    """A project file, open.

    Parameters
    ----------
    path
        Of the file; it is made if it is not there.
    read_only
        Look only. If another window has the file open, that is so anyhow: see `read_only`.

    Raises
    ------
    AtomicityError
        If the file can't be made or opened.
    ReadError
        If it is no project, is damaged, or was made by a newer version of this program.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path).absolute()
        leaving = _RETIRING.get(self.path)
        if leaving is not None:
            leaving.join()
        self._local = threading.local()
        self._connections: list[tuple[sqlite3.Connection, threading.RLock]] = []
        self._guard = threading.Lock()
        self._closed = False
        self._places: dict[str, Path] = {}
        self.finish_first: Callable[[], None] | None = None
        """Brings what is being written together to its end; nothing, when it writes itself."""
        self.holder = ""
        """Who else has it open, if it is open to be read only."""
        is_new = not self.path.exists()
        if is_new and read_only:
            raise ReadError("there is no such project", self.path)
        self._lock = FileLock(f"{self.path}.lock", timeout=0, thread_local=False)
        self.read_only = read_only or not self._locked()
        self.backup: Path | None = None
        """The copy of the old file, if it had to be brought to this version's form."""
        try:
            self._check_header(is_new)
            with self._reading() as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise ReadError(
                    f"this project was made by a newer version of napari-atomicity (its form is "
                    f"{version}, this version knows {SCHEMA})",
                    self.path,
                    "Install the newer version; nothing was changed",
                )
            if version < SCHEMA and not is_new and self.read_only:
                raise ReadError(
                    "this project is of an older version, and is open elsewhere",
                    self.path,
                    "Close the other window, so that it can be brought to the new form",
                )
            if version < SCHEMA:
                if not is_new:
                    self.backup = self._back_up(version)
                with self._writing() as db:
                    upgrade(db, version)
            self._names = self._read_names()
            self._behind = BackgroundWriter(self._connect) if not self.read_only else None
        except BaseException:
            self.close()
            raise

    # ---- the file
    def _locked(self) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            with contextlib.suppress(OSError, ValueError):
                self.holder = Path(f"{self.path}.window").read_text("utf-8").strip()
            return False
        except OSError as error:
            if self.path.exists():  # on a medium that can't be written to
                return False
            raise AtomicityError(
                f"a project can't be made here ({error.strerror or error})",
                self.path,
                "Choose another folder for it",
            ) from error
        with contextlib.suppress(OSError):
            Path(f"{self.path}.window").write_text(f"process {os.getpid()} since {now()}", "utf-8")
        return True

    def _check_header(self, is_new: bool) -> None:
        if is_new:
            return
        try:
            with self.path.open("rb") as file:
                start = file.read(16)
        except OSError as error:
            raise ReadError(f"could not be read ({error.strerror or error})", self.path) from error
        if start and start != b"SQLite format 3\x00":
            raise ReadError("this is no project file", self.path)
        with self._reading() as db:
            mark = db.execute("PRAGMA application_id").fetchone()[0]
            has_tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if has_tables and mark != APPLICATION_ID:
            raise ReadError("this is a database, but no project of napari-atomicity", self.path)

    def _connect(self) -> sqlite3.Connection:
        """A connection of this thread."""
        return self._connected()[0]

    def _connected(self) -> tuple[sqlite3.Connection, threading.RLock]:
        """A connection of this thread, and what is held while it is used."""
        local = self._local  # closing puts another in its place
        known = getattr(local, "connected", None)
        if known is not None:
            return known
        if self._closed:
            raise self._was_closed()
        address = self.path.as_uri() + (f"?mode=ro{self._immutable}" if self.read_only else "")
        in_window = threading.current_thread() is threading.main_thread()
        try:
            db = sqlite3.connect(
                address,
                uri=True,
                timeout=_BUSY_IN_WINDOW_S if in_window else _BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            if not self.read_only:
                db.execute("PRAGMA journal_mode = WAL")
                # To the disk, and not only to the system: a correction survives a power cut.
                db.execute("PRAGMA synchronous = FULL")
                if in_window:  # a commit is one wait for the disk; others move it into the file
                    db.execute(f"PRAGMA wal_autocheckpoint = {_LATE_PAGES}")
        except sqlite3.Error as error:
            raise self._in_words(error) from error
        local.connected = db, threading.RLock()
        with self._guard:
            self._connections.append(local.connected)
        return local.connected

    @property
    def _immutable(self) -> str:
        """On a medium that can't be written to, SQLite must not look for a journal to be made."""
        journal = Path(f"{self.path}-wal")
        fixed = not journal.exists() and not os.access(self.path.parent, os.W_OK)
        return "&immutable=1" if fixed else ""

    def _was_closed(self) -> AtomicityError:
        return AtomicityError("the project was closed", self.path)

    def _in_words(self, error: Exception) -> AtomicityError:
        if self._closed:  # closing interrupts whoever reads very much
            return self._was_closed()
        said = str(error)
        if "malformed" in said or "not a database" in said or "corrupt" in said:
            return ReadError(
                f"the project is damaged ({said})",
                self.path,
                "Take the last backup, or try sqlite3's .recover on a copy",
            )
        return AtomicityError(
            f"the project can't be read or written now ({said})",
            self.path,
            "Check that the disk has space and that the folder can be written to",
        )

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """The connection of this thread, which nobody closes meanwhile: Python would crash."""
        db, use = self._connected()
        with use:
            if self._closed:
                raise self._was_closed()
            yield db

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._using() as db:
                yield db
        except (sqlite3.Error, pd.errors.DatabaseError) as error:
            raise self._in_words(error) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        if self.read_only:
            raise AtomicityError(
                "this project is open in another window: it can only be read here", self.path
            )
        if getattr(self._local, "together", False) and self.finish_first is not None:
            self.finish_first()  # what is written now is no part of the step under way
        with self._using() as db:
            if getattr(self._local, "together", False):
                yield db
                return
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                raise self._in_words(error) from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All that is written in this block is one transaction, and one wait for the disk.

        Raises
        ------
        AtomicityError
            If it can't be written: then none of it is.
        """
        if self.read_only:
            yield
            return
        with self._writing():
            self._local.together = True
            try:
                yield
            finally:
                self._local.together = False

    def _back_up(self, version: int) -> Path:
        """A copy of the file beside it, before it is changed to a newer form."""
        free, i = self.path.with_suffix(f".v{version}-backup{SUFFIX}"), 1
        while free.exists():
            free, i = self.path.with_suffix(f".v{version}-backup-{i}{SUFFIX}"), i + 1
        self.copy(free)
        return free

    def copy(self, path: str | os.PathLike[str]) -> Path:
        """Write all that is in the project now into another file.

        Raises
        ------
        AtomicityError
            If there is such a file already, or it can't be written.
        """
        path = Path(path)
        if path.exists():
            raise AtomicityError("there is such a file already", path, "Choose another name")
        try:
            other = sqlite3.connect(path)
            with contextlib.closing(other), self._reading() as db:
                db.backup(other)
        except (sqlite3.Error, OSError) as error:
            path.unlink(missing_ok=True)
            raise AtomicityError(f"the copy could not be written ({error})", path) from error
        return path

    def retire(self) -> None:
        """As `close`, but what waits is written in a thread: this returns at once.

        Whoever opens the file again in this process waits for that.
        """
        if self._closed or self.path in _RETIRING:
            return
        thread = threading.Thread(target=self._retiring, name="closing a project")
        _RETIRING[self.path] = thread
        thread.start()

    def _retiring(self) -> None:
        try:
            self.close()
        finally:
            _RETIRING.pop(self.path, None)

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        if self._closed:
            return
        behind = getattr(self, "_behind", None)
        if behind is not None:
            behind.close()
        self._closed = True
        with self._guard:
            for db, use in self._connections:
                if not use.acquire(timeout=_PATIENCE_S):
                    db.interrupt()  # somebody reads very much of it
                    use.acquire()
                with use, contextlib.suppress(sqlite3.Error):
                    db.close()
                use.release()
            self._connections.clear()
        self._local = threading.local()
        if self._lock.is_locked:
            Path(f"{self.path}.window").unlink(missing_ok=True)
            # The file stays: another window may be about to lock it.
            self._lock.release()

    def flush(self) -> None:
        """Wait until the pictures that were handed over are written."""
        if self._behind is not None:
            self._behind.flush()

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- images
    def _read_names(self) -> dict[str, int]:
        with self._reading() as db:
            return dict(db.execute("SELECT name, image_id FROM images ORDER BY position"))

    @property
    def names(self) -> list[str]:
        """Names of the images, in order."""
        return list(self._names)

    def has(self, image: str) -> bool:
        """Whether the project knows an image of that name."""
        return image in self._names

    def add_paths(self, paths: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Take in image files, and those in folders, that are not known yet; nothing is read.

        Returns
        -------
        list of str
            The names that the new ones got, in order.

        Raises
        ------
        ReadError
            If a path leads to no image.
        """
        found = [path.absolute() for path in find_images(list(paths))]
        with self._reading() as db:
            rows = db.execute("SELECT path, relative_path FROM images").fetchall()
        known = {self._place(path, relative).resolve() for path, relative in rows}
        new = [path for path in found if path.resolve() not in known]
        if not new:
            return []
        # Files of the same name in two folders get different ones, also beside those of yesterday.
        taken = list(self._names)
        names = []
        for name in unique_names(new):
            free, i = valid_text(name), 1
            while free in taken:
                free, i = f"{valid_text(name)} [{i}]", i + 1
            taken.append(free)
            names.append(free)
        with self._writing() as db:
            start = db.execute("SELECT coalesce(max(position), 0) FROM images").fetchone()[0]
            db.executemany(
                "INSERT INTO images (name, path, relative_path, position, added) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (name, str(path), self._relative(path), start + i, now())
                    for i, (name, path) in enumerate(zip(names, new, strict=True), 1)
                ],
            )
        self._names = self._read_names()
        return names

    def name_at(self, path: str | os.PathLike[str]) -> str:
        """The name of the image whose file this is.

        Raises
        ------
        ReadError
            If the project has none there.
        """
        wanted = Path(path).resolve()
        with self._reading() as db:
            rows = db.execute("SELECT name, path, relative_path FROM images").fetchall()
        for name, known, relative in rows:
            if self._place(known, relative).resolve() == wanted:
                return str(name)
        raise ReadError("the project has no such image", wanted)

    def add(self, micrograph: Micrograph) -> bool:
        """Take in an image that is open; whether the project keeps it (it must have a file)."""
        if micrograph.path is None:
            return False
        path = Path(micrograph.path).absolute()
        if micrograph.name not in self._names:
            with self._writing() as db:
                position = db.execute("SELECT coalesce(max(position), 0) + 1 FROM images")
                db.execute(
                    "INSERT INTO images (name, path, relative_path, position, added) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (
                        micrograph.name, str(path), self._relative(path),
                        position.fetchone()[0], now(),
                    ),
                )  # fmt: skip
            self._names = self._read_names()
        self.describe(micrograph)
        return True

    def describe(
        self, micrograph: Micrograph, thumbnail: bytes = b"", keep_size: bool = False
    ) -> None:
        """Note what was found in the file of an image.

        With ``keep_size`` a pixel size that is known already stays: a person may have given it.
        """
        shape = (micrograph.n_frames, *micrograph.shape_px)
        stat = None if micrograph.path is None else _stat(micrograph.path)
        with self._writing() as db:
            db.execute(
                "UPDATE images SET sha256 = coalesce(?, sha256), frames = ?, height = ?, "
                "width = ?, is_stack = ?, size_bytes = ?, modified = ?, pixel_size_nm = "
                "CASE WHEN ? THEN coalesce(pixel_size_nm, ?) ELSE ? END, "
                "metadata = ?, thumbnail = CASE WHEN ? THEN ? ELSE thumbnail END, "
                "recorded = ?, error = '' WHERE image_id = ?",
                (
                    micrograph.sha256, *shape, micrograph.is_stack, *(stat or (None, None)),
                    keep_size, micrograph.pixel_size_nm, micrograph.pixel_size_nm,
                    json.dumps(plain(dict(micrograph.metadata))),
                    bool(thumbnail), thumbnail, _recorded(micrograph), self._names[micrograph.name],
                ),
            )  # fmt: skip

    def fail(self, image: str, error: str) -> None:
        """Note why an image could not be read or analysed."""
        with self._writing() as db:
            db.execute("UPDATE images SET error = ? WHERE name = ?", (error, image))

    def set_pixel_size(self, image: str, pixel_size_nm: float) -> None:
        """Note what a person says of the pixel size."""
        with self._writing() as db:
            db.execute("UPDATE images SET pixel_size_nm = ? WHERE name = ?", (pixel_size_nm, image))

    def images(self, counts: bool = True) -> list[ProjectImage]:
        """All images, in order; without ``counts`` nothing is said of their clusters."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT image_id, name, path, relative_path, sha256, frames, height, width, "
                "is_stack, pixel_size_nm, analysed, error, model_id, thumbnail, recorded "
                "FROM images ORDER BY position"
            ).fetchall()
            labels = db.execute(
                "SELECT c.image_id, CASE WHEN c.label_corrected != '' THEN c.label_corrected "
                "ELSE coalesce(p.label_predicted, '') END, count(*), "
                "sum(c.label_corrected != '') FROM clusters c JOIN images i USING (image_id) "
                "LEFT JOIN predictions p ON p.image_id = c.image_id AND "
                "p.cluster_id = c.cluster_id AND p.model_id = c.model_id GROUP BY 1, 2"
            ).fetchall() if counts else []  # fmt: skip
        labelled: dict[int, dict[str, int]] = {}
        reviewed: dict[int, int] = {}
        for image_id, label, n, n_corrected in labels:
            labelled.setdefault(image_id, {})[label] = n
            reviewed[image_id] = reviewed.get(image_id, 0) + n_corrected
        return [
            ProjectImage(
                row[1],
                self._place(row[2], row[3]),
                row[4],
                None if row[6] is None else ((row[5],) if row[8] else ()) + (row[6], row[7]),
                row[9],
                "failed" if row[11] else "analysed" if row[10] else "new",
                row[11],
                sum(labelled.get(row[0], {}).values()),
                reviewed.get(row[0], 0),
                labelled.get(row[0], {}),
                row[12],
                row[13] or b"",
                row[14],
            )
            for row in rows
        ]

    def _relative(self, path: Path) -> str:
        try:
            return os.path.relpath(path, self.path.parent)
        except ValueError:  # another drive
            return str(path)

    def _place(self, path: str, relative: str) -> Path:
        """Where the file is: at its old path, or where it lies if all was moved together.

        Asked of the disk once, for hundreds of files on a share take their time.
        """
        known = self._places.get(path)
        if known is None:
            known = Path(path)
            if not known.exists():
                beside = (self.path.parent / relative).resolve()
                known = beside if beside.exists() else known
            self._places[path] = known
        return known

    def missing(self) -> list[ProjectImage]:
        """Images whose files are not where they were."""
        self._places.clear()
        return [image for image in self.images() if not image.path.exists()]

    def find_moved(
        self,
        folder: str | os.PathLike[str],
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> list[str]:
        """Look for missing files in a folder and below it; the content decides, not the name.

        Returns
        -------
        list of str
            Names of the images that were found again.
        """
        wanted: dict[str, list[ProjectImage]] = {}
        for image in self.missing():
            if image.sha256:
                wanted.setdefault(image.sha256, []).append(image)
        with self._reading() as db:
            sizes = {
                size for size, digest in db.execute("SELECT size_bytes, sha256 FROM images")
                if digest in wanted
            }  # fmt: skip
        found = []
        candidates = [p for p in Path(folder).rglob("*") if p.is_file()]
        for i, path in enumerate(candidates):
            check(stop)
            report(progress, i, len(candidates), f"Looking at {path.name}")
            stat = _stat(path)
            if not wanted or stat is None or stat[0] not in sizes:
                continue
            same = wanted.get(_hash_of(path), [])
            if same:
                # Of several with the same content the one of that name, if there is one.
                image = next((i for i in same if i.path.name == path.name), same[0])
                same.remove(image)
                if not same:
                    wanted = {k: v for k, v in wanted.items() if v}
                self.relocate(image.name, path)
                found.append(image.name)
        return found

    def relocate(self, image: str, path: str | os.PathLike[str]) -> None:
        """Say where an image's file is now.

        Raises
        ------
        AtomicityError
            If it is another file: the clusters would lie on another image.
        """
        path = Path(path).absolute()
        with self._reading() as db:
            known = db.execute("SELECT sha256 FROM images WHERE name = ?", (image,)).fetchone()
        if known is not None and known[0] and _hash_of(path) != known[0]:
            raise AtomicityError(
                f"this is another image than the {image} that was analysed",
                path,
                "Choose the file with the same content, or add this one as a new image",
            )
        with self._writing() as db:
            db.execute(
                "UPDATE images SET path = ?, relative_path = ?, error = '' WHERE name = ?",
                (str(path), self._relative(path), image),
            )

    # ---- what was found, and who said what
    def keep(
        self,
        image: str,
        before: Analysis | None,
        after: Analysis | None,
        cluster_ids: frozenset[int] | None,
        annotator: str,
        by_person: bool = True,
        blind: bool = False,
        spoken: bool = False,
        undone: bool = False,
        only_predicted: bool = False,
    ) -> None:
        """Write how the analysis of an image has changed; on disk when this returns.

        Parameters
        ----------
        image
            Name of the image.
        before, after
            The analysis as it was and as it is. If only a model's view of the same clusters
            changed, it is written a moment later: it can be had again.
        cluster_ids
            Clusters that may have changed; None: any.
        annotator
            Who did it.
        by_person
            Whether clusters that came and went are a person's doing, and so part of the log.
        blind
            Whether it was said without seeing what others say: then it is only noted in the log.
        spoken
            Whether a label was given to each of these clusters: then it is noted even where it is
            the one that it had, for it is another's opinion, or a second one.
        undone
            Whether that is an undo: then the annotator says again what he or she said before, and
            not what others did.
        only_predicted
            Whether clusters are known to be the same, so that they need not be compared.

        Raises
        ------
        AtomicityError
            If it can't be written: the file is as it was before.
        """
        image_id = self._names[image]
        known = after is not None and only_predicted and same_labels(before, after)
        if self._behind is not None and (known or (not by_person and same_clusters(before, after))):
            assert after is not None
            self._behind.submit(image_id, before, after, cluster_ids, said=True)
            return
        columns = LOGGED if spoken else None
        old = {} if spoken else rows_of(before, cluster_ids)
        new = rows_of(after, cluster_ids, columns)
        entries = log_entries(old, new, by_person, spoken)
        # To the microsecond: what was done in one go has one time, and nothing else has it.
        stamp = datetime.now(UTC).isoformat(timespec="microseconds")
        with self._writing() as db:
            if spoken and undone:
                entries = taken_back(db, image_id, annotator, blind, entries)
            db.executemany(
                "INSERT INTO corrections (time, annotator, image_id, cluster_id, frame, y_nm, "
                "x_nm, what, label, label_predicted, model_id, undoes, blind) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(stamp, annotator, image_id, *entry, blind) for entry in entries],
            )
            if spoken and not blind:
                write_labels(db, image_id, new)
            elif spoken:
                for cluster_id in new:  # it fills in where nobody says anything openly
                    settle(db, image_id, cluster_id)
            elif not blind:
                write_rows(db, image_id, before, after, old, new, cluster_ids)
        if not (blind or spoken) and after is not None and self._behind is not None:
            self._behind.submit(image_id, before, after, cluster_ids, said=False)

    def load(self, image: str) -> ProjectContents:
        """What the project holds of an image; pixels are read when they are asked for."""
        with self._reading() as db:
            micrograph, analysis, next_id = read_image(db, image, self._place)
            atoms, next_atom_id = read_atoms(db, self._names[image], micrograph)
        columns = None if analysis is None else columns_of(analysis.table)
        return ProjectContents(micrograph, analysis, next_id, columns, atoms, next_atom_id)

    def load_all(
        self, progress: Progress | None = None, stop: Stop | None = None
    ) -> dict[str, ProjectContents]:
        """The same of all images, in order."""
        found = {}
        for i, image in enumerate(self._names):
            check(stop)
            report(progress, i, len(self._names), f"Opening {image}")
            found[image] = self.load(image)
        return found

    def corrections(self) -> pd.DataFrame:
        """All that people did, in order; nothing is ever taken out of it.

        Returns
        -------
        pandas.DataFrame
            Columns time, annotator, image, cluster_id, frame, y_nm, x_nm, what ("label",
            "remove", "add" or "move"; what was removed and came back was added), label,
            label_predicted, model_id, blind, merged (whether it came from another project), undo
            (whether the annotator took the last statement back: the label is the one before).
        """
        with self._reading() as db:
            found = pd.read_sql_query(
                "SELECT time, annotator, i.name AS image, cluster_id, frame, y_nm, x_nm, what, "
                "label, label_predicted, c.model_id, blind, source IS NOT NULL AS merged, "
                "undoes IS NOT NULL AS undo "
                "FROM corrections c JOIN images i USING (image_id) ORDER BY correction_id",
                db,
            )
        return found.astype({"blind": bool, "merged": bool, "undo": bool})

    def labels(self) -> dict[str, dict[int, str]]:
        """What counts of what people said: image → cluster_id → label."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT i.name, c.cluster_id, c.label_corrected FROM clusters c "
                "JOIN images i USING (image_id) WHERE c.label_corrected != ''"
            ).fetchall()
        found: dict[str, dict[int, str]] = {image: {} for image in self._names}
        for image, cluster_id, label in rows:
            found[image][cluster_id] = label
        return found

    def blind_labels(
        self, annotator: str
    ) -> tuple[dict[str, dict[int, str]], dict[str, frozenset[int]]]:
        """What one annotator has said blind.

        Returns
        -------
        labels : dict
            Image → cluster_id → label.
        removed : dict
            Image → ids of what is no cluster to this annotator.
        """
        log = self.corrections()
        own = log[log["blind"] & ~log["merged"] & (log["annotator"] == annotator)]
        labels: dict[str, dict[int, str]] = {}
        for row in own[own["what"] == LABEL].itertuples():
            labels.setdefault(str(row.image), {})[int(str(row.cluster_id))] = str(row.label)
        last = own[own["what"] != LABEL].drop_duplicates(["image", "cluster_id"], keep="last")
        gone = last[last["what"] == REMOVE].groupby("image")["cluster_id"]
        return labels, {str(image): frozenset(ids.tolist()) for image, ids in gone}

    # ---- atoms
    def keep_atoms(
        self,
        image: str,
        before: ImageAtoms | None,
        after: ImageAtoms | None,
        annotator: str,
        blind: bool = False,
    ) -> None:
        """Write how the atoms of an image have changed; on disk when this returns.

        Parameters
        ----------
        image
            Name of the image.
        before, after
            The atoms as they were and as they are.
        annotator
            Who did it.
        blind
            Whether it was said without seeing what others and the model say: then it is only in
            the log.

        Raises
        ------
        AtomicityError
            If it can't be written: the file is as it was before.
        """
        with self._writing() as db:
            write_atoms(db, self._names[image], before, after, annotator, blind)

    def marks(self) -> pd.DataFrame:
        """What people have said of atoms, oldest first: an append-only log.

        Returns
        -------
        pandas.DataFrame
            Columns image, mark_id, time, annotator, atom_id, frame, y_px, x_px, y_nm, x_nm, what
            ("atom", "none" or "withdrawn"), uncertain, intensity, amplitude, background,
            sigma_nm, blind, merged.
        """
        with self._reading() as db:
            return log_of_marks(db, self._names)

    def blind_marks(self, annotator: str) -> dict[str, ImageAtoms]:
        """What one annotator has marked blind, by image."""
        with self._reading() as db:
            found = {n: last_marks(db, i, annotator) for n, i in self._names.items()}
            sizes = dict(db.execute("SELECT name, pixel_size_nm FROM images"))
        return {
            name: ImageAtoms(name, sizes[name], marks=marks)
            for name, marks in found.items()
            if marks and sizes[name]
        }

    def annotations(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What each annotator has marked blind, here or elsewhere: see `consensus`.

        Returns
        -------
        marks : pandas.DataFrame
            Columns image, annotator, frame, y_px, x_px, y_nm, x_nm, uncertain.
        looked : pandas.DataFrame
            Columns image, annotator: who has gone through which image.
        """
        with self._reading() as db:
            return blind_annotations(db, self._names)

    def take_in_marks(self, image: str, annotator: str, marks: pd.DataFrame, source: str) -> int:
        """Add what somebody has marked elsewhere; the same twice adds nothing.

        Returns
        -------
        int
            How many entries were new.
        """
        with self._writing() as db:
            image_id = self._names[image]
            return take_in(db, image_id, annotator, marks, source, free_id(db, image_id))

    def free_atom_ids(self) -> dict[str, int]:
        """Of each image a number that no atom ever had, whoever marked it and wherever."""
        with self._reading() as db:
            return {name: free_id(db, image_id) for name, image_id in self._names.items()}

    def mark_as_viewed(self, images: Iterable[str], annotator: str, looked: bool = True) -> None:
        """Somebody has gone through these images: what is not marked there is no atom to them.

        If not ``looked``, they take that back; who has marks in an image counts anyhow.
        """
        with self._writing() as db:
            mark_as_viewed(db, [self._names[image] for image in images], annotator, looked)

    def merge(self, path: str | os.PathLike[str]) -> MergeReport:
        """Take in the corrections, and the blind marks of atoms, of another project of the same
        images.

        Images are the same if their files have the same content; clusters, if each is the other's
        nearest and they lie within half a diameter. Taking in the same project twice adds nothing.
        What is said here counts; what the others said fills in where nobody here said anything.

        Raises
        ------
        AtomicityError
            If it can't be read, or is this project.
        """
        if Path(path).absolute() == self.path:
            raise AtomicityError("this is the project that is open", Path(path))
        with Project(path, read_only=True) as other, self._writing() as db:
            return merge(self, db, other)

    def corrections_by_source(self) -> dict[str, dict[str, Any]]:
        """The log by an address that is an entry's own in whichever project it comes to lie."""
        with self._reading() as db:
            own = db.execute("SELECT uuid FROM identity").fetchone()[0]
            cursor = db.execute(
                "SELECT correction_id, source, time, annotator, i.name AS image, cluster_id, "
                "frame, y_nm, x_nm, what, label, label_predicted, c.model_id AS model_id, blind, "
                "undoes "
                "FROM corrections c JOIN images i USING (image_id) ORDER BY correction_id"
            )
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        # Copies of a project share its uuid, and go on counting from the same number.
        return {
            row["source"] or f"{own}/{row['correction_id']}/{row['time']}/{row['annotator']}": row
            for row in rows
        }

    def by_hand(self, image: str) -> tuple[frozenset[int], pd.DataFrame]:
        """Clusters that a person has added to an image, and where those lay that were removed.

        Returns
        -------
        added : frozenset of int
            Their ids.
        removed : pandas.DataFrame
            Columns frame, y_nm, x_nm.
        """
        with self._reading() as db:
            log = pd.read_sql_query(
                "SELECT time, ? AS image, cluster_id, frame, y_nm, x_nm, what FROM corrections "
                "WHERE image_id = ? AND NOT blind AND source IS NULL AND what IN (?, ?) "
                "ORDER BY correction_id",
                db,
                params=(image, self._names[image], ADD, REMOVE),
            )
        if not len(log):
            return frozenset(), log[["frame", "y_nm", "x_nm"]]
        first = log.drop_duplicates("cluster_id", keep="first").set_index("cluster_id")["what"]
        last = log.drop_duplicates("cluster_id", keep="last").set_index("cluster_id")
        added = last.index[(first.loc[last.index] == ADD) & (last["what"] == ADD)]
        # One that was split or merged went because others took its place.
        gone = drop_replaced(log)
        gone = gone.drop_duplicates("cluster_id", keep="last")
        gone = gone[gone["what"] == REMOVE]
        return frozenset(added.tolist()), gone[["frame", "y_nm", "x_nm"]].reset_index(drop=True)

    def places(self, image: str) -> pd.DataFrame:
        """Where the clusters of an image lie, without reading anything else."""
        with self._reading() as db:
            return pd.read_sql_query(
                "SELECT cluster_id, frame, y_px, x_px, y_nm, diameter_nm FROM clusters "
                "WHERE image_id = ?",
                db,
                params=(self._names[image],),
            )

    def predictions(self, image: str, model_id: str) -> pd.DataFrame:
        """What a model has said of the clusters of an image, also if another is shown now."""
        with self._reading() as db:
            found = pd.read_sql_query(
                "SELECT * FROM predictions WHERE image_id = ? AND model_id = ?",
                db,
                params=(self._names[image], model_id),
            )
            return with_probabilities(db, found).drop(columns=["image_id", "time"])

    # ---- settings, runs and models
    def setting(self, key: str, default: Any = None) -> Any:
        """What was noted under a key."""
        with self._reading() as db:
            row = db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set_setting(self, key: str, value: Any) -> None:
        """Note a value that JSON knows; in a project that is only read, nothing happens."""
        if not self.read_only:
            with self._writing() as db:
                db.execute(
                    "INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)",
                    (key, json.dumps(plain(value))),
                )

    def add_run(self, record: Mapping[str, Any]) -> None:
        """Note a run with its parameters, as it goes into ``run.json``."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO runs (time, record) VALUES (?, ?)",
                (now(), json.dumps(plain(dict(record)))),
            )

    def runs(self) -> list[dict[str, Any]]:
        """The runs, in order."""
        with self._reading() as db:
            rows = db.execute("SELECT time, record FROM runs ORDER BY run_id").fetchall()
        return [{"time": time, **json.loads(record)} for time, record in rows]

    def add_model(self, name: str, weights: bytes, card: str) -> None:
        """Keep a model in the project: its safetensors and the JSON beside them."""
        with self._writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO model_files (name, time, content, card) "
                "VALUES (?, ?, ?, ?)",
                (name, now(), weights, card),
            )

    def models(self) -> dict[str, str]:
        """Names of the models that are kept here, and when they came."""
        with self._reading() as db:
            return dict(db.execute("SELECT name, time FROM model_files ORDER BY time"))

    def model_file(self, name: str) -> tuple[bytes, str]:
        """Weights and card of a model that is kept here.

        Raises
        ------
        ReadError
            If there is none of that name.
        """
        with self._reading() as db:
            row = db.execute(
                "SELECT content, card FROM model_files WHERE name = ?", (name,)
            ).fetchone()
        if row is None:
            raise ReadError(f"there is no model {name!r} in the project", self.path)
        return row[0], row[1]


# ---- files
def _hash_of(path: Path) -> str:
    """Hash of a file's content; `ReadError` if it can't be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise ReadError(f"could not be read ({error.strerror or error})", path) from error


def _stat(path: Path) -> tuple[int, float] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime


def _recorded(micrograph: Micrograph) -> str | None:
    value = micrograph.metadata.get("recorded")
    return None if value is None else str(value)
