"""A page of the dock Explain: average patches, class maps and profiles of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ....core.palette import colour_of, symbol_of
from ....core.tables.cluster_table import classes_of
from ....io.figures import SUFFIXES
from ....io.tables import write_table
from ....models.analysis import Analysis
from ....models.class_maps.class_average_figure import (
    FIGURE,
    TABLES,
    describe_averages,
    draw_profiles,
    outline_radius,
    profile_of,
    top_of,
    write_averages,
    write_picture,
)
from ....models.class_maps.class_averages import Average, Averages, of_analyses
from ....reporting.patch_pictures import COLORMAP, compose
from ....reporting.plots.base import Look, margins
from ...controls.bars import ALL_IMAGES, THIS_IMAGE
from ...controls.chart import Chart
from ...controls.drawing import Drawing, paint_glyph, small
from ...controls.forms import STRETCH, ComboBox, new_row, scrolling
from ...controls.questions import attempt, show_info
from ...controls.refresher import FollowingWidget
from ...controls.save_dialogs import choose_new_folder
from ...panels.table_files import FILE_TYPES, choose_table_path, write_in_worker
from ...scatter.save import choose_path
from ...tasks import running, start
from ...viewer.binding import Binding

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# ---- class averages in the window: a column of small pictures for each class
#
# They are painted by Qt: 28 axes for seven classes take matplotlib a quarter of a second.

OUTLINE_COLOUR = "#56b4e9"
_MAX_TILE_CHARACTERS = 16


def picture(average: Average, top: float) -> np.ndarray:
    """Return an average as (S, S, 3) uint8: a grey patch, or a class map from 0 to ``top``."""
    if average.quantity == "patch":
        return np.repeat(compose(average.image[None])[0][..., None], 3, axis=2)
    strength = np.clip(np.nan_to_num(average.image) / top, 0, 1)
    return (255 * colormaps[COLORMAP](strength)[..., :3]).round().astype(np.uint8)


def format_profile(average: Average) -> str:
    """Format the content of a tile for its tooltip and accessible description."""
    what = "Average patch" if average.quantity == "patch" else "Average class map"
    words = f"{what} of {average.label}, {average.channel}: {average.clusters} clusters"
    b = average.balance
    if average.quantity == "patch":
        return words + "."
    if not math.isfinite(b.value):
        return f"{words}. The map is empty: the channel adds nothing to the score of the class."
    interval = f" (95 %: {b.low:+.2f} to {b.high:+.2f})" if math.isfinite(b.low) else ""
    return (
        f"{words}. Centre against outline {b.value:+.2f}{interval}: 1 is all at the centre, -1 all "
        f"at the outline. The channel adds {average.total:.2f} to the score of the class."
    )


class AverageGrid(Drawing):
    """A column per class; below each other patches and class maps of every channel."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._averages: Averages | None = None
        self._normalised = False
        self._images: dict[tuple[int, int], QImage] = {}
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setAccessibleName("Average patches and class maps by class")

    def show_averages(self, averages: Averages | None, normalised: bool) -> None:
        """Show these; ``normalised``: every map on its own scale."""
        self._averages, self._normalised = averages, normalised
        self._images = {}
        items = () if averages is None else averages.items
        self.setAccessibleDescription(
            " ".join(format_profile(a) for a in items if a.quantity == "class map")
        )
        self.updateGeometry()
        self.update()

    def cells(self) -> list[list[Average | None]]:
        """Rows of what is shown, a column per class."""
        a = self._averages
        if a is None:
            return []
        kinds = [(q, c) for q in ("patch", "class map") for c in a.channels]
        return [[a.get(label, c, q) for label in a.labels] for q, c in kinds]

    # ---- geometry
    def _line(self) -> float:
        return QFontMetricsF(self.font()).height()

    def _gap(self) -> float:
        return 0.25 * self._line()

    def _caption(self, row: Sequence[Average | None]) -> float:
        shown = [a for a in row if a is not None]
        return 0.95 * self._line() if shown and shown[0].quantity == "class map" else 0.0

    def _header(self) -> float:
        return 2.1 * self._line()

    def _left(self) -> float:
        return 1.1 * self._line()

    def _side(self, width: float) -> float:
        n = max(len(self._averages.labels), 1) if self._averages is not None else 1
        largest = _MAX_TILE_CHARACTERS * QFontMetricsF(self.font()).averageCharWidth()
        side = (width - self._left() - (n - 1) * self._gap()) / n
        return max(min(side, largest), 24.0)

    def boxes(self) -> list[list[QRectF]]:
        """Where the pictures go."""
        side, gap, top = math.floor(self._side(self.width())), self._gap(), self._header()
        out = []
        for row in self.cells():
            left = self._left()
            out.append([QRectF(left + i * (side + gap), top, side, side) for i in range(len(row))])
            top += side + gap + self._caption(row)
        return out

    def hasHeightForWidth(self) -> bool:  # noqa: N802
        return True

    def heightForWidth(self, width: int) -> int:  # noqa: N802
        cells = self.cells()
        if not cells:
            return 0
        tiles = sum(self._side(width) + self._gap() + self._caption(row) for row in cells)
        return math.ceil(self._header() + tiles)

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(300, self.heightForWidth(max(self.width(), 240)))

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        return QSize(160, 0)

    # ---- painting
    def text_at(self, place: QPointF) -> str:
        for boxes, row in zip(self.boxes(), self.cells(), strict=True):
            for box, average in zip(boxes, row, strict=True):
                if average is not None and box.contains(place):
                    return format_profile(average)
        return ""

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        averages = self._averages
        if averages is None or not averages.items:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        cells, boxes = self.cells(), self.boxes()
        self._paint_header(painter, averages, boxes[0])
        for i, (row, places) in enumerate(zip(cells, boxes, strict=True)):
            self._paint_row_title(painter, row, places[0])
            for j, (average, box) in enumerate(zip(row, places, strict=True)):
                if average is not None and average.clusters:
                    painter.drawImage(box, self._image(i, j, averages, average))
                    self._paint_outline(painter, averages, average, box)
                    self._paint_caption(painter, average, box)
                else:
                    self._paint_nothing(painter, box)
        painter.end()

    def _image(self, i: int, j: int, averages: Averages, average: Average) -> QImage:
        if (i, j) not in self._images:
            rgb = np.ascontiguousarray(
                picture(average, top_of(averages, average, self._normalised))
            )
            h, w, _ = rgb.shape
            image = QImage(rgb.data, w, h, 3 * w, QImage.Format.Format_RGB888)
            self._images[i, j] = image.copy()  # Qt does not keep the array alive
        return self._images[i, j]

    def _paint_header(
        self, painter: QPainter, averages: Averages, places: Sequence[QRectF]
    ) -> None:
        line = self._line()
        bold = QFont(self.font())
        bold.setBold(True)
        for label, box in zip(averages.labels, places, strict=True):
            glyph = 0.6 * line
            painter.setPen(self.palette().windowText().color())
            painter.setFont(bold)
            name = QFontMetricsF(bold).elidedText(
                label, Qt.TextElideMode.ElideRight, box.width() - glyph - 4
            )
            painter.drawText(QPointF(box.left() + glyph + 4, 0.85 * line), name)
            painter.setFont(small(self.font()))
            n = max((a.clusters for a in averages.items if a.label == label), default=0)
            painter.drawText(QPointF(box.left(), 1.75 * line), f"n = {n}")
            paint_glyph(
                painter,
                QRectF(box.left(), 0.25 * line, glyph, glyph),
                symbol_of(label, averages.classes),
                colour_of(label, averages.classes),
            )
        painter.setFont(self.font())

    def _paint_row_title(
        self, painter: QPainter, row: Sequence[Average | None], box: QRectF
    ) -> None:
        shown = [a for a in row if a is not None]
        if not shown:
            return
        words = shown[0].channel + ("" if shown[0].quantity == "patch" else " map")
        painter.save()
        painter.setPen(self.palette().windowText().color())
        painter.translate(0, box.bottom())
        painter.rotate(-90)
        painter.drawText(
            QRectF(0, 0, box.height(), self._left()), Qt.AlignmentFlag.AlignCenter, words
        )
        painter.restore()

    def _paint_outline(
        self, painter: QPainter, averages: Averages, average: Average, box: QRectF
    ) -> None:
        r = outline_radius(averages, average) / average.reach * box.width() / 2
        if not math.isfinite(r):
            return
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(OUTLINE_COLOUR), 1.0, Qt.PenStyle.DashLine))
        painter.drawEllipse(box.center(), r, r)

    def _paint_caption(self, painter: QPainter, average: Average, box: QRectF) -> None:
        if average.quantity == "patch":
            return
        value = average.balance.value
        text = f"{value:+.2f}" if math.isfinite(value) else "–"
        painter.setFont(small(self.font()))
        painter.setPen(self.palette().windowText().color())
        below = QRectF(box.left(), box.bottom(), box.width(), 0.95 * self._line())
        painter.drawText(below, Qt.AlignmentFlag.AlignCenter, text)
        painter.setFont(self.font())

    def _paint_nothing(self, painter: QPainter, box: QRectF) -> None:
        painter.setPen(QPen(self._ink(0.25), 1.0, Qt.PenStyle.DotLine))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(box.adjusted(0.5, 0.5, -0.5, -0.5))


def describe_profiles(averages: Averages, normalised: bool) -> str:
    """Describe where the radial profiles of the class maps have their maxima."""
    parts = []
    for average in averages.items:
        if average.quantity == "class map" and average.clusters:
            r, mean, _ = profile_of(average, normalised)
            at = int(np.nan_to_num(mean).argmax())
            parts.append(
                f"{average.label}, {average.channel}: maximum {mean[at]:.2g} at {r[at]:.2g} "
                f"{averages.unit}"
            )
    return "; ".join(parts)


NO_CLUSTERS = "No clusters yet: press Analyse."
NOT_CLASSIFIED = "The clusters are not classified yet: press Classify."
NO_PATCHES = "Patches and class maps are missing: press Classify again."
IN_BLIND_MODE = "Blind mode hides class maps and class averages."
IN_RADII, IN_NM = "in radii", "in nm"

_DEBOUNCE_MS = 60
_TASK = "class averages"


def why_empty(analyses: list[Analysis]) -> str:
    """Return why there is nothing to average; "" if there may be something."""
    if not sum(len(a.table) for a in analyses):
        return NO_CLUSTERS
    if not any(classes_of(a.table) for a in analyses):
        return NOT_CLASSIFIED
    return "" if any(a.patches and a.class_maps for a in analyses) else NO_PATCHES


class ClassAverages(FollowingWidget):
    """Average patches, class maps and radial profiles by class, of one image or of all."""

    follows = ("changed", "current_changed", "images_changed")
    delay_ms = _DEBOUNCE_MS

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(binding.refresher, parent)
        self.state = binding.state
        self.averages: Averages | None = None
        self._request: object = None
        self._build()

    def _build(self) -> None:
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 0)
        outer.addLayout(self._new_options())
        self.own_scale = QCheckBox("Each map to its own maximum")
        self.own_scale.setToolTip(
            "Scale every class map and profile to its own maximum, which shows positions but not "
            "relative strength. Otherwise all channels of a class share one scale. Default: off."
        )
        self.own_scale.toggled.connect(self._show)
        outer.addWidget(self.own_scale)
        outer.addWidget(scrolling(self._new_content()), 1)
        self.save_button = QPushButton("Save")
        self.save_button.setToolTip(
            "Write the picture (PNG, SVG, PDF) or its numbers (CSV, Excel)."
        )
        menu = QMenu(self.save_button)
        menu.addAction("Picture…", self.export_picture)
        menu.addAction("Profiles…", self.export_profiles)
        menu.addAction("Centre against outline…", self.export_balances)
        menu.addAction("All of these…", self.export_all)
        self.save_button.setMenu(menu)
        bottom = new_row(self.save_button, STRETCH)
        outer.addLayout(bottom)

    def _new_options(self) -> QHBoxLayout:
        self.scope_combo = ComboBox()
        self.scope_combo.addItems([THIS_IMAGE, ALL_IMAGES])
        self.scope_combo.setToolTip("Clusters to average. Default: those of this image.")
        self.scope_combo.setAccessibleName("Averages over")
        self.unit_combo = ComboBox()
        self.unit_combo.addItems([IN_RADII, IN_NM])
        self.unit_combo.setToolTip(
            "Scale clusters to one radius before averaging, so that their outlines (dashed) "
            "coincide, or keep them in nm. Default: in radii."
        )
        self.unit_combo.setAccessibleName("Scale of the averages")
        for combo in (self.scope_combo, self.unit_combo):
            combo.currentIndexChanged.connect(self.invalidate)
            combo.setMinimumContentsLength(6)
        label = QLabel("Over")
        label.setBuddy(self.scope_combo)
        return new_row(label, (self.scope_combo, 1), (self.unit_combo, 1))

    def _new_content(self) -> QWidget:
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.grid = AverageGrid()
        self.profiles = Chart(lines=13)
        self.profiles.setAccessibleName("Radial profiles of the class maps")
        self.legend = QLabel(
            "The number below a map compares centre and outline (dashed): +1 all at the centre, "
            "−1 all at the outline."
        )
        self.legend.setWordWrap(True)
        content = QWidget()
        body = QVBoxLayout(content)
        body.setContentsMargins(4, 2, 6, 4)
        body.addWidget(self.grid)
        body.addWidget(self.legend)
        body.addWidget(self.profiles)
        body.addWidget(self.note)
        body.addStretch(1)
        return content

    # ---- computing
    @property
    def settled(self) -> bool:
        """Whether the page is up to date, or hidden."""
        waiting = self.outdated() or running(self.state, _TASK)
        return not (self.isVisible() and waiting)

    def analyses(self) -> list[Analysis]:
        """Return the analyses to average; the first, of the current image, decides the model."""
        state = self.state
        names = [state.current] if state.current is not None else []
        if self.scope_combo.currentText() == ALL_IMAGES:
            names += [image for image in state.images if image != state.current]
        found = [state.analysis(name) for name in names]
        return [a for a in found if a is not None]

    def refresh(self) -> None:
        """Average the clusters in a worker."""
        request = self._request = object()
        analyses = self.analyses()
        words = IN_BLIND_MODE if self.state.blind else why_empty(analyses)
        if words:
            self.averages = None
            self._show()
            self.note.setText(words)
            return
        start(
            self.state,
            of_analyses,
            analyses,
            "radius" if self.unit_combo.currentText() == IN_RADII else "nm",
            on_result=lambda averages: self._take(request, averages),
            key=_TASK,
            owner=self,
        )

    def _take(self, request: object, averages: Averages) -> None:
        if request is self._request:
            self.averages = averages
            self._show()
            self.note.setText(describe_averages(averages))

    # ---- showing
    def _show(self, *_: object) -> None:
        averages, normalised = self.averages, self.own_scale.isChecked()
        there = averages is not None and bool(averages.items)
        for widget in (
            self.grid, self.legend, self.profiles, self.own_scale, self.save_button
        ):  # fmt: skip
            widget.setVisible(there)
        self.grid.show_averages(averages if there else None, normalised)
        if averages is not None and there:
            self._show_profiles(averages, normalised)

    def _show_profiles(self, averages: Averages, normalised: bool) -> None:
        def draw(figure: Figure, look: Look) -> None:
            draw_profiles(figure, averages, normalised=normalised)
            figure.subplots_adjust(**margins(figure, look), wspace=0.15)

        self.profiles.show_chart(draw, describe_profiles(averages, normalised))

    # ---- out
    def export_picture(self) -> None:
        """Draw the averages into a chosen file."""
        path = choose_path(self, "Save class averages", FIGURE, SUFFIXES)
        if path is None or self.averages is None:
            return
        write = partial(write_picture, normalised=self.own_scale.isChecked())
        write_in_worker(self, write, self.averages, path=path)

    def export_profiles(self) -> None:
        """Write the radial profiles into a chosen file."""
        self._export("profiles")

    def export_balances(self) -> None:
        """Write the ratios of centre and outline with intervals into a chosen file."""
        self._export("balances")

    def export_all(self) -> None:
        """Write picture and tables into a chosen folder, as `atomicity explain` does."""
        if self.averages is None:
            return
        folder = choose_new_folder(self, "Folder to make for the class averages", "class-averages")
        if folder is not None:
            start(
                self.state,
                partial(write_averages, normalised=self.own_scale.isChecked()),
                self.averages,
                folder,
                message="Writing class averages",
                on_result=lambda files: show_info(f"Written: {len(files)} files in {folder}"),
                key="class averages files",
                owner=self,
            )

    def _export(self, what: str) -> None:
        if self.averages is None:
            return
        path = choose_table_path(self, f"{TABLES[what]}.csv", FILE_TYPES)
        table = getattr(self.averages, what)()
        if path is not None and attempt(lambda: write_table(table, path)):
            show_info(f"Written: {path}")
