"""Compare samples in Ratios and Dispersion, with a real mouse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mouse import LEFT
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QFileDialog
from synthetic import CLASSES, made_up
from test_dispersion import few_resamples, found_in  # noqa: F401
from waiting import draw_now, updated

from napari_atomicity.core.acquisition_session import SampleEntry
from napari_atomicity.gui.docks.dispersion.dock import Dispersion
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.panels import compare as module
from napari_atomicity.gui.tasks import running
from napari_atomicity.gui.viewer.binding import binding_of, state_of
from napari_atomicity.io.tables import read_table
from napari_atomicity.project import Project
from napari_atomicity.state.export import snapshot

FOLDERS = {"fresh": ("a", "b", "c"), "spent": ("d", "e", "f")}


def path_of(image: str, base: Path) -> Path:
    """A file in the folder of the sample of an image."""
    folder = base / next(folder for folder, images in FOLDERS.items() if image in images)
    folder.mkdir(exist_ok=True)
    (folder / image).touch()
    return folder / image


def analysed(image: str, seed: int, base: Path):
    """Clusters of an image; those of the folder spent are mostly of the smallest class."""
    found = made_up(60, image, seed)
    rng = np.random.default_rng(seed)
    p = [0.6, 0.1, 0.1, 0.1, 0.1] if image in FOLDERS["spent"] else [0.2] * 5
    kind = rng.choice(5, 60, p=p)
    labels = np.array(CLASSES, object)[kind]
    sure = 0.05 * rng.dirichlet(np.ones(5), 60) + 0.95 * np.eye(5)[kind]
    columns = {f"p_{name}": sure[:, i] for i, name in enumerate(CLASSES)}
    table = found.table.assign(label=labels, label_predicted=labels, **columns)
    micrograph = replace(found.micrograph, path=path_of(image, base))
    return replace(found, table=table, micrograph=micrograph)


@pytest.fixture
def state(viewer, tmp_path):
    state = state_of(viewer)
    for seed, image in enumerate("abcdef"):
        state.clusters.set_analysis(analysed(image, seed, tmp_path))
    return state


def settled(part, qtbot):
    qtbot.waitUntil(lambda: not (part.outdated() or running(part.state, part._task)), timeout=20000)
    if part.comparison is not None:
        for chart in part.charts:
            draw_now(chart)
    return part


@pytest.fixture
def part(viewer, state, qtbot):
    dock = Ratios(viewer)
    qtbot.addWidget(dock)
    dock.resize(420, 900)
    with qtbot.waitExposed(dock):
        dock.show()
    assert not dock.compare.isVisible() and dock.compare.comparison is None  # costs nothing
    qtbot.mouseClick(dock.compare_section.button, LEFT)
    yield settled(dock.compare, qtbot)


def lines(part) -> list[tuple[str, ...]]:
    return [line for line in part.model.lines if line[0] == "spent"]


def test_folders_are_compared_with_figure_sentences_table_and_plan(part, qtbot):
    assert part.body.isVisible() and part.body.isEnabled()
    combo = part.reference_combo
    shown = [combo.itemText(i) for i in range(combo.count())]
    assert shown == ["fresh (3 images)", "spent (3 images)"]
    # Each panel is drawn in a turn of its own.
    qtbot.waitUntil(lambda: all(chart.figure is not None for chart in part.charts), timeout=10_000)
    assert [len(chart.figure.axes) for chart in part.charts] == [1, 1, 1]
    (share, *_) = [line for line in lines(part) if line[1] == "Pt19"]
    assert share[2].startswith("+") and "pp" in share[2] and float(share[3]) < 0.05
    text = part.words.toPlainText()
    assert "share of Pt19" in text and "in spent" in text and "percentage points" in text
    assert "images of fresh for ±5 percentage points" in part.plans.text()


def test_a_section_that_is_opened_comes_into_sight(viewer, state, qtbot):
    dock = Ratios(viewer)
    qtbot.addWidget(dock)
    dock.resize(420, 400)
    with qtbot.waitExposed(dock):
        dock.show()
    updated(dock)
    assert dock.compare_section.button.text() == "Compare samples"
    dock.method_combo.setCurrentIndex(dock.method_combo.findData("confusion"))
    updated(dock)
    assert dock.compare_section.button.text() == "Compare samples, as counted"
    dock.compare_section.button.click()
    settled(dock.compare, qtbot)
    # The result comes later, and makes the dock long enough for this.
    qtbot.waitUntil(lambda: dock.compare_section.mapTo(dock, QPoint()).y() < 10)


def test_numbers_of_a_table_of_samples_give_trends(part, qtbot):
    hours = {"a": 0, "b": 0, "c": 1, "d": 1, "e": 4, "f": 4}
    part.state.sessions.set_samples(
        {image: SampleEntry(f"{h} h", {"time_h": h}) for image, h in hours.items()}
    )
    settled(part, qtbot)
    assert set(part.comparison.trends["along"]) == {"time_h"}
    # shares, differences, mean number of atoms; both along the time
    assert len([chart for chart in part.charts if chart.isVisible()]) == 5
    assert "time_h" in part.words.toPlainText()


def test_another_reference_turns_the_sign(part, qtbot):
    before = next(line for line in lines(part) if line[1] == "Pt19")[2]
    qtbot.keyClick(part.reference_combo, Qt.Key.Key_Down)
    settled(part, qtbot)
    assert part.comparison.reference == "spent"
    assert snapshot(part.state).contents().reference_sample == "spent"  # that of a report
    after = next(line for line in part.model.lines if line[:2] == ("fresh", "Pt19"))[2]
    assert after.split()[0] == before.split()[0].replace("+", "−")


def test_it_follows_labels_only_while_it_is_open(part, qtbot):
    state, before = part.state, part.comparison
    state.clusters.relabel([("d", i) for i in range(1, 40)], "Pt70")
    settled(part, qtbot)
    changed = part.comparison
    assert changed is not before
    dock = part.parentWidget()
    qtbot.mouseClick(dock.button, LEFT)
    binding_of(part.binding.viewer).edits.undo()
    qtbot.wait(2 * part.delay_ms)
    assert part.comparison is changed and not running(state, part._task)
    qtbot.mouseClick(dock.button, LEFT)
    settled(part, qtbot)
    pd.testing.assert_frame_equal(part.comparison.table, before.table)


def test_samples_that_are_grouped_in_browse_are_compared(part, qtbot):
    part.state.sessions.group_sample(["b", "c"], "after 2 h")
    settled(part, qtbot)
    assert [s.name for s in part.comparison.samples] == ["fresh", "after 2 h", "spent"]
    assert part.reference_combo.count() == 3 and part.comparison.reference == "fresh"
    assert {line[0] for line in part.model.lines} == {"after 2 h", "spent"}
    binding_of(part.binding.viewer).edits.undo()
    settled(part, qtbot)
    assert [s.name for s in part.comparison.samples] == ["fresh", "spent"]


def test_the_same_inputs_are_not_compared_again(part, qtbot):
    before = part.comparison
    part.state.current = "e"
    part.invalidate()
    settled(part, qtbot)
    assert part.comparison is before


def test_sentences_and_table_are_copied(part):
    part.copy_text_action.trigger()
    assert QApplication.clipboard().text().splitlines() == part.sentences
    part.copy_table_action.trigger()
    assert "difference_low" in QApplication.clipboard().text().splitlines()[0]


def test_save_writes_the_files_of_the_command(part, qtbot, settle, tmp_path, monkeypatch):
    out = tmp_path / "comparison"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(out), ""))
    qtbot.mouseClick(part.save_button, LEFT)
    settle(part.binding.viewer)
    names = {path.name for path in out.iterdir()}
    assert {"comparison.csv", "trends.csv", "sentences.txt", "figures", "run.json"} <= names
    table = read_table(out / "comparison.csv")
    assert list(table["sample"].unique()) == ["fresh", "spent"]
    assert (out / "sentences.txt").read_text(encoding="utf-8").splitlines() == part.sentences
    assert (out / "figures" / "clusters_one_column.svg").exists()


def test_one_sample_says_how_to_get_two(part, qtbot):
    for image in FOLDERS["spent"]:
        part.state.remove_image(image)
    settled(part, qtbot)
    assert not part.body.isVisible()
    assert "All images are of one sample, fresh" in part.message.text()
    assert "Group into a sample" in part.message.text()


def test_a_sample_without_results_is_named(part, qtbot, tmp_path):
    for image in FOLDERS["spent"]:
        part.state.remove_image(image)
    part.state.add_image(replace(made_up(1, "d").micrograph, path=path_of("d", tmp_path)))
    settled(part, qtbot)
    text = part.message.text()
    assert "only fresh has results" in text and "Analyse all" in text


def test_the_reference_is_the_first_sample_unless_one_is_chosen(part, qtbot):
    # Of one sample at first, to which another one before it is added.
    part.state.sessions.group_sample("abcdef", "day")
    settled(part, qtbot)
    assert part.comparison is None
    part.state.sessions.group_sample("abc", "calcined")
    settled(part, qtbot)
    assert part.comparison.reference == "calcined"
    assert part.reference_combo.currentData() == "calcined"


def test_one_image_each_is_shown_with_the_reason(part, qtbot):
    for image in "bcef":
        part.state.remove_image(image)
    settled(part, qtbot)
    assert part.body.isVisible() and "Each sample has one image" in part.message.text()
    assert not part.words.isVisible()


def test_too_many_samples_are_named(part, qtbot, monkeypatch):
    monkeypatch.setattr(module, "MAX_SAMPLES", 1)
    part.invalidate()
    settled(part, qtbot)
    assert "2 samples" in part.message.text() and not part.body.isVisible()


def test_blind_annotators_see_nothing_of_it(part, qtbot, tmp_path):
    state = part.state
    state.attach_project(Project(tmp_path / "p.atomicity"))
    settled(part, qtbot)
    assert part.body.isVisible()
    state.set_blind(True)
    settled(part, qtbot)
    assert not part.body.isVisible() and "blind" in part.message.text()
    assert part.comparison is None and part.sentences == []
    state.set_blind(False)
    settled(part, qtbot)
    assert part.body.isVisible()


def test_an_error_is_shown_once(part, qtbot, monkeypatch):
    calls = []

    def fails(*args, **options):
        calls.append(1)
        raise ValueError("odd")

    monkeypatch.setattr(module, "compare_clusters", fails)
    part.state.clusters.relabel([("d", 1)], "Pt70")
    settled(part, qtbot)
    qtbot.wait(3 * part.delay_ms)
    assert "odd" in part.message.text() and calls == [1]


@pytest.fixture
def atoms(viewer, qtbot, tmp_path):
    state = state_of(viewer)
    for seed, image in enumerate("abcdef"):
        n = 60 if image in FOLDERS["spent"] else 25
        found = found_in(image, n, seed)
        found = replace(found, micrograph=replace(found.micrograph, path=path_of(image, tmp_path)))
        state.add_image(found.micrograph)
        state.atoms.set_analysis(found)
    dock = Dispersion(viewer)
    qtbot.addWidget(dock)
    dock.form.controls["simulations"].setValue(19)
    dock.resize(420, 900)
    with qtbot.waitExposed(dock):
        dock.show()
    qtbot.mouseClick(dock.compare_section.button, LEFT)
    yield settled(dock.compare, qtbot)


def test_atoms_of_samples_are_compared(atoms, qtbot):
    density = next(line for line in lines(atoms) if line[1] == "density")
    assert density[2].startswith("+") and float(density[3]) < 0.1
    assert len(atoms.charts) == 4 and all(chart.isVisible() for chart in atoms.charts)
    assert not atoms.plans.isVisible()  # said of clusters only
    assert "density of the atoms" in atoms.words.toPlainText()
    assert updated(atoms).comparison.reference == "fresh"


def test_images_with_a_changed_pixel_size_are_named(atoms, qtbot):
    state = atoms.state
    state.pixel_sizes.set("a", 0.05)
    settled(atoms, qtbot)
    assert "pixel size of a has changed" in atoms.message.text() and atoms.body.isVisible()
    for image in "bcdef":
        state.pixel_sizes.set(image, 0.05)
    settled(atoms, qtbot)
    assert "a, b, c, d, e, f has changed" in atoms.message.text() and not atoms.body.isVisible()
