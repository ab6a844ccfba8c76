"""The Table dock: sorting, filtering, selecting with mouse and keys, and out of it."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mouse import move
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QAction, QKeySequence
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog
from synthetic import CLASSES, made_up
from waiting import updated

from napari_atomicity.core.tables.cluster_table import OPTIONAL, UNKNOWN, columns
from napari_atomicity.gui.docks import table as cluster_table
from napari_atomicity.gui.docks.table import EMPTY, Table
from napari_atomicity.gui.panels import table_files
from napari_atomicity.gui.table.model import USUAL, describe_column, format_cell, sorted_rows
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.io.clipboard import tab_separated
from napari_atomicity.io.tables import read_table

LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
CTRL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    state.clusters.set_analysis(made_up(30, "one"))
    state.clusters.set_analysis(made_up(25, "two", seed=1))
    return state


def open_table(viewer, qtbot, settle) -> Table:
    dock = Table(viewer)
    qtbot.addWidget(dock)
    dock.resize(700, 400)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)  # layers of the image too: no test leaves some half made
    return dock


@pytest.fixture
def dock(viewer, state, qtbot, settle):
    return open_table(viewer, qtbot, settle)


def keys_shown(dock) -> list:
    return [dock.model.rows.key_of(int(row)) for row in dock.model.order]


def place(dock, position: int) -> QPoint:
    """Where a row is in the viewport, brought into view."""
    index = dock.model.index(position, 0)
    dock.view.scrollTo(index)
    return dock.view.visualRect(index).center()


def click(dock, position: int, modifiers=PLAIN) -> None:
    QTest.mouseClick(dock.view.viewport(), LEFT, modifiers, place(dock, position))


def click_header(dock, name: str) -> None:
    header = dock.view.horizontalHeader()
    x = header.sectionViewportPosition(dock.model.columns.index(name)) + 12
    QTest.mouseClick(header.viewport(), LEFT, PLAIN, QPoint(x, header.height() // 2))


def column(dock, name: str) -> list[str]:
    at = dock.model.columns.index(name)
    return [dock.model.data(dock.model.index(i, at)) for i in range(dock.model.rowCount())]


def write_filter(dock, line: str) -> None:
    dock.filter_line.clear()
    QTest.keyClicks(dock.filter_line, line)
    QTest.keyClick(dock.filter_line, Qt.Key.Key_Return)


# ---- words, without Qt
def test_every_column_has_a_description_with_its_unit():
    for name in [*columns(CLASSES), *OPTIONAL]:
        assert describe_column(name), name
    assert "centre" in describe_column("y_nm") and describe_column("y_nm").endswith("in nm")
    assert describe_column("diameter_nm").endswith("in nm")
    assert "counts times nm²" in describe_column("integrated_intensity")
    assert "probability of Pt41" in describe_column("p_Pt41")
    assert describe_column("my_own") == ""


@pytest.mark.parametrize("descending", [False, True])
def test_sorting_is_stable_and_puts_what_is_not_known_last(descending):
    table = made_up(6).table.assign(confidence=[0.5, np.nan, 0.1, 0.5, np.nan, 0.9])
    order = sorted_rows(table, "confidence", descending, CLASSES).tolist()
    assert order == ([5, 0, 3, 2, 1, 4] if descending else [2, 0, 3, 5, 1, 4])


def test_text_is_sorted_as_people_do():
    table = made_up(5).table.assign(
        image=["f10", "f2", "", "F1", "g"], label=["Pt70", UNKNOWN, "Pt19", "", "Pt30"]
    )
    assert sorted_rows(table, "image", False, CLASSES).tolist() == [3, 1, 0, 4, 2]
    assert sorted_rows(table, "label", False, CLASSES).tolist() == [2, 4, 0, 1, 3]
    assert sorted_rows(table, "label", True, CLASSES).tolist() == [1, 0, 4, 2, 3]


def test_values_as_a_person_reads_them():
    assert format_cell(0.12345, "confidence") == "0.123"
    assert format_cell(np.float64(12.345), "n_atoms") == "12.3"
    assert format_cell(1.234567e6, "integrated_intensity") == "1.235e+06"
    assert format_cell(np.nan, "confidence") == ""
    assert format_cell(np.bool_(True), "touches_border") == "yes"
    assert format_cell(7, "cluster_id") == "7" and format_cell("Pt19", "label") == "Pt19"


def test_nothing_on_the_clipboard_is_a_formula():
    lines = tab_separated(
        pd.DataFrame({"image": ["=1+1", "a"], "x_nm": [-1.5, np.nan]})
    ).splitlines()
    assert lines == ["image\tx_nm", "'=1+1\t-1.50", "a\t"]


# ---- the dock
def test_every_cluster_has_a_row(dock, state):
    assert keys_shown(dock) == [
        (image, int(i)) for image in state.images for i in state.table(image)["cluster_id"]
    ]
    assert dock.note.text() == "55 clusters"
    header = dock.view.horizontalHeader()
    shown = [c for i, c in enumerate(dock.model.columns) if not header.isSectionHidden(i)]
    assert set(shown) == set(USUAL) & set(state.table().columns)
    at = dock.model.columns.index("diameter_nm")
    words = dock.model.headerData(at, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole)
    assert words == "diameter_nm: equivalent circular diameter of the outline, in nm"


def test_a_header_sorts_up_down_and_not_at_all(dock):
    before = keys_shown(dock)
    click_header(dock, "confidence")
    values = [float(v) for v in column(dock, "confidence")]
    assert values == sorted(values)
    click_header(dock, "confidence")
    values = [float(v) for v in column(dock, "confidence")]
    assert values == sorted(values, reverse=True)
    click_header(dock, "confidence")
    assert keys_shown(dock) == before
    click_header(dock, "label")
    assert column(dock, "label") == sorted(column(dock, "label"))


def test_a_filter_shows_what_it_says(dock, state):
    write_filter(dock, "confidence < 0.75 and label = pt41")
    table = state.table()
    expected = table[(table["confidence"] < 0.75) & (table["label"] == "Pt41")]
    assert 0 < len(expected) < 11
    assert keys_shown(dock) == list(zip(expected["image"], expected["cluster_id"], strict=True))
    assert dock.note.text() == f"{len(expected)} of 55 clusters"
    write_filter(dock, "two")
    assert {key[0] for key in keys_shown(dock)} == {"two"}


def test_the_filter_of_another_project_hides_nothing(dock, state):
    write_filter(dock, "two")
    for image in ("one", "two"):
        state.remove_image(image)
    state.project_changed.emit()
    state.clusters.set_analysis(made_up(30, "three"))
    updated(dock)
    assert len(keys_shown(dock)) == 30 and not dock.filter_line.text()


def test_samples_are_a_column_if_there_are_several(dock, state, monkeypatch):
    assert "sample" not in dock.model.columns
    state.sessions.group_sample(["two"], "spent")
    updated(dock)
    assert set(column(dock, "sample")) == {"images without a file", "spent"}
    write_filter(dock, "sample = spent")
    assert {key[0] for key in keys_shown(dock)} == {"two"}
    write_filter(dock, "")
    monkeypatch.setattr(type(state), "blind", True)  # a name may tell the label
    dock.refresh_now()
    assert "sample" not in dock.model.columns


def test_a_filter_that_says_nothing_changes_nothing_and_says_why(dock, qtbot):
    write_filter(dock, "two")
    QTest.keyClicks(dock.filter_line, " confidense < 1")
    qtbot.waitUntil(dock.error.isVisible)  # without Return: what is typed is tried
    assert "Perhaps confidence" in dock.error.text()
    assert len(keys_shown(dock)) == 25
    write_filter(dock, "")
    assert not dock.error.isVisible() and len(keys_shown(dock)) == 55


def test_a_filter_of_a_column_that_is_gone_shows_all_rows_and_says_so(dock, state, qtbot):
    tracked = made_up(30, "one")
    tracked = replace(tracked, table=tracked.table.assign(my_size=np.arange(30.0)))
    state.clusters.set_analysis(tracked)
    updated(dock)
    write_filter(dock, "my_size > 26")
    assert len(keys_shown(dock)) == 3
    state.history.undo()
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 55)
    assert dock.error.isVisible() and "my_size" in dock.error.text()
    write_filter(dock, "two")
    assert not dock.error.isVisible() and len(keys_shown(dock)) == 25


def test_clicks_select_rows_everywhere(dock, state):
    keys = keys_shown(dock)
    click(dock, 3)
    assert state.selection == {keys[3]}
    click(dock, 6, SHIFT)
    assert state.selection == set(keys[3:7])
    click(dock, 40, CTRL)
    click(dock, 4, CTRL)
    assert state.selection == {keys[3], keys[5], keys[6], keys[40]}
    QTest.keyClick(dock.view, Qt.Key.Key_A, CTRL)
    assert state.selection == set(keys)
    QTest.keyClick(dock.view, Qt.Key.Key_Escape)
    assert not state.selection


def test_a_drag_selects_a_range(dock, state):
    port = dock.view.viewport()
    start, end = place(dock, 2), place(dock, 5)
    QTest.mousePress(port, LEFT, PLAIN, start)
    move(port, end)
    QTest.mouseRelease(port, LEFT, PLAIN, end)
    assert state.selection == set(keys_shown(dock)[2:6])


def test_a_drag_out_of_the_view_goes_on_below(dock, state):
    port, start = dock.view.viewport(), place(dock, 3)
    QTest.mousePress(port, LEFT, PLAIN, start)
    for step in range(20):
        move(port, QPoint(start.x(), port.height() + 50 + step))
    QTest.mouseRelease(port, LEFT, PLAIN, start)
    assert state.selection == set(keys_shown(dock)[3:])
    bar = dock.view.verticalScrollBar()
    assert bar.value() == bar.maximum() > 0


def test_arrows_move_the_selection(dock, state):
    keys = keys_shown(dock)
    click(dock, 3)
    QTest.keyClick(dock.view, Qt.Key.Key_Down)
    assert state.selection == {keys[4]}
    QTest.keyClick(dock.view, Qt.Key.Key_Down, SHIFT)
    QTest.keyClick(dock.view, Qt.Key.Key_Down, SHIFT)
    assert state.selection == set(keys[4:7])


def test_what_a_filter_hides_stays_selected_when_one_is_added(dock, state):
    state.select([("one", 1), ("two", 1)])
    write_filter(dock, "two")
    assert dock.note.text().endswith("1 selected, 1 selected not shown here")
    click(dock, 3, CTRL)
    assert state.selection == {("one", 1), ("two", 1), keys_shown(dock)[3]}
    click(dock, 2)
    assert state.selection == {keys_shown(dock)[2]}


def test_a_selection_from_elsewhere_is_marked_and_brought_into_sight(dock, state):
    def colour(position: int) -> str:
        box = dock.view.visualRect(dock.model.index(position, 0))
        image = dock.view.viewport().grab().toImage()
        return image.pixelColor(
            (box.bottomRight() - QPoint(2, 2)) * image.devicePixelRatio()
        ).name()

    ground = colour(1)
    state.select([keys_shown(dock)[1]])
    assert colour(1) != ground and colour(2) == ground
    state.select([("two", 24)])
    assert dock.view.viewport().rect().contains(dock.view.visualRect(dock.model.index(53, 0)))


def test_the_next_cluster_of_a_review_comes_into_sight_after_an_answer(dock, state):
    state.select([keys_shown(dock)[0]])
    state.clusters.relabel([keys_shown(dock)[0]], "Pt70")  # an answer, and the next one at once
    state.select([("two", 24)])
    updated(dock)
    assert dock.view.viewport().rect().contains(dock.view.visualRect(dock.model.index(53, 0)))
    dock.view.scrollToTop()
    state.clusters.relabel([keys_shown(dock)[1]], "Pt70")  # not what is selected
    updated(dock)
    assert dock.view.verticalScrollBar().value() == 0


def test_a_table_that_is_opened_later_shows_the_selected_row(viewer, state, qtbot, settle):
    state.select([("two", 24)])
    dock = open_table(viewer, qtbot, settle)
    row, sight = dock.model.index(53, 0), dock.view.viewport().rect
    qtbot.waitUntil(lambda: sight().contains(dock.view.visualRect(row).center()))


def test_a_row_selected_elsewhere_comes_into_sight_also_while_the_table_has_the_focus(
    dock, state, qtbot
):
    click(dock, 0)
    dock.view.setFocus()
    for last, other in ((53, ("two", 24)), (0, keys_shown(dock)[0])):
        state.select([other])
        dock.update_now()
        row = dock.view.visualRect(dock.model.index(last, 0))
        assert dock.view.viewport().rect().contains(row)
    bar = dock.view.verticalScrollBar()
    bar.setValue(7)  # what is clicked half in sight stays under the mouse
    QTest.mouseClick(dock.view.viewport(), LEFT, PLAIN, QPoint(20, 2))
    dock.update_now()
    assert len(state.selection) == 1 and bar.value() == 7


def test_sort_again_takes_no_room_from_others(dock, state, qtbot):
    click_header(dock, "label")
    others = (dock.view, dock.note, dock.copy_button)
    before = [widget.geometry() for widget in others]
    state.clusters.relabel([keys_shown(dock)[0]], "Pt70")
    qtbot.waitUntil(dock.sort_again_button.isVisible)
    QApplication.processEvents()
    assert [widget.geometry() for widget in others] == before


def test_a_cluster_that_is_selected_in_another_image_is_said_so(dock, state):
    key = keys_shown(dock)[0]
    other = next(image for image in state.images if image != key[0])
    for current, said in ((key[0], False), (other, True)):
        state.current = current
        state.select([key])
        dock.refresh_now()
        assert ("a double click shows it" in dock.note.text()) is said
    state.current = key[0]  # by a double click on the row
    assert "a double click shows it" not in dock.note.text()


def test_double_click_and_enter_go_to_the_image(dock, state):
    asked = []
    state.focus_requested.connect(asked.append)
    keys = keys_shown(dock)
    click(dock, 7)
    QTest.mouseDClick(dock.view.viewport(), LEFT, PLAIN, place(dock, 7))
    assert asked == [keys[7]] and state.selection == {keys[7]}
    QTest.keyClick(dock.view, Qt.Key.Key_Return)
    assert asked == [keys[7], keys[7]]


def test_a_relabelled_row_stays_until_it_is_sorted_again(dock, state, qtbot):
    click_header(dock, "label")
    keys = keys_shown(dock)
    state.clusters.relabel([keys[0]], "Pt70")
    qtbot.waitUntil(lambda: column(dock, "label")[0] == "Pt70*")
    assert keys_shown(dock) == keys and dock.sort_again_button.isVisible()
    dock.sort_again_button.click()
    assert keys_shown(dock).index(keys[0]) >= 44 - 1
    assert not dock.sort_again_button.isVisible()
    state.clusters.remove([keys[5]])
    qtbot.waitUntil(lambda: keys[5] not in keys_shown(dock))
    state.history.undo()
    qtbot.waitUntil(lambda: keys[5] in keys_shown(dock))
    assert keys_shown(dock).index(keys[5]) == 4


def test_a_new_image_comes_with_its_columns(dock, state, qtbot):
    analysis = made_up(5, "three", seed=2)
    table = analysis.table.assign(n_atoms=[1.0, 2.0, 3.0, 4.0, np.nan])
    state.clusters.set_analysis(replace(analysis, table=table))
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 60)
    at = dock.model.columns.index("n_atoms")
    assert not dock.view.horizontalHeader().isSectionHidden(at)
    assert column(dock, "n_atoms")[-3:] == ["3.0", "4.0", ""]
    assert column(dock, "n_atoms")[0] == ""


def test_measurements_of_ones_own_are_shown_until_they_are_hidden(dock, state, viewer, qtbot):
    analysis = made_up(5, "three", seed=2)
    table = analysis.table.assign(peak=np.arange(5.0))
    state.clusters.set_analysis(replace(analysis, table=table))
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 60)
    assert column(dock, "peak")[-2:] == ["3.000", "4.000"] and column(dock, "peak")[0] == ""
    assert "peak" in dock.shown().columns
    dock.columns_menu.aboutToShow.emit()
    {a.text(): a for a in dock.columns_menu.actions()}["peak"].trigger()
    again = Table(viewer)
    qtbot.addWidget(again)
    again.show()
    assert "peak" not in again.shown().columns
    again.columns_menu.aboutToShow.emit()
    {a.text(): a for a in again.columns_menu.actions()}["Default columns"].trigger()
    assert "peak" in again.shown().columns


def test_columns_are_chosen_and_remembered(dock, viewer, qtbot):
    dock.columns_menu.aboutToShow.emit()
    actions = {a.text(): a for a in dock.columns_menu.actions()}
    assert actions["image"].isChecked() and not actions["p_Pt41"].isChecked()
    assert "probability" in actions["p_Pt41"].toolTip()
    actions["p_Pt41"].trigger()
    actions["image"].trigger()
    header = dock.view.horizontalHeader()
    assert not header.isSectionHidden(dock.model.columns.index("p_Pt41"))
    assert header.isSectionHidden(dock.model.columns.index("image"))
    again = Table(viewer)
    qtbot.addWidget(again)
    again.show()
    assert "image" not in again.shown().columns and "p_Pt41" in again.shown().columns
    dock.columns_menu.aboutToShow.emit()
    {a.text(): a for a in dock.columns_menu.actions()}["Default columns"].trigger()
    assert "image" in dock.shown().columns and "p_Pt41" not in dock.shown().columns


def test_what_is_selected_is_copied_as_it_is_shown(dock, state):
    click_header(dock, "confidence")
    keys = keys_shown(dock)
    state.select([keys[4], keys[2]])
    QTest.keyClick(dock.view, Qt.Key.Key_C, CTRL)
    read = pd.read_csv(io.StringIO(QApplication.clipboard().text()), sep="\t")
    assert list(zip(read["image"], read["cluster_id"], strict=True)) == [keys[2], keys[4]]
    assert list(read.columns) == list(dock.shown().columns)
    row = state.table(keys[2][0]).set_index("cluster_id").loc[keys[2][1]]
    assert read["confidence"][0] == pytest.approx(row["confidence"], rel=1e-3)
    state.select([])
    dock.copy_button.click()
    assert len(QApplication.clipboard().text().splitlines()) == 56


def test_what_is_taken_out_says_whose_label_it_is_and_what_does_not_count(dock, state, qtbot):
    marks = {"label_predicted", "label_corrected", "touches_border", "excluded"}
    keys = [key for key in keys_shown(dock) if key[0] == "one"][:4]
    table = state.table("one").set_index("cluster_id")
    whole = [key for key in keys if not table.loc[key[1], "touches_border"]]
    state.select(whole[:2])
    QTest.keyClick(dock.view, Qt.Key.Key_C, CTRL)
    assert not marks & {*QApplication.clipboard().text().splitlines()[0].split("\t")}
    state.clusters.relabel(whole[:1], "Pt70")
    qtbot.waitUntil(lambda: "Pt70*" in column(dock, "label"))
    QTest.keyClick(dock.view, Qt.Key.Key_C, CTRL)
    read = pd.read_csv(io.StringIO(QApplication.clipboard().text()), sep="\t")
    assert marks & {*read.columns} == {"label_predicted", "label_corrected"}
    assert read["label_corrected"].fillna("").tolist() == ["Pt70", ""]
    place = table.loc[whole[1][1], ["y_px", "x_px"]].to_numpy(float)
    around = place + 3 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
    state.clusters.set_regions("one", [around])
    qtbot.waitUntil(lambda: "excluded" in dock.shown().columns)
    QTest.keyClick(dock.view, Qt.Key.Key_C, CTRL)
    read = pd.read_csv(io.StringIO(QApplication.clipboard().text()), sep="\t")
    assert read["excluded"].tolist() == [False, True]
    header = dock.view.horizontalHeader()
    for i, name in enumerate(dock.model.columns):
        header.setSectionHidden(i, name not in ("image", "cluster_id"))
    assert list(dock.shown().columns) == ["image", "cluster_id", "excluded"]


def test_a_cluster_called_unknown_has_no_confidence_in_cells_and_copy(dock, state, qtbot):
    key, by_hand = keys_shown(dock)[3:5]
    analysis = state.analysis(key[0])
    table = analysis.table.copy()
    table.loc[table["cluster_id"] == key[1], ["label", "label_predicted"]] = UNKNOWN
    state.clusters.set_analysis(replace(analysis, table=table))
    state.clusters.relabel([by_hand], UNKNOWN)  # the prediction is a class, with a confidence
    dock.update_now()
    click_header(dock, "confidence")
    row = keys_shown(dock).index(key)
    assert row == len(keys_shown(dock)) - 1
    assert column(dock, "confidence")[row] == "" and "" not in column(dock, "confidence")[:row]
    state.select([key])
    dock.copy_button.click()
    read = pd.read_csv(io.StringIO(QApplication.clipboard().text()), sep="\t")
    assert read["label"].tolist() == [UNKNOWN] and read["confidence"].isna().all()
    assert dock.shown()["confidence"].notna().all()  # which is exported


def test_a_copy_has_the_digits_that_mean_something_and_is_confirmed(dock, state, monkeypatch):
    said = []
    monkeypatch.setattr(table_files, "show_info", said.append)
    state.select(keys_shown(dock)[:3])
    dock.copy_button.click()
    assert said == ["Copied: 3 rows"]
    header, *lines = (x.split("\t") for x in QApplication.clipboard().text().splitlines())
    of = {name: [line[header.index(name)] for line in lines] for name in header}
    assert max(map(len, of["diameter_nm"])) <= 5 and max(map(len, of["confidence"])) <= 6
    measured = dock.shown()["diameter_nm"][:3].to_numpy()
    assert np.array(of["diameter_nm"], float) == pytest.approx(measured, rel=1e-3)


def test_copying_is_no_shortcut_of_the_window(dock, state, qtbot):
    taken = []
    action = QAction("copy", dock)
    action.setShortcut(QKeySequence("Ctrl+C"))
    action.triggered.connect(lambda _: taken.append(1))
    dock.addAction(action)
    dock.activateWindow()
    dock.view.setFocus()
    qtbot.waitUntil(dock.view.hasFocus)
    QTest.keyClick(dock.view, Qt.Key.Key_C, CTRL)
    assert not taken and QApplication.clipboard().text().startswith("image\t")


def test_many_rows_are_copied_in_a_worker(dock, monkeypatch, settle, viewer):
    monkeypatch.setattr(cluster_table, "_COPIED_AT_ONCE", 10)
    QApplication.clipboard().setText("before")
    dock.copy_button.click()
    assert QApplication.clipboard().text() == "before"
    settle(viewer)
    assert len(QApplication.clipboard().text().splitlines()) == 56


@pytest.mark.parametrize("suffix", ["csv", "xlsx", "parquet"])
def test_what_is_shown_is_exported(dock, monkeypatch, tmp_path, settle, viewer, suffix):
    path = tmp_path / f"part.{suffix}"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(path), ""))
    said = []
    monkeypatch.setattr(table_files, "show_info", said.append)
    write_filter(dock, "label = Pt30")
    click_header(dock, "diameter_nm")
    dock.export_button.click()
    settle(viewer)
    assert said == [f"Written: {path}"]
    pd.testing.assert_frame_equal(
        read_table(path), dock.shown(), check_dtype=False, check_column_type=False
    )
    assert len(read_table(path)) == 11
    if suffix == "csv":  # for people: few digits, and the units in a file beside it
        text = path.read_text()
        assert max(map(len, re.findall(r"\d+\.(\d+)", text))) <= 6
        columns = read_table(tmp_path / "part.columns.csv").set_index("column")
        assert columns.loc["diameter_nm", "unit"] == "nm"


def test_a_hidden_dock_does_nothing_until_it_is_shown(dock, state, monkeypatch, qtbot):
    done = []
    refresh = dock.model.refresh
    monkeypatch.setattr(dock.model, "refresh", lambda: done.append(1) or refresh())
    dock.hide()
    state.clusters.relabel([("one", 1)], "Pt70")
    state.select([("one", 2)])
    qtbot.wait(60)
    assert not done
    dock.show()
    assert len(done) == 1 and column(dock, "label")[0] == "Pt70*"
    assert np.flatnonzero(dock.view.selected_positions()).tolist() == [1]


def test_another_project_starts_afresh_with_the_same_wishes(dock, state, qtbot):
    click_header(dock, "confidence")
    write_filter(dock, "two")
    keys = keys_shown(dock)
    state.project_changed.emit()
    qtbot.waitUntil(lambda: keys_shown(dock) == keys)
    assert not dock.sort_again_button.isVisible()


def test_without_clusters_it_says_what_to_do(viewer, qtbot):
    dock = Table(viewer)
    qtbot.addWidget(dock)
    dock.show()
    assert dock.message.text() == EMPTY and dock.message.isVisible()
    assert not dock.export_button.isEnabled() and not dock.copy_button.isEnabled()
    state = state_of(viewer)
    state.clusters.set_analysis(made_up(12))
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 12)
    assert dock.view.isVisible() and dock.export_button.isEnabled()
    assert dock.view.columnWidth(dock.model.columns.index("image")) > 40


def test_it_fits_a_narrow_dock(dock):
    assert dock.minimumSizeHint().width() <= 400 and dock.minimumSizeHint().height() <= 300
