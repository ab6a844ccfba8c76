"""Samples of images in a project, and in projects of version 0.2, which have no table for them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bench import write_image

from napari_atomicity.core.acquisition_session import SessionEntry
from napari_atomicity.core.errors import ReadError
from napari_atomicity.project import Project
from napari_atomicity.project.schema import SCHEMA

OLD = Path(__file__).parents[1] / "compatibility" / "samples" / "project" / "morning.atomicity"


@pytest.fixture
def old(tmp_path):
    """A project that version 0.2 has written."""
    return Path(shutil.copy(OLD, tmp_path))


def schema_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def samples_of(project: Project) -> dict[str, str]:
    entries = project.image_files.session_entries()
    return {image: entry.sample for image, entry in entries.items() if entry.sample}


def test_a_project_of_0_2_is_upgraded_when_the_first_sample_is_stored(old):
    before = old.read_bytes()
    with Project(old, read_only=True) as project:
        known = project.image_files.session_entries()
        assert samples_of(project) == {}
    assert old.read_bytes() == before
    with Project(old) as project:
        image, *_ = project.names
        entry = SessionEntry(session="evening")
        project.image_files.set_session(image, entry, "Eve")
        assert schema_of(old) == 10
        stated = SessionEntry(sample="spent", sample_numbers={"time_h": 8.0})
        project.image_files.set_session(image, stated, "Eve")
        assert samples_of(project) == {image: "spent"}
    assert schema_of(old) == SCHEMA
    for read_only in (True, False):
        with Project(old, read_only=read_only) as project:
            entries = project.image_files.session_entries()
            assert entries == {**known, image: stated}
    with Project(old) as project:
        project.image_files.set_session(image, SessionEntry(), "Eve")
        assert samples_of(project) == {}


def test_a_project_without_the_table_of_numbers_gets_it_with_the_first_ones(tmp_path):
    path = tmp_path / "p.atomicity"
    with Project(path) as project:
        project.add_paths([write_image(tmp_path / "a.tif", 0)])
        project.image_files.set_session("a.tif", SessionEntry(sample="fresh"), "Eve")
    with closing(sqlite3.connect(path)) as db:  # as the commits before wrote it
        for table in ("sample_numbers", "removed_images"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 11")
    stated = SessionEntry(sample="fresh", sample_numbers={"time_h": 2.0})
    with Project(path) as project:
        assert samples_of(project) == {"a.tif": "fresh"}
        project.image_files.set_session("a.tif", stated, "Eve")
    with Project(path) as project:
        assert project.image_files.session_entries() == {"a.tif": stated}


def test_a_sample_that_can_not_be_written_leaves_the_file_as_it_is(old, monkeypatch):
    with Project(old) as project:
        image, *_ = project.names

        def fails(*args):
            raise sqlite3.OperationalError("disk is full")

        monkeypatch.setattr("napari_atomicity.project.images._write_sample", fails)
        with pytest.raises(Exception, match="full"):
            project.image_files.set_session(image, SessionEntry(sample="spent"), "Eve")
    assert schema_of(old) == 10


def test_samples_are_merged_where_there_is_none(tmp_path, old):
    other = Path(shutil.copy(OLD, tmp_path / "other.atomicity"))
    with Project(other) as project:
        first, second, *_ = project.names
        for image, sample in ((first, "theirs"), (second, "spent")):
            theirs = SessionEntry(sample=sample, sample_numbers={"time_h": 8.0})
            project.image_files.set_session(image, theirs, "Bo")
    with Project(old) as project:
        project.image_files.set_session(first, SessionEntry(sample="mine"), "Ada")
        project.merge(other)
        assert samples_of(project) == {first: "mine", second: "spent"}
        entries = project.image_files.session_entries()
        numbers = [dict(entries[image].sample_numbers) for image in (first, second)]
        assert numbers == [{}, {"time_h": 8.0}]
        project.merge(shutil.copy(OLD, tmp_path / "oldest.atomicity"))  # without the table
        assert samples_of(project) == {first: "mine", second: "spent"}


def test_a_file_of_the_old_schema_with_the_new_table_is_damaged(old):
    with closing(sqlite3.connect(old)) as db:
        db.execute("CREATE TABLE image_samples (image_id INTEGER PRIMARY KEY, sample TEXT)")
    with pytest.raises(ReadError, match="image_samples"):
        Project(old)
