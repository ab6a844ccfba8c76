"""The Annotators dock: people as the ground truth, clicked as a person clicks."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from answered import write_answers
from bench import analysed, write_image
from marked import PLACES, as_marks, described, filled, found_atoms, three
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog
from waiting import updated

from napari_atomicity.atoms.marks import Mark
from napari_atomicity.gui.docks.annotators import dock as docks, packs, results, text as words
from napari_atomicity.gui.docks.annotators.dock import BLIND, Annotators
from napari_atomicity.gui.docks.review.dock import Review
from napari_atomicity.gui.panels.forms import DONE, NOT_DONE
from napari_atomicity.gui.panels.workbench_bar import workbench_bar
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.io.images import load
from napari_atomicity.io.pack_options import PackOptions
from napari_atomicity.project import EditKind, ImageEdit, Project
from napari_atomicity.project.packs.browser_packs import BrowserPack, PackRequest, read_manifest
from napari_atomicity.state.annotator_packs import browser_packs_of
from napari_atomicity.state.window_state import TaskState
from napari_atomicity.statistics.annotators.agreement import NOT_A_CLUSTER, opinions

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def project(tmp_path):
    """Three images that were read."""
    for seed, name in enumerate(("a.tif", "b.tif", "c.tif")):
        write_image(tmp_path / name, seed)
    with Project(tmp_path / "p.atomicity") as made:
        made.add_paths([tmp_path / f"{name}.tif" for name in "abc"])
        yield described(made)


@pytest.fixture
def opened(viewer, project, settle, qtbot):
    """A window with the project and its dock."""

    def open_() -> Annotators:
        state = binding_of(viewer).state
        state.annotator = "Ada"
        state.open_project(project, project.load_all())
        state.current = "a.tif"
        dock = shown(Annotators(viewer), qtbot)
        click(dock.packs_part.button)
        settle(viewer)
        return dock

    yield open_
    settle(viewer)


def shown(dock: Annotators, qtbot) -> Annotators:
    qtbot.addWidget(dock)
    dock.resize(420, 1000)
    dock.show()
    return dock


def click(widget) -> None:
    QTest.mouseClick(widget, LEFT)


def click_box(box) -> None:
    QTest.mouseClick(box, LEFT, pos=QPoint(8, box.height() // 2))


def click_row(view, row: int) -> None:
    view.scrollTo(view.model().index(row, 0))
    place = view.visualRect(view.model().index(row, 0)).center()
    QTest.mouseClick(view.viewport(), LEFT, pos=place)


def finds(dock, image: str = "a.tif", places=PLACES[:4]) -> None:
    """The model finds atoms in an image."""
    state = dock.state
    state.atoms.set_analysis(found_atoms(state.micrograph(image).path, places, confidence=(0.9,)))


def said() -> str:
    return notification_manager.records[-1].message


# ---- who has looked
def test_each_image_says_who_has_marked_what(opened, project):
    three(project).atoms.mark_as_viewed(["b.tif"], "Ada")
    dock = opened()
    looked = dock.looked
    assert looked.lines.headers == ["Image", "Ada", "Bo", "Cleo"]
    assert looked.lines.lines == [
        ("a.tif", "5", "5 (1 ?)", "4"),
        ("b.tif", "no atoms", "–", "–"),
        ("c.tif", "–", "–", "–"),
    ]
    assert looked.words.text().startswith("Ada: 5 marks in 2 images; Bo: 5 marks in 1 image")
    click_row(looked.view, 2)
    assert dock.state.current == "c.tif"


def test_blind_one_sees_only_ones_own_and_says_when_an_image_is_done(
    opened, project, settle, viewer
):
    project.atoms.add_marks("b.tif", "Bo", as_marks(PLACES), "1")
    dock = opened()
    click(dock.button)
    settle(viewer)
    assert dock.compared is not None and not dock.results.isHidden()
    assert not dock.looked.done_button.isEnabled()
    assert "Tick Blind" in dock.looked.done_button.toolTip()
    click_box(workbench_bar(viewer).annotator.blind)
    assert dock.state.blind and dock.results.isHidden() and dock.disputes.isHidden()
    settle_soon(dock, settle, viewer)
    # Others have reviewed images, which one must not know.
    assert dock.looked.lines.lines == []
    assert dock.looked.words.text() == f"No image has been reviewed by {dock.state.annotator} yet."
    assert not dock.button.isEnabled() and dock.hint.text() == BLIND
    click(dock.looked.done_button)
    settle(viewer)
    assert dock.looked.lines.lines[0] == ("a.tif", "no atoms")
    assert dock.looked.done_button.text() == NOT_DONE
    click(dock.looked.done_button)
    settle(viewer)
    assert dock.looked.lines.lines == [] and dock.looked.done_button.text() == DONE
    click(dock.looked.done_button)
    settle(viewer)
    dock.state.current = "b.tif"
    assert dock.looked.done_button.isEnabled()
    dock.state.atoms.add("b.tif", [Mark(12.0, 13.0), Mark(40.0, 50.0, uncertain=True)])
    settle_soon(dock, settle, viewer)
    assert dock.looked.lines.lines[1] == ("b.tif", "2 (1 ?)")
    click_box(workbench_bar(viewer).annotator.blind)
    settle_soon(dock, settle, viewer)
    assert dock.looked.lines.headers == ["Image", "Ada", "Bo"]


def settle_soon(dock, settle, viewer) -> None:
    """Wait until the dock has read the log again."""
    updated(dock)
    settle(viewer)


def test_the_switch_for_marking_is_that_of_the_image(opened):
    dock = opened()
    click(dock.looked.mark_button)
    assert dock.binding.atoms.marking
    dock.binding.atoms.marking = False
    assert not dock.looked.mark_button.isChecked()


def test_without_a_project_the_dock_says_what_to_do(viewer, qtbot):
    dock = shown(Annotators(viewer), qtbot)
    assert "Open a folder or a project" in dock.looked.words.text()
    for button in (
        dock.button, dock.packs.export_button, dock.packs.import_button, dock.looked.done_button,
    ):  # fmt: skip
        assert not button.isEnabled()


# ---- packs
def test_a_pack_goes_out(opened, project, tmp_path, monkeypatch, settle, viewer):
    project.atoms.mark_as_viewed(["b.tif"], "Bo")
    dock = opened()
    finds(dock)
    out = tmp_path / "out" / "pack"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(out), ""))
    packs = dock.packs
    packs.which.setCurrentIndex(packs.which.findData("nobody"))
    click_box(packs.proposals)
    QTest.keyClicks(packs.annotator, "Cleo")
    click(packs.export_button)
    settle(viewer)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [image["name"] for image in manifest["images"]] == ["a.tif", "c.tif"]
    assert manifest["annotator"] == "Cleo" and not manifest["blind"]
    assert (out / "tables" / "a.tif.csv").read_text().count("\n") == 5
    assert "2 images in" in packs.result.text() and "pack.zip" in packs.result.text()
    click(packs.export_button)
    settle(viewer)
    assert dock.state.status.state is TaskState.FAILED and "something already" in said()
    notification_manager.records.clear()


def test_images_without_a_pixel_size_are_named_before_the_folder_is_asked_for(
    opened, project, tmp_path, monkeypatch, settle, viewer
):
    tifffile.imwrite(tmp_path / "bare.tif", np.arange(2000, dtype=np.uint16).reshape(40, 50))
    project.add_paths([tmp_path / "bare.tif"])
    project.image_files.update_metadata(load(tmp_path / "bare.tif"))
    dock, asked, folders = opened(), [], []
    out = tmp_path / "out" / "pack"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *a, **k: folders.append(a) or (str(out), "")
    )
    answers = iter((False, True))
    monkeypatch.setattr(packs, "confirm", lambda *a: asked.append(a[-1]) or next(answers))
    click(dock.packs.export_button)
    settle(viewer)
    assert "bare.tif" in asked[0] and "dock Atoms" in asked[0] and "--" not in asked[0]
    assert not folders and not out.exists()
    click(dock.packs.export_button)
    settle(viewer)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [image["name"] for image in manifest["images"]] == ["a.tif", "b.tif", "c.tif"]
    dock.state.current = "bare.tif"
    dock.packs.which.setCurrentIndex(dock.packs.which.findData("this"))
    for button in (dock.packs.export_button, dock.packs.browser_button):
        click(button)
        settle(viewer)
        said = dock.packs.result.text()
        assert "bare.tif is not known" in said and "dock Atoms" in said and len(folders) == 1


def test_images_that_cannot_be_read_are_left_out_of_a_pack(
    opened, project, tmp_path, monkeypatch, settle, viewer
):
    for name in ("bad.tif", "worse.tif"):
        (tmp_path / name).write_bytes(b"no image")
    project.add_paths([tmp_path / "bad.tif"])
    project.image_files.set_error("bad.tif", "bad.tif: it can't be read.")
    stack = np.arange(6000, dtype=np.uint16).reshape(3, 40, 50)
    tifffile.imwrite(tmp_path / "movie.tif", stack, imagej=True, metadata={"axes": "TYX"})
    project.add_paths([tmp_path / "movie.tif"])
    project.image_files.update_metadata(load(tmp_path / "movie.tif", 0.05))
    next(image.path for image in project.images() if image.name == "c.tif").unlink()
    dock, asked, out = opened(), [], tmp_path / "out" / "pack"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(out), ""))
    monkeypatch.setattr(packs, "confirm", lambda *a: asked.append(a[-1]) or True)
    click(dock.packs.export_button)
    settle(viewer)
    manifest = json.loads((out / "manifest.json").read_text())
    assert "bad.tif" in asked[0] and "no stacks: movie.tif" in asked[0]
    assert "no file of c.tif" in asked[0] and "without 3 images" in asked[0]
    assert [image["name"] for image in manifest["images"]] == ["a.tif", "b.tif"]
    out = tmp_path / "another"
    project.add_paths([tmp_path / "worse.tif"])  # nobody has opened it yet
    for button in (dock.packs.export_button, dock.packs.browser_button):
        click(button)
        settle(viewer)
        assert "worse.tif: no pack was made" in said() and "other images" in said()
        notification_manager.records.clear()


def test_packs_come_in_once_and_what_does_not_is_told(
    opened, tmp_path, monkeypatch, settle, viewer
):
    ada = filled(tmp_path, "Ada", a="20,10\n60,30,1", b="none")
    bad = filled(tmp_path, "Bo", a="999,10")
    dock = opened()
    chosen = [str(pack / "manifest.json") for pack in (ada, bad)]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a, **k: (chosen, ""))
    place = dock.packs.import_button.mapTo(dock, QPoint(0, 0))
    click(dock.packs.import_button)
    settle(viewer)
    assert dock.looked.view.isVisible()
    assert dock.packs.import_button.mapTo(dock, QPoint(0, 0)) == place  # for the next pack
    assert dock.packs.result.text().splitlines()[:2] == [
        "Imported: 2 marks of Ada in 2 images.", "Not imported:",
    ]  # fmt: skip
    assert "999" in dock.packs.result.text()
    assert dock.looked.lines.lines[:2] == [("a.tif", "2 (1 ?)"), ("b.tif", "no atoms")]
    # An atom that is marked now gets a number that no mark of the pack has.
    (new,) = dock.state.atoms.add("a.tif", [Mark(5.0, 5.0)])
    assert new == 3
    click(dock.packs.import_button)
    settle(viewer)
    assert "2 tables were known already; nothing was added." in dock.packs.result.text()


@pytest.mark.parametrize("by_undo", [False, True])
def test_the_result_of_an_import_leaves_with_the_marks(
    opened, tmp_path, monkeypatch, settle, viewer, by_undo
):
    packs_of_both = [filled(tmp_path, who, a="20,10\n60,30,1", b="none") for who in ("Ada", "Bo")]
    chosen = [str(pack / "manifest.json") for pack in packs_of_both]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a, **k: (chosen, ""))
    monkeypatch.setattr(results, "confirm", lambda *a: True)
    dock = opened()
    click(dock.packs.import_button)
    settle_soon(dock, settle, viewer)
    assert dock.packs.result.isVisible() and "Ada, Bo" in dock.packs.result.text()
    if by_undo:
        workbench_bar(viewer).history.undo.click()
    else:
        removal_of(dock, "Bo").trigger()
    settle_soon(dock, settle, viewer)
    assert not dock.packs.result.isVisible()


def test_a_page_for_browsers_goes_out_and_answers_come_in(
    opened, project, tmp_path, monkeypatch, settle, viewer
):
    dock = opened()
    titles = []

    def choose(*arguments, **_):
        titles.append(arguments[1])
        return str(tmp_path / "out" / "page"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    (tmp_path / "out").mkdir()
    part = dock.packs
    click(part.browser_settings.button)
    part.browser.instructions.setPlainText("Mark all.")
    part.browser.options.controls["repeats"].setValue(50)
    part.browser.options.controls["examples"].setChecked(False)
    click(part.browser_button)
    settle(viewer)
    page = tmp_path / "out" / "page.html"
    manifest = read_manifest(page.read_text("utf-8"))
    assert manifest.instructions == "Mark all." and len(manifest.items) == 5
    assert "3 images, 2 asked twice; " in titles[0] and "page.html" in part.result.text()

    made = BrowserPack(manifest, [])
    folder = tmp_path / "answers"
    folder.mkdir()
    places = [(20, 20), (20, 60)]
    for who in ("Ada", "Bo"):
        marks = dict.fromkeys(range(5), places)
        write_answers(folder / f"{who}.json", made, who, marks)
    write_answers(folder / "Cy.json", made, "Cy", {0: [(20, 999)]})
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(folder))
    click(part.folder_button)
    settle(viewer)
    text = part.result.text()
    assert text.startswith("Imported: 12 marks of Ada, Bo in 3 images.")
    assert "Cy.json: line" in text and "999, outside" in text
    click(dock.button)
    settle(viewer)
    cells = {row[0]: row[1:] for row in dock.results.f1.lines}
    assert all(cell.startswith("1.00") for row in cells.values() for cell in row)
    click(part.folder_button)
    settle(viewer)
    assert "6 tables were known already" in part.result.text()


def test_images_without_clusters_are_named_before_their_classes_are_asked_for(
    viewer, tmp_path, qtbot, settle, monkeypatch
):
    paths = [write_image(tmp_path / f"{name}.tif", i) for i, name in enumerate("ab")]
    asked = []
    monkeypatch.setattr(packs, "confirm", lambda *a: asked.append(a[-1]))
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths(paths)
        for path in paths:
            project.image_files.update_metadata(load(path))
        project.record(ImageEdit("a.tif", EditKind.ANALYSIS, "Ada"), None, analysed(paths[0]))
        binding_of(viewer).state.open_project(project, project.load_all())
        dock = shown(Annotators(viewer), qtbot)
        settle(viewer)
        dock.packs.browser.asked.setCurrentIndex(1)
        click(dock.packs.browser_button)
        assert "No clusters to label: b.tif." in asked[0] and "without 1 image" in asked[0]


def test_labels_of_clusters_from_a_browser_count_where_there_is_none(
    viewer, tmp_path, qtbot, settle, monkeypatch
):
    path = write_image(tmp_path / "field.tif")
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([path])
        analysis = analysed(path)
        project.record(ImageEdit("field.tif", EditKind.ANALYSIS, "Ada"), None, analysis)
        state = binding_of(viewer).state
        state.open_project(project, project.load_all())
        dock = shown(Annotators(viewer), qtbot)
        settle(viewer)
        request = dock.packs.browser
        request.asked.setCurrentIndex(request.asked.findData("clusters"))
        request.options.controls["examples"].setChecked(False)
        request.options.controls["repeats"].setValue(0)
        (made,) = browser_packs_of(project.images(), request.request(None, None, 0.13))
        assert len(made.manifest.items) == 12
        answers = write_answers(tmp_path / "x.json", made, "Ada", labels={0: "Pt70", 3: "Pt70"})
        files = [str(answers)]
        monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a, **k: (files, ""))
        dock.packs.take_in()
        settle(viewer)
        assert "Imported: 2 labels of Ada" in dock.packs.result.text()
        labels = state.store.table("field.tif")["label_corrected"].tolist()
        assert labels[0] == labels[3] == "Pt70" and set(labels[4:]) == {""}
        dock.packs.take_in()
        settle(viewer)
        assert "known already" in dock.packs.result.text()
        assert not dock.packs.result.isHidden()  # it is of no step
        # A later file of the session has an answer more, and one that was corrected.
        said = {0: "Pt19", 1: "Pt70", 3: "Pt70"}
        files[:] = [
            str(write_answers(tmp_path / "y.json", made, "Ada", labels=said, saved="2026-02-01"))
        ]
        dock.packs.take_in()
        settle(viewer)
        assert "Imported: 2 labels of Ada" in dock.packs.result.text()
        labels = state.store.table("field.tif")["label_corrected"].tolist()
        assert labels[:4] == ["Pt19", "Pt70", "", "Pt70"]
        files[:] = [str(answers)]  # the earlier one
        dock.packs.take_in()
        settle(viewer)
        assert state.store.table("field.tif")["label_corrected"].tolist() == labels
        # Another session of the name is a repetition, also if it comes later.
        second = write_answers(
            tmp_path / "z.json", made, "Ada", labels={0: "Pt70"}, session="b" * 32, saved="2027"
        )
        # Of several people, the majority counts; of two who differ, neither.
        others = [
            write_answers(tmp_path / f"{who}.json", made, who, labels={0: said, 1: other})
            for who, said, other in (("Bo", "Pt19", "Pt19"), ("Cy", "Pt70", "Pt19"))
        ]
        expected = (["Pt19", "Pt70"], ["Pt19", ""], ["Pt19", "Pt19"])
        for path, first_labels in zip((second, *others), expected, strict=True):
            files[:] = [str(path)]
            dock.packs.take_in()
            settle(viewer)
            now = state.store.table("field.tif")["label_corrected"].tolist()
            assert now[:2] == first_labels
            if path is second:
                assert "another session" in dock.packs.result.text()
        for _ in others:
            state.history.undo()
            settle_soon(dock, settle, viewer)
        assert state.store.table("field.tif")["label_corrected"].tolist() == labels
        files[:] = [str(answers)]
        state.history.undo()
        settle_soon(dock, settle, viewer)
        for _ in range(2):
            state.history.undo()
            settle_soon(dock, settle, viewer)
            dock.packs.take_in()
            settle_soon(dock, settle, viewer)
            assert "Imported: 2 labels of Ada" in dock.packs.result.text()
            state.clusters.relabel([("field.tif", 7)], "Pt19")
            settle_soon(dock, settle, viewer)
            assert not dock.packs.result.isHidden()
            state.history.undo()
            state.history.undo()
            settle_soon(dock, settle, viewer)
            assert dock.packs.result.isHidden()
            state.history.redo()


def test_an_import_is_one_step_of_undo(viewer, tmp_path, qtbot, settle, monkeypatch):
    path, *_ = (write_image(tmp_path / f"{name}.tif", i) for i, name in enumerate("abc"))
    with Project(tmp_path / "p.atomicity") as project:
        project.add_paths([path])
        project.record(ImageEdit("a.tif", EditKind.ANALYSIS, "Ada"), None, analysed(path))
        state = binding_of(viewer).state
        state.open_project(described(project), project.load_all())
        dock = shown(Annotators(viewer), qtbot)
        settle(viewer)
        classes = ("Pt19", "Pt70")
        options = PackOptions(examples=False, repeats=0)
        request = PackRequest(options, clusters=state.table(), classes=classes)
        (made,) = browser_packs_of(project.images(), request)
        said = ({0: "Pt70", 3: "Pt19"}, {0: "Pt70", 1: NOT_A_CLUSTER})
        files = [
            str(write_answers(tmp_path / f"{who}.json", made, who, labels=labels))
            for who, labels in zip(("Bo", "Cleo"), said, strict=True)
        ]
        files.append(str(filled(tmp_path, "Ada", a="20,10\n60,30") / "manifest.json"))
        monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a, **k: (files, ""))
        bar = workbench_bar(viewer)

        def opinion() -> tuple:
            settle_soon(dock, settle, viewer)
            found = opinions(project.corrections()).labels
            shown_labels = state.store.table("a.tif")["label_corrected"].tolist()[:4]
            stored = project.labels()["a.tif"]
            assert stored == {i: x for i, x in enumerate(shown_labels, 1) if x}
            who = found.groupby("annotator")["label"].apply(sorted).to_dict()
            return shown_labels, who, len(project.atoms.annotations()[0]), dock.looked.lines.lines

        n_rows = []
        before = opinion()
        for _ in range(2):
            dock.packs.take_in()
            after = opinion()
            assert after[0] == ["Pt70", "", "", "Pt19"] and after[2] == 2
            assert after[1] == {"Bo": ["Pt19", "Pt70"], "Cleo": ["Pt70", NOT_A_CLUSTER]}
            assert [step.description for step in state.history] == ["import packs"]
            for button, state_of_things in (
                (bar.history.undo, before),
                (bar.history.redo, after),
                (bar.history.undo, before),
            ):
                button.click()
                assert opinion() == state_of_things
                n_rows.append(len(project.corrections()) + len(project.atoms.marks()))
        assert n_rows == sorted(n_rows), "rows are never deleted"
        assert "import packs" in bar.history.redo.toolTip()
        state.history.redo()
        dock.packs.take_in()
        settle(viewer)
        assert len(state.history) == 1, "nothing was added, so there is nothing to undo"


@pytest.mark.parametrize("unit", ["nm", "px", ""])
def test_a_pack_in_nm_is_asked_about_and_can_be_removed(
    opened, tmp_path, monkeypatch, settle, viewer, unit
):
    chosen = [
        str(filled(tmp_path, "Ada", a="20,10\n60,30") / "manifest.json"),
        str(filled(tmp_path, "Bo", a="2,1\n6,3\n7,8\n14,11") / "manifest.json"),
    ]
    asked = []
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a, **k: (chosen, ""))
    monkeypatch.setattr(packs, "choose_answer", lambda *a: asked.append(a[2]) or unit)
    dock = opened()
    click(dock.packs.import_button)
    settle(viewer)
    [question] = asked
    assert "Bo: " in question and "nm" in question and "Ada" not in question
    text = dock.packs.result.text()
    assert "2 marks of Ada" in text
    assert ("4 marks of Bo" in text) == bool(unit) and ("Not imported" in text) == (not unit)
    if not unit:
        return
    marks = dock.annotations.marks
    x_px = marks.loc[marks["annotator"] == "Bo", "x_px"].max()
    assert x_px == pytest.approx(140 if unit == "nm" else 14)
    [action] = [a for a in dock.looked.remove_button.menu().actions() if a.text() == "Bo"]
    for answer, names in ((False, ["Ada", "Bo"]), (True, ["Ada"])):
        monkeypatch.setattr(results, "confirm", lambda *a, answer=answer: answer)
        action.trigger()
        settle(viewer)
        assert dock.looked.lines.headers == ["Image", *names]
    workbench_bar(viewer).history.undo.click()
    settle_soon(dock, settle, viewer)
    assert dock.looked.lines.lines[0] == ("a.tif", "2", "4")
    workbench_bar(viewer).history.undo.click()
    settle_soon(dock, settle, viewer)
    assert dock.looked.lines.headers == ["Image"], "both were imported by one step"


def test_marks_that_come_by_merging_are_shown(opened, project, tmp_path, settle, viewer):
    copy = project.copy(tmp_path / "copy.atomicity")
    with Project(copy) as theirs:
        theirs.atoms.add_marks("c.tif", "Bo", as_marks(PLACES[:2]), "1")
    dock = opened()
    assert dock.looked.lines.lines == []
    dock.state.merge(copy)
    settle_soon(dock, settle, viewer)
    assert dock.looked.lines.lines[2] == ("c.tif", "2")


# ---- the comparison
def test_the_effect_says_of_how_many_images_it_is(opened, project, settle, viewer):
    three(project)
    project.atoms.mark_as_viewed(["b.tif"], "Ada")
    dock = opened()
    click(dock.button)
    settle(viewer)
    title = dock.results.titles[3]
    assert title.text().endswith("in the 1 of 2 images that all annotators reviewed")
    project.atoms.mark_as_viewed(["c.tif"], "Dora")
    dock.state.annotator = "Bo"
    settle_soon(dock, settle, viewer)
    click(dock.button)
    settle(viewer)
    assert title.text().endswith("no image was reviewed by all annotators")
    assert title.isVisible() and not dock.results.views[2].isVisible()


def test_people_are_compared_with_each_other_and_with_the_model(
    opened, project, settle, viewer, tmp_path, monkeypatch
):
    three(project)
    dock = opened()
    finds(dock)
    click(dock.button)
    settle(viewer)
    results = dock.results
    assert [line[:3] for line in results.raters.lines] == [
        ("Ada", "1", "5"), ("Bo", "1", "5 (1 ?)"), ("Cleo", "1", "4"),
    ]  # fmt: skip
    assert results.f1.headers == ["F1", "Model", "Ada", "Bo", "Cleo"]
    f1 = {line[0]: line[1:] for line in results.f1.lines}
    assert f1["Model"][1].startswith("0.89 (") and f1["Ada"][0] == f1["Model"][1]
    assert f1["Ada"][1] == "·" and f1["Ada"][2].startswith("1.00")
    assert [line[0] for line in results.effect.lines] == ["Ada", "Bo", "Cleo", "consensus"]
    assert results.effect.lines[0][1:] == ("5", "0.026", "4.542")
    assert "α" in results.agreement.text() and "too few marks" in results.expert.text()
    assert "Absence" in results.notes.text()
    out, said = tmp_path / "figures", []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(out), ""))
    monkeypatch.setattr("napari_atomicity.gui.docks.annotators.dock.show_info", said.append)
    click(dock.export_button)
    settle(viewer)
    agreement = json.loads((out / "agreement.json").read_text())
    assert agreement["annotators"] == ["Ada", "Bo", "Cleo"] and "model" in agreement
    assert len(pd.read_csv(out / "consensus.csv")) == 6
    assert any(str(out) in text for text in said)
    project.atoms.mark_as_viewed(["b.tif"], "Ada")
    dock.state.annotator = "Bo"
    settle_soon(dock, settle, viewer)
    assert dock.hint.text() == "Marks have changed since: compare again."
    assert "of one person" not in results.agreement.text()
    click(dock.button)
    settle(viewer)
    assert "In 1 of 2 images, the consensus is that of one person" in results.agreement.text()


def test_marks_that_undo_has_brought_back_are_the_same(
    opened, project, settle, viewer, monkeypatch
):
    three(project)
    dock = opened()
    click(dock.button)
    settle(viewer)
    monkeypatch.setattr(results, "confirm", lambda *a: True)
    [action] = [a for a in dock.looked.remove_button.menu().actions() if a.text() == "Bo"]
    action.trigger()
    settle_soon(dock, settle, viewer)
    assert dock.hint.text() == "Marks have changed since: compare again."
    workbench_bar(viewer).history.undo.click()
    settle_soon(dock, settle, viewer)
    assert dock.looked.lines.headers == ["Image", "Ada", "Bo", "Cleo"]
    assert not dock.hint.text()


def removal_of(dock: Annotators, name: str):
    [action] = [a for a in dock.looked.remove_button.menu().actions() if a.text() == name]
    return action


def test_nothing_is_taken_or_written_from_a_comparison_of_other_marks(
    opened, project, settle, viewer, monkeypatch
):
    three(project)
    monkeypatch.setattr(results, "confirm", lambda *a: True)
    dock = opened()
    click(dock.button)
    settle(viewer)
    buttons = {dock.disputes.take_button: "Replace the atoms", dock.export_button: "Write agree"}
    reason = "Marks have changed since: compare again."

    def assert_outdated(outdated: bool) -> None:
        for button, tooltip in buttons.items():
            assert button.isEnabled() is not outdated
            assert button.toolTip().startswith(reason if outdated else tooltip)
        assert dock.results.outdated.isVisible() is outdated
        assert dock.disputes.words.text().endswith(reason) is outdated

    assert_outdated(False)
    removal_of(dock, "Cleo").trigger()
    settle_soon(dock, settle, viewer)
    assert_outdated(True)
    workbench_bar(viewer).history.undo.click()
    settle_soon(dock, settle, viewer)
    assert_outdated(False)
    for name in ("Ada", "Bo", "Cleo"):
        removal_of(dock, name).trigger()
        settle_soon(dock, settle, viewer)
        assert_outdated(True)
    for _ in range(2):
        workbench_bar(viewer).history.undo.click()
    settle_soon(dock, settle, viewer)
    assert_outdated(True)
    click(dock.button)
    settle(viewer)
    assert_outdated(False)
    assert [line[0] for line in dock.results.raters.lines] == ["Bo", "Cleo"]


def test_other_atoms_of_the_model_or_another_tolerance_make_a_comparison_outdated(
    opened, project, settle, viewer
):
    three(project)
    dock = opened()
    finds(dock)
    click(dock.button)
    settle(viewer)
    buttons = dock.disputes.take_button, dock.export_button

    def assert_outdated(reason: str) -> None:
        settle_soon(dock, settle, viewer)
        assert dock.hint.text() == dock.results.outdated.text() == reason
        assert [button.isEnabled() for button in buttons] == [not reason] * 2
        assert all(button.toolTip() == reason for button in buttons) is bool(reason)

    assert_outdated("")
    finds(dock, "c.tif")  # which nobody has reviewed
    assert_outdated("")
    finds(dock)  # the same atoms
    assert_outdated("")
    finds(dock, places=PLACES[:3])
    assert_outdated("Atoms of the model have changed since: compare again.")
    workbench_bar(viewer).history.undo.click()
    assert_outdated("")
    dock.tolerance.setValue(dock.tolerance.value() + 0.05)
    assert_outdated("The largest distance of marks of one atom has changed since: compare again.")
    click(dock.button)
    assert_outdated("")


def test_marks_that_change_while_the_question_is_open_are_not_taken(
    opened, project, settle, viewer, monkeypatch
):
    three(project)
    dock = opened()
    finds(dock)
    before = dock.state.atoms.table("a.tif")

    def answer(*_: object) -> bool:
        project.atoms.set_annotation("a.tif", "Cleo", None)
        dock.refresh_now()
        settle(viewer)
        return True

    monkeypatch.setattr(docks, "confirm", answer)
    click(dock.button)
    settle(viewer)
    click(dock.disputes.take_button)
    settle(viewer)
    pd.testing.assert_frame_equal(dock.state.atoms.table("a.tif"), before)
    assert said() == "Marks have changed since: compare again."


def test_the_comparison_is_in_sight_where_annotators_are_a_part_of_review(
    make_napari_viewer, project, settle, qtbot
):
    three(project)
    viewer = make_napari_viewer(show=True)
    state = binding_of(viewer).state
    state.open_project(project, project.load_all())
    review = Review(viewer)
    review.setFixedHeight(300)
    viewer.window.add_dock_widget(review, name="Review", add_vertical_stretch=False)
    settle(viewer)
    click(review.parts[2].button)
    dock = review.findChild(Annotators)
    qtbot.waitUntil(dock.button.isEnabled)
    settle(viewer)
    click(dock.button)
    qtbot.waitUntil(lambda: dock.compared is not None)
    qtbot.waitUntil(lambda: 0 <= dock.results.mapTo(review, QPoint()).y() < 20)


def marked(viewer):
    return [layer for layer in viewer.layers if "disputed" in layer.name]


def test_positions_that_only_the_model_has_found_are_counted(opened, project, settle, viewer):
    three(project)
    dock = opened()
    finds(dock, places=[*PLACES[:4], (5.0, 100.0), (5.0, 110.0)])
    click(dock.button)
    settle(viewer)
    disputes = dock.disputes
    n = len(disputes.lines.lines)
    assert n > 2
    said = f"{n} positions with disagreement, 2 of them found only by the model."
    assert disputes.words.text().startswith(said)


def test_a_place_in_dispute_is_gone_to(opened, project, settle, viewer):
    three(project)
    three(project, "b.tif")
    dock = opened()
    finds(dock)
    click(dock.button)
    settle(viewer)
    disputes = dock.disputes
    n = len(disputes.lines.lines)
    disputes.why.setCurrentIndex(disputes.why.findData("against"))
    assert 0 < len(disputes.lines.lines) < n
    disputes.why.setCurrentIndex(0)
    table = disputes.shown
    # One in this image that is an atom of the model too.
    row = int(np.flatnonzero((table["image"] == "a.tif") & (table["y_px"] == 60))[0])
    click_row(disputes.view, row)
    atoms = dock.state.atoms
    (key,) = atoms.selection
    assert atoms.table("a.tif").set_index("atom_id").loc[key[1], "x_px"] == 60
    np.testing.assert_allclose(compat.camera(viewer).center[-2:], [6.0, 6.0])
    assert not marked(viewer)
    # One in another image, where there is none.
    row = int(np.flatnonzero((table["image"] == "b.tif") & (table["y_px"] == 90))[0])
    click_row(disputes.view, row)
    settle(viewer)
    assert dock.state.current == "b.tif" and not atoms.selection
    np.testing.assert_allclose(compat.camera(viewer).center[-2:], [9.0, 12.0])
    (mark,) = marked(viewer)
    np.testing.assert_allclose(mark.data_to_world(mark.data[0])[-2:], [9.0, 12.0])
    assert mark.visible and viewer.layers.selection.active is not mark
    viewer.layers.remove(mark)  # by napari's own button
    click_row(disputes.view, row)
    assert len(marked(viewer)) == 1
    dock.state.current = "a.tif"
    settle(viewer)
    assert not marked(viewer)


def test_the_consensus_is_taken_image_by_image_and_undone(
    opened, project, settle, viewer, qtbot, monkeypatch
):
    three(project)
    three(project, "b.tif")
    project.atoms.add_marks("c.tif", "Ada", as_marks(PLACES), "2")
    asked = []
    answers = iter((False, True))
    monkeypatch.setattr(docks, "confirm", lambda *a: asked.append(a[-1]) or next(answers))
    dock = opened()
    finds(dock, places=[*PLACES[:2], (5.0, 150.0)])
    before = dock.state.atoms.table("a.tif")
    click(dock.button)
    settle(viewer)
    click(dock.disputes.take_button)
    settle(viewer)
    pd.testing.assert_frame_equal(dock.state.atoms.table("a.tif"), before)
    with qtbot.waitSignal(dock.disputes.took):
        click(dock.disputes.take_button)
    assert "atoms of the model and all earlier marks in 2 images" in asked[1]
    assert "Undo" in asked[1] and "until the project is closed" in asked[1]
    assert "in 2 images; 1 image without marks of two people left out" in said()
    state = dock.state
    table = state.atoms.table("a.tif")
    places = {tuple(p) for p in table[["y_px", "x_px"]].to_numpy().tolist()}
    assert set(PLACES) <= places and (5.0, 150.0) not in places
    assert set(table["origin"]) == {"person"}
    assert state.annotator == "Ada"
    log = project.atoms.marks()
    assert set(log.loc[~log["blind"], "annotator"]) == {"consensus"}
    assert len(project.atoms.annotations()[0]) == 28 + len(PLACES), "the opinions are as they were"
    steps = [step.description for step in state.history[-2:]]
    assert steps == ["take the consensus in a.tif", "take the consensus in b.tif"]
    state.history.undo()
    state.history.undo()
    pd.testing.assert_frame_equal(state.atoms.table("a.tif"), before)


def test_one_person_alone_is_no_consensus(opened, project, settle, viewer):
    project.atoms.add_marks("a.tif", "Ada", as_marks(PLACES), "1")
    dock = opened()
    finds(dock)
    click(dock.button)
    settle(viewer)
    assert not dock.disputes.take_button.isEnabled()
    assert "needs two people" in dock.results.expert.text()
    assert "against the person: F1 0.89" in dock.results.agreement.text()


def test_where_nothing_may_be_changed_the_dock_says_so(project, viewer, settle, qtbot):
    three(project)
    state = binding_of(viewer).state
    with Project(project.path) as second:
        state.open_project(second, second.load_all())
        dock = shown(Annotators(viewer), qtbot)
        settle(viewer)
        click(dock.button)
        settle(viewer)
        assert dock.compared is not None
        assert not dock.disputes.take_button.isEnabled()
        assert not dock.packs.import_button.isEnabled()
        state.close_project()


# ---- words
@pytest.mark.parametrize(
    ("low", "high", "begins"),
    [
        (-0.2, -0.01, "No: the model is further"),
        (0.01, 0.2, "Yes, and more"),
        (-0.1, 0.1, "Yes, within the uncertainty"),
        (-0.56, 0.08, "Undecided: there are too few marks"),
    ],
)
def test_whether_the_model_is_one_more_expert_is_one_sentence(low, high, begins):
    expert = {
        "difference": (low + high) / 2, "difference_low": low, "difference_high": high,
        "persons": [{"annotator": "Ada", "images": 3, "f1": 0.8, "f1_model": 0.7}],
        "in_doubt": [],
    }  # fmt: skip
    text = words.format_expert({"one_more_expert": expert})
    ends = f"{low:+.2f} to {high:+.2f}".replace("-", "−")
    assert text.startswith(begins) and ends in text
    in_doubt = words.format_expert({"one_more_expert": {**expert, "in_doubt": ["Bo"]}})
    assert in_doubt.startswith("Not known while the marks of Bo are in doubt") and ends in in_doubt
    assert "against all but Ada: Ada 0.80, model 0.70" in text


def test_what_is_not_known_is_said_so():
    assert "no results" in words.format_expert(None)
    assert words.with_interval(float("nan"), 0, 1) == "–"
    assert words.with_interval(0.5, 0.4, float("nan")) == "0.50"
    assert words.with_interval(0.05, -0.11, 0.2) == "0.05 (−0.11 to 0.20)"
    unknown = dict.fromkeys(("difference", "difference_low", "difference_high"), float("nan"))
    told = words.format_expert({"one_more_expert": {**unknown, "persons": []}})
    assert "not known" in told


def test_names_that_look_like_markup_are_text(opened, project, settle, viewer):
    project.atoms.add_marks("a.tif", "<b>Bo</b>", as_marks(PLACES), "1")
    dock = opened()
    assert dock.looked.words.textFormat() == Qt.TextFormat.PlainText
    assert "<b>Bo</b>" in dock.looked.words.text()
