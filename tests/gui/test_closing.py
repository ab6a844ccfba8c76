"""A person closes the window: while images are analysed, and with edits that are not stored."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from napari._app_model import get_app_model
from napari._qt.dialogs.confirm_close_dialog import ConfirmCloseDialog
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget
from synthetic import made_up
from test_browse import write

from napari_atomicity.atoms.marks import Mark
from napari_atomicity.gui import tasks
from napari_atomicity.gui.controls.questions import CloseFilter
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.live.dock import Live
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.projects import Projects
from napari_atomicity.project import Project
from napari_atomicity.state.window_state import WindowState

SCRIPT = Path(__file__).with_name("closed.py")
BUTTONS = QMessageBox.StandardButton
SQUARE = np.array([[10, 10], [10, 60], [60, 60], [60, 10]], float)
MANUAL_EDITS = {
    "label": lambda state, image: state.clusters.relabel([(image, 2)], "Pt41"),
    "remove": lambda state, image: state.clusters.remove_ids(image, [3]),
    "add": lambda state, image: state.clusters.add(image, *_measured(state, image)),
    "exclude": lambda state, image: state.clusters.set_regions(image, [SQUARE]),
    "mark": lambda state, image: state.atoms.add(image, [Mark(12.0, 13.0)]),
    "session": lambda state, image: state.sessions.group([image], "Monday"),
}


def _measured(state, image):
    analysis = state.analysis(image)
    return analysis.table.iloc[:1], analysis.outlines[:1]


@pytest.fixture
def analysed(viewer, tmp_path):
    """Projects of a window with an analysed image that is in no project."""
    write(tmp_path / "a.tif")
    viewer.open(str(tmp_path / "a.tif"), plugin="napari-atomicity")
    binding = binding_of(viewer)
    image = binding.canvas.ensure_image(viewer.layers[0])
    binding.state.clusters.set_analysis(made_up(6, image))
    return binding.projects, image


@pytest.fixture
def answer(monkeypatch):
    """Answers of a person; the returned list has the questions."""
    asked = []

    def answer(*answers):
        left = iter(answers)

        def question(parent, title, text, buttons, default):
            asked.append((text, buttons))
            return next(left)

        monkeypatch.setattr(QMessageBox, "question", question)
        return asked

    monkeypatch.setattr(ConfirmCloseDialog, "exec_", lambda self: asked.append("napari"))
    return answer


def quit_by_key():
    get_app_model().commands.execute_command("napari.window.file.quit_dialog").result()


@pytest.mark.parametrize("edit", MANUAL_EDITS)
def test_quitting_with_manual_edits_outside_a_project_asks_one_question(
    analysed, answer, viewer, settle, edit
):
    projects, image = analysed
    asked = answer(BUTTONS.Cancel)
    assert projects.closing_question() == ""
    MANUAL_EDITS[edit](projects.state, image)
    quit_by_key()
    ((text, buttons),) = asked  # and no question of napari
    assert f"changes of {image} are in memory only" in text and "Save them as a project?" in text
    assert buttons == BUTTONS.Save | BUTTONS.Discard | BUTTONS.Cancel
    assert not projects._closed and projects.state.images == [image]
    projects.state.history.undo()
    assert projects.closing_question() == ""
    settle(viewer)


def test_nothing_is_asked_if_only_a_model_has_worked(analysed, answer, settle, viewer):
    projects, image = analysed
    asked, state = answer(), projects.state
    state.clusters.set_analysis(made_up(6, image, seed=1))
    state.clusters.replace_predictions(made_up(6, image, seed=2))
    settle(viewer)
    assert len(state.history) == 3 and projects.may_close()
    quit_by_key()
    assert asked == ["napari"]  # its usual question, which is answered by Cancel
    settle(viewer)


def test_manual_edits_are_saved_beside_the_image_and_asked_for_once(
    analysed, answer, monkeypatch, tmp_path, settle, viewer
):
    projects, image = analysed
    state, offered = projects.state, []
    state.clusters.remove_ids(image, [3])
    state.atoms.add(image, [Mark(12.0, 13.0)])

    def choose(parent, title, path, types):
        offered.append(path)
        return path, ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    asked = answer(BUTTONS.Save)
    assert projects.may_close()
    settle(viewer)
    assert projects.may_close()
    assert len(asked) == 1 and offered == [str(tmp_path / "a.atomicity")]
    state.clusters.relabel([(image, 2)], "Pt41")
    assert projects.closing_question() == ""  # it is in the project
    settle(viewer)
    projects.leave(stops_work=True)
    settle(viewer)
    with Project(tmp_path / "a.atomicity") as project:
        assert project.labels() == {image: {2: "Pt41"}}
        stored = project.load(image)
    assert len(stored.analysis.table) == 5 and len(stored.atoms.marks) == 1


def test_edits_of_an_image_without_a_file_are_saved_as_a_table(
    analysed, answer, monkeypatch, tmp_path, settle, viewer
):
    projects, image = analysed
    state = projects.state
    pasted = made_up(4, "pasted")
    state.add_image(pasted.micrograph)
    state.clusters.set_analysis(pasted)
    for name in (image, "pasted"):
        state.clusters.relabel([(name, 2)], "Pt70")
    files = iter([tmp_path / "kept.atomicity", tmp_path / "kept.csv"])
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(next(files)), ""))
    asked = answer(BUTTONS.Save, BUTTONS.Save)
    assert projects.may_close()
    assert image in asked[0][0] and image not in asked[1][0]
    assert "pasted" in asked[1][0] and "cluster table" in asked[1][0]
    assert "pasted" in (tmp_path / "kept.csv").read_text()
    settle(viewer)


def test_another_project_does_not_drop_edits_of_an_image_without_a_file(
    viewer, answer, monkeypatch, tmp_path, qtbot, settle
):
    folder, other = tmp_path / "monday", tmp_path / "tuesday"
    for path in (folder, other):
        path.mkdir()
        write(path / "a.tif")
    binding = binding_of(viewer)
    projects, state = binding.projects, binding.state
    projects.open(folder)
    settle(viewer)
    first = state.project
    pasted = made_up(4, "pasted")
    state.add_image(pasted.micrograph)
    state.clusters.set_analysis(pasted)
    state.clusters.relabel([("pasted", 2)], "Pt70")
    table = tmp_path / "kept.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(table), ""))
    asked = answer(BUTTONS.Cancel, BUTTONS.Save)
    projects.open(other)
    settle(viewer)
    assert state.project is first and "pasted" in asked[0][0]
    projects.open(other)
    settle(viewer)
    assert state.project.path.parent == other and "pasted" in table.read_text()
    assert len(asked) == 2
    projects.leave(stops_work=True)
    settle(viewer)


def test_a_message_of_a_project_ends_with_it(viewer, tmp_path, settle):
    folder, other = tmp_path / "monday", tmp_path / "tuesday"
    for path in (folder, other):
        path.mkdir()
        write(path / "a.tif")
    binding = binding_of(viewer)
    binding.projects.open(folder)
    settle(viewer)
    binding.canvas.show_message("Ctrl+Z brings them back.")
    binding.projects.open(other)
    settle(viewer)
    assert not binding.state.history and "Ctrl+Z" not in viewer.status
    binding.projects.leave(stops_work=True)
    settle(viewer)


@pytest.mark.parametrize("in_project", [True, False])
def test_another_project_is_not_opened_before_work_may_be_stopped(
    viewer, answer, tmp_path, settle, in_project
):
    write(tmp_path / "a.tif")
    binding = binding_of(viewer)
    projects, state = binding.projects, binding.state
    if in_project:
        projects.open(tmp_path)
        settle(viewer)

    def wait(stop):
        while not stop():
            threading.Event().wait(0.01)

    task = tasks.start(state, wait, message="Training", on_result=lambda _: None, key="train")
    asked = answer(BUTTONS.No, BUTTONS.Yes)
    assert not projects.leave() and not task.cancelled
    assert (state.project is not None) == in_project
    assert "Training is not finished. Closing the project stops it." in asked[0][0]
    assert projects.leave() and state.project is None and task.cancelled
    assert projects.leave()  # what is being stopped is not asked about again
    settle(viewer)


def test_closing_the_project_in_browse_asks_before_anything_is_lost(
    viewer, answer, tmp_path, settle, qtbot
):
    for name in ("monday", "tuesday"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.tif")
    projects, state = binding_of(viewer).projects, binding_of(viewer).state
    projects.open(tmp_path / "monday")
    settle(viewer)
    browse = Browse(viewer)
    qtbot.addWidget(browse)
    pasted = made_up(4, "pasted")
    state.add_image(pasted.micrograph)
    state.clusters.set_analysis(pasted)
    state.clusters.relabel([("pasted", 2)], "Pt70")
    done = threading.Event()
    tasks.start(state, done.wait, message="Training", on_result=lambda _: None, key="train")
    yes, no = BUTTONS.Yes, BUTTONS.No
    asked = answer(no, no, yes, BUTTONS.Cancel, yes, BUTTONS.Discard)
    try:
        projects.open(tmp_path / "tuesday")
        qtbot.waitUntil(lambda: len(asked) == 1)
        for _ in range(3):
            assert state.project.path.parent.name == "monday"
            browse.actions_by_name["close"].trigger()
    finally:
        done.set()
    opening, once, work, edits, again, last = (text for text, _ in asked)
    assert "Training is not finished. Opening another project stops it." in opening
    assert (
        once == work == again and "Training is not finished. Closing the project stops it." in work
    )
    assert edits == last and "Your changes of pasted are in memory only." in edits
    assert state.project is None
    settle(viewer)


def test_the_folder_to_watch_follows_the_project_until_a_person_chooses_one(
    viewer, tmp_path, settle, qtbot
):
    for name in ("monday", "tuesday"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.tif")
    projects, live = binding_of(viewer).projects, Live(viewer)
    qtbot.addWidget(live)
    live.show()
    for name in ("monday", "tuesday"):
        projects.open(tmp_path / name)
        settle(viewer)
        assert live.folder.text() == str(tmp_path / name)
    live.folder.setText(str(tmp_path))
    projects.open(tmp_path / "monday")
    settle(viewer)
    assert live.folder.text() == str(tmp_path)


@pytest.mark.parametrize("question", ["leave", "may_close"])
def test_a_question_about_work_stays_until_it_is_answered(
    viewer, qtbot, settle, tmp_path, question
):
    write(tmp_path / "a.tif")
    projects, state = binding_of(viewer).projects, binding_of(viewer).state
    projects.open(tmp_path)
    settle(viewer)
    end = {name: threading.Event() for name in ("Training", "Validating")}
    for name, event in end.items():
        tasks.start(state, event.wait, 20, message=name, on_result=lambda _: None, key=name)
    asked = []

    def look():
        box = QApplication.activeModalWidget()
        if box is None or box.text() in asked:
            return
        asked.append(box.text())
        if len(asked) <= len(end):
            list(end.values())[len(asked) - 1].set()
        else:
            box.reject()

    looking, giving_up = QTimer(), QTimer()
    looking.timeout.connect(look)
    giving_up.timeout.connect(lambda: QApplication.activeModalWidget().reject())
    looking.start(20)
    giving_up.start(8000)
    assert not getattr(projects, question)() and state.project is not None
    looking.stop()
    giving_up.stop()
    assert ["Training is not finished" in text for text in asked] == [True, False, False]
    assert ["Validating is not finished" in text for text in asked] == [True, True, False]
    assert "All tasks have finished" in asked[2]
    settle(viewer)


def test_a_window_that_may_close_is_closed_without_a_second_question(
    analysed, answer, viewer, settle, monkeypatch
):
    projects, image = analysed
    window = viewer.window._qt_window
    projects.state.clusters.relabel([(image, 2)], "Pt41")
    asked = answer(BUTTONS.Cancel, BUTTONS.Discard)
    settle(viewer)
    closed, close_filter = [], window.findChild(CloseFilter)
    with monkeypatch.context() as patched:
        patched.setattr(close_filter, "_close", lambda **options: closed.append(options))
        window.close(confirm_need=True)
        assert len(asked) == 1 and not closed
        window.close(confirm_need=True)
    assert len(asked) == 2 and closed == [{"quit_app": False, "confirm_need": False}]


def test_the_question_on_closing_has_the_theme_of_the_window(analysed, viewer, monkeypatch):
    projects, image = analysed
    projects.state.clusters.relabel([(image, 2)], "Pt41")
    asked_in = []

    def question(parent, *args):
        asked_in.append(parent is viewer.window._qt_window)
        return BUTTONS.Cancel

    monkeypatch.setattr(QMessageBox, "question", question)
    assert not projects.may_close()
    assert asked_in == [True]


def test_a_program_that_closes_the_window_is_not_asked(analysed, answer, viewer, settle):
    projects, image = analysed
    projects.state.clusters.relabel([(image, 2)], "Pt41")
    asked = answer()
    settle(viewer)
    viewer.close()
    assert not asked


def test_an_image_that_is_read_after_the_window_was_closed_is_not_displayed(
    make_napari_viewer, model, tmp_path, qtbot, settle
):
    write(tmp_path / "a.tif")
    viewer = make_napari_viewer()
    binding = binding_of(viewer)
    binding.projects.open(tmp_path)
    settle(viewer)
    assert viewer.layers[0].name == "a.tif"
    viewer.close()
    binding.state.current = "a.tif"
    binding.current_image.show("a.tif")
    qtbot.waitUntil(lambda: binding.settled, timeout=20_000)
    assert not len(viewer.layers)


@pytest.mark.parametrize("by_key", [False, True])
def test_closing_asks_once_and_leaves_the_project(qapp, tmp_path, by_key):
    """In the middle of an analysis, or with labels that no project can have."""
    if QApplication.platformName() != "xcb":
        pytest.skip("the close button of a window is clicked by X11")
    folder = tmp_path / "morning"
    folder.mkdir()
    for i in range(3):
        write(folder / f"{i}.tif", i)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), str(folder), *["--quit"] * by_key],
        capture_output=True, text=True, timeout=180, check=False,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "NAPARI_CONFIG": ""},
    )  # fmt: skip
    asked = [line for line in done.stdout.splitlines() if line.startswith("asked")]
    assert done.stdout.splitlines()[-1] == "ended", done.stderr
    assert "Error" not in done.stderr
    if by_key:
        assert len(asked) == 1 and "in memory are in memory only" in asked[0]
    else:
        assert len(asked) == 2  # the first one: whether to analyse all again
        assert "Analysing 3 images is not finished. Closing stops it." in asked[1]
        assert "stopped, since the window was closed: Analysing 3 images" in done.stderr
    assert not list(folder.glob("*-wal"))
    with Project(folder / "morning.atomicity") as project:
        assert not project.read_only
        assert project.labels() == {"0.tif": {1: "Pt41"}, "1.tif": {}, "2.tif": {}}
        assert "map" in project.setting("window", {})


def test_a_window_that_the_collector_frees_closes_its_project(qapp, tmp_path):
    state, window = WindowState(), QWidget()
    projects = Projects(state, window)
    state.open_project(Project(tmp_path / "a.atomicity"), {})
    window.itself = window  # a cycle of references, as in the windows of napari
    del window
    gc.collect()
    again = Project(tmp_path / "a.atomicity")
    assert not again.read_only
    again.close()
    assert projects.leave()  # nothing is left to be done
