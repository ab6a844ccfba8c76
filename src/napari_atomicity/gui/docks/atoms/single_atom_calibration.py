"""Clusters counted by the lone atoms of their image, beside what the network says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from qtpy.QtCore import QItemSelection, QItemSelectionModel, QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from ....atoms import cluster_atoms
from ....atoms.injection import InjectedAtoms
from ....atoms.marks import INJECTED, ImageAtoms
from ....core.cluster_table import classes_of
from ....core.errors import ModelError
from ....models.analysis import Analysis
from ....statistics.scores import atoms_of
from ... import tasks
from ...controls.connections import follow
from ...controls.line_table import Lines, table_of
from ...viewer.binding import Binding
from .cluster_links import ClusterLinks, unchanged
from .jobs import add_more, count_clusters, same_places

MAX_ROWS = 10
HEADERS = ("Cluster", "By its atoms", "Network", "Seen", "Note")
TOOLTIPS = (
    "Number of the cluster, as in the dock Table.",
    "Number of atoms: intensity of the cluster over that of a lone atom of the same image, with "
    "the 95 % interval.",
    "Label of the cluster: a person's, else the network's.",
    "Atoms at the threshold that lie in its outline. Many are not resolved: no count.",
    "Why there is no count; or that the network's label lies outside the interval.",
)
NO_ATOMS = "Find the atoms first: those that stand alone are the yardstick."
COUNTING = "Counting the clusters by the atoms …"
STOPPED = "Stopped, so nothing was counted. Close and open this part to count."
NO_CLUSTERS = "There are no clusters in this image: analyse it (dock Analyse) to count them."


def format_count(n: float, low: float, high: float) -> str:
    """``41 (36–47)``; a dash where there is no count."""
    return "–" if n != n else f"{n:.0f} ({low:.0f}–{high:.0f})"


def lines_of(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """The table that is shown, of what `cluster_atoms.make_cluster_table` gives."""
    return [
        (
            str(row.cluster_id),
            format_count(row.n_yardstick, row.n_yardstick_low, row.n_yardstick_high),
            row.label,
            str(row.n_atoms_found),
            row.yardstick_reason or _beside(row),
        )
        for row in rows.itertuples()
    ]


def _within(label: str, row: Any) -> bool:
    """Whether the atoms of a class lie in the interval of a count."""
    n = atoms_of(label)
    return n is not None and row.n_yardstick_low <= n <= row.n_yardstick_high


def _beside(row: Any) -> str:
    """What the count says where it contradicts the label; "" where it doesn't."""
    if not atoms_of(row.label) or _within(row.label, row):
        return ""
    possible = [name for name in row.yardstick_set.split("|") if _within(name, row)]
    return f"rather {' or '.join(possible)}" if possible else "no class fits"


def verdict(rows: pd.DataFrame) -> str:
    """How many were counted, how many of those as the network has it, and why not the others."""
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
    said = f"{len(counted)} of {len(rows)} clusters counted"
    if len(known):
        said += f"; the label of {agree} of {len(known)} lies in the interval"
    return said + (f". Not counted: {why}." if why else ".")


@dataclass(frozen=True, eq=False)
class _Missed:
    """What became of atoms that were put into an image, and of which."""

    atoms: ImageAtoms
    analysis: Analysis
    added: InjectedAtoms | None = None

    def is_of(self, atoms: ImageAtoms, analysis: Analysis) -> bool:
        """Whether it would be the same if they were put in anew."""
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


class SingleAtomCalibrationPart(QWidget):
    """The table of clusters; it is counted while somebody looks at it."""

    def __init__(
        self, binding: Binding, links: ClusterLinks, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._session = binding.state
        self._links = links
        self._of: tuple[object, ...] = ()
        self._counted: pd.DataFrame | None = None
        # What became of added atoms, and what is under way: marking must not wait for it anew.
        self._missed: _Missed | None = None
        self._adding: _Missed | None = None
        self.rows: pd.DataFrame | None = None
        """Of the image, from `cluster_atoms.make_cluster_table`; None where nothing was counted."""
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("Clusters counted by their atoms")
        self.model = Lines(HEADERS, TOOLTIPS, self)
        self.table = table_of(self.model, "Clusters counted by the atoms of their image", MAX_ROWS)
        self.table.setToolTip("A click selects the cluster, and the atoms in it.")
        self.together = QCheckBox("Select clusters and their atoms together")
        self.together.setToolTip(
            "Who selects a cluster, here or anywhere, selects the atoms in it, and the other way "
            "round; not while atoms are marked by hand. Default: on."
        )
        self.together.setChecked(True)
        self.together.toggled.connect(self._on_together)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words)
        layout.addWidget(self.table)
        layout.addWidget(self.together)
        self.table.selectionModel().selectionChanged.connect(self._on_rows)
        links.changed.connect(self._fill)
        follow(self, self._session.selection_changed, self._mark_rows)

    def _on_together(self, on: bool) -> None:
        self._links.on = on

    # ---- what the session says
    def update_now(self) -> None:
        """Count, if there is something new to count and somebody looks; else show what is known."""
        image = self._session.current
        atoms = self._session.atoms.of(image)
        analysis = None if image is None else self._session.analysis(image)
        if atoms is None or atoms.analysis is None:
            self._nothing(NO_ATOMS)
        elif analysis is None or not len(analysis.table):
            self._nothing(NO_CLUSTERS)
        elif self.isVisible():
            self._count(atoms, analysis)
            self._fill()

    def _nothing(self, words: str) -> None:
        self._of, self._counted, self.rows = (), None, None
        self.words.setText(words)
        self.table.hide()

    def _count(self, atoms: ImageAtoms, analysis: Analysis) -> None:
        assert atoms.analysis is not None
        wanted = (
            atoms.image, atoms.analysis.candidates, atoms.marks, analysis.outlines,
            atoms.support_added, atoms.support_removed, atoms.analysis.parameters.get(INJECTED),
        )  # fmt: skip
        if unchanged(wanted, self._of):
            return
        if not self._of or self._of[0] != atoms.image:
            self._counted = None
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
            self._session, count_clusters, atoms, analysis, on_result=self._take,
            on_error=self._fail, key="yardstick", owner=self, about=atoms.image,
        )  # fmt: skip

    def _add(self, atoms: ImageAtoms, analysis: Analysis) -> None:
        """Put atoms into the image first; once for all that is marked meanwhile."""
        if self._adding is not None and self._adding.is_of(atoms, analysis):
            return
        adding = self._adding = _Missed(atoms, analysis)

        def take(added: InjectedAtoms | None) -> None:
            self._missed = replace(adding, added=added)
            self._again()

        def fail(error: BaseException) -> None:
            # Without the model that found the atoms they are counted by as they are.
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
            self._session, add_more, atoms, analysis, message="Adding atoms to the image",
            on_result=take, on_error=fail, key="atoms for counting", owner=self,
            about=atoms.image, quiet_errors=True,
        )  # fmt: skip
        task.finished.connect(end)

    def _again(self) -> None:
        self._of = ()
        self.update_now()

    def _take(self, counted: pd.DataFrame) -> None:
        self._counted = counted
        self._fill()

    def _fail(self, error: BaseException) -> None:
        self._nothing(tasks.format_error(error))

    def _fill(self) -> None:
        image, counted = self._session.current, self._counted
        if image is None or counted is None or not self._of or self._of[0] != image:
            return
        table = self._session.table(image)
        atoms = self._session.atoms.table(image)
        held = atoms["atom_id"].map(self._links.held).astype("Int64")
        self.rows = cluster_atoms.make_cluster_table(table, counted, atoms.assign(cluster_id=held))
        self.words.setText(verdict(self.rows))
        with QSignalBlocker(self.table.selectionModel()):
            self.model.show(lines_of(self.rows), classes=classes_of(table))
        self.model.faint = {
            i for i, why in enumerate(self.rows["yardstick_reason"].tolist()) if why
        }
        self.table.setVisible(len(self.rows) > 0)
        self._mark_rows()

    def _mark_rows(self, *_: object) -> None:
        """Mark the rows of the clusters that are selected."""
        if self.rows is None:
            return
        image = self._session.current
        chosen = {i for name, i in self._session.selection if name == image}
        picked = QItemSelection()
        last = self.model.columnCount() - 1
        for row, cluster_id in enumerate(self.rows["cluster_id"].tolist()):
            if cluster_id in chosen:
                picked.select(self.model.index(row, 0), self.model.index(row, last))
        with QSignalBlocker(self.table.selectionModel()):
            self.table.selectionModel().select(
                picked, QItemSelectionModel.SelectionFlag.ClearAndSelect
            )
        self.table.viewport().update()

    # ---- what the person does
    def _on_rows(self, *_: object) -> None:
        image = self._session.current
        if self.rows is None or image is None:
            return
        ids = self.rows["cluster_id"].tolist()
        chosen = [index.row() for index in self.table.selectionModel().selectedRows()]
        self._session.select((image, ids[row]) for row in chosen)
