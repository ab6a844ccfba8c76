"""Projects in folders and files that an ordinary user may not write, or not read."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from bench import analysed, write_image

from napari_atomicity.core.errors import AtomicityError, ReadError
from napari_atomicity.project import EditKind, ImageEdit, Project
from napari_atomicity.project.opening import open_any
from napari_atomicity.state.window_state import WindowState
from ordinary_user import as_ordinary_user, folder_of_ordinary_user

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
NAME = "morning.atomicity"


@pytest.fixture
def folder(read_here):
    """A folder of an ordinary user with an image."""
    with folder_of_ordinary_user() as made:
        write_image(made / "a.tif")
        yield made


def make_project(folder: Path) -> Path:
    """A project with a correction."""
    with Project(folder / NAME) as project:
        project.add_paths([folder])
        first = analysed(folder / "a.tif")
        project.image_files.update_metadata(first.micrograph)
        project.record(ImageEdit("a.tif", EditKind.ANALYSIS, "Ada"), None, first)
        label(project)
    return folder / NAME


def label(project: Project) -> None:
    """Correct a label as a window does."""
    state = WindowState()
    state.open_project(project, project.load_all())
    state.clusters.relabel([("a.tif", 1)], "Pt41")
    assert not state.unsaved


def check_read_only(path: Path) -> None:
    """The correction is there, and nothing can be written."""
    with Project(path) as project:
        assert project.read_only
        assert project.labels()["a.tif"] == {1: "Pt41"}
        with pytest.raises(AtomicityError, match="read-only"):
            label(project)


def test_no_project_can_be_created_in_a_read_only_folder(folder):
    def part(folder: Path) -> None:
        folder.chmod(0o555)
        with pytest.raises(AtomicityError, match=r"can't be created here.*Choose another folder"):
            open_any(folder)
        assert [path.name for path in folder.iterdir()] == ["a.tif"]

    as_ordinary_user(part, folder)


def test_the_project_of_a_read_only_folder_may_be_elsewhere(folder):
    def part(folder: Path) -> None:
        images, elsewhere = folder / "images", folder / "elsewhere"
        images.mkdir()
        elsewhere.mkdir()
        write_image(images / "a.tif")
        images.chmod(0o555)
        opened = open_any(images, elsewhere / NAME)
        assert opened.project.names == ["a.tif"] and not opened.project.read_only
        opened.project.close()

    as_ordinary_user(part, folder)


def test_a_project_in_a_read_only_folder_is_read_only(folder):
    def part(folder: Path) -> None:
        path = make_project(folder)
        folder.chmod(0o555)
        before = sorted(folder.iterdir())
        check_read_only(path)
        assert sorted(folder.iterdir()) == before

    as_ordinary_user(part, folder)


def test_corrections_of_a_killed_window_are_read_in_a_read_only_folder(folder):
    def part(folder: Path) -> None:
        child = os.fork()
        if child == 0:  # ends without closing the project
            make_project_and_die(folder)
        os.waitpid(child, 0)
        assert (folder / f"{NAME}-wal").exists()
        folder.chmod(0o555)
        check_read_only(folder / NAME)

    as_ordinary_user(part, folder)


def make_project_and_die(folder: Path) -> None:
    make_project(folder)
    label(Project(folder / NAME))
    os._exit(0)


def test_a_read_only_file_in_a_folder_that_can_be_written_is_read_only(folder):
    def part(folder: Path) -> None:
        path = make_project(folder)
        path.chmod(0o444)
        check_read_only(path)
        path.chmod(0o644)
        with Project(path) as project:
            assert not project.read_only

    as_ordinary_user(part, folder)


def test_a_project_that_may_not_be_read_is_an_error_that_names_it(folder):
    def part(folder: Path) -> None:
        path = make_project(folder)
        path.chmod(0o000)
        with pytest.raises(ReadError, match=rf"{NAME}.*Permission denied"):
            Project(path)

    as_ordinary_user(part, folder)


def test_a_folder_that_becomes_read_only_loses_nothing(folder):
    def part(folder: Path) -> None:
        path = make_project(folder)
        state, project = WindowState(), Project(path)
        state.open_project(project, project.load_all())
        path.chmod(0o444)
        folder.chmod(0o555)
        state.clusters.relabel([("a.tif", 2)], "Pt70")
        folder.chmod(0o755)
        path.chmod(0o644)
        assert state.save_again() and not state.unsaved
        state.close_project()
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with Project(path) as project:
            assert project.labels()["a.tif"] == {1: "Pt41", 2: "Pt70"}

    as_ordinary_user(part, folder)
