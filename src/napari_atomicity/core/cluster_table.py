"""The cluster table: one row per cluster; its columns, units and validation.

============================  ==========================================================
column                        meaning
============================  ==========================================================
image                         name of the image (str)
frame                         index of the frame in a stack, else 0
cluster_id                    number of the cluster in its image, unique, never reused
y_px, x_px                    centre in pixels; the centre of the top-left pixel is 0, 0
y_nm, x_nm                    the same in nm
diameter_nm                   equivalent circular diameter of the outline
integrated_intensity          sum over the outline of (intensity - local background)
                              times the pixel area: detector counts times nm²
eccentricity                  of the outline, 0 (circle) to 1
touches_border                the outline is cut by the edge of the image
touches_neighbour             the outline meets that of another cluster
label                         what counts: the correction where there is one, else the
                              prediction; "" where there is neither
label_predicted               the model's label, never overwritten; "" before classification
label_corrected               a person's label; "" where there is none
confidence                    calibrated probability of label_predicted; 0 if that is no class
                              ("unknown", "aggregate")
p_<class>                     calibrated probability of each class
prediction_set                the labels that can't be ruled out, joined by "|"
ood_score                     how far from anything the model has learnt (1 = its limit)
umap_1, umap_2                place in the embedding's map
model_id                      the model that predicted
============================  ==========================================================

After these, where a model with a scale of intensity has classified (`ADDED`):

============================  ==========================================================
column                        meaning
============================  ==========================================================
conditions_differ             the conditions of the whole image are not those of the
                              model's training: neither labels nor ratios are to be
                              trusted before adaptation
n_atoms                       number of atoms on a continuous scale, between and beyond
                              the classes too
n_atoms_low, n_atoms_high     its 95 % interval, from held-out images
label_diameter                the class by the diameter alone
label_mixture                 by intensity and diameter, with the scale that the image's
                              own clusters give; silent on those that touch or are cut
label_network                 by the network alone
disagreement                  share, 0 to 1, of those three that speak and say another
                              class than the most probable one
excluded                      a person has excluded the region around it: it does not
                              count in ratios; only where regions were drawn
track_id                      number of the track that the cluster belongs to over the frames
                              of a stack, -1 if it is in none; only where clusters were linked
============================  ==========================================================

Values that could not be computed are NaN (numbers) or "" (text): rows keep their place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from .errors import TableError

UNKNOWN = "unknown"
"""The label of a cluster that is none of the model's classes."""
AGGREGATE = "aggregate"
"""The label of two clusters or more on top of each other."""
NON_CLASS_LABELS = (UNKNOWN, AGGREGATE)
"""Labels that the model and a person can give and that are no class; they have no fraction."""

_TEXT = "object"
BEFORE_PROBABILITIES = {
    "image": _TEXT,
    "frame": "int64",
    "cluster_id": "int64",
    "y_px": "float64",
    "x_px": "float64",
    "y_nm": "float64",
    "x_nm": "float64",
    "diameter_nm": "float64",
    "integrated_intensity": "float64",
    "eccentricity": "float64",
    "touches_border": "bool",
    "touches_neighbour": "bool",
    "label": _TEXT,
    "label_predicted": _TEXT,
    "label_corrected": _TEXT,
    "confidence": "float64",
}
AFTER_PROBABILITIES = {
    "prediction_set": _TEXT,
    "ood_score": "float64",
    "umap_1": "float64",
    "umap_2": "float64",
    "model_id": _TEXT,
}
ADDED = {
    "conditions_differ": "bool",
    "n_atoms": "float64",
    "n_atoms_low": "float64",
    "n_atoms_high": "float64",
    "label_diameter": _TEXT,
    "label_mixture": _TEXT,
    "label_network": _TEXT,
    "disagreement": "float64",
    "excluded": "bool",
    "track_id": "int64",
}
"""Columns that only some tables have, at their end."""
NO_TRACK = -1
"""The ``track_id`` of a cluster that is in no track."""


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Names of the probability columns of a model's classes."""
    return [f"p_{name}" for name in classes]


def classes_of(table: pd.DataFrame) -> list[str]:
    """The classes whose probabilities the table holds, in its order."""
    return [str(name)[2:] for name in table.columns if str(name).startswith("p_")]


def columns(classes: Sequence[str] = ()) -> dict[str, str]:
    """Every column with its dtype, in the order of the contract."""
    probabilities = dict.fromkeys(probability_columns(classes), "float64")
    return {**BEFORE_PROBABILITIES, **probabilities, **AFTER_PROBABILITIES}


def _default(dtype: str) -> object:
    return {"object": "", "bool": False, "int64": 0}.get(dtype, np.nan)


def conform(table: pd.DataFrame, classes: Sequence[str] | None = None) -> pd.DataFrame:
    """A copy with every column of the contract, in order and of the right dtype.

    Columns that are missing get the value that says "not computed"; additional columns are kept
    at the end, those of `ADDED` with their dtypes.

    Parameters
    ----------
    table
        Any table that holds at least some of the columns.
    classes
        Classes whose probability columns are wanted; those that the table has, if None.

    Raises
    ------
    TableError
        If a column holds what can't be of its dtype.
    """
    classes = classes_of(table) if classes is None else list(classes)
    wanted = columns(classes)
    out = {}
    for name, dtype in wanted.items():
        if name not in table.columns:
            out[name] = pd.Series([_default(dtype)] * len(table), index=table.index, dtype=dtype)
        elif dtype == _TEXT:
            out[name] = _text(table[name])
        else:
            try:
                out[name] = table[name].astype(dtype)  # type: ignore[call-overload]
            except (TypeError, ValueError) as error:
                what = f"the column {name} of the cluster table holds what is no {dtype} ({error})"
                raise TableError(what) from None
    stale = {c for c in table.columns if str(c).startswith("p_")}
    extra = {c: _added(table[c]) for c in table.columns if c not in out and c not in stale}
    conformed = pd.DataFrame({**out, **extra}, index=table.index).reset_index(drop=True)
    # From version 3 on pandas keeps names in Arrow, where going over them takes long.
    conformed.columns = pd.Index([*out, *extra], dtype=object)
    return conformed


def _text(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "").astype(object)


def _added(values: pd.Series) -> pd.Series:
    """An additional column; after a join with a table that lacks it, or a file, as it was."""
    dtype = ADDED.get(str(values.name))
    if dtype == _TEXT:
        return _text(values)
    if dtype == "bool":
        return values.astype(str).str.lower().isin(["true", "1", "1.0"])
    if dtype == "int64":
        return _tracks(values)
    # whole numbers of atoms, as in a ground truth, stay whole
    return values if dtype is None else pd.to_numeric(values)


def _tracks(values: pd.Series) -> pd.Series:
    """Numbers of tracks; clusters that came later, and those of images without any, have none."""
    try:
        numbers = pd.to_numeric(values).fillna(NO_TRACK)
        whole = numbers.astype("int64")
        if (whole != numbers).any():
            raise ValueError("a number is not whole")
    except (TypeError, ValueError) as error:
        what = f"the column {values.name} of the cluster table holds what is no int64 ({error})"
        raise TableError(what) from None
    return whole


def empty(classes: Sequence[str] = ()) -> pd.DataFrame:
    """A table without rows."""
    return conform(pd.DataFrame(), classes)


def settle_labels(table: pd.DataFrame) -> pd.DataFrame:
    """A copy whose ``label`` is the correction where there is one, else the prediction."""
    table = table.copy()
    corrected = table["label_corrected"].astype(object)
    table["label"] = corrected.where(corrected != "", table["label_predicted"])
    return table


def validate(table: pd.DataFrame) -> None:
    """Check a cluster table against the contract.

    Raises
    ------
    TableError
        If columns are missing, an id occurs twice in an image, a track has two clusters in one
        frame, or a value is impossible.
    """
    missing = [c for c in columns() if c not in table.columns]
    if missing:
        raise TableError(f"the cluster table lacks the columns {', '.join(missing)}")
    if table.duplicated(["image", "cluster_id"]).any():
        raise TableError("a cluster_id occurs twice in one image")
    position = table[["y_px", "x_px"]].to_numpy(float)
    if not np.isfinite(position).all():
        raise TableError("a cluster has no position")
    if "track_id" in table.columns:
        _validate_tracks(table)
    p = table[probability_columns(classes_of(table))].to_numpy(float)
    if p.size:
        done = np.isfinite(p).all(axis=1)
        if ((p[done] < -1e-6) | (p[done] > 1 + 1e-6)).any() or not np.allclose(
            p[done].sum(axis=1), 1, atol=1e-3
        ):
            raise TableError("class probabilities must lie in 0 to 1 and sum to 1")
    label = table["label"].where(table["label_corrected"] == "", table["label_corrected"])
    if not (table["label"] == label).all():
        raise TableError("label must be the correction where there is one")


def _validate_tracks(table: pd.DataFrame) -> None:
    tracks = table["track_id"]
    if tracks.dtype.kind != "i" or (tracks < NO_TRACK).any():
        raise TableError("track_id must be a whole number, -1 for a cluster in no track")
    followed = table[tracks != NO_TRACK]
    if followed.duplicated(["image", "track_id", "frame"]).any():
        raise TableError("a track has two clusters in one frame")


# ---- in words


def format_count(n_atoms: float, low: float, high: float) -> str:
    """``43 atoms (38–49)``; without the interval where it is not known, "" without a count."""
    if not math.isfinite(n_atoms):
        return ""
    said = f"{n_atoms:.0f} atom{'' if round(n_atoms) == 1 else 's'}"
    known = math.isfinite(low) and math.isfinite(high)
    return f"{said} ({low:.0f}–{high:.0f})" if known else said


@lru_cache(maxsize=4096)  # of thousands of clusters few are said of in words of their own
def format_disagreement(label: str, diameter: str, mixture: str, network: str) -> str:
    """``the diameter says Pt41, the mixture Pt30``: single estimators that don't say ``label``.

    Nothing of a label that is no class: they know classes only.
    """
    if label in ("", *NON_CLASS_LABELS):
        return ""
    said = (("diameter", diameter), ("mixture", mixture), ("network", network))
    other = [f"the {name} says {what}" for name, what in said if what not in ("", label)]
    return ", ".join([*other[:1], *(words.replace(" says ", " ") for words in other[1:])])


def format_rows(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Of each cluster `format_count` and `format_disagreement`, as far as the table knows."""
    n = len(table)

    def column(name: str, missing: object) -> list:
        # lists of Python's own numbers: numpy's take twice the time one by one
        return table[name].tolist() if name in table.columns else [missing] * n

    numbers = [column(f"n_atoms{end}", math.nan) for end in ("", "_low", "_high")]
    labels = [column(f"label_{name}", "") for name in ("diameter", "mixture", "network")]
    return (
        [format_count(*row) for row in zip(*numbers, strict=True)],
        [format_disagreement(*row) for row in zip(table["label"].tolist(), *labels, strict=True)],
    )


ALL = "all"
"""The scope of the ratios over all images."""


Key = tuple[str, int]
"""A cluster everywhere in the session: (image name, cluster_id)."""


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The clusters that a person has given a class."""
    labels = table["label_corrected"]
    return table[(labels != "") & ~labels.isin(NON_CLASS_LABELS)]
