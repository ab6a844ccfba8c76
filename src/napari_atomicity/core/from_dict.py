"""Dataclasses from JSON and from dictionaries, checked by pydantic.

The types of the fields are the schema: ``Annotated[int, Interval(ge=8)]`` limits a number. pydantic
is imported when the first file is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def dataclass_from_json(kind: type[T], text: str | bytes) -> T:
    """Build a dataclass from JSON, and check all values against the types of its fields.

    Numbers must be finite; text is no number, and a number is no flag. Unknown entries are ignored,
    and missing ones get their defaults.

    Raises `ValueError` if it is not JSON, an entry without a default is missing, or a value is not
    valid; the message lists the first errors.
    """
    from pydantic import ValidationError

    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        (value,) = _adapter(kind).validate_json(b"[%b]" % data)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(_message(error)) from None
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


def _message(error: Any) -> str:
    """Return the first errors of pydantic as text of limited length."""
    found = error.errors(include_url=False, include_context=False)
    parts = []
    for one in found[:_MAX_ERRORS]:
        where = _shorten(".".join(map(str, one["loc"][1:])))
        what = one["msg"].replace("Value error, ", "")
        if one["type"] in ("json_invalid", "value_error"):
            parts.append(what)
        elif one["type"] == "missing":
            parts.append(f"{where or 'all content'} is missing")
        else:
            named = what.replace("Input", where or "it", 1)
            named = named if named != what or not where else f"{where}: {what}"
            parts.append(f"{named}, not {_shorten(repr(one['input']))}")
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
