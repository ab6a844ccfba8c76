"""The images of a run by name, and the folder of its results."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..core.errors import AtomicityError
from .images import find_images, unique_names, valid_text
from .provenance import Outcome


@dataclass(frozen=True)
class Input:
    """An image that was asked for, or a path that leads to none."""

    name: str
    path: Path
    error: str | None = None

    def outcome(self, status: str, error: str | None = None, **known: Any) -> Outcome:
        return Outcome(self.name, valid_text(str(self.path)), status, error, **known)

    def failed(self, error: Exception, known: Mapping[str, Any]) -> Outcome:
        """What went wrong with it: one image must not end the run."""
        if isinstance(error, AtomicityError):
            return self.outcome("failed", str(error), **known)
        what = f"unexpected {type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return self.outcome("failed", what, traceback=trace, **known)


def make_folder(path: Path) -> None:
    """Make it and write to it now, rather than fail when all is computed.

    Raises
    ------
    AtomicityError
        If it can't be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise AtomicityError(
            f"this folder can't be written to ({error.strerror or error})",
            path,
            "Choose another folder for the results",
        ) from error


def named_inputs(paths: Iterable[str | PathLike[str]]) -> list[Input]:
    """The images under unique names; what leads to none stays, with the reason."""
    good: list[Path] = []
    errors: dict[Path, str] = {}
    for path in map(Path, paths):
        try:
            find_images([path])
            good.append(path)
        except (AtomicityError, OSError) as error:
            errors[path] = str(error)
    images = [*(find_images(good) if good else []), *errors]
    return [
        Input(valid_text(name), path, errors.get(path))
        for name, path in zip(unique_names(images), images, strict=True)
    ]
