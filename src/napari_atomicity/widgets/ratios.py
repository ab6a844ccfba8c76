"""The Ratios dock: how many of each class, how sure, and out into a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from napari.utils.notifications import show_error, show_info
from napari.viewer import Viewer
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from ..errors import AtomicityError
from ..io.tables import write_clusters, write_ratios
from ..palette import colour_of, symbol_of
from ..progress import Progress, Stop
from ..statistics.ratios import ALL, class_ratios, counted
from ..table import UNKNOWN
from .bars import Bar, BarChart
from .binding import session_of
from .following import follow
from .glyphs import glyph_icon
from .tasks import start

WORKER_FROM_ROWS = 1000
"""Tables of more rows are counted in a worker."""

_DEBOUNCE_MS = 25
FILE_TYPES = "CSV (*.csv);;Excel workbook (*.xlsx);;Parquet (*.parquet)"
THIS_IMAGE, ALL_IMAGES = "this image", "all images"


def count(
    table: pd.DataFrame,
    classes: Sequence[str],
    images: Sequence[str],
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """Class ratios of every image and of all."""
    return class_ratios(table, classes, images=images)


def per_cent(fraction: float) -> str:
    """A fraction as a person reads it; a dash where there is none."""
    return f"{100 * fraction:.1f} %" if math.isfinite(fraction) else "–"


def interval(low: float, high: float) -> str:
    """An interval of fractions in per cent."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"{100 * low:.1f}–{100 * high:.1f}"


def ratio_bars(ratios: pd.DataFrame, classes: Sequence[str]) -> list[Bar]:
    """A bar with its interval per class that has a fraction."""
    return [
        Bar(
            row["class"],
            row["fraction"],
            per_cent(row["fraction"]),
            colour_of(row["class"], classes),
            symbol_of(row["class"], classes),
            row["fraction_low"],
            row["fraction_high"],
            tooltip=f"{row['class']}: {row['count']} clusters, {per_cent(row['fraction'])}, "
            f"interval {interval(row['fraction_low'], row['fraction_high'])} % ({row['method']})",
        )
        for _, row in ratios.iterrows()
        if row["class"] != UNKNOWN
    ]


def tab_separated(ratios: pd.DataFrame) -> str:
    """The table as spreadsheets take it from the clipboard."""
    return ratios.to_csv(sep="\t", index=False, lineterminator="\n")


def summary(table: pd.DataFrame) -> str:
    """How many clusters were counted, and which were not."""
    if not len(table):
        return "No clusters yet."
    border = int(table["touches_border"].sum())
    whole = table[~table["touches_border"].astype(bool)]
    unknown, unlabelled = ((whole["label"] == name).sum() for name in (UNKNOWN, ""))
    left_out = [
        f"{n} {words}"
        for n, words in (
            (border, "cut by the border"),
            (int(unknown), "unknown"),
            (int(unlabelled), "without a label"),
        )
        if n
    ]
    n = int(counted(table).sum())
    said = f"{n} cluster{'s' * (n != 1)} counted, 95 % intervals"
    return said + (f"; not counted: {', '.join(left_out)}" if left_out else "") + "."


class RatioModel(QAbstractTableModel):
    """The rows of one scope for a table view."""

    HEADERS = ("Class", "Count", "Fraction", "Interval")
    TOOLTIPS = (
        "As a model or a person says.",
        "Whole clusters of the class.",
        "Of the clusters that were counted.",
        "95 % interval of the fraction, in per cent.",
    )

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ratios = pd.DataFrame()
        self._classes: list[str] = []

    def show(self, ratios: pd.DataFrame, classes: Sequence[str]) -> None:
        self.beginResetModel()
        self._ratios, self._classes = ratios.reset_index(drop=True), list(classes)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self._ratios)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008, N802
        return 0 if parent.isValid() else len(self.HEADERS)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # noqa: N802
        if orientation != Qt.Orientation.Horizontal:
            return None
        words = {
            Qt.ItemDataRole.DisplayRole: self.HEADERS,
            Qt.ItemDataRole.ToolTipRole: self.TOOLTIPS,
        }.get(role)
        return None if words is None else words[section]

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self._ratios.iloc[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return (
                row["class"],
                str(row["count"]),
                per_cent(row["fraction"]),
                interval(row["fraction_low"], row["fraction_high"]),
            )[column]
        if role == Qt.ItemDataRole.DecorationRole and column == 0:
            name = row["class"]
            return glyph_icon(symbol_of(name, self._classes), colour_of(name, self._classes))
        if role == Qt.ItemDataRole.TextAlignmentRole and column:
            return int(Qt.AlignmentFlag.AlignRight.value | Qt.AlignmentFlag.AlignVCenter.value)
        if role == Qt.ItemDataRole.ToolTipRole:
            return str(row["method"])
        return None


class Ratios(QWidget):
    """Table and bars of the class ratios, of the current image or of all."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session_of(napari_viewer)
        self.ratios = pd.DataFrame()
        self._build()
        session = self.session
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.timeout.connect(self.update_now)
        follow(self, session.analysis_changed, self._later)
        follow(self, session.images_changed, self._later)
        follow(self, session.current_changed, self._show)
        self.update_now()

    def _build(self) -> None:
        self.scope_combo = QComboBox()
        self.scope_combo.addItems([THIS_IMAGE, ALL_IMAGES])
        self.scope_combo.setToolTip("Whose clusters are counted. Default: this image.")
        self.scope_combo.setAccessibleName("Ratios of")
        self.scope_combo.currentIndexChanged.connect(self._show)
        label = QLabel("Ratios of")
        label.setBuddy(self.scope_combo)
        top = QHBoxLayout()
        top.addWidget(label)
        top.addWidget(self.scope_combo, 1)

        self.chart = BarChart(axis=True)
        self.chart.setAccessibleName("Class ratios with intervals")
        self.model = RatioModel(self)
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setAccessibleName("Class ratios")
        self.view.verticalHeader().hide()
        self.view.setShowGrid(False)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.view.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        header = self.view.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setHighlightSections(False)
        self.note = QLabel()
        self.note.setWordWrap(True)

        self.export_button = QPushButton("Export")
        self.export_button.setToolTip("Write ratios or clusters as CSV, Excel or Parquet.")
        menu = QMenu(self.export_button)
        menu.addAction("Ratios…", self.export_ratios)
        menu.addAction("Clusters…", self.export_clusters)
        self.export_button.setMenu(menu)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the ratios that are shown, to paste into a spreadsheet.")
        self.copy_button.clicked.connect(self.copy)
        bottom = QHBoxLayout()
        bottom.addWidget(self.export_button)
        bottom.addWidget(self.copy_button)
        bottom.addStretch(1)

        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(top)
        layout.addWidget(self.chart)
        layout.addWidget(self.note)
        layout.addWidget(self.view, 100)
        layout.addLayout(bottom)
        layout.addStretch(1)

    # ---- counting
    def _later(self, *_: object) -> None:
        """Count once for a burst of changes."""
        self._timer.start()

    def update_now(self) -> None:
        """Count the clusters of all images and show the result."""
        session = self.session
        table = session.table()
        images = [i for i in session.images if session.analysis(i) is not None]
        if len(table) <= WORKER_FROM_ROWS:
            self._take(count(table, session.classes(), images))
            return
        start(
            session,
            count,
            table,
            session.classes(),
            images,
            on_result=self._take,
            key="ratios",
            owner=self,
        )

    def _take(self, ratios: pd.DataFrame) -> None:
        self.ratios = ratios
        self._show()

    @property
    def scope(self) -> str | None:
        """Name of the scope that is shown, as in the table of ratios."""
        return self.session.current if self.scope_combo.currentText() == THIS_IMAGE else ALL

    def shown(self) -> pd.DataFrame:
        """The ratios of the scope that is shown."""
        if not len(self.ratios):
            return self.ratios
        found = self.ratios[self.ratios["scope"] == self.scope]
        if ALL in self.session.images:  # an image of that name: its rows come first
            half = len(found) // 2
            of_all = self.scope_combo.currentText() == ALL_IMAGES
            found = found.iloc[half:] if of_all else found.iloc[:half]
        return found.reset_index(drop=True)

    def _show(self, *_: object) -> None:
        ratios, classes = self.shown(), self.session.classes()
        bars = ratio_bars(ratios, classes) if len(ratios) else []
        self.chart.bars = bars
        self.chart.setVisible(bool(bars))
        self.model.show(ratios, classes)
        self.view.setVisible(len(ratios) > 0)
        line = round(1.5 * self.fontMetrics().height())
        self.view.verticalHeader().setDefaultSectionSize(line)
        self.view.setIconSize(QSize(round(0.6 * line), round(0.6 * line)))
        header = self.view.horizontalHeader().sizeHint().height()
        self.view.setMaximumHeight(header + (len(ratios) + 1) * line)
        image = self.session.current if self.scope_combo.currentText() == THIS_IMAGE else None
        table = self.session.table(image)
        if image is None and self.scope_combo.currentText() == THIS_IMAGE:
            table = table.iloc[:0]
        self.note.setText(summary(table))
        for button in (self.copy_button, self.export_button):
            button.setEnabled(len(self.ratios) > 0 or len(table) > 0)

    # ---- out
    def copy(self) -> None:
        """Put the ratios that are shown on the clipboard."""
        QApplication.clipboard().setText(tab_separated(self.shown()))

    def export_ratios(self) -> None:
        """Ask for a file and write the ratios of every image and of all."""
        self._export("ratios.csv", lambda path: write_ratios(self.ratios, path))

    def export_clusters(self) -> None:
        """Ask for a file and write the cluster table of all images."""
        self._export("clusters.csv", lambda path: write_clusters(self.session.table(), path))

    def _export(self, name: str, write: Callable[[Path], object]) -> None:
        chosen, filter_ = QFileDialog.getSaveFileName(self, f"Export {name}", name, FILE_TYPES)
        if not chosen:
            return
        path = with_suffix(Path(chosen), filter_)
        try:
            write(path)
        except AtomicityError as error:
            show_error(str(error))
        else:
            show_info(f"Written: {path}")


def with_suffix(path: Path, file_type: str) -> Path:
    """The path with the suffix of the chosen file type, if it has none that we can write."""
    if path.suffix.lower() in (".csv", ".xlsx", ".parquet"):
        return path
    suffix = file_type.partition("(*")[2].rstrip(")") or ".csv"
    return path.with_name(path.name + suffix)
