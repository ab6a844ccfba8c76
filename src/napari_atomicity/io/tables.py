"""Cluster tables and ratios, in and out, as CSV, Parquet or XLSX by the suffix of the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import table as tables
from ..errors import AtomicityError, ReadError, TableError
from ..statistics.reference import normalised
from .files import replacing


def concatenate(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One cluster table of several, whose models may know different classes.

    The classes keep the order in which they are first met; a probability that a model could not
    give is NaN.
    """
    filled = [part for part in parts if len(part)]
    classes = dict.fromkeys(name for part in parts for name in tables.classes_of(part))
    if not filled:
        return tables.empty(list(classes))
    return tables.conform(pd.concat(filled, ignore_index=True), list(classes))


def write_clusters(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a cluster table with the columns of the contract, whole or not at all.

    Raises
    ------
    AtomicityError
        If the suffix is not .csv, .parquet or .xlsx, or the file can't be written.
    """
    return write_table(tables.conform(table), path)


def write_ratios(ratios: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write class ratios (`statistics.ratios.class_ratios`), whole or not at all.

    Raises
    ------
    AtomicityError
        If the suffix is not .csv, .parquet or .xlsx, or the file can't be written.
    """
    return write_table(ratios, path)


def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write any table, whole or not at all; see `write_clusters` for what it raises."""
    path = Path(path)
    write = _of_suffix(_WRITERS, path)
    with replacing(path) as temporary:
        write(table, temporary)
    return path


def read_clusters(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a cluster table that `write_clusters` wrote; every number is what it was.

    Raises
    ------
    ReadError
        If the file is missing or not such a file.
    TableError
        If columns are missing or values are impossible.
    """
    table = read_table(path)
    # An empty CSV has no types, and a table without positions is not a cluster table.
    if "image" in table.columns and "cluster_id" in table.columns:
        table = tables.conform(table)
    tables.validate(table)
    return table


def read_reference(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read reference ratios: columns class, fraction and, where they are not of all, scope.

    Returns
    -------
    pandas.DataFrame
        Columns ``scope, class, fraction``; fractions sum to 1 in each scope: see
        `statistics.reference`.

    Raises
    ------
    ReadError
        If the file is missing or not such a file.
    TableError
        If it is no reference.
    """
    path = Path(path)
    try:
        return normalised(read_table(path))
    except TableError as error:
        raise TableError(error.what, path, error.advice) from None


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read any table by its suffix; columns that hold text in a cluster table stay text.

    Raises
    ------
    ReadError
        If the file is missing or not such a file.
    """
    path = Path(path)
    read = _of_suffix(_READERS, path)
    try:
        return read(path)
    except FileNotFoundError as error:
        raise ReadError("there is no such file", path) from error
    except IsADirectoryError as error:
        raise ReadError("this is a folder, not a table", path) from error
    except OSError as error:
        raise ReadError(f"could not be read ({error.strerror or error})", path) from error
    except Exception as error:  # parsers raise what they like
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ReadError(f"this is no {path.suffix[1:]} table ({reason})", path) from error


_TEXT = ("scope", "class", "method", "note", "sample", *(
    name for name, dtype in tables.columns().items() if dtype == "object"
))  # fmt: skip


def _is_text(name: Any) -> bool:
    """Whether a column holds text; what single estimators say is in ``label_<estimator>``."""
    return name in _TEXT or str(name).startswith("label_")


def _read_csv(path: Path) -> pd.DataFrame:
    header = pd.read_csv(path, nrows=0).columns
    # "NA" may be the name of an image; an empty number is not zero.
    numbers = {name: ["", "nan", "NaN", "NA"] for name in header if not _is_text(name)}
    # From version 3 on pandas reads every digit by itself, and says so when told to.
    exact: dict[str, Any] = (
        {"float_precision": "round_trip"} if int(pd.__version__.partition(".")[0]) < 3 else {}
    )
    text = {name: str for name in header if _is_text(name)}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=numbers, **exact)


def _read_xlsx(path: Path) -> pd.DataFrame:
    header = pd.read_excel(path, nrows=0, engine="openpyxl").columns
    text = [name for name in header if _is_text(name)]
    table = pd.read_excel(path, dtype=dict.fromkeys(text, str), engine="openpyxl")
    # An empty cell of text is the empty text that was written.
    return table.fillna(dict.fromkeys(text, ""))


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, encoding="utf-8", lineterminator="\n")


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False)


def _write_xlsx(table: pd.DataFrame, path: Path) -> None:
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    clean = table.copy()
    for name in _text_columns(clean):
        clean[name] = clean[name].str.replace(ILLEGAL_CHARACTERS_RE, "�", regex=True)
    with pd.ExcelWriter(path, engine="openpyxl") as writer:
        clean.to_excel(writer, index=False, sheet_name="atomicity", freeze_panes=(1, 0))
        # A name that begins with "=" is a name, not a formula.
        for row in writer.sheets["atomicity"].iter_rows():
            for cell in row:
                if cell.data_type == "f":
                    cell.data_type = "s"


def _text_columns(table: pd.DataFrame) -> list[Any]:
    return [name for name in table.columns if _is_text(name) and len(table)]


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
            f"tables can't be {path.suffix or 'without suffix'}",
            path,
            f"Use one of {', '.join(registry)}",
        ) from None
