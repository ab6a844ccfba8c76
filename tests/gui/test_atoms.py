"""The dock Atoms by clicks: find, threshold, figures, clusters, marking by hand, out."""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from bar import click_cancel
from napari.layers import Image
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QStyle, QStyleOptionSlider
from scipy.ndimage import zoom
from synthetic import made_up
from waiting import updated

from napari_atomicity.atoms.analysis import (
    BRIGHT_CLUSTERS,
    FLAT,
    AtomAnalysis,
    find_atoms,
    with_neighbours,
)
from napari_atomicity.atoms.completeness import Completeness
from napari_atomicity.atoms.injection import InjectedAtoms
from napari_atomicity.atoms.marks import Mark
from napari_atomicity.atoms.summary import Summary
from napari_atomicity.atoms.table import conform
from napari_atomicity.core.errors import AtomicityError, Cancelled
from napari_atomicity.core.micrograph import Micrograph
from napari_atomicity.core.tables.cluster_table import conform as conform_clusters
from napari_atomicity.gui import tasks
from napari_atomicity.gui.docks.atoms import dock as batch_module, found as found_module, jobs
from napari_atomicity.gui.docks.atoms.column_chart import ChartColumn, ColumnChart
from napari_atomicity.gui.docks.atoms.dock import NOTHING_FOUND, Atoms
from napari_atomicity.gui.docks.atoms.found import MAX_SIZES, size_columns
from napari_atomicity.gui.docks.atoms.single_atom_calibration import (
    NO_ATOMS,
    NOT_ANALYSED,
    STOPPED,
    lines_of,
    verdict,
)
from napari_atomicity.gui.docks.atoms.threshold import NO_PROPOSAL
from napari_atomicity.gui.docks.browse.image_list import row_of
from napari_atomicity.gui.panels.forms import DONE
from napari_atomicity.gui.viewer.binding import binding_of
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.io.tables import read_table
from napari_atomicity.models.analysis import Analysis
from napari_atomicity.project import Project

PIXEL_NM = 0.05
SIZE_PX = 200
SIGMA_PX = 1.5
LEFT = Qt.MouseButton.LeftButton
NO = QMessageBox.StandardButton.No
PLAIN = Qt.KeyboardModifier.NoModifier
# A lattice of lone atoms 0.8 nm apart, in the upper two thirds of the image.
LONE = np.stack(np.meshgrid(np.arange(12, 125, 16), np.arange(12, 190, 16), indexing="ij"), -1)
LONE = LONE.reshape(-1, 2).astype(float)
CLUSTER = np.array([165.0, 100.0])
INSIDE = CLUSTER + np.array([[-4, 0], [4, 0], [0, 4], [0, -4], [0.5, 0.5]])
N_INSIDE = 20


def picture(lone=LONE, seed: int = 0) -> np.ndarray:
    """Lone atoms of one height, and a cluster as bright as `N_INSIDE` of them."""
    rng = np.random.default_rng(seed)
    along = np.arange(SIZE_PX)
    image = 100 + rng.normal(0, 1, (SIZE_PX, SIZE_PX))
    for points, height in ((lone, 30.0), (INSIDE, 30.0 * N_INSIDE / len(INSIDE))):
        for point in points:
            rows, columns = (np.exp(-((along - c) ** 2) / (2 * SIGMA_PX**2)) for c in point)
            image += height * np.outer(rows, columns)
    return image.astype(np.float32)


def atoms_of(micrograph: Micrograph, lone=LONE) -> AtomAnalysis:
    """What `find_atoms` would give: the atoms, and noise of low probability."""
    rng = np.random.default_rng(1)
    noise = rng.uniform(5, SIZE_PX - 5, (30, 2))
    points = np.vstack([lone, INSIDE, noise])
    certain = np.linspace(0.6, 0.98, len(lone) + len(INSIDE))
    size = micrograph.calibrated()
    table = pd.DataFrame(
        {
            "image": micrograph.name,
            "atom_id": np.arange(1, len(points) + 1),
            "y_px": points[:, 0],
            "x_px": points[:, 1],
            "y_nm": points[:, 0] * size,
            "x_nm": points[:, 1] * size,
            "confidence": np.concatenate([certain, np.linspace(0.02, 0.2, len(noise))]),
            "intensity": rng.normal(1.0, 0.05, len(points)).clip(0.5),
            "sigma_nm": SIGMA_PX * size,
            "origin": "model",
            "model_id": "stub",
        }
    )
    support = np.ones(micrograph.shape_px, bool)
    support[:, 190:] = False
    known = {"threshold": 0.5}
    atoms = with_neighbours(conform(table))
    return AtomAnalysis(micrograph, atoms, 0.5, support, size, "stub", parameters=known)


@pytest.fixture
def finder(monkeypatch):
    """A `find_atoms` that is instant; says what it was asked, and fails for images "bad…"."""

    class Finder:
        def __init__(self):
            self.asked = []
            self.lone = LONE

        def __call__(self, micrograph, model, device, precision=None, progress=None, stop=None):
            self.asked.append((micrograph.name, model, device, precision))
            if micrograph.name.startswith("bad"):
                raise AtomicityError("this image holds no atoms")
            if stop():
                raise Cancelled
            found = atoms_of(micrograph, self.lone)
            if precision is None:
                return found
            threshold = found.threshold_at_precision(precision)
            return replace(found, threshold=threshold, parameters={"threshold": threshold})

    stub = Finder()
    monkeypatch.setattr(jobs, "find_atoms", stub)
    monkeypatch.setattr("napari_atomicity.gui.tasks.cap_torch_threads", lambda: None)
    return stub


def show_image(viewer, name: str = "field", lone=LONE, **options) -> Image:
    placed = {"scale": (PIXEL_NM, PIXEL_NM), "units": ("nm", "nm")} | options
    return viewer.add_image(picture(lone), name=name, **placed)


@pytest.fixture
def layer(viewer, tmp_path):
    """Of a file, so that a project can keep it."""
    path = tmp_path / "field.tif"
    tifffile.imwrite(path, picture())
    return show_image(viewer, metadata={"atomicity": {"path": str(path)}})


@pytest.fixture
def dock(viewer, layer, finder, qtbot, settle):
    dock = Atoms(viewer)
    qtbot.addWidget(dock)
    dock.resize(400, 900)
    with qtbot.waitExposed(dock):
        dock.show()
    settle(viewer)
    return dock


@pytest.fixture
def settled(viewer, qtbot, settle):
    """Wait until nothing runs, and docks are refreshed."""

    def wait():
        qtbot.wait(1)
        settle(viewer)
        qtbot.wait(1)
        settle(viewer)

    return wait


@pytest.fixture
def found(dock, settled):
    """The dock once the atoms are found."""
    click(dock.button)
    settled()
    return dock


@pytest.fixture
def state(dock):
    return dock.state


@pytest.fixture
def book(state):
    return state.atoms


def click(button) -> None:
    assert button.isEnabled()
    QTest.mouseClick(button, LEFT)


def clusters_of(name: str = "field") -> Analysis:
    """One cluster where the picture has one, and one at the border."""
    base = made_up(2, name)
    places = np.array([CLUSTER, [3.0, 100.0]])
    table = base.table.assign(
        y_px=places[:, 0], x_px=places[:, 1], y_nm=places[:, 0] * PIXEL_NM,
        x_nm=places[:, 1] * PIXEL_NM, diameter_nm=0.9, label="Pt19", label_predicted="Pt19",
        touches_border=[False, True], eccentricity=0.0,
    )  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 24)
    circle = 9 * np.column_stack([np.sin(turn), np.cos(turn)])
    return replace(
        base,
        micrograph=Micrograph(picture(), PIXEL_NM, name),
        table=conform_clusters(table, ["Pt19", "Pt30", "Pt41", "Pt55", "Pt70"]),
        outlines=[place + circle for place in places],
        patches={},
        class_maps={},
    )


# ---- find
def test_one_click_finds_the_atoms_and_says_what_they_are_worth(dock, book, finder, settled):
    assert not dock.threshold.isVisible() and not dock.found.isVisible()
    click(dock.button)
    settled()
    assert finder.asked == [("field", "default", "auto", None)]
    n = len(LONE) + len(INSIDE)
    assert len(book.table("field")) == n
    words = dock.threshold.words.text()
    expected = book.of("field").analysis.expected
    assert f"{n} atoms" in words and f"F1 {expected['f1']:.2f}" in words
    assert dock.threshold.slider.value() == 500
    chart = dock.threshold.histogram
    assert chart.line == 0.5 and sum(c.value for c in chart.columns) == n + 30
    assert sum(c.value for c in chart.columns if not c.faint) == n
    assert not dock.result.isVisible()


def test_the_figures_are_of_the_support(found):
    inside = found.state.atoms.table("field")
    on = int((inside["x_px"] < 189.5).sum())
    assert found.found.found.counted_density_per_nm2 == pytest.approx(
        on / (190 * 200 * PIXEL_NM**2)
    )
    assert "0.80 nm (median)" in found.found.words.text()
    bars = {bar.label: bar for bar in found.found.kinds.bars}
    # The fractions are those of Dispersion, which are not of detections.
    assert bars["isolated"].text == str(len(LONE)) and "Dispersion" in bars["isolated"].tooltip
    assert bars["multimer"].value == pytest.approx(len(INSIDE) / len(inside))
    assert [c.value for c in found.found.sizes.columns] == [len(LONE), 0, 0, 0, 1]


def test_an_image_in_which_nothing_is_found_says_so(dock, finder, monkeypatch, settled):
    monkeypatch.setattr(jobs, "find_atoms", lambda m, *a, **k: atoms_of(m).with_threshold(1.0))
    click(dock.button)
    settled()
    assert dock.result.isVisible() and dock.result.text() == NOTHING_FOUND
    assert dock.threshold.isVisible() and not dock.found.kinds.isVisible()


def test_an_image_without_contrast_says_that_nothing_is_known(dock, monkeypatch, settled):
    def flat(micrograph, *args, **options):
        return replace(atoms_of(micrograph).with_threshold(1.0), parameters={FLAT: [0]})

    monkeypatch.setattr(jobs, "find_atoms", flat)
    click(dock.button)
    settled()
    assert dock.result.isVisible() and "no contrast" in dock.result.text()


def test_cancel_and_images_that_go_leave_nothing(dock, viewer, layer, book, monkeypatch, settled):
    def endless(micrograph, *_, stop, **__):
        while not stop():
            pass
        raise Cancelled

    monkeypatch.setattr(jobs, "find_atoms", endless)
    click(dock.button)
    QTest.qWait(1)
    click_cancel(viewer)
    settled()
    assert book.of("field") is None and dock.button.isEnabled()
    click(dock.button)
    viewer.layers.remove(layer)
    settled()
    assert book.images == []


def test_another_pixel_size_meanwhile_makes_a_result_stale(dock, layer, book, monkeypatch, settled):
    hold = []

    def slow(micrograph, *_, stop, **__):
        while not hold:
            pass
        return atoms_of(micrograph)

    monkeypatch.setattr(jobs, "find_atoms", slow)
    click(dock.button)
    layer.scale = (0.04, 0.04)
    hold.append(1)
    settled()
    assert book.of("field") is None


def test_what_a_person_set_in_the_settings_is_asked_for(dock, finder, book, settled):
    dock.precise.setChecked(True)
    dock.threshold.precision.setValue(0.9)
    click(dock.button)
    settled()
    assert finder.asked[0][3] == pytest.approx(0.9)
    assert book.of("field").analysis.expected["precision"] >= 0.9


# ---- an image without a pixel size
def test_the_width_of_the_spots_proposes_a_pixel_size(viewer, dock, settled):
    show_image(viewer, "plain", scale=(1, 1), units=("pixel", "pixel"))
    settled()
    assert dock.image_form.images.currentText() == "plain"
    assert not dock.button.isEnabled()
    proposal = dock.pixel_size.proposal
    # FWHM of 3.5 pixels, and 0.15 nm of an atom
    assert proposal.value_nm == pytest.approx(0.15 / (2.355 * SIGMA_PX), rel=0.15)
    assert "width of its spots" in dock.pixel_size.words.text()
    click(dock.pixel_size.use_button)
    settled()
    assert dock.image_form.pixel_size.value() == pytest.approx(proposal.value_nm, abs=1e-4)
    click(dock.button)
    settled()
    assert dock.state.atoms.of("plain").pixel_size_nm == pytest.approx(proposal.value_nm, abs=1e-4)
    assert not dock.pixel_size.isVisible()


def test_the_proposal_counts_for_all_images_at_once(viewer, dock, settled):
    layer = show_image(viewer, "plain", scale=(1, 1), units=("pixel", "pixel"))
    dock.binding.canvas.ensure_image(layer)  # as an image of a project
    settled()
    click(dock.pixel_size.use_button)
    size_nm = dock.state.micrograph("plain").pixel_size_nm
    assert size_nm == pytest.approx(dock.image_form.pixel_size.value()) and size_nm > 0
    dock.binding.edits.undo()
    assert dock.state.micrograph("plain").pixel_size_nm is None


def test_each_image_of_a_project_has_a_proposal_of_its_own(
    viewer, finder, tmp_path, qtbot, settled
):
    """Images of a project share a layer."""
    names = {"a.tif": picture(), "b.tif": zoom(picture(), 2, order=1)[:SIZE_PX, :SIZE_PX]}
    for name, pixels in names.items():
        tifffile.imwrite(tmp_path / name, pixels)
    binding = binding_of(viewer)
    binding.projects.open(tmp_path)
    dock = Atoms(viewer)
    qtbot.addWidget(dock)
    dock.show()
    found = {}
    for name in ("a.tif", "b.tif", "a.tif"):
        binding.current_image.choose(name)
        settled()
        qtbot.waitUntil(lambda: dock.pixel_size.proposal is not None, timeout=20_000)
        found.setdefault(name, dock.pixel_size.proposal.value_nm)
        assert found[name] == dock.pixel_size.proposal.value_nm
        assert f"{found[name]:.2g} nm" in dock.pixel_size.words.text()
    assert found["a.tif"] == pytest.approx(2 * found["b.tif"], rel=0.2)
    click(dock.pixel_size.use_button)
    settled()
    assert binding.state.micrograph("a.tif").pixel_size_nm == pytest.approx(
        found["a.tif"], abs=1e-4
    )
    assert binding.state.micrograph("b.tif").pixel_size_nm is None


def test_without_spots_nothing_is_proposed(viewer, dock, settled):
    flat = np.random.default_rng(0).normal(0, 1, (64, 64)).astype(np.float32)
    viewer.add_image(flat, name="flat")
    settled()
    assert dock.pixel_size.words.text() == NO_PROPOSAL
    assert not dock.pixel_size.use_button.isVisible()


# ---- the threshold
def handle(slider) -> QPoint:
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    part = QStyle.SubControl.SC_SliderHandle
    box = slider.style().subControlRect(QStyle.ComplexControl.CC_Slider, option, part, slider)
    return box.center()


def test_dragging_the_slider_counts_anew_and_is_one_step(found, state, book, finder, settled):
    slider, steps = found.threshold.slider, len(state.history)
    start = handle(slider)
    QTest.mousePress(slider, LEFT, PLAIN, start)
    for dx in (20, 40, 60):
        QTest.mouseMove(slider, start + QPoint(dx, 0))
        QTest.qWait(1)
    assert slider.value() > 520
    QTest.mouseRelease(slider, LEFT, PLAIN, start + QPoint(60, 0))
    settled()
    threshold = slider.value() / 1000
    assert book.of("field").threshold == threshold
    table = book.table("field")
    assert len(table) < len(LONE) + len(INSIDE) and table["confidence"].min() >= threshold
    assert f"<b>{len(table)} atoms</b>" in found.threshold.words.text()
    assert found.threshold.histogram.line == threshold
    assert len(state.history) == steps + 1 and len(finder.asked) == 1
    state.history.undo()
    settled()
    assert slider.value() == 500


def test_keys_move_the_slider_and_a_pause_ends_the_step(found, state, book, settled):
    slider, steps = found.threshold.slider, len(state.history)
    for _ in range(3):
        QTest.keyClick(slider, Qt.Key.Key_Right)
    found.threshold._let_go()
    assert book.of("field").threshold == pytest.approx(0.53)
    QTest.keyClick(slider, Qt.Key.Key_Left)
    settled()
    assert book.of("field").threshold == pytest.approx(0.52)
    assert len(state.history) == steps + 2


def test_the_buttons_go_to_an_operating_point(found, state, book, settled):
    analysis = book.of("field").analysis
    found.threshold.precision.setValue(0.95)
    assert found.threshold.precision_button.text() == "Precision at least 0.95"
    click(found.threshold.precision_button)
    settled()
    strict = book.of("field").threshold
    assert strict == analysis.threshold_at_precision(0.95)
    by_precision = book.of("field").analysis
    assert by_precision.parameters["precision"] == 0.95
    assert not by_precision.has_manual_threshold
    assert book.of("field").with_analysis(analysis).threshold == strict, "a new search keeps it"
    assert analysis.expected_at(strict)["precision"] >= 0.95
    for button in (found.threshold.best_button, found.threshold.precision_button):
        assert "also those marked by hand" in button.toolTip()
    click(found.threshold.best_button)
    settled()
    best = book.of("field").threshold
    tried = [analysis.expected_at(t)["f1"] for t in np.linspace(0.02, 0.98, 49)]
    assert analysis.expected_at(best)["f1"] >= max(tried) - 1e-9
    assert book.of("field").analysis.parameters["precision"] is None
    assert not book.of("field").analysis.has_manual_threshold
    book.set_threshold("field", 0.7)
    assert book.of("field").analysis.has_manual_threshold
    state.history.undo()
    state.history.undo()
    assert book.of("field").threshold == strict


def test_a_precision_that_no_candidate_reaches_is_named(found, settled):
    found.threshold.precision.setValue(0.99)
    assert "No threshold" not in found.threshold.words.text()
    click(found.threshold.precision_button)
    settled()
    said = found.threshold.words.text()
    assert said.startswith("<b>0 atoms</b> at a probability of 0.98 or more. No threshold of this")
    assert said.endswith("precision of 0.99: the most probable candidate has 0.98.")
    found.threshold.precision.setValue(0.9)
    assert "No threshold" not in found.threshold.words.text()
    click(found.threshold.precision_button)
    settled()
    assert "No threshold" not in found.threshold.words.text()


def test_where_it_may_not_be_moved_the_slider_goes_back(found, book, monkeypatch, settled, errors):
    def refuse(*_):
        raise AtomicityError("the project is open in another window")

    monkeypatch.setattr(book, "set_threshold", refuse)
    QTest.keyClick(found.threshold.slider, Qt.Key.Key_PageUp)
    settled()
    assert len(errors) == 1 and found.threshold.slider.value() == 500


# ---- groups, colours, species
def test_the_linking_distance_is_an_edit(found, state, book, settled):
    found.found.distance.setValue(0.85)
    settled()
    assert book.of("field").group_distance_nm == 0.85
    sizes = [c.label for c in found.found.sizes.columns]
    assert sizes[-1] == f"{MAX_SIZES}+"
    state.history.undo()
    settled()
    assert found.found.distance.value() == 0.3


def test_all_images_have_one_linking_distance(found, state, book, finder, settled):
    state.add_image(Micrograph(picture(), PIXEL_NM, "second"))
    click(found.all_button)
    settled()
    found.found.distance.setValue(0.6)
    settled()
    state.add_image(Micrograph(picture(), PIXEL_NM, "third"))
    settled()
    click(found.all_button)
    settled()
    assert {book.of(image).group_distance_nm for image in ("field", "second", "third")} == {0.6}
    state.history.undo()  # the third image
    state.history.undo()
    assert {book.of(image).group_distance_nm for image in ("field", "second")} == {0.3}


def test_a_click_on_a_size_selects_its_atoms(found, book):
    chart = found.found.sizes
    box = chart._box(4)
    QTest.mouseClick(chart, LEFT, PLAIN, box.center().toPoint())
    table = book.table("field")
    assert book.selection == {("field", i) for i in table.loc[table["group_size"] == 5, "atom_id"]}
    assert len(book.selection) == len(INSIDE)
    QTest.mouseClick(chart, LEFT, PLAIN, chart._box(1).center().toPoint())  # there is none
    assert len(book.selection) == len(INSIDE)


def test_a_click_on_an_extent_selects_the_atoms_of_its_groups(found, book):
    chart, table = found.found.extents, book.table("field")
    groups = table[table["group_size"] > 1].drop_duplicates("group_id")
    assert sum(column.value for column in chart.columns) == len(groups) > 0
    at = next(i for i, column in enumerate(chart.columns) if column.value)
    QTest.mouseClick(chart, LEFT, PLAIN, chart._box(at).center().toPoint())
    low, high = map(float, chart.columns[at].label.split("–"))
    extent = table["group_extent_nm"]
    inside = (table["group_size"] > 1) & (extent >= low) & (extent < high)
    assert book.selection == {("field", i) for i in table.loc[inside, "atom_id"]}


def test_a_narrow_chart_names_some_of_its_columns_and_no_name_covers_another(qtbot, monkeypatch):
    written = []
    monkeypatch.setattr(
        ColumnChart, "_tick", lambda _, painter, x, y, words: written.append((words, x))
    )
    chart = ColumnChart()
    qtbot.addWidget(chart)
    chart.resize(240, 80)
    ranges = [f"{i / 10:g}–{(i + 1) / 10:g}" for i in range(20)]
    for names, every in ((ranges, False), ([str(i) for i in range(1, 7)], True)):
        chart.show_columns([ChartColumn(1, "#56b4e9", name) for name in names])
        written.clear()
        chart.grab()
        assert len(written) >= 3 and (len(written) == len(names)) == every
        width = chart.fontMetrics().horizontalAdvance(names[0]) * 0.8  # the font is smaller
        assert all(b - a > width for (_, a), (_, b) in itertools.pairwise(written))


def test_isolated_atoms_have_no_extents(found, book, settled):
    book.set_group_distance(0.05)
    settled()
    assert not found.found.extents.columns and not found.found.extents.isVisible()


def test_many_large_groups_stand_in_the_last_column():
    sizes = pd.DataFrame({"size": [1, 3, 12, 40], "groups": [9, 2, 1, 2]})
    columns = size_columns(sizes)
    assert len(columns) == MAX_SIZES and columns[-1].label == "12+"
    assert [c.value for c in columns if c.value] == [9, 2, 3]
    assert size_columns(sizes.iloc[:0]) == []


def test_colours_follow_the_viewer_and_lead_it(found, settled):
    view, combo = found.binding.atoms, found.found.colouring
    combo.setCurrentIndex(combo.findData("group"))
    assert view.colour_by == "group"
    settled()
    assert "isolated" in found.found.legend.text() and "dimer" not in found.found.legend.text()
    view.colour_by = "confidence"
    settled()
    assert combo.currentData() == "confidence"


def test_species_are_told_apart_once_asked(found, state, book, settled):
    analysis = book.of("field").analysis
    heavy = np.arange(len(analysis.candidates)) % 2 == 0
    mixed = analysis.candidates.assign(
        intensity=analysis.candidates["intensity"] * np.where(heavy, 5.0, 1.0)
    )
    book.set_analysis(replace(analysis, candidates=mixed))
    settled()
    steps = len(state.history)
    click(found.found.species_button)
    settled()
    assert "2 species" in found.found.species_words.text()
    table = book.table("field")
    bright = table["intensity"] > 2.5
    assert set(table.loc[bright, "species"]) == {"2"} and set(table.loc[~bright, "species"]) == {
        "1"
    }
    assert found.binding.atoms.colour_by == "species" and len(state.history) == steps + 1
    shown = found.found.species_words
    assert "have changed" not in shown.text()
    book.remove([("field", int(table["atom_id"].iloc[0]))])
    settled()
    assert "The atoms have changed since" in shown.text()
    state.history.undo()
    settled()
    assert "have changed" not in shown.text()
    book.remove([("field", int(table["atom_id"].iloc[0]))])
    settled()
    assert "The atoms have changed since" in shown.text()
    state.history.undo()
    settled()
    assert "have changed" not in shown.text()
    state.history.undo()
    settled()
    assert not found.found.species_words.isVisible()


def test_species_are_those_of_the_atoms_that_the_groups_count(found, state, book, settled):
    analysis = book.of("field").analysis
    y, x = analysis.candidates.loc[0, ["y_px", "x_px"]].astype(float)
    around = [[y - 3, x - 3], [y - 3, x + 3], [y + 3, x + 3], [y + 3, x - 3]]
    on_cluster = {BRIGHT_CLUSTERS: [[0, around]]}
    book.set_analysis(replace(analysis, parameters={**analysis.parameters, **on_cluster}))
    settled()
    isolated = int((book.of("field").on_support["group_size"] == 1).sum())
    assert isolated < int((book.table("field")["group_size"] == 1).sum())
    click(found.found.species_button)
    settled()
    assert f"The intensities of {isolated} atoms" in found.found.species_words.text()


# ---- what is missed
def added_atoms(faintest: float) -> InjectedAtoms:
    """Lone atoms of all heights, of which those above one are found, at a score of 2."""
    height = np.geomspace(0.1, 2.5, 120)
    score = np.where(height > faintest, 2.0, np.nan)
    one = np.ones(len(LONE))
    return InjectedAtoms(
        30.0, 0.075, height, score, np.where(height > faintest, height, np.nan), np.ones(20), 20,
        100.0, 1, 2 * one, one, -3.9, 0.0,
    )  # fmt: skip


@pytest.fixture
def adding(monkeypatch):
    """An `inject_atoms` that is instant, and a model of that name."""
    asked = []
    result = [added_atoms(0.4)]

    def add(analysis, model, clusters=None, seed=0, progress=None, stop=None):
        asked.append((analysis, model, clusters))
        return result[0]

    monkeypatch.setattr(jobs, "inject_atoms", add)
    monkeypatch.setattr(jobs, "_model_of", lambda analysis: "the model")
    return asked, result


def test_how_many_are_missed_is_told_once_asked(found, state, book, adding, settled):
    asked, _ = adding
    steps = len(state.history)
    assert not found.found.missed_words.isVisible()
    click(found.found.missed_button)
    settled()
    words = found.found.missed_words
    assert words.isVisible() and "of atoms like these" in words.text().lower()
    share = float(re.search(r"(\d+) %", words.text()).group(1))
    assert share > 80 and "lower bound" not in words.text()
    assert asked[0][1] == "the model" and asked[0][2] is None
    assert len(state.history) == steps + 1
    # The slider needs no more atoms to be added.
    book.set_threshold("field", 0.95)
    settled()
    assert float(re.search(r"(\d+) %", words.text()).group(1)) < share and len(asked) == 1
    book.end_sliding()
    state.history.undo()
    state.history.undo()
    settled()
    assert not words.isVisible() and book.of("field").injected is None


@pytest.mark.parametrize(
    ("share", "density", "said"),
    [
        (0.3, 0.19, ": the density is a lower bound."),
        (0.3, 0.21, ": rely on the corrected density and its interval."),
        (0.8, 0.19, "."),
        (0.3, None, "."),  # that of people, who decided on every candidate
    ],
)
def test_the_density_that_counts_is_named_where_many_are_missed(share, density, said):
    census = Completeness(share, 0.2, 0.9, 0.4, 100, 0.4, 0.2, 0.8, 17.0, 0.1, 0.08)
    text = found_module.format_missed(census, density)
    assert text.startswith(f"Of atoms like these, {100 * share:.0f} % (20–90 %) are detected{said}")
    assert "0.4 (0.2–0.8) atoms per nm²" in text


def test_what_is_missed_is_kept_in_the_project_file(found, state, book, adding, settled, tmp_path):
    path = tmp_path / "p.atomicity"
    state.attach_project(Project(path))
    settled()
    click(found.found.missed_button)
    settled()
    census = book.of("field").completeness
    state.close_project()
    settled()
    with Project(path) as project:
        kept = project.load("field").atoms
    assert kept.completeness == census


def test_of_too_few_atoms_nothing_is_told_of_what_is_missed(
    found, book, adding, settled, monkeypatch
):
    asked, result = adding
    result[0] = None
    said = []
    monkeypatch.setattr(found_module, "show_info", said.append)
    steps = len(book._state.history)
    click(found.found.missed_button)
    settled()
    assert asked and "cannot be estimated" in said[0]
    assert not found.found.missed_words.isVisible()
    assert len(book._state.history) == steps


def test_without_the_model_nothing_can_be_added(found, settled, errors):
    click(found.found.missed_button)
    settled()
    assert len(errors) == 1 and "stub" in errors[0] and "not available" in errors[0]
    assert not found.found.missed_words.isVisible()


def test_atoms_are_put_into_the_image_itself(found, state, book, settled):
    # The very network: another than the one that found the atoms would not do.
    book.set_analysis(find_atoms(state.micrograph("field"), "default", "cpu"))
    settled()
    click(found.found.missed_button)
    settled()
    added = book.of("field").injected
    # The lone atoms stand 30 above their surroundings, and whoever looks for them finds the tall.
    clear = added.height * added.usual > 20
    assert clear.sum() > 5 and np.isfinite(added.score[clear]).mean() > 0.9
    assert "of atoms like these" in found.found.missed_words.text().lower()


# ---- clusters
@pytest.fixture
def counted(found, state, settled):
    state.clusters.set_analysis(clusters_of())
    settled()
    found.clusters_part.button.click()
    settled()
    return found


def test_clusters_are_counted_by_what_all_lone_atoms_would_be(found, state, book, adding, settled):
    asked, _ = adding
    state.clusters.set_analysis(clusters_of())
    settled()
    found.clusters_part.button.click()
    settled()
    first = found.clusters.rows.set_index("cluster_id").loc[1, "n_yardstick"]
    assert len(asked) == 1 and asked[0][2].any() and not asked[0][2].all()
    # Marking doesn't put atoms in anew; a mean atom that is half as bright gives twice as many.
    book.remove([("field", 1)])
    settled()
    assert len(asked) == 1
    book.set_added("field", replace(added_atoms(0.4), usual=15.0))
    settled()
    second = found.clusters.rows.set_index("cluster_id").loc[1, "n_yardstick"]
    assert second == pytest.approx(2 * first, rel=0.01) and len(asked) == 1


def test_the_counting_can_be_stopped_and_begun_again(found, state, book, adding, settled):
    state.clusters.set_analysis(clusters_of())
    settled()
    found.clusters_part.button.click()
    tasks.cancel(state)
    settled()
    assert found.clusters.words.text() == STOPPED and found.clusters.rows is None
    found.clusters_part.button.click()
    found.clusters_part.button.click()
    settled()
    assert found.clusters.rows is not None and found.clusters.words.text().startswith("1 of 2")


def test_marks_do_not_begin_the_counting_anew(found, state, book, adding, settled, monkeypatch):
    asked, _ = adding
    state.clusters.set_analysis(clusters_of())
    settled()
    found.clusters_part.button.click()
    for i in (1, 2, 3):  # while atoms are still being added
        book.remove([("field", i)])
        found.clusters.update_now()
    settled()
    assert len(asked) == 1
    assert found.clusters.rows.set_index("cluster_id").loc[1, "yardstick_reason"] == ""


def test_another_support_is_asked_anew_what_is_missed(found, book, adding, settled):
    click(found.found.missed_button)
    settled()
    assert book.of("field").injected is not None
    book.set_support("field", [(np.array([[0, 0], [0, 50], [50, 50], [50, 0]]), False)])
    settled()
    assert book.of("field").injected is None and not found.found.missed_words.isVisible()


def test_of_a_stack_only_the_share_is_told(found, book, adding, settled):
    _, result = adding
    result[0] = replace(result[0], frames=3)
    click(found.found.missed_button)
    settled()
    assert "first frame" in found.found.missed_words.text()
    assert "nm²" not in found.found.missed_words.text()


def test_clusters_are_counted_by_the_lone_atoms(counted, state, settled):
    rows = counted.clusters.rows.set_index("cluster_id")
    assert rows.loc[1, "n_yardstick"] == pytest.approx(N_INSIDE, rel=0.15)
    low, high = rows.loc[1, ["n_yardstick_low", "n_yardstick_high"]]
    assert low < N_INSIDE < high
    assert rows.loc[2, "yardstick_reason"] == "cut by the border"
    lines = counted.clusters.model.lines
    assert lines[0][0] == "1" and lines[0][2] == "Pt19" and lines[0][3] == str(len(INSIDE))
    assert lines[1][1] == "–" and lines[1][4] == "cut by the border"
    assert counted.clusters.words.text().startswith("1 of 2 clusters counted; the label of 1 of 1")
    state.clusters.relabel([("field", 1)], "Pt70")
    settled()
    line = counted.clusters.model.lines[0]
    assert line[2] == "Pt70" and line[4].startswith("rather Pt19")


def test_a_count_that_fits_no_class_is_no_vote_for_the_nearest():
    rows = pd.DataFrame(
        {
            "cluster_id": [1, 2, 3],
            "label": ["Pt41", "unknown", "Pt41"],
            "n_yardstick": [4.0, 4.0, 38.0],
            "n_yardstick_low": [1.0, 1.0, 30.0],
            "n_yardstick_high": [9.0, 9.0, 47.0],
            "n_atoms_found": [0, 0, 5],
            "yardstick_reason": "",
            "yardstick_set": ["Pt19", "Pt19", "Pt30|Pt41"],
        }
    )
    assert [line[4] for line in lines_of(rows)] == ["no class fits", "", ""]
    assert verdict(rows) == "3 of 3 clusters counted; the label of 1 of 2 is inside the interval."


def test_too_few_lone_atoms_are_said(found, state, finder, settled):
    finder.lone = LONE[:6]
    click(found.button)
    state.clusters.set_analysis(clusters_of())
    found.clusters_part.button.click()
    settled()
    assert "No cluster can be counted" in found.clusters.words.text()
    assert "isolated atoms; 10 are needed" in found.clusters.words.text()


def test_without_clusters_or_atoms_it_says_what_to_do(dock, state, settled):
    dock.clusters_part.button.click()
    settled()
    assert dock.clusters.words.text() == NO_ATOMS
    click(dock.button)
    settled()
    assert dock.clusters.words.text() == NOT_ANALYSED and not dock.clusters.table.isVisible()


def test_clusters_and_their_atoms_are_selected_together(counted, state, book):
    inside = {("field", i) for i in range(len(LONE) + 1, len(LONE) + len(INSIDE) + 1)}
    view = counted.clusters.table
    QTest.mouseClick(
        view.viewport(), LEFT, PLAIN, view.visualRect(counted.clusters.model.index(0, 0)).center()
    )
    assert state.selection == {("field", 1)} and book.selection == inside
    # one atom of it stays the only one
    one = next(iter(inside))
    book.select([one])
    assert book.selection == {one} and state.selection == {("field", 1)}
    # a lone atom changes no cluster
    book.select([("field", 1)])
    assert state.selection == {("field", 1)}
    state.select([])
    assert book.selection == {("field", 1)}
    book.select([one])
    assert state.selection == {("field", 1)}
    assert [i.row() for i in view.selectionModel().selectedRows()] == [0]
    # while atoms are marked by hand, Delete must not reach those around
    counted.binding.atoms.marking = True
    book.select([])
    state.select([])
    state.select([("field", 1)])
    assert not book.selection
    counted.binding.atoms.marking = False
    counted.clusters.together.setChecked(False)
    state.select([])
    state.select([("field", 1)])
    assert not book.selection


# ---- by hand
def test_the_switches_are_those_of_the_viewer(found, settled):
    view, part = found.binding.atoms, found.marking
    click(part.button)
    assert view.marking
    part.loupe.click()
    assert view.magnifier
    part.support.click()
    settled()
    assert view.show_support and part.add_button.isVisible()
    for button, drawn in ((part.take_button, "vacuum"), (part.add_button, "support")):
        click(button)
        layer = found.binding.canvas.layer("field", "support")
        assert layer.mode == "add_polygon_lasso"
        assert found.binding.viewer.status == f"Draw around {drawn}"
        assert found.binding.viewer.layers.selection.active is layer
        assert "double-click the last" in compat.text_overlay(found.binding.viewer).text
    # Another image without atoms has no support, whatever is shown in this one.
    shown = found.binding.viewer
    shown.add_image(np.random.default_rng(0).normal(100, 5, (64, 64)), name="no size")
    other = found.binding.canvas.ensure_image(shown.layers["no size"])
    found.binding.state.current = other
    settled()
    assert not (part.support.isChecked() or part.support.isEnabled())
    assert "no pixel size" in part.support.toolTip() and not part.add_button.isVisible()
    found.binding.state.current = "field"
    settled()
    assert part.support.isChecked() and part.support.isEnabled() and part.add_button.isVisible()
    assert "no pixel size" not in part.support.toolTip()
    view.marking = view.magnifier = view.show_support = False
    settled()
    assert not (part.button.isChecked() or part.loupe.isChecked() or part.support.isChecked())
    assert not part.add_button.isVisible()


def test_an_image_can_be_marked_before_anything_is_found(dock, book, settled):
    click(dock.marking.button)
    assert dock.binding.atoms.marking and dock.state.current == "field"
    book.add("field", [Mark(50.0, 50.0), Mark(80.0, 50.0)])
    settled()
    assert not dock.threshold.isVisible() and "2 marked by hand" in dock.found.words.text()
    dock.binding.atoms.marking = False


def test_marks_count_at_once(found, book, settled):
    before = len(book.table("field"))
    book.add("field", [Mark(150.0, 20.0)])
    settled()
    assert f"<b>{before + 1} atoms</b>" in found.threshold.words.text()
    assert "1 marked by hand" in found.found.words.text()


def test_scores_are_those_of_the_atoms_of_the_model(found, book, settled):
    analysis = book.of("field").analysis
    of_model = book.table("field")["atom_id"].tolist()
    book.confirm([("field", i) for i in of_model[:3]])
    book.add("field", [Mark(150.0, 20.0)])
    settled()
    text, n = found.threshold.words.text(), len(of_model)
    begins = f"<b>{n + 1} atoms</b>: 4 by hand, {n - 3} of the model at a probability of 0.50"
    assert text.startswith(begins)
    p = analysis.candidates["confidence"][~analysis.candidates["atom_id"].isin(of_model[:3])]
    assert f"expected precision {p[p >= 0.5].mean():.2f}, recall" in text
    book.confirm([("field", i) for i in of_model])
    settled()
    assert found.threshold.words.text() == f"<b>{n + 1} atoms</b>, all by hand"
    book.remove([("field", i) for i in book.table("field")["atom_id"]])
    settled()
    assert found.threshold.words.text() == "<b>0 atoms</b> at a probability of 0.50 or more"


def test_who_has_gone_through_an_image_is_kept(found, state, tmp_path, settled):
    assert not found.marking.done_button.isEnabled()
    project = Project(tmp_path / "p.atomicity")
    state.attach_project(project)
    settled()
    # Marks that were made in sight of those of the model are not compared.
    assert not found.marking.done_button.isEnabled()
    assert "Tick Blind" in found.marking.done_button.toolTip()
    state.set_blind(True)
    settled()
    assert "Not yet" in found.marking.done_words.text()
    click(found.marking.done_button)
    _, looked = project.atoms.annotations()
    assert looked.to_numpy().tolist() == [["field", state.annotator]]
    assert found.marking.done_words.text() == f"Reviewed by {state.annotator}."
    click(found.marking.done_button)
    settled()
    assert not len(project.atoms.annotations()[1])
    assert found.marking.done_words.text().startswith("Not yet reviewed")
    click(found.marking.done_button)
    state.annotator = "Ben"
    settled()
    assert found.marking.done_words.text() == "Not yet reviewed by Ben."
    state.close_project()


def test_an_image_with_blind_marks_is_reviewed_and_the_button_says_why(
    found, state, book, tmp_path, settled
):
    state.attach_project(Project(tmp_path / "p.atomicity"))
    state.set_blind(True)
    ids = book.add("field", [Mark(150.0, 20.0)])
    settled()
    button = found.marking.done_button
    assert button.text() == "Image reviewed: it has marks" and not button.isEnabled()
    words = found.found.words.text()
    assert "1 marked by hand" in words and "probabilities" not in words and "detect" not in words
    assert found.marking.done_words.text() == f"Reviewed by {state.annotator}."
    book.remove([("field", i) for i in ids])
    settled()
    assert button.text() == DONE and button.isEnabled()
    assert "per nm²" not in found.found.words.text()  # nobody has said that there are none
    state.close_project()


@pytest.mark.parametrize(("n", "said"), [(3, False), (30, True)])
def test_most_detections_off_the_support_are_a_reason_to_correct_it(n, said):
    kinds = pd.DataFrame()
    found = Summary(40, 0, 0, 1.7, 1, 0, n, 9.0, kinds, kinds, 0.5)
    text = found_module.format_found(found)
    assert f"{n} off the support" in text and ("correct the support" in text) is said


def test_blind_nothing_of_the_model_is_shown(found, state, tmp_path, settled):
    state.attach_project(Project(tmp_path / "p.atomicity"))
    settled()
    assert found.marking.hint.text().startswith("For independent")
    state.set_blind(True)
    settled()
    assert not found.threshold.isVisible() and not found.button.isEnabled()
    support = found.marking.support
    assert not support.isEnabled() and support.toolTip().startswith("Leave blind mode")
    assert found.marking.hint.text().startswith("Blind") and found.marking.button.isEnabled()
    assert row_of(state, None, state.current).words == "new"
    (only,) = state.atoms.add(state.current, [Mark(12.0, 13.0)])
    assert row_of(state, None, state.current).words == "1 atom"
    state.atoms.remove([(state.current, only)])  # which answers nothing of the image
    assert row_of(state, None, state.current).words == "new"
    click(found.marking.done_button)  # without atoms
    assert row_of(state, None, state.current).words == "0 atoms"
    state.set_blind(False)
    settled()
    assert found.threshold.isVisible()
    state.close_project()


# ---- all images
def test_all_images_are_one_step_and_a_bad_one_is_named(
    dock, viewer, state, book, finder, monkeypatch, settled
):
    said = []
    monkeypatch.setattr(batch_module, "show_info", said.append)
    for name in ("second", "bad one"):
        state.add_image(Micrograph(picture(), PIXEL_NM, name))
    click(dock.button)
    settled()
    assert dock.all_button.text() == "All images (2)"
    steps = len(state.history)
    click(dock.all_button)
    settled()
    assert sorted(name for name, *_ in finder.asked) == ["bad one", "field", "second"]
    assert book.images == ["field", "second"]
    assert len(said) == 1 and "2 images" in said[0] and "bad one: this image holds" in said[0]
    assert len(state.history) == steps + 1
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]) or NO)
    click(dock.all_button)
    assert asked[0].startswith("2 of 3 images have results; the others failed")
    state.history.undo()
    assert book.images == ["field"]


def test_an_image_without_a_pixel_size_is_named_once_with_the_advice_of_the_window(
    dock, state, tmp_path, finder, monkeypatch, settled
):
    said = []
    monkeypatch.setattr(batch_module, "show_info", said.append)
    path = tmp_path / "bare.tif"
    state.add_image(Micrograph(picture(), None, "bare.tif", path=path))
    monkeypatch.setattr(jobs, "find_atoms", lambda m, *a, **k: find_atoms(m))
    settled()
    click(dock.all_button)
    settled()
    assert len(said) == 1 and said[0].count("bare.tif") == 1
    assert "pixel size is not known" in said[0] and "Enter it in the dock Atoms" in said[0]
    assert "--pixel-size-nm" not in said[0]
    assert updated(dock).all_button.text() == "All images"
    state.pixel_sizes.set("bare.tif", PIXEL_NM)  # it waits again
    assert updated(dock).all_button.text() == "All images (1)"
    click(dock.all_button)
    settled()
    assert state.atoms.of("bare.tif").analysis is not None


def test_a_threshold_set_by_hand_stays_where_the_same_atoms_are_found(
    found, state, book, finder, settled
):
    book.set_threshold("field", 0.8)
    n_atoms = len(book.of("field").table)
    click(found.button)
    settled()
    assert book.of("field").threshold == 0.8 and len(book.of("field").table) == n_atoms
    finder.lone = LONE[:20]
    click(found.button)
    settled()
    assert book.of("field").threshold == 0.5  # of other probabilities


def test_all_again_is_asked_first(found, state, book, finder, monkeypatch, settled):
    state.add_image(Micrograph(picture(), PIXEL_NM, "second"))
    settled()
    click(found.all_button)
    settled()
    assert len(finder.asked) == 2
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    questions = []
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: questions.append(a[2]) or answers.pop(0)
    )
    steps = len(state.history)
    click(found.all_button)
    settled()
    assert len(finder.asked) == 2
    found.threshold.precision.setValue(0.9)
    found.precise.setChecked(True)
    click(found.all_button)
    settled()
    assert len(finder.asked) == 4 and len(state.history) == steps + 1
    assert "set to the best expected F1" in questions[0]
    assert "set to a precision of 0.9." in questions[1]


# ---- out
def test_the_search_can_be_copied_as_a_command_and_as_python(found, tmp_path, monkeypatch):
    in_file = (tmp_path / "model.safetensors", None)
    monkeypatch.setattr("napari_atomicity.pipeline.repeat.installed_model", lambda *_: in_file)
    said = []
    for action in found.copy_as.menu().actions():
        action.trigger()
        said.append(QApplication.clipboard().text())
    command, python = said
    words = shlex.split(command)
    assert words[:3] == ["atomicity", "atoms", str(tmp_path / "field.tif")]
    assert "find_atoms" in python and str(tmp_path / "field.tif") in python


def test_the_table_goes_into_a_file_and_to_the_clipboard(
    counted, state, tmp_path, monkeypatch, settled
):
    path = tmp_path / "atoms.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), "CSV (*.csv)"))
    counted.export_atoms()
    settled()
    written = read_table(path)
    table = state.atoms.table("field")
    assert written["atom_id"].tolist() == table["atom_id"].tolist()
    assert set(written["session"].fillna("")) == {state.sessions.session_of("field").name}
    assert set(written["sample"].fillna("")) == {state.sessions.sample_of("field").name}
    held = written.loc[written["cluster_id"].notna(), "atom_id"]
    assert held.tolist() == list(range(len(LONE) + 1, len(LONE) + len(INSIDE) + 1))
    path = tmp_path / "atom_groups.csv"
    counted.export_groups()
    settled()
    groups = read_table(path)
    assert groups["n_atoms"].sum() == len(table) and groups["extent_nm"].max() > 0
    click(counted.copy_button)
    settled()
    lines = QApplication.clipboard().text().splitlines()
    assert (
        lines[0].split("\t")[:3] == ["image", "frame", "atom_id"] and len(lines) == len(table) + 1
    )
    path = tmp_path / "cluster_atoms.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), "CSV (*.csv)"))
    counted.export_clusters()
    settled()
    rows = read_table(path)
    assert rows["cluster_id"].tolist() == [1, 2]
    assert rows["atom_ids"][0] == "|".join(map(str, held))
    path = tmp_path / "cluster_atoms.xlsx"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    for export, name in ((counted.export_clusters, "n_yardstick"), (counted.export_atoms, "y_nm")):
        export()
        settled()
        about = pd.read_excel(path, sheet_name="columns")["column"].tolist()
        assert name in about and about == list(pd.read_excel(path, nrows=0).columns)


# ---- the life of a dock
def test_a_hidden_dock_does_nothing_until_it_is_shown(found, book, monkeypatch, settled):
    done = []
    show = found.threshold.show_atoms
    monkeypatch.setattr(found.threshold, "show_atoms", lambda a: done.append(1) or show(a))
    found.hide()
    book.set_threshold("field", 0.9)
    settled()
    assert not done
    found.show()
    settled()
    assert done and found.threshold.slider.value() == 900


def test_columns_can_be_read_without_seeing_them(qtbot):
    chart = ColumnChart()
    qtbot.addWidget(chart)
    chart.show_columns([ChartColumn(3, "#56b4e9", "1"), ChartColumn(0, "#56b4e9", "2")])
    assert chart.accessibleDescription() == "1: 3"
    chart.resize(200, 80)
    assert chart.index_at(chart._box(0).center()) == 0
    assert chart.index_at(chart._box(1).center()) == -1


def test_scrolling_the_dock_moves_no_threshold(found, book):
    slider = found.threshold.slider
    place = QPointF(slider.rect().center())
    turn = QWheelEvent(
        place, slider.mapToGlobal(place), QPoint(0, 0), QPoint(0, 120),
        Qt.MouseButton.NoButton, PLAIN, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(slider, turn)
    assert slider.value() == 500 and not turn.isAccepted()


def test_another_pixel_size_afterwards_asks_for_the_atoms_anew(found, layer, book, settled):
    assert not book.outdated("field")
    layer.scale = tuple(1.5 * s for s in layer.scale)
    settled()
    assert book.outdated("field")
    assert "pixel size has changed" in found.result.text() and found.result.isVisible()
