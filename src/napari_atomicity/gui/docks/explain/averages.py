"""A page of the Explain dock: what the clusters of a class have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ....core.cluster_table import classes_of
from ....core.errors import AtomicityError
from ....core.progress import Progress, Stop, check, report
from ....io.tables import write_table
from ....models.analysis import Analysis
from ....models.class_average_figure import write_picture
from ....models.class_averages import Averages, of_analyses
from ....state.window_state import WindowState
from ...controls.forms import scrolling
from ...panels.ratio_bars import ALL_IMAGES, THIS_IMAGE
from ...panels.table_files import FILE_TYPES, with_suffix
from ...tasks import running, start
from .profiles import AverageGrid, ProfileChart, lines_of

NO_CLUSTERS = "No clusters yet: press Analyse."
NOT_CLASSIFIED = "The clusters are not classified yet: press Classify."
NO_PATCHES = "Patches and class maps are not at hand: press Classify again."
NOTHING_LEFT = "No cluster that is whole, stands alone and has a class."
IN_RADII, IN_NM = "in radii", "in nm"
PICTURE_TYPES = "PNG picture (*.png);;SVG drawing (*.svg)"

_DEBOUNCE_MS = 60
_TASK = "class averages"


def save_picture(
    averages: Averages,
    path: Path,
    normalised: bool,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Draw the averages into a file."""
    report(progress, 0, 1, f"Writing {path.name}")
    check(stop)
    return write_picture(averages, path, normalised=normalised)


def why_empty(analyses: list[Analysis]) -> str:
    """Why there is nothing to average before anything is computed; "" if there may be."""
    if not sum(len(a.table) for a in analyses):
        return NO_CLUSTERS
    if not any(classes_of(a.table) for a in analyses):
        return NOT_CLASSIFIED
    return "" if any(a.patches and a.class_maps for a in analyses) else NO_PATCHES


def format_average(averages: Averages) -> str:
    """How many clusters were averaged, and which were not."""
    n = sum(max(a.clusters for a in averages.items if a.label == label)
            for label in averages.labels)  # fmt: skip
    out = ", ".join(f"{count} {reason}" for reason, count in averages.left_out.items())
    words = f"{n} cluster{'s' * (n != 1)} averaged" if n else NOTHING_LEFT.rstrip(".")
    return words + (f"; left out: {out}." if out else ".")


class ClassAverages(QWidget):
    """Average patches, class maps and radial profiles by class, of one image or of all.

    Whoever holds it calls `later` when something has changed; it computes only while it is seen.
    """

    def __init__(self, state: WindowState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state
        self.averages: Averages | None = None
        self._request: object = None
        self._stale = True
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.timeout.connect(self.update_now)

    def _build(self) -> None:
        self.scope_combo = QComboBox()
        self.scope_combo.addItems([THIS_IMAGE, ALL_IMAGES])
        self.scope_combo.setToolTip("Whose clusters are averaged. Default: of this image.")
        self.scope_combo.setAccessibleName("Averages over")
        self.scope_combo.currentIndexChanged.connect(self.later)
        self.unit_combo = QComboBox()
        self.unit_combo.addItems([IN_RADII, IN_NM])
        self.unit_combo.setToolTip(
            "Whether clusters are scaled to one radius before they are averaged, so that the "
            "outline (dashed) is the same place for all, or kept in nm. Default: in radii."
        )
        self.unit_combo.setAccessibleName("Scale of the averages")
        self.unit_combo.currentIndexChanged.connect(self.later)
        for combo in (self.scope_combo, self.unit_combo):
            combo.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            combo.setMinimumContentsLength(6)
        label = QLabel("Over")
        label.setBuddy(self.scope_combo)
        top = QHBoxLayout()
        top.addWidget(label)
        top.addWidget(self.scope_combo, 1)
        top.addWidget(self.unit_combo, 1)

        self.own_scale = QCheckBox("Each map to its own maximum")
        self.own_scale.setToolTip(
            "Stretch every class map and profile to its own maximum: shows where, and hides how "
            "much. Otherwise the maps of a class have one scale for all channels. Default: off."
        )
        self.own_scale.toggled.connect(self._show)
        self.save_button = QPushButton("Save")
        self.save_button.setToolTip("Write the picture (PNG, SVG) or its numbers (CSV, Excel).")
        menu = QMenu(self.save_button)
        menu.addAction("Picture…", self.export_picture)
        menu.addAction("Profiles…", self.export_profiles)
        menu.addAction("Centre against outline…", self.export_balances)
        self.save_button.setMenu(menu)
        bottom = QHBoxLayout()
        bottom.addWidget(self.save_button)
        bottom.addStretch(1)

        self.note = QLabel()
        self.note.setWordWrap(True)
        self.grid = AverageGrid()
        self.charts_row = QHBoxLayout()
        self.charts: list[ProfileChart] = []
        self.legend = QLabel(
            "Number below a map: centre against outline, +1 all at the centre, −1 all at the "
            "outline (dashed)."
        )
        self.legend.setWordWrap(True)

        inside = QWidget()
        body = QVBoxLayout(inside)
        body.setContentsMargins(4, 2, 6, 4)
        body.addWidget(self.grid)
        body.addWidget(self.legend)
        body.addLayout(self.charts_row)
        body.addWidget(self.note)
        body.addStretch(1)
        scroll = scrolling(inside)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 4, 0, 0)
        outer.addLayout(top)
        outer.addWidget(self.own_scale)
        outer.addWidget(scroll, 1)
        outer.addLayout(bottom)

    # ---- computing
    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        if self._stale:
            self.later()

    def later(self, *_: object) -> None:
        """Average once for a burst of changes, as soon as somebody looks."""
        self._stale = True
        if self.isVisible():
            self._timer.start()

    @property
    def settled(self) -> bool:
        """Whether what is shown is of now, or nobody looks."""
        waiting = self._stale or self._timer.isActive() or running(self.state, _TASK)
        return not (self.isVisible() and waiting)

    def analyses(self) -> list[Analysis]:
        """Those that are wanted, that of the current image first: it decides the model."""
        state = self.state
        names = [state.current] if state.current is not None else []
        if self.scope_combo.currentText() == ALL_IMAGES:
            names += [image for image in state.images if image != state.current]
        found = [state.analysis(name) for name in names]
        return [a for a in found if a is not None]

    def update_now(self) -> None:
        """Average what there is, in a worker."""
        if not self.isVisible():
            return
        self._stale = False
        request = self._request = object()
        analyses = self.analyses()
        words = why_empty(analyses)
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
            self.note.setText(format_average(averages))

    # ---- showing
    def _show(self, *_: object) -> None:
        averages, normalised = self.averages, self.own_scale.isChecked()
        there = averages is not None and bool(averages.items)
        for widget in (self.grid, self.legend, self.own_scale, self.save_button):
            widget.setVisible(there)
        self.grid.show_averages(averages if there else None, normalised)
        channels = averages.channels if averages is not None and there else []
        while len(self.charts) < len(channels):
            self.charts.append(ProfileChart())
            self.charts_row.addWidget(self.charts[-1], 1)
        lines = {c: lines_of(averages, c, normalised) for c in channels if averages is not None}
        ends = [np.nanmax(x.mean + x.error, initial=0.0) for own in lines.values() for x in own]
        top = 1.0 if normalised else float(max(ends, default=0.0)) or 1.0
        for i, chart in enumerate(self.charts):
            chart.setVisible(i < len(channels))
            if i < len(channels) and averages is not None:
                title = f"{channels[i]} map" + (" / its maximum" if normalised else " / score")
                chart.show_lines(title, lines[channels[i]], averages.unit, top)

    # ---- out
    def export_picture(self) -> None:
        """Ask for a file and draw what is shown."""
        chosen, filter_ = QFileDialog.getSaveFileName(
            self, "Save class averages", "class-averages.png", PICTURE_TYPES
        )
        if not chosen or self.averages is None:
            return
        path = Path(chosen)
        if path.suffix.lower() not in (".png", ".svg"):
            path = path.with_name(path.name + (".svg" if "*.svg" in filter_ else ".png"))
        start(
            self.state,
            save_picture,
            self.averages,
            path,
            self.own_scale.isChecked(),
            message=f"Writing {path.name}",
            on_result=lambda written: show_info(f"Written: {written}"),
            key="class averages picture",
            owner=self,
        )

    def export_profiles(self) -> None:
        """Ask for a file and write the radial profiles."""
        self._export("class-profiles.csv", "profiles")

    def export_balances(self) -> None:
        """Ask for a file and write centre against outline with intervals."""
        self._export("centre-outline.csv", "balances")

    def _export(self, name: str, what: str) -> None:
        if self.averages is None:
            return
        chosen, filter_ = QFileDialog.getSaveFileName(self, f"Save {name}", name, FILE_TYPES)
        if not chosen:
            return
        path = with_suffix(Path(chosen), filter_)
        try:
            write_table(getattr(self.averages, what)(), path)
        except AtomicityError as error:
            show_error(str(error))
        else:
            show_info(f"Written: {path}")
