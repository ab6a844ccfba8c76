"""Read tables of points: atom tables, and lists of positions of other programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..core.errors import ReadError
from .tables import read_table


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
