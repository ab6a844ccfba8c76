"""The folder of an open project is deleted, or its file is replaced: nothing is lost."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from bench import analysed, write_image

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.project import EditKind, ImageEdit, Project, connection
from napari_atomicity.state.window_state import WindowState


@pytest.fixture
def state(project):
    state = WindowState()
    state.open_project(project, project.load_all())
    state.annotator = "Ada"
    return state


def delete_folder(project: Project) -> None:
    shutil.rmtree(project.path.parent)


def replace_file(project: Project) -> None:
    """Put another project in the place of this one, as a network drive does."""
    other = project.path.with_name("other.atomicity")
    with Project(other) as made:
        made.set_setting("whose", "somebody else's")
    other.replace(project.path)


def move_file(project: Project) -> None:
    project.path.rename(project.path.with_name("moved.atomicity"))


def delete_log(project: Project) -> None:
    """Delete the write-ahead log, as a program does that cleans up temporary files."""
    Path(f"{project.path}-wal").unlink()


def replace_log(project: Project) -> None:
    delete_log(project)
    Path(f"{project.path}-wal").touch()


LOSSES = {
    "deleted": delete_folder, "replaced": replace_file, "moved": move_file,
    "log deleted": delete_log, "log replaced": replace_log,
}  # fmt: skip


@pytest.fixture(params=LOSSES)
def lose(request):
    return LOSSES[request.param]


def save_elsewhere(state: WindowState, path: Path) -> None:
    state.project.copy(path)
    state.attach_project(Project(path))


def test_a_correction_in_a_lost_file_is_not_acknowledged_and_not_lost(state, lose, tmp_path):
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    lost = state.project
    lose(lost)
    state.clusters.relabel([("a.tif", 2)], "Pt30")
    assert "project file was" in state.unsaved
    assert not state.save_again()
    assert state.table("a.tif")["label_corrected"].tolist()[:2] == ["Pt19", "Pt30"]
    state.clusters.remove([("a.tif", 5)])
    state.history.undo()
    state.clusters.relabel([("a.tif", 3)], "Pt41")
    path = tmp_path / "elsewhere.atomicity"
    save_elsewhere(state, path)
    assert state.unsaved == ""
    state.clusters.relabel([("a.tif", 4)], "Pt55")
    state.close_project()
    with Project(path) as saved:
        expected = {1: "Pt19", 2: "Pt30", 3: "Pt41", 4: "Pt55"}
        assert saved.labels()["a.tif"] == expected
        log = saved.corrections()
        labels = log[log["what"] == "label"]
        assert dict(zip(labels["cluster_id"], labels["label"], strict=True)) == expected
        assert set(log["annotator"]) == {"Ada"} and len(labels) == 4
        assert len(saved.load("a.tif").analysis.table) == 12


def test_a_lost_file_is_noticed_without_a_correction(state, lose, tmp_path):
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    state.saver.check_place()
    assert state.unsaved == ""
    lose(state.project)
    state.saver.check_place()
    assert "project file was" in state.unsaved
    assert not state.save_again()
    save_elsewhere(state, tmp_path / "elsewhere.atomicity")
    assert state.unsaved == "" and state.save_again()
    assert state.project.labels()["a.tif"] == {1: "Pt19"}


def test_the_python_interface_refuses_to_write_into_a_lost_file(folder, project, lose, tmp_path):
    analysis = project.load("a.tif").analysis
    lose(project)
    for write in (
        lambda: project.set_setting("key", 1),
        lambda: project.record(
            ImageEdit("a.tif", EditKind.LABEL, "Ada", frozenset([1])), analysis, analysis
        ),
        lambda: project.record(ImageEdit("a.tif", EditKind.PREDICTION, "Ada"), analysis, analysis),
        lambda: project.add_run({"command": "analyse"}),
    ):
        with pytest.raises(AtomicityError, match="project file was"):
            write()
    with Project(project.copy(tmp_path / "copy.atomicity")) as copy:
        assert copy.setting("key") is None
        assert len(copy.corrections()) == 0
        assert len(copy.load("a.tif").analysis.table) == 12


def test_a_file_that_comes_back_is_written_again(state, tmp_path):
    folder = state.project.path.parent
    folder.rename(tmp_path / "unmounted")
    state.clusters.relabel([("a.tif", 2)], "Pt30")
    assert "deleted" in state.unsaved
    (tmp_path / "unmounted").rename(folder)
    assert state.save_again()
    assert state.project.labels()["a.tif"] == {2: "Pt30"}


def test_the_file_in_its_place_is_not_touched(state):
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    path = state.project.path
    replace_file(state.project)
    content = path.read_bytes()
    state.clusters.relabel([("a.tif", 2)], "Pt30")
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT key FROM settings").fetchall() == [("whose",)]
        assert db.execute("SELECT count(*) FROM corrections").fetchone() == (0,)
    state.close_project()
    with Project(path) as other:
        assert other.setting("whose") == "somebody else's"
        assert other.names == []
    assert path.read_bytes()[:100] == content[:100]


def test_it_can_be_saved_under_the_name_that_was_lost(state):
    path = state.project.path
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    delete_folder(state.project)
    state.clusters.relabel([("a.tif", 2)], "Pt30")
    path.parent.mkdir()
    save_elsewhere(state, path)
    assert state.unsaved == ""
    state.close_project()
    with Project(path) as saved:
        assert saved.labels()["a.tif"] == {1: "Pt19", 2: "Pt30"}


def test_images_added_meanwhile_are_saved_too(state, tmp_path):
    delete_folder(state.project)
    late = analysed(write_image(tmp_path / "late.tif", 7))
    state.clusters.set_analysis(late)
    state.clusters.relabel([("late.tif", 3)], "Pt41")
    assert "deleted" in state.unsaved
    path = tmp_path / "elsewhere.atomicity"
    save_elsewhere(state, path)
    assert state.unsaved == ""
    assert state.project.labels()["late.tif"] == {3: "Pt41"}
    assert len(state.project.load("late.tif").analysis.table) == 12


def test_blind_labels_are_saved_elsewhere_as_well(state, tmp_path):
    state.set_blind(True)
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    delete_folder(state.project)
    state.clusters.relabel([("a.tif", 2)], "Pt30")
    with pytest.raises(AtomicityError, match="deleted"):
        state.set_blind(False)
    save_elsewhere(state, tmp_path / "elsewhere.atomicity")
    state.set_blind(False)
    assert state.project.blind_labels("Ada")[0] == {"a.tif": {1: "Pt19", 2: "Pt30"}}


def test_files_without_a_number_are_told_by_when_they_were_made(state, monkeypatch):
    class Found:
        st_dev, st_ino, st_birthtime_ns = 1, 0, 5

    monkeypatch.setattr(Path, "stat", lambda path, **options: Found())
    identity = connection.FileIdentity(state.project.path)
    identity.check()
    Found.st_birthtime_ns = 6
    with pytest.raises(AtomicityError, match="replaced"):
        identity.check()


def test_a_change_costs_one_look_at_the_file_and_its_log(state, monkeypatch):
    looks = []
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **k: looks.append(path) or stat(path, **k))
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    path = state.project.path
    assert looks == [path, Path(f"{path}-wal")]
