"""The Embedding dock and its scatter, used with a real mouse."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from mouse import at, drag, move
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from synthetic import CLASSES, made_up

from napari_atomicity.palette import colours
from napari_atomicity.widgets import embedding as docks
from napari_atomicity.widgets import tasks
from napari_atomicity.widgets.binding import session_of
from napari_atomicity.widgets.embedding import (
    COLOURINGS,
    WARM_UP_VARIABLE,
    Embedding,
    by_label,
    typical_places,
    without_place,
)
from napari_atomicity.widgets.legend import Scale
from napari_atomicity.widgets.scatter import extent, rows_in_polygon

LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
CTRL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def reference(monkeypatch):
    """Reference points of a model that is not there, and no compiling in the background."""
    monkeypatch.setenv(WARM_UP_VARIABLE, "0")
    monkeypatch.setattr(docks, "classifier_of", lambda analysis: None)
    table = pd.DataFrame(
        {"umap_1": [-9.0, 9.0, 0.0], "umap_2": [0.0, 1.0, 8.0], "label": ["Pt19", "Pt19", "Pt70"]}
    )
    monkeypatch.setattr("napari_atomicity.embedding.reference_map", lambda model: table)
    return table


@pytest.fixture
def session(viewer, reference):
    session = session_of(viewer)
    session.set_analysis(made_up(40))
    return session


@pytest.fixture
def dock(viewer, session, qtbot, settle):
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


def island(session, label: str, image: str = "field") -> set:
    table = session.table(image)
    return {(image, int(i)) for i in table.loc[table["label_predicted"] == label, "cluster_id"]}


def box_around(session, label: str, margin: float = 0.4) -> list:
    table = session.table()
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
def test_a_lasso_selects_what_lies_in_it(dock, session, by_button):
    dock.lasso_button.setChecked(by_button)
    drag(dock.scatter, box_around(session, "Pt41"), PLAIN if by_button else SHIFT)
    assert session.selection == island(session, "Pt41")
    drag(dock.scatter, box_around(session, "Pt55"), SHIFT)
    assert session.selection == island(session, "Pt41") | island(session, "Pt55")
    drag(dock.scatter, box_around(session, "Pt41"), CTRL)
    assert session.selection == island(session, "Pt55")


def test_a_plain_drag_moves_the_map_and_selects_nothing(dock, session):
    session.select([("field", 1)])
    before = dock.scatter.to_canvas((0, 0))[0]
    start = dock.scatter.to_data((100, 100))[0]
    end = dock.scatter.to_data((160, 130))[0]
    drag(dock.scatter, [start, end])
    assert dock.scatter.to_canvas((0, 0))[0] == pytest.approx(before + np.array([60, 30]), abs=1.5)
    assert session.selection == {("field", 1)}
    dock.fit_button.click()
    assert dock.scatter.to_canvas((0, 0))[0] == pytest.approx(before, abs=1e-3)


def test_escape_gives_a_lasso_up(dock, session):
    scatter, corners = dock.scatter, box_around(session, "Pt41")
    QTest.mousePress(scatter.canvas.native, LEFT, SHIFT, at(scatter, corners[0]))
    for corner in corners[1:]:
        move(scatter.canvas.native, at(scatter, corner), SHIFT)
    assert scatter._line.visible
    QTest.keyClick(scatter.canvas.native, Qt.Key.Key_Escape)
    assert not scatter._line.visible
    QTest.mouseRelease(scatter.canvas.native, LEFT, SHIFT, at(scatter, corners[-1]))
    assert session.selection == frozenset()


def test_the_point_under_the_mouse_is_named(dock, monkeypatch):
    said = []
    monkeypatch.setattr(
        "napari_atomicity.widgets.scatter.QToolTip.showText",
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


def test_clicks_select_add_take_away_and_clear(dock, session):
    scatter = dock.scatter
    first, second = 0, 1  # of other classes, so far apart
    click = lambda row, how=PLAIN: QTest.mouseClick(  # noqa: E731
        scatter.canvas.native, LEFT, how, at(scatter, scatter.positions[row])
    )
    click(first)
    nearest = session.selection
    assert len(nearest) == 1
    click(second, SHIFT)
    assert len(session.selection) == 2 and nearest < session.selection
    click(first, CTRL)
    assert session.selection.isdisjoint(nearest) and len(session.selection) == 1
    QTest.mouseClick(scatter.canvas.native, LEFT, PLAIN, QPoint(3, 3))
    assert session.selection == frozenset()


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


def test_a_double_click_asks_to_see_the_cluster(dock, session):
    asked = []
    session.focus_requested.connect(asked.append)
    row = 7
    place = at(dock.scatter, dock.scatter.positions[row])
    QTest.mouseDClick(dock.scatter.canvas.native, LEFT, PLAIN, place)
    assert len(asked) == 1
    assert session.selection == {asked[0]}


def test_a_click_in_the_legend_selects_the_class(dock, session):
    dock.legend.clicked.emit("Pt30", PLAIN)
    assert session.selection == island(session, "Pt30")
    dock.legend.clicked.emit("Pt19", SHIFT)
    assert session.selection == island(session, "Pt30") | island(session, "Pt19")


# ---- selected elsewhere
def test_what_is_selected_elsewhere_is_ringed_at_once_and_drawn_alone(dock, session, monkeypatch):
    redrawn, heard = [], []
    monkeypatch.setattr(dock.scatter._points, "set_data", lambda *a, **k: redrawn.append(1))
    session.selection_changed.connect(heard.append)
    session.select([("field", 3), ("field", 40), ("no such image", 1)])
    assert dock.scatter.highlighted.tolist() == [2, 39]
    rings = dock.scatter._rings._data["a_position"][:, :2]
    assert rings == pytest.approx(dock.scatter.positions[[2, 39]])
    assert len(heard) == 1, "a selection must not echo"
    assert not redrawn, "the points need no new drawing for a selection"
    session.select([])
    assert dock.scatter.highlighted.size == 0 and not dock.scatter._rings.visible


def test_clusters_of_several_images_are_told_apart(dock, session):
    session.set_analysis(made_up(10, "second", seed=3))
    session.select([("second", 1), ("field", 2)])
    assert dock.scatter.highlighted.tolist() == [1, 40]
    assert dock._keys_of(np.array([1, 40])) == {("field", 2), ("second", 1)}


# ---- looks
def test_points_are_drawn_in_the_colours_of_their_classes(dock, session, qtbot):
    # Far apart, so that none covers another.
    analysis = session.analysis("field")
    table = analysis.table.assign(umap_1=np.arange(40) % 8 * 1.0, umap_2=np.arange(40) // 8 * 1.0)
    session.set_analysis(replace(analysis, table=table))
    dock.scatter.set_background(np.empty((0, 2)), np.empty((0, 4)))
    dock.scatter.fit()
    picture = dock.scatter.canvas.render(alpha=False)
    scale = picture.shape[1] / dock.scatter.canvas.size[0]
    palette = colours(CLASSES)
    for row in range(0, 40, 7):
        x, y = (dock.scatter.to_canvas(dock.scatter.positions[row])[0] * scale).astype(int)
        label = session.table()["label"][row]
        expected = 255 * np.array(to_rgb(palette[label]))
        assert picture[y, x, :3] == pytest.approx(expected, abs=25), label


def test_a_correction_recolours_and_moves_nothing(dock, session, monkeypatch):
    positions = dock.scatter.positions
    counts = {e.name: e.count for e in dock.legend.entries}
    session.relabel([("field", 1)], "Pt70")
    assert dock.scatter.positions is positions
    data = dock.scatter._points._data
    assert data["a_bg_color"][0, :3] == pytest.approx(to_rgb(colours(CLASSES)["Pt70"]), abs=1e-6)
    assert data["a_edgewidth"][0] > data["a_edgewidth"][1], "a correction must look different"
    now = {e.name: e.count for e in dock.legend.entries}
    assert now["Pt70"] == counts["Pt70"] + 1 and now["Pt19"] == counts["Pt19"] - 1
    session.undo()
    assert {e.name: e.count for e in dock.legend.entries} == counts


@pytest.mark.parametrize("name", list(COLOURINGS))
def test_every_colouring_colours_every_point_even_without_values(dock, session, name):
    dock.colour_combo.setCurrentText(name)
    analysis = session.analysis("field")
    table = analysis.table.assign(confidence=np.nan, diameter_nm=np.nan)
    for shown in (analysis.table, table, table.iloc[:0]):
        looks = COLOURINGS[name](shown, CLASSES)
        assert looks.face.shape == ((len(shown), 4) if len(shown) else looks.face.shape)
        assert np.isfinite(looks.face).all()
    assert isinstance(dock.legend.scale, Scale) == (name in ("confidence", "diameter"))


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
    assert dock.scatter._names.text == ["Pt19", "Pt70"]
    left, right = dock.scatter.to_canvas([[-9.0, 0.0], [9.0, 1.0]])[:, 0]
    assert 0 < left < right < dock.scatter.canvas.size[0], "the whole map is shown"


def test_the_plot_survives_a_dock_that_floats_and_returns(viewer, session, settle, qtbot):
    dock = Embedding(viewer)
    frame = viewer.window.add_dock_widget(dock, name="Embedding")
    viewer.window._qt_window.show()
    settle(viewer)
    session.select([("field", 4)])

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
        assert dock.scatter._rings.visible
    viewer.window.remove_dock_widget(dock)


def test_names_stand_on_their_islands_even_on_bent_ones():
    turn = np.linspace(0, np.pi, 101)
    bent = pd.DataFrame({"umap_1": np.cos(turn), "umap_2": np.sin(turn), "label": "Pt19"})
    bent.loc[100, "umap_1"] = np.nan
    names, places = typical_places(bent)
    assert names == ["Pt19"]
    assert np.hypot(*places[0]) == pytest.approx(1)


# ---- places
def test_clusters_without_a_place_are_left_out_then_placed(
    dock, session, viewer, qtbot, settle, monkeypatch
):
    analysis = session.analysis("field")
    table = analysis.table.copy()
    table.loc[table.index[:5], ["umap_1", "umap_2"]] = np.nan
    session.set_analysis(replace(analysis, table=table))
    edits = len(session.history)
    session.select([("field", 1), ("field", 10)])
    assert dock.scatter.highlighted.tolist() == [9]
    assert dock.scatter._points._data.size == 35
    assert dock.place_button.isVisible() and "5 clusters" in dock.place_button.text()

    monkeypatch.setattr(
        "napari_atomicity.embedding.place", lambda embedding, model: embedding[:, :2]
    )
    QTest.mouseClick(dock.place_button, LEFT)
    session.relabel([("field", 1)], "Pt70")  # while it is under way
    settle(viewer)
    assert without_place(session.analysis("field")) == 0
    assert not dock.place_button.isVisible()
    assert dock.scatter.highlighted.tolist() == [0, 9]
    assert session.table("field")["label"][0] == "Pt70"
    assert len(session.history) == edits + 1, "placing is not the person's doing: no undo step"


def test_nothing_to_show_is_said(viewer, qtbot, reference):
    dock = Embedding(viewer)
    qtbot.addWidget(dock)
    assert "once they are classified" in dock.message.text()
    session_of(viewer).set_analysis(made_up(3))
    assert dock.message.text() == ""


# ---- in the viewer
def test_a_closed_dock_hears_nothing_more_and_is_let_go(viewer, session, settle, qtbot):
    signals = [session.analysis_changed, session.selection_changed, session.images_changed]
    before = [len(s) for s in signals]
    dock = Embedding(viewer)
    settle(viewer)
    frame = viewer.window.add_dock_widget(dock, name="Embedding")
    assert [len(s) for s in signals] == [n + 1 for n in before]
    gone = weakref.ref(dock)
    viewer.window.remove_dock_widget(dock)
    del dock, frame

    def let_go():
        gc.collect()
        return gone() is None

    qtbot.waitUntil(let_go)
    assert [len(s) for s in signals] == before
    session.relabel([("field", 1)], "Pt70")


def test_warming_up_waits_for_the_window_and_can_be_switched_off(
    viewer, qtbot, reference, monkeypatch
):
    warmed = []
    monkeypatch.setattr("napari_atomicity.embedding.warm_up", lambda: warmed.append(1))
    monkeypatch.setattr(docks, "_WARM_UP_DELAY_MS", 1)
    off = Embedding(viewer)
    qtbot.addWidget(off)
    off.show()
    assert not off._warm_up_timer.isActive()
    monkeypatch.setenv(WARM_UP_VARIABLE, "1")
    on = Embedding(viewer)
    qtbot.addWidget(on)
    on.show()
    qtbot.waitUntil(lambda: warmed == [1])
    assert session_of(viewer).status.message == "", "nobody asked for it, so not a word"
    assert not tasks.running(session_of(viewer)), "the window need not wait for it"


def test_image_and_map_show_the_same_selection(viewer, reference, qtbot, settle):
    from napari_atomicity.widgets.binding import binding_of
    from napari_atomicity.widgets.workbench import show_analysis

    binding = show_analysis(viewer, made_up(40))
    session = binding.session
    dock = Embedding(viewer)
    qtbot.addWidget(dock)
    dock.resize(420, 480)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)
    points = binding_of(viewer).points_layer("field")
    ids = session.table("field")["cluster_id"].to_numpy()

    drag(dock.scatter, box_around(session, "Pt41"), SHIFT)
    assert {("field", int(ids[i])) for i in points.selected_data} >= island(session, "Pt41")
    dock.legend.clicked.emit("Pt55", PLAIN)
    assert {("field", int(ids[i])) for i in points.selected_data} == island(session, "Pt55")
    points.selected_data = {3, 9}
    qtbot.waitUntil(lambda: dock.scatter.highlighted.tolist() == [3, 9])
    assert session.selection == {("field", int(ids[3])), ("field", int(ids[9]))}
