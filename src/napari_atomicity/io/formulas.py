"""Escape text that a spreadsheet would run as a formula."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

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
