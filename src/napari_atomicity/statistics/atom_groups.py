"""Groups of atoms: isolated, dimer, multimer, cluster; and which cluster holds which atoms.

Atoms belong together if a chain of steps of at most a stated distance joins them (single linkage).
The default, 0.3 nm, is 8 % above the distance of neighbours in platinum (0.277 nm), as much as
their positions are uncertain. Distances are those of the projection: two atoms that lie far apart
in height pass for neighbours. And chance makes neighbours as well: of atoms strewn at random,
λ of them on a nm², only exp(-π λ d²) have none within d, so a share of isolated atoms says
something only beside what chance gives at that density.

============  ========  ==============================================================
kind          atoms     why
============  ========  ==============================================================
isolated      1
dimer         2
multimer      3 to 6    every atom lies at the rim
cluster       7 or more the least close-packed layer with an atom inside: one and its
                        six neighbours. It covers 0.47 nm², a disc of 0.77 nm, which
                        is where the detection of clusters begins (0.6 nm)
============  ========  ==============================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from skimage.measure import points_in_poly

LINK_NM = 0.3
"""Atoms no further apart than this belong to one group."""
KINDS = {"isolated": 1, "dimer": 2, "multimer": 3, "cluster": 7}
"""Kind of group and the least number of its atoms."""


def link(points_nm: np.ndarray, distance_nm: float = LINK_NM) -> tuple[np.ndarray, np.ndarray]:
    """Single linkage: the group of every atom, and how many atoms it has.

    Parameters
    ----------
    points_nm : ndarray of shape (N, 2)
        Positions (y, x). Those that are not finite belong to no group.
    distance_nm : float
        Atoms no further apart than this are linked.

    Returns
    -------
    group_id : ndarray of int64
        (N,) from 1, numbered in the order in which the groups first occur; 0 for none.
    group_size : ndarray of int64
        (N,) number of atoms of the group; 0 for none.

    Raises
    ------
    ValueError
        If the distance is not a positive number.
    """
    if not (np.isfinite(distance_nm) and distance_nm > 0):
        raise ValueError(f"a distance of {distance_nm} nm links nothing")
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


def kind_of(group_size: np.ndarray) -> np.ndarray:
    """The kind (N,) of groups of these sizes: a name in `KINDS`, "" for a size of 0."""
    names = np.array(["", *KINDS], dtype=object)
    kinds = names[np.searchsorted(list(KINDS.values()), np.asarray(group_size), side="right")]
    return np.asarray(kinds, dtype=object)


def grouped(table: pd.DataFrame, distance_nm: float = LINK_NM) -> pd.DataFrame:
    """A copy of an atom table with ``group_id`` and ``group_size``, frame by frame.

    Numbers go on from frame to frame of an image, so that ``group_id`` is unique in an image.
    """
    table = table.copy()
    group_id = np.zeros(len(table), np.int64)
    group_size = np.zeros(len(table), np.int64)
    points = table[["y_nm", "x_nm"]].to_numpy(float)
    last: dict[str, int] = {}
    for (image, _), rows in _by_frame(table):
        found, size = link(points[rows], distance_nm)
        before = last.get(image, 0)
        group_id[rows], group_size[rows] = np.where(found > 0, found + before, 0), size
        last[image] = before + int(found.max(initial=0))
    table["group_id"], table["group_size"] = group_id, group_size
    return table


def sizes(group_id: np.ndarray) -> np.ndarray:
    """Sizes of the groups, one value a group, in the order of their numbers (0 is no group)."""
    ids, count = np.unique(np.asarray(group_id), return_counts=True)
    return np.asarray(count[ids > 0], np.int64)


def size_distribution(group_size: np.ndarray) -> pd.DataFrame:
    """How many groups of each size there are.

    Parameters
    ----------
    group_size : ndarray
        Sizes of the groups, one value a group, as from `sizes`.

    Returns
    -------
    pandas.DataFrame
        A row per size that occurs: ``size, kind, groups, atoms, share_of_groups,
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
    """As `size_distribution`, but a row for each of `KINDS`, in order, zeros included."""
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
    """The cluster that holds each atom.

    Parameters
    ----------
    atoms : pandas.DataFrame
        Atom table.
    clusters : pandas.DataFrame
        Cluster table of the same images.
    outlines : sequence of ndarray, optional
        Closed polygons (M, 2) in pixels (y, x), one for each cluster in table order, as of
        `detection.clusters.Detection`. Without them, and where one has fewer than three
        corners, a cluster is a disc of its diameter.
    margin_nm : float
        How far beyond its disc a cluster reaches. Outlines are taken as they are: they
        follow the image after a blur of 0.12 nm, so the centres of its outer atoms lie
        inside.

    Returns
    -------
    pandas.Series
        ``cluster_id``, Int64, missing where an atom lies in no cluster; index of ``atoms``. Where
        two clusters claim an atom, the one with the nearer centre has it.

    Raises
    ------
    ValueError
        If there are not as many outlines as clusters.
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
    """What atoms each cluster holds: the other way round.

    Parameters
    ----------
    atoms : pandas.DataFrame
        Atom table with its ``cluster_id``.
    clusters : pandas.DataFrame
        Cluster table.

    Returns
    -------
    pandas.DataFrame
        Rows and index of ``clusters``: ``atom_ids`` (a list) and ``n_atoms_found`` (int64). The
        latter is no count of the cluster's atoms: many are not resolved.
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
    """(image, frame) and the positions of its rows, in the order in which they occur."""
    groups = table.groupby(["image", "frame"], sort=False).indices
    return [(key, np.asarray(rows)) for key, rows in groups.items()]  # type: ignore[misc]
