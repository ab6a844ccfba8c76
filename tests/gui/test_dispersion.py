"""The Dispersion dock, used with a real mouse."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from bench import write_image
from marked import found_atoms
from qtpy.QtCore import QPoint, QRect, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog
from waiting import draw_now

from napari_atomicity.atoms import dispersion as module
from napari_atomicity.atoms.analysis import BRIGHT_CLUSTERS, AtomAnalysis
from napari_atomicity.atoms.injection import InjectedAtoms
from napari_atomicity.atoms.marks import Mark
from napari_atomicity.atoms.table import conform
from napari_atomicity.core.micrograph import AVERAGE_OF, Micrograph
from napari_atomicity.gui.docks.atoms.dock import Atoms
from napari_atomicity.gui.docks.dispersion import dock as docks
from napari_atomicity.gui.docks.dispersion.dock import Dispersion
from napari_atomicity.gui.docks.dispersion.figures import figures, verdict
from napari_atomicity.gui.tasks import running
from napari_atomicity.gui.viewer.binding import binding_of, state_of
from napari_atomicity.io.images import load
from napari_atomicity.io.tables import read_table
from napari_atomicity.project import Project
from napari_atomicity.project.opening import open_any
from napari_atomicity.reporting.plots.base import per_cent
from napari_atomicity.reporting.plots.dispersion import DISPERSION_PLOTS
from napari_atomicity.state.annotator_packs import counted_atoms, set_reviewed
from napari_atomicity.statistics.points.dispersion import DispersionStatistics as Found, dispersion
from napari_atomicity.statistics.points.loading_settings import LoadingSettings

LEFT = Qt.MouseButton.LeftButton
PLAIN = Qt.KeyboardModifier.NoModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
PX = 0.1


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("napari_atomicity.statistics.points.dispersion_intervals.RESAMPLES", 10)
    monkeypatch.setattr("napari_atomicity.statistics.points.dispersion_evidence.DRAWS", 10)
    monkeypatch.setattr(docks, "DEBOUNCE_MS", 0)


def found_in(name: str, n: int = 30, seed: int = 0, support: bool = True) -> AtomAnalysis:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 79, (n, 2))
    points[1:2] = points[:1] + 2  # 0.28 nm: a dimer
    table = pd.DataFrame(
        {
            "image": name,
            "frame": 0,
            "atom_id": np.arange(1, n + 1),
            "y_px": points[:, 0],
            "x_px": points[:, 1],
            "y_nm": points[:, 0] * PX,
            "x_nm": points[:, 1] * PX,
            "confidence": np.linspace(0.95, 0.55, n),
            "origin": "model",
        }
    )
    micrograph = Micrograph(np.zeros((80, 80), np.float32), pixel_size_nm=PX, name=name)
    mask = np.full((80, 80), support)
    known = {"threshold": 0.5}
    return AtomAnalysis(micrograph, conform(table), 0.5, mask, PX, "m", parameters=known)


@pytest.fixture
def state(viewer):
    state = state_of(viewer)
    for seed, name in enumerate(["one", "two"]):
        found = found_in(name, 30 + 10 * seed, seed)
        state.add_image(found.micrograph)
        state.atoms.set_analysis(found)
    state.current = "one"
    return state


@pytest.fixture
def dock(viewer, state, qtbot, settled):
    dock = Dispersion(viewer)
    qtbot.addWidget(dock)
    dock.form.controls["simulations"].setValue(19)
    dock.resize(400, 900)
    with qtbot.waitExposed(dock):
        dock.show()
    settled(dock)
    return dock


@pytest.fixture
def settled(qtbot):
    """Wait until a dock shows all there is."""

    def wait(dock: Dispersion) -> Dispersion:
        def rests() -> bool:
            waits = bool(dock.outdated()) or dock._debounce.isActive()
            return not (waits or running(dock.state, dock._task))

        qtbot.waitUntil(rests)
        draw_now(dock.view)
        return dock

    return wait


@pytest.fixture
def show(dock, settled):
    """Choose a plot and wait until it is drawn."""

    def choose(name: str) -> pd.DataFrame:
        dock.plot_combo.setCurrentIndex(dock.plot_combo.findData(name))
        settled(dock)
        return dock.view.data

    return choose


def click(dock: Dispersion, row: int, modifiers=PLAIN) -> None:
    left, right, top, bottom = dock.view.boxes[row]
    place = QPoint(round((left + right) / 2), round((top + bottom) / 2))
    QTest.mouseClick(dock.view, LEFT, modifiers, place)


def keys(table: pd.DataFrame) -> set:
    return set(zip(table["image"], table["atom_id"].tolist(), strict=True))


def value(dock: Dispersion, name: str) -> str:
    (line,) = [f for f in dock.model.figures if f.name == name]
    return line.value


# ---- figures
def test_the_figures_are_those_of_the_image_looked_at(dock, state, settled, qtbot):
    assert value(dock, "Atoms, counted") == "30" and value(dock, "Support") == "64 nm²"
    expected = found_in("one").candidates["confidence"].sum()
    assert value(dock, "Atoms, expected") == f"{expected:.3g}"
    assert value(dock, "Density") == f"{expected / 64:.3g} /nm²"
    state.current = "two"
    qtbot.waitUntil(lambda: not dock.body.isEnabled())  # it shows the other image
    settled(dock)
    assert dock.body.isEnabled() and value(dock, "Atoms, counted") == "40"


def test_all_images_are_pooled(dock, state, settled):
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert value(dock, "Atoms, counted") == "70" and value(dock, "Support") == "128 nm²"
    state.add_image(replace(found_in("three").micrograph))
    settled(dock)
    assert "1 of 3 images left out: atoms have not been searched" in dock.note.text()
    state.pixel_sizes.set("two", 0.5 * state.pixel_sizes.get("two"))
    settled(dock)
    assert value(dock, "Atoms, counted") == "30"
    assert "1 of 3 images left out: atoms have not been searched" in dock.note.text()
    assert "Left out: the pixel size of two has changed" in dock.note.text()
    state.pixel_sizes.set("one", 0.5 * state.pixel_sizes.get("one"))
    settled(dock)
    assert dock.message.text().startswith("The pixel size of one, two has changed")


def test_files_with_the_content_of_others_are_named(dock, state, settled):
    for image in state.images:
        state.replace_micrograph(replace(state.micrograph(image), sha256="same"))
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert "1 file has the content of others: remove the copies" in dock.note.text()


def test_pixel_sizes_that_a_person_has_entered_are_said_to_add_an_error(dock, state, settled):
    assert "a person has entered" not in dock.note.text()
    state.replace_micrograph(replace(state.micrograph("one"), metadata={"calibration": "none"}))
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert "1 image has a pixel size that a person has entered: intervals" in dock.note.text()


def test_of_a_file_that_cannot_be_read_no_pixel_size_is_asked_for(dock, state, settled, tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\x00rubbish")
    opened = open_any(tmp_path)
    opened.project.image_files.set_error("broken.tif", "the file is damaged")
    state.open_project(opened.project, opened.project.load_all())
    state.current = "broken.tif"
    settled(dock)
    assert dock.message.text() == "broken.tif cannot be read: Browse gives the reason."
    state.close_project()
    opened.project.close()


def test_a_stack_and_its_average_are_named(dock, state, settled):
    one, two = (state.micrograph(image) for image in ("one", "two"))
    state.replace_micrograph(replace(one, data=np.stack([one.data] * 2)))
    state.replace_micrograph(replace(two, metadata={AVERAGE_OF: "one"}))
    assert "mean frame" not in dock.note.text()
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert "one counts once, as the mean frame" in dock.note.text()
    assert "two: the atoms of a movie that is counted too" in dock.note.text()


def test_the_plot_of_groups_has_the_fractions_of_the_table(dock, settled):
    dock.plot_combo.setCurrentIndex(dock.plot_combo.findData("groups"))
    settled(dock)
    data = dock.view.data
    assert len(data)
    for kind, share in data.groupby("kind")["share_of_kind"].first().items():
        assert share == dock.found.dispersion.shares[kind].value


def test_it_is_said_that_atoms_added_by_hand_are_among_those_missed(dock, state, settled):
    assert "by hand" not in dock.note.text()
    state.atoms.add("one", [Mark(5.0, 5.0), Mark(9.0, 30.0)])
    settled(dock)
    assert "2 atoms added by hand" in dock.note.text()
    # Off the support, the second one does not count in the density.
    vacuum = np.array([[7.0, 20.0], [7.0, 40.0], [15.0, 40.0], [15.0, 20.0]])
    state.atoms.set_support("one", [(vacuum, False)])
    settled(dock)
    assert dock.note.text().startswith("1 atom added by hand")


def test_each_line_says_what_it_is_and_has_a_source(dock):
    model = dock.model
    for row in range(model.rowCount()):
        tip = model.data(model.index(row, 0), Qt.ItemDataRole.ToolTipRole)
        assert len(tip) > 60
    said = " ".join(f.meaning for f in model.figures)
    for source in ("Hanisch", "Clark and Evans", "Myllymäki", "Fay and Feuer", "Illian"):
        assert source in said
    density = model.figures[0]
    low, high = (float(x) for x in density.interval.split(" – "))
    assert low < float(density.value.split()[0]) < high


def test_the_verdict():
    assert verdict(0.8, 0.01, 0.95) == "closer together, p = 0.01"
    assert verdict(1.2, 0.01, 0.95) == "more regular, p = 0.01"
    assert verdict(1.2, 0.01, 0.995) == "as chance, p = 0.01"
    assert verdict(np.nan, np.nan, 0.95) == ""


def test_it_follows_threshold_marks_support_and_undo(viewer, dock, state, settled):
    state.atoms.set_threshold("one", 0.8)
    settled(dock)
    fewer = int((found_in("one").candidates["confidence"] >= 0.8).sum())
    assert value(dock, "Atoms, counted") == str(fewer)
    state.atoms.add("one", [Mark(40.0, 40.0)])
    settled(dock)
    assert value(dock, "Atoms, counted") == str(fewer + 1)
    half = np.array([[-0.5, -0.5], [-0.5, 79.5], [39.5, 79.5], [39.5, -0.5]])
    state.atoms.set_support("one", [(half, False)])
    settled(dock)
    assert value(dock, "Support") == "32 nm²"
    state.history.undo()
    settled(dock)
    assert value(dock, "Support") == "64 nm²"


def test_the_other_image_is_not_found_again(dock, state, settled, monkeypatch):
    asked = []
    real = module.compute_image_dispersion

    def noted(atoms, *args, **options):
        asked.append(atoms.image)
        return real(atoms, *args, **options)

    monkeypatch.setattr(module, "compute_image_dispersion", noted)
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert asked == ["two"], "the first is known"
    state.atoms.remove([("two", 3)])
    settled(dock)
    assert asked == ["two", "two"]


def test_settings_are_used(dock, settled):
    dock.settings_part.button.click()
    assert dock.linking.text() == "0.3 nm"
    wide = dock.model.figures[0].interval
    dock.form.controls["level"].setValue(50)
    dock.form.controls["largest_nm"].setValue(1.0)
    settled(dock)
    assert dock.model.figures[0].interval != wide
    found = dock.found.dispersion
    assert found.level == 0.5
    assert found.curves["g"]["r_nm"].iloc[-1] == pytest.approx(1.0)
    assert len(found.randomness.simulated_mean_nm) == 19


# ---- plots
def test_a_bar_of_the_histogram_selects_its_atoms_and_shows_what_is_selected(dock, state, show):
    data, table = show("nearest_neighbours"), state.atoms.table("one")
    distance = table["nearest_neighbour_nm"]
    fullest, other = (int(i) for i in data["count"].sort_values(ascending=False).index[:2])

    def inside(row: int) -> set:
        bar = data.loc[row]
        return keys(
            table[(distance >= bar["distance_from_nm"]) & (distance < bar["distance_to_nm"])]
        )

    click(dock, fullest)
    assert state.atoms.selection == inside(fullest)
    assert len(state.atoms.selection) == data["count"][fullest] > 1
    click(dock, other, SHIFT)
    assert state.atoms.selection == inside(fullest) | inside(other)
    assert dock.view.share[fullest] == dock.view.share[other] == 1
    assert (dock.view.share > 0).sum() == 2
    assert "selected atoms marked" in dock.hint.text()


def test_quadrats_and_groups_select_their_atoms(dock, state, show):
    data, table = show("quadrats"), state.atoms.table("one")
    row = int(data["count"].idxmax())
    click(dock, row)
    box = data.loc[row]
    inside = table["y_nm"].between(box["y_from_nm"], box["y_to_nm"], inclusive="left")
    inside &= table["x_nm"].between(box["x_from_nm"], box["x_to_nm"], inclusive="left")
    assert state.atoms.selection == keys(table[inside])
    assert len(state.atoms.selection) == box["count"] > 1
    data = show("groups")
    pairs = int(data.index[data["size"] == 2][0])
    click(dock, pairs)
    assert state.atoms.selection == keys(table[table["group_size"] == 2])


def test_selected_elsewhere_is_marked_and_a_curve_takes_nothing_away(dock, state, show, settled):
    show("nearest_neighbours")
    state.atoms.select([("one", 1), ("two", 1)])
    settled(dock)
    assert dock.hint.text() == "1 of 2 selected atoms marked."
    assert (dock.view.share > 0).sum() == 1
    show("pair_correlation")
    click(dock, 20)
    assert len(state.atoms.selection) == 2
    show("ripley_l")
    assert dock.view.data["observed"].notna().all() and dock.view.data["low"].notna().all()


def test_every_plot_is_drawn_of_an_image_and_of_a_pool(dock, settled, show):
    for scope in ("current", "all"):
        dock.scope_combo.setCurrentIndex(dock.scope_combo.findData(scope))
        settled(dock)
        for name in DISPERSION_PLOTS:
            data = show(name)
            assert len(data) or (name, scope) == ("quadrats", "all")
            assert dock.view.figure is not None
    show("quadrats")
    assert "Quadrats are available for single images" in dock.view.accessibleDescription()


def test_the_density_is_that_of_the_dock_atoms_and_of_the_table(viewer, dock, state, qtbot):
    atoms = Atoms(viewer)
    qtbot.addWidget(atoms)
    with qtbot.waitExposed(atoms):
        atoms.show()
    qtbot.waitUntil(lambda: "per nm²" in atoms.found.words.text())
    shown = {line[0]: line[1] for line in dock.model.lines}
    words = atoms.found.words.text()
    row = dock.shown_rows().iloc[0]
    assert words.startswith(f"{row['density_per_nm2']:.3g} atoms per nm²")
    assert f"detections above the threshold: {row['density_counted_per_nm2']:.3g} per nm²" in words
    assert shown["Density"] == f"{row['density_per_nm2']:.3g} /nm²"
    assert shown["Density, counted"] == f"{row['density_counted_per_nm2']:.3g} /nm²"
    assert row["density_per_nm2"] < 0.9 * row["density_counted_per_nm2"]


def added_atoms() -> InjectedAtoms:
    """Injected atoms of which the brighter ones are found."""
    height = np.geomspace(0.1, 2.5, 120)
    seen = np.where(height > 0.5, height, np.nan)
    return InjectedAtoms(
        30.0, 0.075, height, np.where(height > 0.5, 2.0, np.nan), seen, np.ones(20), 20, 16.0,
        1, np.full(30, 2.0), np.ones(30), -3.9, 0.0,
    )  # fmt: skip


def test_what_is_missed_stands_below_the_density(dock, state, settled):
    names = [figure.name for figure in figures(dock.found.dispersion)]
    assert "Density, all atoms" not in names
    state.atoms.set_added("one", added_atoms())
    settled(dock)
    shown = {line[0]: line[1:] for line in dock.model.lines}
    census = state.atoms.of("one").completeness
    assert shown["Completeness"][0] == per_cent(census.share)
    assert float(shown["Density, all atoms"][0].split()[0]) == pytest.approx(
        census.density_per_nm2, rel=0.01
    )
    assert dock.shown_rows()["density_complete_per_nm2"].tolist() == [census.density_per_nm2]
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert value(dock, "Completeness of 1 field") == per_cent(census.share)
    (line,) = [f for f in dock.model.figures if f.name == "Density, all atoms"]
    assert line.value.startswith("–") and line.interval == "1 of 2 fields tested"
    assert "in every image" in line.meaning
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("current"))
    state.history.undo()
    settled(dock)
    assert "Density, all atoms" not in {line[0] for line in dock.model.lines}


def test_the_density_of_all_atoms_of_a_stack_is_not_known_since_one_frame_was_tested(
    dock, state, settled
):
    plain = found_in("stack")
    micrograph = Micrograph(np.zeros((2, 80, 80), np.float32), pixel_size_nm=PX, name="stack")
    state.add_image(micrograph)
    state.atoms.set_analysis(
        replace(plain, micrograph=micrograph, support=np.stack([plain.support] * 2))
    )
    state.atoms.set_added("stack", replace(added_atoms(), frames=2))
    state.current = "stack"

    def reason() -> str:
        settled(dock)
        (line,) = [f for f in dock.model.figures if f.name == "Density, all atoms"]
        assert line.value.startswith("–")
        assert f"Not known: {line.interval}." in line.meaning
        return line.interval

    assert reason() == "one frame tested"
    assert "sums over the 2 frames" in dock.note.text()
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    assert reason() == "1 of 3 fields tested"
    state.atoms.set_added("one", added_atoms())
    state.atoms.set_added("two", added_atoms())
    assert reason() == "one frame tested"


def test_what_the_model_misses_is_left_out_once_people_decided_on_all_atoms(dock, state, settled):
    state.atoms.set_added("one", added_atoms())
    settled(dock)
    assert value(dock, "Completeness")
    state.atoms.confirm([("one", i) for i in state.atoms.table("one")["atom_id"].tolist()])
    settled(dock)
    assert not {"Completeness", "Density, all atoms"} & {line[0] for line in dock.model.lines}
    assert dock.shown_rows()["completeness"].isna().all()


# ---- out
def test_rows_are_copied_and_written_as_the_command_line_writes_them(
    dock, settled, settle, viewer, tmp_path, monkeypatch
):
    QTest.mouseClick(dock.copy_button, LEFT)
    header, line = QApplication.clipboard().text().splitlines()
    assert header.split("\t")[:2] == ["image", "n_atoms"] and line.split("\t")[:2] == ["one", "30"]
    path = tmp_path / "dispersion.csv"
    monkeypatch.setattr(docks, "choose_table_path", lambda *a: path)
    monkeypatch.setattr(docks, "show_info", lambda words: None)
    dock.state.sessions.group_sample(["two"], "fresh")
    QTest.mouseClick(dock.export_button, LEFT)
    settle(viewer)
    rows = read_table(path).set_index("image")
    assert list(rows.index)[:2] == ["one", "two"] and list(rows.index)[-1] == "all"
    assert rows.loc["all", "n_atoms"] == 70
    same = rows.columns.difference(["n_atoms_off_support"])
    pd.testing.assert_series_equal(
        rows.loc["sample: fresh", same], rows.loc["two", same], check_names=False
    )
    assert list(rows.columns) == header.split("\t")[1:]


def test_a_workbook_explains_every_column(dock, settle, viewer, tmp_path, monkeypatch):
    path = tmp_path / "dispersion.xlsx"
    monkeypatch.setattr(docks, "choose_table_path", lambda *a: path)
    monkeypatch.setattr(docks, "show_info", lambda words: None)
    QTest.mouseClick(dock.export_button, LEFT)
    settle(viewer)
    about = pd.read_excel(path, sheet_name="columns", keep_default_na=False).set_index("column")
    assert list(about.index) == list(pd.read_excel(path, nrows=0).columns)
    assert (about["description"] != "").all()
    assert about.loc["density_per_nm2", "unit"] == "1/nm²"
    assert about.loc["share_multimer", "description"].endswith("groups of size 3 to 6")


@pytest.fixture
def report_in(dock, settle, viewer, tmp_path, monkeypatch):
    """Write a report as a person does; return its folder, record and text."""
    monkeypatch.setattr(docks, "show_info", lambda words: None)

    def write(name: str) -> tuple[Path, dict, str]:
        folder = tmp_path / name
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(folder), ""))
        QTest.mouseClick(dock.report_button, LEFT)
        settle(viewer)
        text = unescape(re.sub(r"<[^>]*>", "", (folder / "report.html").read_text()))
        return folder, json.loads((folder / "run.json").read_text()), text

    return write


def test_a_report_holds_what_was_marked_and_drawn(dock, state, settled, report_in):
    edge = np.array([[-0.5, -0.5], [-0.5, 80], [9.5, 80], [9.5, -0.5]])
    state.atoms.set_support("one", [(edge, False)])
    state.atoms.remove([("one", 1)])
    state.atoms.confirm([("one", 2)])
    state.atoms.set_uncertain([("one", 3)])
    state.atoms.add("one", [Mark(40.0, 40.0), Mark(60.0, 60.0, uncertain=True)])
    before = set(state.atoms.of("one").marks)
    state.atoms.add("one", [Mark(30.0, 30.0)])
    (mistake,) = set(state.atoms.of("one").marks) - before
    state.atoms.remove([("one", mistake)])  # takes back an addition, and removes no atom
    state.atoms.set_threshold("two", 0.7)
    state.sessions.group_sample(["two"], "fresh")
    state.sessions.reference = "fresh"
    state.add_image(Micrograph(np.zeros((9, 9), np.float32), pixel_size_nm=PX, name="three"))
    settled(dock)
    assert not dock.open_button.isEnabled()

    folder, record, text = report_in("first")

    tables = {image: state.atoms.of(image).table for image in ("one", "two")}
    atoms = read_table(folder / "atoms.csv").astype({"atom_id": int})
    assert keys(atoms) == keys(pd.concat(tables.values()))
    assert atoms["origin"].eq("person").sum() == 4
    rows = read_table(folder / "dispersion.csv").set_index("image")
    assert rows.loc["one", "support_nm2"] == pytest.approx(56)
    assert rows.index[-1] == "all" and "sample: fresh" in rows.index
    one, two, three = record["images"]
    marks = {"added": 2, "confirmed_or_moved": 1, "removed": 1, "uncertain": 2}
    assert one["parameters"]["marks"] == {**marks, "support_regions": 1}
    assert two["parameters"]["manual_threshold"] and two["parameters"]["threshold"] == 0.7
    assert three["status"] == "not reached" and record["status"] == "done"
    assert record["kind"] == "atoms" and record["model"] == {"model_id": "m"}
    assert all((folder / name).exists() for name in record["outputs"])
    assert {"figures/one density.svg", "figures/images.svg"} <= set(record["outputs"])
    assert "2 added, 1 confirmed or moved, 1 removed and 2 uncertain" in text
    assert "In 1 image, the threshold was set by hand (0.7)." in text
    assert "In 1 image, the support was corrected by hand." in text
    assert "1 of 3 images left out" in text and "Compared with fresh." in text
    assert dock.open_button.isEnabled()


def test_a_report_with_a_thickness_but_no_metal_has_no_loading_by_weight(dock, state, report_in):
    state.atoms.loading = LoadingSettings(support_thickness_nm=3.0)
    _, record, text = report_in("thick")
    assert record["status"] == "done" and "wt%" not in text and "by weight" not in text


def test_an_image_whose_only_mark_was_deleted_has_no_density(dock, state):
    state.add_image(Micrograph(np.zeros((9, 9), np.float32), pixel_size_nm=PX, name="three"))
    (mark,) = state.atoms.add("three", [Mark(4.0, 4.0)])
    assert "three" in counted_atoms(state, state.images)
    state.atoms.remove([("three", mark)])
    assert "three" not in counted_atoms(state, state.images)


def test_marks_by_hand_follow_the_pixel_size(dock, state):
    state.add_image(Micrograph(np.zeros((90, 90), np.float32), pixel_size_nm=PX, name="three"))
    state.atoms.add("three", [Mark(4.0, 4.0, intensity=2.0, sigma_nm=0.1)])
    state.pixel_sizes.set("three", 2 * PX)
    row = state.atoms.table("three").iloc[0]
    assert not state.atoms.outdated("three")
    assert row[["y_nm", "intensity", "sigma_nm"]].tolist() == pytest.approx([0.8, 8.0, 0.2])
    state.history.undo()
    row = state.atoms.table("three").iloc[0]
    assert row[["y_nm", "intensity", "sigma_nm"]].tolist() == pytest.approx([0.4, 2.0, 0.1])
    # Those of an image that a model has searched follow when it searches again.
    state.atoms.move("one", {1: Mark(4.0, 4.0, intensity=2.0, sigma_nm=0.1)})
    before = state.atoms.table("one").set_index("atom_id").loc[1]
    analysis = state.atoms.of("one").analysis
    size = {"y_nm": 2 * analysis.candidates["y_nm"], "x_nm": 2 * analysis.candidates["x_nm"]}
    again = replace(analysis, pixel_size_nm=2 * PX, candidates=analysis.candidates.assign(**size))
    atoms = state.atoms.of("one").with_analysis(again)
    after = atoms.table.set_index("atom_id").loc[1]
    assert after["intensity"] == pytest.approx(4 * before["intensity"])
    assert after["y_nm"] == pytest.approx(2 * before["y_nm"])


def test_a_report_names_the_precision_that_a_threshold_was_chosen_by(dock, state, report_in):
    state.atoms.set_precision("one", 0.9)
    state.atoms.set_threshold("two", 0.7)
    _, record, text = report_in("precise")
    one, two = (image["parameters"] for image in record["images"])
    assert one["precision"] == 0.9 and "manual_threshold" not in one
    assert two["manual_threshold"]
    assert "In 1 image, the threshold corresponds to an expected precision of 0.9." in text
    assert "In 1 image, the threshold was set by hand (0.7)." in text


def test_a_report_of_atoms_that_nobody_corrected_is_that_of_the_command_line(
    dock, state, settled, report_in
):
    _, record, text = report_in("plain")
    for image in record["images"]:
        assert not {"marks", "manual_threshold"} & set(image["parameters"])
        assert image["parameters"]["expected"]["precision"] > 0.5
    assert "In each image, candidates were reported down to" in text and "by hand" not in text


@pytest.mark.parametrize("blind", [False, True])
def test_a_report_of_atoms_marked_by_hand_names_no_model(
    dock, state, settled, report_in, blind, tmp_path
):
    found = found_atoms(write_image(tmp_path / "a.tif"))
    state.current = state.add_image(found.micrograph)
    if blind:
        state.atoms.set_analysis(found)
        state.attach_project(Project(tmp_path / "p.atomicity"))
        state.annotator = "Dee"
        state.set_blind(True)
    else:
        for image in ("one", "two"):
            state.atoms.install(image, None)
    state.atoms.add("a.tif", [Mark(10.0, 10.0), Mark(40.0, 40.0)])
    settled(dock)

    folder, record, text = report_in("marked")

    assert record["model"] is None and "marked by hand without a model" in text
    assert len(read_table(folder / "atoms.csv")) == 2
    assert "figures/a.tif density.svg" in record["outputs"]
    written = (folder / "run.json").read_text()
    assert ("session: " in text) is not blind and (found.model_id in written) is False
    assert record["parameters"].get("blind_annotator", "") == ("Dee" if blind else "")
    assert ("blind marks of Dee" in text) is blind
    if blind:  # the report is of the project
        state.close_project()
        assert not dock.open_button.isEnabled()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".csv"])
def test_what_is_drawn_is_saved(dock, show, tmp_path, monkeypatch, suffix):
    show("groups")
    path = tmp_path / f"groups{suffix}"
    saved = "napari_atomicity.gui.scatter.save"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    monkeypatch.setattr(f"{saved}.show_info", lambda words: None)
    QTest.mouseClick(dock.save_button, LEFT)
    assert path.stat().st_size > 50


# ---- while it works
def test_cancel_keeps_what_was_shown_greyed_and_update_goes_on(dock, state, qtbot, settled):
    dock.form.controls["simulations"].setValue(9999)
    qtbot.waitUntil(dock.waiting.isVisible)
    assert not dock.body.isEnabled()
    before = dock.model.figures
    qtbot.waitUntil(lambda: dock.waiting.bar.value() > 0)
    QTest.mouseClick(dock.waiting.cancel_button, LEFT)
    settled(dock)
    assert not dock.waiting.isVisible() and dock.update_button.isVisible()
    assert dock.model.figures == before and not dock.body.isEnabled()
    click(dock, int(dock.view.data["count"].idxmax()))
    assert state.atoms.selection == frozenset(), "a plot of yesterday selects nothing"
    dock.form.controls["simulations"].setValue(19)
    QTest.mouseClick(dock.update_button, LEFT)
    settled(dock)
    assert dock.body.isEnabled() and not dock.update_button.isVisible()


def test_a_newer_question_ends_the_older_one(dock, state, settled, qtbot):
    dock.form.controls["simulations"].setValue(9999)
    qtbot.waitUntil(lambda: bool(running(state, dock._task)))
    (older,) = running(state, dock._task)
    dock.form.controls["simulations"].setValue(19)
    state.atoms.set_threshold("one", 0.9)
    settled(dock)
    assert older.cancelled and not dock.waiting.isVisible()
    n = int((found_in("one").candidates["confidence"] >= 0.9).sum())
    assert value(dock, "Atoms, counted") == str(n)


def test_while_hidden_it_rests(dock, state, settled, qtbot):
    dock.hide()
    state.atoms.set_threshold("one", 0.9)
    qtbot.wait(10)
    assert not dock._debounce.isActive() and not running(state, dock._task)
    dock.show()
    settled(dock)
    assert value(dock, "Atoms, counted") != "30"


# ---- hardly anything
def test_without_atoms_it_says_what_to_do(viewer, qtbot, settled):
    dock = Dispersion(viewer)
    qtbot.addWidget(dock)
    dock.show()
    settled(dock)
    assert dock.message.text() == docks.NO_ATOMS and not dock.body.isVisible()
    state = state_of(viewer)
    pixels = np.zeros((16, 16), np.float32)
    state.current = state.add_image(Micrograph(pixels, name="bare"))
    settled(dock)
    assert "pixel size of bare" in dock.message.text()
    state.current = state.add_image(Micrograph(pixels, pixel_size_nm=PX, name="calibrated"))
    settled(dock)
    assert dock.message.text() == docks.NO_ATOMS


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_atoms_have_a_density_and_dashes(dock, state, settled, show, n):
    few = found_in("one")
    state.atoms.set_analysis(replace(few, candidates=few.candidates.iloc[:n]))
    settled(dock)
    assert value(dock, "Atoms, counted") == str(n)
    assert dock.model.figures[0].interval.count("–") == 1
    assert (value(dock, "Clark–Evans R") == "–") == (n < 2)
    assert (value(dock, "Isolated atoms") == "–") == (n == 0)
    for name in DISPERSION_PLOTS:
        show(name)


def test_without_support_it_says_so_and_a_drawn_one_helps(dock, state, settled):
    state.atoms.set_analysis(found_in("one", support=False))
    settled(dock)
    assert "one: no support was found" in dock.message.text() and not dock.body.isVisible()
    corner = np.array([[-0.5, -0.5], [-0.5, 39.5], [39.5, 39.5], [39.5, -0.5]])
    state.atoms.set_support("one", [(corner, True)])
    settled(dock)
    assert value(dock, "Support") == "16 nm²" and not dock.message.isVisible()
    (counted,) = [f for f in dock.model.figures if f.name == "Atoms, counted"]
    off = 30 - int(counted.value)
    assert counted.interval == f"{off} on bright clusters or off the support"
    text = dock.note.text()
    assert ("Most detections in one" in text) == (off > int(counted.value))
    assert (f"rest on {counted.value} others with a mean" in text) == (off > int(counted.value))


def test_images_linked_at_different_distances_are_refused(dock, state, settled):
    other = replace(state.atoms.of("two"), group_distance_nm=0.5)  # of an older project
    state.atoms.install("two", other)
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert "different distances" in dock.message.text()
    assert dock.linking.text() == "0.3 nm, 0.5 nm"


def test_atoms_marked_by_hand_alone(dock, state, settled):
    rng = np.random.default_rng(0)
    pixels = (100 + 10 * rng.standard_normal((60, 60))).astype(np.float32)
    name = state.add_image(Micrograph(pixels, pixel_size_nm=PX, name="by hand"))
    state.atoms.add(name, [Mark(10.0, 10.0), Mark(30.0, 50.0)])
    state.current = name
    settled(dock)
    assert value(dock, "Atoms, expected") == "2" and value(dock, "Support") == "36 nm²"


def test_blind_an_image_without_marks_has_no_density_until_it_is_reviewed(
    dock, state, settled, tmp_path
):
    found = found_atoms(write_image(tmp_path / "a.tif"))
    state.current = state.add_image(found.micrograph)
    state.atoms.set_analysis(found)
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.annotator = "Dee"
    settled(dock)
    assert dock.body.isVisible()
    state.set_blind(True)
    assert not dock.body.isVisible() and dock.found is None  # at once: the model found it
    settled(dock)
    assert "a.tif has no marks of Dee yet" in dock.message.text() and not dock.body.isVisible()
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert dock.message.isVisible() and not dock.body.isVisible()
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("current"))
    set_reviewed(state, True)
    settled(dock)
    assert value(dock, "Atoms, counted") == "0" and dock.body.isVisible()
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("all"))
    settled(dock)
    assert "2 of 3 images left out: not reviewed by Dee yet." in dock.note.text()
    dock.scope_combo.setCurrentIndex(dock.scope_combo.findData("current"))
    set_reviewed(state, False)
    settled(dock)
    assert "no marks of Dee" in dock.message.text() and not dock.body.isVisible()
    for replay, is_reviewed in (("undo", True), ("undo", False), ("redo", True), ("redo", False)):
        getattr(dock.binding.edits, replay)()
        settled(dock)
        assert dock.body.isVisible() == is_reviewed, replay
        assert state.project.atoms.images_viewed_by("Dee") == ({"a.tif"} if is_reviewed else set())
    assert dock.binding.viewer.status == "Redone: set a.tif as not reviewed"
    state.atoms.add("a.tif", [Mark(10.0, 10.0)])
    settled(dock)
    assert value(dock, "Atoms, counted") == "1"
    state.close_project()


def test_blind_a_reviewed_image_that_no_model_has_searched_has_no_atoms(
    dock, state, settled, tmp_path
):
    grains = np.random.default_rng(0).normal(1000, 30, (80, 80)).astype(np.uint16)
    known = {"resolution": (10, 10), "metadata": {"unit": "nm"}}
    tifffile.imwrite(tmp_path / "a.tif", grains, imagej=True, **known)  # support everywhere
    image = state.current = state.add_image(load(tmp_path / "a.tif"))
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.annotator = "Dee"
    state.set_blind(True)
    settled(dock)
    assert "a.tif has no marks of Dee yet" in dock.message.text()
    set_reviewed(state, True)
    settled(dock)
    assert value(dock, "Atoms, counted") == "0" and dock.body.isVisible()
    state.annotator = "Eve"  # has not looked
    settled(dock)
    assert "a.tif has no marks of Eve yet" in dock.message.text()
    dock.scope_combo.setCurrentIndex(1)
    settled(dock)
    assert "No image is reviewed by Eve yet" in dock.message.text()
    dock.scope_combo.setCurrentIndex(0)
    state.annotator = "Dee"
    settled(dock)
    assert value(dock, "Atoms, counted") == "0" and dock.body.isVisible()
    state.atoms.add(image, [Mark(60.0, 60.0)])
    settled(dock)
    assert value(dock, "Atoms, counted") == "1"
    state.set_blind(False)  # nobody has searched it for all
    settled(dock)
    assert "No atoms yet" in dock.message.text()
    state.close_project()


def test_blind_the_same_support_counts_without_the_atoms_of_the_model(
    dock, state, settled, tmp_path
):
    found = found_atoms(write_image(tmp_path / "a.tif"))
    side = found.support.shape[0]
    cluster = [[0, [[60, 60], [60, 70], [70, 70], [70, 60]]]]
    found = replace(found, parameters={BRIGHT_CLUSTERS: cluster})
    state.current = state.add_image(found.micrograph)
    state.atoms.set_analysis(found)
    vacuum = np.array([[-0.5, -0.5], [-0.5, side], [29.5, side], [29.5, -0.5]])
    state.atoms.set_support("a.tif", [(vacuum, False)])
    settled(dock)
    area = dock.shown_rows()["support_nm2"].tolist()
    assert value(dock, "Atoms, counted") != "1"
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.atoms.set_group_distance(0.7)
    for annotator in ("Dee", "Ed"):
        state.annotator = annotator
        state.set_blind(True)
        assert {state.atoms.of(i).group_distance_nm for i in state.atoms.images} == {0.7}
        state.atoms.add("a.tif", [Mark(10.0, 10.0), Mark(40.0, 40.0), Mark(65.0, 65.0)])
        settled(dock)
        rows = dock.shown_rows()
        assert rows["support_nm2"].tolist() == area and rows["n_atoms"].tolist() == [1]
        (counted,) = [f for f in dock.model.figures if f.name == "Atoms, counted"]
        assert counted.interval == "2 on bright clusters or off the support"
    state.set_blind(False)
    settled(dock)
    assert dock.shown_rows()["support_nm2"].tolist() == area
    state.close_project()


def test_figures_of_random_atoms(dock):
    assert isinstance(dock.found.dispersion, Found)
    lines = {f.name: f for f in figures(dock.found.dispersion)}
    assert {"Isolated atoms", "In dimers", "In multimers", "In clusters"} <= lines.keys()
    assert lines["Isolated atoms"].value.endswith("%")
    random = "or random atoms of this density"
    assert random in lines["Isolated atoms"].meaning and random not in lines["In dimers"].meaning


def test_a_density_that_is_a_lower_bound_says_so(dock):
    usual, bound = (
        figures(dock.found.dispersion, {"density_is": text})[0]
        for text in ("estimate", "lower bound")
    )
    assert bound.value == f"≥ {usual.value}" and "lower bound" in bound.meaning


def test_the_mean_extent_of_groups_has_an_interval(dock):
    lines = {f.name: f for f in figures(dock.found.dispersion)}
    extent = lines["Group extent, mean"]
    assert extent.value.endswith(" nm") and "–" in extent.interval


def test_a_single_unlikely_dimer_has_a_largest_extent():
    """Fewer than one such group is expected, so there is no mean."""
    places = np.array([[6.0, 2.0], [8.0, 8.0], [8.0, 8.2]])
    window = np.ones((90, 100), bool)
    found = dispersion(places, window, 0.15, simulations=0, probabilities=np.array([0.9, 0.5, 0.5]))
    extent = {f.name: f for f in figures(found)}["Group extent, mean"]
    assert (extent.value, extent.interval) == ("–", "largest 0.2 nm")


def set_loading(dock, stated):
    controls = dock.loading.controls
    controls["metal"].setCurrentIndex(controls["metal"].findData(stated.metal))
    controls["support_thickness_nm"].setValue(stated.support_thickness_nm)
    controls["support_thickness_uncertainty"].setValue(100 * stated.support_thickness_uncertainty)


def test_the_metal_loading_follows_the_form_without_a_new_computation(
    dock, state, settled, monkeypatch
):
    monkeypatch.setattr(docks, "compute_dispersions", None)
    before = {f.name: f.value for f in dock.model.figures}
    assert before["Metal loading"] == "–"
    set_loading(dock, LoadingSettings("Pt", support_thickness_nm=3.0))
    found = dock.found
    percent = {f.name: f for f in dock.model.figures}["Metal loading"]
    row = dock.shown_rows().iloc[0]
    assert percent.value == f"{row['loading_wt_percent']:.3g} wt% Pt" and percent.interval
    assert [f.name for f in dock.model.figures] == [*before]  # the form below does not move
    assert "Not corrected for missed atoms" in percent.meaning
    dock.loading.controls["support_thickness_uncertainty"].setValue(50)
    wider = {f.name: f for f in dock.model.figures}["Metal loading"]
    assert wider.value == percent.value and wider.interval != percent.interval
    assert dock.found is found


def test_each_project_has_a_metal_loading_of_its_own(viewer, qtbot, settle, tmp_path):
    folders = [tmp_path / name for name in ("monday", "tuesday")]
    for folder in folders:
        folder.mkdir()
        write_image(folder / "a.tif")
    binding = binding_of(viewer)
    state = binding.state
    stated = LoadingSettings("Pt", support_thickness_nm=12.5, support_thickness_uncertainty=0.2)
    for _ in range(2):  # the second time both have one or none in their files
        binding.projects.open(folders[0])
        settle(viewer)
        dock = Dispersion(viewer)  # built after the project was opened
        qtbot.addWidget(dock)
        if state.project is not None and not state.project.path.exists():
            state.pixel_sizes.set("a.tif", 0.05)  # the first edit makes the file
            set_loading(dock, stated)
        qtbot.waitUntil(lambda dock=dock: dock.loading.settings() == stated)
        binding.projects.open(folders[1])
        settle(viewer)
        assert dock.loading.settings() == state.atoms.loading == LoadingSettings()
        state.pixel_sizes.set("a.tif", 0.06)


def test_a_worker_may_find_something_while_images_go(dock, state, settled):
    class Meanwhile(str):
        """A name that something is found beside, as soon as it is looked up."""

        def __hash__(self) -> int:
            dock._known.setdefault("late", dock._known["one"])
            return super().__hash__()

        __eq__ = str.__eq__

    assert list(dock._known) == ["one"]
    gone = Meanwhile("gone")
    dock._known[gone] = dock._known["one"]
    del dock._known["late"]
    state.remove_image("two")
    settled(dock)
    assert list(dock._known) == ["one", "late"]


@pytest.mark.parametrize("width", [320, 400, 600])
def test_no_verdict_is_cut(dock, settled, qtbot, width, tmp_path):
    dock.resize(width, 900)
    settled(dock)
    QTest.qWait(50)
    view, model = dock.table, dock.model
    texts = [model.data(model.index(row, 2)) for row in range(model.rowCount())]
    assert any("p = " in text for text in texts)
    for row in range(model.rowCount()):
        for column in range(model.columnCount()):
            index = model.index(row, column)
            room = view.visualRect(index)
            words = QRect(0, 0, room.width() - 6, 1000)
            needed = view.fontMetrics().boundingRect(
                words, Qt.TextFlag.TextWordWrap, model.data(index)
            )
            assert needed.width() <= room.width(), model.data(index)
            assert room.right() <= view.viewport().width(), model.data(index)
            assert needed.height() <= room.height(), model.data(index)
    bottom = view.visualRect(model.index(model.rowCount() - 1, 0)).bottom()
    assert bottom <= view.viewport().height()
    dock.grab().save(str(tmp_path / f"dispersion{width}.png"))
