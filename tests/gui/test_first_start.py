"""Browse without an image shows how to begin."""

from __future__ import annotations

import pytest
import tifffile
from brightness import PIXEL_NM, blobs
from mouse import LEFT
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog
from waiting import updated

from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.panels.dock_windows import show_dock
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import calibration

WIDTH_PX = 240


@pytest.fixture
def browse(viewer, model, qtbot):
    dock = Browse(viewer)
    viewer.window.add_dock_widget(dock, name="Browse", area="left")
    qtbot.waitUntil(dock.first_start.isVisible)
    yield dock
    dock.projects.leave(stops_work=True)


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "field.tif"
    per_nm = 1 / PIXEL_NM
    tifffile.imwrite(
        path, blobs().astype("uint16"), imagej=True, resolution=(per_nm, per_nm),
        metadata={"unit": "nm"},
    )  # fmt: skip
    return path


def buttons(dock):
    return dock.open_button, dock.first_start.image_button, dock.first_start.example_button


def test_it_offers_folder_image_and_example_instead_of_an_empty_list(browse):
    assert not browse.list.isVisible() and not browse.title.isVisible()
    assert [b.text() for b in buttons(browse)] == [
        "Open folder…", "Open image…", "Try the example",
    ]  # fmt: skip
    for button in buttons(browse):
        assert button.isVisible() and button.isEnabled()
        assert button.focusPolicy() & Qt.FocusPolicy.TabFocus
    for button in buttons(browse)[1:]:
        assert button.accessibleDescription()
        assert button.minimumSizeHint().width() < WIDTH_PX - 12


def test_a_folder_is_opened(browse, image_file, qtbot, settle, viewer, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(image_file.parent))
    qtbot.mouseClick(browse.open_button, LEFT)
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    assert not updated(browse).first_start.isVisible() and browse.list.isVisible()


def test_an_image_is_opened_with_its_pixel_size(browse, image_file, qtbot, viewer, monkeypatch):
    filters = []

    def choose(parent, title, folder, patterns):
        filters.append(patterns)
        return str(image_file), patterns

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    qtbot.mouseClick(browse.first_start.image_button, LEFT)
    (layer,) = viewer.layers
    assert layer.name == "field.tif"
    assert calibration.pixel_size_nm(layer) == pytest.approx(PIXEL_NM)
    assert "*.tif" in filters[0] and "*.dm4" in filters[0]
    assert not browse.first_start.isVisible() and browse.list.isVisible()


def test_nothing_happens_if_no_image_is_chosen_or_it_cannot_be_read(
    browse, image_file, qtbot, viewer, monkeypatch, errors
):
    chosen = iter(["", str(image_file)])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (next(chosen), ""))
    image_file.write_bytes(b"II*\x00rubbish")
    for n_errors in (0, 1):
        qtbot.mouseClick(browse.first_start.image_button, LEFT)
        assert len(errors) == n_errors and not viewer.layers
    assert browse.first_start.isVisible()


def test_one_click_opens_and_analyses_the_example(browse, qtbot, viewer, settle):
    qtbot.mouseClick(browse.first_start.example_button, LEFT)
    settle(viewer)
    (image,) = browse.state.images
    assert (browse.state.table(image)["label"] != "").all()
    analyse = viewer.window._qt_window.findChild(Analyse)
    assert "clusters" in updated(analyse).result.text() and analyse.legend.isVisible()
    assert not updated(browse).first_start.isVisible()
    assert browse.model.rowCount() == 1


def test_beside_the_dock_of_atoms_the_example_is_of_atoms(browse, qtbot, viewer, settle):
    show_dock(viewer, "Atoms")
    qtbot.mouseClick(browse.first_start.example_button, LEFT)
    settle(viewer)
    (image,) = browse.state.images
    n = len(browse.state.atoms.of(image).table)
    assert n > 0
    (row,) = updated(browse).model.rows
    assert row.words == f"{n} atoms"
    qtbot.waitUntil(lambda: not browse.model.rows[0].thumbnail.isNull())


def test_an_image_opened_elsewhere_ends_it_and_closing_it_brings_it_back(browse, viewer, settle):
    layer = viewer.add_image(blobs(), name="field")
    assert not browse.first_start.isVisible() and "Analyse" in browse.title.text()
    viewer.layers.remove(layer)
    settle(viewer)
    assert browse.first_start.isVisible() and not binding_of(viewer).state.images
