"""Read and write tables as CSV, Parquet or XLSX, by the suffix of the file.

Spreadsheets run text that begins like a formula (``=HYPERLINK(…)``), and names of images and labels
come from other people. In CSV and XLSX, text that begins with ``= + - @``, their full-width forms,
a tab or the end of a line therefore gets an apostrophe as prefix; text of apostrophes followed by
one of these gets one more. `read_table` removes one, and every text is restored. Numbers are not
changed: -1.5 stays -1.5. Parquet stores all values unchanged.
"""

from __future__ import annotations

import csv
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.io.parsers import TextParser  # type: ignore[attr-defined]

from ..core.acquisition_session import add_group_names
from ..core.errors import AtomicityError, ReadError, TableError
from ..core.tables import cluster_table as tables
from ..core.tables.columns import RATIO_SCHEMA, Column
from .files import (
    atomic_write,
    escape_formula,
    has_text,
    map_text,
    regular_file,
    to_json,
    unescape_formula,
    write_text,
)
from .reference_ratios import normalise_reference, parse_reference

if TYPE_CHECKING:
    import pyarrow as pa

# ---- read the cells of XLSX workbooks, which may come from any program

MAX_BYTES = 200_000_000
"""Maximum size of an unpacked workbook."""
MAX_COLUMNS = 10_000
_MAX_ROWS, _MAX_CELLS, _MAX_TEXT = 1_048_576, 20_000_000, 32_767


def read_cells(
    path: Path,
    # ``is_text(name)`` of the name of a column, in which a date is not valid. In other columns
    # dates become text.
    is_text: Callable[[Any], bool],
) -> list[list[Any]]:  # the rows, without empty cells at their end
    """Read the first sheet of a workbook; formulas give the values that were saved with them.

    Raises `ValueError` if a cell holds an error, a formula without a value, a date in a column of
    text or too much text, or the workbook is too large: which cell, and what to do.
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


_MAX_LINE = 1_000_000
_ROWS_AT_ONCE = 5000
"""Rows of a workbook whose values are in memory as objects."""


def write_clusters(
    table: pd.DataFrame,
    path: str | os.PathLike[str],
    about: Mapping[str, Any] | None = None,  # metadata of a Parquet file: see `clusters_to_arrow`
    # image → its session, and → its sample, which become columns
    groups: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
) -> Path:
    """Write a cluster table with all columns of the schema, atomically.

    Raises `AtomicityError` if the suffix is not .csv, .parquet or .xlsx, or the file can not be
    written.
    """
    path = Path(path)
    if groups is not None:
        table = add_group_names(table, *groups)
    if about is not None and path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        content = clusters_to_arrow(table, about)
        with atomic_write(path) as temporary:
            pq.write_table(content, temporary)
        return path
    table = tables.conform(table)
    return write_table(table, path, [c for name in table if (c := tables.column_of(str(name)))])


PARQUET_KEY = b"atomicity"
"""Key of the metadata of Parquet files."""


def clusters_to_arrow(table: pd.DataFrame, about: Mapping[str, Any]) -> pa.Table:
    """Return a cluster table of Arrow with ``about`` in its metadata, as JSON.

    Columns have the same types without rows, so that all files of a data set have one schema.
    """
    import pyarrow as pa

    def type_of(values: pd.Series) -> pa.DataType:
        if pd.api.types.is_bool_dtype(values):
            return pa.bool_()
        if pd.api.types.is_integer_dtype(values):
            return pa.int64()
        return pa.float64() if pd.api.types.is_float_dtype(values) else pa.string()

    table = tables.conform(table)
    schema = pa.schema([pa.field(str(name), type_of(table[name])) for name in table.columns])
    content = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
    metadata = {**(content.schema.metadata or {}), PARQUET_KEY: to_json(about).encode()}
    return content.replace_schema_metadata(metadata)


IMAGES_PER_FILE = 500
"""Images in a file of a data set: enough that 10,000 images are 20 files."""
_DATA_FILE = "part-{:05d}.parquet"


def write_data_set(
    table: pd.DataFrame, folder: Path, images: Sequence[Mapping[str, Any]]
) -> list[Path]:
    """Write clusters as a folder of Parquet files with the descriptions of their images.

    Each has the clusters of `IMAGES_PER_FILE` of the ``images``; ``image`` is the name of one.
    Other files of an earlier data set in the folder are removed, and incomplete ones, which polars
    and DuckDB read too. Raises `AtomicityError` if a file can not be written.
    """
    file_of = pd.Index([one["image"] for one in images]).get_indexer(table["image"])
    file_of //= IMAGES_PER_FILE
    paths = []
    for number, start in enumerate(range(0, max(1, len(images)), IMAGES_PER_FILE)):
        path = folder / _DATA_FILE.format(number)
        about = {"images": list(images[start : start + IMAGES_PER_FILE])}
        paths.append(write_clusters(table[file_of == number], path, about))
    earlier = (path for start in ("", ".") for path in folder.glob(f"{start}part-*.parquet"))
    for path in set(earlier) - set(paths):
        path.unlink()
    return paths


def write_ratios(ratios: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write class ratios (`statistics.ratios.ratios.class_ratios`) atomically.

    The format is a table, or LaTeX (`io.clipboard.latex_table`) for the suffix .tex.

    Raises `AtomicityError` if the suffix is not .csv, .parquet, .xlsx or .tex, or the file can not
    be written.
    """
    if Path(path).suffix.lower() == ".tex":
        from .clipboard import latex_table

        return write_text(path, latex_table(ratios))
    return write_table(ratios, path, RATIO_SCHEMA)


def write_table(
    table: pd.DataFrame,
    path: str | os.PathLike[str],
    # A second sheet of a workbook lists their names, units and descriptions
    columns: Sequence[Column] = (),
) -> Path:
    """Write any table atomically; raises the errors of `write_clusters`.

    Text that a spreadsheet would run is escaped: see the top of this module.
    """
    path = Path(path)
    write = _of_suffix(_WRITERS, path)
    if write is _write_xlsx:
        write = partial(_write_xlsx, columns=columns)
    with atomic_write(path) as temporary:
        write(table, temporary)
    return path


def describe_columns(columns: Sequence[Column]) -> pd.DataFrame:
    """Return names, units and descriptions of columns as a table."""
    return pd.DataFrame(
        {
            "column": [c.name for c in columns],
            "unit": [c.unit for c in columns],
            "description": [c.description for c in columns],
        }
    )


def read_clusters(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a cluster table written by `write_clusters`; CSV and Parquet restore numbers exactly.

    Raises `ReadError` if the file is missing or not a table. Raises `TableError` if columns are
    missing or values are impossible.
    """
    path = Path(path)
    table = read_table(path)
    if "atom_id" in table.columns:
        raise TableError("this is a table of atoms, not of clusters", path)
    # Columns of an empty CSV file have no types.
    try:
        if "image" in table.columns and "cluster_id" in table.columns:
            table = tables.conform(table)
        tables.validate(table)
    except TableError as error:
        raise TableError(error.what, path, error.advice) from None
    return table


def read_reference(reference: str | os.PathLike[str]) -> pd.DataFrame:
    """Read reference ratios from a table, or from text such as ``Pt19:Pt41 = 1:1``.

    Parameters
    ----------
    reference : str or path-like
        Path of a table (.csv, .parquet or .xlsx) with the columns class, fraction and optionally
        scope; other text is a ratio.

    Returns
    -------
    pandas.DataFrame
        Columns ``scope, class, fraction``; fractions sum to 1 in each scope: see
        `statistics.ratios.reference`.

    Raises
    ------
    ReadError
        If the file is missing or not a table.
    TableError
        If the table or the text is not a valid reference.
    """
    path = Path(reference)
    if path.suffix.lower() not in _READERS:
        return parse_reference(str(reference))
    try:
        return normalise_reference(read_table(path))
    except TableError as error:
        raise TableError(error.what, path, error.advice) from None


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read any table by its suffix; text columns of the cluster table stay text.

    Raises `ReadError` if the file is missing or not a table.
    """
    path = Path(path)
    read = _of_suffix(_READERS, path)
    try:
        return read(regular_file(path))
    except FileNotFoundError as error:
        raise ReadError("there is no such file", path) from error
    except IsADirectoryError as error:
        raise ReadError("this is a folder, not a table", path) from error
    except OSError as error:
        raise ReadError(f"could not be read ({error.strerror or error})", path) from error
    except Exception as error:  # parsers raise any exception
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ReadError(f"this is not a {path.suffix[1:]} table ({reason})", path) from error


_TEXT = ("scope", "class", "method", "note", "sample", "session", "sessions", "known", "quantity",
         "reference_sample", "along", *(
    name for name, dtype in tables.columns().items() if dtype == "object"
))  # fmt: skip


def _is_text(name: Any) -> bool:
    """Return whether a column contains text, such as ``label_<estimator>``."""
    return name in _TEXT or str(name).startswith("label_")


def _missing_numbers(header: Iterable[Any]) -> dict[Any, Any]:
    """Return the missing values of number columns; "NA" in a text column may be a name."""
    return {name: ["", "nan", "NaN", "NA"] for name in header if not _is_text(name)}


def _check_width(path: Path) -> None:
    """Check the first lines, since the time of pandas grows with the number of columns."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for _ in range(2):
            line = lines.readline(_MAX_LINE)
            if len(line) == _MAX_LINE or line.count(",") >= MAX_COLUMNS:
                raise ValueError(f"it has more than {MAX_COLUMNS:,} columns or very long lines")


def _read_csv(path: Path) -> pd.DataFrame:
    _check_width(path)
    header = pd.read_csv(path, nrows=0).columns
    numbers = _missing_numbers(header)
    # pandas 3 reads numbers exactly and warns if this option is set.
    exact: dict[str, Any] = (
        {"float_precision": "round_trip"} if int(pd.__version__.partition(".")[0]) < 3 else {}
    )
    text = {name: str for name in header if _is_text(name)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            table = pd.read_csv(
                path, dtype=text, keep_default_na=False, na_values=numbers, index_col=False, **exact
            )
        except pd.errors.ParserWarning:
            raise ValueError("its lines have more cells than the header") from None
    return map_text(table, unescape_formula)


def _read_xlsx(path: Path) -> pd.DataFrame:
    rows = read_cells(path, _is_text)
    if not rows:
        return pd.DataFrame()
    width = max(map(len, rows))
    rows = [row + [None] * (width - len(row)) for row in rows]
    header = TextParser(rows[:1], header=0).read().columns
    numbers = _missing_numbers(header)
    text: dict[Any, Any] = dict.fromkeys(filter(_is_text, header), str)
    table = TextParser(rows, header=0, dtype=text, keep_default_na=False, na_values=numbers).read()
    # Empty text cells are empty text.
    return map_text(table.fillna(dict.fromkeys(text, "")), unescape_formula)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    text = map_text(table, escape_formula)
    # pandas quotes only the line terminator of the file, not the carriage return.
    returns = any("\r" in str(v) for _, column in text.items() if has_text(column) for v in column)
    quoting: Any = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    text.to_csv(path, index=False, encoding="utf-8", lineterminator="\n", quoting=quoting)


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False)


MAX_XLSX_ROWS = 2**20 - 1
"""Maximum number of rows of a workbook, below its header."""


def _write_xlsx(table: pd.DataFrame, path: Path, columns: Sequence[Column] = ()) -> None:
    from openpyxl import Workbook

    if len(table) > MAX_XLSX_ROWS:
        raise TableError(
            f"the table has {len(table):,} rows, and a sheet of Excel holds {MAX_XLSX_ROWS:,}",
            path,
            "Write CSV or Parquet",
        )
    workbook = Workbook(write_only=True)
    _fill_sheet(workbook.create_sheet("atomicity"), table)
    columns = [c for c in columns if c.name in table]
    if columns:
        _fill_sheet(workbook.create_sheet("columns"), describe_columns(columns))
    workbook.save(path)


def _fill_sheet(sheet: Any, table: pd.DataFrame) -> None:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ERROR_CODES, ILLEGAL_CHARACTERS_RE
    from openpyxl.styles import Font

    def clean(value: Any) -> Any:
        value = escape_formula(value)
        return ILLEGAL_CHARACTERS_RE.sub("�", value) if isinstance(value, str) else value

    # Row by row: three times as fast as pandas.
    sheet.freeze_panes = "A2"
    cleaned = map_text(table, clean)
    heads = [WriteOnlyCell(sheet, name) for name in cleaned.columns]
    for head in heads:
        head.font = Font(bold=True)
    sheet.append(heads)
    # One cell for each column of numbers: a row is written before the next one is made.
    cells = []
    for _, column in cleaned.items():
        number_format = _number_format(column)
        cell = WriteOnlyCell(sheet) if number_format else None
        if cell is not None:
            cell.number_format = number_format
        cells.append(cell)

    def as_cell(value: Any, cell: Any) -> Any:
        """Return a cell with the format of a number, or of text such as #N/A, no error value."""
        if isinstance(value, str) and value in ERROR_CODES:
            cell = WriteOnlyCell(sheet, value)
            cell.data_type = "s"
            return cell
        if cell is not None and value is not None:
            cell.value = value
            return cell
        return value

    for start in range(0, len(cleaned), _ROWS_AT_ONCE):
        part = cleaned.iloc[start : start + _ROWS_AT_ONCE]
        columns = [c.astype(object).where(c.notna(), None).tolist() for _, c in part.items()]
        for row in zip(*columns, strict=True):
            sheet.append([as_cell(value, cell) for value, cell in zip(row, cells, strict=True)])


def _number_format(column: pd.Series) -> str:
    """Return a format of a spreadsheet with four significant digits; "" for other columns."""
    if column.dtype.kind != "f":
        return ""
    size = column.abs()
    size = size[np.isfinite(size) & (size > 0)]
    digits = 3 - math.floor(math.log10(size.median())) if len(size) else 0
    digits = min(max(digits, 0), 6)
    return f"0.{'0' * digits}" if digits else "0"


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".xlsx": _write_xlsx,
}
_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".parquet": pd.read_parquet,
    ".xlsx": _read_xlsx,
}


def _of_suffix(registry: dict[str, Any], path: Path) -> Any:
    try:
        return registry[path.suffix.lower()]
    except KeyError:
        raise AtomicityError(
            f"tables can't be {path.suffix or 'files without suffix'}",
            path,
            f"Use one of {', '.join(registry)}",
        ) from None


# ---- tables of points
class Points(NamedTuple):
    """A table of points, and the names of its images including those without points."""

    table: pd.DataFrame
    images: tuple[str, ...] = ()


def read_points(
    # .csv, .parquet or .xlsx file, or a folder with a CSV file for each image. An empty file, or
    # one with a header only, has no points.
    path: str | os.PathLike[str],
) -> Points:
    """Read one table of points, or all CSV files of a folder as one.

    The table has the columns of the file. That of a folder also has the column ``image``, derived
    from the names of files if they lack it: ``field1_atoms`` is of ``field1.tif``. Raises
    `ReadError` if the file does not exist or is not a table.
    """
    path = Path(path)
    if not path.is_dir():
        return Points(_one(path))
    files = sorted(f for f in path.iterdir() if f.suffix.lower() == ".csv" and f.name[0] != ".")
    if not files:
        raise ReadError("this folder contains no .csv files", path)
    parts = [_one(file) for file in files]
    for i, file in enumerate(files):
        if "image" not in parts[i].columns:
            parts[i] = parts[i].assign(image=file.stem)
    table = pd.concat(parts, ignore_index=True)
    named = dict.fromkeys(name for part in parts for name in part["image"])
    empty = [file.stem for file, part in zip(files, parts, strict=True) if not len(part)]
    return Points(table, (*named, *empty))


def read_predicted_and_true(
    predicted: str | os.PathLike[str], truth: str | os.PathLike[str]
) -> tuple[pd.DataFrame, Points]:
    """Read predicted and true points.

    A table of true points without the column ``image`` belongs to the image of its file name.

    Raises `ReadError` as `read_points` does.
    """
    found, true = read_points(predicted).table, read_points(truth)
    several = "image" in found.columns and len(set(found["image"])) > 1
    if several and "image" not in true.table.columns:
        stem = Path(truth).stem
        return found, Points(true.table.assign(image=stem), (stem,))
    return found, true


def _one(path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".csv" and path.is_file() and not path.read_bytes().strip():
        return pd.DataFrame()
    table = read_table(path)
    return table.rename(columns={name: str(name).strip() for name in table.columns})
