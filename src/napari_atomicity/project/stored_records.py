"""Settings and runs of a project."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from typing import Any

from ..core.errors import ReadError
from ..io.files import plain
from ..io.provenance import now
from .damage import as_text, damage_as_error, read_json

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
