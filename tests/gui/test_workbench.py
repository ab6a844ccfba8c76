"""The manifest, the arranged window, the demo's window, and clicks in a real canvas."""

from __future__ import annotations

import importlib
from collections import Counter

import numpy as np
import pytest
from brightness import PIXEL_NM, blobs
from mouse import on_canvas
from npe2 import PluginManager
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QDockWidget

from napari_atomicity import analyse
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.gui import tasks
from napari_atomicity.gui.controls import shortcuts
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.embedding.dock import Embedding
from napari_atomicity.gui.docks.explain.dock import Explain
from napari_atomicity.gui.docks.table import Table
from napari_atomicity.gui.panels.dock_windows import dock_name, show_dock
from napari_atomicity.gui.viewer import calibration, compat
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.workbench import (
    BELOW,
    DOCKS,
    SMALL_SCREEN_DOCKS,
    WITH_LAYER_LIST,
    Workbench,
    all_docks,
    open_demo,
    open_workbench,
    show_analysis,
)

PLUGIN = "napari-atomicity"
NAMES = {
    "Adapt", "Analyse", "Annotators", "Atoms", "Browse", "Classify", "Detect", "Dispersion",
    "Embedding", "Explain", "Gallery", "Live", "Movie", "Plots", "Ratios", "Report", "Review",
    "Table", "Train",
}  # fmt: skip


@pytest.fixture
def manifest():
    manager = PluginManager()
    manager.discover()
    return manager.get_manifest(PLUGIN)


def docks_of(viewer) -> dict[str, QDockWidget]:
    found = viewer.window._qt_window.findChildren(QDockWidget)
    return {d.objectName(): d for d in found if d.objectName().endswith("(Atomicity)")}


def test_every_command_of_the_manifest_exists(manifest):
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    names = {w.display_name for w in manifest.contributions.widgets}
    assert names == NAMES | {"Workbench"}


@pytest.mark.parametrize("arrangement", [DOCKS, SMALL_SCREEN_DOCKS])
def test_every_dock_has_its_place(arrangement):
    at_the_right = [kind for group in arrangement for kind in group]
    placed = [*at_the_right, *BELOW, *WITH_LAYER_LIST]
    assert Counter(kind.__name__ for kind in placed) == Counter(NAMES)


def test_shortcuts_do_not_clash():
    keys = Counter(key for s in shortcuts.LABEL_MODE for key in s.keys)
    assert max(keys.values()) == 1
    assert all(s.what in shortcuts.as_help() for s in shortcuts.LABEL_MODE)


def test_the_sample_opens_with_its_scale(viewer, model):
    (layer,) = viewer.open_sample(PLUGIN, "example")
    assert calibration.pixel_size_nm(layer) is not None
    assert layer in binding_of(viewer).image_layers()


def test_the_workbench_opens_all_docks_and_goes_away(viewer, model, qtbot):
    viewer.window.add_plugin_dock_widget(PLUGIN, "Workbench")
    expected = {dock_name(kind) for kind in all_docks()}
    qtbot.waitUntil(lambda: set(docks_of(viewer)) == expected)
    assert compat.scale_bar(viewer).visible
    before = docks_of(viewer)
    open_workbench(viewer)
    assert docks_of(viewer) == before
    assert Workbench.__name__ not in {d.split(" ")[0] for d in docks_of(viewer)}


def test_a_small_window_stays_small(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    main = viewer.window._qt_window
    main.resize(1280, 740)
    qtbot.waitUntil(lambda: main.height() == 740)
    open_workbench(viewer)
    qtbot.wait(100)
    assert (main.width(), main.height()) == (1280, 740)


def test_the_demo_window_shows_the_result(model, qtbot, tmp_path, make_napari_viewer, monkeypatch):
    monkeypatch.setattr("napari.Viewer", lambda **_: make_napari_viewer(show=True))
    analysis = analyse(Micrograph(blobs(), PIXEL_NM, "field"))
    path = tmp_path / "window.png"
    viewer = open_demo(analysis, screenshot=path, block=False)
    image = QImage(str(path))
    assert image.width() > 800
    state = binding_of(viewer).state
    assert len(state.selection) == 1
    assert len(viewer.layers) == 6
    assert compat.text_overlay(viewer).visible


@pytest.mark.parametrize("label_mode", [True, False])
def test_a_click_selects_whichever_layer_is_active(
    make_napari_viewer, model, qtbot, settle, label_mode
):
    viewer = make_napari_viewer(show=True)
    binding = show_analysis(viewer, analyse(Micrograph(blobs(), PIXEL_NM, "field")))
    settle(viewer)
    binding.label_mode.on = label_mode
    if not label_mode:
        viewer.layers.selection.active = viewer.layers["field"]
    layer = binding.points_layer("field")
    canvas = viewer.window._qt_viewer.canvas.native
    qtbot.waitUntil(lambda: compat.canvas_size(viewer) == (canvas.height(), canvas.width()))
    viewer.reset_view()
    for index in (5, 2):
        place = on_canvas(viewer, layer, index)
        qtbot.mouseMove(canvas, place)
        qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=place)
        wanted = {("field", int(layer.features["cluster_id"].iloc[index]))}
        qtbot.waitUntil(lambda wanted=wanted: binding.state.selection == wanted)
    assert set(layer.selected_data) == {2}


def test_a_cluster_is_brought_into_view(viewer, model, settle):
    binding = show_analysis(viewer, analyse(Micrograph(blobs(), PIXEL_NM, "field")))
    settle(viewer)
    row = binding.state.table("field").iloc[4]
    binding.state.request_focus(("field", int(row["cluster_id"])))
    np.testing.assert_allclose(
        compat.camera(viewer).center[-2:], [row["y_nm"], row["x_nm"]], atol=1e-6
    )
    assert not tasks.running(binding.state)


def test_a_dock_whose_tab_is_behind_rests(make_napari_viewer, model, qtbot):
    viewer = make_napari_viewer(show=True)
    open_workbench(viewer)

    def seen() -> set[str]:
        main = viewer.window._qt_window
        return {k.__name__ for k in all_docks() if main.findChild(k).isVisible()}

    qtbot.waitUntil(lambda: {"Analyse", "Explain", "Gallery", "Browse"} <= seen())
    qtbot.waitUntil(lambda: not {"Table", "Plots", "Review", "Ratios"} & seen())
    show_dock(viewer, "Table")
    qtbot.waitUntil(lambda: "Table" in seen() and "Gallery" not in seen())


def test_docks_keep_their_sizes_when_those_behind_rest(make_napari_viewer, model, qtbot):
    viewer = make_napari_viewer(show=True)
    main = viewer.window._qt_window
    main.resize(1500, 950)
    qtbot.waitUntil(lambda: main.height() == 950)
    open_workbench(viewer)
    qtbot.waitUntil(lambda: not main.findChild(Table).isVisible())
    qtbot.waitUntil(lambda: main.findChild(Analyse).height() > 120)
    qtbot.wait(100)  # until the layout is at rest as well
    heights = [main.findChild(kind).height() for kind in (Analyse, Explain, Embedding)]
    show_dock(viewer, "Dispersion")
    qtbot.waitUntil(lambda: not main.findChild(Embedding).isVisible())
    assert [main.findChild(kind).height() for kind in (Analyse, Explain)] == heights[:2]
    assert heights[1] > heights[0] > 100  # as the workbench gave them out


def test_the_menu_begins_with_few_entries_and_its_titles_are_short(viewer):
    from napari._app_model import get_app_model
    from npe2 import PluginManager

    manifest = PluginManager.instance().get_manifest("napari-atomicity")
    groups = get_app_model().menus.get_menu("napari/plugins/napari-atomicity")
    titles = [item.command.title.removesuffix(" (Atomicity)") for item in groups]
    assert titles[:4] == ["Workbench", "Browse", "Analyse", "Review"]
    assert len(titles) == len(manifest.contributions.widgets)
    for command in manifest.contributions.commands:
        assert 2 <= len(command.title.split()) <= 3, command.title
