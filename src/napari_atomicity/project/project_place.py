"""What is done to a project file before SQLite opens it: checks, its holder, and copies."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import sqlite3
from datetime import datetime
from pathlib import Path

from ..core.errors import ReadError, WriteError, reason_of
from ..io.files import regular_file


def check_files(path: Path) -> None:
    """Check that a project and the files beside it can be opened without waiting.

    Raises `ReadError` if one is a named pipe, a device or a socket.
    """
    for end in ("", ".lock", ".lock.lease", ".window", "-wal", "-shm", "-journal"):
        file = Path(f"{path}{end}")
        try:
            regular_file(file)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ReadError(
                f"this is no project file ({error.strerror or error})", file, "Choose another file"
            ) from error


def describe_holder() -> str:
    """Describe this process for people who find the project open: who, where, since when."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no name for the user's number
        user = "an unknown user"
    since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{user} on {platform.node()} since {since}, process {os.getpid()}"


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite file with its write-ahead log; the target must not exist."""
    try:
        with (
            contextlib.closing(sqlite3.connect(source)) as db,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            copy.execute("PRAGMA synchronous = OFF")  # one wait for the disk, at the end
            db.backup(copy)
        with target.open("rb+") as file:
            os.fsync(file.fileno())
    except (sqlite3.Error, OSError) as error:
        target.unlink(missing_ok=True)
        raise WriteError(
            f"the project file can't be created here ({reason_of(error)})",
            target,
            "Save your changes elsewhere: Browse, ⋯ ▸ Save as project",
        ) from error
