"""The Report dock: one click writes a folder, and remembers how."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
from bar import click_cancel
from bench import write_image
from brightness import offer
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from sized import SizedClassifier, write_clusters
from synthetic import CLASSES, made_up
from typer.testing import CliRunner
from waiting import updated

from napari_atomicity.atoms.marks import Mark
from napari_atomicity.cli.commands import app
from napari_atomicity.core.acquisition_session import add_group_names
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.gui.docks import report as docks
from napari_atomicity.gui.docks.analyse import Classify
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.docks.report import NOTHING, Report
from napari_atomicity.gui.panels.table_files import format_written
from napari_atomicity.gui.viewer import models
from napari_atomicity.gui.viewer.binding import state_of
from napari_atomicity.io.clipboard import latex_table
from napari_atomicity.io.images import load
from napari_atomicity.io.tables import read_clusters
from napari_atomicity.pipeline.acquisition_sessions import read_earlier_scale
from napari_atomicity.pipeline.analysis import analyse
from napari_atomicity.pipeline.session_labels import label_session
from napari_atomicity.project import Project
from napari_atomicity.state.window_state import TaskState
from napari_atomicity.statistics.ratios.ratios import class_ratios

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    state.clusters.set_analysis(made_up(40))
    state.clusters.set_analysis(made_up(15, "second", seed=1))
    return state


@pytest.fixture
def dock(viewer, state, qtbot):
    dock = Report(viewer)
    qtbot.addWidget(dock)
    dock.resize(400, 500)
    dock.show()
    return dock


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the dialog will give."""
    asked = []

    def give(_, title, before, types):
        asked.append(before)
        return str(tmp_path / "out"), types

    monkeypatch.setattr(docks.QFileDialog, "getSaveFileName", give)
    return tmp_path / "out", asked


def click(button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def test_one_click_writes_everything(dock, state, folder, settle, viewer, monkeypatch):
    out, _ = folder
    state.clusters.relabel([("field", 1)], "Pt70")
    click(dock.button)
    assert not dock.button.isEnabled(), "not twice at a time"
    settle(viewer)
    assert state.status.state is TaskState.DONE
    names = {p.name for p in out.iterdir()}
    assert names >= {"report.html", "run.json", "clusters.xlsx", "ratios.tex", "figures"}
    table = read_clusters(out / "clusters.csv")
    without = table.drop(columns=["session", "sample"])
    pd.testing.assert_frame_equal(without, state.table(), check_dtype=False)
    assert table.loc[0, "label_corrected"] == "Pt70"
    assert "report.html and" in dock.result.text() and str(out) in dock.result.text()
    opened = []
    monkeypatch.setattr(
        docks.QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile())
    )
    click(dock.open_button)
    click(dock.folder_button)
    assert opened == [str(out / "report.html"), str(out)]
    # It is not the report of the next project.
    state.open_project(Project(out.parent / "next.atomicity"), {})
    settle(viewer)
    assert dock.result.isHidden() and dock.report_path is None
    assert not dock.open_button.isEnabled() and not dock.folder_button.isEnabled()


def test_choices_are_followed_and_remembered(dock, state, folder, settle, viewer, qtbot, tmp_path):
    out, asked = folder
    dock.settings.button.setChecked(True)
    for box in (dock.boxes.controls[name] for name in ("figures", "excel", "latex")):
        QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    QTest.keyClicks(dock.title, "Sample <7>")
    QTest.keyClicks(dock.reference, "Pt19:Pt70 = 3:1")
    click(dock.button)
    settle(viewer)
    assert {p.name for p in out.iterdir()} == {
        *("clusters.csv", "clusters.parquet", "ratios.csv", "ratios.parquet"),
        *("reference.json", "report.html", "run.json", "ro-crate-metadata.json"),
    }
    html = (out / "report.html").read_text()
    assert "<h1>Sample &lt;7&gt;</h1>" in html and "Comparison with the reference" in html
    again = Report(viewer)
    qtbot.addWidget(again)
    chosen = again.boxes.values()
    assert chosen == {"figures": False, "excel": False, "latex": False, "report": True}
    assert again.title.text() == again.reference.text() == ""
    # A folder of its own, which the dialog names; the next one beside it.
    assert asked == [str(Path.home() / "atomicity-report")]
    (tmp_path / "atomicity-report").mkdir()
    click(dock.button)
    settle(viewer)
    assert asked[1] == str(tmp_path / "atomicity-report-2")


def test_the_ratios_of_the_report_are_found_as_in_the_window(dock, viewer, qtbot):
    ratios = Ratios(viewer)
    qtbot.addWidget(ratios)
    index = ratios.method_combo.findData("em")
    ratios.method_combo.setCurrentIndex(index)
    assert dock.method.currentData() == "em"


def test_without_a_page_there_is_none_to_open(dock, folder, settle, viewer):
    dock.boxes.controls["report"].setChecked(False)
    dock.boxes.controls["figures"].setChecked(False)
    click(dock.button)
    settle(viewer)
    assert not (folder[0] / "report.html").exists()
    assert not dock.open_button.isEnabled() and dock.folder_button.isEnabled()
    assert dock.result.text().startswith("Written: 9 files in")


def test_a_dismissed_dialog_writes_nothing(dock, monkeypatch):
    monkeypatch.setattr(docks.QFileDialog, "getSaveFileName", lambda *a: ("", ""))
    monkeypatch.setattr(docks.Report, "start", lambda *a, **k: pytest.fail("started"))
    click(dock.button)


def test_a_reference_that_makes_no_sense_is_told(dock, state, monkeypatch, folder, settle, viewer):
    QTest.keyClicks(dock.reference, "Pt19:Pt70")
    click(dock.button)
    assert "Pt19:Pt41:Pt70" in notification_manager.records[-1].message
    dock.reference.clear()
    QTest.keyClicks(dock.reference, "Pt7:Pt70 = 1:1")
    click(dock.button)
    settle(viewer)
    assert "Pt7" in notification_manager.records[-1].message
    assert state.status.state is TaskState.FAILED and not list(folder[0].iterdir())


def test_a_loaded_reference_is_used_until_another_is_typed(
    dock, tmp_path, monkeypatch, folder, settle, viewer, qtbot
):
    path = tmp_path / "known.csv"
    path.write_text("scope,class,fraction\nfield,Pt19,1\n")
    monkeypatch.setattr(docks.QFileDialog, "getOpenFileName", lambda *a: (str(path), ""))
    dock.settings.button.setChecked(True)
    qtbot.waitUntil(lambda: dock.load_button.height() > 10)
    click(dock.load_button)
    assert dock.reference.text() == "known.csv"
    dock.boxes.controls["figures"].setChecked(False)
    click(dock.button)
    settle(viewer)
    found = json.loads((folder[0] / "reference.json").read_text())
    assert {row["scope"] for row in found["table"]} == {"field"}
    dock.reference.clear()
    QTest.keyClicks(dock.reference, "Pt19 = 1")
    assert set(dock.choices().reference["scope"]) == {"all"}
    path.write_text("class,share\nPt19,1\n")
    click(dock.load_button)
    assert "known.csv: the reference lacks" in notification_manager.records[-1].message


def test_title_and_reference_are_of_one_project(dock, state, tmp_path, qtbot):
    def opened(name: str) -> tuple[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        project = Project(folder / f"{name}.atomicity")
        state.open_project(project, project.load_all())
        qtbot.waitUntil(lambda: not dock.outdated())
        return dock.title.text(), dock.reference.text()

    opened("monday")
    dock.title.setText("Monday")
    dock.reference.setText("Pt19:Pt41 = 1:1")
    state.set_blind(True)
    state.set_blind(False)
    qtbot.waitUntil(lambda: not dock.outdated())
    assert dock.title.text() == "Monday"
    state.close_project()
    assert opened("tuesday") == ("", "")
    state.close_project()


def test_a_table_goes_into_a_file(dock, state, tmp_path, monkeypatch, settle, viewer):
    for text, name in (("Clusters…", "c.csv"), ("Ratios…", "r.tex")):
        path = tmp_path / name
        monkeypatch.setattr(
            docks.QFileDialog, "getSaveFileName", lambda *a, path=path: (str(path), "")
        )
        menu = dock.table_button.menu()
        menu.popup(dock.table_button.mapToGlobal(dock.table_button.rect().bottomLeft()))
        action = next(a for a in menu.actions() if a.text() == text)
        QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(action).center())
        settle(viewer)
    read = read_clusters(tmp_path / "c.csv")
    wanted = add_group_names(state.table(), *state.group_names())
    pd.testing.assert_frame_equal(read, wanted, check_dtype=False)
    ratios = class_ratios(state.table(), CLASSES, groups=state.group_scopes())
    assert (tmp_path / "r.tex").read_text() == latex_table(ratios)


def test_the_table_of_ratios_is_that_of_ratios(
    dock, viewer, state, tmp_path, monkeypatch, qtbot, settle
):
    ratios = Ratios(viewer)
    qtbot.addWidget(ratios)
    state.clusters.remove([("second", i) for i in state.table("second")["cluster_id"]])
    texts = []
    for name, write in (("a.csv", ratios.export_ratios), ("b.csv", dock.export_ratios)):
        path = tmp_path / name
        monkeypatch.setattr(
            docks.QFileDialog, "getSaveFileName", lambda *a, path=path: (str(path), "")
        )
        ratios.update_now()
        write()
        settle(viewer)
        texts.append(path.read_text())
    assert texts[0] == texts[1] and "second" in texts[0]


def test_it_says_what_there_is(viewer, qtbot):
    dock = Report(viewer)
    qtbot.addWidget(dock)
    dock.show()
    assert dock.words.text() == NOTHING and not dock.button.isEnabled()
    state = state_of(viewer)
    state.clusters.set_analysis(made_up(5))
    qtbot.waitUntil(lambda: dock.words.text() == "1 image, 5 clusters.")
    assert dock.button.isEnabled()
    state.clusters.relabel([("field", 1)], "Pt70")
    state.add_image(Micrograph(made_up(1).micrograph.data, 0.05, "later"))
    words = "1 image, 5 clusters, 1 with a manual label; 1 image not analysed yet."
    qtbot.waitUntil(lambda: dock.words.text() == words)
    state.atoms.add("field", [Mark(10.0, 10.0)])
    qtbot.waitUntil(lambda: dock.words.text().startswith(f"{words} The dock Dispersion writes"))


def test_a_hidden_dock_looks_when_it_is_shown(dock, state, qtbot, monkeypatch):
    qtbot.waitUntil(lambda: dock.words.text() == "2 images, 55 clusters.")
    qtbot.wait(100)  # until what was set off before is done
    calls = []
    said = docks.summary
    monkeypatch.setattr(docks, "summary", lambda s: calls.append(1) or said(s))
    dock.hide()
    state.clusters.relabel([("field", 1)], "Pt70")
    qtbot.wait(80)
    assert not calls
    dock.show()
    qtbot.waitUntil(lambda: "1 with a manual label" in dock.words.text())


def test_it_can_be_stopped(dock, state, folder, settle, viewer, monkeypatch):
    def never_ends(taken, out, choices, progress, stop):
        while not stop():
            progress(0, 1, "Drawing")
        from napari_atomicity.core.errors import Cancelled

        raise Cancelled

    monkeypatch.setattr(docks, "write_all", never_ends)
    click(dock.button)
    click_cancel(viewer)
    settle(viewer)
    assert state.status.state is TaskState.STOPPED
    assert dock.result.isHidden() and dock.button.isEnabled()


def test_it_fits_a_narrow_dock(dock):
    assert dock.minimumSizeHint().width() <= 400 and dock.minimumSizeHint().height() <= 300
    for widget in (
        dock.button,
        dock.open_button,
        dock.table_button,
        dock.reference,
        *dock.boxes.controls.values(),
    ):
        assert widget.toolTip()


def test_what_was_written_is_said(tmp_path):
    files = [tmp_path / "report.html", tmp_path / "run.json"]
    assert format_written(files) == f"Written: report.html and 1 other file in {tmp_path}"


def test_the_analyses_can_be_copied_as_a_command(viewer, qtbot, tmp_path, monkeypatch):
    state = state_of(viewer)
    for seed, name in enumerate("ab"):
        write_image(tmp_path / f"{name}.tif", seed)
        state.clusters.set_analysis(analyse(load(tmp_path / f"{name}.tif"), device="cpu"))
    dock = Report(viewer)
    qtbot.addWidget(dock)
    dock.show()
    updated(dock)
    dock.method.setCurrentIndex(dock.method.findData("em"))
    dock.copy_as.menu().actions()[0].trigger()
    lines = QApplication.clipboard().text().splitlines()
    assert [f"{name}.tif" in line for name, line in zip("ab", lines, strict=True)] == [True, True]
    monkeypatch.chdir(tmp_path)
    for number, (name, line) in enumerate(zip("ab", lines, strict=True), 1):
        words = shlex.split(line)
        assert words[:2] == ["atomicity", "analyse"] and words[words.index("--ratios") + 1] == "em"
        assert CliRunner().invoke(app, [*words[1:], "--device", "cpu"]).exit_code == 0
        found = read_clusters(tmp_path / f"results-{number}" / "clusters.csv")
        shown = state.table(f"{name}.tif")
        columns = ["cluster_id", "label", "diameter_nm"]
        pd.testing.assert_frame_equal(found[columns], shown[columns], check_dtype=False)
    # Samples need a table: the copied lines say that they lack it.
    state.sessions.group_sample(["a.tif"], "spent")
    for action in dock.copy_as.menu().actions():
        action.trigger()
        assert "--samples TABLE" in QApplication.clipboard().text().splitlines()[-1]


@pytest.fixture
def session(viewer, tmp_path, monkeypatch):
    """A session of two images that were labelled jointly, one of them a known sample."""
    classifier = offer(monkeypatch, SizedClassifier())
    monkeypatch.setitem(models._unsaved, classifier.card.model_id, classifier)
    analyses = []
    for seed, (name, kinds) in enumerate((("mix.tif", CLASSES), ("one.tif", ["Pt41"]))):
        write_clusters(tmp_path / name, kinds, seed)
        analyses.append(analyse(load(tmp_path / name), classifier, umap=False))
    state = state_of(viewer)
    for analysis in analyses:
        state.clusters.set_analysis(analysis)
    state.sessions.set_known(["one.tif"], {"Pt41": 1})
    [session] = state.sessions.groups()
    for analysis in label_session(analyses, classifier, session=session).analyses:
        state.clusters.set_analysis(analysis)
    return session


@pytest.fixture
def write_report(viewer, qtbot, folder, settle):
    """Write the files by the button; return the record and the page."""

    def run():
        dock = Report(viewer)
        qtbot.addWidget(dock)
        dock.show()
        qtbot.waitUntil(dock.button.isEnabled)
        click(dock.button)
        settle(viewer)
        out = folder[0]
        return json.loads((out / "run.json").read_text()), (out / "report.html").read_text()

    return run


def test_the_report_of_a_session_tells_its_scale(session, write_report, folder):
    record, page = write_report()
    [described] = record["sessions"]
    assert described["session"] == session.name and described["images"] == 2
    assert described["known"] == {"one.tif": {"Pt41": 1.0}}
    assert described["known_samples"]["one.tif"]["used"]
    assert "clusters_changed" not in described  # the window does not know the labels before
    earlier = read_earlier_scale(folder[0] / "run.json")
    assert earlier.intensity_per_atom == pytest.approx(described["intensity_per_atom"])
    assert "jointly from the clusters of all images of an acquisition session (2 images in" in page
    assert "Known compositions of 1 image are used for the scale (Pt41)" in page
    assert "rest on this intensity" not in page  # no cluster was edited


def test_page_record_and_window_give_the_same_scale_after_clusters_are_removed(
    viewer, qtbot, session, write_report
):
    """That with which the labels were computed; that of the clusters left is named beside it."""
    state = state_of(viewer)
    state.current = "mix.tif"
    dock = Classify(viewer)
    qtbot.addWidget(dock)
    dock.show()
    section = updated(dock).intensity
    click(section.button)
    text = section.view.session_text.text
    qtbot.waitUntil(lambda: text().startswith("Session "))
    before = text()
    state.clusters.remove_ids("mix.tif", state.table("mix.tif")["cluster_id"][:9])
    record, page = write_report()
    [described] = record["sessions"]
    value, low, high = (described[f"intensity_per_atom{end}"] for end in ("", "_low", "_high"))
    stated = f"2 images: {value:.3g} counts nm² (95 %: {low:.3g} to {high:.3g}). Its images"
    assert stated in before and stated in page
    now = "rest on this intensity. The clusters as they are now, which the charts show, give "
    assert now not in before and now in page
    qtbot.waitUntil(lambda: now in text())
    assert stated in text()
