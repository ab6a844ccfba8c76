"""A person going through a queue of clusters: what is shown, what was answered, what comes next."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import numpy as np
import pandas as pd
from psygnal import Signal

from ..core.tables.cluster_table import Key, is_excluded
from ..statistics.annotators.agreement import NOT_A_CLUSTER, SPLIT_OR_MERGED
from ..statistics.stratified_accuracy import Accuracy, stratified_share
from .cluster_rows import ids_by_image, ids_of, ids_of_image
from .edits import Relabel, RemoveClusters, ReplaceClusters
from .history import replaced_by
from .review_queue import Queue
from .window_state import Step, WindowState

# ---- the accuracy of labels, estimated from the answers of a review
#
# The *accuracy* is the stratified estimate [1]_ p = sum over strata of W_h x_h / n_h, with the
# share W_h of a stratum in all clusters and x_h right answers of n_h. Its variance is that of
# sampling without replacement,
#
#     V = sum of W_h² (1 - n_h / N_h) q_h (1 - q_h) / n_h,
#
# where q_h is x_h / n_h drawn towards the mean of all strata by the weight of two answers: a small
# stratum in which all were right is not without scatter. The interval is Wilson's for the effective
# number q (1 - q) / V of answers, which keeps its coverage near 0 and 1 [2]_ [3]_ and shrinks to a
# point where all clusters were looked at. Clusters that were passed over may be the hard ones: the
# interval reaches from where all of them are wrong to where all are right.
#
# References
# ----------
# .. [1] W. G. Cochran, "Sampling Techniques", 3rd ed., Wiley (1977), chapter 5.
# .. [2] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected
#    number of positive counts estimated from survey data", Survey Methodology 24, 193-201 (1998).
# .. [3] C. Franco, R. J. A. Little, T. A. Louis and E. V. Slud, "Comparative study of confidence
#    intervals for proportions in complex sample surveys", Journal of Survey Statistics and
#    Methodology 7, 334-364 (2019).

EXCLUDED = "in an excluded region"
"""Why a cluster of a review needs no answer."""

# The part of a sample that must be answered: a few clusters may be skipped.
_MIN_ANSWERED = 0.9


def _walked(answered: np.ndarray, by_image: bool) -> np.ndarray:
    """(N,): the part of a queue that was gone through, whose answers are a random sample.

    A sample stands in random order, so that its beginning is a smaller one. What lies beyond and
    has a label got it for another reason, as the least certain ones do, and is no random choice.
    A few may be skipped. In order of the images it is a sample at the end only.
    """
    n = len(answered)
    if not n:
        return np.zeros(0, bool)
    share = np.cumsum(answered) / np.arange(1, n + 1)
    far = np.flatnonzero((share >= _MIN_ANSWERED) & answered)
    last = int(far[-1]) if len(far) else -1
    if by_image and last < n - 1 and answered.mean() < _MIN_ANSWERED:
        last = -1
    return np.arange(n) <= last


def accuracy(
    queue: Queue,
    predicted: np.ndarray,
    said: np.ndarray,
    there: np.ndarray,
    # (N,): of what is not there: `NOT_A_CLUSTER`, `SPLIT_OR_MERGED`, `EXCLUDED` or ""
    reason: np.ndarray,
    skipped: np.ndarray | None = None,  # (N,): which were seen and left without an answer
) -> Accuracy | None:
    """Estimate how often the predictions are right, from the answers so far.

    The label of what is no cluster, or was no cluster by itself, was wrong. What is gone for
    another reason, such as another detection, cannot be answered any more. Where clusters have been
    excluded since, the same share of each stratum as of those drawn from it counts no more.
    """
    if not queue.strata:
        return None
    n_drawn = len(queue.stratum)  # without those that took the place of others since
    predicted, said, there, reason = (x[:n_drawn] for x in (predicted, said, there, reason))
    wrong = ~there & np.isin(reason, [NOT_A_CLUSTER, SPLIT_OR_MERGED])
    gone = ~there & ~wrong
    of_stratum = np.array([s.label for s in queue.strata], object)[queue.stratum]
    label = np.where((predicted == "") & (of_stratum != ""), of_stratum, predicted)
    answered = ((said != "") & (predicted != "")) | wrong
    answered[gone] = False
    n_answered = int(answered.sum())
    walked = ~gone
    walked[~gone] = _walked(answered[~gone], queue.request.by_image)
    answered &= walked
    is_open = (walked if skipped is None else walked | skipped[:n_drawn]) & ~answered & ~gone
    right = answered & ~wrong & (said == predicted)
    n_strata = len(queue.strata)

    def counts(which: np.ndarray) -> np.ndarray:
        return np.bincount(queue.stratum[which], minlength=n_strata)

    counting = there | (reason != EXCLUDED)
    drawn = np.maximum(counts(np.ones(n_drawn, bool)), 1)
    size = np.array([s.size for s in queue.strata]) * counts(counting) / drawn
    n, hits = counts(answered), counts(right)
    by_class = {}
    for name in dict.fromkeys([*(s.label for s in queue.strata if s.label), *label[answered]]):
        if not name:
            continue
        of_class = label == name
        # Where strata are not those of the labels of today, their sizes are estimated.
        part = counts(of_class & counting) / np.maximum(counts(counting), 1)
        inside = part > 0
        by_class[str(name)] = stratified_share(
            (size * part)[inside], counts(of_class & answered)[inside],
            counts(of_class & right)[inside], counts(of_class & is_open)[inside],
        )  # fmt: skip
    removed, replaced = (
        int((answered & wrong & (reason == why)).sum()) for why in (NOT_A_CLUSTER, SPLIT_OR_MERGED)
    )
    return Accuracy(
        stratified_share(size, n, hits, counts(is_open)), by_class, int(counting.sum()),
        round(size.sum()), removed, replaced, n_answered - int(answered.sum()), int(is_open.sum()),
    )  # fmt: skip


# A pause longer than this is no thinking about a cluster.
_LONGEST_S = 60.0
_N_TIMES = 20


class _Shown:
    """Positions of a queue in the order in which they were shown, and where in it the person is.

    Undo, redo and *Back* go along it.
    """

    def __init__(self, first: int) -> None:
        self._order, self._step = [first], 0

    @property
    def position(self) -> int:
        """The position that is shown."""
        return self._order[self._step]

    @property
    def earlier(self) -> list[int]:
        """The positions that were shown before it."""
        return self._order[: self._step]

    def go(self, position: int) -> None:
        """Show another position; what was shown after this one is forgotten."""
        if position != self.position:
            self._order[self._step + 1 :] = [position]
            self._step += 1

    def return_to(self, position: int) -> bool:
        """Go to the nearest place where a position was shown; return False if there is none."""
        steps = [i for i, shown in enumerate(self._order) if shown == position]
        if steps:
            self._step = min(steps, key=lambda step: abs(step - self._step))
        return bool(steps)

    def back(self, is_there: np.ndarray) -> bool:
        """Go to the position before this one in the order, or in the queue; False without one."""
        now = self.position
        for step in range(self._step - 1, -1, -1):
            if is_there[self._order[step]] and self._order[step] != now:
                self._step = step
                return True
        before = np.flatnonzero(is_there[:now])
        if len(before):
            self._order[: self._step] = [int(before[-1])]
            self._step = 0
        return len(before) > 0


def _labelled_since(state: WindowState, queue: Queue) -> dict[str, set[int]]:
    """Return the ids of an image's clusters that have got a label since a queue was made."""
    found: dict[str, set[int]] = {}
    for step in state.history:
        if queue.time and step.time >= datetime.fromisoformat(queue.time):
            for edit in (e for e in step.edits if isinstance(e, Relabel)):
                found.setdefault(edit.image, set()).update(edit.after)
    return found


def _rows_in(table: pd.DataFrame, queue: Queue, names: list[str]) -> np.ndarray:
    """Return the row of each cluster of a queue in the joined table of its images, (N,); or -1."""
    ids = table["cluster_id"].to_numpy()
    # As objects: pandas converts other texts to Arrow arrays and back.
    images = pd.Index(names, dtype=object)
    # An image and a number as one number: pandas compares pairs a hundred times slower.
    ahead = np.int64(max(ids.max(initial=0), queue.ids.max(initial=0)) + 1)
    code = images.get_indexer(pd.Index(table["image"], dtype=object))
    here = np.flatnonzero(code >= 0)
    known = pd.Index(code[here] * ahead + ids[here])
    of_queue = images.get_indexer(pd.Index(queue.images, dtype=object))
    row = known.get_indexer(of_queue * ahead + queue.ids)
    return np.where(row < 0, -1, np.append(here, -1)[row])


class Reviewing:
    """One review: answers become edits of the session, and the next cluster comes by itself.

    Answers are read from the tables of the window's state, so that an undo or another dock counts
    like a key. Clusters into which one of the queue is split or merged join the queue.

    Signals: ``moved()`` when another cluster is shown, others are selected, or an answer came or
    went.
    """

    moved = Signal()

    def __init__(
        self,
        state: WindowState,
        queue: Queue,
        reasons: Mapping[Key, str] | None = None,  # why clusters are gone
        annotator: str | None = None,
        remarks: Mapping[Key, str] | None = None,
    ) -> None:
        self.state = state
        self.remarks = dict(remarks or {})
        self.queue = queue
        self.annotator = annotator
        n = len(queue)
        self._place = np.arange(n)
        self._said = np.full(n, "", object)
        self._is_labelled = np.zeros(n, bool)
        self._predicted = np.full(n, "", object)
        self._there = np.zeros(n, bool)
        self._reason = np.full(n, "", object)
        self._touched = np.zeros(n, bool)
        codes, names = pd.factorize(queue.images)
        order, number = np.argsort(codes, kind="stable"), np.bincount(codes, minlength=len(names))
        self._of_image = {
            str(name): order[end - n_of : end]
            for name, n_of, end in zip(names, number, np.cumsum(number), strict=True)
        }
        self._changed: list[int] = []
        self._times: list[float] = []
        self._since = time.monotonic()
        self._ignores_selection = False
        for (image, cluster_id), reason in (reasons or {}).items():
            self._reason[self._positions(image, [cluster_id])] = reason
        steps = (*state.history, *state.history.undone)
        # Position that was shown when a step was done, by its time; None before the review.
        self._shown_at: dict[datetime, int | None] = dict.fromkeys(step.time for step in steps)
        self._shown_before: int | None = None  # before the step that was done or undone last
        self._n_undone = len(state.history.undone)
        for step in state.history:
            self._follow(step)
        rows = _rows_in(state.table(), queue, list(self._of_image))
        self._take(np.arange(n), state.table(), rows)
        for image, ids in _labelled_since(state, queue).items():
            self._touched[self._positions(image, ids)] = True
        self._touched &= self._is_labelled
        self._shown = _Shown(self._open_from(-1) or 0)
        state.changed.connect(self._on_change)
        state.selection_changed.connect(self._on_selection)

    def close(self) -> None:
        """Disconnect from all signals."""
        self.state.changed.disconnect(self._on_change, missing_ok=True)
        self.state.selection_changed.disconnect(self._on_selection, missing_ok=True)

    # ---- what there is to say
    @property
    def position(self) -> int:
        """Where the cluster that is shown is in the queue."""
        return self._shown.position

    @property
    def key(self) -> Key:
        """The cluster that is shown."""
        return self.queue.key(self.position)

    @property
    def is_there(self) -> bool:
        """Whether the cluster that is shown is in the table: it may be deleted, split or merged."""
        return bool(self._there[self.position])

    @property
    def others_are_selected(self) -> bool:
        """Whether an answer applies to selected clusters instead of the one that is shown."""
        return bool(self.state.selection - {self.key})

    def predictions(self) -> dict[Key, str]:
        """Return the predicted label of each cluster to which an answer applies, if it has one."""
        if not self.others_are_selected:
            return {self.key: self.predicted} if self.is_there and self.predicted else {}
        found: dict[Key, str] = {}
        for image in {name for name, _ in self.state.selection}:
            table = self.state.table(image)
            selected = table["cluster_id"].isin(ids_of_image(self.state.selection, image))
            chosen = table[selected & (table["label_predicted"] != "")]
            keys = ((image, int(i)) for i in chosen["cluster_id"])
            found.update(zip(keys, chosen["label_predicted"], strict=True))
        return found

    @property
    def removed(self) -> np.ndarray:
        """(N,): what is not in the table any more because somebody said that it is no cluster."""
        return (self._reason == NOT_A_CLUSTER) & ~self._there

    @property
    def answered(self) -> np.ndarray:
        """(N,): which have an answer; in a second round only those of this round."""
        said = self._touched if self.queue.is_second_round else self._is_labelled
        return (said & self._there) | self.removed

    @property
    def n_done(self) -> int:
        """Number of clusters with an answer."""
        return int(self.answered.sum())

    @property
    def n(self) -> int:
        """Without those that are gone for another reason than that they are no clusters."""
        return int((self._there | self.removed).sum())

    @property
    def skipped(self) -> np.ndarray:
        """(N,): which were seen and left without an answer."""
        seen = np.zeros(len(self.queue), bool)
        seen[self._shown.earlier] = True
        seen[self.position] = False
        return seen & self._there & ~self.answered

    @property
    def finished(self) -> bool:
        """Whether all clusters have an answer."""
        return self.n_done == self.n

    @property
    def predicted(self) -> str:
        """The machine's label of the cluster that is shown; "" without one."""
        return str(self._predicted[self.position])

    @property
    def manual_label(self) -> str:
        """The manual label of the displayed cluster, or an empty text."""
        return str(self._said[self.position])

    @property
    def reasons(self) -> dict[Key, str]:
        """Why clusters were removed, split or merged, to go on with another time."""
        gone = np.flatnonzero(~self._there & (self._reason != ""))
        return {self.queue.key(int(i)): self._reason[i] for i in gone}

    def seconds_each(self) -> float | None:
        """How long an answer takes, as of late; None before there are a few."""
        return float(np.median(self._times[-_N_TIMES:])) if len(self._times) >= 3 else None

    def accuracy(self) -> Accuracy | None:
        """Return the estimate that follows from the answers; None if none is possible."""
        said = np.where(self.answered, self._said, "")
        return accuracy(self.queue, self._predicted, said, self._there, self._reason, self.skipped)

    @property
    def predicted_anew(self) -> bool:
        """Whether other models speak now than when a sample was drawn."""
        if not self.queue.models or not (self._predicted[self._there] != "").any():
            return False
        models: set[str] = set()
        for image in self._of_image:
            models.update(pd.unique(self.state.table(image)["model_id"]))
        return bool(models - {""} - set(self.queue.models))

    # ---- answers
    def answer(self, label: str) -> None:
        """Label the selected clusters, or the one that is shown, as in `answer_each`."""
        self.answer_each(dict.fromkeys(self.state.selection or {self.key}, label))

    def agree(self) -> bool:
        """Confirm the predictions; return False if there are none."""
        predictions = self.predictions()
        if predictions:
            self.answer_each(predictions)
        return bool(predictions)

    def answer_each(self, labels: Mapping[Key, str]) -> None:
        """Label clusters as in `answer_all`, and go to the next one.

        The review stays while the cluster that is shown, or a selected one, has no answer.
        """
        asked = self.state.selection | {self.key}
        self.answer_all(labels)
        self.state.finish()  # a long step takes turns, and nothing is answered before its end
        self._times.append(min(time.monotonic() - self._since, _LONGEST_S))
        for image, ids in ids_by_image(frozenset(labels)).items():
            self._touched[self._positions(image, ids)] = True
        self._changed.clear()
        at = [self._positions(image, ids) for image, ids in ids_by_image(asked).items()]
        waits = (self._there & ~self.answered)[np.concatenate(at)].any()
        self._go(self.position if waits else self._open_from(self.position))

    def take_back(self) -> bool:
        """Take back the labels of those selected, or the one shown; False if that had none."""
        if not (self.manual_label or self.others_are_selected):
            return False
        with self._in_whose_name():
            self.state.clusters.relabel(self.state.selection or {self.key}, "")
        self.moved.emit()
        return True

    def answer_all(self, labels: Mapping[Key, str]) -> None:
        """Answers to several clusters in one step; `NOT_A_CLUSTER` takes one out, in another."""
        none = [key for key, label in labels.items() if label == NOT_A_CLUSTER]
        with self._in_whose_name():
            self.state.clusters.relabel_each(
                {k: v for k, v in labels.items() if v != NOT_A_CLUSTER}
            )
            self.state.clusters.remove(none)

    @contextmanager
    def _in_whose_name(self) -> Iterator[None]:
        before = self.state.annotator
        if self.annotator is None or self.annotator == before:
            yield
            return
        self.state.annotator = self.annotator
        try:
            yield
        finally:
            self.state.annotator = before

    # ---- moving
    def next(self) -> bool:
        """To the next one without an answer; False if there is no other."""
        following = self._open_from(self.position)
        if following is None or following == self.position:
            return False
        self._go(following)
        return True

    def back(self) -> bool:
        """To the one before; False at the beginning."""
        if not self._shown.back(self._there):
            return False
        self.show()
        return True

    def show(self, keep: bool = False) -> None:
        """Select the cluster and bring it into view; `keep`: others that are selected stay so."""
        keep = keep and self.others_are_selected
        if self.is_there or keep:
            with self.selecting():
                if not keep:
                    self.state.select([self.key])
                selected = self.state.selection
                self.state.request_focus(self.key if self.key in selected else min(selected))
        self._since = time.monotonic()
        self.moved.emit()

    @contextmanager
    def selecting(self) -> Iterator[None]:
        """Within the block, a change of the selection is no click by which a person goes there."""
        before, self._ignores_selection = self._ignores_selection, True
        try:
            yield
        finally:
            self._ignores_selection = before

    def _go(self, position: int | None, where_shown: bool = False) -> None:
        """Show another cluster; `where_shown`: in the place of the order where it was shown."""
        if position is not None and not (where_shown and self._shown.return_to(position)):
            self._shown.go(position)
        self.show(keep=where_shown)

    def _open_from(self, position: int) -> int | None:
        """Return the next cluster without an answer, from the start again after the end."""
        waiting = np.flatnonzero(self._there & ~self.answered)
        place = np.append(self._place, -1)  # that of -1, before the first
        waiting = waiting[np.argsort(place[waiting], kind="stable")]
        beyond = place[waiting] - place[position]
        later = waiting[(beyond > 0) | ((beyond == 0) & (waiting > position))]
        found = later if len(later) else waiting
        return int(found[0]) if len(found) else None

    def _positions(self, image: str, ids: Iterable[int]) -> np.ndarray:
        """Return where clusters of an image are in the queue."""
        at = self._of_image.get(image, np.zeros(0, int))
        return at[np.isin(self.queue.ids[at], list(ids))]

    @contextmanager
    def following_changes(self) -> Iterator[None]:
        """After the block, show what was shown before the step: for undo and redo."""
        self._changed.clear()
        with self.selecting():
            yield
            self.state.finish()  # a long step takes turns, and nothing has changed before its end
        self.go_to_changed()

    def go_to_changed(self) -> None:
        """Show what was shown before the last step, or the cluster that it has changed."""
        changed, self._changed = self._changed, []
        self._touched[changed] = self._is_labelled[changed]
        if changed and self._shown_before is not None:
            changed = [self._shown_before]
        there = [i for i in changed if self._there[i]]
        gone = (i for i in changed if not self._there[i])
        replaced = [i for i in gone if replaced_by(self.state.history, self.queue.key(i))]
        if replaced:
            self._go(replaced[-1], where_shown=True)  # redo has selected what it was replaced by
        elif there:
            self._go(there[-1], where_shown=True)
        elif changed:
            self._go(self._open_from(changed[-1]), where_shown=True)

    # ---- what the session says
    def _read(self, image: str) -> np.ndarray:
        """Take up the table of an image; the positions of the clusters that changed."""
        at = self._of_image[image]
        table = self.state.table(image)
        return self._take(at, table, pd.Index(table["cluster_id"]).get_indexer(self.queue.ids[at]))

    def _take(self, at: np.ndarray, table: pd.DataFrame, row: np.ndarray) -> np.ndarray:
        """Take up the rows of a table, -1 where there is none; the positions that changed."""
        present = row >= 0
        row, of_row = row[present], at[present]
        said = np.full(len(at), "", object)
        said[present] = table["label_corrected"].to_numpy(object)[row]
        there = present.copy()
        # Clusters that a person has chosen one by one are reviewed wherever they are.
        excluded = is_excluded(table)[row] & bool(self.queue.time)
        there[present] = ~excluded
        changed = at[(said != self._said[at]) | (there != self._there[at])]
        self._said[at], self._there[at] = said, there
        # What came back may leave the table for another reason.
        self._reason[of_row] = np.where(excluded, EXCLUDED, "")
        self._is_labelled[at] = said != ""
        self._touched[at[said == ""]] = False  # a label that was taken back is no answer
        # Of what has left the table one remembers what was predicted.
        self._predicted[of_row] = table["label_predicted"].to_numpy(object)[row]
        return changed

    def _on_change(self, images: Sequence[str]) -> None:
        history, n_undone = self.state.history, self._n_undone
        for step in history[-1:]:
            self._follow(step)
            self._shown_at.setdefault(step.time, self.position)
        self._n_undone = len(history.undone)
        for step in history.undone[-1:] if self._n_undone > n_undone else history[-1:]:
            self._shown_before = self._shown_at.get(step.time)
            if self._n_undone != n_undone:  # the label may be the one that a cluster had already
                for edit in (e for e in step.edits if isinstance(e, Relabel)):
                    self._changed += self._positions(edit.image, edit.after).tolist()
        for image in images:
            if image in self._of_image:
                self._changed += self._read(image).tolist()
                self.moved.emit()

    def _follow(self, step: Step) -> None:
        """Note what a step removed, split or merged, and why. Pieces join the queue."""
        for edit in step.edits:
            if isinstance(edit, RemoveClusters):
                self._reason[self._positions(edit.image, edit.cluster_ids)] = NOT_A_CLUSTER
            elif isinstance(edit, ReplaceClusters):
                image, before, after = edit.image, ids_of(edit.before), ids_of(edit.after)
                gone = self._positions(image, before - after)
                if len(gone):
                    self._reason[gone] = SPLIT_OR_MERGED
                    known = self.queue.ids[self._positions(image, after)]
                    self._append(image, sorted(after - {*known.tolist()}), self._place[gone].min())

    def _append(self, image: str, ids: list[int], place: int) -> None:
        """Append clusters to the queue, which come in the place of those that they replace."""
        n, n_new = len(self.queue), len(ids)
        self._place = np.append(self._place, np.full(n_new, place))
        self.queue = self.queue.extended(image, ids)
        self._of_image[image] = np.append(self._of_image[image], n + np.arange(n_new))
        texts, flags = np.full(n_new, "", object), np.zeros(n_new, bool)
        self._said, self._predicted, self._reason = (
            np.append(x, texts) for x in (self._said, self._predicted, self._reason)
        )
        self._is_labelled, self._there, self._touched = (
            np.append(x, flags) for x in (self._is_labelled, self._there, self._touched)
        )

    def _on_selection(self, keys: frozenset[Key]) -> None:
        """Go to a cluster of the queue that was clicked."""
        if self._ignores_selection:
            return
        clicked = keys if len(keys) == 1 else ()
        found = [int(at) for image, i in clicked for at in self._positions(image, [i])]
        if found and found[0] != self.position:
            self._shown.go(found[0])
            self._since = time.monotonic()
        self.moved.emit()
