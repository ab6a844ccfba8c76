"""What a merge has added to a project: take it back, and add it again."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..core.acquisition_session import SessionEntry
from ..io.provenance import now
from .atoms import WITHDRAWN, mark_as_viewed
from .connection import ProjectConnection
from .contents import MergedEntries, StoredEntry, address_of, holds, next_source, settle
from .images import ImageIndex, session_rows, write_entry
from .rows import LABEL, UNDOES

Row = dict[str, Any]


_LOGS = {"corrections": "correction_id", "marks": "mark_id"}
"""Log → its key."""


class Additions:
    """Finds what is added to a project after this was made, in the same transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._last = {
            log: db.execute(f"SELECT coalesce(max({key}), 0) FROM {log}").fetchone()[0]
            for log, key in _LOGS.items()
        }
        self._labels, self._viewed, self._entries = self._state()

    def _state(self) -> tuple[dict[Any, str], dict[tuple[int, str], str], dict[int, StoredEntry]]:
        labels = self._db.execute(
            "SELECT image_id, cluster_id, label_corrected FROM clusters WHERE label_corrected != ''"
        )
        looked = self._db.execute("SELECT image_id, annotator, time FROM looked")
        viewed = {(i, annotator): time for i, annotator, time in looked}
        return {(i, c): said for i, c, said in labels}, viewed, session_rows(self._db)

    def find(self, ids: Mapping[str, int]) -> dict[str, MergedEntries]:
        """Return what was added to each of these images, if anything was."""
        found: dict[int, dict[str, Any]] = defaultdict(dict)
        for log, key in _LOGS.items():
            query = f"SELECT image_id, {key} FROM {log} WHERE {key} > ? ORDER BY {key}"
            for image_id, row in self._db.execute(query, (self._last[log],)):
                found[image_id].setdefault(log, []).append(row)
        labels, viewed, entries = self._state()
        for what, one, other in (
            ("viewers", viewed, self._viewed),
            ("withdrawn", self._viewed, viewed),
        ):
            for (image_id, annotator), time in one.items():
                if (image_id, annotator) not in other:
                    found[image_id].setdefault(what, {})[annotator] = time
        for key in labels.keys() | self._labels.keys():
            both = self._labels.get(key, ""), labels.get(key, "")
            if both[0] != both[1]:
                found[key[0]].setdefault("labels", {})[key[1]] = both
        for image_id, entry in entries.items():
            before = self._entries.get(image_id, (SessionEntry(), "", ""))
            if entry != before:
                found[image_id]["session"] = before, entry
        return {name: MergedEntries(**found[i]) for name, i in ids.items() if i in found}


class MergedRecords:
    """What others have said, as far as a project file has it: take it back, or add it again."""

    def __init__(self, file: ProjectConnection, images: ImageIndex) -> None:
        self._file = file
        self._images = images

    @contextmanager
    def additions(self) -> Iterator[Callable[[], dict[str, MergedEntries]]]:
        """Write a ``with`` block in one transaction; give a function that finds what it has added.

        The function is called at the end of the block, and returns the additions by image.
        """
        with self._file.together(), self._file.writing() as db:
            added = Additions(db)
            yield lambda: added.find(self._images.ids)

    def set_there(self, image: str, entries: MergedEntries, there: bool) -> None:
        """Take back what was added to an image, or add it again (`there`)."""
        with self._file.writing() as db:
            _set_merged(db, self._images.ids[image], entries, there)


def _set_merged(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    entries: MergedEntries,
    there: bool,  # whether the entries hold afterwards; those that do already are not added again
) -> None:
    """Add what was merged to both logs again, or take it back: the logs only grow."""
    _write(db, image_id, "corrections", entries.corrections, there, _Undone)
    _write(db, image_id, "marks", entries.marks, there, _Unmarked)
    for annotator, time in entries.viewers.items():
        mark_as_viewed(db, [image_id], annotator, there, time)
    for annotator, reviewed in entries.withdrawn.items():
        mark_as_viewed(db, [image_id], annotator, not there, reviewed)
    for cluster_id in entries.labels:
        settle(db, image_id, cluster_id)
    if entries.session is not None:
        write_entry(db, image_id, *entries.session[there])


def _write(
    db: sqlite3.Connection,
    image_id: int,
    log: str,
    wanted: Sequence[int],
    there: bool,
    undoing: Callable[[Sequence[Row]], Callable[[Row], Row]],
) -> None:
    if not wanted:
        return
    key, of_merge = _LOGS[log], set(wanted)
    cursor = db.execute(f"SELECT * FROM {log} WHERE image_id = ? ORDER BY {key}", (image_id,))
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    by_address: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["source"]:  # rows of this project are never taken back here
            by_address[address_of(row["source"])].append(row)
    merged = [row for row in rows if row[key] in of_merge and row["source"]]
    undone = undoing(rows)
    for row in merged if there else reversed(merged):
        address = address_of(row["source"])
        own = by_address[address]
        if holds(len(own)) == there:
            continue
        new = row if there else {**own[-1], **undone(own[-1])}
        new = {**new, "source": next_source(address, len(own))}
        del new[key]
        db.execute(
            f"INSERT INTO {log} ({', '.join(new)}) VALUES ({', '.join('?' * len(new))})",
            tuple(new.values()),
        )


class _Undone:
    """Rows that undo corrections, the last one first; a label becomes the author's one before."""

    def __init__(self, log: Sequence[Row]) -> None:
        self._time = now()
        self._gone = {row["undoes"] for row in log}
        self._said: dict[Any, list[Row]] = defaultdict(list)
        for row in log:
            if row["what"] == LABEL and row["undoes"] is None:
                self._said[row["annotator"], row["cluster_id"]].append(row)

    def __call__(self, row: Row) -> Row:
        self._gone.add(row["correction_id"])
        said = reversed(self._said[row["annotator"], row["cluster_id"]])
        label = next((r["label"] for r in said if r["correction_id"] not in self._gone), "")
        return {
            "time": self._time,
            "what": UNDOES.get(row["what"], row["what"]),
            "label": label if row["what"] == LABEL else "",
            "undoes": row["correction_id"],
        }


class _Unmarked:
    """Rows that undo marks, the last one first: what the author said of the atom before."""

    def __init__(self, log: Sequence[Row]) -> None:
        self._time = now()
        self._said: dict[Any, list[Row]] = defaultdict(list)
        for row in log:
            self._said[row["annotator"], row["atom_id"]].append(row)

    def __call__(self, row: Row) -> Row:
        said = reversed(self._said[row["annotator"], row["atom_id"]])
        gone = {**row, "what": WITHDRAWN}
        before = next((r for r in said if r["mark_id"] < row["mark_id"]), gone)
        return {n: v for n, v in before.items() if n != "source"} | {"time": self._time}
