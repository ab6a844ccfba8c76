"""Typed errors. Each says what happened, in which file, and what to do about it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path


class AtomicityError(Exception):
    """Something that a user can act on.

    Parameters
    ----------
    what
        What happened, a sentence without a full stop.
    path
        The file concerned, if there is one.
    advice
        What the user can do about it, a sentence without a full stop.
    """

    def __init__(
        self, what: str, path: str | PathLike[str] | None = None, advice: str | None = None
    ) -> None:
        self.what = what
        self.path = None if path is None else Path(path)
        self.advice = advice
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.path.name}: " if self.path is not None else ""
        advice = f". {self.advice}" if self.advice else ""
        return f"{where}{self.what}{advice}."


class ReadError(AtomicityError):
    """A file can't be read: missing, truncated, empty, or of a format that is not known."""


class UnsuitableImageError(AtomicityError):
    """The file was read, but what it holds is no real-space greyscale micrograph."""


class CalibrationError(AtomicityError):
    """The pixel size is missing or makes no sense."""


class ModelError(AtomicityError):
    """A model file is missing, damaged, or does not fit."""


class TableError(AtomicityError):
    """A table lacks columns or holds values that are not possible."""


class DependencyError(AtomicityError):
    """An optional package is needed and not installed."""


class Cancelled(Exception):  # noqa: N818  (not an error: somebody asked for it)
    """The caller's ``stop()`` said so."""
