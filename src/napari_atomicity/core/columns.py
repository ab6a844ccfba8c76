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

from .errors import TableError

TEXT = "object"
"""The dtype of columns that hold text."""
_MISSING_VALUES = {TEXT: "", "bool": False, "int64": 0, "Int64": pd.NA}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        Name of the column, as in files.
    dtype : str
        A dtype of NumPy or pandas; `TEXT` for text.
    unit : str
        Unit of the values; "" for text, flags and numbers without a unit.
    description : str
        What the column holds, without its unit.
    missing_value : object, optional
        The value of a row that has none; by default "" for text, False for flags, 0 for whole
        numbers and NaN for other numbers.
    nullable : bool
        Whether a row may lack a value.
    """

    name: str
    dtype: str
    unit: str
    description: str
    missing_value: Any = None
    nullable: bool = True

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

    def convert(self, values: pd.Series, table: str) -> pd.Series:
        """Return values in the dtype of the column.

        Parameters
        ----------
        values : pandas.Series
            Values of the column, of any dtype.
        table : str
            Name of the table for the error message, such as "cluster table".

        Returns
        -------
        pandas.Series
            The same rows; missing text is "".

        Raises
        ------
        TableError
            If a value can't be converted.
        """
        if self.dtype == TEXT:
            return values.astype(object).where(values.notna(), "").astype(object)
        try:
            return values.astype(self.dtype)  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise self.type_error(table, error) from None

    def type_error(self, table: str, reason: object) -> TableError:
        """Return the error for values that do not have the dtype of the column.

        Parameters
        ----------
        table : str
            Name of the table.
        reason : object
            Why the values can not be converted.

        Returns
        -------
        TableError
            The error, to be raised.
        """
        return TableError(
            f"the column {self.name} of the {table} holds values of another type than "
            f"{self.dtype} ({reason})"
        )

    def check(self, values: pd.Series, table: str) -> None:
        """Check that no value is missing where the column needs one.

        Parameters
        ----------
        values : pandas.Series
            Values of the column.
        table : str
            Name of the table for the error message.

        Raises
        ------
        TableError
            If the column is not nullable and a value is not finite.
        """
        if not self.nullable and not np.isfinite(values.to_numpy(float)).all():
            raise TableError(f"the column {self.name} of the {table} has missing values")

    def fill(self, n_rows: int) -> np.ndarray:
        """Return an array of this many missing values."""
        return np.full(n_rows, self.default, self.dtype)


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
