"""Samples in Browse: grouped, joined, renamed and taken back with the mouse, undone, stored."""
# ruff: noqa: F401, F811  (fixtures of test_browse)

from __future__ import annotations

import pytest
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog
from test_browse import click_row, morning, opened
from test_sessions import CONTROL, answer, choose, click, menus_closed, open_menu, row_sessions
from waiting import updated

from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.project import Project
from napari_atomicity.state.export import snapshot


def open_sample_menu(dock, row: int):
    """Open the submenu of samples of the menu on a row, as a person does."""
    menu = open_menu(dock, row=row)
    choose(menu, menu.sample_menu.menuAction())
    for _ in range(100):  # Qt waits a little
        if menu.sample_menu.isVisible():
            break
        QTest.qWait(20)
    assert menu.sample_menu.isVisible()
    return menu.sample_menu


def samples_of(dock) -> dict[str, tuple[str, ...]]:
    return {sample.name: sample.images for sample in dock.state.sessions.samples()}


@pytest.fixture
def two_chosen(opened, viewer, settle):
    click_row(opened, 0)
    click(opened, 1, CONTROL)
    settle(viewer)
    updated(opened)
    return opened


def test_a_folder_is_a_sample_that_is_not_shown(opened):
    assert samples_of(opened) == {"morning": tuple(opened.state.images)}
    assert set(row_sessions(opened).values()) == {"session morning"}
    menu = open_sample_menu(opened, 0)
    assert not menu.join_menu.isEnabled() and not menu.derive_action.isEnabled()


def test_images_are_grouped_joined_renamed_and_taken_back_each_in_one_step(
    two_chosen, viewer, monkeypatch
):
    dock, state = two_chosen, two_chosen.state
    rest = tuple(image for image in state.images if image not in ("a.tif", "b.tif"))
    asked = answer(monkeypatch, "spent")
    menu = open_sample_menu(dock, 1)
    choose(menu, menu.group_action)
    assert asked == [("Sample", "Name of the sample", "morning (2)")]
    assert samples_of(dock) == {"spent": ("a.tif", "b.tif"), "morning": rest}
    rows = row_sessions(dock)
    assert rows["a.tif"] == rows["b.tif"] == "sample spent, session morning"
    assert rows["c.tif"] == "session morning"  # that of its folder
    assert [sample.name for sample in state.sessions.samples(["c.tif"])] == ["morning"]
    # Joined, on a row that was not selected.
    menu = open_sample_menu(dock, state.images.index("c.tif"))
    join = {action.text(): action for action in menu.join_menu.actions()}
    choose(menu, menu.join_menu.menuAction())
    choose(menu.join_menu, join["spent"])
    assert samples_of(dock)["spent"] == ("a.tif", "b.tif", "c.tif")
    # Renamed: all images of the sample.
    asked = answer(monkeypatch, "after 8 h")
    menu = open_sample_menu(dock, 0)
    choose(menu, menu.rename_action)
    assert asked == [("Rename the sample", "Name of the sample", "spent")]
    assert samples_of(dock)["after 8 h"] == ("a.tif", "b.tif", "c.tif")
    menu = open_sample_menu(dock, 0)
    choose(menu, menu.derive_action)
    assert "a.tif" in samples_of(dock)["morning"]
    assert row_sessions(dock)["a.tif"] == "session morning"
    # Each was one step.
    undo, redo = binding_of(viewer).edits.undo, binding_of(viewer).edits.redo
    undo()
    assert samples_of(dock)["after 8 h"] == ("a.tif", "b.tif", "c.tif")
    undo()
    assert samples_of(dock)["spent"] == ("a.tif", "b.tif", "c.tif")
    undo()
    assert samples_of(dock)["spent"] == ("a.tif", "b.tif")
    undo()
    assert samples_of(dock) == {"morning": tuple(state.images)}
    assert state.project.image_files.session_entries() == {}
    redo()
    assert samples_of(dock)["spent"] == ("a.tif", "b.tif")


def test_samples_of_a_table_with_numbers_are_read_stored_and_undone(
    opened, viewer, tmp_path, monkeypatch
):
    state, path = opened.state, opened.state.project.path
    table = tmp_path / "samples.csv"
    rows = "a.tif,fresh,0,x\n[bc].tif,new,-1,y\nd*,new,-1,z"
    table.write_text(f"image,sample,time_h,note\n{rows}\n")
    warned = []
    monkeypatch.setattr("napari_atomicity.gui.docks.browse.image_menu.show_warning", warned.append)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(table), ""))
    menu = open_sample_menu(opened, 0)
    choose(menu, menu.table_action)
    assert "samples of 3 images" in warned[0] and "1 row: d*." in warned[0]
    numbers = {s.name: dict(s.numbers) for s in state.sessions.samples()}
    assert numbers == {"new": {"time_h": -1}, "fresh": {"time_h": 0}, "morning": {}}
    assert list(numbers) == ["new", "fresh", "morning"]  # along the time, then the others
    assert samples_of(opened)["new"] == ("b.tif", "c.tif")
    with Project(path, read_only=True) as project:
        assert project.image_files.session_entries()["b.tif"].sample_numbers == {"time_h": -1}
    # An image that joins a sample has its numbers.
    state.sessions.group_sample(["a.tif"], "new")
    assert state.sessions.sample_of("a.tif").numbers == {"time_h": -1}
    undo = binding_of(viewer).edits.undo
    undo()
    # One that is taken out of it has none, but a sample that is renamed keeps its numbers.
    state.sessions.group_sample(["b.tif"], "other")
    assert state.sessions.sample_of("b.tif").numbers == {}
    undo()
    state.sessions.group_sample(["b.tif", "c.tif"], "other")
    assert state.sessions.sample_of("b.tif").numbers == {"time_h": -1}
    undo()
    undo()
    assert samples_of(opened) == {"morning": tuple(state.images)}
    assert state.project.image_files.session_entries() == {}


def test_a_table_of_other_images_changes_nothing_and_says_so(opened, tmp_path, monkeypatch):
    table = tmp_path / "samples.csv"
    shown = []
    monkeypatch.setattr("napari_atomicity.gui.controls.questions.show_error", shown.append)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(table), ""))
    for text, what in (("image,sample\nz*,x\n", "none of the images"), ("image\nz", "sample")):
        table.write_text(text)
        menu = open_sample_menu(opened, 0)
        choose(menu, menu.table_action)
        assert what in shown[-1]
    assert list(samples_of(opened)) == ["morning"] and len(shown) == 2


def test_the_project_stores_samples_and_they_change_no_session(two_chosen, viewer, settle):
    state = two_chosen.state
    sessions, path = state.sessions.groups(), state.project.path
    state.sessions.group_sample(["b.tif"], "spent")
    assert state.sessions.groups() == sessions
    settle(viewer)
    assert not two_chosen.session_labels.running
    with Project(path, read_only=True) as project:
        entries = project.image_files.session_entries()
    assert {image: entry.sample for image, entry in entries.items()} == {"b.tif": "spent"}


def test_a_cancelled_or_empty_name_changes_nothing(two_chosen, monkeypatch):
    for text, wanted in (("spent", False), ("  ", True)):
        answer(monkeypatch, text, wanted)
        menu = open_sample_menu(two_chosen, 1)
        choose(menu, menu.group_action)
        assert list(samples_of(two_chosen)) == ["morning"]


def test_an_image_joins_the_folder_of_others_without_a_name_in_the_list(opened):
    sessions = opened.state.sessions
    sessions.group_sample(["b.tif"], "spent")
    sessions.group_sample(["b.tif"], "morning")
    assert samples_of(opened) == {"morning": tuple(opened.state.images)}
    assert set(row_sessions(opened).values()) == {"session morning"}


def test_an_entry_counts_for_its_image_only(opened):
    """Names of images are no patterns here."""
    opened.state.sessions.group_sample(["a.tif"], "spent")
    assert samples_of(opened)["spent"] == ("a.tif",)


def test_blind_and_read_only_windows_change_no_samples(opened, viewer, settle):
    state = opened.state
    state.sessions.group_sample(["a.tif"], "Pt55 only")
    state.set_blind(True)
    assert row_sessions(opened)["a.tif"] == "session morning"
    assert snapshot(state).samples == ()
    opened.image_menu.update_actions()
    assert not opened.image_menu.sample_menu.menuAction().isEnabled()
    state.set_blind(False)
    assert row_sessions(opened)["a.tif"] == "sample Pt55 only, session morning"
    path = state.project.path
    opened.projects.leave(stops_work=True)
    project = Project(path, read_only=True)
    state.open_project(project, project.load_all())
    settle(viewer)
    updated(opened)
    assert row_sessions(opened)["a.tif"] == "sample Pt55 only, session morning"
    click_row(opened, 0)
    menu = opened.image_menu.sample_menu
    menu.update_actions()
    assert not any(a.isEnabled() for a in menu.actions())
