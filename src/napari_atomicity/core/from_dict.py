"""Dataclasses from JSON and from dictionaries, checked by pydantic.

The types of the fields are the schema: ``Annotated[int, Interval(ge=8)]`` limits a number. pydantic
is imported when the first file is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Interval

T = TypeVar("T")

Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
Logarithm = Annotated[float, Interval(ge=-100, le=100)]
"""A natural logarithm whose exponential does not overflow."""
Scatter = Annotated[float, Interval(ge=1e-9, le=10)]
"""A standard deviation of logarithms, by which others are divided."""

_MAX_ERRORS = 3
_MAX_LENGTH = 60


def dataclass_from_json(kind: type[T], text: str | bytes, lines: bool = False) -> T:
    """Build a dataclass from JSON, and check all values against the types of its fields.

    Numbers must be finite; text is no number, and a number is no flag. Unknown entries are ignored,
    and missing ones get their defaults. With ``lines``, errors name the line of the value.

    Raises `ValueError` if it is not JSON, an entry without a default is missing, or a value is not
    valid; the message lists the first errors.
    """
    from pydantic import ValidationError

    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        (value,) = _adapter(kind).validate_json(b"[%b]" % data)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(_message(error, text if lines else None)) from None
    return value


def dataclass_from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from the dictionary that `dataclasses.asdict` made of it.

    Raises `ValueError` as `dataclass_from_json` does.
    """
    return dataclass_from_json(kind, json.dumps(values))


@lru_cache
def _adapter(kind: type) -> Any:
    """Return the validator of a list of one dataclass: the settings apply to dataclasses in it."""
    from pydantic import ConfigDict, TypeAdapter

    rules = ConfigDict(strict=True, allow_inf_nan=False)
    return TypeAdapter(tuple[kind], config=rules)  # type: ignore[valid-type]


def line_of(text: str | bytes, path: Sequence[str | int]) -> int | None:
    """Return the line of a value of a JSON text; that of what contains it if it is missing.

    Values before it are skipped by the decoder of Python, which takes as long as reading them.
    """
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    at = _skip_blanks(text, 0)
    try:
        for step in path:
            found = _start_of(text, at, step)
            if found is None:
                break
            at = found
    except (ValueError, IndexError, RecursionError):
        return None
    return text.count("\n", 0, at) + 1


def _start_of(text: str, at: int, step: str | int) -> int | None:
    """Return where the entry of an object or a list starts; None if it has none."""
    decode = json.JSONDecoder().raw_decode
    is_object, n = text[at] == "{", 0
    at = _skip_blanks(text, at + 1)
    while text[at] not in "}]":
        key: Any = n
        if is_object:
            key, at = decode(text, at)
            at = _skip_blanks(text, _skip_blanks(text, at) + 1)
        if key == step:
            return at
        at = _skip_blanks(text, decode(text, at)[1])
        at, n = _skip_blanks(text, at + 1) if text[at] == "," else at, n + 1
    return None


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _message(error: Any, text: str | bytes | None = None) -> str:
    """Return the first errors of pydantic as text of limited length."""
    found = error.errors(include_url=False, include_context=False)
    parts = []
    for one in found[:_MAX_ERRORS]:
        place = one["loc"][1:]
        where = _shorten(".".join(map(str, place)))
        line = None if text is None or not place else line_of(text, place)
        what = one["msg"].replace("Value error, ", "")
        if one["type"] in ("json_invalid", "value_error"):
            parts.append(what)
        elif one["type"] == "missing":
            parts.append(f"{where or 'all content'} is missing")
        else:
            named = what.replace("Input", where or "it", 1)
            named = named if named != what or not where else f"{where}: {what}"
            parts.append(f"{named}, not {_shorten(repr(one['input']))}")
        if line is not None:
            parts[-1] = f"line {line}: {parts[-1]}"
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
