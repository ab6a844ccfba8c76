"""What a project holds of an image, as far as it is not damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from ..atoms.analysis import POINT, AtomAnalysis
from ..atoms.finding.operating_point import OperatingPoint
from ..atoms.marks import ImageAtoms, Mark
from ..core.errors import ReadError
from ..core.micrograph import Micrograph, checked_pixel_size
from ..core.tables import cluster_table as tables
from ..models.analysis import Analysis
from .atoms import STATE, free_id, last_marks, unpack_mask, unpack_polygons, unpack_table
from .cached_arrays import LazyPictures
from .connection import ProjectConnection
from .contents import ProjectContents, labels_of_log
from .damage import (
    MAX_NUMBER,
    as_count,
    as_number,
    coerce_numbers,
    coerce_texts,
    damage_as_error,
    read_json,
)
from .images import ImageIndex
from .read_rows import StoredRows, read_image, read_tables
from .rows import MEASURED, REMOVE


# ---- read the atoms of an image from the rows of a project's tables
def read_atoms(
    db: sqlite3.Connection, image_id: int, micrograph: Micrograph
) -> tuple[ImageAtoms | None, int, str]:
    """Read the atoms of an image."""
    next_id, marks = free_id(db, image_id), last_marks(db, image_id)
    atoms, damage = None, ""
    try:
        with damage_as_error("what a model found of atoms"):
            atoms = _read_state(db, image_id, micrograph, marks)
    except ReadError as error:
        damage = error.what
    if atoms is None and marks and micrograph.pixel_size_nm is not None:
        atoms = ImageAtoms(micrograph.name, micrograph.pixel_size_nm, marks=marks)
    return atoms, next_id, damage


def _read_state(
    db: sqlite3.Connection, image_id: int, micrograph: Micrograph, marks: dict[int, Mark]
) -> ImageAtoms | None:
    """Read what a model found, None if nothing; damaged values raise any error."""
    row = db.execute(
        f"SELECT {', '.join(STATE)}, model_id, parameters, candidates, support FROM atoms "
        "WHERE image_id = ?",
        (image_id,),
    ).fetchone()
    if row is None:
        return None
    size, threshold, recall, distance, added, removed, _, model_id, *rest = row
    parameters, candidates, support = rest
    size = checked_pixel_size(size, micrograph.name)
    numbers = (distance,) if candidates is None else (distance, threshold, recall)
    if any(as_number(n) is None for n in numbers) or not isinstance(model_id, str):
        raise ValueError("a setting is no number, or the model has no name")
    if distance <= 0:
        raise ValueError("the distance of linked atoms is not positive")
    analysis = None
    if candidates is not None:
        analysis = AtomAnalysis(
            micrograph,
            unpack_table(candidates),
            threshold,
            unpack_mask(support, micrograph.shape),
            size,
            model_id,
            recall,
            distance,
            read_json(parameters, dict),
        )
    atoms = ImageAtoms(
        micrograph.name, size, analysis, marks, unpack_polygons(added), unpack_polygons(removed),
        distance,
    )  # fmt: skip
    if analysis is not None:
        OperatingPoint(**analysis.parameters.get(POINT, {}))
        # These raise if their parameters are damaged.
        _ = atoms.species, atoms.injected, atoms.drawn, analysis.is_flat
    return atoms


_CLUSTERS_AT_ONCE = 5000
"""Tables with more clusters are not read together: this takes memory, and can't be stopped."""


def read_contents(
    db: sqlite3.Connection,
    index: ImageIndex,
    image: str,
    pictures: LazyPictures | None = None,
    rows: StoredRows | None = None,
) -> ProjectContents:
    """Read what the project holds of an image; what is damaged is noted in the index."""
    image_id = index.ids[image]
    micrograph, analysis, next_id, reason = read_image(
        db, image, image_id, index.path_of, pictures, rows
    )
    atoms, next_atom_id, reason_of_atoms = read_atoms(db, image_id, micrograph)
    index.set_damage(image, "analysis", reason)
    index.set_damage(image, "atoms", reason_of_atoms)
    columns = None if analysis is None else analysis.columns
    return ProjectContents(
        micrograph, analysis, next_id, columns, atoms, next_atom_id, index.damage_of(image)
    )


def read_all(
    file: ProjectConnection,
    index: ImageIndex,
    pictures: LazyPictures | None,
    start: Callable[[int], None],
) -> dict[str, ProjectContents]:
    """Read what the project holds of all images, the tables of several images at once."""
    found: dict[str, ProjectContents] = {}
    for images in _in_parts(file, index):
        with file.reading() as db:
            rows = _read_together(db, index, images)
        for image in images:
            start(len(found))
            with file.reading() as db:
                found[image] = read_contents(db, index, image, pictures, rows.get(image))
    return found


def _in_parts(file: ProjectConnection, index: ImageIndex) -> list[list[str]]:
    """Split the names of all images, in order, into parts with not too many clusters."""
    with file.reading() as db:
        at_most = dict(db.execute("SELECT image_id, next_id FROM images"))
    parts: list[list[str]] = []
    n_clusters = 0
    for image, image_id in index.ids.items():
        n = as_count(at_most.get(image_id))
        n_clusters += n
        if not parts or n_clusters > _CLUSTERS_AT_ONCE:
            parts.append([])
            n_clusters = n
        parts[-1].append(image)
    return parts


def _read_together(
    db: sqlite3.Connection, index: ImageIndex, images: Sequence[str]
) -> dict[str, StoredRows]:
    """Read the cluster tables of several images at once; nothing if one of them is damaged."""
    names = {index.ids[image]: image for image in images}
    try:
        with damage_as_error("a cluster table"):
            found = read_tables(db, names)
    except ReadError:  # each image is read alone, and says what is damaged
        return {}
    return {names[image_id]: rows for image_id, rows in found.items()}


def read_labelled(db: sqlite3.Connection, index: ImageIndex, image: str) -> Analysis | None:
    """Read clusters with their positions and labels only, where the analysis is damaged.

    Labels come from the log, and so do positions that are damaged in the table.
    """
    if "analysis" not in index.damaged.get(image, {}):
        return None
    image_id = index.ids[image]
    micrograph = read_image(db, image, image_id, index.path_of)[0]
    size_nm = micrograph.pixel_size_nm or np.nan
    labels = labels_of_log(db, image_id)
    stored = _valid_clusters(db, image_id)
    logged = _logged_clusters(db, image_id, size_nm)
    is_lost = ~logged["cluster_id"].isin(stored["cluster_id"])
    has_label = logged["cluster_id"].map(lambda i: bool(labels.get(i)))
    found = pd.concat([stored, logged[is_lost & has_label]]).assign(image=image)
    found["label_corrected"] = [
        labels.get(i, x)
        for i, x in zip(found["cluster_id"].tolist(), found["label_corrected"], strict=True)
    ]
    table = tables.conform(found)
    return Analysis(micrograph, tables.settle_labels(table), _circles(table, size_nm))


def _valid_clusters(db: sqlite3.Connection, image_id: int) -> pd.DataFrame:
    """Return the stored clusters that have an id and a position."""
    stored = pd.read_sql_query(
        f"SELECT cluster_id, {', '.join(MEASURED)}, label_corrected FROM clusters "
        "WHERE image_id = ?",
        db,
        params=(image_id,),
    )
    stored = coerce_numbers(stored, ("cluster_id", "frame"), whole=True)
    stored = coerce_numbers(stored, [n for n in MEASURED if n != "frame"])
    return _with_position(coerce_texts(stored, ("label_corrected",)))


def _logged_clusters(db: sqlite3.Connection, image_id: int, size_nm: float) -> pd.DataFrame:
    """Return the clusters that people labelled, at their last positions according to the log."""
    log = pd.read_sql_query(
        "SELECT cluster_id, frame, y_nm, x_nm, what FROM corrections WHERE image_id = ? AND "
        "(what = 'label' OR (NOT blind AND source IS NULL)) ORDER BY correction_id",
        db,
        params=(image_id,),
    )
    log = coerce_numbers(log, ("cluster_id", "frame"), whole=True)
    log = coerce_numbers(log, ("y_nm", "x_nm")).drop_duplicates("cluster_id", keep="last")
    log = log[log["what"] != REMOVE].drop(columns="what")
    places = {"y_px": log["y_nm"] / size_nm, "x_px": log["x_nm"] / size_nm}
    return _with_position(log.assign(**places, label_corrected=""))


def _with_position(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a valid id and position, each id once."""
    is_valid = (table[["cluster_id", "frame"]] >= 0).all(axis=1)
    is_valid &= (table["cluster_id"] < MAX_NUMBER) & ~table["cluster_id"].duplicated()
    return table[is_valid & np.isfinite(table[["y_px", "x_px"]].to_numpy(float)).all(axis=1)]


def _circles(table: pd.DataFrame, size_nm: float) -> list[np.ndarray]:
    """Return a circle in the place of the outline of each cluster."""
    radii = np.nan_to_num(table["diameter_nm"].to_numpy(float) / 2 / size_nm, posinf=0.0)
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.sin(turn), np.cos(turn)], axis=1)
    centres = table[["y_px", "x_px"]].to_numpy(float)
    return [c + max(r, 1.0) * circle for c, r in zip(centres, radii, strict=True)]
