"""The steps inside Analyse: detect, classify, legend and corrections, as in the docks alone."""

from __future__ import annotations

import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tifffile
from brightness import CLASSES, N_CLUSTERS, PIXEL_NM, blobs
from mouse import LEFT
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QComboBox
from waiting import updated

from napari_atomicity.gui.docks.analyse import Analyse, Classify, Detect
from napari_atomicity.gui.docks.gallery import Gallery
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers.micrographs import layer_data
from napari_atomicity.io.images import load
from napari_atomicity.pipeline import measurements

DOCK_PX = 370, 500


@pytest.fixture
def dock(viewer, image_layer, model, qtbot):
    """The dock Analyse, with an image that is not analysed."""
    dock = Analyse(viewer)
    viewer.window.add_dock_widget(dock, name="Analyse", add_vertical_stretch=False)
    qtbot.waitUntil(dock.isVisible)
    return dock


@pytest.fixture
def analysed(dock, viewer, qtbot, settle):
    qtbot.mouseClick(dock.button, LEFT)
    settle(viewer)
    return updated(dock)


def rows_of(legend) -> dict:
    return {row.text(0): row for row in updated(legend).rows()}


def click_row(legend, label: str, x: int = 60) -> None:
    """Click a row of the legend: at 60 px on the label, at the left edge on the tick."""
    rect = legend.tree.visualItemRect(rows_of(legend)[label])
    place = QPoint(rect.left() + x, rect.center().y())
    QTest.mouseClick(legend.tree.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, place)


def test_the_steps_are_open_and_can_be_folded(dock, qtbot):
    assert dock.steps.button.isChecked() and dock.detect.button.isVisible()
    qtbot.mouseClick(dock.steps.button, LEFT)
    assert not dock.detect.button.isVisible()


def test_measurements_of_packages_are_columns_also_of_added_clusters(
    dock, viewer, qtbot, settle, monkeypatch
):
    functions = {"peak": lambda pixels, mask, _: pixels[mask].max(), "broken": lambda *_: 1 / 0}
    points = [SimpleNamespace(name=n, value=n, load=lambda f=f: f) for n, f in functions.items()]
    monkeypatch.setattr(measurements, "installed_measurements", lambda: points)
    qtbot.mouseClick(dock.button, LEFT)
    settle(viewer)
    binding = binding_of(viewer)
    table = binding.state.table()
    assert len(table) == N_CLUSTERS and table["peak"].notna().all()
    assert table["broken"].isna().all() and "measurement broken" in dock.result.text()
    viewer.layers["field clusters"].add([80.0, 80.0])
    settle(viewer)
    added = binding.state.table()
    assert len(added) == N_CLUSTERS + 1 and added["peak"].notna().all()


def test_detect_and_classify_one_after_the_other(dock, viewer, qtbot, settle):
    binding = binding_of(viewer)
    assert dock.detect.button.isEnabled() and not dock.classify.button.isEnabled()
    assert not dock.legend.isVisible()
    qtbot.mouseClick(dock.detect.button, LEFT)
    settle(viewer)
    assert not (binding.state.table("field")["label"] != "").any()
    text = updated(dock.detected).text.text()
    assert f"{N_CLUSTERS} clusters, median diameter" in text and "at the border" in text
    assert rows_of(dock.legend)["not classified"].text(1) == str(N_CLUSTERS)
    assert dock.result.text() == f"{N_CLUSTERS} clusters: {N_CLUSTERS} without a label"
    gallery = Gallery(viewer)
    qtbot.addWidget(gallery)
    gallery.show()
    without = f"; {N_CLUSTERS} not classified yet, without a picture"
    assert updated(gallery).note.text() == f"{N_CLUSTERS} clusters{without}"
    qtbot.mouseClick(dock.classify.button, LEFT)
    settle(viewer)
    labels = binding.state.table("field")["label"]
    assert set(labels) <= set(CLASSES)
    assert {n: int(r.text(1)) for n, r in rows_of(dock.legend).items() if n in CLASSES} == {
        name: int((labels == name).sum()) for name in CLASSES
    }
    assert binding.label_mode.on
    assert "without" not in updated(gallery).note.text() + updated(dock).result.text()


def test_steps_use_the_settings_of_analyse(dock, viewer, model, qtbot, settle):
    dock.form.controls["symmetries"].setChecked(True)
    dock.form.controls["diameter_max_nm"].setValue(0.7)
    qtbot.mouseClick(dock.detect.button, LEFT)
    settle(viewer)
    assert not len(binding_of(viewer).state.table("field"))
    assert "lower threshold" in updated(dock).result.text()
    assert not dock.legend.isVisible() and not dock.detected.isVisible()
    dock.form.controls["diameter_max_nm"].setValue(5.0)
    for step in (dock.detect, dock.classify):
        qtbot.mouseClick(step.button, LEFT)
        settle(viewer)
    assert model.averaged[-1]


def test_the_docks_alone_show_the_same(analysed, viewer, settle):
    detect, classify = Detect(viewer), Classify(viewer)
    for dock in (detect, classify):
        viewer.window.add_dock_widget(dock, name=type(dock).__name__)
    settle(viewer)
    assert updated(detect.result).text.text() == analysed.detected.text.text()
    texts = [
        [[row.text(i) for i in range(4)] for row in updated(legend).rows()]
        for legend in (analysed.legend, classify.legend)
    ]
    assert texts[0] == texts[1]
    analysed.detected.outlines.click()
    assert not updated(detect.result).outlines.isChecked()
    assert not binding_of(viewer).canvas.layer("field", "outlines").visible
    classify.corrections.label_mode.click()
    assert not updated(analysed.corrections).label_mode.isChecked()


def test_the_legend_selects_hides_and_labels(analysed, viewer):
    binding = binding_of(viewer)
    table = binding.state.table("field")
    click_row(analysed.legend, "Pt70")
    ids = table.loc[table["label"] == "Pt70", "cluster_id"]
    assert binding.state.selection == {("field", i) for i in ids}
    assert updated(analysed.corrections).selected.text() == f"{len(ids)} clusters selected"
    binding.state.select(())
    analysed.legend.tree.setCurrentItem(rows_of(analysed.legend)["Pt70"])
    QTest.keyClick(analysed.legend.tree, Qt.Key.Key_Return)
    assert len(binding.state.selection) == len(ids)
    click_row(analysed.legend, "Pt19", x=8)
    assert binding.clusters.hidden == {"Pt19"}
    QTest.keyClick(analysed.legend.tree, Qt.Key.Key_0)  # no row is looked for
    assert rows_of(analysed.legend)["unknown"].text(2) == str(len(ids))
    QTest.keyClick(analysed.legend.tree, Qt.Key.Key_U)
    labels = analysed.corrections.labels
    labels.activated.emit(labels.findData("unknown"))
    assert rows_of(analysed.legend)["unknown"].text(2) == str(len(ids))
    chosen = binding.state.selection
    click_row(analysed.legend, "Pt19", x=8)
    assert not binding.clusters.hidden and binding.state.selection == chosen


def test_conditions_that_differ_are_shown_even_if_the_steps_are_folded(analysed, viewer, qtbot):
    state = binding_of(viewer).state
    assert not analysed.conditions.isVisible()
    qtbot.mouseClick(analysed.steps.button, LEFT)
    now = state.analysis("field")
    state.clusters.set_analysis(replace(now, table=now.table.assign(conditions_differ=True)))
    assert updated(analysed).conditions.isVisible()


def test_the_analysis_is_copied_as_a_command_and_as_python(
    analysed, viewer, qtbot, settle, tmp_path, monkeypatch
):
    assert not analysed.copy_button.isEnabled()  # the image has no file
    in_file = (tmp_path / "model.safetensors", None)
    monkeypatch.setattr("napari_atomicity.pipeline.repeat.installed_model", lambda *_: in_file)
    path = tmp_path / "a b.tif"
    tifffile.imwrite(path, blobs(1))
    micrograph = load(path, PIXEL_NM)
    viewer._add_layer_from_data(*layer_data(micrograph))
    settle(viewer)
    analysed.image_form.images.setCurrentText(micrograph.name)
    qtbot.mouseClick(analysed.button, LEFT)
    settle(viewer)
    qtbot.waitUntil(lambda: updated(analysed).copy_button.isEnabled(), timeout=10_000)
    command, python = analysed.copy_button.menu().actions()
    command.trigger()
    assert shlex.split(QApplication.clipboard().text())[:3] == ["atomicity", "analyse", str(path)]
    python.trigger()
    assert repr(str(path)) in QApplication.clipboard().text()
    compile(QApplication.clipboard().text(), "copied", "exec")


def test_results_are_those_of_the_chosen_image(analysed, viewer, settle):
    viewer.add_image(blobs(1), name="other", scale=(PIXEL_NM,) * 2, units=("nm", "nm"))
    settle(viewer)
    assert analysed.image_form.images.currentText() == "other"
    updated(analysed)
    assert not analysed.result.text() and not analysed.legend.isVisible()
    assert analysed.detect.button.isEnabled() and not analysed.classify.button.isEnabled()
    analysed.image_form.images.setCurrentIndex(0)
    settle(viewer)
    assert updated(analysed).result.text() and analysed.legend.isVisible()
    assert analysed.classify.button.isEnabled()


def test_button_result_and_legend_are_visible_without_scrolling(analysed, qtbot):
    window = analysed.window()
    analysed.setParent(None)
    try:
        analysed.resize(*DOCK_PX)
        with qtbot.waitExposed(analysed):
            analysed.show()
        for widget in (analysed.button, analysed.result, analysed.legend):
            assert analysed.rect().contains(widget.mapTo(analysed, widget.rect().bottomRight()))
    finally:
        analysed.setParent(window)


def test_nothing_stands_twice_in_the_dock(analysed):
    names = [
        c.accessibleName() or c.text()
        for kind in (QAbstractButton, QComboBox)
        for c in analysed.findChildren(kind)
        if not isinstance(c, QComboBox) or c.accessibleName()
    ]
    names = [name for name in names if name]
    assert len(names) == len(set(names)), sorted(names)
