"""Queues of clusters that a person reviews, in an order of `review_orders`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import AtomicityError
from ..core.settings import documented, seed_setting, setting
from ..core.tables.cluster_table import NON_CLASS_LABELS, Key, classes_of, is_excluded

# ---- orders in which clusters are reviewed: least certain first, class by class, at random,

# ---- what a person wants to review

DEFAULT_SAMPLE = 200
"""Clusters of a stratified sample by default."""


@documented
@dataclass(frozen=True)
class ReviewRequest:
    """Clusters to review, and their order."""

    order: str = setting("confidence", "", "A name in `ORDERS`.")
    images: tuple[str, ...] | None = setting(None, "", "Of these images only; None: of all.")
    label: str = setting(
        "", "", 'For the order "class": this label only; "": all labels, one after the other.'
    )
    n: int = setting(
        DEFAULT_SAMPLE,
        "Number",
        "Number of clusters to draw; 0 for all.",
        form_range=(0, 100_000),
        step=1,
        text="all",
        default_text=f"{DEFAULT_SAMPLE}, which gives the accuracy of all to about 4 points either "
        "way",
    )
    seed: int = seed_setting()
    again: bool = setting(
        False,
        "Include reviewed clusters",
        "Whether to include clusters with a manual label. A sample ignores it: it is drawn from "
        "all, and labelled clusters count as answered.",
        key="review/again",
    )
    by_image: bool = setting(
        False,
        "Image by image",
        "Whether to finish one image before the next, which is faster.",
        key="review/by_image",
    )


@dataclass(frozen=True)
class Stratum:
    """A part of the clusters from which a sample is drawn on its own."""

    label: str
    level: str
    size: int


@dataclass(frozen=True)
class Order:
    """One way to go through clusters."""

    # title, what: for people: its name, and what it is good for
    title: str
    what: str
    # from a table to why there is nothing to go by; "" if there is
    missing: Callable[[pd.DataFrame], str]
    # from a table and a request to the rows that belong to the queue, in order
    choose: Callable[[pd.DataFrame, ReviewRequest], np.ndarray]
    estimates: bool = False  # whether the answers say something of all clusters


# ---- orders: from a table to row numbers
def certainty(table: pd.DataFrame) -> np.ndarray:
    """Return the certainty of each prediction, (N,).

    It is the confidence. For labels that are no class it is the largest probability minus 1, below
    all classes; without a prediction it is -2.
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
    network, mixture = (_texts(table, f"label_{name}") for name in ("network", "mixture"))
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


def _by_ood_score(table: pd.DataFrame, request: ReviewRequest) -> np.ndarray:
    return np.argsort(-np.nan_to_num(_numbers(table, "ood_score"), nan=-np.inf), kind="stable")


def _random(table: pd.DataFrame, request: ReviewRequest) -> np.ndarray:
    return np.random.default_rng(request.seed).permutation(len(table))


def _numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table.columns:
        return np.full(len(table), np.nan)
    return table[name].to_numpy(float)


def _texts(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table.columns:
        return np.full(len(table), "", object)
    return table[name].to_numpy(object)


def _nothing_missing(table: pd.DataFrame) -> str:
    return ""


def has_predictions(table: pd.DataFrame) -> bool:
    """Return whether a cluster has a predicted label that is not hidden."""
    return bool((table["label_predicted"] != "").any())


def _without_predictions(table: pd.DataFrame) -> str:
    if has_predictions(table):
        return ""
    return "nothing has been predicted of these clusters, or it is hidden"


def _without_estimators(table: pd.DataFrame) -> str:
    if np.isfinite(_numbers(table, "disagreement")).any():
        return ""
    return "the model has no labels of single estimators for these clusters"


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
        "Clusters of the same label one after the other, the least certain first: outliers "
        "are easy to see.",
        _nothing_missing,
        _by_class,
    ),
    "ood": Order(
        "least like the training",
        "The highest OOD score first: contamination, single atoms, other sizes.",
        _without_scores,
        _by_ood_score,
    ),
    "random": Order(
        "at random",
        "In random order: the answers tell how often the labels are right, also if you stop early. "
        "As in the ratios, without clusters that the border cuts.",
        _nothing_missing,
        _random,
        estimates=True,
    ),
    "sample": Order(
        "sample for the accuracy",
        "A random sample with a fair part of every label and of every confidence: the fewest "
        "answers for an estimate of the accuracy of each label. As in the ratios, without clusters "
        "that the border cuts. Drawn once; a project remembers it.",
        _without_predictions,
        _random,  # drawn by `draw_sample`, which needs the strata too
        estimates=True,
    ),
}
_BY_NUMBER = replace(
    ORDERS["class"],
    title="by number",
    what="Clusters by their numbers: nothing has been predicted of them, or it is hidden.",
)


def orders_of(table: pd.DataFrame) -> dict[str, Order]:
    """Return `ORDERS` as they are named for some clusters: without labels, none is by class."""
    by_number = len(table) > 0 and not has_predictions(table)
    return {**ORDERS, "class": _BY_NUMBER} if by_number else ORDERS


def in_scope(table: pd.DataFrame, request: ReviewRequest) -> pd.DataFrame:
    """Return the rows of a table that a request is about."""
    if request.images is not None:
        table = table[table["image"].isin(request.images)]
    table = table[~is_excluded(table)]  # what does not count need not be looked at
    if ORDERS[request.order].estimates:  # the accuracy is that of the labels which count
        table = table[~table["touches_border"].to_numpy(bool)]
    if request.order == "sample":
        return table[table["label_predicted"] != ""]
    return table if request.again else table[table["label_corrected"] == ""]


# ---- stratified random samples of clusters

MIN_PER_STRATUM = 3
CONFIDENCE_LEVELS = ("low", "middle", "high")
"""Terciles of the confidence among the clusters of one predicted label."""


def strata_of(table: pd.DataFrame) -> tuple[tuple[Stratum, ...], np.ndarray]:
    """Return strata, predicted label × tercile of the confidence, and each row's stratum, (N,).

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


def allocate(sizes: Sequence[int], n: int, minimum: int = MIN_PER_STRATUM) -> np.ndarray:
    """Allocate a sample to strata: in proportion, but at least a few of each."""
    size = np.asarray(sizes, int)
    n = min(n, int(size.sum()))
    start = np.minimum(size, minimum)
    while start.sum() > n and start.max(initial=0) > 1:
        minimum -= 1
        start = np.minimum(size, minimum)
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


def draw_sample(
    table: pd.DataFrame, request: ReviewRequest
) -> tuple[np.ndarray, tuple[Stratum, ...], np.ndarray]:
    """Draw a stratified sample; return rows in random order, strata, and each row's stratum."""
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


@dataclass(frozen=True, eq=False)
class Queue:
    """Clusters in the order in which they are reviewed."""

    request: ReviewRequest  # what was asked for
    images: np.ndarray
    ids: np.ndarray
    # from which an estimate can be made; empty where the order allows none
    strata: tuple[Stratum, ...] = ()
    # (N,): index into ``strata``
    stratum: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    models: tuple[str, ...] = ()  # who had made the predictions when the queue was made
    time: str = ""  # when that was, ISO 8601; "" where it does not matter

    @property
    def is_second_round(self) -> bool:
        """Whether labels given before count as no answers; in a sample they always count."""
        return self.request.again and self.request.order != "sample"

    def __len__(self) -> int:
        return len(self.ids)

    def key(self, position: int) -> Key:
        """Return the cluster at a position of the queue."""
        return str(self.images[position]), int(self.ids[position])

    def extended(self, image: str, ids: Sequence[int]) -> Queue:
        """Return the queue with more clusters at its end, which no estimate is made from."""
        images = np.append(self.images, np.full(len(ids), image, object))
        return replace(self, images=images, ids=np.append(self.ids, np.array(ids, int)))

    @property
    def order(self) -> Order:
        """The order of the queue."""
        return ORDERS[self.request.order]

    @property
    def population(self) -> int:
        """Number of clusters that the estimate is about; 0 if there is none."""
        return sum(s.size for s in self.strata)

    def to_json(self) -> dict[str, Any]:
        """Return the queue as a project stores it."""
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
        """Return the queue that `to_json` has described.

        Raises `AtomicityError` if the description is not valid.
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


def build(table: pd.DataFrame, request: ReviewRequest, time: str = "") -> Queue:
    """Return the clusters of a table in the requested order.

    Raises `AtomicityError` if there is nothing to review, with the reason.
    """
    order = ORDERS[request.order]
    if not len(table):
        raise AtomicityError("there are no clusters yet", advice="Analyse an image first")
    reason = order.missing(table)
    if reason:
        raise AtomicityError(f"there is no order '{order.title}': {reason}")
    wanted = in_scope(table, request)
    if not len(wanted):
        raise AtomicityError(*_nothing_left(request))
    models = tuple(sorted(set(wanted["model_id"]) - {""}))
    if request.order == "sample":
        rows, strata, stratum = draw_sample(wanted, request)
    else:
        rows = order.choose(wanted, request)
        strata = (Stratum("", "", len(wanted)),) if order.estimates else ()
        stratum = np.zeros(len(rows) if order.estimates else 0, int)
    if not len(rows):
        raise AtomicityError(*_nothing_left(request))
    images = wanted["image"].to_numpy(object)[rows]
    cut = wanted["touches_border"].to_numpy(bool)[rows]
    again = _cut_ones_later(cut, images, table["image"].unique() if request.by_image else None)
    ids = wanted["cluster_id"].to_numpy(int)[rows[again]]
    stratum = stratum[again] if len(stratum) else stratum
    return Queue(request, images[again], ids, strata, stratum, models, time)


def _cut_ones_later(
    cut: np.ndarray, images: np.ndarray, one_by_one: np.ndarray | None
) -> np.ndarray:
    """Return an order in which clusters cut by the border come last.

    With ``one_by_one``, in each of these images, one image after the other; those without other
    clusters come last.
    """
    if one_by_one is None:
        return np.argsort(cut, kind="stable")
    group = pd.Index(one_by_one).get_indexer(images)
    only_cut = pd.Series(cut).groupby(group).transform("all").to_numpy()
    return np.lexsort((cut, group, only_cut))


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
    """Return a queue of these clusters, labelled or not."""
    return Queue(
        ReviewRequest(order=title, again=True),
        np.array([image for image, _ in keys], object),
        np.array([i for _, i in keys], int),
    )
