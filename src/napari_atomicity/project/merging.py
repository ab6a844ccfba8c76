"""Two people's projects of the same images become one, and where they disagree is listed."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from .atoms import merge_marks
from .rows import ADD, LABEL

if TYPE_CHECKING:
    from .project import MergeReport, Project

_WITHIN_DIAMETERS = 0.5


def merge(project: Project, db: sqlite3.Connection, other: Project) -> MergeReport:
    """Write the corrections of another project into this one: see `Project.merge`."""
    from .project import MergeReport

    # A copy holds what was said here before it was made.
    known = project.corrections_by_source().keys()
    theirs = {k: row for k, row in other.corrections_by_source().items() if k not in known}
    same = _same_images(db, other)
    twins: dict[int, dict[int, int]] = {}
    new, unmatched = 0, []
    touched: dict[tuple[int, int], None] = {}
    undone = {row["undoes"] for row in theirs.values() if row["undoes"] is not None}
    for source, row in theirs.items():
        if row["correction_id"] in undone and not _has(db, source):
            continue  # it was taken back before anybody heard of it
        image_id = same.get(row["image"])
        if image_id is None:
            unmatched.append((row, "this project has no such image"))
            continue
        if image_id not in twins:
            twins[image_id] = _twins(db, image_id, other, row["image"])
        cluster_id = twins[image_id].get(row["cluster_id"])
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
        new += done.rowcount
        if row["what"] == LABEL:
            touched[image_id, cluster_id] = None
    disagreements = []
    for image_id, cluster_id in touched:
        disagreements += settle(db, image_id, cluster_id)
    with other._reading() as their_db:
        ids = {other._names[name]: image_id for name, image_id in same.items()}
        n_marks, n_marks_lost, who_marked = merge_marks(db, their_db, ids)
    columns = ["image", "cluster_id", "mine", "theirs", "annotator", "label_predicted"]
    lost = [
        (r["image"], r["cluster_id"], r["label"], r["annotator"], why)
        for r, why in unmatched
        if r["what"] in (LABEL, ADD)
    ]
    return MergeReport(
        len(same),
        new,
        tuple(dict.fromkeys([*(row["annotator"] for row in theirs.values()), *who_marked])),
        pd.DataFrame(disagreements, columns=columns),
        pd.DataFrame(lost, columns=["image", "cluster_id", "label", "annotator", "why"]),
        n_marks,
        n_marks_lost,
    )


def _same_images(db: sqlite3.Connection, other: Project) -> dict[str, int]:
    """Their names → our ids, of images with the same content."""
    ours: dict[str, dict[str, int]] = {}
    for image_id, name, digest in db.execute("SELECT image_id, name, sha256 FROM images"):
        if digest:
            ours.setdefault(digest, {})[name] = image_id
    found = {}
    for image in other.images():
        same = ours.get(image.sha256 or "", {})
        if same:  # of several with the same content the one of that name
            found[image.name] = same.get(image.name, next(iter(same.values())))
    return found


def _twins(
    db: sqlite3.Connection, image_id: int, other: Project, their_image: str
) -> dict[int, int]:
    """Their cluster ids → ours, of the clusters that are the same in an image."""
    columns = "cluster_id, frame, y_px, x_px, y_nm, diameter_nm"
    mine = pd.read_sql_query(
        f"SELECT {columns} FROM clusters WHERE image_id = ?", db, params=(image_id,)
    )
    theirs = other.places(their_image)
    mine = _with_removed(mine, db, image_id)
    with other._reading() as their_db:
        theirs = _with_removed(theirs, their_db, other._names[their_image])
    found: dict[int, int] = {}
    for frame in np.intersect1d(mine["frame"], theirs["frame"]):
        a, b = (t[t["frame"] == frame].reset_index(drop=True) for t in (mine, theirs))
        at_a, at_b = (t[["y_px", "x_px"]].to_numpy(float) for t in (a, b))
        distance, nearest = cKDTree(at_a).query(at_b)
        _, back = cKDTree(at_b).query(at_a)
        per_nm = _px_per_nm(b)
        limit = _WITHIN_DIAMETERS * b["diameter_nm"].fillna(0).to_numpy(float) * per_nm
        same = (back[nearest] == np.arange(len(b))) & (distance <= np.maximum(limit, 1.0))
        pairs = zip(b["cluster_id"][same], a["cluster_id"].to_numpy()[nearest[same]], strict=True)
        found |= {int(i): int(j) for i, j in pairs}
    return found


def _with_removed(places: pd.DataFrame, db: sqlite3.Connection, image_id: int) -> pd.DataFrame:
    """Also where those lay of which somebody said that they are no clusters: the log knows it."""
    gone = pd.read_sql_query(
        "SELECT max(correction_id) AS last, cluster_id, frame, y_nm, x_nm FROM corrections "
        "WHERE image_id = ? AND what = 'remove' GROUP BY cluster_id",
        db,
        params=(image_id,),
    )
    gone = gone[~gone["cluster_id"].isin(places["cluster_id"])]
    if not len(gone) or not len(places):
        return places
    per_nm = _px_per_nm(places)
    gone = gone.assign(y_px=gone["y_nm"] * per_nm, x_px=gone["x_nm"] * per_nm)
    return pd.concat([places, gone.drop(columns=["x_nm", "last"])], ignore_index=True)


def _px_per_nm(table: pd.DataFrame) -> float:
    ratio = (table["y_px"] / table["y_nm"]).replace([np.inf, -np.inf], np.nan).dropna()
    return float(ratio.median()) if len(ratio) else 1.0


def settle(
    db: sqlite3.Connection, image_id: int, cluster_id: int
) -> list[tuple[str, int, str, str, str, str]]:
    """Let the label that counts be the one of today's log; where people differ, say so."""
    log = db.execute(
        "SELECT annotator, label, blind, source, label_predicted FROM corrections c "
        "WHERE image_id = ? AND cluster_id = ? AND what = 'label' AND undoes IS NULL AND "
        "NOT EXISTS (SELECT 1 FROM corrections u WHERE u.undoes = c.correction_id) "
        "ORDER BY correction_id",
        (image_id, cluster_id),
    ).fetchall()
    label = label_that_counts(
        [(label, bool(blind), bool(source)) for _, label, blind, source, _ in log]
    )
    db.execute(
        "UPDATE clusters SET label_corrected = ? WHERE image_id = ? AND cluster_id = ?",
        (label, image_id, cluster_id),
    )
    last = {annotator: said for annotator, said, *_ in log if said}
    others = {a: said for a, said in last.items() if said != label}
    name = db.execute("SELECT name FROM images WHERE image_id = ?", (image_id,)).fetchone()[0]
    predicted = next((row[4] for row in reversed(log) if row[4]), "")
    return [(name, cluster_id, label, said, a, predicted) for a, said in others.items()]


def label_that_counts(said: list[tuple[str, bool, bool]]) -> str:
    """Of what was said of a cluster, in order, the label that counts.

    Parameters
    ----------
    said
        Tuples of the label ("" takes one back), whether it was said blind, and whether it came
        from another project.

    Returns
    -------
    str
        The last that was said here openly, "" included; where nothing was, the last of the others.
    """
    own = [label for label, blind, merged in said if not blind and not merged]
    if own:
        return own[-1]
    return said[-1][0] if said else ""


def _has(db: sqlite3.Connection, source: str) -> bool:
    found = db.execute("SELECT 1 FROM corrections WHERE source = ?", (source,)).fetchone()
    return found is not None
