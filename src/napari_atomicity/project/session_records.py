"""What people entered of the acquisition sessions of a project's images."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict

from ..core.acquisition_session import EarlierScale, SessionEntry
from ..core.errors import ReadError
from ..io.provenance import now
from .damage import as_number, as_text, damage_as_error, read_json

logger = logging.getLogger(__name__)


def read_entries(db: sqlite3.Connection) -> dict[int, SessionEntry]:
    """Return image id → entry, of images that have one.

    A file of an older version that is read without an upgrade has none. Damaged entries are left
    out with a warning.
    """
    return {image_id: entry for image_id, (entry, *_) in _rows(db).items()}


def write_entry(
    db: sqlite3.Connection, image_id: int, entry: SessionEntry, annotator: str, time: str = ""
) -> None:
    """Replace the entry of an image; an empty one removes it."""
    if not entry:
        db.execute("DELETE FROM image_sessions WHERE image_id = ?", (image_id,))
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


def merge_entries(
    db: sqlite3.Connection, theirs: sqlite3.Connection, same: Mapping[int, int]
) -> None:
    """Add the entries of another project where this one has none."""
    ours, others = _rows(db), _rows(theirs)
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
        )
        if merged != own:
            write_entry(db, same[image_id], merged, annotator, time)


def _rows(db: sqlite3.Connection) -> dict[int, tuple[SessionEntry, str, str]]:
    columns = {name for _, name, *_ in db.execute("PRAGMA table_info(image_sessions)")}
    if not columns:
        return {}
    earlier = "earlier" if "earlier" in columns else "''"
    keep = "keep_known" if "keep_known" in columns else "0"
    error = "pixel_size_error" if "pixel_size_error" in columns else "NULL"
    rows = db.execute(
        f"SELECT image_id, session, known, {earlier}, {keep}, {error}, annotator, time "
        "FROM image_sessions"
    )
    found = {}
    for image_id, *values, annotator, time in rows:
        try:
            with damage_as_error(f"the acquisition session of image {image_id}"):
                entry = _entry(*values)
        except ReadError as error:
            logger.warning("%s", error)
        else:
            found[image_id] = entry, as_text(annotator), as_text(time)
    return found


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
