"""The Review dock: clusters one after the other, a key for each, and what the answers say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from qtpy.QtCore import QEvent, QSignalBlocker, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QApplication,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QWidget,
)

from ....core.errors import AtomicityError
from ....core.palette import colour_of, symbol_of
from ....core.progress import format_duration
from ....core.tables.cluster_table import (
    AGGREGATE,
    NON_CLASS_LABELS,
    UNKNOWN,
    Key,
    learnable,
)
from ....core.text import pluralise
from ....state.cluster_rows import ids_of_image
from ....state.export import SAMPLE_SETTING
from ....state.review_queue import (
    ORDERS,
    Queue,
    ReviewRequest,
    build,
    has_predictions,
    orders_of,
)
from ....state.reviewing import Reviewing
from ....statistics.annotators.agreement import removal_reasons
from ....statistics.ratios.track_counts import answers_of
from ....statistics.stratified_accuracy import TOO_HIGH, Accuracy, Share
from ...controls.bars import Bar, BarChart
from ...controls.drawing import ProgressBar, glyph_icon
from ...controls.forms import (
    CollapsibleSection,
    ComboBox,
    labelled,
    main_button,
    new_row,
    wrapped_label,
)
from ...controls.refresher import FollowingWidget
from ...controls.settings import remember
from ...controls.settings_form import form_of
from ...controls.shortcuts import LABEL_MODE, format_key, in_text_field, show_help
from ...panels.dock import Dock
from ...panels.dock_windows import show_dock
from ...panels.forms import busy
from ...viewer.binding import Binding
from ...viewer.clusters.labelling import focus_canvas, format_progress
from .agreement import AnnotatorPanel
from .answers import Answers
from .history import EditHistory


# ---- from what a person has corrected to a better model, in one click
class Learning(FollowingWidget):
    """How much there is to learn from, and the two ways to learn it."""

    follows = ("changed", "project_changed")
    delay_ms = 50

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.binding = binding
        self._n_corrected = self._n_classes = 0  # of these, Train learns from whole clusters
        self.words = wrapped_label("Corrections to learn from", lines=2)
        self.adapt_button = QPushButton("Adapt model")
        self.adapt_button.setToolTip(
            "Fine-tune the model to these images in seconds, with your corrections as certain "
            "labels. The dock Adapt compares before and after. You can undo it."
        )
        self.train_button = QPushButton("Train model")
        self.train_button.setToolTip(
            "Train a model on the corrected clusters in minutes, for classes or conditions that no "
            "model covers. Each class needs some clusters in at least two images."
        )
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.words, 0, 0, 1, 2)
        for column, button in enumerate((self.adapt_button, self.train_button)):
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            grid.addWidget(button, 1, column)
        self.adapt_button.clicked.connect(self.adapt)
        self.train_button.clicked.connect(self.train)

    def refresh(self) -> None:
        table = self.binding.state.table()
        said = answers_of(table)
        self._n_corrected = n = len(said)
        self._n_classes = learnable(table)["label_corrected"].nunique()
        other = int((said["label_corrected"] != said["label_predicted"]).sum())
        if not n:
            words = "A model can learn from your corrections."
        elif self.binding.state.blind:  # no predictions to compare with
            words = f"You have labelled {pluralise(n, 'cluster')}."
        else:
            words = (
                f"{pluralise(n, 'cluster')} with a manual label; {other} of these labels "
                f"differ{'s' * (other == 1)} from the prediction."
            )
        self.words.setText(words)

    def show_status(self) -> None:
        state = self.binding.state
        ready = self._n_corrected > 0 and not (busy(state) or state.read_only or state.blind)
        self.adapt_button.setEnabled(ready)
        self.train_button.setEnabled(ready and self._n_classes > 1)

    def adapt(self) -> None:
        """Open Adapt and let it learn from all images."""
        show_dock(self.binding.viewer, "Adapt").learn()

    def train(self) -> None:
        """Open Train and let it learn from the corrected clusters."""
        show_dock(self.binding.viewer, "Train").learn()


# ---- A row of buttons for what a person does to clusters in the image; the keys do the same
class Editing(FollowingWidget):
    """Add, split, merge, exclude."""

    follows = ("changed", "selection_changed", "current_changed", "project_changed")

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.binding = binding
        keys = {s.name: format_key(s.keys[0]) for s in LABEL_MODE}
        self.buttons: dict[str, QPushButton] = {}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for action, text, tooltip, act in (
            (
                "add",
                "Add",
                "Click at a missed cluster. It is outlined, measured and classified.",
                binding.edits.add_by_clicking,
            ),
            (
                "split",
                "Split",
                "Split each selected cluster into two.",
                binding.edits.split_selected,
            ),
            (
                "merge",
                "Merge",
                "Merge the selected clusters into one.",
                binding.edits.merge_selected,
            ),
            (
                "exclude",
                "Exclude…",
                "Draw around contamination or vacuum to exclude clusters in it.",
                binding.edits.exclude_regions,
            ),
        ):
            button = QPushButton(text)
            button.setToolTip(f"{tooltip} ({keys[action]})")
            button.setAccessibleName(text)
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            button.clicked.connect(act)
            row.addWidget(button)
            self.buttons[action] = button

    def refresh(self) -> None:
        state = self.binding.state
        may = state.analysis(state.current or "") is not None and not state.read_only
        here = ids_of_image(state.selection, state.current)
        for action, possible in {
            "add": may and not state.blind,
            "exclude": may and not state.blind,
            "split": may and not state.blind and len(here) > 0,
            "merge": may and not state.blind and len(here) > 1,
        }.items():
            self.buttons[action].setEnabled(possible)


# ---- texts of the dock Review


# ---- words
def format_speed(review: Reviewing) -> str:
    """Format seed, time per cluster, time left and the number of skipped clusters."""
    words = [f"seed {review.queue.request.seed}"] if review.queue.strata else []
    seconds, left = review.seconds_each(), review.n - review.n_done
    if seconds is not None:
        words.append(f"{seconds:.1f} s each, {format_duration(seconds * left)} left")
    else:
        words.append("time left: after some answers")
    if n := review.skipped.sum():
        words.append(f"{n} skipped")
    return "; ".join(words)


def format_share(share: Share) -> str:
    """``94.1 % (89.2–97.0)``; a dash without answers."""
    if not math.isfinite(share.value):
        return "–"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f}–{100 * share.high:.1f})"


def _format_wrong(found: Accuracy) -> str:
    """Say how many clusters of the sample were none by themselves; "" if all were."""
    many = found.false_detections != 1
    counts = (
        (found.false_detections, "no clusters" if many else "no cluster"),
        (found.replaced, "split or merged"),
    )
    parts = [f"{n} {'were' if n != 1 else 'was'} {what}" for n, what in counts if n]
    verb = "count" if len(parts) > 1 else "counts"
    return f"{' and '.join(parts)}, which {verb} as wrong." if parts else ""


def format_accuracy(review: Reviewing, found: Accuracy | None) -> str:
    """Describe what follows from the answers, and what does not."""
    if review.state.blind:
        return "In blind mode there are no predictions to set the answers against."
    if found is None:
        return (
            "These clusters were chosen because they are special: how often their labels are right "
            f"says nothing of the others. For an estimate choose '{ORDERS['sample'].title}' or "
            f"'{ORDERS['random'].title}'."
        )
    if not found.overall.n:
        return "The accuracy of the labels will be estimated here from the answers."
    n, of = found.overall.n, found.n_population
    said = [
        f"{format_share(found.overall)} of the labels of these {of} clusters are right, with its "
        f"95 % interval: {found.overall.right} of {n} answers."
    ]
    if wrong := _format_wrong(found):
        said.append(wrong)
    if review.queue.request.by_image and not review.finished:
        said.append("It counts once all are reviewed: image by image, the first are not typical.")
    elif n := found.n_open:
        said.append(
            f"{n} {'have' if n != 1 else 'has'} no answer yet: such are often the hard ones, and "
            "the interval allows for any answer."
        )
    if found.n_ahead:
        one = found.n_ahead == 1
        said.append(
            f"{found.n_ahead} more {'is' if one else 'are'} labelled, deleted, split or merged "
            f"already and {'counts once it is its' if one else 'count once it is their'} turn."
        )
    if review.predicted_anew:
        said.append(
            "They were classified anew since the sample was drawn. If that model has learnt from "
            f"these answers, {TOO_HIGH}."
        )
    return " ".join(said)


THIS_IMAGE, ALL_IMAGES = "this image", "all images"
START, GO_ON, END = "Start review", "Go on with the review", "End review"

ALL_LABELS = "all, one after the other"
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


class Review(Dock):
    """Choose a queue, review it by keys, and see the accuracy of the labels."""

    follows = ("changed", "project_changed", "review_changed", "review_moved")
    delay_ms = 30

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(napari_viewer, parent)
        # The first answers add a chart: a scroll bar that appears would move the buttons.
        area = self.findChild(QScrollArea)
        area.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)

    def build(self) -> None:
        self._noted: tuple[object, Queue | None] = (None, None)
        self.content.setContentsMargins(6, 6, 6, 6)
        # Above the form, whose rows depend on the order: the button stays under the mouse.
        self.content.addLayout(self._new_buttons())
        self.form = self.add(self._new_form())
        self.hint = wrapped_label("Hint", lines=2)
        self.form.form.addRow(self.hint)  # takes no room during a review
        self.bar = self.add(ProgressBar())
        self.bar.setAccessibleName("Reviewed")
        self.answers = self.add(Answers(self.binding))
        self.pace = self.add(wrapped_label("Pace"))
        self.draw_button = self.add(
            QPushButton("Draw another sample…"),
            "Discard this sample and draw another one with a different seed or number. Labels are "
            "kept.",
        )
        self.draw_button.clicked.connect(self._draw_anew)
        # Above what grows with the answers.
        self.editing = self.add(Editing(self.binding))
        self.learning = self.add(Learning(self.binding))
        self.chart = self.add(BarChart())
        self.chart.setAccessibleName("Accuracy of the labels")
        self.words = self.add(wrapped_label("Accuracy from the answers"))
        self.history = EditHistory(self.binding)
        self.history.gone.connect(self._on_history)
        self.annotators = AnnotatorPanel(self.binding)
        self.parts = [
            self.add(CollapsibleSection("History", self.history)),
            self.add(CollapsibleSection("Second opinion", self.annotators)),
            self.add_part("Annotators", "Atoms marked by several annotators"),
        ]

    def _new_buttons(self) -> QHBoxLayout:
        self.button = main_button(START, self)
        self.button.setToolTip(
            "Shows one cluster after the other. A key on the canvas labels it and shows the next "
            "one."
        )
        self.button.clicked.connect(self._on_button)
        self.help_button = QPushButton("Keys…")
        self.help_button.setToolTip("All shortcuts (F1).")
        self.help_button.clicked.connect(self._show_help)
        return new_row((self.button, 1), self.help_button)

    def _show_help(self) -> None:
        show_help(self.binding.viewer)

    def _new_form(self) -> QWidget:
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
            (0, "Order", self.order, "Cut clusters come last. Default: least certain first."),
            (1, "Label", self.label, "Clusters of this label only. Default: all labels."),
            (4, "Of", self.scope, "Images whose clusters are reviewed. Default: all images."),
        ):
            labelled(form, name, field, tooltip, row)
        self._row = {w: form.labelForField(w) for w in (self.label, self.number, self.seed)}
        for name in ("order", "scope"):
            remember(f"review/{name}", getattr(self, name))
        self._chosen_order = self.order.currentIndex()
        self.order.currentIndexChanged.connect(self._choose_order)
        return self.form

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

    def _has_kept(self) -> bool:
        """Return whether a random queue of this order can be continued."""
        order = str(self.order.currentData())
        return order in self.binding.label_mode.kept or self._sample() is not None

    def _kept(self) -> tuple[Queue, dict[Key, str]]:
        """Return the random queue that can be continued, and why clusters of it are gone."""
        queue, project = self._sample(), self.state.project
        if queue is None or project is None:
            return self.binding.label_mode.kept[str(self.order.currentData())]
        log, blind = project.corrections(), self.state.blind
        own = log["annotator"] == self.state.annotator if blind else True
        return queue, removal_reasons(log[(log["blind"] == blind) & own])

    def _sample(self) -> Queue | None:
        """Return the sample that is saved in the project, if samples are reviewed."""
        return self._sample_of_project() if self.order.currentData() == "sample" else None

    def _sample_of_project(self) -> Queue | None:
        project = self.state.project
        if project is None:
            return None
        if self._noted[0] is not project:
            noted = self.attempt(lambda: project.setting(SAMPLE_SETTING))
            queue = self.attempt(lambda: Queue.from_json(noted)) if noted else None
            self._noted = (project, queue)
        return self._noted[1]

    # ---- starting and ending
    def _on_button(self) -> None:
        if self.review is not None:
            self.binding.label_mode.review = None
            return
        self.start()

    def start(self) -> None:
        """Start the review that is set, or go on with the sample that was drawn."""
        try:
            queue, reasons = self._kept() if self._has_kept() else (self._draw(), {})
            review = Reviewing(self.state, queue, reasons)
            if not review.n:
                review.close()
                raise AtomicityError(
                    "these clusters are no longer in the table",
                    advice="Draw another sample",
                )
            self.binding.label_mode.review = review
        except AtomicityError as error:
            self.update_now()
            self.hint.setText(str(error))

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
        self.refresh_now()

    def _on_history(self) -> None:
        """Show one of the clusters that a click in the history has changed, or their image."""
        review, steps = self.review, self.state.history
        if review is not None:
            review.go_to_changed()
            focus_canvas(self.binding.viewer)
        elif len(steps) or steps.undone:  # before the first: where that was
            self.binding.edits.show_step(steps[-1] if len(steps) else steps.undone[-1])

    # ---- showing
    def refresh(self) -> None:
        analysed = any(self.state.analysis(i) is not None for i in self.state.images)
        self._show_form()
        self.button.setEnabled(self.review is not None or (analysed and not self.state.read_only))
        self._show_hint(analysed)
        self._show_review()

    def _show_review(self) -> None:
        review = self.review
        for widget in (self.bar, self.answers, self.words):
            widget.setVisible(review is not None)
        self._show_accuracy(review)
        self.pace.setText("" if review is None else format_speed(review))
        self.pace.setVisible(review is not None)
        if review is not None:
            self.bar.setMaximum(max(review.n, 1))
            self.bar.setValue(review.n_done)
            self.bar.setFormat(f"Reviewed {format_progress(review)}")
            self.answers.show_review(review)

    def _show_hint(self, analysed: bool) -> None:
        words = "" if analysed else NO_CLUSTERS
        if self.state.read_only:
            words = "The project is read-only: it is open in another window, or may not be written."
        self.hint.setText(words)

    def _choose_order(self, index: int) -> None:
        self._chosen_order = index
        self._show_form()

    def _show_form(self) -> None:
        review = self.review
        if review is None:
            self._offer_orders()
        order = str(self.order.currentData())
        tooltip = self.order.itemData(self.order.currentIndex(), Qt.ItemDataRole.ToolTipRole)
        self.order.setToolTip(tooltip)
        wanted = {
            self.label: order == "class",
            self.number: order == "sample",
            self.seed: ORDERS[order].estimates,
        }
        kept = self._has_kept()
        self.button.setText(END if review is not None else GO_ON if kept else START)
        self.draw_button.setVisible(kept if review is None else review.queue.order.estimates)
        for field, visible in wanted.items():
            field.setVisible(visible and not kept)
            self._row[field].setVisible(visible and not kept)
        self.again.setVisible(order != "sample")
        for widget in (self.scope, self.again, self.by_image):
            widget.setEnabled(not kept)
        self.form.setVisible(review is None)
        if review is None:
            self._fill_labels()

    def _offer_orders(self) -> None:
        """Disable the orders that the clusters do not allow; show the chosen one or the first."""
        table, model = self.state.table(), self.order.model()
        orders = orders_of(table)
        reasons = [order.missing(table) if len(table) else "" for order in orders.values()]
        sample = list(ORDERS).index("sample")
        go_on = self.state.blind and self._sample_of_project() is not None
        if go_on:  # it was drawn by the predictions that are hidden now
            reasons[sample] = ""
        for i, (order, reason) in enumerate(zip(orders.values(), reasons, strict=True)):
            model.item(i).setEnabled(not reason)
            self.order.setItemText(i, order.title)
            tooltip = f"{order.what} Not available: {reason}." if reason else order.what
            self.order.setItemData(i, tooltip, Qt.ItemDataRole.ToolTipRole)
        shown = self._chosen_order
        if reasons[shown] and not all(reasons):
            shown = sample if go_on else reasons.index("")
        with QSignalBlocker(self.order):  # what a person has chosen is remembered
            self.order.setCurrentIndex(shown)

    def _fill_labels(self) -> None:
        classes = self.state.classes()
        names = [*classes, UNKNOWN, AGGREGATE]
        every = ALL_LABELS if has_predictions(self.state.table()) else "all"
        self.label.setItemText(0, every)
        if [self.label.itemData(i) for i in range(1, self.label.count())] == names:
            return
        chosen = self.label.currentData()
        with QSignalBlocker(self.label):
            self.label.clear()
            self.label.addItem(every, "")
            for name in names:
                icon = glyph_icon(symbol_of(name, classes), colour_of(name, classes))
                self.label.addItem(icon, name, name)
            self.label.setCurrentIndex(max(0, self.label.findData(chosen)))

    def _show_accuracy(self, review: Reviewing | None) -> None:
        found = None if review is None else review.accuracy()
        bars = [] if self.state.blind else accuracy_bars(found, self.state.classes())
        self.chart.bars = bars
        self.chart.setVisible(bool(bars))
        if review is not None:
            self.words.setText(format_accuracy(review, found))

    # ---- keys
    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Of a dock that floats no key would reach the canvas."""
        floats = self.window() is not self.binding.viewer.window._qt_window
        if self.review is not None and floats and not in_text_field(self.window(), event):
            again = QKeyEvent(QEvent.Type.KeyPress, event.key(), event.modifiers(), event.text())
            QApplication.sendEvent(self.binding.viewer.window._qt_viewer.canvas.native, again)
            return
        super().keyPressEvent(event)
