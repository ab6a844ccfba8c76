"""The dock Validate, as a person uses it: choose, press, watch, stop, continue, read the scores."""

from __future__ import annotations

import json
import threading

import pytest
from bar import click_cancel
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QMessageBox

from napari_atomicity.core.progress import check
from napari_atomicity.gui.docks.validate.dock import Validate, suggested_folder
from napari_atomicity.gui.docks.validate.results import summarise_result
from napari_atomicity.gui.viewer.projects import closing_question
from napari_atomicity.state.window_state import TaskState
from napari_atomicity.validation.methods import METHODS
from napari_atomicity.validation.request import QUICK, ExistingResultsError, ValidationRequest
from support import write_size_selected

LEFT = Qt.MouseButton.LeftButton
ENGINE = "napari_atomicity.validation.run.validate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, library):
    data = tmp_path_factory.mktemp("selected") / "data"
    data.mkdir()
    return write_size_selected(data, library, images=4)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home folder, for the results of simulated data."""
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def dock(viewer):
    widget = Validate(viewer)
    viewer.window.add_dock_widget(widget, name="Validate", add_vertical_stretch=False)
    return widget


def score(mean, sd=None):
    return {"mean": mean, "sd": sd, "low": None, "high": None}


def made_up_result():
    """Scores of three methods, of which one is for shifted images only."""

    def groups(**means):
        return {
            name.replace("_", "-"): {"accuracy": score(a, 0.01), "ratio_r2": score(r)}
            for name, (a, r) in means.items()
        }

    of_methods = {
        "Low": groups(size_selected=(0.4, None), shifted=(0.3, -1.5)),
        "High": groups(size_selected=(0.9, None), shifted=(0.8, 0.7)),
        "Adapted": groups(shifted=(0.95, 0.9)),
    }
    return {
        "folds": 3,
        "seeds": [0, 1],
        "groups": {"size-selected": {"images": 8}, "shifted": {"images": 4}},
        "left_out": ["The shipped model has other classes and is left out."],
        "methods": {k: {"title": k, "groups": v} for k, v in of_methods.items()},
        "seconds": {"total": 75.0},
    }


@pytest.fixture
def engine(monkeypatch):
    """Requests to the engine, which finds made-up scores at once."""
    asked = []

    def validate(request, out, *, overwrite, progress, stop):
        asked.append((request, out, overwrite))
        if (out / "other").exists() and not overwrite:
            raise ExistingResultsError(out)
        out.mkdir(exist_ok=True)
        (out / "validation.json").write_text(json.dumps(made_up_result()))
        return made_up_result()

    monkeypatch.setattr(ENGINE, validate)
    return asked


def made_up_curve():
    """A learning curve of one method with two numbers of images."""

    def point(n, mean):
        groups = {"size-selected": {"accuracy": score(mean, 0.02), "ratio_r2": score(None)}}
        return {"images_per_class": n, "repeats": 2, "not_possible": None, "groups": groups}

    methods = {
        "dual": {"title": "Dual", "points": [point(1, 0.7), point(4, 0.93)]},
        "shipped": {"title": "Shipped", "points": [point(0, 0.97)]},
    }
    return {
        "sentences": ["With 4 images per class, 0.93 ± 0.02."],
        "left_out": ["8 images per class are not possible."],
        "groups": {"size-selected": {"images": 8}},
        "methods": methods,
    }


@pytest.fixture
def curve_engine(monkeypatch):
    """Requests to the engine of the learning curve, which finds made-up scores at once."""
    asked = []

    def measure(request, out, *, overwrite, progress, stop):
        asked.append((request, out, overwrite))
        out.mkdir(parents=True, exist_ok=True)
        (out / "learning_curve.json").write_text(json.dumps(made_up_curve()))
        return made_up_curve()

    monkeypatch.setattr(
        "napari_atomicity.validation.learning_curve.run.measure_learning_curve", measure
    )
    return asked


def drop(field, path) -> None:
    """Drop a file or folder from another program on a field."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    common = (Qt.DropAction.CopyAction, mime, LEFT, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPoint(3, 3), *common)
    field.dragEnterEvent(enter)
    assert enter.isAccepted()
    field.dropEvent(QDropEvent(QPointF(3, 3), *common))


def choose_data(dock, folder, qtbot) -> None:
    drop(dock.folder, folder)
    qtbot.waitUntil(dock.button.isEnabled)


def choose_methods(dock, *names) -> None:
    for i in range(dock.methods.count()):
        item = dock.methods.item(i)
        chosen = item.data(Qt.ItemDataRole.UserRole) in names
        item.setCheckState(Qt.CheckState.Checked if chosen else Qt.CheckState.Unchecked)


def press(dock, qtbot, viewer, settle, timeout_ms=30_000) -> None:
    qtbot.mouseClick(dock.button, LEFT)
    settle(viewer, timeout_ms)


def shown(dock) -> list[tuple[str, ...]]:
    return list(dock.panel.scores.lines)


def test_images_are_compared_and_the_scores_are_shown(
    dock, folder, viewer, qtbot, settle, monkeypatch, errors
):
    assert not dock.button.isEnabled() and not dock.panel.isVisibleTo(dock)
    choose_data(dock, folder, qtbot)
    assert dock.folder.found.text() == "Pt19: 4 images, Pt70: 4 images"
    out = folder.with_name("data-validation")
    assert dock.out.text() == str(out)
    choose_methods(dock, "dual-shipped", "dual-shipped-combination")
    messages = []
    dock.state.status_changed.connect(lambda status: messages.append(status.message))
    press(dock, qtbot, viewer, settle, 60_000)
    assert not errors
    result = json.loads((out / "validation.json").read_text())
    assert list(result["methods"]) == ["dual-shipped", "dual-shipped-combination"]
    for line, method in zip(shown(dock), result["methods"].values(), strict=True):
        accuracy = method["groups"]["size-selected"]["accuracy"]["mean"]
        assert line == (method["title"], f"{accuracy:.2f}")
    assert dock.panel.isVisibleTo(dock) and dock.button.text() == "Validate"
    assert any(message.startswith("Run 1 of 1: dual, shipped") for message in messages)
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    qtbot.mouseClick(dock.panel.report_button, LEFT)
    qtbot.mouseClick(dock.panel.folder_button, LEFT)
    assert opened == [str(out / "report.html"), str(out)] and (out / "report.html").is_file()


def test_the_request_has_the_folders_and_settings_of_the_form(
    dock, folder, engine, tmp_path, viewer, qtbot, settle
):
    choose_data(dock, folder, qtbot)
    dock.out.choose(str(tmp_path / "results"))
    press(dock, qtbot, viewer, settle)
    # Defaults are those of the command.
    assert engine[0] == (ValidationRequest(folder), tmp_path / "results", False)
    for field in (dock.mixtures, dock.shifted, dock.deposits):
        drop(field, tmp_path / field.button.accessibleName())
    dock.request_form.controls["folds"].setValue(4)
    choose_methods(dock, "diameter", "mixture")
    press(dock, qtbot, viewer, settle)
    request = engine[1][0]
    assert request.mixtures == tmp_path / "Choose the folder of mixtures"
    assert request.shifted == tmp_path / "Choose the folder of mixtures under new conditions"
    assert request.deposits == tmp_path / "Choose the table of deposits"
    assert (request.folds, request.methods) == (4, ("diameter", "mixture"))
    assert engine[1][1] == tmp_path / "results"  # what was entered stays


def test_a_learning_curve_is_one_click_away(
    dock, folder, engine, curve_engine, tmp_path, viewer, qtbot, settle, monkeypatch, errors
):
    assert dock.curve_button.text() == "Learning curve" and not dock.curve_button.isEnabled()
    choose_data(dock, folder, qtbot)
    dock.out.choose(str(tmp_path))
    messages = []
    dock.state.status_changed.connect(lambda status: messages.append(status.message))
    qtbot.mouseClick(dock.curve_button, LEFT)
    settle(viewer)
    assert curve_engine == [(ValidationRequest(folder), tmp_path / "learning_curve", False)]
    assert not engine and not errors
    assert any("learning curve" in message for message in messages)
    panel = dock.curve_panel
    assert panel.isVisibleTo(dock) and not dock.panel.isVisibleTo(dock)
    assert panel.summary.text() == (
        "With 4 images per class, 0.93 ± 0.02.\n8 images per class are not possible."
    )
    assert list(panel.scores.lines) == [
        ("Dual: 1 image per class", "0.70"),
        ("Dual: 4 images per class", "0.93"),
        ("Shipped: not trained", "0.97"),
    ]
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    qtbot.mouseClick(panel.report_button, LEFT)
    assert opened == [str(tmp_path / "learning_curve" / "report.html")]
    # The comparison of the methods has its own results in the same folder.
    press(dock, qtbot, viewer, settle)
    assert len(engine) == 1 and dock.panel.isVisibleTo(dock) and panel.isVisibleTo(dock)


def test_a_learning_curve_that_was_stopped_can_be_continued(dock, tmp_path, qtbot):
    runs = tmp_path / "learning_curve" / "runs"
    runs.mkdir(parents=True)
    (runs / "dual-patch-1-images-seed0.json").write_text("{}")
    dock.out.choose(str(tmp_path))
    qtbot.waitUntil(lambda: dock.curve_button.text() == "Continue learning curve")
    assert dock.note.text().startswith("Stopped: 1 run finished")
    assert dock.button.text() == "Validate"


def test_data_are_simulated_without_folders(dock, engine, home, monkeypatch, viewer, qtbot, settle):
    simulated = []
    monkeypatch.setattr(
        "napari_atomicity.validation.simulated.simulate_data",
        lambda folder, settings, *others: simulated.append((folder, settings)),
    )
    qtbot.mouseClick(dock.simulate, LEFT, pos=QPoint(8, dock.simulate.height() // 2))
    assert dock.button.isEnabled() and not dock.mixtures.isVisibleTo(dock)
    assert dock.out.isVisibleTo(dock) and dock.out.path == home / "simulated-validation"
    assert dock.request_form.form.isRowVisible(dock.request_form.controls["folds"])
    dock.quick.setChecked(True)
    # A quick test has its own number of parts: that of the form would mislead.
    assert not dock.request_form.form.isRowVisible(dock.request_form.controls["folds"])
    press(dock, qtbot, viewer, settle)
    ((data, settings),) = simulated
    assert data == home / "simulated-validation" / "data" and settings.folds == QUICK["folds"]
    request = engine[0][0]
    assert {name: getattr(request, name) for name in QUICK} == QUICK
    assert (request.data, request.mixtures) == (data / "size-selected", data / "mixtures")
    dock.simulate.setChecked(False)
    assert dock.mixtures.isVisibleTo(dock) and dock.out.text() == ""


def test_a_validation_that_is_cancelled_can_be_continued(
    dock, folder, tmp_path, viewer, qtbot, settle, monkeypatch, errors
):
    out = tmp_path / "results"

    def interrupted(request, folder, *, overwrite, progress, stop):
        (folder / "runs").mkdir(parents=True)
        (folder / "runs" / "key.json").write_text("{}")
        (folder / "runs" / "first.json").write_text("{}")
        progress(3, 40, "Run 2 of 6, 4 min left: dual")
        while True:
            check(stop)
            threading.Event().wait(0.01)

    monkeypatch.setattr(ENGINE, interrupted)
    choose_data(dock, folder, qtbot)
    dock.out.choose(str(out))
    qtbot.mouseClick(dock.button, LEFT)
    qtbot.waitUntil(lambda: dock.state.status.message.startswith("Run 2 of 6, 4 min left"))
    assert not dock.button.isEnabled()
    assert closing_question(dock.state).startswith("Validating is not finished.")
    click_cancel(viewer)
    settle(viewer)
    assert dock.state.status.state is TaskState.STOPPED and not errors
    qtbot.waitUntil(lambda: dock.button.text() == "Continue" and dock.button.isEnabled())
    assert dock.note.text().startswith("Stopped: 1 run finished") and dock.note.isVisibleTo(dock)
    dock.out.choose(str(tmp_path / "others"))
    assert dock.button.text() == "Validate" and not dock.note.isVisibleTo(dock)


@pytest.mark.parametrize("answer", ["No", "Yes"])
def test_other_results_are_replaced_only_if_wanted(
    dock, folder, engine, tmp_path, viewer, qtbot, settle, monkeypatch, errors, answer
):
    asked = []
    buttons = QMessageBox.StandardButton
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: asked.append(a[2]) or getattr(buttons, answer)
    )
    (tmp_path / "results" / "other").mkdir(parents=True)
    choose_data(dock, folder, qtbot)
    dock.out.choose(str(tmp_path / "results"))
    press(dock, qtbot, viewer, settle)
    assert len(asked) == 1 and "results of other settings or data" in asked[0] and not errors
    assert [overwrite for *_, overwrite in engine] == [False, True][: 1 + (answer == "Yes")]
    assert dock.panel.isVisibleTo(dock) == (answer == "Yes")


def test_results_of_an_earlier_day_are_shown_and_sorted(dock, tmp_path, viewer, qtbot, settle):
    (tmp_path / "validation.json").write_text(json.dumps(made_up_result()))
    dock.out.choose(str(tmp_path))
    qtbot.waitUntil(lambda: dock.panel.isVisibleTo(dock))
    assert shown(dock) == [
        ("Low", "0.40", "0.30", "-1.50"),
        ("High", "0.90", "0.80", "0.70"),
        ("Adapted", "–", "0.95", "0.90"),
    ]
    assert dock.panel.summary.text() == (
        "3 methods on 12 images, 3 parts, 2 seeds: 75 s of computation. The shipped model has "
        "other classes and is left out."
    )
    of_quick = summarise_result({**made_up_result(), "quick": True})
    assert "quick test" in of_quick and "12 images" in of_quick
    assert "few parts, seeds and epochs" in of_quick and "few small images" not in of_quick
    header = dock.panel.table.horizontalHeader()
    dock.panel.table.selectRow(1)

    def click(column: int) -> list[str]:
        place = header.sectionViewportPosition(column) + header.sectionSize(column) // 2
        qtbot.mouseClick(header.viewport(), LEFT, pos=QPoint(place, header.height() // 2))
        return [line[0] for line in shown(dock)]

    orders = [click(1), click(1)]
    assert sorted(orders) == [["High", "Low", "Adapted"], ["Low", "High", "Adapted"]]
    names = [click(0), click(0)]
    assert sorted(names) == [["Adapted", "High", "Low"], ["Low", "High", "Adapted"]]
    index = dock.panel.scores.index([line[0] for line in shown(dock)].index("High"), 2)
    assert index.data(Qt.ItemDataRole.ToolTipRole) == "0.80 ± 0.01"
    assert {i.row() for i in dock.panel.table.selectedIndexes()} == {index.row()}, "stays selected"


def test_wrong_entries_are_refused(dock, folder, tmp_path, viewer, qtbot, settle, errors):
    choose_data(dock, folder, qtbot)
    dock.out.choose("")
    press(dock, qtbot, viewer, settle)
    assert "the results need a folder" in errors[-1]
    dock.out.choose(str(tmp_path / "results"))
    choose_methods(dock)
    press(dock, qtbot, viewer, settle)
    assert "no method is chosen" in errors[-1]
    choose_methods(dock, *METHODS)
    dock.mixtures.choose(str(tmp_path / "missing"))
    press(dock, qtbot, viewer, settle)
    assert "missing: there is no such file or folder" in errors[-1]
    dock.mixtures.choose("")
    dock.request_form.controls["folds"].setValue(5)  # of 4 images
    press(dock, qtbot, viewer, settle)
    assert "in 5 parts needs 5" in errors[-1]
    assert dock.note.isVisible() and "in 5 parts needs 5" in dock.note.text()
    assert not (tmp_path / "results").exists()  # wrong usage writes nothing
    assert dock.button.text() == "Validate" and dock.button.isEnabled()


def test_results_are_suggested_beside_the_data(tmp_path, home):
    assert suggested_folder(tmp_path / "a", False) == str(tmp_path / "a-validation")
    assert suggested_folder(None, False) == ""
    assert suggested_folder(None, True) == str(home / "simulated-validation")
