"""The cluster table: one row per cluster; its columns, units and validation.

`SCHEMA` lists the columns that every table has, `PROBABILITY` stands for one column per class, and
`OPTIONAL_SCHEMA` lists the columns that only some tables have. Values that could not be computed
are NaN (numbers) or "" (text); the row stays. The columns:
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from ..errors import TableError
from .columns import GROUP_COLUMNS, TEXT, Column, check_columns, conform_columns, flags, rst_table

UNKNOWN = "unknown"
"""The label of a cluster that belongs to no class of the model."""
AGGREGATE = "aggregate"
"""The label of two or more overlapping clusters."""
NON_CLASS_LABELS = (UNKNOWN, AGGREGATE)
"""Labels of the model and of people that are no class; they have no fraction."""

NO_TRACK = -1
"""The ``track_id`` of a cluster that is in no track."""

_TABLE = "cluster table"
_BEFORE_PROBABILITIES = (
    Column("image", TEXT, "", "name of the image", in_table=True),
    Column("frame", "int64", "", "index of the frame in a stack, 0 for a single image"),
    Column(
        "cluster_id",
        "int64",
        "",
        "number of the cluster in its image, unique, never reused",
        in_viewer=True,
        in_table=True,
    ),
    Column(
        "y_px",
        "float64",
        "px",
        "vertical centre (the centre of the top-left pixel is 0, 0)",
        nullable=False,
        decimals=1,
    ),
    Column("x_px", "float64", "px", "horizontal centre", nullable=False, decimals=1),
    Column("y_nm", "float64", "nm", "vertical centre", decimals=2),
    Column("x_nm", "float64", "nm", "horizontal centre", decimals=2),
    Column(
        "diameter_nm",
        "float64",
        "nm",
        "equivalent circular diameter of the outline",
        in_viewer=True,
        in_table=True,
    ),
    Column(
        "integrated_intensity",
        "float64",
        "detector counts times nm²",
        "sum over the outline of (intensity - local background) times the pixel area",
        in_viewer=True,
        in_table=True,
    ),
    Column(
        "eccentricity",
        "float64",
        "",
        "eccentricity of the outline, 0 (circle) to 1",
        in_viewer=True,
    ),
    Column(
        "touches_border", "bool", "", "the outline is cut by the edge of the image", in_viewer=True
    ),
    Column(
        "touches_neighbour",
        "bool",
        "",
        "the outline touches that of another cluster",
        in_viewer=True,
    ),
    Column(
        "label",
        TEXT,
        "",
        "label that counts: the correction if there is one, otherwise the prediction",
        in_viewer=True,
        in_table=True,
    ),
    Column(
        "label_predicted",
        TEXT,
        "",
        "label of the model, never overwritten; empty before classification",
        in_viewer=True,
    ),
    Column(
        "label_corrected",
        TEXT,
        "",
        "label given by a person; empty without a correction",
        in_viewer=True,
    ),
    Column(
        "confidence",
        "float64",
        "",
        'calibrated probability of label_predicted; 0 for "unknown" and "aggregate"',
        in_viewer=True,
        in_table=True,
    ),
)
PROBABILITY = Column("p_<class>", "float64", "", "calibrated probability of each class")
_AFTER_PROBABILITIES = (
    Column(
        "prediction_set",
        TEXT,
        "",
        'labels that can not be ruled out, joined by "|"',
        in_viewer=True,
        in_table=True,
    ),
    Column(
        "ood_score",
        "float64",
        "",
        "OOD score: distance from the training data in the embedding, relative to the limit of "
        "the model: above 1 is out of distribution",
        in_viewer=True,
        in_table=True,
    ),
    Column("umap_1", "float64", "", "first coordinate in the map of the embedding"),
    Column("umap_2", "float64", "", "second coordinate in the map of the embedding"),
    Column("model_id", TEXT, "", "model that predicted the label", in_table=True),
)
SCHEMA = (*_BEFORE_PROBABILITIES, *_AFTER_PROBABILITIES)
"""Columns that every table has; the probabilities of the classes come before the last five."""
OPTIONAL_SCHEMA = (
    Column(
        "conditions_differ",
        "bool",
        "",
        "the conditions of the image differ from those of the training: labels and ratios are not "
        "reliable before adaptation",
    ),
    Column(
        "n_atoms",
        "float64",
        "",
        "number of atoms on a continuous scale, also between and beyond the classes",
        decimals=1,
        in_table=True,
    ),
    Column(
        "n_atoms_low",
        "float64",
        "",
        "lower end of the 95 % interval of n_atoms, from held-out images",
    ),
    Column(
        "n_atoms_high",
        "float64",
        "",
        "upper end of the 95 % interval of n_atoms, from held-out images",
    ),
    Column("label_diameter", TEXT, "", "class from the diameter alone"),
    Column(
        "label_mixture",
        TEXT,
        "",
        "class from intensity and diameter by the constrained mixture model; empty for clusters "
        "that touch another one or the border",
    ),
    Column("label_network", TEXT, "", "class from the network alone"),
    Column(
        "disagreement",
        "float64",
        "",
        "fraction of these three estimates, 0 to 1, that differ from the most probable class",
    ),
    Column(
        "excluded",
        "bool",
        "",
        "the cluster is in a region that a person has excluded and does not count in ratios",
    ),
    Column(
        "track_id",
        "int64",
        "",
        "number of the track of the cluster in a stack; -1 if it is in no track",
        missing_value=NO_TRACK,
    ),
    Column(
        "clipped",
        "float64",
        "",
        "fraction of the pixels inside the outline at the upper limit of the recorded range; "
        "what they have lost is estimated in integrated_intensity",
    ),
    Column(
        "response",
        "float64",
        "",
        "relative response of the recording at the cluster, by which intensities are divided; 1 "
        "without shading",
    ),
    Column(
        "session_umap_1",
        "float64",
        "",
        "first coordinate in a map that was fitted to the clusters of a session",
    ),
    Column(
        "session_umap_2",
        "float64",
        "",
        "second coordinate in a map that was fitted to the clusters of a session",
    ),
    *GROUP_COLUMNS,
)
"""Columns that only some tables have, at their end."""
RECORDING = ("clipped", "response")
"""Optional columns that are measured where a recording is clipped or shaded."""
MODEL_MAP = ("umap_1", "umap_2")
"""Coordinates in the map of the model."""
SESSION_MAP = ("session_umap_1", "session_umap_2")
"""Coordinates in a map of the clusters of a session."""
_COLUMNS = {column.name: column for column in (*SCHEMA, *OPTIONAL_SCHEMA)}

BEFORE_PROBABILITIES = {column.name: column.dtype for column in _BEFORE_PROBABILITIES}
"""Columns before the probabilities with their dtypes, in order."""
AFTER_PROBABILITIES = {column.name: column.dtype for column in _AFTER_PROBABILITIES}
"""Columns after the probabilities with their dtypes, in order."""
OPTIONAL = {column.name: column.dtype for column in OPTIONAL_SCHEMA}
"""Columns that only some tables have with their dtypes, in order."""

__doc__ = f"{__doc__}\n{rst_table((*_BEFORE_PROBABILITIES, PROBABILITY, *_AFTER_PROBABILITIES))}"
__doc__ += f"\nOnly some tables have these, at their end:\n\n{rst_table(OPTIONAL_SCHEMA)}"


def documented_columns() -> tuple[Column, ...]:
    """Return every column in the order of the documentation, one entry for all probabilities."""
    return (*_BEFORE_PROBABILITIES, PROBABILITY, *_AFTER_PROBABILITIES, *OPTIONAL_SCHEMA)


@lru_cache(maxsize=256)
def column_of(name: str) -> Column | None:
    """Return the column of this name, or None if the schema does not have it.

    The column of the probability of a class has its own name and description.
    """
    if name.startswith("p_"):
        text = PROBABILITY.description.replace("each class", name[2:])
        return replace(PROBABILITY, name=name, description=text)
    return _COLUMNS.get(name)


def own_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of numbers that are not of the schema: measurements of one's own."""
    return [
        str(name)
        for name in table.columns
        if column_of(str(name)) is None and table[name].dtype.kind in "fiub"
    ]


def check_own_column(name: str) -> None:
    """Raise `TableError` if a measurement of one's own can not have this name."""
    if not name.isidentifier():
        raise TableError(
            f"{name!r} can not be the name of a measurement",
            advice="Use letters, digits and underscores, and begin with a letter",
        )
    if column_of(name) is not None or name.startswith("label_"):
        raise TableError(
            f"the measurement {name} has the name of a column of the cluster table",
            advice="Choose another name for the measurement",
        )


def probability_columns(classes: Sequence[str]) -> list[str]:
    """Return the names of the probability columns of the classes of a model."""
    return [f"p_{name}" for name in classes]


def classes_of(table: pd.DataFrame) -> list[str]:
    """Return the classes whose probabilities the table holds, in its order."""
    return classes_among(table.columns)


def classes_among(names: Iterable[str]) -> list[str]:
    """Return the classes whose columns of probabilities are among these names, in their order."""
    return [str(name)[2:] for name in names if str(name).startswith("p_")]


def explained_classes(table: pd.DataFrame) -> np.ndarray:
    """Return the class that the class maps of each cluster explain; "" if it is not classified.

    It is the predicted class. Clusters without one, such as unknown ones, have their most probable
    class.
    """
    predicted = table["label_predicted"].to_numpy(object)
    classes = classes_of(table)
    if not classes:
        return np.full(len(table), "", object)
    p = table[probability_columns(classes)].to_numpy(float)
    best = np.array(classes, object)[np.nan_to_num(p, nan=-1.0).argmax(axis=1)]
    best[~np.isfinite(p).any(axis=1)] = ""
    return np.where(np.isin(predicted, classes), predicted, best)


def columns(classes: Sequence[str] = ()) -> dict[str, str]:
    """Return every column that a table must have with its dtype, in order."""
    probabilities = dict.fromkeys(probability_columns(classes), PROBABILITY.dtype)
    return {**BEFORE_PROBABILITIES, **probabilities, **AFTER_PROBABILITIES}


def conform(
    table: pd.DataFrame,
    classes: Sequence[str] | None = None,  # those of the probability columns; of the table if None
) -> pd.DataFrame:
    """Return a copy with every column of the schema, in order and with the right dtype.

    Missing columns get the value for "not computed". Additional columns stay at the end; those of
    `OPTIONAL` get their dtypes. The index is new. Raises `TableError` if the values of a column do
    not have its dtype.
    """
    found = probability_columns(classes_of(table))
    wanted = found if classes is None else probability_columns(classes)
    unwanted = [name for name in found if name not in wanted]
    probabilities = [replace(PROBABILITY, name=name) for name in wanted]
    columns = (*_BEFORE_PROBABILITIES, *probabilities, *_AFTER_PROBABILITIES)
    return conform_columns(table.drop(columns=unwanted), columns, _TABLE, OPTIONAL_SCHEMA)


def empty(classes: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table without rows."""
    return conform(pd.DataFrame(), classes)


def concatenate(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate tables, also of models with different classes, or of which some have no tracks.

    Classes keep the order of their first occurrence. Probabilities of classes that a model does
    not have are NaN.
    """
    filled = [part for part in parts if len(part)]
    classes = dict.fromkeys(name for part in parts for name in classes_of(part))
    if not filled:
        return empty(list(classes))
    return conform(pd.concat(filled, ignore_index=True), list(classes))


def settle_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose ``label`` is the correction if there is one, otherwise the prediction."""
    table = table.copy()
    corrected = table["label_corrected"].astype(object)
    table["label"] = corrected.where(corrected != "", table["label_predicted"])
    return table


def validate(table: pd.DataFrame) -> None:
    """Check a cluster table against the schema.

    Raises `TableError` if columns or positions are missing, an id occurs twice in an image, a track
    has two clusters in one frame, or a value is impossible.
    """
    check_columns(table, SCHEMA, _TABLE, "cluster_id")
    if "track_id" in table.columns:
        _validate_tracks(table)
    names = probability_columns(classes_of(table))
    if names and len(table):
        p = np.stack([table[name].to_numpy(float) for name in names], axis=1)
        known = np.isfinite(p).all(axis=1)
        if ((p[known] < -1e-6) | (p[known] > 1 + 1e-6)).any() or not np.allclose(
            p[known].sum(axis=1), 1, atol=1e-3
        ):
            raise TableError("class probabilities must be between 0 and 1 and sum to 1")
    label, corrected = table["label"].to_numpy(object), table["label_corrected"].to_numpy(object)
    if ((label != corrected) & (corrected != "")).any():
        raise TableError("label must be the correction where there is one")


def _validate_tracks(table: pd.DataFrame) -> None:
    tracks = table["track_id"]
    if tracks.dtype.kind != "i" or (tracks < NO_TRACK).any():
        raise TableError("track_id must be an integer, -1 for a cluster in no track")
    linked = table[tracks != NO_TRACK]
    if linked.duplicated(["image", "track_id", "frame"]).any():
        raise TableError("a track has two clusters in one frame")


# ---- text
# Of one atom and of several, without and with an interval, and of an unknown number.
_COUNT_TEMPLATES = (
    "{:.0f} atom",
    "{:.0f} atoms",
    "{:.0f} atom ({:.0f}–{:.0f})",
    "{:.0f} atoms ({:.0f}–{:.0f})",
    "",
)


def _format_counts(
    n_atoms: np.ndarray,  # (n_clusters,): numbers of atoms; NaN if not known
    # low, high, each (n_clusters,): 95 % interval; NaN if not known
    low: np.ndarray,
    high: np.ndarray,
) -> list[str]:
    """Format numbers of atoms as ``43 atoms (38–49)``."""
    has_interval = np.isfinite(low) & np.isfinite(high)
    kind = (np.round(n_atoms) != 1) + 2 * has_interval
    templates = np.array(_COUNT_TEMPLATES, object)[np.where(np.isfinite(n_atoms), kind, 4)]
    # Python numbers: those of NumPy take twice the time one by one.
    return list(map(str.format, templates, n_atoms.tolist(), low.tolist(), high.tolist()))


@lru_cache(maxsize=4096)  # few combinations of labels occur among thousands of clusters
def format_disagreement(
    label: str,
    # diameter, mixture, network: classes from the single estimators; "" where there is none
    diameter: str,
    mixture: str,
    network: str,
) -> str:
    """Format which single estimators disagree with a label: ``the diameter says Pt41``.

    The result is "" without disagreement, and for labels that are no class: estimators know
    classes only.
    """
    if label in ("", *NON_CLASS_LABELS):
        return ""
    estimates = (("diameter", diameter), ("mixture", mixture), ("network", network))
    other = [f"the {name} says {found}" for name, found in estimates if found not in ("", label)]
    return ", ".join([*other[:1], *(text.replace(" says ", " ") for text in other[1:])])


def class_confidence(label: Any, confidence: Any) -> np.ndarray:  # shape () or (N,)
    """Return the confidence in a label; NaN for a label that is no class, which has none."""
    labels = np.asarray(label, object)
    no_class = np.zeros(labels.shape, bool)
    for other in ("", *NON_CLASS_LABELS):
        no_class |= labels == other
    return np.where(no_class, np.nan, np.asarray(confidence, float))


def shown_values(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as it is shown: predictions that are no class have no confidence."""
    values = table[column]
    if column != "confidence":
        return values
    return pd.Series(class_confidence(table["label_predicted"], values), table.index)


def format_label(row: Mapping[str, Any]) -> str:
    """Format the label of a cluster, who has given it, and the confidence of the prediction."""
    label, prediction = row["label"] or "not classified", row["label_predicted"]
    words = [f"{label} by a person" if row["label_corrected"] else label]
    confidence = class_confidence(prediction, row["confidence"])
    if np.isfinite(confidence):
        # Where a person has given the label, the confidence is not that of this label.
        whose = f" of the model in {prediction}" if row["label_corrected"] else ""
        words.append(f"confidence{whose} {100 * confidence:.0f} %")
    return ", ".join(words)


def format_rows(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Format number of atoms, ``43 atoms (38–49)`` or "", and disagreement of each cluster."""
    counts = [""] * len(table)
    if "n_atoms" in table.columns:
        numbers = table.reindex(columns=["n_atoms", "n_atoms_low", "n_atoms_high"])
        counts = _format_counts(*numbers.to_numpy(float).T)
    names = ["label", "label_diameter", "label_mixture", "label_network"]
    labels = table.reindex(columns=names, fill_value="").to_numpy(object).T
    return counts, list(map(format_disagreement, *labels))


ALL = "all"
"""The scope of the ratios over all images."""


Key = tuple[str, int]
"""Identifies a cluster in a project: (image name, cluster_id)."""


def is_excluded(table: pd.DataFrame) -> np.ndarray:
    """Return which clusters are in regions that a person has excluded (N,)."""
    if "excluded" not in table.columns:
        return np.zeros(len(table), bool)
    excluded = table["excluded"]
    # Missing where tables were joined of which some have no regions.
    return excluded.to_numpy() if excluded.dtype == bool else flags(excluded).to_numpy(bool)


def is_whole(table: pd.DataFrame) -> np.ndarray:
    """Return which clusters are neither cut by the border nor excluded (N,)."""
    return ~table["touches_border"].to_numpy(bool) & ~is_excluded(table)


def is_measured(table: pd.DataFrame) -> np.ndarray:
    """Return which clusters have a size (N,): one added by hand on bare support has none."""
    return np.isfinite(table["diameter_nm"].to_numpy(float))


def first_reasons(reasons: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the clusters of each reason (N,), each cluster for the first of its reasons."""
    before: Any = np.False_
    out = {}
    for reason, rows in reasons.items():
        out[reason] = rows & ~before
        before = before | rows
    return out


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Return the clusters to which a person has given a class."""
    labels = table["label_corrected"]
    return table[(labels != "") & ~labels.isin(NON_CLASS_LABELS)]


def learnable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the corrected clusters from which a model can learn.

    They are whole, measured and not excluded.
    """
    named = corrected(table)
    return named[is_whole(named) & is_measured(named)]
