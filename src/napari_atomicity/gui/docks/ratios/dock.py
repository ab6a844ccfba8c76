"""The Ratios dock: how many of each class, how sure, beside what is known; and out into a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QShowEvent
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
    QTableView,
    QVBoxLayout,
    QWidget,
)

from ....core.cluster_table import ALL
from ....core.errors import AtomicityError, TableError
from ....core.model_card import ModelCard
from ....core.progress import Progress, Stop
from ....io.clipboard import latex_table
from ....io.reference_ratios import EXAMPLE, parse_reference
from ....io.tables import read_reference, write_clusters, write_ratios
from ....statistics.prevalence import METHODS, unavailable
from ....statistics.ratios import COLUMNS, class_ratios, counted
from ....statistics.reference import Comparison, check_reference, compare, pair, reference_for
from ...controls.bars import BarChart
from ...controls.connections import follow
from ...controls.forms import ComboBox, in_scroll_area, labelled, new_form
from ...panels.ratio_bars import ALL_IMAGES, THIS_IMAGE, ratio_bars
from ...panels.table_files import (
    FILE_TYPES,
    RATIO_FILE_TYPES,
    REFERENCE_TYPES,
    as_mime,
    choose_table_path,
    write_in_worker,
)
from ...tasks import running, start
from ...viewer.binding import state_of
from ...viewer.models import card_of
from .parity import ParityPlot
from .table import RatioModel, capital, parity_points, summary, verdict

WORKER_FROM_ROWS = 1000
WORKER_FROM_IMAGES = 3
"""Tables of more rows, and more images, are counted in a worker."""

_DEBOUNCE_MS = 25
MAX_ROWS = 12
"""A table of more rows scrolls."""


def count(
    table: pd.DataFrame,
    classes: Sequence[str],
    images: Sequence[str],
    method: str = "counted",
    card: ModelCard | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> pd.DataFrame:
    """Class ratios of every image and of all."""
    return class_ratios(table, classes, images=images, method=method, card=card, stop=stop)


def beside(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    images: Sequence[str],
    method: str,
    card: ModelCard | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Comparison:
    """What was found in every scope of a reference."""
    return compare(table, reference, images, method=method, card=card, stop=stop)


class Ratios(QWidget):
    """Table and bars of the class ratios, of the current image or of all, and their reference."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.state = state_of(napari_viewer)
        self.ratios = pd.DataFrame(columns=COLUMNS)
        self.comparison: Comparison | None = None
        self._card: ModelCard | None = None
        self._reason: str | None = None
        self._typed: pd.DataFrame | None = None
        self._loaded: pd.DataFrame | None = None
        self._stale = False
        self._build()
        self._judge(None)
        state = self.state
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.timeout.connect(self.update_now)
        follow(self, state.analysis_changed, self._later)
        follow(self, state.images_changed, self._later)
        follow(self, state.current_changed, self._show)
        self.update_now()

    def _build(self) -> None:
        self.scope_combo = ComboBox()
        self.scope_combo.addItems([THIS_IMAGE, ALL_IMAGES])
        self.scope_combo.currentIndexChanged.connect(self._show)
        self.method_combo = ComboBox()
        for name, method in METHODS.items():
            self.method_combo.addItem(method.title, name)
        self.method_combo.currentIndexChanged.connect(self._later)
        form = new_form()
        labelled(
            form,
            "Ratios of",
            self.scope_combo,
            "Whose clusters are counted. Default: this image.",
        )
        labelled(
            form,
            "Found by",
            self.method_combo,
            "Whether labels are counted as they are, or adjusted for the mistakes of the model. "
            "Default: as counted.",
        )

        self.chart = BarChart(axis=True)
        self.chart.setAccessibleName("Class ratios with intervals")
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.warning = QLabel()
        self.warning.setWordWrap(True)
        self.warning.setAccessibleName("Warning")
        # Orange says it a second time; the words are enough.
        self.warning.setStyleSheet("border-left: 4px solid #e69f00; padding: 4px 8px;")

        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(form)
        layout.addWidget(self.warning)
        layout.addWidget(self.chart)
        layout.addWidget(self.note)
        layout.addWidget(self._table())
        layout.addLayout(self._reference_part())
        layout.addLayout(self._buttons())
        layout.addStretch(1)
        in_scroll_area(content, self)

    def _table(self) -> QTableView:
        self.model = RatioModel(self)
        self.view = QTableView()
        self.view.setModel(self.model)
        self.view.setAccessibleName("Class ratios")
        self.view.verticalHeader().hide()
        self.view.setShowGrid(False)
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        header = self.view.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setHighlightSections(False)
        return self.view

    def _reference_part(self) -> QVBoxLayout:
        self.reference_line = QLineEdit()
        self.reference_line.setPlaceholderText(EXAMPLE)
        self.reference_line.setClearButtonEnabled(True)
        self.reference_line.setAccessibleName("Reference")
        self.reference_line.setToolTip(
            f"Known ratios of what is shown, such as {EXAMPLE}, in parts, per cent or fractions; "
            "classes that are not named are absent. Default: none."
        )
        self.reference_line.editingFinished.connect(self._read_line)
        self.load_button = QPushButton("Load…")
        self.load_button.setToolTip(
            "Known ratios from a table with the columns class, fraction and scope: an image, a "
            "pattern of images such as sample_1_*, or all."
        )
        self.load_button.clicked.connect(self.load_reference)
        label = QLabel("Reference")
        label.setBuddy(self.reference_line)
        row = QHBoxLayout()
        row.addWidget(label)
        row.addWidget(self.reference_line, 1)
        row.addWidget(self.load_button)
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.setAccessibleName("Beside the reference")
        self.parity = ParityPlot()
        part = QVBoxLayout()
        part.addLayout(row)
        part.addWidget(self.verdict)
        part.addWidget(self.parity)
        return part

    def _buttons(self) -> QHBoxLayout:
        self.export_button = QPushButton("Export")
        self.export_button.setToolTip(
            "Write ratios as CSV, Excel, Parquet or LaTeX, or clusters as CSV, Excel or Parquet."
        )
        menu = QMenu(self.export_button)
        menu.addAction("Ratios…", self.export_ratios)
        menu.addAction("Clusters…", self.export_clusters)
        self.export_button.setMenu(menu)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the ratios that are shown, to paste elsewhere.")
        menu = QMenu(self.copy_button)
        menu.addAction("Table (Word, Excel)", self.copy)
        menu.addAction("LaTeX", self.copy_latex)
        self.copy_button.setMenu(menu)
        bottom = QHBoxLayout()
        bottom.addWidget(self.export_button)
        bottom.addWidget(self.copy_button)
        bottom.addStretch(1)
        return bottom

    # ---- counting
    def _later(self, *_: object) -> None:
        """Count once for a burst of changes, and not while nobody looks."""
        if self.isVisible():
            self._timer.start()
        else:
            self._stale = True

    @property
    def method(self) -> str:
        """How the ratios are found, a name in `METHODS`."""
        return str(self.method_combo.currentData())

    def _images(self) -> list[str]:
        return [i for i in self.state.images if self.state.analysis(i) is not None]

    def update_now(self) -> None:
        """Count the clusters of all images and show the result."""
        self._stale = False
        state = self.state
        table = state.table()
        self._card = card_of(table)
        self._offer_methods(table)
        for task in running(state, "ratios"):  # what it finds is of yesterday
            task.cancel()
        if self._reason is not None:
            self._take(pd.DataFrame(columns=COLUMNS))
            return
        images = self._images()
        wanted = (table, state.classes(), images, self.method, self._card)
        few = len(table) <= WORKER_FROM_ROWS and len(images) <= WORKER_FROM_IMAGES
        if few and self.method == "counted":
            self._take(count(*wanted))
            return
        self.note.setText("Finding the ratios…")
        start(state, count, *wanted, on_result=self._take, key="ratios", owner=self)

    def _offer_methods(self, table: pd.DataFrame) -> None:
        """Those that can't be used are greyed out and say why."""
        rows = table[counted(table)]
        reasons = {name: unavailable(name, self._card, rows) for name in METHODS}
        if not len(rows):  # a card without clusters is no reason
            reasons = dict.fromkeys(METHODS)
        self._reason = reasons[self.method]
        for i, (name, reason) in enumerate(reasons.items()):
            item = self.method_combo.model().item(i)
            item.setEnabled(reason is None)
            words = METHODS[name].explanation
            item.setToolTip(words if reason is None else f"{words} Not now: {reason}.")

    def _take(self, ratios: pd.DataFrame) -> None:
        self.ratios = ratios
        self._show()
        self._compare_loaded()

    @property
    def scope(self) -> str | None:
        """Name of the scope that is shown, as in the table of ratios."""
        return self.state.current if self.scope_combo.currentText() == THIS_IMAGE else ALL

    def shown(self) -> pd.DataFrame:
        """The ratios of the scope that is shown."""
        if not len(self.ratios):
            return self.ratios
        found = self.ratios[self.ratios["scope"] == self.scope]
        if ALL in self.state.images:  # an image of that name: its rows come first
            half = len(found) // 2
            of_all = self.scope_combo.currentText() == ALL_IMAGES
            found = found.iloc[half:] if of_all else found.iloc[:half]
        return found.reset_index(drop=True)

    def _show(self, *_: object) -> None:
        ratios, classes = self.shown(), self.state.classes()
        known = self._known()
        bars = ratio_bars(ratios, classes, known) if len(ratios) else []
        self.chart.bars = bars
        self.chart.setVisible(bool(bars))
        self.model.show(ratios, classes)
        self.view.setVisible(len(ratios) > 0)
        self._fit_table()
        image = self.state.current if self.scope_combo.currentText() == THIS_IMAGE else None
        table = self.state.table(image)
        if image is None and self.scope_combo.currentText() == THIS_IMAGE:
            table = table.iloc[:0]
        self.note.setText(summary(table))
        self._warn(ratios)
        for button in (self.copy_button, self.export_button):
            button.setEnabled(len(self.ratios) > 0 or len(table) > 0)
        if self._typed is not None:
            self._compare_typed(ratios)

    def _fit_table(self) -> None:
        """As high as its rows: within a dock that scrolls nothing else should."""
        line = round(1.5 * self.fontMetrics().height())
        self.view.verticalHeader().setDefaultSectionSize(line)
        self.view.setIconSize(QSize(round(0.6 * line), round(0.6 * line)))
        header = self.view.horizontalHeader().sizeHint().height()
        rows = min(self.model.rowCount(), MAX_ROWS)
        self.view.setFixedHeight(header + rows * line + 2 * self.view.frameWidth())

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._fit_table()  # only now is the theme's font known
        if self._stale:
            self._timer.start()

    def _warn(self, ratios: pd.DataFrame) -> None:
        notes = [str(note) for note in ratios["note"] if note] if len(ratios) else []
        words = notes[0] if notes else ""
        if self._reason is not None:
            title = METHODS[self.method].title
            words = f"there are no ratios by {title}: {self._reason}"
        self.warning.setText(f"{capital(words)}." if words else "")
        self.warning.setVisible(bool(words))

    # ---- beside what is known
    def _known(self) -> dict[str, float]:
        """Class → reference of what is shown; empty where nothing is known."""
        if self._typed is not None:
            return reference_for(self._typed, ALL)
        if self._loaded is not None and self.scope is not None:
            return reference_for(self._loaded, self.scope)
        return {}

    def _read_line(self) -> None:
        """Take what was typed for the reference; the name of a loaded file stays what it is."""
        line = self.reference_line.text().strip()
        self.reference_line.setCursorPosition(0)
        if self._loaded is not None and line == self.reference_line.property("file"):
            return
        self._typed = self._loaded = None
        self._compare_loaded()
        self._judge(None)
        if line:
            try:
                typed = parse_reference(line)
                check_reference(typed, [], self.state.classes() or list(typed["class"]))
            except TableError as error:
                self._judge(None, str(error))
            else:
                self._typed = typed
        self._show()

    def load_reference(self) -> None:
        """Ask for a file of known ratios and set them beside what was found."""
        chosen, _ = QFileDialog.getOpenFileName(self, "Reference ratios", "", REFERENCE_TYPES)
        if not chosen:
            return
        try:
            self._loaded = read_reference(chosen)
        except AtomicityError as error:
            show_error(str(error))
            return
        self._typed = None
        name = Path(chosen).name
        self.reference_line.setProperty("file", name)
        self.reference_line.setText(name)
        self._show()
        self._compare_loaded()

    def _compare_typed(self, ratios: pd.DataFrame) -> None:
        """What is shown beside what was typed: both are at hand."""
        if not len(ratios):  # as when a project was just closed
            self._judge(None)
            return
        pairs = pair(ratios, self._known(), str(self.scope))
        self._judge(Comparison(pairs, str(ratios["method"].iloc[0])))

    def _compare_loaded(self) -> None:
        """Every scope of the file of which images are open; these may have to be pooled anew."""
        for task in running(self.state, "reference ratios"):
            task.cancel()
        if self._loaded is None or self._reason is not None:
            return
        state, images = self.state, self._images()
        try:
            check_reference(self._loaded, images, state.classes())
        except TableError as error:
            self._judge(None, str(error))
            return
        start(
            state,
            beside,
            state.table(),
            self._loaded,
            images,
            self.method,
            self._card,
            on_result=self._judge,
            key="reference ratios",
            owner=self,
        )

    def _judge(self, comparison: Comparison | None, words: str = "") -> None:
        """Show a comparison, or words instead."""
        self.comparison = comparison
        self.verdict.setText(verdict(comparison) if comparison is not None else capital(words))
        self.verdict.setVisible(bool(self.verdict.text()))
        pairs = None if comparison is None else comparison.pairs
        points = [] if pairs is None else parity_points(pairs, self.state.classes())
        self.parity.points = points
        self.parity.setVisible(bool(points))

    # ---- out
    def copy(self) -> None:
        """Put the ratios that are shown on the clipboard, for spreadsheets and for documents."""
        QApplication.clipboard().setMimeData(as_mime(self.shown()))

    def copy_latex(self) -> None:
        """Put the ratios that are shown on the clipboard as a LaTeX table."""
        QApplication.clipboard().setText(latex_table(self.shown()))

    def export_ratios(self) -> None:
        """Ask for a file and write the ratios of every image and of all."""
        path = choose_table_path(self, "ratios.csv", RATIO_FILE_TYPES)
        if path is not None:
            write_in_worker(self, write_ratios, self.ratios, path)

    def export_clusters(self) -> None:
        """Ask for a file and write the cluster table of all images."""
        path = choose_table_path(self, "clusters.csv", FILE_TYPES)
        if path is not None:
            write_in_worker(self, write_clusters, self.state.table(), path)
