"""Read the cells of XLSX workbooks, which may come from any program."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

MAX_BYTES = 200_000_000
"""Maximum size of an unpacked workbook."""
MAX_COLUMNS = 10_000
"""Maximum number of columns of a table."""
_MAX_ROWS, _MAX_CELLS, _MAX_TEXT = 1_048_576, 20_000_000, 32_767


def read_cells(path: Path, is_text: Callable[[Any], bool]) -> list[list[Any]]:
    """Read the first sheet of a workbook; formulas give the values that were saved with them.

    Parameters
    ----------
    is_text : callable
        ``is_text(name)`` of the name of a column, in which a date is not valid. In other columns
        dates become text.

    Returns
    -------
    list of list of Any
        The rows, without empty cells at their end.

    Raises
    ------
    ValueError
        If a cell holds an error, a formula without a value, a date in a column of text or too much
        text, or the workbook is too large: which cell, and what to do.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES // 10**6} MB: save it as CSV")
    rows, formulas = _read_sheet(path, is_text, data_only=False)
    if formulas:
        rows, _ = _read_sheet(path, is_text, data_only=True)
    for row, column, name in formulas:
        if column >= len(rows[row]) or rows[row][column] is None:
            raise ValueError(
                f"the formula in cell {name} has no value: open and save it in a spreadsheet"
            )
    return rows


def _read_sheet(
    path: Path, is_text: Callable[[Any], bool], data_only: bool
) -> tuple[list[list[Any]], list[tuple[int, int, str]]]:
    """Return the rows, and row, column and name of each cell with a formula."""
    from openpyxl import load_workbook

    rows: list[list[Any]] = []
    formulas = []
    n_cells = 0
    book = load_workbook(path, read_only=True, data_only=data_only, keep_links=False)
    try:
        sheet = book.worksheets[0]
        sheet.reset_dimensions()
        for cells in sheet.rows:
            n_cells += len(cells)
            if len(rows) >= _MAX_ROWS or len(cells) > MAX_COLUMNS or n_cells > _MAX_CELLS:
                raise ValueError(
                    f"it has more than {_MAX_ROWS:,} rows, {MAX_COLUMNS:,} columns or "
                    f"{_MAX_CELLS:,} cells"
                )
            row: list[Any] = []
            for i, cell in enumerate(cells):
                if cell.data_type == "f":
                    formulas.append((len(rows), i, str(cell.coordinate)))
                name = rows[0][i] if rows and i < len(rows[0]) else None
                row.append(_value(cell, is_text(name)))
            while row and row[-1] is None:
                row.pop()
            rows.append(row)
    finally:
        book.close()
    while rows and not rows[-1]:
        rows.pop()
    return rows, formulas


def _value(cell: Any, in_text: bool) -> Any:
    """Return the value of a cell as text, number, flag or None."""
    value = cell.value
    if cell.data_type == "e":
        raise ValueError(f"cell {cell.coordinate} holds the error {value}: correct or empty it")
    if isinstance(value, date | time | timedelta):
        if in_text:
            raise ValueError(f"cell {cell.coordinate} is a date: format its column as text")
        return str(value)
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise ValueError(f"cell {cell.coordinate} has more than {_MAX_TEXT:,} characters")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
