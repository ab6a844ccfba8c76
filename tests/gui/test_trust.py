"""Projects that are lost while they are open, and projects from other people, in the window."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox
from synthetic import made_up
from test_browse import write
from waiting import updated

from napari_atomicity.core.errors import AtomicityError, ModelError
from napari_atomicity.core.model_card import ModelCard
from napari_atomicity.gui import tasks
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.viewer import models as viewer_models
from napari_atomicity.models.files import available_models, find_model, read_model, save_model
from napari_atomicity.project import Project

TINY = Path(__file__).parents[1] / "compatibility" / "samples" / "models" / "tiny.safetensors"
BUTTONS = QMessageBox.StandardButton


@pytest.fixture
def morning(tmp_path):
    folder = tmp_path / "morning"
    folder.mkdir()
    for i, name in enumerate(("a.tif", "b.tif")):
        write(folder / name, i)
    return folder


@pytest.fixture
def opened(browse, viewer, morning, qtbot, settle):
    browse.open(str(morning))
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    updated(browse)
    return browse


def label_one(state) -> None:
    state.clusters.set_analysis(made_up(6, "a.tif"))
    state.clusters.relabel([("a.tif", 2)], "Pt41")


def test_a_deleted_folder_is_noticed_and_everything_saved_elsewhere(
    opened,
    morning,
    viewer,
    qtbot,
    settle,
    tmp_path,
    monkeypatch,
):
    state = opened.state
    label_one(state)
    assert not opened.actions_by_name["save"].isEnabled()
    shutil.rmtree(morning)
    qtbot.waitUntil(lambda: bool(state.unsaved), timeout=10_000)  # by the timer
    state.clusters.relabel([("a.tif", 3)], "Pt55")
    updated(opened)
    assert opened.notes.text().startswith("NOT SAVED")
    assert opened.actions_by_name["save"].isEnabled()
    kept = tmp_path / "kept.atomicity"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(kept), ""))
    opened.actions_by_name["save"].trigger()
    settle(viewer)
    updated(opened)
    assert "NOT SAVED" not in opened.notes.text()
    assert not opened.actions_by_name["save"].isEnabled()
    state.clusters.relabel([("a.tif", 4)], "Pt19")
    with Project(kept, read_only=True) as saved:
        assert saved.labels()["a.tif"] == {2: "Pt41", 3: "Pt55", 4: "Pt19"}
        assert saved.corrections()["label"].tolist() == ["Pt41", "Pt55", "Pt19"]
        assert {i.name: i.state for i in saved.images()}["b.tif"] == "new"


def test_a_replaced_project_is_not_left_without_a_question(
    opened,
    morning,
    viewer,
    qtbot,
    settle,
    tmp_path,
    monkeypatch,
):
    state = opened.state
    label_one(state)
    with Project(morning / "other.atomicity"):
        pass
    (morning / "other.atomicity").replace(morning / "morning.atomicity")
    kept = tmp_path / "kept.atomicity"
    asked, answers = [], iter([BUTTONS.Cancel, BUTTONS.Save])
    monkeypatch.setattr(QMessageBox, "warning", lambda *a: asked.append(a[2]) or next(answers))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(kept), ""))
    state.saver.check_place()
    assert not opened.projects.may_close()
    assert "replaced" in asked[0]
    assert opened.projects.leave(stops_work=True)
    settle(viewer)
    with Project(kept) as saved, Project(morning / "morning.atomicity") as other:
        assert saved.labels()["a.tif"] == {2: "Pt41"}
        assert other.names == []


def test_what_is_in_memory_is_saved_where_the_lost_file_cant_be_read(
    opened, morning, viewer, settle, tmp_path, monkeypatch
):
    state = opened.state
    label_one(state)
    shutil.rmtree(morning)
    state.clusters.relabel([("a.tif", 3)], "Pt55")

    def copy(self, path):
        raise AtomicityError("disk I/O error", path)

    monkeypatch.setattr(Project, "copy", copy)
    opened.projects.save_as(tmp_path / "kept.atomicity")
    settle(viewer)
    updated(opened)
    assert state.unsaved == ""
    assert "without the earlier log" in opened.notes.text()
    assert state.project.labels()["a.tif"] == {2: "Pt41", 3: "Pt55"}
    assert state.project.corrections()["label"].tolist() == ["Pt41", "Pt55"]


@pytest.fixture
def models(tmp_path, monkeypatch):
    folder = tmp_path / "deep" / "models"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ATOMICITY_MODELS", str(folder))
    return folder


def test_models_of_a_project_are_checked_before_they_are_offered(opened, models):
    project = opened.state.project
    weights, card = TINY.read_bytes(), TINY.with_suffix(".json").read_text()
    for name in ("../escaped", "/abs/path", "..", "a\\b", "good-1", "default", "x" * 300, "a\0b"):
        project.model_files.add(name, weights, card)
    for name, content, text in (
        ("cut", weights[:-9], card),
        ("swapped", weights, card.replace('"sha256": "', '"sha256": "0')),
        ("unhashed", weights, "{}"),
        ("no-card", weights, "not JSON"),
        ("deep", weights, "[" * 100_000),
        ("text", "weights", card),
    ):
        project.model_files.add(name, content, text)
    offered, notes = viewer_models.offered_models(project)
    assert list(offered.others) == ["good-1"] and not offered.own
    assert sorted(note.split()[2] for note in notes) == [
        "cut", "deep", "no-card", "swapped", "text", "unhashed"
    ]  # fmt: skip
    assert all("Ask its author to share it (Browse, ⋯ ▸ Share a model…)" in n for n in notes)
    assert not list(models.parent.parent.rglob("*.safetensors"))


@pytest.mark.parametrize("answer", [BUTTONS.Yes, BUTTONS.No])
def test_models_of_a_project_are_copied_only_if_the_user_agrees(
    opened,
    morning,
    models,
    viewer,
    qtbot,
    settle,
    monkeypatch,
    answer,
):
    path = opened.state.project.path
    viewer_models.add_model(opened.state.project, TINY)
    opened.projects.leave(stops_work=True)
    settle(viewer)
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or answer)
    for _ in range(2):
        opened.open(str(path))
        qtbot.waitUntil(lambda: opened.state.project is not None, timeout=10_000)
        settle(viewer)
        opened.projects.leave(stops_work=True)
        settle(viewer)
    assert len(asked) == 1 and "tiny" in asked[0]
    assert [p.name for p in models.glob("*.safetensors")] == (
        ["tiny.safetensors"] if answer == BUTTONS.Yes else []
    )


def open_again(dock, viewer, qtbot, settle):
    """Close the project and open it again."""
    path = dock.state.project.path
    dock.projects.leave(stops_work=True)
    settle(viewer)
    dock.open(str(path))
    qtbot.waitUntil(lambda: dock.state.project is not None, timeout=10_000)
    settle(viewer)


@pytest.fixture
def asked(monkeypatch):
    """Texts of the questions that were asked, all answered with No."""
    texts = []
    monkeypatch.setattr(QMessageBox, "question", lambda *a: texts.append(a[2]) or BUTTONS.No)
    return texts


def test_a_model_that_was_made_here_is_copied_without_a_question(
    opened, models, viewer, qtbot, settle, asked
):
    opened.projects.models.keep(TINY)  # as Train does
    settle(viewer)
    open_again(opened, viewer, qtbot, settle)
    assert not asked
    assert read_model(models / "tiny.safetensors")[0].name == "tiny"


def test_a_changed_card_of_a_model_that_was_made_here_needs_the_question(
    opened, models, viewer, qtbot, settle, asked
):
    """Weights alone do not say what the classes are called."""
    opened.projects.models.keep(TINY)
    settle(viewer)
    card = TINY.with_suffix(".json").read_text().replace("Pt19", "Au19")
    opened.state.project.model_files.add("tiny", TINY.read_bytes(), card)
    open_again(opened, viewer, qtbot, settle)
    assert len(asked) == 1 and not list(models.iterdir())


@pytest.fixture
def declined(opened, models, viewer, qtbot, settle, asked):
    """A project with a model of somebody else, which the user did not want."""
    viewer_models.add_model(opened.state.project, TINY)
    open_again(opened, viewer, qtbot, settle)
    assert len(asked) == 1 and "Copy the models of this project…" in asked[0]
    return opened


def copy_action(dock):
    """The entry of the menu that copies models, as the menu shows it when it is opened."""
    dock.more_button.menu().aboutToShow.emit()
    return next(a for a in dock.more_button.menu().actions() if a.text().startswith("Copy the mod"))


def test_models_are_copied_by_the_menu_after_a_refusal(
    declined, models, viewer, qtbot, settle, asked, monkeypatch
):
    assert copy_action(declined).isEnabled() and copy_action(declined).toolTip()
    copy_action(declined).trigger()
    settle(viewer)
    assert len(asked) == 2 and not list(models.iterdir())
    monkeypatch.setattr(QMessageBox, "question", lambda *a: BUTTONS.Yes)
    copy_action(declined).trigger()
    settle(viewer)
    assert read_model(models / "tiny.safetensors")[0].name == "tiny"
    assert not copy_action(declined).isEnabled()
    declined.projects.leave(stops_work=True)
    assert not copy_action(declined).isEnabled()


def other_model(folder, name="tiny"):
    """Install a model that has the name of another one, and other weights."""
    card, tensors = read_model(TINY)
    changed = {key: values + 0.5 for key, values in tensors.items()}
    return save_model(folder / f"{name}.safetensors", card, changed)


def test_a_model_of_a_project_is_copied_beside_another_one_of_its_name(
    opened, models, viewer, qtbot, settle, asked, monkeypatch
):
    mine = other_model(models)
    viewer_models.add_model(opened.state.project, TINY)
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or BUTTONS.Yes)
    open_again(opened, viewer, qtbot, settle)
    theirs = read_model(TINY)[0]
    assert len(asked) == 1
    assert {c.model_id for c in available_models(ModelCard).values()} >= {
        mine.model_id, theirs.model_id
    }  # fmt: skip
    assert read_model(models / "tiny.safetensors")[0] == mine
    assert read_model(find_model(theirs.model_id))[0] == theirs
    assert not copy_action(opened).isEnabled()
    open_again(opened, viewer, qtbot, settle)
    assert len(asked) == 1


def choose_own_model(dock, models, viewer, settle):
    """Choose a model that was made here, and save the view; return the control."""
    shutil.copy(TINY, models / "tiny.safetensors")
    shutil.copy(TINY.with_suffix(".json"), models / "tiny.json")
    viewer_models.model_folder.changed.emit()
    combo = dock.models
    combo.setCurrentIndex(combo.findData("tiny"))
    dock.projects.save_view()
    settle(viewer)
    return combo


def test_the_chosen_model_of_a_project_is_the_one_with_its_weights(
    opened, models, viewer, qtbot, settle, asked, monkeypatch
):
    """A colleague opens the project, who has another model of that name and chose that one."""
    combo = choose_own_model(opened, models, viewer, settle)
    viewer_models.add_model(opened.state.project, TINY)
    path = opened.state.project.path
    opened.projects.leave(stops_work=True)
    other_model(models)
    answers = [BUTTONS.No, BUTTONS.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *a: answers.pop(0))
    combo.setCurrentIndex(combo.findData("default"))
    opened.open(str(path))
    qtbot.waitUntil(lambda: opened.state.project is not None, timeout=10_000)
    settle(viewer)
    assert combo.model == "default"
    opened.projects.save_view()  # which does not replace the model of the project
    open_again(opened, viewer, qtbot, settle)
    copy_action(opened).trigger()
    settle(viewer)
    assert combo.model == read_model(TINY)[0].model_id and not answers
    assert read_model(find_model(combo.model))[0] == read_model(TINY)[0]


def test_a_chosen_model_that_is_nowhere_is_said_and_another_choice_is_kept(
    opened, models, viewer, qtbot, settle, monkeypatch
):
    label_one(opened.state)  # a project without edits is in no file
    combo = choose_own_model(opened, models, viewer, settle)
    path = opened.state.project.path
    opened.projects.leave(stops_work=True)
    for file in models.iterdir():
        file.unlink()
    combo.setCurrentIndex(combo.findData("default"))
    warned = []
    monkeypatch.setattr(viewer_models, "show_warning", warned.append)
    opened.open(str(path))
    qtbot.waitUntil(lambda: opened.state.project is not None, timeout=10_000)
    settle(viewer)
    assert len(warned) == 1 and "tiny-" in warned[0] and "models add" in warned[0]
    combo.setCurrentIndex(1)
    chosen = combo.model
    assert chosen != "default"
    open_again(opened, viewer, qtbot, settle)
    assert combo.model == chosen and len(warned) == 1


def test_a_missing_model_that_the_project_contains_is_said_to_be_there(declined):
    model_id = ModelCard.from_json(TINY.with_suffix(".json").read_text()).model_id
    found = made_up(6, "a.tif")
    parameters = {**found.parameters, "model": {"model_id": model_id}}
    lost = replace(found, table=found.table.assign(model_id=model_id), parameters=parameters)
    with pytest.raises(ModelError, match=r"it: copy it \(Browse, ⋯ ▸ Copy the models"):
        viewer_models.classifier_of(lost)
    declined.projects.leave(stops_work=True)
    with pytest.raises(ModelError, match="Ask its author to share it"):
        viewer_models.classifier_of(lost)


def test_an_error_of_a_project_leaves_the_bar_with_it(opened, viewer, settle, errors):
    def fail():
        raise ModelError("the model of this image is not available")

    line = workbench_bar(viewer).task.message
    tasks.start(opened.state, fail, message="Labelling", on_result=lambda _: None, key="label")
    settle(viewer)
    assert line.isVisible() and line.message.startswith("⚠ the model of this image")
    opened.actions_by_name["close"].trigger()
    settle(viewer)
    assert opened.state.project is None and not line.isVisible()


def test_the_question_which_model_to_share_has_room_for_its_title(opened, viewer, settle):
    viewer_models.add_model(opened.state.project, TINY)
    settle(viewer)
    shown = []

    def look():
        dialog = QApplication.activeModalWidget()
        title = dialog.fontMetrics().horizontalAdvance(dialog.windowTitle())
        shown.append((dialog.windowTitle(), dialog.width() - title))
        dialog.reject()

    QTimer.singleShot(200, look)
    opened.actions_by_name["model"].trigger()
    [(title, room)] = shown
    assert title == "Share a model" and room > 150  # for the icon and the buttons of a title bar


def test_the_description_of_a_model_is_no_markup(opened, monkeypatch):
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or BUTTONS.Yes)
    viewer_models.wants_models(opened.state.project, {"tiny": "<h1>Checked</h1>"})
    assert "&lt;h1&gt;" in asked[0] and "<h1>" not in asked[0]


def test_a_project_with_a_trigger_is_refused_with_a_reason(
    browse,
    morning,
    viewer,
    qtbot,
    settle,
    errors,
):
    path = morning / "morning.atomicity"
    Project(path).close()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON marks BEGIN DELETE FROM clusters; END")
    browse.open(str(path))
    qtbot.waitUntil(lambda: bool(errors), timeout=10_000)
    assert "trigger 't'" in errors[0]
    assert browse.state.project is None


def test_a_damaged_image_is_shown_with_the_reason_and_analysed_again(
    browse, morning, viewer, qtbot, settle
):
    browse.open(str(morning))
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    qtbot.mouseClick(browse.analyse_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not browse.batch.running, timeout=30_000)
    browse.state.clusters.relabel([("a.tif", 2)], "Pt41")
    path = browse.state.project.path
    browse.projects.leave(stops_work=True)
    settle(viewer)
    Project(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE images SET parameters = '{' WHERE name = 'a.tif'")
        db.execute("INSERT OR REPLACE INTO settings VALUES ('window', ?)", ('{"view": [5]}',))
    db.close()
    browse.open(str(path))
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    updated(browse)
    rows = {row.name: row for row in browse.model.rows}
    assert (rows["a.tif"].state, rows["b.tif"].state) == ("failed", "analysed")
    assert "damaged" in rows["a.tif"].words and "Analyse the image again" in rows["a.tif"].words
    assert "Damaged in the project file: a.tif" in browse.notes.text()
    assert browse.analyse_button.text() == "Analyse all (1)"
    qtbot.mouseClick(browse.analyse_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not browse.batch.running, timeout=30_000)
    settle(viewer)
    updated(browse)
    assert {row.state for row in browse.model.rows} == {"analysed"}
    assert browse.state.project.labels()["a.tif"] == {2: "Pt41"}
