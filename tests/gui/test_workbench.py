"""The manifest, the arranged window, the demo's window, and clicks in a real canvas."""

from __future__ import annotations

import gc
import importlib
from collections import Counter
from functools import partial

import numpy as np
import pytest
from brightness import PIXEL_NM, blobs
from every_dock import NAMES
from mouse import on_canvas
from npe2 import PluginManager
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget, QScrollArea, QTabBar, QTabWidget
from synthetic import made_up
from waiting import updated

from napari_atomicity import analyse
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.gui import tasks
from napari_atomicity.gui.controls import shortcuts
from napari_atomicity.gui.controls.forms import CollapsibleSection
from napari_atomicity.gui.controls.settings import settings
from napari_atomicity.gui.docks.adapt.dock import Adapt
from napari_atomicity.gui.docks.gallery import Gallery
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.docks.report import Report
from napari_atomicity.gui.docks.table import Table
from napari_atomicity.gui.panels.dock_windows import dock_names, open_docks, show_dock
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import calibration, compat
from napari_atomicity.gui.workbench import Workbench
from napari_atomicity.gui.workbench.layout import WORKSPACES
from napari_atomicity.gui.workbench.window import (
    WorkspaceSwitch,
    open_demo,
    open_workbench,
    show_analysis,
)

PLUGIN = "napari-atomicity"
MAX_DOCKS = 6
BOTTOM, LEFT = Qt.DockWidgetArea.BottomDockWidgetArea, Qt.DockWidgetArea.LeftDockWidgetArea
SIZES = [(1280, 720), (1600, 950)]


@pytest.fixture
def manifest():
    manager = PluginManager()
    manager.discover()
    return manager.get_manifest(PLUGIN)


def shown_docks(viewer) -> set[str]:
    return {name for name, dock in open_docks(viewer).items() if not dock.isHidden()}


def switch_of(viewer) -> WorkspaceSwitch:
    return viewer.window._qt_window.findChild(WorkspaceSwitch)


def tab_bars(viewer) -> list[list[str]]:
    """The titles of all tabs that are seen, checked not to be cut."""
    bars = []
    for bar in viewer.window._qt_window.findChildren(QTabBar):
        if not bar.visibleRegion().isEmpty():
            titles = [bar.tabText(i) for i in range(bar.count())]
            for i, title in enumerate(titles):
                assert bar.tabRect(i).width() >= bar.fontMetrics().horizontalAdvance(title), title
                assert bar.tabRect(i).right() <= bar.width(), title
            bars.append(titles)
    return bars


@pytest.fixture
def window(make_napari_viewer, qtbot):
    """Open the workbench in a window of a size."""

    def open_(size=(1280, 720), name="Clusters"):
        viewer = make_napari_viewer(show=True)
        main = viewer.window._qt_window
        main.resize(*size)
        qtbot.waitUntil(lambda: (main.width(), main.height()) == size)
        return open_workbench(viewer, name)

    return open_


def test_tab_visits_no_dock_that_is_behind_another(window, settle):
    """Qt treats docks behind a tab as visible, also those of napari at the left."""
    viewer = window()
    main = viewer.window._qt_window
    settle(viewer)
    QApplication.processEvents()
    QApplication.setActiveWindow(main)
    workbench_bar(viewer).setFocus()
    unseen, visited = [], 0
    for _ in range(150):
        control = main.focusWidget() or main
        QTest.keyClick(control, Qt.Key.Key_Tab)
        now = main.focusWidget()
        if now is not None and now is not control:
            visited += 1
            dock = now
            while dock is not None and not isinstance(dock, QDockWidget):
                dock = dock.parentWidget()
            if dock is not None and dock.visibleRegion().isEmpty():
                unseen.append((dock.objectName(), now.objectName()))
    assert visited > 20 and not unseen


def test_every_command_of_the_manifest_exists(manifest):
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    names = {w.display_name for w in manifest.contributions.widgets}
    assert names == NAMES | {"Workbench"}


def test_shortcuts_do_not_clash():
    keys = Counter(key for s in shortcuts.LABEL_MODE for key in s.keys)
    assert max(keys.values()) == 1
    assert all(s.what in shortcuts.as_help() for s in shortcuts.LABEL_MODE)


def test_the_sample_opens_with_its_scale(viewer, model):
    (layer,) = viewer.open_sample(PLUGIN, "example")
    assert calibration.pixel_size_nm(layer) is not None
    assert layer in binding_of(viewer).canvas.image_layers()


def test_the_menu_opens_the_workspace_that_was_used_last(viewer, model, qtbot):
    viewer.window.add_plugin_dock_widget(PLUGIN, "Workbench")
    qtbot.waitUntil(lambda: shown_docks(viewer) == set(WORKSPACES[0].docks))
    qtbot.waitUntil(lambda: compat.scale_bar(viewer).visible)
    assert switch_of(viewer).buttons["Clusters"].isChecked()
    before = open_docks(viewer)
    open_workbench(viewer)
    assert open_docks(viewer) == before
    open_workbench(viewer, "Atoms")
    viewer.window.add_plugin_dock_widget(PLUGIN, "Workbench")
    qtbot.waitUntil(lambda: Workbench.__name__ not in open_docks(viewer))
    assert shown_docks(viewer) == set(WORKSPACES[1].docks)


@pytest.mark.parametrize("size", SIZES)
def test_a_workspace_has_few_docks_and_leaves_half_of_the_width_to_the_image(
    window, model, qtbot, size
):
    viewer = window(size)
    main = viewer.window._qt_window
    for space in [*WORKSPACES, *WORKSPACES]:  # as designed, then as they were left
        qtbot.mouseClick(switch_of(viewer).buttons[space.name], Qt.MouseButton.LeftButton)
        assert shown_docks(viewer) == set(space.docks)
        assert len(space.docks) <= MAX_DOCKS
        qtbot.waitUntil(lambda: 2 * main.centralWidget().width() >= main.width())
        assert (main.width(), main.height()) == size
        qtbot.waitUntil(lambda: any("Browse" in bar for bar in tab_bars(viewer)))
        titles = [title for bar in tab_bars(viewer) for title in bar]
        assert max(Counter(titles).values()) == 1, titles  # no tab bar is left behind


def test_nothing_is_cut_at_the_right_of_a_dock_in_a_small_window(window, model, settle, qtbot):
    viewer = window()
    show_analysis(viewer, analyse(Micrograph(blobs(), PIXEL_NM, "field")))

    def check_fits(name, dock):
        areas = [area for area in dock.findChildren(QScrollArea) if area.isVisible()]
        widths = [
            (max(inner.width(), inner.minimumSizeHint().width()), area.viewport().width())
            for area in areas
            if (inner := area.widget())
        ]
        assert [(name, content, room) for content, room in widths if content > room] == []

    for space in WORKSPACES:
        open_workbench(viewer, space.name)
        for name in space.docks:
            dock = show_dock(viewer, name)
            settle(viewer)
            for section in dock.findChildren(CollapsibleSection):
                section.button.setChecked(True)
            settle(viewer)
            # A scroll bar may come and go while a dock is laid out.
            qtbot.waitUntil(partial(check_fits, name, dock))


def test_the_button_of_the_open_workspace_changes_nothing(window, model, qtbot, monkeypatch):
    viewer = window()
    switch = switch_of(viewer)
    docks = open_docks(viewer)
    docks["Explain"].close()
    shown = []
    monkeypatch.setattr("napari_atomicity.gui.workbench.window.show_layout", shown.append)
    qtbot.mouseClick(switch.buttons[switch.current.name], Qt.MouseButton.LeftButton)
    assert switch.buttons[switch.current.name].isChecked() and not shown


def test_a_workspace_is_as_it_was_left(window, model, qtbot):
    viewer = window()
    main, switch = viewer.window._qt_window, switch_of(viewer)
    docks = open_docks(viewer)
    docks["Explain"].close()
    docks["Ratios"].raise_()
    show_dock(viewer, "Table")
    main.resizeDocks([docks["Overview"]], [300], Qt.Orientation.Vertical)
    qtbot.waitUntil(lambda: docks["Overview"].height() == 300)
    for name in ("Atoms", "Clusters"):
        qtbot.mouseClick(switch.buttons[name], Qt.MouseButton.LeftButton)
    assert shown_docks(viewer) == set(WORKSPACES[0].docks) - {"Explain"}
    assert docks["Overview"].height() == 300
    assert main.findChild(Table).isVisible()
    qtbot.waitUntil(lambda: docks["Ratios"].widget().isVisible())
    assert not docks["Analyse"].widget().isVisible()


def test_the_list_of_images_shows_the_current_one_after_another_workspace(
    window, model, qtbot, settle
):
    viewer = window()
    state, browse = binding_of(viewer).state, show_dock(viewer, "Browse")
    for number in range(30):
        state.add_image(Micrograph(blobs()[:8, :8], PIXEL_NM, f"field {number}"))
    state.current = "field 0"
    settle(viewer)
    qtbot.mouseClick(switch_of(viewer).buttons["Atoms"], Qt.MouseButton.LeftButton)
    state.current = "field 29"
    settle(viewer)
    qtbot.mouseClick(switch_of(viewer).buttons["Clusters"], Qt.MouseButton.LeftButton)
    settle(viewer)
    row = browse.list.visualRect(browse.model.index(browse.model.row_of("field 29")))
    assert browse.list.viewport().rect().contains(row)


def test_drawing_ends_with_the_workspace_whose_buttons_began_it(window, model, qtbot, settle):
    viewer = window()
    binding, analysis = binding_of(viewer), made_up(12)
    layer = viewer.add_image(analysis.micrograph.data, name="field", scale=(0.05, 0.05))
    binding.canvas.ensure_image(layer)
    binding.state.clusters.set_analysis(analysis)
    settle(viewer)
    binding.edits.exclude_regions()
    regions = viewer.layers["field regions"]
    assert regions is viewer.layers.selection.active and regions.mode == "add_polygon_lasso"
    assert "a region to exclude" in compat.text_overlay(viewer).text
    qtbot.mouseClick(switch_of(viewer).buttons["Atoms"], Qt.MouseButton.LeftButton)
    assert regions.mode == "pan_zoom" and regions is not viewer.layers.selection.active
    binding.atoms.marking = binding.atoms.magnifier = True
    qtbot.mouseClick(switch_of(viewer).buttons["Clusters"], Qt.MouseButton.LeftButton)
    assert not binding.atoms.marking and not binding.atoms.magnifier
    # Or with the dock that has the button; behind a tab, and while it begins to float, it goes on.
    qtbot.mouseClick(switch_of(viewer).buttons["Atoms"], Qt.MouseButton.LeftButton)
    atoms = open_docks(viewer)["Atoms"]
    show_dock(viewer, "Atoms")
    settle(viewer)
    binding.atoms.marking = True
    show_dock(viewer, "Live")
    atoms.setFloating(True)
    settle(viewer)
    assert binding.atoms.marking
    atoms.setFloating(False)
    show_dock(viewer, "Atoms")
    settle(viewer)
    atoms.close()
    qtbot.waitUntil(lambda: not binding.atoms.marking)


def test_the_layout_is_remembered_by_the_next_window(window, model, qtbot):
    viewer = window()
    open_docks(viewer)["Review"].close()
    show_dock(viewer, "Live")
    assert len(viewer.window._qt_window.tabifiedDockWidgets(open_docks(viewer)["Live"])) == 4
    viewer.close()
    later = window(name=None)
    assert shown_docks(later) == (set(WORKSPACES[0].docks) | {"Live"}) - {"Review"}
    qtbot.waitUntil(lambda: open_docks(later)["Live"].widget().isVisible())
    area = Qt.DockWidgetArea.RightDockWidgetArea
    assert later.window._qt_window.tabPosition(area) == QTabWidget.TabPosition.North


def test_a_dock_of_another_workspace_is_a_tab_when_its_workspace_was_left_twice(
    window, model, qtbot
):
    """Qt remembers a place of its own for a closed dock: a strip of 100 pixels."""
    viewer = window()
    for name in ("Model", "Clusters", "Atoms", "Clusters"):
        open_workbench(viewer, name)
    show_dock(viewer, "Adapt")
    qtbot.waitUntil(lambda: open_docks(viewer)["Adapt"].height() > 300)


@pytest.mark.parametrize(
    "value", ["no JSON", "[1]", '{"docks": 3}', '{"state": "AAAA", "docks": ["Nothing"]}']
)
def test_a_damaged_layout_is_ignored(window, model, value):
    settings().setValue("workspace/Clusters/small", value)
    assert shown_docks(window()) == set(WORKSPACES[0].docks)


def test_single_docks_are_opened_closed_and_reset_in_the_menu(window, model, qtbot):
    viewer = window()
    switch = switch_of(viewer)

    def choose(title):
        switch.menu.aboutToShow.emit()
        next(a for a in switch.menu.actions() if a.text() == title).trigger()

    choose("Train")
    choose("Explain")
    assert shown_docks(viewer) == (set(WORKSPACES[0].docks) | {"Train"}) - {"Explain"}
    choose("Reset the layout")
    assert shown_docks(viewer) == set(WORKSPACES[0].docks)
    assert "Train" in open_docks(viewer)
    listed = Counter(a.text() for a in switch.menu.actions() if a.isCheckable())
    assert max(listed.values()) == 1
    assert set(listed) == {name for space in WORKSPACES for name in space.docks}


@pytest.mark.parametrize(("name", "area"), [("Overview", BOTTOM), ("Browse", LEFT)])
def test_a_dock_that_was_closed_is_opened_again_at_its_side(window, model, qtbot, name, area):
    viewer = window()
    main, switch = viewer.window._qt_window, switch_of(viewer)
    close = open_docks(viewer)[name].titleBarWidget().close_button
    qtbot.mouseClick(close, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: name not in open_docks(viewer))
    switch.menu.aboutToShow.emit()
    next(a for a in switch.menu.actions() if a.text() == name).trigger()
    dock = open_docks(viewer)[name]
    assert main.dockWidgetArea(dock) == area
    qtbot.waitUntil(lambda: dock.widget().isVisible())


def test_docks_of_other_workspaces_open_as_tabs_and_the_window_keeps_its_size(window, model, qtbot):
    viewer = window()
    main = viewer.window._qt_window
    for space in WORKSPACES:
        open_workbench(viewer, space.name)
    for name in dock_names():
        show_dock(viewer, name)
        dock = open_docks(viewer).get(name)
        if dock is not None and main.dockWidgetArea(dock) == Qt.DockWidgetArea.RightDockWidgetArea:
            qtbot.waitUntil(lambda dock=dock: dock.height() > 300)
    assert main.minimumSizeHint().height() <= 600
    assert (main.width(), main.height()) == (1280, 720)


def test_long_notes_in_browse_do_not_make_the_window_higher(window, model, qtbot, settle):
    viewer = window()
    main, browse = viewer.window._qt_window, show_dock(viewer, "Browse")
    binding_of(viewer).state.add_image(Micrograph(blobs(), PIXEL_NM, "field"))
    for n in (1, 40):
        lines = [f"a{i}.tif: the clusters contradict the known sample Pt55" for i in range(n)]
        browse.projects._set_notes(tuple(lines))
        updated(browse)
        settle(viewer)
        assert lines[-1] in browse.notes.text() and browse.notes.isVisible()
        assert (main.width(), main.height()) == (1280, 720)
        area = browse.notes_area
        assert area.verticalScrollBar().isVisible() is (n > 1)
        assert n > 1 or area.height() >= browse.notes.heightForWidth(area.width()) > 0
    assert browse.list.height() > 60
    assert area.height() < browse.notes.height() and area.verticalScrollBar().maximum() > 0
    browse.projects._set_notes(())
    updated(browse)
    assert not area.isVisible()


def test_the_settings_of_browse_do_not_make_the_window_higher(window, model, qtbot, settle):
    viewer = window()
    main = viewer.window._qt_window
    browse = show_dock(viewer, "Browse")
    binding_of(viewer).state.add_image(Micrograph(blobs(), PIXEL_NM, "field"))
    settle(viewer)
    qtbot.mouseClick(browse.settings.button, Qt.MouseButton.LeftButton)
    settle(viewer)
    assert browse.form.isVisible() and (main.width(), main.height()) == (1280, 720)
    area = browse.settings.content
    assert area.widget().minimumSizeHint().width() <= area.viewport().width()


def test_docks_outlive_a_garbage_collection(window, model):
    shown = window(SIZES[0])
    for name in ("Clusters", "Model", "Clusters", "Model"):
        open_workbench(shown, name)
    docks = set(open_docks(shown))
    gc.collect()
    assert set(open_docks(shown)) == docks


def test_titles_of_more_docks_than_fit_are_scrolled_not_cut(window, model, qtbot):
    viewer = window()
    for name in ("Train", "Movie", "Dispersion", "Adapt"):
        show_dock(viewer, name)
    main = viewer.window._qt_window

    def bar_of_the_right() -> QTabBar:
        return next(b for b in main.findChildren(QTabBar) if "Adapt" in titles_of(b))

    def titles_of(bar: QTabBar) -> list[str]:
        return [bar.tabText(i) for i in range(bar.count())]

    qtbot.waitUntil(lambda: bar_of_the_right().usesScrollButtons())
    bar = bar_of_the_right()
    width = bar.fontMetrics().horizontalAdvance
    assert all(bar.tabRect(i).width() >= width(t) for i, t in enumerate(titles_of(bar)))
    qtbot.waitUntil(lambda: bar.rect().contains(bar.tabRect(bar.currentIndex())))


def test_a_dock_within_another_is_found_and_shown(window, model, qtbot, settle):
    viewer = window()
    main = viewer.window._qt_window
    qtbot.waitUntil(show_dock(viewer, "Embedding").isVisible)
    assert not main.findChild(Gallery).isVisible()
    assert "Embedding" not in open_docks(viewer)
    assert isinstance(show_dock(viewer, "Adapt"), Adapt)
    state = binding_of(viewer).state
    state.clusters.set_analysis(analyse(Micrograph(blobs(), PIXEL_NM, "field")))
    main.resize(1280, 720)
    assert main.findChild(Report) is None  # until its section is opened
    report = show_dock(viewer, "Report")
    assert report is main.findChild(Report)
    settle(viewer)  # Ratios fills, which moves it down
    qtbot.waitUntil(lambda: not report.button.visibleRegion().isEmpty())
    assert main.findChild(Ratios).report_section.isAncestorOf(report)
    assert show_dock(viewer, "Report") is report


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
    layer = binding.canvas.layer("field", "clusters")
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


def test_a_dock_whose_tab_is_behind_rests(window, model, qtbot):
    viewer = window()

    def seen() -> set[str]:
        docks = open_docks(viewer).items()
        return {name for name, dock in docks if dock.widget().isVisible()}

    qtbot.waitUntil(lambda: seen() == {"Browse", "Analyse", "Overview"})
    show_dock(viewer, "Review")
    qtbot.waitUntil(lambda: seen() == {"Browse", "Review", "Overview"})


def test_docks_keep_their_sizes_when_those_behind_rest(window, model, qtbot):
    viewer = window((1500, 950))
    docks = open_docks(viewer)
    qtbot.waitUntil(lambda: not docks["Review"].widget().isVisible())
    qtbot.waitUntil(lambda: docks["Analyse"].height() > 120)
    qtbot.wait(100)  # until the layout is at rest as well
    heights = [docks[name].height() for name in ("Analyse", "Explain", "Overview")]
    show_dock(viewer, "Ratios")
    qtbot.waitUntil(lambda: not docks["Analyse"].widget().isVisible())
    assert [docks[name].height() for name in ("Ratios", "Explain", "Overview")] == heights
    assert abs(heights[1] - heights[0]) < 60  # as the workbench gave them out


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


def test_the_way_through_says_what_is_done_and_next(window, model, qtbot, monkeypatch):
    viewer = window()
    state, steps = binding_of(viewer).state, switch_of(viewer).steps

    def following() -> list[str]:
        return [name for name, button in steps.buttons.items() if button.font().bold()]

    qtbot.waitUntil(lambda: following() == ["Analyse"])
    for seed, name in enumerate("ab"):
        state.add_image(Micrograph(blobs(seed), PIXEL_NM, name))
    state.clusters.set_analysis(analyse(state.micrograph("a")))
    qtbot.waitUntil(lambda: "1 of 2 images" in steps.buttons["Analyse"].toolTip())
    assert following() == ["Analyse"] and steps.buttons["Analyse"].text() == "1 Analyse"
    width = steps.width()
    state.clusters.set_analysis(analyse(state.micrograph("b")))
    qtbot.waitUntil(lambda: following() == ["Review"])
    assert steps.buttons["Analyse"].text() == "1 Analyse ✓" and steps.width() == width
    with monkeypatch.context() as patch:  # as an image without a pixel size
        patch.setattr(state, "not_analysed", lambda: ([], ["b"]))
        steps.refresh()
        assert steps.buttons["Analyse"].text() == "1 Analyse"
        assert "1 of 2 images are analysed (1 failed)" in steps.buttons["Analyse"].toolTip()
    qtbot.mouseClick(steps.buttons["Review"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(open_docks(viewer)["Review"].widget().isVisible)
    state.clusters.relabel([("a", int(state.table("a")["cluster_id"].iloc[0]))], "Pt19")
    qtbot.waitUntil(lambda: following() == ["Export"])
    qtbot.mouseClick(steps.buttons["Export"], Qt.MouseButton.LeftButton)
    qtbot.waitUntil(viewer.window._qt_window.findChild(Report).isVisible)
    open_workbench(viewer, "Atoms")
    assert not steps.isVisible()


def test_fit_shows_the_whole_image(window, model, qtbot):
    viewer = window()
    viewer.add_image(blobs())
    camera = compat.camera(viewer)
    whole = camera.zoom
    camera.zoom = 10 * whole
    qtbot.mouseClick(workbench_bar(viewer).fit, Qt.MouseButton.LeftButton)
    assert camera.zoom == pytest.approx(whole, rel=0.1)
