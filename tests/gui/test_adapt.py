"""The dock Adapt, as a person uses it: press, look before and after, go back, save."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from bar import click_cancel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QWidget
from synthetic import made_up

from napari_atomicity import load
from napari_atomicity.core.tables.cluster_table import settle_labels
from napari_atomicity.gui.controls.settings import settings
from napari_atomicity.gui.docks.adapt.dock import AFTER, BEFORE, MIN_CLUSTERS, Adapt, free_name
from napari_atomicity.gui.docks.analyse import Classify
from napari_atomicity.gui.panels.session_labels import TOGETHER, session_labels_of
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.viewer.models import card_of, classifier_of
from napari_atomicity.gui.workbench.window import show_analysis
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.models.files import read_model, user_folder
from napari_atomicity.pipeline.adaptation import runs
from napari_atomicity.pipeline.adaptation.fine_tuning import MIN_PSEUDO_LABELS
from napari_atomicity.pipeline.adaptation.settings import AdaptSettings
from napari_atomicity.pipeline.adaptation.text import format_shift
from napari_atomicity.pipeline.analysis import analyse, classify_clusters
from napari_atomicity.project import Project
from napari_atomicity.state.analysis_store import with_predictions
from napari_atomicity.state.window_state import TaskState


@pytest.fixture(autouse=True)
def own_models(adaptable, tmp_path, monkeypatch):
    """A folder of models of one's own, with one that can be adapted."""
    folder = tmp_path / "models"
    folder.mkdir()
    for suffix in (".safetensors", ".json"):
        shutil.copy(adaptable[0].with_suffix(suffix), folder)
    monkeypatch.setenv("ATOMICITY_MODELS", str(folder))


@pytest.fixture(autouse=True)
def quick(quick_adaptation):
    pass


@pytest.fixture(scope="module")
def analysed(adaptable) -> Analysis:
    """The image as the model sees it, without places in the map."""
    model, image = adaptable
    return analyse(load(image, name="field"), str(model), "cpu", umap=False)


@pytest.fixture
def dock(viewer):
    widget = Adapt(viewer)
    viewer.window.add_dock_widget(widget, name="Adapt", add_vertical_stretch=False)
    widget.device.setCurrentText("CPU")
    widget.models.setCurrentText("tiny")
    return widget


@pytest.fixture
def press(qtbot, settle):
    """Click a button, and wait until all that follows is done."""

    def click(dock: Adapt, button: QWidget) -> None:
        assert button.isEnabled()
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
        settle(dock.binding.viewer, 60_000)
        QApplication.processEvents()

    return click


def ids(dock, image="field") -> set[str]:
    return set(dock.state.table(image)["model_id"])


def places(dock) -> np.ndarray:
    return dock.state.table("field")[["umap_1", "umap_2"]].to_numpy()


# ---- before there is anything
def test_what_is_missing_is_explained(dock, viewer, analysed, settle):
    assert "Analyse an image first" in dock.hint.text()
    assert not dock.button.isEnabled() and not dock.panel.isVisibleTo(dock)
    dock.state.clusters.set_analysis(made_up(4, "few"))
    QApplication.processEvents()
    assert "4 clusters are too few" in dock.hint.text() and not dock.button.isEnabled()
    show_analysis(viewer, analysed)
    settle(viewer)
    dock.state.current = "field"
    QApplication.processEvents()
    assert f"{len(analysed.table)} clusters in 1 image. No labels" in dock.hint.text()
    assert dock.button.isEnabled()
    whole = analysed.table[~analysed.table["touches_border"]]
    ids = whole["cluster_id"].astype(int).tolist()
    dock.state.clusters.relabel([("field", ids[0])], "Pt70")
    QApplication.processEvents()
    assert "; 1 corrected label counts as certain" in dock.hint.text()
    dock.state.clusters.relabel([("field", ids[1])], "unknown")
    QApplication.processEvents()
    assert "; 1 corrected label" in dock.hint.text()
    dock.state.clusters.relabel([("field", ids[2])], "Au20")
    QApplication.processEvents()
    assert "1 corrected label not of its classes, not used" in dock.hint.text()
    y, x = whole.iloc[0][["y_px", "x_px"]].to_numpy(float)
    corners = np.array([[y - 5, x - 5], [y - 5, x + 5], [y + 5, x + 5], [y + 5, x - 5]])
    dock.state.clusters.set_regions("field", [corners])
    QApplication.processEvents()
    assert "1 corrected label at the border, excluded or without a size" in dock.hint.text()
    assert "label counts as certain" not in dock.hint.text()
    dock.state.clusters.set_regions("field", [])
    QApplication.processEvents()
    dock.images.setCurrentText("all images")
    QApplication.processEvents()
    assert f"{len(analysed.table) + 4} clusters in 2 images" in dock.hint.text()
    assert MIN_CLUSTERS == MIN_PSEUDO_LABELS


def test_the_model_to_adapt_is_not_chosen_for_analyses(dock, viewer):
    other = Classify(viewer)
    viewer.window.add_dock_widget(other, name="Classify", add_vertical_stretch=False)
    assert dock.models.model == "tiny" and other.models.model == "default"
    assert Classify(viewer).models.model == "default"  # as after a restart
    other.models.setCurrentText("pt-raw")
    assert dock.models.model == Adapt(viewer).models.model == "pt-raw"


# ---- what it does
def test_one_click_adapts_and_one_goes_back_and_forth(dock, viewer, analysed, press, settle):
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    found = dock.result.found
    assert found.accepted and dock.panel.isVisibleTo(dock)
    old, new = analysed.table["model_id"].iloc[0], found.card.model_id
    assert found.card.name == "tiny-adapted-1"
    assert ids(dock) == {new} and dock.sides[AFTER].isChecked()
    assert dock.state.history[-1].description == "adapt field"
    assert all(chart.width() > 0.8 * dock.panel.width() for chart in dock.charts)  # long bars
    after = dock.state.table("field")
    np.testing.assert_allclose(places(dock), found.after[0].embedding[:, :2], rtol=1e-6)

    corrected = int(after["cluster_id"].iloc[3])
    dock.state.clusters.relabel([("field", corrected)], "Pt19")
    press(dock, dock.sides[BEFORE])
    QApplication.processEvents()
    assert ids(dock) == {old}
    assert dock.sides[BEFORE].isChecked() and not dock.sides[AFTER].isChecked()
    before = dock.state.table("field")
    assert before["label_predicted"].tolist() == analysed.table["label_predicted"].tolist()
    assert before["label_corrected"].iloc[3] == "Pt19"
    np.testing.assert_allclose(places(dock), analysed.embedding[:, :2], rtol=1e-6)
    assert not np.allclose(before["confidence"], after["confidence"])

    press(dock, dock.sides[AFTER])
    assert ids(dock) == {new}
    dock.state.history.undo()
    QApplication.processEvents()
    assert ids(dock) == {old} and dock.sides[BEFORE].isChecked()
    dock.state.history.redo()
    QApplication.processEvents()
    assert ids(dock) == {new} and dock.sides[AFTER].isChecked()


def test_the_panel_says_what_changed(dock, viewer, analysed, press, settle):
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    result = dock.result
    assert dock.of_images.text() == "Result of field, ratios as counted"
    assert dock.verdict.text().startswith("Accepted: ")
    assert dock.shift.text() == format_shift(result.found.shift)
    for name, n in result.found.pseudo_labels.items():
        assert f"{n} {name}" in dock.learnt.text()
    assert "right on clusters of the training: " in dock.checks.text()
    for which, side in ((BEFORE, result.found.before), (AFTER, result.found.after)):
        bars = {b.label: b.value for b in dock.charts[which].bars}
        assert list(bars) == ["Pt19", "Pt70"]
        whole = side[0].table[~side[0].table["touches_border"]]
        counts = whole["label"].value_counts()
        assert bars["Pt19"] == pytest.approx(counts["Pt19"] / (counts["Pt19"] + counts["Pt70"]))
        of_class = side[0].table["label_predicted"].isin(["Pt19", "Pt70"])
        mean = side[0].table["confidence"][of_class].mean()
        assert dock.confidences[which].text() == f"confidence {mean:.2f}"
    assert "largest share of a class by the network alone: " in dock.checks.text()
    # What is shown stays that of one set of labels, and says so.
    assert not dock.edited.isVisibleTo(dock)
    table = dock.state.table("field")
    labelled = [("field", int(i)) for i in table["cluster_id"][:3]]
    dock.state.clusters.relabel(labelled[:2], "Pt70")
    dock.state.clusters.remove(labelled[2:])
    settle(viewer)
    assert "are of the labels at the adaptation" in dock.edited.text()
    assert "3 clusters have changed" in dock.edited.text() and dock.edited.isVisibleTo(dock)
    press(dock, dock.sides[BEFORE])
    assert "3 clusters have changed" in dock.edited.text()
    for _ in range(3):
        dock.state.history.undo()
    settle(viewer)
    assert not dock.edited.isVisibleTo(dock)


def test_pseudo_labels_by_diameter_can_be_chosen(dock, viewer, analysed, press, settle):
    show_analysis(viewer, analysed)
    settle(viewer)
    dock.pseudo_labels.setCurrentIndex(dock.pseudo_labels.findData("diameter"))
    press(dock, dock.button)
    assert dock.result.found.method == "diameter"
    assert "whose class is right with at least 90 %: Pt19 " in dock.learnt.text()


def test_what_came_of_it_is_in_sight_in_a_low_dock(
    make_napari_viewer, analysed, press, settle, qtbot
):
    viewer = make_napari_viewer(show=True)
    dock = Adapt(viewer)
    dock.setFixedHeight(250)
    viewer.window.add_dock_widget(dock, name="Adapt", add_vertical_stretch=False)
    dock.models.setCurrentText("tiny")
    show_analysis(viewer, analysed)
    settle(viewer)
    assert dock.scroll_area.verticalScrollBar().value() == 0
    press(dock, dock.button)
    qtbot.waitUntil(lambda: dock.scroll_area.verticalScrollBar().value() == dock.panel.y() > 0)


def test_what_contradicts_itself_is_rolled_back_and_nothing_changes(
    dock, viewer, analysed, press, settle
):
    show_analysis(viewer, analysed)
    settle(viewer)
    rng = np.random.default_rng(1)
    for i in analysed.table["cluster_id"]:
        dock.state.clusters.relabel([("field", int(i))], rng.choice(["Pt19", "Pt70"]))
    whole = ~analysed.table["touches_border"]
    generation = dock.state.generation("field")
    press(dock, dock.button)
    assert dock.verdict.text().startswith("Rolled back, the model stays what it was: ")
    assert f"{whole.sum()} of them corrected by a person" in dock.learnt.text()
    assert dock.state.generation("field") == generation
    assert not dock.save_button.isVisibleTo(dock)
    assert not any(side.isVisibleTo(dock) for side in dock.sides)
    assert dock.charts[BEFORE].isVisibleTo(dock) and not dock.charts[AFTER].isVisibleTo(dock)


def test_all_images_are_changed_but_not_those_that_went_meanwhile(
    dock, viewer, analysed, press, settle, qtbot
):
    for name in ("field", "other", "gone"):
        micrograph = replace(analysed.micrograph, name=name)
        table = analysed.table.assign(image=name)
        show_analysis(viewer, replace(analysed, micrograph=micrograph, table=table))
    settle(viewer)
    dock.images.setCurrentText("all images")
    qtbot.waitUntil(lambda: "3 images" in dock.hint.text() and dock.button.isEnabled())
    qtbot.mouseClick(dock.button, Qt.MouseButton.LeftButton)
    viewer.layers.remove("gone")
    settle(viewer, 60_000)
    new = dock.result.found.card.model_id
    qtbot.waitUntil(lambda: ids(dock, "field") == ids(dock, "other") == {new})
    assert "gone" not in dock.state.images
    press(dock, dock.sides[BEFORE])
    assert new not in ids(dock, "field") | ids(dock, "other")


def test_labelling_the_session_again_changes_nothing_after_an_adaptation(
    dock, viewer, analysed, press, settle
):
    """Its labels are those of the session, with its known samples."""
    state, names = dock.state, ("field", "other", "third")
    for name in names:
        micrograph = replace(analysed.micrograph, name=name)
        table = analysed.table.assign(image=name)
        show_analysis(viewer, replace(analysed, micrograph=micrograph, table=table))
    settle(viewer)
    again = session_labels_of(dock.binding)
    again.remember()
    state.sessions.set_known(["field"], {"Pt19": 1.0, "Pt70": 1.0})
    state.sessions.group(["third"], "evening")
    settle(viewer)
    dock.images.setCurrentText("all images")
    settle(viewer)
    press(dock, dock.button)
    assert {*ids(dock), *ids(dock, "third")} == {dock.result.found.card.model_id}
    told = [state.analysis(name).parameters.get("session") for name in names]
    assert "known_sample" in told[0] and told[1]["images"] == 2 and told[2] is None
    labelled = [state.table(name) for name in names]
    again.start(names)
    settle(viewer)
    assert "no scale changed" in again.message
    for name, session, before in zip(names, told, labelled, strict=True):
        assert state.analysis(name).parameters.get("session") == session
        assert state.table(name).equals(before)


def test_images_that_are_labelled_alone_stay_alone_after_an_adaptation(
    dock, viewer, analysed, press, settle
):
    """Their labels are those of a new analysis with the adapted model."""
    state, names = dock.state, ("field", "other")
    for name in names:
        micrograph = replace(analysed.micrograph, name=name)
        table = analysed.table.assign(image=name)
        told = {**analysed.parameters, "session": {"images": 2}}  # labelled jointly before
        show_analysis(
            viewer, replace(analysed, micrograph=micrograph, table=table, parameters=told)
        )
    settle(viewer)
    settings().setValue(TOGETHER, "false")
    dock.images.setCurrentText("all images")
    settle(viewer)
    press(dock, dock.button)
    adapted = dock.result.classifier
    for name in names:
        found = state.analysis(name)
        assert set(found.table["model_id"]) == {adapted.card.model_id}
        alone = classify_clusters(found, adapted)
        assert "session" not in found.parameters and "session" not in alone.parameters
        np.testing.assert_allclose(found.table["confidence"], alone.table["confidence"], rtol=1e-4)


def test_it_learns_from_one_of_several_sessions(dock, viewer, analysed, press, settle):
    state, names = dock.state, ("field", "other", "third")

    def offered() -> list[str]:
        settle(viewer)
        return [dock.images.itemText(i) for i in range(dock.images.count())]

    for name in names:
        micrograph = replace(analysed.micrograph, name=name)
        table = analysed.table.assign(image=name)
        show_analysis(viewer, replace(analysed, micrograph=micrograph, table=table))
    assert offered() == ["this image", "all images"]
    state.sessions.group(["third"], "evening")
    state.current = "third"
    assert offered() == ["this image", "this session (evening)", "all images"]
    dock.images.setCurrentIndex(1)
    settle(viewer)
    assert f"{len(analysed.table)} clusters in 1 image. No labels" in dock.hint.text()
    state.sessions.group(["field", "other"], "a morning with a long description")
    state.current = "field"
    assert offered()[1] == dock.images.currentText() == "this session"
    n = 2 * len(analysed.table)
    long = "2 images of session a morning with a long description"
    assert f"{n} clusters in {long}. No labels" in dock.hint.text()
    press(dock, dock.button)
    new = dock.result.found.card.model_id
    assert ids(dock, "field") == ids(dock, "other") == {new} and new not in ids(dock, "third")
    assert state.history[-1].description == "adapt 2 images"
    # The result says of which images it is, also after others are chosen.
    assert dock.of_images.text() == f"Result of {long}, ratios as counted"
    dock.images.setCurrentIndex(0)
    settle(viewer)
    assert dock.of_images.isVisibleTo(dock)
    assert dock.of_images.text() == f"Result of {long}, ratios as counted"
    # With one session, these are all images.
    dock.images.setCurrentIndex(1)
    state.sessions.group(names, "evening")
    assert offered() == ["this image", "all images"]
    assert dock.images.currentText() == "all images"
    assert f"{3 * len(analysed.table)} clusters in 3 images. No labels" in dock.hint.text()


def test_images_change_together_also_if_one_undoes_at_once(
    dock, viewer, analysed, press, settle, qtbot
):
    names = ("field", "other")
    for name in names:
        micrograph = replace(analysed.micrograph, name=name)
        show_analysis(
            viewer,
            replace(analysed, micrograph=micrograph, table=analysed.table.assign(image=name)),
        )
    settle(viewer)
    dock.images.setCurrentText("all images")
    qtbot.waitUntil(lambda: "2 images" in dock.hint.text() and dock.button.isEnabled())
    press(dock, dock.button)
    new = dock.result.found.card.model_id
    assert [ids(dock, name) for name in names] == [{new}, {new}]
    qtbot.mouseClick(dock.sides[BEFORE], Qt.MouseButton.LeftButton)
    dock.binding.edits.undo()
    settle(viewer)
    assert [ids(dock, name) for name in names] == [{new}, {new}]
    dock.binding.edits.undo()
    settle(viewer)
    assert new not in ids(dock, "field") | ids(dock, "other")


def test_cancel_stops_it_and_nothing_changes(
    dock, viewer, analysed, settle, qtbot, monkeypatch, errors
):
    endless = partial(AdaptSettings, steps=10**6)
    monkeypatch.setattr(runs, "AdaptSettings", endless)
    show_analysis(viewer, analysed)
    settle(viewer)
    generation = dock.state.generation("field")
    qtbot.mouseClick(dock.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: dock.state.status.total == 10**6, timeout=60_000)
    line = workbench_bar(viewer).task
    qtbot.waitUntil(lambda: " left" in line.message.message, timeout=60_000)
    assert line.message.isVisible() and line.bar.isVisible()
    assert not dock.button.isEnabled()
    click_cancel(viewer)
    settle(viewer)
    assert dock.state.status.state is TaskState.STOPPED
    assert dock.result is None and dock.state.generation("field") == generation
    assert dock.button.isEnabled() and not errors


def test_a_model_that_cannot_be_adapted_is_said(
    dock, viewer, analysed, press, settle, errors, tiny_model
):
    for suffix in (".safetensors", ".json"):
        shutil.copy(tiny_model.with_suffix(suffix), user_folder())
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    assert "no patches of its training to replay" in errors[-1]
    assert dock.state.status.state is TaskState.FAILED and not dock.panel.isVisibleTo(dock)


def test_clusters_that_come_later_are_shown_to_the_adapted_model(
    dock, viewer, analysed, press, settle
):
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    layer = dock.binding.canvas.layer("field", "clusters")
    layer.add(np.array([[300.0, 300.0]]))
    settle(viewer)
    row = dock.state.table("field").iloc[-1]
    assert row["model_id"] == dock.result.found.card.model_id and row["label_predicted"]
    assert classifier_of(dock.state.analysis("field")).card.name == "tiny-adapted-1"
    assert card_of(dock.state.table()) is dock.result.classifier.card  # ratios can be adjusted


# ---- keeping it
def name_given(monkeypatch, name, wanted=True) -> list[str]:
    offered = []

    def get_text(*arguments):
        offered.append(arguments[-1])
        return name or offered[-1], wanted

    monkeypatch.setattr("napari_atomicity.gui.docks.adapt.dock.QInputDialog.getText", get_text)
    return offered


@pytest.mark.parametrize("name", ["", "my session"])
def test_the_adapted_model_is_saved_and_listed_by_other_docks(
    dock, viewer, analysed, press, settle, monkeypatch, name, tmp_path
):
    other = Classify(viewer)
    viewer.window.add_dock_widget(other, name="Classify", add_vertical_stretch=False)
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    offered = name_given(monkeypatch, name)
    press(dock, dock.save_button)
    assert offered == ["tiny-adapted-1"]
    wanted = name or "tiny-adapted-1"
    card, _ = read_model(user_folder() / f"{wanted}.safetensors")
    assert card.name == wanted and ids(dock) == {card.model_id}
    assert other.models.findData(wanted) >= 0
    assert f"Saved as {wanted}" in dock.saved.text()
    assert dock.sides[AFTER].isChecked()
    other.models.setCurrentText(wanted)
    before = dock.state.table("field")
    press(dock, other.step.button)
    after = dock.state.table("field")
    assert after["label_predicted"].tolist() == before["label_predicted"].tolist()
    assert ids(dock) == {card.model_id}


@pytest.mark.parametrize(
    ("undone", "left"), [(False, {"session"}), (True, {"session", "tiny-adapted-1"})]
)
def test_an_accepted_model_stays_in_the_project_while_labels_come_from_it(
    dock, viewer, analysed, press, settle, monkeypatch, tmp_path, undone, left
):
    state, file = dock.state, tmp_path / "p.atomicity"
    state.attach_project(Project(file))
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    stored = state.project.model_files
    assert list(stored.names()) == ["tiny-adapted-1"]
    assert "Kept in the project as tiny-adapted-1" in dock.saved.text()
    name_given(monkeypatch, "session")
    press(dock, dock.save_button)
    assert dock.models.model == "session"  # further images get labels of the same model
    if undone:
        dock.binding.edits.undo()
        assert ids(dock) != {dock.result.found.card.model_id}
    monkeypatch.setattr("napari_atomicity.gui.viewer.projects.may_drop_images", lambda _: True)
    assert dock.binding.projects.leave(stops_work=True)
    project = Project(file)
    assert set(project.model_files.names()) == left
    project.close()


def test_blind_mode_hides_the_result_and_keeps_it(dock, viewer, analysed, press, settle, tmp_path):
    dock.state.attach_project(Project(tmp_path / "p.atomicity"))
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    result = dock.result
    assert result is not None and not dock.panel.isHidden()
    dock.state.set_blind(True)
    settle(viewer)
    assert dock.panel.isHidden()
    dock.state.set_blind(False)
    settle(viewer)
    assert dock.result is result and not dock.panel.isHidden()


def test_models_of_two_projects_have_two_names(dock, viewer, analysed, press, settle, tmp_path):
    """Both are copied to the models of the user when these projects are opened again."""
    show_analysis(viewer, analysed)
    for number in (1, 2):
        dock.state.attach_project(Project(tmp_path / f"{number}.atomicity"))
        settle(viewer)
        press(dock, dock.button)
        settle(viewer)
        assert list(dock.state.project.model_files.names()) == [f"tiny-adapted-{number}"]


def test_a_model_that_is_saved_after_an_image_was_classified_again_keeps_its_other_images(
    dock, viewer, analysed, press, settle, monkeypatch
):
    """The names of the images that still have its labels change, and only theirs."""
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    adapted = dock.result
    dock.show_before()
    name_given(monkeypatch, "session")
    press(dock, dock.save_button)
    assert ids(dock) == {adapted.found.before[0].model_id}
    assert "Further images" not in dock.saved.text()
    dock.show_after()
    settle(viewer)
    assert ids(dock) == {dock.result.found.card.model_id}


def test_saving_a_model_keeps_what_has_changed_since(
    dock, viewer, analysed, press, settle, monkeypatch
):
    """A known sample that was entered since has labelled the session again."""
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    now = dock.state.analysis("field")
    labels = ["Pt70"] * len(now.table)
    table = settle_labels(now.table.assign(label_predicted=labels))
    told = {**now.parameters, "session": {"known_sample": {"used": True}}}
    dock.state.clusters.replace_all_predictions(
        [replace(now, table=table, parameters=told)], "label 1 session jointly"
    )
    name_given(monkeypatch, "session")
    press(dock, dock.save_button)
    assert ids(dock) == {dock.result.found.card.model_id}
    assert dock.state.table("field")["label_predicted"].tolist() == labels
    saved = dock.state.analysis("field").parameters
    assert saved["session"] == told["session"]


def test_a_free_name_is_offered():
    assert free_name("tiny", ["tiny-adapted-1"]) == "tiny-adapted-2"
    assert free_name("default") == "pt-dual-adapted-1"
    (user_folder() / "tiny-adapted-1.safetensors").touch()
    assert free_name("tiny") == free_name("tiny-adapted-1") == "tiny-adapted-2"


@pytest.mark.parametrize(
    ("name", "words"),
    [("tiny", "there is a model 'tiny' already"), ("raw", "already"), ("a/b", "not a valid name")],
)
def test_names_that_cannot_be_are_refused(
    dock, viewer, analysed, press, settle, monkeypatch, errors, name, words
):
    show_analysis(viewer, analysed)
    settle(viewer)
    press(dock, dock.button)
    files = sorted(user_folder().iterdir())
    name_given(monkeypatch, name)
    press(dock, dock.save_button)
    assert words in errors[-1]
    name_given(monkeypatch, "fine", wanted=False)
    press(dock, dock.save_button)
    assert sorted(user_folder().iterdir()) == files


# ---- what it needs of the session
def test_the_scale_comes_with_a_new_classification(analysed):
    bare = replace(analysed, scale=None)
    assert with_predictions(bare, analysed).scale is analysed.scale
