"""The Embedding dock and its scatter, used with a real mouse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from mouse import at, drag, move
from qtpy.QtCore import QByteArray, QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QHelpEvent, QImage, QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget
from synthetic import CLASSES, made_up
from waiting import updated

from napari_atomicity.core.palette import colours
from napari_atomicity.core.tables.cluster_table import MODEL_MAP
from napari_atomicity.gui.docks.embedding.dock import (
    MAP_OF_MODEL,
    MAP_OF_SESSION,
    Embedding,
)
from napari_atomicity.gui.scatter.legend import MAX_LINES, ColourScale, Entry, Legend
from napari_atomicity.gui.scatter.looks import (
    COLOURINGS,
    by_label,
    hex_colours,
    islands,
    looks_of,
    named,
    typical_places,
)
from napari_atomicity.gui.scatter.mouse import LASSO, PAN, RECTANGLE, extent, rows_in_polygon
from napari_atomicity.gui.scatter.scatter import FRAME_MS, FrameLimiter
from napari_atomicity.gui.viewer.binding import binding_of, state_of
from napari_atomicity.pipeline.session_map import count_unplaced
from napari_atomicity.project import Project

LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
CTRL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def reference(monkeypatch):
    """Reference points of a model that is not there."""
    monkeypatch.setattr(
        "napari_atomicity.gui.docks.embedding.dock.classifier_of", lambda analysis: None
    )
    table = pd.DataFrame(
        {"umap_1": [-9.0, 9.0, 0.0], "umap_2": [0.0, 1.0, 8.0], "label": ["Pt19", "Pt19", "Pt70"]}
    )
    monkeypatch.setattr("napari_atomicity.models.embedding.reference_map", lambda model: table)
    return table


@pytest.fixture
def state(viewer, reference):
    state = state_of(viewer)
    state.clusters.set_analysis(made_up(40))
    return state


@pytest.fixture
def dock(viewer, state, qtbot, settle):
    dock = Embedding(viewer)
    qtbot.addWidget(dock)
    dock.resize(420, 480)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)
    dock.scatter.fit()
    return dock


def _wheel(native, here: QPoint, angle: int) -> None:
    place = QPointF(here)
    event = QWheelEvent(
        place,
        native.mapToGlobal(place),
        QPoint(),
        QPoint(0, angle),
        Qt.MouseButton.NoButton,
        PLAIN,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(native, event)


def island(state, label: str, image: str = "field") -> set:
    table = state.table(image)
    return {(image, int(i)) for i in table.loc[table["label_predicted"] == label, "cluster_id"]}


def box_around(state, label: str, margin: float = 0.4) -> list:
    table = state.table()
    xy = table.loc[table["label_predicted"] == label, ["umap_1", "umap_2"]].to_numpy()
    (left, bottom), (right, top) = xy.min(axis=0) - margin, xy.max(axis=0) + margin
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


# ---- geometry
def test_a_polygon_holds_what_is_inside_it_and_nothing_that_is_not_finite():
    xy = np.array([[0.4, 0.5], [0.9, 0.1], [2, 2], [np.nan, 0.5], [0.1, 0.8]])
    triangle = np.array([[0, 0], [1, 0], [1, 1]])
    assert rows_in_polygon(xy, triangle).tolist() == [1]
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert rows_in_polygon(xy, square).tolist() == [0, 1, 4]
    assert rows_in_polygon(xy, square[:2]).size == 0
    assert rows_in_polygon(xy[:0], square).size == 0


def test_the_extent_of_one_point_and_of_none():
    left, bottom, width, height = extent(np.array([[3.0, 4.0], [np.nan, 0]]))
    assert width > 0 and height > 0
    assert left < 3 < left + width and bottom < 4 < bottom + height
    assert extent(np.full((3, 2), np.nan), np.empty((0, 2))) is None


# ---- selecting here
@pytest.mark.parametrize("by_button", [False, True])
def test_a_lasso_selects_what_lies_in_it(dock, state, by_button):
    dock.lasso_button.setChecked(by_button)
    drag(dock.scatter, box_around(state, "Pt41"), PLAIN if by_button else SHIFT)
    assert state.selection == island(state, "Pt41")
    drag(dock.scatter, box_around(state, "Pt55"), SHIFT)
    assert state.selection == island(state, "Pt41") | island(state, "Pt55")
    drag(dock.scatter, box_around(state, "Pt41"), CTRL)
    assert state.selection == island(state, "Pt55")


def test_a_rectangle_selects_adds_and_takes_away(dock, state):
    QTest.mouseClick(dock.lasso_button, LEFT)
    assert dock.scatter.tool == LASSO
    QTest.mouseClick(dock.rectangle_button, LEFT)
    assert dock.scatter.tool == RECTANGLE and not dock.lasso_button.isChecked()
    over = lambda label: box_around(state, label)[::2]  # noqa: E731 - opposite corners
    drag(dock.scatter, over("Pt41"))
    assert state.selection == island(state, "Pt41")
    drag(dock.scatter, over("Pt55")[::-1], SHIFT)
    assert state.selection == island(state, "Pt41") | island(state, "Pt55")
    drag(dock.scatter, over("Pt41"), CTRL)
    assert state.selection == island(state, "Pt55")
    QTest.mouseClick(dock.rectangle_button, LEFT)
    assert dock.scatter.tool == PAN


def test_a_plain_drag_moves_the_map_and_selects_nothing(dock, state):
    state.select([("field", 1)])
    before = dock.scatter.to_canvas((0, 0))[0]
    start = dock.scatter.to_data((100, 100))[0]
    end = dock.scatter.to_data((160, 130))[0]
    drag(dock.scatter, [start, end])
    assert dock.scatter.to_canvas((0, 0))[0] == pytest.approx(before + np.array([60, 30]), abs=1.5)
    assert state.selection == {("field", 1)}
    dock.fit_button.click()
    assert dock.scatter.to_canvas((0, 0))[0] == pytest.approx(before, abs=1e-3)


def test_escape_gives_a_lasso_up(dock, state):
    scatter, corners = dock.scatter, box_around(state, "Pt41")
    QTest.mousePress(scatter.canvas.native, LEFT, SHIFT, at(scatter, corners[0]))
    for corner in corners[1:]:
        move(scatter.canvas.native, at(scatter, corner), SHIFT)
    assert scatter._line.visible
    QTest.keyClick(scatter.canvas.native, Qt.Key.Key_Escape)
    assert not scatter._line.visible
    QTest.mouseRelease(scatter.canvas.native, LEFT, SHIFT, at(scatter, corners[-1]))
    assert state.selection == frozenset()


def test_the_point_under_the_mouse_is_named(dock, monkeypatch):
    said = []
    monkeypatch.setattr(
        "napari_atomicity.gui.scatter.scatter.QToolTip.showText",
        lambda at, words, w: said.append(words),
    )
    scatter = dock.scatter
    event = QMouseEvent(
        QEvent.Type.MouseMove,
        QPointF(at(scatter, scatter.positions[6])),
        QPointF(),
        Qt.MouseButton.NoButton,
        Qt.MouseButton.NoButton,
        PLAIN,
    )
    QApplication.sendEvent(scatter.canvas.native, event)
    assert len(said) == 1 and "Pt30" in said[0] and "nm" in said[0] and "field" in said[0]


def test_the_mouse_shows_the_patch_and_no_name_is_markup(viewer, dock, state, qtbot):
    words = dock._tip(6)
    assert "data:image/png;base64," in words and "Pt30" in words
    encoded = words.split("base64,")[1].split('"')[0]
    seen = QImage.fromData(QByteArray.fromBase64(encoded.encode()))
    middle, corner = seen.pixelColor(seen.width() // 2, seen.height() // 2), seen.pixelColor(2, 2)
    assert middle.lightness() > 150 > corner.lightness(), "the blob of the patch"
    state.clusters.set_analysis(made_up(3, "<b>bold</b>"))
    analysis = state.analysis("<b>bold</b>")
    analysis.patches["raw"][0] = np.nan
    dock.update_now()
    row = int(dock._rows.of([("<b>bold</b>", 1)])[0])
    assert "<img" not in dock._tip(row) and "&lt;b&gt;bold" in dock._tip(row)


def test_clicks_select_add_take_away_and_clear(dock, state):
    scatter = dock.scatter
    first, second = 0, 1  # of other classes, so far apart
    click = lambda row, how=PLAIN: QTest.mouseClick(  # noqa: E731
        scatter.canvas.native, LEFT, how, at(scatter, scatter.positions[row])
    )
    click(first)
    nearest = state.selection
    assert len(nearest) == 1
    click(second, SHIFT)
    assert len(state.selection) == 2 and nearest < state.selection
    click(first, CTRL)
    assert state.selection.isdisjoint(nearest) and len(state.selection) == 1
    QTest.mouseClick(scatter.canvas.native, LEFT, PLAIN, QPoint(3, 3))
    assert state.selection == frozenset()


def test_a_click_on_a_cluster_of_another_image_shows_it_before_a_key_labels_it(
    dock, state, viewer, settle
):
    binding = binding_of(viewer)
    for seed, name in enumerate(("second", "third"), 3):
        layer = viewer.add_image(np.ones((64, 64)), name=name, scale=(0.05, 0.05), units="nm")
        assert binding.canvas.ensure_image(layer) == name
        state.clusters.set_analysis(made_up(10, name, seed=seed))
    state.current = "third"
    binding.label_mode.on = True
    settle(viewer)
    updated(dock)
    dock.scatter.fit()
    row = int(np.flatnonzero((dock._table["image"] == "second").to_numpy())[0])
    QTest.mouseClick(
        dock.scatter.canvas.native, LEFT, PLAIN, at(dock.scatter, dock.scatter.positions[row])
    )
    settle(viewer)
    ((image, cluster_id),) = state.selection
    before = state.table()
    assert image == state.current
    layer = binding.canvas.layer(image, "clusters")
    assert layer.visible and viewer.layers.selection.active is layer
    ids = layer.features["cluster_id"].to_numpy()[list(layer.selected_data)]
    assert ids.tolist() == [cluster_id]
    QTest.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key.Key_2)
    settle(viewer)
    changed = (state.table()["label_corrected"] != before["label_corrected"]).to_numpy()
    (at_row,) = np.flatnonzero(changed)
    labelled = state.table().iloc[at_row]
    assert (labelled["image"], labelled["cluster_id"]) == (image, cluster_id)
    # A cluster of the shown image moves nothing; with Shift, clusters of several are selected.
    asked = []
    state.focus_requested.connect(asked.append)
    dock._on_selected(np.array([row]), "replace")
    dock._on_selected(np.flatnonzero((dock._table["image"] == "third").to_numpy())[:1], "add")
    assert asked == [] and len(state.selection) == 2


def test_the_nearest_point_is_picked_also_after_zooming(dock):
    scatter = dock.scatter
    xy = scatter.positions
    for row in (4, 17):
        scatter._view.camera.rect = (*(xy[row] - 0.05), 0.1, 0.1)
        place = scatter.to_canvas(xy[row])[0]
        assert scatter.row_at(place + np.array([4, 3])) == row
        assert scatter.row_at(place + np.array([40, 0])) != row


def test_the_wheel_zooms_about_the_mouse(dock):
    scatter = dock.scatter
    here = scatter.to_data((90, 200))[0]
    wide = scatter._view.camera.rect.width
    _wheel(scatter.canvas.native, QPoint(90, 200), 120)
    assert scatter._view.camera.rect.width < wide
    assert scatter.to_data((90, 200))[0] == pytest.approx(here, abs=1e-4)


def test_a_double_click_asks_to_see_the_cluster(dock, state):
    asked = []
    state.focus_requested.connect(asked.append)
    row = 7
    place = at(dock.scatter, dock.scatter.positions[row])
    QTest.mouseDClick(dock.scatter.canvas.native, LEFT, PLAIN, place)
    assert len(asked) == 1
    assert state.selection == {asked[0]}


def test_a_click_in_the_legend_selects_the_class(dock, state):
    dock.legend.clicked.emit("Pt30", PLAIN)
    assert state.selection == island(state, "Pt30")
    dock.legend.clicked.emit("Pt19", SHIFT)
    assert state.selection == island(state, "Pt30") | island(state, "Pt19")


# ---- selected elsewhere
def test_what_is_selected_elsewhere_is_ringed_at_once_and_drawn_alone(dock, state, monkeypatch):
    redrawn, heard = [], []
    monkeypatch.setattr(dock.scatter._points, "set_data", lambda *a, **k: redrawn.append(1))
    state.selection_changed.connect(heard.append)
    state.select([("field", 3), ("field", 40), ("no such image", 1)])
    dock.update_now()
    assert dock.scatter.highlighted.tolist() == [2, 39]
    rings = dock.scatter._rings._data["a_position"][:, :2]
    assert rings == pytest.approx(dock.scatter.positions[[2, 39]])
    assert len(heard) == 1, "a selection must not echo"
    assert not redrawn, "the points need no new drawing for a selection"
    state.select([])
    dock.update_now()
    assert dock.scatter.highlighted.size == 0 and not dock.scatter._rings.visible


def test_clusters_of_several_images_are_told_apart(dock, state):
    state.clusters.set_analysis(made_up(10, "second", seed=3))
    state.select([("second", 1), ("field", 2)])
    dock.update_now()
    assert dock.scatter.highlighted.tolist() == [1, 40]
    assert dock._keys_of(np.array([1, 40])) == {("field", 2), ("second", 1)}


# ---- looks
def test_points_are_drawn_in_the_colours_of_their_classes(dock, state, qtbot):
    # Far apart, so that none covers another.
    analysis = state.analysis("field")
    table = analysis.table.assign(umap_1=np.arange(40) % 8 * 1.0, umap_2=np.arange(40) // 8 * 1.0)
    state.clusters.set_analysis(replace(analysis, table=table))
    dock.update_now()
    dock.scatter.set_background(np.empty((0, 2)), np.empty((0, 4)))
    dock.scatter.fit()
    picture = dock.scatter.canvas.render(alpha=False)
    scale = picture.shape[1] / dock.scatter.canvas.size[0]
    palette = colours(CLASSES)
    for row in range(0, 40, 7):
        x, y = (dock.scatter.to_canvas(dock.scatter.positions[row])[0] * scale).astype(int)
        label = state.table()["label"][row]
        expected = 255 * np.array(to_rgb(palette[label]))
        assert picture[y, x, :3] == pytest.approx(expected, abs=25), label


def test_a_correction_recolours_and_moves_nothing(dock, state, monkeypatch):
    positions = dock.scatter.positions
    counts = {e.name: e.count for e in dock.legend.entries}
    state.clusters.relabel([("field", 1)], "Pt70")
    dock.update_now()
    assert dock.scatter.positions is positions
    data = dock.scatter._points._data
    assert data["a_bg_color"][0, :3] == pytest.approx(to_rgb(colours(CLASSES)["Pt70"]), abs=1e-6)
    assert data["a_edgewidth"][0] > data["a_edgewidth"][1], "a correction must look different"
    now = {e.name: e.count for e in dock.legend.entries}
    assert now["Pt70"] == counts["Pt70"] + 1 and now["Pt19"] == counts["Pt19"] - 1
    state.history.undo()
    dock.update_now()
    assert {e.name: e.count for e in dock.legend.entries} == counts


@pytest.mark.parametrize("name", list(COLOURINGS))
def test_every_colouring_colours_every_point_even_without_values(dock, state, name):
    dock.colour_combo.setCurrentText(name)
    analysis = state.analysis("field")
    table = analysis.table.assign(confidence=np.nan, diameter_nm=np.nan)
    for shown in (analysis.table, table, table.iloc[:0]):
        looks = COLOURINGS[name](shown, CLASSES)
        assert looks.face.shape == ((len(shown), 4) if len(shown) else looks.face.shape)
        assert np.isfinite(looks.face).all()
    assert isinstance(dock.legend.scale, ColourScale) == (name in ("confidence", "diameter"))


def test_columns_of_the_table_are_offered_and_colour_the_points(dock, state):
    analysis = state.analysis("field")
    table = analysis.table.assign(
        label_network=analysis.table["label_predicted"].replace({"Pt19": "Pt30", "Pt70": ""}),
        session_name=np.where(np.arange(40) < 10, "morning", "evening"),
        conditions_differ=np.arange(40) < 4,
        excluded=np.arange(40) == 7,
    )
    state.clusters.set_analysis(replace(analysis, table=table))
    state.clusters.relabel([("field", 3), ("field", 4)], "Pt70")
    dock.update_now()

    assert dock.colour_combo.currentText() == "label"

    def legend(name: str) -> dict:
        assert dock.colour_combo.findText(name) >= 0, name
        dock.colour_combo.setCurrentText(name)
        return {e.name: e.count for e in dock.legend.entries}

    assert legend("prediction") == dict.fromkeys(CLASSES, 8)
    assert legend("session_name") == {"morning": 10, "evening": 30}
    assert legend("label_network") == {"Pt30": 16, "Pt41": 8, "Pt55": 8, "none": 8}
    colour = {e.name: e.colour for e in dock.legend.entries}
    assert colour["Pt41"] == colours(CLASSES)["Pt41"], "a column of labels has their colours"
    assert legend("domain") == {"conditions as in training": 36, "conditions differ": 4}
    dock.legend.clicked.emit("conditions differ", PLAIN)
    assert state.selection == {("field", i) for i in range(1, 5)}
    assert legend("corrected") == {"labelled by a person": 2, "predicted only": 38}
    dock.legend.clicked.emit("labelled by a person", PLAIN)
    assert state.selection == {("field", 3), ("field", 4)}
    assert legend("touches_border") == {"no": 40}
    assert legend("ood_score") == {} and dock.legend.scale.title == "ood score"
    dimmed = looks_of(table, "label", CLASSES).face[:, 3] < 1
    assert np.flatnonzero(dimmed).tolist() == [7], "excluded clusters are dimmed"
    # Where the columns go, the choice is the first again.
    state.clusters.set_analysis(analysis)
    dock.update_now()
    assert dock.colour_combo.findText("session_name") < 0
    assert dock.colour_combo.currentText() == "ood_score"


def test_the_tooltip_of_the_legend_says_what_ratios_does_not_count(dock, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "napari_atomicity.gui.scatter.legend.QToolTip.showText",
        lambda place, text, widget: shown.append(text),
    )
    name = dock.legend.entries[0].name
    first = dock.legend._boxes(dock.legend.width())[0].center().toPoint()
    for place in (first, QPoint(dock.legend.width() - 2, 2)):
        here = dock.legend.mapToGlobal(place)
        QApplication.sendEvent(dock.legend, QHelpEvent(QEvent.Type.ToolTip, place, here))
        assert "not counted in Ratios: cut by the border" in shown[-1]
        assert (f"of {name}: click to select" in shown[-1]) == (place == first)


def test_a_legend_of_very_many_stays_small(qtbot):
    legend = Legend()
    qtbot.addWidget(legend)
    legend.show_entries([Entry(f"image_{i}.tif", "#112233", "square", 9) for i in range(300)])
    assert legend.heightForWidth(400) <= np.ceil(MAX_LINES * legend._line())
    shown = len(legend._boxes(400))
    assert 5 < shown < 300 and legend._more(shown) == f"and {300 - shown} more"
    legend.resize(400, 100)
    legend.grab()


def test_an_unheard_of_label_is_grey_and_counted():
    table = made_up(6).table.assign(label=["Au38", "", "unknown", "Pt19", "Pt19", "Pt30"])
    looks = by_label(table, CLASSES)
    assert {e.name: e.count for e in looks.legend} == {
        "Pt19": 2,
        "Pt30": 1,
        "unknown": 1,
        "no label": 1,
        "Au38": 1,
    }


def test_the_reference_lies_behind_with_its_names(dock, reference):
    assert dock.scatter._background == pytest.approx(reference[["umap_1", "umap_2"]].to_numpy())
    # The session's own islands have names, and the reference's that lie elsewhere.
    names, places = dock.scatter.names
    assert sorted(names[:5]) == CLASSES
    assert names[5:] == ["Pt19 (training)", "Pt70 (training)"]
    assert places[5:].tolist() == [[-9.0, 0.0], [0.0, 8.0]]
    assert dock.scatter._names.ink.pos[5, :2] == pytest.approx(
        dock.scatter.to_canvas([-9.0, 0.0])[0]
    )
    left, right = dock.scatter.to_canvas([[-9.0, 0.0], [9.0, 1.0]])[:, 0]
    assert 0 < left < right < dock.scatter.canvas.size[0], "the whole map is shown"


def test_the_plot_survives_a_dock_that_floats_and_returns(viewer, state, settle, qtbot):
    dock = Embedding(viewer)
    frame = viewer.window.add_dock_widget(dock, name="Embedding")
    viewer.window._qt_window.show()
    settle(viewer)
    state.select([("field", 4)])

    def drawn() -> bool:
        picture = dock.scatter.canvas.render(alpha=False)[..., :3].astype(int)
        return bool((np.ptp(picture, axis=2) > 100).sum() > 100)

    qtbot.waitUntil(drawn)
    for floating in (True, False):
        first = dock.scatter.canvas
        frame.setFloating(floating)
        # Qt makes a new OpenGL context in the other window.
        qtbot.waitUntil(lambda old=first: dock.scatter.canvas is not old)
        qtbot.waitUntil(drawn)
        assert dock.scatter.highlighted.tolist() == [3]
        assert dock.scatter._rings.visible and dock.scatter._names.visible
    viewer.window.remove_dock_widget(dock)


def test_names_stand_on_their_islands_even_on_bent_ones():
    turn = np.linspace(0, np.pi, 101)
    bent = pd.DataFrame({"umap_1": np.cos(turn), "umap_2": np.sin(turn), "label": "Pt19"})
    bent.loc[100, "umap_1"] = np.nan
    names, places = typical_places(bent)
    assert names == ["Pt19"]
    assert np.hypot(*places[0]) == pytest.approx(1)


def test_each_island_of_a_label_has_a_name_and_stragglers_have_none():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.3, (40, 2)), rng.normal(9, 0.3, (40, 2))
    xy = np.concatenate([near, far, [[0.0, 9.0]], [[np.nan, 1.0]]])
    points = pd.DataFrame({"umap_1": xy[:, 0], "umap_2": xy[:, 1], "label": "Pt41"})
    names, places = islands(points)
    assert names == ["Pt41", "Pt41"]
    assert sorted(np.hypot(*places.T).round()) == [0, pytest.approx(13, abs=1)]
    # The same name near by is the same island.
    reference = ["Pt41", "Pt41"], np.array([[0.5, 0.5], [9.0, 0.0]])
    assert named((names, places), reference, 10.0)[1][2:].tolist() == [[9.0, 0.0]]
    assert named(([], np.empty((0, 2))), reference, 10.0)[0] == ["Pt41", "Pt41"]
    assert islands(points.assign(label="unknown"))[0] == []


# ---- places
def test_clusters_without_a_place_are_left_out_then_placed(
    dock, state, viewer, qtbot, settle, monkeypatch
):
    analysis = state.analysis("field")
    table = analysis.table.copy()
    table.loc[table.index[:5], ["umap_1", "umap_2"]] = np.nan
    state.clusters.set_analysis(replace(analysis, table=table))
    edits = len(state.history)
    state.select([("field", 1), ("field", 10)])
    dock.update_now()
    assert dock.scatter.highlighted.tolist() == [9]
    assert dock.scatter._points._data.size == 35
    assert dock.place_button.isVisible() and "5 clusters" in dock.place_button.text()

    monkeypatch.setattr(
        "napari_atomicity.models.embedding.place", lambda embedding, model: embedding[:, :2]
    )
    QTest.mouseClick(dock.place_button, LEFT)
    state.clusters.relabel([("field", 1)], "Pt70")  # while it is under way
    settle(viewer)
    dock.update_now()
    assert count_unplaced(state.analysis("field"), state.columns("field"), MODEL_MAP) == 0
    assert not dock.place_button.isVisible()
    assert dock.scatter.highlighted.tolist() == [0, 9]
    assert state.table("field")["label"][0] == "Pt70"
    assert len(state.history) == edits + 1, "placing is not the person's doing: no undo step"


def fit_in_turn(embedding, seed):
    """Positions of a map that needs no UMAP."""
    return np.column_stack([np.arange(len(embedding)), np.zeros(len(embedding))])


def test_a_new_map_of_these_clusters_is_kept_undone_and_extended(
    dock, state, viewer, settle, monkeypatch
):
    monkeypatch.setattr("napari_atomicity.pipeline.session_map.fit_map", fit_in_turn)
    state.clusters.set_analysis(made_up(10, "second", seed=3))
    state.clusters.relabel([("field", 1)], "Pt70")
    dock.update_now()
    of_model = dock.scatter.positions.copy()
    assert not dock.map_combo.isVisible()

    QTest.mouseClick(dock.new_map_button, LEFT)
    settle(viewer)
    dock.update_now()
    assert dock.map_combo.isVisible() and dock.map_combo.currentText() == MAP_OF_SESSION
    assert dock.scatter.positions[:, 0].tolist() == list(range(50))
    assert dock._reference() is None, "the reference is in another map"
    assert state.table("field")["label"][0] == "Pt70"

    dock.map_combo.setCurrentText(MAP_OF_MODEL)
    assert dock.scatter.positions == pytest.approx(of_model)
    dock.map_combo.setCurrentText(MAP_OF_SESSION)
    state.clusters.set_analysis(made_up(10, "third", seed=4))
    dock.update_now()
    assert "10 clusters" in dock.place_button.text()
    QTest.mouseClick(dock.place_button, LEFT)
    settle(viewer)
    dock.update_now()
    assert np.isfinite(dock.scatter.positions).all() and len(dock.scatter.positions) == 60

    state.history.undo()  # of the analysis of the third image
    state.history.undo()
    dock.update_now()
    assert not dock.map_combo.isVisible() and dock.map_combo.currentText() == MAP_OF_MODEL


def adapted(state, image: str, shift: float = 3.0):
    """The same clusters, as another model places and calls them."""
    analysis = state.analysis(image)
    table = analysis.table.assign(model_id="adapted", umap_1=analysis.table["umap_1"] + shift)
    return replace(analysis, table=table)


def moving(dock: Embedding) -> bool:
    """Whether the points are on their way to other places."""
    return dock.scatter._transition._way is not None


def test_before_and_after_an_adaptation_the_points_wander(dock, state, qtbot):
    state.clusters.set_analysis(made_up(10, "second", seed=3))
    dock.update_now()
    assert not dock.before_button.isVisible()
    old = dock.scatter.positions.copy()
    state.select([("field", 1)])
    state.clusters.replace_predictions(adapted(state, "field"))
    dock.update_now()
    new = old.copy()
    new[:40, 0] += 3
    assert dock.scatter.positions == pytest.approx(new)
    assert dock.before_button.isVisible()

    seen = []
    show = dock.scatter._transition._show
    dock.scatter._transition._show = lambda xy: (seen.append(xy[0, 0]), show(xy))
    QTest.mouseClick(dock.before_button, LEFT)
    assert moving(dock)
    qtbot.waitUntil(lambda: not moving(dock))
    assert dock.scatter.positions == pytest.approx(old)
    assert len(seen) > 1 and (np.diff([new[0, 0], *seen]) <= 0).all(), "on the way, not back"
    assert dock.scatter._points._data["a_position"][:, :2] == pytest.approx(old)
    rings = dock.scatter._rings._data["a_position"][:, :2]
    assert rings == pytest.approx(old[[0]]), "the selected ones wander along"
    # A correction meanwhile leaves them where they are.
    state.clusters.relabel([("field", 2)], "Pt70")
    dock.update_now()
    assert dock.scatter.positions == pytest.approx(old)
    QTest.mouseClick(dock.before_button, LEFT)
    qtbot.waitUntil(lambda: not moving(dock))
    assert dock.scatter.positions == pytest.approx(new)


def test_an_adaptation_that_is_undone_has_no_before(dock, state):
    state.clusters.replace_predictions(adapted(state, "field"))
    dock.update_now()
    dock.before_button.setChecked(True)
    state.history.undo()
    dock.update_now()
    assert not dock.before_button.isVisible() and not dock.before_button.isChecked()
    state.history.redo()
    dock.update_now()
    assert dock.before_button.isVisible()


def test_an_adaptation_is_noticed_while_the_dock_is_hidden(dock, state):
    dock.hide()
    state.clusters.replace_predictions(adapted(state, "field"))
    dock.show()
    assert dock.before_button.isVisible()


def test_one_cluster_at_another_place_is_no_adaptation(dock, state):
    analysis = state.analysis("field")
    table = analysis.table.copy()
    table.loc[3, ["umap_1", "umap_2"]] = 0.0
    state.clusters.set_analysis(replace(analysis, table=table))
    dock.update_now()
    assert not dock.before_button.isVisible()


# ---- work
def test_a_batch_is_looked_at_once_and_not_at_all_while_hidden(dock, state, qtbot, monkeypatch):
    built = []
    refresh = dock.refresh
    monkeypatch.setattr(dock, "refresh", lambda: (built.append(1), refresh()))
    for i in range(5):
        state.clusters.set_analysis(made_up(6, f"image {i}", seed=i))
    assert not built
    qtbot.waitUntil(lambda: len(dock.scatter.positions) == 70)
    assert built == [1]
    dock.hide()
    state.clusters.set_analysis(made_up(6, "one more"))
    state.select([("field", 2)])
    qtbot.wait(60)
    assert built == [1] and dock.scatter.highlighted.size == 0
    dock.show()
    assert built == [1, 1] and len(dock.scatter.positions) == 76
    assert dock.scatter.highlighted.tolist() == [1]


def test_a_selection_arrives_by_itself(dock, state, qtbot):
    state.select([("field", 2)])
    qtbot.waitUntil(lambda: dock.scatter.highlighted.tolist() == [1])


def test_as_many_points_as_there_is_time_for_while_the_map_moves(qtbot):
    drawn = []
    parent = QWidget()
    qtbot.addWidget(parent)
    pace = FrameLimiter(drawn.append, parent)
    pace.begin(100_000)
    assert pace.wants_time
    pace.note(0.9 * FRAME_MS)
    pace.hurry()
    assert not drawn, "fast enough: all of them"
    pace.note(10 * FRAME_MS)
    pace.hurry()
    pace.hurry()
    (some,) = drawn
    assert len(some) == 10_000 and (np.diff(some) > 0).all() and not pace.wants_time
    qtbot.waitUntil(lambda: len(drawn) == 2)
    assert drawn[1] is None, "at rest, all of them again"
    pace.begin(300)
    pace.note(500.0)
    pace.hurry()
    assert len(drawn) == 2 and not pace.wants_time, "a few are always all drawn"


def test_a_slow_map_is_thinned_while_it_is_dragged_and_whole_at_rest(dock, state, qtbot):
    dock.scatter._frame_limiter._n, dock.scatter._frame_limiter._whole_ms = 40, 1e3
    plot_motion = "napari_atomicity.gui.scatter.scatter.MIN_POINTS"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_motion, 10)
        _wheel(dock.scatter.canvas.native, QPoint(90, 200), 120)
        assert dock.scatter._frame_limiter.hurried
        assert dock.scatter._points._index_buffer is not None
        dock.scatter.canvas.render()
        qtbot.waitUntil(lambda: not dock.scatter._frame_limiter.hurried)
    assert dock.scatter._points._index_buffer is None


# ---- out
@pytest.mark.parametrize("colour", ["label", "confidence", "image"])
def test_the_map_is_saved_as_it_is_coloured(dock, state, tmp_path, monkeypatch, colour):
    dock.colour_combo.setCurrentText(colour)
    for kind, suffix in (
        ("Picture (*.png)", ".png"),
        ("Drawing (*.svg)", ".svg"),
        ("Data (*.csv)", ""),
    ):
        chosen = str(tmp_path / f"map{suffix}"), kind
        monkeypatch.setattr(
            "napari_atomicity.gui.controls.save_dialogs.QFileDialog.getSaveFileName",
            lambda *a, c=chosen: c,
        )
        QTest.mouseClick(dock.save_button, LEFT)
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    svg = (tmp_path / "map.svg").read_text()
    assert {"label": "Pt41 (8)", "confidence": "Confidence", "image": "field (40)"}[colour] in svg
    data = pd.read_csv(tmp_path / "map.csv")
    assert data["umap_1"].to_numpy() == pytest.approx(state.table()["umap_1"].to_numpy())
    looks = looks_of(state.table(), colour, CLASSES)
    assert data["colour"].tolist() == list(hex_colours(looks.face))


def test_blind_mode_hides_the_clouds_of_the_classes(dock, state, reference, tmp_path, settle):
    analysis = state.analysis("field")
    path = tmp_path / "field.npy"
    np.save(path, analysis.micrograph.data)
    state.attach_project(Project(tmp_path / "p.atomicity"))
    assert len(dock.scatter._background) == 3
    state.set_blind(True)
    settle(dock.binding.viewer)
    updated(dock)
    assert len(dock.scatter._background) == 0 and not dock.scatter.names[0]
    assert "Blind mode" in dock.message.text()
    state.set_blind(False)
    settle(dock.binding.viewer)
    updated(dock)
    assert len(dock.scatter._background) == 3
    state.close_project()


def test_nothing_to_show_is_said(viewer, qtbot, reference):
    dock = Embedding(viewer)
    qtbot.addWidget(dock)
    dock.show()
    assert "once they are classified" in dock.message.text()
    state_of(viewer).clusters.set_analysis(made_up(3))
    qtbot.waitUntil(lambda: dock.message.text() == "")


# ---- in the viewer
def test_image_and_map_show_the_same_selection(viewer, reference, qtbot, settle):
    from napari_atomicity.gui.viewer.binding import binding_of
    from napari_atomicity.gui.workbench.window import show_analysis

    binding = show_analysis(viewer, made_up(40))
    state = binding.state
    dock = Embedding(viewer)
    qtbot.addWidget(dock)
    dock.resize(420, 480)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)
    points = binding_of(viewer).canvas.layer("field", "clusters")
    ids = state.table("field")["cluster_id"].to_numpy()

    drag(dock.scatter, box_around(state, "Pt41"), SHIFT)
    assert {("field", int(ids[i])) for i in points.selected_data} >= island(state, "Pt41")
    dock.legend.clicked.emit("Pt55", PLAIN)
    assert {("field", int(ids[i])) for i in points.selected_data} == island(state, "Pt55")
    points.selected_data = {3, 9}
    qtbot.waitUntil(lambda: dock.scatter.highlighted.tolist() == [3, 9])
    assert state.selection == {("field", int(ids[3])), ("field", int(ids[9]))}
