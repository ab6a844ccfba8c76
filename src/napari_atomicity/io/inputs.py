"""Input images of a run, and the folder of its results."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from ..core.errors import AtomicityError, format_error
from ..core.micrograph import Micrograph
from .files import regular_file
from .images import find_images, unique_names, valid_text
from .provenance import Outcome


@dataclass(frozen=True)
class Input:
    """An input image, or a path without an image."""

    name: str  # unique name of the image
    path: Path
    error: str | None = None  # why there is no image
    # the image, if it is in memory; then the path may be empty
    micrograph: Micrograph | None = None
    pixel_size_nm: float | None = None  # replaces that of the file, and of the run

    def outcome(
        self,
        status: str,  # "done", "failed" or "not reached"
        error: str | None = None,  # what went wrong
        **known: Any,  # further fields of `Outcome`
    ) -> Outcome:
        """Return the record of this image."""
        path = str(self.path) if self.path.name else ""
        return Outcome(self.name, valid_text(path), status, error, **known)

    def failed(
        self,
        error: Exception,
        known: Mapping[str, Any],  # further fields of `Outcome`
    ) -> Outcome:
        """Return the record of a failed image; the run continues with the next image."""
        if not isinstance(error, AtomicityError):
            known = {**known, "traceback": "".join(traceback.format_exception(error))}
        return self.outcome("failed", format_error(error), **known)


def make_folder(path: Path) -> None:
    """Create a folder and check that it is writable, before the computation starts.

    Raises `AtomicityError` if it can not be created or is not writable.
    """
    with _unwritable_as_error(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def check_folder(path: Path) -> None:
    """Check that a folder is writable, or can be created; nothing is left there.

    Raises `AtomicityError` if it is neither.
    """
    with _unwritable_as_error(path):
        absolute = path.absolute()
        existing = next((p for p in (absolute, *absolute.parents) if p.exists()), absolute)
        with tempfile.TemporaryFile(dir=existing):
            pass


@contextmanager
def _unwritable_as_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AtomicityError(
            f"this folder can't be written to ({error.strerror or error})",
            path,
            "Choose another folder for the results",
        ) from error


def named_inputs(paths: Iterable[str | PathLike[str]]) -> list[Input]:
    """Return the images with unique names; paths without an image are kept with the reason."""
    good: list[Path] = []
    errors: dict[Path, str] = {}
    for path in map(Path, paths):
        try:
            find_images([path])
            good.append(regular_file(path))
        except (AtomicityError, OSError) as error:
            errors[path] = format_error(error)
    images = [*(find_images(good) if good else []), *errors]
    return [
        Input(valid_text(name), path, errors.get(path))
        for name, path in zip(unique_names(images), images, strict=True)
    ]
