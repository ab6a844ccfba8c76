"""The SQLite file of a project: its lock, a connection for each thread, transactions, copies."""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import platform
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import cache, partial
from pathlib import Path

import pandas as pd

from ..core.errors import AtomicityError, ReadError, WriteError, reason_of
from ..io.files import regular_file
from ..io.writer_lock import WriterLock, lease_path
from .schema import APPLICATION_ID, OLDEST, SCHEMA, create_tables, tables_since

# ---- check that a SQLite file has the tables of a project and nothing else

# Made by SQLite itself, by ANALYZE, and by `.recover` for rows that belong to no table.
_OTHER_TABLES = ("sqlite_sequence", "sqlite_stat1", "sqlite_stat4", "lost_and_found")


def harden(db: sqlite3.Connection) -> None:
    """Set a connection so that the schema of the file can run no function and write nothing."""
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    if hasattr(db, "setconfig"):  # Python 3.12
        db.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)  # type: ignore[attr-defined]


def check_schema(db: sqlite3.Connection, path: Path) -> bool:
    """Compare a file with what this program writes; return whether it has tables, False if empty.

    Raises `ReadError` if the file is another database, of another version, or has other tables than
    a project.
    """
    mark = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    found = _entries(db)
    if not (mark or version or found):
        return False
    if mark != APPLICATION_ID:
        raise ReadError("this is a database, but no project of napari-atomicity", path)
    if version > SCHEMA:
        raise ReadError(
            f"this project was made by a newer version of napari-atomicity (schema {version}; "
            f"this version supports up to {SCHEMA})",
            path,
            "Install the newer version; nothing was changed",
        )
    if 0 < version < OLDEST:
        raise ReadError(
            "this project was written by a development version of napari-atomicity (schema "
            f"{version}; this version reads {OLDEST} to {SCHEMA})",
            path,
            "Analyse the images again in a new project; nothing was changed",
        )
    lacks = {("table", table) for table in tables_since(version)}
    expected = {key: text for key, text in _expected().items() if key not in lacks}
    wrong = [key for key in (*expected, *found) if found.get(key) != expected.get(key)]
    if wrong or version < OLDEST:
        kind, name = wrong[0] if wrong else ("version", str(version))
        raise ReadError(
            f"this is no valid project: its {kind} {name[:60]!r} is not as napari-atomicity "
            "writes it",
            path,
            "Another program changed the file, or it is damaged. Get the original from its author; "
            "nothing was changed",
        )
    return True


@cache
def _expected() -> dict[tuple[str, str], str]:
    """Return the entries of a new file."""
    with closing(sqlite3.connect(":memory:")) as db:
        create_tables(db)
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


# ---- what is done to a project file before SQLite opens it: checks, its holder, and copies
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


# ---- whether a path still leads to the file that was opened there

_ELSEWHERE = "everything in another file: ⋯ ▸ Save as project"


class FileIdentity:
    """Identity of an open SQLite file and of its write-ahead log.

    A file that is deleted or replaced while it is open can still be written to, but what is
    written is lost when it is closed. Changes in a deleted log are lost if the process is killed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = Path(f"{path}-wal")
        self._file = _id_of(path)
        self._log_file = _id_of(self._log) if self._log.exists() else None
        self._replaced = False

    def check(self) -> None:
        """Check that the paths lead to the open file and to its log.

        Raises `AtomicityError` if the file or its log was moved, deleted, or replaced by another
        one.
        """
        try:
            there = None if self._replaced else _id_of(self._path)
        except OSError:
            raise AtomicityError(
                "the project file was moved or deleted while it was open",
                self._path,
                f"Put it back, or save {_ELSEWHERE}",
            ) from None
        if there != self._file:
            self._detach()
            raise AtomicityError(
                "the project file was replaced by another file while it was open",
                self._path,
                f"Save {_ELSEWHERE}",
            )
        if self._log_file is not None and not self._log_is_there():
            raise AtomicityError(
                f"the log ({self._log.name}) of the project file was deleted or replaced while it "
                "was open",
                self._path,
                f"Save {_ELSEWHERE}",
            )

    def _log_is_there(self) -> bool:
        try:
            return _id_of(self._log) == self._log_file
        except OSError:
            return False

    def _detach(self) -> None:
        """Remove the log of the open file: SQLite would write it into the file that is there now.

        The open file and its log can still be read. The path can't lead to it any more.
        """
        if not self._replaced and self._log_is_there():
            with contextlib.suppress(OSError):
                self._log.unlink()
                Path(f"{self._path}-shm").unlink()
        self._replaced = True


def _id_of(path: Path) -> tuple[int, int]:
    """Return device and number of a file; where files have no number, when it was made."""
    found = path.stat()
    if not found.st_ino:
        made = found.st_ctime_ns if os.name == "nt" else 0  # elsewhere ctime is another time
        return found.st_dev, int(getattr(found, "st_birthtime_ns", made))
    return found.st_dev, found.st_ino


SUFFIX = ".atomicity"
# Seconds that closing waits for a thread that reads, before the query is interrupted.
_CLOSE_TIMEOUT_S = 0.2
_BUSY_TIMEOUT_S = 10.0
# Pages of the write-ahead log (64 MB) before the window's own thread checkpoints it.
_WINDOW_CHECKPOINT_PAGES = 16_000
# The window must not freeze while another program locks the file: it tries again later.
_BUSY_TIMEOUT_IN_WINDOW_S = 0.3
# Bytes that are no UTF-8 become a sign for that; Python would not read the whole row.
_TEXT = partial(str, encoding="utf-8", errors="replace")


class ProjectConnection:
    """Connections to the SQLite file of a project.

    Raises `WriteError` if the file can't be created. Raises `AtomicityError` if the file can't be
    opened. Raises `ReadError` if the file is not a project, is damaged, or was written by another
    version.
    """

    def __init__(self, path: Path, read_only: bool, draft: bool = False) -> None:
        self.path = path
        self._draft = tempfile.TemporaryDirectory(prefix="atomicity-") if draft else None
        self._place = Path(self._draft.name) / path.name if self._draft else path
        self.holder = ""
        self.finish_first: Callable[[], None] | None = None
        self._local = threading.local()
        self._connections: list[tuple[sqlite3.Connection, threading.RLock]] = []
        self._guard = threading.Lock()
        self._identity: FileIdentity | None = None
        self.closed = False
        check_files(path)
        if read_only and not path.exists():
            raise ReadError("the project file does not exist", path)
        self._lock = WriterLock(Path(f"{path}.lock"))
        self.read_only = read_only or not (draft or self._acquire_lock())
        try:
            if self._check_content():
                with self.reading() as db:  # opens the file
                    db.execute("SELECT count(*) FROM sqlite_master")
            else:
                with self.writing(in_draft=True) as db:
                    create_tables(db)
            self._identity = FileIdentity(self._place)
        except BaseException:
            self.close()
            raise

    # ---- opening
    def _acquire_lock(self) -> bool:
        """Lock the file for this window; return whether that succeeded."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check_permission()
            if not self._lock.acquire():
                with contextlib.suppress(OSError, ValueError):
                    self.holder = Path(f"{self.path}.window").read_text("utf-8").strip()
                return False
        except OSError as error:
            if self.path.exists():  # on a read-only medium
                return False
            raise WriteError(
                f"the project file can't be created here ({error.strerror or error})",
                self.path,
                "Choose another folder for the project",
            ) from error
        with contextlib.suppress(OSError):
            Path(f"{self.path}.window").write_text(describe_holder(), "utf-8")
        return True

    def _check_permission(self) -> None:
        """Raise `PermissionError` unless the user may write to the file and to its folder.

        The lock of a file that may not be written could be acquired: its file is left there.
        """
        for path in (self.path.parent, self.path):
            if path.exists() and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def _check_content(self) -> bool:
        """Return whether the file has tables, False if it is new; the file is not changed.

        Raises `ReadError` if it is not a project, or holds what a project does not.
        """
        if not self.path.exists():
            return False
        if not self.path.is_file():  # a folder, or a device or pipe, which would never be read
            raise ReadError("this is no project file", self.path)
        try:
            with self.path.open("rb") as file:
                start = file.read(16)
        except OSError as error:
            raise ReadError(f"could not be read ({error.strerror or error})", self.path) from error
        if not start:
            return False
        if start != b"SQLite format 3\x00":
            raise ReadError("this is no project file", self.path)
        # Without a log the file is read alone: SQLite would leave an empty log.
        logs = [end for end in ("-wal", "-journal") if Path(f"{self.path}{end}").exists()]
        address = f"{self.path.as_uri()}?mode=ro{'' if logs else '&immutable=1'}"
        try:
            db = sqlite3.connect(address, uri=True)
            with contextlib.closing(db):
                harden(db)
                return check_schema(db, self.path)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # messages quote damaged bytes
            raise self._database_error(error) from error

    def create_file(self) -> None:
        """Create the file of a draft, before the first change is written.

        Raises `AtomicityError` if it can't be created, or another window has created one; the draft
        remains.
        """
        if self._draft is None:
            return
        with self._guard, contextlib.ExitStack() as in_use:
            if self._draft is None:  # another thread has created it
                return
            for _, use in self._connections:
                in_use.enter_context(use)
            if not self._acquire_lock() or self.path.exists():
                self._release_lock()
                raise AtomicityError(
                    "another window has created a project in this folder",
                    self.path,
                    "Save your changes elsewhere: Browse, ⋯ ▸ Save as project",
                )
            try:
                copy_database(self._place, self.path)
            except BaseException:
                self._release_lock()
                raise
            for db, _ in self._connections:
                db.close()
            self._connections.clear()
            self._local = threading.local()
            self._identity = None
            folder, self._draft, self._place = self._draft, None, self.path
        self._connected()
        self._identity = FileIdentity(self.path)
        folder.cleanup()

    # ---- connections
    def connect(self) -> sqlite3.Connection:
        """Return the connection of the calling thread, for writing."""
        self.check_place()
        return self._connected()[0]

    def check_place(self) -> None:
        """Raise `AtomicityError` if the path does not lead to the open file any more.

        Also if another program has taken over the right to write.
        """
        if self._identity is not None and not self.read_only:
            self._identity.check()
            self._lock.check()

    def _connected(self) -> tuple[sqlite3.Connection, threading.RLock]:
        """Return the connection of the calling thread and the lock that protects its use."""
        local = self._local  # `close` replaces it
        known = getattr(local, "connected", None)
        if known is not None:
            return known
        if self.closed:
            raise self._closed_error()
        try:
            self.check_place()
            in_place = True
        except AtomicityError:
            in_place = False
        with self._guard:  # `create_file` replaces all connections, `close` closes them
            if self.closed:
                raise self._closed_error()
            if not in_place:  # a new connection would open another file
                return self._connections[0]
            local = self._local
            local.connected = self._new_connection(), threading.RLock()
            self._connections.append(local.connected)
        return local.connected

    def _new_connection(self) -> sqlite3.Connection:
        address = self._place.as_uri() + (f"?mode=ro{self._immutable}" if self.read_only else "")
        in_window = threading.current_thread() is threading.main_thread()
        try:
            db = sqlite3.connect(
                address,
                uri=True,
                timeout=_BUSY_TIMEOUT_IN_WINDOW_S if in_window else _BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            harden(db)
            db.text_factory = _TEXT
            if not self.read_only:
                db.execute("PRAGMA journal_mode = WAL")
                # Sync to the disk, not only to the system: a correction survives a power cut.
                db.execute("PRAGMA synchronous = FULL")
                if in_window:  # a commit waits for the disk once; other threads checkpoint
                    db.execute(f"PRAGMA wal_autocheckpoint = {_WINDOW_CHECKPOINT_PAGES}")
        except sqlite3.Error as error:
            raise self._database_error(error) from error
        return db

    @property
    def _immutable(self) -> str:
        """Option for a read-only medium, on which SQLite must not look for a journal."""
        journal = Path(f"{self.path}-wal")
        fixed = not journal.exists() and not os.access(self.path.parent, os.W_OK)
        return "&immutable=1" if fixed else ""

    def _closed_error(self) -> AtomicityError:
        return AtomicityError("the project was closed", self.path)

    def _database_error(self, error: Exception) -> AtomicityError:
        """Return an error that says what happened and what to do."""
        if self.closed:  # `close` interrupts long queries
            return self._closed_error()
        message = str(error)
        damaged = ("malformed", "not a database", "corrupt")
        if isinstance(error, UnicodeDecodeError) or any(word in message for word in damaged):
            return ReadError(
                f"the project is damaged ({message})",
                self.path,
                "Use the last backup, or try sqlite3's .recover on a copy",
            )
        return AtomicityError(
            f"the project can't be read or written now ({message})",
            self.path,
            "Check that the disk has space and that the folder can be written to",
        )

    # ---- transactions
    @contextlib.contextmanager
    def _in_use(self) -> Iterator[sqlite3.Connection]:
        """Protect the connection from being closed while it is used: Python would crash."""
        while True:
            db, use = self._connected()
            with use:
                if self.closed:
                    raise self._closed_error()
                if (db, use) in self._connections:  # else `create_file` has closed it
                    yield db
                    return

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection for queries; errors of SQLite become `AtomicityError`."""
        try:
            with self._in_use() as db:
                yield db
        except (sqlite3.Error, pd.errors.DatabaseError, UnicodeDecodeError) as error:
            raise self._database_error(error) from error

    @contextlib.contextmanager
    def writing(self, in_draft: bool = False) -> Iterator[sqlite3.Connection]:
        """Give a connection in one transaction: all of it is written or nothing."""
        if self.read_only:
            raise AtomicityError(
                "this project is read-only: it is open in another window, or may not be written",
                self.path,
            )
        if not in_draft:
            self.create_file()
        if getattr(self._local, "together", False) and self.finish_first is not None:
            self.finish_first()  # this write is not part of the step under way
        with self._in_use() as db:
            if getattr(self._local, "together", False):
                yield db
                return
            try:
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    self.check_place()  # what is written into a deleted file is lost
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                raise self._database_error(error) from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write all of this block in one transaction, with one wait for the disk.

        Raises `AtomicityError` if it can't be written: then none of it is.
        """
        if self.read_only:
            yield
            return
        with self.writing():
            self._local.together = True
            try:
                yield
            finally:
                self._local.together = False

    def copy(self, path: str | os.PathLike[str]) -> Path:
        """Write all that the project holds now into another file; its folder is made if missing.

        Raises `AtomicityError` if the file exists already, or can't be written.
        """
        path = Path(path)
        if path.exists():
            raise AtomicityError("there is such a file already", path, "Choose another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            other = sqlite3.connect(path)
            with contextlib.closing(other), self.reading() as db:
                db.backup(other)
        except (sqlite3.Error, OSError) as error:
            with contextlib.suppress(OSError):
                path.unlink()
            raise AtomicityError(
                f"the copy could not be written ({reason_of(error)})",
                path,
                f"Check that the folder {path.parent} exists, is writable and has free space",
            ) from error
        return path

    # ---- closing
    def close(self) -> None:
        """Close all connections, leave no log beside the file, and release the lock."""
        if self.closed:
            return
        self.closed = True
        with self._guard:
            for db, use in self._connections:
                if not use.acquire(timeout=_CLOSE_TIMEOUT_S):
                    db.interrupt()  # a thread runs a long query
                    use.acquire()
                with use, contextlib.suppress(sqlite3.Error):
                    db.close()
                use.release()
            self._connections.clear()
        self._local = threading.local()
        self._remove_logs()
        self._release_lock()
        if self._draft is not None:
            self._draft.cleanup()

    def _remove_logs(self) -> None:
        """Let SQLite take in and remove its logs, which a connection that only reads leaves behind.

        It does so only if no other program has the file open. Logs of a window that writes, also of
        one that was killed, stay as they are: the lease of its lock is there.
        """
        writable = all(os.access(path, os.W_OK) for path in (self.path, self.path.parent))
        log, lease = Path(f"{self.path}-wal"), lease_path(f"{self.path}.lock")
        if not (self.read_only and writable and log.exists()) or lease.exists():
            return
        if self._identity is None:  # it was not opened
            return
        with contextlib.suppress(sqlite3.Error, AtomicityError, OSError):
            self._identity.check()
            with contextlib.closing(sqlite3.connect(self.path, timeout=0)) as db:
                harden(db)
                db.execute("SELECT count(*) FROM sqlite_master")  # opens the log

    def _release_lock(self) -> None:
        if self._lock.held:
            with contextlib.suppress(OSError):
                Path(f"{self.path}.window").unlink()
            self._lock.release()
