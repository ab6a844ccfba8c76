"""The log of corrections of a project: what is written into it, and what follows from it."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ..models.analysis import Analysis
from ..statistics.annotators.agreement import drop_replaced
from .atoms import merge_marks
from .contents import (
    EditKind,
    MergeReport,
    ProjectImage,
    RecordableEdit,
    entries_by_address,
    rows_by_address,
    settle,
    source_to_add,
)
from .damage import as_text, coerce_numbers, coerce_texts, read_json
from .images import ImageIndex, merge_entries
from .merged import Additions
from .read_rows import read_positions
from .rows import (
    ADD,
    LABEL,
    LOGGED,
    MOVE,
    REMOVE,
    entries_of,
    log_entries,
    rows_of,
    same_clusters,
    same_labels,
    taken_back,
    write_labels,
    write_rows,
)

# ---- merge another project of the same images: corrections, marks and acquisition sessions

MAX_DISTANCE_DIAMETERS = 0.5
_NO_CLUSTER = "this project has no cluster at that place"
_OF_PIECE = "of clusters that were split or merged there"
_MIN_DIAMETER_RATIO = 0.85
"""A piece of a cluster that was split is as large as this fraction of another one, or no match."""


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
    other, additions = _Other(other_db, other_ids, other_images), Additions(db)
    # A copy contains the corrections that were made here before it was copied.
    known = corrections_by_source(db, ids).keys()
    theirs = _with_statements_before(corrections_by_source(other_db, other_ids))
    new_rows = {k: row for k, row in theirs.items() if k not in known}
    same = _same_images(db, other, ids)
    replaced = _replaced_in(new_rows)

    @cache
    def match(image: str) -> dict[int, int]:
        own = {cluster_id for name, cluster_id in replaced.pieces if name == image}
        return _matched_clusters(db, same[image], other, image, own)

    came, changed, unmatched = _insert_corrections(db, new_rows, same, replaced, match)
    disagreements = []
    for image_id, cluster_id in changed:
        disagreements += settle(db, image_id, cluster_id)
    by_id = {other_ids[name]: image_id for name, image_id in same.items()}
    n_marks, n_marks_lost, mark_annotators = merge_marks(db, other_db, by_id, other_ids.values())
    merge_entries(db, other_db, by_id)
    columns = ["image", "cluster_id", "mine", "theirs", "annotator", "label_predicted"]
    differing = pd.DataFrame(disagreements, columns=columns)
    new = {row["annotator"] for row in came}  # the labels of others may differ here already
    there = {
        image: set(read_positions(other_db, other_ids[image])["cluster_id"])
        for image in {r["image"] for r, _ in unmatched}
    }
    lost = [
        (r["image"], r["cluster_id"], r["label"], r["annotator"], why)
        for r, why in unmatched
        # Those that are gone there, too, as they were split or merged, say nothing.
        if r["what"] in (LABEL, ADD) and r["cluster_id"] in there[r["image"]]
    ]
    return MergeReport(
        len(same),
        len(came),
        tuple(dict.fromkeys([*(row["annotator"] for row in came), *mark_annotators])),
        differing[differing["annotator"].isin(new)],
        pd.DataFrame(lost, columns=["image", "cluster_id", "label", "annotator", "why"]),
        n_marks,
        n_marks_lost,
        additions.find(ids),
        *_count_clusters(came),
        tuple(image for image in same if _excludes_more(db, same[image], other, image)),
        _count_whole(db, same, replaced, match),
    )


def _excludes_more(db: sqlite3.Connection, image_id: int, other: _Other, image: str) -> bool:
    """Return whether the other project has excluded regions of an image that are not here."""
    mine = _read_regions(db, image_id)
    return any(region not in mine for region in _read_regions(other.db, other.ids[image]))


def _read_regions(db: sqlite3.Connection, image_id: int) -> list[Any]:
    """Read the excluded regions of an image; none if they are damaged."""
    (text,) = db.execute("SELECT regions FROM images WHERE image_id = ?", (image_id,)).fetchone()
    try:
        return read_json(text, list)
    except ValueError:
        return []


def _count_clusters(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many labels hold after all entries of a log, and how many clusters it changes.

    An annotator who labels a cluster twice has given it one label.
    """
    labels = {(r["annotator"], r["image"], r["cluster_id"]): r for r in rows if r["what"] == LABEL}
    n_labels = sum(row["label"] != "" for row in labels.values())
    return n_labels, len({(r["image"], r["cluster_id"]) for r in rows if r["what"] != LABEL})


def _insert_corrections(
    db: sqlite3.Connection,
    rows: Mapping[str, dict[str, Any]],
    same: Mapping[str, int],
    replaced: _Replaced,
    match: Callable[[str], Mapping[int, int]],  # image → their clusters and the same ones here
) -> tuple[list[dict[str, Any]], list[tuple[int, int]], list[tuple[dict[str, Any], str]]]:
    """Insert new corrections of clusters that both projects have.

    Returns those that came, the clusters whose label may change, and the corrections that match no
    cluster, with the reason.
    """
    came, unmatched = [], []
    changed: dict[tuple[int, int], None] = {}
    skipped, n_rows = set(), rows_by_address(db, "corrections")
    for source, row in rows.items():
        is_left_out = row["correction_id"] in replaced.left_out or replaced.has_label(row)
        if is_left_out and source not in n_rows:
            skipped.add(row["correction_id"])
            continue  # undone before it was merged, or no statement without the pieces
        if row["undoes"] in skipped:
            continue
        image_id = same.get(row["image"])
        if image_id is None:
            unmatched.append((row, "this project has no such image"))
            continue
        cluster_id = match(row["image"]).get(row["cluster_id"])
        if cluster_id is None:
            is_piece = (row["image"], row["cluster_id"]) in replaced.pieces
            unmatched.append((row, _OF_PIECE if is_piece else _NO_CLUSTER))
            continue
        done = db.execute(
            "INSERT OR IGNORE INTO corrections (time, annotator, image_id, cluster_id, frame, "
            "y_nm, x_nm, what, label, label_predicted, model_id, blind, source) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row["time"], row["annotator"], image_id, cluster_id, row["frame"], row["y_nm"],
                row["x_nm"], row["what"], row["label"], row["label_predicted"], row["model_id"],
                row["blind"],
                # A row that is here already, such as one of a removed image, is ignored.
                source_to_add(source, n_rows[source]),
            ),
        )  # fmt: skip
        if done.rowcount:
            came.append(row)
        if row["what"] == LABEL:
            changed[image_id, cluster_id] = None
    return came, list(changed), unmatched


@dataclass(frozen=True, eq=False)
class _Replaced:
    """Splits and merges in a log: they remove some clusters and add others."""

    left_out: set[int]  # entries that split or merge clusters, and all that were undone
    # annotator, image and cluster that was split or merged → the entry
    until: Mapping[tuple[str, str, int], int]
    pieces: set[tuple[str, int]]  # image and cluster: pieces and merged clusters

    def has_label(self, row: Mapping[str, Any]) -> bool:
        """Return whether an open label is of a cluster that its annotator replaced afterwards."""
        entry = self.until.get((row["annotator"], row["image"], row["cluster_id"]), 0)
        return row["what"] == LABEL and not row["blind"] and row["correction_id"] < entry


def _replaced_in(log: Mapping[str, dict[str, Any]]) -> _Replaced:
    """Find what splits and merges clusters.

    The pieces do not come with a merge, and without them it would seem to be no cluster.
    """
    rows = [row for row in log.values() if row["undoes"] is None]
    undone = {row["undoes"] for row in log.values() if row["undoes"] is not None}
    kept = set(drop_replaced(pd.DataFrame(rows)).get("correction_id", ()))
    steps = {(row["image"], row["time"]) for row in rows if row["correction_id"] not in kept}
    found = [
        row
        for row in rows
        if row["correction_id"] not in kept
        or (row["what"] == ADD and (row["image"], row["time"]) in steps)
    ]
    valid = [row for row in found if row["correction_id"] not in undone]
    return _Replaced(
        undone | {row["correction_id"] for row in found},
        {
            (row["annotator"], row["image"], row["cluster_id"]): row["correction_id"]
            for row in valid
            if row["what"] == REMOVE
        },
        {(row["image"], row["cluster_id"]) for row in valid if row["what"] == ADD},
    )


def _count_whole(
    db: sqlite3.Connection,
    same: Mapping[str, int],
    replaced: _Replaced,
    match: Callable[[str], Mapping[int, int]],
) -> dict[str, int]:
    """Count the clusters of each image that were split or merged there and are whole here."""
    found: dict[str, int] = {}
    for image in dict.fromkeys(image for _, image, _ in replaced.until if image in same):
        here = set(read_positions(db, same[image])["cluster_id"])
        there = [cluster_id for _, name, cluster_id in replaced.until if name == image]
        if n := len(here & {match(image).get(cluster_id) for cluster_id in there}):
            found[image] = n
    return found


def _with_statements_before(log: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a log in which what is undone becomes the author's statement before, blind or not.

    The log of a project says which statements are undone; what is merged is one statement after the
    other. They are labels, or that a cluster is there or not.
    """
    gone = {row["undoes"] for row in log.values()}
    said: dict[Any, str] = {}
    out = {}
    for source, row in log.items():
        kind, nothing = ("label", "") if row["what"] == LABEL else ("what", row["what"])
        key = row["annotator"], row["image"], row["cluster_id"], kind
        if row["what"] == MOVE:
            pass
        elif row["undoes"] is not None:
            row = {**row, kind: said.get(key, nothing)}
        elif row["correction_id"] not in gone:
            said[key] = row[kind]
        out[source] = row
    return out


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
    db: sqlite3.Connection, image_id: int, other: _Other, other_image: str, pieces: set[int]
) -> dict[int, int]:
    """Return other id → own id of the clusters of an image that both projects have.

    One that was added where another had been removed is that cluster again: both are the same one
    of this project. The pieces of clusters that were split there, and merged clusters, are the same
    only if they are about as large.
    """
    other_id = other.ids[other_image]
    there = read_positions(other.db, other_id)
    mine = _with_removed(read_positions(db, image_id), db, image_id)
    known = _with_removed(there, other.db, other_id)
    found = _nearest_of_each_other(mine, known[~known["cluster_id"].isin(list(pieces))])
    theirs = {own: cluster_id for cluster_id, own in found.items()}
    left = there[~there["cluster_id"].isin(list(found))]
    for cluster_id, own in _nearest_of_each_other(mine, left).items():
        if own not in theirs or _is_added_after(other.db, other_id, cluster_id, theirs[own]):
            found[cluster_id] = own
    here, at = (t.set_index("cluster_id")["diameter_nm"].to_dict() for t in (mine, there))

    def is_similar(one: float | None, two: float | None) -> bool:
        sizes = sorted((one or math.nan, two or math.nan))
        return not sizes[0] < _MIN_DIAMETER_RATIO * sizes[1]

    return {
        cluster_id: own
        for cluster_id, own in found.items()
        if cluster_id not in pieces or is_similar(at.get(cluster_id), here.get(own))
    }


def _nearest_of_each_other(mine: pd.DataFrame, theirs: pd.DataFrame) -> dict[int, int]:
    """Return other id → own id of clusters at most half a diameter apart."""
    found: dict[int, int] = {}
    for frame in np.intersect1d(mine["frame"], theirs["frame"]):
        a, b = (t[t["frame"] == frame].reset_index(drop=True) for t in (mine, theirs))
        at_a, at_b = (t[["y_px", "x_px"]].to_numpy(float) for t in (a, b))
        distance, nearest = cKDTree(at_a).query(at_b)
        _, back = cKDTree(at_b).query(at_a)
        per_nm = px_per_nm(b)
        limit = MAX_DISTANCE_DIAMETERS * b["diameter_nm"].fillna(0).to_numpy(float) * per_nm
        same = (back[nearest] == np.arange(len(b))) & (distance <= np.maximum(limit, 1.0))
        pairs = zip(b["cluster_id"][same], a["cluster_id"].to_numpy()[nearest[same]], strict=True)
        found |= {int(i): int(j) for i, j in pairs}
    return found


def _is_added_after(db: sqlite3.Connection, image_id: int, added: int, removed: int) -> bool:
    """Return whether a person added a cluster after another one was removed.

    What is added at the same time replaces it: pieces, or a merged cluster.
    """
    first, last = db.execute(
        "SELECT min(CASE WHEN what = ? AND cluster_id = ? THEN time END), "
        "max(CASE WHEN what = ? AND cluster_id = ? THEN time END) "
        "FROM corrections WHERE image_id = ? AND undoes IS NULL",
        (ADD, added, REMOVE, removed, image_id),
    ).fetchone()
    return first is not None and last is not None and first > last


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
    per_nm = px_per_nm(places)
    removed = removed.assign(y_px=removed["y_nm"] * per_nm, x_px=removed["x_nm"] * per_nm)
    return pd.concat([places, removed.drop(columns=["x_nm", "last"])], ignore_index=True)


def px_per_nm(table: pd.DataFrame) -> float:
    """Return the number of pixels in a nm, by the positions of clusters in both."""
    ratio = (table["y_px"] / table["y_nm"]).replace([np.inf, -np.inf], np.nan).dropna()
    return float(ratio.median()) if len(ratio) else 1.0


def write_edit(
    db: sqlite3.Connection,
    image_id: int,
    edit: RecordableEdit,
    before: Analysis | None,
    after: Analysis | None,
    *,
    is_undo: bool,  # whether the edit was reverted: the author's previous statement holds again
    blind: bool,
) -> None:
    """Write an edit of an image's clusters and its entries of the log, in a transaction."""
    is_label, ids = edit.kind is EditKind.LABEL, edit.cluster_ids
    old = {} if is_label else rows_of(before, ids)
    new = rows_of(after, ids, LOGGED if is_label else None)
    if is_label:  # also where the label stays the same: it may have been another annotator's
        entries = entries_of(new.values(), LABEL)
    else:
        entries = log_entries(old, new, by_person=edit.kind is EditKind.GEOMETRY)
    # To the microsecond: all entries of one edit have one time, and no other edit has it.
    stamp = datetime.now(UTC).isoformat(timespec="microseconds")
    if is_undo and entries:
        entries = taken_back(db, image_id, edit.author, blind, entries, only_labels=is_label)
    db.executemany(
        "INSERT INTO corrections (time, annotator, image_id, cluster_id, frame, y_nm, "
        "x_nm, what, label, label_predicted, model_id, undoes, blind) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(stamp, edit.author, image_id, *entry, blind) for entry in entries],
    )
    if is_label and not blind:
        write_labels(db, image_id, new)
    elif is_label:
        for cluster_id in new:  # a blind label counts where there is no open one
            settle(db, image_id, cluster_id)
    elif not blind:
        write_rows(db, image_id, before, after, old, new, ids, is_undo=is_undo)


def is_of_model_only(edit: RecordableEdit, before: Analysis | None, after: Analysis | None) -> bool:
    """Return whether only a model's view of the same clusters changed."""
    if after is None:
        return False
    if edit.kind is EditKind.PREDICTION and same_labels(before, after):
        return True
    by_model = edit.kind in (EditKind.PREDICTION, EditKind.ANALYSIS)
    return by_model and same_clusters(before, after)


def read_corrections(db: sqlite3.Connection, index: ImageIndex) -> pd.DataFrame:
    """Return the log of corrections; see `Project.corrections`.

    Ids that are no numbers become -1, positions NaN.
    """
    found = pd.read_sql_query(
        "SELECT time, annotator, image_id, cluster_id, frame, y_nm, x_nm, what, "
        "label, label_predicted, model_id, blind, source IS NOT NULL AS merged, "
        "undoes IS NOT NULL AS undo, correction_id IN "
        "(SELECT undoes FROM corrections WHERE undoes IS NOT NULL) AS undone "
        "FROM corrections ORDER BY correction_id",
        db,
    )
    found = index.named(found)
    found = coerce_numbers(found, ("cluster_id", "frame"), whole=True)
    found = coerce_numbers(found, ("y_nm", "x_nm"))
    texts = ("time", "annotator", "what", "label", "label_predicted", "model_id")
    found = coerce_texts(found, texts)
    return found.astype(dict.fromkeys(("blind", "merged", "undo", "undone"), bool))


def read_labels(db: sqlite3.Connection, images: Mapping[str, int]) -> dict[str, dict[int, str]]:
    """Return the label that counts of each labelled cluster: image → cluster_id → label."""
    rows = db.execute(
        "SELECT image_id, cluster_id, label_corrected FROM clusters WHERE label_corrected != ''"
    ).fetchall()
    names = {image_id: name for name, image_id in images.items()}
    found: dict[str, dict[int, str]] = {image: {} for image in images}
    for image_id, cluster_id, label in rows:
        if image_id in names and isinstance(cluster_id, int):
            found[names[image_id]][cluster_id] = as_text(label)
    return found


def blind_labels(
    log: pd.DataFrame, annotator: str
) -> tuple[dict[str, dict[int, str]], dict[str, frozenset[int]]]:
    """Return the blind labels of one annotator; see `Project.blind_labels`."""
    own = log[log["blind"] & (log["annotator"] == annotator)]
    labels: dict[str, dict[int, str]] = {}
    for row in own[own["what"] == LABEL].itertuples():
        labels.setdefault(str(row.image), {})[int(str(row.cluster_id))] = str(row.label)
    last = own[own["what"] != LABEL].drop_duplicates(["image", "cluster_id"], keep="last")
    removed = last[last["what"] == REMOVE].groupby("image")["cluster_id"]
    return labels, {str(image): frozenset(ids.tolist()) for image, ids in removed}


def corrections_by_source(
    db: sqlite3.Connection, images: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Return the log by an address that an entry keeps in every project it is merged into.

    Entries of a merge that was taken back are left out.
    """
    own = db.execute("SELECT uuid FROM identity").fetchone()[0]
    cursor = db.execute(
        "SELECT correction_id, source, time, annotator, image_id AS image, cluster_id, "
        "frame, y_nm, x_nm, what, label, label_predicted, model_id, blind, undoes "
        "FROM corrections ORDER BY correction_id"
    )
    columns = [column[0] for column in cursor.description]
    rows = [dict(zip(columns, row, strict=True)) for row in cursor]
    names = {image_id: name for name, image_id in images.items()}
    rows = [
        {**row, "image": names[row["image"]]}
        for row in rows
        if row["image"] in names and _is_entry(row)
    ]

    # Copies of a project share its uuid, and continue with the same number.
    def address_here(row: dict[str, Any]) -> str:
        return f"{own}/{row['correction_id']}/{row['time']}/{row['annotator']}"

    return entries_by_address(db, "corrections", rows, address_here)


def _is_entry(row: dict[str, Any]) -> bool:
    """Return whether the values of an entry have their types."""
    return all(isinstance(row[n], int) for n in ("cluster_id", "frame")) and all(
        isinstance(row[n], str)
        for n in ("time", "annotator", "what", "label", "label_predicted", "model_id")
    )


def manual_edits(
    db: sqlite3.Connection,
    image: str,
    image_id: int,
    moved: bool = False,  # whether clusters that a person moved are among those added
) -> tuple[frozenset[int], pd.DataFrame]:
    """Return clusters that a person added and positions of removed ones, without undone edits."""
    log = _places_in_log(db, image, image_id)
    first, last = (log.drop_duplicates("cluster_id", keep=k) for k in ("first", "last"))
    added = set(first.loc[first["what"] == ADD, "cluster_id"])
    added |= set(log.loc[log["what"] == MOVE, "cluster_id"]) if moved else set()
    there = set(last.loc[last["what"] != REMOVE, "cluster_id"])
    # Clusters that were split or merged were replaced, not removed.
    removed = drop_replaced(log).drop_duplicates("cluster_id", keep="last")
    removed = removed[removed["what"] == REMOVE]
    return frozenset(added & there), removed[["frame", "y_nm", "x_nm"]].reset_index(drop=True)


def _places_in_log(db: sqlite3.Connection, image: str, image_id: int) -> pd.DataFrame:
    """Return what people of this project did to clusters, openly and not undone, with places."""
    log = pd.read_sql_query(
        "SELECT time, ? AS image, cluster_id, frame, y_nm, x_nm, what FROM corrections "
        "WHERE image_id = ? AND NOT blind AND source IS NULL AND what IN (?, ?, ?) "
        "AND undoes IS NULL AND correction_id NOT IN "
        "(SELECT undoes FROM corrections WHERE image_id = ? AND undoes IS NOT NULL) "
        "ORDER BY correction_id",
        db,
        params=(image, image_id, ADD, MOVE, REMOVE, image_id),
    )
    log = coerce_numbers(log, ("cluster_id", "frame"), whole=True)
    log = coerce_numbers(log, ("y_nm", "x_nm"))
    return log[(log["cluster_id"] >= 0) & log["y_nm"].notna() & log["x_nm"].notna()]
