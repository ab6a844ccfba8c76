"""Review: which clusters a person looks at, in which order, and what the answers say of the labels.

A *queue* is a list of clusters in an order of `ORDERS`. Two of these orders are drawn at random, so
that the answers tell how often the machine is right among all clusters they were drawn from; the
others go to what is doubtful first, and of their answers nothing follows for the rest.

The *accuracy* is the stratified estimate [1]_ p = sum over strata of W_h x_h / n_h, with the share
W_h of a stratum in all clusters and x_h right answers of n_h. Its variance is that of sampling
without replacement,

    V = sum of W_h² (1 - n_h / N_h) q_h (1 - q_h) / n_h,

where q_h is x_h / n_h drawn towards the mean of all strata by the weight of two answers: a small
stratum in which all were right is not without scatter. The interval is Wilson's for the effective
number q (1 - q) / V of answers, which keeps its coverage near 0 and 1 [2]_ [3]_ and shrinks to
a point where all clusters were looked at.

References
----------
.. [1] W. G. Cochran, "Sampling Techniques", 3rd ed., Wiley (1977), chapter 5.
.. [2] E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected
   number of positive counts estimated from survey data", Survey Methodology 24, 193-201 (1998).
.. [3] C. Franco, R. J. A. Little, T. A. Louis and E. V. Slud, "Comparative study of confidence
   intervals for proportions in complex sample surveys", Journal of Survey Statistics and
   Methodology 7, 334-364 (2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..core.cluster_table import NON_CLASS_LABELS, Key, classes_of
from ..core.errors import AtomicityError
from ..statistics.stratified_accuracy import Accuracy, stratified_share

DEFAULT_SAMPLE = 200
"""Clusters of a stratified sample, unless a person says otherwise."""
MIN_PER_STRATUM = 3
CONFIDENCE_LEVELS = ("low", "middle", "high")
"""Terciles of the confidence among the clusters of one predicted label."""
# The weight, in answers, of the mean of all strata in the variance of each.
# Of the part of a sample that was gone through: a few may be skipped.
_MIN_ANSWERED = 0.9


@dataclass(frozen=True)
class ReviewRequest:
    """Which clusters are wanted, and in which order.

    Parameters
    ----------
    order
        A name in `ORDERS`.
    images
        Of these images only; None: of all.
    label
        For the order "class": this label only; "": all labels, one after the other.
    n
        For the order "sample": how many; 0: all.
    seed
        Of what is drawn at random.
    again
        Whether clusters that a person has labelled come too. A sample ignores it: it is drawn from
        all, and what was labelled before counts as answered.
    by_image
        Whether to go through one image after the other.
    """

    order: str = "confidence"
    images: tuple[str, ...] | None = None
    label: str = ""
    n: int = DEFAULT_SAMPLE
    seed: int = 0
    again: bool = False
    by_image: bool = False


@dataclass(frozen=True)
class Stratum:
    """A part of the clusters from which a sample is drawn on its own."""

    label: str
    level: str
    size: int


@dataclass(frozen=True, eq=False)
class Queue:
    """Clusters in the order in which they are reviewed.

    Parameters
    ----------
    request
        What was asked for.
    images, ids
        (N,): the clusters.
    strata
        From which an estimate can be made; empty where the order allows none.
    stratum
        (N,): index into ``strata``.
    models
        Who had made the predictions when the queue was made.
    time
        When that was, ISO 8601; "" where it does not matter.
    """

    request: ReviewRequest
    images: np.ndarray
    ids: np.ndarray
    strata: tuple[Stratum, ...] = ()
    stratum: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    models: tuple[str, ...] = ()
    time: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def key(self, position: int) -> Key:
        return str(self.images[position]), int(self.ids[position])

    @property
    def order(self) -> Order:
        return ORDERS[self.request.order]

    @property
    def population(self) -> int:
        """How many clusters the estimate is about; 0 if there is none."""
        return sum(s.size for s in self.strata)

    def to_json(self) -> dict[str, Any]:
        """As it is kept in a project."""
        names, codes = np.unique(self.images.astype(str), return_inverse=True)
        request = {**vars(self.request)}
        return {
            "request": request,
            "names": names.tolist(),
            "images": codes.tolist(),
            "ids": self.ids.tolist(),
            "strata": [[s.label, s.level, s.size] for s in self.strata],
            "stratum": self.stratum.tolist(),
            "models": list(self.models),
            "time": self.time,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Queue:
        """What `to_json` gave.

        Raises
        ------
        AtomicityError
            If it is none.
        """
        try:
            wish = dict(values["request"])
            if wish["images"] is not None:
                wish["images"] = tuple(wish["images"])
            names = np.array([*values["names"], ""], object)
            out = cls(
                ReviewRequest(**wish),
                names[np.asarray(values["images"], int)],
                np.asarray(values["ids"], int),
                tuple(Stratum(*s) for s in values["strata"]),
                np.asarray(values["stratum"], int),
                tuple(values["models"]),
                str(values["time"]),
            )
            inside = len(out.stratum) == 0 or 0 <= out.stratum.max() < len(out.strata)
            if not inside or len(out.images) != len(out.ids) or wish["order"] not in ORDERS:
                raise ValueError("lengths differ")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise AtomicityError(
                "the sample that is noted in the project can't be read",
                advice="Draw a new one",
            ) from error
        return out


@dataclass(frozen=True)
class Order:
    """One way to go through clusters.

    Parameters
    ----------
    title, what
        For people: its name, and what it is good for.
    missing
        From a table to why there is nothing to go by; "" if there is.
    choose
        From a table and a request to the rows that belong to the queue, in order.
    estimates
        Whether the answers say something of all clusters.
    """

    title: str
    what: str
    missing: Callable[[pd.DataFrame], str]
    choose: Callable[[pd.DataFrame, ReviewRequest], np.ndarray]
    estimates: bool = False


# ---- orders: from a table to row numbers
def certainty(table: pd.DataFrame) -> np.ndarray:
    """(N,): the confidence, or for labels that are no class the largest probability, below all
    others; NaN (nothing was predicted) becomes -2: of these one knows least.
    """
    confidence = table["confidence"].to_numpy(float)
    p = table[[f"p_{c}" for c in classes_of(table)]].to_numpy(float)
    outside = table["label_predicted"].isin(NON_CLASS_LABELS).to_numpy()
    if p.shape[1] and outside.any():
        confidence = np.where(outside, np.nan_to_num(p.max(axis=1)) - 1, confidence)
    return np.nan_to_num(confidence, nan=-2.0)


def _by_uncertainty(table: pd.DataFrame, request: ReviewRequest) -> np.ndarray:
    return np.argsort(certainty(table), kind="stable")


def _disagreeing(table: pd.DataFrame, request: ReviewRequest) -> np.ndarray:
    share = np.nan_to_num(_numbers(table, "disagreement"))
    network, mixture = (_words(table, f"label_{name}") for name in ("network", "mixture"))
    differ = (network != mixture) & (network != "") & (mixture != "")
    order = np.lexsort((certainty(table), -differ.astype(int), -share))
    return order[(share > 0)[order] | differ[order]]


def _by_class(table: pd.DataFrame, request: ReviewRequest) -> np.ndarray:
    label = table["label"].to_numpy(object)
    known = [*classes_of(table), *NON_CLASS_LABELS]
    rest = sorted(set(label) - {*known, ""})
    place = {name: i for i, name in enumerate([*known, *rest])}
    rank = table["label"].map(place).fillna(len(place)).to_numpy()
    order = np.lexsort((certainty(table), rank))
    return order[(label == request.label)[order]] if request.label else order


def _outside(table: pd.DataFrame, request: ReviewRequest) -> np.ndarray:
    return np.argsort(-np.nan_to_num(_numbers(table, "ood_score"), nan=-np.inf), kind="stable")


def _random(table: pd.DataFrame, request: ReviewRequest) -> np.ndarray:
    return np.random.default_rng(request.seed).permutation(len(table))


def _numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table.columns:
        return np.full(len(table), np.nan)
    return table[name].to_numpy(float)


def _words(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table.columns:
        return np.full(len(table), "", object)
    return table[name].to_numpy(object)


def _nothing_missing(table: pd.DataFrame) -> str:
    return ""


def _without_predictions(table: pd.DataFrame) -> str:
    if (table["label_predicted"] != "").any():
        return ""
    return "nothing has been predicted of these clusters, or it is hidden"


def _without_estimators(table: pd.DataFrame) -> str:
    if np.isfinite(_numbers(table, "disagreement")).any():
        return ""
    return "the model has given the word of single estimators for none of these clusters"


def _without_scores(table: pd.DataFrame) -> str:
    if np.isfinite(_numbers(table, "ood_score")).any():
        return ""
    return "there is no score for what the model has not learnt"


ORDERS: dict[str, Order] = {
    "confidence": Order(
        "least certain first",
        "Where a correction is most likely to be needed. Unknown ones come before the classes.",
        _without_predictions,
        _by_uncertainty,
    ),
    "disagreement": Order(
        "estimators disagree",
        "Clusters of which diameter, mixture and network do not all say the same; the less they "
        "agree the earlier, then the less certain.",
        _without_estimators,
        _disagreeing,
    ),
    "class": Order(
        "class by class",
        "Clusters of the same label one after the other, the least certain first: an odd one "
        "stands out.",
        _nothing_missing,
        _by_class,
    ),
    "ood": Order(
        "least like the training",
        "The highest score for what the model has not learnt first: contamination, single atoms, "
        "other sizes.",
        _without_scores,
        _outside,
    ),
    "random": Order(
        "at random",
        "In random order: the answers tell how often the labels are right, also if you stop early.",
        _nothing_missing,
        _random,
        estimates=True,
    ),
    "sample": Order(
        "sample for the accuracy",
        "A random sample with a fair part of every label and of every confidence: the fewest "
        "answers for an estimate of the accuracy of each label. Drawn once; a project remembers "
        "it.",
        _without_predictions,
        _random,  # drawn by `_sample`, which needs the strata too
        estimates=True,
    ),
}


def in_scope(table: pd.DataFrame, request: ReviewRequest) -> pd.DataFrame:
    """The rows of a table that a request is about."""
    if request.images is not None:
        table = table[table["image"].isin(request.images)]
    if "excluded" in table.columns:  # what does not count need not be looked at
        table = table[~table["excluded"].to_numpy(bool)]
    if request.order == "sample":
        return table[table["label_predicted"] != ""]
    return table if request.again else table[table["label_corrected"] == ""]


def build(table: pd.DataFrame, request: ReviewRequest, time: str = "") -> Queue:
    """The clusters of a table that a person wants to review, in the order that was asked for.

    Parameters
    ----------
    table
        The cluster table of all images.
    request
        Which of them, and how.
    time
        When, for a sample that is kept.

    Raises
    ------
    AtomicityError
        If there is nothing to review, with the reason.
    """
    order = ORDERS[request.order]
    if not len(table):
        raise AtomicityError("there are no clusters yet", advice="Analyse an image first")
    reason = order.missing(table)
    if reason:
        raise AtomicityError(f"there is no order '{order.title}': {reason}")
    wanted = in_scope(table, request)
    models = tuple(sorted(set(wanted["model_id"]) - {""}))
    if request.order == "sample":
        rows, strata, stratum = _sample(wanted, request)
    else:
        rows = order.choose(wanted, request)
        strata = (Stratum("", "", len(wanted)),) if order.estimates else ()
        stratum = np.zeros(len(rows) if order.estimates else 0, int)
    if not len(rows):
        raise AtomicityError(*_nothing_left(request))
    images = wanted["image"].to_numpy(object)[rows]
    if request.by_image:
        first = {name: i for i, name in enumerate(dict.fromkeys(table["image"]))}
        again = np.argsort([first[i] for i in images], kind="stable")
        rows, images, stratum = (
            rows[again],
            images[again],
            stratum[again] if len(stratum) else stratum,
        )
    ids = wanted["cluster_id"].to_numpy(int)[rows]
    return Queue(request, images, ids, strata, stratum, models, time)


def _nothing_left(request: ReviewRequest) -> tuple[str, None, str]:
    which = f" labelled {request.label}" if request.order == "class" and request.label else ""
    if request.order == "disagreement":
        return "there is no cluster left of which estimators disagree", None, "Choose another order"
    if request.again or request.order == "sample":
        return f"there is no cluster{which} here", None, "Choose all images, or another order"
    return (
        f"all clusters{which} here have been reviewed",
        None,
        "Choose all images, or tick that those already reviewed come too",
    )


def queue_of(keys: Sequence[Key], title: str = "class") -> Queue:
    """A queue of these clusters, whether or not somebody has labelled them."""
    return Queue(
        ReviewRequest(order=title, again=True),
        np.array([image for image, _ in keys], object),
        np.array([i for _, i in keys], int),
    )


# ---- the sample
def strata_of(table: pd.DataFrame) -> tuple[tuple[Stratum, ...], np.ndarray]:
    """Predicted label × tercile of its confidence; (N,) index of each row's stratum.

    Labels that are no class have no confidence, and few clusters no terciles: these are one
    stratum.
    """
    label = table["label_predicted"].to_numpy(object)
    confidence = certainty(table)
    index = np.zeros(len(table), int)
    strata: list[Stratum] = []
    for name in [*[n for n in classes_of(table) if n in set(label)],
                 *sorted(set(label) - set(classes_of(table)))]:  # fmt: skip
        rows = np.flatnonzero(label == name)
        levels = len(CONFIDENCE_LEVELS)
        if name in NON_CLASS_LABELS or len(rows) < levels * MIN_PER_STRATUM:
            index[rows] = len(strata)
            strata.append(Stratum(str(name), "", len(rows)))
            continue
        rank = np.empty(len(rows), int)
        rank[np.argsort(confidence[rows], kind="stable")] = np.arange(len(rows))
        level = rank * levels // len(rows)
        index[rows] = len(strata) + level
        strata += [
            Stratum(str(name), words, int((level == i).sum()))
            for i, words in enumerate(CONFIDENCE_LEVELS)
        ]
    return tuple(strata), index


def allocate(sizes: Sequence[int], n: int, least: int = MIN_PER_STRATUM) -> np.ndarray:
    """How many to draw from each stratum: in proportion, but at least a few of each.

    Parameters
    ----------
    sizes
        Clusters in each stratum.
    n
        How many in all; where that is not enough for one of each, there are more.
    least
        Of each stratum, or all of it where it has fewer; less where n does not suffice.
    """
    size = np.asarray(sizes, int)
    n = min(n, int(size.sum()))
    start = np.minimum(size, least)
    while start.sum() > n and start.max(initial=0) > 1:
        least -= 1
        start = np.minimum(size, least)
    left = n - int(start.sum())
    if left <= 0:
        return start
    want = np.clip(n * size / size.sum() - start, 0, None)
    share = np.minimum(want * left / want.sum(), size - start)
    out = start + np.floor(share).astype(int)
    # The largest remainders first, wherever there is somebody left to draw.
    for i in np.argsort(-(share - np.floor(share)), kind="stable"):
        if out.sum() < n and out[i] < size[i]:
            out[i] += 1
    while out.sum() < n:  # strata that were full have left some over
        room = np.flatnonzero(out < size)
        out[room[: n - int(out.sum())]] += 1
    return out


def _sample(
    table: pd.DataFrame, request: ReviewRequest
) -> tuple[np.ndarray, tuple[Stratum, ...], np.ndarray]:
    rng = np.random.default_rng(request.seed)
    strata, index = strata_of(table)
    sizes = [s.size for s in strata]
    number = allocate(sizes, request.n or len(table))
    drawn, place = [], []
    for i, n in enumerate(number):
        rows = np.flatnonzero(index == i)
        drawn.append(rng.permutation(rows)[:n])
        # Evenly over the whole: whoever stops early has a fair part of each stratum too.
        place.append((np.arange(n) + rng.uniform(size=n)) / max(n, 1))
    rows, at = np.concatenate(drawn), np.concatenate(place)
    order = np.argsort(at, kind="stable")
    return rows[order], strata, index[rows[order]]


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
    queue: Queue, predicted: np.ndarray, said: np.ndarray, removed: np.ndarray
) -> Accuracy | None:
    """How often the machine is right, from the answers so far; None if nothing follows from them.

    Parameters
    ----------
    queue
        What the answers are to; only those count up to where it was gone through.
    predicted
        (N,): the machine's label of each cluster of the queue; "" where it says nothing.
    said
        (N,): a person's; "" without an answer.
    removed
        (N,): whether a person said that it is no cluster. Of these the label that the machine gave
        does not matter: it is wrong. Their class is that of their stratum.
    """
    if not queue.strata:
        return None
    of_stratum = np.array([s.label for s in queue.strata], object)[queue.stratum]
    label = np.where((predicted == "") & (of_stratum != ""), of_stratum, predicted)
    answered = ((said != "") & (predicted != "")) | removed
    answered &= _walked(answered, queue.request.by_image)
    right = answered & ~removed & (said == predicted)
    size = np.array([s.size for s in queue.strata])

    def counts(which: np.ndarray) -> np.ndarray:
        return np.bincount(queue.stratum[which], minlength=len(size))

    n, hits = counts(answered), counts(right)
    by_class = {}
    for name in dict.fromkeys([*(s.label for s in queue.strata if s.label), *label[answered]]):
        if not name:
            continue
        of_class = label == name
        # Where strata are not those of the labels of today, their sizes are estimated.
        drawn = np.bincount(queue.stratum, minlength=len(size))
        part = np.divide(counts(of_class), drawn, out=np.zeros(len(size)), where=drawn > 0)
        inside = part > 0
        by_class[str(name)] = stratified_share(
            (size * part)[inside], counts(of_class & answered)[inside],
            counts(of_class & right)[inside],
        )  # fmt: skip
    return Accuracy(
        stratified_share(size, n, hits), by_class, len(queue), queue.population, int(removed.sum())
    )
