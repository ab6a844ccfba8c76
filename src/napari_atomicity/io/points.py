"""Tables of points, in: atom tables, and lists of positions as others keep them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..core.errors import ReadError
from .tables import read_table


class Points(NamedTuple):
    """A table of points, and the images that its files stand for, also those without points."""

    table: pd.DataFrame
    images: tuple[str, ...] = ()


def read_points(path: str | os.PathLike[str]) -> Points:
    """Read one table of points, or all CSV files of a folder as one.

    Parameters
    ----------
    path
        .csv, .parquet or .xlsx, or a folder with a CSV for each image. An empty file, or one with
        a header only, has no points.

    Returns
    -------
    Points
        The table has the columns of the file. That of a folder has ``image`` as well, by the names
        of the files where these don't say it: ``field1_atoms`` is of ``field1.tif``.

    Raises
    ------
    ReadError
        If there is no such file, or it is no table.
    """
    path = Path(path)
    if not path.is_dir():
        return Points(_one(path))
    files = sorted(f for f in path.iterdir() if f.suffix.lower() == ".csv" and f.name[0] != ".")
    if not files:
        raise ReadError("there is no .csv file in this folder", path)
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
    """Two tables of points; a truth that names no image is of the one its file is named after.

    Raises
    ------
    ReadError
        As `read_points`.
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
