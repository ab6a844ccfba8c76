"""The Review dock: clusters one after the other, a key for each, and what the answers say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from napari.utils.notifications import show_error
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QSignalBlocker, Qt, QTimer
from qtpy.QtGui import QKeyEvent, QShowEvent
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ....core.cluster_table import AGGREGATE, NON_CLASS_LABELS, UNKNOWN, Key
from ....core.errors import AtomicityError
from ....core.palette import colour_of, symbol_of
from ....state.export_contents import SAMPLE_SETTING
from ....state.review_orders import ORDERS
from ....state.review_queue import Queue, build
from ....state.review_request import ReviewRequest
from ....state.reviewing import Reviewing
from ....state.window_state import WindowState
from ....statistics.agreement import removed_clusters
from ....statistics.stratified_accuracy import Accuracy, Share
from ...controls.bars import Bar, BarChart
from ...controls.collapsible import CollapsibleSection
from ...controls.connections import follow
from ...controls.drawing import ProgressBar
from ...controls.forms import ComboBox, in_scroll_area, labelled, main_button
from ...controls.glyphs import glyph_icon
from ...controls.help import show_help
from ...controls.settings import remember
from ...controls.settings_form import form_of
from ...panels.annotator import AnnotatorForm
from ...viewer.binding import binding_of
from ...viewer.labelling import focus_canvas
from .agreement import AnnotatorPanel
from .answers import Answers
from .editing import Editing
from .history import EditHistory
from .learning import Learning
from .text import format_accuracy, format_progress, format_share, format_speed

THIS_IMAGE, ALL_IMAGES = "this image", "all images"
START, GO_ON, END = "Start review", "Go on with the review", "End review"

_DELAY_MS = 30
NO_CLUSTERS = "Analyse an image first: then its clusters can be reviewed here."


def accuracy_bars(found: Accuracy | None, classes: Sequence[str]) -> list[Bar]:
    """Make a bar per predicted label, and one for all."""
    if found is None or not found.overall.n:
        return []

    def bar(name: str, share: Share) -> Bar:
        is_all = name == "all"
        colour = "#808080" if is_all else colour_of(name, classes)
        symbol = "square" if is_all else symbol_of(name, classes)
        whose = "all labels" if is_all else f"clusters labelled {name}"
        known = math.isfinite(share.value)
        return Bar(
            name,
            share.value,
            format_share(share),
            colour,
            symbol,
            share.low if known else math.nan,
            share.high if known else math.nan,
            strong=is_all,
            tooltip=f"Of {whose}, {share.right} of {share.n} answers were right.",
        )

    order = [*classes, *NON_CLASS_LABELS]
    names = sorted(found.by_class, key=lambda n: order.index(n) if n in order else len(order))
    return [*(bar(n, found.by_class[n]) for n in names), bar("all", found.overall)]


# ---- the dock
class Review(QWidget):
    """Choose a queue, go through it with one hand, and read what it says of the labels."""

    def __init__(self, napari_viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.binding = binding_of(napari_viewer)
        self.state: WindowState = self.binding.state
        self._noted: tuple[object, Queue | None] = (None, None)
        self._build()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._update)
        state, mode = self.state, self.binding.label_mode
        follow(self, state.changed, self._later)
        follow(self, state.project_changed, self._later)
        follow(self, state.images_changed, self._later)
        follow(self, state.current_changed, self._later)
        follow(self, mode.review_changed, self._on_review)
        self._following: Reviewing | None = None
        self._on_review(mode.review)
        self._update()

    # ---- parts
    def _build(self) -> None:
        self.who = AnnotatorForm(self.state)
        self._build_form()
        self.button = main_button(START, self)
        self.button.setToolTip(
            "Shows one cluster after the other. A key on the canvas labels it and shows the next "
            "one."
        )
        self.button.clicked.connect(self._on_button)
        self.help_button = QPushButton("Keys…")
        self.help_button.setToolTip("All shortcuts (F1).")
        self.help_button.clicked.connect(lambda: show_help(self.binding.viewer))
        row = QHBoxLayout()
        row.addWidget(self.button, 1)
        row.addWidget(self.help_button)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.hint.setAccessibleName("Hint")
        self.bar = ProgressBar()
        self.bar.setAccessibleName("Reviewed")
        self.pace = QLabel()
        self.pace.setAccessibleName("Pace")
        self.answers = Answers(self.binding)
        self.chart = BarChart()
        self.chart.setAccessibleName("Accuracy of the labels")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("Accuracy from the answers")
        self.draw_button = QPushButton("Draw another sample…")
        self.draw_button.setToolTip(
            "Discard this sample and draw another one with a different seed or number. Labels are "
            "kept."
        )
        self.draw_button.clicked.connect(self._draw_anew)
        self.editing = Editing(self.binding)
        self.learning = Learning(self.binding)
        self.history = EditHistory(self.state)
        self.history.gone.connect(self._on_removed_cluster)
        self.annotators = AnnotatorPanel(self.binding)
        self.parts = [
            CollapsibleSection("History", self.history),
            CollapsibleSection("Second opinion", self.annotators),
        ]

        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.who)
        layout.addWidget(self.form)
        layout.addLayout(row)
        for widget in (
            self.hint, self.bar, self.pace, self.answers, self.chart, self.words, self.draw_button,
            self.editing, self.learning, *self.parts,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addStretch(1)
        in_scroll_area(content, self)

    def _build_form(self) -> None:
        self.order = ComboBox()
        for name, order in ORDERS.items():
            self.order.addItem(order.title, name)
            self.order.setItemData(self.order.count() - 1, order.what, Qt.ItemDataRole.ToolTipRole)
        self.label = ComboBox()
        self.scope = ComboBox()
        for words in (ALL_IMAGES, THIS_IMAGE):
            self.scope.addItem(words, words)
        self.form = form_of(ReviewRequest, "n", "seed", "again", "by_image")
        form = self.form.form
        self.number, self.seed, self.again, self.by_image = self.form.controls.values()
        for row, name, field, tooltip in (
            (0, "Order", self.order, "Order of the clusters. Default: least certain first."),
            (1, "Label", self.label, "Clusters of this label only. Default: all labels."),
            (4, "Of", self.scope, "Images whose clusters are reviewed. Default: all images."),
        ):
            labelled(form, name, field, tooltip, row)
        self._row = {w: form.labelForField(w) for w in (self.label, self.number, self.seed)}
        for name in ("order", "scope"):
            remember(f"review/{name}", getattr(self, name))
        self.order.currentIndexChanged.connect(self._update)
        self.scope.currentIndexChanged.connect(self._update)

    # ---- state
    @property
    def review(self) -> Reviewing | None:
        """The review that is on."""
        return self.binding.label_mode.review

    def request(self) -> ReviewRequest:
        """Return the settings."""
        order, current = str(self.order.currentData()), self.state.current
        only = self.scope.currentData() == THIS_IMAGE and current is not None
        return ReviewRequest(
            order,
            (current,) if only else None,
            str(self.label.currentData() or "") if order == "class" else "",
            **self.form.values(),
        )

    def _kept(self) -> tuple[Queue, set[Key]] | None:
        """Return the random queue of this order that can be continued."""
        order = str(self.order.currentData())
        known = self.binding.label_mode.kept.get(order)
        project = self.state.project
        if order != "sample" or project is None:
            return known
        if self._noted[0] is not project:
            self._noted = (project, self._read_noted())
        queue = self._noted[1]
        if queue is None:
            return known
        log = project.corrections()
        return queue, removed_clusters(log[~log["blind"]])

    def _read_noted(self) -> Queue | None:
        project = self.state.project
        try:
            noted = None if project is None else project.setting(SAMPLE_SETTING)
            return Queue.from_json(noted) if noted else None
        except AtomicityError as error:
            show_error(str(error))
            return None

    def _has_kept(self) -> bool:
        order = str(self.order.currentData())
        if order == "sample" and self.state.project is not None:
            if self._noted[0] is not self.state.project:
                self._noted = (self.state.project, self._read_noted())
            return self._noted[1] is not None or order in self.binding.label_mode.kept
        return order in self.binding.label_mode.kept

    # ---- starting and ending
    def _on_button(self) -> None:
        if self.review is not None:
            self.binding.label_mode.review = None
            return
        self.start()

    def start(self) -> None:
        """Start the review that is set, or go on with the sample that was drawn."""
        try:
            if self._has_kept() and (kept := self._kept()) is not None:
                queue, removed = kept
            else:
                queue, removed = self._draw(), set()
            review = Reviewing(self.state, queue, removed)
            if not review.n:
                review.close()
                raise AtomicityError(
                    "these clusters are no longer in the table",
                    advice="Draw another sample",
                )
            self.binding.label_mode.review = review
        except AtomicityError as error:
            self.hint.setText(str(error))
            self.hint.show()

    def _draw(self) -> Queue:
        queue = build(self.state.table(), self.request(), datetime.now(UTC).isoformat())
        project = self.state.project
        if queue.request.order == "sample" and project is not None:
            project.set_setting(SAMPLE_SETTING, queue.to_json())
            self._noted = (project, queue)
        return queue

    def _draw_anew(self) -> None:
        """Forget what was drawn; the form comes back, with the next seed."""
        self.binding.label_mode.review = None
        self.binding.label_mode.kept.pop(str(self.order.currentData()), None)
        if self.order.currentData() == "sample" and self.state.project is not None:
            self.state.project.set_setting(SAMPLE_SETTING, None)
            self._noted = (self.state.project, None)
        self.seed.setValue(self.seed.value() + 1)
        self._update()

    def _on_review(self, review: Reviewing | None) -> None:
        if self._following is not None:
            self._following.moved.disconnect(self._later, missing_ok=True)
        self._following = review
        if review is not None:
            follow(self, review.moved, self._later)
        self.answers.show_review(review)
        self._update()

    def _on_removed_cluster(self) -> None:
        """Show one of the clusters that a click in the history has changed."""
        review = self.review
        if review is not None:
            review.go_to_changed()
            focus_canvas(self.binding.viewer)

    # ---- showing
    def _later(self, *_: object) -> None:
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._update()

    def _update(self, *_: object) -> None:
        review = self.review
        there = any(self.state.analysis(i) is not None for i in self.state.images)
        self._show_form(review)
        on = review is not None
        self.button.setText(END if on else GO_ON if self._has_kept() else START)
        self.button.setEnabled(on or (there and not self.state.read_only))
        self._show_hint(there)
        for widget in (self.bar, self.pace):
            widget.setVisible(on)
        if on and self.answers.isHidden():  # Qt takes its time when they are shown first
            QTimer.singleShot(0, self._show_answers)
        elif not on:
            self.answers.hide()
            self.words.hide()
        if review is not None:
            self.bar.setMaximum(max(review.n, 1))
            self.bar.setValue(review.n_done)
            self.bar.setFormat(format_progress(review))
            self.pace.setText(format_speed(review))
            self.pace.setVisible(bool(self.pace.text()))
            self.answers.update_now()
        self._show_accuracy(review)

    def _show_answers(self) -> None:
        if self.review is not None:
            self.answers.show()
            self.words.show()

    def _show_hint(self, there: bool) -> None:
        words = "" if there else NO_CLUSTERS
        if self.state.read_only:
            words = "The project is open in another window: it cannot be reviewed here."
        self.hint.setText(words)
        self.hint.setVisible(bool(words))

    def _show_form(self, review: Reviewing | None) -> None:
        order = str(self.order.currentData())
        self.order.setToolTip(ORDERS[order].what)
        wanted = {
            self.label: order == "class",
            self.number: order == "sample",
            self.seed: ORDERS[order].estimates,
        }
        kept = self._has_kept()
        for field, visible in wanted.items():
            field.setVisible(visible and not kept)
            self._row[field].setVisible(visible and not kept)
        self.again.setVisible(order != "sample")
        for widget in (self.scope, self.again, self.by_image):
            widget.setEnabled(not kept)
        self.form.setVisible(review is None)
        if review is None:
            self._fill_labels()

    def _fill_labels(self) -> None:
        classes = self.state.classes()
        names = [*classes, UNKNOWN, AGGREGATE]
        if [self.label.itemData(i) for i in range(1, self.label.count())] == names:
            return
        chosen = self.label.currentData()
        with QSignalBlocker(self.label):
            self.label.clear()
            self.label.addItem("all, one after the other", "")
            for name in names:
                icon = glyph_icon(symbol_of(name, classes), colour_of(name, classes))
                self.label.addItem(icon, name, name)
            self.label.setCurrentIndex(max(0, self.label.findData(chosen)))

    def _show_accuracy(self, review: Reviewing | None) -> None:
        found = None if review is None else review.accuracy()
        self.draw_button.setVisible(
            review.queue.order.estimates if review is not None else self._has_kept()
        )
        if review is None or self.state.blind:
            found = None if review is None else found
            self.chart.bars = []
        else:
            self.chart.bars = accuracy_bars(found, self.state.classes())
        self.chart.setVisible(bool(self.chart.bars))
        if review is not None:
            self.words.setText(format_accuracy(review, found))

    # ---- keys
    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Of a dock that floats no key would reach the canvas."""
        if self.review is not None and self.window() is not self.binding.viewer.window._qt_window:
            again = QKeyEvent(QEvent.Type.KeyPress, event.key(), event.modifiers(), event.text())
            QApplication.sendEvent(self.binding.viewer.window._qt_viewer.canvas.native, again)
            return
        super().keyPressEvent(event)
