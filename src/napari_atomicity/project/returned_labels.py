"""Labels of clusters that annotators were sent pictures of, and have returned."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from ..statistics.annotators.agreement import NOT_A_CLUSTER
from .contents import address_of, holds, next_source, rows_by_address, settle
from .corrections import MAX_DISTANCE_DIAMETERS, px_per_nm
from .read_rows import read_positions
from .rows import LABEL, REMOVE


def take_in_labels(
    db: sqlite3.Connection,  # in a transaction of the caller
    image_id: int,
    annotator: str,
    labels: pd.DataFrame,  # columns y_px, x_px, diameter_px, label
    source: str,  # address of the labels of a person in a session, which is its last part
    saved: str = "",  # when they were saved
) -> tuple[int, int, int]:
    """Add blind labels that were given elsewhere; adding them twice adds nothing.

    Of several files of one address, the label that was saved last counts. Labels that were taken
    back are added again. A label is of the nearest cluster within half its diameter. What the
    person has labelled in another session is not added: it is a repetition. Returns the number of
    new labels, of those at whose place there is no cluster, and of repetitions.
    """
    places = read_positions(db, image_id)
    places = places[places["frame"] == 0].reset_index(drop=True)
    tree = cKDTree(places[["y_px", "x_px"]].to_numpy(float).reshape(-1, 2))
    stamp = datetime.now(UTC).isoformat(timespec="microseconds")
    n_new = n_lost = n_again = 0
    per_nm = px_per_nm(places)
    start, saved = f"{source}/", "".join(saved.split())
    of_person = f"{source.rpartition('/')[0]}/"
    n_rows = rows_by_address(db, "corrections", of_person)
    known = _last_labels(db, image_id, n_rows, start)
    others = _labelled_in_others(db, image_id, n_rows, of_person, start)
    rows = labels[["y_px", "x_px", "diameter_px", "label"]].itertuples(index=False, name=None)
    for y, x, diameter, label in rows:
        reach = max(MAX_DISTANCE_DIAMETERS * diameter, 1.0)
        distance, nearest = tree.query([y, x]) if len(places) else (np.inf, 0)
        if distance > reach:
            n_lost += 1
            continue
        row = places.iloc[int(nearest)]
        cluster_id = int(row["cluster_id"])
        if cluster_id in others:
            n_again += 1
            continue
        what, said = (REMOVE, "") if label == NOT_A_CLUSTER else (LABEL, label)
        last = known.get(cluster_id)
        if last is not None and (last[0] >= saved or last[1:] == (what, said)):
            continue
        known[cluster_id] = saved, what, said
        address = f"{start}{cluster_id} {saved}"
        db.execute(
            "INSERT INTO corrections (time, annotator, image_id, cluster_id, frame, "
            "y_nm, x_nm, what, label, label_predicted, model_id, blind, source) "
            "VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, '', '', 1, ?)",
            (
                stamp, annotator, image_id, cluster_id, float(row["y_nm"]),
                float(row["x_px"]) / per_nm, what, said, next_source(address, n_rows[address]),
            ),
        )  # fmt: skip
        n_new += 1
        if what == LABEL:
            settle(db, image_id, cluster_id)
    return n_new, n_lost, n_again


def _labelled_in_others(
    db: sqlite3.Connection, image_id: int, n_rows: Mapping[str, int], of_person: str, start: str
) -> set[int]:
    """Return the clusters that a person has labelled in another session than that of `start`."""
    rows = db.execute(
        "SELECT DISTINCT source, cluster_id FROM corrections WHERE image_id = ? AND "
        "source >= ? AND source < ?",
        (image_id, of_person, f"{of_person}\U0010ffff"),
    )
    found = ((address_of(source), cluster_id) for source, cluster_id in rows)
    return {i for at, i in found if not at.startswith(start) and holds(n_rows.get(at, 0))}


def _last_labels(
    db: sqlite3.Connection, image_id: int, n_rows: Mapping[str, int], start: str
) -> dict[int, tuple[str, str, str]]:
    """Return cluster → when it was saved, and what was said of it last, by these addresses."""
    rows = db.execute(
        "SELECT source, cluster_id, what, label FROM corrections WHERE image_id = ? AND "
        "source >= ? AND source < ? ORDER BY correction_id",
        (image_id, start, f"{start}\U0010ffff"),
    )
    found = [(address_of(source), *said) for source, *said in rows]
    return {
        cluster_id: (address.removeprefix(start).partition(" ")[2], what, label)
        for address, cluster_id, what, label in found
        if holds(n_rows.get(address, 0))
    }
