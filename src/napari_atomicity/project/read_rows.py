"""Read an analysis from the rows of a project's tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import cluster_table as tables
from ..io.lazy_micrograph import LazyMicrograph
from ..models.analysis import Analysis
from .cached_arrays import read_pictures
from .rows import MEASURED, PREDICTED


def read_positions(db: sqlite3.Connection, image_id: int) -> pd.DataFrame:
    """Return the positions of the clusters of an image, without reading anything else."""
    return pd.read_sql_query(
        "SELECT cluster_id, frame, y_px, x_px, y_nm, diameter_nm FROM clusters WHERE image_id = ?",
        db,
        params=(image_id,),
    )


def read_image(
    db: sqlite3.Connection, image: str, place: Callable[[str, str], Path]
) -> tuple[LazyMicrograph, Analysis | None, int]:
    """Read the micrograph and the analysis of an image.

    Parameters
    ----------
    db : sqlite3.Connection
        A connection to the project file.
    image : str
        Name of the image.
    place : callable
        ``place(path, relative_path)`` returns where a file is now.

    Returns
    -------
    micrograph : LazyMicrograph
        Its pixels are read when they are used.
    analysis : Analysis or None
        None if the image has not been analysed.
    next_id : int
        The id that the next new cluster gets.
    """
    row = db.execute(
        "SELECT image_id, path, relative_path, sha256, frames, height, width, is_stack, "
        "pixel_size_nm, analysed, metadata, parameters, scale, field_of_view_nm, regions, "
        "next_id, seconds FROM images WHERE name = ?",
        (image,),
    ).fetchone()
    (image_id, path, relative, digest, frames, height, width, is_stack, size, analysed, metadata,
     parameters, scale, field_of_view, regions, next_id, seconds) = row  # fmt: skip
    micrograph = LazyMicrograph(
        place(path, relative),
        None if height is None else ((frames,) if is_stack else ()) + (height, width),
        size,
        name=image,
        sha256=digest,
        metadata=json.loads(metadata),
    )
    if not analysed:
        return micrograph, None, next_id
    table, outlines = _read_table(db, image_id, image)
    patches, maps, embedding = read_pictures(db, image_id, table["cluster_id"].tolist())
    analysis = Analysis(
        micrograph,
        table,
        outlines,
        patches,
        embedding,
        maps,
        field_of_view or 0.0,
        _scale(scale),
        json.loads(parameters),
        json.loads(seconds),
        tuple(np.asarray(r, float) for r in json.loads(regions)),
    )
    return micrograph, analysis, next_id


def _read_table(
    db: sqlite3.Connection, image_id: int, image: str
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    stored = {row[1] for row in db.execute("PRAGMA table_info(clusters)")}
    recording = [name for name in tables.RECORDING if name in stored]
    clusters = pd.read_sql_query(
        f"SELECT cluster_id, {', '.join([*MEASURED, *recording])}, label_corrected, track_id, "
        "coalesce(model_id, '') AS model_id, outline FROM clusters WHERE image_id = ? "
        "ORDER BY cluster_id",
        db,
        params=(image_id,),
    )
    predicted = pd.read_sql_query(
        f"SELECT p.cluster_id, p.model_id, {', '.join('p.' + name for name in PREDICTED)}, "
        "probabilities FROM predictions p JOIN clusters c ON c.image_id = p.image_id AND "
        "c.cluster_id = p.cluster_id AND c.model_id = p.model_id WHERE p.image_id = ?",
        db,
        params=(image_id,),
    )
    predicted = with_probabilities(db, predicted)
    if clusters["track_id"].isna().all():  # nobody has linked them
        clusters = clusters.drop(columns="track_id")
    clusters = clusters.drop(columns=[n for n in recording if clusters[n].isna().all()])
    # Columns that no model of this image gives are not there, rather than empty.
    added = [n for n in tables.OPTIONAL if n in predicted and predicted[n].isna().all()]
    predicted = predicted.drop(columns=added)
    table = clusters.drop(columns="outline").merge(
        predicted.drop(columns="model_id"), on="cluster_id", how="left"
    )
    table = tables.conform(table.assign(image=image))
    outlines = [np.frombuffer(o, np.float32).reshape(-1, 2) for o in clusters["outline"]]
    return tables.settle_labels(table), outlines


def with_probabilities(db: sqlite3.Connection, predicted: pd.DataFrame) -> pd.DataFrame:
    """Probabilities as columns, by the classes of the models that gave them."""
    parts = []
    for model_id, rows in predicted.groupby("model_id", sort=False):
        found = db.execute("SELECT classes FROM models WHERE model_id = ?", (model_id,)).fetchone()
        names = [f"p_{c}" for c in (json.loads(found[0]) if found else [])]
        values = np.array([json.loads(v) for v in rows["probabilities"]], float)
        values = values.reshape(len(rows), -1)[:, : len(names)]
        parts.append(pd.DataFrame(values, columns=names[: values.shape[1]], index=rows.index))
    out = predicted.drop(columns="probabilities")
    return out if not parts else out.join(pd.concat(parts))


def _scale(text: str | None) -> Any:
    if text is None:
        return None
    from ..core.from_dict import dataclass_from_dict
    from ..core.scale_reference import ScaleReference
    from ..models.intensity_scale import ConstrainedMixture

    values = json.loads(text)
    arrays = {k: np.asarray(v, float) for k, v in values.items() if k != "reference"}
    return ConstrainedMixture(dataclass_from_dict(ScaleReference, values["reference"]), **arrays)
