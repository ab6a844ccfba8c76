"""Single-atom calibration: clusters counted by the intensity of the isolated atoms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd
from qtpy.QtCore import QItemSelection, QItemSelectionModel, QSignalBlocker
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox

from ....atoms import cluster_atoms
from ....atoms.injection import InjectedAtoms
from ....atoms.marks import INJECTED, ImageAtoms
from ....core.errors import ModelError
from ....core.tables.cluster_table import classes_of
from ....models.analysis import Analysis
from ....statistics.scores import atoms_of
from ... import tasks
from ...controls.forms import fill_column, wrapped_label
from ...controls.line_table import Lines, table_of
from ...controls.refresher import FollowingWidget
from ...viewer.binding import Binding
from .cluster_links import ClusterLinks, unchanged
from .jobs import count_clusters, inject_test_atoms, same_places

MAX_ROWS = 10
HEADERS = ("Cluster", "Calibrated", "Label", "Resolved", "Note")
TOOLTIPS = (
    "Number of the cluster, as in the dock Table.",
    "Number of atoms: intensity of the cluster over that of an isolated atom of the same image, "
    "with its 95 % interval.",
    "Label of the cluster: a manual correction, otherwise the prediction.",
    "Detected atoms inside the outline. Atoms in clusters are often not resolved.",
    "Reason for a missing count, or a conflict between the count and the label.",
)
BLIND = "Leave blind mode to see the counts of clusters."
NO_ATOMS = "Find the atoms first: isolated atoms calibrate the intensity."
COUNTING = "Counting the clusters …"
STOPPED = "Stopped. Close and open this part to count."
NOT_ANALYSED = "The clusters of this image are not known: analyse it (dock Analyse) to count them."
NO_CLUSTERS = "No clusters were found in this image."
OTHER_PIXEL_SIZE = (
    "Atoms and clusters were found with different pixel sizes, so that their intensities can't be "
    "compared: find the one that is out of date again."
)


def format_count(n: float, low: float, high: float) -> str:
    """Format ``41 (36–47)``; a dash without a count."""
    return "–" if n != n else f"{n:.0f} ({low:.0f}–{high:.0f})"


def lines_of(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the lines of the table from `cluster_atoms.make_cluster_table`."""
    return [
        (
            str(row.cluster_id),
            format_count(row.n_yardstick, row.n_yardstick_low, row.n_yardstick_high),
            row.label,
            str(row.n_atoms_found),
            row.yardstick_reason or _conflict(row),
        )
        for row in rows.itertuples()
    ]


def _within(label: str, row: Any) -> bool:
    """Return whether the size of a class is inside the interval of a count."""
    n = atoms_of(label)
    return n is not None and row.n_yardstick_low <= n <= row.n_yardstick_high


def _conflict(row: Any) -> str:
    """Return the classes that fit a count which contradicts the label; "" if it agrees."""
    if not atoms_of(row.label) or _within(row.label, row):
        return ""
    possible = [name for name in row.yardstick_set.split("|") if _within(name, row)]
    return f"rather {' or '.join(possible)}" if possible else "no class fits"


def verdict(rows: pd.DataFrame) -> str:
    """Format how many clusters were counted, their agreement with labels, and failures."""
    counted = rows[rows["yardstick_reason"] == ""]
    reasons = rows.loc[rows["yardstick_reason"] != "", "yardstick_reason"].value_counts()
    why = "; ".join(
        f"{reason} ({n})" if len(reasons) > 1 or len(counted) else reason
        for reason, n in reasons.items()
    )
    if not len(counted):
        return f"No cluster can be counted: {why}."
    known = [row for row in counted.itertuples() if atoms_of(row.label)]
    agree = sum(_within(row.label, row) for row in known)
    text = f"{len(counted)} of {len(rows)} clusters counted"
    if len(known):
        text += f"; the label of {agree} of {len(known)} is inside the interval"
    return text + (f". Not counted: {why}." if why else ".")


@dataclass(frozen=True, eq=False)
class _Missed:
    """Result of an injection-recovery test, and its inputs."""

    atoms: ImageAtoms
    analysis: Analysis
    added: InjectedAtoms | None = None

    def is_of(self, atoms: ImageAtoms, analysis: Analysis) -> bool:
        """Return whether a new test would have the same inputs."""
        before, now = self.atoms.analysis, atoms.analysis
        return (
            before is not None
            and now is not None
            and atoms.image == self.atoms.image
            and atoms.support_added is self.atoms.support_added
            and atoms.support_removed is self.atoms.support_removed
            and analysis.outlines is self.analysis.outlines
            and same_places(before.candidates, now.candidates)
        )


class SingleAtomCalibrationPart(FollowingWidget):
    """The table of clusters; they are counted while the part is visible."""

    follows = (
        "atoms_changed", "changed", "current_changed", "images_changed", "project_changed",
        "selection_changed",
    )  # fmt: skip

    def __init__(self, binding: Binding, links: ClusterLinks) -> None:
        super().__init__(binding.refresher)
        self._state = binding.state
        self._links = links
        self._of: tuple[object, ...] = ()
        self._counted: pd.DataFrame | None = None
        # The last and the running injection-recovery test, kept while atoms are marked.
        self._missed: _Missed | None = None
        self._adding: _Missed | None = None
        self.rows: pd.DataFrame | None = None
        """The table of `cluster_atoms.make_cluster_table` of the image; absent without a count."""
        self.words = wrapped_label("Clusters counted by their atoms")
        self.model = Lines(HEADERS, TOOLTIPS, self)
        self.table = table_of(self.model, "Clusters counted by the atoms of their image", MAX_ROWS)
        self.table.setToolTip("A click selects the cluster, and the atoms in it.")
        self.together = QCheckBox("Select clusters and their atoms together")
        self.together.setToolTip(
            "Selecting a cluster also selects its atoms, and the reverse, except during manual "
            "marking. Default: on."
        )
        self.together.setChecked(True)
        self.together.toggled.connect(partial(setattr, links, "on"))
        fill_column(self, self.words, self.table, self.together)
        self.table.selectionModel().selectionChanged.connect(self._on_rows)
        links.changed.connect(self.invalidate)

    # ---- changes of the state
    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        self.invalidate()  # so that counting that was stopped starts again
        super().showEvent(event)

    def refresh(self) -> None:
        """Count again if the inputs have changed."""
        image = self._state.current
        atoms = self._state.atoms.of(image)
        analysis = None if image is None else self._state.analysis(image)
        if self._state.blind:
            self._nothing(BLIND)
        elif atoms is None or atoms.analysis is None:
            self._nothing(NO_ATOMS)
        elif analysis is None:
            self._nothing(NOT_ANALYSED)
        elif not len(analysis.table):
            self._nothing(NO_CLUSTERS)
        elif atoms.pixel_size_nm != analysis.micrograph.pixel_size_nm:
            self._nothing(OTHER_PIXEL_SIZE)
        else:
            self._count(atoms, analysis)
            self._fill()

    def _nothing(self, message: str) -> None:
        self._of, self._counted, self.rows = (), None, None
        self.words.setText(message)
        self.table.hide()

    def _count(self, atoms: ImageAtoms, analysis: Analysis) -> None:
        assert atoms.analysis is not None
        wanted = (
            atoms.image, atoms.analysis.candidates, atoms.threshold, atoms.marks, analysis.outlines,
            atoms.support_added, atoms.support_removed, atoms.analysis.parameters.get(INJECTED),
        )  # fmt: skip
        if unchanged(wanted, self._of):
            return
        if not self._of or self._of[0] != atoms.image:
            self._counted = self.rows = None
            self.table.hide()
        self._of = wanted
        self.words.setText(COUNTING)
        if atoms.injected is None:
            known = self._missed
            if known is None or not known.is_of(atoms, analysis):
                self._add(atoms, analysis)
                return
            atoms = atoms.with_injected(known.added)
        tasks.start(
            self._state, count_clusters, atoms, analysis, on_result=self._take,
            on_error=self._fail, key="single-atom calibration", owner=self, about=atoms.image,
        )  # fmt: skip

    def _add(self, atoms: ImageAtoms, analysis: Analysis) -> None:
        """Run the injection-recovery test first, once for several marks."""
        if self._adding is not None and self._adding.is_of(atoms, analysis):
            return
        adding = self._adding = _Missed(atoms, analysis)

        def take(added: InjectedAtoms | None) -> None:
            self._missed = replace(adding, added=added)
            self._of = ()
            self.invalidate()

        def fail(error: BaseException) -> None:
            # Without the model that found the atoms, the count is not corrected.
            if isinstance(error, ModelError):
                take(None)
            else:
                self._fail(error)

        def end() -> None:
            if self._adding is not adding:
                return
            self._adding = None
            if self._missed is None or not self._missed.is_of(atoms, analysis):
                self._of = ()
                if self.words.text() == COUNTING:
                    self.words.setText(STOPPED)

        task = tasks.start(
            self._state, inject_test_atoms, atoms, analysis,
            message="Injecting atoms into the image", on_result=take, on_error=fail,
            key="atoms for counting", owner=self,
            about=atoms.image, quiet_errors=True,
        )  # fmt: skip
        task.finished.connect(end)

    def _take(self, counted: pd.DataFrame) -> None:
        self._counted = counted
        self._fill()

    def _fail(self, error: BaseException) -> None:
        self._nothing(tasks.format_error(error))

    def _fill(self) -> None:
        image, counted = self._state.current, self._counted
        if image is None or counted is None or not self._of or self._of[0] != image:
            return
        table = self._state.table(image)
        atoms = self._state.atoms.table(image)
        held = atoms["atom_id"].map(self._links.held).astype("Int64")
        self.rows = cluster_atoms.make_cluster_table(table, counted, atoms.assign(cluster_id=held))
        self.words.setText(verdict(self.rows))
        with QSignalBlocker(self.table.selectionModel()):
            self.model.show(lines_of(self.rows), classes=classes_of(table))
        self.model.faint = {
            i for i, why in enumerate(self.rows["yardstick_reason"].tolist()) if why
        }
        self.table.setVisible(len(self.rows) > 0)
        self.refresh_selection()

    def refresh_selection(self) -> None:
        """Select the rows of the clusters that are selected."""
        if self.rows is None:
            return
        image = self._state.current
        chosen = {i for name, i in self._state.selection if name == image}
        selection = QItemSelection()
        last = self.model.columnCount() - 1
        for row, cluster_id in enumerate(self.rows["cluster_id"].tolist()):
            if cluster_id in chosen:
                selection.select(self.model.index(row, 0), self.model.index(row, last))
        with QSignalBlocker(self.table.selectionModel()):
            self.table.selectionModel().select(
                selection, QItemSelectionModel.SelectionFlag.ClearAndSelect
            )
        self.table.viewport().update()

    # ---- actions of the user
    def _on_rows(self, *_: object) -> None:
        image = self._state.current
        if self.rows is None or image is None:
            return
        ids = self.rows["cluster_id"].tolist()
        chosen = [index.row() for index in self.table.selectionModel().selectedRows()]
        self._state.select((image, ids[row]) for row in chosen)
