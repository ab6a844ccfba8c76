"""The dock Plots: plots of the cluster table, linked to the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from qtpy.QtCore import QSignalBlocker
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QBoxLayout, QHBoxLayout, QLabel, QPushButton, QSizePolicy

from ...core.errors import AtomicityError
from ...core.micrograph import Micrograph
from ...core.progress import Stop, check
from ...core.tables.cluster_table import column_of
from ...models.analysis import limits_of
from ...reporting.plots.base import Look, Plot
from ...reporting.plots.columns import columns_to_plot
from ...reporting.plots.ratios import ORDERS, recording_time
from ...reporting.plots.registry import COLUMN_PLOTS, PLOTS, save_plot, scales_of
from ..controls.bars import keeps_ratios
from ..controls.forms import ComboBox, new_row
from ..controls.refresher import follow
from ..controls.settings import remember
from ..panels.dock import Dock
from ..scatter.rows import HINT, Linked
from ..scatter.save import choose_and_save
from ..scatter.view import PlotView
from ..tasks import running, start

THIS_IMAGE, ALL_IMAGES = "this image", "all images"
_COALESCE_MS = 30
_SLOW_MS = 300
_TASK = "plot {}"
_PLOTS = PLOTS | COLUMN_PLOTS


def recorded_when(micrographs: Mapping[str, Micrograph]) -> dict[str, datetime | None]:
    """Return when each image was recorded; None if the file is missing or has no time."""
    times: dict[str, datetime | None] = {}
    for image, micrograph in micrographs.items():
        times[image] = None
        with suppress(AtomicityError, OSError):
            times[image] = recording_time(micrograph.metadata)
    return times


def make_data(
    plot: Plot,
    table: pd.DataFrame,
    context: Mapping[str, Any],
    times: Mapping[str, datetime | None],
    unread: Mapping[str, Micrograph],  # images whose recording time is read
    stop: Stop | None = None,
) -> tuple[pd.DataFrame, dict[str, datetime | None]]:
    """Compute the data of a plot, in a worker."""
    read = recorded_when(unread)
    check(stop)
    return plot.data(table, **{**context, "times": {**times, **read}, "stop": stop}), read


class Plots(Dock):
    """One plot at a time of the clusters of an image or of all, linked to the selection."""

    follows = ("changed", "images_changed", "project_changed", "selection_changed")
    delay_ms = _COALESCE_MS

    def build(self) -> None:
        self._times: dict[str, datetime | None] = {}
        self._task = _TASK.format(id(self))  # another dock has other tasks
        follow(self, self.state.current_changed, self._on_current)
        follow(self, self.state.project_changed, self._forget_times)
        self._add_controls()
        self.view = PlotView()
        self._linked = Linked(self.view)
        self.view.picked.connect(self._on_selected)
        # Always one line, so that the plot keeps its size when the selection changes.
        self.note = QLabel(HINT)
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.note.setAccessibleName("Selected in this plot")
        self.message = QLabel("Analyse an image first: its clusters are drawn here.")
        self.message.setWordWrap(True)

        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.content.setContentsMargins(6, 6, 6, 6)
        self.content.addLayout(self._controls)
        self.content.addWidget(self.message)
        self.content.addWidget(self.view, 1)
        self.content.addWidget(self.note)
        self._show_empty(True)
        self._show_choices()

    def _add_controls(self) -> None:
        """Make the choices of plot, clusters, order and columns, and the button that saves."""
        self.plot_combo = ComboBox()
        for name, plot in _PLOTS.items():
            self.plot_combo.addItem(plot.title, name)
        self.plot_combo.setAccessibleName("Plot")
        self.plot_combo.setToolTip("Plot to draw. Default: diameter by class.")
        remember("plots/plot", self.plot_combo)
        self.scope_combo = ComboBox()
        self.scope_combo.addItem(ALL_IMAGES, "all")
        self.scope_combo.addItem(THIS_IMAGE, "current")
        self.scope_combo.setAccessibleName("Clusters of")
        self.scope_combo.setToolTip("Clusters to draw. Default: those of all images.")
        self.order_combo = ComboBox()
        for name, text in ORDERS.items():
            self.order_combo.addItem(text, name)
        self.order_combo.setAccessibleName("Order of the images")
        self.order_combo.setToolTip("Order of the images. Default: by name.")
        remember("plots/order", self.order_combo)
        columns = self._new_columns()
        for combo in (
            self.plot_combo, self.scope_combo, self.order_combo, self.x_combo, self.y_combo
        ):  # fmt: skip
            combo.currentIndexChanged.connect(self._on_choice)
            # Four in a row fit below the canvas of a small window if none insists on its width.
            combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.save_button = QPushButton("Save…")
        self.save_button.setToolTip(
            "Save the plot: a picture (PNG), a drawing (SVG, PDF) or its data (CSV)."
        )
        self.save_button.clicked.connect(self.save)
        tools = new_row((self.scope_combo, 1), (self.order_combo, 1), self.save_button)
        self._controls = QHBoxLayout()
        self._controls.addWidget(self.plot_combo, 1)
        self._controls.addLayout(columns, 1)
        self._controls.addLayout(tools, 1)

    def _new_columns(self) -> QHBoxLayout:
        """Return the choice of the columns for plots that draw any."""
        self.x_combo, self.y_combo = ComboBox(), ComboBox()
        axes = {self.x_combo: "Column", self.y_combo: "Column of the vertical axis"}
        for combo, axis in axes.items():
            combo.setAccessibleName(axis)
            combo.setToolTip(
                f"{axis}: a measurement of the clusters. Those of installed packages come first."
            )
        return new_row((self.x_combo, 1), (self.y_combo, 1))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Use one row for the controls where the dock is wide: below the canvas it is low."""
        wide = event.size().width() > 60 * self.fontMetrics().averageCharWidth()
        direction = QBoxLayout.Direction
        self._controls.setDirection(direction.LeftToRight if wide else direction.TopToBottom)
        super().resizeEvent(event)

    # ---- choices
    @property
    def name(self) -> str:
        """Name of the chosen plot, a key of `PLOTS` or `COLUMN_PLOTS`."""
        return str(self.plot_combo.currentData())

    @property
    def plot(self) -> Plot:
        return _PLOTS[self.name]

    @property
    def _image(self) -> str | None:
        """The image whose clusters are drawn; None for all images."""
        this = self.scope_combo.currentData() == "current" and not self.plot.slow
        return self.state.current if this else None

    def _on_choice(self, *_: object) -> None:
        self._show_choices()
        self.invalidate()
        self.update_now()

    def _show_choices(self) -> None:
        # Slow plots compare images: the order of the images is chosen instead of an image.
        self.order_combo.setVisible(self.plot.slow)
        self.scope_combo.setHidden(self.plot.slow)
        self.x_combo.setVisible(self.name in COLUMN_PLOTS)
        self.y_combo.setVisible(self.name == "scatter")
        self.plot_combo.setToolTip(self.plot.explanation)
        self.delay_ms = _SLOW_MS if self.plot.slow else _COALESCE_MS

    def _fill_columns(self) -> None:
        """Offer the columns of all images; a chosen column stays, also while it has no values."""
        names = columns_to_plot(self.state.table())
        own = [name for name in names if column_of(name) is None]
        first = own[0] if own else "diameter_nm"
        for combo, default in ((self.x_combo, first), (self.y_combo, "integrated_intensity")):
            chosen = combo.currentText() or default
            found = names if chosen in names else [*names, chosen]
            if found != [combo.itemText(i) for i in range(combo.count())]:
                with QSignalBlocker(combo):
                    combo.clear()
                    combo.addItems(found)
                    combo.setCurrentText(chosen)

    # ---- changes of the state
    def _forget_times(self) -> None:
        self._times.clear()

    def _on_current(self, *_: object) -> None:
        if self._image is not None:
            self.invalidate()

    def refresh(self) -> None:
        for task in running(self.state, self._task):  # its result is outdated
            task.cancel()
        plot, state = self.plot, self.state
        table = state.table(self._image)
        images = list(state.images)
        context: dict[str, Any] = {
            "classes": state.classes(),
            "images": images,
            "order": str(self.order_combo.currentData()),
        }
        if self.name in COLUMN_PLOTS:
            self._fill_columns()
            context |= {"x": self.x_combo.currentText(), "y": self.y_combo.currentText()}
        # In blind mode the counts of the model stay hidden.
        known = [] if state.blind else list(state.store.analyses.values())
        if not plot.slow:
            scales = scales_of(known)
            data = plot.data(table, **context, scales=scales)
            self._take(plot, table, data)
            return
        context["limits"] = limits_of(map(state.pixel_sizes.mark, known), keeps_ratios())
        unread = {}
        if context["order"] == "time":
            unread = {i: state.micrograph(i) for i in images if i not in self._times}
        if not len(self.view.data):
            self.message.setText("Computing the ratios…")
            self._show_empty(True)

        def take(result: tuple[pd.DataFrame, dict[str, datetime | None]]) -> None:
            data, read = result
            self._times.update(read)
            if self.plot is plot:
                self._take(plot, table, data)

        start(
            state, make_data, plot, table, context, dict(self._times), unread,
            on_result=take, key=self._task, owner=self,
        )  # fmt: skip

    def _take(self, plot: Plot, table: pd.DataFrame, data: pd.DataFrame) -> None:
        """Show data that were computed from this table."""
        here, elsewhere = self._image, len(self.state.table())
        missing = f"{here} has no clusters: analyse it, or choose {ALL_IMAGES}."
        self.message.setText(missing if here and elsewhere and not len(table) else plot.nothing)
        # With too few corrections, the plot itself shows their number.
        empty = not len(data) and (plot is not PLOTS["reliability"] or not len(table))
        self._show_empty(empty)
        self._linked.show(plot, table, data, self.state.classes())
        self.refresh_selection()

    def _show_empty(self, empty: bool) -> None:
        self.message.setVisible(empty)
        self.view.setVisible(not empty)
        self.note.setVisible(not empty)
        self.save_button.setEnabled(not empty)

    # ---- selection
    def refresh_selection(self) -> None:
        """Mark the selection in the plot."""
        self.note.setText(self._linked.mark(self.state.selection))

    def _on_selected(self, rows: Sequence[int], mode: str) -> None:
        self.state.select(self._linked.selection_after(rows, mode, self.state.selection))

    # ---- out
    def save(self) -> None:
        """Save the plot, or its data, into a chosen file."""
        plot, data, look = self.plot, self.view.data, Look(self.state.classes())

        def write(path: Path) -> Path:
            return save_plot(plot, data, path, look)

        choose_and_save(self, self.name, write)
