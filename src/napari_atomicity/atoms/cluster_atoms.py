"""The clusters of an image with their atoms: the rows of ``cluster_atoms.csv``.

The window and the command line both use this module.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..core.micrograph import Micrograph
from ..core.tables.cluster_table import classes_of
from ..core.tables.columns import TEXT, Column
from ..models.analysis import Analysis
from ..statistics.points.atom_groups import atoms_of_clusters, clusters_of_atoms
from .completeness import Completeness
from .counting import count_atoms_by_intensity
from .marks import ImageAtoms

SCHEMA = (
    Column("image", TEXT, "", "name of the image"),
    Column("frame", "int64", "", "index of the frame in a stack, 0 for a single image"),
    Column("cluster_id", "int64", "", "number of the cluster in its image"),
    Column("label", TEXT, "", "label of the cluster"),
    Column("n_yardstick", "float64", "", "number of atoms by the single-atom calibration"),
    Column("n_yardstick_low", "float64", "", "lower end of the 95 % interval of n_yardstick"),
    Column("n_yardstick_high", "float64", "", "upper end of the 95 % interval of n_yardstick"),
    Column("yardstick_reason", TEXT, "", "why the cluster was not counted; empty if it was"),
    Column("label_yardstick", TEXT, "", "class nearest to n_yardstick"),
    Column("yardstick_set", TEXT, "", 'classes in the interval, joined by "|"'),
    Column(
        "n_atoms_found",
        "int64",
        "",
        "number of atoms detected in the cluster; not a count, as most atoms are not resolved",
    ),
    Column("atom_ids", TEXT, "", 'numbers of these atoms, joined by "|"'),
)
"""Columns of ``cluster_atoms.csv``."""
COLUMNS = tuple(column.name for column in SCHEMA)


def with_clusters(atoms: ImageAtoms, analysis: Analysis | None) -> pd.DataFrame:
    """Return the atoms of an image, with the cluster that contains each if clusters are known."""
    table = atoms.table
    if analysis is None or not len(analysis.table) or not len(table):
        return table
    held = clusters_of_atoms(table, analysis.table, analysis.outlines)
    return table.assign(cluster_id=held)


def find_clusters_of_atoms(
    atoms: ImageAtoms,
    clusters: pd.DataFrame,
    # each (M, 2): polygons (y, x) in pixels, one per cluster; see `atom_groups.clusters_of_atoms`
    outlines: Sequence[np.ndarray] | None = None,
) -> dict[int, int]:
    """Find the cluster that contains each candidate, for all thresholds."""
    table = atoms.everything
    held = clusters_of_atoms(table, clusters, outlines)
    there = held.notna().to_numpy()
    ids = table["atom_id"].to_numpy()[there]
    return dict(zip(ids.tolist(), held[there].astype(int).tolist(), strict=True))


def count_cluster_atoms(
    atoms: ImageAtoms,
    clusters: pd.DataFrame,
    micrograph: Micrograph,
    outlines: Sequence[np.ndarray] | None = None,
    completeness: Completeness | None = None,
) -> pd.DataFrame:
    """Count the atoms of the clusters of an image (see `count_atoms_by_intensity`).

    Annotations of candidates override their probabilities.

    Parameters
    ----------
    outlines : sequence of ndarray of shape (M, 2), optional
        Polygons (y, x) in pixels, one per cluster.
    completeness : Completeness, optional
        Result of an injection-recovery test of the image.
    """
    places = atoms.probabilities
    places = places.assign(
        y_px=places["y_nm"] / atoms.pixel_size_nm, x_px=places["x_nm"] / atoms.pixel_size_nm
    )
    counted = count_atoms_by_intensity(
        clusters, places, micrograph, outlines, atoms.support, classes_of(clusters),
        completeness=completeness,
    )  # fmt: skip
    return counted.set_axis(clusters["cluster_id"].to_numpy(), axis=0)


def make_cluster_table(
    clusters: pd.DataFrame, counted: pd.DataFrame, atoms: pd.DataFrame
) -> pd.DataFrame:
    """Join the clusters of an image with their counts and their atoms.

    The columns are `COLUMNS`; ``atom_ids`` are joined by "|".
    """
    known = clusters[clusters["cluster_id"].isin(counted.index)].set_index("cluster_id", drop=False)
    held = atoms_of_clusters(atoms, known)
    held["atom_ids"] = ["|".join(map(str, ids)) for ids in held["atom_ids"]]
    joined = pd.concat([known, counted.loc[known.index], held], axis=1)
    return joined[list(COLUMNS)].reset_index(drop=True)
