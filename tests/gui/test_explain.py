"""The Explain dock: the right pictures of the right cluster, in register; class averages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QLabel
from synthetic import CLASSES, with_class_maps
from waiting import draw_now

from napari_atomicity.core.errors import ModelError
from napari_atomicity.core.palette import colour_of
from napari_atomicity.core.tables.cluster_table import conform
from napari_atomicity.gui.controls.bars import ALL_IMAGES
from napari_atomicity.gui.controls.patch_view import (
    PatchTile,
    PatchView,
    scale_bar_nm,
)
from napari_atomicity.gui.docks.explain import averages as averages_page, dock as docks
from napari_atomicity.gui.docks.explain.averages import IN_NM, format_profile as format_tile
from napari_atomicity.gui.docks.explain.dock import (
    NOT_CLASSIFIED,
    NOTHING_SELECTED,
    Explain,
    ordered,
)
from napari_atomicity.gui.docks.explain.facts import (
    facts,
    format_ood_score,
    format_reason,
    probability_bars,
)
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.project import Project
from napari_atomicity.reporting.patch_pictures import compose, enlarge


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    state.clusters.set_analysis(with_class_maps(40))
    return state


@pytest.fixture
def dock(viewer, state, qtbot):
    dock = Explain(viewer)
    qtbot.addWidget(dock)
    dock.resize(300, 640)
    with qtbot.waitExposed(dock):
        dock.show()
    return dock


class Model:
    """Class maps that tell their class, and by their sign whether they are averaged."""

    def class_maps(self, patches, label, *, symmetries=False):
        n = len(patches["raw"])
        value = (-1.0 if symmetries else 1.0) * (1 + CLASSES.index(label))
        return {c: np.full((n, 14, 14), value, np.float32) for c in patches}


def said(dock) -> str:
    """Every word that a person reads in the dock."""
    return "\n".join(w.text() for w in dock.findChildren(QLabel) if w.isVisible())


# ---- pictures
@pytest.mark.parametrize("cell", [(0, 0), (3, 7), (13, 13), (13, 0)])
def test_a_class_map_lies_where_it_belongs_to_half_a_pixel(cell):
    coarse = np.zeros((14, 14))
    coarse[cell] = 1
    fine = enlarge(coarse[None], 56)[0]
    where = np.array(np.nonzero(fine == fine.max())).mean(axis=1)
    inside = [0 < c < 13 for c in cell]
    # The middle of a cell of 4 pixels lies between its 2nd and 3rd. At the edge the brightest
    # part goes on to the edge, so there only the inner axes can be compared.
    expected = 4 * np.array(cell) + 1.5
    assert where[inside] == pytest.approx(expected[inside], abs=1e-6)
    weights = fine / fine.sum()
    mean = np.array([(weights * g).sum() for g in np.mgrid[:56, :56]])
    assert mean == pytest.approx(expected, abs=1.0)


def test_patch_and_map_are_painted_in_register():
    patch = np.zeros((56, 56))
    patch[20:24, 40:44] = 1  # one cell of the map
    coarse = np.zeros((14, 14))
    coarse[5, 10] = 1

    def centre(weights):
        return np.array([(weights * g).sum() / weights.sum() for g in np.indices(weights.shape)])

    plain = PatchTile("raw", patch).pixels()[..., 0].astype(float)
    explained = PatchTile("raw", np.zeros((56, 56)), coarse).pixels()[..., 0].astype(float)
    assert plain.shape == explained.shape == (280, 280)
    assert centre(explained) == pytest.approx(centre(plain), abs=0.5)


def test_a_map_speaks_against_nothing_and_may_be_missing():
    patch = np.random.default_rng(0).normal(size=(1, 56, 56))
    dark = compose(patch, np.full((1, 14, 14), np.nan))
    assert (dark == compose(patch, np.full((1, 14, 14), -1.0))).all()
    bright = compose(patch, np.ones((1, 14, 14)))
    assert bright.mean() > dark.mean() + 50
    half = compose(patch, np.ones((1, 14, 14)), top=2.0)
    assert dark.mean() < half.mean() < bright.mean()


def test_a_weak_class_map_is_as_visible_as_a_strong_one():
    patch, shape = np.zeros((1, 56, 56)), np.hypot(*np.mgrid[-7:7, -7:7] + 0.5)
    strong = np.exp(-((shape[None] / 3) ** 2))
    own, weak = compose(patch, strong), compose(patch, 0.05 * strong)
    np.testing.assert_array_equal(own, weak)
    assert compose(patch, 0.05 * strong, top=1.0).max() < 0.5 * own.max()


def test_flat_and_broken_patches_have_pictures():
    assert not compose(np.full((1, 4, 4), np.nan)).any()
    assert not compose(np.full((1, 4, 4), 7.0)).any()
    patch = np.arange(16.0).reshape(1, 4, 4)
    patch[0, 0, 0] = np.inf
    assert compose(patch).max() == 255


@pytest.mark.parametrize(
    ("field_of_view_nm", "length_nm"), [(2.8, 1.0), (4.5, 2.0), (0.5, 0.2), (0.0, 0.0)]
)
def test_scale_bars_are_round_and_fit(field_of_view_nm, length_nm):
    assert scale_bar_nm(field_of_view_nm) == length_nm


def test_the_scale_bar_is_as_long_as_it_says(qtbot):
    view = PatchView()
    qtbot.addWidget(view)
    view.show_tiles([PatchTile("raw", np.zeros((56, 56)))], 2.8)
    view.resize(280, view.heightForWidth(280))
    picture = view.grab().toImage()
    box = view._boxes()[0]
    y = round(box.bottom() - 0.05 * box.width())
    white = [x for x in range(picture.width()) if picture.pixelColor(x, y).lightness() > 200]
    assert len(white) == pytest.approx(box.width() / 2.8, abs=2)


def test_tiles_stand_in_a_row_where_there_is_room(qtbot):
    view = PatchView()
    qtbot.addWidget(view)
    view.show_tiles([PatchTile(str(i), np.zeros((8, 8))) for i in range(4)], 2.8)
    view.resize(280, view.heightForWidth(280))
    assert len({box.top() for box in view._boxes()}) == 2
    wide = 1200
    view.resize(wide, view.heightForWidth(wide))
    assert len({box.top() for box in view._boxes()}) == 1
    # In a low dock also where they get smaller, but not where they would be illegible.
    view.height_limit = 150
    for width, rows in ((420, 1), (200, 2)):
        view.resize(width, view.heightForWidth(width))
        assert len({box.top() for box in view._boxes()}) == rows
    for box in view._boxes():
        assert view.rect().toRectF().contains(box)


# ---- words
def test_novelty_is_said():
    assert format_ood_score(1.01) == "unlike the training data"
    assert format_ood_score(0.3) == "like the training data"
    assert format_ood_score(np.nan) == ""


def test_facts_of_a_cluster_that_was_only_detected():
    table = with_class_maps(5).table.assign(
        confidence=np.nan, prediction_set="", ood_score=np.nan, touches_border=True
    )
    assert [name for name, *_ in facts(table.iloc[0])] == ["Diameter", "Note"]


def test_facts_give_the_reason_of_each_label():
    table = with_class_maps(5).table.assign(prediction_set="Pt19", ood_score=0.3)
    classified = table.iloc[0]
    unlike = classified.copy()
    unlike["label_predicted"], unlike["ood_score"] = "unknown", 1.4
    bare = unlike.copy()  # on bare support
    bare["diameter_nm"], bare["ood_score"] = np.nan, 0.3
    withheld, aggregate = classified.copy(), unlike.copy()
    withheld["label_predicted"], aggregate["label_predicted"] = "", "aggregate"
    half = unlike.copy()  # of a cluster that was split by mistake
    half["touches_neighbour"], half["n_atoms"], half["label_network"] = True, 35.0, "Pt70"
    told = [{name: value for name, value, _ in facts(row)} for row in
            (classified, unlike, bare, withheld, aggregate, half)]  # fmt: skip
    assert len({names["Reason"] for names in told}) == 6
    assert "35 atoms" in told[5]["Reason"] and "Pt70" in told[5]["Reason"]
    assert "outline" in told[2]["Reason"] and "scale" in told[3]["Reason"]
    assert "OOD score" not in told[2] and told[1]["OOD score"].endswith("unlike the training data")
    assert ["Prediction set" in names for names in told] == [True, False, False, True, False, False]
    assert not any(bar.marked for bar in probability_bars(bare, CLASSES))
    # Under a person's label it is said of which label this is.
    predicted, corrected = classified["label_predicted"], classified.copy()
    corrected["label_corrected"] = "Pt55" if predicted != "Pt55" else "Pt70"
    shown = {name: value for name, value, _ in facts(corrected)}
    assert shown["Reason"].startswith(f"{predicted}: ")
    assert shown["Confidence"].startswith(f"{predicted}: ")
    assert predicted not in told[0]["Confidence"]


def test_what_is_just_beyond_the_limit_may_be_of_a_class():
    row = with_class_maps(5).table.iloc[0].copy()
    row["label_predicted"], row["ood_score"] = "unknown", 1.005
    assert "perhaps one of the classes" in format_reason(row)


def test_facts_tell_the_count_and_who_says_otherwise():
    told = with_class_maps(5).table.assign(
        n_atoms=44.1, n_atoms_low=38.7, n_atoms_high=50.2,
        label_diameter="Pt30", label_mixture="", label_network="Pt41",
    )  # fmt: skip
    found = {name: words for name, words, _ in facts(told.iloc[2])}
    assert found["Count"] == "44 atoms (39–50)"
    assert found["Conflict"] == "the diameter says Pt30"
    assert "Conflict" not in {
        name for name, *_ in facts(told.assign(label_diameter="Pt41").iloc[2])
    }


def test_class_maps_carry_the_name_of_the_predicted_class(dock, state):
    analysis = state.analysis("field")
    most_probable = analysis.table["label_predicted"].tolist()
    table = analysis.table.assign(label_network="another")
    table.loc[1, ["label_predicted", "label"]] = "aggregate"
    state.clusters.set_analysis(replace(analysis, table=table))
    for cluster_id in (1, 2):
        state.select([("field", cluster_id)])
        assert dock.patches.tiles[1].title == f"raw · {most_probable[cluster_id - 1]}"


def test_selected_clusters_come_in_a_stable_order():
    keys = frozenset({("b", 2), ("a", 9), ("b", 1), ("a", 1)})
    assert ordered(keys, ["a", "b"], "b") == [("b", 1), ("b", 2), ("a", 1), ("a", 9)]


# ---- the dock
def test_a_selected_cluster_is_explained(dock, state):
    assert NOTHING_SELECTED in said(dock)
    state.select([("field", 13)])
    words, row = said(dock), state.table("field").iloc[12]
    assert "Pt41" in words and "predicted" in words and "cluster 13, field" in words
    assert f"{row['diameter_nm']:.2f} nm" in words
    assert f"{100 * row['confidence']:.0f} %" in words
    assert format_ood_score(row["ood_score"]) in words
    assert [bar.label for bar in dock.bars.bars] == CLASSES
    assert [bar.value for bar in dock.bars.bars] == pytest.approx(
        row[[f"p_{c}" for c in CLASSES]].tolist()
    )
    strong = [bar.label for bar in dock.bars.bars if bar.strong]
    assert strong == ["Pt41"]
    assert {b.label for b in dock.bars.bars if b.marked} == set(row["prediction_set"].split("|"))

    analysis = state.analysis("field")
    titles = [tile.title for tile in dock.patches.tiles]
    assert titles == ["raw", "raw · Pt41", "LCN", "LCN · Pt41"]
    for tile, channel in zip(dock.patches.tiles, ["raw", "raw", "LCN", "LCN"], strict=True):
        assert tile.patch is not None and (tile.patch == analysis.patches[channel][12]).all()
        if tile.class_map is not None:
            assert (tile.class_map == analysis.class_maps[channel][12]).all()
    assert len({t.top for t in dock.patches.tiles if t.class_map is not None}) == 1

    state.select([])
    words = said(dock)
    assert NOTHING_SELECTED in words and "Pt41" not in words and "cluster 13" not in words


def test_everything_fits_a_narrow_dock(dock, state):
    state.select([("field", 13)])
    dock.resize(300, 600)
    dock.grab()
    for widget in (dock.patches, dock.bars, dock.class_combo, dock.focus_button):
        assert widget.isVisible()
        right = widget.mapTo(dock, widget.rect().topRight()).x()
        assert right <= 300, widget


def test_the_pictures_are_painted(dock, state, qtbot):
    state.select([("field", 5)])
    qtbot.waitUntil(lambda: dock.patches.height() > 200)
    picture = dock.patches.grab().toImage()
    raw, explained = dock.patches._boxes()[:2]
    middle = [picture.pixelColor(b.center().toPoint()) for b in (raw, explained)]
    assert middle[0].lightness() > 180 and middle[0].hsvSaturation() < 10
    assert middle[1].hsvSaturation() > 40


def test_the_arrows_walk_through_the_image_and_round(dock, state):
    QTest.mouseClick(dock.next_button, Qt.MouseButton.LeftButton)
    assert state.selection == {("field", 1)}
    assert "1 of 40" in said(dock)
    QTest.mouseClick(dock.previous_button, Qt.MouseButton.LeftButton)
    assert state.selection == {("field", 40)}
    QTest.mouseClick(dock.next_button, Qt.MouseButton.LeftButton)
    assert state.selection == {("field", 1)}


def test_the_arrows_walk_through_several_selected_ones_and_keep_them(dock, state):
    chosen = {("field", i) for i in (7, 3, 30)}
    state.select(chosen)
    assert "1 of 3 selected" in said(dock)
    seen = []
    for _ in range(3):
        seen.append(dock._shown)
        assert f"cluster {dock._shown[1]}, field" in said(dock)
        QTest.mouseClick(dock.next_button, Qt.MouseButton.LeftButton)
    assert seen == [("field", 3), ("field", 7), ("field", 30)]
    assert state.selection == chosen


def test_a_correction_is_said_and_undone(dock, state, viewer, settle):
    state.select([("field", 1)])
    state.clusters.relabel([("field", 1)], "Pt70")
    settle(viewer)
    assert "Pt70" in dock.title.text() and "predicted Pt19" in dock.title.text()
    assert [bar.label for bar in dock.bars.bars if bar.strong] == ["Pt70"]
    assert dock.patches.tiles[1].title.endswith("Pt19"), "the maps are still of the prediction"
    state.clusters.relabel([("field", 1)], "Pt19")
    settle(viewer)
    assert "confirmed; predicted Pt19" in dock.title.text()
    state.history.undo()
    state.history.undo()
    settle(viewer)
    assert "Pt19" in dock.title.text() and "Pt70" not in dock.title.text()


def test_blind_no_prediction_is_named(dock, state, viewer, settle, tmp_path):
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.set_blind(True)
    state.select([("field", 1)])
    settle(viewer)
    assert dock.title.text().endswith(">prediction hidden</span>")
    state.clusters.relabel([("field", 1)], "Pt70")
    settle(viewer)
    assert "Pt70" in dock.title.text()
    assert dock.title.text().endswith(">your label; prediction hidden</span>")
    state.close_project()


def test_a_cluster_that_goes_away_is_no_longer_shown(dock, state, viewer, settle):
    state.select([("field", 1)])
    state.clusters.remove_ids("field", [1])
    settle(viewer)
    assert NOTHING_SELECTED in said(dock)


def test_a_cluster_that_is_not_classified_says_so(dock, state):
    analysis = state.analysis("field")
    state.clusters.set_analysis(
        replace(analysis, patches={}, class_maps={}, embedding=np.empty((0, 0), np.float32))
    )
    state.select([("field", 2)])
    assert NOT_CLASSIFIED in said(dock)
    assert not dock.class_combo.isVisible()


def test_show_in_image_asks_for_it(dock, state):
    asked = []
    state.focus_requested.connect(asked.append)
    state.select([("field", 4)])
    QTest.mouseClick(dock.focus_button, Qt.MouseButton.LeftButton)
    assert asked == [("field", 4)]


# ---- maps of another class
def test_the_maps_of_a_chosen_class(dock, state, viewer, settle, monkeypatch):
    monkeypatch.setattr(docks, "classifier_of", lambda analysis: Model())
    state.select([("field", 1)])
    dock.class_combo.setCurrentText("Pt55")
    dock.class_combo.activated.emit(dock.class_combo.currentIndex())
    assert state.explained_class == "Pt55"
    dock.update_now()
    assert [t.title for t in dock.patches.tiles] == ["raw", "LCN"], "not the maps of another class"
    settle(viewer)
    titles = [t.title for t in dock.patches.tiles]
    assert titles == ["raw", "raw · Pt55", "LCN", "LCN · Pt55"]
    assert (dock.patches.tiles[1].class_map == 4).all()

    state.select([("field", 2)])
    state.select([("field", 3)])  # before the maps of the other have come
    settle(viewer)
    assert dock._chosen_for[0] == ("field", 3)
    assert len(dock.patches.tiles) == 4

    state.explained_class = None  # by another dock
    dock.update_now()
    assert dock.class_combo.currentText() == docks.PREDICTED
    assert dock.patches.tiles[1].title == "raw · Pt41"


def test_the_maps_of_a_chosen_class_are_averaged_as_the_others_are(monkeypatch):
    monkeypatch.setattr(docks, "classifier_of", lambda analysis: Model())
    for averaged, value in ((False, 4), (True, -4)):
        analysis = replace(with_class_maps(5), parameters={"symmetries": averaged})
        assert (docks.class_maps_of(analysis, 1, "Pt55")["raw"] == value).all()


def test_a_model_that_is_gone_is_reported_once(dock, state, viewer, settle, monkeypatch):
    def gone(analysis):
        raise ModelError("the model is not at hand", advice="Classify again")

    monkeypatch.setattr(docks, "classifier_of", gone)
    state.select([("field", 1)])
    before = len(notification_manager.records)
    state.explained_class = "Pt55"
    settle(viewer)
    state.clusters.relabel([("field", 9)], "Pt19")
    settle(viewer)
    said_now = [r.message for r in notification_manager.records[before:]]
    assert said_now and all("Classify again" in words for words in said_now)
    assert [t.title for t in dock.patches.tiles] == ["raw", "LCN"]


# ---- life
def test_qt_may_delete_the_dock_while_python_still_holds_it(viewer, state, qtbot):
    dock = Explain(viewer)
    dock.show()
    with qtbot.waitSignal(dock.destroyed):
        dock.deleteLater()
    state.select([("field", 1)])  # does not reach what Qt has deleted


# ---- class averages
@pytest.fixture
def averaged(qtbot, viewer, settle):
    """Wait until the averages of a dock are those of what is there."""

    def wait(dock):
        qtbot.waitUntil(lambda: dock.averages.settled, timeout=20_000)
        settle(viewer)

    return wait


@pytest.fixture
def averages(dock, averaged):
    dock.pages.setCurrentIndex(1)
    page = dock.averages
    averaged(dock)
    assert page.averages is not None
    return page


def test_class_averages_follow_the_image(averages, state, dock, averaged):
    assert averages.averages.labels == CLASSES
    assert "40 clusters averaged" in averages.note.text()
    rows = averages.grid.cells()
    assert [[a.label for a in row] for row in rows] == [CLASSES] * 4
    assert [(row[0].quantity, row[0].channel) for row in rows] == [
        ("patch", "raw"), ("patch", "LCN"), ("class map", "raw"), ("class map", "LCN")
    ]  # fmt: skip
    # The made-up maps: raw in the middle, LCN along the outline.
    for label in CLASSES:
        assert averages.averages.get(label, "raw").balance.value > 0.3
        assert averages.averages.get(label, "LCN").balance.value < -0.3
    state.clusters.set_analysis(with_class_maps(10, name="other"))
    state.current = "other"
    averaged(dock)
    assert averages.averages.get("Pt19", "raw").clusters == 2
    averages.scope_combo.setCurrentText(ALL_IMAGES)
    averaged(dock)
    assert averages.averages.get("Pt19", "raw").clusters == 10


def test_class_averages_follow_labels(averages, state, dock, averaged):
    state.clusters.relabel([("field", 1)], "Pt70")  # was Pt19
    averaged(dock)
    out = averages.averages
    assert out.get("Pt19", "raw").clusters == 7
    assert out.get("Pt70", "raw", "patch").clusters == 9
    assert out.get("Pt70", "raw").clusters == 8, "the map is still of Pt19"
    assert "1 corrected" in averages.note.text()
    state.history.undo()
    averaged(dock)
    assert averages.averages.get("Pt19", "raw").clusters == 8


def profile_axes(page):
    """The axes of the radial profiles, one for each channel."""
    draw_now(page.profiles)
    return page.profiles.figure.axes


def profiles_in(axes):
    """The distances and the means of the profiles in axes, without the line of the outline."""
    return [line.get_data() for line in axes.lines if not line.get_label().startswith("_")]


def test_class_averages_in_nm_and_to_their_own_maximum(averages, dock, averaged):
    assert averages.averages.unit == "radius"
    raw, lcn = profile_axes(averages)
    assert raw.get_ylim() == lcn.get_ylim(), "channels can be compared"
    assert raw.get_ylabel().endswith("score") and raw.get_xlabel().endswith("radius")
    averages.own_scale.setChecked(True)
    for axes in profile_axes(averages):
        assert [np.nanmax(y) for _, y in profiles_in(axes)] == pytest.approx([1] * 5)
    averages.unit_combo.setCurrentText(IN_NM)
    averaged(dock)
    assert averages.averages.unit == "nm"
    axes = profile_axes(averages)[0]
    assert axes.get_xlabel().endswith("nm")
    assert profiles_in(axes)[0][0][-1] == pytest.approx(1.4, abs=0.05)
    assert "Pt19, raw: maximum" in averages.profiles.accessibleDescription()


def test_class_averages_are_computed_only_when_they_are_seen(dock, state, averaged):
    averaged(dock)
    assert dock.averages.averages is None
    dock.pages.setCurrentIndex(1)
    averaged(dock)
    first = dock.averages.averages
    assert first is not None
    dock.pages.setCurrentIndex(0)
    state.clusters.relabel([("field", 1)], "Pt70")
    averaged(dock)
    assert dock.averages.averages is first
    dock.pages.setCurrentIndex(1)
    averaged(dock)
    assert dock.averages.averages is not first


@pytest.mark.parametrize("width", [300, 360, 900])
def test_class_averages_fit_and_are_painted(dock, averages, width):
    dock.resize(width, 700)
    picture = averages.grid.grab().toImage()
    ratio = picture.devicePixelRatio()
    boxes = averages.grid.boxes()
    for row in boxes:
        for box in row:
            assert averages.grid.rect().toRectF().contains(box)
            assert box.width() > 35
    colour = picture.pixelColor((boxes[2][0].center() * ratio).toPoint())
    assert colour.hsvSaturation() > 40 and colour.lightness() > 100
    patch = picture.pixelColor((boxes[0][4].center() * ratio).toPoint())
    assert patch.hsvSaturation() < 10 and patch.lightness() > 150
    chart = averages.profiles
    assert chart.mapTo(dock, chart.rect().topRight()).x() <= width


def test_profiles_are_painted_in_the_colours_of_their_classes(averages):
    axes = profile_axes(averages)[0]
    for label, (_, mean) in zip(CLASSES, profiles_in(axes), strict=True):
        assert mean.tolist() == averages.averages.get(label, "raw").profile.tolist()
    image = averages.profiles.grab().toImage()
    seen = {
        image.pixelColor(x, y).name() for y in range(image.height()) for x in range(image.width())
    }
    assert {colour_of(label, CLASSES) for label in CLASSES} <= seen


def test_a_tile_says_what_it_shows(averages):
    out = averages.averages
    words = format_tile(out.get("Pt41", "LCN"))
    assert "Pt41" in words and "8 clusters" in words
    assert f"{out.get('Pt41', 'LCN').balance.value:+.2f}" in words
    assert "outline" not in format_tile(out.get("Pt41", "LCN", "patch"))


def test_why_there_are_no_class_averages(dock, state, averaged):
    dock.pages.setCurrentIndex(1)
    page = dock.averages
    analysis = state.analysis("field")

    def said_when(analysis):
        state.clusters.set_analysis(analysis)
        averaged(dock)
        assert not page.grid.isVisible() and not page.save_button.isVisible()
        return page.note.text()

    assert said_when(replace(analysis, patches={}, class_maps={})) == averages_page.NO_PATCHES
    none = conform(analysis.table.drop(columns=[f"p_{c}" for c in CLASSES]), [])
    assert said_when(replace(analysis, table=none)) == averages_page.NOT_CLASSIFIED
    cut = replace(analysis, table=analysis.table.assign(touches_border=True))
    assert "40 cut by the border" in said_when(cut)
    state.clusters.remove_ids("field", range(1, 41))
    averaged(dock)
    assert page.note.text() == averages_page.NO_CLUSTERS
    state.history.go_to(1)
    averaged(dock)
    assert page.grid.isVisible() and page.save_button.isVisible()


def test_class_averages_are_saved(averages, dock, averaged, tmp_path, monkeypatch):
    asked = []

    def ask(name, kind):
        def answer(*question):
            asked.append(question)
            return str(tmp_path / name), kind

        monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)

    # As with plots, a suffix that is typed has priority over the type that is chosen.
    for name, kind in (("picture", "Drawing (*.svg)"), ("picture.pdf", "Picture (*.png)")):
        ask(name, kind)
        averages.export_picture()
        averaged(dock)
    assert asked[0][3] == "Picture (*.png);;Drawing (*.svg);;PDF (*.pdf)"
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    assert (tmp_path / "picture.pdf").read_bytes().startswith(b"%PDF")
    ask("profiles.csv", "")
    averages.export_profiles()
    profiles = pd.read_csv(tmp_path / "profiles.csv")
    assert set(profiles["class"]) == set(CLASSES)
    ask("balance.csv", "")
    averages.export_balances()
    found = pd.read_csv(tmp_path / "balance.csv").set_index(["class", "channel", "quantity"])
    b = averages.averages.get("Pt55", "LCN").balance
    assert found.loc[("Pt55", "LCN", "class map"), "high"] == pytest.approx(b.high)
    ask("", "")
    averages.export_profiles()  # cancelled
    assert len(list(tmp_path.glob("*.*"))) == 4
    ask("all", "")
    averages.export_all()
    averaged(dock)
    assert len(list((tmp_path / "all").iterdir())) == 5
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "all" / "class-profiles.csv"), profiles)


def test_one_name_for_one_thing_in_table_and_explain(viewer, model):
    from napari_atomicity.core.tables.cluster_table import column_of

    row = (
        with_class_maps(6, "field").table.assign(prediction_set="Pt19|Pt30", ood_score=1.3).iloc[0]
    )
    names = {name: (value, tooltip) for name, value, tooltip in facts(row)}
    for column, name in (("prediction_set", "Prediction set"), ("ood_score", "OOD score")):
        assert name.lower().replace(" ", "_") == column_of(column).name
        assert column in names[name][1]
