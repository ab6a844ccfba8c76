"""The images of a project: their names, files and what is known of them without their pixels."""

from __future__ import annotations

import filecmp
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.acquisition_session import EarlierScale, SessionEntry
from ..core.errors import AtomicityError, ReadError
from ..core.micrograph import Micrograph
from ..core.progress import Progress, Stop, check, report
from ..io.files import plain
from ..io.images import find_images, resolved, sha256_of, unique_names, valid_text
from ..io.provenance import now
from ..io.readers.lazy_micrograph import LazyMicrograph
from ..models.analysis import Analysis
from .connection import ProjectConnection
from .contents import ProjectImage
from .damage import as_number, as_shape, as_text, damage_as_error, is_path, read_json, valid_names
from .schema import REMOVED, SAMPLE_NUMBERS, SAMPLES, upgrade


# ---- what people entered of the acquisition sessions of a project's images
def read_entries(db: sqlite3.Connection) -> dict[int, SessionEntry]:
    """Return image id → entry of images that have one, without damaged ones (with a warning)."""
    return {image_id: entry for image_id, (entry, *_) in session_rows(db).items()}


def write_entry(
    db: sqlite3.Connection, image_id: int, entry: SessionEntry, annotator: str, time: str = ""
) -> None:
    """Replace the entry of an image; an empty one removes it."""
    if not entry:
        db.execute("DELETE FROM image_sessions WHERE image_id = ?", (image_id,))
        _write_sample(db, image_id, SessionEntry())
        return
    db.execute(
        "INSERT OR REPLACE INTO image_sessions "
        "(image_id, session, known, earlier, keep_known, pixel_size_error, annotator, time) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            image_id,
            entry.session,
            json.dumps(dict(entry.known)),
            json.dumps(asdict(entry.earlier)) if entry.earlier else "",
            int(entry.keep_known),
            entry.pixel_size_error,
            annotator,
            time or now(),
        ),
    )
    _write_sample(db, image_id, entry)


def _write_sample(db: sqlite3.Connection, image_id: int, entry: SessionEntry) -> None:
    """Replace the sample of an image; an empty one removes it."""
    if entry.sample:
        upgrade(db)
    for table in _there(db, SAMPLES, SAMPLE_NUMBERS):
        db.execute(f"DELETE FROM {table} WHERE image_id = ?", (image_id,))
    if entry.sample:
        db.execute("INSERT INTO image_samples VALUES (?, ?)", (image_id, entry.sample))
    if entry.sample and entry.sample_numbers:
        numbers = json.dumps(dict(entry.sample_numbers))
        db.execute("INSERT INTO sample_numbers VALUES (?, ?)", (image_id, numbers))


def _there(db: sqlite3.Connection, *tables: str) -> list[str]:
    """Return those of some tables that a file has; files of older schemas lack the newer ones."""
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    return [table for table in tables if table in names]


def merge_entries(
    db: sqlite3.Connection, theirs: sqlite3.Connection, same: Mapping[int, int]
) -> None:
    """Add the entries of another project where this one has none."""
    ours, others = session_rows(db), session_rows(theirs)
    for image_id, (entry, annotator, time) in others.items():
        if image_id not in same:
            continue
        own = ours.get(same[image_id], (SessionEntry(), "", ""))[0]
        merged = SessionEntry(
            own.session or entry.session,
            own.known or entry.known,
            own.earlier or entry.earlier,
            own.keep_known if own.known else entry.keep_known,
            entry.pixel_size_error if own.pixel_size_error is None else own.pixel_size_error,
            own.sample or entry.sample,
            own.sample_numbers if own.sample else entry.sample_numbers,
        )
        if merged != own:
            write_entry(db, same[image_id], merged, annotator, time)


def session_rows(db: sqlite3.Connection) -> dict[int, tuple[SessionEntry, str, str]]:
    """Return image id → entry with its annotator and time; damaged ones are left out."""
    rows = db.execute(
        "SELECT image_id, session, known, earlier, keep_known, pixel_size_error, annotator, time "
        "FROM image_sessions"
    )
    samples, numbers = (
        dict(db.execute(f"SELECT * FROM {table}").fetchall()) if _there(db, table) else {}
        for table in (SAMPLES, SAMPLE_NUMBERS)
    )
    found = {}
    for image_id, *values, annotator, time in rows:
        try:
            with damage_as_error(f"the acquisition session of image {image_id}"):
                sample = samples.get(image_id, ""), numbers.get(image_id, "{}")
                entry = _with_sample(_entry(*values), *sample)
        except ReadError as error:
            logger.warning("%s", error)
        else:
            found[image_id] = entry, as_text(annotator), as_text(time)
    return found


def _with_sample(entry: SessionEntry, sample: object, numbers: str) -> SessionEntry:
    """Return an entry with its sample; damaged values raise any error."""
    stored = read_json(numbers, dict)
    if any(as_number(number) is None for number in stored.values()):
        raise ValueError("the numbers of the sample are no numbers")
    return replace(entry, sample=as_text(sample), sample_numbers=stored)


def _entry(
    session: object, known: str, earlier: str, keep: object, pixel_size_error: object
) -> SessionEntry:
    """Return an entry from its row; damaged values raise any error."""
    sample = read_json(known, dict)
    if not isinstance(session, str) or any(as_number(n) is None for n in sample.values()):
        raise ValueError("the session is no text, or the known sample has no numbers")
    scale = EarlierScale(**read_json(earlier, dict)) if earlier else None
    if scale is not None and not (as_number(scale.intensity_per_atom) and as_number(scale.log_sd)):
        raise ValueError("the earlier scale is no number")
    error = as_number(pixel_size_error)
    if pixel_size_error is not None and error is None:
        raise ValueError("the error of the pixel size is no number")
    return SessionEntry(session, sample, scale, keep == 1, error)


# ---- what was read from the file of an image, as a row of the table of images
def write_metadata(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    micrograph: Micrograph,
    thumbnail: bytes = b"",  # PNG; the stored one stays if it is empty
    keep_pixel_size: bool = False,  # keep a stored pixel size: a person may have set it
) -> None:
    """Write what was read from the file of an image."""
    shape = (micrograph.n_frames, *micrograph.shape_px)
    stat = None if micrograph.path is None else stat_of(micrograph.path)
    recorded = micrograph.metadata.get("recorded")
    db.execute(
        "UPDATE images SET sha256 = coalesce(?, sha256), frames = ?, height = ?, "
        "width = ?, is_stack = ?, size_bytes = ?, modified = ?, pixel_size_nm = "
        "CASE WHEN ? THEN coalesce(pixel_size_nm, ?) ELSE ? END, "
        "metadata = ?, thumbnail = CASE WHEN ? THEN ? ELSE thumbnail END, "
        "recorded = ?, error = '' WHERE image_id = ?",
        (
            micrograph.sha256, *shape, micrograph.is_stack, *(stat or (None, None)),
            keep_pixel_size, micrograph.pixel_size_nm, micrograph.pixel_size_nm,
            json.dumps(plain(dict(micrograph.metadata))),
            bool(thumbnail), thumbnail, None if recorded is None else str(recorded), image_id,
        ),
    )  # fmt: skip


def stat_of(path: Path) -> tuple[int, float] | None:
    """Return size in bytes and time of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime


def exists(path: Path) -> bool:
    """Return whether there is a file that can be reached."""
    return stat_of(path) is not None


logger = logging.getLogger(__name__)

_DAMAGED_PATH = "damaged path"
"""Shown instead of a path that can't be one."""
_LAST_POSITION = "coalesce(max(CAST(position AS INTEGER)), 0)"


def _removed_ids(db: sqlite3.Connection) -> set[int]:
    """Return the ids of images that a person has removed."""
    gone = db.execute(f"SELECT image_id FROM {REMOVED}") if _there(db, REMOVED) else ()
    return {image_id for (image_id,) in gone}


class ImageIndex:
    """The table of images of a project file: names and ids of its images, and of removed ones."""

    def __init__(self, file: ProjectConnection) -> None:
        self._file = file
        self._paths: dict[str, Path] = {}
        self.damaged: dict[str, dict[str, str]] = {}
        # images whose files were gone at the last look
        self.not_found: frozenset[str] = frozenset()
        self._read_ids()

    def _read_ids(self) -> None:
        with self._file.reading() as db:
            names = valid_names(db.execute("SELECT image_id, name FROM images ORDER BY position"))
            gone = _removed_ids(db)
        self.ids = {name: i for name, i in names.items() if i not in gone}
        self.removed = {name: i for name, i in names.items() if i in gone}

    def named(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows but those of removed images, with names of images in place of ids.

        Rows of images that are damaged or missing stay, with a name that no image has.
        """
        table = table[~table["image_id"].isin(self.removed.values())].reset_index(drop=True)
        names = {image_id: name for name, image_id in self.ids.items()}
        image = [names.get(i, f"image {as_text(i)}") for i in table["image_id"].tolist()]
        table["image_id"] = pd.Series(image, dtype=object)
        return table.rename(columns={"image_id": "image"})

    def remove(self, images: Iterable[str]) -> None:
        """Remove images: they are listed no more; what is stored of them stays in the file."""
        gone = [(self.ids[image], now()) for image in images]
        if not gone:
            return
        with self._file.writing() as db:
            upgrade(db)
            db.executemany(f"INSERT INTO {REMOVED} VALUES (?, ?)", gone)
        self._read_ids()

    def put_back(self, images: Iterable[str]) -> None:
        """List removed images again, with all that is stored of them."""
        back = [(self.removed[image],) for image in images if image in self.removed]
        if not back:
            return
        with self._file.writing() as db:
            db.executemany(f"DELETE FROM {REMOVED} WHERE image_id = ?", back)
        self._read_ids()

    def removed_at(self, paths: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Return the names of removed images that are among files, and those in folders."""
        there = {resolved(path) for path in find_images(list(paths))} if self.removed else set()
        return [name for name, path in self._paths_of(self.removed).items() if path in there]

    def _paths_of(self, ids: Mapping[str, int]) -> dict[str, Path]:
        """Return where the files of images are, by name."""
        rows = self._select("image_id, path, relative_path FROM images")
        paths = {image_id: (path, relative) for image_id, path, relative in rows}
        return {name: resolved(self.path_of(*paths[i])) for name, i in ids.items()}

    def set_damage(self, image: str, part: str, reason: str) -> None:
        """Note that a part of what is stored of an image could not be read."""
        known = self.damaged.get(image, {})
        if reason and known.get(part) != reason:
            logger.warning("%s: %s", image, reason)
        parts = {**known, part: reason} if reason else {p: r for p, r in known.items() if p != part}
        self.damaged.pop(image, None)
        if parts:
            self.damaged[image] = parts

    def damage_of(self, image: str) -> str:
        """Return why parts of an image could not be read; "" if all could."""
        reasons = self.damaged.get(image)
        advice = {"analysis": "Analyse the image again", "atoms": "Detect the atoms again"}
        return "" if not reasons else " ".join(f"{r}. {advice[p]}." for p, r in reasons.items())

    def repair(self, db: sqlite3.Connection, analysis: Analysis) -> None:
        """Replace what is damaged of an image, before a new analysis of it is written."""
        micrograph = analysis.micrograph
        image_id = self.ids[micrograph.name]
        model = analysis.parameters.get("model") or {}
        if isinstance(micrograph, LazyMicrograph):
            micrograph = micrograph.with_file_metadata()
        write_metadata(db, image_id, micrograph)
        # Both are written again with the analysis.
        db.execute("DELETE FROM models WHERE model_id = ?", (model.get("model_id"),))
        db.execute("DELETE FROM pictures WHERE image_id = ?", (image_id,))
        db.execute("UPDATE images SET name = ? WHERE image_id = ?", (micrograph.name, image_id))

    # ---- new images
    def add_paths(
        self, paths: Iterable[str | os.PathLike[str]], in_draft: bool = False
    ) -> list[str]:
        """Add image files, and those in folders, that are new; see `Project.add_paths`."""
        found = [path.absolute() for path in find_images(list(paths))]
        known = set(self._paths_of({**self.ids, **self.removed}).values())
        new = [path for path in found if resolved(path) not in known]
        if not new:
            return []
        names = self._free_names(new)
        with self._file.writing(in_draft) as db:
            start = db.execute(f"SELECT {_LAST_POSITION} FROM images").fetchone()[0]
            db.executemany(
                "INSERT INTO images (name, path, relative_path, position, added) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (name, str(path), self._relative(path), start + i, now())
                    for i, (name, path) in enumerate(zip(names, new, strict=True), 1)
                ],
            )
        self._read_ids()
        return names

    def without_copies(self, paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
        """Return the image files, and those in folders, whose content no other image has."""
        rows = self._select("size_bytes, sha256, path, relative_path, image_id FROM images")
        hashes: dict[int, set[str]] = {}
        gone = set(self.removed.values())
        for size, digest, path, relative, image_id in rows:
            # A file that is gone may have been moved.
            if image_id not in gone and digest and exists(self.path_of(path, relative)):
                hashes.setdefault(size, set()).add(digest)
        return [
            path for path in find_images(list(paths))
            if (stat := stat_of(path)) is None
            or stat[0] not in hashes
            or _hash_of(path) not in hashes[stat[0]]
        ]  # fmt: skip

    def _free_names(self, paths: list[Path]) -> list[str]:
        """Return a name for each path that no image of the project has."""
        # Files of the same name in two folders get different names.
        taken = [*self.ids, *self.removed]
        names = []
        for name in unique_names(paths):
            free, i = valid_text(name), 1
            while free in taken:
                free, i = f"{valid_text(name)} [{i}]", i + 1
            taken.append(free)
            names.append(free)
        return names

    def add(self, micrograph: Micrograph) -> bool:
        """Add an image that is open; return whether it has a file and could be added."""
        if micrograph.path is None:
            return False
        path = Path(micrograph.path).absolute()
        if not is_path(micrograph.name):
            raise AtomicityError("this name of an image is too long", advice="Rename it")
        if micrograph.name not in self.ids:
            with self._file.writing(in_draft=True) as db:
                if micrograph.name in self.removed:  # another file, or without what was found
                    self._free_name(db, micrograph.name)
                position = db.execute(f"SELECT {_LAST_POSITION} + 1 FROM images")
                db.execute(
                    "INSERT INTO images (name, path, relative_path, position, added) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (
                        micrograph.name, str(path), self._relative(path),
                        position.fetchone()[0], now(),
                    ),
                )  # fmt: skip
            self._read_ids()
        self.update_metadata(micrograph)
        return True

    def _free_name(self, db: sqlite3.Connection, name: str) -> None:
        """Rename a removed image, since a new one takes its name."""
        (free,) = self._free_names([Path(name)])
        values = free, self.removed[name]
        db.execute("UPDATE images SET name = ? WHERE image_id = ?", values)

    # ---- metadata
    def update_metadata(
        self, micrograph: Micrograph, thumbnail: bytes = b"", keep_pixel_size: bool = False
    ) -> None:
        """Store what was read from the file of an image; see `Project.update_metadata`."""
        with self._file.writing(in_draft=True) as db:
            write_metadata(db, self.ids[micrograph.name], micrograph, thumbnail, keep_pixel_size)

    def failed(self) -> set[str]:
        """Return the images that could not be read or analysed."""
        return {as_text(x) for (x,) in self._select("name FROM images WHERE error != ''")}

    def is_unread(self, image: str) -> bool:
        """Return whether the file of an image could not be read."""
        return bool(self._value("coalesce(thumbnail, '') = '' AND error != ''", image))

    def sha256(self, image: str) -> str | None:
        """Return the hash of the content of an image's file; None if it was not read."""
        return self._value("sha256", image) or None

    def _value(self, column: str, image: str) -> Any:
        """Return a column, or an expression of columns, of an image; None without the image."""
        rows = self._select(f"{column} FROM images WHERE image_id = ?", self.ids.get(image))
        return rows[0][0] if rows else None

    def without_thumbnail(self) -> set[str]:
        """Return the images that were read but have no thumbnail, as a save left unfinished."""
        bare = "name FROM images WHERE coalesce(thumbnail, '') = '' AND error = ''"
        return {as_text(x) for (x,) in self._select(bare)}

    def _select(self, query: str, *values: Any) -> list[Any]:
        with self._file.reading() as db:
            return db.execute(f"SELECT {query}", values).fetchall()

    def set_error(self, image: str, error: str) -> None:
        """Store why an image could not be read or analysed."""
        with self._file.writing(in_draft=True) as db:
            db.execute("UPDATE images SET error = ? WHERE image_id = ?", (error, self.ids[image]))

    def set_pixel_size(self, image: str, pixel_size_nm: float | None) -> None:
        """Store the pixel size of an image that a person entered; an error before may be gone."""
        with self._file.writing() as db:
            db.execute(
                "UPDATE images SET pixel_size_nm = ?, error = '' WHERE image_id = ?",
                (pixel_size_nm, self.ids[image]),
            )

    def session_entries(self) -> dict[str, SessionEntry]:
        """Return what people entered of the acquisition sessions of images, by name."""
        with self._file.reading() as db:
            entries = read_entries(db)
        return {name: entries[i] for name, i in self.ids.items() if i in entries}

    def set_session(self, image: str, entry: SessionEntry, annotator: str) -> None:
        """Store what a person entered of the acquisition session of an image."""
        with self._file.writing() as db:
            write_entry(db, self.ids[image], entry, annotator)

    def images(self, counts: bool = True) -> list[ProjectImage]:
        """Return all images, in order; without `counts`, clusters are not counted."""
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT image_id, path, relative_path, sha256, frames, height, width, "
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
            labelled.setdefault(image_id, {})[as_text(label)] = n
            reviewed[image_id] = reviewed.get(image_id, 0) + n_corrected
        names = {image_id: name for name, image_id in self.ids.items()}
        return [
            self._image(names[row[0]], row, labelled.get(row[0], {}), reviewed.get(row[0], 0))
            for row in rows
            if row[0] in names
        ]

    def _image(
        self, name: str, row: tuple[Any, ...], counts: dict[str, int], n_reviewed: int
    ) -> ProjectImage:
        """Describe an image by its row of the table of images; values may be damaged."""
        _, path, relative, digest, *sizes, pixel_size, analysed, stored, model_id = row[:12]
        error = as_text(stored) or self.damage_of(name)
        return ProjectImage(
            name,
            self.path_of(path, relative),
            None if digest is None else as_text(digest),
            as_shape(*sizes),
            as_number(pixel_size),
            "failed" if error else "analysed" if analysed else "new",
            error,
            sum(counts.values()),
            n_reviewed,
            counts,
            None if model_id is None else as_text(model_id),
            row[12] if isinstance(row[12], bytes) else b"",
            None if row[13] is None else as_text(row[13]),
        )

    # ---- files
    def _relative(self, path: Path) -> str:
        try:
            return os.path.relpath(path, self._file.path.parent)
        except ValueError:  # another drive
            return str(path)

    def path_of(self, path: Any, relative: Any) -> Path:
        """Return where a file is: moved or copied together with the project, or at its stored path.

        The disk is queried once for each file: hundreds of files on a network share take long.
        """
        path = path if is_path(path) else _DAMAGED_PATH
        if path not in self._paths:
            stored = Path(path)
            below = relative if is_path(relative) else path
            together = Path(os.path.normpath(self._file.path.parent / below))
            if together != stored and _takes_the_place_of(together, stored):
                stored = resolved(together)
            self._paths[path] = stored
        return self._paths[path]

    def name_at(self, path: str | os.PathLike[str]) -> str:
        """Return the name of the image whose file this is; `ReadError` if there is none."""
        wanted = resolved(Path(path))
        for name, known in self._paths_of(self.ids).items():
            if known == wanted:
                return name
        raise ReadError(
            "this image is not in the project, or was removed from it",
            wanted,
            "Add it in the window: Browse, ⋯ ▸ Add images",
        )

    def missing(self) -> list[ProjectImage]:
        """Return the images whose files are not where they were."""
        self._paths.clear()
        found = [image for image in self.images(counts=False) if not exists(image.path)]
        self.not_found = frozenset(image.name for image in found)
        return found

    def find_moved(
        self,
        folder: str | os.PathLike[str],  # searched with its subfolders
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> list[str]:
        """Find missing files in a folder by their content; see `Project.find_moved`."""
        wanted: dict[str, list[ProjectImage]] = {}
        for image in self.missing():
            if image.sha256:
                wanted.setdefault(image.sha256, []).append(image)
        with self._file.reading() as db:
            sizes = {
                size for size, digest in db.execute("SELECT size_bytes, sha256 FROM images")
                if digest in wanted
            }  # fmt: skip
        found = []
        candidates = [p for p in Path(folder).rglob("*") if p.is_file()]
        for i, path in enumerate(candidates):
            check(stop)
            report(progress, i, len(candidates), f"Looking at {path.name}")
            stat = stat_of(path)
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
        """Store the new path of an image's file.

        Raises `AtomicityError` if it is another file: the clusters would belong to another image.
        """
        path = Path(path).absolute()
        known = self.sha256(image)
        if known and _hash_of(path) != known:
            raise AtomicityError(
                f"this is another image than the {image} that was analysed",
                path,
                "Choose the file with the same content, or add this one as a new image",
            )
        with self._file.writing() as db:
            db.execute(
                "UPDATE images SET path = ?, relative_path = ?, error = '' WHERE image_id = ?",
                (str(path), self._relative(path), self.ids[image]),
            )
        self.not_found -= {image}


def _takes_the_place_of(path: Path, stored: Path) -> bool:
    """Return whether a file stands for the stored one, which is gone or has the same content."""
    if not exists(path):
        return False
    try:
        return not exists(stored) or (not path.samefile(stored) and filecmp.cmp(path, stored))
    except OSError:
        return False


def _hash_of(path: Path) -> str:
    """Return the hash of a file's content; `ReadError` if it can't be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise ReadError(f"could not be read ({error.strerror or error})", path) from error
