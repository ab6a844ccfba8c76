"""The project: what goes in comes out, whatever happens meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bench import analysed, write_image

from napari_atomicity import load
from napari_atomicity.atoms.marks import ImageAtoms, Mark
from napari_atomicity.core.acquisition_session import PIXEL_SIZE_ERROR, EarlierScale, SessionEntry
from napari_atomicity.core.errors import AtomicityError, ReadError
from napari_atomicity.project import EditKind, ImageEdit, Project
from napari_atomicity.project.connection import ProjectConnection
from napari_atomicity.project.contents import label_that_counts
from napari_atomicity.project.opening import add_paths, open_any, project_file, take_in_analysed
from napari_atomicity.project.schema import SCHEMA
from napari_atomicity.state.analysis_store import mark_excluded
from napari_atomicity.state.project_saver import SESSION_COLUMNS
from napari_atomicity.state.window_images import with_labels
from napari_atomicity.state.window_state import WindowState
from napari_atomicity.statistics.annotators.agreement import opinions


def with_own(analysis, **columns):
    """An analysis with measurements of one's own."""
    return replace(analysis, table=analysis.table.assign(**columns))


def opened(path) -> tuple[WindowState, Project]:
    state, project = WindowState(), Project(path)
    state.open_project(project, project.load_all())
    return state, project


@pytest.fixture
def state(project):
    state = WindowState()
    state.annotator = "Ada"
    state.open_project(project, project.load_all())
    return state


def test_what_goes_in_comes_out(folder, project):
    before = analysed(folder / "a.tif")
    stored = project.load("a.tif")
    after = stored.analysis
    pd.testing.assert_frame_equal(after.table, before.table)
    for a, b in zip(after.outlines, before.outlines, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    for channel, patches in before.patches.items():
        np.testing.assert_allclose(after.patches[channel], patches, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(
            after.class_maps[channel], before.class_maps[channel], rtol=2e-3, atol=2e-3
        )
    np.testing.assert_allclose(after.embedding, before.embedding, rtol=1e-6)
    assert after.field_of_view_nm == before.field_of_view_nm
    assert after.parameters == before.parameters
    np.testing.assert_array_equal(stored.micrograph.data, before.micrograph.data)
    assert stored.next_id == 13
    assert project.load("b.tif").analysis is None


def test_effects_of_the_recording_are_stored_where_there_are_any(folder, project):
    before = analysed(folder / "a.tif")
    n = len(before.table)
    table = before.table.assign(clipped=np.linspace(0, 0.2, n), response=np.linspace(0.8, 1.1, n))
    edit = ImageEdit("a.tif", EditKind.ANALYSIS, "Ada")
    project.record(edit, before, replace(before, table=table))
    project.flush()
    after = project.load("a.tif").analysis.table
    pd.testing.assert_frame_equal(after[["clipped", "response"]], table[["clipped", "response"]])
    assert set(after.columns) == {*before.table.columns, "clipped", "response"}


def test_images_and_their_states(project, state):
    a, b, c = project.images()
    assert (a.state, a.n_clusters, a.n_reviewed) == ("analysed", 12, 0)
    assert sum(a.counts.values()) == 12
    assert b.state == c.state == "new"
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt55")
    project.image_files.set_error("b.tif", "b.tif: it is damaged.")
    a, b, _ = project.images()
    assert a.n_reviewed == 2
    assert a.counts["Pt55"] >= 2
    assert (b.state, b.error) == ("failed", "b.tif: it is damaged.")


def test_every_edit_is_there_after_reopening(folder, project, state):
    state.clusters.relabel([("a.tif", 3)], "Pt70")
    state.clusters.remove([("a.tif", 5)])
    analysis = state.analysis("a.tif")
    added = analysis.table[:1].assign(y_px=50.0, x_px=60.0, label_predicted="", label="")
    (new,) = state.clusters.add("a.tif", added, [np.ones((5, 2))])
    moved = analysis.table[7:8].assign(y_px=20.0, x_px=22.0)
    state.clusters.move("a.tif", moved, [np.zeros((4, 2))])
    state.clusters.set_regions("a.tif", [np.array([[0, 0], [0, 30], [30, 30], [30, 0]])])
    two = analysis.table[8:10]
    merged = state.clusters.replace("a.tif", two["cluster_id"], two[:1], [np.ones((3, 2))], "merge")
    now = state.analysis("a.tif")
    with Project(folder / "morning.atomicity", read_only=True) as again:
        after = again.load("a.tif").analysis
    expected = now.table.drop(columns="excluded")
    got = mark_excluded(after).table
    assert got["excluded"].tolist() == now.table["excluded"].tolist()
    pd.testing.assert_frame_equal(got.drop(columns="excluded"), expected)
    assert set(got["cluster_id"]) == ({*range(1, 13)} - {5, 10, 11}) | {new, *merged}
    assert len(after.regions) == 1


def test_the_log_only_grows_and_says_who_did_what(project, state):
    state.clusters.relabel([("a.tif", 3)], "Pt70")
    state.history.undo()
    state.clusters.remove([("a.tif", 4)])
    state.history.undo()
    log = project.corrections()
    said = list(zip(log["what"], log["cluster_id"], log["label"], strict=True))
    assert said == [("label", 3, "Pt70"), ("label", 3, ""), ("remove", 4, ""), ("add", 4, "")]
    assert set(log["annotator"]) == {"Ada"}
    assert (log["label_predicted"] != "").all()
    for statement in ("DELETE FROM corrections", "UPDATE corrections SET label = 'x'"):
        with pytest.raises(sqlite3.IntegrityError), sqlite3.connect(project.path) as db:
            db.execute(statement)


def test_a_correction_is_on_disk_when_the_call_returns(project, state):
    for i in range(1, 13):
        state.clusters.relabel([("a.tif", i)], "unknown")
        with sqlite3.connect(project.path) as db:
            found = db.execute("SELECT count(*) FROM corrections").fetchone()
        assert found == (i,)


def test_a_second_window_only_looks_and_says_so(project, state):
    with Project(project.path) as second:
        assert second.read_only
        assert "process" in second.holder
        other = WindowState()
        other.open_project(second, second.load_all())
        with pytest.raises(AtomicityError, match="open in another window"):
            other.clusters.relabel([("a.tif", 1)], "Pt19")
        with pytest.raises(AtomicityError, match="read-only"):
            second.image_files.set_error("a.tif", "no")
        state.clusters.relabel([("a.tif", 1)], "Pt19")  # the first one goes on
    assert not project.read_only
    project.close()
    with Project(project.path) as third:
        assert not third.read_only


def test_moved_files_are_found_by_their_content(folder, project, tmp_path):
    project.image_files.update_metadata(analysed(folder / "b.tif").micrograph)
    elsewhere = tmp_path / "archive" / "deep"
    elsewhere.mkdir(parents=True)
    (folder / "b.tif").rename(elsewhere / "renamed.tif")
    assert [i.name for i in project.image_files.missing()] == ["b.tif"]
    assert project.image_files.find_moved(tmp_path / "archive") == ["b.tif"]
    assert project.image_files.missing() == []
    np.testing.assert_array_equal(
        project.load("b.tif").micrograph.data, analysed(elsewhere / "renamed.tif").micrograph.data
    )


def test_a_project_that_moved_with_its_images_finds_them(folder, project, tmp_path):
    project.close()
    folder.rename(tmp_path / "evening")
    with Project(tmp_path / "evening" / "morning.atomicity") as moved:
        assert moved.image_files.missing() == []
        assert moved.load("a.tif").micrograph.data.shape == (120, 160)


@pytest.mark.parametrize("with_times", [True, False])
def test_a_project_that_was_copied_with_its_images_uses_the_copies(
    folder, project, tmp_path, with_times
):
    from napari_atomicity.project import open_any

    names = project.names
    project.close()
    copy_file = shutil.copy2 if with_times else shutil.copyfile
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=copy_file)
    write_image(copy / "b.tif", seed=9)  # another image of the same size
    with open_any(copy, copy / "morning.atomicity").project as copied:
        paths = {image.name: image.path for image in copied.images()}
    assert list(paths) == [*names, "b.tif [1]"]
    assert paths["a.tif"] == copy / "a.tif"
    assert (paths["b.tif"], paths["b.tif [1]"]) == (folder / "b.tif", copy / "b.tif")


def test_measurements_of_ones_own_are_stored_and_undone(folder, project, state, tmp_path):
    n = len(state.analysis("a.tif").table)
    peak = np.where(np.arange(n) == 2, np.nan, np.arange(n) / 3)
    measured = with_own(analysed(folder / "a.tif"), peak=peak, empty=np.full(n, np.nan))
    assert "peak" not in state.table().columns
    state.clusters.set_analysis(measured)
    state.clusters.relabel([("a.tif", 1)], "Pt70")
    assert stored(project)["peak"].tolist() == pytest.approx(peak.tolist(), nan_ok=True)
    assert stored(project)["empty"].isna().all()
    assert stored(project)["label_corrected"].iloc[0] == "Pt70"
    state.clusters.remove([("a.tif", 2)])
    assert len(stored(project)["peak"]) == n - 1
    for _ in range(3):
        state.history.undo()
    assert "peak" not in stored(project)
    for _ in range(2):
        state.history.redo()
    np.testing.assert_array_equal(stored(project)["peak"], peak)
    copy = project.copy(tmp_path / "copy.atomicity")
    with Project(copy) as other:
        assert stored(other)["peak"].notna().sum() == n - 1
        other.merge(project.path)
        assert stored(other)["peak"].notna().sum() == n - 1
    state.clusters.set_analysis(analysed(folder / "a.tif"))  # without the package
    assert "peak" not in stored(project)


def stored(project) -> pd.DataFrame:
    """The clusters of a.tif in the file."""
    project.flush()
    with Project(project.path, read_only=True) as again:
        return again.load("a.tif").analysis.table


def test_another_prediction_keeps_measurements_of_ones_own(folder, project, state):
    measured = with_own(analysed(folder / "a.tif"), peak=1.5)
    state.clusters.set_analysis(measured)
    other = replace(
        measured,
        table=measured.table.assign(model_id="other"),
        parameters={"model": {"model_id": "other"}},
    )
    state.clusters.replace_predictions(other)
    assert (state.table()["peak"] == 1.5).all() and (state.table()["model_id"] == "other").all()
    assert (stored(project)["peak"] == 1.5).all()


def test_a_new_value_of_a_measurement_alone_is_stored(folder, project, state):
    measured = with_own(analysed(folder / "a.tif"), peak=1.5)
    state.clusters.set_analysis(measured)
    state.clusters.set_analysis(with_own(measured, peak=2.5))
    assert (stored(project)["peak"] == 2.5).all()


@pytest.mark.parametrize(
    "value", ["no JSON", "[]", '{"peak": "high"}', '{"label": 1}', '{"peak": Infinity}']
)
def test_damaged_measurements_cost_only_their_image(project, value):
    path = project.path
    project.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE clusters SET measurements = ? WHERE cluster_id = 3", (value,))
    with Project(path) as again:
        assert "stored analysis" in again.load("a.tif").damage
        assert len(again.labelled_clusters("a.tif").table) == 12


def test_another_image_in_the_place_of_an_analysed_one_is_refused(folder, project):
    write_image(folder / "a.tif", seed=9)
    with pytest.raises(ReadError, match="changed"):
        _ = project.load("a.tif").micrograph.data
    with pytest.raises(AtomicityError, match="another image"):
        project.image_files.relocate("a.tif", folder / "c.tif")


def test_a_newer_form_is_refused_and_untouched(project):
    path = project.path
    project.close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    before = path.read_bytes()
    with pytest.raises(ReadError, match="newer version"):
        Project(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a project at all", b"SQLite format 3\x00rubbish"])
def test_other_files_are_refused_or_begun(tmp_path, content):
    path = tmp_path / "x.atomicity"
    path.write_bytes(content)
    if not content:  # as `touch` makes it: an empty project
        with Project(path) as project:
            assert project.names == []
        return
    with pytest.raises(ReadError):
        Project(path)
    assert path.read_bytes() == content


def test_another_database_is_no_project(tmp_path):
    path = tmp_path / "x.atomicity"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (a)")
    with pytest.raises(ReadError, match="no project"):
        Project(path)


def test_two_annotators_are_merged(folder, project, state, tmp_path):
    theirs = project.copy(tmp_path / "bob.atomicity")
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt19")
    bob, other = opened(theirs)
    bob.annotator = "Bob"
    bob.clusters.relabel([("a.tif", 2)], "Pt30")
    bob.clusters.relabel([("a.tif", 3)], "Pt41")
    other.close()
    report = state.merge(theirs)
    assert (report.n_images, report.n_new, report.annotators) == (1, 2, ("Bob",))
    (row,) = report.disagreements.to_dict("records")
    assert (row["cluster_id"], row["mine"], row["theirs"]) == (2, "Pt19", "Pt30")
    labels = state.table("a.tif").set_index("cluster_id")["label_corrected"]
    assert labels[[1, 2, 3]].tolist() == ["Pt19", "Pt19", "Pt41"]
    assert project.labels()["a.tif"] == {1: "Pt19", 2: "Pt19", 3: "Pt41"}
    assert state.merge(theirs).n_new == 0
    log = project.corrections()
    assert log[log["merged"]]["annotator"].unique().tolist() == ["Bob"]


def test_only_new_labels_that_differ_are_named(project, state, tmp_path):
    theirs = project.copy(tmp_path / "cleo.atomicity")
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt19")
    state.annotator = "Bob"
    state.set_blind(True)
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt30")
    state.set_blind(False)
    cleo, other = opened(theirs)
    cleo.annotator = "Cleo"
    cleo.set_blind(True)
    cleo.clusters.relabel([("a.tif", 1)], "Pt41")
    cleo.clusters.relabel([("a.tif", 2)], "Pt19")
    other.close()
    found = state.merge(theirs).disagreements
    assert found[["cluster_id", "annotator", "theirs"]].to_numpy().tolist() == [[1, "Cleo", "Pt41"]]


def merged_state(state):
    """What a merge can change, as the window and the file have it."""
    project = state.project
    marks, looked = project.atoms.annotations()
    return (
        project.labels(),
        {i: state.table(i)["label_corrected"].tolist() for i in state.images},
        dict(state.sessions.entries),
        project.image_files.session_entries(),
        marks.drop(columns="frame").to_numpy().tolist(),
        sorted(looked.to_numpy().tolist()),
        opinions(project.corrections()).labels.to_numpy().tolist(),
    )


def test_a_merge_is_one_step_that_can_be_undone_and_done_again(project, state, tmp_path):
    theirs, cleo = (project.copy(tmp_path / f"{who}.atomicity") for who in ("bob", "cleo"))
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt19")
    bob, other = opened(theirs)
    bob.annotator = "Bob"
    bob.clusters.relabel([("a.tif", 2), ("a.tif", 4)], "Pt30")
    bob.clusters.relabel([("a.tif", 3), ("a.tif", 4)], "Pt41")
    bob.clusters.remove([("a.tif", 5)])
    bob.sessions.group(["a.tif"], "monday")
    bob.set_blind(True)
    bob.atoms.add("a.tif", [Mark(20.0, 7.0)])
    other.atoms.mark_as_viewed(["a.tif"], "Bob")
    other.close()
    before, n_steps = merged_state(state), len(state.history)
    state.merge(theirs)
    after = merged_state(state)
    assert after[0]["a.tif"] == {1: "Pt19", 2: "Pt19", 3: "Pt41", 4: "Pt41"}
    assert len(state.history) == n_steps + 1
    assert state.history[-1].description == "merge bob.atomicity"
    for _ in range(2):
        state.history.undo()
        assert merged_state(state) == before
        state.history.redo()
        assert merged_state(state) == after
    assert state.merge(theirs).n_new == 0
    assert len(state.history) == n_steps + 1
    # What was taken back can be merged again, also when the window has forgotten the step.
    state.history.undo()
    again = project.copy(tmp_path / "again.atomicity")
    report = state.merge(theirs)
    assert (report.n_new, report.n_marks) == (5, 1)
    assert [part for part in merged_state(state) if part not in after] == []
    state.history.undo()
    assert merged_state(state) == before
    # A project from which it was taken back brings none of it to others.
    with Project(cleo) as third:
        assert third.merge(again).annotators == (state.annotator,)


def test_a_copy_makes_its_folder_like_other_saves(project, state, tmp_path):
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    with Project(project.copy(tmp_path / "no" / "such" / "copy.atomicity")) as other:
        assert other.corrections()["label"].tolist() == ["Pt19"]
    (tmp_path / "file").write_text("")
    with pytest.raises(AtomicityError, match=r"Check that the folder .*file exists"):
        project.copy(tmp_path / "file" / "copy.atomicity")


def test_nothing_is_left_beside_a_project_that_is_merged(project, state, tmp_path):
    theirs = project.copy(tmp_path / "bob.atomicity")
    before = theirs.read_bytes()
    state.merge(theirs)
    assert [path.name for path in tmp_path.glob("bob*")] == ["bob.atomicity"]
    assert theirs.read_bytes() == before


def test_a_project_that_another_window_has_open_is_merged_and_left_to_it(project, state, tmp_path):
    theirs = project.copy(tmp_path / "bob.atomicity")
    bob, other = opened(theirs)
    bob.annotator = "Bob"
    logs = {path.name for path in tmp_path.glob("bob*-*")}
    assert logs == {"bob.atomicity-shm", "bob.atomicity-wal"}
    bob.clusters.relabel([("a.tif", 1)], "Pt19")
    other.flush()
    assert state.merge(theirs).n_new == 1
    assert {path.name for path in tmp_path.glob("bob*-*")} == logs
    bob.clusters.relabel([("a.tif", 2)], "Pt30")  # it is written on
    other.close()
    assert not [*tmp_path.glob("bob*-*")]
    assert state.merge(theirs).n_new == 1


def test_the_last_window_that_only_reads_leaves_no_log(project, tmp_path):
    theirs = project.copy(tmp_path / "bob.atomicity")
    bob, other = opened(theirs)
    bob.annotator = "Bob"
    reading = Project(theirs)
    assert reading.read_only
    bob.clusters.relabel([("a.tif", 1)], "Pt19")
    other.close()
    log = Path(f"{theirs}-wal")
    assert log.stat().st_size > 0  # the label is there only
    reading.close()
    assert not log.exists()
    copy = tmp_path / "elsewhere" / "bob.atomicity"
    copy.parent.mkdir()
    shutil.copy(theirs, copy)
    with Project(copy) as again:
        assert again.labels()["a.tif"] == {1: "Pt19"}


def test_the_log_of_a_killed_window_stays_for_whoever_writes_next(project, state, tmp_path):
    theirs = project.copy(tmp_path / "bob.atomicity")
    bob, other = opened(theirs)
    bob.annotator = "Bob"
    bob.clusters.relabel([("a.tif", 1)], "Pt19")
    other.flush()
    killed = tmp_path / "killed"
    killed.mkdir()
    for path in tmp_path.glob("bob.atomicity*"):
        shutil.copy(path, killed)
    other.close()
    before = (killed / "bob.atomicity").read_bytes()
    assert state.merge(killed / "bob.atomicity").n_new == 1
    assert (killed / "bob.atomicity").read_bytes() == before
    assert Path(killed / "bob.atomicity-wal").exists()


def test_copies_made_in_the_midst_bring_only_what_was_said_in_them(project, state, tmp_path):
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    copies = {who: project.copy(tmp_path / f"{who}.atomicity") for who in ("Bob", "Cleo")}
    state.clusters.relabel([("a.tif", 1)], "Pt30")
    for i, (who, path) in enumerate(copies.items()):
        theirs, other = opened(path)
        theirs.annotator = who
        theirs.clusters.relabel([("a.tif", 2 + i)], "Pt41")
        other.close()
        report = state.merge(path)
        assert (report.n_new, report.annotators) == (1, (who,))
    log = project.corrections()
    assert log[["annotator", "cluster_id", "label"]].to_numpy().tolist() == [
        [state.annotator, 1, "Pt19"],
        [state.annotator, 1, "Pt30"],
        ["Bob", 2, "Pt41"],
        ["Cleo", 3, "Pt41"],
    ]


def test_merging_matches_clusters_by_place_and_says_what_it_could_not(
    folder, project, state, tmp_path
):
    theirs = project.copy(tmp_path / "bob.atomicity")
    bob, other = opened(theirs)
    bob.annotator = "Bob"
    again = analysed(folder / "a.tif")
    shuffled = again.table.assign(cluster_id=np.roll(again.table["cluster_id"], 5))
    edit = ImageEdit("a.tif", EditKind.ANALYSIS, "Bob")
    other.record(edit, bob.analysis("a.tif"), replace(again, table=shuffled))
    bob.open_project(other, other.load_all())
    bob.clusters.relabel([("a.tif", 6)], "Pt41")  # where our cluster 11 or so lies
    lone = again.table[:1].assign(y_px=1.0, x_px=1.0, y_nm=0.1, x_nm=0.1, diameter_nm=0.2)
    (new,) = bob.clusters.add("a.tif", lone, [np.ones((3, 2))])
    bob.clusters.relabel([("a.tif", new)], "Pt70")
    other.close()
    place = shuffled.set_index("cluster_id").loc[6, ["y_px", "x_px"]]
    report = state.merge(theirs)
    mine = state.table("a.tif")
    found = mine[(mine["y_px"] == place["y_px"]) & (mine["x_px"] == place["x_px"])]
    assert found["label_corrected"].tolist() == ["Pt41"]
    assert report.unmatched["label"].tolist() == ["", "Pt70"]  # added, and said to be that


def test_who_says_that_it_is_no_cluster_is_heard_too(project, state, tmp_path):
    theirs = project.copy(tmp_path / "bob.atomicity")
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    state.clusters.remove([("a.tif", 2)])
    bob, other = opened(theirs)
    bob.annotator = "Bob"
    bob.clusters.remove([("a.tif", 1)])
    bob.clusters.relabel([("a.tif", 2)], "Pt41")
    other.close()
    report = state.merge(theirs)
    assert (report.n_new, len(report.unmatched)) == (2, 0)
    log = project.corrections()
    said = log[log["merged"]][["cluster_id", "what", "label"]].to_numpy().tolist()
    assert said == [[1, "remove", ""], [2, "label", "Pt41"]]
    # What is said here counts.
    labels = state.table("a.tif").set_index("cluster_id")["label_corrected"]
    assert labels[1] == "Pt19" and 2 not in labels


def test_blind_labels_are_kept_apart(project, state):
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    state.annotator = "Bob"
    state.set_blind(True)
    table = state.table("a.tif")
    assert set(table["label_predicted"]) == set(table["label_corrected"]) == {""}
    assert table["confidence"].isna().all()
    assert state.analysis("a.tif").class_maps == {}
    assert state.analysis("a.tif").patches
    assert state.classes() == ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70"]
    state.clusters.relabel([("a.tif", 1), ("a.tif", 2)], "Pt55")
    with pytest.raises(AtomicityError, match="blind"):
        state.clusters.set_regions("a.tif", [np.zeros((3, 2))])
    state.set_blind(False)
    labels = state.table("a.tif").set_index("cluster_id")["label_corrected"]
    # It fills in where nobody has said anything openly, and changes nothing else.
    assert labels[[1, 2]].tolist() == ["Pt19", "Pt55"]
    state.set_blind(True)
    again = state.table("a.tif").set_index("cluster_id")["label_corrected"]
    assert again[[1, 2, 3]].tolist() == ["Pt55", "Pt55", ""]
    state.clusters.remove([("a.tif", 3)])
    state.set_blind(False)
    assert 3 in state.table("a.tif")["cluster_id"].tolist()
    state.set_blind(True)
    assert 3 not in state.table("a.tif")["cluster_id"].tolist()
    log = project.corrections()
    assert log.groupby("annotator")["blind"].all().to_dict() == {"Ada": False, "Bob": True}


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ([], ""),
        ([("Pt19", False, False), ("Pt30", False, False)], "Pt30"),
        ([("Pt19", False, False), ("Pt30", True, False)], "Pt19"),
        ([("Pt19", False, False), ("Pt30", False, True)], "Pt19"),
        ([("Pt30", False, True)], "Pt30"),
        ([("Pt30", False, True), ("Pt41", True, True)], "Pt30"),
        ([("Pt41", True, False), ("Pt70", True, True)], "Pt41"),
        ([("Pt70", False, True), ("Pt41", True, False), ("Pt30", False, True)], "Pt41"),
        ([("Pt30", False, True), ("Pt41", True, False), ("", False, False)], ""),
        ([("Pt19", False, False), ("", False, False), ("Pt30", False, True)], "Pt30"),
        ([("", False, False), ("Pt30", False, True), ("Pt41", True, False)], "Pt41"),
    ],
)
def test_which_label_counts(said, label):
    assert label_that_counts([(*one, "Ada") for one in said]) == label


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("Ada Pt19", "Pt19"),
        ("Ada Pt19, Bo Pt70", ""),  # open: neither counts
        ("Ada Pt19, Bo Pt70, Cy Pt70", "Pt70"),
        ("Ada Pt19, Bo Pt70, Ada Pt70", "Pt70"),  # the last one of each
        ("Ada Pt19, Bo Pt19, Ada Pt70, Cy Pt19", "Pt19"),
    ],
)
def test_of_several_people_who_were_sent_pictures_the_majority_counts(said, label):
    answers = [one.split() for one in said.split(", ")]
    blind = [(name, True, True, who) for who, name in answers]
    assert label_that_counts(blind) == label
    assert label_that_counts([("Pt41", False, False, "me"), *blind]) == "Pt41"


def test_settings_runs_and_models(project):
    project.set_setting("view", {"zoom": 2.0, "centre": [1, 2]})
    project.add_run({"command": "adapt", "seconds": 1.0})
    project.model_files.add("mine", b"weights", "{}")
    assert project.setting("view") == {"zoom": 2.0, "centre": [1, 2]}
    assert project.setting("other", 7) == 7
    assert project.runs()[0]["command"] == "adapt"
    assert list(project.model_files.names()) == ["mine"]
    assert project.model_files.read("mine") == (b"weights", "{}")
    with pytest.raises(ReadError, match="no model"):
        project.model_files.read("yours")


def test_a_full_disk_is_told_and_nothing_is_lost(project, state, monkeypatch):
    said = []
    state.saved_changed.connect(said.append)
    whole = Project.record

    def full(*args, **kwargs):
        raise AtomicityError("the project can't be read or written now (disk is full)")

    monkeypatch.setattr(Project, "record", full)
    state.clusters.relabel([("a.tif", 1)], "Pt55")
    state.clusters.relabel([("a.tif", 2)], "Pt70")
    assert "disk is full" in state.unsaved
    assert state.table("a.tif")["label_corrected"].tolist()[:2] == ["Pt55", "Pt70"]
    assert project.labels()["a.tif"] == {}
    monkeypatch.setattr(Project, "record", whole)
    assert state.save_again()
    assert project.labels()["a.tif"] == {1: "Pt55", 2: "Pt70"}
    assert (said[-1], state.unsaved) == ("", "")
    assert project.corrections()["label"].tolist() == ["Pt55", "Pt70"]


@pytest.mark.parametrize("geometry", [False, True])
def test_a_full_disk_costs_no_row_of_the_log(project, state, monkeypatch, geometry):
    broken_at(monkeypatch, 1, sqlite3.OperationalError("database or disk is full"))
    labels = [*state.classes()[:3], "Pt19"] * 2
    for label in labels:
        state.clusters.relabel([("a.tif", 1)], label)
    state.history.undo()
    if geometry:
        state.clusters.remove([("a.tif", 3)])
    monkeypatch.undo()
    assert state.save_again()
    log = project.corrections()
    assert log.loc[log["what"] == "label", "label"].tolist() == [*labels, labels[-2]]
    assert project.labels()["a.tif"] == {1: labels[-2]}
    assert len(project.load("a.tif").analysis.table) == len(state.table("a.tif"))


def test_a_thousand_steps_back_and_forth_across_images(folder, project, state):
    for name, seed in (("b.tif", 1), ("c.tif", 2)):
        state.clusters.set_analysis(analysed(folder / name, seed=seed), undoable=False)
    start = state.table()
    keys = list(zip(start["image"], start["cluster_id"].tolist(), strict=True))
    labels = state.classes()
    for i in range(1000):
        if i % 50 == 49:
            state.clusters.remove([keys.pop(3)])
        else:
            state.clusters.relabel([keys[i % len(keys)]], labels[i // len(keys) % len(labels)])
    end = state.table()
    assert len(state.history) == 1000
    state.history.go_to(0)
    assert state.table().equals(start)
    state.history.go_to(1000)
    assert state.table().equals(end)
    with Project(project.path, read_only=True) as again:
        stored = again.load_all()
    on_disk = pd.concat([stored[name].analysis.table for name in project.names])
    pd.testing.assert_frame_equal(on_disk.reset_index(drop=True), end)


@pytest.fixture
def three(folder, project, state):
    """All three images analysed."""
    for name, seed in (("b.tif", 1), ("c.tif", 2)):
        state.clusters.set_analysis(analysed(folder / name, seed=seed), undoable=False)
    return state


def broken_at(monkeypatch, n: int, error: Exception):
    """From the n-th statement on that writes a correction, the disk says no."""
    from napari_atomicity.project import corrections as module

    written = []
    whole = module.write_edit

    def write_edit(*args, **options):
        written.append(args)
        if len(written) >= n:
            raise error
        return whole(*args, **options)

    monkeypatch.setattr(module, "write_edit", write_edit)


def test_a_write_that_fails_within_a_step_loses_nothing_of_it(project, three, monkeypatch):
    broken_at(monkeypatch, 2, sqlite3.OperationalError("database or disk is full"))
    keys = [(name, 1) for name in project.names]
    three.clusters.relabel(keys, "Pt70")
    assert "disk is full" in three.unsaved
    assert [three.table(n)["label_corrected"][0] for n, _ in keys] == ["Pt70"] * 3
    assert all(not labels for labels in project.labels().values())  # all of it or nothing
    three.clusters.relabel([("a.tif", 2)], "Pt19")
    assert not three.save_again()
    three.history.undo()
    monkeypatch.undo()
    assert three.save_again()
    assert project.labels() == {name: {1: "Pt70"} for name in project.names}
    assert three.unsaved == ""


def test_a_locked_file_neither_loses_an_edit_nor_a_step(project, three):
    three.clusters.relabel([("a.tif", 1)], "Pt70")
    with sqlite3.connect(project.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        three.clusters.relabel([("a.tif", 2)], "Pt19")
        assert "locked" in three.unsaved
        assert three.history.undo() is not None
        assert three.history.undo() is not None
        other.execute("ROLLBACK")
    assert len(three.history.undone) == 2
    assert three.history.redo() is not None
    assert three.save_again()
    assert project.labels()["a.tif"] == {1: "Pt70"}


def test_an_edit_that_makes_no_sense_changes_nothing(project, three):
    table = three.table("a.tif")
    wrong = table[:1].assign(y_px=np.nan)
    with pytest.raises(AtomicityError, match="y_px"):
        three.clusters.add("a.tif", wrong, [np.ones((3, 2))])
    assert three.table("a.tif").equals(table)
    assert tuple(three.history) == ()
    assert project.load("a.tif").analysis.table.equals(table)


def test_what_could_not_be_saved_blind_stays_apart(project, three, monkeypatch):
    three.clusters.relabel([("a.tif", 1)], "Pt55")
    three.annotator = "Bob"
    three.set_blind(True)
    broken_at(monkeypatch, 1, sqlite3.OperationalError("disk full"))
    three.clusters.relabel([("a.tif", 1)], "Pt19")
    with pytest.raises(AtomicityError, match="disk full"):
        three.set_blind(False)
    monkeypatch.undo()
    three.set_blind(False)
    assert three.table("a.tif")["label_corrected"][0] == "Pt55"
    stored = project.load("a.tif").analysis.table
    assert stored["label_predicted"].tolist() == three.table("a.tif")["label_predicted"].tolist()
    assert (stored["label_predicted"] != "").all()
    log = project.corrections()
    assert log[log["annotator"] == "Bob"]["label"].tolist() == ["Pt19"]


def test_undo_takes_ones_own_word_back_and_not_anothers_in_ones_mouth(project, three):
    three.annotator = "Bob"
    three.clusters.relabel([("a.tif", 1)], "Pt30")
    three.annotator = "Ada"
    three.clusters.relabel([("a.tif", 1)], "Pt19")
    three.clusters.relabel([("a.tif", 1)], "Pt41")
    three.history.undo()
    three.history.undo()
    assert three.table("a.tif")["label_corrected"][0] == "Pt30"
    log = project.corrections()
    ada = log[log["annotator"] == "Ada"]
    assert ada["label"].tolist() == ["Pt19", "Pt41", "Pt19", ""]
    assert ada["undo"].tolist() == [False, False, True, True]
    three.history.redo()
    assert project.corrections()["label"].tolist()[-1] == "Pt19"


def test_undo_of_a_removal_restores_the_label_of_another_person_as_theirs(project, three):
    three.annotator = "Bob"
    three.clusters.relabel([("a.tif", 1)], "Pt30")
    three.annotator = "Ada"
    three.clusters.remove([("a.tif", 1)])
    three.history.undo()
    assert three.table("a.tif")["label_corrected"][0] == "Pt30"
    log = project.corrections()
    labels = log[log["what"] == "label"]
    assert labels[["annotator", "label"]].to_numpy().tolist() == [["Bob", "Pt30"]]
    assert project.labels()["a.tif"] == {1: "Pt30"}


def test_analysed_again_what_a_person_did_stays(folder, project, state):
    analysis = state.analysis("a.tif")
    lone = analysis.table[:1].assign(y_px=2.0, x_px=2.0, y_nm=0.2, x_nm=0.2, diameter_nm=0.5)
    (added,) = state.clusters.add("a.tif", lone.assign(label_predicted="", label=""),
                                    [np.ones((3, 2))])  # fmt: skip
    state.clusters.remove([("a.tif", 4)])
    state.clusters.relabel([("a.tif", 7)], "Pt70")
    again = analysed(folder / "a.tif")
    without = again.table["cluster_id"] != 7  # not found this time
    state.clusters.set_analysis(
        replace(
            again,
            table=again.table[without].reset_index(drop=True),
            outlines=[o for o, keep in zip(again.outlines, without, strict=True) if keep],
            patches={k: v[without] for k, v in again.patches.items()},
            class_maps={k: v[without] for k, v in again.class_maps.items()},
            embedding=again.embedding[without.to_numpy()],
        )
    )
    table = state.table("a.tif").set_index("cluster_id")
    assert set(table.index) == {*range(1, 13), added} - {4}
    assert table.loc[7, "label"] == "Pt70"
    assert table.loc[added, "label_predicted"] == ""  # the model is asked again
    state.history.undo()
    assert state.table("a.tif").set_index("cluster_id").loc[7, "label_predicted"] != ""


def test_a_step_is_not_undone_where_a_blind_label_waits_below_it(project, state):
    """Undone, the label of before would hide the blind one, which counts then."""
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    state.set_blind(True)
    state.clusters.relabel([("a.tif", 1)], "Pt55")
    assert state.set_blind(False) == 1
    assert state.history.undo() is None
    assert state.table("a.tif").set_index("cluster_id").loc[1, "label_corrected"] == "Pt19"


def test_blind_steps_are_undone_in_blind_mode_and_others_outside(project, state):
    def labels():
        return state.table("a.tif").set_index("cluster_id")["label_corrected"].loc[[1, 2]].tolist()

    state.clusters.relabel([("a.tif", 1)], "Pt19")
    state.set_blind(True)
    state.clusters.relabel([("a.tif", 1)], "Pt55")
    state.clusters.relabel([("a.tif", 2)], "Pt70")
    state.set_blind(False)
    assert labels() == ["Pt19", "Pt70"]  # a blind label counts where there is no other
    assert state.history.undo() is None
    state.set_blind(True)
    assert labels() == ["Pt55", "Pt70"] and len(state.history) == 2
    state.history.undo()
    assert labels() == ["Pt55", ""]
    state.annotator = "Bob"
    assert not state.history and not state.history.undone
    state.annotator = "Ada"
    state.history.redo()
    assert labels() == ["Pt55", "Pt70"]
    state.set_blind(False)
    # The same person has answered elsewhere since.
    now = state.analysis("a.tif")
    edit = ImageEdit("a.tif", EditKind.LABEL, "Ada", {2: "Pt41"})
    project.record(edit, now, with_labels(now, {2: "Pt41"}), blind=True)
    state.set_blind(True)
    assert labels() == ["Pt55", "Pt41"] and not state.history


def test_a_moved_folder_and_a_renamed_file_are_not_new(folder, project, tmp_path):
    from napari_atomicity.project import open_any, survey

    survey(project, project.names)
    project.close()
    folder.rename(tmp_path / "evening")
    (tmp_path / "evening" / "b.tif").rename(tmp_path / "evening" / "z.tif")
    opened = open_any(tmp_path / "evening" / "morning.atomicity")
    assert opened.project.image_files.missing() == []
    opened.close()
    opened = open_any(tmp_path / "evening", tmp_path / "evening" / "morning.atomicity")
    assert opened.project.names == ["a.tif", "b.tif", "c.tif"]
    assert opened.added == ()
    opened.close()


def test_ones_own_project_is_opened_and_not_a_colleagues_copy(folder, project):
    from napari_atomicity.project import project_file

    project.copy(folder / "bob.atomicity")
    project.copy(folder / "morning-copy.atomicity")
    assert project_file(folder) == project.path


def test_a_copy_is_no_second_project_of_a_folder(folder, project):
    project.copy(folder / "morning-copy.atomicity")
    own = project.path
    project.close()
    for other in (None, "bob.atomicity"):
        if other is not None:
            shutil.copyfile(own, folder / other)
        opened = open_any(folder)
        opened.project.close()
        told = any("projects in this folder" in note for note in opened.notes)
        assert told == (other is not None)


def test_a_pixel_size_given_by_hand_is_not_forgotten(folder, project):
    from napari_atomicity.project import survey

    project.image_files.set_pixel_size("b.tif", 0.07)
    found = survey(project, ["b.tif", "c.tif"])
    assert found["b.tif"].micrograph.pixel_size_nm == 0.07
    assert found["c.tif"].micrograph.pixel_size_nm == pytest.approx(0.1)


def test_a_file_that_was_put_back_is_read(folder, project):
    right = (folder / "a.tif").read_bytes()
    write_image(folder / "a.tif", seed=9)
    with pytest.raises(ReadError, match="changed"):
        _ = project.load("a.tif").micrograph.data
    (folder / "a.tif").write_bytes(right)
    assert project.load("a.tif").micrograph.data.shape == (120, 160)


def test_closing_while_another_thread_reads_ends_the_reading(project):
    """Python crashes if a connection is closed under a reader's feet."""
    started, said = threading.Event(), []

    def read() -> None:
        try:
            while True:
                project.load("a.tif")
                started.set()
        except AtomicityError as error:
            said.append(str(error))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert started.wait(10)
    project.close()
    for reader in readers:
        reader.join(10)
    assert len(said) == 3 and all("closed" in words for words in said)


def test_a_thread_that_connects_while_the_project_closes_leaves_no_log(project, monkeypatch):
    check, said = ProjectConnection.check_place, []

    def close_meanwhile(connection: ProjectConnection) -> None:
        check(connection)
        if threading.current_thread() is reader:
            project.close()

    def read() -> None:
        try:
            project.load("a.tif")
        except AtomicityError as error:
            said.append(str(error))

    monkeypatch.setattr(ProjectConnection, "check_place", close_meanwhile)
    reader = threading.Thread(target=read)
    reader.start()
    reader.join(10)
    assert len(said) == 1 and "closed" in said[0]
    assert not list(project.path.parent.glob("*-wal"))


def test_a_long_step_that_is_cut_off_leaves_nothing_in_the_file(project, folder):
    """A step over many images is one transaction, however many turns of the window it takes."""
    state = WindowState()
    for i in range(12):
        write_image(folder / f"long_{i:02d}.tif", i)
    project.add_paths([folder])
    state.open_project(project, {name: project.load(name) for name in project.names})
    for i in range(12):
        state.clusters.set_analysis(analysed(folder / f"long_{i:02d}.tif"))
    before = project.corrections()
    asked: list = []
    state.steps.run_chunked = asked.append
    keys = state.table()[["image", "cluster_id"]].itertuples(index=False, name=None)
    state.clusters.relabel(list(keys), "Pt41")
    for _ in range(20):
        assert asked[-1](1e-9)
    path = project.path
    with sqlite3.connect(path) as other:  # another process sees none of it
        seen = other.execute("SELECT count(*) FROM corrections").fetchone()[0]
    assert seen == len(before)
    # What else is written meanwhile is no part of it: the step comes to its end first.
    project.set_setting("view", [1, 2])
    assert not state.busy
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT value FROM settings WHERE key = 'view'").fetchone()
    assert len(project.corrections()) > len(before)


def test_sessions_and_known_samples_are_stored_and_undone(project, three):
    seen = []
    three.changed.connect(lambda *change: seen.append(change))
    three.sessions.group(["a.tif", "b.tif"], "evening")
    three.sessions.set_known(["b.tif"], {"Pt19": 1, "Pt41": 1})
    known = SessionEntry("evening", {"Pt19": 1, "Pt41": 1})
    assert project.image_files.session_entries() == {
        "a.tif": SessionEntry("evening"),
        "b.tif": known,
    }
    assert seen == [
        (("a.tif", "b.tif"), SESSION_COLUMNS, frozenset()),
        (("b.tif",), SESSION_COLUMNS, frozenset()),
    ]
    evening, morning = three.sessions.groups()
    assert (evening.name, morning.name, morning.images) == ("evening", "morning", ("c.tif",))
    assert evening.known == {"b.tif": {"Pt19": 0.5, "Pt41": 0.5}}
    assert [s.description for s in three.history][-2:] == [
        "session evening of 2 images",
        "known sample Pt19:1, Pt41:1 in 1 image",
    ]
    three.sessions.keep_known(["a.tif", "b.tif"], True)
    assert project.image_files.session_entries()["b.tif"] == replace(known, keep_known=True)
    assert three.sessions.groups()[0].kept == {"b.tif"}
    three.sessions.set_pixel_size_error(["b.tif"], 0.01)
    assert {e.pixel_size_error for e in project.image_files.session_entries().values()} == {0.01}
    assert [s.pixel_size_error for s in three.sessions.groups()] == [0.01, 0.02]
    three.history.undo()
    three.history.undo()
    three.history.undo()
    assert project.image_files.session_entries()["b.tif"] == SessionEntry("evening")
    three.history.undo()
    assert project.image_files.session_entries() == {}
    assert [s.name for s in three.sessions.groups()] == ["morning"]
    three.history.redo()
    three.history.redo()
    project.close()
    again, other = opened(project.path)
    assert again.sessions.groups()[0].known == evening.known
    other.close()


def test_an_earlier_session_is_that_of_all_images_of_the_session_and_stored(project, three):
    earlier = EarlierScale(4.2, 0.16, "april")
    three.sessions.set_earlier(["b.tif"], earlier)
    assert {entry.earlier for entry in three.sessions.entries.values()} == {earlier}
    (session,) = three.sessions.groups()
    assert session.prior == pytest.approx((np.log(4.2), 0.16)) and len(session.images) == 3
    project.close()
    again, other = opened(project.path)
    assert again.sessions.groups() == [session]
    again.sessions.set_earlier(["a.tif"], None)
    assert again.sessions.entries == {} and other.image_files.session_entries() == {}
    again.history.undo()
    assert other.image_files.session_entries()["c.tif"] == SessionEntry(earlier=earlier)
    other.close()


def test_what_is_stated_of_a_session_holds_for_images_that_join_it(three):
    three.sessions.group(["a.tif", "b.tif"], "evening")
    three.sessions.set_pixel_size_error(["c.tif"], 0.005)
    three.sessions.group(["c.tif"], "evening")
    (evening,) = three.sessions.groups()
    assert evening.pixel_size_error == PIXEL_SIZE_ERROR
    three.history.undo()
    three.sessions.set_pixel_size_error(["a.tif"], 0.05)
    three.sessions.group(["c.tif"], "evening")
    assert three.sessions.get("c.tif").pixel_size_error == 0.05


def test_a_name_that_is_joined_is_kept_by_all_images_of_the_session(three):
    three.sessions.group(["c.tif"], "evening")
    three.sessions.group(["c.tif"], "morning")
    assert {i: e.session for i, e in three.sessions.entries.items()} == dict.fromkeys(
        ("a.tif", "b.tif", "c.tif"), "morning"
    )
    three.sessions.derive(["a.tif", "b.tif", "c.tif"])
    assert three.sessions.entries == {}
    assert three.sessions.free_name("morning") == "morning (2)"
    n_steps = len(three.history)
    three.sessions.derive(["a.tif"])  # nothing to do
    assert len(three.history) == n_steps


def test_sessions_that_can_not_be_written_are_written_later(project, three, monkeypatch):
    def refuse(*_):
        raise AtomicityError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(project.image_files, "set_session", refuse)
        three.sessions.group(["a.tif"], "evening")
        assert "disk is full" in three.unsaved
    assert project.image_files.session_entries() == {}
    assert three.save_again()
    assert project.image_files.session_entries() == {"a.tif": SessionEntry("evening")}


def test_sessions_of_another_project_are_merged_where_this_one_has_none(project, three, tmp_path):
    project.image_files.update_metadata(load(project.images()[1].path))
    theirs = project.copy(tmp_path / "bob.atomicity")
    bob, other = opened(theirs)
    bob.sessions.group(["a.tif", "b.tif"], "theirs")
    bob.sessions.set_known(["a.tif"], {"Pt55": 1})
    other.close()
    three.sessions.group(["a.tif"], "mine")
    three.merge(theirs)
    found = project.image_files.session_entries()
    assert found["a.tif"] == three.sessions.get("a.tif") == SessionEntry("mine", {"Pt55": 1})
    assert found["b.tif"] == SessionEntry("theirs")


# ---- the pixel size of an image, and that of its clusters
def test_a_pixel_size_that_was_changed_since_the_analysis_is_still_said_after_opening(
    project, state
):
    analysed_nm = state.pixel_sizes.get("a.tif")
    state.pixel_sizes.set("a.tif", 2 * analysed_nm)
    state.clusters.remove_ids("a.tif", [1])  # writes the clusters again
    assert state.pixel_sizes.has_changed("a.tif")
    project.close()
    state, project = opened(project.path)
    with project:
        assert state.pixel_sizes.get("a.tif") == 2 * analysed_nm
        assert state.pixel_sizes.has_changed("a.tif")
        stored = project.load("a.tif")
        assert stored.analysis.micrograph.pixel_size_nm == pytest.approx(analysed_nm)
        state.follow_file("a.tif", stored.micrograph)  # it was moved
        assert state.pixel_sizes.has_changed("a.tif")
        state.pixel_sizes.set("a.tif", analysed_nm)
        assert not state.pixel_sizes.has_changed("a.tif")


def test_undo_of_an_analysis_keeps_the_pixel_size_that_is_shown(folder, project, state):
    analysed_nm = state.pixel_sizes.get("a.tif")
    state.pixel_sizes.set("a.tif", 0.08)
    again = analysed(folder / "a.tif")
    table = again.table.assign(y_nm=0.08 * again.table["y_px"], x_nm=0.08 * again.table["x_px"])
    new = replace(again, micrograph=again.micrograph.with_pixel_size(0.08), table=table)
    state.clusters.set_analysis(new)
    state.history.undo()
    assert state.pixel_sizes.get("a.tif") == 0.08 and state.pixel_sizes.has_changed("a.tif")
    assert project.load("a.tif").micrograph.pixel_size_nm == 0.08
    state.history.undo()
    assert project.load("a.tif").micrograph.pixel_size_nm == analysed_nm
    for _ in range(2):
        state.history.redo()
    stored = project.load("a.tif")
    assert stored.micrograph.pixel_size_nm == stored.analysis.micrograph.pixel_size_nm == 0.08


@pytest.mark.parametrize("in_project", [True, False])
def test_removed_clusters_do_not_come_back_with_another_pixel_size(
    folder, project, state, in_project
):
    if not in_project:
        state = WindowState()
        state.clusters.set_analysis(analysed(folder / "a.tif"))
    before = analysed(folder / "a.tif")
    size = before.micrograph.pixel_size_nm
    state.clusters.remove([("a.tif", 8), ("a.tif", 11)])
    left = state.table("a.tif")["cluster_id"].tolist()
    for now in (1.5 * size, 2 * size, size):
        state.pixel_sizes.set("a.tif", now)
        table = before.table.assign(**{f"{a}_nm": now * before.table[f"{a}_px"] for a in "yx"})
        again = replace(before, micrograph=before.micrograph.with_pixel_size(now), table=table)
        state.clusters.set_analysis(again)
        assert len(state.table("a.tif")) == len(left) == len(before.table) - 2


# ---- images that are removed from the project
def removed(project: Project) -> list[str]:
    return list(project.image_files.removed)


def test_a_removed_image_is_in_no_result_and_undo_brings_back_all_of_it(project, state):
    state.clusters.relabel([("a.tif", 3)], "Pt41")
    state.atoms.add("a.tif", [Mark(5.0, 6.0)])
    state.sessions.set_known(["a.tif"], {"Pt30": 1.0})
    before, marks = state.analysis("a.tif"), state.atoms.table("a.tif")
    state.current = "a.tif"
    state.select([("a.tif", 3)])
    state.remove_from_project(["a.tif"])
    assert state.images == project.names == [i.name for i in project.images()] == ["b.tif", "c.tif"]
    assert state.current == "b.tif" and not state.selection and not state.sessions.entries
    assert not len(state.table()) and not len(state.atoms.table()) and not project.has("a.tif")
    assert not len(project.corrections()) and not len(project.atoms.marks())
    assert project.labels() == {"b.tif": {}, "c.tif": {}}
    state.history.undo()
    assert state.images == project.names == ["a.tif", "b.tif", "c.tif"]
    assert state.current == "a.tif" and state.analysis("a.tif") is before
    assert project.labels()["a.tif"] == {3: "Pt41"} and len(project.atoms.marks()) == 1
    pd.testing.assert_frame_equal(state.atoms.table("a.tif"), marks)
    assert state.sessions.get("a.tif").known == {"Pt30": 1.0}
    state.history.redo()
    assert state.images == project.names == ["b.tif", "c.tif"]
    assert state.current == "b.tif"
    state.history.undo()
    state.clusters.relabel([("a.tif", 4)], "Pt19")
    assert project.labels()["a.tif"] == {3: "Pt41", 4: "Pt19"}


@pytest.mark.parametrize(
    ("shown", "gone", "neighbour"),
    [
        ("b.tif", ["b.tif"], "c.tif"),
        ("c.tif", ["c.tif"], "b.tif"),
        ("b.tif", ["b.tif", "c.tif"], "a.tif"),
        ("c.tif", ["b.tif", "c.tif"], "a.tif"),
        ("a.tif", ["a.tif", "b.tif"], "c.tif"),
        ("b.tif", ["a.tif"], "b.tif"),
        ("a.tif", ["b.tif", "c.tif"], "a.tif"),
    ],
)
def test_a_neighbour_takes_the_place_of_a_removed_image_until_undo(state, shown, gone, neighbour):
    state.current = shown
    told = []
    state.current_changed.connect(told.append)
    state.remove_from_project(gone)
    assert state.current == neighbour
    state.history.undo()
    assert state.current == (shown if shown in gone else gone[0])
    state.current = shown
    state.history.redo()
    assert state.current == neighbour == (told or [shown])[-1]


def test_a_removed_image_stays_away_from_its_folder_until_it_is_added_again(folder, project, state):
    state.clusters.relabel([("a.tif", 3)], "Pt41")
    next_id = state.store.first_free_id("a.tif")
    state.remove_from_project(["a.tif", "c.tif"])
    assert state.history[-1].description == "remove 2 images"
    path = project.path
    state.close_project()
    project.close()
    with closing(open_any(folder)) as found:
        assert found.project.path == path and list(found.stored) == ["b.tif"]
        again = WindowState()
        again.open_project(found.project, found.stored)
        with pytest.raises(ReadError, match="removed"):
            found.project.image_files.name_at(folder / "a.tif")
        assert not add_paths(found.project, [str(folder)])
        again.add_contents(add_paths(found.project, [str(folder / "a.tif")]))
        assert again.images == found.project.names == ["a.tif", "b.tif"]
        labelled = again.table("a.tif").set_index("cluster_id")["label_corrected"]
        assert labelled[3] == "Pt41" and again.store.first_free_id("a.tif") == next_id
        again.clusters.relabel([("a.tif", 3)], "Pt19")
        assert found.project.labels()["a.tif"] == {3: "Pt19"}
        assert removed(found.project) == ["c.tif"]
    with Project(path) as once_more:
        assert once_more.names == ["a.tif", "b.tif"]


def test_another_file_may_take_the_name_of_a_removed_image(folder, project, state, tmp_path):
    state.clusters.relabel([("a.tif", 3)], "Pt41")
    state.remove_from_project(["a.tif"])
    other = load(write_image(tmp_path / "a.tif", 7))
    state.add_image(other)
    assert project.has("a.tif") and project.labels()["a.tif"] == {}
    state.history.undo()  # both are there, and nothing of the other one has changed
    assert state.micrograph("a.tif").path == other.path and not len(state.table("a.tif"))
    assert removed(project) == ["a.tif [1]"]
    assert len(add_paths(project, [str(folder / "a.tif")])["a.tif [1]"].analysis.table) == 12


def test_a_copy_of_a_project_keeps_what_was_removed(folder, project, state, tmp_path):
    patches = dict(state.analysis("a.tif").patches)
    state.remove_from_project(["a.tif"])
    with Project(project.copy(tmp_path / "copy.atomicity")) as copy:
        state.attach_project(copy)
        assert copy.names == ["b.tif", "c.tif"] and removed(copy) == ["a.tif"]
        state.history.undo()
        assert copy.names == ["a.tif", "b.tif", "c.tif"]
        for channel, stack in state.analysis("a.tif").patches.items():
            np.testing.assert_array_equal(stack, patches[channel])


def test_a_removal_that_can_not_be_written_changes_nothing(project, state, monkeypatch):
    def fails(*args):
        raise sqlite3.OperationalError("disk is full")

    state.current = "a.tif"
    monkeypatch.setattr("napari_atomicity.project.images.upgrade", fails)
    with pytest.raises(AtomicityError, match="full"):
        state.remove_from_project(["a.tif"])
    assert state.images == project.names == ["a.tif", "b.tif", "c.tif"]
    assert state.current == "a.tif" and len(state.table("a.tif")) and not state.history


def test_blind_annotators_and_readers_remove_nothing(folder, project, state):
    state.set_blind(True)
    with pytest.raises(AtomicityError, match="blind"):
        state.remove_from_project(["a.tif"])
    state.set_blind(False)
    reader, second = opened(project.path)
    with second, pytest.raises(AtomicityError, match="read-only"):
        reader.remove_from_project(["a.tif"])
    assert project.names == ["a.tif", "b.tif", "c.tif"]


def test_a_folder_whose_name_ends_like_that_of_a_copy_has_its_own_project(tmp_path):
    folder = tmp_path / "run-copy"
    folder.mkdir()
    for name in ("run-copy", "other", "other-copy"):
        (folder / f"{name}.atomicity").touch()
    assert project_file(folder) == folder / "run-copy.atomicity"
    (folder / "run-copy.atomicity").unlink()
    assert project_file(folder) == folder / "other.atomicity"


def test_opening_the_folder_above_one_with_a_project_says_so(tmp_path):
    below = tmp_path / "monday"
    below.mkdir()
    write_image(below / "a.tif")
    open_any(below).close()
    opened = open_any(tmp_path)
    assert opened.others == ("monday/monday.atomicity",)
    opened.close()
    opened = open_any(tmp_path)  # said once
    assert opened.others == () == opened.notes
    opened.close()


@pytest.mark.parametrize("what", ["mark", "viewed", "region", "known sample"])
def test_another_image_under_its_name_gets_nothing_that_a_person_said(project, folder, what):
    found = analysed(folder / "a.tif")
    replaced = replace(found, micrograph=replace(found.micrograph, sha256="0" * 64))
    project.image_files.update_metadata(found.micrograph)
    if what == "mark":
        edit = ImageEdit("a.tif", EditKind.ATOMS, "Ada")
        atoms = ImageAtoms("a.tif", 0.1, marks={1: Mark(5.0, 5.0)})
        project.atoms.record(edit, None, atoms)
    elif what == "viewed":
        project.atoms.set_annotation("a.tif", "Ada", {})
    elif what == "region":
        _, taken = take_in_analysed(project, found)
        region = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
        project.record(ImageEdit("a.tif", EditKind.ANALYSIS, "Ada"), None, taken)
        edit = ImageEdit("a.tif", EditKind.GEOMETRY, "Ada")
        project.record(edit, taken, replace(taken, regions=(region,)))
    else:
        entry = SessionEntry(known={"Pt55": 1.0})
        project.image_files.set_session("a.tif", entry, "Ada")
    with pytest.raises(ReadError, match=r"a\.tif: .*worked on it"):
        take_in_analysed(project, replaced)


def test_a_pixel_size_entered_during_an_analysis_elsewhere_stays(project, folder):
    """The result keeps the one that it was found with, so that the window can refuse it."""
    found = analysed(folder / "a.tif")
    size = found.micrograph.pixel_size_nm
    project.image_files.update_metadata(found.micrograph.with_pixel_size(1.1 * size))
    stored, taken = take_in_analysed(project, found)
    assert stored.micrograph.pixel_size_nm == pytest.approx(1.1 * size)
    assert project.load("a.tif").micrograph.pixel_size_nm == pytest.approx(1.1 * size)
    assert taken.micrograph.pixel_size_nm == size
    replaced = replace(found, micrograph=replace(found.micrograph, sha256="0" * 64))
    stored, taken = take_in_analysed(project, replaced)  # the file has another content now
    assert stored.micrograph.pixel_size_nm == taken.micrograph.pixel_size_nm == size
