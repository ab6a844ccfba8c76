"""Groups of atoms (isolated, dimer, multimer, cluster), and the cluster that contains each atom.

Atoms belong to one group if a chain of steps of at most a given distance connects them (single
linkage). The default, 0.3 nm, exceeds the nearest-neighbour distance in platinum (0.277 nm) by 8 %,
the uncertainty of positions. Distances are those of the projection: two atoms at different heights
may appear as neighbours. Chance produces neighbours as well: of atoms at random positions with a
density λ, a fraction exp(-π λ d²) has no neighbour within d. The fraction of isolated atoms must be
compared with that expected by chance at the same density.

============  ========  ==============================================================
kind          atoms     reason
============  ========  ==============================================================
isolated      1
dimer         2
multimer      3 to 6    every atom is at the edge
cluster       7 or more the smallest close-packed layer with an inner atom: one and its
                        six neighbours. It covers 0.47 nm², a disc of 0.77 nm, near the
                        minimum diameter of cluster detection (0.6 nm)
============  ========  ==============================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, KDTree
from scipy.spatial.distance import pdist
from skimage.measure import points_in_poly

from ...core.settings import GROUP_DISTANCE_NM
from ...core.tables.columns import TEXT, Column, conform_columns

KINDS = {"isolated": 1, "dimer": 2, "multimer": 3, "cluster": 7}
"""Kind of group, and its minimum number of atoms."""
GROUP_SCHEMA = (
    Column("image", TEXT, "", "name of the image"),
    Column("frame", "int64", "", "index of the frame in a stack, 0 for a single image"),
    Column("group_id", "int64", "", "number of the group in its image, as in the atom table"),
    Column("kind", TEXT, "", ", ".join(f'"{kind}"' for kind in KINDS)),
    Column("n_atoms", "int64", "", "number of atoms of the group"),
    Column(
        "extent_nm",
        "float64",
        "nm",
        "largest distance between two atoms of the group, from centre to centre in the projection; "
        "0 for an isolated atom. The width of an atom is not added",
    ),
    Column("y_px", "float64", "px", "vertical position, mean of the atoms"),
    Column("x_px", "float64", "px", "horizontal position, mean of the atoms"),
    Column("y_nm", "float64", "nm", "vertical position, mean of the atoms"),
    Column("x_nm", "float64", "nm", "horizontal position, mean of the atoms"),
)
"""Columns of the table of groups."""
_MANY_ATOMS = 50


def link(
    points_nm: np.ndarray, distance_nm: float = GROUP_DISTANCE_NM
) -> tuple[np.ndarray, np.ndarray]:
    """Group atoms by single linkage.

    Parameters
    ----------
    points_nm : ndarray of shape (N, 2)
        Positions (y, x) in nm. Positions that are not finite belong to no group.
    distance_nm : float
        Maximum distance in nm of linked atoms.

    Returns
    -------
    group_id : ndarray of shape (N,), int64
        Group of each atom, from 1 in order of first occurrence; 0 for no group.
    group_size : ndarray of shape (N,), int64
        Number of atoms of that group; 0 for no group.

    Raises
    ------
    ValueError
        If the distance is not a positive number.
    """
    if not (np.isfinite(distance_nm) and distance_nm > 0):
        raise ValueError(f"a linking distance of {distance_nm} nm is not positive")
    points = np.asarray(points_nm, float).reshape(-1, 2)
    group_id = np.zeros(len(points), np.int64)
    group_size = np.zeros(len(points), np.int64)
    there = np.isfinite(points).all(axis=1)
    n = int(there.sum())
    if n == 0:
        return group_id, group_size
    pairs = KDTree(points[there]).query_pairs(distance_nm, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, part = connected_components(links, directed=False)
    _, first, part = np.unique(part, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(1, len(first) + 1)
    group_id[there] = number[part]
    group_size[there] = np.bincount(part)[part]
    return group_id, group_size


def extents(points_nm: np.ndarray, group_id: np.ndarray) -> np.ndarray:
    """Compute the largest distance between two atoms of each group.

    Parameters
    ----------
    points_nm : ndarray of shape (N, 2)
        Positions (y, x) in nm.
    group_id : ndarray of shape (N,)
        Group of each atom, from `link`; 0 for no group.

    Returns
    -------
    ndarray of shape (n_groups,)
        In nm, in the order of the numbers of the groups; 0 for isolated atoms.
    """
    order = np.argsort(group_id, kind="stable")
    order = order[group_id[order] > 0]
    _, first, count = np.unique(group_id[order], return_index=True, return_counts=True)
    found = np.zeros(len(first))
    for size in np.unique(count[count > 1]).tolist():
        # All groups of one size at once: there are many small groups and few large ones.
        same = np.flatnonzero(count == size)
        points = points_nm[order[first[same][:, None] + np.arange(size)]]
        if size > _MANY_ATOMS:
            found[same] = [_extent_of_many(one) for one in points]
        else:
            steps = points[:, :, None] - points[:, None]
            found[same] = np.sqrt((steps**2).sum(axis=-1).max(axis=(1, 2)))
    return found


def _extent_of_many(points: np.ndarray) -> float:
    """Return the largest distance between two of many points, which are corners of their hull."""
    corners = points[ConvexHull(points, qhull_options="QJ").vertices]  # also for points on a line
    return float(pdist(corners).max())


def kind_of(group_size: np.ndarray) -> np.ndarray:
    """Return the kind (N,) of groups of these sizes: a name in `KINDS`, "" for a size of 0."""
    names = np.array(["", *KINDS], dtype=object)
    kinds = names[np.searchsorted(list(KINDS.values()), np.asarray(group_size), side="right")]
    return np.asarray(kinds, dtype=object)


def grouped(table: pd.DataFrame, distance_nm: float = GROUP_DISTANCE_NM) -> pd.DataFrame:
    """Return a copy of an atom table with the columns of groups, frame by frame.

    Numbers continue from frame to frame, so that ``group_id`` is unique in an image.
    """
    table = table.copy()
    group_id = np.zeros(len(table), np.int64)
    group_size = np.zeros(len(table), np.int64)
    extent = np.full(len(table), np.nan)
    points = table[["y_nm", "x_nm"]].to_numpy(float)
    last: dict[str, int] = {}
    for (image, _), rows in _by_frame(table):
        found, size = link(points[rows], distance_nm)
        in_group = rows[found > 0]
        extent[in_group] = extents(points[rows], found)[found[found > 0] - 1]
        before = last.get(image, 0)
        group_id[rows], group_size[rows] = np.where(found > 0, found + before, 0), size
        last[image] = before + int(found.max(initial=0))
    table["group_id"], table["group_size"] = group_id, group_size
    table["group_extent_nm"] = extent
    return table


def group_table(table: pd.DataFrame) -> pd.DataFrame:
    """Make a table with a row per group from an atom table.

    The columns are `GROUP_SCHEMA`; rows are in the order of images and numbers of the groups.
    """
    keys = ["image", "frame", "group_id"]
    places = ["y_px", "x_px", "y_nm", "x_nm"]
    groups = table[table["group_id"] > 0].groupby(keys, sort=False)
    found = groups[places].mean()
    found["n_atoms"] = groups["group_size"].first()
    found["extent_nm"] = groups["group_extent_nm"].first()
    found["kind"] = kind_of(found["n_atoms"].to_numpy(int))
    return conform_columns(found.reset_index(), GROUP_SCHEMA, "table of groups")


def sizes(group_id: np.ndarray) -> np.ndarray:
    """Return the size of each group, in the order of their numbers (0 is no group)."""
    ids, count = np.unique(np.asarray(group_id), return_counts=True)
    return np.asarray(count[ids > 0], np.int64)


def size_distribution(group_size: np.ndarray) -> pd.DataFrame:
    """Count the groups of each size.

    The result has a row per size that occurs, with ``size, kind, groups, atoms, share_of_groups,
    share_of_atoms``.
    """
    size, groups = np.unique(np.asarray(group_size, np.int64), return_counts=True)
    atoms = size * groups
    return pd.DataFrame(
        {
            "size": size,
            "kind": kind_of(size),
            "groups": groups,
            "atoms": atoms,
            "share_of_groups": groups / max(int(groups.sum()), 1),
            "share_of_atoms": atoms / max(int(atoms.sum()), 1),
        }
    )


def kinds(group_size: np.ndarray) -> pd.DataFrame:
    """Count groups and atoms of each of `KINDS`, in order, including zeros."""
    by_size = size_distribution(group_size)
    counts = by_size.groupby("kind")[["groups", "atoms"]].sum().reindex(list(KINDS), fill_value=0)
    shares = counts / counts.sum().clip(lower=1)
    return pd.concat(
        [counts, shares.add_prefix("share_of_")],
        axis=1,
    ).reset_index(names="kind")


# ---- atoms and the clusters of the cluster table


def clusters_of_atoms(
    atoms: pd.DataFrame,
    clusters: pd.DataFrame,
    outlines: Sequence[np.ndarray] | None = None,
    margin_nm: float = 0.0,
) -> pd.Series:
    """Find the cluster that contains each atom.

    Parameters
    ----------
    outlines : sequence of ndarray of shape (M, 2), optional
        Closed polygons (y, x) in pixels, one per cluster in table order, as in
        `detection.clusters.Detection`. A cluster without one, or with fewer than three corners, is
        a disc of its diameter.
    margin_nm : float
        Margin of a disc in nm. Outlines have no margin: they follow the image after a blur of 0.12
        nm, so the centres of outer atoms are inside.

    Returns
    -------
    pandas.Series
        ``cluster_id``, Int64, missing for atoms outside all clusters; index of ``atoms``. An atom
        in two clusters belongs to the one with the nearer centre.

    Raises
    ------
    ValueError
        If the numbers of outlines and clusters differ.
    """
    if outlines is not None and len(outlines) != len(clusters):
        raise ValueError(f"{len(outlines)} outlines for {len(clusters)} clusters")
    owner = np.full(len(atoms), -1)
    nearest = np.full(len(atoms), np.inf)
    places = dict(_by_frame(atoms))
    for key, rows in _by_frame(clusters):
        at = places.get(key)
        if at is None:
            continue
        there = at[np.isfinite(atoms[["y_nm", "x_nm"]].to_numpy(float)[at]).all(axis=1)]
        nm = atoms[["y_nm", "x_nm"]].to_numpy(float)[there]
        px = atoms[["y_px", "x_px"]].to_numpy(float)[there]
        for row in rows:
            centre = clusters[["y_nm", "x_nm"]].to_numpy(float)[row]
            distance = np.linalg.norm(nm - centre, axis=1)
            outline = None if outlines is None else np.asarray(outlines[row], float)
            if outline is not None and len(outline) >= 3:
                inside = points_in_poly(px, outline)
            else:
                inside = distance <= clusters["diameter_nm"].iloc[row] / 2 + margin_nm
            closer = inside & (distance < nearest[there])
            owner[there[closer]] = row
            nearest[there[closer]] = distance[closer]
    ids = clusters["cluster_id"].to_numpy()
    found = [int(ids[row]) if row >= 0 else pd.NA for row in owner]
    return pd.Series(found, index=atoms.index, name="cluster_id", dtype="Int64")


def atoms_of_clusters(atoms: pd.DataFrame, clusters: pd.DataFrame) -> pd.DataFrame:
    """List the atoms that each cluster contains.

    The result has the rows and the index of ``clusters``, and the columns ``atom_ids`` (a list) and
    ``n_atoms_found`` (int64). The latter is not the number of atoms in the cluster, because many
    atoms are not resolved.
    """
    inside = atoms[atoms["cluster_id"].notna()]
    held: dict[tuple, list[int]] = {}
    keys = zip(inside["image"], inside["frame"], inside["cluster_id"], strict=True)
    for key, atom in zip(keys, inside["atom_id"], strict=True):
        held.setdefault(key, []).append(int(atom))
    of_clusters = zip(clusters["image"], clusters["frame"], clusters["cluster_id"], strict=True)
    lists = [held.get(key, []) for key in of_clusters]
    return pd.DataFrame(
        {
            "atom_ids": pd.Series(lists, index=clusters.index, dtype=object),
            "n_atoms_found": pd.Series([len(x) for x in lists], clusters.index, dtype="int64"),
        }
    )


def _by_frame(table: pd.DataFrame) -> list[tuple[tuple[str, int], np.ndarray]]:
    """Return (image, frame) and the positions of its rows, in order of occurrence."""
    groups = table.groupby(["image", "frame"], sort=False).indices
    return [(key, np.asarray(rows)) for key, rows in groups.items()]  # type: ignore[misc]
