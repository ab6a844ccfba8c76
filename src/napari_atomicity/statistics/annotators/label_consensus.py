"""Consensus of several annotators about the classes of clusters.

The model of Dawid and Skene [1]_ with a confusion matrix for each annotator: labels and matrices
are estimated together by expectation-maximisation, and nobody is assumed to be right. A label that
its annotator is not sure of counts half. The matrices of two annotators who share clusters with
nobody else can't be told apart: they have the same one. Labels of an annotator who shares none are
the consensus. The certainty of a label is its posterior probability.

References
----------
.. [1] A. P. Dawid, A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM
   algorithm", J. R. Stat. Soc. C 28, 20-28 (1979).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree
from scipy.special import logsumexp

from .agreement import Agreement, agreement, agreement_share
from .consensus import same_rates

_KEY = ["image", "cluster_id"]
_UNSURE = 0.5
_MAX_STEPS, _TOLERANCE = 500, 1e-6
# Pseudo-counts of each row of a confusion matrix: right more often than any other label.
_RIGHT, _WRONG = 2.0, 0.5


@dataclass(frozen=True, eq=False)
class LabelConsensus:
    """Consensus about the classes of clusters."""

    # A row per cluster: ``image, cluster_id, label, certainty, n_labels``, the share ``p_<class>``
    # of each class, and ``label_<annotator>``, "" without a label
    clusters: pd.DataFrame
    agreement: Agreement
    # A row per annotator, and per model: ``who, clusters, share`` (of the clusters, those with the
    # label of the consensus of the others), ``share_low, share_high``
    raters: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, ready for JSON."""
        figures = {
            name: {"value": f.value, "low": f.low, "high": f.high}
            for name, f in (("share", self.agreement.share), ("alpha", self.agreement.alpha))
        }
        return {
            "clusters": len(self.clusters),
            "clusters_with_several_labels": self.agreement.n_items,
            **figures,
            "pairs": self.agreement.pairs.to_dict("records"),
            "raters": self.raters,
        }


def label_consensus(
    # ``image, annotator, cluster_id, label, uncertain``: one row per annotator and cluster
    labels: pd.DataFrame,
    models: Mapping[str, pd.DataFrame] | None = None,  # cluster tables with ``label`` by name
) -> LabelConsensus:
    """Merge the labels of several annotators, and compare each person and model with the others."""
    clusters = _merge(labels)
    keys = zip(labels["image"], labels["cluster_id"].astype(int), strict=True)
    keyed = labels.assign(item=pd.Series(list(keys), labels.index, dtype=object))
    return LabelConsensus(
        clusters, agreement(keyed[["item", "annotator", "label"]]), _raters(labels, models or {})
    )


def _merge(labels: pd.DataFrame) -> pd.DataFrame:
    """Return the table of clusters with the label of the consensus."""
    people = list(dict.fromkeys(labels["annotator"]))
    classes = sorted(set(labels["label"]))
    keys = labels[_KEY].drop_duplicates().sort_values(_KEY, ignore_index=True)
    row = pd.MultiIndex.from_frame(keys).get_indexer(pd.MultiIndex.from_frame(labels[_KEY]))
    who = pd.Index(people).get_indexer(labels["annotator"])
    votes = np.zeros((len(keys), len(people), len(classes)))
    weight = np.where(labels["uncertain"].astype(bool), _UNSURE, 1.0)
    votes[row, who, pd.Index(classes).get_indexer(labels["label"])] = weight
    posterior = fit_labels(votes)
    best = posterior.argmax(axis=1) if len(classes) else np.zeros(0, int)
    given = np.full((len(keys), len(people)), "", object)
    given[row, who] = labels["label"].to_numpy(object)
    return keys.assign(
        label=np.array(classes, object)[best],
        certainty=posterior.max(axis=1, initial=0),
        n_labels=(votes.sum(axis=2) > 0).sum(axis=1),
        **{f"p_{name}": posterior[:, k] for k, name in enumerate(classes)},
        **{f"label_{name}": given[:, k] for k, name in enumerate(people)},
    )


def fit_labels(votes: np.ndarray) -> np.ndarray:
    """Estimate the posterior (N, C) of the class of each item.

    The label of an annotator who has no item in common with others is the consensus.

    Parameters
    ----------
    votes : ndarray of shape (N, K, C)
        Weight of the label of each annotator for each class; 0 without a label.
    """
    looked = np.asarray(votes.any(axis=2))
    compared = looked[looked.sum(axis=1) > 1].any(axis=0)
    alone = ~(looked & compared).any(axis=1)
    total = votes.sum(axis=1)
    # What the annotator is not sure of may be any class.
    posterior = total + (1 - total.sum(axis=1, keepdims=True)) / max(votes.shape[2], 1)
    posterior[~alone] = _fit(votes[~alone], same_rates(looked))
    return np.asarray(posterior)


def _fit(votes: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """Estimate the posterior (N, C) with confusion matrices; `alike`: see `same_rates`."""
    total = votes.sum(axis=1)
    posterior = total / total.sum(axis=1, keepdims=True)
    prior = _WRONG + (_RIGHT - _WRONG) * np.eye(votes.shape[2])
    for _ in range(_MAX_STEPS):
        counts = np.einsum("jk,nc,nkl->jcl", alike, posterior, votes, optimize=True)
        matrices = counts + prior
        matrices = matrices / matrices.sum(axis=2, keepdims=True)
        shares = posterior.sum(axis=0) + 1
        logits = np.log(shares / shares.sum()) + np.einsum("nkl,kcl->nc", votes, np.log(matrices))
        before, posterior = posterior, np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
        if np.abs(posterior - before).max(initial=0) < _TOLERANCE:
            break
    return np.asarray(posterior)


def _raters(labels: pd.DataFrame, models: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Compare each annotator with the consensus of the others, and each model with that of all."""
    rows = []
    for who in dict.fromkeys(labels["annotator"]):
        own = labels[labels["annotator"] == who]
        others = labels[labels["annotator"] != who]
        if len(others):
            rows.append(_compared(str(who), own, _merge(others)))
    everybody = _merge(labels)
    for name, table in models.items():
        rows.append(_compared(name, _numbered_as(table, labels), everybody))
    return rows


def _numbered_as(table: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the clusters of a model that people have labelled, with the numbers of their packs.

    A run may number clusters in another way: the one of a label is the nearest one within half the
    diameter. Tables without positions are compared by number.
    """
    places = ["y_px", "x_px", "diameter_px"]
    if not set(places) <= set(labels) or not set(places[:2]) <= set(table):
        return table
    parts = [table.iloc[:0]]
    for image, asked in labels.drop_duplicates(_KEY).groupby("image", sort=False):
        own = table[table["image"] == image]
        if not len(own):
            continue
        distance, nearest = cKDTree(own[places[:2]]).query(asked[places[:2]])
        is_same = distance <= np.maximum(0.5 * asked["diameter_px"], 1.0)
        numbers = asked.loc[is_same, "cluster_id"].to_numpy()
        parts.append(own.iloc[nearest[is_same]].assign(cluster_id=numbers))
    return pd.concat(parts, ignore_index=True)


def _compared(who: str, own: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    both = own[[*_KEY, "label"]].merge(reference[[*_KEY, "label"]], on=_KEY, suffixes=("", "_of"))
    share = agreement_share(int((both["label"] == both["label_of"]).sum()), len(both))
    return {
        "who": who,
        "clusters": len(both),
        "share": share.value,
        "share_low": share.low,
        "share_high": share.high,
    }
