"""The atom table: one row per atom; its columns, units and validation.

============================  ==========================================================
column                        meaning
============================  ==========================================================
image                         name of the image (str)
frame                         index of the frame in a stack, else 0
atom_id                       number of the atom in its image, from 1, unique
y_px, x_px                    position in pixels; the centre of the top-left pixel is 0, 0
y_nm, x_nm                    the same in nm
confidence                    calibrated probability that an annotator marks an atom
                              there; NaN for an atom that an annotator added
intensity                     integral of the fitted spot above the local background:
                              detector counts times nm²
nearest_neighbour_nm          distance to the nearest other atom of the frame; NaN if it
                              is the only one
cluster_id                    the cluster of the cluster table that contains the atom;
                              missing without one
amplitude                     height of the fitted spot above the local background, counts
background                    the local background, counts
sigma_nm                      standard deviation of the fitted spot
uncertain                     the annotator was uncertain
group_id, group_size          group by linkage at the stated distance, and its number of
                              atoms; an isolated atom is a group of one
species                       component of the intensities; "" if not determined
origin                        "model" or "person"
model_id                      the model that detected it
============================  ==========================================================

Missing values are NaN (numbers) or "" (text).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..core.errors import TableError

MODEL, PERSON = "model", "person"
"""Values of ``origin``."""

_TEXT = "object"
COLUMNS = {
    "image": _TEXT,
    "frame": "int64",
    "atom_id": "int64",
    "y_px": "float64",
    "x_px": "float64",
    "y_nm": "float64",
    "x_nm": "float64",
    "confidence": "float64",
    "intensity": "float64",
    "nearest_neighbour_nm": "float64",
    "cluster_id": "Int64",
    "amplitude": "float64",
    "background": "float64",
    "sigma_nm": "float64",
    "uncertain": "bool",
    "group_id": "int64",
    "group_size": "int64",
    "species": _TEXT,
    "origin": _TEXT,
    "model_id": _TEXT,
}
"""Columns with their dtypes, in order."""
_DEFAULTS = {"object": "", "bool": False, "int64": 0, "Int64": pd.NA}


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

    Raises
    ------
    TableError
        If a column cannot be converted to its dtype.
    """
    out = {}
    for name, dtype in COLUMNS.items():
        if name not in table.columns:
            value = _DEFAULTS.get(dtype, np.nan)
            out[name] = pd.Series([value] * len(table), index=table.index, dtype=dtype)
            continue
        try:
            out[name] = _convert(table[name], dtype)
        except (TypeError, ValueError) as error:
            raise TableError(f"the column {name} of the atom table is invalid: {error}") from None
    extra = {c: table[c] for c in table.columns if c not in out}
    conformed = pd.DataFrame({**out, **extra}, index=table.index).reset_index(drop=True)
    conformed.columns = pd.Index([*out, *extra], dtype=object)
    return conformed


def _convert(values: pd.Series, dtype: str) -> pd.Series:
    if dtype == _TEXT:
        return values.astype(object).where(values.notna(), "").astype(object)
    if dtype == "bool":  # from a file too
        return values.astype(str).str.lower().isin(["true", "1", "1.0"])
    return pd.to_numeric(values).astype(dtype)  # type: ignore[call-overload]


def validate(table: pd.DataFrame) -> None:
    """Check the columns, ids and values of an atom table.

    Raises
    ------
    TableError
        If columns are missing, an id occurs twice in an image, or a value is impossible.
    """
    missing = [c for c in COLUMNS if c not in table.columns]
    if missing:
        raise TableError(f"the atom table lacks the columns {', '.join(missing)}")
    if table.duplicated(["image", "atom_id"]).any():
        raise TableError("the atom table has duplicate values of atom_id in one image")
    if not np.isfinite(table[["y_px", "x_px"]].to_numpy(float)).all():
        raise TableError("an atom has no position")
    confidence = table["confidence"].to_numpy(float)
    if ((confidence < 0) | (confidence > 1)).any():
        raise TableError("the confidence of an atom must be between 0 and 1")
    if not table["origin"].isin([MODEL, PERSON]).all():
        raise TableError(f"the origin of an atom must be {MODEL!r} or {PERSON!r}")
