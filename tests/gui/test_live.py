"""The Live dock: files come, and are seen with what the model says of them."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
from brightness import PIXEL_NM, blobs
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMessageBox
from synthetic import made_up
from waiting import draw_now

from napari_atomicity.core.errors import ReadError
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.live import watching
from napari_atomicity.gui.docks.live.dock import RESULTS, Live
from napari_atomicity.gui.docks.live.watching import MAX_ROWS, MAX_WAITING, LiveHistory
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.models.domain_shift import FeatureSummary
from napari_atomicity.pipeline.live import watch
from napari_atomicity.pipeline.live.control_chart import MIN_FIRST
from napari_atomicity.pipeline.live.watch import Watch
from napari_atomicity.project import Project
from napari_atomicity.state.review_queue import ReviewRequest, build
from napari_atomicity.state.reviewing import Reviewing

LEFT = Qt.MouseButton.LeftButton


def write(path: Path, seed: int = 0) -> Path:
    """As a microscope does: complete in one go, here."""
    pixels = blobs(seed).astype(np.float32)
    size = (1 / PIXEL_NM,) * 2
    tifffile.imwrite(path, pixels, imagej=True, resolution=size, metadata={"unit": "nm"})
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch, model):
    """Files settle at once, and the model is the one without weights."""
    monkeypatch.setattr(watch, "load_classifier", lambda *_: model)
    monkeypatch.setattr(watch, "model_hash", lambda card: "0" * 64)
    made = Watch.__init__

    def init(self, *args, **options):
        made(self, *args, settle_s=0.02, patience_s=0.2, polling=True, poll_s=0.02, **options)

    monkeypatch.setattr(Watch, "__init__", init)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    return folder


@contextmanager
def live_dock(viewer, qtbot, folder, settle):
    """The dock for a folder; what it watches is stopped at the end."""
    dock = Live(viewer)
    qtbot.addWidget(dock)
    dock.resize(400, 1000)
    with qtbot.waitExposed(dock):
        dock.show()
    dock.folder.setText(str(folder))
    yield dock
    if dock.watching is not None:
        dock.watching.stop()
        dock.watching.wait()
    settle(viewer)  # an image may still be on its way to the canvas


def test_results_of_other_images_are_not_replaced(dock, folder, tmp_path, monkeypatch):
    out, said = tmp_path / "out", []
    out.mkdir()
    image = {"image": "a.tif", "path": str(tmp_path / "other" / "a.tif"), "status": "done"}
    record = {"images": [image], "outputs": ["clusters.csv"], "parameters": {}}
    (out / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr("napari_atomicity.gui.docks.live.dock.show_error", said.append)
    dock.results.setText(str(out))
    dock.toggle()
    assert dock.watching is None and "results of other images, such as a.tif" in said[0]


@pytest.fixture
def dock(viewer, qtbot, folder, settle):
    with live_dock(viewer, qtbot, folder, settle) as dock:
        yield dock


def press(dock):
    QTest.mouseClick(dock.button, LEFT)


def stop(dock, qtbot):
    press(dock)
    qtbot.waitUntil(lambda: dock.watching is None, timeout=60_000)


def test_an_image_that_comes_is_seen_with_its_labels(dock, viewer, folder, qtbot, settle):
    state = binding_of(viewer).state
    write(folder / "before.tif")
    press(dock)
    assert dock.button.text() == "Stop watching"
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=20_000)
    qtbot.waitUntil(lambda: state.analysis("before.tif") is not None, timeout=20_000)
    write(folder / "later.tif", seed=1)
    qtbot.waitUntil(lambda: state.analysis("later.tif") is not None, timeout=20_000)
    settle(viewer)
    assert state.current == "later.tif"
    assert len(viewer.layers["later.tif clusters"].data) == 12
    assert "later.tif: 12 clusters" in dock.status_label.text()
    assert state.project.path.parent == folder
    (folder / "copy.tif").write_bytes((folder / "later.tif").read_bytes())
    named = "copy.tif has the content of later.tif"
    qtbot.waitUntil(lambda: named in dock.status_label.text(), timeout=20_000)
    stop(dock, qtbot)
    assert "2 images analysed" in dock.status_label.text()
    assert "3 images of the results: 1 copy of another." in dock.status_label.text()
    assert (folder / RESULTS / "live.csv").is_file()
    assert (folder / RESULTS / "ratios.csv").is_file()
    # What was found is kept with the project: opened again, it is there.
    assert state.project.load("later.tif").analysis is not None


def test_images_are_labelled_with_their_session_unless_switched_off(dock, folder, qtbot):
    for number, session in enumerate(("auto", "none"), 1):
        write(folder / f"{number}.tif", seed=number)
        assert dock.by_session.isEnabled()
        dock.by_session.setChecked(session == "auto")
        press(dock)
        assert not dock.by_session.isEnabled() and not dock.models.isEnabled()
        qtbot.waitUntil(lambda n=number: len(dock.history.rows) == n, timeout=20_000)
        stop(dock, qtbot)
        record = json.loads((folder / RESULTS / "run.json").read_text())
        assert record["parameters"]["session"] == session


def test_images_of_a_watch_that_was_not_ended_are_labelled_at_the_next_end(
    dock, viewer, folder, qtbot, monkeypatch
):
    state = binding_of(viewer).state
    dock.by_session.setChecked(True)
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: state.analysis("a.tif") is not None, timeout=20_000)
    stop(dock, qtbot)
    found = state.analysis("a.tif")
    untested = {**found.parameters, "session": {"untested": True}}
    state.clusters.set_analysis(replace(found, parameters=untested), undoable=False)
    labelled = []
    made = SimpleNamespace(start=lambda images: labelled.append({*images}))
    monkeypatch.setattr(watching, "session_labels_of", lambda _: made)
    press(dock)
    qtbot.waitUntil(lambda: "Waiting" in dock.status_label.text())
    stop(dock, qtbot)
    qtbot.waitUntil(lambda: labelled == [{"a.tif"}])


def test_a_folder_may_be_empty_at_first(dock, viewer, folder, qtbot, settle):
    state = binding_of(viewer).state
    press(dock)
    qtbot.waitUntil(lambda: "Waiting" in dock.status_label.text())
    for seed, name in enumerate(("a.tif", "b.tif")):
        write(folder / name, seed)
    qtbot.waitUntil(lambda: state.analysis("b.tif") is not None, timeout=20_000)
    settle(viewer)
    assert state.images == ["a.tif", "b.tif"]
    assert state.analysis("a.tif") is not None


def test_a_session_goes_on_where_it_stopped(dock, viewer, folder, qtbot):
    write(folder / "one.tif")
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=20_000)
    stop(dock, qtbot)
    write(folder / "two.tif", seed=2)
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 2, timeout=20_000)
    assert [row["image"] for row in dock.history.rows] == ["one.tif", "two.tif"]
    assert dock.history.values("images").tolist() == [1, 2]


def test_what_can_not_be_read_is_said(dock, viewer, folder, qtbot, settle, monkeypatch):
    # On a busy machine ratios may take long, and are then not found after each file.
    monkeypatch.setattr("napari_atomicity.pipeline.live.live.QUICK_S", 60.0)
    write(folder / "good.tif")
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=20_000)
    (folder / "broken.dm4").write_bytes(b"nothing like an image" * 50)
    qtbot.waitUntil(lambda: dock.failures.isVisible(), timeout=60_000)
    assert "1 file could not be analysed" in dock.failures.text()
    assert "broken.dm4" in dock.failures.text()
    assert dock.status_label.text() == "broken.dm4 could not be analysed."  # and nothing waits
    fraction = f"fraction_{dock.history.classes[0]}"
    before = dock.history.values(fraction).tolist()
    dock.history.rows[-1][fraction] = float("nan")  # not computed while another file waited
    (folder / "empty.png").write_bytes(b"no picture" * 50)
    qtbot.waitUntil(lambda: "2 files" in dock.failures.text(), timeout=60_000)
    stop(dock, qtbot)
    text = dock.status_label.text()
    assert "2 files failed: broken.dm4, empty.png" in text and "1 image analysed" in text
    assert dock.history.values(fraction).tolist() == before
    reasons = dock.failures.text().splitlines()[1:]
    assert len(reasons) == 2 and all("can't be read" in reason for reason in reasons)
    assert [reason.count("broken.dm4") for reason in reasons] == [1, 0]  # not twice
    settle(viewer)  # the other image may still be on its way to the canvas


def test_a_file_that_is_complete_later_has_not_failed(dock, viewer, folder, qtbot, settle):
    path = folder / "late.tif"
    path.write_bytes(b"nothing like an image" * 50)
    press(dock)
    qtbot.waitUntil(lambda: dock.failures.isVisible(), timeout=60_000)
    write(path)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=60_000)
    assert not dock.failures.isVisible()
    stop(dock, qtbot)
    assert "failed" not in dock.status_label.text()
    settle(viewer)


def test_of_many_files_that_fail_only_some_are_listed(dock, folder, qtbot, monkeypatch):
    def refuse(*_, **__):
        raise ReadError("the file is refused")

    monkeypatch.setattr("napari_atomicity.pipeline.runs.run_files.load", refuse)
    for i in range(25):
        path = write(folder / f"{i:02}.tif", seed=i)
        os.utime(path, (1000 + i, 1000 + i))
    press(dock)
    qtbot.waitUntil(lambda: "25 files" in dock.failures.text(), timeout=60_000)
    lines = dock.failures.text().splitlines()
    assert len(lines) == 22 and lines[-1] == "and 5 more: see failures.csv"
    stop(dock, qtbot)
    assert "25 files failed: 00.tif" in dock.status_label.text()
    assert "24.tif" not in dock.status_label.text()


def test_an_alarm_is_seen_and_goes(dock, folder, qtbot, monkeypatch):
    # A model whose limit everything exceeds, then one that everything suits.
    said = [("the conditions are not those of the model's training",), ()]
    real = watch.conditions_of

    def conditions(*args):
        found = real(*args)
        return type(found)(**{**found.__dict__, "alarms": said.pop(0)})

    monkeypatch.setattr(watch, "conditions_of", conditions)
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: dock.alarm.isVisible(), timeout=20_000)
    assert "a.tif" in dock.alarm.text() and "Adapt" in dock.alarm.text()
    assert dock.history.alarms == ["the conditions are not those of the model's training"]
    write(folder / "b.tif", seed=1)
    qtbot.waitUntil(lambda: not dock.alarm.isVisible(), timeout=20_000)


def test_a_change_of_the_session_is_accepted_with_one_click(dock, folder, qtbot, monkeypatch):
    real = watch.conditions_of
    rng = np.random.default_rng(0)

    def conditions(analysis, *more):
        place = rng.normal(0, 0.3, 12)
        place[0] += 6.0 if analysis.micrograph.name > "m" else 0.0
        return replace(real(analysis, *more), where=FeatureSummary(place, 0.1))

    monkeypatch.setattr(watch, "conditions_of", conditions)
    dock.reference.setValue(6)
    for seed, name in enumerate("abcdefgh"):
        write(folder / f"{name}.tif", seed)
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 8, timeout=20_000)
    assert "Reference" not in dock.status_label.text() and not dock.accept_button.isVisible()
    assert dock.history.values("reference_images")[:6].tolist() == [1, 2, 3, 4, 5, 6]
    for seed, name in enumerate("uvwx", 10):
        write(folder / f"{name}.tif", seed)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 12, timeout=20_000)
    qtbot.waitUntil(dock.accept_button.isVisible)
    assert "session's first images" in dock.alarm.text() and "accept it" in dock.alarm.text()
    assert dock.history.change()[-1] > 1
    assert "change of the session now" in dock.strip.accessibleDescription()
    draw_now(dock.strip)
    ratios, confidence, drift = dock.strip.figure.axes
    assert "12 images" in drift.get_xlabel() and "alarm" in drift.get_xlabel()
    assert all(len(line.get_xdata()) == 12 for line in confidence.lines)
    # In the legend is every class, in the order in which the lines end.
    names = [text.get_text() for text in ratios.get_legend().get_texts()]
    last = [dock.history.values(f"fraction_{name}")[-1] for name in names]
    assert set(names) == set(dock.history.classes) and last == sorted(last, reverse=True)
    QTest.mouseClick(dock.accept_button, LEFT)
    assert not dock.alarm.isVisible() and not dock.accept_button.isVisible()
    write(folder / "y.tif", 20)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 13, timeout=20_000)
    assert not dock.alarm.isVisible()
    # those since the change, and this one
    assert 3 <= dock.history.values("reference_images")[-1] <= 5


def test_accepting_leaves_the_other_alarms_and_ends_with_the_session(dock, folder, qtbot):
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=20_000)
    dock._show_alarms("a.tif", [watch.SESSION_CHANGED, "the conditions are not the model's"])
    dock.accept_button.show()
    QTest.mouseClick(dock.accept_button, LEFT)
    assert dock.alarm.isVisible() and "not the model's" in dock.alarm.text()
    assert "session's first images" not in dock.alarm.text()
    dock.accept_button.show()
    stop(dock, qtbot)
    assert not dock.accept_button.isVisible()


def test_without_a_reference_nothing_is_compared(dock, folder, qtbot):
    dock.reference.selectAll()
    QTest.keyClicks(dock.reference, "3")  # too few for a reference
    QTest.keyClick(dock.reference, Qt.Key.Key_Return)
    assert dock.reference.text() == f"{MIN_FIRST} images"
    dock.reference.setValue(0)
    assert dock.reference.text() == "none: no such alarm"
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=20_000)
    assert "Reference" not in dock.status_label.text()
    assert dock.history.values("reference_images").tolist() == [0]


def test_the_reference_is_seen_to_grow(dock, folder, qtbot):
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=20_000)
    assert " of 10 images" in dock.status_label.text()


def test_a_folder_that_is_not_there(dock, folder, qtbot, errors, settle, viewer, tmp_path):
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "a.tif")
    dock.binding.projects.open(tmp_path / "other")
    settle(viewer)
    dock.folder.setText(str(folder / "nowhere"))
    press(dock)
    qtbot.waitUntil(lambda: dock.watching is None, timeout=60_000)
    assert "no such folder" in errors[0] and "nowhere" in errors[0]
    assert dock.button.text() == "Watch" and dock.button.isEnabled()
    assert not (folder / "nowhere").exists()
    assert dock.state.project is not None  # the question which project comes after that
    dock.state.close_project()


def test_what_is_looked_at_stays_if_one_asks_for_it(dock, viewer, folder, qtbot, settle):
    state = binding_of(viewer).state
    write(folder / "a.tif")
    box = QPoint(8, dock.show_images.height() // 2)
    QTest.mouseClick(dock.show_images, LEFT, pos=box)
    assert not dock.show_images.isChecked()
    press(dock)
    qtbot.waitUntil(lambda: state.analysis("a.tif") is not None, timeout=20_000)
    settle(viewer)
    first = state.current
    write(folder / "b.tif", seed=1)
    qtbot.waitUntil(lambda: state.analysis("b.tif") is not None, timeout=20_000)
    settle(viewer)
    assert state.current == first


@pytest.mark.parametrize("work", ["marks atoms", "draws a region", "adds clusters", "reviews"])
def test_an_image_in_which_somebody_works_stays(dock, viewer, folder, qtbot, settle, work):
    binding = binding_of(viewer)
    state = binding.state
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: state.current == "a.tif", timeout=20_000)
    qtbot.waitUntil(lambda: state.analysis("a.tif") is not None, timeout=20_000)
    settle(viewer)
    if work == "marks atoms":
        binding.atoms.marking = True
    elif work == "draws a region":
        binding.edits.exclude_regions()
    elif work == "adds clusters":
        binding.edits.add_by_clicking()
    else:
        queue = build(state.table(), ReviewRequest("confidence"))
        binding.label_mode.review = Reviewing(state, queue)
    assert binding.is_in_use
    write(folder / "b.tif", seed=1)
    qtbot.waitUntil(lambda: state.analysis("b.tif") is not None, timeout=20_000)
    settle(viewer)
    assert state.current == "a.tif" and binding.is_in_use
    binding.label_mode.review = None
    binding.stop_drawing()
    if work == "adds clusters":
        binding.edits.add_by_clicking()
    assert not binding.is_in_use
    write(folder / "c.tif", seed=2)
    qtbot.waitUntil(lambda: state.current == "c.tif", timeout=20_000)
    settle(viewer)


def test_blind_mode_hides_what_is_found_and_images_come_after_it(
    dock, viewer, folder, qtbot, settle
):
    binding = binding_of(viewer)
    state = binding.state
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: state.analysis("a.tif") is not None, timeout=20_000)
    settle(viewer)
    assert dock.strip.isVisible()
    state.annotator = "Dee"
    state.set_blind(True)
    qtbot.waitUntil(lambda: not dock.strip.isVisible())
    write(folder / "b.tif", seed=1)
    qtbot.waitUntil(lambda: dock.left_out.isVisible(), timeout=20_000)
    assert "added to Browse when blind mode ends" in dock.left_out.text()
    assert "cluster" not in dock.status_label.text() and not dock.strip.isVisible()
    assert state.images == ["a.tif"]
    state.set_blind(False)
    qtbot.waitUntil(lambda: state.images == ["a.tif", "b.tif"], timeout=20_000)
    settle(viewer)
    qtbot.waitUntil(lambda: not dock.left_out.isVisible() and dock.strip.isVisible())
    assert state.to_be_analysed() == ["b.tif"]
    stop(dock, qtbot)
    settle(viewer)
    told = dock.status_label.text()
    assert "1 of the images had no results in the open project: press Analyse all." in told
    # The text stays when another project is opened, to which the other docks belong then.
    assert "Ratios" not in told


def test_with_the_dock_the_watching_ends(viewer, folder, qtbot):
    dock = Live(viewer)
    dock.folder.setText(str(folder))
    dock.toggle()
    watching = dock.watching
    dock.deleteLater()
    qtbot.waitUntil(lambda: watching.stopping, timeout=20_000)
    watching.wait()


def test_nothing_is_taken_into_a_project_that_is_only_read(
    dock, viewer, folder, qtbot, monkeypatch, settle
):
    monkeypatch.setattr(type(dock.images), "why_not", "the open project is read-only")
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 1, timeout=20_000)
    assert dock.state.analysis("a.tif") is None
    qtbot.waitUntil(lambda: dock.left_out.isVisible())
    assert "1 image not shown in the window: the open project is read-only" in (
        dock.left_out.text()
    )
    stop(dock, qtbot)
    settle(viewer)  # the image itself may still be on its way to the canvas


def test_images_in_no_project_are_said_to_be_in_the_way(dock, viewer, folder, qtbot, settle):
    binding_of(viewer).canvas.ensure_image(viewer.add_image(blobs(), name="by hand"))
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: dock.left_out.isVisible(), timeout=20_000)
    assert "no project is open" in dock.left_out.text()
    assert "Browse" in dock.left_out.text()
    stop(dock, qtbot)
    settle(viewer)


@pytest.fixture
def other(viewer, tmp_path, qtbot, settle):
    """The open project, which is that of another folder."""
    folder = tmp_path / "other"
    folder.mkdir()
    write(folder / "old.tif", seed=5)
    binding = binding_of(viewer)
    binding.projects.open(folder)
    qtbot.waitUntil(lambda: binding.state.project is not None, timeout=20_000)
    settle(viewer)
    return binding.state.project.path


@pytest.mark.parametrize("answer", ["Project of session", "Add to other", "Cancel"])
def test_the_project_of_another_folder_is_not_written_without_a_question(
    dock, viewer, folder, other, qtbot, settle, monkeypatch, answer
):
    def click(box):
        next(b for b in box.buttons() if b.text().replace("&", "") == answer).click()

    monkeypatch.setattr(QMessageBox, "exec", click)
    write(folder / "new.tif")
    press(dock)
    if answer == "Cancel":
        assert dock.watching is None
    else:
        state = binding_of(viewer).state
        qtbot.waitUntil(lambda: state.analysis("new.tif") is not None, timeout=20_000)
        settle(viewer)
        assert (state.project.path == other) == (answer == "Add to other")
        stop(dock, qtbot)
    binding_of(viewer).projects.leave(stops_work=True)
    project = Project(other)
    assert ("new.tif" in project.names) == (answer == "Add to other")
    project.close()


def test_a_copy_of_an_image_of_the_project_is_not_added(
    dock, viewer, folder, other, qtbot, settle, monkeypatch
):
    def add(box):
        next(b for b in box.buttons() if b.text().replace("&", "") == "Add to other").click()

    monkeypatch.setattr(QMessageBox, "exec", add)
    (folder / "again.tif").write_bytes((other.parent / "old.tif").read_bytes())
    press(dock)
    qtbot.waitUntil(lambda: dock.left_out.isVisible(), timeout=20_000)
    settle(viewer)
    assert dock.left_out.text().startswith("1 file has the content of other images")
    assert binding_of(viewer).state.images == ["old.tif"]
    stop(dock, qtbot)


def test_clusters_in_memory_that_go_with_the_project_are_named(
    dock, viewer, folder, other, monkeypatch
):
    asked = []
    monkeypatch.setattr(QMessageBox, "exec", lambda box: asked.append(box.text()))
    press(dock)
    state = binding_of(viewer).state
    state.clusters.set_analysis(made_up(4, "movie mean"))
    press(dock)
    before, now = asked
    assert "in memory only" not in before
    assert now.endswith("Closing it loses the clusters of movie mean, which are in memory only.")


def test_a_project_that_is_opened_meanwhile_gets_nothing(
    dock, viewer, folder, qtbot, settle, request
):
    press(dock)
    qtbot.waitUntil(lambda: "Waiting" in dock.status_label.text())
    request.getfixturevalue("other")
    write(folder / "new.tif")
    qtbot.waitUntil(lambda: "of another folder" in dock.left_out.text(), timeout=20_000)
    assert binding_of(viewer).state.images == ["old.tif"]
    stop(dock, qtbot)


def test_closing_the_window_says_that_the_folder_is_still_watched(dock, viewer, folder, qtbot):
    projects = binding_of(viewer).projects
    assert projects.closing_question() == ""
    press(dock)
    asked = projects.closing_question()
    assert str(folder) in asked and "Stop watching" in asked
    stop(dock, qtbot)
    assert projects.closing_question() == ""


def test_a_project_that_is_closed_meanwhile_stays_closed(dock, viewer, folder, qtbot, settle):
    binding = binding_of(viewer)
    write(folder / "a.tif")
    press(dock)
    qtbot.waitUntil(lambda: binding.state.analysis("a.tif") is not None, timeout=20_000)
    settle(viewer)
    assert binding.projects.leave()
    write(folder / "b.tif", seed=1)
    qtbot.waitUntil(lambda: dock.left_out.isVisible(), timeout=20_000)
    assert "no project is open" in dock.left_out.text()
    stop(dock, qtbot)
    settle(viewer)
    assert binding.state.project is None
    assert "2 images analysed" in dock.status_label.text()
    binding.projects.open(folder)
    qtbot.waitUntil(lambda: binding.state.project is not None, timeout=20_000)
    settle(viewer)
    qtbot.waitUntil(lambda: not dock.left_out.isVisible())
    assert binding.state.to_be_analysed() == ["b.tif"]
    # The next session analyses other images only, and this one is still to be analysed.
    write(folder / "c.tif", seed=2)
    press(dock)
    qtbot.waitUntil(lambda: binding.state.analysis("c.tif") is not None, timeout=20_000)
    stop(dock, qtbot)
    settle(viewer)
    assert "1 image analysed" in dock.status_label.text()
    assert "1 of the images had no results" in dock.status_label.text()


def test_a_long_history_is_thinned():
    history = LiveHistory()
    for i in range(3 * MAX_ROWS):
        history.add({"images": i + 1, "fraction_Pt19": 0.5, "drift": 1.0, "drift_limit": 2.0})
    assert len(history.rows) <= MAX_ROWS
    assert history.classes == ("Pt19",)
    assert history.n_images == 3 * MAX_ROWS
    assert history.drift()[-1] == 0.5


def test_the_history_is_of_one_model_and_one_run():
    """Another model analyses all images anew; its ratios do not continue those before."""
    history = LiveHistory()
    rows = [
        (1, {"fraction_Pt19": 0.5, "fraction_Pt30": 0.5}),
        (2, {"fraction_Pt19": 0.6, "fraction_Pt30": 0.4}),
        (1, {"fraction_Pt19": 0.3, "fraction_Pt70": 0.7}),
        (2, {"fraction_Pt19": 0.2, "fraction_Pt70": 0.8}),
        (1, {"fraction_Pt19": 0.9, "fraction_Pt70": 0.1}),  # of the same classes
    ]
    shown = []
    for images, shares in rows:
        history.add({"images": images, **shares})
        shown.append((history.classes, history.values("fraction_Pt19").tolist()))
    assert shown[1] == (("Pt19", "Pt30"), [0.5, 0.6])
    assert shown[3] == (("Pt19", "Pt70"), [0.3, 0.2])
    assert shown[4] == (("Pt19", "Pt70"), [0.9])
    assert len(LiveHistory.of_log(pd.DataFrame([{"images": i, **s} for i, s in rows])).rows) == 1


def test_a_card_without_a_limit_has_no_drift():
    history = LiveHistory()
    history.add({"drift": 1.0, "drift_limit": float("nan"), "alarm": float("nan")})
    assert np.isnan(history.drift()[0])
    assert history.alarms == [""]


def test_a_pixel_size_entered_in_the_project_is_that_of_the_image(
    dock, viewer, folder, qtbot, settle, tmp_path
):
    # Entered in the window; the file has another one.
    binding = binding_of(viewer)
    write(folder / "wrong.tif")
    write(folder / "right.tif", seed=1)
    binding.projects.open(folder)
    qtbot.waitUntil(lambda: set(binding.state.images) == {"right.tif", "wrong.tif"}, timeout=20_000)
    settle(viewer)
    binding.state.choose("wrong.tif")
    settle(viewer)
    analyse = Analyse(viewer)
    qtbot.addWidget(analyse)
    analyse.show()
    field = analyse.image_form.pixel_size
    field.setFocus()
    field.lineEdit().selectAll()
    QTest.keyClicks(field.lineEdit(), str(1.1 * PIXEL_NM))
    QTest.keyClick(field, Qt.Key.Key_Return)
    settle(viewer)
    assert binding.state.pixel_sizes.get("wrong.tif") == pytest.approx(1.1 * PIXEL_NM)
    # Known to the project also after it was closed; the watch opens it again.
    binding.projects.leave(stops_work=True)
    settle(viewer)
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 2, timeout=60_000)
    qtbot.waitUntil(
        lambda: all(map(binding.state.analysis, ("right.tif", "wrong.tif"))), timeout=20_000
    )
    stop(dock, qtbot)
    settle(viewer)
    sizes = {n: binding.state.analysis(n).micrograph.pixel_size_nm for n in binding.state.images}
    record = json.loads((folder / RESULTS / "run.json").read_text())
    written = {image["image"]: image["pixel_size_nm"] for image in record["images"]}
    expected = pytest.approx({"right.tif": PIXEL_NM, "wrong.tif": 1.1 * PIXEL_NM}, rel=1e-4)
    assert written == expected and sizes == expected
    assert not binding.state.pixel_sizes.has_changed("wrong.tif")
    # Changed after it was analysed: the next session analyses the image again, and only this one.
    binding.state.pixel_sizes.set("wrong.tif", 0.9 * PIXEL_NM)
    press(dock)
    qtbot.waitUntil(lambda: "wrong.tif: 12 clusters" in dock.status_label.text(), timeout=20_000)
    stop(dock, qtbot)
    settle(viewer)
    assert "1 image analysed" in dock.status_label.text()
    new = binding.state.analysis("wrong.tif").micrograph.pixel_size_nm
    assert new == pytest.approx(0.9 * PIXEL_NM)


def test_known_samples_of_the_project_are_used(dock, viewer, folder, qtbot, settle):
    binding = binding_of(viewer)
    write(folder / "a=[1].tif")
    write(folder / "b.tif", seed=1)
    binding.projects.open(folder)
    qtbot.waitUntil(lambda: set(binding.state.images) == {"a=[1].tif", "b.tif"}, timeout=20_000)
    settle(viewer)
    binding.state.sessions.set_known(["a=[1].tif"], {"Pt19": 1, "Pt70": 3})
    press(dock)
    qtbot.waitUntil(lambda: len(dock.history.rows) == 2, timeout=60_000)
    stop(dock, qtbot)
    settle(viewer)
    record = json.loads((folder / RESULTS / "run.json").read_text())
    known = {image["image"]: image["known"] for image in record["images"]}
    assert known == {"a=[1].tif": {"Pt19": 0.25, "Pt70": 0.75}, "b.tif": {}}


def test_another_image_under_the_same_name_has_the_pixel_size_of_its_file(
    dock, viewer, folder, qtbot, settle
):
    state = binding_of(viewer).state
    write(folder / "latest.tif")
    press(dock)
    qtbot.waitUntil(lambda: state.analysis("latest.tif") is not None, timeout=20_000)
    settle(viewer)
    state.pixel_sizes.set("latest.tif", 1.1 * PIXEL_NM)
    first = state.micrograph("latest.tif").sha256
    write(folder / "latest.tif", seed=1)
    qtbot.waitUntil(lambda: state.analysis("latest.tif").micrograph.sha256 != first, timeout=20_000)
    settle(viewer)
    assert state.micrograph("latest.tif").pixel_size_nm == pytest.approx(PIXEL_NM, rel=1e-4)


def test_a_file_that_is_replaced_is_shown_anew_and_its_old_clusters_do_not_come_back(
    dock, viewer, folder, qtbot, settle
):
    binding = binding_of(viewer)
    state = binding.state
    write(folder / "latest.tif")
    press(dock)
    qtbot.waitUntil(lambda: state.analysis("latest.tif") is not None, timeout=20_000)
    settle(viewer)
    first, pixels = state.micrograph("latest.tif").sha256, viewer.layers["latest.tif"].data.copy()
    write(folder / "latest.tif", seed=1)
    qtbot.waitUntil(lambda: state.analysis("latest.tif").micrograph.sha256 != first, timeout=20_000)
    qtbot.waitUntil(lambda: (viewer.layers["latest.tif"].data != pixels).any(), timeout=10_000)
    settle(viewer)
    points = binding.canvas.layer("latest.tif", "clusters")
    assert len(points.data) == len(state.table("latest.tif")) and not len(state.history)
    # Labels of the old picture are no labels of the new one.
    second = state.micrograph("latest.tif").sha256
    state.clusters.relabel(
        [("latest.tif", int(state.table("latest.tif")["cluster_id"][0]))], "Pt41"
    )
    table = state.table("latest.tif")
    write(folder / "latest.tif", seed=2)
    qtbot.waitUntil(lambda: "replaced by another image" in state.status.message, timeout=20_000)
    settle(viewer)
    pd.testing.assert_frame_equal(state.table("latest.tif"), table)
    stored = next(i for i in state.project.images() if i.name == "latest.tif")
    assert stored.sha256 == second


def test_files_that_failed_are_listed_in_browse_at_once(dock, viewer, folder, qtbot, settle):
    browse = Browse(viewer)
    qtbot.addWidget(browse)
    browse.show()
    for i in range(MAX_WAITING + 2):
        (folder / f"broken_{i:02}.dm4").write_bytes(b"nothing like an image" * (50 + i))
    write(folder / "good.tif")
    press(dock)
    state = binding_of(viewer).state
    qtbot.waitUntil(lambda: state.analysis("good.tif") is not None, timeout=60_000)
    (folder / "late.png").write_bytes(b"no picture" * 50)
    failed = {*(f"broken_{i:02}.dm4" for i in range(MAX_WAITING + 2)), "late.png"}

    def errors():
        rows = {row.name: row for row in browse.model.rows}
        return {name for name in failed if name in rows and "can't be read" in rows[name].words}

    qtbot.waitUntil(lambda: errors() == failed, timeout=60_000)
    stop(dock, qtbot)
    settle(viewer)
