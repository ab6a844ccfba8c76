"""Which of several labels of a cluster counts, and who disagrees with it."""

from __future__ import annotations

import sqlite3

from .damage import as_text


def settle(
    db: sqlite3.Connection, image_id: int, cluster_id: int
) -> list[tuple[str, int, str, str, str, str]]:
    """Store the label that counts according to the log."""
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


def labels_of_log(db: sqlite3.Connection, image_id: int) -> dict[int, str]:
    """Return the label that counts of each cluster of an image, according to the log."""
    said: dict[int, list[tuple[str, bool, bool]]] = {}
    for cluster_id, label, blind, source in db.execute(
        "SELECT cluster_id, label, blind, source FROM corrections c WHERE image_id = ? AND "
        "what = 'label' AND undoes IS NULL AND NOT EXISTS (SELECT 1 FROM corrections u WHERE "
        "u.undoes = c.correction_id) ORDER BY correction_id",
        (image_id,),
    ):
        said.setdefault(cluster_id, []).append((as_text(label), bool(blind), bool(source)))
    return {cluster_id: label_that_counts(labels) for cluster_id, labels in said.items()}


def label_that_counts(said: list[tuple[str, bool, bool]]) -> str:
    """Return the label that counts of those that a cluster was given."""
    own = [label for label, blind, merged in said if not blind and not merged]
    if own:
        return own[-1]
    return said[-1][0] if said else ""
