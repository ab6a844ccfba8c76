"""Values of a project file that can be anything: what is valid, and a reason for what is not."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError, ReadError

MAX_NUMBER = 2**53
"""Largest id that is read: larger ones have no successor that SQLite can store."""
_MAX_PATH, _MAX_PART, _MAX_REASON = 4096, 255, 200

T = TypeVar("T")


@contextmanager
def damage_as_error(
    what: str, where: str = "in the project", path: Path | None = None
) -> Iterator[None]:
    """Turn what damaged values raise into a `ReadError` that says what is damaged."""
    try:
        yield
    except Exception as error:  # values of another type fail anywhere
        if not _is_damage(error):
            raise
        reason = error.what if isinstance(error, AtomicityError) else str(error)
        reason = reason.strip() or type(error).__name__
        raise ReadError(f"{what} {where} is damaged ({reason[:_MAX_REASON]})", path) from error


def _is_damage(error: Exception) -> bool:
    """Whether an error comes from stored values, not from a file that is closed or locked."""
    if isinstance(error, pd.errors.DatabaseError) and isinstance(error.__cause__, sqlite3.Error):
        error = error.__cause__
    return not isinstance(error, sqlite3.Error) or type(error) is sqlite3.DatabaseError


def read_json(text: Any, kind: type[T]) -> T:
    """Return a JSON value of this type; `ValueError` for another one."""
    try:
        value = json.loads(text)
    except (TypeError, RecursionError) as error:  # no text, or lists in lists without end
        raise ValueError(str(error)) from error
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def is_path(value: Any) -> bool:
    """Return whether a value can be a path or the name of an image."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_PATH
        and "\0" not in value
        and all(len(part.encode()) <= _MAX_PART for part in value.split("/"))
    )


def as_text(value: Any) -> str:
    """Return a value as text: "" for None, text in bytes decoded."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def as_number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return value if is_number else None


def as_count(value: Any) -> int:
    """Return a whole number that is not negative, 0 for anything else."""
    return value if isinstance(value, int) and 0 <= value < MAX_NUMBER else 0


def as_shape(frames: Any, height: Any, width: Any, is_stack: Any) -> tuple[int, ...] | None:
    """Return the shape of an image; None if it is not known."""
    sizes = [as_count(n) for n in ([frames] if is_stack else []) + [height, width]]
    return tuple(sizes) if all(sizes) and math.prod(sizes) < MAX_NUMBER else None


def valid_names(rows: Iterable[tuple[int, Any]]) -> dict[str, int]:
    """Return name → id of images; names that can't be any are replaced."""
    rows = list(rows)
    taken = {name for _, name in rows if is_path(name)}
    found: dict[str, int] = {}
    for image_id, name in rows:
        if not is_path(name):
            text = as_text(name).replace("\0", "\N{REPLACEMENT CHARACTER}")[:50] or "no name"
            name = f"{text} [{image_id}]"
            while name in taken:
                name += "*"
            taken.add(name)
        found[name] = image_id
    return found


def coerce_numbers(table: pd.DataFrame, names: Iterable[str], whole: bool = False) -> pd.DataFrame:
    """Return a table whose columns hold numbers; what is none becomes NaN, or -1."""
    fixed: dict[str, Any] = {}
    for name in names:
        if table[name].dtype.kind not in ("i" if whole else "if"):
            numbers = pd.to_numeric(table[name], errors="coerce")
            is_id = numbers.abs() < MAX_NUMBER
            fixed[name] = (
                numbers.where(is_id, -1).astype("int64") if whole else numbers.astype(float)
            )
    return table.assign(**fixed) if fixed else table


def coerce_texts(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Return a table whose columns hold text."""
    fixed = {n: table[n].map(as_text).astype(object) for n in names if not holds_text(table[n])}
    return table.assign(**fixed) if fixed else table


def holds_text(values: pd.Series) -> bool:
    """Return whether every value of a column is text."""
    return pd.api.types.infer_dtype(values, skipna=False) in ("string", "empty")


def check_polygons(polygons: Iterable[np.ndarray], min_points: int = 1) -> None:
    """Raise `ValueError` if an outline is no list of finite points (y, x)."""
    polygons = list(polygons)
    if any(p.ndim != 2 or p.shape[1] != 2 or len(p) < min_points for p in polygons):
        raise ValueError("an outline is no list of points")
    if polygons and not np.isfinite(np.concatenate(polygons)).all():
        raise ValueError("an outline has points that are no numbers")
