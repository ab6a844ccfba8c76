"""Write an analysis as rows of a project's tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from ..core.tables import cluster_table as tables
from ..io.files import plain
from ..io.provenance import now
from ..models.analysis import Analysis
from .contents import labels_of_log

MEASURED = (
    "frame", "y_px", "x_px", "y_nm", "x_nm", "diameter_nm", "integrated_intensity",
    "eccentricity", "touches_border", "touches_neighbour",
)  # fmt: skip
"""Columns of the cluster table that no model has to do with, each with a column in the file."""
LOGGED = (
    "cluster_id", "frame", "y_px", "x_px", "y_nm", "x_nm", "label_corrected", "label_predicted",
    "model_id",
)  # fmt: skip
"""Columns that the log of corrections needs."""
PREDICTED = (
    "label_predicted", "confidence", "prediction_set", "ood_score", "umap_1", "umap_2",
    "conditions_differ", "n_atoms", "n_atoms_low", "n_atoms_high", "label_diameter",
    "label_mixture", "label_network", "disagreement", "session_umap_1", "session_umap_2",
)  # fmt: skip
"""Columns that a model gives, each with a column in the file."""
DERIVED = ("image", "label", "excluded")
"""Columns that follow from the rest of the file."""
WITH_OWN_PLACE = frozenset(
    {*LOGGED, *MEASURED, *tables.RECORDING, *PREDICTED, *DERIVED, "track_id"}
)
"""Columns of the cluster table that have a column in the file or follow from it."""


def measurements_of(table: pd.DataFrame) -> list[str]:
    """Return the columns that are stored together as JSON: all without a column in the file."""
    return [
        str(name)
        for name in table.columns
        if name not in WITH_OWN_PLACE
        and not str(name).startswith("p_")
        and (tables.column_of(str(name)) is not None or table[name].dtype.kind in "fiub")
    ]


LABEL, REMOVE, ADD, MOVE = "label", "remove", "add", "move"
UNDOES = {LABEL: LABEL, MOVE: MOVE, REMOVE: ADD, ADD: REMOVE}


def write_rows(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    before: Analysis | None,
    after: Analysis | None,
    old: dict[int, dict[str, Any]],
    new: dict[int, dict[str, Any]],
    cluster_ids: frozenset[int] | None,  # clusters that may have changed; None: any
    *,
    is_undo: bool = False,
) -> None:
    """Write the clusters of an image, and what the analysis says of the image."""
    if after is None or cluster_ids is None:
        db.execute("DELETE FROM clusters WHERE image_id = ?", (image_id,))
    else:
        gone = [(image_id, i) for i in old if i not in new]
        db.executemany("DELETE FROM clusters WHERE image_id = ? AND cluster_id = ?", gone)
    if after is None:
        db.execute(
            "UPDATE images SET analysed = 0, model_id = NULL, parameters = '{}', scale = NULL,"
            " regions = '[]' WHERE image_id = ?",
            (image_id,),
        )
        return
    whole = _write_clusters(db, image_id, after, old, new, cluster_ids)
    classes = tables.classes_of(after.table)
    _insert_predictions(db, image_id, {i: new[i] for i in whole}, classes)
    if _has_new_record(before, after, cluster_ids):
        _write_analysis(db, image_id, before, after, classes, is_undo)
    if before is None or before.regions is not after.regions:
        regions = json.dumps([np.asarray(r).tolist() for r in after.regions])
        db.execute("UPDATE images SET regions = ? WHERE image_id = ?", (regions, image_id))
    db.execute(
        "UPDATE images SET next_id = max(next_id, ?) WHERE image_id = ?",
        (max(new, default=0) + 1, image_id),
    )


def _has_new_record(
    before: Analysis | None, after: Analysis, cluster_ids: frozenset[int] | None
) -> bool:
    """Return whether more than single clusters changed, such as what is known of the session."""
    return before is None or before.parameters is not after.parameters or cluster_ids is None


def _write_clusters(
    db: sqlite3.Connection,
    image_id: int,
    after: Analysis,
    old: dict[int, dict[str, Any]],
    new: dict[int, dict[str, Any]],
    cluster_ids: frozenset[int] | None,
) -> list[int]:
    """Write clusters that changed; return the ids of those of which more than a label changed."""
    outlines = _outlines_of(after, new)
    changed = [i for i, row in new.items() if cluster_ids is None or row != old.get(i)]
    only_label = [i for i in changed if cluster_ids is not None and _same_but(old, new, i)]
    db.executemany(
        "UPDATE clusters SET label_corrected = ?, track_id = ? WHERE image_id = ? AND "
        "cluster_id = ?",
        [(new[i]["label_corrected"], new[i].get("track_id"), image_id, i) for i in only_label],
    )
    whole = [i for i in changed if i not in set(only_label)]
    written, own = (*MEASURED, *tables.RECORDING), measurements_of(after.table)
    db.executemany(
        f"INSERT OR REPLACE INTO clusters (image_id, cluster_id, {', '.join(written)}, "
        "label_corrected, track_id, model_id, outline, measurements) "
        f"VALUES ({_marks(len(written) + 7)})",
        [
            (
                image_id, i, *map(new[i].get, written),
                new[i]["label_corrected"], new[i].get("track_id"), new[i]["model_id"] or None,
                outlines[i], _measurements(new[i], own),
            )
            for i in whole
        ],
    )  # fmt: skip
    return whole


def _measurements(row: dict[str, Any], names: list[str]) -> str | None:
    """Return the columns of a cluster that are stored together as JSON; None if there are none."""
    return json.dumps(plain({name: row[name] for name in names})) if names else None


PIXEL_SIZE = "analysed_pixel_size_nm"
"""Key of the stored parameters of an analysis: its pixel size, for an image without clusters."""


def _write_analysis(
    db: sqlite3.Connection,
    image_id: int,
    before: Analysis | None,
    after: Analysis,
    classes: list[str],
    is_undo: bool = False,
) -> None:
    # The image keeps the pixel size that a person has entered since its analysis.
    size_nm = after.micrograph.pixel_size_nm
    if is_undo or (before is not None and before.micrograph.pixel_size_nm == size_nm):
        size_nm = None
    scale = None if after.scale is None else json.dumps(plain(asdict(after.scale)))
    model = after.parameters.get("model") or {}
    parameters = {**after.parameters, PIXEL_SIZE: after.micrograph.pixel_size_nm}
    model_id = model.get("model_id")
    db.execute(
        "UPDATE images SET analysed = 1, error = '', model_id = ?, parameters = ?, scale = ?, "
        "field_of_view_nm = ?, pixel_size_nm = coalesce(?, pixel_size_nm), seconds = ? "
        "WHERE image_id = ?",
        (
            model_id, json.dumps(plain(parameters)), scale, after.field_of_view_nm,
            size_nm, json.dumps(plain(after.seconds)), image_id,
        ),
    )  # fmt: skip
    if model_id:
        db.execute(
            "INSERT OR IGNORE INTO models (model_id, classes, card) VALUES (?, ?, ?)",
            (model_id, json.dumps(classes), json.dumps(plain(model))),
        )


# ---- from analyses to rows
def rows_of(
    analysis: Analysis | None,
    cluster_ids: frozenset[int] | None,
    columns: Iterable[str] | None = None,
) -> dict[int, dict[str, Any]]:
    """Return rows of a cluster table as dictionaries."""
    if analysis is None:
        return {}
    table = analysis.table
    # As arrays: pandas takes its time over rows.
    ids = table["cluster_id"].to_numpy()
    rows = slice(None) if cluster_ids is None else np.isin(ids, list(cluster_ids))
    names = [str(n) for n in table.columns] if columns is None else list(columns)
    values = zip(*[table[name].to_numpy()[rows].tolist() for name in names], strict=True)
    return {
        i: dict(zip(names, row, strict=True))
        for i, row in zip(ids[rows].tolist(), values, strict=True)
    }


def write_labels(db: sqlite3.Connection, image_id: int, new: dict[int, dict[str, Any]]) -> None:
    """Write the labels of some clusters of an image."""
    db.executemany(
        "UPDATE clusters SET label_corrected = ? WHERE image_id = ? AND cluster_id = ?",
        [(row["label_corrected"], image_id, i) for i, row in new.items()],
    )


def same_clusters(before: Analysis | None, after: Analysis | None) -> bool:
    """Return whether clusters, measurements, tracks and labels are equal in two analyses."""
    if before is None or after is None or before.regions is not after.regions:
        return False
    a, b = before.table, after.table
    own = {*measurements_of(a), *measurements_of(b)}
    for name in ("track_id", *tables.RECORDING, *own):
        present = [name in table.columns for table in (a, b)]
        if any(present) and not (all(present) and a[name].equals(b[name])):
            return False
    return len(a) == len(b) and all(
        np.array_equal(a[name].to_numpy(), b[name].to_numpy(), equal_nan=a[name].dtype.kind == "f")
        for name in ("cluster_id", *MEASURED, "label_corrected")
    )


def same_labels(before: Analysis | None, after: Analysis) -> bool:
    """Return whether labels are equal in two analyses of the same clusters."""
    if before is None or len(before.table) != len(after.table):
        return False
    a, b = (t["label_corrected"].to_numpy() for t in (before.table, after.table))
    return bool(np.array_equal(a, b))


def write_predictions(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    before: Analysis | None,
    after: Analysis,
    cluster_ids: frozenset[int] | None,
) -> None:
    """Write the predictions of known clusters, and the record of the analysis if it changed."""
    rows = rows_of(after, cluster_ids)
    classes = tables.classes_of(after.table)
    _insert_predictions(db, image_id, rows, classes)
    together = measurements_of(after.table)
    db.executemany(
        "UPDATE clusters SET model_id = ?, measurements = ? WHERE image_id = ? AND cluster_id = ?",
        [
            (row["model_id"] or None, _measurements(row, together), image_id, i)
            for i, row in rows.items()
        ],
    )
    if _has_new_record(before, after, cluster_ids):
        # Unless it was undone meanwhile.
        there = db.execute("SELECT analysed FROM images WHERE image_id = ?", (image_id,))
        if there.fetchone()[0]:
            _write_analysis(db, image_id, before, after, classes)


def _insert_predictions(
    db: sqlite3.Connection, image_id: int, rows: dict[int, dict[str, Any]], classes: list[str]
) -> None:
    stored = {i: row for i, row in rows.items() if row["model_id"]}
    names = tables.probability_columns(classes)
    probabilities = plain([[*map(row.get, names)] for row in stored.values()])
    time = now()
    db.executemany(
        f"INSERT OR REPLACE INTO predictions (image_id, cluster_id, model_id, "
        f"{', '.join(PREDICTED)}, probabilities, time) "
        f"VALUES ({_marks(len(PREDICTED) + 5)})",
        [
            (image_id, i, row["model_id"], *map(row.get, PREDICTED), json.dumps(p), time)
            for (i, row), p in zip(stored.items(), probabilities, strict=True)
        ],
    )


def _outlines_of(analysis: Analysis, rows: Iterable[int]) -> dict[int, bytes]:
    wanted = set(rows)
    return {
        int(i): np.ascontiguousarray(outline, np.float32).tobytes()
        for i, outline in zip(analysis.table["cluster_id"], analysis.outlines, strict=True)
        if i in wanted
    }


def _same_but(old: dict[int, dict], new: dict[int, dict], i: int) -> bool:
    """Whether only a person's label and the track are others."""
    if i not in old:
        return False
    mine = ("label", "label_corrected", "track_id")
    return all(
        value == old[i].get(name) or (value != value and old[i].get(name) != old[i].get(name))
        for name, value in new[i].items()
        if name not in mine
    )


def log_entries(
    old: dict[int, dict[str, Any]],
    new: dict[int, dict[str, Any]],
    by_person: bool,
) -> list[tuple[Any, ...]]:
    """Return entries of the log for what has changed between old and new rows."""
    if not by_person:
        return []
    added = [row for i, row in new.items() if i not in old]
    moved = [row for i, row in new.items() if i in old and _moved(old[i], row)]
    labelled = [
        row
        for i, row in new.items()
        if row["label_corrected"] != (old[i]["label_corrected"] if i in old else "")
    ]
    removed = [row for i, row in old.items() if i not in new]
    kinds = ((added, ADD), (moved, MOVE), (labelled, LABEL), (removed, REMOVE))
    return [entry for rows, what in kinds for entry in entries_of(rows, what)]


def entries_of(rows: Iterable[dict[str, Any]], what: str) -> list[tuple[Any, ...]]:
    """Return an entry of the log for each of these rows; `what` happened to all of them."""
    return [
        (
            row["cluster_id"], row["frame"], row["y_nm"], row["x_nm"], what,
            row["label_corrected"] if what == LABEL else "", row["label_predicted"],
            row["model_id"], None,
        )
        for row in rows
    ]  # fmt: skip


def taken_back(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    annotator: str,
    blind: bool,
    entries: list[tuple[Any, ...]],
    only_labels: bool,  # whether labels are undone; otherwise clusters were added, moved or removed
) -> list[tuple[Any, ...]]:
    """Return the entries of an undo, with the entry that each of them undoes.

    An undone label becomes the author's label before it. Statements of others are not the
    author's, though their label may count again: the label of a cluster that is present again is
    in the log already.
    """
    counting = {} if only_labels else labels_of_log(db, image_id)
    said: dict[tuple[int, str], list[tuple[int, str]]] = {}
    undone = set()
    for correction_id, cluster_id, what, label, undoes in db.execute(
        "SELECT correction_id, cluster_id, what, label, undoes FROM corrections "
        "WHERE image_id = ? AND annotator = ? AND blind = ? AND source IS NULL "
        "ORDER BY correction_id",
        (image_id, annotator, blind),
    ):
        if undoes is None:
            said.setdefault((cluster_id, what), []).append((correction_id, label))
        else:
            undone.add(undoes)
    out = []
    for entry in entries:
        cluster_id, what, label = entry[0], entry[4], entry[5]
        own = [s for s in said.get((cluster_id, UNDOES[what]), []) if s[0] not in undone]
        last = own[-1][0] if own else None
        if only_labels:
            label = own[-2][1] if len(own) > 1 else ""
        elif what == LABEL:
            if label in (counting.get(cluster_id, ""), own[-1][1] if own else ""):
                continue
            last = None
        out.append((*entry[:5], label, *entry[6:-1], last))
    return out


def _moved(was: dict[str, Any], row: dict[str, Any]) -> bool:
    return (was["frame"], was["y_px"], was["x_px"]) != (row["frame"], row["y_px"], row["x_px"])


def _marks(n: int) -> str:
    return ", ".join("?" * n)
