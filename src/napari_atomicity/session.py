"""The session: what one window is looking at. Views listen to it; none is a source of truth.

Images, their analyses and the selection live here. Everything that a person changes is an edit
that can be applied and reverted; undo and redo replay edits and never compare pictures.
Neither Qt nor napari is known here: the binding is in ``widgets``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

import numpy as np
import pandas as pd
from psygnal import Signal
from scipy.spatial import cKDTree

from . import table as tables
from .analysis import Analysis
from .micrograph import Micrograph

Key = tuple[str, int]
"""A cluster everywhere in the session: (image name, cluster_id)."""


class Edit(Protocol):
    """Something that a person did to one image, and how to take it back.

    ``knowing(analysis, undo)`` is the same edit just before it is applied again or reverted: it
    takes up what the machine has found out meanwhile (a cluster added by hand has since been
    classified), which would otherwise be lost by an undo and a redo.
    """

    @property
    def image(self) -> str: ...

    @property
    def description(self) -> str: ...

    def apply(self, analysis: Analysis | None) -> Analysis | None: ...

    def revert(self, analysis: Analysis | None) -> Analysis | None: ...

    def knowing(self, analysis: Analysis | None, undo: bool) -> Edit: ...


@dataclass(frozen=True, eq=False)
class SetAnalysis:
    """A new result for an image takes the place of the old one."""

    image: str
    before: Analysis | None
    after: Analysis | None
    description: str = "analyse"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return self.after

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return self.before

    def knowing(self, analysis: Analysis | None, undo: bool) -> SetAnalysis:
        return replace(self, after=analysis) if undo else replace(self, before=analysis)


@dataclass(frozen=True, eq=False)
class Relabel:
    """A person's label for some clusters ("" takes the correction away)."""

    image: str
    before: dict[int, str]
    after: dict[int, str]
    description: str = "relabel"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return _with_corrections(analysis, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return _with_corrections(analysis, self.before)

    def knowing(self, analysis: Analysis | None, undo: bool) -> Relabel:
        return self


@dataclass(frozen=True, eq=False)
class Rows:
    """Full rows of an analysis, so that clusters can leave and come back as they were."""

    table: pd.DataFrame
    outlines: list[np.ndarray]
    patches: dict[str, np.ndarray]
    embedding: np.ndarray
    class_maps: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class AddClusters:
    """Clusters that a person points to."""

    image: str
    rows: Rows
    description: str = "add"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else insert_rows(analysis, self.rows)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else remove_rows(analysis, self.rows.table["cluster_id"])

    def knowing(self, analysis: Analysis | None, undo: bool) -> AddClusters:
        return replace(self, rows=_renewed(self.rows, analysis)) if undo else self


@dataclass(frozen=True, eq=False)
class RemoveClusters:
    """Clusters that a person says are none."""

    image: str
    rows: Rows
    description: str = "delete"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else remove_rows(analysis, self.rows.table["cluster_id"])

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else insert_rows(analysis, self.rows)

    def knowing(self, analysis: Analysis | None, undo: bool) -> RemoveClusters:
        return self if undo else replace(self, rows=_renewed(self.rows, analysis))


@dataclass(frozen=True, eq=False)
class ReplaceClusters:
    """Rows with the same ids take the place of others: moved, measured again, classified."""

    image: str
    before: Rows
    after: Rows
    description: str = "move"

    def apply(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else insert_rows(analysis, self.after)

    def revert(self, analysis: Analysis | None) -> Analysis | None:
        return None if analysis is None else insert_rows(analysis, self.before)

    def knowing(self, analysis: Analysis | None, undo: bool) -> ReplaceClusters:
        if undo:
            return replace(self, after=_renewed(self.after, analysis))
        return replace(self, before=_renewed(self.before, analysis))


def _renewed(rows: Rows, analysis: Analysis | None) -> Rows:
    return rows if analysis is None else take_rows(analysis, rows.table["cluster_id"])


def _with_corrections(analysis: Analysis | None, labels: dict[int, str]) -> Analysis | None:
    if analysis is None:
        return None
    table = analysis.table.copy()
    new = table["cluster_id"].map(labels)
    table["label_corrected"] = new.where(new.notna(), table["label_corrected"]).astype(object)
    return replace(analysis, table=tables.settle_labels(table))


def take_rows(analysis: Analysis, cluster_ids: Iterable[int]) -> Rows:
    """The rows of these clusters, in table order."""
    index = np.flatnonzero(analysis.table["cluster_id"].isin(list(cluster_ids)))
    if len(index) == len(analysis.table):  # the arrays are large and never written to
        return Rows(
            analysis.table.reset_index(drop=True),
            analysis.outlines,
            analysis.patches,
            analysis.embedding,
            analysis.class_maps,
        )
    return Rows(
        analysis.table.iloc[index].reset_index(drop=True),
        [analysis.outlines[i] for i in index],
        {k: v[index] for k, v in analysis.patches.items()},
        analysis.embedding[index] if len(analysis.embedding) else analysis.embedding,
        {k: v[index] for k, v in analysis.class_maps.items()},
    )


def _rebuilt(analysis: Analysis, parts: list[Rows]) -> Analysis:
    """The rows of all parts, ordered by id; arrays that a part lacks are filled with NaN."""
    lengths = [len(p.table) for p in parts]
    joined = [p.table for p in parts if len(p.table)]
    table = pd.concat(joined, ignore_index=True) if joined else analysis.table.iloc[:0]
    order = np.argsort(table["cluster_id"].to_numpy(), kind="stable")
    nothing = np.empty((0, 0), np.float32)

    def channelwise(name: str) -> dict[str, np.ndarray]:
        return {
            channel: _stacked(
                like, [getattr(p, name).get(channel, nothing) for p in parts], lengths, order
            )
            for channel, like in getattr(analysis, name).items()
        }

    outlines = [o for p in parts for o in p.outlines]
    return replace(
        analysis,
        table=tables.conform(table.iloc[order], tables.classes_of(analysis.table)),
        outlines=[outlines[i] for i in order],
        patches=channelwise("patches"),
        class_maps=channelwise("class_maps"),
        embedding=_stacked(analysis.embedding, [p.embedding for p in parts], lengths, order),
    )


def _stacked(
    like: np.ndarray, arrays: list[np.ndarray], lengths: list[int], order: np.ndarray
) -> np.ndarray:
    """The arrays on top of each other, in this order; those of another shape become NaN."""
    shapes = [a.shape[1:] for a in [like, *arrays] if a.ndim > 1 and np.prod(a.shape[1:])]
    if not shapes:
        return like
    fits = [a.shape == (n, *shapes[0]) for a, n in zip(arrays, lengths, strict=True)]
    if fits == [True] and np.array_equal(order, np.arange(len(order))):
        return arrays[0]
    # Written once, to where each row belongs: patches of thousands of clusters are large.
    out = np.empty((len(order), *shapes[0]), np.float32)
    goes_to = np.empty(len(order), int)
    goes_to[order] = np.arange(len(order))
    last = np.cumsum(lengths)
    for array, fit, n, end in zip(arrays, fits, lengths, last, strict=True):
        out[goes_to[end - n : end]] = array if fit else np.nan
    return out


def remove_rows(analysis: Analysis, cluster_ids: Iterable[int]) -> Analysis:
    """The analysis without these clusters."""
    keep = analysis.table.loc[~analysis.table["cluster_id"].isin(list(cluster_ids)), "cluster_id"]
    return _rebuilt(analysis, [take_rows(analysis, keep)])


def insert_rows(analysis: Analysis, rows: Rows) -> Analysis:
    """The analysis with these clusters, which replace those with the same ids."""
    new = set(rows.table["cluster_id"])
    kept = take_rows(analysis, (i for i in analysis.table["cluster_id"] if i not in new))
    return _rebuilt(analysis, [kept, rows])


def bare_rows(table: pd.DataFrame, outlines: list[np.ndarray]) -> Rows:
    """Rows of clusters that have been measured and not yet classified."""
    return Rows(tables.conform(table), list(outlines), {}, np.empty((0, 0), np.float32), {})


def only(analysis: Analysis, cluster_ids: Iterable[int]) -> Analysis:
    """The analysis of these clusters alone."""
    return remove_rows(analysis, set(analysis.table["cluster_id"]) - set(cluster_ids))


def unclassified(analysis: Analysis) -> list[int]:
    """Ids of the clusters that the model has not seen, in an analysis that has been classified."""
    if not tables.classes_of(analysis.table):
        return []
    return analysis.table.loc[analysis.table["label_predicted"] == "", "cluster_id"].tolist()


def _still_there(analysis: Analysis, result: Analysis) -> Rows:
    """Rows of the result whose clusters are still where they were, with today's corrections."""
    place = ["cluster_id", "frame", "y_px", "x_px"]
    known = analysis.table[place].merge(result.table[place], on=place)["cluster_id"]
    rows = take_rows(result, known)
    corrected = analysis.table.set_index("cluster_id")["label_corrected"]
    table = rows.table.assign(
        label_corrected=rows.table["cluster_id"].map(corrected).astype(object)
    )
    return replace(rows, table=tables.settle_labels(table))


def with_predictions(analysis: Analysis, result: Analysis) -> Analysis:
    """The analysis with what a model said of its clusters, wherever they still lie there.

    The result of a task may be of yesterday: clusters may have been added, moved, deleted or
    corrected while it was computed. These stay as the person left them.

    Parameters
    ----------
    analysis
        What is at hand.
    result
        The same image classified, perhaps with other clusters.
    """
    # The frame of the arrays is the result's: another model may see other channels and classes.
    frame = replace(
        analysis,
        table=tables.conform(_unpredicted(analysis.table), tables.classes_of(result.table)),
        patches={k: _all_nan(analysis, v) for k, v in result.patches.items()},
        class_maps={k: _all_nan(analysis, v) for k, v in result.class_maps.items()},
        embedding=_all_nan(analysis, result.embedding),
        field_of_view_nm=result.field_of_view_nm,
        scale=result.scale,
        parameters={**analysis.parameters, **result.parameters},
        seconds={**analysis.seconds, **result.seconds},
    )
    return insert_rows(frame, _still_there(analysis, result))


def _unpredicted(table: pd.DataFrame) -> pd.DataFrame:
    mine = ["label_corrected", "label", "label_predicted"]
    gone = set(table.columns) - (set(tables.BEFORE_PROBABILITIES) - {"confidence"})
    return tables.settle_labels(
        table.drop(columns=[*gone, *mine[1:]]).assign(label_predicted="", label="")
    )


def _all_nan(analysis: Analysis, like: np.ndarray) -> np.ndarray:
    if like.ndim < 2 or like.shape[-1] == 0:
        return like
    return np.full((len(analysis.table), *like.shape[1:]), np.nan, like.dtype)


def inherit(before: Analysis | None, after: Analysis, first_free_id: int) -> Analysis:
    """A new detection with the ids and corrections of the old one, where clusters are the same.

    Two clusters are the same if each is the other's nearest and they lie within half a diameter.

    Parameters
    ----------
    before, after
        Two detections in the same image; without an old one all clusters are new.
    first_free_id
        From here on ids are given to clusters that were not known before.
    """
    old, new = tables.empty() if before is None else before.table, after.table
    ids = np.zeros(len(new), int)
    corrected = np.full(len(new), "", object)
    for frame in np.intersect1d(old["frame"], new["frame"]):
        i_old = np.flatnonzero(old["frame"] == frame)
        i_new = np.flatnonzero(new["frame"] == frame)
        at_old = old.iloc[i_old][["y_px", "x_px"]].to_numpy(float)
        at_new = new.iloc[i_new][["y_px", "x_px"]].to_numpy(float)
        distance, nearest = cKDTree(at_old).query(at_new)
        _, back = cKDTree(at_new).query(at_old)
        limit = 0.5 * new.iloc[i_new]["diameter_nm"].to_numpy(float)
        distance_nm = distance * (after.micrograph.pixel_size_nm or 1.0)
        same = (back[nearest] == np.arange(len(i_new))) & (distance_nm <= np.nan_to_num(limit))
        ids[i_new[same]] = old.iloc[i_old[nearest[same]]]["cluster_id"].to_numpy()
        corrected[i_new[same]] = old.iloc[i_old[nearest[same]]]["label_corrected"].to_numpy()
    ids[ids == 0] = first_free_id + np.arange((ids == 0).sum())
    table = new.copy()
    table["cluster_id"] = ids
    table["label_corrected"] = corrected
    return _rebuilt(after, [replace(_everything(after), table=tables.settle_labels(table))])


def _everything(analysis: Analysis) -> Rows:
    return take_rows(analysis, analysis.table["cluster_id"])


class State(Enum):
    IDLE = "idle"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """What the window is busy with."""

    state: State = State.IDLE
    message: str = ""
    done: int = 0
    total: int = 0


class Session:
    """Images, analyses, selection, edits and status of one window.

    Signals: ``images_changed()``; ``current_changed(image name or None)``;
    ``analysis_changed(image name)`` after any change of a table or of its arrays;
    ``selection_changed(frozenset of keys)``; ``status_changed(Status)``;
    ``history_changed()``; ``explained_class_changed(class or None)``: whose class maps are
    wanted, None for each cluster's predicted class; ``focus_requested(key)``: somebody wants to
    see this cluster in the image.
    """

    images_changed = Signal()
    current_changed = Signal(object)
    analysis_changed = Signal(str)
    selection_changed = Signal(frozenset)
    status_changed = Signal(Status)
    history_changed = Signal()
    explained_class_changed = Signal(object)
    focus_requested = Signal(tuple)

    def __init__(self) -> None:
        self._micrographs: dict[str, Micrograph] = {}
        self._analyses: dict[str, Analysis] = {}
        self._generation: dict[str, int] = {}
        self._next_id: dict[str, int] = {}
        self._current: str | None = None
        self._selection: frozenset[Key] = frozenset()
        self._explained_class: str | None = None
        self._undo: list[Edit] = []
        self._redo: list[Edit] = []
        self._status = Status()

    # ---- images
    @property
    def images(self) -> list[str]:
        return list(self._micrographs)

    def micrograph(self, image: str) -> Micrograph:
        return self._micrographs[image]

    def add_image(self, micrograph: Micrograph) -> str:
        """Add an image, or replace the one of the same name (its analysis stays)."""
        self._micrographs[micrograph.name] = micrograph
        self.images_changed.emit()
        if self._current is None:
            self.current = micrograph.name
        return micrograph.name

    def remove_image(self, image: str) -> None:
        """Forget an image and all that is known of it."""
        self._micrographs.pop(image, None)
        self._analyses.pop(image, None)
        self._generation[image] = self._generation.get(image, 0) + 1
        self._undo = [e for e in self._undo if e.image != image]
        self._redo = [e for e in self._redo if e.image != image]
        self.select(k for k in self._selection if k[0] != image)
        if self._current == image:
            self.current = next(iter(self._micrographs), None)
        self.images_changed.emit()
        self.analysis_changed.emit(image)
        self.history_changed.emit()

    @property
    def current(self) -> str | None:
        """Name of the image that is looked at."""
        return self._current

    @current.setter
    def current(self, image: str | None) -> None:
        if image != self._current:
            self._current = image
            self.current_changed.emit(image)

    # ---- analyses
    def analysis(self, image: str) -> Analysis | None:
        return self._analyses.get(image)

    def generation(self, image: str) -> int:
        """Grows with every change of an image's analysis: a late result can tell it is stale."""
        return self._generation.get(image, 0)

    def table(self, image: str | None = None) -> pd.DataFrame:
        """The cluster table of one image, or of all."""
        if image is not None:
            found = self._analyses.get(image)
            return tables.empty() if found is None else found.table
        found_tables = [a.table for a in self._analyses.values() if len(a.table)]
        if not found_tables:
            return tables.empty()
        return tables.conform(pd.concat(found_tables, ignore_index=True))

    def classes(self) -> list[str]:
        """Classes of the analyses at hand, in order."""
        seen: dict[str, None] = {}
        for analysis in self._analyses.values():
            seen.update(dict.fromkeys(tables.classes_of(analysis.table)))
        return list(seen)

    def next_cluster_id(self, image: str) -> int:
        """An id that no cluster of this image ever had."""
        value = self._next_id.get(image, 1)
        self._next_id[image] = value + 1
        return value

    # ---- edits
    def do(self, edit: Edit) -> None:
        """Apply an edit and remember it for undo."""
        self._set(edit.image, edit.apply(self._analyses.get(edit.image)))
        self._undo.append(edit)
        self._redo.clear()
        self.history_changed.emit()

    def undo(self) -> Edit | None:
        """Take the last edit back."""
        if not self._undo:
            return None
        edit = self._undo.pop()
        analysis = self._analyses.get(edit.image)
        edit = edit.knowing(analysis, undo=True)
        self._set(edit.image, edit.revert(analysis))
        self._redo.append(edit)
        self.history_changed.emit()
        return edit

    def redo(self) -> Edit | None:
        """Do again what was taken back."""
        if not self._redo:
            return None
        edit = self._redo.pop()
        analysis = self._analyses.get(edit.image)
        edit = edit.knowing(analysis, undo=False)
        self._set(edit.image, edit.apply(analysis))
        self._undo.append(edit)
        self.history_changed.emit()
        return edit

    @property
    def history(self) -> tuple[Edit, ...]:
        return tuple(self._undo)

    @property
    def undone(self) -> tuple[Edit, ...]:
        """What can be done again; the last one first in line."""
        return tuple(self._redo)

    @property
    def can_redo(self) -> bool:
        return bool(self._redo)

    def set_analysis(self, analysis: Analysis, description: str = "analyse") -> None:
        """A new result; one undo brings the old one back.

        Clusters that were known before keep their ids and their corrections.
        """
        image = analysis.micrograph.name
        if image not in self._micrographs:
            self.add_image(analysis.micrograph)
        before = self._analyses.get(image)
        first_free_id = self._next_id.get(image, 1)
        if first_free_id > 1:
            analysis = inherit(before, analysis, first_free_id)
        self.do(SetAnalysis(image, before, analysis, description))

    def fill(self, result: Analysis) -> None:
        """What the model says of clusters at hand; the machine's doing, so no step of undo."""
        image = result.micrograph.name
        analysis = self._analyses.get(image)
        if analysis is not None:
            self._set(image, insert_rows(analysis, _still_there(analysis, result)))

    def place(self, result: Analysis) -> None:
        """Places in the embedding's map of clusters whose prediction is still the same."""
        image = result.micrograph.name
        analysis = self._analyses.get(image)
        if analysis is None:
            return
        same = ["cluster_id", "frame", "y_px", "x_px", "label_predicted", "confidence", "model_id"]
        places = result.table[[*same, "umap_1", "umap_2"]]
        found = analysis.table[same].merge(places, on=same, how="left")
        known = found["umap_1"].notna().to_numpy()
        table = analysis.table.copy()
        table.loc[known, ["umap_1", "umap_2"]] = found.loc[known, ["umap_1", "umap_2"]].to_numpy()
        self._set(image, replace(analysis, table=table))

    def predict(self, result: Analysis, description: str = "classify") -> None:
        """A new classification of the clusters at hand; one undo brings the old one back."""
        image = result.micrograph.name
        analysis = self._analyses.get(image)
        if analysis is not None:
            after = with_predictions(analysis, result)
            self.do(SetAnalysis(image, analysis, after, description))

    def add_clusters(
        self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]
    ) -> list[int]:
        """Clusters that a person points to, measured; their ids are new.

        Parameters
        ----------
        image
            Name of the image; it must have an analysis.
        table, outlines
            As a detection gives them; the ids in the table do not matter.

        Returns
        -------
        list of int
            The new ids, in the order of the table.
        """
        ids = [self.next_cluster_id(image) for _ in range(len(table))]
        table = table.assign(image=image, cluster_id=ids)
        self.do(AddClusters(image, bare_rows(table, outlines), f"add {_clusters(len(ids))}"))
        return ids

    def move_clusters(self, image: str, table: pd.DataFrame, outlines: list[np.ndarray]) -> None:
        """Clusters measured again at another place; the model must look at them again.

        Parameters
        ----------
        image
            Name of the image.
        table, outlines
            The new measurements; ``cluster_id`` says of which clusters.
        """
        analysis = self._analyses.get(image)
        if analysis is None:
            return
        # One that was deleted meanwhile must not come back.
        there = table["cluster_id"].isin(analysis.table["cluster_id"]).to_numpy()
        outlines = [o for o, is_there in zip(outlines, there, strict=True) if is_there]
        table = table[there]
        if not len(table):
            return
        before = take_rows(analysis, table["cluster_id"])
        corrected = before.table.set_index("cluster_id")["label_corrected"]
        table = table.assign(
            image=image, label_corrected=table["cluster_id"].map(corrected), label_predicted=""
        )
        after = bare_rows(tables.settle_labels(table), outlines)
        self.do(ReplaceClusters(image, before, after, f"move {_clusters(len(table))}"))

    def relabel(self, keys: Iterable[Key], label: str) -> None:
        """A person says what these clusters are; one edit per image."""
        by_image: dict[str, list[int]] = {}
        for image, cluster_id in keys:
            by_image.setdefault(image, []).append(cluster_id)
        for image, ids in by_image.items():
            table = self.table(image).set_index("cluster_id")["label_corrected"]
            before = {i: str(table[i]) for i in ids if i in table.index}
            if before:
                words = f"label {_clusters(len(before))} {label}" if label else "take labels back"
                self.do(Relabel(image, before, dict.fromkeys(before, label), words))

    def remove_clusters(self, image: str, cluster_ids: Iterable[int]) -> None:
        analysis = self._analyses.get(image)
        if analysis is None:
            return
        rows = take_rows(analysis, cluster_ids)
        if len(rows.table):
            self.do(RemoveClusters(image, rows, f"delete {_clusters(len(rows.table))}"))

    def _set(self, image: str, analysis: Analysis | None) -> None:
        if analysis is None:
            self._analyses.pop(image, None)
        else:
            tables.validate(analysis.table)
            if len(analysis.outlines) != len(analysis.table):
                raise ValueError("as many outlines as clusters are needed")
            self._analyses[image] = analysis
            if len(analysis.table):
                newest = int(analysis.table["cluster_id"].max())
                self._next_id[image] = max(self._next_id.get(image, 1), newest + 1)
        self._generation[image] = self._generation.get(image, 0) + 1
        known = set(self.table(image)["cluster_id"])
        self.analysis_changed.emit(image)
        self.select(k for k in self._selection if k[0] != image or k[1] in known)

    # ---- selection
    @property
    def selection(self) -> frozenset[Key]:
        return self._selection

    def select(self, keys: Iterable[Key]) -> None:
        """Select exactly these clusters; every view follows."""
        selection = frozenset((image, int(i)) for image, i in keys)
        if selection != self._selection:
            self._selection = selection
            self.selection_changed.emit(selection)

    def request_focus(self, key: Key) -> None:
        """Ask the view of the image to go to a cluster."""
        self.focus_requested.emit(key)

    # ---- explanation
    @property
    def explained_class(self) -> str | None:
        """The class whose class maps are shown; None: of each cluster its predicted class."""
        return self._explained_class

    @explained_class.setter
    def explained_class(self, label: str | None) -> None:
        if label != self._explained_class:
            self._explained_class = label
            self.explained_class_changed.emit(label)

    # ---- status
    @property
    def status(self) -> Status:
        return self._status

    @status.setter
    def status(self, status: Status) -> None:
        if status != self._status:
            self._status = status
            self.status_changed.emit(status)


def _clusters(n: int) -> str:
    return "1 cluster" if n == 1 else f"{n} clusters"
