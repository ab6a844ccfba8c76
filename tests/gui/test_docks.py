"""What a person does with the docks Analyse, Detect and Classify."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from bar import click_cancel
from brightness import CLASSES, N_CLUSTERS, PIXEL_NM, blobs
from matplotlib.colors import to_rgb
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_atomicity.core import palette
from napari_atomicity.core.errors import ModelError
from napari_atomicity.core.progress import check
from napari_atomicity.gui.docks.analyse import Analyse, Classify, Corrections, Detect
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.browse.image_list import row_of
from napari_atomicity.gui.docks.live.dock import Live
from napari_atomicity.gui.docks.ratios.table import summary
from napari_atomicity.gui.docks.table import Table
from napari_atomicity.gui.panels.dock_windows import open_docks
from napari_atomicity.gui.panels.forms import ModelCombo
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import calibration, compat
from napari_atomicity.pipeline import analysis as pipeline_analysis
from napari_atomicity.state.window_state import TaskState


@pytest.fixture
def dock(viewer, qtbot):
    """Docks a widget."""

    def add(kind):
        widget = kind(viewer)
        viewer.window.add_dock_widget(widget, name=kind.__name__, add_vertical_stretch=False)
        qtbot.waitUntil(widget.isVisible)
        return widget

    return add


@pytest.fixture
def analysed(viewer, image_layer, model, dock, qtbot, settle):
    """The image after one press of the button."""
    analyse = dock(Analyse)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    return binding_of(viewer)


def press(viewer, *keys: str) -> None:
    """Press keys in the canvas, as napari sees them."""
    handler = viewer.window._qt_viewer.canvas._key_map_handler
    for key in keys:
        handler.press_key(key)


def test_a_selection_in_another_image_is_named(analysed, dock, settle, viewer):
    corrections = dock(Analyse).findChild(Corrections)
    analysed.state.select([("field", 1), ("other", 1), ("other", 2)])
    settle(viewer)
    assert corrections.selected.text() == "3 clusters selected, 2 of them in other images"


def test_replaced_pixels_and_failed_steps_are_named(
    viewer, image_layer, model, dock, qtbot, settle, monkeypatch
):
    def broken(*_):
        raise ValueError("by design")

    monkeypatch.setattr(pipeline_analysis, "embed_clusters", broken)
    pixels = np.array(image_layer.data)
    pixels[5, 5] = 1e7
    image_layer.data = pixels
    analyse = dock(Analyse)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    text = analyse.result.text()
    assert text.startswith(f"{N_CLUSTERS} clusters")
    assert "1 outlier pixel replaced" in text and "Could not compute: map" in text


def test_classes_can_be_averaged_over_the_symmetries(analysed, viewer, dock, qtbot, settle):
    classify = dock(Classify)
    for wanted in (True, False):
        classify.form.controls["symmetries"].setChecked(wanted)
        qtbot.mouseClick(classify.step.button, Qt.MouseButton.LeftButton)
        settle(viewer)
        assert analysed.state.analysis("field").symmetries == wanted
    analysed.edits.undo()
    assert analysed.state.analysis("field").symmetries


def test_analyse_averages_if_asked_and_so_are_maps_of_another_class(
    viewer, image_layer, model, dock, qtbot, settle, monkeypatch
):
    monkeypatch.setattr("napari_atomicity.gui.viewer.overlays.classifier_of", lambda _: model)
    analyse = dock(Analyse)
    analyse.form.controls["symmetries"].setChecked(True)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    state = binding_of(viewer).state
    assert state.analysis("field").symmetries
    model.averaged.clear()
    state.explained_class = "Pt55"
    settle(viewer)
    assert model.averaged == [True]


def test_docks_have_one_set_of_settings(viewer, dock, monkeypatch, model):
    monkeypatch.setattr(
        ModelCombo, "available", lambda _: [("pt-dual", "the usual"), ("trained-1", "another")]
    )
    analyse, browse, classify, detect = dock(Analyse), dock(Browse), dock(Classify), dock(Detect)
    analyse.models.setCurrentIndex(analyse.models.findData("trained-1"))
    for other in (browse, classify):
        assert other.models.model == "trained-1"
    device = classify.form.controls["device"]
    device.setCurrentIndex(device.findData("cpu"))
    classify.form.controls["symmetries"].setChecked(True)
    detect.form.controls["threshold"].setValue(4.5)
    for form in (analyse.form, browse.form):
        found = form.settings()
        assert (found.device, found.symmetries, found.detection.threshold) == ("cpu", True, 4.5)
    browse.form.controls["split_touching"].setChecked(False)
    assert not detect.form.settings().detection.split_touching
    assert dock(Live).form.settings().detection == detect.form.settings().detection


def test_canvas_browse_and_table_say_which_model_made_the_labels(analysed, viewer, dock, model):
    browse, table = dock(Browse), dock(Table)
    QApplication.processEvents()
    name = model.card.model_id
    assert name in compat.text_overlay(viewer).text
    assert name in row_of(analysed.state, None, "field").tooltip
    column = list(table.model.columns).index("model_id")
    assert not table.view.isColumnHidden(column)
    assert table.model.index(0, column).data() == name
    browse.close()


def test_one_press_of_the_button_does_everything(analysed, viewer):
    state = analysed.state
    table = state.table("field")
    assert len(table) == N_CLUSTERS
    assert set(table["label"]) <= set(CLASSES)
    assert table["umap_1"].notna().all()
    assert state.status.state is TaskState.DONE
    assert {"field clusters", "field outlines", "field class map raw", "field class map LCN"} < {
        layer.name for layer in viewer.layers
    }
    assert analysed.label_mode.on
    assert compat.text_overlay(viewer).visible
    assert not state.selection  # a key would label what nobody chose


def test_three_labels_by_key_and_one_taken_back(analysed, viewer):
    state, layer = analysed.state, analysed.canvas.layer("field", "clusters")
    for index, key in ((0, "5"), (1, "1"), (2, "0")):
        layer.selected_data = {index}
        press(viewer, key)
    table = state.table("field")
    assert table["label_corrected"].tolist()[:3] == ["Pt70", "Pt19", "unknown"]
    assert layer.features["label"].tolist()[:3] == ["Pt70", "Pt19", "unknown"]
    press(viewer, "Control-Z")
    assert state.table("field")["label_corrected"].tolist()[:3] == ["Pt70", "Pt19", ""]
    press(viewer, "Control-Shift-Z")
    assert state.table("field")["label_corrected"].tolist()[2] == "unknown"
    layer.selected_data = {0, 1, 2}
    press(viewer, "U")
    assert not state.table("field")["label_corrected"].any()


def test_after_a_label_from_the_list_the_next_key_labels_too(analysed, viewer, dock):
    def first_label() -> str:
        return analysed.state.table("field")["label_corrected"][0]

    labels = dock(Classify).corrections.labels
    analysed.state.select([("field", 1)])
    labels.setCurrentIndex(labels.findData("Pt70"))
    labels.activated.emit(labels.currentIndex())
    assert first_label() == "Pt70" and labels.window().focusWidget() is not labels
    labels.setFocus()
    QTest.keyClick(labels, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert first_label() == "" and labels.currentIndex() == 0


def test_an_aggregate_is_labelled_by_key_and_nothing_else_is_selected(analysed, viewer, dock):
    state, layer = analysed.state, analysed.canvas.layer("field", "clusters")
    classify = dock(Classify)
    assert "A aggregate" in compat.text_overlay(viewer).text
    layer.selected_data = {1}
    press(viewer, "A")
    assert state.table("field")["label_corrected"].tolist().count("aggregate") == 1
    assert set(layer.selected_data) == {1}
    QApplication.processEvents()
    row = next(r for r in classify.legend.rows() if r.text(0) == "aggregate")
    assert (row.text(1), row.text(3)) == ("1", "A")
    state.select(())
    np.testing.assert_allclose(layer.border_color[1, :3], to_rgb(palette.AGGREGATE_COLOUR))
    state.select([("field", 3)])
    classify.corrections.labels.activated.emit(classify.corrections.labels.findData("aggregate"))
    QApplication.processEvents()
    row = next(r for r in classify.legend.rows() if r.text(0) == "aggregate")
    assert row.text(1) == "2"
    assert "not counted: 2 labelled aggregate" in summary(state.table("field"))
    press(viewer, "Control-A")
    assert len(layer.selected_data) == N_CLUSTERS


def test_conditions_that_differ_are_said_beside_the_labels(analysed, dock, viewer, qtbot):
    classify, state = dock(Classify), analysed.state
    assert not classify.conditions.isVisibleTo(classify)
    now = state.analysis("field")
    state.clusters.set_analysis(replace(now, table=now.table.assign(conditions_differ=True)))
    QApplication.processEvents()
    assert classify.conditions.isVisibleTo(classify)
    assert "check with Adapt" in classify.conditions.words.text()
    qtbot.mouseClick(classify.conditions.button, Qt.MouseButton.LeftButton)
    assert not open_docks(viewer)["Adapt"].isHidden()


def test_the_delete_key_deletes_and_one_does_not(analysed, viewer):
    layer = analysed.canvas.layer("field", "clusters")
    layer.selected_data = {3}
    press(viewer, "1")
    assert len(layer.data) == N_CLUSTERS
    press(viewer, "Delete")
    assert len(layer.data) == N_CLUSTERS - 1
    assert len(analysed.state.table("field")) == N_CLUSTERS - 1


def test_out_of_label_mode_napari_has_its_keys_back(analysed, viewer, dock):
    classify = dock(Classify)
    classify.corrections.label_mode.setChecked(False)
    layer = analysed.canvas.layer("field", "clusters")
    assert layer.keymap == {}
    assert layer.mode == "pan_zoom"
    assert not compat.text_overlay(viewer).visible
    layer.selected_data = {0}
    press(viewer, "1")
    assert len(layer.data) == N_CLUSTERS - 1
    assert len(analysed.state.table("field")) == N_CLUSTERS - 1


def test_a_key_without_a_selection_changes_nothing(analysed, viewer):
    before = tuple(analysed.state.history)
    analysed.state.select(())
    press(viewer, "3", "Delete", "U")
    assert tuple(analysed.state.history) == before
    assert "Select" in viewer.status
    analysed.state.select([("field", 1)])
    press(viewer, "9")
    assert tuple(analysed.state.history) == before
    assert "No class has the key 9: 1 Pt19" in viewer.status


def test_next_goes_from_the_least_certain_to_the_next(analysed, viewer):
    order = analysed.state.table("field").sort_values("confidence", kind="stable")
    ids = order["cluster_id"].tolist()
    analysed.state.select(())
    for expected in ids[:3]:
        press(viewer, "N")
        assert analysed.state.selection == {("field", expected)}


def test_the_legend_counts_selects_and_hides(analysed, dock):
    classify = dock(Classify)
    table = analysed.state.table("field")
    rows = {row.text(0): row for row in classify.legend.rows()}
    assert {name: int(rows[name].text(1)) for name in CLASSES} == {
        name: int((table["label"] == name).sum()) for name in CLASSES
    }
    classify.legend.tree.itemClicked.emit(rows["Pt70"], 0)
    ids = table.loc[table["label"] == "Pt70", "cluster_id"]
    assert analysed.state.selection == {("field", i) for i in ids}
    rows["Pt70"].setCheckState(0, Qt.CheckState.Unchecked)
    assert analysed.clusters.hidden == {"Pt70"}
    assert (analysed.canvas.layer("field", "clusters").shown == (table["label"] != "Pt70")).all()
    # Clusters in excluded regions do not count, here as elsewhere.
    triangle = np.array([[-1, -1], [-1, 999], [999, 999.0]])
    analysed.state.clusters.set_regions("field", (triangle,))
    counted = analysed.state.table("field").query("~excluded")
    assert 0 < len(counted) < len(table)
    classify.legend.refresh_now()
    assert {name: int(rows[name].text(1)) for name in CLASSES} == {
        name: int((counted["label"] == name).sum()) for name in CLASSES
    }


def test_label_by_menu_and_undo_by_button(analysed, viewer, dock, qtbot):
    classify = dock(Classify)
    analysed.state.select([("field", 4)])
    classify.corrections.labels.activated.emit(classify.corrections.labels.findData("Pt30"))
    row = analysed.state.table("field").set_index("cluster_id").loc[4]
    assert row["label_corrected"] == "Pt30"
    buttons = workbench_bar(viewer).history
    qtbot.waitUntil(lambda: "label 1 cluster Pt30" in buttons.undo.toolTip())
    qtbot.mouseClick(buttons.undo, Qt.MouseButton.LeftButton)
    row = analysed.state.table("field").set_index("cluster_id").loc[4]
    assert row["label_corrected"] == ""
    qtbot.waitUntil(buttons.redo.isEnabled)


def test_classifying_again_keeps_corrections(analysed, viewer, dock, qtbot, settle):
    classify = dock(Classify)
    analysed.state.clusters.relabel([("field", 1)], "unknown")
    qtbot.mouseClick(classify.step.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    table = analysed.state.table("field").set_index("cluster_id")
    assert table.loc[1, "label"] == "unknown"
    assert analysed.state.history[-1].description == "classify field"


def test_detect_finds_and_classify_waits_for_it(viewer, image_layer, model, dock, qtbot, settle):
    detect, classify = dock(Detect), dock(Classify)
    assert not classify.step.button.isEnabled()
    qtbot.mouseClick(detect.step.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    binding = binding_of(viewer)
    assert len(binding.canvas.layer("field", "clusters").data) == N_CLUSTERS
    assert f"{N_CLUSTERS} clusters" in detect.result.text.text()
    detect.result.outlines.setChecked(False)
    assert not binding.canvas.layer("field", "outlines").visible
    qtbot.mouseClick(classify.step.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    assert (binding.state.table("field")["label"] != "").all()


def test_without_calibration_it_asks(viewer, model, dock, qtbot, settle):
    layer = viewer.add_image(blobs(), name="bare")
    analyse = dock(Analyse)
    assert not analyse.button.isEnabled()
    assert "no pixel size" in analyse.image_form.hint
    analyse.image_form.pixel_size.setValue(PIXEL_NM)
    assert analyse.button.isEnabled()
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    assert calibration.pixel_size_nm(layer) == pytest.approx(PIXEL_NM)
    points = binding_of(viewer).canvas.layer("bare", "clusters")
    np.testing.assert_allclose(points.scale, [PIXEL_NM, PIXEL_NM])
    assert points.units == layer.units
    assert analyse.image_form.hint == ""


@pytest.mark.parametrize(
    ("scale", "units", "expected"),
    [
        (0.05, ("nm", "nm"), 0.05),
        (0.5, ("angstrom", "angstrom"), 0.05),
        (5e-5, ("um", "um"), 0.05),
        (5e-11, ("m", "m"), 0.05),
        (0.05, None, None),
        (1.0, None, None),
    ],
)
def test_units_of_layers(viewer, scale, units, expected):
    layer = viewer.add_image(np.zeros((4, 4)), scale=(scale, scale), units=units)
    assert calibration.pixel_size_nm(layer) == (None if expected is None else pytest.approx(0.05))
    assert calibration.suggested_nm(layer) == (0.05 if units is None and scale != 1 else None)


def test_a_scale_without_unit_is_asked_about(viewer, dock, model):
    viewer.add_image(blobs(), name="bare", scale=(0.05, 0.05))
    analyse = dock(Analyse)
    assert analyse.image_form.pixel_size.value() == pytest.approx(0.05)
    assert "in nm?" in analyse.image_form.hint


@pytest.fixture
def at_work(model, monkeypatch):
    """Set once the model predicts, which it does until it is stopped."""
    begun = threading.Event()

    def endless(patches, progress=None, stop=None, **_):
        begun.set()
        while True:
            check(stop)

    monkeypatch.setattr(model, "predict", endless)
    return begun


def test_cancel_midway_changes_nothing(viewer, image_layer, at_work, dock, qtbot, settle):
    analyse = dock(Analyse)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(at_work.is_set)
    assert not analyse.button.isEnabled()
    click_cancel(viewer)
    settle(viewer)
    state = binding_of(viewer).state
    assert state.status.state is TaskState.STOPPED
    assert state.analysis("field") is None
    assert analyse.button.isEnabled()
    assert [layer.name for layer in viewer.layers] == ["field"]


def test_an_error_is_said(viewer, image_layer, model, dock, qtbot, settle, monkeypatch, errors):
    def fails(patches, progress=None, stop=None, **_):
        raise ModelError("the model lacks its weights", advice="Install the package again")

    monkeypatch.setattr(model, "predict", fails)
    analyse = dock(Analyse)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    assert errors == ["the model lacks its weights. Install the package again."]
    assert binding_of(viewer).state.status.state is TaskState.FAILED
    assert analyse.button.isEnabled()


def test_a_bug_is_said_to_be_one(
    viewer, image_layer, model, dock, qtbot, settle, monkeypatch, errors
):
    monkeypatch.setattr(model, "predict", lambda *a, **k: 1 / 0)
    analyse = dock(Analyse)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    assert len(errors) == 1
    assert "ZeroDivisionError" in errors[0]
    assert "report" in errors[0]


def test_an_image_that_goes_away_while_it_is_analysed(
    viewer, image_layer, at_work, dock, qtbot, settle
):
    analyse = dock(Analyse)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(at_work.is_set)
    viewer.layers.remove(image_layer)
    settle(viewer)
    assert len(viewer.layers) == 0
    assert analyse.image_form.images.count() == 0
    assert not analyse.button.isEnabled()


def test_closing_the_viewer_ends_what_runs(make_napari_viewer, model, qtbot, monkeypatch):
    at_work, ended = threading.Event(), threading.Event()

    def endless(patches, progress=None, stop=None, **_):
        at_work.set()
        try:
            while True:
                check(stop)
        finally:
            ended.set()

    monkeypatch.setattr(model, "predict", endless)
    viewer = make_napari_viewer()
    viewer.add_image(blobs(), name="field", scale=(PIXEL_NM, PIXEL_NM), units=("nm", "nm"))
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(at_work.is_set)
    viewer.close()
    qtbot.waitUntil(ended.is_set)


def test_the_colour_of_an_unknown_ring_is_that_of_its_radius_whatever_the_pixel_size(
    analysed, viewer, settle
):
    def ring() -> np.ndarray:
        return np.array(analysed.canvas.layer("field", "clusters").border_color[0][:3])

    analysed.state.clusters.relabel([("field", 1)], "unknown")
    settle(viewer)
    grey = ring()
    assert grey.min() > 0.3
    # The layer gets a coarser pixel: by it, the ring would pass over the bright cluster.
    analysed.state.pixel_sizes.set("field", 4 * PIXEL_NM)
    analysed.state.clusters.relabel([("field", 1)], "unknown")
    settle(viewer)
    np.testing.assert_allclose(ring(), grey)
