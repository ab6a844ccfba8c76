"""Read an analysis from the rows of a project's tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ..core.errors import CalibrationError, ReadError
from ..core.micrograph import Micrograph, checked_pixel_size
from ..core.tables import cluster_table as tables
from ..core.tables.columns import TEXT
from ..core.tables.table_cache import Columns, table_of
from ..io.readers.lazy_micrograph import LazyMicrograph
from ..models.analysis import Analysis
from ..models.estimators import LABELS_FROM
from ..statistics.ratios.ratio_notes import COMBINATION, ImageLimits
from .cached_arrays import LazyPictures, read_arrays
from .damage import (
    MAX_NUMBER,
    as_count,
    as_number,
    as_shape,
    check_polygons,
    damage_as_error,
    is_path,
    read_json,
)
from .rows import MEASURED, PIXEL_SIZE, PREDICTED, WITH_OWN_PLACE

# ---- the analysis of an image as it is stored in a project

_NO_TABLE = pd.DataFrame()
_SAME_SIZE = 1e-6
"""Largest relative difference of equal pixel sizes."""


class StoredAnalysis(Analysis):
    """An analysis whose table is made of its columns when it is used.

    A project has many images, most of which are not looked at. Of a changed analysis
    (`dataclasses.replace`) the table is at hand.
    """

    columns: Columns

    @classmethod
    def of(
        cls, columns: Columns, micrograph: Micrograph, outlines: list[Any], *others: Any
    ) -> Self:
        """Return an analysis without its table."""
        analysis = cls(micrograph, _NO_TABLE, outlines, *others)
        del analysis.__dict__["table"]  # the property makes it
        analysis.__dict__["columns"] = columns
        return analysis

    def column(self, name: str) -> np.ndarray:
        """Return a column of the table; it must not be written to."""
        known = vars(self).get("columns")
        return super().column(name) if known is None else known[name]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Cluster table."""
        return table_of(self.columns)


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Columns of the cluster table of an image, and the outlines of its clusters."""

    columns: Columns
    outlines: list[np.ndarray]


def read_positions(db: sqlite3.Connection, image_id: int) -> pd.DataFrame:
    """Return the positions of the clusters of an image, without reading anything else."""
    return pd.read_sql_query(
        "SELECT cluster_id, frame, y_px, x_px, y_nm, diameter_nm FROM clusters WHERE image_id = ?",
        db,
        params=(image_id,),
    )


def read_predictions(db: sqlite3.Connection, image_id: int, model_id: str) -> pd.DataFrame:
    """Return the predictions of a model for an image, a row for each cluster."""
    found = pd.read_sql_query(
        "SELECT * FROM predictions WHERE image_id = ? AND model_id = ?",
        db,
        params=(image_id, model_id),
    )
    return with_probabilities(db, found).drop(columns=["image_id", "time"])


def read_image(
    db: sqlite3.Connection,
    image: str,
    image_id: int,
    place: Callable[[Any, Any], Path],  # ``place(path, relative_path)`` returns where a file is now
    pictures: LazyPictures | None = None,
    rows: StoredRows | None = None,
) -> tuple[LazyMicrograph, StoredAnalysis | None, int, str]:
    """Read the micrograph and the analysis of an image, as far as they are not damaged."""
    row = db.execute(
        "SELECT path, relative_path, sha256, frames, height, width, is_stack, pixel_size_nm, "
        "metadata, analysed, name FROM images WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    path, relative, digest, *sizes, pixel_size, metadata, analysed, name = row
    damage, analysis, known = [], None, {}
    if name != image:
        damage.append("the stored name of the image is damaged")
    if not (is_path(path) and is_path(relative)):
        damage.append("the stored path of the image is damaged")
    try:
        with damage_as_error("the stored metadata"):
            known = read_json(metadata, dict)
    except ReadError as error:
        damage.append(error.what)
    micrograph = LazyMicrograph(
        place(path, relative),
        as_shape(*sizes),
        _plausible_size(pixel_size),
        name=image,
        sha256=digest if isinstance(digest, str) else None,
        metadata=known,
    )
    try:
        with damage_as_error("the description of the image"):
            _check_image(micrograph, digest, sizes, pixel_size)
        with damage_as_error("the stored analysis"):
            if analysed:
                analysis = _read_analysis(db, image_id, micrograph, pictures, rows)
    except ReadError as error:
        damage.append(error.what)
    return micrograph, analysis, _next_id(db, image_id), "; ".join(damage)


def _plausible_size(pixel_size_nm: Any) -> float | None:
    try:
        return None if pixel_size_nm is None else checked_pixel_size(pixel_size_nm, "")
    except (ValueError, TypeError, CalibrationError):
        return None


def _check_image(micrograph: LazyMicrograph, digest: Any, sizes: list[Any], size_nm: Any) -> None:
    """Raise `ValueError` if a stored value is there and was not valid."""
    if digest != micrograph.sha256:
        raise ValueError("the hash is no text")
    if sizes[1] is not None and as_shape(*sizes) is None:
        raise ValueError("the size of the image is no number of pixels")
    if size_nm is not None and micrograph.pixel_size_nm is None:
        raise ValueError("the pixel size is no length")


def _next_id(db: sqlite3.Connection, image_id: int) -> int:
    """Return an id that no cluster of the image ever had."""
    last = "SELECT max(cluster_id) FROM {} WHERE image_id = ? AND typeof(cluster_id) = 'integer'"
    used = [
        db.execute(f"{last.format(table)} AND cluster_id < {MAX_NUMBER}", (image_id,)).fetchone()[0]
        for table in ("clusters", "corrections")
    ]
    stored = db.execute("SELECT next_id FROM images WHERE image_id = ?", (image_id,)).fetchone()[0]
    return max(as_count(stored), 1, *((i or 0) + 1 for i in used))


def _read_analysis(
    db: sqlite3.Connection,
    image_id: int,
    micrograph: LazyMicrograph,
    pictures: LazyPictures | None,
    rows: StoredRows | None,
) -> StoredAnalysis:
    """Read the analysis of an image; damaged values raise any error."""
    parameters, scale, field_of_view, regions, seconds = db.execute(
        "SELECT parameters, scale, field_of_view_nm, regions, seconds FROM images "
        "WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    rows = rows or read_tables(db, {image_id: micrograph.name})[image_id]
    ids = rows.columns["cluster_id"].tolist()
    arrays = (read_arrays if pictures is None else pictures.arrays)(db, image_id, ids)
    polygons = tuple(np.asarray(r, float) for r in read_json(regions, list))
    check_polygons(polygons, 3)
    durations = read_json(seconds, dict)
    if field_of_view is not None and as_number(field_of_view) is None:
        raise ValueError("the field of view is no length")
    if not all(isinstance(value, (int, float)) for value in durations.values()):
        raise ValueError("a duration is no number")
    kept = _checked_parameters(read_json(parameters, dict))
    return StoredAnalysis.of(
        rows.columns,
        _as_analysed(micrograph, rows.columns, kept.pop(PIXEL_SIZE, None)),
        rows.outlines,
        *arrays,
        field_of_view or 0.0,
        _scale(scale),
        kept,
        durations,
        polygons,
    )


def _as_analysed(micrograph: LazyMicrograph, columns: Columns, stored: object) -> LazyMicrograph:
    """Return the image with the pixel size of its clusters: a person may have changed it since.

    Without clusters, it is the one that is stored with the parameters of the analysis.
    """
    stored_nm = as_number(stored)
    if stored_nm and not len(columns["y_px"]):
        return micrograph.with_pixel_size(_plausible_size(stored_nm) or micrograph.pixel_size_nm)
    size_nm, found = micrograph.pixel_size_nm, columns["y_px"] > 0
    with np.errstate(all="ignore"):
        ratios = columns["y_nm"][found] / columns["y_px"][found]
    if size_nm is None or not len(ratios) or np.allclose(ratios, size_nm, rtol=_SAME_SIZE, atol=0):
        return micrograph
    analysed_nm = _plausible_size(float(np.median(ratios)))
    if analysed_nm is None or not np.allclose(ratios, analysed_nm, rtol=_SAME_SIZE, atol=0):
        return micrograph  # the positions are damaged
    return micrograph.with_pixel_size(analysed_nm)


def _checked_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of an analysis if those that the program reads have their types."""
    for name in ("model", "detection", "session", "recording", "movie", "scale_solutions"):
        if not isinstance(parameters.get(name) or {}, dict):
            raise ValueError(f"the parameter {name} is no group of values")
    model = parameters.get("model") or {}
    if not isinstance(model.get("model_id", ""), str):
        raise ValueError("the id of the model is no text")
    certainty = parameters.get("certainty_of_scale")
    if certainty is not None and as_number(certainty) is None:
        raise ValueError("the certainty of the scale is no number")
    units = [parameters.get("intensity_per_atom", 1.0), *parameters.get("own_units", [])]
    if not all((as_number(unit) or 0) > 0 for unit in units):
        raise ValueError("a unit of the intensity is no positive number")
    if parameters.get("labels_from", COMBINATION) not in list(LABELS_FROM):  # it may be any value
        raise ValueError("the estimator of the labels is none of this program")
    limits = ImageLimits.from_parameters(parameters)
    if limits.solutions is not None:
        limits.solutions.shifts(0)
    return parameters


def read_tables(db: sqlite3.Connection, images: Mapping[int, str]) -> dict[int, StoredRows]:
    """Read the cluster tables and the outlines of images; damaged values raise any error."""
    own = [
        *("cluster_id", *MEASURED, *tables.RECORDING),
        *("measurements", "label_corrected", "track_id", "outline"),
    ]
    rows = db.execute(
        f"SELECT c.image_id, {', '.join('c.' + name for name in own)}, coalesce(c.model_id, ''), "
        f"{', '.join('p.' + name for name in PREDICTED)}, probabilities FROM clusters c "
        "LEFT JOIN predictions p ON p.image_id = c.image_id AND p.cluster_id = c.cluster_id AND "
        f"p.model_id = c.model_id WHERE c.image_id IN ({', '.join('?' * len(images))}) "
        "ORDER BY c.image_id, c.cluster_id",
        list(images),
    ).fetchall()
    names = ["image_id", *own, "model_id", *PREDICTED, "probabilities"]
    values = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    first = np.searchsorted(values.pop("image_id"), [list(images), [i + 1 for i in images]])
    outlines = [np.frombuffer(o, np.float32).reshape(-1, 2) for o in values.pop("outline")]
    check_polygons(outlines)
    texts = {name: values.pop(name, ()) for name in ("measurements", "probabilities")}
    columns = {
        name: _column(name, found)
        for name, found in values.items()
        # Columns that no cluster has are not there, rather than empty.
        if name not in tables.OPTIONAL or found.count(None) < len(found)
    }
    corrected, predicted = columns["label_corrected"], columns["label_predicted"]
    columns["label"] = np.where(corrected != "", corrected, predicted)
    classes = cache(partial(_probability_names, db))
    found = {}
    for (image_id, image), start, end in zip(images.items(), *first.tolist(), strict=True):
        part = slice(start, end)
        found[image_id] = StoredRows(
            _columns_of_image(image, columns, values, texts, part, classes), outlines[part]
        )
    _validate([rows.columns for rows in found.values()])
    return found


def _columns_of_image(
    image: str,
    columns: Columns,
    values: Mapping[str, tuple[Any, ...]],
    texts: Mapping[str, tuple[Any, ...]],
    part: slice,
    classes: Callable[[str], list[str]],
) -> Columns:
    """Return the columns of one image among the rows of several."""
    n = part.stop - part.start
    found = {
        name: column[part]
        for name, column in columns.items()
        if name not in tables.OPTIONAL or values[name][part].count(None) < n
    }
    found["image"] = np.full(n, image, object)
    probabilities = _probabilities(
        classes, found["model_id"].tolist(), texts["probabilities"][part]
    )
    found |= probabilities | _measurements(texts["measurements"][part])
    order = tables.columns([name[2:] for name in probabilities])
    for name in order:  # columns that are younger than the file
        if name not in found and (column := tables.column_of(name)) is not None:
            found[name] = column.fill(n)
    return {name: found[name] for name in dict.fromkeys([*order, *found])}


def _validate(parts: Iterable[Columns]) -> None:
    """Check the tables of images together with those that have the same columns."""
    alike: dict[tuple[str, ...], list[Columns]] = {}
    for part in parts:
        alike.setdefault(tuple(part), []).append(part)
    for names, members in alike.items():
        joined = {name: np.concatenate([part[name] for part in members]) for name in names}
        tables.validate(table_of(joined))
        _check_numbers(joined)


def _measurements(texts: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """Return the columns that are stored together as JSON; damaged values raise any error."""
    columns: dict[str, list[Any]] = {}
    for row, text in enumerate(texts):
        if text is None:
            continue
        for name, value in read_json(text, dict).items():
            columns.setdefault(name, [None] * len(texts))[row] = value
    found = {}
    for name, values in columns.items():
        if name in WITH_OWN_PLACE:
            raise ValueError(f"the column {name} is stored twice")
        if tables.column_of(name) is None:
            tables.check_own_column(name)
            if any(value is not None and as_number(value) is None for value in values):
                raise ValueError(f"the measurement {name} is no number")
            found[name] = np.array(values, float)
        else:
            found[name] = _column(name, tuple(values))
    return found


def _column(name: str, values: tuple[Any, ...]) -> np.ndarray:
    """Return stored values as a column of the cluster table; `ValueError` for another type."""
    column = tables.column_of(name)
    assert column is not None
    if column.dtype == "bool":
        is_true = {x: str(x).lower() in ("true", "1", "1.0") for x in set(values)}
        return np.array([is_true[x] for x in values], bool)
    valid = {TEXT: (str,), "int64": (int,)}.get(column.dtype, (int, float))
    if not all(issubclass(found, (*valid, type(None))) for found in set(map(type, values))):
        raise ValueError(f"the column {name} holds values of another type than {column.dtype}")
    if column.dtype != "float64" and None in values:
        default = column.default
        values = tuple(default if x is None else x for x in values)
    return np.array(values, column.dtype)


def _probabilities(
    classes: Callable[[str], list[str]], models: list[str], texts: tuple[Any, ...]
) -> dict[str, np.ndarray]:
    """Return the columns of probabilities; NaN for clusters that a model does not know."""
    columns: dict[str, np.ndarray] = {}
    rows_of: dict[str, list[int]] = {}
    for row, (model_id, text) in enumerate(zip(models, texts, strict=True)):
        if text is not None:
            rows_of.setdefault(model_id, []).append(row)
    for model_id, rows in rows_of.items():
        names = classes(model_id)
        values = _numbers([texts[row] for row in rows], names)
        for name, column in zip(names, values.T, strict=False):
            columns.setdefault(name, np.full(len(texts), np.nan))[rows] = column
    return columns


def _probability_names(db: sqlite3.Connection, model_id: str) -> list[str]:
    found = db.execute("SELECT classes FROM models WHERE model_id = ?", (model_id,)).fetchone()
    classes = read_json(found[0], list) if found else []
    if len(set(classes)) < len(classes) or not all(isinstance(c, str) for c in classes):
        raise ValueError("the classes of the model are not different texts")
    return tables.probability_columns(classes)


def _numbers(texts: list[str], names: list[str]) -> np.ndarray:
    """Return probabilities (N, K) that are stored as JSON; one parse of all is quicker."""
    values = np.array(json.loads(f"[{','.join(texts)}]"), float)
    values = values.reshape(len(texts), -1)
    if names and values.shape[1] != len(names):
        raise ValueError("the probabilities are not those of the classes of the model")
    return values


def _check_numbers(columns: Columns) -> None:
    """Raise `ValueError` if an id or frame is impossible, or a number is infinite."""
    ids = np.stack([columns["cluster_id"], columns["frame"]])
    if ids.size and not (ids.min() >= 0 and ids.max() < MAX_NUMBER):
        raise ValueError("an id of a cluster or a frame is impossible")
    if np.isinf([values for values in columns.values() if values.dtype.kind == "f"]).any():
        raise ValueError("a number is infinite")


def with_probabilities(db: sqlite3.Connection, predicted: pd.DataFrame) -> pd.DataFrame:
    """Probabilities as columns, by the classes of the models that gave them."""
    parts = []
    for model_id, rows in predicted.groupby("model_id", sort=False):
        names = _probability_names(db, str(model_id))
        values = _numbers(rows["probabilities"].tolist(), names)
        parts.append(pd.DataFrame(values, columns=names[: values.shape[1]], index=rows.index))
    out = predicted.drop(columns="probabilities")
    return out if not parts else out.join(pd.concat(parts))


def _scale(text: str | None) -> Any:
    if text is None:
        return None
    from ..core.from_dict import dataclass_from_dict
    from ..core.scale_reference import ScaleReference
    from ..models.scale.intensity_scale import ConstrainedMixture

    values = json.loads(text)
    reference = dataclass_from_dict(ScaleReference, values.pop("reference"))
    error = float(values.pop("log_scale_sd", 0.0))
    arrays = {name: np.asarray(value, float) for name, value in values.items()}
    scale = ConstrainedMixture(reference, log_scale_sd=error, **arrays)
    n, n_classes = len(scale.weight), np.shape(scale.reference.log_intensity)
    shapes = ((n,), (n, 2), (n, *n_classes), (n, 2))
    found = tuple(a.shape for a in (scale.weight, scale.shift, scale.shares, scale.spread))
    is_finite = np.isfinite(error) and all(np.isfinite(a).all() for a in arrays.values())
    if not n or found != shapes or not is_finite:
        raise ValueError("the scale has other shapes than its classes")
    return scale
