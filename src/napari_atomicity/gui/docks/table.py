"""The dock Table: the cluster table, to sort, filter, select, copy and export."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
import pandas as pd
from napari.layers import Points
from napari.viewer import Viewer
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
)

from ...core.errors import AtomicityError
from ...core.tables.cluster_table import AGGREGATE, own_columns, shown_values
from ...core.tables.filtering import EXAMPLES
from ...core.text import pluralise
from ...io.clipboard import tab_separated
from ...io.outline_files import OUTLINE_WRITERS
from ...models.analysis import Analysis
from ...state.cluster_rows import ids_of_image
from ..controls.cluster_rows import in_numbers
from ..controls.forms import STRETCH, new_row
from ..controls.questions import show_info
from ..controls.refresher import follow, single_shot
from ..controls.settings import settings
from ..panels.dock import RowsDock
from ..panels.table_files import (
    FILE_TYPES,
    OUTLINE_FILE_TYPES,
    choose_table_path,
    copy_table,
    write_in_worker,
    write_outlines_of,
    write_shown,
)
from ..table.model import LABELS, USUAL, ClusterModel, describe_column, matching_rows
from ..table.view import ClusterView
from ..tasks import start
from ..viewer.binding import Binding, binding_of, unwrapped
from ..viewer.layers import calibration, compat, point_style
from ..viewer.layers.layer_group import COPY_OF


# ---- selected clusters as a Points layer of their own, for napari and other plugins
def selected_as_layer(viewer: Viewer | None = None) -> list[Points]:
    """Add the selected clusters of each image as a new Points layer.

    The layer has the scale and units of the image, and all columns of the cluster table as
    features. It does not follow later corrections. It is visible while its image is on show.
    """
    viewer = viewer or napari.current_viewer()
    if viewer is None:
        return []
    binding = binding_of(viewer)
    images = dict.fromkeys(image for image in binding.state.images if _ids(binding, image))
    if not images:
        show_info("Select clusters first: in the image, the Gallery, the Table or a plot.")
    layers = [_layer_of(binding, image) for image in images]
    present = unwrapped(viewer).layers
    for layer in layers:  # the keys of label mode act in the active layer
        compat.insert_without_activating(present, len(present), layer)
    if layers:
        n = pluralise(sum(len(layer.data) for layer in layers), "cluster")
        hidden = sum(not layer.visible for layer in layers)
        of_others = f", {hidden} of other images hidden" if hidden else ""
        show_info(f"{pluralise(len(layers), 'new layer')} with {n}{of_others}.")
    return layers


def _ids(binding: Binding, image: str) -> set[int]:
    """Return the selected clusters of an image that are in its table."""
    if binding.state.analysis(image) is None:
        return set()
    known = set(binding.state.table(image)["cluster_id"].tolist())
    return known & ids_of_image(binding.state.selection, image)


def _layer_of(binding: Binding, image: str) -> Points:
    state = binding.state
    table = state.table(image)
    table = table[table["cluster_id"].isin(_ids(binding, image))].reset_index(drop=True)
    size_nm = state.micrograph(image).calibrated()
    source = binding.canvas.source_layer(image)
    n_axes = 2 if source is None else source.ndim
    place: dict[str, Any]
    if source is None:  # an image of a project that is not shown
        place = {"scale": (size_nm, size_nm), "units": ("nm", "nm"), "axis_labels": ("y", "x")}
    else:
        place = calibration.placement(source)
    style = point_style.properties(table, size_nm, state.classes())
    return Points(
        table[["frame", "y_px", "x_px"]].to_numpy(np.float64)[:, -n_axes:],
        name=f"{image} selected clusters",
        features=table,
        size=style["size"],
        border_color=style["border_color"],
        border_width=0.05,
        face_color="transparent",
        visible=image == state.current,
        metadata={COPY_OF: image},
        **place,
    )


EMPTY = "Analyse an image first: its clusters appear here."

_TYPING_MS = 250
# The text of 20,000 rows takes a quarter of a second.
_COPIED_AT_ONCE = 1000
_MARKS = {
    "label_corrected": ("label_predicted", "label_corrected"),
    "touches_border": ("touches_border",),
    "excluded": ("excluded",),
}
"""What says that the label of a row is not the model's, or that it does not count → columns."""


class Table(RowsDock):
    """The cluster table of all images, linked to the selection of the window."""

    # ---- the form
    def build(self) -> None:
        super().build()
        self.model = ClusterModel(self.state, self)
        stored = settings().value("table/columns")
        self._chosen: list[str] = str(stored).split(",") if stored else list(USUAL)
        self._sized: set[str] = set()
        self._typing = single_shot(self.apply_filter, _TYPING_MS, self)
        top = self._new_filter_row()
        self.error = QLabel()
        self.error.setWordWrap(True)
        self.error.setAccessibleName("Error in the filter")
        self.error.setStyleSheet("border-left: 4px solid #e69f00; padding: 2px 8px;")
        self.error.hide()
        self.view = ClusterView(self.model)
        self.message.setText(EMPTY)
        self.content.addLayout(top)
        self.content.addWidget(self.error)
        self.content.addWidget(self.view, 1)
        self.content.addWidget(self.message, 1)
        self.content.addWidget(self.note)
        self.content.addLayout(self._new_buttons())
        self._connect()

    def _new_filter_row(self) -> QHBoxLayout:
        self.filter_line = QLineEdit()
        self.filter_line.setClearButtonEnabled(True)
        self.filter_line.setAccessibleName("Filter")
        self.filter_line.setToolTip(
            "Show only the rows that match, for example "
            + ", ".join(f"<b>{example.replace('<', '&lt;')}</b>" for example in EXAMPLES)
            + ". Operators: &lt;, &lt;=, &gt;, &gt;=, =, != and ~ (contains), <b>and</b>, "
            "<b>or</b>, <b>not</b> and parentheses; a missing value equals <b>none</b>, "
            "such as the confidence where the prediction is no class. Other words are searched in "
            "image and label. Default: empty, all rows."
        )
        self.columns_button = QPushButton("Columns")
        self.columns_button.setToolTip("Choose the visible columns. Drag headers to move them.")
        self.columns_menu = QMenu(self.columns_button)
        self.columns_menu.setToolTipsVisible(True)
        self.columns_menu.aboutToShow.connect(self._fill_columns_menu)
        self.columns_button.setMenu(self.columns_menu)
        return new_row((self.filter_line, 1), self.columns_button)

    def _new_buttons(self) -> QHBoxLayout:
        self.sort_again_button.setToolTip(
            "Rows stay in place when their values change. Sort again moves every row to its "
            "current position."
        )
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip(
            "Copy the selected rows (all visible rows without a selection) with a header, "
            "separated by tabs. Ctrl+C."
        )
        self.export_button = QPushButton("Export…")
        self.export_button.setToolTip(
            "Write the visible rows and columns as CSV, Excel or Parquet, or the outlines of these "
            "clusters as ImageJ ROIs, GeoJSON or label image: one file for each image."
        )
        self.layer_button = QPushButton("New layer")
        self.layer_button.setToolTip(
            "Add the selected clusters as a new Points layer, with scale, units and all columns."
        )
        return new_row(
            STRETCH, self.sort_again_button, self.copy_button, self.layer_button, self.export_button
        )

    def _connect(self) -> None:
        self.filter_line.textChanged.connect(self._on_typed)
        self.filter_line.returnPressed.connect(self.apply_filter)
        header = self.view.horizontalHeader()
        header.sectionClicked.connect(self._on_header)
        header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header.customContextMenuRequested.connect(self._on_header_menu)
        self._connect_view()
        self.copy_button.clicked.connect(self.copy)
        self.layer_button.clicked.connect(self.add_layer)
        self.export_button.clicked.connect(self.export)
        self.view.copy_wanted.connect(self.copy)
        follow(self, self.state.current_changed, self._show_counts)

    # ---- changes of the state
    def _on_project(self) -> None:
        before = set(self.model.rows.table["image"])
        super()._on_project()
        if not before & set(self.state.images):  # the filter would hide rows of another project
            self.filter_line.clear()
            self.apply_filter()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        line = round(1.5 * self.fontMetrics().height())
        self.view.verticalHeader().setDefaultSectionSize(line)
        super().showEvent(event)
        QTimer.singleShot(0, self.view.show_selected)  # once the rows have their places

    def refresh(self) -> None:
        bar = self.view.verticalScrollBar()
        at, columns = bar.value(), self.model.columns
        self.model.refresh()
        if columns != self.model.columns or not self._sized:
            self._show_columns()
        bar.setValue(at)
        self._scroll_to_selection()
        self._show_state()

    def _show_selection(self) -> None:
        self._show_counts()
        self.layer_button.setEnabled(bool(self.state.selection))

    def _show_state(self) -> None:
        self._show_counts()
        # A blind annotator sees no confidence.
        self.filter_line.setPlaceholderText(f"Filter, such as {EXAMPLES[self.state.blind]}")
        n = len(self.model.rows)
        if problem := self.model.filter_problem:  # all rows are shown
            self.error.setText(problem)
            self.error.show()
        self.sort_again_button.setVisible(n > 0 and self.model.out_of_date())
        self.message.setVisible(n == 0)
        self.view.setVisible(n > 0)
        for button in (self.copy_button, self.export_button, self.columns_button):
            button.setEnabled(n > 0)
        self.layer_button.setEnabled(bool(self.state.selection))

    def _show_counts(self) -> None:
        rows, order = self.model.rows, self.model.order
        here = int(rows.selected[order].sum())
        elsewhere = len(self.state.selection) - here
        text = in_numbers(rows, len(order), here, elsewhere)
        selected_in = {image for image, _ in self.state.selection}
        if here and self.state.current not in selected_in:
            text += ", in another image: a double click shows it"
        self.note.setText(text)
        self.note.setToolTip(text)

    # ---- order and filter
    def _on_header(self, section: int) -> None:
        """Sort ascending, then descending, then in the order of the images."""
        name, before = self.model.columns[section], self.model.sorted_by
        if before is None or before[0] != name:
            self.model.sorted_by = (name, False)
        else:
            self.model.sorted_by = None if before[1] else (name, True)
        self.sort()

    def sort(self, *_: object) -> None:
        """Sort and filter the rows."""
        self.model.arrange()
        self._show_sorting()
        self.view.reset()
        self._show_state()

    def _show_sorting(self) -> None:
        header, by = self.view.horizontalHeader(), self.model.sorted_by
        if by is None or by[0] not in self.model.columns:
            header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
            return
        order = Qt.SortOrder.DescendingOrder if by[1] else Qt.SortOrder.AscendingOrder
        header.setSortIndicator(self.model.columns.index(by[0]), order)

    def _on_typed(self, *_: object) -> None:
        self._typing.start()

    def apply_filter(self) -> None:
        """Show only the rows that match the filter; an invalid filter changes nothing."""
        self._typing.stop()
        line = self.filter_line.text()
        try:
            matching_rows(self.model.rows.table, line)
        except AtomicityError as error:
            self.error.setText(str(error))
            self.error.show()
            return
        self.error.hide()
        self.model.line = line
        self.sort()

    # ---- columns
    def _add_own_columns(self) -> None:
        """Show measurements of one's own when they occur for the first time."""
        known = str(settings().value("table/own_columns") or "").split(",")
        new = [n for n in own_columns(self.model.rows.table) if n not in known]
        if new:
            self._chosen = [*self._chosen, *new]
            settings().setValue("table/own_columns", ",".join(filter(None, [*known, *new])))
            settings().setValue("table/columns", ",".join(self._chosen))

    def _show_columns(self) -> None:
        self._add_own_columns()
        header = self.view.horizontalHeader()
        metrics = self.view.fontMetrics()
        for i, name in enumerate(self.model.columns):
            header.setSectionHidden(i, name not in self._chosen)
            if name not in self._sized and len(self.model.rows):
                self._sized.add(name)
                # The first rows are enough to estimate the width.
                cells = [self.model.index(r, i) for r in range(min(20, self.model.rowCount()))]
                texts = [str(self.model.data(c)) for c in cells]
                texts += [f"{AGGREGATE}*"] if name == "label" else []  # the longest that may come
                icon = metrics.height() if name in LABELS else 0
                widths = [icon + metrics.horizontalAdvance(text) for text in texts]
                wide = max([metrics.horizontalAdvance(name) + metrics.height(), *widths])
                header.resizeSection(i, min(wide, 30 * metrics.averageCharWidth()) + 24)
        self._show_sorting()

    def _fill_columns_menu(self) -> None:
        self.columns_menu.clear()
        for name in self.model.columns:
            action = self.columns_menu.addAction(name)
            action.setCheckable(True)
            action.setChecked(name in self._chosen)
            action.setToolTip(describe_column(name))
            action.setData(name)
            action.toggled.connect(self._on_column)
        self.columns_menu.addSeparator()
        self.columns_menu.addAction("Default columns", self._show_default_columns)

    def _on_column(self, on: bool) -> None:
        name = str(self.sender().data())
        self._choose_columns(
            [*self._chosen, name] if on else [c for c in self._chosen if c != name]
        )

    def _show_default_columns(self) -> None:
        self._choose_columns([*USUAL, *own_columns(self.model.rows.table)])

    def _choose_columns(self, names: list[str]) -> None:
        if not set(names) & set(self.model.columns):
            return  # keep at least one header, whose menu restores columns
        self._chosen = names
        settings().setValue("table/columns", ",".join(names))
        self._show_columns()

    def _on_header_menu(self, point: QPoint) -> None:
        self.columns_menu.popup(self.view.horizontalHeader().mapToGlobal(point))

    def shown(self, positions: np.ndarray | None = None) -> pd.DataFrame:
        """Return the visible rows and columns in their order, or some of the rows.

        Columns that are not visible follow where they say that a label is that of a person, or that
        a cluster does not count.
        """
        header, model = self.view.horizontalHeader(), self.model
        columns = sorted(
            (i for i in range(len(model.columns)) if not header.isSectionHidden(i)),
            key=header.visualIndex,
        )
        rows = model.order if positions is None else model.order[positions]
        names, table = [model.columns[i] for i in columns], model.rows.table.iloc[rows]
        marks = [n for n in _MARKS if n in table and table[n].astype(bool).any()]
        if "label" not in names:  # then nobody needs to know whose it is
            marks = [n for n in marks if n != "label_corrected"]
        names = list(dict.fromkeys([*names, *(n for mark in marks for n in _MARKS[mark])]))
        return table[names].reset_index(drop=True)

    # ---- actions of the user
    # ---- out
    def copy(self) -> None:
        """Copy the selected rows, or all visible rows without a selection."""
        selected = self.view.selected_positions()
        table = self.shown(selected if selected.any() else None)
        if "confidence" in table.columns:  # as in the cells; a file has all values
            rows = self.model.order[selected] if selected.any() else self.model.order
            confidence = shown_values(self.model.rows.table, "confidence")
            table = table.assign(confidence=confidence.to_numpy()[rows])
        if len(table) <= _COPIED_AT_ONCE:
            copy_table(tab_separated(table), len(table))
            return
        start(
            self.state,
            tab_separated,
            table,
            message="Copying",
            on_result=lambda text: copy_table(text, len(table)),
            key="copy the table",
            owner=self,
        )

    def export(self) -> None:
        """Write the visible rows and columns, or their outlines, into a chosen file."""
        path = choose_table_path(self, "clusters.csv", f"{FILE_TYPES};;{OUTLINE_FILE_TYPES}")
        if path is None:
            return
        if path.suffix.lower() in OUTLINE_WRITERS:
            write_in_worker(self, write_outlines_of, self._shown_analyses(), path=path)
        else:
            write_in_worker(self, write_shown, self.shown(), path=path)

    def _shown_analyses(self) -> list[Analysis]:
        """Return the analysis of each image with visible rows, reduced to these."""
        rows = self.model.rows.table.iloc[self.model.order]
        found = []
        for image, ids in rows.groupby("image", sort=False)["cluster_id"]:
            analysis = self.state.analysis(str(image))
            if analysis is not None:
                is_shown = analysis.table["cluster_id"].isin(ids).to_numpy()
                outlines = [analysis.outlines[i] for i in np.flatnonzero(is_shown)]
                table = analysis.table[is_shown].reset_index(drop=True)
                found.append(Analysis(analysis.micrograph, table, outlines))
        return found

    def add_layer(self) -> None:
        """Add the selected clusters as a new Points layer."""
        selected_as_layer(self.binding.viewer)
