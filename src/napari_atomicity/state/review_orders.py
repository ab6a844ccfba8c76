"""Orders in which clusters are reviewed: least certain first, class by class, at random, ..."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..core.cluster_table import NON_CLASS_LABELS, classes_of
from .review_request import ReviewRequest


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


def _without_predictions(table: pd.DataFrame) -> str:
    if (table["label_predicted"] != "").any():
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
        _random,  # drawn by `draw_sample`, which needs the strata too
        estimates=True,
    ),
}


def in_scope(table: pd.DataFrame, request: ReviewRequest) -> pd.DataFrame:
    """Return the rows of a table that a request is about."""
    if request.images is not None:
        table = table[table["image"].isin(request.images)]
    if "excluded" in table.columns:  # what does not count need not be looked at
        table = table[~table["excluded"].to_numpy(bool)]
    if request.order == "sample":
        return table[table["label_predicted"] != ""]
    return table if request.again else table[table["label_corrected"] == ""]
