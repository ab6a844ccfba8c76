"""Which image the forms take, how large its pixels are, and what is remembered."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from brightness import PIXEL_NM, blobs
from mouse import move
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDoubleSpinBox

import bad_readers
from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.detection import DetectionSettings
from napari_atomicity.gui.controls.forms import main_button, spin_box, wrapped_label
from napari_atomicity.gui.controls.settings import settings
from napari_atomicity.gui.controls.settings_form import form_of
from napari_atomicity.gui.docks.analyse import Analyse, Detect
from napari_atomicity.gui.docks.atoms.dock import Atoms
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.live.dock import Live
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import calibration, compat
from napari_atomicity.gui.viewer.layers.micrographs import size_in_file_nm, why_not
from napari_atomicity.gui.viewer.layers.picking import is_in_view
from napari_atomicity.io import images
from napari_atomicity.io.images import Reader
from napari_atomicity.io.readers.read_limits import read_limits, set_read_limits
from napari_atomicity.pipeline.run_request import RunRequest

HELP = "Longest time in s for reading"


@pytest.fixture
def analyse(viewer, model, qtbot):
    dock = Analyse(viewer)
    qtbot.addWidget(dock)
    return dock


def write_tiff(path, image, pixel_nm):
    tifffile.imwrite(
        path,
        image.astype(np.float32),
        imagej=True,
        resolution=(1 / pixel_nm, 1 / pixel_nm),
        metadata={"unit": "nm"},
    )
    return str(path)


@pytest.mark.parametrize("typed", ["0,05", "0.05"])
def test_a_comma_and_a_point_are_both_the_decimal_point(qtbot, typed):
    field = spin_box(0, 10, 1, 5, " nm")
    qtbot.addWidget(field)
    field.selectAll()
    QTest.keyClicks(field, typed)
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert field.value() == pytest.approx(0.05)


def test_a_double_click_on_a_main_button_is_one_click(analyse, qtbot):
    clicks = []
    button = main_button("Start", analyse)
    button.clicked.connect(lambda: clicks.append(1))
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    QTest.mouseDClick(button, Qt.MouseButton.LeftButton)  # the second press
    QTest.mouseRelease(button, Qt.MouseButton.LeftButton)
    assert len(clicks) == 1


# ---- the pixel size of the file
def test_a_tiff_that_napari_opened_is_analysed_with_one_click(
    viewer, analyse, qtbot, settle, tmp_path
):
    (layer,) = viewer.open(write_tiff(tmp_path / "own.tif", blobs(), PIXEL_NM), plugin="napari")
    # A worker reads the pixel size from the file.
    qtbot.waitUntil(analyse.button.isEnabled)
    assert analyse.image_form.pixel_size.value() == pytest.approx(PIXEL_NM)
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    assert calibration.pixel_size_nm(layer) == pytest.approx(PIXEL_NM)
    assert not analyse.image_form.hint
    assert len(binding_of(viewer).state.table(layer.name))


def test_a_file_is_believed_only_if_it_holds_that_image(tmp_path):
    path = write_tiff(tmp_path / "own.tif", blobs(), PIXEL_NM)
    assert size_in_file_nm(path, blobs().shape) == pytest.approx(PIXEL_NM)
    assert size_in_file_nm(path, (100, 100)) is None
    assert size_in_file_nm(str(tmp_path / "gone.tif"), blobs().shape) is None


# ---- which image
def test_a_new_image_is_the_one_that_is_analysed(viewer, image_layer, analyse):
    assert analyse.image_form.images.layer is image_layer
    second = viewer.add_image(blobs(1), name="second")
    assert analyse.image_form.images.layer is second
    viewer.layers.selection.active = image_layer
    assert analyse.image_form.images.layer is image_layer
    analyse.image_form.images.setCurrentIndex(1)
    assert viewer.layers.selection.active is second


def test_what_was_typed_survives_other_layers(viewer, analyse):
    bare = viewer.add_image(blobs(), name="bare")
    analyse.image_form.pixel_size.setValue(PIXEL_NM)
    viewer.add_points(np.zeros((1, 2)))
    assert analyse.image_form.images.layer is bare
    assert analyse.image_form.pixel_size.value() == pytest.approx(PIXEL_NM)
    assert analyse.button.isEnabled()
    assert calibration.pixel_size_nm(bare) is None


def test_layers_that_are_no_micrographs_are_refused_with_a_reason(viewer, analyse):
    square = np.zeros((16, 16), np.float32)
    refused = [
        (viewer.add_image(np.zeros((16, 16, 3)), rgb=True, name="photo"), "colour"),
        (viewer.add_image([square, square[::2, ::2]], multiscale=True, name="p"), "resolutions"),
        (viewer.add_labels(square.astype(int), name="mask"), "Labels"),
        (viewer.add_image(np.zeros((2, 2, 16, 16)), name="4d"), "dimensions"),
    ]
    for layer, word in refused:
        assert word in why_not(layer)
        viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))
    assert analyse.image_form.images.count() == 0
    assert refused[-1][0].name in analyse.image_form.hint
    with pytest.raises(AtomicityError):
        analyse.image_form.take()
    assert why_not(viewer.add_image(square, name="good")) == ""


# ---- a line on a known distance
def test_a_line_of_known_length_gives_the_pixel_size(viewer, analyse, qtbot):
    layer = viewer.add_image(blobs(), name="bare")
    form = analyse.image_form
    assert not form.ruler.button.isHidden()
    qtbot.mouseClick(form.ruler.button, Qt.MouseButton.LeftButton)
    line = viewer.layers["bare ruler"]
    assert viewer.layers.selection.active is line
    assert line.mode == "add_line"
    line.add_lines(np.array([[10.0, 10.0], [40.0, 50.0]]))
    form.ruler.length.setValue(2.0)
    form.ruler.length.editingFinished.emit()
    assert form.pixel_size.value() == pytest.approx(2.0 / 50.0)
    assert line not in viewer.layers
    assert form.images.layer is layer and viewer.layers.selection.active is layer
    assert analyse.button.isEnabled()


def test_the_length_may_be_entered_before_the_line_is_drawn(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.window._qt_window.resize(1000, 700)
    viewer.add_image(blobs(), name="bare")
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    form, canvas = analyse.image_form, viewer.window._qt_viewer.canvas.native
    qtbot.waitUntil(lambda: viewer.window._qt_window.width() - canvas.width() > 500)  # both docks
    viewer.reset_view()
    for stops in (True, False):
        qtbot.mouseClick(form.ruler.button, Qt.MouseButton.LeftButton)
        line = viewer.layers["bare ruler"]
        form.ruler.length.setValue(2.0)
        form.ruler.length.editingFinished.emit()
        assert line in viewer.layers  # nothing is drawn yet
        if stops:
            qtbot.keyClick(canvas, Qt.Key.Key_Escape)
            assert line not in viewer.layers and form.pixel_size.value() == 0
    middle, length_px = canvas.rect().center(), 100 / compat.camera(viewer).zoom
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle)
    for step in range(1, 6):
        qtbot.wait(20)  # napari takes no more of them than a screen shows
        move(canvas, middle + QPoint(20 * step, 0))
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle + QPoint(100, 0))
    qtbot.waitUntil(lambda: form.pixel_size.value() > 0)
    assert form.pixel_size.value() == pytest.approx(2.0 / length_px, rel=0.05)
    assert line not in viewer.layers and analyse.button.isEnabled()


def test_undo_of_the_first_pixel_size_returns_to_pixels(viewer, analyse, qtbot):
    layer, form = viewer.add_image(blobs(), name="bare"), analyse.image_form
    binding = binding_of(viewer)
    state = binding.state
    binding.canvas.ensure_image(layer)
    qtbot.mouseClick(form.ruler.button, Qt.MouseButton.LeftButton)
    viewer.layers["bare ruler"].add_lines(np.array([[10.0, 10.0], [40.0, 50.0]]))
    form.ruler.length.setValue(2.0)
    form.ruler.length.editingFinished.emit()
    assert len(state.history) == 1
    assert state.micrograph("bare").pixel_size_nm == pytest.approx(0.04)
    binding.edits.undo()
    assert state.micrograph("bare").pixel_size_nm is None
    assert calibration.pixel_size_nm(layer) is None and tuple(layer.scale) == (1, 1)
    assert form.pixel_size.value() == 0 and not form.ready
    binding.edits.redo()
    assert calibration.pixel_size_nm(layer) == pytest.approx(0.04)
    assert form.pixel_size.value() == pytest.approx(0.04)


def test_a_layer_in_other_units_is_calibrated_in_one_step(viewer, analyse):
    micrometres = {"scale": (5e-5, 5e-5), "units": ("um", "um")}
    layer, form = viewer.add_image(blobs(), name="field", **micrometres), analyse.image_form
    state = binding_of(viewer).state
    binding_of(viewer).canvas.ensure_image(layer)
    form.pixel_size.setValue(0.06)
    form.take()
    assert [s.edits[0].after for s in state.history] == [pytest.approx(0.06)]
    assert calibration.pixel_size_nm(layer) == pytest.approx(0.06)


def test_a_pixel_size_that_no_cluster_can_have_is_warned_of(viewer, analyse, qtbot):
    viewer.add_image(blobs(), name="bare")
    form = analyse.image_form
    qtbot.mouseClick(form.ruler.button, Qt.MouseButton.LeftButton)
    viewer.layers["bare ruler"].add_lines(np.array([[10.0, 10.0], [10.0, 60.0]]))
    form.ruler.length.setValue(314.0)
    form.ruler.length.editingFinished.emit()
    assert "6.28 nm is too coarse" in form.hint
    assert not form.ruler.button.isHidden()
    form.pixel_size.setValue(PIXEL_NM)
    assert form.hint == ""
    of_atoms = Atoms(viewer).image_form  # atoms need finer pixels than clusters
    of_atoms.pixel_size.setValue(0.15)
    assert "single atoms need 0.1 nm or finer" in of_atoms.hint
    of_atoms.window().deleteLater()


def test_the_image_that_a_person_chooses_is_shown(viewer, image_layer, analyse, qtbot, settle):
    qtbot.mouseClick(analyse.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    bare = viewer.add_image(blobs(1)[:100, :100], name="bare")
    images = analyse.image_form.images
    images.setFocus()
    for key, chosen, other in (
        (Qt.Key.Key_Up, image_layer, bare),
        (Qt.Key.Key_Down, bare, image_layer),
    ):
        qtbot.keyClick(images, key)
        settle(viewer)
        assert images.layer is chosen
        assert chosen.visible and is_in_view(viewer, chosen)
        above = viewer.layers.index(other) > viewer.layers.index(chosen)
        assert not (above and other.visible)
        assert viewer.layers.selection.active is not other


def test_a_line_over_another_image_measures_nothing_and_a_second_click_removes_it(
    viewer, analyse, qtbot
):
    first, _ = (viewer.add_image(blobs(i), name=f"bare {i}") for i in range(2))
    form, left = analyse.image_form, Qt.MouseButton.LeftButton
    qtbot.mouseClick(form.ruler.button, left)
    assert form.pixel_size.isHidden() and "bare 1 ruler" in viewer.layers
    form.images.setCurrentIndex(0)
    assert form.images.layer is first and "bare 1 ruler" not in viewer.layers
    assert not form.pixel_size.isHidden() and not form.ruler.button.isChecked()
    for names in (["bare 0 ruler"], []):
        qtbot.mouseClick(form.ruler.button, left)
        assert [x.name for x in viewer.layers if "ruler" in x.name] == names


@pytest.mark.parametrize("kind", [Analyse, Detect, Atoms])
def test_controls_stay_where_they_are_when_another_image_is_chosen(
    viewer, image_layer, kind, qtbot, settle
):
    bare = viewer.add_image(blobs(1), name="bare")
    dock = kind(viewer)
    viewer.window.add_dock_widget(dock, name=kind.__name__)
    dock.setMinimumSize(340, 600)
    form = dock.image_form
    main = dock.step.button if kind is Detect else dock.button
    below = {Analyse: lambda: dock.detect.button, Detect: lambda: dock.result.outlines}
    controls = [form.images, main, below.get(kind, lambda: dock.all_button)()]
    for _ in range(2):  # napari styles a new dock late
        qtbot.mouseClick(form.ruler.button, Qt.MouseButton.LeftButton)
        settle(viewer)
    seen = set()
    for layer in (bare, image_layer, bare):
        viewer.layers.selection.active = layer
        settle(viewer)
        assert form.images.layer is layer
        seen.add(tuple(c.mapTo(dock, QPoint()).y() for c in controls))
    qtbot.mouseClick(form.ruler.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    seen.add(tuple(c.mapTo(dock, QPoint()).y() for c in controls))
    assert len(seen) == 1 and form.ruler.length.isVisible()


@pytest.mark.parametrize(("kind", "width_px"), [(Analyse, 309), (Detect, 309), (Atoms, 320)])
def test_a_narrow_dock_shows_the_whole_pixel_size(
    make_napari_viewer, model, settle, kind, width_px
):
    shown = make_napari_viewer(show=True)
    calibrated = {"scale": (PIXEL_NM, PIXEL_NM), "units": ("nm", "nm")}
    images = [shown.add_image(blobs(), name="field", **calibrated), shown.add_image(blobs())]
    dock = kind(shown)
    shown.window.add_dock_widget(dock, name=kind.__name__)
    dock.setFixedWidth(width_px)
    form = dock.image_form
    texts = []

    def check_width(field):
        settle(shown)
        dock.grab()  # lays it out
        texts.append(field.text())
        assert not field.isHidden()
        assert field.lineEdit().width() >= field.fontMetrics().horizontalAdvance(texts[-1])
        right = form.ruler.mapTo(dock, QPoint(form.ruler.width(), 0)).x()
        assert right <= dock.width()

    for layer in images:
        shown.layers.selection.active = layer
        check_width(form.pixel_size)
    form.pixel_size.setValue(0.04812)
    check_width(form.pixel_size)
    QTest.mouseClick(form.ruler.button, Qt.MouseButton.LeftButton)
    check_width(form.ruler.length)
    form.ruler.length.setValue(100.0)
    check_width(form.ruler.length)
    assert len(set(texts)) == 5


def test_a_calibrated_image_needs_no_ruler(image_layer, analyse):
    assert analyse.image_form.ruler.button.isHidden()


# ---- what is remembered
def test_settings_are_remembered_and_nonsense_is_passed_over(qtbot):
    form = form_of(RunRequest, "device", "detection")
    qtbot.addWidget(form)
    changes = []
    form.changed.connect(lambda: changes.append(form.settings()))
    form.controls["threshold"].setValue(4.5)
    form.controls["split_touching"].setChecked(False)
    form.controls["device"].setCurrentText("CPU")
    assert len(changes) == 3 and changes[-1].detection.threshold == 4.5
    settings().setValue("detection/diameter_min", "large")
    settings().setValue("detection/diameter_max", 1e9)
    again = form_of(RunRequest, "device", "detection")
    qtbot.addWidget(again)
    expected = DetectionSettings(threshold=4.5, split_touching=False)
    assert again.settings() == RunRequest(device="cpu", detection=expected)


def test_the_button_comes_before_the_settings(viewer, model, qtbot):
    dock = Detect(viewer)
    qtbot.addWidget(dock)
    dock.resize(340, 260)
    with qtbot.waitExposed(dock):
        dock.show()
    assert dock.rect().contains(dock.step.button.mapTo(dock, dock.step.button.rect().bottomRight()))


def test_limits_for_reading_apply_to_the_whole_window(viewer, model, qtbot, tmp_path, monkeypatch):
    reader = Reader("Bad", (".bad",), bad_readers.sleep, own_process=True)
    monkeypatch.setattr(images, "READERS", (*images.READERS, reader))
    (tmp_path / "a.bad").write_bytes(b"x")
    before = read_limits()
    docks = [Browse(viewer), Live(viewer)]
    for dock in docks:
        qtbot.addWidget(dock)
    seconds, other = (
        next(box for box in dock.findChildren(QDoubleSpinBox) if box.toolTip().startswith(HELP))
        for dock in docks
    )
    try:
        seconds.setValue(1)
        assert other.value() == 1 and read_limits().read_seconds == 1
        assert read_limits().read_memory_gb is None
        with pytest.raises(AtomicityError, match="longer than 1 s"):
            images.load(tmp_path / "a.bad")
    finally:
        settings().remove("read_seconds")
        set_read_limits(before)


def test_a_long_word_makes_no_label_wide(qtbot):
    label = wrapped_label()
    qtbot.addWidget(label)
    label.setText("021_HAADF_15nm_Sample_PtNC_21Oct20_" * 3)
    assert label.minimumSizeHint().width() < 30 * label.fontMetrics().averageCharWidth()
    label.setText("short")
    assert label.minimumSizeHint().width() < 10 * label.fontMetrics().averageCharWidth()
