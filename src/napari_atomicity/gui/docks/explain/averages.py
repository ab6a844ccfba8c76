"""A page of the dock Explain: average patches, class maps and profiles of each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ....core.cluster_table import classes_of
from ....core.progress import Progress, Stop, check, report
from ....io.figures import SUFFIXES
from ....io.tables import write_table
from ....models.analysis import Analysis
from ....models.class_average_figure import draw_profiles, write_picture
from ....models.class_average_files import FIGURE, TABLES, describe_averages, write_averages
from ....models.class_averages import Averages, of_analyses
from ....reporting.plot_base import Look
from ....reporting.plot_panels import margins
from ...controls.chart import Chart
from ...controls.errors import attempt
from ...controls.forms import ComboBox, scrolling
from ...controls.refresher import FollowingWidget
from ...controls.save_dialogs import ask_for_new_folder
from ...panels.ratio_bars import ALL_IMAGES, THIS_IMAGE
from ...panels.table_files import FILE_TYPES, choose_table_path
from ...scatter.save import choose_path
from ...tasks import running, start
from ...viewer.binding import Binding
from .profiles import AverageGrid, describe_profiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NO_CLUSTERS = "No clusters yet: press Analyse."
NOT_CLASSIFIED = "The clusters are not classified yet: press Classify."
NO_PATCHES = "Patches and class maps are missing: press Classify again."
IN_RADII, IN_NM = "in radii", "in nm"

_DEBOUNCE_MS = 60
_TASK = "class averages"


def save_picture(
    averages: Averages,
    path: Path,  # the file, PNG, SVG or PDF
    normalised: bool,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Path:
    """Draw the averages into a file."""
    report(progress, 0, 1, f"Writing {path.name}")
    check(stop)
    return write_picture(averages, path, normalised=normalised)


def save_all(
    averages: Averages,
    folder: Path,
    normalised: bool,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Path]:
    """Write picture and tables of the averages into a folder."""
    report(progress, 0, 1, "Writing class averages")
    check(stop)
    return write_averages(averages, folder, normalised=normalised)


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
        bottom = QHBoxLayout()
        bottom.addWidget(self.save_button)
        bottom.addStretch(1)
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
        row = QHBoxLayout()
        row.addWidget(label)
        row.addWidget(self.scope_combo, 1)
        row.addWidget(self.unit_combo, 1)
        return row

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
        """Write the radial profiles into a chosen file."""
        self._export("profiles")

    def export_balances(self) -> None:
        """Write the ratios of centre and outline with intervals into a chosen file."""
        self._export("balances")

    def export_all(self) -> None:
        """Write picture and tables into a chosen folder, as `atomicity explain` does."""
        if self.averages is None:
            return
        folder = ask_for_new_folder(self, "Folder to make for the class averages", "class-averages")
        if folder is not None:
            start(
                self.state,
                save_all,
                self.averages,
                folder,
                self.own_scale.isChecked(),
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
