"""Tables of points: positions, image names and flags, read from the usual column names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import TableError
from .scores import pixel_sizes, truth_names

_NAMES_NM = (("y_nm", "x_nm"),)
_NAMES_PX = (("y_px", "x_px"), ("y", "x"), ("row", "col"), ("axis-0", "axis-1"))
_YES = {"1", "1.0", "true", "yes", "y", "x"}
_NO = {"0", "0.0", "false", "no", "n", "", "nan", "none", "<na>"}


def is_points(predicted: pd.DataFrame, truth: pd.DataFrame) -> bool:
    """Return whether two tables contain points rather than clusters.

    An atom table has ``atom_id``, a cluster table ``label`` or ``diameter_nm``. Other tables of
    positions contain points if neither has a column of clusters.
    """
    if "atom_id" in predicted.columns:
        return True
    return not {"label", "diameter_nm"} & {*predicted.columns, *truth.columns}


@dataclass(frozen=True, eq=False)
class PointField:
    """The points of one frame in nm; the pixel size is NaN if unknown."""

    image: str
    pixel_size_nm: float
    found: np.ndarray
    labelled: np.ndarray
    uncertain: np.ndarray
    empty: np.ndarray


def lower_case_columns(table: pd.DataFrame) -> dict[str, Any]:
    """Return the columns by name in lower case without blanks; the first of duplicates."""
    columns: dict[str, Any] = {}
    for name in table.columns:
        columns.setdefault(str(name).strip().lower(), name)
    return columns


def prepare_points(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """Convert a table of points to standard columns.

    Parameters
    ----------
    table : pandas.DataFrame
        A table of points; see `point_scores.evaluate_points`.
    what : str
        Name of the table in error messages.

    Returns
    -------
    pandas.DataFrame
        Columns ``image, frame, y_nm, x_nm, y_px, x_px`` (NaN if not given), ``atom, uncertain``.

    Raises
    ------
    TableError
        If positions, image names or frames are missing or invalid.
    """
    columns = lower_case_columns(table)
    out = pd.DataFrame(index=range(len(table)))
    out["image"] = _names(table[columns["image"]], what) if "image" in columns else ""
    out["image"] = out["image"].astype(object)
    out["frame"] = _frames(table[columns["frame"]], what) if "frame" in columns else 0
    placed = np.zeros(len(table), bool)
    for choices, unit in ((_NAMES_NM, "nm"), (_NAMES_PX, "px")):
        given = next((pair for pair in choices if set(pair) <= columns.keys()), None)
        for i, axis in enumerate("yx"):
            values = pd.to_numeric(table[columns[given[i]]], errors="coerce") if given else np.nan
            out[f"{axis}_{unit}"] = np.asarray(values, float)
        placed |= np.isfinite(out[[f"y_{unit}", f"x_{unit}"]].to_numpy(float)).all(axis=1)
    if not placed.all():
        raise TableError(
            f"{what} has no position in row {np.flatnonzero(~placed)[0] + 1}",
            advice="Columns y_nm and x_nm, y_px and x_px, or Y and X in pixels are needed",
        )
    for name, usual in (("atom", True), ("uncertain", False)):
        out[name] = _flags(table[columns[name]], what) if name in columns else usual
        out[name] = out[name].astype(bool)
    return out


def _names(values: pd.Series, what: str) -> np.ndarray:
    names = values.astype(object).where(values.notna(), "").astype(str)
    blank = (names.str.strip() == "").to_numpy(bool)
    if blank.any():
        raise TableError(
            f"{what} has no image name in row {np.flatnonzero(blank)[0] + 1}",
            advice="Fill in the column image, or omit it if all rows are of one image",
        )
    return names.to_numpy(object)


def _frames(values: pd.Series, what: str) -> np.ndarray:
    number = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
    wrong = ~((number >= 0) & (number == np.floor(number)))
    if wrong.any():
        raise TableError(
            f"{what} has no frame number in row {np.flatnonzero(wrong)[0] + 1}",
            advice="Count frames from 0, or omit the column if there is only one",
        )
    return number.astype(int)


def _flags(values: pd.Series, what: str) -> np.ndarray:
    text = values.astype(str).str.strip().str.lower()
    wrong = sorted(set(text) - _YES - _NO)
    if wrong:
        raise TableError(f"{what}: {values.name} is {wrong[0]}, neither 1 nor 0")
    return text.isin(_YES).to_numpy(bool)


def match_image_names(
    found: list[str], known: list[str], both_named: bool
) -> dict[str, str | None]:
    """Find the name in the truth of each image of the predictions.

    Raises `TableError` if a table of several images does not name them, or names are ambiguous.
    """
    if not both_named and len(found) == len(known) == 1:
        return {found[0]: known[0]}
    if not both_named and found and known:
        raise TableError(
            "the tables contain several images, and one of them does not name them",
            advice="Both tables need a column image",
        )
    return truth_names(found, known, begins=True)


def collect_fields(
    known: list[str],
    found: pd.DataFrame,
    labelled: pd.DataFrame,
    empty: pd.DataFrame,
    pixel_size_nm: float | None,
) -> list[PointField]:
    """Collect every frame of the truth's images that has points in either table.

    Parameters
    ----------
    empty : pandas.DataFrame
        Places labelled as having no atom.
    pixel_size_nm : float, optional
        Pixel size in nm; from positions given in both units if None.

    Raises
    ------
    TableError
        If a pixel size is needed and unknown.
    """
    sizes = pd.concat([t.assign(px_nm=pixel_sizes(t)) for t in (found, labelled, empty)])
    size_of = sizes.groupby("image")["px_nm"].median().to_dict()
    fields = []
    for image in known:
        size = pixel_size_nm or size_of.get(image, np.nan)
        parts = [t[t["image"] == image] for t in (found, labelled, empty)]
        for frame in sorted({0, *(f for part in parts for f in part["frame"])}):
            here = [part[part["frame"] == frame] for part in parts]
            if frame == 0 and not any(map(len, here)) and any(map(len, parts)):
                continue
            # The pixel size matters only with points in both tables.
            needed = len(here[0]) > 0 and len(here[1]) + len(here[2]) > 0
            points = [_in_nm(part, size, image, needed) for part in here]
            fields.append(
                PointField(image, size, points[0], points[1], here[1]["uncertain"].to_numpy(bool),
                       points[2])
            )  # fmt: skip
    return fields


def _in_nm(points: pd.DataFrame, size: float, image: str, needed: bool) -> np.ndarray:
    nm = points[["y_nm", "x_nm"]].to_numpy(float)
    if np.isfinite(nm).all():
        return nm
    if not np.isfinite(size):
        if needed:
            raise TableError(
                f"the pixel size of {image or 'the image'} is in neither table",
                advice="Give it (--pixel-size-nm), or add positions in nm",
            )
        return np.zeros_like(nm)
    return np.where(np.isfinite(nm), nm, points[["y_px", "x_px"]].to_numpy(float) * size)
