"""Edits: what a person does to the clusters of an image, and how to undo it.

Every edit is a value with `apply` and `revert`, plain functions from analysis to analysis. Undo and
redo replay edits and never compare arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import pandas as pd

from ..models.analysis import Analysis
from ..project import EditKind
from ..tracking.tracks import Tracking, with_tracking
from .cluster_rows import ClusterRows, ids_of, insert_rows, remove_rows, take_rows

_AnyEdit = TypeVar("_AnyEdit")


class Edit(Protocol):
    """An edit of the clusters of one image, and how to undo it."""

    @property
    def image(self) -> str:
        """Name of the image."""
        ...

    @property
    def description(self) -> str:
        """Text for the history."""
        ...

    @property
    def kind(self) -> EditKind:
        """What the edit changes."""
        ...

    @property
    def author(self) -> str:
        """Annotator who made the edit; "" before it is done."""
        ...

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        ...

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        ...

    def refreshed(self, analysis: Analysis | None, undo: bool) -> Edit:
        """Return the edit as it must be just before it is reverted or applied again.

        It takes up what a model has added in the meantime, for example the prediction of a
        cluster added by hand, which undo and redo would otherwise lose.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        ...

    @property
    def cluster_ids(self) -> frozenset[int] | None:
        """Clusters that it may change; None: any."""
        ...


@dataclass(frozen=True, eq=False)
class SetAnalysis:
    """Replace the analysis of an image by a new result."""

    image: str
    before: Analysis | None
    after: Analysis | None
    description: str = "analyse"
    kind: EditKind = EditKind.ANALYSIS
    """`PREDICTION` if clusters and labels are the same, and only the predictions differ."""
    author: str = ""

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        return self.after

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        return self.before

    def refreshed(self, analysis: Analysis | None, undo: bool) -> SetAnalysis:
        """Return the edit with the current rows; see `Edit.refreshed`.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        return replace(self, after=analysis) if undo else replace(self, before=analysis)

    @property
    def cluster_ids(self) -> None:
        """Clusters that the edit may change; None: any."""
        return None


@dataclass(frozen=True, eq=False)
class Relabel:
    """Label clusters; "" takes the label away."""

    image: str
    before: dict[int, str]
    after: dict[int, str]
    description: str = "relabel"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.LABEL

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        return _with_corrections(analysis, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        return _with_corrections(analysis, self.before)

    def refreshed(self, analysis: Analysis | None, undo: bool) -> Relabel:
        """Return the edit itself: it holds no rows that a model can change.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        return self

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change; None: any."""
        return frozenset(self.after)


@dataclass(frozen=True, eq=False)
class AddClusters:
    """Add clusters that a person points to."""

    image: str
    rows: ClusterRows
    description: str = "add"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.GEOMETRY

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        return None if analysis is None else insert_rows(analysis, self.rows)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        return None if analysis is None else remove_rows(analysis, self.rows.table["cluster_id"])

    def refreshed(self, analysis: Analysis | None, undo: bool) -> AddClusters:
        """Return the edit with the current rows; see `Edit.refreshed`.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        return replace(self, rows=_renewed(self.rows, analysis)) if undo else self

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change; None: any."""
        return ids_of(self.rows)


@dataclass(frozen=True, eq=False)
class RemoveClusters:
    """Remove what a person says are no clusters."""

    image: str
    rows: ClusterRows
    description: str = "delete"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.GEOMETRY

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        return None if analysis is None else remove_rows(analysis, self.rows.table["cluster_id"])

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        return None if analysis is None else insert_rows(analysis, self.rows)

    def refreshed(self, analysis: Analysis | None, undo: bool) -> RemoveClusters:
        """Return the edit with the current rows; see `Edit.refreshed`.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        return self if undo else replace(self, rows=_renewed(self.rows, analysis))

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change; None: any."""
        return ids_of(self.rows)


@dataclass(frozen=True, eq=False)
class ReplaceClusters:
    """Replace clusters by others: moved and measured again, split, or merged."""

    image: str
    before: ClusterRows
    after: ClusterRows
    description: str = "move"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.GEOMETRY

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        return _exchanged(analysis, self.before, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        return _exchanged(analysis, self.after, self.before)

    def refreshed(self, analysis: Analysis | None, undo: bool) -> ReplaceClusters:
        """Return the edit with the current rows; see `Edit.refreshed`.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        if undo:
            return replace(self, after=_renewed(self.after, analysis))
        return replace(self, before=_renewed(self.before, analysis))

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change; None: any."""
        return ids_of(self.before) | ids_of(self.after)


@dataclass(frozen=True, eq=False)
class SetRegions:
    """Set the excluded regions: polygons (M, 2) in pixels (y, x)."""

    image: str
    before: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]
    description: str = "exclude regions"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.GEOMETRY

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        return None if analysis is None else replace(analysis, regions=self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        return None if analysis is None else replace(analysis, regions=self.before)

    def refreshed(self, analysis: Analysis | None, undo: bool) -> SetRegions:
        """Return the edit itself: it holds no rows that a model can change.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        return self

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change; None: any."""
        return frozenset()


@dataclass(frozen=True, eq=False)
class SetTracks:
    """Set which clusters of different frames are the same."""

    image: str
    before: Tracking | None
    after: Tracking | None
    description: str = "track"
    author: str = ""
    kind: ClassVar[EditKind] = EditKind.GEOMETRY

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis after the edit."""
        return None if analysis is None else with_tracking(analysis, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        """Return the analysis without the edit."""
        return None if analysis is None else with_tracking(analysis, self.before)

    def refreshed(self, analysis: Analysis | None, undo: bool) -> SetTracks:
        """Return the edit itself: it holds no rows that a model can change.

        Parameters
        ----------
        analysis : Analysis or None
            The analysis as it is now.
        undo : bool
            Whether the edit is about to be reverted.
        """
        return self

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change; None: any."""
        return frozenset(i for one in (self.before, self.after) if one for i in one.track)


def with_author(edit: _AnyEdit, author: str) -> _AnyEdit:
    """Return the edit with its author; one that has an author keeps it."""
    signed: Any = edit
    return signed if signed.author else replace(signed, author=author)


def _exchanged(analysis: Analysis | None, out: ClusterRows, into: ClusterRows) -> Analysis | None:
    if analysis is None:
        return None
    gone = ids_of(out) - ids_of(into)
    return insert_rows(remove_rows(analysis, gone) if gone else analysis, into)


def _renewed(rows: ClusterRows, analysis: Analysis | None) -> ClusterRows:
    return rows if analysis is None else take_rows(analysis, rows.table["cluster_id"])


def _with_corrections(analysis: Analysis | None, labels: dict[int, str]) -> Analysis | None:
    if analysis is None:
        return None
    # As arrays: a step may concern hundreds of images.
    table = analysis.table
    corrected = table["label_corrected"].to_numpy(object, copy=True)
    for row, cluster_id in enumerate(table["cluster_id"].tolist()):
        if cluster_id in labels:
            corrected[row] = labels[cluster_id]
    label = np.where(corrected != "", corrected, table["label_predicted"].to_numpy(object))
    return replace(
        analysis,
        table=table.assign(
            label_corrected=pd.Series(corrected, table.index, dtype=object),
            label=pd.Series(label, table.index, dtype=object),
        ),
    )
