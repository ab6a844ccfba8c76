"""Several people: who works here, blind or not; how far annotators agree, and where not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd
from qtpy.QtCore import QModelIndex, QSignalBlocker, Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QPushButton

from ....core.errors import AtomicityError
from ....core.tables.cluster_table import Key
from ....core.text import first_names, pluralise
from ....project import MergeReport, Project
from ....state.review_queue import queue_of
from ....state.reviewing import Reviewing
from ....statistics.annotators.agreement import (
    CONSENSUS,
    NOT_A_CLUSTER,
    AgreementFigure,
    Opinions,
    confusion,
    opinions,
)
from ...controls.forms import ComboBox, fill_column, wrapped_label
from ...controls.line_table import Lines, table_of
from ...controls.questions import attempt, show_error, show_info
from ...controls.refresher import FollowingWidget, follow
from ...panels.workbench_bar import NO_PROJECT
from ...tasks import start
from ...viewer.binding import Binding

_PROJECTS = "Projects (*.atomicity)"


def opinions_in(project: Project) -> Opinions:
    """Compute the agreement of annotators from the log of a project, in a worker."""
    return opinions(project.corrections())


# ---- words
def format_figure(figure: AgreementFigure) -> str:
    """``0.82 (0.74–0.90)``; a dash where it is not defined."""
    if not math.isfinite(figure.value):
        return "–"
    return f"{figure.value:.2f} ({figure.low:.2f}–{figure.high:.2f})"


def format_merged(report: MergeReport) -> str:
    """Describe the result of merging another project."""
    said = [_format_added(report), *_format_entries(report)]
    if n := report.n_changes:
        said.append(
            f"There, {pluralise(n, 'cluster')} {'was' if n == 1 else 'were'} added, moved or "
            "removed: the log tells it, and the clusters here stay as they are"
        )
    if n := sum(report.replaced.values()):
        clusters = pluralise(n, "cluster")
        said.append(
            f"Not taken over: {clusters} of {first_names(tuple(report.replaced), 3)} that "
            f"{'was' if n == 1 else 'were'} split or merged there. Here "
            f"{'it stays as it is' if n == 1 else 'they stay as they are'}"
        )
    if report.excluding:
        said.append(
            f"Not taken over: excluded regions of {first_names(report.excluding, 3)}. Their "
            "clusters count here until you exclude them"
        )
    if n := report.n_marks_lost:
        marks = pluralise(n, "mark")
        said.append(f"Not taken over: {marks} of atoms in images that are not here")
    if n := len(report.disagreements):
        said.append("1 label differs" if n == 1 else f"{n} labels differ")
    # Of a cluster that somebody has labelled twice, or added and labelled, one label is missing.
    lost = report.unmatched.drop_duplicates(["image", "cluster_id", "annotator"], keep="last")
    if len(lost):
        reasons = lost["why"].value_counts()
        why = "; ".join(f"{n}: {w}" if len(reasons) > 1 else w for w, n in reasons.items())
        said.append(f"{len(lost)} could not be brought in ({why})")
    return ". ".join(said) + "."


def _format_added(report: MergeReport) -> str:
    both = f"{pluralise(report.n_images, 'image')} that both have"
    counts = {
        pluralise(report.n_labels, "new label"): report.n_labels,
        pluralise(report.n_marks, "new mark") + " of atoms, made blind": report.n_marks,
    }
    new = "; ".join(text for text, n in counts.items() if n)
    if new:
        return f"From {', '.join(report.annotators)} in {both}: {new}"
    added = report.added.values()
    if n := sum(bool(e.corrections or e.marks or e.viewers or e.withdrawn) for e in added):
        return (
            f"No new labels or marks. In {pluralise(n, 'image')}, something else is new, such as "
            "labels or marks that were withdrawn, or a review"
        )
    if added:
        return f"No new labels or marks in the {both}"
    if not report.n_images:
        return "Nothing new: no image is in both projects"
    return f"Nothing new: no label or mark was added to the {both}"


_ENTRIES = {
    "session": "session",
    "sample": "sample",
    "known": "known sample",
    "earlier": "instrument of an earlier session",
    "pixel_size_error": "error of the pixel size",
}


def _format_entries(report: MergeReport) -> list[str]:
    """Say which sessions and samples of images were taken over."""
    changed = [entries.session for entries in report.added.values() if entries.session is not None]
    parts = []
    for name, noun in _ENTRIES.items():
        pairs = [(getattr(before[0], name), getattr(after[0], name)) for before, after in changed]
        values = [after for before, after in pairs if after != before]
        if values:
            names = list(dict.fromkeys(values)) if name in ("session", "sample") else []
            of = f" ({first_names(names, 3)})" if names else ""
            parts.append(f"{noun} of {pluralise(len(values), 'image')}{of}")
    return [f"Taken over: {'; '.join(parts)}"] if parts else []


def format_annotators(found: Opinions) -> str:
    """Who has judged how many, and what that means for the figures."""
    if found.annotators.empty:
        return "No labels yet."
    is_deleted = found.labels["label"] == NOT_A_CLUSTER
    n_deleted = found.labels.loc[is_deleted, "annotator"].value_counts()
    who = "; ".join(
        f"{row.annotator!s}: {pluralise(row.n, 'cluster')}"
        + (f", {row.n_blind!s} blind" if row.n_blind else "")
        + (f", {n_deleted[row.annotator]} deleted" if row.annotator in n_deleted else "")
        for row in found.annotators.itertuples()
    )
    n = found.agreement.n_items
    if len(found.annotators) < 2:
        return f"{who}. For a comparison, another person must label the same clusters blind."
    if not n:
        return f"{who}. They have no cluster in common."
    return f"{who}. {n} in common. {found.warning}".rstrip()


def rows_of(found: Opinions, order: Sequence[str]) -> list[tuple[str, ...]]:
    """Lines of the table of figures: all labels, then each of them; label, equal, κ, α."""
    agreed = found.agreement
    if not agreed.n_items:
        return []
    both = (agreed.kappa, agreed.alpha)
    lines = [
        ("all", _equal(agreed.share.value, agreed.n_items, "cluster"), *map(format_figure, both))
    ]
    place = {name: i for i, name in enumerate(order)}
    rows = sorted(agreed.by_label.itertuples(), key=lambda r: place.get(r.label, len(place)))
    for row in rows:
        figures = [
            AgreementFigure(*(getattr(row, f"{name}{end}") for end in ("", "_low", "_high")))
            for name in ("kappa", "alpha")
        ]
        lines.append((row.label, _equal(row.share, row.n, "answer"), *map(format_figure, figures)))
    return lines


def _equal(share: float, n: int, noun: str) -> str:
    return f"{100 * share:.0f} % of {pluralise(n, noun)}" if math.isfinite(share) else "–"


# ---- agreement
class AnnotatorPanel(FollowingWidget):
    """Merge another person's project, see how far annotators agree, and settle the rest."""

    HEADERS = ("Label", "Equal", "Cohen's κ", "Krippendorff's α")
    TOOLTIPS = (
        "All labels together, or one of them against the rest.",
        "All: clusters of which all say the same, of those that several have judged. One label: "
        "answers whose other answers to the same cluster are equal, of those with it.",
        "Agreement beyond chance of two annotators, with its 95 % interval: 1 always, 0 as chance "
        "would. Only where there are two.",
        "Agreement beyond chance of any number of annotators, with its 95 % interval.",
    )
    follows = ("changed", "project_changed")
    delay_ms = 200

    def __init__(self, binding: Binding) -> None:
        super().__init__(binding.refresher)
        self.binding, self.state = binding, binding.state
        self.found: Opinions | None = None
        self._keys: list[Key] = []
        self._build()
        follow(self, self.state.project_changed, self._on_project)
        self._show(None)

    def _build(self) -> None:
        self.merge_button = QPushButton("Merge another project…")
        self.merge_button.setToolTip(
            "Merge the labels of another person from a copy of this project. Yours count "
            "where both have spoken; nothing is lost."
        )
        self.merge_button.clicked.connect(self.merge)
        self.words = wrapped_label("Annotators", plain=True)
        self.figures = Lines(self.HEADERS, self.TOOLTIPS, self)
        self.figure_view = table_of(self.figures, "Agreement", 12)
        self.confusion = Lines((), (), self)
        self.confusion_view = table_of(self.confusion, "What two annotators say", 10)
        self.pair = ComboBox()
        self.pair.setAccessibleName("Two annotators")
        self.pair.setToolTip("Whose labels are set against each other: rows the first's.")
        self.pair.currentIndexChanged.connect(self._show_pair)
        self.where = wrapped_label(lines=2)  # else a settlement moves the buttons below
        self.disagreements = Lines((), (), self)
        self.disagreement_view = table_of(self.disagreements, "Disagreements", 8)
        self.disagreement_view.clicked.connect(self._on_clicked)
        self.disagreement_view.activated.connect(self._on_clicked)
        self.settle_button = QPushButton("Settle one by one")
        self.settle_button.setToolTip(
            "Review the clusters of which annotators disagree and that are not settled yet, with "
            f"the keys of a review. Agreed labels are saved as '{CONSENSUS}', and the "
            "figures stay those of the annotators."
        )
        self.settle_button.clicked.connect(self.settle)
        self.settle_as = ComboBox()
        self.settle_as.setAccessibleName("Settle the chosen ones as")
        self.settle_as.setToolTip(
            "What the rows chosen in the list are: as one of the annotators says, or a label."
        )
        self.settle_as.activated.connect(self._on_settle_as)
        fill_column(
            self, self.merge_button, self.words, self.figure_view, self.pair, self.confusion_view,
            self.where, self.disagreement_view, self.settle_button, self.settle_as,
        )  # fmt: skip

    # ---- following
    def _on_project(self) -> None:
        """Hide the labels of others at once, since blind mode may have begun."""
        if self.found is not None:
            self._show(None)

    def refresh(self) -> None:
        project = self.state.project
        # In blind mode not even the clusters of which the others disagree are shown.
        if project is None or self.state.blind:
            self._show(None)
            return
        start(
            self.state, opinions_in, project, on_result=self._show, on_error=self._failed,
            key="agreement", owner=self,
        )  # fmt: skip

    def _failed(self, error: BaseException) -> None:
        self._show(None)

    # ---- showing
    def _show(self, found: Opinions | None) -> None:
        if self.state.blind or self.state.project is None:
            found = None
        self.found = found
        may_merge = self.state.project is not None and not self.state.read_only
        self.merge_button.setEnabled(may_merge and not self.state.blind)
        if found is None:
            blind = "Leave blind mode to compare your labels with those of others."
            self.words.setText(blind if self.state.blind else NO_PROJECT)
            self.figures.show([])
            self._keys = []
        else:
            self.words.setText(format_annotators(found))
            self.figures.show(rows_of(found, self._order()), classes=self.state.classes())
        there = bool(self.figures.lines)
        self.figure_view.setVisible(there)
        pairs = found.agreement.pairs if found is not None else pd.DataFrame()
        with QSignalBlocker(self.pair):
            before = self.pair.currentText()
            self.pair.clear()
            for row in pairs.itertuples():
                self.pair.addItem(f"{row.a} (rows) and {row.b} (columns)", (row.a, row.b))
            self.pair.setCurrentIndex(max(0, self.pair.findText(before)))
        self._show_pair()
        self._show_disagreements()

    def _order(self) -> list[str]:
        return self.state.classes()

    def _show_pair(self) -> None:
        chosen = self.pair.currentData()
        table = pd.DataFrame()
        if chosen and self.found is not None:
            table = confusion(self.found.labels, *chosen, order=self._order())
        lines = [(str(i), *(str(v) if v else "·" for v in row)) for i, row in zip(
            table.index, table.to_numpy(), strict=True
        )]  # fmt: skip
        self.confusion.show(lines, ["", *map(str, table.columns)], self.state.classes())
        for widget in (self.pair, self.confusion_view):
            widget.setVisible(bool(lines))

    def _show_disagreements(self) -> None:
        found = self.found
        frame = found.agreement.disagreements if found is not None else pd.DataFrame()
        who = [c for c in frame.columns if c != "item"]
        self._keys = list(frame["item"]) if len(frame) else []
        settled = [
            # Settled in another project, whose deletions are not taken over.
            "" if done == NOT_A_CLUSTER and self._is_there(key) else done
            for key, done in zip(self._keys, found.settled if found else (), strict=True)
        ]
        lines = [
            (f"{image} {cluster_id}", *said, machine or "–", done)
            for (image, cluster_id), said, machine, done in zip(
                self._keys, frame[who].to_numpy() if len(frame) else (),
                found.machine if found is not None else (), settled, strict=True,
            )
        ]  # fmt: skip
        self.disagreements.show(
            lines, ["Cluster", *who, "Machine", "Settled"], self.state.classes()
        )
        self.disagreements.faint = {i for i, done in enumerate(settled) if done}
        n, n_settled = len(lines), sum(map(bool, settled))
        several = found is not None and found.agreement.n_items > 0
        words = pluralise(n, "disagreement") + (f", {n_settled} settled" if n_settled else "")
        self.where.setText(f"{words}. A click goes there." if n else "They agree on all of them.")
        self.where.setVisible(several)
        for widget in (self.disagreement_view, self.settle_button, self.settle_as):
            widget.setVisible(n > 0)
        self.settle_button.setEnabled(n > n_settled and not self.state.read_only)
        self.settle_as.setEnabled(n > 0 and not self.state.read_only)
        with QSignalBlocker(self.settle_as):
            self.settle_as.clear()
            self.settle_as.addItem("Settle the chosen as…", None)
            for column, name in enumerate(who, start=1):
                self.settle_as.addItem(f"as {name} says", column)
            for label in self._order():
                self.settle_as.addItem(label, label)

    # ---- what a person does
    def merge(self) -> None:
        """Ask for a project and take it in."""
        folder = str(self.state.project.path.parent) if self.state.project else ""
        path, _ = QFileDialog.getOpenFileName(self, "Merge another project", folder, _PROJECTS)
        if path:
            self.merge_from(Path(path))

    def merge_from(self, path: Path) -> None:
        """Take in another project and say what came of it."""
        QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
        try:
            report = self.state.merge(path)
        except AtomicityError as error:
            show_error(str(error))
        else:
            show_info(escape(format_merged(report), quote=False))
        finally:
            QApplication.restoreOverrideCursor()

    def _on_clicked(self, index: QModelIndex) -> None:
        key = self._keys[index.row()]
        self.state.select([key])
        self.state.request_focus(key)

    def remark(self, row: int) -> str:
        """Describe the labels of annotators and model for a cluster in the list."""
        headers, line = self.disagreements.headers, self.disagreements.lines[row]
        said = [f"{who}: {what}" for who, what in zip(headers[1:-1], line[1:-1], strict=True)]
        return "   ".join(s for s in said if not s.endswith(": "))

    def _is_there(self, key: Key) -> bool:
        analysis = self.state.analysis(key[0])
        return analysis is not None and bool((analysis.column("cluster_id") == key[1]).any())

    def settle(self) -> None:
        """Review what is not settled, the answers in the name of all."""
        open_rows = [i for i, line in enumerate(self.disagreements.lines) if not line[-1]]
        rows = [i for i in open_rows if self._is_there(self._keys[i])]
        if not rows:
            show_info("The remaining clusters are no longer in the table.")
            return
        keys = [self._keys[i] for i in rows]
        self.binding.label_mode.review = Reviewing(
            self.state,
            queue_of(keys),
            annotator=CONSENSUS,
            remarks={key: self.remark(i) for key, i in zip(keys, rows, strict=True)},
        )

    def _on_settle_as(self, index: int) -> None:
        chosen = self.settle_as.itemData(index)
        self.settle_as.setCurrentIndex(0)
        rows = sorted({i.row() for i in self.disagreement_view.selectionModel().selectedRows()})
        if chosen is None or not rows:
            if chosen is not None:
                show_info("Choose rows of the list first.")
            return
        lines = self.disagreements.lines
        labels = {
            self._keys[i]: chosen if isinstance(chosen, str) else lines[i][chosen] for i in rows
        }
        self._settle({key: label for key, label in labels.items() if label})

    def _settle(self, labels: dict[Key, str]) -> None:
        if not labels:
            show_info("This annotator has not judged the chosen ones.")
            return
        there = {key: label for key, label in labels.items() if self._is_there(key)}
        if len(there) < len(labels):
            n = pluralise(len(labels) - len(there), "chosen cluster")
            show_info(f"{n} not settled: no longer in the table. Undo the removal to settle.")
        if not there:
            return
        review = Reviewing(self.state, queue_of(list(there)), annotator=CONSENSUS)
        try:
            attempt(lambda: review.answer_all(there))
        finally:
            review.close()
