"""Atomic writing of files, JSON, and text that a spreadsheet does not run as a formula."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

# ---- files that this program writes as results, which no search for images finds

RESULT = "napari-atomicity result"
"""Mark in the header of each result that has the format of an image; simulated images have none."""
NPZ_MARK: dict[str, Any] = {RESULT: ()}
"""The mark as the first array of an archive, so that it is in the header."""
MANIFEST, PREVIEWS = "manifest.json", "previews"
"""File and folder of a pack for annotators."""
_HEADER_BYTES = 4096
_SUFFIXES = (".npz", ".png", ".tif", ".tiff")


def png_mark() -> PngInfo:
    """Return the mark of a result for Pillow."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", RESULT)
    return mark


def is_result(path: Path) -> bool:
    """Return whether a file has the mark of a result."""
    if path.suffix.lower() not in _SUFFIXES:
        return False
    try:
        if not path.is_file():  # a pipe could wait for ever
            return False
        with path.open("rb") as file:
            return RESULT.encode() in file.read(_HEADER_BYTES)
    except OSError:
        return False


def is_result_folder(folder: Path) -> bool:
    """Return whether a folder is a pack, which has copies of images, or the previews of one."""
    pack = folder.parent if folder.name == PREVIEWS else folder
    try:
        return (pack / MANIFEST).is_file() and (pack / PREVIEWS).is_dir()
    except OSError:  # it may not be entered
        return False


def regular_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file after checking that opening it does not wait for anything.

    Called before a file that a user names is opened: a named pipe (FIFO), a device or a socket may
    never answer.

    Raises `OSError` if it is neither a file nor a folder, or does not exist.
    """
    path = Path(path)
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "this is not a regular file", str(path))
    return path


def read_document(path: str | os.PathLike[str], max_bytes: int = 500_000_000) -> bytes:
    """Return the content of a file of settings, a card or a record that a user names.

    Raises `OSError` if it is no regular file, can't be read, or is larger than such a file ever is.
    """
    path = regular_file(path)
    if path.stat().st_size > max_bytes:
        raise OSError(
            errno.EFBIG, f"the file is larger than {max_bytes // 1_000_000} MB", str(path)
        )
    return path.read_bytes()


def check_files_in(folder: Path) -> None:
    """Check all entries of a folder and its subfolders with `regular_file`.

    Raises `OSError` if one of them is neither a file nor a folder; links to nothing are ignored.
    """
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                regular_file(Path(root, name))


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to a temporary file that replaces ``path`` after success.

    Other processes see the old file or the complete new file, also after a crash. The folder is
    created if it does not exist.

    Raises `AtomicityError` if the file can not be written.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Some writers choose the format by the suffix.
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        _temporary.add(temporary)
        yield temporary
        temporary.chmod(_permissions(path))
        temporary.replace(path)
        _temporary.discard(temporary)
        temporary = None
    except OSError as error:
        raise AtomicityError(
            f"could not be written ({error.strerror or error})",
            path,
            f"Check that the folder {path.parent} exists, is writable and has free space",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            _temporary.discard(temporary)


_temporary: set[Path] = set()


def remove_temporary_files() -> None:
    """Remove the temporary files of `atomic_write`, before the process is ended."""
    for path in list(_temporary):
        with suppress(OSError):
            path.unlink()


def _permissions(path: Path) -> int:
    """Return the permissions of the replaced file, or those of a new file."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text atomically; characters that are not valid in UTF-8 are escaped."""
    return write_pieces(path, [text])


def write_pieces(
    path: str | os.PathLike[str],
    pieces: Iterable[str],  # parts of the text, in order
) -> Path:
    """Write a text that is made piece by piece, as `write_text` does."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.writelines(piece.encode("utf-8", "backslashreplace") for piece in pieces)
    return Path(path)


def write_json(path: str | os.PathLike[str], values: Any) -> Path:
    """Write JSON atomically: NaN becomes null, values of NumPy and paths are converted."""
    return write_text(path, to_json(values) + "\n")


def to_json(values: Any) -> str:
    """Return values of NumPy, pandas and dataclasses as JSON text."""
    return json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a value as types of JSON; numbers that are not finite become None."""
    return json.loads(json.dumps(value, default=_convert), parse_constant=lambda _: None)


def _convert(value: Any) -> Any:
    """Return values of NumPy, and sets, as what JSON knows; text for anything else."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return list(value) if isinstance(value, (set, frozenset)) else str(value)


_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def escape_formula(value: Any) -> Any:
    """Escape text that a spreadsheet would run as a formula; other values are unchanged."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def unescape_formula(value: Any) -> Any:
    """Undo `escape_formula`."""
    marked = isinstance(value, str) and value.startswith("'") and _FORMULA.match(value)
    return value[1:] if marked else value


def map_text(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """Return a copy with a function applied to every text and every column name."""
    changed = {
        i: pd.Series([change(v) for v in values.tolist()], index=table.index, dtype=object)
        for i, (_, values) in enumerate(table.items())
        if has_text(values)
    }
    columns = [changed.get(i, values) for i, (_, values) in enumerate(table.items())]
    out = pd.concat(columns, axis=1) if columns else table.copy()
    out.columns = pd.Index([change(name) for name in table.columns])
    return out


def has_text(values: pd.Series) -> bool:
    """Return whether a column contains text."""
    return not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values))
