"""The log of corrections of a project: what is written into it, and what follows from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from ..models.analysis import Analysis
from ..statistics.agreement import drop_replaced
from .damage import as_text, coerce_numbers, coerce_texts
from .edit_kind import EditKind, RecordableEdit
from .label_rules import settle
from .rows import (
    ADD,
    LABEL,
    LOGGED,
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
        write_rows(db, image_id, before, after, old, new, ids)


def is_of_model_only(edit: RecordableEdit, before: Analysis | None, after: Analysis | None) -> bool:
    """Return whether only a model's view of the same clusters changed."""
    if after is None:
        return False
    if edit.kind is EditKind.PREDICTION and same_labels(before, after):
        return True
    by_model = edit.kind in (EditKind.PREDICTION, EditKind.ANALYSIS)
    return by_model and same_clusters(before, after)


def read_corrections(db: sqlite3.Connection, images: Mapping[str, int]) -> pd.DataFrame:
    """Return the log of corrections; see `Project.corrections`.

    Every entry is returned, also those of images that are damaged or missing. Ids that are no
    numbers become -1, positions NaN.
    """
    found = pd.read_sql_query(
        "SELECT time, annotator, image_id AS image, cluster_id, frame, y_nm, x_nm, what, "
        "label, label_predicted, model_id, blind, source IS NOT NULL AS merged, "
        "undoes IS NOT NULL AS undo "
        "FROM corrections ORDER BY correction_id",
        db,
    )
    names = {image_id: name for name, image_id in images.items()}
    found["image"] = [names.get(i, f"image {as_text(i)}") for i in found["image"].tolist()]
    found["image"] = found["image"].astype(object)
    found = coerce_numbers(found, ("cluster_id", "frame"), whole=True)
    found = coerce_numbers(found, ("y_nm", "x_nm"))
    texts = ("time", "annotator", "what", "label", "label_predicted", "model_id")
    found = coerce_texts(found, texts)
    return found.astype({"blind": bool, "merged": bool, "undo": bool})


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
    own = log[log["blind"] & ~log["merged"] & (log["annotator"] == annotator)]
    labels: dict[str, dict[int, str]] = {}
    for row in own[own["what"] == LABEL].itertuples():
        labels.setdefault(str(row.image), {})[int(str(row.cluster_id))] = str(row.label)
    last = own[own["what"] != LABEL].drop_duplicates(["image", "cluster_id"], keep="last")
    removed = last[last["what"] == REMOVE].groupby("image")["cluster_id"]
    return labels, {str(image): frozenset(ids.tolist()) for image, ids in removed}


def corrections_by_source(
    db: sqlite3.Connection, images: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Return the log by an address that an entry keeps in every project it is merged into."""
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
    return {
        row["source"] or f"{own}/{row['correction_id']}/{row['time']}/{row['annotator']}": row
        for row in rows
    }


def _is_entry(row: dict[str, Any]) -> bool:
    """Return whether the values of an entry have their types."""
    return all(isinstance(row[n], int) for n in ("cluster_id", "frame")) and all(
        isinstance(row[n], str)
        for n in ("time", "annotator", "what", "label", "label_predicted", "model_id")
    )


def manual_edits(
    db: sqlite3.Connection, image: str, image_id: int
) -> tuple[frozenset[int], pd.DataFrame]:
    """Return clusters that a person added and positions of removed ones, without undone edits."""
    log = pd.read_sql_query(
        "SELECT time, ? AS image, cluster_id, frame, y_nm, x_nm, what FROM corrections "
        "WHERE image_id = ? AND NOT blind AND source IS NULL AND what IN (?, ?) "
        "AND undoes IS NULL AND correction_id NOT IN "
        "(SELECT undoes FROM corrections WHERE image_id = ? AND undoes IS NOT NULL) "
        "ORDER BY correction_id",
        db,
        params=(image, image_id, ADD, REMOVE, image_id),
    )
    log = coerce_numbers(log, ("cluster_id", "frame"), whole=True)
    log = coerce_numbers(log, ("y_nm", "x_nm"))
    log = log[(log["cluster_id"] >= 0) & log["y_nm"].notna() & log["x_nm"].notna()]
    if not len(log):
        return frozenset(), log[["frame", "y_nm", "x_nm"]]
    first = log.drop_duplicates("cluster_id", keep="first").set_index("cluster_id")["what"]
    last = log.drop_duplicates("cluster_id", keep="last").set_index("cluster_id")
    added = last.index[(first.loc[last.index] == ADD) & (last["what"] == ADD)]
    # Clusters that were split or merged were replaced, not removed.
    removed = drop_replaced(log)
    removed = removed.drop_duplicates("cluster_id", keep="last")
    removed = removed[removed["what"] == REMOVE]
    return frozenset(added.tolist()), removed[["frame", "y_nm", "x_nm"]].reset_index(drop=True)
