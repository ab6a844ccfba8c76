"""Merge another project of the same images: corrections, marks and acquisition sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from .atoms import merge_marks
from .contents import MergeReport, ProjectImage
from .corrections import corrections_by_source
from .label_rules import settle
from .read_rows import read_positions
from .rows import ADD, LABEL
from .session_records import merge_entries

_MAX_DISTANCE_DIAMETERS = 0.5


@dataclass(frozen=True, eq=False)
class _Other:
    """The project that is merged into this one."""

    db: sqlite3.Connection
    ids: Mapping[str, int]
    images: Sequence[ProjectImage]


def merge(
    db: sqlite3.Connection,  # this project, in a transaction of the caller
    ids: Mapping[str, int],
    other_db: sqlite3.Connection,
    other_ids: Mapping[str, int],
    other_images: Sequence[ProjectImage],
) -> MergeReport:
    """Write the corrections of another project into this one; see `Project.merge`."""
    other = _Other(other_db, other_ids, other_images)
    # A copy contains the corrections that were made here before it was copied.
    known = corrections_by_source(db, ids).keys()
    theirs = corrections_by_source(other_db, other_ids)
    new_rows = {k: row for k, row in theirs.items() if k not in known}
    same = _same_images(db, other, ids)
    n_new, changed, unmatched = _insert_corrections(db, other, new_rows, same)
    disagreements = []
    for image_id, cluster_id in changed:
        disagreements += settle(db, image_id, cluster_id)
    by_id = {other_ids[name]: image_id for name, image_id in same.items()}
    n_marks, n_marks_lost, mark_annotators = merge_marks(db, other_db, by_id)
    merge_entries(db, other_db, by_id)
    columns = ["image", "cluster_id", "mine", "theirs", "annotator", "label_predicted"]
    lost = [
        (r["image"], r["cluster_id"], r["label"], r["annotator"], why)
        for r, why in unmatched
        if r["what"] in (LABEL, ADD)
    ]
    return MergeReport(
        len(same),
        n_new,
        tuple(dict.fromkeys([*(row["annotator"] for row in new_rows.values()), *mark_annotators])),
        pd.DataFrame(disagreements, columns=columns),
        pd.DataFrame(lost, columns=["image", "cluster_id", "label", "annotator", "why"]),
        n_marks,
        n_marks_lost,
    )


def _insert_corrections(
    db: sqlite3.Connection,
    other: _Other,
    rows: Mapping[str, dict[str, Any]],
    same: Mapping[str, int],
) -> tuple[int, list[tuple[int, int]], list[tuple[dict[str, Any], str]]]:
    """Insert new corrections of clusters that both projects have.

    Returns their number, the clusters whose label may change, and the corrections that match no
    cluster, with the reason.
    """
    matched: dict[int, dict[int, int]] = {}
    n_new, unmatched = 0, []
    changed: dict[tuple[int, int], None] = {}
    undone = {row["undoes"] for row in rows.values() if row["undoes"] is not None}
    skipped = set()
    for source, row in rows.items():
        if row["correction_id"] in undone and not _has(db, source):
            skipped.add(row["correction_id"])
            continue  # undone before it was merged
        if row["undoes"] in skipped and row["what"] != LABEL:
            continue
        image_id = same.get(row["image"])
        if image_id is None:
            unmatched.append((row, "this project has no such image"))
            continue
        if image_id not in matched:
            matched[image_id] = _matched_clusters(db, image_id, other, row["image"])
        cluster_id = matched[image_id].get(row["cluster_id"])
        if cluster_id is None:
            unmatched.append((row, "this project has no cluster at that place"))
            continue
        done = db.execute(
            "INSERT OR IGNORE INTO corrections (time, annotator, image_id, cluster_id, frame, "
            "y_nm, x_nm, what, label, label_predicted, model_id, blind, source) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row["time"], row["annotator"], image_id, cluster_id, row["frame"], row["y_nm"],
                row["x_nm"], row["what"], row["label"], row["label_predicted"], row["model_id"],
                row["blind"], source,
            ),
        )  # fmt: skip
        n_new += done.rowcount
        if row["what"] == LABEL:
            changed[image_id, cluster_id] = None
    return n_new, list(changed), unmatched


def _same_images(db: sqlite3.Connection, other: _Other, ids: Mapping[str, int]) -> dict[str, int]:
    """Return other name → own id of images with the same content."""
    ours: dict[str, dict[str, int]] = {}
    digests = dict(db.execute("SELECT image_id, sha256 FROM images"))
    for name, image_id in ids.items():
        if digest := digests.get(image_id):
            ours.setdefault(digest, {})[name] = image_id
    found = {}
    for image in other.images:
        same = ours.get(image.sha256 or "", {})
        if same:  # of several with the same content the one of that name
            found[image.name] = same.get(image.name, next(iter(same.values())))
    return found


def _matched_clusters(
    db: sqlite3.Connection, image_id: int, other: _Other, other_image: str
) -> dict[int, int]:
    """Return other id → own id of the clusters of an image that both projects have."""
    mine = _with_removed(read_positions(db, image_id), db, image_id)
    other_id = other.ids[other_image]
    theirs = _with_removed(read_positions(other.db, other_id), other.db, other_id)
    found: dict[int, int] = {}
    for frame in np.intersect1d(mine["frame"], theirs["frame"]):
        a, b = (t[t["frame"] == frame].reset_index(drop=True) for t in (mine, theirs))
        at_a, at_b = (t[["y_px", "x_px"]].to_numpy(float) for t in (a, b))
        distance, nearest = cKDTree(at_a).query(at_b)
        _, back = cKDTree(at_b).query(at_a)
        per_nm = _px_per_nm(b)
        limit = _MAX_DISTANCE_DIAMETERS * b["diameter_nm"].fillna(0).to_numpy(float) * per_nm
        same = (back[nearest] == np.arange(len(b))) & (distance <= np.maximum(limit, 1.0))
        pairs = zip(b["cluster_id"][same], a["cluster_id"].to_numpy()[nearest[same]], strict=True)
        found |= {int(i): int(j) for i, j in pairs}
    return found


def _with_removed(places: pd.DataFrame, db: sqlite3.Connection, image_id: int) -> pd.DataFrame:
    """Add the positions of removed clusters, from the log."""
    removed = pd.read_sql_query(
        "SELECT max(correction_id) AS last, cluster_id, frame, y_nm, x_nm FROM corrections "
        "WHERE image_id = ? AND what = 'remove' GROUP BY cluster_id",
        db,
        params=(image_id,),
    )
    removed = removed[~removed["cluster_id"].isin(places["cluster_id"])]
    if not len(removed) or not len(places):
        return places
    per_nm = _px_per_nm(places)
    removed = removed.assign(y_px=removed["y_nm"] * per_nm, x_px=removed["x_nm"] * per_nm)
    return pd.concat([places, removed.drop(columns=["x_nm", "last"])], ignore_index=True)


def _px_per_nm(table: pd.DataFrame) -> float:
    ratio = (table["y_px"] / table["y_nm"]).replace([np.inf, -np.inf], np.nan).dropna()
    return float(ratio.median()) if len(ratio) else 1.0


def _has(db: sqlite3.Connection, source: str) -> bool:
    found = db.execute("SELECT 1 FROM corrections WHERE source = ?", (source,)).fetchone()
    return found is not None
