"""Make the pictures of the documentation again: ``make screenshots``.

A real napari window is opened and does what the tutorial says, step by step, on the bundled
example with the default model; each picture is the window or a part of it, nothing is drawn in
afterwards. The files in ``docs/images`` are replaced.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pandas as pd
from napari.layers import Points
from napari.settings import get_settings
from PIL import Image
from qtpy.QtCore import QEvent, QPoint, QPointF, QRect, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget, QWidget
from superqt import QCollapsible

from napari_atomicity.examples import example_path, example_truth_path
from napari_atomicity.io.images import load
from napari_atomicity.statistics.scores import match_nearest
from napari_atomicity.widgets import compat
from napari_atomicity.widgets.analyse import Analyse
from napari_atomicity.widgets.binding import Binding, binding_of
from napari_atomicity.widgets.classify import Classify
from napari_atomicity.widgets.detect import Detect
from napari_atomicity.widgets.embedding import Embedding
from napari_atomicity.widgets.explain import Explain
from napari_atomicity.widgets.ratios import Ratios
from napari_atomicity.widgets.workbench import DOCKS, dock_name, open_workbench

WINDOW_PX = (1500, 940)
"""At least 900 high: below that the workbench arranges the docks in two groups."""
LOW_PX = 640
"""Height of the window for pictures that are mostly of the image."""
DOCK_WIDTH_PX = 400
LIMIT_BYTES = 300_000
TIMEOUT_S = 600.0
CORRECTIONS = 3


class Studio:
    """A window with the workbench, and a camera in front of it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.viewer = napari.Viewer(title="napari", show_welcome_screen=False)
        self.main = self.viewer.window._qt_window
        self.main.resize(*WINDOW_PX)
        open_workbench(self.viewer)
        self.binding: Binding = binding_of(self.viewer)
        self.session = self.binding.session
        self.settle()

    # ---- time
    def settle(self) -> None:
        """Let the window work until nothing runs and everything is painted."""
        end, quiet = time.monotonic() + TIMEOUT_S, 0
        while quiet < 5:
            if time.monotonic() > end:
                raise SystemExit("the window is still busy")
            QTest.qWait(60)
            quiet = quiet + 1 if self.binding.settled else 0

    # ---- furniture
    def dock(self, kind: type[QWidget]) -> QDockWidget:
        name = dock_name(kind)
        found = self.main.findChildren(QDockWidget)
        return next(d for d in found if d.windowTitle() == name or d.objectName() == name)

    def widget(self, kind: type[Any]) -> Any:
        return self.dock(kind).findChild(kind)

    @contextmanager
    def alone(
        self, kind: type[Any], height_px: int = WINDOW_PX[1], dock_width_px: int = DOCK_WIDTH_PX
    ) -> Iterator[Any]:
        """One dock with all the room at the right, in a window of this height."""
        dock = self.dock(kind)
        others = [self.dock(k) for group in DOCKS for k in group if k is not kind]
        for other in others:
            other.hide()
        self._resize(height_px, dock, dock_width_px)
        yield self.widget(kind)
        for other in others:
            other.show()
        self._resize(WINDOW_PX[1], dock, DOCK_WIDTH_PX)

    def _resize(self, height_px: int, dock: QDockWidget, width_px: int) -> None:
        self.main.resize(WINDOW_PX[0], height_px)
        self.main.resizeDocks([dock], [width_px], Qt.Orientation.Horizontal)
        self.settle()

    # ---- pictures
    def window(self) -> Image.Image:
        self.settle()
        shot = self.viewer.window.screenshot(flash=False, canvas_only=False)
        return Image.fromarray(np.asarray(shot)).convert("RGB")

    def part(self, widget: QWidget) -> Image.Image:
        """What of the window a widget takes up."""
        picture = self.window()
        return picture.crop(_box(self._place(widget), picture.width / self.main.width()))

    def _place(self, widget: QWidget) -> QRect:
        return QRect(widget.mapTo(self.main, QPoint(0, 0)), widget.size())

    @property
    def canvas(self) -> QWidget:
        return self.viewer.window._qt_viewer.canvas.native

    def save(self, name: str, picture: Image.Image) -> None:
        """Write a PNG, with fewer colours where it would be too large else."""
        path = self.out / f"{name}.png"
        picture.save(path, optimize=True)
        colours = 256
        while path.stat().st_size > LIMIT_BYTES and colours > 32:
            with_fewer_colours(picture, colours).save(path, optimize=True)
            colours //= 2
        print(f"{path.name}: {picture.width} × {picture.height}, {path.stat().st_size // 1000} kB")

    # ---- what there is
    def table(self) -> pd.DataFrame:
        return self.session.table(self.session.current)

    def classes(self) -> list[str]:
        return self.session.classes()

    # ---- what a person does
    def arrange(self) -> None:
        """The heights of the three groups of docks."""
        groups = [self.dock(group[0]) for group in DOCKS]
        self.main.resizeDocks(groups, [200, 400, 270], Qt.Orientation.Vertical)
        self.settle()

    def show_class_maps(self, *channels: str) -> None:
        """Have the layers of these channels visible, and no others."""
        for channel in ("raw", "LCN"):
            layer = self.binding.class_map_layer(self.session.current, channel)
            if layer is not None:
                layer.visible = channel in channels
        self.settle()

    def select(self, *cluster_ids: int) -> None:
        image = self.session.current
        self.session.select((image, int(i)) for i in cluster_ids)
        self.settle()

    def look_at(self, y_nm: float, x_nm: float, width_nm: float) -> None:
        """Move the view to a place; the canvas then shows so much of the sample."""
        camera = compat.camera(self.viewer)
        camera.center = (*camera.center[:-2], y_nm, x_nm)
        camera.zoom = compat.canvas_size(self.viewer)[1] / width_nm
        self.settle()

    def press(self, key: str) -> None:
        """A key in the canvas, as napari sees it."""
        self.viewer.window._qt_viewer.canvas._key_map_handler.press_key(key)
        self.settle()


def _box(place: QRect, ratio: float) -> tuple[int, int, int, int]:
    corners = (place.left(), place.top(), place.right() + 1, place.bottom() + 1)
    return tuple(round(ratio * c) for c in corners)  # type: ignore[return-value]


def trimmed(picture: Image.Image, margin_px: int = 6) -> Image.Image:
    """Without the empty part at the bottom."""
    pixels = np.asarray(picture)
    used = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))
    last = int(used[-1]) if len(used) else picture.height
    return picture.crop((0, 0, picture.width, min(last + 1 + margin_px, picture.height)))


def beside(*pictures: Image.Image, gap_px: int = 8) -> Image.Image:
    """Pictures in a row; what is left free has the colour of the window."""
    height = max(p.height for p in pictures)
    width = sum(p.width for p in pictures) + gap_px * (len(pictures) - 1)
    out = Image.new("RGB", (width, height), pictures[-1].getpixel((0, pictures[-1].height - 1)))
    x = 0
    for picture in pictures:
        out.paste(picture, (x, 0))
        x += picture.width + gap_px
    return out


def with_fewer_colours(picture: Image.Image, n: int) -> Image.Image:
    """A picture with a palette of n colours.

    Most pixels are of a noisy grey; a rare colour that means something must not go under in it.
    """
    pixels = np.asarray(picture) // 4 * 4
    colours, count = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    weighted = np.repeat(colours, np.ceil(count**0.4).astype(int), axis=0)[None]
    method = Image.Quantize.MEDIANCUT
    palette = Image.fromarray(weighted).quantize(n, method=method, kmeans=1)
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def true_labels(table: pd.DataFrame) -> pd.Series:
    """The label of each detected cluster in the example's truth; "" where it is in none."""
    truth = pd.read_csv(example_truth_path())
    columns = ["y_nm", "x_nm"]
    partner = match_nearest(table[columns].to_numpy(), truth[columns].to_numpy(), 0.5)
    labels = np.where(partner >= 0, truth["label"].to_numpy(object)[partner], "")
    return pd.Series(labels, index=table.index)


def typical(table: pd.DataFrame, label: str) -> pd.Series:
    """A whole cluster of this label that stands alone and is rather certain."""
    alone = table[~(table["touches_border"] | table["touches_neighbour"])]
    own = alone[alone["label"] == label]
    chosen = (own if len(own) else alone).sort_values("confidence", ascending=False)
    return chosen.iloc[len(chosen) // 3]


# ---- the steps of the tutorial
def uncalibrated(studio: Studio) -> None:
    """The dock asks for the pixel size of an image that has none."""
    layer = studio.viewer.add_image(load(example_path()).data, name="export.png")
    with studio.alone(Analyse) as dock:
        studio.save("calibration", trimmed(studio.part(dock)))
    studio.viewer.layers.remove(layer)


def analyse(studio: Studio) -> None:
    """The sample and one press of the button: the workbench as the README shows it."""
    studio.viewer.open_sample("napari-atomicity", "example")
    studio.settle()
    QTest.mouseClick(studio.widget(Analyse).button, Qt.MouseButton.LeftButton)
    studio.settle()
    studio.arrange()
    studio.select(typical(studio.table(), studio.classes()[-1])["cluster_id"])
    studio.viewer.reset_view(margin=0.02)
    studio.save("workbench", studio.window())


def settings(studio: Studio) -> None:
    """The dock Analyse with its settings unfolded."""
    with studio.alone(Analyse) as dock:
        folded = dock.findChild(QCollapsible)
        folded.expand(animate=False)
        studio.save("analyse", trimmed(studio.part(dock)))
        folded.collapse(animate=False)


def by_hand(studio: Studio) -> None:
    """The dock Detect."""
    with studio.alone(Detect) as dock:
        studio.save("detect", trimmed(studio.part(dock)))


def labels(studio: Studio) -> None:
    """The image from near: marks, outlines, labels."""
    studio.select()
    studio.show_class_maps()
    with studio.alone(Explain, LOW_PX):
        studio.look_at(*crowded(studio.table(), 14.0), width_nm=16.0)
        studio.save("labels", studio.part(studio.canvas))


def crowded(table: pd.DataFrame, width_nm: float) -> tuple[float, float]:
    """The cluster around which most others can be seen."""
    place = table[["y_nm", "x_nm"]].to_numpy()
    near = np.abs(place[:, None] - place[None]).max(axis=2) < width_nm / 2
    best = int(near.sum(axis=1).argmax())
    return float(place[best, 0]), float(place[best, 1])


def explain(studio: Studio) -> None:
    """Why a cluster is what it is said to be."""
    studio.select(typical(studio.table(), studio.classes()[2])["cluster_id"])
    with studio.alone(Explain) as dock:
        studio.save("explain", trimmed(studio.part(dock)))


def class_maps(studio: Studio) -> None:
    """The class maps of both channels over the image."""
    place = crowded(studio.table(), 9.0)
    hidden = [x for x in studio.viewer.layers if isinstance(x, Points)]
    hidden.append(compat.text_overlay(studio.viewer))
    for thing in hidden:
        thing.visible = False
    pictures = []
    with studio.alone(Explain):
        for channel in ("raw", "LCN"):
            studio.show_class_maps(channel)
            studio.look_at(*place, width_nm=13.0)
            pictures.append(square(studio.part(studio.canvas)).resize((560, 560)))
    studio.save("class-maps", beside(*pictures))
    for thing in hidden:
        thing.visible = True
    studio.show_class_maps("raw")


def square(picture: Image.Image) -> Image.Image:
    """The middle of a picture that is higher than wide, with its lower edge."""
    side = min(picture.size)
    top = (picture.height - side) // 2
    return picture.crop((0, top, side, top + side))


def lasso(studio: Studio) -> None:
    """Some points of the map caught with the lasso, and the same clusters in the image."""
    studio.select()
    studio.show_class_maps()
    with studio.alone(Embedding, LOW_PX, 540) as dock:
        dock.scatter.fit()
        QTest.mouseClick(dock.lasso_button, Qt.MouseButton.LeftButton)
        studio.settle()
        native, places = dock.scatter.canvas.native, around(dock, studio.classes()[-1])
        QTest.mousePress(native, Qt.MouseButton.LeftButton, pos=places[0].toPoint())
        for place in places[1:]:
            _drag_to(native, place)
        drawn = studio.part(dock)
        QTest.mouseRelease(native, Qt.MouseButton.LeftButton, pos=places[-1].toPoint())
        studio.viewer.reset_view(margin=0.02)
        studio.save("embedding", beside(studio.part(studio.canvas), drawn))
        QTest.mouseClick(dock.lasso_button, Qt.MouseButton.LeftButton)
    studio.show_class_maps("raw")


def around(dock: Embedding, label: str) -> list[QPointF]:
    """A nearly closed path on the canvas of the map around the clusters of a label."""
    table = dock.session.table()
    xy = table.loc[table["label"] == label, ["umap_1", "umap_2"]].dropna().to_numpy()
    centre = np.median(xy, axis=0)
    reach = np.quantile(np.abs(xy - centre), 0.8, axis=0) + 0.5
    angle = np.linspace(0, 1.93 * np.pi, 60)
    path = centre + reach * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [QPointF(*place) for place in dock.scatter.to_canvas(path)]


def _drag_to(native: QWidget, place: QPointF) -> None:
    # QTest.mouseMove presses no button.
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    kind = QEvent.Type.MouseMove
    event = QMouseEvent(kind, place, native.mapToGlobal(place), button, button, none)
    QApplication.sendEvent(native, event)


def correct(studio: Studio) -> None:
    """Some labels corrected with number keys: the image and the legend."""
    table = studio.table()
    truth = true_labels(table)
    known = table.assign(truth=truth, right=truth == table["label"])[truth != ""]
    wanted = known.sort_values(["right", "confidence"], kind="stable").head(CORRECTIONS)
    studio.viewer.layers.selection.active = studio.binding.points_layer(studio.session.current)
    for _, row in wanted.iterrows():
        studio.select(row["cluster_id"])
        studio.press(str(studio.classes().index(row["truth"]) + 1))
    first = wanted.iloc[0]
    studio.select(first["cluster_id"])
    studio.show_class_maps()
    with studio.alone(Classify, LOW_PX) as dock:
        studio.look_at(first["y_nm"], first["x_nm"], width_nm=14.0)
        canvas = studio.part(studio.canvas)
        studio.save("corrections", beside(canvas, trimmed(studio.part(dock))))
    studio.show_class_maps("raw")


def ratios(studio: Studio) -> None:
    """The shares of the classes with their intervals."""
    with studio.alone(Ratios) as dock:
        studio.save("ratios", trimmed(studio.part(dock)))


STEPS: tuple[Callable[[Studio], None], ...] = (
    uncalibrated, analyse, settings, by_hand, labels, explain, class_maps, lasso, correct, ratios,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["NAPARI_ATOMICITY_WARM_UP"] = "0"
    # Whoever makes the pictures may have another theme, or docks elsewhere.
    get_settings(Path(tempfile.mkdtemp()) / "settings.yaml")
    studio = Studio(options.out)
    for step in STEPS:
        step(studio)
    studio.viewer.close()


if __name__ == "__main__":
    main()
