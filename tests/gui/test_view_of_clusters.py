"""What a person sees of a cluster in a real window: marks, texts, class maps, surroundings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from mouse import LEFT
from napari.settings import get_settings
from qtpy.QtCore import QPoint
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton
from synthetic import CLASSES, PIXEL_SIZE_NM, with_class_maps

from napari_atomicity.core.palette import colours
from napari_atomicity.core.tables.cluster_table import is_whole
from napari_atomicity.gui.docks.explain.dock import Explain
from napari_atomicity.gui.docks.explain.facts import facts, map_summary
from napari_atomicity.gui.docks.review.dock import Review
from napari_atomicity.gui.gallery.model import format_tooltip
from napari_atomicity.gui.scatter.looks import (
    COLOURINGS,
    MISSING_RGBA,
    format_cluster as hovered,
)
from napari_atomicity.gui.table.model import matching_rows, shown_values
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.gui.viewer.layers.layers import place_boxes
from napari_atomicity.gui.viewer.layers.point_style import (
    class_map_image,
    class_map_scale,
    features as point_features,
    texts,
)
from napari_atomicity.gui.viewer.layers.status_line import format_cluster, show_message
from napari_atomicity.reporting.plots.columns import histogram_data
from napari_atomicity.state.review_queue import queue_of
from napari_atomicity.state.reviewing import Reviewing

FIELD = "field"


@pytest.fixture
def shown(viewer, settle):
    """A window with an analysed image."""
    binding, analysis = binding_of(viewer), with_class_maps(30)
    layer = viewer.add_image(
        analysis.micrograph.data, name=FIELD, scale=(PIXEL_SIZE_NM,) * 2, units=("nm", "nm")
    )
    binding.canvas.ensure_image(layer)
    binding.state.clusters.set_analysis(analysis)
    settle(viewer)
    return viewer


@pytest.fixture
def binding(shown):
    return binding_of(shown)


@pytest.fixture
def points(binding):
    return binding.canvas.layer(FIELD, "clusters")


def on_screen(viewer, size_px):
    """Return a size in pixels of the image as pixels of the screen."""
    return np.asarray(size_px) * PIXEL_SIZE_NM * compat.camera(viewer).zoom


# ---- marks
def test_marks_and_selection_have_one_width_at_every_zoom(shown, binding, points, settle):
    binding.state.select([(FIELD, 1)])
    settle(shown)
    outlines = shown.layers[f"{FIELD} outlines"]
    before = on_screen(shown, points.border_width), on_screen(shown, outlines.edge_width)
    for factor in (6.0, 0.1):
        compat.camera(shown).zoom *= factor
        settle(shown)
        np.testing.assert_allclose(on_screen(shown, points.border_width), before[0], rtol=0.21)
        assert on_screen(shown, outlines.edge_width) == pytest.approx(before[1], rel=0.21)
    assert before[0].max() < 4, "thin"


def test_marks_lie_outside_the_outlines(shown, binding, points):
    diameter_px = binding.state.table(FIELD)["diameter_nm"] / PIXEL_SIZE_NM
    assert {str(s) for s in points.symbol} == {"disc"}, "rings"
    assert (points.size - points.border_width > diameter_px).all()
    assert not points.face_color[:, 3].any()


def test_the_selection_has_no_colour_of_a_class(shown, binding, points):
    before = points.border_color.copy()
    binding.state.select([(FIELD, 4), (FIELD, 5)])
    known = [to_rgb(c) for c in colours(CLASSES).values()]
    for row in (3, 4):
        assert min(np.abs(points.border_color[row, :3] - c).max() for c in known) > 0.15
    binding.state.clusters.relabel([(FIELD, 4)], "Pt70")
    assert (points.border_color[3] == points.border_color[4]).all(), "still selected"
    binding.state.select([])
    np.testing.assert_array_equal(points.border_color[4], before[4])
    visual = shown.window._qt_viewer.canvas.layer_to_visual[points]
    assert not visual.node.selection_markers.visible, "napari's own is as blue as a class"


def test_marks_of_hidden_labels_are_drawn_only_while_they_are_selected(shown, binding, points):
    label = points.features["label"].iloc[0]
    hidden = (points.features["label"] == label).to_numpy()
    others = {(FIELD, int(i)) for i in points.features["cluster_id"][~hidden]}
    assert 0 < hidden.sum() < len(hidden)

    def drawn():
        markers = shown.window._qt_viewer.canvas.layer_to_visual[points].node.points_markers
        return markers._data["a_fg_color"][:, 3] > 0

    binding.clusters.hidden = frozenset({label})
    np.testing.assert_array_equal(drawn(), ~hidden)
    # As a box around all of them does, and Ctrl+A.
    points.selected_data = set(range(len(hidden)))
    assert binding.state.selection == others
    assert set(points.selected_data) == set(np.flatnonzero(~hidden))
    binding.state.select([])
    points.selected_data = set(np.flatnonzero(hidden))
    assert not binding.state.selection and not points.selected_data
    # In the gallery, for instance: a key then acts on it.
    binding.state.select([(FIELD, 1)])
    assert drawn()[0] and drawn().sum() == (~hidden).sum() + 1
    binding.state.select([])
    np.testing.assert_array_equal(drawn(), ~hidden)


def test_marks_are_faded_during_a_review(shown, binding, points):
    known = binding.canvas.layers[FIELD]
    maps = known.write_class_map("raw", np.zeros((8, 8), np.float32))
    faded = (points, shown.layers[f"{FIELD} outlines"], maps)
    before = [layer.opacity for layer in faded]
    binding.label_mode.review = Reviewing(binding.state, queue_of([(FIELD, 2), (FIELD, 3)]))
    assert all(layer.opacity < 0.5 for layer in faded)
    binding.label_mode.end_review()
    assert [layer.opacity for layer in faded] == before


# ---- texts
def boxes_of(layer, viewer) -> np.ndarray:
    """Low and high corners (N, 2, 2) of the texts in screen pixels, with their symbols."""
    widths = np.array([len(t) * 7.6 + 12 for t in layer.text.values])
    place = on_screen(viewer, layer.data[:, -2:])
    low = place - [8, 4.5]
    return np.stack([low, np.column_stack([place[:, 0] + 8, low[:, 1] + widths])], axis=1)


def test_texts_overlap_neither_texts_nor_clusters(shown, points):
    texts = shown.layers[f"{FIELD} texts"]
    assert 3 < len(texts.data) < len(points.data), "fewer than the clusters"
    low, high = boxes_of(texts, shown).swapaxes(0, 1)
    overlap = ((low[:, None] + 1 < high) & (low < high[:, None] - 1)).all(axis=2)
    assert overlap.sum() == len(low), "each with itself only"
    centres, radii = on_screen(shown, points.data), on_screen(shown, points.size) / 2
    nearest = np.clip(centres, (low + 1)[:, None], (high - 1)[:, None])
    assert (np.hypot(*(nearest - centres).transpose(2, 0, 1)) > radii - 1).all()


def test_a_larger_canvas_has_texts_everywhere(shown, points, settle, qtbot):
    texts, window = shown.layers[f"{FIELD} texts"], shown.window._qt_window
    window.resize(900, 500)
    camera = compat.camera(shown)
    camera.zoom *= 3  # by hand: another size of the canvas leaves the view
    settle(shown)
    shown.screenshot(flash=False)
    settle(shown)
    few, before = len(texts.data), compat.canvas_size(shown)
    window.resize(1500, 1000)
    qtbot.waitUntil(lambda: min(compat.canvas_size(shown)) > before[0] + 200)
    settle(shown)
    assert len(texts.data) > few


@pytest.mark.parametrize("moved", [False, True])
def test_an_image_that_was_open_before_is_fitted_to_another_canvas(viewer, settle, qtbot, moved):
    window, camera = viewer.window._qt_window, compat.camera(viewer)
    window.resize(900, 500)
    viewer.add_image(np.zeros((300, 300)), name=FIELD, scale=(PIXEL_SIZE_NM,) * 2)
    settle(viewer)
    if moved:
        camera.center = (0, 0, 0)
    before, zoom = compat.canvas_size(viewer), camera.zoom
    binding_of(viewer)
    window.resize(1500, 1000)
    qtbot.waitUntil(lambda: min(compat.canvas_size(viewer)) > before[0] + 200)
    settle(viewer)
    grown = min(compat.canvas_size(viewer)) / min(before)
    assert (camera.zoom == pytest.approx(zoom * grown, rel=0.1)) == (not moved)


def test_nothing_moves_under_the_mouse_when_the_canvas_changes_in_a_drag(shown, settle, qtbot):
    window, camera = shown.window._qt_window, compat.camera(shown)
    window.resize(900, 500)
    settle(shown)
    before, place = compat.canvas_size(shown), (camera.center, camera.zoom)
    canvas = shown.window._qt_viewer.canvas.native

    def draw(viewer, event):
        yield
        while event.type == "mouse_move":
            yield

    shown.mouse_drag_callbacks.append(draw)
    QTest.mousePress(canvas, LEFT, pos=QPoint(200, 100))
    window.resize(1500, 1000)
    qtbot.waitUntil(lambda: min(compat.canvas_size(shown)) > before[0] + 200)
    assert (camera.center, camera.zoom) == place
    QTest.mouseRelease(canvas, LEFT, pos=QPoint(200, 100))
    qtbot.waitUntil(lambda: camera.zoom > 1.2 * place[1])


def test_a_canvas_that_is_wider_for_a_moment_leaves_the_view_fitted(shown, binding, settle, qtbot):
    window, camera = shown.window._qt_window, compat.camera(shown)
    native = shown.window._qt_viewer.canvas.native
    window.resize(1000, 800)
    settle(shown)
    shown.reset_view()
    settle(shown)
    native.grabFramebuffer()  # draws
    fitted = camera.zoom
    window.resize(2400, 800)  # as while docks are exchanged: nothing is drawn in between
    window.resize(1000, 800)
    native.grabFramebuffer()
    qtbot.waitUntil(lambda: camera.zoom == pytest.approx(fitted, rel=0.05))
    native.grabFramebuffer()
    assert camera.zoom == pytest.approx(fitted, rel=0.05)


def test_the_text_of_a_selected_cluster_comes_first_and_always():
    view = np.zeros(2), np.array([20.0, 140.0]), np.zeros(2), np.array([20.0, 140.0])
    centres, radii, sizes = np.array([[10.0, 10.0], [10.0, 130.0]]), np.full(2, 5.0), [[10, 80]] * 2
    for first in (0, 1):
        placed = place_boxes(centres, radii, np.array(sizes), np.arange(2) == first, view)
        assert list(placed) == [first]
    centres = np.array([[10.0, 10.0], [10.0, 50.0]])
    for selected, n in ((False, 0), (True, 1)):
        chosen = np.array([selected, False])
        placed = place_boxes(centres, np.array([5.0, 8.0]), np.array(sizes), chosen, view)
        assert (0 in placed) == bool(n), "over another cluster only if it is selected"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_texts_contrast_with_what_lies_below(shown, binding, points, settle, theme):
    shown.theme = theme
    compat.camera(shown).zoom *= 0.9
    settle(shown)
    texts = shown.layers[f"{FIELD} texts"]
    low, high = boxes_of(texts, shown).swapaxes(0, 1)
    edge = on_screen(shown, 256)
    inside = (low > -1).all(axis=1) & (high < edge + 1).all(axis=1)
    colours = texts.text.color.array[:, :3]
    assert inside.any()
    assert (colours[inside] == 1).all(), "white on a dark image"
    assert (colours[~inside] == (theme == "dark")).all(), "outside it as the theme says"
    source = shown.layers[FIELD]
    source.contrast_limits = (-1000, 1)  # a bright image
    compat.camera(shown).zoom *= 1.1
    settle(shown)
    assert (texts.text.color.array[:, :3].sum(axis=1) == 0).any()


# ---- surroundings
@pytest.mark.parametrize("factor", [0.02, 50.0])
def test_show_in_image_keeps_the_surroundings_in_view(shown, binding, factor):
    table = binding.state.table(FIELD)
    compat.camera(shown).zoom *= factor
    binding.state.request_focus((FIELD, 3))
    view_nm = min(compat.canvas_size(shown)) / compat.camera(shown).zoom
    assert 4 * table["diameter_nm"].iloc[2] <= view_nm <= 12.1
    centre = np.array(compat.camera(shown).center[-2:])
    np.testing.assert_allclose(centre, table[["y_nm", "x_nm"]].iloc[2], atol=0.01)


# ---- class maps
def test_class_maps_have_one_scale_so_that_empty_support_stays_dark(shown, binding):
    found = with_class_maps(30)
    maps = {c: m.copy() for c, m in found.class_maps.items()}
    for values in maps.values():
        values[0] *= 0.02
    faint = replace(found, class_maps=maps)
    image = class_map_image(faint, maps["raw"], class_map_scale(faint))
    y, x = faint.table[["y_px", "x_px"]].round().astype(int).to_numpy().T
    alone = np.hypot(y[1:] - y[0], x[1:] - x[0]).min() > 20
    assert not alone or image[y[0], x[0]] < 0.1
    assert image.max() == 1 and np.median(image[y[1:], x[1:]]) > 0.7


def test_clusters_of_hidden_labels_have_no_class_map(shown, binding, settle):
    raw, table = binding.canvas.layer(FIELD, "class map raw"), binding.state.table(FIELD)
    y, x = table[["y_px", "x_px"]].round().astype(int).to_numpy().T
    label = table["label"].iloc[0]
    hidden = (table["label"] == label).to_numpy()
    before = raw.data[y, x]
    binding.clusters.hidden = frozenset({label})
    settle(shown)
    raw = binding.canvas.layer(FIELD, "class map raw")
    assert raw.data[y, x][hidden].max() < 0.5 < before[hidden].min()
    np.testing.assert_array_equal(raw.data[y, x][~hidden], before[~hidden])
    binding.clusters.hidden = frozenset()
    settle(shown)
    np.testing.assert_array_equal(raw.data[y, x], before)


def test_explain_and_a_key_show_and_hide_class_maps(shown, binding, qtbot):
    dock = Explain(shown)
    shown.window.add_dock_widget(dock, name="Explain")
    binding.state.select([(FIELD, 3)])
    dock.update_now()
    raw, lcn = (binding.canvas.layer(FIELD, f"class map {c}") for c in ("raw", "LCN"))
    assert dock.maps_box.isChecked() and raw.visible and not lcn.visible
    dock.maps_box.click()
    assert not (raw.visible or lcn.visible)
    binding.label_mode.on = True
    binding.label_mode.press("C")
    assert raw.visible and not lcn.visible, "what was visible before"
    dock.update_now()
    assert dock.maps_box.isChecked()


def test_a_key_that_is_held_shows_the_image_without_class_maps_for_a_moment(
    shown, binding, points, monkeypatch
):
    shown.layers.selection.active = points
    binding.label_mode.on = True
    raw = binding.canvas.layer(FIELD, "class map raw")
    keys = shown.window._qt_viewer.canvas._key_map_handler
    for delay_s, shown_again in ((0.0, True), (60.0, False)):
        monkeypatch.setattr(get_settings().application, "hold_button_delay", delay_s)
        assert raw.visible
        keys.press_key("C")
        assert not raw.visible
        keys.release_key("C")
        assert raw.visible == shown_again
        keys.release_key("C")  # as after a letter in a text field
        assert raw.visible == shown_again
        raw.visible = True


def test_each_class_map_has_its_own_scale_unless_one_scale_is_chosen(shown, binding, settle):
    found = binding.state.analysis(FIELD)
    maps = {c: m.copy() for c, m in found.class_maps.items()}
    for values in maps.values():
        values[1] *= 0.02
    binding.state.clusters.set_analysis(replace(found, class_maps=maps))
    settle(shown)
    dock = Explain(shown)
    shown.window.add_dock_widget(dock, name="Explain")
    binding.state.select([(FIELD, int(found.table["cluster_id"].iloc[1]))])
    dock.update_now()
    y, x = found.table[["y_px", "x_px"]].iloc[1].round().astype(int)
    raw = binding.canvas.layer(FIELD, "class map raw")
    own = raw.data[y, x]
    assert own > 0.7 and dock.patches.tiles[1].top_of_bar < 0.1
    dock.scale_box.click()
    settle(shown)
    dock.update_now()
    assert raw.data[y, x] < 0.1 and dock.patches.tiles[1].top_of_bar > 0.5
    dock.scale_box.click()
    settle(shown)
    assert raw.data[y, x] == own


@pytest.mark.parametrize(
    ("radius", "place"),
    [
        (0.0, "mostly the centre"),
        (1.0, "mostly the outline"),
        (1.4, "mostly outside the outline"),
        (2.3, "mostly outside the outline"),
        (None, "nowhere"),
    ],
)
def test_a_sentence_says_where_a_class_map_supports_the_class(radius, place):
    r = np.hypot(*(np.mgrid[:28, :28] - 13.5)) / 5  # in radii of the cluster
    values = np.zeros((28, 28)) if radius is None else np.exp(-(((r - radius) / 0.3) ** 2))
    assert map_summary("Pt55", {"raw": values}, 28.0, 5.0) == f"Support for Pt55: {place} in raw."
    faint = map_summary("Pt55", {"raw": np.ones((28, 28)), "LCN": 1e-3 * values}, 28.0, 5.0)
    assert faint.endswith("hardly any in LCN.")


def test_there_is_no_colour_bar_without_class_maps(shown, binding, settle):
    bar = getattr(binding.canvas.layer(FIELD, "class map raw"), "colorbar", None)
    if bar is None:
        pytest.skip("this napari has no colour bars")
    assert compat.text_overlay(shown).position == "top_left"
    assert bar.position == "bottom_right"  # beside the text is no room in a narrow canvas
    # As a blind annotator sees it.
    analysis = replace(binding.state.analysis(FIELD), class_maps={})
    binding.state.clusters.set_analysis(analysis)
    settle(shown)
    assert not bar.visible
    binding.state.history.undo()
    settle(shown)
    assert bar.visible
    other = binding.canvas.layer(FIELD, "class map LCN")
    assert not other.visible and not other.colorbar.visible
    other.visible = True
    assert other.colorbar.visible


def test_layer_and_canvas_say_of_which_class_the_maps_are(shown, binding, settle, monkeypatch):
    class Model:
        def class_maps(self, patches, label, *, symmetries=False):
            return {c: np.ones((len(p), 14, 14), np.float32) for c, p in patches.items()}

    monkeypatch.setattr(
        "napari_atomicity.gui.viewer.overlays.classifier_of", lambda analysis: Model()
    )
    raw, overlay = binding.canvas.layer(FIELD, "class map raw"), compat.text_overlay(shown)
    assert raw.name == f"{FIELD} class map raw"
    binding.state.explained_class = "Pt55"
    settle(shown)
    assert binding.canvas.layer(FIELD, "class map raw") is raw
    assert raw.name == f"{FIELD} class map raw of Pt55"
    assert overlay.visible and "Class maps of Pt55" in overlay.text
    binding.canvas.class_maps_visible = False
    assert "Class maps" not in overlay.text or not overlay.visible
    binding.state.explained_class = None
    settle(shown)
    assert raw.name == f"{FIELD} class map raw"


def test_class_maps_that_are_hidden_stay_hidden_in_an_image_analysed_later(shown, binding, settle):
    binding.canvas.class_maps_visible = False
    old = binding.state.analysis(FIELD)
    other = replace(old, micrograph=replace(old.micrograph, name="other"))
    layer = shown.add_image(old.micrograph.data, name="other")
    binding.canvas.ensure_image(layer)
    binding.state.current = "other"
    binding.state.clusters.set_analysis(other)
    settle(shown)
    assert not binding.canvas.class_maps_visible
    binding.canvas.class_maps_visible = True
    assert binding.canvas.layer("other", "class map raw").visible


# ---- status line, confidence
def status_at(layer, row: int) -> str:
    place = layer.data[row] * PIXEL_SIZE_NM
    return layer.get_status(place, dims_displayed=[0, 1], world=True)["coordinates"]


def test_the_status_line_has_a_new_label_before_the_mouse_moves(shown, binding, points, qtbot):
    shown.layers.selection.active = points
    shown.mouse_over_canvas = True
    shown.cursor.position = points.data_to_world(points.data[3])
    shown.update_status_from_cursor()
    cluster = (FIELD, int(points.features["cluster_id"].iloc[3]))
    assert "by a person" not in shown.status["coordinates"]
    binding.state.clusters.relabel([cluster], "Pt70")
    qtbot.waitUntil(lambda: "Pt70 by a person" in shown.status["coordinates"])
    show_message(shown, "Undone")
    binding.state.clusters.relabel([cluster], "Pt19")
    qtbot.wait(50)
    assert shown.status == "Undone"


def test_the_status_line_has_words_and_units(binding, points):
    row = binding.state.table(FIELD).iloc[1]
    status = status_at(points, 1)
    assert f"y {row['y_nm']:.2f} nm" in status and f"cluster 2, {row['label']}" in status
    assert f"confidence {100 * row['confidence']:.0f} %" in status
    assert f"diameter {row['diameter_nm']:.2f} nm" in status
    assert not [name for name in points.features if f"{name}:" in status]
    binding.state.clusters.relabel([(FIELD, 2)], "Pt70")
    assert "Pt70 by a person" in status_at(points, 1)
    nothing = points.get_status((0.0, 0.0), dims_displayed=[0, 1], world=True)["coordinates"]
    assert nothing == "y 0.00 nm, x 0.00 nm"


@pytest.mark.parametrize("confidence", [0.0, 0.77])
def test_a_cluster_called_unknown_has_no_confidence_anywhere(confidence):
    table = with_class_maps(30).table
    table.loc[1, ["label", "label_predicted", "confidence"]] = ["unknown", "unknown", confidence]
    row = table.iloc[1]
    assert "Confidence" not in [name for name, *_ in facts(row)]
    for text in (format_tooltip(row), hovered(row)):
        assert "unknown" in text and "0.00" not in text and "0.77" not in text and "%" not in text
    assert texts(table)[1] == "unknown"
    cells = shown_values(table, "confidence")
    assert not matching_rows(table, "confidence < 0.9")[1]
    assert matching_rows(table, "confidence = none")[1]
    assert np.isnan(cells[1]) and cells.notna().sum() == (table["label"] != "unknown").sum()
    scale = COLOURINGS["confidence"](table, [])
    assert np.flatnonzero((scale.face == MISSING_RGBA).all(axis=1)).tolist() == [1]
    assert (
        histogram_data(table, [], "confidence")["count"].sum()
        == (is_whole(table) & (np.arange(len(table)) != 1)).sum()
    )
    known = point_features(table).iloc[1]
    assert "unknown" in format_cluster(known) and "%" not in format_cluster(known)


@pytest.mark.parametrize("label", ["unknown", "aggregate"])
def test_a_prediction_keeps_its_confidence_where_a_person_says_that_it_is_no_class(label):
    table = with_class_maps(30).table
    table.loc[1, ["label", "label_corrected"]] = label
    table.loc[1, ["label_predicted", "confidence"]] = "Pt30", 0.77
    assert shown_values(table, "confidence")[1] == 0.77
    assert matching_rows(table, "confidence < 0.8")[1]
    assert not matching_rows(table, "confidence = none")[1]


def test_the_confidence_beside_a_manual_label_is_named_as_the_models():
    table = with_class_maps(30).table
    table["label_predicted"] = table["label"] = "Pt30"
    table["confidence"] = 0.8
    assert "Pt30, confidence 80 %" in format_cluster(point_features(table).iloc[1])
    table["label_corrected"] = "Pt30"
    words = format_cluster(point_features(table).iloc[1])
    assert "Pt30 by a person, confidence of the model in Pt30 80 %" in words


# ---- review
def test_buttons_of_the_review_do_not_move_between_answers(shown, binding, qtbot):
    dock = Review(shown)
    shown.window.add_dock_widget(dock, name="Review")
    table = binding.state.table(FIELD)
    review = Reviewing(binding.state, queue_of([(FIELD, int(i)) for i in table["cluster_id"]]))
    review.remarks = {(FIELD, 2): "A remark that takes more than one line of the dock. " * 3}
    binding.label_mode.review = review
    places = set()
    for key in ("N", "1", "0", "X", "2", "P", "U"):
        dock.update_now()
        qtbot.wait(20)
        buttons = dock.answers.findChildren(QPushButton)
        corners = [b.mapTo(dock, b.rect().topLeft()) for b in buttons]
        places.add(tuple((corner.x(), corner.y()) for corner in corners))
        binding.label_mode.press(key)
    assert len(places) == 1
    binding.label_mode.end_review()
