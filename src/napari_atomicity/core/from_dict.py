"""Dataclasses from dictionaries, as JSON files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def dataclass_from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from the dictionary that `dataclasses.asdict` and JSON made of it.

    Lists become tuples and dictionaries become dataclasses where the fields say so. Unknown entries
    are ignored, and missing ones get their defaults.

    Parameters
    ----------
    kind : type
        The dataclass.
    values : mapping of str to object
        Values by field.

    Returns
    -------
    T
        The dataclass.

    Raises
    ------
    TypeError, ValueError, AttributeError
        If a field without a default is missing, or a value has another type.
    """
    hints = get_type_hints(kind)
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{k: _convert(hints[k], v) for k, v in values.items() if k in known})


def _convert(hint: Any, value: Any) -> Any:
    options = get_args(hint)
    if NoneType in options:
        return None if value is None else _convert(options[0], value)
    if is_dataclass(hint):
        return dataclass_from_dict(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        return _tuples(value)
    if get_origin(hint) is dict:
        return {key: _convert(options[1], of_key) for key, of_key in value.items()}
    return value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
