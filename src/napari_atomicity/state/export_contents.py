"""What is exported: a snapshot of a window, or of a project."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from ..core.acquisition_session import AcquisitionSession
from ..io.provenance import Outcome
from ..models.analysis import Analysis
from ..project import Project
from ..statistics.agreement import removed_clusters
from ..statistics.stratified_accuracy import Accuracy
from .review_accuracy import accuracy
from .review_queue import Queue
from .window_state import WindowState

SAMPLE_SETTING = "review/sample"
"""Under this key a project notes its stratified sample."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What is exported; edits that come later do not touch it."""

    analyses: tuple[Analysis, ...]  # in the order in which they are shown
    others: tuple[Outcome, ...] = ()  # outcomes of the images that have no analysis
    # log of what people did (`Project.corrections`); None if none is kept
    corrections: pd.DataFrame | None = None
    # the stratified sample that is reviewed, from which the accuracy of all labels follows
    sample: Queue | None = None
    name: str = ""  # of the project; "" without one
    sessions: tuple[AcquisitionSession, ...] = ()


def _failed(project: Project) -> dict[str, str]:
    """Image → why it could not be analysed."""
    return {image.name: image.error for image in project.images() if image.error}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A session at one moment, taken without reading anything: see `snapshot`."""

    analyses: tuple[Analysis, ...]  # in the order of the images
    missing: tuple[tuple[str, str], ...] = ()  # name and path of the images that have no analysis
    project: Project | None = None  # where the log is kept; None without a project
    # the annotator who may see nothing of the others; None outside blind mode
    blind: str | None = None
    sessions: tuple[AcquisitionSession, ...] = ()

    def contents(self) -> Contents:
        """With what the project holds beside; it is read here, in any thread.

        Raises `AtomicityError` if the project can't be read.
        """
        project = self.project
        failed = {} if project is None or not self.missing else _failed(project)
        others = [
            Outcome(image, path, "failed", failed[image])
            if image in failed
            else Outcome(image, path, "not reached", "not analysed yet")
            for image, path in self.missing
        ]
        if project is None:
            return Contents(self.analyses, tuple(others), sessions=self.sessions)
        log, sample = project.corrections(), None
        if self.blind is not None:
            log = log[(log["annotator"] == self.blind) & log["blind"]]
        elif noted := project.setting(SAMPLE_SETTING):
            sample = Queue.from_json(noted)
        name = project.path.stem
        return Contents(self.analyses, tuple(others), log, sample, name, self.sessions)


def snapshot(state: WindowState) -> Snapshot:
    """Return what a window holds now, for a worker; call it in the thread of the window.

    Nothing is copied and nothing is read. In blind mode only what the annotator sees is exported.
    """
    analyses, missing = [], []
    for image in state.images:
        analysis = state.analysis(image)
        if analysis is None:
            missing.append((image, str(state.micrograph(image).path or "")))
        else:
            analyses.append(state.pixel_sizes.mark(analysis))
    blind = state.annotator if state.blind else None
    # Known samples would tell a blind annotator the labels.
    sessions = () if state.blind else tuple(state.sessions.groups())
    return Snapshot(tuple(analyses), tuple(missing), state.project, blind, sessions)


def sampled_accuracy(
    sample: Queue, table: pd.DataFrame, corrections: pd.DataFrame
) -> Accuracy | None:
    """Estimate the accuracy of all labels from a stratified sample.

    No estimate is possible if other models made the predictions than when the sample was drawn.
    """
    if set(table["model_id"].astype(str)) - {"", *sample.models}:
        return None
    wanted = pd.MultiIndex.from_arrays([sample.images.astype(str), sample.ids])
    labels = table.set_index([table["image"].astype(str), table["cluster_id"]])
    labels = labels[["label_predicted", "label_corrected"]].astype(object)
    there = wanted.isin(labels.index)
    labels = labels.reindex(wanted).fillna("")
    removed = wanted.isin(list(removed_clusters(corrections[~corrections["blind"].astype(bool)])))
    return accuracy(
        sample,
        labels["label_predicted"].to_numpy(object),
        labels["label_corrected"].to_numpy(object),
        removed & ~there,
    )
