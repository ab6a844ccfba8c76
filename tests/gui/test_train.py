"""The dock Train, as a person uses it: choose, press, watch, stop, continue, use the model."""

from __future__ import annotations

import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bar import click_cancel
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMessageBox
from synthetic import made_up
from waiting import draw_now

from napari_atomicity.core.progress import check
from napari_atomicity.core.tables.cluster_table import corrected
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.train.dock import Train, free_path, summary
from napari_atomicity.gui.panels import forms
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.models.files import read_model, user_folder
from napari_atomicity.state.window_state import TaskState
from support import write_size_selected

HISTORY = [
    {"epoch": 1, "loss": 1.0, "held_out_loss": 0.9, "accuracy": 0.5, "off_by_one": 0.4},
    {"epoch": 2, "loss": 0.6, "held_out_loss": 0.5, "accuracy": 0.8, "off_by_one": 0.2},
    {"epoch": 3, "loss": 0.4, "held_out_loss": 0.7, "accuracy": 0.7, "off_by_one": 0.2},
]


def epochs_drawn(dock):
    """The number of epochs that the learning curve shows."""
    found = re.match(r"epoch (\d+) of", dock.curve.accessibleDescription())
    return int(found[1]) if found else 0


@pytest.fixture(autouse=True)
def own_models(tmp_path, monkeypatch):
    """A folder of models of one's own, and no map, whose compilation takes seconds."""
    monkeypatch.setenv("ATOMICITY_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(
        "napari_atomicity.models.embedding.fit_map", lambda e, seed: e[:, :2].copy()
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, library):
    return write_size_selected(tmp_path_factory.mktemp("size-selected"), library, images=2)


@pytest.fixture
def dock(viewer):
    widget = Train(viewer)
    viewer.window.add_dock_widget(widget, name="Train", add_vertical_stretch=False)
    return widget


def choose_folder(dock, folder, qtbot, monkeypatch) -> None:
    monkeypatch.setattr(
        "napari_atomicity.gui.controls.save_dialogs.QFileDialog.getExistingDirectory",
        lambda *a: str(folder),
    )
    qtbot.mouseClick(dock.folder.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "image" in dock.folder.found.text() and dock.button.isEnabled())


def press(dock, qtbot) -> None:
    qtbot.mouseClick(dock.button, Qt.MouseButton.LeftButton)


def quick(dock) -> None:
    dock.form.controls["epochs"].setValue(2)
    dock.start_from.setCurrentText("scratch")
    dock.form.controls["device"].setCurrentText("CPU")


def test_return_counts_the_images_of_a_folder_again(dock, folder, qtbot, monkeypatch, tmp_path):
    grown = Path(shutil.copytree(folder, tmp_path / "grown"))
    choose_folder(dock, grown, qtbot, monkeypatch)
    assert "Pt19: 2 images" in dock.folder.found.text()
    file = next((grown / "Pt19").iterdir())
    shutil.copy(file, file.with_stem("another"))
    QTest.keyClick(dock.folder, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "Pt19: 3 images" in dock.folder.found.text())
    # Another folder is counted once, not by the key and by the field.
    counted = []
    monkeypatch.setattr(forms.tasks, "start", lambda *a, **b: counted.append(a[2]))
    dock.folder.setText(str(folder))
    QTest.keyClick(dock.folder, Qt.Key.Key_Return)
    assert counted == [str(folder)]


def test_a_folder_becomes_a_model_that_other_docks_can_ask(
    dock, viewer, folder, qtbot, monkeypatch, settle
):
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse", add_vertical_stretch=False)
    assert not dock.button.isEnabled()
    choose_folder(dock, folder, qtbot, monkeypatch)
    assert dock.folder.found.text() == "Pt19: 2 images, Pt70: 2 images"
    quick(dock)
    press(dock, qtbot)
    assert not dock.button.isEnabled()
    settle(viewer, 60_000)
    card, _ = read_model(user_folder() / "trained-1.safetensors")
    assert card.classes == ("Pt19", "Pt70")
    assert epochs_drawn(dock) == 2 and dock.curve.isVisibleTo(dock)
    # One accuracy: that of an analysis. Those under other conditions are in the tooltip.
    assert "clusters of held-out images, with the intensity scale" in dock.result.text()
    assert dock.result.text().lower().count("accuracy") == 1
    assert "If the scale were known" in dock.result.toolTip()
    assert "accuracy" not in dock.curve.accessibleDescription().lower()
    assert f"{card.data['left_out']['border']} border" in dock.result.text()
    assert analyse.models.findData("trained-1") >= 0
    assert analyse.models.model == dock.models.model == "default"  # what was chosen stays
    assert dock.in_use.isVisibleTo(dock)
    dock.models.setCurrentText("trained-1")
    assert analyse.models.model == "trained-1"
    assert dock.start_from.findText("trained-1") >= 0
    assert dock.button.isEnabled() and dock.button.text() == "Train"
    assert dock.out.text() == str(free_path())  # the next training replaces nothing


def test_a_training_that_is_cancelled_can_be_continued(
    dock, viewer, folder, qtbot, monkeypatch, settle
):
    choose_folder(dock, folder, qtbot, monkeypatch)
    quick(dock)
    dock.form.controls["epochs"].setValue(50)
    dock.form.controls["patience"].setValue(0)
    messages = []
    dock.state.status_changed.connect(lambda status: messages.append(status.message))
    press(dock, qtbot)
    qtbot.waitUntil(lambda: epochs_drawn(dock) >= 2, timeout=60_000)
    qtbot.waitUntil(lambda: any(" left" in m for m in messages), timeout=60_000)
    dock.refresh_now()
    assert dock.button.text() == "Train"  # there is nothing to continue yet
    click_cancel(viewer)
    settle(viewer)
    assert dock.state.status.state is TaskState.STOPPED
    assert not free_path().with_name("trained-1.safetensors").exists()
    qtbot.waitUntil(lambda: dock.button.text() == "Continue")
    # The map and the calibration follow.
    assert any(message.endswith(" s of this step left") for message in messages)
    assert not any("accuracy" in message for message in messages)
    done = epochs_drawn(dock)
    seen = []
    dock.learnt.connect(lambda history: seen.append(len(history)))
    # with other settings another training begins, and this one is kept
    for epochs, first in ((40, {1}), (50, {done + 1, done + 2})):
        dock.form.controls["epochs"].setValue(epochs)
        seen.clear()
        press(dock, qtbot)
        qtbot.waitUntil(lambda: len(seen) > 0, timeout=60_000)
        assert seen[0] in first  # an epoch may have ended while it was being stopped
        click_cancel(viewer)
        settle(viewer)


def test_a_folder_without_classes_is_refused(dock, tmp_path, qtbot, errors, settle):
    (tmp_path / "empty").mkdir()
    dock.folder.setText(str(tmp_path / "empty"))
    dock.folder.editingFinished.emit()
    qtbot.waitUntil(lambda: "folder per class is needed" in dock.folder.found.text())
    assert "empty" in errors[-1] and not dock.button.isEnabled()


def test_simulated_classes_are_asked_for_as_they_are_set(
    dock, qtbot, monkeypatch, viewer, settle, errors
):
    asked = []
    monkeypatch.setattr(
        "napari_atomicity.training.run.train",
        lambda request, progress, stop, on_epoch: asked.append(request) or _wait(stop),
    )
    dock.source.setCurrentText("Simulated classes")
    assert dock.button.isEnabled()
    dock.classes.clear()
    assert not dock.button.isEnabled()
    qtbot.keyClicks(dock.classes, "Ag13,Ag55")
    dock.sizes.controls["fields"].setValue(50)
    dock.sizes.controls["isomers"].setValue(12)
    dock.channels.setCurrentText("raw")
    dock.form.controls["scale"].setCurrentText("none, as published")
    press(dock, qtbot)
    qtbot.waitUntil(lambda: bool(asked))
    (request,) = asked
    assert request.source.classes == ("Ag13", "Ag55")
    assert (request.source.fields, request.source.isomers) == (50, 12)
    assert request.channels == ("raw",) and request.start == "default"
    assert request.patches.raw_unit == "patch"
    assert request.out == user_folder() / "trained-1.safetensors"
    click_cancel(viewer)
    settle(viewer)
    assert not errors


def _wait(stop) -> None:
    while True:
        check(stop)
        threading.Event().wait(0.01)


def test_corrected_labels_of_the_session_are_counted_and_given(
    dock, viewer, qtbot, monkeypatch, settle
):
    asked = []
    monkeypatch.setattr(
        "napari_atomicity.training.run.train",
        lambda request, progress, stop, on_epoch: asked.append(request) or _wait(stop),
    )
    state = binding_of(viewer).state
    dock.source.setCurrentText("Corrected labels")
    assert "No cluster has a corrected class" in dock.counted.text()
    assert not dock.button.isEnabled()
    state.clusters.set_analysis(made_up(12, "a"))
    state.clusters.set_analysis(made_up(12, "b", seed=1))
    state.clusters.relabel([("a", 1), ("b", 2)], "Pt19")
    state.clusters.relabel([("a", 3)], "unknown")
    words = "2 corrected clusters in 2 images: 2 Pt19"
    qtbot.waitUntil(lambda: words in dock.counted.text())
    assert not dock.button.isEnabled()  # one class can't be learnt
    state.clusters.relabel([("b", 3)], "Pt30")
    words = "3 corrected clusters in 2 images: 2 Pt19, 1 Pt30"
    qtbot.waitUntil(lambda: words in dock.counted.text() and dock.button.isEnabled())
    table = state.table("a")
    cut = table["cluster_id"] == 5
    table = table.assign(touches_border=cut | table["touches_border"])
    state.clusters.set_analysis(replace(state.analysis("a"), table=table))
    state.clusters.relabel([("a", 5)], "Pt19")
    qtbot.waitUntil(lambda: "1 more at the border" in dock.counted.text())
    assert words in dock.counted.text()
    press(dock, qtbot)
    qtbot.waitUntil(lambda: bool(asked))
    pairs = asked[0].source.images
    assert [m.name for m, _ in pairs] == ["a", "b"]
    assert sum(len(corrected(t)) for _, t in pairs) == 4
    click_cancel(viewer)
    settle(viewer)


@pytest.mark.parametrize(
    ("name", "words"), [("", "needs a file"), ("pt-dual", "name of a shipped model")]
)
def test_a_name_that_cannot_be_is_refused(dock, qtbot, errors, name, words):
    dock.source.setCurrentText("Simulated classes")
    dock.out.setText(name)
    press(dock, qtbot)
    assert words in errors[-1]
    assert dock.state.status.state is not TaskState.RUNNING


def test_a_model_elsewhere_is_not_listed_and_the_dock_says_so(dock, tmp_path):
    assert not dock.note.isVisibleTo(dock)
    for text in ("/", ".", ".."):
        dock.out.setText(text)  # as while a path is typed: not an error
        assert dock.button.text() == "Train"
    dock.out.setText(str(tmp_path / "elsewhere.safetensors"))
    assert dock.note.isVisibleTo(dock) and str(user_folder()) in dock.note.text()


def test_a_model_is_replaced_only_after_a_question(dock, qtbot, monkeypatch, viewer, settle):
    asked, questions = [], []
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(
        "napari_atomicity.training.run.train",
        lambda request, progress, stop, on_epoch: asked.append(request) or _wait(stop),
    )
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: questions.append(a[2]) or answers[len(questions) - 1]
    )
    dock.source.setCurrentText("Simulated classes")
    user_folder().mkdir(parents=True)
    (user_folder() / "trained-1.safetensors").touch()  # as after the last training
    press(dock, qtbot)
    assert "trained-1.safetensors exists already" in questions[0]
    assert dock.state.status.state is not TaskState.RUNNING and dock.button.isEnabled()
    press(dock, qtbot)
    qtbot.waitUntil(lambda: bool(asked))
    assert len(questions) == 2
    click_cancel(viewer)
    settle(viewer)


def test_a_free_name_is_offered(dock):
    user_folder().mkdir(parents=True)
    (user_folder() / "trained-1.safetensors").touch()
    assert free_path().name == "trained-2.safetensors"
    assert free_path(["trained-2"]).name == "trained-3.safetensors"  # of a project


def test_the_summary_warns_of_images_whose_scale_is_not_found(tiny_model):
    card, _ = read_model(tiny_model)
    card = replace(
        card,
        data={"left_out": {"border": 3, "touching": 0}},
        training={"history": HISTORY, "epoch_kept": 2},
        scores={
            "held_out": {
                "accuracy": 0.9,
                "clusters": 40,
                "off_by_one": 0.1,
                "error_atoms": 5.1,
                "recall": {"Pt19": 1.0, "Pt70": 0.8},
            },
            "scale": {"images": 8, "off": 2, "clusters_per_image": 20.0},
        },
    )
    words = summary(card)
    assert "0.900 on 40 clusters" in words and "Pt19 100 %, Pt70 80 %" in words
    assert "3 epochs; kept is number 2" in words
    assert "3 border" in words and "2 of 8" in words


# ---- the curve
@pytest.mark.parametrize("ground", ["#262930", "#f0f0f0"])
def test_the_curve_is_seen_on_dark_and_on_light(dock, ground):
    palette = QPalette()
    palette.setColor(QPalette.ColorRole.Window, QColor(ground))
    ink = "#ffffff" if ground < "#8" else "#000000"
    palette.setColor(QPalette.ColorRole.WindowText, QColor(ink))
    curve = dock.curve
    curve.setPalette(palette)
    curve.resize(300, curve.sizeHint().height())

    def pixels_of(colour: str) -> int:
        image = curve.grab().toImage()
        wanted = np.array(QColor(colour).getRgb()[:3])
        pixels = [
            image.pixelColor(x, y).getRgb()[:3]
            for x in range(image.width())
            for y in range(image.height())
        ]
        return int((np.abs(np.array(pixels) - wanted).max(axis=1) < 40).sum())

    assert pixels_of("#56b4e9") == 0
    dock.learnt.emit(HISTORY)
    draw_now(curve)
    assert pixels_of("#56b4e9") > 100 and pixels_of("#e69f00") > 30
    assert pixels_of(ink) > 30, "axes and text"
    assert curve.accessibleDescription().startswith("epoch 3 of")
    (loss,) = curve.figure.axes
    # Of the second epoch, which has the least held-out loss, the weights are kept.
    assert loss.get_title(loc="left") == "Held out 0.500, training 0.600 (dashed)"
    assert loss.get_xlabel().startswith("Loss at epoch 3 of ")
    assert loss.get_xlabel().endswith("; kept: 2")
    assert [line.get_xdata()[0] for line in loss.lines if line.get_linestyle() == ":"] == [2]
