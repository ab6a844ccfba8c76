"""Edits: what a person does to the clusters of an image, and how to undo it.

Every edit is a value with `apply` and `revert`, plain functions from analysis to analysis. Undo and
redo replay edits and never compare arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

import numpy as np

from ..atoms.marks import ImageAtoms, Mark
from ..core.acquisition_session import SessionEntry
from ..core.micrograph import Micrograph
from ..models.analysis import Analysis
from ..project import EditKind, MergedEntries
from ..tracking.tracks import Tracking, with_tracking
from .cluster_rows import ClusterRows, ids_of, insert_rows, remove_rows, take_rows

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Edit(Generic[T]):
    """An edit of one image: it sets something from `before` to `after`.

    ``T`` is what the edit changes: the `Analysis` of the image, or its atoms.
    """

    image: str
    before: Any
    after: Any
    description: str = ""
    kind: EditKind = EditKind.GEOMETRY
    author: str = ""
    """Annotator who made the edit; "" before it is done."""

    def _set(self, now: T | None, old: Any, new: Any) -> T | None:
        """Return the analysis with the new value instead of the old one."""
        return new

    def apply(self, now: T | None) -> T | None:
        """Return the analysis after the edit."""
        return self._set(now, self.before, self.after)

    def revert(self, now: T | None) -> T | None:
        """Return the analysis without the edit."""
        return self._set(now, self.after, self.before)

    def refreshed(self, now: T | None, undo: bool) -> Self:
        """Return the edit as it must be just before it is reverted or applied again.

        It takes up what a model has added in the meantime, for example the prediction of a
        cluster added by hand, which undo and redo would otherwise lose.
        """
        if undo:
            return replace(self, after=self._renewed(self.after, now))
        return replace(self, before=self._renewed(self.before, now))

    def _renewed(self, value: Any, now: T | None) -> Any:
        """Return a value with what a model has added to it in the meantime."""
        return value

    @property
    def cluster_ids(self) -> frozenset[int] | None:
        """Clusters that the edit may change; None: any."""
        return None


AnyEdit = TypeVar("AnyEdit", bound=Edit)


def with_author(edit: AnyEdit, author: str) -> AnyEdit:
    """Return the edit with its author; one that has an author keeps it."""
    return edit if edit.author else replace(edit, author=author)


@dataclass(frozen=True, eq=False)
class SetAnalysis(Edit[Analysis]):
    """Replace the analysis of an image by a new result."""

    before: Analysis | None
    after: Analysis | None
    description: str = "analyse"
    kind: EditKind = EditKind.ANALYSIS
    """`PREDICTION` if clusters and labels are the same, and only the predictions differ."""

    def _renewed(self, value: Analysis | None, now: Analysis | None) -> Analysis | None:
        return now


@dataclass(frozen=True, eq=False)
class SetSessionRecord(Edit[Analysis]):
    """Set what its session tells of an image whose labels stay; None: nothing."""

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    description: str = "session"
    kind: EditKind = EditKind.ANALYSIS

    def _set(self, now: Analysis | None, old: Any, new: Any) -> Analysis | None:
        if now is None:
            return None
        told = {} if new is None else {"session": dict(new)}
        return replace(now, parameters={**now.own_parameters, **told})

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change."""
        return frozenset()


@dataclass(frozen=True, eq=False)
class Relabel(Edit[Analysis]):
    """Label clusters; "" takes the label away."""

    before: dict[int, str]
    after: dict[int, str]
    description: str = "relabel"
    kind: EditKind = EditKind.LABEL

    def _set(self, now: Analysis | None, old: Any, new: Any) -> Analysis | None:
        return None if now is None else now.with_corrections(new)

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change."""
        return frozenset(self.after)


@dataclass(frozen=True, eq=False)
class MergeLabels(Relabel):
    """Take in what the project has already: what others have said of an image, or its review.

    `before` and `after` are labels that count.
    """

    description: str = "merge"
    entries: MergedEntries = field(default_factory=MergedEntries)
    """What the project has of it."""


@dataclass(frozen=True, eq=False)
class ReplaceClusters(Edit[Analysis]):
    """Replace clusters by others: moved and measured again, split, or merged."""

    before: ClusterRows | None
    after: ClusterRows | None
    description: str = "move"  # without the number of clusters, which one step may have of several

    def _set(self, now: Analysis | None, old: Any, new: Any) -> Analysis | None:
        gone = ids_of(old) - ids_of(new)
        if now is not None and gone:
            now = remove_rows(now, gone)
        return now if now is None or new is None else insert_rows(now, new)

    def _renewed(self, value: ClusterRows | None, now: Analysis | None) -> ClusterRows | None:
        if now is None or value is None:
            return value
        return take_rows(now, value.table["cluster_id"])

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change."""
        return ids_of(self.before) | ids_of(self.after)


@dataclass(frozen=True, eq=False)
class AddClusters(ReplaceClusters):
    """Add clusters that a person points to: `before` is None."""

    description: str = "add"


@dataclass(frozen=True, eq=False)
class RemoveClusters(ReplaceClusters):
    """Remove what a person says are no clusters: `after` is None."""

    before: ClusterRows
    after: None = None
    description: str = "delete"


@dataclass(frozen=True, eq=False)
class SetRegions(Edit[Analysis]):
    """Set the excluded regions: polygons (M, 2) in pixels (y, x)."""

    before: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]

    def _set(self, now: Analysis | None, old: Any, new: Any) -> Analysis | None:
        return None if now is None else replace(now, regions=new)

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change."""
        return frozenset()


@dataclass(frozen=True, eq=False)
class SetTracks(Edit[Analysis]):
    """Set which clusters of different frames are the same."""

    before: Tracking | None
    after: Tracking | None
    description: str = "track"

    def _set(self, now: Analysis | None, old: Any, new: Any) -> Analysis | None:
        return None if now is None else with_tracking(now, new)

    @property
    def cluster_ids(self) -> frozenset[int]:
        """Clusters that the edit may change."""
        return frozenset(i for one in (self.before, self.after) if one for i in one.track)


ClusterEdit = SetAnalysis | SetSessionRecord | Relabel | ReplaceClusters | SetRegions | SetTracks


def before_edits(now: T | None, edits: Sequence[Edit[T]]) -> tuple[T | None, list[Edit[T]]]:
    """Return what there was before edits, and these as they must be to be applied again."""
    refreshed = []
    for edit in reversed(edits):
        refreshed.append(edit.refreshed(now, undo=True))
        now = refreshed[-1].revert(now)
    return now, refreshed[::-1]


# ---- what a person does to the atoms of an image, and how to undo it: see `edits`
@dataclass(frozen=True, eq=False)
class SetAtoms(Edit[ImageAtoms]):
    """Set the atoms of an image: another analysis, threshold or support."""

    before: ImageAtoms | None
    after: ImageAtoms | None
    description: str = "find atoms"
    kind: EditKind = EditKind.ATOMS


@dataclass(frozen=True, eq=False)
class SetMarks(Edit[ImageAtoms]):
    """Set marks of a person; None takes a mark back."""

    before: Mapping[int, Mark | None]
    after: Mapping[int, Mark | None]
    description: str = "mark atoms"
    kind: EditKind = EditKind.ATOMS

    def _set(self, now: ImageAtoms | None, old: Any, new: Any) -> ImageAtoms | None:
        return None if now is None else now.with_marks(new)


@dataclass(frozen=True, eq=False)
class SetAnnotation(Edit[Mapping[int, Mark]]):
    """Set the blind marks of the author in an image; None: the image was not viewed."""

    before: Mapping[int, Mark] | None
    after: Mapping[int, Mark] | None
    kind: EditKind = EditKind.ATOMS


AtomEdit = SetAtoms | SetMarks


# ---- what a person enters of the recording of an image, and how to undo it: see `edits`
@dataclass(frozen=True, eq=False)
class ImageContents:
    """What a window holds of an image."""

    micrograph: Micrograph
    analysis: Analysis | None
    atoms: ImageAtoms | None
    session: SessionEntry


@dataclass(frozen=True, eq=False)
class SetSession(Edit[SessionEntry]):
    """Set session and known sample of an image."""

    before: SessionEntry
    after: SessionEntry
    description: str = "acquisition session"
    kind: EditKind = EditKind.SESSION


def merge_edits(added: Mapping[str, MergedEntries]) -> list[Edit]:
    """Return the edits of what was added to a project already, by image."""
    edits: list[Edit] = []
    for image, entries in added.items():
        before, after = ({i: both[k] for i, both in entries.labels.items()} for k in (0, 1))
        edits.append(MergeLabels(image, before, after, entries=entries))
        if entries.session is not None:
            was, now = entries.session
            edits.append(SetSession(image, was[0], now[0]))
    return edits


@dataclass(frozen=True, eq=False)
class RemoveImage(Edit[ImageContents]):
    """Remove an image from the project and from the window; undo lists it again."""

    before: ImageContents
    after: None = None
    kind: EditKind = EditKind.LISTING

    def _set(
        self, now: ImageContents | None, old: Any, new: ImageContents | None
    ) -> ImageContents | None:
        return new if new is None or now is None else now  # its file may have been added again

    def _renewed(
        self, value: ImageContents | None, now: ImageContents | None
    ) -> ImageContents | None:
        return value if value is None else now or value


@dataclass(frozen=True, eq=False)
class SetPixelSize(Edit[float]):
    """Set the pixel size of an image in nm; None if it is not known."""

    before: float | None
    after: float | None
    kind: EditKind = EditKind.PIXEL_SIZE
