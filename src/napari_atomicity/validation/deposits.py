"""Deposited fractions of the samples of mixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from ..core.errors import TableError
from ..io.tables import read_table

Composition = dict[str, float]
"""Class → fraction; the fractions sum to 1."""


def read_deposits(path: Path, classes: Sequence[str]) -> dict[str, Composition]:
    """Read a table of deposited amounts.

    Raises `TableError` if a column is missing, a class is not known, or an amount is negative or
    not a number.
    """
    amounts = read_amounts(path)
    key = str(amounts.columns[0])
    unknown = sorted(set(amounts["class"]) - set(classes))
    if unknown:
        raise TableError(
            f"the class {unknown[0]!r} is not one of the size-selected images",
            path,
            f"The classes are {', '.join(classes)}",
        )
    found: dict[str, Composition] = {}
    for sample, rows in amounts.groupby(key, sort=False):
        total = rows["fraction"].sum()
        if total <= 0:
            raise TableError(
                f"the fractions of {sample} are all 0", path, "Write the amount of each class"
            )
        of_class = rows.groupby("class")["fraction"].sum() / total
        found[str(sample)] = {c: float(of_class.get(c, 0.0)) for c in classes}
    return found


def read_amounts(path: Path) -> pd.DataFrame:
    """Read the columns ``sample`` or ``image``, ``class`` and ``fraction``.

    Raises `ReadError` or `TableError` if the table can't be read, lacks a column, or an amount is
    negative or not a number.
    """
    table = read_table(path)
    key = next((name for name in ("sample", "image") if name in table), "sample")
    missing = [name for name in (key, "class", "fraction") if name not in table]
    if missing:
        raise TableError(
            f"the table lacks the column {' and '.join(missing)}",
            path,
            "Its columns are sample or image, class and fraction",
        )
    amount = pd.to_numeric(table["fraction"], errors="coerce")
    if not (amount >= 0).all():
        raise TableError(
            "a fraction is negative or not a number", path, "Write the amount of each class"
        )
    return table[[key, "class"]].astype({"class": str}).assign(fraction=amount)


def sample_of(
    image: str, stated: Mapping[str, str], deposits: Mapping[str, Composition] | None = None
) -> str:
    """Return the sample of an image.

    It is that of a table; or the name of the image or a pattern in the deposits; or its folder;
    else "all".
    """
    folder, _, name = image.rpartition("/")
    for key in (image, name):
        if key in stated:
            return stated[key]
    for sample in deposits or {}:
        if sample in (image, name, folder) or fnmatchcase(name, sample):
            return sample
    return folder or "all"
