"""The Gallery dock: order, geometry and pictures by themselves; the dock with mouse and keys."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from mouse import move
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtGui import QAction, QColor, QCursor, QKeySequence, QRegion
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from synthetic import CLASSES, with_class_maps

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.core.palette import colours, stretch
from napari_atomicity.core.tables.cluster_table import AGGREGATE, UNKNOWN, conform
from napari_atomicity.gui.controls.cluster_rows import SelectableRows, after_click, kept_order
from napari_atomicity.gui.controls.shortcuts import GALLERY
from napari_atomicity.gui.docks.gallery import EMPTY, NOTHING_FITS, Gallery
from napari_atomicity.gui.gallery import model as gallery_model
from napari_atomicity.gui.gallery.model import (
    OVERLAYS,
    PictureCache,
    common_limits,
    picture,
)
from napari_atomicity.gui.gallery.order import (
    GROUPINGS,
    NO_LABEL,
    SORTINGS,
    STATES,
    Arrangement,
    GalleryOrder,
    arrange,
    regrouped,
)
from napari_atomicity.gui.gallery.painter import GalleryGrid
from napari_atomicity.gui.gallery.view import GalleryView
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.project import Project
from napari_atomicity.reporting.patch_pictures import compose

LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
CTRL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    state.clusters.set_analysis(with_class_maps(30, "one"))
    state.clusters.set_analysis(with_class_maps(25, "two", seed=1))
    return state


@pytest.fixture
def dock(viewer, state, qtbot, settle):
    dock = Gallery(viewer)
    qtbot.addWidget(dock)
    dock.resize(460, 700)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)  # layers of the image too: no test leaves some half made
    return dock


def keys_shown(dock) -> list:
    rows = dock.model.rows
    return [rows.key_of(int(row)) for row in dock.model.arrangement.order]


def centre(dock, key) -> QPoint:
    """Where a tile is in the viewport, brought into view."""
    index = dock.model.index(keys_shown(dock).index(key))
    dock.view.scrollTo(index)
    return dock.view.visualRect(index).center()


def click(dock, key, modifiers=PLAIN) -> None:
    QTest.mouseClick(dock.view.viewport(), LEFT, modifiers, centre(dock, key))


def press(dock, key, modifiers=PLAIN) -> None:
    QTest.keyClick(dock.view, key, modifiers)


def label_of(state, key) -> str:
    table = state.table(key[0])
    return table.set_index("cluster_id")["label"][key[1]]


def of_label(state, label: str) -> set:
    table = state.table()
    found = table[table["label"] == label]
    return set(zip(found["image"], found["cluster_id"].tolist(), strict=True))


# ---- order, without Qt
def a_table(**columns):
    return conform(with_class_maps(10).table.assign(**columns), CLASSES)


def in_order(table, wish: GalleryOrder, selected=None) -> list[int]:
    selected = np.zeros(len(table), bool) if selected is None else selected
    return arrange(table, CLASSES, wish, selected).order.tolist()


@pytest.mark.parametrize("descending", [False, True])
def test_numbers_are_sorted_and_what_is_not_known_comes_last(descending):
    values = [0.5, np.nan, 0.1, 0.9, 0.5, np.nan, 0.2, 0.3, 0.4, 0.6]
    wish = GalleryOrder("nothing", "confidence", descending)
    order = in_order(a_table(confidence=values), wish)
    known = [2, 6, 7, 8, 0, 4, 9, 3]
    assert order == ([3, 9, 0, 4, 8, 7, 6, 2] if descending else known) + [1, 5]


def test_groups_by_label_go_in_the_order_of_the_classes():
    labels = ["Pt70", "", "Pt19", UNKNOWN, "Pt70", "Au9", AGGREGATE, "Pt19", "Pt19", ""]
    table = a_table(label=labels, label_predicted=labels)
    found = arrange(table, CLASSES, GalleryOrder("label", "image"), np.zeros(10, bool))
    assert found.order.tolist() == [2, 7, 8, 0, 4, 3, 6, 5, 1, 9]
    counts = dict(zip(found.names, found.counts().tolist(), strict=True))
    assert counts == {"Pt19": 3, "Pt30": 0, "Pt41": 0, "Pt55": 0, "Pt70": 2, UNKNOWN: 1,
                      AGGREGATE: 1, "Au9": 1, "no label": 2}  # fmt: skip


@pytest.mark.parametrize(
    ("group", "column", "values", "names"),
    [
        ("confidence", "confidence", [0.2, 0.6, 0.7, 0.95, np.nan], ["confidence below 0.5",
         "confidence 0.5 to 0.7", "confidence 0.7 to 0.9", "confidence 0.9 to 1",
         "no confidence"]),
        ("diameter", "diameter_nm", [0.9, 1.0, 1.2, 1.2, np.nan],
         ["0.8 to 1.0 nm", "1.0 to 1.2 nm", "1.2 to 1.4 nm", "1.2 to 1.4 nm", "not known"]),
        ("atoms", "n_atoms", [7, 30, 39.9, 41, np.nan],
         ["0 to 9 atoms", "30 to 39 atoms", "30 to 39 atoms", "40 to 49 atoms", "not known"]),
        ("correction", "label_corrected", ["Pt19", "", "Pt19", "", ""],
         ["corrected", "not corrected", "corrected", "not corrected", "not corrected"]),
    ],
)  # fmt: skip
def test_groups_by_other_things(group, column, values, names):
    table = with_class_maps(5).table.assign(**{column: values})
    codes, found = GROUPINGS[group](table, CLASSES)
    assert [found[code] for code in codes] == names


def test_a_table_without_added_columns_and_an_empty_one_can_be_shown_in_every_way():
    for table in (with_class_maps(5).table, conform(with_class_maps(5).table.iloc[:0], CLASSES)):
        for group in GROUPINGS:
            for sort in SORTINGS:
                for state in STATES:
                    order = in_order(table, GalleryOrder(group, sort, state=state))
                    assert len(set(order)) == len(order) <= len(table)


def test_similar_ones_follow_the_selected_ones():
    place = np.arange(10.0)
    table = a_table(umap_1=place, umap_2=0 * place)
    wish = GalleryOrder("nothing", "similarity")
    assert in_order(table, wish, np.arange(10) == 7)[:3] == [7, 6, 8]
    assert in_order(table, wish, np.isin(np.arange(10), [2, 4]))[:3] == [3, 2, 4]
    # None selected: from neighbour to neighbour.
    steps = np.abs(np.diff(place[in_order(table, wish)]))
    assert steps.max() == 1


def test_what_is_doubtful():
    table = a_table(
        confidence=[0.9, 0.6, 0.9, 0.6, np.nan, 0.9, 0.9, 0.9, 0.9, 0.9],
        prediction_set=["Pt19", "Pt19", "Pt19|Pt30", "Pt19", "", *["Pt19"] * 5],
        label_corrected=["", "", "", "Pt19", *[""] * 6],
        conditions_differ=[False] * 8 + [True, False],
    )
    assert np.flatnonzero(STATES["doubtful"].of(table)).tolist() == [1, 2, 8]


def test_an_order_is_kept_and_what_is_new_goes_where_it_belongs():
    fresh = np.array([5, 3, 1, 0, 2, 4])
    new = np.isin(np.arange(6), [3, 2])
    # 0, 1, 4, 5 stand otherwise than they should: they stay.
    assert kept_order(fresh, np.array([0, 1, 4, 5]), new).tolist() == [0, 2, 1, 4, 5, 3]
    assert kept_order(fresh, np.array([5, 1, 0, 4]), new).tolist() == fresh.tolist()
    assert kept_order(fresh, np.zeros(0, int), np.ones(6, bool)).tolist() == fresh.tolist()
    # One that the filter would hide now stays; an old one that was hidden does not come.
    assert kept_order(np.array([5, 3]), np.array([0, 5]), new).tolist() == [0, 5, 3]


def test_a_new_row_stands_in_its_group_even_if_its_neighbour_stands_in_another():
    fresh = np.array([0, 1, 2, 3])
    group = np.array([1, 0, 0, 1])  # 0 should be in group 0 by now, and stays in 1
    new = np.array([False, False, True, False])
    assert group[kept_order(fresh, np.array([1, 0, 3]), new, group)].tolist() == [0, 0, 1, 1]


def test_groups_stay_by_name():
    before = Arrangement(np.arange(2), np.array([0, 1]), ("Pt19", "old"))
    fresh = Arrangement(np.arange(3), np.array([1, 1, 0]), ("Pt9", "Pt19"))
    kept = regrouped(fresh, before, np.array([1, 0, -1]))
    assert [kept.names[g] for g in kept.group] == ["old", "Pt19", "Pt9"]


def test_rows_know_what_the_machine_says_anew():
    rows, table = SelectableRows(), with_class_maps(6).table
    assert rows.take(table, []).tolist() == [-1] * 6
    assert rows.take(table.assign(label="Pt70", label_corrected="Pt70"), []).tolist() == [*range(6)]
    again = table.iloc[[1, 2, 5]].reset_index(drop=True)
    assert rows.take(again, [("field", 3), ("other", 3)]).tolist() == [1, 2, 5]
    assert rows.selected.tolist() == [False, True, False]
    changed = again.assign(confidence=[again["confidence"][0], 0.123, np.nan])
    assert rows.take(changed, []).tolist() == [0, -1, -1]
    assert rows.take(changed, []).tolist() == [0, 1, 2]  # NaN is the same as NaN


def test_clicks_with_shift_and_control():
    none = np.zeros(6, bool)
    one = after_click(none, 2, None)
    assert np.flatnonzero(one).tolist() == [2]
    assert np.flatnonzero(after_click(one, 4, 2, extend=True)).tolist() == [2, 3, 4]
    assert np.flatnonzero(after_click(one, 0, 2, add=True)).tolist() == [0, 2]
    assert np.flatnonzero(after_click(one, 2, 0, add=True)).tolist() == []
    assert np.flatnonzero(after_click(one, 5, 4, extend=True, add=True)).tolist() == [2, 4, 5]


# ---- geometry, without Qt
def test_every_cell_is_found_where_it_lies():
    grid = GalleryGrid(np.array([5, 0, 1, 7, 0]), 310, (100, 90), 20)
    assert grid.columns == 3 and len(grid) == 13
    assert grid.height == 3 * 20 + (2 + 1 + 3) * 90
    x, y = grid.corners(np.arange(13))
    assert [grid.cell_at(a + 50, b + 45) for a, b in zip(x, y, strict=True)] == [*range(13)]
    assert grid.cell_at(250, 20 + 90 + 10) is None  # beside the fifth
    assert [grid.header_at(y, top=0) for y in (5, 205, 30)] == [0, 2, None]
    assert grid.cell_at(50, 205) is None and grid.cell_at(50, -1) is None
    assert grid.cell_at(50, grid.height) is None


def test_only_rows_in_sight_are_visible():
    grid = GalleryGrid(np.array([5, 7]), 300, (100, 90), 20)
    for top in range(-30, grid.height + 30, 7):
        for height in (1, 60, 200):
            first, past = grid.visible(top, top + height)
            _, y = grid.corners(np.arange(len(grid)))
            seen = np.flatnonzero((y < top + height) & (y + 90 > top))
            assert [*range(first, past)] == seen.tolist(), (top, height)


def test_a_rectangle_touches_cells():
    grid = GalleryGrid(np.array([5, 7]), 300, (100, 90), 20)
    assert grid.within(110, 30, 190, 40).tolist() == [1]
    assert grid.within(110, 30, 210, 120).tolist() == [1, 2, 4]
    assert grid.within(0, 0, 5, grid.height).tolist() == [0, 3, 5, 8, 11]


def test_up_and_down_through_sections():
    grid = GalleryGrid(np.array([5, 0, 2, 4]), 300, (100, 90), 20)
    assert [grid.position_below(p, 1) for p in (0, 1, 2, 4, 6, 10)] == [3, 4, 4, 6, 8, 10]
    assert [grid.position_below(p, -1) for p in (0, 3, 6, 9, 8)] == [0, 0, 4, 6, 6]
    assert grid.position_below(1, 3) == 8


# ---- pictures
def test_many_are_composed_as_one_is():
    analysis = with_class_maps(6)
    patches, maps = analysis.patches["raw"], analysis.class_maps["raw"]
    many = compose(patches)
    for one, patch in zip(many, patches, strict=True):
        np.testing.assert_allclose(one / 255, stretch(patch, 1, 99.8), atol=0.004)
    with_maps = compose(patches, maps)
    one = compose(patches[2:3], maps[2:3], factor=5)[0].astype(float)
    # the same colours at a fifth of the size
    small = one.reshape(56, 5, 56, 5, 3).mean(axis=(1, 3))
    assert np.abs(small - with_maps[2]).mean() < 4
    assert np.ptp(with_maps[2][..., 0].astype(int) - with_maps[2][..., 2]) > 60


def test_on_the_same_scale_more_atoms_are_brighter():
    patches = with_class_maps(10).patches["raw"]  # Pt19 … Pt70, and again
    limits = common_limits([patches[:5], patches[5:]])
    middle = compose(patches, limits=limits)[:, 24:32, 24:32].mean(axis=(1, 2))
    assert (np.diff(middle[:5]) > 15).all() and middle[4] > 200
    apart = compose(patches)[:, 24:32, 24:32].mean(axis=(1, 2))
    assert np.ptp(apart) < 0.5 * np.ptp(middle)
    assert common_limits([]) == (0.0, 1.0)
    assert common_limits([np.full((2, 4, 4), np.nan)]) == (0.0, 1.0)


def test_the_dock_finds_the_common_scale_of_all_images(dock, state):
    dock.overlay_combo.setCurrentIndex(dock.overlay_combo.findData("raw, same scale"))
    keys, image = keys_shown(dock), shot(dock)

    def brightness(image, position: int) -> int:
        place = dock.view.visualRect(dock.model.index(position)).center() - QPoint(0, 8)
        return image.pixelColor(place).lightness()

    before = brightness(image, 0)
    # One image that is much brighter: against it the others are dark.
    bright = with_class_maps(40, "bright", seed=5)
    state.clusters.set_analysis(
        replace(bright, patches={k: 4 * v for k, v in bright.patches.items()})
    )
    dock.update_now()
    assert brightness(shot(dock), keys_shown(dock).index(keys[0])) < 0.6 * before


def test_patches_with_holes_and_flat_ones_have_pictures():
    patches = with_class_maps(3).patches["raw"].copy()
    whole = compose(patches[1:2])[0]
    patches[0, :10] = np.nan
    patches[2] = 5.0
    many = compose(patches, np.zeros((3, 4, 4)))
    assert many.dtype == np.uint8 and many[0].max() > 100
    assert set(np.unique(many[0, :10])) == {56, 104}  # hatched
    np.testing.assert_array_equal(compose(patches)[1], whole)


def test_the_store_forgets_what_was_asked_for_longest_ago(qtbot):
    pixmap = picture(np.zeros((8, 8), np.uint8), 10, 1.0)
    store = PictureCache(limit_bytes=3 * 10 * 10 * 4)
    for name in "abc":
        store.put(name, pixmap)
    assert store.get("a") is not None
    store.put("d", pixmap)
    assert store.get("b") is None and store.get("a") is not None and len(store) == 3


def test_a_picture_is_as_large_as_the_screen_wants_it(qtbot):
    pixmap = picture(np.full((8, 8, 3), 200, np.uint8), 40, 2.0)
    assert pixmap.width() == 80 and pixmap.devicePixelRatio() == 2
    assert pixmap.toImage().pixelColor(7, 9) == QColor(200, 200, 200)


# ---- the dock
def test_every_cluster_has_a_tile_under_its_label(dock, state):
    assert set(keys_shown(dock)) == {
        (image, int(i)) for image in state.images for i in state.table(image)["cluster_id"]
    }
    names = dock.model.arrangement.names
    counts = dict(zip(names, dock.model.arrangement.counts().tolist(), strict=True))
    assert {k: v for k, v in counts.items() if v} == dict.fromkeys(CLASSES, 11)
    first = [label_of(state, key) for key in keys_shown(dock)[:12]]
    assert first == ["Pt19"] * 11 + ["Pt30"]
    assert dock.note.text() == "55 clusters" and not dock.sort_again_button.isVisible()


def test_a_click_selects_control_adds_and_shift_extends(dock, state):
    keys = keys_shown(dock)
    click(dock, keys[3])
    assert state.selection == {keys[3]}
    click(dock, keys[6], SHIFT)
    assert state.selection == set(keys[3:7])
    click(dock, keys[8], CTRL)
    click(dock, keys[4], CTRL)
    assert state.selection == {keys[3], keys[5], keys[6], keys[8]}
    click(dock, keys[9], SHIFT)
    assert state.selection == set(keys[4:10])  # from the last one without Shift
    press(dock, Qt.Key.Key_A, CTRL)
    assert state.selection == set(keys)
    press(dock, Qt.Key.Key_Escape)
    assert not state.selection


def test_a_tile_selected_elsewhere_comes_into_sight_also_while_the_gallery_has_the_focus(
    dock, state, qtbot
):
    keys = keys_shown(dock)
    click(dock, keys[0])
    dock.view.setFocus()
    for position in (len(keys) - 1, 0):
        state.select([keys[position]])
        dock.update_now()
        tile = dock.view.visualRect(dock.model.index(position))
        assert dock.view.viewport().rect().contains(tile)


def test_sort_again_takes_no_room_from_the_tiles(dock, state, qtbot):
    before = dock.view.geometry()
    state.clusters.relabel([keys_shown(dock)[0]], "Pt70")
    qtbot.waitUntil(dock.sort_again_button.isVisible)
    QApplication.processEvents()
    assert dock.view.geometry() == before


def test_a_band_selects_what_it_touches(dock, state):
    keys, view = keys_shown(dock), dock.view
    state.select([keys[-1]])
    view.verticalScrollBar().setValue(0)
    boxes = [view.visualRect(dock.model.index(i)) for i in range(6)]

    def band(a: QPoint, b: QPoint, modifiers=PLAIN) -> None:
        port = view.viewport()
        QTest.mousePress(port, LEFT, modifiers, a)
        for step in range(1, 5):
            move(port, a + (b - a) * (step / 4), modifiers)
        QTest.mouseRelease(port, LEFT, modifiers, b)

    below = boxes[0].center() + QPoint(0, boxes[0].height())
    band(boxes[1].center(), boxes[2].center())
    assert state.selection == set(keys[1:3])
    band(below, boxes[1].center(), SHIFT)
    columns = view._grid.columns
    block = {keys[0], keys[1], keys[columns], keys[columns + 1]}
    assert state.selection == set(keys[1:3]) | block
    band(boxes[0].center(), boxes[1].center() + QPoint(2, 2), CTRL)
    assert state.selection == (set(keys[1:3]) | block) - {keys[0], keys[1]}


def header_rect(view: GalleryView, name: str) -> QRect:
    """Rectangle of the header of a group, in the viewport."""
    section = view.gallery.arrangement.names.index(name)
    top = view._grid.header_top(section, view.verticalOffset())
    return QRect(0, top, view.viewport().width(), view._grid.header)


def test_a_click_on_a_header_selects_the_group(dock, state):
    QTest.mouseClick(dock.view.viewport(), LEFT, PLAIN, header_rect(dock.view, "Pt19").center())
    assert state.selection == of_label(state, "Pt19")
    QTest.mouseClick(dock.view.viewport(), LEFT, CTRL, header_rect(dock.view, "Pt30").center())
    assert state.selection == of_label(state, "Pt19") | of_label(state, "Pt30")
    # One that was corrected stays where it is, and is not of the group.
    changed = min(of_label(state, "Pt19"))
    state.clusters.relabel([changed], "Pt70")
    dock.update_now()
    QTest.mouseClick(dock.view.viewport(), LEFT, PLAIN, header_rect(dock.view, "Pt19").center())
    assert changed in keys_shown(dock) and state.selection == of_label(state, "Pt19")


def test_the_header_of_a_group_that_is_scrolled_away_stays_on_top(dock, state):
    dock.view.verticalScrollBar().setValue(40)
    QTest.mouseClick(dock.view.viewport(), LEFT, PLAIN, QPoint(50, 4))
    assert state.selection == of_label(state, "Pt19")


@pytest.mark.parametrize("below", [3, 10, 18])
def test_a_header_selects_its_group_where_it_pushes_another_away(dock, state, below):
    """`below` is the distance of the header of Pt30 from the top, in pixels."""
    view = dock.view
    bar, port = view.verticalScrollBar(), view.viewport()
    bar.setValue(int(view._grid.tops[1]) - below)
    assert bar.value() == view._grid.tops[1] - below
    assert below < view._grid.header
    asked = []
    state.focus_requested.connect(asked.append)
    for y, label in ((below + 1, "Pt30"), (below - 1, "Pt19")):
        QTest.mouseClick(port, LEFT, PLAIN, QPoint(50, y))
        assert state.selection == of_label(state, label)
        QTest.mouseDClick(port, LEFT, PLAIN, QPoint(50, y))
        assert state.selection == of_label(state, label) and not asked


def test_arrows_move_and_enter_goes_to_the_image(dock, state, qtbot):
    keys = keys_shown(dock)
    click(dock, keys[0])
    press(dock, Qt.Key.Key_Right)
    assert state.selection == {keys[1]}
    press(dock, Qt.Key.Key_Down)
    assert state.selection == {keys[1 + dock.view._grid.columns]}
    press(dock, Qt.Key.Key_Home)
    press(dock, Qt.Key.Key_Right, SHIFT)
    assert state.selection == {keys[0], keys[1]}
    press(dock, Qt.Key.Key_End)
    seen = dock.view.visualRect(dock.model.index(len(keys) - 1))
    assert dock.view.viewport().rect().contains(seen)
    asked = []
    state.focus_requested.connect(asked.append)
    press(dock, Qt.Key.Key_Return)
    press(dock, Qt.Key.Key_Enter, Qt.KeyboardModifier.KeypadModifier)
    assert asked == [keys[-1], keys[-1]]


def test_a_double_click_goes_to_the_image(dock, state):
    asked, keys = [], keys_shown(dock)
    state.focus_requested.connect(asked.append)
    QTest.mouseDClick(dock.view.viewport(), LEFT, PLAIN, centre(dock, keys[20]))
    assert asked == [keys[20]] and state.selection == {keys[20]}


@pytest.mark.parametrize(
    ("key", "label"),
    [
        (Qt.Key.Key_1, "Pt19"),
        (Qt.Key.Key_5, "Pt70"),
        (Qt.Key.Key_0, UNKNOWN),
        (Qt.Key.Key_A, AGGREGATE),
    ],
)
def test_a_key_labels_the_selected_tiles(dock, state, key, label):
    keys = keys_shown(dock)
    n_steps = len(state.history)
    click(dock, keys[12])
    click(dock, keys[30], CTRL)
    press(dock, key)
    assert {label_of(state, k) for k in (keys[12], keys[30])} == {label}
    assert len(state.history) == n_steps + 1
    press(dock, Qt.Key.Key_U)
    table = state.table()
    assert (table["label"] == table["label_predicted"]).all()
    press(dock, Qt.Key.Key_Z, CTRL)
    assert label_of(state, keys[12]) == label
    press(dock, Qt.Key.Key_Z, CTRL | SHIFT)
    assert label_of(state, keys[12]) == "Pt30"


def test_a_relabelled_tile_stays_until_it_is_sorted_again(dock, state):
    dock.resize(460, 300)
    keys = keys_shown(dock)
    click(dock, keys[15])
    bar = dock.view.verticalScrollBar()
    assert bar.value() > 0
    at = bar.value()
    press(dock, Qt.Key.Key_5)
    assert keys_shown(dock) == keys and bar.value() == at
    assert state.selection == {keys[15]}
    assert dock.sort_again_button.isVisible()
    assert dock.view.strays[dock.model.arrangement.names.index("Pt30")] == 1
    assert dock.model.texts(np.array([15])) == ["Pt70*"]
    dock.sort_again_button.click()
    assert keys_shown(dock) != keys and set(keys_shown(dock)) == set(keys)
    assert keys_shown(dock).index(keys[15]) > 43 - 1
    assert not dock.sort_again_button.isVisible()


def test_the_count_in_the_header_is_painted_again_after_a_label(dock, state, monkeypatch):
    keys = keys_shown(dock)
    click(dock, keys[1])
    QApplication.processEvents()
    assert dock.view.verticalScrollBar().value() == 0
    painted = QRegion()
    paint = GalleryView.paintEvent

    def note(view, event):
        nonlocal painted
        painted = painted.united(event.region())
        paint(view, event)

    monkeypatch.setattr(GalleryView, "paintEvent", note)
    state.clusters.relabel([keys[2]], "Pt70")
    dock.update_now()
    QApplication.processEvents()
    assert dock.view.strays.sum() == 1
    assert painted.contains(QPoint(5, 5))


def test_x_deletes_and_undo_brings_back_to_the_same_place(dock, state):
    keys = keys_shown(dock)
    click(dock, keys[7])
    click(dock, keys[40], CTRL)
    press(dock, Qt.Key.Key_X)
    assert keys_shown(dock) == [k for k in keys if k not in (keys[7], keys[40])]
    press(dock, Qt.Key.Key_Z, CTRL)
    assert keys_shown(dock) == keys
    click(dock, keys[7])
    press(dock, Qt.Key.Key_Delete)
    assert keys[7] not in keys_shown(dock)
    # Arrows go on from there, and not from the beginning.
    press(dock, Qt.Key.Key_Right)
    assert state.selection == {keys[9]}
    dock.sort_combo.setCurrentIndex(dock.sort_combo.findData("diameter"))
    press(dock, Qt.Key.Key_Right)
    press(dock, Qt.Key.Key_Left)
    assert state.selection == {keys[9]}


def test_a_band_drawn_out_of_the_view_scrolls_it(dock, state, qtbot):
    dock.resize(460, 300)
    port, keys = dock.view.viewport(), keys_shown(dock)
    start = centre(dock, keys[0])
    QTest.mousePress(port, LEFT, PLAIN, start)
    outside = QPoint(port.width() - 5, port.height() + 30)
    QCursor.setPos(port.mapToGlobal(outside))
    move(port, start + QPoint(30, 30))
    move(port, outside)
    bar = dock.view.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.value() == bar.maximum())
    QTest.mouseRelease(port, LEFT, PLAIN, outside)
    assert state.selection == set(keys)


def test_a_key_without_a_class_or_without_a_selection_changes_nothing(viewer, dock, state):
    n = len(state.history)
    press(dock, Qt.Key.Key_3)
    assert "Select" in viewer.status
    click(dock, keys_shown(dock)[0])
    press(dock, Qt.Key.Key_9)
    assert "no class 9" in viewer.status
    assert len(state.history) == n


def test_what_may_not_be_edited_is_said(dock, state, monkeypatch, errors):
    def refuse(*_):
        raise AtomicityError("the project is open in another window")

    monkeypatch.setattr(state.clusters, "relabel", refuse)
    click(dock, keys_shown(dock)[0])
    press(dock, Qt.Key.Key_3)
    assert errors == ["the project is open in another window."]


def test_keys_of_the_gallery_are_no_shortcuts_of_the_window(dock, state, qtbot):
    taken = []
    for keys in ("Ctrl+Z", "Ctrl+K"):
        action = QAction(keys, dock)
        action.setShortcut(QKeySequence(keys))
        action.triggered.connect(lambda _, keys=keys: taken.append(keys))
        dock.addAction(action)
    dock.activateWindow()
    dock.view.setFocus()
    qtbot.waitUntil(dock.view.hasFocus)
    n = len(state.history)
    press(dock, Qt.Key.Key_K, CTRL)
    press(dock, Qt.Key.Key_Z, CTRL)
    assert taken == ["Ctrl+K"] and len(state.history) == n - 1


def test_a_selection_from_elsewhere_is_marked_and_brought_into_sight(dock, state):
    dock.resize(460, 300)
    keys = keys_shown(dock)
    state.select([keys[50], keys[51]])
    selected = dock.model.rows.selected[dock.model.arrangement.order]
    assert np.flatnonzero(selected).tolist() == [50, 51]
    box = dock.view.visualRect(dock.model.index(50))
    assert dock.view.viewport().rect().contains(box)
    at = dock.view.verticalScrollBar().value()
    state.select([keys[51]])  # in sight already
    assert dock.view.verticalScrollBar().value() == at
    assert "1 selected" in dock.note.text()


def test_a_filter_shows_some_and_keys_reach_only_these(dock, state):
    keys = keys_shown(dock)
    state.select(keys[:20])
    dock.label_combo.setCurrentIndex(dock.label_combo.findData("Pt30"))
    assert set(keys_shown(dock)) == of_label(state, "Pt30")
    assert dock.note.text() == ("11 of 55 clusters, 9 selected, 11 selected not shown here")
    press(dock, Qt.Key.Key_4)
    corrected = state.table()
    corrected = corrected[corrected["label_corrected"] != ""]
    changed = set(zip(corrected["image"], corrected["cluster_id"].tolist(), strict=True))
    assert changed == set(keys[11:20])
    # They stay in sight, though the filter would hide them now.
    assert len(keys_shown(dock)) == 11 and dock.sort_again_button.isVisible()
    dock.sort_again_button.click()
    assert len(keys_shown(dock)) == 2
    # What is hidden stays selected when one more is added here.
    shown = keys_shown(dock)[0]
    click(dock, shown, CTRL)
    assert state.selection == {*keys[:20], shown}
    dock.state_combo.setCurrentIndex(dock.state_combo.findData("corrected"))
    assert not keys_shown(dock) and dock.message.text() == NOTHING_FITS
    assert dock.message.isVisible() and not dock.view.isVisible()
    dock.label_combo.setCurrentIndex(0)
    assert set(keys_shown(dock)) == changed


def test_sorting_by_similarity_offers_itself_again_for_another_selection(dock, state):
    dock.group_combo.setCurrentIndex(dock.group_combo.findData("nothing"))
    state.select([("one", 3)])
    dock.sort_combo.setCurrentIndex(dock.sort_combo.findData("similarity"))
    assert keys_shown(dock)[0] == ("one", 3)
    assert {label_of(state, key) for key in keys_shown(dock)[:9]} == {"Pt41"}
    assert not dock.sort_again_button.isVisible()
    before = keys_shown(dock)
    click(dock, before[40])
    assert keys_shown(dock) == before and dock.sort_again_button.isVisible()
    dock.sort_again_button.click()
    assert keys_shown(dock)[0] == before[40]
    dock.descending_button.click()
    assert keys_shown(dock)[-1] == before[40]


def test_a_new_image_comes_in_without_moving_what_is_looked_at(dock, state, qtbot):
    dock.resize(460, 300)
    keys = keys_shown(dock)
    click(dock, keys[30])
    y = dock.view.visualRect(dock.model.index(30)).top()
    state.clusters.set_analysis(with_class_maps(20, "three", seed=2))
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 75)
    now = keys_shown(dock)
    assert [k for k in now if k[0] != "three"] == keys
    assert abs(dock.view.visualRect(dock.model.index(now.index(keys[30]))).top() - y) <= 1
    assert not dock.sort_again_button.isVisible()  # each is where it belongs


def test_what_the_model_says_anew_is_put_where_it_belongs(dock, state, qtbot):
    analysis = state.analysis("one")
    table = analysis.table.assign(
        label_predicted="Pt70", label="Pt70", confidence=0.5, model_id="other"
    )
    state.clusters.set_analysis(replace(analysis, table=table))
    qtbot.waitUntil(lambda: not dock.outdated())
    names = dock.model.arrangement.names
    assert dock.model.arrangement.counts()[names.index("Pt70")] == 30 + 5
    assert not dock.sort_again_button.isVisible()


# ---- looks
def shot(dock):
    """The viewport once all its pictures are there."""
    dock.view.viewport().repaint()
    while dock.view.waiting():
        dock.view.viewport().repaint()
    return dock.view.viewport().grab().toImage()


def test_a_tile_shows_its_patch_in_a_frame_of_the_colour_of_its_class(dock, state):
    key = keys_shown(dock)[0]
    image, palette = shot(dock), colours(CLASSES)
    box = dock.view.visualRect(dock.model.index(0))
    ratio = image.devicePixelRatio()

    def frame(image):
        row = round((box.top() + 30) * ratio)
        columns = range(box.left(), box.left() + 12)
        pixels = [image.pixelColor(round(x * ratio), row).name() for x in columns]
        return next((p for p in pixels if p in palette.values()), None)

    assert frame(image) == palette["Pt19"]
    # brighter in the middle than at the rim of the patch
    middle = dock.view.visualRect(dock.model.index(0)).center() - QPoint(0, 8)
    assert image.pixelColor(middle * ratio).lightness() > 120
    state.clusters.relabel([key], "Pt41")
    dock.update_now()
    assert frame(shot(dock)) == palette["Pt41"]


@pytest.mark.parametrize("overlay", list(OVERLAYS))
def test_each_overlay_looks_otherwise(dock, overlay):
    plain = shot(dock)
    dock.overlay_combo.setCurrentIndex(dock.overlay_combo.findData(overlay))
    image = shot(dock)
    assert (image == plain) == (overlay == "raw")
    if overlay == "raw, same scale":
        return
    middle = dock.view.visualRect(dock.model.index(0)).center()
    around = [QPoint(dx, dy) for dx in range(-20, 21, 4) for dy in range(-20, 11, 4)]
    area = [image.pixelColor(middle + step) for step in around]
    colourful = max(c.saturation() for c in area)
    assert colourful > 100 if "map" in overlay else colourful < 40


def test_a_relabel_makes_no_picture_again(dock, state, monkeypatch):
    shot(dock)
    made = []
    monkeypatch.setattr(gallery_model, "compose", lambda *a: made.append(a[:2]) or compose(*a))
    state.clusters.relabel(keys_shown(dock)[:5], "Pt70")
    dock.update_now()
    shot(dock)
    assert not made
    # Another result of one image does so for that image alone.
    analysis = state.analysis("two")
    patches = {k: v[:, ::-1].copy() for k, v in analysis.patches.items()}
    state.clusters.set_analysis(replace(analysis, patches=patches))
    dock.update_now()
    shot(dock)
    seen = range(*dock.view._grid.visible(0, dock.view.viewport().height()))
    of_two = sum(keys_shown(dock)[i][0] == "two" for i in seen)
    assert sum(len(patches) for patches, _ in made) == of_two > 0


def test_tiles_come_bit_by_bit_when_time_is_short(dock, monkeypatch):
    positions = np.arange(55)
    monkeypatch.setattr(gallery_model, "_AT_ONCE", 10)
    dock.model._store.clear()
    some, done = dock.model.pixmaps(positions, 40, 1.0, lambda: True)
    assert len(some) == 10 and not done
    for _ in range(5):
        some, done = dock.model.pixmaps(positions, 40, 1.0, lambda: True)
    assert len(some) == 55 and done


def test_clusters_without_patch_have_a_tile_too(dock, state, qtbot):
    analysis = with_class_maps(8, "holes", seed=3)
    raw = analysis.patches["raw"]
    raw[2] = np.nan
    state.clusters.set_analysis(replace(analysis, patches={"raw": raw}, class_maps={}))
    bare = with_class_maps(4, "bare", seed=4)
    state.clusters.set_analysis(
        replace(bare, patches={}, class_maps={}, embedding=np.empty((0, 0)))
    )
    dock.update_now()
    positions = np.arange(len(keys_shown(dock)))
    pixmaps, _ = dock.model.pixmaps(positions, 40, 1.0, lambda: False)
    without = {keys_shown(dock)[p] for p, pixmap in pixmaps.items() if pixmap is None}
    assert without == {("holes", 3)} | {("bare", i) for i in range(1, 5)}
    dock.overlay_combo.setCurrentIndex(dock.overlay_combo.findData("class map LCN"))
    shot(dock)  # a channel that an image lacks


def test_excluded_ones_are_dimmed(dock, state):
    bright = shot(dock)
    size = state.micrograph("one").shape_px
    state.clusters.set_regions(
        "one", [np.array([[-1, -1], [-1, size[1]], size, [size[0], -1]], float)]
    )
    dock.update_now()
    dark = shot(dock)
    dimmed = [i for i, key in enumerate(keys_shown(dock)[:10]) if key[0] == "one"]
    clear = [i for i, key in enumerate(keys_shown(dock)[:10]) if key[0] == "two"]
    assert len(dimmed) > 2 and len(clear) > 2
    assert (
        dock.model.dimmed(np.array(dimmed)).all() and not dock.model.dimmed(np.array(clear)).any()
    )

    def contrast(image, i: int) -> int:
        box = dock.view.visualRect(dock.model.index(i))
        row = [box.center() + QPoint(dx, -8) for dx in range(-25, 26)]
        light = [image.pixelColor(place).lightness() for place in row]
        return max(light) - min(light)

    assert all(contrast(dark, i) < 0.5 * contrast(bright, i) for i in dimmed)
    assert all(contrast(dark, i) == contrast(bright, i) > 100 for i in clear)
    assert "excluded" in dock.model.data(dock.model.index(dimmed[0]), Qt.ItemDataRole.ToolTipRole)


def test_the_size_of_tiles_keeps_what_is_in_sight(dock):
    dock.resize(460, 300)
    dock.view.verticalScrollBar().setValue(400)
    row, y = dock.view.anchor()
    wide = dock.view._grid.columns
    dock.size_slider.setValue(120)
    box = dock.view.visualRect(dock.model.index(dock.view.position_of(row)))
    assert dock.view._grid.columns < wide
    assert box.top() == y and box.width() >= 120


def test_a_tooltip_says_more(dock, state):
    key = keys_shown(dock)[0]
    state.clusters.relabel([key], "Pt41")
    dock.update_now()
    words = dock.model.data(dock.model.index(0), Qt.ItemDataRole.ToolTipRole)
    assert "Pt41" in words and "predicted: Pt19" in words and key[0] in words


# ---- the life of a dock
def test_without_clusters_it_says_what_to_do(viewer, qtbot):
    dock = Gallery(viewer)
    qtbot.addWidget(dock)
    dock.show()
    assert dock.message.isVisible() and dock.message.text() == EMPTY
    state = state_of(viewer)
    state.clusters.set_analysis(with_class_maps(12))
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 12)
    assert dock.view.isVisible() and not dock.message.isVisible()
    state.remove_image("field")
    qtbot.waitUntil(lambda: not keys_shown(dock))
    assert dock.message.text() == EMPTY and dock.message.isVisible()


def test_a_hidden_dock_does_nothing_until_it_is_shown(dock, state, monkeypatch, qtbot):
    done = []
    refresh = dock.model.refresh
    monkeypatch.setattr(dock.model, "refresh", lambda: done.append(1) or refresh())
    dock.hide()
    key = keys_shown(dock)[0]
    state.clusters.relabel([key], "Pt70")
    state.select([key])
    qtbot.wait(60)
    assert not done
    dock.show()
    assert done and dock.model.texts(np.array([0])) == ["Pt70*"]
    assert dock.model.rows.selected.sum() == 1


def test_many_changes_in_a_row_are_one_look(dock, state, monkeypatch, qtbot):
    done = []
    refresh = dock.model.refresh
    monkeypatch.setattr(dock.model, "refresh", lambda: done.append(1) or refresh())
    for i in range(10):
        state.clusters.set_analysis(with_class_maps(5, f"more {i}", seed=i))
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 105)
    assert len(done) == 1


def test_another_project_starts_afresh(dock, state, qtbot):
    key = keys_shown(dock)[0]
    state.clusters.relabel([key], "Pt70")
    dock.update_now()
    assert dock.sort_again_button.isVisible()
    state.project_changed.emit()
    qtbot.waitUntil(lambda: len(keys_shown(dock)) == 55)
    assert not dock.sort_again_button.isVisible()


def test_the_choice_of_looks_is_remembered(dock, viewer, qtbot):
    dock.size_slider.setValue(100)
    dock.group_combo.setCurrentIndex(dock.group_combo.findData("image"))
    again = Gallery(viewer)
    qtbot.addWidget(again)
    again.show()
    assert again.size_slider.value() == 100 == again.view.side
    assert again.group_combo.currentData() == "image"
    assert again.model.arrangement.names == ("one", "two")


def test_it_fits_a_narrow_dock(dock):
    assert dock.minimumSizeHint().width() <= 400 and dock.minimumSizeHint().height() <= 300


def test_no_key_means_two_things():
    keys = [key for shortcut in GALLERY for key in shortcut.keys]
    assert len(keys) == len(set(keys))


def test_a_closed_dock_is_let_go(viewer, state, qtbot):
    dock = Gallery(viewer)
    dock.show()
    reference = weakref.ref(dock)
    dock.close()
    dock.deleteLater()
    del dock
    qtbot.waitUntil(lambda: gc.collect() >= 0 and reference() is None)
    state.select([("one", 1)])
    state.clusters.relabel([("one", 1)], "Pt70")


# ---- blind mode
def test_blind_nobody_sees_what_the_model_says(dock, state, viewer, settle, tmp_path):
    combos = (dock.overlay_combo, dock.group_combo, dock.sort_combo, dock.state_combo)

    def offered() -> set[str]:
        return {combo.itemText(i) for combo in combos for i in range(combo.count())}

    dock.sort_combo.setCurrentText("confidence")
    dock.overlay_combo.setCurrentText("class map raw")
    before, all_offered, chosen = keys_shown(dock), offered(), [c.currentText() for c in combos]
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.set_blind(True)
    settle(viewer)
    said_by_model = {"confidence", "atoms", "similarity", "doubtful"}
    assert all_offered - offered() == said_by_model | {"class map raw", "class map LCN"}
    groups = dock.model.arrangement
    assert {groups.names[code] for code in groups.group} == {NO_LABEL}
    assert keys_shown(dock) == sorted(before) and dock.model.overlay == "raw"
    assert "confidence" not in dock.sort_combo.toolTip()
    state.set_blind(False)
    settle(viewer)
    assert offered() == all_offered and keys_shown(dock) == before
    assert [combo.currentText() for combo in combos] == chosen
    state.close_project()
