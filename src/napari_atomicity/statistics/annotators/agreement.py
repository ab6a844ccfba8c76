"""Agreement of annotators: how often their labels agree, and how far beyond chance.

Three figures, each for all labels and for each label against the rest:

- the *share* of clusters with equal labels of all annotators, or of equal pairs of labels;
- Cohen's kappa of each pair of annotators, whose chance agreement follows from the label
  frequencies of both;
- Krippendorff's alpha for nominal labels, for any number of annotators, who need not label all
  clusters. Its chance agreement follows from the pooled labels.

See `agreement_coefficients` for the definitions and their intervals.

The agreement of annotators with themselves (`self_agreement`) comes from what they were asked
twice: of marks the F1 of the first and the second time, within the tolerance, with a bootstrap over
images; of labels the share of clusters with the same label, with Wilson's interval. It bounds the
agreement with others: nobody agrees better with others than with themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ...core.tables.cluster_table import Key
from ...core.text import pluralise
from ..intervals import percentile_interval, wilson_interval
from .annotation_sites import both_annotated
from .bootstrap_units import Units

# ---- chance-corrected coefficients of agreement between annotators
#
# Cohen's kappa [1]_ and Krippendorff's alpha [2]_ have the form (p - e) / (1 - e), with p the
# observed agreement and e the agreement expected by chance. They are 1 for complete agreement, 0
# for agreement as expected by chance, and undefined if only one label occurs.
#
# The 95 % intervals are percentiles of a bootstrap over clusters, extended to Wilson's interval of
# the observed agreement (at the estimated chance agreement) where that is wider. A bootstrap alone
# has zero width if two annotators agree on all of ten clusters.
#
# References
# ----------
# .. [1] J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
#    Measurement 20, 37-46 (1960).
# .. [2] K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011),
#    https://repository.upenn.edu/asc_papers/43; A. F. Hayes and K. Krippendorff, Communication
#    Methods and Measures 1, 77-89 (2007).

_N_BOOTSTRAP = 1000
_LEVEL = 0.95

_Chance = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class AgreementFigure:
    """A coefficient with its 95 % interval; NaN where it is undefined."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


def agreement_share(same: int, n: int) -> AgreementFigure:
    """Compute the fraction of clusters with agreement, and its Wilson interval."""
    if not n:
        return AgreementFigure()
    value = same / n
    low, high = wilson_interval(np.asarray(value), n, _LEVEL)
    # Fractions of 0 and 1 are within the interval except for rounding.
    return AgreementFigure(value, min(float(low), value), max(float(high), value))


def cohen_kappa(
    both: np.ndarray,  # (N, 2), int: codes of the labels of both annotators
    rng: np.random.Generator,
) -> AgreementFigure:
    """Compute Cohen's kappa of two annotators."""

    def observed_and_chance(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shares = counts / counts.sum(axis=(1, 2), keepdims=True)
        chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
        return np.trace(shares, axis1=1, axis2=2), chance

    k = int(both.max(initial=0)) + 1
    patterns, n = np.unique(both, axis=0, return_counts=True)
    tables = np.zeros((len(patterns), k, k))
    tables[np.arange(len(patterns)), patterns[:, 0], patterns[:, 1]] = 1
    return _beyond_chance(tables, n, observed_and_chance, rng)


def krippendorff_alpha(
    answers: np.ndarray,  # (items, annotators), int: codes of the labels; -1 without a label
    n_labels: int,
    rng: np.random.Generator,  # generator of the bootstrap over items
) -> AgreementFigure:
    """Compute Krippendorff's alpha of nominal labels."""
    given = (answers[:, :, None] == np.arange(n_labels)).sum(axis=1)
    # Few distinct items: two annotators and six labels make 36.
    return alpha_of_counts(*np.unique(given, axis=0, return_counts=True), rng)


def alpha_of_counts(
    # (P, L), int: number of annotators who give each label to an item of each kind
    given: np.ndarray,
    n: np.ndarray,  # (P,), int: number of items of each kind
    rng: np.random.Generator,  # generator of the bootstrap over items
) -> AgreementFigure:
    """Compute Krippendorff's alpha of nominal labels from distinct kinds of items."""

    def observed_and_chance(coincidences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_label = coincidences.sum(axis=2)
        total = of_label.sum(axis=1)
        same = np.trace(coincidences, axis1=1, axis2=2) / total
        return same, (of_label * (of_label - 1)).sum(axis=1) / (total * (total - 1))

    judged = given.sum(axis=1)[:, None, None]
    diagonal = given[:, :, None] * np.eye(given.shape[1])
    tables = (given[:, :, None] * given[:, None, :] - diagonal) / np.maximum(judged - 1, 1)
    return _beyond_chance(tables, n, observed_and_chance, rng)


def _beyond_chance(
    # (P, K, K): contribution of an item of each kind to the coincidence matrix
    tables: np.ndarray,
    n: np.ndarray,  # (P,), int: number of items of each kind
    observed_and_chance: _Chance,
    rng: np.random.Generator,
) -> AgreementFigure:
    """Compute (p - e) / (1 - e) and its interval."""
    total = int(n.sum())
    if not total:
        return AgreementFigure()
    flat = tables.reshape(len(tables), -1)

    def of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return observed_and_chance((counts @ flat).reshape(-1, *tables.shape[1:]))

    p, e = (float(v[0]) for v in of(n[None].astype(float)))
    if 1 - e < 1e-12:
        return AgreementFigure()
    draws = rng.multinomial(total, n / total, size=_N_BOOTSTRAP).astype(float)
    again, chance = of(draws)
    known = 1 - chance > 1e-12  # a resample may contain one label only
    values = (again[known] - chance[known]) / (1 - chance[known])
    ends = percentile_interval(values, _LEVEL)
    low, high = ((float(w) - e) / (1 - e) for w in wilson_interval(np.asarray(p), total, _LEVEL))
    value = (p - e) / (1 - e)
    # Neither coefficient is below -1: so little agreement cannot be expected by so much chance.
    low = max(low, -1.0)
    return AgreementFigure(
        value, float(np.nanmin([ends[0], low, value])), float(np.nanmax([ends[1], high, value]))
    )


NOT_A_CLUSTER = "not a cluster"
"""Label of a cluster that an annotator removed from the table."""
SPLIT_OR_MERGED = "split or merged"
"""Why a cluster that an annotator replaced by others is no longer in the table."""
CONSENSUS = "consensus"
"""Annotator name of resolved disagreements."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of annotators."""

    annotators: tuple[str, ...]  # names in order of appearance
    labels: tuple[str, ...]  # all labels of clusters that two or more annotators labelled
    n_items: int  # number of clusters that two or more annotators labelled
    share: AgreementFigure  # fraction of these with equal labels of all annotators
    alpha: AgreementFigure  # krippendorff's alpha
    # A row per label: ``label, n`` (number of answers), ``share`` (of the pairs of answers that
    # include the label, the fraction that is equal), ``alpha, alpha_low, alpha_high, kappa,
    # kappa_low, kappa_high``; kappa is NaN unless there are two annotators
    by_label: pd.DataFrame
    # A row per pair of annotators: ``a, b, n`` (clusters that both labelled), ``share, share_low,
    # share_high, kappa, kappa_low, kappa_high``
    pairs: pd.DataFrame
    # A row per cluster with different labels: ``item``, and a column per annotator with the label;
    # "" without a label
    disagreements: pd.DataFrame

    @property
    def kappa(self) -> AgreementFigure:
        """Cohen's kappa, if two annotators have clusters in common."""
        if len(self.pairs) != 1:
            return AgreementFigure()
        row = self.pairs.iloc[0]
        return AgreementFigure(*(float(row[c]) for c in ("kappa", "kappa_low", "kappa_high")))


def last_labels(corrections: pd.DataFrame) -> pd.DataFrame:
    """Return the current label of each cluster by each annotator, from a log of corrections.

    Parameters
    ----------
    corrections : pandas.DataFrame
        Columns ``annotator, image, cluster_id, label, what``, in order of time; ``what`` is "label"
        or "remove", or "restore" or "add" for a cluster that is present again. Other rows are
        ignored, and so is what was undone, if the columns ``undo`` and ``undone`` say so.

    Returns
    -------
    pandas.DataFrame
        Columns ``item, annotator, label`` with ``item`` the key (image, cluster_id). A removed
        cluster has the label `NOT_A_CLUSTER`; a cluster whose label was reset has no row, and
        neither has one that was split or merged, or that only the annotator who removed it had
        added and judged.
    """
    who = ["annotator", "image", "cluster_id"]
    replaced = _removed_last(corrections) - removed_clusters(corrections)
    corrections = _drop_undone(drop_replaced(corrections[~_keys(corrections).isin(replaced)]))
    what = corrections["what"]
    given = corrections[what == "label"].drop_duplicates(who, keep="last").set_index(who)["label"]
    presence = corrections[what.isin(["remove", "restore", "add"])]
    stated = presence.drop_duplicates(who, keep="last").set_index(who)
    last = stated["what"]
    out = pd.Series(NOT_A_CLUSTER, last.index[last == "remove"], dtype=object)
    out = out.combine_first(given.astype(object))
    out = out[out != ""]
    if "undo" in stated:  # of a cluster whose addition was undone, nothing is said
        taken_back = stated.index[(last == "remove") & stated["undo"].astype(bool)]
        out = out[~out.index.isin(taken_back)]
    # Nor of one that its annotator added and removed, and nobody else has judged.
    first = presence.drop_duplicates(who).set_index(who)["what"]
    own = out.index.isin(first.index[first == "add"])
    alone = ~out.index.to_frame().duplicated(["image", "cluster_id"], keep=False)
    out = out[~(own & alone & (out == NOT_A_CLUSTER))]
    # In the order of the log, because the order of annotators matters.
    order = corrections.drop_duplicates(who).set_index(who).index
    out = out.reindex(order[order.isin(out.index)])
    index = out.index.to_frame(index=False)
    return pd.DataFrame(
        {
            "item": _keys(index),
            "annotator": index["annotator"].astype(object),
            "label": out.to_numpy(object),
        }
    )


def drop_replaced(corrections: pd.DataFrame) -> pd.DataFrame:
    """Return a log without the removal of clusters that others replaced.

    Splitting and merging, and their undo, remove clusters and add others at the same time, which
    is not a statement that there is no cluster. A log without the column ``time`` is returned
    unchanged.
    """
    if "time" not in corrections.columns or not len(corrections):
        return corrections
    step, removed = ["image", "time"], (corrections["what"] == "remove").to_numpy()
    keys = pd.MultiIndex.from_frame(corrections[[*step, "cluster_id"]])
    # A cluster that was removed and added again in one step replaces no other.
    added = (corrections["what"] == "add").to_numpy() & ~keys.isin(keys[removed])
    steps = pd.MultiIndex.from_frame(corrections[step])
    return corrections[~(removed & steps.isin(steps[added]))]


def _drop_undone(corrections: pd.DataFrame) -> pd.DataFrame:
    """Return a log without what was undone: what the annotator said before, blind or not, holds."""
    if "undone" not in corrections.columns:
        return corrections
    # The undo of an addition stays: nothing is said of that cluster.
    undo = corrections["undo"] & (corrections["what"] != "remove")
    return corrections[~(corrections["undone"] | undo)]


@dataclass(frozen=True, eq=False)
class Opinions:
    """Labels of all annotators of a project, and their agreement."""

    labels: pd.DataFrame  # labels as from `last_labels`, without resolved disagreements
    agreement: Agreement
    # A row per annotator: ``annotator, n`` (clusters), ``n_blind`` (of these, labelled without
    # seeing the labels of others and of the model)
    annotators: pd.DataFrame
    machine: tuple[str, ...]  # last predicted label for each row of ``agreement.disagreements``
    # resolved label for each row of ``agreement.disagreements``, or what it was changed to since;
    # "" if unresolved
    settled: tuple[str, ...]
    warning: str  # of `warn_if_not_blind`


def opinions(
    # The log of a project: the columns of `last_labels`, ``label_predicted`` and ``blind``
    corrections: pd.DataFrame,
) -> Opinions:
    """Collect the labels of all annotators, their agreement, and resolved disagreements."""
    people, settlements = split_settlements(corrections)
    labels = last_labels(people)
    found = agreement(labels)
    items = pd.Series(found.disagreements["item"].to_numpy(), dtype=object)
    predicted = corrections[corrections["label_predicted"].fillna("") != ""]
    machine = predicted.drop_duplicates(["image", "cluster_id"], keep="last")
    resolved = last_labels(settlements.assign(annotator=CONSENSUS))
    n = labels.groupby("annotator", sort=False).size()
    # An answer that was undone or changed openly since is none.
    blind = labels.merge(last_labels(people[people["blind"].astype(bool)]))
    n_blind = blind.groupby("annotator").size().reindex(n.index).fillna(0)
    return Opinions(
        labels,
        found,
        pd.DataFrame({"annotator": n.index, "n": n.to_numpy(), "n_blind": n_blind.astype(int)}),
        _lookup(items, _keys(machine), machine["label_predicted"]),
        _lookup(items, resolved["item"], resolved["label"]),
        warn_if_not_blind(people),
    )


def split_settlements(corrections: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the part of a log with the answers of people, and the one with what was settled.

    Who changes a label openly after it was settled has seen the others: it changes what is settled,
    and is no answer of that annotator. Blind and merged rows are answers.
    """
    is_settled = corrections["annotator"] == CONSENSUS
    keys, place = _keys(corrections), pd.Series(range(len(corrections)), corrections.index)
    settled = _drop_undone(corrections[is_settled]).index
    first = place[settled].groupby(keys[settled]).min()
    is_settled |= place > keys.map(first.to_dict()).astype(float)
    for answer in {"blind", "merged"}.intersection(corrections.columns):
        is_settled &= ~corrections[answer].astype(bool) | (corrections["annotator"] == CONSENSUS)
    return corrections[~is_settled], corrections[is_settled]


def warn_if_not_blind(corrections: pd.DataFrame) -> str:
    """Say how many clusters a person labelled after another, and not blind; "" if there are none.

    Parameters
    ----------
    corrections : pandas.DataFrame
        The log of a project: the columns of `last_labels` and ``blind``, without which nothing is
        known.
    """
    if "blind" not in corrections.columns:
        return ""
    people = corrections[corrections["annotator"] != CONSENSUS]
    labels = last_labels(people)
    blind = last_labels(people[people["blind"].astype(bool)])
    later = labels[labels["item"].duplicated()].merge(blind, how="left", indicator=True)
    n = later.loc[later["_merge"] == "left_only", "item"].nunique()
    if not n:
        return ""
    return (
        f"{pluralise(n, 'cluster')} labelled without Blind after another person had: who sees the "
        "labels of others agrees too easily."
    )


def _keys(log: pd.DataFrame) -> pd.Series:
    pairs = zip(log["image"], log["cluster_id"].astype(int), strict=True)
    return pd.Series(list(pairs), index=log.index, dtype=object)


def _lookup(items: pd.Series, keys: pd.Series, values: pd.Series) -> tuple[str, ...]:
    known = dict(zip(keys, values.astype(str), strict=True))
    return tuple(known.get(item, "") for item in items)


def agreement(
    # Columns ``item`` (hashable), ``annotator``, ``label``; one row per annotator and item. Empty
    # labels are ignored.
    labels: pd.DataFrame,
    seed: int = 0,
) -> Agreement:  # figures are NaN if no two annotators have an item in common
    """Compare the labels of several annotators.

    Raises `ValueError` if an annotator has two labels for one item.
    """
    labels = labels[labels["label"].astype(str) != ""]
    if labels.duplicated(["item", "annotator"]).any():
        raise ValueError("an annotator has two labels for one item")
    annotators = tuple(dict.fromkeys(labels["annotator"].astype(str)))
    # Codes: -1 without a label.
    item, items = pd.factorize(pd.Series(labels["item"].to_numpy(), dtype=object))
    person = pd.Categorical(labels["annotator"].astype(str), annotators).codes
    code, names = pd.factorize(labels["label"].astype(str), sort=True)
    answers = np.full((len(items), len(annotators)), -1)
    answers[item, person] = code
    shared = (answers >= 0).sum(axis=1) >= 2
    answers, items = answers[shared], np.asarray(items, object)[shared]
    used = np.unique(answers[answers >= 0])
    names = np.asarray(names, object)[used]
    answers = np.where(answers < 0, -1, np.searchsorted(used, answers))

    rng = np.random.default_rng(seed)
    highest = answers.max(axis=1, initial=-1)
    lowest = np.where(answers < 0, len(names), answers).min(axis=1, initial=len(names))
    differ = highest != lowest
    pairs = [
        _pair(answers, a, b, annotators, rng) for a, b in combinations(range(len(annotators)), 2)
    ]
    return Agreement(
        annotators,
        tuple(str(n) for n in names),
        len(items),
        agreement_share(int((~differ).sum()), len(items)),
        krippendorff_alpha(answers, len(names), rng),
        pd.DataFrame(
            [_of_label(answers, k, str(name), rng) for k, name in enumerate(names)],
            columns=_LABEL_COLUMNS,
        ),
        pd.DataFrame([p for p in pairs if p["n"]], columns=_PAIR_COLUMNS),
        _disagreements(items[differ], answers[differ], annotators, names),
    )


def confusion(
    labels: pd.DataFrame,
    a: str,
    b: str,
    order: Sequence[str] = (),  # labels that come first, in this order; the others follow, sorted
) -> pd.DataFrame:
    """Count the labels of one annotator for each label of another."""
    of_a, of_b = (
        labels[labels["annotator"] == who].set_index("item")["label"].astype(str) for who in (a, b)
    )
    both = pd.concat([of_a.rename(a), of_b.rename(b)], axis=1, join="inner")
    seen = set(both[a]) | set(both[b])
    names = [n for n in order if n in seen]
    names += sorted(seen - set(names))
    table = pd.crosstab(both[a], both[b]) if len(both) else pd.DataFrame()
    out = table.reindex(index=names, columns=names, fill_value=0).astype(int)
    return out.rename_axis(index=a, columns=b)


_LABEL_COLUMNS = [
    "label", "n", "share", "alpha", "alpha_low", "alpha_high", "kappa", "kappa_low", "kappa_high",
]  # fmt: skip
_PAIR_COLUMNS = [
    "a", "b", "n", "share", "share_low", "share_high", "kappa", "kappa_low", "kappa_high",
]  # fmt: skip


def _pair(
    answers: np.ndarray, a: int, b: int, annotators: Sequence[str], rng: np.random.Generator
) -> dict[str, object]:
    both = answers[(answers[:, [a, b]] >= 0).all(axis=1)][:, [a, b]]
    share, kappa = (
        agreement_share(int((both[:, 0] == both[:, 1]).sum()), len(both)),
        cohen_kappa(both, rng),
    )
    return dict(
        zip(
            _PAIR_COLUMNS,
            (annotators[a], annotators[b], len(both), *_ends(share), *_ends(kappa)),
            strict=True,
        )
    )


def _of_label(
    answers: np.ndarray, code: int, name: str, rng: np.random.Generator
) -> dict[str, object]:
    """Compare one label against the rest."""
    one = np.where(answers < 0, -1, answers == code)
    one = one[:, (one >= 0).any(axis=0)]  # people who judged none of these are no third ones
    given, judged = (one == 1).sum(axis=1), (one >= 0).sum(axis=1)
    # For each answer with this label, the fraction of the other answers that agree.
    equal = (given * (given - 1) / (judged - 1)).sum() / given.sum()
    two = one.shape[1] == 2
    kappa = cohen_kappa(one, rng) if two else AgreementFigure()
    alpha = krippendorff_alpha(one, 2, rng)
    values = (name, int(given.sum()), float(equal), *_ends(alpha), *_ends(kappa))
    return dict(zip(_LABEL_COLUMNS, values, strict=True))


def _ends(figure: AgreementFigure) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high


def _disagreements(
    items: np.ndarray, answers: np.ndarray, annotators: Sequence[str], names: np.ndarray
) -> pd.DataFrame:
    text = np.append(names, "").astype(object)[answers]
    columns = {who: text[:, i] for i, who in enumerate(annotators)}
    return pd.DataFrame({"item": pd.Series(items, dtype=object), **columns})


def removed_clusters(corrections: pd.DataFrame) -> set[Key]:
    """Return the clusters that annotators removed, from the log of a project.

    Parameters
    ----------
    corrections : pandas.DataFrame
        Columns ``image, cluster_id, what`` and, if known, ``time`` and ``undo``; in order of time.
        An addition that was undone is no removal.
    """
    return _removed_last(drop_replaced(corrections))


def removal_reasons(corrections: pd.DataFrame) -> dict[Key, str]:
    """Return why clusters are gone, `NOT_A_CLUSTER` or `SPLIT_OR_MERGED`; see `removed_clusters`.

    A log without the column ``time`` does not tell which clusters replaced others.
    """
    reasons = dict.fromkeys(_removed_last(corrections), SPLIT_OR_MERGED)
    return reasons | dict.fromkeys(removed_clusters(corrections), NOT_A_CLUSTER)


def manual_changes(corrections: pd.DataFrame, present: set[Key]) -> dict[str, int]:
    """Count the clusters that people removed, added, split and merged, and did not take back.

    Parameters
    ----------
    corrections : pandas.DataFrame
        The log of a project, as for `removed_clusters`. Without the column ``time``, only removed
        clusters are known.
    present : set of Key
        Clusters that are in the table.

    Returns
    -------
    dict of str to int
        What was done → number of clusters, of those that it was done to.
    """
    counts = {"removed": len(removed_clusters(corrections) - present)}
    if "time" not in corrections.columns:
        return counts
    log = corrections[corrections["what"].isin(["remove", "restore", "add"])]
    keys, step = _keys(log), [log["image"], log["time"]]
    removed, added = ((log["what"] == w).groupby(step).transform("sum") for w in ("remove", "add"))
    reasons = removal_reasons(log).items()
    replaced = {key for key, why in reasons if why == SPLIT_OR_MERGED} - present
    gone = keys.isin(replaced) & ~keys.duplicated(keep="last")
    new = keys.isin(present) & ~keys.duplicated() & (log["what"] == "add") & (removed == 0)
    return {
        **counts,
        "added": int(new.sum()),
        "split": int((gone & (removed < added)).sum()),
        "merged": int((gone & (removed > added)).sum()),
    }


def _removed_last(log: pd.DataFrame) -> set[Key]:
    log = log[log["what"].isin(["remove", "restore", "add"])]
    last = log.drop_duplicates(["image", "cluster_id"], keep="last")
    removed = last[last["what"] == "remove"]
    if "undo" in removed.columns:
        removed = removed[~removed["undo"].astype(bool)]
    return {(str(i), int(c)) for i, c in zip(removed["image"], removed["cluster_id"], strict=True)}


_AGAIN = "\n"
"""Behind the name of an annotator for the second time; no name has a line break."""


def mark_self_agreement(
    marks: pd.DataFrame,
    looked: pd.DataFrame,
    # again_marks, again_looked: the same columns, of what was asked a second time
    again_marks: pd.DataFrame,
    again_looked: pd.DataFrame,
    tolerance_nm: float,  # maximum distance of marks of one atom
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return ``annotator, images, marks, marks_again, f1, f1_low, f1_high`` of each person."""
    if not len(again_looked):
        return []
    second = again_looked.assign(annotator=again_looked["annotator"] + _AGAIN)
    both = pd.concat([looked, second], ignore_index=True)
    rows = []
    for who in dict.fromkeys(again_looked["annotator"]):
        images = both_annotated(both, who, who + _AGAIN)
        if not images:
            continue
        first, other = (
            table[(table["annotator"] == who) & table["image"].isin(images)]
            for table in (marks, again_marks)
        )
        units = Units(images, pd.concat([first, other]), seed)
        counts = units.counts(first, other, images, tolerance_nm)
        n = {"images": len(images), "marks": len(first), "marks_again": len(other)}
        rows.append({"annotator": who, **n, **units.f1(counts)})
    return rows


def label_self_agreement(labels: pd.DataFrame, again: pd.DataFrame) -> list[dict[str, Any]]:
    """Return ``annotator, clusters, share, share_low, share_high`` of each person."""
    keys = ["image", "annotator", "cluster_id"]
    both = labels.merge(again, on=keys, suffixes=("", "_again"))
    rows = []
    for who, own in both.groupby("annotator", sort=False):
        share = agreement_share(int((own["label"] == own["label_again"]).sum()), len(own))
        rows.append(
            {
                "annotator": who,
                "clusters": len(own),
                "share": share.value,
                "share_low": share.low,
                "share_high": share.high,
            }
        )
    return rows
