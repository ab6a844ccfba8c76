"""Agreement of annotators: how often they say the same, and how much more often than by chance.

Three figures, each for all labels and for each label against the rest:

- the *share* of clusters of which all say the same, or of pairs of answers that are equal;
- Cohen's kappa [1]_ of each two annotators: (p - e) / (1 - e), with p the share of clusters of
  which they say the same and e what two people with their habits would reach by chance;
- Krippendorff's alpha [2]_ for nominal labels, of any number of annotators, who need not all have
  seen all clusters. Chance is that of the labels of all together.

Kappa and alpha are 1 where all agree, 0 where chance would do as well, and not defined where only
one label was ever given.

The 95 % intervals are the percentiles of a bootstrap over clusters, or Wilson's interval of the
share, chance being as it was found, where that reaches further. A bootstrap alone says of ten
clusters of which two people say the same that they always will.

References
----------
.. [1] J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
   Measurement 20, 37-46 (1960).
.. [2] K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011),
   https://repository.upenn.edu/asc_papers/43; A. F. Hayes and K. Krippendorff, Communication
   Methods and Measures 1, 77-89 (2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from ..core.cluster_table import Key
from .agreement_coefficients import (
    AgreementFigure,
    agreement_share,
    cohen_kappa,
    krippendorff_alpha,
)

NOT_A_CLUSTER = "not a cluster"
"""What a person says who takes a cluster out of the table."""
CONSENSUS = "consensus"
"""The annotator to whom resolved disagreements belong; no opinion of its own."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far annotators agree.

    Attributes
    ----------
    annotators : tuple of str
        Who gave labels, in order of appearance.
    labels : tuple of str
        All labels that were given to what two or more have judged.
    n_items : int
        How many clusters two or more annotators have judged.
    share : AgreementFigure
        Share of these of which all say the same.
    alpha : AgreementFigure
        Krippendorff's.
    by_label : pandas.DataFrame
        A row per label: ``label, n`` (answers), ``share`` (of the pairs of answers with
        this label in them that are equal), ``alpha, alpha_low, alpha_high, kappa,
        kappa_low, kappa_high``; kappa is NaN unless there are two annotators.
    pairs : pandas.DataFrame
        A row per two annotators: ``a, b, n`` (clusters that both judged), ``share,
        share_low, share_high, kappa, kappa_low, kappa_high``.
    disagreements : pandas.DataFrame
        A row per cluster of which not all say the same: ``item``, and a column per
        annotator with the label; "" where one has not judged.
    """

    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    n_items: int
    share: AgreementFigure
    alpha: AgreementFigure
    by_label: pd.DataFrame
    pairs: pd.DataFrame
    disagreements: pd.DataFrame

    @property
    def kappa(self) -> AgreementFigure:
        """Cohen's, where there are two annotators with clusters in common."""
        if len(self.pairs) != 1:
            return AgreementFigure()
        row = self.pairs.iloc[0]
        return AgreementFigure(*(float(row[c]) for c in ("kappa", "kappa_low", "kappa_high")))


def last_labels(corrections: pd.DataFrame) -> pd.DataFrame:
    """What each annotator says of each cluster now, from a log in which later lines count.

    Parameters
    ----------
    corrections : pandas.DataFrame
        Columns ``annotator, image, cluster_id, label, what``; ``what`` is "label",
        "remove", or "restore" or "add" for what is a cluster again. Anything else is passed
        over.

    Returns
    -------
    pandas.DataFrame
        Columns ``item, annotator, label`` with ``item`` the key (image, cluster_id). Who took a
        cluster out says `NOT_A_CLUSTER`; who took all back says nothing and has no row.
    """
    who = ["annotator", "image", "cluster_id"]
    corrections = drop_replaced(corrections)
    what = corrections["what"]
    said = corrections[what == "label"].drop_duplicates(who, keep="last").set_index(who)["label"]
    came_or_went = corrections[what.isin(["remove", "restore", "add"])]
    taken = came_or_went.drop_duplicates(who, keep="last").set_index(who)["what"]
    out = pd.Series(NOT_A_CLUSTER, taken.index[taken == "remove"], dtype=object)
    out = out.combine_first(said.astype(object))
    out = out[out != ""]
    # As they first appear in the log, not sorted: the order of annotators means something.
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
    """A log without the lines of clusters that left because others took their place.

    Splitting and merging take clusters out and add new ones in one go; nobody says by that that
    there is none. Where the log has no ``time``, nothing is known of this.
    """
    if "time" not in corrections.columns or not len(corrections):
        return corrections
    first = ~corrections.duplicated(["image", "cluster_id"])
    born = corrections[first & (corrections["what"] == "add")]
    at_once = pd.MultiIndex.from_frame(corrections[["image", "time"]]).isin(
        pd.MultiIndex.from_frame(born[["image", "time"]])
    )
    return corrections[~(at_once & (corrections["what"] == "remove").to_numpy())]


@dataclass(frozen=True, eq=False)
class Opinions:
    """What the log of a project says of its annotators.

    Attributes
    ----------
    labels : pandas.DataFrame
        As from `last_labels`, without what was settled.
    agreement : Agreement
        Of these.
    annotators : pandas.DataFrame
        A row per annotator: ``annotator, n`` (clusters), ``n_blind`` (of these, said
        without seeing what others and the machine say).
    machine : tuple of str
        A label per row of ``agreement.disagreements``: what the model said last.
    settled : tuple of str
        The same, what was settled on; "" where nothing was.
    """

    labels: pd.DataFrame
    agreement: Agreement
    annotators: pd.DataFrame
    machine: tuple[str, ...]
    settled: tuple[str, ...]


def opinions(corrections: pd.DataFrame) -> Opinions:
    """Who said what, how far they agree, and what of that is settled.

    Parameters
    ----------
    corrections : pandas.DataFrame
        The log of a project: the columns of `last_labels`, ``label_predicted`` and
        ``blind``.
    """
    is_settled = corrections["annotator"] == CONSENSUS
    labels = last_labels(corrections[~is_settled])
    found = agreement(labels)
    items = pd.Series(found.disagreements["item"].to_numpy(), dtype=object)
    predicted = corrections[corrections["label_predicted"].fillna("") != ""]
    machine = predicted.drop_duplicates(["image", "cluster_id"], keep="last")
    said = last_labels(corrections[is_settled])
    n = labels.groupby("annotator", sort=False).size()
    blind = corrections[corrections["blind"].astype(bool) & corrections["what"].isin(_OPINIONS)]
    who = ["annotator", "image", "cluster_id"]
    n_blind = blind.drop_duplicates(who).groupby("annotator").size().reindex(n.index).fillna(0)
    return Opinions(
        labels,
        found,
        pd.DataFrame({"annotator": n.index, "n": n.to_numpy(), "n_blind": n_blind.astype(int)}),
        _lookup(items, _keys(machine), machine["label_predicted"]),
        _lookup(items, said["item"], said["label"]),
    )


_OPINIONS = ("label", "remove")


def _keys(log: pd.DataFrame) -> pd.Series:
    pairs = zip(log["image"], log["cluster_id"].astype(int), strict=True)
    return pd.Series(list(pairs), index=log.index, dtype=object)


def _lookup(items: pd.Series, keys: pd.Series, values: pd.Series) -> tuple[str, ...]:
    known = dict(zip(keys, values.astype(str), strict=True))
    return tuple(known.get(item, "") for item in items)


def agreement(labels: pd.DataFrame, seed: int = 0) -> Agreement:
    """Compare what annotators say of the same clusters.

    Parameters
    ----------
    labels : pandas.DataFrame
        Columns ``item`` (anything hashable), ``annotator``, ``label``; one row per
        annotator and item. Labels "" are no answer.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Agreement
        Figures are NaN where nobody has anything in common.

    Raises
    ------
    ValueError
        If an annotator has two labels for one item.
    """
    labels = labels[labels["label"].astype(str) != ""]
    if labels.duplicated(["item", "annotator"]).any():
        raise ValueError("an annotator has two labels for one item")
    annotators = tuple(dict.fromkeys(labels["annotator"].astype(str)))
    # Codes: -1 where somebody has not judged.
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


def confusion(labels: pd.DataFrame, a: str, b: str, order: Sequence[str] = ()) -> pd.DataFrame:
    """What ``b`` says where ``a`` says something: counts, a row per label of ``a``.

    Parameters
    ----------
    labels : pandas.DataFrame
        As for `agreement`.
    a, b : str
        Names of two annotators.
    order : sequence of str
        Labels that come first, in this order; the others follow, sorted.
    """
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
    """This label against the rest."""
    one = np.where(answers < 0, -1, answers == code)
    given, judged = (one == 1).sum(axis=1), (one >= 0).sum(axis=1)
    # Of each answer with this label, the share of the others that have it too.
    equal = (given * (given - 1) / (judged - 1)).sum() / given.sum()
    two = one.shape[1] == 2
    kappa = cohen_kappa(one, rng) if two else AgreementFigure()
    values = (
        name,
        int(given.sum()),
        float(equal),
        *_ends(krippendorff_alpha(one, 2, rng)),
        *_ends(kappa),
    )
    return dict(zip(_LABEL_COLUMNS, values, strict=True))


def _ends(figure: AgreementFigure) -> tuple[float, float, float]:
    return figure.value, figure.low, figure.high


def _disagreements(
    items: np.ndarray, answers: np.ndarray, annotators: Sequence[str], names: np.ndarray
) -> pd.DataFrame:
    words = np.append(names, "").astype(object)[answers]
    columns = {who: words[:, i] for i, who in enumerate(annotators)}
    return pd.DataFrame({"item": pd.Series(items, dtype=object), **columns})


def removed_clusters(corrections: pd.DataFrame) -> set[Key]:
    """Clusters that people have said are none, from the log of a project.

    Parameters
    ----------
    corrections : pandas.DataFrame
        Columns ``image, cluster_id, what`` and, if known, ``time``; in order.
    """
    log = drop_replaced(corrections)
    log = log[log["what"].isin(["remove", "restore", "add"])]
    last = log.drop_duplicates(["image", "cluster_id"], keep="last")
    gone = last[last["what"] == "remove"]
    return {(str(i), int(c)) for i, c in zip(gone["image"], gone["cluster_id"], strict=True)}
