"""The tables of a project file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

APPLICATION_ID = 0x41746F6D
"""``Atom``: identifies SQLite files of this program."""

# To change the tables: edit the script and add 1 to `SCHEMA`. A table that was added is listed in
# `_ADDED` with its schema, and `upgrade` makes it in an older file when it is written first: until
# then the file, which may be read-only, stays as it is, and the version before can read it. A
# column of an existing table needs more: in `ProjectConnection`, between `_check_content` and the
# first use, copy the file, and in one transaction run ALTER TABLE … ADD COLUMN and set
# `user_version`. `check_schema` compares statements without their spaces, and ALTER TABLE puts a
# column last, so write it last here too. `tests/compatibility` holds a file of version 0.2.
SCHEMA, OLDEST = 13, 10
"""The schema of this version, and the oldest one that it reads (version 0.2)."""
SAMPLES, SAMPLE_NUMBERS, REMOVED = "image_samples", "sample_numbers", "removed_images"
_ADDED = {SAMPLES: 11, SAMPLE_NUMBERS: 12, REMOVED: 13}
"""Table → schema that has it first."""

_SCRIPT = """
CREATE TABLE images (
    image_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    relative_path TEXT NOT NULL,
    position INTEGER NOT NULL,
    added TEXT NOT NULL,
    sha256 TEXT,
    size_bytes INTEGER,
    modified REAL,
    frames INTEGER,
    height INTEGER,
    width INTEGER,
    is_stack INTEGER NOT NULL DEFAULT 0,
    pixel_size_nm REAL,
    recorded TEXT,
    metadata TEXT NOT NULL DEFAULT '{}',
    thumbnail BLOB,
    error TEXT NOT NULL DEFAULT '',
    analysed INTEGER NOT NULL DEFAULT 0,
    model_id TEXT,
    parameters TEXT NOT NULL DEFAULT '{}',
    seconds TEXT NOT NULL DEFAULT '{}',
    scale TEXT,
    field_of_view_nm REAL,
    next_id INTEGER NOT NULL DEFAULT 1,
    regions TEXT NOT NULL DEFAULT '[]'
);
-- track_id: which clusters of a stack are one; NULL where they have not been linked.
-- measurements: one's own, and columns of the cluster table that have none here, as a JSON object,
-- column → value; NULL where there are none.
CREATE TABLE clusters (
    image_id INTEGER NOT NULL REFERENCES images,
    cluster_id INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    y_px REAL NOT NULL,
    x_px REAL NOT NULL,
    y_nm REAL,
    x_nm REAL,
    diameter_nm REAL,
    integrated_intensity REAL,
    eccentricity REAL,
    touches_border INTEGER NOT NULL,
    touches_neighbour INTEGER NOT NULL,
    label_corrected TEXT NOT NULL DEFAULT '',
    model_id TEXT,
    outline BLOB NOT NULL,
    track_id INTEGER,
    clipped REAL,
    response REAL,
    measurements TEXT,
    PRIMARY KEY (image_id, cluster_id)
) WITHOUT ROWID;
CREATE TABLE predictions (
    image_id INTEGER NOT NULL REFERENCES images,
    cluster_id INTEGER NOT NULL,
    model_id TEXT NOT NULL,
    label_predicted TEXT NOT NULL,
    confidence REAL,
    prediction_set TEXT,
    ood_score REAL,
    umap_1 REAL,
    umap_2 REAL,
    conditions_differ INTEGER,
    n_atoms REAL,
    n_atoms_low REAL,
    n_atoms_high REAL,
    label_diameter TEXT,
    label_mixture TEXT,
    label_network TEXT,
    disagreement REAL,
    probabilities TEXT NOT NULL,
    time TEXT NOT NULL,
    session_umap_1 REAL,
    session_umap_2 REAL,
    PRIMARY KEY (image_id, cluster_id, model_id)
) WITHOUT ROWID;
CREATE TABLE pictures (
    image_id INTEGER NOT NULL,
    cluster_id INTEGER NOT NULL,
    channels TEXT NOT NULL,
    patch_px INTEGER NOT NULL,
    map_px INTEGER NOT NULL,
    patches BLOB NOT NULL,
    class_maps BLOB NOT NULL,
    embedding BLOB NOT NULL,
    PRIMARY KEY (image_id, cluster_id)
);
-- source: the entry of another project that was merged, NULL for entries of this one.
CREATE TABLE corrections (
    correction_id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    annotator TEXT NOT NULL,
    image_id INTEGER NOT NULL REFERENCES images,
    cluster_id INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    y_nm REAL,
    x_nm REAL,
    what TEXT NOT NULL,
    label TEXT NOT NULL,
    label_predicted TEXT NOT NULL,
    model_id TEXT NOT NULL,
    blind INTEGER NOT NULL DEFAULT 0,
    source TEXT,
    undoes INTEGER REFERENCES corrections (correction_id)
);
CREATE INDEX corrections_of_cluster ON corrections (image_id, cluster_id);
CREATE UNIQUE INDEX corrections_from_elsewhere ON corrections (source);
CREATE TRIGGER corrections_stay BEFORE DELETE ON corrections
    BEGIN SELECT raise(ABORT, 'corrections are never taken out of a project'); END;
CREATE TRIGGER corrections_are_final BEFORE UPDATE ON corrections
    BEGIN SELECT raise(ABORT, 'corrections are never changed'); END;
CREATE TABLE models (model_id TEXT PRIMARY KEY, classes TEXT NOT NULL, card TEXT NOT NULL);
CREATE TABLE model_files (
    name TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    content BLOB NOT NULL,
    card TEXT NOT NULL DEFAULT ''
);
CREATE TABLE runs (run_id INTEGER PRIMARY KEY, time TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE identity (uuid TEXT NOT NULL);
INSERT INTO identity VALUES (lower(hex(randomblob(16))));
-- Single atoms: what a model found in an image, and the append-only log of what people mark.
CREATE TABLE atoms (
    image_id INTEGER PRIMARY KEY REFERENCES images,
    model_id TEXT NOT NULL DEFAULT '',
    pixel_size_nm REAL NOT NULL,
    threshold REAL,
    candidate_recall REAL,
    group_distance_nm REAL NOT NULL,
    support_added TEXT NOT NULL DEFAULT '[]',
    support_removed TEXT NOT NULL DEFAULT '[]',
    parameters TEXT NOT NULL DEFAULT '{}',
    candidates BLOB,
    support BLOB,
    next_id INTEGER NOT NULL DEFAULT 1,
    time TEXT NOT NULL
);
CREATE TABLE marks (
    mark_id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    annotator TEXT NOT NULL,
    image_id INTEGER NOT NULL REFERENCES images,
    atom_id INTEGER NOT NULL,
    frame INTEGER NOT NULL,
    y_px REAL NOT NULL,
    x_px REAL NOT NULL,
    y_nm REAL NOT NULL,
    x_nm REAL NOT NULL,
    what TEXT NOT NULL,
    uncertain INTEGER NOT NULL,
    intensity REAL,
    amplitude REAL,
    background REAL,
    sigma_nm REAL,
    blind INTEGER NOT NULL,
    source TEXT
);
CREATE INDEX marks_of_image ON marks (image_id, atom_id);
CREATE UNIQUE INDEX marks_from_elsewhere ON marks (source);
CREATE TRIGGER marks_stay BEFORE DELETE ON marks
    BEGIN SELECT raise(ABORT, 'marks are never taken out of a project'); END;
CREATE TRIGGER marks_are_final BEFORE UPDATE ON marks
    BEGIN SELECT raise(ABORT, 'marks are never changed'); END;
CREATE TABLE looked (
    image_id INTEGER NOT NULL REFERENCES images,
    annotator TEXT NOT NULL,
    time TEXT NOT NULL,
    PRIMARY KEY (image_id, annotator)
) WITHOUT ROWID;
-- Acquisition sessions: what people entered of an image, and no row where they entered nothing.
-- earlier: scale of an earlier session with the same instrument, as JSON; empty if there is none.
-- keep_known: whether a known sample is used even if its clusters contradict it.
CREATE TABLE image_sessions (
    image_id INTEGER PRIMARY KEY REFERENCES images,
    session TEXT NOT NULL DEFAULT '',
    known TEXT NOT NULL DEFAULT '{}',
    annotator TEXT NOT NULL,
    time TEXT NOT NULL,
    earlier TEXT NOT NULL DEFAULT '',
    keep_known INTEGER NOT NULL DEFAULT 0,
    pixel_size_error REAL
);
-- Samples: name of the sample of an image in image_sessions, if it is not that of its folder.
CREATE TABLE image_samples (
    image_id INTEGER PRIMARY KEY REFERENCES images,
    sample TEXT NOT NULL
);
-- Further columns of a table of samples, such as time, as a JSON object.
CREATE TABLE sample_numbers (
    image_id INTEGER PRIMARY KEY REFERENCES images,
    numbers TEXT NOT NULL
);
-- Images that a person has removed from the project; what is stored of them stays.
CREATE TABLE removed_images (image_id INTEGER PRIMARY KEY REFERENCES images, time TEXT NOT NULL);
"""


def create_tables(db: sqlite3.Connection) -> None:
    """Create the tables in an empty file, in a transaction of the caller."""
    # executescript would commit the transaction that this is part of.
    for statement in _statements():
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA}")


def _statements() -> Iterator[str]:
    statement = ""
    for line in _SCRIPT.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def tables_since(version: int) -> list[str]:
    """Return the tables that files of a schema lack."""
    return [table for table, schema in _ADDED.items() if schema > version]


def upgrade(db: sqlite3.Connection) -> None:
    """Make the tables that a file of an older schema lacks, in a transaction of the caller."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA:
        return
    for statement in _statements():
        if any(f"CREATE TABLE {table} (" in statement for table in tables_since(version)):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA}")
