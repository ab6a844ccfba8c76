"""The Plots dock, used with a real mouse."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, QRect, Qt
from qtpy.QtGui import QHelpEvent, QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from synthetic import CLASSES, made_up
from waiting import draw_now

from napari_atomicity.gui.docks import plots as docks
from napari_atomicity.gui.docks.plots import Plots
from napari_atomicity.gui.scatter.view import nearest, touched
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.reporting.plots.confidence import MIN_CORRECTED
from napari_atomicity.reporting.plots.registry import PLOTS
from napari_atomicity.statistics.ratios.ratios import class_ratios

LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
CTRL = Qt.KeyboardModifier.ControlModifier
ATOMS = {"Pt19": 19, "Pt30": 30, "Pt41": 41, "Pt55": 55, "Pt70": 70}


def image(n: int, name: str, seed: int = 0, **metadata):
    """An analysed image whose intensities go with the atoms, two counts nm² each."""
    made = made_up(n, name, seed)
    table = made.table.assign(integrated_intensity=2.0 * made.table["label"].map(ATOMS))
    return replace(
        made,
        table=table,
        micrograph=replace(made.micrograph, metadata=metadata),
        parameters={**made.parameters, "intensity_per_atom": 2.0, "certainty_of_scale": 1.0},
    )


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    state.clusters.set_analysis(image(40, "field_10", date="2026-05-01 12:00:00"))
    state.clusters.set_analysis(image(20, "field_2", 1, date="2026-05-01 12:30:00"))
    return state


@pytest.fixture
def dock(viewer, state, qtbot, settle):
    dock = Plots(viewer)
    qtbot.addWidget(dock)
    dock.resize(420, 420)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)
    return dock


@pytest.fixture
def show(viewer, dock, qtbot, settle):
    """Choose a plot and wait until it is drawn."""

    def choose(name: str) -> Plots:
        dock.plot_combo.setCurrentIndex(dock.plot_combo.findData(name))
        flush(dock, settle, viewer)
        return dock

    return choose


def flush(dock: Plots, settle, viewer) -> None:
    """All that has happened is drawn."""
    dock.update_now()
    settle(viewer)
    draw_now(dock.view)


def centre(dock: Plots, row: int) -> QPoint:
    left, right, top, bottom = dock.view.boxes[row]
    return QPoint(round((left + right) / 2), round((top + bottom) / 2))


def drag(view, area: QRect, modifiers=PLAIN) -> None:
    QTest.mousePress(view, LEFT, modifiers, area.topLeft())
    for place in (area.center(), area.bottomRight()):
        here = QPointF(place)
        event = QMouseEvent(
            QEvent.Type.MouseMove, here, view.mapToGlobal(here), LEFT, LEFT, modifiers
        )
        QApplication.sendEvent(view, event)
    QTest.mouseRelease(view, LEFT, modifiers, area.bottomRight())


def keys(table: pd.DataFrame) -> set:
    return set(zip(table["image"], table["cluster_id"].tolist(), strict=True))


# ---- geometry
def test_the_nearest_box_and_those_in_an_area():
    boxes = np.array([[0, 10, 0, 10], [20, 20, 5, 5], [np.nan] * 4])
    assert nearest(boxes, 5, 5) == (0, 0)
    assert nearest(boxes, 18, 5) == (1, 2)
    assert nearest(boxes[2:], 0, 0)[0] == -1 and nearest(boxes[:0], 0, 0)[0] == -1
    assert touched(boxes, QRect(8, 8, 20, 20)).tolist() == [0]
    assert touched(boxes, QRect(15, 0, 20, 20)).tolist() == [1]


# ---- selecting here
def test_a_click_on_a_bar_selects_its_clusters_adds_and_takes_away(dock, state, show):
    show("diameter")
    data, table = dock.view.data, state.table()
    bars = data.index[data["count"] > 1]
    first, second = (bars[data.loc[bars, "class"] == name][0] for name in ("Pt19", "Pt70"))

    def inside(row: int) -> set:
        bar = data.loc[row]
        size = table["diameter_nm"]
        here = (size >= bar["diameter_from_nm"]) & (size < bar["diameter_to_nm"])
        return keys(table[here & (table["label"] == bar["class"])])

    QTest.mouseClick(dock.view, LEFT, PLAIN, centre(dock, first))
    assert state.selection == inside(first) and len(state.selection) == data["count"][first]
    QTest.mouseClick(dock.view, LEFT, SHIFT, centre(dock, second))
    assert state.selection == inside(first) | inside(second)
    QTest.mouseClick(dock.view, LEFT, CTRL, centre(dock, first))
    assert state.selection == inside(second)
    dock.update_now()
    QTest.mouseClick(dock.view, LEFT, SHIFT, centre(dock, second))
    assert state.selection == frozenset(), "a second Shift-click takes it back"
    state.select([("field_2", 1)])
    QTest.mouseClick(dock.view, LEFT, PLAIN, QPoint(dock.view.width() - 3, 3))
    assert state.selection == frozenset(), "a click beside all clears"


def test_a_click_on_a_point_selects_one_cluster_and_a_drag_all_that_it_meets(dock, state, show):
    show("intensity")
    data = dock.view.data
    row = int(np.flatnonzero(data["class"] == "Pt55")[2])
    QTest.mouseClick(dock.view, LEFT, PLAIN, centre(dock, row))
    # Of clusters at one place any may be meant; all these have 55 atoms and 110 counts nm².
    ((name, cluster_id),) = state.selection
    table = state.table(name).set_index("cluster_id")
    assert table["label"][cluster_id] == "Pt55"
    boxes = dock.view.boxes[(data["class"] == "Pt55").to_numpy()]
    low, high = boxes[:, [0, 2]].min(axis=0) - 5, boxes[:, [1, 3]].max(axis=0) + 5
    area = QRect(QPoint(*low.round().astype(int)), QPoint(*high.round().astype(int)))
    drag(dock.view, area)
    all_55 = state.table()[state.table()["label"] == "Pt55"]
    assert state.selection == keys(all_55)
    drag(dock.view, area, CTRL)
    assert state.selection == frozenset()


def test_a_click_above_a_bar_selects_all_classes_of_the_bin(dock, state, show):
    show("confidence")
    data = dock.view.data
    fullest = data.groupby("confidence_from")["count"].sum().idxmax()
    top = dock.view.boxes[:, 2][(data["confidence_from"] == fullest).to_numpy()]
    bars = data[data["count"] > 0]
    lowest = bars.groupby("confidence_from")["count"].sum().idxmin()
    # Above a low bar there is room for a click that meets no bar.
    row = int(np.flatnonzero((data["confidence_from"] == lowest) & (data["count"] > 0))[0])
    place = QPoint(centre(dock, row).x(), int(np.nanmin(top)) + 2)
    QTest.mouseClick(dock.view, LEFT, PLAIN, place)
    table = state.table()
    inside = (table["confidence"] >= lowest) & (table["confidence"] < lowest + 0.05)
    assert state.selection == keys(table[inside])


def test_ratios_are_found_in_a_worker_and_select_images(viewer, dock, state, show, settle):
    show("ratios")
    data, table = dock.view.data, state.table()
    expected = class_ratios(table, CLASSES)
    assert data["image"].drop_duplicates().tolist() == ["field_2", "field_10"]
    merged = data.merge(expected, left_on=["image", "class"], right_on=["scope", "class"])
    assert len(merged) == 10
    assert merged["fraction_low_x"].tolist() == merged["fraction_low_y"].tolist()
    row = int(np.flatnonzero((data["image"] == "field_2") & (data["class"] == "Pt41"))[0])
    own = dock.view.rows_at(QPointF(centre(dock, row)))
    assert set(data["image"][own]) == {"field_2"}
    x = int(np.nanmean(dock.view.boxes[(data["image"] == "field_10").to_numpy(), 0]))
    QTest.mouseClick(dock.view, LEFT, PLAIN, QPoint(x, dock.view.height() // 2 + 40))
    assert state.selection == keys(table[table["image"] == "field_10"])

    dock.order_combo.setCurrentIndex(dock.order_combo.findData("time"))
    flush(dock, settle, viewer)
    assert dock.view.data["image"].drop_duplicates().tolist() == ["field_10", "field_2"]
    assert dock.view.data["minutes"].tolist() == [0.0] * 5 + [30.0] * 5
    assert dock._times.keys() == {"field_2", "field_10"}


def test_a_newer_question_ends_the_older_one(viewer, dock, state, show, settle, monkeypatch):
    show("ratios")
    dock.plot_combo.setCurrentIndex(dock.plot_combo.findData("confidence"))
    dock.plot_combo.setCurrentIndex(dock.plot_combo.findData("ratios"))
    dock.update_now()
    dock.plot_combo.setCurrentIndex(dock.plot_combo.findData("diameter"))
    flush(dock, settle, viewer)
    assert "diameter_from_nm" in dock.view.data.columns


# ---- selected elsewhere
@pytest.mark.parametrize("name", ["diameter", "intensity", "confidence", "ratios", "embedding"])
def test_what_is_selected_elsewhere_is_marked_in_every_plot(dock, state, show, name):
    show(name)
    bare = dock.view.grab().toImage()
    state.select([("field_2", 3), ("field_10", 9), ("no such image", 1)])
    dock.update_now()
    marked = dock.view.share > 0
    assert 1 <= marked.sum() <= 2
    member = PLOTS[name].members(state.table(), dock.view.data)
    chosen = state.table().set_index(["image", "cluster_id"]).index
    rows = [member[chosen.get_loc(key)] for key in (("field_2", 3), ("field_10", 9))]
    assert set(np.flatnonzero(marked)) == set(rows)
    assert dock.view.grab().toImage() != bare, "and it is seen"
    assert dock.note.text() == "2 of 3 selected clusters marked."
    state.select([])
    dock.update_now()
    assert dock.view.grab().toImage() == bare and "Click" in dock.note.text()


def test_a_selection_draws_the_marks_alone(dock, state, show):
    show("intensity")
    figure, before = dock.view.figure, dock.view.grab().toImage()
    state.select([("field_2", 3)])
    dock.update_now()
    assert dock.view.share.sum() == 1
    assert dock.view.figure is figure and dock.view.grab().toImage() != before


# ---- what is drawn
def test_blind_nobody_reads_the_machines_count_off_an_axis(
    viewer, dock, state, show, settle, monkeypatch
):
    show("intensity")
    assert dock.view.data["intensity_atoms"].notna().all()
    monkeypatch.setattr(type(state), "blind", property(lambda self: True))
    state.clusters.relabel([("field_2", 1)], "Pt70")
    flush(dock, settle, viewer)
    assert dock.view.data["intensity_atoms"].isna().all()


def test_two_docks_ask_for_ratios_without_disturbing_each_other(viewer, dock, show, settle, qtbot):
    other = Plots(viewer)
    qtbot.addWidget(other)
    other.resize(420, 420)
    other.show()
    for one in (dock, other):
        one.plot_combo.setCurrentIndex(one.plot_combo.findData("ratios"))
        one.update_now()
    settle(viewer)
    assert len(dock.view.data) == len(other.view.data) == 10


def test_a_correction_counts_at_once_and_reliability_waits_for_enough(
    viewer, dock, state, show, settle, qtbot
):
    show("reliability")
    assert "are needed" in dock.view.accessibleDescription()
    assert len(dock.view.data) == 0
    right = state.table().iloc[:MIN_CORRECTED]
    state.clusters.relabel_each(
        {(r.image, r.cluster_id): r.label_predicted for r in right.itertuples()}
    )
    qtbot.waitUntil(lambda: len(dock.view.data) > 0)
    draw_now(dock.view)
    assert dock.view.data["count"].sum() == MIN_CORRECTED
    assert dock.view.data["accuracy"].eq(1).all()
    assert "20 of 20 correct" in dock.view.accessibleDescription()
    state.history.undo()
    flush(dock, settle, viewer)
    assert len(dock.view.data) == 0


def test_the_misclassified_share_is_said_to_those_who_do_not_see(dock, show):
    show("diameter")
    words = dock.view.accessibleDescription()
    assert "balanced error" in words and "misclassify" in words


def test_this_image_alone_and_its_successor(viewer, dock, state, show, settle):
    show("diameter")
    assert dock.view.data["count"].sum() == 60
    state.current = "field_2"
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("current"))
    flush(dock, settle, viewer)
    assert dock.view.data["count"].sum() == 20
    state.current = "field_10"
    flush(dock, settle, viewer)
    assert dock.view.data["count"].sum() == 40


def test_the_mouse_says_what_it_is_on(dock, show, monkeypatch):
    show("diameter")
    said = []
    tip = "napari_atomicity.gui.controls.drawing.QToolTip.showText"
    monkeypatch.setattr(tip, lambda at, words, w: said.append(words))
    place = centre(dock, int(np.flatnonzero(dock.view.data["count"] > 1)[0]))
    event = QHelpEvent(QEvent.Type.ToolTip, place, dock.view.mapToGlobal(place))
    QApplication.sendEvent(dock.view, event)
    assert len(said) == 1 and said[0].startswith("Pt19") and "nm" in said[0]


def test_nothing_to_draw_says_what_to_do(viewer, qtbot, settle):
    dock = Plots(viewer)
    qtbot.addWidget(dock)
    dock.show()
    flush(dock, settle, viewer)
    for name, plot in PLOTS.items():
        dock.plot_combo.setCurrentIndex(dock.plot_combo.findData(name))
        flush(dock, settle, viewer)
        assert dock.message.isVisible() and dock.message.text() == plot.nothing
        assert not dock.view.isVisible() and not dock.save_button.isEnabled()
    state = state_of(viewer)
    state.clusters.set_analysis(image(10, "field"))
    qtbot.waitUntil(dock.view.isVisible)
    assert not dock.message.isVisible()
    dock.plot_combo.setCurrentIndex(dock.plot_combo.findData("diameter"))
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("current"))
    state.clusters.set_analysis(replace(made_up(0, "bare")))
    state.current = "bare"
    flush(dock, settle, viewer)
    assert dock.message.isVisible() and "bare has no clusters" in dock.message.text()


def test_the_theme_is_followed(viewer, state, settle, qtbot):
    dock = Plots(viewer)
    frame = viewer.window.add_dock_widget(dock, name="Plots")
    viewer.window._qt_window.show()
    papers = []
    for theme in ("dark", "light"):
        viewer.theme = theme
        qtbot.wait(50)
        flush(dock, settle, viewer)
        paper = dock.view._image.pixelColor(1, dock.view._image.height() - 2)
        assert paper.name() == dock.view.look().paper
        papers.append(paper.lightness())
    assert papers[0] < 100 < 150 < papers[1]
    viewer.window.remove_dock_widget(dock)
    del frame


def texts_of(figure) -> dict[str, object]:
    """The box of each visible text of the axes, and that of the legend."""
    (axes,), renderer = figure.axes, figure.canvas.get_renderer()
    labels = [axes.xaxis.label, axes.yaxis.label]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        labels += [text for at, text in ticks if low <= at <= high]  # the others are not drawn
    boxes = {f"{i} {text.get_text()}": text.get_window_extent(renderer)
             for i, text in enumerate(labels) if text.get_text()}  # fmt: skip
    boxes["caption"] = axes._left_title.get_window_extent(renderer)
    if axes.get_legend() is not None:
        boxes["legend"] = axes.get_legend().get_window_extent(renderer)
    return boxes


@pytest.mark.parametrize("size", [(551, 237), (871, 239), (320, 300)])
def test_at_the_height_of_the_workbench_no_text_is_cut_or_printed_over_another(
    dock, state, show, size, qtbot
):
    state.clusters.relabel_each(
        {(r.image, r.cluster_id): r.label_predicted for r in state.table().iloc[:30].itertuples()}
    )
    dock.resize(*size)
    qtbot.waitUntil(lambda: dock.save_button.geometry().right() < size[0])
    for name in PLOTS:
        show(name)
        figure, boxes = dock.view.figure, texts_of(dock.view.figure)
        assert dock.view.height() >= 150
        for text, box in boxes.items():
            inside = [box.x0, box.y0, figure.bbox.width - box.x1, figure.bbox.height - box.y1]
            assert min(inside) > -1.5, (name, text)
        for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
            assert not a.padded(-1.5).overlaps(b.padded(-1.5)), (name, one, other)


def test_a_low_plot_shows_a_part_of_its_caption_and_all_of_it_in_the_tooltip(dock, show):
    show("reliability")
    dock.resize(320, 237)
    show("diameter")
    axes = dock.view.figure.axes[0]
    drawn = axes.get_title(loc="left").replace("\n", " ")
    assert drawn.startswith("Thresholds of least balanced error") and drawn.endswith("(hollow).")
    assert dock.view.text_at(QPointF(60, 3)).startswith(f"{drawn} ")
    assert "nm" in dock.view.accessibleDescription()


def test_jittered_points_are_said_and_images_are_joined_only_along_time(viewer, dock, show, settle):
    show("intensity")
    assert "jittered" in dock.view.figure.axes[0].get_xlabel()
    show("ratios")

    def joined() -> set[str]:
        lines = dock.view.figure.axes[0].get_lines()
        return {line.get_linestyle() for line in lines if len(line.get_xdata()) > 1}

    assert joined() == {"None"}
    assert "side by side" in dock.view.accessibleDescription()
    dock.order_combo.setCurrentIndex(dock.order_combo.findData("time"))
    flush(dock, settle, viewer)
    assert joined() == {"-"}


# ---- work
def test_a_batch_is_drawn_once_and_not_while_nobody_looks(dock, state, show, qtbot, monkeypatch):
    show("diameter")
    built = []
    refresh = dock.refresh
    monkeypatch.setattr(dock, "refresh", lambda: (built.append(1), refresh()))
    for i in range(5):
        state.clusters.set_analysis(image(6, f"image {i}", i))
    qtbot.waitUntil(lambda: dock.view.data["count"].sum() == 90)
    assert built == [1]
    dock.hide()
    state.clusters.set_analysis(image(10, "one more"))
    state.select([("field_2", 1)])
    qtbot.wait(60)
    assert built == [1]
    dock.show()
    qtbot.waitUntil(lambda: dock.view.data["count"].sum() == 100)
    assert dock.view.share.sum() > 0


def test_another_size_is_drawn_anew(dock, show, qtbot):
    show("diameter")
    before = dock.view._image.size()
    dock.resize(600, 500)
    qtbot.waitUntil(lambda: dock.view._image.size() != before)
    assert dock.view._image.width() == round(dock.view.width() * dock.view.devicePixelRatioF())


# ---- out
def test_what_is_drawn_is_saved(dock, state, show, tmp_path, monkeypatch):
    show("diameter")
    for suffix, kind in (
        (".png", "Picture (*.png)"),
        (".svg", ""),
        (".pdf", "Picture (*.png)"),  # a suffix that is typed counts
        ("", "Data (*.csv)"),
    ):
        chosen = str(tmp_path / f"plot{suffix}"), kind
        monkeypatch.setattr(
            "napari_atomicity.gui.controls.save_dialogs.QFileDialog.getSaveFileName",
            lambda *a, c=chosen: c,
        )
        QTest.mouseClick(dock.save_button, LEFT)
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert "Diameter / nm" in (tmp_path / "plot.svg").read_text()
    assert (tmp_path / "plot.pdf").read_bytes().startswith(b"%PDF")
    assert {path.name for path in tmp_path.glob("plot*")} == {
        "plot.png", "plot.svg", "plot.pdf", "plot.csv"
    }  # fmt: skip
    data = pd.read_csv(tmp_path / "plot.csv")
    assert data["count"].tolist() == dock.view.data["count"].tolist()
    assert {"diameter_from_nm", "diameter_to_nm", "cut_from_nm"} <= set(data.columns)


def test_a_file_that_can_not_be_written_is_said(dock, show, tmp_path, monkeypatch, errors):
    show("confidence")
    chosen = str(tmp_path / "plot.docx" / "plot.png"), ""
    (tmp_path / "plot.docx").write_text("a file where a folder should be")
    monkeypatch.setattr(
        "napari_atomicity.gui.controls.save_dialogs.QFileDialog.getSaveFileName", lambda *a: chosen
    )
    QTest.mouseClick(dock.save_button, LEFT)
    assert len(errors) == 1 and "plot.png" in errors[0]


def test_the_chosen_plot_is_remembered(viewer, dock, show, qtbot):
    show("confidence")
    again = Plots(viewer)
    qtbot.addWidget(again)
    assert again.name == "confidence"


# ---- in the viewer
def test_times_are_asked_for_once(viewer, dock, state, show, settle, monkeypatch):
    asked = []
    monkeypatch.setattr(docks, "recording_time", lambda metadata: asked.append(1))
    dock.order_combo.setCurrentIndex(dock.order_combo.findData("time"))
    show("ratios")
    state.clusters.relabel([("field_2", 1)], "Pt70")
    flush(dock, settle, viewer)
    assert len(asked) == 2
    assert dock.view.data["image"].drop_duplicates().tolist() == ["field_2", "field_10"]


# ---- any columns
def test_columns_of_ones_own_are_plotted_and_selected(dock, state, show, settle, viewer):
    measured = image(40, "field_10")
    peak = np.arange(40.0)
    state.clusters.set_analysis(replace(measured, table=measured.table.assign(peak=peak)))
    show("histogram")
    assert dock.x_combo.isVisible() and not dock.y_combo.isVisible()
    assert dock.x_combo.currentText() == "peak"
    assert set(dock.view.data["column"]) == {"peak"}
    row = int(np.argmax(dock.view.data["count"]))
    QTest.mouseClick(dock.view, LEFT, PLAIN, centre(dock, row))
    bar = dock.view.data.iloc[row]
    assert {name for name, _ in state.selection} == {"field_10"}
    assert len(state.selection) == bar["count"]
    show("scatter")
    assert dock.y_combo.isVisible()
    dock.y_combo.setCurrentText("confidence")
    flush(dock, settle, viewer)
    assert list(dock.view.data.columns[3:]) == ["peak", "confidence"]
    dock.x_combo.setCurrentText("diameter_nm")
    flush(dock, settle, viewer)
    assert list(dock.view.data.columns[3:]) == ["diameter_nm", "confidence"]
    show("diameter")
    assert not dock.x_combo.isVisible() and not dock.y_combo.isVisible()


def test_the_choice_of_columns_fits_below_the_canvas_of_a_small_window(show):
    dock = show("scatter")
    dock.resize(900, 420)  # all controls in one row
    assert dock._controls.minimumSize().width() < 200
