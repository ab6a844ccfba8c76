"""Joint labelling of the images of acquisition sessions, as tasks of the window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
from psygnal import Signal
from qtpy.QtCore import QObject

from ...core.acquisition_session import AcquisitionSession, Composition, format_composition
from ...core.progress import Progress, Stop
from ...core.tables import cluster_table as tables
from ...core.tables.cluster_table import classes_of
from ...core.text import first_names, pluralise
from ...models.analysis import Analysis
from ...models.embedding import place_again
from ...pipeline.analysis import classify_clusters
from ...pipeline.session_labels import is_labelled_jointly, label_session
from ...reporting.plots.session import contradictions
from ...state.cluster_rows import unclassified
from ...state.edits import RemoveImage, SetSession
from ...state.project_saver import SESSION_COLUMNS
from ...state.window_state import Step, WindowState
from .. import tasks
from ..controls.questions import show_info, show_warning
from ..controls.refresher import follow
from ..controls.settings import settings
from ..viewer.binding import Binding
from ..viewer.models import classifier_of

TOGETHER = "browse/label_sessions"
"""Key of the setting whether the images of a session are labelled together."""
KEPT = "Results and labels of images that had been analysed before stay as they were."
MAX_LINES = 3
"""Number of sessions up to which the changes of each one are described."""
ANALYSE_ALL = "analyse all"
"""Key of the task that analyses all images; it labels their sessions at its end."""
_KEY = "label sessions"
KEEP_ADVICE = (
    "Check the sample. Whether it is used: Browse, right click, Use the known sample even if "
    "contradicted"
)


def labels_together() -> bool:
    """Return whether the images of a session are labelled together; the default is yes."""
    return str(settings().value(TOGETHER, "true")) == "true"


@dataclass(frozen=True, eq=False)
class SessionImages:
    """A session, and its analysed images."""

    whole: AcquisitionSession
    analyses: tuple[Analysis, ...] = ()
    # Images with new results, which are not shown yet, and `ClusterEdits.with_edits`: a person may
    # have changed their clusters since they were analysed.
    fresh: frozenset[str] = frozenset()
    edit: Callable[[Analysis], Analysis] | None = None

    @property
    def _known(self) -> dict[str, Composition]:
        names = [a.micrograph.name for a in self.analyses]
        return {name: self.whole.known.get(name, {}) for name in names}

    @property
    def session(self) -> AcquisitionSession:
        """The session of the analysed images alone, with known samples of classes of the model."""
        classes = classes_of(self.analyses[-1].table) if self.analyses else ()
        return self.whole.limited_to(self._known, classes)

    def _lacks(self, sample: Composition) -> list[str]:
        """Return the labels of a known sample that are no classes of the model."""
        classes = classes_of(self.analyses[-1].table)
        return [label for label in sample if label not in classes]

    def left_out(self) -> tuple[str, ...]:
        """Describe the known samples that are not used, a sentence for all images of one."""
        alike: dict[str, list[str]] = {}
        for image, sample in self._known.items():
            if missing := self._lacks(sample):
                text = (
                    f"the known sample {format_composition(sample)} is not used, as the model has "
                    f"no class {' or '.join(missing)}. Analyse with a model that has it, or change "
                    "the sample"
                )
                alike.setdefault(text, []).append(image)
        return tuple(f"{first_names(images)}: {text}" for text, images in alike.items())

    def of_model(self, model_id: str) -> SessionImages:
        """Return the images that one model has classified."""
        return replace(self, analyses=tuple(a for a in self.analyses if model_of(a) == model_id))

    def edited(self, progress: Progress | None = None, stop: Stop | None = None) -> SessionImages:
        """Return the images with the clusters that they have after the edits of a person."""
        if self.edit is None:
            return self
        found = list(self.analyses)
        for i, analysis in enumerate(found):
            if analysis.micrograph.name in self.fresh:
                found[i] = with_manual_edits(analysis, self.edit, progress, stop)
        return replace(self, analyses=tuple(found))


def model_of(analysis: Analysis) -> str:
    """Return the identity of the model that found the scale of an image; "" if none did."""
    if analysis.scale is None or not analysis.embedding.size:
        return ""
    return analysis.model_id


def session_images(
    state: WindowState,
    session: AcquisitionSession,
    fresh: Mapping[str, Analysis] | None = None,
) -> SessionImages:
    """Return the images of a session that have an intensity scale, with fresh results of some.

    Those whose pixel size has changed since they were analysed are left out.
    """
    fresh = fresh or {}
    analyses = (
        fresh.get(image) or state.analysis(image)
        for image in session.images
        if image in fresh or not state.pixel_sizes.has_changed(image)
    )
    classified = tuple(a for a in analyses if a is not None and model_of(a))
    return SessionImages(session, classified, frozenset(fresh), state.clusters.with_edits)


def session_of(state: WindowState, image: str) -> SessionImages | None:
    """Return the session of an image; None if its images are labelled one by one."""
    if state.blind or not labels_together():
        return None
    return session_images(state, state.sessions.session_of(image))


def _say_if_dropped(task: tasks.Task) -> None:
    """Say that new results are dropped if their labelling was cancelled."""
    if task.cancelled:
        show_info(f"Stopped. {KEPT}")


# ---- functions that run in a worker
def with_manual_edits(
    analysis: Analysis,
    edit: Callable[[Analysis], Analysis],  # `ClusterEdits.with_edits`
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Analysis:
    """Return a result classified with the clusters that it has after the edits of a person."""
    edited = edit(analysis)
    if len(edited.table) == len(analysis.table) and not unclassified(edited):
        return analysis
    classifier = classifier_of(analysis)
    edited = classify_clusters(edited, classifier, progress=progress, stop=stop)
    return replace(edited, table=place_again(edited.table, edited.embedding, classifier))


@dataclass(frozen=True, eq=False)
class SessionChanges:
    """What the joint labelling of a session, or of several, has changed."""

    title: str
    n_images: int
    results: tuple[Analysis, ...]
    n_scales: int  # number of images whose scale has changed
    n_labels: int  # number of predicted labels that have changed
    # known samples that are not used, or that their clusters contradict, a text each
    doubts: tuple[str, ...] = ()

    def describe(self, analysed: bool = False) -> str:
        """Describe the changes in one line."""
        images = pluralise(self.n_images, "image")
        labels = f"{pluralise(self.n_labels, 'label')} changed"
        if analysed:
            changed = f", {labels}" if self.n_labels else ""
            return f"{self.title}: {images} labelled jointly{changed}."
        if not self.n_scales:
            return f"{self.title}: {images}, no scale changed."
        scales = pluralise(self.n_scales, "scale")
        return f"{self.title}: {images}, {scales} changed, {labels}."


def describe_changes(changes: Sequence[SessionChanges], analysed: bool = False) -> str:
    """Describe the changes of sessions, one line each; of many sessions in one line."""
    if len(changes) <= MAX_LINES:
        return "\n".join(change.describe(analysed) for change in changes)
    n_images = sum(change.n_images for change in changes)
    n_scales = sum(change.n_scales for change in changes)
    n_labels = sum(change.n_labels for change in changes)
    title = f"{len(changes)} sessions"
    return SessionChanges(title, n_images, (), n_scales, n_labels).describe(analysed)


def count_changed(old: pd.DataFrame, new: pd.DataFrame) -> int:
    """Count the clusters of two tables of an image whose predicted labels differ."""
    if new is old:
        return 0
    before, after = (t.set_index("cluster_id")["label_predicted"] for t in (old, new))
    common = before[before != ""].index.intersection(after.index)
    return int((before[common] != after[common]).sum())


def label_sessions(
    sessions: Sequence[SessionImages],
    shown: Mapping[str, pd.DataFrame],  # tables on show of images with new results; may be empty
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[SessionChanges]:
    """Label the images of each session together, and count what changes of what is shown."""
    tasks.cap_torch_threads()
    changes = []
    for given in sessions:
        session = given.edited(progress, stop)
        labelled = _label(session, progress, stop)
        title, left_out = f"Session {session.whole.name}", session.left_out()
        if labelled is None:
            if left_out:
                changes.append(SessionChanges(title, len(session.analyses), (), 0, 0, left_out))
            continue
        pairs = [(a.micrograph.name, a.table, b.table)
                 for a, b in zip(session.analyses, labelled, strict=True)]  # fmt: skip
        n_scales = sum(new is not old for _, old, new in pairs)
        n_labels = sum(count_changed(shown.get(name, old), new) for name, old, new in pairs)
        parameters = {a.micrograph.name: a.parameters for a in labelled}
        contradicted = contradictions(parameters, session.session.known)
        doubts = (*left_out, *(f"{x}. {KEEP_ADVICE}" for x in contradicted))
        changes.append(
            SessionChanges(title, len(labelled), tuple(labelled), n_scales, n_labels, doubts)
        )
    return changes


@dataclass(frozen=True, eq=False)
class LabelledAnalysis:
    """A new analysis of an image, and what its session now tells of the others."""

    analysis: Analysis
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    session: AcquisitionSession | None = None  # the session that it was labelled with

    def label_again_if_changed(self, binding: Binding) -> None:
        """Label the session again if a person has changed it during the analysis."""
        image = self.analysis.micrograph.name
        if self.session not in (None, binding.state.sessions.session_of(image)):
            session_labels_of(binding).start([image])

    def records_in(self, state: WindowState) -> dict[str, Mapping[str, Any]]:
        """Return the records of images that are still in the session, with the same model."""
        session = state.sessions.session_of(self.analysis.micrograph.name)
        return {
            image: record
            for image, record in self.records.items()
            if image in session.images
            and (now := state.analysis(image)) is not None
            and model_of(now) == model_of(self.analysis)
        }


def label_with_session(
    analysis: Analysis,
    session: SessionImages | None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> LabelledAnalysis:
    """Label a new analysis with what its session knows of the scale; other labels stay.

    What the session tells, as whether it fits the classes, is the same for all its images.
    """
    if session is None or not model_of(analysis):
        return LabelledAnalysis(analysis)
    name = analysis.micrograph.name
    same = session.of_model(model_of(analysis)).analyses
    others = tuple(a for a in same if a.micrograph.name != name)
    labelled = _label(
        replace(session, analyses=(*others, analysis)), progress, stop, only=frozenset({name})
    )
    if labelled is None:
        return LabelledAnalysis(analysis, session=session.whole)
    *rest, analysis = labelled
    records = {a.micrograph.name: a.parameters["session"] for a in rest}
    return LabelledAnalysis(analysis, records, session.whole)


def _label(
    session: SessionImages,
    progress: Progress | None,
    stop: Stop | None,
    only: frozenset[str] | None = None,
) -> list[Analysis] | None:
    """Label the images of a session; None if the session tells nothing of their scales."""
    these = session.session
    classifier = classifier_of(session.analyses[-1])
    if not is_labelled_jointly(these, len(these.images), classifier.card):
        return None
    return label_session(
        session.analyses,
        classifier,
        session=these,
        only=only,
        progress=progress,
        stop=stop,
    ).analyses


# ---- in the window
def _is_of_sessions(step: Step) -> bool:
    """Return whether a step changes which images form a session, or what is known of one."""
    return any(isinstance(edit, SetSession | RemoveImage) for edit in step.edits)


def session_labels_of(binding: Binding) -> SessionLabels:
    """Return the session labels of a window, which the first call makes."""
    return binding.refresher.findChild(SessionLabels) or SessionLabels(binding, binding.refresher)


class SessionLabels(QObject):
    """Labels the images of sessions together, when a person changes a session or asks for it.

    Signals: ``message_changed()`` when `message` has changed.
    """

    message_changed = Signal()

    def __init__(self, binding: Binding, parent: QObject) -> None:
        super().__init__(parent)
        self.message = ""
        self.binding = binding
        self.state = binding.state
        self._waiting: set[str] = set()
        self._fresh: dict[str, Analysis] = {}
        self._first: set[str] = set()
        self._description = ""
        self._takes_labels = True
        self._group: object = None
        self._seen: list[AcquisitionSession] = []
        self.postponed: set[str] = set()  # images whose session changed during a batch
        follow(self, self.state.changed, self._on_changed)
        follow(self, self.state.pixel_sizes.changed, self._on_pixel_size)
        follow(self, self.state.project_changed, self._forget)

    @property
    def running(self) -> bool:
        """Whether sessions are being labelled."""
        return bool(tasks.running(self.state, _KEY))

    def remember(self) -> None:
        """Remember the sessions as they are: only those that differ are labelled again."""
        self._seen = self.state.sessions.groups()

    def _forget(self) -> None:
        self.postponed = set()
        self._set_message()

    def _on_changed(self, images: tuple[str, ...], columns: object, rows: object) -> None:
        """Label sessions that a person has changed.

        Undo and redo bring the labels back; what the sessions tell is found again, and what the
        last labelling has changed may no longer hold.
        """
        if self.message and self.state.history.undone:
            self._set_message()
        history = self.state.history
        steps = (*history[-1:], *history.undone[-1:])
        if columns == SESSION_COLUMNS or any(map(_is_of_sessions, steps)):
            self._label_changed()

    def _on_pixel_size(self, image: str) -> None:
        """Label the session that an analysed image has left for that of its new pixel size."""
        if self.state.analysis(image) is None:
            self.remember()
        else:
            self._label_changed()

    def _label_changed(self) -> None:
        history, before = self.state.history, self._seen
        self.remember()
        changed = [i for s in self._seen if s not in before for i in s.images]
        if changed and labels_together():
            group = None if history.undone or not history else history[-1].group
            self.start(changed, labels=not history.undone, group=group)

    def start(
        self,
        images: Iterable[str],
        fresh: Mapping[str, Analysis] | None = None,
        description: str = "",
        labels: bool = True,
        group: object = None,
        first: Iterable[str] = (),
    ) -> None:
        """Label the sessions of these images, and those that are being labelled.

        Fresh results, which are not shown yet, are installed with these labels as one step, which
        has the description. If the labelling is cancelled, they are dropped. Without ``labels``,
        only what a session tells is taken, where no label changes: a step would end redo. The
        labels belong to the step of the ``group`` that they follow from. Where only labels of
        ``first`` results change, they are part of these, and no step. Sessions that change while
        all images are analysed are labelled at its end.
        """
        if self.state.read_only or self.state.blind:
            return
        if tasks.running(self.state, ANALYSE_ALL):  # which labels them at its end
            self.postponed.update(images)
            return
        if not self.running:
            self._waiting, self._fresh, self._description = set(), {}, ""
            self._first, self._takes_labels = set(), False
        self._takes_labels |= labels
        self._group = group
        self._waiting.update(images, self.postponed)
        self.postponed = set()
        self._first.update(first)
        if fresh:
            self._fresh |= fresh
            self._description = description
        sessions = [
            found.of_model(model)
            for session in self.state.sessions.groups()
            if not self._waiting.isdisjoint(session.images)
            for found in [session_images(self.state, session, self._fresh)]
            for model in dict.fromkeys(map(model_of, found.analyses))
        ]
        # First results have not been shown with labels of their own.
        shown = {image: self.state.table(image) for image in self._fresh}
        shown |= {image: tables.empty() for image in self._first}
        if sessions or self._fresh:
            task = tasks.start(
                self.state,
                label_sessions,
                sessions,
                shown,
                message=f"Labelling {pluralise(len(sessions), 'session')} jointly",
                on_result=self._take,
                on_error=self._take_unlabelled,
                key=_KEY,
                owner=self,
            )
            if self._fresh:
                task.finished.connect(partial(_say_if_dropped, task))
            task.finished.connect(self._forget_fresh)

    def _forget_fresh(self) -> None:
        if not self.running:
            self._fresh = {}

    def _take_unlabelled(self, error: BaseException) -> None:
        """Install fresh results with the labels that each image has alone."""
        fresh, self._fresh = self._fresh, {}
        if new := [analysis for analysis in fresh.values() if self.binding.accepts(analysis)]:
            self.state.clusters.replace_all_predictions((), self._description, new)

    def _take(self, changes: list[SessionChanges]) -> None:
        """Take the labels as one step, and show what has changed."""
        changes = [c for c in changes if self._takes_labels or not c.n_scales]
        fresh, self._fresh = self._fresh, {}
        labelled = {r.micrograph.name: r for change in changes for r in change.results}
        new = [labelled.get(name, a) for name, a in fresh.items() if self.binding.accepts(a)]
        n = sum(bool(change.n_scales) for change in changes)
        results = [r for c in changes if c.n_scales for r in self._accepted(c, fresh)]
        first = self._first if self._group is None and not new else set()
        are_first = bool(first) and {r.micrograph.name for r in results} <= first
        if results or new:
            description = self._description or f"label {pluralise(n, 'session')} jointly"
            replace_all = self.state.clusters.replace_all_predictions
            replace_all(results, description, new, self._group, undoable=not are_first)
        for result in [r for c in changes if not c.n_scales for r in self._accepted(c, fresh)]:
            session = result.parameters["session"]
            self.state.clusters.set_session(result.micrograph.name, session)
        if not self._takes_labels:
            self._set_message()
        elif changes:
            doubts = [f"⚠ {doubt}." for change in changes for doubt in change.doubts]
            told = describe_changes(changes, analysed=bool(new) or are_first)
            self._set_message("\n".join([*doubts, told]))
            (show_warning if doubts else show_info)(self.message)

    def _accepted(
        self, change: SessionChanges, fresh: Mapping[str, Analysis]
    ) -> Iterator[Analysis]:
        """Yield the stored images that were not classified or calibrated again, or removed."""
        for result in change.results:
            now = self.state.analysis(result.micrograph.name)
            same_model = now is not None and model_of(now) == model_of(result)
            if result.micrograph.name not in fresh and same_model and self.binding.accepts(result):
                yield result

    def _set_message(self, message: str = "") -> None:
        self.message = message
        self.message_changed.emit()
