"""What was read from the file of an image, as a row of the table of images."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from ..core.micrograph import Micrograph
from ..io.files import plain


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
