"""From corrections to a model in one click: kept in the project, brought along, shared."""

from __future__ import annotations

import shutil

import pytest
from mouse import LEFT
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_atomicity import analyse
from napari_atomicity.gui.docks.adapt.dock import AFTER, BEFORE
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.review.dock import Learning
from napari_atomicity.gui.docks.train.dock import Train
from napari_atomicity.gui.panels.dock_windows import show_dock
from napari_atomicity.gui.viewer.models import classifier_of
from napari_atomicity.models.files import read_model, user_folder


@pytest.fixture
def folder(adaptable, tmp_path, monkeypatch, quick_adaptation):
    """A folder with the same image under two names, and a model that can be adapted."""
    model, image = adaptable
    models, where = tmp_path / "models", tmp_path / "morning"
    models.mkdir()
    where.mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(model.with_suffix(suffix), models)
    for name in ("a.tif", "b.tif"):
        shutil.copy(image, where / name)
    monkeypatch.setenv("ATOMICITY_MODELS", str(models))
    return where


@pytest.fixture
def bench(viewer, folder, qtbot, settle):
    """The folder as a project, both images analysed."""
    browse = Browse(viewer)
    viewer.window.add_dock_widget(browse, name="Browse")
    browse.open(str(folder))
    state = browse.state
    qtbot.waitUntil(lambda: state.project is not None, timeout=20_000)
    settle(viewer)
    for name in state.images:
        found = analyse(state.micrograph(name), "tiny", "cpu", umap=False)
        state.clusters.set_analysis(found, undoable=False)
    settle(viewer)
    yield browse
    browse.projects.leave(stops_work=True)


def test_corrections_feed_adapt_in_one_click(bench, viewer, folder, qtbot, settle, monkeypatch):
    # The tiny network has random weights and learns little; what is tested is the way there.
    monkeypatch.setattr(
        "napari_atomicity.pipeline.adaptation.fine_tuning.find_objections", lambda *_: ()
    )
    state = bench.state
    learning = Learning(bench.binding)
    qtbot.addWidget(learning)
    learning.show()
    assert not learning.adapt_button.isEnabled()
    table = state.table()
    keys = list(zip(table["image"], table["cluster_id"].tolist(), strict=True))
    said = dict(zip(keys[:4], table["label_predicted"], strict=False))
    state.clusters.relabel_each(said)
    qtbot.waitUntil(lambda: "4 clusters with a manual label" in learning.words.text())
    adapt = show_dock(viewer, "Adapt")
    adapt.device.setCurrentText("CPU")
    adapt.models.setCurrentText("tiny")
    qtbot.waitUntil(lambda: learning.adapt_button.isEnabled())
    qtbot.mouseClick(learning.adapt_button, LEFT)
    settle(viewer, 60_000)
    qtbot.waitUntil(lambda: adapt.result is not None, timeout=60_000)
    assert adapt.result.found.accepted
    new = adapt.result.found.card.model_id
    assert set(state.table()["model_id"]) == {new}
    # Both images are one step; before and after at one click; labels stay.
    assert state.history[-1].images == ("a.tif", "b.tif")
    qtbot.waitUntil(lambda: adapt.sides[BEFORE].isEnabled() and adapt.sides[AFTER].isChecked())
    state.history.undo()
    assert new not in set(state.table()["model_id"])
    state.history.redo()
    assert state.table()["label_corrected"].tolist()[:4] == list(said.values())

    # The model is named, kept in the project, and comes along with it.
    monkeypatch.setattr(
        "napari_atomicity.gui.docks.adapt.dock.QInputDialog.getText", lambda *a: ("morning-1", True)
    )
    qtbot.waitUntil(adapt.save_button.isEnabled)
    qtbot.mouseClick(adapt.save_button, LEFT)
    settle(viewer, 60_000)
    qtbot.waitUntil(lambda: "morning-1" in state.project.model_files.names(), timeout=20_000)
    shared = folder.parent / "for-a-friend.safetensors"
    monkeypatch.setattr(
        "napari_atomicity.gui.docks.browse.dock.QInputDialog.getItem",
        lambda *a: ("morning-1", True),
    )
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(shared), ""))
    bench.actions_by_name["model"].trigger()
    settle(viewer)
    assert read_model(shared)[0].name == "morning-1"
    path = state.project.path
    bench.projects.leave(stops_work=True)
    settle(viewer)
    for suffix in (".safetensors", ".json"):
        (user_folder() / f"morning-1{suffix}").unlink()
    asked = []
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: asked.append(a) or QMessageBox.StandardButton.Yes
    )
    bench.open(str(path))
    qtbot.waitUntil(lambda: state.project is not None, timeout=20_000)
    settle(viewer)
    qtbot.waitUntil((user_folder() / "morning-1.safetensors").exists, timeout=20_000)
    settle(viewer)
    assert not asked  # it was made here
    assert read_model(user_folder() / "morning-1.safetensors")[0].model_id in set(
        state.table()["model_id"]
    )


def test_an_adapted_model_that_was_not_saved_is_available_after_a_restart(
    bench, viewer, qtbot, settle, monkeypatch
):
    state, asked = bench.state, []
    monkeypatch.setattr(
        "napari_atomicity.pipeline.adaptation.fine_tuning.find_objections", lambda *_: ()
    )
    adapt = show_dock(viewer, "Adapt")
    adapt.device.setCurrentText("CPU")
    adapt.models.setCurrentText("tiny")
    adapt.learn()
    qtbot.waitUntil(lambda: adapt.result is not None, timeout=60_000)
    settle(viewer, 60_000)
    new = adapt.result.found.card.model_id
    assert set(state.table()["model_id"]) == {new}
    path = state.project.path
    bench.projects.leave(stops_work=True)
    settle(viewer)
    monkeypatch.setattr("napari_atomicity.gui.viewer.models._unsaved", {})  # as after a restart
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: asked.append(a) or QMessageBox.StandardButton.No
    )
    bench.open(str(path))
    qtbot.waitUntil(lambda: state.project is not None, timeout=20_000)
    settle(viewer)
    assert not asked
    assert classifier_of(state.analysis("a.tif")).card.model_id == new
    assert bench.models.findData("tiny-adapted-1") >= 0


def test_corrections_feed_train_in_one_click(bench, viewer, qtbot, settle, monkeypatch, errors):
    asked = []
    monkeypatch.setattr(
        "napari_atomicity.training.run.train",
        lambda request, *a, **k: asked.append(request) or (_ for _ in ()).throw(ValueError("no")),
    )
    state = bench.state
    whole = state.table()[~state.table()["touches_border"]].drop_duplicates("image")
    state.clusters.relabel(list(zip(whole["image"], whole["cluster_id"], strict=True)), "Pt19")
    learning = Learning(bench.binding)
    qtbot.addWidget(learning)
    learning.show()
    train = Train(viewer)
    viewer.window.add_dock_widget(train, name="Train (Atomicity)", add_vertical_stretch=False)
    qtbot.waitUntil(lambda: learning.adapt_button.isEnabled())
    assert not learning.train_button.isEnabled()  # one class can't be learnt
    (other,) = whole["cluster_id"].iloc[:1]
    state.clusters.relabel([("a.tif", int(other))], "Pt41")
    qtbot.waitUntil(lambda: learning.train_button.isEnabled())
    qtbot.mouseClick(learning.train_button, LEFT)
    qtbot.waitUntil(lambda: bool(asked), timeout=20_000)
    settle(viewer)
    assert [m.name for m, _ in asked[0].source.images] == ["a.tif", "b.tif"]
