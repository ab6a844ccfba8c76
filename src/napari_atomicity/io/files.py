"""Files out: whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import AtomicityError


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to the path that is yielded; it takes the place of ``path`` once all went well.

    Whoever reads ``path`` meanwhile, or after a crash, sees the old file or the new one, never a
    part. The folder is made if need be.

    Raises
    ------
    AtomicityError
        If the file can't be written: it says which and why.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays: some writers choose the format by it.
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(_permissions(path))
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise AtomicityError(
            f"could not be written ({error.strerror or error})",
            path,
            f"Check the folder {path.parent}: that it exists, may be written to and has space",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _permissions(path: Path) -> int:
    """Those of the file that is replaced, else what a new file would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text, whole or not at all; characters that UTF-8 lacks are escaped."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
    return Path(path)


def write_json(path: str | os.PathLike[str], values: Any) -> Path:
    """Write JSON that any parser reads: no NaN, numpy numbers and paths as plain ones."""
    return write_text(path, to_json(values) + "\n")


def to_json(values: Any) -> str:
    """JSON text of values as they come from numpy, pandas and dataclasses."""
    return json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """The same made of what JSON knows; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return str(value)
