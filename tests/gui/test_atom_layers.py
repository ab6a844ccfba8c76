"""Atoms in the image: what is drawn, and marking them by mouse and keys."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import tifffile
from mouse import LEFT, move
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QCheckBox, QLineEdit
from synthetic import made_up

from napari_atomicity import load
from napari_atomicity.atoms.analysis import AtomAnalysis, with_neighbours
from napari_atomicity.atoms.marks import INJECTED
from napari_atomicity.atoms.table import MODEL, PERSON, conform
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.gui.viewer.layers.atom_style import GROUP
from napari_atomicity.gui.viewer.layers.status_line import format_atom
from napari_atomicity.gui.workbench.window import WorkspaceSwitch, open_workbench
from napari_atomicity.project import Project
from napari_atomicity.state.review_queue import ReviewRequest, build
from napari_atomicity.state.reviewing import Reviewing
from napari_atomicity.statistics.points.windows import ObservationWindow

KEY = Qt.Key
PLAIN = Qt.KeyboardModifier.NoModifier
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
ALT = Qt.KeyboardModifier.AltModifier
PIXEL_NM = 0.03
SIGMA_PX = 0.08 / PIXEL_NM
PLACES = np.array([[20.3, 30.6], [20.0, 41.0], [50.4, 60.2], [70.0, 25.5], [40.0, 90.0]])
CONFIDENCE = [0.9, 0.8, 0.55, 0.7, 0.2]
"""The last one lies below the threshold."""


def spots(places=PLACES, shape=(96, 120)) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.random.default_rng(0).normal(10, 0.05, shape)
    for cy, cx in places:
        image += 10 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * SIGMA_PX**2))
    return image.astype(np.float32)


def found(pixels, name="field", places=PLACES, confidence=CONFIDENCE, frames=0) -> AtomAnalysis:
    """What a network would say of an image: no network is needed for it."""
    table = pd.DataFrame(
        {
            "image": name,
            "frame": frames,
            "atom_id": np.arange(1, len(places) + 1),
            "y_px": places[:, 0],
            "x_px": places[:, 1],
            "y_nm": places[:, 0] * PIXEL_NM,
            "x_nm": places[:, 1] * PIXEL_NM,
            "confidence": confidence,
            "sigma_nm": 0.08,
            "origin": MODEL,
            "model_id": "made-up",
        }
    )
    support = np.ones(pixels.shape, bool)
    support[..., :10] = False
    micrograph = Micrograph(pixels, PIXEL_NM, name)
    table = with_neighbours(conform(table))
    return AtomAnalysis(micrograph, table, 0.5, support, PIXEL_NM, "made-up")


@pytest.fixture
def viewer(viewer):
    viewer.window.resize(900, 700)
    return viewer


@pytest.fixture
def drawn(viewer, qtbot):
    """The window is on the screen: napari's camera learns of a drag when the view is drawn."""
    window = viewer.window._qt_window
    window.hide()
    window.setAttribute(Qt.WidgetAttribute.WA_DontShowOnScreen, False)
    window.setUpdatesEnabled(True)
    with qtbot.waitExposed(window):
        window.show()
    return viewer


def add_image(viewer, pixels, name="field"):
    scale = (1.0,) * (pixels.ndim - 2) + (PIXEL_NM, PIXEL_NM)
    units = ("pixel",) * (pixels.ndim - 2) + ("nm", "nm")
    layer = viewer.add_image(pixels, name=name, scale=scale, units=units)
    binding = binding_of(viewer)
    binding.canvas.ensure_image(layer)
    return binding


@pytest.fixture
def binding(viewer):
    return add_image(viewer, spots())


@pytest.fixture
def analysed(binding):
    binding.state.atoms.set_analysis(found(spots()))
    return binding


@pytest.fixture
def canvas(viewer):
    return viewer.window._qt_viewer.canvas.native


@pytest.fixture
def press(canvas):
    """Real keys, as the canvas gets them."""

    def keys(*names, modifiers=PLAIN):
        for key in names:
            QTest.keyClick(canvas, key, modifiers)

    return keys


def place(viewer, y, x) -> QPoint:
    """Where a pixel of the image is in the canvas."""
    camera, size = compat.camera(viewer), compat.canvas_size(viewer)
    here = (np.array([y, x]) * PIXEL_NM - camera.center[-2:]) * camera.zoom + np.array(size) / 2
    return QPoint(round(here[1]), round(here[0]))


def click(viewer, y, x, modifiers=PLAIN) -> None:
    native = viewer.window._qt_viewer.canvas.native
    QTest.mouseClick(native, LEFT, modifiers, place(viewer, y, x))


def hover(viewer, y, x) -> None:
    hover_at(viewer.window._qt_viewer.canvas.native, place(viewer, y, x))


def hover_at(native, point: QPoint) -> None:
    here = QPointF(point)
    none = Qt.MouseButton.NoButton
    event = QMouseEvent(QEvent.Type.MouseMove, here, native.mapToGlobal(here), none, none, PLAIN)
    QApplication.sendEvent(native, event)


def drag(viewer, start, end) -> None:
    native = viewer.window._qt_viewer.canvas.native
    a, b = place(viewer, *start), place(viewer, *end)
    QTest.mousePress(native, LEFT, PLAIN, a)
    for step in range(1, 4):
        QTest.qWait(20)  # napari takes no more of them than a screen shows
        move(native, a + (b - a) * (step / 3))
    QTest.mouseRelease(native, LEFT, PLAIN, b)


def drawn_centre(viewer) -> tuple[float, ...]:
    """The middle of the view, once it is drawn: then napari's camera learns of it."""
    viewer.screenshot(flash=False)
    return compat.camera(viewer).center


def precision_px(viewer) -> float:
    """A pixel of the screen, in pixels of the image."""
    return 1.0 / (compat.camera(viewer).zoom * PIXEL_NM)


def table(binding, image="field") -> pd.DataFrame:
    return binding.state.atoms.table(image).set_index("atom_id")


def consistent(binding, image="field") -> bool:
    """The points are the table, row by row, and so is the selection."""
    layer, rows = binding.canvas.layer(image, "atoms"), binding.state.atoms.table(image)
    np.testing.assert_allclose(layer.data[:, -2:], rows[["y_px", "x_px"]])
    ids = layer.features["atom_id"].tolist()
    assert ids == rows["atom_id"].tolist()
    assert len(layer.size) == len(layer.symbol) == len(layer.border_color) == len(rows)
    chosen = {(image, ids[i]) for i in layer.selected_data}
    assert chosen == {k for k in binding.state.atoms.selection if k[0] == image}
    return True


# ---- what is drawn
def test_atoms_are_rings_in_register_with_the_image(analysed, viewer):
    layer = viewer.layers["field atoms"]
    assert layer is analysed.canvas.layer("field", "atoms") is viewer.layers.selection.active
    assert consistent(analysed)
    assert len(layer.data) == 4  # the fifth lies below the threshold
    np.testing.assert_allclose(layer.scale, [PIXEL_NM, PIXEL_NM])
    assert layer.units == viewer.layers["field"].units
    assert (layer.face_color[:, 3] == 0).all()
    # wider than the spot, 0.19 nm at half its height, and it leaves the next atom alone
    assert (np.abs(layer.size * PIXEL_NM - 0.3) < 0.05).all()


def test_the_threshold_takes_and_gives_at_once(analysed):
    atoms = analysed.state.atoms
    atoms.set_threshold("field", 0.1)
    assert consistent(analysed) and len(table(analysed)) == 5
    atoms.set_threshold("field", 0.75)
    assert consistent(analysed) and len(table(analysed)) == 2


def test_marks_and_doubts_look_different(analysed):
    atoms, layer = analysed.state.atoms, analysed.canvas.layer("field", "atoms")
    atoms.confirm([("field", 2)])
    atoms.set_uncertain([("field", 3)])
    looks = [str(s) for s in layer.symbol]
    assert len({looks[0], looks[1], looks[2]}) == 3 and looks[0] == looks[3]
    assert layer.face_color[1, 3] > 0 == layer.face_color[0, 3]
    # No mark is as white as a selected atom.
    assert (np.array(layer.border_color)[:, :3].min(axis=1) < 0.9).all()
    atoms.select({("field", 2)})
    assert (np.array(layer.border_color)[:, :3].min(axis=1) > 0.9).tolist() == [0, 1, 0, 0]
    atoms.remove([("field", 1)])
    assert consistent(analysed) and 1 not in table(analysed).index


def test_the_colour_tells_what_is_asked_for(analysed):
    view, layer = analysed.atoms, analysed.canvas.layer("field", "atoms")
    heard = []
    view.colouring_changed.connect(heard.append)
    by_confidence = layer.border_color.copy()
    assert len(np.unique(by_confidence, axis=0)) == 4
    view.colour_by = GROUP
    assert heard == [GROUP]
    # the first two lie 0.31 nm from each other
    assert len(np.unique(layer.border_color, axis=0)) == 1
    analysed.state.atoms.set_group_distance(0.35)
    same = (layer.border_color[:, None] == layer.border_color[None]).all(axis=2)
    assert same[0, 1] and same[2, 3] and not same[0, 2]
    assert [name for name, _ in view.legend("field")] == ["isolated", "dimer"]
    # One of the dimer lies off the support: the other is isolated, as the dock counts.
    y, x = analysed.state.atoms.table("field").loc[0, ["y_px", "x_px"]]
    around = [[y - 3, x - 3], [y - 3, x + 3], [y + 3, x + 3], [y + 3, x - 3]]
    analysed.state.atoms.set_support("field", [(np.array(around), False)])
    same = (layer.border_color[:, None] == layer.border_color[None]).all(axis=2)
    assert same[1, 2] and same[2, 3] and not same[0, 1]
    assert [name for name, _ in view.legend("field")] == ["isolated", "not counted"]
    with pytest.raises(ValueError, match="coloured by"):
        view.colour_by = "taste"


def test_selection_goes_both_ways(analysed, viewer):
    layer, atoms = analysed.canvas.layer("field", "atoms"), analysed.state.atoms
    heard = []
    atoms.selection_changed.connect(heard.append)
    layer.selected_data = {1}
    assert atoms.selection == {("field", 2)}
    atoms.select({("field", 4)})
    assert set(layer.selected_data) == {3}
    click(viewer, *PLACES[2])
    assert atoms.selection == {("field", 3)}
    click(viewer, *PLACES[0], SHIFT)
    assert atoms.selection == {("field", 1), ("field", 3)} and consistent(analysed)
    click(viewer, 80, 80)
    assert not atoms.selection and len(heard) == 5


def test_an_atom_is_brought_into_view(analysed, viewer):
    analysed.state.atoms.request_focus(("field", 3))
    np.testing.assert_allclose(compat.camera(viewer).center[-2:], PLACES[2] * PIXEL_NM)


def test_atoms_of_a_stack_lie_on_their_frames(viewer):
    pixels = np.stack([spots(), spots()])
    binding = add_image(viewer, pixels)
    binding.state.atoms.set_analysis(found(pixels, frames=[0, 1, 1, 0, 0]))
    layer = viewer.layers["field atoms"]
    assert layer.data[:, 0].tolist() == [0, 1, 1, 0]
    viewer.dims.set_current_step(0, 1)
    binding.atoms.marking = True
    click(viewer, 80, 80, ALT)
    click(viewer, *PLACES[0])  # on this frame nobody has found it
    new = table(binding).loc[[6, 7]]
    assert new["frame"].tolist() == [1, 1]
    np.testing.assert_allclose(new.loc[7, ["y_px", "x_px"]].astype(float), PLACES[0], atol=0.1)
    # Another layer may have more frames; there is nothing to mark on them.
    viewer.add_image(np.zeros((9, 4, 4)), name="longer")
    viewer.dims.set_current_step(0, 5)
    viewer.layers.selection.active = layer
    click(viewer, 80, 80, ALT)
    layer.add([5.0, 80.0, 80.0])  # napari's own tool
    assert len(table(binding)) == 6 and consistent(binding)


def test_what_is_missed_stays_known_where_a_search_finds_the_same(binding):
    atoms, pixels = binding.state.atoms, spots()
    first = found(pixels)
    tested = replace(first, parameters={**first.parameters, INJECTED: {"of": "a test"}})
    atoms.set_analysis(tested)
    atoms.set_analysis(found(pixels))
    assert INJECTED in atoms.of("field").analysis.parameters
    atoms.set_analysis(found(pixels, confidence=[0.9, 0.8, 0.5, 0.7, 0.2]))
    assert INJECTED not in atoms.of("field").analysis.parameters


def test_ten_thousand_atoms_are_drawn(viewer):
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 1000, (10_000, 2))
    pixels = rng.normal(size=(1000, 1000)).astype(np.float32)
    binding = add_image(viewer, pixels)
    atoms = binding.state.atoms
    atoms.set_analysis(found(pixels, places=places, confidence=rng.uniform(size=10_000)))
    assert consistent(binding) and 4000 < len(table(binding)) < 6000
    atoms.set_threshold("field", 0.0)
    assert consistent(binding) and len(table(binding)) == 10_000
    layer = binding.canvas.layer("field", "atoms")
    atoms.select({("field", 7)})
    assert set(layer.selected_data) == {6}


# ---- napari's own tools
def test_deleting_points_is_an_edit(analysed, viewer, press):
    layer = analysed.canvas.layer("field", "atoms")
    layer.mode = "select"
    layer.selected_data = {0, 2}
    press(KEY.Key_Delete)
    assert table(analysed).index.tolist() == [2, 4] and consistent(analysed)
    analysed.edits.undo()
    assert table(analysed).index.tolist() == [1, 2, 3, 4] and consistent(analysed)


def test_without_a_tool_delete_says_how_atoms_are_deleted(analysed, viewer, press):
    """Those that a plot has selected are in several images, of which one is in sight."""
    analysed.state.atoms.select({("field", 1), ("other", 1)})
    analysed.canvas.activate(analysed.canvas.layer("field", "atoms"))
    for label_mode in (False, True):
        analysed.label_mode.on = label_mode
        viewer.status = ""
        press(KEY.Key_Delete)
        assert "press Mark atoms by hand" in viewer.status
        assert table(analysed).index.tolist() == [1, 2, 3, 4]
        assert len(analysed.state.atoms.selection) == 2


def test_points_of_naparis_own_tool_are_marks(analysed, viewer):
    layer = analysed.canvas.layer("field", "atoms")
    layer.mode = "add"
    click(viewer, 80, 80)
    row = table(analysed).loc[6]
    np.testing.assert_allclose([row["y_px"], row["x_px"]], [80, 80], atol=precision_px(viewer))
    assert row["origin"] == PERSON and np.isnan(row["confidence"])
    assert consistent(analysed) and analysed.state.atoms.selection == {("field", 6)}
    layer.mode = "select"
    drag(viewer, (80, 80), (84, 83))
    row = table(analysed).loc[6]
    np.testing.assert_allclose([row["y_px"], row["x_px"]], [84, 83], atol=2 * precision_px(viewer))
    assert consistent(analysed)
    analysed.edits.undo()
    analysed.edits.undo()
    assert 6 not in table(analysed).index and consistent(analysed)


# ---- marking
@pytest.fixture
def marking(analysed):
    analysed.atoms.marking = True
    return analysed


def test_keys_act_on_atoms_also_while_a_control_of_a_dock_has_the_focus(marking, viewer):
    state, box, field = marking.state, QCheckBox("a control"), QLineEdit()
    for control in (box, field):
        viewer.window.add_dock_widget(control)
    clusters = made_up(4, "field", size_px=96)
    state.clusters.set_analysis(clusters)
    state.select([("field", 1)])
    state.atoms.select([("field", 2)])
    box.setFocus()
    QTest.keyClick(box, KEY.Key_U)
    assert table(marking).loc[2, "uncertain"]
    QTest.keyClick(box, KEY.Key_Delete)
    assert 2 not in table(marking).index
    assert len(state.table("field")) == len(clusters.table)
    field.setFocus()
    QTest.keyClick(field, KEY.Key_Escape)
    assert marking.atoms.marking


def test_a_click_adds_the_spot_that_was_meant(marking, viewer, press):
    atoms = marking.state.atoms
    layer = marking.canvas.layer("field", "atoms")
    atoms.remove([("field", 3)])
    click(viewer, 52.3, 61.5)  # beside the third spot, which nobody sees now
    assert marking.state.atoms.selection == {("field", 3)}
    # the candidate is the same atom: it keeps its number and place
    np.testing.assert_allclose(table(marking).loc[3, ["y_px", "x_px"]].astype(float), PLACES[2])
    click(viewer, 80, 80)
    new = table(marking).loc[6]
    assert np.hypot(new["y_px"] - 80, new["x_px"] - 80) * PIXEL_NM < 0.11
    assert consistent(marking) and len(layer.data) == 5
    press(KEY.Key_Z, KEY.Key_Z, modifiers=CTRL)
    assert table(marking).index.tolist() == [1, 2, 4] and consistent(marking)
    press(KEY.Key_Z, modifiers=CTRL | SHIFT)
    assert table(marking).index.tolist() == [1, 2, 3, 4]


def test_by_hand_alone_it_snaps_to_the_spot_and_with_alt_it_does_not(binding, viewer):
    binding.atoms.marking = True
    click(viewer, PLACES[2, 0] + 2, PLACES[2, 1] - 1)
    row = table(binding).loc[1]
    np.testing.assert_allclose([row["y_px"], row["x_px"]], PLACES[2], atol=0.1)
    assert row["sigma_nm"] == pytest.approx(0.08, rel=0.05) and row["amplitude"] > 8
    there = PLACES[3] + (2, 1)
    click(viewer, *there, ALT)
    row = table(binding).loc[2]
    np.testing.assert_allclose([row["y_px"], row["x_px"]], there, atol=precision_px(viewer))
    assert binding.state.history.undo().description == "add 1 atom"


def test_what_lies_beside_the_image_is_no_atom(marking, viewer):
    click(viewer, -8, 50)
    assert len(table(marking)) == 4
    assert "no image" in viewer.status


def test_a_place_where_the_model_sees_something_hidden_is_one_atom_in_every_way(marking, viewer):
    atoms, layer = marking.state.atoms, marking.canvas.layer("field", "atoms")
    atoms.remove([("field", 3)])
    click(viewer, *(PLACES[2] + 1), ALT)
    assert atoms.selection == {("field", 3)}
    atoms.remove([("field", 3)])
    layer.mode = "add"  # napari's own tool
    click(viewer, *(PLACES[2] + 1))
    assert table(marking).index.tolist() == [1, 2, 3, 4] and consistent(marking)
    np.testing.assert_allclose(
        table(marking).loc[3, ["y_px", "x_px"]].astype(float),
        PLACES[2] + 1,
        atol=precision_px(viewer),
    )


def test_no_atom_leaves_the_image(marking, viewer, press):
    shape = np.array(marking.state.micrograph("field").shape_px)
    drag(viewer, PLACES[3], (-6, 30))
    row = table(marking).loc[4]
    assert -0.5 < row["y_px"] < 0 and row["x_px"] == pytest.approx(30, abs=1)
    press(KEY.Key_Up, KEY.Key_Up)
    assert table(marking).loc[4, "y_px"] == row["y_px"] and "no image" in viewer.status
    marking.atoms._points.move({("field", 4): tuple(shape + 50.0)})
    window = ObservationWindow(np.ones(shape, bool), PIXEL_NM)
    assert window.contains(table(marking)[["y_nm", "x_nm"]].to_numpy()).all()
    marking.canvas.layer("field", "atoms").add([[-3.0, 20.0], [70.0, 70.0]])
    assert len(table(marking)) == 5 and consistent(marking)


def test_a_drag_moves_an_atom_and_not_the_view(drawn, marking, viewer, press):
    before, centre = table(marking), drawn_centre(viewer)
    marking.state.atoms.set_uncertain([("field", 4)])
    drag(viewer, PLACES[3], PLACES[3] + (6, 9))
    row = table(marking).loc[4]
    np.testing.assert_allclose(
        [row["y_px"], row["x_px"]], PLACES[3] + (6, 9), atol=2 * precision_px(viewer)
    )
    assert row["origin"] == PERSON and row["uncertain"]
    assert drawn_centre(viewer) == centre and compat.camera(viewer).mouse_pan
    assert consistent(marking) and marking.state.atoms.selection == {("field", 4)}
    press(KEY.Key_Z, KEY.Key_Z, modifiers=CTRL)
    pd.testing.assert_frame_equal(table(marking), before)
    drag(viewer, (85, 20), (60, 60))  # where there is no atom it moves the view, and adds none
    assert drawn_centre(viewer) != centre and len(table(marking)) == 4


def test_keys_do_the_rest(marking, viewer, press):
    atoms = marking.state.atoms
    press(KEY.Key_Tab)
    assert atoms.selection == {("field", 3)}  # 0.55: the least certain of what counts
    press(KEY.Key_C)
    row = table(marking).loc[3]
    assert row["origin"] == PERSON and not row["uncertain"]
    press(KEY.Key_Tab)
    assert atoms.selection == {("field", 4)}
    press(KEY.Key_U)
    assert table(marking).loc[4, "uncertain"]
    press(KEY.Key_C)  # what is confirmed is certain
    assert not table(marking).loc[4, "uncertain"]
    press(KEY.Key_U, KEY.Key_U)
    assert not table(marking).loc[4, "uncertain"]
    press(KEY.Key_Tab)
    assert atoms.selection == {("field", 2)}
    for before in (4, 3, 3):  # those that were shown, though they have an answer; 3 is the first
        press(KEY.Key_Tab, modifiers=SHIFT)
        assert atoms.selection == {("field", before)}
    press(KEY.Key_Tab, KEY.Key_Tab)
    assert atoms.selection == {("field", 1)}
    press(KEY.Key_Delete)
    assert table(marking).index.tolist() == [2, 3, 4] and not atoms.selection
    click(viewer, *PLACES[1])
    press(KEY.Key_Left, KEY.Key_Up, KEY.Key_Up)
    np.testing.assert_allclose(
        table(marking).loc[2, ["y_px", "x_px"]].astype(float), PLACES[1] - (1.0, 0.5)
    )
    press(KEY.Key_Backspace)
    assert table(marking).index.tolist() == [3, 4] and consistent(marking)
    for _ in range(10):
        press(KEY.Key_Z, modifiers=CTRL)
    assert table(marking).index.tolist() == [1, 2, 3, 4]
    assert (table(marking)["origin"] == MODEL).all()


def test_naparis_keys_do_nothing_meanwhile_and_come_back(marking, viewer, press):
    layer = marking.canvas.layer("field", "atoms")
    layer.selected_data = {0}
    press(KEY.Key_1, KEY.Key_2, KEY.Key_3, KEY.Key_A, KEY.Key_P)
    assert layer.mode == "pan_zoom" and len(table(marking)) == 4
    assert marking.state.atoms.selection == {("field", 1)}
    press(KEY.Key_Escape)
    assert not marking.atoms.marking
    press(KEY.Key_2)
    assert layer.mode == "add"


def test_the_image_says_that_it_is_on(marking, viewer, press):
    overlay = compat.text_overlay(viewer)
    assert overlay.visible and overlay.text.startswith("Marking atoms   4 atoms")
    click(viewer, *PLACES[0])
    assert "atom 1: 90 %" in overlay.text
    press(KEY.Key_U)
    assert "1 uncertain" in overlay.text
    # what is said of clusters does not get in between
    marking.state.clusters.set_analysis(made_up(4, "field", size_px=96))
    assert overlay.visible and overlay.text.startswith("Marking")
    heard = []
    marking.atoms.marking_changed.connect(heard.append)
    press(KEY.Key_Escape)
    assert heard == [False] and not overlay.visible
    marking.label_mode.on = True
    marking.atoms.marking = True
    assert overlay.text.startswith("Marking")
    marking.atoms.marking = False
    assert overlay.visible and overlay.text.startswith("Label mode")


def test_label_mode_names_no_keys_without_clusters(marking, viewer, press):
    press(KEY.Key_Escape)
    marking.label_mode.on = True
    overlay = compat.text_overlay(viewer)
    assert not overlay.visible, "an image with atoms only"
    marking.state.clusters.set_analysis(made_up(4, "field", size_px=96))
    assert overlay.visible and overlay.text.startswith("Label mode")


def test_after_marking_the_keys_are_those_that_the_window_tells(marking, viewer, press):
    marks_help = viewer.help
    press(KEY.Key_Escape)
    assert viewer.help != marks_help
    clusters, atoms = marking.state.clusters, marking.state.atoms
    clusters.set_analysis(made_up(4, "field", size_px=96))
    viewer.layers.selection.active = viewer.layers["field atoms"]
    marking.label_mode.on = True
    assert compat.text_overlay(viewer).text.startswith("Label mode")
    assert "0 unknown" in viewer.help
    marking.state.select([("field", 2)])
    atoms.select([("field", 1), ("field", 3)])
    press(KEY.Key_0)
    assert len(table(marking)) == 4
    press(KEY.Key_1)
    assert len(table(marking)) == 4
    corrected = marking.state.table("field").set_index("cluster_id")["label_corrected"]
    assert corrected.loc[2] == marking.state.classes()[0]
    press(KEY.Key_Z, modifiers=CTRL)
    corrected = marking.state.table("field").set_index("cluster_id")["label_corrected"]
    assert corrected.loc[2] == "unknown"
    marking.label_mode.on = False
    atoms.select([("field", 1)])
    press(KEY.Key_Delete)
    assert len(table(marking)) == 4
    viewer.layers["field atoms"].mode = "select"
    press(KEY.Key_Delete)
    assert len(table(marking)) == 3  # napari's own key again


def test_two_quick_clicks_are_no_wish_to_go_nearer(marking, viewer, canvas):
    zoom = compat.camera(viewer).zoom
    QTest.mouseDClick(canvas, LEFT, PLAIN, place(viewer, *PLACES[0]))
    assert compat.camera(viewer).zoom == zoom
    marking.atoms.marking = False
    QTest.mouseDClick(canvas, LEFT, PLAIN, place(viewer, *PLACES[0]))
    assert compat.camera(viewer).zoom > zoom


def test_a_review_and_marking_end_each_other(marking, viewer):
    state = marking.state
    state.clusters.set_analysis(made_up(4, "field", size_px=96))
    marking.label_mode.review = Reviewing(state, build(state.table(), ReviewRequest("confidence")))
    assert not marking.atoms.marking
    assert compat.text_overlay(viewer).text.startswith("Review")
    marking.atoms.marking = True
    assert marking.label_mode.review is None
    assert compat.text_overlay(viewer).text.startswith("Marking")


def test_a_layer_that_is_deleted_comes_back_with_the_next_atom(marking, viewer):
    viewer.layers.remove("field atoms")
    click(viewer, 80, 80, ALT)
    assert viewer.layers.selection.active is viewer.layers["field atoms"]
    assert consistent(marking) and len(table(marking)) == 5


def test_marking_without_an_image_is_refused(make_napari_viewer):
    view, heard = binding_of(make_napari_viewer()).atoms, []
    view.marking_changed.connect(heard.append)
    view.marking = True
    assert not view.marking and heard == [False]


def test_without_a_pixel_size_it_is_said(viewer):
    layer = viewer.add_image(spots(), name="field")
    binding = binding_of(viewer)
    binding.atoms.marking = True
    assert binding.canvas.image_of(layer) == "field"
    centre = compat.camera(viewer).center
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.mouseClick(canvas, LEFT, PLAIN, canvas.rect().center())
    assert not len(table(binding)) and compat.camera(viewer).center == centre


def test_a_click_means_clusters_where_their_layer_is_in_front(analysed, viewer):
    clusters = made_up(4, "field", size_px=96)
    clusters.table.loc[0, ["y_px", "x_px"]] = PLACES[2]
    analysed.state.clusters.set_analysis(clusters)
    viewer.layers.selection.active = viewer.layers["field clusters"]
    click(viewer, *PLACES[2])
    assert analysed.state.selection == {("field", 1)} and not analysed.state.atoms.selection
    viewer.layers.selection.active = viewer.layers["field atoms"]
    click(viewer, *PLACES[2])
    assert analysed.state.atoms.selection == {("field", 3)}
    analysed.state.history.undo()  # the clusters go, the atoms do not
    assert consistent(analysed)


def test_a_key_for_an_atom_of_another_frame_shows_it_first(viewer, press):
    pixels = np.stack([spots(), spots()])
    binding = add_image(viewer, pixels)
    atoms = binding.state.atoms
    atoms.set_analysis(found(pixels, frames=[0, 1, 1, 0, 0]))
    binding.atoms.marking = True
    atoms.select([("field", 2)])
    viewer.dims.set_current_step(0, 0)
    press(KEY.Key_Delete)
    assert len(table(binding)) == 4 and viewer.dims.current_step[0] == 1
    assert "Another frame" in viewer.status
    press(KEY.Key_Delete)
    assert 2 not in table(binding).index
    binding.atoms.marking = False


# ---- magnifier
def test_the_magnifier_shows_what_is_around_the_mouse(marking, viewer, press, qtbot):
    heard = []
    marking.atoms.magnifier_changed.connect(heard.append)
    press(KEY.Key_L)
    assert marking.atoms.magnifier and heard == [True]
    widget = marking.atoms._magnifier.widget
    hover(viewer, PLACES[2, 0] + 1, PLACES[2, 1])
    near = PLACES[2] + (1, 0)
    qtbot.waitUntil(
        lambda: (
            widget.view is not None
            and np.allclose(widget.view.centre, near, atol=precision_px(viewer))
        )
    )
    assert widget.isVisible()
    np.testing.assert_allclose(widget.view.spot, PLACES[2], atol=0.1)
    np.testing.assert_allclose(widget.view.atoms[2], PLACES[2])
    # the brightest of what is drawn is the atom, in the middle
    picture = widget.grab().toImage()
    size = widget.width()
    at = [picture.pixelColor(size // 2 + d, size // 2).lightness() for d in (3, 90)]
    assert at[0] > 2 * at[1]
    # it leaves the scale bar free, and keeps out of the way of the mouse
    compat.show_scale_bar(viewer)
    assert compat.scale_bar(viewer).position == "bottom_left"
    assert widget.geometry().bottom() < viewer.window._qt_viewer.canvas.native.height() - 50
    compat.camera(viewer).center = (0.0, 0.9, 2.0)
    before, native = widget.pos(), viewer.window._qt_viewer.canvas.native
    hover_at(native, QPoint(40, native.height() - 40))
    qtbot.waitUntil(lambda: widget.pos() != before)
    assert widget.geometry().left() > 100
    press(KEY.Key_L)
    assert not marking.atoms.magnifier and marking.atoms._magnifier.widget is None


def test_the_magnifier_shows_the_atom_that_a_key_goes_to(marking, viewer, press, qtbot):
    press(KEY.Key_L)
    widget = marking.atoms._magnifier.widget
    hover(viewer, 10, 100)
    qtbot.waitUntil(lambda: widget.view is not None)
    press(KEY.Key_Tab)
    (key,) = marking.state.atoms.selection
    row = table(marking).loc[key[1]]
    qtbot.waitUntil(lambda: np.allclose(widget.view.centre, row[["y_px", "x_px"]].astype(float)))


def test_the_magnifier_keeps_nothing_of_another_image(marking, viewer, press, qtbot):
    press(KEY.Key_L)
    widget = marking.atoms._magnifier.widget
    hover(viewer, *PLACES[2])
    qtbot.waitUntil(lambda: widget.view is not None)
    marking.state.current = None
    qtbot.waitUntil(lambda: widget.view is None)


# ---- support
def draw_polygon(viewer, corners) -> None:
    """A freehand polygon, as a person draws it: it ends at the last corner."""
    native = viewer.window._qt_viewer.canvas.native
    places = [place(viewer, *corner) for corner in corners]
    QTest.mousePress(native, LEFT, PLAIN, places[0])
    for a, b in pairwise(places):
        for step in (1, 2):
            QTest.qWait(20)
            move(native, a + (b - a) * (step / 2))
    QTest.mouseRelease(native, LEFT, PLAIN, places[-1])


SQUARE = [(30, 40), (30, 80), (70, 80), (70, 40)]
WITHIN = [(40, 50), (40, 70), (60, 70), (60, 50)]


def test_the_support_is_shown_and_corrected(analysed, viewer, qtbot, press):
    view, atoms = analysed.atoms, analysed.state.atoms
    assert analysed.canvas.layer("field", "support") is None
    view.show_support = True
    vacuum = viewer.layers["field vacuum"]
    np.testing.assert_array_equal(vacuum.data != 0, ~atoms.of("field").support)
    assert view.draw_support(adds=False)
    layer = viewer.layers["field support"]
    assert layer is viewer.layers.selection.active
    assert "support or vacuum" in compat.text_overlay(viewer).text
    status = layer.get_status((0.4, 0.6), dims_displayed=[0, 1], world=True)
    assert status["coordinates"] == "y 0.40 nm, x 0.60 nm"
    draw_polygon(viewer, SQUARE)
    qtbot.waitUntil(lambda: len(atoms.of("field").support_removed) == 1)
    np.testing.assert_allclose(atoms.of("field").support_removed[0], SQUARE, atol=1)
    mask = atoms.of("field").support
    assert not mask[50, 60] and mask[20, 60]
    np.testing.assert_array_equal(vacuum.data != 0, ~mask)
    # The drawing has ended with the polygon: a click does not begin another one.
    assert viewer.layers.selection.active is viewer.layers["field atoms"]
    view.draw_support(adds=True)
    draw_polygon(viewer, [(5, 1), (5, 8), (90, 8), (90, 1)])
    qtbot.waitUntil(lambda: len(atoms.of("field").support_added) == 1)
    assert len(atoms.of("field").support_removed) == 1
    assert atoms.of("field").support[50, 4] and not atoms.of("field").support[50, 60]
    analysed.edits.undo()
    assert not atoms.of("field").support_added and len(layer.data) == 1
    view.draw_support(adds=True)  # within what was taken away: the later region counts
    draw_polygon(viewer, WITHIN)
    qtbot.waitUntil(lambda: len(atoms.of("field").support_added) == 1)
    assert atoms.of("field").support[50, 60] and not atoms.of("field").support[35, 45]
    np.testing.assert_array_equal(vacuum.data != 0, ~atoms.of("field").support)
    view.draw_support(adds=False)  # and once more, within that one
    draw_polygon(viewer, [(47, 57), (47, 63), (53, 63), (53, 57)])
    qtbot.waitUntil(lambda: len(atoms.of("field").support_removed) == 2)
    assert not atoms.of("field").support[50, 60] and atoms.of("field").support[43, 53]
    analysed.edits.undo()
    assert atoms.of("field").support[50, 60]
    view.draw_support(adds=True)  # where support is already
    draw_polygon(viewer, [(42, 52), (42, 68), (58, 68), (58, 52)])
    qtbot.waitUntil(lambda: len(atoms.of("field").support_added) == 2)
    assert any("adds nothing to the support" in one.message for one in notification_manager.records)
    analysed.edits.undo()
    analysed.edits.undo()
    np.testing.assert_array_equal(atoms.of("field").support, mask)
    analysed.edits.redo()
    assert atoms.of("field").support[50, 60] and len(layer.data) == 2
    analysed.edits.undo()
    view.draw_support(adds=True)
    press(KEY.Key_Escape)
    assert viewer.layers.selection.active is viewer.layers["field atoms"]
    # one that is deleted with napari's tools is taken back
    layer.selected_data = {0}
    layer.remove_selected()
    qtbot.waitUntil(lambda: not atoms.of("field").support_removed)
    assert not vacuum.data[50, 60]
    view.show_support = False
    assert not vacuum.visible and not layer.visible
    analysed.edits.undo()
    view.show_support = True
    assert vacuum.visible and vacuum.data[50, 60] and len(layer.data) == 1


def click_corners(viewer, corners) -> None:
    """A polygon corner by corner; a double click at the last one ends it."""
    for corner in corners:
        for _ in range(3):
            QTest.qWait(20)  # napari takes no more of them than a screen shows
            hover(viewer, *corner)
        click(viewer, *corner)
    QTest.mouseDClick(
        viewer.window._qt_viewer.canvas.native, LEFT, PLAIN, place(viewer, *corners[-1])
    )


def test_support_is_drawn_by_clicking_corners_and_a_discarded_drawing_does_no_harm(
    analysed, viewer, qtbot
):
    view, atoms = analysed.atoms, analysed.state.atoms
    view.show_support = True
    assert view.draw_support(adds=False)
    layer = viewer.layers["field support"]
    click_corners(viewer, SQUARE[:2])
    qtbot.waitUntil(lambda: not layer._is_creating and not len(layer.data))
    view.draw_support(adds=True)
    click_corners(viewer, [(5, 1), (5, 8), (90, 8), (90, 1)])
    qtbot.waitUntil(lambda: len(atoms.of("field").support_added) == 1)
    view.draw_support(adds=False)
    click_corners(viewer, SQUARE)
    qtbot.waitUntil(lambda: len(atoms.of("field").support_removed) == 1)
    np.testing.assert_allclose(atoms.of("field").support_removed[0], SQUARE, atol=1)
    view.draw_support(adds=False)
    draw_polygon(viewer, [(75, 20), (75, 30), (90, 30), (90, 20)])
    qtbot.waitUntil(lambda: len(atoms.of("field").support_removed) == 2)
    # Without its corners, the first polygon is removed, and the others keep their colours.
    viewer.layers.selection.active = layer
    layer.selected_data = {0}
    layer.mode = "vertex_remove"
    for corner in ((5, 8), (90, 8)):
        hover(viewer, *corner)
        click(viewer, *corner)
    qtbot.waitUntil(lambda: not atoms.of("field").support_added)
    assert len(atoms.of("field").support_removed) == 2


@pytest.mark.parametrize(("marking", "words"), [(False, "selects an atom"), (True, "adds an atom")])
def test_when_drawing_of_the_support_ends_the_status_bar_says_what_a_click_does(
    analysed, viewer, qtbot, press, marking, words
):
    analysed.atoms.marking = marking
    analysed.atoms.draw_support(adds=True)
    press(KEY.Key_Escape)
    qtbot.waitUntil(lambda: words in viewer.status)


def test_without_atoms_there_is_no_support_to_draw(binding, viewer):
    assert not binding.atoms.draw_support(adds=True)
    assert [layer.name for layer in viewer.layers] == ["field"]


# ---- projects
@pytest.fixture
def project(tmp_path):
    """A project of three images; atoms have been found in two."""
    for name, flip in (("a.tif", 1), ("b.tif", -1), ("c.tif", 1)):
        tifffile.imwrite(
            tmp_path / name,
            spots()[::flip],
            imagej=True,
            resolution=(1 / PIXEL_NM, 1 / PIXEL_NM),
            metadata={"unit": "nm"},
        )
    with Project(tmp_path / "p.atomicity") as made:
        paths = [tmp_path / name for name in ("a.tif", "b.tif", "c.tif")]
        made.add_paths(paths)
        for path in paths:
            made.image_files.update_metadata(load(path))
        yield made


@pytest.fixture
def opened(viewer, project, settle):
    binding = binding_of(viewer)
    state = binding.state
    state.annotator = "Ada"
    state.open_project(project, project.load_all())
    flipped = np.column_stack([95 - PLACES[:, 0], PLACES[:, 1]])
    for name, places in (("a.tif", PLACES), ("b.tif", flipped)):
        pixels = state.micrograph(name).data
        state.atoms.set_analysis(found(pixels, name, places=places))
    state.current = "a.tif"
    settle(viewer)
    yield binding
    binding.atoms.marking = binding.atoms.magnifier = False
    settle(viewer)


def go(binding, image, settle) -> None:
    binding.state.current = image
    settle(binding.viewer)


def test_layers_are_handed_on(opened, viewer, settle):
    layer = viewer.layers["a.tif atoms"]
    opened.atoms.show_support = True
    support = viewer.layers["a.tif support"]
    go(opened, "b.tif", settle)
    assert viewer.layers["b.tif atoms"] is layer and consistent(opened, "b.tif")
    assert viewer.layers["b.tif support"] is support
    go(opened, "c.tif", settle)  # where nobody has looked
    assert not len(layer.data) and not viewer.layers["c.tif vacuum"].data.any()
    go(opened, "a.tif", settle)
    assert consistent(opened, "a.tif") and len(layer.data) == 4
    assert opened.canvas.layer("b.tif", "atoms") is None


def test_marking_goes_on_in_the_next_image_and_undo_goes_back(opened, viewer, settle, press):
    opened.atoms.marking = True
    click(viewer, 80, 80, ALT)
    go(opened, "c.tif", settle)
    click(viewer, *PLACES[0])
    assert len(table(opened, "c.tif")) == 1
    go(opened, "b.tif", settle)
    press(KEY.Key_Z, modifiers=CTRL)
    settle(viewer)
    assert opened.state.current == "c.tif" and not len(table(opened, "c.tif"))
    press(KEY.Key_Z, modifiers=CTRL)
    settle(viewer)
    assert opened.state.current == "a.tif"
    assert len(table(opened, "a.tif")) == 4 and consistent(opened, "a.tif")
    assert opened.atoms.marking


def test_an_atom_of_another_image_is_gone_to(opened, viewer, settle):
    opened.state.atoms.request_focus(("b.tif", 3))
    settle(viewer)
    assert opened.state.current == "b.tif"
    np.testing.assert_allclose(
        compat.camera(viewer).center[-2:], np.array([95 - 50.4, 60.2]) * PIXEL_NM
    )


@pytest.mark.parametrize("from_atom", [True, False])
def test_a_button_released_over_another_image_changes_neither(opened, viewer, settle, from_atom):
    opened.atoms.marking = True
    steps, native = len(opened.state.history), viewer.window._qt_viewer.canvas.native
    start = place(viewer, *(PLACES[2] if from_atom else (60.0, 90.0)))
    end = start + (QPoint(20, 0) if from_atom else QPoint(0, 0))
    QTest.mousePress(native, LEFT, PLAIN, start)
    if from_atom:
        QTest.qWait(20)
        move(native, (start + end) / 2)
    go(opened, "b.tif", settle)
    if from_atom:
        QTest.qWait(20)
        move(native, end)
    QTest.mouseRelease(native, LEFT, PLAIN, end)
    settle(viewer)
    assert len(opened.state.history) == steps
    assert consistent(opened, "b.tif")
    go(opened, "a.tif", settle)
    assert consistent(opened, "a.tif")


@pytest.mark.parametrize("mode", ["add", "select"])
def test_nor_does_one_over_clusters(opened, viewer, settle, mode):
    state, native = opened.state, viewer.window._qt_viewer.canvas.native
    for name in ("a.tif", "b.tif"):
        state.clusters.set_analysis(made_up(4, name, size_px=96))
    settle(viewer)
    layer = opened.canvas.layer("a.tif", "clusters")
    viewer.layers.selection.active = layer
    layer.mode = mode
    steps, here = len(state.history), place(viewer, *layer.data[0])
    QTest.mousePress(native, LEFT, PLAIN, here)
    if mode == "select":
        QTest.qWait(20)
        move(native, here + QPoint(10, 10))
    go(opened, "b.tif", settle)
    state.select([("b.tif", 1), ("b.tif", 2)])
    if mode == "select":
        QTest.qWait(20)
        move(native, here + QPoint(20, 20))
    QTest.mouseRelease(native, LEFT, PLAIN, here)
    settle(viewer)
    assert len(state.history) == steps
    assert state.selection == {("b.tif", 1), ("b.tif", 2)}


def test_a_key_changes_nothing_in_an_image_that_is_being_opened(opened, viewer, settle, press):
    state = opened.state
    for name in ("a.tif", "b.tif"):
        state.clusters.set_analysis(made_up(4, name, size_px=96))
    settle(viewer)
    opened.label_mode.on = True
    viewer.layers.selection.active = opened.canvas.layer("a.tif", "clusters")
    state.current = "b.tif"
    state.select([("b.tif", 1)])  # as an undo does
    press(KEY.Key_2, KEY.Key_X)
    assert state.table("b.tif")["label_corrected"].tolist() == [""] * 4
    assert "being opened" in viewer.status
    settle(viewer)
    press(KEY.Key_2)
    assert (state.table("b.tif")["label_corrected"] != "").sum() == 1


@pytest.mark.parametrize("how", ["corners", "button down", "finished"])
def test_a_region_belongs_to_the_image_in_which_it_is_drawn(
    opened, viewer, settle, press, qtbot, how
):
    """What is drawn half when another image appears is discarded."""
    state, native = opened.state, viewer.window._qt_viewer.canvas.native
    for name in ("a.tif", "b.tif"):
        state.clusters.set_analysis(made_up(4, name, size_px=96))
    settle(viewer)
    viewer.layers.selection.active = opened.canvas.layer("a.tif", "clusters")
    opened.label_mode.on = True
    press(KEY.Key_E)
    corners = [place(viewer, *at) for at in ((20, 20), (20, 60), (60, 60), (60, 20))]

    def click_corners():
        for corner in corners:
            QTest.mouseMove(native, corner)
            QTest.mouseClick(native, LEFT, PLAIN, corner)

    if how == "corners":
        click_corners()
    else:
        QTest.mousePress(native, LEFT, PLAIN, corners[0])
        for a, b in pairwise(corners):
            for step in range(1, 6):
                QTest.qWait(20)
                move(native, a + (b - a) * (step / 5))
        if how == "finished":
            QTest.mouseRelease(native, LEFT, PLAIN, corners[-1])
    go(opened, "b.tif", settle)
    if how == "button down":
        move(native, corners[0])
        QTest.mouseRelease(native, LEFT, PLAIN, corners[0])
    settle(viewer)
    qtbot.wait(60)
    assert len(state.clusters.regions("a.tif")) == (how == "finished")
    assert not state.clusters.regions("b.tif")
    if how != "finished":  # drawing goes on
        click_corners()
        press(KEY.Key_Return)
        qtbot.waitUntil(lambda: len(state.clusters.regions("b.tif")) == 1)
        assert len(state.clusters.regions("b.tif")[0]) == 4


def test_blind_no_candidate_is_seen_and_marks_are_ones_own(opened, viewer, settle, press):
    opened.state.set_blind(True)
    settle(viewer)
    assert not len(opened.canvas.layer("a.tif", "atoms").data)
    opened.atoms.marking = True
    assert "blind" in compat.text_overlay(viewer).text
    click(viewer, *(PLACES[2] + (1, 1)))
    row = table(opened, "a.tif").iloc[0]
    np.testing.assert_allclose([row["y_px"], row["x_px"]], PLACES[2], atol=0.1)
    press(KEY.Key_Tab)
    assert len(table(opened, "a.tif")) == 1 and consistent(opened, "a.tif")
    opened.state.set_blind(False)
    settle(viewer)
    assert not opened.atoms.marking  # the next click would mark an atom openly
    assert table(opened, "a.tif").index.tolist() == [1, 2, 3, 4]
    assert consistent(opened, "a.tif")


def test_blind_marks_are_counted_by_themselves(opened, viewer, settle):
    """Their ids follow those of hidden atoms, and would tell how many there are."""
    opened.state.set_blind(True)
    settle(viewer)
    opened.atoms.marking = True
    for number, place in ((1, (40.0, 60.0)), (2, PLACES[2])):
        click(viewer, *place)
        (key,) = opened.state.atoms.selection
        assert key[1] > number
        assert f"atom {number}: by a person" in compat.text_overlay(viewer).text
    layer = opened.canvas.layer("a.tif", "atoms")
    words = {format_atom(row).partition(",")[0] for _, row in layer.features.iterrows()}
    assert words == {"atom 1", "atom 2"}


def test_a_project_that_is_closed_takes_its_layers_along(opened, viewer, settle):
    opened.atoms.marking = True
    opened.atoms.show_support = True
    opened.state.close_project()
    settle(viewer)
    assert not len(viewer.layers) and not opened.atoms.marking


def test_where_nothing_may_be_changed_marking_is_refused(
    opened, project, make_napari_viewer, settle
):
    other = make_napari_viewer(show=True)
    binding = binding_of(other)
    project.flush()
    with Project(project.path) as second:
        assert second.read_only
        binding.state.open_project(second, second.load_all())
        binding.state.current = "a.tif"
        settle(other)
        binding.atoms.marking = True
        assert not binding.atoms.marking
        layer = binding.canvas.layer("a.tif", "atoms")
        layer.selected_data = {0}
        layer.remove_selected()
        assert consistent(binding, "a.tif") and len(layer.data) == 4
        binding.state.close_project()
        settle(other)


# ---- images with clusters too
def test_the_workspace_says_whether_keys_and_mouse_are_for_atoms_or_clusters(
    viewer, settle, qtbot, tmp_path
):
    binding = binding_of(viewer)
    state, sizes = binding.state, {"field": 96, "other": 40, "next": 96}
    for name, width in sizes.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", spots()[:, :width])
    state.attach_project(Project(tmp_path / "p.atomicity"))
    for name in sizes:
        state.add_image(replace(load(tmp_path / f"{name}.tif", PIXEL_NM), name=name))
    for name in ("field", "next"):
        state.clusters.set_analysis(made_up(4, name, size_px=96))
        state.atoms.set_analysis(found(spots(), name))
    open_workbench(viewer, "Clusters")
    switch = viewer.window._qt_window.findChild(WorkspaceSwitch)

    def is_active(image, kind):
        active = viewer.layers.selection.active
        return active is not None and active is binding.canvas.layer(image, kind)

    for name in sizes:
        state.current = name
        settle(viewer)
        assert is_active(name, "clusters") == (name != "other")
    qtbot.mouseClick(switch.buttons["Atoms"], LEFT)
    assert is_active("next", "atoms")
    state.current = "field"
    settle(viewer)
    assert is_active("field", "atoms")
    qtbot.mouseClick(switch.buttons["Movies and live"], LEFT)
    assert is_active("field", "clusters")
