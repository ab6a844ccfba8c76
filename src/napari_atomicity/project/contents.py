"""What a project says of its images, and of another project that was merged into it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from ..atoms.marks import ImageAtoms
from ..core.acquisition_session import SessionEntry
from ..core.micrograph import Micrograph
from ..core.tables.table_cache import Columns
from ..models.analysis import Analysis
from .damage import as_text


# ---- what a project must know of an edit to record it: its kind, its author and its clusters
class EditKind(Enum):
    """What an edit changes, and with it what is logged and when it must be on disk."""

    LABEL = "label"
    """A person labels clusters. Every label is logged, also one that confirms the last."""
    GEOMETRY = "geometry"
    """A person adds, removes, moves, links or excludes clusters. Every change is logged."""
    PREDICTION = "prediction"
    """A model classifies the same clusters. Nothing is logged; written in the background."""
    ANALYSIS = "analysis"
    """A new analysis of an image. Nothing is logged but what the analysis changes of labels."""
    ATOMS = "atoms"
    """The atoms of an image, their marks or the support. Every changed mark is logged."""
    SESSION = "session"
    """The acquisition session of an image, or its known sample. Nothing is logged."""
    PIXEL_SIZE = "pixel size"
    """The pixel size of an image. Nothing is logged."""
    LISTING = "listing"
    """Whether an image is listed in the project. Nothing is logged."""


class RecordableEdit(Protocol):
    """An edit as `Project.record` takes it."""

    @property
    def image(self) -> str:
        """Name of the image."""
        ...

    @property
    def kind(self) -> EditKind:
        """What the edit changes."""
        ...

    @property
    def author(self) -> str:
        """Annotator who made the edit."""
        ...

    @property
    def cluster_ids(self) -> frozenset[int] | None:
        """Clusters that the edit may change; None: any."""
        ...


@dataclass(frozen=True)
class ImageEdit:
    """An edit of an image, described only as far as `Project.record` needs it."""

    image: str
    kind: EditKind
    author: str  # annotator who made the edit
    cluster_ids: frozenset[int] | None = None  # clusters that the edit may change; None: any


# ---- which of several labels of a cluster counts, and who disagrees with it
def settle(
    db: sqlite3.Connection, image_id: int, cluster_id: int
) -> list[tuple[str, int, str, str, str, str]]:
    """Store the label that counts according to the log."""
    log = db.execute(
        "SELECT annotator, label, blind, source, label_predicted FROM corrections c "
        "WHERE image_id = ? AND cluster_id = ? AND what = 'label' AND undoes IS NULL AND "
        "NOT EXISTS (SELECT 1 FROM corrections u WHERE u.undoes = c.correction_id) "
        "ORDER BY correction_id",
        (image_id, cluster_id),
    ).fetchall()
    label = label_that_counts(
        [(label, bool(blind), bool(source), who) for who, label, blind, source, _ in log]
    )
    db.execute(
        "UPDATE clusters SET label_corrected = ? WHERE image_id = ? AND cluster_id = ?",
        (label, image_id, cluster_id),
    )
    last = {annotator: said for annotator, said, *_ in log}
    others = {a: said for a, said in last.items() if said and label and said != label}
    name = db.execute("SELECT name FROM images WHERE image_id = ?", (image_id,)).fetchone()[0]
    predicted = next((row[4] for row in reversed(log) if row[4]), "")
    return [(name, cluster_id, label, said, a, predicted) for a, said in others.items()]


def labels_of_log(db: sqlite3.Connection, image_id: int) -> dict[int, str]:
    """Return the label that counts of each cluster of an image, according to the log."""
    said: dict[int, list[tuple[str, bool, bool, str]]] = {}
    for cluster_id, label, blind, source, who in db.execute(
        "SELECT cluster_id, label, blind, source, annotator FROM corrections c "
        "WHERE image_id = ? AND what = 'label' AND undoes IS NULL AND NOT EXISTS (SELECT 1 FROM "
        "corrections u WHERE u.undoes = c.correction_id) ORDER BY correction_id",
        (image_id,),
    ):
        one = as_text(label), bool(blind), bool(source), as_text(who)
        said.setdefault(cluster_id, []).append(one)
    return {cluster_id: label_that_counts(labels) for cluster_id, labels in said.items()}


def label_that_counts(
    said: list[tuple[str, bool, bool, str]],  # label, whether blind, whether merged, annotator
) -> str:
    """Return the label that counts of those that a cluster was given.

    It is the last one of this project that is not blind, else its last blind one, else the last one
    that was merged and is not blind, else the one that most of the annotators gave who were sent a
    picture of it: none of two that equally many gave, which is open to be settled. If the last one
    of this project was removed (""), those that came later count.
    """
    seen = [i for i, (_, blind, merged, _) in enumerate(said) if not blind and not merged]
    if seen and said[seen[-1]][0]:
        return said[seen[-1]][0]
    later = said[seen[-1] + 1 :] if seen else said
    own_blind = [label for label, blind, merged, _ in later if blind and not merged]
    merged_seen = [label for label, blind, merged, _ in later if merged and not blind]
    if own_blind or merged_seen:
        return (own_blind or merged_seen)[-1]
    last = {who: label for label, *_, who in later}
    votes = Counter(filter(None, last.values())).most_common(2)
    is_tied = len(votes) > 1 and votes[0][1] == votes[1][1]
    return "" if is_tied or not votes else votes[0][0]


# ---- addresses of entries that were merged
# The logs only grow: each time that a merge is taken back or done again, one more row says so. The
# first row has the address of the entry as its source, the others have a line break and their
# number behind it.
def address_of(source: object) -> str:
    """Return the address of the entry that a row of a log has as its source."""
    return str(source).partition("\n")[0]


def holds(n_rows: int) -> bool:
    """Return whether an entry with this number of rows is there: neither new nor taken back."""
    return n_rows % 2 == 1


def rows_by_address(db: sqlite3.Connection, log: str, start: str = "") -> Counter[str]:
    """Return how many rows of a log each merged entry has whose address begins with `start`."""
    rows = db.execute(
        f"SELECT source FROM {log} WHERE source >= ? AND source < ?", (start, f"{start}\U0010ffff")
    )
    return Counter(address_of(source) for (source,) in rows)


def entries_by_address(
    db: sqlite3.Connection,
    log: str,
    rows: Iterable[dict[str, Any]],
    address_here: Callable[[dict[str, Any]], str],  # of an entry that was made in this project
) -> dict[str, dict[str, Any]]:
    """Return the rows of a log by the address of their entry, without what is taken back."""
    found = {address_of(row["source"]) if row["source"] else address_here(row): row for row in rows}
    n_rows = rows_by_address(db, log)
    return {address: row for address, row in found.items() if holds(n_rows.get(address, 1))}


def next_source(address: str, n_rows: int) -> str:
    """Return the source of the next row of an entry."""
    return f"{address}\n{n_rows}" if n_rows else address


def source_to_add(address: str, n_rows: int) -> str:
    """Return the source with which an entry is added, unless it is there: then its row is."""
    return address if holds(n_rows) else next_source(address, n_rows)


StoredEntry = tuple[SessionEntry, str, str]
"""What was entered of the session of an image, with annotator and time."""


@dataclass(frozen=True, eq=False)
class MergedEntries:
    """What a merge has added to an image."""

    corrections: Sequence[int] = ()  # rows of this log, and of that of the marks
    marks: Sequence[int] = ()
    # annotators who have viewed the image, and of whom this was not known → time
    viewers: Mapping[str, str] = field(default_factory=dict)
    # annotators who have set the image as not reviewed → time of their review, or None if it is
    # reviewed at the time at which this is taken back
    withdrawn: Mapping[str, str | None] = field(default_factory=dict)
    # clusters whose label that counts is another one → the label before and after
    labels: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    # what was entered of the session before and after, each with annotator and time, if it differs
    session: tuple[StoredEntry, StoredEntry] | None = None


@dataclass(frozen=True, eq=False)
class ProjectImage:
    """An image of a project, described without its pixels.

    Parameters
    ----------
    name : str
        As in tables and layers.
    path : Path
        Where its file was last found.
    sha256 : str, optional
        Hash of the file; None before it was read.
    shape : tuple of int, optional
        Of the data: (Y, X) or (T, Y, X); None before it was read.
    pixel_size_nm : float, optional
        None if it is not known.
    state : str
        "new", "analysed", or "failed".
    error : str
        Why it failed.
    n_clusters, n_reviewed : int
        Number of clusters, and of those that a person has labelled.
    counts : dict of str to int
        Label → number of clusters.
    model_id : str, optional
        The model that made the predictions.
    thumbnail : bytes
        PNG; empty before the image was read.
    recorded : str, optional
        When it was recorded, if the file says so.
    """

    name: str
    path: Path
    sha256: str | None = None
    shape: tuple[int, ...] | None = None
    pixel_size_nm: float | None = None
    state: str = "new"
    error: str = ""
    n_clusters: int = 0
    n_reviewed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    model_id: str | None = None
    thumbnail: bytes = b""
    recorded: str | None = None


@dataclass(frozen=True, eq=False)
class ProjectContents:
    """What a project holds of an image.

    Parameters
    ----------
    micrograph : Micrograph
        Its pixels are read when they are used.
    analysis : Analysis, optional
        None if the image has not been analysed.
    next_id : int
        The id that the next new cluster gets.
    columns : Columns, optional
        Those of the cluster table.
    atoms : ImageAtoms, optional
        Atoms of the image.
    next_atom_id : int
        The id that the next new atom gets.
    damage : str
        Why a part could not be read; "" if all could.
    """

    micrograph: Micrograph
    analysis: Analysis | None = None
    next_id: int = 1
    columns: Columns | None = None
    atoms: ImageAtoms | None = None
    next_atom_id: int = 1
    damage: str = ""


@dataclass(frozen=True, eq=False)
class MergeReport:
    """Result of merging another project.

    Parameters
    ----------
    n_images : int
        Images that both have.
    n_new : int
        New entries of the log of corrections.
    annotators : tuple of str
        Annotators of the new entries.
    disagreements : pandas.DataFrame
        Columns image, cluster_id, mine, theirs, annotator, label_predicted.
    unmatched : pandas.DataFrame
        Columns image, cluster_id, label, annotator, why: labels that could not be merged.
    n_marks : int
        Atoms with a new blind mark that holds, or a changed one.
    n_marks_lost : int
        Atoms that are marked in images that are not here.
    added : dict of str to MergedEntries
        What was added, by image.
    n_labels : int
        New labels that hold: one of each annotator and cluster.
    n_changes : int
        Clusters that an annotator has added, moved or removed.
    excluding : tuple of str
        Images of the other project with excluded regions that this one does not have.
    replaced : dict of str to int
        Image → number of clusters that were split or merged there, and are whole here.
    """

    n_images: int
    n_new: int
    annotators: tuple[str, ...]
    disagreements: pd.DataFrame
    unmatched: pd.DataFrame
    n_marks: int = 0
    n_marks_lost: int = 0
    added: Mapping[str, MergedEntries] = field(default_factory=dict)
    n_labels: int = 0
    n_changes: int = 0
    excluding: tuple[str, ...] = ()
    replaced: Mapping[str, int] = field(default_factory=dict)
