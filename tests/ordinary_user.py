"""Run a part of a test as an ordinary user: the administrator may write everywhere."""

from __future__ import annotations

import encodings.cp437  # noqa: F401  (of zip files; an ordinary user may not read it later)
import os
import pwd
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_TIMEOUT_S = 300
_NOT_READABLE = 77


@contextmanager
def folder_of_ordinary_user() -> Iterator[Path]:
    """Make a folder that an ordinary user can reach, in contrast to those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="atomicity-"))
    try:
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)


def as_ordinary_user(part: Callable[..., None], *arguments: object) -> None:
    """Call a function in a child process without the administrator's rights.

    Parameters
    ----------
    part : callable
        The function. Its errors are those of the test.
    *arguments : object
        Its arguments. Folders among them belong to the ordinary user.

    Raises
    ------
    AssertionError
        If the function has raised an error.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            signal.alarm(_TIMEOUT_S)
            _drop_rights([path for path in arguments if isinstance(path, Path)])
            if os.access(__file__, os.R_OK):
                part(*arguments)
                status = 0
            else:  # modules can't be imported any more
                status = _NOT_READABLE
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        error = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == _NOT_READABLE:
        pytest.skip("an ordinary user can't read the tests")
    assert status == 0, error or f"the child process has ended with {status}"


def _drop_rights(folders: list[Path]) -> None:
    """Become the user nobody, to whom these folders then belong."""
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam("nobody")
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = tempfile.gettempdir()
