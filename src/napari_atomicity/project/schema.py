"""The tables of a project file, and the upgrade of older files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

APPLICATION_ID = 0x41746F6D
"""``Atom``: identifies SQLite files of this program."""

_FIRST = """
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
    next_id INTEGER NOT NULL DEFAULT 1
);
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
    model_id TEXT NOT NULL
);
CREATE TABLE models (model_id TEXT PRIMARY KEY, classes TEXT NOT NULL, card TEXT NOT NULL);
CREATE TABLE model_files (name TEXT PRIMARY KEY, time TEXT NOT NULL, content BLOB NOT NULL);
CREATE TABLE runs (run_id INTEGER PRIMARY KEY, time TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE INDEX corrections_of_cluster ON corrections (image_id, cluster_id);
"""

# Several annotators: what was said blind, and what came from another project; excluded regions.
_SECOND = """
ALTER TABLE corrections ADD COLUMN blind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE corrections ADD COLUMN source TEXT;
ALTER TABLE corrections ADD COLUMN undoes INTEGER REFERENCES corrections (correction_id);
ALTER TABLE images ADD COLUMN regions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE model_files ADD COLUMN card TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX corrections_from_elsewhere ON corrections (source);
CREATE TABLE identity (uuid TEXT NOT NULL);
INSERT INTO identity VALUES (lower(hex(randomblob(16))));
CREATE TRIGGER corrections_stay BEFORE DELETE ON corrections
    BEGIN SELECT raise(ABORT, 'corrections are never taken out of a project'); END;
CREATE TRIGGER corrections_are_final BEFORE UPDATE ON corrections
    BEGIN SELECT raise(ABORT, 'corrections are never changed'); END;
"""

# Single atoms: what a model found in an image, and the append-only log of what people mark.
_THIRD = """
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
CREATE TABLE looked (
    image_id INTEGER NOT NULL REFERENCES images,
    annotator TEXT NOT NULL,
    time TEXT NOT NULL,
    PRIMARY KEY (image_id, annotator)
) WITHOUT ROWID;
CREATE TRIGGER marks_stay BEFORE DELETE ON marks
    BEGIN SELECT raise(ABORT, 'marks are never taken out of a project'); END;
CREATE TRIGGER marks_are_final BEFORE UPDATE ON marks
    BEGIN SELECT raise(ABORT, 'marks are never changed'); END;
"""

# Stacks: which clusters are one over the frames; NULL where they have not been linked.
_FOURTH = """
ALTER TABLE clusters ADD COLUMN track_id INTEGER;
"""

# Acquisition sessions: what people entered of an image, and no row where they entered nothing.
_FIFTH = """
CREATE TABLE image_sessions (
    image_id INTEGER PRIMARY KEY REFERENCES images,
    session TEXT NOT NULL DEFAULT '',
    known TEXT NOT NULL DEFAULT '{}',
    annotator TEXT NOT NULL,
    time TEXT NOT NULL
);
"""

# Effects of the recording on a cluster; NULL in files of earlier versions.
_SIXTH = """
ALTER TABLE clusters ADD COLUMN clipped REAL;
ALTER TABLE clusters ADD COLUMN response REAL;
"""

# Scale of an earlier session with the same instrument, as JSON; empty if there is none.
_SEVENTH = """
ALTER TABLE image_sessions ADD COLUMN earlier TEXT NOT NULL DEFAULT '';
"""

# Measurements of one's own as a JSON object, column → number; NULL where there are none. The map of
# the clusters of a session.
_EIGHTH = """
ALTER TABLE clusters ADD COLUMN measurements TEXT;
ALTER TABLE predictions ADD COLUMN session_umap_1 REAL;
ALTER TABLE predictions ADD COLUMN session_umap_2 REAL;
"""

# Whether a known sample is used even if its clusters contradict it.
_NINTH = """
ALTER TABLE image_sessions ADD COLUMN keep_known INTEGER NOT NULL DEFAULT 0;
"""

# Relative error of the pixel size of an image, from a person.
_TENTH = """
ALTER TABLE image_sessions ADD COLUMN pixel_size_error REAL;
"""


def _script(text: str) -> Callable[[sqlite3.Connection], None]:
    def run(db: sqlite3.Connection) -> None:
        # executescript would commit the transaction that this is part of.
        statement = ""
        for line in text.strip().splitlines():
            statement += line + "\n"
            if sqlite3.complete_statement(statement):
                db.execute(statement)
                statement = ""

    return run


STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _script(_FIRST),
    _script(_SECOND),
    _script(_THIRD),
    _script(_FOURTH),
    _script(_FIFTH),
    _script(_SIXTH),
    _script(_SEVENTH),
    _script(_EIGHTH),
    _script(_NINTH),
    _script(_TENTH),
)
"""Step i upgrades a file of schema i to schema i + 1; schema 0 is an empty file."""

SCHEMA = len(STEPS)
"""The current schema."""
READABLE_SCHEMA = 4
"""The oldest schema that is read without an upgrade where the file can't be written."""


def upgrade(db: sqlite3.Connection, version: int) -> None:
    """Upgrade a file to the current schema, in a transaction of the caller."""
    for step in STEPS[version:]:
        step(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA}")
