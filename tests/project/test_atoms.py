"""Atoms in a project: what a model found, what people mark, and that nothing of it is lost."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bench import write_image

from napari_atomicity.atoms.analysis import AtomAnalysis
from napari_atomicity.atoms.marks import Mark
from napari_atomicity.atoms.table import conform
from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.io.images import load
from napari_atomicity.project import Project
from napari_atomicity.state.annotator_packs import remove_annotator, set_reviewed
from napari_atomicity.state.window_state import WindowState

CONFIDENCE = [0.95, 0.8, 0.6, 0.3, 0.1]


def found(path, shift_nm: float = 0.0) -> AtomAnalysis:
    """Five candidates on a diagonal, 0.5 nm apart and more."""
    micrograph = load(path)
    size = micrograph.calibrated()
    place = 1.0 + 0.8 * np.arange(len(CONFIDENCE)) + shift_nm
    table = conform(
        pd.DataFrame(
            {
                "image": micrograph.name,
                "atom_id": np.arange(1, len(CONFIDENCE) + 1),
                "y_px": place / size,
                "x_px": place / size,
                "y_nm": place,
                "x_nm": place,
                "confidence": CONFIDENCE,
                "intensity": 100.0,
                "origin": "model",
                "model_id": "tiny",
            }
        )
    )
    support = np.ones(micrograph.data.shape, bool)
    support[:5] = False
    return AtomAnalysis(micrograph, table, 0.5, support, size, "tiny", 0.9)


@pytest.fixture
def state(project):
    """A session over the project, whose image a.tif has atoms."""
    state = WindowState()
    state.annotator = "Ada"
    state.open_project(project, {name: project.load(name) for name in project.names})
    state.atoms.set_analysis(found(state.micrograph("a.tif").path))
    return state


def reopened(state: WindowState) -> WindowState:
    path = state.project.path
    state.project.flush()
    again = WindowState()
    state.close_project()
    project = Project(path)
    again.open_project(project, {name: project.load(name) for name in project.names})
    return again


def ids(state: WindowState) -> list[int]:
    return state.atoms.table("a.tif")["atom_id"].tolist()


def test_what_is_marked_is_there_when_the_project_is_opened_again(state):
    assert ids(state) == [1, 2, 3]
    state.atoms.add("a.tif", [Mark(3.0, 40.0, intensity=7.0, sigma_nm=0.1)])
    state.atoms.remove([("a.tif", 2)])
    state.atoms.set_uncertain([("a.tif", 3)])
    state.atoms.move("a.tif", {1: Mark(20.5, 21.5)})
    state.atoms.set_threshold("a.tif", 0.2)
    state.atoms.set_support("a.tif", [(np.array([[0, 0], [0, 9], [3, 9.0]]), True)])
    state.atoms.set_group_distance(1.2)
    before = state.atoms.of("a.tif")
    again = reopened(state)
    after = again.atoms.of("a.tif")
    pd.testing.assert_frame_equal(after.table, before.table)
    assert ids(again) == [1, 3, 4, 6]
    np.testing.assert_array_equal(after.support, before.support)
    assert after.marks == before.marks and after.threshold == 0.2
    assert again.atoms.next_id("a.tif") == 7
    again.close_project()


@pytest.mark.parametrize("adds_first", [False, True])
def test_the_later_of_two_regions_drawn_over_each_other_counts_after_reopening_too(
    state, adds_first
):
    """Where what adds comes first, the file is as of older versions, which stored no order."""
    large, small = (
        np.array([[low, low], [low, high], [high, high], [high, low]], float)
        for low, high in ((5, 40), (10, 30))
    )
    drawn = [(large, adds_first), (small, not adds_first)]
    state.atoms.set_support("a.tif", drawn)
    before = state.atoms.of("a.tif")
    assert before.support[20, 20] == (not adds_first) and before.support[35, 35] == adds_first
    with sqlite3.connect(state.project.path) as db:
        (parameters,) = db.execute("SELECT parameters FROM atoms").fetchone()
    assert ("support_order" in json.loads(parameters)) == (not adds_first)
    again = reopened(state)
    np.testing.assert_array_equal(again.atoms.of("a.tif").support, before.support)
    # Atoms that are found again keep the support.
    again.atoms.set_analysis(found(again.micrograph("a.tif").path))
    np.testing.assert_array_equal(again.atoms.of("a.tif").support, before.support)
    again.close_project()


@pytest.mark.parametrize("factor", [1.03, 1.5, 0.7])
def test_marks_hold_when_atoms_are_found_with_another_pixel_size(state, factor):
    """The places of the image are the same, whatever their lengths."""
    path, size = state.micrograph("a.tif").path, state.pixel_sizes.get("a.tif")
    state.atoms.remove([("a.tif", 2)])
    state.atoms.set_uncertain([("a.tif", 3)])
    state.atoms.move("a.tif", {1: Mark(12.0, 60.0)})
    before = ids(state)
    for now in (factor * size, size):
        state.pixel_sizes.set("a.tif", now)
        again = found(path)
        table = again.candidates.assign(
            y_nm=again.candidates["y_px"] * now, x_nm=again.candidates["x_px"] * now
        )
        state.atoms.set_analysis(replace(again, candidates=table, pixel_size_nm=now))
        assert ids(state) == before == [1, 3]
        rows = state.atoms.table("a.tif").set_index("atom_id")
        assert rows.loc[3, "uncertain"] and rows.loc[1, "x_px"] == 60.0


def test_all_of_it_can_be_undone_and_done_again(state):
    atoms = state.atoms
    states = [atoms.of("a.tif").table]
    for act in (
        lambda: atoms.remove([("a.tif", 1)]),
        lambda: atoms.add("a.tif", [Mark(3.0, 40.0)]),
        lambda: atoms.set_threshold("a.tif", 0.05),
        lambda: atoms.set_uncertain([("a.tif", 3), ("a.tif", 6)]),
        lambda: atoms.confirm([("a.tif", 5)]),
    ):
        act()
        states.append(atoms.of("a.tif").table)
    for expected in reversed(states[:-1]):
        state.history.undo()
        pd.testing.assert_frame_equal(atoms.of("a.tif").table, expected)
    state.history.undo()
    assert atoms.of("a.tif") is None
    state.history.redo()
    for expected in states[1:]:
        state.history.redo()
        pd.testing.assert_frame_equal(atoms.of("a.tif").table, expected)
    pd.testing.assert_frame_equal(reopened(state).atoms.table("a.tif"), states[-1])


def test_a_slider_that_moves_is_one_step(state):
    n = len(state.history)
    for threshold in (0.4, 0.3, 0.2):
        state.atoms.set_threshold("a.tif", threshold)
    state.atoms.end_sliding()
    assert len(state.history) == n + 1
    state.atoms.set_threshold("a.tif", 0.7)
    assert len(state.history) == n + 2
    state.history.undo()
    state.history.undo()
    assert state.atoms.of("a.tif").threshold == 0.5


def test_another_analysis_takes_nothing_from_a_person(state):
    state.atoms.remove([("a.tif", 2)])
    (new,) = state.atoms.add("a.tif", [Mark(3.0, 40.0)])
    state.atoms.confirm([("a.tif", 5)])
    state.atoms.set_analysis(found(state.micrograph("a.tif").path, shift_nm=0.05))
    # What lies where something lay keeps its number, and what was said of it.
    assert ids(state) == [1, 3, 5, new]
    state.atoms.set_analysis(found(state.micrograph("a.tif").path, shift_nm=0.4))
    table = state.atoms.table("a.tif")
    assert {5, new} <= set(table["atom_id"]) and len(table) == 5
    assert 2 not in table["atom_id"].tolist()


def test_an_atom_that_was_moved_far_does_not_come_back_at_its_old_place(state):
    atoms, path = state.atoms, state.micrograph("a.tif").path
    size = state.micrograph("a.tif").pixel_size_nm
    away, next_to = Mark(3.0, 40.0), Mark(1.85 / size, 1.85 / size)
    atoms.move("a.tif", {1: away})
    atoms.move("a.tif", {3: Mark(4.2 / size, 4.2 / size), 2: next_to})
    for shift in (0.05, 0.0, -0.05):
        atoms.set_analysis(found(path, shift_nm=shift))
        table = atoms.table("a.tif").set_index("atom_id")
        assert table.index.tolist() == [1, 2, 3]
        assert (table.loc[1, "y_px"], table.loc[1, "x_px"]) == (3.0, 40.0)
        # The third lies on the fifth candidate now: that one is covered, and so is its old place.
        known = atoms.of("a.tif").analysis.candidates
        assert known["atom_id"].is_unique and len(known) == 4
        assert (atoms.of("a.tif").probabilities["confidence"] == 1).sum() == 3
    atoms.remove([("a.tif", 1)])
    atoms.set_analysis(found(path))
    assert ids(state) == [2, 3]


def test_a_mark_where_the_model_sees_something_is_that_atom(state):
    size = state.micrograph("a.tif").pixel_size_nm
    near = [Mark((3.4 + off) / size, 3.4 / size) for off in (0.06, -0.06)]
    new = state.atoms.add("a.tif", near)  # both at the fourth, which does not count
    assert new == [4, 6] and ids(state) == [1, 2, 3, 4, 6]
    assert state.atoms.add("a.tif", [Mark(1.0 / size, 1.1 / size)]) == [7]  # the first counts
    state.history.undo()
    state.history.undo()
    assert ids(state) == [1, 2, 3]


def test_the_log_only_grows(state):
    state.atoms.remove([("a.tif", 2)])
    state.history.undo()
    log = state.project.atoms.marks()
    assert log[["annotator", "atom_id", "what"]].to_numpy().tolist() == [
        ["Ada", 2, "none"], ["Ada", 2, "withdrawn"],
    ]  # fmt: skip
    with sqlite3.connect(state.project.path) as db, pytest.raises(sqlite3.Error, match="never"):
        db.execute("DELETE FROM marks")


def test_a_blind_annotator_sees_no_atoms_and_marks_for_him_or_herself(state):
    state.atoms.remove([("a.tif", 1)])
    state.project.image_files.update_metadata(load(state.micrograph("b.tif").path))
    state.update_metadata("b.tif")
    state.annotator = "Bob"
    state.set_blind(True)
    assert len(state.atoms.table("a.tif")) == 0
    state.atoms.add("a.tif", [Mark(12.0, 13.0), Mark(30.0, 31.0, uncertain=True)])
    state.atoms.add("b.tif", [Mark(5.0, 6.0)])
    with pytest.raises(AtomicityError, match="blind"):
        state.atoms.set_analysis(found(state.micrograph("a.tif").path))
    state.set_blind(False)
    assert ids(state) == [2, 3]
    state.set_blind(True)
    assert len(state.atoms.table()) == 3
    state.set_blind(False)
    marks, looked = state.project.atoms.annotations()
    assert marks[["image", "annotator", "y_px", "uncertain"]].to_numpy().tolist() == [
        ["a.tif", "Bob", 12.0, False], ["a.tif", "Bob", 30.0, True], ["b.tif", "Bob", 5.0, False],
    ]  # fmt: skip
    assert set(looked["annotator"]) == {"Bob"} and set(looked["image"]) == {"a.tif", "b.tif"}
    again = reopened(state)
    assert ids(again) == [2, 3] and again.atoms.of("b.tif") is None


def test_who_takes_back_all_marks_has_not_gone_through_the_image(state):
    project = state.project
    state.annotator = "Bob"
    state.set_blind(True)
    (first,) = state.atoms.add("a.tif", [Mark(12.0, 13.0)])
    state.history.undo()
    assert not len(project.atoms.annotations()[1])
    (first,) = state.atoms.add("a.tif", [Mark(12.0, 13.0)])
    assert project.atoms.annotations()[1].to_numpy().tolist() == [["a.tif", "Bob"]]
    state.atoms.remove([("a.tif", first)])
    assert not len(project.atoms.annotations()[1])
    project.atoms.mark_as_viewed(["a.tif", "b.tif"], "Bob")
    project.atoms.mark_as_viewed(["b.tif"], "Ada")
    project.atoms.mark_as_viewed(["b.tif"], "Bob", viewed=False)
    looked = project.atoms.annotations()[1]
    assert sorted(looked.to_numpy().tolist()) == [["a.tif", "Bob"], ["b.tif", "Ada"]]


def test_marks_from_elsewhere_come_in_once(state):
    marks = pd.DataFrame(
        {"y_px": [1.0, 2.0], "x_px": [3.0, 4.0], "y_nm": [0.1, 0.2], "x_nm": [0.3, 0.4],
         "uncertain": [False, True]}
    )  # fmt: skip
    project = state.project
    assert project.atoms.add_marks("a.tif", "Cleo", marks, "pack-1/a.tif") == 2
    assert project.atoms.add_marks("a.tif", "Cleo", marks, "pack-1/a.tif") == 0
    project.atoms.mark_as_viewed(["c.tif"], "Cleo")
    found_marks, looked = project.atoms.annotations()
    assert found_marks["annotator"].tolist() == ["Cleo", "Cleo"]
    assert sorted(looked["image"]) == ["a.tif", "c.tif"]
    assert ids(reopened(state)) == [1, 2, 3]  # they do not count among the open ones


def test_marks_that_could_not_be_written_are_written_later(state, monkeypatch):
    project = state.project

    def full(*_args, **_kwargs):
        raise AtomicityError("the disk is full", project.path, "Make room")

    monkeypatch.setattr(project.atoms, "record", full)
    state.atoms.remove([("a.tif", 1)])
    assert ids(state) == [2, 3] and "full" in state.unsaved
    state.current = "a.tif"
    with pytest.raises(AtomicityError, match="disk is full"):  # an image without all its marks
        set_reviewed(state, True)
    assert project.atoms.count_marks("a.tif", state.annotator) is None
    monkeypatch.undo()
    state.atoms.add("a.tif", [Mark(3.0, 40.0)])
    assert state.unsaved == ""
    assert ids(reopened(state)) == [2, 3, 6]


def test_atoms_of_images_without_a_project_come_into_the_one_that_is_made(folder, tmp_path):
    state = WindowState()
    write_image(tmp_path / "lone.tif", 3)
    state.add_image(load(tmp_path / "lone.tif"))
    state.atoms.set_analysis(found(tmp_path / "lone.tif"))
    state.atoms.remove([("lone.tif", 3)])
    state.attach_project(Project(tmp_path / "new.atomicity"))
    state.project.flush()
    path = state.project.path
    state.close_project()
    with Project(path) as project:
        assert project.load("lone.tif").atoms.table["atom_id"].tolist() == [1, 2]


def marked_blind(state: WindowState) -> list:
    marks, _ = state.project.atoms.annotations()
    return sorted(marks[["image", "annotator", "y_px"]].to_numpy().tolist())


def test_marks_of_a_copy_come_in_once_and_go_on_where_they_were(state, tmp_path):
    state.project.image_files.update_metadata(load(state.micrograph("c.tif").path))
    state.annotator = "Bob"
    state.set_blind(True)
    state.atoms.add("a.tif", [Mark(12.0, 13.0)])
    copy = state.project.copy(tmp_path / "copy.atomicity")
    other = WindowState()
    theirs = Project(copy)
    other.open_project(theirs, {name: theirs.load(name) for name in theirs.names})
    other.annotator = "Bob"
    other.set_blind(True)
    (shared,) = other.atoms.table("a.tif")["atom_id"]
    other.atoms.move("a.tif", {shared: Mark(14.0, 15.0)})
    other.annotator = "Cleo"
    assert other.blind and len(other.atoms.table("a.tif")) == 0
    first, second = (other.atoms.add("a.tif", [Mark(y, 7.0)])[0] for y in (20.0, 30.0))
    theirs.atoms.mark_as_viewed(["c.tif"], "Cleo")
    (mine,) = state.atoms.add("a.tif", [Mark(40.0, 41.0)])

    with pytest.raises(AtomicityError, match="blind"):
        state.merge(copy)
    state.set_blind(False)
    report = state.merge(copy)
    assert (report.n_new, report.n_marks, report.n_marks_lost) == (0, 3, 0)
    assert report.annotators == ("Bob", "Cleo")
    # The atom that both knew has moved; those that got the same number on both sides are two.
    assert mine in (first, second)
    expected = [
        ["a.tif", "Bob", 14.0], ["a.tif", "Bob", 40.0], ["a.tif", "Cleo", 20.0],
        ["a.tif", "Cleo", 30.0],
    ]  # fmt: skip
    assert marked_blind(state) == expected
    _, looked = state.project.atoms.annotations()
    assert ["c.tif", "Cleo"] in looked.to_numpy().tolist()
    assert ids(state) == [1, 2, 3], "they do not count among the open ones"

    log = state.project.atoms.marks()
    assert state.merge(copy).n_marks == 0
    pd.testing.assert_frame_equal(state.project.atoms.marks(), log)

    other.atoms.remove([("a.tif", second)])
    state.annotator = "Cleo"
    state.set_blind(True)
    state.atoms.add("a.tif", [Mark(50.0, 51.0)])
    state.set_blind(False)
    report = state.merge(copy)
    assert report.n_marks == 0 and list(report.added) == ["a.tif"], "a mark was withdrawn"
    assert marked_blind(state) == [*expected[:3], ["a.tif", "Cleo", 50.0]]
    other.close_project()


def test_a_merge_counts_the_marks_that_hold(state, tmp_path):
    """Not the entries of the log, in which a mark that was moved twice has three."""
    other = Project(tmp_path / "other.atomicity")
    for seed, name in ((0, "a.tif"), (9, "elsewhere.tif"), (8, "removed.tif")):
        other.add(load(write_image(tmp_path / name, seed)))
        for marks in ({1: 1.0}, {1: 2.0, 2: 5.0, 3: 6.0}, {1: 3.0, 2: 5.0}, {1: 4.0, 2: 5.0}):
            there = {i: Mark(y, 3.0) for i, y in marks.items()} | {4: Mark(9.0, 9.0, False)}
            other.atoms.set_annotation(name, "Cleo", there)
    other.image_files.remove(["removed.tif"])
    other.close()
    state.project.image_files.update_metadata(load(state.micrograph("a.tif").path))
    report = state.merge(tmp_path / "other.atomicity")
    assert (report.n_marks, report.n_marks_lost) == (2, 2)
    assert marked_blind(state) == [["a.tif", "Cleo", 4.0], ["a.tif", "Cleo", 5.0]]


def test_a_review_whose_marks_were_removed_here_does_not_come_back_as_no_atoms(state, tmp_path):
    with Project(tmp_path / "other.atomicity") as other:
        for seed, name in ((0, "a.tif"), (1, "b.tif")):
            other.add(load(write_image(tmp_path / name, seed)))
            state.project.image_files.update_metadata(load(state.micrograph(name).path))
        other.atoms.set_annotation("a.tif", "Cleo", {1: Mark(1.0, 3.0), 2: Mark(5.0, 3.0)})
        other.atoms.mark_as_viewed(["a.tif", "b.tif"], "Cleo")
    for _ in range(2):
        state.merge(tmp_path / "other.atomicity")
        remove_annotator(state, "Cleo")
    state.merge(tmp_path / "other.atomicity")
    assert marked_blind(state) == []
    assert state.project.atoms.images_viewed_by("Cleo") == {"b.tif"}  # in which there are none


def test_a_withdrawal_of_a_review_that_was_undone_is_none_after_a_merge(
    state, tmp_path, monkeypatch
):
    project, copy = state.project, tmp_path / "copy.atomicity"
    project.image_files.update_metadata(load(state.micrograph("c.tif").path))
    state.current, state.annotator = "c.tif", "Cleo"
    state.set_blind(True)
    for hour, replay in enumerate(
        (lambda: set_reviewed(state, True), lambda: set_reviewed(state, False), state.history.undo),
        start=10,
    ):
        moment = f"2026-05-01T{hour}"
        monkeypatch.setattr("napari_atomicity.project.atoms.now", lambda moment=moment: moment)
        replay()
        if hour == 10:
            project.copy(copy)
    state.set_blind(False)
    state.merge(copy)
    assert project.atoms.images_viewed_by("Cleo") == {"c.tif"}


def test_of_a_review_and_its_withdrawal_the_later_one_holds_after_a_merge(
    state, tmp_path, monkeypatch
):
    project, copy = state.project, tmp_path / "copy.atomicity"
    project.image_files.update_metadata(load(state.micrograph("c.tif").path))

    def viewed(where: Project, hour: int, *, is_viewed: bool) -> None:
        monkeypatch.setattr("napari_atomicity.project.atoms.now", lambda: f"2026-05-01T{hour}")
        where.atoms.mark_as_viewed(["c.tif"], "Cleo", is_viewed)

    viewed(project, 10, is_viewed=True)
    project.copy(copy)
    viewed(project, 11, is_viewed=False)
    state.merge(copy)
    assert not project.atoms.images_viewed_by("Cleo")
    with Project(copy) as theirs:
        viewed(theirs, 12, is_viewed=False)
        viewed(theirs, 13, is_viewed=True)
    state.merge(copy)
    assert project.atoms.images_viewed_by("Cleo") == {"c.tif"}
    with Project(copy) as theirs:
        viewed(theirs, 23, is_viewed=False)
    for _ in range(2):
        state.merge(copy)
        assert not project.atoms.images_viewed_by("Cleo")
        state.history.undo()
        assert project.atoms.images_viewed_by("Cleo") == {"c.tif"}
    state.history.redo()
    assert not project.atoms.images_viewed_by("Cleo")
    assert marked_blind(state) == []


def test_nobody_sees_the_atoms_of_others_while_blind_mode_begins(state):
    state.annotator = "Bob"
    seen = []
    state.project_changed.connect(lambda: seen.append(len(state.atoms.table())))
    state.set_blind(True)
    assert seen == [0]


def test_an_image_that_is_removed_while_blind_does_not_come_back(state):
    state.set_blind(True)
    state.remove_image("a.tif")
    state.set_blind(False)
    assert state.atoms.images == [] and state.analysis("a.tif") is None
