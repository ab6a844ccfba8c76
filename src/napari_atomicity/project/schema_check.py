"""Check that a SQLite file has the tables of a project and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from ..core.errors import ReadError
from .schema import APPLICATION_ID, SCHEMA, STEPS

# Made by SQLite itself, by ANALYZE, and by `.recover` for rows that belong to no table.
_OTHER_TABLES = ("sqlite_sequence", "sqlite_stat1", "sqlite_stat4", "lost_and_found")


def harden(db: sqlite3.Connection) -> None:
    """Set a connection so that the schema of the file can run no function and write nothing."""
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    if hasattr(db, "setconfig"):  # Python 3.12
        db.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)  # type: ignore[attr-defined]


def check_schema(db: sqlite3.Connection, path: Path) -> int:
    """Compare a file with what this program writes.

    Raises `ReadError` if the file is another database, of a newer version, or has other tables than
    a project.
    """
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    found = _entries(db)
    if not (mark or version or found):
        return 0
    if mark != APPLICATION_ID:
        raise ReadError("this is a database, but no project of napari-atomicity", path)
    if version > SCHEMA:
        raise ReadError(
            f"this project was made by a newer version of napari-atomicity (schema {version}; "
            f"this version supports up to {SCHEMA})",
            path,
            "Install the newer version; nothing was changed",
        )
    expected = _expected(max(version, 0))
    wrong = [key for key in (*expected, *found) if found.get(key) != expected.get(key)]
    if wrong:
        kind, name = wrong[0]
        raise ReadError(
            f"this is no valid project: its {kind} {name[:60]!r} is not as napari-atomicity "
            "writes it",
            path,
            "Another program changed the file, or it is damaged. Get the original from its author; "
            "nothing was changed",
        )
    return version


@lru_cache
def _expected(version: int) -> dict[tuple[str, str], str]:
    """Return the entries of a file of some version of the schema."""
    with closing(sqlite3.connect(":memory:")) as db:
        for step in STEPS[:version]:
            step(db)
        return _entries(db)


def _entries(db: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Return (kind, name) → statement of all tables, indices, triggers and views."""
    rows = db.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {
        (kind, name): "".join(str(sql).split()).lower()
        for kind, name, sql in rows
        if not (kind == "table" and name.startswith(_OTHER_TABLES))
        and not (kind == "index" and name.startswith("sqlite_autoindex_") and sql is None)
    }
