"""The atom table: one row per atom; its columns, units and validation.

Values that could not be computed are NaN (numbers) or "" (text). The columns, of which the last two
are those of files:
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ..core.errors import TableError
from ..core.tables.columns import (
    GROUP_COLUMNS,
    TEXT,
    Column,
    check_columns,
    conform_columns,
    rst_table,
)

MODEL, PERSON = "model", "person"
"""Values of ``origin``."""

_TABLE = "atom table"
SCHEMA = (
    Column("image", TEXT, "", "name of the image"),
    Column("frame", "int64", "", "index of the frame in a stack, 0 for a single image"),
    Column("atom_id", "int64", "", "number of the atom in its image, from 1, unique"),
    Column(
        "y_px",
        "float64",
        "px",
        "vertical position (the centre of the top-left pixel is 0, 0)",
        nullable=False,
    ),
    Column("x_px", "float64", "px", "horizontal position", nullable=False),
    Column("y_nm", "float64", "nm", "vertical position"),
    Column("x_nm", "float64", "nm", "horizontal position"),
    Column(
        "confidence",
        "float64",
        "",
        "calibrated probability that an annotator marks an atom there; missing for an atom that an "
        "annotator added",
    ),
    Column(
        "intensity",
        "float64",
        "detector counts times nm²",
        "integral of the fitted spot above the local background",
    ),
    Column(
        "nearest_neighbour_nm",
        "float64",
        "nm",
        "distance to the nearest other atom of the frame; missing if it is the only one",
    ),
    Column("cluster_id", "Int64", "", "cluster of the cluster table that contains the atom"),
    Column(
        "amplitude",
        "float64",
        "detector counts",
        "height of the fitted spot above the local background",
    ),
    Column("background", "float64", "detector counts", "local background"),
    Column("sigma_nm", "float64", "nm", "standard deviation of the fitted spot"),
    Column("uncertain", "bool", "", "the annotator was uncertain"),
    Column("group_id", "int64", "", "group by linkage at the stated distance"),
    Column("group_size", "int64", "", "number of atoms of the group; 1 for an isolated atom"),
    Column(
        "group_extent_nm",
        "float64",
        "nm",
        "largest distance between two atoms of the group; 0 for an isolated atom",
    ),
    Column("species", TEXT, "", "component of the intensities; empty if not determined"),
    Column("origin", TEXT, "", '"model" or "person"'),
    Column("model_id", TEXT, "", "model that detected the atom"),
)
"""Columns of every atom table."""
COLUMNS = {column.name: column.dtype for column in SCHEMA}
"""Columns with their dtypes, in order."""
__doc__ = f"{__doc__}\n{rst_table((*SCHEMA, *GROUP_COLUMNS))}"


def empty_table() -> pd.DataFrame:
    """Return a table without rows."""
    return conform(pd.DataFrame())


def concat_atom_tables(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate atom tables; empty if all of them are."""
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else empty_table()


def conform(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with all columns, in order and with the right dtype.

    Missing columns get missing values; additional columns are kept at the end.

    Raises `TableError` if a column cannot be converted to its dtype.
    """
    return conform_columns(table, SCHEMA, _TABLE, GROUP_COLUMNS)


def validate(table: pd.DataFrame) -> None:
    """Check the columns, ids and values of an atom table.

    Raises `TableError` if columns are missing, an id occurs twice in an image, or a value is
    impossible.
    """
    check_columns(table, SCHEMA, _TABLE, "atom_id")
    confidence = table["confidence"].to_numpy(float)
    if ((confidence < 0) | (confidence > 1)).any():
        raise TableError("the confidence of an atom must be between 0 and 1")
    if not table["origin"].isin([MODEL, PERSON]).all():
        raise TableError(f"the origin of an atom must be {MODEL!r} or {PERSON!r}")
