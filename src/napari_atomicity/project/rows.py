"""Between an analysis and the rows of a project's tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import cluster_table as tables
from ..io.files import plain
from ..io.provenance import now
from ..io.stored_micrograph import LazyMicrograph
from ..models.analysis import Analysis
from .cached_arrays import read_pictures

MEASURED = (
    "frame", "y_px", "x_px", "y_nm", "x_nm", "diameter_nm", "integrated_intensity",
    "eccentricity", "touches_border", "touches_neighbour",
)  # fmt: skip
"""Columns of the cluster table that no model has to do with."""
LOGGED = (
    "cluster_id", "frame", "y_px", "x_px", "y_nm", "x_nm", "label_corrected", "label_predicted",
    "model_id",
)  # fmt: skip
"""Columns that the log of corrections needs."""
PREDICTED = (
    "label_predicted", "confidence", "prediction_set", "ood_score", "umap_1", "umap_2",
    *(name for name in tables.ADDED if name not in ("excluded", "track_id")),
)  # fmt: skip
"""Columns that a model gives."""

LABEL, REMOVE, ADD, MOVE = "label", "remove", "add", "move"


def write_rows(
    db: sqlite3.Connection,
    image_id: int,
    before: Analysis | None,
    after: Analysis | None,
    old: dict[int, dict[str, Any]],
    new: dict[int, dict[str, Any]],
    cluster_ids: frozenset[int] | None,
) -> None:
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
    outlines = _outlines_of(after, new)
    changed = [i for i, row in new.items() if cluster_ids is None or row != old.get(i)]
    only_label = [i for i in changed if cluster_ids is not None and _same_but(old, new, i)]
    db.executemany(
        "UPDATE clusters SET label_corrected = ?, track_id = ? WHERE image_id = ? AND "
        "cluster_id = ?",
        [(new[i]["label_corrected"], new[i].get("track_id"), image_id, i) for i in only_label],
    )
    whole = [i for i in changed if i not in set(only_label)]
    db.executemany(
        f"INSERT OR REPLACE INTO clusters (image_id, cluster_id, {', '.join(MEASURED)}, "
        f"label_corrected, track_id, model_id, outline) VALUES ({_marks(len(MEASURED) + 6)})",
        [
            (
                image_id, i, *(_cell(new[i][name]) for name in MEASURED),
                new[i]["label_corrected"], new[i].get("track_id"), new[i]["model_id"] or None,
                outlines[i],
            )
            for i in whole
        ],
    )  # fmt: skip
    classes = tables.classes_of(after.table)
    _insert_predictions(db, image_id, {i: new[i] for i in whole}, classes)
    if before is None or before.parameters is not after.parameters or cluster_ids is None:
        _write_analysis(db, image_id, after, classes)
    if before is None or before.regions is not after.regions:
        regions = json.dumps([np.asarray(r).tolist() for r in after.regions])
        db.execute("UPDATE images SET regions = ? WHERE image_id = ?", (regions, image_id))
    db.execute(
        "UPDATE images SET next_id = max(next_id, ?) WHERE image_id = ?",
        (max(new, default=0) + 1, image_id),
    )


def _write_analysis(
    db: sqlite3.Connection, image_id: int, after: Analysis, classes: list[str]
) -> None:
    scale = None if after.scale is None else json.dumps(plain(asdict(after.scale)))
    model = after.parameters.get("model") or {}
    model_id = model.get("model_id")
    db.execute(
        "UPDATE images SET analysed = 1, error = '', model_id = ?, parameters = ?, scale = ?, "
        "field_of_view_nm = ?, pixel_size_nm = ?, seconds = ? WHERE image_id = ?",
        (
            model_id, json.dumps(plain(after.parameters)), scale, after.field_of_view_nm,
            after.micrograph.pixel_size_nm, json.dumps(plain(after.seconds)), image_id,
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
    """Rows of the table as dictionaries, by cluster_id; of some columns, or of all."""
    if analysis is None:
        return {}
    table = analysis.table
    # As arrays: pandas takes its time over rows.
    ids = table["cluster_id"].to_numpy()
    rows = slice(None) if cluster_ids is None else np.isin(ids, list(cluster_ids))
    names = [str(n) for n in table.columns] if columns is None else list(columns)
    values = zip(*(table[name].to_numpy()[rows].tolist() for name in names), strict=True)
    return {
        i: dict(zip(names, row, strict=True))
        for i, row in zip(ids[rows].tolist(), values, strict=True)
    }


def write_labels(db: sqlite3.Connection, image_id: int, new: dict[int, dict[str, Any]]) -> None:
    """Let these be what people say of some clusters of an image."""
    db.executemany(
        "UPDATE clusters SET label_corrected = ? WHERE image_id = ? AND cluster_id = ?",
        [(row["label_corrected"], image_id, i) for i, row in new.items()],
    )


def same_clusters(before: Analysis | None, after: Analysis | None) -> bool:
    """Whether clusters, measurements, tracks and a person's labels are the same in two analyses."""
    if before is None or after is None or before.regions is not after.regions:
        return False
    a, b = before.table, after.table
    tracked = ["track_id" in table.columns for table in (a, b)]
    if any(tracked) and not (all(tracked) and a["track_id"].equals(b["track_id"])):
        return False
    return len(a) == len(b) and all(
        np.array_equal(a[name].to_numpy(), b[name].to_numpy(), equal_nan=a[name].dtype.kind == "f")
        for name in ("cluster_id", *MEASURED, "label_corrected")
    )


def same_labels(before: Analysis | None, after: Analysis) -> bool:
    """Whether a person's labels are the same in two analyses of the same clusters."""
    if before is None or len(before.table) != len(after.table):
        return False
    a, b = (t["label_corrected"].to_numpy() for t in (before.table, after.table))
    return bool(np.array_equal(a, b))


def write_predictions(
    db: sqlite3.Connection, image_id: int, analysis: Analysis, cluster_ids: frozenset[int] | None
) -> None:
    """What a model says of clusters that are there already; nothing else is touched."""
    rows = rows_of(analysis, cluster_ids)
    classes = tables.classes_of(analysis.table)
    _insert_predictions(db, image_id, rows, classes)
    db.executemany(
        "UPDATE clusters SET model_id = ? WHERE image_id = ? AND cluster_id = ?",
        [(row["model_id"] or None, image_id, i) for i, row in rows.items()],
    )
    if cluster_ids is None:
        # Unless it was undone meanwhile.
        there = db.execute("SELECT analysed FROM images WHERE image_id = ?", (image_id,))
        if there.fetchone()[0]:
            _write_analysis(db, image_id, analysis, classes)


def _insert_predictions(
    db: sqlite3.Connection, image_id: int, rows: dict[int, dict[str, Any]], classes: list[str]
) -> None:
    db.executemany(
        f"INSERT OR REPLACE INTO predictions (image_id, cluster_id, model_id, "
        f"{', '.join(PREDICTED)}, probabilities, time) "
        f"VALUES ({_marks(len(PREDICTED) + 5)})",
        [
            (
                image_id, i, row["model_id"], *(_cell(row.get(name)) for name in PREDICTED),
                json.dumps([_cell(row[f"p_{c}"]) for c in classes]), now(),
            )
            for i, row in rows.items()
            if row["model_id"]
        ],
    )  # fmt: skip


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
    spoken: bool = False,
) -> list[tuple[Any, ...]]:
    """What a person did to get from the old rows to the new ones."""

    def entry(row: dict[str, Any], what: str, label: str = "") -> tuple[Any, ...]:
        return (
            row["cluster_id"], row["frame"], _cell(row["y_nm"]), _cell(row["x_nm"]), what, label,
            row["label_predicted"], row["model_id"], None,
        )  # fmt: skip

    entries = []
    for i, row in new.items():
        was = old.get(i)
        said = row["label_corrected"]
        if was is None and by_person and not spoken:
            entries.append(entry(row, ADD))
        elif was is not None and by_person and _moved(was, row):
            entries.append(entry(row, MOVE))
        if spoken or (by_person and said != ("" if was is None else was["label_corrected"])):
            entries.append(entry(row, LABEL, said))
    if by_person:
        entries += [entry(row, REMOVE) for i, row in old.items() if i not in new]
    return entries


def taken_back(
    db: sqlite3.Connection,
    image_id: int,
    annotator: str,
    blind: bool,
    entries: list[tuple[Any, ...]],
) -> list[tuple[Any, ...]]:
    """Entries of an undo: each says what the annotator had said before what is undone.

    Statements of others are not his or hers, though their label may count again.
    """
    said: dict[int, list[tuple[int, str]]] = {}
    undone = set()
    for correction_id, cluster_id, label, undoes in db.execute(
        "SELECT correction_id, cluster_id, label, undoes FROM corrections WHERE image_id = ? AND "
        "annotator = ? AND blind = ? AND source IS NULL AND what = 'label' ORDER BY correction_id",
        (image_id, annotator, blind),
    ):
        if undoes is None:
            said.setdefault(cluster_id, []).append((correction_id, label))
        else:
            undone.add(undoes)
    out = []
    for entry in entries:
        own = [s for s in said.get(entry[0], []) if s[0] not in undone]
        before = own[-2][1] if len(own) > 1 else ""
        last = own[-1][0] if own else None
        out.append((*entry[:5], before, *entry[6:-1], last))
    return out


def _moved(was: dict[str, Any], row: dict[str, Any]) -> bool:
    return (was["frame"], was["y_px"], was["x_px"]) != (row["frame"], row["y_px"], row["x_px"])


def _marks(n: int) -> str:
    return ", ".join("?" * n)


def _cell(value: Any) -> Any:
    """As SQLite takes it: no numpy, and NULL for what is not a number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value != value:
        return None
    return value


# ---- and back
def read_positions(db: sqlite3.Connection, image_id: int) -> pd.DataFrame:
    """Return the positions of the clusters of an image, without reading anything else."""
    return pd.read_sql_query(
        "SELECT cluster_id, frame, y_px, x_px, y_nm, diameter_nm FROM clusters WHERE image_id = ?",
        db,
        params=(image_id,),
    )


def read_image(
    db: sqlite3.Connection, image: str, place: Callable[[str, str], Path]
) -> tuple[LazyMicrograph, Analysis | None, int]:
    """Micrograph, analysis if there is one, and next id of an image.

    ``place(path, relative_path)`` tells where a file is now.
    """
    row = db.execute(
        "SELECT image_id, path, relative_path, sha256, frames, height, width, is_stack, "
        "pixel_size_nm, analysed, metadata, parameters, scale, field_of_view_nm, regions, "
        "next_id, seconds FROM images WHERE name = ?",
        (image,),
    ).fetchone()
    (image_id, path, relative, digest, frames, height, width, is_stack, size, analysed, metadata,
     parameters, scale, field_of_view, regions, next_id, seconds) = row  # fmt: skip
    micrograph = LazyMicrograph(
        place(path, relative),
        None if height is None else ((frames,) if is_stack else ()) + (height, width),
        size,
        name=image,
        sha256=digest,
        metadata=json.loads(metadata),
    )
    if not analysed:
        return micrograph, None, next_id
    table, outlines = _read_table(db, image_id, image)
    patches, maps, embedding = read_pictures(db, image_id, table["cluster_id"].tolist())
    analysis = Analysis(
        micrograph,
        table,
        outlines,
        patches,
        embedding,
        maps,
        field_of_view or 0.0,
        _scale(scale),
        json.loads(parameters),
        json.loads(seconds),
        tuple(np.asarray(r, float) for r in json.loads(regions)),
    )
    return micrograph, analysis, next_id


def _read_table(
    db: sqlite3.Connection, image_id: int, image: str
) -> tuple[pd.DataFrame, list[np.ndarray]]:
    clusters = pd.read_sql_query(
        f"SELECT cluster_id, {', '.join(MEASURED)}, label_corrected, track_id, "
        "coalesce(model_id, '') AS model_id, outline FROM clusters WHERE image_id = ? "
        "ORDER BY cluster_id",
        db,
        params=(image_id,),
    )
    predicted = pd.read_sql_query(
        f"SELECT p.cluster_id, p.model_id, {', '.join('p.' + name for name in PREDICTED)}, "
        "probabilities FROM predictions p JOIN clusters c ON c.image_id = p.image_id AND "
        "c.cluster_id = p.cluster_id AND c.model_id = p.model_id WHERE p.image_id = ?",
        db,
        params=(image_id,),
    )
    predicted = with_probabilities(db, predicted)
    if clusters["track_id"].isna().all():  # nobody has linked them
        clusters = clusters.drop(columns="track_id")
    # Columns that no model of this image gives are not there, rather than empty.
    added = [n for n in tables.ADDED if n in predicted and predicted[n].isna().all()]
    predicted = predicted.drop(columns=added)
    table = clusters.drop(columns="outline").merge(
        predicted.drop(columns="model_id"), on="cluster_id", how="left"
    )
    table = tables.conform(table.assign(image=image))
    outlines = [np.frombuffer(o, np.float32).reshape(-1, 2) for o in clusters["outline"]]
    return tables.settle_labels(table), outlines


def with_probabilities(db: sqlite3.Connection, predicted: pd.DataFrame) -> pd.DataFrame:
    """Probabilities as columns, by the classes of the models that gave them."""
    parts = []
    for model_id, rows in predicted.groupby("model_id", sort=False):
        found = db.execute("SELECT classes FROM models WHERE model_id = ?", (model_id,)).fetchone()
        names = [f"p_{c}" for c in (json.loads(found[0]) if found else [])]
        values = np.array([json.loads(v) for v in rows["probabilities"]], float)
        values = values.reshape(len(rows), -1)[:, : len(names)]
        parts.append(pd.DataFrame(values, columns=names[: values.shape[1]], index=rows.index))
    out = predicted.drop(columns="probabilities")
    return out if not parts else out.join(pd.concat(parts))


def _scale(text: str | None) -> Any:
    if text is None:
        return None
    from ..core.scale_reference import ScaleReference
    from ..models.intensity_scale import ConstrainedMixture

    values = json.loads(text)
    arrays = {k: np.asarray(v, float) for k, v in values.items() if k != "reference"}
    return ConstrainedMixture(ScaleReference.from_dict(values["reference"]), **arrays)
