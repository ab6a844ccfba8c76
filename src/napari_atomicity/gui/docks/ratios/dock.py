"""The dock Ratios: class ratios with intervals, and their comparison with a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
from qtpy.QtCore import QSignalBlocker, QSize, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QSizePolicy,
    QTableView,
)

from ....core.model_card import ModelCard
from ....core.tables.cluster_table import ALL, NON_CLASS_LABELS, UNKNOWN
from ....io.clipboard import latex_table
from ....io.tables import write_clusters
from ....statistics.ratios.prevalence import COUNTED, METHODS, unavailable
from ....statistics.ratios.ratio_notes import ImageLimits, reason_to_withhold
from ....statistics.ratios.ratios import COLUMNS, class_ratios, counted, saturated_images
from ....statistics.ratios.reference import Comparison, compare, pair
from ...controls.bars import ALL_IMAGES, KEEP_RATIOS, THIS_IMAGE, BarChart, ratio_bars
from ...controls.forms import (
    STRETCH,
    CollapsibleSection,
    ComboBox,
    labelled,
    leave_letters,
    new_form,
    new_row,
)
from ...controls.refresher import follow
from ...controls.settings import RATIO_METHOD, remember
from ...panels.compare import ComparePart
from ...panels.dock import Dock
from ...panels.session_labels import ANALYSE_ALL
from ...panels.session_scale import record_of_session, session_of_image, show_answer
from ...panels.table_files import (
    FILE_TYPES,
    as_mime,
    choose_table_path,
    copy_table,
    export_ratios,
    ratio_options,
    write_in_worker,
)
from ...tasks import running
from ...viewer.models import card_of
from .table import RatioModel, ReferencePart, summary

WORKER_FROM_ROWS = 1000
WORKER_FROM_IMAGES = 3
"""Larger tables, and more images, are counted in a worker."""

HIDDEN = "the method uses predictions, which blind mode hides"
MAX_ROWS = 12
"""A table of more rows scrolls."""


class Ratios(Dock):
    """Table and bars of the class ratios, of the current image or of all, and their reference."""

    follows = ("changed", "images_changed")
    delay_ms = 25

    def build(self) -> None:
        self.ratios = pd.DataFrame(columns=COLUMNS)
        self._first: pd.DataFrame | None = None
        self._card: ModelCard | None = None
        self._limits: dict[str, ImageLimits] = {}
        self._wanted: dict[str, Any] = {}
        self._reason: str | None = None
        self._blind_annotator: str | None = None  # of the ratios that are shown
        self._is_scope_chosen = False
        self.content.setContentsMargins(6, 6, 6, 6)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.content.addLayout(self._new_form())
        self.warning = self.add_label(lines=3)  # two and their padding
        self.warning.setAccessibleName("Warning")
        self.keep = self.add(
            QCheckBox("Show the fractions anyway"),
            "Show fractions of saturated images, and of images whose session does not fit the "
            "classes of the model, also in plots and reports. Default: counts only.",
        )
        remember(KEEP_RATIOS, self.keep)
        self.keep.toggled.connect(self.invalidate)
        self.chart = self.add(BarChart(axis=True))
        self.chart.setAccessibleName("Class ratios with intervals")
        self.note = self.add_label(lines=2)
        self.add(self._table())
        self.content.addLayout(self._buttons())
        self.reference = ReferencePart(self.binding)
        self.reference.reference_changed.connect(self._on_reference)
        self.reference_section = self.add(CollapsibleSection("Reference", self.reference))
        self.compare = ComparePart(self.binding)
        self.keep.toggled.connect(self.compare.invalidate)
        self.compare_section = self.add(CollapsibleSection("Compare samples", self.compare))
        self.report_section = self.add_part("Report")
        follow(self, self.state.current_changed, self._show)
        follow(self, self.state.project_changed, self._offer_all_images)

    def _new_form(self) -> QFormLayout:
        self.scope_combo = ComboBox()
        self.scope_combo.addItems([THIS_IMAGE, ALL_IMAGES])
        self.scope_combo.currentIndexChanged.connect(self._on_scope)
        self.method_combo = ComboBox()
        for name, method in METHODS.items():
            self.method_combo.addItem(method.title, name)
        remember(RATIO_METHOD, self.method_combo, shared=True)
        self.method_combo.currentIndexChanged.connect(self.invalidate)
        form = new_form()
        labelled(
            form,
            "Ratios of",
            self.scope_combo,
            "Clusters to count. Default: of all images if several are analysed, else of this one.",
        )
        labelled(
            form,
            "Found by",
            self.method_combo,
            "Count the labels, or correct the counts for the errors of the model. Compare samples "
            "always counts. Default: as counted.",
        )
        return form

    def _table(self) -> QTableView:
        self.model = RatioModel(self)
        self.view = QTableView()
        self.view.setModel(self.model)
        leave_letters(self.view)
        self.view.setAccessibleName("Class ratios")
        self.view.verticalHeader().hide()
        self.view.setShowGrid(False)
        self.view.setTabKeyNavigation(False)  # else Tab never leaves the table
        self.view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        header = self.view.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setHighlightSections(False)
        return self.view

    def _buttons(self) -> QHBoxLayout:
        self.export_button = QPushButton("Export")
        self.export_button.setToolTip(
            "Write ratios as CSV, Excel, Parquet or LaTeX, or clusters as CSV, Excel or Parquet."
        )
        menu = QMenu(self.export_button)
        menu.setToolTipsVisible(True)
        self.ratios_action = menu.addAction("Ratios…", self.export_ratios)
        self.clusters_action = menu.addAction("Clusters…", self.export_clusters)
        self.export_button.setMenu(menu)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the ratios to the clipboard.")
        menu = QMenu(self.copy_button)
        menu.addAction("Table (Word, Excel)", self.copy)
        menu.addAction("LaTeX", self.copy_latex)
        self.copy_button.setMenu(menu)
        return new_row(self.export_button, self.copy_button, STRETCH)

    # ---- counting
    @property
    def method(self) -> str:
        """The method of the ratios, a name in `METHODS`."""
        return str(self.method_combo.currentData())

    def _any_withheld(self) -> bool:
        """Return whether fractions of the scope that is shown are withheld, unless asked for."""
        saturated = saturated_images(self.state.table())
        shown = self._images() if self.scope == ALL else [self.scope]
        limits = [
            replace(
                self._limits.get(image, ImageLimits()),
                keep_ratios=False,
                is_saturated=image in saturated,
            )
            for image in shown
        ]
        return bool(reason_to_withhold(limits))

    def _images(self) -> list[str]:
        return [i for i in self.state.images if self.state.analysis(i) is not None]

    def refresh(self) -> None:
        """Count the clusters of all images and show the result."""
        state = self.state
        if running(state, ANALYSE_ALL):
            self._offer_all_images()
        table = state.table()
        self._card = card_of(table)
        rows = table[counted(table)]
        self._offer_methods(rows)
        how = "" if self.method == COUNTED else ", as counted"
        self.compare_section.button.setText(f"Compare samples{how}")
        for task in running(state, "ratios"):  # its result is outdated
            task.cancel()
        annotator = state.annotator if state.blind else None
        is_other = annotator != self._blind_annotator
        self._blind_annotator = annotator
        if self._reason is not None:
            self._take(pd.DataFrame(columns=COLUMNS))
            return
        of_state = state, rows, self._card
        wanted = self._wanted = ratio_options(*of_state, self.method, self.keep.isChecked())
        images, self._limits = wanted["images"], wanted["limits"]
        few = len(table) <= WORKER_FROM_ROWS and len(images) <= WORKER_FROM_IMAGES
        if few and wanted["method"] == COUNTED:
            self._take(class_ratios(table, state.classes(), **wanted))
            return
        if is_other:  # a blind annotator must not see what was there while a worker counts
            self._take(pd.DataFrame(columns=COLUMNS))
        self._count_image()
        self.note.setText("Computing the ratios…")
        if self.scope == ALL and len(images) > 1:
            self._compute(self._take_first, scope=ALL)
        else:
            self._compute(self._take)

    def _count_image(self) -> None:
        """Show counted ratios of the current image before those of all images are computed."""
        image = self.state.current
        is_counted = self._wanted["method"] == COUNTED
        if image is None or self.state.analysis(image) is None or not is_counted:
            return
        self._first = class_ratios(
            self.state.table(image),
            self.state.classes(),
            scope=image,
            images=[image],
            limits=self._limits,
        )
        self._show()

    def _compute(self, on_result: Callable[[pd.DataFrame], None], **options: Any) -> None:
        """Compute ratios in a worker."""
        table, classes = self.state.table(), self.state.classes()
        options |= self._wanted
        self.start(class_ratios, table, classes, on_result=on_result, key="ratios", **options)

    def _take_first(self, ratios: pd.DataFrame) -> None:
        """Show the ratios of all images together, and compute those of each image."""
        self._first = ratios
        self._show()
        self._compute(self._take)

    def _offer_methods(self, rows: pd.DataFrame) -> None:
        """Disable methods that are not available to these clusters, with the reason as tooltip."""
        if self.state.blind:
            reasons = {n: HIDDEN if METHODS[n].missing is not None else None for n in METHODS}
        elif not len(rows):  # a card without clusters is no reason
            reasons = dict.fromkeys(METHODS)
        else:
            reasons = {name: unavailable(name, self._card, rows) for name in METHODS}
        self._reason = reasons[self.method]
        for i, (name, reason) in enumerate(reasons.items()):
            item = self.method_combo.model().item(i)
            item.setEnabled(reason is None)
            text = METHODS[name].explanation
            item.setToolTip(text if reason is None else f"{text} Not available: {reason}.")

    def _take(self, ratios: pd.DataFrame) -> None:
        self.ratios, self._first = ratios, None
        self._show()
        self._compare_loaded()

    @property
    def scope(self) -> str | None:
        """The scope that is shown, as in the table of ratios."""
        return self.state.current if self.scope_combo.currentText() == THIS_IMAGE else ALL

    def shown(self) -> pd.DataFrame:
        """Return the ratios of the scope that is shown."""
        if self._first is not None and self.scope == self._first["scope"].iloc[0]:
            return self._first
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
        known = self.reference.known(self.scope)
        bars = ratio_bars(ratios, classes, known) if len(ratios) else []
        self.chart.bars = bars
        self.chart.setVisible(bool(bars))
        self.model.show(ratios, classes)
        self.view.setVisible(len(ratios) > 0)
        self._fit_table()
        self.keep.setVisible(len(ratios) > 0 and self._any_withheld())
        image = self.state.current if self.scope_combo.currentText() == THIS_IMAGE else None
        table = self.state.table(image)
        if image is None and self.scope_combo.currentText() == THIS_IMAGE:
            table = table.iloc[:0]
        self.note.setText(summary(table))
        self._warn(ratios)
        self.reference.give_to_report(self.scope)
        self._enable_export(len(self.ratios) > 0, len(self.state.table()) > 0)
        if self.reference.typed is not None:
            self._compare_typed(ratios)

    def _enable_export(self, has_ratios: bool, has_clusters: bool) -> None:
        """Enable what there is to export and to copy; tooltips say why the rest is off."""
        why = "There are no ratios" + (f": {self._reason}." if self._reason else " yet.")
        self.ratios_action.setEnabled(has_ratios)
        self.ratios_action.setToolTip("" if has_ratios else why)
        self.clusters_action.setEnabled(has_clusters)
        self.copy_button.setEnabled(has_ratios)
        self.copy_button.setToolTip("Copy the ratios to the clipboard." if has_ratios else why)
        self.export_button.setEnabled(has_ratios or has_clusters)

    def _on_scope(self) -> None:
        self._is_scope_chosen = True
        self._show()

    def _offer_all_images(self, *_: object) -> None:
        """Show all images if several are analysed, unless a person has chosen the scope."""
        several = sum(self.state.analysis(image) is not None for image in self.state.images) > 1
        if several and not self._is_scope_chosen:
            with QSignalBlocker(self.scope_combo):
                self.scope_combo.setCurrentText(ALL_IMAGES)

    def _fit_table(self) -> None:
        """Fit the height of the table to its rows, since the dock scrolls."""
        line = round(1.5 * self.fontMetrics().height())
        self.view.verticalHeader().setDefaultSectionSize(line)
        self.view.setIconSize(QSize(round(0.6 * line), round(0.6 * line)))
        header = self.view.horizontalHeader().sizeHint().height()
        rows = min(self.model.rowCount(), MAX_ROWS)
        self.view.setFixedHeight(header + rows * line + 2 * self.view.frameWidth())

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        self._offer_all_images()
        super().showEvent(event)
        self._fit_table()  # the font of the theme is known now

    def _warn(self, ratios: pd.DataFrame) -> None:
        notes = [str(note) for note in ratios["note"] if note] if len(ratios) else []
        text = notes[0] if notes else ""
        if self._reason is not None:
            title = METHODS[self.method].title
            text = f"ratios by {title} are not available: {self._reason}"
        answers, names = [session_of_image(self.state, self.state.current)], None
        if self.scope == ALL:
            groups, analysed = self.state.sessions.groups(), set(self._images())
            sessions = [session for session in groups if analysed.intersection(session.images)]
            answers = [record_of_session(self.state, session.images) for session in sessions]
            if len(groups) > 1:  # which one is not seen otherwise
                names = [session.name for session in sessions]
        if self.state.blind:  # what the session tells comes from the predictions
            answers, names = [], None
        n_unknown = int(ratios.loc[ratios["class"] == UNKNOWN, "count"].sum())
        n_counted = int(ratios.loc[~ratios["class"].isin(NON_CLASS_LABELS), "count"].sum())
        show_answer(self.warning, answers, text, names=names, numbers=(n_unknown, n_counted))

    # ---- comparison with a reference
    def _on_reference(self) -> None:
        self._show()
        self._compare_loaded()

    def _compare_typed(self, ratios: pd.DataFrame) -> None:
        """Compare the ratios that are shown with the typed reference."""
        refusal = self.reference.refusal()
        if refusal or not len(ratios):  # after a project was closed
            self.reference.show_comparison(None, refusal)
            return
        pairs = pair(ratios, self.reference.known(self.scope), str(self.scope))
        self.reference.show_comparison(Comparison(pairs, str(ratios["method"].iloc[0])))

    def _compare_loaded(self) -> None:
        """Compare every scope of the loaded file that has open images, in a worker."""
        for task in running(self.state, "reference ratios"):
            task.cancel()
        if self.reference.loaded is None or self._reason is not None or not self._wanted:
            return
        if refusal := self.reference.refusal():
            self.reference.show_comparison(None, refusal)
            return
        self.start(
            compare,
            self.state.table(),
            self.reference.loaded,
            self._images(),
            method=self._wanted["method"],
            card=self._card,
            limits=self._limits,
            on_result=self.reference.show_comparison,
            key="reference ratios",
        )

    # ---- out
    def copy(self) -> None:
        """Copy the ratios that are shown, for spreadsheets and documents."""
        copy_table(as_mime(self.shown()), len(self.shown()))

    def copy_latex(self) -> None:
        """Copy the ratios that are shown as a LaTeX table."""
        copy_table(latex_table(self.shown()), len(self.shown()))

    def export_ratios(self) -> None:
        """Write the ratios of every image, session and sample, and of all, into a chosen file."""
        export_ratios(self, self._wanted)

    def export_clusters(self) -> None:
        """Write the cluster table of all images into a chosen file."""
        path = choose_table_path(self, "clusters.csv", FILE_TYPES)
        if path is not None:
            write = partial(write_clusters, groups=self.state.group_names())
            write_in_worker(self, write, self.state.table(), path=path)
