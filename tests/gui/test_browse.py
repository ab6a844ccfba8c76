"""Browse: a folder is opened, worked through, left and found again as it was."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from brightness import PIXEL_NM, blobs
from mouse import LEFT
from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, QMimeData, QPoint, QPointF, QRect, Qt, QTimer, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QImage, QPainter
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QMessageBox,
    QStyle,
    QStyleOptionViewItem,
)
from synthetic import made_up
from waiting import updated

from napari_atomicity import load
from napari_atomicity.core.errors import AtomicityError, ModelError
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.palette import AGGREGATE_COLOUR, UNKNOWN_COLOUR
from napari_atomicity.gui.controls import questions
from napari_atomicity.gui.controls.bars import ALL_IMAGES, THIS_IMAGE
from napari_atomicity.gui.docks.analyse import Analyse
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.browse.image_list import row_of
from napari_atomicity.gui.docks.embedding.dock import Embedding
from napari_atomicity.gui.docks.movie.dock import NOT_ANALYSED, Movie
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.docks.report import Report, summary
from napari_atomicity.gui.panels.dock_windows import open_docks
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.tasks import running
from napari_atomicity.gui.viewer import binding
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import calibration, compat
from napari_atomicity.gui.viewer.layers.micrographs import is_micrograph
from napari_atomicity.gui.viewer.layers.picking import is_in_view
from napari_atomicity.gui.viewer.models import model_folder
from napari_atomicity.gui.workbench.layout import WorkflowSteps
from napari_atomicity.io.images import sha256_of
from napari_atomicity.io.readers.lazy_micrograph import PIXELS
from napari_atomicity.pipeline.analysis import analyse as analyse_image, detect_clusters
from napari_atomicity.pipeline.run_request import RunRequest
from napari_atomicity.project import Project, ProjectImage, open_any
from napari_atomicity.state.window_state import WindowState


def write(path, seed=0, flip=False):
    pixels = blobs(seed)[:: -1 if flip else 1].astype(np.uint16)
    per_nm = 1 / PIXEL_NM
    tifffile.imwrite(
        path, pixels, imagej=True, resolution=(per_nm, per_nm), metadata={"unit": "nm"}
    )


@pytest.fixture
def morning(tmp_path):
    """Three images and a file that is none."""
    folder = tmp_path / "morning"
    folder.mkdir()
    for i, name in enumerate(("a.tif", "b.tif", "c.tif")):
        write(folder / name, i, flip=i == 1)
    (folder / "broken.tif").write_bytes(b"II*\x00rubbish")
    return folder


@pytest.fixture
def opened(browse, viewer, morning, qtbot, settle, monkeypatch):
    """The folder, opened by the button."""
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(morning))
    qtbot.mouseClick(browse.open_button, LEFT)
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    updated(browse)
    return browse


def row_words(dock) -> dict[str, str]:
    updated(dock)
    return {row.name: row.words.partition(", model")[0] for row in dock.model.rows}


def click_row(dock, row: int) -> None:
    place = dock.list.visualRect(dock.model.index(row)).center()
    QTest.mouseClick(dock.list.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, place)


def test_a_folder_is_opened_with_states_and_thumbnails(opened, morning, viewer):
    state = opened.state
    assert state.images == ["a.tif", "b.tif", "broken.tif", "c.tif"]
    words = row_words(opened)
    assert (words["a.tif"], words["c.tif"]) == ("new", "new")
    assert "can't be read" in words["broken.tif"]
    rows = {row.name: row for row in opened.model.rows}
    assert rows["a.tif"].size == "0.05 nm/px, 240 × 320"
    assert rows["a.tif"].thumbnail is not None
    # The first one is looked at, calibrated.
    assert state.current == "a.tif"
    layer = binding_of(viewer).canvas.source_layer("a.tif")
    np.testing.assert_array_equal(layer.data, blobs(0).astype(np.uint16))
    np.testing.assert_allclose(layer.scale, PIXEL_NM)


def picture_of_row(dock, row: int, state=QStyle.StateFlag.State_Enabled, width=200) -> QImage:
    option = QStyleOptionViewItem()
    dock.list.initViewItemOption(option)
    option.rect = QRect(0, 0, width, 100)
    option.widget = dock.list
    option.state |= state
    image = QImage(width, 100, QImage.Format.Format_RGB32)
    image.fill(0)
    painter = QPainter(image)
    dock.list.itemDelegate().paint(painter, option, dock.model.index(row))
    painter.end()
    return image


def test_the_image_follows_the_row_that_arrow_keys_select(opened, viewer, settle):
    click_row(opened, 0)
    for key, image in ((Qt.Key.Key_Down, "b.tif"), (Qt.Key.Key_End, "c.tif")):
        QTest.keyClick(opened.list, key)
        settle(viewer)
        row = opened.model.image_at(opened.list.currentIndex().row())
        assert (opened.state.current, row) == (image, image)
        assert opened.binding.current_image.displayed == image
    click_row(opened, 0)
    for key, image in ((Qt.Key.Key_PageDown, "b.tif"), (Qt.Key.Key_PageUp, "a.tif")):
        QTest.keyClick(opened.list, key)
        settle(viewer)
        assert opened.state.current == image  # one further, however many rows are in sight


def test_only_the_selected_row_is_lit(opened, viewer, settle):
    flags = QStyle.StateFlag
    enabled = picture_of_row(opened, 1)
    assert picture_of_row(opened, 1, flags.State_MouseOver) == enabled
    assert picture_of_row(opened, 1, flags.State_Selected) != enabled


def test_long_names_that_differ_at_the_end_are_told_apart(opened, viewer, settle):
    names = [f"2026-05-01 STEM HAADF 300 kV Pt on carbon {i}.tif" for i in (1, 2)]
    for name in names:
        opened.state.add_image(Micrograph(blobs(0), PIXEL_NM, name))
    settle(viewer)
    first, second = (picture_of_row(opened, opened.model.row_of(name)) for name in names)
    assert first != second


def test_the_strip_of_a_row_shows_clusters_of_no_class_too(opened, viewer, settle):
    """The shares in words stay those of the classes, as in Ratios."""

    def colours_of_strip() -> set[str]:
        settle(viewer)
        picture = picture_of_row(opened, 0, width=400)
        pixels = (picture.pixelColor(x, y) for x in range(400) for y in range(60, 100))
        return {colour.name() for colour in pixels}

    state = opened.state
    state.clusters.set_analysis(made_up(12, "a.tif"))
    before = updated(opened).model.rows[0]
    assert colours_of_strip().isdisjoint({AGGREGATE_COLOUR, UNKNOWN_COLOUR})
    state.clusters.relabel([("a.tif", i) for i in (1, 6)], "aggregate")
    state.clusters.relabel([("a.tif", 2)], "unknown")
    assert colours_of_strip() >= {AGGREGATE_COLOUR, UNKNOWN_COLOUR}
    row = opened.model.rows[0]
    assert sum(share for _, share in row.shares) == pytest.approx(1)
    assert "aggregate" not in row.tooltip and row.tooltip != before.tooltip


def test_fractions_that_are_withheld_are_not_in_a_row(opened):
    found = made_up(12, "a.tif")
    found.parameters["session"] = {"misfit": "peaks", "peaks_atoms": [25.0, 48.0]}
    opened.state.clusters.set_analysis(found)
    tooltip = updated(opened).model.rows[0].tooltip
    assert "(fractions withheld: Ratios)" in tooltip and " %" not in tooltip


def test_the_image_appears_before_the_docks_are_filled(
    browse, viewer, morning, qtbot, settle, monkeypatch
):
    monkeypatch.setattr(binding, "DOCKS_WAIT_MS", 60_000)  # also on a busy machine
    filled = []
    image_is_there = binding_of(viewer).current_image.layers_ready
    image_is_there.connect(lambda _: filled.append(len(browse.model.rows)))
    browse.open(str(morning))
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    assert filled == [0]
    assert len(browse.model.rows) == 4


def test_the_docks_are_filled_if_no_image_can_be_read(
    browse, viewer, tmp_path, qtbot, settle, errors
):
    (tmp_path / "broken.tif").write_bytes(b"II*\x00rubbish")
    browse.open(str(tmp_path))
    qtbot.waitUntil(lambda: len(browse.model.rows) == 1, timeout=10_000)
    assert "can't be read" in row_words(browse)["broken.tif"]


def contents(folder):
    """Every file in a folder with its content and time of change."""
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


def test_opening_a_folder_writes_nothing_until_the_first_change(
    browse, viewer, morning, qtbot, settle
):
    before = contents(morning)
    browse.open(str(morning))
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    qtbot.waitUntil(lambda: browse.state.current is not None)
    browse.projects.save_view()
    browse.projects.open(str(morning))  # it is open already
    settle(viewer)
    assert contents(morning) == before
    browse.projects.leave(stops_work=True)
    assert contents(morning) == before


def test_the_first_change_creates_the_project_with_all_that_was_read(
    opened, viewer, morning, qtbot, settle
):
    path = morning / "morning.atomicity"
    assert not path.exists()
    opened.state.sessions.group(["a.tif"], "morning")
    assert path.is_file() and not opened.state.unsaved
    opened.projects.leave(stops_work=True)
    with Project(path) as project:
        assert project.names == ["a.tif", "b.tif", "broken.tif", "c.tif"]
        assert project.images()[0].thumbnail
        assert project.image_files.session_entries()["a.tif"].session == "morning"


def test_the_reason_of_a_failure_is_whole_and_does_not_repeat_the_name(opened, qtbot, tmp_path):
    words = row_words(opened)["broken.tif"]
    assert words.startswith("it can't be read") and words.endswith("copy or export it again.")
    view = opened.list
    failed, other = (
        view.visualRect(opened.model.index(opened.model.row_of(name)))
        for name in ("broken.tif", "a.tif")
    )
    metrics = view.fontMetrics()
    room = QRect(0, 0, view.viewport().width() - 8, 10_000)
    needed = metrics.boundingRect(room, Qt.TextFlag.TextWordWrap, words)
    assert failed.height() >= metrics.height() + needed.height() > other.height() // 2
    assert needed.width() <= failed.width()
    opened.window().setUpdatesEnabled(True)
    view.scrollToBottom()
    QApplication.processEvents()
    opened.grab().save(str(tmp_path / "browse.png"))


def test_where_all_new_images_fail_the_report_knows_it(opened, morning, viewer, qtbot, settle):
    def analyse_all() -> None:
        qtbot.mouseClick(updated(opened).analyse_button, LEFT)
        qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
        settle(viewer)

    analyse_all()
    coarse = morning / "coarse.tif"
    size = (1 / 9.0,) * 2  # 9 nm per pixel: no cluster can be resolved
    tifffile.imwrite(coarse, blobs(0), imagej=True, resolution=size, metadata={"unit": "nm"})
    opened.projects.add([str(coarse)])
    settle(viewer)
    report = Report(viewer)
    qtbot.addWidget(report)
    report.show()
    assert "1 image not analysed yet" in updated(report).words.text()
    analyse_all()
    assert "coarse.tif" in opened.state.not_analysed()[1]
    assert updated(report).words.text() == summary(opened.state)
    assert "not analysed yet" not in report.words.text()


def test_a_damaged_file_is_not_tried_again_after_blind_mode(opened, viewer, qtbot, settle):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    form = workbench_bar(viewer).annotator
    for _ in range(2):
        updated(form).blind.click()
    assert not opened.state.blind
    assert updated(opened).analyse_button.text() == "Analyse all again"


def test_a_damaged_file_that_was_replaced_has_its_pixel_size_once_it_is_analysed(
    opened, morning, viewer, qtbot, settle
):
    opened.analyse_all()
    qtbot.waitUntil(lambda: "broken.tif" in opened.batch.failed, timeout=30_000)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    state = opened.state
    write(morning / "broken.tif", 7)
    opened.batch.start(["broken.tif"], RunRequest())
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert state.micrograph("broken.tif").pixel_size_nm == pytest.approx(PIXEL_NM)
    assert not state.pixel_sizes.has_changed("broken.tif")
    # By which another file in its place is refused.
    stored = next(i for i in state.project.images() if i.name == "broken.tif")
    assert stored.sha256 == sha256_of(morning / "broken.tif")
    assert "pixel size" not in row_words(opened)["broken.tif"]
    row = opened.model.row_of("broken.tif")
    qtbot.waitUntil(lambda: opened.model.rows[row].thumbnail is not None)
    qtbot.waitUntil(lambda: not opened.model.rows[row].thumbnail.isNull())


def test_a_damaged_file_that_was_replaced_is_no_error_once_it_is_shown(
    opened, morning, viewer, qtbot, settle
):
    qtbot.waitUntil(lambda: "incomplete" in row_words(updated(opened))["broken.tif"])
    settle(viewer)
    write(morning / "broken.tif", 7)
    click_row(opened, opened.model.row_of("broken.tif"))
    qtbot.waitUntil(lambda: row_words(updated(opened))["broken.tif"] == "new", timeout=10_000)
    assert opened.state.current == "broken.tif"
    row = opened.model.row_of("broken.tif")
    assert not opened.model.rows[row].thumbnail.isNull()


def test_pieces_of_an_image_that_is_not_shown_are_classified_when_the_project_is_opened(
    browse, viewer, morning, qtbot, settle
):
    """As after a split in a window that was closed before the model had seen the pieces."""
    earlier = WindowState()
    with open_any(morning).project as project:
        earlier.open_project(project, project.load_all())
        for name in ("a.tif", "c.tif"):
            found = analyse_image(load(morning / name))
            earlier.clusters.set_analysis(found)
            piece = detect_clusters(load(morning / name)).table.iloc[[0]]  # as measured
            outline = found.outlines[:1]
            new = earlier.clusters.replace(name, piece["cluster_id"], piece, outline, "split")
            assert earlier.table(name).set_index("cluster_id")["label"][new[0]] == ""
        project.flush()
    browse.open(str(morning))
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    assert browse.state.current != "c.tif"
    for name in ("a.tif", "c.tif"):
        assert (browse.state.table(name)["label_predicted"] != "").all()


def test_pieces_without_a_model_are_classified_once_it_is_there(
    browse, viewer, morning, settle, errors, monkeypatch
):
    state = browse.state
    found = analyse_image(load(morning / "a.tif"))
    state.clusters.set_analysis(found)
    state.add_image(load(morning / "c.tif"))
    state.current = "c.tif"
    settle(viewer)
    lost = ModelError("the model is not available")

    def unavailable(*_: object):
        raise lost

    with monkeypatch.context() as without:
        without.setattr("napari_atomicity.gui.viewer.overlays._classifier", unavailable)
        piece = detect_clusters(load(morning / "a.tif")).table.iloc[[0]]
        state.clusters.replace("a.tif", piece["cluster_id"], piece, found.outlines[:1], "split")
        settle(viewer)
        n_errors = len(errors)
        model_folder.changed.emit()  # another model
        settle(viewer)
        assert (state.table("a.tif")["label_predicted"] == "").sum() == 1
        assert len(errors) == n_errors
    model_folder.changed.emit()
    settle(viewer)
    assert (state.table("a.tif")["label_predicted"] != "").all()


def test_another_folder_is_opened_blind_in_a_blind_window(opened, viewer, tmp_path, qtbot, settle):
    other = tmp_path / "other"
    other.mkdir()
    write(other / "z.tif", 5)
    state, earlier = opened.state, WindowState()
    state.annotator = earlier.annotator = "Ben"
    with open_any(other).project as project:
        earlier.open_project(project, project.load_all())
        found = analyse_image(load(other / "z.tif"))
        earlier.clusters.set_analysis(found)
        earlier.set_blind(True)
        earlier.clusters.relabel([("z.tif", 1)], "Pt30")
    form = updated(workbench_bar(viewer).annotator)
    form.blind.click()
    shown = []

    def note(*_):
        if state.images == ["z.tif"]:
            shown.append((state.blind, set(state.table()["label_predicted"]) - {""}))

    for signal in (state.project_changed, state.images_changed, state.changed):
        signal.connect(note)
    opened.open(str(other))
    qtbot.waitUntil(lambda: state.images == ["z.tif"], timeout=10_000)
    settle(viewer)
    labels = state.table("z.tif").set_index("cluster_id")["label"]
    assert len(labels) == len(found.table) and labels[1] == "Pt30" and not any(labels.drop(1))
    assert shown and all(blind and not predicted for blind, predicted in shown)
    assert updated(form).blind.isChecked()
    # Without Blind all of the project is there.
    form.blind.click()
    assert not state.blind and set(state.table()["label_predicted"]) - {""}


def test_a_pixel_size_that_was_just_read_is_shown_before_all_files_are_read(tmp_path):
    state = WindowState()
    path = tmp_path / "a.tif"
    write(path)
    state.add_image(Micrograph(np.zeros((8, 8)), name="a.tif", path=path))
    known = ProjectImage("a.tif", path, shape=(8, 8), pixel_size_nm=0.05)
    row = row_of(state, known, "a.tif")
    assert row.words == "new" and row.size == "0.05 nm/px, 8 × 8"
    assert row_of(state, replace(known, pixel_size_nm=None), "a.tif").words == "needs a pixel size"


def test_images_without_a_thumbnail_are_read_when_the_project_is_opened(
    opened, viewer, qtbot, settle
):
    """A window that is closed while it saves leaves images without thumbnails."""
    project = opened.state.project
    path = project.path
    opened.state.pixel_sizes.set("a.tif", 0.2)  # the first edit makes the file
    assert all(image.thumbnail for image in project.images() if image.name != "broken.tif")
    opened.projects.leave(stops_work=True)
    qtbot.waitUntil(lambda: not path.with_name(f"{path.name}-wal").exists())
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE images SET thumbnail = NULL WHERE name != 'broken.tif'")
    opened.projects.open(path)
    qtbot.waitUntil(
        lambda: (
            opened.state.project is not None
            and sum(bool(image.thumbnail) for image in opened.state.project.images()) == 3
        )
    )


def test_each_image_that_cannot_be_read_is_named(browse, viewer, morning, qtbot, settle):
    (morning / "cut.tif").write_bytes(b"II*\x00rubbish")
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    browse.open(str(morning))
    qtbot.waitUntil(lambda: len(browse.model.rows) == 5, timeout=10_000)
    for name in ("broken.tif", "cut.tif", "broken.tif"):
        click_row(browse, browse.model.row_of(name))
        settle(viewer)
        updated(analyse)
        assert analyse.result.text().startswith(f"{name} is being read, or cannot be")


def test_an_image_that_cannot_be_read_leaves_an_empty_canvas(opened, viewer, settle):
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    for name in ("a.tif", "broken.tif", "b.tif", "broken.tif", "b.tif", "a.tif"):
        click_row(opened, opened.model.row_of(name))
        settle(viewer)
        assert opened.state.current == name
        micrographs = [layer for layer in viewer.layers if is_micrograph(layer) and layer.visible]
        if name == "broken.tif":
            assert micrographs == [] and not analyse.button.isEnabled()
            updated(analyse)
            assert analyse.result.text().startswith("broken.tif is being read, or cannot be")
            assert "broken.tif" in opened.state.status.message
            assert analyse.image_form.images.layer is None
            binding_of(viewer).canvas.layers_changed.emit()
            assert analyse.image_form.images.layer is None
            continue
        assert analyse.button.isEnabled() and "broken.tif" not in opened.state.status.message
        assert analyse.image_form.images.currentText() == micrographs[0].name
        (micrograph,) = micrographs
        pixels = tifffile.imread(opened.state.micrograph(name).path)
        np.testing.assert_array_equal(np.asarray(micrograph.data), pixels)


def write_film(path: Path, n_frames: int) -> str:
    pixels = np.stack([blobs(4 + i) for i in range(n_frames)]).astype(np.uint16)
    resolution, axes = (1 / PIXEL_NM, 1 / PIXEL_NM), {"unit": "nm", "axes": "TYX"}
    tifffile.imwrite(path, pixels, imagej=True, resolution=resolution, metadata=axes)
    return path.name


@pytest.fixture
def film(morning):
    """A stack beside the images."""
    return write_film(morning / "film.tif", 2)


@pytest.fixture
def longer_film(morning):
    return write_film(morning / "longer.tif", 4)


def test_between_images_and_stacks_all_docks_follow(film, opened, viewer, settle):
    movie = Movie(viewer)
    viewer.window.add_dock_widget(movie, name="Movie")
    for name in ("a.tif", film, "b.tif", film, "a.tif"):
        click_row(opened, opened.model.row_of(name))
        settle(viewer)
        assert opened.state.current == name
        assert opened.binding.current_image.displayed == name
        assert opened.list.currentIndex().row() == opened.model.row_of(name)
        updated(movie)
        assert (movie.message.text() == NOT_ANALYSED) is (name == film)


def test_the_slider_has_the_frames_of_the_shown_stack(film, longer_film, opened, viewer, settle):
    """Also if layers that are not visible had more frames before."""
    state = opened.state
    for name in (longer_film, film):
        state.clusters.set_analysis(analyse_image(state.micrograph(name)))
    for name, n_frames in ((longer_film, 4), (film, 2), (longer_film, 4)):
        click_row(opened, opened.model.row_of(name))
        settle(viewer)
        assert any(not layer.visible for layer in viewer.layers)
        assert viewer.dims.nsteps[0] == n_frames


def test_choosing_another_image_ends_the_selection_in_the_image_before(opened, viewer, settle):
    state = opened.state
    for name in ("a.tif", "b.tif"):
        state.clusters.set_analysis(analyse_image(state.micrograph(name)))
    settle(viewer)
    for choose in (lambda: click_row(opened, 1), opened.next):
        click_row(opened, 0)
        settle(viewer)
        state.select([("a.tif", 1), ("a.tif", 2), ("b.tif", 3)])
        choose()
        settle(viewer)
        assert state.current == "b.tif" and state.selection == {("b.tif", 3)}


def test_analyse_all_works_through_the_folder_the_open_one_first(
    opened, viewer, qtbot, settle, monkeypatch
):
    order = []
    opened.state.changed.connect(order.extend)
    click_row(opened, 3)
    settle(viewer)
    assert opened.state.current == "c.tif"
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert list(dict.fromkeys(order)) == ["c.tif", "a.tif", "b.tif"]
    words = row_words(opened)
    assert {words[n] for n in ("a.tif", "b.tif", "c.tif")} == {"12 clusters, reviewed 0"}
    assert "can't be read" in words["broken.tif"]
    assert opened.model.rows[0].shares
    assert len(binding_of(viewer).canvas.layer("c.tif", "clusters").data) == 12
    assert tuple(opened.state.history) == ()  # nobody wants to undo that sixty times
    told = [r.message for r in notification_manager.records if "3 of 4 images" in r.message][-1]
    assert "broken.tif" in told  # and why
    (run,) = opened.state.project.runs()
    assert (run["what"], run["images"], run["failed"]) == ("analyse all", 4, 1)
    assert run["detection"]["threshold"] > 0
    # Another model may have other classes before the rows are described again.
    monkeypatch.setattr(opened.state, "classes", lambda: ["Pt30"])
    assert picture_of_row(opened, 0, width=400) != picture_of_row(opened, 3, width=400)
    # An image that can't be read is no reason to analyse again.
    steps = WorkflowSteps(binding_of(viewer))
    steps.refresh()
    assert steps.buttons["Review"].font().bold() and not steps.buttons["Analyse"].font().bold()
    assert "3 of 4 images are analysed (1 failed)" in steps.buttons["Analyse"].toolTip()
    steps.deleteLater()


def test_messages_go_by_themselves_also_if_another_one_follows(
    opened, viewer, qtbot, settle, monkeypatch
):
    """Also in a window that is not the active one, where napari lets them stay over the image."""
    monkeypatch.setattr(questions, "SHOWN_MS", 300)
    monkeypatch.setattr(questions.QCursor, "pos", lambda: QPoint(-1, -1))  # not over them
    settle(viewer)
    others = set(NapariQtNotification._instances)  # of earlier tests
    questions.show_info("an earlier message")
    qtbot.mouseClick(opened.analyse_button, LEFT)

    def are_shown() -> list[bool]:
        own = [shown for shown in NapariQtNotification._instances if shown not in others]
        texts = [shown.message.text() for shown in own]
        return [any(x in y for y in texts) for x in ("an earlier message", "3 of 4 images")]

    qtbot.waitUntil(lambda: are_shown()[1], timeout=30_000)
    settle(viewer)
    qtbot.waitUntil(lambda: are_shown() == [False, False], timeout=10_000)


def test_a_long_message_is_shown_whole_and_goes_too(viewer, qtbot, settle, monkeypatch):
    monkeypatch.setattr(questions, "WARNING_SHOWN_MS", 600)
    monkeypatch.setattr(questions.QCursor, "pos", lambda: QPoint(-1, -1))
    settle(viewer)
    before = set(NapariQtNotification._instances)
    questions.show_error("The image field.tif can not be read: it ends too early. " * 6)
    (shown,) = set(NapariQtNotification._instances) - before
    qtbot.waitUntil(lambda: shown.height() >= shown.sizeHint().height(), timeout=5_000)
    qtbot.waitUntil(lambda: shown not in NapariQtNotification._instances, timeout=10_000)


TOO_FEW = {"answer": "fits", "misfit": "", "size_error": 0.0, "size_error_sd": 0.07}
SESSION = TOO_FEW | {"peaks_atoms": [19, 41]}


@pytest.mark.parametrize(
    ("session", "said"),
    [
        (SESSION, "The sizes of this session agree"),
        (TOO_FEW, "Too few clusters tell"),
        (SESSION | {"relies_on_sizes": True}, "The images of this session have few sizes each"),
        (SESSION | {"answer": "cannot tell", "peaks_atoms": [25, 48]}, "This session may not"),
        ({"misfit": "others", "peaks_atoms": [25, 48]}, "This session does not fit"),
    ],
)
def test_it_is_said_whether_the_session_fits_the_classes(
    opened, viewer, qtbot, settle, session, said
):
    settle(viewer)
    assert opened.answer.isHidden()
    opened.state.clusters.set_analysis(made_up(6, "a.tif"))
    opened.state.clusters.set_session("a.tif", session)
    opened.state.current = "a.tif"
    qtbot.waitUntil(opened.answer.isVisible)
    assert opened.answer.text().startswith(said) and said in opened.answer.toolTip()
    colours = {"fits": "#009e73", "cannot tell": "#e69f00"}
    colour = colours.get(session.get("answer"), "#d55e00")
    if session.get("relies_on_sizes") or session is TOO_FEW:
        colour = "#56b4e9"
    assert colour in opened.answer.styleSheet()
    # Clusters that differ from those of the training, as with a wrong pixel size, are no such fit.
    analysis = opened.state.analysis("a.tif")
    table = analysis.table.assign(conditions_differ=True)
    opened.state.clusters.set_analysis(replace(analysis, table=table))
    fits = not session.get("misfit") and session.get("answer") != "cannot tell"
    differs = "Conditions differ from the training"
    qtbot.waitUntil(lambda: opened.answer.text().startswith(differs if fits else said))
    opened.state.history.undo()
    # Nor are clusters of no class, of which a session that fits says nothing.
    opened.state.clusters.relabel([("a.tif", 1)], "unknown")
    unknown = "1 of 6 clusters belongs to no class of the model"
    agrees = said.startswith("The sizes of this session agree")
    qtbot.waitUntil(lambda: opened.answer.text().startswith(unknown if agrees else said))
    assert "#009e73" not in opened.answer.styleSheet()
    opened.state.history.undo()
    # An image whose own scale is doubtful does not fit for that, whatever the others say.
    for doubtful, words in (
        ({"certainty_of_scale": 0.3}, "The intensity scale is uncertain"),
        ({"session": session | {"unlike_the_others": 0.9}}, "The intensity scale is unlike"),
    ):
        of_image = replace(analysis, parameters={**analysis.parameters, **doubtful})
        opened.state.clusters.set_analysis(of_image)
        qtbot.waitUntil(lambda words=words: opened.answer.text().startswith(words))
        assert "#009e73" not in opened.answer.styleSheet()
    opened.state.clusters.set_analysis(analysis)
    # Nor one whose clusters were measured with another pixel size than it has now.
    opened.state.pixel_sizes.set("a.tif", 0.123)
    qtbot.waitUntil(lambda: "The pixel size was changed" in opened.answer.text())
    assert "#009e73" not in opened.answer.styleSheet()
    opened.state.history.undo()
    opened.state.current = "b.tif"
    qtbot.waitUntil(opened.answer.isHidden)
    # Labels of two models come first.
    other = made_up(6, "b.tif")
    opened.state.clusters.set_analysis(replace(other, parameters={"model": {"model_id": "other"}}))
    opened.state.current = "a.tif"
    qtbot.waitUntil(lambda: "Labels are those of different models" in opened.answer.text())
    assert "#009e73" not in opened.answer.styleSheet()


@pytest.fixture
def elsewhere(monkeypatch, model):
    """Other processes, whose work is done in this one; where they were asked for."""
    from napari_atomicity.pipeline.runs import batch, dask_workers as cluster
    from napari_atomicity.pipeline.runs.one_image import analyse_one
    from napari_atomicity.pipeline.runs.sent_model import SentModel

    asked = []

    @contextmanager
    def workers(model, **where):
        asked.append(where)
        if where["scheduler"] == "tcp://nobody:1":
            raise AtomicityError("no scheduler answers at tcp://nobody:1")
        yield model

    def analyse_on(workers, items, request, stop):
        for item in items:
            outcome, analysis, _ = analyse_one(item, model, request, stop=stop)
            yield item, outcome, analysis

    monkeypatch.setattr(cluster, "Workers", workers)
    monkeypatch.setattr(SentModel, "of", lambda *_: "a model")
    monkeypatch.setattr(batch, "analyse_on", analyse_on)
    return asked


def test_analyse_all_can_be_done_by_other_processes(opened, viewer, qtbot, settle, elsewhere):
    opened.place.setText("2")
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    (asked,) = elsewhere
    assert (asked["workers"], asked["scheduler"], asked["most"]) == (2, None, 4)
    words = row_words(opened)
    assert {words[n] for n in ("a.tif", "b.tif", "c.tif")} == {"12 clusters, reviewed 0"}
    assert "can't be read" in words["broken.tif"]
    table = opened.state.table()
    assert np.isfinite(table["umap_1"]).all()
    # As it would have been here, to the last bit.
    here = analyse_image(
        load(opened.state.micrograph("a.tif").path, name="a.tif"), umap=False
    ).table
    there = table[table["image"] == "a.tif"].reset_index(drop=True)
    columns = [c for c in here.columns if not c.startswith("umap")]
    pd.testing.assert_frame_equal(there[columns], here[columns])
    # They are in the project, and their pixels are read from their files.
    assert len(opened.state.project.load("c.tif").analysis.table) == 12


@pytest.mark.parametrize("place", ["", "2"])
def test_analyse_all_averages_if_asked(opened, viewer, qtbot, settle, elsewhere, place):
    opened.form.controls["symmetries"].setChecked(True)
    opened.place.setText(place)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    state = opened.state
    assert all(state.analysis(image).symmetries for image in ("a.tif", "b.tif", "c.tif"))
    assert len(elsewhere) == bool(place)
    assert state.project.runs()[0]["symmetries"]


def test_a_scheduler_that_is_not_there_is_said(opened, qtbot, elsewhere, errors):
    opened.place.setText("tcp://nobody:1")
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    assert "no scheduler answers" in errors[0]
    assert opened.state.table().empty
    qtbot.waitUntil(opened.analyse_button.isEnabled)


def test_an_impossible_number_of_processes_is_refused(opened, qtbot, errors):
    opened.place.setText("100000")
    qtbot.mouseClick(opened.analyse_button, LEFT)
    assert "100000 processes" in errors[0]
    assert not opened.batch.running


def test_a_pixel_size_given_by_hand_is_used_here(opened, viewer, qtbot, settle, elsewhere):
    state = opened.state
    state.add_image(state.micrograph("b.tif").with_pixel_size(0.06))  # as typing it does
    opened.place.setText("2")
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert state.analysis("b.tif").micrograph.pixel_size_nm == 0.06
    assert state.analysis("a.tif").micrograph.pixel_size_nm == PIXEL_NM


def test_analyse_all_takes_images_whose_pixel_size_has_changed_since(opened, viewer, qtbot, settle):
    state = opened.state
    opened.analyse_all()
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    state.pixel_sizes.set("b.tif", 0.06)
    updated(opened)
    opened.show_status()
    assert opened.analyse_button.text() == "Analyse all (1)"
    assert state.not_analysed()[0] == ["b.tif"]
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert state.analysis("b.tif").micrograph.pixel_size_nm == 0.06
    assert state.not_analysed()[0] == []


def test_undo_of_analyse_all_is_named_by_the_images_that_it_takes_back(
    opened, viewer, qtbot, settle
):
    state = opened.state
    state.clusters.set_analysis(detect_clusters(state.micrograph("b.tif")), undoable=False)
    opened.analyse_all()
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert [step.description for step in state.history] == ["analyse 1 image again"]
    binding_of(viewer).label_mode.undo()
    settle(viewer)
    assert viewer.status == "Undone: analyse 1 image again"
    assert [image for image in state.images if not len(state.table(image))] == ["broken.tif"]
    assert (state.table("b.tif")["label_predicted"] == "").all()


def test_analyse_all_classifies_images_whose_clusters_were_only_detected(
    opened, viewer, qtbot, settle
):
    state = opened.state
    state.clusters.set_analysis(detect_clusters(state.micrograph("b.tif")))
    updated(opened)
    opened.show_status()
    assert "not classified" in row_words(opened)["b.tif"]
    assert opened.analyse_button.text() == f"Analyse all ({len(state.images)})"
    opened.analyse_all()
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert (state.table("b.tif")["label_predicted"] != "").all()
    assert state.not_analysed()[0] == []
    assert "not classified" not in row_words(opened)["b.tif"]


def test_an_image_of_a_project_hides_one_that_was_opened_by_hand(
    browse, viewer, morning, qtbot, settle
):
    there = {"scale": (PIXEL_NM, PIXEL_NM), "units": ("nm", "nm")}
    by_hand = viewer.add_image(np.zeros((400, 400)), name="by hand", **there)
    away = viewer.add_image(np.zeros((9, 9)), name="away", translate=(900, 900), **there)
    browse.open(str(morning))
    qtbot.waitUntil(lambda: "a.tif" in viewer.layers, timeout=10_000)
    settle(viewer)
    assert viewer.layers["a.tif"].visible
    assert not by_hand.visible and away.visible


def test_a_click_shows_an_image_that_one_opened_by_hand_covers(opened, viewer, settle):
    binding = binding_of(viewer)
    displayed, other = binding.state.images[:2]
    for row, image in ((1, other), (1, other), (0, displayed)):  # also the one on show
        by_hand = viewer.add_image(np.zeros((400, 400)), name="by hand")
        assert viewer.layers.selection.active is by_hand
        click_row(opened, row)
        settle(viewer)
        assert binding.state.current == image
        source = binding.canvas.source_layer(image)
        assert source.visible and not by_hand.visible
        assert binding.canvas.image_of(viewer.layers.selection.active) == image
        viewer.layers.remove(by_hand)


def test_a_pixel_size_is_a_step_of_undo(opened, viewer, qtbot, settle, morning):
    state, bound = opened.state, binding_of(viewer)
    click_row(opened, 1)
    settle(viewer)
    dock = Analyse(viewer)
    qtbot.addWidget(dock)
    form = dock.image_form
    form.pixel_size.lineEdit().selectAll()
    QTest.keyClicks(form.pixel_size, "0.06")
    QTest.keyClick(form.pixel_size, Qt.Key.Key_Return)
    (step,) = state.history
    assert "pixel size 0.06 nm" in step.description and step.images == ("b.tif",)
    click_row(opened, 0)
    settle(viewer)
    for change, size_nm in (
        (bound.edits.undo, PIXEL_NM),
        (bound.edits.redo, 0.06),
        (bound.edits.undo, PIXEL_NM),
    ):
        change()
        settle(viewer)
        assert state.current == "b.tif"
        assert state.micrograph("b.tif").pixel_size_nm == pytest.approx(size_nm)
        assert form.pixel_size.value() == pytest.approx(size_nm)
        layer = bound.canvas.source_layer("b.tif")
        assert calibration.pixel_size_nm(layer) == pytest.approx(size_nm)
        assert is_in_view(viewer, layer)
    state.close_project()
    with open_any(morning).project as again:
        assert again.load("b.tif").micrograph.pixel_size_nm == pytest.approx(PIXEL_NM)


@pytest.fixture
def uncalibrated(morning):
    tifffile.imwrite(morning / "d.tif", blobs(6).astype(np.uint16))
    return "d.tif"


def test_an_image_that_got_its_pixel_size_is_analysed_with_the_others(
    uncalibrated, opened, morning, viewer, qtbot, settle
):
    dock = Analyse(viewer)
    qtbot.addWidget(dock)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert "pixel size" in row_words(opened)[uncalibrated]
    assert opened.analyse_button.text() == "Analyse all again"
    click_row(opened, opened.model.row_of(uncalibrated))
    settle(viewer)
    size = dock.image_form.pixel_size
    size.setFocus()
    size.lineEdit().selectAll()
    QTest.keyClicks(size, str(PIXEL_NM))
    QTest.keyClick(size, Qt.Key.Key_Return)
    settle(viewer)
    assert row_words(opened)[uncalibrated] == "new"
    assert opened.analyse_button.text() == "Analyse all (1)"
    opened.state.close_project()
    settle(viewer)
    with open_any(morning).project as again:
        assert not next(i.error for i in again.images() if i.name == uncalibrated)


def test_a_pixel_size_alone_creates_the_project(opened, viewer, qtbot, settle, morning):
    click_row(opened, 1)
    settle(viewer)
    dock = Analyse(viewer)
    qtbot.addWidget(dock)
    assert not list(morning.glob("*.atomicity"))
    form = dock.image_form
    assert form.image == "b.tif"
    form.pixel_size.setFocus()
    form.pixel_size.lineEdit().selectAll()
    QTest.keyClicks(form.pixel_size, "0.06")
    assert not list(morning.glob("*.atomicity"))
    QTest.keyClick(form.pixel_size, Qt.Key.Key_Return)
    assert len(list(morning.glob("*.atomicity"))) == 1
    opened.state.close_project()
    with open_any(morning).project as again:
        sizes = {i.name: i.pixel_size_nm for i in again.images()}
        assert sizes["b.tif"] == again.load("b.tif").micrograph.pixel_size_nm == 0.06
        assert sizes["a.tif"] == PIXEL_NM


def test_analyse_all_can_be_cancelled(opened, viewer, qtbot, settle):
    seen = []

    def stop_at_first(images):
        seen.extend(images)
        QTimer.singleShot(0, workbench_bar(viewer).task.cancel_button.click)

    opened.state.changed.connect(stop_at_first)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert len(set(seen)) <= 2
    qtbot.waitUntil(opened.analyse_button.isEnabled)
    # The signal comes again when the window closes, and the button is gone then.
    opened.state.changed.disconnect(stop_at_first)


def test_from_image_to_image_by_key_on_the_same_layers(opened, viewer, qtbot, settle):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    before = list(viewer.layers)
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyClick(canvas, Qt.Key.Key_PageDown)
    settle(viewer)
    assert opened.state.current == "b.tif"
    assert list(viewer.layers) == before
    assert viewer.layers[0].name == "b.tif"
    assert "b.tif clusters" in viewer.layers
    np.testing.assert_array_equal(viewer.layers["b.tif"].data, blobs(1)[::-1].astype(np.uint16))
    points = binding_of(viewer).canvas.layer("b.tif", "clusters")
    table = opened.state.table("b.tif")
    np.testing.assert_allclose(points.data, table[["y_px", "x_px"]])
    QTest.keyClick(canvas, Qt.Key.Key_PageUp)
    settle(viewer)
    assert opened.state.current == "a.tif"
    qtbot.waitUntil(lambda: not opened.previous_button.isEnabled())
    # An image that can't be read stays in the list, with the reason, and nothing breaks.
    click_row(opened, 2)
    settle(viewer)
    click_row(opened, 0)
    settle(viewer)
    assert viewer.layers[0].name == "a.tif"


def test_undo_goes_to_the_image_that_it_is_about(opened, viewer, qtbot, settle):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    state = opened.state
    state.clusters.relabel([("a.tif", 1), ("c.tif", 2)], "Pt70")
    click_row(opened, 1)
    settle(viewer)
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.keyPress(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settle(viewer)
    QTest.keyRelease(canvas, Qt.Key.Key_Z)
    assert state.current == "a.tif"
    assert [i.row() for i in opened.list.selectedIndexes()] == [0]
    assert (state.table()["label_corrected"] == "").all()
    assert "label 2 clusters Pt70" in viewer.status


def test_a_project_keeps_its_model(opened, morning, qtbot, settle, viewer):
    """Another project must not label with the classes of the one before unnoticed."""
    path = opened.state.project.path
    opened.models.setCurrentIndex(opened.models.findData("pt-raw"))
    opened.state.pixel_sizes.set("a.tif", 0.2)  # the first edit makes the file
    opened.projects.leave(stops_work=True)
    settle(viewer)
    opened.models.setCurrentIndex(opened.models.findData("default"))
    opened.projects.open(path)
    qtbot.waitUntil(lambda: opened.models.model == "pt-raw", timeout=10_000)


def test_reopened_all_is_as_it_was(opened, morning, viewer, qtbot, settle, make_napari_viewer):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    click_row(opened, 1)
    settle(viewer)
    state, binding = opened.state, binding_of(viewer)
    state.clusters.relabel([("b.tif", 3)], "Pt55")
    state.select([("b.tif", 3), ("c.tif", 1)])
    camera = compat.camera(viewer)
    camera.center, camera.zoom = (0.0, 4.0, 5.0), 31.0
    binding.clusters.hidden = frozenset(["Pt19"])
    binding.canvas.layer("b.tif", "class map raw").visible = False
    embedding = Embedding(viewer)
    viewer.window.add_dock_widget(embedding, name="Embedding")
    embedding.colour_combo.setCurrentText("confidence")
    embedding.scatter.view = (1.0, 2.0, 3.0, 4.0)
    table = state.table()
    opened.projects.leave(stops_work=True)
    settle(viewer)
    assert state.images == []
    assert list(viewer.layers) == []

    again = make_napari_viewer(show=True)
    dock = Browse(again)
    again.window.add_dock_widget(dock, name="Browse")
    scatter = Embedding(again)
    again.window.add_dock_widget(scatter, name="Embedding")
    dock.open(str(morning / "morning.atomicity"))
    qtbot.waitUntil(lambda: dock.state.project is not None, timeout=10_000)
    settle(again)
    after = dock.state
    assert after.current == "b.tif"
    assert after.table()["label_corrected"].tolist() == table["label_corrected"].tolist()
    assert after.selection == {("b.tif", 3), ("c.tif", 1)}
    camera = compat.camera(again)
    np.testing.assert_allclose(camera.center[-2:], (4.0, 5.0), atol=1e-6)
    assert camera.zoom == pytest.approx(31.0)
    assert binding_of(again).clusters.hidden == {"Pt19"}
    assert not binding_of(again).canvas.layer("b.tif", "class map raw").visible
    assert row_words(dock)["b.tif"] == "12 clusters, reviewed 1"
    assert scatter.colour_combo.currentText() == "confidence"
    assert scatter.scatter.view == pytest.approx((1.0, 2.0, 3.0, 4.0))
    dock.projects.leave(stops_work=True)
    settle(again)


def test_ratios_in_front_show_all_images_of_a_project_that_is_opened(
    opened, morning, viewer, qtbot, settle
):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    opened.projects.leave(stops_work=True)
    settle(viewer)
    ratios = Ratios(viewer)
    viewer.window.add_dock_widget(ratios, name="Ratios")
    assert ratios.scope_combo.currentText() == THIS_IMAGE
    opened.open(str(morning))
    settle(viewer)
    assert len(opened.state.images) > 1 and ratios.scope_combo.currentText() == ALL_IMAGES
    opened.projects.leave(stops_work=True)


def test_a_project_opens_with_its_image_if_another_layer_was_in_view(
    opened, morning, viewer, settle
):
    binding = binding_of(viewer)
    opened.state.clusters.set_analysis(analyse_image(opened.state.micrograph("a.tif")))
    viewer.add_image(blobs(1), name="other")
    binding.canvas.source_layer("a.tif").visible = False
    viewer.reset_view()
    settle(viewer)
    opened.projects.leave(stops_work=True)
    settle(viewer)
    viewer.layers.clear()
    opened.open(str(morning))
    settle(viewer)
    source = binding.canvas.source_layer(opened.state.current)
    assert source.visible and is_in_view(viewer, source)


def test_the_first_image_fills_the_view_whatever_other_layers_there_are(
    opened, viewer, settle, tmp_path
):
    far = np.array([[0.0, 0.0], [100.0, 100.0]])  # as of the project before
    viewer.add_points(far, units=("nm", "nm"))
    folder = tmp_path / "evening"
    folder.mkdir()
    per_nm = 1 / PIXEL_NM
    tifffile.imwrite(
        folder / "small.tif", blobs(0)[:60, :60].astype(np.uint16), imagej=True,
        resolution=(per_nm, per_nm), metadata={"unit": "nm"},
    )  # fmt: skip
    opened.open(str(folder))
    settle(viewer)
    source = binding_of(viewer).canvas.source_layer("small.tif")
    low, high = source.extent.world[:, -2:]
    camera, size = compat.camera(viewer), np.array(compat.canvas_size(viewer))
    assert ((high - low) * camera.zoom / size).max() > 0.7
    half = size / (2 * camera.zoom)
    centre = np.array(camera.center[-2:])
    assert (centre - half <= low).all() and (high <= centre + half).all()


def test_an_image_that_was_fitted_is_fitted_to_the_canvas_of_its_next_visit(
    opened, morning, viewer, settle, qtbot
):
    window = viewer.window._qt_window
    window.resize(900, 500)
    click_row(opened, 0)
    settle(viewer)
    camera, canvas = compat.camera(viewer), binding_of(viewer).canvas
    canvas.view.fit(canvas.source_layer("a.tif"))
    click_row(opened, 1)
    settle(viewer)
    camera.zoom *= 3  # by hand: this view is kept
    zoomed, before = camera.zoom, min(compat.canvas_size(viewer))
    window.resize(1500, 1000)
    qtbot.waitUntil(lambda: min(compat.canvas_size(viewer)) > before + 200)
    click_row(opened, 0)
    settle(viewer)
    fitted = camera.zoom
    canvas.view.fit(canvas.source_layer("a.tif"))
    assert fitted == pytest.approx(camera.zoom)
    click_row(opened, 1)
    settle(viewer)
    assert camera.zoom == pytest.approx(zoomed)


def test_a_movie_is_shown_at_the_frame_of_the_last_visit(opened, viewer, settle, tmp_path):
    folder = tmp_path / "evening"
    folder.mkdir()
    write(folder / "b.tif")
    frames = np.stack([blobs(seed)[:60, :60] for seed in range(6)]).astype(np.uint16)
    tifffile.imwrite(
        folder / "film.tif", frames, imagej=True, resolution=(20, 20),
        metadata={"unit": "nm", "axes": "TYX"},
    )  # fmt: skip
    opened.open(str(folder))
    settle(viewer)
    opened.state.clusters.set_analysis(analyse_image(opened.state.micrograph("b.tif")))
    click_row(opened, 1)
    settle(viewer)
    viewer.dims.set_current_step(0, 4)
    for row in (0, 1):
        click_row(opened, row)
        settle(viewer)
    assert opened.state.current == "film.tif" and viewer.dims.current_step[0] == 4
    opened.projects.leave(stops_work=True)
    settle(viewer)
    opened.open(str(folder))
    settle(viewer)
    assert opened.state.current == "film.tif" and viewer.dims.current_step[0] == 4


def test_the_project_of_a_read_only_folder_is_created_where_one_says(
    browse, viewer, morning, tmp_path, qtbot, settle, errors, monkeypatch
):
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != morning and access(path, mode)
    )
    elsewhere = tmp_path / "elsewhere.atomicity"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(elsewhere), ""))
    browse.open(str(morning))
    qtbot.waitUntil(lambda: browse.state.project is not None, timeout=10_000)
    settle(viewer)
    assert browse.state.project.path == elsewhere and len(browse.state.images) == 4
    assert "can't be created here" in errors[0] and len(errors) == 1


def test_a_second_window_says_that_it_is_one(
    opened, morning, viewer, qtbot, settle, make_napari_viewer
):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    second = make_napari_viewer()
    dock = Browse(second)
    second.window.add_dock_widget(dock, name="Browse")
    dock.open(str(morning))
    qtbot.waitUntil(lambda: dock.state.project is not None, timeout=10_000)
    settle(second)
    assert dock.state.read_only
    dock.refresh_now()  # its window is not shown
    notes = dock.notes
    assert "open in another window, by" in notes.text() and platform.node() in notes.text()
    notes.resize(200, 10)
    notes.setText(notes.text())
    assert notes.minimumHeight() >= notes.heightForWidth(200) > 60  # not cut in a low dock
    assert not dock.analyse_button.isEnabled()
    alone = Analyse(second)
    alone.show()
    alone.update_enabled()
    assert alone.image_form.ready
    buttons = (alone.button, alone.detect.button, alone.classify.button)
    assert not any(button.isEnabled() for button in buttons)
    alone.close()
    binding = binding_of(second)
    qtbot.waitUntil(lambda: binding.canvas.layer("a.tif", "clusters") is not None)
    settle(second)
    points = binding.canvas.layer("a.tif", "clusters")
    points.selected_data = {0}
    points.remove_selected()
    assert len(points.data) == 12  # it is still there, and the person was told
    with pytest.raises(AtomicityError, match="another window"):
        dock.state.clusters.relabel([("a.tif", 1)], "Pt19")
    dock.projects.leave(stops_work=True)
    settle(second)


@pytest.fixture
def afternoon(tmp_path):
    """Another folder of images; one of them has the name of one of the first folder."""
    more = tmp_path / "afternoon"
    more.mkdir()
    write(more / "a.tif", 7)
    write(more / "z.tif", 8)
    return more


def drop(dock, path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    how = (Qt.DropAction.CopyAction, mime, LEFT, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPoint(5, 5), *how)
    QApplication.sendEvent(dock, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(dock, QDropEvent(QPointF(5, 5), *how))


def answer(monkeypatch, text: str) -> list[str]:
    """Click the button of this text in each question; return the texts of the questions."""
    asked = []

    def click(box):
        asked.append(box.text())
        next(b for b in box.buttons() if b.text().replace("&", "") == text).click()

    monkeypatch.setattr(QMessageBox, "exec", click)
    return asked


def test_a_dropped_folder_with_a_project_of_its_own_can_be_opened(
    opened, afternoon, viewer, qtbot, settle, monkeypatch
):
    Project(afternoon / "afternoon.atomicity").close()
    asked = answer(monkeypatch, "Open folder")
    before = opened.state.project.path
    drop(opened, afternoon)
    qtbot.waitUntil(lambda: opened.state.images == ["a.tif", "z.tif"], timeout=10_000)
    settle(viewer)
    assert opened.state.project.path == afternoon / "afternoon.atomicity"
    assert len(asked) == 1 and "its own project" in asked[0]
    assert not before.exists()  # nothing was changed in it


def test_nothing_happens_to_a_dropped_folder_if_cancelled(opened, afternoon, monkeypatch):
    answer(monkeypatch, "Cancel")
    drop(opened, afternoon)
    assert len(opened.state.images) == 4 and not running(opened.state, "add images")


def test_a_folder_that_napari_opens_does_not_replace_the_project_without_a_question(
    opened, afternoon, viewer, qtbot, settle, monkeypatch
):
    asked = answer(monkeypatch, "Cancel")
    viewer.open(str(afternoon), plugin="napari-atomicity")
    qtbot.waitUntil(lambda: len(asked) == 1, timeout=10_000)
    settle(viewer)
    assert len(opened.state.images) == 4 and "morning" in asked[0]


def test_copies_of_images_are_not_added(
    opened, morning, afternoon, viewer, qtbot, settle, monkeypatch
):
    shutil.copy(morning / "b.tif", afternoon / "copy.tif")
    answer(monkeypatch, "Add images")
    drop(opened, afternoon)
    qtbot.waitUntil(lambda: len(opened.state.images) == 6, timeout=10_000)
    settle(viewer)
    assert "copy.tif" not in opened.state.images


def test_a_folder_is_opened_in_the_window_that_was_active_last(
    make_napari_viewer, morning, model, qtbot, settle
):
    first, second = make_napari_viewer(), make_napari_viewer()
    main_window = first.window._qt_window
    QApplication.sendEvent(main_window, QEvent(QEvent.Type.WindowActivate))
    first.open(str(morning), plugin="napari-atomicity")
    qtbot.waitUntil(lambda: binding_of(first).state.project is not None, timeout=20_000)
    settle(first)
    assert not len(second.layers)
    binding_of(first).projects.leave(stops_work=True)
    settle(first)


def test_images_are_dropped_into_a_project(opened, afternoon, viewer, qtbot, settle, monkeypatch):
    answer(monkeypatch, "Add images")
    drop(opened, afternoon)
    qtbot.waitUntil(lambda: len(opened.state.images) == 6, timeout=10_000)
    settle(viewer)
    assert opened.state.images[-2:] == ["a.tif [1]", "z.tif"]
    assert row_words(opened)["a.tif [1]"] == "new"


def test_a_folder_given_to_napari_opens_the_workbench(
    make_napari_viewer, morning, model, qtbot, settle
):
    viewer = make_napari_viewer()
    viewer.open(str(morning), plugin="napari-atomicity")
    state = binding_of(viewer).state
    qtbot.waitUntil(lambda: state.project is not None, timeout=20_000)
    settle(viewer)
    assert "Browse" in open_docks(viewer)
    assert viewer.layers[0].name == "a.tif"
    binding_of(viewer).projects.leave(stops_work=True)
    settle(viewer)


def test_the_sample_folder_opens_as_a_project(viewer, model, qtbot, settle):
    viewer.open_sample("napari-atomicity", "project")
    state = binding_of(viewer).state
    qtbot.waitUntil(lambda: state.project is not None, timeout=20_000)
    settle(viewer)
    assert state.images == [f"field_{i}.tif" for i in (1, 2, 3, 4)]
    assert [layer.name for layer in viewer.layers if layer.visible] == ["field_1.tif"]
    assert state.micrograph("field_4.tif").pixel_size_nm == pytest.approx(0.036, rel=1e-3)
    assert not state.project.path.exists()


def test_what_was_done_without_a_project_is_not_lost(
    browse, viewer, morning, qtbot, settle, tmp_path, monkeypatch
):
    analyse = Analyse(viewer)
    viewer.window.add_dock_widget(analyse, name="Analyse")
    viewer.open(str(morning / "a.tif"), plugin="napari-atomicity")
    settle(viewer)
    qtbot.mouseClick(analyse.button, LEFT)
    settle(viewer)
    state = browse.state
    (image,) = state.images
    state.clusters.relabel([(image, 2)], "Pt41")
    updated(browse)
    assert "memory only" in browse.title.text()
    asked = []

    def question(*args):
        asked.append(args)
        return QMessageBox.StandardButton.Save

    kept = tmp_path / "kept.atomicity"
    monkeypatch.setattr(QMessageBox, "question", question)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(kept), ""))
    browse.open(str(morning))
    qtbot.waitUntil(lambda: len(state.images) == 4, timeout=10_000)
    settle(viewer)
    assert len(asked) == 1
    with Project(kept) as project:
        assert project.labels() == {image: {2: "Pt41"}}


def test_a_note_on_other_projects_goes_as_they_are_merged(opened, browse, viewer, qtbot, settle):
    opened.state.sessions.group(["a.tif"], "morning")
    theirs, above = opened.state.project.path, opened.state.project.path.parent.parent
    copied = opened.state.project.copy(theirs.with_name("bob.atomicity"))
    opened.open(str(above))
    qtbot.waitUntil(lambda: opened.state.project.path.parent == above, timeout=10_000)
    settle(viewer)
    both = "morning/bob.atomicity, morning/morning.atomicity have images"
    assert both in updated(opened).notes.text()
    opened.state.merge(theirs)
    assert "morning/bob.atomicity has images" in updated(opened).notes.text()
    opened.state.merge(copied)
    assert "bob.atomicity" not in updated(opened).notes.text()


def test_moved_images_are_found_again(
    opened, morning, tmp_path, viewer, qtbot, settle, monkeypatch
):
    opened.state.sessions.group(["a.tif"], "morning")  # the change that creates the project
    opened.projects.leave(stops_work=True)
    settle(viewer)
    archive = tmp_path / "archive"
    archive.mkdir()
    (morning / "b.tif").rename(archive / "b-old.tif")
    opened.open(str(morning / "morning.atomicity"))
    qtbot.waitUntil(lambda: opened.state.project is not None, timeout=10_000)
    settle(viewer)
    updated(opened)
    assert "Not where they were: b.tif" in opened.notes.text()
    lost = [row.name for row in opened.model.rows if "file not found" in row.words]
    assert lost == ["b.tif"]
    opened.state.remove_from_project(["b.tif"])
    assert not updated(opened).notes.text()  # which asked for it
    opened.state.history.undo()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(archive))
    opened.actions_by_name["moved"].trigger()
    qtbot.waitUntil(lambda: not opened.notes.text(), timeout=10_000)
    settle(viewer)
    updated(opened)
    assert not any("file not found" in row.words for row in opened.model.rows)
    click_row(opened, 1)
    settle(viewer)
    assert viewer.layers[0].name == "b.tif"


def test_an_image_that_joins_the_open_project_is_named(opened, viewer, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("napari_atomicity.gui.viewer.canvas.show_info", told.append)
    tifffile.imwrite(tmp_path / "dropped.tif", blobs(7).astype(np.uint16))
    (layer,) = viewer.open(str(tmp_path / "dropped.tif"), plugin="napari-atomicity")
    image = binding_of(viewer).canvas.ensure_image(layer)
    assert told == [f"{image} was added to the project morning."]
    assert opened.state.project.has(image)


def test_a_window_that_closes_keeps_the_view_though_its_layers_are_gone(opened, viewer, settle):
    opened.state.pixel_sizes.set("a.tif", 0.06)  # a change of a person writes the project
    click_row(opened, 1)
    settle(viewer)
    opened.projects.save_view()
    project = opened.state.project
    seen = project.setting("window")
    assert seen["view"]["image"] == "b.tif"
    viewer.layers.clear()  # as napari does at its end
    opened.projects.save_view()
    assert project.setting("window") == seen


def test_an_image_from_outside_that_the_project_covered_is_seen_once_it_is_closed(
    opened, viewer, tmp_path, settle
):
    write(tmp_path / "outside.tif", 9)
    viewer.open(str(tmp_path / "outside.tif"), plugin="napari-atomicity")
    click_row(opened, 0)
    settle(viewer)
    outside = viewer.layers["outside.tif"]
    assert not outside.visible and viewer.layers["a.tif"].visible
    opened.projects.leave()
    settle(viewer)
    assert list(viewer.layers) == [outside] and outside.visible


def test_analyse_is_about_the_image_on_the_canvas_also_beside_one_from_outside(
    opened, viewer, tmp_path, settle, qtbot, monkeypatch
):
    asked, buttons = [], QMessageBox.StandardButton
    answers = iter([buttons.No, buttons.Yes])
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or next(answers))

    def visible() -> set[str]:
        return {layer.name.partition(" ")[0] for layer in viewer.layers if layer.visible}

    def click(name: str) -> None:
        click_row(opened, opened.state.images.index(name))
        settle(viewer)

    def choose(name: str) -> None:
        combo.setCurrentText(name)
        combo.activated.emit(combo.currentIndex())  # as by a person
        settle(viewer)

    dock = Analyse(viewer)
    viewer.window.add_dock_widget(dock, name="Analyse")
    opened.analyse_all()
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    click("a.tif")
    write(tmp_path / "outside.tif", 9)
    viewer.open(str(tmp_path / "outside.tif"), plugin="napari-atomicity")
    settle(viewer)
    combo = dock.image_form.images
    assert combo.currentText() == "outside.tif"
    for name in ("b.tif", "c.tif"):
        click(name)
        assert visible() == {name} and combo.currentText() == name
    # Chosen in the dock, it covers the current image, until that one is clicked again.
    choose("outside.tif")
    assert "outside.tif" in visible()
    click("c.tif")
    assert visible() == {"c.tif"} and combo.currentText() == "c.tif"
    choose("outside.tif")
    dock.run()
    assert "not in the open project morning" in asked[0]
    assert "outside.tif" not in opened.state.images
    dock.run()
    assert len(asked) == 2 and "outside.tif" in opened.state.images
    settle(viewer)
    assert visible() == {"outside.tif"} and opened.state.current == "outside.tif"
    for name in ("a.tif", "outside.tif", "b.tif"):
        click(name)
        assert visible() == {name} and combo.currentText() == name
        assert viewer.layers.selection.active.name.startswith(name)


def test_an_image_from_elsewhere_is_no_image_of_the_project_for_any_dock(
    opened, viewer, tmp_path, settle, monkeypatch
):
    asked, buttons = [], QMessageBox.StandardButton
    answers = iter([buttons.No, buttons.Yes])
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or next(answers))
    state, atoms = opened.state, binding_of(viewer).atoms
    click_row(opened, 0)
    settle(viewer)
    atoms.marking = True
    assert atoms.marking
    write(tmp_path / "outside.tif", 9)
    viewer.open(str(tmp_path / "outside.tif"), plugin="napari-atomicity")
    settle(viewer)
    assert state.current is None and not atoms.marking
    atoms.marking = True
    assert not atoms.marking and "outside.tif is not in the open project morning" in asked[0]
    # Page down goes on from the image that was shown before.
    opened.next()
    settle(viewer)
    assert state.current == "b.tif"
    assert [x.name for x in viewer.layers if x.visible and x.name == "outside.tif"] == []
    viewer.layers["outside.tif"].visible = True
    viewer.layers.selection.active = viewer.layers["outside.tif"]
    atoms.marking = True
    assert atoms.marking and state.current == "outside.tif" in state.images
    atoms.marking = False


def test_it_fits_a_small_screen(opened, viewer):
    assert opened.minimumSizeHint().width() <= 320
    assert opened.minimumSizeHint().height() <= 400
    for widget in (opened.list, opened.previous_button, opened.next_button, opened.more_button):
        assert widget.accessibleName()
        assert widget.toolTip() or widget is opened.list


def test_a_person_who_closes_the_window_is_asked_first(
    browse, viewer, morning, qtbot, settle, tmp_path, monkeypatch
):
    state, projects = browse.state, browse.projects
    assert projects.may_close()
    viewer.open(str(morning / "a.tif"), plugin="napari-atomicity")
    image = binding_of(viewer).canvas.ensure_image(viewer.layers[0])
    state.clusters.set_analysis(made_up(6, image))
    assert projects.may_close()  # that can be had again
    state.clusters.relabel([(image, 2)], "Pt41")
    buttons = QMessageBox.StandardButton
    answers = iter([buttons.Cancel, buttons.Discard, buttons.Save])
    monkeypatch.setattr(QMessageBox, "question", lambda *a: next(answers))
    kept = tmp_path / "kept.atomicity"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(kept), ""))
    assert [projects.may_close() for _ in range(3)] == [False, True, True]
    settle(viewer)
    assert projects.may_close()
    assert state.project.labels() == {image: {2: "Pt41"}}


def test_results_of_another_project_are_not_taken(opened, viewer, tmp_path, qtbot, settle):
    other = tmp_path / "other"
    other.mkdir()
    write(other / "a.tif", 5)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    assert opened.batch.running
    opened.projects.leave(stops_work=True)
    opened.open(str(other))
    qtbot.waitUntil(lambda: opened.state.images == ["a.tif"], timeout=10_000)
    settle(viewer)
    assert opened.state.analysis("a.tif") is None
    assert not opened.batch.running
    assert opened.state.project.load("a.tif").analysis is None


def test_another_image_is_shown_while_several_layers_are_selected(opened, viewer, settle):
    layers = [viewer.add_points([[1, 1]], name=name) for name in ("one", "two")]
    settle(viewer)
    viewer.layers.selection = {*layers}
    assert viewer.layers.selection.active is None
    click_row(opened, 3)
    settle(viewer)
    canvas = binding_of(viewer).canvas
    assert opened.state.current == "c.tif" == canvas.image_of(viewer.layers.selection.active)


def test_the_image_that_an_undo_shows_is_highlighted_at_once(opened, viewer, settle):
    state = opened.state
    state.clusters.set_analysis(replace(made_up(6, "a.tif"), micrograph=state.micrograph("a.tif")))
    state.clusters.relabel([("a.tif", 1)], "Pt19")
    settle(viewer)
    click_row(opened, 3)
    settle(viewer)
    assert opened.model.image_at(opened.list.currentIndex().row()) == "c.tif"
    binding_of(viewer).edits.undo()  # and before any other turn of the event loop
    rows = opened.list.selectionModel().selectedRows()
    assert [opened.model.image_at(row.row()) for row in rows] == [state.current] == ["a.tif"]


def test_analysing_all_again_is_asked_for_and_one_step(opened, viewer, qtbot, settle, monkeypatch):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    state = opened.state
    settle(viewer)
    buttons = QMessageBox.StandardButton
    answers, questions = iter([buttons.No, buttons.Yes]), []

    def answer(*args):
        questions.append(args[2])
        return next(answers)

    monkeypatch.setattr(QMessageBox, "question", answer)
    qtbot.waitUntil(lambda: opened.analyse_button.text() == "Analyse all again")
    qtbot.mouseClick(opened.analyse_button, LEFT)
    assert not opened.batch.running
    assert questions[0].startswith("3 of 4 images are analysed")  # one cannot be read
    assert "clusters that you added, moved, split, merged or removed" in questions[0]  # all stay
    assert "the default settings" in questions[0]
    opened.form.controls["threshold"].setValue(7.0)
    qtbot.mouseClick(opened.analyse_button, LEFT)
    assert "threshold 7 instead of 6" in questions[1]
    qtbot.waitUntil(lambda: opened.batch.running, timeout=5_000)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    assert len(state.history) == 1
    assert state.history[0].images == ("a.tif", "b.tif", "c.tif")


def test_redo_of_a_removal_shows_a_neighbour_and_undo_the_image(opened, viewer, settle):
    state, edits = opened.state, binding_of(viewer).edits
    click_row(opened, 1)
    settle(viewer)
    state.remove_from_project(["broken.tif"])
    opened.image_menu.update_actions()
    opened.image_menu.remove_action.trigger()
    for replay, image in (
        (None, "c.tif"),
        (edits.undo, "b.tif"),
        (edits.redo, "c.tif"),
        (edits.undo, "b.tif"),
    ):
        if replay is not None:
            replay()
        settle(viewer)
        updated(opened)
        assert state.current == image and [layer.name for layer in viewer.layers] == [image]
        assert opened.model.image_at(opened.list.currentIndex().row()) == image


def test_blind_ends_the_drawing_of_a_region(opened, viewer, settle):
    state, binding = opened.state, binding_of(viewer)
    state.clusters.set_analysis(analyse_image(state.micrograph("a.tif")))
    state.current = "a.tif"
    settle(viewer)
    binding.edits.exclude_regions()
    assert binding.canvas.active_layer.mode not in ("pan_zoom", "select")
    workbench_bar(viewer).annotator.blind.click()
    assert state.blind and binding.canvas.active_layer.mode in ("pan_zoom", "select")


def test_a_blind_window_does_not_restore_the_selection_of_another_person(opened, viewer, settle):
    """It may tell of one class."""
    state, view = opened.state, binding_of(viewer)._view_settings
    state.clusters.set_analysis(analyse_image(state.micrograph("a.tif")))
    state.current = "a.tif"
    state.select([("a.tif", 1)])
    stored = view.get()
    state.select(())
    view.restore(stored)
    assert state.selection == {("a.tif", 1)}
    state.set_blind(True)
    view.restore(stored)
    assert not state.selection


def test_the_row_of_a_replaced_file_says_why_it_is_not_shown(
    opened, morning, viewer, qtbot, settle
):
    qtbot.mouseClick(opened.analyse_button, LEFT)
    qtbot.waitUntil(lambda: not opened.batch.running, timeout=30_000)
    settle(viewer)
    opened.projects.leave(stops_work=True)
    kept = (morning / "c.tif").read_bytes()
    write(morning / "c.tif", 9)
    PIXELS.forget(morning / "c.tif")  # as in a window that is opened later
    opened.open(str(morning))
    qtbot.waitUntil(lambda: opened.state.project is not None, timeout=10_000)
    settle(viewer)
    click_row(opened, opened.model.row_of("c.tif"))
    said = "cannot be shown: the content of the file has changed since the analysis"
    qtbot.waitUntil(lambda: row_words(updated(opened))["c.tif"].startswith(said), timeout=10_000)
    assert "clusters" in row_words(opened)["c.tif"]
    (morning / "c.tif").write_bytes(kept)
    click_row(opened, opened.model.row_of("a.tif"))
    settle(viewer)
    click_row(opened, opened.model.row_of("c.tif"))
    qtbot.waitUntil(lambda: "cannot" not in row_words(updated(opened))["c.tif"], timeout=10_000)
