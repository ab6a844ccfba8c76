"""A project file from somebody else is data: its schema can do nothing."""

from __future__ import annotations

import os
import sqlite3

import pytest

from napari_atomicity.core.errors import ReadError
from napari_atomicity.project import Project
from napari_atomicity.project.connection import check_schema
from napari_atomicity.project.schema import APPLICATION_ID, OLDEST, SCHEMA, create_tables

HOSTILE = {
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON corrections BEGIN DELETE FROM clusters; END",
    "a trigger of another kind in the place of ours": (
        "DROP TRIGGER corrections_stay; CREATE TRIGGER corrections_stay BEFORE DELETE ON "
        "corrections BEGIN SELECT 1; END"
    ),
    "a missing trigger": "DROP TRIGGER corrections_stay",
    "a view": "CREATE VIEW v AS SELECT * FROM images",
    "a view in the place of a table": (
        "ALTER TABLE settings RENAME TO s; CREATE VIEW settings AS SELECT key, value FROM s"
    ),
    "a virtual table": "CREATE VIRTUAL TABLE v USING fts5(a)",
    "a table": "CREATE TABLE more (a)",
    "a missing table": "DROP TABLE runs",
    "a column": "ALTER TABLE clusters ADD COLUMN more TEXT",
    "a computed column": (
        "ALTER TABLE clusters ADD COLUMN more TEXT AS (upper(label_corrected)) VIRTUAL"
    ),
    "a missing column": "ALTER TABLE clusters DROP COLUMN response",
    "an index": "CREATE INDEX i ON clusters (label_corrected)",
    "a computed index": "CREATE INDEX i ON clusters (abs(frame))",
    "a missing index": "DROP INDEX marks_of_image",
    "a constraint that drops corrections": (
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, "
        "'label TEXT NOT NULL,', 'label TEXT NOT NULL ON CONFLICT IGNORE,') "
        "WHERE name = 'corrections'"
    ),
    "a negative version": "PRAGMA user_version = -1",
    "no version": "PRAGMA user_version = 0",
}


@pytest.fixture(scope="module")
def new_project(tmp_path_factory) -> bytes:
    """A project without images."""
    path = tmp_path_factory.mktemp("new") / "p.atomicity"
    Project(path).close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, new_project):
    path = tmp_path / "p.atomicity"
    path.write_bytes(new_project)
    return path


@pytest.mark.parametrize("statement", HOSTILE.values(), ids=HOSTILE)
def test_another_schema_is_refused_and_the_file_untouched(path, statement):
    with sqlite3.connect(path) as db:
        db.executescript(statement)
    db.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(ReadError, match=r"valid project|no project"):
            Project(path, read_only=read_only)
    assert path.read_bytes() == before
    assert not path.with_name("p.atomicity-wal").exists()


def test_the_message_says_what_is_wrong(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE VIEW surprise AS SELECT 1")
    with pytest.raises(ReadError, match="view 'surprise'"):
        Project(path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (a)",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 1196444487",  # a GeoPackage without tables
        "PRAGMA application_id = 1196444487; CREATE TABLE t (a)",
        "PRAGMA journal_mode = WAL; CREATE TABLE t (a)",
        "".join(f"CREATE TABLE {name} (a);" for name in ("images", "clusters", "corrections")),
    ],
)
def test_a_foreign_database_is_neither_changed_nor_turned_into_a_project(tmp_path, statement):
    path = tmp_path / "foreign.atomicity"
    with sqlite3.connect(path) as db:
        db.executescript(statement)
    db.close()
    before = path.read_bytes()
    with pytest.raises(ReadError, match="no project"):
        Project(path)
    assert path.read_bytes() == before


def test_a_foreign_database_that_is_open_elsewhere_keeps_its_log(tmp_path):
    path = tmp_path / "foreign.atomicity"
    with sqlite3.connect(path, isolation_level=None) as db:
        db.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (a)")
        log = path.with_name("foreign.atomicity-wal")
        before = log.read_bytes()
        with pytest.raises(ReadError, match="no project"):
            Project(path)
        assert log.read_bytes() == before
    db.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_pipes_and_folders_are_no_projects(tmp_path):
    pipe, folder = tmp_path / "pipe.atomicity", tmp_path / "folder.atomicity"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(ReadError, match="no project"):
            Project(path)


def test_the_schema_is_known(tmp_path):
    path = tmp_path / "new.atomicity"
    with sqlite3.connect(path) as db:
        create_tables(db)
        db.execute("ANALYZE")
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    db.close()
    with Project(path) as project:
        assert project.names == []
    with sqlite3.connect(path) as db:
        assert check_schema(db, path)


def test_a_column_that_was_added_later_is_the_same(path):
    with sqlite3.connect(path) as db:
        for table, column in (
            ("images", "regions TEXT NOT NULL DEFAULT '[]'"),
            ("clusters", "measurements TEXT"),
            ("image_sessions", "pixel_size_error REAL"),
        ):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}")
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    db.close()
    with Project(path) as project:
        assert project.names == []


@pytest.mark.parametrize("version", range(1, OLDEST))
def test_an_older_schema_is_refused_and_untouched(path, version):
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    for read_only in (False, True):
        said = rf"p\.atomicity: .*development version.*schema {version};.* Analyse the images again"
        with pytest.raises(ReadError, match=said):
            Project(path, read_only=read_only)
    assert path.read_bytes() == before
    assert not path.with_name("p.atomicity-wal").exists()


def test_a_project_whose_content_is_only_in_the_log_is_read(path, tmp_path):
    """As a process leaves it that is killed just after it has made a project."""
    copy = tmp_path / "killed.atomicity"
    new = tmp_path / "new.atomicity"
    with Project(new) as project:
        project.set_setting("key", 1)
        for end in ("", "-wal"):
            copy.with_name(copy.name + end).write_bytes(new.with_name(new.name + end).read_bytes())
    with Project(copy) as project:
        assert project.setting("key") == 1


def test_the_schema_of_a_file_is_not_trusted(path):
    with Project(path) as project:
        db = project._file.connect()
        assert db.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert db.execute("PRAGMA cell_size_check").fetchone() == (1,)
        if hasattr(db, "getconfig"):
            assert db.getconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)
