"""Make the pictures of the documentation again: ``make screenshots``.

A real napari window is opened, and a person's day is gone through in it, by clicks and keys, as the
tutorial tells it: on a made-up session of six images (`example_session.py`), with the default
model; and another one with single atoms. Each picture is the window or a part of it, in the dark
and in the light theme; nothing is drawn in afterwards. The files in ``docs/images`` are replaced.
Should a step not do what the tutorial says, this ends with an error. ``--only marking dispersion``
makes only the pictures of these steps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import napari
import numpy as np
import pandas as pd
import tifffile
from napari.layers import Points
from napari.settings import get_settings
from qtpy.QtCore import QPoint, QPointF, QSettings, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLineEdit
from scipy.ndimage import median_filter

from example_session import CONTAMINATED, make_samples, make_session
from napari_atomicity.core.tables.cluster_table import AGGREGATE
from napari_atomicity.gui.controls.shortcuts import Help
from napari_atomicity.gui.docks.adapt.dock import Adapt
from napari_atomicity.gui.docks.analyse import Analyse, Classify, Detect
from napari_atomicity.gui.docks.annotators.dock import Annotators
from napari_atomicity.gui.docks.atoms.dock import Atoms
from napari_atomicity.gui.docks.browse.dock import Browse
from napari_atomicity.gui.docks.dispersion.dock import Dispersion
from napari_atomicity.gui.docks.embedding.dock import Embedding
from napari_atomicity.gui.docks.explain.dock import Explain
from napari_atomicity.gui.docks.gallery import Gallery
from napari_atomicity.gui.docks.live.dock import Live
from napari_atomicity.gui.docks.movie.dock import Movie
from napari_atomicity.gui.docks.plots import Plots
from napari_atomicity.gui.docks.ratios.dock import Ratios
from napari_atomicity.gui.docks.report import Report
from napari_atomicity.gui.docks.review.dock import Review
from napari_atomicity.gui.docks.table import Table
from napari_atomicity.gui.docks.train.dock import CORRECTIONS, Train
from napari_atomicity.gui.docks.validate.dock import Validate
from napari_atomicity.gui.viewer.layers import compat
from napari_atomicity.io.images import load
from napari_atomicity.reporting.plots.registry import PLOTS
from napari_atomicity.simulation.atom_fields import AtomFieldSettings, simulate_atoms
from napari_atomicity.simulation.example_data import (
    atom_example_path,
    atom_example_truth_path,
    example_path,
)
from napari_atomicity.simulation.field_settings import FieldSettings
from napari_atomicity.simulation.imaging import Microscope
from napari_atomicity.simulation.movies import MovieTruthSettings, simulate_movie
from napari_atomicity.simulation.structures import library_of
from napari_atomicity.statistics.scores import match_nearest
from studio import (
    DENSITY,
    LEFT,
    Studio,
    beside,
    move,
    square,
    trimmed,
)

KEY = Qt.Key
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
IMAGE_PX = (1366, 700)
"""The window for pictures that are mostly of the image."""
MAP_PX = (1000, 1100)
"""The window for the image above the map."""
WIDE_PX = (1366, 560)
"""The window for docks that are wider than high."""
HIGH_PX = (1600, 1100)
"""The window for a dock that is higher than it is wide."""
COMPARE_PX = (1600, 2200)
"""The window for all that *Compare samples* shows."""
VALIDATE_PX = 560
"""Width of the dock with a table of scores."""
SAMPLE, ANSWERED = 80, 37
FIRST, SECOND = "Anna", "Ben"
EDGE_NM, EDGE_WIDTH_NM = (5.6, 8.2), 10.5
"""Middle (y, x) and width of what is seen of the edge of the support of the atoms."""
MISTAKES = 0.08
"""How often a second person sees something else."""


def check(true: bool, what: str) -> None:
    """What the tutorial says must be so."""
    if not true:
        raise SystemExit(f"this did not happen: {what}")


class Day:
    """The session, its truth, and a person who knows it."""

    def __init__(self, out: Path, folder: Path) -> None:
        self.folder = folder
        self.truth = pd.DataFrame()
        self.studio = Studio(out)

    # ---- what is true
    def true_label(self, image: str, row: pd.Series) -> str:
        """The label of a cluster in the truth; "" where there is none."""
        truth = self.truth[self.truth["image"] == image]
        columns = ["y_nm", "x_nm"]
        place = row[columns].to_numpy(float)[None]
        partner = match_nearest(place, truth[columns].to_numpy(float), 0.5)[0]
        return "" if partner < 0 else str(truth["label"].iloc[partner])

    def answer(self, mistaken: bool = False) -> None:
        """The key for the cluster that a review shows."""
        studio = self.studio
        image, cluster_id = studio.binding.label_mode.review.key
        table = studio.state.table(image).set_index("cluster_id")
        label = self.true_label(image, table.loc[cluster_id])
        classes = studio.classes()
        if mistaken and label in classes:
            label = classes[min(classes.index(label) + 1, len(classes) - 1)]
        if label in classes:
            studio.press_number(classes.index(label) + 1)
        else:
            studio.press(KEY.Key_A if label == AGGREGATE else KEY.Key_X)

    # ---- the morning
    def uncalibrated(self) -> None:
        """The dock asks for the pixel size of an image that has none."""
        studio = self.studio
        layer = studio.viewer.add_image(load(example_path()).data, name="export.png")
        studio.of_dock("calibration", Analyse)
        studio.viewer.layers.remove(layer)

    def open_folder(self) -> None:
        """The button of Browse, and Analyse all."""
        studio = self.studio
        self.truth = make_session(self.folder)
        self._open(self.folder, set(self.truth["image"]))
        dock = studio.front(Browse)
        studio.click(dock.analyse_button)
        analysed = studio.state.analysis
        studio.wait_until(
            lambda: (
                all(analysed(i) is not None for i in studio.state.images) and not dock.batch.running
            ),
            "all images are analysed",
        )
        studio.canvas.setFocus()
        studio.press(KEY.Key_PageDown)
        check(studio.state.current == studio.state.images[1], "PageDown goes on")
        studio.press(KEY.Key_PageUp)

    def _open(self, folder: Path, images: set[str]) -> None:
        """Open a folder with Browse."""
        studio = self.studio
        dock = studio.front(Browse)
        with studio.answering("getExistingDirectory", str(folder)):
            studio.click(dock.open_button)
        studio.wait_until(lambda: set(studio.state.images) == images, "the folder is open")

    def _is_named(self, name: str) -> None:
        """Somebody sits down and says who it is."""
        form = self.studio.bar.annotator
        form.name.setText(name)
        form.name.editingFinished.emit()
        self.studio.settle()

    def workbench(self) -> None:
        """The window as the README shows it."""
        studio = self.studio
        studio.arrange()
        studio.select(typical(studio.table(), studio.classes()[-1])["cluster_id"])
        studio.front(Ratios)
        studio.viewer.reset_view(margin=0.02)
        studio.both("workbench", studio.window)

    def settings(self) -> None:
        """Analyse with its settings unfolded; Detect; Browse."""
        studio = self.studio
        folded = studio.widget(Analyse).settings
        folded.button.setChecked(True)
        studio.of_dock("analyse", Analyse)
        folded.button.setChecked(False)
        studio.of_dock("detect", Detect)

    def labels(self) -> None:
        """The image from near: marks, outlines, labels."""
        studio = self.studio
        studio.select()
        studio.show_class_maps()
        with studio.alone(Explain, IMAGE_PX):
            studio.look_at(*crowded(studio.table(), 14.0), width_nm=16.0)
            studio.both("labels", lambda: studio.part(studio.canvas))

    def explain(self) -> None:
        """Why a cluster is what it is said to be; and what all of a class have in common."""
        studio = self.studio
        studio.select(typical(studio.table(), studio.classes()[2])["cluster_id"])
        studio.of_dock("explain", Explain)

    def class_maps(self) -> None:
        """The class maps of both channels over the image."""
        studio = self.studio
        place = crowded(studio.table(), 9.0)
        hidden = [x for x in studio.viewer.layers if isinstance(x, Points)]
        hidden.append(compat.text_overlay(studio.viewer))
        for thing in hidden:
            thing.visible = False

        def take():
            pictures = []
            for channel in ("raw", "LCN"):
                studio.show_class_maps(channel)
                studio.look_at(*place, width_nm=15.0)
                picture = square(studio.part(studio.canvas))
                pictures.append(picture.resize((420 * DENSITY, 420 * DENSITY)))
            return beside(*pictures)

        with studio.alone(Explain, IMAGE_PX):
            studio.both("class-maps", take)
        for thing in hidden:
            thing.visible = True
        studio.show_class_maps("raw")

    # ---- the review
    def review(self) -> None:
        """A stratified sample: a key for each cluster, and what follows from the answers."""
        studio = self.studio
        self._is_named(FIRST)
        dock = studio.front(Review)
        studio.choose(dock.order, "sample")
        dock.number.setValue(SAMPLE)
        studio.of_dock("review-form", Review)
        studio.front(Review)
        studio.click(dock.button)
        review = studio.binding.label_mode.review
        check(review is not None and review.n == SAMPLE, "the sample is drawn")
        for _ in range(ANSWERED):
            self.answer()
        check(review.n_done == ANSWERED, f"{ANSWERED} answers are counted")
        n = len(studio.state.history)
        studio.press(KEY.Key_Z, CTRL)
        check(len(studio.state.history) == n - 1, "Ctrl+Z undoes")
        studio.press(KEY.Key_Z, CTRL | SHIFT)
        check(len(studio.state.history) == n, "Ctrl+Shift+Z does it again")
        studio.press(KEY.Key_N)
        studio.arrange()
        studio.front(Review)
        studio.both("reviewing", studio.window)
        with studio.alone(Review):
            studio.both("review", lambda: trimmed(studio.part(dock)))
            dock.parts[0].button.click()
            studio.settle()
            studio.scroll_to(dock.parts[0])
            studio.both("history", lambda: studio.part(dock.parts[0]))
            dock.parts[0].button.click()
        studio.front(Review)
        while not review.finished:
            self.answer()
        studio.press(KEY.Key_Escape)
        check(studio.binding.label_mode.review is None, "Esc ends the review")

    # ---- by hand
    def by_hand(self) -> None:
        """Add, delete, split, merge, exclude."""
        studio, state = self.studio, self.studio.state
        state.current = state.images[CONTAMINATED]
        studio.settle()
        studio.arrange()
        studio.viewer.reset_view(margin=0.02)
        studio.settle()
        studio.binding.label_mode.on = True
        studio.settle()
        n = len(studio.table())
        row = typical(studio.table(), studio.classes()[3])
        studio.click_at(row["y_nm"], row["x_nm"])
        check(state.selection == {(state.current, row["cluster_id"])}, "a click selects")
        studio.press(KEY.Key_Delete)
        check(len(studio.table()) == n - 1, "Delete deletes")
        studio.press(KEY.Key_P)
        studio.click_at(row["y_nm"], row["x_nm"])
        studio.wait_until(lambda: len(studio.table()) == n, "a click in P adds a cluster")
        studio.wait_until(lambda: studio.table()["label"].iloc[-1] != "", "it is classified")
        studio.press(KEY.Key_P)
        studio.press(KEY.Key_Z, CTRL)
        studio.press(KEY.Key_Z, CTRL)
        check(len(studio.table()) == n, "undone: deleted and added")
        pair = touching(studio.table())
        studio.click_at(*pair[0])
        studio.click_at(*pair[1], SHIFT)
        check(len(state.selection) == 2, "Shift and a click select a second one")
        studio.press(KEY.Key_M)
        studio.wait_until(lambda: len(studio.table()) == n - 1, "M merges two")
        studio.press(KEY.Key_S)
        studio.wait_until(lambda: len(studio.table()) == n, "S splits it again")
        studio.press(KEY.Key_Z, CTRL)
        studio.press(KEY.Key_Z, CTRL)
        studio.press(KEY.Key_E)
        places = [QPointF(p) for p in self._around_dirt()]
        studio.drag_along(studio.canvas, places)
        studio.let_go(studio.canvas, places[-1])
        studio.wait_until(
            lambda: len(state.clusters.regions(state.current)) == 1, "E excludes a region"
        )
        studio.select()
        studio.show_class_maps()
        points = studio.binding.canvas.layer(state.current, "clusters")
        check(studio.viewer.layers.selection.active is points, "keys are those of the clusters")
        with studio.alone(Classify, IMAGE_PX):
            studio.viewer.reset_view(margin=0.02)
            studio.settle()
            studio.both("excluded", lambda: studio.part(studio.canvas))
        studio.of_dock("classify", Classify)
        studio.show_class_maps("raw")

    def _around_dirt(self) -> list[QPoint]:
        """A path in the canvas around the cluster on the brightest part of the support."""
        frame = next(self.studio.state.micrograph(self.studio.state.current).frames())
        step = 16
        rows, columns = (n // step for n in frame.shape)
        blocks = frame[: rows * step, : columns * step].reshape(rows, step, columns, step)
        # Of many places at once: a cluster is small.
        level = median_filter(np.median(blocks, axis=(1, 3)), 11, mode="nearest")
        size = self.studio.state.micrograph(self.studio.state.current).pixel_size_nm
        place = self.studio.table()[["y_nm", "x_nm"]].to_numpy()
        edge = np.array(frame.shape) * size
        place = place[((place > 5) & (place < edge - 5)).all(axis=1)]
        block = (place / size // step).astype(int)
        centre = place[level[block[:, 0], block[:, 1]].argmax()]
        angle = np.linspace(0, 1.95 * np.pi, 40)
        path = centre + 3.5 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        return [self.studio.on_canvas(*corner) for corner in path]

    # ---- many at once
    def gallery(self) -> None:
        """Tiles by label; some are selected."""
        studio = self.studio
        with studio.alone(Gallery) as dock:
            studio.state.select([])
            dock.view.scrollToTop()  # it is where the cluster of the step before is
            studio.settle()
            tiles = [dock.view.visualRect(dock.model.index(i)).center() for i in (2, 3, 4)]
            for tile, held in zip(tiles, (Qt.KeyboardModifier.NoModifier, CTRL, CTRL), strict=True):
                QTest.mouseClick(dock.view.viewport(), LEFT, held, tile)
            studio.settle()
            check(len(studio.state.selection) == 3, "Ctrl and clicks select tiles")
            studio.both("gallery", lambda: studio.part(dock))

    def table(self) -> None:
        """Rows that a line filters."""
        studio = self.studio
        with studio.alone(Table, WIDE_PX) as dock:
            dock.filter_line.setText("confidence < 0.8 and diameter_nm > 1.2")
            studio.press(KEY.Key_Return, on=dock.filter_line)
            check(0 < dock.model.rowCount() < len(studio.state.table()), "a line filters rows")
            studio.both("table", lambda: studio.part(dock))
            dock.findChild(QLineEdit).clear()
            studio.settle()

    def embedding(self) -> None:
        """Some points of the map caught with the lasso, and the same clusters in the image."""
        studio = self.studio
        studio.select()
        studio.show_class_maps()
        with studio.alone(Embedding, MAP_PX, height_px=MAP_PX[1] // 2) as dock:
            dock.scatter.fit()
            studio.click(dock.lasso_button)
            native = dock.scatter.canvas.native
            places = around(dock, studio.classes()[-1])
            studio.drag_along(native, places)
            studio.let_go(native, places[-1])
            check(len(studio.state.selection) > 5, "the lasso selects")
            studio.viewer.reset_view(margin=0.02)
            studio.settle()
            studio.both("embedding", studio.window)
            studio.click(dock.lasso_button)
        studio.show_class_maps("raw")

    def plots(self) -> None:
        """Each plot; what is selected is marked."""
        studio = self.studio
        with studio.alone(Plots, WIDE_PX) as dock:
            for name in PLOTS:
                studio.choose(dock.plot_combo, name)
                QTest.qWait(500)  # of many images it waits for more changes
                studio.settle()
                studio.both(f"plot-{name}", lambda: studio.part(dock))
            studio.choose(dock.plot_combo, "diameter")
        studio.select()

    def ratios(self) -> None:
        """The shares of the classes with their intervals, beside what is known."""
        studio = self.studio
        dock = studio.front(Ratios)
        studio.choose(dock.scope_combo, "all images")
        dock.reference_section.button.setChecked(True)
        dock.reference.line.setText("Pt19:Pt30:Pt41:Pt55:Pt70 = 30:10:25:10:25")
        dock.reference.line.editingFinished.emit()
        studio.of_dock("ratios", Ratios)

    def compare(self) -> None:
        """Three samples, with the times of a table."""
        studio = self.studio
        folder = self.folder.parent / "reaction"
        table = make_samples(folder)
        images = {str(path.relative_to(folder)) for path in folder.glob("*/*.tif")}
        self._open(folder, images)
        dock = studio.front(Browse)
        studio.click(dock.analyse_button)
        analysed = studio.state.analysis
        studio.wait_until(
            lambda: all(analysed(i) is not None for i in images) and not dock.batch.running,
            "all images are analysed",
        )
        with studio.answering("getOpenFileName", str(table)):
            dock.image_menu.sample_menu.table_action.trigger()
        ratios = studio.front(Ratios)
        studio.click(ratios.compare_section.button)
        studio.wait_until(
            lambda: (
                ratios.compare.comparison is not None
                and len(ratios.compare.comparison.trends)
                and all(chart.figure is not None for chart in ratios.compare.charts)
            ),
            "the samples are compared",
        )
        with studio.alone(Ratios, COMPARE_PX):
            studio.both("compare", lambda: trimmed(studio.part(ratios.compare)))

    # ---- learning
    def adapt(self) -> None:
        """Adapt to corrections: before and after."""
        studio = self.studio
        review = studio.front(Review)
        studio.click(review.learning.adapt_button)
        dock = studio.widget(Adapt)
        studio.wait_until(lambda: dock.result is not None, "the adaptation ends")
        studio.of_dock("adapt", Adapt)
        if dock.result.found.accepted:
            studio.front(Adapt)
            studio.click(dock.sides[0])
            studio.click(dock.sides[1])

    def train(self) -> None:
        """Train from corrected labels."""
        studio = self.studio
        dock = studio.front(Train)
        dock.source.setCurrentIndex(CORRECTIONS)
        studio.of_dock("train", Train)

    def validate(self) -> None:
        """Compare the answers of the shipped model on simulated images."""
        studio = self.studio
        dock = studio.front(Validate)
        dock.simulate.setChecked(True)
        dock.out.choose(str(self.folder.with_name("validation")))
        controls = dock.request_form.controls
        controls["folds"].setValue(2)
        controls["seeds"].setValue(1)  # no method is trained: others give the same scores
        items = (dock.methods.item(i) for i in range(dock.methods.count()))
        for item in items:
            shipped = item.data(Qt.ItemDataRole.UserRole).startswith("dual-shipped")
            item.setCheckState(Qt.CheckState.Checked if shipped else Qt.CheckState.Unchecked)
        studio.click(dock.button)
        studio.wait_until(lambda: dock.panel.isVisible(), "the methods are compared")
        studio.of_dock("validate", Validate, VALIDATE_PX)

    # ---- the second person
    def second_opinion(self) -> None:
        """A copy for Ben, who judges blind; merged, and compared."""
        studio = self.studio
        browse = studio.front(Browse)
        mine = studio.state.project.path
        copy = self.folder.parent / f"for-{SECOND}.atomicity"
        with studio.answering("getSaveFileName", str(copy)):
            browse.actions_by_name["copy"].trigger()
            studio.settle()
        check(copy.exists(), "a copy is saved")
        browse.open(str(copy))
        studio.wait_until(lambda: studio.state.project.path == copy, "the copy is open")
        self._is_named(SECOND)
        dock = studio.front(Review)
        studio.click(studio.bar.annotator.blind)
        check(studio.state.blind, "Blind is on")
        studio.choose(dock.order, "sample")
        studio.click(dock.button)
        studio.arrange()
        studio.front(Review)
        studio.both("blind", studio.window)
        review, rng = studio.binding.label_mode.review, np.random.default_rng(5)
        while not review.finished:
            self.answer(mistaken=rng.random() < MISTAKES)
        studio.press(KEY.Key_Escape)
        browse.open(str(mine))
        studio.wait_until(lambda: studio.state.project.path == mine, "mine is open again")
        self._is_named(FIRST)
        studio.click(studio.bar.annotator.blind)
        check(not studio.state.blind, "Blind is off")
        part = dock.parts[1]
        with studio.alone(Review):
            part.button.click()
            studio.settle()
            with studio.answering("getOpenFileName", str(copy)):
                studio.click(dock.annotators.merge_button)
            QTest.qWait(500)
            studio.wait_until(
                lambda: (
                    dock.annotators.found is not None and len(dock.annotators.found.annotators) == 2
                ),
                "two annotators are compared",
            )
            studio.scroll_to(part)
            studio.both("agreement", lambda: trimmed(studio.part(dock)))
            part.button.click()

    # ---- taking it home
    def report(self) -> None:
        """Write the report."""
        studio = self.studio
        dock = studio.front(Report)
        out = self.folder.parent / "report"
        with studio.answering("getSaveFileName", str(out)):
            studio.click(dock.button)
        studio.wait_until(lambda: (out / "run.json").exists(), "the report is written")
        studio.of_dock("report", Report)

    def browse(self) -> None:
        """Browse at the end of the day: what was reviewed."""
        self.studio.arrange()
        self.studio.of_dock("browse", Browse)

    def help(self) -> None:
        """The window with all shortcuts."""
        studio = self.studio
        studio.press(KEY.Key_F1)
        window = studio.main.findChild(Help)
        check(window is not None, "F1 opens the shortcuts")
        window.resize(620, 1180)

        def take():
            return picture_of(window)

        studio.both("help", take)
        window.close()

    def reopen(self) -> None:
        """Closed and opened again, everything is there."""
        studio, state = self.studio, self.studio.state
        path, current = state.project.path, state.current
        table = state.table()
        browse = studio.front(Browse)
        browse.actions_by_name["close"].trigger()
        studio.settle()
        check(state.project is None and not state.images, "the project is closed")
        browse.open(str(path))
        studio.wait_until(lambda: state.project is not None, "the project is open")
        again = state.table()
        check(again["label"].tolist() == table["label"].tolist(), "all labels are there")
        check(state.current == current, "the image that was looked at is back")

    # ---- single atoms, in one image
    def unknown_size(self) -> None:
        """The dock asks for the pixel size, and says what it would be by the width of the spots."""
        studio = self.studio
        pixels = load(atom_example_path()).data
        layer = studio.viewer.add_image(pixels, name="export.png")
        with studio.alone(Atoms) as dock:
            studio.wait_until(lambda: dock.pixel_size.proposal is not None, "a size is proposed")
            studio.both("atoms-calibration", lambda: trimmed(studio.part(dock)))
        studio.viewer.layers.remove(layer)

    def atoms(self) -> None:
        """One button, and what was found."""
        studio, found = self.studio, self.studio.state.atoms
        self._is_named(FIRST)
        folder = self.folder.parent / "platinum"
        folder.mkdir()
        shutil.copy(atom_example_path(), folder)
        self._open(folder, {atom_example_path().name})
        with studio.alone(Atoms) as dock:
            studio.click(dock.button)
            image = studio.state.current
            studio.wait_until(lambda: len(found.table(image)) > 0, "atoms are found")
            studio.wait_until(lambda: dock.found.found is not None, "they are described")
            studio.click(dock.found.missed_button)
            studio.wait_until(
                lambda: bool(dock.found.missed_words.text()), "it is told how many are missed"
            )
            studio.both("atoms", lambda: trimmed(studio.part(dock)))

    def near(self) -> None:
        """The image from near; its rings tell of the groups."""
        studio = self.studio
        table = studio.state.atoms.table(studio.state.current)
        with studio.alone(Atoms, IMAGE_PX) as dock:
            studio.choose(dock.found.colouring, "group")
            groups = table[table["group_size"] > 1]
            studio.look_at(*crowded(groups, 5.0), width_nm=6.0)
            studio.both("atoms-image", lambda: studio.part(studio.canvas))
            studio.choose(dock.found.colouring, "confidence")

    def marking(self) -> None:
        """An atom that was missed is marked, one is doubted; loupe and support are shown."""
        studio, book = self.studio, self.studio.state.atoms
        image = studio.state.current
        n = len(book.table(image))
        missed, doubted = missed_atom(book.table(image)), doubtful_atom(book.table(image))
        with studio.alone(Atoms, IMAGE_PX) as dock:
            for switch in (dock.marking.button, dock.marking.support, dock.marking.loupe):
                studio.click(switch)
            studio.look_at(*EDGE_NM, EDGE_WIDTH_NM)
            studio.click_at(*doubted)
            studio.press(KEY.Key_U)
            check(book.table(image)["uncertain"].sum() == 1, "U says that one is not sure")
            studio.click_at(*missed)
            check(len(book.table(image)) == n + 1, "a click marks an atom")

            def take():
                move(studio.canvas, QPointF(studio.on_canvas(*missed)), Qt.MouseButton.NoButton)
                studio.settle()
                return studio.part(studio.canvas)

            studio.both("atoms-marking", take)
            studio.click(dock.marking.loupe)
            studio.click(dock.marking.support)
            studio.press(KEY.Key_Z, CTRL)
            studio.press(KEY.Key_Z, CTRL)
            table = book.table(image)
            check(len(table) == n and not table["uncertain"].any(), "Ctrl+Z takes it back")
            studio.press(KEY.Key_Escape)
            check(not studio.binding.atoms.marking, "Esc ends the marking")

    def clusters(self) -> None:
        """Clusters counted by the lone atoms; one of them is clicked."""
        studio, state = self.studio, self.studio.state
        studio.click(studio.front(Analyse).button)
        studio.wait_until(lambda: state.analysis(state.current) is not None, "it is analysed")
        with studio.alone(Atoms, IMAGE_PX, 480) as dock:
            part, lines = dock.clusters_part, dock.clusters
            part.button.click()
            studio.wait_until(lambda: lines.rows is not None, "the clusters are counted")
            studio.scroll_to(part)
            row = int(np.nanargmax(lines.rows["n_yardstick"].to_numpy(float)))
            place = lines.table.visualRect(lines.model.index(row, 0)).center()
            QTest.mouseClick(lines.table.viewport(), LEFT, pos=place)
            studio.settle()
            check(len(state.selection) == 1, "a click selects the cluster")
            check(len(state.atoms.selection) > 0, "and the atoms in it")
            studio.show_class_maps()
            compat.text_overlay(studio.viewer).visible = False
            studio.viewer.reset_view(margin=0.02)

            def take():
                return beside(studio.part(studio.canvas), studio.part(part))

            studio.both("atoms-clusters", take)
            compat.text_overlay(studio.viewer).visible = True
            part.button.click()

    def dispersion(self) -> None:
        """How the atoms of the image are spread; a bar of the histogram is clicked."""
        studio = self.studio
        with studio.alone(Dispersion) as dock:
            studio.wait_until(lambda: dock.found is not None, "the dispersion is found")
            studio.choose(dock.plot_combo, "nearest_neighbours")
            studio.wait_until(lambda: len(dock.view.boxes) > 0, "the histogram is drawn")
            bar = dock.view.boxes[int(dock.view.data["count"].idxmax())].reshape(2, 2).mean(axis=1)
            QTest.mouseClick(dock.view, LEFT, pos=QPoint(*bar.round().astype(int)))
            check(len(studio.state.atoms.selection) > 0, "a bar selects its atoms")
            studio.both("dispersion", lambda: trimmed(studio.part(dock)))

    # ---- single atoms, and people
    def annotators(self) -> None:
        """A folder of simulated atoms goes out in a pack, comes back from three, is compared."""
        studio = self.studio
        self._is_named(FIRST)
        folder = self.folder.parent / "atoms"
        truth = atom_fields(folder)
        self._open(folder, set(truth))
        atoms = studio.front(Atoms)
        studio.click(atoms.all_button)
        found = studio.state.atoms
        studio.wait_until(lambda: set(found.images) == set(truth), "atoms are found in all images")
        dock = studio.front(Annotators)
        studio.click(dock.packs_part.button)
        pack = folder.parent / "pack"
        with studio.answering("getSaveFileName", str(pack)):
            studio.click(dock.packs.export_button)
        studio.wait_until(lambda: pack.with_suffix(".zip").exists(), "a pack is made")
        manifests = [
            str(fill(pack, name, truth, share, seed) / "manifest.json")
            for seed, (name, share) in enumerate(((FIRST, 0.9), (SECOND, 0.8), ("Cleo", 0.7)))
        ]
        with studio.answering("getOpenFileNames", manifests):
            studio.click(dock.packs.import_button)
        studio.wait_until(lambda: len(dock.looked.lines.headers) == 4, "three have marked atoms")
        studio.click(dock.button)
        studio.wait_until(lambda: dock.compared is not None, "three are compared")
        with studio.alone(Annotators, HIGH_PX, width_px=560):
            studio.both("annotators", lambda: trimmed(studio.part(dock)), dock.looked.by_image)
        dock.packs_part.button.click()

    # ---- live
    def live(self) -> None:
        """Images are written into a folder one after the other, and one that can't be read."""
        studio = self.studio
        recorded = self.folder.parent / "recorded"
        images = sorted(set(make_session(recorded)["image"]))
        incoming = self.folder.parent / "incoming"
        incoming.mkdir()
        dock = studio.front(Live)
        dock.folder.setText(str(incoming))
        studio.click(dock.button)
        for n, name in enumerate(images, 1):
            shutil.copy(recorded / name, incoming / name)
            studio.wait_until(lambda n=n: len(dock.history.rows) == n, f"{name} is analysed")
        studio.wait_until(
            lambda: studio.state.analysis(images[-1]) is not None, "the last one is shown"
        )
        with studio.alone(Live) as dock:
            studio.both("live", lambda: trimmed(studio.part(dock)))
        studio.click(studio.front(Live).button)
        studio.wait_until(lambda: dock.watching is None, "the session has ended")

    # ---- a movie
    def movie(self) -> None:
        """A simulated movie is analysed and followed; tracks that change are selected."""
        studio = self.studio
        folder = self.folder.parent / "movies"
        self._open(folder, {film(folder).name})
        analyse = studio.front(Analyse)
        studio.wait_until(analyse.button.isEnabled, "the movie can be analysed")
        studio.click(analyse.button)
        image = studio.state.images[0]
        studio.wait_until(lambda: studio.state.analysis(image) is not None, "it is analysed")
        studio.binding.label_mode.on = False
        dock = studio.front(Movie)
        studio.click(dock.button)
        studio.wait_until(lambda: dock.found is not None, "clusters are followed")
        jumps = dock.found.events[dock.found.events["event"] == "jump"]
        studio.select(*jumps["cluster_id"].iloc[:3].tolist())
        studio.viewer.dims.set_current_step(0, 22)
        with studio.alone(Movie) as dock:
            studio.wait_until(lambda: len(dock.plot.curves) > 0, "tracks are drawn")
            studio.both("movie", lambda: trimmed(studio.part(dock)))


def film(folder: Path) -> Path:
    """A movie of clusters that wander and change on a drifting stage, as ImageJ would save it."""
    classes = ("Pt19", "Pt30", "Pt41", "Pt55", "Pt70")
    settings = MovieTruthSettings(
        classes, n_frames=30, n_clusters=16, extent_nm=(18.0, 18.0), change=0.015, merges=1,
        apart_nm=2.8,
    )  # fmt: skip
    imaging = FieldSettings(pixel_size_nm=0.045, microscope=Microscope(dose_e_per_a2=1500))
    made = simulate_movie(library_of(classes, 4, seed=9), settings, 3, imaging)
    folder.mkdir()
    path = folder / "movie.tif"
    resolution = 1 / imaging.pixel_size_nm
    tifffile.imwrite(
        path,
        made.micrograph.data.astype(np.uint16),
        imagej=True,
        resolution=(resolution, resolution),
        metadata={"unit": "nm", "finterval": settings.frame_time_s, "axes": "TYX"},
    )
    return path


def atom_fields(folder: Path) -> dict[str, np.ndarray]:
    """Three images of atoms on carbon in a folder; of each the true places, (N, 2) in pixels."""
    folder.mkdir()
    settings = AtomFieldSettings(shape_px=(384, 384), contrast=0.4)
    truth = {}
    for seed in range(1, 4):
        field = simulate_atoms(settings, seed)
        path = folder / f"grid_{seed:02d}.tif"
        per_nm = 1 / settings.pixel_size_nm
        tifffile.imwrite(
            path,
            field.micrograph.data.astype(np.float32),
            imagej=True,
            resolution=(per_nm, per_nm),
            metadata={"unit": "nm"},
        )
        truth[path.name] = field.truth[["y_px", "x_px"]].to_numpy(float)
    return truth


def at_edge(places: np.ndarray) -> np.ndarray:
    """Which places (N, 2) in nm are well in the view of the support's edge."""
    return (np.abs(places - EDGE_NM) < 0.4 * EDGE_WIDTH_NM).all(axis=1)


def missed_atom(table: pd.DataFrame) -> tuple[float, float]:
    """Where, far from clusters, a true atom lies (y, x in nm) that was not found."""
    truth = pd.read_csv(atom_example_truth_path())
    places = truth[["y_nm", "x_nm"]].to_numpy(float)
    atoms, clusters = places[truth["n"] == 1], places[truth["n"] > 1]
    partner = match_nearest(atoms, table[["y_nm", "x_nm"]].to_numpy(float), 0.15)
    atoms = atoms[(partner < 0) & at_edge(atoms)]
    away = np.linalg.norm(atoms[:, None] - clusters, axis=2).min(axis=1)
    return tuple(atoms[away.argmax()])


def doubtful_atom(table: pd.DataFrame) -> tuple[float, float]:
    """Where the least certain atom lies."""
    places = table[["y_nm", "x_nm"]].to_numpy(float)
    chosen = table["confidence"].where(at_edge(places)).to_numpy(float)
    return tuple(places[np.nanargmin(chosen)])


def fill(pack: Path, name: str, truth: dict[str, np.ndarray], share: float, seed: int) -> Path:
    """A copy of a pack in which somebody has marked a share of the atoms, and some more."""
    rng = np.random.default_rng(seed)
    own = pack.with_name(f"{pack.name}-{name}")
    shutil.copytree(pack, own)
    (own / "annotator.txt").write_text(f"{name}\n")
    for image, places in truth.items():
        seen = places[rng.random(len(places)) < share] + rng.normal(0, 0.8, 2)
        wrong = rng.uniform(5, 378, (max(1, round((1 - share) * len(places) / 2)), 2))
        rows = [
            f"{x:.1f},{y:.1f},{'1' if rng.random() < 0.05 else ''}\n"
            for y, x in np.clip(np.vstack([seen, wrong]), 0, 383)
        ]
        (own / "tables" / f"{image}.csv").write_text("X,Y,uncertain\n" + "".join(rows))
    return own


def picture_of(window):
    """A window of its own as a picture."""
    from PIL import Image
    from qtpy.QtGui import QImage

    image = window.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    pixels = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
    pixels = pixels.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()]
    return Image.fromarray(pixels.reshape(image.height(), image.width(), 3).copy())


# ---- which clusters
def typical(table: pd.DataFrame, label: str) -> pd.Series:
    """A whole cluster of this label that stands alone and is rather certain."""
    alone = table[~(table["touches_border"] | table["touches_neighbour"])]
    own = alone[alone["label"] == label]
    chosen = (own if len(own) else alone).sort_values("confidence", ascending=False)
    return chosen.iloc[len(chosen) // 3]


def crowded(table: pd.DataFrame, width_nm: float) -> tuple[float, float]:
    """The cluster around which most others can be seen."""
    place = table[["y_nm", "x_nm"]].to_numpy()
    near = np.abs(place[:, None] - place[None]).max(axis=2) < width_nm / 2
    best = int(near.sum(axis=1).argmax())
    return float(place[best, 0]), float(place[best, 1])


def touching(table: pd.DataFrame) -> list[tuple[float, float]]:
    """Where two clusters lie that are nearest to each other."""
    place = table[["y_nm", "x_nm"]].to_numpy()
    distance = np.linalg.norm(place[:, None] - place, axis=2) + 1e9 * np.eye(len(place))
    i, j = np.unravel_index(distance.argmin(), distance.shape)
    return [tuple(place[i]), tuple(place[j])]


def around(dock: Embedding, label: str) -> list[QPointF]:
    """A nearly closed path on the canvas of the map around the clusters of a label."""
    table = dock.state.table()
    xy = table.loc[table["label"] == label, ["umap_1", "umap_2"]].dropna().to_numpy()
    centre = np.median(xy, axis=0)
    reach = np.quantile(np.abs(xy - centre), 0.8, axis=0) + 0.5
    angle = np.linspace(0, 1.93 * np.pi, 60)
    path = centre + reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [QPointF(*place) for place in dock.scatter.to_canvas(path)]


DAYS: tuple[tuple[Callable[[Day], None], ...], ...] = (
    (
        Day.uncalibrated, Day.open_folder, Day.workbench, Day.settings, Day.labels, Day.explain,
        Day.class_maps, Day.review, Day.by_hand, Day.gallery, Day.embedding, Day.plots, Day.table,
        Day.ratios, Day.adapt, Day.train, Day.second_opinion, Day.browse, Day.report, Day.help,
        Day.reopen,
    ),
    (Day.unknown_size, Day.atoms, Day.near, Day.marking, Day.clusters, Day.dispersion),
    (Day.compare,),
    (Day.validate,),
    (Day.annotators,),
    (Day.movie,),
    (Day.live,),
)  # fmt: skip
"""Each step needs those before it on its day; each day begins in a new window."""


def days_for(only: Sequence[str]) -> list[tuple[Callable[[Day], None], ...]]:
    """All steps of all days; of those that are named, their days up to them."""
    if not only:
        return list(DAYS)
    last = [max((i for i, s in enumerate(d) if s.__name__ in only), default=-1) for d in DAYS]
    return [steps[: i + 1] for steps, i in zip(DAYS, last, strict=True) if i >= 0]


@contextmanager
def removed_at_the_end(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "images")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path.home() / "microscope",
        help="new folder for the images, whose path some pictures show; removed at the end",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="STEP",
        choices=[step.__name__ for steps in DAYS for step in steps],
        help="make the pictures of these steps; what comes before is gone through all the same",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["QT_SCALE_FACTOR"] = str(DENSITY)
    options.data.mkdir(parents=True)  # fails if it is there: it is removed at the end
    with tempfile.TemporaryDirectory() as temporary, removed_at_the_end(options.data):
        # Whoever makes the pictures may have another theme, docks elsewhere, models of their own.
        home = Path(temporary)
        get_settings(home / "settings.yaml")
        scope = QSettings.Scope.UserScope
        QSettings.setPath(QSettings.Format.IniFormat, scope, str(home / "remembered"))
        os.environ["ATOMICITY_MODELS"] = str(home / "napari-atomicity" / "models")
        for steps in days_for(options.only):
            day = Day(options.out, options.data / "monday")
            for step in steps:
                print(f"- {step.__name__}")
                day.studio.takes = not options.only or step.__name__ in options.only
                step(day)
            day.studio.binding.projects.leave()
            day.studio.viewer.close()
    napari.Viewer.close_all()


if __name__ == "__main__":
    main()
