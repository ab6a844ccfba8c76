"""What a project holds of an image, as far as it is not damaged."""

from __future__ import annotations

import sqlite3

import numpy as np
import pandas as pd

from ..core import cluster_table as tables
from ..core.table_cache import columns_of
from ..models.analysis import Analysis
from .contents import ProjectContents
from .damage import coerce_numbers, coerce_texts
from .images import ImageIndex
from .label_rules import labels_of_log
from .read_atoms import read_atoms
from .read_rows import read_image
from .rows import MEASURED


def read_contents(db: sqlite3.Connection, index: ImageIndex, image: str) -> ProjectContents:
    """Read what the project holds of an image; what is damaged is noted in the index.

    Parameters
    ----------
    db : sqlite3.Connection
        A connection to the project file.
    index : ImageIndex
        Its images.
    image : str
        Name of the image.
    """
    image_id = index.ids[image]
    micrograph, analysis, next_id, reason = read_image(db, image, image_id, index.path_of)
    atoms, next_atom_id, reason_of_atoms = read_atoms(db, image_id, micrograph)
    index.set_damage(image, "analysis", reason)
    index.set_damage(image, "atoms", reason_of_atoms)
    columns = None if analysis is None else columns_of(analysis.table)
    return ProjectContents(
        micrograph, analysis, next_id, columns, atoms, next_atom_id, index.damage_of(image)
    )


def read_labelled(db: sqlite3.Connection, index: ImageIndex, image: str) -> Analysis | None:
    """Read clusters with their positions and labels only, where the analysis is damaged.

    Labels come from the log. Clusters whose positions are damaged are left out.

    Parameters
    ----------
    db : sqlite3.Connection
        A connection to the project file.
    index : ImageIndex
        Its images.
    image : str
        Name of the image.

    Returns
    -------
    Analysis or None
        Without predictions; None without damage, or if no cluster can be read.
    """
    if "analysis" not in index.damaged.get(image, {}):
        return None
    image_id = index.ids[image]
    micrograph = read_image(db, image, image_id, index.path_of)[0]
    stored = pd.read_sql_query(
        f"SELECT cluster_id, {', '.join(MEASURED)}, label_corrected FROM clusters "
        "WHERE image_id = ?",
        db,
        params=(image_id,),
    )
    stored = coerce_numbers(stored, ("cluster_id", "frame"), whole=True)
    stored = coerce_numbers(stored, [n for n in MEASURED if n != "frame"])
    stored = coerce_texts(stored, ("label_corrected",))
    given = labels_of_log(db, image_id)
    labels = [given.get(i, x) for i, x in stored[["cluster_id", "label_corrected"]].to_numpy()]
    stored = stored.assign(label_corrected=np.array(labels, object), image=micrograph.name)
    places = stored[["y_px", "x_px"]].to_numpy(float)
    valid = (stored[["cluster_id", "frame"]] >= 0).all(axis=1) & np.isfinite(places).all(axis=1)
    table = tables.conform(stored[valid & ~stored["cluster_id"].duplicated()])
    if not len(table):
        return None
    size_nm = micrograph.pixel_size_nm or 1.0
    radii = np.nan_to_num(table["diameter_nm"].to_numpy(float), nan=0.0, posinf=0.0) / 2 / size_nm
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.sin(turn), np.cos(turn)], axis=1)
    centres = table[["y_px", "x_px"]].to_numpy(float)
    outlines = [c + max(r, 1.0) * circle for c, r in zip(centres, radii, strict=True)]
    return Analysis(micrograph, tables.settle_labels(table), outlines)
