"""The Table dock: every cluster as a row, sorted, filtered, selected, copied and exported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QModelIndex, QPoint, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QKeyEvent, QKeySequence, QMouseEvent, QPainter, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QSizePolicy,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from ..errors import AtomicityError
from ..filtering import EXAMPLES
from ..filtering import rows as rows_of_line
from ..io.tables import harmless, write_table
from ..progress import Progress, Stop
from .binding import session_of
from .cluster_table_model import USUAL, ClusterModel, meaning
from .following import follow
from .gallery_rows import after_click, in_numbers
from .memory import settings
from .ratios import FILE_TYPES, with_suffix
from .tasks import start

EMPTY = "Analyse an image first: its clusters appear here."

_COALESCE_MS = 30
_TYPING_MS = 250
_SHIFT, _CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier


# ---- without Qt
def tab_separated(table: pd.DataFrame) -> str:
    """Rows as spreadsheets take them from the clipboard, with a header; no formula among them."""
    safe = table.map(harmless) if len(table) else table
    return safe.to_csv(sep="\t", index=False, lineterminator="\n")


def write(
    table: pd.DataFrame, path: Path, progress: Progress | None = None, stop: Stop | None = None
) -> Path:
    """Write what is shown."""
    return write_table(table, path)


class _Selected(QStyledItemDelegate):
    """Draws the rows of the session's selection as selected ones."""

    def __init__(self, model: ClusterModel, parent: QWidget) -> None:
        super().__init__(parent)
        self._model = model

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        model = self._model
        if model.rows.selected[model.order[index.row()]]:
            colour = QColor(option.palette.windowText().color())
            colour.setAlphaF(0.22)
            painter.fillRect(option.rect, colour)
        super().paint(painter, option, index)


class ClusterView(QTableView):
    """Rows that are selected by clicks, drags and keys; the selection is a mask of the model.

    Qt's own selection model keeps a pair of indices for each range and compares all with all:
    a few thousand scattered rows would hold up the window.

    Signals: ``picked(rows, whole)``: these rows, a mask, are to be selected, of all or (if not
    whole) of those that are shown; ``activated_at(row)``; ``copy_wanted()``.
    """

    picked = Signal(object, bool)
    activated_at = Signal(int)
    copy_wanted = Signal()

    def __init__(self, model: ClusterModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.clusters = model
        self._anchor: int | None = None
        self._dragging: tuple[int, np.ndarray, bool] | None = None
        self.setModel(model)
        self.setItemDelegate(_Selected(model, self))
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsClickable(True)
        header.setSectionsMovable(True)
        header.setSortIndicatorShown(True)
        # One column at a time: to measure all cells of 20,000 rows would take seconds.
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.setAccessibleName("Clusters as rows")

    def selected_positions(self) -> np.ndarray:
        """(M,) bool: which of the rows that are shown are selected."""
        return self.clusters.rows.selected[self.clusters.order]

    def _row(self, event: QMouseEvent) -> int:
        return self.rowAt(event.position().toPoint().y())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        row = self._row(event)
        if event.button() != Qt.MouseButton.LeftButton or row < 0:
            return
        extend, add = bool(event.modifiers() & _SHIFT), bool(event.modifiers() & _CONTROL)
        self._dragging = (row, self.selected_positions(), add)
        self._click(row, extend, add)
        at = self.columnAt(event.position().toPoint().x())
        self.setCurrentIndex(self.clusters.index(row, max(at, 0)))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        if self._dragging is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        start, before, add = self._dragging
        row = self._row(event)
        if (
            row >= 0
            and row != self.currentIndex().row()
            and len(before) == len(self.clusters.order)
        ):
            self._pick(after_click(before, row, start, extend=True, add=add), whole=not add)
            index = self.clusters.index(row, self.currentIndex().column())
            self.setCurrentIndex(index)
            self.scrollTo(index)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._dragging = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        row = self._row(event)
        if event.button() == Qt.MouseButton.LeftButton and row >= 0:
            self.activated_at.emit(int(self.clusters.order[row]))

    def _click(self, row: int, extend: bool, add: bool) -> None:
        mask = after_click(self.selected_positions(), row, self._anchor, extend, add)
        if not extend or self._anchor is None:
            self._anchor = row
        self._pick(mask, whole=not add)

    def _pick(self, mask: np.ndarray, whole: bool) -> None:
        rows = np.zeros(len(self.clusters.rows), bool)
        rows[self.clusters.order[mask]] = True
        self.picked.emit(rows, whole)

    def reset(self) -> None:
        super().reset()
        self._anchor = self._dragging = None

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        if event.matches(QKeySequence.StandardKey.SelectAll):
            self._pick(np.ones(len(self.clusters.order), bool), whole=True)
        elif event.matches(QKeySequence.StandardKey.Copy):
            self.copy_wanted.emit()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self.currentIndex().isValid():
                self.activated_at.emit(int(self.clusters.order[self.currentIndex().row()]))
        elif event.key() == Qt.Key.Key_Escape:
            self._pick(np.zeros(len(self.clusters.order), bool), whole=True)
        elif event.text().isprintable() and event.text().strip():
            event.ignore()  # no search by typing: it would look through all rows
        else:
            before = self.currentIndex().row()
            super().keyPressEvent(event)
            here = self.currentIndex().row()
            if here not in (before, -1):
                self._click(here, bool(event.modifiers() & _SHIFT), False)

    def show_selected(self) -> None:
        """Scroll to a selected row, unless one is in sight."""
        selected = self.selected_positions()
        positions = np.flatnonzero(selected)
        if not len(positions):
            return
        first, last = self.rowAt(0), self.rowAt(self.viewport().height() - 1)
        last = len(selected) - 1 if last < 0 else last
        if not selected[max(first, 0) : last + 1].any():
            column = max(self.columnAt(0), 0)
            self.scrollTo(self.clusters.index(int(positions[0]), column))


class Table(QWidget):
    """The cluster table of all images; what is selected here is selected everywhere."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session_of(napari_viewer)
        self.model = ClusterModel(self.session, self)
        self._stale = True
        stored = settings().value("table/columns")
        self._chosen: list[str] = str(stored).split(",") if stored else list(USUAL)
        self._sized: set[str] = set()
        self._build()
        self._timer = _single_shot(self, _COALESCE_MS, self.update_now)
        self._typing = _single_shot(self, _TYPING_MS, self.apply_filter)
        session = self.session
        follow(self, session.analysis_changed, self._later)
        follow(self, session.images_changed, self._later)
        follow(self, session.project_changed, self._on_project)
        follow(self, session.selection_changed, self._on_selection)
        self._show_columns()
        self._show_state()

    # ---- the form
    def _build(self) -> None:
        self.filter_line = QLineEdit()
        self.filter_line.setPlaceholderText(f"Filter, such as {EXAMPLES[0]}")
        self.filter_line.setClearButtonEnabled(True)
        self.filter_line.setAccessibleName("Filter")
        self.filter_line.setToolTip(
            "Only rows for which this is true: "
            + ", ".join(f"<b>{example.replace('<', '&lt;')}</b>" for example in EXAMPLES)
            + ". Compare with &lt;, &lt;=, &gt;, &gt;=, =, != and ~ (contains); join with "
            "<b>and</b>, <b>or</b>, <b>not</b> and brackets; <b>none</b> is what is not known. "
            "Any other word is looked for in image and label. Default: empty, all rows."
        )
        self.columns_button = QPushButton("Columns")
        self.columns_button.setToolTip("Which columns are shown. Drag headers to move them.")
        self.columns_menu = QMenu(self.columns_button)
        self.columns_menu.setToolTipsVisible(True)
        self.columns_menu.aboutToShow.connect(self._fill_columns_menu)
        self.columns_button.setMenu(self.columns_menu)
        top = QHBoxLayout()
        top.addWidget(self.filter_line, 1)
        top.addWidget(self.columns_button)

        self.error = QLabel()
        self.error.setWordWrap(True)
        self.error.setAccessibleName("What is wrong with the filter")
        self.error.setStyleSheet("border-left: 4px solid #e69f00; padding: 2px 8px;")
        self.error.hide()
        self.view = ClusterView(self.model)
        self.message = QLabel(EMPTY)
        self.message.setWordWrap(True)
        self.message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.note = QLabel()
        self.note.setAccessibleName("How many clusters")
        self.note.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.sort_again_button = QPushButton("Sort again")
        self.sort_again_button.setToolTip(
            "Rows whose label changes stay where they are, so that nothing jumps away. This puts "
            "everything where it belongs now."
        )
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip(
            "Put the selected rows (all that are shown, if none is selected) with a header on the "
            "clipboard, separated by tabs. Ctrl+C."
        )
        self.export_button = QPushButton("Export…")
        self.export_button.setToolTip(
            "Write the rows and columns that are shown as CSV, Excel or Parquet."
        )
        bottom = QHBoxLayout()
        bottom.addWidget(self.note, 1)
        for button in (self.sort_again_button, self.copy_button, self.export_button):
            bottom.addWidget(button)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(top)
        layout.addWidget(self.error)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.message, 1)
        layout.addLayout(bottom)

        self.filter_line.textChanged.connect(self._on_typed)
        self.filter_line.returnPressed.connect(self.apply_filter)
        header = self.view.horizontalHeader()
        header.sectionClicked.connect(self._on_header)
        header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header.customContextMenuRequested.connect(self._on_header_menu)
        self.sort_again_button.clicked.connect(self.sort)
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self.export)
        self.view.picked.connect(self._on_picked)
        self.view.activated_at.connect(self._on_activated)
        self.view.copy_wanted.connect(self.copy)

    # ---- what the session says
    def _later(self, *_: object) -> None:
        """Many images may change in a row: one look at them all is enough."""
        self._stale = True
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        line = round(1.5 * self.fontMetrics().height())
        self.view.verticalHeader().setDefaultSectionSize(line)
        if self._stale:
            self.update_now()

    def _on_project(self, *_: object) -> None:
        self.model.forget()
        self._later()

    def update_now(self) -> None:
        """Show the table as it is; what is there already stays where it is."""
        if not self.isVisible():
            return
        self._stale = False
        bar = self.view.verticalScrollBar()
        at, columns = bar.value(), self.model.columns
        self.model.refresh()
        if columns != self.model.columns or not self._sized:
            self._show_columns()
        bar.setValue(at)
        self._show_state()

    def _on_selection(self, selection: Iterable) -> None:
        if self._stale or not self.isVisible():
            self._later()
            return
        self.model.rows.select(selection)
        if not self.view.hasFocus():
            self.view.show_selected()
        self.view.viewport().update()
        self._say()

    def _show_state(self) -> None:
        self._say()
        n = len(self.model.rows)
        self.sort_again_button.setVisible(n > 0 and self.model.out_of_date())
        self.message.setVisible(n == 0)
        self.view.setVisible(n > 0)
        for button in (self.copy_button, self.export_button, self.columns_button):
            button.setEnabled(n > 0)

    def _say(self) -> None:
        rows, order = self.model.rows, self.model.order
        here = int(rows.selected[order].sum())
        elsewhere = len(self.session.selection) - here
        words = in_numbers(len(rows), len(order), here, elsewhere)
        self.note.setText(words)
        self.note.setToolTip(words)

    # ---- order and filter
    def _on_header(self, section: int) -> None:
        """Up, then down, then as in the images again."""
        name, before = self.model.columns[section], self.model.sorted_by
        if before is None or before[0] != name:
            self.model.sorted_by = (name, False)
        else:
            self.model.sorted_by = None if before[1] else (name, True)
        self.sort()

    def sort(self, *_: object) -> None:
        """Put all in order, and filter, as it is chosen."""
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
        """Show only what the line is about; a line that says nothing changes nothing."""
        self._typing.stop()
        line = self.filter_line.text()
        try:
            rows_of_line(self.model.rows.table, line)
        except AtomicityError as error:
            self.error.setText(str(error))
            self.error.show()
            return
        self.error.hide()
        self.model.line = line
        self.sort()

    # ---- columns
    def _show_columns(self) -> None:
        header = self.view.horizontalHeader()
        metrics = self.view.fontMetrics()
        for i, name in enumerate(self.model.columns):
            header.setSectionHidden(i, name not in self._chosen)
            if name not in self._sized and len(self.model.rows):
                self._sized.add(name)
                # From the first rows: all are of a kind.
                cells = [self.model.index(r, i) for r in range(min(20, self.model.rowCount()))]
                widths = [metrics.horizontalAdvance(str(self.model.data(c))) for c in cells]
                wide = max([metrics.horizontalAdvance(name) + metrics.height(), *widths])
                header.resizeSection(i, min(wide, 30 * metrics.averageCharWidth()) + 24)
        self._show_sorting()

    def _fill_columns_menu(self) -> None:
        self.columns_menu.clear()
        for name in self.model.columns:
            action = self.columns_menu.addAction(name)
            action.setCheckable(True)
            action.setChecked(name in self._chosen)
            action.setToolTip(meaning(name))
            action.setData(name)
            action.toggled.connect(self._on_column)
        self.columns_menu.addSeparator()
        self.columns_menu.addAction("The usual ones", self._usual_columns)

    def _on_column(self, on: bool) -> None:
        name = str(self.sender().data())
        self._choose_columns(
            [*self._chosen, name] if on else [c for c in self._chosen if c != name]
        )

    def _usual_columns(self) -> None:
        self._choose_columns(list(USUAL))

    def _choose_columns(self, names: list[str]) -> None:
        if not set(names) & set(self.model.columns):
            return  # without a header nobody finds the way back
        self._chosen = names
        settings().setValue("table/columns", ",".join(names))
        self._show_columns()

    def _on_header_menu(self, point: QPoint) -> None:
        self.columns_menu.popup(self.view.horizontalHeader().mapToGlobal(point))

    def shown(self, positions: np.ndarray | None = None) -> pd.DataFrame:
        """The rows and columns that are shown, in their order; some of the rows, if so wished."""
        header, model = self.view.horizontalHeader(), self.model
        columns = sorted(
            (i for i in range(len(model.columns)) if not header.isSectionHidden(i)),
            key=header.visualIndex,
        )
        rows = model.order if positions is None else model.order[positions]
        table = model.rows.table[[model.columns[i] for i in columns]]
        return table.iloc[rows].reset_index(drop=True)

    # ---- what the person does
    def _on_picked(self, rows: np.ndarray, whole: bool) -> None:
        keys = self.model.rows.keys_of(rows)
        if not whole:
            shown = np.zeros(len(self.model.rows), bool)
            shown[self.model.order] = True
            keys |= self.session.selection - self.model.rows.keys_of(shown)
        self.session.select(keys)

    def _on_activated(self, row: int) -> None:
        key = self.model.rows.key_of(row)
        self.session.select([key])
        self.session.request_focus(key)

    # ---- out
    def copy(self) -> None:
        """Put the selected rows on the clipboard; all that are shown, if none is selected."""
        selected = self.view.selected_positions()
        table = self.shown(selected if selected.any() else None)
        QApplication.clipboard().setText(tab_separated(table))

    def export(self) -> None:
        """Ask for a file and write what is shown, in a worker."""
        chosen, filter_ = QFileDialog.getSaveFileName(
            self, "Export what is shown", "clusters.csv", FILE_TYPES
        )
        if not chosen:
            return
        start(
            self.session,
            write,
            self.shown(),
            with_suffix(Path(chosen), filter_),
            message="Writing the table",
            on_result=self._written,
            key="export the table",
            owner=self,
        )

    def _written(self, path: Path) -> None:
        show_info(f"Written: {path}")


def _single_shot(owner: QWidget, interval_ms: int, slot: Any) -> QTimer:
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.setInterval(interval_ms)
    timer.timeout.connect(slot)
    return timer
