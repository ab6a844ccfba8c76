"""The window labels the images of a session jointly, and shows the intensity of one atom."""
# ruff: noqa: F401, F811  (fixtures of test_browse)

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bar import click_cancel
from brightness import CLASSES, N_CLUSTERS, PIXEL_NM, offer
from mouse import LEFT
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication, QInputDialog, QMessageBox
from sized import SizedClassifier, write_clusters
from test_browse import click_row, elsewhere, opened
from test_live import live_dock
from test_sessions import type_known
from waiting import updated

from napari_atomicity.core.apparent_size import ApparentSize
from napari_atomicity.core.errors import Cancelled
from napari_atomicity.core.tables import cluster_table as tables
from napari_atomicity.gui.docks.analyse import Analyse, Classify
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.live.dock import RESULTS
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.docks.report import write_all
from napari_atomicity.gui.docks.review.history import EditHistory
from napari_atomicity.gui.panels import session_labels
from napari_atomicity.gui.panels.workbench_bar import UndoButtons, workbench_bar
from napari_atomicity.gui.viewer import models
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.io.tables import read_table
from napari_atomicity.models.scale.intensity_scale import unknown_scale
from napari_atomicity.pipeline.live import watch
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.state.export import Choices, snapshot
from napari_atomicity.statistics.ratios.ratio_notes import UNTESTED

MIX, ONE, TWO = "mix.tif", "one.tif", "two.tif"
JOINT = "label 1 session jointly"


@pytest.fixture
def model(monkeypatch):
    classifier = offer(monkeypatch, SizedClassifier())
    monkeypatch.setitem(models._unsaved, classifier.card.model_id, classifier)
    return classifier


@pytest.fixture
def hold_at(model, monkeypatch):
    """Hold the model at the n-th image from now until the second event is set; the first tells."""

    def hold(n: int):
        predict, waiting, go_on = model.predict, threading.Event(), threading.Event()
        n_predicted = itertools.count(1)

        def wait(*args, **options):
            if next(n_predicted) >= n:
                waiting.set()
                assert go_on.wait(10)
            return predict(*args, **options)

        monkeypatch.setattr(model, "predict", wait)
        return waiting, go_on

    return hold


@pytest.fixture
def morning(tmp_path):
    """An image of all classes, and two of one class each, which alone could be any."""
    folder = tmp_path / "morning"
    folder.mkdir()
    for seed, (name, kinds) in enumerate(((MIX, CLASSES), (ONE, ["Pt41"]), (TWO, ["Pt30"]))):
        write_clusters(folder / name, kinds, seed)
    return folder


@pytest.fixture
def told(monkeypatch):
    """Messages for information."""
    shown = []
    monkeypatch.setattr(session_labels, "show_info", shown.append)
    return shown


@pytest.fixture
def analyse_all(opened, viewer, qtbot, settle):
    """Analyse the images by the button, and wait for the labels."""

    def run(together: bool = True):
        opened.together.setChecked(together)
        qtbot.mouseClick(opened.analyse_button, LEFT)
        qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
        settle(viewer)
        updated(opened)
        return opened

    return run


@pytest.fixture
def label_again(opened, viewer, settle):
    """Click the entry of the menu, and wait for the labels."""

    def run():
        opened.label_action.trigger()
        settle(viewer)

    return run


@pytest.fixture
def enter_known(opened, viewer, settle):
    """Enter a known sample in the menu of a row."""

    def run(image: str, text: str):
        click_row(opened, opened.state.images.index(image))
        settle(viewer)
        type_known(text)
        opened.image_menu.known_action.trigger()
        settle(viewer)

    return run


def labels(state, image: str) -> set[str]:
    return set(state.table(image)["label"])


def shifted(state, image: str, places) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Return the first cluster of an image as measured at other places, in pixels from its own."""
    analysis = state.analysis(image)
    table = pd.concat([analysis.table.iloc[[0]]] * len(places), ignore_index=True)
    table = table[list(tables.BEFORE_PROBABILITIES)].assign(label_predicted="", label="")
    for axis, shift in zip("yx", np.transpose(places), strict=True):
        table[f"{axis}_px"] += shift
        table[f"{axis}_nm"] += shift * PIXEL_NM
    return table, [analysis.outlines[0] + place for place in places]


def split(state, image: str) -> list[int]:
    """Split the first cluster of an image."""
    whole = [int(state.table(image)["cluster_id"].iloc[0])]
    pieces, _ = shifted(state, image, [(-3.0, 3.0), (3.0, -3.0)])
    outline = state.analysis(image).outlines[0]
    return state.clusters.replace(image, whole, pieces, [outline] * 2, "split")


def steps(state) -> list[str]:
    return [step.description for step in state.history]


@pytest.fixture
def live(viewer, qtbot, settle, monkeypatch, model, morning):
    """Watch the folder from a window in which nothing is open."""
    monkeypatch.setattr(watch, "load_classifier", lambda *_: model)
    monkeypatch.setattr(watch, "model_hash", lambda card: "0" * 64)
    with live_dock(viewer, qtbot, morning, settle) as dock:
        yield dock


def test_when_live_stops_the_window_has_the_labels_and_notes_of_its_results(
    live, model, viewer, qtbot, settle, morning, monkeypatch
):
    """Also of a session of one image."""
    sizes = ApparentSize.from_diameters(model.card.scale)
    monkeypatch.setattr(model, "card", replace(model.card, apparent_size=sizes))
    write_clusters(morning / "other.tif", ["Pt41"], seed=3, pixel_nm=1.2 * PIXEL_NM)
    state = live.state
    qtbot.mouseClick(live.button, LEFT)
    qtbot.waitUntil(lambda: len(state.images) == 4, timeout=30_000)
    qtbot.waitUntil(lambda: all(map(state.analysis, state.images)), timeout=30_000)
    ratios = Ratios(viewer)
    qtbot.addWidget(ratios)
    ratios.resize(400, 900)
    with qtbot.waitExposed(ratios):
        ratios.show()
    # Until then, the window says that the sizes are not tested yet.
    qtbot.waitUntil(lambda: UNTESTED[1:] in ratios.warning.text(), timeout=30_000)
    qtbot.mouseClick(live.button, LEFT)
    qtbot.waitUntil(lambda: live.watching is None, timeout=60_000)
    settle(viewer)
    out = morning / RESULTS
    clusters, written = (read_table(out / f"{name}.csv") for name in ("clusters", "ratios"))
    sessions = json.loads((out / "run.json").read_text())["sessions"]
    assert [one["images"] for one in sessions] == [3, 1]
    for image, rows in clusters.groupby("image"):
        now, analysis = state.table(image), state.analysis(image)
        assert now["label"].tolist() == rows["label"].tolist()
        np.testing.assert_allclose(now["confidence"], rows["confidence"], atol=0.02)
        np.testing.assert_allclose(now["n_atoms_low"], rows["n_atoms_low"], rtol=0.03)
        assert {*written[written["scope"] == image]["note"]} == {*analysis.ratios()["note"]}
        assert "untested" not in analysis.parameters["session"]
    qtbot.waitUntil(lambda: UNTESTED[1:] not in ratios.warning.text(), timeout=30_000)


def test_analyse_all_ends_with_labels_from_the_session(analyse_all, viewer, settle, told):
    dock = analyse_all()
    state = dock.state
    assert (labels(state, ONE), labels(state, TWO)) == ({"Pt41"}, {"Pt30"})
    assert labels(state, MIX) == set(CLASSES)
    assert told == ["Session morning: 3 images labelled jointly."]
    assert told[0] in dock.notes.text()
    # They are part of the first results: undo never leaves an image without its session.
    assert steps(state) == []


def test_sessions_of_a_run_that_was_ended_are_labelled_by_the_next(
    opened, analyse_all, viewer, settle, monkeypatch
):
    state = opened.state
    state.sessions.group([TWO], "afternoon")
    with monkeypatch.context() as killed:
        killed.setattr(opened.batch._session_labels, "start", lambda *_, **__: None)
        analyse_all()
    assert not any("session" in state.analysis(image).parameters for image in (MIX, ONE))
    opened.batch.start([TWO], RunRequest())
    settle(viewer)
    assert all("session" in state.analysis(image).parameters for image in (MIX, ONE))


def test_labels_of_sessions_are_one_step_of_undo(analyse_all, label_again, viewer, settle, told):
    dock = analyse_all(together=False)
    state = dock.state
    dock.together.setChecked(True)
    label_again()
    assert labels(state, ONE) == {"Pt41"} and steps(state) == [JOINT]
    assert told == ["Session morning: 3 images, 3 scales changed, 24 labels changed."]
    binding_of(viewer).edits.undo()
    settle(viewer)
    assert labels(state, ONE) != {"Pt41"} and steps(state) == []
    assert state.analysis(ONE).scale.certainty < 0.5
    updated(dock)
    assert told[0] not in dock.notes.text()  # it no longer holds
    binding_of(viewer).edits.redo()
    settle(viewer)
    assert labels(state, ONE) == {"Pt41"}
    assert len(told) == 1
    dock.projects.leave(stops_work=True)
    settle(viewer)
    updated(dock)
    assert told[0] not in dock.notes.text()


def test_the_answer_of_a_session_is_saved_also_if_no_scale_changed(
    analyse_all, viewer, morning, settle, label_again, told
):
    dock = analyse_all()
    answer = dict(dock.state.analysis(ONE).parameters["session"])
    # As if it was labelled by an older version, which knew no answer.
    for image in (MIX, ONE, TWO):
        dock.state.clusters.set_session(image, {})
    dock.projects.leave(stops_work=True)
    settle(viewer)
    dock.open(str(morning))
    settle(viewer)
    assert dock.state.analysis(ONE).parameters["session"] == {}
    label_again()
    assert told[-1].endswith("no scale changed.")
    dock.projects.leave(stops_work=True)
    settle(viewer)
    dock.open(str(morning))
    settle(viewer)
    assert dock.state.analysis(ONE).parameters["session"] == answer


def test_the_switch_is_remembered_and_images_then_stay_alone(
    analyse_all, viewer, told, label_again, settle
):
    dock = analyse_all(together=False)
    state = dock.state
    assert labels(state, ONE) != {"Pt41"} and steps(state) == [] and told == []
    again = Browse(viewer)
    assert not again.together.isChecked()
    again.deleteLater()
    state.sessions.group([ONE], "evening")
    settle(viewer)
    assert steps(state) == ["session evening of 1 image"]
    binding_of(viewer).edits.undo()
    # A label of a person stays, whatever the session says.
    state.clusters.relabel([(ONE, 1)], "Pt70")
    label_again()
    assert steps(state)[-1] == JOINT
    table = state.table(ONE).set_index("cluster_id")
    assert table.loc[1, "label"] == "Pt70" and table.loc[1, "label_predicted"] == "Pt41"
    assert set(table["label"].drop(1)) == {"Pt41"}
    known = state.analysis(ONE).parameters["session"]
    assert known["images"] == 3 and known["unlike_the_others"] < 0.5
    state.clusters.set_session(ONE, {})
    label_again()
    assert told[-1] == "Session morning: 3 images, no scale changed."
    assert len(steps(state)) == 2
    # Notes and warnings come from what the session tells, also if no scale has changed.
    assert state.analysis(ONE).parameters["session"] == known


def test_a_known_sample_and_other_sessions_label_again(
    analyse_all, viewer, settle, enter_known, told
):
    state = analyse_all().state
    binding = binding_of(viewer)
    # Without the mixture the scale of the session is not known.
    state.sessions.group([MIX], "evening")
    settle(viewer)
    assert steps(state) == ["session evening of 1 image"]
    assert told[-1].startswith("Session morning: 2 images, 2 scales changed")
    assert labels(state, MIX) == set(CLASSES)
    enter_known(ONE, "Pt41")
    assert steps(state)[-1] == "known sample Pt41 in 1 image"
    history = EditHistory(binding)
    history.refresh()
    listed = [history.model.index(i).data() for i in range(history.model.rowCount())]
    assert listed[-1] == "known sample Pt41 in 1 image · 2 images changed"
    assert (labels(state, ONE), labels(state, TWO)) == ({"Pt41"}, {"Pt30"})
    buttons = UndoButtons(binding)
    buttons.refresh()
    assert buttons.undo.toolTip().startswith(f"Undo: {listed[-1]} (")
    known = state.analysis(TWO).parameters["session"]
    # One undo takes back what was entered, and the labels that followed from it.
    binding.edits.undo()
    assert viewer.status == f"Undone: {listed[-1]}"
    settle(viewer)
    assert state.sessions.get(ONE).known == {} and len(state.history) == 1
    assert labels(state, TWO) != {"Pt30"} and len(state.history.undone) == 1
    assert "known_sample" not in state.analysis(ONE).parameters["session"]
    binding.edits.redo()
    settle(viewer)
    assert labels(state, TWO) == {"Pt30"} and len(state.history) == 2
    assert state.analysis(TWO).parameters["session"] == known


def test_an_image_that_is_removed_leaves_its_session_and_one_undo_brings_both_back(
    analyse_all, viewer, settle
):
    dock = analyse_all()
    state = dock.state
    before = {name: state.table(name) for name in state.images}
    clusters = len(before[MIX])
    click_row(dock, state.images.index(MIX))
    settle(viewer)
    dock.image_menu.update_actions()
    dock.image_menu.remove_action.trigger()
    settle(viewer)
    assert steps(state) == [f"remove {MIX}"]
    assert state.images == [ONE, TWO] == [row.name for row in updated(dock).model.rows]
    assert state.current == ONE and not any(MIX in layer.name for layer in viewer.layers)
    # As if it had never been there: without the mixture the scale of the session is not known.
    assert state.analysis(ONE).parameters["session"]["images"] == 2
    assert not state.table(ONE)["label"].equals(before[ONE]["label"])
    assert MIX not in state.table()["image"].unique()
    binding_of(viewer).edits.undo()
    settle(viewer)
    assert state.images == [MIX, ONE, TWO] and state.current == MIX
    assert len(state.table(MIX)) == clusters == len(viewer.layers[f"{MIX} clusters"].data)
    for name in (ONE, TWO):
        assert state.table(name)["label"].equals(before[name]["label"])
        assert state.analysis(name).parameters["session"]["images"] == 3


def test_an_image_of_another_pixel_size_leaves_its_session(analyse_all, viewer, settle):
    """With one undo, too. Until it is analysed again, it tells its new session nothing."""
    state = analyse_all().state
    before = {name: state.table(name) for name in state.images}
    state.pixel_sizes.set(MIX, 1.2 * PIXEL_NM)
    settle(viewer)
    (step,) = steps(state)  # others of the session are labelled again, and keep their pixel size
    assert step.startswith("pixel size") and "images" not in step
    assert state.analysis(ONE).parameters["session"]["images"] == 2
    assert not state.table(ONE)["label"].equals(before[ONE]["label"])
    state.pixel_sizes.set(ONE, 1.2 * PIXEL_NM)
    settle(viewer)
    assert session_labels.session_images(state, state.sessions.session_of(ONE)).analyses == ()
    for _ in range(2):
        binding_of(viewer).edits.undo()
        settle(viewer)
    for name in (ONE, TWO):
        assert state.table(name)["label"].equals(before[name]["label"])
        assert state.analysis(name).parameters["session"]["images"] == 3


def test_a_known_sample_of_other_classes_is_left_out_by_name(
    opened, analyse_all, viewer, settle, enter_known, monkeypatch
):
    warned = []
    monkeypatch.setattr(session_labels, "show_warning", warned.append)
    enter_known(ONE, "Pt13")  # nothing is analysed yet: any class may be one of the model
    dock = analyse_all()
    assert (labels(dock.state, ONE), labels(dock.state, TWO)) == ({"Pt41"}, {"Pt30"})
    assert "one.tif: the known sample Pt13 is not used" in warned[-1]
    assert "no class Pt13" in warned[-1] and warned[-1] in dock.notes.text()
    # Alone in its session, it has no other images to be labelled with.
    dock.state.sessions.group([ONE], "evening")
    settle(viewer)
    assert "one.tif: the known sample Pt13 is not used" in warned[-1] and len(warned) == 2


def test_a_known_sample_that_its_clusters_contradict_is_used_on_demand_only(
    analyse_all, viewer, settle, enter_known, monkeypatch
):
    warned = []
    monkeypatch.setattr(session_labels, "show_warning", warned.append)
    dock = analyse_all()
    state, menu = dock.state, dock.image_menu
    before = [labels(state, name) for name in (MIX, ONE, TWO)]
    enter_known(MIX, "Pt55")
    assert "⚠ mix.tif: the clusters contradict the known sample Pt55" in warned[-1]
    assert "it was not used" in warned[-1] and "Use the known sample even if" in warned[-1]
    assert [labels(state, name) for name in (MIX, ONE, TWO)] == before
    test = state.analysis(MIX).parameters["session"]["known_sample"]
    assert test["contradicted"] and not test["used"]
    updated(dock)
    assert warned[-1] in dock.notes.text()
    binding = binding_of(viewer)
    binding.edits.undo()
    settle(viewer)
    updated(dock)
    assert "known_sample" not in state.analysis(MIX).parameters["session"]
    assert "contradict" not in dock.notes.text() and len(warned) == 1
    assert "contradict" not in state.analysis(MIX).ratios()["note"][0]
    binding.edits.redo()
    settle(viewer)
    assert state.analysis(MIX).parameters["session"]["known_sample"] == test
    classify = Classify(viewer)
    viewer.window.add_dock_widget(classify)
    menu.update_actions()
    assert menu.keep_action.isEnabled() and not menu.keep_action.isChecked()
    menu.keep_action.trigger()
    settle(viewer)
    assert state.sessions.get(MIX).keep_known and "it was used nevertheless" in warned[-1]
    assert state.analysis(MIX).parameters["session"]["known_sample"]["used"]
    assert "relies on a known sample" in state.analysis(ONE).ratios()["note"][0]
    menu.update_actions()
    assert menu.keep_action.isChecked()
    enter_known(MIX, "Pt19:1, Pt30:1, Pt41:1, Pt55:1, Pt70:1")
    assert len(warned) == 3 and not state.sessions.get(MIX).keep_known
    click_row(dock, state.images.index(ONE))
    settle(viewer)
    menu.update_actions()
    assert not menu.keep_action.isEnabled()


def test_labels_come_from_the_estimator_that_is_chosen_in_the_settings(opened, analyse_all):
    choice = opened.form.controls["labels"]
    choice.setCurrentIndex(choice.findData("mixture"))
    state = analyse_all().state
    for name in (MIX, ONE, TWO):
        table = state.table(name)
        speaks = table["label_mixture"] != ""
        assert speaks.any() and (table["label"] == table["label_mixture"])[speaks].all()
        analysis = state.analysis(name)
        assert analysis.labels_from == "mixture"
        assert "labels are those of the constrained mixture" in analysis.ratios()["note"][0]
    assert state.project is None or state.project.runs()[0]["labels"] == "mixture"
    choice.setCurrentIndex(choice.findData("combination"))


def test_an_earlier_session_tells_the_scale_and_is_in_the_report(
    analyse_all, viewer, settle, told, tmp_path
):
    dock = analyse_all()
    state, menu = dock.state, dock.image_menu
    state.sessions.group([ONE, TWO], "evening")
    settle(viewer)
    before = state.analysis(TWO).parameters["session"]
    click_row(dock, state.images.index(TWO))
    settle(viewer)
    menu.update_actions()
    listed = [action.text() for action in menu.earlier_menu.actions()]
    assert listed == ["morning", "Run record or model card…", "No earlier session"]
    menu.earlier_menu.actions()[0].trigger()
    settle(viewer)
    assert steps(state)[-1] == "same instrument as morning for 2 images"
    assert (labels(state, ONE), labels(state, TWO)) == ({"Pt41"}, {"Pt30"})
    now = state.analysis(TWO).parameters["session"]
    assert "prior" not in before and now["prior"]["log_sd"] > 0.15
    updated(dock)
    assert "same instrument as morning" in {row.name: row for row in dock.model.rows}[ONE].session
    choices = Choices(excel=False, latex=False, figures=False)
    write_all(snapshot(state), tmp_path / "out", choices)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "evening: intensity of one atom" in page


def test_one_image_is_labelled_by_what_the_session_knows(
    opened, viewer, qtbot, settle, enter_known, told
):
    state = opened.state
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    qtbot.waitUntil(analyse.isVisible)
    for image, kinds in ((MIX, set(CLASSES)), (ONE, {"Pt41"})):
        click_row(opened, state.images.index(image))
        settle(viewer)
        qtbot.mouseClick(analyse.button, LEFT)
        settle(viewer)
        assert labels(state, image) == kinds
    assert state.analysis(MIX).scale.weight.size > 1  # only the new image has changed
    # Classify does the same, and not if the switch is off.
    classify = Classify(viewer)
    viewer.window.add_dock_widget(classify, name="Classify")
    for together in (False, True):
        opened.together.setChecked(together)
        qtbot.mouseClick(classify.step.button, LEFT)
        settle(viewer)
        assert (labels(state, ONE) == {"Pt41"}) is together


def test_a_session_has_one_note_also_if_one_image_is_analysed_again(
    opened, analyse_all, morning, viewer, qtbot, settle
):
    state = analyse_all().state
    binding = binding_of(viewer)
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    qtbot.waitUntil(analyse.isVisible)

    def records():
        own = ("unlike_the_others", "draws", "known_sample")
        found = [state.analysis(image).parameters["session"] for image in (MIX, ONE, TWO)]
        return [{k: v for k, v in record.items() if k not in own} for record in found]

    before = records()
    assert before == [before[0]] * 3
    click_row(opened, state.images.index(MIX))
    settle(viewer)
    limit = float(np.median(state.table(MIX)["diameter_nm"]))
    analyse.form.controls["diameter_max_nm"].setValue(limit)  # larger clusters are left out
    qtbot.mouseClick(analyse.button, LEFT)
    settle(viewer)
    after = records()
    assert after == [after[0]] * 3 and after != before
    # One step, of the image that was analysed.
    assert steps(state)[-1] == f"analyse {MIX}" and state.history[-1].images == (MIX,)
    for expected, edit in ((before, binding.edits.undo), (after, binding.edits.redo)):
        edit()
        settle(viewer)
        assert records() == expected
    # Classify does the same.
    classify = Classify(viewer)
    viewer.window.add_dock_widget(classify, name="Classify")
    state.clusters.remove([(MIX, int(i)) for i in state.table(MIX)["cluster_id"][:5]])
    qtbot.mouseClick(classify.step.button, LEFT)
    settle(viewer)
    last = records()
    assert last == [last[0]] * 3 and last != after
    opened.projects.leave(stops_work=True)
    settle(viewer)
    opened.open(str(morning))
    settle(viewer)
    assert records() == last


def test_pieces_that_a_new_analysis_keeps_count_also_in_an_image_that_is_not_shown(
    analyse_all, viewer, settle, qtbot, monkeypatch
):
    state = analyse_all().state
    assert state.current != TWO and not any(TWO in layer.name for layer in viewer.layers)
    new = split(state, TWO)
    settle(viewer)

    def of_pieces() -> list[str]:
        table = state.table(TWO).set_index("cluster_id")
        return table.loc[new, "label_predicted"].tolist()

    assert "" not in of_pieces()
    monkeypatch.setattr(QMessageBox, "question", lambda *a: QMessageBox.StandardButton.Yes)
    analyse_all()
    assert steps(state)[-1] == "analyse 3 images" and len(state.table(TWO)) == N_CLUSTERS + 1
    assert "" not in of_pieces()


@pytest.fixture
def edited(analyse_all, viewer, settle, monkeypatch):
    """Images of which clusters were deleted, split, merged and added after *Analyse all*."""
    state = analyse_all().state
    table = state.table(MIX)
    others = table["cluster_id"][~table["label"].isin(["Pt41", "Pt55"])]
    state.clusters.remove([(MIX, int(i)) for i in others])
    table = state.table(TWO)
    pair = table["cluster_id"][(table["y_px"] < 80) & (table["x_px"] < 160)]
    between = np.array([40.0, 80.0]) - table[["y_px", "x_px"]].to_numpy()[0]
    around = np.array([[30.0, 30.0], [30.0, 130.0], [50.0, 130.0], [50.0, 30.0]])
    merged, _ = shifted(state, TWO, [between])
    state.clusters.replace(TWO, pair.tolist(), merged, [around], "merge")
    split(state, TWO)
    removed = int(state.table(ONE)["cluster_id"].iloc[0])
    table, outlines = shifted(state, ONE, [(1.0, 1.0), (40.0, 40.0)])
    state.clusters.remove([(ONE, removed)])
    state.clusters.add(ONE, table, outlines)
    settle(viewer)
    monkeypatch.setattr(QMessageBox, "question", lambda *a: QMessageBox.StandardButton.Yes)
    return state


def shown(state) -> dict[str, tuple[list[int], list[str], float]]:
    """Return numbers, labels and intensity of one atom of each image."""
    found = {}
    for image in state.images:
        table = state.table(image)
        unit = round(state.analysis(image).scale.intensity_per_atom, 1)
        found[image] = table["cluster_id"].tolist(), table["label"].tolist(), unit
    return found


@pytest.mark.parametrize("place", ["", "2"])
def test_clusters_count_as_a_person_has_edited_them_whatever_labels_the_session(
    edited, analyse_all, label_again, opened, elsewhere, place
):
    before = shown(edited)
    label_again()
    labelled = shown(edited)
    assert labelled != before
    opened.place.setText(place)
    analyse_all()
    assert steps(edited)[-1] == "analyse 3 images" and len(elsewhere) == bool(place)
    assert shown(edited) == labelled
    label_again()
    assert "3 images, no scale changed" in opened.session_labels.message
    assert shown(edited) == labelled


@pytest.mark.parametrize("together", [True, False])
def test_a_new_analysis_of_an_edited_image_labels_it_as_classify_does(
    edited, opened, viewer, qtbot, settle, together
):
    """Alone and in its session."""
    opened.together.setChecked(together)
    click_row(opened, edited.images.index(MIX))
    settle(viewer)
    found = []
    analyse, classify = Analyse(viewer), Classify(viewer)
    for dock, button in ((analyse, analyse.button), (classify, classify.step.button)):
        viewer.window.add_dock_widget(dock, name=type(dock).__name__)
        qtbot.waitUntil(dock.isVisible)
        qtbot.mouseClick(button, LEFT)
        settle(viewer)
        found.append((shown(edited)[MIX], edited.analysis(MIX).scale.weight.round(6).tolist()))
    assert steps(edited)[-2:] == [f"analyse {MIX}", f"classify {MIX}"]
    assert found[0] == found[1]


def test_clusters_that_are_deleted_while_all_images_are_analysed_do_not_count(
    analyse_all, label_again, opened, hold_at, viewer, qtbot, settle, monkeypatch
):
    state = analyse_all().state
    monkeypatch.setattr(QMessageBox, "question", lambda *a: QMessageBox.StandardButton.Yes)
    waiting, go_on = hold_at(3)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(waiting.is_set)
    table = state.table(MIX)
    others = table["cluster_id"][~table["label"].isin(["Pt41", "Pt55"])]
    state.clusters.remove([(MIX, int(i)) for i in others])
    go_on.set()
    qtbot.waitUntil(lambda: steps(state)[-1] == "analyse 3 images", timeout=20_000)
    settle(viewer)
    found = shown(state)
    label_again()
    assert "3 images, no scale changed" in opened.session_labels.message
    assert shown(state) == found


def test_labelling_is_cancelled(analyse_all, opened, viewer, qtbot, settle, monkeypatch, told):
    state = analyse_all(together=False).state
    before = state.table(ONE)
    begun = threading.Event()

    def label(sessions, progress=None, stop=None):
        begun.set()
        while not stop():
            pass
        raise Cancelled

    monkeypatch.setattr(session_labels, "label_sessions", label)
    opened.label_action.trigger()
    assert begun.wait(10)
    qtbot.waitUntil(workbench_bar(viewer).task.cancel_button.isVisible)
    assert not opened.analyse_button.isEnabled() and not opened.label_action.isEnabled()
    click_cancel(viewer)
    settle(viewer)
    assert state.table(ONE) is before and steps(state) == [] and told == []
    updated(opened)
    assert opened.label_action.isEnabled()


def test_a_reopened_project_is_labelled_from_its_files(
    analyse_all, opened, morning, viewer, qtbot, settle, label_again
):
    analyse_all(together=False)
    opened.projects.leave(stops_work=True)
    settle(viewer)
    opened.open(str(morning))
    qtbot.waitUntil(lambda: opened.state.project is not None, timeout=10_000)
    settle(viewer)
    label_again()
    assert labels(opened.state, ONE) == {"Pt41"} and steps(opened.state) == [JOINT]


def test_the_dock_classify_shows_the_intensity_of_one_atom(
    analyse_all, enter_known, viewer, qtbot, settle
):
    dock = Classify(viewer)
    viewer.window.add_dock_widget(dock, name="Classify", area="right")
    qtbot.waitUntil(dock.isVisible)
    assert not dock.intensity.isVisible()
    state = analyse_all(together=False).state
    state.current = ONE
    settle(viewer)
    view = updated(dock).intensity.view
    certainty = state.analysis(ONE).scale.certainty
    assert f"counts nm² ({100 * certainty:.0f} %)" in dock.intensity.button.text()
    qtbot.mouseClick(dock.intensity.button, LEFT)
    settle(viewer)
    qtbot.waitUntil(lambda: view.chart.isVisible() and view.chart.figure is not None)
    assert view.image_text.text().count("%") == 4  # all solutions, with weights
    text = view.session_text.text()
    assert text.startswith("Session morning, 3 images: 4.") and "Known" not in text
    enter_known(TWO, "Pt30")
    qtbot.waitUntil(lambda: "Known: two.tif (Pt30)" in view.session_text.text())
    qtbot.waitUntil(lambda: view.chart.figure is not None)
    titles = [axes.get_title(loc="left") for axes in view.chart.figure.axes]
    assert any("known sample" in title for title in titles)
    assert view.chart.accessibleDescription() == view.session_text.text()
    # What each source tells, and the sizes with the peaks.
    named = [text.get_text() for text in view.chart.figure.axes[1].texts][::-1]
    assert named == ["intensities", "intensities and sizes", "known samples"]
    qtbot.waitUntil(lambda: view.sizes.isVisible() and view.sizes.figure is not None)
    assert view.sizes.accessibleDescription().startswith("The sizes agree")
    analysis = state.analysis(state.current)
    nothing = unknown_scale(analysis.scale.reference)
    state.clusters.set_analysis(replace(analysis, scale=nothing))
    settle(viewer)
    assert updated(dock).intensity.button.text() == "One atom: not known"
    assert "no cluster of the session is whole" in view.image_text.text()
    assert not view.chart.isVisible()


def test_an_image_without_clusters_has_no_intensity_of_one_atom(analyse_all, viewer, qtbot, settle):
    dock = Classify(viewer)
    viewer.window.add_dock_widget(dock, name="Classify", area="right")
    state = analyse_all().state
    found = state.analysis(TWO)
    none = replace(
        found, table=found.table[:0], outlines=[], patches={}, embedding=found.embedding[:0]
    )
    state.clusters.set_analysis(none, undoable=False)
    state.current = TWO
    settle(viewer)
    assert not updated(dock).intensity.isVisible()
    view = updated(dock).intensity.view
    view.refresh()
    settle(viewer)
    assert not view.session_text.text()


def test_an_image_that_does_not_fit_and_one_alone_are_named(
    opened, model, morning, analyse_all, viewer, qtbot, settle, monkeypatch
):
    write_clusters(morning / "other.tif", CLASSES, seed=7, unit=300.0)
    opened.projects.add([str(morning / "other.tif")])
    settle(viewer)
    state = analyse_all().state
    dock = Classify(viewer)
    viewer.window.add_dock_widget(dock, name="Classify", area="right")
    qtbot.waitUntil(dock.isVisible)
    dock.intensity.button.click()
    state.current = "other.tif"
    settle(viewer)
    view = updated(dock).intensity.view
    qtbot.waitUntil(lambda: "other.tif does not fit" in view.session_text.text())
    state.sessions.group(["other.tif"], "evening")
    settle(viewer)
    qtbot.waitUntil(lambda: "No other image of session evening" in view.session_text.text())
    assert not view.chart.isVisible()
    # A model with apparent sizes tests also one image.
    sizes = ApparentSize.from_diameters(model.card.scale)
    monkeypatch.setattr(model, "card", replace(model.card, apparent_size=sizes))
    view.refresh()
    qtbot.waitUntil(view.chart.isVisible)
    text = view.session_text.text()
    assert text.startswith("Session evening, 1 image: ") and "images differ" not in text


def test_a_second_run_changes_all_labels_of_a_session_at_once_or_none(
    analyse_all, opened, hold_at, viewer, qtbot, settle, monkeypatch
):
    state = analyse_all().state
    before = {name: state.table(name) for name in (MIX, ONE, TWO)}
    monkeypatch.setattr(QMessageBox, "question", lambda *a: QMessageBox.StandardButton.Yes)
    waiting, go_on = hold_at(2)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(waiting.is_set)
    assert all(state.table(name) is table for name, table in before.items())
    click_cancel(viewer)
    go_on.set()
    settle(viewer)
    assert all(state.table(name) is table for name, table in before.items())
    assert steps(state) == []
    # Not cancelled, results and labels are one step. How many labels changed is said.
    analysis = state.analysis(TWO)
    other = analysis.table["label_predicted"].where(analysis.table.index > 0, "Pt70")
    table = tables.settle_labels(analysis.table.assign(label_predicted=other))
    state.clusters.set_analysis(replace(analysis, table=table))
    before[TWO] = state.table(TWO)
    updated(opened)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: len(state.history) > 1, timeout=20_000)
    settle(viewer)
    assert steps(state)[1:] == ["analyse 3 images"]
    told = "3 images labelled jointly, 1 label changed."
    assert told in updated(opened).notes.text()
    assert (labels(state, ONE), labels(state, TWO)) == ({"Pt41"}, {"Pt30"})
    binding_of(viewer).edits.undo()
    settle(viewer)
    assert all(state.table(name).equals(table) for name, table in before.items())


def test_first_results_of_a_cancelled_run_are_labelled_with_their_session(
    opened, hold_at, viewer, qtbot, settle
):
    state = opened.state
    waiting, go_on = hold_at(3)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(waiting.is_set)
    click_cancel(viewer)
    go_on.set()
    settle(viewer)
    assert state.analysis(TWO) is None and steps(state) == []
    assert (labels(state, MIX), labels(state, ONE)) == (set(CLASSES), {"Pt41"})
