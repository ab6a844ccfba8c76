"""Columns of a table as data: name, dtype, unit and description in one place.

The check of a table, its documentation and the tooltips of a window are made from the same list of
`Column`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import TableError

TEXT = "object"
"""The dtype of columns that hold text."""
_YES = ("1", "1.0", "true", "yes", "y", "x")
_NO = ("0", "0.0", "false", "no", "n", "", "nan", "none")
_MISSING_VALUES = {TEXT: "", "bool": False, "int64": 0, "Int64": pd.NA}


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    dtype: str  # A dtype of NumPy or pandas; `TEXT` for text
    unit: str  # unit of the values; "" for text, flags and numbers without a unit
    description: str  # what the column holds, without its unit
    # the value of a row that has none; by default "" for text, False for flags, 0 for whole numbers
    # and NaN for other numbers
    missing_value: Any = None
    nullable: bool = True  # whether a row may lack a value
    # decimals in the window and the clipboard; default: three in the window, four digits in the
    # clipboard
    decimals: int | None = None
    # whether napari shows it as a feature of the points; not of columns that only some tables have
    in_viewer: bool = False
    in_table: bool = False  # whether the table of the window shows it by default

    @property
    def default(self) -> Any:
        """The value that stands for "not computed"."""
        if self.missing_value is not None:
            return self.missing_value
        return _MISSING_VALUES.get(self.dtype, np.nan)

    @property
    def help(self) -> str:
        """Description with the unit, as tooltips show it."""
        return f"{self.description}, in {self.unit}" if self.unit else self.description

    def fill(self, n_rows: int) -> np.ndarray:
        """Return an array of this many missing values."""
        return np.full(n_rows, self.default, self.dtype)


def conform_columns(
    table: pd.DataFrame,
    columns: Sequence[Column],
    what: str,  # name of the table for the error message, such as "cluster table"
    # Columns that get their dtypes if the table has them; integers among them may stay integers
    optional: Sequence[Column] = (),
) -> pd.DataFrame:
    """Return a copy of a table with every column of a schema, in order and in its dtype.

    Columns that the table lacks hold missing values. Its other columns stay at the end. The index
    is new. Raises `TableError` if the values of a column do not have its dtype.
    """
    schema = {column.name: column for column in (*columns, *optional)}
    added = {column.name for column in optional}
    names = [column.name for column in columns]
    names += [name for name in table.columns if name in added or name not in schema]
    out: dict[str, Any] = {}
    for name in names:
        column = schema.get(name)
        if name not in table.columns:
            assert column is not None
            out[name] = pd.Series(column.default, index=table.index, dtype=column.dtype)
            continue
        values = table[name]
        if column is None or column.dtype == values.dtype != TEXT:
            out[name] = values
        elif column.dtype == TEXT:
            text = values.to_numpy(object)
            text = np.where(pd.isna(text), "", text)
            out[name] = pd.Series(text, table.index, dtype=object)
        elif column.dtype == "bool":  # also from a file, or after joining a table that lacks it
            out[name] = flags(values, what)
        else:
            numbers = _convert_numbers(values, column, what)
            # Whole numbers of atoms, as in a ground truth, stay integers.
            whole = name in added and values.dtype.kind == "i"
            out[name] = values if whole else numbers
    conformed = pd.DataFrame(out, index=table.index).reset_index(drop=True)
    # pandas 3 and later keep the names in Arrow arrays, which are slow to iterate over.
    conformed.columns = pd.Index(names, dtype=object)
    return conformed


def flags(values: pd.Series, what: str = "the table") -> pd.Series:
    """Return flags as Booleans, also from a file in which some are missing; these are False.

    Raises `TableError` for other text than yes and no.
    """
    text = values.astype(object).where(values.notna(), "").astype(str).str.strip().str.lower()
    other = text[~text.isin((*_YES, *_NO))]
    if len(other):
        raise TableError(
            f"{what}: {values.name} is {other.iloc[0]!r}, neither yes nor no",
            advice="Write yes or no, 1 or 0, or leave the cell empty",
        )
    return text.isin(_YES)


def _convert_numbers(values: pd.Series, column: Column, what: str) -> pd.Series:
    try:
        numbers = pd.to_numeric(values)
        if column.missing_value is not None:
            numbers = numbers.fillna(column.missing_value)
        converted = numbers.astype(column.dtype)  # type: ignore[call-overload]
        if column.dtype == "int64" and (converted != numbers).any():
            raise ValueError("a number is not an integer")
    except (TypeError, ValueError, OverflowError) as error:
        raise TableError(
            f"the column {column.name} of the {what} holds values of another type than "
            f"{column.dtype} ({error})"
        ) from None
    return converted


def check_columns(
    table: pd.DataFrame,
    columns: Sequence[Column],
    what: str,  # name of the table for the error message
    key: str,  # column that identifies a row among those of its image
) -> None:
    """Check that a table has every column of a schema, all values it needs, and unique keys.

    Raises `TableError` if it does not.
    """
    missing = [column.name for column in columns if column.name not in table.columns]
    if missing:
        raise TableError(f"the {what} lacks the columns {', '.join(missing)}")
    if not table[key].is_unique and table.duplicated(["image", key]).any():
        raise TableError(f"a value of {key} occurs twice in one image of the {what}")
    for column in columns:
        if not column.nullable and not np.isfinite(table[column.name].to_numpy(float)).all():
            raise TableError(f"the column {column.name} of the {what} has missing values")


def markdown_table(columns: Sequence[Column]) -> str:
    """Return a Markdown table that documents the columns."""
    lines = ["| column | type | unit | description |", "| --- | --- | --- | --- |"]
    for column in columns:
        description = column.description.replace("|", r"\|")
        cells = (f"`{column.name}`", _type_name(column.dtype), column.unit, description)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def rst_table(columns: Sequence[Column]) -> str:
    """Return the same table for a docstring."""
    rows = [("column", "type", "description")]
    rows += [(c.name, _type_name(c.dtype), c.help) for c in columns]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule, ""])


def _type_name(dtype: str) -> str:
    return {TEXT: "text", "bool": "yes/no", "int64": "integer", "Int64": "integer"}.get(
        dtype, "number"
    )


# ---- columns of tables of clusters and of atoms that say how their images are grouped
GROUP_COLUMNS = (
    Column("session", TEXT, "", "acquisition session of the image, which was recorded alike"),
    Column(
        "sample",
        TEXT,
        "",
        "sample of the image: its folder, or as the table of samples says",
    ),
)
"""Columns that files of results have; in memory, session and sample belong to the image."""


# ---- columns of a table of class ratios
RATIO_SCHEMA = (
    Column("scope", TEXT, "", 'name of the image, "session: NAME", "sample: NAME", or "all"'),
    Column("class", TEXT, "", "class of the model, or a label that is no class"),
    Column("count", "int64", "", "number of clusters, or of tracks of a movie, with this label"),
    Column("fraction", "float64", "", "fraction of the class; missing if it is no class"),
    Column("fraction_low", "float64", "", "lower end of the interval of the fraction"),
    Column("fraction_high", "float64", "", "upper end of the interval of the fraction"),
    Column("method", TEXT, "", "method by which the fractions were estimated"),
    Column(
        "note",
        TEXT,
        "",
        "what limits the use of the row; empty for most",
    ),
    Column(
        "time_fraction",
        "float64",
        "",
        "fraction of the time of all counted tracks that they have this label; missing without "
        "tracks",
    ),
)
"""Columns of a table of ratios."""
