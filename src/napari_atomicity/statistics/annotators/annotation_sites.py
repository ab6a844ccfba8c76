"""Sites: merging the marks of several annotators that belong to the same atom.

For each pair of annotators, marks are matched one to one within a tolerance (`matching.match`).
Matched pairs, nearest first, are joined to sites, provided that no annotator has two marks in a
site and no two marks of a site are further apart than the tolerance; remaining marks are joined by
the same rule. For two annotators the result is the optimal matching. The tolerance, 0.13 nm, is
less than half the nearest-neighbour distance in platinum (0.277 nm), so that no site can include
two atoms of a lattice. The position of a site is the mean of its marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from ...core.errors import TableError
from ..matching import match

NEIGHBOURS_NM = 0.277
"""Nearest-neighbour distance in platinum in nm."""
TOLERANCE_NM = 0.13
"""Maximum distance in nm of the marks of a site."""
MARKED = "marked_by_"
"""Prefix of the column with the answers of an annotator."""


def merge(
    points: Sequence[np.ndarray],  # each (N, 2): positions (y, x), one array per annotator
    tolerance: float,  # maximum distance of two marks of a site, in the unit of the positions
) -> list[np.ndarray]:
    """Join the marks of several annotators in one image to sites.

    The results, (N,) for each annotator, are the sites of the marks, numbered from 0 in the order
    of y, then x, of the mean positions. Raises `ValueError` as `matching.match` does.
    """
    points = [np.asarray(p, float).reshape(-1, 2) for p in points]
    where = np.concatenate([np.zeros((0, 2)), *points])
    who = np.repeat(np.arange(len(points)), [len(p) for p in points])
    start = np.cumsum([0, *(len(p) for p in points)])
    best = [np.zeros((0, 2), int)]
    for a, b in combinations(range(len(points)), 2):
        pairs = match(points[a], points[b], tolerance)
        best.append(np.stack([start[a] + pairs.first, start[b] + pairs.second], axis=1))
    near = KDTree(where).query_pairs(tolerance * (1 + 1e-9), output_type="ndarray")
    site = list(range(len(where)))
    members = [[i] for i in site]
    for pairs_of in (np.concatenate(best), near[who[near[:, 0]] != who[near[:, 1]]]):
        _join(pairs_of, where, who, tolerance * (1 + 1e-9), site, members)
    number = np.asarray(site, int)
    used, number = np.unique(number, return_inverse=True)
    count = np.bincount(number, minlength=len(used))
    y, x = (np.bincount(number, where[:, i], len(used)) / np.maximum(count, 1) for i in (0, 1))
    rank = np.empty(len(used), int)
    rank[np.lexsort((x, y))] = np.arange(len(used))
    return [rank[number[start[k] : start[k + 1]]] for k in range(len(points))]


def _join(
    pairs: np.ndarray,
    where: np.ndarray,
    who: np.ndarray,
    limit: float,
    site: list[int],
    members: list[list[int]],
) -> None:
    """Join sites along pairs, nearest first, where permitted; changes ``site`` and ``members``."""
    distance = np.linalg.norm(where[pairs[:, 0]] - where[pairs[:, 1]], axis=1)
    for i, j in pairs[np.lexsort((pairs[:, 1], pairs[:, 0], distance))].tolist():
        one, other = site[i], site[j]
        if one == other or {who[m] for m in members[one]} & {who[m] for m in members[other]}:
            continue
        a, b = where[members[one]], where[members[other]]
        if np.linalg.norm(a[:, None] - b[None], axis=2).max() > limit:
            continue
        for m in members[other]:
            site[m] = one
        members[one] += members[other]
        members[other] = []


def merge_annotations(
    marks: pd.DataFrame, looked: pd.DataFrame, tolerance_nm: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Merge the marks of all images to sites.

    Parameters
    ----------
    tolerance_nm : float
        Maximum distance in nm of the marks of a site.

    Returns
    -------
    sites : pandas.DataFrame
        A row per site: ``image, site`` (from 1 in an image), ``y_nm, x_nm``, ``y_px, x_px`` if the
        marks have them, ``scatter_nm`` (r.m.s. deviation of its marks from their mean along an
        axis, n - 1; NaN for one mark), ``n_looked, n_marked, n_uncertain``, and for each annotator
        ``marked_by_<name>``: 1, 0.5 if uncertain, 0, or NaN if the annotator did not examine the
        image.
    """
    images, people = (list(dict.fromkeys(looked[c])) for c in ("image", "annotator"))
    number = np.zeros(len(marks), int)
    rows = marks.groupby(["image", "annotator"]).indices
    points = marks[["y_nm", "x_nm"]].to_numpy(float)
    for image in images:
        of = [rows.get((image, name), np.zeros(0, int)) for name in people]
        for at, site in zip(of, merge([points[i] for i in of], tolerance_nm), strict=True):
            number[at] = site + 1
    rank = marks["image"].map({image: i for i, image in enumerate(images)})
    marks = marks.assign(site=number, _rank=rank.astype(int))
    answers = marks.assign(answer=np.where(marks["uncertain"], 0.5, 1.0))
    groups = marks.groupby(["_rank", "image", "site"])
    places = ["y_nm", "x_nm", *(c for c in ("y_px", "x_px") if c in marks.columns)]
    sites = groups[places].mean()
    sites["scatter_nm"] = np.sqrt(groups[["y_nm", "x_nm"]].var(ddof=1).mean(axis=1))
    sites["n_looked"] = 0
    sites["n_marked"] = groups.size()
    sites["n_uncertain"] = groups["uncertain"].sum().astype(int)
    keys = ["_rank", "image", "site"]
    for name in people:
        own = answers[answers["annotator"] == name].set_index(keys)["answer"].reindex(sites.index)
        examined = set(looked.loc[looked["annotator"] == name, "image"])
        has = sites.index.get_level_values("image").isin(examined)
        sites[MARKED + name] = own.fillna(0.0).where(has, np.nan)
    columns = [MARKED + name for name in people]
    sites["n_looked"] = sites[columns].notna().sum(axis=1).astype(int)
    return sites.reset_index().drop(columns="_rank"), marks.drop(columns="_rank")


def check_annotations(
    marks: pd.DataFrame, looked: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return copies of the tables with names as text and ``uncertain`` completed.

    Parameters
    ----------
    looked : pandas.DataFrame
        A row per image and annotator who examined it: ``image, annotator, area_nm2``.

    Raises
    ------
    TableError
        If columns are missing, marks are in an image that the annotator did not examine, or an area
        is unknown.
    """
    for table, needed, what in (
        (marks, ("image", "annotator", "y_nm", "x_nm"), "the table of marks"),
        (looked, ("image", "annotator", "area_nm2"), "the table of examined images"),
    ):
        missing = [name for name in needed if name not in table.columns]
        if missing:
            raise TableError(f"{what} lacks the columns {', '.join(missing)}")
    marks, looked = marks.reset_index(drop=True), looked.reset_index(drop=True)
    for table in (marks, looked):
        for name in ("image", "annotator"):
            table[name] = table[name].astype(str).astype(object)
    if not np.isfinite(marks[["y_nm", "x_nm"]].to_numpy(float)).all():
        raise TableError("the table of marks has rows without a position")
    area = looked["area_nm2"].to_numpy(float)
    if not (np.isfinite(area) & (area > 0)).all():
        raise TableError("the area of an image is unknown, or not positive")
    keys = ["image", "annotator"]
    twice = looked[looked.duplicated(keys)]
    if len(twice):
        raise TableError(
            f"{twice['annotator'].iloc[0]} has two tables for {twice['image'].iloc[0]}",
            advice="Each annotator needs a unique name, and one table per image",
        )
    known = pd.MultiIndex.from_frame(marks[keys]).isin(pd.MultiIndex.from_frame(looked[keys]))
    if not known.all():
        image, name = marks.loc[~known, keys].iloc[0]
        raise TableError(f"{name} has marks in {image}, but did not examine it")
    uncertain = marks["uncertain"].astype(bool) if "uncertain" in marks.columns else False
    return marks.assign(uncertain=uncertain), looked


def both_annotated(looked: pd.DataFrame, a: str, b: str) -> list[str]:
    """Return the images that both annotators examined."""
    of = {name: looked.loc[looked["annotator"] == name, "image"] for name in (a, b)}
    others = set(of[b])
    return [image for image in of[a] if image in others]
