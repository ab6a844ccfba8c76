"""Outlines of other programs in the window: layers by the menu, files by Browse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tifffile
from brightness import PIXEL_NM, blobs
from qtpy.QtWidgets import QFileDialog, QMenu
from waiting import updated

from napari_atomicity.detection import detect
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.panels.dock_windows import show_dock
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.io.images import load
from napari_atomicity.io.outline_files import write_outlines

TITLE = "Use as outlines (Atomicity)"
RADIUS_PX = 9
SQUARE = np.array([[0, 0], [0, 9], [9, 9], [9, 0]])


@pytest.fixture
def state(viewer, image_layer, model):
    return binding_of(viewer).state


def choose_in_menu(viewer) -> None:
    """Choose the command in the menu Layers ▸ Segment, as a user does."""
    menu = viewer.window.layers_menu
    menu.aboutToShow.emit()
    below = [m for m in menu.findChildren(QMenu) if m.title().replace("&", "") == "Segment"]
    actions = [a for m in below for a in m.actions() if a.text() == TITLE]
    assert len(actions) == 1
    actions[0].trigger()


def discs(*centres: tuple[int, int]) -> np.ndarray:
    """A label image of discs with the numbers 5, 6 …"""
    labels = np.zeros(blobs().shape, np.int32)
    y, x = np.indices(labels.shape)
    for i, (cy, cx) in enumerate(centres, 5):
        labels[np.hypot(y - cy, x - cx) <= RADIUS_PX] = i
    return labels


def test_labels_become_clusters_which_can_be_undone(viewer, state, settle):
    # Another program has lost the scale of the image.
    viewer.add_labels(discs((40, 40), (120, 200)), name="cells")
    choose_in_menu(viewer)
    settle(viewer)
    table = state.table("field")
    np.testing.assert_allclose(table[["y_px", "x_px"]], [[40, 40], [120, 200]], atol=0.2)
    expected_nm = 2 * RADIUS_PX * PIXEL_NM
    np.testing.assert_allclose(table["diameter_nm"], expected_nm, rtol=0.02)
    assert (table["label"] != "").all()
    assert state.analysis("field").parameters["outlines"]["source"] == "layer cells"
    dock = show_dock(viewer, "Analyse")
    assert "Outlines of layer cells: 2 clusters" in updated(dock.detected).text.text()
    assert "cells" in viewer.layers and "field outlines" in viewer.layers
    state.history.undo()
    settle(viewer)
    assert state.analysis("field") is None


@pytest.mark.parametrize("step", ["Analyse", "Detect"])
def test_a_new_analysis_says_that_it_replaced_outlines(viewer, state, settle, step):
    viewer.add_labels(discs((40, 40), (120, 200)), name="cells")
    choose_in_menu(viewer)
    settle(viewer)
    show_dock(viewer, step).run() if step == "Analyse" else show_dock(viewer, step).step.run()
    settle(viewer)
    assert len(state.table("field")) > 2
    assert viewer.status == "The imported outlines were replaced. Ctrl+Z brings them back."
    viewer.status = ""
    show_dock(viewer, "Analyse").run()  # there are none any more
    settle(viewer)
    assert viewer.status == ""


def test_shapes_are_measured_where_they_appear(viewer, state, settle):
    shapes = viewer.add_shapes(name="drawn", scale=(2 * PIXEL_NM,) * 2, translate=(PIXEL_NM, 0))
    # In pixels of the image: 2 y + 1, 2 x.
    shapes.add_ellipses([[[15, 15], [15, 25], [24, 25], [24, 15]]])
    shapes.add_polygons([[[55, 95], [55, 105], [64, 105], [64, 95]]])
    choose_in_menu(viewer)
    settle(viewer)
    table = state.table("field")
    np.testing.assert_allclose(table[["y_px", "x_px"]], [[40, 40], [120, 200]], atol=0.6)
    area = np.pi / 4 * table["diameter_nm"].to_numpy() ** 2
    np.testing.assert_allclose(area, np.array([np.pi / 4, 1]) * 18 * 20 * PIXEL_NM**2, rtol=0.06)


def test_shapes_of_a_stack_are_in_their_frames(viewer, model, settle):
    movie = np.stack([blobs(0), blobs(1)])
    viewer.add_image(movie, name="movie", scale=(1, PIXEL_NM, PIXEL_NM), units=("s", "nm", "nm"))
    square = np.array([[30, 30], [30, 50], [50, 50], [50, 30]])
    shapes = [np.column_stack([np.full(4, frame), square + 80 * frame]) for frame in (0, 1)]
    viewer.add_shapes(shapes, shape_type="polygon", scale=(1, PIXEL_NM, PIXEL_NM), name="drawn")
    choose_in_menu(viewer)
    settle(viewer)
    table = binding_of(viewer).state.table("movie")
    assert table[["frame", "y_px", "x_px"]].round().to_numpy().tolist() == [
        [0, 40, 40],
        [1, 120, 120],
    ]


def test_labels_of_a_user_stay_as_after_a_new_analysis(viewer, state, settle, qtbot):
    dock = Analyse(viewer)
    viewer.window.add_dock_widget(dock, name="Analyse")
    dock.run()
    settle(viewer)
    before = state.table("field")
    at = before.set_index("cluster_id")[["y_px", "x_px"]].round()
    ids = [at.index[(at == place).all(axis=1)][0] for place in ([40, 40], [120, 200])]
    state.clusters.relabel([("field", i) for i in ids], "Pt70")
    viewer.add_labels(discs((40, 40), (40, 120)), name="cells")
    choose_in_menu(viewer)
    settle(viewer)
    after = state.table("field").set_index("cluster_id")
    # The second one was labelled, the third one is new in the layer but was there before.
    assert len(after) == 3 and after.loc[ids, "label"].tolist() == ["Pt70", "Pt70"]
    state.history.undo()
    settle(viewer)
    assert len(state.table("field")) == len(before)


def test_outlines_over_clusters_that_were_edited_are_counted(viewer, state, settle):
    dock = show_dock(viewer, "Analyse")
    dock.run()
    settle(viewer)
    before = state.table("field")
    at = before.set_index("cluster_id")[["y_px", "x_px"]].round()
    first, second = (at.index[(at == place).all(axis=1)][0] for place in ([40, 40], [120, 200]))
    state.clusters.remove_ids("field", [first])
    table = before[before["cluster_id"] == second]
    pieces = pd.concat([table.assign(x_px=195.0), table.assign(x_px=205.0)])
    state.clusters.replace("field", [second], pieces, [SQUARE] * 2, "split")
    viewer.add_labels(discs((40, 40), (40, 120), (120, 200)), name="cells")
    choose_in_menu(viewer)
    settle(viewer)
    assert len(state.table("field")) == 3  # one of three outlines, and the two pieces
    said = updated(dock).result.text()
    assert "1 outline left out, where a person has removed a cluster." in said
    assert "1 outline left out, where a person has split, merged or labelled clusters." in said


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda v: v.add_labels(np.zeros((240, 320), int)), "no outlines"),
        (lambda v: v.add_labels(np.ones((100, 320), int)), "100 × 320 pixels"),
        (lambda v: v.add_shapes([[0, 0], [9, 9]], shape_type="line"), "is a line, not an area"),
        (lambda v: v.add_shapes(), "no outlines"),
        (lambda v: v.add_shapes(SQUARE + 900), "outside of field"),
    ],
)
def test_what_is_wrong_with_a_layer_is_said(viewer, state, settle, errors, add, message):
    add(viewer).name = "wrong"
    choose_in_menu(viewer)
    settle(viewer)
    assert message in errors[-1] and "wrong" in errors[-1]
    assert state.analysis("field") is None


def test_a_layer_of_points_is_refused_with_what_to_select(viewer, state, settle, monkeypatch):
    shown = []
    monkeypatch.setattr("napari_atomicity.gui.docks.analyse.show_info", shown.append)
    viewer.add_points([[1, 2]])
    choose_in_menu(viewer)
    assert "Labels or Shapes layer" in shown[0] and state.analysis("field") is None


def test_without_a_pixel_size_one_is_asked_for(viewer, model, settle, errors):
    viewer.add_image(blobs(), name="field")
    viewer.add_labels(discs((40, 40)))
    choose_in_menu(viewer)
    assert "pixel size" in errors[-1] and "Analyse" in errors[-1]


# ---- files, in Browse
@pytest.fixture
def folder(tmp_path):
    """Two images, and files with the outlines of their first clusters."""
    images, outlines = tmp_path / "images", tmp_path / "outlines"
    images.mkdir()
    outlines.mkdir()
    for seed, name in enumerate(("a", "b")):
        path = images / f"{name}.tif"
        options = {"imagej": True, "metadata": {"unit": "nm"}, "resolution": (20, 20)}
        tifffile.imwrite(path, blobs(seed), **options)
        found = detect(load(path))
        table = found.table.head(3 + seed).assign(label="")
        write_outlines(outlines / f"{name}_rois.zip", table, found.outlines[: len(table)], (1, 1))
    return tmp_path


@pytest.fixture
def browse(viewer, model, folder, qtbot, settle):
    dock = Browse(viewer)
    viewer.window.add_dock_widget(dock, name="Browse", area="left")
    dock.open(str(folder / "images"))
    qtbot.waitUntil(lambda: dock.state.project is not None, timeout=10_000)
    settle(viewer)
    yield updated(dock)
    dock.projects.leave(stops_work=True)


def import_outlines(dock, monkeypatch, *files) -> None:
    chosen = [str(file) for file in files]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a: (chosen, ""))
    action = dock.actions_by_name["outlines"]
    assert action.isEnabled() and action.text() == "Import outlines…"
    action.trigger()


def test_a_file_is_measured_in_the_open_image(browse, viewer, folder, settle, monkeypatch):
    state, file = browse.state, folder / "outlines" / "a_rois.zip"
    import_outlines(browse, monkeypatch, file)
    settle(viewer)
    assert len(state.table("a.tif")) == 3 and state.analysis("b.tif") is None
    assert state.analysis("a.tif").parameters["outlines"]["source"] == str(file)
    state.history.undo()
    settle(viewer)
    assert state.analysis("a.tif") is None


def test_a_file_of_another_image_is_asked_about(browse, viewer, folder, settle, monkeypatch):
    state, asked = browse.state, []
    monkeypatch.setattr(
        "napari_atomicity.gui.docks.browse.dock.confirm", lambda *a: bool(asked.append(a[-1]))
    )
    state.current = "b.tif"
    import_outlines(browse, monkeypatch, folder / "outlines" / "a_rois.zip")
    settle(viewer)
    assert "outlines of a.tif" in asked[0] and state.analysis("b.tif") is None


def test_several_files_belong_to_images_by_name(browse, viewer, folder, qtbot, settle, monkeypatch):
    state = browse.state
    import_outlines(browse, monkeypatch, *sorted((folder / "outlines").iterdir()))
    qtbot.waitUntil(lambda: not browse.batch.running, timeout=20_000)
    settle(viewer)
    assert [len(state.table(image)) for image in ("a.tif", "b.tif")] == [3, 4]
    while state.history:
        state.history.undo()
        settle(viewer)
    assert [state.analysis(image) for image in ("a.tif", "b.tif")] == [None, None]


def test_several_files_over_removed_clusters_are_counted(
    browse, viewer, folder, qtbot, settle, monkeypatch
):
    state, said = browse.state, []
    monkeypatch.setattr("napari_atomicity.gui.docks.browse.batch.show_info", said.append)
    files = sorted((folder / "outlines").iterdir())

    def take() -> None:
        import_outlines(browse, monkeypatch, *files)
        qtbot.waitUntil(lambda: not browse.batch.running, timeout=20_000)
        settle(viewer)

    take()
    for image in ("a.tif", "b.tif"):
        state.clusters.remove_ids(image, state.table(image)["cluster_id"].tolist()[:1])
    take()
    assert [len(state.table(image)) for image in ("a.tif", "b.tif")] == [2, 3]
    assert said == ["2 outlines left out, where a person has removed a cluster."]


def test_an_image_that_failed_does_not_wait_again_after_an_import(
    browse, viewer, folder, qtbot, settle, monkeypatch
):
    (folder / "broken.tif").write_bytes(b"not an image")
    browse.projects.add([str(folder / "broken.tif")])
    settle(viewer)
    qtbot.waitUntil(lambda: len(browse.state.images) == 3)
    for act in (
        browse.analyse_all,
        lambda: import_outlines(browse, monkeypatch, *sorted((folder / "outlines").iterdir())),
    ):
        act()
        qtbot.waitUntil(lambda: not browse.batch.running, timeout=20_000)
        settle(viewer)
        browse.show_status()
        assert browse.analyse_button.text() == "Analyse all again"


def test_a_file_of_no_image_is_named(browse, viewer, folder, settle, errors, monkeypatch):
    files = [folder / "outlines" / "a_rois.zip", folder / "outlines" / "z.zip"]
    import_outlines(browse, monkeypatch, *files)
    assert "z.zip" in errors[-1] and "0 images" in errors[-1]
    assert browse.state.analysis("a.tif") is None


def test_a_damaged_file_is_named(browse, viewer, folder, settle, errors, monkeypatch):
    file = folder / "cut.zip"
    file.write_bytes((folder / "outlines" / "a_rois.zip").read_bytes()[:200])
    import_outlines(browse, monkeypatch, file)
    settle(viewer)
    assert "cut.zip" in errors[-1] and "Export the objects again" in errors[-1]
