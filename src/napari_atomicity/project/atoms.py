"""Between the atoms of an image and the rows of a project's tables.

What a model found is one row per image, replaced as a whole. What people mark is a log that only
grows; of each atom the last entry counts.
"""

from __future__ import annotations

import io
import json
import math
import sqlite3
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from ..atoms.marks import ImageAtoms, Mark
from ..atoms.table import conform, validate
from ..io.files import plain
from ..io.provenance import now
from .connection import ProjectConnection
from .contents import RecordableEdit, entries_by_address, next_source, rows_by_address
from .damage import (
    MAX_NUMBER,
    as_number,
    as_text,
    check_polygons,
    coerce_numbers,
    coerce_texts,
    holds_text,
    read_json,
)
from .images import ImageIndex

# ---- candidates, support and polygons of atoms as values of a project's tables

_MAX_ROWS = 5_000_000


def pack_polygons(polygons: Iterable[np.ndarray]) -> str:
    """Return polygons as JSON."""
    return json.dumps([np.asarray(p).tolist() for p in polygons])


def unpack_polygons(text: str) -> tuple[np.ndarray, ...]:
    """Return polygons from JSON; damaged ones raise any error."""
    polygons = tuple(np.asarray(p, float) for p in read_json(text, list))
    check_polygons(polygons)
    return polygons


def pack_table(table: pd.DataFrame) -> bytes:
    """Return a table of candidates as Parquet."""
    stream = io.BytesIO()
    table.to_parquet(stream, index=False, compression="zstd")
    return stream.getvalue()


def unpack_table(packed: bytes) -> pd.DataFrame:
    """Return a table of candidates from Parquet; a damaged one raises any error."""
    from pyarrow.parquet import ParquetFile

    if ParquetFile(io.BytesIO(packed)).metadata.num_rows > _MAX_ROWS:
        raise ValueError("more candidates than an image can have")
    table = conform(pd.read_parquet(io.BytesIO(packed)))
    validate(table)
    for name in ("image", "origin", "model_id"):
        if name in table and not holds_text(table[name]):
            raise ValueError(f"the column {name} of the candidates holds values that are no text")
    return table


def pack_mask(mask: np.ndarray) -> bytes:
    """Return a mask as compressed bits."""
    shape = ",".join(map(str, mask.shape)).encode() + b";"
    return shape + zlib.compress(np.packbits(np.asarray(mask, bool)).tobytes(), 1)


def unpack_mask(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask from compressed bits.

    Raises `ValueError` or `zlib.error` if it is damaged, or not of this image.
    """
    head, _, bits = packed.partition(b";")
    stored = tuple(map(int, head.split(b",")))
    if stored != tuple(shape):
        raise ValueError("the support has another shape than the image")
    n = math.prod(shape)
    # A few bytes can be unpacked into more than there is memory.
    content = zlib.decompressobj().decompress(bits, (n + 7) // 8 + 1)
    if len(content) != (n + 7) // 8:
        raise ValueError("the support has another size than the image")
    flat = np.unpackbits(np.frombuffer(content, np.uint8), count=n)
    return flat.astype(bool).reshape(shape)


ATOM, NONE, WITHDRAWN = "atom", "none", "withdrawn"
"""What an entry of the log says: there is an atom; there is no atom; the mark is withdrawn."""
NO_ATOM = 0
"""Id of no atom. A withdrawn mark of it says that the annotator has not reviewed the image."""

_MEASURED = ("intensity", "amplitude", "background", "sigma_nm")
STATE = (
    "pixel_size_nm", "threshold", "candidate_recall", "group_distance_nm", "support_added",
    "support_removed", "next_id",
)  # fmt: skip
"""Columns of the table `atoms` that change without another detection."""


def write_atoms(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    before: ImageAtoms | None,
    after: ImageAtoms | None,
    annotator: str,
    blind: bool,
) -> None:
    """Write how the atoms of an image have changed."""
    stamp = now()
    if not blind and not _same_state(before, after):
        _write_state(db, image_id, before, after, stamp)
    old, new = ({} if a is None else a.marks for a in (before, after))
    size = (after or before).pixel_size_nm if after or before else 0.0  # type: ignore[union-attr]
    changed = [i for i in {**old, **new} if old.get(i) != new.get(i)]
    entries = [_entry(i, new.get(i), old.get(i), size) for i in changed]
    _write_marks(db, [(stamp, annotator, image_id, *entry, blind, None) for entry in entries])


def _write_marks(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Add rows to the log of marks, each with its source: None for marks of this project."""
    db.executemany(
        "INSERT INTO marks (time, annotator, image_id, atom_id, frame, y_px, x_px, y_nm, x_nm, "
        "what, uncertain, intensity, amplitude, background, sigma_nm, blind, source) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _entry(atom_id: int, now: Mark | None, before: Mark | None, size_nm: float) -> tuple[Any, ...]:
    mark = now or before
    assert mark is not None
    what = WITHDRAWN if now is None else ATOM if now.present else NONE
    return (
        atom_id, mark.frame, mark.y_px, mark.x_px, mark.y_px * size_nm, mark.x_px * size_nm, what,
        mark.uncertain, *(getattr(mark, name) for name in _MEASURED),
    )  # fmt: skip


def _same_state(a: ImageAtoms | None, b: ImageAtoms | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.analysis is b.analysis and all(
        getattr(a, name) is getattr(b, name) or getattr(a, name) == getattr(b, name)
        for name in ("group_distance_nm", "pixel_size_nm")
    ) and a.support_added is b.support_added and a.support_removed is b.support_removed  # fmt: skip


def _write_state(
    db: sqlite3.Connection,
    image_id: int,
    before: ImageAtoms | None,
    after: ImageAtoms | None,
    stamp: str,
) -> None:
    if after is None:
        db.execute("DELETE FROM atoms WHERE image_id = ?", (image_id,))
        return
    analysis = after.analysis
    values = (
        after.pixel_size_nm,
        None if analysis is None else analysis.threshold,
        None if analysis is None else analysis.candidate_recall,
        after.group_distance_nm,
        pack_polygons(after.support_added),
        pack_polygons(after.support_removed),
        after.next_id,
    )
    known = None if before is None else before.analysis
    if known is not None and analysis is not None and known.candidates is analysis.candidates:
        names, state = list(STATE), list(values)
        if known.parameters is not analysis.parameters:
            names.append("parameters")
            state.append(json.dumps(plain(analysis.parameters)))
        changed = db.execute(
            f"UPDATE atoms SET {', '.join(f'{name} = ?' for name in names)}, time = ? "
            "WHERE image_id = ?",
            (*state, stamp, image_id),
        )
        if changed.rowcount:
            return
    db.execute(
        f"INSERT OR REPLACE INTO atoms ({', '.join(STATE)}, time, image_id, model_id, parameters,"
        f" candidates, support) VALUES ({', '.join('?' * (len(STATE) + 6))})",
        (
            *values, stamp, image_id,
            "" if analysis is None else analysis.model_id,
            "{}" if analysis is None else json.dumps(plain(analysis.parameters)),
            None if analysis is None else pack_table(analysis.candidates),
            None if analysis is None else pack_mask(analysis.support),
        ),
    )  # fmt: skip


def last_marks(
    db: sqlite3.Connection, image_id: int, blind_annotator: str | None = None
) -> dict[int, Mark]:
    """Return the last mark of each atom of an image."""
    condition, values = "NOT blind AND source IS NULL", (image_id,)
    if blind_annotator is not None:
        condition = "blind AND annotator = ?"
        values = (image_id, blind_annotator)  # type: ignore[assignment]
    rows = db.execute(
        "SELECT atom_id, what, y_px, x_px, uncertain, frame, intensity, amplitude, background, "
        f"sigma_nm FROM marks WHERE image_id = ? AND {condition} ORDER BY mark_id",
        values,
    )
    found: dict[int, Mark] = {}
    for atom_id, what, y_px, x_px, uncertain, frame, *measured in rows:
        if what == WITHDRAWN:
            found.pop(atom_id, None)
            continue
        numbers = [n if n is None else as_number(n) for n in (y_px, x_px, *measured)]
        y, x = numbers[:2]
        if y is None or x is None or not (isinstance(atom_id, int) and isinstance(frame, int)):
            continue  # damaged; it stays in the log
        found[atom_id] = Mark(y, x, what == ATOM, bool(uncertain), frame, *numbers[2:])
    return found


def log_of_marks(db: sqlite3.Connection, index: ImageIndex) -> pd.DataFrame:
    """Return the log of marks but those of removed images, oldest first, with names of images."""
    log = index.named(pd.read_sql_query("SELECT * FROM marks ORDER BY mark_id", db))
    log = coerce_numbers(log, ("atom_id", "frame"), whole=True)
    log = coerce_numbers(log, ("y_px", "x_px", "y_nm", "x_nm", *_MEASURED))
    log = coerce_texts(log, ("time", "annotator", "what"))
    log["merged"] = log.pop("source").notna()
    for name in ("uncertain", "blind"):
        log[name] = log[name].astype(bool)
    return log


def blind_annotations(
    db: sqlite3.Connection, index: ImageIndex
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the blind marks of all annotators."""
    log = log_of_marks(db, index)
    own = log[log["blind"]].drop_duplicates(["image", "annotator", "atom_id"], keep="last")
    columns = ["image", "annotator", "frame", "y_px", "x_px", "y_nm", "x_nm", "uncertain"]
    own = own[own["what"] == ATOM]
    marks = own[columns].reset_index(drop=True)
    looked = index.named(pd.read_sql_query("SELECT image_id, annotator FROM looked", db))
    looked = pd.concat([looked, own[["image", "annotator"]]], ignore_index=True)
    return marks, looked.drop_duplicates().reset_index(drop=True)


def take_in(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    annotator: str,
    marks: pd.DataFrame,  # columns y_px, x_px, y_nm, x_nm, uncertain and, for stacks, frame
    source: str,  # address of the marks; with the number of the row it is the address of an entry
    next_id: int,  # the first free atom id
) -> int:
    """Add blind marks that were made elsewhere; adding them twice adds nothing."""
    stamp = now()
    frames = marks["frame"] if "frame" in marks.columns else np.zeros(len(marks), int)
    rows = zip(
        frames, *(marks[name] for name in ("y_px", "x_px", "y_nm", "x_nm", "uncertain")),
        strict=True,
    )  # fmt: skip
    entries = [
        (
            stamp, annotator, image_id, next_id + i, int(frame), float(y), float(x), float(y_nm),
            float(x_nm), ATOM, bool(uncertain), True, f"{source}:{i}",
        )
        for i, (frame, y, x, y_nm, x_nm, uncertain) in enumerate(rows)
    ]  # fmt: skip
    before = db.total_changes
    db.executemany(
        "INSERT OR IGNORE INTO marks (time, annotator, image_id, atom_id, frame, y_px, x_px, y_nm,"
        " x_nm, what, uncertain, blind, source) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        entries,
    )
    added = db.total_changes - before
    mark_as_viewed(db, [image_id], annotator)
    return added


def _read_pixel_size(db: sqlite3.Connection, image_id: int) -> float:
    """Return the pixel size of an image in nm; 0 if it is not known."""
    query = "SELECT pixel_size_nm FROM images WHERE image_id = ?"
    return as_number(db.execute(query, (image_id,)).fetchone()[0]) or 0.0


def free_id(db: sqlite3.Connection, image_id: int) -> int:
    """Return the first id that no atom of an image ever had."""
    last = db.execute(
        "SELECT max((SELECT coalesce(max(atom_id), 0) FROM marks WHERE image_id = :i AND "
        "typeof(atom_id) = 'integer' AND atom_id < :max), "
        "(SELECT coalesce(max(next_id), 1) - 1 FROM atoms WHERE image_id = :i AND "
        "typeof(next_id) = 'integer' AND next_id < :max))",
        {"i": image_id, "max": MAX_NUMBER},
    ).fetchone()[0]
    return int(last) + 1


def marks_by_source(db: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Return the log by an address that an entry keeps in every project it is merged into.

    Entries of a merge that was taken back are left out.
    """
    own = db.execute("SELECT uuid FROM identity").fetchone()[0]
    cursor = db.execute("SELECT * FROM marks ORDER BY mark_id")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    # Copies of a project share its uuid, and go on counting from the same number.
    what = ("mark_id", "time", "annotator", "atom_id", "what", "y_px", "x_px")

    def address_here(row: dict[str, Any]) -> str:
        return "/".join([own, "mark", *(str(row[name]) for name in what)])

    return entries_by_address(db, "marks", rows, address_here)


def _count_marked(rows: Iterable[Mapping[str, Any]]) -> Counter[tuple[int, str]]:
    """Count the atoms marked blind by image and annotator; of each, the last entry counts."""
    keys = ("image_id", "annotator", "atom_id")
    last = {tuple(row[key] for key in keys): row["what"] for row in rows if row["blind"]}
    return Counter((image, who) for (image, who, _), what in last.items() if what == ATOM)


def merge_marks(
    db: sqlite3.Connection,
    theirs: sqlite3.Connection,
    same: Mapping[int, int],  # id there → id here, of images that both have
    listed: Collection[int],  # ids of all images there but those that were removed
) -> tuple[int, int, tuple[str, ...]]:
    """Merge the blind marks of another project; merging twice adds nothing.

    Returns the numbers of marked atoms that came and that are in images that are not here, and the
    annotators.
    """
    known, there = marks_by_source(db), marks_by_source(theirs)
    new = {s: row for s, row in there.items() if row["blind"] and s not in known}
    # An atom of which an entry is here already, because it is older than the copy or came with
    # the merge before, is that atom still.
    ours = {(image_id, NO_ATOM): NO_ATOM for image_id in same} | {
        (row["image_id"], row["atom_id"]): known[source]["atom_id"]
        for source, row in there.items()
        if source in known
    }
    free: dict[int, int] = {}
    n_rows = rows_by_address(db, "marks")
    brought = [(source, row) for source, row in new.items() if row["image_id"] in same]
    for source, row in brought:
        image_id, key = same[row["image_id"]], (row["image_id"], row["atom_id"])
        if key not in ours:
            ours[key] = free.get(image_id) or free_id(db, image_id)
            free[image_id] = ours[key] + 1
        entry = {**row, "image_id": image_id, "atom_id": ours[key]}
        entry["source"] = next_source(source, n_rows[source])
        del entry["mark_id"]
        db.execute(
            f"INSERT INTO marks ({', '.join(entry)}) VALUES ({', '.join('?' * len(entry))})",
            tuple(entry.values()),
        )
    _merge_reviews(db, theirs, same, _count_marked(there.values()))
    who = tuple(dict.fromkeys(row["annotator"] for _, row in brought))
    lost = [r for r in new.values() if r["image_id"] in listed and r["image_id"] not in same]
    n_new, n_lost = (_count_marked(rows).total() for rows in ([r for _, r in brought], lost))
    return n_new, n_lost, who


def _merge_reviews(
    db: sqlite3.Connection,
    theirs: sqlite3.Connection,
    same: Mapping[int, int],
    marked_there: Counter[tuple[int, str]],
) -> None:
    """Merge which images were reviewed, after the marks; what was said later counts."""
    log = list(marks_by_source(db).values())
    marked_here = _count_marked(log)
    withdrawn: dict[tuple[int, str], str] = {}
    for row in log:
        if row["blind"] and row["atom_id"] == NO_ATOM:
            key = row["image_id"], row["annotator"]
            withdrawn[key] = max(withdrawn.get(key, ""), as_text(row["time"]))
    db.executemany(
        "DELETE FROM looked WHERE image_id = ? AND annotator = ? AND time < ?",
        [(*key, time) for key, time in withdrawn.items()],
    )
    for their_id, annotator, time in theirs.execute("SELECT image_id, annotator, time FROM looked"):
        key = same.get(their_id, -1), annotator
        # Where all marks of the annotator were removed here, the review would say "no atoms".
        removed = marked_there[their_id, annotator] and not marked_here[key]
        if their_id in same and not removed and as_text(time) > withdrawn.get(key, ""):
            mark_as_viewed(db, key[:1], annotator, time=as_text(time))


def log_not_viewed(db: sqlite3.Connection, image_ids: Iterable[int], annotator: str) -> None:
    """Log that images that an annotator has viewed are not viewed, for later merges."""
    db.executemany(
        "INSERT INTO marks (time, annotator, image_id, atom_id, frame, y_px, x_px, y_nm, x_nm, "
        "what, uncertain, blind) SELECT ?, annotator, image_id, ?, 0, 0, 0, 0, 0, ?, 0, 1 "
        "FROM looked WHERE image_id = ? AND annotator = ?",
        [(now(), NO_ATOM, WITHDRAWN, i, annotator) for i in image_ids],
    )


def mark_as_viewed(
    db: sqlite3.Connection,
    image_ids: Iterable[int],
    annotator: str,
    looked: bool = True,
    time: str | None = None,  # of the review; None: now
) -> None:
    """Store that an annotator has viewed images completely: what is not marked is no atom."""
    if not looked:
        db.executemany(
            "DELETE FROM looked WHERE image_id = ? AND annotator = ?",
            [(i, annotator) for i in image_ids],
        )
        return
    db.executemany(
        "INSERT OR IGNORE INTO looked (image_id, annotator, time) VALUES (?, ?, ?)",
        [(i, annotator, now() if time is None else time) for i in image_ids],
    )


class AtomRecords:
    """Atoms, marks and annotations of a project file."""

    def __init__(self, file: ProjectConnection, images: ImageIndex) -> None:
        self._file = file
        self._images = images

    def record(
        self,
        edit: RecordableEdit,
        before: ImageAtoms | None,
        after: ImageAtoms | None,
        *,
        blind: bool = False,
    ) -> None:
        """Write an edit of the atoms of an image; it is on disk when this returns.

        Raises `AtomicityError` if it can't be written: the file is as it was before.
        """
        with self._file.writing() as db:
            write_atoms(db, self._images.ids[edit.image], before, after, edit.author, blind)
        if after is not None and after.analysis is not None:
            self._images.set_damage(edit.image, "atoms", "")

    def marks(self) -> pd.DataFrame:
        """Return the append-only log of marks but those of removed images, oldest first."""
        with self._file.reading() as db:
            return log_of_marks(db, self._images)

    def blind_marks(self, annotator: str) -> dict[str, ImageAtoms]:
        """Return the blind marks of one annotator, by image."""
        with self._file.reading() as db:
            found = {n: last_marks(db, i, annotator) for n, i in self._images.ids.items()}
            stored = dict(db.execute("SELECT image_id, pixel_size_nm FROM images"))
        sizes = {name: as_number(stored.get(i)) for name, i in self._images.ids.items()}
        return {
            name: ImageAtoms(name, size, marks=marks)
            for name, marks in found.items()
            if marks and (size := sizes[name])
        }

    def annotations(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the blind marks of all annotators, made here or elsewhere; see `consensus`."""
        with self._file.reading() as db:
            return blind_annotations(db, self._images)

    def count_marks(self, image: str, annotator: str) -> int | None:
        """Return how many atoms an annotator has marked blind; None if the image isn't reviewed."""
        marks, viewed = (
            int(((table["image"] == image) & (table["annotator"] == annotator)).sum())
            for table in self.annotations()
        )
        return marks if viewed else None

    def images_viewed_by(self, annotator: str) -> set[str]:
        """Return the images that an annotator has set as viewed, without reading the marks."""
        query = "SELECT image_id FROM looked WHERE annotator = ?"
        with self._file.reading() as db:
            viewed = {image_id for (image_id,) in db.execute(query, (annotator,))}
        return {name for name, image_id in self._images.ids.items() if image_id in viewed}

    def add_marks(self, image: str, annotator: str, marks: pd.DataFrame, source: str) -> int:
        """Add marks that were made elsewhere; marks that are stored already are not added again."""
        with self._file.writing() as db:
            image_id = self._images.ids[image]
            return take_in(db, image_id, annotator, marks, source, free_id(db, image_id))

    def withdraw_marks(self, image: str, annotator: str, source: str) -> None:
        """Withdraw the blind marks of an annotator in an image for what came from elsewhere."""
        with self._file.writing() as db:
            image_id = self._images.ids[image]
            marks = last_marks(db, image_id, annotator)
            size_nm, used = _read_pixel_size(db, image_id), rows_by_address(db, "marks", source)
            free = (f"{source}/without {n}" for n in count())
            start = next(s for s in free if not any(a.startswith(f"{s}:") for a in used))
            stamp = now()
            entries = {i: _entry(i, None, mark, size_nm) for i, mark in marks.items()}
            rows = [
                (stamp, annotator, image_id, *e, True, f"{start}:{i}") for i, e in entries.items()
            ]
            _write_marks(db, rows)

    def set_annotation(self, image: str, annotator: str, marks: Mapping[int, Mark] | None) -> None:
        """Set the blind marks of an annotator in an image; what was there stays in the log."""
        with self._file.writing() as db:
            image_id = self._images.ids[image]
            size_nm = _read_pixel_size(db, image_id)
            before = ImageAtoms(image, size_nm, marks=last_marks(db, image_id, annotator))
            after = ImageAtoms(image, size_nm, marks=marks or {})
            write_atoms(db, image_id, before, after, annotator, blind=True)
            mark_as_viewed(db, [image_id], annotator, marks is not None)

    def marks_of(self, annotator: str) -> dict[str, dict[int, Mark]]:
        """Return the blind marks of an annotator in all images that he or she has viewed."""
        _, viewed = self.annotations()
        images = viewed.loc[viewed["annotator"] == annotator, "image"]
        with self._file.reading() as db:
            return {name: last_marks(db, self._images.ids[name], annotator) for name in images}

    def free_ids(self) -> dict[str, int]:
        """Return for each image an atom id that was never used, by any annotator."""
        with self._file.reading() as db:
            return {name: free_id(db, image_id) for name, image_id in self._images.ids.items()}

    def mark_as_viewed(self, images: Iterable[str], annotator: str, viewed: bool = True) -> None:
        """Store that an annotator has viewed images completely: what is not marked is no atom."""
        with self._file.writing() as db:
            ids = [self._images.ids[image] for image in images]
            if not viewed:
                log_not_viewed(db, ids, annotator)
            mark_as_viewed(db, ids, annotator, viewed)
