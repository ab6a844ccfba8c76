"""Typed errors with what happened, the file concerned, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

_MAX_LENGTH = 4000
_MAX_NAME = 100


class AtomicityError(Exception):
    """An error that a user can solve.

    Parameters
    ----------
    what : str
        What happened, a sentence without a full stop.
    path : path-like, optional
        The file concerned.
    advice : str, optional
        What to do, a sentence without a full stop.
    """

    def __init__(
        self, what: str, path: str | PathLike[str] | None = None, advice: str | None = None
    ) -> None:
        # Errors of parsers may quote a whole file.
        self.what = what if len(what) <= _MAX_LENGTH else f"{what[:_MAX_LENGTH]}…"
        self.path = None if path is None else Path(path)
        self.advice = advice
        super().__init__(str(self))

    def __str__(self) -> str:
        name = self.path.name if self.path is not None else ""
        name = name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…"
        where = f"{name}: " if self.path is not None else ""
        advice = f". {self.advice}" if self.advice else ""
        return f"{where}{self.what}{advice}."


class ReadError(AtomicityError):
    """A file can't be read: missing, truncated, empty, or of an unknown format."""


class WriteError(AtomicityError):
    """A file can't be created, because its folder is missing, read-only or full."""


class UnsuitableImageError(AtomicityError):
    """The file was read, but does not contain a greyscale micrograph in real space."""


class CalibrationError(AtomicityError):
    """The pixel size is missing or not plausible."""


class UnknownPixelSizeError(CalibrationError):
    """The pixel size is not known. The window names its own fields instead of the advice."""


class ModelError(AtomicityError):
    """A model file is missing, damaged, or does not fit."""


class TableError(AtomicityError):
    """A table lacks columns or contains impossible values."""


class SettingError(AtomicityError):
    """A setting has a wrong value, or settings do not fit together."""

    def __init__(
        self,
        what: str,  # what is wrong, a sentence without a full stop
        names: Sequence[str],
        advice: str | None = None,  # what to do, a sentence without a full stop
    ) -> None:
        self.names = tuple(names)
        super().__init__(what, advice=advice)


class DependencyError(AtomicityError):
    """An optional package is required and not installed."""


class Cancelled(Exception):  # noqa: N818  (not an error: the user stopped the computation)
    """The computation was stopped because ``stop()`` returned true."""


_ADVICE = {
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EFBIG: "Choose a folder on a drive that allows larger files",
    errno.ENOSPC: "Free space on the drive, or choose a folder on another one",
    errno.EROFS: "Choose a folder on another drive",
}
"""What to do after an error of the system that may name no file."""


def solvable_error(error: BaseException) -> AtomicityError | None:
    """Return an error, also of the system, as one that a user can solve; None for others."""
    if isinstance(error, AtomicityError):
        return error
    if isinstance(error, MemoryError):
        advice = "End other programs, or choose fewer or smaller images"
        return AtomicityError("there is not enough memory", advice=advice)
    if not isinstance(error, OSError) or not (error.filename or error.errno in _ADVICE):
        return None
    path = None if isinstance(error.filename, int | None) else os.fsdecode(error.filename)
    if path is not None and error.errno == errno.ENAMETOOLONG:
        path = max(Path(path).parts, key=len)
    advice = _ADVICE.get(error.errno or 0, f"Check the permissions and the path {path}")
    return AtomicityError(f"could not be read or written ({error.strerror})", path, advice)


@contextmanager
def naming_file(path: str | PathLike[str]) -> Iterator[None]:
    """Add the path of a file to errors that name no file."""
    try:
        yield
    except AtomicityError as error:
        error.path = error.path or Path(path)
        raise


def reason_of(error: BaseException) -> str:
    """Return why something failed, for an error that names the file: without number and path."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def format_error(error: BaseException) -> str:
    """Return the message of an error, with its type if it is unexpected."""
    known = solvable_error(error)
    return f"unexpected {type(error).__name__}: {error}" if known is None else str(known)


def without_file_name(message: str, path: Path) -> str:
    """Return the message of an error without its file, for a list in which the file stands."""
    return message.removeprefix(f"{path.name}: ")


# ---- statistics that fail without the loss of the results from which they are computed
#
# A map, a dispersion, ratios or a figure come after detection and classification. If one of them
# fails, the tables are written nevertheless, and its name and the error are kept.

T = TypeVar("T")

FAILED = "failed_statistics"
"""Key of the parameters of an analysis and of the record of a run: statistic → error."""


def attempt(
    failed: MutableMapping[str, str],
    name: str,  # for a message: "dispersion", "map", ...
    compute: Callable[[], T],
) -> T | None:
    """Compute a statistic; keep its error under its name in ``failed`` instead of raising it.

    Raises `Cancelled` if the computation was stopped.
    """
    try:
        return compute()
    except Cancelled:
        raise
    except Exception as error:  # whatever it is, earlier results are valid
        failed[name] = format_error(error)
        return None


def add_failed(parameters: Mapping[str, Any], failed: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of an analysis with further failed statistics."""
    if not failed:
        return dict(parameters)
    return {**parameters, FAILED: {**parameters.get(FAILED, {}), **failed}}


def format_failed(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a sentence for each failed statistic in the parameters of an analysis."""
    failed = parameters.get(FAILED, {}).items()
    return tuple(f"Could not compute: {name} ({error.rstrip('.')})." for name, error in failed)


def count_failed(parameters: Iterable[Mapping[str, Any]]) -> int:
    """Return the number of failed statistics in the parameters of several analyses."""
    return sum(len(one.get(FAILED, {})) for one in parameters)


def install_command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "napari-atomicity[{extra}]"'


@contextmanager
def require_extra(
    extra: str, purpose: str, path: str | PathLike[str] | None = None
) -> Iterator[None]:
    """Name the extra to install if an import in the block fails.

    Parameters
    ----------
    purpose : str
        What requires it, as the beginning of a sentence.

    Raises
    ------
    DependencyError
        Instead of an ImportError.

    Examples
    --------
    >>> with require_extra("simulation", "Building cluster structures"):
    ...     import ase
    """
    try:
        yield
    except ImportError as error:
        module = (error.name or "").partition(".")[0]
        missing = f"{module}, which is not installed" if module else f"a package ({error})"
        raise DependencyError(
            f"{purpose} requires {missing}", path, f"Install it with: {install_command(extra)}"
        ) from error
